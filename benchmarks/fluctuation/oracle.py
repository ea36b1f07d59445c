"""Whether an injected fault came true, told by the fresh part against the healthy twin.

Movement and learning are those of `verdict/oracle.py`; beside them the level of the accuracy, the
median over the last third of the epochs. A run and its twin are trained from several seeds on the
same data; a fault came true if over these pairs

- training diverged, or could not learn what the twin did, in more than half of them; or
- the fresh part moves at least twice as much, in accuracy and in the mean probability of the true
  class, in the geometric mean, and by a point of accuracy at least; or
- the accuracy is 3 points lower or more in the mean, and lower in every pair.

Of a single pair the last also wants more than one standard error of the difference of two such
rates. Three pairs that agree by luck are one in eight, so this is no test at the 5 % level; it is
as much as 400 runs allow. A fault that did not come true is benign, and the right verdict on it is
normal.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from verdict.oracle import LEAST_MOVEMENT, VOLATILE_RATIO, Truth, find_truth
from verdict.runs import Evidence

LEAST_LOSS_OF_ACCURACY = 0.03
LEAST_RATIO_BASE = 1e-4  # movement below this is nothing; a ratio to it would be arbitrary
REPAIRED_RATIO = 1.5  # of movement, over the healthy twin
REPAIRED_ACCURACY = 0.02  # below the healthy twin


@dataclass(frozen=True)
class Outcome:
    """What the fresh part shows of one run.

    Parameters
    ----------
    truth : Truth
        Movement, learning, divergence.
    level : float
        Median accuracy over the last third of the epochs, a fraction.
    n_fresh : int
        Windows behind it.
    """

    truth: Truth
    level: float
    n_fresh: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Outcome":
        """Rebuild what `to_dict` gave."""
        return cls(Truth(**told["truth"]), told["level"], told["n_fresh"])


@dataclass(frozen=True)
class Manifestation:
    """Whether and how a fault came true.

    Parameters
    ----------
    fault : str
        ``"diverged"``, ``"not learning"``, ``"volatile"``, ``"less accurate"``, or empty: benign.
    n_pairs : int
        Seeds it was seen on.
    movement_ratio : float
        Geometric mean of the accuracy's movement over the twin's.
    accuracy_change : float
        Mean of the level less the twin's, a fraction.
    """

    fault: str
    n_pairs: int
    movement_ratio: float
    accuracy_change: float


def find_outcome(evidence: Evidence) -> Outcome:
    """Read the fresh part's figures of one run."""
    accuracy = evidence.fresh["accuracy"]
    level = float(np.median(accuracy[-max(len(accuracy) // 3, 1) :])) if len(accuracy) else 0.0
    return Outcome(find_truth(evidence), level, int(evidence.fresh["counts"].sum()))


def standard_error(first: Outcome, second: Outcome) -> float:
    """Return the standard error of the difference of two levels, as of independent windows."""
    variance = sum(of.level * (1 - of.level) / max(of.n_fresh, 1) for of in (first, second))
    return math.sqrt(variance)


def movement_ratio(run: Outcome, twin: Outcome) -> float:
    """Return how many times as much the fresh accuracy moves as the twin's."""
    floor = LEAST_RATIO_BASE
    return max(run.truth.movement, floor) / max(twin.truth.movement, floor)


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(float(np.mean(np.log(values))))


def manifested(pairs: Sequence[tuple[Outcome, Outcome]]) -> Manifestation:
    """Hold a run against its twin.

    Parameters
    ----------
    pairs : sequence of (Outcome, Outcome)
        Run and twin from the same seed; at least one.
    """
    runs = [run.truth for run, _ in pairs]
    ratio = _geometric_mean([movement_ratio(run, twin) for run, twin in pairs])
    change = float(np.mean([run.level - twin.level for run, twin in pairs]))

    def found(fault: str) -> Manifestation:
        return Manifestation(fault, len(pairs), ratio, change)

    if 2 * sum(run.diverged for run in runs) > len(pairs):
        return found("diverged")
    if 2 * sum(_cannot_learn(run.truth, twin.truth) for run, twin in pairs) > len(pairs):
        return found("not learning")
    surely = _geometric_mean(
        [
            max(run.truth.probability_movement, LEAST_RATIO_BASE)
            / max(twin.truth.probability_movement, LEAST_RATIO_BASE)
            for run, twin in pairs
        ]
    )
    moves = float(np.mean([run.movement for run in runs])) >= LEAST_MOVEMENT
    if moves and min(ratio, surely) >= VOLATILE_RATIO:
        return found("volatile")
    lower = all(run.level < twin.level for run, twin in pairs)
    if len(pairs) == 1:
        lower = -change > standard_error(*pairs[0])
    return found("less accurate" if lower and change <= -LEAST_LOSS_OF_ACCURACY else "")


def _cannot_learn(run: Truth, twin: Truth) -> bool:
    return not run.beats_guessing and twin.clearly_learned


def is_repaired(pairs: Sequence[tuple[Outcome, Outcome]]) -> bool:
    """Tell whether refits are as calm and as accurate as healthy runs from the same seeds.

    Movement at most 1.5 times the twin's in the geometric mean, or below what counts as movement;
    accuracy at most 2 points lower in the mean, or at most one standard error.
    """
    if any(run.truth.diverged for run, _ in pairs):
        return False
    ratio = _geometric_mean([movement_ratio(run, twin) for run, twin in pairs])
    still = float(np.mean([run.truth.movement for run, _ in pairs])) < LEAST_MOVEMENT
    lost = float(np.mean([twin.level - run.level for run, twin in pairs]))
    allowed = max(REPAIRED_ACCURACY, _mean_error(pairs))
    return (ratio <= REPAIRED_RATIO or still) and lost <= allowed


def is_harmed(pairs: Sequence[tuple[Outcome, Outcome]]) -> bool:
    """Tell whether refits are less accurate than the runs they are to repair, given as second."""
    lost = float(np.mean([before.level - after.level for after, before in pairs]))
    return lost > _mean_error(pairs)


def _mean_error(pairs: Sequence[tuple[Outcome, Outcome]]) -> float:
    # All seeds are scored on the same windows: their errors do not average out.
    return float(np.mean([standard_error(*pair) for pair in pairs]))
