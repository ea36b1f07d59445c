"""Losses: one number for each window, so that weights and averages are the engine's business."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.training.config import LOSSES

LossFunction = Callable[[Tensor, Tensor], Tensor]
FOCAL_GAMMA = 2.0  # the value of the source below


def make_loss(
    loss: str | Callable[..., Any], n_classes: int, label_smoothing: float = 0.0
) -> LossFunction:
    """Return a function of logits (N, K) and class indices (N,) that gives one loss per window.

    Parameters
    ----------
    loss : {"cross_entropy", "focal", "mse"} or callable
        ``"focal"`` is cross-entropy times ``(1 - p)**2`` [1]_. ``"mse"`` is the mean over classes
        of the squared difference of softmax and one-hot target (the Brier score divided by K,
        what Keras computes for a softmax output). A callable gets ``(logits, class_index)`` and
        returns a tensor of shape (N,), or the batch's mean as a scalar.
    n_classes : int
        K.
    label_smoothing : float, default=0.0
        The target is ``1 - s + s / K`` for the true class and ``s / K`` for the others.

    Raises
    ------
    ArgumentError
        If the name is unknown, or (when called) a callable returns another shape.

    References
    ----------
    .. [1] T.-Y. Lin et al., *Focal Loss for Dense Object Detection*, 2017.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES)

    def cross_entropy(logits: Tensor, class_index: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits, class_index, reduction="none", label_smoothing=label_smoothing
        )

    def target(logits: Tensor, class_index: Tensor) -> Tensor:
        one_hot = functional.one_hot(class_index, n_classes).to(logits.dtype)
        return one_hot * (1.0 - label_smoothing) + label_smoothing / n_classes

    def focal(logits: Tensor, class_index: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, dim=1)
        # 1 - p as a sum of the others would be exact near one; expm1 is as good and cheaper.
        distance = -torch.expm1(log_p)
        return -(target(logits, class_index) * distance**FOCAL_GAMMA * log_p).sum(dim=1)

    def mse(logits: Tensor, class_index: Tensor) -> Tensor:
        difference = functional.softmax(logits, dim=1) - target(logits, class_index)
        return (difference**2).mean(dim=1)

    return {"cross_entropy": cross_entropy, "focal": focal, "mse": mse}[loss]


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
