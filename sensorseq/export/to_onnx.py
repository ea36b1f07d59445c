"""Write a trained model as an ONNX graph, and compare the graph's outputs with the model's."""

import importlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_flag, check_integer
from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    InputError,
    check_choice,
    noting,
    warn_caller,
)
from sensorseq.export.features import feature_logits
from sensorseq.export.graph import Graph
from sensorseq.export.graph_preprocessing import (
    MOST_STEPS,
    GraphWindows,
    as_steps,
    input_channels,
    read_windows,
)
from sensorseq.export.network import network_outputs, refuse_for_sensors, used_modules
from sensorseq.io.atomic import write_whole
from sensorseq.io.model_file import model_digest
from sensorseq.prediction.gaps import COMPLETE, DOUBTFUL, DOUBTFUL_SHARE, EMPTY
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.sensors import SensorSum
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.sensor_windows import UNNAMED, are_sensors, as_sensor_windows
from sensorseq.windows import WindowSet

METADATA_VERSION = 1
INPUT_TYPES = ("float32", "float64")
TOLERANCE = 1e-5  # allows for programs that add float32 numbers in different orders
_BLOCK = 64  # number of windows at a time, because the features of a window take megabytes


def write_onnx(
    model: TrainedModel,
    path: str | os.PathLike[str],
    *,
    n_timesteps: int | None,
    lengths: bool | None,
    dtype: str,
    steps: bool,
    stored: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    """Write a model's graph to a file, which gets its final name only when it is complete.

    If `lengths` is None, the graph has an input for lengths only if the windows of the fit differed
    in length. `stored` returns the arrays and the description of the model file.
    """
    refuse_for_sensors(model, n_timesteps=n_timesteps)
    check_choice("dtype", dtype, INPUT_TYPES)
    steps = check_flag("steps", steps)
    if lengths is not None:
        lengths = check_flag("lengths", lengths)
    if n_timesteps is not None:
        n_timesteps = check_integer("n_timesteps", n_timesteps, most=MOST_STEPS)
    if model.missing == "outside":
        warn_caller(
            "the graph bridges gaps, but does not notice failed channels, as predict does with"
            " missing='outside'; give it NaN in place of a channel that has failed."
        )
    g = Graph()
    form: dict[str, Any] = {"n_timesteps": n_timesteps, "dtype": dtype, "steps": steps}
    outputs, has_class = _joined(g, model, form, lengths)
    logits = g("Div", outputs, np.float64(model.temperature))
    shares = g("Softmax", logits, axis=1)
    shares = g("Where", g("Unsqueeze", has_class, [1]), shares, np.float64(np.nan))
    shape: list[int | str] = ["n", len(model.classes)]
    g.add_output(g.cast(shares, np.float32), "probabilities", np.float32, shape)
    digest = None
    with suppress(InputError):  # an argument may be a function, which model files cannot contain
        digest = model_digest(*stored())
    metadata = _metadata(model, digest, n_timesteps, lengths, steps)
    graph_model = g.model("sensorseq", metadata, metadata["sensorseq_version"])
    write_whole(path, graph_model.SerializeToString())


def _has_lengths(of_sensor: Input, lengths: bool | None) -> bool:
    """Test whether the graph has an input for the lengths of a sensor's windows."""
    return of_sensor.had_lengths if lengths is None else lengths


def _joined(
    g: Graph, model: TrainedModel, form: dict[str, Any], lengths: bool | None
) -> tuple[str, str]:
    """Return the model's logits (n, K), and a mask (n,) of windows that can be classified."""
    logits, of_sensors, has_class = [], [], ""
    for name, of_sensor in model.inputs.items():
        with noting(f"in the model of sensor {name!r}") if name else nullcontext():
            has_lengths = _has_lengths(of_sensor, lengths)
            windows = read_windows(g, of_sensor, lengths=has_lengths, sensor=name, **form)
            logits.append(_outputs(g, model.of_sensor(name), windows))
        of_sensors.append(windows)
        has_class = g("And", has_class, windows.usable) if has_class else windows.usable
    if isinstance(model.sum, SensorSum):
        joined, best = _join(g, model.sum, logits, [_lacks(g, windows) for windows in of_sensors])
    else:
        (joined,), (windows,) = logits, of_sensors
        best = _lacks(g, windows) if windows.lost else ""
    return joined, g("And", has_class, g("Less", best, EMPTY)) if best else has_class


def _join(g: Graph, joint: SensorSum, logits: list[str], lacks: list[str]) -> tuple[str, str]:
    """Join the sensors' logits as `SensorSum.join` does; also return the lowest `lacks` (n,)."""
    table = joint.weight_table()
    of_all = g("Concat", *(g("Unsqueeze", each, [1]) for each in lacks), axis=1)  # (n, sensors)
    best = g("ReduceMin", of_all, axes=[1])
    present = g.cast(g("Equal", of_all, best), np.int64)
    numbers = g("MatMul", present, 2 ** np.arange(len(lacks), dtype=np.int64))
    weights = g("Unsqueeze", g("Gather", table, numbers), [2])
    stacked = g("Concat", *(g("Unsqueeze", each, [1]) for each in logits), axis=1)
    return g("ReduceSum", g("Mul", stacked, weights), [1], keepdims=0), g("Squeeze", best, [1])


def _lacks(g: Graph, windows: GraphWindows) -> str:
    """Compute how much of each window (n,) is missing, as `judge_windows` does."""
    if not windows.lost:
        return g("Expand", COMPLETE, g("Shape", windows.usable))
    share = g("ReduceMean", g.cast(windows.lost, np.float64), axes=[1, 2], keepdims=0)
    lacks = g("Where", g("Greater", share, np.float64(DOUBTFUL_SHARE)), DOUBTFUL, COMPLETE)
    return g("Where", g("Equal", share, np.float64(1)), EMPTY, lacks)


def _outputs(g: Graph, model: TrainedModel, windows: GraphWindows) -> str:
    """Add up the members' logits (n, K) in float64, as `Sum.logits` does."""
    joined: Any = model.sum.bias
    cache: dict[str, str] = {}
    for name, weight in model.sum.used.items():
        member = model.sum.members[name]
        logits = (
            _lstm_logits(g, model, windows)
            if name == LSTM
            else feature_logits(g, name, member, windows, cache)
        )
        joined = g("Add", joined, g("Mul", logits, np.float64(weight)))
    return str(joined)


def _lstm_logits(g: Graph, model: TrainedModel, windows: GraphWindows) -> str:
    """Return the logits (n, K) of the LSTM, as `LstmMember.logits` does."""
    steps = as_steps(g, windows, model.lstm.patch)
    modules = used_modules(model)
    outputs = [g.cast(network_outputs(g, module, steps), np.float64) for module in modules]
    if len(outputs) == 1:
        return outputs[0]
    logs = [g("Unsqueeze", g("LogSoftmax", output, axis=1), [0]) for output in outputs]
    of_all = g("ReduceLogSumExp", g("Concat", *logs, axis=0), axes=[0], keepdims=0)
    return g("Sub", of_all, np.float64(np.log(len(outputs))))


def _metadata(
    model: TrainedModel,
    digest: str | None,
    n_timesteps: int | None,
    lengths: bool | None,
    steps: bool,
) -> dict[str, str]:
    """Return the facts about the model that programs need, as strings or as JSON."""
    facts: dict[str, Any] = {
        "sensorseq_version": importlib.import_module("sensorseq").__version__,
        "metadata_version": METADATA_VERSION,
        "sha256": digest,
        "steps_in_graph": steps,
    }
    of_sensors = {
        name: _window_facts(of_sensor, n_timesteps, lengths, steps)
        for name, of_sensor in model.inputs.items()
    }
    facts |= {"sensors": of_sensors} if model.names_sensors else of_sensors[UNNAMED]
    facts["classes"] = model.classes.tolist()
    facts["temperature"] = model.temperature
    if model.abstention is not None:
        facts["abstain_threshold"] = model.abstention.threshold
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in facts.items()
        if value is not None
    }


