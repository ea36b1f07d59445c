"""Train an estimator's network in short runs whose outcome is known in advance.

One check uses two planted wave shapes, which the network must distinguish. The other check gives
each recording a random label, so a validation score above chance means that there is a leak.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sensorseq.errors import SplitError
from sensorseq.history import History
from sensorseq.inspection.check_result import FAILED, NOT_POSSIBLE, PASSED, Outcome
from sensorseq.inspection.checked_windows import join_stretches, split_unit
from sensorseq.inspection.finding import Finding
from sensorseq.prediction.outside import Floats, Ints
from sensorseq.prediction.windows import Windows
from sensorseq.preprocessing.scale import PHYSICAL
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.training.batches import TrainingData
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import network_outputs
from sensorseq.training.side_by_side import train_jobs

# Checks turn off arguments that act outside the check or distort its result.
_OFF = ("warm_start", "calibrate", "early_stopping", "restore_best")
_NONE = ("callbacks", "checkpoint", "max_steps", "class_weight")
_APART = dict.fromkeys(_OFF, False) | dict.fromkeys(_NONE)
_APART |= {"verbose": 0, "n_models": 1, "monitor": "val_loss"}
# Plain settings for quick training, so that poor settings cannot explain a failure to learn.
_ZERO = ("dropout", "recurrent_dropout", "label_smoothing", "weight_decay", "l1")
_UNSET = ("optimizer_params", "ema_decay", "augment", "max_timesteps")
PLAIN = {
    **dict.fromkeys(_ZERO, 0.0),
    **dict.fromkeys(_UNSET),
    "optimizer": "adam",
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "warmup_epochs": 0,
    "max_grad_norm": 1.0,
    "clip_by": "norm",
    "batch_size": 16,
    "sampler": "shuffle",
}
# Work of the reference network (one layer of 64 units, one channel) per timestep and window.
_REFERENCE_WORK = 4 * 64 * (64 + 1)


@dataclass(frozen=True)
class CheckedFit:
    """The arguments of an estimator, and the function that prepares its fit."""

    arguments: Mapping[str, Any]
    # Runs all steps of `fit` that precede training. This function takes the arguments of an
    # estimator, X, y and the keywords of `fit`, and returns a job for each network.
    prepare: Callable[..., list[TrainingJob]]

    def changed(self, arguments: Mapping[str, Any]) -> "CheckedFit":
        """Return a copy with changed arguments, and without effects outside the checks."""
        return CheckedFit({**self.arguments, **_APART, **arguments}, self.prepare)

    def jobs(self, X: Any, y: Any, **keywords: Any) -> list[TrainingJob]:
        """Prepare a fit, and return a job for each network."""
        return self.prepare(self.arguments, X, y, **keywords)


class ShortTraining(NamedTuple):
    """The result of a short training run, with final outputs (N, K) for the validation windows."""

    history: History
    outputs: Floats
    best_accuracy: float  # the highest finite validation accuracy of any epoch


class StopAt:
    """A callback that ends training once a column of the history reaches a value."""

    def __init__(self, column: str, value: float) -> None:
        self._column, self._value = column, value

    def on_epoch_end(self, module: nn.Module, history: History) -> bool:
        """Return True if the value of this epoch reaches the target."""
        return bool(history[-1][self._column] >= self._value)


def run_trial(
    fit: CheckedFit,
    train: tuple[Any, Any, Any],
    validation: tuple[Any, Any, Any],
    arguments: Mapping[str, Any],
    *,
    seed: int,
    stop: StopAt | None = None,
    prepare: Callable[[nn.Module], None] | None = None,
) -> ShortTraining:
    """Train with changed `arguments`; `prepare` may first change the module."""
    if fit.arguments["scale"] == PHYSICAL:  # arrays have no rated values of channels
        arguments = {**arguments, "scale": "standard"}
    callbacks = None if stop is None else [stop]
    trial = fit.changed({**arguments, "random_state": seed, "callbacks": callbacks})
    (X, y, lengths), (X_val, y_val, lengths_val) = train, validation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke these warnings themselves
        (job,) = trial.jobs(
            X, y, lengths=lengths, X_val=X_val, y_val=y_val, lengths_val=lengths_val
        )
        module, data = job.module, job.validation
        if prepare is not None:
            prepare(module)
        (result,) = train_jobs([job])
        assert isinstance(data, TrainingData)
        lengths = None if data.lengths is None else data.lengths.numpy()
        outputs = network_outputs(module, data.X.numpy(), lengths)
    accuracy = result.history["val_accuracy"]
    best = float(np.max(accuracy, where=np.isfinite(accuracy), initial=-math.inf))
    return ShortTraining(result.history, outputs, best)


def train_until(
    fit: CheckedFit,
    train: tuple[Any, Any, Any],
    validation: tuple[Any, Any, Any],
    arguments: Sequence[Mapping[str, Any]],
    wanted: float,
    seed: int,
) -> tuple[float, int, str]:
    """Train with one set of arguments after another until an accuracy is reached.

    Returns the highest accuracy, the total number of epochs, and the accuracy as text.
    """
    best, n_epochs = -math.inf, 0
    for attempt, changed in enumerate(arguments):
        stop = StopAt("val_accuracy", wanted)
        trial = run_trial(fit, train, validation, changed, seed=seed + attempt, stop=stop)
        best, n_epochs = max(best, trial.best_accuracy), n_epochs + len(trial.history)
        if best >= wanted:
            break
    return best, n_epochs, f"accuracy {best:.0%}"


def relative_work(arguments: Mapping[str, Any], n_channels: int) -> float:
    """Return a network's work, relative to that of the reference network, but at least 1."""
    hidden, directions = arguments["hidden_size"], 2 if arguments["bidirectional"] else 1
    inputs = [n_channels] + [hidden * directions] * (arguments["num_layers"] - 1)
    work = sum(4 * hidden * (hidden + n) * directions for n in inputs)
    return max(1.0, float(work / _REFERENCE_WORK))


