"""Small problems, with training and validation windows, on which a remedy should have an effect."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class ProblemData(NamedTuple):
    """The data of one run; variants choose additional arguments of `fit` from `fit_arguments`."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    fit_arguments: Mapping[str, np.ndarray] = {}


Problem = Callable[[int], ProblemData]


def tones(n, seed, *, n_timesteps=24, n_classes=3, noise=0.5, first=0.3, step=0.3):
    """Make sines of random phase in one channel; the class determines their frequency."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    t = np.arange(n_timesteps)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    X = np.sin(t * (first + step * y[:, None]) + phase)
    return (X + noise * rng.normal(size=X.shape))[:, :, None], y


def marked(n, seed, *, at, n_timesteps=40, noise=1.0, height=3.0):
    """Make noise with two large samples, starting at index `at`; their sign encodes the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = noise * rng.normal(size=(n, n_timesteps, 1))
    X[:, at : at + 2] += height * (2.0 * y[:, None, None] - 1.0)
    return X, y


def odd_signs(n, seed, *, n_pulses=5, spacing=5):
    """Make upward and downward pulses; the class is the parity of the number of upward pulses."""
    rng = np.random.default_rng(seed)
    up = rng.integers(0, 2, (n, n_pulses))
    X = 0.1 * rng.normal(size=(n, spacing * n_pulses, 1))
    for pulse in range(n_pulses):
        start = 1 + spacing * pulse
        X[:, start : start + 2, 0] += 2.0 * (2 * up[:, [pulse]] - 1)
    return X, up.sum(axis=1) % 2


def pairs_of(make: Callable[..., Any], n: int = 60, n_val: int = 90, **options: Any) -> Problem:
    """Return a function that draws training and validation windows for a seed."""
    return lambda seed: ProblemData(*make(n, seed, **options), *make(n_val, 1000 + seed, **options))


def relabeled(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Change the class of a fraction of the windows."""
    rng = np.random.default_rng(seed)
    y = y.copy()
    rows = rng.permutation(len(y))[: round(share * len(y))]
    y[rows] = (y[rows] + rng.integers(1, y.max() + 1, len(rows))) % (y.max() + 1)
    return y


def _wrong_labels(seed):
    data = pairs_of(tones, noise=1.0)(seed)
    return data._replace(y=relabeled(data.y, 0.25, seed))


def _doubtful_labels(seed):
    data = pairs_of(tones, n=90)(seed)
    labels = relabeled(data.y, 0.4, seed)
    weight = np.where(labels == data.y, 1.0, 0.02)
    return data._replace(y=labels, fit_arguments={"sample_weight": weight})


def _rare(seed):
    X, y, *validation = pairs_of(tones, n=400, n_val=200, n_classes=2, noise=2.0)(seed)
    kept = (y == 0) | (np.cumsum(y == 1) <= 20)
    return ProblemData(X[kept], y[kept], *validation)


def _noisier_sensor(seed):
    return ProblemData(*tones(60, seed, noise=0.05), *tones(150, 1000 + seed, noise=0.8))


def _drifting_gain(seed):
    data = pairs_of(tones, noise=0.1)(seed)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (len(data.X_val), 1))
    gain = np.exp(0.8 * np.sin(np.arange(24) / 4 + phase))
    return data._replace(X_val=data.X_val * gain[:, :, None])


def _padded(seed):
    data = pairs_of(marked, at=18, n_timesteps=20)(seed)
    X, X_val = (np.pad(x, ((0, 0), (0, 180), (0, 0))) for x in (data.X, data.X_val))
    fit_arguments = {"lengths": np.full(len(X), 20), "lengths_val": np.full(len(X_val), 20)}
    return data._replace(X=X, X_val=X_val, fit_arguments=fit_arguments)


def _changed(change: Callable[[np.ndarray, int], np.ndarray]) -> Problem:
    def problem(seed):
        data = PROBLEMS["clear tones"](seed)
        return data._replace(X=change(data.X, seed), X_val=change(data.X_val, seed + 1))

    return problem


def _beside_large_units(X, seed):
    noise = np.random.default_rng(seed).normal(size=X.shape)
    return np.concatenate([1e4 * noise, 1e-3 * X + 50.0], axis=2)


def _spiky(seed):
    data = PROBLEMS["clear tones"](seed)
    data.X[::20, 3] = 1000.0
    return data


PROBLEMS: dict[str, Problem] = {
    "clear tones": pairs_of(tones, noise=0.3),
    "four clear tones": pairs_of(tones, n=80, n_classes=4, noise=0.2),
    "noisy tones": pairs_of(tones, noise=0.7),
    "200 noisy tones": pairs_of(tones, n=200, noise=0.7),
    "18 tones": pairs_of(tones, n=18, noise=0.5),
    "two tones in much noise": pairs_of(tones, n=90, n_classes=2, noise=1.5),
    "24 long tones": pairs_of(tones, n=24, n_timesteps=60, noise=1.0),
    "a quarter of labels wrong": _wrong_labels,
    "doubtful labels": _doubtful_labels,
    "a rare class": _rare,
    "a noisier sensor": _noisier_sensor,
    "a drifting gain": _drifting_gain,
    "mark at step 1 of 60": pairs_of(marked, at=1, n_timesteps=60),
    "mark at step 1 of 100": pairs_of(marked, at=1, n_timesteps=100),
    "mark at step 3 of 120": pairs_of(marked, at=3, n_timesteps=120),
    "mark at the start": pairs_of(marked, at=2),
    "mark in the middle": pairs_of(marked, at=20),
    "mark at the end": pairs_of(marked, at=36),
    "180 steps of padding": _padded,
    "an offset of 50": _changed(lambda X, _: X + 50.0),
    "values of 0.001": _changed(lambda X, _: 1e-3 * X),
    "beside a channel of 10,000": _changed(_beside_large_units),
    "a few spikes of 1000": _spiky,
    "odd number of pulses": pairs_of(odd_signs, n=192, n_val=10),
}
