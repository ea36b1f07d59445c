"""Part files of recordings: create or reuse one for each recording, and read them together."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, SignalError, WindowError, printable
from sensorseq.io.part_files import read_part, read_part_facts, write_part
from sensorseq.io.remote import local_copy, upload
from sensorseq.io.scratch import blocks, count_where
from sensorseq.prepare.earlier_file import EarlierPart, selecting
from sensorseq.preprocessing.cutting import describe_cut
from sensorseq.preprocessing.odd_scales import measure_scales
from sensorseq.preprocessing.odd_values import OddFacts, measure_odd_values
from sensorseq.preprocessing.options import OPTIONS, PreparationOptions
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.windows.label_rules import Fate
from sensorseq.readers import RecordingSource, digest_source, read_source
from sensorseq.readers.find import left_out_classes
from sensorseq.readers.source import local_source
from sensorseq.recording import Recording, sample_rate_of
from sensorseq.windows import WindowSet

PART_VERSION = 8  # increased when the same arguments no longer give the same windows
_READ_BYTES = 1 << 23  # number of bytes of a part that are read at a time
# With on_error="skip", recordings that raise one of these errors are left out.
SPOILT = (RecordingError, SignalError, WindowError)
# Options that determine a recording's windows; derived steps are stored separately.
_PART_OPTIONS = [
    name
    for name, option in OPTIONS.items()
    if option.section in ("input", "resample", "window") or name == "random_state"
]


@dataclass(frozen=True)
class PartTask:
    """The task of cutting one recording into windows."""

    source: RecordingSource
    options: PreparationOptions
    plan: PreparationPlan
    sample_rate_hz: float
    path: Path | str  # a URL if it is a str
    salvage: bool  # True to read damaged logs up to the damage
    # Digests of the recording's files, if already computed.
    files: list[dict[str, Any]] | None = None
    facts: "Facts | None" = None  # facts about the recording in an earlier file


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a recording that was cut into windows; its part file stores them as JSON."""

    recording_id: str
    group: str
    labels: list[str]  # labels of the windows
    labels_there: list[str | None]  # labels that occur in the recording
    classes: list[Fate]
    channels: list[str]
    units: list[str]
    input_channels: list[str]
    input_units: list[str]
    sample_rate_hz: float | None
    duration_s: float
    n_samples: int
    start_s: float  # seconds since 1970 if the timestamps are dates
    end_s: float
    repaired_stamps: dict[str, int] | None = None
    packets: str | None = None  # a description such as "packets of 3 samples"
    clock: dict[str, Any] | None = None  # facts from `Stamps`
    bridging_gap_s: float | None = None  # a `max_gap_s` that would bridge the gaps
    slow: dict[str, str]  # kinds of slow channels; see `kind_of_slow`
    n_pieces: int
    n_holes_filled: int
    n_windows: int
    n_zero_windows: int  # windows whose samples are all zero
    dropped_columns: list[str]
    counters: list[str]
    dropped: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    scales: dict[str, list[float]] | None = None  # the result of `measure_scales`
    left_out_classes: list[str] = field(default_factory=list)  # names from the label column
    odd_values: OddFacts | None = None  # the result of `measure_odd_values`

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the form that JSON stores."""
        plain = dict(vars(self))
        for name in ("repaired_stamps", "packets", "clock", "bridging_gap_s", "odd_values"):
            if plain[name] is None:
                del plain[name]
        return plain


def make_part(task: PartTask) -> tuple[Facts, bool]:
    """Create or reuse the part of a recording; return its facts, and True if it was reused."""
    if task.facts is not None:
        return task.facts, True
    with local_source(task.source) as source, local_copy(task.path) as path:
        facts, reused = _make_part_at(path, replace(task, source=source))
        if not reused:
            upload(path, task.path)
    return facts, reused


def _make_part_at(path: Path, task: PartTask) -> tuple[Facts, bool]:
    source = task.source
    files = task.files or digests_of(source)
    key = _key(task, files)
    if (stored := read_part_facts(path, key)) is not None:
        return Facts(**stored), True
    try:
        recording = read_recording(source, task.options, path.parent, salvage=task.salvage)
        x = recording.values
        _, row = count_where(partial(_are_beyond_float32, x), len(x), x)
        if row >= 0:
            column = int(np.flatnonzero(_are_beyond_float32(x, row, row + 1)[0])[0])
            raise RecordingError(
                f"recording {recording.recording_id!r}: channel"
                f" {recording.channel_names[column]!r} is {x[row, column]:g} at sample {row + 1},"
                " outside the range of float32; leave the field empty if the sample is missing."
            )
        facts, arrays = _cut(task.plan.select(recording), task.plan, task.sample_rate_hz, files)
    except SPOILT as error:
        where = " + ".join(str(path) for path in source.paths)
        if any(printable(str(path)) in str(error) for path in source.paths):
            raise
        raise type(error)(f"{where}: {error}") from error
    if salvaged := cast(dict[str, Any], recording.attributes.get("salvaged", {})):
        reason = salvaged["reason"].replace(str(source.paths[0].parent) + os.sep, "")
        facts.dropped.append({**salvaged, "reason": reason})
    write_part(path, key, facts.to_dict(), arrays)
    return facts, False


def read_recording(
    source: RecordingSource, options: PreparationOptions, scratch: Path, *, salvage: bool
) -> Recording:
    """Read a recording; only the reading options are used."""
    return read_source(source, replace(options, salvage=salvage, scratch=scratch))


def digests_of(source: RecordingSource) -> list[dict[str, Any]]:
    """Return the path, size and SHA-256 of each file of a recording."""
    with local_source(source) as local:
        digests = digest_source(local)
    return [
        {"path": relative, **digest}
        for relative, digest in zip(source.relative_paths, digests, strict=True)
    ]


def _are_beyond_float32(values: NDArray[np.floating], at: int, stop: int) -> NDArray[np.bool_]:
    some, largest = values[at:stop], np.finfo(np.float32).max
    # With NaN, the comparisons are false, and each value is compared below.
    if -largest <= some.min(initial=0) and some.max(initial=0) <= largest:
        return np.zeros(0, bool)
    beyond: NDArray[np.bool_] = np.abs(some) > largest
    return beyond


def _cut(
    recording: Recording, plan: PreparationPlan, rate: float, sources: list[dict[str, Any]]
) -> tuple[Facts, dict[str, NDArray[Any]]]:
    """Cut a recording; return facts and arrays of its windows and any separate training windows."""
    pieces = plan.pieces(recording, rate)
    windows = plan.windows(pieces, rate)
    arrays = _arrays(windows, "")
    if plan.cuts_training_separately:
        arrays |= _arrays(plan.training_windows(pieces, rate), "train_")
    recorded_hz = sample_rate_of(recording)
    facts = Facts(
        recording_id=recording.recording_id,
        group=recording.group,
        labels=[] if windows.y is None else np.unique(windows.y).tolist(),
        labels_there=labels_of(recording),
        classes=windows.provenance["classes"],
        channels=list(windows.channels),
        units=[channel.unit for channel in pieces[0].channels],
        input_channels=list(recording.channel_names),
        input_units=[channel.unit for channel in recording.channels],
        sample_rate_hz=recorded_hz if np.isfinite(recorded_hz) else None,
        duration_s=recording.duration_s,
        **describe_cut(recording, pieces),
        n_windows=len(windows),
        n_zero_windows=_n_zero(arrays["X"]),
        dropped_columns=cast(list[str], recording.attributes.get("dropped_columns", [])),
        counters=cast(list[str], recording.attributes.get("counters", [])),
        dropped=windows.provenance["dropped"],
        sources=sources,
        scales=measure_scales(recording),
        left_out_classes=left_out_classes(recording),
        odd_values=measure_odd_values(recording) or None,
    )
    return facts, arrays


def _n_zero(X: NDArray[np.float32]) -> int:
    parts = (X[at:stop] for at, stop in blocks(len(X), X, n_columns=X[:1].size))
    return sum(int((~part.any(axis=(1, 2))).sum()) for part in parts)


def _arrays(windows: WindowSet, prefix: str) -> dict[str, NDArray[Any]]:
    arrays: dict[str, Any] = {n: getattr(windows, n) for n in ("X", "start_s", "lengths")}
    if windows.y is not None:
        arrays["y"] = windows.y.astype(np.str_)
    return {prefix + name: np.asarray(array) for name, array in arrays.items()}


def labels_of(source: RecordingSource | Recording) -> list[str | None]:
    """Return the labels of a recording; ``[None]`` if it has no label."""
    return [*sorted(source.labels)] or [None]


def files_of(facts: Facts) -> str:
    """Return the paths of a recording's files for messages."""
    return " + ".join(source["path"] for source in facts.sources)


