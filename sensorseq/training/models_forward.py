"""Forward passes of several networks of one kind over the same windows, in one call a layer."""

import torch
from torch import Tensor
from torch.nn import functional

from sensorseq.ops import lstm, lstm_linear, reference
from sensorseq.ops.train_epoch import Network


@torch.no_grad()
def forward_models(
    network: Network,
    weights: Tensor,
    running: Tensor | None,
    x: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the logits of M networks, each with the bits `LSTMLinear` gives in evaluation mode.

    Parameters
    ----------
    network : Network
        Their sizes.
    weights : Tensor of shape (M, Q)
        See `Network`.
    running : Tensor of shape (M, 2, P), or None
        Running mean and variance of ``head_norm="batch"``.
    x : Tensor of shape (N, T, C)
        Windows.
    lengths : Tensor of shape (N,), int64, optional
        Valid steps of each window.

    Returns
    -------
    Tensor of shape (M, N, K)
    """
    shapes = network.parameter_shapes()
    columns = weights.split([torch.Size(shape).numel() for shape in shapes.values()], dim=1)
    parts = {
        name: part.unflatten(1, shape)
        for (name, shape), part in zip(shapes.items(), columns, strict=True)
    }
    suffixes = ("", "_reverse")[: network.n_directions]

    def of_layer(name: str, layer: int) -> Tensor:
        """Return one weight of a layer, (M, D, ...)."""
        return torch.stack([parts[f"lstm.{name}_l{layer}{s}"] for s in suffixes], dim=1)

    sequence = x[None]
    for layer in range(network.num_layers):
        bias = of_layer("bias_ih", layer) + of_layer("bias_hh", layer)
        layer_weights = of_layer("weight_ih", layer), of_layer("weight_hh", layer), bias
        if layer + 1 == network.num_layers and network.head_norm == "none":
            head = parts["linear.weight"], parts["linear.bias"]
            logits, _, _ = lstm_linear(
                sequence, *layer_weights, *head, pooling=network.pooling, lengths=lengths
            )
            return logits
        sequence, h_n, _ = lstm(sequence, *layer_weights, lengths=lengths)
    pooled = reference.pool(sequence, h_n, lengths, network.pooling)
    outputs = []
    for model, features in enumerate(pooled):
        scale, shift = parts["norm.weight"][model], parts["norm.bias"][model]
        if network.head_norm == "layer":
            normed = functional.layer_norm(features, scale.shape, scale, shift)
        else:
            assert running is not None
            mean, variance = running[model]
            normed = functional.batch_norm(features, mean, variance, scale, shift)
        outputs.append(
            functional.linear(normed, parts["linear.weight"][model], parts["linear.bias"][model])
        )
    return torch.stack(outputs)
