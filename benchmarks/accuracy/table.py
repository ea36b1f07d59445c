"""From the work file's rows to the rows of results/accuracy.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from accuracy.data import CONFIRM, ROBOTS, SEARCH, SHAPES, SIMULATED, TASKS
from accuracy.methods import FIRST_FOLD_ONLY, METHODS, OURS, PEERS
from accuracy.rows import Key, unpack
from numpy.typing import NDArray
from scipy.stats import rankdata

RESAMPLES = 10_000

Rows = dict[Key, dict[str, Any]]


def role(set_name: str) -> str:
    """Return what a set is for: search, confirm or simulated."""
    groups = {"search": SEARCH, "confirm": CONFIRM, "simulated": SIMULATED}
    return next(name for name, members in groups.items() if set_name in members)


def summarize(rows: Rows, part: str, methods: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return a row for each task and method, the paired differences and the mean ranks."""
    methods = list(METHODS) if methods is None else methods
    cells = []
    for name in TASKS:
        for method in methods:
            fits = _select(rows, name, part, method)
            if fits:
                cells.append(_cell(name, method, fits))
    pairs = [
        pair
        for name in TASKS
        for ours in OURS
        if ours in methods and (pair := difference(rows, cells, name, part, ours))
    ]
    return cells + pairs + ranks(rows, methods, part)


def _select(rows: Rows, task: str, part: str, method: str) -> Rows:
    return {
        key: row
        for key, row in rows.items()
        if (key.task, key.part, key.method) == (task, part, method)
    }


def _cell(name: str, method: str, fits: Rows) -> dict[str, Any]:
    """Average over folds and splits for each seed, then over seeds."""
    task = TASKS[name]
    seeds = sorted({key.seed for key in fits})
    n_folds = next(iter(fits.values()))["n_folds"]
    cell: dict[str, Any] = {
        "what": "scores",
        "task": name,
        "set": task.set,
        "role": role(task.set),
        "score": task.score,
        "method": method,
        "seeds": seeds,
        "n_fits": len(fits),
        "n_expected": (1 if method in FIRST_FOLD_ONLY else n_folds) * len(seeds),
    }
    cell["complete"] = cell["n_fits"] == cell["n_expected"]
    for score in ("accuracy", "balanced_accuracy"):
        each = [
            np.mean([row[score] for key, row in fits.items() if key.seed == seed]) for seed in seeds
        ]
        cell[score] = float(np.mean(each))
        cell[f"{score}_sd_seeds"] = float(np.std(each, ddof=1)) if len(each) > 1 else None
        folds: dict[tuple[int, int], list[float]] = {}
        for key, row in fits.items():
            folds.setdefault((key.split, key.fold), []).append(row[score])
        spread = [float(np.mean(values)) for values in folds.values()]
        cell[f"{score}_sd_folds"] = float(np.std(spread, ddof=1)) if len(spread) > 1 else None
    for cost in ("fit_s", "predict_s"):
        cell[cost] = float(np.mean([row[cost] for row in fits.values()]))
    return cell


def difference(
    rows: Rows, cells: list[dict[str, Any]], name: str, part: str, ours: str
) -> dict[str, Any] | None:
    """Compare a method of ours with the better of the peers, in pairs, on one task.

    The interval is a bootstrap over folds; where a set has one test part, over its windows. Folds
    of several splits share recordings, so the interval is somewhat narrow.
    """
    score = TASKS[name].score
    complete = {c["method"]: c[score] for c in cells if c["task"] == name and c["complete"]}
    peers = [peer for peer in PEERS if peer in complete]
    if ours not in complete or not peers:
        return None
    best = max(peers, key=lambda peer: complete[peer])
    mine, theirs = _select(rows, name, part, ours), _select(rows, name, part, best)
    if next(iter(mine.values()))["n_folds"] > 1:
        unit, values = "folds", _by_fold(mine, score) - _by_fold(theirs, score)
    else:
        unit, values = "windows", _by_window(mine) - _by_window(theirs)
    low, high = bootstrap(values)
    return {
        "what": "difference",
        "task": name,
        "set": TASKS[name].set,
        "role": role(TASKS[name].set),
        "score": score,
        "method": ours,
        "peer": best,
        "peers": peers,
        "difference": float(values.mean()),
        "low": low,
        "high": high,
        "unit": unit,
        "n": len(values),
    }


def _by_fold(fits: Rows, score: str) -> NDArray[np.float64]:
    """Return the mean over seeds of each fold, in order."""
    folds = sorted({(key.split, key.fold) for key in fits})
    return np.array(
        [
            np.mean([row[score] for key, row in fits.items() if (key.split, key.fold) == fold])
            for fold in folds
        ]
    )


def _by_window(fits: Rows) -> NDArray[np.float64]:
    """Return how often each test window was right, over seeds."""
    return np.mean([unpack(row["right"], row["n_test"]) for row in fits.values()], axis=0)


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ranks(rows: Rows, methods: Sequence[str], part: str) -> list[dict[str, Any]]:
    """Rank the methods on robots' sets and on shapes; average over a set's tasks, then over sets.

    Of a set with several protocols only the one that keeps recordings whole counts. Ranked are the
    methods that ran on every task that ours ran on, by the splits that all of them have whole.
    """
    found = []
    for kind, members in (("robots", ROBOTS), ("shapes", SHAPES)):
        whole = {
            (name, method): _whole_splits(rows, name, part, method)
            for name, task in TASKS.items()
            if task.set in members and not task.protocol
            for method in methods
            if method not in FIRST_FOLD_ONLY
        }
        tasks = [name for name, method in whole if method == OURS[0] and whole[name, method]]
        ranked = [m for m in methods if tasks and all(whole.get((name, m)) for name in tasks)]
        by_set: dict[str, list[Any]] = {}
        for name in tasks:
            splits = set.intersection(*(whole[name, method] for method in ranked))
            shared = {key: row for key, row in rows.items() if key.split in splits}
            fits = [_select(shared, name, part, method) for method in ranked]
            scores = [_by_fold(own, TASKS[name].score).mean() for own in fits]
            order = rankdata(-np.array(scores))  # ties share a rank
            by_set.setdefault(TASKS[name].set, []).append(order)
        if len(ranked) > 1:
            mean = np.mean([np.mean(each, axis=0) for each in by_set.values()], axis=0)
            found += [
                {
                    "what": "rank",
                    "kind": kind,
                    "method": method,
                    "mean_rank": float(value),
                    "n_methods": len(ranked),
                    "tasks": tasks,
                }
                for method, value in zip(ranked, mean, strict=True)
            ]
    return found


def _whole_splits(rows: Rows, name: str, part: str, method: str) -> set[int]:
    """Return the splits of which a method has all folds that any method has."""
    own = {key for key in rows if (key.task, key.part) == (name, part)}
    folds = {key.fold for key in own}
    return {
        split
        for split in {key.split for key in own}
        if folds <= {key.fold for key in own if (key.split, key.method) == (split, method)}
    }


def incomplete(cells: list[dict[str, Any]]) -> list[str]:
    """Name the cells with fits missing."""
    return [
        f"{c['task']} {c['method']}: {c['n_fits']} of {c['n_expected']} fits"
        for c in cells
        if c["what"] == "scores" and not c["complete"]
    ]
