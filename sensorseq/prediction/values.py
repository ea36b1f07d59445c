"""ValuePredictor: numbers in the unit of y."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.prediction.predictor import WindowPredictor


class ValuePredictor(WindowPredictor):
    """A trained regressor, whose networks give values in sd from their mean."""

    target_mean_: NDArray[np.float64]
    target_sd_: NDArray[np.float64]
    _flat_targets: bool  # y was (n,), not (n, k)

    @property
    def _n_outputs(self) -> int:
        return len(self.target_mean_)

    def _restore_targets(self, take: Callable[[str, Any], Any]) -> None:
        mean, sd = take("target_mean", list), take("target_sd", list)
        if any(type(value) not in (int, float) for value in (*mean, *sd)):
            raise TypeError("target_mean and target_sd are numbers")
        self.target_mean_, self.target_sd_ = np.array(mean, float), np.array(sd, float)
        self._flat_targets = take("flat_targets", bool)
        scaling = np.stack([self.target_mean_, self.target_sd_])
        if scaling.ndim != 2 or not np.isfinite(scaling).all():
            raise ValueError("target_mean and target_sd are a finite number for each output")
        if self._flat_targets and self._n_outputs > 1:
            raise ValueError(f"flat_targets with {self._n_outputs} outputs")

    def _predictions(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        values = np.asarray(outputs * self.target_sd_ + self.target_mean_)
        return values[:, 0] if self._flat_targets else values
