"""Repair: probe a fit that fluctuates, fit again with what was proved, keep what is better."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, warn_caller
from sensorseq.fluctuation.causes.cause import TROUBLED, Cause
from sensorseq.fluctuation.race.probe import probe_fit
from sensorseq.fluctuation.report.report import FluctuationReport

# What predicting, saving and going on read from the arguments: a fit cannot change these.
NOT_ADOPTED = frozenset(
    (
        "hidden_size",
        "num_layers",
        "bidirectional",
        "pooling",
        "head_norm",
        "max_timesteps",
        "crop",
        "dtype",
        "loss",
        "features",
    )
)
LEAST_CALMING = 1.5  # times less noise than before
MOST_LOST = 0.02  # of validation accuracy, or its standard error where that is more
LATE_SHARE = 3  # the last third of the epochs is compared
_NOISES = {  # statistics, with what they are of and their unit
    "fixed_loss_noise": ("the training loss", " nats"),
    "train_loss_noise": ("the training loss", " nats"),
    "val_accuracy_noise": ("the validation accuracy", ""),
}


@dataclass(frozen=True, eq=False)
class Repair:
    """What repairing a fit came to.

    The report has the probes, and causes graded ``"repaired"`` where the second fit showed it. When
    the first fit is kept, `changes` is empty and `fitted` None.
    """

    report: FluctuationReport
    changes: Mapping[str, Any] = field(default_factory=dict)
    fitted: Any = None


def repair_fit(
    report: FluctuationReport,
    X: Any,
    y: Any,
    given: Mapping[str, Any],
    refit: Callable[[Any], Any],
    *,
    verbose: int = 0,
) -> Repair:
    """Probe a fit and fit again with the settings that were adopted.

    The second fit is kept when its verdict is better or its noise is lower by a factor of 1.5, and
    its validation accuracy is not lower by more than 2 points or one standard error.
    """
    if report.verdict not in TROUBLED:
        return Repair(report)
    try:
        may_change = frozenset(report.origin.estimator.get_params(deep=False)) - NOT_ADOPTED
        proof = probe_fit(
            report, X, y, given, verbose=verbose, is_clocked=False, allowed=may_change
        )
    except ArgumentError as error:  # a fit that cannot be run again is a fit all the same
        warn_caller(f"auto_repair=True could not look for a cause: {error}")
        return Repair(report)
    assert proof.probes is not None
    changes = dict(proof.probes.repair)
    if not changes:
        return Repair(proof)
    fitted = refit(proof.origin.repaired(changes))
    better, sentence = is_better(report, fitted.fluctuation_)
    probes = replace(proof.probes, note=f"{proof.probes.note} {sentence}")
    if not better:
        return Repair(replace(proof, probes=probes))
    after = fitted.fluctuation_
    causes = tuple(
        _repaired(cause, sentence)
        for cause in proof.causes
        if not (cause.name == "unknown" and after.verdict == "normal")
    )
    merged = replace(after, causes=causes, probes=replace(probes, is_applied=True))
    return Repair(merged, changes, fitted)


def is_better(before: FluctuationReport, after: FluctuationReport) -> tuple[bool, str]:
    """Say whether a second fit is calmer and as accurate, and in words by how much."""
    name = _shared_noise(before, after)
    noise, (moves, unit) = [_noise(report, name) for report in (before, after)], _NOISES[name]
    accuracy = [_late_accuracy(report) for report in (before, after)]
    is_calmer = after.verdict == "normal" or (
        after.verdict == before.verdict and noise[0] > LEAST_CALMING * noise[1]
    )
    n_val = after.n_val or 0
    p = min(max(accuracy[1], 0.0), 1.0) if math.isfinite(accuracy[1]) else 0.5
    error = math.sqrt(p * (1 - p) / n_val) if n_val else 0.0
    lost = accuracy[0] - accuracy[1]
    is_as_good = not lost > max(MOST_LOST, error)
    sentence = (
        f"Fitted again with it: {after.verdict.replace('_', ' ')}, {moves} moves by"
        f" {noise[1]:.3f}{unit} per epoch (before {noise[0]:.3f})"
    )
    if all(math.isfinite(value) for value in accuracy):
        after_points, before_points = (f"{100 * value:.1f}" for value in accuracy[::-1])
        sentence += f", validation accuracy {after_points} % (before {before_points} %)"
    kept = "." if is_calmer and is_as_good else ": not better, the first fit is kept."
    return is_calmer and is_as_good, sentence + kept


def _shared_noise(before: FluctuationReport, after: FluctuationReport) -> str:
    """Return the noise that both were measured by: where a loss is not in nats, the accuracy's."""
    measured = [report for report in (before, after) if report.verdict != "diverged"]
    return next(
        (name for name in _NOISES if all(name in report.statistics for report in measured)),
        next(iter(_NOISES)),
    )


def _noise(report: FluctuationReport, name: str) -> float:
    if name in report.statistics:
        return report.statistics[name].value
    return math.inf if report.verdict == "diverged" else math.nan


def _late_accuracy(report: FluctuationReport) -> float:
    values = [v for v in report.history.get("val_accuracy", ()) if v is not None]
    late = values[-max(1, len(values) // LATE_SHARE) :]
    return float(np.mean(late)) if late else math.nan


def _repaired(cause: Cause, sentence: str) -> Cause:
    if cause.grade != "proved":
        return cause
    return replace(cause, grade="repaired", evidence=f"{cause.evidence} {sentence}")
