"""Data sets of the verdict benchmark: generated, part of sensorseq, or from other packages.

Every set is split by group into a training, a validation and a fresh part; no group is in two
parts. The fresh part is large if the set allows it; the oracle sees this part, but no rule does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from accuracy.data import TERRAINS, LabeledWindows, cut, padded, read_series, read_watch
from numpy.typing import NDArray

from sensorseq.datasets import SURFACES_SAMPLE_RATE_HZ, SURFACES_WINDOW_SAMPLES, load_surfaces
from sensorseq.errors import EnvironmentProblemError

N_FRESH = 400
WINDOWS_PER_GROUP = 5  # in generated sets

Rng = np.random.Generator
Floats = NDArray[Any]


@dataclass(frozen=True, eq=False)
class DrawnParts:
    """One draw of a data set."""

    train: LabeledWindows
    validation: LabeledWindows
    fresh: LabeledWindows

    @property
    def of_fit(self) -> dict[str, Any]:
        """The arguments of `fit` in addition to X and y."""
        return {
            "groups": self.train.groups,
            "lengths": self.train.lengths,
            "X_val": self.validation.X,
            "y_val": self.validation.y,
            "groups_val": self.validation.groups,
            "lengths_val": self.validation.lengths,
        }


# Generators: they take (rng, class of each window, steps) and return noiseless windows (n, t, c).


def _sinusoids(rng: Rng, y: Any, n_steps: int) -> Floats:
    t = np.arange(n_steps)
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1))
    return np.sin(0.15 * 1.22 ** y[:, None] * t + phase)[:, :, None]


def _autoregressive(rng: Rng, y: Any, n_steps: int) -> Floats:
    """Return resonant AR(2) noise with poles of radius 0.95; the class determines their angle."""
    shock = rng.standard_normal((len(y), n_steps + 50))
    first, second = 2 * 0.95 * np.cos(0.35 + 0.22 * y), -(0.95**2)
    x = np.zeros_like(shock)
    for t in range(2, shock.shape[1]):
        x[:, t] = first * x[:, t - 1] + second * x[:, t - 2] + shock[:, t]
    x = x[:, 50:]
    return (x / x.std(axis=1, keepdims=True))[:, :, None]


def _chirps(rng: Rng, y: Any, n_steps: int) -> Floats:
    """Return sweeps that start at similar frequencies; the class sets their speed and direction."""
    t = np.arange(n_steps)
    start = rng.uniform(0.5, 0.7, (len(y), 1))
    rate = (y[:, None] - 2) * 0.25 / n_steps
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1)) + start * t + rate * t**2
    return np.stack([np.sin(phase), np.cos(phase)], axis=2)


def _pulses(rng: Rng, y: Any, n_steps: int) -> Floats:
    """Return pulses in two channels; the class determines the width, and the sign in channel 1."""
    t = np.arange(n_steps)
    width = np.array([1.0, 2.5, 5.0])[y % 3][:, None]
    x = np.zeros((len(y), n_steps, 2))
    for channel, sign in enumerate((np.ones(len(y)), np.where(y >= 3, -1.0, 1.0))):
        for _ in range(3):
            center = rng.uniform(0, n_steps, (len(y), 1))
            height = rng.uniform(0.7, 1.4, (len(y), 1)) * sign[:, None]
            x[:, :, channel] += height * np.exp(-(((t - center) / width) ** 2))
    return x


def _replica(rng: Rng, y: Any, n_steps: int) -> Floats:
    """Return slow signals of one channel, like the data in the Stack Overflow question."""
    t = np.arange(n_steps)
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1))
    speed = (0.12 + 0.035 * y[:, None]) * rng.uniform(0.96, 1.04, (len(y), 1))
    wave = np.sin(speed * t + phase) + 0.4 * np.sin(2 * speed * t + 2 * phase)
    return wave[:, :, None]


@dataclass(frozen=True)
class Generated:
    """A generator and its sizes; `noise` is in units of the signal's standard deviation."""

    make: Callable[[Rng, Any, int], Floats]
    n_classes: int
    n_steps: int
    noise: float


