"""Convert timestamps to seconds, from ticks of any unit, dates or floats."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from sensorseq.errors import RecordingError, check_choice
from sensorseq.io.blocks import blocks, count_where, evenly_drawn, map_blocks
from sensorseq.stamps.dates import DAY_NS, DateTexts
from sensorseq.stamps.names import CALENDAR_S, UNITS, is_time_name, unit_in_name
from sensorseq.stamps.period import MOST_STEPS, PLAUSIBLE_HZ, is_plausible

EXACT = 2**53
"""Floats cannot represent every whole number above this number."""

_ACCEPTED_HZ = (0.01, 50_000.0)  # rates outside this range are refused unless time_unit is given
# The first day of 1970 in days since 1970, of Excel, MJD, datenum (MATLAB) and JD.
_DAYS_OF_1970 = (0, 25_569, 40_587, 719_529, 2_440_587.5)
# Steps between rows of a log with times in days. If these were seconds, the rates would be unusual.
_DAY_STEPS_S = np.array([1, 2, 3, 4, 5, 6, 10, 15, 20, 30, 60, 120, 300, 600])
_ROUND = 0.005  # maximum relative difference from such a step
_FEWEST = 10  # minimum number of time steps from which a rate is computed
_LARGEST = 2**62
_GIVEN = {"name": "the unit in its name", "attribute": "the unit stored with it"}
_MISSING = np.iinfo(np.int64).min
_DATE_DIGITS = 14  # number of digits of the year, month, day, hour, minute and second
_MOST_DIGITS = 19  # maximum number of digits of a 64-bit integer
_FLOAT_DIGITS = 16  # maximum number of digits of a date that a float can represent
_DRAWN = 1 << 14  # number of timestamps tested at once, the first of them over the whole recording
_FEWEST_TIMES = 30  # minimum number of steps for recognizing times of day
_WITHIN_MINUTE = 0.9  # minimum fraction of steps that stay within a minute
_MOSTLY = 0.9  # minimum fraction of steps that show the parts of one time
_TURN_NS = {3600 * 10**9: DAY_NS, 60 * 10**9: 3600 * 10**9}  # hours and minutes begin again
_DATE_FORMS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d.%m.%y"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y"),
)
_MIDNIGHT = re.compile(r"[ T]00:00(:00(\.0+)?)?$")


TIME_OF_DAY = "time of day"


class Stamps(NamedTuple):
    """Timestamps in seconds; `facts` describes their original unit and is empty for seconds."""

    seconds: NDArray[np.float64]
    facts: dict[str, Any]


def seconds_of(
    path: Path,
    name: str,
    stamps: NDArray[Any] | Sequence[str | None],
    time_unit: str | None = None,
    stored_unit: str | None = None,
) -> Stamps:
    """Convert a column of timestamps to seconds.

    Strings are ISO 8601 dates. Whole numbers are either dates written as digits, or counts of a
    unit. The unit is given, stored with the column, or contained in the column's name; otherwise,
    the unit with a plausible rate and date is used. Numbers with fractions are in seconds unless a
    unit is given, stored or contained in the name. If the unit is not given and the rate or date is
    implausible, an error is raised. Timestamps with too many digits for a float are counted from
    the earliest one, whose time is ``origin_ns`` in the facts.
    """
    if time_unit is not None:
        check_choice("time_unit", time_unit, UNITS)
    unit = time_unit
    if (n := n_filled(stamps)) < len(stamps):
        seconds, facts = seconds_of(path, name, stamps[:n], time_unit, stored_unit)
        return Stamps(np.append(seconds, np.full(len(stamps) - n, np.nan)), facts)
    if not isinstance(stamps, np.ndarray):
        stamps = DateTexts(path, name).ticks(pa.array(stamps, pa.string()))
    if stamps.dtype.kind in "mM":
        unit = np.datetime_data(stamps.dtype)[0]
        if unit not in UNITS:
            unit = "ns" if unit in ("ps", "fs", "as") else "s"
        # This also converts timestamps with units such as [25s].
        stamps = stamps.astype(f"{stamps.dtype.kind}8[{unit}]", copy=False)
        known_by = "type" if time_unit is None else "type, not time_unit"
        ticks = stamps.view(np.int64)
        facts = _facts(name, unit, known_by)
        if stamps.dtype.kind == "M":
            is_clock = bool((_present(ticks[:1]) // UNITS[unit] // 86_400 == 0).any())
            facts["unit"] = TIME_OF_DAY if is_clock else "date"
        if time_unit is None:
            _refuse_odd_dates(path, name, ticks, unit)
        return _of_ticks(ticks, unit, facts)
    known_by = "time_unit"
    if unit is None:
        dates = None if stored_unit else dates_of_digits(path, name, stamps)
        if dates is not None:
            return _of_ticks(dates, "ns", _facts(name, "date", "digits"))
        unit, known_by = _named_unit(path, name), "name"
        if stored_unit and unit not in (None, stored_unit):
            raise RecordingError(
                f"{path}: time column {name!r} has the unit {unit!r} in its name, but"
                f" {stored_unit!r} is stored with it. Give time_unit={unit!r} or"
                f" time_unit={stored_unit!r}."
            )
        if stored_unit:
            unit, known_by = stored_unit, "attribute"
    if stamps.dtype.kind == "f" and not _are_whole(stamps):
        seconds = stamps.astype(np.float64, copy=False)
        if time_unit is None:
            _refuse_implausible(path, name, seconds, unit, known_by)
        if unit in (None, "s"):
            return Stamps(seconds, {})
        return Stamps(seconds / UNITS[str(unit)], _facts(name, str(unit), known_by))
    if stamps.size and (abs(float(stamps.max())) >= _LARGEST or float(stamps.min()) <= -_LARGEST):
        raise RecordingError(
            f"{path}: numbers in time column {name!r} are too large to be times. If they are dates"
            " in digits, write them like 2026-03-01T12:00:00.5."
        )
    if unit is None:
        unit, known_by = _find_unit(path, name, stamps), "data"
    if time_unit is None:
        _refuse_implausible(path, name, stamps, unit, known_by)
    if unit == "s":
        return Stamps(_converted(stamps, np.float64), {})
    return _of_ticks(_converted(stamps, np.int64), unit, _facts(name, unit, known_by))


def n_filled(values: NDArray[Any] | Sequence[Any]) -> int:
    """Return the number of rows up to the last one with a number; other types have no blanks."""
    n = len(values)
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or not n:
        return n
    return n - int(np.argmax(~np.isnan(values[::-1]))) if np.isnan(values[-1]) else n


def join_parts(
    columns: Mapping[str, NDArray[np.float64] | None], parts_ns: Mapping[str, int]
) -> Stamps | None:
    """Join a time whose parts, such as seconds and nanoseconds, are in several columns.

    Return None if the numbers show something else: each part must be within its unit, and the last
    part must begin again where the part before it rises by 1.
    """
    parts = [x for x in columns.values() if x is not None]
    if len(parts) < len(columns):
        return None
    whole = ticks = np.zeros(len(parts[0]), np.int64)
    is_missing = np.isnan(parts).any(axis=0)
    larger_ns = smaller_ns = 0
    for x, part_ns in zip(parts, parts_ns.values(), strict=True):
        x = np.where(is_missing, 0, x)
        is_within = (x >= 0) & (x < (larger_ns / part_ns if larger_ns else np.inf))
        if not is_within.all() or (ticks % larger_ns if larger_ns else ticks).any():
            return None
        whole, ticks = ticks, ticks + np.rint(x * part_ns).astype(np.int64)
        larger_ns, smaller_ns = part_ns, larger_ns
    rises, steps = (np.diff(x[~is_missing]) for x in (whole // smaller_ns, ticks - whole))
    if (rises == 0).any():  # otherwise, the rows are more than one unit apart
        shows_parts = [(steps >= 0)[rises == 0], (steps < 0)[rises == 1]]
        if any(some.size and some.mean() < _MOSTLY for some in shows_parts):
            return None
    if turn_ns := _TURN_NS.get(next(iter(parts_ns.values()))):
        ticks[~is_missing] = np.unwrap(ticks[~is_missing], period=turn_ns)
    ticks[is_missing] = _MISSING
    return _of_ticks(ticks, "ns", _facts(" + ".join(columns), "ns", "name"))


def days_in(texts: Sequence[str | None]) -> list[tuple[int, ...]]:
    """Return dates as days since 1970, once for each order of day and month that is possible."""
    plain, possible = [_MIDNIGHT.sub("", (text or "").strip()) for text in texts], {}
    for form in _DATE_FORMS:
        with suppress(ValueError):
            dates = [datetime.strptime(text, form) for text in plain]
            possible[tuple((day - datetime(1970, 1, 1)).days for day in dates)] = form
    return list(possible)


def add_dates(
    path: Path, name: str, clock: Stamps, codes: NDArray[np.integer], texts: Sequence[str | None]
) -> Stamps:
    """Add dates to times of day; `codes` are the indices of each row's date in `texts`.

    If either number can be the month, the midnights between the dates decide. Without such a
    midnight, several dates raise an error, and a single date is left out.
    """
    is_timed = ~np.isnan(clock.seconds)
    nights, seconds = np.divmod(clock.seconds[is_timed], 86_400)
    possible = days_in(texts)
    if len(possible) > 1:
        in_order = [d for d in possible if np.ptp(np.array(d)[codes[is_timed]] - nights) == 0]
        possible = in_order or possible
    if len(possible) != 1:
        if possible and len(texts) > 1:
            raise RecordingError(
                f"{path}: either number in {texts[0]!r} in column {name!r} can be the month. Write"
                " dates like 2026-03-01."
            )
        return clock
    days = np.array(possible[0])[codes[is_timed]] + (nights if len(texts) == 1 else 0)
    ticks = np.full(len(codes), _MISSING)
    ticks[is_timed] = days.astype(np.int64) * DAY_NS + np.rint(seconds * 1e9).astype(np.int64)
    return _of_ticks(ticks, "ns", _facts(f"{name} + {clock.facts['column']}", "date", "type"))


def stored_time_unit(path: Path, name: str, stored: str) -> str | None:
    """Return the stored unit of timestamps, such as ``seconds since 1970-01-01``."""
    text = re.split(r"\bsince\b", stored, flags=re.I)[0].strip()
    unit = unit_in_name(f"time [{text}]")
    if unit in UNITS:
        return unit
    if unit and unit_in_name(f"time_{unit}"):  # true only if the word is a unit
        raise RecordingError(
            f"{path}: the stored unit of the time column {name!r} is {stored!r}, which is not a"
            " unit of timestamps. Convert the column to seconds, or give time_unit if the"
            " unit is in fact s, ms, us or ns."
        )
    return None


def describe_clock(facts: dict[str, Any]) -> str:
    """Describe the timestamps of a recording in words, given the facts of `Stamps`."""
    if "sample_rate_hz" in facts:
        return f"no time column; rows are 1/{facts['sample_rate_hz']:g} s apart (sample_rate_hz)"
    how = {
        "time_unit": "as given",
        "name": "by its name",
        "attribute": "by its stored unit",
        "data": "found from its rate and date",
        "digits": "by its digits",
        "type, not time_unit": "by its type, not by time_unit",
    }
    kinds = {"date": "contains dates", TIME_OF_DAY: "contains times of day"}
    content = kinds.get(facts["unit"], f"is in {facts['unit']}")
    known_by = how.get(facts["unit_from"], "by its type")
    start = ", counted from the first stamp" if "origin_ns" in facts else ""
    return f"time column {facts['column']!r} {content} ({known_by}{start})"


def clock_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a recording's timestamps, given the recording's attributes."""
    return dict(attributes.get("clock", {}))


