"""Turn time stamps of any unit into seconds: whole numbers of ticks, dates, floats."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, check_choice

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units of time stamps, with their ticks per second."""
PLAUSIBLE_HZ = (0.5, 20_000.0)
"""Rates at which sensors of robots are recorded; a unit that gives another rate is not it."""
EXACT = 2**53
"""Whole numbers from here on are not all floats."""

_CALENDAR_S = (946_684_800, 4_102_444_800)  # 2000 to 2100
_FEWEST = 30  # steps that a rate can be judged by; fewer whole numbers are seconds
_LARGEST = 2**62
_OF_NAME = re.compile(r"[_ .(\[](s|ms|us|µs|ns|sec|msec|usec|nsec)[)\]]?$", re.I)
_DATE = re.compile(r"\s*\d{4}-\d\d-\d\d")


class Stamps(NamedTuple):
    """Time stamps in seconds; `facts` says how another unit is known, empty for plain seconds."""

    seconds: NDArray[np.float64]
    facts: dict[str, Any]


def seconds_of(
    path: Path,
    name: str,
    stamps: NDArray[Any] | Sequence[str | None],
    time_unit: str | None = None,
) -> Stamps:
    """Return the time stamps of a column in seconds.

    Texts are ISO 8601 dates. Whole numbers have the unit that is given, that the column's name ends
    in, or that alone gives a plausible rate; others are seconds unless a unit is given or named.
    Stamps that a float of seconds cannot hold count from the first one; the fact ``origin_ns`` is
    its time.
    """
    if time_unit is not None:
        check_choice("time_unit", time_unit, UNITS)
    unit = time_unit
    if not isinstance(stamps, np.ndarray):
        return _of_ticks(*_ticks_of_texts(path, name, stamps), _facts(name, "date", "type"))
    if stamps.dtype.kind in "mM":
        unit = np.datetime_data(stamps.dtype)[0]
        if unit not in UNITS:
            stamps, unit = stamps.astype(f"{stamps.dtype.kind}8[s]"), "s"
        facts = _facts(name, "date" if stamps.dtype.kind == "M" else unit, "type")
        return _of_ticks(stamps.astype(np.int64), np.isnat(stamps), unit, facts)
    known_by = "time_unit"
    if unit is None and (named := _OF_NAME.search(name)):
        unit, known_by = named[1].lower().replace("µ", "u").removesuffix("ec"), "name"
    if stamps.dtype.kind == "f" and not _are_whole(stamps):
        seconds = stamps.astype(np.float64, copy=False)
        if unit in (None, "s"):
            return Stamps(seconds, {})
        return Stamps(seconds / UNITS[str(unit)], _facts(name, str(unit), known_by))
    if stamps.size and (abs(float(stamps.max())) >= _LARGEST or float(stamps.min()) <= -_LARGEST):
        raise RecordingError(f"{path}: numbers in time column {name!r} are too large to be times.")
    ticks = stamps.astype(np.int64)
    if unit is None:
        unit, known_by = _find_unit(path, name, ticks), "data"
    if unit == "s":
        return Stamps(stamps.astype(np.float64, copy=False), {})
    missing = np.zeros(len(ticks), bool)
    return _of_ticks(ticks, missing, unit, _facts(name, unit, known_by))


def describe_clock(facts: dict[str, Any]) -> str:
    """Return a sentence about the facts of `Stamps`."""
    how = {"time_unit": "as given", "name": "by its name", "data": "found from its rate and date"}
    held = f"is in {facts['unit']}" if facts["unit"] in UNITS else "holds dates"
    known_by = how.get(facts["unit_from"], "by its type")
    start = ", counted from the first stamp" if "origin_ns" in facts else ""
    return f"time column {facts['column']!r} {held} ({known_by}{start})"


def odd_rates(rates_hz: Mapping[str, float | None]) -> dict[str, float]:
    """Return the rates that a wrong unit would explain, by recording."""
    lowest, highest = PLAUSIBLE_HZ
    plausible = [rate for rate in rates_hz.values() if rate and lowest <= rate <= highest]
    usual = float(np.median(plausible or [1.0]))
    return {
        name: rate
        for name, rate in rates_hz.items()
        if rate and not (lowest <= rate <= highest and usual / 300 < rate < usual * 300)
    }


