"""Read one listed recording: choose the reader by suffix, join sensors, select channels."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, did_you_mean
from sensorseq.order_statistics import sample_period
from sensorseq.readers.arrays import read_arrays, read_arrays_timestamps
from sensorseq.readers.columns import without_counters
from sensorseq.readers.csv import read_csv, read_csv_timestamps
from sensorseq.readers.find import (
    ARRAY_SUFFIXES,
    TABLE_SUFFIXES,
    RecordingSource,
    known_suffix_of,
)
from sensorseq.readers.hdf5 import read_hdf5, read_hdf5_timestamps
from sensorseq.readers.join import join_sensors
from sensorseq.readers.long_table import (
    digest_rows,
    read_table_recording,
    read_table_timestamps,
)
from sensorseq.readers.parquet import read_parquet, read_parquet_timestamps
from sensorseq.readers.robot_logs import read_robot_log, read_robot_log_timestamps
from sensorseq.recording import Channel, Recording
from sensorseq.remote import fetched

_READERS: Mapping[str, tuple[Callable[..., Recording], Callable[..., NDArray[np.float64]]]] = {
    ".csv": (read_csv, read_csv_timestamps),
    ".csv.gz": (read_csv, read_csv_timestamps),
    ".parquet": (read_parquet, read_parquet_timestamps),
    ".h5": (read_hdf5, read_hdf5_timestamps),
    ".hdf5": (read_hdf5, read_hdf5_timestamps),
    **dict.fromkeys(ARRAY_SUFFIXES, (read_arrays, read_arrays_timestamps)),
}
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@contextmanager
def at_hand(source: RecordingSource) -> Iterator[RecordingSource]:
    """Give a recording whose files are on this machine, downloaded if they are at a URL."""
    if not source.url:
        yield source
        return
    names = source.relative_paths
    with fetched(source.url, names) as root:
        yield replace(source, paths=tuple(root / name for name in names), root=root, url="")


def _at_hand_first(
    read: Callable[Concatenate[RecordingSource, _Arguments], _Result],
) -> Callable[Concatenate[RecordingSource, _Arguments], _Result]:
    @wraps(read)
    def read_near(
        source: RecordingSource, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        with at_hand(source) as near:
            return read(near, *args, **kwargs)

    return read_near


@_at_hand_first
def read_source(
    source: RecordingSource,
    *,
    time_column: str | None = None,
    channels: Sequence[str] | None = None,
    repair_stamps: bool = False,
    label_column: str | None = None,
    units: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    salvage: bool = False,
    scratch: str | os.PathLike[str] | None = None,
    sample_rate_hz: float | None = None,
) -> Recording:
    """Read one listed recording.

    Parameters
    ----------
    source : RecordingSource
        As `find_recordings` lists them.
    time_column : str, optional
        Column of the time stamps; as in `read_csv` by default.
    channels : sequence of str, optional
        Channels to keep, in this order. By default all but columns that are no sensors, which
        ``attributes["counters"]`` lists: those without a name, and those that rise in every row
        and hold whole numbers or the time (an index, a counter, another stamp).
    repair_stamps : bool, default=False
        Sort rows by time and merge those with equal time stamps, rather than raise; see
        `read_csv`. With several sensors, the counts are totals over all files.
    label_column : str, optional
        As in `read_csv`; for recordings of one file whose folder or manifest gives no label.
    units : mapping of str to str, optional
        Unit of each channel by name; overrides units stored in the file.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the time stamps; as in `read_csv` by default. Robot logs need none.
    salvage : bool, default=False
        Use what is before the damage of a robot log; see `read_robot_log`.
    scratch : path-like, optional
        As in `read_csv`; robot logs and files of arrays are held in memory.
    sample_rate_hz : float, optional
        As in `read_csv`, of CSV and Parquet files without a time column.
    """
    _check_complete(source)
    if source.label is not None and (source.rows is not None or source.labelled_by == label_column):
        label_column = None  # it gave the label of the recording
    n_files = 1 if source.is_log else len(source.paths)
    if label_column is not None and (n_files > 1 or source.label_spans):
        raise RecordingError(
            f"{_named(source)}: label_column={label_column!r} labels the samples of one file, but"
            + (
                f" this recording has {len(source.paths)} files; list its labels in a manifest."
                if n_files > 1
                else " the manifest already labels parts of it; use only one of them."
            )
        )
    arguments: dict[str, Any] = {
        "time_column": time_column,
        "recording_id": source.recording_id,
        "group": source.group,
        "label": source.label,
        "repair_stamps": repair_stamps,
        "label_column": label_column,
    }
    if source.is_log:  # it has many topics: only what is asked for is read
        parts = [read_robot_log(source.paths, channels=channels, salvage=salvage, **arguments)]
    elif source.rows is not None:
        parts = [
            read_table_recording(
                source.paths[0],
                source.rows,
                time_unit=time_unit,
                sample_rate_hz=sample_rate_hz,
                **arguments,
            )
        ]
    else:
        arguments["time_unit"] = time_unit
        if source.has_arrays:
            arguments["channels"] = channels
        else:
            arguments["scratch"] = scratch
        parts = [
            _READERS[known_suffix_of(path)][0](
                path, **arguments, **_form(source, path), **_clock(path, sample_rate_hz)
            )
            for path in source.paths
        ]
    if channels is None and not source.is_log:
        parts = [without_counters(part) for part in parts]
    recording = parts[0]
    if len(parts) > 1:
        try:
            recording = join_sensors(parts, source.sensors)
        except RecordingError as error:
            raise RecordingError(f"{_named(source)}: {error}") from error
    if source.label_spans:
        recording = replace(recording, label_spans=source.label_spans)
    try:
        recording.check_label_spans()
    except RecordingError as error:
        raise RecordingError(f"{_named(source)}: {error}") from error
    for name in (*(channels or ()), *(units or ())):
        if name not in recording.channel_names:
            dropped = str(recording.attributes.get("dropped_columns", ""))
            why = " (the column holds no numbers)" if name in dropped else ""
            there = recording.channel_names
            raise RecordingError(
                f"{_named(source)}: no channel {name!r}{why}; it has {', '.join(there)}."
                + did_you_mean(name, there)
            )
    if units:
        named = [Channel(c.name, units.get(c.name, c.unit)) for c in recording.channels]
        recording = replace(recording, channels=tuple(named))
    return recording if channels is None else recording.select(channels)


@_at_hand_first
def read_source_rate(
    source: RecordingSource,
    *,
    time_column: str | None = None,
    repair_stamps: bool = False,
    channels: Sequence[str] | None = None,
    time_unit: str | None = None,
    salvage: bool = False,
    scratch: str | os.PathLike[str] | None = None,
) -> float:
    """Return the median sample rate of a listed recording in Hz, from its time stamps alone.

    With several sensors, the rate of the fastest; NaN for fewer than two samples. Raises the errors
    of `read_source` that concern time.

    Parameters
    ----------
    source : RecordingSource
    time_column, repair_stamps, time_unit, salvage, scratch
        As in `read_source`.
    channels : sequence of str, optional
        Of a robot log, whose topics have rates of their own, only those of these channels.
    """
    _check_complete(source)
    arguments: dict[str, Any] = {"repair_stamps": repair_stamps}
    if source.is_log or source.has_arrays:
        arguments["channels"] = channels
    arguments |= {"salvage": salvage} if source.is_log else {"time_unit": time_unit}
    if source.rows is None and not (source.is_log or source.has_arrays):
        arguments["scratch"] = scratch
    if source.rows is not None:
        stamps_of_files = [
            read_table_timestamps(source.paths[0], source.rows, time_column, **arguments)
        ]
    elif source.is_log:
        stamps_of_files = [read_robot_log_timestamps(source.paths, time_column, **arguments)]
    else:
        stamps_of_files = [
            _READERS[known_suffix_of(path)][1](
                path, time_column, **arguments, **_form(source, path)
            )
            for path in source.paths
        ]
    rates = [
        1.0 / sample_period(stamps) if len(stamps) > 1 else float("nan")
        for stamps in stamps_of_files
    ]
    known = [rate for rate in rates if np.isfinite(rate)]
    return max(known) if known else float("nan")


def digest_source(source: RecordingSource) -> list[dict[str, Any]]:
    """Return ``sha256`` and ``size_bytes`` of each file of a recording, or of its rows in a table.

    Parameters
    ----------
    source : RecordingSource

    Raises
    ------
    RecordingError
        If a file cannot be read.
    """
    if source.rows is not None:
        return [digest_rows(source.paths[0], source.rows)]
    return [digest_file(path) for path in source.paths]


def digest_file(path: Path) -> dict[str, Any]:
    """Return ``sha256`` and ``size_bytes``, which identify a file whatever its name.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    RecordingError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": digest, "size_bytes": os.fstat(file.fileno()).st_size}
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error


def _form(source: RecordingSource, path: Path) -> dict[str, Any]:
    return source.form._asdict() if known_suffix_of(path).startswith(".csv") else {}


def _clock(path: Path, sample_rate_hz: float | None) -> dict[str, float | None]:
    is_table = known_suffix_of(path) in TABLE_SUFFIXES
    return {"sample_rate_hz": sample_rate_hz} if is_table else {}


def _check_complete(source: RecordingSource) -> None:
    if source.missing_sensors:
        raise RecordingError(
            f"{_named(source)}: recording {source.recording_id!r} has no file for"
            f" {' and '.join(source.missing_sensors)}, unlike other recordings. Leave it out with"
            f" exclude={source.recording_id!r} or on_error='skip'."
        )


def _named(source: RecordingSource) -> str:
    return " + ".join(str(path) for path in source.paths)
