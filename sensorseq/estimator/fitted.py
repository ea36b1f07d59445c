"""FittedClassifier: what the classifiers of one sensor and of several sensors have in common."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sensorseq.estimator.saving import Contents, load_file
from sensorseq.estimator.uncertainty import accuracy_of, find_abstention
from sensorseq.export.c_source import CExport, COptions, render_c, write_texts
from sensorseq.export.to_onnx import write_onnx
from sensorseq.io.model_file import write_model
from sensorseq.prediction.classifier_methods import ClassifierMethods
from sensorseq.prediction.decisions import Abstention
from sensorseq.prediction.model import TrainedModel
from sensorseq.sensor_windows import AnyWindows
from sensorseq.sequence.smoothing import Smooth


def of_model(name: str, change: Callable[..., TrainedModel] = replace) -> Any:
    """Return a property that reads a field of `model_`, and sets it with `change`."""

    def set_field(self: Any, value: Any) -> None:
        self.model_ = change(self.model_, **{name: value})

    def get_field(self: Any) -> Any:
        if not hasattr(self, "model_"):
            raise AttributeError(f"{type(self).__name__} has no {name}_ before fit.")
        return getattr(self.model_, name)

    return property(get_field, set_field)


class FittedClassifier(ClassifierMethods, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """The methods of both classifiers, which hold the trained model as `model_`."""

    model_: TrainedModel
    _names_sensors: ClassVar[bool]

    classes_ = of_model("classes")

    @property
    def abstention_(self) -> Abstention:
        """The result of `fit_abstention`."""
        if self.model_.abstention is None:
            raise AttributeError("there is no abstention_ before fit_abstention.")
        return self.model_.abstention

    @abstention_.setter
    def abstention_(self, abstention: Abstention) -> None:
        self.model_ = replace(self.model_, abstention=abstention)

    @property
    def abstain_threshold_(self) -> float:
        """The threshold chosen by `fit_abstention`."""
        return self.abstention_.threshold

    def _fitted_model(self) -> TrainedModel:
        check_is_fitted(self)
        return self.model_

    # scikit-learn's `score` accepts neither lengths nor a WindowSet
    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy. The columns of one-hot labels must be in the order of `classes_`.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        if isinstance(X, str | os.PathLike):
            X = self._open(X)
        return accuracy_of(self.predict(X, lengths), self.classes_, X, y, sample_weight)

    def fit_abstention(
        self,
        X: Any,
        y: Any = None,
        *,
        error_rate: float = 0.05,
        confidence: float = 0.9,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Choose the probability below which to abstain, using windows not used in `fit`.

        The result is the lowest threshold for which the windows show that at most a fraction
        `error_rate` of the answers is wrong. Windows of one group are treated as correlated; see
        `sensorseq.estimator.uncertainty.choose_threshold`. With probability `confidence`, this
        bound holds on new recordings of the same kind. The bound does not cover other recordings,
        such as those of a new surface or robot. `save` also stores the results, `abstention_` and
        `abstain_threshold_`.

        Parameters
        ----------
        X, y, lengths : as in `fit`
            Held-out windows that are not used for training, for validation or for the final score
            that you report.
        error_rate : float, default=0.05
            Maximum allowed fraction of wrong answers, above 0 and below 1.
        confidence : float, default=0.9
            Confidence of this bound, above 0 and below 1.
        groups : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its groups or, if it has
            none, its recordings. Without either, all windows are treated as independent, although
            windows of one recording are not.

        Raises
        ------
        InputError
            If no threshold keeps this bound; the message gives the lowest error rate for which
            there is a threshold. This error is also raised if the windows were used in `fit` or
            have no labels.
        """
        X, model = self._open(X), self._fitted_model()
        self.abstention_ = find_abstention(
            model, X, y, groups, lengths, error_rate=error_rate, confidence=confidence
        )
        return self

    # Files and exports

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        The file contains the weights, the scaling, the classes, the history, the report and all
        arguments. The file appears only when it is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that cannot be stored as plain data.
        """
        check_is_fitted(self)
        write_model(path, *self._stored())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted estimator written by `save`. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Device to use instead of the saved device, such as ``"cpu"`` if a GPU was used.

        Raises
        ------
        ModelFileError
            If the file is truncated or damaged, or if it was written by another program or a newer
            version.
        """
        restored: Callable[..., Self] = cls._restored
        return load_file(path, device, {cls._names_sensors: restored})

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        lengths: bool | None = None,
        steps: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Write an ONNX model that computes `predict_proba`.

        The graph accepts windows in the form given to `fit`, and includes cropping, scaling, all
        networks, `features` and the temperature. The probabilities are NaN for windows that
        `predict_proba` refuses because of their values. The graph uses opset 17 and runs in
        onnxruntime 1.15 or later. Windows must be prepared as in training; see `steps`. The
        metadata contain the preparation, the classes, channels, units and sample rate, and the
        SHA-256 of the model file. This method requires the extra ``onnx``.

        The graph of several sensors has an input ``X_<sensor>`` for each sensor and, with
        `lengths`, an input ``lengths_<sensor>``; a sensor is missing if its window contains only
        NaN. The metadata entry ``sensors`` describes the input of each sensor.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        n_timesteps : int, optional
            Number of timesteps of every window; a fixed number lets onnxruntime precompute more. By
            default, and always for several sensors, windows may have any number of steps.
        lengths : bool, optional
            Whether the graph has an input ``lengths`` of shape (n,) and type int64, the number of
            valid steps of each window, 1 to t. By default, the graph has this input if the windows
            in `fit` differed in length.
        steps : bool, default=False
            Whether to include the preparation steps, so that the graph accepts windows of
            unprepared samples at the model's sample rate. Products, power, differences of channels,
            signed channels and magnitudes can be exported. If a step depends on earlier samples, as
            a filter does, an error that names the step is raised.
        dtype : {"float32", "float64"}, default="float32"
            Type of the input ``X``, which has shape (n, t, c), or (n, t) after a fit on a table.
            The output ``probabilities``, of shape (n, n_classes), is always float32.

        Raises
        ------
        InputError
            If the graph cannot compute part of the model: ``normalize="recording"``, your own
            function as `features`, or more than ten sensors.
        ArgumentError
            If an argument does not match the model.
        EnvironmentProblemError
            If the library onnx is missing.
        """
        write_onnx(
            self._fitted_model(),
            path,
            n_timesteps=n_timesteps,
            lengths=lengths,
            steps=steps,
            dtype=dtype,
            stored=self._stored,
        )

    def to_c(
        self,
        folder: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        hop: int | None = None,
        sample_rate_hz: float | None = None,
        units: Mapping[str, str] | None = None,
        weights: str = "float32",
        check: AnyWindows | str | os.PathLike[str] | None = None,
        prefix: str = "sensorseq",
        smooth: Smooth = "none",
    ) -> CExport:
        """Write the classifier as C99: one header and one source file, without malloc.

        ``sensorseq_push(&state, sample, probabilities)`` takes one raw sample and returns 1 when a
        window is complete. Resampling, causal steps, scaling, networks, features and
        `temperature_` are included. With float32 weights, the probabilities of a window agree with
        those of `predict_proba` within 1e-5.

        Each of several sensors has its own header and source, with functions such as
        ``sensorseq_imu_push``. ``sensorseq_join(of_imu, of_motor, probabilities)`` in
        ``sensorseq_model.h`` joins the sensors' probabilities for the same time interval; NULL
        stands for a missing sensor. `n_timesteps`, `hop`, `sample_rate_hz` and `smooth` are only
        for one sensor.

        Parameters
        ----------
        folder : str or path
            Folder for ``sensorseq_model.h`` and ``sensorseq_model.c``; created if missing.
        n_timesteps : int, optional
            Number of samples in a window; by default, as in training. Required after `from_torch`.
        hop : int, optional
            Number of samples from the start of one window to the start of the next, at the sample
            rate of the windows. By default, as in the preparation; without a preparation, windows
            do not overlap.
        sample_rate_hz : float, optional
            Rate in Hz of the samples that are pushed, if the C code is to resample them. By
            default, the samples must already have the rate to which the training recordings were
            resampled.
        units : mapping of str to str, optional
            Units of input channels, such as ``{"current": "mA"}``; needed for steps that multiply
            channels.
        weights : {"float32", "int8"}, default="float32"
            Type of the weights. ``"int8"`` needs a quarter of the memory and has one scale for each
            row; activations stay float32.
        check : WindowSet, SensorWindows or path of a prepared file, optional
            Labeled windows on which to measure the accuracy with these weights; the accuracy is
            written into the header. The validation part is used, or all windows if there is no
            split.
        prefix : str, default="sensorseq"
            Prefix of all names in C and of the file names.
        smooth : {"none", "filter", "lag"} or Smoothing, default="none"
            ``"filter"`` and ``"lag"`` also write ``sensorseq_smooth(&smoother, probabilities,
            smoothed)``, which smooths the probabilities from ``sensorseq_push`` over time. The
            results agree with those of `stream` within 1e-5. The smoother needs ``8 * (lag + 1)``
            bytes for each class.

        Returns
        -------
        CExport
            The paths of the files, and the RAM, flash and multiply-adds that the code needs; print
            it to see a table.

        Raises
        ------
        InputError
            If part of the model cannot be written in C: your own function as `features`,
            ``normalize="recording"``, a step with ``phase="zero"``, or more than ten sensors.
        ArgumentError
            If an argument does not match the model.
        """
        model = self._fitted_model()
        options = COptions(
            n_timesteps=n_timesteps,
            hop=hop,
            sample_rate_hz=sample_rate_hz,
            units=units,
            weights=weights,
            check=None if check is None else self._open(check, "check"),
            prefix=prefix,
            smoothing=model.smoothing(smooth),
            is_refitted=getattr(self, "refitted_", False),
        )
        return write_texts(folder, *render_c(model, options))

    @abstractmethod
    def _stored(self) -> Contents:
        """Return the contents of this estimator's model file."""

    @classmethod
    @abstractmethod
    def _restored(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        path: str | os.PathLike[str],
        device: str | None,
    ) -> Self:
        """Rebuild an estimator from the contents of the file at `path`."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
