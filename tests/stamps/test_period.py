"""The sample rate is the number of samples per second, whatever the source of the timestamps."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.io.blocks import evenly_drawn
from sensorseq.stamps.period import sample_period

EPOCH_S = 1_709_283_600.0  # a day in 2024, as seconds since 1970


def rate_of(stamps):
    """Return the rate of timestamps, after checking that it does not depend on their offset."""
    rate = 1 / sample_period(stamps)
    assert 1 / sample_period(stamps + EPOCH_S) == pytest.approx(rate, rel=1e-5)
    return rate


def repeated(pattern_ms, n_samples):
    steps = np.tile(np.array(pattern_ms) / 1000, n_samples)[: n_samples - 1]
    return np.r_[0.0, np.cumsum(steps)]


@pytest.mark.parametrize("n_samples", [40, 99, 100, 101, 3000, 3001])
@pytest.mark.parametrize(
    "pattern_ms",
    [(2, 8), (8, 2), (7, 13), (10, 20), (1, 1, 4), (4, 1, 1), (3, 9, 3, 5), (5, 5, 20), (4, 6)],
)
def test_stamps_in_pairs_and_threes_have_the_rate_of_their_samples(pattern_ms, n_samples):
    stamps = repeated(pattern_ms, n_samples)
    assert rate_of(stamps) == pytest.approx((n_samples - 1) / stamps[-1], rel=0.03)


def test_a_pause_between_pairs_does_not_affect_their_rate():
    stamps = repeated((2, 8), 3000)
    stamps[1500:] += 1.2  # a pause of 8 % of the time
    assert rate_of(stamps) == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize("rate_hz", [26, 30, 60, 80, 104, 208, 300, 333, 416, 475])
@pytest.mark.parametrize("n_samples", [100, 2001])
def test_a_rate_is_not_rounded_to_whole_milliseconds(rate_hz, n_samples):
    stamps = np.round(np.arange(n_samples) / rate_hz, 3)
    assert rate_of(stamps) == pytest.approx(rate_hz, rel=0.003)
    # 2001 samples suffice to distinguish the rate from other numbers with as few digits
    if n_samples > 2000:
        assert sample_period(stamps) == 1 / rate_hz


@pytest.mark.parametrize("rate_hz", [600, 833, 900])
def test_of_several_samples_in_a_millisecond_only_one_is_counted(rate_hz):
    stamps = np.unique(np.round(np.arange(2000) / rate_hz, 3))
    assert rate_of(stamps) == pytest.approx((len(stamps) - 1) / stamps[-1], rel=0.01)


@pytest.mark.parametrize("lost", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_lost_rows_do_not_slow_a_clock(lost, seed):
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(rng.random(2000) > lost)
    assert sample_period(kept / 100) == 0.01


@pytest.mark.parametrize("n_samples", [14, 30, 200])
def test_gaps_do_not_slow_a_clock(n_samples):
    stamps = np.arange(n_samples) / 50
    stamps[n_samples // 2 :] += 7
    stamps[n_samples // 3 :] += 60
    assert sample_period(stamps) == 0.02


@pytest.mark.parametrize("rate_hz", [6.5, 40, 50, 60, 100, 120, 128, 200, 1000, 8000])
@pytest.mark.parametrize("start_s", [0.0, 12.5, EPOCH_S, EPOCH_S + 0.123])
def test_a_rate_is_the_roundest_within_the_resolution_of_its_stamps(rate_hz, start_s):
    n_samples = 4000 if rate_hz < 1000 else 40_000
    stamps = start_s + np.arange(n_samples) / rate_hz
    assert 1 / sample_period(stamps) == pytest.approx(rate_hz, rel=1e-15)


def test_a_rate_that_is_not_round_is_unchanged():
    for rate_hz in (99.97, 103.7, 416.66):
        for start_s in (0.0, EPOCH_S):
            stamps = start_s + np.arange(5000) / rate_hz
            assert 1 / sample_period(stamps) == pytest.approx(rate_hz, rel=1e-8)


def test_the_period_of_a_long_clock_needs_little_memory():
    stamps = np.arange(5_000_000) / 1000
    tracemalloc.start()
    assert sample_period(stamps) == 0.001
    assert tracemalloc.get_traced_memory()[1] < 160e6
    tracemalloc.stop()


@given(n_rows=st.integers(1, 500), most=st.integers(1, 300), cuts=st.lists(st.integers(0, 500)))
def test_rows_are_drawn_evenly_and_alike_for_any_blocks(n_rows, most, cuts):
    rows = evenly_drawn(0, n_rows, n_rows, most)
    assert len(rows) == min(n_rows, most)
    first = np.arange(len(rows)) * n_rows // len(rows)
    assert (rows >= first).all()
    assert (rows < np.append(first[1:], n_rows)).all()  # each interval contains one row
    edges = [0, *sorted(cut for cut in cuts if cut < n_rows), n_rows]
    parts = [evenly_drawn(*ends, n_rows, most) for ends in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)
