"""Evaluate networks: compute window losses, the mean loss and accuracy of a part, and outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.nn import LSTMLinear
from sensorseq.ops import lstm, lstm_linear, reference
from sensorseq.ops.choice import batches_of
from sensorseq.ops.train_epoch import NetworkLayout
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.network import LstmNetwork
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.config import LOSSES
from sensorseq.training.parameters import resolve_device
from sensorseq.training.streamed_data import StreamedData
from sensorseq.training.torch_network import ARCHITECTURE

LossFunction = Callable[[Tensor, Tensor], Tensor]


def make_loss(loss: str | Callable[..., Any], label_smoothing: float = 0.0) -> LossFunction:
    """Return a function that takes outputs (N, K) and classes (N,) and returns window losses (N,).

    `sensorseq.ops.reference.window_losses` defines the named losses. A callable receives
    ``(outputs, targets)`` and returns losses (N,), or their mean over the batch as a scalar.
    """
    if callable(loss):
        return _checked(loss)
    check_choice("loss", loss, LOSSES)
    return partial(reference.window_losses, loss=loss, label_smoothing=label_smoothing)


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


# Mean loss and accuracy


@torch.no_grad()
def evaluate(
    module: nn.Module,
    data: TrainingData | StreamedData,
    losses_of: LossFunction,
    keep: Callable[[Tensor], Any] | None = None,
) -> tuple[float, float]:
    """Return the unweighted mean loss and the accuracy of `data`, in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    data : TrainingData or StreamedData
        The windows.
    losses_of : callable
        Function that returns the loss of each window; see `make_loss`.
    keep
        As in `evaluate_models`.
    """
    device = next(module.parameters()).device
    module.eval()

    def forward(batch: TrainingData) -> Tensor:
        outputs: Tensor = module(batch.X, batch.lengths)
        return outputs[None]

    return evaluate_models(forward, data, losses_of, device, keep)[0]


@torch.no_grad()
def evaluate_models(
    forward: Callable[[TrainingData], Tensor],
    data: TrainingData | StreamedData,
    losses_of: LossFunction,
    device: torch.device,
    keep: Callable[[Tensor], Any] | None = None,
) -> list[tuple[float, float]]:
    """Return the unweighted mean loss and the accuracy of M models for `data`, on `device`.

    `forward` returns the outputs (M, n, K) for a batch. `keep` is called with the outputs of each
    batch, in order.
    """
    totals = torch.zeros((1, 2), dtype=torch.float64)
    with closing(data.blocks()) as blocks, batches_of(EVALUATION_BATCH):
        for block in blocks:
            for rows in torch.arange(len(block)).split(EVALUATION_BATCH):
                is_whole = len(rows) == len(block) and block.X.device == device
                batch = block if is_whole else block.take(rows, device)
                outputs = forward(batch)
                if keep is not None:
                    keep(outputs)
                target = batch.target.expand(len(outputs), -1)
                totals = totals + sum_scores(
                    outputs, target, [len(batch)] * len(outputs), losses_of
                )
    return [(mean_loss, accuracy) for mean_loss, accuracy in (totals / len(data)).tolist()]


@torch.no_grad()
def sum_scores(
    outputs: Tensor, target: Tensor, n_windows: Sequence[int], losses_of: LossFunction
) -> Tensor:
    """Return the sum of losses and the number of correct windows of each model, (M, 2).

    `outputs` have the shape (M, n, K), and `target` has the shape (M, n). Of model m, only the
    first ``n_windows[m]`` windows count.
    """
    flat, target = outputs.flatten(0, 1), target.flatten(0, 1)
    losses = losses_of(flat, target)
    hits = (flat.argmax(dim=1) == target).view(len(outputs), -1)
    of_models = [losses] if len(outputs) == 1 else losses.view(len(outputs), -1).unbind()
    # Summed model by model, because a model's sum must not depend on the number of models.
    means, sums = [], []
    for loss, hit, n in zip(of_models, hits.unbind(), n_windows, strict=True):
        means.append((loss if loss.ndim == 0 or len(loss) == n else loss[:n]).mean())
        sums.append(hit.sum() if len(hit) == n else hit[:n].sum())
    counts = torch.tensor(n_windows, dtype=flat.dtype, device=flat.device)
    return torch.stack(
        [(torch.stack(means) * counts).double(), torch.stack(sums).double()], dim=1
    ).cpu()


def name_weights(network: NetworkLayout, weights: Tensor) -> dict[str, Tensor]:
    """Return named views of the weights (M, Q) of M networks, each with M as its first axis."""
    shapes = network.parameter_shapes()
    columns = weights.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {
        name: part.unflatten(1, shape)
        for (name, shape), part in zip(shapes.items(), columns, strict=True)
    }


@torch.no_grad()
def forward_models(
    network: NetworkLayout,
    weights: Mapping[str, Tensor],
    running: Tensor | None,
    x: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the logits (M, N, K) of M networks in evaluation mode.

    The logits equal those of `LSTMLinear` modules bit for bit. `weights` come from `name_weights`,
    `running` (M, 2, P) contains the statistics of ``head_norm="batch"``, and the windows `x` have
    shape (M or 1, N, T, C).
    """
    suffixes = ("", "_reverse")[: network.n_directions]

    def of_layer(name: str, layer: int) -> Tensor:
        """Return a weight of the layer, of shape (M, D, ...)."""
        parts = [weights[f"lstm.{name}_l{layer}{suffix}"] for suffix in suffixes]
        return parts[0][:, None] if len(parts) == 1 else torch.stack(parts, dim=1)

    sequence = x
    for layer in range(network.num_layers):
        bias = of_layer("bias_ih", layer) + of_layer("bias_hh", layer)
        layer_weights = of_layer("weight_ih", layer), of_layer("weight_hh", layer), bias
        if layer + 1 == network.num_layers and network.head_norm == "none":
            head = weights["linear.weight"], weights["linear.bias"]
            logits, _, _ = lstm_linear(
                sequence, *layer_weights, *head, pooling=network.pooling, lengths=lengths
            )
            return logits
        sequence, h_n, _ = lstm(sequence, *layer_weights, lengths=lengths)
    pooled = reference.pool(sequence, h_n, lengths, network.pooling)
    outputs = []
    for model, features in enumerate(pooled):
        scale, shift = weights["norm.weight"][model], weights["norm.bias"][model]
        if network.head_norm == "layer":
            normed = functional.layer_norm(features, scale.shape, scale, shift)
        else:
            assert running is not None
            mean, variance = running[model]
            normed = functional.batch_norm(features, mean, variance, scale, shift)
        head = weights["linear.weight"][model], weights["linear.bias"][model]
        outputs.append(functional.linear(normed, *head))
    return torch.stack(outputs)


