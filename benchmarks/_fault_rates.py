"""Count what was right: causes named, proofs, repairs, and what they cost.

Intervals of rates: E. B. Wilson's of single runs, and a bootstrap over clusters of data set and
cause.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from _fault_answers import NORMAL, is_equivalent, is_right, names_of
from _fault_confidence import confusion, reliability
from _fault_configuration import guess_from_configuration
from _fault_oracle import Outcome, is_harmed, is_repaired
from _fault_plan import causes_of
from _fault_repair import OURS, OURS_UNPROVED
from _fault_seen import Seen, is_nothing, is_single, pairs_of, settle
from _fault_simple_repairs import RIVAL_REPAIRS
from _verdict_rates import N_RESAMPLES, cluster_interval, wilson

STATISTICS, PROBED, QUICK = "ours, statistics", "ours, probes", "ours, quick probes"
CONFIGURATION = "configuration alone"
TOP_1, TOP_2 = "first answer right", "one of the first two right"
NOTHING = "normal answered where nothing is wrong"
FLAGGED = "fault flagged"
PROVED = "proved and right"
REPAIRED, HARMED = "strictly repaired", "harmed by the repair"
MIXED = "both causes of a mixture in the first three"
REPEATED = "same first answer from every seed"
COST = "cost of the probes, in times of the fit"
SAME_ARGUMENTS = "same configuration, healthy and sick told apart"
TARGETS = {
    (TOP_1, STATISTICS): ("at least", 0.65),
    (TOP_2, STATISTICS): ("at least", 0.85),
    (TOP_1, PROBED): ("at least", 0.80),
    (TOP_2, PROBED): ("at least", 0.93),
    (PROVED, PROBED): ("at least", 0.95),
    (REPAIRED, OURS): ("at least", 0.90),
    (HARMED, OURS): ("at most", 0.02),
    (MIXED, PROBED): ("at least", 0.60),
    (REPEATED, STATISTICS): ("at least", 0.90),
}
# No argument makes up for these: the windows, their labels or their split have to change.
NOT_BY_ARGUMENTS = (
    "oversampled",
    "windows too short",
    "labels flipped at random",
    "labels flipped to a neighbour",
    "labels and width",
)


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


def _lots(runs: Sequence[Seen]) -> dict[str, list[Seen]]:
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
    return lots


def _rates(
    row: str, judge: str, runs: Iterable[Seen], hit: Callable[[Seen], bool]
) -> list[dict[str, Any]]:
    found = list(runs)
    return [
        rate_row(row, judge, kind, [hit(run) for run in lot], [run.cluster for run in lot])
        for kind, lot in _lots(found).items()
        if lot
    ]


def _answer_rows(runs: list[Seen], judge: str) -> list[dict[str, Any]]:
    answered = [run for run in runs if judge in run.by]

    def first(n: int) -> Callable[[Seen], bool]:
        return lambda run: is_right(names_of(run.by[judge]), run.right, n)

    named = [run for run in answered if is_single(run)]
    return [
        *_rates(TOP_1, judge, named, first(1)),
        *_rates(TOP_2, judge, named, first(2)),
        *_rates(NOTHING, judge, [run for run in answered if is_nothing(run)], first(1)),
        *_rates(
            MIXED,
            judge,
            [run for run in answered if run.fault and len(causes_of(run.plan)) == 2],
            lambda run: set(causes_of(run.plan)) <= set(names_of(run.by[judge])[:3]),
        ),
    ]


def _outcomes(run: Seen, judge: str) -> list[Outcome] | None:
    """Return what a repair made of the further seeds; None where it changed nothing."""
    assert run.repair is not None
    given = run.repair["repairs"].get(judge, {}).get("outcomes")
    return None if given is None else [Outcome.from_dict(outcome) for outcome in given]


def _repair_rows(runs: list[Seen], seen: Mapping[str, Seen]) -> list[dict[str, Any]]:
    sick = [run for run in runs if run.fault and run.repair is not None]
    # what has no further seeds has nothing to hold a refit against
    sick = [run for run in sick if len(pairs_of(run.plan, seen)) > 1]

    def repaired(run: Seen, judge: str) -> bool:
        outcomes = _outcomes(run, judge)
        twins = [twin for _, twin in pairs_of(run.plan, seen)[1:]]
        return outcomes is not None and is_repaired(list(zip(outcomes, twins, strict=False)))

    def harmed(run: Seen, judge: str) -> bool:
        outcomes = _outcomes(run, judge)
        before = [own for own, _ in pairs_of(run.plan, seen)[1:]]
        return outcomes is not None and is_harmed(list(zip(outcomes, before, strict=False)))

    rows = []
    by_arguments = [run for run in sick if run.plan["kind"] not in NOT_BY_ARGUMENTS]
    for judge in (OURS, OURS_UNPROVED, *RIVAL_REPAIRS):
        served = [run for run in by_arguments if judge in _repairs(run)]
        rows += _rates(REPAIRED, judge, served, lambda run, j=judge: repaired(run, j))
        whole = [run for run in sick if judge in _repairs(run)]
        if whole:
            hits = [repaired(run, judge) for run in whole]
            clusters = [run.cluster for run in whole]
            rows.append(rate_row(REPAIRED, judge, "also where no argument can", hits, clusters))
        changed = [run for run in whole if _outcomes(run, judge) is not None]
        if changed:
            hits = [repaired(run, judge) for run in changed]
            clusters = [run.cluster for run in changed]
            rows.append(rate_row(REPAIRED, judge, "where something was changed", hits, clusters))
        # Harm is counted over every run, changed or not: what is left alone is not harmed.
        rows += _rates(HARMED, judge, whole, lambda run, j=judge: harmed(run, j))
    proofs = [(run, name) for run in sick_or_benign(runs) for name in proved_in(run)]
    hits = [
        is_equivalent(name, causes_of(run.plan)) or (run in sick and repaired(run, OURS))
        for run, name in proofs
    ]
    if proofs:
        rows.append(rate_row(PROVED, PROBED, "all", hits, [run.cluster for run, _ in proofs]))
        strict = [name in causes_of(run.plan) for run, name in proofs]
        clusters = [run.cluster for run, _ in proofs]
        rows.append(rate_row(PROVED, PROBED, "the injected cause itself", strict, clusters))
    return rows


def sick_or_benign(runs: Iterable[Seen]) -> list[Seen]:
    """Return the runs that were probed."""
    return [run for run in runs if run.repair is not None]


def proved_in(run: Seen) -> list[str]:
    """Return the causes that the probes of a run proved."""
    assert run.repair is not None
    causes = run.repair["probes"].get("full", {}).get("causes", [])
    return [cause["name"] for cause in causes if cause["grade"] in ("proved", "repaired")]


def _repairs(run: Seen) -> dict[str, Any]:
    return {} if run.repair is None else run.repair["repairs"]


def _cost_rows(runs: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return median and 95th percentile of what probes cost, in times of the fit."""
    rows = []
    for judge, name in ((PROBED, "full"), (QUICK, "quick")):
        held = [
            (run.repair["probes"][name]["cost"], run.cluster)
            for run in runs
            if run.repair is not None and run.repair["probes"].get(name, {}).get("cost") is not None
        ]
        if not held:
            continue
        costs = np.array([cost for cost, _ in held])
        for share, words in ((0.5, "median"), (0.95, "95th percentile")):
            low, high = cluster_quantile(costs, [cluster for _, cluster in held], share)
            rows.append(
                {
                    "row": COST,
                    "judge": judge,
                    "kind": words,
                    "runs": len(costs),
                    "value": float(np.quantile(costs, share)),
                    "cluster_bootstrap": [low, high],
                }
            )
    return rows


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


