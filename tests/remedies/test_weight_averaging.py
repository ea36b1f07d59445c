import numpy as np
import pytest
from remedy_problems import compare, pairs_of, roughness, tones

pytestmark = pytest.mark.trains


@pytest.mark.parametrize(("decay", "factor"), [(0.9, 1.3), (0.98, 2.5)])
def test_averaged_weights_calm_the_validation_curve(decay, factor):
    raw, averaged = compare(
        pairs_of(tones, noise=0.7),
        lambda c, data: (roughness("val_loss", 10)(c, data), c.history_["val_loss"][-10:].max()),
        {"ema_decay": None},
        {"ema_decay": decay},
        batch_size=4,
    )
    assert np.median(averaged[:, 0]) < np.median(raw[:, 0]) / factor
    assert (averaged[:, 0] < raw[:, 0]).sum() >= 4
    assert np.median(averaged[:, 1]) < np.median(raw[:, 1])
