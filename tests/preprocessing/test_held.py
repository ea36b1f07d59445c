"""Values that are held until the next one: a result is the value that was logged last."""

import numpy as np
import pytest

from sensorseq.evaluation.inspect import inspect_recordings
from sensorseq.io.blocks import Rows
from sensorseq.io.prepared import read_windows
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.resample import StreamResampler, resample_recording
from sensorseq.readers import read_recordings
from sensorseq.recording import Recording
from sensorseq.stamps.live import LiveClock

N, RATE_HZ = 1000, 50
T = np.arange(N) / RATE_HZ
CURRENT = np.random.default_rng(0).normal(size=N)


def recording(values, at, t=T, name="run", label=None):
    """Return a recording of a slow channel, logged at samples `at`, and a fast one."""
    slow = np.full(N, np.nan)
    slow[at] = values
    return Recording(np.column_stack([slow, CURRENT]), t, ("slow", "fast"), name, label=label)


def last_value(values, logged_s, times_s):
    return np.asarray(values)[np.searchsorted(logged_s, times_s + 1e-6, side="right") - 1]


AT = np.array([0, 37, 38, 400, 401, 700, 999])  # far more than ten periods apart, and close
CASES = {
    "gears": ([1, 3, 2, 5, 1, 4, 2], AT),
    "regular": (np.arange(20) % 7 % 3, np.arange(0, N, 50)),
    "once": ([3], np.array([0])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rate_hz", [50, 100, 20, 33.3])
@pytest.mark.parametrize("is_even", [True, False])
def test_a_value_is_held_until_the_next_one(case, rate_hz, is_even):
    values, at = CASES[case]
    t = T if is_even else np.sort(np.random.default_rng(1).uniform(0, 20, N))
    (piece,) = resample_recording(recording(values, at, t), rate_hz)
    assert piece.timestamps_s[-1] > t[-1] - 1.01 / rate_hz
    np.testing.assert_array_equal(piece.values[:, 0], last_value(values, t[at], piece.timestamps_s))


def test_held_values_on_disk_are_those_in_memory(tmp_path):
    one = recording(*CASES["gears"])
    rows = Rows(tmp_path, np.float64, 2)
    rows.append(one.values)
    stored = Recording(rows.as_array(), T, one.channels, "run")
    for (a,), (b,) in [[resample_recording(r, 20) for r in (one, stored)]]:
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("decimals", [15, 1])
def test_a_slow_measurement_is_interpolated(decimals):
    at = np.arange(0, N, 50)
    temperature = np.round(20 + np.sin(T[at] / 3), decimals)
    (piece,) = resample_recording(recording(temperature, at), RATE_HZ)
    truth = 20 + np.sin(piece.timestamps_s / 3)
    np.testing.assert_allclose(piece.values[:, 0], truth, atol=0.002 + 0.6 * 10.0**-decimals)


def test_a_lost_row_of_a_held_value_keeps_the_value_before():
    gear = recording(*CASES["gears"])
    is_there = np.random.default_rng(2).random(N) > 0.05
    is_there[AT] = True
    rows = Recording(gear.values[is_there], T[is_there], gear.channels, "run")
    (piece,) = resample_recording(rows, RATE_HZ)
    np.testing.assert_array_equal(piece.values[:, 0], last_value(CASES["gears"][0], T[AT], T))


@pytest.mark.parametrize("rate_hz", [50, 100, 20])
@pytest.mark.parametrize("size", [1, 37])
def test_a_stream_holds_like_a_recording(rate_hz, size):
    one = recording(*CASES["gears"])
    one.values[500:503] = np.nan
    (piece,) = resample_recording(one, rate_hz)
    clock, filter_ = LiveClock(RATE_HZ, 2, held=[0]), StreamResampler(RATE_HZ, rate_hz, 2, held=[0])
    parts = []
    for i in range(0, N, size):
        parts += clock.push(one.values[i : i + size], T[i : i + size])
    streamed = [filter_.push(part.values) for part in [*parts, *clock.flush()]]
    result = np.concatenate([*streamed, filter_.flush()])
    np.testing.assert_array_equal(result[:, 0], piece.values[:, 0])


def write(folder, runs):
    for path, one in runs.items():
        file = folder / f"{path}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(one.timestamps_s, *one.values.T, strict=True)
        text = "".join(f"{t:.2f},{'' if np.isnan(s) else s},{f:.6f}\n" for t, s, f in rows)
        file.write_text("time,slow,fast\n" + text)


def test_memory_files_and_predictions_hold_the_same_channels(tmp_path):
    runs = {f"{c}/r{i}": recording(*CASES["gears"]) for c in "ab" for i in range(4)}
    write(tmp_path / "logs", runs)
    options = {"window_s": 1.0, "split": None}
    prepare(tmp_path / "logs", tmp_path / "w.h5", **options)
    pipeline = PreparePipeline(**options)
    windows = pipeline.prepare(read_recordings(tmp_path / "logs"))
    stored = read_windows(tmp_path / "w.h5")
    np.testing.assert_array_equal(stored.X, windows.X)
    assert stored.provenance["held"] == windows.provenance["held"] == ["slow"]
    assert set(np.unique(windows.X[:, :, 0])) == {1, 2, 3, 4, 5}
    result, _ = inspect_recordings(tmp_path / "logs")
    assert [odd["kind"] for odd in result["odd"] if "slow" in odd["values"]["channels"]] == []
    # These values would be interpolated, if they were the only ones.
    values, at = np.arange(7) * 10.5, AT
    plan = RecordingPlan.recorded(stored.provenance)
    X = plan.prepare([recording(values, at)]).X
    np.testing.assert_array_equal(X[:, :, 0].ravel(), last_value(values, T[at], T).astype("f4"))


def test_a_channel_is_held_in_all_recordings_or_in_none(tmp_path):
    at = np.arange(0, N, 50)
    values = {f"{c}/r{i}": at // 50 % (3 + i) for c in "ab" for i in range(4)}
    values |= {"a/r1": at / 10, "b/r1": np.full(20, 3.0)}
    runs = {name: recording(slow, at, name=name) for name, slow in values.items()}
    write(tmp_path / "logs", runs)
    options = {"window_s": 1.0, "split": None}
    prepare(tmp_path / "logs", tmp_path / "w.h5", **options)
    stored = read_windows(tmp_path / "w.h5")
    windows = PreparePipeline(**options).prepare(read_recordings(tmp_path / "logs"))
    assert stored.provenance["held"] == windows.provenance["held"] == []
    np.testing.assert_array_equal(stored.X, windows.X)
    of_first = stored.X[stored.recording_id == "a/r0", :, 0]
    assert np.mean(of_first != np.rint(of_first)) > 0.9


def test_few_levels_that_are_no_codes_are_named(tmp_path):
    at = np.arange(0, N, 50)
    names = [f"{c}/r{i}" for c in "ab" for i in range(4)]
    runs = {name: recording(0.5 * (np.arange(20) % 3), at, name=name) for name in names}
    write(tmp_path / "logs", runs)
    with pytest.warns(UserWarning, match="'slow': few levels.*fill it in"):
        prepare(tmp_path / "logs", tmp_path / "w.h5", window_s=1.0)
    with pytest.warns(UserWarning, match="'slow': few levels.*fill it in"):
        PreparePipeline(window_s=1.0, split=None).prepare(list(runs.values()))
