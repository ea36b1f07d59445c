"""Changes to a training loop of one's own, in the words of torch."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.report import FluctuationReport

_WORDS = {
    "learning_rate": "lr={value:g} in the optimizer",
    "weight_decay": "weight_decay={value:g} in the optimizer",
    "momentum": "momentum={value:g} in the optimizer",
    "optimizer": "{value} as the optimizer",
    "optimizer_params": "{value} in the optimizer",
    "warmup_epochs": "a rate that rises over the first {value} epochs",
    "batch_size": "batches of {value} windows",
    "max_grad_norm": "torch.nn.utils.clip_grad_norm_(parameters, {value:g}) before each step",
    "label_smoothing": "torch.nn.CrossEntropyLoss(label_smoothing={value:g})",
    "ema_decay": "torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn({value:g})",
    "early_stopping": "an end where the validation loss has stopped to fall",
    "restore_best": "the weights of the best validation epoch",
    "hidden_size": "{value} hidden units",
    "num_layers": "{value} layers",
    "dropout": "dropout {value:g}",
    "recurrent_dropout": "recurrent dropout {value:g}",
    "input_dropout": "dropout {value:g} of the input channels",
    "pooling": "the {value} over all time steps before the last layer",
    "weight_init": "{value} first weights for the inputs",
    "recurrent_init": "{value} first weights for the recurrence",
    "forget_bias": "{value:g} as first bias of the forget gate",
    "scale": "channels scaled ({value}) by the training windows",
    "max_timesteps": "windows of at most {value} steps",
    "loss": "{value} as the loss",
}
# What a value means, where its name does not say it.
_MEANT = {
    ("lr_schedule", "cosine"): (
        "a rate that falls to nearly nothing, such as"
        " torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)"
    ),
    ("loss", "cross_entropy"): "torch.nn.CrossEntropyLoss()",
    ("sampler", "balanced"): "batches drawn equally from each class",
    ("last_batch", "merge"): "a last batch that is joined to the one before",
    ("last_batch", "drop"): "DataLoader(drop_last=True)",
    ("head_norm", "none"): "no normalization before the last layer",
    ("head_norm", "layer"): "torch.nn.LayerNorm before the last layer",
    ("head_norm", "batch"): "torch.nn.BatchNorm1d before the last layer",
    ("early_stopping", False): "all epochs",
    ("max_grad_norm", None): "no clipping of gradients",
    ("batch_size", None): "all windows in one batch",
}


def say_change(change: Mapping[str, Any]) -> str:
    """Return in words what a change of an estimator's arguments is for a module."""
    return ", ".join(_say(name, value) for name, value in change.items())


def _say(name: str, value: Any) -> str:
    try:
        if (name, value) in _MEANT:
            return _MEANT[name, value]
        return _WORDS[name].format(value=value)
    except (KeyError, TypeError, ValueError):  # no words, or none for a value of this type
        return f"{name}={value!r}"


def in_words(report: FluctuationReport) -> FluctuationReport:
    """Return a report that recommends no argument of an estimator: its advice has words for all."""
    causes = tuple(_cause_in_words(cause) for cause in report.causes)
    probes = report.probes
    if probes is not None and probes.repair:
        note = f"{probes.note} Take {say_change(probes.repair)}."
        probes = replace(probes, repair={}, previous={}, note=note)
    return replace(report, causes=causes, probes=probes)


def _cause_in_words(cause: Cause) -> Cause:
    said = [f"Take {say_change(cause.recommendation)}."] if cause.recommendation else []
    others = [say_change(other) for other in cause.alternatives if other]
    if others:
        said.append(f"{'Or take' if said else 'Take'} {'; or '.join(others)}.")
    advice = " ".join([*said, cause.advice]).strip()
    return replace(cause, recommendation={}, alternatives=(), advice=advice)
