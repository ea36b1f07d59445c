"""Read one listed recording: choose the reader by suffix, join sensors and select channels."""

import hashlib
import importlib
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, MissingChannelError, RecordingError, did_you_mean
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.annotations import on_clock
from sensorseq.readers.columns import (
    Opens,
    Origin,
    Table,
    read_recording,
    read_timestamps,
    refusing_content,
    without_counters,
)
from sensorseq.readers.find import RecordingSource, keep_spans
from sensorseq.readers.join import from_origin, join_sensors
from sensorseq.readers.long_table import digest_rows, open_rows, rows_of_sensors
from sensorseq.readers.robot_logs import (
    list_topics,
    read_robot_log,
    read_robot_log_timestamps,
)
from sensorseq.readers.suffixes import TABLES, known_suffix_of
from sensorseq.recording import Channel, Recording
from sensorseq.stamps.names import time_parts
from sensorseq.stamps.period import sample_period


@takes_options
def read_source(
    source: RecordingSource,
    options: ReadOptions | None = None,
) -> Recording:
    """Read one listed recording.

    Parameters
    ----------
    source : RecordingSource
        A recording listed by `find_recordings`.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `stamps`, `label_column`, `channels`, `salvage`
        and `sample_rate_hz` are used; the format of CSV files is stored in the source.
        With several sensors, the counts of repaired stamps are totals over all files. Robot logs
        and files of arrays are read into memory.
    """
    options = as_options(options)
    channels, units, label_column = options.channels, options.units, options.label_column
    _check_complete(source)
    if source.label is not None and (source.rows is not None or source.labelled_by == label_column):
        label_column = None  # the recording already has its label from this column
    n_files = 1 if source.is_log else len(source.paths)
    if label_column is not None and (n_files > 1 or source.label_spans):
        raise RecordingError(
            f"{_named(source)}: label_column={label_column!r} labels the samples of one file, but"
            + (
                f" this recording has {len(source.paths)} files; list its labels in a manifest."
                if n_files > 1
                else " the manifest already labels parts of it; use only one of the two."
            )
        )
    use = _for_files(source, replace(options, label_column=label_column, units=None))
    origin, sensors = Origin(source.recording_id, source.group, source.label), source.sensors
    chosen = channels or ()
    if source.is_log:  # a log has many topics, so only the requested ones are read
        parts = [read_robot_log(source.paths, use, **origin._asdict())]
    elif source.sensor_column is not None:
        opened = _open_sensors(source, use, chosen)
        sensors, (path,) = tuple(opened), source.paths
        parts = [read_recording(opens, path, use, origin, chosen) for opens in opened.values()]
        parts = [_named_after(part, name) for name, part in zip(sensors, parts, strict=True)]
    else:
        parts = [
            read_recording(_opens(source, path), path, use, origin, chosen) for path in source.paths
        ]
    if channels is None and not source.is_log:
        parts = [without_counters(part) for part in parts]
    recording = from_origin(parts[0], 0) if source.is_sensor else parts[0]
    if len(parts) > 1:
        try:
            recording = join_sensors(parts, sensors)
        except RecordingError as error:
            raise RecordingError(f"{_named(source)}: {error}") from error
        # The sensor with the most samples shows most precisely where the label changes.
        spans = max(parts, key=lambda part: part.n_samples).label_spans
        recording = replace(recording, label_spans=spans)
    if source.label_spans:
        spans = source.label_spans
        if source.span_clock:
            try:
                spans = on_clock(spans, recording, source.span_clock)
            except RecordingError as error:
                raise RecordingError(f"{_named(source)}: {error}") from error
        recording = replace(recording, label_spans=spans)
    elif label_column is not None:
        exclude = [options.exclude] if isinstance(options.exclude, str) else options.exclude or ()
        kept = keep_spans(recording.label_spans, options.labels, exclude)
        if left_out := sorted(set(recording.labels) - {span.label for span in kept}):
            attributes = {**recording.attributes, "left_out_classes": left_out}
            recording = replace(recording, label_spans=kept, attributes=attributes)
    try:
        recording.check_label_spans()
    except RecordingError as error:
        raise RecordingError(f"{_named(source)}: {error}") from error
    for name in (*(channels or ()), *(units or ())):
        if name not in recording.channel_names:
            dropped = str(recording.attributes.get("dropped_columns", ""))
            cause = " (the column has no numbers)" if name in dropped else ""
            names = recording.channel_names
            raise MissingChannelError(
                f"{_named(source)}: no channel {name!r}{cause}; it has {', '.join(names)}."
                + did_you_mean(name, names)
            )
    if units:
        named = [Channel(c.name, units.get(c.name, c.unit)) for c in recording.channels]
        recording = replace(recording, channels=tuple(named))
    return recording if channels is None else recording.select(channels)


@takes_options
def read_source_rate(
    source: RecordingSource,
    options: ReadOptions | None = None,
) -> float:
    """Return the median sample rate of a listed recording in Hz, from its timestamps alone.

    For several sensors, the rate of the fastest sensor is returned; for fewer than two samples, NaN
    is returned. The errors about timestamps are the same as in `read_source`.

    Parameters
    ----------
    source : RecordingSource
    options : ReadOptions, optional
        `time_column`, `time_unit`, `stamps`, `channels` and `salvage` are used. In a
        robot log, each topic has its own rate, and only the topics of the channels are considered.
    """
    options = as_options(options)
    _check_complete(source)
    use, chosen = _for_files(source, options), options.channels or ()
    if source.is_log:
        files = [read_robot_log_timestamps(source.paths, use)]
    elif source.sensor_column is not None:
        (path,), opened = source.paths, _open_sensors(source, use, chosen)
        files = [read_timestamps(opens, path, use, chosen) for opens in opened.values()]
    else:
        files = [read_timestamps(_opens(source, path), path, use, chosen) for path in source.paths]
    rates = [1.0 / sample_period(stamps) for stamps in files if len(stamps) > 1]
    return max((rate for rate in rates if np.isfinite(rate)), default=float("nan"))


