"""What is done to the data of a run: units, lengths, labels, bursts, a shifted validation part.

Changes are made in the units of the set's own standard deviation, and the same one to every part
where a user's data would have it in all. The fresh part keeps its labels, and no shift reaches it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from verdict.data import Parts, Windows

Rng = np.random.Generator
BURST_SIZE = 20.0  # standard deviations


def change_parts(parts: Parts, change: Mapping[str, Any], rng: Rng) -> Parts:
    """Return the parts with every change made that is named.

    Parameters
    ----------
    parts : Parts
        As drawn.
    change : dict
        ``standardised`` (True): mean 0, standard deviation 1. ``units``: factor, offset and a
        factor of the first channel alone, after that. ``oversampled``: so many times as many
        steps. ``zero_tail``, ``noise_tail``: so many times as long, with zeros or noise behind.
        ``shortened``: that share of the steps, from the centre. ``burst_share``: share of the
        training windows struck. ``flipped``, ``flipped_to_next``: share of labels of training and
        validation. ``n_val``: so many validation windows. ``shifted``, ``stretched``: each
        validation group has an offset up to that many standard deviations, or a gain up to that.
        Others are not looked at.
    rng : Generator
        Draws what is random, in this order.
    """
    for name, make in _CHANGES.items():
        if name in change:
            parts = make(parts, change[name], rng)
    return Parts(*(_as_float32(part) for part in (parts.train, parts.validation, parts.fresh)))


def _as_float32(part: Windows) -> Windows:
    return replace(part, X=np.asarray(part.X, np.float32))


def _moments(parts: Parts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    X = np.asarray(parts.train.X, np.float64)
    sd = X.std(axis=(0, 1))
    return X.mean(axis=(0, 1)), np.where(sd > 0, sd, 1.0)


def _each(parts: Parts, make: Callable[[Windows], Windows]) -> Parts:
    return Parts(make(parts.train), make(parts.validation), make(parts.fresh))


def _standardised(parts: Parts, wanted: bool, rng: Rng) -> Parts:
    mean, sd = _moments(parts)
    return _each(parts, lambda part: replace(part, X=(part.X - mean) / sd))


def _units(parts: Parts, units: Mapping[str, float], rng: Rng) -> Parts:
    parts = _standardised(parts, True, rng)
    factor = np.full(parts.train.X.shape[2], float(units.get("factor", 1.0)))
    factor[0] *= units.get("one", 1.0)
    offset = float(units.get("offset", 0.0))
    return _each(parts, lambda part: replace(part, X=factor * part.X + offset))


def _oversampled(parts: Parts, times: float, rng: Rng) -> Parts:
    n_steps = parts.train.X.shape[1]
    at = np.linspace(0, n_steps - 1, round(times * n_steps))
    left = np.minimum(at.astype(int), n_steps - 2)
    share = (at - left)[:, None]

    def stretch(part: Windows) -> Windows:
        lengths = part.lengths
        if lengths is not None:
            lengths = np.maximum((lengths * len(at)) // n_steps, 1)
        X = (1 - share) * part.X[:, left] + share * part.X[:, left + 1]
        return replace(part, X=X, lengths=lengths)

    return _each(parts, stretch)


def _tail(parts: Parts, times: float, fill: Callable[[tuple[int, ...]], Any]) -> Parts:
    n_more = round((times - 1) * parts.train.X.shape[1])

    def lengthen(part: Windows) -> Windows:
        n, n_steps, n_channels = part.X.shape
        X = part.X
        if part.lengths is not None:  # what was padding is told apart no longer either
            valid = np.arange(n_steps) < part.lengths[:, None]
            X = np.where(valid[:, :, None], X, fill(X.shape))
        return replace(
            part, X=np.concatenate([X, fill((n, n_more, n_channels))], axis=1), lengths=None
        )

    return _each(parts, lengthen)


def _zero_tail(parts: Parts, times: float, rng: Rng) -> Parts:
    return _tail(parts, times, np.zeros)


def _noise_tail(parts: Parts, times: float, rng: Rng) -> Parts:
    mean, sd = _moments(parts)
    return _tail(parts, times, lambda shape: mean + sd * rng.standard_normal(shape))


def _shortened(parts: Parts, share: float, rng: Rng) -> Parts:
    n_steps = parts.train.X.shape[1]
    n_kept = max(round(share * n_steps), 3)
    start = (n_steps - n_kept) // 2

    def cut(part: Windows) -> Windows:
        if part.lengths is None:
            return replace(part, X=part.X[:, start : start + n_kept])
        return replace(part, X=part.X[:, :n_kept], lengths=np.minimum(part.lengths, n_kept))

    return _each(parts, cut)


def _bursts(parts: Parts, share: float, rng: Rng) -> Parts:
    """Strike training windows: 3 to 10 % of the steps, all channels, either sign."""
    _, sd = _moments(parts)
    X = np.array(parts.train.X, np.float64)
    n, n_steps, n_channels = X.shape
    struck = rng.random(n) < share
    struck[rng.integers(n)] = True
    for row in np.flatnonzero(struck):
        n_hit = max(int(rng.uniform(0.03, 0.1) * n_steps), 2)
        start = int(rng.integers(n_steps - n_hit))
        sign = rng.choice([-1.0, 1.0], n_channels)
        X[row, start : start + n_hit] += BURST_SIZE * sd * sign
    return replace(parts, train=replace(parts.train, X=X))


def _relabel(parts: Parts, share: float, rng: Rng, draw: Callable[[Any, int], Any]) -> Parts:
    n_classes = int(parts.train.y.max()) + 1

    def relabel(part: Windows) -> Windows:
        hit = rng.random(len(part)) < share
        other = draw(part.y, n_classes)
        return replace(part, y=np.where(hit, other, part.y))

    return replace(parts, train=relabel(parts.train), validation=relabel(parts.validation))


def _flipped(parts: Parts, share: float, rng: Rng) -> Parts:
    def any_other(y: Any, n_classes: int) -> Any:
        return (y + rng.integers(1, n_classes, len(y))) % n_classes

    return _relabel(parts, share, rng, any_other)


def _flipped_to_next(parts: Parts, share: float, rng: Rng) -> Parts:
    return _relabel(parts, share, rng, lambda y, n_classes: (y + 1) % n_classes)


def _few(parts: Parts, n: int, rng: Rng) -> Parts:
    return replace(parts, validation=parts.validation.take(slice(n)))


def _by_group(part: Windows, rng: Rng) -> tuple[Any, int]:
    """Return the group of each window, counted from 0, and how many there are."""
    codes = np.unique(part.groups, return_inverse=True)[1]
    return codes, int(codes.max()) + 1


def _shifted(parts: Parts, most: float, rng: Rng) -> Parts:
    _, sd = _moments(parts)
    codes, n_groups = _by_group(parts.validation, rng)
    size = most * rng.uniform(0.5, 1.0, n_groups) * rng.choice([-1.0, 1.0], n_groups)
    X = parts.validation.X + size[codes][:, None, None] * sd
    return replace(parts, validation=replace(parts.validation, X=X))


def _stretched(parts: Parts, most: float, rng: Rng) -> Parts:
    mean, _ = _moments(parts)
    codes, n_groups = _by_group(parts.validation, rng)
    gain = most ** (rng.uniform(0.5, 1.0, n_groups) * rng.choice([-1.0, 1.0], n_groups))
    X = mean + gain[codes][:, None, None] * (parts.validation.X - mean)
    return replace(parts, validation=replace(parts.validation, X=X))


_CHANGES: dict[str, Callable[[Parts, Any, Rng], Parts]] = {
    "standardised": _standardised,
    "shortened": _shortened,
    "oversampled": _oversampled,
    "burst_share": _bursts,
    "zero_tail": _zero_tail,
    "noise_tail": _noise_tail,
    "flipped": _flipped,
    "flipped_to_next": _flipped_to_next,
    "n_val": _few,
    "shifted": _shifted,
    "stretched": _stretched,
    "units": _units,
}
