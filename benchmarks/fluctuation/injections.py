"""What is done to a healthy run, cause by cause, each in four strengths for calibration and test.

An injection changes arguments or data, one thing at a time, from mild to strong. Data changes are
those of `data.py`; arguments that are no plain values are words that `runs.py` reads.
The base says which healthy runs it is made from: ``"plain"`` has a rate that falls, ``"constant"``
a low one that does not, ``"few"`` few windows and a network that is kept from learning them by
heart, ``"bursts"`` training windows of which a few hold bursts, and clipping.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Change = tuple[dict[str, Any], dict[str, Any]]  # of arguments, of data


@dataclass(frozen=True)
class Injection:
    """One way to bring a cause about.

    Parameters
    ----------
    cause : str
        Of `sensorseq.fluctuation.causes.cause.CAUSE_NAMES`; of a mixture two, with a plus between.
    kind : str
        What is done, in words.
    base : str
        From which healthy runs: ``"plain"``, ``"constant"``, ``"few"`` or ``"bursts"``; ``"short"``
        are the plain ones of at most 200 windows.
    calibration, test : tuple
        Four strengths for each part, mild to strong.
    make : callable
        From the healthy run's arguments and one of these strengths to what is changed.
    """

    cause: str
    kind: str
    base: str
    calibration: tuple[Any, ...]
    test: tuple[Any, ...]
    make: Callable[[Mapping[str, Any], Any], Change]


def _arguments(**fixed: Any) -> Callable[[Mapping[str, Any], Any], Change]:
    """Set arguments; a callable gets the healthy run's arguments and the strength."""

    def make(base: Mapping[str, Any], strength: Any) -> Change:
        made = {
            name: value(base, strength) if callable(value) else value
            for name, value in fixed.items()
        }
        return made, {}

    return make


def _data(name: str, **arguments: Any) -> Callable[[Mapping[str, Any], Any], Change]:
    """Change the data by the strength, and arguments beside it."""

    def make(base: Mapping[str, Any], strength: Any) -> Change:
        return dict(arguments), {name: strength}

    return make


def _units(**fixed: float) -> Callable[[Mapping[str, Any], Any], Change]:
    def make(base: Mapping[str, Any], strength: Any) -> Change:
        return {"scale": None}, {"units": {**fixed, **strength}}

    return make


def _both(
    first: Callable[[Mapping[str, Any], Any], Change],
    second: Callable[[Mapping[str, Any], Any], Change],
) -> Callable[[Mapping[str, Any], Any], Change]:
    """Do two things, each at its own strength: the strength is a pair."""

    def make(base: Mapping[str, Any], strength: Any) -> Change:
        changed, change = first(base, strength[0])
        more, data = second({**base, **changed}, strength[1])
        return {**changed, **more}, {**change, **data}

    return make


def _times_rate(base: Mapping[str, Any], factor: float) -> float:
    return float(base["learning_rate"]) * factor


def _times_epochs(base: Mapping[str, Any], factor: float) -> int:
    return max(round(base["max_epochs"] * factor), 15)


def _wider(base: Mapping[str, Any], factor: float) -> int:
    return min(round(base["hidden_size"] * factor), 128)  # a wider one takes too long here


def _strength(base: Mapping[str, Any], strength: Any) -> Any:
    return strength


_RATE = _arguments(learning_rate=_times_rate)
_UNITS = (
    (
        {"factor": 10.0, "offset": 5.0},
        {"factor": 25.0},
        {"factor": 60.0},
        {"factor": 20.0, "offset": 60.0},
    ),
    (
        {"factor": 15.0, "offset": 3.0},
        {"factor": 30.0},
        {"factor": 100.0},
        {"factor": 30.0, "offset": 100.0},
    ),
)

