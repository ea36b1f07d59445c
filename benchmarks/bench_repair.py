"""Does `report.probe` repair runs whose settings were drawn at random? Beside simple rules.

    bench_repair.py --borealtc FOLDER --work FILE   # train, probe, fit again; resumes from FILE
    bench_repair.py --table --work FILE             # results/repair.json

Each draw of windows gets a few runs with settings from a wide prior, and the classifier's defaults.
The best of them says what the data allow. A run is sick if it is 5 points less accurate than that
on fresh windows of other groups, which nothing else sees. Its repair is fitted twice, from other
seeds: it is repaired if it comes to within 5 points of the best, improved if it is 5 points more
accurate than before, and harmed if it is 3 points less accurate.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.results_file import write_results
from fluctuation.runs import FreshWatch, fit_keywords
from verdict.data import GENERATED, MEASURED, Parts, available, draw

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import DivergedError

SETS = (*MEASURED, *GENERATED)
FIRST_DRAW, N_DRAWS, N_RUNS, N_PROBED, N_REFITS = 100, 30, 10, 4, 2
BUDGETS = (1.0, 2.0)
SICK, REPAIRED, IMPROVED, HARMED = 0.05, 0.05, 0.05, 0.03
LONGEST_FIT_S = 8.0  # longer ones are not probed here
DEFAULTS = SensorLSTMClassifier().get_params(deep=False)
# What surrounds the settings is the same for all: one network, its last weights, on the CPU.
FIXED = {
    "features": None,
    "refit": None,
    "early_stopping": False,
    "restore_best": False,
    "device": "cpu",
}
Rng = np.random.Generator
Settings = dict[str, Any]


def draw_settings(rng: Rng) -> Settings:
    """Draw settings as people try them, good and bad."""

    def pick(values: Sequence[Any], shares: Sequence[float]) -> Any:
        return values[rng.choice(len(values), p=shares)]

    optimizer = pick(["adam", "rmsprop", "sgd", "adamw"], [0.45, 0.2, 0.15, 0.2])
    low, high = (-3.0, 0.5) if optimizer == "sgd" else (-4.5, -0.7)
    settings = {
        "optimizer": optimizer,
        "learning_rate": float(f"{10 ** rng.uniform(low, high):.3g}"),
        "batch_size": pick(
            [1, 2, 4, 8, 16, 32, 64, 128, None],
            [0.03, 0.04, 0.08, 0.1, 0.2, 0.3, 0.1, 0.08, 0.07],
        ),
        "hidden_size": round(2 ** rng.uniform(1, 7)),
        "num_layers": pick([1, 2, 3], [0.75, 0.18, 0.07]),
        "lr_schedule": pick(["constant", "cosine", "plateau", "one_cycle"], [0.6, 0.25, 0.1, 0.05]),
        "max_grad_norm": pick([None, 1.0, 0.1], [0.5, 0.4, 0.1]),
        "dropout": pick([0.0, 0.2, 0.5, 0.8], [0.5, 0.25, 0.2, 0.05]),
        "weight_decay": pick([0.0, 1e-4, 1e-2, 0.3], [0.5, 0.25, 0.2, 0.05]),
        "scale": pick([None, "standard", "robust", "min_max"], [0.3, 0.5, 0.1, 0.1]),
        "weight_init": pick(["xavier", "uniform", "he", "orthogonal"], [0.5, 0.3, 0.1, 0.1]),
        "recurrent_init": pick(["orthogonal", "uniform", "xavier"], [0.5, 0.3, 0.2]),
        "forget_bias": pick([0.0, 1.0], [0.5, 0.5]),
        "pooling": pick(["last", "mean", "meanmax"], [0.4, 0.3, 0.3]),
        "loss": pick(["cross_entropy", "focal", "mse"], [0.85, 0.07, 0.08]),
        "warmup_epochs": 0,
        "max_epochs": round(10 ** rng.uniform(1.3, 2.0)),
    }
    if optimizer == "sgd":
        settings["momentum"] = pick([0.0, 0.9, 0.99], [0.3, 0.6, 0.1])
    return settings


def draw_windows(number: int, borealtc: Path | None) -> Parts:
    """Draw windows of a set, in units of a user's own."""
    rng = np.random.default_rng([77, number])
    n_train, n_val = round(10 ** rng.uniform(1.8, 2.6)), round(10 ** rng.uniform(1.3, 2.1))
    parts = draw(SETS[number % len(SETS)], 1000 + number, n_train, n_val, borealtc=borealtc)
    factor, offset = rng.choice([1.0, 1.0, 30.0, 0.03]), rng.choice([0.0, 0.0, 0.0, 10.0])
    sd = parts.train.X.std()
    return Parts(
        *(
            replace(part, X=np.float32(factor) * (part.X + np.float32(offset * sd)))
            for part in (parts.train, parts.validation, parts.fresh)
        )
    )


