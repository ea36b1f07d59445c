"""Read recordings from CSV text, plain or gzip-compressed."""

import codecs
import csv
import gzip
import mmap
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import DTypeLike, NDArray

from sensorseq._signal import read_numbers
from sensorseq.base.checks import check_unpacked, nul_bytes
from sensorseq.base.text import listed, parse_number
from sensorseq.errors import ArgumentError, OutputError, RecordingError, repeated
from sensorseq.io.blocks import Rows, append_bytes, release_mapped, temporary_file
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.columns import (
    CodedLabels,
    NumberColumns,
    Origin,
    Table,
    check_names,
    is_missing,
    read_recording,
    stamps_of_rows,
)
from sensorseq.readers.text_columns import TextColumn
from sensorseq.recording import COMMENTS, Recording, column_names
from sensorseq.stamps.dates import DateTexts, is_date
from sensorseq.stamps.names import UNITS, is_time_name, unit_in_name, usual_time_names
from sensorseq.stamps.read import EXACT, Stamps, seconds_of, stored_time_unit


class CsvFormat(NamedTuple):
    """The format of CSV files.

    By default, the encoding is UTF-8 or the encoding that a byte order mark indicates, the
    delimiter is a comma, and the decimal mark is a point. A file has no header line if `no_header`
    is true, or if it is None and `names` are given.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    no_header: bool | None = None
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, options: ReadOptions) -> "CsvFormat":
        """Return the format that the options describe."""
        names = None if options.names is None else tuple(options.names)
        return cls(options.encoding, options.delimiter, options.decimal, options.no_header, names)

    def check(self) -> "CsvFormat":
        """Return the format; raise an error if an option is invalid for text files."""
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError) as error:
            raise ArgumentError(
                f"encoding={self.encoding!r} is not known. Common encodings: utf-8, latin-1,"
                " cp1252, utf-16."
            ) from error
        if not _SEPARATOR.fullmatch(self.separator):
            raise ArgumentError(
                f"delimiter={self.delimiter!r} must be one character, such as ';', or 'tab'."
            )
        if self.decimal not in (None, ".", ","):
            raise ArgumentError(f"decimal={self.decimal!r} must be '.' or ','.")
        if self.names is not None and self.no_header is False:
            raise ArgumentError(
                "`names` is for files without a header line; leave out no_header=False, or `names`."
            )
        if (twice := repeated(self.names or ())) is not None:
            raise ArgumentError(f"`names` contains {twice!r} more than once.")
        return self

    @property
    def has_header(self) -> bool:
        """True if the first line of the file contains the column names."""
        return self.names is None if self.no_header is None else not self.no_header

    def encoding_of(self, text: bytes | mmap.mmap) -> str:
        """Return the given encoding; by default, UTF-16 or UTF-8, depending on the first bytes."""
        return self.encoding or ("utf-16" if text[:2] in _UTF16_MARKS else "utf-8")

    def text_column(self, path: Path, name: str) -> TextColumn:
        """Return a converter for a column that is not purely numeric."""
        way_out = "" if self.decimal == "." else _PLAIN_NUMBERS
        if self.decimal is None:
            more = " with delimiter=','" if self.separator == "," else ""
            way_out += (
                f"; use decimal=','{more} for decimal commas, or decimal='.' for a text column"
            )
        return TextColumn(path, name, self.decimal or ".", way_out)

    @property
    def separator(self) -> str:
        """The separator of fields; by default a comma, or a semicolon for decimal commas."""
        usual = ";" if self.decimal == "," else ","
        return {None: usual, "tab": "\t", "\\t": "\t"}.get(self.delimiter, self.delimiter or "")


USUAL_FORM = CsvFormat()


@takes_options
def read_csv(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a CSV file.

    Every numeric column except the time is a channel. A column without any number, such as a column
    of comments, is left out and listed in ``attributes["dropped_columns"]``. An empty field, or a
    word such as NA or nan, means that the sample is missing.

    Parameters
    ----------
    path : path-like
        The file; if its name ends in ``.gz``, the file is decompressed.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `stamps`, `label_column`, `encoding`, `delimiter`,
        `decimal`, `no_header`, `names` and `sample_rate_hz` are used.
    recording_id : str, optional
        By default, the file's name without suffixes.
    group, label : str, optional
        As in `Recording`. `label` cannot be combined with `label_column`.

    Returns
    -------
    Recording
        A recording with values in float64. ``attributes["clock"]`` contains the unit of the
        timestamps and where the unit was found, unless the stamps are in seconds. Stamps with too
        many digits for a float (nanoseconds since 1970) are counted from the first stamp, which is
        ``attributes["clock"]["origin_ns"]``.

    Raises
    ------
    RecordingError
        If the file cannot be read as a table, or if its timestamps could be in several units.
    """
    options = as_options(options)
    return read_recording(CsvTable, path, options, Origin(recording_id, group, label))