INJECTIONS = (
    # learning_rate
    Injection("learning_rate", "rate too high", "plain", (8, 20, 40, 80), (10, 30, 50, 100), _RATE),
    Injection(
        "learning_rate",
        "constant rate too high",
        "constant",
        (6, 12, 25, 60),
        (8, 16, 30, 80),
        _RATE,
    ),
    Injection(
        "learning_rate",
        "no schedule",
        "plain",
        (2, 3, 5, 8),
        (2.5, 4, 6, 10),
        _arguments(lr_schedule="constant", warmup_epochs=0, learning_rate=_times_rate),
    ),
    Injection(
        "learning_rate",
        "rate too low",
        "plain",
        (1 / 30, 1 / 60, 1 / 150, 1 / 400),
        (1 / 40, 1 / 100, 1 / 200, 1 / 1000),
        _RATE,
    ),
    # batch_size
    Injection(
        "batch_size",
        "batch too small",
        "constant",
        (8, 6, 5, 3),
        (7, 4, 2, 1),
        _arguments(batch_size=_strength),
    ),
    Injection(
        "batch_size",
        "full batch, few steps",
        "plain",
        (0.8, 0.6, 0.4, 0.3),
        (0.7, 0.5, 0.35, 0.25),
        _arguments(batch_size=None, max_epochs=_times_epochs),
    ),
    # sequence_length
    Injection(
        "sequence_length",
        "oversampled",
        "plain",
        (2, 3, 4, 5),
        (2.5, 3.5, 4.5, 5.5),
        _data("oversampled"),
    ),
    Injection(
        "sequence_length",
        "zeros at the end",
        "plain",
        (2, 3, 4, 5),
        (1.5, 2.5, 3.5, 6),
        _data("zero_tail"),
    ),
    Injection(
        "sequence_length",
        "noise at the end",
        "plain",
        (2, 3, 4, 5),
        (1.5, 2.5, 3.5, 6),
        _data("noise_tail"),
    ),
    Injection(
        "sequence_length",
        "windows too short",
        "plain",
        (1 / 3, 1 / 5, 1 / 8, 1 / 12),
        (1 / 4, 1 / 6, 1 / 10, 1 / 14),
        _data("shortened"),
    ),
    # model_complexity
    Injection(
        "model_complexity",
        "too wide",
        "few",
        (4, 5, 6, 8),
        (3, 4.5, 7, 10),
        _arguments(hidden_size=_wider),
    ),
    Injection(
        "model_complexity",
        "too deep",
        "few",
        ((2, 1.5), (2, 3), (3, 1.5), (3, 3)),
        ((2, 2), (2, 4), (3, 2), (3, 4)),
        _arguments(num_layers=lambda base, s: s[0], hidden_size=lambda base, s: _wider(base, s[1])),
    ),
    Injection(
        "model_complexity",
        "too small",
        "plain",
        (7, 5, 3, 2),
        (6, 4, 4, 1),
        _arguments(hidden_size=_strength),
    ),
    # early_stopping
    Injection(
        "early_stopping",
        "trained on, last weights kept",
        "few",
        (3, 4, 5, 6),
        (3.5, 4.5, 5.5, 7),
        _arguments(max_epochs=_times_epochs, restore_best=False),
    ),
    # gradient_clipping
    Injection(
        "gradient_clipping",
        "no clipping, bursts",
        "bursts",
        (1.0, 1.2, 1.5, 2.0),
        (1.1, 1.3, 1.7, 2.3),
        _arguments(max_grad_norm=None, learning_rate=_times_rate),
    ),
    # preprocessing
    Injection("preprocessing", "raw units", "plain", _UNITS[0], _UNITS[1], _units()),
    Injection(
        "preprocessing",
        "one channel in other units",
        "plain",
        ({"one": 100.0}, {"one": 200.0}, {"one": 500.0}, {"one": 1500.0}),
        ({"one": 150.0}, {"one": 300.0}, {"one": 1000.0}, {"one": 2000.0}),
        _units(),
    ),
    Injection(
        "preprocessing",
        "far from zero",
        "plain",
        ({"offset": 8.0}, {"offset": 15.0}, {"offset": 40.0}, {"offset": 150.0}),
        ({"offset": 10.0}, {"offset": 25.0}, {"offset": 60.0}, {"offset": 100.0}),
        _units(),
    ),
    # weight_init
    Injection(
        "weight_init",
        "normal",
        "plain",
        (0.6, 0.8, 1.0, 1.5),
        (0.7, 0.9, 1.2, 2.0),
        _arguments(
            weight_init=lambda base, s: f"normal {s}", recurrent_init=lambda base, s: f"normal {s}"
        ),
    ),
    Injection(
        "weight_init",
        "recurrent gain",
        "plain",
        (1.6, 2.0, 2.6, 3.5),
        (1.8, 2.3, 3.0, 4.0),
        _arguments(recurrent_init=lambda base, s: f"gain {s}"),
    ),
    Injection(
        "weight_init",
        "forget bias",
        "plain",
        (-2.0, -3.0, -4.0, -6.0),
        (-2.5, -3.5, -5.0, -7.0),
        _arguments(forget_bias=_strength),
    ),
    # loss
    Injection(
        "loss",
        "squared error",
        "plain",
        (1.0, 0.8, 1.25, 1.5),
        (0.9, 1.1, 1.4, 0.7),
        _arguments(loss="mse", learning_rate=_times_rate),
    ),
    Injection(
        "loss",
        "softmax twice",
        "plain",
        (1.0, 0.8, 1.25, 1.5),
        (0.9, 1.1, 1.4, 0.7),
        _arguments(loss="softmax twice", learning_rate=_times_rate),
    ),
    Injection(
        "loss",
        "extreme class weight",
        "plain",
        (15, 40, 100, 300),
        (20, 60, 150, 500),
        _arguments(class_weight=lambda base, s: f"first x{s}"),
    ),
    # regularization
    Injection(
        "regularization",
        "dropout too strong",
        "plain",
        (0.7, 0.8, 0.85, 0.9),
        (0.75, 0.82, 0.88, 0.93),
        _arguments(dropout=_strength, recurrent_dropout=_strength),
    ),
    Injection(
        "regularization",
        "weight decay too strong",
        "plain",
        (0.03, 0.1, 0.3, 1.0),
        (0.05, 0.2, 0.5, 2.0),
        _arguments(weight_decay=_strength, optimizer="adam", optimizer_params=None),
    ),
    Injection(
        "regularization",
        "none",
        "few",
        (2, 3, 4, 5),
        (2.5, 3.5, 4.5, 5.5),
        _arguments(dropout=0.0, input_dropout=0.0, weight_decay=0.0, max_epochs=_times_epochs),
    ),
    # optimizer
    Injection(
        "optimizer",
        "sgd without momentum",
        "constant",
        (0.3, 0.6, 1.2, 2.5),
        (0.4, 0.8, 1.5, 3.0),
        _arguments(
            optimizer="sgd",
            momentum=0.0,
            learning_rate=_strength,
            optimizer_params=None,
            max_grad_norm=None,
        ),
    ),
    Injection(
        "optimizer",
        "momentum 0.99",
        "constant",
        (0.02, 0.05, 0.1, 0.3),
        (0.03, 0.07, 0.15, 0.4),
        _arguments(optimizer="sgd", momentum=0.99, learning_rate=_strength, optimizer_params=None),
    ),
    Injection(
        "optimizer",
        "rmsprop without clipping",
        "constant",
        (4e-3, 6e-3, 1e-2, 2e-2),
        (5e-3, 8e-3, 1.3e-2, 2.5e-2),
        _arguments(
            optimizer="rmsprop", learning_rate=_strength, optimizer_params=None, max_grad_norm=None
        ),
    ),
    Injection(
        "optimizer",
        "adam with a short memory",
        "constant",
        (0.95, 0.9, 0.8, 0.6),
        (0.93, 0.85, 0.75, 0.5),
        _arguments(
            optimizer="adam",
            learning_rate=3e-3,
            optimizer_params=lambda base, s: {"eps": 1e-12, "betas": [0.9, s]},
            max_grad_norm=None,
        ),
    ),
    # label_noise
    Injection(
        "label_noise",
        "labels flipped at random",
        "plain",
        (0.1, 0.2, 0.3, 0.45),
        (0.15, 0.25, 0.35, 0.5),
        _data("flipped"),
    ),
    Injection(
        "label_noise",
        "labels flipped to a neighbour",
        "plain",
        (0.1, 0.18, 0.26, 0.38),
        (0.14, 0.22, 0.32, 0.42),
        _data("flipped_to_next"),
    ),
    # of the validation side
    Injection(
        "small_validation_set",
        "few validation windows",
        "plain",
        (25, 20, 16, 13),
        (23, 18, 15, 12),
        _data("n_val"),
    ),
    Injection(
        "distribution_shift",
        "validation with another offset",
        "plain",
        (0.8, 1.2, 2.0, 3.0),
        (1.0, 1.5, 2.5, 3.5),
        _data("shifted"),
    ),
    Injection(
        "distribution_shift",
        "validation with another gain",
        "plain",
        (1.6, 2.2, 3.0, 5.0),
        (1.8, 2.5, 4.0, 6.0),
        _data("stretched"),
    ),
    Injection(
        "dropout_noise",
        "dropout",
        "plain",
        (0.35, 0.45, 0.55, 0.6),
        (0.4, 0.5, 0.57, 0.62),
        _arguments(dropout=_strength, recurrent_dropout=lambda base, s: 0.5 * s),
    ),
)

