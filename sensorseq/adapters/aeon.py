"""The classifier for aeon, whose series are an array (n, c, t) or a list of arrays (c, t_i)."""

from typing import ClassVar

from sensorseq.adapters._channels_first import ClassifierAdapter
from sensorseq.estimator import SensorLSTMClassifier

try:
    from aeon.classification import BaseClassifier  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(
        'sensorseq.adapters.aeon needs aeon: pip install "sensorseq[aeon]"'
    ) from error

_TAGS = {
    "X_inner_type": ["np-list", "numpy3D"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "algorithm_type": "deeplearning",
}


class SensorLSTMAeonClassifier(ClassifierAdapter, BaseClassifier):  # type: ignore[misc]  # aeon is untyped
    """A `SensorLSTMClassifier` as an aeon classifier.

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
    >>> from aeon.datasets import load_basic_motions
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.adapters.aeon import SensorLSTMAeonClassifier
    >>> X, y = load_basic_motions(split="train")
    >>> quick = SensorLSTMClassifier(hidden_size=8, max_epochs=3, random_state=0)
    >>> SensorLSTMAeonClassifier(quick).fit(X, y).predict(X).shape
    (40,)
    """

    _tags: ClassVar = _TAGS

    def __init__(self, estimator: SensorLSTMClassifier | None = None) -> None:
        self.estimator = estimator
        super().__init__()
