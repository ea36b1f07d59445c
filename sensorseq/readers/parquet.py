"""Read recordings from Apache Parquet tables."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.readers.columns import (
    FileContent,
    check_label_column,
    check_timestamps,
    find_time_column,
    is_missing,
    make_recording,
    numbers_of_texts,
    texts_of_numbers,
)
from sensorseq.readers.stamps import Stamps, seconds_of
from sensorseq.recording import Recording


def read_parquet(
    path: str | PathLike[str],
    *,
    time_column: str | None = None,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
    units: Mapping[str, str] | None = None,
    repair_stamps: bool = False,
    label_column: str | None = None,
    time_unit: str | None = None,
    scratch: str | PathLike[str] | None = None,
) -> Recording:
    """Read one recording from a Parquet file with a column for time and one for each channel.

    Columns without numbers are left out and listed in ``attributes["dropped_columns"]``; a null is
    a missing sample. A time column of a timestamp type becomes seconds since 1970, or since the
    first one where nanoseconds need more digits than a float has; one of a duration type seconds. A
    field's metadata ``unit`` is the channel's unit.

    Parameters
    ----------
    path, recording_id, group, label, units, label_column, repair_stamps, time_unit, scratch
        As in `read_csv`; `units` overrides units stored in the file.
    time_column : str, optional
        Column of the time stamps; as in `read_csv` by default.

    Raises
    ------
    RecordingError
        If the file is missing, truncated or not Parquet, or does not hold such a table.
    """
    path = Path(path)
    return recording_of_table(
        path,
        _read_table(path, None),
        time_column=time_column,
        recording_id=path.name.removesuffix(".parquet") if recording_id is None else recording_id,
        group=group,
        label=label,
        units=units,
        repair_stamps=repair_stamps,
        label_column=label_column,
        time_unit=time_unit,
    )


def recording_of_table(
    path: Path,
    table: pa.Table,
    *,
    recording_id: str,
    time_column: str | None = None,
    group: str = "",
    label: str | None = None,
    units: Mapping[str, str] | None = None,
    repair_stamps: bool = False,
    label_column: str | None = None,
    time_unit: str | None = None,
) -> Recording:
    """Make a recording of a table with a column for time and one for each channel."""
    time_name = find_time_column(path, table.column_names, time_column)
    check_label_column(path, table.column_names, label_column, time_name, label)
    names = [name for name in table.column_names if name not in (time_name, label_column)]
    columns = {name: _as_numbers(path, name, table[name]) for name in names}
    stored = {name: (table.schema.field(name).metadata or {}).get(b"unit") for name in names}
    stamps = as_stamps(path, time_name, table[time_name], time_unit)
    content = FileContent(
        columns,
        stamps.seconds,
        time_name,
        None if label_column is None else as_labels(path, label_column, table),
        {
            name: unit.decode()
            for name, unit in stored.items()
            if unit and columns[name] is not None
        },
        stamps.facts,
    )
    return make_recording(
        path,
        content,
        recording_id=recording_id,
        group=group,
        label=label,
        units=units,
        repair_stamps=repair_stamps,
    )


def read_parquet_timestamps(
    path: Path,
    time_column: str | None,
    *,
    repair_stamps: bool = False,
    time_unit: str | None = None,
    scratch: str | PathLike[str] | None = None,
) -> NDArray[np.float64]:
    """Read only the time stamps of a Parquet file; see `read_parquet`."""
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    time_name = find_time_column(path, names, time_column)
    column = _read_table(path, [time_name])[time_name]
    stamps = as_stamps(path, time_name, column, time_unit).seconds
    return check_timestamps(path, stamps, time_name, repair_stamps=repair_stamps)


def _read_table(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        with path.open("rb") as file:  # not the name: a folder would be read as a data set
            table = pyarrow.parquet.read_table(file, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise RecordingError(f"{path}: column {twice[0]!r} appears more than once.")
    return table


def unreadable(path: Path, error: Exception) -> RecordingError:
    """Return the error for a file that is no Parquet file, or a damaged one."""
    if isinstance(error, OSError) and error.errno is not None:
        return RecordingError(f"{path}: cannot be read ({error.strerror or error}).")
    if path.is_file() and path.stat().st_size == 0:
        return RecordingError(f"{path}: the file is empty.")
    return RecordingError(
        f"{path}: not a complete Parquet file ({error}); it is truncated or another kind of file."
    )


def _as_numbers(path: Path, name: str, column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    type_ = column.type
    if column.null_count == len(column):
        return None if len(column) else np.empty(0)
    if pa.types.is_dictionary(type_):
        column, type_ = column.cast(type_.value_type), type_.value_type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return numbers_of_texts(path, name, column.to_pylist())
    if pa.types.is_boolean(type_):
        column = column.cast(pa.uint8())
    elif not (
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    ):
        return None
    # Whole numbers above 2**53 lose digits as any measurement read as a float does.
    numbers: NDArray[np.float64] = (
        column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64, copy=False)
    )
    return None if is_missing(numbers) else numbers


def as_labels(path: Path, name: str, table: pa.Table) -> list[str | None]:
    """Return a column of words or numbers as texts."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts: list[str | None] = column.to_pylist()
        return texts
    numbers = _as_numbers(path, name, column)
    return [None] * len(column) if numbers is None else texts_of_numbers(numbers)


def as_stamps(path: Path, name: str, column: pa.ChunkedArray, time_unit: str | None) -> Stamps:
    """Return a column as time stamps in seconds."""
    type_ = column.type
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_):
        kind = "M" if pa.types.is_timestamp(type_) else "m"
        ticks = column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
        return seconds_of(path, name, ticks.view(f"{kind}8[{type_.unit}]"), time_unit)
    if pa.types.is_integer(type_) and not column.null_count:
        return seconds_of(path, name, column.to_numpy(), time_unit)
    numbers = _as_numbers(path, name, column)
    if numbers is not None:
        return seconds_of(path, name, numbers, time_unit)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return seconds_of(path, name, column.to_pylist(), time_unit)
    raise RecordingError(
        f"{path}: column {name!r} of type {type_} holds no numbers; time stamps in seconds are"
        " needed, or a timestamp type."
    )
