"""Format lists and counts for messages, convert values to plain types, and parse numbers."""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any

from sensorseq.errors import printable

Plain = Any
"""A value that JSON can store: None, a boolean, a number, a string, a list or a dictionary."""


def listed(names: Iterable[Any], most: int = 12) -> str:
    """Join at most `most` names with commas, and append the number of further names."""
    every = [str(name) for name in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, in the singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float, digits: int = 1) -> str:
    """Format a fraction in percent, as in "97.0 %"."""
    return f"{100 * share:.{digits}f} %"


def times(ratio: float, more: str, less: str) -> str:
    """Compare two sizes, as in "1,220 times as much as" or, below a half, "13 times less than"."""
    size, words = (1 / ratio, less) if 0 < ratio <= 0.5 else (ratio, more)
    size = float(f"{size:.3g}")
    return f"{size:,.0f} times {words}" if abs(size) >= 10 else f"{size:g} times {words}"


UNIT_FACTORS = (  # factor between two units; the likely unit of larger and of smaller values
    (180 / math.pi, "degrees where {} radians", "radians where {} degrees"),
    (1e3, "1000 times smaller, such as mA where {} A", "A where {} mA"),
    (1e6, "a million times smaller, such as uA where {} A", "A where {} uA"),
)
_NEAR_FACTOR = 3.0  # maximum ratio of a change of scale to such a factor, or the reverse


def likely_unit(ratio: float, other_unit: str = "others have") -> str:
    """Return the end of a sentence with the unit that a ratio suggests, or an empty string."""
    for factor, larger, smaller in UNIT_FACTORS:
        if 1 / _NEAR_FACTOR < max(ratio, 1 / ratio) / factor < _NEAR_FACTOR:
            return f"; its unit is perhaps {(larger if ratio > 1 else smaller).format(other_unit)}"
    return ""


def plain(value: Any) -> Plain:
    """Convert any value to dictionaries, lists, strings, numbers, booleans and None.

    NaN and infinity become None; other objects, such as functions, are replaced by their names.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    # Recognize numpy values by their methods, because importing numpy would delay the start of the
    # command line.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    # the functions of older versions of numpy have only the second name
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name or str(value)


def number(value: Any) -> Plain:
    """Convert a numpy scalar to a Python number, which files can store; keep all other values."""
    return value.item() if getattr(value, "shape", None) == () else value


def parse_number(text: str, decimal: str = ".") -> float | None:
    """Return the number in a CSV cell; None if the cell is blank or not a number.

    Faster parsers of files and streams give the same numbers, and pass cells that they cannot parse
    to this function.
    """
    if "_" in text:  # only Python accepts 1_000 as a number
        return None
    if decimal == ",":
        if THOUSANDS.fullmatch(text):
            return None
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(\.\d{3})+\s*")
"""Digits in groups of three, separated by dots; ambiguous in a file with decimal commas."""


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table for ``_repr_html_`` in notebooks; all strings are escaped.

    Parameters
    ----------
    caption : str
        Caption of the table.
    heads : sequence of str
        Names of the columns.
    rows : iterable of sequences of str
        Cells of each row.
    """

    def row(cells: Iterable[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f"<table><caption>{html.escape(printable(caption))}</caption>"
        f"<thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )
