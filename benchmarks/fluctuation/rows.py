"""Rows of a table: a rate of all runs and of each cause, strength and data set, with intervals.

Intervals of rates: E. B. Wilson's of single runs, and a bootstrap over clusters of data set and
cause, as runs of one cluster fail together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from fluctuation.seen import Seen
from verdict.rates import N_RESAMPLES, cluster_interval, wilson

STATISTICS, PROBED, QUICK = "ours, statistics", "ours, probes", "ours, quick probes"
CONFIGURATION = "configuration alone"
TOP_1, TOP_2 = "first answer right", "one of the first two right"
ALIKE = "first answer right, or its repair as good"
NAMED, NAMED_RIGHT = "named, not called unknown", "right where it is named"
NOTHING = "normal answered where nothing is wrong"
FLAGGED = "fault flagged"
PROVED = "proved and right"
REPAIRED, HARMED = "strictly repaired", "harmed by the repair"
MIXED = "both causes of a mixture in the first three"
REPEATED = "same first answer from every seed"
# What the run itself shows; a run that is calm and less accurate than a twin nobody has does not.
OPEN, OPENLY = "fluctuates or fails", ("volatile", "diverged", "not learning")
COST = "cost of the probes, in times of the fit"
SAME_ARGUMENTS = "same configuration, healthy and sick told apart"


def rate_row(
    row: str, judge: str, kind: str, hits: Sequence[bool], clusters: Sequence[Any]
) -> dict[str, Any]:
    """Return one rate with its intervals."""
    low, high = wilson(sum(hits), len(hits))
    cluster_low, cluster_high = cluster_interval(hits, clusters)
    return {
        "row": row,
        "judge": judge,
        "kind": kind,
        "runs": len(hits),
        "hits": sum(hits),
        "rate": sum(hits) / len(hits),
        "wilson": [low, high],
        "cluster_bootstrap": [cluster_low, cluster_high],
    }


def lots_of(runs: Sequence[Seen]) -> dict[str, list[Seen]]:
    """Return all, and by cause, strength, data set and how the fault came true."""
    lots: dict[str, list[Seen]] = {"all": list(runs)}
    kinds: tuple[tuple[str, Callable[[Seen], Any]], ...] = (
        ("{}", lambda run: run.plan["cause"]),
        ("strength {}", lambda run: run.plan["strength"]),
        ("on {}", lambda run: run.plan["data"]),
        ("is {}", lambda run: run.fault),
    )
    for words, key in kinds:
        for value in sorted({key(run) for run in runs} - {"", 0}):
            lots[words.format(value)] = [run for run in runs if key(run) == value]
    lots[OPEN] = [run for run in runs if run.fault in OPENLY]
    return lots


def rates_of(
    row: str, judge: str, runs: Iterable[Seen], hit: Callable[[Seen], bool]
) -> list[dict[str, Any]]:
    """Return one row for each lot of runs: in how many of them `hit` holds."""
    found = list(runs)
    return [
        rate_row(row, judge, kind, [hit(run) for run in lot], [run.cluster for run in lot])
        for kind, lot in lots_of(found).items()
        if lot
    ]


def cluster_quantile(values: Any, clusters: Sequence[Any], share: float) -> tuple[float, float]:
    """Return the 95 % interval of a quantile when whole clusters are drawn anew."""
    held: dict[Any, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        held[cluster].append(float(value))
    lots = [np.array(lot) for lot in held.values()]
    rng = np.random.default_rng(0)
    drawn = [
        np.quantile(
            np.concatenate([lots[k] for k in rng.integers(len(lots), size=len(lots))]), share
        )
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
