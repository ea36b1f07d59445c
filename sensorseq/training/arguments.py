"""Checks of single arguments; each error names the argument and what it accepts."""

import math
import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sensorseq.errors import ArgumentError, nearest_known


def check_integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as int when it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentError(f"{name}={value!r} must be an integer of at least {minimum}.")
    if value < minimum:
        raise ArgumentError(f"{name}={value} must be at least {minimum}.")
    return int(value)


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
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    inside = (
        is_number
        and math.isfinite(value)
        and (value > low if low_open else value >= low)
        and (value < high if high_open else value <= high)
    )
    if not inside:
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ArgumentError(f"{name}={value!r} must be a number in {interval}.")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` when it is True or False."""
    if not (isinstance(value, bool) or type(value).__name__ == "bool"):  # numpy.bool as well
        raise ArgumentError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_keys(name: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Raise when a key of a dictionary argument is not known, naming the nearest that is."""
    names = list(known)
    for key in given:
        if key not in names:
            nearest = nearest_known(key, names)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(f"{name} has no key {key!r}.{hint} Known: {', '.join(names)}.")


def check_checkpoint(path: Any, every: Any, resume: Any) -> None:
    """Raise unless these name a place for a checkpoint, or none and nothing to resume."""
    check_integer("checkpoint_every", every, 1)
    check_flag("resume", resume)
    if path is None:
        if resume:
            raise ArgumentError(
                "resume=True needs a checkpoint: give checkpoint= the name of the file to resume"
                " from."
            )
        return
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"checkpoint={path!r} must be the name of a file, or None.")
    file = Path(path)
    if file.is_dir() or not file.name:
        raise ArgumentError(
            f"checkpoint={str(path)!r} is a folder; give the name of a file, such as"
            f" {str(file / 'run.checkpoint')!r}."
        )
    if not file.parent.is_dir():
        raise ArgumentError(
            f"checkpoint={str(path)!r}: the folder {file.parent} does not exist; create it."
        )