def _opens(source: RecordingSource, path: Path) -> Opens:
    rows = source.rows
    if rows is not None:
        return lambda path, options: open_rows(path, rows)
    file, name = TABLES[known_suffix_of(path)].split(".")
    opens: Opens = getattr(importlib.import_module(f"sensorseq.readers.{file}"), name)
    return opens


def _open_sensors(
    source: RecordingSource, options: ReadOptions, channels: Sequence[str] = ()
) -> dict[str, Opens]:
    """For each sensor in a column of the file, return a function that opens the sensor's rows.

    If channels are chosen, leave out sensors without a chosen channel, because such sensors
    may cover a shorter time.
    """
    (path,), column = source.paths, source.sensor_column
    assert column is not None
    in_memory = replace(options, channels=None, scratch=None)  # to separate the rows by sensor
    with refusing_content(path), _opens(source, path)(path, in_memory) as table:
        if column in (parts := time_parts(table.names, options.time_column)):
            raise RecordingError(
                f"{path}: column {column!r} does not name sensors; together, {' and '.join(parts)}"
                " contain the time. Leave out sensor_column."
            )
        tables = rows_of_sensors(table, column)

    def opens(table: Table) -> Opens:
        return lambda path, options: nullcontext(table)

    chosen = [name for name in tables if any(c.startswith(f"{name}.") for c in channels)]
    chosen = [source.row_sensor] if source.row_sensor else chosen or list(tables)
    return {name: opens(tables[name]) for name in chosen}


def _named_after(recording: Recording, sensor: str) -> Recording:
    """Add the sensor's name to its channels' names, even if no other sensor has these names."""
    named = [replace(channel, name=f"{sensor}.{channel.name}") for channel in recording.channels]
    return replace(recording, channels=tuple(named))


def sources_by_sensor(
    sources: Iterable[RecordingSource],
    channels: Sequence[str] | None = None,
    *,
    salvage: bool = False,
) -> dict[str, list[RecordingSource]]:
    """Return the sources of each sensor: joined files, rows of a table, or topics of robot logs.

    The sensors of a log are the topics of the given `channels`; by default, all topics with
    numbers. If `salvage` is true, a log whose topics cannot be listed is assumed to have every
    topic, because some of its messages may still be read.

    Raises
    ------
    RecordingError
        If a recording has only one sensor, or a log cannot be read or has none of the topics.
    """
    sources_of: dict[str, list[RecordingSource]] = {}
    damaged: dict[RecordingSource, RecordingError] = {}
    for source in sources:
        parts: dict[str, RecordingSource] = {}
        if source.sensors:
            if channels:
                raise ArgumentError(
                    f"channels={channels[0]!r}: with native_rates, channels choose topics of robot"
                    " logs; choose files with `files`."
                )
            for name, path in zip(source.sensors, source.paths, strict=True):
                part = replace(source, paths=(path,), sensors=(), missing_sensors=())
                parts[name] = replace(part, is_sensor=True)
        elif source.sensor_column is not None:
            names = _open_sensors(source, _for_files(source, ReadOptions()))
            parts = {name: replace(source, row_sensor=name, is_sensor=True) for name in names}
        elif source.is_log:
            try:
                parts = _topics(source, channels)
            except RecordingError as error:
                if not salvage:
                    raise
                damaged[source] = error
        else:
            raise RecordingError(
                f"{source.names[0]}: does not belong to one of several sensors; native_rates needs"
                " `files` for each sensor and `pair` (such as '{sensor}_{recording}.*'), or"
                " `sensor_column`, or robot logs."
            )
        for name, part in parts.items():
            sources_of.setdefault(name, []).append(part)
    for source, problem in damaged.items():
        if not sources_of:
            raise problem
        for listed in sources_of.values():
            listed.append(replace(source, channels=listed[0].channels))
    return sources_of


def _topics(source: RecordingSource, channels: Sequence[str] | None) -> dict[str, RecordingSource]:
    """Return a source for each sensor of a log; a sensor is a topic with channels."""
    source_of: dict[str, RecordingSource] = {}
    for topic in list_topics(source.paths, channels):
        if topic.channels or channels is not None:
            found = source_of.get(topic.name, replace(source, channels=()))
            source_of[topic.name] = replace(found, channels=found.channels + topic.channels)
    if not source_of:
        raise RecordingError(f"{source.names[0]}: no topic has messages with numbers.")
    return source_of


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
    """Return ``sha256`` and ``size_bytes``, which identify a file regardless of its name.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    RecordingError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": digest, "size_bytes": os.fstat(file.fileno()).st_size}
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error


def _for_files(source: RecordingSource, options: ReadOptions) -> ReadOptions:
    """Return the options for each file of a recording."""
    # If there are several files, each file may have only some of the channels.
    whole = source.is_log or source.has_arrays
    channels = (options.channels or list(source.channels) or None) if whole else None
    return replace(options, channels=channels, **source.form._asdict())


def _check_complete(source: RecordingSource) -> None:
    if source.missing_sensors:
        raise RecordingError(
            f"{_named(source)}: recording {source.recording_id!r} has no file for"
            f" {' and '.join(source.missing_sensors)}, unlike other recordings. Leave it out with"
            f" exclude={source.recording_id!r} or on_error='skip'."
        )


def _named(source: RecordingSource) -> str:
    return " + ".join(str(path) for path in source.paths)
