"""Compiles an exported model and calls it through ctypes."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fits import on_features

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SIZE = """
#include <stddef.h>
#include "sensorseq_model.h"
size_t size_of_state(void);
size_t size_of_state(void) { return sizeof(sensorseq_state); }
"""


def need(compiler):
    """Return the path of a program, or skip the test."""
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"needs {compiler}")
    return path


def build(sources, compiler="gcc", options=("-O0",)):
    """Compile sources to a library, which must cause no warning, and load the library."""
    library = Path(sources[0]).parent / "model.so"
    command = [need(compiler), *STRICT, *options, "-shared", "-fPIC", "-o", str(library)]
    command += [*map(str, sources), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(library))


class CModel:
    """The functions of an exported model, compiled by gcc."""

    def __init__(self, export, n_channels, n_classes, compiler="gcc", options=("-O0",)):
        folder = Path(export.source).parent
        (folder / "size.c").write_text(SIZE)
        self._c = build([export.source, folder / "size.c"], compiler, options)
        self._c.size_of_state.restype = ctypes.c_size_t
        self.size = self._c.size_of_state()
        self._state = (ctypes.c_double * (self.size // 8 + 1))()
        self.n_channels, self.n_classes = n_channels, n_classes
        self.reset()

    def reset(self):
        self._c.sensorseq_reset(self._state)

    def push(self, sample):
        """Push a sample; return the probabilities if a window is complete, else the return code."""
        sample = np.ascontiguousarray(sample, np.float32)
        out = np.zeros(self.n_classes, np.float32)
        code = self._c.sensorseq_push(self._state, _pointer(sample), _pointer(out))
        return out if code > 0 else code

    def smooth(self, probabilities, lag):
        """Return the smoothed probabilities of all windows, including the last `lag` windows."""
        smoother = (ctypes.c_double * (4 * (lag + 2) * self.n_classes))()
        self._c.sensorseq_smooth_reset(smoother)
        rows = []
        out = np.zeros(self.n_classes, np.float32)
        for row in probabilities:
            probability_row = np.ascontiguousarray(row, np.float32)
            if self._c.sensorseq_smooth(smoother, _pointer(probability_row), _pointer(out)):
                rows.append(out.copy())
        for _ in range(lag):
            if self._c.sensorseq_smooth_more(smoother, _pointer(out)):
                rows.append(out.copy())
        return np.array(rows)

    def stream(self, samples):
        """Return the probabilities of all windows of a signal."""
        made = [p for p in map(self.push, samples) if isinstance(p, np.ndarray)]
        return np.array(made).reshape(-1, self.n_classes)

    def predict(self, window):
        window = np.ascontiguousarray(window, np.float32)
        out = np.zeros(self.n_classes, np.float32)
        n_steps = ctypes.c_int(len(window))
        code = self._c.sensorseq_predict(self._state, _pointer(window), n_steps, _pointer(out))
        return out if code == 0 else code

    def class_names(self):
        kind = ctypes.c_char_p * self.n_classes
        return [name.decode() for name in kind.in_dll(self._c, "sensorseq_class_names")]


class CSensors:
    """The functions of an exported model of several sensors, compiled by gcc."""

    def __init__(self, export, n_classes):
        self.n_classes = n_classes
        self._parts = {name: part.header.stem[:-6] for name, part in export.sensors.items()}
        self._c = build([export.source, *(part.source for part in export.sensors.values())])
        self._name = export.header.stem[:-6]
        self._bytes = export.ram_bytes

    def stream(self, sensor, samples):
        """Reset a sensor, and return the probabilities of all its windows."""
        state = (ctypes.c_double * (self._bytes // 8 + 1))()
        reset, push = (self._c[f"{self._parts[sensor]}_{what}"] for what in ("reset", "push"))
        reset(state)
        decided, out = [], np.zeros(self.n_classes, np.float32)
        for sample in np.ascontiguousarray(samples, np.float32):
            if push(state, _pointer(sample), _pointer(out)) > 0:
                decided.append(out.copy())
        return decided

    def join(self, rows):
        """Join the sensors' probabilities (None for a missing sensor); return -1 on failure."""
        out = np.zeros(self.n_classes, np.float32)
        pointers = [None if row is None else _pointer(row) for row in rows]
        code = self._c[f"{self._name}_join"](*pointers, _pointer(out))
        return out if code == 0 else code


def _pointer(array):
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def near_a_threshold(clf, X, lengths):
    """Return the windows with a statistic that is within 1e-6 of a threshold."""
    scaled = X if clf.scaler_ is None else clf.scaler_.transform_to_float32(X)
    near = np.zeros(len(X), bool)
    for name, member in on_features(clf).items():
        if name == "summary":
            steps = member.describe
            values = steps.summary.transform(scaled, lengths)[:, steps.columns, None]
            threshold = steps.edges()
        elif name in ("boosting", "motors"):
            is_motors = name == "motors"
            read = member.windows.features if is_motors else member.summary.transform
            feature, threshold = (member.trees.arrays[key] for key in ("feature", "threshold"))
            values = read(scaled, lengths)[:, feature[feature >= 0]]
            threshold = threshold[feature >= 0]
        else:
            continue
        is_near = np.abs(values - threshold) <= 1e-6 * np.maximum(np.abs(threshold), 1e-3)
        near |= is_near.reshape(len(X), -1).any(axis=1)
    return near
