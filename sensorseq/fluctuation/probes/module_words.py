"""Changes to a training loop of one's own, in the words of torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause, NotTested, Probes, Trial
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.fluctuation.run import plural

# What is written in `make_optimizer`, in `make_model` and elsewhere.
_OF_OPTIMIZER = {"learning_rate": "lr", "weight_decay": "weight_decay", "momentum": "momentum"}
_CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop"}
_IN_MODEL: dict[str, str | Callable[[Any], str]] = {
    "hidden_size": "{value} hidden units",
    "num_layers": lambda value: plural(value, "layer"),
    "dropout": "dropout {value:g}",
    "recurrent_dropout": "recurrent dropout {value:g}",
    "input_dropout": "dropout {value:g} of the input channels",
    "weight_init": "{value} first weights for the inputs",
    "recurrent_init": "{value} first weights for the recurrence",
    "forget_bias": "{value:g} as first bias of the forget gate",
}
_WORDS = {
    "warmup_epochs": "a rate that rises over the first {value} epochs",
    "batch_size": "batches of {value} windows",
    "max_grad_norm": "torch.nn.utils.clip_grad_norm_(parameters, {value:g}) before each step",
    "label_smoothing": "torch.nn.CrossEntropyLoss(label_smoothing={value:g})",
    "ema_decay": "torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn({value:g})",
    "early_stopping": "an end where the validation loss has stopped to fall",
    "restore_best": "the weights of the best validation epoch",
    "validation_fraction": "a share of {value:g} of the windows held out",
    "patience": "an end after {value} epochs without a better one",
    "max_timesteps": "windows of at most {value} steps in X",
    "augment": "training windows varied anew in each epoch, by noise, scaling or shifts in time",
    "l1": "a penalty of {value:g} times the absolute weights in the loss",
    "loss": "{value} as the loss",
}
# What a value means, where its name does not say it.
_MEANT: dict[tuple[str, Any], str] = {
    ("lr_schedule", "cosine"): (
        "a rate that falls to nearly nothing, such as"
        " torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)"
    ),
    ("loss", "cross_entropy"): "torch.nn.CrossEntropyLoss()",
    ("class_weight", "balanced"): (
        "torch.nn.CrossEntropyLoss(weight=...) with the inverse of each class's frequency"
    ),
    ("class_weight", None): "a loss without weights of classes",
    ("sampler", "balanced"): "batches drawn equally from each class",
    ("sampler", "shuffle"): "batches of shuffled windows, each once in an epoch",
    ("last_batch", "merge"): "a last batch that is joined to the one before",
    ("last_batch", "drop"): "DataLoader(drop_last=True)",
    ("last_batch", "keep"): "DataLoader(drop_last=False)",
    ("scale", "standard"): (
        "X with each channel less its mean, over its standard deviation in the training windows"
    ),
    ("scale", "robust"): (
        "X with each channel less its median, over its interquartile range in the training windows"
    ),
    ("pooling", "mean"): "the mean over all time steps before the last layer of make_model",
    ("pooling", "meanmax"): (
        "the mean and the maximum over all time steps before the last layer of make_model"
    ),
    ("head_norm", "none"): "no normalization before the last layer of make_model",
    ("head_norm", "layer"): "torch.nn.LayerNorm before the last layer of make_model",
    ("head_norm", "batch"): "torch.nn.BatchNorm1d before the last layer of make_model",
    ("early_stopping", False): "all epochs",
    ("restore_best", False): "the weights of the last epoch",
    ("max_grad_norm", None): "no clipping of gradients",
    ("max_timesteps", None): "windows of all their steps in X",
    ("batch_size", None): "all windows in one batch",
    ("l1", 0.0): "no penalty of the absolute weights in the loss",
    ("optimizer_params", None): "no other options than lr in make_optimizer",
    ("augment", None): "training windows as they are",
    ("ema_decay", None): "the weights as they are, not their average",
}
# What probes say of an estimator's fit, and what that is for a module.
PHRASES = {
    "a fit of its own, not beside others, with a validation part": "validation_fraction above 0",
    "a fit with a validation part": "validation_fraction above 0",
    "a validation part": "validation_fraction above 0",
    "other data or other keywords than fit was given, or the processor sums in another order": (
        "module or optimizer keep something beside their state_dict, or draw from a generator of"
        " their own, or the processor sums in another order"
    ),
    "Other data or other keywords than fit had were given, or its evaluation saw something that is"
    " gone.": "The module keeps something beside its state_dict that evaluation depends on.",
    "Fit it alone, for more epochs.": "Train it for more epochs.",
    "no other argument will help": "nothing else will help",
}


def say_change(change: Mapping[str, Any]) -> str:
    """Return in words what a change of an estimator's arguments is for a module."""
    rest = dict(change)
    if len(rest) > 1:
        rest = {name: value for name, value in rest.items() if not _is_needless(name, value)}
    said = []
    if of_optimizer := _say_optimizer(rest):
        said.append(of_optimizer)
    if in_model := [_say(name, rest.pop(name)) for name in _IN_MODEL if name in rest]:
        said.append(f"{_joined(in_model)} in make_model")
    return ", ".join([*said, *(_say(name, value) for name, value in rest.items())])


