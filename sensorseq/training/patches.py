"""Patches: several samples of a window as one step of the network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError

AUTO = "auto"
# Steps that a network sees, with patch="auto": at least so many, and less than twice as many.
LEAST_STEPS = 32
# Inputs of a step at most: more samples side by side are more weights than windows can teach.
MOST_INPUTS = 256
_N_STATISTICS = 4
SMALLEST_VARIANCE = 1e-6  # added, so that a constant patch has a gradient


class Patch(NamedTuple):
    """How samples become steps: `n_samples` at a time.

    The inputs of a step are mean, standard deviation, minimum and maximum of each channel, after
    the samples themselves unless `has_samples` is False. Where a window ends within a patch, its
    last sample is held.
    """

    n_samples: int
    has_samples: bool = True

    def n_inputs(self, n_channels: int) -> int:
        """Return the inputs of a step."""
        return n_channels * (_N_STATISTICS + self.n_samples * self.has_samples)

    def apply(self, X: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return steps (n, ceil(t / n_samples), n_inputs) of windows (n, t, c), and their lengths.

        What lies behind a length is zero.
        """
        n, t, c = X.shape
        n_steps = count_steps(t, self)
        n_padded = n_steps * self.n_samples
        if lengths is not None:
            held = torch.arange(n_padded, device=X.device).minimum(lengths[:, None] - 1)
            X = torch.take_along_dim(X, held[:, :, None], 1)
            lengths = (lengths + self.n_samples - 1) // self.n_samples
        elif n_padded > t:
            X = torch.cat([X, X[:, -1:].expand(n, n_padded - t, c)], 1)
        parts = X.reshape(n, n_steps, self.n_samples, c)
        mean = parts.mean(2)
        variance = (parts - mean[:, :, None]).square().mean(2)
        sd = (variance + SMALLEST_VARIANCE).sqrt()
        samples = [parts.flatten(2)] if self.has_samples else []
        steps = torch.cat([*samples, mean, sd, parts.amin(2), parts.amax(2)], 2)
        if lengths is not None:
            valid = torch.arange(n_steps, device=X.device) < lengths[:, None]
            steps = torch.where(valid[:, :, None], steps, steps.new_zeros(()))
        return steps, lengths


def check_patch(patch: int | str | None) -> None:
    """Raise an ArgumentError unless it is an argument that the classifier takes."""
    if isinstance(patch, str) and patch != AUTO:
        raise ArgumentError(f"patch={patch!r} is not 'auto', None or a number of samples.")
    if patch is not None and patch != AUTO:
        check_integer("patch", patch, 1)


def make_patch(patch: int | str | None, n_timesteps: int, n_channels: int) -> Patch | None:
    """Return the patch of windows of this length, None where a step is a sample.

    `patch` is the argument: ``"auto"`` leaves `LEAST_STEPS` steps or more.
    """
    if patch is None:
        return None
    n_samples = n_timesteps // LEAST_STEPS if isinstance(patch, str) else min(patch, n_timesteps)
    if n_samples <= 1:
        return None
    made = Patch(n_samples)
    return made if made.n_inputs(n_channels) <= MOST_INPUTS else Patch(n_samples, has_samples=False)


def count_steps(n_timesteps: int, patch: Patch | None) -> int:
    """Return the steps that a network sees of so many samples."""
    return n_timesteps if patch is None else -(-n_timesteps // patch.n_samples)


def read_patch(stored: Sequence[Any] | None) -> Patch | None:
    """Read a patch from the fields of a file; raise a ValueError if they describe none."""
    if stored is None:
        return None
    n_samples, has_samples = stored
    if type(n_samples) is not int or n_samples < 2 or type(has_samples) is not bool:
        raise ValueError(f"patch={stored!r}")
    return Patch(n_samples, has_samples)
