"""One short training of an estimator's network, with what is to be known of it afterwards."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sensorseq.history import History
from sensorseq.preprocessing.scale import PHYSICAL
from sensorseq.training.config import SCORES
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training.side_by_side import train_jobs

# Arguments that would reach outside the check, or make it depend on more than its windows.
_APART = {
    "callbacks": None,
    "verbose": 0,
    "warm_start": False,
    "checkpoint": None,
    "resume": False,
    "n_models": 1,
    "calibrate": False,
    "auto_repair": False,
    "early_stopping": False,
    "max_steps": None,
    "class_weight": None,
    "restore_best": False,
    "monitor": "val_loss",
}
# A plain, quick training: what cannot be learned so is no matter of tuning.
PLAIN = {
    "optimizer": "adam",
    "optimizer_params": None,
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "warmup_epochs": 0,
    "ema_decay": None,
    "max_grad_norm": 1.0,
    "clip_by": "norm",
    "batch_size": 16,
    "sampler": "shuffle",
    "windows_per_epoch": None,
    "last_batch": "keep",
    "input_dropout": 0.0,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "l1": 0.0,
    "augment": None,
    "max_timesteps": None,
}
_REFERENCE_WORK = 4 * 64 * (64 + 1)  # of a step in time of one window: one layer, H = 64, C = 1


@dataclass(frozen=True)
class ShortTraining:
    """What a short training recorded; the final outputs (N, K) are of the validation windows."""

    history: History
    outputs: NDArray[np.float64]
    score_name: str

    @property
    def best_score(self) -> float:
        """Highest validation score of any epoch; minus infinity when none is finite."""
        values = self.history[f"val_{self.score_name}"]
        finite = values[np.isfinite(values)]
        return float(finite.max()) if len(finite) else -math.inf


class StopAt:
    """End a training when a column has reached a value."""

    def __init__(self, column: str, value: float) -> None:
        self._column, self._value = column, value

    def on_epoch_end(self, module: nn.Module, history: History) -> bool:
        """Compare the epoch's figure."""
        return bool(history[-1][self._column] >= self._value)


def run_trial(
    estimator: Any,
    train: tuple[Any, Any, Any],
    validation: tuple[Any, Any, Any],
    arguments: Mapping[str, Any],
    *,
    seed: int,
    stop: StopAt | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> ShortTraining:
    """Train a twin of the estimator, changed by `arguments`; `prepare` gets its module before."""
    if estimator.scale == PHYSICAL:  # arrays bring no rated values
        arguments = {**arguments, "scale": "standard"}
    twin = make_twin(estimator, {**arguments, "random_state": seed})
    twin.callbacks = None if stop is None else [stop]
    (X, y, lengths), (X_val, y_val, lengths_val) = train, validation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the checks themselves are about
        prepared = twin._prepare_fit(
            X, y, lengths=lengths, X_val=X_val, y_val=y_val, lengths_val=lengths_val
        )
        if prepare is not None:
            prepare(prepared.module)
        result = train_jobs(prepared.jobs)[0]
        data = prepared.jobs[0].validation
        outputs = predict_outputs(prepared.module, data.X, data.lengths).double().numpy()
    if hasattr(twin, "target_sd_"):  # a regressor trains on standardized values
        outputs = outputs * twin.target_sd_ + twin.target_mean_
    return ShortTraining(result.history, outputs, SCORES[prepared.jobs[0].config.task])


def learn(
    estimator: Any,
    train: tuple[Any, Any, Any],
    validation: tuple[Any, Any, Any],
    arguments: Sequence[Mapping[str, Any]],
    wanted: float,
    seed: int,
) -> tuple[float, int, str]:
    """Train with each of some arguments until a score is reached: slow first weights are no bug.

    Returns the highest score, the epochs of all attempts, and the score in words.
    """
    name = SCORES[estimator._task]
    best, n_epochs = -math.inf, 0
    for attempt, own in enumerate(arguments):
        stop = StopAt(f"val_{name}", wanted)
        trial = run_trial(estimator, train, validation, own, seed=seed + attempt, stop=stop)
        best, n_epochs = max(best, trial.best_score), n_epochs + len(trial.history)
        if best >= wanted:
            break
    return best, n_epochs, f"{name} {best:.0%}" if name == "accuracy" else f"r2 {best:.2f}"


def make_twin(estimator: Any, arguments: Mapping[str, Any]) -> Any:
    """Return an unfitted estimator with some arguments changed, and without outward effects."""
    own = estimator.get_params(deep=False)
    changed = {**_APART, **arguments}
    return type(estimator)(**{**own, **{k: v for k, v in changed.items() if k in own}})


def relative_work(estimator: Any, n_channels: int) -> float:
    """Return the work of one step in time of one window, as a multiple of that of H = 64, C = 1."""
    hidden, directions = estimator.hidden_size, 2 if estimator.bidirectional else 1
    inputs = [n_channels] + [hidden * directions] * (estimator.num_layers - 1)
    work = sum(4 * hidden * (hidden + n) * directions for n in inputs)
    return max(1.0, float(work / _REFERENCE_WORK))


def affordable_epochs(budget: float, work: float, n_windows: int, n_timesteps: int) -> int:
    """Return how many epochs `budget` window-steps of the reference network allow."""
    return int(budget / (work * n_windows * n_timesteps))
