"""Find windows that copy other windows: exactly, in part, or with noise or a different gain."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.prediction.outside import Floats, Ints

Keys = NDArray[np.uint64]

# More features than this are projected onto random directions, which changes distances by a few
# percent.
_MOST_FEATURES = 512
_PROJECTED = 256
_BLOCK_VALUES = 16_000_000  # number of similarities in memory at the same time: 64 MB
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_STRETCH_VALUES = 250_000  # number of values that are hashed together
_KEY_BLOCK = 250_000  # number of values; these 2 MB fit into a cache
_BLOCK_ROWS = 65_536  # number of rows of a recording that are hashed together
_MOST_HASHES = 2048  # number of hashes kept for each recording: 16 kB
# minimum number and fraction of the hashes that two recordings share if one is a copy
LEAST_SHARED, LEAST_SHARE = 5, 0.05


def window_keys(X: NDArray[Any], lengths: Ints | None = None) -> Keys:
    """Return a 64-bit key of each window's valid samples; identical windows have equal keys.

    Samples (n, t, c) are compared as float32; padding does not count. No key is 0. Among a million
    different windows, the probability that any two share a key is about 1 in 10^7.
    """
    n_windows, n_timesteps, n_channels = X.shape
    # one factor for each value of a window; numbering values row by row makes the factors
    # independent of the window length
    place = np.arange(1, n_timesteps * n_channels + 1, dtype=np.uint64) * _BASE
    factors = _mixed(place.reshape(n_timesteps, n_channels)) | np.uint64(1)
    keys = np.zeros(n_windows, np.uint64)
    size = max(1, _KEY_BLOCK // max(1, factors.size))
    for start in range(0, n_windows, size):
        block = np.ascontiguousarray(X[start : start + size], np.float32) + np.float32(0)
        code = _mixed((block.view(np.uint32).astype(np.uint64) + _BASE) * factors)
        if lengths is not None:
            inside = np.arange(n_timesteps) < np.asarray(lengths)[start : start + size, np.newaxis]
            code *= inside[:, :, np.newaxis]
        keys[start : start + size] = _mixed(code.sum(axis=(1, 2), dtype=np.uint64)) | np.uint64(1)
    return keys


def first_equal(wanted: Keys, keys: Keys) -> Ints:
    """Return the first position of each wanted key in `keys`; -1 if the key is absent or 0."""
    if not len(keys):
        return np.full(len(wanted), -1)
    order = np.argsort(keys, kind="stable")
    at = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
    return np.where((keys[at] == wanted) & (wanted != 0), at, -1)


def shared_stretches(
    X: NDArray[Any],
    lengths: Ints,
    rows: Ints,
    among: Ints,
    *,
    share: float = 0.5,
    usual: float = 1.0,
    holders: tuple[NDArray[Any], Ints] | None = None,
) -> tuple[Ints, Ints]:
    """Find windows of `rows` that begin or end with a segment of a window of `among`.

    If a recording is a piece of another recording, windows of the two recordings usually start at
    different samples. No two windows are then equal, but each window of the piece shares its first
    or last half with a window of the other recording. `share` is the length of a segment as a
    fraction of a window; segments have at least four steps.

    Segments are compared by a 64-bit polynomial rolling hash at all offsets. Segments in which
    fewer than half of the steps change are ignored, because a sensor at rest repeats its values.
    Segments that occur in more than a fraction `usual` of the windows of `among` are also ignored,
    because such segments come from a periodic waveform. Returns the rows, and for each row the
    window that shares its segment. `rows` contains indices of windows in X, and `among` indices of
    windows in `holders` (windows, lengths) if given, or else in X.
    """
    n_steps = math.ceil(X.shape[1] * share)
    if not len(rows) or not len(among) or n_steps < 4:
        return rows[:0], among[:0]
    hashes, usable = _rolling(X[rows], lengths[rows], n_steps)
    last = np.maximum(lengths[rows] - n_steps, 0)
    ends = np.stack([hashes[:, 0], hashes[np.arange(len(rows)), last]], axis=1)
    are_usable = np.stack([usable[:, 0], usable[np.arange(len(rows)), last]], axis=1)
    wanted, back = np.unique(ends, return_inverse=True)
    holder, n_holders = np.full(len(wanted), -1), np.zeros(len(wanted), np.int64)
    X, lengths = (X, lengths) if holders is None else holders
    block = max(1, _STRETCH_VALUES // X.shape[1])
    for start in range(0, len(among), block):
        part = among[start : start + block]
        hashes, usable = _rolling(X[part], lengths[part], n_steps)
        at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        row, offset = np.nonzero((wanted[at] == hashes) & usable)
        segment, row = np.divmod(np.unique(at[row, offset] * len(part) + row), len(part))
        holder[segment] = part[row]
        n_holders += np.bincount(segment, minlength=len(wanted))
    holder[n_holders > usual * len(among)] = -1
    sharing = np.where(are_usable, holder[back.reshape(ends.shape)], -1).max(axis=1)
    return rows[sharing >= 0], sharing[sharing >= 0]


def stretch_hashes(values: NDArray[Any], n_steps: int = 16) -> Keys:
    """Return the `_MOST_HASHES` lowest hashes of the varying segments of a recording.

    If two recordings share segments, both lists contain the hashes of these segments, up to the
    lower of the two lists' maxima.
    """
    lowest = np.empty(0, np.uint64)
    for start in range(0, len(values) - n_steps + 1, _BLOCK_ROWS):
        block = values[np.newaxis, start : start + _BLOCK_ROWS + n_steps - 1]
        hashes, usable = _rolling(block, np.array([block.shape[1]]), n_steps)
        lowest = np.unique(np.concatenate([lowest, _mixed(hashes[usable])]))[:_MOST_HASHES]
    return lowest


def shared_samples(hashes: Sequence[Keys]) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of recordings with the same samples, and the fraction, from `stretch_hashes`."""
    every = np.concatenate([*hashes, np.empty(0, np.uint64)])
    owner = np.repeat(np.arange(len(hashes)), [len(hashes_of) for hashes_of in hashes])
    order = np.argsort(every, kind="stable")
    same = np.flatnonzero(every[order[1:]] == every[order[:-1]])
    pairs = Counter(zip(owner[order[same]].tolist(), owner[order[same + 1]].tolist(), strict=True))
    for (first, second), count in pairs.items():
        a, b = hashes[first], hashes[second]
        highest = min(a[-1], b[-1])
        n_least = min(np.searchsorted(a, highest, "right"), np.searchsorted(b, highest, "right"))
        if count >= LEAST_SHARED and count >= LEAST_SHARE * n_least:
            yield first, second, count / int(n_least)


