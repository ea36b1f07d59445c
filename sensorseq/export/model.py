"""The attributes of a fitted estimator that an export reads."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.features.blocks import Block
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.fusion import Fusion
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.probabilities import Abstention
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.sensor_windows import SensorWindows
from sensorseq.windows import WindowSet


class Head(Protocol):
    """Features besides the networks, and the weight of the networks' logits."""

    lstm_weight: float
    blocks: list[Block]


class FittedClassifier(Protocol):
    """A fitted classifier.

    One of several sensors has a model of each in `sensors_`, and lacks the attributes that concern
    the windows of one sensor.
    """

    sensors_: Mapping[str, "FittedClassifier"]
    _fusion: Fusion | None
    classes_: NDArray[Any]
    temperature_: float
    abstention_: Abstention
    _class_shares: NDArray[np.float64]
    module_: LSTMLinear
    patch_: Patch | None
    scaler_: Scaler | None
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

    def predict_proba(
        self, X: ArrayLike | SensorWindows, lengths: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the probabilities of the classes."""

    def score(self, X: WindowSet | SensorWindows) -> float:
        """Return the accuracy."""
