"""find_causes: rank what may have made a run fluctuate, from its statistics alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes import (
    data_causes,
    fit_causes,
    network_causes,
    signatures,
    step_causes,
)
from sensorseq.fluctuation.causes.cause import IDENTIFIED, TROUBLED, Cause
from sensorseq.fluctuation.causes.curve_features import training_loss
from sensorseq.fluctuation.causes.features import measure
from sensorseq.fluctuation.causes.measuring import finite, late_steps, step_column
from sensorseq.fluctuation.causes.score import UNKNOWN, of_causes, score_sides
from sensorseq.fluctuation.causes.seen import Seen
from sensorseq.fluctuation.causes.theory import SIDES
from sensorseq.fluctuation.run import Run
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS, LOSS_NOISE_NATS

DESCRIBERS: dict[str, Callable[[Seen], Cause | None]] = {
    "learning_rate": step_causes.learning_rate,
    "batch_size": step_causes.batch_size,
    "sequence_length": network_causes.sequence_length,
    "model_complexity": network_causes.model_complexity,
    "early_stopping": fit_causes.early_stopping,
    "gradient_clipping": step_causes.gradient_clipping,
    "preprocessing": network_causes.preprocessing,
    "weight_init": network_causes.weight_init,
    "loss": fit_causes.loss,
    "regularization": fit_causes.regularization,
    "optimizer": step_causes.optimizer,
    "label_noise": data_causes.label_noise,
    "small_validation_set": data_causes.small_validation_set,
    "distribution_shift": data_causes.distribution_shift,
    "dropout_noise": data_causes.dropout_noise,
}
_HIDDEN_SIDES = frozenset(
    (
        ("batch_size", "too large"),
        ("preprocessing", "scale of the inputs"),
        ("regularization", "dropout too strong"),
        ("regularization", "penalty too strong"),
        ("weight_init", "far from a guess"),
        ("weight_init", "slow start"),
    )
)
LEAST_CONFIDENCE = 0.03  # of a candidate that is worth a line
MOST_CANDIDATES = 6
_HEALTHY_QUANTILE = 0.75  # of the gradients, where a bound is set


def find_causes(
    run: Run,
    verdict: str,
    arguments: Mapping[str, Any] | None = None,
    data_facts: Sequence[Cause] = (),
) -> tuple[Cause, ...]:
    """Rank the causes of what a run did.

    A normal run has none that makes it move. What may cost it accuracy all the same comes first,
    and after it what explains a curve that looks rough.

    Parameters
    ----------
    run : Run
        The run, after `judge`.
    verdict : str
        What `judge` said.
    arguments : mapping, optional
        Of the estimator. They word the recommendations and choose between equivalent ones; no
        cause is named or ranked by them.
    data_facts : sequence of Cause
        What the data checks found.

    Returns
    -------
    tuple of Cause
        The likeliest first. Where none has a confidence of a half the first is ``"unknown"``, and
        the candidates come after it; its confidence is what they leave, which may be less than that
        of one of them. Confidences sum to one at most, except of a normal run, where the first and
        those after it answer different questions.
    """
    if verdict != "normal" and verdict not in TROUBLED:
        return ()
    seen = look_at(run, arguments)
    return (*_hidden(seen), *_explained(seen)) if verdict == "normal" else _ranked(seen)


def look_at(run: Run, arguments: Mapping[str, Any] | None = None) -> Seen:
    """Measure a run, and put what was asked for beside it."""
    of_fixed = training_loss(run) == "fixed_loss"
    return Seen(
        measure(run),
        dict(arguments or {}),
        clip_at=_usual_gradient(run),
        noise_edge=FIXED_LOSS_NOISE_NATS if of_fixed else LOSS_NOISE_NATS,
    )


def describe(name: str, seen: Seen, side: str, confidence: float) -> Cause | None:
    """Return a cause with its evidence, grade and confidence; None where nothing speaks for it."""
    cause = DESCRIBERS[name](replace(seen, side=side))
    if cause is None:
        return None
    supported = confidence >= signatures.SUPPORTED_CONFIDENCE and signatures.is_supported(
        name, seen
    )
    return replace(cause, confidence=confidence, grade="supported" if supported else "observed")


def _ranked(seen: Seen) -> tuple[Cause, ...]:
    excluded = _excluded(seen)
    sides = {
        side: share for side, share in score_sides(seen.features).items() if side not in excluded
    }
    causes = of_causes(sides)
    found = []
    for name in sorted(causes, key=lambda name: -causes[name])[:MOST_CANDIDATES]:
        if causes[name] < LEAST_CONFIDENCE:
            break
        _, side = max((key for key in sides if key[0] == name), key=lambda key: sides[key])
        cause = describe(name, seen, side, min(causes[name], 1.0))
        if cause is not None:
            found.append(cause)
    if found and found[0].confidence >= IDENTIFIED:
        return tuple(found)
    rest = max(1.0 - math.fsum(cause.confidence for cause in found), 0.0)
    return (_unknown(rest, found), *found)


def _excluded(seen: Seen) -> set[tuple[str, str]]:
    """Return the sides that cannot be: what makes a calm run look rough, and what was not there.

    An argument may exclude a cause; it never names one.
    """
    excluded = set()
    if seen.above("loss_noise", seen.noise_edge):  # the training moves as well
        excluded |= {side for side in SIDES if side[0] in ("small_validation_set", "dropout_noise")}

    def is_off(*names: str) -> bool:
        return all(seen.arguments.get(name, ...) in (0, None) for name in names)

    if seen.arguments.get("head_norm", "batch") != "batch":
        excluded.add(("regularization", "normalization by batches"))
    if is_off("weight_decay", "l1"):
        excluded.add(("regularization", "penalty too strong"))
    if is_off("dropout", "recurrent_dropout", "input_dropout", "augment"):
        excluded.add(("regularization", "dropout too strong"))
        excluded |= {side for side in SIDES if side[0] == "dropout_noise"}
    return excluded


def _unknown(confidence: float, candidates: list[Cause]) -> Cause:
    evidence = "Abnormal, but its cause cannot be told from what was recorded"
    if candidates:
        first = candidates[0]
        evidence += (
            f": the likeliest, {first.title}, has {100 * first.confidence:.0f} %, less than a half,"
            f" and {100 * confidence:.0f} % is left for what is not listed"
        )
    return Cause(
        UNKNOWN,
        "observed",
        confidence,
        f"{evidence}.",
        advice="Probes on the data it was trained on would tell the candidates apart.",
    )


def _hidden(seen: Seen) -> tuple[Cause, ...]:
    """Return the cause that shows in a calm run by another mark than noise, if it is likely."""
    excluded = _excluded(seen)
    sides = {
        side: share
        for side, share in score_sides(seen.features, calm=True).items()
        if side in _HIDDEN_SIDES and side not in excluded
    }
    name, confidence = max(of_causes(sides).items(), key=lambda pair: pair[1], default=("", 0.0))
    if confidence < IDENTIFIED:
        return ()
    _, side = max((key for key in sides if key[0] == name), key=lambda key: sides[key])
    cause = describe(name, seen, side, min(confidence, 1.0))
    if cause is None:
        return ()
    evidence = f"The curve is calm; what may cost accuracy all the same: {cause.evidence}"
    return (replace(cause, evidence=evidence),)


def _explained(seen: Seen) -> tuple[Cause, ...]:
    """Return what makes a calm run look rough, where its signature is specific.

    The confidence is the share of the roughness that it accounts for: of the variance of the
    validation accuracy, of that of the batches, of the validation errors.
    """
    shares = {
        "small_validation_set": 1 / max(_or(seen["common_mode"], 1.0), 1.0),
        "dropout_noise": seen["dropout_share"],
        "label_noise": _or(seen["val_stubborn_of_errors"], 0.5),
    }
    held = {
        name: min(share, 1.0)
        for name, share in shares.items()
        if signatures.is_supported(name, seen)
    }
    total = max(math.fsum(held.values()), 1.0)
    found = (describe(name, seen, "", share / total) for name, share in held.items())
    return tuple(sorted((cause for cause in found if cause), key=lambda c: -c.confidence))


def _or(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _usual_gradient(run: Run) -> float:
    """Return the norm that three of four late gradients stay below; NaN where none is known."""
    if run.record is None or not int(run.record.epoch_steps[-1]):
        return math.nan
    norms = finite(step_column(run.record, "grad_norm")[late_steps(run, run.record)])
    return float(np.quantile(norms, _HEALTHY_QUANTILE)) if len(norms) else math.nan
