"""Find duplicate windows, and windows on both sides of a split that share samples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.copies import first_equal, shared_stretches, window_keys
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.measures import Measures
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.outside import Ints

# Minimum number of different values in a window; with fewer, two windows may be equal by chance.
LEAST_VALUES = 8
MANY = 0.05  # above this fraction of the windows, a finding is severe
SHARE = 0.25  # minimum overlap, as a fraction of a window; less overlap helps the network little
TOLERATED = 0.05  # tolerated fraction of overlapping windows; a sensor at rest may repeat values
_ROWS = 128  # maximum number of validation windows that are compared
_SURE = 5  # number of matches needed for signals with only a few levels
_USUAL = 0.5  # a segment in more than half of the training windows is periodic, not a duplicate
_PAIRS = 40  # number of consecutive pairs needed to conclude that windows continue each other


def check_duplicates(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Find training windows that contradict or repeat each other, or also occur in validation."""
    keys = _distinctive_keys(train)
    yield from _contradictions(train, keys)
    n_copies = int((keys != 0).sum()) - len(np.unique(keys[keys != 0]))
    if n_copies > MANY * len(train):
        n_different, severe = len(train) - n_copies, n_copies > len(train) / 2
        yield train.finding(
            "copied_windows", n_windows=n_copies, n_different=n_different, severe=severe
        )
    if validation is None or validation.n_channels != train.n_channels:
        return
    same = first_equal(_distinctive_keys(validation), keys)
    twice = np.flatnonzero(same >= 0)
    if len(twice):
        severe = len(twice) > MANY * len(validation)
        where: dict[str, list[Any]] = {"rows": validation.row_names(twice)}
        parts = train.windows, validation.windows
        yield _in_both("windows_in_both_parts", *parts, same[twice], twice, where, severe=severe)


def _in_both(
    kind: str,
    train: Windows,
    validation: Windows,
    holders: Ints,
    rows: Ints,
    where: dict[str, list[Any]],
    **values: Any,
) -> Finding:
    """Return a finding about validation `rows` that share samples with the training `holders`.

    It names groups that are in both parts, and pairs of groups whose windows share samples.
    """
    is_drawn, is_grouped = validation.rows is not None, False
    if train.groups is not None and validation.groups is not None:
        is_grouped = True
        groups = train.groups[holders].tolist(), validation.groups[rows].tolist()
        pairs = dict.fromkeys(zip(*groups, strict=True))
        shared = [f"{a!r} and {b!r}" for a, b in pairs if a != b]
        where |= {"torn": [repr(a) for a, b in pairs if a == b], "shared": shared}
    values |= {"drawn": is_drawn and not is_grouped, "chosen": not (is_drawn or is_grouped)}
    return Finding(kind, {"n_windows": len(rows), "n_validation": len(validation), **values}, where)


def _distinctive_keys(part: Measures) -> NDArray[np.uint64]:
    """Return `window_keys`, but 0 for windows with fewer than `LEAST_VALUES` different values."""
    keys = window_keys(part.windows.X, part.windows.lengths)
    for where, values, valid in part.blocks():
        flat = values.reshape(len(values), -1)
        if valid is not None:
            flat = np.where(np.repeat(valid, part.n_channels, axis=1), flat, flat[:, :1])
        # sorting all values would be slow, and the first values suffice for most windows
        poor = np.arange(len(flat))
        for examined in (flat[:, : 4 * LEAST_VALUES], flat):
            changes = np.diff(np.sort(examined[poor], axis=1), axis=1) != 0
            poor = poor[changes.sum(axis=1) < LEAST_VALUES - 1]
        keys[where][poor] = 0
    return keys


