"""Ensemble: what the networks and the features of a fit compute of scaled windows, as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.estimator.feature_head import FeatureHead
from sensorseq.nn import LSTMLinear
from sensorseq.numeric import log_softmax, logsumexp
from sensorseq.training.batches import TrainingData
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training.parameters import resolve_device
from sensorseq.training.patches import Patch
from sensorseq.training.stream import StreamedData


@dataclass(frozen=True)
class Ensemble:
    """Networks whose outputs are one, and the features that join them.

    The outputs of several networks `are_logits`, whose probabilities are averaged, or values. None
    of the `modules` counts where features decide alone.
    """

    modules: Sequence[LSTMLinear]
    n_outputs: int
    are_logits: bool
    device: str
    patch: Patch | None = None
    head: FeatureHead | None = None

    def outputs(self, X: torch.Tensor, lengths: torch.Tensor | None) -> NDArray[np.float64]:
        """Return the outputs for scaled windows (n, t, c), of shape (n, n_outputs)."""
        joined = np.zeros((len(X), self.n_outputs))
        if self.modules:
            steps = self.steps(X, lengths)
            outputs = [self.run(module, *steps) for module in self.modules]
            joined = outputs[0] if len(outputs) == 1 else self._join(np.stack(outputs))
        if self.head is None:
            return joined
        return self.head.join(joined, X.numpy(), None if lengths is None else lengths.numpy())

    def outputs_of(self, data: TrainingData | StreamedData) -> NDArray[np.float64]:
        """Return the outputs for all windows of a part."""
        return np.concatenate([self.outputs(block.X, block.lengths) for block in data.blocks()])

    def steps(
        self, X: torch.Tensor, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return scaled windows and their lengths as the networks take them."""
        return (X, lengths) if self.patch is None else self.patch.apply(X, lengths)

    def run(
        self, module: LSTMLinear, X: torch.Tensor, lengths: torch.Tensor | None
    ) -> NDArray[np.float64]:
        """Return the outputs of one network for windows as it takes them."""
        weight = module.linear.weight
        device = resolve_device(self.device, hidden_size=module.hidden_size, dtype=weight.dtype)
        if weight.device != device:
            module.to(device)
        return predict_outputs(module, X.to(weight.dtype), lengths).numpy().astype(np.float64)

    def _join(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one output for those of all networks, (members, n, outputs)."""
        if not self.are_logits:
            return np.asarray(outputs.mean(axis=0))
        # the logarithm of the mean of their probabilities
        return np.asarray(logsumexp(log_softmax(outputs, axis=2), axis=0) - np.log(len(outputs)))
