"""SensorFusionClassifier: several sensors, each with its own classifier."""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sensorseq.errors import InputError, noting
from sensorseq.estimator.adapt import refuse_apart
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.explain import Explanation, explain_sensors
from sensorseq.estimator.fit_sensors import fit_sensors, without_lost
from sensorseq.estimator.fitted import FittedClassifier
from sensorseq.estimator.saving import (
    Contents,
    known_arguments,
    plain_arguments,
)
from sensorseq.io.model_file import take_field
from sensorseq.prediction.loading import sensors_of
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.model import TrainedModel, read_joint
from sensorseq.sensor_windows import UNNAMED, are_sensors, as_sensor_windows
from sensorseq.training.parameters import check_parameters
from sensorseq.training.prepared_windows import read_prepared


class SensorFusionClassifier(FittedClassifier):
    """Classify windows of several sensors, each with its own rate and its own classifier.

    The logits of the sensors are combined in a weighted sum. The weights are fitted on windows that
    were left out of the fits of the classifiers. Each combination of sensors that a window may have
    gets its own weights; with more than six sensors, only some combinations do.

    Parameters
    ----------
    estimator : SensorLSTMClassifier, optional
        The classifier that is cloned for each sensor; by default, one with default arguments. With
        ``missing="expected"``, windows that lack a sensor are predicted from the other sensors, and
        the model of a sensor is trained on the windows in which each of its channels has at least
        one number. With ``missing="outside"``, a sensor with a channel out of range, or with most
        of its channels constant, is used only for windows that have no other sensor;
        docs/preprocessing/several_sensors.md reports measurements of the effect.

    Attributes
    ----------
    sensors_ : dict of str to SensorLSTMClassifier
        The classifier of each sensor, with its own history, report and features.
    model_ : TrainedModel
        The trained model, with everything that prediction needs, as `sensorseq.prediction.load`
        returns it.
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the columns of `predict_proba`.
    features_ : FeatureChoice
        The weights of the sensors, and the log-loss and accuracy of each sensor alone and of all
        sensors together on windows left out of the fits. Print this object to see a summary.
    abstention_, abstain_threshold_ : Abstention and float
        The result of `fit_abstention`.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorFusionClassifier, SensorLSTMClassifier
    >>> t, y = np.arange(40), np.array(["fast", "slow"] * 30)
    >>> imu = np.stack([np.sin(t * (0.3 if i % 2 else 0.9) + i) for i in range(60)])[:, :, None]
    >>> X = {"imu": imu, "motor": imu[:, ::4]}
    >>> quick = SensorLSTMClassifier(hidden_size=8, max_epochs=10, random_state=0)
    >>> SensorFusionClassifier(quick).fit(X, y).score(X, y) > 0.9
    True
    """

    __metadata_request__fit: ClassVar = {"groups": True}
    _names_sensors = True

    sensors_: dict[str, SensorLSTMClassifier]
    _joint: TrainedModel  # without the models of the sensors
    features_: FeatureChoice

    def __init__(self, estimator: SensorLSTMClassifier | None = None) -> None:
        self.estimator = estimator

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train a classifier for each sensor, and fit the weights of the sum of their logits.

        Parameters
        ----------
        X : mapping of str to array of shape (n, t, c), SensorWindows, or path
            Windows of each sensor; window i covers the same time interval for all sensors. A window
            of NaN means that the sensor has no data for that interval. A path means a prepared file
            of several sensors. If X has a split, it is used as in `SensorLSTMClassifier.fit`.
        y, sample_weight, groups : optional
            As in `SensorLSTMClassifier.fit`.

        Raises
        ------
        InputError
            If X has only one sensor, or if windows lack a sensor and the estimator's `missing` is
            ``"error"``.
        ArgumentError
            If the estimator's `warm_start` or `checkpoint` is set.
        """
        estimator = SensorLSTMClassifier() if self.estimator is None else self.estimator
        fitted = fit_sensors(estimator, _open(X), y, sample_weight, groups)
        self.sensors_, self._joint, self.features_ = fitted
        return self

    @property
    def model_(self) -> TrainedModel:
        """The trained model, with everything that prediction needs."""
        check_is_fitted(self)
        models = {name: classifier.model_ for name, classifier in self.sensors_.items()}
        return self._joint.with_sensors(models)

    @model_.setter
    def model_(self, model: TrainedModel) -> None:
        self._joint = model.with_sensors({})

    # Predictions

    def _open(self, X: Any, name: str = "X") -> Any:
        """Open a prepared file of several sensors; return any other X unchanged."""
        check_is_fitted(self)
        return _open(X) if isinstance(X, str | os.PathLike) else X

    def explain(
        self,
        X: Any,
        *,
        label: ArrayLike | None = None,
        n_regions: int = 10,
    ) -> dict[str, Explanation]:
        """Explain each sensor's contribution to the decisions on the windows that have this sensor.

        Parameters
        ----------
        X : as in `predict`
        label, n_regions
            As in `SensorLSTMClassifier.explain`.
        """
        X = self._open(X)
        return explain_sensors(self.model_, X, label=label, n_regions=n_regions)

    def adapt(self, X: Any, y: Any = None) -> Self:
        """Return a copy with adapted classifiers; see `SensorLSTMClassifier.adapt`.

        Parameters
        ----------
        X, y
            As in `SensorLSTMClassifier.adapt`, but for several sensors.

        Returns
        -------
        SensorFusionClassifier
            The copy; each of its `sensors_` has an `adaptation_`.
        """
        X = self._open(X)
        if are_sensors(X):
            if getattr(X, "split", None) is not None:
                refuse_apart(y)
            X = as_sensor_windows(X, y)
        windows = self.model_.read_sensors(X)
        if self.model_.missing != "error":
            windows = without_lost(windows)
        adapted, models = copy.copy(self), dict(self.sensors_)
        for name, of_sensor, _ in windows.by_sensor():
            with noting(f"in the windows of sensor {name!r}"):
                models[name] = models[name].adapt(of_sensor)
        adapted.sensors_, adapted._joint = models, replace(self._joint, abstention=None)
        return adapted

    # Files

    def _stored(self) -> Contents:
        """Return the arrays and the description of a model file."""
        arrays: dict[str, NDArray[Any]] = {}
        of_sensors = []
        for at, classifier in enumerate(self.sensors_.values()):
            of_sensor, description = classifier._stored()
            arrays |= {f"sensor.{at}.{name}": array for name, array in of_sensor.items()}
            of_sensors.append(description)
        estimator, model = self.estimator or SensorLSTMClassifier(), self.model_
        return arrays, {
            "parameters": plain_arguments(estimator.get_params(deep=False)),
            **model.describe_classes(),
            "fusion": model.describe_sensors(),
            "features": self.features_.to_dict(),
            "sensors": of_sensors,
        }

    @classmethod
    def _restored(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        path: str | os.PathLike[str],
        device: str | None,
    ) -> Self:
        """Rebuild a classifier from the contents of the file at `path`."""
        take = partial(take_field, description, path=path)
        restored = partial(SensorLSTMClassifier._restored, path=path, device=device)
        sensors: dict[str, SensorLSTMClassifier] = sensors_of(arrays, take, restored)
        known = SensorLSTMClassifier._get_param_names()
        estimator = SensorLSTMClassifier(**known_arguments(take("parameters", dict), known))
        check_parameters(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        fusion = cls(estimator)
        fusion.features_ = FeatureChoice.from_dict(take("features", dict))
        fusion.sensors_ = sensors
        fusion.model_ = read_joint(take, {name: each.model_ for name, each in sensors.items()})
        return fusion

    @property
    def refitted_(self) -> bool:
        """True if the model of a sensor has also learned from the held-out windows."""
        return any(classifier.refitted_ for classifier in self.sensors_.values())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sensors_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = getattr(self.estimator, "missing", "error") != "error"
        return tags


def _open(X: Any) -> Any:
    """Return windows of several sensors, which are read from a file if X is a path."""
    if isinstance(X, str | os.PathLike):
        X = read_prepared(X)
    if not are_sensors(X):
        raise InputError(
            "X has one sensor; give a mapping of sensors to their windows, or use"
            " SensorLSTMClassifier."
        )
    return X


def classifiers_of(
    model: SensorLSTMClassifier | SensorFusionClassifier,
) -> dict[str, SensorLSTMClassifier]:
    """Return the classifier of each sensor by its name, which is empty for a single classifier."""
    return model.sensors_ if isinstance(model, SensorFusionClassifier) else {UNNAMED: model}
