"""recorded_arms: stretches of the run itself, as unchanged re-runs that cost nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab

RECORDED = "the run itself"  # name of such an arm
LATER = f"{RECORDED}, later"  # of one whose loss is not to be compared: the run has gone on since
STEADY_RATE = 0.8  # of the rate at the start, below which a later stretch is no re-run of it


def recorded_arms(
    lab: Lab, start: int, n_epochs: int, history: Mapping[str, Sequence[Any]] | None = None
) -> list[ArmResult]:
    """Return the run from a snapshot on, cut into stretches of the length of a re-run.

    The first is the replay in the recorded order. Those after it serve where the learning rate was
    still about the same: how they differ is what chance does over so many epochs.

    Parameters
    ----------
    lab : Lab
        Of the run.
    start : int
        Which snapshot.
    n_epochs : int
        Of a re-run.
    history : mapping, optional
        The run's columns, for its validation. Without one the accuracy is that of the fixed
        windows, as it is of re-runs then.
    """
    record = lab.record
    first = record.snapshots[start].epoch
    columns = {
        name: _column(history, name, record.n_epochs, record.is_in_nats)
        for name in ("loss", "val_loss", "val_accuracy")
    }
    if not len(columns["val_accuracy"]) and len(record.fixed_accuracy) == record.n_epochs:
        columns["val_accuracy"] = np.asarray(record.fixed_accuracy, np.float64)
    rates = _rates(lab)
    found: list[ArmResult] = []
    for begin in range(first, record.n_epochs - n_epochs + 1, n_epochs):
        if begin > first and rates[begin + n_epochs - 1] < STEADY_RATE * rates[first]:
            break
        stretch = slice(begin, begin + n_epochs)
        found.append(
            ArmResult(
                Arm(LATER if found else RECORDED, n_epochs, start=start, seed=None),
                np.asarray(record.fixed_loss[stretch], np.float64),
                columns["loss"][stretch],
                columns["val_loss"][stretch],
                columns["val_accuracy"][stretch],
                np.nan,
            )
        )
    return found


def recorded_beginning(
    lab: Lab, n_epochs: int, history: Mapping[str, Sequence[Any]] | None = None
) -> list[ArmResult]:
    """Return the first epochs of the run, as a re-run from its first weights."""
    record = lab.record
    if record.n_epochs < n_epochs or len(record.fixed_loss) < n_epochs:
        return []
    loss = np.asarray(record.fixed_loss[:n_epochs], np.float64)
    first, val_loss, val_accuracy = (
        _column(history, name, record.n_epochs, record.is_in_nats)[:n_epochs]
        for name in ("loss", "val_loss", "val_accuracy")
    )
    arm = Arm(RECORDED, n_epochs, start=None, seed=None)
    return [ArmResult(arm, loss, first, val_loss, val_accuracy, np.nan)]


def _column(
    history: Mapping[str, Sequence[Any]] | None, name: str, n_epochs: int, in_nats: bool
) -> Floats:
    """Return a column of the history; losses in other units are left out, as arms are in nats."""
    values = [] if history is None else history.get(name, [])
    if len(values) != n_epochs or ("loss" in name and not in_nats):
        return np.zeros(0)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _rates(lab: Lab) -> Floats:
    """Return the learning rate at the end of each epoch; ones where it was not noted."""
    record = lab.record
    steps = record.steps.get("learning_rate")
    if steps is None or not len(steps):
        return np.ones(record.n_epochs)
    return np.asarray(steps[np.maximum(record.epoch_steps[1:] - 1, 0)], np.float64)
