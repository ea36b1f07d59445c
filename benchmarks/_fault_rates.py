"""Count what was right: causes named, proofs, repairs, and what they cost.

A run is judged by its first seed; the oracle looks at every seed. Injected faults that did not come
true are benign, and normal is the right answer on them. What shows in the curve alone (few or
shifted validation windows, dropout) is answered right by its name and by normal. Intervals of
rates: E. B. Wilson's of single runs, and a bootstrap over clusters of data set and cause.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _fault_answers import (
    NORMAL,
    OF_THE_CURVE,
    answers_of,
    is_equivalent,
    is_right,
    report_of,
    right_answers,
)
from _fault_configuration import ConfigurationGuess, features_of
from _fault_oracle import Manifestation, Outcome, find_outcome, is_harmed, is_repaired, manifested
from _fault_plan import causes_of
from _fault_repair import OURS, OURS_UNPROVED, RIVAL_REPAIRS
from _fault_runs import load
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
BIN_EDGES = np.linspace(0.0, 1.0, 11)


@dataclass(eq=False)
class Seen:
    """One run, its outcome, and what was answered on it.

    Parameters
    ----------
    plan, facts : dict
        As in its evidence.
    outcome : Outcome
        On the fresh part.
    verdict : str
        Ours.
    answers : list of (str, float)
        Ours, from statistics, likeliest first.
    """

    plan: dict[str, Any]
    facts: dict[str, Any]
    outcome: Outcome
    verdict: str
    answers: list[tuple[str, float]]
    manifestation: Manifestation | None = None
    right: frozenset[str] = frozenset()
    by: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    repair: dict[str, Any] | None = None

    @property
    def cluster(self) -> tuple[str, str]:
        """Data set and cause, or what it is instead of having one."""
        return self.plan["data"], self.plan["cause"] or self.plan["kind"]

    @property
    def fault(self) -> str:
        """How a fault came true; empty where none did."""
        return "" if self.manifestation is None else self.manifestation.fault


def see(path: Path) -> Seen:
    """Read one run and judge it."""
    run = load(path)
    report = report_of(run)
    return Seen(run.plan, run.facts, find_outcome(run), report.verdict, answers_of(report))


def pairs_of(plan: Mapping[str, Any], seen: Mapping[str, Seen]) -> list[tuple[Outcome, Outcome]]:
    """Return outcomes of a run and its twin from every seed that is there, the first one first."""
    pairs = []
    repeat = 0
    while True:
        behind = f"@{repeat}" if repeat else ""
        run, twin = seen.get(plan["name"] + behind), seen.get(plan["twin"] + behind)
        if run is None or twin is None:
            return pairs
        pairs.append((run.outcome, twin.outcome))
        repeat += 1


def settle(seen: Mapping[str, Seen]) -> tuple[list[Seen], Counter[str]]:
    """Say of every judged run what is right to answer; leave out those that nothing can be said of.

    Left out are injected runs whose twin is missing or has not clearly learned, and healthy runs
    and controls that have not.
    """
    settled, left_out = [], Counter[str]()
    for run in seen.values():
        if run.plan["repeat"]:
            continue
        if run.plan["role"] == "volatile":
            pairs = pairs_of(run.plan, seen)
            if not pairs or not pairs[0][1].truth.clearly_learned:
                left_out["injected: twin is missing or did not learn"] += 1
                continue
            run.manifestation = manifested(pairs)
        elif not run.outcome.truth.clearly_learned:
            left_out[f"{run.plan['role']}: did not clearly learn"] += 1
            continue
        run.right = right_answers(run.plan, run.fault)
        run.by = {STATISTICS: run.answers}
        settled.append(run)
    return settled, left_out


def is_of_the_curve(run: Seen) -> bool:
    """Tell whether what is injected shows in a curve alone."""
    return bool(set(causes_of(run.plan)) & set(OF_THE_CURVE))


def is_single(run: Seen) -> bool:
    """Tell whether a cause is to be named: one fault that came true, or one of the curve."""
    n_causes = len(causes_of(run.plan))
    return n_causes == 1 and (bool(run.fault) or is_of_the_curve(run))


def is_nothing(run: Seen) -> bool:
    """Tell whether normal alone is right."""
    return run.right == {NORMAL}


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


def _names(answers: Sequence[tuple[str, float]]) -> list[str]:
    return [name for name, _ in answers]


def _answer_rows(runs: list[Seen], judge: str) -> list[dict[str, Any]]:
    answered = [run for run in runs if judge in run.by]

    def first(n: int) -> Callable[[Seen], bool]:
        return lambda run: is_right(_names(run.by[judge]), run.right, n)

    named = [run for run in answered if is_single(run)]
    return [
        *_rates(TOP_1, judge, named, first(1)),
        *_rates(TOP_2, judge, named, first(2)),
        *_rates(NOTHING, judge, [run for run in answered if is_nothing(run)], first(1)),
        *_rates(
            MIXED,
            judge,
            [run for run in answered if run.fault and len(causes_of(run.plan)) == 2],
            lambda run: set(causes_of(run.plan)) <= set(_names(run.by[judge])[:3]),
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
                    "row": "cost of the probes, in times of the fit",
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
        and is_right(_names(run.by[judge]), run.right, 1)
        for run, calm in pairs
        if judge in calm.by
    }
    sick = [run for run, _ in pairs if id(run) in told]
    return _rates(SAME_ARGUMENTS, judge, sick, lambda run: told[id(run)])


def _configuration(run: Seen) -> str:
    plan = run.plan
    sizes = [plan[name] for name in ("data", "seed", "n_train", "n_val")]
    return json.dumps([plan["arguments"], sizes], sort_keys=True)


def reliability(runs: Sequence[Seen], judge: str) -> dict[str, Any]:
    """Return how often first answers of some confidence are right, and the expected error.

    Of runs on which a cause is answered. The error is the mean over them of the distance between
    confidence and rate of their bin (M. P. Naeini et al., *Obtaining Well Calibrated Probabilities
    Using Bayesian Binning*, 2015), ten bins of equal width.
    """
    first = [
        (run.by[judge][0][1], is_right(_names(run.by[judge]), run.right, 1))
        for run in runs
        if judge in run.by and run.by[judge][0][0] != NORMAL and len(causes_of(run.plan)) < 2
    ]
    sure = np.array([confidence for confidence, _ in first])
    hits = np.array([hit for _, hit in first], bool)
    place = np.clip(np.digitize(sure, BIN_EDGES[1:-1]), 0, len(BIN_EDGES) - 2)
    bins, error = [], 0.0
    for k in range(len(BIN_EDGES) - 1):
        own = place == k
        if not own.any():
            continue
        low, high = wilson(int(hits[own].sum()), int(own.sum()))
        confidence, rate = float(sure[own].mean()), float(hits[own].mean())
        error += float(own.mean()) * abs(confidence - rate)
        bins.append(
            {
                "from": float(BIN_EDGES[k]),
                "to": float(BIN_EDGES[k + 1]),
                "runs": int(own.sum()),
                "confidence": confidence,
                "right": rate,
                "wilson": [low, high],
            }
        )
    return {"judge": judge, "runs": len(first), "expected_error": error, "bins": bins}


def confusion(runs: Sequence[Seen], judge: str) -> dict[str, dict[str, int]]:
    """Count first answers by what is there: the injected cause, or normal."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        if judge in run.by and (is_single(run) or is_nothing(run)):
            there = run.plan["cause"] if is_single(run) else NORMAL
            counts[there][run.by[judge][0][0]] += 1
    return {there: dict(sorted(given.items())) for there, given in sorted(counts.items())}


