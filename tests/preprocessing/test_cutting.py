"""A plan that is restored from a record cuts recordings as the pipeline did."""

import json

import numpy as np
import pytest

from sensorseq.errors import ArgumentError, InputError, WindowError
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.cutting import CutOptions, RecordingPlan, recorded_hop_s
from sensorseq.recording import Channel, Recording


def drives():
    rng = np.random.default_rng(0)
    for i in range(6):
        stamps = np.cumsum(rng.uniform(0.8, 1.2, 400)) / 50
        channels = (Channel("a", "A"), Channel("b"))
        yield Recording(rng.normal(size=(400, 2)), stamps, channels, f"r{i}", label="xy"[i % 2])


STEPS = [
    {"kind": "band_pass", "high_hz": 5.0, "phase": "causal"},
    {"kind": "spectral", "frame_s": 0.5, "channels": ["a"]},
]


@pytest.mark.parametrize("steps", [[], STEPS[:1], STEPS])
def test_the_windows_are_those_of_the_pipeline(steps):
    pipeline = PreparePipeline(window_s=2.0, hop_s=1.0, sample_rate_hz=40.0, steps=steps)
    windows = pipeline.prepare(drives())
    record = json.loads(json.dumps(windows.provenance | {"channels": windows.channels}))
    plan = RecordingPlan.recorded(record)
    again = plan.prepare(drives())
    np.testing.assert_array_equal(again.X, windows.X)
    assert again.channels == windows.channels
    assert again.provenance["recordings"] == windows.provenance["recordings"]
    assert recorded_hop_s(again.provenance) == 1.0
    assert RecordingPlan.recorded(again.provenance) == plan
    assert RecordingPlan.recorded(record, 0.5).options.hop_s == 0.5


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("window", "window_s", None),
        ("window", "window_s", [2.0]),
        ("window", "hop_s", "often"),
        ("window", "short", "stretch"),
        ("resample", "engine", ["polyphase"]),
        ("resample", "attenuation_db", 1e9),
        ("input", "units", "A"),
    ],
)
def test_a_record_with_an_odd_value_is_refused(section, key, value):
    record = RecordingPlan(CutOptions(2.0, sample_rate_hz=50.0, channels=["a"]), ()).configuration
    made = {"configuration": record, "sample_rate_hz": 50.0, "channels": ["a"]}
    assert RecordingPlan.recorded(made).options.window_s == 2.0
    record[section][key] = value
    with pytest.raises((ArgumentError, InputError)):
        RecordingPlan.recorded(made)


@pytest.mark.parametrize("configuration", [None, {}, {"window": {}}, {"window": 2, "resample": 3}])
def test_without_a_record_there_is_no_plan(configuration):
    made = {"configuration": configuration, "sample_rate_hz": 50.0, "channels": ["a"]}
    with pytest.raises(WindowError, match="no record of how they were made"):
        RecordingPlan.recorded(made)
    assert recorded_hop_s({"configuration": {}}) is None
