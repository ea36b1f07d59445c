"""TrainedModel: a trained classifier of one sensor's windows, with all data needed to predict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError, InputError, check_choice, within_memory
from sensorseq.io.model_file import TakeField, arrays_below, check_texts
from sensorseq.prediction.decisions import Abstention, Predictor, read_classes, refuse_empty
from sensorseq.prediction.fusion import MISSING, refuse_sensors
from sensorseq.prediction.gaps import COMPLETE, DOUBTFUL, EMPTY, judge_windows
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.outside import (
    NO_RANGES,
    OUT_OF_RANGE,
    STUCK,
    OutsideWindows,
    TrainedRanges,
    join_outside,
)
from sensorseq.prediction.padding import warn_of_zero_ends
from sensorseq.prediction.preparation import (
    Preparation,
    check_preparation,
    check_same_preparation,
)
from sensorseq.prediction.stream import DecisionStream, prediction_plan
from sensorseq.prediction.windows import (
    CROPS,
    DTYPES,
    Windows,
    WindowShape,
    refuse_path,
    windows_of,
)
from sensorseq.preprocessing.scale import Scaler
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

PREDICTION_ARGUMENTS = ("max_timesteps", "crop", "dtype", "missing")
"""The arguments of a fit that affect predictions."""


@dataclass(frozen=True, eq=False)
class TrainedModel(Predictor):
    """A trained classifier of windows of one sensor.

    Attributes
    ----------
    classes : ndarray of shape (K,)
        Labels in the order of the probabilities.
    n_channels : int
        Number of channels.
    sum : Sum
        The members, whose weighted logits are added up.
    flat_timesteps : int or None
        Number of steps of 2-D input (n, t), which later input must match; None allows windows of
        any length.
    feature_names : list of str or None
        Column names of the DataFrames given to `fit`. The columns are channels or, if the input was
        2-D, steps.
    n_timesteps : int or None
        Length of the windows of the fit.
    had_lengths : bool
        Whether the windows of the fit had different lengths.
    max_timesteps, crop, dtype, missing
        Arguments of the fit; see `SensorLSTMClassifier`.
    scaler : Scaler or None
        Scaling of the channels.
    ranges : TrainedRanges or None
        Ranges of the training windows; None for an imported network.
    preparation : dict or None
        How the windows were prepared.
    temperature : float
        Divisor of the logits.
    shares : ndarray of shape (K,) or None
        Mean probability of each class in windows left out of the fit; None if unknown.
    abstention : Abstention or None
        The threshold of `fit_abstention`.
    """

    classes: NDArray[Any]
    n_channels: int
    sum: Sum
    flat_timesteps: int | None = None
    feature_names: list[str] | None = None
    n_timesteps: int | None = None
    had_lengths: bool = False
    max_timesteps: int | None = None
    crop: str = "head"
    dtype: str = "float32"
    missing: str = "error"
    scaler: Scaler | None = None
    ranges: TrainedRanges | None = None
    preparation: Preparation | None = None
    temperature: float = 1.0
    shares: NDArray[np.float64] | None = None
    abstention: Abstention | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.n_channels} channels, {len(self.classes)} classes>"

    @property
    def channels(self) -> list[str] | None:
        """The names of the channels, or None if the channels have no names."""
        if self.flat_timesteps is None and self.feature_names is not None:
            return self.feature_names
        return None if self.preparation is None else self.preparation["channels"]

    @property
    def channel_names(self) -> list[str]:
        """The names of the channels, or numbered names if the channels have none."""
        return self.channels or [f"channel_{c}" for c in range(self.n_channels)]

    @property
    def shape(self) -> WindowShape:
        """The shape of the windows of the fit, which other windows must match."""
        return WindowShape(self.n_channels, self.flat_timesteps, self.channels)

    @property
    def has_ranges(self) -> bool:
        """True if the model has the ranges of its training windows, which `outside` needs."""
        return self.ranges is not None

    @property
    def lstm(self) -> LstmMember:
        """The LSTM, which may have weight 0."""
        return self.sum.lstm

    def with_lstm(self, **changes: Any) -> "TrainedModel":
        """Return the model with changed fields of its LSTM, such as other networks."""
        return replace(self, sum=self.sum.with_member(LSTM, replace(self.lstm, **changes)))

    # From windows to logits

    def read(self, X: Any, lengths: ArrayLike | None = None, name: str = "X") -> Windows:
        """Read windows; raise an error if they were prepared differently from training windows."""
        refuse_path(X)
        refuse_sensors(X)
        if isinstance(X, WindowSet):
            check_same_preparation(self.preparation, X)
        return windows_of(X, lengths, name, self.shape, missing=self.missing)

    def scaled(self, windows: Windows) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Crop and scale windows in memory; the lengths are None if all windows are full."""
        if self.had_lengths:
            warn_of_zero_ends(windows.X, windows.lengths)
        cropped = windows.cropped(self.max_timesteps, self.crop)
        scaled = cropped.scaled(self.scaler, self.dtype)
        return scaled, None if cropped.are_full else cropped.lengths

    def without_failed(self, windows: Windows) -> tuple[Windows, NDArray[np.int8]]:
        """Return windows in which failed channels are NaN, and their `lacks` (see `gaps`)."""
        is_doubtful = np.zeros(len(windows), bool)
        if self.missing == "outside" and self.ranges is not None:
            reasons = self.compared(windows).reasons
            is_stuck, is_out = reasons == STUCK, np.isin(reasons, OUT_OF_RANGE)
            # A stuck channel leaves the others usable, but a wrong scale usually affects them all.
            is_doubtful = is_out.any(axis=1) | self.ranges.are_mostly(is_stuck)
            failed = (is_stuck | is_out)[:, None]
            windows = replace(windows, X=np.where(failed, np.nan, windows.X))
        doubt = np.where(is_doubtful, DOUBTFUL, COMPLETE)
        return windows, np.maximum(judge_windows(windows.X), doubt)

    def logits_and_lacks(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (zeros for an EMPTY window) and `lacks` (n,); see `gaps`."""
        with within_memory("give fewer windows at a time"):
            return self.logits_and_lacks_of(self.read(X, lengths))

    def logits_and_lacks_of(self, windows: Windows) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return the result of `logits_and_lacks` for windows that have already been read."""
        parts = []
        for piece in windows.pieces():
            lacks = np.full(len(piece), COMPLETE, np.int8)
            if self.missing != "error":
                piece, lacks = self.without_failed(piece)
            logits = self.sum.logits(*self.scaled(piece))
            parts.append((np.where(lacks[:, None] == EMPTY, 0.0, logits), lacks))
        logits, lacks = map(np.concatenate, zip(*parts))
        return logits, lacks

    def check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        """Raise an InputError if a window is EMPTY and therefore cannot be classified."""
        refuse_empty(lacks, self.missing, "number", "channel")

    def cut(self, X: Any) -> Any:
        """Cut recordings into windows as in training; return anything else unchanged."""
        if isinstance(X, Recording):
            X = [X]
        if not (isinstance(X, (list, tuple)) and X and isinstance(X[0], Recording)):
            return X
        unlabeled = [replace(recording, label=None, label_spans=()) for recording in X]
        return prediction_plan(self.preparation).prepare(unlabeled)

    # Predictions

    def stream(
        self,
        sample_rate_hz: float | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        smooth: str = "none",
        lag: int | None = None,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> DecisionStream:
        """Return a stream that classifies samples; see `SensorLSTMClassifier.stream`."""
        if isinstance(sample_rate_hz, Mapping):
            raise ArgumentError(
                "sample_rate_hz must be a single number, because the model has one sensor."
            )
        return DecisionStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            smoothing=self.smoothing(smooth, lag, mean_dwell_s, transitions),
        )

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike the training windows; see `SensorLSTMClassifier.outside`."""
        if self.ranges is None:
            raise InputError(NO_RANGES)
        return join_outside([self.compared(part) for part in self.read(X, lengths).pieces()])

    def compared(self, windows: Windows) -> OutsideWindows:
        """Compare windows in memory with the ranges of the training windows."""
        assert self.ranges is not None
        return self.ranges.compare(windows.X, windows.lengths, self.channel_names)

    # Model files

    @property
    def prediction_arguments(self) -> dict[str, Any]:
        """The arguments of the fit that affect predictions."""
        return {name: getattr(self, name) for name in PREDICTION_ARGUMENTS}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file, except the weights of the networks."""
        arrays = self.sum.state()[1]
        if self.scaler is not None:
            arrays |= {f"scaler.{name}": array for name, array in self.scaler.to_dict().items()}
        return arrays if self.ranges is None else arrays | self.ranges.arrays()

    def description(self) -> dict[str, Any]:
        """Return everything for a model file except arrays and the arguments of the fit."""
        return {
            **self.describe_classes(),
            "n_channels": self.n_channels,
            "n_features_in": self.flat_timesteps or self.n_channels,
            "flat_timesteps": self.flat_timesteps,
            "n_timesteps": self.n_timesteps,
            "were_lengths": self.had_lengths,
            "feature_names_in": self.feature_names,
            "preparation": self.preparation,
            "sum": self.sum.state()[0],
        }


def read_trained(arrays: Mapping[str, NDArray[Any]], take: TakeField) -> TrainedModel:
    """Read a model without its networks from a file, or raise a ValueError or TypeError.

    `take` returns a field of the description, or raises an error if the field has another type.
    """
    parameters = take("parameters", dict)
    max_timesteps = parameters["max_timesteps"]
    if max_timesteps is not None:
        check_integer("max_timesteps", max_timesteps, 1)
    flat, n_channels = take("flat_timesteps", (int, type(None))), take("n_channels", int)
    n_features = take("n_features_in", int)
    if (n_channels, n_features) != (1 if flat else n_channels, flat or n_channels):
        raise ValueError(
            f"n_features_in={n_features} with n_channels={n_channels} and flat_timesteps={flat}"
        )
    names, classes = take("feature_names_in", (list, type(None))), read_classes(take)
    scaler = arrays_below(arrays, "scaler.")
    model = TrainedModel(
        **classes,
        n_channels=n_channels,
        sum=Sum.restore(take("sum", dict), arrays),
        flat_timesteps=flat,
        feature_names=None if names is None else check_texts("feature_names_in", names),
        n_timesteps=take("n_timesteps", (int, type(None))),
        had_lengths=take("were_lengths", bool),
        max_timesteps=max_timesteps,
        crop=check_choice("crop", parameters["crop"], CROPS),
        dtype=check_choice("dtype", parameters["dtype"], DTYPES),
        missing=check_choice("missing", parameters.get("missing", "error"), MISSING),
        scaler=Scaler.from_dict(scaler) if scaler else None,
        ranges=TrainedRanges.restore(arrays, n_channels),
        preparation=check_preparation(take("preparation", (dict, type(None)))),
    )
    model.sum.check(n_channels, len(model.classes))
    return model
