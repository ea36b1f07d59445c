"""SensorFusionClassifier: several sensors, each with its own classifier."""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sensorseq.errors import InputError, noting
from sensorseq.estimator.adapt import refuse_apart
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.explain import Explanation, explain_sensors
from sensorseq.estimator.fit_sensors import fit_sensors, without_lost
from sensorseq.estimator.saving import (
    check_stored,
    current_arguments,
    load_file,
    plain_arguments,
)
from sensorseq.export.c_source import CExport, COptions, render_sensors, write_texts
from sensorseq.export.to_onnx import write_onnx
from sensorseq.io.model_file import take_field
from sensorseq.prediction.loading import sensors_of
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.model import TrainedModel, read_joint
from sensorseq.prediction.stream import DecisionStream
from sensorseq.sensor_windows import UNNAMED, SensorWindows, are_sensors, as_sensor_windows
from sensorseq.training.prepared_windows import read_prepared


class SensorFusionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
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

    classes_ = SensorLSTMClassifier.classes_
    abstention_ = SensorLSTMClassifier.abstention_
    abstain_threshold_ = SensorLSTMClassifier.abstain_threshold_
    predict = SensorLSTMClassifier.predict
    predict_proba = SensorLSTMClassifier.predict_proba
    predict_or_abstain = SensorLSTMClassifier.predict_or_abstain
    predict_recordings = SensorLSTMClassifier.predict_recordings
    fit_abstention = SensorLSTMClassifier.fit_abstention
    score = SensorLSTMClassifier.score
    timeline = SensorLSTMClassifier.timeline
    outside = SensorLSTMClassifier.outside

    def stream(
        self,
        sample_rate_hz: Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
    ) -> DecisionStream:
        """Return a stream that prepares samples as in training and classifies them as they arrive.

        Parameters
        ----------
        sample_rate_hz : mapping of str to float, optional
            Rate of each sensor in Hz; by default, the rate to which its recordings were resampled.
        max_gap_s, max_delay_s
            As in `SensorLSTMClassifier.stream`.
        max_wait_s : float, optional
            Used only if sensors may be missing. A sensor counts as missing when the samples of
            another sensor are more than this many seconds ahead of its own samples. By default, the
            time between windows. Samples must be pushed in chunks shorter than this time.

        Returns
        -------
        DecisionStream
            The stream; pass the sensor's name first: ``stream.push("imu", samples, timestamps_s)``.
        """
        check_is_fitted(self)
        return self.model_.stream(
            sample_rate_hz, max_gap_s=max_gap_s, max_delay_s=max_delay_s, max_wait_s=max_wait_s
        )

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

    # Files and exports

    save = SensorLSTMClassifier.save

    def _stored(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
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
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted classifier written by `save`; see `SensorLSTMClassifier.load`.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Device to use instead of the saved one.
        """
        loaded: Self = load_file(path, device, fusion=cls._restored)
        return loaded

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
        estimator = SensorLSTMClassifier(**current_arguments(take("parameters", dict)))
        check_stored(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        fusion = cls(estimator)
        fusion.features_ = FeatureChoice.from_dict(take("features", dict))
        fusion.sensors_ = sensors
        fusion.model_ = read_joint(take, {name: each.model_ for name, each in sensors.items()})
        return fusion

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        lengths: bool | None = None,
        steps: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Write an ONNX model that computes `predict_proba`.

        The graph has an input ``X_<sensor>`` for each sensor and, with `lengths`, an input
        ``lengths_<sensor>``; a sensor is missing if its window contains only NaN. The probabilities
        are NaN for windows that `predict_proba` refuses. The metadata entry ``sensors`` describes
        the input of each sensor.

        Parameters
        ----------
        path, lengths, steps, dtype
            As in `SensorLSTMClassifier.to_onnx`.

        Raises
        ------
        InputError
            If the graph cannot compute part of the model, or if there are more than ten sensors.
        """
        check_is_fitted(self)
        options: dict[str, Any] = {"n_timesteps": None, "lengths": lengths, "dtype": dtype}
        write_onnx(self.model_, path, **options, steps=steps, stored=self._stored)

    def to_c(
        self,
        folder: str | os.PathLike[str],
        *,
        units: Mapping[str, str] | None = None,
        weights: str = "float32",
        check: SensorWindows | str | os.PathLike[str] | None = None,
        prefix: str = "sensorseq",
    ) -> CExport:
        """Write the classifier as C99, without malloc.

        Each sensor has its own header and source, with functions such as ``sensorseq_imu_push``.
        ``sensorseq_join(of_imu, of_motor, probabilities)`` in ``sensorseq_model.h`` joins the
        sensors' probabilities for the same time interval; NULL stands for a missing sensor.

        Parameters
        ----------
        folder, units, weights, check, prefix
            As in `SensorLSTMClassifier.to_c`.

        Raises
        ------
        InputError
            If part of the model cannot be written in C, or if there are more than ten sensors.
        """
        check_is_fitted(self)
        options = COptions(
            units=units,
            weights=weights,
            check=None if check is None else self._open(check),
            prefix=prefix,
            is_refitted=any(classifier.refitted_ for classifier in self.sensors_.values()),
        )
        return write_texts(folder, *render_sensors(self.model_, options))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sensors_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
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
