"""Losses per window, and the objective that a run minimizes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import reference
from sensorseq.training.config import LOSSES

LossFunction = Callable[[Tensor, Tensor], Tensor]


def make_loss(loss: str | Callable[..., Any], label_smoothing: float = 0.0) -> LossFunction:
    """Return a function of outputs (N, K) and classes (N,) that gives one loss per window.

    The losses are those of `sensorseq.ops.reference.window_losses`. A callable takes
    ``(outputs, targets)`` and returns (N,), or the batch's mean as a scalar.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES)
    return partial(reference.window_losses, loss=loss, label_smoothing=label_smoothing)


def nats_per_unit(loss: str, n_classes: int, label_smoothing: float = 0.0) -> float:
    """Return the factor that scales a loss so that guessing costs ln K nats."""
    if loss == "cross_entropy":
        return 1.0
    guess = torch.zeros(1, n_classes, dtype=torch.float64)
    own = make_loss(loss, label_smoothing)(guess, torch.zeros(1, dtype=torch.int64))
    return math.log(n_classes) / float(own)


def _checked(loss: Callable[..., Any]) -> LossFunction:
    def per_window(outputs: Tensor, target: Tensor) -> Tensor:
        value = loss(outputs, target)
        if not isinstance(value, Tensor) or value.shape not in ((), (len(target),)):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(
                f"loss returned {shape} for {len(target)} windows; a callable loss must return a"
                f" tensor of shape ({len(target)},), or the batch's mean as a scalar."
            )
        return value

    return per_window
