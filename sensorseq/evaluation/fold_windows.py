"""The windows that folds are tested on, where training windows of a file overlap more."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.windows import WindowSet

_WHOLE = 1e-9  # how far a quotient of seconds may be from a whole number


@dataclass(frozen=True, eq=False)
class FoldWindows:
    """The windows that folds may be tested on; they may be trained on all.

    Parameters
    ----------
    rows : ndarray of int64
        Their positions, sorted.
    protocol : str
        How training and test windows differ, to add to a description; empty when they do not.
    notes : tuple of str
        What to know about the training windows.
    """

    rows: NDArray[np.int64]
    protocol: str = ""
    notes: tuple[str, ...] = ()


def choose_fold_windows(windows: WindowSet) -> FoldWindows:
    """Choose the windows on the grid of ``hop_s`` among windows cut with ``train_hop_s``.

    Without ``train_hop_s`` and ``train_phase`` in their configuration, those are all windows. In a
    stretch of a recording with one label and without a gap, they are the windows that would have
    been cut without ``train_hop_s``.

    Parameters
    ----------
    windows : WindowSet
        Prepared; `provenance` holds the configuration.

    Raises
    ------
    InputError
        If the windows on the grid are not among them.
    """
    options = PreparationOptions.recorded(windows.provenance)
    window_s, train_hop_s = options.window_s, options.train_hop_s
    hop_s = options.hop_s or window_s
    if options.train_phase != "grid":
        raise InputError(
            "the training windows of this file start at random offsets (train_phase), so windows on"
            " the grid to test a fold on are not among them. Prepare again with"
            ' train_phase = "grid" to use folds.'
        )
    if train_hop_s is None or np.isnan(window_s) or train_hop_s == hop_s:
        return FoldWindows(np.arange(len(windows)))
    times = hop_s / train_hop_s
    if round(times) < 1 or abs(times - round(times)) > _WHOLE * times:
        raise InputError(
            f"training windows of this file start every {train_hop_s:g} s (train_hop_s), so the"
            f" windows every {hop_s:g} s (hop_s) to test a fold on are not all among them. Prepare"
            f" again with a train_hop_s that divides {hop_s:g}, such as"
            f" {hop_s / max(1, np.ceil(times - _WHOLE)):g}, to use folds."
        )
    rows = _on_grid(windows, float(window_s), float(hop_s), float(train_hop_s))
    protocol = f"trained on windows every {train_hop_s:g} s, tested on windows every {hop_s:g} s"
    return FoldWindows(rows, protocol, _coarse_recordings(windows, train_hop_s, hop_s))


def check_whole_recordings(windows: WindowSet) -> None:
    """Raise unless every recording lies in one group, so that folds of groups keep it whole.

    Parameters
    ----------
    windows : WindowSet
        With groups.

    Raises
    ------
    InputError
        If a recording has windows in two groups.
    """
    if windows.recording_id is None:
        return
    ids, code = np.unique(np.asarray(windows.recording_id), return_inverse=True)
    group = np.unique(np.asarray(windows.groups), return_inverse=True)[1]
    lowest, highest = np.full(len(ids), len(group)), np.full(len(ids), -1)
    np.minimum.at(lowest, code, group)
    np.maximum.at(highest, code, group)
    divided = np.flatnonzero(lowest != highest)
    if divided.size:
        raise InputError(
            f"recording {ids[divided[0]]} has windows in several groups, so a fold would be tested"
            " on a recording it was trained on; give all windows of a recording one group."
        )


def _on_grid(
    windows: WindowSet, window_s: float, hop_s: float, train_hop_s: float
) -> NDArray[np.int64]:
    rate = windows.sample_rate_hz
    if windows.start_s is None or windows.recording_id is None or rate is None:
        raise InputError(
            "these windows overlap (train_hop_s), and without recording_id, start_s and"
            " sample_rate_hz those to test a fold on cannot be told apart; use a file written by"
            " `prepare`."
        )
    start_s = np.asarray(windows.start_s)
    recording = np.unique(np.asarray(windows.recording_id), return_inverse=True)[1]
    label = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    overlaps = np.full(len(windows), True) if windows.split is None else windows.split == "train"
    hop, train_hop = hop_s * rate, int(np.ceil(train_hop_s * rate - _WHOLE))
    apart = int(min(hop, window_s * rate) + _WHOLE)  # samples from one chosen window to the next
    chosen = np.flatnonzero(~overlaps).tolist()
    before = last = -1  # rows of the previous window, and of the last chosen one
    origin_s: float | None = None  # start of the grid; None until one is chosen

    def samples_since(start: float, row: int) -> int:
        return round(float(start - start_s[row]) * rate)

    for row in np.lexsort((start_s, recording)).tolist():
        if not overlaps[row]:
            continue
        start = float(start_s[row])
        if before < 0 or recording[row] != recording[before]:
            last, origin_s = -1, None
        elif label[row] != label[before] or samples_since(start, before) > train_hop:
            origin_s = None  # after a gap or another label, the grid starts again
        before = row
        if origin_s is None:
            is_chosen = last < 0 or samples_since(start, last) >= apart
            origin_s = start if is_chosen else None
        else:
            sample = round((start - origin_s) * rate)
            exact = int(sample / hop + _WHOLE) * hop
            is_chosen = sample == int(np.ceil(exact - max(_WHOLE, 1e-15 * exact)))
        if is_chosen:
            chosen.append(row)
            last = row
    return np.sort(np.asarray(chosen, np.int64))


def _coarse_recordings(windows: WindowSet, train_hop_s: float, hop_s: float) -> tuple[str, ...]:
    """Return a note about recordings without overlapping windows, outside the train part."""
    if windows.split is None or train_hop_s > hop_s:
        return ()
    ids = np.asarray(windows.recording_id)
    n_coarse = len(np.unique(ids[windows.split != "train"]))
    if not n_coarse:
        return ()
    return (
        f"{n_coarse} of {len(np.unique(ids))} recordings are not in the train part of this file, so"
        f" they have windows every {hop_s:g} s only, and folds train on those. To train on windows"
        f" every {train_hop_s:g} s of all recordings, prepare another file with --split 1,0,0 and"
        " evaluate the model's folds on that.",
    )