def date_of(attributes: Mapping[str, Any], stamps_s: NDArray[np.float64]) -> str:
    """Return the UTC date of a recording's first timestamp; "" if it is not a date."""
    start_s = float(stamps_s[0]) + clock_of(attributes).get("origin_ns", 0) / UNITS["ns"]
    if not CALENDAR_S[0] <= start_s < CALENDAR_S[1]:
        return ""
    return f"{datetime.fromtimestamp(start_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _converted(stamps: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    if stamps.dtype == dtype:
        return stamps
    return map_blocks(np.asarray, stamps, dtype)


def _are_whole(stamps: NDArray[Any]) -> bool:
    """Test whether all stamps are finite whole numbers."""
    return all(  # the first values are usually enough to decide
        bool(np.isfinite(some).all() and (some == np.floor(some)).all())
        for some in (stamps[at:stop] for at, stop in blocks(len(stamps), stamps, step=1 << 12))
    )


def _find_unit(path: Path, name: str, ticks: NDArray[Any]) -> str:
    """Return the unit that gives a plausible rate and, if several units do, a plausible date."""
    drawn = [np.empty(0)]
    for at, stop in blocks(len(ticks) - 1, ticks):
        some = evenly_drawn(at, stop, len(ticks) - 1, MOST_STEPS)
        differences = np.abs(np.diff(ticks[at : stop + 1].astype(np.int64))[some - at])
        drawn.append(differences[differences > 0].astype(np.float64))
    steps = np.concatenate(drawn)
    step = float(np.median(steps)) if len(steps) >= _FEWEST else 0.0
    rates = {}
    if step:
        rates = {unit: per_s / step for unit, per_s in UNITS.items()}
    likely = [unit for unit, rate in rates.items() if is_plausible(rate)]
    if len(likely) == 1 or (rates and not likely):
        return likely[0] if likely else "s"
    first = int(ticks[0]) if ticks.size else 0
    start_s, end_s = CALENDAR_S
    dates = [u for u in likely or UNITS if start_s * UNITS[u] <= first < end_s * UNITS[u]]
    if len(dates) == 1 or not likely:
        return dates[0] if dates else "s"
    each = " or ".join(f"{unit} ({rates[unit]:.4g} Hz)" for unit in likely)
    typed = " or ".join(f"time_unit={unit!r}" for unit in likely)
    change = (
        "rename it to 'index', for example" if is_time_name(name) else "leave out `time_column`"
    )
    raise RecordingError(
        f"{path}: the whole numbers in time column {name!r} can be in {each}. Give {typed}. Or, if"
        f" the column counts rows or other ticks, {change}, choose the other columns with"
        " `channels`, and give the rate of the rows with `sample_rate_hz`."
    )


