"""Mean, deviation and extremes of each channel, in one pass over blocks of windows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq import _signal
from sensorseq.errors import SignalError
from sensorseq.preprocessing._window_arrays import as_windows, check_lengths, raise_not_finite


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Statistics of each channel.

    Parameters
    ----------
    n_steps : int
        Number of valid steps.
    mean, deviation, low, high : ndarray of shape (n_channels,), float64
        Mean, population standard deviation, lowest and highest value.
    """

    n_steps: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def largest(self) -> NDArray[np.float64]:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Whether each channel is constant up to rounding."""
        with np.errstate(over="ignore"):
            spread = self.high - self.low
        constant: NDArray[np.bool_] = spread <= 10 * np.finfo(np.float64).eps * self.largest
        return constant


class ChannelMoments:
    """Statistics of windows that arrive in blocks; the result is bit-identical for any blocks.

    Each step is read once. Squares are summed about the mean of 512 steps at a time, after
    subtracting the channel's first value, and groups of steps are merged, so that an offset of 1e8
    costs no digits.

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub, R. J. LeVeque, *Updating Formulae and a Pairwise Algorithm for
       Computing Sample Variances*, 1979.
    """

    def __init__(self) -> None:
        self._moments: _signal.Moments | None = None

    def add(self, X: ArrayLike, lengths: ArrayLike | None = None) -> None:
        """Add the valid steps of a block of windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
            Channels as in the first block.
        lengths : array-like of shape (n_windows,), optional
            Valid steps; later steps are not read.

        Raises
        ------
        SignalError
            If a valid step is NaN or infinite, or shapes disagree.
        """
        windows = as_windows(X)
        steps = check_lengths(windows, lengths)
        if self._moments is None:
            self._moments = _signal.Moments(windows.shape[2])
        position = self._moments.add(windows, steps)
        if position >= 0:
            raise_not_finite(windows, position)

    def statistics(self) -> ChannelStatistics:
        """Return the statistics of all blocks so far.

        Raises
        ------
        SignalError
            If there was no valid step.
        """
        n_steps, mean, m2, low, high = (
            (0, *np.zeros((4, 0))) if self._moments is None else self._moments.summarize()
        )
        if not n_steps:
            raise SignalError("no window has a valid step, so no scaler can be fitted.")
        return ChannelStatistics(n_steps, mean, np.sqrt(m2 / n_steps), low, high)
