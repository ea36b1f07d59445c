"""Estimate the memory that a training certainly needs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sensorseq.checks import Available, check_memory
from sensorseq.ops.lstm_linear import pooled_size
from sensorseq.prediction.inputs import Sequences
from sensorseq.prediction.patches import count_steps
from sensorseq.training.batches import RESIDENT_BYTES
from sensorseq.training.config import TrainingConfig
from sensorseq.training.patches import make_patch
from sensorseq.training.stream import is_stored

_SAVED = 6  # values per unit and step for the backward pass, kSavedValues in csrc/gates.h
_SAVED_WINDOWS = 48  # windows computed at a time, kTileRows * kMaxSlots in csrc/cpu/dispatch.h
_OF_OPTIMIZER = {"rmsprop": 1, "adam": 2, "adamw": 2}  # values per weight, at least
_WAYS_OUT = {  # advice that makes each array smaller
    "weights and their optimizer": "a smaller hidden_size, num_layers or n_models",
    "windows": "fewer or shorter windows, or fewer channels",
    "the states of a batch": "a smaller batch_size, hidden_size or max_timesteps",
}


def check_training_memory(
    parameters: Mapping[str, Any],
    config: TrainingConfig,
    device: torch.device,
    train: Sequences | None = None,
    n_outputs: int = 1,
) -> None:
    """Raise if the largest arrays of a training do not fit into the memory of the device.

    `parameters` are the estimator's; before the windows are read, they count as one window with one
    value.
    """
    item = getattr(torch, parameters["dtype"]).itemsize
    hidden, n_layers, n_models = (
        int(parameters[name]) for name in ("hidden_size", "num_layers", "n_models")
    )
    n_directions = 2 if parameters["bidirectional"] else 1
    n_windows = n_steps = n_channels = 1
    if train is not None:
        n_windows, n_channels = len(train), train.X.shape[2]
        n_steps = int(np.minimum(train.lengths, float(config.max_timesteps or np.inf)).mean())
    of_window = item * n_steps * n_channels
    n_inputs = n_channels + (n_layers - 1) * n_directions * hidden  # inputs of all layers together
    n_weights = 4 * hidden * n_directions * (n_inputs + n_layers * (hidden + 2))
    n_weights += n_outputs * (pooled_size(parameters["pooling"], hidden, n_directions) + 1)
    copies = n_models + 1 + _OF_OPTIMIZER.get(config.optimizer, 0)  # plus gradients
    batch = min(config.batch_size or n_windows, n_windows)
    is_elsewhere = device.type != "cpu" and n_windows * of_window > RESIDENT_BYTES
    is_streamed = is_elsewhere or (train is not None and is_stored(train))
    n_steps = count_steps(n_steps, make_patch(parameters.get("patch"), n_steps, n_channels))
    n_saved = n_layers * n_directions * (_SAVED if device.type == "cpu" else 1)
    sizes = (
        item * copies * n_weights,
        (batch if is_streamed else n_windows) * of_window,
        item * n_saved * min(batch, _SAVED_WINDOWS) * n_steps * hidden,
    )
    parts = dict(zip(_WAYS_OUT, sizes, strict=True))
    subject = f"a training with hidden_size={hidden}, num_layers={n_layers}, n_models={n_models}"
    way_out = _WAYS_OUT[max(parts, key=lambda name: parts[name])]
    check_memory(subject, parts, way_out, available=_available_on(device))


def _available_on(device: torch.device) -> Available | None:
    """Return a function for the bytes free on a device; None: `checks.available_bytes`."""
    if device.type == "cpu":
        return None

    def left() -> int | None:
        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        # memory that torch has reserved but does not use is free, too
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)

    return left
