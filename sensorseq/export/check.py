"""Compare an exported model in onnxruntime with the original."""

import os

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.export.model import FittedModel, is_classifier

TOLERANCE = 1e-5  # between programs that add float32 numbers in different order
_BLOCK = 64  # windows at a time, because features take megabytes for each


def onnx_difference(
    estimator: FittedModel,
    path: str | os.PathLike[str],
    X: ArrayLike,
    lengths: ArrayLike | None = None,
) -> float:
    """Return the largest absolute difference between the outputs of onnxruntime and the estimator.

    `X` (n, t, c) are windows, and `lengths` (n,) their valid steps.
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
    dtype = np.float64 if "double" in inputs["X"].type else np.float32
    windows = np.asarray(X, dtype)
    valid = None if lengths is None else np.asarray(lengths, np.int64)
    if "lengths" not in inputs and valid is not None and (valid < windows.shape[1]).any():
        raise ArgumentError(
            "the windows differ in length, and the graph has no input for lengths; export it with"
            " `lengths`."
        )
    largest = 0.0
    predict = estimator.predict_proba if is_classifier(estimator) else estimator.predict
    for start in range(0, len(windows), _BLOCK):
        rows = slice(start, start + _BLOCK)
        given = {"X": windows[rows]}
        own = None if valid is None else valid[rows]
        if "lengths" in inputs:
            full = np.full(len(windows[rows]), windows.shape[1], np.int64)
            given["lengths"] = full if own is None else own
        (found,) = session.run(None, given)
        expected = predict(windows[rows], own).reshape(found.shape)
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest
