"""Input: how the windows of one sensor are read, judged, scaled and cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_integer
from sensorseq.errors import InputError, check_choice, did_you_mean
from sensorseq.io.model_file import TakeField, arrays_below, check_texts
from sensorseq.prediction.checked_windows import (
    CROPS,
    DTYPES,
    Windows,
    WindowShape,
    refuse_path,
    windows_of,
)
from sensorseq.prediction.gaps import COMPLETE, DOUBTFUL, EMPTY, judge_windows
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
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.scale import Scaler
from sensorseq.recording import Recording
from sensorseq.sensor_windows import are_sensors
from sensorseq.windows import WindowSet

MISSING = ("error", "expected", "outside")  # values of a classifier's argument `missing`
PREDICTION_ARGUMENTS = ("max_timesteps", "crop", "dtype", "missing")
"""The arguments of a fit that affect predictions."""


@dataclass(frozen=True, eq=False)
class Input:
    """The windows of one sensor, as a trained model reads them.

    Attributes
    ----------
    n_channels : int
        Number of channels.
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
    """

    n_channels: int
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
    def arguments(self) -> dict[str, Any]:
        """The arguments of the fit that affect predictions."""
        return {name: getattr(self, name) for name in PREDICTION_ARGUMENTS}

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
            reasons = self._compared(windows).reasons
            is_stuck, is_out = reasons == STUCK, np.isin(reasons, OUT_OF_RANGE)
            # A stuck channel leaves the others usable, but a wrong scale usually affects them all.
            is_doubtful = is_out.any(axis=1) | self.ranges.are_mostly(is_stuck)
            failed = (is_stuck | is_out)[:, None]
            windows = replace(windows, X=np.where(failed, np.nan, windows.X))
        doubt = np.where(is_doubtful, DOUBTFUL, COMPLETE)
        return windows, np.maximum(judge_windows(windows.X), doubt)

    def logits_and_lacks(
        self, windows: Windows, members: Sum
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (n, K) (zeros for an EMPTY window) and `lacks` (n,); see `gaps`."""
        parts = []
        for piece in windows.pieces():
            lacks = np.full(len(piece), COMPLETE, np.int8)
            if self.missing != "error":
                piece, lacks = self.without_failed(piece)
            logits = members.logits(*self.scaled(piece))
            parts.append((np.where(lacks[:, None] == EMPTY, 0.0, logits), lacks))
        logits, lacks = map(np.concatenate, zip(*parts))
        return logits, lacks

    def outside(self, windows: Windows) -> OutsideWindows:
        """Find windows unlike the training windows; see `SensorLSTMClassifier.outside`."""
        if self.ranges is None:
            raise InputError(NO_RANGES)
        return join_outside([self._compared(part) for part in windows.pieces()])

    def _compared(self, windows: Windows) -> OutsideWindows:
        """Compare windows in memory with the ranges of the training windows."""
        assert self.ranges is not None
        return self.ranges.compare(windows.X, windows.lengths, self.channel_names)

    def plan(self, hop_s: float | None = None) -> RecordingPlan:
        """Return the plan that cuts recordings as in training.

        Raise an InputError if there is no such plan.
        """
        if self.preparation is None or not self.preparation["configuration"]:
            raise InputError(
                "the model was trained on arrays, so it cannot cut recordings into windows; train"
                " it on a prepared file, or cut windows yourself and use model.predict."
            )
        if self.preparation.get("scaled") is not None:
            raise InputError(
                "the model was trained on windows that were already scaled, so it cannot scale"
                " recordings in the same way; train it on the unscaled prepared file."
            )
        return RecordingPlan.recorded(self.preparation, hop_s)

    def cut(self, recordings: Sequence[Recording], hop_s: float | None = None) -> WindowSet:
        """Cut recordings into windows as in training, regardless of their labels."""
        unlabeled = [replace(each, label=None, label_spans=()) for each in recordings]
        return self.plan(hop_s).prepare(unlabeled)

    # Model files

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file."""
        arrays = {} if self.ranges is None else self.ranges.arrays()
        if self.scaler is not None:
            arrays |= {f"scaler.{name}": array for name, array in self.scaler.to_dict().items()}
        return arrays

    def description(self) -> dict[str, Any]:
        """Return everything for a model file except arrays and the arguments of the fit."""
        return {
            "n_channels": self.n_channels,
            "n_features_in": self.flat_timesteps or self.n_channels,
            "flat_timesteps": self.flat_timesteps,
            "n_timesteps": self.n_timesteps,
            "were_lengths": self.had_lengths,
            "feature_names_in": self.feature_names,
            "preparation": self.preparation,
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]], take: TakeField) -> "Input":
        """Restore from `arrays` and `description`, or raise a ValueError or TypeError.

        `take` returns a field of the description, or raises an error if it has another type.
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
        names, scaler = (
            take("feature_names_in", (list, type(None))),
            arrays_below(arrays, "scaler."),
        )
        return cls(
            n_channels,
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


def check_sensor(name: str, known: Sequence[str]) -> None:
    """Raise an InputError unless the sensor is one of `known`, the sensors of a model."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"the model has no sensor {name!r}; it has {', '.join(known)}.{hint}")


def refuse_sensors(X: Any) -> None:
    """Raise an InputError if X has several sensors, but the model has only one."""
    if are_sensors(X):
        raise InputError(
            "X has several sensors; use SensorFusionClassifier, which classifies them together, or"
            " give the windows of one sensor."
        )