def _is_needless(name: str, value: Any) -> bool:
    """Whether a part of a change says nothing to a loop of one's own, beside the other parts."""
    return name == "monitor" or (name in ("class_weight", "optimizer_params") and value is None)


def _say_optimizer(rest: dict[str, Any]) -> str:
    """Take out of a change what is said to the optimizer, and return it as one part."""
    options: dict[str, Any] = {}
    if isinstance(rest.get("optimizer_params"), Mapping):
        options.update(rest.pop("optimizer_params"))
    for name, of_torch in _OF_OPTIMIZER.items():
        if name in rest:
            options[of_torch] = rest.pop(name)
    kind = rest.pop("optimizer", None)
    said = [
        f"{name}={value:g}" if isinstance(value, int | float) else f"{name}={value!r}"
        for name, value in sorted(options.items(), key=lambda option: option[0] != "lr")
    ]
    if kind is not None:
        name = _CLASSES.get(kind, kind) if isinstance(kind, str) else repr(kind)
        given = f"({', '.join(['parameters', *said])})" if said else ""
        return f"torch.optim.{name}{given} in make_optimizer"
    return f"{_joined(said)} in make_optimizer" if said else ""


def _say(name: str, value: Any) -> str:
    try:
        if (name, value) in _MEANT:
            return _MEANT[name, value]
        words = _IN_MODEL.get(name) or _WORDS[name]
        return words(value) if callable(words) else words.format(value=value)
    except (KeyError, TypeError, ValueError):  # no words, or none for a value of this type
        return f"{name}={value!r}"


def _joined(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def in_words(report: FluctuationReport) -> FluctuationReport:
    """Return a report that recommends no argument of an estimator: its advice has words for all."""
    probes = None if report.probes is None else _probes_in_words(report.probes)
    causes = tuple(_cause_in_words(cause) for cause in report.causes)
    return replace(report, causes=causes, probes=probes, of_module=True)


def _cause_in_words(cause: Cause) -> Cause:
    said = [f"Take {say_change(cause.recommendation)}."] if cause.recommendation else []
    others = list(dict.fromkeys(say_change(other) for other in cause.alternatives if other))
    if others:
        said.append(f"{'Or take' if said else 'Take'} {'; or '.join(others)}.")
    advice = " ".join([*said, _rephrased(cause.advice)]).strip()
    return replace(
        cause,
        evidence=_rephrased(cause.evidence),
        recommendation={},
        alternatives=(),
        advice=advice,
    )


def _probes_in_words(probes: Probes) -> Probes:
    note = _rephrased(probes.note)
    if probes.repair:
        note = f"Take {say_change(probes.repair)}. {note}".strip()
    return replace(
        probes,
        repair={},
        previous={},
        note=note,
        self_test=_rephrased(probes.self_test),
        trials=tuple(_trial_in_words(trial) for trial in probes.trials),
        not_tested=tuple(
            NotTested(part.cause, _rephrased(part.reason), _rephrased(part.would_settle))
            for part in probes.not_tested
        ),
    )


def _trial_in_words(trial: Trial) -> Trial:
    return replace(trial, sentence=_rephrased(trial.sentence))


def _rephrased(text: str) -> str:
    for phrase, words in PHRASES.items():
        text = text.replace(phrase, words)
    return text
