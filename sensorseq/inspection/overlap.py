"""Windows that come twice, and windows on both sides of a split that share samples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.copies import first_equal, shared_stretches, window_keys
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.part import Part
from sensorseq.prediction.outside import Ints

if TYPE_CHECKING:
    from sensorseq.prediction.inputs import Sequences
    from sensorseq.training.data import FitPart  # torch

LEAST_VALUES = 8  # different values in a window: with fewer, two may be alike by chance
MANY = 0.05  # share of the windows that is many
SHARE = 0.25  # share of a window; a smaller overlap tells the network little
TOLERATED = 0.05  # tolerated share of windows: a sensor at rest may repeat itself
_ROWS = 128  # validation windows that are looked for
_SURE = 5  # windows found, for signals of few levels
_USUAL = 0.5  # what half of the training windows hold is no recording cut twice
_PAIRS = 40  # pairs in a row from which each window continues the one before


def check_duplicates(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield training windows that contradict or repeat each other, and those in both parts."""
    keys = _known_keys(train)
    yield from _contradictions(train, keys)
    n_copies = int((keys != 0).sum()) - len(np.unique(keys[keys != 0]))
    if n_copies > MANY * len(train):
        n_different, severe = len(train) - n_copies, n_copies > len(train) / 2
        yield train.finding(
            "copied_windows", n_windows=n_copies, n_different=n_different, severe=severe
        )
    if validation is None or validation.n_channels != train.n_channels:
        return
    same = first_equal(_known_keys(validation), keys)
    twice = np.flatnonzero(same >= 0)
    if len(twice):
        groups = _shared_groups(train.groups, validation.groups, same[twice], twice)
        yield Finding.of(
            "windows_in_both_parts",
            {**groups, "rows": validation.row_names(twice)},
            n_windows=len(twice),
            n_validation=len(validation),
            drawn=not groups and validation.rows is not None,
            chosen=not groups and validation.rows is None,
            severe=len(twice) > MANY * len(validation),
        )


def _shared_groups(
    groups: NDArray[Any] | None, theirs: NDArray[Any] | None, rows: Ints, their_rows: Ints
) -> dict[str, list[Any]]:
    """Name groups that are in both parts, and pairs of groups that share windows across them."""
    if groups is None or theirs is None:
        return {}
    pairs = dict.fromkeys(zip(groups[rows].tolist(), theirs[their_rows].tolist(), strict=True))
    torn = [repr(one) for one, other in pairs if one == other]
    shared = [f"{one!r} and {other!r}" for one, other in pairs if one != other]
    return {"torn": torn, "shared": shared}


def _known_keys(part: Part) -> NDArray[np.uint64]:
    """Return `window_keys`; 0 for windows of fewer than `LEAST_VALUES` different values."""
    keys = window_keys(part.X, part.lengths)
    for where, values, valid in part.blocks():
        flat = values.reshape(len(values), -1)
        if valid is not None:
            flat = np.where(np.repeat(valid, part.n_channels, axis=1), flat, flat[:, :1])
        # most windows show enough in their first values, and sorting all would take the longest
        poor = np.arange(len(flat))
        for shown in (flat[:, : 4 * LEAST_VALUES], flat):
            changes = np.diff(np.sort(shown[poor], axis=1), axis=1) != 0
            poor = poor[changes.sum(axis=1) < LEAST_VALUES - 1]
        keys[where][poor] = 0
    return keys


def _contradictions(train: Part, keys: NDArray[np.uint64]) -> Iterator[Finding]:
    known = np.flatnonzero(keys)
    order = known[np.lexsort((train.target[known], keys[known]))]
    before, after = order[:-1], order[1:]
    differs = (keys[before] == keys[after]) & (train.target[before] != train.target[after])
    if not differs.any():
        return
    involved = np.flatnonzero(np.isin(keys, keys[after[differs]]))
    pair = np.array([before[differs][0], after[differs][0]])
    yield train.finding(
        "two_labels",
        rows=involved,
        classes=train.target[pair],
        pair=train.row_names(pair),
        n_windows=len(involved),
        severe=len(involved) > MANY * len(train),
    )


def check_overlap(train: "FitPart", validation: "FitPart") -> Finding | None:
    """Return it when validation windows overlap training windows."""
    rows, holders, looked = _find_shared(train.sequences, validation.sequences)
    found = len(rows)
    if not found:
        return None
    where = _shared_groups(train.groups, validation.groups, holders, rows)
    n_validation = len(validation.sequences)
    return Finding.of(
        "windows_overlap",
        where,
        n_windows=found,
        n_checked=looked,
        n_more=n_validation - looked,
        n_validation=n_validation,
        drawn=not where,
        severe=found > MANY * looked,
    )


def count_shared(train: "Sequences", held_out: "Sequences") -> tuple[int, int]:
    """Count the held-out windows with training samples (0 if by chance), and those compared."""
    rows, _, looked = _find_shared(train, held_out)
    return len(rows), looked


def _find_shared(train: "Sequences", held_out: "Sequences") -> tuple[Ints, Ints, int]:
    """Return the held-out rows, a training row that each shares samples with, how many it read."""
    places = np.arange(0, len(held_out), -(-len(held_out) // _ROWS))
    rows = held_out.take(places)
    X, every, among = np.asarray(rows.X, np.float32), np.arange(len(rows)), np.arange(len(train))

    def shared(X: NDArray[np.float32]) -> tuple[Ints, Ints]:
        holders = train.X, train.lengths
        return shared_stretches(
            X, rows.lengths, every, among, share=SHARE, usual=_USUAL, holders=holders
        )

    nothing = places[:0], places[:0], len(rows)
    found, others = shared(X)
    tolerated = TOLERATED * len(rows)
    if len(found) < 2 or len(found) <= tolerated:
        return nothing
    # A signal of few levels holds the same stretches by chance, then as often with time reversed.
    back = X.copy()
    for window, length in zip(back, rows.lengths, strict=True):
        window[:length] = window[:length][::-1].copy()
    if len(found) <= tolerated + 3 * len(shared(back)[0]):
        return nothing
    # few are sure where hardly two samples of the same window are equal
    distinct = [len(np.unique(window, axis=0)) for window in X[:8]]
    if len(found) < _SURE and sum(distinct) <= X.shape[1] * len(distinct) / 2:
        return nothing
    return places[found], others, len(rows)


def check_continuity(sequences: "Sequences") -> Finding | None:
    """Return it when each window continues the one before it: all come from a few recordings.

    From the last sample of a window to the first of the next it is then no farther than from step
    to step inside one, and much farther from the first sample of the one to the last of the other.
    The second tells a recording cut into windows from separate ones at nearly the same level.
    """
    X, lengths = sequences.X, sequences.lengths
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
