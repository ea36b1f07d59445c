"""Read recordings from CSV, Parquet, HDF5, NumPy and MATLAB files, and from robot logs."""

import os
import warnings
from dataclasses import replace
from typing import Any, Unpack, cast

from sensorseq.errors import RecordingError, check_choice, printable
from sensorseq.options import (
    ReadArguments,
    ReadOptions,
    as_options,
    check_names,
    combined,
    shows_options,
    takes_options,
)
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


@shows_options(ReadOptions, ReadArguments)
def read_recordings(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    on_error: str = "stop",
    **by_name: Unpack[ReadArguments],
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
    on_error : {"stop", "skip"}, default="stop"
        With ``"skip"``, recordings that cannot be read are left out, with a warning that gives the
        reason, and a damaged robot log is used up to the damage.
    **by_name
        Options by name; see `ReadOptions`. An option that is None counts as not given.

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
    check_names("read_recordings", by_name, ("options", *ReadArguments.__annotations__))
    options = combined(options, by_name)
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
