"""Cross-validation gives scikit-learn's results for every kind of input of `fit`."""

import joblib
import numpy as np
import pytest
import sklearn
from fits import PLAIN
from remedies.problems import tones
from sklearn import model_selection
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import InputError, LeakWarning
from sensorseq.estimator import classifier
from sensorseq.io.prepared import write_windows
from sensorseq.model_selection import cross_validate
from sensorseq.preprocessing.splitters import GroupBalancedKFold

X, Y = tones(48, 0, n_timesteps=12, noise=0.3, first=0.2, step=0.5)
GROUPS = np.arange(len(X)) // 3
CV = StratifiedKFold(2)


def small(**arguments):
    settings = {"hidden_size": 3, "max_epochs": 2, "learning_rate": 0.03, "device": "cpu"}
    return SensorLSTMClassifier(**{**PLAIN, **settings, "random_state": 0, **arguments})


def assert_same_results(ours, theirs):
    assert list(ours) == list(theirs)
    for name, wanted in theirs.items():
        if not name.endswith("_time"):
            np.testing.assert_equal(ours[name], wanted, err_msg=name)
        else:
            assert (ours[name] >= 0).all()


def as_list(windows):
    return [window[: 8 + i % 5] for i, window in enumerate(windows)]


@pytest.mark.parametrize("windows", [X[:, :, 0], as_list(X)], ids=["table", "list"])
def test_every_kind_of_windows_is_accepted(windows):
    ours = cross_validate(small(), windows, Y, cv=CV)
    assert_same_results(ours, model_selection.cross_validate(small(), windows, Y, cv=CV))


def test_lengths_reach_fits_and_scores():
    lengths = 8 + np.arange(len(X)) % 5
    poisoned = X.copy()
    poisoned[np.arange(X.shape[1]) >= lengths[:, None]] = np.nan
    ours = cross_validate(small(), poisoned, Y, lengths=lengths, cv=CV)
    assert_same_results(ours, cross_validate(small(), as_list(X), Y, cv=CV))
    with pytest.raises(InputError, match="give a list of windows or a WindowSet"):
        cross_validate(small(), X, Y, lengths=lengths, scoring="accuracy")


def test_groups_stay_whole_in_folds_and_inside_every_fit(monkeypatch):
    seen = []
    original = classifier.hold_out

    def watch(*arguments):
        data = original(*arguments)
        parts = data.train, data.validation
        groups = [np.unique(_groups_of(part.X)) for part in parts]
        seen.append((np.unique(data.windows.groups), *groups))
        return data

    def _groups_of(windows):
        return [int(np.flatnonzero((window == X).all(axis=(1, 2)))[0]) // 3 for window in windows]

    monkeypatch.setattr(classifier, "hold_out", watch)
    ours = cross_validate(small(), X, Y, groups=GROUPS)
    assert len(seen) == 5
    for everything, train, validation in seen:
        # some groups are missing, because complete folds are left out
        assert len(everything) < len(np.unique(GROUPS))
        assert not set(train) & set(validation)
        assert set(train) | set(validation) == set(everything)
    with sklearn.config_context(enable_metadata_routing=True):
        theirs = model_selection.cross_validate(
            small(), X, Y, cv=GroupBalancedKFold(5), params={"groups": GROUPS}
        )
    assert_same_results(ours, theirs)


def test_a_number_of_folds_means_folds_of_groups_when_there_are_groups():
    results = cross_validate(small(), X, Y, groups=GROUPS, cv=3, return_indices=True)
    folds = GroupBalancedKFold(3).split(X, Y, GROUPS)
    for rows, (_, test) in zip(results["indices"]["test"], folds, strict=True):
        np.testing.assert_array_equal(rows, test)


def test_a_window_set_has_its_own_labels_and_groups():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)
    ours = cross_validate(small(), windows, cv=2)
    theirs = cross_validate(small(), X.astype(np.float32), Y, groups=GROUPS, cv=2)
    assert_same_results(ours, theirs)
    split = WindowSet(X.astype(np.float32), y=Y, split=["train"] * len(X))
    with pytest.raises(InputError, match=r'give X.part\("train"\)'):
        cross_validate(small(), split)


