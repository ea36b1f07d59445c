"""fit_ridge equals scikit-learn's Ridge, with the penalty computed as documented."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from sensorseq.features import ridge
from sensorseq.features.ridge import STRENGTHS, fit_ridge


def problem(n, n_features, n_targets=2, seed=0):
    """Return features whose products are exact in float32, with targets and weights."""
    rng = np.random.default_rng(seed)
    Z = rng.integers(-16, 17, (n, n_features)).astype(np.float32) / 8
    return Z, rng.normal(size=(n, n_targets)), rng.uniform(0.2, 3.0, n)


def folds_of(n, n_folds=3):
    rows = np.arange(n)
    return [(rows[rows % n_folds != k], rows[rows % n_folds == k]) for k in range(n_folds)]


def squared_error(target):
    return lambda scores: float(np.nanmean((scores - target) ** 2))


def ridge_of(Z, target, weight, rows, strength):
    """Fit scikit-learn's Ridge with the same penalty, a fraction of the mean squared norm."""
    Z, relative = Z[rows].astype(np.float64), weight[rows] / weight[rows].mean()
    centered = Z - np.average(Z, axis=0, weights=relative)
    alpha = strength * len(rows) * (centered**2).sum(axis=1).mean()
    return Ridge(alpha, solver="svd").fit(Z, target[rows], sample_weight=relative)


def assert_as_scikit_learn(Z, target, weight, rows, **tolerance):
    folds = folds_of(len(Z))
    found = fit_ridge(Z, target, weight, folds, rows, squared_error(target))
    expected = ridge_of(Z, target, weight, rows, found.strength)
    coefficients = np.reshape(expected.coef_, (target.shape[1], -1))
    np.testing.assert_allclose(found.weight.T, coefficients, **tolerance)
    np.testing.assert_allclose(found.bias, expected.intercept_, **tolerance)
    tried = []
    for strength in STRENGTHS:
        scores = np.full(target.shape, np.nan)
        for fit_rows, test_rows in folds:
            of_fold = ridge_of(Z, target, weight, fit_rows, strength)
            of_test = of_fold.predict(Z[test_rows].astype(np.float64))
            scores[test_rows] = of_test.reshape(len(test_rows), -1)
        tried.append(scores)
    best = tried[STRENGTHS.index(found.strength)]
    np.testing.assert_allclose(found.out_of_fold, best, **tolerance)
    losses = [squared_error(target)(scores) for scores in tried]
    assert losses[STRENGTHS.index(found.strength)] <= min(losses) * (1 + 1e-9)


@pytest.mark.parametrize(("n", "n_features"), [(30, 5), (12, 60), (9, 9), (10, 1), (13, 8)])
@pytest.mark.parametrize(("is_weighted", "block"), [(True, 4), (False, 4096)])
def test_equals_scikit_learn(monkeypatch, n, n_features, is_weighted, block):
    monkeypatch.setattr(ridge, "_BLOCK", block)
    Z, target, weight = problem(n, n_features)
    weight = weight if is_weighted else np.ones(n)
    assert_as_scikit_learn(Z, target, weight, np.arange(n), rtol=1e-8, atol=1e-10)
    assert_as_scikit_learn(Z, target, weight, np.arange(n - 3), rtol=1e-8, atol=1e-10)


def test_each_fit_uses_its_own_columns():
    Z, target, weight = problem(24, 40)
    folds = folds_of(24)
    columns = [np.arange(0, 30), np.arange(5, 40), np.arange(0, 40, 2), np.array([1, 4, 30, 31])]
    found = fit_ridge(Z, target, weight, folds, np.arange(24), squared_error(target), columns)
    for (fit_rows, test_rows), used in zip(folds, columns[:-1], strict=True):
        of_fold = ridge_of(Z[:, used], target, weight, fit_rows, found.strength)
        expected = of_fold.predict(Z[np.ix_(test_rows, used)].astype(np.float64))
        np.testing.assert_allclose(found.out_of_fold[test_rows], expected, rtol=1e-8, atol=1e-10)
    expected = ridge_of(Z[:, columns[-1]], target, weight, np.arange(24), found.strength)
    np.testing.assert_allclose(found.weight[columns[-1]].T, expected.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.bias, expected.intercept_, rtol=1e-8, atol=1e-10)
    assert not np.delete(found.weight, columns[-1], axis=0).any()
    all_of_them = [np.arange(40)] * 4
    as_all = fit_ridge(Z, target, weight, folds, np.arange(24), squared_error(target), all_of_them)
    plain = fit_ridge(Z, target, weight, folds, np.arange(24), squared_error(target))
    np.testing.assert_array_equal(as_all.weight, plain.weight)
    np.testing.assert_array_equal(as_all.out_of_fold, plain.out_of_fold)


