"""Convert windows to the form that a network reads: crop, scale, patch and augment them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.base.checks import check_integer
from sensorseq.errors import ArgumentError, SignalError
from sensorseq.prediction.checked_windows import WindowReader, Windows, crop_starts
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.scale import ChannelMoments, Scaler, scaler_of
from sensorseq.preprocessing.windowing.augment import (
    Augmentation,
    augment_windows,
    make_augmentation,
)
from sensorseq.training.prepared_windows import fit_requested_scaler
from sensorseq.windows import WindowSet

Change = Callable[[Windows, NDArray[np.int64]], Windows]
"""A function that takes unscaled windows and their positions, and returns changed windows."""


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
        """Return the format of the windows that a model reads."""
        of, patch = model.input, model.lstm.patch
        return cls(of.max_timesteps, of.crop, of.dtype, of.scaler, patch, augment, of.channels)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The precision of the network."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def _longest(self, *, training: bool) -> int | None:
        """Return the maximum number of steps, or None if the engine itself draws random crops."""
        return None if training and self.crop == "random" else self.max_timesteps

    def n_timesteps(self, windows: Windows, *, training: bool) -> int:
        """Return the length of a cropped window."""
        return min(windows.n_timesteps, self._longest(training=training) or windows.n_timesteps)

    def cropped(self, windows: Windows, *, training: bool) -> Windows:
        """Return the cropped windows, in memory."""
        return windows.held().cropped(self._longest(training=training), self.crop)

    def fit_scaler(
        self, windows: Windows, source: WindowSet | None, kind: str | None
    ) -> Scaler | None:
        """Return a scaler fitted to training windows; `source` is their WindowSet, if any."""
        crop = partial(self.cropped, training=True)
        return fit_requested_scaler(source, lambda: map(crop, windows.pieces()), kind)

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
        """Crop, change and scale the windows with the indices `rows`, and write them to `out`.

        `check` is called regularly and may raise an exception.
        """
        windows, at = reader.windows, 0
        is_cropped = self.n_timesteps(windows, training=training) < windows.n_timesteps
        in_one_pass = change is None and self.dtype == "float32" and not is_cropped
        scaler = Scaler.identity(windows.X.shape[2]) if self.scaler is None else self.scaler
        for some in windows.row_pieces(rows):
            check()
            scaled = None
            if in_one_pass:
                with suppress(SignalError):  # the slower code below raises a clearer error
                    X = reader.unchecked(some)
                    scaled = scaler.transform_to_float32(X, windows.lengths[some])
            if scaled is None:
                piece = self.cropped(reader.read(some), training=training)
                piece = piece if change is None else change(piece, some)
                scaled = piece.scaled(self.scaler, self.dtype)
            out[at : at + len(some)] = scaled
            at += len(some)


# Crops of tensors


def crop_tensor(
    X: Tensor,
    lengths: Tensor | None,
    max_timesteps: int,
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor | None]:
    """Crop each window at random or, without `rng`, to its center, on the device of `X`."""
    n_windows, n_timesteps = X.shape[:2]
    if n_timesteps <= max_timesteps:
        return X, lengths
    valid = np.full(n_windows, n_timesteps) if lengths is None else lengths.cpu().numpy()
    starts = crop_starts(valid, max_timesteps, "random", rng)
    steps = torch.from_numpy(starts).to(X.device)[:, None]
    steps = steps + torch.arange(max_timesteps, device=X.device)
    cropped = torch.take_along_dim(X, steps[:, :, None], dim=1)
    return cropped, None if lengths is None else lengths.clamp(max=max_timesteps)


# Patches


AUTO = "auto"
# For patch="auto": the minimum length of a window that is divided into frames, the minimum length
# of a frame, and the ratio of the window length to the frame length. The values were chosen on
# development folds.
SHORTEST_WINDOW, SHORTEST_FRAME, FRAMES = 28, 8, 20
# The minimum spread of an input, as a fraction of its largest value. This limit prevents scaling
# from enlarging rounding errors.
LEAST_SPREAD = 1e-4
_BLOCK = 1024  # number of windows whose statistics are computed at a time


def check_patch(patch: int | str | None) -> None:
    """Raise an ArgumentError unless `patch` is valid for the classifier."""
    if isinstance(patch, str) and patch != AUTO:
        raise ArgumentError(f"patch={patch!r} is not 'auto', None or a number of samples.")
    if patch is not None and patch != AUTO:
        check_integer("patch", patch, 1)


def make_patch(patch: int | str | None, n_timesteps: int) -> Patch | None:
    """Return the patch for windows of this length; None if each step is a sample."""
    if isinstance(patch, str):
        is_short = n_timesteps < SHORTEST_WINDOW
        patch = None if is_short else max(SHORTEST_FRAME, n_timesteps // FRAMES)
    return None if patch is None or min(patch, n_timesteps) < 2 else Patch(min(patch, n_timesteps))


def fit_patch(patch: Patch, blocks: Iterable[tuple[Tensor, Tensor | None]]) -> Patch:
    """Return the patch with a scaler for the network's inputs, fitted to training windows.

    `blocks` yields the windows and their lengths.
    """
    moments = ChannelMoments()
    for X, lengths in blocks:
        for first in range(0, len(X), _BLOCK):
            some = slice(first, first + _BLOCK)
            steps, valid = apply_patch(patch, X[some], None if lengths is None else lengths[some])
            moments.add(steps.cpu().numpy(), None if valid is None else valid.cpu().numpy())
    statistics = moments.statistics()
    scaler = scaler_of(statistics, "standard")
    scale = np.maximum(scaler.channel_scale, LEAST_SPREAD * statistics.largest)
    return patch._replace(scaler=replace(scaler, channel_scale=scale))


def apply_patch(
    patch: Patch | None, X: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Apply a patch to windows; return the steps and each window's number of valid steps."""
    if patch is None:
        return X, lengths
    of_samples = None if lengths is None else lengths.cpu().numpy()
    steps, of_steps = patch.apply(X.cpu().numpy(), of_samples)
    lengths = None if of_steps is None else torch.from_numpy(of_steps).to(X.device)
    return torch.from_numpy(steps).to(X.device), lengths


