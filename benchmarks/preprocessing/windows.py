"""Compares windows, scaling and statistics with numpy, for bench_preprocessing.py.

Everything runs in one process and one thread. The rows compare:

- windows and scaling: from a recording to scaled float32 windows. numpy's side is
  `sliding_window_view`, a copy of the windows, and (x - center) / scale in float64, rounded to
  float32 at the end. This is the same arithmetic as ours, so the results must be bit-identical. In
  the rows "in float32", numpy's side is the fastest numpy code, with every step in place and in
  float32; its last digits differ.
- statistics: mean and standard deviation of each channel over windows, in float64. numpy's side is
  `mean` and `std`. Our side also finds extremes and non-finite values in the same pass.

Peak memory, not counting the recording, is measured in a separate process by the kernel's counters.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common.timing import alternate, repeated, summarize
from numpy.typing import NDArray

from sensorseq.preprocessing.scale import ChannelMoments, Scaler, fit_scaler

WINDOW_SAMPLES, HOP_SAMPLES = 200, 100


class Sides(NamedTuple):
    """Two ways to compute the same result, and the tolerance for comparing the results."""

    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    tolerance: float = 0.0


def make_signal(n_bytes: int, n_channels: int, dtype: type) -> NDArray[np.floating]:
    """Return about `n_bytes` of samples with the offset and spread of a motor current."""
    n_samples = n_bytes // (n_channels * np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((n_samples, n_channels), np.float32).astype(dtype)
    return signal * dtype(3) + dtype(20)


def cases(n_bytes: int) -> Iterator[tuple[str, dict[str, Any], Callable[[], Sides]]]:
    """Yield the name and facts of each row and the function that makes its two sides."""
    for dtype in (np.float64, np.float32):
        for n_channels in (1, 3, 6):
            n_samples = n_bytes // n_channels // np.dtype(dtype).itemsize
            shape = {"shape": [n_samples, n_channels], "dtype": np.dtype(dtype).name}
            shape |= {"against": "numpy"}
            args = (n_bytes, n_channels, dtype)
            yield "windows and scaling", shape, lambda args=args: _scaling(*args)
            yield "windows and scaling in float32", shape, lambda args=args: _single(*args)
            yield "statistics", shape, lambda args=args: _statistics(*args)


def measure(sides: Sides, *, rounds: int) -> dict[str, float]:
    """Compare the results, then time both sides alternately."""
    np.testing.assert_allclose(sides.ours(), sides.theirs(), rtol=0, atol=sides.tolerance)
    times = alternate(
        repeated(sides.theirs), repeated(sides.ours), rounds=rounds, warm_up_runs=1, budget_s=60
    )
    return summarize(*times)


def peak_memory(n_bytes: int) -> dict[str, int]:
    """Return the peak memory of cutting and scaling, and the size of the result, in bytes."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_memory, (n_bytes,))


def _peak_memory(n_bytes: int) -> dict[str, int]:
    signal = np.full((n_bytes // 24, 3), 1.5)
    scaler = fit_scaler(signal[np.newaxis, :1000])
    _ours(signal[:1000], scaler)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak; see proc(5)
    before = _held("VmRSS")
    made = _ours(signal, scaler)
    peak = _held("VmHWM")
    return {"input": signal.nbytes, "result": made.nbytes, "peak_beyond_input": peak - before}


def _held(what: str) -> int:
    """Return the resident memory of this process, current or peak, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def _windows(signal: NDArray[np.floating]) -> NDArray[np.floating]:
    view = np.lib.stride_tricks.sliding_window_view(signal, WINDOW_SAMPLES, axis=0)
    return np.moveaxis(view, -1, 1)[::HOP_SAMPLES]


def _scaling(n_bytes: int, n_channels: int, dtype: type) -> Sides:
    signal = make_signal(n_bytes, n_channels, dtype)
    scaler = fit_scaler(signal[np.newaxis, :100_000])

    def theirs() -> NDArray[np.float32]:
        windows = np.ascontiguousarray(_windows(signal))
        return ((windows - scaler.channel_center) / scaler.channel_scale).astype(np.float32)

    return Sides(theirs, lambda: _ours(signal, scaler))


def _single(n_bytes: int, n_channels: int, dtype: type) -> Sides:
    signal = make_signal(n_bytes, n_channels, dtype)
    scaler = fit_scaler(signal[np.newaxis, :100_000])
    center = scaler.channel_center.astype(np.float32)
    scale = scaler.channel_scale.astype(np.float32)

    def theirs() -> NDArray[np.float32]:
        windows = np.array(_windows(signal), np.float32, order="C")
        windows -= center
        windows /= scale
        return windows

    return Sides(theirs, lambda: _ours(signal, scaler), tolerance=1e-5)


def _ours(signal: NDArray[np.floating], scaler: Scaler) -> NDArray[np.float32]:
    return scaler.transform_to_float32(_windows(signal))


def _statistics(n_bytes: int, n_channels: int, dtype: type) -> Sides:
    signal = make_signal(n_bytes, n_channels, dtype)
    n_windows = len(signal) // WINDOW_SAMPLES
    X = signal[: n_windows * WINDOW_SAMPLES].reshape(n_windows, WINDOW_SAMPLES, n_channels)

    def theirs() -> NDArray[np.float64]:
        steps = X.reshape(-1, n_channels)
        return np.stack([steps.mean(axis=0, dtype=np.float64), steps.std(axis=0, dtype=np.float64)])

    def ours() -> NDArray[np.float64]:
        moments = ChannelMoments()
        moments.add(X)
        statistics = moments.statistics()
        return np.stack([statistics.mean, statistics.deviation])

    return Sides(theirs, ours, tolerance=1e-9)
