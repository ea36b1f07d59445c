"""Guesses families of causes from the configuration alone, as a baseline for the report's rule."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from diagnosis.faults import FAMILIES
from diagnosis.fits import DEFAULTS
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Row = Mapping[str, Any]
_SGD_RATE = 0.1


def deviations(row: Row) -> dict[tuple[str, str], float]:
    """Return each argument's distance from its default, by cause and kind of deviation.

    For most numeric arguments, a factor of ten counts as a distance of 1. A non-numeric argument
    that differs from its default counts as 0.3 to 1.
    """
    settings = {**DEFAULTS, **row["settings"]}
    n_train, _, n_steps, _ = row["sizes"]

    def times(value: float, usual: float) -> tuple[float, float]:
        ratio = math.log10(max(value, 1e-6) / usual)
        return max(ratio, 0.0), max(-ratio, 0.0)

    distances: dict[tuple[str, str], float] = {}

    def both(cause: str, name: str, value: float, usual: float) -> None:
        distances[cause, f"{name} high"], distances[cause, f"{name} low"] = times(value, usual)

    is_sgd = settings["optimizer"] == "sgd"
    usual = _SGD_RATE if is_sgd else DEFAULTS["learning_rate"]
    both("learning_rate", "rate", settings["learning_rate"], usual)
    distances["learning_rate", "no cosine"] = 0.5 * (settings["lr_schedule"] != "cosine")
    both("batch_size", "batch", min(settings["batch_size"] or n_train, n_train), 32)
    distances["optimizer", "sgd"] = 0.5 * is_sgd
    distances["optimizer", "rmsprop"] = 0.5 * (settings["optimizer"] == "rmsprop")
    momentum = settings.get("momentum", 0.9) if is_sgd else 0.9
    distances["optimizer", "momentum"] = abs(math.log10(max(1 - momentum, 1e-3) / 0.1))
    distances["optimizer", "own parameters"] = float(bool(settings["optimizer_params"]))
    distances["gradient_clipping", "none"] = 0.5 * (settings["max_grad_norm"] is None)
    distances["gradient_clipping", "low"] = times(settings["max_grad_norm"] or 1.0, 1.0)[1]
    both("model_complexity", "width", settings["hidden_size"], 32)
    distances["model_complexity", "layers"] = 0.5 * (settings["num_layers"] - 1)
    distances["model_complexity", "pooling"] = 0.5 * (settings["pooling"] == "last")
    for name, most in (("dropout", 0.3), ("recurrent_dropout", 0.0)):
        distances["regularization", name] = max(settings[name] - most, 0.0) / 0.4
    distances["regularization", "decay"] = times(settings["weight_decay"], 1e-3)[0] / 2
    # the recorded runs are older than the removal of l1
    distances["regularization", "l1"] = times(settings.get("l1", 0.0), 1e-4)[0]
    distances["regularization", "none"] = 0.5 * (
        settings["dropout"] == 0 and settings["weight_decay"] == 0
    )
    distances["preprocessing", "unscaled"] = float(settings["scale"] is None)
    for name in ("weight_init", "recurrent_init"):
        unusual = settings[name] != DEFAULTS[name]
        distances["weight_init", name] = 0.3 * unusual + 0.7 * (" " in str(settings[name]))
    distances["weight_init", "forget bias"] = abs(settings["forget_bias"] - 1) / 2
    distances["loss", "loss"] = 0.7 * (settings["loss"] != DEFAULTS["loss"])
    distances["loss", "class weights"] = float(settings["class_weight"] is not None)
    both("early_stopping", "epochs", settings["max_epochs"], 50)
    steps = min(settings["max_timesteps"] or n_steps, n_steps)
    distances["sequence_length", "cropped"] = times(steps, n_steps)[1]
    return distances


class ConfigurationGuess:
    """A logistic regression on `deviations` for each family.

    Parameters
    ----------
    rows : sequence of row
        The training data.
    answers : sequence of set of str
        The correct families of each row.
    """

    def __init__(self, rows: Sequence[Row], answers: Sequence[set[str]]) -> None:
        x = _table(rows)
        self.models: dict[str, Any] = {}
        self.shares: dict[str, float] = defaultdict(float)
        for family in FAMILIES:
            label = np.array([family in right for right in answers])
            self.shares[family] = float(label.mean())
            if label.any() and not label.all():
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
                self.models[family] = model.fit(x, label)

    def first(self, row: Row) -> str:
        """Return the most likely family of a row."""
        x = _table([row])
        chances = {
            family: float(self.models[family].predict_proba(x)[0, 1])
            if family in self.models
            else self.shares[family]
            for family in FAMILIES
        }
        return max(chances, key=lambda family: chances[family])


def _table(rows: Sequence[Row]) -> Any:
    return np.array([[*deviations(row).values(), *np.log10(row["sizes"])] for row in rows])
