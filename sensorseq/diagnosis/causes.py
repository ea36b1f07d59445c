"""Name the causes of a bad run: faults in the data, then the settings outside their ranges."""

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
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


def data_fault(causes: Sequence[Cause]) -> Cause | None:
    """Return the first serious fault that the data checks found, or None."""
    faults = ("data_bug", "distribution_shift")
    by_data = (cause for cause in causes if cause.name in faults and "data" in cause.sources)
    return next((cause for cause in by_data if not cause.is_minor), None)


UNKNOWN = "unknown"
# the cause that is named if there is no other
UNCLEAR = Cause(UNKNOWN, text_of("cause_unclear"), advice=advice_of("cause_unclear"))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The values of an argument that were measured to help, and the cause that others suggest."""

    argument: str
    cause: str  # one of `CAUSE_NAMES`
    finding: str = ""  # see `Cause`
    advice: str  # what to do, in words that fit any framework
    least: float = -math.inf
    most: float = math.inf
    usual: tuple[Any, ...] | None = None  # the values that are not numbers; None allows any
    # True if the value can only slow the training down: it makes no loss move or diverge
    only_slow: bool = False

    @property
    def title(self) -> str:
        """The name of the cause, followed by the finding if there is one."""
        return f"{self.cause}: {self.finding}" if self.finding else self.cause

    def allows(self, value: Any) -> bool:
        """Return whether a value is in the range; numbers and other values are tested apart."""
        if _is_number(value):
            return bool(self.least <= value <= self.most)
        return self.usual is None or any(is_same(value, usual) for usual in self.usual)

    def describe(self, times: float) -> str:
        """Describe the range; numbers are multiplied by `times`."""
        if self.usual is not None:
            *others, last = map(repr, self.usual or (DEFAULTS[self.argument],))
            return f"{', '.join(others)} or {last}" if others else last
        numbers = [f"{times * end:.3g}" for end in (self.least, self.most) if math.isfinite(end)]
        if len(numbers) == 2:
            return " to ".join(numbers)
        return f"at {'most' if math.isfinite(self.most) else 'least'} {numbers[0]}"


_STRONG: Mapping[str, Any] = {
    "cause": "regularization",
    "finding": "too strong",
    "advice": "Use dropout of at most 0.3 and a weight decay of at most 0.001.",
}
_START: Mapping[str, Any] = {
    "cause": "weight_init",
    "advice": "Start from Xavier (input) and orthogonal (recurrent) weights and a forget bias of"
    " 1.",
}
_LARGE: Mapping[str, Any] = {
    "cause": "model_complexity",
    "finding": "too large",
    "advice": "Use one layer and fewer hidden units, or record more data.",
}
_OPTIMIZER: Mapping[str, Any] = {
    "cause": "optimizer",
    "advice": "Use Adam with its usual parameters: it adapts the step size of each parameter.",
}
# Causes are named in this order. It is the order of how often a reset of the cause made a run
# outside the range better, on the data sets of benchmarks/diagnosis that are not used for the test;
# benchmarks/results/diagnosis.json has the frequencies.
SETTINGS = (
    Setting(
        argument="class_weight",
        cause="loss",
        finding="classes weighted wrongly",
        advice="Use no class weights, or balanced ones.",
        most=3.0,  # the largest weight divided by the smallest
        usual=(None, "balanced"),
    ),
    Setting(
        argument="max_timesteps",
        cause="sequence_length",
        advice="Cut windows that last two to four periods of the slowest motion that matters.",
        least=50,
    ),
    Setting(argument="dropout", most=0.5, **_STRONG),
    Setting(argument="recurrent_dropout", most=0.5, **_STRONG),
    Setting(argument="weight_decay", most=1e-2, **_STRONG),
    Setting(
        argument="learning_rate",
        cause="learning_rate",
        finding="too low",
        advice="Raise the learning rate.",
        least=1e-3,
        only_slow=True,
    ),
    Setting(argument="weight_init", usual=("xavier", "orthogonal", "he", "uniform"), **_START),
    Setting(argument="recurrent_init", usual=("orthogonal", "xavier", "he", "uniform"), **_START),
    Setting(argument="forget_bias", least=0.0, most=2.0, **_START),
    Setting(
        argument="scale",
        cause="preprocessing",
        finding="scale of the inputs",
        advice="Scale each channel with the mean and standard deviation of the training windows.",
        usual=("standard", "robust", "physical"),
    ),
    Setting(
        argument="hidden_size",
        cause="model_complexity",
        finding="too small",
        advice="Use more hidden units; 64 are usual.",
        least=16,
    ),
    Setting(
        argument="max_epochs",
        cause="early_stopping",
        finding="too few epochs",
        advice="Train longer.",
        least=20,
    ),
    Setting(
        argument="lr_schedule",
        cause="learning_rate",
        finding="schedule missing",
        advice="Let the learning rate decay towards the end.",
        usual=("cosine", "plateau"),
    ),
    Setting(
        argument="max_grad_norm",
        cause="gradient_clipping",
        finding="too strong",
        advice="Clip gradients at a norm of 1.",
        least=0.5,
    ),
    Setting(argument="optimizer", usual=("adamw", "adam"), **_OPTIMIZER),
    Setting(argument="optimizer_params", usual=(None, {}), **_OPTIMIZER),
    Setting(
        argument="pooling",
        cause="model_complexity",
        finding="last step only",
        advice="Feed the mean and maximum over all time steps into the last layer.",
        usual=("meanmax", "mean", "max"),
    ),
    Setting(
        argument="learning_rate",
        cause="learning_rate",
        finding="too high",
        advice="Lower the learning rate.",
        most=1e-2,
    ),
    Setting(
        argument="batch_size",
        cause="batch_size",
        finding="too large",
        advice="Use batches of 32 windows or fewer, so that an epoch has more steps.",
        most=64,
        only_slow=True,
    ),
    Setting(argument="hidden_size", most=128, **_LARGE),
    Setting(argument="num_layers", most=2, **_LARGE),
    Setting(
        argument="batch_size",
        cause="batch_size",
        finding="too small",
        advice="Use batches of 32 windows or more; a lower learning rate also reduces the noise.",
        least=8,
    ),
    Setting(
        argument="max_grad_norm",
        cause="gradient_clipping",
        finding="missing",
        advice="Clip gradients, and inspect the windows with the largest: they may be outliers.",
        usual=(),
    ),
    Setting(
        argument="loss",
        cause="loss",
        finding="not cross-entropy",
        advice="Train with the cross-entropy of the logits; apply the softmax only once.",
        usual=("cross_entropy",),
    ),
)


def usual_rate(arguments: Mapping[str, Any]) -> float:
    """Return the usual learning rate of the run's optimizer."""
    name = arguments.get("optimizer")
    optimizer = OPTIMIZERS.get(name) if isinstance(name, str) else None
    return float(DEFAULTS["learning_rate"]) if optimizer is None else optimizer.usual_rate


