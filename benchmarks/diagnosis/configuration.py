"""A guess from the configuration alone, fitted to runs: what the rule of the report has to beat."""

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
    """Return how far each argument is from the default, by cause and what is unusual.

    Tenfold is 1, and so is another value of an argument that is no number.
    """
    own = {**DEFAULTS, **row["settings"]}
    n_train, _, n_steps, _ = row["sizes"]

    def times(value: float, usual: float) -> tuple[float, float]:
        ratio = math.log10(max(value, 1e-6) / usual)
        return max(ratio, 0.0), max(-ratio, 0.0)

    found: dict[tuple[str, str], float] = {}

    def both(cause: str, name: str, value: float, usual: float) -> None:
        found[cause, f"{name} high"], found[cause, f"{name} low"] = times(value, usual)

    is_sgd = own["optimizer"] == "sgd"
    usual = _SGD_RATE if is_sgd else DEFAULTS["learning_rate"]
    both("learning_rate", "rate", own["learning_rate"], usual)
    found["learning_rate", "no cosine"] = 0.5 * (own["lr_schedule"] != "cosine")
    both("batch_size", "batch", min(own["batch_size"] or n_train, n_train), 32)
    found["optimizer", "sgd"] = 0.5 * is_sgd
    found["optimizer", "rmsprop"] = 0.5 * (own["optimizer"] == "rmsprop")
    momentum = own.get("momentum", 0.9) if is_sgd else 0.9
    found["optimizer", "momentum"] = abs(math.log10(max(1 - momentum, 1e-3) / 0.1))
    found["optimizer", "own parameters"] = float(bool(own["optimizer_params"]))
    found["gradient_clipping", "none"] = 0.5 * (own["max_grad_norm"] is None)
    found["gradient_clipping", "low"] = times(own["max_grad_norm"] or 1.0, 1.0)[1]
    both("model_complexity", "width", own["hidden_size"], 32)
    found["model_complexity", "layers"] = 0.5 * (own["num_layers"] - 1)
    found["model_complexity", "pooling"] = 0.5 * (own["pooling"] == "last")
    for name, most in (("dropout", 0.3), ("recurrent_dropout", 0.0)):
        found["regularization", name] = max(own[name] - most, 0.0) / 0.4
    found["regularization", "decay"] = times(own["weight_decay"], 1e-3)[0] / 2
    found["regularization", "l1"] = times(own["l1"], 1e-4)[0]
    found["regularization", "none"] = 0.5 * (own["dropout"] == 0 and own["weight_decay"] == 0)
    found["preprocessing", "unscaled"] = float(own["scale"] is None)
    for name in ("weight_init", "recurrent_init"):
        unusual = own[name] != DEFAULTS[name]
        found["weight_init", name] = 0.3 * unusual + 0.7 * (" " in str(own[name]))
    found["weight_init", "forget bias"] = abs(own["forget_bias"] - 1) / 2
    found["loss", "loss"] = 0.7 * (own["loss"] != DEFAULTS["loss"])
    found["loss", "class weights"] = float(own["class_weight"] is not None)
    both("early_stopping", "epochs", own["max_epochs"], 50)
    steps = min(own["max_timesteps"] or n_steps, n_steps)
    found["sequence_length", "cropped"] = times(steps, n_steps)[1]
    return found


class ConfigurationGuess:
    """A logistic regression on `deviations` for each family.

    Parameters
    ----------
    rows : sequence of row
        To learn from.
    answers : sequence of set of str
        The right families of each.
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
        """Return the likeliest family of a row."""
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
