"""From `fit` to the native call, and in prediction, windows pass through only a few functions."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import sensorseq
from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.io.prepared import write_windows

ROOT = str(Path(sensorseq.__file__).parent)
N_WINDOWS, N_TIMESTEPS, N_CHANNELS, BATCH = 100, 30, 3, 16
LAST = "EpochTrainer.run"  # makes the native call
MOST_STOPS, MOST_FILES = 51, 22  # the current numbers; a change that raises them needs a reason


def holds_windows(value, depth=2):
    """Return whether a value is, or contains, an array with more windows than a batch."""
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

    A stop is a function of the package that passes windows on. It returns the windows (as an array
    or in an object), stores them in an object that it makes, or is on the call stack of `last`,
    where the path ends.
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


Y = np.arange(N_WINDOWS) % 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N_WINDOWS, N_TIMESTEPS, N_CHANNELS)) + Y[:, None, None]
GROUPS = np.arange(N_WINDOWS) // 5
LENGTHS = RNG.integers(N_TIMESTEPS // 2, N_TIMESTEPS + 1, N_WINDOWS)
SPLIT = np.repeat(["train", "validation", "test"], [60, 20, 20])
WINDOWS = WindowSet(
    X.astype(np.float32),
    y=Y,
    recording_id=GROUPS,
    start_s=3.0 * np.arange(N_WINDOWS),
    sample_rate_hz=10.0,
    channels=("a", "b", "c"),
)
APART = {"X_val": X[60:], "y_val": Y[60:]}
ALONE = {"features": None, "refit": None}


def made(**arguments):
    settings = {"hidden_size": 4, "max_epochs": 1, "batch_size": BATCH, "device": "cpu"}
    return SensorLSTMClassifier(**{**settings, "random_state": 0, **arguments})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A prepared file with a split."""
    path = tmp_path_factory.mktemp("windows") / "w.h5"
    write_windows(path, WINDOWS.with_split(SPLIT))
    return path


ROADS = {
    "array": (made(), X, Y, {}),
    "without features": (made(**ALONE, patch=None), X, Y, {"groups": GROUPS}),
    "lengths": (made(max_timesteps=20, missing="expected"), X, Y, {"lengths": LENGTHS}),
    "list": (made(), list(X), Y, {}),
    "set": (made(augment="standard"), WINDOWS, None, {}),
    "split": (made(calibrate=True), WINDOWS.with_split(SPLIT), None, {}),
    "given apart": (made(), X[:60], Y[:60], APART),
    "ensemble": (made(n_models=2, refit="all"), X, Y, {}),
    "warm start": (made(**ALONE, warm_start=True).fit(X, Y), X, Y, {}),
    "file": (made(), None, None, {}),
    "streamed file": (made(features=None), None, None, {}),
}


@pytest.mark.filterwarnings("ignore")
def test_windows_of_all_inputs_together_take_few_stops_to_the_native_call(path, monkeypatch):
    """Stops are counted over all kinds of input together, because the kinds share most stops."""
    every = {}
    for road, (classifier, given, y, keywords) in ROADS.items():
        if road == "streamed file":
            monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", "40000")
        windows = path if given is None else given
        stops = trace(partial(classifier.fit, windows, y, **keywords), LAST)
        assert any(function == LAST for _, function in stops), road
        every |= dict.fromkeys(stops)
    assert len(every) <= MOST_STOPS, every
    assert len({file for file, _ in every}) <= MOST_FILES, every


@pytest.mark.parametrize("arguments", [{}, ALONE])
def test_windows_to_predict_take_at_most_12_stops_in_6_files(arguments):
    classifier = made(**arguments).fit(X, Y)
    stops = trace(lambda: classifier.predict_proba(X))
    assert len(stops) <= 12, stops
    assert len({file for file, _ in stops}) <= 6, stops
