"""The network as operators: LSTM layers, pooling over valid steps, normalization, linear layer."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.export.graph import Graph, float32
from sensorseq.export.graph_preprocessing import GraphWindows
from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import parameter_suffix
from sensorseq.prediction.members.lstm import Network
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.network import LstmNetwork, array_prefix
from sensorseq.training.evaluation import ModuleNetwork
from sensorseq.training.torch_network import read_network

_GATES = (0, 3, 1, 2)  # positions of ONNX's gates i, o, f, c in our order i, f, g, o


def refuse_for_sensors(model: TrainedModel, **options: Any) -> None:
    """Raise an error if an option for one sensor is given for a model of several sensors."""
    for name, value in options.items():
        if model.names_sensors and value is not None:
            raise ArgumentError(
                f"{name}={value!r} cannot apply to all sensors ({', '.join(model.inputs)}); leave"
                " it out."
            )


def used_modules(model: TrainedModel) -> list[LSTMLinear]:
    """Return the networks as modules; none if the LSTM has weight 0."""
    networks = model.lstm.networks if model.sum.uses_lstm else ()
    return [module_of(network, len(model.classes)) for network in networks]


def module_of(network: Network, n_classes: int) -> LSTMLinear:
    """Return a network as a module; an `LstmNetwork` is rebuilt from its arrays."""
    if isinstance(network, ModuleNetwork):
        return network.module
    assert isinstance(network, LstmNetwork)
    arrays = {f"{array_prefix(0)}{name}": array for name, array in network.arrays.items()}
    return read_network(
        arrays,
        network.architecture,
        n_channels=network.n_inputs,
        n_classes=n_classes,
        dtype=str(network.dtype),
    )


def network_outputs(g: Graph, module: LSTMLinear, windows: GraphWindows) -> str:
    """Add a network in evaluation mode; return the name of its float32 outputs (n, outputs)."""
    n_directions, hidden = 2 if module.bidirectional else 1, module.hidden_size
    lengths = "" if windows.are_full else g.cast(windows.lengths, np.int32)
    sequence = g("Transpose", windows.x, perm=[1, 0, 2])  # (t, n, c)
    last = ""
    for layer in range(module.num_layers):
        weights = _lstm_weights(module, layer, n_directions)
        sequence, last, _ = g.several(
            3,
            "LSTM",
            sequence,
            *weights,
            lengths,
            hidden_size=hidden,
            direction="bidirectional" if n_directions == 2 else "forward",
        )
        joined = g("Transpose", sequence, perm=[0, 2, 1, 3])  # (t, n, directions, hidden)
        sequence = g("Reshape", joined, [0, 0, n_directions * hidden])
    pooled = _pooled(g, module, sequence, last, windows)
    if module.norm is not None:
        pooled = _normalized(g, module.norm, pooled)
    linear = module.linear
    return g("Gemm", pooled, float32(linear.weight), float32(linear.bias), transB=1)


def _lstm_weights(module: LSTMLinear, layer: int, n_directions: int) -> list[NDArray[np.float32]]:
    """Return W, R and B of a layer in ONNX's order: stacked directions, gates i, o, f, c."""

    def stacked(name: str) -> NDArray[np.float32]:
        parts = []
        for direction in range(n_directions):
            values = float32(getattr(module.lstm, name + parameter_suffix(layer, direction)))
            gates = values.reshape(4, module.hidden_size, *values.shape[1:])
            parts.append(gates[list(_GATES)].reshape(values.shape))
        return np.stack(parts)

    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return [stacked("weight_ih"), stacked("weight_hh"), bias]


def _pooled(g: Graph, module: LSTMLinear, sequence: str, last: str, windows: GraphWindows) -> str:
    """Reduce hidden states (t, n, width) to (n, width)."""
    n_directions = 2 if module.bidirectional else 1
    if module.pooling == "last":
        joined = g("Transpose", last, perm=[1, 0, 2])  # (n, directions, hidden)
        return g("Reshape", joined, [0, n_directions * module.hidden_size])
    by_window = g("Transpose", sequence, perm=[1, 0, 2])
    valid = g("Unsqueeze", windows.is_valid(g), [2])
    parts = []
    if "mean" in module.pooling:
        kept = by_window if windows.are_full else g("Where", valid, by_window, np.float32(0))
        count = g("Unsqueeze", g.cast(windows.lengths, np.float32), [1])
        parts.append(g("Div", g("ReduceSum", kept, [1], keepdims=0), count))
    if "max" in module.pooling:
        kept = by_window if windows.are_full else g("Where", valid, by_window, np.float32(-np.inf))
        parts.append(g("ReduceMax", kept, axes=[1], keepdims=0))
    return parts[0] if len(parts) == 1 else g("Concat", *parts, axis=1)


def _normalized(g: Graph, norm: Any, pooled: str) -> str:
    """Apply the head's normalization; a batch norm uses the statistics from training."""
    if isinstance(norm, torch.nn.LayerNorm):
        weights = float32(norm.weight), float32(norm.bias)
        return g("LayerNormalization", pooled, *weights, axis=-1, epsilon=norm.eps)
    factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).double()
    shift = norm.bias - norm.running_mean * factor
    return g("Add", g("Mul", pooled, float32(factor)), float32(shift))
