"""Rows of two sides as `sensorseq.bench.timing.summarize` gives them, said as they come."""

from collections.abc import Iterable
from typing import Any


def tell(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print each row when it is there: both times, the ratio, then what else it has; return all."""
    told = []
    for row in rows:
        told.append(row)
        rest = dict(row)
        names = "theirs_ms", "ours_ms", "ratio", "ratio_p10", "ratio_p90"
        theirs, ours, ratio, low, high = (rest.pop(name) for name in names)
        what, against, shape = (rest.pop(name, "") for name in ("what", "against", "shape"))
        print(
            f"{what:38} {against:24} {'x'.join(map(str, shape)):>16} {theirs:10.3f} ms,"
            f" ours {ours:10.3f} ms, {ratio:6.2f}x [{low:.2f}, {high:.2f}]",
            *(f"{name} {value}" for name, value in rest.items()),
            flush=True,
        )
    return told
