"""In scikit-learn's own tools, every window keeps its group and its length."""

import copy
import pickle
import pickletools
import re
from functools import cache
from typing import ClassVar

import joblib
import numpy as np
import pytest
import sklearn
import torch
from fits import plain_classifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  it enables by being imported
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sensorseq import SensorLSTMClassifier
from sensorseq.preprocessing.splitters import GroupBalancedKFold

N, T = 48, 16
RNG = np.random.default_rng(0)
Y = np.arange(N) % 3
X = np.sin(np.arange(T)[:, None] * (0.3 + 0.5 * Y[:, None, None]) + RNG.uniform(0, 6, (N, 1, 2)))
X = X + 0.05 * RNG.normal(size=X.shape)
GROUPS = np.repeat([f"robot_{i}" for i in range(16)], 3)
LENGTHS = np.arange(N) % 6 + 11
LISTED = [window[:length] for window, length in zip(X, LENGTHS, strict=True)]
ROW_OF = {window[0, 0]: row for row, window in enumerate(X)}  # the first value identifies a window
SETTINGS = {"hidden_size": 3, "max_epochs": 2, "device": "cpu", "random_state": 0}
GRID = {"hidden_size": [2, 3]}
ONE = {"hidden_size": [2]}


class Spy:
    """Records the arguments of each method, and checks the group and the length of every window."""

    calls: ClassVar[list] = []

    def note(self, method, windows, groups, lengths):
        rows = [ROW_OF[window[0][0]] for window in windows]
        if groups is not None:
            np.testing.assert_array_equal(groups, GROUPS[rows])
        if lengths is not None:
            np.testing.assert_array_equal(lengths, LENGTHS[rows])
        if isinstance(windows, list):
            assert [len(window) for window in windows] == LENGTHS[rows].tolist()
        if method == "fit":
            self.rows_ = set(rows)
        arrived = {"groups": groups is not None, "lengths": lengths is not None}
        self.calls.append((method, frozenset(name for name, came in arrived.items() if came)))

    def fit(self, X, y=None, sample_weight=None, *, groups=None, lengths=None):
        self.note("fit", X, groups, lengths)
        return super().fit(X, y, sample_weight, groups=groups, lengths=lengths)

    def predict(self, X, lengths=None):
        self.note("predict", X, None, lengths)
        return super().predict(X, lengths)


class SpyClassifier(Spy, SensorLSTMClassifier):
    def predict_proba(self, X, lengths=None):
        self.note("predict_proba", X, None, lengths)
        return super().predict_proba(X, lengths)

    def decision_function(self, X, lengths=None):
        self.note("decision_function", X, None, lengths)
        return super().decision_function(X, lengths)


@pytest.fixture(autouse=True)
def _no_calls_yet():
    Spy.calls.clear()


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def classifier(**arguments):
    return plain_classifier(SpyClassifier, **{**SETTINGS, **arguments})


def arrived(method):
    """The arguments of every call of a method."""
    arguments = {came for name, came in Spy.calls if name == method}
    assert arguments, f"{method} was never called"
    assert len(arguments) == 1, f"{method} was called with {arguments}"
    return set(arguments.pop())


def pair(make):
    return [("a", make()), ("b", make(random_state=1))]


BOTH = {"groups", "lengths"}
SEARCH = {"cv": 2, "error_score": "raise"}
BY_WINDOWS = {**SEARCH, "min_resources": 36, "random_state": 0}
BY_EPOCHS = {**SEARCH, "resource": "max_epochs", "min_resources": 1, "max_resources": 3}
BY_TEMPERATURE = {"method": "temperature", "ensemble": False}
IS_1_8 = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)
EVERY_CLASSIFIER = {
    "Pipeline": lambda: make_pipeline(FunctionTransformer(), classifier()),
    "GridSearchCV": lambda: GridSearchCV(classifier(), ONE, **SEARCH),
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(classifier(), GRID, **BY_WINDOWS),
    "HalvingGridSearchCV of epochs": lambda: HalvingGridSearchCV(classifier(), GRID, **BY_EPOCHS),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(classifier(), cv=2),
    "VotingClassifier, hard": lambda: VotingClassifier(pair(classifier)),
    "VotingClassifier, soft": lambda: VotingClassifier(pair(classifier), voting="soft"),
}
if IS_1_8:
    EVERY_CLASSIFIER["CalibratedClassifierCV by temperature"] = lambda: CalibratedClassifierCV(
        classifier(), cv=2, **BY_TEMPERATURE
    )


