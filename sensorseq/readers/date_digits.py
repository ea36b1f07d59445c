"""Dates and times of day that are written as numbers, such as 20240301115840020."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.io.scratch import blocks, count_where, map_blocks

_DATE = 14  # digits of year, month, day, hour, minute and second
_LONGEST = 19  # digits of a 64-bit number
_EXACT = 16  # digits of a date that a float represents
_FEWEST = 30  # fewest steps to recognize times of day
_WITHIN = 0.9  # of steps are within one minute


def dates_of_digits(path: Path, name: str, stamps: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return nanoseconds since 1970 of dates in digits; None for other numbers.

    Floats that cannot represent the digits are an error, and so are times of day in digits.
    """
    n = len(stamps)
    if not n or not 0 <= float(stamps[0]) < 10**_LONGEST:
        return None
    if any(_are_times_of_day(stamps, scale) for scale in (1, 10**3, 10**6)):
        raise RecordingError(
            f"{path}: the numbers in time column {name!r} are times of day in digits, in which"
            " 59 is followed by 100. Convert them to seconds, or use time_unit if they are counts."
        )
    n_digits = len(str(int(stamps[0])))
    if not _DATE <= n_digits <= _LONGEST:
        return None
    scale = 10 ** (n_digits - _DATE)
    if not (_are_dates(stamps[:1], scale).all() and _all(stamps, _are_dates, scale)):
        return None
    if stamps.dtype.kind == "f" and (n_digits > _EXACT or not _all(stamps, _are_whole, scale)):
        raise RecordingError(
            f"{path}: time column {name!r} holds dates in digits, stored as floats, which lose"
            " digits. Write dates like 2026-03-01T12:00:00.5, or store whole numbers."
        )
    return map_blocks(lambda some: _nanoseconds_of(some, scale), stamps, np.int64)


def _all(stamps: NDArray[Any], test: Any, scale: int) -> bool:
    return not count_where(lambda at, stop: ~test(stamps[at:stop], scale), len(stamps), stamps)[0]


def _are_whole(stamps: NDArray[Any], _: int) -> NDArray[np.bool_]:
    return np.asarray(stamps == np.floor(stamps))


def _split(stamps: NDArray[Any], scale: int) -> list[NDArray[np.int64]]:
    """Return years, months, days, hours, minutes, seconds, and the fraction in 1/scale s."""
    with np.errstate(invalid="ignore"):  # a missing one is no date
        rest, fraction = np.divmod(np.floor(stamps).astype(np.int64), scale)
    parts = [fraction]
    for _ in range(5):
        rest, part = np.divmod(rest, 100)
        parts.append(part)
    return [rest, *parts[::-1]]


def _are_dates(stamps: NDArray[Any], scale: int) -> NDArray[np.bool_]:
    year, month, day, hour, minute, second, _ = _split(stamps, scale)
    is_day = (year >= 1990) & (year < 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day < 32)
    return np.asarray(is_day & (hour < 24) & (minute < 60) & (second <= 60))


def _nanoseconds_of(stamps: NDArray[Any], scale: int) -> NDArray[np.int64]:
    year, month, day, hour, minute, second, fraction = _split(stamps, scale)
    months = (12 * (year - 1970) + month - 1).astype("M8[M]")
    days = months.astype("M8[D]").astype(np.int64) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return np.asarray(seconds * 10**9 + fraction * (10**9 // scale))


def _are_times(stamps: NDArray[Any], scale: int) -> NDArray[np.bool_]:
    year, month, day, hour, minute, second, _ = _split(stamps, scale)
    return np.asarray((year + month + day == 0) & (hour < 24) & (minute < 60) & (second < 60))


def _are_times_of_day(stamps: NDArray[Any], scale: int) -> bool:
    """Test whether seconds and minutes run to 59 only, over more than a minute."""
    few = stamps[: 1 << 12]
    if len(few) <= _FEWEST or not _are_times(few, scale).all():
        return False
    if not _all(stamps, _are_times, scale):
        return False
    # Read as seconds of the day, the step to the next minute is an ordinary one.
    to_next, within = [np.empty(0)], [np.empty(0)]
    for at, stop in blocks(len(stamps) - 1, stamps):
        some = stamps[at : stop + 1]
        *_, hour, minute, second, fraction = _split(some, scale)
        part = fraction / scale if scale > 1 else some - np.floor(some)
        steps = np.diff((hour * 60 + minute) * 60 + second + part)
        is_next = np.diff(minute) != 0
        to_next.append(steps[is_next])
        if not at:  # ordinary steps are alike
            within.append(steps[~is_next & (steps > 0)])
    to_next_s, within_s = np.concatenate(to_next), np.concatenate(within)
    is_clock = 0 < len(to_next_s) < (1 - _WITHIN) * len(stamps) and len(within_s) > 0
    return is_clock and bool(np.median(to_next_s) <= 3 * np.median(within_s))