def read_csv_words(path: Path, names: list[str], form: CsvFormat) -> pa.Table:
    """Read columns as strings."""
    file = CsvTable(path, ReadOptions(**form._asdict()))
    check_names(path, names, file.names)
    return file.words(names)


def read_csv_table(path: Path, words: str, form: CsvFormat) -> pa.Table:
    """Read one column as strings, and each other column as numbers if it has no words."""
    file = CsvTable(path, ReadOptions(**form._asdict()))
    check_names(path, [words], file.names)
    return file.as_arrow(words)


class CsvTable(Table):
    """A table whose text is in memory, or on disk if it is large and there is a folder for it."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self._form = path, CsvFormat.of(options).check()
        self._time, self._decimal = options.time_column, self._form.decimal or "."
        self._text: bytes | mmap.mmap
        try:
            zipped = path.suffix == ".gz"
            size = path.stat().st_size * (_GZIP_RATIO if zipped else 1)
            self._folder = options.folder_for(size)
            if self._folder:
                self._text = _mapped(path, self._folder)
            else:
                self._text = b"".join(_unpacked(path)) if zipped else path.read_bytes()
            encoding = self._form.encoding_of(self._text)
            if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
                self._text = _in_utf8(self._text, encoding, self._folder)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RecordingError(
                f"{path}: not a complete gzip file ({error}); it is truncated or not a gzip file."
            ) from error
        except OutputError:  # raised if the decompressed file could not be written
            raise
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error
        except UnicodeError as error:
            raise RecordingError(f"{path}: is not text in {encoding} ({error}).") from error
        if _NOT_BLANK.search(self._text) is None:
            nuls = "" if self._text.find(b"\0") < 0 else " except for NUL bytes; leave it out"
            raise RecordingError(f"{path}: the file is empty{nuls}.")
        is_tsv = path.suffix.lower() == ".tsv" and self._text.find(b"\t", 0, _BLOCK_BYTES) >= 0
        if is_tsv and self._form.delimiter is None:
            self._form = self._form._replace(delimiter="tab")
        if self._form.separator == " ":
            self._text = _with_single_blanks(self._text, self._folder)
        self._first_line = line = self._begin()
        self._data_at = line.end() if self._form.has_header else line.start(1)
        units = self._find_names() if self._form.has_header else {}
        super().__init__(path, self._header(), units)
        if self._text[-1:] == b"\0":  # the last field would contain the NUL bytes
            raise self._nul_error()

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Read the columns and the timestamps in one pass."""
        if not time_name:
            columns = self.numbers(names)
            return columns, stamps_of_rows(columns, options)
        wanted = {*names, time_name}
        columns = self.numbers([name for name in self.names if name in wanted])
        return columns, self.stamps(time_name, columns.pop(time_name), options.time_unit)

    def _begin(self) -> re.Match[bytes]:
        """Return the line of column names or, if there is none, the first line of samples.

        Comments before that line are skipped, unless the last comment seems to contain the column
        names, as in ``%time,x`` from ``rostopic echo -p`` and ``# time,x`` from numpy.
        """
        comment, line = None, _FIRST_LINE.match(self._text)
        assert line is not None  # any text that is not blank has a first line
        while _is_comment(line) and line.end() < len(self._text):
            comment, line = line, _FIRST_LINE.match(self._text, line.end())
            assert line is not None
        if comment is None or not self._form.has_header:
            return line
        (names, samples), decimal = map(self._fields, (comment, line)), self._form.decimal or "."
        are_names = len(names) == len(samples) and not _is_sample(names, decimal)
        has_time = [any(map(is_time_name, fields)) for fields in (names, samples)]
        if are_names and (_is_sample(samples, decimal) or has_time == [True, False]):
            return comment
        return line

    def _fields(self, line: re.Match[bytes]) -> list[str]:
        text, mark = line[1].decode("utf-8-sig", errors="replace"), self._form.separator
        # Allow a quote after a separator and a space.
        fields = next(csv.reader([text], delimiter=mark, skipinitialspace=True), [])
        if mark == " " and fields and fields[0].encode() in COMMENTS:
            below = _FIRST_LINE.match(self._text, line.end())
            assert below is not None
            if len(fields) == _n_fields(below[1].decode(errors="replace"), mark) + 1:
                return fields[1:]
        return fields

    def _header(self) -> list[str]:
        """Return the column names."""
        path, line = self.path, self._first_line
        n_nuls = line[1].count(b"\0")
        if 3 * n_nuls > len(line[1]):
            kind = "be" if line[1].startswith(b"\0") else "le"
            raise RecordingError(
                f"{path}: the text seems to be UTF-16 without a byte order mark. Give the"
                f" encoding, for example encoding='utf-16-{kind}'."
            )
        try:
            header = line[1].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if self._text.find(b"\0", 0, _HEAD_BYTES) >= 0:
                raise RecordingError(
                    f"{path}: is not a table of text, but binary data; leave it out. If it is"
                    " UTF-16 without a byte order mark, give encoding='utf-16-le'."
                ) from error
            raise RecordingError(
                f"{path}: the header is not UTF-8 text ({error}).{OTHER_ENCODING}"
            ) from error
        if n_nuls:
            raise self._nul_error()
        fields = self._fields(line)
        if header.count('"') % 2:
            raise RecordingError(
                f"{path}: the column names cannot be separated; check the quotes in the first line."
            )
        self._check_form(header, fields)
        if not self._form.has_header:
            return self._names_of(fields)
        names, decimal = column_names(fields), self._form.decimal or "."
        words = [f for f in fields if f.strip() and parse_number(f, decimal) is None]
        if len(words) < sum(map(bool, fields)) and all(map(is_date, words)):
            raise RecordingError(
                f"{path}: the first line contains numbers ({listed(fields, 4)}), not column names."
                " Name the columns with names='a,b,c', or use `no_header`, which names them"
                f" column_1 to column_{len(fields)}."
            )
        if twice := repeated(names):
            raise RecordingError(f"{path}: column {twice!r} appears more than once in the header.")
        if _NOT_BLANK.search(self._text, line.end()) is None:
            raise RecordingError(f"{path}: has a header but no samples.")
        return names

    def _names_of(self, fields: list[str]) -> list[str]:
        """Name the columns of a text without a header line."""
        names, decimal = self._form.names, self._form.decimal or "."
        words = [f for f in fields if f.strip() and parse_number(f, decimal) is None]
        if len(words) == sum(map(bool, fields)) and not any(map(is_date, words)):
            raise RecordingError(
                f"{self.path}: the first line contains names ({listed(fields, 4)}), not samples."
                " Pass no_header=False to read it as a header line."
            )
        if names is None:
            return [f"column_{place}" for place in range(1, len(fields) + 1)]
        if len(names) != len(fields):
            raise RecordingError(
                f"{self.path}: `names` has {len(names)} name(s) ({listed(names)}), but the first"
                f" line has {len(fields)} field(s)."
            )
        return column_names(names)

    def _check_form(self, header: str, names: list[str]) -> None:
        """Raise an error if the text does not have the given or default format."""
        path, mark = self.path, self._form.separator
        row = _FIRST_LINE.match(self._text, self._first_line.end())
        second = row[1].decode(errors="replace") if row else ""
        for separator in ";\t,|" if len(names) == 1 else "":
            if 1 < _n_fields(header, separator) == _n_fields(second, separator):
                name = {"\t": "tab"}.get(separator, separator)
                raise RecordingError(
                    f"{path}: its columns are separated by {name!r}. Use delimiter={name!r};"
                    " if numbers have decimal commas, also use decimal=','."
                )
        n_fields = _n_fields(second, mark)
        n_words = len(header.split())
        differs = mark in " \t" and n_fields != len(names)
        if mark != " " and (len(names) == 1 or differs) and 1 < n_words == len(second.split()):
            raise RecordingError(
                f"{path}: its columns are separated by spaces or tabs. Use delimiter=' ', which"
                " treats any number of them as one separator; if numbers have decimal commas, also"
                " use decimal=','."
            )
        if len(names) == 1 and 1 < _n_fields(header, ":") == _n_fields(second, ":"):
            raise RecordingError(f"{path}: its columns are separated by ':'. Use delimiter=':'.")
        if all(parse_number(field, self._decimal) is None for field in _split(second, mark)):
            self._check_numbers()
        if n_fields > len(names) and self._form.has_header:
            raise RecordingError(
                f"{path}: its first line has {len(names)} column name(s), but the next line has"
                f" {n_fields} fields. The first line must contain all names: remove lines before"
                f" the names, and {mark!r} at the ends of lines or in numbers."
            )

    def _check_numbers(self) -> None:
        """Raise an error if the first lines contain no rows of numbers."""
        mark = self._form.separator
        lines = [line[1].decode("utf-8-sig", "replace") for line in self._lines(_MOST_LINES)]
        begin = sum(_NUMBER.match(line) is not None for line in lines)
        if 2 * begin <= len(lines) > 1 and not _has_numbers(lines, mark, self._decimal):
            raise RecordingError(
                f"{self.path}: is not a table: none of its first {len(lines)} lines is a row of"
                f" numbers with {mark!r} between them. Leave the file out, or use the `delimiter`"
                " of its rows."
            )

    def _find_names(self) -> dict[str, str]:
        """Move to the line of column names if other lines precede it; return the units below it."""
        first = [self._fields(line) for line in self._lines(3)]
        is_even = len(first) > 1 and 1 < len(first[0]) == len(first[1]) == len(first[-1])
        if is_even and _is_sample(first[1], self._decimal):
            return {}
        lines, own = self._lines(_MOST_LINES), self._form.separator
        texts = [line[1].decode("utf-8-sig", "replace") for line in lines]
        if any(text.count('"') % 2 for text in texts[:2]):
            return {}  # a quoted field may continue on the next line
        for mark in dict.fromkeys((own, *",;\t|")):
            rows = [_split(text, mark) for text in texts]
            at, below = self._place_of_names(rows) or (-1, 0)
            if at > 0 and mark != own:
                raise RecordingError(
                    f"{self.path}: {self._named(lines[at])} seems to contain the column names"
                    f" ({listed(map(str.strip, rows[at]), 4)}); use delimiter={mark!r}."
                )
            if at >= 0 and mark == own:
                self._first_line, self._data_at = lines[at], lines[below - 1].end()
                units = [_IN_BRACKETS.sub(r"\1", text.strip()) for text in rows[below - 1]]
                return (
                    dict(zip(column_names(rows[at]), units, strict=True)) if below > at + 1 else {}
                )
        rows = [_split(text, own) for text in texts]
        below, stop = _run_of_numbers(rows, self._decimal)
        if below > 1 and stop - below > 1 and len(rows[0]) != len(rows[below]):
            raise RecordingError(
                f"{self.path}: {self._named(lines[below])} and the next have {len(rows[below])}"
                f" fields with {own!r} between them, but the line before does not have as many"
                f" names ({listed(rows[below - 1], 4)}). Name each column there."
            )
        return {}

    def _named(self, line: re.Match[bytes]) -> str:
        number = self._text[: line.start(1)].count(b"\n") + 1
        return f"line {number}"

    def _lines(self, n_lines: int) -> list[re.Match[bytes]]:
        """Return the first lines that are not blank, from the line of column names on."""
        lines = [self._first_line]
        while len(lines) < n_lines and (line := _FIRST_LINE.match(self._text, lines[-1].end())):
            if _NOT_BLANK.search(line[1]) is None:
                break
            lines.append(line)
        return lines

    def _place_of_names(self, rows: list[list[str]]) -> tuple[int, int] | None:
        """Return the places of the column names and of the first sample; None if there are none.

        The names are words above the longest run of rows of numbers. A line between them may
        contain units. Lines above the names are passed over if they have a different number of
        fields, or if only the names contain the name of a time column.
        """
        below = _run_of_numbers(rows, self._decimal)[0]
        at, width = below - 1, len(rows[below]) if below < len(rows) else 0

        def are_names(fields: list[str]) -> bool:
            words = sum(map(bool, map(str.strip, fields)))
            return words > 1 and len(fields) == width and not _numbers_in(fields, self._decimal)

        def time(fields: list[str]) -> list[str]:
            names = column_names(fields)
            return [name for name in names if name == self._time] or usual_time_names(names)

        def are_units(units: list[str], names: list[str]) -> bool:
            unit_of = dict(zip(column_names(names), map(str.strip, units), strict=True))
            of_time = {unit for name in time(names) if (unit := unit_of[name]).isalpha()}
            are_known = UNITS.keys() >= {unit_in_name(f"time [{unit}]") for unit in of_time}
            in_brackets = all(map(_IN_BRACKETS.fullmatch, filter(None, unit_of.values())))
            return in_brackets or bool(of_time and are_known)

        if at < 0 or not are_names(rows[at]):
            return None
        at -= at > 0 and are_names(rows[at - 1]) and are_units(rows[at], rows[at - 1])
        alike = [fields for fields in rows[:at] if len(fields) == width]
        if alike and not time(rows[at]):
            return 0, 1
        is_first = any(time(fields) or are_units(fields, rows[at]) for fields in alike)
        return (0, 1) if is_first else (at, below)

    def numbers(self, names: list[str]) -> NumberColumns:
        """Read the named columns as numbers; a word among numbers raises an error."""
        if (plain := self._plain_numbers(names)) is not None:
            return plain
        # Types are given because arrow would infer them from the first block alone. If a column
        # had only whole numbers in its first megabyte, a later fraction would raise an error.
        for missing in ([""], None):  # try without words such as NA first, which is faster
            with suppress(pa.ArrowInvalid):
                read = self._read(names, pa.float64(), missing)
                columns = self._arrays(names, read, np.float64, _numbers_of_block)
                break
        else:
            return self._numbers_of_words(names)
        if not len(columns[0]):
            raise RecordingError(f"{self.path}: has a header but no samples.")
        return {
            name: None if is_missing(values) else values
            for name, values in zip(names, columns, strict=True)
        }

    def _plain_numbers(self, names: list[str]) -> NumberColumns | None:
        """Read a text in memory with a fast parser of plain numbers; return None if that fails."""
        is_usual = self._form.separator == "," and self._form.decimal != ","
        if not (isinstance(self._text, bytes) and is_usual):
            return None
        wanted = set(names)
        values = read_numbers(self._text, self._data_at, [name in wanted for name in self.names])
        if values is None or not values.shape[1]:
            return None
        columns = dict(zip((name for name in self.names if name in wanted), values, strict=True))
        return {name: None if is_missing(columns[name]) else columns[name] for name in names}

    def _numbers_of_words(self, names: list[str]) -> NumberColumns:
        """Read columns, some of which contain words; a column without any number becomes None."""
        comma = self._form.decimal == ","
        texts = [self._form.text_column(self.path, name) for name in names]
        columns = self._arrays(
            names,
            self._words(names),
            np.float64,
            lambda at, column: _numbers_of_texts(texts[at], column, comma=comma),
        )
        return {
            name: values if text.has_numbers() else None
            for name, values, text in zip(names, columns, texts, strict=True)
        }

    def stamps(
        self, name: str, numbers: NDArray[np.float64] | None, time_unit: str | None
    ) -> Stamps:
        """Return the timestamps in a column; if `numbers` is None, the column contains dates."""
        path, stored_unit = self.path, None
        if time_unit is None:
            stored_unit = stored_time_unit(self.path, name, self.units.get(name, ""))
        if numbers is None:
            dates = DateTexts(path, name)
            (ticks,) = self._arrays(
                [name], self._words([name]), "M8[ns]", lambda _, texts: dates.ticks(texts)
            )
            return seconds_of(path, name, ticks, time_unit)
        if len(numbers) and abs(numbers[0]) >= EXACT:  # floats of this size have lost digits
            with suppress(pa.ArrowInvalid):
                read = self._read([name], pa.int64(), None)
                (ticks,) = self._arrays([name], read, np.int64, _numbers_of_block)
                return seconds_of(path, name, ticks, time_unit, stored_unit)
        return seconds_of(path, name, numbers, time_unit, stored_unit)

    def labels(self, name: str) -> CodedLabels:
        """Return the label of each row; None for an empty field."""
        position: dict[str | None, int] = {}

        def codes_of(_: int, texts: pa.Array) -> NDArray[np.int32]:
            coded = texts.dictionary_encode("encode")
            places = [
                position.setdefault(text, len(position)) for text in coded.dictionary.to_pylist()
            ]
            codes: NDArray[np.int32] = np.array(places, np.int32)[coded.indices.to_numpy()]
            return codes

        (codes,) = self._arrays([name], self._words([name], _EMPTY), np.int32, codes_of)
        return CodedLabels(codes, list(position))

    def as_arrow(self, words: str) -> pa.Table:
        """Return one column as strings, and each other column as numbers if it has no words."""
        if self.units:
            raise RecordingError(
                f"{self.path}: a table of several recordings or sensors must not have a line of"
                f" units below the column names ({listed(self.units.values(), 4)}); remove it, and"
                " give the units with `units` and `time_unit`."
            )
        table = self.words([words])
        for name in self.names:
            if name == words:
                continue
            try:
                column = self.table([name], pa.float64())[name]
            except pa.ArrowInvalid:
                column = self.words([name])[name]
            else:
                if (first := column[0].as_py()) is not None and abs(first) >= EXACT:
                    with suppress(pa.ArrowInvalid):
                        column = self.table([name], pa.int64())[name]
            table = table.append_column(name, column.combine_chunks())
        return table

    def text_column(self, path: Path, name: str) -> TextColumn:
        """Return a converter for a column of strings with numbers in the format of the file."""
        return self._form.text_column(path, name)

    def table(self, names: list[str], type_: pa.DataType) -> pa.Table:
        """Read columns that all have the given type."""
        schema = pa.schema([(name, type_) for name in names])
        return pa.Table.from_batches(self._read(names, type_, None), schema)

    def words(self, names: list[str]) -> pa.Table:
        """Read columns as strings."""
        return pa.Table.from_batches(
            self._words(names, _EMPTY), pa.schema([(name, pa.string()) for name in names])
        )

    def _words(
        self, names: list[str], null_values: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns as strings; by default, words for missing numbers (NA) become null."""
        try:
            yield from self._read(names, pa.string(), null_values)
        except pa.ArrowInvalid as error:
            if self._text.find(b"\0") >= 0:
                raise self._nul_error() from error
            hint = " Every row needs one field for each column."
            hint = OTHER_ENCODING if "UTF8" in str(error) else hint
            raise RecordingError(
                f"{self.path}: not a table with {self._form.separator!r} between fields:"
                f" {str(error)[:150].strip()}.{hint}"
            ) from error

    def _nul_error(self) -> RecordingError:
        line = 1 + self._text[: self._text.find(b"\0")].count(b"\n")
        return RecordingError(f"{self.path}, line {line}: contains {nul_bytes(self.path)}")

    def _read(
        self, names: list[str], type_: pa.DataType, null_values: list[str] | None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some columns in batches; a text in memory is a single batch."""
        self._check_quotes()
        source = pa.BufferReader(pa.py_buffer(self._text).slice(self._data_at))
        convert = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, type_),
            include_columns=names,
            null_values=null_values,
            strings_can_be_null=True,
            decimal_point=self._form.decimal or ".",
        )
        parse = pyarrow.csv.ParseOptions(delimiter=self._form.separator)
        read = pyarrow.csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=self.names,
        )
        if isinstance(self._text, bytes):
            table = pyarrow.csv.read_csv(source, read, parse, convert)
            yield from table.combine_chunks().to_batches()
            return
        for batch in pyarrow.csv.open_csv(source, read, parse, convert):
            yield batch
            release_mapped(self._text)

    def _check_quotes(self) -> None:
        """Raise an error if the last quote opens a field, because that field would never end."""
        at, blocks = self._text.rfind(b'"'), range(0, len(self._text), _BLOCK_BYTES)
        before = self._text[max(at - 1, 0) : at].decode(errors="replace").replace("\r", "\n")
        if at < 0 or before not in ("", "\n", self._form.separator):
            return
        if sum(self._text[i : i + _BLOCK_BYTES].count(b'"') for i in blocks) % 2:
            line = 1 + sum(self._text[i : min(i + _BLOCK_BYTES, at)].count(b"\n") for i in blocks)
            raise RecordingError(f"{self.path}, line {line}: a quote is not closed.")

    def _arrays(
        self,
        names: list[str],
        read: Iterable[pa.RecordBatch],
        dtype: DTypeLike,
        values_of: Callable[[int, pa.Array], NDArray[Any]],
    ) -> list[NDArray[Any]]:
        """Return each column as an array."""
        columns = [Rows(self._folder, dtype) for _ in names]
        for batch in read:
            for at, rows in enumerate(columns):
                rows.append(values_of(at, batch.column(at)))
        return [rows.as_array() for rows in columns]


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield the content of a compressed file in blocks; an empty file yields no block."""
    n_bytes, stored_bytes = 0, path.stat().st_size
    with gzip.open(path) as text:
        while block := text.read(16 * _BLOCK_BYTES):
            n_bytes += len(block)
            check_unpacked(path, n_bytes, stored_bytes)
            yield block


def _mapped(path: Path, folder: Path) -> mmap.mmap:
    """Map the text of a file into memory; a compressed file is first decompressed into a folder."""
    with path.open("rb") as file:
        if path.suffix != ".gz":
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with temporary_file(folder) as unpacked:
            for block in _unpacked(path):
                append_bytes(unpacked, memoryview(block), folder)
            return mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ)


def _in_utf8(text: bytes | mmap.mmap, encoding: str, folder: Path | None) -> bytes | mmap.mmap:
    """Convert a text to UTF-8, in memory or in a file in the folder."""
    if folder is None or isinstance(text, bytes):
        return text[:].decode(encoding).encode()
    with temporary_file(folder) as file:
        decoder = codecs.getincrementaldecoder(encoding)()
        for at in range(0, len(text), _BLOCK_BYTES):
            part = decoder.decode(text[at : at + _BLOCK_BYTES]).encode()
            append_bytes(file, memoryview(part), folder)
        append_bytes(file, memoryview(decoder.decode(b"", final=True).encode()), folder)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _with_single_blanks(text: bytes | mmap.mmap, folder: Path | None) -> bytes | mmap.mmap:
    """Replace each run of spaces and tabs with one space, and remove runs at the ends of lines."""

    def plain(line: bytes) -> bytes:
        if b'"' in line:  # spaces within quotes are kept
            line = _BLANKS.sub(lambda match: match[1] or b" ", line.strip())
            return line + b"\n"
        return b" ".join(line.split()) + b"\n"

    if folder is None or isinstance(text, bytes):
        return b"".join(map(plain, bytes(text[:]).splitlines()))
    with temporary_file(folder) as file:
        at = 0
        while at < len(text):
            end = text.find(b"\n", min(at + _BLOCK_BYTES, len(text) - 1)) + 1 or len(text)
            part = b"".join(map(plain, text[at:end].splitlines()))
            append_bytes(file, memoryview(part), folder)
            at = end
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _is_comment(line: re.Match[bytes]) -> bool:
    return line[1].lstrip().startswith(COMMENTS)


def _is_sample(fields: list[str], decimal: str) -> bool:
    """Return True if the first nonempty field of a line is a number or a date."""
    first = next((field for field in fields if field.strip()), "")
    return parse_number(first, decimal) is not None or is_date(first)


def _numbers_in(fields: list[str], decimal: str) -> int:
    """Return how many fields are numbers or dates."""
    return sum(parse_number(field, decimal) is not None or is_date(field) for field in fields)


def _run_of_numbers(rows: list[list[str]], decimal: str) -> tuple[int, int]:
    """Return the limits of the longest run of rows with numbers and the same number of fields."""
    longest, start = (len(rows), len(rows)), 0
    for at, fields in enumerate(rows):
        if not _numbers_in(fields, decimal):
            start = at + 1
            continue
        if len(fields) != len(rows[start]):
            start = at
        if at + 1 - start > longest[1] - longest[0]:
            longest = start, at + 1
    return longest


def is_table(path: Path, form: CsvFormat) -> bool:
    """Test whether a text file begins like a table: with lines of numbers, perhaps below others."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    text = head.decode(form.encoding_of(head), "ignore")
    lines = [line for line in text.splitlines() if line.strip()][:_MOST_LINES]
    return "\0" not in text and _has_numbers(lines, "", form.decimal or ".")