def _named_unit(path: Path, name: str) -> str | None:
    """Return the unit in a column's name, or None; a unit that is not supported raises an error."""
    unit = unit_in_name(name)
    if unit and unit not in UNITS:
        raise RecordingError(
            f"{path}: time column {name!r} seems to be in {unit!r}, which is not a unit of"
            " timestamps. Convert it to seconds, or give time_unit if the unit is in fact s, ms, us"
            " or ns."
        )
    return unit or None


def _rates_of(stamps: NDArray[Any]) -> tuple[float, float] | None:
    """Return the rates from the median nonzero step and from the mean step, or None if unknown."""
    first = stamps[: 1 << 12].astype(np.float64)
    steps = np.abs(np.diff(first[np.isfinite(first)]))
    steps = steps[steps > 0]
    span = abs(float(stamps[-1]) - float(stamps[0])) if len(stamps) else 0.0
    if len(steps) < _FEWEST or not span > 0:
        return None
    return 1 / float(np.median(steps)), (len(stamps) - 1) / span


def _are_odd(rates: tuple[float, float], per_s: int) -> bool:
    """Test whether both rates are below, or both are above, the accepted range."""
    low, high = min(rates) * per_s, max(rates) * per_s
    return high < _ACCEPTED_HZ[0] or low > _ACCEPTED_HZ[1]


