"""The table of the fluctuation benchmark in words."""

from collections.abc import Mapping
from typing import Any

from fluctuation.repair import OURS
from fluctuation.rows import (
    COST,
    HARMED,
    MIXED,
    PROBED,
    PROVED,
    QUICK,
    REPAIRED,
    REPEATED,
    STATISTICS,
    TOP_1,
    TOP_2,
)

TARGETS = {
    (TOP_1, STATISTICS): ("at least", 0.65),
    (TOP_2, STATISTICS): ("at least", 0.85),
    (TOP_1, PROBED): ("at least", 0.80),
    (TOP_2, PROBED): ("at least", 0.93),
    (PROVED, PROBED): ("at least", 0.95),
    (REPAIRED, OURS): ("at least", 0.90),
    (HARMED, OURS): ("at most", 0.02),
    (MIXED, PROBED): ("at least", 0.60),
    (REPEATED, STATISTICS): ("at least", 0.90),
}
COST_TARGETS = {  # in times of the fit
    (PROBED, "median"): ("at most", 0.7),
    (PROBED, "95th percentile"): ("at most", 1.0),
    (QUICK, "95th percentile"): ("at most", 0.3),
}
ERROR_TARGET = ("at most", 0.08)  # of confidences after probes


def format_rows(rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """Say it in tables."""
    lines = ["\nfaults that came true"]
    for kind, given in facts["came_true"].items():
        lines.append(f"  {kind:58} " + ", ".join(f"{n} {word}" for word, n in given.items()))
    for row in dict.fromkeys(row["row"] for row in rows):
        lines.append(f"\n{row}")
        for held in (r for r in rows if r["row"] == row):
            if held["kind"] != "all" and held["judge"] not in (STATISTICS, PROBED, OURS, QUICK):
                continue
            lines.append(_line(held))
    for held in facts["reliability"]:
        lines.append(
            f"\n{held['judge']}: expected error of confidence {held['expected_error']:.3f}"
            f" over {held['runs']} runs"
        )
    lines.append("\nleft out")
    lines += [f"  {count:4d}  {what}" for what, count in facts["left_out"].items()]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    name = row["judge"] if row["kind"] == "all" else f"  {row['kind']}"
    low, high = row["cluster_bootstrap"]
    if "value" in row:
        aim = COST_TARGETS.get((row["judge"], row["kind"])) if row["row"] == COST else None
        return (
            f"  {row['judge']:34} {row['kind']:16} {row['value']:6.2f} [{low:.2f}, {high:.2f}]"
            f" over {row['runs']} runs" + (f"; wanted {aim[0]} {aim[1]:.1f}" if aim else "")
        )
    wanted = TARGETS.get((row["row"], row["judge"])) if row["kind"] == "all" else None
    said = f"; wanted {wanted[0]} {100 * wanted[1]:.0f} %" if wanted else ""
    wilson_low, wilson_high = row["wilson"]
    return (
        f"  {name:36} {row['hits']:4d} of {row['runs']:4d} {100 * row['rate']:6.1f} %"
        f"  [{100 * wilson_low:.1f}, {100 * wilson_high:.1f}]"
        f"  by cluster [{100 * low:.1f}, {100 * high:.1f}]{said}"
    )
