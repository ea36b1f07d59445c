"""Detect windows of unknown classes, whose probabilities differ from those of known ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_real
from sensorseq.errors import InputError

FALSE_ALARM_RATES = np.arange(1, 101) / 200
N_NEIGHBORS = 5
SMALLEST_LOG = -6.0  # log-probabilities are clipped here, so that values below 0.25 % do not differ
_MOST_POINTS = 1000
_BLOCK = 256  # windows processed at a time


@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """Log-probabilities of held-out windows, and thresholds of the distance from them.

    The distance of a window is from its log-probabilities to the fifth nearest of `points` (m, K).
    At most the fractions `FALSE_ALARM_RATES` of known windows are farther than `thresholds` (100,),
    which are infinite if there were too few windows.
    """

    points: NDArray[np.float32]
    thresholds: NDArray[np.float64]

    @classmethod
    def learn(
        cls, probabilities: NDArray[np.float64], groups: NDArray[Any] | None
    ) -> "OutOfDistribution | None":
        """Choose points and thresholds by conformal prediction; None if there are too few windows.

        A window is compared with windows of other groups, like those of a new recording.
        """
        n = len(probabilities)
        if n <= N_NEIGHBORS or not np.isfinite(probabilities).all():
            return None
        names = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        rows = np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(np.int64)
        points = _logs(probabilities[rows]).astype(np.float32)
        is_own = names[:, None] == names[rows]
        distances = _distances(points, probabilities, is_own)
        farthest = np.concatenate([[np.inf], np.sort(distances)[::-1]])
        return cls(points, farthest[np.floor(FALSE_ALARM_RATES * (n + 1) + 1e-9).astype(int)])

    def distance(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of windows with probabilities (n, K), as (n,)."""
        return _distances(self.points, probabilities)

    def threshold(self, false_alarm_rate: float) -> float:
        """Return the distance above which a window is unknown."""
        low, high = FALSE_ALARM_RATES[[0, -1]].tolist()
        check_real("false_alarm_rate", false_alarm_rate, low, high, high_open=False)
        threshold = float(self.thresholds[int(false_alarm_rate / low + 1e-9) - 1])
        if not np.isfinite(threshold):
            finite = FALSE_ALARM_RATES[np.isfinite(self.thresholds)]
            way = (
                f"The lowest rate of this model is {finite[0]:g}" if len(finite) else "Record more"
            )
            raise InputError(
                "fit left out too few windows or groups for"
                f" false_alarm_rate={false_alarm_rate:g}. {way}."
            )
        return threshold

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file."""
        return {"known.points": self.points, "known.thresholds": self.thresholds}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], n_classes: int | None
    ) -> "OutOfDistribution | None":
        """Rebuild the ranges from `arrays`; None if a file has none."""
        if "known.points" not in arrays:
            return None
        points, thresholds = arrays["known.points"], arrays["known.thresholds"]
        fits = (
            points.ndim == 2 and n_classes in (None, points.shape[1]) and len(points) > N_NEIGHBORS
        )
        if not fits or points.dtype != np.float32 or not np.isfinite(points).all():
            raise ValueError(f"the log-probabilities of known windows have shape {points.shape}")
        falls = thresholds.shape == FALSE_ALARM_RATES.shape and (thresholds >= 0).all()
        if not falls or (np.diff(np.minimum(thresholds, 1e300)) > 0).any():
            raise ValueError("the thresholds of false alarm rates do not fall")
        return cls(points, thresholds)


def _logs(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probabilities), SMALLEST_LOG)


def _distances(
    points: NDArray[np.float32],
    probabilities: NDArray[np.float64],
    is_left_out: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the distance to the fifth nearest point, (n,), ignoring those in `without` (n, m)."""
    found = np.empty(len(probabilities))
    for at in range(0, len(found), _BLOCK):
        logs = _logs(probabilities[at : at + _BLOCK])
        squares = np.zeros((len(logs), len(points)))
        # A fixed order, so that one window and many give equal bits.
        for k in range(points.shape[1]):
            squares += (logs[:, k, None] - points[:, k]) ** 2
        if is_left_out is not None:
            squares[is_left_out[at : at + _BLOCK]] = np.inf
        nearest = np.partition(squares, N_NEIGHBORS - 1, axis=1)[:, N_NEIGHBORS - 1]
        found[at : at + _BLOCK] = np.sqrt(nearest)
    return found
