"""The classifier for sktime: panels of series of equal or unequal length."""

from typing import ClassVar

from sensorseq.adapters._channels_first import ClassifierAdapter
from sensorseq.estimator import SensorLSTMClassifier

try:
    from sktime.classification.base import BaseClassifier  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(
        'sensorseq.adapters.sktime needs sktime: pip install "sensorseq[sktime]"'
    ) from error

_TAGS = {
    "authors": "sensorseq",
    "maintainers": "sensorseq",
    # If numpy3D were also listed, sktime would request it even for series of unequal length.
    "X_inner_mtype": "df-list",
    "y_inner_mtype": "numpy1D",
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": False,
    "capability:categorical_in_X": False,
}


class SensorLSTMSktimeClassifier(ClassifierAdapter, BaseClassifier):  # type: ignore[misc]  # sktime is untyped
    """A `SensorLSTMClassifier` as an sktime classifier.

    Parameters
    ----------
    estimator : SensorLSTMClassifier, optional
        The estimator to clone and train; by default, a `SensorLSTMClassifier` with default
        arguments. Arguments of the estimator can be set with
        ``set_params(estimator__hidden_size=32)``.

    Attributes
    ----------
    estimator_ : SensorLSTMClassifier
        The fitted clone.

    Examples
    --------
    >>> from sktime.datasets import load_basic_motions
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.adapters.sktime import SensorLSTMSktimeClassifier
    >>> X, y = load_basic_motions(split="train", return_type="numpy3D")
    >>> quick = SensorLSTMClassifier(hidden_size=8, max_epochs=3, random_state=0)
    >>> SensorLSTMSktimeClassifier(quick).fit(X, y).predict(X).shape
    (40,)
    """

    _tags: ClassVar = {**_TAGS, "capability:predict_proba": True}

    def __init__(self, estimator: SensorLSTMClassifier | None = None) -> None:
        self.estimator = estimator
        super().__init__()
