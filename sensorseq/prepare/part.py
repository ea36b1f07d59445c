"""The part of one recording: read, resampled and cut, or reused if nothing changed."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, SignalError, WindowError, printable
from sensorseq.io.parts import read_part_facts, write_part
from sensorseq.io.remote import here, upload
from sensorseq.io.scratch import count_where
from sensorseq.prepare.earlier import SELECTING
from sensorseq.preprocessing.label_rules import Fate
from sensorseq.preprocessing.odd_scales import measure_scales
from sensorseq.preprocessing.options import OPTIONS, PreparationOptions
from sensorseq.preprocessing.plan import PreparationPlan, describe_cut
from sensorseq.readers import RecordingSource, digest_source, read_source
from sensorseq.readers.source import at_hand
from sensorseq.recording import Recording, sample_rate_of
from sensorseq.windows import WindowSet

PART_VERSION = 6  # raised when equal arguments no longer give equal windows
_BLOCK_WINDOWS = 1024  # looked at together
SPOILT = (RecordingError, SignalError, WindowError)  # what `on_error="skip"` passes over
_PART_OPTIONS = [  # that decide the windows of a recording; derived steps are kept apart
    name
    for name, option in OPTIONS.items()
    if option.section in ("input", "resample", "window") or name == "random_state"
    if name not in SELECTING
]


@dataclass(frozen=True)
class PartTask:
    """A recording to cut, and how."""

    source: RecordingSource
    options: PreparationOptions
    plan: PreparationPlan
    sample_rate_hz: float
    path: Path | str  # str: a URL
    salvage: bool  # of damaged logs, what is before the damage
    files: list[dict[str, Any]] | None = None  # their digests, if they are known
    facts: "Facts | None" = None  # of a recording that an earlier file holds


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a recording after cutting it, as its part file keeps it in JSON."""

    recording_id: str
    group: str
    labels: list[str]  # of its windows
    labels_there: list[str | None]  # that the recording has
    classes: list[Fate]
    channels: list[str]
    units: list[str]
    input_channels: list[str]
    input_units: list[str]
    sample_rate_hz: float | None
    duration_s: float
    n_samples: int
    repaired_stamps: dict[str, int] | None = None
    clock: dict[str, Any] | None = None  # the facts of `Stamps`
    bridging_gap_s: float | None = None  # the `max_gap_s` that mends what gaps cut too short
    n_pieces: int
    n_holes_filled: int
    n_windows: int
    n_zero_windows: int  # whose samples are all zero
    dropped_columns: list[str]
    counters: list[str]
    dropped: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    scales: dict[str, list[float]] | None = None  # as `measure_scales` returns

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        plain = dict(vars(self))
        for name in ("repaired_stamps", "clock", "bridging_gap_s"):
            if plain[name] is None:
                del plain[name]
        return plain


def make_part(task: PartTask) -> tuple[Facts, bool]:
    """Make the part of one recording or reuse it; return its facts, and whether it was reused."""
    if task.facts is not None:
        return task.facts, True
    with at_hand(task.source) as source, here(task.path) as path:
        facts, reused = _make_part_at(path, replace(task, source=source))
        if not reused:
            upload(path, task.path)
    return facts, reused


def _make_part_at(path: Path, task: PartTask) -> tuple[Facts, bool]:
    source = task.source
    files = task.files or digests_of(source)
    key = _key(task, files)
    if (known := read_part_facts(path, key)) is not None:
        return Facts(**known), True
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
    """Read a recording with the options that concern reading."""
    return read_source(source, options, salvage=salvage, scratch=scratch)


def digests_of(source: RecordingSource) -> list[dict[str, Any]]:
    """Return path, size and SHA-256 of each file of a recording."""
    with at_hand(source) as near:
        digests = digest_source(near)
    return [
        {"path": relative, **digest}
        for relative, digest in zip(source.relative_paths, digests, strict=True)
    ]


def _are_beyond_float32(values: NDArray[np.floating], at: int, stop: int) -> NDArray[np.bool_]:
    some, largest = values[at:stop], np.finfo(np.float32).max
    if -largest <= some.min(initial=0) and some.max(initial=0) <= largest:  # not with NaN
        return np.zeros(0, bool)
    beyond: NDArray[np.bool_] = np.abs(some) > largest
    return beyond


def _cut(
    recording: Recording, plan: PreparationPlan, rate: float, sources: list[dict[str, Any]]
) -> tuple[Facts, dict[str, NDArray[Any]]]:
    """Return the facts about a recording and its windows, with separate training windows if set."""
    pieces = plan.pieces(recording, rate)
    windows = plan.windows(pieces, rate)
    arrays = _arrays(windows, "")
    if plan.cuts_training_anew:
        arrays |= _arrays(plan.windows(pieces, rate, training=True), "train_")
    own_rate = sample_rate_of(recording)
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
        sample_rate_hz=own_rate if np.isfinite(own_rate) else None,
        duration_s=recording.duration_s,
        **describe_cut(recording, pieces),
        n_windows=len(windows),
        n_zero_windows=_n_zero(arrays["X"]),
        dropped_columns=cast(list[str], recording.attributes.get("dropped_columns", [])),
        counters=cast(list[str], recording.attributes.get("counters", [])),
        dropped=windows.provenance["dropped"],
        sources=sources,
        scales=measure_scales(recording),
    )
    return facts, arrays


def _n_zero(X: NDArray[np.float32]) -> int:
    parts = (X[at : at + _BLOCK_WINDOWS] for at in range(0, len(X), _BLOCK_WINDOWS))
    return sum(int((~part.any(axis=(1, 2))).sum()) for part in parts)


def _arrays(windows: WindowSet, prefix: str) -> dict[str, NDArray[Any]]:
    arrays: dict[str, Any] = {n: getattr(windows, n) for n in ("X", "start_s", "lengths")}
    if windows.y is not None:
        arrays["y"] = windows.y.astype(np.str_)
    return {prefix + name: np.asarray(array) for name, array in arrays.items()}


def labels_of(source: RecordingSource | Recording) -> list[str | None]:
    """Return the labels a recording is known to have; one None when it has none."""
    return [*sorted(source.labels)] or [None]


def files_of(facts: Facts) -> str:
    """Return the names of a recording's files as a user knows them."""
    return " + ".join(source["path"] for source in facts.sources)


def _key(task: PartTask, files: Iterable[Mapping[str, Any]]) -> str:
    return _hashed(
        PART_VERSION,
        input_key(task.source, files),
        {name: getattr(task.options, name) for name in _PART_OPTIONS},
        [step.to_dict() for step in task.plan.steps],
        task.sample_rate_hz,
        task.salvage,
    )


def input_key(source: RecordingSource, files: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of what a recording is made of, apart from the options."""
    return _hashed(
        list(files),
        [source.recording_id, source.label, source.group, source.sensors, source.missing_sensors],
        [[span.start_s, span.end_s, span.label] for span in source.label_spans],
    )


def _hashed(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
