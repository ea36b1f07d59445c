"""Forward passes of several networks of one kind over the same windows, in one call a layer."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.ops import lstm, lstm_linear, reference
from sensorseq.ops.train_epoch import Network


def name_weights(network: Network, weights: Tensor) -> dict[str, Tensor]:
    """Return views of the weights (M, Q) of M networks by name, each with M in front."""
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
    """Return the logits of M networks, each with the bits `LSTMLinear` gives in evaluation mode.

    Parameters
    ----------
    network : Network
        Their sizes.
    weights : mapping
        See `name_weights`.
    running : Tensor of shape (M, 2, P), or None
        Running mean and variance of ``head_norm="batch"``.
    x : Tensor of shape (M or 1, N, T, C)
        Windows.
    lengths : Tensor of shape (N,), int64, optional
        Valid steps of each window.

    Returns
    -------
    Tensor of shape (M, N, K)
    """
    suffixes = ("", "_reverse")[: network.n_directions]

    def of_layer(name: str, layer: int) -> Tensor:
        """Return one weight of a layer, (M, D, ...)."""
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
