"""Name the causes of a bad run: faults in the data, or the most unusual setting."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.base.optimizers import OPTIMIZERS
from sensorseq.diagnosis import thresholds as limits
from sensorseq.diagnosis.defaults import DEFAULTS
from sensorseq.diagnosis.metrics import Floats, Run
from sensorseq.inspection.finding import Finding
from sensorseq.messages import advice_of, text_of

TROUBLED = ("fluctuating", "diverged", "not_learning")  # verdicts that need a cause


@dataclass(frozen=True)
class Cause:
    """One possible cause of a run's behavior."""

    name: str  # one of `CAUSE_NAMES`
    evidence: str  # a sentence with the measured values
    finding: str = ""  # direction, such as "too high"; may be empty
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""  # what to do, in words
    # Parts of the evidence by source: "data", "arguments" or "curve".
    sources: Mapping[str, str] = field(default_factory=dict)
    is_minor: bool = False  # True for a finding in the data that rarely does harm; listed last

    @property
    def title(self) -> str:
        """The name of the cause, followed by the finding if there is one."""
        return f"{self.name}: {self.finding}" if self.finding else self.name

    @property
    def family(self) -> str:
        """The family of this cause, such as ``"step"``; causes of a family have similar repairs."""
        return FAMILY_OF.get(self.name, UNKNOWN)


def hidden_cause(verdict: str, causes: Sequence[Cause]) -> Cause | None:
    """Return the cause that probably lowers the accuracy of a calm run; None for other runs."""
    if verdict != "normal":
        return None
    return next((cause for cause in causes if "arguments" in cause.sources), None)


def data_fault(causes: Sequence[Cause]) -> Cause | None:
    """Return the first serious fault that the data checks found, or None."""
    faults = ("data_bug", "distribution_shift")
    by_data = (cause for cause in causes if cause.name in faults and "data" in cause.sources)
    return next((cause for cause in by_data if not cause.is_minor), None)


UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Usual:
    """An argument's default, its other usual values, and the causes that unusual values indicate.

    The distance of a number outside the usual range is measured from `middle`, or from the default
    if `middle` is None. A factor of ten counts as `tenfold`; if `unit` is given, a difference of
    `unit` counts as 1 instead. An unusual value that is not a number has the distance `odd`, and a
    custom function has the distance 1.
    """

    default: Any = None  # default of the classifier, filled in below
    least: float = -math.inf
    most: float = math.inf
    middle: float | None = None
    tenfold: float = 1.0
    unit: float = 0.0
    also: tuple[Any, ...] = ()  # usual values in addition to the default
    odd: float = 0.5
    description: str = ""  # the usual values in words, if not derived from the fields above
    low: str = ""  # entry of `TABLE` for a number below `least`
    high: str = ""  # entry of `TABLE` for a number above `most`
    other: str = ""  # entry of `TABLE` for an unusual value that is not a number

    def distance(self, value: float) -> float:
        """Return the distance of a value from the usual range; negative below it, 0 within it."""
        middle = self.default if self.middle is None else self.middle
        if self.least <= value <= self.most:
            return 0.0
        if self.unit:
            return (value - middle) / self.unit
        return self.tenfold * math.log10(max(value, _LEAST_VALUE) / middle)

    def describe(self, times: float) -> str:
        """Describe the usual values; numbers are multiplied by `times`."""
        if self.description:
            return self.description
        numbers = [f"{times * end:.3g}" for end in (self.least, self.most) if math.isfinite(end)]
        if len(numbers) == 2:
            return " to ".join(numbers)
        if numbers:
            return f"at {'most' if math.isfinite(self.most) else 'least'} {numbers[0]}"
        return repr(self.default)


