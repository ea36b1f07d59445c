import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import SignalError
from sensorseq.preprocessing.scale.scaler import KINDS, fit_scaler, fit_scaler_to_blocks


@given(
    kind=st.sampled_from([*KINDS, None]),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 50),
)
def test_blocks_teach_the_same_as_all_windows_at_once_to_the_bit(kind, cuts, offset, seed):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(40, 6, 3)) * [1, 100, 0] + offset).astype(np.float32)
    blocks = np.split(X, sorted(cuts))
    whole = [(block, None) for block in blocks]
    assert_equal(fit_scaler_to_blocks(lambda: iter(whole), kind), fit_scaler(X, kind=kind))
    lengths = rng.integers(0, 7, 40)
    lengths[7] = 6
    pairs = list(zip(blocks, np.split(lengths, sorted(cuts)), strict=True))
    streamed = fit_scaler_to_blocks(lambda: iter(pairs), kind)
    assert_equal(streamed, fit_scaler(X, lengths, kind))


def assert_equal(one, other):
    assert one.kind == other.kind
    assert one.constant_channels == other.constant_channels
    for name in ("channel_center", "channel_scale", "channel_quantiles"):
        mine, yours = getattr(one, name), getattr(other, name)
        assert (mine is None) == (yours is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, yours)


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_nothing_to_learn_from_is_an_error(kind):
    with pytest.raises(SignalError, match="no scaler can be fitted"):
        fit_scaler_to_blocks(lambda: [(np.empty((0, 5, 2), np.float32), None)], kind)


def test_each_block_is_read_once_unless_quantiles_are_wanted():
    reads = []

    def blocks():
        reads.append(0)
        yield np.arange(30.0, dtype=np.float32).reshape(3, 5, 2), None

    for kind in ("standard", "min_max", "max_abs", None):
        reads.clear()
        fit_scaler_to_blocks(blocks, kind)
        assert len(reads) == 1
    for kind in ("robust", "quantile"):
        reads.clear()
        fit_scaler_to_blocks(blocks, kind)
        assert len(reads) == 2
