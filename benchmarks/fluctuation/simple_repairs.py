"""Repairs by simple rules: the usual advice, one at random, AutoTrainer's list, UMLAUT's cards.

AutoTrainer and UMLAUT as in `verdict/rivals.py`, where their sources and numbers are. What
AutoTrainer tries is told by its paper; here a change that no argument can make is left out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from fluctuation.plan import FaultPlan
from verdict.rivals import (
    autotrainer,
    autotrainer_oscillation,
    umlaut_input,
    umlaut_overfitting,
    umlaut_rate,
)
from verdict.runs import Evidence

CLIP, SLOWER = 1.0, 10.0
RATE_AND_CLIP, COSINE, RANDOM = "learning rate / 10 and clipping", "cosine decay", "random repair"
AUTOTRAINER, UMLAUT = "AutoTrainer", "UMLAUT"
RIVAL_REPAIRS = (RATE_AND_CLIP, COSINE, RANDOM, AUTOTRAINER, UMLAUT)

Arguments = dict[str, Any]


def usual_repairs(arguments: Mapping[str, Any]) -> list[Arguments]:
    """Return the single changes that a random repair is one of: one or two for each cause."""
    rate = float(arguments["learning_rate"])
    width = int(arguments["hidden_size"])
    return [
        {"learning_rate": rate / 4},
        {"learning_rate": rate * 4},
        {"lr_schedule": "cosine"},
        {"batch_size": 4 * (arguments["batch_size"] or 64)},
        {"batch_size": 16},
        {"max_timesteps": 50},
        {"pooling": "mean"},
        {"hidden_size": max(width // 4, 8), "num_layers": 1},
        {"hidden_size": max(2 * width, 16)},
        {"early_stopping": True, "restore_best": True},
        {"max_grad_norm": CLIP},
        {"scale": "standard"},
        {"weight_init": "xavier", "recurrent_init": "orthogonal", "forget_bias": 1.0},
        {"loss": "cross_entropy", "class_weight": None},
        {"dropout": 0.2, "recurrent_dropout": 0.0, "weight_decay": 1e-4},
        {
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "optimizer_params": None,
            "weight_decay": 1e-2,
        },
        # which a loss of one's own does not take
        *([] if arguments.get("loss") == "softmax twice" else [{"label_smoothing": 0.1}]),
    ]


def random_repair(plan: FaultPlan) -> Arguments:
    """Return one of the usual repairs, drawn by the seed of the run and its name."""
    usual = usual_repairs(plan.arguments)
    rng = np.random.default_rng([plan.seed, sum(plan.name.encode()), 5])
    return usual[int(rng.integers(len(usual)))]


def slower_and_clipped(plan: FaultPlan) -> Arguments:
    """Return the usual advice."""
    return {"learning_rate": plan.arguments["learning_rate"] / SLOWER, "max_grad_norm": CLIP}


def umlaut_repair(plan: FaultPlan, run: Evidence) -> Arguments:
    """Return what UMLAUT's cards on a run advise, all of it, where an argument can do it.

    A rate within the usual range, scaled input, dropout of at most a half, and against overfitting
    a smaller network with dropout.
    """
    change: Arguments = {}
    if umlaut_rate(run):
        change["learning_rate"] = 1e-3
    if umlaut_input(run) and plan.arguments.get("scale") is None:
        change["scale"] = "standard"
    if umlaut_overfitting(run):
        change |= {"hidden_size": max(plan.arguments["hidden_size"] // 2, 2), "dropout": 0.3}
    if plan.arguments.get("dropout", 0.0) > 0.5:
        change["dropout"] = 0.5
    return change


def autotrainer_fixes(plan: FaultPlan, run: Evidence) -> list[Arguments]:
    """Return what AutoTrainer tries on a run, in its order; nothing if it sees no problem.

    An optimizer that adapts first, then for a curve that oscillates a larger batch and a lower
    rate; for any other problem clipping, a higher rate, and other first weights.
    """
    if not autotrainer(run):
        return []
    adam = {"optimizer": "adam", "learning_rate": 1e-3, "optimizer_params": None}
    if autotrainer_oscillation(run):
        return [
            adam,
            {"batch_size": 2 * (plan.arguments["batch_size"] or 64)},
            {"learning_rate": plan.arguments["learning_rate"] / SLOWER},
        ]
    return [
        adam,
        {"max_grad_norm": CLIP},
        {"learning_rate": plan.arguments["learning_rate"] * SLOWER},
        {"weight_init": "he"},
    ]
