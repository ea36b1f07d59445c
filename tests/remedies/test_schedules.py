import numpy as np
import pytest
from remedy_problems import compare, pairs_of, roughness, tones

pytestmark = pytest.mark.trains


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "one_cycle"])
def test_a_falling_rate_calms_the_last_epochs(schedule):
    constant, falling = compare(
        pairs_of(tones, noise=0.7),
        roughness("val_loss", since=30),
        {"lr_schedule": "constant"},
        {"lr_schedule": schedule},
        learning_rate=0.05,
        patience=8,  # what "plateau" waits is a quarter of it
    )
    assert np.median(falling) < np.median(constant) / 3
    assert (falling < constant).sum() >= 4
