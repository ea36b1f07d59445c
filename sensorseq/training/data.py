"""WindowFormat: how windows are cropped and scaled for a network; checks of a fit's windows."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import InputError, SignalError
from sensorseq.prediction.fusion import refuse_sensors
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.windows import WindowReader, Windows
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.training.preparation import fit_told_scaler, read_prepared, refuse_scaled
from sensorseq.windows import WindowSet

SETS = (str, os.PathLike, WindowSet)  # types that are opened before they are read

Change = Callable[[Windows, NDArray[np.int64]], Windows]
"""Returns changed windows, given unscaled ones and their positions in the part."""


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

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of the network."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _longest(self, *, training: bool) -> int | None:
        """Return the most steps of a window; the engine draws a new crop in each epoch itself."""
        return None if training and self.crop == "random" else self.max_timesteps

    def n_timesteps(self, windows: Windows, *, training: bool) -> int:
        """Return the length of a cropped window."""
        return min(windows.n_timesteps, self._longest(training=training) or windows.n_timesteps)

    def cropped(self, windows: Windows, *, training: bool) -> Windows:
        """Return windows in memory, cropped."""
        return windows.held().cropped(self._longest(training=training), self.crop)

    def fit_scaler(
        self, windows: Windows, source: WindowSet | None, kind: str | None
    ) -> Scaler | None:
        """Fit the scaler to training windows that were given as `source`."""
        crop = partial(self.cropped, training=True)
        return fit_told_scaler(source, lambda: map(crop, windows.pieces()), kind)

    def scale_into(
        self,
        out: NDArray[Any],
        reader: WindowReader,
        rows: NDArray[np.int64],
        *,
        training: bool,
        change: Change | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the windows at `rows`, cropped, changed and scaled, to `out`.

        `check` is called regularly, and may raise.
        """
        windows, at = reader.windows, 0
        is_cropped = self.n_timesteps(windows, training=training) < windows.n_timesteps
        in_one_pass = change is None and self.dtype == "float32" and not is_cropped
        scaler = Scaler.identity(windows.X.shape[2]) if self.scaler is None else self.scaler
        for some in windows.row_pieces(rows):
            check()
            scaled = None
            if in_one_pass:
                with suppress(SignalError):  # the other way raises a better message
                    X = reader.unchecked(some)
                    scaled = scaler.transform_to_float32(X, windows.lengths[some])
            if scaled is None:
                piece = self.cropped(reader.read(some), training=training)
                piece = piece if change is None else change(piece, some)
                scaled = piece.scaled(self.scaler, self.dtype)
            out[at : at + len(some)] = scaled
            at += len(some)


def check_channels_have_numbers(windows: Windows, name: str) -> None:
    """Raise if a window lacks a channel; its class could be told by that."""
    lost = np.zeros(0) if windows.are_stored else np.isnan(windows.X[:, 0])
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
