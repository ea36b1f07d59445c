"""An ONNX graph with LSTM nodes as a module: one node alone, or layers, pooling and a head."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sensorseq.errors import ArgumentError, EnvironmentProblemError, SensorseqError, refusing
from sensorseq.nn.from_keras import Direction, Parts, assemble
from sensorseq.nn.lstm import LSTM
from sensorseq.nn.lstm_linear import LSTMLinear

_GATES = (0, 2, 3, 1)  # i, f, c, o of ours among i, o, f, c of ONNX
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_SERVED = (
    "LSTM, Transpose, Squeeze, Reshape, Gather of the last step, ReduceMean and ReduceMax over"
    " time, Concat, Gemm, MatMul with Add, Softmax, Sigmoid"
)


def import_onnx() -> Any:
    """Return the library onnx, or say which extra brings it."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise EnvironmentProblemError(
            "ONNX models need the library onnx: pip install 'sensorseq[onnx]'."
        ) from error
    return onnx


class OnnxLSTM(nn.Module):
    """One ONNX LSTM node on the native kernels, with the node's inputs, outputs and layout.

    `from_onnx` makes it. The weights are those of `lstm`, which is bidirectional for a reverse
    node: its forward direction is zero and not returned.

    Parameters
    ----------
    lstm : LSTM
        Batch first.
    direction : {"forward", "reverse", "bidirectional"}
        As in the node.
    layout : {0, 1}
        0: steps are the first axis of X. 1: windows are.
    """

    def __init__(self, lstm: LSTM, direction: str, layout: int) -> None:
        super().__init__()
        self.lstm = lstm
        self.direction = direction
        self.layout = layout

    def forward(
        self,
        X: Tensor,
        sequence_lens: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return Y, Y_h and Y_c as the node does; steps beyond `sequence_lens` are 0.

        Parameters
        ----------
        X : Tensor of shape (T, N, C), with layout 1 (N, T, C)
        sequence_lens : Tensor of shape (N,), int, optional
            Valid steps of each window, 1 to T.
        initial_h, initial_c : Tensor of shape (D, N, H), with layout 1 (N, D, H), optional
            Zeros by default.

        Returns
        -------
        Y : Tensor of shape (T, D, N, H), with layout 1 (N, T, D, H)
        Y_h, Y_c : Tensor of shape (D, N, H), with layout 1 (N, D, H)
        """
        x = X if self.layout else X.transpose(0, 1)
        shape = (_DIRECTIONS[self.direction], len(x), self.lstm.hidden_size)
        states = [
            x.new_zeros(shape) if part is None else part.transpose(0, 1) if self.layout else part
            for part in (initial_h, initial_c)
        ]
        if self.direction == "reverse":
            states = [torch.cat([torch.zeros_like(part), part]) for part in states]
        given: Any = x
        if sequence_lens is not None:
            given = pack_padded_sequence(
                x, sequence_lens.cpu().long(), batch_first=True, enforce_sorted=False
            )
        output, last = self.lstm(given, tuple(states))
        if sequence_lens is not None:
            output = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0]
        Y = output.unflatten(2, (-1, self.lstm.hidden_size))  # (N, T, D, H)
        if self.direction == "reverse":
            Y, last = Y[:, :, 1:], [part[1:] for part in last]
        Y_h, Y_c = last
        if self.layout:
            return Y, Y_h.transpose(0, 1), Y_c.transpose(0, 1)
        return Y.permute(1, 2, 0, 3), Y_h, Y_c


_usable = refusing(
    ArgumentError, "the ONNX model is damaged or not usable", but=(SensorseqError, OSError)
)


@_usable
def from_onnx(model: Any, weights: Mapping[str, ArrayLike] | None = None) -> OnnxLSTM | LSTMLinear:
    """Return the LSTM of an ONNX model, on the native kernels, in evaluation mode.

    A graph of one LSTM node becomes an `OnnxLSTM`. A chain of LSTM layers, a pooling over time and
    a linear layer, as other libraries export it, becomes an `LSTMLinear`, which gives the outputs
    before a softmax or sigmoid at the end.

    Parameters
    ----------
    model : path or onnx.ModelProto
        The model. Needs the extra ``onnx``.
    weights : mapping of str to array, optional
        Values of graph inputs that are weights, by name.

    Raises
    ------
    ArgumentError
        If the graph has something else; the message names the node: peepholes, ``clip``,
        ``input_forget``, activations other than sigmoid and tanh, or an operator that is not part
        of such a chain.
    EnvironmentProblemError
        If the library onnx is missing.
    """
    reader = _Reader(model, weights or {})
    nodes = [node for node in reader.graph.node if node.op_type != "Constant"]
    if [node.op_type for node in nodes] != ["LSTM"]:
        return reader.chain()[0]
    (node,) = nodes
    options = reader.options(node)
    module = _stacked(reader.directions(node, options))
    return OnnxLSTM(module, options["direction"], options["layout"]).eval()


@_usable
def lstm_linear_from_onnx(model: Any) -> tuple[LSTMLinear, str]:
    """Return the chain of `from_onnx` and its activation: linear, softmax or sigmoid."""
    return _Reader(model, {}).chain()


def _stacked(directions: list[Direction]) -> LSTM:
    """Return an LSTM of one layer; where only the backward direction is given, with zeros."""
    first = directions[0]
    dtype = torch.float64 if first.kernel.dtype == np.float64 else torch.float32
    lstm = LSTM(
        len(first.kernel), first.n_units, batch_first=True, bidirectional=len(directions) == 2
    ).to(dtype)
    with torch.no_grad():
        for end, part in zip(("", "_reverse"), directions, strict=False):
            for name, values in (
                ("weight_ih", part.kernel.T),
                ("weight_hh", part.recurrent.T),
                ("bias_ih", part.bias),
                ("bias_hh", np.zeros_like(part.bias)),
            ):
                getattr(lstm, f"{name}_l0{end}").copy_(torch.tensor(values))
    return lstm


class _Value(NamedTuple):
    """What a value of the graph holds: names of its axes, and what was done to get it.

    Axes are t, n, and c (channels), d (directions), h (hidden units) or w (both as one).
    """

    axes: tuple[str, ...]
    n_layers: int = 0
    pooling: str = ""
    direction: int = -1  # the one that was taken, of several
    n_states: int = 0  # final states of all layers and directions, where they are joined
    is_output: bool = False


class _Reader:
    """Follows a graph from its input to its output and collects layers, pooling and head."""

    def __init__(self, model: Any, weights: Mapping[str, ArrayLike]) -> None:
        self.onnx = import_onnx()
        if isinstance(model, str | os.PathLike):
            model = self.onnx.load(os.fspath(model))
        self.graph = model.graph
        read = self.onnx.numpy_helper.to_array
        self.constants = {name: np.asarray(value) for name, value in weights.items()}
        self.constants |= {part.name: read(part) for part in self.graph.initializer}
        self.values: dict[str, _Value] = {}
        self.zeros: set[str] = set()
        self.parts = Parts()

    def chain(self) -> tuple[LSTMLinear, str]:
        """Return a module for the whole graph, and the activation at its end."""
        for given in self.graph.input:
            if given.name not in self.constants and not self.values:
                self.values[given.name] = _Value(("", "", ""))  # found out by the first LSTM
        for node in self.graph.node:
            self._read(node)
        end = self.values.get(self.graph.output[0].name)
        if end is None or not end.is_output or self.parts.head is None:
            raise ArgumentError(
                "the first output of the ONNX graph is not that of a linear layer after an LSTM."
                f" Supported nodes: {_SERVED}."
            )
        return assemble(self.parts), self.parts.activation

    def _read(self, node: Any) -> None:
        """Find out what the outputs of a node hold; what no value goes into is left out."""
        if node.op_type == "Constant":
            value = self.onnx.helper.get_attribute_value(node.attribute[0])
            if node.attribute[0].name == "value":
                value = self.onnx.numpy_helper.to_array(value)
            self.constants[node.output[0]] = np.asarray(value)
            return
        inputs = [self.values[name] for name in node.input if name in self.values]
        attributes = self._attributes(node)
        if not inputs and self._is_zero(node, attributes):
            self.zeros.add(node.output[0])
        if not inputs or node.op_type == "Shape":  # sizes, of which nothing else is made
            return
        how: Callable[..., Any] | None = getattr(self, f"_{node.op_type.lower()}", None)
        if how is None:
            raise _refusal(node, f"is not supported. Supported nodes: {_SERVED}")
        made = how(node, inputs, attributes)
        for name, value in zip(
            node.output, made if isinstance(made, list) else [made], strict=False
        ):
            self.values[name] = value

    def _is_zero(self, node: Any, attributes: Mapping[str, Any]) -> bool:
        """Whether a node makes zeros, such as the first states that torch writes out."""
        if node.op_type == "ConstantOfShape":
            filled = attributes.get("value")
            return filled is None or not self.onnx.numpy_helper.to_array(filled).any()
        known = self.constants.get(node.input[0]) if node.input else None
        is_moved = node.op_type in ("Expand", "Slice", "Squeeze", "Unsqueeze", "Reshape")
        is_zero = known is not None and known.size > 0 and not known.any()
        return is_moved and (node.input[0] in self.zeros or is_zero)

    def _attributes(self, node: Any) -> dict[str, Any]:
        get = self.onnx.helper.get_attribute_value
        return {attribute.name: get(attribute) for attribute in node.attribute}

    def _integers(self, node: Any, name: str, place: int) -> list[int] | None:
        """Return integers that older operators have as attribute and newer ones as input."""
        given = self._attributes(node).get(name)
        if given is None and len(node.input) > place:
            given = self.constants.get(node.input[place])
        return None if given is None else np.ravel(given).tolist()

    # LSTM

    def options(self, node: Any) -> dict[str, Any]:
        """Return direction and layout; refuse what our LSTM does not compute."""
        given = self._attributes(node)
        direction = given.get("direction", b"forward").decode()
        wanted = [b"sigmoid", b"tanh", b"tanh"] * _DIRECTIONS[direction]
        activations = [name.lower() for name in given.get("activations", wanted)]
        if activations != wanted:
            named = ", ".join(name.decode() for name in given["activations"])
            raise _refusal(node, f"has activations={named}; only Sigmoid, Tanh, Tanh is supported")
        for name in ("clip", "input_forget"):
            if given.get(name):
                raise _refusal(node, f"has {name}={given[name]}, which is not supported")
        if len(node.input) > 7 and node.input[7]:
            raise _refusal(node, "has peepholes (input P), which are not supported")
        return {"direction": direction, "layout": given.get("layout", 0)}

    def directions(self, node: Any, options: Mapping[str, Any]) -> list[Direction]:
        """Return the weights of each direction, with zeros before those of a reverse node."""
        W, R = (self._weight(node, place) for place in (1, 2))
        B = self._weight(node, 3) if len(node.input) > 3 and node.input[3] else None
        if B is None:
            B = np.zeros((len(W), 2 * W.shape[1]), W.dtype)
        found = []
        for w, r, b in zip(W, R, B, strict=True):
            gates = np.arange(len(w)).reshape(4, -1)[list(_GATES)].ravel()
            found.append(Direction(w[gates].T, r[gates].T, (b[: len(w)] + b[len(w) :])[gates]))
        if options["direction"] == "reverse":
            zero = found[0]
            found.insert(0, Direction(0 * zero.kernel, 0 * zero.recurrent, 0 * zero.bias))
        return found

    def _weight(self, node: Any, place: int) -> NDArray[Any]:
        name = node.input[place]
        if name not in self.constants:
            raise _refusal(
                node, f"reads {name!r}, which is not a constant; give its value in weights="
            )
        return self.constants[name]

    def _lstm(self, node: Any, inputs: Sequence[_Value], _: Any) -> list[_Value]:
        options = self.options(node)
        if options["direction"] == "reverse":
            raise _refusal(node, "runs backwards only, which LSTMLinear does not")
        for name in node.input[5:7]:
            values = self.constants.get(name)
            is_zero = name in self.zeros or (values is not None and not values.any())
            if name and not is_zero:
                raise _refusal(node, f"begins with the state {name!r}; only zeros are supported")
        if len(node.input) > 4 and node.input[4]:
            raise _refusal(
                node, "has sequence_lens; export without, and give lengths to the module"
            )
        x = inputs[0]
        steps, windows = (1, 0) if options["layout"] else (0, 1)
        is_read = x.axes == ("", "", "") or (
            len(x.axes) == 3 and x.axes[steps] == "t" and x.axes[windows] == "n"
        )
        if not is_read or x.pooling or x.n_layers != len(self.parts.stack):
            raise _refusal(node, "does not read the sequence of the layer before it")
        self.parts.stack.append(self.directions(node, options))
        n = len(self.parts.stack)
        if options["layout"]:
            return [_Value(("n", "t", "d", "h"), n), _Value(("n", "d", "h"), n, "last")]
        return [_Value(("t", "d", "n", "h"), n), _Value(("d", "n", "h"), n, "last")]

    # Axes

    def _transpose(self, node: Any, inputs: Sequence[_Value], given: Mapping[str, Any]) -> _Value:
        x = inputs[0]
        order = given.get("perm", list(reversed(range(len(x.axes)))))
        return x._replace(axes=tuple(x.axes[i] for i in order))

    def _squeeze(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        x = inputs[0]
        axes = self._integers(node, "axes", 1) or []
        dropped = {x.axes[i] for i in axes}
        if not axes or not dropped <= {"d", ""} or len(self.parts.stack[-1]) > 1:
            raise _refusal(node, "drops another axis than that of a single direction")
        return x._replace(axes=tuple("w" if a == "h" else a for a in x.axes if a not in dropped))

    def _reshape(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        x = inputs[0]
        shape = self.constants.get(node.input[1])
        if x.axes[-2:] != ("d", "h") or shape is None or len(shape) != len(x.axes) - 1:
            raise _refusal(node, "does anything but join directions and hidden units")
        return x._replace(axes=(*x.axes[:-2], "w"))

    def _identity(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        return inputs[0]

    _dropout = _cast = _identity

    # Pooling

    def _gather(self, node: Any, inputs: Sequence[_Value], given: Mapping[str, Any]) -> _Value:
        x, index = inputs[0], self.constants.get(node.input[1])
        axis = x.axes[given.get("axis", 0)]
        if index is None or index.size != 1:
            raise _refusal(node, "takes several places, or places that are not constant")
        place = int(index.ravel()[0])
        left = tuple(name for name in x.axes if name != axis) if index.ndim == 0 else x.axes
        n_directions = len(self.parts.stack[-1])
        n_before = max(0, x.n_states - n_directions)  # states of the layers below
        if axis == "t" and place == -1 and n_directions == 1:
            return x._replace(axes=left, pooling="last")
        place = place % (n_before + n_directions) - n_before
        if axis != "d" or index.ndim or place < 0:
            raise _refusal(node, "takes another step than the last of the last layer")
        left = tuple("w" if name == "h" else name for name in left)
        return x._replace(axes=left, direction=place if n_directions > 1 else -1)

    def _pool(self, node: Any, x: _Value, how: str) -> _Value:
        axes = self._integers(node, "axes", 1) or []
        if [x.axes[i] for i in axes] != ["t"] or self._attributes(node).get("keepdims", 1):
            raise _refusal(node, "reduces another axis than time, or keeps it")
        return x._replace(axes=tuple(name for name in x.axes if name != "t"), pooling=how)

    def _reducemean(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        return self._pool(node, inputs[0], "mean")

    def _reducemax(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        return self._pool(node, inputs[0], "max")

    def _concat(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        if [value.axes for value in inputs] == [("d", "n", "h")] * len(self.parts.stack):
            n_states = sum(map(len, self.parts.stack))  # of all layers, as torch has them
            if [value.n_layers for value in inputs] == list(range(1, len(inputs) + 1)):
                return inputs[-1]._replace(n_states=n_states)
        pooled = [(value.axes, value.pooling, value.direction) for value in inputs]
        if pooled == [(("n", "w"), "last", direction) for direction in (0, 1)]:
            return inputs[0]._replace(direction=-1)
        if pooled == [(("n", "w"), how, -1) for how in ("mean", "max")]:
            return inputs[0]._replace(pooling="meanmax")
        raise _refusal(node, "joins something else than two directions, or mean and maximum")

    # Head

    def _gemm(self, node: Any, inputs: Sequence[_Value], given: Mapping[str, Any]) -> _Value:
        kernel = self._weight(node, 1).T if given.get("transB") else self._weight(node, 1)
        others = given.get("alpha", 1.0), given.get("beta", 1.0), given.get("transA", 0)
        if others != (1.0, 1.0, 0):
            raise _refusal(node, "has alpha, beta or transA")
        bias = self._weight(node, 2) if len(node.input) > 2 else np.zeros(1)
        return self._linear(node, inputs[0], kernel, bias)

    def _matmul(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        return self._linear(node, inputs[0], self._weight(node, 1), np.zeros(1))

    def _linear(self, node: Any, x: _Value, kernel: NDArray[Any], bias: NDArray[Any]) -> _Value:
        is_pooled = x.axes == ("n", "w") and x.pooling and x.direction < 0
        if not is_pooled or self.parts.head or x.n_layers != len(self.parts.stack):
            raise _refusal(node, "does not read one vector for each window, of the last LSTM")
        self.parts.pooling = x.pooling
        self.parts.head = kernel, np.broadcast_to(bias, kernel.shape[1:]).copy()
        return x._replace(axes=("n", "k"), is_output=True)

    def _add(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        given = [self.constants[name] for name in node.input if name in self.constants]
        if not (inputs[0].is_output and given and self.parts.head):
            raise _refusal(node, "adds something else than the bias of the linear layer")
        kernel, bias = self.parts.head
        self.parts.head = kernel, bias + np.ravel(given[0])
        return inputs[0]

    def _softmax(self, node: Any, inputs: Sequence[_Value], _: Any) -> _Value:
        if not inputs[0].is_output or self.parts.activation != "linear":
            raise _refusal(node, "does not follow the linear layer")
        self.parts.activation = node.op_type.lower()
        return inputs[0]

    _sigmoid = _softmax


def _refusal(node: Any, what: str) -> ArgumentError:
    return ArgumentError(f"node {node.name!r} ({node.op_type}) of the ONNX graph {what}.")
