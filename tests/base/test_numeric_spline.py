"""Compare the cubic spline with scipy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from sensorseq.base.numeric import interpolate_cubic


@given(
    n=st.integers(2, 300),
    seed=st.integers(0, 9),
    shortest=st.floats(0.1, 1),
    start=st.sampled_from([0.0, -5.0, 1e4]),
)
def test_the_spline_equals_that_of_scipy(n, seed, shortest, start):
    rng = np.random.default_rng(seed)
    knots = start + np.cumsum(rng.uniform(shortest, 10 * shortest, n))
    heights = rng.normal(size=n)
    at = np.concatenate([knots, rng.uniform(knots[0], knots[-1], 200)])
    expected = CubicSpline(knots, heights)(at)
    atol = 1e-12 * np.abs(expected).max() * max(1, abs(start) / 100)
    np.testing.assert_allclose(interpolate_cubic(knots, heights, at), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("first", [0, 1, 7, 100])
def test_knots_far_away_do_not_change_a_bit(first):
    rng = np.random.default_rng(1)
    knots, heights = np.cumsum(rng.uniform(0.2, 2, 1000)), rng.normal(size=1000)
    at = np.linspace(knots[500], knots[600], 999)
    some = interpolate_cubic(knots[first : 700 - first], heights[first : 700 - first], at[:9])
    np.testing.assert_array_equal(some, interpolate_cubic(knots, heights, at[:9]))
