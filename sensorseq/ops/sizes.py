"""The bytes that networks, their training and their predictions are certain to take."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from sensorseq.memory import check_sizes
from sensorseq.ops.lstm_linear import pooled_size

_SAVED = 6  # numbers per unit and step for the backward pass, SavedRows in csrc/lstm_linear.h
_SAVED_WINDOWS = 48  # of a batch, at a time: kTileRows * kMaxSlots in csrc/cpu/dispatch.h
_OF_OPTIMIZER = {"rmsprop": 1, "adam": 2, "adamw": 2}  # numbers per weight, at least


def count_parameters(
    input_size: int,
    hidden_size: int,
    num_classes: int,
    num_layers: int = 1,
    *,
    n_directions: int = 1,
    pooling: str = "last",
) -> int:
    """Return the weights of an `LSTMLinear` without a norm, also of one that nothing can hold."""
    inputs = input_size + (num_layers - 1) * n_directions * hidden_size  # of all layers
    layers = 4 * hidden_size * n_directions * (inputs + num_layers * (hidden_size + 2))
    return layers + num_classes * (pooled_size(pooling, hidden_size, n_directions) + 1)


def check_weights(
    sizes: Mapping[str, int],
    pooling: str,
    n_directions: int,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    """Refuse a network whose weights alone are more than the memory of the device.

    `sizes` are those of `count_parameters`; device and dtype None are torch's default.
    """
    place = torch.get_default_device() if device is None else torch.device(device)
    item = (dtype or torch.get_default_dtype()).itemsize
    fixed = {"pooling": pooling, "n_directions": n_directions}
    if place.type != "meta":
        check_sizes(
            lambda **of: {"weights": item * count_parameters(**of, **fixed)},
            sizes,
            _available_on(place),
        )


def check_training(
    sizes: Mapping[str, int],
    device: torch.device,
    dtype: torch.dtype,
    *,
    optimizer: str,
    holds_windows: bool = True,
    **fixed: Any,
) -> None:
    """Refuse a training that cannot fit into the memory of the device.

    `sizes` are those of `count_parameters`, and `n_models`, `n_windows` to train on, `n_timesteps`,
    their mean, `batch_size`, and `windows_per_epoch`, 0 for all. `holds_windows` False: they stay in their file.
    """
    item, saved = dtype.itemsize, _SAVED if device.type == "cpu" else 1

    def needs(
        n_models: int,
        n_windows: int,
        n_timesteps: int,
        batch_size: int,
        windows_per_epoch: int,
        **sizes: int,
    ) -> dict[str, int]:
        weights, layers = item * count_parameters(**sizes, **fixed), sizes["num_layers"]
        batch = min(batch_size, n_windows)
        steps = min(batch, _SAVED_WINDOWS) * n_timesteps * layers * sizes["hidden_size"]
        n_held = n_windows if holds_windows else batch
        return {
            "weights": n_models * weights,
            "gradients": weights,
            "the optimizer": _OF_OPTIMIZER.get(optimizer, 0) * weights,
            "windows": item * n_held * n_timesteps * sizes["input_size"],
            "the states of a batch": item * saved * steps,
            "outputs": item * batch * sizes["num_classes"],
            "the order of an epoch": 8 * max(windows_per_epoch, n_windows),
        }

    check_sizes(needs, sizes, _available_on(device))


def check_prediction(sizes: Mapping[str, int], item: int) -> None:
    """Refuse to predict windows that cannot fit into memory with their outputs.

    `sizes` are `n_windows`, `n_timesteps`, their mean, `input_size` and `num_classes`; `item` is the
    bytes of a scaled value, 0 where nothing is scaled.
    """

    def needs(n_windows: int, n_timesteps: int, input_size: int, num_classes: int) -> dict[str, int]:
        return {
            "windows": item * n_windows * n_timesteps * input_size,
            "outputs": 12 * n_windows * num_classes,  # in single and in double precision
        }

    check_sizes(needs, sizes)


def _available_on(device: torch.device) -> Callable[[], int | None] | None:
    return None if device.type == "cpu" else partial(_available_on_gpu, device)


def _available_on_gpu(device: torch.device) -> int | None:
    """Return what a GPU has left, with what torch has reserved and does not use."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
