"""What a recorder measures in detail: layer by layer, before, during and after a step."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import lstm, reference
from sensorseq.ops.train_epoch import STATISTIC_COLUMNS, output_site, slot_bounds
from sensorseq.training.batches import TrainingData
from sensorseq.training.losses import Objective
from sensorseq.training.randomness import isolated_torch_rng
from sensorseq.training_record import DETAIL_NAMES, TrainingRecord

Weights = tuple[Tensor, Tensor, Tensor]  # of the inputs, of the hidden state, and the bias


class LayerPass(NamedTuple):
    """What one layer read (after dropout) and gave: (N, T, I), (N, T, D * H) and (N, D, H).

    `hidden` is zero beyond the valid steps; `h_n` is the last state of each direction.
    """

    inputs: Tensor
    hidden: Tensor
    h_n: Tensor


class Masks(NamedTuple):
    """The factors of dropout of every layer, None where nothing is dropped.

    `recurrent` (N, D, H) is for the hidden state on its way into the gates; `outputs` for what
    leaves each layer, (N, T, D * H), or the pooled vector (N, P) of the top one.
    """

    recurrent: list[Tensor | None]
    outputs: list[Tensor | None]

    def take(self, rows: slice) -> "Masks":
        """Return those of some windows."""
        return Masks(*([None if m is None else m[rows] for m in masks] for masks in self))


def draw_masks(module: LSTMLinear, x: Tensor) -> Masks:
    """Draw what `forward` would now draw for windows (N, T, C), in its order."""
    n_windows, n_timesteps, _ = x.shape
    recurrent = [None if mask is None else mask[0] for mask in module._recurrent_masks(x)]
    outputs: list[Tensor | None] = [None] * module.num_layers
    if module.training and module.dropout > 0.0:
        n_directions = 2 if module.bidirectional else 1
        sequence = (n_windows, n_timesteps, n_directions * module.hidden_size)
        shapes = [*[sequence] * (module.num_layers - 1), (n_windows, module.linear.in_features)]
        outputs = [
            module._drop(x.new_ones(shape), module.dropout, output_site(layer))
            for layer, shape in enumerate(shapes)
        ]
    return Masks(recurrent, outputs)


def layer_weights(module: LSTMLinear) -> list[Weights]:
    """Return the weights of every layer as `sensorseq.ops.lstm` takes them, (1, D, ...)."""
    n_directions = 2 if module.bidirectional else 1
    return [module.lstm.layer(layer, n_directions) for layer in range(module.num_layers)]


def run_layers(
    module: LSTMLinear,
    x: Tensor,
    lengths: Tensor | None,
    masks: Masks | None = None,
    weights: Sequence[Weights] | None = None,
) -> list[LayerPass]:
    """Run the layers as `forward` does."""
    passes = []
    for layer, of_layer in enumerate(weights or layer_weights(module)):
        mask = None if masks is None else masks.recurrent[layer]
        hidden, h_n, _ = lstm(
            x[None],
            *of_layer,
            lengths=lengths,
            recurrent_mask=None if mask is None else mask[None],
        )
        passes.append(LayerPass(x, hidden[0], h_n[0]))
        if layer + 1 < module.num_layers:
            dropped = None if masks is None else masks.outputs[layer]
            x = hidden[0] if dropped is None else hidden[0] * dropped
    return passes


def pool_top(module: LSTMLinear, top: LayerPass, lengths: Tensor | None) -> Tensor:
    """Return the pooled vectors (N, P) of the top layer's hidden states."""
    return reference.pool(top.hidden[None], top.h_n[None], lengths, module.pooling)[0]


