"""Answers to what people ask: will more epochs help, what is the kept epoch worth, what is open."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.run import Run, plural, points
from sensorseq.fluctuation.thresholds import (
    MIN_EPOCHS,
    MIN_GROUPS,
    ONE_SIDED_95,
    OVERFITTING_RISE_NATS,
    STILL_FALLS,
    TREND_RATIO,
    TREND_Z,
)
from sensorseq.fluctuation.training_side import Movement


def noise_trend(run: Run, movement: Movement, verdict: str) -> list[str]:
    """Answer whether the movement goes away by itself, from the noise of early and late epochs."""
    name = movement.name if movement.known else "val_loss"
    series = run.settled(name)
    if len(series) < MIN_EPOCHS:
        return []
    ratio, z = metrics.noise_change(series)
    run.add("noise_late_over_early", ratio, "ratio", 1.0, "constant noise")
    run.add("noise_trend", z, "z", TREND_Z, "constant noise stays below")
    if z < -TREND_Z and ratio < 1 / TREND_RATIO:
        hope = ": more epochs may calm it" if verdict == "fluctuating" else ""
        return [f"The noise is falling over the epochs{hope}."]
    if z > TREND_Z and ratio > TREND_RATIO:
        return ["The noise is rising over the epochs: more of them would make it worse."]
    if verdict != "fluctuating":
        return []
    return ["The noise is constant over the epochs: more epochs alone will not calm it."]


def generalisation(run: Run) -> list[str]:
    """Say it when validation gets worse while training gets better.

    Counted from the lowest validation loss, wherever it lies: a run can overfit from its first
    epoch on, long before early stopping ends it. The lowest of many noisy values is low by luck
    too; that share does not count.
    """
    val_loss = run.whole("val_loss")
    if len(val_loss) < MIN_EPOCHS or len(run.whole("loss")) != len(val_loss):
        return []
    lowest = int(val_loss.argmin())
    end = float(np.median(val_loss[-max(len(val_loss) // 6, 3) :]))
    noise = metrics.high_frequency_noise(val_loss)
    rise = end - val_loss[lowest]
    # its mean, and what the lowest value and the median at the end scatter about theirs
    luck = metrics.selection_bias(noise, len(val_loss)) + 1.5 * noise
    run.add("val_loss_rise_after_lowest", rise, "nats", luck, "luck of picking the lowest")
    loss = run.whole("loss")
    if rise <= OVERFITTING_RISE_NATS + luck or loss[-1] >= loss[lowest]:
        return []
    epoch = int(np.flatnonzero(run.columns["val_loss"].recorded)[lowest]) + 1
    return [
        f"Validation loss was lowest in epoch {epoch} ({val_loss[lowest]:.2f} nats) and ended at"
        f" {end:.2f}, while training loss fell from {loss[lowest]:.2f} to {loss[-1]:.2f}: from"
        " there on the model overfits, it learns what does not carry over."
    ]


def descent(run: Run, movement: Movement) -> list[str]:
    """Answer whether more epochs lower the loss: it still falls, or has been flat for long."""
    if not movement.known:
        return []
    loss = run.settled(movement.name)
    start = metrics.plateau_start(loss)
    epochs = run.settled_epochs(movement.name)
    run.add("plateau_from", int(epochs[start]) + 1, "epochs")
    if len(loss) - start >= max(len(loss) // 3, 8):
        since = int(epochs[start]) + 1
        return [
            f"The training loss has been flat since epoch {since} of {run.n_epochs}: more epochs of"
            " the same kind will not lower it."
        ]
    last = loss[-max(len(loss) // 3, 8) :]
    slope = metrics.theil_sen_slope(last)
    low, high = metrics.slope_interval(last)
    run.add("loss_slope_at_the_end", slope, "nats", interval=(low, high))
    level = float(np.median(last)) + 0.1 * run.log_classes
    if high < 0 and -10 * slope > STILL_FALLS * level:
        return [
            f"The training loss still falls, by {-10 * slope:.3f} nats in ten epochs: more epochs"
            " may help."
        ]
    if high < 0:
        return [
            "The training loss hardly falls any more: more epochs of the same kind gain little."
        ]
    return []


def kept(run: Run) -> list[str]:
    """Answer which epoch's weights were kept, and what they are worth without luck."""
    if run.best_epoch is None:
        return ["Which epoch's weights were kept is not recorded here."]
    index = run.best_epoch - 1
    figures = []
    if np.isfinite(run.columns["val_loss"].values[index]):
        figures.append(f"validation loss {run.columns['val_loss'].values[index]:.3f} nats")
    if np.isfinite(run.columns["val_accuracy"].values[index]):
        figures.append(f"accuracy {points(run.columns['val_accuracy'].values[index])} %")
    shown = f" ({', '.join(figures)})" if figures else ""
    which = f"The weights kept are those of epoch {run.best_epoch} of {run.n_epochs}{shown}"
    return [f"{which}{_worth(run, index)}."]


