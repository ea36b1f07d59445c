"""Compare an exported model in onnxruntime with the original."""

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.prediction.loading import AnyModel
from sensorseq.sensor_windows import SensorWindows

TOLERANCE = 1e-5  # between programs that add float32 numbers in different order
_BLOCK = 64  # windows at a time, because features take megabytes for each


def onnx_difference(
    model: AnyModel,
    path: str | os.PathLike[str],
    X: ArrayLike | SensorWindows,
    lengths: ArrayLike | None = None,
) -> float:
    """Return the largest absolute difference between the outputs of onnxruntime and the model.

    `X` (n, t, c) are windows, and `lengths` (n,) their valid steps; or `X` has several sensors,
    with lengths of their own.
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
    windows: dict[str, NDArray[Any]] = {}
    valid: dict[str, NDArray[np.int64]] = {}
    if isinstance(X, SensorWindows):
        for name, one in X.sensors.items():
            windows[f"X_{name}"] = np.asarray(one.X, dtype)
            valid[f"lengths_{name}"] = np.asarray(one.lengths)
    else:
        windows["X"] = np.asarray(X, dtype)
        full = np.full(len(windows["X"]), windows["X"].shape[1], np.int64)
        valid["lengths"] = full if lengths is None else np.asarray(lengths, np.int64)
    for x, (name, steps) in zip(windows.values(), valid.items(), strict=True):
        if name not in inputs and (steps < x.shape[1]).any():
            raise ArgumentError(
                f"the windows differ in length, and the graph has no input {name}; export it with"
                " `lengths`."
            )
    largest, n = 0.0, len(next(iter(windows.values())))
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        given = {name: each[rows] for name, each in (windows | valid).items() if name in inputs}
        if isinstance(X, SensorWindows):
            expected = model.predict_proba(X.take(rows))
        else:
            expected = model.predict_proba(given["X"], valid["lengths"][rows])
        for name, each in inputs.items():  # of a sensor that all windows lack
            if name not in given:
                given[name] = np.ones(len(expected), np.int64)
                if name.startswith("X_"):
                    given[name] = np.full((len(expected), 1, each.shape[2]), np.nan, dtype)
        found = session.run(None, given)[0]
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest
