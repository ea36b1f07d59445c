"""Outputs of trained networks, for arrays: on the CPU by the kernel alone, else by torch."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sensorseq.nn import LSTMLinear
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.network import LstmNetwork
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.network import ARCHITECTURE
from sensorseq.training.parameters import resolve_device
from sensorseq.training.stream import StreamedData

# Of each module its network for the kernel, and the state of the weights it was made of.
_MADE: WeakKeyDictionary[nn.Module, tuple[Any, LstmNetwork]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ModuleNetwork:
    """A module as a model's network; `device` is the estimator's argument."""

    module: LSTMLinear
    device: str

    @property
    def n_inputs(self) -> int:
        """The inputs of a step."""
        return self.module.input_size

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.module.num_classes

    def outputs(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the outputs (n, n_outputs), computed on the device, which the module moves to."""
        module, weight = self.module, self.module.linear.weight
        device = resolve_device(self.device, hidden_size=module.hidden_size, dtype=weight.dtype)
        if weight.device != device:
            module.to(device)
        return network_outputs(module, X, lengths)


def modules_of(model: TrainedModel) -> list[LSTMLinear]:
    """Return the modules of a model's networks."""
    return [one.module for one in model.networks if isinstance(one, ModuleNetwork)]


def network_outputs(
    module: nn.Module, X: NDArray[Any], lengths: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Return the outputs (n, n_outputs) of a module in evaluation mode, where it is."""
    if module.training:
        module.eval()
    if isinstance(module, LSTMLinear) and module.linear.weight.is_cpu:
        return _network_of(module).outputs(X, lengths, torch.get_num_threads())
    like = next(module.parameters())
    blocks = []
    with torch.inference_mode():
        for start in range(0, len(X), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            valid = None if lengths is None else torch.from_numpy(lengths[rows]).to(like.device)
            blocks.append(module(torch.from_numpy(X[rows]).to(like), valid).cpu())
    return np.asarray(torch.cat(blocks).numpy(), np.float64)


def outputs_of(model: TrainedModel, data: TrainingData | StreamedData) -> NDArray[np.float64]:
    """Return the logits of all windows of a part, which are scaled."""
    return np.concatenate(
        [
            model.outputs(block.X.numpy(), None if block.lengths is None else block.lengths.numpy())
            for block in data.blocks()
        ]
    )


def _network_of(module: LSTMLinear) -> LstmNetwork:
    """Return the module's network, made again only when a weight has changed."""
    # the tensors themselves, so that the memory of none is taken by another
    held = (*module.parameters(), *module.buffers())
    state = [(tensor, tensor._version) for tensor in held]
    kept = _MADE.get(module)
    if kept is not None and all(
        old is new and version == seen
        for (old, seen), (new, version) in zip(kept[0], state, strict=True)
    ):
        return kept[1]
    arrays = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    made = LstmNetwork(arrays, {name: getattr(module, name) for name in ARCHITECTURE})
    _MADE[module] = state, made
    return made
