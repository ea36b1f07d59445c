"""find_spikes: the steps after which the loss of the batches leaps up."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sensorseq.fluctuation.series import SD_PER_MAD, Floats
from sensorseq.fluctuation.thresholds import RATE_RISE

REACH = 5  # steps after one that are thrown off together
LEAST_BEFORE, MOST_BEFORE = 30, 100  # steps that tell the level before
SCALES = 8.0  # standard errors of a median of `REACH` losses
MEDIAN_ERROR = 1.25  # of a median, times that of a mean
LEAST_HEIGHT_NATS = 0.1
LOOK_BACK = 3  # steps before a leap in which its gradient may lie


@dataclass(frozen=True)
class Spike:
    """One leap of the loss.

    Parameters
    ----------
    step : int
        The last step before the loss is up, counted from 0.
    level : float
        Median loss of the batches before, in nats.
    height : float
        Median loss of the `REACH` batches after it less `level`, in nats.
    largest : int
        The step near it with the largest gradient norm.
    n_before : int
        Steps that `level` is of.
    """

    step: int
    level: float
    height: float
    largest: int
    n_before: int


def find_spikes(
    steps: Mapping[str, Floats], epoch_steps: NDArray[np.int64], most: int = 12
) -> list[Spike]:
    """Return the steps after which several batches in a row have a far larger loss than before.

    Several, and their median, because a single hard batch has a large loss whatever the network
    does. The first tenth of the run, its first epoch and steps after a scheduled rise of the
    learning rate are left out.

    Parameters
    ----------
    steps : dict of str to ndarray of shape (S,)
        ``loss``, ``grad_norm`` and ``learning_rate`` as in a `TrainingRecord`.
    epoch_steps : ndarray of shape (E + 1,)
        Where epochs begin and the last ends.
    most : int, default 12
        Spikes to return.

    Returns
    -------
    list of Spike
        The highest first, each at least half a stretch from every other.
    """
    loss, n_steps = bounded(steps["loss"], steps["loss"]), len(steps["loss"])
    per_epoch = int(np.diff(epoch_steps).max(initial=0))
    n_before = min(max(per_epoch, LEAST_BEFORE), MOST_BEFORE)
    first = max(n_before, n_steps // 10, per_epoch)
    if n_steps < first + REACH + 1:
        return []
    level, height, scale = heights(loss, n_before)
    leaps = height > np.maximum(MEDIAN_ERROR * SCALES * scale / np.sqrt(REACH), LEAST_HEIGHT_NATS)
    at = np.arange(len(level)) + n_before - 1  # the last step of each stretch before
    rate = np.asarray(steps["learning_rate"], np.float64)
    highest = sliding_window_view(rate, REACH + 1).max(axis=1)[at]  # of the step and those after it
    leaps &= (at >= first) & ~(highest > RATE_RISE * rate[at - n_before + 1])
    norm = np.nan_to_num(np.asarray(steps["grad_norm"], np.float64))
    found: list[Spike] = []
    for place in np.flatnonzero(leaps)[np.argsort(-height[leaps], kind="stable")]:
        step = int(at[place])
        if any(abs(step - other.step) < max(n_before // 2, 2 * REACH) for other in found):
            continue
        near = np.arange(max(0, step - LOOK_BACK), min(n_steps, step + REACH + 1))
        largest = int(near[norm[near].argmax()])
        found.append(Spike(step, float(level[place]), float(height[place]), largest, n_before))
        if len(found) == most:
            break
    return found


def bounded(loss: Floats, of_run: Floats) -> Floats:
    """Return a loss in which what is not a number or infinite is twice the worst of the run."""
    known = np.asarray(of_run, np.float64)
    worst = 2 * float(np.abs(known[np.isfinite(known)]).max(initial=1.0))
    return np.nan_to_num(np.asarray(loss, np.float64), nan=worst, posinf=worst, neginf=worst)


def heights(loss: Floats, n_before: int) -> tuple[Floats, Floats, Floats]:
    """Return level, height and scale around each step, as `Spike` has them.

    Parameters
    ----------
    loss : ndarray of shape (S,)
        Of the batches.
    n_before : int
        Steps that a level is of.

    Returns
    -------
    level, height, scale : ndarray of shape (S - n_before - REACH + 1,)
        From step ``n_before - 1`` on; `scale` is the MAD before, as a standard deviation. Empty
        where there are too few steps.
    """
    n = len(loss) - n_before - REACH + 1
    if n < 1:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    before = sliding_window_view(loss, n_before)[:n]
    level = np.median(before, axis=1)
    scale = SD_PER_MAD * np.median(np.abs(before - level[:, None]), axis=1)
    after = np.median(sliding_window_view(loss, REACH), axis=1)[n_before:]
    return level, after - level, scale
