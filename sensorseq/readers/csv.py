"""Recordings from comma-separated text, plain or gzip-compressed."""

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, nearest_known
from sensorseq.recording import Channel, Recording


def read_csv(
    path: str | PathLike[str],
    *,
    time_column: str = "time_s",
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
    units: Mapping[str, str] | None = None,
) -> Recording:
    """Read one recording from a CSV file with a header line.

    Every column of numbers but the time is a channel. A column without a single number, such as a
    comment, is left out. An empty field is a missing sample.

    Parameters
    ----------
    path : path-like
        A name that ends in ``.gz`` is decompressed.
    time_column : str, default="time_s"
        Column of the time stamps, in seconds.
    recording_id : str, optional
        The file's name without its suffixes when not given.
    group, label : str, optional
        As in `Recording`.
    units : mapping of str to str, optional
        Unit of each channel by column name; unknown for those not named.

    Returns
    -------
    Recording
        Values as float64.

    Raises
    ------
    RecordingError
        If the file is missing, empty, cut off or not such a table, lacks the time column, or has a
        word in a column of numbers.
    """
    path = Path(path)
    text = _read_bytes(path)
    names = _header(path, text)
    if time_column not in names:
        nearest = nearest_known(time_column, names)
        raise RecordingError(
            f"{path}: no column {time_column!r}; it has {', '.join(names)}."
            + (f" Did you mean time_column={nearest!r}?" if nearest else "")
        )
    columns = _numeric_columns(path, text, names)
    if time_column not in columns:
        raise RecordingError(
            f"{path}: column {time_column!r} holds no numbers; time stamps in seconds are needed."
        )
    timestamps_s = columns.pop(time_column)
    if not columns:
        raise RecordingError(f"{path}: no column of numbers beside {time_column!r}.")
    untimed = np.flatnonzero(np.isnan(timestamps_s))
    if untimed.size:
        raise RecordingError(f"{path}, row {untimed[0] + 1}: no time stamp in {time_column!r}.")
    units = dict(units or {})
    for name in units:
        if name not in columns:
            raise RecordingError(
                f"{path}: a unit is given for {name!r}; the channels are {', '.join(columns)}."
            )
    if recording_id is None:
        recording_id = path.name.removesuffix(".gz").removesuffix(".csv")
    try:
        return Recording(
            np.column_stack(list(columns.values())),
            timestamps_s,
            tuple(Channel(name, units.get(name, "")) for name in columns),
            recording_id,
            group,
            label,
        )
    except RecordingError as error:
        error.add_note(f"while reading {path}")
        raise


def _read_bytes(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        if path.suffix == ".gz":
            text = gzip.decompress(text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(
            f"{path}: not a whole gzip file ({error}); it was cut off or is something else."
        ) from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
    if not text.strip():
        raise RecordingError(f"{path}: the file is empty.")
    return text


def _header(path: Path, text: bytes) -> list[str]:
    try:
        line = text.splitlines()[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: the header is not UTF-8 text ({error}).") from error
    names = next(csv.reader([line]), [])
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RecordingError(f"{path}: column {twice[0]!r} appears more than once in the header.")
    return names


def _numeric_columns(path: Path, text: bytes, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Read the columns that hold numbers; a word among numbers is an error with its row."""
    try:
        # Types are told, not inferred: inference looks at the first block alone, and would refuse
        # a column whose first megabyte of whole numbers is followed by a fraction.
        table = _parse(text, names, pa.float64())
    except pa.ArrowInvalid:
        table = _parse_with_words(path, text, names)
    if table.num_rows == 0:
        raise RecordingError(f"{path}: a header, and no sample below it.")
    empty = {name for name in table.column_names if table[name].null_count == table.num_rows}
    return {
        name: table[name].to_numpy().astype(np.float64)
        for name in table.column_names
        if name not in empty
    }


def _parse(text: bytes, names: list[str], type_: pa.DataType) -> pa.Table:
    return pyarrow.csv.read_csv(
        io.BytesIO(text),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, type_),
            # A field of a text column stays as it is; only nothing at all is missing there.
            strings_can_be_null=True,
        ),
    )


def _parse_with_words(path: Path, text: bytes, names: list[str]) -> pa.Table:
    """Parse as text, drop the columns that hold words only, name the word among numbers."""
    try:
        words = _parse(text, names, pa.string())
    except pa.ArrowInvalid as error:
        raise RecordingError(f"{path}: not a table of comma-separated values: {error}.") from error
    columns = {}
    for name in words.column_names:
        texts = words[name].to_pylist()
        numbers = [_as_float(field) for field in texts]
        bad = [
            row
            for row, (field, number) in enumerate(zip(texts, numbers, strict=True), start=1)
            if field is not None and number is None
        ]
        if len(bad) == sum(field is not None for field in texts):
            continue  # words only
        if bad:
            raise RecordingError(
                f"{path}, row {bad[0]}, column {name!r}: {texts[bad[0] - 1]!r} is not a number;"
                " leave the field empty where a sample is missing."
            )
        columns[name] = pa.array(numbers, pa.float64())
    return pa.table(columns) if columns else pa.table({names[0]: pa.nulls(len(words))})


def _as_float(field: str | None) -> float | None:
    if field is None or "_" in field:  # Python reads 1_000 as a number, no other program does
        return None
    try:
        return float(field)
    except ValueError:
        return None
