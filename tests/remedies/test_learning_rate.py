import numpy as np
import pytest
from remedy_problems import compare, last, pairs_of, tones

MILD = pairs_of(tones, noise=0.7)


def largest_rise(classifier, data):
    return np.diff(classifier.history_["loss"]).max()


@pytest.mark.trains
def test_a_rate_too_high_makes_the_loss_jump_and_a_lower_one_calms_it():
    high, lower = compare(
        MILD, largest_rise, {"learning_rate": 0.1}, {"learning_rate": 0.005}, batch_size=4
    )
    assert np.median(high) > 2 * np.median(lower)
    assert (high > lower).sum() >= 4


def test_a_rate_too_low_learns_next_to_nothing_and_a_higher_one_learns():
    low, higher = compare(MILD, last("loss"), {"learning_rate": 3e-5}, {"learning_rate": 0.01})
    assert low.min() > 1.0  # ln 3 = 1.10 is what a guess has
    assert higher.max() < 0.5


@pytest.mark.trains
def test_warm_up_tames_the_first_epochs_of_adam_at_a_high_rate():
    abrupt, warmed = compare(
        pairs_of(tones, n=200, noise=0.7),
        lambda classifier, _: classifier.history_["loss"][:2].max(),
        {"warmup_epochs": 0},
        {"warmup_epochs": 5},
        learning_rate=0.1,
        hidden_size=32,
        num_layers=2,
        max_grad_norm=None,
        max_epochs=2,
    )
    assert np.median(abrupt) > np.median(warmed) + 0.15
    assert (abrupt > warmed).sum() >= 4
