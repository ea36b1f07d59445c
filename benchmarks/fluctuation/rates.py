"""Count what was right: causes that were named, and all the rest of the table."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fluctuation.answers import NORMAL, UNKNOWN, is_equivalent, is_right, names_of
from fluctuation.confidence import confusion, reliability
from fluctuation.configuration import guess_from_configuration
from fluctuation.plan import causes_of
from fluctuation.repair_rows import cost_rows, repair_rows
from fluctuation.rows import (
    ALIKE,
    CONFIGURATION,
    FLAGGED,
    MIXED,
    NAMED,
    NAMED_RIGHT,
    NOTHING,
    PROBED,
    QUICK,
    REPEATED,
    SAME_ARGUMENTS,
    STATISTICS,
    TOP_1,
    TOP_2,
    rate_row,
    rates_of,
)
from fluctuation.seen import Seen, is_nothing, is_single, is_undecided, settle


def _answer_rows(runs: list[Seen], judge: str) -> list[dict[str, Any]]:
    """Return how often the likeliest causes are right, and normal where nothing is wrong.

    ``"unknown"`` is no cause: below it the likeliest counts. How often it stands there is told
    beside, of the faults that came true and were not called normal.
    """
    answered = [run for run in runs if judge in run.by]

    def first(n: int) -> Callable[[Seen], bool]:
        return lambda run: is_right(names_of(run.by[judge]), run.right, n)

    def alike(run: Seen) -> bool:
        answer = names_of(run.by[judge])[0]
        return answer in run.right or is_equivalent(answer, causes_of(run.plan))

    named = [run for run in answered if is_single(run)]
    open_ones = [run for run in named if run.fault and run.verdict != NORMAL]
    sure = [run for run in open_ones if run.by[judge][0][0] != UNKNOWN]
    nothing = [run for run in answered if is_nothing(run)]
    undecided = [run for run in nothing if is_undecided(run)]
    nothing = [run for run in nothing if not is_undecided(run)]
    hits, clusters = [first(1)(run) for run in undecided], [run.cluster for run in undecided]
    return [
        *rates_of(TOP_1, judge, named, first(1)),
        *rates_of(TOP_2, judge, named, first(2)),
        *rates_of(ALIKE, judge, named, alike),
        *rates_of(NAMED, judge, open_ones, lambda run: run.by[judge][0][0] != UNKNOWN),
        *rates_of(NAMED_RIGHT, judge, sure, first(1)),
        *rates_of(NOTHING, judge, nothing, first(1)),
        *([rate_row(NOTHING, judge, "at a constant rate", hits, clusters)] if hits else []),
        *rates_of(
            MIXED,
            judge,
            [run for run in answered if run.fault and len(causes_of(run.plan)) == 2],
            lambda run: set(causes_of(run.plan)) <= set(names_of(run.by[judge])[:3]),
        ),
    ]


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
    return rates_of(REPEATED, STATISTICS, [run for run, _ in lots], lambda run: same[id(run)])


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
    return rates_of(SAME_ARGUMENTS, judge, sick, lambda run: told[id(run)])


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
        What probes and simple rules came to, by name of the run.
    """
    runs, left_out = settle(seen)
    for run in runs:
        run.by[STATISTICS] = run.answers
        run.repair = repairs.get(run.plan["name"])
        for judge_name, budget in ((PROBED, "full"), (QUICK, "quick")):
            if run.repair is not None:
                probed = run.repair["probes"].get(budget, {}).get("answers", run.answers)
                run.by[judge_name] = [(name, sure) for name, sure in probed]
            elif repairs and run.verdict == NORMAL:
                run.by[judge_name] = run.answers  # what is called normal is not replayed
    guess_from_configuration(settle(calibration)[0], runs, CONFIGURATION)
    rows = []
    for judge_name in (STATISTICS, PROBED, QUICK, CONFIGURATION):
        rows += _answer_rows(runs, judge_name)
    rows += rates_of(
        FLAGGED, STATISTICS, [run for run in runs if run.fault], lambda r: r.verdict != NORMAL
    )
    rows += repair_rows(runs, seen) + cost_rows(runs) + _repeat_rows(runs, seen)
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
