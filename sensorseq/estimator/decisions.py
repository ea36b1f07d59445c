"""Learn from windows that were left out: the temperature, and when to abstain."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import check_integer, check_real
from sensorseq.errors import InputError, warn_caller
from sensorseq.estimator.base import SensorLSTM
from sensorseq.estimator.fitting import PreparedFit
from sensorseq.estimator.refit import Refit
from sensorseq.io.model_file import take_field
from sensorseq.prediction.decisions import ClassPredictor
from sensorseq.prediction.head import FeatureChoice
from sensorseq.prediction.inputs import check_groups
from sensorseq.prediction.preparation import seen_recordings
from sensorseq.prediction.probabilities import softmax
from sensorseq.training.inference import outputs_of
from sensorseq.training.labels import read_known_labels
from sensorseq.training.parameters import check_parameters, check_plain
from sensorseq.training.probabilities import (
    NOTABLE_SPREAD,
    choose_threshold,
    fit_temperature,
    lowest_error_rate,
    probability_spread,
)
from sensorseq.windows import WindowSet

_FEWEST_LEFT_OUT, _MOST_LEFT_OUT = 6, 1000  # windows to learn the shares of the classes from
_SMALLEST_LOG = -6.0  # of a probability, so that no class has a share near zero


class DecidingLSTM(ClassPredictor, SensorLSTM):
    """Class probabilities, and the decisions based on them."""

    calibrate: bool
    # rows of X as given to `fit`, and their logits by models that were not fitted on them
    _left_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def held_out_predictions(
        self, n_windows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return rows and class probabilities of held-out windows, from before any refit.

        The rows are places in the validation part. None if there was no refit, the estimator was
        loaded from a file, or the validation part had another number of windows.

        Parameters
        ----------
        n_windows : int
            Windows of the validation part.
        """
        check_integer("n_windows", n_windows, 0)
        held_out = self._held_out
        if held_out is None or not 0 < len(held_out[0]) <= n_windows:
            return None
        rows, outputs = held_out
        return rows, softmax(outputs / self.temperature_)

    def out_of_fold_predictions(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return cross-validated class probabilities of training windows, and their rows.

        Each window is predicted by models that were not fitted on it, in the folds used to weight
        the features; only the few weights of the sum were fitted on the same windows. The rows
        refer to X as given to `fit`, at most 6,000, see `features`. None if the fit weighted no
        features, used `X_val`, or the estimator was loaded from a file.
        """
        head = self._head
        if head is None or head.given_rows is None or head.out_of_fold is None:
            return None
        return head.given_rows, softmax(head.out_of_fold / self.temperature_)

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
        """Choose the probability below which to abstain, on windows not used in `fit`.

        This is the lowest threshold for which the windows show that at most `error_rate` of the
        answers are wrong, treating whole groups as the samples; see
        `sensorseq.training.probabilities.choose_threshold`. With probability `confidence` the bound
        holds on new recordings of the same kind. It does not cover other recordings, such as a new
        surface or robot. `save` also stores the result, `abstention_` and `abstain_threshold_`.

        Parameters
        ----------
        X, y, lengths : as in `fit`
            Held-out windows, used neither for training or validation nor for the final score you
            report.
        error_rate : float, default=0.05
            Highest allowed share of wrong answers, above 0 and below 1.
        confidence : float, default=0.9
            Confidence of that bound, above 0 and below 1.
        groups : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own groups, or uses its recordings.
            Without either, windows count as independent, which windows of one recording are not.

        Raises
        ------
        InputError
            If the windows cannot show this for any threshold; the message gives the lowest error
            rate they can show. Also if they were used in `fit`, or have no labels.
        """
        check_is_fitted(self)
        check_real("error_rate", error_rate, 0.0, 1.0, low_open=True)
        check_real("confidence", confidence, 0.0, 1.0, low_open=True)
        X = self._open(X, "X")
        if isinstance(X, WindowSet):
            y = X.y if y is None else y
            groups = X.groups if groups is None else groups
            seen = seen_recordings(self.preparation_, X)
            if seen:
                raise InputError(
                    f"X has {len(seen)} recording(s) that were used for training or validation"
                    f" ({', '.join(seen[:3])}), where the model makes fewer errors than on new"
                    " ones. Give recordings that were not used in fit."
                )
        probability = self.predict_proba(X, lengths)
        n_windows = len(probability)
        class_index = read_known_labels(y, n_windows, "y", "X", self.classes_)
        named = check_groups(groups, n_windows, "groups")
        group_index = np.arange(n_windows)
        if named is not None:
            group_index = np.unique(named, return_inverse=True)[1]
        highest, is_right = probability.max(axis=1), probability.argmax(axis=1) == class_index
        chosen = choose_threshold(
            highest, is_right, group_index, error_rate=error_rate, confidence=confidence
        )
        if chosen is None:
            lowest = lowest_error_rate(highest, is_right, group_index, confidence)
            way = "" if lowest is None else f", or use error_rate={lowest:g}, which these can show"
            raise InputError(
                f"no threshold was found: {n_windows} windows of {group_index.max() + 1} group(s),"
                f" {100 * is_right.mean():.1f} % of them right, cannot show with confidence"
                f" {confidence:g} that at most error_rate={error_rate:g} of the answers are wrong,"
                f" not even for the most confident 30 %. Record more groups{way}."
            )
        self.abstention_ = chosen
        return self

    def _stored(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        if self._fusion is None:
            return super()._stored()
        arrays: dict[str, NDArray[Any]] = {}
        of_sensors = []
        for at, model in enumerate(self.sensors_.values()):
            own, described = model._stored()
            arrays |= {f"sensor.{at}.{name}": array for name, array in own.items()}
            of_sensors.append(described)
        parameters = self.get_params(deep=False)
        check_plain(parameters)
        return arrays, {
            "parameters": parameters,
            **self._describe_classes(),
            "fusion": self._fusion.description(),
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
        if "fusion" not in description:
            return super()._restored(arrays, description, path, device)
        take = partial(take_field, description, path=path)
        model = cls(**take("parameters", dict))
        check_parameters(model.get_params(deep=False))
        model._restore_sensors(
            arrays, take, lambda own, described: cls._restored(own, described, path, device)
        )
        model.features_ = FeatureChoice.from_dict(take("features", dict))
        return model

    def _learn_probabilities(
        self, prepared: PreparedFit, plan: Refit | FeatureChoice | None
    ) -> None:
        self.temperature_, self._shares, self._left_out = 1.0, None, None
        # It was chosen for the probabilities of an earlier fit.
        self.__dict__.pop("abstention_", None)
        held_out = prepared.validation
        groups = None if held_out is None else held_out.groups
        if self._head is not None and isinstance(plan, Refit):
            logits, class_index, groups = plan.left_out(self._head, groups)
            rows = self._head.given_rows
        elif held_out is not None and held_out.samples is not None:
            logits = outputs_of(self._ensemble, held_out.samples)
            class_index = held_out.samples.target.cpu().numpy()
            rows = held_out.rows
        else:
            return
        self._left_out = None if rows is None else (rows, logits)
        if self.calibrate:
            self._calibrate(logits, class_index, groups)
        self._learn_shares(softmax(logits / self.temperature_))

    def _learn_shares(self, probabilities: NDArray[np.float64]) -> None:
        """Learn the mean of left-out windows (n, K), unless the training evened out the classes."""
        self._shares, n = None, len(probabilities)
        evens_out = self.class_weight is not None or self.sampler != "shuffle"
        if evens_out or n < _FEWEST_LEFT_OUT or not np.isfinite(probabilities).all():
            return
        rows = np.linspace(0, n - 1, min(n, _MOST_LEFT_OUT)).round().astype(np.int64)
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(probabilities[rows]), _SMALLEST_LOG).astype(np.float32)
        shares = np.exp(logs.astype(np.float64)).mean(axis=0)
        self._shares = shares / shares.sum()

    def _calibrate(
        self,
        logits: NDArray[np.float64],
        class_index: NDArray[np.int64],
        groups: NDArray[Any] | None,
    ) -> None:
        self.temperature_ = fit_temperature(logits, class_index)
        spread = probability_spread(logits, class_index, self.temperature_, groups)
        if spread > NOTABLE_SPREAD:
            of = "" if groups is None else f" of {len(np.unique(groups))} group(s)"
            warn_caller(
                f"calibrate=True had only {len(logits)} validation windows{of}; with other"
                " validation windows the probability of the predicted class would differ by about"
                f" {spread:.2f}. Hold out more (validation_fraction, X_val), or do not rely on the"
                " probabilities.",
            )
