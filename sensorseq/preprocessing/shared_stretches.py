"""The hash of windows, and of stretches of them: identical ones reveal one log cut twice."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(int(_BASE), -1, 2**64))
_BLOCK_VALUES = 4_000_000
_KEY_BLOCK = 250_000  # values, 2 MB, which a cache holds


def window_keys(X: NDArray[Any], lengths: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """Return a 64-bit number for the valid samples of each window, the same for identical windows.

    Padding does not count, nor how far it goes. Any two of a million different windows share a
    number with a probability of about 1 in 10^7.

    Parameters
    ----------
    X : ndarray of shape (n, t, c)
        Windows; compared as float32.
    lengths : ndarray of shape (n,), optional
        Valid steps; all by default.

    Returns
    -------
    ndarray of shape (n,), uint64
        None is 0.
    """
    n_windows, n_timesteps, n_channels = X.shape
    # one factor for each place, row by row, so that it does not depend on the number of steps
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


def shared_stretches(
    X: NDArray[Any],
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    among: NDArray[np.int64],
    share: float = 0.5,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find which of `rows` begin or end with a stretch that also occurs in a window of `among`.

    If a recording is a piece of another, under another name and with its own clock, its windows
    begin at other samples, so none equals a window of the other. But every window of the piece
    shares its first or last half with a window of the longer recording.

    Parameters
    ----------
    X : ndarray of shape (n_windows, n_timesteps, n_channels), float32
        Windows.
    lengths : ndarray of shape (n_windows,)
        Valid steps.
    rows, among : ndarray of int64
        Positions of the windows to check, and of those they may share samples with.
    share : float, default=0.5
        Length of the stretch relative to a window; stretches shorter than four steps are ignored.

    Returns
    -------
    found, other : ndarray of int64
        Rows that share a stretch, and the window they share it with.

    Notes
    -----
    Stretches are compared by a 64-bit polynomial rolling hash at all offsets. Stretches in which
    fewer than half of the steps change are ignored, because a sensor at rest repeats its values.
    """
    nothing = np.empty(0, np.int64)
    n_steps = math.ceil(X.shape[1] * share)
    if not len(rows) or not len(among) or n_steps < 4:
        return nothing, nothing
    hashes, usable = _rolling(X[rows], lengths[rows], n_steps)
    last = np.maximum(lengths[rows] - n_steps, 0)
    ends = np.stack([hashes[:, 0], hashes[np.arange(len(rows)), last]], axis=1)
    known = np.stack([usable[:, 0], usable[np.arange(len(rows)), last]], axis=1)
    wanted, back = np.unique(ends, return_inverse=True)
    holder = np.full(len(wanted), -1)
    block = max(1, _BLOCK_VALUES // X.shape[1])
    for start in range(0, len(among), block):
        part = among[start : start + block]
        hashes, usable = _rolling(X[part], lengths[part], n_steps)
        at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        row, offset = np.nonzero((wanted[at] == hashes) & usable)
        holder[at[row, offset]] = part[row]
    other = np.where(known, holder[back.reshape(ends.shape)], -1).max(axis=1)
    return rows[other >= 0], other[other >= 0]


def _rolling(
    X: NDArray[Any], lengths: NDArray[np.int64], n_steps: int
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hash of the n_steps from each offset, and whether they are valid and vary."""
    samples = np.ascontiguousarray(X, np.float32) + np.float32(0)  # -0.0 is 0.0
    n_windows, n_timesteps, n_channels = samples.shape
    bits = samples.view(np.uint32).astype(np.uint64)
    code = np.zeros((n_windows, n_timesteps), np.uint64)
    for channel in range(n_channels):  # so that channels cannot be exchanged
        code = _mixed(code + bits[:, :, channel] + _BASE)
    power = np.full(n_timesteps, _BASE)
    power[0] = 1
    inverse = np.full(n_timesteps, _INVERSE)
    inverse[0] = 1
    power, inverse = np.cumprod(power), np.cumprod(inverse)  # wrap around, as they should
    total = np.zeros((n_windows, n_timesteps + 1), np.uint64)
    np.cumsum(code * power, axis=1, out=total[:, 1:])
    n_offsets = n_timesteps - n_steps + 1
    hashes = (total[:, n_steps:] - total[:, :n_offsets]) * inverse[:n_offsets]
    changes = np.zeros((n_windows, n_timesteps), np.int64)
    np.cumsum(code[:, 1:] != code[:, :-1], axis=1, out=changes[:, 1:])
    varied = changes[:, n_steps - 1 :] - changes[:, :n_offsets]
    inside = np.arange(n_offsets) + n_steps <= lengths[:, np.newaxis]
    return hashes, inside & (2 * varied >= n_steps)


def _mixed(code: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all (the finalizer of splitmix64)."""
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))
