"""fit_stack finds the minimum of the log-loss, which is computed here window by window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.features.stack import fit_stack


def smoothed_log_loss(weights, scores, class_index, weight):
    """Compute the loss that fit_stack minimizes, window by window in plain Python."""
    _, n, k = scores.shape
    total = 0.0
    for row in range(n):
        logits = sum(w * s for w, s in zip(weights, scores[:, row], strict=True))
        p = np.exp(logits - logits.max())
        p /= p.sum()
        for column in range(k):
            smooth = 1 / (n + 2)
            target = smooth / k + (1 - smooth) * (column == class_index[row])
            total -= weight[row] * target * np.log(max(p[column], 1e-300))
    return total / weight.sum()


def models(n, k, noises, seed=0):
    """Return the scores of models with these noise levels, the classes and the weights."""
    rng = np.random.default_rng(seed)
    class_index = rng.integers(0, k, n)
    truth = np.eye(k)[class_index]
    scores = np.stack([truth + noise * rng.normal(size=(n, k)) for noise in noises])
    return scores, class_index, rng.uniform(0.3, 2, n)


@given(
    n=st.integers(2, 20), k=st.integers(2, 4), m=st.integers(1, 3), seed=st.integers(0, 2**32 - 1)
)
def test_no_step_away_from_the_weights_lowers_the_loss(n, k, m, seed):
    rng = np.random.default_rng(seed)
    scores, class_index = rng.normal(size=(m, n, k)), rng.integers(0, k, n)
    weight = rng.uniform(0.1, 3, n)
    weights, log_loss = fit_stack(scores, class_index, weight)
    assert (weights >= 0).all()
    assert np.isfinite(weights).all()
    expected = smoothed_log_loss(weights, scores, class_index, weight)
    assert log_loss == pytest.approx(expected)
    assert log_loss <= np.log(k) + 1e-7  # the loss if all weights are 0
    for step in 0.1 * rng.normal(size=(20, m)):
        tried = np.maximum(weights + step, 0)
        assert log_loss <= smoothed_log_loss(tried, scores, class_index, weight) + 1e-5


def test_an_uninformative_model_gets_no_weight():
    scores, class_index, weight = models(3000, 3, [0.5, 0.5])
    scores[1] = np.random.default_rng(1).normal(size=scores[1].shape)
    weights, _ = fit_stack(scores, class_index, weight)
    assert weights[0] > 2
    assert weights[1] < 0.05 * weights[0]
    scores[1] = -scores[0]  # a model that is usually wrong also gets no weight
    assert fit_stack(scores, class_index, weight)[0][1] == 0


def test_a_factor_on_a_models_scores_divides_its_weight():
    scores, class_index, weight = models(60, 3, [0.7, 1.0])
    weights, log_loss = fit_stack(scores, class_index, weight)
    factor = np.array([1e-6, 300.0])
    scaled, same = fit_stack(scores * factor[:, None, None], class_index, weight)
    np.testing.assert_allclose(scaled * factor, weights, rtol=1e-6)
    assert same == pytest.approx(log_loss)


def test_a_constant_added_to_the_scores_of_all_classes_of_a_window_does_not_matter():
    scores, class_index, weight = models(60, 3, [0.7, 1.0])
    added = np.random.default_rng(0).normal(size=(2, 60, 1))
    np.testing.assert_allclose(
        fit_stack(scores + added, class_index, weight)[0],
        fit_stack(scores, class_index, weight)[0],
        rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_perfect_separation_stays_finite(scale):
    class_index = np.arange(20) % 2
    scores = scale * np.eye(2)[class_index][None]
    weights, log_loss = fit_stack(scores, class_index, np.ones(20))
    assert 0 < weights[0] * scale < 100
    # because all windows are equal, the best probability is the smoothed target
    p = 1 - 0.5 / 22
    assert 1 / (1 + np.exp(-weights[0] * scale)) == pytest.approx(p, abs=1e-3)
    assert log_loss == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p), abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6])
def test_scores_equal_for_all_classes_get_weight_0(value):
    scores, class_index, weight = models(30, 3, [0.5, 0.5])
    alone = fit_stack(scores[:1], class_index, weight)
    scores[1] = value
    weights, log_loss = fit_stack(scores, class_index, weight)
    assert weights[1] == 0
    assert weights[0] == pytest.approx(alone[0][0], rel=1e-3)
    assert log_loss == pytest.approx(alone[1])


def test_the_weight_of_a_window_has_the_effect_of_repeating_it():
    scores, class_index, _ = models(400, 3, [0.7, 1.0])
    times = np.random.default_rng(0).integers(1, 4, 400)
    rows = np.repeat(np.arange(400), times)
    weighted, _ = fit_stack(scores, class_index, times.astype(float))
    repeated, _ = fit_stack(scores[:, rows], class_index[rows], np.ones(len(rows)))
    unweighted, _ = fit_stack(scores, class_index, np.ones(400))
    # not exactly equal: the smoothing of targets depends on the number of rows
    np.testing.assert_allclose(weighted, repeated, rtol=0.02)
    assert np.abs(unweighted - repeated).max() > 2 * np.abs(weighted - repeated).max()
    np.testing.assert_allclose(fit_stack(scores, class_index, 5.0 * times)[0], weighted, rtol=1e-6)
