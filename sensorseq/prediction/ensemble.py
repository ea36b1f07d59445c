"""Ensemble: joins the outputs of a fit's networks and features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorseq.numeric import log_softmax, logsumexp
from sensorseq.prediction.head import FeatureHead
from sensorseq.prediction.patches import Patch


class Network(Protocol):
    """A trained network."""

    def outputs(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the outputs (n, n_outputs) for steps (n, t, n_inputs)."""


@dataclass(frozen=True)
class Ensemble:
    """Networks whose outputs are joined, and the features beside them.

    The logits of several networks are averaged as probabilities. Where features decide alone,
    there are no `networks`.
    """

    networks: Sequence[Network]
    n_outputs: int
    patch: Patch | None = None
    head: FeatureHead | None = None

    def outputs(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the outputs for scaled windows (n, t, c), of shape (n, n_outputs)."""
        joined = np.zeros((len(X), self.n_outputs))
        if self.networks:
            steps = self.steps(X, lengths)
            outputs = [network.outputs(*steps) for network in self.networks]
            joined = outputs[0] if len(outputs) == 1 else self._join(np.stack(outputs))
        return joined if self.head is None else self.head.join(joined, X, lengths)

    def steps(
        self, X: NDArray[Any], lengths: NDArray[np.int64] | None
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return scaled windows as inputs of the networks, with their lengths."""
        return (X, lengths) if self.patch is None else self.patch.apply(X, lengths)

    def _join(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Combine the outputs of all networks, of shape (members, n, outputs)."""
        # the logarithm of the mean probability
        return np.asarray(logsumexp(log_softmax(outputs, 2), 0) - np.log(len(outputs)))
