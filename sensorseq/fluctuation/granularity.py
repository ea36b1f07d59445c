"""How many windows a validation accuracy was counted over, from its steps."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 2000  # windows; beyond it, logs with four digits cannot tell counts apart
LEAST_VALUES = 6  # different ones: k of n with a common factor in all is then improbable (2**-6)
_MOST_BY_CHANCE = 0.01
_MOST_COVERED = 0.25  # of the space between multiples, by what rounding allows for
_FLOAT32 = 2.0**-24  # how far a fraction in float32 is off at most


def guess_count(accuracy: ArrayLike) -> int | None:
    """Return the n of which every accuracy is a multiple of 1/n, or None if that is not clear.

    Parameters
    ----------
    accuracy : array_like of shape (n_epochs,)
        Fractions, as they were logged: rounding to the digits that they have is allowed for, and
        to float32 in any case. NaN is left out.

    Returns
    -------
    int or None
        The smallest such n, at most `LARGEST`; at most 250 in a log with three digits and 25 in one
        with two. None where there are fewer than `LEAST_VALUES` different values, another count
        that is no multiple of it fits as well, or that many values would fit by chance (probability
        above 0.01). The true count can be a multiple of it.

    Examples
    --------
    >>> guess_count([0.1667, 0.3095, 0.5238, 0.4762, 0.6429, 0.7381, 0.6905])
    42
    """
    values = np.asarray(accuracy, np.float64)
    values = np.unique(values[np.isfinite(values)])
    if len(values) < LEAST_VALUES:
        return None
    digits = _digits(values)
    exact = _smallest(values, _FLOAT32)
    # Values with few digits are multiples of 1/10**digits whatever they were counted over.
    if exact and (10**digits % exact or (exact / 10**digits) ** len(values) <= _MOST_BY_CHANCE):
        return exact
    return _smallest(values, max(0.5 * 10.0**-digits, _FLOAT32))


def _smallest(values: NDArray[np.float64], tolerance: float) -> int | None:
    """Return the smallest n of which all values are multiples of 1/n, within a tolerance."""
    largest = min(LARGEST, int(_MOST_COVERED / (2 * tolerance)))
    counts = np.arange(2, largest + 1)
    off = np.abs((multiples := counts[:, None] * values) - np.rint(multiples))
    fits = (off <= counts[:, None] * tolerance * 1.01).all(axis=1)
    by_chance = counts * (2 * counts * tolerance) ** len(values)
    told = counts[fits & (by_chance <= _MOST_BY_CHANCE)]
    return int(told[0]) if len(told) and not (told % told[0]).any() else None


def _digits(values: NDArray[np.float64]) -> int:
    """Return after how many decimals all values end; 16 where they are not rounded."""
    for digits in range(16):
        if np.allclose(values, np.round(values, digits), rtol=0, atol=1e-12):
            return digits
    return 16


def granularity_sentence(accuracy: ArrayLike) -> str | None:
    """Return what to say of a history that came without `n_val`."""
    n = guess_count(accuracy)
    if n is None:
        return None
    return (
        f"Every validation accuracy is a multiple of 1/{n}: it looks like {n} validation windows."
        f" If so, n_val={n} lets the report say how much of the curve is sampling noise."
    )
