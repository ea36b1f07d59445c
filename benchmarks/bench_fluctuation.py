"""Is the cause of a fluctuating training named, proved and repaired? Injected faults and twins.

    bench_fluctuation.py run --borealtc FOLDER    # train calibration and test, twins and repeats
    bench_fluctuation.py repair --borealtc FOLDER # probe the test's sick runs, apply, fit anew
    bench_fluctuation.py rivals --borealtc FOLDER # repair the same by simple rules
    bench_fluctuation.py judge                    # the test: results/fluctuation.json
    bench_fluctuation.py calibrate                # the other: results/fluctuation_calibration.json
    bench_fluctuation.py --quick                  # all five on a few small runs, under 10 minutes

`run`, `repair` and `rivals` keep one file for each run and skip those they find: stop them at any
time, start them again, or start several with ``--shard 1/2`` and ``--shard 2/2`` on one folder. To
probe again after a change, delete the ``*.repair.json``: simple rules come to the same without.
`judge` and `calibrate` train nothing.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_verdict import read_shard
from common.results_file import write_results
from fluctuation.answers import NORMAL
from fluctuation.plan import N_REPEATS, FaultPlan, make_plans, shard_of
from fluctuation.rates import judge
from fluctuation.repair import repair
from fluctuation.rivals import repair_simply
from fluctuation.runs import load, repeated, save, train
from fluctuation.seen import Seen, see, settle
from fluctuation.table import format_rows
from verdict.data import available

from sensorseq.benchmark import environment

FOLDER = Path(__file__).resolve().parents[1] / "build" / "fluctuation"
PARTS = ("calibration", "test")
STEPS = ("run", "repair", "rivals", "calibrate", "judge")
QUICK_REPEATS = 2


def with_repeats(plans: Sequence[FaultPlan], n_repeats: int) -> list[FaultPlan]:
    """Return the plans, and after each of the test's that is injected or a twin its other seeds."""
    twins = {plan.twin for plan in plans}
    whole = []
    for plan in plans:
        whole.append(plan)
        if plan.part == "test" and (plan.twin or plan.name in twins):
            whole += [repeated(plan, repeat) for repeat in range(1, n_repeats)]
    return whole


