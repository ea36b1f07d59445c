"""StepDetails: what a batch and its own step do to each other, measured on a copy."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.training.data import TrainingData
from sensorseq.training.layers import pool_top, run_layers, valid_steps
from sensorseq.training.objective import Objective
from sensorseq.training.randomness import isolated_torch_rng
from sensorseq.training_record import DETAIL_NAMES, TrainingRecord

N_PARTS = 16  # of a sequence, in the profiles
N_MASKS = 4
_AFTER = DETAIL_NAMES.index("same_batch_loss_after")


class StepDetails:
    """Measure steps of a training of any engine without touching it.

    At a step it costs somewhat less than two training steps: a forward and a backward pass down to
    the input, and one more forward pass after the step; with dropout four forward passes more.
    Results stay on the module's device until they are asked for. The module, its gradients and
    running statistics, the optimizer and torch's generators are left as they are.

    Parameters
    ----------
    module : torch.nn.Module
        ``module(X, lengths)`` gives logits or values, (N, K). Copied once; the copy takes over
        weights and buffers at each measured step.
    objective : Objective
        Of the training part: its losses.

    Notes
    -----
    Losses are those of the step, weighted and without penalties, but in evaluation mode. The norm
    of the hidden vector is that of `LSTMLinear`, and NaN for other modules.
    """

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        self._module, self._objective = module, objective
        self._scratch = copy.deepcopy(module)
        if isinstance(self._scratch, LSTMLinear):
            self._scratch.dropout_source = None  # its own masks, not those of the training
            self._scratch.inference_precision = "float32"  # the other has no gradients
        self._has_dropout = _has_dropout(module)
        self._rnn_dropout = {
            part: part.dropout for part in self._scratch.modules() if isinstance(part, nn.RNNBase)
        }
        self._named = {
            name: parameter
            for name, parameter in self._scratch.named_parameters()
            if parameter.requires_grad
        }
        self._steps: list[int] = []
        # of each step: DETAIL_NAMES, time profile, hidden norm, norms of the tensors
        self._rows: list[Tensor] = []
        self._gradient: Tensor | None = None  # of the step measured last, flat
        self._batch: TrainingData | None = None

    def before(
        self, batch: TrainingData, step: int, parameters: Mapping[str, Tensor] | None = None
    ) -> None:
        """Measure at the weights right before a step.

        Parameters
        ----------
        batch : TrainingData
            What the step trains on, on the device of the module.
        step : int
            Steps taken so far.
        parameters : mapping of str to Tensor, optional
            Weights by the names of ``module.named_parameters()``, where the module does not hold
            those of the training: between the steps of a native epoch, or with an average of the
            weights. Running statistics may be among them, by their names in the state dict; what is
            not given is the module's.

        Raises
        ------
        ArgumentError
            If a name is not the module's.
        """
        with self._undisturbed(batch, step):
            self._load(parameters)
            self._set_evaluation_mode()
            x = batch.X.detach().clone().requires_grad_()
            outputs, hidden = self._forward(x, batch.lengths)
            loss = self._mean_loss(outputs, batch)
            grad_x, *found = torch.autograd.grad(
                loss, [x, *self._named.values()], allow_unused=True, materialize_grads=True
            )
            gradient = torch.cat([part.reshape(-1) for part in found]).double()
            norms = torch.stack(torch._foreach_norm(found)).double()
            nan = torch.full((), math.nan, dtype=torch.float64, device=x.device)
            cosine = nan if self._gradient is None else _cosine(gradient, self._gradient)
            variance = self._dropout_variance(batch) if self._has_dropout else nan
            of_hidden = nan.expand(N_PARTS)
            if hidden is not None:
                norms_of_part = _split(hidden.detach().norm(dim=2), batch.lengths)
                n_valid = valid_steps(x, batch.lengths)[:, None]
                of_windows = N_PARTS * norms_of_part / n_valid.clamp(min=1)
                of_hidden = of_windows.sum(dim=0) / (n_valid > 0).sum()
            sizes = _split(grad_x.norm(dim=2), batch.lengths).sum(dim=0)
            details = torch.stack([loss.detach().double(), nan, cosine, variance])
            self._rows.append(torch.cat([details, sizes / sizes.sum(), of_hidden, norms]))
        self._steps.append(step)
        self._gradient, self._batch = gradient, batch

    def after(self, parameters: Mapping[str, Tensor] | None = None) -> None:
        """Measure the batch of the last `before` again, at the weights right after its step.

        Parameters
        ----------
        parameters : mapping of str to Tensor, optional
            As in `before`.
        """
        assert self._batch is not None, "after() follows before()"
        batch, self._batch = self._batch, None
        with self._undisturbed(batch, self._steps[-1]), torch.no_grad():
            self._load(parameters)
            self._set_evaluation_mode()
            loss = self._mean_loss(self._scratch(batch.X, batch.lengths), batch)
            self._rows[-1][_AFTER] = loss

    def fill(self, record: TrainingRecord) -> None:
        """Write what was measured into `record`."""
        rows = self._measured()
        first, second = len(DETAIL_NAMES), len(DETAIL_NAMES) + N_PARTS
        record.detail_steps = np.array(self._steps, np.int64)
        record.details = {name: rows[:, i] for i, name in enumerate(DETAIL_NAMES)}
        record.time_profile = rows[:, first:second]
        record.hidden_norm = rows[:, second : second + N_PARTS]
        norms = rows[:, second + N_PARTS :].T
        record.tensor_grad_norms = dict(zip(self._named, norms, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to continue from here, as arrays."""
        gradient = np.zeros(0) if self._gradient is None else self._gradient.cpu().numpy()
        return {
            "steps": np.array(self._steps, np.int64),
            "rows": self._measured(),
            "gradient": gradient,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was called."""
        device = next(self._module.parameters()).device
        self._steps = [int(step) for step in state["steps"]]
        self._rows = list(torch.tensor(state["rows"], device=device))
        gradient = torch.tensor(state["gradient"], device=device)
        self._gradient = gradient if len(gradient) else None
        self._batch = None

    def _measured(self) -> Any:
        if not self._rows:
            return np.zeros((0, len(DETAIL_NAMES) + 2 * N_PARTS + len(self._named)))
        return torch.stack(self._rows).cpu().numpy()

    @staticmethod
    def _undisturbed(batch: TrainingData, step: int) -> Any:
        """Return a block that draws random numbers only from its own generator."""
        return isolated_torch_rng(step, batch.X.device)

    @torch.no_grad()
    def _load(self, parameters: Mapping[str, Tensor] | None) -> None:
        given = dict(parameters or {})
        own = (*self._module.named_parameters(), *self._module.named_buffers())
        copies = dict((*self._scratch.named_parameters(), *self._scratch.named_buffers()))
        for name, tensor in own:
            copies[name].copy_(given.pop(name, tensor))
        if given:
            raise ArgumentError(
                f"parameters has {next(iter(given))!r}, which is not in the module; use the names"
                " of its named_parameters()."
            )

    def _set_evaluation_mode(self) -> None:
        self._scratch.eval()
        for part in self._rnn_dropout:
            # cuDNN goes backward in training mode alone
            part.train()
            part.dropout = 0.0

    def _forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the outputs, and the top layer's hidden sequence where there is one."""
        module = self._scratch
        if not isinstance(module, LSTMLinear):
            return module(x, lengths), None
        top = run_layers(module, x, lengths)[-1]
        pooled = pool_top(module, top, lengths)
        return module.linear(pooled if module.norm is None else module.norm(pooled)), top.hidden

    def _mean_loss(self, outputs: Tensor, batch: TrainingData) -> Tensor:
        losses = self._objective.losses(outputs, batch.target)
        return losses.mean() if batch.weight is None else (losses * batch.weight).mean()

    @torch.no_grad()
    def _dropout_variance(self, batch: TrainingData) -> Tensor:
        self._scratch.train()
        for part, probability in self._rnn_dropout.items():
            part.dropout = probability
        losses = [
            self._mean_loss(self._scratch(batch.X, batch.lengths), batch) for _ in range(N_MASKS)
        ]
        return torch.stack(losses).double().var()


def _has_dropout(module: nn.Module) -> bool:
    """Whether a part of the module says that it drops something."""
    for part in module.modules():
        of_class = "p" if isinstance(part, nn.modules.dropout._DropoutNd) else "dropout"
        for name in (of_class, "recurrent_dropout"):
            probability = getattr(part, name, 0.0)
            if isinstance(probability, float | int) and probability > 0:
                return True
    return False


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    cosine: Tensor = (first @ second) / (first.norm() * second.norm())
    return cosine


def _split(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the sums of non-negative values (N, T) over each sixteenth of their valid steps.

    A step that lies in two of them counts for each in proportion, so that sequences of any length
    fill all.

    Returns
    -------
    Tensor of shape (N, 16), float64
    """
    n_windows, n_timesteps = values.shape
    valid = valid_steps(values, lengths)[:, None]
    sums = values.new_zeros((n_windows, n_timesteps + 1), dtype=torch.float64)
    torch.cumsum(values, dim=1, dtype=torch.float64, out=sums[:, 1:])
    # where the sixteenths end, as whole steps and what is left over: exact
    ends = valid * torch.arange(N_PARTS + 1, device=values.device)
    whole, left = ends // N_PARTS, (ends % N_PARTS) / N_PARTS
    low = sums.gather(1, whole)
    high = sums.gather(1, (whole + 1).clamp(max=n_timesteps))
    of_part: Tensor = (low + left * (high - low)).diff(dim=1)
    return of_part
