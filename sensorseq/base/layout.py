"""Lay out sentences, tables and channels as text of at most 80 columns."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from sensorseq.errors import printable

WIDTH = 80
_MANY_CHANNELS = 16
_NO_BREAK = "\N{NO-BREAK SPACE}"


def wrapped(text: str, indent: str = "") -> str:
    """Wrap text to 80 columns; lines after the first are indented further."""
    whole = printable(text).replace(" %", f"{_NO_BREAK}%")
    return textwrap.fill(
        whole,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    ).replace(_NO_BREAK, " ")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Format rows in aligned columns; the columns in `right` are right-aligned."""
    everything = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    )


def format_counts(counts: dict[str, dict[str, int]]) -> str:
    """Format the number of windows of each class and part as a table."""
    parts = list(counts)
    classes = list(next(iter(counts.values()), {}))
    rows: list[list[Any]] = [
        [name or "unlabeled", *(str(counts[part][name]) for part in parts)] for name in classes
    ]
    rows.append(["all", *(str(sum(counts[part].values())) for part in parts)])
    return table(["class", *parts], rows, right=range(1, len(parts) + 1))


def format_channels(channels: Sequence[str]) -> str:
    """Format channel names; a long list becomes their number and the first and last names."""
    names = list(channels)
    if len(names) <= _MANY_CHANNELS:
        return f"channels {', '.join(names)}"
    shown = [*names[: _MANY_CHANNELS - 3], "...", *names[-2:]]
    return f"{len(names)} channels: {', '.join(shown)}"
