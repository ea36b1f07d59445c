"""Choose the weights to keep: moving average, best epoch, early stopping."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sensorseq.training.config import TrainingConfig


class WeightAverage:
    """Averages the weights of a module over its training steps.

    ``average = d * average + (1 - d) * weights`` after each step, with ``d = min(decay, (1 + step)
    / (10 + step))``, so that the initial weights soon lose influence. Buffers are not averaged.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._parameters = list(module.parameters())
        self._decay = decay
        self._n_steps = 0
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._stored: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after a step."""
        self._n_steps += 1
        decay = min(self._decay, (1 + self._n_steps) / (10 + self._n_steps))
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, 1.0 - decay)

    @torch.no_grad()
    def __enter__(self) -> None:
        self._stored = [parameter.detach().clone() for parameter in self._parameters]
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.copy_(average)

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for parameter, stored in zip(self._parameters, self._stored, strict=True):
            parameter.copy_(stored)


class ModuleWeights:
    """Weights of a module, or of one of several models, that can be stored and restored."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def copy_state(self) -> dict[str, Tensor]:
        """Return a copy of the module's state dict."""
        state = self.module.state_dict()
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def join(self) -> Tensor:
        """Return the parameters and floating-point buffers as one vector."""
        return torch.cat([part.detach().reshape(-1) for part in float_parts(self.module)])

    def read_module(self) -> None:
        """Read the weights from the module; a subclass may store a copy of them."""

    def write_module(self) -> None:
        """Copy the weights into the module if they are stored outside it."""


def float_parts(module: nn.Module) -> list[Tensor]:
    """Return the parameters and floating-point buffers of a module, in order."""
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    return [*module.parameters(), *buffers]


class BestEpoch:
    """Tracks the best epoch by the monitored column of the history.

    The best epoch is the first with the best value. `patience` is compared with the number of
    epochs since the last gain. A gain is a value that is better by more than `tol` than the value
    at the previous gain, so a slow but steady improvement also leads to gains. If the history lacks
    the monitored column, or if ``restore_best=False``, the latest epoch is the best.
    """

    def __init__(self, config: TrainingConfig, *, has_validation: bool) -> None:
        self.monitor = config.monitor
        self.observed = has_validation or not config.monitor.startswith("val_")
        if not self.observed:
            self.monitor = config.monitor.removeprefix("val_")
        self.epoch = 0
        self.score = float("nan")
        self._sign = 1.0 if self.monitor.endswith("loss") else -1.0
        self._keep_latest = not (config.restore_best and self.observed)
        self._tol = config.tol
        self._patience = config.patience
        self._reference = float("inf")
        self._n_stale = 0
        self._weights: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self._n_stale >= self._patience

    def update(self, row: Mapping[str, Any], weights: ModuleWeights) -> bool:
        """Process an epoch; return True if its value improved by more than `tol`."""
        value = self._sign * row[self.monitor]
        if self.epoch == 0 or self._keep_latest or value < self._sign * self.score:
            self.epoch, self.score = row["epoch"], row[self.monitor]
            self._weights = weights.copy_state()
        improved = bool(value < self._reference - self._tol)
        if improved:
            self._reference = value
        self._n_stale = 0 if improved else self._n_stale + 1
        return improved

    @torch.no_grad()
    def restore(self, module: nn.Module) -> None:
        """Copy the weights of the best epoch into the module."""
        module.load_state_dict(self._weights)
