from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.balance import STRATEGIES, balance_indices

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def labels(counts, seed):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(counts=counts_of_classes, seed=st.integers(0, 100), strategy=st.sampled_from(STRATEGIES))
@settings(max_examples=60, deadline=None)
def test_every_class_has_equally_many(counts, seed, strategy):
    y = labels(counts, seed)
    chosen = balance_indices(y, None, strategy, seed)
    wanted = min(counts) if strategy == "undersample" else max(counts)
    np.testing.assert_array_equal(np.bincount(y[chosen]), [wanted] * len(counts))
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    np.testing.assert_array_equal(chosen, balance_indices(y, None, strategy, seed))


@given(counts=counts_of_classes, seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_undersampling_repeats_none_and_oversampling_loses_none(counts, seed):
    y = labels(counts, seed)
    groups = np.random.default_rng(seed).integers(0, 4, len(y))
    for group in (None, groups):
        under = balance_indices(y, group, "undersample", seed)
        assert len(np.unique(under)) == len(under)
        over = balance_indices(y, group, "oversample", seed)
        assert set(over) == set(range(len(y)))
        for label in range(len(counts)):
            copies = np.array(list(Counter(over[y[over] == label]).values()))
            assert copies.max() - copies.min() <= 1


def test_groups_give_windows_in_turns():
    y = np.repeat(["ice", "mud"], [1000, 12])
    groups = np.r_[np.repeat([0, 1, 2], [980, 18, 2]), np.full(12, 3)]
    chosen = balance_indices(y, groups, "undersample", 0)
    np.testing.assert_array_equal(np.bincount(groups[chosen]), [5, 5, 2, 12])


def test_other_seeds_choose_other_windows():
    y = np.repeat([0, 1], [100, 10])
    assert len({tuple(balance_indices(y, random_state=seed)) for seed in range(10)}) == 10


def test_every_window_is_as_likely_as_the_others():
    y = np.repeat([0, 1], [20, 5])
    times = sum(np.bincount(balance_indices(y, random_state=s), minlength=25) for s in range(2000))
    np.testing.assert_allclose(times[:20], 500, atol=6 * np.sqrt(2000 * 0.25 * 0.75))


@pytest.mark.parametrize(
    ("strategy", "peer"),
    [("undersample", "RandomUnderSampler"), ("oversample", "RandomOverSampler")],
)
def test_counts_are_those_of_imbalanced_learn(strategy, peer):
    module = pytest.importorskip(f"imblearn.{strategy.removesuffix('sample')}_sampling")
    y = labels([31, 7, 18], 0)
    X = np.arange(len(y) * 2.0).reshape(-1, 2)
    theirs = getattr(module, peer)(random_state=0).fit_resample(X, y)[1]
    ours = y[balance_indices(y, None, strategy, 0)]
    assert Counter(ours.tolist()) == Counter(theirs.tolist())


def test_errors_say_what_is_wrong():
    with pytest.raises(ArgumentError, match="Did you mean 'oversample'"):
        balance_indices([0, 1], strategy="over_sample")
    with pytest.raises(WindowError, match="at least one"):
        balance_indices([])
    with pytest.raises(WindowError, match="groups has shape"):
        balance_indices([0, 1], [0])
