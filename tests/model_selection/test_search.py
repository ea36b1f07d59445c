"""Side by side gives what scikit-learn gives one after another."""

import threading

import numpy as np
import pytest
import sklearn
from fits import PLAIN, plain_classifier
from remedies.problems import tones
from sklearn import model_selection
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor, WindowSet
from sensorseq.errors import ArgumentError, DivergedError, InputError, LeakWarning
from sensorseq.io.prepared import write_windows
from sensorseq.model_selection import SequenceSearchCV, cross_validate, rounds, side_by_side
from sensorseq.preprocessing.split.splitters import GroupBalancedKFold
from sensorseq.training.data import FitData

X, Y = tones(48, 0, n_timesteps=12, noise=0.3, first=0.2, step=0.5)
GROUPS = np.arange(len(X)) // 3
CV = StratifiedKFold(3)


def small(cls=SensorLSTMClassifier, **arguments):
    settings = {"hidden_size": 5, "max_epochs": 5, "learning_rate": 0.03, "device": "cpu"}
    plain = PLAIN if cls is SensorLSTMClassifier else {}
    return cls(**{**plain, **settings, "random_state": 0, **arguments})


def assert_same_results(ours, theirs):
    assert list(ours) == list(theirs)
    for name, wanted in theirs.items():
        if not name.endswith("_time"):
            np.testing.assert_equal(ours[name], wanted, err_msg=name)
        else:
            assert (ours[name] >= 0).all()


def search_both(estimator, grid, X=X, y=Y, search=GridSearchCV, **options):
    """Search as scikit-learn does; return both searches, whose results are the same."""
    ours = SequenceSearchCV(estimator, grid, **options).fit(X, y)
    theirs = search(estimator, grid, **options).fit(X, y)
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    return ours, theirs


@pytest.fixture
def trained(monkeypatch):
    """How many networks each round trained."""
    counts = []
    original = rounds.train_side_by_side

    def count(jobs, **options):
        counts.append(len(jobs))
        return original(jobs, **options)

    monkeypatch.setattr(rounds, "train_side_by_side", count)
    return counts


@pytest.fixture(autouse=True)
def _leaves_no_thread():
    before = threading.active_count()
    yield
    for thread in threading.enumerate()[before:]:
        thread.join(timeout=5)
    assert threading.active_count() <= before


GRIDS = {
    "rates": {"learning_rate": [0.003, 0.03]},
    "batches and losses": {"batch_size": [4, None], "loss": ["cross_entropy", "focal"]},
    "sizes": {"hidden_size": [4, 7], "num_layers": [1, 2]},
    "splits and weights": {"validation_fraction": [0.2, 0.4], "class_weight": [None, "balanced"]},
    "ensembles": {"n_models": [1, 2]},
    "what the engine lacks": {"engine": ["autograd", "native"]},
    "augmentation": {"augment": [None, "standard"]},
}


@pytest.mark.trains
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_search_finds_what_grid_search_finds(grid, trained):
    ours, theirs = search_both(small(), grid, cv=CV)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == theirs.best_score_
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    n_models = sum(grid.get("n_models", [1])) / len(grid.get("n_models", [1]))
    assert trained == [3 * n_models * len(theirs.cv_results_["params"])]


def test_a_random_search_draws_the_candidates_of_scikit_learns():
    grid = {"learning_rate": [0.001, 0.003, 0.01, 0.03], "batch_size": [4, 8, 16]}
    options = {"n_iter": 3, "random_state": 4, "cv": CV, "refit": False}
    ours, _ = search_both(small(), grid, search=RandomizedSearchCV, **options)
    assert not hasattr(ours, "best_estimator_")


