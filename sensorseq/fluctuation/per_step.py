"""What single optimizer steps tell: batch noise, spikes after large gradients, overshoot."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.resampling import block_bootstrap, interval_of
from sensorseq.fluctuation.series import Floats


class BatchNoise(NamedTuple):
    """Variance of the loss of single batches, against what other windows alone make of it.

    Attributes
    ----------
    floor : float
        ``F_b``: mean sampling variance of a batch's loss about the mean of its epoch, in squared
        nats.
    ratio : float
        ``R_b``: near 1 when the batch curve is nothing but different batches.
    low, high : float
        90 % interval of the ratio, over epochs; NaN below two epochs.
    """

    floor: float
    ratio: float
    low: float
    high: float


def batch_loss_floor(loss_variance: ArrayLike, n_windows: ArrayLike, n_train: int) -> Floats:
    """Return the sampling variance of each batch's mean loss, in squared nats.

    ``s^2 / B * (1 - B / N)``: B of N windows drawn without replacement, as in an epoch. NaN for a
    batch of one window, which has no variance of its own.

    Parameters
    ----------
    loss_variance : array_like of shape (n_steps,)
        Variance of the windows' losses in the batch, divided by B (not by B - 1), as recorded.
    n_windows : array_like of shape (n_steps,)
        B.
    n_train : int
        N, windows of an epoch.

    References
    ----------
    .. [1] W. G. Cochran, *Sampling Techniques*, 1977, section 2.6 (finite-population correction).
    """
    size = np.asarray(n_windows, np.float64)
    if n_train < size.max(initial=1):
        raise ArgumentError(f"n_train={n_train}, but a batch has {size.max():.0f} windows.")
    return _mean_variance(loss_variance, size) * (1 - size / n_train)


def batch_noise(
    loss: ArrayLike,
    loss_variance: ArrayLike,
    n_windows: ArrayLike,
    epoch_steps: ArrayLike,
) -> BatchNoise:
    """Compare how the loss moves from batch to batch with what sampling explains.

    ``R_b = sum(d_b^2) / sum(s_b^2 / B_b + s_{b+1}^2 / B_{b+1})`` over neighbours b, b + 1 of one
    epoch. Two batches without a window in common differ by just that much: the correction for a
    finite population, which `batch_loss_floor` has, cancels in a difference.

    Parameters
    ----------
    loss, loss_variance, n_windows : array_like of shape (n_steps,)
        See `batch_loss_floor`; NaN entries are left out.
    epoch_steps : array_like of int of shape (n_epochs + 1,)
        Where the steps of each epoch begin and the last end.
    """
    value, size = np.asarray(loss, np.float64), np.asarray(n_windows, np.float64)
    spread = _mean_variance(loss_variance, size)
    bounds = np.asarray(epoch_steps, np.int64)
    sums = np.zeros((len(bounds) - 1, 2))
    floors = []
    for epoch, (begin, end) in enumerate(pairwise(bounds)):
        squares = np.diff(value[begin:end]) ** 2
        expected = spread[begin:end][1:] + spread[begin:end][:-1]
        whole = np.isfinite(squares) & np.isfinite(expected)
        sums[epoch] = squares[whole].sum(), expected[whole].sum()
        share = size[begin:end] / max(float(size[begin:end].sum()), 1.0)
        floors.append(spread[begin:end] * (1 - share))
    floor = np.concatenate(floors) if floors else np.zeros(0)
    floor = floor[np.isfinite(floor)]
    mean_floor = float(floor.mean()) if len(floor) else np.nan
    sums = sums[sums[:, 1] > 0]
    if not len(sums):
        return BatchNoise(mean_floor, np.nan, np.nan, np.nan)
    ratio = float(sums[:, 0].sum() / sums[:, 1].sum())
    if len(sums) < 2:
        return BatchNoise(mean_floor, ratio, np.nan, np.nan)
    resampled = block_bootstrap(sums, lambda drawn: drawn[..., 0].sum(1) / drawn[..., 1].sum(1))
    return BatchNoise(mean_floor, ratio, *interval_of(resampled))


def spike_lift(
    grad_norm: ArrayLike, spikes: ArrayLike, *, quantile: float = 0.99, reach: int = 3
) -> float:
    """Return how many times more often a spike follows a large gradient than any other step.

    ``P(spike in b+1..b+3 | g_b > p99) / P(spike in b+1..b+3)``; 1 when they are unrelated. The step
    itself is left out: a hard batch has a large loss and a large gradient at once, whichever way
    the step goes. NaN without a spike, or without a gradient above the rest.

    Parameters
    ----------
    grad_norm : array_like of shape (n_steps,)
        Global norm before clipping.
    spikes : array_like of int
        Steps, counted from 0, at which the loss leapt up.
    quantile : float, default 0.99
        Above which a gradient is large.
    reach : int, default 3
        Steps after it that are looked at.
    """
    norm = np.asarray(grad_norm, np.float64)
    spiked = np.zeros(len(norm) + reach, bool)
    spiked[np.asarray(spikes, np.int64)] = True
    follows = np.zeros(len(norm), bool)
    for ahead in range(1, reach + 1):
        follows |= spiked[ahead : ahead + len(norm)]
    finite = norm[np.isfinite(norm)]
    if not len(finite) or not follows.any():
        return float("nan")
    large = norm > np.quantile(finite, quantile)
    return float(follows[large].mean() / follows.mean()) if large.any() else float("nan")


def overshoot_rate(before: ArrayLike, after: ArrayLike, factor: float = 1.01) -> float:
    """Return the share of steps that made the loss of their own batch worse, by over 1 %.

    Parameters
    ----------
    before, after : array_like of shape (n_steps,)
        Loss of the batch in evaluation mode, right before and right after its step; steps with a
        NaN are left out.
    factor : float, default 1.01
        What is worse, times the loss before.

    Returns
    -------
    float
        NaN when nothing was measured. With momentum 0 to 0.3 is ordinary.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    known = np.isfinite(first) & np.isfinite(second)
    return float((second[known] > factor * first[known]).mean()) if known.any() else float("nan")


def _mean_variance(loss_variance: ArrayLike, size: NDArray[np.float64]) -> Floats:
    """Return the unbiased variance of a batch over its windows; NaN for a batch of one."""
    variance = np.asarray(loss_variance, np.float64)
    return np.asarray(np.where(size > 1, variance / np.maximum(size - 1, 1), np.nan))