def _rolling(X: NDArray[Any], lengths: Ints, n_steps: int) -> tuple[Keys, NDArray[np.bool_]]:
    """Hash the `n_steps` steps from each offset; also return which segments are valid and vary."""
    samples = np.ascontiguousarray(X, np.float32) + np.float32(0)  # turn -0.0 into 0.0
    n_windows, n_timesteps, n_channels = samples.shape
    bits = samples.view(np.uint32).astype(np.uint64)
    code = np.zeros((n_windows, n_timesteps), np.uint64)
    # Mix channel by channel, so that exchanged channels give different hashes.
    for channel in range(n_channels):
        code = _mixed(code + bits[:, :, channel] + _BASE)
    power = np.full(n_timesteps, _BASE)
    power[0] = 1
    inverse = np.full(n_timesteps, _INVERSE)
    inverse[0] = 1
    power, inverse = np.cumprod(power), np.cumprod(inverse)  # overflows, as intended
    total = np.zeros((n_windows, n_timesteps + 1), np.uint64)
    np.cumsum(code * power, axis=1, out=total[:, 1:])
    n_offsets = n_timesteps - n_steps + 1
    hashes = (total[:, n_steps:] - total[:, :n_offsets]) * inverse[:n_offsets]
    changes = np.zeros((n_windows, n_timesteps), np.int64)
    np.cumsum(code[:, 1:] != code[:, :-1], axis=1, out=changes[:, 1:])
    varied = changes[:, n_steps - 1 :] - changes[:, :n_offsets]
    inside = np.arange(n_offsets) + n_steps <= lengths[:, np.newaxis]
    return hashes, inside & (2 * varied >= n_steps)


def _mixed(code: Keys) -> Keys:
    """Mix every bit into all others (the finalizer of splitmix64)."""
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))


# A window is a copy if its distance to the original, divided by its distance to the nearest window
# of another recording, is below this ratio. In real and simulated motor currents and IMU data,
# split by group, windows that were not copies had ratios of at least 0.36, or 0.30 if each window's
# channels were scaled to the same standard deviation. Copies with 5 % noise usually have a ratio of
# 0.1.
NEARER = 0.25
NEARER_STRETCHED = 0.1


def near_duplicates(
    X: NDArray[Any],
    lengths: Ints,
    recording: NDArray[Any],
    rows: Ints,
    among: Ints,
) -> tuple[Ints, Ints]:
    """Find windows of `rows` that nearly copy a window of `among`; return the indices of both.

    The offset and the gain of a window are ignored. Recordings of robots that stand still look
    alike, so the distance to the nearest window is compared with the distance to the nearest window
    of any other recording. Only for a copy is the first distance several times smaller than the
    second (ratio test in section 7.1 of Lowe, *Distinctive Image Features from Scale-Invariant
    Keypoints*, 2004). Nothing is found with fewer than three recordings in `among`.
    """
    nothing = np.empty(0, np.int64)
    index = np.unique(recording[among], return_inverse=True)[1]
    if not len(rows) or len(np.unique(index)) < 3:
        return nothing, nothing
    original = np.full(len(rows), -1)
    for stretched in (False, True) if X.shape[2] > 1 else (False,):
        nearer = NEARER_STRETCHED if stretched else NEARER
        # Scale channels by their standard deviation in the larger set, not in the few windows
        # checked.
        sd = np.ones(X.shape[2]) if stretched else _channel_sd(X, lengths, among)
        shapes = _shapes(X, lengths, among, sd, stretched)
        nearest, ratio = _nearest(_shapes(X, lengths, rows, sd, stretched), shapes, index)
        original = np.where((original < 0) & (ratio < nearer), among[nearest], original)
    copies = np.flatnonzero(original >= 0)
    return rows[copies], original[copies]


