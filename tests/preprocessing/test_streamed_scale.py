import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import SignalError
from sensorseq.preprocessing.scale import KINDS, fit_scaler
from sensorseq.preprocessing.streamed_scale import fit_scaler_to_blocks


@given(
    kind=st.sampled_from([*KINDS, None]),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 50),
)
def test_blocks_teach_the_same_as_all_windows_at_once(kind, cuts, offset, seed):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(40, 6, 3)) * [1, 100, 0] + offset).astype(np.float32)
    blocks = np.split(X, sorted(cuts))
    streamed, whole = fit_scaler_to_blocks(lambda: iter(blocks), kind), fit_scaler(X, kind=kind)
    assert streamed.kind == whole.kind
    for name in ("channel_center", "channel_scale", "channel_quantiles"):
        one, other = getattr(streamed, name), getattr(whole, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(streamed.transform(X), whole.transform(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_nothing_to_learn_from_is_an_error(kind):
    with pytest.raises(SignalError, match="nothing to learn"):
        fit_scaler_to_blocks(lambda: [np.empty((0, 5, 2), np.float32)], kind)
