"""The weights of members and the biases of classes, against independent calculations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sensorseq.features.stack import fit_bias, smoothed_log_loss
from sensorseq.learners.weigh import _weight_of_groups, fit_weights


def drawn(n=240, k=3, noises=(0.8, 1.2), seed=0):
    """Return the logits of members of these noise levels, and the classes."""
    rng = np.random.default_rng(seed)
    class_index = rng.integers(0, k, n)
    truth = np.eye(k)[class_index]
    return np.stack([truth + noise * rng.normal(size=(n, k)) for noise in noises]), class_index


def test_a_bias_mends_members_that_stand_on_other_class_frequencies():
    """Members that do not know that the first class is rare predict it too often."""
    rng = np.random.default_rng(0)
    class_index = rng.choice(3, 3000, p=[0.1, 0.3, 0.6])
    means = 1.5 * np.eye(3)
    values = means[class_index] + rng.normal(size=(3000, 3))
    scores = -((values[:, None] - means) ** 2).sum(axis=2) / 2  # right for equal frequencies
    factor, bias = fit_bias(scores, class_index, np.ones(3000), 6.0 / 3000)
    assert factor == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(
        bias - bias.mean(), np.log([0.1, 0.3, 0.6]) - np.log([0.1, 0.3, 0.6]).mean(), atol=0.2
    )


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_factor_and_bias_are_the_minimum_that_another_method_finds(penalty):
    scores, class_index = drawn(60, noises=(1.0,))
    weight = np.random.default_rng(1).uniform(0.3, 2, 60)

    def loss(values):
        logits = values[0] * scores[0] + values[1:]
        of_bias = penalty * (values[1:] ** 2).sum()
        return smoothed_log_loss(logits, class_index, weight) + of_bias

    factor, bias = fit_bias(scores[0], class_index, weight, penalty)
    found = minimize(loss, np.zeros(4), method="Nelder-Mead", options={"maxiter": 5000})
    assert loss(np.append(factor, bias)) <= found.fun + 1e-6
    if penalty == 10.0:
        assert np.abs(bias).max() < 0.02


@settings(max_examples=30)
@given(st.integers(2, 200), st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_weights_are_finite_and_not_negative_and_no_worse_than_no_members(n, k, m, seed):
    rng = np.random.default_rng(seed)
    logits, class_index = rng.normal(size=(m, n, k)), rng.integers(0, k, n)
    weights, bias = fit_weights(logits, class_index, np.ones(n))
    assert weights.shape == (m,)
    assert bias.shape == (k,)
    assert (weights >= 0).all()
    assert np.isfinite(weights).all()
    assert np.isfinite(bias).all()
    together = np.tensordot(weights, logits, 1) + bias
    assert smoothed_log_loss(together, class_index, np.ones(n)) <= np.log(k) + 1e-6


@pytest.mark.parametrize(("n", "has_bias"), [(59, False), (60, True)])
def test_few_windows_have_no_bias(n, has_bias):
    logits, _ = drawn(n)
    class_index = np.zeros(n, int)
    class_index[:5] = 1
    assert fit_weights(logits, class_index, np.ones(n))[1].any() == has_bias


def test_a_copy_of_a_member_shares_its_weight_and_a_useless_member_gets_almost_none():
    logits, class_index = drawn(600, noises=(0.8, 1.0))
    useless = np.random.default_rng(5).normal(size=logits[:1].shape)
    weights, _ = fit_weights(np.concatenate([logits, useless]), class_index, np.ones(600))
    assert weights[2] < 0.1 * weights[:2].min()
    twice, _ = fit_weights(logits[[0, 0, 1]], class_index, np.ones(600))
    assert twice[0] == pytest.approx(twice[1], rel=1e-3)


def test_a_long_recording_counts_more_than_a_short_one_but_less_than_its_length():
    class_index = np.repeat([0, 1], [20, 10])
    groups = np.repeat([0, 1, 2], [16, 4, 10])
    weight = _weight_of_groups(class_index, np.ones(30), groups)
    assert weight[:16].sum() / weight[16:20].sum() == pytest.approx(2)  # the root of 16 / 4
    assert weight[:20].sum() == pytest.approx(20)  # a class keeps its weight
    np.testing.assert_allclose(weight[20:], 1)
    np.testing.assert_allclose(_weight_of_groups(class_index, np.ones(30), np.arange(30)), 1)


def test_a_class_without_weight_stays_without_weight():
    weight = _weight_of_groups(np.array([0, 0, 1]), np.array([0.0, 0.0, 2.0]), np.zeros(3, int))
    np.testing.assert_array_equal(weight, [0, 0, 2])
