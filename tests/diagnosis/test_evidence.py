import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sensorseq.diagnosis import evidence as per_window
from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.thresholds import MIN_GROUPS
from sensorseq.errors import ArgumentError


def windows(rng, *, n_epochs=40, n_windows=120, n_groups=12, own=1.0, group=0.0, common=0.0):
    """Return whether each window's noisy score exceeds 0 in each epoch, and the windows' groups."""
    groups = np.arange(n_windows) % n_groups
    score = rng.normal(0, 1.0, n_windows) + own * rng.normal(size=(n_epochs, n_windows))
    score += group * rng.normal(size=(n_epochs, n_groups))[:, groups]
    score += common * rng.normal(size=(n_epochs, 1))
    return score > 0, groups


def mean_ratios(**keywords):
    rng = np.random.default_rng(0)
    both = []
    for _ in range(40):
        variance = per_window.accuracy_variance(*windows(rng, **keywords))
        both.append((variance.ratio, variance.group_ratio))
    return np.mean(both, axis=0)


@pytest.mark.parametrize("n_windows", [24, 120, 600])
def test_windows_that_flip_independently_have_a_ratio_of_one_whatever_their_number(n_windows):
    assert mean_ratios(n_windows=n_windows) == pytest.approx([1, 1], abs=0.1)


def test_recordings_that_flip_as_blocks_raise_the_ratio_of_windows_only():
    ratio, group_ratio = mean_ratios(group=2.0, n_groups=20)
    assert ratio > 2
    assert group_ratio == pytest.approx(1, abs=0.1)


def test_a_model_that_jumps_as_a_whole_raises_both_ratios():
    ratio, group_ratio = mean_ratios(common=1.0, n_groups=20)
    assert ratio > 5
    assert group_ratio > 3


def test_variances_are_those_of_their_definition_written_out():
    rng = np.random.default_rng(3)
    correct, groups = windows(rng, n_epochs=9, n_windows=10, n_groups=3, group=1.0)
    change = np.diff(correct.astype(int), axis=0)
    n = 10
    variance = per_window.accuracy_variance(correct, groups)
    accuracy = correct.mean(axis=1)
    assert variance.total == pytest.approx(np.mean(np.diff(accuracy) ** 2) / 2)
    assert variance.independent == pytest.approx(
        sum(np.mean(change[:, i] ** 2) for i in range(n)) / 2 / n**2
    )
    assert variance.grouped == pytest.approx(
        sum(np.mean(change[:, groups == g].sum(axis=1) ** 2) for g in range(3)) / 2 / n**2
    )
    assert variance.n_effective == pytest.approx(n * variance.independent / variance.total)


def test_copies_of_windows_count_as_much_as_the_original_windows():
    rng = np.random.default_rng(0)
    distinct, _ = windows(rng, n_epochs=2000, n_windows=15)
    variance = per_window.accuracy_variance(np.repeat(distinct, 8, axis=1))
    assert variance.n_effective == pytest.approx(15, rel=0.1)


def test_expected_noise_from_flips_matches_the_accuracy_and_is_below_the_binomial_noise():
    rng = np.random.default_rng(0)
    correct, _ = windows(rng, n_epochs=4000, n_windows=80, own=0.5)
    accuracy = correct.mean(axis=1)
    expected = math.sqrt(per_window.accuracy_variance(correct).independent)
    assert expected == pytest.approx(accuracy.std(), rel=0.05)
    assert expected < 0.75 * metrics.binomial_sd(float(accuracy.mean()), 80)


def test_windows_that_never_flip_have_no_ratio():
    variance = per_window.accuracy_variance(np.ones((5, 4), bool), np.zeros(4, int))
    assert math.isnan(variance.ratio)
    assert math.isnan(variance.group_ratio)
    assert math.isnan(variance.n_effective)
    assert per_window.common_mode_test(np.ones((5, 4), bool)).p == 1.0


# --- do windows flip together? ------------------------------------------------------------------


def p_values(n_runs, by_groups, **keywords):
    rng = np.random.default_rng(0)
    found = []
    for seed in range(n_runs):
        correct, groups = windows(rng, **keywords)
        test = per_window.common_mode_test(
            correct, groups if by_groups else None, n_shifts=99, seed=seed
        )
        found.append(test.p)
    return np.array(found)


@pytest.mark.parametrize("by_groups", [False, True])
def test_p_of_windows_that_flip_independently_is_uniform(by_groups):
    assert stats.kstest(p_values(120, by_groups, n_epochs=28), "uniform").pvalue > 0.01


def test_the_test_by_windows_finds_blocks_of_recordings_and_the_test_by_groups_does_not():
    assert (p_values(40, False, group=1.5) < 0.05).mean() > 0.95
    by_groups = p_values(150, True, group=1.5, n_epochs=28)
    assert stats.binomtest(int((by_groups < 0.05).sum()), 150, 0.05).pvalue > 0.005


