"""Uneven stamps and holes: the result is compared with a sine, and filled samples are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.preprocessing.regrid import regrid, since_first
from sensorseq.preprocessing.resample import resample, resample_recording
from sensorseq.recording import Recording
from sensorseq.stamps.period import resolution_s

EDGE = 60  # samples (of the lower rate) at each end that the mirrored edges affect


def sine(frequency_hz, times_s, phase=0.4):
    return np.sin(2 * np.pi * frequency_hz * times_s + phase)


def jittered(n_samples, rate, jitter, seed=0):
    rng = np.random.default_rng(seed)
    return (np.arange(n_samples) + rng.uniform(-jitter, jitter, n_samples)) / rate


# Each `bound` limits the error of a sine on stamps with a jitter of 0.3 periods at 100 Hz.
@pytest.mark.parametrize("target", [200.0, 100.0, 40.0, 12.5])
@pytest.mark.parametrize(("frequency", "bound"), [(2.0, 1e-4), (5.0, 2e-3), (10.0, 0.02)])
def test_a_sine_on_jittered_stamps_is_that_sine_within_the_bound(target, frequency, bound):
    if frequency > 0.4 * target:
        # The frequency is beyond the passband, so test the passband's edge; the bound also holds
        # there.
        frequency = 0.39 * target
    stamps = 5.0 + jittered(4000, 100.0, 0.3)
    ((start_s, values),) = regrid(stamps, sine(frequency, stamps)[:, None], target)
    assert start_s == stamps[0]
    times = start_s + np.arange(len(values)) / target
    assert times[-1] <= stamps[-1] + 1e-9
    error = np.abs(values[:, 0] - sine(frequency, times))
    assert error[EDGE:-EDGE].max() < bound


@given(relative=st.floats(0.01, 0.2), target=st.floats(40.0, 400.0), seed=st.integers(0, 999))
def test_the_error_from_a_tenth_of_a_period_of_jitter_is_within_the_documented_bound(
    relative, target, seed
):
    # The bound that the docstring states has a margin: 0.023 was measured over 60 seeds.
    frequency = relative * 100.0
    if frequency > 0.4 * target:
        return
    stamps = jittered(2500, 100.0, 0.1, seed)
    ((start_s, values),) = regrid(stamps, sine(frequency, stamps)[:, None], target)
    error = np.abs(values[:, 0] - sine(frequency, start_s + np.arange(len(values)) / target))
    edge = int(np.ceil(EDGE * max(1.0, target / 100.0)))
    assert error[edge:-edge].max() < 0.03 * (relative / 0.2) ** 4 + 5e-5


def test_jittered_stamps_are_anti_aliased_too():
    stamps = jittered(6000, 1000.0, 0.3)
    ((_, values),) = regrid(stamps, sine(90.0, stamps)[:, None], 100.0)
    assert 20 * np.log10(np.abs(values[EDGE:-EDGE]).max()) < -60  # an alias would be at 10 Hz


@pytest.mark.parametrize("digits", [3, 4])
def test_rounded_time_stamps_count_as_an_even_clock(digits):
    exact = np.arange(3000) / 30.0
    signal = sine(4.0, exact)[:, None]
    ((_, values),) = regrid(np.round(exact, digits), signal, 15.0)
    expected = resample(signal, 30.0, 15.0)
    np.testing.assert_allclose(values, expected, atol=4.0 * 2 * np.pi * 0.01 / 30)


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
    values = sine(2.0, times[keep])[:, None]
    recording = Recording(values, times[keep], ("current",), "run", "robot", "ice")
    first, second = resample_recording(recording, 50.0)
    assert (first.timestamps_s[0], second.timestamps_s[0]) == (0.0, 5.0)
    assert (first.n_samples, second.n_samples) == (150, 250)
    for piece in (first, second):
        assert (piece.recording_id, piece.group, piece.label) == ("run", "robot", "ice")
        np.testing.assert_allclose(np.diff(piece.timestamps_s), 1 / 50, rtol=1e-9)
        error = np.abs(piece.values[:, 0] - sine(2.0, piece.timestamps_s))
        assert error[EDGE:-EDGE].max() < 1e-4


@given(hole=st.integers(1, 30), max_gap=st.integers(2, 25))
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
def test_short_recordings_are_accepted(n_samples):
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
    with pytest.raises(RecordingError, match=r"'run 7'.*max_gap_s=0.5 is shorter.*, 10"):
        resample_recording(recording.select(["current"]), 1.0, max_gap_s=0.5)
    with pytest.raises(SignalError, match="increasing"):
        regrid([0.0, 2.0, 1.0], np.zeros((3, 1)), 1.0)
    with pytest.raises(SignalError, match="infinity"):
        regrid([0.0, 1.0], [[0.0], [np.inf]], 1.0)
    with pytest.raises(SignalError, match="timestamps have shape"):
        regrid([0.0, 1.0], np.zeros((3, 1)), 1.0)
    assert issubclass(ArgumentError, ValueError)


def resampled_facts(recording, rate):
    return [piece.attributes["resampled"] for piece in resample_recording(recording, rate)]


def test_filled_samples_are_counted_in_every_piece():
    times = np.arange(1000) / 100.0
    keep = np.ones(1000, bool)
    keep[[50, 200, 201, 202]] = False  # two holes
    keep[500:600] = False  # a gap
    keep[700] = False
    values, own = np.zeros((keep.sum(), 2)), {"attributes": {"robot": 7}}
    recording = Recording(values, times[keep], ("a", "b"), "run", **own)
    first, second = resample_recording(recording, 50.0)
    assert first.attributes["robot"] == 7
    facts = first.attributes["resampled"]
    assert (facts["n_holes_filled"], facts["n_samples_filled"]) == (4, 8)  # for two channels
    assert facts["longest_hole_s"] == pytest.approx(0.04)
    assert facts["is_even_clock"] is True
    assert facts["sample_rate_hz"] == pytest.approx(100.0)
    assert second.attributes["resampled"]["n_holes_filled"] == 2
    assert "resampled" not in recording.attributes


def test_missing_samples_are_counted_by_channel_and_nothing_missing_counts_nothing():
    values = np.zeros((100, 2))
    values[40:43, 1] = np.nan
    (facts,) = resampled_facts(Recording(values, np.arange(100.0), ("a", "b"), "r"), 1.0)
    assert (facts["n_holes_filled"], facts["n_samples_filled"]) == (1, 3)
    assert facts["longest_hole_s"] == 4.0
    whole = Recording(np.zeros((100, 2)), np.arange(100.0), ("a", "b"), "r")
    (facts,) = resampled_facts(whole, 1.0)
    nothing = {"n_holes_filled": 0, "n_samples_filled": 0, "longest_hole_s": 0.0}
    assert facts == {**nothing, "is_even_clock": True, "sample_rate_hz": 1.0}


def test_jitter_is_neither_a_hole_nor_an_even_clock_but_a_missing_row_is_a_hole():
    stamps = np.delete(jittered(500, 100.0, 0.3), [100, 101, 102])
    recording = Recording(np.zeros((497, 1)), stamps, ("a",), "r")
    (facts,) = resampled_facts(recording, 50.0)
    assert (facts["n_holes_filled"], facts["n_samples_filled"]) == (1, 3)
    assert facts["is_even_clock"] is False
    assert facts["sample_rate_hz"] == pytest.approx(100.0, rel=0.05)


@given(missing=st.sets(st.integers(1, 98), max_size=40), max_gap=st.integers(2, 12))
def test_given_and_filled_samples_add_up_to_the_even_clock(missing, max_gap):
    keep = np.setdiff1d(np.arange(100), sorted(missing))
    recording = Recording(np.zeros((len(keep), 1)), keep.astype(float), ("a",), "r")
    if np.median(np.diff(keep)) != 1:
        return
    pieces = resample_recording(recording, 1.0, max_gap_s=max_gap)
    filled = sum(piece.attributes["resampled"]["n_samples_filled"] for piece in pieces)
    assert sum(piece.n_samples for piece in pieces) == len(keep) + filled
    for piece in pieces:
        assert piece.attributes["resampled"]["longest_hole_s"] <= max_gap


def test_the_attenuation_reaches_the_filter():
    times = np.arange(4000) / 1000.0
    signal = sine(52.0, times)[:, None]  # just above the new Nyquist frequency
    recording = Recording(signal, times, ("a",), "r")
    levels = []
    for options in ({}, {"attenuation_db": 40.0}):
        ((_, values),) = regrid(times, signal, 100.0, **options)
        (piece,) = resample_recording(recording, 100.0, **options)
        np.testing.assert_array_equal(piece.values, values)
        levels.append(20 * np.log10(np.abs(values[EDGE:-EDGE]).max()))
    assert levels[0] < -85
    assert -70 < levels[1] < -35


@given(
    start=st.integers(10**15, 2 * 10**15),
    steps=st.lists(st.integers(1, 10**7), min_size=1, max_size=50),
)
def test_stamps_since_1970_count_from_the_first_as_if_they_began_at_0(start, steps):
    """The stamps are whole microseconds, which seconds since 1970 in float64 can distinguish."""
    ticks = np.cumsum([0, *steps])
    since = since_first((start + ticks) / 1e6)
    np.testing.assert_array_equal(since, ticks / 1e6)
    assert resolution_s((start + ticks) / 1e6) < 1e-6


def test_time_stamps_finer_than_the_resolution_of_floats_are_unchanged():
    stamps = 1_709_283_600.0 + np.arange(1000) / 44_100
    np.testing.assert_array_equal(since_first(stamps), stamps - stamps[0])
    assert len(since_first(np.empty(0))) == 0
