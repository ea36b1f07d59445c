"""Read recordings from Apache Parquet tables."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sensorseq.base.checks import check_unpacked
from sensorseq.errors import RecordingError, repeated
from sensorseq.io.blocks import Rows
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.columns import (
    CodedLabels,
    NumberColumns,
    Origin,
    Table,
    is_missing,
    read_recording,
    stamps_of_rows,
    texts_of_numbers,
)
from sensorseq.readers.text_columns import TextColumn
from sensorseq.recording import Recording, column_names
from sensorseq.stamps.dates import DateTexts
from sensorseq.stamps.read import Stamps, seconds_of

# Maximum length of lists that become channels; longer lists are images or spectra.
MOST_PLACES = 512


@takes_options
def read_parquet(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a Parquet file with a column for time and one for each channel.

    A column of lists that all contain k numbers becomes k channels, ``name[0]``, ``name[1]`` and so
    on. Columns without numbers, and columns of lists of different lengths, are left out and listed
    in ``attributes["dropped_columns"]``; a null is a missing sample. A time column of a timestamp
    type becomes seconds since 1970, or since the first timestamp if nanoseconds need more digits
    than a float has. A time column of a duration type becomes seconds. ``unit`` in the metadata of
    a field is the channel's unit.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `stamps`, `label_column` and `sample_rate_hz`
        are used.

    Raises
    ------
    RecordingError
        If the file is missing, truncated or not a Parquet file, or if its table is not a recording.
    """
    options = as_options(options)
    return read_recording(open_parquet, path, options, Origin(recording_id, group, label))