class OutsideSetting(NamedTuple):
    """A setting outside its range."""

    setting: Setting
    evidence: str  # a sentence with the value and the range
    default: Any


def settings_outside(
    arguments: Mapping[str, Any], n_train: int | None = None
) -> list[OutsideSetting]:
    """Return the settings outside their ranges, in the order of `SETTINGS`."""
    outside = []
    for setting in SETTINGS:
        name = setting.argument
        if name not in arguments:
            continue
        value, default, times = arguments[name], DEFAULTS[name], 1.0
        if name == "batch_size" and value is None:
            value = n_train  # all windows in one batch
        if name == "class_weight" and isinstance(value, Mapping):
            value = _ratio(value)
        if name == "learning_rate":
            default = usual_rate(arguments)
            times = default / DEFAULTS[name]
        if not setting.allows(value / times if _is_number(value) else value):
            shown = getattr(arguments[name], "__name__", repr(arguments[name]))
            usual = setting.describe(times)
            evidence = text_of("unusual_setting", name=name, value=shown, usual=usual)
            outside.append(OutsideSetting(setting, evidence, default))
    return outside


def name_settings(
    arguments: Mapping[str, Any], n_train: int | None = None, *, loss_moves: bool = False
) -> list[Cause]:
    """Return the causes that settings outside their ranges suggest, the likeliest first.

    `loss_moves` states that the loss fluctuates or diverges, which slow training does not explain.
    """
    by_cause: dict[str, list[OutsideSetting]] = {}
    for one in settings_outside(arguments, n_train):
        if not (one.setting.only_slow and loss_moves):
            by_cause.setdefault(one.setting.cause, []).append(one)
    causes = []
    for name, outside in by_cause.items():
        change = {one.setting.argument: one.default for one in outside}
        if name == "optimizer":  # the previous rate and parameters do not fit the new optimizer
            usual = {of: DEFAULTS[of] for of in _OF_OPTIMIZER}
            change = {of: v for of, v in usual.items() if not is_same(arguments.get(of), v)}
        finding = ", ".join(dict.fromkeys(one.setting.finding for one in outside))
        advice = " ".join(dict.fromkeys(one.setting.advice for one in outside))
        evidence = " ".join(one.evidence for one in outside)
        causes.append(Cause(name, evidence, finding, change, advice, {"arguments": evidence}))
    return causes


