"""StopRule: after how many pairs of re-runs a change is proved or excluded."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

HALVED = math.log(0.5)  # the least change of the log noise that is worth a proof
ALPHA, BETA = 0.05, 0.10
LEAST_PAIRS, MOST_PAIRS = 2, 6
# Unchanged re-runs of a pilot differed in log noise by 0.4 to 1.0; a lucky few say nothing else.
LEAST_LOG_SD = 0.4
SURE_Z = 1.28  # one-sided 90 % point of the normal distribution
_PRIOR_WEIGHT = 6.0  # re-runs that what is known beforehand of their scatter counts for
_LARGEST_EFFECT = 3.0  # in standard deviations of a pair
_FARTHEST = 3.0  # of a log noise from the middle of the unchanged: one run alone is no proof


@dataclass(frozen=True)
class StopRule:
    r"""Wald's sequential test of a difference of means, changed less unchanged.

    H0: it is 0. H1: it is `effect`, or twice, four times ... as large, up to three standard
    deviations of a pair: half of the prior is on the first, the others share the rest. With n
    re-runs of each, whose paired differences D have standard deviation s, the log-likelihood ratio
    for one effect is the sum of ``(effect / s^2) (D - effect / 2)``. Where the unchanged re-runs
    are more, as they serve several changes, the difference of the means has variance
    ``s^2 / 2 (1 / n + 1 / n_unchanged)`` and the ratio follows from that; for equal numbers both
    are the same. A mixture of likelihood ratios keeps the level of a single one [2]_, and large
    effects, which scatter more, too, need fewer pairs: with s three times `effect`, six times the
    effect needs 3 pairs where the single ratio needs 5.

    Parameters
    ----------
    n_arms : int
        Changes that are tested beside each other; alpha is divided by it (Bonferroni).
    effect : float, default log(1/2)
        Of H1; negative, as calmer and lower is better.
    alpha, beta : float, default 0.05 and 0.10
        Probabilities of a confirmation under H0, and of a rejection under H1.
    least_pairs, most_pairs : int, default 2 and 6
        None is decided before the first, nor goes on after the second.

    References
    ----------
    .. [1] A. Wald, *Sequential tests of statistical hypotheses*, 1945.
    .. [2] H. Robbins, *Statistical methods related to the law of the iterated logarithm*, 1970.
    """

    n_arms: int = 1
    effect: float = HALVED
    alpha: float = ALPHA
    beta: float = BETA
    least_pairs: int = LEAST_PAIRS
    most_pairs: int = MOST_PAIRS

    @property
    def bounds(self) -> tuple[float, float]:
        """Rejected at or below the first, confirmed at or above the second.

        Half the prior is on the least effect: where it is true, the ratio is at least half its own.
        """
        alpha = self.alpha / self.n_arms
        return math.log(0.5 * self.beta / (1 - alpha)), math.log((1 - self.beta) / alpha)

    def evidence(self, changed: Sequence[float], unchanged: Sequence[float], sd: float) -> float:
        """Return the log-likelihood ratio of H1 to H0.

        Parameters
        ----------
        changed, unchanged : sequence of float
            One value for each re-run.
        sd : float
            Standard deviation of a paired difference, s.
        """
        difference = float(np.mean(changed) - np.mean(unchanged))
        variance = sd**2 / 2 * (1 / len(changed) + 1 / len(unchanged))
        n_larger = max(0, math.floor(math.log2(max(_LARGEST_EFFECT * sd / abs(self.effect), 1.0))))
        effects = self.effect * 2.0 ** np.arange(n_larger + 1)
        ratios = effects / variance * (difference - effects / 2)
        weights = np.full(n_larger + 1, 0.5 / max(n_larger, 1))
        weights[0] = 0.5 if n_larger else 1.0
        return float(np.logaddexp.reduce(ratios + np.log(weights)))

    def excludes_effect(self, difference: float, error: float) -> bool:
        """Whether a difference is surely less of an effect than H1 has, with 1 - beta = 90 %.

        Then a change is given up before it reaches the lower bound: others may use what it costs.
        """
        return difference - SURE_Z * error > self.effect

    def decide(self, n_pairs: int, evidence: float) -> str:
        """Return ``"confirmed"``, ``"rejected"``, ``"undecided"`` at the end, or "" to go on."""
        low, high = self.bounds
        if n_pairs < self.least_pairs:
            return ""
        if evidence >= high:
            return "confirmed"
        if evidence <= low:
            return "rejected"
        return "undecided" if n_pairs >= self.most_pairs else ""


def pair_sd(groups: Iterable[Sequence[float]], prior_sd: float, least_sd: float) -> float:
    """Return the standard deviation s of a paired difference, pooled over re-runs alike.

    Re-runs that differ in nothing but the order of the windows scatter by ``s / sqrt(2)``. A few of
    them tell little about it, so that what is known beforehand counts as six more.

    Parameters
    ----------
    groups : iterable of sequence of float
        Values of re-runs that are alike but for their order.
    prior_sd : float
        Of a paired difference, before any was seen.
    least_sd : float
        The result is never below.
    """
    square, freedom = _PRIOR_WEIGHT * prior_sd**2 / 2, _PRIOR_WEIGHT
    for group in groups:
        if len(group) > 1:
            square += float(np.var(group)) * len(group)
            freedom += len(group) - 1
    return max(least_sd, math.sqrt(2 * square / freedom))


def clipped(log_noise: Sequence[float], unchanged: Sequence[float]) -> list[float]:
    """Return values drawn to within a factor of 20 of the middle of the unchanged."""
    middle = float(np.median(unchanged))
    return [float(np.clip(value, middle - _FARTHEST, middle + _FARTHEST)) for value in log_noise]
