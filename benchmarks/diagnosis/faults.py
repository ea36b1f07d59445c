"""Settings of the runs: random settings, near-tuned twins, and twins with one injected fault."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnosis.fits import Settings

Rng = np.random.Generator
FAMILIES = ("step", "capacity", "data", "start", "stopping")
FAMILY_OF = {  # the family of each cause that can be injected; repairs of a family are similar
    "learning_rate": "step",
    "batch_size": "step",
    "optimizer": "step",
    "gradient_clipping": "step",
    "model_complexity": "capacity",
    "regularization": "capacity",
    "preprocessing": "data",
    "label_noise": "data",
    "sequence_length": "data",
    "distribution_shift": "data",
    "small_validation_set": "data",
    "data_bug": "data",
    "weight_init": "start",
    "loss": "start",
    "early_stopping": "stopping",
}
DATA_CHANGES_OF = {
    "label_noise": ("random_labels", "confused_labels"),
    "distribution_shift": ("shift", "gain"),
    "small_validation_set": ("n_val",),
    "data_bug": ("dead", "mixed_units", "clipped", "duplicates"),
}
# Measured cost of a fit on this benchmark's windows, in microseconds per step of a window.
STEP_US, STEP_US_PER_PRODUCT, CALL_US = 0.45, 0.00055, 0.7
LONGEST_S = 0.6  # settings are drawn again if a fit would take longer on an idle core


def estimated_s(settings: Mapping[str, Any], n_train: int, n_steps: int) -> float:
    """Return an estimate of a fit's duration that uses no clock, so that runs are repeatable."""
    width, layers = settings["hidden_size"], settings.get("num_layers", 1)
    batch = min(settings.get("batch_size") or n_train, n_train)
    of_step = STEP_US + STEP_US_PER_PRODUCT * width**2 * (2 * layers - 1)
    steps = min(n_steps, settings.get("max_timesteps") or n_steps)
    return 1e-6 * settings["max_epochs"] * steps * (n_train * of_step + CALL_US * n_train / batch)


def draw_settings(rng: Rng) -> Settings:
    """Draw settings that people try, both good and bad."""

    def pick(values: Sequence[Any], shares: Sequence[float]) -> Any:
        return values[rng.choice(len(values), p=shares)]

    optimizer = pick(["adam", "rmsprop", "sgd", "adamw"], [0.45, 0.2, 0.15, 0.2])
    low, high = (-3.0, 0.5) if optimizer == "sgd" else (-4.5, -0.7)
    settings = {
        "optimizer": optimizer,
        "learning_rate": float(f"{10 ** rng.uniform(low, high):.3g}"),
        "batch_size": pick(
            [1, 2, 4, 8, 16, 32, 64, 128, None],
            [0.03, 0.04, 0.08, 0.1, 0.2, 0.3, 0.1, 0.08, 0.07],
        ),
        "hidden_size": round(2 ** rng.uniform(1, 7)),
        "num_layers": pick([1, 2, 3], [0.75, 0.18, 0.07]),
        "lr_schedule": pick(["constant", "cosine", "plateau"], [0.6, 0.3, 0.1]),
        "max_grad_norm": pick([None, 1.0, 0.1], [0.5, 0.4, 0.1]),
        "dropout": pick([0.0, 0.2, 0.5, 0.8], [0.5, 0.25, 0.2, 0.05]),
        "weight_decay": pick([0.0, 1e-4, 1e-2, 0.3], [0.5, 0.25, 0.2, 0.05]),
        "scale": pick([None, "standard", "robust"], [0.3, 0.5, 0.2]),
        "weight_init": pick(["xavier", "uniform", "he", "orthogonal"], [0.5, 0.3, 0.1, 0.1]),
        "recurrent_init": pick(["orthogonal", "uniform", "xavier"], [0.5, 0.3, 0.2]),
        "forget_bias": pick([0.0, 1.0], [0.5, 0.5]),
        "pooling": pick(["last", "mean", "meanmax"], [0.4, 0.3, 0.3]),
        "loss": pick(["cross_entropy", "focal"], [0.85, 0.15]),
        "warmup_epochs": 0,
        "max_epochs": round(10 ** rng.uniform(1.3, 2.0)),
    }
    if optimizer == "sgd":
        settings["momentum"] = pick([0.0, 0.9, 0.99], [0.3, 0.6, 0.1])
    return settings


def draw_short(
    rng: Rng,
    n_train: int,
    n_steps: int,
    make: Callable[[Rng], Settings],
    longest_s: float = LONGEST_S,
) -> Settings:
    """Draw settings until their fit is short enough; the limit grows with the number of draws."""
    while estimated_s(settings := make(rng), n_train, n_steps) > longest_s:
        longest_s *= 1.02
    return settings


