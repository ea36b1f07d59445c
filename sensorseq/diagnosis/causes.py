"""Possible causes of a bad run, how trials rated them, and the table of all causes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Suspected from the run alone; proved by a better training without the cause.
GRADES = ("suspected", "proved")
TROUBLED = ("fluctuating", "diverged", "not_learning")  # verdicts that need a cause
LEAST_FAULT = 0.2  # confidence above which a data fault matters ...
LIKELY_FAULT = 0.4  # ... and above which it is repaired first
IDENTIFIED = 0.45  # a calm run has a hidden cause if the confidence in a family reaches this
# In a normal run these explain a rough curve or describe the data; they may cost no accuracy.
DESCRIPTIVE = frozenset(("small_validation_set", "label_noise", "distribution_shift", "data_bug"))


@dataclass(frozen=True)
class Trial:
    """One change that was tried, compared with the original run."""

    cause: str  # why it was not tested
    name: str  # what was changed, such as "learning_rate / 4"
    # Changed arguments and their new values; empty if no argument makes the change.
    change: Mapping[str, Any]
    kind: str  # "race" or "inference" (without a step); older files: "snapshot", "init", "replay"
    outcome: str  # "confirmed", "rejected" or "undecided"
    sentence: str  # the result, with its figures
    # Movement of the loss with the change, divided by that without it.
    noise_ratio: float | None = None
    raw_change: float | None = None  # loss with the change minus loss without it, in nats
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    cost_epochs: float = 0.0  # in epochs of the run
    change_error: float | None = None  # standard error of `raw_change` over groups
    # Validation accuracy with the change minus without it, a fraction.
    accuracy_change: float | None = None
    accuracy_error: float | None = None  # its standard error


@dataclass(frozen=True)
class Cause:
    """One possible cause of a run's behavior."""

    name: str  # one of `CAUSE_NAMES`
    grade: str  # one of `GRADES`
    confidence: float  # probability that this is the cause; all causes together sum to at most 1
    evidence: str  # a sentence with the figures
    finding: str = ""  # direction, such as "too high"; may be empty
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""  # what to do, in words
    sources: Mapping[str, str] = field(default_factory=dict)  # keys are "curve", "data" and others

    @property
    def title(self) -> str:
        """The name, followed by the finding if there is one."""
        return f"{self.name}: {self.finding}" if self.finding else self.name

    @property
    def family(self) -> str:
        """The family of this cause, such as ``"step"`` or ``"data"``; see `FAMILIES`."""
        return FAMILY_OF.get(self.name, UNKNOWN)


@dataclass(frozen=True)
class Family:
    """Causes with nearly the same repairs."""

    name: str  # one of `FAMILIES`
    confidence: float  # sum over its causes
    causes: tuple[Cause, ...]


def families(causes: Iterable[Cause]) -> tuple[Family, ...]:
    """Group causes by family, in order."""
    members: dict[str, list[Cause]] = {}
    for cause in causes:
        members.setdefault(cause.family, []).append(cause)
    return tuple(
        Family(name, sum(float(cause.confidence) for cause in group), tuple(group))
        for name, group in members.items()
    )


@dataclass(frozen=True)
class NotTested:
    """A cause that no trial tested."""

    cause: str  # why it was not tested
    reason: str  # why not
    would_settle: str = ""  # what would test it


@dataclass(frozen=True)
class Probes:
    """The outcome of training a fit again with other settings."""

    budget: float  # allowed cost, as a multiple of the fit's time
    cost: float = 0.0  # actual cost, as a multiple of the fit's time, by the clock
    fit_s: float = 0.0
    probes_s: float = 0.0
    trials: tuple[Trial, ...] = ()  # in the order they were run
    not_tested: tuple[NotTested, ...] = ()  # the causes without a trial
    # Smallest change that repairs the run, for `set_params`.
    repair: Mapping[str, Any] = field(default_factory=dict)
    previous: Mapping[str, Any] = field(default_factory=dict)  # the values that `repair` replaces
    note: str = ""  # how `repair` was found, or why it is empty
    is_applied: bool = False  # True if the reported fit already uses `repair`


def hidden_cause(verdict: str, causes: Sequence[Cause]) -> Cause | None:
    """Find what probably costs a calm run accuracy; None for other runs or without a cause."""
    if verdict != "normal":
        return None
    costly = [cause for cause in causes if cause.name not in DESCRIPTIVE]
    likely = {family.name for family in families(costly) if family.confidence >= IDENTIFIED}
    return next((one for one in costly if one.grade == "proved" or one.family in likely), None)


