"""FitTarget: what an estimator learns to predict."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class FitTarget(Protocol):
    """Labels become targets to train on, and outputs of the network become predictions."""

    @property
    def task(self) -> str:
        """The task of the loss, see `sensorseq.training.config`."""

    @property
    def n_outputs(self) -> int:
        """Outputs of the network."""

    def learn(self, y: Any, n_windows: int, takes_part: NDArray[np.bool_]) -> NDArray[Any]:
        """Check y, learn from it, and return the targets of the windows that take part."""

    def read(self, y: Any, n_windows: int, name: str, owner: str) -> NDArray[Any]:
        """Check other labels, and return their targets."""

    def learn_scale(self, target: NDArray[Any]) -> None:
        """Learn what is learned of the training part alone."""

    def encode(self, target: NDArray[Any]) -> NDArray[Any]:
        """Return the targets as the engine trains on them."""

    def weigh(
        self, target: NDArray[Any], weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Return the factor on the loss of each training window."""

    def predictions(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        """Turn the outputs (n, n_outputs) of a network into predictions."""
