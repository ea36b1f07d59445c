"""Objective: the loss that a run minimizes, and the score in its history."""

from typing import Any

import torch
from torch import Tensor

from sensorseq.training.config import CLASSIFICATION, SCORES, TrainingConfig
from sensorseq.training.losses import make_loss


class Objective:
    """Loss and score of one part of the windows.

    The score is the accuracy, or for a regression the coefficient of determination (`r2`) as
    scikit-learn has it: the mean over the outputs of ``1 - mean squared error / variance``, with
    the variance of this part's targets. An output that does not vary counts as 0.

    Parameters
    ----------
    config : TrainingConfig
        `task`, `loss` and `label_smoothing` are read.
    target : Tensor
        Of every window of the part.
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
    def merits(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return what each window adds to the score, shape (N,): the score is their mean."""
        if self._precision is None:
            return outputs.argmax(dim=1) == target
        precision = self._precision.to(outputs)
        explained = (precision > 0).to(outputs.dtype)
        return (explained - precision * (outputs - target).square()).mean(dim=1)

    def name_columns(self, loss: float, score: float, prefix: str = "") -> dict[str, Any]:
        """Return loss and score under the names they have in a history."""
        return {f"{prefix}loss": loss, f"{prefix}{self.score_name}": score}