def data_fault(causes: Sequence[Cause]) -> Cause | None:
    """Return the likeliest fault that the data checks found; None if none matters."""
    found = (
        one
        for one in causes
        if one.name in ("data_bug", "distribution_shift")
        and "data" in one.sources
        and one.confidence >= LEAST_FAULT
    )
    return next(found, None)


UNKNOWN = "unknown"
# Descriptions of the families. Repairs within a family are nearly the same.
FAMILIES = {
    "step": "step size",
    "capacity": "size and regularization of the network",
    "data": "data and scaling",
    "start": "first weights and loss function",
    "stopping": "length of the training",
    "evaluation": "how the curve is measured",
    UNKNOWN: "unknown",
}
RANKED = ("step", "capacity", "data", "start", "stopping")  # families that the ranker scores
# The classifier's default arguments, to which causes are reset and settings compared.
DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 64,
    "num_layers": 1,
    "pooling": "meanmax",
    "input_dropout": 0.0,
    "dropout": 0.3,
    "recurrent_dropout": 0.0,
    "weight_init": "xavier",
    "recurrent_init": "orthogonal",
    "forget_bias": 1.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "class_weight": None,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "momentum": 0.9,
    "optimizer_params": None,
    "lr_schedule": "cosine",
    "batch_size": 32,
    "max_grad_norm": 1.0,
    "weight_decay": 1e-3,
    "l1": 0.0,
    "max_timesteps": None,
    "scale": "standard",
}
# Usual learning rates of each optimizer for an LSTM; for sgd with a momentum of 0.9.
USUAL_RATES = {"adam": 3e-3, "adamw": 3e-3, "rmsprop": 1e-3, "sgd": 0.1}
# Arguments that reset each cause. If an argument occurs under two causes, it names the first.
ARGUMENTS_OF: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate", "lr_schedule", "warmup_epochs"),
    "optimizer": ("optimizer", "learning_rate", "momentum", "optimizer_params"),
    "batch_size": ("batch_size",),
    "gradient_clipping": ("max_grad_norm", "clip_by"),
    "regularization": (
        "dropout",
        "recurrent_dropout",
        "input_dropout",
        "weight_decay",
        "l1",
        "label_smoothing",
    ),
    "preprocessing": ("scale",),
    "weight_init": ("weight_init", "recurrent_init", "forget_bias"),
    "loss": ("loss", "class_weight"),
    "model_complexity": ("hidden_size", "num_layers", "pooling", "head_norm"),
    "sequence_length": ("max_timesteps", "crop"),
    "early_stopping": ("max_epochs", "restore_best"),
}
OWNER_OF = {name: cause for cause in reversed(tuple(ARGUMENTS_OF)) for name in ARGUMENTS_OF[cause]}


class Usual(NamedTuple):
    """The classifier's default; with a sign only if that lowers (-1) or raises (+1) the value."""

    sign: int = 0


class Times(NamedTuple):
    """The present value multiplied by `factor`, but at least `least`."""

    factor: float
    least: float = 0.0


Reset = Mapping[str, Any]  # argument -> value, `Usual` or `Times`


@dataclass(frozen=True)
class Entry:
    """A cause, or one direction of it."""

    key: str  # the cause, followed by ": " and the direction if there are several
    family: str
    means: str = ""  # features, mostly unusual settings, that point to this entry within its family
    shows: str = ""  # features of the run as evidence, most important first; texts are in `CLAUSES`
    resets: tuple[Reset, ...] = ()  # changes that repair it, the best first
    advice: str = ""  # what to do, in words that fit any framework
    is_quiet: bool = False  # never reported for a run that fluctuates or diverged
    denied_by: str = ""  # kinds of statements that contradict it

    @property
    def cause(self) -> str:
        """Its name."""
        return self.key.partition(": ")[0]

    @property
    def finding(self) -> str:
        """Its direction; empty if there is only one."""
        return self.key.partition(": ")[2]


# Texts for features: {n} is the value, {p} the value in percent, {points} a fraction in points,
# {nats} a loss.
CLAUSES = {
    "loss_noise": "the training loss moves +-{nats} nats per epoch",
    "still_falling": "the training loss still falls by {p} in ten epochs",
    "n_steps": "the run has {n} steps in all",
    "grad_tail": "one gradient in a hundred is {n} times the median",
    "train_accuracy": "training accuracy ends at {p}",
    "accuracy_gap": "validation accuracy is {points} points below training accuracy",
    "loss_gap": "validation loss ends {nats} nats above training loss",
    "val_loss_rise": "validation loss ends {nats} nats above its lowest value",
    "val_accuracy_noise": "validation accuracy moves +-{points} points per epoch",
    "val_sampling_noise": "luck of its windows alone gives up to +-{points}",
    "stuck_share": "{p} of the training windows never fit",
    "stuck_depth": "they are {n} times as far on the wrong side as usual ones on the right side",
    "val_stubborn_of_errors": "{p} of the validation errors are always the same windows",
    "input_scale": "the inputs have a root mean square of {n}",
}
# Advice if no cause is likely.
SAFE = (
    "A safe first change: scaled inputs, Adam with a learning rate of 0.001 to 0.003 that falls to"
    " zero, and gradients clipped at 1."
)

