"""The state of a run as named arrays and plain values, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TENSOR, _ITEMS = "tensor", "items"  # tags of a tensor, and of a mapping whose keys are no text


def pack_state(state: Any, name: str = "state") -> tuple[dict[str, NDArray[Any]], Any]:
    """Part the tensors of a nested state from the rest of it.

    Parameters
    ----------
    state : object
        Mappings, lists and tuples of tensors and of what JSON holds. Tuples come back as lists.
    name : str
        Of the whole.

    Returns
    -------
    arrays : dict of str to ndarray
        A copy of every tensor under the path of keys to it.
    plain : object
        What JSON holds, with the path in place of each tensor.
    """
    arrays: dict[str, NDArray[Any]] = {}

    def pack(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            arrays[name] = value.numpy(force=True).copy()
            return {_TENSOR: name}
        if isinstance(value, dict):
            parts = {key: pack(part, f"{name}/{key}") for key, part in value.items()}
            if all(type(key) is str for key in parts):
                return parts
            return {_ITEMS: list(parts.items())}
        if isinstance(value, list | tuple):
            return [pack(part, f"{name}/{i}") for i, part in enumerate(value)]
        return value

    return arrays, pack(state, name)


def unpack_state(arrays: Mapping[str, NDArray[Any]], plain: Any) -> Any:
    """Undo `pack_state`, with new tensors on the CPU."""
    if isinstance(plain, dict):
        if _TENSOR in plain:
            return torch.tensor(arrays[plain[_TENSOR]])
        if _ITEMS in plain:
            return {key: unpack_state(arrays, part) for key, part in plain[_ITEMS]}
        return {key: unpack_state(arrays, part) for key, part in plain.items()}
    if isinstance(plain, list):
        return [unpack_state(arrays, part) for part in plain]
    return plain


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's own generators that a run on `device` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Undo `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a numpy generator in plain values."""
    return dict(rng.bit_generator.state)
