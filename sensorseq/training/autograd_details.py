"""AutogradDetails: what the native engine notes about a step in detail, of a step by autograd."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import STATISTIC_COLUMNS, slot_bounds
from sensorseq.training.data import TrainingData
from sensorseq.training.layers import (
    Masks,
    draw_masks,
    layer_weights,
    pool_top,
    run_layers,
    valid_steps,
)

NAMES = STATISTIC_COLUMNS[STATISTIC_COLUMNS.index("update_ratio") :]
# of what enters a gate: a sigmoid is beyond 0.05 or 0.95 there, the tanh of the cell beyond 0.9
_SIGMOID_BOUND, _TANH_BOUND = math.log(19.0), math.atanh(0.9)


class AutogradDetails:
    """Measure a step while autograd takes it; its own bits stay as they would be.

    The definitions are those of `enum Statistic` in csrc/train_epoch.h, with the native engine's
    slots of windows, so that both engines give the same numbers. Around a step::

        details.begin(batch)                     # right before the forward pass
        outputs = module(batch.X, batch.lengths)
        losses = ...                             # of each window, weighted
        details.watch(outputs, losses)           # before the backward pass
        losses.mean().backward()
        optimizer.step()
        numbers = details.finish()               # NAMES, on the device

    Parameters
    ----------
    module : torch.nn.Module
        What is trained, in training mode. For other modules than `LSTMLinear` the saturation is
        NaN.

    Notes
    -----
    It costs about three steps more: the layers go forward and backward once more, a slot of windows
    at a time, with the masks of the step, and the gates of all steps are computed anew. Another
    module's graph goes backward once for each of up to 8 slots instead. On a GPU the native engine
    has other slots, and with them another estimate of `gradient_noise`. Of several processes each
    measures its own windows.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._before: list[Tensor] = []
        self._batch: TrainingData | None = None
        self._masks: Masks | None = None
        self._noise = self._saturated = torch.zeros(())

    def begin(self, batch: TrainingData) -> None:
        """Note the weights before the step, and the masks it is going to draw."""
        self._batch = batch
        self._before = [parameter.detach().clone() for parameter in self._parameters]
        if isinstance(self._module, LSTMLinear):
            device = batch.X.device
            # torch's generator then draws the same masks again, for the step
            with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
                self._masks = draw_masks(self._module, batch.X)

    def watch(self, outputs: Tensor, losses: Tensor) -> None:
        """Measure the noise of the gradient and the saturation of the gates.

        Parameters
        ----------
        outputs : Tensor of shape (n_windows, K)
            Of the module, with the graph of the step.
        losses : Tensor of shape (n_windows,), or ()
            Of each window, weighted and without penalties, with the graph of the step, which stays
            usable; or the mean of the batch, of which the noise of other modules is not known.
        """
        batch, masks, n_windows = self._batch, self._masks, len(outputs)
        assert batch is not None, "watch() follows begin()"
        slots = [slice(*bounds) for bounds in pairwise(slot_bounds(n_windows))]
        self._batch = self._masks = None
        self._noise, self._saturated = self._nan(1), self._nan(4)
        if isinstance(self._module, LSTMLinear):
            assert masks is not None
            passes = _SlotPasses(self._module, batch, masks, slots)
            self._saturated = passes.saturated()
            total = losses.sum() if losses.ndim else losses * n_windows
            (grad_outputs,) = torch.autograd.grad(total, outputs, retain_graph=True)
            gradients = passes.gradients(grad_outputs)
        elif losses.ndim:
            gradients = (_gradient(losses[slot].sum(), self._parameters) for slot in slots)
        else:
            return
        if len(slots) > 1:
            self._noise = _noise(gradients, slots)[None]

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Return the numbers after the optimizer has changed the weights.

        Returns
        -------
        Tensor of shape (6,), float64
            As `NAMES` says, on the device of the module.
        """
        after = torch.cat([p.reshape(-1) for p in self._parameters]).double()
        before = torch.cat([p.reshape(-1) for p in self._before]).double()
        ratio = (after - before).norm() / before.norm()
        self._before = []
        return torch.cat([ratio[None], self._noise, self._saturated])

    def _nan(self, n: int) -> Tensor:
        return torch.full((n,), math.nan, dtype=torch.float64, device=self._parameters[0].device)


class _SlotPasses:
    """The step's own way through the layers, once more, each slot of windows by itself.

    Parameters
    ----------
    module : LSTMLinear
        In training mode.
    batch, masks
        Of the step.
    slots : sequence of slice
        Its windows.
    """

    def __init__(
        self, module: LSTMLinear, batch: TrainingData, masks: Masks, slots: Sequence[slice]
    ) -> None:
        self._module, self._batch, self._masks, self._slots = module, batch, masks, slots
        self._weights = layer_weights(module)
        self._layers, self._pooled = [], []
        for slot in slots:
            lengths = None if batch.lengths is None else batch.lengths[slot]
            layers = run_layers(module, batch.X[slot], lengths, masks.take(slot), self._weights)
            self._layers.append(layers)
            self._pooled.append(pool_top(module, layers[-1], lengths))

    def gradients(self, grad_outputs: Tensor) -> Iterator[Tensor]:
        """Yield what the windows of each slot add to the gradient of the parameters.

        Parameters
        ----------
        grad_outputs : Tensor of shape (N, K)
            Gradient of the outputs.
        """
        # Batch norm mixes the windows: what counts is what comes back through those of the slot.
        pooled = torch.cat([part.detach() for part in self._pooled]).requires_grad_()
        features, norm, head = pooled, self._module.norm, self._module.linear
        if isinstance(norm, nn.BatchNorm1d):  # in training mode, without its running statistics
            features = functional.batch_norm(
                pooled, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
            )
        elif norm is not None:
            features = norm(pooled)
        mask = self._masks.outputs[-1]
        outputs = head(features if mask is None else features * mask)
        (grad_pooled,) = torch.autograd.grad(outputs, pooled, grad_outputs, retain_graph=True)
        below = [p for p in self._module.lstm.parameters() if p.requires_grad]
        above = [p for part in (norm, head) if part for p in part.parameters() if p.requires_grad]
        for slot, of_slot in zip(self._slots, self._pooled, strict=True):
            of_layers = _gradient(of_slot, below, grad_pooled[slot])
            yield torch.cat([of_layers, _gradient(outputs[slot], above, grad_outputs[slot])])

    @torch.no_grad()
    def saturated(self) -> Tensor:
        """Return the share of each gate's values near its bounds, over valid steps, (4,)."""
        X, lengths = self._batch.X, self._batch.lengths
        n_valid = valid_steps(X, lengths)
        is_valid = None
        if lengths is not None:
            steps = torch.arange(X.shape[1], device=X.device)
            is_valid = (steps < n_valid[:, None])[:, :, None]
        counts, n_units = [], 0
        for layer, (weight_ih, weight_hh, bias) in enumerate(self._weights):
            of_slots = [layers[layer] for layers in self._layers]
            inputs = torch.cat([part.inputs for part in of_slots])
            hidden = torch.cat([part.hidden for part in of_slots])
            _, n_directions, _, hidden_size = weight_hh.shape
            n_units += n_directions * hidden_size
            for direction, states in enumerate(hidden.chunk(n_directions, dim=2)):
                # the state that each step began with; beyond the valid steps there are zeros
                before = (
                    functional.pad(states[:, :-1], (0, 0, 1, 0))
                    if direction == 0
                    else functional.pad(states[:, 1:], (0, 0, 0, 1))
                )
                mask = self._masks.recurrent[layer]
                if mask is not None:
                    before *= mask[:, None, direction]
                gates = functional.linear(inputs, weight_ih[0, direction], bias[0, direction])
                gates.flatten(0, 1).addmm_(before.flatten(0, 1), weight_hh[0, direction].T)
                if is_valid is not None:
                    gates *= is_valid  # what enters a gate as zero is far from its bounds
                counts.append(_count_saturated(gates))
        share: Tensor = torch.stack(counts).sum(dim=0).double() / (n_valid.sum() * n_units)
        return share


