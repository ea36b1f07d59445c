"""Part files: create or reuse one for each recording, and read it."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, SignalError, WindowError, printable
from sensorseq.io.part_files import read_part, read_part_facts, write_part
from sensorseq.prepare.earlier_file import selecting
from sensorseq.preprocessing.cut_recording import Facts, cut_recording
from sensorseq.preprocessing.options import OPTIONS
from sensorseq.preprocessing.parts import Part
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.readers import RecordingSource, digest_source, read_source
from sensorseq.windows import WindowSet

PART_VERSION = 8  # increased when the same arguments no longer give the same windows
# With on_error="skip", recordings that raise one of these errors are left out.
SPOILT = (RecordingError, SignalError, WindowError)
# Options that determine a recording's windows, beside the steps.
_PART_OPTIONS = [
    name
    for name, option in OPTIONS.items()
    if option.section in ("input", "resample", "window") or name == "random_state"
]


@dataclass(frozen=True)
class PartTask:
    """The task of cutting one recording into windows."""

    source: RecordingSource
    plan: PreparationPlan
    sample_rate_hz: float
    path: Path
    salvage: bool  # True to read damaged logs up to the damage
    # Digests of the recording's files, if already computed.
    files: list[dict[str, Any]] | None = None
    facts: Facts | None = None  # facts about the recording in an earlier file


def make_part(task: PartTask) -> tuple[Facts, bool]:
    """Create or reuse the part of a recording; return its facts, and True if it was reused."""
    if task.facts is not None:
        return task.facts, True
    source, path = task.source, task.path
    files = task.files or digests_of(source)
    key = _key(task, files)
    if (stored := read_part_facts(path, key)) is not None:
        return Facts(**stored), True
    try:
        # Only the reading options are used.
        reading = replace(task.plan.learning, salvage=task.salvage, scratch=path.parent)
        recording = read_source(source, reading)
        selected = task.plan.select(recording)
        facts, sets = cut_recording(selected, task.plan, task.sample_rate_hz, files)
    except SPOILT as error:
        where = " + ".join(str(path) for path in source.paths)
        if any(printable(str(path)) in str(error) for path in source.paths):
            raise
        raise type(error)(f"{where}: {error}") from error
    if salvaged := cast(dict[str, Any], recording.attributes.get("salvaged", {})):
        reason = salvaged["reason"].replace(str(source.paths[0].parent) + os.sep, "")
        facts.dropped.append({**salvaged, "reason": reason})
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, windows in sets.items():
        arrays |= _arrays(windows, prefix)
    write_part(path, key, facts.to_dict(), arrays)
    return facts, False


def digests_of(source: RecordingSource) -> list[dict[str, Any]]:
    """Return the path, size and SHA-256 of each file of a recording."""
    return [
        {"path": relative, **digest}
        for relative, digest in zip(source.relative_paths, digest_source(source), strict=True)
    ]


def _arrays(windows: WindowSet, prefix: str) -> dict[str, NDArray[Any]]:
    arrays: dict[str, Any] = {n: getattr(windows, n) for n in ("X", "start_s", "lengths")}
    if windows.y is not None:
        arrays["y"] = windows.y.astype(np.str_)
    return {prefix + name: np.asarray(array) for name, array in arrays.items()}


def _key(task: PartTask, files: Iterable[Mapping[str, Any]]) -> str:
    return _hashed(
        PART_VERSION,
        input_key(task.source, files),
        {
            name: getattr(task.plan.learning, name)
            for name in _PART_OPTIONS
            if name not in selecting(task.plan.learning)
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


@dataclass(frozen=True, eq=False, kw_only=True)
class FilePart(Part):
    """The windows of one recording in its part file."""

    path: Path

    def read(self, name: str) -> NDArray[Any]:
        """Return the array of this name."""
        return read_part(self.path, self.prefix + name)

    def stored(self, begin: int, stop: int) -> NDArray[np.float32]:
        """Return the samples of some windows."""
        return read_part(self.path, self.prefix + "X", begin, stop)
