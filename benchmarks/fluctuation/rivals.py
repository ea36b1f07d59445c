"""Repair runs by simple rules, and fit anew from other seeds, as `repair.py` does by proofs."""

from pathlib import Path
from typing import Any

from fluctuation.plan import FaultPlan
from fluctuation.repair import change, train_with
from fluctuation.runs import draw_parts
from fluctuation.simple_repairs import (
    AUTOTRAINER,
    COSINE,
    RANDOM,
    RATE_AND_CLIP,
    UMLAUT,
    autotrainer_fixes,
    random_repair,
    slower_and_clipped,
    umlaut_repair,
)
from verdict.data import Parts
from verdict.rivals import autotrainer
from verdict.runs import Evidence


def repair_simply(
    plan: FaultPlan, run: Evidence, n_repeats: int, borealtc: Path | None = None
) -> dict[str, Any]:
    """Repair a run by each simple rule.

    Parameters
    ----------
    plan : FaultPlan
        The run.
    run : Evidence
        What it left, for the rules.
    n_repeats : int
        Seeds of each pair.
    borealtc : path, optional
        Folder of that set.

    Returns
    -------
    dict
        By name of the rule the change and its outcomes, None where nothing is changed.
    """
    parts = draw_parts(plan, borealtc)
    changes = {
        RATE_AND_CLIP: slower_and_clipped(plan),
        COSINE: {"lr_schedule": "cosine"},
        RANDOM: random_repair(plan),
        UMLAUT: umlaut_repair(plan, run),
    }
    repairs = {name: change(plan, parts, made, n_repeats) for name, made in changes.items()}
    return repairs | {AUTOTRAINER: _autotrainer(plan, parts, run, n_repeats)}


def _autotrainer(plan: FaultPlan, parts: Parts, run: Evidence, n_repeats: int) -> dict[str, Any]:
    """Take the first fix on which AutoTrainer sees no problem any more, as it does itself."""
    for made in autotrainer_fixes(plan, run):
        if not autotrainer(train_with(plan, parts, made, 1)):
            return change(plan, parts, made, n_repeats)
    return {"change": {}, "outcomes": None}
