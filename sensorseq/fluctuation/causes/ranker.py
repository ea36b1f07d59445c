"""weigh: how likely a change in each family, and of each cause, repairs a run.

For each family a logistic regression on standardised features gives the probability that some
single change in it repairs the run; for each side of a cause another one the probability that its
change does, given that some change in the family does. A missing feature counts as its mean.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sensorseq.fluctuation.causes.features import LOGARITHMIC

WEIGHTS_FILE = Path(__file__).with_name("weights.json")
LEAST_LOG, MOST_SDS = 1e-4, 4.0


class Chance(NamedTuple):
    """Probability that a change repairs the run, of a family and of the sides in it."""

    family: float
    sides: Mapping[str, float]  # by `Entry.key`


@cache
def weights() -> Mapping[str, Any]:
    """Return the fitted weights; written by benchmarks/fluctuation/fit.py."""
    read: Mapping[str, Any] = json.loads(WEIGHTS_FILE.read_text())
    return read


def weigh(
    features: Mapping[str, float], model: Mapping[str, Any] | None = None
) -> dict[str, Chance]:
    """Return the chances of each family, from the features of `measure`."""
    model = weights() if model is None else model
    z = standardised(features, model["scales"])
    return {
        family: Chance(
            probability(own, z),
            {
                key: probability(side, z)
                for key, side in model["sides"].items()
                if side["family"] == family
            },
        )
        for family, own in model["families"].items()
    }


def standardised(
    features: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return features in standard deviations from their mean; 0 for one that is missing."""
    z = {}
    for name, (mean, sd) in scales.items():
        value = transformed(name, features.get(name, math.nan))
        known = math.isfinite(value)
        z[name] = float(np.clip((value - mean) / sd, -MOST_SDS, MOST_SDS)) if known else 0.0
    return z


def transformed(name: str, value: float) -> float:
    """Return a feature on the scale on which it is weighed."""
    if name not in LOGARITHMIC or math.isnan(value):
        return value
    return math.log10(max(value, LEAST_LOG))


def probability(weighed: Mapping[str, Any], z: Mapping[str, float]) -> float:
    """Return the probability that a logistic regression gives."""
    score = weighed["intercept"] + sum(
        weight * z[name] for name, weight in weighed["weights"].items()
    )
    return 1 / (1 + math.exp(-min(max(score, -30.0), 30.0)))
