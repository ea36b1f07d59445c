"""Which changes are worth a trial from a snapshot of a run."""

import math
from collections.abc import Mapping, Sequence
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
from sensorseq.fluctuation.probes.first_weights import AVERAGED, AVERAGING, may_average
from sensorseq.fluctuation.probes.readings import (
    clip_norm,
    input_scale,
    matched_adam_rate,
    rate_at,
    rate_falls,
)

_COMMONEST = 0.2  # of the learning rate, where the statistics name no cause


# Forgetting the moments, it needs unchanged re-runs of its own: twice as many in all. And a lower
# rate mostly serves as well.
_OPTIMIZER_SHARE = 0.4
ALWAYS_RATE = 0.25  # the least weight of a lower and of a falling learning rate


def snapshot_candidates(lab: Lab, causes: Sequence[Cause], start: int) -> list[Candidate]:
    """Return what is worth a trial from a snapshot, the likeliest first.

    Parameters
    ----------
    lab : Lab
        Of the run.
    causes : sequence of Cause
        What the statistics say; only those above 0.1 are tried. Where none of them is, the
        learning rate is, as the commonest.
    start : int
        Which snapshot.
    """
    confidence = confidences(causes) or {"learning_rate": _COMMONEST}
    found = [
        *_rate_and_batch(lab, confidence, is_decay_first=_misses_a_schedule(causes)),
        *_batches(lab, confidence.get("batch_size", 0.0)),
        *_clipping(lab, confidence.get("gradient_clipping", 0.0), start),
        *_regularization(lab, confidence),
        *_optimizer(lab, confidence.get("optimizer", 0.0), start),
        *_scaling(lab, confidence.get("preprocessing", 0.0)),
        *_loss(lab, confidence.get("loss", 0.0)),
    ]
    return ranked(judged_for(lab, found))


def _misses_a_schedule(causes: Sequence[Cause]) -> bool:
    """Whether the statistics say that the rate is right and only ought to fall."""
    of_rate = next((cause for cause in causes if cause.name == "learning_rate"), None)
    return of_rate is not None and of_rate.finding == "schedule missing"


def _rate_and_batch(
    lab: Lab, confidence: Mapping[str, float], *, is_decay_first: bool = False
) -> list[Candidate]:
    """Return the 2x2: while noise dominates, a lower rate and a larger batch do the same.

    Before them comes an average of the weights, which takes that noise and changes no step.
    """
    rate, batch = confidence.get("learning_rate", 0.0), confidence.get("batch_size", 0.0)
    # the commonest cause, and what every other repair has to be better than
    rate, either = max(rate, ALWAYS_RATE), max(rate, batch, ALWAYS_RATE)
    size = lab.arguments.get("batch_size")
    size = size if isinstance(size, int) else 0
    # Half of the windows at most: larger batches leave no steps to compare.
    larger = {"batch_size": 4 * size} if 0 < 4 * size <= len(lab.train.X) // 2 else {}
    found = [
        Candidate(
            "learning_rate",
            f"learning_rate / {factor:g}",
            scaled_rate(lab, 1 / factor),
            "too high",
            {"rate_factor": 1 / factor},
            judged_by="either",
            weight=share * (rate if factor > 4 else either),
            alternatives=(larger,) if larger and factor == 4 else (),
            follows=follows,
            price_is_schedule=True,
        )
        for factor, share, follows in ((4, 1.0, ""), (16, 0.6, "learning_rate / 4"))
    ]
    if may_average(lab):  # first: it tells the noise of the steps from any other
        found.append(
            Candidate(
                "learning_rate",
                AVERAGING,
                AVERAGED,
                "schedule missing",
                {"change": AVERAGED},
                judged_by="weights",
                weight=1.02 * either,
            )
        )
    if lab.arguments.get("lr_schedule", "constant") != "cosine" and not rate_falls(lab.record):
        found.append(
            Candidate(
                "learning_rate",
                "a decaying learning rate",
                {"lr_schedule": "cosine"},
                "schedule missing",
                {"decays": True},
                judged_by="price",
                weight=(1.01 if is_decay_first else 0.99) * either,
            )
        )
    if larger and differs(lab, larger):
        found.append(
            Candidate(
                "batch_size",
                f"batch_size {size} -> {4 * size}",
                larger,
                "too small",
                {"change": larger},
                weight=max(batch, 0.8 * rate),
                alternatives=(scaled_rate(lab, 0.25),) if scaled_rate(lab, 0.25) else (),
                price_is_schedule=True,
            )
        )
    return found


