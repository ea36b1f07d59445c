"""Rank the causes of a run by features of its curves, record and settings.

Any feature may be missing (NaN). Losses are in nats, accuracies and shares are fractions.
"""

import json
import math
import warnings
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis import thresholds as limits
from sensorseq.diagnosis.causes import (
    CLAUSES,
    DEFAULTS,
    IDENTIFIED,
    LEAST_FAULT,
    RANKED,
    SAFE,
    TABLE,
    TROUBLED,
    UNKNOWN,
    Cause,
    Entry,
    Usual,
    families,
    resolve,
    usual_rate,
)
from sensorseq.diagnosis.metrics import Floats, Run
from sensorseq.diagnosis.statements import Statement
from sensorseq.history import TrainingRecord
from sensorseq.inspection.finding import Finding

NAN = math.nan
_CURVE = """
fluctuating diverged not_learning still_falling loss_noise val_accuracy_noise
val_noise_over_sampling loss_gap val_loss_rise train_accuracy accuracy_gap restless_at_constant_rate
"""
_RECORD = """
n_steps grad_tail input_scale stuck_share stuck_depth val_stubborn_of_errors common_mode
"""
# Distance of each setting from its usual value: a factor of ten is 1, another choice about 0.5.
_SETTINGS = """
rate_above rate_below rate_constant batch_above batch_below width_above width_below more_layers
pools_less dropout_above unregularized decay_above unclipped clip_below unscaled sgd rmsprop
momentum_off own_optimizer_parameters epochs_above epochs_below own_weights forget_bias_off
own_loss own_class_weight cropped
"""
CURVE_FEATURES, RECORD_FEATURES, SETTING_FEATURES = (
    tuple(names.split()) for names in (_CURVE, _RECORD, _SETTINGS)
)
# largest distance of a setting in each family
FURTHEST = {family: f"furthest_{family}" for family in RANKED}
NAMES = (*CURVE_FEATURES, *RECORD_FEATURES, *SETTING_FEATURES, *FURTHEST.values())
# scored by their logarithms
LOGARITHMIC = {"loss_noise", "val_accuracy_noise", "val_noise_over_sampling", "val_loss_rise"}
LOGARITHMIC |= {"n_steps", "grad_tail", "input_scale", "common_mode"}
# Evidence quotes these statistics of the verdict instead of the features they correspond to.
_QUOTED = {
    "loss_noise": ("fixed_loss_noise", "train_loss_noise"),
    "val_loss_rise": ("val_loss_rise_after_lowest",),
}
# Value of this feature for a constant rate in a restless run, as large as for a setting off by a
# factor of 30. Of 34 calibration runs repaired by a step size, 17 rank the right direction first
# with this feature, and 13 without it.
RESTLESS = 1.5
SAMPLING_NOISE = "val_sampling_noise"  # statistic of the noise that sampling explains


