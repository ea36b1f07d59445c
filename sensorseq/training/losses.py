"""Losses per window, and the objective that a run minimizes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import reference
from sensorseq.prediction.predictor import CLASSIFICATION, REGRESSION
from sensorseq.training.config import LOSSES, SCORES, TrainingConfig

LossFunction = Callable[[Tensor, Tensor], Tensor]


HUBER_DELTA = 1.0  # in the units of the targets in the engine; torch's default


def make_loss(
    loss: str | Callable[..., Any], label_smoothing: float = 0.0, task: str = CLASSIFICATION
) -> LossFunction:
    """Return a function of outputs (N, K) and targets that gives one loss per window.

    For classes (N,), the losses are those of `sensorseq.ops.reference.window_losses`; for values
    (N, K), ``"mse"``, ``"mae"`` or ``"huber"`` (quadratic up to an error of 1, linear beyond),
    averaged over the K outputs. A callable takes ``(outputs, targets)`` and returns (N,), or the
    batch's mean as a scalar.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES[task])
    if task == REGRESSION:
        of_value = _REGRESSION_LOSSES[loss]
        return lambda outputs, target: of_value(outputs, target, reduction="none").mean(dim=1)
    return partial(reference.window_losses, loss=loss, label_smoothing=label_smoothing)


def nats_per_unit(loss: str, n_classes: int, label_smoothing: float = 0.0) -> float:
    """Return the factor that scales a classification loss so that guessing costs ln K nats."""
    if loss == "cross_entropy" or n_classes < 2:
        return 1.0
    guess = torch.zeros(1, n_classes, dtype=torch.float64)
    own = make_loss(loss, label_smoothing)(guess, torch.zeros(1, dtype=torch.int64))
    return math.log(n_classes) / float(own)


_REGRESSION_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": partial(functional.huber_loss, delta=HUBER_DELTA),
}


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


class Objective:
    """Loss and score of one part of the windows.

    The score is the accuracy, or for a regression `r2` as in scikit-learn: the mean over the
    outputs of ``1 - mean squared error / variance``, with the variance of this part's targets. An
    output that does not vary counts as 0.
    """

    def __init__(self, config: TrainingConfig, target: Tensor) -> None:
        self.losses = make_loss(config.loss, config.label_smoothing, config.task)
        self.score_name = SCORES[config.task]
        self._precision: Tensor | None = None
        if config.task != CLASSIFICATION:
            variance = target.double().var(dim=0, unbiased=False)
            varies = variance > 0
            self._precision = torch.where(varies, 1.0 / variance.where(varies, 1.0), 0.0)

    @torch.no_grad()
    def scores(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return each window's contribution to the score, (N,); the score is their mean."""
        if self._precision is None:
            return outputs.argmax(dim=1) == target
        precision = self._precision.to(outputs)
        explained = (precision > 0).to(outputs.dtype)
        return (explained - precision * (outputs - target).square()).mean(dim=1)

    def name_columns(self, loss: float, score: float, prefix: str = "") -> dict[str, Any]:
        """Return loss and score by their column names in a history."""
        return {f"{prefix}loss": loss, f"{prefix}{self.score_name}": score}
