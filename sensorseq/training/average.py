"""WeightAverage: an exponential moving average of the weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average the weights of a module over its training steps.

    ``average = d * average + (1 - d) * weights`` after each step, with
    ``d = min(decay, (1 + step) / (10 + step))``, so that the random start is soon forgotten.
    Buffers (running statistics of a norm) are averages already and stay the module's own.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters are averaged.
    decay : float
        In [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._parameters = list(module.parameters())
        self._decay = decay
        self._n_steps = 0
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._stored: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one more step."""
        self._n_steps += 1
        decay = min(self._decay, (1 + self._n_steps) / (10 + self._n_steps))
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, 1.0 - decay)

    @torch.no_grad()
    def __enter__(self) -> None:
        """Put the average into the module, until the block ends."""
        self._stored = [parameter.detach().clone() for parameter in self._parameters]
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.copy_(average)

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for parameter, stored in zip(self._parameters, self._stored, strict=True):
            parameter.copy_(stored)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to continue from here."""
        return {"n_steps": self._n_steps, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was called."""
        self._n_steps = state["n_steps"]
        for average, value in zip(self._average, state["average"], strict=True):
            average.copy_(value)
