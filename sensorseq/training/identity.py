"""Identity of a run: a checkpoint resumes only with the same configuration and data."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import nn

from sensorseq.errors import InputError
from sensorseq.ops import _extension
from sensorseq.storage.model_file import to_jsonable
from sensorseq.training.config import TrainingConfig
from sensorseq.training.data import TrainingData, digest_tensors
from sensorseq.training.parameters import ARCHITECTURE
from sensorseq.training.stream import StreamedData

# The estimator's arguments that change nothing in what is learned, or are known by what they lead
# to: the device and the engine that were chosen, the first weights.
NOT_SHAPING = (
    "callbacks",
    "checkpoint",
    "checkpoint_every",
    "device",
    "engine",
    "resume",
    "verbose",
    "warm_start",
)
_LONGEST_SHOWN = 60  # characters


def make_identity(
    module: nn.Module,
    train: TrainingData | StreamedData,
    validation: TrainingData | StreamedData | None,
    config: TrainingConfig,
    seed: np.random.SeedSequence,
    engine: str,
) -> dict[str, dict[str, Any]]:
    """Return what must be the same for a run to go on, in plain values.

    Parameters
    ----------
    module : torch.nn.Module
        With its first weights.
    train, validation, config, seed
        As `train_network` gets them.
    engine : str
        The one chosen.

    Returns
    -------
    dict
        ``"arguments"`` by name, functions among them by theirs; ``"contents"``: digests of data and
        first weights by what they are of; ``"surroundings"``, whose change is worth a warning only.
    """
    device = next(module.parameters()).device
    named = {field.name: getattr(config, field.name) for field in fields(config)}
    named |= {name: getattr(module, name) for name in ARCHITECTURE if hasattr(module, name)}
    data = {f"training {part}": value for part, value in train.digests().items()}
    if validation is not None:
        data |= {f"validation {part}": value for part, value in validation.digests().items()}
    return {
        "arguments": {**plain_arguments(named), "engine": engine, "device": device.type},
        "contents": {
            **data,
            "random_state": _plain([seed.entropy, *seed.spawn_key, seed.n_children_spawned]),
            "network": _plain(repr(module)),
            "first weights": digest_tensors(module.state_dict()),
        },
        "surroundings": _surroundings(device, engine),
    }


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments that shape a run as a file holds them."""
    return {name: _plain(value) for name, value in arguments.items() if name not in NOT_SHAPING}


def differences(
    here: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say in what a run differs from the one of a checkpoint, in words for an error."""
    said = [
        f"{name} is {_short(value)}, but the checkpoint was made with {_short(other)}"
        for name, value, other in _changed(here["arguments"], there["arguments"])
    ]
    contents = [name for name, *_ in _changed(here["contents"], there["contents"], both=False)]
    if said:  # which lead to these
        contents = [name for name in contents if name not in ("network", "first weights")]
    return said + [f"the {name} differ{'' if name.endswith('s') else 's'}" for name in contents]


def changed_surroundings(
    here: Mapping[str, Mapping[str, Any]], there: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say what is not as it was, and may give other last bits."""
    changed = _changed(here["surroundings"], there["surroundings"], both=False)
    return [f"{name} is {value}, but was {other}" for name, value, other in changed]


def _changed(
    here: Mapping[str, Any], there: Mapping[str, Any], *, both: bool = True
) -> list[tuple[str, Any, Any]]:
    """Return what has another value; with `both`, of the names that are on both sides."""
    names = [name for name in here if name in there] if both else dict.fromkeys([*here, *there])
    pairs = [(name, here.get(name), there.get(name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _plain(value: Any) -> Any:
    """Return a value as a file holds it; functions and objects by their name."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        to_jsonable(value)
    except InputError:
        return _without_address(repr(value))
    return _without_address(value) if isinstance(value, str) else value


def _without_address(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _surroundings(device: torch.device, engine: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "sensorseq": importlib.import_module("sensorseq").__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if device.type == "cuda":
        facts["the GPU"] = torch.cuda.get_device_name(device)
    else:
        facts["the instruction set"] = _extension.cpu_isa()
    if engine == "autograd":  # the native engine has the same bits on any number
        facts["the number of threads"] = torch.get_num_threads()
    return facts