def grouped(estimator):
    if hasattr(estimator, "cv"):
        estimator.cv = GroupKFold(2)
    return estimator


@pytest.mark.parametrize("make", EVERY_CLASSIFIER.values(), ids=EVERY_CLASSIFIER)
def test_groups_and_lengths_arrive_at_every_fit(make, routing):
    grouped(make()).fit(X, Y, groups=GROUPS, lengths=LENGTHS)
    assert arrived("fit") == BOTH


def test_groups_and_lengths_arrive_at_every_fit_with_features_and_a_refit(routing):
    pipeline = make_pipeline(FunctionTransformer(), SpyClassifier(**SETTINGS))
    pipeline.fit(X, Y, groups=GROUPS, lengths=LENGTHS)
    assert arrived("fit") == BOTH


@pytest.mark.parametrize("make", EVERY_CLASSIFIER.values(), ids=EVERY_CLASSIFIER)
def test_without_routing_windows_alone_are_enough(make):
    fitted = make().fit(LISTED, Y)
    for windows in (LISTED, X):
        assert set(fitted.predict(windows)) <= set(Y)
        if hasattr(fitted, "predict_proba"):
            np.testing.assert_allclose(fitted.predict_proba(windows).sum(axis=1), 1)
    assert not any(came for _, came in Spy.calls)


@pytest.mark.parametrize("make", EVERY_CLASSIFIER.values(), ids=EVERY_CLASSIFIER)
def test_a_list_provides_lengths_to_every_call_and_groups_are_routed(make, routing):
    fitted = grouped(make()).fit(LISTED, Y, groups=GROUPS)
    assert arrived("fit") == {"groups"}
    assert fitted.predict(LISTED).shape == (N,)


@pytest.mark.parametrize("cv", [GroupKFold(3), GroupBalancedKFold(3)], ids=lambda cv: type(cv))
def test_cross_validation_keeps_groups_whole_and_scores_with_lengths(cv, routing):
    options = {"return_estimator": True, "error_score": "raise"}
    params = {"groups": GROUPS, "lengths": LENGTHS}
    result = cross_validate(classifier(), X, Y, cv=cv, params=params, **options)
    assert arrived("fit") == BOTH
    assert arrived("predict") == {"lengths"}
    for fitted in result["estimator"]:
        learned = {GROUPS[row] for row in fitted.rows_}
        assert learned
        assert not learned & {GROUPS[row] for row in set(range(N)) - fitted.rows_}


def test_a_search_in_a_pipeline_in_a_search_passes_all_arguments_on(routing):
    pipeline = make_pipeline(FunctionTransformer(), classifier())
    grid = {"spyclassifier__hidden_size": [2]}
    inner = GridSearchCV(pipeline, grid, cv=GroupKFold(2), error_score="raise")
    params = {"groups": GROUPS, "lengths": LENGTHS}
    result = cross_validate(inner, X, Y, cv=GroupKFold(2), params=params, error_score="raise")
    assert arrived("fit") == BOTH
    # before 1.8, a search inside a search predicts without the arguments
    assert arrived("predict") == ({"lengths"} if IS_1_8 else set())
    assert np.isfinite(result["test_score"]).all()


def test_a_pipeline_passes_lengths_to_every_prediction(routing):
    pipeline = make_pipeline(FunctionTransformer(), classifier())
    pipeline.fit(X, Y, groups=GROUPS, lengths=LENGTHS)
    for method in ("predict", "predict_proba", "decision_function"):
        Spy.calls.clear()
        values = getattr(pipeline, method)(X, lengths=LENGTHS)
        assert arrived(method) == {"lengths"}
        direct = getattr(pipeline[-1], method)(X, LENGTHS)
        np.testing.assert_array_equal(values, direct)


