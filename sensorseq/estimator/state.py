"""The state of a pickle in plain values and arrays: it needs no GPU, and skops can hold it."""

import copy
from typing import Any

import torch

from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.preprocessing.scale import Scaler
from sensorseq.training import EngineChoice
from sensorseq.training.abstention import Abstention
from sensorseq.training.network import network_arrays, read_network, read_scaler
from sensorseq.training.parameters import ARCHITECTURE

_PLAIN = "plain_"  # what is packed bears this before its name


def pack_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a fitted estimator with what this package defines as plain values.

    Parameters
    ----------
    state : dict
        Attributes by name; left as it is. Those not known here are passed on, modules on the CPU.

    Returns
    -------
    dict
        Dictionaries, lists and arrays in place of the network, the scaler, the history, the engine
        and the report.
    """
    packed: dict[str, Any] = {}
    for name, value in state.items():
        if type(value) is LSTMLinear:
            packed[_PLAIN + name] = _describe_network(value)
        elif isinstance(value, torch.nn.Module):
            packed[name] = copy.deepcopy(value).cpu()
        elif isinstance(value, Scaler | KeyedScaler):
            packed[_PLAIN + name] = dict(value.to_dict())
        elif isinstance(value, History):
            packed[_PLAIN + name] = value.to_rows()
        elif name == "_other_modules":
            packed[_PLAIN + name] = [_describe_network(module) for module in value]
        elif name == "_other_histories":
            packed[_PLAIN + name] = [history.to_rows() for history in value]
        elif isinstance(value, EngineChoice | Abstention):
            packed[_PLAIN + name] = list(value)
        elif isinstance(value, FluctuationReport | FeatureChoice):
            packed[_PLAIN + name] = value.to_dict()
        elif isinstance(value, FeatureHead) and value.is_plain:
            described = value.description()
            packed[_PLAIN + name] = {"description": described, "arrays": value.arrays()}
        else:
            packed[name] = value
    return packed


def unpack_state(packed: dict[str, Any]) -> dict[str, Any]:
    """Undo `pack_state`; a state that was never packed stays as it is."""
    state: dict[str, Any] = {}
    for key, value in packed.items():
        name = key.removeprefix(_PLAIN)
        if name == key:
            state[name] = value
        elif name == "history_":
            state[name] = History(value)
        elif name == "_other_modules":
            state[name] = [_make_network(network) for network in value]
        elif name == "_other_histories":
            state[name] = [History(rows) for rows in value]
        elif name == "fluctuation_":
            state[name] = FluctuationReport.from_dict(value)
        elif name == "engine_":
            state[name] = EngineChoice(*value)
        elif name == "abstention_":
            state[name] = Abstention(*value)
        elif name == "features_":
            state[name] = FeatureChoice.from_dict(value)
        elif name == "_head":
            state[name] = FeatureHead.restore(value["description"], value["arrays"])
        elif name == "scaler_":
            state[name] = read_scaler({f"scaler.{field}": part for field, part in value.items()})
        else:
            state[name] = _make_network(value)
    return state


def _describe_network(module: LSTMLinear) -> dict[str, Any]:
    return {
        "architecture": {
            name: getattr(module, name) for name in (*ARCHITECTURE, "inference_precision")
        },
        "n_channels": module.input_size,
        "n_outputs": module.num_classes,
        "dtype": str(module.linear.weight.dtype).removeprefix("torch."),
        # copies: an array of a tensor would be changed by a warm start in place
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
