"""Which windows are unlike all that an estimator was trained on."""

from collections.abc import Iterable
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sensorseq.errors import InputError
from sensorseq.inspection.outside import OutsideWindows, TrainedRanges, join_outside
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.training.data import FitData
from sensorseq.training.inputs import Sequences
from sensorseq.training.stream import StoredPart, is_stored

_MOST_STORED = 4096  # windows of a file that are learned from
NO_RANGES = (
    "the model does not have the ranges of its training windows, because it was imported. Fit it"
    " again."
)


class OutsideMixin:
    """`outside` of an estimator, and the ranges it needs."""

    _ranges: TrainedRanges | None = None

    def outside(self: Any, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
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

    def _learn_ranges(self: Any, data: FitData, *, continues: bool) -> None:
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
