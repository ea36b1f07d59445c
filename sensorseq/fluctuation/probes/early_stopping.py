"""stopping_probe: did the run go on for too long? No training: what it noted decides."""

from typing import Any, NamedTuple

import numpy as np

from sensorseq.fluctuation import metrics, per_window
from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.probes.purse import Findings
from sensorseq.fluctuation.run import plural, points
from sensorseq.fluctuation.thresholds import MIN_GROUPS, OVERFITTING_RISE_NATS
from sensorseq.history import History
from sensorseq.training_record import TrainingRecord

CAUSE = "early_stopping"
LEAST_EPOCHS = 6  # in the last third: below, the rank interval of a slope is nearly everything
LEAST_RISE_NATS = 0.02  # over the last third: less is nothing to act on
LEAST_GAIN = 0.01  # of accuracy
MATTERS = 0.05  # of accuracy: a gain that is surely smaller is none to speak of
SLOPE_Z = 2.33  # one-sided 1 %
STANDARD_ERRORS = 2.0
LEAST_PATIENCE, CORRELATION_TIMES = 10, 3
KEPT_WITHIN = 0.05  # nats above the lowest validation loss that a kept epoch may have


class _Witness(NamedTuple):
    """Whether something says that the run went on for too long, or excludes it, and how."""

    holds: bool
    excludes: bool
    sentence: str


def stopping_probe(
    record: TrainingRecord | None, history: History, *, best_epoch: int | None = None
) -> Findings:
    """Ask whether stopping early, or keeping the best epoch, would have paid.

    Two witnesses. (a) The validation loss rises over the last third of the run, by the interval of
    its Theil-Sen slope, while the training loss falls. (b) The epoch that half of the validation
    windows (whole groups) choose is right more often on the other half than the last epoch, by more
    than two standard errors, and so is the best stretch of a sixth of the run against the last
    one, beyond what picking it brings: a model that jumps about has better and worse epochs without
    training for too long.

    Parameters
    ----------
    record : TrainingRecord or None
        Of the run; without it (b) is left out.
    history : History
        Its rows.
    best_epoch : int, optional
        The epoch whose weights were kept, from 1. Where they are good already, stopping early
        repairs nothing and is rejected.

    Returns
    -------
    Findings
        One trial, or what is missing. Confirmed where one of the two holds; rejected where the loss
        does not rise over the last third, or surely by less than 0.1 nats, or the training loss
        surely rises too, and the gain is surely below 5 points beyond luck; else undecided.
    """
    val_loss, loss = _column(history, "val_loss"), _training_loss(record, history)
    followed = _followed(record, len(history))
    if not np.isfinite(val_loss).any() and followed is None:
        why = "there are no validation figures"
        return Findings(not_tested=[NotTested(CAUSE, why, "a fit with a validation part")])
    rise = _rise(val_loss, loss)
    gain = None if followed is None else _gain(followed)
    if rise is None and gain is None:
        why = (
            f"{plural(len(history), 'epoch')} and the validation windows are too few: a slope"
            f" needs {3 * LEAST_EPOCHS} epochs, choosing on one half and scoring on the other"
            f" {MIN_GROUPS} windows or groups"
        )
        return Findings(not_tested=[NotTested(CAUSE, why, "more epochs or more groups")])
    witnesses = [witness for witness in (rise, gain) if witness is not None]
    said = [witness.sentence for witness in witnesses]
    outcome = "rejected" if all(witness.excludes for witness in witnesses) else "undecided"
    if any(witness.holds for witness in witnesses):
        outcome = "confirmed"
    if outcome == "confirmed" and _kept_is_good(best_epoch, val_loss, len(history)):
        outcome = "rejected"
        said.append(
            f"The weights of epoch {best_epoch} of {len(history)} were kept, so the model does not"
            " suffer from it"
        )
    change: dict[str, Any] = {}
    if outcome == "confirmed":
        change = {
            "early_stopping": True,
            "restore_best": True,
            "monitor": "val_loss",
            "patience": _patience(val_loss),
        }
        said.append("A network that is too large, or not regularized, has the same curve")
    sentence = ". ".join(said) + "."
    trial = Trial(CAUSE, "keep the best epoch", change, "inference", outcome, sentence)
    return Findings([trial])


def _column(history: History, name: str) -> Floats:
    return history[name] if name in history else np.full(len(history), np.nan)


def _training_loss(record: TrainingRecord | None, history: History) -> Floats:
    """Return the loss of the fixed training windows, or else that of the epochs."""
    if record is not None and len(record.fixed_loss) == len(history):
        fixed = np.asarray(record.fixed_loss, np.float64)
        if np.isfinite(fixed).all():
            return fixed
    return _column(history, "loss")


def _followed(record: TrainingRecord | None, n_epochs: int) -> TrainingRecord | None:
    """Return the record where it can be halved: enough windows, or groups, in every epoch."""
    if record is None or n_epochs < 2 or record.val_predicted.shape[0] != n_epochs:
        return None
    groups = record.val_groups
    n_units = record.val_predicted.shape[1] if groups is None else len(np.unique(groups))
    return record if n_units >= MIN_GROUPS else None