def test_constant_and_repeated_columns_are_solved():
    Z, target, weight = problem(20, 6)
    Z[:, 1] = 0.5
    Z[:, 2] = Z[:, 3]
    assert_as_scikit_learn(Z, target, weight, np.arange(20), rtol=1e-8, atol=1e-10)
    found = fit_ridge(Z, target, weight, folds_of(20), np.arange(20), squared_error(target))
    np.testing.assert_allclose(found.weight[1], 0, atol=1e-12)
    np.testing.assert_allclose(found.weight[2], found.weight[3])


@given(
    n=st.integers(6, 25),
    n_features=st.integers(1, 40),
    n_targets=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_scikit_learn_at_any_size(n, n_features, n_targets, seed):
    Z, target, weight = problem(n, n_features, n_targets, seed)
    assert_as_scikit_learn(Z, target, weight, np.arange(n), rtol=1e-6, atol=1e-8)


def test_scores_of_a_fold_do_not_depend_on_its_targets():
    Z, target, weight = problem(18, 40)
    folds, everything = folds_of(18), np.arange(18)
    for _, test_rows in folds:
        changed = target.copy()
        changed[test_rows] = 1e3
        whole, other = (
            # a constant loss always chooses the same penalty
            fit_ridge(Z, of, weight, folds, everything, lambda _scores: 0.0)
            for of in (target, changed)
        )
        np.testing.assert_array_equal(whole.out_of_fold[test_rows], other.out_of_fold[test_rows])
        assert not np.allclose(whole.weight, other.weight)


def test_the_unit_of_weights_and_the_scale_of_features_do_not_matter():
    Z, target, weight = problem(15, 30)
    arguments = folds_of(15), np.arange(15), squared_error(target)
    whole = fit_ridge(Z, target, weight, *arguments)
    other = fit_ridge(Z * np.float32(4), target, weight * 7, *arguments)
    np.testing.assert_allclose(other.weight * 4, whole.weight, rtol=1e-9)
    np.testing.assert_allclose(other.out_of_fold, whole.out_of_fold, rtol=1e-9)


def test_a_window_of_weight_zero_has_no_effect():
    Z, target, weight = problem(12, 5)
    weight[[2, 7]] = 0
    present = np.flatnonzero(weight)
    folds = [(np.arange(6), np.arange(6, 12)), (np.arange(6, 12), np.arange(6))]
    without = [(np.setdiff1d(fit, [2, 7]), test) for fit, test in folds]
    whole = fit_ridge(Z, target, weight, folds, np.arange(12), squared_error(target))
    other = fit_ridge(Z, target, weight, without, present, squared_error(target))
    np.testing.assert_array_equal(whole.weight, other.weight)
    np.testing.assert_array_equal(whole.out_of_fold, other.out_of_fold)


@pytest.mark.parametrize("value", [0.0, 0.1, 123.4])
def test_windows_of_equal_features_get_their_mean_target(value):
    Z, target, weight = problem(12, 1000)
    Z[:8] = np.float32(value) * Z[0]  # the windows of the fold, and of the final fit, are all equal
    folds = [(np.arange(8), np.arange(8, 12))]
    found = fit_ridge(Z, target, weight, folds, np.arange(8), squared_error(target))
    mean = np.average(target[:8], axis=0, weights=weight[:8])
    scores = Z[:8].astype(np.float64) @ found.weight + found.bias
    np.testing.assert_allclose(scores, np.tile(mean, (8, 1)), atol=1e-3)
    assert np.isfinite(found.out_of_fold[8:]).all()
    assert np.isnan(found.out_of_fold[:8]).all()


def test_many_windows_of_equal_features_can_be_solved():
    """Rounding errors of 200 equal products in float32 must not cause a negative eigenvalue."""
    n = 200
    target, rows = np.eye(2)[np.arange(n) % 2], np.arange(n)
    folds = [(rows[rows % 4 != k], rows[rows % 4 == k]) for k in range(4)]
    Z = np.full((n, 900), 7.7, np.float32)
    found = fit_ridge(Z, target, np.ones(n), folds, rows, squared_error(target))
    np.testing.assert_allclose(Z.astype(np.float64) @ found.weight + found.bias, 0.5, atol=1e-3)


def test_a_flag_may_be_constant_in_a_fold():
    """Centering a column of equal numbers leaves rounding errors, which must not be inverted."""
    rng = np.random.default_rng(0)
    target, weight = rng.normal(size=(11, 2)), rng.uniform(0.1, 1, 11)
    for value in (0.1, 1 / 3, 1e-3, 7.7):
        Z = np.full((11, 1), value, np.float32)
        Z[7:] = -1
        folds = [(np.arange(7), np.arange(7, 11))]
        found = fit_ridge(Z, target, weight, folds, np.arange(7), squared_error(target))
        mean = np.average(target[:7], axis=0, weights=weight[:7])
        np.testing.assert_allclose(found.out_of_fold[7:], np.tile(mean, (4, 1)), atol=1e-6)
