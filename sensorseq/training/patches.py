"""Patches in training: how long they are, how they are scaled, and their steps as tensors."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.scale.scaler import ChannelMoments, scaler_of

AUTO = "auto"
# With patch="auto": the fewest samples of a window that are described in frames, the fewest samples
# of a frame, and the part of a window that is a frame. Chosen on development folds.
SHORTEST_WINDOW, SHORTEST_FRAME, FRAMES = 28, 8, 20
# An input varies by at least this part of its largest value, or it would be rounding, enlarged.
LEAST_SPREAD = 1e-4
_BLOCK = 1024  # windows described at a time


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
    """Return the patch that scales its inputs by their statistics over training windows.

    The windows and their lengths come in blocks.
    """
    moments = ChannelMoments()
    for X, lengths in blocks:
        for first in range(0, len(X), _BLOCK):
            some = slice(first, first + _BLOCK)
            steps, valid = apply_patch(patch, X[some], None if lengths is None else lengths[some])
            moments.add(steps.cpu().numpy(), None if valid is None else valid.cpu().numpy())
    found = moments.statistics()
    scaler = scaler_of(found, "standard")
    scale = np.maximum(scaler.channel_scale, LEAST_SPREAD * found.largest)
    return patch._replace(scaler=replace(scaler, channel_scale=scale))


def apply_patch(
    patch: Patch | None, X: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the steps of windows and their lengths as `Patch.apply` does."""
    if patch is None:
        return X, lengths
    own = None if lengths is None else lengths.cpu().numpy()
    steps, of_steps = patch.apply(X.cpu().numpy(), own)
    found = None if of_steps is None else torch.from_numpy(of_steps).to(X.device)
    return torch.from_numpy(steps).to(X.device), found
