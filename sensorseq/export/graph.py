"""Build a graph of ONNX operators node by node."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8  # supported by onnxruntime 1.15 (2023) and later


def import_onnx() -> Any:
    """Import onnx, or raise an error with the name of the extra to install."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise EnvironmentProblemError(
            "ONNX models need the library onnx: pip install 'sensorseq[onnx]'."
        ) from error
    return onnx


class Graph:
    """The nodes and constants of a graph; a call adds a node and returns its output's name."""

    def __init__(self) -> None:
        self.onnx = import_onnx()
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._initializers: list[Any] = []
        self._n_names = 0

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node with one output; an input that is not a name becomes a constant."""
        (output,) = self.several(1, kind, *inputs, **attributes)
        return output

    def several(
        self, n_outputs: int, kind: str, *inputs: Any, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs; return their names."""
        names = [part if isinstance(part, str) else self.constant(part) for part in inputs]
        outputs = [self._name(kind.lower()) for _ in range(n_outputs)]
        make = self.onnx.helper.make_node
        self.nodes.append(make(kind, names, outputs, outputs[0], domain=domain, **attributes))
        return outputs

    def constant(self, values: Any) -> str:
        """Add a constant and return its name; Python numbers and lists become int64."""
        array = np.asarray(values)
        if not isinstance(values, np.ndarray | np.generic):
            array = array.astype(np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = self._name("constant")
            self._initializers.append(self.onnx.numpy_helper.from_array(np.copy(array), name))
        return self._constants[key]

    def add_input(self, name: str, dtype: Any, shape: list[int | str]) -> str:
        """Declare an input; a string in its shape names an axis of any length."""
        self.inputs.append(self._value(name, dtype, shape))
        return name

    def add_output(self, value: str, name: str, dtype: Any, shape: list[int | str]) -> None:
        """Declare a value as an output with this name."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name], name))
        self.outputs.append(self._value(name, dtype, shape))

    def cast(self, value: str, dtype: Any) -> str:
        """Convert a value to a numpy dtype."""
        return self("Cast", value, to=self._type(dtype))

    def model(self, name: str, metadata: Mapping[str, str], version: str) -> Any:
        """Return the finished model after onnx has checked it."""
        helper = self.onnx.helper
        graph = helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, initializer=self._initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="sensorseq",
            producer_version=version,
        )
        helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def _name(self, kind: str) -> str:
        self._n_names += 1
        return f"{kind}_{self._n_names}"

    def _type(self, dtype: Any) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _value(self, name: str, dtype: Any, shape: list[int | str]) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), shape)


def float32(values: Any) -> NDArray[np.float32]:
    """Return a tensor or numbers as a float32 array for a constant."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float32)
