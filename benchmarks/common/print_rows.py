"""Prints rows that compare two sides, as returned by `common.timing.summarize`."""

from collections.abc import Iterable
from typing import Any


def print_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print the times, ratio and other values of each row as soon as it comes; return all rows."""
    printed = []
    for row in rows:
        printed.append(row)
        facts = dict(row)
        names = "theirs_ms", "ours_ms", "ratio", "ratio_p10", "ratio_p90"
        theirs, ours, ratio, low, high = (facts.pop(name) for name in names)
        what, against, shape = (facts.pop(name, "") for name in ("what", "against", "shape"))
        print(
            f"{what:38} {against:24} {'x'.join(map(str, shape)):>16} {theirs:10.3f} ms,"
            f" ours {ours:10.3f} ms, {ratio:6.2f}x [{low:.2f}, {high:.2f}]",
            *(f"{name} {value}" for name, value in facts.items()),
            flush=True,
        )
    return printed