def test_a_search_equals_that_on_lists_bit_for_bit(routing):
    results = [
        GridSearchCV(classifier(), ONE, cv=GroupKFold(2), error_score="raise").fit(
            windows, Y, groups=GROUPS, **extra
        )
        for windows, extra in ((X, {"lengths": LENGTHS}), (LISTED, {}))
    ]
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[name] for search in results))
    np.testing.assert_array_equal(*(search.predict_proba(LISTED) for search in results))


def test_sample_weights_are_routed_when_they_are_requested(routing):
    weight = np.where(np.arange(N) % 4, 1.0, 0.0)
    asked = classifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    params = {"sample_weight": weight}
    fits = cross_validate(asked, X, Y, cv=2, params=params, return_estimator=True)["estimator"]
    assert all(fitted.history_ is not None for fitted in fits)
    with pytest.raises(ValueError, match="set_fit_request"):
        cross_validate(classifier(), X, Y, cv=2, params=params)


# Several estimators together give the same results as each one alone.


def test_thresholds_of_two_classes_can_be_tuned():
    y = Y == 1
    tuned = TunedThresholdClassifierCV(classifier(), thresholds=5, cv=2).fit(X, y)
    assert tuned.predict(X).shape == (N,)
    fixed = FixedThresholdClassifier(classifier(), threshold=0.3, response_method="predict_proba")
    fixed.fit(X, y)
    expected = fixed.estimator_.predict_proba(X)[:, 1] >= 0.3
    np.testing.assert_array_equal(fixed.predict(X), expected)


def test_stacking_needs_no_arguments_for_lists():
    stack = StackingClassifier([("a", classifier())], LogisticRegression(), cv=2)
    assert stack.fit(LISTED, Y).predict_proba(LISTED).shape == (N, 3)


def unfold(flat):
    return flat.reshape(-1, T, 2)


def test_tools_that_refuse_3d_windows_accept_flat_windows_that_a_pipeline_unfolds():
    plain = plain_classifier(**SETTINGS)
    settings = {"n_estimators": 2, "bootstrap": False, "max_samples": 0.8}
    bagging = BaggingClassifier(make_pipeline(FunctionTransformer(unfold), plain), **settings)
    bagging.fit(X.reshape(N, -1), Y)
    assert bagging.predict(X.reshape(N, -1)).shape == (N,)
    with pytest.raises(ValueError, match="dim 3"):
        BaggingClassifier(plain).fit(X, Y)


def test_each_of_several_labels_per_window_has_its_own_classifier():
    both = np.stack([Y, Y % 2], axis=1)
    assert MultiOutputClassifier(classifier()).fit(X, both).predict(X).shape == (N, 2)


# If scikit-learn passes no lengths, padding is not silently read as a signal.

FOLDS = {"cv": 2, "params": {"lengths": LENGTHS}}
PADDED = np.where((np.arange(T) < LENGTHS[:, None])[:, :, None], X, 0.0)


@pytest.mark.parametrize(
    "predict",
    [
        lambda: cross_val_predict(classifier(), PADDED, Y, **FOLDS, method="predict_proba"),
        lambda: cross_validate(classifier(), PADDED, Y, **FOLDS, scoring="neg_log_loss"),
        lambda: CalibratedClassifierCV(classifier(), cv=2).fit(PADDED, Y, lengths=LENGTHS),
        lambda: classifier().fit(PADDED, Y, lengths=LENGTHS).predict(PADDED),
    ],
    ids=["cross_val_predict", "a named scorer", "CalibratedClassifierCV", "a plain call"],
)
def test_padding_that_would_be_read_as_signal_is_named(predict, routing):
    with pytest.warns(UserWarning, match=r"windows end with zeros .* as a list of arrays"):
        predict()


def test_no_padding_no_warning():
    fitted = classifier().fit(PADDED, Y, lengths=LENGTHS)
    fitted.predict(PADDED, LENGTHS)
    fitted.predict(LISTED)
    fitted.predict(X)
    classifier().fit(PADDED, Y).predict(PADDED)  # the classifier was also trained on the padding


# Copies.


def plain(**arguments):
    return plain_classifier(**{**SETTINGS, **arguments})