def _are_whole(stamps: NDArray[Any]) -> bool:
    """Whether all are finite whole numbers."""
    return all(
        bool(np.isfinite(some).all() and (some == np.floor(some)).all())
        for some in (stamps[:1000], stamps[1000:])  # most files end with the first ones
    )


def _find_unit(path: Path, name: str, ticks: NDArray[np.int64]) -> str:
    """Return the one unit that gives a plausible rate, and if several do, a plausible date."""
    steps = np.abs(np.diff(ticks))
    steps = steps[steps > 0]
    lowest, highest = PLAUSIBLE_HZ
    rates = {}
    if len(steps) >= _FEWEST:
        rates = {unit: per_s / float(np.median(steps)) for unit, per_s in UNITS.items()}
    likely = [unit for unit, rate in rates.items() if lowest <= rate <= highest]
    if len(likely) == 1 or (rates and not likely):
        return likely[0] if likely else "s"
    first = int(ticks[0]) if ticks.size else 0
    start_s, end_s = _CALENDAR_S
    dates = [u for u in likely or UNITS if start_s * UNITS[u] <= first < end_s * UNITS[u]]
    if len(dates) == 1 or not likely:
        return dates[0] if dates else "s"
    each = " or ".join(f"{unit} ({rates[unit]:.4g} Hz)" for unit in likely)
    raise RecordingError(
        f"{path}: the whole numbers in time column {name!r} can be {each}. Give the unit with"
        f" time_unit, such as time_unit={likely[-1]!r}."
    )


def _ticks_of_texts(
    path: Path, name: str, texts: Sequence[str | None]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], str]:
    """Return ISO 8601 dates as nanoseconds since 1970, and which of them are missing."""
    first = next((text for text in texts if text and text.strip()), None)
    if first is None or not _DATE.match(first):
        raise RecordingError(
            f"{path}: column {name!r} holds no numbers; time stamps are numbers, such as seconds"
            " since the start, or dates such as 2026-03-01T12:00:00.5Z."
        )
    zoned = re.search(r"(Z|[+-]\d\d(:?\d\d)?)\s*$", first[10:].strip())
    type_ = pa.timestamp("ns", "UTC" if zoned else None)
    try:
        dates = pa.array(texts, pa.string()).cast(type_)
    except pa.ArrowInvalid as error:
        row = next(i for i, text in enumerate(texts) if not _is_date(text, type_))
        raise RecordingError(
            f"{path}, row {row + 1}, time column {name!r}: {texts[row]!r} is not a date like"
            f" {first!r}; use ISO 8601 for all, with a time zone for all or for none."
        ) from error
    missing = np.asarray(dates.is_null())
    return dates.cast(pa.int64()).fill_null(0).to_numpy(), missing, "ns"


def _is_date(text: str | None, type_: pa.DataType) -> bool:
    try:
        pa.scalar(text, pa.string()).cast(type_)
    except pa.ArrowInvalid:
        return False
    return True


def _of_ticks(
    ticks: NDArray[np.int64], missing: NDArray[np.bool_], unit: str, facts: dict[str, Any]
) -> Stamps:
    per_s, known, origin = UNITS[unit], ticks[~missing], 0
    while per_s > 1 and not (known % 1000).any():
        known, per_s = known // 1000, per_s // 1000
    if known.size and max(abs(int(known.max())), abs(int(known.min()))) >= EXACT:
        origin = int(known.min())
        facts = {**facts, "origin_ns": origin * (UNITS["ns"] // per_s)}
    seconds = np.full(len(ticks), np.nan)
    seconds[~missing] = (known - origin) / per_s
    return Stamps(seconds, facts)


def _facts(name: str, unit: str, known_by: str) -> dict[str, Any]:
    return {"column": name, "unit": unit, "unit_from": known_by}
