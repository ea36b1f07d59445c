"""`fit` draws a validation part of whole groups and of all classes, and loses no window."""

import numpy as np
import pytest
from fits import plain_classifier
from hypothesis import assume, given
from hypothesis import strategies as st

from sensorseq import WindowSet
from sensorseq.errors import InputError, LeakWarning, SplitError
from sensorseq.estimator.fit import make_jobs
from sensorseq.estimator.fit_windows import check_arguments, hold_out, read_windows, scale_windows
from sensorseq.estimator.plan import make_plan


def prepare_fit(estimator, X, y, **options):
    """Do what `fit` does before training."""
    arguments = check_arguments(estimator.get_params())
    scaled = scale_windows(arguments, hold_out(arguments, read_windows(arguments, X, y, **options)))
    return arguments, scaled, make_jobs(arguments, scaled)


def parts_of(estimator, y, **arguments):
    """Indices of windows that `fit` trains and validates on; each window contains its index."""
    X = np.ones((len(y), 4, 1)) * np.arange(len(y))[:, None, None]
    configured = estimator.set_params(scale=None, hidden_size=2, random_state=0)
    first = prepare_fit(configured, X, y, **arguments)[2][0]
    return [part.X[:, 0, 0].numpy().astype(int) for part in (first.train, first.validation)]


@st.composite
def labeled_groups(draw):
    n_classes = draw(st.integers(2, 4))
    mixed = draw(st.booleans())
    y, groups = [], []
    for label in range(n_classes):
        for number in range(draw(st.integers(1, 6))):
            size = draw(st.integers(1, 9))
            y += [f"class {label}"] * size
            groups += [f"{number}" if mixed else f"{label} {number}"] * size
    return np.array(y), np.array(groups)


@pytest.mark.filterwarnings("ignore:class .* of y has only one window")
@pytest.mark.filterwarnings("ignore:too few groups can be held out")
@given(data=labeled_groups(), fraction=st.sampled_from([0.1, 0.2, 0.5]))
def test_a_classifier_holds_out_whole_groups_and_trains_on_every_class(data, fraction):
    y, groups = data
    assume(any(len(set(groups[y == label])) > 1 for label in set(y)))
    clf = plain_classifier(validation_fraction=fraction)
    try:
        train, validation = parts_of(clf, y, groups=groups)
    except SplitError:  # raised only if every group has a class that no other group has
        alone = {label for label in set(y) if len(set(groups[y == label])) == 1}
        assert all(set(y[groups == group]) & alone for group in set(groups))
        return
    assert set(y[train]) == set(y)
    if set(groups[train]) & set(groups[validation]):  # too few groups; tested below
        return
    assert sorted([*train, *validation]) == list(range(len(y)))
    for label in set(y):  # a class with one group is in training, not in validation
        if len(set(groups[y == label])) == 1:
            assert label not in y[validation]


@pytest.mark.parametrize("hop_s", [None, 1.0, 0.4])
def test_the_end_of_each_recording_is_held_out_if_no_whole_recording_can_be(hop_s):
    recording = np.repeat([0, 1, 2], [40, 30, 20])
    order = np.concatenate([np.arange(40), np.arange(30), np.arange(20)])
    X = np.ones((90, 10, 1)) * np.arange(90)[:, None, None]
    y, options = recording, {"groups": recording}
    if hop_s is not None:  # windows of one second
        fields = {"start_s": hop_s * order, "sample_rate_hz": 10.0, "channels": ("current",)}
        X = WindowSet(X, y=y, recording_id=recording, **fields)
        y, options = None, {}
    clf = plain_classifier(scale=None, hidden_size=2, refit="auto", features="summary")
    with pytest.warns(LeakWarning, match="expect lower accuracy on other recordings"):
        arguments, scaled, jobs = prepare_fit(clf, X, y, **options)
    plan = make_plan(arguments.parameters, scaled, jobs, arguments.entropy)
    folds = plan.windows.folds
    assert len(folds) == 3
    rows = plan.windows.part.rows
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(rows)))
    apart = 2.0 / (hop_s or 1.0)  # the length of a window plus a gap of the same length
    for fit, test in folds:
        for k in range(3):
            mine = [order[part[recording[part] == k]] for part in (rows[fit], rows[test])]
            assert np.abs(np.subtract.outer(*mine)).min() >= apart - 1e-9
    held_out = rows[folds[0][1]]
    assert np.bincount(recording[held_out]).tolist() == [8, 6, 4]
    assert (order[held_out] >= 0.8 * np.array([40, 30, 20])[recording[held_out]]).all()
    with pytest.warns(LeakWarning):
        clf.set_params(max_epochs=1, early_stopping=False).fit(X, y, **options)
    assert "share groups" in clf.features_.reason


@pytest.mark.filterwarnings("ignore:class .* of y has only one window")
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


def test_given_validation_windows_replace_held_out_windows():
    y = np.arange(20) % 2
    apart = {"X_val": np.full((3, 4, 1), 99.0), "y_val": [0, 1, 1]}
    train, validation = parts_of(plain_classifier(), y, **apart)
    assert list(train) == list(range(20))
    assert list(validation) == [99] * 3


def test_window_sets_that_share_a_recording_are_refused_as_training_and_validation():
    X, y = np.zeros((6, 4, 1), np.float32), np.arange(6) % 2
    train = WindowSet(X, y=y, recording_id=np.array(list("aabbcc")))
    validation = WindowSet(X, y=y, recording_id=np.array(list("ccddee")))
    with pytest.raises(InputError, match="group 'c' is in both groups and groups_val"):
        plain_classifier().fit(train, X_val=validation)
