"""Causes, trials and repairs in words: what the console and the page both say."""

import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Cause, Probes, hidden_cause
from sensorseq.fluctuation.run import plural

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

Command = Callable[[Mapping[str, Any]], str]  # changed arguments to a command line

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


GENERALIZATION = {  # what `report.generalization` may be: in a headline, and what to do
    "overfitting": (
        "overfits",
        "Keep the weights of the best epoch, and record more groups: more data is the surest"
        " remedy for overfitting. Dropout and weight decay help less.",
    ),
    "not_generalizing": (
        "does not generalize",
        "Check that the split and the labels are right, then record more groups: what is learned"
        " from the training windows does not hold for the validation windows.",
    ),
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


def settings_as_options(arguments: Mapping[str, Any]) -> str:
    """Return arguments as options of ``sensorseq train``, quoted for a shell."""
    return "".join(
        f" --set {shlex.quote(f'{name}={_toml(value)}')}" for name, value in arguments.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if re.fullmatch(r"[\w./+-]+", str(value)) else literal(value)


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


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Parameters
    ----------
    name : str
        Identifies its code on a page.
    text : str
        What to do.
    mark : str
        How sure it is: a grade, ``"not proved"`` or nothing.
    arguments, previous : dict of str to str
        Arguments to change and their new and old values, as typed in Python.
    code : str
        Python that does it.
    command : str
        The same for a shell.
    instead : tuple of str
        Other calls that would do.
    """

    name: str
    text: str
    mark: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    previous: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    command: str = ""
    instead: tuple[str, ...] = ()


def list_steps(report: "FluctuationReport", command: Command | None = None) -> list[Step]:
    """Return what to do, in order; nothing where there is nothing to do.

    Parameters
    ----------
    report : FluctuationReport
        The report.
    command : callable, optional
        Returns the command line that repeats the fit with changed arguments, where a command made
        it; steps then have a command, too.
    """
    fix, steps = find_fix(report), []
    if fix is not None:
        steps.append(_fix_step(report, fix, command))
    generalization = getattr(report, "generalization", None)
    if generalization in GENERALIZATION:
        headline, advice = GENERALIZATION[generalization]
        steps.append(Step("generalize", f"It {headline}. {advice}"))
    if not steps:
        return []
    if report.probes is not None and report.probes.suspects:
        n = plural(len(report.probes.suspects), "window")
        steps.append(Step("labels", f"Check the labels of {n}, drawn below."))
    if can_probe(report):
        words = "Train with other settings, side by side, to find what repairs it:"
        code = "proof = report.probe(X, y, groups=groups, budget=1.0)\nprint(proof)"
        again = "" if command is None else command({"auto_repair": True})
        steps.append(Step("probe", words, code=code, command=again))
    elif report.probes is None:
        words = (
            "To find what repairs it, fit with SensorLSTMClassifier and call report.probe, or give"
            " your own network to probe_module."
        )
        steps.append(Step("probe", words))
    return steps


def _fix_step(report: "FluctuationReport", fix: Fix, command: Command | None) -> Step:
    mark, _, words = fix.status.partition(": ")
    if not fix.arguments:
        is_grade = mark in (*GRADES, "not proved")
        said = words if is_grade else fix.status
        text = " ".join(part for part in (said and f"{said}.", fix.note) if part)
        return Step("change", text[:1].upper() + text[1:], mark if is_grade else "")
    text = " ".join(part for part in (words and f"{words}.", fix.note) if part)
    code = f"clf.set_params(\n    {keywords(fix.arguments, ',' + chr(10) + '    ')},\n)"
    if fix.is_proved:
        code += "\n# or, from the report that tried it:\nbetter = report.apply()"
    return Step(
        "repair",
        text[:1].upper() + text[1:] or "The likeliest cause asks for this:",
        mark,
        {name: literal(value) for name, value in fix.arguments.items()},
        {name: literal(value) for name, value in fix.previous.items()},
        code,
        "" if command is None else command(fix.arguments),
        tuple(
            call(change)
            for cause in not_rejected(report)
            if cause.recommendation and set(cause.recommendation) <= set(fix.arguments)
            for change in cause.alternatives
            if change
        ),
    )