def _repeat_rows(runs: list[Seen], seen: Mapping[str, Seen]) -> list[dict[str, Any]]:
    """Return how often every seed of a run is answered the same."""
    lots = []
    for run in runs:
        others = [seen[name] for k in (1, 2, 3, 4) if (name := f"{run.plan['name']}@{k}") in seen]
        if others and run.fault:
            lots.append((run, others))
    same = {
        id(run): all(other.answers[0][0] == run.answers[0][0] for other in others)
        for run, others in lots
    }
    return _rates(REPEATED, STATISTICS, [run for run, _ in lots], lambda run: same[id(run)])


def _same_argument_rows(runs: list[Seen], judge: str) -> list[dict[str, Any]]:
    """Return how often a run is told from one of the same configuration that nothing is wrong with.

    Both were trained on the same set from the same seed; labels, bursts, lengths or units differ.
    Told apart: the sick one is not answered as the healthy one is, and its cause is named.
    """
    healthy: dict[str, Seen] = {}
    for run in runs:
        if is_nothing(run) and not run.fault:
            healthy.setdefault(_configuration(run), run)
    pairs = [
        (run, healthy[key])
        for run in runs
        if run.fault and (key := _configuration(run)) in healthy and judge in run.by
    ]
    told = {
        id(run): run.by[judge][0][0] != calm.by[judge][0][0]
        and is_right(names_of(run.by[judge]), run.right, 1)
        for run, calm in pairs
        if judge in calm.by
    }
    sick = [run for run, _ in pairs if id(run) in told]
    return _rates(SAME_ARGUMENTS, judge, sick, lambda run: told[id(run)])


