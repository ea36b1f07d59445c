"""Measures how often verdicts of sensorseq, AutoTrainer and UMLAUT on training curves are wrong.

    bench_verdict.py run --borealtc FOLDER   # train about 900 runs; half an hour on one core
    bench_verdict.py judge                   # rates: results/verdict.json
    bench_verdict.py calibrate               # quantiles: results/verdict_calibration.json
    bench_verdict.py --quick                 # all three on a few small runs

`run` writes one file per run and skips existing files, so it can be stopped and restarted at any
time. `judge` and `calibrate` train nothing.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.arguments import make_parser
from common.measured_code import MeasuredCode
from common.results_file import begin, write_results
from readme_table import verdict_table
from verdict import calibrate as verdict_calibrate
from verdict import rates as verdict_rates
from verdict.data import available
from verdict.plan import make_plans
from verdict.runs import Evidence, Plan, load, save, train

FOLDER = Path(__file__).resolve().parents[1] / "build" / "verdict"
PARTS = ("calibration", "test")
STEPS = ("run", "calibrate", "judge")


def run(plans: list[Plan], folder: Path, borealtc: Path | None, code: MeasuredCode) -> int:
    """Train the missing runs; return how many were trained."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {data: available(data, borealtc) for data in {plan.data for plan in plans}}
    for data, reason in reasons.items():
        if reason:
            print(f"left out: {data}: {reason}", file=sys.stderr)
    mine = [plan for plan in plans if not reasons[plan.data]]
    todo = [plan for plan in mine if not (folder / f"{plan.name}.npz").exists()]
    print(f"{len(mine)} runs, {len(mine) - len(todo)} of them exist already", file=sys.stderr)
    started = time.perf_counter()
    for count, plan in enumerate(todo, 1):
        before = time.perf_counter()
        try:
            evidence = replace(train(plan, borealtc), stamp=code.stamp())
            save(evidence, folder / f"{plan.name}.npz")
        except KeyboardInterrupt:
            print("\nstopped; finished runs are kept; start again to continue", file=sys.stderr)
            return count - 1
        now = time.perf_counter()
        left_min = (now - started) / count * (len(todo) - count) / 60
        print(
            f"[{count}/{len(todo)}] {plan.role} {plan.name}: {now - before:.1f} s,"
            f" {left_min:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
    return len(todo)


def read(plans: list[Plan], folder: Path) -> list[Evidence]:
    """Return the existing runs, in order."""
    paths = [folder / f"{plan.name}.npz" for plan in plans]
    return [load(path) for path in paths if path.exists()]


def conclude(
    table: str, plans: list[Plan], folder: Path, work: Any, code: MeasuredCode, *, partial: bool
) -> None:
    """Compute a table from the existing runs, print it, and write it if no run is missing."""
    evidence = read(plans, folder)
    rows, facts = work(evidence)
    if table == "verdict":
        print(verdict_table({"rows": rows}))
    else:
        print(*map(json.dumps, rows), sep="\n")
    print(json.dumps(facts, indent=1))
    facts |= {"numpy": np.__version__, "runs_planned": len(plans), "runs_judged": len(evidence)}
    partial = partial or len(evidence) < len(plans)
    # the runs were trained by the code of their evidence and judged by this code
    measured = [*(of.stamp for of in evidence), code.stamp()]
    write_results(table, rows, code=code, partial=partial, measured=measured, **facts)


def main() -> int:
    """Run the selected steps."""
    parser = make_parser(__doc__)
    parser.add_argument("what", nargs="*", choices=[*STEPS, "all"], default="all")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all", help="which runs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where runs are kept")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--quick", action="store_true", help="a few runs; nothing is written")
    options = parser.parse_args()
    what = STEPS if "all" in options.what else options.what
    code = begin(__file__, partial=options.quick)
    torch.set_num_threads(1)  # with small models, a second thread mostly waits
    parts = PARTS if options.part == "all" else (options.part,)
    folder = options.folder / "quick" if options.quick else options.folder
    plans = {part: make_plans(part, quick=options.quick) for part in PARTS}
    if "run" in what:
        run([p for part in parts for p in plans[part]], folder, options.borealtc, code)
    if "calibrate" in what:
        work, part = verdict_calibrate.calibrate, "calibration"
        conclude("verdict_calibration", plans[part], folder, work, code, partial=options.quick)
    if "judge" in what:
        # Quote only rates on the test part: the thresholds were chosen on the calibration part.
        part = "calibration" if options.part == "calibration" else "test"
        partial = options.quick or part != "test"
        conclude("verdict", plans[part], folder, verdict_rates.judge, code, partial=partial)
    return 0


if __name__ == "__main__":
    sys.exit(main())