def test_several_scores_of_both_parts_are_those_of_scikit_learn():
    options = {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss", "cv": CV}
    options["return_train_score"] = True
    ours, theirs = search_both(small(), GRIDS["rates"], **options)
    assert ours.score(X, Y) == theirs.score(X, Y)


def test_a_regressor_is_searched_as_well():
    search_both(small(SensorLSTMRegressor), GRIDS["rates"], y=X.mean(axis=(1, 2)), cv=3)


def double(windows):
    return 2 * windows


def test_steps_before_the_network_are_fitted_for_every_fold(trained):
    pipeline = make_pipeline(FunctionTransformer(double), small())
    search_both(pipeline, {"sensorlstmclassifier__learning_rate": [0.003, 0.03]}, cv=CV)
    assert trained == [6]


def as_list(windows):
    return [window[: 8 + i % 5] for i, window in enumerate(windows)]


@pytest.mark.parametrize("given", [X[:, :, 0], as_list(X)], ids=["table", "list"])
def test_every_kind_of_windows_is_taken(given):
    search_both(small(), GRIDS["rates"], given, cv=CV)


def test_lengths_reach_fits_and_scores():
    lengths = 8 + np.arange(len(X)) % 5
    poisoned = X.copy()
    poisoned[np.arange(X.shape[1]) >= lengths[:, None]] = np.nan
    ours = SequenceSearchCV(small(), GRIDS["rates"], cv=CV).fit(poisoned, Y, lengths=lengths)
    theirs = SequenceSearchCV(small(), GRIDS["rates"], cv=CV).fit(as_list(X), Y)
    assert_same_results(ours.cv_results_, theirs.cv_results_)
    with pytest.raises(InputError, match="give a list of windows or a WindowSet"):
        cross_validate(small(), X, Y, lengths=lengths, scoring="accuracy")


def test_groups_stay_whole_in_folds_and_inside_every_fit(monkeypatch):
    seen = []
    original = FitData.read

    def watch(*arguments, **given):
        data = original(*arguments, **given)
        parts = data.train, data.validation
        groups = [np.unique(_groups_of(part.sequences.X)) for part in parts]
        seen.append((np.unique(data.windows.groups), *groups))
        return data

    def _groups_of(windows):
        return [int(np.flatnonzero((window == X).all(axis=(1, 2)))[0]) // 3 for window in windows]

    monkeypatch.setattr(FitData, "read", watch)
    search = SequenceSearchCV(small(), GRIDS["rates"], refit=False).fit(X, Y, groups=GROUPS)
    assert search.n_splits_ == 5
    assert len(seen) == 10
    for everything, train, validation in seen:
        assert len(everything) < len(np.unique(GROUPS))  # a fold is left out whole
        assert not set(train) & set(validation)
        assert set(train) | set(validation) == set(everything)
    with sklearn.config_context(enable_metadata_routing=True):
        theirs = GridSearchCV(small(), GRIDS["rates"], cv=GroupBalancedKFold(5), refit=False)
        theirs.fit(X, Y, groups=GROUPS)
    assert_same_results(search.cv_results_, theirs.cv_results_)


def test_a_number_of_folds_means_folds_of_groups_when_there_are_groups():
    how = {"groups": GROUPS, "cv": 3, "return_indices": True}
    for estimator, y, folds in (
        (small(), Y, GroupBalancedKFold(3)),
        (small(SensorLSTMRegressor), Y.astype(float), GroupKFold(3)),
    ):
        found = cross_validate(estimator, X, y, **how)["indices"]["test"]
        for own, (_, test) in zip(found, folds.split(X, Y, GROUPS), strict=True):
            np.testing.assert_array_equal(own, test)


def test_a_window_set_brings_labels_and_groups():
    windows = WindowSet(X.astype(np.float32), y=Y, recording_id=GROUPS)
    ours = SequenceSearchCV(small(), GRIDS["rates"]).fit(windows)
    theirs = SequenceSearchCV(small(), GRIDS["rates"]).fit(X.astype(np.float32), Y, groups=GROUPS)
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
        (np.arange(48) // 24, list(CV.split(X, np.arange(48) % 2)), "cv splits group 0"),
    ],
    ids=["no groups", "groups that share samples", "groups that cv ignores"],
)
def test_windows_that_overlap_over_folds_are_warned_of(groups, cv, advice):
    signal = np.random.default_rng(0).normal(size=(300, 1))
    windows = np.stack([signal[i : i + 20] for i in range(0, 240, 5)])
    clf = small(validation_fraction=0, early_stopping=False, max_epochs=1)
    with pytest.warns(LeakWarning) as said:
        cross_validate(clf, windows, np.arange(48) % 2, groups=groups, cv=cv)
    (found,) = [str(one.message) for one in said if "of the first fold" in str(one.message)]
    assert "test windows of the first fold overlap training windows" in found
    assert advice in found


@pytest.mark.parametrize("scoring", [None, "accuracy", ["accuracy", "f1_macro"]], ids=str)
def test_cross_validation_gives_the_scores_of_scikit_learns(scoring, trained):
    options = {"cv": CV, "scoring": scoring, "return_train_score": True, "return_estimator": True}
    ours = cross_validate(small(), X, Y, **options)
    theirs = model_selection.cross_validate(small(), X, Y, **options)
    assert trained == [3]
    fitted = [found.pop("estimator") for found in (ours, theirs)]
    assert_same_results(ours, theirs)
    for own, wanted in zip(*fitted, strict=True):
        np.testing.assert_array_equal(own.predict_proba(X), wanted.predict_proba(X))


def test_seeds_are_fits_of_their_own_one_seed_after_the_other(trained):
    how = {"cv": CV, "seeds": (3, 5), "return_estimator": True}
    found = cross_validate(small(random_state=None), X, Y, **how)
    assert trained == [6]
    assert found["seed"].tolist() == [3, 3, 3, 5, 5, 5]
    assert [estimator.random_state for estimator in found["estimator"]] == [3, 3, 3, 5, 5, 5]
    for seed, scores in ((3, found["test_score"][:3]), (5, found["test_score"][3:])):
        alone = model_selection.cross_validate(small(random_state=seed), X, Y, cv=CV)
        np.testing.assert_array_equal(scores, alone["test_score"])
    with pytest.raises(ArgumentError, match="needs an estimator with a random_state"):
        cross_validate(FunctionTransformer(), X, Y, seeds=(1, 2))


TOOLS = {
    "cross_val_score": lambda: model_selection.cross_val_score(small(), X, Y, cv=CV),
    "halving": lambda: (
        model_selection.HalvingGridSearchCV(
            small(), {"learning_rate": [0.003, 0.03], "batch_size": [4, 8]}, cv=CV, factor=2,
            min_resources=24, random_state=0,
        ).fit(X, Y).predict_proba(X)
    ),
    "calibration": lambda: (
        model_selection.cross_val_predict(
            CalibratedClassifierCV(small(), cv=2), X, Y, cv=2, method="predict_proba"
        )
    ),
    "vote": lambda: (
        VotingClassifier(
            [("a", small()), ("b", small(hidden_size=4)), ("c", LogisticRegression())],
            voting="soft",
        ).fit(X[:, :, 0], Y).predict_proba(X[:, :, 0])
    ),
}  # fmt: skip
ROUNDS = {"cross_val_score": [3], "halving": [12, 6], "calibration": [4], "vote": [2]}


@pytest.mark.trains
@pytest.mark.parametrize("tool", TOOLS)
def test_scikit_learns_own_tools_give_the_same_side_by_side(tool, trained):
    with side_by_side():
        ours = TOOLS[tool]()
    assert trained[: len(ROUNDS[tool])] == ROUNDS[tool]
    np.testing.assert_array_equal(ours, TOOLS[tool]())


def test_more_windows_than_may_wait_come_in_turns(monkeypatch, trained):
    together = SequenceSearchCV(small(), GRIDS["rates"], cv=CV).fit(X, Y)
    monkeypatch.setattr(rounds, "WAITING_BYTES", 3000)
    in_turns = SequenceSearchCV(small(), GRIDS["rates"], cv=CV).fit(X, Y)
    assert_same_results(in_turns.cv_results_, together.cv_results_)
    assert trained[0] == 6
    assert len(trained) > 2
    assert sum(trained[1:]) == 6


def test_equal_windows_of_several_fits_are_held_once(monkeypatch):
    held = []
    original = rounds.train_side_by_side

    def watch(jobs, **options):
        held.append(len({id(job.train.X) for job in jobs}))
        return original(jobs, **options)

    monkeypatch.setattr(rounds, "train_side_by_side", watch)
    SequenceSearchCV(small(), {"learning_rate": [0.001, 0.003, 0.01]}, cv=CV).fit(X, Y)
    assert held == [3]


WILD = {"optimizer": "sgd", "max_grad_norm": None, "l1": 30.0}


def test_a_fit_that_fails_is_scored_as_scikit_learn_scores_it():
    grid = {"learning_rate": [0.03, 1e38], "hidden_size": [5, -1]}
    options = {"cv": CV, "error_score": -1.0}
    results = []
    for search in (SequenceSearchCV, GridSearchCV):
        with pytest.warns(FitFailedWarning, match="9 fits failed"):
            results.append(search(small(**WILD), grid, **options).fit(X, Y).cv_results_)
    assert_same_results(*results)
    with pytest.raises(DivergedError, match="in its first epoch"):
        SequenceSearchCV(small(**WILD), grid, cv=CV, error_score="raise").fit(X, Y)


class Interrupter:
    def on_epoch_end(self, module, history):
        if len(history) == 2:
            raise KeyboardInterrupt


def test_an_interrupt_ends_the_fits_and_a_second_one_the_search(two_interrupts):
    estimator = small(callbacks=[Interrupter()])
    with pytest.warns(UserWarning, match="interrupted after epoch"):
        found = cross_validate(estimator, X, Y, cv=CV, return_estimator=True)
    assert all(fitted.n_iter_ in (1, 2) for fitted in found["estimator"])
    with pytest.raises(KeyboardInterrupt):
        cross_validate(estimator, X, Y, cv=CV)


def test_fit_times_are_shares_of_the_whole():
    import time

    started = time.perf_counter()
    found = cross_validate(small(max_epochs=20), X, Y, cv=CV)
    whole_s = time.perf_counter() - started
    assert found["fit_time"].sum() + found["score_time"].sum() <= 1.05 * whole_s
    assert found["fit_time"].min() > 0


def test_the_draw_of_candidates_is_checked():
    with pytest.raises(ArgumentError, match="n_iter=0"):
        SequenceSearchCV(small(), GRIDS["rates"], n_iter=0).fit(X, Y)


def test_one_hot_labels_with_groups_give_the_folds_of_labels():
    wanted = cross_validate(small(), X, Y, groups=GROUPS, return_indices=True)
    found = cross_validate(small(), X, np.eye(3)[Y], groups=GROUPS, return_indices=True)
    np.testing.assert_equal(found["indices"], wanted["indices"])
    np.testing.assert_array_equal(found["test_score"], wanted["test_score"])


@pytest.mark.parametrize("seeds", [(), 3])
def test_seeds_are_at_least_one(seeds):
    with pytest.raises(ArgumentError, match="must be a list of integers"):
        cross_validate(small(), X, Y, cv=CV, seeds=seeds)


def test_a_search_scores_windows_with_lengths_as_its_best_estimator():
    lengths = np.where(np.arange(len(X)) % 2, X.shape[1], 5)
    search = SequenceSearchCV(small(), GRIDS["rates"], cv=CV).fit(X, Y, lengths=lengths)
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


def test_a_file_with_a_split_is_told_how_to_take_its_training_part(tmp_path):
    windows = WindowSet(X.astype(np.float32), y=Y, split=["train", "test"] * (len(X) // 2))
    write_windows(tmp_path / "w.h5", windows)
    with pytest.raises(InputError, match=r"w\.h5 already has a split.*read_windows\(path, 'tr"):
        cross_validate(small(), tmp_path / "w.h5")
