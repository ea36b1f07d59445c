"""Losses: one number for each window; the engine applies weights and averages."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import reference
from sensorseq.training.config import CLASSIFICATION, LOSSES, REGRESSION

LossFunction = Callable[[Tensor, Tensor], Tensor]


HUBER_DELTA = 1.0  # in the units of the targets the engine sees; torch's default


def make_loss(
    loss: str | Callable[..., Any], label_smoothing: float = 0.0, task: str = CLASSIFICATION
) -> LossFunction:
    """Return a function of outputs (N, K) and targets that gives one loss per window.

    Parameters
    ----------
    loss : str or callable
        For classification ``"cross_entropy"``, ``"focal"`` or ``"mse"``, as in
        `sensorseq.ops.reference.window_losses`, with class indices (N,) as targets. For regression
        ``"mse"``, ``"mae"`` or ``"huber"`` (quadratic up to an error of 1, linear beyond), averaged
        over the K outputs, with targets (N, K). A callable gets ``(outputs, targets)`` and returns
        a tensor of shape (N,), or the batch's mean as a scalar.
    label_smoothing : float, default=0.0
        For the named losses, in classification.
    task : {"classification", "regression"}, default="classification"
        Kind of targets.

    Raises
    ------
    ArgumentError
        If the name is unknown, or (when called) a callable returns another shape.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES[task])
    if task == REGRESSION:
        return _REGRESSION_LOSSES[loss]

    def named(logits: Tensor, class_index: Tensor) -> Tensor:
        return reference.window_losses(logits, class_index, loss, label_smoothing)

    return named


def nats_per_unit(loss: str, n_classes: int, label_smoothing: float = 0.0) -> float:
    """Return what a classification loss is multiplied by, so that a guess costs ln K nats.

    It is 1 for cross-entropy. It makes other losses comparable with margins in nats.
    """
    if loss == "cross_entropy" or n_classes < 2:
        return 1.0
    guess = torch.zeros(1, n_classes, dtype=torch.float64)
    own = make_loss(loss, label_smoothing)(guess, torch.zeros(1, dtype=torch.int64))
    return math.log(n_classes) / float(own)


def _mse(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).square().mean(dim=1)


def _mae(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).abs().mean(dim=1)


def _huber(outputs: Tensor, target: Tensor) -> Tensor:
    losses = functional.huber_loss(outputs, target, reduction="none", delta=HUBER_DELTA)
    return losses.mean(dim=1)


_REGRESSION_LOSSES: dict[str, LossFunction] = {"mse": _mse, "mae": _mae, "huber": _huber}


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
