"""Count what was proved and what was repaired, and what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fluctuation.answers import is_equivalent
from fluctuation.oracle import Outcome, is_harmed, is_repaired
from fluctuation.plan import causes_of
from fluctuation.repair import OURS, OURS_UNPROVED
from fluctuation.rows import (
    COST,
    HARMED,
    PROBED,
    PROVED,
    QUICK,
    REPAIRED,
    cluster_quantile,
    rate_row,
    rates_of,
)
from fluctuation.seen import Seen, pairs_of
from fluctuation.simple_repairs import RIVAL_REPAIRS

# No argument makes up for these: the windows, their labels or their split have to change.
NOT_BY_ARGUMENTS = (
    "oversampled",
    "windows too short",
    "labels flipped at random",
    "labels flipped to a neighbour",
    "labels and width",
)


def _outcomes(run: Seen, judge: str) -> list[Outcome] | None:
    """Return what a repair made of the further seeds; None where it changed nothing."""
    assert run.repair is not None
    given = run.repair["repairs"].get(judge, {}).get("outcomes")
    return None if given is None else [Outcome.from_dict(outcome) for outcome in given]


def repair_rows(runs: list[Seen], seen: Mapping[str, Seen]) -> list[dict[str, Any]]:
    """Return how many runs are repaired and harmed, by us and by each rule, and what is proved.

    Repaired: of sick runs that an argument can repair. Harmed: of all that were probed, also those
    that were called sick and are not; what is left as it is is not harmed. Proved and right: the
    cause is the injected one or an equivalent, or its repair did repair the run.
    """
    with_seeds = [run for run in runs if run.repair is not None and f"{run.plan['name']}@1" in seen]
    # what has no further seeds has nothing to hold a refit against
    sick = [run for run in with_seeds if run.fault and len(pairs_of(run.plan, seen)) > 1]

    def repaired(run: Seen, judge: str) -> bool:
        outcomes = _outcomes(run, judge)
        twins = [twin for _, twin in pairs_of(run.plan, seen)[1:]]
        return outcomes is not None and is_repaired(list(zip(outcomes, twins, strict=False)))

    def harmed(run: Seen, judge: str) -> bool:
        outcomes = _outcomes(run, judge)
        own = (f"{run.plan['name']}@{repeat}" for repeat in range(1, 1 + len(outcomes or [])))
        before = [seen[name].outcome for name in own if name in seen]
        return outcomes is not None and is_harmed(list(zip(outcomes, before, strict=False)))

    rows = []
    by_arguments = [run for run in sick if run.plan["kind"] not in NOT_BY_ARGUMENTS]
    for judge in (OURS, OURS_UNPROVED, *RIVAL_REPAIRS):
        served = [run for run in by_arguments if judge in _repairs(run)]
        rows += rates_of(REPAIRED, judge, served, lambda run, j=judge: repaired(run, j))
        whole = [run for run in sick if judge in _repairs(run)]
        changed = [run for run in whole if _outcomes(run, judge) is not None]
        for row, kind, counted, is_hit in (
            (REPAIRED, "also where no argument can", whole, repaired),
            (REPAIRED, "where something was changed", changed, repaired),
            (HARMED, "where a fault came true", whole, harmed),
        ):
            if counted:
                hits = [is_hit(run, judge) for run in counted]
                clusters = [run.cluster for run in counted]
                rows.append(rate_row(row, judge, kind, hits, clusters))
        open_to_harm = [run for run in with_seeds if judge in _repairs(run)]
        rows += rates_of(HARMED, judge, open_to_harm, lambda run, j=judge: harmed(run, j))
    proofs = [(run, name) for run in runs if run.repair is not None for name in proved_in(run)]
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


def proved_in(run: Seen) -> list[str]:
    """Return the causes that the probes of a run proved."""
    assert run.repair is not None
    causes = run.repair["probes"].get("full", {}).get("causes", [])
    return [cause["name"] for cause in causes if cause["grade"] in ("proved", "repaired")]


def _repairs(run: Seen) -> dict[str, Any]:
    return {} if run.repair is None else run.repair["repairs"]


def cost_rows(runs: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return median and 95th percentile of what probes cost, in times of the fit.

    Of runs that something was run again of; of the others the checks alone would make it cheap.
    """
    rows = []
    for judge, name in ((PROBED, "full"), (QUICK, "quick")):
        held = [
            (run.repair["probes"][name]["cost"], run.cluster)
            for run in runs
            if run.repair is not None
            and run.repair["probes"].get(name, {}).get("cost") is not None
            and any(
                trial[2] != "inference" for trial in run.repair["probes"][name].get("trials", ())
            )
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
