"""LstmNetwork: the forward pass of LSTM layers, pooling and a linear layer, on plain arrays."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.core import LstmLayer
from sensorseq.errors import ModelFileError

_BLOCK = 1024  # number of windows processed together; the states of a layer take much memory
_EPSILON = 1e-5  # as in torch's BatchNorm1d and LayerNorm
_NORMS = {
    "none": (),
    "layer": ("norm.weight", "norm.bias"),
    "batch": (
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    ),
}
_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def usable_threads() -> int:
    """Return the number of processors that this process may use, at most OMP_NUM_THREADS."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(here or 1, int(wanted) if wanted.isdigit() and int(wanted) else 4096)


class LstmNetwork:
    """A trained network, without dropout.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Weights, named as in the state of an `LSTMLinear`, all float32 or all float64.
    architecture : mapping
        Values of `hidden_size`, `num_layers`, `bidirectional`, `pooling` and `head_norm`.

    Raises
    ------
    ValueError
        If an array is missing or unknown, or does not match the other arrays in type or shape.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], architecture: Mapping[str, Any]) -> None:
        self.arrays, self.architecture = arrays, architecture
        hidden_size, pooling = architecture["hidden_size"], architecture["pooling"]
        directions = ("", "_reverse") if architecture["bidirectional"] is True else ("",)
        self.norm = architecture["head_norm"]
        self._norm_arrays = [arrays[name] for name in _NORMS[self.norm]]
        self._weight, self._bias = arrays["linear.weight"], arrays["linear.bias"]
        self.dtype = self._weight.dtype
        names = [*_NORMS[self.norm], "linear.weight", "linear.bias"]
        layers = []
        for layer in range(architecture["num_layers"]):
            of_layer = [[f"lstm.{part}_l{layer}{end}" for part in _PARTS] for end in directions]
            names += [name for of_direction in of_layer for name in of_direction]
            weight_ih, weight_hh, bias_ih, bias_hh = (
                np.stack([arrays[of_direction[k]] for of_direction in of_layer]) for k in range(4)
            )
            layers.append((weight_ih, weight_hh, bias_ih + bias_hh))
        if set(names) != set(arrays):
            raise ValueError(f"arrays of a network: {sorted(set(names) ^ set(arrays))}")
        width = len(directions) * hidden_size
        self.n_inputs = layers[0][0].shape[2]
        self.n_outputs = len(self._bias)
        pooled = width * (2 if pooling == "meanmax" else 1)
        gates = len(directions), 4 * hidden_size
        expected = [((self.n_outputs, pooled), self._weight), ((self.n_outputs,), self._bias)]
        expected += [((pooled,), array) for array in self._norm_arrays[:4]]
        for number, (weight_ih, weight_hh, bias) in enumerate(layers):
            n_inputs = width if number else self.n_inputs
            expected.append(((*gates, n_inputs), weight_ih))
            expected += [((*gates, hidden_size), weight_hh), (gates, bias)]
        for shape, array in expected:
            if array.shape != shape or array.dtype != self.dtype or array.dtype.kind != "f":
                raise ValueError(
                    f"an array of a network is {array.dtype} {array.shape}; expected"
                    f" {self.dtype} {shape}"
                )
        *lower, top = layers
        self._lower = [LstmLayer(*weights) for weights in lower]
        head = (self._weight, self._bias)
        if self.norm != "none":  # the identity passes the pooled vector on to `_head`
            head = (np.eye(pooled, dtype=self.dtype), np.zeros(pooled, self.dtype))
        self._top = LstmLayer(*top, *head, pooling=pooling)

    def outputs(
        self, X: NDArray[Any], lengths: NDArray[np.int64] | None, n_threads: int | None = None
    ) -> NDArray[np.float64]:
        """Return the outputs (n, n_outputs) for windows (n, t, n_inputs), as float64."""
        threads = usable_threads() if n_threads is None else n_threads
        outputs = np.empty((len(X), self.n_outputs))
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, start + _BLOCK)
            x = np.ascontiguousarray(X[rows], self.dtype)
            valid = None if lengths is None else lengths[rows]
            for layer in self._lower:
                x = layer.hidden(x, valid, threads)
            outputs[rows] = self._head(self._top.logits(x, valid, threads))
        return outputs

    def _head(self, pooled: NDArray[Any]) -> NDArray[Any]:
        """Apply the norm and the linear layer; without a norm, `pooled` is already the output."""
        if self.norm == "none":
            return pooled
        weight, bias, *running = self._norm_arrays
        if self.norm == "layer":
            mean, variance = pooled.mean(axis=1, keepdims=True), pooled.var(axis=1, keepdims=True)
        else:
            mean, variance = running[:2]
        x = (pooled - mean) / np.sqrt(variance + self.dtype.type(_EPSILON)) * weight + bias
        # one by one, because the rounding of a matrix product depends on the number of windows
        return np.asarray(np.reshape([self._weight @ row for row in x], (len(x), -1)) + self._bias)


def array_prefix(member: int) -> str:
    """Return the prefix of the names of a member's arrays in a model file."""
    return f"module_{member}." if member else "module."


def check_array_names(
    arrays: Mapping[str, NDArray[Any]], n_models: int, path: str | os.PathLike[str]
) -> None:
    """Raise an error if a file has an array that no model with this many members has."""
    parts = ("scaler.", "member.", "ranges.")
    prefixes = (*parts, *(array_prefix(member) for member in range(n_models)))
    unknown = [name for name in arrays if not name.startswith(prefixes)]
    if unknown:
        raise ModelFileError(f"{path} has an unknown array {unknown[0]!r}.")