def draw_twin(rng: Rng, base: str = "cosine") -> Settings:
    """Draw settings near the classifier's defaults, with learning rates suited to short fits.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    base : str
        ``"cosine"`` for the cosine schedule, ``"constant"`` for a low constant rate, ``"either"``
        for one of these two at random, ``"hot"`` for a high rate with the cosine schedule, or
        ``"sgd"`` for the optimizer SGD.
    """
    if base == "either":
        base = "constant" if rng.random() < 0.3 else "cosine"
    exponents = {
        "cosine": (-2.2, -1.8),
        "constant": (-2.9, -2.4),
        "hot": (-1.7, -1.3),
        "sgd": (-0.8, -0.2),
    }
    return {
        "optimizer": "sgd" if base == "sgd" else str(rng.choice(["adamw", "adamw", "adam"])),
        "learning_rate": float(f"{10 ** rng.uniform(*exponents[base]):.3g}"),
        "momentum": 0.9,
        "optimizer_params": None,
        "lr_schedule": "constant" if base == "constant" else "cosine",
        "warmup_epochs": 0.05,
        "batch_size": int(rng.choice([8, 16, 16, 32])),
        "max_grad_norm": 1.0,
        "hidden_size": round(2 ** rng.uniform(4.8, 5.6)),
        "num_layers": 1,
        "pooling": "meanmax",
        "dropout": 0.3,
        "recurrent_dropout": 0.0,
        "weight_decay": 1e-3,
        "label_smoothing": 0.0,
        "scale": "standard",
        "weight_init": "xavier",
        "recurrent_init": "orthogonal",
        "forget_bias": 1.0,
        "loss": "cross_entropy",
        "class_weight": None,
        "max_timesteps": None,
        "crop": "head",
        "max_epochs": round(10 ** rng.uniform(1.7, 1.95)),
        "restore_best": False,
    }


@dataclass(frozen=True)
class Fault:
    """One way to inject a cause.

    Parameters
    ----------
    cause : str
        A cause as reports name it, or empty if the change should do no harm.
    kind : str
        Description of the change.
    arguments : dict
        Maps each argument to a value, or to a function of (rng, twin).
    change : dict
        Maps each change of the data to a value or to a function of (rng, twin); see `change_parts`.
    base : str
        Kind of the twin; see `draw_twin`.
    of_twin : dict
        Changes of the data that also apply to the twin.
    """

    cause: str
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    change: Mapping[str, Any] = field(default_factory=dict)
    base: str = "either"
    of_twin: Mapping[str, Any] = field(default_factory=dict)


def _power(low: float, high: float, digits: int = 3) -> Callable[[Rng, Settings], float]:
    return lambda rng, twin: float(f"{10 ** rng.uniform(low, high):.{digits}g}")


def _times(name: str, low: float, high: float) -> Callable[[Rng, Settings], float]:
    return lambda rng, twin: float(f"{twin[name] * 10 ** rng.uniform(low, high):.3g}")


def _whole(low: float, high: float) -> Callable[[Rng, Settings], int]:
    return lambda rng, twin: round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _between(low: float, high: float) -> Callable[[Rng, Settings], float]:
    return lambda rng, twin: round(float(rng.uniform(low, high)), 3)


def _one_of(*values: Any) -> Callable[[Rng, Settings], Any]:
    return lambda rng, twin: values[int(rng.integers(len(values)))]


def _word(word: str, low: float, high: float) -> Callable[[Rng, Settings], str]:
    return lambda rng, twin: f"{word} {10 ** rng.uniform(low, high):.3g}"


def _units(rng: Rng, twin: Settings) -> tuple[float, float]:
    factor = 10 ** (rng.uniform(0.8, 2.5) * rng.choice([-1, 1]))
    return (
        float(f"{factor:.3g}"),
        float(f"{rng.choice([0.0, 1.0]) * 10 ** rng.uniform(0, 2):.3g}"),
    )


