"""Which loss was minimised, told by its values and the margins of the same windows.

A margin m, the logit of the own class less the largest other one, leaves the probability of the
own class between ``1 / (1 + (K - 1) e^-m)`` and ``1 / (1 + e^-m)``. So it bounds what the
cross-entropy of these windows can be, and what other losses of them would be.
"""

import math

import numpy as np

from sensorseq.fluctuation.causes.measuring import (
    NAN,
    column,
    finite,
    late_epochs,
    middle,
    step_column,
)
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run

NAMES = (
    "cross_entropy_gap",
    "double_softmax_gap",
    "double_softmax_gain",
    "floor_distance",
    "class_bias",
    "recall_spread",
)
_LARGEST = 50.0  # a margin beyond it is as good as certain


def measure_loss(run: Run) -> dict[str, float]:
    """Return how far the recorded loss is from what its margins say it should be, in nats."""
    found = dict.fromkeys(NAMES, NAN)
    found.update(_answers(run))
    record, loss = run.record, _epoch_loss(run)
    n_classes = count_classes(run)
    floor = math.log(1 + (n_classes - 1) / math.e) if n_classes else NAN
    lowest = min(finite(loss), default=NAN)
    found["floor_distance"] = lowest - floor
    if record is None or not n_classes or len(record.train_margin) != run.n_epochs:
        return found
    entropy, double = [], []
    for epoch, margin in enumerate(record.train_margin):
        held = np.clip(finite(margin), -_LARGEST, _LARGEST)
        if not len(held) or not math.isfinite(loss[epoch]):
            continue
        low, high = own_probability(held, n_classes)
        entropy.append(_outside(loss[epoch], -np.log(high).mean(), -np.log(low).mean()))
        # log sum exp of probabilities: least where they are even, greatest where one is certain
        least, most = math.log(n_classes) + 1 / n_classes, math.log(n_classes - 1 + math.e)
        double.append(_outside(loss[epoch], least - high.mean(), most - low.mean()))
    found["cross_entropy_gap"] = _typical(entropy)
    found["double_softmax_gap"] = _typical(double)
    if entropy:
        found["double_softmax_gain"] = found["cross_entropy_gap"] - found["double_softmax_gap"]
    return found


def _epoch_loss(run: Run) -> Floats:
    """Return the mean training loss of each epoch: of the history, or of the recorded steps."""
    loss, record = column(run, "loss"), run.record
    if record is None or np.isfinite(loss).any() or not int(record.epoch_steps[-1]):
        return loss
    size, of_step = step_column(record, "n_windows"), step_column(record, "loss")
    starts = record.epoch_steps[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = np.add.reduceat(size * of_step, starts) / np.add.reduceat(size, starts)
    return np.asarray(sums, np.float64)


def count_classes(run: Run) -> int:
    """Return K as the record shows it, or as ln K has it; 0 where neither does."""
    record = run.record
    if record is not None and record.class_counts is not None:
        return int(record.class_counts.shape[1])
    return round(math.exp(run.log_classes)) if run.log_classes > 0 else 0


def own_probability(margin: Floats, n_classes: int) -> tuple[Floats, Floats]:
    """Return the least and the greatest probability of the own class that margins allow."""
    rivals = np.exp(-np.asarray(margin, np.float64))
    return 1 / (1 + (n_classes - 1) * rivals), 1 / (1 + rivals)


def _outside(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)


def _typical(gaps: list[float]) -> float:
    """Return the mean gap over epochs, in which one that agrees by chance does not count much."""
    return float(np.mean(gaps)) if gaps else NAN


def _answers(run: Run) -> dict[str, float]:
    """Return how the answers given differ from the classes there are, over the late epochs."""
    record = run.followed
    if record is None or record.val_predicted.shape[1] < 2:
        return {}
    late = late_epochs(run)
    predicted, target = record.val_predicted[late], record.val_target
    classes = np.unique(target)
    given = np.array([(predicted == one).mean() for one in classes])
    there = np.array([(target == one).mean() for one in classes])
    recalls = [middle((predicted[:, target == one] == one).mean(axis=1)) for one in classes]
    return {
        "class_bias": float(np.abs(given - there).sum() + max(1 - given.sum(), 0.0)) / 2,
        "recall_spread": float(np.ptp(recalls)),
    }
