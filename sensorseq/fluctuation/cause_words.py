"""Causes, trials and repairs in words: what the console and the page both say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Cause, Probes, hidden_cause
from sensorseq.fluctuation.run import plural

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

GRADES = {
    "observed": "the figures speak for it, nothing was tried",
    "supported": "its own signature is there, and that of its rivals is not",
    "proved": "its repair does better than the run beyond chance",
    "repaired": "a whole fit with its repair is calm, and as accurate",
    "rejected": "what was tried for it does worse than the run",
}
OUTCOMES = {
    "confirmed": "confirmed",
    "rejected": "rejected",
    "undecided": "undecided",
}
KINDS = {
    "snapshot": "re-runs from a state of this run",
    "init": "re-runs from first weights",
    "race": "trained with other settings",
    "replay": "replay of single steps",
    "inference": "no step of training",
}


def likely(confidence: float) -> str:
    """Return a probability in per cent; nothing where it is no number."""
    if not math.isfinite(confidence):
        return ""
    if 0 < confidence < 0.01:
        return "< 1 %"
    if 0.99 < confidence < 1:
        return "> 99 %"
    return f"{100 * confidence:.0f} %"


def literal(value: Any) -> str:
    """Return a value as it is typed in Python."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and value.isprintable() and not {'"', "\\"} & set(value):
        return f'"{value}"'
    name = getattr(value, "__name__", None)
    return name if callable(value) and isinstance(name, str) else repr(value)


def call(arguments: Mapping[str, Any], between: str = ", ") -> str:
    """Return the call that gives an estimator these arguments."""
    return f"clf.set_params({keywords(arguments, between)})"


def keywords(arguments: Mapping[str, Any], between: str = ", ") -> str:
    """Return arguments as they stand in a call."""
    return between.join(f"{name}={literal(value)}" for name, value in arguments.items())


def seconds(value: float) -> str:
    """Return a time in the unit that it is read in."""
    if not math.isfinite(value):
        return "an unknown time"
    if value >= 120:
        return f"{value / 60:.3g} min"
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def times(value: float) -> str:
    """Return a multiple of the fit's own time."""
    return f"{value:.2f}" if math.isfinite(value) else "?"


def cost_words(probes: Probes) -> str:
    """Return what the probes took of the fit's time, and what they were allowed."""
    took = f"{seconds(probes.probes_s)}, {times(probes.cost)} times the fit"
    return f"{took} ({times(probes.budget)} allowed), for {plural(len(probes.trials), 'trial')}"


def not_rejected(report: "FluctuationReport") -> list[Cause]:
    """Return the causes that were not excluded, in their order."""
    return [cause for cause in report.causes if cause.grade != "rejected"]


@dataclass(frozen=True)
class Fix:
    """What to change.

    Parameters
    ----------
    arguments : dict
        For `set_params`; empty where no argument does it.
    previous : dict
        The values that they replace, as far as they are known.
    is_proved : bool
        Whether controlled re-runs stand behind it.
    status : str
        How sure it is, in words.
    note : str
        What else there is to say of it.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] = field(default_factory=dict)
    is_proved: bool = False
    status: str = ""
    note: str = ""


def find_fix(report: "FluctuationReport") -> Fix | None:
    """Return the proved repair, else what the first cause recommends; None where there is none."""
    probes = report.probes
    if probes is not None and probes.repair:
        return Fix(probes.repair, probes.previous, True, _proof(report), probes.note)
    note = probes.note if probes is not None else ""
    hidden = hidden_cause(report.verdict, report.causes)
    first = hidden or next(iter(not_rejected(report)), None)
    is_calm = report.verdict == "normal" and hidden is None
    if first is not None and first.grade in ("proved", "repaired") and not first.recommendation:
        words = " ".join(part for part in (first.advice, note) if part)
        if report.of_module and note.startswith("Take "):
            words = note  # the advice of a cause would take the same once more
        if not is_calm and words:
            return Fix(is_proved=True, status=_proof(report), note=words)
    if is_calm or first is None or not (first.recommendation or first.advice):
        return Fix(status="nothing is proved to repair it", note=note) if note else None
    if first.name == "unknown":
        return Fix(status="the cause is not identified", note=note or first.advice)
    if not first.recommendation and first.grade in ("proved", "repaired"):
        return Fix(status=_proof(report), note=note or first.advice)
    if not first.recommendation:
        status = "not proved" if report.of_module else "no argument of the classifier repairs it"
        return Fix(status=status, note=first.advice)
    return Fix(first.recommendation, {}, False, "not proved", note or first.advice)


def can_probe(report: "FluctuationReport") -> bool:
    """Whether `report.probe` can try what was not tried: the fit is at hand."""
    return report.origin is not None and report.probes is None


def _proof(report: "FluctuationReport") -> str:
    if any(cause.grade == "repaired" for cause in report.causes):
        return f"repaired: {GRADES['repaired']}"
    trials = () if report.probes is None else report.probes.trials
    adopted = [trial for trial in trials if trial.outcome == "confirmed"]
    if any(trial.kind == "race" for trial in adopted):
        return "does better than the run beyond chance"
    return "proved by re-runs"
