"""Repair runs by what probes prove, and by our first advice unproved; fit anew from other seeds.

Every repair is new arguments; the data stay as they are. Each is fitted from the seeds that the
oracle's further pairs have, so that the sick run and the healthy twin from the same seeds are
there to hold it against.
"""

import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from fluctuation.answers import answers_of
from fluctuation.oracle import find_outcome
from fluctuation.plan import FaultPlan
from fluctuation.runs import (
    SEEDS_APART,
    draw_parts,
    evidence_of,
    fit,
    fit_keywords,
    make_classifier,
    repeated,
)
from verdict.data import Parts
from verdict.runs import Evidence

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, DivergedError
from sensorseq.fluctuation.causes.cause import hidden_cause
from sensorseq.fluctuation.report import FluctuationReport

BUDGETS = {"full": 1.0, "quick": 0.3}
OURS, OURS_UNPROVED = "ours", "ours, first recommendation, no probes"

Arguments = dict[str, Any]


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


def change(plan: FaultPlan, parts: Parts, made: Arguments, n_repeats: int) -> dict[str, Any]:
    """Fit a run anew with other arguments from each further seed; return both as plain values.

    Where nothing is changed there are no outcomes: they are those of the sick run.
    """
    given = make_classifier(plan, len(np.unique(parts.train.y))).get_params(deep=False)
    made = {name: value for name, value in made.items() if given[name] != value}
    outcomes = None
    if made:
        fits = (train_with(plan, parts, made, repeat) for repeat in _seeds(n_repeats))
        outcomes = [find_outcome(run).to_dict() for run in fits]
    return {
        "change": {name: _readable(value) for name, value in made.items()},
        "outcomes": outcomes,
    }


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
    parts: Parts, classifier: SensorLSTMClassifier, budget: float
) -> tuple[dict[str, Any], Any]:
    """Probe a fitted run; return what came of it as plain values, and the proof.

    A fit that ended before there was anything to go on from cannot be probed: there is no proof
    then, and the statistics stand.
    """
    started = perf_counter()
    report = classifier.fluctuation_
    try:
        proof = report.probe(
            parts.train.X, parts.train.y, **fit_keywords(parts), budget=budget, verbose=0
        )
    except ArgumentError as error:
        return told(report) | {"budget": budget, "cost": None, "error": str(error)}, None
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


def repair(plan: FaultPlan, n_repeats: int, borealtc: Path | None = None) -> dict[str, Any]:
    """Probe a run and apply what was proved; beside it, what the statistics advise first.

    Parameters
    ----------
    plan : FaultPlan
        The run; it is fitted again, as only a fit of this process can be probed.
    n_repeats : int
        Seeds of each pair, with the one that is probed.
    borealtc : path, optional
        Folder of that set.

    Returns
    -------
    dict
        ``probes``: by budget; ``repairs``: by name the change and its outcomes, None where nothing
        is changed and the outcome is that of the sick run; ``fit_s``.
    """
    parts = draw_parts(plan, borealtc)
    classifier = make_classifier(plan, len(np.unique(parts.train.y)))
    started = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(DivergedError):  # nobody watches: it is the fit that probes are held against
            classifier.fit(parts.train.X, parts.train.y, **fit_keywords(parts))
    fit_s = perf_counter() - started
    report = classifier.fluctuation_
    found: dict[str, Any] = {"name": plan.name, "fit_s": fit_s, "before": told(report)}
    repairs: dict[str, Any] = {OURS: {"change": {}, "outcomes": None}}
    found["probes"] = {}
    for name, budget in BUDGETS.items():
        found["probes"][name], proof = probe(parts, classifier, budget)
        if name == "full" and proof is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says so where nothing was proved
                better = proof.apply()
            proved = found["probes"][name].get("repair", {})
            outcomes = refit(better, plan, parts, n_repeats) if proved else None
            repairs[OURS] = {"change": proved, "outcomes": outcomes}
    causes = report.causes
    if report.verdict == "normal":
        hidden = hidden_cause(report.verdict, causes)
        causes = () if hidden is None else (hidden,)
    first = next((cause for cause in causes if cause.recommendation), None)
    advised = {} if first is None else dict(first.recommendation)
    repairs[OURS_UNPROVED] = change(plan, parts, advised, n_repeats)
    return found | {"repairs": repairs}
