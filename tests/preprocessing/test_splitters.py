import numpy as np
import pytest
import sklearn
from cut_windows import grouped_windows
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_validate,
)

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing.splitters import (
    BlockedTimeSplit,
    GroupBalancedKFold,
)
from sensorseq.windows import WindowSet


def folds_of(splitter, y, groups):
    try:
        return list(splitter.split(np.zeros(len(y)), y, groups))
    except SplitError as error:
        assume("no assignment" not in str(error))
        raise


def assert_same_tests(folds, others):
    for (_, test), (_, other) in zip(folds, others, strict=True):
        np.testing.assert_array_equal(test, other)


@given(data=grouped_windows(3), n_splits=st.integers(2, 3), seed=st.integers(0, 100))
def test_folds_part_the_windows_keep_groups_whole_and_have_every_class(data, n_splits, seed):
    y, groups = data
    folds = folds_of(GroupBalancedKFold(n_splits, random_state=seed), y, groups)
    assert len(folds) == n_splits
    tested = np.concatenate([test for _, test in folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(y)))
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
        assert not set(groups[train]) & set(groups[test])
        assert set(y[train]) == set(y[test]) == set(y)


@settings(max_examples=3)
@given(data=grouped_windows(3), seed=st.integers(0, 100))
def test_the_same_seed_gives_the_same_folds_whatever_groups_are_called(data, seed):
    y, groups = data
    splitter = GroupBalancedKFold(2, random_state=seed)
    names = np.random.default_rng(seed).permutation(1000)[groups]
    called = groups, groups, np.char.mod("g%d", names)
    first, again, renamed = (folds_of(splitter, y, names_of) for names_of in called)
    assert_same_tests(first, again)
    assert_same_tests(first, renamed)


def problem(seed, spans):
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    y, groups = [], []
    for index in range(int(rng.integers(n_classes * 5, n_classes * 5 + 60))):
        size = int(rng.lognormal(3, 0.8)) + 1
        groups += [index] * size
        shares = rng.dirichlet(np.full(n_classes, 0.5))
        y += list(rng.choice(n_classes, size, p=shares)) if spans else [index % n_classes] * size
    return np.array(y), np.array(groups)


def unevenness(y, tests, share):
    total = np.bincount(y)
    shares = [np.bincount(y[test], minlength=len(total)) / total for test in tests]
    return float(np.mean((np.array(shares) - share) ** 2))


@pytest.mark.trains
@pytest.mark.parametrize("n_splits", [3, 5])
@pytest.mark.parametrize("spans", [False, True])
def test_folds_are_at_least_as_balanced_as_those_of_scikit_learn(n_splits, spans):
    ours, theirs = [], []
    for seed in range(8):
        y, groups = problem(seed, spans)
        for splitter, found in (
            (GroupBalancedKFold(n_splits), ours),
            (StratifiedGroupKFold(n_splits, shuffle=True, random_state=0), theirs),
        ):
            tests = [test for _, test in splitter.split(y, y, groups)]
            found.append(unevenness(y, tests, 1 / n_splits))
    assert all(own <= other + 1e-12 for own, other in zip(ours, theirs, strict=True))
    assert np.mean(ours) < np.mean(theirs)


def test_a_window_set_has_its_own_labels_groups_and_recordings():
    y, groups = np.tile(["ice", "mud"], 40), np.arange(80) // 8
    recordings = np.arange(80) // 4
    windows = WindowSet(np.zeros((80, 3, 1)), y=y, groups=groups, recording_id=recordings)
    X = windows.X
    splitter = GroupBalancedKFold(4)
    assert_same_tests(splitter.split(windows), splitter.split(X, y, groups))
    whole = list(GroupBalancedKFold(4, by="recording").split(windows))
    assert_same_tests(whole, GroupBalancedKFold(4).split(X, y, recordings))
    assert any(set(groups[train]) & set(groups[test]) for train, test in whole)
    with pytest.raises(ArgumentError, match="the WindowSet X already has groups"):
        next(GroupBalancedKFold(4).split(windows, groups=groups))


@pytest.mark.parametrize("routing", [False, True])
def test_scikit_learn_accepts_the_splitter(routing):
    splitter = GroupBalancedKFold(3)
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(120, 4)), np.tile([0, 1], 60), np.arange(120) // 10
    with sklearn.config_context(enable_metadata_routing=routing):
        passed = {"params": {"groups": groups}} if routing else {"groups": groups}
        found = cross_validate(LogisticRegression(), X, y, cv=splitter, **passed)
        search = GridSearchCV(LogisticRegression(), {"C": [0.1]}, cv=splitter)
        search.fit(X, y, groups=groups)
    assert len(found["test_score"]) == 3
    assert search.n_splits_ == splitter.get_n_splits() == 3
    assert "n_splits=3" in repr(splitter)


def test_numbers_that_are_not_classes_are_not_balanced():
    groups = np.arange(60) // 6
    values = np.random.default_rng(0).normal(size=60)
    folds = list(GroupBalancedKFold(5).split(groups, values, groups))
    assert [len(test) for _, test in folds] == [12] * 5
    assert_same_tests(folds, GroupBalancedKFold(5).split(groups, None, groups))


def test_the_error_for_too_many_folds_has_the_groups_of_each_class():
    y = np.repeat(["ice", "mud"], [70, 30])
    groups = np.arange(100) // 10
    with pytest.raises(SplitError, match=r"class 'mud' is in 3 groups.*n_splits=5.*ice 7, mud 3"):
        next(GroupBalancedKFold(5).split(y, y, groups))
    with pytest.raises(SplitError, match="Use n_splits=3 or fewer"):
        next(GroupBalancedKFold(5).split(y, y, groups))
    with pytest.raises(SplitError, match="the windows are in 10 groups, too few"):
        next(GroupBalancedKFold(11).split(y, None, groups))


