"""Changes that act at first weights, and those that may bring a run to learn at all."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.candidate import (
    Candidate,
    confidences,
    differs,
    judged_for,
    ranked,
    rounded,
    scaled_rate,
)
from sensorseq.fluctuation.probes.readings import clip_norm, input_scale

_LEAST_HIDDEN = 4
_USUAL_STEP = 2e-3  # of the weights' norm, each step; 1e-3 to 1e-2 in calm runs that learn
_LEAST_STEPS = 8  # of a sequence, after it is halved
_REGULARIZATION = {
    "input_dropout": "dropout",
    "dropout": "dropout",
    "recurrent_dropout": "dropout",
    "weight_decay": "weight decay",
    "l1": "penalty of the weights",
}
_USUAL_INIT = {"weight_init": "xavier", "recurrent_init": "orthogonal", "forget_bias": 1.0}


def init_candidates(lab: Lab, causes: Sequence[Cause]) -> list[Candidate]:
    """Return what a fluctuating run is tried with from first weights, the likeliest first."""
    confidence = confidences(causes)
    found = [
        *_scale(lab, confidence.get("preprocessing", 0.0), "noise"),
        *_weights(lab, confidence.get("weight_init", 0.0), "noise"),
        *_sizes(lab, confidence.get("model_complexity", 0.0), "noise"),
        *_length(lab, confidence.get("sequence_length", 0.0), "noise"),
    ]
    return ranked(judged_for(lab, found))


def hidden_candidates(lab: Lab, cause: Cause) -> list[Candidate]:
    """Return what a calm run is tried with for what may cost it accuracy."""
    by_cause: dict[str, Callable[[], list[Candidate]]] = {
        "preprocessing": lambda: _scale(lab, cause.confidence, "level"),
        "weight_init": lambda: _weights(lab, cause.confidence, "level"),
        "batch_size": lambda: _more_steps(lab, cause.confidence),
        "regularization": lambda: _no_regularization(lab, cause.confidence),
    }
    return ranked(by_cause[cause.name]() if cause.name in by_cause else [])


def level_candidates(lab: Lab, causes: Sequence[Cause], verdict: str) -> list[Candidate]:
    """Return what a run that learned nothing or diverged is tried with, the likeliest first.

    Parameters
    ----------
    lab : Lab
        Of the run.
    causes : sequence of Cause
        What the statistics say. A rate ten times as high, or a tenth after a divergence, is tried
        whatever they say.
    verdict : str
        ``"not_learning"`` or ``"diverged"``.
    """
    confidence = confidences(causes)
    rate = max(confidence.get("learning_rate", 0.0), 0.2)
    factor, words, finding = (0.1, "/ 10", "too high")
    if verdict != "diverged":
        factor = _raise_of(lab)
        words, finding = f"x {factor:g}", "too low"
    found = [
        _anew(
            "learning_rate",
            f"learning_rate {words}",
            scaled_rate(lab, factor),
            finding,
            rate,
            "level",
            {"rate_factor": factor},
        ),
        *_scale(lab, confidence.get("preprocessing", 0.0), "level"),
        *_weights(lab, confidence.get("weight_init", 0.0), "level"),
        *_sizes(lab, confidence.get("model_complexity", 0.0), "level"),
        *_clipping(lab, confidence.get("gradient_clipping", 0.0)),
        *_no_regularization(lab, confidence.get("regularization", 0.0)),
    ]
    for cause, change, name in (
        ("optimizer", {"optimizer": "adam"}, "Adam"),
        ("loss", {"class_weight": None}, "no class weights"),
    ):
        if change and differs(lab, change):
            weight = confidence.get(cause, 0.0)
            found.append(_anew(cause, name, change, "", weight, "level", {"change": change}))
    if verdict != "diverged" and "learning_rate" in confidence:
        found.append(
            _anew(
                "learning_rate",
                "learning_rate / 10",
                scaled_rate(lab, 0.1),
                "too high",
                0.8 * confidence["learning_rate"],
                "level",
                {"rate_factor": 0.1},
            )
        )
    return ranked(found)


def _raise_of(lab: Lab) -> float:
    """Return 10, 100 or 1000: a rate so many times as high makes steps of the usual length."""
    ratio = lab.record.steps.get("update_ratio", np.zeros(0))
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    if not len(ratio):
        return 10.0
    return float(10 ** np.clip(np.round(np.log10(_USUAL_STEP / np.median(ratio))), 1, 3))


def _anew(
    cause: str,
    name: str,
    change: Mapping[str, Any],
    finding: str,
    weight: float,
    judged_by: str,
    arm: Mapping[str, Any],
    alternatives: tuple[Mapping[str, Any], ...] = (),
) -> Candidate:
    return Candidate(cause, name, change, finding, arm, "init", judged_by, weight, alternatives)


def _scale(lab: Lab, weight: float, judged_by: str) -> list[Candidate]:
    change = {"scale": "standard"}
    if not differs(lab, change) or input_scale(lab.train) is None:
        return []
    arm = {"change": change}
    by = "either" if judged_by == "noise" else judged_by
    finding = "input not scaled"
    return [_anew("preprocessing", "input scaled", change, finding, weight, by, arm)]


def _weights(lab: Lab, weight: float, judged_by: str) -> list[Candidate]:
    change = {name: value for name, value in _USUAL_INIT.items() if differs(lab, {name: value})}
    if not change:
        return []
    by = "either" if judged_by == "noise" else judged_by
    return [_anew("weight_init", "usual first weights", change, "", weight, by, {"change": change})]


def _sizes(lab: Lab, weight: float, judged_by: str) -> list[Candidate]:
    hidden = lab.arguments.get("hidden_size")
    if not isinstance(hidden, int) or "hidden_size" not in lab.changeable:
        return []
    found = []
    for size, finding, by in (
        (hidden // 4, "too large", judged_by),
        (2 * hidden, "too small", "level"),
    ):
        if size < _LEAST_HIDDEN:
            continue
        change = {"hidden_size": size}
        found.append(
            _anew(
                "model_complexity",
                f"hidden_size {hidden} -> {size}",
                change,
                finding,
                weight,
                by,
                {"change": change},
            )
        )
    return found


def _more_steps(lab: Lab, weight: float) -> list[Candidate]:
    size = lab.arguments.get("batch_size")
    size = size if isinstance(size, int) else len(lab.train.X)
    change = {"batch_size": max(min(size, len(lab.train.X)) // 8, 8)}
    if change["batch_size"] >= size or not differs(lab, change):
        return []
    name = f"batch_size {size} -> {change['batch_size']}"
    return [_anew("batch_size", name, change, "too large", weight, "level", {"change": change})]


def _length(lab: Lab, weight: float, judged_by: str) -> list[Candidate]:
    n_steps = lab.train.X.shape[1] // 2
    change = {"max_timesteps": n_steps}
    if n_steps < _LEAST_STEPS or not differs(lab, change):
        return []
    name = f"sequences cut to {n_steps} steps"
    arm = {"change": change}
    return [_anew("sequence_length", name, change, "too long", weight, judged_by, arm)]


def _clipping(lab: Lab, weight: float) -> list[Candidate]:
    norm = clip_norm(lab.record, 0)
    change = {"max_grad_norm": min(1.0, rounded(norm)) if math.isfinite(norm) else 1.0}
    limit = lab.arguments.get("max_grad_norm")
    is_looser = not isinstance(limit, int | float) or limit > change["max_grad_norm"]
    if not (is_looser and differs(lab, change)):
        return []
    name = f"gradients clipped at {change['max_grad_norm']:g}"
    finding = "too loose" if limit else "missing"
    return [_anew("gradient_clipping", name, change, finding, weight, "level", {"change": change})]


def _no_regularization(lab: Lab, weight: float) -> list[Candidate]:
    change = {
        name: 0.0 for name in _REGULARIZATION if name in lab.changeable and lab.arguments.get(name)
    }
    if not (change and differs(lab, change)):
        return []
    name = f"no {' or '.join(dict.fromkeys(_REGULARIZATION[name] for name in change))}"
    return [_anew("regularization", name, change, "", weight, "level", {"change": change})]