def _refuse_implausible(
    path: Path, name: str, stamps: NDArray[Any], unit: str | None, known_by: str
) -> None:
    """Raise an error if a unit leads to an implausible rate or date; None means seconds."""
    if (rates := _rates_of(stamps)) is None:
        return
    read_as, first = unit or "s", float(stamps[0])
    hz = {u: rates[0] * per_s for u, per_s in UNITS.items()}
    usual = {u for u, rate in hz.items() if is_plausible(rate)}
    dated = {u for u, n in UNITS.items() if CALENDAR_S[0] <= first / n < CALENDAR_S[1]}
    better = [
        u for u in UNITS if u in usual | dated and u != read_as and not _are_odd(rates, UNITS[u])
    ]
    is_late = first / UNITS[read_as] >= CALENDAR_S[1]
    is_slow = max(rates) < PLAUSIBLE_HZ[0]
    is_named = known_by in _GIVEN and read_as in usual
    may_be_days = unit is None and any(
        CALENDAR_S[0] <= (first - day) * 86_400 < CALENDAR_S[1] for day in _DAYS_OF_1970
    )
    steps_s = 86_400 / np.array(rates)  # if they are days
    is_round = np.abs(steps_s[:, None] / _DAY_STEPS_S - 1) < _ROUND
    is_doubtful = _are_odd(rates, UNITS[read_as]) or (
        # doubtful if another unit gives a plausible rate, or a date between 2000 and 2100
        (not usual.isdisjoint(better) and (is_late or (unit is None and is_slow)))
        or not (dated.isdisjoint(better) or read_as in dated or is_named)
        or (may_be_days and bool(is_round.any()))
    )
    if not is_doubtful:
        return
    better = [u for u in better if u in dated] or better
    read = "As seconds" if read_as == "s" else f"In {read_as}"
    read += f", {_GIVEN[known_by]}" if unit and known_by in _GIVEN else ""
    late = " after the year 2100" if is_late else ""
    instead = f", in days one row every {steps_s[0]:.3g} s" if may_be_days else ""
    for u in better:
        year = f" in {datetime.fromtimestamp(first / UNITS[u], UTC).year}" if u in dated else ""
        instead += f", in {u} {hz[u]:.4g} Hz{year}"
    use = "Use " if better else "Convert them to seconds, or use "
    use += "".join(f"time_unit={u!r}, or " for u in better)
    mixed = "" if unit else " If other files are in seconds, convert this file or leave it out."
    raise RecordingError(
        f"{path}: the numbers in time column {name!r} are {1 / rates[0]:.4g} apart. {read}, that"
        f" is {hz[read_as]:.4g} Hz{late}{instead}. {use}time_unit={read_as!r} if they are"
        f" {'seconds' if read_as == 's' else f'in {read_as}'}.{mixed}"
    )