def _key(task: PartTask, files: Iterable[Mapping[str, Any]]) -> str:
    return _hashed(
        PART_VERSION,
        input_key(task.source, files),
        {
            name: getattr(task.options, name)
            for name in _PART_OPTIONS
            if name not in selecting(task.options)
        },
        [step.to_dict() for step in task.plan.steps],
        task.plan.options.held,
        task.sample_rate_hz,
        task.salvage,
    )


def input_key(source: RecordingSource, files: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of a recording's inputs, without the options."""
    row_facts = [source.row_sensor] if source.row_sensor else []
    if source.rows is not None and source.rows.names:
        row_facts.append(repr(source.rows.names))
    return _hashed(
        list(files),
        [
            *(source.recording_id, source.label, source.group),
            *(source.sensors, source.missing_sensors, *source.channels, *row_facts),
        ],
        [[span.start_s, span.end_s, span.label] for span in source.label_spans],
        *filter(None, [source.span_clock]),
    )


def _hashed(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


@dataclass(frozen=True)
class RecordingPart:
    """The windows of one recording in its part file."""

    path: Path
    recording_id: str
    group: str
    order: list[int]  # positions of the channels to read
    prefix: str = ""  # prefix of the arrays: "train_" for training windows that were cut separately

    def read(self, name: str) -> NDArray[Any]:
        """Return the array of this name."""
        return read_part(self.path, self.prefix + name)

    def samples(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows at increasing rows."""
        begin, stop = int(rows[0]), int(rows[-1]) + 1
        X: NDArray[np.float32] = read_part(self.path, self.prefix + "X", begin, stop)
        if len(rows) < len(X):
            X = X[rows - begin]
        is_ordered = self.order == list(range(X.shape[2]))
        return X if is_ordered else X[:, :, self.order]


@dataclass(frozen=True, eq=False)
class PartSamples:
    """The samples of the windows in many parts; the samples stay in the part files.

    `used` contains the rows of the windows in each part; `at_once` windows are read at a time.
    """

    parts: Sequence[RecordingPart | EarlierPart]
    used: list[NDArray[np.int64]]
    n_timesteps: int
    n_channels: int
    at_once: int

    dtype = np.dtype(np.float32)
    ndim = 3
    are_in_files = True

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (n_windows, n_timesteps, n_channels)."""
        return len(self), self.n_timesteps, self.n_channels

    @property
    def nbytes(self) -> int:
        """Size of all samples in memory, in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, which: Any) -> "PartSamples":
        wanted = np.arange(len(self))[which]
        if (np.diff(wanted) <= 0).any():
            raise WindowError(
                "windows in part files must be selected in increasing order, each at most once."
            )
        by_part = np.split(np.isin(np.arange(len(self)), wanted), self._ends[:-1])
        used = [rows[is_wanted] for rows, is_wanted in zip(self.used, by_part, strict=True)]
        return replace(self, used=used)

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of the windows at increasing positions, one recording at a time."""
        ends = self._ends
        part_of = np.searchsorted(ends, rows, side="right")
        for part_rows in np.split(rows, np.flatnonzero(np.diff(part_of)) + 1):
            if part_rows.size:
                at = int(np.searchsorted(ends, part_rows[0], side="right"))
                used = self.used[at]
                wanted = used[part_rows - (ends[at] - len(used))]
                for some in np.split(wanted, np.flatnonzero(np.diff(wanted // self.at_once)) + 1):
                    yield self.parts[at].samples(some)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(used) for used in self.used])


def windows_in(
    parts: Sequence[RecordingPart | EarlierPart],
    channels: tuple[str, ...],
    n_timesteps: int,
    *,
    labeled: bool,
) -> WindowSet:
    """Return all windows of these parts; their samples stay in the part files."""
    starts = [part.read("start_s") for part in parts]
    counts = [len(start) for start in starts]
    at_once = max(1, _READ_BYTES // (4 * n_timesteps * len(channels)))
    used = [np.arange(count) for count in counts]
    samples: Any = PartSamples(parts, used, n_timesteps, len(channels), at_once)
    return WindowSet(
        samples,
        np.concatenate([part.read("lengths") for part in parts]),
        y=np.concatenate([part.read("y") for part in parts]) if labeled else None,
        groups=np.repeat([part.group for part in parts], counts),
        recording_id=np.repeat([part.recording_id for part in parts], counts),
        start_s=np.concatenate(starts),
        channels=channels,
    )


def with_separate_training_windows(
    windows: WindowSet, split: NDArray[np.str_]
) -> tuple[WindowSet, NDArray[np.str_]]:
    """Replace training windows with those cut separately; return all windows and their parts."""
    samples: Any = windows.X
    part_of = dict(zip(np.asarray(windows.recording_id).tolist(), split.tolist(), strict=True))
    part_names = [part_of[part.recording_id] for part in samples.parts]
    parts = [
        replace(part, prefix="train_") if name == "train" else part
        for part, name in zip(samples.parts, part_names, strict=True)
    ]
    labeled = windows.y is not None
    replaced = windows_in(parts, windows.channels, windows.n_timesteps, labeled=labeled)
    replaced_samples: Any = replaced.X
    return replaced, np.repeat(part_names, [len(used) for used in replaced_samples.used])


def find_copies(
    keys: NDArray[np.uint64], windows: WindowSet, split: NDArray[np.str_] | None
) -> list[dict[str, Any]]:
    """Return pairs of recordings in different parts that share windows.

    Pairs that share the most windows come first. Equal windows have equal `keys`; windows with the
    key 0 are ignored.
    """
    if split is None:
        return []
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    ids, before = np.asarray(windows.recording_id), first[index]
    apart = (keys > 0) & (ids != ids[before]) & (split != split[before])
    by_pair = Counter(
        tuple((str(ids[row]), str(split[row])) for row in (before[row], row))
        for row in np.flatnonzero(apart)
    )
    return [
        {
            "recordings": [name for name, _ in pair],
            "parts": [part for _, part in pair],
            "n_windows": count,
        }
        for pair, count in by_pair.most_common()
    ]
