import numpy as np
import pytest
from remedy_problems import compare, pairs_of, rises, roughness, tones

pytestmark = pytest.mark.trains

MILD = pairs_of(tones, noise=0.7)


def test_larger_batches_calm_the_validation_curve():
    pairs, usual, full = compare(
        MILD,
        roughness("val_loss", since=5),
        {"batch_size": 2},
        {"batch_size": 16},
        {"batch_size": None},
    )
    assert np.median(usual) < np.median(pairs) / 1.3
    assert np.median(full) < np.median(usual) / 1.5


def test_a_full_batch_takes_the_noise_out_of_the_training_curve():
    small, full = compare(
        MILD, rises("loss", since=5), {"batch_size": 4}, {"batch_size": None}, max_epochs=30
    )
    assert small.min() > 0.05
    assert full.max() < 0.05  # downhill, epoch after epoch


@pytest.mark.parametrize("cure", ["merge", "drop"])
def test_no_step_is_taken_on_the_odd_window_alone(cure):
    alone, cured = compare(
        pairs_of(tones, n=49, noise=0.7),  # three batches of 16, and one window
        lambda classifier, _: classifier.history_["grad_norm"][10:].mean(),
        {"last_batch": "keep"},
        {"last_batch": cure},
    )
    assert np.median(alone) > 1.3 * np.median(cured)
    assert (alone > cured).sum() >= 4
