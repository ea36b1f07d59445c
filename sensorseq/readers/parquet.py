"""Read recordings from Apache Parquet tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sensorseq.errors import RecordingError, repeated
from sensorseq.io.scratch import Rows, folder_for
from sensorseq.memory import check_unpacked
from sensorseq.options import ReadOptions, takes_read_options
from sensorseq.readers.columns import (
    FILE_OPTIONS,
    CodedLabels,
    FileContent,
    TextColumn,
    check_label_column,
    check_timestamps,
    find_time_column,
    is_missing,
    make_recording,
    rate_of_rows,
    refusing_odd_content,
    stamps_of_rows,
    texts_of_numbers,
)
from sensorseq.readers.stamps import DateTexts, Stamps, seconds_of
from sensorseq.recording import Recording


@takes_read_options(*FILE_OPTIONS, "sample_rate_hz", "scratch")
@refusing_odd_content
def read_parquet(
    path: str | PathLike[str],
    options: ReadOptions,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a Parquet file with a column for time and one for each channel.

    Columns without numbers are left out and listed in ``attributes["dropped_columns"]``; a null is
    a missing sample. A time column of a timestamp type becomes seconds since 1970, or since the
    first one where nanoseconds need more digits than a float has; one of a duration type seconds. A
    field's metadata ``unit`` is the channel's unit.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `repair_stamps`, `label_column`, `sample_rate_hz` and
        `scratch` are used, and can be given by name.

    Raises
    ------
    RecordingError
        If the file is missing, truncated or not Parquet, or does not hold such a table.
    """
    path = Path(path)
    return recording_of_table(
        path, _read_table(path, None, options.scratch), options, recording_id, group, label
    )


def recording_of_table(
    path: Path,
    table: "pa.Table | _StoredTable",
    options: ReadOptions,
    recording_id: str | None,
    group: str,
    label: str | None,
    *,
    text_column: Callable[[Path, str], TextColumn] = TextColumn,
) -> Recording:
    """Make a recording of a table with a column for time and one for each channel.

    `text_column` makes what reads the numbers of a column of texts.
    """
    label_column = options.label_column
    rate_hz = rate_of_rows(table.column_names, options)
    time_name = "" if rate_hz else find_time_column(path, table.column_names, options.time_column)
    check_label_column(path, table.column_names, label_column, time_name, label)
    names = [name for name in table.column_names if name not in (time_name, label_column)]
    columns = {name: _as_numbers(path, name, table[name], text_column) for name in names}
    stored = {name: (table.schema.field(name).metadata or {}).get(b"unit") for name in names}
    if rate_hz:
        stamps = stamps_of_rows(columns, rate_hz)
    else:
        stamps = as_stamps(path, time_name, table[time_name], options.time_unit)
    content = FileContent(
        columns,
        stamps.seconds,
        time_name,
        None if label_column is None else _coded_labels(path, label_column, table[label_column]),
        {
            name: unit.decode()
            for name, unit in stored.items()
            if unit and columns[name] is not None
        },
        stamps.facts,
    )
    return make_recording(path, content, options, recording_id, group, label)


@refusing_odd_content
def read_parquet_timestamps(path: Path, options: ReadOptions) -> NDArray[np.float64]:
    """Read only the time stamps of a Parquet file; see `read_parquet`."""
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    return timestamps_of_table(
        path, names, lambda name: _read_table(path, [name], options.scratch)[name], options
    )


def timestamps_of_table(
    path: Path, names: list[str], column_of: Callable[[str], Any], options: ReadOptions
) -> NDArray[np.float64]:
    """Return the time stamps of a table, of which that column alone is read."""
    name = find_time_column(path, names, options.time_column)
    stamps = as_stamps(path, name, column_of(name), options.time_unit).seconds
    return check_timestamps(path, stamps, name, repair_stamps=bool(options.repair_stamps))


def _read_table(
    path: Path, columns: list[str] | None, scratch: str | PathLike[str] | None
) -> "pa.Table | _StoredTable":
    try:
        with path.open("rb") as file:  # not the name: a folder would be read as a data set
            parquet = pyarrow.parquet.ParquetFile(file)
            names = columns or parquet.schema_arrow.names
            n_bytes = 8 * parquet.metadata.num_rows * len(names)
            check_unpacked(path, n_bytes, path.stat().st_size)
            folder = None if scratch is None else folder_for(n_bytes, Path(scratch))
            if folder is not None and len(set(names)) == len(names):
                return _StoredTable(path, names, parquet.schema_arrow, folder)
            table = parquet.read(columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    twice = repeated(table.column_names)
    if twice is not None:
        raise RecordingError(f"{path}: column {twice!r} appears more than once.")
    return table


@dataclass(frozen=True)
class _StoredColumn:
    """A column of a large file, of which a part is read at a time."""

    path: Path
    name: str
    type: pa.DataType
    folder: Path  # for what becomes of it

    def iterchunks(self) -> Iterator[pa.Array]:
        try:
            with self.path.open("rb") as file:
                parquet = pyarrow.parquet.ParquetFile(file)
                # One at a time: a reader of several row groups holds the bytes of all of them.
                for row_group in range(parquet.num_row_groups):
                    read = {"row_groups": [row_group], "columns": [self.name]}
                    for batch in parquet.iter_batches(**read, use_threads=False):
                        yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self.path, error) from error

    @property
    def null_count(self) -> int:
        return sum(chunk.null_count for chunk in self.iterchunks())


