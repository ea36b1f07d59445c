"""The device for a device name, if it is available."""

import re
from typing import Any

import torch

from sensorseq.errors import ArgumentError, EnvironmentProblemError, check_choice
from sensorseq.ops.choice import choose_here

_NAME = re.compile(r"cpu|cuda(:\d+)?")


def check_device(device: Any) -> str:
    """Return the name if it is a valid device name, available or not."""
    name = str(device) if isinstance(device, torch.device) else device
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    if isinstance(name, str) and name.lower().startswith("gpu"):
        raise ArgumentError(f"device={name!r} is not known. Did you mean 'cuda', or 'auto'?")
    return check_choice("device", name, ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))


def resolve_device(
    device: Any, *, hidden_size: int = 64, dtype: torch.dtype = torch.float32
) -> torch.device:
    """Return the device for the argument `device`.

    Parameters
    ----------
    device : object
        ``"auto"`` or the name of a device. ``"auto"`` is a GPU if there is one whose kernels
        support the network, otherwise the CPU.
    hidden_size : int, default=64
        Of the network.
    dtype : torch.dtype, default=torch.float32
        Of the network.

    Raises
    ------
    ArgumentError
        If it is not the name of a device.
    EnvironmentProblemError
        If this GPU is not available.
    """
    name = check_device(device)
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        gpu = torch.device("cuda")
        choice = choose_here(gpu, dtype, hidden_size=hidden_size)
        return gpu if choice.served_by == "native" else torch.device("cpu")
    resolved = torch.device(name)
    n_devices = torch.cuda.device_count()
    if resolved.type == "cuda" and n_devices <= (resolved.index or 0):
        raise EnvironmentProblemError(
            f"device={name!r} is not available: torch {torch.__version__} sees {n_devices} CUDA"
            " devices. Use device='auto' or 'cpu' (load(path, device='cpu') for a saved model),"
            " or install a CUDA build of torch."
        )
    return resolved