GENERATED = {
    "sinusoids": Generated(_sinusoids, 6, 100, 0.6),
    "autoregressive": Generated(_autoregressive, 4, 80, 0.2),
    "chirps": Generated(_chirps, 5, 64, 0.7),
    "pulses": Generated(_pulses, 6, 60, 0.3),
    "replica": Generated(_replica, 6, 100, 0.4),
}
MEASURED = ("surfaces", "motions", "vowels", "watch", "borealtc")
# Noise, in standard deviations of the signal, at which about 60 % of fresh windows are classified
# correctly.
HARD_NOISE = {
    "sinusoids": 1.7,
    "autoregressive": 1.2,
    "chirps": 1.3,
    "pulses": 1.0,
    "replica": 1.3,
    "surfaces": 1.0,
    "motions": 1.5,
    "vowels": 3.0,
    "watch": 3.0,
    "borealtc": 1.0,
}


def draw(
    name: str,
    seed: int,
    n_train: int,
    n_val: int,
    *,
    hard: bool = False,
    imbalance: int = 1,
    borealtc: Path | None = None,
) -> DrawnParts:
    """Draw the parts of one run.

    Parameters
    ----------
    name : str
        A name in `GENERATED` or `MEASURED`.
    seed : int
        Seed for generating windows, or for choosing and splitting measured windows.
    n_train, n_val : int
        Requested number of windows; a measured set may have fewer.
    hard : bool, default=False
        Add `HARD_NOISE`.
    imbalance : int, default=1
        Number of windows of the first class, divided by the number of windows of any other class.
    borealtc : path, optional
        Folder of the BorealTC set.
    """
    rng = np.random.default_rng([seed, sum(name.encode())])
    if name in GENERATED:
        sizes = (n_train, n_val, N_FRESH)
        parts = []
        for size in sizes:
            first_group = sum(part.groups[-1] + 1 - part.groups[0] for part in parts)
            parts.append(_generate(GENERATED[name], rng, size, imbalance, first_group))
    else:
        whole = _measured(name, borealtc)
        wanted = (n_train, n_val, N_FRESH)
        pools = _split(whole, rng)
        parts = [
            _choose(whole, pool, size, imbalance, rng)
            for pool, size in zip(pools, wanted, strict=True)
        ]
        parts = _same_classes(parts)
    if hard:
        sd = parts[0].X.std(axis=(0, 1)) * HARD_NOISE[name]
        parts = [replace(part, X=part.X + sd * rng.standard_normal(part.X.shape)) for part in parts]
    return DrawnParts(*(replace(part, X=np.asarray(part.X, np.float32)) for part in parts))


def _generate(of: Generated, rng: Rng, n: int, imbalance: int, first_group: int) -> LabeledWindows:
    weights = np.ones(of.n_classes)
    weights[0] = imbalance
    # Each class occurs at least twice if n allows it; the remaining labels are random. Windows of a
    # group have the same gain and offset.
    y = np.concatenate(
        [
            np.arange(of.n_classes).repeat(2)[:n],
            rng.choice(of.n_classes, max(n - 2 * of.n_classes, 0), p=weights / weights.sum()),
        ]
    )
    y = rng.permutation(y)
    groups = np.arange(n) // WINDOWS_PER_GROUP
    gain = rng.uniform(0.8, 1.25, groups[-1] + 1)[groups]
    offset = 0.2 * rng.standard_normal(groups[-1] + 1)[groups]
    X = of.make(rng, y, of.n_steps)
    noise = of.noise * X.std() * rng.standard_normal(X.shape)
    X = gain[:, None, None] * X + offset[:, None, None] + noise
    return LabeledWindows(X, y, groups + first_group)


