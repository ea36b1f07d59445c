"""The preprocessing loops of csrc/signal, as bound by csrc/bindings_signal*.cpp."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def gather_windows(
    values: NDArray[np.floating[Any]],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    center: NDArray[np.float64] | None,
    scale: NDArray[np.float64] | None,
    out: NDArray[np.float32],
) -> tuple[int, int]:
    """Write the windows of a signal, scaled if asked to; see csrc/signal/window.h."""

def scale_windows(
    x: NDArray[np.floating[Any]],
    lengths: NDArray[np.int64] | None,
    center: NDArray[np.float64] | None,
    scale: NDArray[np.float64] | None,
    inverse: bool,
    out: NDArray[np.floating[Any]],
) -> tuple[int, int]:
    """Write scaled windows; returns as `gather_windows` the first value not finite, or -1."""

class Moments:
    """Running statistics of each channel; see csrc/signal/moments.h."""

    def __init__(self, n_channels: int) -> None: ...
    def add(self, x: NDArray[np.floating[Any]], lengths: NDArray[np.int64] | None = None) -> int:
        """Add valid steps; returns the position of the first value not finite, or -1."""

    def summarize(
        self,
    ) -> tuple[
        int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
    ]:
        """Return the number of steps; mean, sum of squared deviations, lowest and highest value."""
