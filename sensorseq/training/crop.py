"""Crop windows to a number of steps: head, tail, centre or random."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def crop_starts(
    lengths: NDArray[np.int64],
    max_timesteps: int,
    crop: str,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Return the first step to keep of each window, shape (N,).

    Windows of at most `max_timesteps` valid steps start at 0. ``"random"`` needs `rng`; without
    it (prediction, validation) the centre is taken, so that results repeat.
    """
    spare = np.maximum(lengths - max_timesteps, 0)
    if crop == "head":
        return np.zeros_like(spare)
    if crop == "tail":
        return spare
    if crop == "random" and rng is not None:
        return rng.integers(0, spare, endpoint=True, dtype=np.int64)
    return spare // 2


def crop_windows(
    X: NDArray[Any], lengths: NDArray[np.int64], max_timesteps: int | None, crop: str
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Keep at most `max_timesteps` valid steps of each window.

    Parameters
    ----------
    X : ndarray of shape (N, T, C)
        Windows.
    lengths : ndarray of shape (N,), int64
        Valid steps of each.
    max_timesteps : int or None
        None keeps all.
    crop : {"head", "tail", "centre", "random"}
        Which steps; ``"random"`` takes the centre here.
    """
    if max_timesteps is None or X.shape[1] <= max_timesteps:
        return X, lengths
    starts = crop_starts(lengths, max_timesteps, crop)
    steps = starts[:, None] + np.arange(max_timesteps)
    return np.take_along_axis(X, steps[:, :, None], axis=1), np.minimum(lengths, max_timesteps)


def crop_tensor(
    X: Tensor,
    lengths: Tensor | None,
    max_timesteps: int,
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor | None]:
    """Crop each window at a random place, at its centre without `rng`, on the device of `X`."""
    n_windows, n_timesteps = X.shape[:2]
    if n_timesteps <= max_timesteps:
        return X, lengths
    valid = np.full(n_windows, n_timesteps) if lengths is None else lengths.cpu().numpy()
    starts = crop_starts(valid, max_timesteps, "random", rng)
    return crop_tensor_at(X, lengths, max_timesteps, starts)


def crop_tensor_at(
    X: Tensor, lengths: Tensor | None, max_timesteps: int, starts: NDArray[np.int64]
) -> tuple[Tensor, Tensor | None]:
    """Crop each window of at least `max_timesteps` steps from its first step to keep."""
    steps = torch.from_numpy(starts).to(X.device)[:, None]
    steps = steps + torch.arange(max_timesteps, device=X.device)
    cropped = torch.take_along_dim(X, steps[:, :, None], dim=1)
    return cropped, None if lengths is None else lengths.clamp(max=max_timesteps)
