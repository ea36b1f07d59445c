import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from sensorseq.estimator.uncertainty import fit_temperature, probability_spread
from sensorseq.prediction.decisions import softmax


def draw(n, temperature, k=4, seed=0, scale=2.0):
    """Draw logits that are calibrated after division by `temperature`, and the classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, k))
    drawn = (rng.random((n, 1)) > scipy_softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return logits * temperature, np.minimum(drawn, k - 1)


def penalized(log_t, logits, y):
    b = np.exp(-log_t)
    loss = -log_softmax(b * logits, axis=1)[np.arange(len(y)), y].sum()
    return loss + b - 1 - np.log(b)


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 80),
    k=st.integers(2, 6),
    temperature=st.sampled_from([0.2, 1.0, 7.0]),
)
def test_the_temperature_is_the_minimum_that_a_different_search_finds(seed, n, k, temperature):
    logits, y = draw(n, temperature, k, seed)
    fitted = fit_temperature(logits, y)
    grid = np.linspace(-8, 8, 161)
    start = grid[np.argmin([penalized(t, logits, y) for t in grid])]
    other = minimize_scalar(
        penalized, args=(logits, y), bounds=(start - 0.1, start + 0.1), options={"xatol": 1e-10}
    )
    assert np.log(fitted) == pytest.approx(other.x, abs=2e-4)
    assert penalized(np.log(fitted), logits, y) <= other.fun + 1e-9


def test_a_shift_of_all_logits_of_a_window_changes_nothing():
    logits, y = draw(50, 2.0)
    shift = np.random.default_rng(1).normal(scale=100, size=(50, 1))
    assert fit_temperature(logits + shift, y) == pytest.approx(fit_temperature(logits, y))


def test_windows_that_are_all_classified_correctly_do_not_make_the_network_certain():
    for n in (1, 5, 50, 5000):
        right = np.tile([3.0, 0.0, 0.0], (n, 1))
        assert 0.1 < fit_temperature(right, np.zeros(n, int)) < 1
    certain = np.tile([80.0, 0.0, 0.0], (50, 1))
    assert fit_temperature(certain, np.zeros(50, int)) == pytest.approx(1)


def test_windows_worse_than_chance_give_an_even_but_finite_answer():
    wrong = np.tile([9.0, 0.0, 0.0], (200, 1))
    temperature = fit_temperature(wrong, np.ones(200, int))
    assert np.isfinite(temperature)
    np.testing.assert_allclose(softmax(wrong / temperature), 1 / 3, atol=0.01)


def test_logits_without_information_leave_the_temperature_at_one():
    assert fit_temperature(np.full((9, 3), 7.0), np.zeros(9, int)) == pytest.approx(1)


@pytest.mark.parametrize("n", [40, 160])
def test_the_spread_equals_that_of_probabilities_over_new_draws(n):
    draws = [draw(n, 2.0, seed=seed) for seed in range(200)]
    fixed, _ = draw(2000, 2.0, seed=10**6)
    temperatures = [fit_temperature(*pair) for pair in draws]
    top = np.stack([softmax(fixed / t).max(axis=1) for t in temperatures])
    spreads = [probability_spread(*pair, t) for pair, t in zip(draws, temperatures, strict=True)]
    assert np.median(spreads) == pytest.approx(np.sqrt(top.var(axis=0).mean()), rel=0.25)


def test_the_spread_of_correlated_windows_is_that_of_their_groups():
    """Each recording has twelve windows, which are drawn with its own temperature."""
    groups = np.repeat(np.arange(12), 12)
    fixed, _ = draw(2000, 2.0, seed=10**6)
    by_group, by_window, temperatures = [], [], []
    for seed in range(150):
        temperature_of = np.exp(np.random.default_rng(seed).normal(scale=1.0, size=12))
        parts = [
            draw(12, 2 * t, seed=1000 * seed + i, scale=2 / t) for i, t in enumerate(temperature_of)
        ]
        logits, y = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        temperatures.append(fit_temperature(logits, y))
        by_group.append(probability_spread(logits, y, temperatures[-1], groups))
        by_window.append(probability_spread(logits, y, temperatures[-1]))
    top = np.stack([softmax(fixed / t).max(axis=1) for t in temperatures])
    measured = np.sqrt(top.var(axis=0).mean())
    assert np.median(by_group) == pytest.approx(measured, rel=0.35)
    assert np.median(by_window) < 0.7 * measured


def test_softmax_equals_scipys_and_does_not_overflow():
    logits = np.random.default_rng(0).normal(scale=300, size=(40, 5))
    np.testing.assert_allclose(softmax(logits), scipy_softmax(logits, axis=1), rtol=1e-12)
    assert softmax(logits.astype(np.float32)).dtype == np.float64
