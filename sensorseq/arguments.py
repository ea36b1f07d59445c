"""Checks of arguments that are one number or one switch; each returns the checked value."""

import math
import numbers
from typing import Any

from sensorseq.errors import ArgumentError


def as_float(value: Any) -> float:
    """Return a real number as float; NaN in place of anything else, infinity of one too large."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer
        return math.inf


def check_integer(name: str, value: Any, minimum: int, most: int | None = None) -> int:
    """Return `value` as int when it is a whole number from `minimum` to `most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentError(f"{name}={value!r} must be an integer of at least {minimum}.")
    number = int(value)
    if number < minimum:
        raise ArgumentError(f"{name}={value} must be at least {minimum}.")
    if most is not None and number > most:
        raise ArgumentError(f"{name}={value} must be at most {most}.")
    return number


def check_real(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = True,
) -> float:
    """Return `value` as float when it is a finite number in the interval from `low` to `high`."""
    number = as_float(value)
    inside = (
        math.isfinite(number)
        and (number > low if low_open else number >= low)
        and (number < high if high_open else number <= high)
    )
    if not inside:
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ArgumentError(f"{name}={value!r} must be a number in {interval}.")
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return `value` when it is True or False."""
    if not (isinstance(value, bool) or type(value).__name__ == "bool"):  # numpy.bool as well
        raise ArgumentError(f"{name}={value!r} must be True or False.")
    return bool(value)
