"""Baselines for the network: the majority class and classic learners."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq.features import RandomConvolutions
from sensorseq.features.summary import summary_features
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.sensor_windows import UNNAMED, AnyWindows, sets_of
from sensorseq.windows import WindowSet

BASELINES = ("majority", "ridge", "gradient_boosting", "rocket_ridge")
# With more training windows than this, ridge on all MiniRocket features would take minutes.
_MANY_WINDOWS = 4_000
_FEATURES, _FEWER_FEATURES = 10_000, 2_016
_BLOCK = 2_048  # number of windows whose random convolutions are in memory at a time


def make_baseline(name: str, seed: int = 0) -> Any:
    """Return the unfitted classifier of a baseline in `BASELINES`, or ``"extra_trees"``."""
    if name == "majority":
        return DummyClassifier(strategy="most_frequent")
    if name == "extra_trees":
        return ExtraTreesClassifier(
            200, min_samples_leaf=2, class_weight="balanced", random_state=seed
        )
    if name == "ridge":
        return make_pipeline(
            StandardScaler(),
            RidgeClassifierCV(alphas=np.logspace(-3, 3, 13), class_weight="balanced"),
        )
    if name == "rocket_ridge":  # as published, without class weights
        return make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(-3, 3, 10)))
    # No early stopping, because the held-out windows would be from recordings used in training.
    return HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )


def predict_baseline(
    name: str,
    train: AnyWindows,
    test: AnyWindows,
    classes: NDArray[Any],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Fit a baseline on `train`; return its scores (N, K) on `test`, in the order of `classes`.

    The scores are probabilities or, if the learner has none, 1 for the predicted class and 0 for
    the others. The features are `summary_features`, except for ``"rocket_ridge"``, which uses 9,996
    random convolutions of the scaled windows (MiniRocket), or 2,016 if there are more than 4,000
    training windows. The features of several sensors are concatenated; missing samples are replaced
    by zeros.
    """
    describe = _learn_features(name, train)
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


def _learn_features(name: str, train: AnyWindows) -> Callable[[Any], Any]:
    """Return a function that computes a baseline's features, concatenated over the sensors."""
    if name != "rocket_ridge":
        return lambda windows: _of_sets(
            [summary_features(part.X, part.lengths) for part in _filled(windows).values()]
        )
    describe = {key: describe_by_convolutions(part) for key, part in _filled(train).items()}
    return lambda windows: _of_sets([describe[key](part) for key, part in _filled(windows).items()])


def _of_sets(features: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    return features[0] if len(features) == 1 else np.concatenate(features, axis=1)


def _filled(windows: AnyWindows) -> Mapping[str, WindowSet]:
    """Return the windows of each sensor, with zeros where one of several sensors has no data."""
    sets = sets_of(windows)
    if UNNAMED in sets:
        return sets
    return {key: replace(part, X=np.nan_to_num(part.X)) for key, part in sets.items()}


def describe_by_convolutions(train: WindowSet) -> Callable[[WindowSet], NDArray[np.floating]]:
    """Fit a scaler and random convolutions; return the function that computes the features."""
    scaler = fit_scaler(train.X, train.lengths)
    n_features = _FEATURES if len(train) <= _MANY_WINDOWS else _FEWER_FEATURES
    convolutions = RandomConvolutions(n_features=n_features, random_state=0)
    convolutions.fit(scaler.transform(train.X, train.lengths), train.lengths)

    def describe(windows: WindowSet) -> NDArray[np.floating]:
        features = np.empty((len(windows), convolutions.n_features_), np.float32)
        for at in range(0, len(windows), _BLOCK):
            part = windows.take(np.arange(at, min(at + _BLOCK, len(windows))))
            scaled = scaler.transform(part.X, part.lengths)
            features[at : at + len(part)] = convolutions.transform(scaled, part.lengths)
        return features

    return describe