def _window_facts(
    of_sensor: Input, n_timesteps: int | None, lengths: bool | None, steps: bool
) -> dict[str, Any]:
    """Return the known facts about the windows of one sensor."""
    preparation: Mapping[str, Any] = of_sensor.preparation or {}
    rate = preparation.get("sample_rate_hz")
    n_steps = n_timesteps or preparation.get("n_timesteps")
    facts: dict[str, Any] = {
        "lengths": _has_lengths(of_sensor, lengths),
        "channels": input_channels(preparation) if steps else of_sensor.channels,
        "sample_rate_hz": rate,
        "n_timesteps": n_steps,
        "window_s": n_steps / rate if rate and n_steps else None,
        "preparation": preparation.get("configuration"),
    }
    if preparation:
        units = PreparationOptions.recorded(preparation).units or {}
        facts["units"] = {name: units.get(name) for name in facts["channels"]}
    return {name: value for name, value in facts.items() if value is not None}


def onnx_difference(
    model: TrainedModel,
    path: str | os.PathLike[str],
    X: Any,
    lengths: ArrayLike | None = None,
) -> float:
    """Return the largest absolute difference between the outputs of onnxruntime and the model.

    `X` contains windows (n, t, c), and `lengths` (n,) contains the number of valid steps of each
    window. Alternatively, `X` is a WindowSet or SensorWindows, which have their own lengths.
    """
    if isinstance(X, WindowSet):
        X, lengths = X.X, X.lengths
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentProblemError(
            "running an ONNX model needs onnxruntime: pip install onnxruntime."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    inputs = {declared.name: declared for declared in session.get_inputs()}
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    windows: dict[str, NDArray[Any]] = {}
    valid: dict[str, NDArray[np.int64]] = {}
    of_sensors = as_sensor_windows(X) if are_sensors(X) else None
    if of_sensors is not None:
        for name, of_sensor in of_sensors.sensors.items():
            windows[f"X_{name}"] = np.asarray(of_sensor.X, dtype)
            valid[f"lengths_{name}"] = np.asarray(of_sensor.lengths)
    else:
        windows["X"] = np.asarray(X, dtype)
        full = np.full(len(windows["X"]), windows["X"].shape[1], np.int64)
        valid["lengths"] = full if lengths is None else np.asarray(lengths, np.int64)
    for x, (name, steps) in zip(windows.values(), valid.items(), strict=True):
        if name not in inputs and (steps < x.shape[1]).any():
            raise ArgumentError(
                f"the windows differ in length, but the graph has no input {name}; export the model"
                " with `lengths`."
            )
    largest, n = 0.0, len(next(iter(windows.values())))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        feed = {name: array[rows] for name, array in (windows | valid).items() if name in inputs}
        if of_sensors is not None:
            expected = model.predict_proba(of_sensors.take(rows))
        else:
            expected = model.predict_proba(feed["X"], valid["lengths"][rows])
        for name, declared in inputs.items():  # inputs of a sensor that is missing in all windows
            if name not in feed:
                feed[name] = np.ones(len(expected), np.int64)
                if name.startswith("X_"):
                    feed[name] = np.full((len(expected), 1, declared.shape[2]), np.nan, dtype)
        actual = session.run(None, feed)[0]
        largest = float(np.maximum(largest, np.abs(actual - expected).max()))  # also NaN
    return largest
