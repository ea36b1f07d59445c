"""Baselines for the network: the majority class, classic learners, and what boosting would give."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.estimator.whole_data import N_FOLDS, split_folds
from sensorseq.features import RandomConvolutions, SummaryFeatures
from sensorseq.features.summary import summary_features
from sensorseq.features.trees import make_boosting
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.windows import WindowSet

BASELINES = ("majority", "ridge", "gradient_boosting", "rocket_ridge")
_MANY_WINDOWS = 4_000  # for training; above, ridge on all features of MiniRocket would take minutes
_FEATURES, _FEWER_FEATURES = 10_000, 2_016
_BLOCK = 2_048  # windows whose random convolutions are held at once


def make_baseline(name: str, seed: int = 0) -> Any:
    """Return an unfitted classifier of a baseline's features, one of `BASELINES`, untuned."""
    if name == "majority":
        return DummyClassifier(strategy="most_frequent")
    if name == "ridge":
        return make_pipeline(
            StandardScaler(),
            RidgeClassifierCV(alphas=np.logspace(-3, 3, 13), class_weight="balanced"),
        )
    if name == "rocket_ridge":  # as published, without weights of the classes
        return make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-3, 3, 10)))
    return make_boosting(seed)


def predict_baseline(
    name: str, train: WindowSet, test: WindowSet, classes: NDArray[Any], seed: int = 0
) -> NDArray[np.float64]:
    """Fit a baseline on `train` and return its scores (N, K) on `test`, columns as in `classes`.

    The scores are probabilities, or 1 for the predicted class where the learner gives none. The
    features are `summary_features`; for ``"rocket_ridge"``, random convolutions of the scaled
    windows (MiniRocket), 9,996 of them or, with more than 4,000 training windows, 2,016.
    """
    if name == "rocket_ridge":
        describe = _describe_by_convolutions(train)
    else:
        describe = lambda windows: summary_features(windows.X, windows.lengths)  # noqa: E731
    fitted = make_baseline(name, seed).fit(describe(train), train.y)
    features = describe(test)
    order = {label: i for i, label in enumerate(classes.tolist())}
    scores = np.zeros((len(test), len(classes)))
    if hasattr(fitted, "predict_proba"):
        columns = [order[label] for label in fitted.classes_.tolist()]
        scores[:, columns] = fitted.predict_proba(features)
    else:
        chosen = [order[label] for label in fitted.predict(features).tolist()]
        scores[np.arange(len(test)), chosen] = 1.0
    return scores


def _describe_by_convolutions(train: WindowSet) -> Callable[[WindowSet], NDArray[np.floating]]:
    scaler = fit_scaler(train.X, train.lengths)
    n_features = _FEATURES if len(train) <= _MANY_WINDOWS else _FEWER_FEATURES
    convolutions = RandomConvolutions(n_features=n_features, random_state=0)
    convolutions.fit(scaler.transform(train.X, train.lengths), train.lengths)

    def describe(windows: WindowSet) -> NDArray[np.floating]:
        features = np.empty((len(windows), convolutions.n_features_), np.float32)
        for at in range(0, len(windows), _BLOCK):
            own = windows.take(np.arange(at, min(at + _BLOCK, len(windows))))
            scaled = scaler.transform(own.X, own.lengths)
            features[at : at + len(own)] = convolutions.transform(scaled, own.lengths)
        return features

    return describe


_PROBED_TREES = 3
_NOTABLE = 0.01  # of accuracy: less is not worth another model


class Alternative(NamedTuple):
    """Accuracies on `n_windows` left out, in folds of whole groups."""

    model: float
    boosting: float
    n_windows: int

    @property
    def is_better(self) -> bool:
        """Whether boosting is better by more than a point and the standard error of both."""
        share = (self.model + self.boosting) / 2
        error = np.sqrt(2 * share * (1 - share) / self.n_windows)
        return bool(self.boosting - self.model > max(_NOTABLE, error))


def try_boosting(
    model: SensorLSTMClassifier,
    windows: WindowSet,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> Alternative | None:
    """Compare a fitted classifier with boosting on the windows of its fit, without their test part.

    None if the fit left no windows out in folds, or there are too few groups. `progress` is called
    with the folds that are done, their number and the seconds that are left.
    """
    say = progress or (lambda done, total, left_s: None)
    together = [tried for tried in model.features_.candidates if tried.name == "together"]
    if not together or model.features_.n_folds < 2 or windows.y is None:
        return None
    if windows.split is not None:
        windows = windows.take(np.flatnonzero(windows.split != "test"))
    labels = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    groups = windows.recording_id if windows.groups is None else windows.groups
    statistics = (
        SummaryFeatures().fit(windows.X, windows.lengths).transform(windows.X, windows.lengths)
    )
    right = tested = 0
    folds = list(split_folds(labels, groups, N_FOLDS, seed))
    began_s = time.monotonic()
    if folds and progress is not None:  # a few trees tell how long all of them take
        first = make_boosting(seed)
        share = _PROBED_TREES / first.max_iter
        rows = folds[0][0]
        first.set_params(max_iter=_PROBED_TREES).fit(statistics[rows], labels[rows])
        say(0, len(folds), (time.monotonic() - began_s) / share * len(folds))
        began_s = time.monotonic()
    for done, (fit_rows, test_rows) in enumerate(folds, start=1):
        fitted = make_boosting(seed).fit(statistics[fit_rows], labels[fit_rows])
        took_s = time.monotonic() - began_s
        say(done, len(folds), took_s / done * (len(folds) - done))
        right += int((fitted.predict(statistics[test_rows]) == labels[test_rows]).sum())
        tested += len(test_rows)
    return Alternative(together[0].accuracy, right / tested, tested) if tested else None
