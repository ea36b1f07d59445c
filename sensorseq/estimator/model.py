"""Pickling of fitted estimators, and output layers of imported networks."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.estimator.adapt import Adaptation
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.head import FeatureChoice, FeatureHead
from sensorseq.prediction.outside import TrainedRanges
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.predictor import read_scaler
from sensorseq.prediction.probabilities import Abstention
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.training import EngineChoice
from sensorseq.training.network import ARCHITECTURE, network_arrays, read_network


def check_texts(name: str, values: list[Any]) -> list[str]:
    """Return a list of strings from a file, or raise if any entry is no string."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}, expected text")
    return values


_PLAIN = "plain_"  # name prefix of packed values


def pack_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return an estimator's state with this package's types as plain values."""
    packed: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, torch.nn.Module) and type(value) is not LSTMLinear:
            packed[name] = copy.deepcopy(value).cpu()
        elif name not in _FORMS or value is None or (name == "_head" and not value.is_plain):
            packed[name] = value
        else:
            packed[_PLAIN + name] = _FORMS[name][0](value)
    return packed


def unpack_state(packed: dict[str, Any]) -> dict[str, Any]:
    """Restore the state from `pack_state`; a state that was never packed is returned unchanged."""
    state = {}
    for key, value in packed.items():
        name = key.removeprefix(_PLAIN)
        state[name] = _FORMS[name][1](value) if key.startswith(_PLAIN) else value
    return state


def _describe_network(module: LSTMLinear) -> dict[str, Any]:
    return {
        "architecture": {name: getattr(module, name) for name in ARCHITECTURE},
        "n_channels": module.input_size,
        "n_outputs": module.num_classes,
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
        # copy, because a warm start would change an array in place through its tensor
        "arrays": {name: array.copy() for name, array in network_arrays([module], None).items()},
    }


def _make_network(description: dict[str, Any]) -> LSTMLinear:
    return read_network(
        description["arrays"],
        description["architecture"],
        n_channels=description["n_channels"],
        n_classes=description["n_outputs"],
        dtype=description["dtype"],
    )


# Functions to plain values and back.
_FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "module_": (_describe_network, _make_network),
    "_other_modules": (
        lambda modules: [_describe_network(module) for module in modules],
        lambda networks: [_make_network(network) for network in networks],
    ),
    "history_": (History.to_rows, History),
    "_other_histories": (
        lambda histories: [history.to_rows() for history in histories],
        lambda histories: [History(rows) for rows in histories],
    ),
    "scaler_": (
        lambda scaler: dict(scaler.to_dict()),
        lambda parts: read_scaler({f"scaler.{name}": part for name, part in parts.items()}),
    ),
    "patch_": (
        lambda patch: (patch.n_samples, dict(patch.scaler.to_dict())),
        lambda stored: Patch(stored[0], Scaler.from_dict(stored[1])),
    ),
    "engine_": (list, lambda fields: EngineChoice(*fields)),
    "abstention_": (list, lambda fields: Abstention(*fields)),
    "adaptation_": (lambda adaptation: dict(vars(adaptation)), lambda stored: Adaptation(**stored)),
    "fluctuation_": (FluctuationReport.to_dict, FluctuationReport.from_dict),
    "features_": (FeatureChoice.to_dict, FeatureChoice.from_dict),
    "_head": (
        lambda head: {"description": head.description(), "arrays": head.arrays()},
        lambda stored: FeatureHead.restore(stored["description"], stored["arrays"]),
    ),
    "_ranges": (TrainedRanges.arrays, TrainedRanges.restore),
}


def split_single_logit(module: LSTMLinear) -> None:
    """Turn a single sigmoid logit x into the two logits 0 and x."""
    if module.num_classes != 1:
        return
    weight, bias = module.linear.weight.detach(), module.linear.bias.detach()
    wider = torch.nn.Linear(weight.shape[1], 2, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([torch.zeros_like(weight), weight]))
        wider.bias.copy_(torch.cat([torch.zeros_like(bias), bias]))
    module.linear, module.num_classes = wider, 2


def reorder_outputs(module: LSTMLinear, order: NDArray[np.int64]) -> None:
    """Permute outputs so that output i is the former output order[i]."""
    rows = torch.from_numpy(order)
    with torch.no_grad():
        module.linear.weight.copy_(module.linear.weight[rows].clone())
        module.linear.bias.copy_(module.linear.bias[rows].clone())
