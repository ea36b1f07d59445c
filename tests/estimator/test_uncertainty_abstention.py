import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from sensorseq.estimator.uncertainty import choose_threshold, lowest_error_rate


def draw(rng, n_groups, alike, n_each=12):
    """Draw probabilities and a mask of correct answers; `alike` correlates a group's errors."""
    of_group = alike * rng.normal(size=(n_groups, 1))
    logit = 1.5 + 2 * rng.normal(size=(n_groups, n_each)) + of_group / 2
    is_positive = rng.random((n_groups, n_each)) < expit(logit + of_group)
    is_right = np.where(logit > 0, is_positive, ~is_positive)
    return expit(abs(logit)).ravel(), is_right.ravel(), np.repeat(np.arange(n_groups), n_each)


@pytest.mark.parametrize(("alike", "n_groups"), [(0.0, 20), (2.5, 20), (1.0, 60)])
def test_the_bound_is_broken_no_more_often_than_the_confidence_allows(alike, n_groups):
    rng = np.random.default_rng(0)
    everything = draw(rng, 5000, alike)
    n_trials, broken = 150, 0
    for _ in range(n_trials):
        chosen = choose_threshold(*draw(rng, n_groups, alike), error_rate=0.1, confidence=0.9)
        if chosen is not None:
            answered = everything[0] >= chosen.threshold
            broken += (~everything[1][answered]).mean() > 0.1
    assert broken <= binom.ppf(0.99, n_trials, 0.1)


@pytest.mark.parametrize(
    ("alike", "n_groups", "n_each"), [(0.02, 8, 40), (0.5, 8, 40), (0.2, 30, 20), (0.5, 100, 10)]
)
def test_the_bound_is_kept_if_every_threshold_errs_slightly_too_often(alike, n_groups, n_each):
    """The mean error rate is 0.255 at every threshold; `alike` correlates a recording's errors."""
    rng = np.random.default_rng(0)
    n_trials, broken = 150, 0
    for _ in range(n_trials):
        rate = rng.beta(*(np.array([0.255, 0.745]) * (1 / alike - 1)), size=(n_groups, 1))
        is_right = rng.random((n_groups, n_each)) > rate
        group = np.repeat(np.arange(n_groups), n_each)
        probability = rng.uniform(0.5, 1, is_right.size)
        chosen = choose_threshold(
            probability, is_right.ravel(), group, error_rate=0.25, confidence=0.9
        )
        broken += chosen is not None
    assert broken <= binom.ppf(0.99, n_trials, 0.1)


def test_many_windows_are_answered_nearly_as_often_as_the_error_rate_allows():
    rng = np.random.default_rng(2)
    probability, is_right, group = draw(rng, 400, 0.5)
    chosen = choose_threshold(probability, is_right, group, error_rate=0.1, confidence=0.9)
    order = np.argsort(-probability)
    errors = np.cumsum(~is_right[order]) / np.arange(1, len(order) + 1)
    most = (np.flatnonzero(errors <= 0.1).max() + 1) / len(order)
    assert most - 0.1 < chosen.coverage <= most
    assert chosen.error <= 0.1


def test_a_higher_error_rate_or_a_lower_confidence_never_answers_fewer_windows():
    rng = np.random.default_rng(3)
    for _ in range(6):
        drawn = draw(rng, 40, 1.0)

        def threshold(error_rate, confidence, drawn=drawn):
            chosen = choose_threshold(*drawn, error_rate=error_rate, confidence=confidence)
            return np.inf if chosen is None else chosen.threshold

        by_rate = [threshold(rate, 0.9) for rate in np.linspace(0.02, 0.5, 25)]
        assert (np.diff([t for t in by_rate if t < np.inf]) <= 0).all()
        assert by_rate == sorted(by_rate, reverse=True)
        by_confidence = [threshold(0.1, confidence) for confidence in (0.99, 0.9, 0.7, 0.5)]
        assert by_confidence == sorted(by_confidence, reverse=True)


def test_without_errors_a_binomial_test_determines_how_many_windows_are_needed():
    """Each of 3 tests may err with probability 0.1 / 3; 0.95^n is below this for n >= 67."""
    for n, is_enough in ((67, True), (66, False)):
        probability = np.linspace(0.5, 1, n)
        chosen = choose_threshold(
            probability, np.ones(n, bool), np.arange(n), error_rate=0.05, confidence=0.9
        )
        assert (chosen is not None) == is_enough
        # ten copies of each window in one group add no evidence
        groups = np.repeat(np.arange(n), 10)
        copied = choose_threshold(
            np.repeat(probability, 10),
            np.ones(10 * n, bool),
            groups,
            error_rate=0.05,
            confidence=0.9,
        )
        assert copied is None or is_enough


def test_the_lowest_error_rate_can_be_guaranteed_and_the_next_lower_one_cannot():
    drawn = draw(np.random.default_rng(4), 30, 1.0)
    lowest = lowest_error_rate(*drawn, 0.9)
    assert choose_threshold(*drawn, error_rate=lowest, confidence=0.9) is not None
    assert choose_threshold(*drawn, error_rate=lowest - 0.01, confidence=0.9) is None
    one_group = (drawn[0], drawn[1], np.zeros_like(drawn[2]))
    assert lowest_error_rate(*one_group, 0.9) is None  # a rate above 1/2 is never returned
