"""Start: continue from a snapshot of a run, unchanged or with one change."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sensorseq.ops.train_epoch import EpochTrainer
from sensorseq.training.config import TrainingConfig
from sensorseq.training.optim import Schedule
from sensorseq.training.recorder import Recorder
from sensorseq.training.state import set_rng_state
from sensorseq.training_record import Snapshot

if TYPE_CHECKING:
    from sensorseq.training.engine import Run

DECAY_END = 0.01  # of the rate, where an arm lets it fall


class ReplayedRates:
    """The learning rates that a run had from a snapshot on, read at another pace or scaled.

    Takes the place of `Schedule` in a run.

    Parameters
    ----------
    schedule : Schedule
        Of the run, in the state it had at the snapshot.
    first_step : int
        Steps the run had taken.
    pace : float
        Steps of the run for each step taken now: batches of another size make fewer of an epoch.
    factor : float
        On every rate.
    n_decay_steps : int
        Over so many steps the rate also falls along a half cosine; 0 for none.
    """

    def __init__(
        self,
        schedule: Schedule,
        first_step: int,
        pace: float = 1.0,
        factor: float = 1.0,
        n_decay_steps: int = 0,
    ) -> None:
        self._schedule = schedule
        self._first_step = first_step
        self._pace, self._factor = pace, factor
        self._n_decay_steps = n_decay_steps

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step `step`, counted as the run counts."""
        taken = step - self._first_step
        rate = self._schedule.learning_rate(self._first_step + int(taken * self._pace))
        if self._n_decay_steps:
            done = min(1.0, taken / self._n_decay_steps)
            rate *= DECAY_END + (1 - DECAY_END) * 0.5 * (1 + math.cos(math.pi * done))
        return self._factor * rate

    def end_epoch(self, *, improved: bool) -> None:
        """Tell the schedule whether the monitored value improved in this epoch."""
        self._schedule.end_epoch(improved=improved)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the schedule."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of the schedule."""
        self._schedule.load_state_dict(state)


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run begins in place of its first weights.

    Parameters
    ----------
    snapshot : Snapshot
        State of the run that is gone on from.
    config : TrainingConfig
        That run's own: its schedule goes on.
    steps_per_epoch : int
        That run's own.
    keeps_order : bool
        Whether windows and crops come in the order that the run had from there on; else in one of
        the job's own seed.
    keeps_optimizer : bool
        Whether the optimizer's moments are gone on with.
    rate_factor : float
        On every learning rate.
    n_decay_epochs : int
        Epochs over which the rate falls to nearly nothing; 0 for as it was.
    """

    snapshot: Snapshot
    config: TrainingConfig
    steps_per_epoch: int
    keeps_order: bool = True
    keeps_optimizer: bool = True
    rate_factor: float = 1.0
    n_decay_epochs: int = 0

    def load_module(self, module: nn.Module) -> None:
        """Put the weights into a module, before a trainer takes them over."""
        module.load_state_dict(self.snapshot.state["module"])

    def load_run(self, run: "Run") -> None:
        """Put everything else but the optimizer into a run that is about to begin."""
        state, n_steps = self.snapshot.state, self.snapshot.step
        run.n_steps = n_steps
        if run.masks is not None:
            run.masks.step = n_steps
        if self.keeps_order:
            run.batches.load_state_dict(state["batches"])
            run.crop_rng.bit_generator.state = state["crop_rng"]
        schedule = Schedule(self.config, self.steps_per_epoch)
        schedule.load_state_dict(state["schedule"])
        run.schedule = ReplayedRates(
            schedule,
            n_steps,
            self.steps_per_epoch / run.batches.n_batches,
            self.rate_factor,
            self.n_decay_epochs * run.batches.n_batches,
        )
        run.best.load_reference(state["best"])
        run.first_epoch = self.snapshot.epoch

    def load_optimizer(self, run: "Run") -> None:
        """Put the optimizer's state into a run alone."""
        state = self.snapshot.state
        if self.keeps_order:  # random numbers of a custom module
            set_rng_state(state["torch_rng"], run.device)
        if run.native is not None:
            self.load_model(run.native.trainer, 0)
            return
        if self.keeps_optimizer:
            moments = copy.deepcopy(state["optimizer"])  # torch takes the tensors as they are
            run.optimizer.load_state_dict(_with_rates_of(run.optimizer, moments))
            if run.average is not None:
                # one that the run did not take begins with the weights of the snapshot
                weights = [part.detach() for part in run.module.parameters()]
                begun = {"n_steps": self.snapshot.step, "average": weights}
                run.average.load_state_dict(copy.deepcopy(state["average"] or begun))

    @torch.no_grad()
    def load_model(self, trainer: EpochTrainer, model: int) -> None:
        """Put the optimizer's state into one model of a native trainer."""
        if not self.keeps_optimizer:
            return
        native = self.snapshot.state["native"]
        for row, values in native["optimizer"].items():
            trainer.state[model, row].copy_(values)
        trainer.step_count[model] = native["step_count"].reshape(-1)[0]
        if trainer.average is not None and "average" in native:  # else it begins with the weights
            trainer.parameters[model].copy_(native["parameters"][0])
            trainer.average[model].copy_(native["average"][0])


def _with_rates_of(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the moments of a state with the options that an optimizer has now."""
    options = optimizer.state_dict()["param_groups"]
    return {"state": state["state"], "param_groups": options}


def recorder_of_arm(fixed: Any, n_epochs: int) -> Recorder:
    """Return a recorder that measures given windows, and the mean weights of the second half."""
    return Recorder(fixed=fixed, average_from=n_epochs // 2, keeps_snapshots=False)


def absorb_scaling(module: nn.Module, mean: Tensor, sd: Tensor) -> None:
    """Let the first layer compute from ``(x - mean) / sd`` what it does from x.

    Parameters
    ----------
    module : torch.nn.Module
        One with an `lstm` of torch's parameter names.
    mean, sd : Tensor of shape (c,)
        Of each channel.
    """
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "weight_ih_l0" not in name:
                continue
            bias = module.get_parameter(name.replace("weight_ih", "bias_ih"))
            bias.add_(weight @ mean.to(weight))
            weight.mul_(sd.to(weight))


def arm_config(config: TrainingConfig, n_epochs: int, **changes: Any) -> TrainingConfig:
    """Return a configuration that trains so many epochs and ends with its last weights."""
    return replace(
        config,
        **changes,
        max_epochs=n_epochs,
        max_steps=None,
        early_stopping=False,
        restore_best=False,
    )