class ArrowTable(Table):
    """An Arrow table; `text_column` creates converters for columns of strings.

    `names_of` contains, for columns of lists, the names of the list elements.
    """

    def __init__(
        self,
        path: Path,
        table: "pa.Table | _StoredTable",
        text_column: Callable[[Path, str], TextColumn] = TextColumn,
        names_of: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        metadata = {name: table.schema.field(name).metadata for name in table.column_names}
        stored = {name: (facts or {}).get(b"unit") for name, facts in metadata.items()}
        units = {name: unit.decode() for name, unit in stored.items() if unit}
        self._table, self._text_column = table, text_column
        self._lists = {
            name: _names_of(name, n_places, names_of or {})
            for name, n_places in _places_in(table).items()
        }
        self._places = {
            channel: (name, place)
            for name, channels in self._lists.items()
            for place, channel in enumerate(channels)
        }
        names = [
            channel for name in table.column_names for channel in self._lists.get(name, (name,))
        ]
        if (twice := repeated(names)) is not None:
            raise RecordingError(
                f"{path}: {twice!r} is the name of a column and of a list element in another"
                " column; rename one of the columns."
            )
        list_units = {c: units[name] for c, (name, _) in self._places.items() if name in units}
        super().__init__(path, names, {**units, **list_units})

    def text_column(self, path: Path, name: str) -> TextColumn:
        """Return the converter that the given function `text_column` creates."""
        return self._text_column(path, name)

    def as_arrow(self, words: str) -> pa.Table:
        """Return the table with all its rows in memory."""
        return self._table if isinstance(self._table, pa.Table) else self._table.in_memory()

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Read the columns one by one."""
        wanted = {self._stored(name)[0] for name in {*names, time_name}}
        table = self._table.select([name for name in self._table.column_names if name in wanted])
        columns: NumberColumns = {}
        for name in names:
            if name in columns:
                continue
            lists, place = self._stored(name)
            if place is None:
                columns[name] = _as_numbers(self.path, name, table[name], self._text_column)
                continue
            # read only once for all positions in the lists
            numbers = _places_as_numbers(table[lists], len(self._lists[lists]))
            columns |= dict(zip(self._lists[lists], numbers, strict=True))
        columns = {name: columns[name] for name in names}
        if not time_name:
            return columns, stamps_of_rows(columns, options)
        return columns, self._stamps(time_name, self._column(table, time_name), options.time_unit)

    def _stored(self, name: str) -> tuple[str, int | None]:
        """Return a channel's column in the file, and its position if the column contains lists."""
        return self._places.get(name, (name, None))

    def _column(self, table: "pa.Table | _StoredTable", name: str) -> "_ArrowColumn":
        """Return a column, or the numbers at one position in a column of lists."""
        stored, place = self._stored(name)
        return table[stored] if place is None else _ListPlace(table[stored], place)

    def _stamps(self, name: str, column: "_ArrowColumn", time_unit: str | None) -> Stamps:
        path, type_ = self.path, column.type
        if pa.types.is_timestamp(type_) or pa.types.is_duration(type_):
            kind = "M" if pa.types.is_timestamp(type_) else "m"
            missing = np.iinfo(np.int64).min
            ticks = _array(
                column, np.int64, lambda c: c.cast(pa.int64()).fill_null(missing).to_numpy()
            )
            return seconds_of(path, name, ticks.view(f"{kind}8[{type_.unit}]"), time_unit)
        if pa.types.is_integer(type_) and not column.null_count:
            whole = _array(column, type_.to_pandas_dtype(), lambda chunk: chunk.to_numpy())
            return seconds_of(path, name, whole, time_unit)
        numbers = _as_numbers(path, name, column)
        if numbers is not None:
            return seconds_of(path, name, numbers, time_unit)
        if _is_text(type_) or pa.types.is_time(type_):
            dates = DateTexts(path, name)
            ticks = _array(column, "M8[ns]", lambda chunk: dates.ticks(chunk.cast(pa.string())))
            return seconds_of(path, name, ticks, time_unit)
        raise RecordingError(
            f"{path}: column {name!r} of type {type_} has no numbers; timestamps must be seconds"
            " or have a timestamp type."
        )

    def labels(self, name: str) -> CodedLabels:
        """Return a column as the label of each row."""
        position: dict[str | None, int] = {}

        def codes_of(chunk: pa.Array) -> list[int]:
            labels = as_labels(self.path, name, pa.table({name: chunk}))
            return [position.setdefault(label, len(position)) for label in labels]

        table = self._table.select([self._stored(name)[0]])
        codes = _array(self._column(table, name), np.int32, codes_of)
        return CodedLabels(codes, list(position))


def open_parquet(path: Path, options: ReadOptions) -> ArrowTable:
    """Open a Parquet file; a large file stays on disk if there is a folder for its values."""
    with opened(path) as file:
        names = names_in(path, file)
        n_bytes = check_size(path, file)
        fields = zip(names, file.schema_arrow, strict=True)
        schema = pa.schema([field.with_name(name) for name, field in fields])
        stored = _StoredTable(path, list(names), schema, options.folder_for(n_bytes), names)
    return ArrowTable(path, stored)


def check_size(path: Path, file: pyarrow.parquet.ParquetFile) -> int:
    """Return the size of a file's numbers in memory; raise an error if it is implausible."""
    paths = {i: file.schema.column(i).path for i in range(len(file.schema))}
    lists = {i: path for i, path in paths.items() if file.schema.column(i).max_repetition_level}
    n_values = 0
    for i in range(file.num_row_groups):
        group = file.metadata.row_group(i)
        n_values += group.num_rows * (len(paths) - len(lists))
        for place, name in lists.items():
            # If a column's metadata are damaged, `column` would abort the process, but reading a
            # row raises an error.
            next(file.iter_batches(1, [i], [name], use_threads=False), None)
            # Count only list elements that may become channels.
            n_values += min(group.column(place).num_values, MOST_PLACES * group.num_rows)
    n_bytes = 8 * n_values
    check_unpacked(path, n_bytes, path.stat().st_size)
    return n_bytes


def names_in(path: Path, file: pyarrow.parquet.ParquetFile) -> dict[str, str]:
    """Return the column names in the file, keyed by the names without surrounding blanks."""
    stored = file.schema_arrow.names
    if (twice := repeated(stored)) is not None:
        raise RecordingError(
            f"{path}: column {twice!r} appears more than once; rename one of them."
        )
    return dict(zip(column_names(stored), stored, strict=True))


def without_blanks(table: pa.Table) -> pa.Table:
    """Return a table whose columns have the names from `names_in`."""
    return table.rename_columns(column_names(table.column_names))


@contextmanager
def opened(path: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a Parquet file; a damaged file, or another kind of file, raises an error."""
    try:
        # The file is opened first, because pyarrow would read a folder as a data set.
        with path.open("rb") as file:
            yield pyarrow.parquet.ParquetFile(file)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise RecordingError(f"{path}: cannot be read ({error.strerror or error}).") from error
        if path.is_file() and path.stat().st_size == 0:
            raise RecordingError(f"{path}: the file is empty.") from error
        refuse_pointer(path)
        raise RecordingError(
            f"{path}: not a complete Parquet file ({error}); it is truncated or not a Parquet file."
        ) from error


def refuse_pointer(path: Path) -> None:
    """Raise an error if a file is a Git LFS pointer to content that is not yet downloaded."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise RecordingError(
                f"{path}: is a Git LFS pointer instead of the file; download the files with"
                " `git lfs pull`."
            )


@dataclass(frozen=True)
class _StoredColumn:
    """A column of a large file, read in parts."""

    path: Path
    name: str  # the column's name in the file
    type: pa.DataType
    folder: Path | None  # folder for the column's values

    def iterchunks(self) -> Iterator[pa.Array]:
        with opened(self.path) as file:
            # Read one row group at a time, because a reader of several groups keeps all their
            # bytes in memory.
            for row_group in range(file.num_row_groups):
                read = {"row_groups": [row_group], "columns": [self.name]}
                for batch in file.iter_batches(**read, use_threads=False):
                    yield batch.column(0)

    @property
    def null_count(self) -> int:
        return sum(chunk.null_count for chunk in self.iterchunks())


@dataclass(frozen=True)
class _StoredTable:
    """A file whose columns are read when needed; their values may be stored in a folder."""

    path: Path
    column_names: list[str]
    schema: pa.Schema
    folder: Path | None
    names: Mapping[str, str]  # names in the file, by column

    def in_memory(self) -> pa.Table:
        with opened(self.path) as file:
            return file.read(use_threads=False)

    def select(self, names: list[str]) -> "pa.Table | _StoredTable":
        if self.folder is not None:
            return self
        with opened(self.path) as file:
            stored = [self.names[name] for name in names]
            return file.read(stored, use_threads=False).select(stored).rename_columns(names)

    def __getitem__(self, name: str) -> _StoredColumn:
        type_ = self.schema.field(name).type
        return _StoredColumn(self.path, self.names[name], type_, self.folder)


@dataclass(frozen=True)
class _ListPlace:
    """The numbers at one position in a column of lists, read like a column of numbers."""

    lists: "pa.ChunkedArray | _StoredColumn"
    place: int

    @property
    def type(self) -> pa.DataType:
        return self.lists.type.value_type

    @property
    def folder(self) -> Path | None:
        return getattr(self.lists, "folder", None)

    @property
    def null_count(self) -> int:
        return sum(chunk.null_count for chunk in self.iterchunks())

    def iterchunks(self) -> Iterator[pa.Array]:
        import pyarrow.compute as pc  # slow to import

        for chunk in self.lists.iterchunks():
            yield pc.list_element(chunk, self.place)


_ArrowColumn: TypeAlias = pa.ChunkedArray | _StoredColumn | _ListPlace


def _places_in(table: "pa.Table | _StoredTable") -> dict[str, int]:
    """For each column of equally long lists of numbers, return the length of the lists."""
    n_places: dict[str, int] = {}
    for field in table.schema:
        type_ = field.type
        is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
        if not (is_list or pa.types.is_fixed_size_list(type_)):
            continue
        if not any(is_kind(type_.value_type) for is_kind in _NUMBERS):
            continue
        import pyarrow.compute as pc  # slow to import

        sizes = {type_.list_size} if not is_list else set()
        for chunk in table[field.name].iterchunks() if is_list else ():
            sizes.update(pc.list_value_length(chunk).unique().to_pylist())
        sizes.discard(None)
        if len(sizes) == 1 and 0 < (size := sizes.pop()) <= MOST_PLACES:
            n_places[field.name] = size
    return n_places


def _names_of(name: str, n_places: int, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return names for the list elements of a column: known names, or names with positions."""
    if len(known.get(name, ())) == n_places:
        return known[name]
    return tuple(f"{name}[{place}]" for place in range(n_places))


def _array(
    column: "_ArrowColumn",
    dtype: DTypeLike,
    values_of: Callable[[pa.Array], ArrayLike],
) -> NDArray[Any]:
    """Return the values of all chunks, on disk if the column has a folder for them."""
    rows = Rows(getattr(column, "folder", None), dtype)
    for chunk in column.iterchunks():
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(chunk.type.value_type)
        rows.append(np.asarray(values_of(chunk)))
    return rows.as_array()


def _as_numbers(
    path: Path,
    name: str,
    column: "_ArrowColumn",
    text_column: Callable[[Path, str], TextColumn] = TextColumn,
) -> NDArray[np.float64] | None:
    type_ = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(type_):
        text = text_column(path, name)
        numbers = _array(column, np.float64, lambda chunk: text.numbers_of(chunk.to_pylist()))
        return numbers if text.has_numbers() or not len(numbers) else None
    if not any(is_kind(type_) for is_kind in _NUMBERS):
        return None
    numbers = _array(column, np.float64, _numbers_of)
    return None if is_missing(numbers) else numbers


def _numbers_of(chunk: pa.Array) -> NDArray[np.float64]:
    # Whole numbers above 2**53 lose digits here, because all measurements are stored as floats.
    numbers = chunk.cast(pa.uint8()) if pa.types.is_boolean(chunk.type) else chunk
    floats = numbers.cast(pa.float64(), safe=False)
    if floats.null_count:
        return np.asarray(floats.to_numpy(zero_copy_only=False), np.float64)
    return np.asarray(np.from_dlpack(floats), np.float64)  # `to_numpy` would import pandas


def _places_as_numbers(
    column: "pa.ChunkedArray | _StoredColumn", n_places: int
) -> list[NDArray[np.float64] | None]:
    """Return the numbers at each position in a column of lists; the column is read only once."""
    import pyarrow.compute as pc  # slow to import

    places = [Rows(getattr(column, "folder", None), np.float64) for _ in range(n_places)]
    for chunk in column.iterchunks():
        for place, rows in enumerate(places):
            rows.append(_numbers_of(pc.list_element(chunk, place)))
    numbers = [rows.as_array() for rows in places]
    return [None if is_missing(values) else values for values in numbers]


_NUMBERS = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def as_labels(path: Path, name: str, table: pa.Table) -> list[str | None]:
    """Convert a column of strings or numbers to strings."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts: list[str | None] = column.to_pylist()
        return texts
    numbers = _as_numbers(path, name, column)
    return [None] * len(column) if numbers is None else texts_of_numbers(numbers)
