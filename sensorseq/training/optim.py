"""Optimizers, learning-rate schedules and clipping, with torch's names and arithmetic."""

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sensorseq.base.optimizers import OPTIMIZERS
from sensorseq.errors import ArgumentError
from sensorseq.training.config import TrainingConfig, count_epochs, count_warmup_steps

COSINE_END = 0.01  # fraction of learning_rate at the end of the cosine
PLATEAU_FACTOR = 0.5

_CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def make_optimizer(parameters: Iterable[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    """Create a torch optimizer by name.

    Options that `optimizer_params` lacks have torch's defaults, but the momentum of sgd is 0.9.
    `weight_decay` applies to every parameter. It is decoupled in adamw, and is added to the
    gradient in the other optimizers.
    """
    options = {**OPTIMIZERS[config.optimizer].defaults, **(config.optimizer_params or {})}
    make: Any = _CLASSES[config.optimizer]
    try:
        optimizer: torch.optim.Optimizer = make(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, **options
        )
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"optimizer_params={config.optimizer_params!r} is not valid for"
            f" optimizer={config.optimizer!r}: {error}."
        ) from error
    return optimizer


def optimizer_options(config: TrainingConfig) -> dict[str, Any]:
    """Return all options of the optimizer."""
    if config.optimizer_params:  # torch raises an error for invalid options
        return make_optimizer([torch.nn.Parameter(torch.zeros(1))], config).defaults
    # Creating the first optimizer would import torch's compiler, which takes seconds.
    parameters = inspect.signature(_CLASSES[config.optimizer]).parameters
    of_config = {"weight_decay": config.weight_decay, **OPTIMIZERS[config.optimizer].defaults}
    return {name: parameter.default for name, parameter in parameters.items()} | of_config


class Schedule:
    """The learning rate of each step.

    - ``constant``: always `learning_rate`.
    - ``cosine``: half a cosine from `learning_rate` down to a hundredth of it at the end of the
      run.
    - ``plateau``: halved whenever the monitored value has not improved for a quarter of `patience`
      epochs.

    The rate rises linearly during the first `warmup_epochs`. `count_epochs` gives the length of the
    run.
    """

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        self._config = config
        self._n_steps = count_epochs(config, steps_per_epoch) * steps_per_epoch
        self._n_warmup = count_warmup_steps(config, steps_per_epoch)
        self._plateau_scale = 1.0
        self._plateau_patience = max(1, config.patience // 4)
        self._n_stale = 0

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step `step`, counted from 0."""
        peak = self._config.learning_rate
        if step < self._n_warmup:
            return peak * (step + 1) / self._n_warmup
        if self._config.lr_schedule == "cosine":
            done = (step - self._n_warmup) / max(1, self._n_steps - self._n_warmup)
            return peak * cosine_between(1.0, COSINE_END, min(1.0, done))
        return peak * self._plateau_scale

    def end_epoch(self, *, improved: bool) -> None:
        """Update the schedule after an epoch; `improved` tells if the monitored value improved."""
        self._n_stale = 0 if improved else self._n_stale + 1
        if self._config.lr_schedule == "plateau" and self._n_stale >= self._plateau_patience:
            self._plateau_scale *= PLATEAU_FACTOR
            self._n_stale = 0


def cosine_between(start: float, end: float, done: float) -> float:
    """Return the value of a half cosine from `start` to `end` at the fraction `done`."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))


def clip_gradients(parameters: Sequence[Tensor], bound: float | None) -> Tensor:
    """Clip the gradients in place; return their global norm before clipping as a scalar tensor."""
    if bound is not None:
        return torch.nn.utils.clip_grad_norm_(parameters, bound)
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
