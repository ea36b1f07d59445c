"""Repair runs, by our proofs and by simple rules, and fit anew from other seeds.

Every repair is new arguments; the data stay as they are. Each is fitted from the seeds that the
oracle's further pairs have, so that the sick run and the healthy twin from the same seeds are
there to hold it against.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from _fault_answers import answers_of
from _fault_oracle import find_outcome
from _fault_plan import FaultPlan
from _fault_runs import (
    SEEDS_APART,
    draw_parts,
    evidence_of,
    fit,
    fit_keywords,
    make_classifier,
    repeated,
)
from _verdict_data import Parts
from _verdict_rivals import (
    autotrainer,
    autotrainer_oscillation,
    umlaut_input,
    umlaut_overfitting,
    umlaut_rate,
)
from _verdict_runs import Evidence

from sensorseq import SensorLSTMClassifier
from sensorseq.fluctuation.report import FluctuationReport

BUDGETS = {"full": 1.0, "quick": 0.3}
CLIP, SLOWER = 1.0, 10.0
OURS, OURS_UNPROVED = "ours", "ours, first recommendation, no probes"
RATE_AND_CLIP, COSINE, RANDOM = "learning rate / 10 and clipping", "cosine decay", "random repair"
AUTOTRAINER, UMLAUT, UNCHANGED = "AutoTrainer", "UMLAUT", "unchanged"
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
        {"label_smoothing": 0.1},
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


def train_with(plan: FaultPlan, parts: Parts, change: Arguments, repeat: int) -> Evidence:
    """Fit a run with other arguments from one of its seeds."""
    changed = replace(repeated(plan, repeat), arguments={**plan.arguments, **change})
    classifier = make_classifier(changed, len(np.unique(parts.train.y)))
    cycles, watch = fit(classifier, parts)
    return evidence_of(changed, parts, cycles, watch)


def _seeds(n_repeats: int) -> range:
    return range(1, n_repeats)


def refit(classifier: Any, plan: FaultPlan, parts: Parts, n_repeats: int) -> list[dict[str, Any]]:
    """Fit a classifier anew from each further seed; return outcomes as plain values."""
    outcomes = []
    for repeat in _seeds(n_repeats):
        again = SensorLSTMClassifier(**classifier.get_params(deep=False))
        again.set_params(random_state=plan.seed + SEEDS_APART * repeat, device="cpu")
        cycles, watch = fit(again, parts)
        evidence = evidence_of(repeated(plan, repeat), parts, cycles, watch)
        outcomes.append(find_outcome(evidence).to_dict())
    return outcomes


def _change_all(
    plan: FaultPlan, parts: Parts, change: Arguments, n_repeats: int
) -> list[dict[str, Any]]:
    return [
        find_outcome(train_with(plan, parts, change, repeat)).to_dict()
        for repeat in _seeds(n_repeats)
    ]


def _autotrainer(plan: FaultPlan, parts: Parts, run: Evidence, n_repeats: int) -> dict[str, Any]:
    """Take the first fix on which AutoTrainer sees no problem any more, as it does itself."""
    for change in autotrainer_fixes(plan, run):
        if not autotrainer(train_with(plan, parts, change, 1)):
            return {"change": change, "outcomes": _change_all(plan, parts, change, n_repeats)}
    return {"change": {}, "outcomes": None}


def told(report: FluctuationReport) -> dict[str, Any]:
    """Return what a report says of the causes, as plain values."""
    return {
        "verdict": report.verdict,
        "answers": answers_of(report),
        "causes": [
            {"name": c.name, "grade": c.grade, "confidence": c.confidence, "finding": c.finding}
            for c in report.causes
        ],
    }


def probe(
    plan: FaultPlan,
    parts: Parts,
    classifier: SensorLSTMClassifier,
    budget: float,
) -> tuple[dict[str, Any], Any]:
    """Probe a fitted run; return what came of it as plain values, and the proof."""
    started = perf_counter()
    proof = classifier.fluctuation_.probe(
        parts.train.X, parts.train.y, **fit_keywords(parts), budget=budget
    )
    wall_s = perf_counter() - started
    probes = proof.probes
    found = told(proof) | {"budget": budget, "wall_s": wall_s, "cost": None, "trials": []}
    if probes is not None:
        found |= {
            "cost": probes.cost,
            "fit_s": probes.fit_s,
            "probes_s": probes.probes_s,
            "self_test": probes.self_test,
            "trials": [(t.cause, t.name, t.kind, t.outcome, t.cost_epochs) for t in probes.trials],
            "repair": {name: _readable(value) for name, value in probes.repair.items()},
            "note": probes.note,
        }
    return found, proof


def _readable(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else repr(value)


def repair_all(
    plan: FaultPlan,
    run: Evidence,
    n_repeats: int,
    borealtc: Path | None = None,
    *,
    with_rivals: bool = True,
) -> dict[str, Any]:
    """Probe a run, apply what was proved, and repair it by each simple rule as well.

    Parameters
    ----------
    plan : FaultPlan
        The run; it is fitted again, as only a fit of this process can be probed.
    run : Evidence
        What it left, for the rules of others.
    n_repeats : int
        Seeds of each pair, with the one that is probed.
    borealtc : path, optional
        Folder of that set.
    with_rivals : bool, default=True
        Also repair by simple rules.

    Returns
    -------
    dict
        ``probes``: by budget; ``repairs``: by name the change and its outcomes, None where nothing
        is changed and the outcome is that of the sick run; ``fit_s``.
    """
    parts = draw_parts(plan, borealtc)
    classifier = make_classifier(plan, len(np.unique(parts.train.y)))
    started = perf_counter()
    fit(classifier, parts)
    fit_s = perf_counter() - started
    report = classifier.fluctuation_
    found: dict[str, Any] = {"name": plan.name, "fit_s": fit_s, "before": told(report)}
    found["probes"], repairs = {}, {}
    for name, budget in BUDGETS.items():
        found["probes"][name], proof = probe(plan, parts, classifier, budget)
        if name == "full":
            better = proof.apply()
            change = found["probes"][name].get("repair", {})
            outcomes = refit(better, plan, parts, n_repeats) if change else None
            repairs[OURS] = {"change": change, "outcomes": outcomes}
    first = next((c for c in report.causes if c.recommendation), None)
    change = {} if first is None or report.verdict == "normal" else dict(first.recommendation)
    changes: dict[str, Callable[[], Arguments]] = {OURS_UNPROVED: lambda: change}
    if with_rivals:
        changes |= {
            RATE_AND_CLIP: lambda: slower_and_clipped(plan),
            COSINE: lambda: {"lr_schedule": "cosine"},
            RANDOM: lambda: random_repair(plan),
            UMLAUT: lambda: umlaut_repair(plan, run),
        }
    for name, make in changes.items():
        made = {k: v for k, v in make().items() if plan.arguments.get(k, ...) != v}
        outcomes = _change_all(plan, parts, made, n_repeats) if made else None
        repairs[name] = {
            "change": {k: _readable(v) for k, v in made.items()},
            "outcomes": outcomes,
        }
    if with_rivals:
        repairs[AUTOTRAINER] = _autotrainer(plan, parts, run, n_repeats)
    return found | {"repairs": repairs}
