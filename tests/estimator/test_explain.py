from dataclasses import replace

import numpy as np
import pytest
import torch
from fits import outputs_of, plain_classifier
from scipy.special import log_softmax, logsumexp

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


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_the_planted_place_has_the_largest_share(model, method):
    X, y = planted(1)
    bumps = y != "flat"
    explanation = model.explain(X[bumps], method=method, n_regions=5)
    assert explanation.contributions.shape == (bumps.sum(), 5, C)
    np.testing.assert_array_equal(explanation.edges, [0, 8, 16, 24, 32, 40])
    mean = explanation.shares.mean(axis=0)
    assert np.unravel_index(mean.argmax(), mean.shape) == (2, 1)
    assert mean[2, 1] > 0.4
    np.testing.assert_allclose(explanation.shares.sum(axis=(1, 2)), 1)


def test_features_are_explained_by_occlusion(with_features):
    X, y = planted(1)
    explanation = with_features.explain(X[y != "flat"], n_regions=5)
    assert explanation.method == "occlusion"
    mean = explanation.shares.mean(axis=0)
    assert np.unravel_index(mean.argmax(), mean.shape) == (2, 1)
    with pytest.raises(ArgumentError, match='use method="occlusion"'):
        with_features.explain(X, method="gradients")


@pytest.mark.parametrize("patch", ["auto", None])
@pytest.mark.parametrize(
    "arguments",
    [
        {"pooling": "mean"},
        {"pooling": "last", "n_models": 2, "num_layers": 2},
        {"pooling": "meanmax"},  # the step of the maximum changes along the path
        # after longer training, the network changes its class within 1 % of the path
        {"pooling": "last", "hidden_size": 6, "max_epochs": 20, "learning_rate": 0.01},
    ],
)
def test_contributions_add_up_to_the_change_of_the_logarithm(arguments, patch):
    X, y = planted()
    lengths = np.random.default_rng(0).integers(10, T + 1, N)
    X[np.arange(T)[None] >= lengths[:, None]] = 0
    settings = {"hidden_size": 5, "max_epochs": 3, "random_state": 0, "dtype": "float64"}
    settings["patch"] = patch
    model = plain_classifier(**{**settings, **arguments}).fit(X, y, lengths=lengths)
    model.model_ = replace(model.model_, temperature=1.7)
    explanation = model.explain(X[:7], lengths[:7], label="up")
    at = model.classes_.tolist().index("up")
    steps, of_steps = model.model_.lstm.steps(np.zeros_like(X[:7]), lengths[:7])
    outputs = np.stack([net.outputs(0 * steps, of_steps) for net in model.model_.lstm.networks])
    average = log_softmax(logsumexp(log_softmax(outputs, 2), 0) / model.temperature_, 1)
    logs = [np.log(model.predict_proba(X[:7], lengths[:7])[:, at]), average[:, at]]
    np.testing.assert_allclose(
        explanation.contributions.sum(axis=(1, 2)), logs[0] - logs[1], atol=1e-3
    )
    np.testing.assert_allclose(explanation.probability, np.exp(logs[0]))
    assert explanation.label.tolist() == ["up"] * 7


def test_gradients_equal_a_fine_sum_over_torchs_own_network():
    X, y = planted()
    settings = {"hidden_size": 6, "max_epochs": 20, "learning_rate": 0.01, "pooling": "last"}
    model = plain_classifier(**settings, patch=None, random_state=0).fit(X, y)
    target = np.array([0, 1, 2, 0])
    explained = model.explain(X[:4], label=model.classes_[target], n_regions=T)
    assert (explained.method, explained.contributions.shape) == ("gradients", (4, T, C))
    lstm, linear = (part.double() for part in model.module_.to_torch())

    def value(x):
        logits = linear(lstm(x)[0][:, -1]) / model.temperature_
        rows = torch.arange(len(x))
        return torch.log_softmax(logits, 1)[rows, torch.from_numpy(target).repeat(n)].sum()

    x, n = torch.from_numpy(model.scaler_.transform(X[:4])).double(), 800
    points = torch.cat([x * (i + 0.5) / n for i in range(n)]).requires_grad_(True)
    (gradients,) = torch.autograd.grad(value(points), points)
    wanted = gradients.reshape(n, *x.shape).mean(0) * x
    ours = explained.contributions
    np.testing.assert_allclose(ours, wanted.numpy(), atol=0.02 * np.abs(ours).max())


def test_different_weights_give_different_shares(model):
    X, _ = planted(1)
    before = model.explain(X).shares
    module, state = model.module_, {k: v.clone() for k, v in model.module_.state_dict().items()}
    try:
        torch.manual_seed(0)
        with torch.no_grad():
            for part in module.parameters():
                part.copy_(0.3 * torch.randn_like(part))
        after = model.explain(X).shares
    finally:
        module.load_state_dict(state)
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before, after, strict=True)]
    assert np.median(alike) < 0.5


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
        ({"method": "shap"}, "method='shap' is not known"),
        ({"label": "sideways"}, "'sideways' is not a class"),
        ({"label": ["up"]}, "for each of 3"),
        ({"n_regions": 0}, "n_regions"),
    ],
)
def test_mistakes_in_the_arguments_are_named(model, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        model.explain(planted()[0][:3], **arguments)