def affordable_epochs(budget: float, work: float, n_windows: int, n_timesteps: int) -> int:
    """Return how many epochs fit into a budget, in window-steps of the reference network."""
    return int(budget / (work * n_windows * n_timesteps))


# A planted signal

N_PLANTED = 96  # number of windows to train on, and to validate on
_TIMESTEPS = 64
_FEWEST_TIMESTEPS = 8
_MOST_CHANNELS = 64
_NOISE = 0.1  # standard deviation, for an amplitude of 1
_PLANTED_EPOCHS = 60
_PLANTED_BUDGET = 400_000
_LEARNED = 0.9  # accuracy


def plant(
    n_windows: int, lengths: Ints, n_timesteps: int, n_channels: int, seed: int
) -> tuple[NDArray[np.float32], Ints, Ints]:
    """Return windows of ``cos(t)`` and ``1 - 2 arccos(cos(t)) / pi``, with classes and lengths.

    Both waves range from -1 to 1 with the same period and a random phase, so only the shape
    differs. Each channel leads the previous one by 0.5 rad.
    """
    rng = np.random.default_rng([seed, n_windows])
    y = np.arange(n_windows) % 2
    period = max(8.0, n_timesteps / 4)
    begin = rng.uniform(0, 2 * np.pi, (n_windows, 1, 1))
    t = 2 * np.pi * np.arange(n_timesteps)[:, None] / period + begin + 0.5 * np.arange(n_channels)
    wave = np.where(y[:, None, None] == 0, np.cos(t), 1 - 2 * np.arccos(np.cos(t)) / np.pi)
    X = wave + _NOISE * rng.standard_normal(wave.shape)
    chosen = rng.choice(lengths, n_windows)
    X[np.arange(n_timesteps) >= chosen[:, None]] = 0.0
    return X.astype(np.float32), y, chosen


def plant_windows(seed: int) -> tuple[NDArray[np.float32], Ints, Ints]:
    """Return a small synthetic data set: windows of cosine and triangle waves with noise.

    Parameters
    ----------
    seed : int
        Seed of the phases and the noise.

    Returns
    -------
    X, y, groups : ndarray
        The windows of shape (96, 100, 1) as float32, and the class and recording of each window.
        There are 24 recordings, each of one class.
    """
    X, y, _ = plant(N_PLANTED, np.array([100]), 100, 1, seed)
    order = np.argsort(y, kind="stable")
    return X[order], y[order], np.arange(N_PLANTED) // 4


