"""Convert columns of dates or times of day, which arrive in blocks."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorseq.base.checks import refuse_stray
from sensorseq.errors import RecordingError

_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d|\d{1,2}:\d\d:\d\d)")
_AS_ISO = (  # patterns in times of day, such as 9:30:01,5 or 12:30:01 am, and their replacements
    (r"^\s*(\d:)", r"0\1"),
    (r"(?i)^\s*12(:.*[ap]\.?m\.?\s*)$", r"00\1"),
    (r"(?i)\s*[ap]\.?m\.?\s*$", ""),
    (r"^\s*(..:..:..)[,:]", r"\1."),
)
DAY_NS = 86_400 * 10**9


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
        import pyarrow.compute as pc  # takes as long to import as numpy

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
