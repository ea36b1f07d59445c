"""Changes to a module of one's own: what an argument of probe_module does, and what words say."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause

# Changes that `probe_module` itself takes, under the same names.
OWN_ARGUMENTS = ("batch_size", "max_grad_norm", "sampler", "last_batch")
_WORDS = {
    "learning_rate": "in make_optimizer: lr={value:g}",
    "weight_decay": "in make_optimizer: weight_decay={value:g}",
    "optimizer": "in make_optimizer: the optimizer {value}",
    "optimizer_params": "in make_optimizer: {value}",
    "momentum": "in make_optimizer: momentum={value:g}",
    "warmup_epochs": "in make_scheduler: a linear rise over the first {value} epochs",
    "hidden_size": "in make_model: hidden_size={value}",
    "num_layers": "in make_model: num_layers={value}",
    "dropout": "in make_model: dropout={value:g}",
    "recurrent_dropout": "in make_model: recurrent dropout {value:g}",
    "head_norm": "in make_model: {value} normalization before the last layer",
    "pooling": "in make_model: {value} over the time steps before the last layer",
    "weight_init": "in make_model: first weights of the inputs {value}",
    "recurrent_init": "in make_model: first weights of the recurrence {value}",
    "forget_bias": "in make_model: bias of the forget gate {value:g}",
    "scale": "in the data: each channel scaled ({value}) by the training windows",
    "max_timesteps": "in the data: windows of at most {value} steps",
    "loss": "the loss: {value}",
    "label_smoothing": "the loss: torch.nn.CrossEntropyLoss(label_smoothing={value:g})",
    "ema_decay": (
        "averaged weights: torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn({value:g})"
    ),
    "early_stopping": "the weights of the best validation epoch kept, and training ended there",
    "restore_best": "the weights of the best validation epoch kept",
}
_COSINE = (
    "in make_scheduler: a rate that falls to nearly nothing, such as"
    " torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)"
)


def say_change(change: Mapping[str, Any]) -> str:
    """Return in words what to change outside of the arguments; empty where all are arguments."""
    parts = []
    for name, value in change.items():
        if name in OWN_ARGUMENTS:
            continue
        if name == "lr_schedule":
            parts.append(_COSINE if value == "cosine" else f"in make_scheduler: {value}")
            continue
        words = _WORDS.get(name, f"{name}={{value!r}}")
        try:
            parts.append(words.format(value=value))
        except (TypeError, ValueError):  # not the type that the words are for
            parts.append(f"{name}={value!r}")
    return "; ".join(parts)


def in_words(cause: Cause) -> Cause:
    """Return a cause whose recommendations are arguments of `probe_module`, the rest in advice."""
    said = say_change(cause.recommendation)
    others = [say_change(other) for other in cause.alternatives]
    advice = [cause.advice] if cause.advice else []
    if said:
        advice.append(f"Change {said}.")
    if any(others):
        advice.append(f"Or change {'; or '.join(other for other in others if other)}.")
    own = [_own_part(other) for other in cause.alternatives]
    return replace(
        cause,
        recommendation=_own_part(cause.recommendation),
        alternatives=tuple(other for other in own if other),
        advice=" ".join(advice),
    )


def _own_part(change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the change when all of it is arguments of `probe_module`, else nothing."""
    return dict(change) if all(name in OWN_ARGUMENTS for name in change) else {}