_OF_OPTIMIZER = ("optimizer", "learning_rate", "optimizer_params")


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
    statement_kinds: Collection[str] = (),
) -> tuple[Cause, ...]:
    """Name the causes of a judged run: faults in the data, then settings outside their ranges.

    If there are only minor faults and no such setting, ``"unknown"`` comes first. For a normal run,
    reasons for a rough curve are named instead of settings, unless one of the `statement_kinds`
    contradicts them.
    """
    if verdict == "normal":
        return merge_causes([*data_facts, *explain_rough_curve(run, statement_kinds)])
    if verdict not in TROUBLED:
        return tuple(data_facts)
    loss_moves = verdict != "not_learning"
    settings = name_settings(arguments or {}, run.n_train, loss_moves=loss_moves)
    causes = merge_causes([*data_facts, *settings])
    return causes if any(not cause.is_minor for cause in causes) else (UNCLEAR, *causes)


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


# statements that contradict a small validation set as the reason for a rough curve
_NOT_SMALL = ("accuracy_calm", "accuracy_restless", "accuracy_recordings", "accuracy_alone")


def explain_rough_curve(run: Run, statement_kinds: Collection[str] = ()) -> list[Cause]:
    """Explain why a calm run's curve looks rough: too few validation windows, or wrong labels."""
    values = {name: float(statistic.value) for name, statistic in run.statistics.items()}
    loss = values.get("fixed_loss_noise", values.get("train_loss_noise", math.nan))
    causes, noise = [], values.get("val_accuracy_noise", math.nan)
    if (
        loss < limits.FIXED_LOSS_NOISE_NATS
        and noise > limits.ACCURACY_NOISE
        and values.get("val_accuracy_noise_over_sampling", math.nan) < limits.EXCESS_OVER_SAMPLING
        and values.get("val_common_mode", math.nan) < limits.EXCESS_RATIO
        and not any(kind in statement_kinds for kind in _NOT_SMALL)
    ):
        luck = run.statistics["val_accuracy_noise"].floor
        evidence = text_of("few_validation_windows", noise=noise, luck=luck, loss=loss)
        advice = advice_of("few_validation_windows")
        sources = {"curve": evidence}
        causes.append(Cause("small_validation_set", evidence, advice=advice, sources=sources))
    stuck = describe_stuck_windows(run)
    if stuck is not None:
        advice = advice_of("windows_never_fit")
        causes.append(Cause("label_noise", stuck, advice=advice, sources={"curve": stuck}))
    return causes


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
CAUSE_NAMES = tuple(
    dict.fromkeys(
        [
            *(setting.cause for setting in SETTINGS),
            *(cause.name for cause in CAUSE_OF_FINDING.values()),
            *("label_noise", "small_validation_set", UNKNOWN),
        ]
    )
)
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