_LEAST_VALUE = 1e-12  # smaller numbers and 0 are treated as this value
_INITIALIZATION: Mapping[str, Any] = {
    "also": ("xavier", "orthogonal", "he", "uniform"),
    "other": "weight_init",
}
_DROPOUT: Mapping[str, Any] = {
    "most": 0.5,
    "middle": 0.3,
    "unit": 0.4,
    "high": "regularization: too strong",
}
# The arguments whose values indicate a cause; of equally unusual arguments, the first is named.
_USUAL: Mapping[str, Usual] = {
    "learning_rate": Usual(
        least=1e-3,
        most=1e-2,
        low="learning_rate: too low",
        high="learning_rate: too high",
    ),
    "lr_schedule": Usual(also=("plateau",), other="learning_rate: schedule missing"),
    "hidden_size": Usual(
        least=32,
        most=128,
        low="model_complexity: too small",
        high="model_complexity: too large",
    ),
    "num_layers": Usual(most=2, unit=2.0, high="model_complexity: too large"),
    "pooling": Usual(also=("mean", "max"), other="model_complexity: last step only"),
    "dropout": Usual(**_DROPOUT),
    "recurrent_dropout": Usual(**_DROPOUT),
    "weight_decay": Usual(most=1e-2, tenfold=0.5, high="regularization: too strong"),
    "weight_init": Usual(**_INITIALIZATION),
    "recurrent_init": Usual(**_INITIALIZATION),
    "forget_bias": Usual(least=0.0, most=2.0, unit=2.0, low="weight_init", high="weight_init"),
    "loss": Usual(odd=0.7, other="loss: not cross-entropy"),
    "class_weight": Usual(
        also=("balanced",),
        most=3.0,
        middle=1.0,
        description="None or 'balanced'",
        high="loss: classes weighted wrongly",
    ),
    "optimizer": Usual(also=("adam",), other="optimizer"),
    "optimizer_params": Usual(odd=1.0, other="optimizer"),
    "batch_size": Usual(
        least=16, most=64, low="batch_size: too small", high="batch_size: too large"
    ),
    "max_grad_norm": Usual(least=0.5, low="gradient_clipping", other="gradient_clipping"),
    "max_timesteps": Usual(least=50, middle=100, low="sequence_length"),
    "scale": Usual(
        also=("robust", "physical"),
        odd=1.0,
        other="preprocessing: scale of the inputs",
    ),
    "max_epochs": Usual(
        least=20,
        most=200,
        middle=50,
        low="early_stopping: too few epochs",
        high="early_stopping: too many epochs",
    ),
}
USUAL: Mapping[str, Usual] = {
    name: replace(usual, default=DEFAULTS[name]) for name, usual in _USUAL.items()
}
_MOMENTUM = Usual(  # of sgd, in `optimizer_params`
    default=0.9, least=0.8, most=0.95, unit=0.9, low="optimizer", high="optimizer"
)


@dataclass(frozen=True)
class Entry:
    """An entry of `TABLE`: a cause, or one direction of a cause, such as "too high"."""

    key: str  # the cause, followed by ": " and the direction if there are several
    # "step", "capacity" (of the network), "data", "start" or "stopping" (length of the training);
    # repairs within a family are nearly the same
    family: str
    advice: str = ""  # what to do, in words that fit any framework
    denied_by: str = ""  # verdicts and statement kinds that contradict the cause, space-separated

    @property
    def cause(self) -> str:
        """The name of the cause."""
        return self.key.partition(": ")[0]

    @property
    def finding(self) -> str:
        """The direction of the cause; empty if the cause has only one."""
        return self.key.partition(": ")[2]