TABLE = (
    Entry(
        "learning_rate: too high",
        "step",
        "rate_above",
        "loss_noise train_accuracy",
        tuple({"learning_rate": value} for value in (Usual(-1), Times(0.1), Times(0.3))),
        "Lower the learning rate.",
    ),
    Entry(
        "learning_rate: too low",
        "step",
        "rate_below",
        "still_falling train_accuracy",
        tuple({"learning_rate": value} for value in (Usual(1), Times(10.0), Times(3.0))),
        "Raise the learning rate.",
        is_quiet=True,
    ),
    Entry(
        "learning_rate: schedule missing",
        "step",
        "rate_constant restless_at_constant_rate",
        "loss_noise",
        ({"lr_schedule": Usual()}, {"ema_decay": 0.99}),
        "The learning rate itself may be right: let it fall towards the end.",
    ),
    Entry(
        "batch_size: too small",
        "step",
        "batch_below",
        "loss_noise grad_tail",
        ({"batch_size": Usual(1)}, {"batch_size": Times(4.0)}),
        "Use batches of 32 windows or more; a lower learning rate also reduces the noise.",
    ),
    Entry(
        "batch_size: too large",
        "step",
        "batch_above",
        "n_steps still_falling",
        ({"batch_size": Usual(-1)}, {"batch_size": Times(0.25, 8)}),
        "Use batches of 32 windows or fewer, so that an epoch has more steps.",
        is_quiet=True,
    ),
    Entry(
        "optimizer",
        "step",
        "sgd rmsprop momentum_off own_optimizer_parameters",
        "loss_noise train_accuracy",
        (dict.fromkeys(ARGUMENTS_OF["optimizer"], Usual()), {"optimizer_params": Usual()}),
        "Use Adam with its usual parameters: it gives each parameter a step size of its own.",
    ),
    Entry(
        "gradient_clipping",
        "step",
        "unclipped clip_below",
        "grad_tail",
        ({"max_grad_norm": Usual()},),
        "Inspect the windows with the largest gradients: they may be outliers.",
    ),
    Entry(
        "model_complexity: too small",
        "capacity",
        "width_below",
        "train_accuracy stuck_share",
        ({"hidden_size": Usual(1)}, {"hidden_size": Times(4.0)}),
        "Use more hidden units; 64 are usual.",
    ),
    Entry(
        "model_complexity: last step only",
        "capacity",
        "pools_less",
        "train_accuracy stuck_share",
        ({"pooling": Usual()},),
        "Feed the mean and the maximum over all time steps into the last layer.",
    ),
    Entry(
        "model_complexity: too large",
        "capacity",
        "width_above more_layers",
        "train_accuracy loss_gap val_loss_rise",
        (
            {"hidden_size": Usual(-1), "num_layers": Usual(-1)},
            {"hidden_size": Times(0.25, 8)},
        ),
        "Use one layer and fewer hidden units, or record more.",
    ),
    Entry(
        "regularization: too strong",
        "capacity",
        "dropout_above decay_above",
        "train_accuracy",
        (
            dict.fromkeys(ARGUMENTS_OF["regularization"], Usual(-1)),
            {"dropout": 0.0, "recurrent_dropout": 0.0, "weight_decay": 0.0},
        ),
        "Use dropout of at most 0.3 and a weight decay of at most 0.001.",
    ),
    Entry(
        "regularization: missing",
        "capacity",
        "unregularized",
        "accuracy_gap loss_gap",
        ({"dropout": Usual(1), "weight_decay": Usual(1)},),
        "Dropout of 0.3 and a weight decay of 0.001 narrow the gap; more recordings do more.",
    ),
    Entry(
        "preprocessing: scale of the inputs",
        "data",
        "unscaled",
        "input_scale train_accuracy",
        ({"scale": Usual()}, {"scale": "robust"}),
        "Scale each channel with the mean and standard deviation of the training windows.",
    ),
    Entry(
        "label_noise",
        "data",
        "stuck_depth",
        "stuck_share stuck_depth val_stubborn_of_errors",
        (),
        "Check the labels of the windows that never fit.",
    ),
    Entry(
        "sequence_length",
        "data",
        "cropped",
        "stuck_share train_accuracy",
        ({"max_timesteps": Usual()},),
        "Cut windows of two to four periods of the slowest motion that matters.",
    ),
    Entry(
        "distribution_shift",
        "data",
        "accuracy_gap",
        "accuracy_gap",
        (),
        "More recordings, or scaling with statistics per recording.",
    ),
    Entry(
        "small_validation_set",
        "data",
        "",
        "val_accuracy_noise val_sampling_noise loss_noise",
        (),
        "Training is fine: hold out more windows or cross-validate, and read the validation loss.",
        denied_by="accuracy_calm accuracy_restless accuracy_recordings accuracy_alone",
    ),
    Entry("data_bug", "data"),
    Entry(
        "weight_init",
        "start",
        "own_weights forget_bias_off",
        "train_accuracy",
        (dict.fromkeys(ARGUMENTS_OF["weight_init"], Usual()),),
        "Start from Xavier (input) and orthogonal (recurrent) weights and a forget bias of 1.",
    ),
    Entry(
        "loss: not cross-entropy",
        "start",
        "own_loss",
        "train_accuracy",
        ({"loss": Usual()},),
        "Train with the cross-entropy of the logits; apply the softmax only once.",
    ),
    Entry(
        "loss: classes weighed wrongly",
        "start",
        "own_class_weight",
        "train_accuracy",
        ({"class_weight": Usual()}, {"class_weight": "balanced"}),
        "Use no class weights, or balanced ones.",
    ),
    Entry(
        "early_stopping: too few epochs",
        "stopping",
        "epochs_below",
        "still_falling n_steps train_accuracy",
        ({"max_epochs": Times(3.0)},),
        "Train longer.",
        denied_by="flat hardly_falls overfits got_worse noise_constant noise_falls_little"
        " noise_rises noise_rises_little",
    ),
    Entry(
        "early_stopping: too many epochs",
        "stopping",
        "epochs_above",
        "val_loss_rise loss_gap",
        (),
        "Train for fewer epochs, or record more.",
        denied_by="still_falls no_overfitting",
    ),
    Entry("evaluation_not_deterministic", "evaluation"),
    Entry(UNKNOWN, UNKNOWN),
)
FAMILY_OF = {entry.cause: entry.family for entry in TABLE}
CAUSE_NAMES = tuple(FAMILY_OF)