FAULTS = (
    Fault("learning_rate", "rate too high", {"learning_rate": _times("learning_rate", 0.6, 2.2)}),
    Fault("learning_rate", "rate too low", {"learning_rate": _times("learning_rate", -2.7, -1.0)}),
    Fault("learning_rate", "no schedule", {"lr_schedule": "constant"}, base="hot"),
    Fault("batch_size", "batch too small", {"batch_size": _whole(1, 4)}, base="either"),
    Fault("batch_size", "batch too small, high rate", {"batch_size": _whole(1, 4)}, base="hot"),
    Fault("batch_size", "batch too large", {"batch_size": None}),
    Fault("gradient_clipping", "no clipping", {"max_grad_norm": None}, base="sgd"),
    Fault("gradient_clipping", "no clipping, high rate", {"max_grad_norm": None}, base="hot"),
    Fault("gradient_clipping", "clipped too much", {"max_grad_norm": _power(-3, -1.3)}, base="sgd"),
    Fault("optimizer", "plain descent", {"optimizer": "sgd", "momentum": _one_of(0.0, 0.9)}),
    Fault("optimizer", "rmsprop", {"optimizer": "rmsprop"}, base="hot"),
    Fault("optimizer", "short memory", {"optimizer_params": {"betas": [0.9, 0.5]}}, base="hot"),
    Fault("optimizer", "too much momentum", {"momentum": _between(0.98, 0.999)}, base="sgd"),
    Fault("model_complexity", "too small", {"hidden_size": _whole(1, 5)}),
    Fault("model_complexity", "too small", {"hidden_size": _whole(1, 3)}),
    Fault("model_complexity", "too deep", {"num_layers": 3}),
    Fault("model_complexity", "last step alone", {"pooling": "last"}),
    Fault("regularization", "too much dropout", {"dropout": _between(0.7, 0.97)}),
    Fault("regularization", "too much decay", {"weight_decay": _power(0.0, 1.7)}),
    Fault("regularization", "recurrent dropout", {"recurrent_dropout": _between(0.5, 0.95)}),
    Fault("regularization", "none", {"dropout": 0.0, "weight_decay": 0.0}),
    Fault("preprocessing", "raw units", {"scale": None}, of_twin={"units": _units}),
    Fault("preprocessing", "raw units", {"scale": None}, of_twin={"units": _units}),
    Fault("weight_init", "too large", {"weight_init": _word("normal", -0.2, 0.7)}),
    Fault("weight_init", "recurrent too large", {"recurrent_init": _word("gain", 0.3, 1.2)}),
    Fault("weight_init", "nothing kept", {"forget_bias": _between(-8.0, -3.0)}),
    Fault("weight_init", "nothing at all", {"weight_init": _word("normal", -5.0, -3.0)}),
    Fault("loss", "focal", {"loss": "focal"}),
    Fault("loss", "one class counts most", {"class_weight": _word("first x", 1.0, 2.5)}),
    Fault("loss", "one class counts most", {"class_weight": _word("first x", 1.0, 2.5)}),
    Fault("early_stopping", "too few epochs", {"max_epochs": _whole(5, 14)}),
    Fault("early_stopping", "too many epochs", {"max_epochs": _times("max_epochs", 0.5, 0.8)}),
    Fault("label_noise", "random labels", change={"random_labels": _between(0.1, 0.4)}),
    Fault("label_noise", "confused labels", change={"confused_labels": _between(0.1, 0.4)}),
    Fault("distribution_shift", "shifted groups", change={"shift": _between(0.7, 4.0)}),
    Fault("distribution_shift", "stretched groups", change={"gain": _between(1.5, 4.0)}),
    Fault("small_validation_set", "few windows", change={"n_val": _whole(6, 14)}),
    Fault("sequence_length", "truncated", {"max_timesteps": _whole(2, 10)}),
    Fault(
        "sequence_length", "truncated", {"max_timesteps": _whole(2, 10), "crop": _one_of("tail")}
    ),
)
_SICK = (  # name of the cause, kind, change
    ("label_noise", "wrong labels", {"random_labels": _between(0.15, 0.4)}),
    ("distribution_shift", "shifted groups", {"shift": _between(1.0, 4.0)}),
    ("data_bug", "dead channel", {"dead": _between(0.2, 0.6)}),
    ("data_bug", "mixed units", {"mixed_units": _power(1.5, 3.0)}),
    ("data_bug", "clipped sensor", {"clipped": _between(0.15, 0.4)}),
    ("data_bug", "duplicates", {"duplicates": _between(0.6, 0.9)}),
)
# healthy settings
DATA_FAULTS = tuple(Fault(cause, kind, {}, change, "cosine") for cause, kind, change in _SICK)
BENIGN = (
    Fault("", "a near-tuned twin", base="cosine"),
    Fault("", "a constant rate", base="constant"),
    Fault("", "raw units, scaled", change={"units": _units}),
    Fault("", "no clipping at a low rate", {"max_grad_norm": None}, base="constant"),
    Fault("", "small batches at a low rate", {"batch_size": 8}, base="constant"),
    Fault("", "uniform first weights", {"weight_init": "uniform", "recurrent_init": "uniform"}),
    Fault("", "a momentum of 0.95", {"momentum": 0.95}, base="sgd"),
    Fault("", "no warm-up", {"warmup_epochs": 0}, base="constant"),
)


@dataclass(frozen=True)
class Injected:
    """A twin and the same run with a fault.

    Parameters
    ----------
    fault : Fault
        The injected fault.
    twin, settings : dict
        Settings without and with the fault.
    twin_change, change : dict
        Changes of the data without and with the fault.
    """

    fault: Fault
    twin: Settings
    settings: Settings
    twin_change: dict[str, Any]
    change: dict[str, Any]


def inject(fault: Fault, rng: Rng, n_train: int, n_steps: int) -> Injected:
    """Draw a twin and the fault's strength; draw both again if the fit would take too long."""

    def made(values: Mapping[str, Any], twin: Settings) -> dict[str, Any]:
        return {name: of(rng, twin) if callable(of) else of for name, of in values.items()}

    longest = LONGEST_S
    while True:
        longest *= 1.02
        twin = draw_twin(rng, fault.base)
        settings = {**twin, **made(fault.arguments, twin)}
        settings["max_epochs"] = round(settings["max_epochs"])
        if max(estimated_s(of, n_train, n_steps) for of in (twin, settings)) <= longest:
            change = made(fault.of_twin, twin)
            return Injected(fault, twin, settings, change, {**change, **made(fault.change, twin)})
