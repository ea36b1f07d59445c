"""Words of messages: lists of names and counted nouns; and values as plain ones, for files."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any

from sensorseq.errors import printable

Plain = Any
"""None, True, False, numbers and text, and lists and dictionaries of them: what JSON holds."""


def listed(names: Iterable[Any], most: int = 12) -> str:
    """Return names with commas; of many, the first and how many more."""
    every = [str(name) for name in names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(value: Any) -> Plain:
    """Return dictionaries, lists, text, numbers, True, False and None in place of anything.

    NaN and infinity become None; what has no such form, such as a function, becomes its name.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    # a numpy value; importing numpy here would slow the command line's start
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return getattr(value, "__qualname__", None) or str(value)


def number(value: Any) -> Plain:
    """Return a scalar of numpy as Python's, which files can store; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table for ``_repr_html_`` of notebooks; texts are escaped.

    Parameters
    ----------
    caption : str
    heads : sequence of str
        Names of the columns.
    rows : iterable of sequences of str
    """

    def row(cells: Iterable[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f"<table><caption>{html.escape(printable(caption))}</caption>"
        f"<thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    )
