"""score_sides: the probability of each side of each cause, from features and fitted weights."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sensorseq.fluctuation.causes import weights
from sensorseq.fluctuation.causes.seen import Seen
from sensorseq.fluctuation.causes.signatures import is_supported
from sensorseq.fluctuation.causes.theory import (
    POSITION,
    PRIOR,
    SIDES,
    SIGNATURE_PRIOR,
    STEP_NOISE,
    Term,
)
from sensorseq.fluctuation.columns import Floats

UNKNOWN = "unknown"
LEAST_LOG = 1e-4  # what a logarithm is taken of at least
LEAST_FEATURES = 2  # of a side, without which it is not named
MOST_SDS = 4.0  # beyond, a value says no more than there


def standardised(term: Term, features: Mapping[str, float]) -> float:
    """Return a feature in standard deviations, positive where it speaks for the cause.

    0 where it was not measured: what is not known speaks neither for nor against.
    """
    value = transformed(term, features[term.feature])
    if not math.isfinite(value):
        return 0.0
    mean, sd = weights.SCALES[scale_name(term)]
    return term.sign * float(np.clip((value - mean) / sd, -MOST_SDS, MOST_SDS))


def transformed(term: Term, value: float) -> float:
    """Return a value on the scale of its term."""
    if not term.is_log or math.isnan(value):
        return value
    return math.log10(max(value, LEAST_LOG))


def scale_name(term: Term) -> str:
    """Return under which name the mean and deviation of a term are kept."""
    return f"log {term.feature}" if term.is_log else term.feature


def log_prior(features: Mapping[str, float]) -> dict[str, float]:
    """Return the logarithm of the prior of each cause, which a signature of its own raises."""
    seen = Seen(features)
    causes = dict.fromkeys(cause for cause, _ in SIDES)
    return {
        cause: math.log(
            PRIOR.get(cause, 1.0) * (SIGNATURE_PRIOR if is_supported(cause, seen) else 1.0)
        )
        for cause in causes
    }


def can_tell(side: tuple[str, str], features: Mapping[str, float]) -> bool:
    """Whether enough of a side was measured for it to be named at all: its first feature, and more.

    Dropout that drew no masks makes no noise.
    """
    known = [math.isfinite(features[term.feature]) for term in SIDES[side]]
    return known[0] and sum(known) >= LEAST_FEATURES


def score_sides(
    features: Mapping[str, float], *, calm: bool = False
) -> dict[tuple[str, str], float]:
    """Return the probability of each side of each cause, calibrated; what is left is unknown.

    The scores of all sides compete in one logistic model against that of an unknown cause. Between
    steps that are too long and batches that are too small, whose scores are pooled, what a step is
    made of decides. A piecewise linear map makes frequencies of the probabilities of causes.

    Parameters
    ----------
    features : mapping of str to float
        Of `measure`.
    calm : bool, default=False
        Whether the curve is calm. Most of such runs have nothing: what is said is less sure.

    Returns
    -------
    dict
        Keys are those of `theory.SIDES`. The values sum to one at most.
    """
    scores, prior = {}, log_prior(features)
    for side, terms in SIDES.items():
        if not can_tell(side, features):
            continue
        intercept, factors = weights.WEIGHTS[side]
        evidence = sum(
            factor * standardised(term, features)
            for term, factor in zip(terms, factors, strict=True)
        )
        scores[side] = intercept + evidence + prior[side[0]]
    highest = max([0.0, *scores.values()])
    raised = {side: math.exp(score - highest) for side, score in scores.items()}
    total = math.exp(-highest) + sum(raised.values())
    shares = {side: raised.get(side, 0.0) / total for side in SIDES}
    pooled = sum(shares[side] for side in STEP_NOISE)
    of_batch = batch_share(features)
    shares[STEP_NOISE[0]], shares[STEP_NOISE[1]] = pooled * (1 - of_batch), pooled * of_batch
    return _calibrated(shares, weights.CALM_CALIBRATION if calm else weights.CALIBRATION)


def batch_share(features: Mapping[str, float]) -> float:
    """Return the probability that step noise is the batch's, not the rate's."""
    intercept, factors = weights.POSITION
    score = intercept + sum(
        factor * standardised(term, features)
        for term, factor in zip(POSITION, factors, strict=True)
    )
    return 1 / (1 + math.exp(-score))


def of_causes(sides: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the probability of each cause: the sum of its sides'."""
    found: dict[str, float] = {}
    for (cause, _), share in sides.items():
        found[cause] = found.get(cause, 0.0) + share
    return found


def _calibrated(
    shares: Mapping[tuple[str, str], float], knots: Sequence[tuple[float, float]]
) -> dict[tuple[str, str], float]:
    causes = of_causes(shares)
    x, y = np.array(knots).T
    told: Floats = np.interp(list(causes.values()), x, y)
    told = told / max(float(told.sum()), 1.0)
    factor = {
        cause: float(new) / old if old > 0 else 0.0
        for (cause, old), new in zip(causes.items(), told, strict=True)
    }
    return {side: share * factor[side[0]] for side, share in shares.items()}
