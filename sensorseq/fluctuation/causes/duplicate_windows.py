"""check_duplicates: windows that come twice, with another label or in the other part."""

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Names, Part

LEAST_VALUES = 8  # different values in a window: with fewer, two may be alike by chance
_SEED = 0x5E45  # of the factors of the hash; any will do


def check_duplicates(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return windows of training that contradict each other, and those in both parts."""
    keys = window_keys(train)
    found = _contradictions(train, keys, names)
    if validation is not None and validation.X.shape[2] == train.X.shape[2]:
        found += _across(train, keys, validation)
    return found


def window_keys(part: Part) -> NDArray[np.uint64]:
    """Return a 64-bit number for the valid values of each window, (n,); alike for alike windows.

    0 for windows of fewer than `LEAST_VALUES` different values. Two different windows of a million
    share a number with a chance of about 1 in 10^7.
    """
    n_timesteps, n_channels = part.X.shape[1:]
    # by step and channel, such that a window is known again in a part that is padded further
    rng = np.random.default_rng(_SEED)
    factors = rng.integers(0, 2**63, (n_timesteps, n_channels), np.uint64) * np.uint64(2)
    factors += np.uint64(1)
    keys = np.zeros(len(part), np.uint64)
    for where, values, valid in part.blocks():
        block = np.ascontiguousarray(values, np.float32) + np.float32(0)  # of -0 makes 0
        bits = block.view(np.uint32).astype(np.uint64) + np.uint64(0x9E3779B9)
        bits = _mixed(bits * factors)
        if valid is not None:
            bits *= valid[:, :, None]
        keys[where] = _mixed(bits.sum(axis=(1, 2), dtype=np.uint64)) | np.uint64(1)
        keys[where][_are_poor(block, valid)] = 0
    return keys


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all (the finalizer of MurmurHash3)."""
    bits = bits ^ (bits >> np.uint64(33))
    bits *= np.uint64(0xFF51AFD7ED558CCD)
    bits ^= bits >> np.uint64(33)
    return bits


def _are_poor(block: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return which windows have too few different values to be known by."""
    flat = block.reshape(len(block), -1)
    if valid is not None:
        inside = np.repeat(valid, block.shape[2], axis=1)
        flat = np.where(inside, flat, flat[:, :1])
    # most windows show enough in their first values, and sorting all would take the longest
    head = np.sort(flat[:, : 4 * LEAST_VALUES], axis=1)
    poor = (np.diff(head, axis=1) != 0).sum(axis=1) < LEAST_VALUES - 1
    rest = np.flatnonzero(poor)
    if len(rest) and flat.shape[1] > head.shape[1]:
        ordered = np.sort(flat[rest], axis=1)
        poor[rest] = (np.diff(ordered, axis=1) != 0).sum(axis=1) < LEAST_VALUES - 1
    return np.asarray(poor)


def _contradictions(train: Part, keys: NDArray[np.uint64], names: Names) -> list[Cause]:
    known = np.flatnonzero(keys)
    order = known[np.lexsort((train.target[known], keys[known]))]
    same = keys[order][1:] == keys[order][:-1]
    differs = same & (train.target[order][1:] != train.target[order][:-1])
    if not differs.any():
        return []
    guilty = np.unique(keys[order][1:][differs])
    involved = np.sort(order[np.isin(keys[order], guilty)])
    at = int(np.flatnonzero(differs)[0])
    one, other = int(order[at]), int(order[at + 1])
    share = len(involved) / len(train)
    return [
        Cause(
            "data_bug",
            "supported",
            0.6 if share > 0.05 else 0.3,
            f"{len(involved)} of {len(train)} training windows are there with two labels: row"
            f" {train.name_rows([one])} is {names.class_(int(train.target[one]))} and row"
            f" {train.name_rows([other])}, the same values, is"
            f" {names.class_(int(train.target[other]))} (rows {train.name_rows(involved)}). No"
            " network can get both right.",
            finding="one window, two labels",
            advice="Decide which label is right, and leave the others out.",
        )
    ]


def _across(train: Part, keys: NDArray[np.uint64], validation: Part) -> list[Cause]:
    theirs = window_keys(validation)
    twice = np.flatnonzero((theirs != 0) & np.isin(theirs, keys))
    if not len(twice):
        return []
    share = len(twice) / len(validation)
    return [
        Cause(
            "data_bug",
            "supported",
            0.3 if share > 0.05 else 0.1,
            f"{len(twice)} of {len(validation)} validation windows (rows"
            f" {validation.name_rows(twice)}) are training windows, value for value: the validation"
            " score is better than that on new recordings.",
            finding="training windows in validation",
            advice="Split by recording: give groups=, and leave copies out.",
        )
    ]
