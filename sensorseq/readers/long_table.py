"""Read the rows of one recording or sensor from a table with a column of recordings or sensors."""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sensorseq.base.checks import refuse_stray
from sensorseq.base.text import parse_number
from sensorseq.errors import RecordingError
from sensorseq.readers.columns import Table, as_label, check_names
from sensorseq.readers.csv import USUAL_FORM, CsvFormat, read_csv_table, read_csv_words
from sensorseq.readers.parquet import (
    ArrowTable,
    as_labels,
    check_size,
    names_in,
    opened,
    without_blanks,
)
from sensorseq.readers.text_columns import TextColumn

_FEW_ROW_GROUPS = 4  # a recording is read separately if it is in at most this many row groups
_MOST_BYTES = 2**28  # maximum size of a Parquet table that is sorted in memory


class TableRows(NamedTuple):
    """The rows of one recording in a table of many recordings."""

    column: str
    recording: str
    not_channels: tuple[str, ...]  # the group column, and the label column if all labels are equal
    row_groups: tuple[int, ...]  # row groups of a Parquet file that contain these rows
    form: CsvFormat = USUAL_FORM
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()  # names of the list elements, by column
    pictures: tuple[str, ...] = ()  # columns of images, in this file or others, which are not read

    def where(self, path: Path) -> Path:
        """Return the path with the recording's name, for messages."""
        return Path(f"{path} ({self.column} {self.recording!r})")


def list_table(
    path: Path,
    recording_column: str,
    group_column: str | None,
    label_column: str | None,
    form: CsvFormat,
) -> Iterator[tuple[TableRows, str, str | None]]:
    """Yield the rows, group and label of each recording; the columns are read only once.

    The label is None if a recording has no label or several labels.
    """
    names = [recording_column, group_column or recording_column, label_column or recording_column]
    seen: dict[str, tuple[set[str | None], set[str | None], set[int]]] = {}
    first_row = 1
    for row_group, batch in _batches(path, list(dict.fromkeys(names)), form):
        texts = pa.table([_texts(path, name, batch) for name in names], ["id", "group", "label"])
        if texts["id"].null_count or texts["id"].index("").as_py() >= 0:
            row = first_row + [bool(text) for text in texts["id"].to_pylist()].index(False)
            raise RecordingError(
                f"{path}, row {row}: column {recording_column!r} is empty; name the recording of"
                " every row."
            )
        at = texts["id"].index(recording_column).as_py()
        if at >= 0 and texts["id"][at + 1 : at + 2].to_pylist() != [recording_column]:
            refuse_stray(path, first_row + at, recording_column, recording_column)
        by_texts = texts.group_by(texts.column_names, use_threads=False)
        for row_texts in by_texts.aggregate([]).to_pylist():
            groups, labels, row_groups = seen.setdefault(row_texts["id"], (set(), set(), set()))
            groups.add(row_texts["group"] or None)
            labels.add(as_label(row_texts["label"]))
            row_groups.add(row_group)
        first_row += len(batch)
    if not seen:
        raise RecordingError(f"{path}: has a header but no samples.")
    for recording, (groups, labels, row_groups) in sorted(seen.items()):
        label = next(iter(labels)) if len(labels) == 1 and label_column is not None else None
        facts = (group_column, label_column if label is not None else None)
        not_channels = tuple(name for name in facts if name is not None)
        rows = TableRows(recording_column, recording, not_channels, tuple(sorted(row_groups)), form)
        if len(groups) > 1 or None in groups:
            listed = ", ".join(sorted(repr(name) for name in groups if name)[:3])
            raise RecordingError(
                f"{rows.where(path)}: must have the same group in all rows of column"
                f" {group_column!r}, but has {listed or 'none'}."
            )
        yield rows, str(groups.pop()), label


