"""BoostedTrees give the probabilities of the scikit-learn classifier from which they are made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.features.grow_trees import grow_trees, make_boosting, rank_statistics, trees_of
from sensorseq.features.trees import BoostedTrees


def fitted(n_classes, seed=0, n=80, **arguments):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    x = rng.normal(size=(n, 5)) + 0.7 * y[:, None] * [1, 0, 0, -1, 0]
    x[:, 2] = np.round(x[:, 2])  # ties: values that are equal to a threshold
    arguments = {"max_iter": 7, "min_samples_leaf": 3, "early_stopping": False} | arguments
    return HistGradientBoostingClassifier(random_state=seed, **arguments).fit(x, y), x


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_probabilities_equal_those_of_scikit_learn(n_classes):
    model, x = fitted(n_classes)
    trees = trees_of(model)
    assert trees.n_outputs == n_classes
    rng = np.random.default_rng(1)
    far = rng.normal(size=(50, 5)) * 10.0 ** rng.integers(-3, 4, (50, 5))
    for values in (x, far, x[:1], x[:0], np.full((1, 5), 1e300), np.full((1, 5), -1e300)):
        if len(values):
            expected = model.predict_proba(values)
            np.testing.assert_allclose(
                np.exp(trees.log_probabilities(values)), expected, rtol=0, atol=1e-12
            )
        assert trees.log_probabilities(values).shape == (len(values), n_classes)


def test_values_at_a_threshold_go_left():
    model, _ = fitted(3)
    trees = trees_of(model)
    thresholds = trees.state()["arrays"]["threshold"]
    at = np.tile(np.unique(thresholds)[:, None], (1, 5))
    for values in (at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)):
        np.testing.assert_allclose(
            np.exp(trees.log_probabilities(values)), model.predict_proba(values), atol=1e-12
        )


@pytest.mark.parametrize(("n_windows", "n_of_a_leaf"), [(24, 2), (60, 3), (500, 20)])
def test_the_settings_of_boosting_depend_on_the_number_of_windows(n_windows, n_of_a_leaf):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n_windows, 30)), np.arange(n_windows) % 3
    nodes = [
        tree.nodes for trees in make_boosting(n_windows).fit(x, y)._predictors for tree in trees
    ]
    leaves = [of_tree["count"][of_tree["is_leaf"] == 1] for of_tree in nodes]
    assert len(leaves) == 3 * 60
    assert min(map(np.min, leaves)) >= n_of_a_leaf
    assert 2 <= max(map(len, leaves)) <= 10


def test_small_sets_grow_their_trees_on_one_thread(monkeypatch):
    threads = []
    fit = HistGradientBoostingClassifier.fit

    def spy(*arguments, **named):
        threads.extend(
            {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}
        )
        return fit(*arguments, **named)

    monkeypatch.setattr(HistGradientBoostingClassifier, "fit", spy)
    with threadpool_limits(3, "openmp"):
        grown(40, 2)
    assert threads == [3, 1]  # scikit-learn's own fit, then the fit of grow_trees


COLUMNS = np.array([1, 2, 6, 7, 9])


def grown(n, n_classes, seed=0):
    """Return trees, the statistics that they were grown on, and scikit-learn's probabilities."""
    rng = np.random.default_rng(seed)
    y, weight = rng.permutation(np.arange(n) % n_classes), rng.uniform(0.5, 2, n)
    x = rng.normal(size=(n, 12)) * 10.0 ** rng.integers(-6, 6, 12) + y[:, None]
    x[:, 2] = np.round(2 * rng.normal(size=n)) / 2  # many equal values
    bins = np.stack(
        [np.digitize(column, cuts(column), right=True) for column in x[:, COLUMNS].T], axis=1
    )
    model = make_boosting(n).fit(bins, y, sample_weight=weight)
    full = np.full_like(x, np.nan)  # a statistic outside these columns is never read
    full[:, COLUMNS] = x[:, COLUMNS]
    return grow_trees(full, COLUMNS, y, weight), full, model.predict_proba(bins)


def cuts(values):
    """Return, for each of 31 quantiles, the midpoint of its two neighboring values."""
    distinct = np.unique(values)
    place = np.searchsorted(distinct, np.quantile(values, np.arange(1, 32) / 32), side="right")
    place = place[place < len(distinct)]
    return (distinct[place - 1] + distinct[place]) / 2


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n", [40, 321])
def test_grown_trees_equal_those_of_scikit_learn_on_bins_between_quantiles(n, n_classes):
    trees, x, expected = grown(n, n_classes)
    assert trees.n_statistics == 12
    assert set(trees.columns) <= set(COLUMNS)
    for rounded in (x, x.astype(np.float32), x * (1 + 1e-12), x * (1 - 1e-12)):
        probability = np.exp(trees.log_probabilities(rounded))
        np.testing.assert_allclose(probability, expected, atol=1e-12)
    arrays = trees.state()["arrays"]
    inner = arrays["feature"] >= 0
    short = arrays["threshold"][inner].astype(np.float32)
    np.testing.assert_array_equal(short, arrays["threshold"][inner])
    again = BoostedTrees.from_state(trees.state())
    np.testing.assert_array_equal(again.log_probabilities(x), trees.log_probabilities(x))


