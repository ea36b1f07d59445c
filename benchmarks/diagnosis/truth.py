"""What is true of a row: whether its run is sick, and which single resets repair it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnosis.faults import FAMILY_OF
from diagnosis.resets import REPAIRED, SAME, helps, is_calm, repairs
from verdict.oracle import CLEARLY_LEARNED, movement

Row = Mapping[str, Any]
MOVES = 0.03  # of accuracy on fresh windows: seen by whoever looks at the curve
FAILS = 0.25  # of what the best fit has above guessing: less is as good as nothing learned


def best_of(row: Row) -> float:
    """Return the best level known of its windows: one that two fits of its draw reached.

    The highest of many is too high by luck, so that a good run would look bad beside it.
    """
    return float(sorted(row["known"].values())[-2])


def is_sick(row: Row) -> bool:
    """Tell whether a run is 5 points below the best known, or moves more than healthy ones do."""
    return row["level"] < best_of(row) - REPAIRED or not is_calm(row["movement"])


def fresh_movement(row: Row) -> float:
    """Return how much the accuracy on fresh windows moves; no statistic of the report."""
    return movement(np.array(row["fresh"], float))


def fails(row: Row) -> bool:
    """Tell whether a run learned next to nothing where something can be learned, or diverged."""
    guess = guess_of(row)
    return row["level"] - guess < FAILS * (best_of(row) - guess)


def guess_of(row: Row) -> float:
    """Return the accuracy of the commonest class in fresh windows, of one in K where unknown."""
    return float(row.get("guess") or 1 / (row["report"]["n_classes"] or 2))


def is_healthy(row: Row) -> bool:
    """Tell whether a run clearly learned, and neither moves, fails nor falls behind."""
    clearly = row["level"] >= guess_of(row) + CLEARLY_LEARNED
    return clearly and not is_sick(row) and not moves_or_fails(row)


def moves_or_fails(row: Row) -> bool:
    """Tell whether a run moves by 3 points or more, or fails."""
    return fresh_movement(row) >= MOVES or fails(row)


def repaired_by(row: Row, outcome: Row) -> bool:
    """Tell whether an outcome strictly repairs a run."""
    return repairs(
        outcome["level"],
        outcome["movement"],
        best=best_of(row),
        before=row["movement"],
        fluctuates=not is_calm(row["movement"]),
    )


def right_causes(row: Row, *, strictly: bool = True) -> set[str]:
    """Return the causes whose single reset repairs a sick run, which another seed alone does not.

    Not strictly, those with whose reset it is 5 points more accurate.
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
