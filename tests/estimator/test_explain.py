import numpy as np
import pytest
from fits import outputs_of, plain_classifier
from scipy.special import log_softmax

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError

N, T, C = 90, 40, 3


def planted(seed=0):
    """Noise, with a bump in channel 1 at steps 16 to 24 that determines the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % 3
    X = 0.3 * rng.normal(size=(N, T, C))
    X[:, 16:24, 1] += np.array([-1.5, 0.0, 1.5])[y][:, None]
    return X, np.array(["down", "flat", "up"])[y]


@pytest.fixture(scope="module")
def model():
    X, y = planted()
    settings = {"hidden_size": 12, "max_epochs": 60, "learning_rate": 0.01, "early_stopping": False}
    return plain_classifier(**settings, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def with_features():
    X, y = planted()
    settings = {"hidden_size": 6, "max_epochs": 5, "features": ["summary", "rocket"]}
    return SensorLSTMClassifier(**settings, random_state=0).fit(X, y)


@pytest.mark.parametrize("kind", ["model", "with_features"])
def test_the_planted_place_has_the_largest_share(kind, request):
    X, y = planted(1)
    bumps = y != "flat"
    explanation = request.getfixturevalue(kind).explain(X[bumps], n_regions=5)
    assert explanation.contributions.shape == (bumps.sum(), 5, C)
    np.testing.assert_array_equal(explanation.edges, [0, 8, 16, 24, 32, 40])
    mean = explanation.shares.mean(axis=0)
    assert np.unravel_index(mean.argmax(), mean.shape) == (2, 1)
    assert mean[2, 1] > 0.4
    np.testing.assert_allclose(explanation.shares.sum(axis=(1, 2)), 1)


def test_occlusion_is_the_decrease_of_the_log_probability(with_features):
    X, _ = planted(3)
    explanation = with_features.explain(X[:5], n_regions=4)
    hidden = X[:5].copy()
    hidden[:, 10:20, 2] = with_features.scaler_.channel_center[2]
    outputs = outputs_of(with_features, X[:5]), outputs_of(with_features, hidden)
    whole, without = (
        log_softmax(logits / with_features.temperature_, axis=1) for logits in outputs
    )
    rows, at = np.arange(5), whole.argmax(axis=1)
    np.testing.assert_allclose(
        explanation.contributions[:, 1, 2], (whole - without)[rows, at], atol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "sideways"}, "'sideways' is not a class"),
        ({"label": ["up"]}, "for each of 3"),
        ({"n_regions": 0}, "n_regions"),
    ],
)
def test_mistakes_in_the_arguments_are_named(model, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        model.explain(planted()[0][:3], **arguments)