def _rise(val_loss: Floats, loss: Floats) -> _Witness | None:
    """Return whether validation gets worse while training gets better."""
    n = len(val_loss) // 3
    late, training = val_loss[len(val_loss) - n :], loss[len(loss) - n :]
    if n < LEAST_EPOCHS or not (np.isfinite(late).all() and np.isfinite(training).all()):
        return None
    slope, of_training = metrics.theil_sen_slope(late), metrics.theil_sen_slope(training)
    low, high = metrics.slope_interval(late, z=SLOPE_Z * _widening(late))
    best, worst = metrics.slope_interval(training, z=SLOPE_Z * _widening(training))
    holds = low > 0 and worst < 0 and slope * n > LEAST_RISE_NATS
    first = len(val_loss) - n + 1
    # where training gets worse as well it is no overtraining
    excludes = slope <= 0 or high * n < OVERFITTING_RISE_NATS or best > 0
    return _Witness(
        holds,
        excludes,
        f"From epoch {first} to {len(val_loss)} the validation loss changed by {10 * slope:+.3f}"
        f" nats in ten epochs (98 % interval {10 * low:+.3f} to {10 * high:+.3f}) and the training"
        f" loss by {10 * of_training:+.3f}",
    )


def _residual(series: Floats) -> Floats:
    """Return what a series scatters about its Theil-Sen line."""
    line = metrics.theil_sen_slope(series) * np.arange(len(series))
    return np.asarray(series - line - np.median(series - line))


def _widening(series: Floats) -> float:
    """Return by how much neighbours that are alike widen the interval of a slope.

    That of a first-order autoregression. A third of a run shows correlation too low by about
    ``(1 + 4 rho) / n``, which is added.
    """
    rest = _residual(series)
    total = float((rest**2).sum())
    if total <= 0:
        return 1.0
    rho = float((rest[1:] * rest[:-1]).sum()) / total
    rho = min(max(rho + (1 + 4 * rho) / len(series), 0.0), 0.9)
    return float(np.sqrt((1 + rho) / (1 - rho)))


def _gain(record: TrainingRecord) -> _Witness:
    """Return whether another epoch than the last is better on windows that did not choose it."""
    correct = record.val_correct.astype(np.float64)
    margin = np.clip(np.nan_to_num(record.val_margin.astype(np.float64)), -1e4, 1e4)
    score = -np.logaddexp(0.0, -margin)  # about what each window adds to the validation loss
    last = per_window.cross_fit(correct, record.val_groups, score=score)
    late = max(len(correct) // 6, 1)
    stretch = per_window.cross_fit(
        _stretches(correct[:-1], late), record.val_groups, score=_stretches(score[:-1], late)
    )
    # a stretch that is best by luck: the jumps of the whole model, averaged over it
    jumps = metrics.high_frequency_noise(correct.mean(axis=1)) if len(correct) > 2 else 0.0
    luck = metrics.selection_bias(jumps, max(len(correct) // late, 2)) + 1.5 * jumps
    limits = (0.0, luck / np.sqrt(late))
    holds = all(
        fit.gain > max(STANDARD_ERRORS * fit.gain_error, LEAST_GAIN) + limit
        for fit, limit in zip((last, stretch), limits, strict=True)
    )
    units = "windows" if record.val_groups is None else "groups"
    return _Witness(
        holds,
        stretch.gain + STANDARD_ERRORS * stretch.gain_error < MATTERS + limits[1],
        f"The best epoch by one half of the validation {units} gets {points(last.accuracy)} % on"
        f" the other half, {100 * last.gain:+.1f} points against the last epoch (standard error"
        f" {points(last.gain_error)}); the best stretch of {plural(late, 'epoch')} gets"
        f" {100 * stretch.gain:+.1f} against the last stretch ({points(stretch.gain_error)})",
    )


def _stretches(matrix: Floats, width: int) -> Floats:
    """Return the means over `width` neighbouring epochs, (n_epochs - width + 1, n_windows)."""
    width = min(width, len(matrix))
    sums = np.cumsum(np.vstack([np.zeros(matrix.shape[1]), matrix]), axis=0)
    return np.asarray((sums[width:] - sums[:-width]) / width)


def _kept_is_good(best_epoch: int | None, val_loss: Floats, n_epochs: int) -> bool:
    """Whether the weights that were kept are of about the lowest validation loss, not the last."""
    if best_epoch is None or not 1 <= best_epoch < n_epochs or not np.isfinite(val_loss).any():
        return False
    return bool(val_loss[best_epoch - 1] <= np.nanmin(val_loss) + KEPT_WITHIN)


def _patience(val_loss: Floats) -> int:
    """Return a patience of three correlation times of the validation loss, at least ten epochs."""
    series = val_loss[np.isfinite(val_loss)]
    if len(series) < 3:
        return LEAST_PATIENCE
    rest = series - metrics.local_trend(series)
    total = float((rest**2).sum())
    time = 1.0
    for lag in range(1, len(rest) // 4):
        rho = float((rest[lag:] * rest[:-lag]).sum()) / total if total > 0 else 0.0
        if rho <= 0:
            break
        time += 2 * rho
    return max(LEAST_PATIENCE, round(CORRELATION_TIMES * time))
