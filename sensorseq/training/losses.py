"""Losses: one number for each window, so that weights and averages are the engine's business."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.ops import reference
from sensorseq.training.config import LOSSES

LossFunction = Callable[[Tensor, Tensor], Tensor]


def make_loss(loss: str | Callable[..., Any], label_smoothing: float = 0.0) -> LossFunction:
    """Return a function of logits (N, K) and class indices (N,) that gives one loss per window.

    Parameters
    ----------
    loss : {"cross_entropy", "focal", "mse"} or callable
        Names as in `sensorseq.ops.reference.window_losses`. A callable gets
        ``(logits, class_index)`` and returns a tensor of shape (N,), or the batch's mean as a
        scalar.
    label_smoothing : float, default=0.0
        Of the named ones.

    Raises
    ------
    ArgumentError
        If the name is unknown, or (when called) a callable returns another shape.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES)

    def named(logits: Tensor, class_index: Tensor) -> Tensor:
        return reference.window_losses(logits, class_index, loss, label_smoothing)

    return named


def _checked(loss: Callable[..., Any]) -> LossFunction:
    def per_window(logits: Tensor, class_index: Tensor) -> Tensor:
        value = loss(logits, class_index)
        if not isinstance(value, Tensor) or value.shape not in ((), class_index.shape):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(
                f"loss returned {shape} for {len(class_index)} windows; a callable loss returns a"
                f" tensor of shape ({len(class_index)},), or the batch's mean as a scalar."
            )
        return value

    return per_window
