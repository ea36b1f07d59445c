"""Read recordings from CSV text, plain or gzip-compressed."""

import csv
import gzip
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from sensorseq._signal import read_numbers
from sensorseq.errors import RecordingError
from sensorseq.readers.columns import (
    Columns,
    FileContent,
    check_label_column,
    check_names,
    check_timestamps,
    find_time_column,
    is_missing,
    make_recording,
    numbers_of_texts,
)
from sensorseq.readers.stamps import EXACT, Stamps, seconds_of
from sensorseq.recording import Recording


def read_csv(
    path: str | PathLike[str],
    *,
    time_column: str | None = "time_s",
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
    units: Mapping[str, str] | None = None,
    repair_stamps: bool = False,
    label_column: str | None = None,
    time_unit: str | None = None,
) -> Recording:
    """Read one recording from a CSV file with a header line.

    Every column of numbers except the time is a channel. A column without any number, such as a
    comment, is left out and listed in ``attributes["dropped_columns"]``. An empty field is a
    missing sample.

    Parameters
    ----------
    path : path-like
        The file; a name ending in ``.gz`` is decompressed.
    time_column : str or None, default="time_s"
        Column of the time stamps: seconds, or whole numbers of another unit, or ISO 8601 dates.
        None: ``time`` or ``time_s``, whichever is there, else the only one with a name such as
        ``t``, ``timestamp`` or ``time_ms``.
    recording_id : str, optional
        The file's name without suffixes by default.
    group, label : str, optional
        As in `Recording`.
    units : mapping of str to str, optional
        Unit of each channel by column name; unknown for channels not listed.
    repair_stamps : bool, default=False
        Sort rows by time and replace those with equal time stamps by their mean, rather than
        raise. ``attributes["repaired_stamps"]`` holds the counts ``n_out_of_order`` and
        ``n_duplicates``.
    label_column : str, optional
        Column with the label of each sample, words or numbers. Runs of equal labels become
        `label_spans`; an empty field is no label. Cannot be combined with `label`.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the time stamps. By default the one that the column's name ends in
        (``stamp_ns``); else seconds, or for whole numbers the only unit in which the rate is
        between 0.5 Hz and 20 kHz, or the date between 2000 and 2100.

    Returns
    -------
    Recording
        Values as float64. ``attributes["clock"]`` has the unit of the time stamps and how it is
        known, if it is not plain seconds. Stamps that a float cannot hold (nanoseconds since
        1970) count from the first one, whose time is ``attributes["clock"]["origin_ns"]``.

    Raises
    ------
    RecordingError
        If the file cannot be read as such a table, or its time stamps can be of several units.
    """
    path = Path(path)
    text = _read_bytes(path)
    names = _header(path, text)
    time_name = find_time_column(path, names, time_column)
    check_label_column(path, names, label_column, time_name, label)
    labels = None if label_column is None else _labels(path, text, label_column)
    columns = _numeric_columns(path, text, [name for name in names if name != label_column])
    stamps = _as_stamps(path, text, time_name, columns.pop(time_name), time_unit)
    if recording_id is None:
        recording_id = path.name.removesuffix(".gz").removesuffix(".csv")
    return make_recording(
        path,
        FileContent(columns, stamps.seconds, time_name, labels, clock=stamps.facts),
        recording_id=recording_id,
        group=group,
        label=label,
        units=units,
        repair_stamps=repair_stamps,
    )


def read_csv_timestamps(
    path: Path,
    time_column: str | None,
    *,
    repair_stamps: bool = False,
    time_unit: str | None = None,
) -> NDArray[np.float64]:
    """Read only the time stamps of a CSV file; see `read_csv`."""
    text = _read_bytes(path)
    names = _header(path, text)
    time_name = find_time_column(path, names, time_column)
    numbers = _numeric_columns(path, text, [time_name])[time_name]
    stamps = _as_stamps(path, text, time_name, numbers, time_unit).seconds
    return check_timestamps(path, stamps, time_name, repair_stamps=repair_stamps)


def read_csv_words(path: Path, names: list[str]) -> pa.Table:
    """Read columns as texts."""
    text = _read_bytes(path)
    check_names(path, names, _header(path, text))
    return _parse_words(path, text, names)