def _nearest(
    shapes: NDArray[np.float32], among: NDArray[np.float32], recording_index: Ints
) -> tuple[Ints, Floats]:
    """Return, for each shape, the index of the nearest shape in `among` and a ratio of distances.

    The ratio is the distance to the nearest shape, divided by the distance to the nearest shape of
    any other recording.
    """
    order = np.argsort(recording_index, kind="stable")
    ordered, index = among[order], recording_index[order]
    firsts = np.flatnonzero(np.r_[True, np.diff(index) != 0])
    shape_square, square = (np.einsum("nd,nd->n", s, s) for s in (shapes, ordered))
    nearest = np.zeros(len(shapes), np.int64)
    ratio = np.ones(len(shapes))
    block = max(1, _BLOCK_VALUES // len(among))
    for start in range(0, len(shapes), block):
        part = slice(start, start + block)
        distance = shapes[part] @ ordered.T
        distance *= -2
        # These squared distances lack shape_square, which is constant along a row.
        distance += square
        here = np.arange(len(distance))
        best = distance.argmin(axis=1)
        nearest[part] = order[best]
        of_recording = np.minimum.reduceat(distance, firsts, axis=1)
        of_recording[here, index[best]] = np.inf
        first = np.maximum(distance[here, best] + shape_square[part], 0)
        second = of_recording.min(axis=1) + shape_square[part]
        # Squared distances below 1e-4 are too close to the rounding errors of float32, and a
        # constant window has no shape.
        is_valid = (second > 1e-4) & (shape_square[part] > 0.25)
        ratio[part] = np.where(is_valid, np.sqrt(first / np.where(is_valid, second, 1)), 1.0)
    return nearest, ratio


def _shapes(
    X: NDArray[Any],
    lengths: Ints,
    rows: Ints,
    sd: Floats,
    stretched: bool,
) -> NDArray[np.float32]:
    """Turn windows into unit vectors without offset and gain; constant windows become 0."""
    n_timesteps, n_channels = X.shape[1:]
    n_features = n_timesteps * n_channels
    projection: NDArray[np.float32] | None = None
    if n_features > _MOST_FEATURES:
        normal = np.random.default_rng(0).standard_normal((n_features, _PROJECTED), np.float32)
        projection = normal / np.float32(np.sqrt(_PROJECTED))
    width = n_features if projection is None else _PROJECTED
    shapes = np.zeros((len(rows), width), np.float32)
    block = max(1, _BLOCK_VALUES // n_features)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        centered = _centered(X[part], lengths[part])
        if stretched:
            size = np.sqrt(np.einsum("ntc,ntc->nc", centered, centered))[:, np.newaxis]
            centered /= np.where(size > 0, size, 1)
        else:
            centered /= np.where(sd > 0, sd, 1).astype(np.float32)
        flat = centered.reshape(len(part), n_features)
        size = np.sqrt(np.einsum("nd,nd->n", flat, flat))[:, np.newaxis]
        flat /= np.where(size > 0, size, 1)
        shapes[start : start + block] = flat if projection is None else flat @ projection
    return shapes


def _centered(X: NDArray[Any], lengths: Ints) -> NDArray[np.float32]:
    """Subtract each window's mean over the valid steps; set the other steps to 0."""
    centered: NDArray[np.float32]
    if (lengths == X.shape[1]).all():
        mean = X.mean(axis=1, keepdims=True, dtype=np.float64)
        centered = np.asarray(X - mean.astype(np.float32), np.float32)
    else:
        valid = (np.arange(X.shape[1]) < lengths[:, np.newaxis])[:, :, np.newaxis]
        total = np.where(valid, X, 0).sum(axis=1, keepdims=True, dtype=np.float64)
        mean = total / np.maximum(lengths, 1)[:, np.newaxis, np.newaxis]
        centered = np.where(valid, X - mean, 0).astype(np.float32)
    # Discard the rounding errors of constant channels.
    still = np.abs(centered).max(axis=1, keepdims=True, initial=0) <= 1e-6 * np.abs(mean)
    if still.any():
        centered *= ~still
    return centered


def _channel_sd(X: NDArray[Any], lengths: Ints, rows: Ints) -> Floats:
    """Return each channel's standard deviation about the window means, from a sample of windows."""
    some = rows[:: max(1, len(rows) // 2000)]
    squares = (_centered(X[some], lengths[some]).astype(np.float64) ** 2).sum(axis=(0, 1))
    deviation: Floats = np.sqrt(squares / max(1, int(lengths[some].sum())))
    return deviation
