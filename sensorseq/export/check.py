"""Compare an exported model in onnxruntime with the original."""

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.export.model import FittedModel, is_classifier
from sensorseq.sensor_windows import SensorWindows

TOLERANCE = 1e-5  # between programs that add float32 numbers in different order
_BLOCK = 64  # windows at a time, because features take megabytes for each


def onnx_difference(
    estimator: FittedModel,
    path: str | os.PathLike[str],
    X: ArrayLike | SensorWindows,
    lengths: ArrayLike | None = None,
) -> float:
    """Return the largest absolute difference between the outputs of onnxruntime and the estimator.

    `X` (n, t, c) are windows, and `lengths` (n,) their valid steps; or `X` has several sensors.
    """
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
    inputs = {each.name: each for each in session.get_inputs()}
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    valid = None if lengths is None else np.asarray(lengths, np.int64)
    if isinstance(X, SensorWindows):
        windows = {f"X_{name}": np.asarray(one.X, dtype) for name, one in X.sensors.items()}
        is_short = any(
            (np.asarray(one.lengths) < one.n_timesteps).any() for one in X.sensors.values()
        )
    else:
        windows = {"X": np.asarray(X, dtype)}
        is_short = valid is not None and bool((valid < windows["X"].shape[1]).any())
    if "lengths" not in inputs and is_short:
        way = "no graph of several sensors has; check it on windows of one length"
        if "X" in windows:
            way = "export it with `lengths`"
        raise ArgumentError(
            f"the windows differ in length, and the graph has no input for lengths; {way}."
        )
    largest, n = 0.0, len(next(iter(windows.values())))
    predict = estimator.predict_proba if is_classifier(estimator) else estimator.predict
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        given = {name: values[rows] for name, values in windows.items()}
        own = None if valid is None else valid[rows]
        of_sensors: Any = {name.removeprefix("X_"): values for name, values in given.items()}
        expected = predict(given.get("X", of_sensors), own)
        for name, each in inputs.items():
            if name == "lengths":
                full = np.full(len(expected), windows["X"].shape[1], np.int64)
                given[name] = full if own is None else own
            elif name not in given:  # a sensor that all windows lack
                given[name] = np.full((len(expected), 1, each.shape[2]), np.nan, dtype)
        found = session.run(None, given)[0]
        largest = max(largest, float(np.abs(found - expected.reshape(found.shape)).max()))
    return largest
