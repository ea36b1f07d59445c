import numpy as np
import pytest
import torch
from remedy_problems import compare, last, marked, pairs_of, tones

pytestmark = pytest.mark.trains

EARLY = pairs_of(marked, at=1, n_timesteps=60)
UNTRAINED = {"max_epochs": 1, "learning_rate": 1e-12}


def memory(classifier, data):
    """Return log10 of what the first step moves in the logits, relative to the last."""
    X = torch.tensor(data[2], dtype=torch.float32, requires_grad=True)
    logits = classifier.module_(X)
    (logits[:, 0] - logits[:, 1]).abs().sum().backward()
    moved = X.grad.abs().mean(dim=(0, 2)).numpy()
    return np.log10(moved[0] + 1e-40) - np.log10(moved[-1])


def test_a_forget_bias_above_zero_remembers_the_start_of_a_long_window():
    negative, zero, one, three = compare(
        EARLY,
        memory,
        *({"forget_bias": bias} for bias in (-2.0, 0.0, 1.0, 3.0)),
        pooling="last",
        **UNTRAINED,
    )
    assert (negative + 5 < zero).all()
    assert (zero + 3 < one).all()
    assert (one + 1 < three).all()


def test_with_a_forget_bias_above_zero_the_start_of_a_long_window_is_learned():
    forgetting, remembering = compare(
        EARLY,
        last("val_loss", 3),
        {"forget_bias": -2.0},
        {"forget_bias": 3.0},
        pooling="last",
        max_epochs=60,
    )
    assert np.median(forgetting) > 0.65  # ln 2 = 0.69 is what a guess has
    assert np.median(remembering) < 0.3


@pytest.mark.parametrize("scheme", ["orthogonal", "xavier", "he"])
def test_recurrent_weights_of_full_size_remember_longer_than_small_ones(scheme):
    small, full = compare(
        EARLY,
        memory,
        {"recurrent_init": "uniform"},
        {"recurrent_init": scheme},
        pooling="last",
        hidden_size=16,
        **UNTRAINED,
    )
    assert np.median(full) > np.median(small) + 1.0
    assert (full > small).sum() >= 4


@pytest.mark.parametrize("scheme", ["orthogonal", "xavier", "he"])
def test_a_deep_stack_starts_faster_from_weights_that_know_their_fans(scheme):
    small, full = compare(
        pairs_of(tones, noise=0.3),
        last("loss"),
        {"weight_init": "uniform"},
        {"weight_init": scheme},
        num_layers=4,
        hidden_size=16,
        learning_rate=3e-3,
        max_epochs=20,
    )
    assert np.median(full) < 0.8 * np.median(small)
    assert (full < small).sum() >= 4


@pytest.mark.parametrize("argument", ["weight_init", "recurrent_init"])
def test_a_bad_start_of_ones_own_is_as_bad_as_it_should_be(argument):
    def far_too_large(name, tensor, generator):
        del name
        tensor.normal_(0.0, 5.0, generator=generator)

    large, usual = compare(
        pairs_of(tones, noise=0.7),
        last("loss"),
        {argument: far_too_large},
        {},
        max_epochs=15,
    )
    assert np.median(large) > 1.3 * np.median(usual)
    assert (large > usual).sum() >= 4
