"""Cut recordings into windows that do not cross a recording's end or a gap."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq import _signal
from sensorseq.base.checks import (
    MAX_SAMPLES,
    check_positive,
    check_rate,
)
from sensorseq.errors import ArgumentError, RecordingError, WindowError, check_choice
from sensorseq.io.blocks import Rows, blocks, is_stored, take
from sensorseq.preprocessing.steps.base import check_complete, own_clock
from sensorseq.preprocessing.windowing.label_rules import (
    LABEL_RULES,
    MIN_PURITY,
    UNLABELED,
    Fate,
    Stretch,
    check_class_fates,
    choose_labels,
    empty_spans,
    merge_fates,
    stretches_of,
)
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

SHORT = ("drop", "pad", "error")
UNEVEN_PERIODS = 0.05  # largest deviation of a timestamp from an even clock, in periods


def window_samples(window_s: float, sample_rate_hz: float) -> int:
    """Return the window length in samples, floor(window_s * sample_rate_hz + 1e-9)."""
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    count = int(np.floor(check_positive("window_s", window_s) * rate + 1e-9))
    if count < 1:
        raise ArgumentError(
            f"window_s={window_s!r} is less than one sample at {rate:g} Hz;"
            f" use at least {1 / rate:g} s."
        )
    if count > MAX_SAMPLES:
        raise ArgumentError(
            f"window_s={window_s!r} is {count:.3g} samples at {rate:g} Hz; is it in seconds?"
        )
    return count


def window_starts(
    n_samples: int, window_samples: int, hop_s: float, sample_rate_hz: float
) -> NDArray[np.int64]:
    """Return the first sample of every complete window, ceil(k * hop_s * sample_rate_hz).

    Starts are computed from the exact time, so that windows do not drift if a hop is not a whole
    number of samples.
    """
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    # The hop is limited, so that twice the hop does not overflow.
    hop = min(check_positive("hop_s", hop_s) * rate, 2.0**53)
    if hop < 1 - 1e-9:
        raise ArgumentError(
            f"hop_s={hop_s!r} is less than one sample at {rate:g} Hz, so windows would repeat;"
            f" use at least {1 / rate:g} s."
        )
    last = n_samples - window_samples
    if last < 0:
        return np.empty(0, np.int64)
    starts = _starts(np.arange(int(last / hop) + 2), min(hop, n_samples))
    kept: NDArray[np.int64] = starts[starts <= last]
    return kept


def window_start(index: int, hop: float) -> int:
    """Return the first sample of window `index`, ceil(index * hop), with `hop` in samples."""
    return int(_starts(np.array(index), hop))


def first_on_clock(first_s: float, hop_s: float, slop_s: float) -> int:
    """Return the number of a piece's first window.

    The number of a window is its start in multiples of the hop.
    """
    return math.ceil((first_s - slop_s) / hop_s - 1e-9)


def start_on_clock(
    number: NDArray[np.int64], first_s: float, hop_s: float, rate: float
) -> NDArray[np.int64]:
    """Return the first sample of each window that begins at `number` times the hop."""
    exact = np.maximum(number * hop_s - first_s, 0.0) * rate
    rounding = max(1e-9, 4 * np.finfo(np.float64).eps * abs(first_s) * rate)
    starts: NDArray[np.int64] = np.ceil(exact - 1e-6 - rounding).astype(np.int64)
    return starts


def _starts(index: NDArray[np.int64], hop: float) -> NDArray[np.int64]:
    exact = index * hop
    # Rounding may make a whole number slightly too large.
    rounding = np.maximum(1e-9, 4 * np.finfo(np.float64).eps * exact)
    starts: NDArray[np.int64] = np.ceil(exact - rounding).astype(np.int64)
    return starts


def window_recordings(
    recordings: Iterable[Recording],
    window_s: float,
    hop_s: float | None = None,
    *,
    sample_rate_hz: float | None = None,
    label_rule: str = "whole",
    min_purity: float | None = None,
    short: str = "drop",
    check_classes: bool = True,
    slop_s: float | None = None,
) -> WindowSet:
    """Cut recordings into windows, and store the origin and label of each window.

    The recordings must be as returned by `resample_recording`; pieces of one recording share its
    id. See `Windower` for the arguments. By default, `sample_rate_hz` is computed from the
    timestamps. ``check_classes=False`` skips the check that every class has windows, for callers
    that cut recordings one by one; the result may then be empty.

    With `slop_s`, windows begin at multiples of the hop on the recording's clock, so that they
    match the windows of other sensors. More precisely, a window begins at the first sample at or
    after such a multiple. If a piece begins at most `slop_s` after a multiple, the piece's first
    window begins at its first sample.

    The `provenance` of the windows has four entries. ``window`` contains the lengths in seconds and
    samples, and the arguments. ``recordings`` contains facts about each piece. ``classes`` contains
    a `Fate` for each class. ``dropped`` lists the intervals and windows that were left out, with
    the reasons and the numbers of samples or windows.
    """
    check_window_choices(label_rule, min_purity, short)
    purity = MIN_PURITY if min_purity is None else float(min_purity)
    pieces = list(recordings)
    if not pieces:
        raise WindowError("no recordings to cut into windows.")
    _check_alike(pieces)
    rate = _verified_rate(pieces, sample_rate_hz)
    length = window_samples(window_s, rate)
    grid = _Grid(
        float(window_s),
        check_positive("hop_s", window_s if hop_s is None else hop_s),
        length,
        rate,
        short,
        slop_s,
    )
    labeled = pieces[0].is_labelled
    classes = list(dict.fromkeys(label for piece in pieces for label in piece.labels))
    cuts = [
        _cut(piece, grid, classes, label_rule, purity, keep_all=not labeled) for piece in pieces
    ]
    fates = merge_fates(fate for cut in cuts for fate in cut.fates)
    if check_classes:
        _check_not_too_short(pieces, cuts, fates, grid)
        check_class_fates(fates, window_s=grid.window_s, label_rule=label_rule, min_purity=purity)

    counts = np.array([len(cut.starts) for cut in cuts])
    lengths = np.concatenate([cut.lengths for cut in cuts])
    return WindowSet(
        _gather_all(pieces, cuts, grid),
        lengths=lengths,
        y=_labels_of(cuts, classes) if labeled else None,
        groups=np.repeat([piece.group for piece in pieces], counts),
        recording_id=np.repeat([piece.recording_id for piece in pieces], counts),
        start_s=np.concatenate(
            [take(piece.timestamps_s, cut.starts) for piece, cut in zip(pieces, cuts)]
        ),
        channels=pieces[0].channel_names,
        sample_rate_hz=rate,
        provenance=_provenance(pieces, cuts, fates, grid, label_rule, purity),
    )


@dataclass(frozen=True)
class _Grid:
    """Determines the positions at which a piece, or one of its label spans, is cut into windows."""

    window_s: float
    hop_s: float
    length: int
    rate: float
    short: str
    # Windows begin at multiples of the hop on the recording's clock, or at most this much later.
    # With None, windows are not aligned with the clock.
    slop_s: float | None = None

    def windows_of(
        self, piece: Recording, stretch: Stretch
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first sample and the valid length of each window of an interval."""
        n_samples = stretch.n_samples
        if n_samples < self.length:
            if n_samples and self.short == "error":
                raise RecordingError(
                    f"recording {piece.recording_id!r}: {_describe_stretch(stretch, piece)} has"
                    f" {n_samples} samples ({n_samples / self.rate:g} s), less than"
                    f" window_s={self.window_s:g}. Use a shorter window_s, short='pad' to"
                    " fill the window with zeros, or short='drop'."
                )
            padded = n_samples > 0 and self.short == "pad"
            window_starts(0, self.length, self.hop_s, self.rate)  # called only to check the hop
            return np.full(int(padded), stretch.first), np.full(int(padded), n_samples)
        if self.slop_s is not None:
            first_s = float(take(piece.timestamps_s, np.array([stretch.first]))[0])
            starts = self._on_clock(first_s, n_samples, self.slop_s)
            return starts + stretch.first, np.full(len(starts), self.length)
        starts = window_starts(n_samples, self.length, self.hop_s, self.rate)
        return starts + stretch.first, np.full(len(starts), self.length)

    def _on_clock(self, first_s: float, n_samples: int, slop_s: float) -> NDArray[np.int64]:
        """Return the first sample of each window that begins at a multiple of the hop."""
        window_starts(0, self.length, self.hop_s, self.rate)  # called only to check the hop
        last = n_samples - self.length
        number = first_on_clock(first_s, self.hop_s, slop_s)
        until = math.floor((first_s + last / self.rate) / self.hop_s + 1e-9)
        numbers = np.arange(number, until + 1)
        starts = start_on_clock(numbers, first_s, self.hop_s, self.rate)
        kept: NDArray[np.int64] = starts[starts <= last]
        return kept


