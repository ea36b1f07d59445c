"""The recursions equal the sum over all paths, and have the expected properties over time."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError
from sensorseq.sequence.smoothing import Dwell, LagSmoother, Smoothing, smoothed

N, K = 6, 3
FOLLOWS = [[0, 1, 2], [1, 0, 0], [1, 1, 0]]


def drawn(seed, n=N, k=K):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(k, 0.5), n), np.cumsum(rng.uniform(0.5, 4, n))


def by_all_paths(p, centers_s, dwell, until):
    """Return the probabilities given the windows before `until`."""
    steps = [dwell.transition(round(s, 3)) for s in np.diff(centers_s)]
    start, n = dwell.mean_s / dwell.mean_s.sum(), len(p)
    weights = np.zeros_like(p)
    for path in product(range(p.shape[1]), repeat=n):
        chance = start[path[0]]
        for t, state in enumerate(path):
            chance *= steps[t - 1][path[t - 1], state] if t else 1
            chance *= p[t, state] if t < until else 1
        weights[range(n), path] += chance
    return weights / weights.sum(axis=1, keepdims=True)


def cooled(gamma, lag=1):
    """Apply the temperature that the docs define: a power of the probabilities."""
    powers = np.maximum(gamma, 1e-12) ** (0.4 if lag else 0.5)
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(2))
def test_every_way_of_smoothing_equals_the_sum_over_all_paths(seed):
    p, centers_s = drawn(seed)
    dwell = Dwell.of([5, 7, 9], FOLLOWS, K, 1)
    everything = by_all_paths(p, centers_s, dwell, N)
    marginals, labels = smoothed(p, centers_s, dwell)
    np.testing.assert_allclose(marginals, cooled(everything), atol=1e-12)
    np.testing.assert_array_equal(labels, everything.argmax(axis=1))
    for lag in (0, 1, 2, 9):
        result = smoothed(p, centers_s, dwell, smooth=Smoothing("lag", lag))[0]
        for t in range(N):
            expected = by_all_paths(p, centers_s, dwell, t + 1 + lag)[t]
            np.testing.assert_allclose(result[t], cooled(expected, lag), atol=1e-12)
    filtered = smoothed(p, centers_s, dwell, smooth="filter")[0]
    without_lag = smoothed(p, centers_s, dwell, smooth=Smoothing("lag", 0))[0]
    np.testing.assert_allclose(filtered, without_lag, rtol=1e-14)
    np.testing.assert_array_equal(smoothed(p, centers_s, dwell, smooth="none")[0], p)


@given(seed=st.integers(0, 99), n=st.integers(1, 12), lag=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_windows_later_than_the_lag_have_no_effect(seed, n, lag):
    p, centers_s = drawn(seed, n + 5)
    dwell = Dwell.of(6.0, None, K, 1)
    whole = smoothed(p, centers_s, dwell, smooth=Smoothing("lag", lag))[0]
    part = smoothed(p[: n + lag], centers_s[: n + lag], dwell, smooth=Smoothing("lag", lag))[0]
    np.testing.assert_array_equal(part[:n], whole[:n])


@given(seed=st.integers(0, 99), n=st.integers(1, 12), lag=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_windows_that_arrive_singly_get_bit_identical_results(seed, n, lag):
    p, centers_s = drawn(seed, n)
    dwell = Dwell.of([4, 6, 8], FOLLOWS, K, 1)
    live = LagSmoother(dwell, lag, weight=0.5)
    for _ in range(2):  # a second recording does not depend on the first
        result = [row for pushed in zip(centers_s, p, strict=True) for row in live.push(*pushed)]
        assert len(result) == max(n - lag, 0)
        result += live.flush()
        how = {"smooth": Smoothing("lag", lag) if lag else "filter", "weight": 0.5}
        np.testing.assert_array_equal(result, smoothed(p, centers_s, dwell, **how)[0])


def test_an_uninformative_window_has_the_effect_of_a_missing_one():
    p, centers_s = drawn(3)
    dwell = Dwell.of([4, 6, 8], FOLLOWS, K, 1)
    centers_s = np.round(centers_s, 3)
    p[2] = 1 / K
    is_kept = np.arange(N) != 2
    with_it = smoothed(p, centers_s, dwell)[0]
    without = smoothed(p[is_kept], centers_s[is_kept], dwell)[0]
    np.testing.assert_allclose(with_it[is_kept], without, atol=1e-9)


def test_a_class_lasts_as_long_as_given():
    dwell = Dwell.of([10, 20, 40], None, K, 1)
    step = dwell.transition(0.001)
    np.testing.assert_allclose((1 - step.diagonal()) / 0.001, [1 / 10, 1 / 20, 1 / 40], rtol=1e-3)
    np.testing.assert_allclose(dwell.transition(5000), dwell.transition(9000), atol=1e-9)
    np.testing.assert_allclose(step.sum(axis=1), 1)


def test_an_impossible_transition_needs_two_switches_within_a_hop():
    step = Dwell.of(100.0, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], K, 1).transition(1.0)
    assert step[0, 1] == pytest.approx(0.01, rel=0.02)
    assert step[0, 2] == pytest.approx(0.01**2 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("mean_dwell_s", "transitions", "message"),
    [
        ([1, 2], None, "mean_dwell_s"),
        (0.5, None, "at least one window"),
        (float("nan"), None, "at least one window"),
        (5, np.eye(3), "nothing follows class 0"),
        (5, np.ones((2, 2)), "3 x 3"),
        (5, -np.ones((3, 3)), "3 x 3"),
    ],
)
def test_an_invalid_dwell_time_is_refused(mean_dwell_s, transitions, message):
    with pytest.raises(ArgumentError, match=message):
        Dwell.of(mean_dwell_s, transitions, K, 1)