def check_planted(fit: CheckedFit, windows: Windows, work: float, seed: int) -> Outcome:
    """Check that the network learns the synthetic signal from one of two initializations."""
    n_timesteps = min(windows.n_timesteps, _TIMESTEPS)
    if n_timesteps < _FEWEST_TIMESTEPS:
        return NOT_POSSIBLE, Finding("windows_too_short", {"n_timesteps": n_timesteps})
    n_channels = min(windows.X.shape[2], _MOST_CHANNELS)
    work = min(work, relative_work(fit.arguments, n_channels))
    share = windows.lengths / windows.n_timesteps
    lengths = np.maximum(np.ceil(share * n_timesteps), _FEWEST_TIMESTEPS).astype(np.int64)
    X, y, drawn = plant(N_PLANTED, lengths, n_timesteps, n_channels, seed)
    X_val, y_val, drawn_val = plant(N_PLANTED, lengths, n_timesteps, n_channels, seed + 1)
    affordable = affordable_epochs(_PLANTED_BUDGET, work, N_PLANTED, n_timesteps)
    arguments = {**PLAIN, "max_epochs": int(np.clip(affordable, 20, _PLANTED_EPOCHS))}
    parts = (X, y, drawn), (X_val, y_val, drawn_val)
    best, n_epochs, reached = train_until(fit, *parts, [arguments] * 2, _LEARNED, seed)
    figures = {
        "val_accuracy": best,
        "epochs": n_epochs,
        "n_timesteps": n_timesteps,
        "reached": reached,
    }
    if best >= _LEARNED:
        return PASSED, Finding("waves_learned", figures)
    return FAILED, Finding("waves_not_learned", figures)


# Random labels

ALARM = 0.005  # maximum p-value at which a leak is reported
_ENOUGH = 32  # number of votes to collect in all trials together
_MOST_TRIALS = 8
_HELD_OUT = 0.4
_EPOCHS = 60
_FEWEST_EPOCHS = 15
_BUDGET = 1_500_000


def chance_of(votes: list[Ints], drawn: list[Ints]) -> tuple[float, float]:
    """Return the chance of at least as many correct votes as observed, and of a perfect result.

    This is an exact permutation test over the labels of the held-out recordings in each trial. For
    each trial, `votes` contains the predicted classes and `drawn` the random classes, both of shape
    (n_recordings,).
    """
    n_right = sum(int((vote == lot).sum()) for vote, lot in zip(votes, drawn, strict=True))
    by_chance, perfect = np.ones(1), 1.0
    for vote, lot in zip(votes, drawn, strict=True):
        by_chance = np.convolve(by_chance, _agreements(vote, lot))
        perfect *= _agreements(lot, lot)[-1]
    return float(by_chance[n_right:].sum()), float(perfect)


def _agreements(vote: Ints, lot: Ints) -> Floats:
    """Return the probabilities of 0, 1, ..., n correct votes over all orders of the labels."""
    n, n_votes, n_lots = len(lot), int(vote.sum()), int(lot.sum())
    p = np.zeros(n + 1)
    for both in range(max(0, n_votes + n_lots - n), min(n_votes, n_lots) + 1):
        ways = math.comb(n_lots, both) * math.comb(n - n_lots, n_votes - both)
        p[n - n_votes - n_lots + 2 * both] = ways / math.comb(n, n_votes)
    return p