def _configuration(run: Seen) -> str:
    plan = run.plan
    sizes = [plan[name] for name in ("data", "seed", "n_train", "n_val")]
    return json.dumps([plan["arguments"], sizes], sort_keys=True)


def judge(
    seen: Mapping[str, Seen],
    repairs: Mapping[str, dict[str, Any]],
    calibration: Mapping[str, Seen],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows and what else is to be told.

    Parameters
    ----------
    seen, calibration : mapping of str to Seen
        Runs of the part that is judged and of the other, by name.
    repairs : mapping of str to dict
        What `repair_all` found, by name of the run.
    """
    runs, left_out = settle(seen)
    for run in runs:
        run.by[STATISTICS] = run.answers
        run.repair = repairs.get(run.plan["name"])
        if run.repair is not None:
            for judge_name, budget in ((PROBED, "full"), (QUICK, "quick")):
                probed = run.repair["probes"].get(budget)
                if probed is not None:
                    run.by[judge_name] = [(name, sure) for name, sure in probed["answers"]]
    guess_from_configuration(settle(calibration)[0], runs, CONFIGURATION)
    rows = []
    for judge_name in (STATISTICS, PROBED, QUICK, CONFIGURATION):
        rows += _answer_rows(runs, judge_name)
    rows += _rates(
        FLAGGED, STATISTICS, [run for run in runs if run.fault], lambda r: r.verdict != NORMAL
    )
    rows += _repair_rows(runs, seen) + _cost_rows(runs) + _repeat_rows(runs, seen)
    for judge_name in (STATISTICS, CONFIGURATION):
        rows += _same_argument_rows(runs, judge_name)
    judges = (STATISTICS, PROBED, CONFIGURATION)
    return rows, {
        "left_out": dict(sorted(left_out.items())),
        "came_true": came_true(runs),
        "n_pairs": max((r.manifestation.n_pairs for r in runs if r.manifestation), default=0),
        "confusion": {name: confusion(runs, name) for name in judges},
        "reliability": [reliability(runs, name) for name in judges],
        "wrong": [_told(run) for run in runs if not is_right(names_of(run.answers), run.right, 1)],
    }


def _told(run: Seen) -> dict[str, Any]:
    movement = None if run.manifestation is None else run.manifestation.movement_ratio
    change = None if run.manifestation is None else run.manifestation.accuracy_change
    return {
        "name": run.plan["name"],
        "fault": run.fault,
        "right": sorted(run.right),
        "verdict": run.verdict,
        "answers": [[name, round(sure, 3)] for name, sure in run.answers[:3]],
        "movement_ratio": movement if movement is None or math.isfinite(movement) else None,
        "accuracy_change": change,
    }


def came_true(runs: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """Count the faults of each kind by how they came true."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        if run.manifestation is not None:
            counts[f"{run.plan['cause']}: {run.plan['kind']}"][run.fault or "benign"] += 1
    return {kind: dict(sorted(given.items())) for kind, given in sorted(counts.items())}


def format_rows(rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """Say it in tables."""
    lines = ["\nfaults that came true"]
    for kind, given in facts["came_true"].items():
        lines.append(f"  {kind:58} " + ", ".join(f"{n} {word}" for word, n in given.items()))
    for row in dict.fromkeys(row["row"] for row in rows):
        lines.append(f"\n{row}")
        for held in (r for r in rows if r["row"] == row):
            if held["kind"] != "all" and held["judge"] not in (STATISTICS, PROBED, OURS, QUICK):
                continue
            lines.append(_line(held))
    for held in facts["reliability"]:
        lines.append(
            f"\n{held['judge']}: expected error of confidence {held['expected_error']:.3f}"
            f" over {held['runs']} runs"
        )
    lines.append("\nleft out")
    lines += [f"  {count:4d}  {what}" for what, count in facts["left_out"].items()]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    name = row["judge"] if row["kind"] == "all" else f"  {row['kind']}"
    low, high = row["cluster_bootstrap"]
    if "value" in row:
        return (
            f"  {row['judge']:34} {row['kind']:16} {row['value']:6.2f} [{low:.2f}, {high:.2f}]"
            f" over {row['runs']} runs"
        )
    wanted = TARGETS.get((row["row"], row["judge"])) if row["kind"] == "all" else None
    said = f"; wanted {wanted[0]} {100 * wanted[1]:.0f} %" if wanted else ""
    wilson_low, wilson_high = row["wilson"]
    return (
        f"  {name:36} {row['hits']:4d} of {row['runs']:4d} {100 * row['rate']:6.1f} %"
        f"  [{100 * wilson_low:.1f}, {100 * wilson_high:.1f}]"
        f"  by cluster [{100 * low:.1f}, {100 * high:.1f}]{said}"
    )
