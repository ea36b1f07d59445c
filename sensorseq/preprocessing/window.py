"""Cut recordings into windows that cross neither a recording's end nor a gap."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, RecordingError, WindowError
from sensorseq.preprocessing._checks import check_positive, check_rate
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

UNEVEN_PERIODS = 0.05  # how far a stamp may lie off an even clock before windows are refused


def window_samples(window_s: float, sample_rate_hz: float) -> int:
    """Return the samples of a window: floor(window_s * sample_rate_hz + 1e-9).

    Parameters
    ----------
    window_s : float
        Length in seconds.
    sample_rate_hz : float
        Rate in Hz.

    Raises
    ------
    ArgumentError
        If that is less than one sample, or an argument is not above zero.
    """
    seconds, rate = (
        check_positive("window_s", window_s),
        check_rate("sample_rate_hz", sample_rate_hz),
    )
    count = int(np.floor(seconds * rate + 1e-9))
    if count < 1:
        raise ArgumentError(
            f"window_s={window_s!r} is less than one sample at {rate:g} Hz;"
            f" use at least {1 / rate:g} s."
        )
    return count


def window_starts(
    n_samples: int, window_samples: int, hop_s: float, sample_rate_hz: float
) -> NDArray[np.int64]:
    """Return the first sample of every whole window, ceil(k * hop_s * sample_rate_hz).

    Starts follow time, not a rounded hop, so windows of a hop that is no whole number of samples do
    not drift away from it.

    Parameters
    ----------
    n_samples : int
        Samples there are.
    window_samples : int
        Samples of a window.
    hop_s : float
        Seconds between window starts, at least one sample period.
    sample_rate_hz : float
        Rate in Hz.

    Raises
    ------
    ArgumentError
        If `hop_s` is not above zero or shorter than a sample period.
    """
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    hop = check_positive("hop_s", hop_s) * rate
    if hop < 1 - 1e-9:
        raise ArgumentError(
            f"hop_s={hop_s!r} is less than one sample at {rate:g} Hz: windows would repeat;"
            f" use at least {1 / rate:g} s."
        )
    last = n_samples - window_samples
    if last < 0:
        return np.empty(0, np.int64)
    exact = np.arange(int(last / hop) + 2) * hop
    # What lies above a whole number by rounding alone is that number.
    rounding = np.maximum(1e-9, 4 * np.finfo(np.float64).eps * exact)
    starts: NDArray[np.int64] = np.ceil(exact - rounding).astype(np.int64)
    kept: NDArray[np.int64] = starts[starts <= last]
    return kept


def make_windows(
    signal: ArrayLike, window_samples: int, hop_samples: int | None = None
) -> NDArray[Any]:
    """Cut one signal into whole windows.

    Parameters
    ----------
    signal : array-like of shape (n_samples, n_channels)
        Evenly spaced samples.
    window_samples : int
        Samples of a window, at least 1.
    hop_samples : int, optional
        Samples between window starts, at least 1; `window_samples` by default, so that windows
        lie back to back.

    Returns
    -------
    ndarray of shape (n_windows, window_samples, n_channels)
        A read-only view of `signal`; samples after the last whole window are left out.

    Raises
    ------
    WindowError
        If `signal` has another shape than (n_samples, n_channels).
    ArgumentError
        If a count is not an integer of at least 1.
    """
    x = np.asarray(signal)
    if x.ndim != 2:
        raise WindowError(
            f"signal has shape {x.shape}; expected (n_samples, n_channels)."
            " A single channel is signal.reshape(-1, 1)."
        )
    hop = window_samples if hop_samples is None else hop_samples
    for argument, count in (("window_samples", window_samples), ("hop_samples", hop)):
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ArgumentError(f"{argument}={count!r} is not an integer of at least 1.")
    return _all_windows(x, int(window_samples))[:: int(hop)]


def window_recordings(
    recordings: Iterable[Recording],
    window_s: float,
    hop_s: float | None = None,
    *,
    sample_rate_hz: float | None = None,
) -> WindowSet:
    """Cut recordings into windows, which keep where they were cut and what they are.

    Parameters
    ----------
    recordings : iterable of Recording
        Evenly sampled at one rate, with the same channels, free of NaN: as `resample_recording`
        makes them. Pieces of one recording share its id.
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    sample_rate_hz : float, optional
        The recordings' common rate; taken from their stamps when not given.

    Returns
    -------
    WindowSet
        In the order of `recordings`, then of time. `provenance["window"]` holds the lengths in
        seconds and samples, `provenance["recordings"]` what became of each piece, and
        `provenance["dropped"]` those that are shorter than a window. `y` is None when no recording
        has a label.

    Raises
    ------
    RecordingError
        If a recording's samples are uneven or missing, overlap with another piece of the same id,
        or differ from the others in channels or rate, or only some have a label.
    WindowError
        If there is no recording, none is as long as a window, or a class loses all of its.
    """
    pieces = list(recordings)
    if not pieces:
        raise WindowError("no recordings to cut into windows.")
    _check_alike(pieces)
    rate = _common_rate(pieces, sample_rate_hz)
    length = window_samples(window_s, rate)
    hop_s = window_s if hop_s is None else hop_s
    starts = [window_starts(piece.n_samples, length, hop_s, rate) for piece in pieces]
    counts = np.array([len(piece_starts) for piece_starts in starts])
    _check_not_too_short(pieces, counts, window_s)

    X = np.empty((counts.sum(), length, pieces[0].n_channels), np.float32)
    ends = np.cumsum(counts)
    for piece, rows, end in zip(pieces, starts, ends, strict=True):
        if len(rows):
            X[end - len(rows) : end] = _all_windows(piece.values, length)[rows]
    labelled = pieces[0].label is not None
    outcome = [
        {
            "recording_id": piece.recording_id,
            "start_s": float(piece.timestamps_s[0]) if piece.n_samples else None,
            "n_samples": piece.n_samples,
            "n_windows": int(count),
        }
        for piece, count in zip(pieces, counts, strict=True)
    ]
    return WindowSet(
        X,
        y=np.repeat([piece.label for piece in pieces], counts) if labelled else None,
        groups=np.repeat([piece.group for piece in pieces], counts),
        recording_id=np.repeat([piece.recording_id for piece in pieces], counts),
        start_s=np.concatenate(
            [piece.timestamps_s[rows] for piece, rows in zip(pieces, starts, strict=True)]
        ),
        channels=pieces[0].channel_names,
        sample_rate_hz=rate,
        provenance={
            "window": {
                "window_s": float(window_s),
                "hop_s": float(hop_s),
                "window_samples": length,
                "sample_rate_hz": rate,
            },
            "recordings": outcome,
            "dropped": [
                {**row, "reason": "shorter than a window"}
                for row in outcome
                if not row["n_windows"]
            ],
        },
    )


def _all_windows(x: NDArray[Any], length: int) -> NDArray[Any]:
    """View of the windows that begin at each sample, (n_samples - length + 1, length, C)."""
    if len(x) < length:
        return np.empty((0, length, x.shape[1]), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)
    return np.moveaxis(view, -1, 1)


def _check_alike(pieces: list[Recording]) -> None:
    first = pieces[0]
    ends: dict[str, float] = {}
    for piece in sorted(pieces, key=lambda p: p.timestamps_s[0] if p.n_samples else -np.inf):
        name = f"recording {piece.recording_id!r}"
        if piece.channel_names != first.channel_names:
            raise RecordingError(
                f"{name} has channels {', '.join(piece.channel_names)}; {first.recording_id!r} has"
                f" {', '.join(first.channel_names)}. Select the common ones, in one order."
            )
        if (piece.label is None) != (first.label is None):
            bare, other = (piece, first) if piece.label is None else (first, piece)
            raise RecordingError(
                f"recording {bare.recording_id!r} has no label, {other.recording_id!r} has"
                f" {other.label!r}; label every recording or none."
            )
        missing = np.argwhere(np.isnan(piece.values))
        if missing.size:
            row, column = (int(i) for i in missing[0])
            raise RecordingError(
                f"{name}: channel {piece.channel_names[column]!r} is missing sample {row}"
                f" ({piece.timestamps_s[row]:.6f} s). resample_recording fills short holes and cuts"
                " at long ones."
            )
        if piece.n_samples:
            if ends.get(piece.recording_id, -np.inf) >= piece.timestamps_s[0]:
                raise RecordingError(
                    f"{name} is there twice, overlapping at {piece.timestamps_s[0]:.6f} s;"
                    " give each recording an id of its own."
                )
            ends[piece.recording_id] = float(piece.timestamps_s[-1])


def _common_rate(pieces: list[Recording], given_hz: float | None) -> float:
    """Return the rate all pieces have, within what their stamps can tell."""
    timed = [piece for piece in pieces if piece.n_samples > 1]
    if given_hz is not None:
        rate = check_rate("sample_rate_hz", given_hz)
        source = f"sample_rate_hz is {rate:g}"
    elif timed:
        longest = max(timed, key=lambda piece: piece.n_samples)
        # Nine digits: the quotient of two stamps is 100.00000000000001 as often as 100.
        rate = float(f"{(longest.n_samples - 1) / longest.duration_s:.9g}")
        source = f"{longest.recording_id!r} has {rate:g} Hz"
    else:
        raise WindowError("no recording has two samples, so none has a rate.")
    for piece in timed:
        t = piece.timestamps_s
        own_hz = (piece.n_samples - 1) / piece.duration_s
        rounding = 4 * np.finfo(np.float64).eps * np.abs(t[[0, -1]]).max()
        off_clock = np.abs(t - t[0] - np.arange(len(t)) / own_hz).max()
        name = f"recording {piece.recording_id!r}"
        if off_clock > UNEVEN_PERIODS / own_hz + rounding:
            raise RecordingError(
                f"{name}: samples are not evenly spaced (a stamp lies {off_clock * own_hz:.2g}"
                " periods off an even clock); bring it to an even rate with resample_recording."
            )
        if abs(own_hz / rate - 1) > 1e-6 + rounding / piece.duration_s:
            raise RecordingError(
                f"{name} has {own_hz:.9g} Hz, but {source}; bring all recordings to one rate with"
                " resample_recording."
            )
    return rate


def _check_not_too_short(
    pieces: list[Recording], counts: NDArray[np.int64], window_s: float
) -> None:
    longest = max(pieces, key=lambda piece: piece.duration_s)
    if not counts.any():
        raise WindowError(
            f"none of {len(pieces)} recordings or pieces is as long as window_s={window_s:g}; the"
            f" longest, of {longest.recording_id!r}, has {longest.duration_s:g} s. Use a shorter"
            " window_s, or a longer max_gap_s if gaps cut the recordings up."
        )
    kept = {piece.label for piece, count in zip(pieces, counts, strict=True) if count}
    lost = sorted({piece.label for piece in pieces if piece.label is not None} - kept)
    if lost:
        raise WindowError(
            f"class {lost[0]!r}: every recording is shorter than window_s={window_s:g}. Use a"
            " shorter window_s, or leave the class out."
        )