# Random changes in each epoch


def check_augment(augment: Any) -> Augmentation | None:
    """Return the augmentation for an estimator's `augment`, or None if it changes nothing."""
    if isinstance(augment, str) and augment == "standard":
        augment = Augmentation.standard()
    elif isinstance(augment, Mapping):
        augment = make_augmentation(augment)
    if not (augment is None or isinstance(augment, Augmentation)):
        raise ArgumentError(
            f"augment={augment!r} must be None, 'standard', an Augmentation, or a dictionary of"
            " augmentation strengths, such as {'jitter': 0.05, 'scaling': 0.1}."
        )
    return None if augment is None or augment.is_identity else augment


def epoch_changes(
    augmentation: Augmentation,
    channel_sd: NDArray[np.float64],
    seed: np.random.SeedSequence,
) -> Callable[[int], Change]:
    """Return a function that takes an epoch number and returns the change for that epoch's windows.

    Windows are augmented in their original units before scaling, because a sensor's gain acts on
    its readings. Jitter and offset are given as fractions of `channel_sd`.
    """
    # independent of the streams that the engine spawns from the same seed
    sequence = np.random.SeedSequence([*seed.generate_state(4), 1])
    augment_seed = int(sequence.generate_state(1)[0])

    def of_epoch(epoch: int) -> Change:
        def augment(windows: Windows, rows: NDArray[np.int64]) -> Windows:
            X = augment_windows(
                windows.X,
                augmentation,
                augment_seed,
                windows.lengths,
                rows,
                copies=np.full(len(rows), epoch),
                channel_sd=channel_sd,
                n_threads=torch.get_num_threads(),
            )
            return replace(windows, X=X)

        return augment

    return of_epoch
