"""Judges every stored run by our verdict and by the rivals' rules, and counts their errors.

Three rows matter: alarms on plain healthy runs, alarms on noisy but normal runs, and alarms on runs
that were made volatile or unable to learn. An alarm is any verdict except ``"normal"``. The oracle,
not the plan, decides whether a planned fault took effect. A fault without effect is counted as
benign, and its run is in no row. Healthy runs that have not clearly learned are also counted, but
only in the row that ends in "or barely".
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from verdict.oracle import find_truth, is_faulty
from verdict.rivals import RIVALS
from verdict.runs import Evidence

from sensorseq.diagnosis.report import FluctuationReport

PLAIN, CONTROL, FAULTY = "plain healthy", "noisy but normal", "made faulty"
OURS, CURVE_ONLY = "ours", "ours, from the curve alone"
# goal: alarms on at most 3 % of plain runs and 8 % of noisy runs, and on at least 95 % of faulty
# runs
LOUD = 0.03  # a movement of the accuracy on fresh windows that nobody would overlook
N_RESAMPLES = 2000


@dataclass(frozen=True)
class JudgedRun:
    """One run in one row: the run's facts, and the judges that raised an alarm.

    Parameters
    ----------
    name, data, kind : str
        Values from the plan.
    row : str
        `PLAIN`, `CONTROL` or `FAULTY`.
    fault : str
        The oracle's verdict on a faulty run, or empty.
    counts : bool
        Whether the run counts in its row. If not, it counts only in the row "or barely".
    verdict : str
        Our verdict.
    alarms : dict of str to bool
        Alarms by judge.
    movement : float
        Movement of the accuracy on fresh windows, as a fraction.
    """

    name: str
    data: str
    kind: str
    row: str
    fault: str
    counts: bool
    verdict: str
    alarms: dict[str, bool]
    movement: float


def wilson(n_alarms: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (E. B. Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(n_alarms, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def cluster_interval(alarms: Sequence[bool], clusters: Sequence[Any]) -> tuple[float, float]:
    """Return the 95 % interval of a rate by resampling complete clusters.

    Runs on one data set with one setting tend to fail together, so they are not independent
    observations. If no run fails or all runs fail, resampling changes nothing, and the interval is
    a point.
    """
    held: dict[Any, list[bool]] = defaultdict(list)
    for alarm, cluster in zip(alarms, clusters, strict=True):
        held[cluster].append(alarm)
    if not held:
        return 0.0, 1.0
    sums = np.array([sum(values) for values in held.values()])
    sizes = np.array([len(values) for values in held.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(N_RESAMPLES, len(sums)))
    rates = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def report_of(run: Evidence, *, curve_only: bool = False) -> FluctuationReport:
    """Judge a run again from its history and record, or from the history alone if `curve_only`."""
    record = None if curve_only else run.record
    return FluctuationReport.from_history(run.rows, record=record, **run.facts)


def judge_runs(runs: Sequence[Evidence]) -> tuple[list[JudgedRun], Counter[str]]:
    """Judge every run; count the runs that belong to no row."""
    truths = {run.plan["name"]: find_truth(run) for run in runs}
    judged, left_out = [], Counter[str]()
    for run in runs:
        plan, truth = run.plan, truths[run.plan["name"]]
        fault, counts = "", truth.clearly_learned
        row = CONTROL if plan["role"] == "control" else PLAIN
        if plan["role"] == "volatile":
            twin = truths.get(plan["twin"])
            fault = is_faulty(truth, twin) if twin is not None else ""
            if not fault:
                left_out[f"benign: {plan['kind']}" if twin else "no twin"] += 1
                continue
            row, counts = FAULTY, True
        elif not truth.beats_guessing:
            left_out[f"{row}: did not learn"] += 1
            continue
        elif not counts:
            left_out[f"{row}: barely learned"] += 1
        report = report_of(run)
        alarms = {
            OURS: report.verdict != "normal",
            CURVE_ONLY: report_of(run, curve_only=True).verdict != "normal",
            **{name: bool(rule(run)) for name, rule in RIVALS.items()},
        }
        judged.append(
            JudgedRun(
                plan["name"],
                plan["data"],
                plan["kind"],
                row,
                fault,
                counts,
                report.verdict,
                alarms,
                truth.movement,
            )
        )
    return judged, left_out


def _row(runs: list[JudgedRun], judge: str, row: str, kind: str) -> dict[str, Any]:
    alarms = [run.alarms[judge] for run in runs]
    low, high = wilson(sum(alarms), len(alarms))
    cluster_low, cluster_high = cluster_interval(alarms, [(run.data, run.kind) for run in runs])
    return {
        "row": row,
        "kind": kind,
        "judge": judge,
        "runs": len(runs),
        "data_sets": len({run.data for run in runs}),
        "alarms": sum(alarms),
        "rate": sum(alarms) / len(alarms),
        "wilson": [low, high],
        "cluster_bootstrap": [cluster_low, cluster_high],
    }


def judge(runs: Sequence[Evidence]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rates by judge and kind, and the runs on which our verdict was wrong."""
    judged, left_out = judge_runs(runs)
    rows = []
    for row in (PLAIN, CONTROL, FAULTY):
        inside = [run for run in judged if run.row == row and run.counts]
        lots = {"all": inside}
        lots |= {kind: [r for r in inside if r.kind == kind] for kind in _sorted(inside, "kind")}
        lots |= {
            f"on {name}": [r for r in inside if r.data == name] for name in _sorted(inside, "data")
        }
        if row == FAULTY:
            loud = [r for r in inside if r.movement >= LOUD]
            lots[f"moves by {100 * LOUD:.0f} points or more"] = loud
            lots |= {
                f"is {name}": [r for r in inside if r.fault == name]
                for name in _sorted(inside, "fault")
            }
        else:
            lots["all, or barely"] = [run for run in judged if run.row == row]
        for kind, lot in lots.items():
            rows += [_row(lot, name, row, kind) for name in (OURS, CURVE_ONLY, *RIVALS) if lot]
    wrong = [
        {
            "row": run.row,
            "name": run.name,
            "kind": run.kind,
            "data": run.data,
            "verdict": run.verdict,
            "fault": run.fault,
            "fresh_accuracy_movement": run.movement,
        }
        for run in judged
        if run.counts and run.alarms[OURS] == (run.row != FAULTY)
    ]
    recorded = sum(run.record is not None for run in runs)
    return rows, {"recorded": recorded, "left_out": dict(sorted(left_out.items())), "wrong": wrong}


def _sorted(runs: list[JudgedRun], name: str) -> list[str]:
    return sorted({getattr(run, name) for run in runs})
