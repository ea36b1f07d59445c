"""The bytes that networks are certain to take, and those of the device they are on."""

from collections.abc import Mapping
from functools import partial

import torch

from sensorseq.arguments import check_integer
from sensorseq.memory import Available, check_sizes
from sensorseq.ops.lstm_linear import pooled_size

_MOST_LAYERS = 1000  # each is made by itself, which takes long


def count_parameters(
    pooling: str,
    n_directions: int,
    *,
    input_size: int,
    hidden_size: int,
    num_classes: int,
    num_layers: int,
) -> int:
    """Return the weights of an `LSTMLinear` without a norm, also of one that nothing can hold."""
    inputs = input_size + (num_layers - 1) * n_directions * hidden_size  # of all layers
    layers = 4 * hidden_size * n_directions * (inputs + num_layers * (hidden_size + 2))
    return layers + num_classes * (pooled_size(pooling, hidden_size, n_directions) + 1)


def check_weights(
    pooling: str,
    n_directions: int,
    sizes: Mapping[str, int],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> None:
    """Refuse sizes that are none, and weights that are more than the memory of the device."""
    for name, size in sizes.items():
        check_integer(name, size, 1)
    place = torch.get_default_device() if device is None else torch.device(device)
    item = (dtype or torch.get_default_dtype()).itemsize
    count = partial(count_parameters, pooling, n_directions)
    there = available_on(place) if place.type != "meta" else lambda: 2**62  # torch counts no more
    check_sizes(lambda **s: {"weights": item * count(**s)}, sizes, there)
    check_integer("num_layers", sizes["num_layers"], 1, _MOST_LAYERS)


def available_on(device: torch.device) -> Available | None:
    """Return what tells the bytes left on a device; None: `sensorseq.memory.available_bytes`."""
    if device.type == "cpu":
        return None

    def left() -> int | None:
        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        # what torch has reserved and does not use is free, too
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)

    return left
