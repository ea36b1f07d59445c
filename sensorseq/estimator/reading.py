"""WindowReader: the shape and scaling learned in fit, applied to other windows."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.errors import InputError
from sensorseq.prediction.inputs import Sequences
from sensorseq.prediction.outside import TrainedRanges
from sensorseq.prediction.predictor import WindowPredictor
from sensorseq.preprocessing.scale.scaler import PHYSICAL
from sensorseq.training.data import FitData, WindowFormat, open_windows
from sensorseq.training.preparation import warn_of_another_scale
from sensorseq.training.stream import StoredPart, is_stored

_MOST_STORED = 4096  # most windows of a prepared file used to learn ranges


class WindowReader(WindowPredictor, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Reads the windows of `fit` and `predict`, and checks that they match."""

    scale: str | None
    augment: Any

    _n_timesteps: int | None = None  # length of the windows of the fit

    # Requested by default, because a user who passes them to a search or pipeline means this
    # estimator.
    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    @property
    def _format(self) -> WindowFormat:
        return WindowFormat(
            self.max_timesteps,
            self.crop,
            self.dtype,
            getattr(self, "scaler_", None),
            self.patch_,
            self.augment,
            self._channels,
        )

    def _learn_shape(self, data: FitData, *, continues: bool) -> None:
        """Store the shape of a fit's windows and how they were prepared."""
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
        self._were_lengths = data.had_lengths or (continues and self._were_lengths)
        known = getattr(self, "preparation_", None)
        self.preparation_ = data.preparation(known, continues=continues)

    def _read_table(self, X: Any, name: str, *, reset: bool = False) -> Any:
        """Check a table (n, t) with scikit-learn's checks of names and counts."""
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
        """Learn the scaling from the training part only, so that nothing leaks into the score."""
        # The scaler of a prepared file was fitted on its training windows before balancing.
        as_learned = self.max_timesteps is None or self.scale == PHYSICAL
        self.scaler_ = None
        if data.scaler is not None and data.scaler.kind == self.scale and as_learned:
            self.scaler_ = data.scaler
        else:
            warn_of_another_scale(data.source, self.scale)
            self.scaler_ = self._format.fit_scaler(data.train.sequences, data.source, self.scale)

    def _learn_ranges(self, data: FitData, *, continues: bool) -> None:
        """Learn the value ranges of all windows of a fit, or widen the previous ones."""
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

    def _open(self, X: Any, name: str) -> Any:
        """Open a prepared file; raise for a WindowSet that is already scaled."""
        return open_windows(X, self.scale, name)

    def _check_fitted(self) -> None:
        check_is_fitted(self)

    def _in_memory(self, sequences: Sequences) -> Iterable[Sequences]:
        return StoredPart(sequences).cropped() if is_stored(sequences) else [sequences]
