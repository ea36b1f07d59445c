"""Patches in training: how long they are, and their steps as tensors."""

import torch
from torch import Tensor

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError
from sensorseq.prediction.patches import SMALLEST_VARIANCE, Patch, count_steps

AUTO = "auto"
# Fewest steps with patch="auto"; there are less than twice as many.
LEAST_STEPS = 32
# Most inputs per step, because more would need more weights than windows can train.
MOST_INPUTS = 256


def check_patch(patch: int | str | None) -> None:
    """Raise an ArgumentError unless `patch` is valid for the classifier."""
    if isinstance(patch, str) and patch != AUTO:
        raise ArgumentError(f"patch={patch!r} is not 'auto', None or a number of samples.")
    if patch is not None and patch != AUTO:
        check_integer("patch", patch, 1)


def make_patch(patch: int | str | None, n_timesteps: int, n_channels: int) -> Patch | None:
    """Return the patch for windows of this length; None if each step is a sample.

    If `patch` is ``"auto"``, at least `LEAST_STEPS` steps are left.
    """
    if patch is None:
        return None
    n_samples = n_timesteps // LEAST_STEPS if isinstance(patch, str) else min(patch, n_timesteps)
    if n_samples <= 1:
        return None
    made = Patch(n_samples)
    return made if made.n_inputs(n_channels) <= MOST_INPUTS else Patch(n_samples, has_samples=False)


def apply_patch(
    patch: Patch | None, X: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the steps of windows and their lengths as `Patch.apply` does, with a gradient."""
    if patch is None:
        return X, lengths
    n, t, c = X.shape
    n_steps = count_steps(t, patch)
    n_padded = n_steps * patch.n_samples
    if lengths is not None:
        held = torch.arange(n_padded, device=X.device).minimum(lengths[:, None] - 1)
        X = torch.take_along_dim(X, held[:, :, None], 1)
        lengths = (lengths + patch.n_samples - 1) // patch.n_samples
    elif n_padded > t:
        X = torch.cat([X, X[:, -1:].expand(n, n_padded - t, c)], 1)
    parts = X.reshape(n, n_steps, patch.n_samples, c)
    mean = parts.mean(2)
    variance = (parts - mean[:, :, None]).square().mean(2)
    sd = (variance + SMALLEST_VARIANCE).sqrt()
    samples = [parts.flatten(2)] if patch.has_samples else []
    steps = torch.cat([*samples, mean, sd, parts.amin(2), parts.amax(2)], 2)
    if lengths is not None:
        valid = torch.arange(n_steps, device=X.device) < lengths[:, None]
        steps = torch.where(valid[:, :, None], steps, steps.new_zeros(()))
    return steps, lengths