def read_csv_table(path: Path, words: str) -> pa.Table:
    """Read all columns: one as texts, the others as numbers where all their fields are."""
    text = _read_bytes(path)
    names = _header(path, text)
    check_names(path, [words], names)
    table = _parse_words(path, text, [words])
    for name in names:
        if name == words:
            continue
        try:
            column = _parse(text, [name], pa.float64())[name]
        except pa.ArrowInvalid:
            column = _parse_words(path, text, [name])[name]
        else:
            if (first := column[0].as_py()) is not None and abs(first) >= EXACT:
                with suppress(pa.ArrowInvalid):
                    column = _parse(text, [name], pa.int64())[name]
        table = table.append_column(name, column.combine_chunks())
    return table


def _as_stamps(
    path: Path,
    text: bytes,
    time_name: str,
    numbers: NDArray[np.float64] | None,
    time_unit: str | None,
) -> Stamps:
    if numbers is None:
        words = _parse_words(path, text, [time_name])[time_name].to_pylist()
        return seconds_of(path, time_name, words, time_unit)
    if len(numbers) and abs(numbers[0]) >= EXACT:  # it has lost digits as a float
        with suppress(pa.ArrowInvalid):
            whole = _parse(text, [time_name], pa.int64())[time_name]
            return seconds_of(path, time_name, whole.to_numpy(), time_unit)
    return seconds_of(path, time_name, numbers, time_unit)


def _read_bytes(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        if path.suffix == ".gz" and text:
            text = gzip.decompress(text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(
            f"{path}: not a complete gzip file ({error}); it is truncated or another kind of file."
        ) from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
    if _NOT_BLANK.search(text) is None:
        raise RecordingError(f"{path}: the file is empty.")
    return text


def _header(path: Path, text: bytes) -> list[str]:
    line = _header_line(text)
    try:
        header = line[1].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: the header is not UTF-8 text ({error}).") from error
    names = next(csv.reader([header]), [])
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecordingError(f"{path}: column {twice[0]!r} appears more than once in the header.")
    if _NOT_BLANK.search(text, line.end()) is None:
        raise RecordingError(f"{path}: has a header but no samples.")
    return names


_FIRST_LINE = re.compile(rb"\s*([^\r\n]*)")
_NOT_BLANK = re.compile(rb"\S")


def _header_line(text: bytes) -> re.Match[bytes]:
    line = _FIRST_LINE.match(text)
    assert line is not None  # whatever the text, it has a first line
    return line


def _numeric_columns(path: Path, text: bytes, names: list[str]) -> Columns:
    """Read the named columns; a word among numbers is an error."""
    if (plain := _plain_numbers(path, text, names)) is not None:
        return plain
    # Types are given, not inferred: inference uses only the first block, and would reject a column
    # whose first megabyte of whole numbers is followed by a fraction.
    for missing in ([""], None):  # arrow's own list of words such as NA takes a sixth of the time
        with suppress(pa.ArrowInvalid):
            table = _parse(text, names, pa.float64(), null_values=missing)
            break
    else:
        words = _parse_words(path, text, names)
        return {name: _numbers_of(path, name, words[name]) for name in names}
    if table.num_rows == 0:
        raise RecordingError(f"{path}: has a header but no samples.")
    columns = {name: table[name].to_numpy().astype(np.float64, copy=False) for name in names}
    return {name: None if is_missing(values) else values for name, values in columns.items()}


def _plain_numbers(path: Path, text: bytes, names: list[str]) -> Columns | None:
    """Read the named columns if the text is plain numbers, which takes a third of the time."""
    there = _header(path, text)
    values = read_numbers(text, _header_line(text).end(), [name in names for name in there])
    if values is None or not values.shape[1]:
        return None
    columns = dict(zip((name for name in there if name in names), values, strict=True))
    return {name: None if is_missing(columns[name]) else columns[name] for name in names}


def _numbers_of(path: Path, name: str, words: pa.ChunkedArray) -> NDArray[np.float64] | None:
    try:
        numbers: NDArray[np.float64] = words.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return numbers_of_texts(path, name, words.to_pylist())
    return numbers if words.null_count < len(words) else None


def _labels(path: Path, text: bytes, label_column: str) -> list[str | None]:
    labels: list[str | None] = _parse_words(path, text, [label_column])[label_column].to_pylist()
    return labels


def _parse_words(path: Path, text: bytes, names: list[str]) -> pa.Table:
    try:
        return _parse(text, names, pa.string())
    except pa.ArrowInvalid as error:
        raise RecordingError(f"{path}: not a table of comma-separated values: {error}.") from error


def _parse(
    text: bytes, names: list[str], type_: pa.DataType, null_values: list[str] | None = None
) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(text).slice(_header_line(text).start(1))),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, type_),
            include_columns=names,
            null_values=null_values,
            # A field of a text column stays as it is; only nothing at all is missing there.
            strings_can_be_null=True,
        ),
    )
