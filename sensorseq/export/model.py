"""What an export reads of a fitted estimator."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.features.blocks import Block
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.preprocessing.scale import Scaler
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training.patches import Patch
from sensorseq.training.probabilities import Abstention
from sensorseq.windows import WindowSet


class Head(Protocol):
    """Features beside the networks, and the factor of the networks' logits."""

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
    _head: Head | None
    _flat_timesteps: int | None
    _n_timesteps: int | None

    @property
    def preparation_(self) -> Mapping[str, Any] | None:
        """How the windows were prepared, if that is known."""

    @property
    def modules_(self) -> Sequence[LSTMLinear]:
        """All networks."""

    @property
    def _used_modules(self) -> Sequence[LSTMLinear]:
        """The networks that count."""

    @property
    def _n_channels(self) -> int:
        """The channels of the windows."""

    @property
    def _channels(self) -> list[str] | None:
        """Their names, if there are any."""

    def predict(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return labels or values."""

    def score(self, X: WindowSet) -> float:
        """Return the accuracy, or R squared."""


class FittedClassifier(FittedModel, Protocol):
    """A fitted classifier."""

    classes_: NDArray[Any]
    temperature_: float
    abstention_: Abstention

    @property
    def _class_shares(self) -> NDArray[np.float64]:
        """What it gives each class on average."""

    def predict_proba(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the probabilities of the classes."""


class FittedRegressor(FittedModel, Protocol):
    """A fitted regressor."""

    target_mean_: NDArray[np.float64]
    target_sd_: NDArray[np.float64]


def is_classifier(model: FittedModel) -> TypeGuard[FittedClassifier]:
    """Whether it predicts classes."""
    return model._task == CLASSIFICATION


def is_regressor(model: FittedModel) -> TypeGuard[FittedRegressor]:
    """Whether it predicts values."""
    return model._task != CLASSIFICATION
