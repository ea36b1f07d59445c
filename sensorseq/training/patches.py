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
    """Return the steps of windows and their lengths as `Patch.apply` does.

    With a gradient where X wants one; without, they have the bits of `Patch.apply`, because the
    rounding of torch's FFT depends on the number of threads.
    """
    if patch is None:
        return X, lengths
    if X.requires_grad and torch.is_grad_enabled():
        return _differentiable(patch, X, lengths)
    own = None if lengths is None else lengths.cpu().numpy()
    steps, of_steps = patch.apply(X.detach().cpu().numpy(), own)
    found = None if of_steps is None else torch.from_numpy(of_steps).to(X.device)
    return torch.from_numpy(steps).to(X.device), found


def _differentiable(
    patch: Patch, X: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    n, t, c = X.shape
    n_steps = count_steps(t, patch)
    places = torch.from_numpy(patch.places(n_steps)).to(X.device)
    last = X.new_full((n,), t, dtype=torch.int64) if lengths is None else lengths
    held = places.minimum(last[:, None, None] - 1).reshape(n, -1, 1)
    frames = torch.take_along_dim(X, held, 1).reshape(n, *places.shape, c)
    window, share = (torch.from_numpy(one).to(X) for one in patch.spectrum())
    mean = frames.mean(2)
    apart = frames - mean[:, :, None]
    waves = torch.fft.rfft(apart * window[:, None], dim=2)
    power = torch.tensordot(waves.real.square() + waves.imag.square(), share, ([2], [0]))
    parts = [mean, _compressed(apart.square().mean(2)), frames.amin(2), frames.amax(2)]
    steps = torch.cat([*parts, _compressed(power).flatten(2)], 2)
    if lengths is None:
        return steps, None
    lengths = count_steps(lengths, patch)
    valid = torch.arange(n_steps, device=X.device) < lengths[:, None]
    return torch.where(valid[:, :, None], steps, steps.new_zeros(())), lengths


def _compressed(power: Tensor) -> Tensor:
    return 1 + (power + SMALLEST_POWER).log() / LOG_SCALE
