"""find_causes: rank what may have made a run fluctuate or fail, family first; causes_of: facts."""

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sensorseq.fluctuation.causes.cause import IDENTIFIED, LEAST_FAULT, TROUBLED, Cause, families
from sensorseq.fluctuation.causes.features import LOGARITHMIC, measure, quote
from sensorseq.fluctuation.causes.table import (
    CLAUSES,
    SAFE,
    TABLE,
    UNKNOWN,
    Entry,
    Usual,
    resolve,
)
from sensorseq.fluctuation.statistics import thresholds as limits
from sensorseq.fluctuation.statistics.run import Run
from sensorseq.fluctuation.statistics.statements import Statement

if TYPE_CHECKING:
    from sensorseq.data_checks import Finding

WEIGHTS_FILE = Path(__file__).with_name("weights.json")
LEAST_LOG, MOST_SDS = 1e-4, 4.0


@cache
def weights() -> Mapping[str, Any]:
    """Return the fitted weights; written by benchmarks/fluctuation/fit.py."""
    read: Mapping[str, Any] = json.loads(WEIGHTS_FILE.read_text())
    return read


def weigh(
    features: Mapping[str, float], model: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return the probability of each family that one change in it repairs the run.

    A multinomial logistic regression on features of `measure`; what is missing to 1 is the
    probability that no single change does.
    """
    model = weights() if model is None else model
    z = standardised(features, model["scales"])
    scores = [
        of["intercept"] + sum(w * z[name] for name, w in of["weights"].items())
        for of in model["families"].values()
    ]
    raised = np.exp(np.array([*scores, 0.0]) - max(*scores, 0.0))
    return dict(zip(model["families"], (raised / raised.sum()).tolist(), strict=False))


def standardised(
    features: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return features in standard deviations from their mean; 0 for one that is missing."""
    z = {}
    for name, (mean, sd) in scales.items():
        value = transformed(name, features.get(name, math.nan))
        known = math.isfinite(value)
        z[name] = float(np.clip((value - mean) / sd, -MOST_SDS, MOST_SDS)) if known else 0.0
    return z


def transformed(name: str, value: float) -> float:
    """Return a feature on the scale on which it is weighed."""
    if name not in LOGARITHMIC or math.isnan(value):
        return value
    return math.log10(max(value, LEAST_LOG))


NAMED = 0.4  # confidence of a family, below which "unknown" leads
LEAST_CONFIDENCE = 0.05  # of a cause that is listed
LEAST_MEANING = 0.05  # what a side counts whose settings are the usual ones
MOST_CAUSES, MOST_CLAUSES = 6, 3
LEAST_SHARE = 0.0005  # of a fraction that is worth words
CALM = "The curve is calm, but accuracy may suffer: "


def find_causes(
    run: Run,
    verdict: str,
    arguments: Mapping[str, Any] | None = None,
    data_facts: Sequence[Cause] = (),
    statements: Sequence[Statement] = (),
    *,
    is_sick: bool = False,
) -> tuple[Cause, ...]:
    """Rank the causes of what a run did, after `judge`, the likeliest family first.

    ``"unknown"`` leads if no family is likely enough, and where no `arguments` are given: a curve
    alone does not tell its cause. Of a normal run come what probably costs it accuracy, if
    anything, then what explains a rough curve; or where it `is_sick` all the same, as of others.
    No cause is named that contradicts `statements`.
    """
    if verdict != "normal" and verdict not in TROUBLED:
        return tuple(data_facts)
    features = measure(run, verdict, arguments)
    shown = quote(run, features)
    said = {statement.kind for statement in statements}
    denied = {entry.key for entry in TABLE if not said.isdisjoint(entry.denied_by.split())}
    is_sick = is_sick or verdict != "normal"
    weighed: tuple[Cause, ...] = ()
    if arguments is not None:
        weighed = weigh_causes(features, shown, arguments, denied, is_sick=is_sick)
    ranked = join(weighed, data_facts)
    if is_sick:
        return with_unknown(ranked)
    sure = {family.name for family in families(weighed) if family.confidence >= IDENTIFIED}
    names = {cause.name for cause in weighed if cause.family in sure}
    hidden = [replace(one, evidence=f"{CALM}{one.evidence}") for one in ranked if one.name in names]
    names_of_facts = {fact.name for fact in data_facts} - names
    facts = [one for one in ranked if one.name in names_of_facts]
    faults = [one for one in facts if one.confidence >= LEAST_FAULT]
    return (
        *hidden,
        *faults,
        *_explained(shown, denied),
        *(one for one in facts if one not in faults),
    )


def with_unknown(ranked: Sequence[Cause]) -> tuple[Cause, ...]:
    """Put ``"unknown"`` first if no family is likely enough to be named."""
    if max((family.confidence for family in families(ranked)), default=0.0) >= NAMED:
        return tuple(ranked)
    rest = 1 - sum(cause.confidence for cause in ranked)
    return (Cause(UNKNOWN, "suspected", rest, "Cause unclear.", advice=SAFE), *ranked)


def join(causes: Iterable[Cause], facts: Sequence[Cause] = ()) -> tuple[Cause, ...]:
    """Add what the checks of the data found; the other causes share what certainty that leaves.

    Of two causes with one name the words of the surer one come first.
    """
    total = sum(fact.confidence for fact in facts)
    weaker = [replace(one, confidence=one.confidence * max(1 - total, 0.0)) for one in causes]
    of_data = [
        replace(
            one,
            confidence=one.confidence / max(total, 1.0),
            sources={**one.sources, "data": one.evidence},
        )
        for one in facts
    ]
    known: dict[str, Cause] = {}
    for cause in (*weaker, *of_data):
        held = known.get(cause.name)
        known[cause.name] = cause if held is None else _joined(held, cause)
    return in_order(known.values())


def _joined(one: Cause, other: Cause) -> Cause:
    surer, less = (other, one) if other.confidence > one.confidence else (one, other)
    new = "" if less.evidence in surer.evidence else less.evidence
    return replace(
        surer,
        confidence=one.confidence + other.confidence,
        evidence=f"{surer.evidence} {new}".strip(),
        sources={**less.sources, **surer.sources},
    )


def in_order(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Return causes by the confidence of their family, then by their own."""
    held = tuple(causes)
    sure = {family.name: family.confidence for family in families(held)}
    return tuple(
        sorted(held, key=lambda one: (-sure[one.family], one.family, -float(one.confidence)))
    )


def weigh_causes(
    features: Mapping[str, float],
    shown: Mapping[str, float],
    arguments: Mapping[str, Any],
    denied: Container[str] = (),
    *,
    is_sick: bool,
) -> tuple[Cause, ...]:
    """Return the likely causes; `shown` are features as evidence quotes them.

    Of a run that is sick one family is taken to be the cause; of another it is asked whether one
    is. The sides of a family share its probability by how much speaks for each. That of a side
    whose key is `denied`, or that a restless run denies, goes to no other.
    """
    chances = weigh(features)
    if is_sick:
        total = sum(chances.values())
        chances = {family: chance / total for family, chance in chances.items()}
    is_restless = features["fluctuating"] > 0 or features["diverged"] > 0
    sides: dict[str, dict[str, tuple[float, Entry | None]]] = {}
    for entry in TABLE:
        if entry.family not in chances:
            continue
        names = {name for reset in entry.resets for name in reset}
        are_known = bool(names) and names <= set(arguments)
        if are_known and not any(resolve(one, arguments) for one in entry.resets):
            continue  # all arguments that would repair it have these values already
        means = [features[name] for name in entry.means.split()]
        counts = max([LEAST_MEANING, *(value for value in means if math.isfinite(value))])
        is_denied = entry.key in denied or (entry.is_quiet and is_restless)
        held = entry.key if is_denied else entry.cause
        of_family = sides.setdefault(entry.family, {})
        if counts > of_family.get(held, (0.0,))[0]:
            of_family[held] = counts, None if is_denied else entry
    found = []
    for family, of_family in sides.items():
        total = sum(counts for counts, _ in of_family.values())
        for counts, side in of_family.values():
            cause = None if side is None else describe(side, shown, arguments)
            if cause is not None:
                found.append(replace(cause, confidence=chances[family] * counts / total))
    return in_order(cause for cause in found if cause.confidence >= LEAST_CONFIDENCE)[:MOST_CAUSES]


def describe(
    entry: Entry, features: Mapping[str, float], arguments: Mapping[str, Any] | None
) -> Cause | None:
    """Return a cause with its words; None if nothing that was recorded or set speaks for it."""
    said = tell(entry.shows.split(), features)
    known = arguments or {}
    changes = [resolve(reset, known) for reset in entry.resets if arguments is not None]
    changes = [change for i, change in enumerate(changes) if change and change not in changes[:i]]
    first = entry.resets[0] if entry.resets else {}
    unusual = [
        f"{name} is {getattr(known[name], '__name__', repr(known[name]))}, usually {new!r}"
        for name, new in resolve(first, known).items()
        if name in known and isinstance(first[name], Usual)
    ]
    sources = {}
    if said:
        *most, last = said.values()
        clauses = f"{', '.join(most)}{',' * (len(most) > 1)} and {last}" if most else last
        sources["curve"] = f"{clauses[0].upper()}{clauses[1:]}."
    if unusual:
        sources["arguments"] = f"{'; '.join(unusual)}."
    if not sources:
        return None
    return Cause(
        entry.cause,
        "suspected",
        0.0,
        " ".join(sources.values()),
        finding=entry.finding,
        recommendation=changes[0] if changes else {},
        alternatives=tuple(changes[1:3]),
        advice=entry.advice,
        statistics=tuple(said),
        sources=sources,
    )


def tell(shows: Iterable[str], features: Mapping[str, float]) -> dict[str, str]:
    """Return clauses of the first features that were measured, by feature."""
    said: dict[str, str] = {}
    for feature in shows:
        words, value = CLAUSES[feature], features.get(feature, math.nan)
        is_share = "{p}" in words or "{points}" in words
        if math.isfinite(value) and not (is_share and value < LEAST_SHARE):
            said[feature] = words.format(
                n=f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}",
                p=f"{100 * value:.3g} %",
                points=f"{100 * value:.1f}",
                nats=f"{value:.3f}",
            )
    return dict(list(said.items())[:MOST_CLAUSES])


def _explained(of: Mapping[str, float], denied: Container[str]) -> tuple[Cause, ...]:
    """Return what makes a calm run's curve look rough, with the share of it as confidence."""
    is_calm = of["loss_noise"] < limits.FIXED_LOSS_NOISE_NATS
    shares = {}
    if (
        is_calm
        and of["val_accuracy_noise"] > limits.ACCURACY_NOISE
        and of["val_noise_over_sampling"] < limits.EXCESS_OVER_SAMPLING
        and of["common_mode"] < limits.EXCESS_RATIO
    ):
        shares["small_validation_set"] = 1 / max(of["common_mode"], 1.0)
    # a few windows about as far on the wrong side as the others are on the right one
    if 0.05 < of["stuck_share"] < 0.45 and of["stuck_depth"] > 0.8 and of["train_accuracy"] > 0.5:
        share = of["val_stubborn_of_errors"]
        shares["label_noise"] = share if math.isfinite(share) else 0.5
    found = [
        replace(cause, confidence=shares[entry.cause])
        for entry in TABLE
        if entry.cause in shares
        and entry.key not in denied
        and (cause := describe(entry, of, None)) is not None
    ]
    return tuple(sorted(found, key=lambda cause: -cause.confidence))


class _Kind(NamedTuple):
    """The cause that a kind of finding is, its words, and its confidence; if severe the second."""

    name: str
    finding: str
    confidence: float
    if_severe: float = 0.0


# The confidences are low but where little else is left to explain the labels.
KINDS = {
    "labels_off": _Kind("data_bug", "labels are {distance} off", 0.85),
    "two_labels": _Kind("data_bug", "one window, two labels", 0.3, 0.6),
    "windows_in_both_parts": _Kind("data_bug", "training windows in validation", 0.1, 0.3),
    "windows_overlap": _Kind("data_bug", "validation overlaps training", 0.1, 0.3),
    "copies": _Kind("data_bug", "copies among the training windows", 0.2, 0.6),
    "mixed_units": _Kind("data_bug", "groups in other units", 0.6),
    "clipped": _Kind("data_bug", "clipped values", 0.2, 0.4),
    "constant_channels": _Kind("data_bug", "constant channel", 0.05, 0.9),
    "clock_channels": _Kind("data_bug", "a clock among the channels", 0.3),
    "still_windows": _Kind("data_bug", "windows without a signal", 0.15),
    "class_not_in_training": _Kind("data_bug", "class missing in training", 0.2, 0.4),
    "class_not_in_validation": _Kind("distribution_shift", "class missing in validation", 0.15),
    "level_shift": _Kind("distribution_shift", "another level in validation", 0.2, 0.35),
    "groups_apart": _Kind("distribution_shift", "groups at other levels", 0.25, 0.45),
    "not_scaled": _Kind("preprocessing", "not scaled", 0.25, 0.4),
    "padding_as_signal": _Kind("preprocessing", "padding read as signal", 0.25),
    "outliers": _Kind("preprocessing", "outliers", 0.15),
}
SCALES = {"not_scaled": ("standard", "robust"), "outliers": ("robust",)}


def causes_of(
    findings: Iterable["Finding"], arguments: Mapping[str, Any] | None = None
) -> list[Cause]:
    """Return findings that may be the cause of what a run does, the most confident first."""
    found = [_cause_of(one, arguments or {}) for one in findings if one.kind in KINDS]
    return sorted(found, key=lambda cause: -cause.confidence)


def _cause_of(finding: "Finding", arguments: Mapping[str, Any]) -> Cause:
    kind, advice = KINDS[finding.kind], finding.advice
    changes: list[dict[str, Any]] = []
    if finding.kind in SCALES:
        scales, scale = SCALES[finding.kind], arguments.get("scale")
        if not arguments or ("scale" in arguments and scale not in scales):
            changes = [{"scale": name} for name in scales]
        if finding.kind == "not_scaled" and scale is not None:
            advice = "Check why values that were scaled are so far off."
    return Cause(
        kind.name,
        "suspected",
        kind.if_severe if finding.values.get("severe") else kind.confidence,
        finding.text,
        finding=kind.finding.format(**finding.values),
        recommendation=changes[0] if changes else {},
        alternatives=tuple(changes[1:]),
        advice=advice,
    )