MIXTURES = (
    Injection(
        "learning_rate+batch_size",
        "rate and batch",
        "constant",
        ((5, 4), (8, 3), (12, 4), (20, 6)),
        ((6, 5), (10, 2), (15, 4), (25, 5)),
        _both(_RATE, _arguments(batch_size=_strength)),
    ),
    Injection(
        "learning_rate+preprocessing",
        "rate and units",
        "plain",
        tuple(zip((8, 12, 20, 40), _UNITS[0], strict=True)),
        tuple(zip((10, 15, 25, 50), _UNITS[1], strict=True)),
        _both(_RATE, _units()),
    ),
    Injection(
        "gradient_clipping+preprocessing",
        "no clipping and units",
        "bursts",
        tuple(zip((1.0, 1.2, 1.5, 2.0), _UNITS[0], strict=True)),
        tuple(zip((1.1, 1.3, 1.7, 2.3), _UNITS[1], strict=True)),
        _both(_arguments(max_grad_norm=None, learning_rate=_times_rate), _units()),
    ),
    Injection(
        "learning_rate+weight_init",
        "rate and first weights",
        "plain",
        ((8, 0.8), (12, 1.0), (20, 0.8), (40, 1.0)),
        ((10, 0.9), (15, 1.2), (25, 0.9), (50, 1.2)),
        _both(
            _RATE,
            _arguments(
                weight_init=lambda base, s: f"normal {s}",
                recurrent_init=lambda base, s: f"normal {s}",
            ),
        ),
    ),
    Injection(
        "label_noise+model_complexity",
        "labels and width",
        "few",
        ((0.15, 4), (0.25, 5), (0.3, 6), (0.4, 8)),
        ((0.2, 4.5), (0.25, 5.5), (0.35, 7), (0.4, 9)),
        _both(_data("flipped"), _arguments(hidden_size=_wider)),
    ),
)

# Hotter: at a rate that does not fall, beside a healthy run whose rate falls.
HOT = (
    Injection(
        "batch_size",
        "small batch, constant rate",
        "short",
        (8, 5, 3, 2),
        (7, 6, 4, 1),
        _arguments(batch_size=_strength, lr_schedule="constant", warmup_epochs=0),
    ),
    Injection(
        "learning_rate",
        "rate too high and constant",
        "short",
        (6, 15, 30, 60),
        (10, 20, 40, 80),
        _arguments(learning_rate=_times_rate, lr_schedule="constant", warmup_epochs=0),
    ),
)
