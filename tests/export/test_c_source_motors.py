"""The member on motors in C gives the probabilities of Python, except next to thresholds."""

import numpy as np
import pytest
from c_models import CModel, near_a_threshold
from fits import learn_few_features, plain_classifier, with_int8

from sensorseq.errors import InputError
from sensorseq.windows import WindowSet

N, T, CLASSES = 45, 30, 3


def make_windows(seed=0):
    """Return windows of three currents and three speeds."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % CLASSES
    v = np.cumsum(rng.normal(scale=0.1, size=(N, T, 3)), axis=1) + rng.normal(size=(N, 1, 3)) + 1
    v[:5, 10:20] = 0.0
    v[5:8] = 0.0
    i = (1.0 + y[:, None, None]) * np.sign(v) + 0.5 * v + rng.normal(scale=0.3, size=v.shape)
    return np.concatenate([i, v], axis=2).astype(np.float32), y


def fitted(pairs, held=False, **arguments):
    X, y = make_windows()
    provenance = {}
    if held:
        X = np.repeat(X[:, ::3], 3, axis=1)
        provenance = {"held": ["channel_0"], "configuration": {}}
    windows = WindowSet(X, y=y, sample_rate_hz=7.3, provenance=provenance)
    given = {"motors": pairs, "max_epochs": 1, "hidden_size": 4, "random_state": 0, **arguments}
    return plain_classifier(**given).fit(windows)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize(
    "pairs", [[(0, 3)], [(0, 3), (1, 4)], [(4, 0), (3, 1), (5, 2)]], ids=["one", "two", "three"]
)
def test_the_member_in_c_equals_that_of_python(pairs, weights, tmp_path, monkeypatch):
    learn_few_features(monkeypatch)
    features = ["boosting"] if weights == "int8" else None  # the trees of two members
    held = len(pairs) == 2 and weights == "float32"
    scale = {1: "standard", 2: "robust", 3: None}[len(pairs)]
    classifier = fitted(pairs, held=held, features=features, scale=scale)
    whole = classifier.model_.sum
    assert whole.weights["motors"] > 0
    export = classifier.to_c(tmp_path, n_timesteps=T, weights=weights)
    model = CModel(export, 6, CLASSES)
    assert model.size == export.ram_bytes
    python = with_int8(classifier) if weights == "int8" else classifier
    X, _ = make_windows(1)
    compared = 0
    for n_steps in (T, 14, 3, 2, 1):
        lengths = np.full(N, n_steps)
        expected = python.predict_proba(X, lengths=lengths)
        found = np.array([model.predict(window[:n_steps]) for window in X])
        usable = ~near_a_threshold(classifier, X, lengths)
        compared += usable.sum()
        np.testing.assert_allclose(found[usable], expected[usable], atol=1e-5, rtol=0)
    assert compared > 4 * N


def test_onnx_refuses_the_member_by_name(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match="motors= cannot be exported to ONNX"):
        fitted([(0, 3)]).to_onnx(tmp_path / "m.onnx")
