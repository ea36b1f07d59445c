"""The truth about a run, from a fresh part that is hidden from our rules and the rivals' rules.

After every epoch, the model predicts the fresh part, whose groups are in neither training nor
validation. The movement of the model is computed from two series, the accuracy and the mean
probability of the true class. Both are bounded, so an exploding or vanishing loss does not distort
them; the windows stay the same, so only changes of the model change the values. The movement of a
series is

    sqrt(mean((a_{t+1} - a_t)^2) / 2)

over the second half of the epochs. For white noise this is the standard deviation, computed from
successive differences (J. von Neumann et al., *The mean square successive difference*, 1941). Our
verdict does not use movement; it uses medians of second differences and residuals of a local trend.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from verdict.runs import Evidence

VOLATILE_RATIO = 2.0  # least movement of both series, relative to the healthy twin's movement
LEAST_MOVEMENT = 0.01  # smaller movements of the accuracy never count as volatile
CLEARLY_LEARNED = 0.15  # least gain in balanced accuracy over guessing


@dataclass(frozen=True)
class Truth:
    """Facts about one run, measured on the fresh part.

    Parameters
    ----------
    movement : float
        Movement of the accuracy, as a fraction.
    probability_movement : float
        Movement of the mean probability of the true class.
    above_chance : float
        Median balanced accuracy (each class has equal weight) over the last third of the epochs,
        minus 1 / K, the value of guessing.
    beats_guessing : bool
        Whether the accuracy is above chance with 95 % confidence.
    diverged : bool
        Whether any training loss was not finite.
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
    """Compute the truth about one run from its results on the fresh part."""
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
    """Return the movement of a series of the fresh part over the second half of the epochs."""
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
