"""What to change in a training that is not ours, in the words of Keras and of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause

KERAS, TORCH = "keras", "torch"
NAMES = {KERAS: "Keras", TORCH: "torch"}

_Words = Mapping[str, str]  # by origin


def _of(torch: str, keras: str = "") -> _Words:
    return {TORCH: torch, KERAS: keras or torch}


_COSINE = _of(
    "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs), stepped once an epoch",
    "optimizer=Adam(CosineDecay(1e-3, epochs * steps_per_epoch))",
)
_CLIP = _of(
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before each step",
    "global_clipnorm=1.0 in the optimizer",
)
_STOP = _of(
    "save model.state_dict() at the lowest validation loss, and load it at the end",
    'EarlyStopping(monitor="val_loss", patience=20, restore_best_weights=True)',
)
_CALM = {name: f"{_COSINE[name]}; {_CLIP[name]}; {_STOP[name]}" for name in (TORCH, KERAS)}

# What to do about a side of a cause; a cause's own words where it has one side, or none is known.
ADVICE: Mapping[tuple[str, str], _Words] = {
    ("learning_rate", "too high"): {
        name: f"divide the learning rate by 10; {_CLIP[name]}" for name in (TORCH, KERAS)
    },
    ("learning_rate", "too low"): _of("multiply the learning rate by 10"),
    ("learning_rate", "schedule missing"): _COSINE,
    ("learning_rate", ""): _COSINE,
    ("batch_size", "too small"): _of(
        "DataLoader(batch_size=32) or larger", "fit(batch_size=32) or larger"
    ),
    ("batch_size", "too large"): _of("DataLoader(batch_size=32)", "fit(batch_size=32)"),
    ("optimizer", ""): _of(
        "torch.optim.AdamW(model.parameters(), lr=1e-3)", "optimizer=AdamW(1e-3)"
    ),
    ("gradient_clipping", ""): _CLIP,
    ("model_complexity", "too small"): _of("torch.nn.LSTM(hidden_size=64)", "LSTM(64)"),
    ("model_complexity", "too large"): _of(
        "torch.nn.LSTM with one layer and fewer units", "one LSTM layer with fewer units"
    ),
    ("model_complexity", "last step only"): _of(
        "the mean and maximum of the LSTM's outputs over time, in place of the last one",
        "LSTM(64, return_sequences=True) with GlobalAveragePooling1D",
    ),
    ("regularization", "too strong"): _of(
        "dropout of at most 0.3, and weight_decay of at most 1e-3 in the optimizer"
    ),
    ("regularization", "missing"): _of(
        "torch.nn.Dropout(0.3) before the last layer, and torch.optim.AdamW(weight_decay=1e-3)",
        "Dropout(0.3) before the last layer, and optimizer=AdamW(weight_decay=1e-3)",
    ),
    ("preprocessing", "scale of the inputs"): _of(
        "X with each channel minus its mean, divided by its standard deviation in the training"
        " windows",
        "a Normalization layer, adapted to the training windows",
    ),
    ("distribution_shift", ""): _of("train on more recordings, or scale each one by itself"),
    ("small_validation_set", ""): _of(
        "hold out more windows, or cross-validate; the training is fine"
    ),
    ("weight_init", ""): _of(
        "xavier_uniform_ for weight_ih, orthogonal_ for weight_hh, and a forget bias of 1 in"
        " torch.nn.init",
        'kernel_initializer="glorot_uniform", recurrent_initializer="orthogonal",'
        " unit_forget_bias=True in LSTM",
    ),
    ("loss", "not cross-entropy"): _of(
        "torch.nn.CrossEntropyLoss() on the logits, without a softmax before it",
        'loss="sparse_categorical_crossentropy" after one softmax layer',
    ),
    ("loss", "classes weighed wrongly"): _of(
        "torch.nn.CrossEntropyLoss() without weight, or with the inverse of each class's frequency",
        "fit without class_weight, or with the inverse of each class's frequency",
    ),
    ("early_stopping", "too few epochs"): _of(
        "train three times as many epochs", "fit(epochs=3 times as many)"
    ),
    ("early_stopping", ""): _STOP,
    ("evaluation_not_deterministic", ""): _of(
        "model.eval() before validation", "training=False in calls of the model for validation"
    ),
    ("unknown", ""): _CALM,
}


def advice_for(cause: str, finding: str, origin: str | None) -> str:
    """Return what to do about a side of a cause in words of Keras or torch; "" for our own fits.

    >>> advice_for("gradient_clipping", "", "keras")
    'In Keras: global_clipnorm=1.0 in the optimizer.'
    """
    words = ADVICE.get((cause, finding)) or ADVICE.get((cause, ""))
    if words is None or origin is None:
        return ""
    if words[TORCH] == words[KERAS]:
        return f"{words[TORCH][:1].upper()}{words[TORCH][1:]}."
    return f"In {NAMES[origin]}: {words[origin]}."


def in_foreign_words(causes: Sequence[Cause], origin: str | None) -> tuple[Cause, ...]:
    """Return causes that recommend in words of Keras or torch; None changes nothing."""
    found = []
    for cause in causes:
        words = advice_for(cause.name, cause.finding, origin)
        if words:
            cause = replace(cause, recommendation={}, alternatives=(), advice=words)
        found.append(cause)
    return tuple(found)


# Arguments of ours that a custom loop has too, or one of them with its value, in torch's words.
_CHANGES: Mapping[str, str] = {
    "lr_schedule=cosine": _COSINE[TORCH],
    "restore_best=True": _STOP[TORCH],
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
