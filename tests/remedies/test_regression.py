import warnings

import numpy as np
import pytest
import torch
from remedy_problems import SMALL
from sklearn.exceptions import ConvergenceWarning

from sensorseq import SensorLSTMRegressor
from sensorseq.errors import DivergedError

pytestmark = pytest.mark.trains


def tones_and_frequencies(n, seed):
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.2, 0.9, n)
    X = np.sin(np.arange(24) * frequency[:, None] + rng.uniform(0, 2 * np.pi, (n, 1)))
    return X[:, :, None] + 0.05 * rng.normal(size=(n, 24, 1)), frequency


def typical_miss(seed, change=lambda y: y, **arguments):
    """Return the median miss on new windows, after training on targets that are changed."""
    X, y = tones_and_frequencies(100, seed)
    X_new, y_new = tones_and_frequencies(100, 1000 + seed)
    regressor = SensorLSTMRegressor(**{**SMALL, "random_state": seed, **arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            regressor.fit(X, change(y))
        except DivergedError:
            return np.inf
    return np.median(np.abs(regressor.predict(X_new) - change(y_new)))


def wild(y):
    y = y.copy()
    y[::12] += 30.0
    return y


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_wild_targets_pull_a_robust_loss_less_than_the_mean_square(loss):
    square, robust = np.array(
        [[typical_miss(s, wild, loss="mse"), typical_miss(s, wild, loss=loss)] for s in range(4)]
    ).T
    assert np.median(robust) < 0.6 * np.median(square)
    assert (robust < square).all()


def test_a_loss_of_ones_own_moves_what_is_predicted():
    def upper(outputs, targets):
        miss = targets - outputs
        return torch.maximum(0.9 * miss, -0.1 * miss).mean(dim=1)  # the 90 % quantile

    for seed in range(3):
        X, y = tones_and_frequencies(100, seed)
        y = y + 0.3 * np.random.default_rng(seed).normal(size=100)
        above = []
        for loss in ("mae", upper):
            regressor = SensorLSTMRegressor(**{**SMALL, "random_state": seed, "max_epochs": 20})
            regressor.set_params(loss=loss).fit(X, y)
            above.append((regressor.predict(X) > y).mean())
        assert above[1] > above[0] + 0.2
        assert above[1] > 0.75


def test_clipping_learns_targets_in_large_units_where_sgd_without_it_does_not():
    settings = {"optimizer": "sgd", "target_scale": None, "learning_rate": 0.1}
    free, clipped = np.array(
        [
            [
                typical_miss(seed, lambda y: 100 * y, max_grad_norm=bound, **settings)
                for bound in (None, 1.0)
            ]
            for seed in range(4)
        ]
    ).T
    assert free.min() > 12  # the mean of the targets misses by about 17
    assert np.median(clipped) < 0.6 * np.median(free)
    assert (clipped < free).all()
