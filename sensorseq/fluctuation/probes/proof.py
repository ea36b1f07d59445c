"""Proof: a change that passed, what it proves and what repairs the run; the words for a trial."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Trial
from sensorseq.fluctuation.probes.arm import ArmResult
from sensorseq.fluctuation.probes.judging import Tried
from sensorseq.fluctuation.probes.purse import Findings
from sensorseq.fluctuation.run import plural


@dataclass(frozen=True)
class Proof:
    """What a trial proved.

    Parameters
    ----------
    cause, finding : str
        As in `Cause`.
    repair : dict
        Arguments that were tried and passed; where it is the noise of steps that did, an average of
        the weights may stand for them.
    sentence : str
        The evidence.
    trials : tuple of str
        Names of the trials that it rests on.
    alternatives : tuple of dict
        Arguments that repair it as well, in this order.
    rate_factor : float
        On the learning rate, for a network whose own rate is not known; 1 where `repair` says all.
    names_cause : bool
        Whether it proves the cause, too. An average of the weights calms healthy runs as well:
        where their noise costs no loss, it repairs, and proves no cause.
    """

    cause: str
    finding: str
    repair: Mapping[str, Any]
    sentence: str
    trials: tuple[str, ...]
    alternatives: tuple[Mapping[str, Any], ...] = ()
    rate_factor: float = 1.0
    names_cause: bool = True


@dataclass
class RaceFindings(Findings):
    """What a race brings back.

    Parameters
    ----------
    proofs : list of Proof
        What is proved, the best first.
    """

    proofs: list[Proof] = field(default_factory=list)

    def join(self, other: Findings) -> None:
        """Take in what another probe brought back."""
        super().join(other)
        if isinstance(other, RaceFindings):
            self.proofs += other.proofs


def make_trial(one: Tried, cost_epochs: float) -> Trial:
    """Return what came of a candidate."""
    candidate = one.candidate
    return Trial(
        cause=candidate.cause,
        name=candidate.name,
        change=dict(candidate.change),
        kind=candidate.kind,
        outcome=one.outcome,
        sentence=describe(one),
        n_pairs=len(one.results),
        noise_ratio=_known(one.noise_ratio),
        raw_change=_known(one.raw_change),
        averaged_change=_known(one.averaged_change),
        curves={
            "A": _curves(one.unchanged[:1]),
            "A'": _curves(one.unchanged[1:]),
            "B": _curves(one.results),
        },
        evidence_ratio=tuple(one.evidence),
        bounds=one.bounds,
        cost_epochs=cost_epochs,
    )


def describe(one: Tried) -> str:
    """Return what came of a candidate, in a sentence with its figures."""
    name, n_pairs = one.candidate.name, len(one.results)
    if one.reading == "calm":
        unit = " of the accuracy" if one.candidate.judged_by == "accuracy" else " nats"
        return (
            f"With {name}: not judged, as the unchanged re-runs are calm"
            f" (+-{one.unchanged_nats:.3f}{unit} per epoch)."
        )
    if one.reading == "failed":
        return f"With {name}: the re-runs diverged ({plural(n_pairs, 'pair')})."
    what = "error rate" if one.candidate.judged_by == "accuracy" else "loss"
    what = "validation loss" if one.candidate.judged_by == "validation" else what
    figures = [f"{what} {_worse_or_better(one.raw_change)}"]
    if one.candidate.judged_by != "level":  # a run that learned nothing has no noise to speak of
        calmer = f"{one.n_calmer} of {plural(n_pairs, 'pair')}{_passed(one)}"
        figures.insert(0, f"noise x{one.noise_ratio:.2f} ({calmer})")
    if np.isfinite(one.averaged_change):
        figures.append(f"that of averaged weights {_worse_or_better(one.averaged_change)}")
    return f"With {name}: {', '.join(figures)}{_ending(one)}"


def _passed(one: Tried) -> str:
    if one.reading in ("both", "price"):
        return ", stop rule passed"
    return ""


def _worse_or_better(change: float) -> str:
    if abs(change) < 0.005:
        return "the same"
    return f"{'better' if change < 0 else 'worse'} by {abs(change):.2f}"


def _ending(one: Tried) -> str:
    """Return what the figures mean, where they do not say it themselves."""
    if one.reading == "slower" and one.candidate.judged_by == "weights":
        return ": it lags behind the weights."
    return {
        "price": ": the noise is the price of progress, which a lasting change would give up.",
        "slower": ": merely slower.",
        "noise": "." if one.outcome == "undecided" else ": the noise is not halved.",
        "lower": ", stop rule passed on the loss.",
        "by heart": ": the validation windows gain nothing by it.",
        "less accurate": ": it costs validation accuracy.",
        "no gain": ": the loss gains nothing by it.",
        "settled": ": given up, as another change was proved and little spoke for this one.",
        "budget": ": not decided within the budget.",
    }.get(one.reading, ".")


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _curves(results: list[ArmResult]) -> list[list[float]]:
    return [[float(value) for value in result.fixed_loss] for result in results]


def rejected_for(trial: Trial, why: str) -> Trial:
    """Return a trial that passed, but for which another one accounts."""
    return replace(trial, outcome="rejected", sentence=f"{trial.sentence} {why}")
