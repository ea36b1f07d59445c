"""Samples that share a timestamp or arrive in bursts are all kept, at the rate of the sensor."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import write_table

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.prepare import prepare
from sensorseq.readers import read_recordings
from sensorseq.recording import repair_stamps
from sensorseq.stamps.live import LiveClock


def wave(n, rate_hz):
    """Return a smooth signal whose values encode the times of the samples."""
    t = np.arange(n) / rate_hz
    return np.column_stack([np.sin(2 * np.pi * 0.02 * rate_hz * t), np.cos(3.1 * t)])


def arrivals(n_packets, size, rate_hz, jitter, seed, lost=()):
    """Return the kept packets and their arrival times, up to `jitter` packet durations late."""
    rng = np.random.default_rng(seed)
    kept = np.setdiff1d(np.arange(n_packets), lost)
    late_s = jitter * size / rate_hz * rng.uniform(0, 1, n_packets)
    return kept, (((np.arange(n_packets) + 1) * size - 1) / rate_hz + late_s)[kept]


@given(
    size=st.integers(2, 40),
    rate_hz=st.sampled_from([12.5, 50.0, 104.0, 333.0, 1600.0]),
    jitter=st.floats(0, 0.6),
    in_bursts=st.booleans(),
    n_lost=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_packets_of_one_size_have_the_rate_of_their_sensor(
    size, rate_hz, jitter, in_bursts, n_lost, seed
):
    rng = np.random.default_rng(seed)
    lost = rng.choice(np.arange(20, 150, 20), n_lost, replace=False)
    n_packets = 200
    kept, arrival_s = arrivals(n_packets, size, rate_hz, min(jitter, 0.5), seed, lost)
    true_s = (np.arange(n_packets * size) / rate_hz).reshape(n_packets, size)[kept].ravel()
    values = wave(n_packets * size, rate_hz).reshape(n_packets, size, 2)[kept].reshape(-1, 2)
    stamps = np.repeat(arrival_s, size)
    if in_bursts:
        stamps = stamps - np.tile(np.arange(size)[::-1], len(kept)) * 0.02 / rate_hz
    repaired = repair_stamps(stamps, values)
    if in_bursts and not repaired.packets:
        # a delayed packet soon follows another packet, so the times between packets are irregular
        assert jitter > 0.1
        return
    np.testing.assert_array_equal(repaired.values, values)
    assert repaired.packets == f"packets of {size} samples"
    t = repaired.timestamps_s
    steps = np.diff(t)
    assert (steps > 0).all()
    assert np.median(steps) * rate_hz == pytest.approx(1, rel=0.01)
    off_s = t - true_s
    off_s -= off_s.mean()
    # The delay of a packet makes a timestamp wrong by at most `jitter` packet durations, and one
    # misjudged loss shifts timestamps by at most half a packet duration about their mean.
    assert np.abs(off_s).max() < (0.5 + jitter) * size / rate_hz
    assert np.ptp(t) == pytest.approx(np.ptp(true_s), rel=0.01)


def test_seven_samples_in_eight_milliseconds_then_a_second_are_seven_hertz(tmp_path):
    at = np.arange(700)
    rng = np.random.default_rng(0)
    stamps = at // 7 + at % 7 * 0.0013 + rng.uniform(0, 0.0004, 700)
    write_table(tmp_path / "run.csv", {"time": stamps, "a": wave(700, 7)[:, 0]})
    (recording,) = read_recordings(tmp_path)
    assert recording.attributes["packets"] == "packets of 7 samples"
    assert recording.n_samples == 700
    assert recording.median_sample_rate_hz == pytest.approx(7, rel=0.01)
    (kept,) = read_recordings(tmp_path, stamps="keep")
    np.testing.assert_allclose(kept.timestamps_s, stamps)
    assert "packets" not in kept.attributes


def table(tmp_path, columns):
    return write_table(tmp_path / "run.csv", columns)


def bursts(n=500, size=5, step_s=0.0005, period_s=0.1):
    at = np.arange(n)
    return at // size * period_s + at % size * step_s


def test_a_sensor_that_pauses_keeps_its_time_stamps(tmp_path):
    """The signal continues after the time between bursts, not one sample period later."""
    stamps = bursts()
    table(tmp_path, {"time": stamps, "a": np.sin(2 * np.pi * 1.3 * stamps)})
    (recording,) = read_recordings(tmp_path)
    np.testing.assert_allclose(recording.timestamps_s, stamps)


def test_bursts_of_noise_are_refused_with_both_ways_out(tmp_path):
    noise = np.random.default_rng(0).normal(size=500)
    table(tmp_path, {"time": bursts(), "a": noise})
    asked = r"run\.csv, time column 'time': .*bursts \(packets of 5 .*'packets'.*'keep'"
    with pytest.raises(RecordingError, match=asked):
        read_recordings(tmp_path)
    (spread,) = read_recordings(tmp_path, stamps="packets")
    np.testing.assert_array_equal(spread.values[:, 0], noise)
    assert spread.median_sample_rate_hz == pytest.approx(50, rel=0.01)


def test_a_counter_that_begins_again_proves_packets_and_other_numbers_do_not(tmp_path):
    noise, at = np.random.default_rng(0).normal(size=500), np.arange(500)
    table(tmp_path, {"time": bursts(), "n": (at + 17) % 256, "a": noise})
    (recording,) = read_recordings(tmp_path)
    assert recording.attributes["packets"] == "packets of 5 samples"
    for numbers in (at, at + 1000, np.sort(np.random.default_rng(1).choice(900, 500, False))):
        table(tmp_path, {"time": bursts(), "n": numbers, "a": noise})
        with pytest.raises(RecordingError, match="come in bursts"):
            read_recordings(tmp_path)


def sensors_at_one_stamp(kind, n=300, size=3):
    """Return columns of several unnamed sensors, with a row for each sensor at every timestamp."""
    rng = np.random.default_rng(0)
    motion = np.sin(np.arange(n) / 20)
    rows = np.repeat(motion, size) + 0.05 * rng.normal(size=n * size)
    place = np.tile(np.arange(size), n)
    if kind == "levels":
        rows = rows + 5.0 * place
    elif kind == "noise":
        rows = rng.normal(size=n * size)
    elif kind == "constant":
        rows = np.full(n * size, 3.0)
    columns = {"a": rows}
    if kind == "columns":
        columns = {f"x{k}": np.where(place == k, rows, np.nan) for k in range(size)}
    elif kind == "frame":
        columns["frame"] = np.repeat(np.arange(n), size) + 7
    elif kind == "index":
        columns["index"] = np.arange(n * size) + 1000
    return columns


@pytest.mark.parametrize(
    "kind", ["motion", "levels", "noise", "constant", "columns", "frame", "index"]
)
def test_rows_of_unnamed_sensors_are_never_merged_into_one_signal(tmp_path, kind):
    stamps = np.repeat(np.arange(300) * 0.07, 3)
    table(tmp_path, {"time": stamps, **sensors_at_one_stamp(kind)})
    with pytest.raises(RecordingError, match=r"row 2: time repeats.*several sensors"):
        read_recordings(tmp_path)
    # If each row is a little later than the previous one, the timestamps are unchanged.
    late = stamps + np.tile([0.0, 0.001, 0.002], 300)
    table(tmp_path, {"time": late, **sensors_at_one_stamp(kind)})
    with suppress(RecordingError):  # or asked about
        (recording,) = read_recordings(tmp_path)
        np.testing.assert_array_equal(recording.timestamps_s, late)


@given(
    size=st.integers(2, 30),
    jitter=st.floats(0, 0.3),
    noise=st.floats(0, 0.05),
    lost=st.floats(0, 0.2),
    seed=st.integers(0, 99),
)
def test_smooth_signals_are_spread_by_default_and_signals_with_pauses_never(
    tmp_path_factory, size, jitter, noise, lost, seed
):
    rng, n_packets, rate_hz = np.random.default_rng(seed), 150, 50.0
    gone = np.flatnonzero(rng.random(n_packets) < lost)
    kept, arrival_s = arrivals(n_packets, size, rate_hz, jitter, seed, gone)
    true_s = (np.arange(n_packets * size) / rate_hz).reshape(n_packets, size)[kept].ravel()
    x = np.sin(2 * np.pi * true_s / (0.3 * size)) + noise / size * rng.normal(size=len(true_s))
    path = tmp_path_factory.mktemp("packets")
    stamps = np.repeat(arrival_s, size)
    table(path, {"time": stamps, "a": x})
    with suppress(RecordingError):  # or asked about
        (recording,) = read_recordings(path)
        off_s = recording.timestamps_s - true_s
        assert np.abs(off_s - off_s.mean()).max() < (0.6 + jitter) * size / rate_hz
    # Use the same signal, sampled in bursts that are separated by pauses.
    paused_s = np.repeat(arrival_s, size) + np.tile(np.arange(size), len(kept)) * 1e-3 / rate_hz
    table(path, {"time": paused_s, "a": np.sin(2 * np.pi * paused_s / (0.3 * size))})
    (paused,) = read_recordings(path)
    np.testing.assert_array_equal(paused.timestamps_s, paused_s)


@pytest.mark.parametrize("kind", ["even", "jitter", "gaps", "log", "uneven"])
def test_clocks_without_packets_are_left_alone(tmp_path, kind):
    rng, n = np.random.default_rng(1), 3000
    steps = np.full(n, 0.01)
    if kind == "jitter":
        steps += rng.uniform(-0.009, 0.009, n)
    elif kind == "gaps":
        steps[rng.choice(n, 40)] += rng.uniform(1, 5, 40)
    elif kind == "log":
        steps = rng.lognormal(-4, 1.5, n)
    elif kind == "uneven":
        steps[::3] = 0.03  # one row of four is missing
    t = np.cumsum(steps)
    table(tmp_path, {"time": t, "a": rng.normal(size=n)})
    (recording,) = read_recordings(tmp_path)
    np.testing.assert_allclose(recording.timestamps_s, t)


def test_an_unknown_value_of_stamps_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ArgumentError, match=r"stamps='packet' is not known\. .*'packets'"):
        prepare(tmp_path, tmp_path / "w.h5", window_s=1.0, stamps="packet")


def test_the_summary_and_the_file_have_the_packets(tmp_path):
    logs = tmp_path / "logs"
    at = np.arange(900)
    for label in ("a", "b"):
        for run in range(3):
            (logs / label).mkdir(parents=True, exist_ok=True)
            period = 20 + run + (label == "b") / 2
            columns = {"time": at // 3 * 0.03, "x": np.sin(at / period)}
            write_table(logs / label / f"{label}{run}.csv", columns)
    made = prepare(logs, tmp_path / "w.h5", window_s=1.0, split=None)
    assert made.packets == {"packets of 3 samples": 6}
    assert made.sample_rate_hz == pytest.approx(100, rel=0.01)
    assert "packets of 3 samples, spread evenly, in 6 recordings" in str(made)
    model = SensorLSTMClassifier(max_epochs=1, features=None, refit=None, random_state=0)
    model.fit(tmp_path / "w.h5")
    stream = model.stream()
    decisions = [*stream.push(columns["x"][:, np.newaxis], columns["time"]), *stream.flush()]
    assert len(decisions) == 9
    assert stream.counts["n_duplicates"] == stream.counts["n_filled"] == 0


@given(
    size=st.integers(2, 12),
    jitter=st.floats(0, 0.4),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 1200), max_size=8),
)
def test_a_stream_of_packets_loses_nothing_however_it_is_divided(size, jitter, seed, cuts):
    rate_hz, n_packets = 100.0, 1200 // size
    _, arrival_s = arrivals(n_packets, size, rate_hz, jitter, seed)
    x = wave(n_packets * size, rate_hz)
    stamps = np.repeat(arrival_s, size)
    stamps = stamps + np.tile(np.arange(size), n_packets) * 1e-4 * (seed % 2)

    def run(edges):
        clock = LiveClock(rate_hz, 2, in_packets=True)
        parts = []
        for first, last in zip([0, *edges], [*edges, len(x)], strict=True):
            parts += clock.push(x[first:last], stamps[first:last])
        parts += clock.flush()
        assert [part.start_s is not None for part in parts].count(True) == 1
        assert clock.n_late == clock.n_duplicates == clock.n_filled == 0
        return np.concatenate([part.values for part in parts])

    whole = run([])
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_array_equal(run(sorted(min(cut, len(x)) for cut in cuts)), whole)


def test_a_stream_of_packets_fills_in_lost_packets():
    rate_hz, size = 100.0, 4
    kept, arrival_s = arrivals(100, size, rate_hz, 0.2, 0, lost=[50])
    x = wave(400, rate_hz)
    rows = (kept[:, np.newaxis] * size + np.arange(size)).ravel()
    clock = LiveClock(rate_hz, 2, in_packets=True)
    parts = [*clock.push(x[rows], np.repeat(arrival_s, size)), *clock.flush()]
    values = np.concatenate([part.values for part in parts])
    assert len(values) == 400
    np.testing.assert_array_equal(values[:200], x[:200])
    np.testing.assert_array_equal(values[208:], x[208:])  # the loss is detected after two packets
    assert clock.n_filled == size


def test_packets_with_a_different_rate_from_the_stream_are_refused():
    stamps = np.repeat(np.arange(30) * 0.05, 3)
    with pytest.raises(SignalError, match=r"give 60 Hz, which does not match 200 Hz"):
        LiveClock(200.0, 1, in_packets=True).push(np.zeros((90, 1)), stamps)
    with pytest.raises(SignalError, match=r"share each timestamp.*stamps='packets'"):
        LiveClock(60.0, 1).push(np.zeros((90, 1)), stamps)
