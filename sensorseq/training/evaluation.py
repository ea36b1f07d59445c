"""Forward passes of trained networks: mean loss, score and outputs."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorseq.ops import lstm, lstm_linear, reference
from sensorseq.ops.train_epoch import Network
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.losses import LossFunction
from sensorseq.training.stream import StreamedData


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
        The loss of each window, see `sensorseq.training.losses.make_loss`.
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
    """Return the unweighted mean loss and the accuracy on `data` of M models on `device`.

    `forward` returns the outputs (M, n, K) of a batch. `keep` is called in order with the outputs
    of each batch.
    """
    totals = torch.zeros((1, 2), dtype=torch.float64)
    with closing(data.blocks()) as blocks:
        for block in blocks:
            for rows in torch.arange(len(block)).split(EVALUATION_BATCH):
                is_all_there = len(rows) == len(block) and block.X.device == device
                batch = block if is_all_there else block.take(rows, device)
                outputs = forward(batch)
                if keep is not None:
                    keep(outputs)
                target = batch.target.expand(len(outputs), -1)
                totals = totals + judge(outputs, target, [len(batch)] * len(outputs), losses_of)
    return [(mean_loss, accuracy) for mean_loss, accuracy in (totals / len(data)).tolist()]


@torch.no_grad()
def judge(
    outputs: Tensor, target: Tensor, n_windows: Sequence[int], losses_of: LossFunction
) -> Tensor:
    """Return the sums of loss and hits over each model's first `n_windows`, (M, 2), float64.

    `outputs` are (M, n, K), and `target` is (M, n).
    """
    flat, target = outputs.flatten(0, 1), target.flatten(0, 1)
    losses = losses_of(flat, target)
    hits = (flat.argmax(dim=1) == target).view(len(outputs), -1)
    of_models = [losses] if len(outputs) == 1 else losses.view(len(outputs), -1).unbind()
    # Model by model, because a model's sum must not depend on how many there are.
    means, sums = [], []
    for loss, hit, n in zip(of_models, hits.unbind(), n_windows, strict=True):
        means.append((loss if loss.ndim == 0 or len(loss) == n else loss[:n]).mean())
        sums.append(hit.sum() if len(hit) == n else hit[:n].sum())
    counts = torch.tensor(n_windows, dtype=flat.dtype, device=flat.device)
    return torch.stack(
        [(torch.stack(means) * counts).double(), torch.stack(sums).double()], dim=1
    ).cpu()


def name_weights(network: Network, weights: Tensor) -> dict[str, Tensor]:
    """Return named views of the weights (M, Q) of M networks, each with M as its first axis."""
    shapes = network.parameter_shapes()
    columns = weights.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {
        name: part.unflatten(1, shape)
        for (name, shape), part in zip(shapes.items(), columns, strict=True)
    }


@torch.no_grad()
def forward_models(
    network: Network,
    weights: Mapping[str, Tensor],
    running: Tensor | None,
    x: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the logits (M, N, K) of M networks, bit-equal to `LSTMLinear` in evaluation mode.

    `weights` are from `name_weights`, `running` (M, 2, P) are the statistics of
    ``head_norm="batch"``, and windows `x` are (M or 1, N, T, C).
    """
    suffixes = ("", "_reverse")[: network.n_directions]

    def of_layer(name: str, layer: int) -> Tensor:
        """Return a weight of the layer, (M, D, ...)."""
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
