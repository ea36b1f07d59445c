import copy

import numpy as np
import pytest
import torch
from fits import plain_classifier
from remedy_problems import SMALL, compare, last, pairs_of, tones

pytestmark = pytest.mark.trains

EASY = pairs_of(tones, noise=0.3)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_faster_than_none(nesterov):
    without, with_momentum = compare(
        EASY,
        last("loss"),
        {"momentum": 0.0},
        {"momentum": 0.9, "optimizer_params": {"nesterov": nesterov}},
        optimizer="sgd",
        learning_rate=0.05,
        max_epochs=30,
    )
    assert (with_momentum < 0.5 * without).all()


def test_nesterov_overshoots_less_at_a_high_momentum():
    plain, nesterov = compare(
        EASY,
        last("loss", 10),
        {"optimizer_params": {"nesterov": False}},
        {"optimizer_params": {"nesterov": True}},
        optimizer="sgd",
        momentum=0.98,
        learning_rate=0.1,
        batch_size=None,
        max_epochs=80,
    )
    assert np.median(nesterov) < 0.75 * np.median(plain)
    assert (nesterov < plain).sum() >= 4


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_steps_that_adapt_learn_at_a_rate_where_sgd_hardly_moves(optimizer):
    sgd, adaptive = compare(
        EASY,
        last("loss"),
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": optimizer},
        max_epochs=30,
    )
    assert sgd.min() > 0.9
    assert adaptive.max() < 0.4


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_steps_that_adapt_need_no_rate_for_the_size_of_the_loss(optimizer):
    def tiny(logits, class_index):
        return 1e-3 * torch.nn.functional.cross_entropy(logits, class_index, reduction="none")

    sgd, adaptive = compare(
        EASY,
        lambda c, data: c.score(*data[:2]),
        {"optimizer": "sgd"},
        {"optimizer": optimizer},
        loss=tiny,
        max_epochs=30,
        seeds=range(3),
    )
    assert sgd.max() < 0.6
    assert adaptive.min() > 0.85


class Weights:
    """Keep the weights before the first epoch and after each."""

    def __init__(self):
        self.modules = []

    def keep(self, module, _):
        self.modules.append(copy.deepcopy(module))

    on_fit_begin = keep
    on_epoch_end = keep


def rmsprop_steps(optimizer_params, loss_factor):
    """Return gradients and movements of full-batch steps, each of shape (n_steps, n_weights)."""
    X, y = tones(30, 0, n_timesteps=12)

    def loss(logits, class_index):
        return loss_factor * torch.nn.functional.cross_entropy(logits, class_index)

    weights = Weights()
    plain_classifier(
        **{**SMALL, "batch_size": None, "max_epochs": 6, "dtype": "float64", "scale": None},
        optimizer="rmsprop",
        optimizer_params=optimizer_params,
        max_grad_norm=None,
        validation_fraction=0.0,
        loss=loss,
        callbacks=[weights],
        random_state=0,
    ).fit(X, y)
    flat = [
        torch.cat([p.detach().ravel() for p in module.parameters()]).numpy()
        for module in weights.modules
    ]
    gradients = []
    for module in weights.modules[:-1]:
        value = loss(module(torch.tensor(X)), torch.tensor(y))
        parts = torch.autograd.grad(value, list(module.parameters()))
        gradients.append(torch.cat([part.ravel() for part in parts]).numpy())
    return np.array(gradients), np.diff(flat, axis=0)


def keras_steps(gradients, learning_rate, rho=0.9, epsilon=1e-7):
    """Take RMSprop's steps as Keras writes them, with epsilon under the root."""
    velocity, steps = np.zeros_like(gradients[0]), []
    for gradient in gradients:
        velocity = rho * velocity + (1 - rho) * gradient**2
        steps.append(-learning_rate * gradient / np.sqrt(velocity + epsilon))
    return np.array(steps)


def test_rmsprop_takes_the_steps_of_keras_when_told_its_rho_and_epsilon():
    keras = {"alpha": 0.9, "eps": 1e-7}
    gradients, steps = rmsprop_steps(keras, loss_factor=1e6)
    expected = keras_steps(gradients, SMALL["learning_rate"])
    np.testing.assert_allclose(steps, expected, rtol=1e-3, atol=1e-6)
    gradients, steps = rmsprop_steps(None, loss_factor=1e6)  # torch's own: alpha 0.99
    expected = keras_steps(gradients, SMALL["learning_rate"])
    assert np.median(steps / expected) > 2


def test_the_epsilon_of_keras_is_under_the_root_so_tiny_gradients_move_less_there():
    gradients, steps = rmsprop_steps({"alpha": 0.9, "eps": 1e-7}, loss_factor=1e-3)
    expected = keras_steps(gradients, SMALL["learning_rate"])
    assert np.median(np.abs(steps) / np.abs(expected)) > 3
    gradients, steps = rmsprop_steps({"alpha": 0.9, "eps": 1e-7**0.5}, loss_factor=1e-3)
    ratio = keras_steps(gradients, SMALL["learning_rate"]) / steps
    assert ratio.min() > 0.99
    assert ratio.max() < 1.42  # sqrt(v) + e is at most sqrt(2) sqrt(v + e**2)
