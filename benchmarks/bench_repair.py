"""Compares how often `report.probe`, random search and simple rules repair or harm runs.

    bench_repair.py --borealtc FOLDER --work FILE   # train, probe, fit again; resumes from FILE
    bench_repair.py --table --work FILE             # results/repair.json

Each draw of windows gets six runs with settings from a wide prior, four with settings near tuned
ones, and the classifier's defaults. The level of the best of these runs is the level that the data
allow. Levels are accuracies on fresh windows, which are from other groups and serve no other
purpose. A run is bad if its level is more than 5 points below the best level, and good otherwise.
Each method tries to repair two runs with settings from the wide prior and three with settings near
tuned ones. The resulting settings are fitted twice with other seeds. A run counts as repaired if
the new level is at most 5 points below the best level, and as improved if the new level is more
than 5 points above the run's level. A run counts as harmed if the new level is more than 3 points
below the level of the original settings, fitted with the same two seeds. The best of eleven fits is
partly luck. The best settings are therefore fitted twice more, and their mean level is the upper
limit for repairs.

Random search gets as many seconds as the probe took. It draws settings from the wide prior, with or
without features, and keeps the settings with the best validation accuracy, which may be those of
the run.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.arguments import make_parser
from common.json_lines import append_line, read_lines
from common.results_file import write_results
from diagnosis.faults import draw_settings, draw_short, draw_twin
from diagnosis.fits import Fit, Settings, fit
from diagnosis.resets import HARMED, all_defaults
from diagnosis.score import mcnemar
from diagnosis.windows import SETS, draw_windows
from verdict.data import DrawnParts, available
from verdict.rates import wilson

FIRST_DRAW, N_DRAWS = 300, 40
N_DRAWN, N_TWINS, N_REFITS = 6, 4, 2
N_DRAWN_PROBED, N_TWINS_PROBED = 2, 3
BUDGET = 1.0
SEARCH = "random search"
BAD, REPAIRED, IMPROVED = 0.05, 0.05, 0.05
LONGEST_S = 1.5  # settings are drawn again if a fit would take longer on an idle core


def measure_draw(number: int, borealtc: Path | None) -> list[dict[str, Any]]:
    """Return a row for each run that is probed."""
    parts = draw_windows(number, borealtc)
    rng = np.random.default_rng([5, number])
    n_train, n_steps, _ = parts.train.X.shape
    drawn = [
        draw_short(rng, n_train, n_steps, make, longest_s=LONGEST_S)
        for make in [draw_settings] * N_DRAWN + [draw_twin] * N_TWINS
    ]
    levels = [fit(parts, settings, seed).level for seed, settings in enumerate(drawn)]
    levels.append(fit(parts, {}, 0).level)
    best = int(np.argmax(levels))
    ceiling = _mean_level(parts, [*drawn, {}][best])
    probed = [*range(N_DRAWN_PROBED), *range(N_DRAWN, N_DRAWN + N_TWINS_PROBED)]
    return [
        measure_run(parts, drawn[seed], seed, ceiling) | {"draw": number, "best": levels[best]}
        for seed in probed
    ]


def _mean_level(parts: DrawnParts, settings: Settings) -> float:
    return float(np.mean([fit(parts, settings, 900 + k).level for k in range(N_REFITS)]))


def measure_run(parts: DrawnParts, settings: Settings, seed: int, ceiling: float) -> dict[str, Any]:
    """Fit a run and probe it; fit the settings that the probe adopts and those of simple rules."""
    run = fit(parts, settings, seed)
    report = run.classifier.fluctuation_
    again, defaults = _mean_level(parts, settings), all_defaults(settings)
    repairs: dict[str, Any] = {
        "the run's own settings, fitted again": {"level": again, "changed": False},
        "the best settings, fitted again": {"level": ceiling, "changed": True},
    }

    def add(name: str, change: Mapping[str, Any], **more: Any) -> None:
        level = _mean_level(parts, {**settings, **change}) if change else again
        repairs[name] = {"level": level, "changed": bool(change), "change": change, **more}

    add("the defaults", defaults)
    add("the defaults plus features", defaults | {"features": "auto"})
    started = time.perf_counter()
    change: Settings = {}
    if report.origin is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proof = report.probe(
                parts.train.X, parts.train.y, **parts.of_fit, budget=BUDGET, verbose=0
            )
        change = dict(proof.probes.repair)
    seconds = time.perf_counter() - started
    cost = seconds / max(run.fit_s, 1.0)
    add("probe", change, cost=cost)
    settings_found, n_tried = search(parts, run, seconds, seed)
    add(SEARCH, settings_found, cost=cost, n_tried=n_tried)
    return {
        "settings": settings,
        "level": run.level,
        "again": again,
        "fit_s": run.fit_s,
        "verdict": report.verdict,
        "repairs": repairs,
    }


def search(parts: DrawnParts, run: Fit, seconds: float, seed: int) -> tuple[Settings, int]:
    """Draw settings for this number of seconds; return the best and the number of trials."""
    rng = np.random.default_rng([6, seed, len(parts.train)])
    ends, best, n_tried = time.perf_counter() + seconds, _seen(run, parts), 0
    best_settings: Settings = {}
    n_train, n_steps, _ = parts.train.X.shape
    while time.perf_counter() < ends:
        settings = draw_short(rng, n_train, n_steps, draw_settings, longest_s=LONGEST_S)
        settings["features"] = [None, "auto"][rng.integers(2)]
        score = _seen(fit(parts, settings, 500 + n_tried, judged=False), parts)
        n_tried += 1
        if score > best:
            best, best_settings = score, settings
    return best_settings, n_tried


def _seen(run: Fit, parts: DrawnParts) -> float:
    """Return the validation accuracy, which is all that a user knows; 0 for a diverged run."""
    if not hasattr(run.classifier, "module_"):
        return 0.0
    predicted = run.classifier.predict(parts.validation.X, parts.validation.lengths)
    return float(np.mean(predicted == parts.validation.y))


def summarize(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line of the table for each repair method."""
    return [_line(name, rows) for name in rows[0]["repairs"]] if rows else []


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bad = [row for row in rows if row["level"] < row["best"] - BAD]
    good = [row for row in rows if row["level"] >= row["best"] - BAD]

    def share(of: Sequence[Mapping[str, Any]], holds: Callable[[float, Any], bool]) -> list[int]:
        return [sum(holds(row["repairs"][name]["level"], row) for row in of), len(of)]

    def is_harmed(level: float, row: Any) -> bool:
        return level < row["again"] - HARMED

    def mean(levels: list[float]) -> float | None:
        return float(np.mean(levels)) if levels else None

    def repairs(level: float, row: Any) -> bool:
        return bool(level >= row["best"] - REPAIRED)

    def each(which: str) -> list[bool]:
        return [repairs(row["repairs"][which]["level"], row) for row in bad]

    costs = [row["repairs"][name]["cost"] for row in rows if "cost" in row["repairs"][name]]
    repaired = share(bad, repairs)
    return {
        "repair": name,
        "repaired": repaired,
        "wilson": list(wilson(*repaired)) if bad else None,
        "p": mcnemar(each(name), each(SEARCH)) if SEARCH in rows[0]["repairs"] else None,
        "improved": share(bad, lambda level, row: level > row["level"] + IMPROVED),
        "bad_harmed": share(bad, is_harmed),
        "good_harmed": share(good, is_harmed),
        "good_changed": [sum(row["repairs"][name]["changed"] for row in good), len(good)],
        "good_gain": mean([row["repairs"][name]["level"] - row["again"] for row in good]),
        "accuracy_before": mean([row["level"] for row in bad]),
        "accuracy_after": mean([row["repairs"][name]["level"] for row in bad]),
        "accuracy_best": mean([row["best"] for row in bad]),
        "cost_median": float(np.median(costs)) if costs else None,
    }


def read(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of each draw."""
    return {rows[0]["draw"]: rows for rows in read_lines(path)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run draws, or write the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument(
        "--work", type=Path, required=True, help="file of the rows, one line per draw"
    )
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument("--table", action="store_true", help="run nothing; write the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows_by_draw = read(options.work)
    for number in range(FIRST_DRAW, FIRST_DRAW + options.draws):
        name = SETS[number % len(SETS)]
        if options.table or number in rows_by_draw:
            continue
        if reason := available(name, options.borealtc):
            print(f"left out: {name}: {reason}", file=sys.stderr)
            continue
        rows = [row | {"data": name} for row in measure_draw(number, options.borealtc)]
        append_line(options.work, rows)
        rows_by_draw[number] = rows
        levels = ", ".join(f"{row['level']:.2f} of {row['best']:.2f}" for row in rows)
        print(f"{number} {name}: {levels}", file=sys.stderr, flush=True)
    rows = [row for of_draw in rows_by_draw.values() for row in of_draw]
    for line in summarize(rows):
        print(json.dumps(line))
    facts = {"draws": sorted(rows_by_draw), "data": sorted({row["data"] for row in rows})}
    write_results("repair", summarize(rows), partial=not options.table, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
