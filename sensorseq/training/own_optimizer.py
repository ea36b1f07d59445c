"""OwnOptimizer: training steps with a custom optimizer and custom learning rates."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from sensorseq.training.replay import DECAY_END, Start
from sensorseq.training.state import set_rng_state

if TYPE_CHECKING:
    from sensorseq.training.engine import Run


class OwnRates:
    """The learning rate of each parameter group in each step.

    Takes the place of `Schedule` in a run, which has one rate for all.

    Parameters
    ----------
    table : ndarray of shape (E, G), float64
        Of each epoch and group; after the last the last goes on.
    steps_per_epoch : int
        Of the run that the table is of.
    first_step : int
        Steps that were taken before.
    pace : float
        Steps of that run for each step taken now: batches of another size make fewer of an epoch.
    factor : float
        On every rate.
    n_decay_steps : int
        Over so many steps the rates also fall along a half cosine; 0 for none.
    """

    def __init__(
        self,
        table: NDArray[np.float64],
        steps_per_epoch: int,
        first_step: int = 0,
        pace: float = 1.0,
        factor: float = 1.0,
        n_decay_steps: int = 0,
    ) -> None:
        self._table, self._steps_per_epoch = table, steps_per_epoch
        self._first_step, self._pace, self._factor = first_step, pace, factor
        self._n_decay_steps = n_decay_steps

    def of_groups(self, step: int) -> list[float]:
        """Return the rate of each group in step `step`, counted as the run counts."""
        taken = step - self._first_step
        epoch = (self._first_step + int(taken * self._pace)) // self._steps_per_epoch
        rates = self._table[min(epoch, len(self._table) - 1)].tolist()
        factor = self._factor
        if self._n_decay_steps:
            done = min(1.0, taken / self._n_decay_steps)
            factor *= DECAY_END + (1 - DECAY_END) * 0.5 * (1 + math.cos(math.pi * done))
        return [factor * rate for rate in rates]

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
        What every parameter group is given after it was made, or took over the state of another
        run.
    """

    make: Callable[[Sequence[Tensor]], Optimizer]
    table: NDArray[np.float64]
    options: Mapping[str, Any] = field(default_factory=dict)

    def make_optimizer(self, parameters: Sequence[Tensor]) -> Optimizer:
        """Return a new optimizer of these parameters."""
        optimizer = self.make(parameters)
        self.set_options(optimizer)
        return optimizer

    def set_options(self, optimizer: Optimizer) -> None:
        """Give every parameter group the options that differ."""
        for group in optimizer.param_groups:
            group.update(self.options)


@dataclass(frozen=True, eq=False)
class OwnStart(Start):
    """A `Start` for a run with a custom optimizer, continuing with its learning rates.

    Parameters
    ----------
    own : OwnOptimizer
        Of the run.
    """

    own: OwnOptimizer | None = None

    def load_run(self, run: "Run") -> None:
        """Put everything else but the optimizer into a run that is about to begin."""
        assert self.own is not None
        state, n_steps = self.snapshot.state, self.snapshot.step
        run.n_steps = n_steps
        if self.keeps_order:
            run.batches.load_state_dict(state["batches"])
            run.crop_rng.bit_generator.state = state["crop_rng"]
        run.schedule = OwnRates(
            self.own.table,
            self.steps_per_epoch,
            n_steps,
            self.steps_per_epoch / run.batches.n_batches,
            self.rate_factor,
            self.n_decay_epochs * run.batches.n_batches,
        )
        run.best.load_reference(state["best"])
        run.first_epoch = self.snapshot.epoch

    def load_optimizer(self, run: "Run") -> None:
        """Put the optimizer's state into a run; options it keeps beside its rates are of it."""
        assert self.own is not None
        state = self.snapshot.state
        if self.keeps_order:
            set_rng_state(state["torch_rng"], run.device)
        if self.keeps_optimizer:
            # torch takes over the tensors themselves, and would step on those of the snapshot
            load_exactly(run.optimizer, copy.deepcopy(state["optimizer"]))
            self.own.set_options(run.optimizer)


def load_exactly(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state dict with the types that its tensors have.

    torch gives every tensor but `step` the type of its parameter; one that an optimizer keeps in
    another (`mu_product` of NAdam) would then be gone on with in another precision.
    """
    optimizer.load_state_dict(dict(state))
    parameters = [part for group in optimizer.param_groups for part in group["params"]]
    for number, parameter in enumerate(parameters):
        held = optimizer.state[parameter] if number in state["state"] else {}
        for name, value in state["state"].get(number, {}).items():
            if isinstance(value, Tensor) and held[name].dtype != value.dtype:
                held[name] = value.to(held[name].device)
