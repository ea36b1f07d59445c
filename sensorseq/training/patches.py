"""Patches in training: how long they are, and their steps as tensors."""

import torch
from torch import Tensor

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError
from sensorseq.prediction.patches import LOG_SCALE, SMALLEST_POWER, Patch, count_steps

AUTO = "auto"
# With patch="auto": the fewest samples of a window that are described in frames, the fewest samples
# of a frame, and the part of a window that is a frame. Chosen on development folds.
SHORTEST_WINDOW, SHORTEST_FRAME, FRAMES = 28, 8, 20
_BLOCK = 128  # windows described at a time, to limit memory


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


def apply_patch(
    patch: Patch | None, X: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the steps of windows and their lengths as `Patch.apply` does, with a gradient."""
    if patch is None:
        return X, lengths
    n_steps = count_steps(X.shape[1], patch)
    places = torch.from_numpy(patch.places(n_steps)).to(X.device)
    blocks = [
        _described(patch, X[rows], places, None if lengths is None else lengths[rows])
        for rows in torch.arange(len(X), device=X.device).split(_BLOCK)
        if len(rows)  # some FFTs of torch refuse to transform nothing
    ]
    steps = torch.cat(blocks) if blocks else X.new_zeros(0, n_steps, patch.n_inputs(X.shape[2]))
    if lengths is None:
        return steps, None
    lengths = count_steps(lengths, patch)
    valid = torch.arange(n_steps, device=X.device) < lengths[:, None]
    return torch.where(valid[:, :, None], steps, steps.new_zeros(())), lengths


def _described(patch: Patch, X: Tensor, places: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the inputs of windows (n, t, c), at and beyond their lengths, too."""
    n, t, c = X.shape
    if lengths is None:
        frames = X[:, places.clamp(max=t - 1)]
    else:
        held = places.minimum(lengths[:, None, None] - 1).reshape(n, -1, 1)
        frames = torch.take_along_dim(X, held, 1).reshape(n, *places.shape, c)
    window, share = (torch.from_numpy(one).to(X) for one in patch.spectrum())
    mean = frames.mean(2)
    apart = frames - mean[:, :, None]
    waves = torch.fft.rfft(apart * window[:, None], dim=2)
    power = torch.tensordot(waves.real.square() + waves.imag.square(), share, ([2], [0]))
    parts = [mean, _compressed(apart.square().mean(2)), frames.amin(2), frames.amax(2)]
    return torch.cat([*parts, _compressed(power).flatten(2)], 2)


def _compressed(power: Tensor) -> Tensor:
    return 1 + (power + SMALLEST_POWER).log() / LOG_SCALE
