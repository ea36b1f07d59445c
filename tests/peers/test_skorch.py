"""LSTMLinear is an ordinary torch module, so skorch can train it."""

import numpy as np
import pytest
from fits import plain_classifier

pytestmark = pytest.mark.peers


def two_frequencies(n_windows, seed):
    generator = np.random.default_rng(seed)
    t = np.arange(60)
    y = np.arange(n_windows) % 2
    phase = generator.uniform(0, 2 * np.pi, n_windows)
    X = np.sin(t * np.where(y, 0.5, 0.2)[:, None] + phase[:, None])
    return (X + 0.3 * generator.standard_normal(X.shape)).astype(np.float32)[:, :, None], y


def test_skorch_trains_our_module_and_the_estimator_learns_the_same_task():
    skorch = pytest.importorskip("skorch")
    import torch

    from sensorseq.nn import LSTMLinear

    X, y = two_frequencies(200, 0)
    X_test, y_test = two_frequencies(200, 1)
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        LSTMLinear,
        module__input_size=1,
        module__hidden_size=16,
        module__num_classes=2,
        module__pooling="meanmax",
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=20,
        verbose=0,
    ).fit(X, y)
    clf = plain_classifier(hidden_size=16, learning_rate=0.01, max_epochs=20, random_state=0).fit(
        X, y
    )
    assert net.score(X_test, y_test) > 0.95
    assert clf.score(X_test, y_test) > 0.95