def test_the_value_tested_is_the_ratio():
    correct, groups = windows(np.random.default_rng(0), common=1.0)
    variance = per_window.accuracy_variance(correct, groups)
    assert per_window.common_mode_test(correct).value == pytest.approx(variance.ratio)
    assert per_window.common_mode_test(correct, groups).value == pytest.approx(variance.group_ratio)
    assert per_window.common_mode_test(correct).null.mean() == pytest.approx(1, abs=0.15)


def power(n_groups):
    """Return the detection rate for changes of the model half as large as those of a recording."""
    found = p_values(150, True, n_epochs=28, n_groups=n_groups, group=0.7, common=0.35)
    return (found < 0.05).mean()


def test_the_minimum_number_of_groups_suffices_to_detect_a_moving_model():
    assert power(MIN_GROUPS) >= 0.8
    assert power(MIN_GROUPS // 2) < 0.8


# --- which windows flip -------------------------------------------------------------------------


def test_flip_rates_of_a_matrix_written_by_hand():
    correct = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
    assert per_window.flip_rates(correct) == pytest.approx([0, 1, 2 / 3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_restless_tenth_carries_at_least_its_share_and_at_most_all(rates):
    share = per_window.flip_share(rates)
    if sum(rates) == 0:
        assert share == 0
    else:
        assert math.ceil(0.1 * len(rates)) / len(rates) - 1e-9 <= share <= 1 + 1e-9


def test_flips_of_a_few_windows_are_distinguished_from_flips_of_all_windows():
    assert per_window.flip_share([0.1] * 100) == pytest.approx(0.1)
    assert per_window.flip_share([0.5] * 10 + [0.0] * 90) == pytest.approx(1.0)


# --- the best epoch, corrected for chance -------------------------------------------------------


def test_picking_among_equal_epochs_gains_nothing_and_the_error_is_correct():
    rng = np.random.default_rng(0)
    gains, errors, lucky, levels = [], [], [], []
    for seed in range(150):
        correct = rng.random((40, 100)) < 0.8
        fit = per_window.cross_fit(correct, n_halvings=10, seed=seed)
        gains.append(fit.gain)
        errors.append(fit.gain_error)
        levels.append(fit.accuracy)
        lucky.append(correct.mean(axis=1).max())
    assert np.mean(gains) == pytest.approx(0, abs=3 * np.std(gains) / math.sqrt(150))
    assert np.mean(np.array(gains) > 2 * np.array(errors)) <= 0.06
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.25)
    assert np.mean(levels) == pytest.approx(0.8, abs=0.01)
    assert np.mean(lucky) > 0.87  # the accuracy of the best epoch is too high


def test_the_truly_best_epoch_is_found_and_scored_correctly():
    rng = np.random.default_rng(0)
    level = np.linspace(0.9, 0.7, 30)
    fits = [per_window.cross_fit(rng.random((30, 400)) < level[:, None]) for _ in range(20)]
    assert np.mean([fit.accuracy for fit in fits]) == pytest.approx(0.89, abs=0.01)
    assert all(fit.gain > 2 * fit.gain_error for fit in fits)


def test_halves_are_of_whole_recordings():
    # every recording is classified correctly in only one epoch, and these epochs all differ
    n_groups = 8
    groups = np.repeat(np.arange(n_groups), 5)
    correct = np.zeros((n_groups + 1, 40), bool)
    correct[groups, np.arange(40)] = True
    fit = per_window.cross_fit(correct, groups)
    assert fit.accuracy == 0
    assert per_window.cross_fit(correct).accuracy > 0.02


def test_the_epoch_is_chosen_by_the_score_that_is_given():
    correct = np.array([[True] * 6, [False] * 6, [True] * 6])
    score = np.array([[0.0] * 6, [1.0] * 6, [0.5] * 6])
    fit = per_window.cross_fit(correct, score=score)
    assert (fit.accuracy, fit.gain) == (0.0, -1.0)


@given(st.integers(2, 12), st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_the_accuracy_of_an_unchanging_model_is_returned_unchanged(n_epochs, n_windows, seed):
    row = np.random.default_rng(seed).random(n_windows) < 0.5
    fit = per_window.cross_fit(np.tile(row, (n_epochs, 1)), n_halvings=3)
    assert fit.accuracy == pytest.approx(row.mean())
    assert fit.gain == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: per_window.accuracy_variance(np.ones(4)), r"shape \(4,\)"),
        (lambda: per_window.accuracy_variance(np.ones((1, 4))), "two epochs"),
        (lambda: per_window.accuracy_variance(np.eye(3), [0, 1]), "groups has 2 values"),
        (lambda: per_window.cross_fit(np.ones((3, 1))), "cannot be halved"),
        (lambda: per_window.cross_fit(np.eye(3), [1, 1, 1]), "cannot be halved"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ArgumentError, match=says):
        call()
