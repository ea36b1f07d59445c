import numpy as np
import pytest
from remedy_problems import compare, last, pairs_of, tones

pytestmark = pytest.mark.trains


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_normalized_head_learns_in_fewer_epochs(norm, optimizer):
    plain, normalized = compare(
        pairs_of(tones, noise=0.3),
        lambda c, data: (last("loss")(c, data), last("val_loss")(c, data)),
        {"head_norm": "none"},
        {"head_norm": norm},
        optimizer=optimizer,
        pooling="mean",
        max_epochs=15,
    )
    assert np.median(normalized[:, 0]) < 0.6 * np.median(plain[:, 0])
    assert np.median(normalized[:, 1]) < 0.8 * np.median(plain[:, 1])
    assert (normalized < plain).all(axis=1).sum() >= 4
