"""Outputs of a trained network: in blocks, and with little around the kernel for one window."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sensorseq.nn import LSTMLinear
from sensorseq.ops.choice import choose_here
from sensorseq.training.data import EVALUATION_BATCH

# Of each network its weights as the kernel takes them, and the state they were laid out in.
_LAID_OUT: WeakKeyDictionary[nn.Module, tuple[Any, list[Tensor]]] = WeakKeyDictionary()


def predict_outputs(module: nn.Module, X: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the outputs (N, K) of `X` on the CPU, in evaluation mode and in blocks.

    A network that is one native call on the CPU gets that call alone: what its `forward` does
    around it takes longer than the kernel does for one window.

    Parameters
    ----------
    module : torch.nn.Module
        ``module(X, lengths)`` gives outputs.
    X : Tensor of shape (N, T, C)
        Scaled windows.
    lengths : Tensor of shape (N,), int64, or None
        Valid steps of each; None for T.
    """
    if module.training:
        module.eval()
    with torch.inference_mode():
        if isinstance(module, LSTMLinear) and _is_one_call(module):
            weights = _lay_out(module)
            blocks = [
                torch.ops.sensorseq.lstm_linear(
                    x[None], valid, *weights, None, None, None, module.pooling, False, False
                )[0][0]
                for x, valid in _blocks(X, lengths)
            ]
        else:
            device = next(module.parameters()).device
            blocks = [
                module(x.to(device), None if valid is None else valid.to(device)).cpu()
                for x, valid in _blocks(X, lengths)
            ]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _blocks(X: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    if len(X) <= EVALUATION_BATCH:
        return [(X, lengths)]
    rows = [slice(i, i + EVALUATION_BATCH) for i in range(0, len(X), EVALUATION_BATCH)]
    return [(X[block], None if lengths is None else lengths[block]) for block in rows]


def _is_one_call(module: LSTMLinear) -> bool:
    weight = module.linear.weight
    if module.num_layers > 1 or module.norm is not None or not weight.is_cpu:
        return False
    if module.inference_precision != "float32" or weight.dtype is not torch.float32:
        return False
    choice = choose_here(
        weight.device,
        weight.dtype,
        hidden_size=module.hidden_size,
        n_channels=module.input_size,
        needs_grad_x=False,
        has_mask=False,
    )
    return choice.served_by == "native"


def _lay_out(module: LSTMLinear) -> list[Tensor]:
    """Return the weights for the kernel, laid out again only when one has changed."""
    # the tensors themselves, so that the memory of none is taken by another
    held = (*module.lstm._parameters.values(), *module.linear._parameters.values())
    state = [(tensor, tensor._version) for tensor in held if tensor is not None]
    kept = _LAID_OUT.get(module)
    if kept is not None and all(
        old is new and version == seen
        for (old, seen), (new, version) in zip(kept[0], state, strict=True)
    ):
        return kept[1]
    layer = module.lstm.layer(0, 2 if module.bidirectional else 1)
    head = (module.linear.weight[None], module.linear.bias[None])
    weights = [tensor.contiguous() for tensor in (*layer, *head)]
    _LAID_OUT[module] = state, weights
    return weights
