import numpy as np
import pytest
from remedy_problems import compare, log_loss, mislabelled

pytestmark = pytest.mark.trains


def test_the_mean_of_several_networks_is_better_and_scatters_less_than_one():
    one, five = compare(
        mislabelled,
        lambda c, data: log_loss(c, *data[2:]),
        {"n_models": 1},
        {"n_models": 5},
        max_epochs=60,
    )
    assert np.median(five) < 0.9 * np.median(one)
    assert (five < one).sum() >= 4