def check_shuffled(fit: CheckedFit, windows: Windows, work: float, seed: int) -> Outcome:
    """Check that random labels of held-out recordings are predicted no better than by chance."""
    unit, kind = _units(windows)
    n_units = int(unit.max()) + 1
    if n_units < 4:
        figures = {"n_units": n_units, "unit": kind}
        return NOT_POSSIBLE, Finding("too_few_recordings", figures)
    rng = np.random.default_rng([seed, 7])
    votes: list[Ints] = []
    drawn: list[Ints] = []
    n_trials = 1
    for _ in range(4 * _MOST_TRIALS):
        if len(votes) == n_trials:
            break
        parts = _split(windows, rng)
        if parts is None:
            break
        lots = _draw(unit[parts[1]], n_units, rng)
        train, held_out = (windows.take(rows) for rows in parts)
        y_train, y_val = lots[unit[parts[0]]], lots[unit[parts[1]]]
        if len(np.unique(y_train)) < 2:
            continue  # all training labels are the same, so draw again
        units, index = np.unique(unit[parts[1]], return_inverse=True)
        if not votes:
            n_trials = int(np.clip(np.ceil(_ENOUGH / len(units)), 1, _MOST_TRIALS))
        budget = _BUDGET / n_trials
        affordable = affordable_epochs(budget, work, len(windows), windows.n_timesteps)
        trial = run_trial(
            fit,
            (train.X, y_train, train.lengths),
            (held_out.X, y_val, held_out.lengths),
            {
                **PLAIN,
                "lr_schedule": "cosine",
                "max_epochs": int(np.clip(affordable, _FEWEST_EPOCHS, _EPOCHS)),
            },
            seed=seed + len(votes),
            stop=StopAt("accuracy", 0.98),
        )
        votes.append(_vote(trial.outputs, index, len(units)))
        drawn.append(lots[units])
    if not votes:
        return NOT_POSSIBLE, Finding("nothing_held_out", {"unit": kind})
    return _judge(votes, drawn, kind, windows)


def _judge(votes: list[Ints], drawn: list[Ints], kind: str, windows: Windows) -> Outcome:
    p, smallest_p = chance_of(votes, drawn)
    n_votes = sum(map(len, votes))
    n_right = sum(int((vote == lot).sum()) for vote, lot in zip(votes, drawn, strict=True))
    figures = {
        "n_right": n_right,
        "n_votes": n_votes,
        "p": p,
        "n_trials": len(votes),
        "unit": kind,
        "is_blind": windows.groups is None and windows.recording_id is None,
    }
    if smallest_p > ALARM:
        return NOT_POSSIBLE, Finding("too_few_held_out", figures)
    if p <= ALARM:
        return FAILED, Finding("random_labels_predicted", figures)
    return PASSED, Finding("random_labels_at_chance", figures)


def _units(windows: Windows) -> tuple[Ints, str]:
    """Return the unit of each window and the kind of units; a unit gets one random label."""
    if windows.recording_id is not None:
        return np.unique(windows.recording_id, return_inverse=True)[1], "recordings"
    stretches, n_across = join_stretches(windows)
    if n_across:
        return stretches, "segments of signal"
    kind = "windows" if windows.groups is None else "groups"
    return np.unique(split_unit(windows), return_inverse=True)[1], kind


def _split(windows: Windows, rng: np.random.Generator) -> tuple[Ints, Ints] | None:
    """Hold out whole groups as `fit` does, or single windows if there are no groups."""
    seed = int(rng.integers(2**31 - 1))
    try:
        train, validation = holdout_by_group(None, split_unit(windows), _HELD_OUT, seed)
    except SplitError:
        return None
    return (train, validation) if len(train) and len(validation) else None


def _draw(held_out: Ints, n_units: int, rng: np.random.Generator) -> Ints:
    """Draw a label for each unit, balanced among the held-out units and among the other units."""
    lots = np.zeros(n_units, np.int64)
    is_held_out = np.isin(np.arange(n_units), held_out)
    for side in (is_held_out, ~is_held_out):
        n_side = int(side.sum())
        lots[side] = rng.permuted((np.arange(n_side) + rng.integers(2)) % 2)
    return lots


def _vote(outputs: Floats, index: Ints, n_units: int) -> Ints:
    """Return one class for each unit, chosen by a joint vote of its windows."""
    margin = outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0] - 0.5
    total = np.bincount(index, weights=np.tanh(np.nan_to_num(margin)), minlength=n_units)
    return (total > 0).astype(np.int64)
