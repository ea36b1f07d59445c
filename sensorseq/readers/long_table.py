"""Read recordings from one long table: CSV or Parquet with a column that names the recording."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.readers.columns import check_names, check_timestamps, find_time_column
from sensorseq.readers.csv import read_csv_table, read_csv_words
from sensorseq.readers.parquet import as_labels, as_stamps, recording_of_table, unreadable
from sensorseq.recording import Recording


class TableRows(NamedTuple):
    """The rows of one recording in a table of many."""

    column: str
    recording: str
    not_channels: tuple[str, ...]  # columns of groups and of labels of whole recordings
    row_groups: tuple[int, ...]  # of a Parquet file, that contain such rows

    def where(self, path: Path) -> Path:
        """Return the path for messages, with the recording."""
        return path.with_name(f"{path.name} ({self.column} {self.recording!r})")


class TableRecording(NamedTuple):
    """A recording of a table, as `list_table` finds it."""

    rows: TableRows
    group: str
    label: str | None  # None when it has none, or several


def list_table(
    path: Path, recording_column: str, group_column: str | None, label_column: str | None
) -> list[TableRecording]:
    """Return the recordings of a table in one pass, holding only what names them."""
    names = [name for name in (recording_column, group_column, label_column) if name is not None]
    seen: dict[str, dict[tuple[str | None, ...], None]] = {}
    row_groups: dict[str, list[int]] = {}
    first_row = 1
    for row_group, batch in _batches(path, list(dict.fromkeys(names))):
        texts = pa.table({str(i): pa.array(as_labels(path, n, batch)) for i, n in enumerate(names)})
        ids = texts["0"]
        if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
            row = next(i for i, text in enumerate(ids.to_pylist()) if not text)
            raise RecordingError(
                f"{path}, row {first_row + row}: column {recording_column!r} is empty; name the"
                " recording of every row."
            )
        for one in texts.group_by(texts.column_names, use_threads=False).aggregate([]).to_pylist():
            recording, *rest = one.values()
            seen.setdefault(recording, {})[tuple(rest)] = None
            if row_group not in (found := row_groups.setdefault(recording, [])):
                found.append(row_group)
        first_row += len(batch)
    if not seen:
        raise RecordingError(f"{path}: has a header but no samples.")
    return [
        _recording(
            path,
            TableRows(recording_column, recording, (), tuple(row_groups[recording])),
            list(rest),
            group_column,
            label_column,
        )
        for recording, rest in sorted(seen.items())
    ]


def _recording(
    path: Path,
    rows: TableRows,
    found: list[tuple[str | None, ...]],
    group_column: str | None,
    label_column: str | None,
) -> TableRecording:
    groups = {one[0] for one in found} if group_column is not None else {rows.recording}
    labels = {one[-1] or None for one in found} if label_column is not None else {None}
    group = groups.pop() if len(groups) == 1 else None
    if not group:
        listed = ", ".join(sorted(repr(name) for name in groups if name)[:3])
        raise RecordingError(
            f"{rows.where(path)}: needs one group in all its rows of column {group_column!r}; it"
            f" has {listed or 'none'}."
        )
    label = labels.pop() if len(labels) == 1 else None
    aside = (group_column, None if label is None else label_column)
    not_channels = tuple(name for name in aside if name is not None)
    return TableRecording(rows._replace(not_channels=not_channels), group, label)


def read_table_recording(path: Path, rows: TableRows, **arguments: Any) -> Recording:
    """Read one recording of a table; the arguments are those of `read_parquet`."""
    table = _rows_of(path, _version(path), rows)
    channels = [name for name in table.column_names if name not in rows.not_channels]
    return recording_of_table(rows.where(path), table.select(channels), **arguments)


def read_table_timestamps(
    path: Path,
    rows: TableRows,
    time_column: str | None,
    *,
    repair_stamps: bool = False,
    time_unit: str | None = None,
) -> NDArray[np.float64]:
    """Return the time stamps of one recording of a table."""
    table, where = _rows_of(path, _version(path), rows), rows.where(path)
    name = find_time_column(where, table.column_names, time_column)
    stamps = as_stamps(where, name, table[name], time_unit).seconds
    return check_timestamps(where, stamps, name, repair_stamps=repair_stamps)


def digest_rows(path: Path, rows: TableRows) -> dict[str, Any]:
    """Return ``sha256`` and ``size_bytes`` of the rows of one recording, in their order."""
    digest, size = hashlib.sha256(), 0
    table = _rows_of(path, _version(path), rows)
    for name in sorted(table.column_names):
        column = table[name]
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            content = column.to_numpy().tobytes()
        else:
            content = repr(column.to_pylist()).encode()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
        size += len(content)
    return {"sha256": digest.hexdigest(), "size_bytes": size}


@lru_cache(maxsize=1)  # the digest and the recording are made of the same rows
def _rows_of(path: Path, version: tuple[int, int], rows: TableRows) -> pa.Table:
    """Return the rows of a recording without the column that names it."""
    if path.suffix != ".parquet":
        table, places = _csv_by_recording(path, version, rows.column)
        return table.slice(*places[rows.recording])
    parts = []
    with _parquet(path) as file:
        for row_group in rows.row_groups:
            part = file.read_row_group(row_group, use_threads=False)
            ids = pa.array(as_labels(path, rows.column, part))
            parts.append(part.filter(pc.equal(ids, rows.recording)).drop_columns([rows.column]))
    return pa.concat_tables(parts).combine_chunks()


@lru_cache(maxsize=1)
def _csv_by_recording(
    path: Path, version: tuple[int, int], recording_column: str
) -> tuple[pa.Table, dict[str, tuple[int, int]]]:
    """Return a CSV table sorted by recording, and where the rows of each begin and how many."""
    table = read_csv_table(path, recording_column)
    ids = table[recording_column].combine_chunks().dictionary_encode()
    codes = ids.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(ids.dictionary))
    starts = np.cumsum(counts) - counts
    places = zip(starts.tolist(), counts.tolist(), strict=True)
    table = table.drop_columns([recording_column]).take(order)
    return table, dict(zip(ids.dictionary.to_pylist(), places, strict=True))


def _batches(path: Path, names: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the named columns of a table piece by piece, with the number of the row group."""
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            check_names(path, names, file.schema_arrow.names)
            for row_group in range(file.num_row_groups):
                yield row_group, file.read_row_group(row_group, columns=names, use_threads=False)
        return
    yield 0, read_csv_words(path, names)


@contextmanager
def _parquet(path: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
    return status.st_size, status.st_mtime_ns
