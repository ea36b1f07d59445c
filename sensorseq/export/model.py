"""The attributes of a fitted estimator that an export reads."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.features.blocks import Block
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.fusion import Fusion
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.predictor import CLASSIFICATION
from sensorseq.prediction.probabilities import Abstention
from sensorseq.preprocessing.scale.keyed import KeyedScaler
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.sensor_windows import SensorWindows
from sensorseq.windows import WindowSet


class Head(Protocol):
    """Features besides the networks, and the weight of the networks' logits."""

    lstm_weight: float
    blocks: list[Block]


class FittedModel(Protocol):
    """A fitted classifier or regressor."""

    _task: ClassVar[str]
    module_: LSTMLinear
    patch_: Patch | None
    scaler_: Scaler | KeyedScaler | None
    max_timesteps: int | None
    crop: str
    refitted_: bool
    preparation_: Mapping[str, Any] | None
    modules_: Sequence[LSTMLinear]
    _used_modules: Sequence[LSTMLinear]  # none if features decide alone
    _head: Head | None
    _n_channels: int
    _channels: list[str] | None
    _flat_timesteps: int | None
    _n_timesteps: int | None
    _were_lengths: bool

    def predict(
        self, X: ArrayLike | SensorWindows, lengths: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Return labels or values."""

    def score(self, X: WindowSet | SensorWindows) -> float:
        """Return the accuracy, or R squared."""


class FittedClassifier(FittedModel, Protocol):
    """A fitted classifier.

    That of several sensors has a model of each, and of its own only what this class adds.
    """

    sensors_: Mapping[str, "FittedClassifier"]
    _fusion: Fusion | None
    classes_: NDArray[Any]
    temperature_: float
    abstention_: Abstention
    _class_shares: NDArray[np.float64]

    def predict_proba(
        self, X: ArrayLike | SensorWindows, lengths: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the probabilities of the classes."""


class FittedRegressor(FittedModel, Protocol):
    """A fitted regressor."""

    target_mean_: NDArray[np.float64]
    target_sd_: NDArray[np.float64]


def is_classifier(model: FittedModel) -> TypeGuard[FittedClassifier]:
    """Test whether a model is a classifier."""
    return model._task == CLASSIFICATION


def is_regressor(model: FittedModel) -> TypeGuard[FittedRegressor]:
    """Test whether a model is a regressor."""
    return model._task != CLASSIFICATION
