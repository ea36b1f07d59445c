"""Start: retrain the end of a run from a snapshot, with a rate that falls to nearly zero."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sensorseq.history import Snapshot
from sensorseq.ops.train_epoch import EpochTrainer
from sensorseq.training.config import TrainingConfig
from sensorseq.training.optim import Schedule, cosine_between, load_exactly
from sensorseq.training.stopping import WeightAverage

DECAY_END = 0.01  # fraction of the rate at the end of the decay


class FallingRates(Schedule):
    """The rates of a run from a snapshot on, multiplied by a half cosine that falls to 1 %."""

    def __init__(
        self, config: TrainingConfig, steps_per_epoch: int, first_step: int, n_steps: int
    ) -> None:
        super().__init__(config, steps_per_epoch)
        self._first_step, self._n_falling = first_step, n_steps

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step `step` in the run's count."""
        done = min(1.0, (step - self._first_step) / self._n_falling)
        return cosine_between(1.0, DECAY_END, done) * super().learning_rate(step)


@dataclass(frozen=True, eq=False)
class Start:
    """A snapshot to start a run from, with the windows in another order.

    Weights, optimizer and schedule come from the `snapshot` of an earlier run; `config` and
    `steps_per_epoch` are that run's. The rate falls to nearly zero over `n_epochs`.
    """

    snapshot: Snapshot
    config: TrainingConfig
    steps_per_epoch: int
    n_epochs: int

    def load_module(self, module: nn.Module) -> None:
        """Load the weights into a module before a trainer takes them over."""
        module.load_state_dict(self.snapshot.state["module"])

    def make_schedule(self, n_batches: int) -> Schedule:
        """Return the schedule of a run with this number of batches per epoch."""
        first_step = self.snapshot.step
        n_falling = self.n_epochs * n_batches
        schedule = FallingRates(self.config, self.steps_per_epoch, first_step, n_falling)
        schedule.load_state_dict(self.snapshot.state["schedule"])
        return schedule

    def load_optimizer(self, optimizer: Optimizer, average: WeightAverage | None) -> None:
        """Load the optimizer's state into a run with autograd."""
        state = copy.deepcopy(self.snapshot.state)  # because torch does not copy the tensors
        load_exactly(optimizer, state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])

    @torch.no_grad()
    def load_model(self, trainer: EpochTrainer, model: int) -> None:
        """Load the optimizer's state into a model of a native trainer."""
        native = self.snapshot.state["native"]
        for row, values in native["optimizer"].items():
            trainer.state[model, row].copy_(values)
        trainer.step_count[model] = native["step_count"].reshape(-1)[0]
        if trainer.average is not None:
            trainer.parameters[model].copy_(native["parameters"][0])
            trainer.average[model].copy_(native["average"][0])


def rerun_config(config: TrainingConfig, n_epochs: int, **changes: Any) -> TrainingConfig:
    """Return a configuration for `n_epochs` that keeps the last weights."""
    return replace(
        config,
        **changes,
        max_epochs=n_epochs,
        max_steps=None,
        early_stopping=False,
        restore_best=False,
    )