TABLE = (
    Entry("learning_rate: too high", "step", "Lower the learning rate."),
    Entry(
        "learning_rate: too low",
        "step",
        "Raise the learning rate.",
        denied_by="fluctuating diverged",
    ),
    Entry(
        "learning_rate: schedule missing",
        "step",
        "The learning rate itself may be right: let it decay towards the end.",
    ),
    Entry(
        "batch_size: too small",
        "step",
        "Use batches of 32 windows or more; a lower learning rate also reduces the noise.",
    ),
    Entry(
        "batch_size: too large",
        "step",
        "Use batches of 32 windows or fewer, so that an epoch has more steps.",
        denied_by="fluctuating diverged",
    ),
    Entry(
        "optimizer",
        "step",
        "Use Adam with its usual parameters: it adapts the step size of each parameter.",
    ),
    Entry(
        "gradient_clipping",
        "step",
        "Inspect the windows with the largest gradients: they may be outliers.",
    ),
    Entry("model_complexity: too small", "capacity", "Use more hidden units; 64 are usual."),
    Entry(
        "model_complexity: last step only",
        "capacity",
        "Feed the mean and maximum over all time steps into the last layer.",
    ),
    Entry(
        "model_complexity: too large",
        "capacity",
        "Use one layer and fewer hidden units, or record more data.",
    ),
    Entry(
        "regularization: too strong",
        "capacity",
        "Use dropout of at most 0.3 and a weight decay of at most 0.001.",
    ),
    Entry(
        "regularization: missing",
        "capacity",
        "Use a dropout of 0.3 and a weight decay of 0.001; more recordings help more.",
    ),
    Entry(
        "preprocessing: scale of the inputs",
        "data",
        "Scale each channel with the mean and standard deviation of the training windows.",
    ),
    Entry("label_noise", "data", "Check the labels of the windows that never fit."),
    Entry(
        "sequence_length",
        "data",
        "Cut windows that last two to four periods of the slowest motion that matters.",
    ),
    Entry(
        "distribution_shift",
        "data",
        "Record more data, or prepare the recordings with normalize='recording'.",
    ),
    Entry(
        "small_validation_set",
        "data",
        "Training is fine. Hold out more windows or cross-validate, and watch the validation loss.",
        denied_by="accuracy_calm accuracy_restless accuracy_recordings accuracy_alone",
    ),
    Entry("data_bug", "data"),
    Entry(
        "weight_init",
        "start",
        "Start from Xavier (input) and orthogonal (recurrent) weights and a forget bias of 1.",
    ),
    Entry(
        "loss: not cross-entropy",
        "start",
        "Train with the cross-entropy of the logits; apply the softmax only once.",
    ),
    Entry("loss: classes weighted wrongly", "start", "Use no class weights, or balanced ones."),
    Entry(
        "early_stopping: too few epochs",
        "stopping",
        "Train longer.",
        denied_by="flat hardly_falls overfits got_worse noise_constant noise_falls_little"
        " noise_rises noise_rises_little",
    ),
    Entry(
        "early_stopping: too many epochs",
        "stopping",
        "Train for fewer epochs, or record more data.",
        denied_by="still_falls no_overfitting",
    ),
    Entry(UNKNOWN, UNKNOWN),
)
ENTRY = {entry.key: entry for entry in TABLE}
FAMILY_OF = {entry.cause: entry.family for entry in TABLE}
CAUSE_NAMES = tuple(FAMILY_OF)
# the cause that is named if there is no other
UNCLEAR = Cause(UNKNOWN, text_of("cause_unclear"), advice=advice_of("cause_unclear"))


def usual_rate(arguments: Mapping[str, Any]) -> float:
    """Return the usual learning rate of the run's optimizer; with sgd, it depends on momentum."""
    name = arguments.get("optimizer", USUAL["optimizer"].default)
    optimizer = OPTIMIZERS.get(name) if isinstance(name, str) else None
    rate = USUAL["learning_rate"].default if optimizer is None else optimizer.usual_rate
    momentum = _with_momentum(arguments).get("momentum")
    if isinstance(momentum, int | float) and 0 <= momentum < 1:
        rate *= (1 - momentum) / (1 - _MOMENTUM.default)
    return float(f"{rate:.3g}")