def _batches(lab: Lab, weight: float) -> list[Candidate]:
    found = []
    n_windows = lab.record.steps.get("n_windows", np.zeros(0))
    is_ragged = len(n_windows) > 0 and n_windows.min() < n_windows.max() / 4
    for change, name, finding, possible in (
        ({"last_batch": "merge"}, "last batch merged", "ragged last batch", is_ragged),
        ({"sampler": "balanced"}, "class-balanced batches", "classes uneven in batches", True),
    ):
        if possible and differs(lab, change):
            found.append(
                Candidate(
                    "batch_size", name, change, finding, {"change": change}, weight=0.7 * weight
                )
            )
    return found


def _clipping(lab: Lab, weight: float, start: int) -> list[Candidate]:
    norm = clip_norm(lab.record, start)
    if not math.isfinite(norm):
        return []
    change = {"max_grad_norm": rounded(norm)}
    limit = lab.arguments.get("max_grad_norm")
    if not differs(lab, change) or (isinstance(limit, int | float) and limit <= norm):
        return []
    return [
        Candidate(
            "gradient_clipping",
            f"gradients clipped at {rounded(norm):g}",
            change,
            "too loose" if limit else "missing",
            {"change": change},
            judged_by="either",
            weight=weight,
        )
    ]


def _regularization(lab: Lab, confidence: Mapping[str, float]) -> list[Candidate]:
    """Less and more of it: what it costs or gains shows on the validation windows alone."""
    by = "noise" if lab.validation is None else "validation"
    found = []
    weight, noise = confidence.get("regularization", 0.0), confidence.get("dropout_noise", 0.0)
    masked = {
        name: float(lab.arguments[name])
        for name in ("input_dropout", "dropout", "recurrent_dropout")
        if name in lab.changeable and lab.arguments.get(name)
    }
    for factor, words, share in ((0.0, "no dropout", 1.0), (0.5, "half the dropout", 0.7)):
        if masked and max(weight, noise) > 0:
            change: dict[str, Any] = {name: factor * value for name, value in masked.items()}
            cause = "dropout_noise" if noise > weight else "regularization"
            found.append(
                Candidate(
                    cause,
                    words,
                    change,
                    "too strong",
                    {"change": change},
                    judged_by=by,
                    weight=share * max(weight, noise),
                )
            )
    decay = lab.arguments.get("weight_decay")
    if not isinstance(decay, int | float) or "weight_decay" not in lab.changeable:
        return found
    more = 10 * decay if decay else 1e-3
    if decay:
        less = {"weight_decay": 0.0}
        found.append(
            Candidate(
                "regularization",
                "no weight decay",
                less,
                "too strong",
                {"change": less},
                judged_by=by,
                weight=0.9 * weight,
            )
        )
    change = {"weight_decay": rounded(more)}
    found.append(
        Candidate(
            "regularization",
            f"weight_decay {more:g}",
            change,
            "too weak",
            {"change": change},
            judged_by=by,
            weight=0.6 * weight,
        )
    )
    return found


def _optimizer(lab: Lab, weight: float, start: int) -> list[Candidate]:
    change = {"optimizer": "adam"}
    if weight <= 0 or not differs(lab, change) or lab.arguments.get("optimizer") == "adamw":
        return []
    rate, now = matched_adam_rate(lab, start), rate_at(lab.record, start)
    if not (math.isfinite(rate) and now > 0):
        return []
    return [
        Candidate(
            "optimizer",
            f"Adam, rate {rounded(rate):g}",
            {**change, **scaled_rate(lab, rate / now)},
            "",
            {"change": change, "rate_factor": rate / now, "restarts_optimizer": True},
            judged_by="either",
            weight=_OPTIMIZER_SHARE * weight,
        )
    ]


def _scaling(lab: Lab, weight: float) -> list[Candidate]:
    scale = input_scale(lab.train)
    if weight <= 0 or scale is None:
        return []
    return [
        Candidate(
            "preprocessing",
            "input scaled, the function kept",
            {"scale": "standard"},
            "input not scaled",
            {"rescale": scale, "restarts_optimizer": True},
            judged_by="either",
            weight=weight,
        )
    ]


def _loss(lab: Lab, weight: float) -> list[Candidate]:
    change = {"loss": "cross_entropy"}
    if weight <= 0 or not differs(lab, change) or lab.n_classes < 2:
        return []
    return [
        Candidate(
            "loss",
            "cross-entropy",
            change,
            "",
            {"change": change, "restarts_optimizer": True},
            judged_by="accuracy",
            weight=weight,
        )
    ]
