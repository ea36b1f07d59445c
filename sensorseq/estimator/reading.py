"""WindowReader: what an estimator saw of the windows of its fit, and how it reads others."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.errors import InputError, warn_caller
from sensorseq.inspection.outside import OutsideWindows, TrainedRanges, join_outside
from sensorseq.inspection.window_checks import check_zero_ends
from sensorseq.preprocessing.scale.keyed import KeyedScaler
from sensorseq.preprocessing.scale.scaler import PHYSICAL, Scaler
from sensorseq.training.data import SETS, FitData, WindowFormat, open_windows
from sensorseq.training.inputs import (
    Sequences,
    WindowShape,
    crop_sequences,
    is_table,
    read_sequences,
    scale_sequences,
)
from sensorseq.training.patches import Patch
from sensorseq.training.preparation import (
    Preparation,
    check_same_preparation,
    tell_apart,
    warn_of_another_scale,
)
from sensorseq.training.stream import StoredPart, is_stored

_MOST_STORED = 4096  # most windows of a file to learn from
NO_RANGES = (
    "the model does not have the ranges of its training windows, because it was imported. Fit it"
    " again."
)


class WindowReader(BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Reads windows to fit on and to predict, which have to be like those of the fit."""

    scale: str | None
    max_timesteps: int | None
    crop: str
    dtype: str
    augment: Any
    input_dropout: float

    scaler_: Scaler | KeyedScaler | None
    preparation_: Preparation | None
    patch_: Patch | None = None
    n_features_in_: int
    _flat_timesteps: int | None
    _n_timesteps: int | None = None  # length of the windows of the fit
    _were_lengths: bool = False
    _ranges: TrainedRanges | None = None

    # Requested by default: whoever passes them to a search or a pipeline means them for here.
    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__partial_fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    @property
    def _n_channels(self) -> int:
        """The channels of the windows."""
        return self.n_features_in_ if self._flat_timesteps is None else 1

    @property
    def _channels(self) -> list[str] | None:
        """The names of the channels: of the columns of DataFrames, or of a WindowSet."""
        if self._flat_timesteps is None and hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        preparation: Preparation | None = getattr(self, "preparation_", None)
        return None if preparation is None else preparation["channels"]

    @property
    def _shape(self) -> WindowShape:
        return WindowShape(self._n_channels, self._flat_timesteps, self._channels)

    @property
    def _format(self) -> WindowFormat:
        return WindowFormat(
            self.max_timesteps,
            self.crop,
            self.dtype,
            getattr(self, "scaler_", None),
            self.patch_,
            self.augment,
            self.input_dropout,
            self._channels,
        )

    def _learn_shape(self, data: FitData, *, continues: bool, classifies: bool) -> None:
        """Learn the shape of the windows of a fit, and how they were prepared."""
        sequences = data.windows.sequences
        if not continues:
            n_timesteps, n_channels = sequences.X.shape[1:]
            if not sequences.is_flat:
                self.n_features_in_ = n_channels
                self.__dict__.pop("feature_names_in_", None)
                if sequences.channels is not None:
                    self.feature_names_in_ = np.array(sequences.channels, dtype=object)
            self._n_timesteps = n_timesteps
            self._flat_timesteps = n_timesteps if sequences.is_flat else None
        self._were_lengths = data.had_lengths
        known = getattr(self, "preparation_", None)
        self.preparation_ = data.preparation(known, continues=continues, with_dwell=classifies)

    def _read_table(self, X: Any, name: str, *, reset: bool = False) -> Any:
        """Check a table of (n, t) as scikit-learn does, names and counts in its own words."""
        options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
        has_shape = reset or (self._flat_timesteps is not None and name == "X")
        try:
            if has_shape:
                return validate_data(self, X, reset=reset, **options)
            return check_array(X, input_name=name, **options)
        except ValueError as error:
            if not str(error).startswith("could not convert"):
                raise
            raise InputError(f"{name} is not numbers ({error}).") from error

    def _learn_scaling(self, data: FitData) -> None:
        """Learn the scaling on the training part alone: the rest would leak into its score."""
        # What a prepared file stores was fitted on its training windows before balancing.
        as_learned = self.max_timesteps is None or self.scale == PHYSICAL
        self.scaler_ = None
        if data.scaler is not None and data.scaler.kind == self.scale and as_learned:
            self.scaler_ = data.scaler
            return
        warn_of_another_scale(data.source, self.scale)
        self.scaler_ = self._format.fit_scaler(data.train.sequences, data.source, self.scale)

    def _learn_ranges(self, data: FitData, *, continues: bool) -> None:
        """Learn the ranges of all windows of a fit, or widen those of the one before."""
        ranges = self._ranges if continues else None
        is_known = ranges is not None or not continues
        for sequences in [p.sequences for p in (data.windows, data.given) if p and is_known]:
            held: Iterable[Sequences] = [sequences]
            if is_stored(sequences):
                held = StoredPart(sequences).sampled(_MOST_STORED)
            for windows in held:
                learn = TrainedRanges.learn if ranges is None else ranges.widened
                ranges = learn(windows.X, windows.lengths)
        self._ranges = ranges

    def _read_windows(self, X: Any, lengths: Any) -> Sequences:
        """Read windows to predict: prepared as those of the fit, with their own names."""
        check_is_fitted(self)
        if isinstance(X, SETS):
            X = open_windows(X, self.scale, "X")
            check_same_preparation(self.preparation_, X)
            X = tell_apart(X, self.scaler_, self.preparation_)
        elif is_table(X):
            X = self._read_table(X, "X")
        return read_sequences(X, lengths, "X", self._shape)

    def _open(self, X: Any, name: str) -> Any:
        """Read a prepared file; refuse a WindowSet that is scaled."""
        return open_windows(X, self.scale, name)

    def _scaled(self, sequences: Sequences) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the networks' view of windows in memory, with their lengths if they differ."""
        padded = check_zero_ends(sequences.X, sequences.lengths) if self._were_lengths else None
        if padded is not None:
            warn_caller(str(padded))
        cropped = crop_sequences(sequences, self.max_timesteps, self.crop, training=False)
        scaled = torch.from_numpy(scale_sequences(cropped, self.scaler_, self.dtype))
        return scaled, None if cropped.are_full else torch.from_numpy(cropped.lengths)

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Tell which windows are unlike all that the model was trained on, as in another unit.

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
        `fit` keeps the extremes of its windows, without the test part; `partial_fit` and `adapt`
        widen them. A window is outside if it exceeds the values by half of their range; the
        standard deviation by a factor of 10, or relative to other channels of 3; or the share of
        one of eight bands of the spectrum by a factor of 10. docs/validation.md states what this
        finds, and what it does not.
        """
        check_is_fitted(self)
        if self._ranges is None:
            raise InputError(NO_RANGES)
        sequences = self._read_windows(X, lengths)
        names = self._channels or [f"channel_{c}" for c in range(sequences.X.shape[2])]
        is_rescaled = isinstance(self.scaler_, KeyedScaler)
        parts = StoredPart(sequences).cropped() if is_stored(sequences) else [sequences]
        return join_outside(
            [self._ranges.compare(p.X, p.lengths, names, is_rescaled=is_rescaled) for p in parts]
        )
