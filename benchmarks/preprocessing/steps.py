"""Compares steps on a complete recording with pandas, scipy and aeon, for bench_preprocessing.py.

Everything runs in one process and one thread, in float64. The rows compare:

- moving deviation, moving range: over the last second, in six channels at 100 Hz. pandas' side is
  `rolling(window, min_periods=1)`, followed by `std(ddof=0)` or by `max()` minus `min()`.
- moving mean: aeon's side is `MovingAverage`. The samples before the first complete window, for
  which aeon has no values, are not compared. aeon is installed only in the environment of the
  peers.
- uneven stamps to an even grid: pandas' side is the usual idiom of `reindex` to the union of stamps
  and grid, `interpolate("index")`, and selection of the grid. Our side interpolates linearly only
  across holes, so the tolerance of the comparison depends on the curvature of the signal.
- band-pass: scipy's side is `upfirdn` with our taps on the padded signal.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from preprocessing.windows import Sides
from scipy.signal import upfirdn

from sensorseq import _signal
from sensorseq.preprocessing.regrid import regrid
from sensorseq.preprocessing.steps import Moving
from sensorseq.recording import Recording

RATE_HZ, WINDOW = 100.0, 100


def cases(n_samples: int = 200_000) -> Iterator[tuple[str, dict[str, Any], Callable[[], Sides]]]:
    """Yield the name and facts of each row and the function that makes its two sides."""
    shape = (n_samples, 6)
    made = [
        ("moving deviation, 1 s", "pandas", lambda: _moving(shape, "std")),
        ("moving range, 1 s", "pandas", lambda: _moving(shape, "range")),
        ("moving mean, 1 s", "aeon", lambda: _moving_mean(shape)),
        ("uneven stamps to an even grid", "pandas", lambda: _even_grid(shape)),
        ("band-pass of 401 taps", "scipy", lambda: _fir(shape)),
    ]
    for what, against, make in made:
        if against != "aeon" or find_spec("aeon") is not None:
            yield what, {"shape": list(shape), "dtype": "float64", "against": against}, make


def make_recording(shape: tuple[int, int]) -> Recording:
    """Return smooth noise at 100 Hz."""
    values = np.cumsum(np.random.default_rng(0).normal(size=shape), axis=0) / 10
    names = tuple(f"channel_{i}" for i in range(shape[1]))
    return Recording.evenly_sampled(values, RATE_HZ, names, "drive")


def _moving(shape: tuple[int, int], statistic: str) -> Sides:
    recording = make_recording(shape)
    frame = pd.DataFrame(recording.values)
    step = Moving(window_s=WINDOW / RATE_HZ, statistic=statistic, keep=False)

    def theirs() -> NDArray[np.float64]:
        rolling = frame.rolling(WINDOW, min_periods=1)
        made = rolling.std(ddof=0) if statistic == "std" else rolling.max() - rolling.min()
        return made.to_numpy()

    # pandas adds and subtracts samples, so its rounding errors accumulate over the recording
    return Sides(theirs, lambda: step.apply(recording).values, 1e-4)


def _moving_mean(shape: tuple[int, int]) -> Sides:
    from aeon.transformations.series.smoothing import MovingAverage

    recording = make_recording(shape)
    step = Moving(window_s=WINDOW / RATE_HZ, statistic="mean", keep=False)
    series = np.ascontiguousarray(recording.values.T)
    smooth = MovingAverage(window_size=WINDOW)
    return Sides(
        lambda: smooth.fit_transform(series).T,
        lambda: step.apply(recording).values[WINDOW - 1 :],
        1e-6,
    )


def _even_grid(shape: tuple[int, int]) -> Sides:
    rng = np.random.default_rng(1)
    stamps = np.sort(np.arange(shape[0]) + rng.uniform(-0.3, 0.3, shape[0])) / RATE_HZ
    wave = np.sin(2 * np.pi * np.linspace(0.2, 0.7, shape[1]) * stamps[:, np.newaxis])
    grid = stamps[0] + np.arange(int((stamps[-1] - stamps[0]) * RATE_HZ + 1e-9) + 1) / RATE_HZ
    frame = pd.DataFrame(wave, index=stamps)

    def theirs() -> NDArray[np.float64]:
        union = np.union1d(stamps, grid)
        return frame.reindex(union).interpolate("index").reindex(grid).to_numpy()

    return Sides(theirs, lambda: regrid(stamps, wave, RATE_HZ)[0][1], 1e-3)


def _fir(shape: tuple[int, int]) -> Sides:
    values = make_recording(shape).values
    taps = np.hanning(403)[1:-1] / np.hanning(403).sum()
    padded = np.pad(values, ((200, 200), (0, 0)), mode="reflect")

    def ours() -> NDArray[np.float64]:
        fir = _signal.PolyphaseFilter(taps, 1, 1, shape[1])
        return np.concatenate([fir.push(values), fir.flush()])

    return Sides(lambda: upfirdn(taps, padded, axis=0)[400:-400], ours, 1e-9)