def test_trees_store_the_classes_that_they_were_grown_on():
    x, y = np.arange(40.0)[:, None], np.repeat([0, 3], 20)
    trees = grow_trees(x, np.array([0]), y, np.ones(40))
    assert trees.classes_.tolist() == [0, 3]
    assert (trees.log_probabilities(x).argmax(axis=1) == y // 3).all()


def test_values_that_differ_only_by_rounding_are_not_split():
    x = np.repeat([1.0, 1 + 1e-13, 1 + 2e-13, 2.0, 2 + 1e-15, 3.0], 9)[:, None]
    y = np.repeat([0, 1, 1, 0, 1, 1], 9)
    trees = grow_trees(x, np.array([0]), y, np.ones(len(y)))
    found = trees.log_probabilities(x[::9])
    for first, second in ((0, 1), (0, 2), (3, 4)):
        np.testing.assert_array_equal(found[first], found[second])
    assert found[5, 1] > found[0, 1]


def test_important_statistics_are_found_even_if_their_means_are_equal():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 60))
    y = (np.abs(x[:, 41]) > 0.7).astype(int) + (np.abs(x[:, 7]) > 0.7)
    weight = rng.uniform(0.5, 2, 300)
    found = rank_statistics(x, y, weight)
    np.testing.assert_array_equal(np.sort(found), np.arange(60))
    assert set(found[:2].tolist()) == {7, 41}
    np.testing.assert_array_equal(found, rank_statistics(x, y, weight))  # the same draw
    np.testing.assert_array_equal(found, rank_statistics(1e9 * x + 3, y, weight))


def test_windows_without_weight_do_not_decide_what_is_important():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 10)), np.arange(200) % 2
    counts = np.arange(200) < 100
    x[counts, 3] += 4 * y[counts]
    x[~counts, 8] += 9 * y[~counts]
    assert rank_statistics(x, y, counts.astype(float))[0] == 3


def test_many_iterations_and_a_root_without_split():
    model, x = fitted(2, max_iter=120)
    expected = model.predict_proba(x)
    found = np.exp(trees_of(model).log_probabilities(x))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    stump, x = fitted(3, min_samples_leaf=80)  # so many that no split is allowed
    found = np.exp(trees_of(stump).log_probabilities(x))
    np.testing.assert_allclose(found, stump.predict_proba(x), atol=1e-12)


STATE = trees_of(fitted(3)[0]).state()
INNER = int(np.flatnonzero(STATE["arrays"]["feature"] >= 0)[2])


def changed(name, value, at=None):
    """Return a state with one array, or one element of an array, replaced."""
    state = STATE
    array = state["arrays"][name].copy()
    if at is None:
        array = value(array)
    else:
        array[at] = value
    return {**state, "arrays": {**state["arrays"], name: array}}


@pytest.mark.parametrize(
    ("name", "value", "at"),
    [
        ("left", INNER, INNER),  # a node that is its own child
        ("right", 0, INNER),  # a child that is the root
        ("left", -1, INNER),
        ("right", 2**31 - 1, INNER),
        ("left", -(2**31), INNER),
        ("feature", 5, INNER),
        ("feature", 2**31 - 1, INNER),
        ("value", np.nan, 0),
        ("value", np.inf, -1),
        ("value", 1e308, -1),  # the sum of two such values is infinite
        ("threshold", np.nan, INNER),
        ("baseline", np.nan, 1),
        ("baseline", -np.inf, 1),
        ("root", -1, (0, 0)),
        ("root", 10**6, (1, 1)),
        *(
            (name, lambda a: a[:-1], None)
            for name in ("feature", "left", "right", "threshold", "value", "baseline")
        ),
        ("feature", lambda a: a[:0], None),
        ("feature", lambda a: a[0], None),
        ("feature", lambda a: a[:, None], None),
        ("root", lambda a: a[:, :2], None),
        ("root", lambda a: a[:0], None),
        ("root", np.ravel, None),
        ("baseline", lambda a: a[0], None),
        ("left", lambda a: np.where(a == a.max(), a.max() - 1, a), None),  # two parents
        ("root", lambda a: a[::-1], None),
        ("root", lambda a: np.vstack([a[:-1], a[-1:] + np.int32([[1, 0, 0]])]), None),
    ],
)
def test_impossible_trees_are_refused(name, value, at):
    with pytest.raises(SignalError, match="the stored trees are inconsistent"):
        BoostedTrees.from_state(changed(name, value, at))


def test_a_state_of_a_different_kind_is_refused():
    state = trees_of(fitted(2)[0]).state()
    with pytest.raises(SignalError, match="'feature' of the stored state is int64; expected int32"):
        BoostedTrees.from_state(changed("feature", lambda a: a.astype(np.int64)))
    arrays = {k: v for k, v in state["arrays"].items() if k != "root"}
    with pytest.raises(SignalError, match="lacks the array 'root'"):
        BoostedTrees.from_state({**state, "arrays": arrays})
    with pytest.raises(SignalError, match="of kind 'forest', not 'boosted_trees'"):
        BoostedTrees.from_state({**state, "settings": {"kind": "forest"}})
    for wrong in (0, -1, 2.5, None, True):
        settings = {**state["settings"], "n_statistics": wrong}
        with pytest.raises(ArgumentError, match=r"n_statistics=.* must be .*at least 1"):
            BoostedTrees.from_state({**state, "settings": settings})


@given(data=st.data())
def test_random_damage_is_refused_or_harmless(data):
    state = trees_of(fitted(3)[0]).state()
    arrays = {name: array.copy() for name, array in state["arrays"].items()}
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(arrays)))
        flat = arrays[name].reshape(-1)
        if data.draw(st.booleans()) and len(flat) > 1:
            arrays[name] = flat[: data.draw(st.integers(0, len(flat) - 1))]
            continue
        if len(flat):
            at = data.draw(st.integers(0, len(flat) - 1))
            size = flat.itemsize
            raw = data.draw(st.binary(min_size=size, max_size=size))
            flat[at] = np.frombuffer(raw, flat.dtype)[0]
    try:
        trees = BoostedTrees.from_state({**state, "arrays": arrays})
    except SignalError:
        return
    found = trees.log_probabilities(np.random.default_rng(0).normal(size=(9, 5)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
