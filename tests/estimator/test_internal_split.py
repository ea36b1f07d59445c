"""What `fit` holds out by itself: whole groups, classes in their shares, nothing lost."""

import numpy as np
import pytest
from fits import plain_classifier
from hypothesis import assume, given
from hypothesis import strategies as st

from sensorseq import SensorLSTMRegressor, WindowSet
from sensorseq.errors import InputError, SplitError


def parts_of(estimator, y, **arguments):
    """Rows that `fit` trains on and validates on; every window holds its own row."""
    X = np.ones((len(y), 4, 1)) * np.arange(len(y))[:, None, None]
    given = estimator.set_params(scale=None, hidden_size=2, random_state=0)
    first = given._prepare_fit(X, y, **arguments).jobs[0]
    return [part.X[:, 0, 0].numpy().astype(int) for part in (first.train, first.validation)]


@st.composite
def labelled_groups(draw):
    n_classes = draw(st.integers(2, 4))
    mixed = draw(st.booleans())
    y, groups = [], []
    for label in range(n_classes):
        for number in range(draw(st.integers(1, 6))):
            size = draw(st.integers(1, 9))
            y += [f"class {label}"] * size
            groups += [f"{number}" if mixed else f"{label} {number}"] * size
    return np.array(y), np.array(groups)


@pytest.mark.filterwarnings("ignore:class .* of y has one window")
@given(data=labelled_groups(), fraction=st.sampled_from([0.1, 0.2, 0.5]))
def test_a_classifier_holds_out_whole_groups_and_trains_on_every_class(data, fraction):
    y, groups = data
    assume(any(len(set(groups[y == label])) > 1 for label in set(y)))
    clf = plain_classifier(validation_fraction=fraction)
    try:
        train, validation = parts_of(clf, y, groups=groups)
    except SplitError:  # only where every group is the only one of some class
        alone = {label for label in set(y) if len(set(groups[y == label])) == 1}
        assert all(set(y[groups == group]) & alone for group in set(groups))
        return
    assert sorted([*train, *validation]) == list(range(len(y)))
    assert not set(groups[train]) & set(groups[validation])
    assert set(y[train]) == set(y)
    assert list(clf.classes_) == sorted(set(y))
    for label in set(y):  # a class of one group is learned, not validated
        if len(set(groups[y == label])) == 1:
            assert label not in y[validation]


@pytest.mark.filterwarnings("ignore:class .* of y has one window")
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    fraction=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_without_groups_each_class_gives_its_share_and_keeps_a_window(counts, fraction):
    assume(max(counts) > 1)
    y = np.repeat(np.arange(len(counts)), counts)
    train, validation = parts_of(plain_classifier(validation_fraction=fraction), y)
    assert sorted([*train, *validation]) == list(range(len(y)))
    assert set(y[train]) == set(y)
    for label, count in enumerate(counts):
        taken = (y[validation] == label).sum()
        assert min(np.floor(count * fraction), count - 1) <= taken
        assert taken <= max(np.ceil(count * fraction), 1)


def test_a_regressor_holds_out_whole_groups_as_well():
    groups = np.repeat(np.arange(12), 5)
    y = np.random.default_rng(0).normal(size=60)
    train, validation = parts_of(SensorLSTMRegressor(), y, groups=groups)
    assert not set(groups[train]) & set(groups[validation])
    assert sorted([*train, *validation]) == list(range(60))
    assert 0.1 < len(validation) / 60 < 0.3


def test_own_validation_windows_take_the_place_of_held_out_ones():
    y = np.arange(20) % 2
    train, validation = parts_of(
        plain_classifier(), y, X_val=np.full((3, 4, 1), 99.0), y_val=[0, 1, 1]
    )
    assert list(train) == list(range(20))
    assert list(validation) == [99] * 3


def test_window_sets_that_share_a_recording_are_refused_as_training_and_validation():
    X, y = np.zeros((6, 4, 1), np.float32), np.arange(6) % 2
    train = WindowSet(X, y=y, recording_id=np.array(list("aabbcc")))
    validation = WindowSet(X, y=y, recording_id=np.array(list("ccddee")))
    with pytest.raises(InputError, match="group 'c' is in both groups and groups_val"):
        plain_classifier().fit(train, X_val=validation)
