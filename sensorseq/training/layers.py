"""The layers of an `LSTMLinear` one after the other, where its `forward` shows only the logits."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sensorseq.nn import LSTMLinear
from sensorseq.ops import lstm, reference
from sensorseq.ops.train_epoch import output_site

Weights = tuple[Tensor, Tensor, Tensor]  # of the inputs, of the hidden state, and the bias


class LayerPass(NamedTuple):
    """What one layer read and gave.

    Parameters
    ----------
    inputs : Tensor of shape (N, T, I)
        After dropout.
    hidden : Tensor of shape (N, T, D * H)
        As `sensorseq.ops.lstm` gives it; zeros beyond the valid steps.
    h_n : Tensor of shape (N, D, H)
        Last state of each direction.
    """

    inputs: Tensor
    hidden: Tensor
    h_n: Tensor


class Masks(NamedTuple):
    """The factors of dropout of every layer, None where nothing is dropped.

    Parameters
    ----------
    recurrent : list of Tensor of shape (N, D, H), or None
        Of the hidden state on its way into the gates.
    outputs : list of Tensor or None
        Of what leaves each layer: (N, T, D * H), of the top one the pooled vector (N, P).
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
    """Run the layers as `forward` does.

    Parameters
    ----------
    module : LSTMLinear
        What they belong to.
    x : Tensor of shape (N, T, C)
        Windows.
    lengths : Tensor of shape (N,), int64, or None
        Valid steps of each.
    masks : Masks, optional
        Nothing is dropped when not given.
    weights : sequence, optional
        As `layer_weights` returns them; the module's when not given.

    Returns
    -------
    list of LayerPass
        The lowest first.
    """
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
