"""What every family of features needs: the run cut into early and late, numbers that may lack."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run
from sensorseq.training_record import TrainingRecord

NAN = math.nan


def late_epochs(run: Run) -> slice:
    """Return the last third of the epochs, where a run has come to rest if it ever does."""
    return slice(run.n_epochs - max(run.n_epochs // 3, 1), run.n_epochs)


def statistic(run: Run, name: str) -> float:
    """Return what `judge` measured under a name; NaN where it did not."""
    found = run.statistics.get(name)
    return NAN if found is None else float(found.value)


def column(run: Run, name: str) -> Floats:
    """Return a column of the history, one value an epoch, NaN where nothing was recorded."""
    held = run.columns.get(name)
    if held is None:
        return np.full(run.n_epochs, NAN)
    values = np.asarray(held.values, np.float64)
    return np.where(np.isfinite(values), values, NAN)


def finite(values: ArrayLike) -> Floats:
    """Return what is finite of an array, flat."""
    held = np.asarray(values, np.float64).ravel()
    return np.asarray(held[np.isfinite(held)])


def middle(values: ArrayLike) -> float:
    """Return the median of what is finite; NaN of nothing."""
    held = finite(values)
    return float(np.median(held)) if len(held) else NAN


def mean(values: ArrayLike) -> float:
    """Return the mean of what is finite; NaN of nothing."""
    held = finite(values)
    return float(held.mean()) if len(held) else NAN


def ratio(over: float, under: float) -> float:
    """Return a quotient; NaN where it has none."""
    return over / under if math.isfinite(over) and math.isfinite(under) and under > 0 else NAN


def step_column(record: TrainingRecord, name: str) -> Floats:
    """Return a column of the steps; NaN throughout where it was not recorded."""
    n_steps = int(record.epoch_steps[-1])
    held = record.steps.get(name)
    return np.full(n_steps, NAN) if held is None else np.asarray(held, np.float64)


def late_steps(run: Run, record: TrainingRecord) -> slice:
    """Return the steps of the second half of the epochs, as the noise of a loss is read there."""
    first = max(run.first, run.n_epochs // 2)
    return slice(int(record.epoch_steps[min(first, run.n_epochs - 1)]), int(record.epoch_steps[-1]))


def late_details(run: Run, record: TrainingRecord) -> NDArray[np.bool_]:
    """Mark the details of the second half; all but the first where none lies there."""
    at = np.asarray(record.detail_steps)
    late = at >= late_steps(run, record).start
    return late if late.any() else at > 0


def detail(record: TrainingRecord, name: str) -> Floats:
    """Return a column of the details; empty where it was not recorded."""
    return np.asarray(record.details.get(name, np.zeros(0)), np.float64)


def merged(*parts: Mapping[str, float]) -> dict[str, float]:
    """Join families of features; a name is of one family only."""
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names)), "a feature is measured twice"
    return {name: float(value) for part in parts for name, value in part.items()}
