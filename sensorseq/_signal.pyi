"""The preprocessing loops of csrc/signal, as bound by csrc/bindings_signal*.cpp."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

class MovingWindow:
    """A statistic of the window of each sample's time; see csrc/signal/moving.h.

    The window of time t holds the `window_samples` samples up to t + `ahead_samples`, as far as
    they exist. One thread at a time.
    """

    def __init__(
        self,
        statistic: Literal[
            "mean", "std", "rms", "min", "max", "range", "mean_absolute", "line_residual"
        ],
        window_samples: int,
        n_channels: int,
        ahead_samples: int = 0,
    ) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (n, n_channels) samples; return the (m, n_channels) rows that are now known."""
    def flush(self) -> NDArray[np.float64]:
        """Return the last rows, whose windows the end cuts short."""
