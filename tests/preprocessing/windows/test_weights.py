import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.windows.balance import KINDS, class_weights, weights_of_few_recordings

counts_of_classes = st.lists(st.integers(1, 400), min_size=1, max_size=6)


def labels(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(counts=counts_of_classes, kind=st.sampled_from(KINDS), seed=st.integers(0, 50))
def test_the_mean_weight_of_all_windows_is_one(counts, kind, seed):
    y = labels(counts, seed)
    weight = np.random.default_rng(seed).uniform(0.1, 3, len(y))
    for sample_weight in (None, weight):
        found = class_weights(y, kind, sample_weight=sample_weight)
        of_window = np.array([found[label] for label in y.tolist()])
        assert np.average(of_window, weights=sample_weight) == pytest.approx(1, rel=1e-12)


@given(counts=counts_of_classes)
def test_balanced_weights_are_those_of_scikit_learn(counts):
    y = labels(counts)
    theirs = compute_class_weight("balanced", classes=np.unique(y), y=y)
    np.testing.assert_allclose(list(class_weights(y).values()), theirs, rtol=1e-14)


def test_the_effective_number_equals_that_of_the_paper():
    # Compute equation 2 as an explicit sum: E_n = 1 + beta + ... + beta**(n - 1).
    beta, counts = 0.9, [1, 2, 30]
    effective = [sum(beta**power for power in range(count)) for count in counts]
    expected = np.reciprocal(effective)
    expected *= sum(counts) / np.dot(expected, counts)
    found = class_weights(labels(counts), "effective_number", beta)
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-13)


def test_beta_leads_from_no_weights_to_balanced_ones():
    y = labels([500, 20, 3])
    assert set(class_weights(y, "effective_number", 0).values()) == {1.0}
    close = class_weights(y, "effective_number", 1 - 1e-12)
    np.testing.assert_allclose(list(close.values()), list(class_weights(y).values()), rtol=1e-8)
    betas = (0.5, 0.9, 0.99, 0.999, 0.9999)
    found = [class_weights(y, "effective_number", beta) for beta in betas]
    ratios = [weights[2] / weights[0] for weights in found]
    assert ratios == sorted(ratios)


@given(counts=counts_of_classes, kind=st.sampled_from(KINDS))
def test_a_window_of_weight_two_counts_as_two(counts, kind):
    y = labels(counts)
    twice = class_weights(y, kind, sample_weight=np.full(len(y), 2.0))
    assert twice == pytest.approx(class_weights(np.repeat(y, 2), kind))


def test_labels_keep_their_type():
    assert set(class_weights(["ice", "mud", "mud"])) == {"ice", "mud"}
    assert class_weights(["ice", "mud", "mud", "mud"]) == {"ice": 2.0, "mud": 2 / 3}


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_an_invalid_weight_is_refused_with_its_row(weight):
    with pytest.raises(WindowError, match=rf"sample_weight\[1\] is {weight}"):
        class_weights([0, 1, 1], sample_weight=[1.0, weight, 1.0])


def test_errors_say_what_is_wrong():
    for y, weight, said in (
        (["ice", "mud"], [1, 0], r"class 'mud'.*leave the class out"),
        ([], None, "at least one"),
        ([0, 1], [1], "sample_weight has 1 value, but y has 2 windows"),
        ([0, 1], ["a", "b"], "sample_weight has type <U1"),
    ):
        with pytest.raises(WindowError, match=said):
            class_weights(y, sample_weight=weight)
    with pytest.raises(ArgumentError, match="Did you mean 'effective_number'"):
        class_weights([0, 1], "effective")
    for beta in (1.0, -0.1, np.nan, "0.9", True):
        with pytest.raises(ArgumentError, match="beta"):
            class_weights([0, 1], "effective_number", beta)


def test_classes_of_few_recordings_count_equally():
    recording = np.repeat(np.arange(10), [40, 3, 9, 5, 60, 7, 2, 2, 80, 31])
    y = recording % 2  # five recordings of each class
    weight = weights_of_few_recordings(recording, y)
    total = np.bincount(y, weights=weight)
    assert total[0] == pytest.approx(total[1])
    assert weight.mean() == pytest.approx(1)
    # Class numbers may have gaps, and a group with both classes counts as two recordings.
    for groups, target in ((recording, 2 * y), (recording // 2, y)):
        np.testing.assert_allclose(weights_of_few_recordings(groups, target), weight)
    more = np.append(recording, 10)
    assert weights_of_few_recordings(more, more % 2) is None
