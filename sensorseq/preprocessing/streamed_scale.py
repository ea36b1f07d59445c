"""The scaler of more training windows than memory holds, from blocks of them."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import SignalError
from sensorseq.preprocessing.scale import Scaler, fit_scaler


def fit_scaler_to_blocks(
    blocks: Callable[[], Iterable[NDArray[np.float32]]], kind: str | None = "standard"
) -> Scaler:
    """Learn what `fit_scaler` would learn from all blocks at once, up to rounding.

    Standard, min_max and max_abs hold one block at a time; robust and quantile need all samples of
    a channel, and hold one channel at a time.

    Parameters
    ----------
    blocks : callable returning iterables of ndarray of shape (n, n_timesteps, n_channels)
        Training windows, every step valid and finite; read up to twice, or once for each channel.
    kind : {"standard", "robust", "min_max", "max_abs", "quantile"} or None
        See `fit_scaler`.

    Returns
    -------
    Scaler

    Raises
    ------
    SignalError
        If no block holds a step.
    """
    first = _FirstPass(blocks())
    low, high = first.low, first.high
    if kind in ("robust", "quantile"):
        return _fit_by_channel(blocks, kind, len(low))
    if kind != "standard":
        # The two extreme samples of each channel have the same extremes as all of them.
        return fit_scaler(np.stack([low, high])[np.newaxis], kind=kind)
    mean = first.total / first.n_steps
    squares = np.zeros(len(low))
    for block in blocks():
        squares += ((block.reshape(-1, len(low)) - mean) ** 2).sum(axis=0)
    largest = np.maximum(np.abs(low), np.abs(high))
    constant = high - low <= 10 * np.finfo(np.float64).eps * largest
    return Scaler(
        "standard",
        np.where(constant, low, mean),
        np.where(constant, 1.0, np.sqrt(squares / first.n_steps)),
    )


class _FirstPass:
    """Number of steps, and each channel's sum and extremes."""

    def __init__(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        self.n_steps = 0
        self.low: NDArray[np.float64]
        self.high: NDArray[np.float64]
        self.total: NDArray[np.float64]
        for block in blocks:
            steps = block.reshape(-1, block.shape[2]).astype(np.float64)
            if not len(steps):
                continue
            low, high, total = steps.min(axis=0), steps.max(axis=0), steps.sum(axis=0)
            if self.n_steps:
                low, high = np.minimum(self.low, low), np.maximum(self.high, high)
                total = self.total + total
            self.low, self.high, self.total = low, high, total
            self.n_steps += len(steps)
        if not self.n_steps:
            raise SignalError(
                "no window has a valid step, so there is nothing to learn a scale of."
            )


def _fit_by_channel(
    blocks: Callable[[], Iterable[NDArray[np.float32]]], kind: str, n_channels: int
) -> Scaler:
    fitted = []
    for channel in range(n_channels):
        column = np.concatenate([block[:, :, channel] for block in blocks()])
        fitted.append(fit_scaler(column, kind=kind))
    quantiles = [f.channel_quantiles for f in fitted if f.channel_quantiles is not None]
    return Scaler(
        kind,
        np.concatenate([f.channel_center for f in fitted]),
        np.concatenate([f.channel_scale for f in fitted]),
        np.concatenate(quantiles, axis=1) if quantiles else None,
    )
