"""How sure an answer is and how often it is right; which cause is taken for which."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from fluctuation.answers import NORMAL, is_right, names_of, without_unknown
from fluctuation.plan import causes_of
from fluctuation.seen import Seen, is_nothing, is_single, is_undecided
from verdict.rates import wilson

BIN_EDGES = np.linspace(0.0, 1.0, 11)


def reliability(runs: Sequence[Seen], judge: str) -> dict[str, Any]:
    """Return how often first answers of some confidence are right, and the expected error.

    Of runs on which a cause is answered, if only below ``"unknown"``. The error is the mean over
    them of the distance between confidence and rate of their bin (M. P. Naeini et al., *Obtaining
    Well Calibrated Probabilities Using Bayesian Binning*, 2015), ten bins of equal width.
    """
    first = [
        (without_unknown(run.by[judge])[0][1], is_right(names_of(run.by[judge]), run.right, 1))
        for run in runs
        if judge in run.by
        and run.by[judge][0][0] != NORMAL
        and len(causes_of(run.plan)) < 2
        and not is_undecided(run)
    ]
    sure = np.array([confidence for confidence, _ in first])
    hits = np.array([hit for _, hit in first], bool)
    place = np.clip(np.digitize(sure, BIN_EDGES[1:-1]), 0, len(BIN_EDGES) - 2)
    bins, error = [], 0.0
    for k in range(len(BIN_EDGES) - 1):
        own = place == k
        if not own.any():
            continue
        low, high = wilson(int(hits[own].sum()), int(own.sum()))
        confidence, rate = float(sure[own].mean()), float(hits[own].mean())
        error += float(own.mean()) * abs(confidence - rate)
        bins.append(
            {
                "from": float(BIN_EDGES[k]),
                "to": float(BIN_EDGES[k + 1]),
                "runs": int(own.sum()),
                "confidence": confidence,
                "right": rate,
                "wilson": [low, high],
            }
        )
    return {"judge": judge, "runs": len(first), "expected_error": error, "bins": bins}


def confusion(runs: Sequence[Seen], judge: str) -> dict[str, dict[str, int]]:
    """Count first answers by what is there: the injected cause, or normal."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        nothing = is_nothing(run) and not is_undecided(run)
        if judge in run.by and (is_single(run) or nothing):
            there = run.plan["cause"] if is_single(run) else NORMAL
            counts[there][run.by[judge][0][0]] += 1
    return {there: dict(sorted(given.items())) for there, given in sorted(counts.items())}
