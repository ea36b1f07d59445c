"""Timestamps out of order are sorted and grouped as in pandas, or cause an error."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.preprocessing.regrid import regrid
from sensorseq.recording import Recording, repair_stamps


@given(
    n_samples=st.integers(1, 30),
    hurt=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3),
    seed=st.integers(0, 99),
    how=st.sampled_from(["packets", "merge"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_few_damaged_samples_become_the_sorted_groups_of_pandas(
    n_samples, hurt, seed, how, dtype
):
    rng = np.random.default_rng(seed)
    ticks = np.arange(n_samples)
    for place, earlier in hurt:
        row = int(place * (n_samples - 1))
        ticks[row] = int(earlier * row)
    stamps = ticks / 4
    values = rng.normal(size=(len(ticks), 2)).astype(dtype)
    values[rng.random(values.shape) < 0.2] = np.nan
    repaired = repair_stamps(stamps, values, stamps=how)
    grouped = pd.DataFrame(values.astype(np.float64)).groupby(stamps, sort=True)
    expected = grouped.mean()
    np.testing.assert_array_equal(repaired.timestamps_s, np.unique(stamps))
    assert repaired.values.dtype == dtype
    # This is the largest difference between sums in different orders, even where terms cancel.
    rounding = np.finfo(dtype).eps * np.nansum(np.abs(values), initial=0.0)
    np.testing.assert_allclose(
        repaired.values, expected.to_numpy().reshape(-1, 2), rtol=0, atol=rounding
    )
    assert repaired.n_duplicates == len(ticks) - len(set(ticks))
    assert repaired.n_out_of_order == sum(
        tick < max(ticks[:i], default=tick) for i, tick in enumerate(ticks)
    )
    assert repaired.n_spread == 0


@given(n_samples=st.integers(0, 300), seed=st.integers(0, 99))
def test_repair_undoes_swaps_and_changes_no_clock_that_increases(n_samples, seed):
    rng = np.random.default_rng(seed)
    stamps, values = np.cumsum(rng.uniform(0.1, 1, n_samples)), rng.normal(size=(n_samples, 2))
    order = np.arange(n_samples)
    for row in rng.permutation(n_samples // 20) * 20:  # a packet overtaken by three others
        order[row : row + 4] = order[row + 1], order[row + 2], order[row + 3], order[row]
    for given_stamps, given_values in ((stamps, values), (stamps[order], values[order])):
        repaired = repair_stamps(given_stamps, given_values)
        np.testing.assert_array_equal(repaired.timestamps_s, stamps)
        np.testing.assert_array_equal(repaired.values, values)
        assert repaired.n_duplicates == 0
    assert set(repair_stamps(stamps, values).counts.values()) == {0}


def sines(n_samples, rate_hz):
    """Return a signal whose values identify the samples."""
    j = np.arange(n_samples)
    return np.column_stack([np.sin(2 * np.pi * 0.7 * j / rate_hz), j])


def truth_and(rate_hz, n_samples, resolution_s, start_s=0.0):
    true_s = start_s + np.arange(n_samples) / rate_hz
    return true_s, np.floor(true_s / resolution_s + 1e-9) * resolution_s


@pytest.mark.parametrize(
    ("rate_hz", "resolution_s", "start_s", "n_samples"),
    [
        (30, 1.0, 0.0, 1200),  # whole seconds
        (30, 1.0, 0.5, 1200),  # whole seconds, but the start is in the middle of a second
        (30, 1.0, 0.5, 130),  # whole seconds, for only a few seconds
        (29.97, 1.0, 0.3, 3000),
        (1.7, 1.0, 0.0, 300),
        (2000, 0.001, 0.0, 3001),  # whole milliseconds
        (1500, 0.001, 0.0, 3000),
        (1050, 0.001, 0.0, 5000),
        (100, 0.0156, 0.0, 3000),  # the tick of Windows clocks
        (100, 0.1, 0.03, 3000),  # packets of 10
        (100, 1.0, 1_709_290_720.25, 3000),  # whole seconds since 1970
    ],
)
def test_samples_that_share_a_stamp_are_spread_at_their_own_rate(
    rate_hz, resolution_s, start_s, n_samples
):
    true_s, stamps = truth_and(rate_hz, n_samples, resolution_s, start_s)
    values = sines(n_samples, rate_hz)
    repaired = repair_stamps(stamps, values)
    np.testing.assert_array_equal(repaired.values, values)
    assert repaired.n_duplicates == repaired.n_out_of_order == 0
    assert repaired.n_spread == n_samples - len(np.unique(stamps))
    steps = np.diff(repaired.timestamps_s)
    assert (n_samples - 1) / np.ptp(repaired.timestamps_s) == pytest.approx(rate_hz, rel=0.005)
    assert np.abs(repaired.timestamps_s - true_s).max() < max(resolution_s, 1.5 / rate_hz)
    assert np.median(steps) == pytest.approx(1 / rate_hz, rel=0.1)


def test_packets_with_jitter_and_a_gap_are_spread_but_not_over_the_gap():
    rng = np.random.default_rng(0)
    arrivals = np.arange(100) * 0.1 + rng.uniform(0, 0.02, 100)
    arrivals[60:] += 3
    values = sines(1000, 100)
    repaired = repair_stamps(np.repeat(arrivals, 10), values)
    np.testing.assert_array_equal(repaired.values, values)
    steps = np.diff(repaired.timestamps_s)
    assert (steps > 0.02).sum() == 1
    assert steps[599] == pytest.approx(3, abs=0.05)
    assert np.median(steps) == pytest.approx(0.01, rel=0.05)


def test_samples_written_twice_are_merged_and_not_spread():
    stamps, values = np.arange(500) * 0.01, sines(500, 100)
    for twice in (np.repeat(np.arange(500), 2), np.r_[np.arange(500), np.arange(500)]):
        repaired = repair_stamps(stamps[twice], values[twice])
        np.testing.assert_array_equal(repaired.timestamps_s, stamps)
        np.testing.assert_array_equal(repaired.values, values)
        assert (repaired.n_duplicates, repaired.n_spread) == (500, 0)


def test_a_robot_at_rest_does_not_look_like_samples_written_twice():
    _, stamps = truth_and(30, 900, 1.0)
    values = sines(900, 30)
    values[:400], values[420:] = values[0], values[420]
    assert repair_stamps(stamps, values).n_spread == 870


def begun_again(n_before, n_after, offset=0.503):
    return np.r_[0.5 + np.arange(n_before) * 0.01, offset + np.arange(n_after) * 0.01]


@pytest.mark.parametrize(
    ("stamps", "cut"),
    [
        (begun_again(1500, 1500), "sample 1500"),
        (begun_again(1500, 1500, 0.5), "sample 1500"),  # the same stamps
        (begun_again(2990, 10), "sample 2990"),  # just before the end
        (begun_again(20, 2980), "sample 20"),  # soon after the beginning
        (begun_again(1500, 1500, -100), "sample 1500"),  # without an overlap
        (np.arange(3000) % 65.0, "samples 65, 130, 195 and 43 more"),  # at 1 Hz, for about 65.536 s
        (np.r_[begun_again(40, 40), 0.501 + np.arange(40) * 0.01], "samples 40, 80"),
        (np.r_[truth_and(30, 600, 1.0)[1], truth_and(30, 600, 1.0)[1]], "sample 600"),
    ],
    ids=["half", "same", "end", "start", "apart", "slow", "twice", "seconds"],
)
def test_a_restarted_clock_is_refused_and_the_place_to_cut_is_named(stamps, cut):
    values = sines(len(stamps), 100)
    with pytest.raises(SignalError, match=f"the clock was restarted.* Cut the recording at {cut},"):
        repair_stamps(stamps, values)
    with pytest.raises(RecordingError, match=rf"\(\d+ such .*at {cut}, .*would mix"):
        Recording(values, stamps, ("a", "b"), "run")


@pytest.mark.parametrize(("bits", "per_s"), [(32, 1e6), (32, 1e3), (32, 1e9), (16, 1e3)])
def test_a_counter_that_begins_again_is_named_and_its_remedy_works(bits, per_s):
    counts = 2**bits - round(5.003 * per_s) + np.arange(1500) * round(0.02 * per_s)
    values = sines(1500, 50)
    with pytest.raises(SignalError, match=rf"{bits} bits begins again at .*251.*2\*\*{bits}"):
        repair_stamps(counts % 2**bits / per_s, values)
    assert repair_stamps(counts / per_s, values).n_out_of_order == 0


def test_rows_with_the_newest_first_are_named():
    stamps = np.repeat(np.arange(500) * 0.1 + 1.7e9, 3)[::-1]
    for some in (stamps, stamps[::3], np.r_[stamps[:60:3], stamps[57::3]]):
        with pytest.raises(SignalError, match=r"backwards\. Reverse the order of the samples\.$"):
            repair_stamps(some, sines(len(some), 10))


@pytest.mark.parametrize("step_ms", [7, 20, 33])
@pytest.mark.parametrize("start_s", [0, 1_709_290_790])
def test_fractions_without_leading_zeros_are_named(step_ms, start_s):
    whole, ms = np.divmod(np.arange(1500) * step_ms, 1000)
    stamps = [float(f"{s}.{f}") for s, f in zip(start_s + whole, ms, strict=True)]
    with pytest.raises(SignalError, match=r"leading zeros .* Insert the zeros\.$"):
        repair_stamps(stamps, sines(1500, 50))


@pytest.mark.parametrize("n_rows", [1, 7, 50])
@pytest.mark.parametrize("offset_s", [-1000.0, -3.203])
def test_alternating_rows_of_two_sessions_are_refused(n_rows, offset_s):
    stamps = np.arange(1400) * 0.01
    both = np.stack([stamps.reshape(-1, n_rows), stamps.reshape(-1, n_rows) + offset_s], axis=1)
    with pytest.raises(SignalError, match=r"alternate\. .*stamps='merge' would mix"):
        repair_stamps(both.ravel(), sines(2800, 100))


def test_one_wrong_stamp_far_ahead_is_one_sample_to_sort():
    stamps = np.arange(1000) * 0.01
    stamps[400] += 5
    repaired = repair_stamps(stamps, sines(1000, 100))
    assert len(repaired.values) == 1000 - repaired.n_duplicates
    assert repaired.n_spread == 0
    assert (np.diff(repaired.timestamps_s) > 0).all()


def test_rows_of_several_sensors_at_one_stamp_are_not_made_one_signal():
    stamps, sensor = np.repeat(np.arange(200) * 0.01, 3), np.tile([1.0, 2.0, 3.0], 200)
    values = np.column_stack([sines(600, 300)[:, 0], sensor])
    with pytest.raises(SignalError, match=r"About 3 samples share each .*several sensors"):
        repair_stamps(stamps, values)
    with pytest.raises(RecordingError, match="and 'id' has the same values at each"):
        Recording(values, stamps, ("a", "id"), "run")


def test_samples_without_a_rate_are_neither_merged_nor_spread():
    rng = np.random.default_rng(0)
    stamps = np.sort(rng.integers(0, 300, 1000)).astype(float)
    with pytest.raises(SignalError, match=r"About 3.\d+ samples share .*Hz on average, but"):
        repair_stamps(stamps, sines(1000, 3))
    with pytest.raises(SignalError, match=r"About 9 samples .* without an even rate"):
        repair_stamps(np.zeros(9), sines(9, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_time_stamp_that_is_not_finite_stays_an_error(bad):
    with pytest.raises(SignalError, match=r"2 timestamp.*first at sample 1"):
        repair_stamps([0.0, bad, 1.0, bad], np.zeros((4, 1)))
    with pytest.raises(SignalError, match=r"1 timestamp.*first at sample 1"):
        regrid([0.0, bad, 1.0], np.zeros((3, 1)), 1.0)


def test_errors_name_the_argument_or_the_shape():
    with pytest.raises(ArgumentError, match=r"stamps='packet'.*'packets'"):
        repair_stamps([0.0], [[1.0]], stamps="packet")
    with pytest.raises(SignalError, match=r"timestamps have shape \(2,\) for 3 samples"):
        repair_stamps([0.0, 1.0], np.zeros((3, 1)))


def test_without_repair_the_error_says_how_many_where_and_the_way_out():
    stamps, values = [0.0, 1.0, 1.0, 3.0, 2.0, 4.0], np.zeros((6, 1))
    with pytest.raises(SignalError, match=r"2 timestamp.*first at sample 2 .*use .*repair_stamps"):
        regrid(stamps, values, 1.0)
    with pytest.raises(RecordingError, match=r"'run'.*repeats at sample 2.*2 such.*repair_stamps"):
        Recording(values, stamps, ("a",), "run")
    repaired = repair_stamps(stamps, values)
    assert Recording(repaired.values, repaired.timestamps_s, ("a",), "run").n_samples == 5