def valid_steps(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the valid steps of windows (N, T, C), (N,) on their device."""
    if lengths is None:
        return torch.full((x.shape[0],), x.shape[1], device=x.device)
    return lengths.to(x.device)


NAMES = STATISTIC_COLUMNS[STATISTIC_COLUMNS.index("update_ratio") :]
# of what enters a gate: a sigmoid is beyond 0.05 or 0.95 there, the tanh of the cell beyond 0.9
_SIGMOID_BOUND, _TANH_BOUND = math.log(19.0), math.atanh(0.9)


class AutogradDetails:
    """Measure a step while autograd takes it, without changing its bits.

    The definitions are those of `enum Statistic` in csrc/train_epoch.h, with the native engine's
    slots of windows, so that both engines give the same numbers (on a GPU the native engine has
    other slots, and so another estimate of `gradient_noise`). Call `begin` right before the forward
    pass, `watch` before the backward pass, and `finish` after the step.

    It costs about three steps more: the layers go forward and backward once more, a slot of windows
    at a time, with the masks of the step, and the gates of all steps are computed again. A module
    other than `LSTMLinear` goes backward once for each of up to 8 slots instead, and its saturation
    is NaN. Of several processes each measures its own windows.
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

        `outputs` (n, K) and `losses` (n,), weighted and without penalties, hold the graph of the
        step, which stays usable. With one loss for the batch, only `LSTMLinear` has a known noise.
        """
        batch, masks, n_windows = self._batch, self._masks, len(outputs)
        assert batch is not None, "watch() follows begin()"
        hidden_size = self._module.hidden_size if isinstance(self._module, LSTMLinear) else 1
        slots = [slice(*bounds) for bounds in pairwise(slot_bounds(n_windows, hidden_size))]
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
        """Return the numbers after the optimizer has changed the weights."""
        after = torch.cat([p.reshape(-1) for p in self._parameters]).double()
        before = torch.cat([p.reshape(-1) for p in self._before]).double()
        ratio = (after - before).norm() / before.norm()
        self._before = []
        return torch.cat([ratio[None], self._noise, self._saturated])

    def _nan(self, n: int) -> Tensor:
        return torch.full((n,), math.nan, dtype=torch.float64, device=self._parameters[0].device)


class _SlotPasses:
    """The step's own way through the layers, once more, each slot of windows by itself."""

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
        """Yield what the windows of each slot add to the gradient of the parameters."""
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
        bounds = X.new_tensor([_SIGMOID_BOUND, _SIGMOID_BOUND, _TANH_BOUND, _SIGMOID_BOUND])
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
                is_near = gates.abs_() > bounds.repeat_interleave(hidden_size)
                counts.append([part.count_nonzero() for part in is_near.split(hidden_size, dim=2)])
        totals = torch.stack([torch.stack(of_gates) for of_gates in counts]).sum(dim=0)
        return totals.double() / (n_valid.sum() * n_units)


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


N_PARTS = 16  # of a sequence, in the profiles
N_MASKS = 4
_AFTER = DETAIL_NAMES.index("same_batch_loss_after")


class StepDetails:
    """Measure steps of a training of any engine without touching it, on a copy of the module.

    A measured step costs somewhat less than two training steps more: a forward and a backward pass
    down to the input, and one forward pass after the step; with dropout four forward passes more.
    Results stay on the module's device until they are asked for. Losses are those of the step,
    weighted and without penalties, but in evaluation mode. Only `LSTMLinear` has a norm of the
    hidden vector.
    """

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        self._module, self._objective = module, objective
        self._scratch = copy.deepcopy(module)
        if isinstance(self._scratch, LSTMLinear):
            self._scratch.dropout_source = None  # its own masks, not those of the training
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
        """Measure at the weights right before a step; `step` counts the steps taken so far.

        `parameters` replace those of the module by name, where it does not hold the weights of the
        training: between the steps of a native epoch, or with an average of the weights.
        """
        with isolated_torch_rng(step, batch.X.device):
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
            cosine, last = nan, self._gradient
            if last is not None:
                cosine = (gradient @ last) / (gradient.norm() * last.norm())
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
        """Measure the batch of the last `before` again, at the weights right after its step."""
        assert self._batch is not None, "after() follows before()"
        batch, self._batch = self._batch, None
        with isolated_torch_rng(self._steps[-1], batch.X.device), torch.no_grad():
            self._load(parameters)
            self._set_evaluation_mode()
            loss = self._mean_loss(self._scratch(batch.X, batch.lengths), batch)
            self._rows[-1][_AFTER] = loss

    def fill(self, record: TrainingRecord, n_steps: int) -> None:
        """Write what was measured in the first `n_steps` into `record`; the rest did not count."""
        n_details = sum(step < n_steps for step in self._steps)
        rows = self._measured()[:n_details]
        first, second = len(DETAIL_NAMES), len(DETAIL_NAMES) + N_PARTS
        record.detail_steps = np.array(self._steps[:n_details], np.int64)
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
    for part in module.modules():
        of_class = "p" if isinstance(part, nn.modules.dropout._DropoutNd) else "dropout"
        for name in (of_class, "recurrent_dropout"):
            probability = getattr(part, name, 0.0)
            if isinstance(probability, float | int) and probability > 0:
                return True
    return False


def _split(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the sums of non-negative values (N, T) over each sixteenth of their valid steps.

    A step that lies in two sixteenths counts for each in proportion, so any length fills all.
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