def _texts(path: Path, name: str, table: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Convert a column to strings; whole numbers keep all digits."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        with suppress(pa.ArrowInvalid):  # raised if some numbers have fractions
            column = column.cast(pa.int64())
    if pa.types.is_integer(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        return column
    return pa.array(as_labels(path, name, table), pa.string())


def open_rows(path: Path, rows: TableRows) -> ArrowTable:
    """Open the rows of one recording as a table."""
    table = recording_table(path, rows)
    channels = [name for name in table.column_names if name not in rows.not_channels]
    texts = TextColumn if path.suffix == ".parquet" else rows.form.text_column
    table = table.select(channels)
    for name in rows.pictures:
        table = table.append_column(name, pa.nulls(len(table)))
    return ArrowTable(rows.where(path), table, texts, dict(rows.names))


def recording_table(path: Path, rows: TableRows) -> pa.Table:
    """Return the rows of one recording, without the column that names it."""
    return _rows_of(path, _version(path), rows)


def rows_of_sensors(table: Table, column: str) -> dict[str, ArrowTable]:
    """Return the rows of each sensor in a column; number 1 in column ``leg`` becomes ``leg_1``."""
    import pyarrow.compute as pc  # slow to import

    path = table.path
    check_names(path, [column], table.names)
    whole = table.as_arrow(column)
    texts = pc.utf8_trim_whitespace(_texts(path, column, whole))
    if texts.null_count or (row := texts.index("").as_py()) >= 0:
        row = texts.to_pylist().index(None) if texts.null_count else row
        raise RecordingError(
            f"{path}, row {row + 1}: column {column!r} is empty; name the sensor of every row."
        )
    tables: dict[str, ArrowTable] = {}
    for text in sorted(texts.unique().to_pylist(), key=_by_number):
        sensor = f"{column}_{text}" if parse_number(text) is not None else str(text)
        rows = whole.filter(pc.equal(texts, text)).drop_columns([column]).combine_chunks()
        where = Path(f"{path} ({column} {text!r})")
        tables[sensor] = ArrowTable(where, rows, table.text_column)
        tables[sensor].units |= table.units
    return tables


def _by_number(text: str) -> tuple[float, str]:
    number = parse_number(text)
    return (math.inf if number is None else number, text)


def digest_rows(path: Path, rows: TableRows) -> dict[str, Any]:
    """Return ``sha256`` and ``size_bytes`` of a recording's rows in their order in the table."""
    digest, size = hashlib.sha256(), 0
    table = recording_table(path, rows)
    for name in sorted(table.column_names):
        column = table[name]
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            content = column.to_numpy().tobytes()
        else:
            content = repr(column.to_pylist()).encode()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
        size += len(content)
    return {"sha256": digest.hexdigest(), "size_bytes": size}


@lru_cache(maxsize=1)  # the rows are needed twice: for the digest and for the recording
def _rows_of(path: Path, version: tuple[int, int], rows: TableRows) -> pa.Table:
    """Return a recording's rows without the column that names it."""
    if path.suffix == ".parquet":
        import pyarrow.compute  # slow to import

        with opened(path) as file:
            facts = file.metadata
            n_bytes = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        if len(rows.row_groups) <= _FEW_ROW_GROUPS or n_bytes > _MOST_BYTES:
            parts = []
            for row_group in rows.row_groups:
                part = _row_group(path, version, row_group, rows.pictures)
                is_wanted = pyarrow.compute.equal(_texts(path, rows.column, part), rows.recording)
                parts.append(part.filter(is_wanted).drop_columns([rows.column]))
            return pa.concat_tables(parts).combine_chunks()
    table, places = _by_recording(path, version, rows.column, rows.form, rows.pictures)
    return table.slice(*places[rows.recording])


@lru_cache(maxsize=2)  # consecutive recordings may be in the same row group
def _row_group(
    path: Path, version: tuple[int, int], row_group: int, left_out: tuple[str, ...]
) -> pa.Table:
    with opened(path) as file:
        return _without(left_out, file, partial(file.read_row_group, row_group))


def _without(
    left_out: tuple[str, ...], file: pq.ParquetFile, read: Callable[..., pa.Table]
) -> pa.Table:
    """Read all columns except those to leave out."""
    names = [name for name in file.schema_arrow.names if name not in left_out]
    return without_blanks(read(columns=names, use_threads=False).select(names))


@lru_cache(maxsize=1)
def _by_recording(
    path: Path,
    version: tuple[int, int],
    recording_column: str,
    form: CsvFormat,
    left_out: tuple[str, ...],
) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
    """Return a table sorted by recording, and each recording's first row and number of rows."""
    if path.suffix == ".parquet":
        with opened(path) as file:
            table = _without(left_out, file, file.read)
    else:
        table = read_csv_table(path, recording_column, form)
    texts = _texts(path, recording_column, table)
    ids = (texts if isinstance(texts, pa.Array) else texts.combine_chunks()).dictionary_encode()
    codes = ids.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(ids.dictionary))
    places = zip((np.cumsum(counts) - counts).tolist(), counts.tolist(), strict=True)
    table = table.drop_columns([recording_column]).take(order).combine_chunks()
    return table, dict(zip(ids.dictionary.to_pylist(), places, strict=True))


def _batches(path: Path, names: list[str], form: CsvFormat) -> Iterator[tuple[int, pa.Table]]:
    """Yield the named columns of a table in batches, each with its row-group number."""
    if path.suffix == ".parquet":
        with opened(path) as file:
            check_size(path, file)
            stored = names_in(path, file)
            check_names(path, names, list(stored))
            columns = [stored[name] for name in names]
            for row_group in range(file.num_row_groups):
                read = file.read_row_group(row_group, columns=columns, use_threads=False)
                yield row_group, read.select(columns).rename_columns(names)
        return
    yield 0, read_csv_words(path, names, form)


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
    return status.st_size, status.st_mtime_ns