FITTED = {
    "plain": lambda: plain().fit(X, Y),
    "float64": lambda: plain(dtype="float64", num_layers=2, head_norm="batch").fit(X, Y),
    "lists": lambda: plain(scale=None, bidirectional=True).fit(LISTED, Y),
    "flat": lambda: plain(validation_fraction=0.0, early_stopping=False).fit(X[:, :, 0], Y == 1),
}
fitted_once = cache(lambda name: FITTED[name]())


def through_joblib(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize(
    "again",
    [
        lambda fitted, _: pickle.loads(pickle.dumps(fitted)),
        lambda fitted, _: copy.deepcopy(fitted),
        lambda fitted, _: copy.copy(fitted),
        through_joblib,
    ],
    ids=["pickle", "deepcopy", "copy", "joblib"],
)
def test_a_copy_is_the_same_in_every_respect(name, again, tmp_path):
    fitted = fitted_once(name)
    windows = X[:, :, 0] if fitted.n_features_in_ == T else X
    twin = again(fitted, tmp_path)
    np.testing.assert_array_equal(twin.predict(windows), fitted.predict(windows))
    assert twin.history_ == fitted.history_
    assert twin.fluctuation_.to_dict() == fitted.fluctuation_.to_dict()
    assert twin.get_params() == fitted.get_params()
    assert vars(twin).keys() == vars(fitted).keys()
    assert type(twin.engine_) is type(fitted.engine_)
    assert twin.engine_ == fitted.engine_
    for name, tensor in fitted.module_.state_dict().items():
        assert torch.equal(twin.module_.state_dict()[name], tensor)
    before = fitted.module_.linear.bias.detach().clone()
    with torch.no_grad():
        twin.module_.linear.bias.add_(1.0)
    assert torch.equal(fitted.module_.linear.bias, before)


def test_a_pickle_refers_to_nothing_in_torch_and_so_needs_no_gpu():
    fitted = plain(dtype="float64", scale="robust").fit(X, Y)
    texts = [value for _, value, _ in pickletools.genops(pickle.dumps(fitted)) if value]
    modules = {text for text in texts if isinstance(text, str) and re.match(r"[a-z_]+\.", text)}
    assert not [name for name in modules if name.startswith("torch")]
    assert {name for name in modules if name.startswith("sensorseq")} == {
        "sensorseq.estimator.classifier",
        "sensorseq.fluctuation",  # not a module but the format of a report's description
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_trained_on_a_gpu_is_unpickled_on_a_cpu():
    fitted = plain(device="cuda").fit(X, Y)
    twin = pickle.loads(pickle.dumps(fitted)).set_params(device="cpu")
    assert not twin.module_.linear.weight.is_cuda
    np.testing.assert_allclose(twin.predict_proba(X), fitted.predict_proba(X), atol=1e-5)


def test_an_unfitted_classifier_can_be_pickled():
    twin = pickle.loads(pickle.dumps(plain(learning_rate=0.5)))
    assert twin.get_params() == plain(learning_rate=0.5).get_params()
    assert not hasattr(twin, "module_")


@pytest.mark.long
def test_fits_in_other_processes_have_the_same_bits():
    tasks = [plain(random_state=seed) for seed in range(2)]
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        there = joblib.Parallel()(joblib.delayed(task.fit)(X, Y) for task in tasks)
    for ours, theirs in zip([clone(task).fit(X, Y) for task in tasks], there, strict=True):
        np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


# skops

TRUSTED = ["sensorseq.estimator.classifier.SensorLSTMClassifier"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: plain(class_weight={0: 2.0, 1: 1.0}).fit(X, Y),
        lambda: plain(optimizer_params={"betas": (0.8, 0.99)}).fit(X, np.array(list("abc"))[Y]),
        lambda: plain(n_models=2).fit(X, Y).fit_abstention(X, Y, error_rate=0.9),
    ],
)
def test_skops_needs_to_trust_the_estimator_alone(make):
    skops = pytest.importorskip("skops.io")
    fitted = make()
    content = skops.dumps(fitted)
    assert skops.get_untrusted_types(data=content) == TRUSTED
    again = skops.loads(content, trusted=TRUSTED)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert again.history_ == fitted.history_
    assert again.get_params() == fitted.get_params()
