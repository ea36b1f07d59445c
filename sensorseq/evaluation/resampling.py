"""Intervals and tests of scores that treat groups as units, as windows of one are similar."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
CONFIDENCE = 0.95
N_FLIPS = 10_000


class Interval(NamedTuple):
    """The range of a score over other samples of recordings of the same kind."""

    low: float
    high: float


def resampling_weights(n_groups: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each group is drawn, (n_resamples, n_groups); rows sum to n_groups."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def sign_flips(n_groups: int, seed: int) -> NDArray[np.bool_]:
    """Return which groups are exchanged in each permutation, (n_permutations, n_groups).

    All 2**n_groups choices where they are no more than `N_FLIPS`; otherwise that many, drawn at
    random. The first exchanges nothing, so a share of the rows is a valid p-value [1]_.

    References
    ----------
    .. [1] B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Statistical
       Applications in Genetics and Molecular Biology 9, 2010.
    """
    if 2**n_groups <= N_FLIPS:
        numbers = np.arange(2**n_groups)[:, None]
        return np.asarray(numbers >> np.arange(n_groups) & 1, bool)
    flips = np.random.default_rng(seed).random((N_FLIPS, n_groups)) < 0.5
    flips[0] = False
    return flips


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Return the interval of resampled scores; NaN are ignored."""
    values = values[~np.isnan(values)]
    if not len(values) or (np.ptp(values) == 0 and len(values) > 1):
        # One group, or all groups equal: resampling says nothing, rather than "certain".
        return Interval(float("nan"), float("nan"))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def plain_interval(interval: Interval) -> list[float] | None:
    """Return an interval for JSON; None when there is none."""
    return list(interval) if np.isfinite(interval).all() else None
