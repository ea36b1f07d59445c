"""Channel-first series, as aeon and sktime store them."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sensorseq.estimator import SensorLSTMClassifier


def to_windows(X: Any) -> dict[str, Any]:
    """Convert series to the arguments `X` and `lengths` of our classifier.

    The series are an array (n, c, t), a list of arrays (c, t_i), or a list of DataFrames with one
    row per step, whose columns the classifier orders by name. For an array, the result contains
    `lengths`, without which the classifier might mistake short series with many channels for
    channel-first series.
    """
    if isinstance(X, np.ndarray):
        return {"X": X.transpose(0, 2, 1), "lengths": np.full(len(X), X.shape[2])}
    return {"X": [part.T if isinstance(part, np.ndarray) else _named(part) for part in X]}


def _named(frame: Any) -> Any:
    """Return a DataFrame with numbered columns if sktime made it from an array without names."""
    of_array = [f"var_{i}" for i in range(frame.shape[1])]
    if sorted(map(str, frame.columns)) != sorted(of_array):
        return frame
    return frame[of_array].set_axis(range(len(of_array)), axis=1)


class ClassifierAdapter:
    """Mixin with the methods that the adapters of both libraries share."""

    estimator: Any

    def _fit(self, X: Any, y: NDArray[Any]) -> Self:
        fitted = SensorLSTMClassifier() if self.estimator is None else clone(self.estimator)
        self.estimator_ = fitted.fit(y=y, **to_windows(X))
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return np.asarray(self.estimator_.predict(**to_windows(X)))

    def _predict_proba(self, X: Any) -> NDArray[np.float64]:
        return np.asarray(self.estimator_.predict_proba(**to_windows(X)))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return arguments that make the libraries' own checks quick."""
        quick: dict[str, Any] = {
            "hidden_size": 4,
            "max_epochs": 2,
            "device": "cpu",
            "random_state": 0,
        }
        other = {**quick, "hidden_size": 3, "pooling": "last", "sampler": "balanced"}
        return [{"estimator": SensorLSTMClassifier(**arguments)} for arguments in (quick, other)]

    _get_test_params = get_test_params  # the name that aeon uses
