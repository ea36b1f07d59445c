"""The network of a fit: new, continued, or rebuilt from the arrays of a model file."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, ModelFileError
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.keyed_scale import KeyedScaler, scaler_from_dict
from sensorseq.preprocessing.scale import Scaler
from sensorseq.training.initialise import initialise_weights
from sensorseq.training.parameters import ARCHITECTURE
from sensorseq.training.randomness import integer_seed, isolated_torch_rng

_FIXED = ("hidden_size", "num_layers", "bidirectional", "pooling", "head_norm")


def make_network(
    parameters: Mapping[str, Any], n_channels: int, n_classes: int, seed: np.random.SeedSequence
) -> LSTMLinear:
    """Return a network with first weights, drawn from `seed` alone.

    Parameters
    ----------
    parameters : mapping
        The estimator's arguments.
    n_channels, n_classes : int
        C and K.
    seed : SeedSequence
        Equal seeds, equal weights.
    """
    with isolated_torch_rng(0, torch.device("cpu")):  # its own first values are overwritten
        module = LSTMLinear(
            n_channels,
            num_classes=n_classes,
            dtype=getattr(torch, parameters["dtype"]),
            **{name: parameters[name] for name in ARCHITECTURE},
        )
    generator = torch.Generator().manual_seed(integer_seed(seed))
    initialise_weights(
        module,
        parameters["weight_init"],
        parameters["recurrent_init"],
        parameters["forget_bias"],
        generator,
    )
    return module


def continue_network(module: LSTMLinear, parameters: Mapping[str, Any]) -> LSTMLinear:
    """Return a copy of a trained network to continue from.

    Raises
    ------
    ArgumentError
        If the arguments ask for another architecture.
    """
    for name in _FIXED:
        if getattr(module, name) != parameters[name]:
            raise ArgumentError(
                f"{name}={parameters[name]!r}, but warm_start=True continues with a network of"
                f" {name}={getattr(module, name)!r}; use warm_start=False."
            )
    module = copy.deepcopy(module)
    module.dropout, module.recurrent_dropout = (
        parameters["dropout"],
        parameters["recurrent_dropout"],
    )
    return module.to(getattr(torch, parameters["dtype"]))


def network_arrays(
    modules: Sequence[LSTMLinear], scaler: Scaler | KeyedScaler | None
) -> dict[str, NDArray[Any]]:
    """Return weights and scaling under the names a model file gives them."""
    arrays = {
        f"{_prefix(member)}{name}": tensor.detach().cpu().numpy()
        for member, module in enumerate(modules)
        for name, tensor in module.state_dict().items()
    }
    if scaler is not None:
        arrays |= {f"scaler.{name}": array for name, array in scaler.to_dict().items()}
    return arrays


def _prefix(member: int) -> str:
    return f"module_{member}." if member else "module."


def read_network(
    arrays: Mapping[str, NDArray[Any]],
    architecture: Mapping[str, Any],
    *,
    n_channels: int,
    n_classes: int,
    dtype: str,
    member: int = 0,
) -> LSTMLinear:
    """Return a network, in evaluation mode, whose arrays `network_arrays` made.

    Raises
    ------
    ValueError, RuntimeError
        If names, shapes or types of the arrays are not those of such a network; memory is taken for
        the arrays alone, whatever sizes the architecture claims.
    """
    weights = {name: torch.tensor(array) for name, array in _below(arrays, _prefix(member)).items()}
    n_directions = 2 if architecture.get("bidirectional") is True else 1
    n_layers = sum(name.startswith("lstm.weight_ih_") for name in weights) / n_directions
    if architecture.get("num_layers") != n_layers:
        raise ValueError(f"num_layers={architecture.get('num_layers')!r}, arrays for {n_layers:g}")
    with isolated_torch_rng(0, torch.device("cpu")):
        module = LSTMLinear(
            n_channels,
            num_classes=n_classes,
            device="meta",  # shapes without memory
            dtype=getattr(torch, dtype),
            **architecture,
        )
    for name, tensor in module.state_dict().items():
        if name in weights and weights[name].dtype != tensor.dtype:
            raise ValueError(f"{name} has type {weights[name].dtype}, expected {tensor.dtype}")
    module.load_state_dict(weights, assign=True)  # strict: names and shapes must fit
    return module.eval()


def read_scaler(arrays: Mapping[str, NDArray[Any]]) -> Scaler | KeyedScaler | None:
    """Return the scaling whose arrays `network_arrays` made."""
    fields = _below(arrays, "scaler.")
    return scaler_from_dict(fields) if fields else None


def check_array_names(arrays: Mapping[str, NDArray[Any]], n_models: int, path: Any) -> None:
    """Raise when a file holds an array that no model of so many members has."""
    known = ("scaler.", "features.", *(_prefix(member) for member in range(n_models)))
    unknown = [name for name in arrays if not name.startswith(known)]
    if unknown:
        raise ModelFileError(f"{path} has an unknown array {unknown[0]!r}.")


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
