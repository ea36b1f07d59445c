"""Run optimizer steps with autograd, one batch after another."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.ops.choice import MANY, batches_of
from sensorseq.training.batches import Rows, TrainingData
from sensorseq.training.config import TrainingConfig
from sensorseq.training.evaluation import LossFunction
from sensorseq.training.optim import Schedule, clip_gradients, make_optimizer
from sensorseq.training.randomness import CounterDropout
from sensorseq.training.stopping import WeightAverage
from sensorseq.training.window_format import crop_tensor

StepOutputs = list[tuple[Tensor, Tensor]]
"""For each step, the losses (n,) or () and the outputs (n, K) of its windows."""


class AutogradSteps:
    """Runs the optimizer steps of a training run, with its weight average and dropout.

    On a CPU, the dropout masks equal those of the native engine.
    """

    def __init__(
        self,
        module: nn.Module,
        config: TrainingConfig,
        losses_of: LossFunction,
        seed: int,
    ) -> None:
        self._module, self._config, self._losses_of = module, config, losses_of
        self._parameters = list(module.parameters())
        self._device = self._parameters[0].device
        self.optimizer = make_optimizer(self._parameters, config)
        decay = config.ema_decay
        self.average = None if decay is None else WeightAverage(module, decay)
        self._masks: CounterDropout | None = None
        if isinstance(module, LSTMLinear) and self._device.type == "cpu":
            # torch's own masks are faster, mainly on a GPU, but no other engine can reproduce them
            self._masks = CounterDropout(seed)
            module.dropout_source = self._masks

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Return a context manager within which the module has the weights that are validated."""
        return nullcontext() if self.average is None else self.average

    def take(
        self,
        data: TrainingData,
        rows: Rows,
        step: int,
        schedule: Schedule,
        crop_rng: np.random.Generator,
        step_outputs: StepOutputs | None = None,
    ) -> Tensor:
        """Run step `step`; return its summed loss, number of correct windows and gradient norm.

        The losses and outputs of the step's windows are appended to `step_outputs`.
        """
        config = self._config
        batch = data.take(torch.from_numpy(rows), self._device)
        if config.max_timesteps is not None and config.crop == "random":
            X, lengths = crop_tensor(batch.X, batch.lengths, config.max_timesteps, crop_rng)
            batch = replace(batch, X=X, lengths=lengths)
        for group in self.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(step)
        if self._masks is not None:
            self._masks.step = step
        self.optimizer.zero_grad(set_to_none=True)
        loss, score = self._backward(batch, step_outputs)
        norm = clip_gradients(self._parameters, config.max_grad_norm)
        try:
            self.optimizer.step()
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            raise ArgumentError(
                f"learning_rate={config.learning_rate!r} is too large for {loss.dtype}."
            ) from error
        if self.average is not None:
            self.average.update()
        return torch.stack([loss.detach() * len(rows), score.to(loss.dtype), norm])

    def _backward(
        self, batch: TrainingData, step_outputs: StepOutputs | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the gradients of a batch; return its mean loss and number of correct windows."""
        with batches_of(self._config.batch_size or MANY):
            outputs = self._module(batch.X, batch.lengths)
        losses = _weigh(self._losses_of(outputs, batch.target), batch.weight)
        # divide by the number of windows, not by the sum of their weights, to keep batches unbiased
        loss = losses.mean()
        if step_outputs is not None:
            step_outputs.append((losses.detach(), outputs.detach()))
        loss.backward()
        return loss, (outputs.argmax(dim=1) == batch.target).sum()


def _weigh(losses: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses
    if losses.ndim == 0:
        raise ArgumentError(
            "loss returned one number for the batch, but sample_weight and class_weight need one"
            " for each window. Return a tensor of shape (n_windows,)."
        )
    return losses * weight