def test_a_class_in_one_group_only_is_named_with_it():
    y = np.repeat(["ice", "mud"], [70, 10])
    with pytest.raises(SplitError, match=r"class 'mud' is in only one group \(7\)"):
        next(GroupBalancedKFold(2).split(y, y, np.arange(80) // 10))


def test_arguments_are_checked():
    y = np.tile([0, 1], 10)
    kinds = GroupBalancedKFold, BlockedTimeSplit
    for splitter, arrays, error, said in (
        (GroupBalancedKFold(2), (y, y), ArgumentError, "groups is missing"),
        (GroupBalancedKFold(2), (y, y, [0, 1]), SplitError, "groups has shape"),
        (GroupBalancedKFold(2), (y, [0], y), SplitError, "y has 1 value,"),
        (GroupBalancedKFold(2, by="recordings"), (y, y, y), ArgumentError, "'recording'"),
        *(
            (kind(n), (y, y, y), ArgumentError, "n_splits")
            for n in (1, 2.0, True)
            for kind in kinds
        ),
    ):
        with pytest.raises(error, match=said):
            next(splitter.split(*arrays))


# Folds of time


@st.composite
def timed_windows(draw):
    """Draw windows of recordings with holes; the windows may overlap and are in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    window_s = draw(st.sampled_from([0.5, 1.0, 5.0]))
    hop_s = window_s * draw(st.sampled_from([0.25, 0.5, 1.0]))
    recording, start = [], []
    for name in range(draw(st.integers(1, 4))):
        steps = np.cumsum(rng.choice([1, 1, 1, 1, 7], draw(st.integers(15, 60))))
        recording += [f"run {name}"] * len(steps)
        start += list(rng.choice([0.0, 1.7e9]) + hop_s * steps)
    order = rng.permutation(len(start))
    return np.array(recording)[order], np.array(start)[order], window_s


EMBARGOES = st.sampled_from([None, 0.0, 0.5, 2.0])


@given(data=timed_windows(), n_splits=st.integers(2, 4), embargo=EMBARGOES)
def test_no_training_window_comes_closer_to_a_test_window_than_the_embargo(data, n_splits, embargo):
    recording, start, window_s = data
    embargo_s = None if embargo is None else embargo * window_s
    splitter = BlockedTimeSplit(n_splits, embargo_s)
    try:
        folds = list(splitter.split(start, None, recording, start_s=start, window_s=window_s))
    except SplitError as error:
        if "to train on" not in str(error):
            raise
        return
    tested = np.concatenate([test for _, test in folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(start)))
    least = window_s if embargo_s is None else embargo_s
    for train, test in folds:
        same = recording[train][:, None] == recording[test]
        gap = np.abs(start[train][:, None] - start[test]) - window_s
        assert (gap[same] >= least - 1e-5 * window_s - 1e-6).all()
        # No window is left out unnecessarily.
        others = np.setdiff1d(np.arange(len(start)), np.r_[train, test])
        same = recording[others][:, None] == recording[test]
        gap = np.abs(start[others][:, None] - start[test]) - window_s
        assert (np.where(same, gap, np.inf).min(axis=1) < least).all()


def test_each_fold_tests_a_block_of_every_recording():
    recording, start = np.repeat(["a", "b"], [20, 10]), np.r_[np.arange(20.0), np.arange(10.0)]
    own = {"recording_id": recording, "start_s": start, "sample_rate_hz": 10.0}
    windows = WindowSet(np.zeros((30, 10, 1)), **own)
    folds = list(BlockedTimeSplit(5).split(windows))
    for fold, (train, test) in enumerate(folds):
        np.testing.assert_array_equal(start[test][:4], np.arange(4) + 4 * fold)
        np.testing.assert_array_equal(start[test][4:], np.arange(2) + 2 * fold)
        near = 2 if fold in (0, 4) else 4  # one window before and after each of the two blocks
        assert len(train) == 24 - near
    X = np.random.default_rng(0).normal(size=(30, 2))
    found = cross_validate(LogisticRegression(), X, np.arange(30) % 2, cv=folds)
    assert len(found["test_score"]) == BlockedTimeSplit(5).get_n_splits()


def test_copies_of_a_window_are_tested_together():
    start = np.repeat(np.arange(20.0), 3)
    times = {"start_s": start, "window_s": 1.0}
    for train, test in BlockedTimeSplit(4, 0.0).split(start, None, np.zeros(60), **times):
        assert not set(start[train]) & set(start[test])


def test_missing_data_for_folds_in_time_is_named():
    start, y = np.arange(12.0), np.repeat(["ice", "mud"], [9, 3])
    recording = y.copy()
    times = {"start_s": start, "window_s": 1.0}
    with pytest.raises(SplitError, match=r"longest recording has 9 window"):
        list(BlockedTimeSplit(10).split(start, y, recording, **times))
    with pytest.raises(SplitError, match=r"fold 1 .* no window of class 'mud'.*within 1 s"):
        list(BlockedTimeSplit(3).split(start, y, recording, **times))
    assert len(list(BlockedTimeSplit(3, 0.0).split(start, y, recording, **times))) == 3
    for lacking, name in ((None, "recordings"), (recording, "start_s")):
        with pytest.raises(ArgumentError, match=f"needs {name}"):
            next(BlockedTimeSplit(2).split(start, y, lacking))
    with pytest.raises(ArgumentError, match="window_s"):
        next(BlockedTimeSplit(2).split(start, y, recording, start_s=start))
    with pytest.raises(ArgumentError, match="embargo_s"):
        next(BlockedTimeSplit(2, -1).split(start, y, recording, **times))
