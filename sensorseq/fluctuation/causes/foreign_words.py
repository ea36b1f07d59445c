"""What to change in a training that is not ours, in the words of Keras and of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.table import UNKNOWN

KERAS, TORCH = "keras", "torch"
NAMES = {KERAS: "Keras", TORCH: "torch"}
_COSINE = (
    "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs), stepped once an epoch"
)
_CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before each step"
_STOP = "save model.state_dict() at the lowest validation loss, and load it at the end"
# What to do first where no cause is known, as of any log.
_SAFE = {
    TORCH: f"{_COSINE}; {_CLIP}; {_STOP}",
    KERAS: "optimizer=Adam(CosineDecay(1e-3, epochs * steps_per_epoch), global_clipnorm=1.0);"
    ' EarlyStopping(monitor="val_loss", patience=20, restore_best_weights=True)',
}
# What to do in torch about a side of a cause; its own words where it has one side, or none is known
ADVICE: Mapping[tuple[str, str], str] = {
    ("learning_rate", "too high"): f"divide the learning rate by 10; {_CLIP}",
    ("learning_rate", "too low"): "multiply the learning rate by 10",
    ("learning_rate", "schedule missing"): _COSINE,
    ("learning_rate", ""): _COSINE,
    ("batch_size", "too small"): "DataLoader(batch_size=32) or larger",
    ("batch_size", "too large"): "DataLoader(batch_size=32)",
    ("optimizer", ""): "torch.optim.AdamW(model.parameters(), lr=1e-3)",
    ("gradient_clipping", ""): _CLIP,
    ("model_complexity", "too small"): "torch.nn.LSTM(hidden_size=64)",
    ("model_complexity", "too large"): "torch.nn.LSTM with one layer and fewer units",
    ("model_complexity", "last step only"): (
        "feed the mean and maximum of the LSTM's outputs over time into the last layer"
    ),
    ("regularization", "too strong"): (
        "dropout of at most 0.3, and weight_decay of at most 1e-3 in the optimizer"
    ),
    ("regularization", "missing"): (
        "torch.nn.Dropout(0.3) before the last layer, and torch.optim.AdamW(weight_decay=1e-3)"
    ),
    ("preprocessing", "scale of the inputs"): (
        "scale each channel with the mean and standard deviation of the training windows"
    ),
    ("distribution_shift", ""): "train on more recordings, or scale each one by itself",
    ("small_validation_set", ""): "hold out more windows, or cross-validate; the training is fine",
    ("weight_init", ""): (
        "xavier_uniform_ for weight_ih, orthogonal_ for weight_hh, and a forget bias of 1 in"
        " torch.nn.init"
    ),
    ("loss", "not cross-entropy"): (
        "torch.nn.CrossEntropyLoss() on the logits, without a softmax before it"
    ),
    ("loss", "classes weighed wrongly"): (
        "torch.nn.CrossEntropyLoss() without weight, or with the inverse of each class's frequency"
    ),
    ("early_stopping", "too few epochs"): "train three times as many epochs",
    ("early_stopping", ""): _STOP,
    ("evaluation_not_deterministic", ""): "model.eval() before validation",
}


def advice_for(cause: str, finding: str, origin: str | None) -> str:
    """Return what to do about a side of a cause in words of Keras or torch; "" for our own words.

    >>> advice_for("gradient_clipping", "", "torch")
    'In torch: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before each step.'
    """
    if origin is None:
        return ""
    if cause == UNKNOWN:
        words = _SAFE[origin]
    elif origin == TORCH:
        words = ADVICE.get((cause, finding)) or ADVICE.get((cause, ""), "")
    else:
        words = ""
    if words and not any(sign in words for sign in "(_."):  # plain English
        return f"{words[0].upper()}{words[1:]}."
    return f"In {NAMES[origin]}: {words}." if words else ""


def in_foreign_words(causes: Sequence[Cause], origin: str | None) -> tuple[Cause, ...]:
    """Return causes that recommend in words of Keras or torch; None changes nothing."""
    if origin is None:
        return tuple(causes)
    return tuple(
        replace(
            cause,
            recommendation={},
            alternatives=(),
            advice=advice_for(cause.name, cause.finding, origin) or cause.advice,
        )
        for cause in causes
    )


# Arguments of ours that a custom loop has too, or one of them with its value, in torch's words.
_CHANGES: Mapping[str, str] = {
    "lr_schedule=cosine": _COSINE,
    "restore_best=True": _STOP,
    "batch_size": "DataLoader(batch_size={value})",
    "batch_size=None": "all windows in one batch",
    "max_grad_norm": (
        "torch.nn.utils.clip_grad_norm_(model.parameters(), {value:g}) before each step"
    ),
    "max_grad_norm=None": "no clipping of gradients",
    "clip_by=norm": "clipping of the gradient's norm",
    "label_smoothing": "torch.nn.CrossEntropyLoss(label_smoothing={value:g})",
    "sampler=balanced": "batches drawn equally from each class",
    "sampler=shuffle": "batches of shuffled windows, each once in an epoch",
    "last_batch=merge": "a last batch that is joined to the one before",
    "last_batch=drop": "DataLoader(drop_last=True)",
    "last_batch=keep": "DataLoader(drop_last=False)",
}
_OF_OPTIMIZER = {"learning_rate": "lr", "weight_decay": "weight_decay"}


def say_change(change: Mapping[str, Any]) -> str:
    """Return a change of our arguments in the words of torch, its parts after commas.

    >>> say_change({"learning_rate": 1e-4, "batch_size": 32})
    'lr=0.0001 in the optimizer, DataLoader(batch_size=32)'
    """
    rest = dict(change)
    if rest.get("max_grad_norm") is not None and rest.get("clip_by") == "norm":
        del rest["clip_by"]  # said by the function's name
    options = {_OF_OPTIMIZER[name]: rest.pop(name) for name in _OF_OPTIMIZER if name in rest}
    given = ", ".join(f"{name}={value:g}" for name, value in options.items())
    said = [f"{given} in the optimizer"] if given else []
    for name, value in rest.items():
        words = _CHANGES.get(f"{name}={value}") or _CHANGES.get(name) or "{name}={value!r}"
        said.append(words.format(name=name, value=value))
    return ", ".join(said)
