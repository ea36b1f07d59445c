"""Find the LSTMs in a model and move them to the native kernels."""

import warnings
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn.utils import parametrize

from sensorseq.errors import ArgumentError
from sensorseq.nn.lstm import LSTM


class FoundLSTM(NamedTuple):
    """An LSTM in a model, the library that computes it, and the reason for this choice.

    Attributes
    ----------
    path, served_by, reason : str
        `path` is the name in `named_modules()`, which is empty for the model itself. `served_by` is
        the library that computes the LSTM, ``"sensorseq"`` or ``"torch"``. If torch computes the
        LSTM, `reason` explains why; otherwise, it states the dtype and the device.
    """

    path: str
    served_by: Literal["sensorseq", "torch"]
    reason: str


def accelerate(module: nn.Module) -> nn.Module:
    """Switch every `torch.nn.LSTM` in a model to the native kernels, in place.

    Each LSTM remains the same object with the same parameters, hooks and state dict, but becomes a
    `sensorseq.nn.LSTM`, a subclass of `torch.nn.LSTM` with the same results. Optimizers and other
    objects that refer to the LSTM keep working.

    Parameters
    ----------
    module : torch.nn.Module
        Any model, including a single LSTM. The same module is returned.

    Raises
    ------
    ArgumentError
        If `module` is not a torch module.

    Warns
    -----
    UserWarning
        If torch still computes some LSTMs (the message explains why), or if there are no LSTMs.

    See Also
    --------
    find_lstms : Lists the LSTMs, before or after this call.
    sensorseq.nn.LSTM : Lists the cases that torch computes.

    Notes
    -----
    Tools that look for the exact class `torch.nn.LSTM`, such as ``torch.ao.quantization`` and
    ``torch.fx``, must run first: quantize or trace, then accelerate.

    A pickled model refers to `sensorseq.nn.LSTM` and can be loaded only where sensorseq is
    installed; a state dict can be loaded anywhere.

    The kernels are designed for sequences, especially packed ones. A wide layer (hundreds of units)
    that is called one step at a time is faster in torch, because each call of a kernel rearranges
    the weights.
    """
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"module must be a torch.nn.Module, not a {type(module).__name__}.")
    for child in module.modules():
        if _obstacle(child) is None:
            child.__class__ = LSTM
    lstms = find_lstms(module)
    in_torch = [
        f"{lstm.path or 'the module'} ({lstm.reason})"
        for lstm in lstms
        if lstm.served_by == "torch"
    ]
    if in_torch:
        warnings.warn(
            f"torch still computes {len(in_torch)} of {len(lstms)} LSTMs: {'; '.join(in_torch)}.",
            stacklevel=2,
        )
    if not lstms:
        warnings.warn(f"{type(module).__name__} contains no torch.nn.LSTM.", stacklevel=2)
    return module


def find_lstms(module: nn.Module) -> list[FoundLSTM]:
    """List the LSTMs in a model, with the library that computes each LSTM and the reason.

    Parameters
    ----------
    module : torch.nn.Module
        Any model, accelerated or not. An LSTM that is used in two places is listed once.
    """
    lstms: list[FoundLSTM] = []
    opaque: list[str] = []
    for path, child in module.named_modules():
        if not _is_lstm(child) or any(path.startswith(prefix) for prefix in opaque):
            continue
        if not isinstance(child, nn.LSTM):
            # Skip the module's submodules, because their class names may also contain LSTM.
            opaque.append(f"{path}." if path else "")
        lstms.append(FoundLSTM(path, *_served_by(child)))
    return lstms


def _is_lstm(module: nn.Module) -> bool:
    """Test whether a module is an nn.LSTM or a similar torch class, such as nn.LSTMCell."""
    kind = type(module)
    name = getattr(module, "original_name", kind.__name__)
    return isinstance(module, nn.LSTM) or (kind.__module__.startswith("torch.") and "LSTM" in name)


def _served_by(lstm: nn.Module) -> tuple[Literal["sensorseq", "torch"], str]:
    if not isinstance(lstm, LSTM) or "forward" in vars(lstm):
        return "torch", _obstacle(lstm) or "accelerate() has not been called"
    weight = lstm.all_weights[0][0]
    kind = f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
    choice = lstm.choice()
    if choice.served_by == "native":
        return "sensorseq", kind
    return "torch", choice.reason


def _obstacle(lstm: nn.Module) -> str | None:
    """Return the reason why an LSTM cannot be replaced, or None."""
    if isinstance(lstm, torch.jit.ScriptModule):
        return "it is compiled by TorchScript"
    if "forward" in vars(lstm):
        return "its forward was replaced"
    if not isinstance(lstm, nn.LSTM):
        return f"it is a {type(lstm).__module__}.{type(lstm).__name__}"
    if parametrize.is_parametrized(lstm):
        return "it is parametrized; call accelerate() before adding a parametrization"
    if type(lstm) is not nn.LSTM:
        return f"it is a {type(lstm).__name__}; make that class a subclass of sensorseq.nn.LSTM"
    if lstm.proj_size:
        return f"there is no kernel for proj_size={lstm.proj_size}"
    return None
