"""Bindings of the preprocessing loops in csrc/signal; see csrc/bind/signal*.cpp."""

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Edge = Literal["mirror", "hold", "odd"]

class PolyphaseFilter:
    """A filter at `up` times the input's rate, which keeps every `down`-th output.

    Output `m` has the time of input sample ``m * down / up``. It is the sum over k of
    ``taps[k] * u[m * down + delay - k]``, where ``u[i * up] = x[i]`` and all other ``u`` are 0. A
    signal of n samples gives ``ceil(n * up / down)`` outputs, whose bits do not depend on how the
    signal is cut into chunks. The filter computes in float64 and treats each channel separately.
    Calls release the GIL.

    Parameters
    ----------
    taps : ndarray of shape (n_taps,), float64
        The filter's taps, which must be finite. If each phase ``taps[p::up]`` sums to 1, a
        constant passes unchanged.
    up, down : int
        Factors of the rate, from 1 to 2**20.
    n_channels : int
        Number of channels of every chunk.
    edge : {"mirror", "hold", "odd"}
        Values before the first and after the last sample. mirror: the signal is reflected, as often
        as needed. hold: the first or last sample is repeated. odd: the signal is reflected about
        its end points, as in ``2 * x[0] - x[k]``, so that a straight line continues.
    delay : int, optional
        Delay of the taps that is removed, in samples at the upper rate. By default, it is the
        center of the taps, whose number must then be odd; the outputs are not delayed. With 0, the
        filter is causal. A filter that looks back further than ahead needs ``edge="hold"``.
    """

    def __init__(
        self,
        taps: NDArray[np.float64],
        up: int,
        down: int,
        n_channels: int,
        edge: _Edge = "mirror",
        delay: int | None = None,
    ) -> None: ...
    def push(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """Process finite samples (n, n_channels); return the outputs that need no later samples."""

    def push_last(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """Process the last samples; return the outputs of `push` and `flush` in one array."""

    def flush(self) -> NDArray[np.floating]:
        """Return the remaining outputs, in the last chunk's dtype, and start a new signal."""

    def reset(self) -> None:
        """Discard the current signal, so that a new one can start."""

    @property
    def n_channels(self) -> int: ...
    @property
    def latency_samples(self) -> float:
        """The lookahead of an output, in input samples.

        The output at position p, in input samples, is returned as soon as input sample
        ``floor(p + latency_samples)`` has been pushed.
        """

    @property
    def isa(self) -> str:
        """Name of the instruction set that this filter uses."""

class TableFilter:
    """A filter for any ratio of rates, which interpolates linearly between tabulated taps.

    Output `m` has the time of input sample ``m / ratio``, which need not be a whole number. Each
    output is divided by the sum of its weights, so a constant passes unchanged. A signal of n
    samples gives ``ceil(n * ratio - 1e-9)`` outputs. Otherwise, this filter is like
    `PolyphaseFilter`.

    Parameters
    ----------
    taps : ndarray of shape (n_taps,), float64
        The table of taps. Their number must be odd and at least ``2 * n_phases - 1``; the center
        is time 0.
    n_phases : int
        Number of taps per input sample.
    ratio : float
        Number of outputs per input sample.
    n_channels, edge
        As in `PolyphaseFilter`.
    """

    def __init__(
        self,
        taps: NDArray[np.float64],
        n_phases: int,
        ratio: float,
        n_channels: int,
        edge: _Edge = "mirror",
    ) -> None: ...
    def push(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """Do the same as `PolyphaseFilter.push`."""

    def push_last(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """Do the same as `PolyphaseFilter.push_last`."""

    def flush(self) -> NDArray[np.floating]:
        """Do the same as `PolyphaseFilter.flush`."""

    def reset(self) -> None:
        """Discard the current signal, so that a new one can start."""

    @property
    def n_channels(self) -> int: ...
    @property
    def latency_samples(self) -> float:
        """The same as in `PolyphaseFilter`."""

    @property
    def isa(self) -> str:
        """Name of the instruction set that this filter uses."""

class MovingWindow:
    """Computes a statistic of the moving window of each sample; see csrc/signal/moving.h.

    The window of sample t consists of the existing samples among the `window_samples` samples up to
    t + `ahead_samples`. `statistic` is mean, std, rms, min, max, range, mean_absolute or
    line_residual. Only one thread at a time may use the object.
    """

    def __init__(
        self,
        statistic: str,
        window_samples: int,
        n_channels: int,
        ahead_samples: int = 0,
    ) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Process samples (n, n_channels); return the results (m, n_channels) ready so far."""
    def flush(self) -> NDArray[np.float64]:
        """Return the last results, whose windows extend beyond the end of the signal."""

class SectionFilter:
    """A recursive filter, bit-identical to `scipy.signal.sosfilt`; see csrc/signal/sections.h.

    `sections` (n, 6) are second-order sections as in scipy. The initial state is zero. Only one
    thread at a time may use the object.
    """

    def __init__(self, sections: NDArray[np.float64], n_channels: int) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Process samples (n, n_channels); return one output per sample."""

def gather_windows(
    values: NDArray[np.floating[Any]],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    center: NDArray[np.float64] | None,
    scale: NDArray[np.float64] | None,
    out: NDArray[np.float32],
) -> tuple[int, int]:
    """Write the windows of a signal to `out`, optionally scaled; see csrc/signal/window.h."""

def scale_windows(
    x: NDArray[np.floating[Any]],
    lengths: NDArray[np.int64] | None,
    center: NDArray[np.float64] | None,
    scale: NDArray[np.float64] | None,
    inverse: bool,
    out: NDArray[np.floating[Any]],
) -> tuple[int, int]:
    """Write scaled windows to `out`; the result is like that of `gather_windows`."""

class Moments:
    """Running statistics of each channel; see csrc/signal/moments.h."""

    def __init__(self, n_channels: int) -> None: ...
    def add(self, x: NDArray[np.floating[Any]], lengths: NDArray[np.int64] | None = None) -> int:
        """Add the valid time steps; return the position of the first non-finite value, or -1."""

    def summarize(
        self,
    ) -> tuple[
        int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
    ]:
        """Return the step count, and means, sums of squared deviations, minima and maxima."""

def all_finite(x: NDArray[np.float32] | NDArray[np.float64]) -> bool:
    """Return whether no entry is NaN or infinite, in one pass without an intermediate array."""

def read_numbers(
    text: bytes | memoryview, start: int, wanted: list[bool]
) -> NDArray[np.float64] | None:
    """Parse the wanted columns of CSV text from position `start` on, as (n_wanted, n_rows).

    The result is None if the text contains anything but rows of equal length with plain numbers or
    empty cells in these columns; see csrc/signal/csv_numbers.h.
    """

def share_above_biases(
    x: NDArray[np.float32],
    lengths: NDArray[np.int64] | None,
    dilations: NDArray[np.int32],
    features_per_dilation: NDArray[np.int32],
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
    biases: NDArray[np.float32],
    n_threads: int = 1,
) -> tuple[NDArray[np.float32], int]:
    """Return features of windows (N, T, C), and the position of the first non-finite value or -1.

    See csrc/signal/random_convolutions.h.
    """

def convolve_windows(
    x: NDArray[np.float32],
    lengths: NDArray[np.int64] | None,
    rows: NDArray[np.int64],
    dilation: int,
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Return an array (84, T); row k has the outputs of kernel k on the window rows[k]."""

def check_convolutions(
    dilations: NDArray[np.int32],
    features_per_dilation: NDArray[np.int32],
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
    biases: NDArray[np.float32],
    n_channels: int,
) -> None:
    """Raise ValueError if `share_above_biases` does not accept these arguments."""

def share_wins(
    x: NDArray[np.float32],
    lengths: NDArray[np.int64] | None,
    dilations: NDArray[np.int32],
    is_difference: NDArray[np.int32],
    kernels: NDArray[np.int32],
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
    n_threads: int = 1,
) -> tuple[NDArray[np.float32], int]:
    """Return kernels' wins and losses, and the position of the first non-finite value or -1.

    See csrc/signal/random_convolutions.h.
    """

def check_competition(
    dilations: NDArray[np.int32],
    is_difference: NDArray[np.int32],
    kernels: NDArray[np.int32],
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
    n_channels: int,
) -> None:
    """Raise ValueError if `share_wins` does not accept these arguments."""

def augment(
    x: NDArray[np.floating[Any]],
    lengths: NDArray[np.int64],
    indices: NDArray[np.int64],
    copies: NDArray[np.int64],
    seed: int,
    strength: dict[str, float],
    spline: NDArray[np.float64],
    mirror_order: NDArray[np.int64] | None,
    mirror_sign: NDArray[np.float64] | None,
    axes: NDArray[np.int64],
    channel_sd: NDArray[np.float64] | None,
    n_threads: int,
) -> int:
    """Change windows (N, T, C) in place; return the position of the first non-finite value or -1.

    See csrc/signal/augment.h.
    """
