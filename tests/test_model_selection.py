"""Search and cross-validation give scikit-learn's results for every kind of input of `fit`."""

import joblib
import numpy as np
import pytest
import sklearn
from fits import PLAIN, plain_classifier
from remedies.problems import tones
from sklearn import model_selection
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import ArgumentError, InputError, LeakWarning
from sensorseq.estimator import classifier
from sensorseq.io.prepared import write_windows
from sensorseq.model_selection import SequenceSearchCV, cross_validate
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


def search_both(estimator, grid, X=X, y=Y, search=GridSearchCV, **options):
    """Search with our class and with scikit-learn's; compare the two searches and return both."""
    ours = SequenceSearchCV(estimator, grid, **options).fit(X, y)
    theirs = search(estimator, grid, **options).fit(X, y)
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    return ours, theirs


RATES = {"learning_rate": [0.003, 0.03]}


def test_a_search_finds_what_grid_search_finds():
    ours, theirs = search_both(small(), RATES, cv=CV)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_a_random_search_draws_the_candidates_of_scikit_learns():
    grid = {"learning_rate": [0.001, 0.003, 0.01, 0.03], "batch_size": [4, 8, 16]}
    options = {"n_iter": 3, "random_state": 4, "cv": CV, "refit": False}
    ours, _ = search_both(small(), grid, search=RandomizedSearchCV, **options)
    assert not hasattr(ours, "best_estimator_")


def test_several_scores_of_both_parts_are_those_of_scikit_learn():
    options = {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss", "cv": CV}
    options["return_train_score"] = True
    ours, theirs = search_both(small(), RATES, **options)
    assert ours.score(X, Y) == theirs.score(X, Y)


def as_list(windows):
    return [window[: 8 + i % 5] for i, window in enumerate(windows)]


@pytest.mark.parametrize("windows", [X[:, :, 0], as_list(X)], ids=["table", "list"])
def test_every_kind_of_windows_is_accepted(windows):
    search_both(small(), RATES, windows, cv=CV)


def test_lengths_reach_fits_and_scores():
    lengths = 8 + np.arange(len(X)) % 5
    poisoned = X.copy()
    poisoned[np.arange(X.shape[1]) >= lengths[:, None]] = np.nan
    ours = SequenceSearchCV(small(), RATES, cv=CV).fit(poisoned, Y, lengths=lengths)
    theirs = SequenceSearchCV(small(), RATES, cv=CV).fit(as_list(X), Y)
    assert_same_results(ours.cv_results_, theirs.cv_results_)
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
    rates = {"learning_rate": [0.003]}
    search = SequenceSearchCV(small(), rates, refit=False).fit(X, Y, groups=GROUPS)
    assert search.n_splits_ == 5
    assert len(seen) == 5
    for everything, train, validation in seen:
        # some groups are missing, because complete folds are left out
        assert len(everything) < len(np.unique(GROUPS))
        assert not set(train) & set(validation)
        assert set(train) | set(validation) == set(everything)
    with sklearn.config_context(enable_metadata_routing=True):
        theirs = GridSearchCV(small(), rates, cv=GroupBalancedKFold(5), refit=False)
        theirs.fit(X, Y, groups=GROUPS)
    assert_same_results(search.cv_results_, theirs.cv_results_)


def test_a_number_of_folds_means_folds_of_groups_when_there_are_groups():
    results = cross_validate(small(), X, Y, groups=GROUPS, cv=3, return_indices=True)
    folds = GroupBalancedKFold(3).split(X, Y, GROUPS)
    for rows, (_, test) in zip(results["indices"]["test"], folds, strict=True):
        np.testing.assert_array_equal(rows, test)


def test_a_window_set_has_its_own_labels_and_groups():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)
    ours = SequenceSearchCV(small(), RATES, cv=2).fit(windows)
    theirs = SequenceSearchCV(small(), RATES, cv=2).fit(X.astype(np.float32), Y, groups=GROUPS)
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    assert ours.score(windows) == theirs.score(X.astype(np.float32), Y)
    assert ours.best_estimator_.preparation_ is not None
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


def test_each_seed_has_its_own_fits_in_order_of_the_seeds():
    how = {"cv": CV, "seeds": (3, 5), "return_estimator": True}
    results = cross_validate(small(random_state=None), X, Y, **how)
    assert results["seed"].tolist() == [3, 3, 5, 5]
    assert [estimator.random_state for estimator in results["estimator"]] == [3, 3, 5, 5]
    for seed, scores in ((3, results["test_score"][:2]), (5, results["test_score"][2:])):
        alone = model_selection.cross_validate(small(random_state=seed), X, Y, cv=CV)
        np.testing.assert_array_equal(scores, alone["test_score"])
    with pytest.raises(ArgumentError, match="needs an estimator with a random_state"):
        cross_validate(FunctionTransformer(), X, Y, seeds=(1, 2))


@pytest.mark.long
def test_processes_give_the_same_scores_and_networks():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)

    def look():
        search = SequenceSearchCV(small(), RATES, cv=3).fit(windows)
        return search, cross_validate(small(), windows, cv=3, seeds=(0, 1))

    here, scores = look()
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        there, far_scores = look()
    assert_same_results(there.cv_results_, here.cv_results_)
    assert_same_results(far_scores, scores)
    np.testing.assert_array_equal(there.predict_proba(windows), here.predict_proba(windows))


def test_the_draw_of_candidates_is_checked():
    with pytest.raises(ArgumentError, match="n_iter=0"):
        SequenceSearchCV(small(), RATES, n_iter=0).fit(X, Y)


def test_one_hot_labels_with_groups_give_the_folds_of_labels():
    how = {"groups": GROUPS, "cv": 2, "return_indices": True}
    wanted = cross_validate(small(), X, Y, **how)
    results = cross_validate(small(), X, np.eye(3)[Y], **how)
    np.testing.assert_equal(results["indices"], wanted["indices"])
    np.testing.assert_array_equal(results["test_score"], wanted["test_score"])


@pytest.mark.parametrize("seeds", [(), 3])
def test_seeds_are_at_least_one(seeds):
    with pytest.raises(ArgumentError, match="must be a list of integers"):
        cross_validate(small(), X, Y, cv=CV, seeds=seeds)


def test_a_search_scores_windows_with_lengths_as_its_best_estimator():
    lengths = np.where(np.arange(len(X)) % 2, X.shape[1], 5)
    search = SequenceSearchCV(small(), RATES, cv=CV).fit(X, Y, lengths=lengths)
    wanted = search.best_estimator_.score(X, Y, lengths=lengths)
    assert search.score(X, Y, lengths=lengths) == wanted


def expected_failures(search):
    return {
        "check_classifiers_one_label_sample_weights": (
            "GridSearchCV fails it, too: fit has sample_weight in its **params, and the check"
            " expects a signature without it to refuse it"
        ),
    }


@pytest.mark.trains
@parametrize_with_checks(
    [
        SequenceSearchCV(
            plain_classifier(
                hidden_size=8, max_epochs=20, learning_rate=0.03, random_state=0, device="cpu"
            ),
            {"batch_size": [8, 32]},
            cv=2,
            error_score="raise",
        )
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_the_error_for_a_file_with_a_split_says_how_to_read_its_training_part(tmp_path):
    windows = WindowSet(X.astype(np.float32), y=Y, split=["train", "test"] * (len(X) // 2))
    write_windows(tmp_path / "w.h5", windows)
    with pytest.raises(InputError, match=r"w\.h5 already has a split.*read_windows\(path, 'tr"):
        cross_validate(small(), tmp_path / "w.h5")
