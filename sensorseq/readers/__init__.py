"""Read recordings from CSV, Parquet, HDF5, NumPy and MATLAB files, and from robot logs."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from sensorseq.errors import RecordingError, check_choice, printable
from sensorseq.options import ReadOptions, as_options, combined, takes_options
from sensorseq.readers.arrays import list_arrays, read_arrays
from sensorseq.readers.csv import read_csv
from sensorseq.readers.find import RecordingSource, check_labels, find_recordings, left_out_classes
from sensorseq.readers.hdf5 import read_hdf5
from sensorseq.readers.join import join_sensors
from sensorseq.readers.parquet import read_parquet
from sensorseq.readers.robot_logs import list_topics, read_robot_log
from sensorseq.readers.source import (
    digest_file,
    digest_source,
    read_source,
    read_source_rate,
    sources_by_sensor,
)
from sensorseq.readers.topics import Topic
from sensorseq.recording import Recording
from sensorseq.sensor_windows import channels_of_sensors

__all__ = [
    "ON_ERROR",
    "ReadOptions",
    "RecordingSource",
    "Topic",
    "digest_file",
    "digest_source",
    "find_recordings",
    "join_sensors",
    "list_arrays",
    "list_topics",
    "read_arrays",
    "read_csv",
    "read_hdf5",
    "read_parquet",
    "read_recordings",
    "read_robot_log",
    "read_sensors",
    "read_source",
    "read_source_rate",
]

ON_ERROR = ("stop", "skip")
"""Values of `on_error`, which defines what to do if a recording cannot be read."""


def read_recordings(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    on_error: str = "stop",
    # options: READ_OPTIONS
    files: Sequence[str] | None = None,
    pair: str | None = None,
    time_column: str | None = None,
    time_unit: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    no_header: bool | None = None,
    names: Sequence[str] | None = None,
    label_column: str | None = None,
    recording_column: str | None = None,
    group_column: str | None = None,
    sensor_column: str | None = None,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    manifest: str | bool | None = None,
    stamps: str | None = None,
    sample_rate_hz: float | None = None,
    # end of options
) -> list[Recording]:
    """Read all recordings of a folder, a manifest or a single file into memory.

    The suffix determines the format: CSV (also ``.csv.gz``, ``.txt``, ``.tsv``, ``.dat`` and
    ``.log``), Parquet, HDF5, NumPy, MATLAB or a robot log; see `read_csv`, `read_parquet`,
    `read_hdf5`, `read_arrays`, `read_robot_log`. Use `prepare` for recordings that do not fit in
    memory.

    Parameters
    ----------
    path : path-like
        Folder, manifest or file; see `find_recordings`.
    options : ReadOptions, optional
        Options that choose the recordings and define how to read them; all options except `salvage`
        and `scratch` can also be given by name:
        ``read_recordings("logs", files="pro_*.csv", time_column="time")``.
    files : str or sequence of str, optional
        Patterns for the names of the files to read, such as ``pro_*.csv``; a pattern with a slash
        is matched against the path relative to the folder. By default, all readable files are used.
        Every pattern must match at least one file.
    pair : str, optional
        Name pattern for joining the files of one recording, such as ``{sensor}_{recording}.*``:
        files in the same folder with the same ``{recording}`` become one recording. A pattern with
        a slash is matched against the end of the path, such as ``{recording}/{sensor}.*`` if each
        recording has its own folder. The recording's channels are in the order of the patterns in
        `files`.
    time_column : str, optional
        Name of the column with the timestamps, or its position: ``"1"`` is the first column, and
        ``"-1"`` is the last. The timestamps can be seconds, whole numbers in a different unit, or
        ISO 8601 dates. The default is the column ``time`` or ``time_s`` if there is one, and
        otherwise the only column with a name such as ``t``, ``timestamp`` or ``time_ms``. If a file
        of arrays has several such columns, the default is the column in the struct that contains
        the `channels`. For robot logs, give ``"header.stamp"`` or ``"log_time"``. The default is
        ``"header.stamp"`` if the first message of the topic has a header stamp or a field
        ``timestamp`` of seconds and nanoseconds; otherwise, the default is ``"log_time"``.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the timestamps. By default, the unit at the end of the column's name, as in
        ``stamp_ns``. If the name has no unit, fractional timestamps are in seconds. Whole numbers
        are in the unit that gives a rate between 0.5 Hz and 20 kHz. If several units give such a
        rate, the unit is the one that gives dates between 2000 and 2100. Robot logs do not need
        this option.
    encoding : str, optional
        Encoding of CSV files, such as ``"latin-1"``; by default UTF-8, or UTF-16 if the file begins
        with a UTF-16 byte order mark.
    delimiter : str, optional
        Character between the fields of CSV files, or ``"tab"``; by default a comma, or a semicolon
        if `decimal` is a comma. ``" "`` matches any run of spaces and tabs.
    decimal : {".", ","}, optional
        Decimal mark of the numbers in CSV files; a point by default.
    no_header : bool, optional
        True if the first line of CSV files contains samples instead of column names; the columns
        are then named ``column_1``, ``column_2`` and so on.
    names : sequence of str, optional
        Names of the columns of CSV files without a header line.
    label_column : str, optional
        Column that contains the label of each sample, as a word or a number. The column is used for
        recordings that consist of one file and have no label from a folder or manifest. Runs of the
        same label become `label_spans`; an empty field means that the sample has no label. In a
        robot log, this is a text or numeric field, such as ``/terrain.data``, whose value is valid
        until the topic's next message. In a long table or a manifest, this is the column with the
        labels.
    recording_column, group_column : str, optional
        Columns of a long table (one file with all recordings) that contain the recording id and the
        group of each row. All rows of a recording must have the same group.
    sensor_column : str, optional
        Column with the name or number of each row's sensor (or joint), for tables with one row per
        sample and sensor. The rows of each sensor become separate channels, such as
        ``gyroscope.x``, as if each sensor had its own file; see `join_sensors`.
    labels : sequence of str, optional
        Classes to keep; all by default. Label spans of other classes, and samples with a different
        label in the `label_column`, become unlabeled.
    exclude : sequence of str, optional
        Names of classes or ids of recordings to leave out; patterns such as ``ICE/pro_0*`` are also
        allowed.
    channels : sequence of str, optional
        Channels to keep, in this order. By default, columns without a name are left out, and so are
        columns that count the rows or the time (an index, a counter that may begin again, or a
        second timestamp). The recording's ``attributes["counters"]`` lists the columns that were
        left out. From robot logs and files of arrays (HDF5, NumPy, MATLAB), only the given channels
        are read, so other arrays may have different lengths.
    units : mapping of str to str, optional
        Units by channel name, for files that do not store units, such as CSV files; a given unit
        overrides a unit stored in the file. Some steps select channels by unit.
    manifest : path-like or bool, optional
        Table that lists the recordings and their labels. By default, ``manifest.csv`` in the
        folder, if that file exists; with False, that file is ignored. The manifest may also be a
        JSON export of Label Studio, or a name pattern, such as ``{recording}.txt``, for the label
        tables that Audacity and ELAN export for each recording.
    stamps : {"packets", "keep", "merge"}, optional
        How to handle timestamps that repeat, go back or come in bursts; see
        `sensorseq.recording.repair_stamps`. By default, the samples of a packet are spread evenly
        if the signal shows that they belong to one sensor (see ``docs/preprocessing``); otherwise
        an error is raised. The recording's ``attributes["packets"]`` describes the packets, and
        ``attributes["repaired_stamps"]`` contains the counts ``n_out_of_order``, ``n_duplicates``
        and ``n_spread``.
    sample_rate_hz : float, optional
        Number of rows per second in files without a time column; their time then begins at 0 s. The
        rate can be given only if `time_column` is None. Robot logs do not need this option.
    on_error : {"stop", "skip"}, default="stop"
        With ``"skip"``, recordings that cannot be read are left out, with a warning that gives the
        reason, and a damaged robot log is used up to the damage.

    Returns
    -------
    list of Recording
        The recordings. With several sensors (`pair`), a recording contains the timestamps of all
        sensors, with NaN where a sensor has no sample; see `join_sensors`. `read_sensors` keeps the
        sensors separate.

    Raises
    ------
    RecordingError
        If a recording cannot be read, or if no recording remains.
    ArgumentError
        If a pattern, a label or an exclusion matches nothing.
    """
    options = combined(
        options,
        ReadOptions(
            # options
            files=files,
            pair=pair,
            time_column=time_column,
            time_unit=time_unit,
            encoding=encoding,
            delimiter=delimiter,
            decimal=decimal,
            no_header=no_header,
            names=names,
            label_column=label_column,
            recording_column=recording_column,
            group_column=group_column,
            sensor_column=sensor_column,
            labels=labels,
            exclude=exclude,
            channels=channels,
            units=units,
            manifest=manifest,
            stamps=stamps,
            sample_rate_hz=sample_rate_hz,
            # end of options
        ),
    )
    check_choice("on_error", on_error, ON_ERROR)
    if isinstance(options.channels, str):
        options = replace(options, channels=[options.channels])
    return _read_all(path, find_recordings(path, options), options, on_error)


@takes_options
def read_sensors(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    on_error: str = "stop",
) -> dict[str, list[Recording]]:
    """Read the recordings of several sensors into memory, each sensor at its own rate.

    Pass the result to a `PreparePipeline` with ``native_rates=True``.

    Parameters
    ----------
    path : path-like
        As in `read_recordings`.
    options : ReadOptions, optional
        Options that define which files belong together and how to read them, such as
        ``ReadOptions(files=["pro_*.csv", "imu_*.csv"], pair="{sensor}_{recording}.*")``.
        In robot logs, each topic is a sensor; the channels determine which topics are read.
    on_error : {"stop", "skip"}, default="stop"
        As in `read_recordings`.

    Returns
    -------
    dict of str to list of Recording
        The recordings of each sensor, keyed by the sensor's name, in the order of `files`. For
        robot logs, the sensors are sorted by topic. Recordings with the same `recording_id` were
        recorded together.

    Raises
    ------
    RecordingError
        If a recording cannot be read, or if a recording is a single file other than a robot log and
        no `sensor_column` is given.
    ArgumentError
        If a pattern, a label or an exclusion matches nothing.
    """
    options = as_options(options)
    sources = find_recordings(path, options)
    sources_of = sources_by_sensor(sources, options.channels, salvage=on_error == "skip")
    channels_of = channels_of_sensors(options.channels, sources_of)
    return {
        name: _read_all(path, listed, replace(options, channels=channels_of[name]), on_error)
        for name, listed in sources_of.items()
    }


def _check_all_used(recordings: list[Recording], options: ReadOptions) -> None:
    """Warn if no recording needs the given rate; raise an error for labels that do not occur."""
    clocks = [cast(dict[str, Any], r.attributes.get("clock", {})) for r in recordings]
    if options.sample_rate_hz and not any("sample_rate_hz" in clock for clock in clocks):
        warnings.warn(
            f"sample_rate_hz={options.sample_rate_hz:g} is not used: it is the rate of rows"
            " without timestamps, but all recordings have timestamps. To resample, give the"
            " rate to PreparePipeline.",
            stacklevel=4,
        )
    if options.label_column is not None:  # otherwise, labels were checked before reading
        kept = {label for recording in recordings for label in recording.labels}
        left_out = [name for recording in recordings for name in left_out_classes(recording)]
        check_labels(options.labels, kept, "of a recording", left_out)


def _read_all(
    path: str | os.PathLike[str],
    sources: list[RecordingSource],
    options: ReadOptions,
    on_error: str,
) -> list[Recording]:
    recordings = []
    for source in sources:
        try:
            recording = read_source(source, replace(options, salvage=on_error == "skip"))
            recordings.append(recording)
            salvaged = cast(dict[str, Any], recording.attributes.get("salvaged", {}))
            if salvaged:
                warnings.warn(printable(f"salvaged: {salvaged['reason']}"), stacklevel=2)
        except RecordingError as error:
            if on_error == "stop":
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
    if not recordings:
        raise RecordingError(f"{path}: none of {len(sources)} recording(s) can be read.")
    _check_all_used(recordings, options)
    return recordings
