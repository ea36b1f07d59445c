"""Where to train: the device that a name stands for, when it is there."""

import re
from typing import Any

import torch

from sensorseq.errors import EnvironmentProblemError, check_choice
from sensorseq.ops import kernel_for

_NAME = re.compile(r"cpu|cuda(:\d+)?")


def check_device(device: Any) -> str:
    """Return the name of the device when it is one, there or not."""
    name = str(device) if isinstance(device, torch.device) else device
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    return check_choice("device", name, ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))


def resolve_device(device: Any) -> torch.device:
    """Return the device that `device` stands for.

    ``"auto"`` is a GPU when there is one and a kernel of ours serves it: without a kernel the
    layer is a loop in Python, which costs a GPU several launches for every timestep.

    Raises
    ------
    ArgumentError
        If it is not the name of a device.
    EnvironmentProblemError
        If there is no such GPU.
    """
    name = check_device(device)
    if name == "auto":
        served = kernel_for("cuda", torch.float32) != "reference"
        return torch.device("cuda" if served and torch.cuda.is_available() else "cpu")
    resolved = torch.device(name)
    n_devices = torch.cuda.device_count()
    if resolved.type == "cuda" and n_devices <= (resolved.index or 0):
        raise EnvironmentProblemError(
            f"device={name!r} is not there: torch {torch.__version__} sees {n_devices} CUDA"
            " devices. Take device='auto' or 'cpu' (load(path, device='cpu') for a saved model),"
            " or install a CUDA build of torch."
        )
    return resolved