def guess_from_configuration(learned: Sequence[Seen], asked: Sequence[Seen]) -> None:
    """Let the configuration alone answer on the runs asked, in their `by`."""
    rows, answers = [], []
    for run in learned:
        if len(causes_of(run.plan)) == 2:
            continue
        rows.append(features_of(run.plan, run.facts))
        answers.append(run.plan["cause"] if is_single(run) else NORMAL)
    if len(set(answers)) < 2:
        return
    guess = ConfigurationGuess(rows, answers)
    for run in asked:
        run.by[CONFIGURATION] = guess.answers(features_of(run.plan, run.facts))


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
        run.repair = repairs.get(run.plan["name"])
        if run.repair is not None:
            for judge_name, budget in ((PROBED, "full"), (QUICK, "quick")):
                probed = run.repair["probes"].get(budget)
                if probed is not None:
                    run.by[judge_name] = [(name, sure) for name, sure in probed["answers"]]
    guess_from_configuration(settle(calibration)[0], runs)
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
        "wrong": [_told(run) for run in runs if not is_right(_names(run.answers), run.right, 1)],
    }


def came_true(runs: Sequence[Seen]) -> dict[str, dict[str, int]]:
    """Count the faults of each kind by how they came true."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        if run.manifestation is not None:
            counts[f"{run.plan['cause']}: {run.plan['kind']}"][run.fault or "benign"] += 1
    return {kind: dict(sorted(given.items())) for kind, given in sorted(counts.items())}


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