@dataclass(frozen=True)
class _StoredTable:
    path: Path
    column_names: list[str]
    schema: pa.Schema
    folder: Path

    def __getitem__(self, name: str) -> _StoredColumn:
        return _StoredColumn(self.path, name, self.schema.field(name).type, self.folder)


def _array(
    column: "pa.ChunkedArray | _StoredColumn",
    dtype: DTypeLike,
    values_of: Callable[[pa.Array], ArrayLike],
) -> NDArray[Any]:
    """Return the values of all chunks, on disk if the column is."""
    rows = Rows(getattr(column, "folder", None), dtype)
    for chunk in column.iterchunks():
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(chunk.type.value_type)
        rows.append(np.asarray(values_of(chunk)))
    return rows.as_array()


def unreadable(path: Path, error: Exception) -> RecordingError:
    """Return the error for a file that is no Parquet file, or a damaged one."""
    if isinstance(error, OSError) and error.errno is not None:
        return RecordingError(f"{path}: cannot be read ({error.strerror or error}).")
    if path.is_file() and path.stat().st_size == 0:
        return RecordingError(f"{path}: the file is empty.")
    return RecordingError(
        f"{path}: not a complete Parquet file ({error}); it is truncated or another kind of file."
    )


def _as_numbers(
    path: Path,
    name: str,
    column: "pa.ChunkedArray | _StoredColumn",
    text_column: Callable[[Path, str], TextColumn] = TextColumn,
) -> NDArray[np.float64] | None:
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(type_):
        text = text_column(path, name)
        numbers = _array(column, np.float64, lambda chunk: text.numbers_of(chunk.to_pylist()))
        return numbers if text.has_numbers() or not len(numbers) else None
    if not any(is_kind(type_) for is_kind in _NUMBERS):
        return None
    # Whole numbers above 2**53 lose digits as any measurement read as a float does.
    numbers = _array(
        column,
        np.float64,
        lambda chunk: (
            (chunk.cast(pa.uint8()) if pa.types.is_boolean(type_) else chunk)
            .cast(pa.float64(), safe=False)
            .to_numpy(zero_copy_only=False)
        ),
    )
    return None if is_missing(numbers) else numbers


_NUMBERS = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


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


def _coded_labels(path: Path, name: str, column: "pa.ChunkedArray | _StoredColumn") -> CodedLabels:
    position: dict[str | None, int] = {}

    def codes_of(chunk: pa.Array) -> list[int]:
        labels = as_labels(path, name, pa.table({name: chunk}))
        return [position.setdefault(label, len(position)) for label in labels]

    codes = _array(column, np.int32, codes_of)
    return CodedLabels(codes, list(position))


def as_stamps(
    path: Path, name: str, column: "pa.ChunkedArray | _StoredColumn", time_unit: str | None
) -> Stamps:
    """Return a column as time stamps in seconds."""
    type_ = column.type
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_):
        kind = "M" if pa.types.is_timestamp(type_) else "m"
        missing = np.iinfo(np.int64).min
        ticks = _array(column, np.int64, lambda c: c.cast(pa.int64()).fill_null(missing).to_numpy())
        return seconds_of(path, name, ticks.view(f"{kind}8[{type_.unit}]"), time_unit)
    if pa.types.is_integer(type_) and not column.null_count:
        whole = _array(column, type_.to_pandas_dtype(), lambda chunk: chunk.to_numpy())
        return seconds_of(path, name, whole, time_unit)
    numbers = _as_numbers(path, name, column)
    if numbers is not None:
        return seconds_of(path, name, numbers, time_unit)
    if _is_text(type_):
        dates = DateTexts(path, name)
        return seconds_of(path, name, _array(column, "M8[ns]", dates.ticks), time_unit)
    raise RecordingError(
        f"{path}: column {name!r} of type {type_} holds no numbers; time stamps in seconds are"
        " needed, or a timestamp type."
    )
