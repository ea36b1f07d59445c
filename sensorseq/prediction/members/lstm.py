"""LstmMember: LSTM networks, whose probabilities are averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.numeric import log_softmax, logsumexp
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.member import Kinds
from sensorseq.prediction.patches import Patch, read_patch


class Network(Protocol):
    """A trained network: an `LstmNetwork`, or a `ModuleNetwork` that contains a torch module."""

    @property
    def n_inputs(self) -> int:
        """The number of inputs per step."""

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""

    def outputs(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the outputs (n, n_outputs) for steps (n, t, n_inputs)."""


@dataclass(frozen=True, eq=False)
class LstmMember:
    """The networks of an ensemble or of the folds; their probabilities are averaged.

    `patch` describes how samples become inputs of the networks; it is None if each sample is one
    step.
    """

    networks: Sequence[Network] = ()
    patch: Patch | None = None

    def n_inputs(self, n_channels: int) -> int:
        """Return the number of inputs of the networks per step."""
        return n_channels if self.patch is None else self.patch.n_inputs(n_channels)

    def steps(
        self, X: NDArray[Any], lengths: NDArray[np.int64] | None
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Return scaled windows as inputs of the networks, with their lengths."""
        return (X, lengths) if self.patch is None else self.patch.apply(X, lengths)

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows."""
        steps = self.steps(X, lengths)
        outputs = [network.outputs(*steps) for network in self.networks]
        if len(outputs) == 1:
            return outputs[0]
        logs = logsumexp(log_softmax(np.stack(outputs), 2), 0)  # of the mean probability
        return np.asarray(logs - np.log(len(outputs)))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file, except the weights of the networks."""
        if self.patch is None:
            return {"patch": None}, {}
        return {"patch": self.patch.n_samples}, self.patch.arrays()

    @classmethod
    def restore(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "LstmMember":
        """Restore a member without its networks from `state`, or raise a ValueError."""
        return cls((), read_patch(settings["patch"], arrays))

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the networks read these channels and have these outputs."""
        expected = self.n_inputs(n_channels), n_outputs
        if self.patch is not None and self.patch.scaler is not None:
            n_scaled = self.patch.scaler.n_channels
            if n_scaled != expected[0]:
                raise ValueError(f"patch: statistics of {n_scaled} inputs; expected {expected[0]}")
        for network in self.networks:
            if (network.n_inputs, network.n_outputs) != expected:
                raise ValueError(
                    f"a network has {network.n_inputs} inputs and {network.n_outputs} outputs;"
                    f" expected {expected[0]} and {expected[1]}"
                )


KINDS: Kinds = {LSTM: LstmMember.restore}
