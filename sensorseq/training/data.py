"""FitPart: windows of a fit with their labels; WindowFormat makes tensors of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.fusion import refuse_sensors
from sensorseq.prediction.inputs import (
    Sequences,
    crop_sequences,
    scale_sequences,
)
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.preprocessing.windows.augment import channel_sd_of
from sensorseq.training.augment import check_augment, epoch_changes
from sensorseq.training.batches import TrainingData
from sensorseq.training.patches import apply_patch
from sensorseq.training.preparation import (
    fit_told_scaler,
    read_prepared,
    refuse_scaled,
)
from sensorseq.training.stream import Change, StoredPart, StreamedData, hold_or_stream, is_stored
from sensorseq.training.targets import ClassTarget
from sensorseq.windows import WindowSet

SETS = (str, os.PathLike, WindowSet)  # types that are opened before they are read


class FitPart(NamedTuple):
    """The training or the validation windows of a fit, or both."""

    sequences: Sequences
    target: NDArray[np.int64]  # class index
    weight: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None  # rows of the X given to `fit`; None if given separately
    starts: NDArray[np.float64] | None = None  # in window lengths, within the recording

    def take(self, rows: NDArray[np.int64]) -> "FitPart":
        """Return the windows at `rows`."""
        return FitPart(
            self.sequences.take(rows),
            self.target[rows],
            None if self.weight is None else self.weight[rows],
            None if self.groups is None else self.groups[rows],
            None if self.rows is None else self.rows[rows],
            None if self.starts is None else self.starts[rows],
        )


@dataclass(frozen=True)
class WindowFormat:
    """How windows are cropped, scaled and patched for a network, and changed in each epoch."""

    max_timesteps: int | None
    crop: str
    dtype: str
    scaler: Scaler | None = None
    patch: Patch | None = None
    augment: Any = None
    channels: list[str] | None = None

    @classmethod
    def of(cls, model: TrainedModel, augment: Any = None) -> "WindowFormat":
        """Return the format of a model's windows."""
        how = model.max_timesteps, model.crop, model.dtype, model.scaler, model.patch
        return cls(*how, augment, model.channels)

    def cropped(self, sequences: Sequences, *, training: bool) -> Sequences:
        """Return cropped windows; those in a file are read."""
        if not is_stored(sequences):
            return crop_sequences(sequences, self.max_timesteps, self.crop, training=training)
        stored = self.stored(sequences, training=training)
        with stored.opened() as reader:
            return reader.cropped(np.arange(len(stored)))

    def stored(self, sequences: Sequences, *, training: bool) -> StoredPart:
        """Return windows that stay in their file, with their cropping and scaling."""
        how = self.max_timesteps, self.crop, training, self.scaler, self.dtype
        return StoredPart(sequences, *how)

    def fit_scaler(
        self, sequences: Sequences, source: WindowSet | None, kind: str | None
    ) -> Scaler | None:
        """Fit the scaler to training windows that were given as `source`."""
        if is_stored(sequences):
            return fit_told_scaler(source, self.stored(sequences, training=True), kind)
        held = crop_sequences(sequences, self.max_timesteps, self.crop, training=True)
        return fit_told_scaler(source, held, kind)

    def tensors(
        self, part: FitPart, target: ClassTarget, *, training: bool
    ) -> TrainingData | StreamedData:
        """Crop and scale a part; return it with targets and weights, as tensors."""
        weight = target.weigh(part.target, part.weight) if training else None
        if is_stored(part.sequences):
            stored = self.stored(part.sequences, training=training)
            return hold_or_stream(stored, part.target, weight)
        sequences = crop_sequences(part.sequences, self.max_timesteps, self.crop, training=training)
        scaled = scale_sequences(sequences, self.scaler, self.dtype)
        dtype: torch.dtype = getattr(torch, self.dtype)
        return TrainingData.from_arrays(scaled, sequences.lengths, part.target, weight, dtype)

    def renewal(
        self, part: FitPart, data: TrainingData | StreamedData, seed: np.random.SeedSequence
    ) -> Callable[[int], Any] | None:
        """Return a function that changes the training windows in each epoch; None if none does.

        `part` has the unscaled windows, `data` the scaled ones; `seed` is that of the run.
        """
        augmentation = check_augment(self.augment)
        if augmentation is None:
            return None
        sequences = part.sequences
        augmentation = augmentation.with_indices(sequences.X.shape[2], self.channels)
        if isinstance(data, StreamedData):
            # computed from the file, so its rounding differs from that for windows in memory
            channel_sd = self.stored(sequences, training=True).channel_sd()
            return epoch_changes(augmentation, channel_sd, seed)
        held = self.cropped(sequences, training=True)
        changes = epoch_changes(augmentation, channel_sd_of(held.X, held.lengths), seed)
        return lambda epoch: self._renewed(changes(epoch), held, data)

    def _renewed(self, change: Change, held: Sequences, data: TrainingData) -> NDArray[Any]:
        """Return the scaled windows of an epoch."""
        X = scale_sequences(change(held, np.arange(len(held))), self.scaler, self.dtype)
        patched, _ = apply_patch(self.patch, torch.from_numpy(X), data.lengths)
        return patched.numpy()


def check_channels_have_numbers(sequences: Sequences, name: str) -> None:
    """Raise if a window lacks a channel; its class could be told by that."""
    lost = np.zeros(0) if is_stored(sequences) else np.isnan(sequences.X[:, 0])
    if lost.any():
        row, channel = map(int, np.argwhere(lost)[0])
        raise InputError(
            f"{name} has no number in channel {channel} of window {row}"
            f" ({int(lost.any(axis=1).sum())} such windows); gaps within a channel are bridged,"
            " but such windows are not trained on. Leave them out."
        )


def open_windows(X: Any, scale: str | None, name: str) -> Any:
    """Open a prepared file; raise for a WindowSet that is already scaled."""
    if isinstance(X, str | os.PathLike):
        X = read_prepared(X)
    refuse_sensors(X)
    if isinstance(X, WindowSet):
        refuse_scaled(X, scale, name)
    return X
