"""Patches: several samples of a window as one step of the network."""

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.arguments import check_integer
from sensorseq.errors import ArgumentError

FORMS = ("samples", "statistics", "both")
AUTO = "auto"
# Steps that a network sees, with patch="auto": at least so many, and less than twice as many.
LEAST_STEPS = 32
# Inputs of a step at most: more samples side by side are more weights than windows can teach.
MOST_INPUTS = 256
_N_STATISTICS = 4
SMALLEST_VARIANCE = 1e-6  # added, so that a constant patch has a gradient


class Patch(NamedTuple):
    """How samples become steps: `n_samples` at a time, in a form of `FORMS`.

    ``"samples"`` are side by side; ``"statistics"`` are mean, standard deviation, minimum and
    maximum of each channel. Where a window ends within a patch, its last sample is held.
    """

    n_samples: int
    form: str

    def n_inputs(self, n_channels: int) -> int:
        """Return the inputs of a step."""
        n_each = self.n_samples if self.form != "statistics" else 0
        return n_channels * (n_each + (_N_STATISTICS if self.form != "samples" else 0))

    def apply(self, X: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return steps (n, ceil(t / n_samples), n_inputs) of windows (n, t, c), and their lengths.

        What lies behind a length is zero.
        """
        n, t, c = X.shape
        n_steps = -(-t // self.n_samples)
        n_padded = n_steps * self.n_samples
        if lengths is not None:
            held = torch.arange(n_padded, device=X.device).minimum(lengths[:, None] - 1)
            X = torch.take_along_dim(X, held[:, :, None], 1)
            lengths = (lengths + self.n_samples - 1) // self.n_samples
        elif n_padded > t:
            X = torch.cat([X, X[:, -1:].expand(n, n_padded - t, c)], 1)
        parts = X.reshape(n, n_steps, self.n_samples, c)
        found = [] if self.form == "statistics" else [parts.flatten(2)]
        if self.form != "samples":
            variance, mean = torch.var_mean(parts, 2, correction=0)
            sd = (variance + SMALLEST_VARIANCE).sqrt()
            found += [mean, sd, parts.amin(2), parts.amax(2)]
        steps = found[0] if len(found) == 1 else torch.cat(found, 2)
        if lengths is not None:
            valid = torch.arange(n_steps, device=X.device) < lengths[:, None]
            steps = torch.where(valid[:, :, None], steps, torch.zeros((), dtype=X.dtype))
        return steps, lengths

    def apply_arrays(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return steps of full windows."""
        steps: NDArray[Any] = self.apply(torch.from_numpy(X), None)[0].numpy()
        return steps


def check_patch(patch: Any) -> None:
    """Raise an ArgumentError unless it is an argument that the classifier takes."""
    if patch is None or (isinstance(patch, str) and patch == AUTO):
        return
    if isinstance(patch, str):
        raise ArgumentError(f"patch={patch!r} is not 'auto', None or a number of samples.")
    check_integer("patch", patch, 1)


def possible_patches(patch: Any, n_timesteps: int, n_channels: int) -> list[Patch]:
    """Return the patches for windows of this length; none where a step is a sample.

    `patch` is the argument: ``"auto"`` leaves `LEAST_STEPS` steps or more.
    """
    if patch is None:
        return []
    n_samples = max(1, n_timesteps // LEAST_STEPS) if patch == AUTO else min(patch, n_timesteps)
    if n_samples == 1:
        return []
    every = [Patch(n_samples, form) for form in FORMS]
    narrow = [one for one in every if one.n_inputs(n_channels) <= MOST_INPUTS]
    return narrow or [Patch(n_samples, "statistics")]


def read_patch(stored: Any) -> Patch | None:
    """Return what a file tells of a patch; raise a ValueError if it is none."""
    if stored is None:
        return None
    n_samples, form = stored
    if type(n_samples) is not int or n_samples < 2 or form not in FORMS:
        raise ValueError(f"patch={stored!r}")
    return Patch(n_samples, form)
