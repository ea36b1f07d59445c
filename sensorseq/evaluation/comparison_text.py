"""Format an evaluation as text: scores, baselines, drives and notes."""

import numpy as np

from sensorseq.base.layout import table, wrapped
from sensorseq.base.text import percent, plural
from sensorseq.evaluation.drives import DriveEvaluation
from sensorseq.evaluation.evaluate import Comparison
from sensorseq.evaluation.metrics import compare, confusion_text, recordings_text, scores_text
from sensorseq.evaluation.text import NAMES, format_p_value

P_VALUE = (
    "probability of a difference in accuracy at least this large if model and baseline were"
    " equally good (paired sign-flip test by group)."
)
DRIVE_HEADS = ("% of time", "F1 (%)", "delay (s)", "false switches/h")


def format_comparison(comparison: Comparison) -> str:
    """Return an evaluation as text: scores, baselines, confusion matrix, recordings and notes."""
    model = comparison.model
    blocks = [wrapped(comparison.protocol)]
    blocks.append(scores_text(model))
    if comparison.fold_accuracy:
        blocks.append(wrapped(describe_folds(comparison)))
    if comparison.baselines:
        blocks.append(_baselines(comparison))
    blocks.append(confusion_text(model))
    blocks.append(recordings_text(model))
    if comparison.drives is not None:
        words = wrapped(describe_drives(comparison.drives))
        blocks.append(f"{words}\n{table(['', *DRIVE_HEADS], drive_rows(comparison.drives))}")
    blocks += [wrapped(f"note: {note}") for note in comparison.notes]
    return "\n\n".join(blocks)


def describe_drives(drives: DriveEvaluation) -> str:
    """Describe how the scores of drives were computed."""
    return (
        f"Scores over time for {plural(drives.n_recordings, 'recording')} with several classes. The"
        f" vote is over {drives.n_votes} windows, and smoothing uses {drives.predicted.smooth}. F1"
        " counts a segment as correct if its intersection over union with a true segment is at"
        " least 0.5. The delay of a switch does not include the time that a method waits for later"
        " windows. The brackets contain 95 % intervals by group."
    )


def drive_rows(drives: DriveEvaluation) -> list[list[str]]:
    """Return a row for each decision method, with its name, scores and intervals."""
    rows = []
    for name, method in drives.scores.items():
        cells = [name]
        for score, value in method.scores.items():
            factor = 100 if score in ("accuracy", "f1") else 1
            low, high = (factor * edge for edge in method.intervals[score])
            between = f" [{low:.0f}, {high:.0f}]" if np.isfinite([low, high]).all() else ""
            cells.append(f"{factor * value:.1f}{between}" if np.isfinite(value) else "-")
        rows.append(cells)
    return rows


def describe_folds(comparison: Comparison) -> str:
    """Return the mean and spread of the fold accuracies, alongside the overall accuracy."""
    assert comparison.fold_mean is not None
    assert comparison.fold_sd is not None
    each = ", ".join(f"{100 * value:.1f}" for value in comparison.fold_accuracy)
    pooled = percent(comparison.model.scores["accuracy"])
    return (
        f"mean of the fold accuracies: {percent(comparison.fold_mean)}, sd"
        f" {100 * comparison.fold_sd:.1f} points ({each}); all windows together: {pooled}"
    )


def _baselines(comparison: Comparison) -> str:
    rows = []
    for name, baseline in comparison.baselines.items():
        difference = compare(comparison.model, baseline)["accuracy"]
        low, high = difference.interval
        interval = "" if np.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
        rows.append(
            [
                NAMES.get(name, name),
                percent(baseline.scores["accuracy"]),
                percent(baseline.scores["balanced_accuracy"]),
                f"{100 * difference.value:+.1f}{interval}",
                format_p_value(difference.p_value),
            ]
        )
    heads = ["baseline", "accuracy", "balanced", "model minus baseline (points)", "p"]
    return f"{table(heads, rows)}\n{wrapped(f'p: {P_VALUE}')}"
