"""A classifier that sees only the configuration: what can be guessed without looking at the run.

A forest on the arguments and sizes, trained on the calibration runs with what is right to answer on
them, and asked on the test. Whatever names causes has to beat it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fluctuation.answers import NORMAL
from fluctuation.plan import causes_of
from fluctuation.seen import Seen, is_single
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

_DEFAULTS: dict[str, Any] = {
    "num_layers": 1,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "input_dropout": 0.0,
    "forget_bias": 1.0,
    "momentum": 0.9,
    "warmup_epochs": 0,
    "weight_decay": 0.0,
}
_CHOICES = {
    "optimizer": ("adam", "adamw", "rmsprop", "sgd"),
    "lr_schedule": ("cosine", "constant", "one_cycle", "plateau"),
    "pooling": ("meanmax", "mean", "last"),
    "scale": ("standard", None),
    "loss": ("cross_entropy", "mse", "softmax twice"),
}
_FIRST_CHOICE = {name: choices[0] for name, choices in _CHOICES.items()}


def features_of(plan: Mapping[str, Any], facts: Mapping[str, Any]) -> list[float]:
    """Return the configuration of a run as numbers: its arguments and the sizes of its parts."""
    given = plan["arguments"]
    batch = given["batch_size"] or facts["n_train"]
    clip = given.get("max_grad_norm", 1.0)
    parameters = given.get("optimizer_params") or {}
    numbers = [
        math.log(given["learning_rate"]),
        math.log(batch),
        math.log(given["hidden_size"]),
        math.log(given["max_epochs"]),
        math.log(max(given["max_epochs"] * facts["n_train"] / batch, 1.0)),
        math.log(given["hidden_size"] ** 2 / facts["n_train"]),
        math.log(facts["n_train"]),
        math.log(facts["n_val"]),
        float(facts["n_classes"]),
        0.0 if clip is None else 1.0,
        float(given["batch_size"] is None),
        float(given.get("restore_best", True)),
        float((parameters.get("betas") or [0.9, 0.999])[1]),
        float(_number_in(given.get("weight_init"))),
        float(_number_in(given.get("recurrent_init"))),
        float(_number_in(given.get("class_weight"))),
    ]
    numbers += [float(given.get(name, default)) for name, default in _DEFAULTS.items()]
    for name, choices in _CHOICES.items():
        value = given.get(name, _FIRST_CHOICE[name])
        numbers += [float(value == choice) for choice in choices]
    return numbers


def _number_in(word: Any) -> float:
    """Return the number in a plan's word such as ``"gain 2.0"``, 0 where there is none."""
    last = str(word).split(" ")[-1].removeprefix("x")
    try:
        return float(last)
    except ValueError:
        return 0.0


class ConfigurationGuess:
    """Guess what is right to answer from the configuration alone.

    Parameters
    ----------
    rows : sequence of sequence of float
        `features_of` each run.
    answers : sequence of str
        What is right to answer on it.
    """

    def __init__(self, rows: Sequence[Sequence[float]], answers: Sequence[str]) -> None:
        self.forest = RandomForestClassifier(500, min_samples_leaf=2, random_state=0, n_jobs=1)
        self.forest.fit(np.asarray(rows), np.asarray(answers))

    def answers(self, row: Sequence[float]) -> list[tuple[str, float]]:
        """Return answers with probabilities, likeliest first."""
        probability: NDArray[np.float64] = self.forest.predict_proba(np.asarray([row]))[0]
        order = np.argsort(-probability, kind="stable")
        return [(str(self.forest.classes_[k]), float(probability[k])) for k in order]


def guess_from_configuration(learned: Sequence[Seen], asked: Sequence[Seen], judge: str) -> None:
    """Let the configuration alone answer on the runs asked, under that name in their `by`."""
    rows, answers = [], []
    for run in learned:
        if len(causes_of(run.plan)) == 2:
            continue
        rows.append(features_of(run.plan, run.facts))
        answers.append(run.plan["cause"] if is_single(run) else NORMAL)
    if len(set(answers)) < 2:
        return
    guess = ConfigurationGuess(rows, answers)
    for run in asked:
        run.by[judge] = guess.answers(features_of(run.plan, run.facts))
