"""SensorFusionClassifier: several sensors, each with its own classifier."""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import check_sample_weight
from sensorseq.errors import (
    ArgumentError,
    InputError,
    SplitError,
    check_choice,
    noting,
)
from sensorseq.estimator.adapt import refuse_apart
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.explain import Explanation, SensorPart, explain, target_of
from sensorseq.estimator.saving import load_file, plain_arguments
from sensorseq.estimator.uncertainty import (
    LeftOut,
    learn_shares,
)
from sensorseq.export.c_source import CExport, COptions, render_sensors, write_texts
from sensorseq.export.to_onnx import write_onnx
from sensorseq.features.stack import fit_stack
from sensorseq.io.model_file import (
    take_field,
    write_model,
)
from sensorseq.io.prepared import read_sensor_windows, sensors_in
from sensorseq.numeric import log_softmax
from sensorseq.prediction.decisions import softmax
from sensorseq.prediction.fused import FusedModel, SensorStream, read_fused
from sensorseq.prediction.fusion import MISSING, Fusion, missing_sensors_text, pattern_key
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.loading import sensors_of
from sensorseq.prediction.members.choice import Candidate, FeatureChoice
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.sensor_windows import SensorWindows, are_sensors, as_sensor_windows
from sensorseq.training.inputs import check_axis_order
from sensorseq.training.labels import draw_entropy, read_labels
from sensorseq.training.parameters import check_parameters

