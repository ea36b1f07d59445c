"""Baselines for the network: the majority class, and classic learners on summary features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq.features.summary import summary_features
from sensorseq.features.trees import make_boosting
from sensorseq.windows import WindowSet

BASELINES = ("majority", "ridge", "gradient_boosting")


def make_baseline(name: str, seed: int = 0) -> Any:
    """Return an unfitted classifier of summary features, one of `BASELINES`, untuned."""
    if name == "majority":
        return DummyClassifier(strategy="most_frequent")
    if name == "ridge":
        return make_pipeline(
            StandardScaler(),
            RidgeClassifierCV(alphas=np.logspace(-3, 3, 13), class_weight="balanced"),
        )
    return make_boosting(seed)


def predict_baseline(
    name: str, train: WindowSet, test: WindowSet, classes: NDArray[Any], seed: int = 0
) -> NDArray[np.float64]:
    """Fit a baseline on `train` and return its scores on `test`.

    Returns
    -------
    ndarray of shape (N, K), float64
        Probabilities if the learner gives them, otherwise 1 for the predicted class; columns in
        the order of `classes`.
    """
    fitted = make_baseline(name, seed).fit(summary_features(train.X, train.lengths), train.y)
    features = summary_features(test.X, test.lengths)
    order = {label: i for i, label in enumerate(classes.tolist())}
    scores = np.zeros((len(test), len(classes)))
    if hasattr(fitted, "predict_proba"):
        columns = [order[label] for label in fitted.classes_.tolist()]
        scores[:, columns] = fitted.predict_proba(features)
    else:
        chosen = [order[label] for label in fitted.predict(features).tolist()]
        scores[np.arange(len(test)), chosen] = 1.0
    return scores
