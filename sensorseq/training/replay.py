"""Start: train the end of a run again from a snapshot, with a rate that falls to nearly nothing."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sensorseq.history import Snapshot
from sensorseq.ops.train_epoch import EpochTrainer
from sensorseq.training.config import TrainingConfig
from sensorseq.training.optim import OwnOptimizer, OwnRates, Schedule, cosine_between, load_exactly
from sensorseq.training.stopping import WeightAverage

DECAY_END = 0.01  # share of the rate that is left at the end of its decay


class FallingRates(Schedule):
    """The learning rates of a run from a snapshot on, times a half cosine that falls to 1 %."""

    def __init__(
        self, config: TrainingConfig, steps_per_epoch: int, first_step: int, n_steps: int
    ) -> None:
        super().__init__(config, steps_per_epoch)
        self._first_step, self._n_falling = first_step, n_steps

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step `step`, counted as the run counts."""
        done = min(1.0, (step - self._first_step) / self._n_falling)
        return cosine_between(1.0, DECAY_END, done) * super().learning_rate(step)


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run begins in place of its first weights; its windows come in another order.

    Weights, optimizer and schedule come from the `snapshot` of an earlier run; `config` and
    `steps_per_epoch` are that run's. The rate falls to nearly nothing over `n_epochs`. A custom
    optimizer, `own`, has the rates of the epochs to come, which fall already.
    """

    snapshot: Snapshot
    config: TrainingConfig
    steps_per_epoch: int
    n_epochs: int
    own: OwnOptimizer | None = None

    def load_module(self, module: nn.Module) -> None:
        """Put the weights into a module, before a trainer takes them over."""
        module.load_state_dict(self.snapshot.state["module"])

    def make_schedule(self, n_batches: int) -> Schedule | OwnRates:
        """Return the rates of a run that has so many batches in an epoch."""
        first_step = self.snapshot.step
        if self.own is not None:
            return OwnRates(self.own.table, n_batches, first_step)
        n_falling = self.n_epochs * n_batches
        schedule = FallingRates(self.config, self.steps_per_epoch, first_step, n_falling)
        schedule.load_state_dict(self.snapshot.state["schedule"])
        return schedule

    def load_optimizer(self, optimizer: Optimizer, average: WeightAverage | None) -> None:
        """Put the optimizer's state into a run by autograd."""
        state = copy.deepcopy(self.snapshot.state)  # torch takes the tensors as they are
        load_exactly(optimizer, state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])

    @torch.no_grad()
    def load_model(self, trainer: EpochTrainer, model: int) -> None:
        """Put the optimizer's state into one model of a native trainer."""
        native = self.snapshot.state["native"]
        for row, values in native["optimizer"].items():
            trainer.state[model, row].copy_(values)
        trainer.step_count[model] = native["step_count"].reshape(-1)[0]
        if trainer.average is not None:
            trainer.parameters[model].copy_(native["parameters"][0])
            trainer.average[model].copy_(native["average"][0])


def rerun_config(config: TrainingConfig, n_epochs: int, **changes: Any) -> TrainingConfig:
    """Return a configuration that trains so many epochs and ends with its last weights."""
    return replace(
        config,
        **changes,
        max_epochs=n_epochs,
        max_steps=None,
        early_stopping=False,
        restore_best=False,
    )