@dataclass
class _Cut:
    """The windows of one piece, and the parts of the piece that have no windows."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    codes: NDArray[np.int64]  # class index; -1 if there is no label
    dropped: list[dict[str, Any]]
    n_candidates: int  # number of windows before the label rule dropped some
    fates: list[Fate]  # results for each class of the piece


def _cut(
    piece: Recording,
    grid: _Grid,
    classes: list[Any],
    label_rule: str,
    min_purity: float,
    *,
    keep_all: bool,
) -> _Cut:
    starts, lengths, codes = [], [], []
    dropped: list[dict[str, Any]] = []
    longest: dict[Any, int] = {}
    n_candidates = 0
    best_share = np.zeros(len(classes))
    labels, is_whole = piece.labels, label_rule == "whole"
    for stretch in stretches_of(piece, grid.rate, label_rule):
        is_labelled = stretch.label is not None
        place = {
            "recording_id": piece.recording_id,
            "start_s": float(piece.timestamps_s[stretch.first]) if stretch.n_samples else None,
        }
        samples = {"n_samples": stretch.n_samples, "n_windows": 0}
        if is_whole and stretch.n_samples and not (is_labelled or keep_all):
            dropped.append({**place, **samples, "reason": "no label"})
            continue
        first, valid = grid.windows_of(piece, stretch)
        n_candidates += len(first)
        for label in (stretch.label,) if is_labelled else labels:
            longest[label] = max(longest.get(label, 0), stretch.n_samples)
        if not len(first):
            dropped.append({**place, **samples, "reason": "shorter than a window"})
        if is_whole:
            chosen = np.full(len(first), classes.index(stretch.label) if is_labelled else -1)
        else:
            choice = choose_labels(piece, grid.rate, first, valid, classes, label_rule, min_purity)
            chosen, best_share = choice.codes, np.maximum(best_share, choice.best_share)
            if not keep_all:
                kept = chosen >= 0
                for reason, count in Counter(choice.reasons[~kept].tolist()).items():
                    dropped.append({**place, "n_windows": count, "reason": reason})
                first, valid, chosen = first[kept], valid[kept], chosen[kept]
        starts.append(first)
        lengths.append(valid)
        codes.append(chosen)
    arrays = [np.concatenate([np.empty(0, np.int64), *each]) for each in (starts, lengths, codes)]
    fates: list[Fate] = [
        {
            "label": label,
            "n_windows": int(np.count_nonzero(arrays[2] == code)),
            "longest_s": longest.get(label, 0) / grid.rate,
            "best_share": None if is_whole else float(best_share[code]),
            "in_spans": is_whole and any(span.label == label for span in piece.label_spans),
            "bridging_gap_s": _bridging_gap_s([piece]),
        }
        for code, label in enumerate(classes)
        if label in labels
    ]
    return _Cut(arrays[0], arrays[1], arrays[2], dropped, n_candidates, fates)


def _labels_of(cuts: list[_Cut], classes: list[Any]) -> NDArray[Any]:
    codes = np.concatenate([cut.codes for cut in cuts])
    # Index -1 selects the last name.
    named = [*classes, UNLABELED] if (codes < 0).any() else classes
    labels: NDArray[Any] = np.asarray(named)[codes]
    return labels


def _gather_all(pieces: list[Recording], cuts: list[_Cut], grid: _Grid) -> NDArray[np.float32]:
    """Return the samples of all windows, on disk if the samples of any piece are on disk."""
    n_channels = pieces[0].n_channels
    stored = [piece.values for piece in pieces if is_stored(piece.values)]
    if not stored:
        ends = np.cumsum([len(cut.starts) for cut in cuts])
        X = np.empty((ends[-1], grid.length, n_channels), np.float32)
        for piece, cut, end in zip(pieces, cuts, ends):
            _gather(piece, cut, slice(None), X[end - len(cut.starts) : end])
        return X
    rows = Rows.like(stored[0], np.float32, grid.length, n_channels)
    for piece, cut in zip(pieces, cuts):
        for at, stop in blocks(len(cut.starts), piece.values, n_columns=grid.length * n_channels):
            block = np.empty((stop - at, grid.length, n_channels), np.float32)
            _gather(piece, cut, slice(at, stop), block)
            rows.append(block)
    return rows.as_array()


def _gather(piece: Recording, cut: _Cut, chosen: slice, out: NDArray[np.float32]) -> None:
    starts, lengths = cut.starts[chosen], cut.lengths[chosen]
    padded = (lengths < out.shape[1]).any()
    not_finite, overflown = _signal.gather_windows(
        piece.values, starts, lengths if padded else None, None, None, out
    )
    bad = not_finite if not_finite >= 0 else overflown
    if bad < 0:
        return
    window, step, channel = (int(i) for i in np.unravel_index(bad, out.shape))
    row = int(starts[window]) + step
    value = float(piece.values[row, channel])
    raise RecordingError(
        f"recording {piece.recording_id!r}: channel {piece.channel_names[channel]!r} is {value!r}"
        f" at sample {row}"
        + (
            "; mark missing samples as NaN."
            if not_finite >= 0
            else ", outside the range of float32, in which windows are stored. Correct the unit of"
            " the channel."
        )
    )


def _describe_stretch(stretch: Stretch, piece: Recording) -> str:
    start_s = piece.timestamps_s[stretch.first]
    if piece.label_spans and stretch.label is not None:
        return f"the label span of {stretch.label!r} from {start_s:.6f} s on"
    return f"the piece from {start_s:.6f} s on"


def check_window_choices(label_rule: str, min_purity: float | None, short: str) -> None:
    """Raise an `ArgumentError` if `window_recordings` does not accept these arguments."""
    check_choice("label_rule", label_rule, LABEL_RULES)
    check_choice("short", short, SHORT)
    if min_purity is None:
        return
    if label_rule != "majority":
        raise ArgumentError(
            f"min_purity={min_purity!r} is only for label_rule='majority', but label_rule is"
            f" {label_rule!r}."
        )
    if check_positive("min_purity", min_purity) > 1:
        raise ArgumentError(f"min_purity={min_purity!r} is above 1, but it is a fraction.")


def _provenance(
    pieces: list[Recording],
    cuts: list[_Cut],
    fates: list[Fate],
    grid: _Grid,
    label_rule: str,
    purity: float,
) -> dict[str, Any]:
    """Describe how windows were cut, and list the pieces with and without windows."""
    return {
        "window": {
            "window_s": grid.window_s,
            "hop_s": grid.hop_s,
            "window_samples": grid.length,
            "sample_rate_hz": grid.rate,
            "label_rule": label_rule,
            "min_purity": purity if label_rule == "majority" else None,
            "short": grid.short,
        },
        "classes": fates,
        "recordings": [
            {
                "recording_id": piece.recording_id,
                "start_s": float(piece.timestamps_s[0]) if piece.n_samples else None,
                "n_samples": piece.n_samples,
                "n_windows": len(cut.starts),
            }
            for piece, cut in zip(pieces, cuts)
        ],
        "dropped": [row for cut in cuts for row in cut.dropped]
        + [
            {
                "recording_id": recording_id,
                "start_s": start_s,
                "n_samples": 0,
                "n_windows": 0,
                "reason": f"no sample in the label span of {label!r}",
            }
            for recording_id, label, start_s in empty_spans(pieces, grid.rate)
        ],
    }


def _check_alike(pieces: list[Recording]) -> None:
    first = pieces[0]
    ends: dict[str, float] = {}
    for piece in sorted(pieces, key=lambda p: p.timestamps_s[0] if p.n_samples else -np.inf):
        name = f"recording {piece.recording_id!r}"
        if piece.channel_names != first.channel_names:
            raise RecordingError(
                f"{name} has channels {', '.join(piece.channel_names)}, but {first.recording_id!r}"
                f" has {', '.join(first.channel_names)}. Select common channels in the same order."
            )
        if piece.is_labelled != first.is_labelled:
            unlabeled, labeled = (first, piece) if piece.is_labelled else (piece, first)
            raise RecordingError(
                f"recording {unlabeled.recording_id!r} has no label, but"
                f" {labeled.recording_id!r} has {labeled.labels[0]!r}; label every recording or"
                " none."
            )
        check_complete(piece)
        if piece.n_samples:
            if ends.get(piece.recording_id, -np.inf) >= piece.timestamps_s[0]:
                raise RecordingError(
                    f"{name} appears twice, overlapping at {piece.timestamps_s[0]:.6f} s;"
                    " give each recording a unique id."
                )
            ends[piece.recording_id] = float(piece.timestamps_s[-1])


def _verified_rate(pieces: list[Recording], given_hz: float | None) -> float:
    """Return the rate that all pieces share, within the precision of their timestamps."""
    timed = [piece for piece in pieces if piece.n_samples > 1]
    if given_hz is not None:
        rate = check_rate("sample_rate_hz", given_hz)
        source = f"sample_rate_hz is {rate:g}"
    elif timed:
        longest = max(timed, key=lambda piece: piece.n_samples)
        # Round to nine digits, because the quotient may be 100.00000000000001 instead of 100.
        rate = float(f"{(longest.n_samples - 1) / longest.duration_s:.9g}")
        source = f"{longest.recording_id!r} is sampled at {rate:g} Hz"
    else:
        raise WindowError("no recording has two samples, so the sample rate is unknown.")
    for piece in timed:
        own_hz, is_off = own_clock(piece, UNEVEN_PERIODS)
        if is_off(rate):
            raise RecordingError(
                f"recording {piece.recording_id!r} is sampled at {own_hz:.9g} Hz, but {source};"
                " resample all recordings to one rate with resample_recording."
            )
    return rate


def _check_not_too_short(
    pieces: list[Recording], cuts: list[_Cut], fates: list[Fate], grid: _Grid
) -> None:
    """Raise an error if no piece or label span is as long as a window."""
    if any(cut.n_candidates for cut in cuts):
        return
    spanned = [fate for fate in fates if fate["in_spans"] and fate["longest_s"]]
    if spanned:
        longest_span = max(spanned, key=lambda fate: float(fate["longest_s"]))
        raise WindowError(
            f"no label span is as long as window_s={grid.window_s:g}; the longest, of"
            f" {longest_span['label']!r}, lasts {longest_span['longest_s']:g} s. Use a shorter"
            " window_s, short='pad', or a label_rule that lets windows cross spans."
        )
    longest = max(pieces, key=lambda piece: piece.duration_s)
    gap_s = _bridging_gap_s(pieces)
    way_out = f", or max_gap_s={gap_s:g}, which bridges the gaps between pieces" if gap_s else ""
    raise WindowError(
        f"no recording or piece of one is as long as window_s={grid.window_s:g}; the longest, of"
        f" {longest.recording_id!r}, lasts {longest.duration_s:g} s. Use a shorter"
        f" window_s{way_out}."
    )


def _bridging_gap_s(pieces: Iterable[Recording]) -> float:
    """Return a `max_gap_s` that bridges the gaps of recordings whose pieces are too short, or 0."""
    gaps_s = (p.attributes.get("bridging_gap_s") for p in pieces)
    return max((float(gap_s) for gap_s in gaps_s if isinstance(gap_s, float)), default=0.0)