def _go_through(
    plans: Sequence[FaultPlan],
    path_of: Callable[[FaultPlan], Path],
    make: Callable[[FaultPlan, Path], None],
) -> int:
    """Make what is not there yet; return how many were made."""
    todo = [plan for plan in plans if not path_of(plan).exists()]
    print(f"{len(plans)} runs, {len(plans) - len(todo)} of them there already", file=sys.stderr)
    started = time.perf_counter()
    for count, plan in enumerate(todo, 1):
        before = time.perf_counter()
        try:
            make(plan, path_of(plan))
        except KeyboardInterrupt:
            print("\nstopped; what is there is kept, start again to go on", file=sys.stderr)
            return count - 1
        now = time.perf_counter()
        left_min = (now - started) / count * (len(todo) - count) / 60
        print(
            f"[{count}/{len(todo)}] {plan.name}: {now - before:.1f} s, {left_min:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
    return len(todo)


def _served(plans: Sequence[FaultPlan], borealtc: Path | None) -> list[FaultPlan]:
    """Return the runs whose data can be read here; say which cannot."""
    reasons = {data: available(data, borealtc) for data in {plan.data for plan in plans}}
    for data, reason in sorted(reasons.items()):
        if reason:
            print(f"left out: {data}: {reason}", file=sys.stderr)
    return [plan for plan in plans if not reasons[plan.data]]


def run(plans: Sequence[FaultPlan], folder: Path, borealtc: Path | None) -> int:
    """Train what is not there yet; return how many were trained."""
    folder.mkdir(parents=True, exist_ok=True)

    def make(plan: FaultPlan, path: Path) -> None:
        save(train(plan, borealtc), path)

    return _go_through(_served(plans, borealtc), lambda plan: folder / f"{plan.name}.npz", make)


def asked(
    plans: Sequence[FaultPlan], folder: Path, borealtc: Path | None, n_repeats: int
) -> dict[str, tuple[FaultPlan, int, bool]]:
    """Return what is to be probed: runs that are sick, called so, or said to have a cause.

    Of runs that are not sick it is asked whether something is proved all the same, and whether
    what is done about it harms.

    Returns
    -------
    dict of str to (FaultPlan, int, bool)
        By name: the run, from how many seeds there are pairs, whether it is sick.
    """
    seen = read(with_repeats(plans, n_repeats), folder)
    settled, _ = settle(seen)
    sick = {
        run.plan["name"]: bool(run.fault)
        for run in settled
        if (run.fault or run.answers[0][0] != NORMAL) and "n_cycles" not in run.plan["change"]
    }
    return {
        plan.name: (plan, n_repeats if f"{plan.name}@1" in seen else 1, sick[plan.name])
        for plan in _served(plans, borealtc)
        if plan.name in sick
    }


def repair_all(
    plans: Sequence[FaultPlan], folder: Path, borealtc: Path | None, n_repeats: int
) -> int:
    """Probe and repair what is asked for and not there yet; return how many."""
    runs = asked(plans, folder, borealtc, n_repeats)

    def make(plan: FaultPlan, path: Path) -> None:
        _write(repair(plan, runs[plan.name][1], borealtc), path)

    todo = [plan for plan, _, _ in runs.values()]
    return _go_through(todo, lambda plan: folder / f"{plan.name}.repair.json", make)


def rivals(plans: Sequence[FaultPlan], folder: Path, borealtc: Path | None, n_repeats: int) -> int:
    """Repair what is sick, and not there yet, by simple rules; return how many."""
    runs = asked(plans, folder, borealtc, n_repeats)

    def make(plan: FaultPlan, path: Path) -> None:
        evidence = load(folder / f"{plan.name}.npz")
        _write(repair_simply(plan, evidence, runs[plan.name][1], borealtc), path)

    todo = [plan for plan, _, is_sick in runs.values() if is_sick]
    return _go_through(todo, lambda plan: folder / f"{plan.name}.rivals.json", make)


def _write(found: dict[str, Any], path: Path) -> None:
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        beside.write_text(json.dumps(found, indent=1) + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(plans: Sequence[FaultPlan], folder: Path) -> dict[str, Seen]:
    """Return the runs that are there, judged, by name."""
    paths = {plan.name: folder / f"{plan.name}.npz" for plan in plans}
    return {name: see(path) for name, path in paths.items() if path.exists()}


def read_repairs(plans: Sequence[FaultPlan], folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `repair` and `rivals` left, by name of the run."""
    repairs = {}
    for plan in plans:
        path, beside = (folder / f"{plan.name}.{kind}.json" for kind in ("repair", "rivals"))
        if path.exists():
            found = json.loads(path.read_text())
            found["repairs"] |= json.loads(beside.read_text()) if beside.exists() else {}
            repairs[plan.name] = found
    return repairs


def _facts(n_planned: int, n_read: int, n_repaired: int) -> dict[str, object]:
    return environment() | {
        "numpy": np.__version__,
        "runs_planned": n_planned,
        "runs_judged": n_read,
        "runs_probed": n_repaired,
    }


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="*", choices=[*STEPS, "all"], default="all")
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all", help="which runs")
    parser.add_argument("--shard", type=read_shard, default=(1, 1), help="i/n: every n-th lot")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where runs are kept")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--quick", action="store_true", help="a few runs, results not written")
    options = parser.parse_args()
    what = STEPS if "all" in options.what else options.what
    torch.set_num_threads(1)  # small models: a second thread waits more than it works
    parts = PARTS if options.part == "all" else (options.part,)
    folder = options.folder / "quick" if options.quick else options.folder
    n_repeats = QUICK_REPEATS if options.quick else N_REPEATS
    plans = {part: make_plans(part, quick=options.quick) for part in PARTS}
    for part in parts:
        mine = shard_of(plans[part], *options.shard)
        if "run" in what:
            run(with_repeats(mine, n_repeats), folder / part, options.borealtc)
        if "repair" in what and part == "test":
            repair_all(mine, folder / part, options.borealtc, n_repeats)
        if "rivals" in what and part == "test":
            rivals(mine, folder / part, options.borealtc, n_repeats)
    for step, part in (("calibrate", "calibration"), ("judge", "test")):
        if step not in what:
            continue
        seen = read(with_repeats(plans[part], n_repeats), folder / part)
        repairs = read_repairs(plans[part], folder / part)
        other = read(plans["calibration"], folder / "calibration") if part == "test" else {}
        rows, facts = judge(seen, repairs, other)
        print(format_rows(rows, facts))
        n_read = sum(not held.plan["repeat"] for held in seen.values())
        write_results(
            "fluctuation" if part == "test" else "fluctuation_calibration",
            rows,
            partial=options.quick or n_read < len(plans[part]),
            facts=_facts(len(plans[part]), n_read, len(repairs)),
            **facts,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
