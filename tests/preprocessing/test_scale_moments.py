from math import fsum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import SignalError
from sensorseq.preprocessing.scale import ChannelMoments


def statistics(*blocks):
    moments = ChannelMoments()
    for block in blocks:
        moments.add(*block) if isinstance(block, tuple) else moments.add(block)
    return moments.statistics()


def assert_same_bits(one, other):
    assert one.n_steps == other.n_steps
    for name in ("mean", "deviation", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(
    seed=st.integers(0, 1000),
    n_channels=st.sampled_from([1, 2, 3, 6, 9]),
    n_timesteps=st.sampled_from([1, 2, 17, 600]),
    offset=st.sampled_from([0.0, 1e3, -1e8]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_statistics_are_those_of_numpy_on_the_valid_steps(
    seed, n_channels, n_timesteps, offset, dtype
):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(7, n_timesteps, n_channels)) * 3 + offset).astype(dtype)
    lengths = rng.integers(0, n_timesteps + 1, 7)
    lengths[0] = n_timesteps
    valid = np.arange(n_timesteps) < lengths[:, None]
    dirty = X.copy()
    dirty[~valid] = np.nan
    found = statistics((dirty, lengths))
    steps = X[valid].astype(np.longdouble)
    assert found.n_steps == len(steps) == lengths.sum()
    np.testing.assert_array_equal(found.low, steps.min(axis=0))
    np.testing.assert_array_equal(found.high, steps.max(axis=0))
    np.testing.assert_allclose(found.mean, steps.mean(axis=0).astype(float), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(found.deviation, steps.std(axis=0).astype(float), rtol=1e-12)


@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    n_timesteps=st.sampled_from([1, 13, 200]),
    with_lengths=st.booleans(),
)
def test_the_bits_do_not_depend_on_how_windows_were_cut_into_blocks(
    seed, cuts, n_timesteps, with_lengths
):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(40, n_timesteps, 3)) * [1, 100, 0] + 1e5).astype(np.float32)
    lengths = rng.integers(1, n_timesteps + 1, 40) if with_lengths else np.full(40, n_timesteps)
    whole = statistics((X, lengths if with_lengths else None))
    at = sorted(cuts)
    blocks = list(zip(np.split(X, at), np.split(lengths, at), strict=True))
    assert_same_bits(statistics(*blocks), whole)
    # The bits do not depend on padding, the data type or the memory layout.
    wider = np.concatenate([X, np.full((40, 3, 3), np.nan, np.float32)], axis=1)
    assert_same_bits(statistics((wider, lengths)), whole)
    assert_same_bits(statistics((X.astype(np.float64), lengths)), whole)
    assert_same_bits(statistics((np.asfortranarray(X), lengths)), whole)


def test_the_bits_of_a_channel_do_not_depend_on_the_others():
    X = np.random.default_rng(0).normal(size=(5, 700, 9)) + 1e6
    together = statistics(X)
    for channels in ([4], [8, 4], [1, 4, 6], [4, 0, 1, 2, 3, 5]):
        some = statistics(X[:, :, channels])
        at = channels.index(4)
        assert some.mean[at] == together.mean[4]
        assert some.deviation[at] == together.deviation[4]


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8, -1e8, 1e12])
@pytest.mark.parametrize("n_steps", [2, 511, 512, 513, 100_000])
def test_an_offset_costs_the_variance_no_digits(offset, n_steps):
    x = np.random.default_rng(1).normal(size=n_steps) + offset
    found = statistics(x[np.newaxis])
    values = x.tolist()
    mean = fsum(values) / n_steps
    rest = fsum(value - mean for value in values)  # n times the rounding error of the mean
    variance = (fsum((value - mean) ** 2 for value in values) - rest**2 / n_steps) / n_steps
    assert found.deviation[0] ** 2 == pytest.approx(variance, rel=1e-12)
    assert found.mean[0] == pytest.approx(mean, rel=4e-16, abs=1e-15)


def test_a_first_value_far_off_costs_no_digits_either():
    x = np.random.default_rng(2).normal(size=50_000)
    for first in (1e4, -1e8, 1e30):
        x[0] = first
        exact = x.astype(np.longdouble)
        found = statistics(x[np.newaxis])
        assert found.deviation[0] == pytest.approx(float(exact.std()), rel=1e-12)
        # The scaled value, which is the distance from the mean in standard deviations, must be
        # correct.
        assert abs(found.mean[0] - float(exact.mean())) < 1e-12 * found.deviation[0]


def test_a_channel_that_is_constant_up_to_rounding_counts_as_constant():
    x = np.stack([np.full(100, 0.1), np.full(100, 7.0), np.linspace(0, 1, 100)], axis=1)
    x[::2, 0] = np.nextafter(0.1, 1)
    assert statistics(x[np.newaxis]).is_constant.tolist() == [True, True, False]


def test_errors_say_where_and_what():
    X = np.zeros((4, 6, 3), np.float32)
    with pytest.raises(SignalError, match="no scaler can be fitted"):
        statistics()
    with pytest.raises(SignalError, match="no scaler can be fitted"):
        statistics((X, np.zeros(4, int)))
    for bad, what in ((np.nan, "NaN"), (-np.inf, "inf")):
        X[2, 3, 1] = bad
        with pytest.raises(SignalError, match=f"{what} in window 2, step 3, channel 1"):
            statistics(X[:, :, :], X)
        # The only bad value is beyond these lengths.
        assert statistics((X, [6, 6, 3, 6])).n_steps == 21
    with pytest.raises(ValueError, match="needs the shape"):
        statistics(X[:2], X[:2, :, :1])