def _has_numbers(lines: list[str], mark: str, decimal: str) -> bool:
    """Return True if a line has numbers between the marks, or two lines mostly between others."""
    for other in (mark or ",", *",;\t| "):
        rows = [_split(line, other) for line in lines]
        start, stop = _run_of_numbers(rows, decimal)
        fields = rows[start] if start < stop else []
        is_mostly_numbers = 2 * _numbers_in(fields, decimal) > len(fields)
        run = (field for fields in rows[start:stop] for field in fields)
        has_number = any(parse_number(field, decimal) is not None for field in run)
        if has_number and (other == mark or (stop - start > 1 and is_mostly_numbers)):
            return True
    return False


def _split(line: str, mark: str) -> list[str]:
    if mark == " ":
        return line.split()
    return next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])


def _n_fields(line: str, mark: str) -> int:
    """Return the number of fields in a line, or 0 if the last field continues on the next line."""
    return 0 if line.count('"') % 2 else len(next(csv.reader([line], delimiter=mark), []))


def _numbers_of_block(_: int, column: pa.Array) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _numbers_of_texts(text: TextColumn, column: pa.Array, *, comma: bool) -> NDArray[np.float64]:
    plain = column
    if comma:
        import pyarrow.compute as pc  # slow to import

        if pc.any(pc.match_substring(column, ".")).as_py():
            return text.numbers_of(column.to_pylist())
        plain = pc.replace_substring(column, ",", ".")
    try:
        numbers = np.asarray(plain.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except pa.ArrowInvalid:
        return text.numbers_of(column.to_pylist())
    text.pass_over(numbers)
    return numbers


_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
OTHER_ENCODING = " Give the encoding, for example encoding='latin-1'."
_PLAIN_NUMBERS = "Write numbers without spaces, quotes or thousands separators"
_SEPARATOR = re.compile(r'(?![^\W_]|["+\-.\r\n\0])[\0-\x7f]')
_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t\f\v]*[\r\n])*([^\r\n]*)")
_BLANKS = re.compile(rb'("[^"]*")|[ \t]+')
_MOST_LINES = 50  # number of lines at the start in which the names are looked for
_IN_BRACKETS = re.compile(r"[\[(](.*)[\])]|-")  # a unit, or a mark for no unit
_HEAD_BYTES = 1 << 16
_NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(?![-\d.:/])")  # not a date
_NOT_BLANK = re.compile(rb"[^\s\0]")
_EMPTY = [""]  # fields that mean a missing label or id; null, NA or nan may be a class
_BLOCK_BYTES = 1 << 20  # number of bytes of text parsed at a time
_GZIP_RATIO = 8  # highest expected compression ratio of a numeric table
