"""The truth about a run, from a fresh part that is hidden from our rules and the rivals' rules.

The fresh part, with groups that are neither in training nor in validation, is predicted after every
epoch. The movement of the model is computed from two figures, the accuracy and the mean probability
of the true class. Both are bounded, so a loss that explodes or vanishes distorts neither; the
windows stay the same, so only changes of the model move the two figures. Movement is

    sqrt(mean((a_{t+1} - a_t)^2) / 2)

over the last half of the epochs: the standard deviation of white noise, from successive
differences (J. von Neumann et al., *The mean square successive difference*, 1941). Our verdict does
not use it: it uses medians of second differences and residuals of a local trend.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from verdict.runs import Evidence

VOLATILE_RATIO = 2.0  # movement of both figures, relative to that of the healthy twin
LEAST_MOVEMENT = 0.01  # movement of the accuracy; below this, even twice the twin's is negligible
CLEARLY_LEARNED = 0.15  # balanced accuracy above guessing


@dataclass(frozen=True)
class Truth:
    """Facts about one run, measured on the fresh part.

    Parameters
    ----------
    movement : float
        Movement of the accuracy, a fraction.
    probability_movement : float
        Movement of the mean probability of the true class.
    above_chance : float
        Balanced accuracy (each class has equal weight) minus 1 / K, the value of guessing; the
        median over the last third of the epochs.
    beats_guessing : bool
        Whether `above_chance` is more than chance, with 95 % confidence.
    diverged : bool
        Whether a training loss was not finite.
    """

    movement: float
    probability_movement: float
    above_chance: float
    beats_guessing: bool
    diverged: bool

    @property
    def clearly_learned(self) -> bool:
        """Whether a run has learned enough to count as healthy."""
        return self.beats_guessing and self.above_chance >= CLEARLY_LEARNED


def find_truth(evidence: Evidence) -> Truth:
    """Compute the truth about one run from its figures on the fresh part."""
    balanced = evidence.fresh["balanced"]
    counts = evidence.fresh["counts"][evidence.fresh["counts"] > 0]
    chance = 1 / len(counts)
    sd = math.sqrt(float((chance * (1 - chance) / counts).sum())) / len(counts)
    level = float(np.median(balanced[-max(len(balanced) // 3, 1) :])) if len(balanced) else 0.0
    return Truth(
        movement=movement(evidence.fresh["accuracy"]),
        probability_movement=movement(evidence.fresh["probability"]),
        above_chance=level - chance,
        beats_guessing=level > chance + 1.645 * sd,
        diverged=not all(math.isfinite(row["loss"]) for row in evidence.rows),
    )


def movement(series: NDArray[np.float64]) -> float:
    """Return the movement of a figure of the fresh part over the second half of the epochs."""
    settled = series[len(series) // 2 :]
    settled = settled[np.isfinite(settled)]
    if len(settled) < 2:
        return 0.0
    return float(np.sqrt(np.mean(np.diff(settled) ** 2) / 2))


def is_faulty(run: Truth, twin: Truth) -> str:
    """Return how a run is worse than its healthy twin: diverged, not learning, volatile or ""."""
    if run.diverged:
        return "diverged"
    if not run.beats_guessing and twin.clearly_learned:
        return "not learning"
    moved = run.movement >= max(VOLATILE_RATIO * twin.movement, LEAST_MOVEMENT)
    surely = run.probability_movement >= VOLATILE_RATIO * twin.probability_movement
    return "volatile" if moved and surely else ""
