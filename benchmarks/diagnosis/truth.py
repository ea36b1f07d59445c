"""The truth about a row: whether its run is sick, and which single resets repair it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnosis.faults import FAMILY_OF
from diagnosis.resets import REPAIRED, SAME, helps, is_calm, repairs
from verdict.oracle import CLEARLY_LEARNED, movement

Row = Mapping[str, Any]
MOVES = 0.03  # least visible movement of the accuracy on fresh windows
FAILS = 0.25  # a run fails if it gains less than this fraction of the best fit's gain over guessing


def best_of(row: Row) -> float:
    """Return the best known level on a row's windows: the second best of its draw.

    The highest of many levels is too high by chance, so good runs would look bad in comparison.
    """
    return float(sorted(row["known"].values())[-2])


def is_sick(row: Row) -> bool:
    """Return whether a run is over 5 points below the best level or its loss moves too much."""
    return row["level"] < best_of(row) - REPAIRED or not is_calm(row["movement"])


def fresh_movement(row: Row) -> float:
    """Return the movement of the accuracy on fresh windows, which the report never sees."""
    return movement(np.array(row["fresh"], float))


def fails(row: Row) -> bool:
    """Return whether a run diverged, or learned almost nothing although its data allow more."""
    guess = guess_of(row)
    return row["level"] - guess < FAILS * (best_of(row) - guess)


def guess_of(row: Row) -> float:
    """Return the fraction of fresh windows in the largest class, or 1 / n_classes if unknown."""
    return float(row.get("guess") or 1 / (row["report"]["n_classes"] or 2))


def is_healthy(row: Row) -> bool:
    """Return whether a run has clearly learned and does not fluctuate, fail or count as sick."""
    clearly = row["level"] >= guess_of(row) + CLEARLY_LEARNED
    return clearly and not is_sick(row) and not moves_or_fails(row)


def moves_or_fails(row: Row) -> bool:
    """Return whether the accuracy on fresh windows moves by at least 3 points, or the run fails."""
    return fresh_movement(row) >= MOVES or fails(row)


def repaired_by(row: Row, outcome: Row) -> bool:
    """Return whether an outcome strictly repairs a run."""
    return repairs(
        outcome["level"],
        outcome["movement"],
        best=best_of(row),
        before=row["movement"],
        fluctuates=not is_calm(row["movement"]),
    )


def right_causes(row: Row, *, strictly: bool = True) -> set[str]:
    """Return the causes whose single reset repairs a sick run; none if another seed repairs it.

    If not `strictly`, a reset that makes the run 5 points more accurate is enough.
    """

    def does(outcome: Row) -> bool:
        if strictly:
            return repaired_by(row, outcome)
        return helps(outcome["level"], row["level"])

    resets = row["resets"]
    if not is_sick(row) or does(resets[SAME]):
        return set()
    return {outcome["cause"] for outcome in resets.values() if outcome["cause"] and does(outcome)}


def families_of(causes: set[str]) -> set[str]:
    """Return the families of causes."""
    return {FAMILY_OF[cause] for cause in causes}
