"""Streams of several sensors give the decisions of complete recordings, in any sample order."""

from dataclasses import replace

import numpy as np
import pytest
from fits import fused_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import ArgumentError, InputError, WindowError
from sensorseq.prediction.loading import load
from sensorseq.recording import Channel

RATES_HZ = {"imu": 50.0, "motor": 6.5}
FIRST_S = {"imu": 0.08, "motor": 0.0}


def recorded(sensor, number, seconds=21.0, label=True):
    rng = np.random.default_rng([number, len(sensor)])
    rate = RATES_HZ[sensor]
    t = FIRST_S[sensor] + np.arange(int(seconds * rate)) / rate
    x = np.sin((1 + number % 3) * t)[:, None] + 0.1 * rng.normal(size=(len(t), 2))
    channels = (Channel(f"{sensor}_a"), Channel(f"{sensor}_b"))
    name = f"r{number}"
    return Recording(x, t, channels, name, name, f"class {number % 3}" if label else None)


def prepared():
    return PreparePipeline(window_s=2, native_rates=True, split=None).prepare(
        {name: [recorded(name, i) for i in range(12)] for name in RATES_HZ}
    )


@pytest.fixture(scope="module", params=["error", "expected", "outside"])
def model(request):
    windows = prepared()
    settings = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
    return fused_classifier(**settings, missing=request.param).fit(windows)


def streamed(model, parts, seed=0):
    """Push chunks of samples so that all sensors stay at about the same time."""
    rng, stream, found = np.random.default_rng(seed), model.stream(RATES_HZ), []
    at = dict.fromkeys(parts, 0)
    while any(at[name] < len(part.timestamps_s) for name, part in parts.items()):
        behind = {
            name: part.timestamps_s[at[name]]
            for name, part in parts.items()
            if at[name] < len(part.timestamps_s)
        }
        name = min(behind, key=lambda sensor: behind[sensor])
        rows = slice(at[name], at[name] + int(np.ceil(rng.uniform(0, 1) * RATES_HZ[name])))
        at[name] = rows.stop
        found += stream.push(name, parts[name].values[rows], parts[name].timestamps_s[rows])
    return [*found, *stream.flush()], stream


def test_decisions_equal_those_about_the_whole_recordings(model, tmp_path):
    parts = {name: recorded(name, 40, label=False) for name in RATES_HZ}
    whole = model.timeline(parts, smooth="none")
    decisions, stream = streamed(model, parts)
    assert len(decisions) == len(whole.probabilities) == 10
    starts_s = [decision.start_s for decision in decisions]
    np.testing.assert_allclose(starts_s, 2.0 * np.arange(10), atol=1e-6)
    np.testing.assert_allclose(
        [decision.probabilities for decision in decisions], whole.probabilities, atol=1e-9
    )
    assert (stream.n_dropped, stream.n_late) == (0, 0)
    model.save(tmp_path / "m.safetensors")
    again, _ = streamed(load(tmp_path / "m.safetensors"), parts)
    assert again == decisions


def test_a_silent_sensor_counts_as_missing_or_ends_the_decisions(model):
    parts = {name: recorded(name, 50, label=False) for name in RATES_HZ}
    whole, motor = parts["motor"], parts["motor"].timestamps_s < 9.0
    parts["motor"] = Recording(
        whole.values[motor], whole.timestamps_s[motor], whole.channels, "r50"
    )
    decisions, stream = streamed(model, parts)
    short = {**parts, "motor": recorded("motor", 50, seconds=1.5, label=False)}
    if model.model_.missing == "error":
        assert (len(decisions), stream.n_dropped) == (4, 6)
        with pytest.raises(WindowError, match="as long as window_s=2"):
            model.timeline(short)
        return
    assert len(model.timeline(short).probabilities) == 10
    assert len(decisions) == 10
    alone = model.sensors_["imu"].stream(50.0)
    imu = parts["imu"]
    expected = [*alone.push(imu.values, imu.timestamps_s), *alone.flush()][4:]
    assert [decision.label for decision in decisions[4:]] == [
        decision.label for decision in expected
    ]
    # the lost sensor is noticed while the other signal continues
    stream = model.stream(RATES_HZ)
    live = stream.push("motor", parts["motor"].values, parts["motor"].timestamps_s)
    live += stream.push("imu", imu.values, imu.timestamps_s)
    assert 7 <= len(live) < 10


def test_a_failed_sensor_is_left_out_as_in_whole_recordings(model):
    parts = {name: recorded(name, 60, label=False) for name in RATES_HZ}
    motor = parts["motor"]
    parts["motor"] = replace(
        motor, values=np.where(motor.timestamps_s[:, None] > 9, 7.0, motor.values)
    )
    decisions, _ = streamed(model, parts)
    whole = model.timeline(parts, smooth="none")
    np.testing.assert_allclose(
        [decision.probabilities for decision in decisions], whole.probabilities, atol=1e-9
    )
    if model.model_.missing == "outside":
        expected = model.timeline({"imu": parts["imu"]}, smooth="none").probabilities
        np.testing.assert_allclose(whole.probabilities[6:], expected[6:], atol=1e-9)
        both = {
            name: replace(recording, values=0 * recording.values)
            for name, recording in parts.items()
        }
        decisions, _ = streamed(model, both)
        assert {decision.answered for decision in decisions} == {False}
        np.testing.assert_allclose(decisions[0].probabilities, model.model_.class_shares)


def test_mistakes_are_reported(model):
    with pytest.raises(InputError, match="no sensor 'imu_0'"):
        model.stream({"imu_0": 50.0})
    with pytest.raises(ArgumentError, match="give the rate of each sensor"):
        model.stream(50.0)
    with pytest.raises(InputError, match="no sensor 'motr'"):
        model.stream(RATES_HZ).push("motr", np.zeros((1, 2)), [0.0])
    with pytest.raises(ArgumentError, match="is for a stream of several sensors"):
        model.sensors_["imu"].model_.stream(max_wait_s=2.0)
    with pytest.raises(InputError, match="were used for training"):
        model.fit_abstention(prepared())
    X = np.random.default_rng(0).normal(size=(24, 9, 1))
    on_arrays = fused_classifier(max_epochs=1).fit({"a": X, "b": X}, np.arange(24) % 2)
    with pytest.raises(InputError, match="trained on arrays"):
        on_arrays.stream()
