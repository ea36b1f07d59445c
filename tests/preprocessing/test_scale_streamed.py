import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import SignalError
from sensorseq.preprocessing import scale
from sensorseq.preprocessing.scale import KINDS, fit_scaler, fit_scaler_to_blocks


@given(
    kind=st.sampled_from([*KINDS, None]),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 50),
    most=st.sampled_from([31, scale.DRAWN_STEPS]),
)
def test_fitting_in_blocks_is_bit_identical_to_fitting_all_windows(kind, cuts, offset, seed, most):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(40, 6, 3)) * [1, 100, 0] + offset).astype(np.float32)
    blocks = np.split(X, sorted(cuts))
    whole = [(block, None) for block in blocks]
    lengths = rng.integers(0, 7, 40)
    lengths[7] = 6
    pairs = list(zip(blocks, np.split(lengths, sorted(cuts)), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "DRAWN_STEPS", most)
        assert_equal(fit_scaler_to_blocks(lambda: iter(whole), kind), fit_scaler(X, kind=kind))
        streamed = fit_scaler_to_blocks(lambda: iter(pairs), kind)
        assert_equal(streamed, fit_scaler(X, lengths, kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_median_of_all_steps_is_that_of_numpy(dtype):
    X = np.random.default_rng(0).normal(size=(500, 400, 2)).astype(dtype)
    assert X[..., 0].size == scale.DRAWN_STEPS
    steps = X.reshape(-1, 2).astype(np.float64)
    np.testing.assert_array_equal(fit_scaler(X, kind="robust").channel_center, np.median(steps, 0))


@pytest.mark.parametrize("period", [3, 50, 100])
def test_of_more_steps_some_are_drawn_whatever_their_period(period):
    """Drawing every fifth step would draw the same step of each period."""
    X = np.arange(100) % period / period + np.random.default_rng(0).normal(0, 0.05, (10_000, 100))
    steps = np.quantile(X, (0.25, 0.5, 0.75))
    drawn = fit_scaler(X, kind="robust")
    spread = steps[2] - steps[0]
    assert abs(drawn.channel_center[0] - steps[1]) < 0.01 * spread
    assert drawn.channel_scale[0] == pytest.approx(spread, rel=0.01)


def assert_equal(one, other):
    assert one.kind == other.kind
    assert one.constant_channels == other.constant_channels
    for name in ("channel_center", "channel_scale"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_fitting_without_windows_is_an_error(kind):
    with pytest.raises(SignalError, match="no scaler can be fitted"):
        fit_scaler_to_blocks(lambda: [(np.empty((0, 5, 2), np.float32), None)], kind)


def test_each_block_is_read_once_unless_quartiles_are_wanted():
    reads = []

    def blocks():
        reads.append(0)
        yield np.arange(30.0, dtype=np.float32).reshape(3, 5, 2), None

    for kind in ("standard", None):
        reads.clear()
        fit_scaler_to_blocks(blocks, kind)
        assert len(reads) == 1
    reads.clear()
    fit_scaler_to_blocks(blocks, "robust")
    assert len(reads) == 2
