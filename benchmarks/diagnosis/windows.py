"""The windows of the diagnosis benchmark: their sets, draws and faulty data."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from verdict.data import DrawnParts, Floats, LabeledWindows, draw

# No data set is in both parts: the guess is fitted on the first part, and all answers are judged on
# the second.
SETS_OF = {
    "calibration": ("surfaces", "sinusoids", "vowels", "autoregressive", "pulses"),
    "test": ("borealtc", "chirps", "watch", "replica", "motions"),
}
SETS_OF["sick"] = SETS_OF["test"]
LONGEST_STEPS, MOST_FRESH = 50, 300  # longer windows lose every second step
LEAST_FRESH = 60  # with fewer fresh windows, accuracies would be too coarse
Rng = np.random.Generator


def draw_short_windows(part: str, number: int, borealtc: Path | None) -> DrawnParts:
    """Draw at most 180 training windows of at most 50 steps, in random units."""
    rng = np.random.default_rng([78, number, sum(part.encode())])
    names = SETS_OF[part]
    n_train, n_val = round(10 ** rng.uniform(1.8, 2.25)), round(10 ** rng.uniform(1.3, 2.1))
    seed = 5000 + int(rng.integers(1_000_000))
    parts = draw(names[number % len(names)], seed, n_train, n_val, borealtc=borealtc)
    factor, offset = rng.choice([1.0, 1.0, 30.0, 0.03]), rng.choice([0.0, 0.0, 0.0, 10.0])
    fresh = parts.fresh.take(slice(MOST_FRESH))
    parts = DrawnParts(*(_shorter(part) for part in (parts.train, parts.validation, fresh)))
    return in_units(parts, factor, offset)


def _shorter(windows: LabeledWindows) -> LabeledWindows:
    if windows.X.shape[1] <= LONGEST_STEPS:
        return windows
    lengths = None if windows.lengths is None else (windows.lengths + 1) // 2
    return replace(windows, X=np.ascontiguousarray(windows.X[:, ::2]), lengths=lengths)


def each(parts: DrawnParts, change: Callable[[LabeledWindows], LabeledWindows]) -> DrawnParts:
    """Change all three parts in the same way."""
    return DrawnParts(change(parts.train), change(parts.validation), change(parts.fresh))


def in_units(parts: DrawnParts, factor: float, offset: float) -> DrawnParts:
    """Add an offset, in standard deviations of the training part, then multiply by a factor."""
    sd = parts.train.X.std()
    return each(
        parts, lambda part: replace(part, X=np.float32(factor) * (part.X + np.float32(offset * sd)))
    )


def change_parts(parts: DrawnParts, change: Mapping[str, Any], seed: int) -> DrawnParts:
    """Return the parts with faulty data; fresh windows keep their labels and distribution.

    Parameters
    ----------
    parts : DrawnParts
        The drawn windows.
    change : mapping
        `units` is a (factor, offset) pair for all parts. `random_labels` is the fraction of
        training and validation labels that are replaced by any other class, and `confused_labels`
        the fraction that are replaced by the next class. `shift` is the largest offset of
        validation groups, in standard deviations, and `gain` is the largest factor by which they
        are scaled. `n_val` is the number of validation windows kept. The next three change training
        and validation windows. `dead` makes one channel constant; if there is only one channel, it
        becomes constant in the given fraction of the windows. `mixed_units` multiplies one channel
        by the given factor in half of the groups. `clipped` clips the given fraction of the values
        at each end. `duplicates` is the fraction of training windows that are replaced by copies of
        others.
    seed : int
        Seed of the random choices.
    """
    rng = np.random.default_rng([seed, 4])
    for name, value in change.items():
        parts = _CHANGES[name](parts, value, rng)
    return parts


def _units(parts: DrawnParts, units: Any, rng: Rng) -> DrawnParts:
    return in_units(parts, *units)


def _relabel(
    parts: DrawnParts, share: float, rng: Rng, step: Callable[[int, int], Any]
) -> DrawnParts:
    n_classes = int(parts.train.y.max()) + 1

    def relabel(part: LabeledWindows) -> LabeledWindows:
        hit = rng.random(len(part)) < share
        return replace(
            part, y=np.where(hit, (part.y + step(n_classes, len(part))) % n_classes, part.y)
        )

    return replace(parts, train=relabel(parts.train), validation=relabel(parts.validation))


def _random_labels(parts: DrawnParts, share: float, rng: Rng) -> DrawnParts:
    return _relabel(parts, share, rng, lambda n_classes, n: rng.integers(1, n_classes, n))


def _confused_labels(parts: DrawnParts, share: float, rng: Rng) -> DrawnParts:
    return _relabel(parts, share, rng, lambda n_classes, n: 1)


def _of_groups(parts: DrawnParts, draw_one: Callable[[int], Any]) -> Any:
    codes = np.unique(parts.validation.groups, return_inverse=True)[1]
    return np.float32(draw_one(int(codes.max()) + 1)[codes][:, None, None])


def _shift(parts: DrawnParts, most: float, rng: Rng) -> DrawnParts:
    size = _of_groups(parts, lambda n: most * rng.uniform(0.5, 1.0, n) * rng.choice([-1.0, 1.0], n))
    X = parts.validation.X + size * parts.train.X.std(axis=(0, 1))
    return replace(parts, validation=replace(parts.validation, X=X))


def _gain(parts: DrawnParts, most: float, rng: Rng) -> DrawnParts:
    gain = _of_groups(
        parts, lambda n: most ** (rng.uniform(0.5, 1.0, n) * rng.choice([-1.0, 1.0], n))
    )
    mean = parts.train.X.mean(axis=(0, 1))
    X = mean + gain * (parts.validation.X - mean)
    return replace(parts, validation=replace(parts.validation, X=X))


def _n_val(parts: DrawnParts, n: int, rng: Rng) -> DrawnParts:
    return replace(parts, validation=parts.validation.take(slice(n)))


def _on_both(parts: DrawnParts, change: Callable[[LabeledWindows, Floats], None]) -> DrawnParts:
    """Change copies of the training and of the validation windows in place."""

    def changed(part: LabeledWindows) -> LabeledWindows:
        X = part.X.copy()
        change(part, X)
        return replace(part, X=X)

    return replace(parts, train=changed(parts.train), validation=changed(parts.validation))


def _dead(parts: DrawnParts, share: float, rng: Rng) -> DrawnParts:
    n_channels = parts.train.X.shape[2]
    channel = rng.integers(n_channels)

    def kill(part: LabeledWindows, X: Floats) -> None:
        X[np.full(len(X), True) if n_channels > 1 else rng.random(len(X)) < share, :, channel] = 0

    return _on_both(parts, kill)


def _mixed_units(parts: DrawnParts, factor: float, rng: Rng) -> DrawnParts:
    channel = rng.integers(parts.train.X.shape[2])

    def scale(part: LabeledWindows, X: Floats) -> None:
        groups = np.unique(part.groups)
        X[np.isin(part.groups, groups[rng.random(len(groups)) < 0.5]), :, channel] *= factor

    return _on_both(parts, scale)


def _clipped(parts: DrawnParts, share: float, rng: Rng) -> DrawnParts:
    limits = np.quantile(parts.train.X, [share, 1 - share], axis=(0, 1))
    return _on_both(parts, lambda part, X: np.copyto(X, X.clip(*limits)))


def _duplicates(parts: DrawnParts, share: float, rng: Rng) -> DrawnParts:
    rows = np.arange(len(parts.train))
    kept = np.unique(parts.train.y, return_index=True)[1]  # one window of each class
    copies = rng.permutation(np.setdiff1d(rows, kept))[: round(share * len(rows))]
    rows[copies] = rng.choice(np.setdiff1d(rows, copies), len(copies))
    return replace(parts, train=parts.train.take(rows))


_CHANGES: dict[str, Callable[[DrawnParts, Any, Rng], DrawnParts]] = {
    "units": _units,
    "random_labels": _random_labels,
    "confused_labels": _confused_labels,
    "shift": _shift,
    "gain": _gain,
    "n_val": _n_val,
    "dead": _dead,
    "mixed_units": _mixed_units,
    "clipped": _clipped,
    "duplicates": _duplicates,
}
