"""Convert a Keras model with LSTM layers and a dense head to LSTMLinear without importing Keras."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.nn.lstm_linear import LSTMLinear
from sensorseq.ops.train_epoch import parameter_suffix

_ONLY_IN_TRAINING = ("InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise")
_POOLINGS = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}
_HEAD_ACTIVATIONS = ("linear", "softmax", "sigmoid")
_SUPPORTED = (
    "LSTM, Bidirectional(LSTM), Dropout, GlobalAveragePooling1D, GlobalMaxPooling1D, and one Dense"
    " at the end"
)


@dataclass(frozen=True)
class Direction:
    """The weights of one direction of a layer."""

    kernel: NDArray[Any]  # (inputs, 4U); gates in torch's order: i, f, c, o
    recurrent: NDArray[Any]  # (U, 4U)
    bias: NDArray[Any]  # (4U)

    @property
    def n_units(self) -> int:
        """The number of hidden units."""
        return len(self.recurrent)


@dataclass
class Parts:
    """The parts of a network that have been read so far."""

    stack: list[list[Direction]] = field(default_factory=list)
    returns_sequences: bool = True
    pooling: str | None = None
    head: tuple[NDArray[Any], NDArray[Any]] | None = None
    activation: str = "linear"


def lstm_linear_from_keras(keras_model: Any) -> tuple[LSTMLinear, str]:
    """Convert a Keras model to a module in evaluation mode; also return the final activation.

    The model must be a chain of LSTM layers, optional global pooling over time, and a dense layer.
    Layers may differ in size: smaller layers are padded with units that stay zero. The module
    returns the output of the dense layer before the activation, which is ``"linear"``,
    ``"softmax"`` or ``"sigmoid"``. Layers that act only in training, such as dropout, are skipped.
    A layer of any other kind raises an ArgumentError that names the layer.
    """
    parts = Parts()
    for layer in _layers(keras_model):
        _read_layer(layer, parts)
    if not parts.stack or parts.head is None:
        missing = "LSTM layer" if not parts.stack else "Dense layer at its end"
        raise ArgumentError(f"the Keras model has no {missing}; supported layers: {_SUPPORTED}.")
    return assemble(parts), parts.activation


def _layers(model: Any) -> list[Any]:
    layers = list(getattr(model, "layers", None) or ())
    if not layers or not all(hasattr(layer, "get_weights") for layer in layers):
        raise ArgumentError(
            f"model is a {type(model).__name__}, not a Keras model with layers; give a Sequential"
            " or functional model."
        )
    for name in ("inputs", "outputs"):
        if len(getattr(model, name, None) or ()) > 1:
            raise ArgumentError(f"the Keras model has several {name}; only one is supported.")
    return layers


def _read_layer(layer: Any, parts: Parts) -> None:
    kind, config = type(layer).__name__, layer.get_config()
    if kind in _ONLY_IN_TRAINING:
        return
    if parts.head is not None:
        activation = {"Softmax": "softmax", "Activation": config.get("activation")}.get(kind)
        if activation not in _HEAD_ACTIVATIONS or parts.activation != "linear":
            problem = f"comes after the Dense layer; supported layers: {_SUPPORTED}"
            raise _unsupported(layer, problem)
        parts.activation = activation
    elif kind in ("LSTM", "Bidirectional"):
        _read_lstm(layer, config, parts)
    elif kind in _POOLINGS and parts.stack:
        if not parts.returns_sequences or parts.pooling is not None:
            raise _unsupported(
                layer,
                "has no sequence to pool over: set return_sequences=True in the layer before it",
            )
        _refuse(layer, config, keepdims=False, data_format="channels_last")
        parts.pooling = _POOLINGS[kind]
    elif kind == "Dense":
        if parts.stack and parts.returns_sequences and parts.pooling is None:
            raise _unsupported(
                layer,
                "returns an output for each step; set return_sequences=False in the layer before"
                " it",
            )
        if config.get("activation") not in _HEAD_ACTIVATIONS:
            raise _unsupported(layer, f"has activation={config.get('activation')!r}")
        kernel, *bias = _weights(layer)
        parts.head = kernel, bias[0] if bias else np.zeros(kernel.shape[1], kernel.dtype)
        parts.activation = config["activation"]
    else:
        hint = "; pass lengths= to predict() instead" if kind == "Masking" else ""
        raise _unsupported(layer, f"is not supported{hint}. Supported layers: {_SUPPORTED}")


def _read_lstm(layer: Any, config: dict[str, Any], parts: Parts) -> None:
    inner = [config]
    if type(layer).__name__ == "Bidirectional":
        _refuse(layer, config, merge_mode="concat")
        wrapped = [config["layer"], config.get("backward_layer") or config["layer"]]
        if any(part["class_name"] != "LSTM" for part in wrapped):
            raise _unsupported(layer, f"wraps a {wrapped[0]['class_name']}; only LSTM is supported")
        inner = [part["config"] for part in wrapped]
    if not parts.returns_sequences or parts.pooling is not None:
        raise _unsupported(layer, "gets no sequence: the layer before it returns a single vector")
    for direction in inner:
        _refuse(
            layer,
            direction,
            activation="tanh",
            recurrent_activation="sigmoid",
            stateful=False,
            return_state=False,
            time_major=False,
        )
    _refuse(layer, inner[0], go_backwards=False)
    weights = _weights(layer)
    each = len(weights) // len(inner)
    directions = []
    for start in range(0, len(weights), each):
        kernel, recurrent, *bias = weights[start : start + each]
        no_bias = np.zeros(kernel.shape[1], kernel.dtype)
        directions.append(Direction(kernel, recurrent, bias[0] if bias else no_bias))
    if parts.stack and len(parts.stack[0]) != len(directions):
        raise _unsupported(
            layer, "differs in direction; all LSTM layers must be bidirectional, or none of them"
        )
    before = sum(part.n_units for part in parts.stack[-1]) if parts.stack else None
    if before is not None and directions[0].kernel.shape[0] != before:
        raise _unsupported(
            layer,
            f"expects {directions[0].kernel.shape[0]} values, but the layer before it returns"
            f" {before}",
        )
    parts.stack.append(directions)
    parts.returns_sequences = bool(inner[0].get("return_sequences", False))


def _weights(layer: Any) -> list[NDArray[Any]]:
    weights = [np.asarray(array) for array in layer.get_weights()]
    if not weights:
        raise _unsupported(layer, "has no weights yet; build the model, or call it once")
    return weights


def _refuse(layer: Any, config: dict[str, Any], **supported: Any) -> None:
    for name, value in supported.items():
        if config.get(name, value) != value:
            raise _unsupported(layer, f"has {name}={config[name]!r}; only {value!r} is supported")


def _unsupported(layer: Any, problem: str) -> ArgumentError:
    name = getattr(layer, "name", "?")
    return ArgumentError(f"layer {name!r} ({type(layer).__name__}) of the Keras model {problem}.")


def assemble(parts: Parts) -> LSTMLinear:
    """Build a module from all layers; smaller layers are padded with units that stay zero."""
    assert parts.head is not None
    kernel, bias = parts.head
    hidden_size = max(part.n_units for layer in parts.stack for part in layer)
    n_directions = len(parts.stack[0])
    is_double = parts.stack[0][0].kernel.dtype == np.float64
    module = LSTMLinear(
        parts.stack[0][0].kernel.shape[0],
        hidden_size,
        kernel.shape[1],
        len(parts.stack),
        n_directions == 2,
        parts.pooling or "last",
        dtype=torch.float64 if is_double else torch.float32,
    )
    columns = np.arange(module.input_size)
    state = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    for depth, layer in enumerate(parts.stack):
        for direction, part in enumerate(layer):
            rows = _places(part.n_units, hidden_size, 4)
            end = parameter_suffix(depth, direction)
            _fill(state[f"lstm.weight_ih{end}"], rows, columns, part.kernel.T)
            _fill(state[f"lstm.weight_hh{end}"], rows, np.arange(part.n_units), part.recurrent.T)
            lstm_bias = torch.from_numpy(part.bias)
            state[f"lstm.bias_ih{end}"][rows] = lstm_bias.to(module.linear.bias.dtype)
        columns = _places(layer[0].n_units, hidden_size, n_directions)
    if parts.pooling == "meanmax":
        columns = np.concatenate([columns, columns + n_directions * hidden_size])
    _fill(state["linear.weight"], np.arange(kernel.shape[1]), columns, kernel.T)
    state["linear.bias"] = torch.from_numpy(bias)
    module.load_state_dict(state)
    return module.eval()


def _places(n_units: int, hidden_size: int, n_blocks: int) -> NDArray[np.int64]:
    """Return the positions of the units after each block has been padded to `hidden_size`."""
    return (np.arange(n_blocks)[:, None] * hidden_size + np.arange(n_units)).ravel()


def _fill(
    target: torch.Tensor, rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any]
) -> None:
    target[np.ix_(rows, columns)] = torch.from_numpy(np.ascontiguousarray(values)).to(target.dtype)
