"""Read recordings from CSV, Parquet, HDF5, NumPy and MATLAB files, and from robot logs."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sensorseq.errors import RecordingError, check_choice, printable
from sensorseq.readers.arrays import list_arrays, read_arrays
from sensorseq.readers.csv import read_csv
from sensorseq.readers.find import RecordingSource, find_recordings
from sensorseq.readers.hdf5 import read_hdf5
from sensorseq.readers.join import join_sensors
from sensorseq.readers.parquet import read_parquet
from sensorseq.readers.robot_logs import Topic, list_topics, read_robot_log
from sensorseq.readers.source import digest_file, digest_source, read_source, read_source_rate
from sensorseq.recording import Recording

__all__ = [
    "ON_ERROR",
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
    "read_source",
    "read_source_rate",
]

ON_ERROR = ("stop", "skip")
"""The ways in which `read_recordings` can handle a recording that cannot be read."""


def read_recordings(
    path: str | os.PathLike[str],
    *,
    files: str | Sequence[str] | None = None,
    time_column: str | None = None,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    pair: str | None = None,
    manifest: str | os.PathLike[str] | bool | None = None,
    repair_stamps: bool = False,
    on_error: str = "stop",
    label_column: str | None = None,
    units: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    recording_column: str | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    no_header: bool | None = None,
    names: Sequence[str] | None = None,
    sample_rate_hz: float | None = None,
) -> list[Recording]:
    """Read all recordings of a folder, a manifest or a single file into memory.

    CSV (also ``.csv.gz``), Parquet, HDF5, NumPy, MATLAB and robot logs, by suffix; see `read_csv`,
    `read_parquet`, `read_hdf5`, `read_arrays`, `read_robot_log`. Use `prepare` for recordings that
    do not fit in memory.

    Parameters
    ----------
    path, files, labels, exclude, pair, manifest, recording_column, group_column
        Which recordings to read; see `find_recordings`.
    encoding, delimiter, decimal, no_header, names
        How CSV files are written; see `read_csv`.
    time_column, channels, repair_stamps, label_column, units, time_unit, sample_rate_hz
        As in `read_source`.
    on_error : {"stop", "skip"}, default="stop"
        skip: leave out recordings that cannot be read, with a warning that gives the reason; of a
        damaged robot log, what is before the damage is used.

    Returns
    -------
    list of Recording
        With several sensors (`pair`), each has the stamps of all and NaN in between; see
        `join_sensors`.

    Raises
    ------
    RecordingError
        If a recording cannot be read, or none remains.
    ArgumentError
        If a pattern, a label or an exclusion matches nothing.
    """
    check_choice("on_error", on_error, ON_ERROR)
    channels = [channels] if isinstance(channels, str) else channels
    sources = find_recordings(
        path,
        files=files,
        pair=pair,
        labels=labels,
        exclude=exclude,
        manifest=manifest,
        recording_column=recording_column,
        group_column=group_column,
        label_column=label_column,
        encoding=encoding,
        delimiter=delimiter,
        decimal=decimal,
        no_header=no_header,
        names=names,
    )
    recordings = []
    for source in sources:
        try:
            recording = read_source(
                source,
                time_column=time_column,
                channels=channels,
                repair_stamps=repair_stamps,
                label_column=label_column,
                units=units,
                time_unit=time_unit,
                sample_rate_hz=sample_rate_hz,
                salvage=on_error == "skip",
            )
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
    return recordings
