"""The preprocessing loops of csrc/signal, as bound by csrc/bindings_signal*.cpp."""

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Edge = Literal["mirror", "hold", "odd"]

class PolyphaseFilter:
    """A filter at `up` times the input's rate, of which every `down`-th output is kept.

    Output `m` lies at input sample ``m * down / up`` and is the sum over k of
    ``taps[k] * u[m * down + delay - k]``, where ``u[i * up] = x[i]`` and all else is 0. A signal of
    n samples gives ``ceil(n * up / down)`` outputs, the same bits however it is cut into chunks.
    Computed in float64; channels do not mix. Calls release the GIL.

    Parameters
    ----------
    taps : ndarray of shape (n_taps,), float64
        Finite. Where each phase ``taps[p::up]`` sums to 1, a constant passes unchanged.
    up, down : int
        1 to 2**20.
    n_channels : int
        Channels of every chunk.
    edge : {"mirror", "hold", "odd"}
        Before the first sample and after the last: the samples backwards, again and again; that
        sample; or ``2 * x[0] - x[k]``, which goes on along a straight line.
    delay : int, optional
        In samples at the upper rate. By default the centre of the taps, whose number must be odd:
        no delay is left. 0 is the causal filter. One that looks back further than ahead needs
        ``edge="hold"``.
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
        """Take (n, n_channels) finite samples; return the outputs that need no later one."""

    def push_last(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """Take the last samples; return what `push` and then `flush` would, in one array."""

    def flush(self) -> NDArray[np.floating]:
        """Return the outputs that are left, in the last chunk's dtype; begin another signal."""

    def reset(self) -> None:
        """Forget the signal."""

    @property
    def n_channels(self) -> int: ...
    @property
    def latency_samples(self) -> float:
        """How far, in input samples, an output looks ahead.

        The output at position p (in input samples) is given as soon as sample
        ``floor(p + latency_samples)`` has arrived.
        """

    @property
    def isa(self) -> str:
        """Instruction set that serves this filter."""

class TableFilter:
    """A filter at `n_phases` times the input's rate, a straight line between two of its taps.

    Output `m` lies at input sample ``m / ratio``, whatever that is, and is divided by the sum of
    its weights: a constant passes unchanged. ``ceil(n * ratio - 1e-9)`` outputs; all else as in
    `PolyphaseFilter`.

    Parameters
    ----------
    taps : ndarray of shape (n_taps,), float64
        An odd number of them, at least ``2 * n_phases - 1``; the centre is time 0.
    n_phases : int
        Taps for each input sample.
    ratio : float
        Outputs for each input sample.
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
        """As `PolyphaseFilter.push`."""

    def push_last(self, x: NDArray[_Real]) -> NDArray[_Real]:
        """As `PolyphaseFilter.push_last`."""

    def flush(self) -> NDArray[np.floating]:
        """As `PolyphaseFilter.flush`."""

    def reset(self) -> None:
        """Forget the signal."""

    @property
    def n_channels(self) -> int: ...
    @property
    def latency_samples(self) -> float:
        """As in `PolyphaseFilter`."""

    @property
    def isa(self) -> str:
        """Instruction set that serves this filter."""

class MovingWindow:
    """A statistic of the window of each sample's time; see csrc/signal/moving.h.

    The window of time t holds the `window_samples` samples up to t + `ahead_samples`, as far as
    they exist. `statistic`: mean, std, rms, min, max, range, mean_absolute or line_residual. One
    thread at a time.
    """

    def __init__(
        self,
        statistic: str,
        window_samples: int,
        n_channels: int,
        ahead_samples: int = 0,
    ) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (n, n_channels) samples; return the (m, n_channels) rows that are now known."""
    def flush(self) -> NDArray[np.float64]:
        """Return the last rows, whose windows the end cuts short."""

class SectionFilter:
    """A recursive filter with the bits of `scipy.signal.sosfilt`; see csrc/signal/sections.h.

    `sections` (n, 6) are those of scipy. The state begins at zero. One thread at a time.
    """

    def __init__(self, sections: NDArray[np.float64], n_channels: int) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take (n, n_channels) samples and return as many rows."""

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

def all_finite(x: NDArray[np.float32] | NDArray[np.float64]) -> bool:
    """Whether no entry is NaN or infinite; one pass, no array in between."""

def read_numbers(
    text: bytes | memoryview, start: int, wanted: list[bool]
) -> NDArray[np.float64] | None:
    """Return the wanted columns (n_wanted, n_rows) of CSV text from `start` on, or None.

    None unless all is plain numbers or empty; see csrc/signal/csv_numbers.h.
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
    """Return the features of windows (N, T, C), and the first position not finite, or -1.

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
    """Return (84, T): the outputs of kernel k on window rows[k], up to the window's length."""

def check_convolutions(
    dilations: NDArray[np.int32],
    features_per_dilation: NDArray[np.int32],
    channel_counts: NDArray[np.int32],
    channel_indices: NDArray[np.int32],
    biases: NDArray[np.float32],
    n_channels: int,
) -> None:
    """Raise ValueError if `share_above_biases` cannot use these."""

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
    """Return the wins and losses of kernels, and the first position not finite, or -1.

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
    """Raise ValueError if `share_wins` cannot use these."""

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
    before: NDArray[np.float64] | None,
    after: NDArray[np.float64] | None,
    n_threads: int,
) -> int:
    """Change windows (N, T, C) in place; returns the first position not finite, or -1.

    See csrc/signal/augment.h.
    """
