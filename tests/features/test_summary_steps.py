"""SummarySteps: thresholds are quantiles, and each feature marks a statistic above a threshold."""

import numpy as np
import pytest

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.features import SummaryFeatures, SummarySteps
from sensorseq.features.summary import FEATURES


def windows(n=30, t=25, c=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, t, c))


@pytest.mark.parametrize("n_steps", [2, 5, 32])
def test_thresholds_are_the_quantiles_of_each_statistic(n_steps):
    X = windows()
    steps = SummarySteps(n_steps).fit(X)
    assert steps.n_features_ == 2 * len(FEATURES) * (n_steps - 1)
    assert steps.n_channels_ == 2
    made = steps.transform(X)
    assert made.dtype == np.float32
    assert made.shape == (30, steps.n_features_)
    statistics = SummaryFeatures().fit(X).transform(X)
    thresholds = steps.state()["arrays"]["thresholds"]
    for i, statistic in enumerate(statistics.T):
        expected = [np.quantile(statistic, k / n_steps) for k in range(1, n_steps)]
        np.testing.assert_allclose(thresholds[i], expected, rtol=1e-12, atol=1e-15)
        marks = made[:, i * (n_steps - 1) : (i + 1) * (n_steps - 1)]
        for row, value in enumerate(statistic):
            assert marks[row].tolist() == [float(value > at) for at in thresholds[i]]


def test_steps_of_a_spectrum_are_those_of_its_statistics():
    X = windows(t=70)
    steps = SummarySteps(4, spectrum=True).fit(X)
    assert steps.summary.n_steps_ == 70
    again = SummarySteps.from_state(steps.take([20, 30, 60]).state())
    statistics = SummaryFeatures(spectrum=True).fit(X).transform(X)[:, [20, 30, 60]]
    expected = statistics[:, :, None] > np.quantile(statistics, [0.25, 0.5, 0.75], axis=0).T
    np.testing.assert_array_equal(again.transform(X), expected.reshape(30, 9))


def test_a_constant_channel_exceeds_nothing():
    X = windows(c=2)
    X[:, :, 1] = 3.7
    made = SummarySteps(8).fit(X).transform(X).reshape(30, 2, -1)
    assert not made[:, 1].any()
    assert made[:, 0].any()


def test_a_single_training_window_exceeds_no_threshold():
    X = windows(1)
    steps = SummarySteps(4).fit(X)
    assert not steps.transform(X).any()
    assert steps.transform(X + 100).any()


def test_the_steps_of_some_statistics_equal_their_steps_among_all():
    X = windows()
    steps = SummarySteps(7).fit(X)
    whole = steps.transform(X).reshape(len(X), -1, 6)
    some = steps.take([2, 5, 30]).take([0, 2])
    assert some.n_features_ == 2 * 6
    assert some.n_channels_ == 2
    expected = whole[:, [2, 30]].reshape(len(X), -1)
    np.testing.assert_array_equal(some.transform(X), expected)
    again = SummarySteps.from_state(some.state())
    np.testing.assert_array_equal(again.transform(X), expected)
    np.testing.assert_array_equal(steps.transform(X).reshape(len(X), -1, 6), whole)
    assert "columns" not in steps.state()["arrays"]
    assert some.fit(X).n_features_ == steps.n_features_  # a new fit uses all statistics again


@pytest.mark.parametrize("wrong", [[0, 36], [-1, 2], [2, 2], [3, 1], [[0, 1]], [], 4])
def test_stored_columns_that_are_not_indices_are_refused(wrong):
    state = SummarySteps(4).fit(windows()).take([0, 1]).state()
    arrays = {**state["arrays"], "columns": np.array(wrong, np.int64)}
    with pytest.raises(
        SignalError, match="the stored columns are not ascending indices of 36 statistics"
    ):
        SummarySteps.from_state({**state, "arrays": arrays})
    arrays = {**state["arrays"], "columns": np.array([0, 1, 2])}
    with pytest.raises(
        SignalError, match="thresholds are not an array of finite numbers with shape"
    ):
        SummarySteps.from_state({**state, "arrays": arrays})
    arrays = {**state["arrays"], "columns": np.array([0.0, 1.0])}
    with pytest.raises(SignalError, match="expected int64"):
        SummarySteps.from_state({**state, "arrays": arrays})


def test_wrong_states_are_refused():
    state = SummarySteps(4).fit(windows()).state()
    thresholds = state["arrays"]["thresholds"]
    not_finite = thresholds.copy()
    not_finite[1, 2] = np.nan
    for wrong in (thresholds[:-1], thresholds[:, 1:], thresholds.ravel(), not_finite):
        with pytest.raises(
            SignalError, match="thresholds are not an array of finite numbers with shape"
        ):
            SummarySteps.from_state({**state, "arrays": {"thresholds": wrong}})
    arrays = {"thresholds": thresholds.astype(np.float32)}
    with pytest.raises(SignalError, match="expected float64"):
        SummarySteps.from_state({**state, "arrays": arrays})
    with pytest.raises(SignalError, match="lacks the array 'thresholds'"):
        SummarySteps.from_state({**state, "arrays": {}})
    for name in ("n_steps", "summary"):
        settings = {k: v for k, v in state["settings"].items() if k != name}
        with pytest.raises(SignalError, match=f"lacks the setting '{name}'"):
            SummarySteps.from_state({**state, "settings": settings})
    with pytest.raises(SignalError, match="of kind 'summary', not 'summary_steps'"):
        SummarySteps.from_state(SummaryFeatures().fit(windows()).state())


@pytest.mark.parametrize("n_steps", [1, 0, -3, 2.5, True, "8", None])
def test_a_wrong_number_of_steps_is_refused(n_steps):
    with pytest.raises(ArgumentError, match=r"must be an integer from 2"):
        SummarySteps(n_steps)


def test_steps_do_not_depend_on_the_order_of_sums():
    X = np.round(windows(60, 30, 2))  # few distinct values, so that many windows have equal means
    same = [i for i, name in enumerate(FEATURES) if "difference" not in name]
    steps = SummarySteps(16).fit(X)
    forward, backward = (
        steps.transform(each).reshape(60, 2, len(FEATURES), -1)[:, :, same]
        for each in (X, X[:, ::-1])
    )
    np.testing.assert_array_equal(forward, backward)


def test_quantiles_need_windows():
    with pytest.raises(SignalError, match="no windows to learn quantiles from"):
        SummarySteps(4).fit(windows(0, 25, 5))