def _gradient(
    output: Tensor, parameters: Sequence[Tensor], grad_output: Tensor | None = None
) -> Tensor:
    if not parameters:  # frozen
        return output.new_zeros(0, dtype=torch.float64)
    found = torch.autograd.grad(
        output,
        parameters,
        grad_output,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([part.reshape(-1) for part in found]).double()


def _noise(gradients: Iterable[Tensor], slots: Sequence[slice]) -> Tensor:
    """Estimate the trace of the covariance of one window's gradient, without bias.

    With G_s the sum over the n_s windows of slot s and G that over all B, the sum over S slots of
    ``|G_s|^2 / n_s``, less ``|G|^2 / B``, is S - 1 times the trace on average.
    """
    of_slots = torch.stack(list(gradients))
    sizes = of_slots.new_tensor([slot.stop - slot.start for slot in slots])
    between = (of_slots.square().sum(dim=1) / sizes).sum()
    noise: Tensor = between - of_slots.sum(dim=0).square().sum() / sizes.sum()
    return noise / (len(slots) - 1)


def _count_saturated(gates: Tensor) -> Tensor:
    """Return how many of each gate are near its bounds, of what enters them (N, T, 4H)."""
    bounds = gates.new_tensor([_SIGMOID_BOUND, _SIGMOID_BOUND, _TANH_BOUND, _SIGMOID_BOUND])
    width = gates.shape[2] // 4
    is_saturated = gates.abs_() > bounds.repeat_interleave(width)
    return torch.stack([part.count_nonzero() for part in is_saturated.split(width, dim=2)])
