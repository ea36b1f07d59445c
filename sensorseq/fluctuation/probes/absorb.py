"""absorb_scaling: let the first layer of any module make up for a scaling of its input."""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.probes.arm import Floats

FIRST_LAYERS = (nn.RNNBase, nn.Linear, nn.Conv1d)
_TOLERANCE = 1e-6  # of the outputs' size, in float64


def absorb_scaling(
    module: nn.Module, mean: Floats, sd: Floats, X: Tensor, lengths: Tensor | None
) -> None:
    """Change the first layer such that it computes from ``(x - mean) / sd`` what it does from x.

    Parameters
    ----------
    module : torch.nn.Module
        ``module(X, lengths)`` gives outputs.
    mean, sd : ndarray of shape (c,)
        Of each channel.
    X : Tensor of shape (n, t, c)
        A few windows, padding zero; the outputs for them are compared.
    lengths : Tensor of shape (n,), int64, or None
        Their valid steps.

    Raises
    ------
    ArgumentError
        If the layer that sees the input first is none of `FIRST_LAYERS`, or the outputs are not the
        same: the input also goes another way, padding is read, or there is no bias to hold a mean.
    """
    trial = copy.deepcopy(module).double().eval()
    X = X.double()
    with torch.no_grad():
        before = trial(X, lengths)
        _absorb(trial, _name_of_first(trial, X, lengths), mean, sd)
        after = trial(scale_windows(X, lengths, mean, sd), lengths)
    size = float(before.abs().max().clamp(min=1.0))
    if not torch.allclose(before, after, rtol=0.0, atol=_TOLERANCE * size):
        raise ArgumentError(
            "no first layer of the module can make up for another scaling of its input: with the"
            " scaling in its weights the module gives other outputs."
        )
    with torch.no_grad():
        _absorb(module, _name_of_first(module, X.to(_dtype_of(module)), lengths), mean, sd)


def scale_windows(X: Tensor, lengths: Tensor | None, mean: Floats, sd: Floats) -> Tensor:
    """Return ``(X - mean) / sd``, (n, t, c); padding stays zero."""
    scaled = (X.double() - torch.from_numpy(mean).to(X.device)) / torch.from_numpy(sd).to(X.device)
    if lengths is not None:
        steps = torch.arange(X.shape[1], device=X.device)
        scaled[steps >= lengths.to(X.device)[:, None]] = 0.0
    return scaled.to(X.dtype)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(part.dtype for part in module.parameters() if part.is_floating_point())


def _name_of_first(module: nn.Module, X: Tensor, lengths: Tensor | None) -> str:
    """Return the name of the layer that is called first with the windows themselves."""
    called: list[str] = []
    handles = [
        part.register_forward_pre_hook(lambda _, __, name=name: called.append(name))
        for name, part in module.named_modules()
        if isinstance(part, FIRST_LAYERS)
    ]
    was_training = module.training
    try:
        module.eval()
        module(X, lengths)
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    if not called:
        raise ArgumentError("the module has no LSTM, GRU, RNN, Linear or Conv1d layer.")
    return called[0]


def _absorb(module: nn.Module, name: str, mean: Floats, sd: Floats) -> None:
    layer: Any = module.get_submodule(name)
    if isinstance(layer, nn.RNNBase):
        for suffix in ("", "_reverse") if layer.bidirectional else ("",):
            bias = getattr(layer, f"bias_ih_l0{suffix}", None)
            _absorb_matrix(getattr(layer, f"weight_ih_l0{suffix}"), bias, mean, sd)
    elif isinstance(layer, nn.Linear):
        n_repeats = max(1, layer.in_features // len(mean))  # of a flat window one for each step
        _absorb_matrix(layer.weight, layer.bias, np.tile(mean, n_repeats), np.tile(sd, n_repeats))
    else:  # a convolution
        n_taps = layer.weight[0, 0].numel()
        columns = layer.weight.view(layer.out_channels, -1)
        _absorb_matrix(columns, layer.bias, np.repeat(mean, n_taps), np.repeat(sd, n_taps))


def _absorb_matrix(weight: Tensor, bias: Tensor | None, mean: Floats, sd: Floats) -> None:
    if weight.shape[1] != len(mean):
        raise ArgumentError(
            f"the first layer has {weight.shape[1]} inputs, which are not the {len(mean)} channels."
        )
    if bias is not None:
        bias.add_(weight @ torch.from_numpy(mean).to(weight))
    weight.mul_(torch.from_numpy(sd).to(weight))