def measure(
    run: Run, verdict: str = "", arguments: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return the features in `NAMES` for a judged run; NaN where one is unknown."""
    found = dict.fromkeys(NAMES, NAN)
    if verdict:
        found |= {name: float(verdict == name) for name in CURVE_FEATURES[:3]}
    found |= _of_curves(run)
    record = run.record
    if record is not None:
        if int(record.epoch_steps[-1]) > 0:
            found |= _of_steps(run, record)
        found |= _of_windows(run, record)
    if arguments:
        found |= _of_settings(run, arguments)
        is_restless = found["fluctuating"] > 0 or found["diverged"] > 0
        is_constant = found["rate_constant"] > 0
        found["restless_at_constant_rate"] = RESTLESS * (is_restless and is_constant)
        for family, name in FURTHEST.items():
            own = [one for entry in TABLE if entry.family == family for one in entry.means.split()]
            found[name] = _top([found[one] for one in own if one in SETTING_FEATURES])
    return found


def quote(run: Run, features: Mapping[str, float]) -> dict[str, float]:
    """Return the features for evidence, with the figures that the verdict gives."""
    shown, known = dict(features), run.statistics
    for name, statistics in _QUOTED.items():
        held = [known[one].value for one in statistics if one in known]
        if held and math.isfinite(features[name]):
            shown[name] = held[0]
    noise = known.get("val_accuracy_noise")
    if noise is not None and noise.floor is not None:
        shown[SAMPLING_NOISE] = noise.floor
    return shown


def _of_curves(run: Run) -> dict[str, float]:
    validation, running, fixed = (_column(run, name) for name in ("val_loss", "loss", "fixed_loss"))
    train = fixed if np.isfinite(fixed).sum() > 2 else running
    late = slice(run.n_epochs - max(run.n_epochs // 3, 1), run.n_epochs)
    level, val_accuracy = _middle(train[late]), _middle(_column(run, "val_accuracy")[late])
    accuracy = _middle(_column(run, "accuracy")[late])
    if run.record is not None and len(run.record.fixed_accuracy) == run.n_epochs:
        accuracy = _middle(run.record.fixed_accuracy[late])
    found = {
        "loss_gap": _middle(validation[late]) - level,
        "train_accuracy": accuracy,
        "accuracy_gap": accuracy - val_accuracy,
        "val_accuracy_noise": _statistic(run, "val_accuracy_noise"),
        "val_noise_over_sampling": _statistic(run, "val_accuracy_noise_over_sampling"),
        "common_mode": _statistic(run, "val_common_mode"),
    }
    loss, val_loss = _finite(train), _finite(validation)
    if len(loss) >= 12:
        found["loss_noise"] = metrics.mean_noise(loss[len(loss) // 2 :])
    if len(loss) >= 6:
        last = loss[-max(len(loss) // 3, 4) :]
        scale = float(np.median(last)) + 0.1 * run.log_classes
        falling = -10 * metrics.theil_sen_slope(last) / scale
        found["still_falling"] = float(np.clip(falling, -0.3, 0.3))
    if len(val_loss) >= 10:
        smooth = np.median(sliding_window_view(val_loss, 5), axis=1)
        found["val_loss_rise"] = float(smooth[-5:].mean() - smooth.min())
    if not run.is_in_nats:  # with other units, only relative changes of the loss can be compared
        found |= dict.fromkeys(("loss_gap", "loss_noise", "val_loss_rise"), NAN)
    return found


def _of_steps(run: Run, record: TrainingRecord) -> dict[str, float]:
    starts = record.epoch_steps
    late = slice(int(starts[max(run.first, run.n_epochs // 2, 0)]), int(starts[-1]))
    if late.start >= late.stop:
        late = slice(0, late.stop)
    found = {"n_steps": float(late.stop), "input_scale": record.input_rms}
    norm = np.asarray(record.steps.get("grad_norm", ()), np.float64)
    held = _finite(norm[late])
    if len(held) >= 8 and np.median(held) > 0:
        found["grad_tail"] = float(np.quantile(held, 0.99) / np.median(held))
    return found


def _of_windows(run: Run, record: TrainingRecord) -> dict[str, float]:
    """Measure training windows that are never learned, and errors that fall on the same windows."""
    n_late, found = max(run.n_epochs // 3, 1), {}
    margin = np.asarray(record.train_margin, np.float64)
    if len(margin) == run.n_epochs and margin.shape[1]:
        margin = np.where(np.isfinite(margin), margin, NAN)[-n_late:]
        with warnings.catch_warnings():
            # All-NaN slices, for windows without a margin.
            warnings.simplefilter("ignore", RuntimeWarning)
            late = _finite(np.nanmean(margin, axis=0))
        if len(late):
            stuck, typical = late < 0, max(float(np.median(late)), 0.0) + 0.5
            found["stuck_share"] = float(stuck.mean())
            if stuck.any():
                found["stuck_depth"] = -float(np.median(late[stuck])) / typical
    if run.followed is not None and record.val_predicted.shape[1] > 1:
        wrong = ~record.val_correct[run.n_epochs - n_late :]
        always = wrong.mean(axis=0) >= 0.9
        if wrong.any():
            found["val_stubborn_of_errors"] = float(wrong[:, always].sum() / wrong.sum())
    return found


def _known(arguments: Mapping[str, Any], name: str, value: Any) -> float:
    return float(value) if name in arguments else NAN


def _number(arguments: Mapping[str, Any], name: str) -> float:
    value = arguments.get(name)
    return float(value) if isinstance(value, int | float) else NAN


def _above(value: float, other: float) -> float:
    return max(math.log10(value / other), 0.0) if value > 0 and other > 0 else NAN


def _of_settings(run: Run, arguments: Mapping[str, Any]) -> dict[str, float]:
    """Return the distance of each setting from its usual value; NaN if a setting is unknown."""
    get, above = arguments.get, _above
    known, number = partial(_known, arguments), partial(_number, arguments)
    rate, usual, width = number("learning_rate"), usual_rate(arguments), number("hidden_size")
    batch = number("batch_size")
    if "batch_size" in arguments and batch != batch and run.n_train:
        batch = float(run.n_train)
    masks = _top([number(name) for name in ("dropout", "recurrent_dropout", "input_dropout")])
    decay, l1, clip = number("weight_decay"), number("l1"), get("max_grad_norm")
    optimizer, momentum, ratios = get("optimizer"), number("momentum"), get("class_weight")
    shares = [float(v) for v in ratios.values()] if isinstance(ratios, Mapping) else [1.0]
    is_weighed = isinstance(ratios, Mapping) or ratios in (None, "balanced")
    weighing = above(max(shares), min(shares)) if is_weighed else 1.0
    off = abs(math.log10(max(1 - momentum, 1e-3) / 0.1)) * (optimizer == "sgd")
    own_weights = [_oddity(get(name)) for name in ("weight_init", "recurrent_init")]
    return {
        "rate_above": above(rate, usual),
        "rate_below": above(usual, rate),
        "rate_constant": known("lr_schedule", 0.5 * (get("lr_schedule") == "constant")),
        "batch_above": above(batch, 32.0),
        "batch_below": above(32.0, batch),
        "sgd": known("optimizer", 0.5 * (optimizer == "sgd")),
        "rmsprop": known("optimizer", 0.5 * (optimizer == "rmsprop")),
        "momentum_off": known("optimizer", off),
        "own_optimizer_parameters": known("optimizer_params", bool(get("optimizer_params"))),
        "unclipped": known("max_grad_norm", 0.5 * (clip is None)),
        "clip_below": known("max_grad_norm", above(1.0, clip or 1.0)),
        "width_above": above(width, 64.0),
        "width_below": above(64.0, width),
        "more_layers": 0.5 * (number("num_layers") - 1),
        "pools_less": known("pooling", 0.5 * (get("pooling") == "last")),
        "dropout_above": max(masks - DEFAULTS["dropout"], 0.0) / 0.4,
        "unregularized": known("dropout", 0.5 * (not masks > 0 and not decay > 0)),
        "decay_above": known("weight_decay", _top([0.0, above(decay, 1e-3) / 2, above(l1, 1e-5)])),
        "unscaled": known("scale", {None: 1.0, "standard": 0.0}.get(get("scale"), 0.4)),
        "cropped": known("max_timesteps", above(100.0, get("max_timesteps") or 100.0)),
        "own_weights": known("weight_init", max(own_weights)),
        "forget_bias_off": abs(number("forget_bias") - DEFAULTS["forget_bias"]) / 2,
        "own_loss": known("loss", 0.7 * (get("loss") != "cross_entropy")),
        "own_class_weight": known("class_weight", weighing),
        "epochs_above": known("max_epochs", above(run.n_epochs, 50.0)),
        "epochs_below": known("max_epochs", above(50.0, run.n_epochs)),
    }


def _oddity(first_weights: Any) -> float:
    """Return 0 for the usual weight initializations, 0.3 for other names, 1 for functions."""
    usual = first_weights in ("xavier", "orthogonal")
    is_name = isinstance(first_weights, str) and first_weights.isidentifier()
    return 0.0 if usual else 0.3 if is_name else 1.0


def _statistic(run: Run, name: str) -> float:
    found = run.statistics.get(name)
    return NAN if found is None else float(found.value)


def _column(run: Run, name: str) -> Floats:
    held = run.columns.get(name)
    if held is None:
        return np.full(run.n_epochs, NAN)
    values = np.asarray(held.values, np.float64)
    return np.where(np.isfinite(values), values, NAN)


def _finite(values: ArrayLike) -> Floats:
    held = np.asarray(values, np.float64).ravel()
    return np.asarray(held[np.isfinite(held)])


def _middle(values: ArrayLike) -> float:
    held = _finite(values)
    return float(np.median(held)) if len(held) else NAN


def _top(values: ArrayLike) -> float:
    return float(_finite(values).max(initial=-math.inf)) if len(_finite(values)) else NAN


WEIGHTS_FILE = Path(__file__).with_name("weights.json")
LEAST_LOG, MOST_SDS = 1e-4, 4.0


@cache
def weights() -> Mapping[str, Any]:
    """Return the fitted weights, which benchmarks/diagnosis/fit.py wrote."""
    read: Mapping[str, Any] = json.loads(WEIGHTS_FILE.read_text())
    return read


def weigh(
    features: Mapping[str, float], model: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return for each family the probability that a single change in it repairs the run.

    It is a multinomial logistic regression on the features of `measure`. The rest, up to 1, is the
    probability that no single change repairs it.
    """
    model = weights() if model is None else model
    z = standardized(features, model["scales"])
    scores = [
        of["intercept"] + sum(w * z[name] for name, w in of["weights"].items())
        for of in model["families"].values()
    ]
    raised = np.exp(np.array([*scores, 0.0]) - max(*scores, 0.0))
    return dict(zip(model["families"], (raised / raised.sum()).tolist(), strict=False))


def standardized(
    features: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return features in standard deviations from their mean; missing ones are 0."""
    z = {}
    for name, (mean, sd) in scales.items():
        value = transformed(name, features.get(name, math.nan))
        known = math.isfinite(value)
        z[name] = float(np.clip((value - mean) / sd, -MOST_SDS, MOST_SDS)) if known else 0.0
    return z


def transformed(name: str, value: float) -> float:
    """Return a feature on the scale on which it is scored."""
    if name not in LOGARITHMIC or math.isnan(value):
        return value
    return math.log10(max(value, LEAST_LOG))


NAMED = 0.4  # "unknown" comes first if no family reaches this confidence
LEAST_CONFIDENCE = 0.05  # below this, a cause is not listed
LEAST_MEANING = 0.05  # weight of a direction whose settings have their usual values
MOST_CAUSES, MOST_CLAUSES = 6, 3
LEAST_SHARE = 0.0005  # smallest fraction that is mentioned
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
    """Rank the causes of a judged run, the likeliest family first.

    ``"unknown"`` comes first if no family is likely enough, or without `arguments`, because a curve
    alone does not reveal its cause. For a normal run, causes that probably cost accuracy come
    first, then those that explain a rough curve; if it `is_sick`, it is ranked like any troubled
    run. Causes that contradict `statements` are left out.
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
    facts = [one for one in ranked if one.name in {fact.name for fact in data_facts} - names]
    faults = [one for one in facts if one.confidence >= LEAST_FAULT]
    others = [one for one in facts if one not in faults]
    return (*hidden, *faults, *_explained(shown, denied), *others)


def with_unknown(ranked: Sequence[Cause]) -> tuple[Cause, ...]:
    """Put ``"unknown"`` first if no family is likely enough to be named."""
    if max((family.confidence for family in families(ranked)), default=0.0) >= NAMED:
        return tuple(ranked)
    rest = 1 - sum(cause.confidence for cause in ranked)
    return (Cause(UNKNOWN, "suspected", rest, "Cause unclear.", advice=SAFE), *ranked)


def join(causes: Iterable[Cause], facts: Sequence[Cause] = ()) -> tuple[Cause, ...]:
    """Add causes found in the data; the others share the remaining confidence.

    Causes of the same name are merged, the text of the more confident one first.
    """
    total = sum(fact.confidence for fact in facts)
    known: dict[str, Cause] = {}
    for cause in causes:
        weaker = replace(cause, confidence=cause.confidence * max(1 - total, 0.0))
        known[cause.name] = _joined(known.get(cause.name), weaker)
    for fact in facts:
        sources = {**fact.sources, "data": fact.evidence}
        shared = replace(fact, confidence=fact.confidence / max(total, 1.0), sources=sources)
        known[fact.name] = _joined(known.get(fact.name), shared)
    return in_order(known.values())


def _joined(one: Cause | None, other: Cause) -> Cause:
    if one is None:
        return other
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
    """Return the likely causes; `shown` are the features that evidence quotes.

    For a troubled run, the probabilities of the families are scaled to sum to 1. Entries of a
    family share its probability in proportion to their features. The share of an entry that is
    `denied`, or contradicted by a restless run, goes to no other entry.
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
            continue  # every argument that would repair it already has that value
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
    """Return a cause with its texts; None if neither features nor settings support it."""
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
    change, words = changes[0] if changes else {}, " ".join(sources.values())
    named = entry.cause, "suspected", 0.0, words, entry.finding
    return Cause(*named, change, entry.advice, sources)


def tell(shows: Iterable[str], features: Mapping[str, float]) -> dict[str, str]:
    """Return the texts of the first features that are known, by feature."""
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
    """Explain why a calm run's curve looks rough; the explained share is the confidence."""
    is_calm = of["loss_noise"] < limits.FIXED_LOSS_NOISE_NATS
    shares = {}
    if (
        is_calm
        and of["val_accuracy_noise"] > limits.ACCURACY_NOISE
        and of["val_noise_over_sampling"] < limits.EXCESS_OVER_SAMPLING
        and of["common_mode"] < limits.EXCESS_RATIO
    ):
        shares["small_validation_set"] = 1 / max(of["common_mode"], 1.0)
    # a few windows are as far on the wrong side as the others on the right one
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
    """The cause for a kind of data finding, its text, and its confidence, also if severe."""

    name: str
    finding: str
    confidence: float
    if_severe: float = 0.0


# Confidence is low unless hardly anything else explains the finding.
KINDS = {
    "labels_off": _Kind("data_bug", "labels are {distance} off", 0.85),
    "two_labels": _Kind("data_bug", "one window, two labels", 0.3, 0.6),
    "windows_in_both_parts": _Kind("data_bug", "training windows in validation", 0.1, 0.3),
    "windows_overlap": _Kind("data_bug", "validation overlaps training", 0.1, 0.3),
    "copied_windows": _Kind("data_bug", "copies among the training windows", 0.2, 0.6),
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
    "outlier_windows": _Kind("preprocessing", "outliers", 0.15),
}
SCALES = {"not_scaled": ("standard", "robust"), "outlier_windows": ("robust",)}


def causes_of(
    findings: Iterable[Finding], arguments: Mapping[str, Any] | None = None
) -> list[Cause]:
    """Turn data findings into possible causes of a run's behavior, most confident first."""
    found, arguments = [], arguments or {}
    for one in findings:
        if one.kind not in KINDS:
            continue
        kind, advice, change = KINDS[one.kind], one.advice, {}
        if one.kind in SCALES:
            scales, scale = SCALES[one.kind], arguments.get("scale")
            if not arguments or ("scale" in arguments and scale not in scales):
                change = {"scale": scales[0]}
            if one.kind == "not_scaled" and scale is not None:
                advice = "Check why values that were scaled are so far off."
        confidence = kind.if_severe if one.values.get("severe") else kind.confidence
        finding = kind.finding.format(**one.values)
        named = kind.name, "suspected", confidence, one.text, finding
        found.append(Cause(*named, change, advice))
    return sorted(found, key=lambda cause: -cause.confidence)
