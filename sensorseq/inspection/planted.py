"""A synthetic signal, cosine or triangle wave, in windows of the same shape as the user's."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.check_result import FAILED, NOT_POSSIBLE, PASSED, Outcome
from sensorseq.inspection.checked_windows import CheckedWindows
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.short_training import PLAIN, affordable_epochs, learn, relative_work
from sensorseq.training.config import SCORES

N_PLANTED = 96  # windows to learn from, and as many to be judged by
_TIMESTEPS = 64
_FEWEST_TIMESTEPS = 8
_MOST_CHANNELS = 64
_NOISE = 0.1  # standard deviation, of an amplitude of 1
_EPOCHS = 60
_BUDGET = 400_000
_LEARNED = {"accuracy": 0.9, "r2": 0.7}


def plant(
    n_windows: int, lengths: NDArray[np.int64], n_timesteps: int, n_channels: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return windows of ``cos(t)`` and of ``1 - 2 arccos(cos(t)) / pi``, their class and lengths.

    Both run from -1 to 1 with the same period and a random phase, so only the shape differs.
    Channels lag behind each other.
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


def plant_windows(
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return a small synthetic data set: windows of cosine and triangle waves with noise.

    Parameters
    ----------
    seed : int
        Seed of the phases and the noise.

    Returns
    -------
    X, y, groups : ndarray
        Windows (96, 100, 1), float32, the class, and one of 24 recordings, each of one class.
    """
    X, y, _ = plant(N_PLANTED, np.array([100]), 100, 1, seed)
    order = np.argsort(y, kind="stable")
    return X[order], y[order], np.arange(N_PLANTED) // 4


def check_planted(estimator: Any, windows: CheckedWindows, work: float, seed: int) -> Outcome:
    """Check that the network learns the synthetic signal, from one of two initializations."""
    n_timesteps = min(windows.n_timesteps, _TIMESTEPS)
    if n_timesteps < _FEWEST_TIMESTEPS:
        return NOT_POSSIBLE, Finding("windows_too_short", {"n_timesteps": n_timesteps})
    n_channels = min(windows.X.shape[2], _MOST_CHANNELS)
    work = min(work, relative_work(estimator, n_channels))
    share = windows.lengths / windows.n_timesteps
    lengths = np.maximum(np.ceil(share * n_timesteps), _FEWEST_TIMESTEPS).astype(np.int64)
    X, y, known = plant(N_PLANTED, lengths, n_timesteps, n_channels, seed)
    X_val, y_val, known_val = plant(N_PLANTED, lengths, n_timesteps, n_channels, seed + 1)
    score_name = SCORES[estimator._task]
    wanted = _LEARNED[score_name]
    affordable = affordable_epochs(_BUDGET, work, N_PLANTED, n_timesteps)
    arguments = {**PLAIN, "max_epochs": int(np.clip(affordable, 20, _EPOCHS))}
    parts = (X, y, known), (X_val, y_val, known_val)
    best, n_epochs, reached = learn(estimator, *parts, [arguments] * 2, wanted, seed)
    figures = {
        f"val_{score_name}": best,
        "epochs": n_epochs,
        "n_timesteps": n_timesteps,
        "reached": reached,
    }
    if best >= wanted:
        return PASSED, Finding("waves_learned", figures)
    return FAILED, Finding("waves_not_learned", figures)