def _worth(run: Run, index: int) -> str:
    """Return the accuracy of an epoch that is picked on other windows than it is scored on."""
    record = run.followed
    if record is None:
        return ""
    correct, groups = record.val_correct, record.val_groups
    n_units = correct.shape[1] if groups is None else len(np.unique(groups))
    if n_units < MIN_GROUPS:
        return ""
    val_loss = run.columns["val_loss"].values
    score = None
    if np.isfinite(val_loss).any() and val_loss[index] <= np.nanmin(val_loss):
        # Picked by the validation loss: of two classes exactly, of more nearly this of the margin.
        margin = np.clip(np.nan_to_num(record.val_margin.astype(np.float64)), -1e4, 1e4)
        score = -np.logaddexp(0.0, -margin)
    fit = metrics.cross_fit(correct, groups, score=score)
    error = fit.accuracy_error
    run.add(
        "best_epoch_accuracy",
        fit.accuracy,
        "fraction",
        interval=(fit.accuracy - ONE_SIDED_95 * error, fit.accuracy + ONE_SIDED_95 * error),
    )
    run.add(
        "best_epoch_gain",
        fit.gain,
        "fraction",
        2 * fit.gain_error,
        "twice its standard error, over the last epoch",
        interval=(
            fit.gain - ONE_SIDED_95 * fit.gain_error,
            fit.gain + ONE_SIDED_95 * fit.gain_error,
        ),
    )
    worth = (
        f"; scored on windows that had no part in picking, it gets {points(fit.accuracy)} %"
        f" (standard error {points(error)})"
    )
    if fit.gain > max(2 * fit.gain_error, 0.0):
        worth += f", {points(fit.gain)} points more than the last epoch"
    return worth


def cannot_tell(run: Run) -> list[str]:
    """Say what the figures at hand leave open, and what would settle it."""
    said = []
    if run.has_foreign_record:
        said.append(
            "What the run noted beside its history is of another number of epochs and was not"
            " looked at."
        )
    if not len(run.whole("val_loss")) and not len(run.whole("val_accuracy")):
        said.append(
            "Without validation figures it cannot be told how the model does on new recordings."
        )
    elif run.n_val is None and len(run.whole("val_accuracy")):
        said.append(
            "How much of the validation curve is sampling noise cannot be told without its size:"
            " give n_val."
        )
    few = [name for name in ("val_loss", "val_accuracy") if 0 < len(run.settled(name)) < MIN_EPOCHS]
    if run.first and few:
        said.append(
            f"{plural(len(run.settled(few[0])), 'validation result')} after the initial descent"
            f" are too few to judge; {MIN_EPOCHS} are needed."
        )
    if not len(run.whole("loss")):
        said.append("Whether the model itself moves cannot be told without a training loss.")
    accuracy = len(run.whole("accuracy")) or len(run.whole("val_accuracy"))
    if accuracy and run.chance is None:
        said.append(
            "Whether it beats guessing cannot be told: give majority_fraction or n_classes."
        )
    if run.record is None and len(run.whole("val_accuracy")):
        said.append(
            "From a history alone it cannot be told whether few recordings, a few windows or the"
            " model itself move the validation curve."
        )
    return said