def _contradictions(train: Measures, keys: NDArray[np.uint64]) -> Iterator[Finding]:
    rows = np.flatnonzero(keys)
    order = rows[np.lexsort((train.windows.target[rows], keys[rows]))]
    before, after = order[:-1], order[1:]
    differs = (keys[before] == keys[after]) & (
        train.windows.target[before] != train.windows.target[after]
    )
    if not differs.any():
        return
    involved = np.flatnonzero(np.isin(keys, keys[after[differs]]))
    pair = np.array([before[differs][0], after[differs][0]])
    yield train.finding(
        "two_labels",
        rows=involved,
        classes=train.windows.target[pair],
        pair=train.row_names(pair),
        n_windows=len(involved),
        severe=len(involved) > MANY * len(train),
    )


def check_overlap(train: Windows, validation: Windows) -> Finding | None:
    """Return a finding if validation windows overlap training windows, else None."""
    rows, holders, n_compared = _find_shared(train, validation)
    if not len(rows):
        return None
    n_more, severe = len(validation) - n_compared, len(rows) > MANY * n_compared
    values = {"n_checked": n_compared, "n_more": n_more, "severe": severe}
    return _in_both("windows_overlap", train, validation, holders, rows, {}, **values)


def count_shared(train: Windows, held_out: Windows) -> tuple[int, int]:
    """Return how many held-out windows share training samples, and how many were compared.

    The first number is 0 if the matches may be due to chance.
    """
    rows, _, n_compared = _find_shared(train, held_out)
    return len(rows), n_compared


def _find_shared(train: Windows, held_out: Windows) -> tuple[Ints, Ints, int]:
    """Return overlapping held-out rows, the training row of each, and how many were compared."""
    places = np.arange(0, len(held_out), -(-len(held_out) // _ROWS))
    rows = held_out.take(places)
    X, every, among = np.asarray(rows.X, np.float32), np.arange(len(rows)), np.arange(len(train))

    def find_in(X: NDArray[np.float32]) -> tuple[Ints, Ints]:
        holders = train.X, train.lengths
        return shared_stretches(
            X, rows.lengths, every, among, share=SHARE, usual=_USUAL, holders=holders
        )

    nothing = places[:0], places[:0], len(rows)
    overlapping, overlapped = find_in(X)
    tolerated = TOLERATED * len(rows)
    if len(overlapping) < 2 or len(overlapping) <= tolerated:
        return nothing
    # In a signal with few levels, segments match by chance, even reversed in time.
    back = X.copy()
    for window, length in zip(back, rows.lengths, strict=True):
        window[:length] = window[:length][::-1].copy()
    if len(overlapping) <= tolerated + 3 * len(find_in(back)[0]):
        return nothing
    # a few matches are not conclusive if many samples of a window are equal
    distinct = [len(np.unique(window, axis=0)) for window in X[:8]]
    if len(overlapping) < _SURE and sum(distinct) <= X.shape[1] * len(distinct) / 2:
        return nothing
    return places[overlapping], overlapped, len(rows)


def check_continuity(windows: Windows) -> Finding | None:
    """Return a finding if windows continue each other because they are cut from few recordings.

    In that case, a channel changes about as much from one window to the next as from sample to
    sample within a window. To exclude separate recordings at nearly the same level, this change
    must also be much smaller than the change from a window's first sample to the next window's last
    sample.
    """
    X, lengths = windows.X, windows.lengths
    n_windows, n_timesteps, _ = X.shape
    if n_windows <= _PAIRS or n_timesteps < 8:
        return None
    first = np.unique(np.linspace(0, n_windows - 2, 4 * _PAIRS).astype(np.int64))
    ends = X[first, lengths[first] - 1].astype(np.float64)
    onward = np.abs(X[first + 1, 0] - ends)
    across = np.abs(X[first + 1, lengths[first + 1] - 1] - X[first, 0].astype(np.float64))
    inside = np.abs(ends - X[first, np.maximum(lengths[first] - 2, 0)])
    step, jump, far = (np.median(part, axis=0) for part in (inside, onward, across))
    is_nearer = (onward < across).mean(axis=0)
    like_a_step = (step > 0) & (2 * jump >= step) & (2 * jump <= 3 * step)
    if not (like_a_step & (far >= 2 * jump) & (is_nearer >= 0.75)).any():
        return None
    return Finding("windows_in_a_row")