def usual_rate(arguments: Mapping[str, Any]) -> float:
    """Return the usual learning rate of the optimizer in use; for sgd it depends on momentum."""
    name = arguments.get("optimizer", DEFAULTS["optimizer"])
    rate = USUAL_RATES.get(name, DEFAULTS["learning_rate"]) if isinstance(name, str) else 3e-3
    momentum = arguments.get("momentum", DEFAULTS["momentum"])
    if name == "sgd" and isinstance(momentum, int | float) and 0 <= momentum < 1:
        rate *= (1 - momentum) / (1 - DEFAULTS["momentum"])
    return float(f"{rate:.3g}")


def resolve(reset: Reset, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a reset would change, with new values; empty if none."""
    found = {}
    for name, wanted in reset.items():
        new = _value(name, wanted, arguments, is_alone=len(reset) == 1)
        if new is not _KEEP and not (name in arguments and is_same(arguments[name], new)):
            found[name] = new
    return {} if "optimizer" in reset and "optimizer" not in found else found


_KEEP: Any = object()


def _value(name: str, wanted: Any, arguments: Mapping[str, Any], *, is_alone: bool) -> Any:
    old = arguments.get(name, _KEEP)
    number = old if isinstance(old, int | float) and not isinstance(old, bool) else None
    if isinstance(wanted, Times):
        if number is None:
            return _KEEP
        new = max(number * wanted.factor, wanted.least)
        new = max(round(new), 1) if isinstance(number, int) else float(f"{new:.3g}")
        return new if new != number and (new > number) == (wanted.factor > 1) else _KEEP
    if not isinstance(wanted, Usual):
        return wanted
    usual = DEFAULTS[name]
    # If the optimizer changes as well, use the new optimizer's default rate.
    if name == "learning_rate" and is_alone:
        usual = usual_rate(arguments)
    if wanted.sign == 0:
        return usual
    if old is None and name == "batch_size":  # None means all windows in one batch
        return usual if wanted.sign < 0 else _KEEP
    if number is None:
        return _KEEP if old is not _KEEP or name == "learning_rate" else usual
    # changing a value that is near the usual one is pointless
    is_far = number * 1.4 < usual if wanted.sign > 0 else number > 1.4 * usual
    return usual if is_far else _KEEP


def is_same(one: Any, other: Any) -> bool:
    """Compare two values of an argument; an int equals the same float, but True is not 1."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and bool(one == other)
