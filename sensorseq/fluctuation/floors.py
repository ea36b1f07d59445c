"""What chance alone accounts for: sampling, guessing, picking the best of many."""

import math

import numpy as np

from sensorseq.errors import ArgumentError


def binomial_sd(accuracy: float, n_windows: int) -> float:
    """Return ``sqrt(p (1 - p) / n)``: how far the accuracy of n independent windows may scatter.

    A fraction, 0 to 0.5. Windows drawn anew scatter by this much around the true accuracy p. One
    fixed set of windows scatters less from epoch to epoch, for most windows never change sides.
    """
    if n_windows < 1:
        raise ArgumentError(f"n_windows={n_windows}; expected at least 1.")
    if not 0 <= accuracy <= 1:
        raise ArgumentError(f"accuracy={accuracy}; expected a fraction, 0 to 1.")
    return math.sqrt(accuracy * (1 - accuracy) / n_windows)


def granularity(n_windows: int) -> float:
    """Return the accuracy that one window is worth, ``1 / n``, as a fraction."""
    if n_windows < 1:
        raise ArgumentError(f"n_windows={n_windows}; expected at least 1.")
    return 1 / n_windows


def expected_maximum(n_draws: float) -> float:
    """Return the mean of the largest of n standard normal draws; n need not be whole.

    ``E = integral of x n phi(x) Phi(x)^(n-1) dx``: 1.54 for 10 draws, 2.04 for 30, 2.51 for 100.

    References
    ----------
    .. [1] H. A. David, H. N. Nagaraja, *Order Statistics*, 2003, section 3.1.
    """
    if n_draws <= 1:
        return 0.0
    # Integrated by parts, which needs no density: -int_{-inf}^0 F^n + int_0^inf (1 - F^n).
    x = np.linspace(0, 9, 1801)
    upper = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    integrand = (1 - upper**n_draws) - (1 - upper) ** n_draws
    return float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(x)).sum())


def selection_bias(noise_sd: float, n_epochs: int) -> float:
    """Return how far the best of n epochs lies above their mean by luck alone.

    ``noise_sd * expected_maximum(n_epochs)``, in the unit of `noise_sd`. Neighbours that correlate
    by 0.5 lower it by 5 % only.

    Parameters
    ----------
    noise_sd : float
        Standard deviation of the curve about its trend.
    n_epochs : int
        Epochs the best was picked from.
    """
    return noise_sd * expected_maximum(n_epochs)


def chance_limit(chance: float, n_windows: int | None, z: float = 1.645) -> float:
    """Return the accuracy that guessing stays below in 95 of 100 epochs, as a fraction.

    ``p + z sqrt(p (1 - p) / n)``, and never closer to p than one window.

    Parameters
    ----------
    chance : float
        Accuracy of always answering the most frequent class, or ``1 / K``.
    n_windows : int or None
        Windows behind the accuracy; None takes `chance` itself.
    z : float, default 1.645
        One-sided 95 % point of the normal distribution.
    """
    if n_windows is None:
        return chance
    spread = max(z * binomial_sd(chance, n_windows), granularity(n_windows))
    return min(chance + spread, 1.0)


def share_lower_limit(n_hits: int, n_epochs: int, z: float = 1.645) -> float:
    """Return the share that is surely reached when `n_hits` of `n_epochs` are hits (Wilson).

    Parameters
    ----------
    n_hits, n_epochs : int
        Counts; no epochs at all give 0.
    z : float, default 1.645
        One-sided 95 % point of the normal distribution.

    References
    ----------
    .. [1] E. B. Wilson, *Probable inference, the law of succession, and statistical inference*,
       1927.
    """
    if n_epochs == 0:
        return 0.0
    share = n_hits / n_epochs
    middle = share + z**2 / (2 * n_epochs)
    width = z * math.sqrt(share * (1 - share) / n_epochs + z**2 / (4 * n_epochs**2))
    return max((middle - width) / (1 + z**2 / n_epochs), 0.0)


def sd_ratio_p(ratio: float, n_epochs: int) -> float:
    """Return the probability that a normal sample of n epochs scatters `ratio` times its true sd.

    Or more: the chi-square tail with ``f = n - 1`` degrees of freedom, from the cube root of
    ``chi2 / f``, which is nearly normal with mean ``1 - 2/(9f)`` and variance ``2/(9f)``.

    References
    ----------
    .. [1] E. B. Wilson, M. M. Hilferty, *The distribution of chi-square*, 1931.
    """
    if n_epochs < 2:
        return 1.0
    part = 2 / (9 * (n_epochs - 1))
    z = (max(ratio, 0.0) ** (2 / 3) - (1 - part)) / math.sqrt(part)
    return 0.5 * math.erfc(z / math.sqrt(2))


def binomial_tail(n_hits: int, n_trials: int, share: float) -> float:
    """Return the probability of at least `n_hits` hits in `n_trials` of probability `share`."""
    below = sum(
        math.exp(
            math.lgamma(n_trials + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(n_trials - hits + 1)
            + hits * math.log(share)
            + (n_trials - hits) * math.log1p(-share)
        )
        for hits in range(n_hits)
    )
    return min(max(1 - below, 0.0), 1.0)
