import math
import tracemalloc

import numpy as np
import pytest
from cut_windows import counting, make_windows
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, SignalError, WindowError
from sensorseq.preprocessing.scale import Scaler, fit_scaler
from sensorseq.preprocessing.windowing.cut import window_recordings, window_samples, window_starts
from sensorseq.recording import Recording


def scaled_windows(signal, window, hop=None, scaler=None):
    windows = make_windows(signal, window, hop)
    return (scaler or Scaler.identity(windows.shape[2])).transform_to_float32(windows)


@given(
    rate=st.sampled_from([1.0, 10.0, 33.3, 50.0, 99.9, 100.0, 1000.0, 1562.5]),
    hop=st.sampled_from([0.1, 0.3, 0.7, 1.0, 1.1, 2.5]),
    n_samples=st.integers(0, 5000),
    length=st.integers(1, 100),
)
def test_starts_follow_time_and_windows_never_exceed_the_end(rate, hop, n_samples, length):
    if hop * rate < 1:
        hop = 1.0
    starts = window_starts(n_samples, length, hop, rate)
    k = np.arange(len(starts))
    assert (starts >= k * hop * rate - 1e-6).all()  # windows never start before their nominal time
    # windows start less than a sample after their nominal time
    assert (starts < k * hop * rate + 1).all()
    assert (starts + length <= n_samples).all()
    if n_samples >= length:
        assert len(starts)
        assert (
            math.ceil(len(starts) * hop * rate - 1e-6) + length > n_samples
        )  # no further complete window would fit
    assert (np.diff(starts) > 0).all()


@pytest.mark.parametrize(
    ("window_s", "rate", "expected"),
    [(0.3, 10.0, 3), (1.1, 100.0, 110), (2.0, 1562.5, 3125), (0.0999, 10.0, None), (0.29, 100, 29)],
)
def test_window_samples_do_not_lose_one_to_rounding(window_s, rate, expected):
    if expected is None:
        with pytest.raises(ArgumentError, match=r"use at least 0\.1 s"):
            window_samples(window_s, rate)
    else:
        assert window_samples(window_s, rate) == expected


def test_starts_of_a_whole_hop_are_exact_after_a_million_windows():
    starts = window_starts(3_000_001, 1, 0.3, 10.0)
    np.testing.assert_array_equal(starts, np.arange(0, 3_000_001, 3))
    starts = window_starts(10_000, 1, 1.0, 100.00000000000001)
    np.testing.assert_array_equal(starts, np.arange(0, 10_000, 100))


def test_times_without_meaning_are_errors():
    with pytest.raises(ArgumentError, match="window_s"):
        window_samples(0, 10)
    with pytest.raises(SignalError, match="sample_rate_hz"):
        window_samples(1, -3)
    with pytest.raises(ArgumentError, match="windows would repeat"):
        window_starts(100, 5, 0.05, 10.0)


SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=5)


@given(sizes=SIZES, window=st.integers(1, 20), hop=st.integers(1, 25))
def test_no_window_crosses_a_recording_and_all_whole_ones_are_there(sizes, window, hop):
    recordings = [
        counting(n, f"run {i}", group=f"group {i % 2}", label="ab"[i % 2], start_s=7.0 * i)
        for i, n in enumerate(sizes)
    ]
    kept = [r for r in recordings if r.n_samples >= window]
    short = [r.recording_id for r in recordings if r.n_samples < window]
    if {r.label for r in kept} != {r.label for r in recordings} or max(sizes) < 2:
        return
    windows = window_recordings(recordings, window / 10, hop / 10)
    row = 0
    for recording in recordings:
        for start in range(0, recording.n_samples - window + 1, hop):
            np.testing.assert_array_equal(windows.X[row], recording.values[start : start + window])
            assert windows.start_s[row] == recording.timestamps_s[start]
            assert windows.recording_id[row] == recording.recording_id
            assert windows.groups[row] == recording.group
            assert windows.y[row] == recording.label
            row += 1
    assert row == len(windows)
    assert windows.sample_rate_hz == 10.0
    assert windows.channels == ("channel 0", "channel 1")
    assert [d["recording_id"] for d in windows.provenance["dropped"]] == short


def test_unlabeled_recordings_give_windows_without_y():
    windows = window_recordings([counting(20)], 1.0)
    assert windows.y is None
    np.testing.assert_array_equal(windows.groups, windows.recording_id)


def test_stamps_since_1970_are_even_enough_and_have_their_rate():
    recording = counting(1000, rate=1000.0, start_s=1.7e9)
    windows = window_recordings([recording], 0.1)
    assert len(windows) == 10
    assert windows.sample_rate_hz == pytest.approx(1000.0, rel=1e-5)
    assert window_recordings([recording], 0.1, sample_rate_hz=1000).sample_rate_hz == 1000.0


def test_recordings_that_do_not_fit_together_are_named():
    good = counting(50, "good", label="ice")
    cases = {
        r"'odd' has channels channel 0, but": counting(50, "odd", n_channels=1, label="ice"),
        r"'odd' is .*20 Hz, but 'good' is .*10 Hz": counting(30, "odd", rate=20.0, label="ice"),
        r"'odd' has no label": counting(50, "odd"),
        r"'good' appears twice": counting(50, "good", start_s=2.0, label="ice"),
    }
    for message, other in cases.items():
        with pytest.raises(RecordingError, match=message):
            window_recordings([good, other], 1.0)
    with pytest.raises(RecordingError, match=r"'good' is .*10 Hz, but sample_rate_hz is 20"):
        window_recordings([good], 1.0, sample_rate_hz=20.0)