@pytest.mark.parametrize(
    ("groups", "cv", "advice"),
    [
        (None, 3, "Give groups= with the recording of each window"),
        (np.arange(48) // 12, 2, "Windows of different groups overlap"),
        (
            np.arange(48) // 24,
            list(StratifiedKFold(3).split(X, np.arange(48) % 2)),
            "cv splits group 0",
        ),
    ],
    ids=["no groups", "groups that share samples", "groups that cv ignores"],
)
def test_windows_that_overlap_across_folds_cause_a_warning(groups, cv, advice):
    signal = np.random.default_rng(0).normal(size=(300, 1))
    windows = np.stack([signal[i : i + 20] for i in range(0, 240, 5)])
    clf = small(validation_fraction=0, early_stopping=False, max_epochs=1)
    with pytest.warns(LeakWarning) as caught:
        cross_validate(clf, windows, np.arange(48) % 2, groups=groups, cv=cv)
    messages = [str(warning.message) for warning in caught]
    (message,) = [message for message in messages if "of the first fold" in message]
    assert "test windows of the first fold overlap training windows" in message
    assert advice in message


@pytest.mark.parametrize("scoring", [None, ["accuracy", "f1_macro"]], ids=str)
def test_cross_validation_gives_the_scores_of_scikit_learns(scoring):
    options = {"cv": CV, "scoring": scoring, "return_train_score": True, "return_estimator": True}
    ours = cross_validate(small(), X, Y, **options)
    theirs = model_selection.cross_validate(small(), X, Y, **options)
    fitted = [results.pop("estimator") for results in (ours, theirs)]
    assert_same_results(ours, theirs)
    for estimator, wanted in zip(*fitted, strict=True):
        np.testing.assert_array_equal(estimator.predict_proba(X), wanted.predict_proba(X))


def test_scikit_learns_search_keeps_the_groups_of_a_window_set():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)
    search = GridSearchCV(small(), {"learning_rate": [0.003, 0.03]}, cv=GroupBalancedKFold(3))
    search.fit(windows, windows.y)
    for number, rate in enumerate((0.003, 0.03)):
        wanted = cross_validate(small(learning_rate=rate), windows, cv=3)["test_score"]
        scores = [search.cv_results_[f"split{fold}_test_score"][number] for fold in range(3)]
        np.testing.assert_array_equal(scores, wanted)
    assert search.best_estimator_.preparation_ is not None


@pytest.mark.long
def test_processes_give_the_same_scores_and_networks():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)
    here = cross_validate(small(), windows, cv=3, return_estimator=True)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        there = cross_validate(small(), windows, cv=3, return_estimator=True)
    fitted = [results.pop("estimator") for results in (here, there)]
    assert_same_results(there, here)
    for one, other in zip(*fitted, strict=True):
        np.testing.assert_array_equal(one.predict_proba(windows), other.predict_proba(windows))


def test_one_hot_labels_with_groups_give_the_folds_of_labels():
    how = {"groups": GROUPS, "cv": 2, "return_indices": True}
    wanted = cross_validate(small(), X, Y, **how)
    results = cross_validate(small(), X, np.eye(3)[Y], **how)
    np.testing.assert_equal(results["indices"], wanted["indices"])
    np.testing.assert_array_equal(results["test_score"], wanted["test_score"])


def test_the_error_for_a_file_with_a_split_says_how_to_read_its_training_part(tmp_path):
    windows = WindowSet(X.astype(np.float32), y=Y, split=["train", "test"] * (len(X) // 2))
    write_windows(tmp_path / "w.h5", windows)
    with pytest.raises(InputError, match=r'already has a split.*read_windows\(X, "train"'):
        cross_validate(small(), tmp_path / "w.h5")
