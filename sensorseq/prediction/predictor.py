"""WindowPredictor: what a trained model reads, computes and checks of windows."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError
from sensorseq.io.model_file import arrays_below
from sensorseq.prediction.ensemble import Ensemble
from sensorseq.prediction.head import FeatureHead
from sensorseq.prediction.inputs import (
    Sequences,
    WindowShape,
    crop_sequences,
    is_table,
    read_sequences,
    scale_sequences,
)
from sensorseq.prediction.network import LstmNetwork
from sensorseq.prediction.outside import OutsideWindows, TrainedRanges, join_outside
from sensorseq.prediction.padding import warn_of_zero_ends
from sensorseq.prediction.patches import Patch, read_patch
from sensorseq.prediction.preparation import (
    Preparation,
    check_preparation,
    check_same_preparation,
)
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.windows import WindowSet

SETS = (str, os.PathLike, WindowSet)  # types that are opened before they are read
NO_RANGES = (
    "the model does not have the ranges of its training windows, because it was imported. Fit it"
    " again."
)


class WindowPredictor:
    """A trained model, which predicts windows like those of its fit."""

    max_timesteps: int | None
    crop: str
    dtype: str
    scaler_: Scaler | None
    preparation_: Preparation | None
    patch_: Patch | None = None
    missing: str
    classes_: NDArray[Any]
    n_features_in_: int
    _flat_timesteps: int | None
    _head: FeatureHead | None = None  # weighs features; without it, the LSTM's logits count alone
    _ranges: TrainedRanges | None = None
    _were_lengths: bool = False  # whether the windows of the fit had different lengths

    @property
    @abstractmethod
    def _ensemble(self) -> Ensemble:
        """The ensemble that computes the outputs."""

    @property
    def _n_outputs(self) -> int:
        """The outputs of the networks."""
        return len(self.classes_)

    def _check_fitted(self) -> None:
        """Raise if nothing was learned yet."""

    def _check_single(self, method: str) -> None:
        """Raise an InputError if nothing was learned yet, or of several sensors."""
        self._check_fitted()
        for name in self.__dict__.get("sensors_", ()):
            raise InputError(
                f"{method} works for one sensor at a time; use that of sensors_[{name!r}] and the"
                " others."
            )

    def _open(self, X: Any, name: str) -> Any:
        """Return the windows that X names; here a path names none."""
        if isinstance(X, (str, os.PathLike)):
            raise InputError(
                f"{name}={os.fspath(X)!r} is a path, and the runtime reads no prepared files. Give"
                " an array, or recordings to `timeline`."
            )
        return X

    @property
    def _knows_ranges(self) -> bool:
        """Whether the model knows the range of its training windows."""
        return self._ranges is not None

    def _read_table(self, X: Any, name: str) -> Any:
        """Check windows (n, t) of one channel."""
        return X

    def _in_memory(self, sequences: Sequences) -> Iterable[Sequences]:
        """Return windows in parts that fit into memory."""
        return [sequences]

    @property
    def _n_channels(self) -> int:
        """The number of channels."""
        return self.n_features_in_ if self._flat_timesteps is None else 1

    @property
    def _channels(self) -> list[str] | None:
        """The names of the channels, from a DataFrame's columns or a WindowSet; None if unknown."""
        if self._flat_timesteps is None and hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        preparation: Preparation | None = getattr(self, "preparation_", None)
        return None if preparation is None else preparation["channels"]

    @property
    def _channel_names(self) -> list[str]:
        """The names of the channels, numbered where they have none."""
        return self._channels or [f"channel_{c}" for c in range(self._n_channels)]

    @property
    def _shape(self) -> WindowShape:
        return WindowShape(self._n_channels, self._flat_timesteps, self._channels)

    def _restore(self, arrays: Mapping[str, NDArray[Any]], take: Callable[[str, Any], Any]) -> None:
        """Restore what prediction needs of a model file, without classes and networks."""
        self.n_features_in_ = take("n_features_in", int)
        self._flat_timesteps = flat = take("flat_timesteps", (int, type(None)))
        self._were_lengths = take("were_lengths", bool)
        names = take("feature_names_in", (list, type(None)))
        if names is not None:
            self.feature_names_in_ = np.array(check_texts("feature_names_in", names), dtype=object)
        n_channels = take("n_channels", int)
        if (n_channels, self.n_features_in_) != (1 if flat else n_channels, flat or n_channels):
            raise ValueError(
                f"n_features_in={self.n_features_in_} with n_channels={n_channels} and"
                f" flat_timesteps={flat}"
            )
        self.scaler_ = read_scaler(arrays)
        self.preparation_ = check_preparation(take("preparation", (dict, type(None))))
        self.patch_ = read_patch(take("patch", (int, type(None))), arrays, n_channels)
        head = take("features", (dict, type(None)))
        if head is not None:
            self._head = FeatureHead.restore(head, arrays)
            self._head.check(n_channels, self._n_outputs)
        self._ranges = TrainedRanges.restore(arrays, n_channels)

    def _check_network(self, network: LstmNetwork) -> None:
        """Raise a ValueError unless a network takes these windows and has these outputs."""
        n_inputs = self._n_channels
        if self.patch_ is not None:
            n_inputs = self.patch_.n_inputs(n_inputs)
        if (network.n_inputs, network.n_outputs) != (n_inputs, self._n_outputs):
            raise ValueError(
                f"a network of {network.n_inputs} inputs and {network.n_outputs} outputs, expected"
                f" {n_inputs} and {self._n_outputs}"
            )

    def _logits(self, sequences: Sequences) -> NDArray[np.float64]:
        """Return the logits (n, classes) for windows that were read."""
        return self._ensemble.outputs(*self._scaled(sequences))

    def _read_windows(self, X: Any, lengths: Any) -> Sequences:
        """Read windows to predict, and check that they were prepared like those of the fit."""
        self._check_fitted()
        if isinstance(X, SETS):
            X = self._open(X, "X")
            check_same_preparation(self.preparation_, X)
        elif is_table(X):
            X = self._read_table(X, "X")
        return read_sequences(X, lengths, "X", self._shape, missing=self.missing)

    def _scaled(self, sequences: Sequences) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Crop and scale windows in memory for the networks; lengths are None if all are equal."""
        if self._were_lengths:
            warn_of_zero_ends(sequences.X, sequences.lengths)
        cropped = crop_sequences(sequences, self.max_timesteps, self.crop, training=False)
        scaled = scale_sequences(cropped, self.scaler_, self.dtype)
        return scaled, None if cropped.are_full else cropped.lengths

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike any that the model was trained on, such as those in another unit.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        OutsideWindows
            The windows, and the reason for each channel.

        Raises
        ------
        InputError
            If the model was imported, or fitted by a version that did not keep the ranges.

        Notes
        -----
        `fit` keeps the extremes of its windows, without the test part; `adapt` and a warm start
        widen them. A window is outside if it exceeds the values by half of their range; the
        standard deviation by a factor of 10, or relative to other channels of 3; or the share of
        one of eight bands of the spectrum by a factor of 10. docs/validation.md states what this
        finds, and what it does not.
        """
        self._check_fitted()
        if self._ranges is None:
            raise InputError(NO_RANGES)
        sequences = self._read_windows(X, lengths)
        return join_outside([self._compared(part) for part in self._in_memory(sequences)])

    def _compared(self, sequences: Sequences) -> OutsideWindows:
        """Compare windows in memory with those of the training."""
        assert self._ranges is not None
        return self._ranges.compare(sequences.X, sequences.lengths, self._channel_names)


def read_scaler(arrays: Mapping[str, NDArray[Any]]) -> Scaler | None:
    """Return the scaling that a model file holds."""
    fields = arrays_below(arrays, "scaler.")
    return Scaler.from_dict(fields) if fields else None


def check_texts(name: str, values: list[Any]) -> list[str]:
    """Return a list of strings from a file, or raise if any entry is no string."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{name} is {values!r}, expected text")
    return values