def _with_momentum(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a run with the momentum of sgd apart from `optimizer_params`."""
    if arguments.get("optimizer") != "sgd":
        return arguments
    given = arguments.get("optimizer_params")
    params = {"momentum": _MOMENTUM.default, **(given if isinstance(given, Mapping) else {})}
    momentum = params.pop("momentum")
    return {**arguments, "momentum": momentum, "optimizer_params": params or None}


class Deviation(NamedTuple):
    """Arguments with unusual values, and the cause that they suggest."""

    distance: float  # how far the values are from usual; see `Usual`
    key: str  # the cause and its direction, as in `TABLE`
    arguments: tuple[str, ...]
    evidence: str  # a sentence with these values and the usual values


def deviations(
    arguments: Mapping[str, Any], n_train: int | None = None, n_epochs: int | None = None
) -> list[Deviation]:
    """Return the unusual settings of a run, the most unusual first."""
    unusual, arguments = [], _with_momentum(arguments)
    for name, usual in [*USUAL.items(), ("momentum", _MOMENTUM)]:
        if name not in arguments:
            continue
        argument = value = arguments[name]
        if name == "batch_size" and value is None:
            value = n_train  # all windows in one batch
        if name == "max_epochs" and n_epochs is not None and _is_number(value):
            value = min(value, n_epochs)  # training may have ended before `max_epochs`
        if isinstance(value, Mapping):
            value = _ratio(value) if name == "class_weight" else value or None
        times = usual_rate(arguments) / usual.default if name == "learning_rate" else 1.0
        distance, key = 0.0, usual.other
        if _is_number(value):
            distance = usual.distance(value / times)
            key = usual.low if distance < 0 else usual.high
        elif callable(value):
            distance = 1.0
        elif not any(is_same(value, usual_one) for usual_one in (usual.default, *usual.also)):
            distance = usual.odd
        if distance and key:
            shown = getattr(argument, "__name__", repr(argument))
            described = usual.describe(times)
            evidence = text_of("unusual_setting", name=name, value=shown, usual=described)
            changed = "optimizer_params" if name == "momentum" else name
            unusual.append(Deviation(abs(distance), key, (changed,), evidence))
    if all(_is_number(v := arguments.get(name)) and v == 0 for name in _REGULARIZERS):
        evidence = text_of("unregularized")
        unusual.append(Deviation(0.5, "regularization: missing", _REGULARIZERS, evidence))
    return sorted(unusual, key=lambda deviation: -deviation.distance)


_REGULARIZERS = ("dropout", "weight_decay")  # either can keep a network from memorizing windows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _ratio(weights: Mapping[Any, Any]) -> float:
    """Return the largest class weight divided by the smallest."""
    shares = [float(share) for share in weights.values()]
    return max(shares) / min(shares) if shares and min(shares) > 0 else 1.0


def find_causes(
    run: Run,
    verdict: str,
    arguments: Mapping[str, Any] | None = None,
    data_facts: Sequence[Cause] = (),
    statement_kinds: Iterable[str] = (),
    *,
    is_below_data: bool = False,
) -> tuple[Cause, ...]:
    """Name the causes of a judged run: faults in the data, then the most unusual setting.

    If there are only minor faults and no unusual setting, ``"unknown"`` comes first. For a normal
    run, reasons for a rough curve are named instead of a setting, unless `is_below_data`, that is,
    unless the run turned out worse than the data allow.
    Settings and reasons that contradict the verdict or one of the `statement_kinds` are left out.
    """
    if verdict != "normal" and verdict not in TROUBLED:
        return tuple(data_facts)
    stated = {verdict, *statement_kinds}
    denied = {entry.key for entry in TABLE if not stated.isdisjoint(entry.denied_by.split())}
    if verdict == "normal" and not is_below_data:
        explained = [cause for cause in explain_rough_curve(run) if cause.title not in denied]
        return merge_causes([*data_facts, *explained])
    unusual = deviations(arguments or {}, run.n_train, run.n_epochs)
    key = next((deviation.key for deviation in unusual if deviation.key not in denied), None)
    if key is not None:
        return merge_causes([*data_facts, _cause_by_settings(key, unusual, arguments or {})])
    return with_unknown(merge_causes(data_facts))


_OF_OPTIMIZER = ("optimizer", "learning_rate", "optimizer_params")


def _cause_by_settings(
    key: str, unusual: Sequence[Deviation], arguments: Mapping[str, Any]
) -> Cause:
    """Return the cause with this key and the arguments that it recommends changing."""
    by_key = [deviation for deviation in unusual if deviation.key == key]
    change = {name: USUAL[name].default for deviation in by_key for name in deviation.arguments}
    if "optimizer" in change:  # parameters of the previous optimizer do not fit the new one
        usual = {name: USUAL[name].default for name in _OF_OPTIMIZER}
        change = {name: v for name, v in usual.items() if not is_same(arguments.get(name), v)}
    elif "learning_rate" in change:
        change["learning_rate"] = usual_rate(arguments)
    entry, evidence = ENTRY[key], " ".join(deviation.evidence for deviation in by_key)
    sources = {"arguments": evidence}
    return Cause(entry.cause, evidence, entry.finding, change, entry.advice, sources)


def merge_causes(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Merge causes that have the same name into one; minor causes come last."""
    by_name: dict[str, Cause] = {}
    for cause in sorted(causes, key=lambda cause: cause.is_minor):
        first = by_name.setdefault(cause.name, cause)
        if cause.evidence not in first.evidence:
            evidence = f"{first.evidence} {cause.evidence}"
            change = first.recommendation or cause.recommendation
            sources = {**cause.sources, **first.sources}
            by_name[cause.name] = replace(
                first, evidence=evidence, recommendation=change, sources=sources
            )
    return tuple(by_name.values())


def with_unknown(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """Put ``"unknown"`` first if there are only minor causes."""
    return tuple(causes) if any(not cause.is_minor for cause in causes) else (UNCLEAR, *causes)


def explain_rough_curve(run: Run) -> tuple[Cause, ...]:
    """Explain why a calm run's curve looks rough: too few validation windows, or wrong labels."""
    values = {name: float(statistic.value) for name, statistic in run.statistics.items()}
    loss = values.get("fixed_loss_noise", values.get("train_loss_noise", math.nan))
    causes, noise = [], values.get("val_accuracy_noise", math.nan)
    if (
        loss < limits.FIXED_LOSS_NOISE_NATS
        and noise > limits.ACCURACY_NOISE
        and values.get("val_accuracy_noise_over_sampling", math.nan) < limits.EXCESS_OVER_SAMPLING
        and values.get("val_common_mode", math.nan) < limits.EXCESS_RATIO
    ):
        luck = run.statistics["val_accuracy_noise"].floor
        evidence = text_of("few_validation_windows", noise=noise, luck=luck, loss=loss)
        causes.append(_cause_by_curve("small_validation_set", evidence))
    stuck = describe_stuck_windows(run)
    if stuck is not None:
        causes.append(_cause_by_curve("label_noise", stuck))
    return tuple(causes)


def _cause_by_curve(key: str, evidence: str) -> Cause:
    return Cause(key, evidence, advice=ENTRY[key].advice, sources={"curve": evidence})


def describe_stuck_windows(run: Run) -> str | None:
    """Describe the training windows that the network never fits; None if they do not matter."""
    record = run.record
    if record is None:
        return None
    late = slice(run.n_epochs - max(run.n_epochs // 3, 1), run.n_epochs)
    margin = np.asarray(record.train_margin, np.float64)
    accuracy = record.fixed_accuracy
    if len(accuracy) != run.n_epochs and "accuracy" in run.columns:
        accuracy = run.columns["accuracy"].values
    if len(margin) != run.n_epochs or not margin.shape[1] or not _median(accuracy[late]) > 0.5:
        return None
    margin = np.where(np.isfinite(margin), margin, math.nan)[late]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nanmean warns of windows without a margin
        mean_margin = _finite(np.nanmean(margin, axis=0))
    stuck = mean_margin < 0
    if not len(mean_margin) or not 0.05 < stuck.mean() < 0.45:
        return None
    typical = max(float(np.median(mean_margin)), 0.0)
    depth = -float(np.median(mean_margin[stuck])) / (typical + 0.5)
    if depth <= 0.8:
        return None
    wrong_share = None
    if run.followed is not None and record.val_predicted.shape[1] > 1:
        wrong = ~record.val_correct[late]
        always = wrong.mean(axis=0) >= 0.9
        if wrong[:, always].any():
            wrong_share = 100 * wrong[:, always].sum() / wrong.sum()
    return text_of("windows_never_fit", stuck=100 * stuck.mean(), depth=depth, wrong=wrong_share)


def _finite(values: ArrayLike) -> Floats:
    numbers = np.asarray(values, np.float64).ravel()
    return np.asarray(numbers[np.isfinite(numbers)])


def _median(values: ArrayLike) -> float:
    finite = _finite(values)
    return float(np.median(finite)) if len(finite) else math.nan


class DataCause(NamedTuple):
    """The cause that a kind of data finding indicates."""

    name: str  # one of `CAUSE_NAMES`
    finding: str  # a template for the values of the finding
    is_minor: bool = False  # ignored if the finding is severe


# The cause that each kind of finding indicates, the likeliest first.
CAUSE_OF_FINDING = {
    "labels_off": DataCause("data_bug", "labels are {distance} off"),
    "mixed_units": DataCause("data_bug", "groups in different units"),
    "constant_channels": DataCause("data_bug", "constant channel", is_minor=True),
    "not_scaled": DataCause("preprocessing", "not scaled"),
    "two_labels": DataCause("data_bug", "identical windows with two labels"),
    "copied_windows": DataCause("data_bug", "copies among the training windows"),
    "groups_apart": DataCause("distribution_shift", "groups at different levels"),
    "clipped": DataCause("data_bug", "clipped values"),
    "class_not_in_training": DataCause("data_bug", "class missing in training"),
    "level_shift": DataCause("distribution_shift", "different levels in validation"),
    "clock_channels": DataCause("data_bug", "a clock among the channels"),
    "padding_as_signal": DataCause("preprocessing", "padding read as signal"),
    "windows_in_both_parts": DataCause("data_bug", "training windows in validation", is_minor=True),
    "windows_overlap": DataCause("data_bug", "validation overlaps training", is_minor=True),
    "still_windows": DataCause("data_bug", "windows without a signal", is_minor=True),
    "class_not_in_validation": DataCause(
        "distribution_shift", "class missing in validation", is_minor=True
    ),
    "outlier_windows": DataCause("preprocessing", "outliers", is_minor=True),
}
SCALES = {"not_scaled": ("standard", "robust"), "outlier_windows": ("robust",)}


def causes_of(
    findings: Iterable[Finding], arguments: Mapping[str, Any] | None = None
) -> list[Cause]:
    """Turn data findings into possible causes of a run's behavior, the likeliest first."""
    findings, arguments = list(findings), arguments or {}
    causes = []
    for kind, cause in CAUSE_OF_FINDING.items():
        for finding in (finding for finding in findings if finding.kind == kind):
            advice, change = finding.advice, {}
            if kind in SCALES:
                scales, scale = SCALES[kind], arguments.get("scale")
                if not arguments or ("scale" in arguments and scale not in scales):
                    change = {"scale": scales[0]}
                if kind == "not_scaled" and scale is not None:
                    advice = advice_of("scaled_but_far_off")
            is_minor = cause.is_minor and not finding.values.get("severe")
            described = cause.finding.format(**finding.values)
            of_data = {"data": finding.text}
            named = cause.name, finding.text, described
            causes.append(Cause(*named, change, advice, of_data, is_minor))
    return sorted(causes, key=lambda cause: cause.is_minor)


def is_same(first: Any, second: Any) -> bool:
    """Compare two values of an argument; an int equals a float of the same value."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first == second
    return type(first) is type(second) and bool(first == second)
