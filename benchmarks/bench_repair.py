"""Does `report.probe` repair runs whose settings were drawn at random? Beside simple rules.

    bench_repair.py --borealtc FOLDER --work FILE   # train, probe, fit again; resumes from FILE
    bench_repair.py --table --work FILE             # results/repair.json

Each draw of windows gets a few runs with settings from a wide prior, and the classifier's defaults.
The best of them says what the data allow. A run is sick if it is 5 points less accurate than that
on fresh windows of other groups, which nothing else sees. Its repair is fitted twice, from other
seeds: it is repaired if it comes to within 5 points of the best, improved if it is 5 points more
accurate than before, and harmed if it is 3 points less accurate. The best is the best of eleven
fits, by luck too: its settings fitted again are the ceiling of what repairs.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.results_file import write_results
from fluctuation.faults import draw_settings
from fluctuation.fits import Settings, fit, fit_keywords
from fluctuation.resets import HARMED, all_defaults
from fluctuation.windows import SETS, draw_windows
from verdict.data import Parts, available

FIRST_DRAW, N_DRAWS, N_RUNS, N_PROBED, N_REFITS = 100, 30, 10, 4, 2
BUDGETS = (1.0, 2.0)
SICK, REPAIRED, IMPROVED = 0.05, 0.05, 0.05
LONGEST_FIT_S = 8.0  # longer ones are not probed here


def measure_draw(number: int, borealtc: Path | None) -> list[dict[str, Any]]:
    """Return a row for each run that is probed."""
    parts = draw_windows(number, borealtc)
    rng = np.random.default_rng([5, number])
    drawn = [draw_settings(rng) for _ in range(N_RUNS)]
    levels = [fit(parts, settings, seed).level for seed, settings in enumerate(drawn)]
    levels.append(fit(parts, {}, 0).level)
    drawn.append({})
    best = int(np.argmax(levels))
    # the best of eleven is best by luck as well: what its settings reach again is the ceiling
    ceiling = _mean_level(parts, drawn[best])
    return [
        measure_run(parts, settings, seed, ceiling) | {"draw": number, "best": levels[best]}
        for seed, settings in enumerate(drawn[:N_PROBED])
    ]


def _mean_level(parts: Parts, settings: Settings) -> float:
    return float(np.mean([fit(parts, settings, 900 + k).level for k in range(N_REFITS)]))


def measure_run(parts: Parts, settings: Settings, seed: int, ceiling: float) -> dict[str, Any]:
    """Fit a run, probe it, and fit again with what was adopted and with simple rules."""
    run = fit(parts, settings, seed)
    level, fit_s, report = run.level, run.fit_s, run.classifier.fluctuation_
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

    row["repairs"]["the best settings, fitted again"] = {"level": ceiling, "changed": True}
    defaults = all_defaults(settings)
    rules = {
        "cosine decay": {"lr_schedule": "cosine"},
        "the defaults": defaults,
        "the defaults plus features": defaults | {"features": "auto"},
    }
    for name, change in rules.items():
        level_after = _mean_level(parts, {**settings, **change})
        row["repairs"][name] = {"level": level_after, "changed": True}
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
            "level": _mean_level(parts, {**settings, **change}) if change else level,
            "changed": bool(change),
            "cost": cost,
            "change": change,
        }
    return row


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