def test_uneven_or_missing_samples_are_refused():
    uneven = Recording(np.zeros((4, 1)), [0.0, 0.1, 0.2, 0.5], ("a",), "gap")
    with pytest.raises(RecordingError, match=r"'gap'.*not evenly spaced.*resample_recording"):
        window_recordings([uneven], 0.1)
    missing = counting(30, "hole")
    missing.values[7, 1] = np.nan
    with pytest.raises(RecordingError, match=r"'hole': channel 'channel 1' .* sample 7"):
        window_recordings([missing], 0.1)


def test_windows_longer_than_every_recording_are_an_error_with_the_way_out():
    with pytest.raises(WindowError, match=r"no recording .* 'b', lasts 2.9 s.*shorter window_s"):
        window_recordings([counting(10, "a"), counting(30, "b")], 5.0)
    with pytest.raises(WindowError, match="no recordings"):
        window_recordings([], 5.0)
    with pytest.raises(WindowError, match="two samples"):
        window_recordings([counting(1)], 5.0)


def test_changes_after_a_recording_was_made_are_still_checked():
    infinite = counting(30, "spike")
    infinite.values[7, 1] = np.inf
    with pytest.raises(RecordingError, match=r"'spike': channel 'channel 1' is inf at sample 7"):
        window_recordings([infinite], 0.1)
    backwards = counting(30, "clock")
    backwards.timestamps_s[7] = 0.0
    with pytest.raises(RecordingError, match=r"'clock': samples are not evenly spaced"):
        window_recordings([backwards], 0.1)


def test_values_are_rounded_once_as_numpy_does():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        values = rng.normal(size=(50, 3)).astype(dtype)
        recording = Recording.evenly_sampled(values, 10.0, ["a", "b", "c"], "r")
        windows = window_recordings([recording], 1.0, 0.4)
        expected = make_windows(recording.values, 10, 4).astype(np.float32)
        np.testing.assert_array_equal(windows.X, expected)


@given(
    n_samples=st.integers(0, 120),
    n_channels=st.sampled_from([1, 2, 3, 9, 400]),
    window=st.integers(1, 30),
    hop=st.integers(1, 40),
    kind=st.sampled_from(["standard", "robust", None]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_scaled_windows_are_windows_scaled_in_float64_and_rounded_once(
    n_samples, n_channels, window, hop, kind, dtype
):
    rng = np.random.default_rng(n_samples)
    signal = (rng.normal(size=(n_samples, n_channels)) * 3 + 5).astype(dtype)
    scaler = fit_scaler(rng.normal(size=(5, 20, n_channels)) + 5, kind=kind)
    scaled = scaled_windows(signal, window, hop, scaler)
    assert scaled.dtype == np.float32
    windows = make_windows(signal, window, hop).astype(np.float64)
    np.testing.assert_array_equal(scaled, scaler.transform(windows).astype(np.float32))
    if kind == "standard":
        by_hand = (windows - scaler.channel_center) / scaler.channel_scale
        np.testing.assert_array_equal(scaled, by_hand.astype(np.float32))
    np.testing.assert_array_equal(scaled_windows(signal, window, hop), windows.astype(np.float32))


def test_scaled_windows_name_a_value_outside_float32():
    signal = np.zeros((20, 2))
    scaler = fit_scaler(np.arange(20.0).reshape(1, 10, 2))
    signal[7, 1] = 1e300
    with pytest.raises(SignalError, match=r"1e\+300 in window 1, step 2, channel 1.*float32"):
        scaled_windows(signal, 5, scaler=scaler)
    signal[7, 1] = np.nan
    with pytest.raises(SignalError, match="NaN in window 1, step 2, channel 1"):
        scaled_windows(signal, 5, scaler=scaler)
    with pytest.raises(SignalError, match=r"3 channels.* 2"):
        scaled_windows(np.zeros((20, 3)), 5, scaler=scaler)


@pytest.mark.parametrize("prepare", [lambda x: x, np.asfortranarray, lambda x: x[::-1][::-1]])
def test_windows_and_recordings_take_arrays_of_any_order_in_memory(prepare):
    values = prepare(np.random.default_rng(0).normal(size=(60, 4)))
    recording = Recording.evenly_sampled(values[:, ::2], 10.0, ["a", "b"], "r")
    expected = make_windows(np.ascontiguousarray(values[:, ::2]), 10).astype(np.float32)
    np.testing.assert_array_equal(window_recordings([recording], 1.0).X, expected)
    np.testing.assert_array_equal(scaled_windows(values[:, ::2], 10), expected)


def test_cutting_and_scaling_need_no_memory_except_for_the_result():
    signal = np.random.default_rng(0).normal(size=(400_000, 3))
    scaler = fit_scaler(signal[np.newaxis])
    recording = Recording.evenly_sampled(signal, 100.0, ["a", "b", "c"], "r")
    scaled_windows(signal[:1000], 100, 50, scaler)  # so that imports on first use do not count

    def cut():
        return window_recordings([recording], 1.0, 0.5).X

    for make in (lambda: scaled_windows(signal, 100, 50, scaler), cut):
        tracemalloc.start()
        made = make()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # The windows' timestamps and the checked blocks need far less memory than a copy of the
        # signal.
        assert made.nbytes < peak < made.nbytes + 0.2 * signal.nbytes
