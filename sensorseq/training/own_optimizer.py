"""OwnOptimizer: training steps with a custom optimizer and custom learning rates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer


class OwnRates:
    """The learning rate of each parameter group in each step.

    Takes the place of `Schedule` in a run, which has one rate for all.

    Parameters
    ----------
    table : ndarray of shape (E, G), float64
        Of each epoch and group; later epochs have the rates of the last.
    steps_per_epoch : int
        Of the run.
    first_step : int
        Steps before the first epoch of the table.
    """

    def __init__(
        self, table: NDArray[np.float64], steps_per_epoch: int, first_step: int = 0
    ) -> None:
        self._table, self._steps_per_epoch = table, steps_per_epoch
        self._first_step = first_step

    def of_groups(self, step: int) -> list[float]:
        """Return the rate of each group in step `step`, counted as the run counts."""
        epoch = (step - self._first_step) // self._steps_per_epoch
        rates: list[float] = self._table[min(epoch, len(self._table) - 1)].tolist()
        return rates

    def learning_rate(self, step: int) -> float:
        """Return the rate of the first group."""
        return self.of_groups(step)[0]

    def end_epoch(self, *, improved: bool) -> None:
        """Take note of nothing: the rates are known beforehand."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing."""


@dataclass(frozen=True, eq=False)
class OwnOptimizer:
    """What takes the steps of a run by autograd in place of the optimizer of its configuration.

    Parameters
    ----------
    make : callable
        Gets the parameters of the module, returns the optimizer.
    table : ndarray of shape (E, G), float64
        Learning rate of each epoch and parameter group.
    options : dict
        What every parameter group is given after the optimizer was made.
    """

    make: Callable[[Sequence[Tensor]], Optimizer]
    table: NDArray[np.float64]
    options: Mapping[str, Any] = field(default_factory=dict)

    def make_optimizer(self, parameters: Sequence[Tensor]) -> Optimizer:
        """Return a new optimizer of these parameters."""
        optimizer = self.make(parameters)
        for group in optimizer.param_groups:
            group.update(self.options)
        return optimizer


def load_exactly(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state dict with the types that its tensors have.

    torch gives every tensor but `step` the type of its parameter; one that an optimizer keeps in
    another (`mu_product` of NAdam) would then continue in another precision.
    """
    optimizer.load_state_dict(dict(state))
    parameters = [part for group in optimizer.param_groups for part in group["params"]]
    for number, parameter in enumerate(parameters):
        held = optimizer.state[parameter] if number in state["state"] else {}
        for name, value in state["state"].get(number, {}).items():
            if isinstance(value, Tensor) and held[name].dtype != value.dtype:
                held[name] = value.to(held[name].device)
