"""What the curves of a run did: how far they fell, how they moved, where they parted."""

import math

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.causes.measuring import (
    NAN,
    column,
    finite,
    late_epochs,
    mean,
    middle,
    ratio,
    statistic,
)
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run

_FIRST_EPOCHS = 0.1  # of a run, in which a difference of the parts cannot be overfitting yet
_SMOOTHED = 5  # epochs of the running median by which the lowest validation loss is found


def training_loss(run: Run) -> str:
    """Return the column of the training side: of the fixed windows, or the running mean."""
    return "fixed_loss" if np.isfinite(column(run, "fixed_loss")).sum() > 2 else "loss"


def measure_curves(run: Run) -> dict[str, float]:
    """Return the features of the history and of the fixed training windows."""
    running, validation = column(run, "loss"), column(run, "val_loss")
    fixed, train = column(run, "fixed_loss"), column(run, training_loss(run))
    late = late_epochs(run)
    scale = 0.1 * run.log_classes
    n_first = max(math.ceil(_FIRST_EPOCHS * run.n_epochs), 2)
    level, running_level = middle(train[late]), middle(running[late])
    accuracy, val_accuracy = _accuracy(run), middle(column(run, "val_accuracy")[late])
    return {
        **_movement(run, train),
        **_descent(run, train, scale),
        **_rise(validation),
        "loss_level": ratio(level, run.log_classes),
        "loss_gap": middle(validation[late]) - level,
        # the epoch itself is part of the running mean: that of the next one is the fair partner
        "loss_gap_first": middle(validation[1:n_first] - train[1:n_first]),
        "train_accuracy": accuracy,
        "accuracy_gap": accuracy - val_accuracy,
        "val_accuracy_over_chance": val_accuracy - (NAN if run.chance is None else run.chance),
        "train_mode_gap": (running_level - middle(fixed[late])) / (middle(fixed[late]) + scale),
        "diverged": float(not np.isfinite(run.whole("loss")).all()),
        "excess_plateau_loss": statistic(run, "excess_plateau_loss"),
        "val_noise_over_sampling": statistic(run, "val_accuracy_noise_over_sampling"),
        "val_accuracy_noise": statistic(run, "val_accuracy_noise"),
        "val_loss_noise": statistic(run, "val_loss_noise"),
        "best_epoch_gain": statistic(run, "best_epoch_gain"),
        "best_epoch_gain_z": _gain_z(run),
    }


def _accuracy(run: Run) -> float:
    """Return the late training accuracy: of the fixed windows, or the running one."""
    record, late = run.record, late_epochs(run)
    if record is not None and len(record.fixed_accuracy) == run.n_epochs:
        return middle(record.fixed_accuracy[late])
    return middle(column(run, "accuracy")[late])


def _movement(run: Run, train: Floats) -> dict[str, float]:
    """Return how the training loss moves from epoch to epoch, and in which pattern."""
    held = finite(train)
    half = len(held) // 2
    found = dict.fromkeys(
        ("loss_noise", "loss_noise_relative", "noise_late_over_early", "loss_spike_share"), NAN
    )
    if len(held) >= 12:
        late, early = held[half:], held[min(run.first, half - 3) : half]
        found["loss_noise"] = metrics.mean_noise(late)
        level = float(np.median(late)) + 0.1 * run.log_classes
        found["loss_noise_relative"] = found["loss_noise"] / level
        if len(early) >= 4:
            least = 1e-4  # nats: what is calmer than this is as calm as can be
            found["noise_late_over_early"] = (found["loss_noise"] + least) / (
                metrics.mean_noise(early) + least
            )
        spikes = metrics.spike_epochs(held, least_rise=0.05)
        found["loss_spike_share"] = len(spikes) / len(held)
    prefix = "fixed_loss" if "fixed_loss_autocorrelation" in run.statistics else "train_loss"
    return {
        **found,
        "loss_autocorrelation": statistic(run, f"{prefix}_autocorrelation"),
        "loss_turning_points": statistic(run, f"{prefix}_turning_points"),
        "common_leaps": statistic(run, "common_leaps"),
    }


def _descent(run: Run, train: Floats, scale: float) -> dict[str, float]:
    """Return how fast the training loss fell, and whether it still does."""
    held = finite(train)
    found = dict.fromkeys(("loss_fall", "still_falling", "late_start"), NAN)
    if len(held) < 6:
        return found
    start = max(float(held[0]), 1e-12)
    fall = start - float(held.min())
    found["loss_fall"] = fall / start
    last = held[-max(len(held) // 3, 4) :]
    found["still_falling"] = -10 * metrics.theil_sen_slope(last) / (float(np.median(last)) + scale)
    if fall > 0.02 * start:
        begun = np.flatnonzero(held < start - 0.1 * fall)
        found["late_start"] = float(begun[0]) / len(held)
    return found


def _rise(validation: Floats) -> dict[str, float]:
    """Return how far the validation loss rose above its lowest, and when that was."""
    held = finite(validation)
    found = dict.fromkeys(("val_loss_rise", "val_loss_lowest_at"), NAN)
    if len(held) < 2 * _SMOOTHED:
        return found
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(held, _SMOOTHED), axis=1)
    lowest = int(smooth.argmin())
    found["val_loss_rise"] = mean(smooth[-_SMOOTHED:]) - float(smooth[lowest])
    found["val_loss_lowest_at"] = (lowest + _SMOOTHED // 2 + 1) / len(held)
    return found


def _gain_z(run: Run) -> float:
    """Return the cross-fitted gain of the best epoch, in standard errors."""
    found = run.statistics.get("best_epoch_gain")
    if found is None or not found.floor:
        return NAN
    return float(2 * found.value / found.floor)
