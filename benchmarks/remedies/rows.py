"""The comparisons, one row per remedy and problem, and the measures of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from remedies.problems import ProblemData, tones
from torch.nn import functional

from sensorseq.evaluation.calibration import calibration_error

Settings = Mapping[str, Any]


class Row(NamedTuple):
    """Variants of a remedy, settings without the remedy, and the measures that should change."""

    remedy: str  # the page in docs/remedies
    problem: str
    without: Settings
    variants: Sequence[Settings]
    lower: Sequence[str]
    higher: Sequence[str]
    common: Settings


def row(remedy, problem, without, *variants, lower=(), higher=(), **common):
    """Make a row; all its variants share the arguments in `common`."""
    return Row(remedy, problem, without, variants, lower, higher, common)


def momentum(value, **more):
    """Return the argument with a momentum of sgd."""
    return {"optimizer_params": {"momentum": value, **more}}


# Losses and initial weights defined by the user.


def steep(logits, class_index):
    """Cross-entropy of 100 times the logits, which gives the loss cliffs with large gradients."""
    return functional.cross_entropy(100 * logits, class_index, reduction="none")


def tiny(logits, class_index):
    """Cross-entropy divided by 1000, which makes the gradients tiny."""
    return 1e-3 * functional.cross_entropy(logits, class_index, reduction="none")


def second_costs_20(logits, class_index):
    """Cross-entropy with a weight of 20 for the second class."""
    price = torch.where(class_index == 1, 20.0, 1.0)
    return price * functional.cross_entropy(logits, class_index, reduction="none")


def far_too_large(name, tensor, generator):
    """Draw weights with a standard deviation of 5."""
    tensor.normal_(0.0, 5.0, generator=generator)


# Functions that measure a fitted estimator.


def _log_loss(classifier, X, y):
    p = classifier.predict_proba(X)
    return -np.log(np.maximum(p[np.arange(len(y)), y], 1e-300)).mean()


def _memory(classifier, data):
    """Return log10 of the first step's effect on the logits relative to the last step's effect."""
    X = torch.tensor(data.X_val, dtype=torch.float32, requires_grad=True)
    logits = classifier.module_(X)
    (logits[:, 0] - logits[:, 1]).abs().sum().backward()
    moved = X.grad.abs().mean(dim=(0, 2)).numpy()
    return np.log10(moved[0] + 1e-40) - np.log10(moved[-1])


def _calibration_error(classifier, data):
    del data
    X, y = tones(1000, 5000, noise=1.0)
    p = classifier.predict_proba(X)
    return calibration_error(y, p, classifier.classes_, n_resamples=2).value


MEASURES: dict[str, Callable[[Any, ProblemData], float]] = {
    "training loss": lambda c, data: c.history_["loss"][-1],
    "training loss of the last 10 epochs": lambda c, data: c.history_["loss"][-10:].mean(),
    "largest training loss": lambda c, data: c.history_["loss"].max(),
    "largest rise of the training loss": lambda c, data: np.diff(c.history_["loss"]).max(),
    "share of epochs in which the training loss rises": lambda c, data: np.mean(
        np.diff(c.history_["loss"][5:]) > 0
    ),
    "training accuracy": lambda c, data: c.history_["accuracy"][-1],
    "validation loss": lambda c, data: _log_loss(c, data.X_val, data.y_val),
    "highest validation loss of the last 10 epochs": lambda c, data: c.history_["val_loss"][
        -10:
    ].max(),
    "validation accuracy": lambda c, data: c.history_["val_accuracy"][c.best_epoch_ - 1],
    "gap": lambda c, data: _log_loss(c, data.X_val, data.y_val) - _log_loss(c, data.X, data.y),
    # median absolute change from one epoch to the next in the second half of the run
    "roughness": lambda c, data: np.median(
        np.abs(np.diff(c.history_["val_loss"][c.n_iter_ // 2 :]))
    ),
    "gradient norm": lambda c, data: c.history_["grad_norm"][c.n_iter_ // 4 :].mean(),
    "epochs": lambda c, data: c.n_iter_,
    "memory": _memory,
    "calibration error": _calibration_error,
    "confidence": lambda c, data: c.predict_proba(data.X_val).max(axis=1).mean(),
    "recall of class 1": lambda c, data: np.mean(c.predict(data.X_val)[data.y_val == 1] == 1),
    "probability of class 1": lambda c, data: c.predict_proba(data.X_val)[
        data.y_val == 1, 1
    ].mean(),
    "balanced accuracy": lambda c, data: np.mean(
        [np.mean(c.predict(data.X_val)[data.y_val == k] == k) for k in c.classes_]
    ),
}

MEMORIZED = {"hidden_size": 16, "max_epochs": 80}
WRONG = "a quarter of labels wrong"
UNTRAINED = {"max_epochs": 1, "learning_rate": 1e-12, "pooling": "last"}
ADAPTIVE = ({"optimizer": "adam"}, {"optimizer": "rmsprop"})
SCALES = ({"scale": "standard"}, {"scale": "robust"})
FANS = ("orthogonal", "xavier", "he")

ROWS = (
    row(
        *("learning_rate", "noisy tones", {"learning_rate": 0.1}, {"learning_rate": 0.005}),
        lower=["largest rise of the training loss"],
        batch_size=4,
    ),
    row(
        *("learning_rate", "noisy tones", {"learning_rate": 3e-5}, {"learning_rate": 0.01}),
        lower=["training loss"],
    ),
    row(
        *("schedules_and_warmup", "noisy tones", {"lr_schedule": "constant"}),
        *({"lr_schedule": name} for name in ("cosine", "plateau")),
        lower=["roughness"],
        learning_rate=0.05,
        patience=8,  # "plateau" waits for a quarter of the patience
    ),
    row(
        *("schedules_and_warmup", "200 noisy tones", {"warmup_epochs": 0}, {"warmup_epochs": 5}),
        lower=["largest training loss"],
        learning_rate=0.1,
        hidden_size=32,
        num_layers=2,
        max_grad_norm=None,
        max_epochs=2,
    ),
    row(
        *("batch_size", "noisy tones", {"batch_size": 2}, {"batch_size": 16}, {"batch_size": None}),
        lower=["roughness"],
    ),
    row(
        *("batch_size", "noisy tones", {"batch_size": 4}, {"batch_size": None}),
        lower=["share of epochs in which the training loss rises"],
        max_epochs=30,
    ),
    *(
        row(
            *("sequence_length", f"mark {place}", {"crop": other}, {"crop": finder}),
            higher=["validation accuracy"],
            max_timesteps=12,
        )
        for place, finder, other in (
            ("at the start", "head", "centre"),
            ("at the end", "tail", "centre"),
            ("in the middle", "centre", "head"),
            ("in the middle", "random", "head"),
        )
    ),
    row(
        *("sequence_length", "mark at step 3 of 120", {}, {"max_timesteps": 12}),
        higher=["validation accuracy"],
        pooling="last",
    ),
    row(
        *("sequence_length", "24 long tones", {"crop": "centre"}, {"crop": "random"}),
        lower=["gap", "validation loss"],
        max_timesteps=30,
        max_epochs=60,
    ),
    row(
        *("network_size", "four clear tones", {"hidden_size": 1}, {"hidden_size": 8}),
        higher=["training accuracy"],
        max_epochs=60,
    ),
    row(
        *("network_size", "odd number of pulses", {"num_layers": 1}, {"num_layers": 3}),
        higher=["training accuracy"],
        hidden_size=2,
        pooling="last",
        learning_rate=0.02,
        lr_schedule="cosine",
        max_epochs=200,
    ),
    row(
        *("network_size", "mark at step 1 of 100", {}, {"bidirectional": True}),
        higher=["validation accuracy"],
        pooling="last",
    ),
    row(
        "network_size", WRONG, {"hidden_size": 32}, {"hidden_size": 3}, lower=["gap"], max_epochs=60
    ),
    row(
        *("early_stopping", WRONG, {}, {"restore_best": True}),
        {"restore_best": True, "early_stopping": True, "patience": 10},
        lower=["validation loss"],
        max_epochs=60,
    ),
    row(
        *("early_stopping", WRONG, {"early_stopping": False}),
        *({"early_stopping": True, **how} for how in ({"patience": 16}, {"patience": 4})),
        {"early_stopping": True, "patience": 16, "tol": 0.5},
        lower=["epochs"],
        max_epochs=60,
    ),
    row(
        *("early_stopping", WRONG, {"monitor": "loss"}),
        *({"monitor": name} for name in ("val_loss", "val_accuracy")),
        higher=["validation accuracy"],
        restore_best=True,
        max_epochs=60,
    ),
    row(
        *("gradient_clipping", "noisy tones", {"max_grad_norm": None}, {"max_grad_norm": 1.0}),
        lower=["largest training loss"],
        higher=["training accuracy"],
        optimizer="sgd",
        learning_rate=0.1,
        loss=steep,
        max_epochs=30,
    ),
    *(
        row(
            *("scaling_and_padding", problem, {"scale": None}, *SCALES),
            higher=["validation accuracy"],
        )
        for problem in ("an offset of 50", "values of 0.001", "beside a channel of 10,000")
    ),
    row(
        *("scaling_and_padding", "180 steps of padding", {}, {"fit": ("lengths", "lengths_val")}),
        higher=["validation accuracy"],
        pooling="last",
    ),
    row(
        *("initialization", "mark at step 1 of 60", {"forget_bias": 0.0}),
        *({"forget_bias": bias} for bias in (1.0, 3.0)),
        higher=["memory"],
        **UNTRAINED,
    ),
    row(
        *("initialization", "mark at step 1 of 60", {"forget_bias": -2.0}, {"forget_bias": 3.0}),
        lower=["validation loss"],
        pooling="last",
        max_epochs=60,
    ),
    row(
        *("initialization", "mark at step 1 of 60", {"recurrent_init": "uniform"}),
        *({"recurrent_init": name} for name in FANS),
        higher=["memory"],
        hidden_size=16,
        **UNTRAINED,
    ),
    row(
        *("initialization", "clear tones", {"weight_init": "uniform"}),
        *({"weight_init": name} for name in FANS),
        lower=["training loss"],
        num_layers=4,
        hidden_size=16,
        learning_rate=3e-3,
        max_epochs=20,
    ),
    *(
        row(
            *("initialization", "noisy tones", {}, {argument: far_too_large}),
            higher=["training loss"],
            max_epochs=15,
        )
        for argument in ("weight_init", "recurrent_init")
    ),
    row(
        *("losses", WRONG, {}, {"loss": "focal"}),
        lower=["validation loss"],
        **MEMORIZED,
    ),
    row(
        *("losses", "two tones in much noise", {}, {"loss": second_costs_20}),
        higher=["recall of class 1"],
        max_epochs=10,
    ),
    row(
        *("weight_decay", WRONG, {}, {"weight_decay": 0.01}),
        {"optimizer": "adamw", "weight_decay": 1.0},
        lower=["validation loss"],
        **MEMORIZED,
    ),
    row(
        *("dropout", WRONG, {}, {"dropout": 0.5}, {"recurrent_dropout": 0.5}),
        lower=["validation loss"],
        **MEMORIZED,
    ),
    row(
        "dropout", WRONG, {}, {"dropout": 0.5}, lower=["validation loss"], num_layers=2, **MEMORIZED
    ),
    *(
        row(
            *("normalization", "clear tones", {}, {"head_norm": "batch"}, {"head_norm": "layer"}),
            lower=["training loss", "validation loss"],
            optimizer=optimizer,
            pooling="mean",
            max_epochs=15,
        )
        for optimizer in ("adam", "sgd")
    ),
    row(
        *("optimizers", "clear tones", momentum(0.0), momentum(0.9)),
        momentum(0.9, nesterov=True),
        lower=["training loss"],
        optimizer="sgd",
        learning_rate=0.05,
        max_epochs=30,
    ),
    row(
        *("optimizers", "clear tones", momentum(0.98), momentum(0.98, nesterov=True)),
        lower=["training loss", "training loss of the last 10 epochs"],
        optimizer="sgd",
        learning_rate=0.1,
        batch_size=None,
        max_epochs=80,
    ),
    row(
        *("optimizers", "clear tones", {"optimizer": "sgd"} | momentum(0.0), *ADAPTIVE),
        lower=["training loss"],
        max_epochs=30,
    ),
    row(
        *("optimizers", "clear tones", {"optimizer": "sgd"}, *ADAPTIVE),
        higher=["training accuracy"],
        loss=tiny,
        max_epochs=30,
    ),
    row(
        *("weight_averaging", "noisy tones", {}, {"ema_decay": 0.9}, {"ema_decay": 0.98}),
        lower=["roughness", "validation loss", "highest validation loss of the last 10 epochs"],
        batch_size=4,
    ),
    row(
        *("augmentation", "18 tones", {}, {"augment": "standard"}, {"augment": {"jitter": 0.5}}),
        *({"augment": {"window_shift": 0.3}}, {"augment": {"time_warp": 0.1}}),
        {"augment": {"magnitude_warp": 0.4}},
        lower=["validation loss"],
        max_epochs=80,
    ),
    row(
        *("augmentation", "a noisier sensor", {}, {"augment": {"jitter": 1.0}}),
        higher=["validation accuracy"],
    ),
    row(
        *("augmentation", "a drifting gain", {}, {"augment": {"magnitude_warp": 0.6}}),
        higher=["validation accuracy"],
        max_epochs=60,
    ),
    row(
        *("label_smoothing", WRONG, {}, {"label_smoothing": 0.2}),
        lower=["confidence", "validation loss"],
        **MEMORIZED,
    ),
    row(
        *("class_weights", "a rare class", {}, {"class_weight": "balanced"}),
        *({"sampler": "balanced"}, {"loss": "focal", "class_weight": "balanced"}),
        {"loss": "focal"},
        higher=["recall of class 1", "balanced accuracy"],
        max_epochs=15,
    ),
    row(
        *("class_weights", "a rare class", {}, {"loss": "focal"}),
        higher=["probability of class 1"],
        max_epochs=15,
    ),
    row(
        *("class_weights", "doubtful labels", {}, {"fit": ("sample_weight",)}),
        higher=["validation accuracy"],
    ),
    row("ensembles", WRONG, {}, {"n_models": 5}, lower=["validation loss"], max_epochs=60),
    row("calibration", WRONG, {}, {"calibrate": True}, lower=["calibration error"], **MEMORIZED),
)