def _split(whole: LabeledWindows, rng: Rng) -> list[NDArray[np.int64]]:
    """Return the rows of three parts, with 60 : 20 : 20 of the groups, by class if possible."""
    classes_of = {group: np.unique(whole.y[whole.groups == group]) for group in set(whole.groups)}
    pure = all(len(classes) == 1 for classes in classes_of.values())
    lots = (
        [[g for g in classes_of if classes_of[g][0] == k] for k in np.unique(whole.y)]
        if pure
        else [list(classes_of)]
    )
    parts: list[list[int]] = [[], [], []]
    for lot in lots:
        order = [lot[index] for index in rng.permutation(len(lot))]
        n_each = max(round(0.2 * len(order)), 1)
        parts[1] += order[:n_each]
        parts[2] += order[n_each : 2 * n_each]
        parts[0] += order[2 * n_each :]
    return [np.flatnonzero(np.isin(whole.groups, part)) for part in parts]


def _choose(whole: LabeledWindows, pool: Any, n: int, imbalance: int, rng: Rng) -> LabeledWindows:
    rows = rng.permutation(pool)
    if imbalance > 1:
        y = whole.y[rows]
        n_others = max(int((y == 0).sum()) // imbalance, 2)
        keep = [rows[y == k][: None if k == 0 else n_others] for k in np.unique(y)]
        rows = rng.permutation(np.concatenate(keep))
    return whole.take(rows[:n])


def _same_classes(parts: list[LabeledWindows]) -> list[LabeledWindows]:
    """Drop classes that the training part lacks, and renumber the other classes."""
    classes = np.unique(parts[0].y)
    kept = [part.take(np.flatnonzero(np.isin(part.y, classes))) for part in parts]
    return [replace(part, y=np.searchsorted(classes, part.y)) for part in kept]


@cache
def _measured(name: str, borealtc: Path | None) -> LabeledWindows:
    if name == "surfaces":
        return _surfaces()
    if name == "motions":
        return _motions()
    if name == "vowels":
        return _vowels()
    if name == "watch":
        return _watch()
    return _borealtc(borealtc)


def available(name: str, borealtc: Path | None) -> str:
    """Return the reason why a set cannot be read here, or an empty string if it can."""
    if name in GENERATED:
        return ""
    try:
        _measured(name, borealtc)
    except EnvironmentProblemError as error:
        return str(error)
    return ""


def _surfaces() -> LabeledWindows:
    series, labels, groups = [], [], []
    for recording in load_surfaces():
        t = np.asarray(recording.timestamps_s)
        even = np.arange(t[0], t[-1], 1 / SURFACES_SAMPLE_RATE_HZ)
        series.append(np.interp(even, t, np.asarray(recording.values)[:, 0])[:, None])
        labels.append(recording.label)
        groups.append(recording.group)
    return cut(series, labels, groups, SURFACES_WINDOW_SAMPLES, SURFACES_WINDOW_SAMPLES)


def _motions() -> LabeledWindows:
    # The file does not identify people, so every recording is its own group.
    series, labels, _ = read_series("BasicMotions", None)
    return cut(series, labels, range(len(series)), 100, 100)


def _vowels() -> LabeledWindows:
    series, labels, _ = read_series("JapaneseVowels", None)
    y = np.unique(labels, return_inverse=True)[1]
    X, lengths = padded(series)
    return LabeledWindows(X, y, np.arange(len(y)), lengths)


def _watch() -> LabeledWindows:
    held = read_watch(None)
    series = [np.asarray(values)[::2] for values in held["X"]]  # 25 Hz
    return cut(series, held["y"], held["subject"], 64, 64)


def _borealtc(folder: Path | None) -> LabeledWindows:
    if folder is None or not (folder / "ICE").is_dir():
        raise EnvironmentProblemError(
            f"BorealTC is not in {folder}; give its folder with --borealtc."
        )
    series, labels, groups = [], [], []
    for terrain in TERRAINS:
        for path in sorted((folder / terrain).glob("pro_*.csv*")):
            series.append(np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:])
            labels.append(terrain)
            groups.append(f"{terrain} {path.name}")
    return cut(series, labels, groups, 40, 20)
