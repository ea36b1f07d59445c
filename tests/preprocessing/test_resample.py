"""A sine is the truth: at another rate it is the same sine, or it is gone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.preprocessing.resample import regrid, resample, resample_recording
from sensorseq.recording import Recording

RATES = [
    (1000.0, 100.0),
    (1000.0, 30.0),
    (1562.5, 100.0),
    (33.3, 11.1),
    (100.0, 250.0),
    (100.0, 99.987654321),  # no small fraction: the table of the filter
    (100.0, 10 * np.pi),
    (100.0, 100 * np.pi),
]
EDGE = 60  # samples of the lower rate, in which mirror images are in the result


def sine(frequency_hz, times_s, phase=0.4):
    return np.sin(2 * np.pi * frequency_hz * times_s + phase)


def fit_sine(signal, times_s, frequency_hz):
    """Amplitude and phase by least squares."""
    angle = 2 * np.pi * frequency_hz * times_s
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, signal, rcond=None)
    return np.hypot(a, b), np.arctan2(b, a)


def inner(signal, rate, target):
    edge = int(np.ceil(EDGE * max(1.0, target / rate)))
    return slice(edge, len(signal) - edge)


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("relative", [0.01, 0.3, 0.79])
def test_a_sine_below_the_passband_edge_is_the_same_sine_at_the_new_rate(rate, target, relative):
    frequency = relative * min(rate, target) / 2
    signal = sine(frequency, np.arange(12000) / rate)[:, None]
    resampled = resample(signal, rate, target)[:, 0]
    times = np.arange(len(resampled)) / target
    keep = inner(resampled, rate, target)
    amplitude, phase = fit_sine(resampled[keep], times[keep], frequency)
    assert abs(20 * np.log10(amplitude)) < 0.1
    assert abs(phase - 0.4) / (2 * np.pi * frequency) * target < 0.1
    assert np.abs(resampled - sine(frequency, times))[keep].max() < 1e-4


@pytest.mark.parametrize(("rate", "target"), [pair for pair in RATES if pair[1] < 0.9 * pair[0]])
@pytest.mark.parametrize("relative", [1.001, 1.2, 1.9])
def test_a_sine_above_the_new_nyquist_is_gone(rate, target, relative):
    signal = sine(relative * target / 2, np.arange(12000) / rate)[:, None]
    resampled = resample(signal, rate, target)[:, 0]
    level = np.abs(resampled[inner(resampled, rate, target)]).max()
    assert 20 * np.log10(level) < -85


@pytest.mark.parametrize(("rate", "target"), RATES)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 50, 1001])
def test_a_constant_stays_that_constant_up_to_the_edges(rate, target, n_samples):
    resampled = resample(np.full((n_samples, 1), -3.7), rate, target)
    np.testing.assert_allclose(resampled, -3.7, rtol=1e-13)


@given(
    n_samples=st.integers(0, 200),
    rate=st.integers(1, 60),
    target=st.integers(1, 60),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_length_is_the_ceiling_and_channels_never_mix(n_samples, rate, target, seed):
    signal = np.random.default_rng(seed).normal(size=(n_samples, 3))
    resampled = resample(signal, rate, target)
    assert resampled.shape == (-(-n_samples * target // rate), 3)
    np.testing.assert_array_equal(
        resample(signal[:, [2, 0, 1]], rate, target), resampled[:, [2, 0, 1]]
    )
    np.testing.assert_array_equal(resample(signal[:, 1:2], rate, target), resampled[:, 1:2])


@pytest.mark.parametrize(("rate", "target"), RATES)
def test_resampling_is_linear_and_channels_permute(rate, target):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 700, 4))
    together = resample(2 * a - 3 * b, rate, target)
    apart = 2 * resample(a, rate, target) - 3 * resample(b, rate, target)
    np.testing.assert_allclose(together, apart, atol=1e-12)
    order = [3, 1, 0, 2]
    np.testing.assert_array_equal(
        resample(a[:, order], rate, target), resample(a, rate, target)[:, order]
    )


def test_the_same_rate_changes_nothing_but_returns_a_copy():
    signal = np.random.default_rng(0).normal(size=(50, 2))
    resampled = resample(signal, 100, 100)
    np.testing.assert_array_equal(resampled, signal)
    assert not np.shares_memory(resampled, signal)


def test_float32_stays_float32_and_is_computed_in_float64():
    signal = np.random.default_rng(0).normal(size=(500, 1))
    narrow = resample(signal.astype(np.float32), 100, 30)
    assert narrow.dtype == np.float32
    wide = resample(signal.astype(np.float32).astype(np.float64), 100, 30)
    np.testing.assert_array_equal(narrow, wide.astype(np.float32))
    assert resample(np.arange(20).reshape(-1, 1), 2, 1).dtype == np.float64


def test_a_fraction_and_its_irrational_neighbour_agree():
    # The two algorithms, polyphase and table, on nearly the same ratio.
    signal = sine(3.0, np.arange(3000) / 100)[:, None]
    by_phases = resample(signal, 100, 40)
    by_table = resample(signal, 100, 40 * (1 + 1e-9))
    assert (len(by_phases), len(by_table)) == (1200, 1201)
    np.testing.assert_allclose(by_table[:1200], by_phases, atol=1e-5)


def test_the_passband_agrees_with_soxr():
    soxr = pytest.importorskip("soxr")
    rng = np.random.default_rng(0)
    times = np.arange(8000) / 1000
    signal = sum(
        sine(f, times, p)
        for f, p in zip(rng.uniform(1, 38, 12), rng.uniform(0, 6, 12), strict=True)
    )
    ours = resample(signal[:, None], 1000, 100)[:, 0]
    theirs = soxr.resample(signal, 1000, 100, quality="VHQ")
    n = min(len(ours), len(theirs))
    assert np.abs(ours[:n] - theirs[:n])[EDGE:-EDGE].max() < 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_missing_sample_is_an_error_that_says_where(bad):
    signal = np.zeros((10, 2))
    signal[4, 1] = bad
    with pytest.raises(SignalError, match="sample 4, channel 1"):
        resample(signal, 100, 50)


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf, "fast", None])
def test_an_impossible_rate_is_named(rate):
    with pytest.raises(SignalError, match="target_rate_hz"):
        resample(np.zeros((4, 1)), 100, rate)
    with pytest.raises(SignalError, match="sample_rate_hz"):
        resample(np.zeros((4, 1)), rate, 100)


def test_a_signal_of_another_shape_or_type_is_an_error():
    with pytest.raises(SignalError, match="reshape"):
        resample(np.zeros(10), 100, 50)
    with pytest.raises(SignalError, match="no real numbers"):
        resample(np.zeros((3, 1), complex), 100, 50)


# Uneven stamps.


def jittered(n_samples, rate, jitter, seed=0):
    rng = np.random.default_rng(seed)
    return (np.arange(n_samples) + rng.uniform(-jitter, jitter, n_samples)) / rate


# Largest error of a sine on jittered stamps: 0.3 periods of jitter at 100 Hz.
@pytest.mark.parametrize("target", [200.0, 100.0, 40.0, 12.5])
@pytest.mark.parametrize(("frequency", "bound"), [(2.0, 1e-4), (5.0, 2e-3), (10.0, 0.02)])
def test_a_sine_on_jittered_stamps_is_that_sine_within_the_bound(target, frequency, bound):
    if frequency > 0.4 * target:
        frequency = 0.39 * target  # the passband's edge; the bound of the higher frequency holds
    stamps = 5.0 + jittered(4000, 100.0, 0.3)
    ((start_s, values),) = regrid(stamps, sine(frequency, stamps)[:, None], target)
    assert start_s == stamps[0]
    times = start_s + np.arange(len(values)) / target
    assert times[-1] <= stamps[-1] + 1e-9
    error = np.abs(values[:, 0] - sine(frequency, times))
    assert error[EDGE:-EDGE].max() < bound


def test_jittered_stamps_are_anti_aliased_too():
    stamps = jittered(6000, 1000.0, 0.3)
    ((_, values),) = regrid(stamps, sine(90.0, stamps)[:, None], 100.0)
    assert 20 * np.log10(np.abs(values[EDGE:-EDGE]).max()) < -60  # aliased, it would be at 10 Hz


@pytest.mark.parametrize("digits", [3, 4])
def test_rounded_stamps_count_as_the_even_clock_they_are(digits):
    exact = np.arange(3000) / 30.0
    signal = sine(4.0, exact)[:, None]
    ((_, values),) = regrid(np.round(exact, digits), signal, 15.0)
    expected = resample(signal, 30.0, 15.0)
    np.testing.assert_allclose(values, expected, atol=4.0 * 2 * np.pi * 0.01 / 30)


def test_even_stamps_give_exactly_what_resample_gives():
    signal = np.random.default_rng(0).normal(size=(800, 2))
    ((start_s, values),) = regrid(3.0 + np.arange(800) / 100.0, signal, 40.0)
    assert start_s == 3.0
    np.testing.assert_array_equal(values, resample(signal, 100.0, 40.0))


def test_stamps_since_1970_cost_no_accuracy():
    exact = np.arange(2000) / 100.0
    signal = sine(5.0, exact)[:, None]
    ((_, values),) = regrid(1.7e9 + exact, signal, 50.0)
    np.testing.assert_allclose(values, resample(signal, 100.0, 50.0), atol=1e-4)
    uneven = jittered(2000, 100.0, 0.3)
    ((_, near),) = regrid(uneven, sine(5.0, uneven)[:, None], 100.0)
    ((_, far),) = regrid(1.7e9 + uneven, sine(5.0, uneven)[:, None], 100.0)
    np.testing.assert_allclose(far, near, atol=1e-3)


def test_a_gap_splits_and_each_piece_keeps_its_time():
    times = np.arange(1000) / 100.0
    keep = (times < 3) | (times >= 5)
    recording = Recording(
        sine(2.0, times[keep])[:, None], times[keep], ("current",), "run", "robot", "ice"
    )
    first, second = resample_recording(recording, 50.0)
    assert (first.timestamps_s[0], second.timestamps_s[0]) == (0.0, 5.0)
    assert (first.n_samples, second.n_samples) == (150, 250)
    for piece in (first, second):
        assert (piece.recording_id, piece.group, piece.label) == ("run", "robot", "ice")
        np.testing.assert_allclose(np.diff(piece.timestamps_s), 1 / 50, rtol=1e-9)
        error = np.abs(piece.values[:, 0] - sine(2.0, piece.timestamps_s))
        assert error[EDGE:-EDGE].max() < 1e-4


@given(hole=st.integers(1, 30), max_gap=st.integers(2, 25))
@settings(max_examples=40, deadline=None)
def test_only_holes_longer_than_max_gap_split(hole, max_gap):
    times = np.delete(np.arange(100) / 10.0, np.arange(40, 40 + hole))
    pieces = regrid(times, np.zeros((len(times), 1)), 10.0, max_gap_s=max_gap / 10.0)
    assert len(pieces) == (2 if hole + 1 > max_gap else 1)


def test_by_default_ten_periods_are_bridged_and_eleven_are_not():
    for missing, n_pieces in ((9, 1), (10, 2)):
        times = np.delete(np.arange(200) / 10.0, np.arange(90, 90 + missing))
        assert len(regrid(times, np.zeros((len(times), 1)), 10.0)) == n_pieces


def test_missing_samples_count_as_missing_rows_do():
    times = np.arange(600) / 100.0
    values = sine(2.0, times)[:, None]
    holes = np.r_[100:102, 200:205, 300:340]
    marked = values.copy()
    marked[holes] = np.nan
    by_nan = regrid(times, marked, 50.0)
    by_row = regrid(np.delete(times, holes), np.delete(values, holes, axis=0), 50.0)
    assert len(by_nan) == len(by_row) == 2
    for (start_a, a), (start_b, b) in zip(by_nan, by_row, strict=True):
        assert start_a == start_b
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_gap_in_one_channel_ends_the_piece_of_all():
    times = np.arange(300) / 100.0
    values = np.stack([sine(2.0, times), sine(3.0, times)], axis=1)
    values[120:180, 1] = np.nan
    first, second = regrid(times, values, 100.0)
    assert (first[0], len(first[1]), second[0], len(second[1])) == (0.0, 120, 1.8, 120)
    np.testing.assert_array_equal(first[1], values[:120])
    np.testing.assert_array_equal(second[1], values[180:])


def test_two_sensors_with_own_clocks_in_one_table_are_brought_together():
    fast, slow = np.arange(0, 10, 0.01), np.arange(0.003, 10, 0.05)
    times = np.sort(np.concatenate([fast, slow]))
    values = np.full((len(times), 2), np.nan)
    values[np.isin(times, fast), 0] = sine(2.0, fast)
    values[np.isin(times, slow), 1] = sine(1.0, slow)
    ((start_s, merged),) = regrid(times, values, 50.0)
    grid = start_s + np.arange(len(merged)) / 50.0
    assert start_s == 0.003 + 0.007 or start_s == 0.003  # where both are known
    np.testing.assert_allclose(merged[EDGE:-EDGE, 0], sine(2.0, grid)[EDGE:-EDGE], atol=2e-3)
    np.testing.assert_allclose(merged[EDGE:-EDGE, 1], sine(1.0, grid)[EDGE:-EDGE], atol=2e-3)


def test_channels_that_are_never_known_together_give_no_piece():
    values = np.full((40, 2), np.nan)
    values[:15, 0] = 1.0
    values[30:, 1] = 1.0
    assert regrid(np.arange(40.0), values, 1.0) == []


def test_noise_on_close_stamps_or_around_a_hole_does_not_become_a_swing():
    rng = np.random.default_rng(0)
    times = np.sort(np.concatenate([np.arange(500) / 100.0, np.arange(0, 500, 7) / 100.0 + 1e-6]))
    times = np.delete(times, np.arange(100, 108))
    noise = rng.uniform(-1, 1, (len(times), 1))
    ((_, values),) = regrid(times, noise, 100.0)
    assert np.abs(values).max() < 3


@pytest.mark.parametrize("n_samples", [0, 1, 2, 3])
def test_short_recordings_are_served(n_samples):
    recording = Recording(np.ones((n_samples, 1)), np.arange(n_samples) * 0.1, ("a",), "r")
    pieces = resample_recording(recording, 10.0)
    assert [piece.n_samples for piece in pieces] == ([n_samples] if n_samples else [])
    assert all((piece.values == 1).all() for piece in pieces)


def test_a_lone_sample_between_gaps_stays_one_sample():
    pieces = regrid(np.r_[np.arange(20), 60, 100 + np.arange(20)], np.ones((41, 1)), 5.0)
    assert [len(values) for _, values in pieces] == [100, 1, 100]


def test_two_samples_around_missing_rows_are_not_a_slower_clock():
    times = np.r_[np.arange(20), 60, 63, 100 + np.arange(20)]
    pieces = regrid(times, times[:, None].astype(float), 1.0)
    assert [len(values) for _, values in pieces] == [20, 4, 20]
    np.testing.assert_allclose(pieces[1][1][:, 0], [60, 61, 62, 63])


def test_a_hole_of_more_than_three_periods_is_bridged_by_a_line():
    times = np.delete(np.arange(100.0), np.arange(40, 47))
    values = np.random.default_rng(0).normal(size=(93, 1))
    ((_, even),) = regrid(times, values, 1.0)
    np.testing.assert_allclose(even[39:48, 0], np.linspace(values[39, 0], values[40, 0], 9))


def test_errors_name_the_recording_and_the_way_out():
    values = np.ones((20, 2))
    values[:, 1] = np.nan
    recording = Recording(values, np.arange(20.0), ("current", "torque"), "run 7")
    with pytest.raises(RecordingError, match=r"'run 7'.*'torque' has no valid sample"):
        resample_recording(recording, 1.0)
    with pytest.raises(
        RecordingError, match=r"'run 7'.*max_gap_s=0.5 is shorter.*Ten periods are 10"
    ):
        resample_recording(recording.select(["current"]), 1.0, max_gap_s=0.5)
    with pytest.raises(SignalError, match="increasing"):
        regrid([0.0, 2.0, 1.0], np.zeros((3, 1)), 1.0)
    with pytest.raises(SignalError, match="infinity"):
        regrid([0.0, 1.0], [[0.0], [np.inf]], 1.0)
    with pytest.raises(SignalError, match="timestamps for"):
        regrid([0.0, 1.0], np.zeros((3, 1)), 1.0)
    assert issubclass(ArgumentError, ValueError)
