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
from sensorseq.io.model_file import write_model
from sensorseq.prediction.classifier_methods import ClassifierMethods
from sensorseq.prediction.decisions import Abstention
from sensorseq.prediction.model import TrainedModel


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

    # Files

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
