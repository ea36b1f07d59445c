"""The bytes that a training and a prediction are certain to take."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from sensorseq.memory import SMALL_BYTES, check_sizes
from sensorseq.ops.sizes import available_on, count_parameters
from sensorseq.training.batches import RESIDENT_BYTES
from sensorseq.training.config import TrainingConfig
from sensorseq.training.distributed import current_ranks
from sensorseq.training.inputs import Sequences
from sensorseq.training.patches import count_steps, make_patch
from sensorseq.training.stream import is_stored

_SAVED = 6  # numbers per unit and step for the backward pass, kSavedValues in csrc/gates.h
_SAVED_WINDOWS = 48  # of a batch, at a time: kTileRows * kMaxSlots in csrc/cpu/dispatch.h
_OF_OPTIMIZER = {"rmsprop": 1, "adam": 2, "adamw": 2}  # numbers per weight, at least


def _sizes_of(sequences: Sequences, max_timesteps: int | None, n_outputs: int) -> dict[str, int]:
    used = np.minimum(sequences.lengths, float(max_timesteps or np.inf))
    return {
        "n_timesteps": int(used.mean()) if len(used) else 1,
        "input_size": sequences.X.shape[2],
        "num_classes": n_outputs,
        "n_windows": len(sequences),
    }


def check_training_memory(
    parameters: Mapping[str, Any],
    config: TrainingConfig,
    device: torch.device,
    train: Sequences | None = None,
    n_outputs: int = 1,
) -> None:
    """Refuse a training that cannot fit into the memory of the device.

    `parameters` are the estimator's; before the windows are read, they count as one of one value.
    """
    item = getattr(torch, parameters["dtype"]).itemsize
    n_directions = 2 if parameters["bidirectional"] else 1
    count = partial(count_parameters, parameters["pooling"], n_directions)
    ranks = current_ranks()
    world = 1 if ranks is None else ranks.world
    n_saved = n_directions * (_SAVED if device.type == "cpu" else 1)
    sizes = {name: int(parameters[name]) for name in ("hidden_size", "num_layers", "n_models")}
    sizes |= {"n_timesteps": 1, "input_size": 1, "num_classes": 1, "n_windows": 1}
    if train is not None:
        sizes |= _sizes_of(train, config.max_timesteps, n_outputs)
    sizes["batch_size"] = config.batch_size or sizes["n_windows"]
    sizes["windows_per_epoch"] = config.windows_per_epoch or 0

    def needs(
        n_models: int, n_timesteps: int, n_windows: int, batch_size: int, **of: int
    ) -> dict[str, int]:
        n_drawn, weights = of.pop("windows_per_epoch"), item * count(**of)
        batch = -(-min(batch_size, n_windows) // world)
        of_window = item * n_timesteps * of["input_size"]
        is_elsewhere = device.type != "cpu" and n_windows * of_window > RESIDENT_BYTES
        is_streamed = is_elsewhere or (train is not None and is_stored(train))
        patch = make_patch(parameters.get("patch"), n_timesteps, of["input_size"])
        n_steps = count_steps(n_timesteps, patch)
        n_states = min(batch, _SAVED_WINDOWS) * n_steps * of["num_layers"] * of["hidden_size"]
        return {
            "weights": n_models * weights,
            "gradients": weights,
            "the optimizer": _OF_OPTIMIZER.get(config.optimizer, 0) * weights,
            "windows": (batch if is_streamed else n_windows) * of_window,
            "the states of a batch": item * n_saved * n_states,
            "outputs": item * batch * of["num_classes"],
            "the order of an epoch": 8 * max(n_drawn, n_windows),
        }

    check_sizes(needs, sizes, available_on(device))


def check_prediction_memory(
    sequences: Sequences, max_timesteps: int | None, n_outputs: int, item: int
) -> None:
    """Refuse windows that cannot fit into memory with `item` bytes a value and their outputs."""
    n_windows, n_timesteps, n_channels = sequences.X.shape
    if n_windows * (item * n_timesteps * n_channels + 12 * n_outputs) <= SMALL_BYTES:
        return  # soon: windows are predicted one by one as they arrive
    copied = 0 if is_stored(sequences) else item

    def needs(n_windows: int, n_timesteps: int, input_size: int, num_classes: int) -> Any:
        return {
            "windows": copied * n_windows * n_timesteps * input_size,
            "outputs": 12 * n_windows * num_classes,  # in single and in double precision
        }

    check_sizes(needs, _sizes_of(sequences, max_timesteps, n_outputs))
