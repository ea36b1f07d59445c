"""Computes the rows of results/accuracy.json from the rows of the work file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from accuracy.data import CONFIRM, ROBOTS, SEARCH, SETS, SHAPES, SIMULATED
from accuracy.methods import METHODS, OURS, PEERS
from accuracy.work_file import Key, unpack
from numpy.typing import NDArray
from scipy.stats import rankdata

RESAMPLES = 10_000

Rows = dict[Key, dict[str, Any]]


def role(set_name: str) -> str:
    """Return the role of a set: search, confirm or simulated."""
    groups = {"search": SEARCH, "confirm": CONFIRM, "simulated": SIMULATED}
    return next(name for name, members in groups.items() if set_name in members)


def summarize(rows: Rows, part: str, methods: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return a row for each set and method, the paired differences and the mean ranks."""
    methods = list(METHODS) if methods is None else methods
    cells = [
        _cell(name, method, fits)
        for name in SETS
        for method in methods
        if (fits := _select(rows, name, part, method))
    ]
    ours = [method for method in OURS if method in methods]
    pairs = [
        pair
        for name in SETS
        for method in ours
        if (pair := difference(rows, cells, name, part, method))
    ]
    return cells + pairs + [row for method in ours for row in overall(cells, method)] + ranks(cells)


def _select(rows: Rows, task: str, part: str, method: str) -> Rows:
    return {
        key: row
        for key, row in rows.items()
        if (key.task, key.part, key.method) == (task, part, method)
    }


def _cell(name: str, method: str, fits: Rows) -> dict[str, Any]:
    """Average over folds and splits for each seed, then over seeds."""
    seeds = sorted({key.seed for key in fits})
    n_folds = next(iter(fits.values()))["n_folds"]
    cell: dict[str, Any] = {
        "what": "scores",
        "task": name,
        "role": role(name),
        "method": method,
        "seeds": seeds,
        "n_fits": len(fits),
        "n_expected": n_folds * len(seeds),
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
    if all("members" in row for row in fits.values()):
        names = dict.fromkeys(name for row in fits.values() for name in row["members"])
        cell["members"] = {
            name: float(np.mean([row["members"].get(name, np.nan) for row in fits.values()]))
            for name in names
        }
    for cost in ("fit_s", "predict_s"):
        cell[cost] = float(np.mean([row[cost] for row in fits.values()]))
    return cell


def difference(
    rows: Rows, cells: list[dict[str, Any]], name: str, part: str, ours: str
) -> dict[str, Any] | None:
    """Compare one of our methods with the best peer on one set by paired differences.

    The interval comes from a bootstrap over folds, or over windows if a set has a single test part.
    Folds of several splits share recordings, so the interval is somewhat too narrow.
    """
    complete = _complete(cells, [name])[name]
    peers = [peer for peer in PEERS if peer in complete]
    if ours not in complete or not peers:
        return None
    best = max(peers, key=lambda peer: complete[peer])
    mine, theirs = _select(rows, name, part, ours), _select(rows, name, part, best)
    if next(iter(mine.values()))["n_folds"] > 1:
        unit, values = "folds", _by_fold(mine) - _by_fold(theirs)
    else:
        unit, values = "windows", _by_window(mine) - _by_window(theirs)
    low, high = bootstrap(values)
    return {
        "what": "difference",
        "task": name,
        "role": role(name),
        "method": ours,
        "peer": best,
        "peers": peers,
        "difference": float(values.mean()),
        "low": low,
        "high": high,
        "unit": unit,
        "n": len(values),
    }


def _complete(cells: list[dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return, for each set, the accuracies of the methods without missing fits."""
    return {
        name: {c["method"]: c["accuracy"] for c in cells if c["task"] == name and c["complete"]}
        for name in names
    }


def _by_fold(fits: Rows) -> NDArray[np.float64]:
    """Return each fold's mean accuracy over seeds, in the order of the folds."""
    folds: dict[tuple[int, int], list[float]] = {}
    for key, row in fits.items():
        folds.setdefault((key.split, key.fold), []).append(row["accuracy"])
    return np.array([np.mean(folds[fold]) for fold in sorted(folds)])


def _by_window(fits: Rows) -> NDArray[np.float64]:
    """Return for each test window the fraction of seeds whose fit classifies it correctly."""
    return np.mean([unpack(row["right"], row["n_test"]) for row in fits.values()], axis=0)


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def overall(cells: list[dict[str, Any]], ours: str) -> list[dict[str, Any]]:
    """Compare our method with each peer by mean accuracy on the real sets that both completed."""
    rows = []
    scores = _complete(cells, [name for name in SETS if name not in SIMULATED]).values()
    for peer in PEERS:
        values = [
            of_set[ours] - of_set[peer] for of_set in scores if ours in of_set and peer in of_set
        ]
        if len(values) > 1:
            rows.append(
                {
                    "what": "overall",
                    "method": ours,
                    "peer": peer,
                    "difference": float(np.mean(values)),
                    "standard_error": float(np.std(values, ddof=1) / np.sqrt(len(values))),
                    "n": len(values),
                }
            )
    return rows


def ranks(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rank the methods on the sets that ours completed, separately for robots and for shapes."""
    rows = []
    for kind, members in (("robots", ROBOTS), ("shapes", SHAPES)):
        scores = {
            name: of_set for name, of_set in _complete(cells, members).items() if OURS[0] in of_set
        }
        ranked = [m for m in METHODS if scores and all(m in of_set for of_set in scores.values())]
        if len(ranked) > 1:
            # equal accuracies get the same rank
            each = [rankdata([-of_set[method] for method in ranked]) for of_set in scores.values()]
            rows += [
                {
                    "what": "rank",
                    "kind": kind,
                    "method": method,
                    "mean_rank": float(value),
                    "n_methods": len(ranked),
                    "tasks": list(scores),
                }
                for method, value in zip(ranked, np.mean(each, axis=0), strict=True)
            ]
    return rows


def incomplete(cells: list[dict[str, Any]]) -> list[str]:
    """Return a line for each set and method with missing fits."""
    return [
        f"{c['task']} {c['method']}: {c['n_fits']} of {c['n_expected']} fits"
        for c in cells
        if c["what"] == "scores" and not c["complete"]
    ]
