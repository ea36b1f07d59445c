"""Read recordings from CSV text, plain or gzip-compressed."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.readers.columns import (
    Columns,
    FileContent,
    check_label_column,
    check_timestamps,
    find_time_column,
    make_recording,
    numbers_of_texts,
)
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
        Column of the time stamps, in seconds. None: ``time`` or ``time_s``, whichever is there.
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

    Returns
    -------
    Recording
        Values as float64.
    """
    path = Path(path)
    text = _read_bytes(path)
    names = _header(path, text)
    time_name = find_time_column(path, names, time_column)
    check_label_column(path, names, label_column, time_name, label)
    labels = None if label_column is None else _labels(path, text, label_column)
    columns = _numeric_columns(path, text, [name for name in names if name != label_column])
    timestamps_s = _as_timestamps(path, time_name, columns.pop(time_name))
    if recording_id is None:
        recording_id = path.name.removesuffix(".gz").removesuffix(".csv")
    return make_recording(
        path,
        FileContent(columns, timestamps_s, time_name, labels),
        recording_id=recording_id,
        group=group,
        label=label,
        units=units,
        repair_stamps=repair_stamps,
    )


def read_csv_timestamps(
    path: Path, time_column: str | None, *, repair_stamps: bool = False
) -> NDArray[np.float64]:
    """Read only the time stamps of a CSV file; see `read_csv`."""
    text = _read_bytes(path)
    names = _header(path, text)
    time_name = find_time_column(path, names, time_column)
    stamps = _as_timestamps(path, time_name, _numeric_columns(path, text, [time_name])[time_name])
    return check_timestamps(path, stamps, time_name, repair_stamps=repair_stamps)


def _as_timestamps(
    path: Path, time_name: str, stamps: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    if stamps is None:
        raise RecordingError(
            f"{path}: column {time_name!r} holds no numbers; time stamps in seconds are needed."
            " Write dates and clock times as seconds since the start."
        )
    return stamps


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
    if not text.strip():
        raise RecordingError(f"{path}: the file is empty.")
    return text


def _header(path: Path, text: bytes) -> list[str]:
    line = _FIRST_LINE.match(text)
    assert line is not None  # whatever the text, it has a first line
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


def _numeric_columns(path: Path, text: bytes, names: list[str]) -> Columns:
    """Read the named columns; a word among numbers is an error."""
    try:
        # Types are given, not inferred: inference uses only the first block, and would reject a
        # column whose first megabyte of whole numbers is followed by a fraction.
        table = _parse(text, names, pa.float64())
    except pa.ArrowInvalid:
        words = _parse_words(path, text, names)
        return {name: numbers_of_texts(path, name, words[name].to_pylist()) for name in names}
    if table.num_rows == 0:
        raise RecordingError(f"{path}: has a header but no samples.")
    return {
        name: table[name].to_numpy().astype(np.float64, copy=False)
        if table[name].null_count < table.num_rows
        else None
        for name in names
    }


def _labels(path: Path, text: bytes, label_column: str) -> list[str | None]:
    labels: list[str | None] = _parse_words(path, text, [label_column])[label_column].to_pylist()
    return labels


def _parse_words(path: Path, text: bytes, names: list[str]) -> pa.Table:
    try:
        return _parse(text, names, pa.string())
    except pa.ArrowInvalid as error:
        raise RecordingError(f"{path}: not a table of comma-separated values: {error}.") from error


def _parse(text: bytes, names: list[str], type_: pa.DataType) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(text),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, type_),
            include_columns=names,
            # A field of a text column stays as it is; only nothing at all is missing there.
            strings_can_be_null=True,
        ),
    )