def _refuse_odd_dates(path: Path, name: str, ticks: NDArray[np.int64], unit: str) -> None:
    """Raise an error for dates at an implausible rate, probably converted with a wrong unit."""
    if (rates := _rates_of(_present(ticks[: 1 << 12]))) and _are_odd(rates, UNITS[unit]):
        raise RecordingError(
            f"{path}: the stamps in time column {name!r} are {1 / (rates[0] * UNITS[unit]):.4g} s"
            f" apart, which is {rates[0] * UNITS[unit]:.4g} Hz. Were they converted from numbers in"
            f" a different unit? Correct them, or use time_unit={unit!r} if they are correct."
        )


def _of_ticks(ticks: NDArray[np.int64], unit: str, facts: dict[str, Any]) -> Stamps:
    """Convert ticks to seconds; the lowest integer means that a time is missing."""
    n, per_s, origin, divisor = len(ticks), UNITS[unit], 0, 1
    while (
        per_s > 1
        and not count_where(
            lambda at, stop: (_present(ticks[at:stop]) % (1000 * divisor)) != 0,  # noqa: B023
            n,
            ticks,
        )[0]
    ):
        divisor, per_s = divisor * 1000, per_s // 1000
    ends = [(np.iinfo(np.int64).max, np.iinfo(np.int64).min)]
    for at, stop in blocks(n, ticks):
        if (present := _present(ticks[at:stop]) // divisor).size:
            ends.append((int(present.min()), int(present.max())))
    low, high = min(first for first, _ in ends), max(last for _, last in ends)
    if low <= high and max(abs(low), abs(high)) >= EXACT:
        origin = low
        facts = {**facts, "origin_ns": origin * (UNITS["ns"] // per_s)}

    def seconds(some: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(some == _MISSING, np.nan, (some // divisor - origin) / per_s)

    return Stamps(map_blocks(seconds, ticks, np.float64), facts)


def _present(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    present: NDArray[np.int64] = ticks[ticks != _MISSING]
    return present


def _facts(name: str, unit: str, known_by: str) -> dict[str, Any]:
    return {"column": name, "unit": unit, "unit_from": known_by}


def dates_of_digits(path: Path, name: str, stamps: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return dates in digits (20240301115840020) as nanoseconds since 1970; None for other numbers.

    An error is raised for floats that cannot represent the digits, and for times of day in digits.
    """
    n = len(stamps)
    if not n or not 0 <= float(stamps[0]) < 10**_MOST_DIGITS:
        return None
    ends = [(stamps[at:stop].min(), stamps[at:stop].max()) for at, stop in blocks(n, stamps)]
    low, high = (float(some) for some in (min(x for x, _ in ends), max(x for _, x in ends)))
    if any(
        # Times of day in digits are less than 24 hours, and cover several minutes.
        low // (100 * scale) < high // (100 * scale) < 2400 and _are_times_of_day(stamps, scale)
        for scale in (1, 10**3, 10**6)
    ):
        raise RecordingError(
            f"{path}: the numbers in time column {name!r} are times of day in digits, where 59 is"
            " followed by 100. Convert them to seconds, or use time_unit if they are counts."
        )
    n_digits = len(str(int(stamps[0])))
    if not _DATE_DIGITS <= n_digits <= _MOST_DIGITS:
        return None
    scale = 10 ** (n_digits - _DATE_DIGITS)
    if not (_are_dates(stamps[:1], scale).all() and _all_pass(stamps, _are_dates, scale)):
        return None
    if stamps.dtype.kind == "f" and (
        n_digits > _FLOAT_DIGITS or not _all_pass(stamps, _are_integers, scale)
    ):
        raise RecordingError(
            f"{path}: time column {name!r} contains dates in digits, stored as floats, which lose"
            " digits. Write dates like 2026-03-01T12:00:00.5, or store whole numbers."
        )
    return map_blocks(lambda some: _nanoseconds_of_dates(some, scale), stamps, np.int64)


def _all_pass(stamps: NDArray[Any], test: Any, scale: int) -> bool:
    if not test(stamps[:: 1 + len(stamps) // _DRAWN], scale).all():
        return False
    ends = blocks(len(stamps), stamps, step=_DRAWN)
    return all(test(stamps[at:stop], scale).all() for at, stop in ends)


def _are_integers(stamps: NDArray[Any], _: int) -> NDArray[np.bool_]:
    return np.asarray(stamps == np.floor(stamps))


def _split_digits(stamps: NDArray[Any], scale: int) -> list[NDArray[np.int64]]:
    """Return years, months, days, hours, minutes, seconds, and fractions in units of 1/scale s."""
    with np.errstate(invalid="ignore"):  # a missing stamp (NaN) becomes digits that are not a date
        # not of integers: before numpy 2.1, floor made floats of them, which lose digits
        whole = np.floor(stamps) if stamps.dtype.kind == "f" else stamps
        digits, fraction = np.divmod(whole.astype(np.int64), scale)
    parts = [fraction]
    for _ in range(5):
        digits, part = np.divmod(digits, 100)
        parts.append(part)
    return [digits, *parts[::-1]]


def _are_dates(stamps: NDArray[Any], scale: int) -> NDArray[np.bool_]:
    year, month, day, hour, minute, second, _ = _split_digits(stamps, scale)
    is_day = (year >= 1990) & (year < 2100) & (month >= 1) & (month <= 12) & (day >= 1) & (day < 32)
    return np.asarray(is_day & (hour < 24) & (minute < 60) & (second <= 60))


def _nanoseconds_of_dates(stamps: NDArray[Any], scale: int) -> NDArray[np.int64]:
    year, month, day, hour, minute, second, fraction = _split_digits(stamps, scale)
    months = (12 * (year - 1970) + month - 1).astype("M8[M]")
    days = months.astype("M8[D]").astype(np.int64) + day - 1
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return np.asarray(seconds * 10**9 + fraction * (10**9 // scale))


def _are_times(stamps: NDArray[Any], scale: int) -> NDArray[np.bool_]:
    year, month, day, hour, minute, second, _ = _split_digits(stamps, scale)
    return np.asarray((year + month + day == 0) & (hour < 24) & (minute < 60) & (second < 60))


def _are_times_of_day(stamps: NDArray[Any], scale: int) -> bool:
    """Test whether stamps are times of day in digits, whose seconds never exceed 59."""
    few = stamps[: 1 << 12]
    if len(few) <= _FEWEST_TIMES or not _are_times(few, scale).all():
        return False
    if not _all_pass(stamps, _are_times, scale):
        return False
    # In times of day, the step to the next minute is about as long as a step within a minute.
    to_next, within = [np.empty(0)], [np.empty(0)]
    for at, stop in blocks(len(stamps) - 1, stamps):
        some = stamps[at : stop + 1]
        *_, hour, minute, second, fraction = _split_digits(some, scale)
        part = fraction / scale if scale > 1 else some - np.floor(some)
        steps = np.diff((hour * 60 + minute) * 60 + second + part)
        is_next = np.diff(minute) != 0
        to_next.append(steps[is_next])
        if not at:  # steps within a minute are similar, so one block is enough
            within.append(steps[~is_next & (steps > 0)])
    to_next_s, within_s = np.concatenate(to_next), np.concatenate(within)
    is_clock = 0 < len(to_next_s) < (1 - _WITHIN_MINUTE) * len(stamps) and len(within_s) > 0
    return is_clock and bool(np.median(to_next_s) <= 3 * np.median(within_s))
