"""Windows take few steps, in few files, from `fit` to the native call and through prediction."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sensorseq
from sensorseq import SensorLSTMClassifier

ROOT = str(Path(sensorseq.__file__).parent)
N_WINDOWS, N_TIMESTEPS, N_CHANNELS, BATCH = 100, 30, 3, 16
LAST = "EpochTrainer.run"  # makes the native call


def holds_windows(value, depth=2):
    """Whether a value is an array of more windows than a batch, or an object that holds one."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.shape[1:] == (N_TIMESTEPS, N_CHANNELS) and len(value) > BATCH
    if isinstance(value, list | tuple) and len(value) < 20:
        return any(holds_windows(part, depth) for part in value)
    is_ours = type(value).__module__.startswith("sensorseq")
    if depth and is_ours and not isinstance(value, type):
        return any(
            holds_windows(part, depth - 1) for part in getattr(value, "__dict__", {}).values()
        )
    return False


def trace(call, last=None):
    """Return the stops of the windows in a call, as (file, function) in order of first arrival.

    A stop is a function of the package that hands windows on: it returns them, as an array or in an
    object, it stores them in an object that it makes, or it is on the way down to `last`, where
    the walk ends.
    """
    stops = {}

    def name(frame):
        code = frame.f_code
        return code.co_filename.removeprefix(ROOT), code.co_qualname

    def is_ours(frame):
        return frame.f_code.co_filename.startswith(ROOT) and "<" not in frame.f_code.co_name

    def callers(frame):
        while frame is not None:
            if is_ours(frame):
                yield frame
            frame = frame.f_back

    def note(frame, event, returned):
        if last in stops or not is_ours(frame):
            return
        if event == "call" and frame.f_code.co_qualname == last:
            stops.update(dict.fromkeys(map(name, list(callers(frame))[::-1])))
            stops[last] = None
        if event != "return":
            return
        made = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else returned
        if holds_windows(made):
            stops[name(frame)] = None

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    stops.pop(last, None)
    return list(stops)


@pytest.fixture(scope="module")
def traced():
    """A classifier with the default features, its windows, and their stops in the fit."""
    y = np.arange(N_WINDOWS) % 2
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_WINDOWS, N_TIMESTEPS, N_CHANNELS)) + y[:, None, None]
    classifier = SensorLSTMClassifier(
        hidden_size=4, max_epochs=1, batch_size=BATCH, device="cpu", random_state=0
    )
    stops = trace(lambda: classifier.fit(X, y), LAST)
    return classifier, X, stops


def test_windows_take_at_most_30_stops_in_12_files_to_the_native_call(traced):
    """With the default features, and the checks of the data."""
    _, _, stops = traced
    assert any(function == LAST for _, function in stops)
    assert len(stops) <= 30, stops
    assert len({file for file, _ in stops}) <= 12, stops


def test_windows_to_predict_take_at_most_12_stops_in_6_files(traced):
    classifier, X, _ = traced
    stops = trace(lambda: classifier.predict_proba(X))
    assert len(stops) <= 12, stops
    assert len({file for file, _ in stops}) <= 6, stops