# With at most this many sensors, weights are fitted for every combination of sensors; with more,
# only for single sensors, for all sensors, and for all but one.
_MOST_WEIGHED = 6


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
    model_ : FusedModel
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
    _fused: FusedModel  # without the models of the sensors
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
        _check_estimator(estimator)
        X = _open(X)
        labels = y if y is None else read_labels(y, len(as_sensor_windows(X)), "y")[0]
        for name, of_sensor in () if isinstance(X, SensorWindows) else X.items():
            if len(np.shape(of_sensor)) == 3:
                check_axis_order(of_sensor, None, f"X[{name!r}]")
        windows = as_sensor_windows(X, labels, groups)
        if windows.y is None:
            raise InputError("fit requires y to be passed, but the target y is None.")
        checked = check_sample_weight(sample_weight, len(windows))
        weight = np.ones(len(windows)) if checked is None else checked
        if windows.split is not None:
            rows = np.flatnonzero(windows.split != "test")
            windows, weight = windows.take(rows), weight[rows]
        if estimator.missing == "error" and not windows.present.all():
            raise InputError(missing_sensors_text(tuple(windows), windows.present))
        if estimator.missing != "error":
            windows = _without_lost(windows)
        seed = estimator.random_state
        if not isinstance(seed, int | np.integer):
            seed = int(draw_entropy(seed) % 2**31)
        windows = _with_common_split(windows, estimator.validation_fraction, int(seed))
        models: dict[str, SensorLSTMClassifier] = {}
        left_out: dict[str, LeftOut | None] = {}
        for name, of_sensor, rows in windows.by_sensor():
            _check_classes(name, of_sensor.y, windows.y)
            model = clone(estimator).set_params(random_state=int(seed))
            options = {"sample_weight": None if checked is None else weight[rows]}
            with noting(f"in the windows of sensor {name!r}"):
                left_out[name] = model._fit(of_sensor, None, options).left_out
            models[name] = model
        lacking = [name for name in windows if name not in models]
        if lacking:
            raise InputError(f"sensor {lacking[0]!r} has no window in the training part.")
        self._join(estimator, models, left_out, windows, weight)
        return self

    def _join(
        self,
        estimator: SensorLSTMClassifier,
        models: dict[str, SensorLSTMClassifier],
        left_out: Mapping[str, LeftOut | None],
        windows: SensorWindows,
        weight: NDArray[np.float64],
    ) -> None:
        """Fit the sensors' weights on left-out windows, and store the result of the fit."""
        classes = next(iter(models.values())).classes_
        class_index = np.searchsorted(classes, np.asarray(windows.y))
        logits, present = _logits_of(left_out, windows, len(classes))
        weights = _weigh(logits, present, class_index, weight)
        fusion = Fusion(tuple(windows), weights, estimator.missing)
        has_sensor = present.any(axis=1)
        joined = fusion.join(logits, np.where(present, COMPLETE, EMPTY))[has_sensor]
        shares = learn_shares(estimator.get_params(deep=False), softmax(joined))
        self.features_ = _describe(fusion, logits, present, class_index, weight)
        self._set_sensors(models, FusedModel(classes, {}, fusion, shares=shares))

    def _set_sensors(self, models: dict[str, SensorLSTMClassifier], fused: FusedModel) -> None:
        """Store the classifiers of the sensors, and the model that combines them."""
        self.sensors_, self._fused = models, replace(fused, models={})

    @property
    def model_(self) -> FusedModel:
        """The trained model, with everything that prediction needs."""
        check_is_fitted(self)
        models = {name: classifier.model_ for name, classifier in self.sensors_.items()}
        return replace(self._fused, models=models)

    @model_.setter
    def model_(self, model: FusedModel) -> None:
        self._fused = replace(model, models={})

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
    ) -> SensorStream:
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
        SensorStream
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
        X, model = self._open(X), self.model_
        windows, _ = model.fusion.read(X)
        logits, lacks = model.of_sensors(windows)
        model.check_not_empty(lacks.min(axis=1))
        weights, joined = model.fusion.weights_for(lacks), model.fusion.join(logits, lacks)
        target = joined.argmax(axis=1)
        if label is not None:
            target = target_of(model.classes, label, len(windows))
        explanations = {}
        for name, of_sensor, rows in windows.by_sensor():
            at, own = model.fusion.sensors.index(name), model.models[name]
            weight = weights[rows, at]
            other_sensors = joined[rows] - weight[:, None] * logits[at, rows]
            part = SensorPart(own, weight, other_sensors)
            scaled = own.scaled(own.without_failed(own.read(of_sensor))[0])
            how = {"label": own.classes[target[rows]], "n_regions": n_regions}
            explanations[name] = explain(part, scaled, model.temperature, model.classes, **how)
        return explanations

    def adapt(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Self:
        """Return a copy with adapted classifiers; see `SensorLSTMClassifier.adapt`.

        Parameters
        ----------
        X, y, groups
            As in `SensorLSTMClassifier.adapt`, but for several sensors.

        Returns
        -------
        SensorFusionClassifier
            The copy; each of its `sensors_` has an `adaptation_`.
        """
        X = self._open(X)
        if are_sensors(X):
            if getattr(X, "split", None) is not None:
                refuse_apart(y, groups)
            X = as_sensor_windows(X, y, groups)
        windows = self.model_.fusion.read(X)[0]
        if self.model_.missing != "error":
            windows = _without_lost(windows)
        adapted, models = copy.copy(self), dict(self.sensors_)
        for name, of_sensor, _ in windows.by_sensor():
            with noting(f"in the windows of sensor {name!r}"):
                models[name] = models[name].adapt(of_sensor)
        adapted._set_sensors(models, replace(self.model_, abstention=None))
        return adapted

    # Files and exports

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to one file; see `SensorLSTMClassifier.save`.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        """
        check_is_fitted(self)
        write_model(path, *self._stored())

    def _stored(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and the description of a model file."""
        arrays: dict[str, NDArray[Any]] = {}
        of_sensors = []
        for at, model in enumerate(self.sensors_.values()):
            of_sensor, description = model._stored()
            arrays |= {f"sensor.{at}.{name}": array for name, array in of_sensor.items()}
            of_sensors.append(description)
        estimator = SensorLSTMClassifier() if self.estimator is None else self.estimator
        return arrays, {
            "parameters": plain_arguments(estimator.get_params(deep=False)),
            **self.model_.describe_classes(),
            "fusion": self.model_.fusion.description(),
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
        models: dict[str, SensorLSTMClassifier] = sensors_of(arrays, take, restored)
        estimator = SensorLSTMClassifier(**take("parameters", dict))
        check_parameters(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        fusion = cls(estimator)
        fusion.features_ = FeatureChoice.from_dict(take("features", dict))
        trained = {name: classifier.model_ for name, classifier in models.items()}
        fusion._set_sensors(models, read_fused(take, trained))
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
    if isinstance(X, str | os.PathLike) and (sensors := sensors_in(X)):
        X = read_sensor_windows(X, sensors)
    if not are_sensors(X):
        raise InputError(
            "X has one sensor; give a mapping of sensors to their windows, or use"
            " SensorLSTMClassifier."
        )
    return X


def _check_estimator(estimator: SensorLSTMClassifier) -> None:
    check_choice("missing", estimator.missing, MISSING)
    for name, harmless in (("warm_start", False), ("checkpoint", None)):
        if getattr(estimator, name) != harmless:
            raise ArgumentError(
                f"{name}={getattr(estimator, name)!r} works for one sensor at a time; fit a"
                f" classifier for each sensor, or set {name}={harmless!r}."
            )


def _without_lost(windows: SensorWindows) -> SensorWindows:
    """Mark a sensor as missing in the windows in which one of its channels is all NaN."""
    sets = dict(windows.sensors)
    for name, of_sensor in windows.sensors.items():
        is_valid = np.arange(of_sensor.n_timesteps) < np.asarray(of_sensor.lengths)[:, None]
        is_number = ~np.isnan(of_sensor.X) & is_valid[:, :, None]
        has_all = np.asarray(np.all(np.any(is_number, axis=1), axis=1))
        if not has_all.all():
            X = np.where(has_all[:, None, None], of_sensor.X, np.nan)
            sets[name] = replace(of_sensor, X=X)
    return SensorWindows(sets)


def _with_common_split(windows: SensorWindows, fraction: float, seed: int) -> SensorWindows:
    """Hold out the same windows of all sensors, even if some windows lack a sensor.

    The held-out groups are drawn using only the windows that have all sensors, so that each sensor
    keeps every class in training. If no sensor is missing, nothing is done, because the sensors
    then get the same split from their common seed.
    """
    rows = np.flatnonzero(windows.present.all(axis=1))
    if windows.split is not None or len(rows) in (0, len(windows)) or not fraction:
        return windows
    classes = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    groups = np.arange(len(windows)) if windows.groups is None else np.asarray(windows.groups)
    try:
        _, held_out = holdout_by_group(classes[rows], groups[rows], fraction, seed)
    except SplitError:  # each fit then draws its own split or raises an error
        return windows
    is_held_out = np.isin(groups, groups[rows[held_out]])
    return windows.with_split(np.where(is_held_out, "validation", "train"))


def _check_classes(name: str, labels: Any, all_labels: Any) -> None:
    lost = np.setdiff1d(np.asarray(all_labels), np.asarray(labels))
    if lost.size:
        raise InputError(
            f"sensor {name!r} has no window of class {lost.tolist()[0]!r}. Record such"
            " windows, or leave out the class or the sensor."
        )


def _logits_of(
    left_out: Mapping[str, LeftOut | None], windows: SensorWindows, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits (n_sensors, n, K) of models not fitted on these windows, and a mask.

    The mask (n, n_sensors) is True for each window and sensor that has logits.
    """
    logits = np.zeros((len(left_out), len(windows), n_classes))
    present = np.zeros((len(windows), len(left_out)), bool)
    for at, (name, _, rows) in enumerate(windows.by_sensor()):
        of_sensor = left_out[name]
        if of_sensor is None:
            remedy = "set validation_fraction above 0"
            if windows.split is not None:
                remedy = "split the windows into train, validation and test"
            raise InputError(
                f"no window of sensor {name!r} was left out, so sensors cannot be weighted;"
                f" {remedy}."
            )
        places, outputs = of_sensor
        logits[at, rows[places]] = outputs
        present[rows[places], at] = True
    return logits, present


def _weigh(
    logits: NDArray[np.float64],
    present: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return weights for each single sensor, and for each combination of sensors in the windows."""
    n = present.shape[1]
    weights = {}
    for bits in product((False, True), repeat=n):
        pattern = np.array(bits)
        size = int(pattern.sum())
        if not size or (n > _MOST_WEIGHED and size not in (1, n - 1, n)):
            continue
        rows = present[:, pattern].all(axis=1) & (weight > 0)
        row = np.zeros(n)
        if rows.any():
            row[pattern], _ = fit_stack(logits[pattern][:, rows], class_index[rows], weight[rows])
        elif size > 1:
            continue
        if not row.any():
            row[pattern] = 1.0 / size
        weights[pattern_key(pattern)] = row
    return weights


def _describe(
    fusion: Fusion,
    logits: NDArray[np.float64],
    present: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> FeatureChoice:
    """Return the scores of each sensor and of their weighted sum, on windows with all sensors."""
    n = len(fusion.sensors)
    rows = present.all(axis=1) & (weight > 0)
    if not rows.any():
        return FeatureChoice(reason="no left-out window has all sensors")
    whole = fusion.weights_of(np.ones(n, bool))
    candidates = []
    for at in range(n + 1):
        used = np.arange(n) == at if at < n else np.ones(n, bool)
        name, factor = (fusion.sensors[at], float(whole[at])) if at < n else ("together", None)
        joined = np.tensordot(fusion.weights_of(used), logits[:, rows], 1)
        log = log_softmax(joined, axis=1)[np.arange(rows.sum()), class_index[rows]]
        right = joined.argmax(axis=1) == class_index[rows]
        accuracy = float(np.average(right, weights=weight[rows]))
        log_loss = -float(np.average(log, weights=weight[rows]))
        candidates.append(Candidate(name, log_loss, accuracy, factor))
    reason = f"{int(rows.sum())} windows left out when the sensors' models were fitted"
    return FeatureChoice(fusion.sensors, tuple(candidates), int(rows.sum()), 0, reason)
