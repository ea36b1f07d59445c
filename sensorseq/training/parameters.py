"""Check all arguments of an estimator before doing any work."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from sensorseq.base.checks import check_flag, check_integer, check_real
from sensorseq.errors import ArgumentError, EnvironmentProblemError, InputError, check_choice
from sensorseq.nn import HEAD_NORMS
from sensorseq.ops import POOLINGS
from sensorseq.ops._extension import avoid_dead_threads
from sensorseq.ops.choice import choose_here
from sensorseq.prediction.checked_windows import DTYPES
from sensorseq.prediction.inputs import MISSING
from sensorseq.preprocessing.scale import KINDS, PHYSICAL
from sensorseq.training.callbacks import check_callbacks
from sensorseq.training.config import ENGINES, TrainingConfig
from sensorseq.training.labels import check_class_weight
from sensorseq.training.torch_network import check_scheme
from sensorseq.training.window_format import check_augment

_NAME = re.compile(r"cpu|cuda(:\d+)?")


def check_device(device: str | torch.device) -> str:
    """Return `device` if it is a valid device name, whether or not the device is available."""
    name = str(device) if isinstance(device, torch.device) else device
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    if isinstance(name, str) and name.lower().startswith("gpu"):
        raise ArgumentError(f"device={name!r} is not known. Did you mean 'cuda', or 'auto'?")
    return check_choice("device", name, ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))


def resolve_device(
    device: str | torch.device, *, hidden_size: int = 64, dtype: torch.dtype = torch.float32
) -> torch.device:
    """Return the torch device for the argument `device`.

    An `EnvironmentProblemError` is raised if the requested GPU is not available.
    """
    avoid_dead_threads()
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


def check_parameters(parameters: Mapping[str, Any]) -> TrainingConfig:
    """Check the estimator's arguments; return the training configuration.

    The configuration's `n_outputs` is a placeholder until the labels are known.
    """
    p = parameters
    for name, most in (("hidden_size", 2**20), ("num_layers", 1000), ("n_models", 1000)):
        check_integer(name, p[name], 1, most)
    for name in ("bidirectional", "warm_start"):
        check_flag(name, p[name])
    for name in ("dropout", "recurrent_dropout", "validation_fraction"):
        check_real(name, p[name], 0.0, 1.0)
    for name in ("weight_init", "recurrent_init"):
        check_scheme(name, p[name])
    check_choice("pooling", p["pooling"], POOLINGS)
    check_choice("head_norm", p["head_norm"], HEAD_NORMS)
    check_real("forget_bias", p["forget_bias"], -1e6, 1e6)
    if p["scale"] is not None:
        check_choice("scale", p["scale"], (*KINDS, PHYSICAL))
    check_device(p["device"])
    check_choice("dtype", p["dtype"], DTYPES)
    check_choice("engine", p["engine"], ENGINES)
    check_callbacks(p["callbacks"])
    if not isinstance(p["checkpoint"], str | os.PathLike | None):
        raise ArgumentError(f"checkpoint={p['checkpoint']!r} must be the name of a file, or None.")
    check_augment(p["augment"])
    check_class_weight(p["class_weight"])
    if isinstance(p["class_weight"], str) and p["sampler"] in ("balanced", "sqrt"):
        raise ArgumentError(
            f"class_weight={p['class_weight']!r} and sampler={p['sampler']!r} both correct the"
            " same imbalance, so together they overcorrect it; use one of them."
        )
    check_flag("calibrate", p["calibrate"])
    check_choice("missing", p["missing"], MISSING)
    settings = {field.name: p[field.name] for field in fields(TrainingConfig) if field.name in p}
    if settings["restore_best"] is None:
        settings["restore_best"] = settings["early_stopping"]
    return TrainingConfig(n_outputs=2, **settings)


def check_plain(parameters: Mapping[str, Any]) -> None:
    """Raise an `InputError` if an argument is a function or an object that cannot be saved."""
    for name, value in parameters.items():
        is_object = isinstance(value, np.random.RandomState) or (name == "callbacks" and value)
        members = value if isinstance(value, list | tuple) else [value]
        if is_object or any(callable(part) or hasattr(part, "get_params") for part in members):
            raise InputError(
                f"{name}={value!r} cannot be saved, because loading it would execute code."
                f" Set {name} to a plain value with set_params before save(), or pickle the"
                " estimator for your own use."
            )
