"""Plain values: what `json.dumps` takes, and numbers that were not finite come back from it."""

import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return dictionaries, lists, text, numbers, True, False and None in place of anything.

    NaN and infinity become None, tuples and arrays lists, keys text. What has no such form, such as
    a function given for an argument, becomes its name.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return getattr(value, "__qualname__", None) or str(value)


def number(value: Any) -> float:
    """Return a number that `plain` described; NaN for None."""
    return math.nan if value is None else float(value)


def number_or_none(value: Any) -> float | None:
    """Return the same where None is one of the values."""
    return None if value is None else float(value)


def numbers(values: Any) -> list[float]:
    """Return a list of numbers that `plain` described."""
    return [number(value) for value in values]