def fit(parts: Parts, settings: Mapping[str, Any], seed: int) -> tuple[float, Any, float]:
    """Fit; return the accuracy on fresh windows (median of the last third), the fit, its time."""
    watch = FreshWatch(parts, 1)
    clf = SensorLSTMClassifier(**{**FIXED, **settings}, random_state=seed, callbacks=[watch])
    watch.classifier = clf
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clf.fit(parts.train.X, parts.train.y, **fit_keywords(parts))
        except DivergedError:
            return 0.0, clf, time.perf_counter() - started
    accuracy = np.array(watch.figures["accuracy"])
    level = float(np.median(accuracy[-max(len(accuracy) // 3, 1) :]))
    return level, clf, time.perf_counter() - started


def measure_draw(number: int, borealtc: Path | None) -> list[dict[str, Any]]:
    """Return a row for each run that is probed."""
    parts = draw_windows(number, borealtc)
    rng = np.random.default_rng([5, number])
    drawn = [draw_settings(rng) for _ in range(N_RUNS)]
    levels = [fit(parts, settings, seed)[0] for seed, settings in enumerate(drawn)]
    best = max(*levels, fit(parts, {}, 0)[0])
    return [
        measure_run(parts, settings, seed) | {"draw": number, "best": best}
        for seed, settings in enumerate(drawn[:N_PROBED])
    ]


def measure_run(parts: Parts, settings: Settings, seed: int) -> dict[str, Any]:
    """Fit a run, probe it, and fit again with what was adopted and with simple rules."""
    level, clf, fit_s = fit(parts, settings, seed)
    report = clf.fluctuation_
    row: dict[str, Any] = {
        "data": SETS[0],
        "settings": settings,
        "level": level,
        "fit_s": fit_s,
        "verdict": report.verdict,
        "repairs": {},
    }
    if fit_s > LONGEST_FIT_S or report.origin is None:
        return row

    def again(change: Mapping[str, Any]) -> float:
        merged = {**settings, **change}
        if merged["optimizer"] != "sgd":
            merged.pop("momentum", None)
        return float(np.mean([fit(parts, merged, 900 + k)[0] for k in range(N_REFITS)]))

    rules = {"cosine decay": {"lr_schedule": "cosine"}, "the defaults": _defaults(settings)}
    for name, change in rules.items():
        row["repairs"][name] = {"level": again(change), "changed": True}
    for budget in BUDGETS:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proof = report.probe(
                parts.train.X, parts.train.y, **fit_keywords(parts), budget=budget, verbose=0
            )
        cost = (time.perf_counter() - started) / max(fit_s, 1.0)
        change = dict(proof.probes.repair)
        row["repairs"][f"probe, budget {budget:g}"] = {
            "level": again(change) if change else level,
            "changed": bool(change),
            "cost": cost,
            "change": change,
        }
    return row


def _defaults(settings: Settings) -> Settings:
    return {
        name: DEFAULTS[name] for name in (*settings, "clip_by", "momentum") if name != "max_epochs"
    }


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each repair."""
    probed = [row for row in rows if row["repairs"]]
    names = list(dict.fromkeys(name for row in probed for name in row["repairs"]))
    return [_line(name, probed) for name in names]


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sick = [row for row in rows if row["level"] < row["best"] - SICK]
    well = [row for row in rows if row["level"] >= row["best"] - SICK]

    def share(of: Sequence[Mapping[str, Any]], holds: Callable[[float, Any], bool]) -> list[int]:
        return [sum(holds(row["repairs"][name]["level"], row) for row in of), len(of)]

    costs = [row["repairs"][name].get("cost") for row in rows]
    return {
        "repair": name,
        "repaired": share(sick, lambda level, row: level >= row["best"] - REPAIRED),
        "improved": share(sick, lambda level, row: level > row["level"] + IMPROVED),
        "harmed": share(rows, lambda level, row: level < row["level"] - HARMED),
        "well_changed": [sum(row["repairs"][name]["changed"] for row in well), len(well)],
        "accuracy_before": float(np.mean([row["level"] for row in sick])) if sick else None,
        "accuracy_after": float(np.mean([row["repairs"][name]["level"] for row in sick]))
        if sick
        else None,
        "accuracy_best": float(np.mean([row["best"] for row in sick])) if sick else None,
        "cost_median": float(np.median(costs)) if None not in costs else None,
    }


def read(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of each draw; a line that was cut off is ignored."""
    found: dict[int, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows = json.loads(line)
        except ValueError:
            continue
        found[rows[0]["draw"]] = rows
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run draws, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--work", type=Path, required=True, help="rows, a line for each draw")
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument("--table", action="store_true", help="run nothing; write the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = read(options.work)
    for number in range(FIRST_DRAW, FIRST_DRAW + options.draws):
        name = SETS[number % len(SETS)]
        if options.table or number in known:
            continue
        if reason := available(name, options.borealtc):
            print(f"left out: {name}: {reason}", file=sys.stderr)
            continue
        rows = [row | {"data": name} for row in measure_draw(number, options.borealtc)]
        with options.work.open("a") as file:
            file.write("\n" + json.dumps(rows) + "\n")  # after a line that was cut off
        known[number] = rows
        levels = ", ".join(f"{row['level']:.2f} of {row['best']:.2f}" for row in rows)
        print(f"{number} {name}: {levels}", file=sys.stderr, flush=True)
    rows = [row for of_draw in known.values() for row in of_draw]
    for line in summarise(rows):
        print(json.dumps(line))
    facts = {"draws": sorted(known), "data": sorted({row["data"] for row in rows})}
    write_results("repair", summarise(rows), partial=not options.table, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
