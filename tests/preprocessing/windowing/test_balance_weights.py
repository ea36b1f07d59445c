import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from sensorseq.preprocessing.windowing.balance import balanced_weights, weights_of_few_recordings

counts_of_classes = st.lists(st.integers(1, 400), min_size=1, max_size=6)


def labels(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(counts=counts_of_classes)
def test_balanced_weights_are_those_of_scikit_learn_and_have_mean_one(counts):
    y = labels(counts)
    found = balanced_weights(np.bincount(y))
    theirs = compute_class_weight("balanced", classes=np.unique(y), y=y)
    np.testing.assert_allclose(found, theirs, rtol=1e-14)
    assert found[y].mean() == pytest.approx(1, rel=1e-12)


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
