"""A plan restored from provenance cuts recordings like the pipeline."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sensorseq.errors import ArgumentError, InputError, RecordingError, WindowError
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.cutting import CutOptions, RecordingPlan
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.recording import Channel, Recording


def drives():
    rng = np.random.default_rng(0)
    for i in range(6):
        stamps = np.cumsum(rng.uniform(0.8, 1.2, 400)) / 50
        channels = (Channel("a", "A"), Channel("b"))
        yield Recording(rng.normal(size=(400, 2)), stamps, channels, f"r{i}", label="xy"[i % 2])


STEPS = [
    {"kind": "band_pass", "high_hz": 5.0, "phase": "causal"},
    {"kind": "difference", "channels": ["a"]},
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
    for facts, of_pipeline in zip(
        *(w.provenance["recordings"] for w in (again, windows)), strict=True
    ):
        assert facts.items() <= of_pipeline.items()
    assert Provenance.of(again.provenance).hop_s == 1.0
    assert RecordingPlan.recorded(again.provenance) == plan
    assert RecordingPlan.recorded(record, 0.5).options.hop_s == 0.5


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("window", "window_s", None),
        ("window", "window_s", [2.0]),
        ("window", "hop_s", "often"),
        ("window", "short", "stretch"),
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
    assert Provenance.of({"configuration": {}}).hop_s is None


def two_sensors_in_one_table(n_each=1000, rate_hz=100.0, late_s=0.003):
    """Return an outer join of two sensors: each row has a value of only one of them."""
    t = np.sort(np.r_[np.arange(n_each), np.arange(n_each) + late_s * rate_hz]) / rate_hz
    x = np.full((2 * n_each, 2), np.nan)
    x[::2, 0], x[1::2, 1] = np.random.default_rng(0).normal(size=(2, n_each))
    return Recording(x, t, (Channel("acc"), Channel("gyro")), "joined", "joined", "ice")


def test_a_table_of_two_sensors_is_refused_because_neither_has_its_rate():
    plan = RecordingPlan(CutOptions(window_s=2.0), ())
    message = r"'joined': its rows come at 200 Hz.* more than 100 Hz.*Use sample_rate_hz=100\."
    with pytest.raises(RecordingError, match=message):
        plan.prepare([two_sensors_in_one_table()])
    given = RecordingPlan(CutOptions(window_s=2.0, sample_rate_hz=100.0), ())
    assert given.prepare([two_sensors_in_one_table()]).X.shape == (4, 200, 2)


@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_missing_values_and_a_slow_channel_are_not_taken_for_another_sensor(kept):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 3))
    x[rng.random(x.shape) > kept] = np.nan
    x[np.arange(2000) % 10 > 0, 2] = np.nan
    x[[0, -1]] = 0.0
    recording = Recording(x, np.arange(2000) / 100, ("a", "b", "slow"), "one", "one", "ice")
    made = RecordingPlan(CutOptions(window_s=2.0), ()).prepare([recording])
    assert made.sample_rate_hz == 100.0
    assert len(made.y) == 10


@pytest.mark.parametrize("jump_s", [41.3, 3600.0, 1.7e9])
def test_a_pause_that_leaves_all_samples_in_windows_is_not_to_be_bridged(jump_s):
    """Bridging a pause of an hour would invent 3600 s of samples for 120 s of measurements."""
    t = np.arange(2400) / 20
    t[1200:] += jump_s
    recording = Recording(np.ones((2400, 1)), t, ("a",), "one", "one", "ice")
    made = RecordingPlan(CutOptions(window_s=10.0), ()).prepare([recording])
    assert len(made.y) == 12
    assert "bridging_gap_s" not in made.provenance["recordings"][0]


def test_each_recording_is_cut_as_if_it_were_alone():
    """A recording in a different unit changes nothing; its windows are reported by the model."""
    plan = RecordingPlan(CutOptions(window_s=2.0, sample_rate_hz=50.0), ())
    recordings = [*drives()]
    recordings[3] = replace(recordings[3], values=1000 * recordings[3].values)
    alone = [plan.prepare([recording]).X for recording in recordings]
    np.testing.assert_array_equal(plan.prepare(recordings).X, np.concatenate(alone))