# Outputs of trained networks, for arrays


# For each module, the network for the kernel, and the state of the weights from which the network
# was made.
_NETWORKS: WeakKeyDictionary[nn.Module, tuple[Any, LstmNetwork]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ModuleNetwork:
    """A torch module that serves as a model's network; `device` is the estimator's argument."""

    module: LSTMLinear
    device: str

    @property
    def n_inputs(self) -> int:
        """The number of inputs per step."""
        return self.module.input_size

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.module.num_classes

    def outputs(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the outputs (n, n_outputs); the module is moved to the device first."""
        module, weight = self.module, self.module.linear.weight
        device = resolve_device(self.device, hidden_size=module.hidden_size, dtype=weight.dtype)
        if weight.device != device:
            module.to(device)
        return network_outputs(module, X, lengths)


def modules_of(model: TrainedModel) -> list[LSTMLinear]:
    """Return the modules of a model's networks."""
    networks = [network for network in model.lstm.networks if isinstance(network, ModuleNetwork)]
    return [network.module for network in networks]


def network_outputs(
    module: nn.Module, X: NDArray[Any], lengths: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return the outputs (n, n_outputs) of a module in evaluation mode, on the module's device.

    On the CPU, an `LSTMLinear` is evaluated by a kernel that does not need torch.
    """
    if module.training:
        module.eval()
    if isinstance(module, LSTMLinear) and module.linear.weight.is_cpu:
        return _network_of(module).outputs(X, lengths, torch.get_num_threads())
    like = next(module.parameters())
    blocks = []
    with torch.inference_mode(), batches_of(EVALUATION_BATCH):
        for start in range(0, len(X), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            valid = None if lengths is None else torch.from_numpy(lengths[rows]).to(like.device)
            blocks.append(module(torch.from_numpy(X[rows]).to(like), valid).cpu())
    return np.asarray(torch.cat(blocks).numpy(), np.float64)


def outputs_of(model: Member, data: TrainingData | StreamedData) -> NDArray[np.float64]:
    """Return the logits of all windows of a part; the windows are already scaled."""
    return np.concatenate(
        [
            model.logits(block.X.numpy(), None if block.lengths is None else block.lengths.numpy())
            for block in data.blocks()
        ]
    )


def _network_of(module: LSTMLinear) -> LstmNetwork:
    """Return the module's network for the kernel, rebuilt only if a weight has changed."""
    # the state holds the tensors themselves, so that their memory is not reused for other tensors
    tensors = (*module.parameters(), *module.buffers())
    state = [(tensor, tensor._version) for tensor in tensors]
    cached = _NETWORKS.get(module)
    if cached is not None and all(
        old is new and version == old_version
        for (old, old_version), (new, version) in zip(cached[0], state, strict=True)
    ):
        return cached[1]
    arrays = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    network = LstmNetwork(arrays, {name: getattr(module, name) for name in ARCHITECTURE})
    _NETWORKS[module] = state, network
    return network
