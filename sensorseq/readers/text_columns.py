"""Convert columns of text, which arrive in blocks, to numbers or dates."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.text import THOUSANDS, parse_number

_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d|\d{1,2}:\d\d:\d\d)")
_AS_ISO = (  # patterns in times of day, such as 9:30:01,5 or 12:30:01 am, and their replacements
    (r"^\s*(\d:)", r"0\1"),
    (r"(?i)^\s*12(:.*[ap]\.?m\.?\s*)$", r"00\1"),
    (r"(?i)\s*[ap]\.?m\.?\s*$", ""),
    (r"^\s*(..:..:..)[,:]", r"\1."),
)
DAY_NS = 86_400 * 10**9
# Numbers with decimal commas, thousands separators, quotes or the typographic minus.
_OTHER_FORM = re.compile(
    r"(?=.*[,;'\"\u2019\u2212\s]\d)[\s\"]*[-+\u2212]?\d(?:[\d.,;'\u2019\s]*\d)?(?:[eE][-+]?\d+)?"
    r"[\s\"]*|" + THOUSANDS.pattern
)
# Numbers with a unit or another mark behind them, such as 2.1 A.
_MARKED = re.compile(r"\s*([-+]?\d+[.,]?\d*(?:[eE][-+]?\d+)?)\s*([^\d\s.,:/+-][^\d\s]{0,5})\s*")
_MOST_NAMES = 10  # a column with more numbers, all with the same mark, does not contain names


class TextColumn:
    """A converter for a column of strings that arrive in blocks; see `numbers_of_texts`.

    If `way_out` is not empty, a number in a different format, such as one with thousands
    separators, raises an error that ends with `way_out`. Numbers with the same mark in every row
    raise an error, too.
    """

    def __init__(self, path: Path, name: str, decimal: str = ".", way_out: str = "") -> None:
        self._path, self._name, self._decimal, self._way_out = path, name, decimal, way_out
        self._n_rows = self._n_numbers = 0
        self._word: tuple[int, str] | None = None  # the row and text of the first word
        # The row and text of the first number in a different format.
        self._other: tuple[int, str] | None = None
        self._marks, self._marked = set[str](), set[str]()  # marks, and some numbers before them

    def numbers_of(self, texts: list[str | None]) -> NDArray[np.float64]:
        """Return the numbers in the next strings, with NaN for strings that are not numbers."""
        numbers = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            if text is None or not text.strip():
                continue
            number = parse_number(text, self._decimal)
            if number is None:
                self._word = self._word or (self._n_rows + row, text)
                if self._way_out and _OTHER_FORM.fullmatch(text):
                    self._other = self._other or (self._n_rows + row, text)
                if len(self._marks) < 2:
                    match = _MARKED.fullmatch(text)
                    self._marks |= {match[2]} if match else {"", text}
                    if match and len(self._marked) <= _MOST_NAMES:
                        self._marked.add(match[1])
            else:
                numbers[row] = number
                self._n_numbers += 1
        self._n_rows += len(texts)
        return numbers

    def pass_over(self, numbers: NDArray[np.float64]) -> None:
        """Count the next rows, which were converted elsewhere."""
        self._n_rows += len(numbers)
        self._n_numbers += int((~np.isnan(numbers)).sum())

    def has_numbers(self) -> bool:
        """Return True if any string was a number; raise an error for a word among numbers."""
        is_marked = len(self._marks) == 1 and len(self._marked) > _MOST_NAMES
        if self._way_out and is_marked and not self._n_numbers:
            (mark,) = self._marks
            raise RecordingError(
                f"{self._path}: every number in column {self._name!r} is followed by {mark!r}."
                f" Remove {mark!r} from the rows (units are given with `units`), or use decimal='.'"
                " for a text column."
            )
        misfit = self._other or (self._word if self._n_numbers else None)
        if misfit is not None:
            row, text = misfit
            refuse_stray(self._path, row + 1, self._name, text)
            way_out = "; leave the field empty if the sample is missing"
            if self._other:
                way_out = f" in this notation. {self._way_out}"
            elif row == 0:
                way_out += ", and remove the row if it has units"
            raise RecordingError(
                f"{self._path}, row {row + 1}, column {self._name!r}: {text!r} is not a"
                f" number{way_out}."
            )
        return self._n_numbers > 0


def numbers_of_texts(path: Path, name: str, texts: list[str | None]) -> NDArray[np.float64] | None:
    """Convert a column of strings to numbers; return None if no string is a number.

    If a column contains both numbers and words, an error is raised that names the row of a word.
    """
    column = TextColumn(path, name)
    numbers = column.numbers_of(texts)
    return numbers if column.has_numbers() else None


class DateTexts:
    """A converter for a column of ISO 8601 dates, or times of day, which arrive in blocks."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._n_rows = 0
        self._first: str | None = None
        self._type = pa.timestamp("ns")
        self._is_clock = False
        self._last_ns: int | None = None  # the last time of day

    def ticks(self, texts: pa.Array) -> NDArray[np.datetime64]:
        """Return the next dates as nanoseconds since 1970, with NaT for missing dates.

        Times of day count from the midnight before the first one.
        """
        if self._first is None:
            self._begin(texts)
        try:
            dates = self._converted(texts)
        except pa.ArrowInvalid as error:
            row, text = next(
                (i, date)
                for i, date in enumerate(texts.to_pylist())
                if not self._is_like_first(date)
            )
            refuse_stray(self._path, self._n_rows + row + 1, self._name, text or "")
            like = "" if text == self._first else f" like {self._first!r}"
            raise RecordingError(
                f"{self._path}, row {self._n_rows + row + 1}, time column {self._name!r}: {text!r}"
                f" is not a date{like}; use ISO 8601 for all dates, such as 2026-03-01T12:00:00.5,"
                " with a time zone in all or in none."
            ) from error
        self._n_rows += len(texts)
        missing = np.iinfo(np.int64).min
        ticks = np.array(dates.cast(pa.int64()).fill_null(missing))
        if self._is_clock and (present := ticks[ticks != missing]).size:
            before = present[0] if self._last_ns is None else self._last_ns
            ticks[ticks != missing] = np.unwrap(np.append(before, present), period=DAY_NS)[1:]
            self._last_ns = int(ticks[ticks != missing][-1])
        return ticks.view("M8[ns]")

    def _converted(self, texts: pa.Array) -> pa.Array:
        if not self._is_clock:
            return texts.cast(self._type)
        is_pm = pc.match_substring_regex(texts, r"(?i)p\.?m\.?\s*$")
        for pattern, replacement in _AS_ISO:
            texts = pc.replace_substring_regex(texts, pattern, replacement)
        ticks = pc.binary_join_element_wise("1970-01-01", texts, "T").cast(self._type)
        return pc.add(ticks.cast(pa.int64()), pc.multiply(is_pm.cast(pa.int64()), DAY_NS // 2))

    def _is_like_first(self, text: str | None) -> bool:
        try:
            self._converted(pa.array([text], pa.string()))
        except pa.ArrowInvalid:
            return False
        return True

    def _begin(self, texts: pa.Array) -> None:
        self._first = next((text for text in texts.to_pylist() if text and text.strip()), None)
        if self._first is None or not is_date(self._first):
            raise RecordingError(
                f"{self._path}: column {self._name!r} has no numbers; timestamps must be numbers,"
                " such as seconds since the start, dates, such as 2026-03-01T12:00:00.5Z, or times"
                " of day, such as 12:00:00.5. If it does not contain the time, rename it, and give"
                " time_column, or the rate of the rows with sample_rate_hz."
            )
        zoned = re.search(r"(Z|[+-]\d\d(:?\d\d)?)\s*$", self._first[10:].strip())
        self._type = pa.timestamp("ns", "UTC" if zoned else None)
        self._is_clock = ":" in self._first.lstrip()[:3]


def is_date(text: str) -> bool:
    """Return True if a string begins like an ISO 8601 date or a time of day."""
    return _DATE.match(text) is not None


def refuse_stray(path: Path, row: int, name: str, text: str) -> None:
    """Raise an error if a field repeats its column's name or has NUL bytes; `row` counts from 1."""
    if "\0" in text:
        raise RecordingError(f"{path}, row {row}, column {name!r}: contains {nul_bytes(path)}")
    if text.strip() == name:
        raise RecordingError(
            f"{path}, row {row}: the header is repeated, with {name!r} in column {name!r}, perhaps"
            " because several logs were joined. Divide the file at this row, or remove the row if"
            " the time continues."
        )


def nul_bytes(path: Path) -> str:
    """Return the last part of an error message about NUL bytes."""
    remove = "tr -d '\\000'"
    shell = f"gzip -dc FILE | {remove} > NEW" if path.suffix == ".gz" else f"{remove} < FILE > NEW"
    return f"NUL bytes, as after a loss of power. Remove them; in a shell: {shell}."
