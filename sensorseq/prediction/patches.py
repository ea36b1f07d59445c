"""Patches: overlapping frames of a window's samples, each described as one step of the network."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.model_file import arrays_below
from sensorseq.preprocessing.scale import Scaler

N_BANDS = 6  # largest number of bands of a spectrum
# Added to variances and powers of scaled channels before the logarithm is taken.
SMALLEST_POWER = 1e-4
# Scaled samples are clipped to +- this value, so that sums of their squares are finite in float32.
LARGEST_SAMPLE = 1e15
_BLOCK = 64  # number of windows that are converted to steps at a time, to limit memory
_Count = TypeVar("_Count", bound=Any)  # an integer, or an array or tensor of integers


class Patch(NamedTuple):
    """A rule that describes frames of `n_samples` samples as steps; frames overlap by half.

    The inputs of a step are, for each channel, the mean, the variance, the minimum and the maximum,
    and the power in each band of the spectrum (of the samples minus their mean, in a Hann window).
    A variance or power v becomes ``log(v + SMALLEST_POWER)``. If a window ends within a frame, the
    window's last sample is repeated to fill the frame. `scaler` then scales each input by its mean
    and standard deviation over the training windows; None leaves inputs unscaled.
    """

    n_samples: int
    scaler: Optional[Scaler] = None

    @property
    def hop(self) -> int:
        """The number of samples between the starts of neighboring frames."""
        return max(1, self.n_samples // 2)

    @property
    def bands(self) -> list[tuple[int, int]]:
        """The bands as half-open ranges (first, end) of frequency numbers.

        Frequency number k, which is at least 1, has k periods in a frame. Bands are spaced evenly
        in the logarithm of frequency; a short frame has fewer than `N_BANDS` bands.
        """
        edges = np.geomspace(1, self.n_samples // 2 + 1, N_BANDS + 1).round().astype(int).tolist()
        return [(low, high) for low, high in zip(edges, edges[1:]) if low < high]

    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the Hann window (n_samples,), and the weight of each frequency in each band.

        The weights (n_samples // 2 + 1, n_bands) make the power of white noise in a band equal to
        the variance of the noise.
        """
        window = np.sin(np.pi * (np.arange(self.n_samples) + 0.5) / self.n_samples) ** 2
        share = np.zeros((self.n_samples // 2 + 1, len(self.bands)))
        for band, (low, high) in enumerate(self.bands):
            share[low:high, band] = 1 / ((high - low) * (window @ window))
        return window, share

    def places(self, n_steps: int) -> NDArray[np.int64]:
        """Return the indices, within a window, of each step's samples (n_steps, n_samples)."""
        first = np.arange(n_steps, dtype=np.int64) * self.hop
        return first[:, None] + np.arange(self.n_samples)

    def n_inputs(self, n_channels: int) -> int:
        """Return the number of inputs per step."""
        return n_channels * (4 + len(self.bands))

    def apply(
        self, X: NDArray[Any], lengths: NDArray[np.int64] | None
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Convert windows (n, t, c) to steps (n, n_steps, n_inputs); also return lengths in steps.

        Steps beyond a window's length are zero.
        """
        n, t, c = X.shape
        n_steps = count_steps(t, self)
        steps = np.empty((n, n_steps, self.n_inputs(c)), X.dtype)
        valid = None if lengths is None else count_steps(lengths, self)
        scaler = self.scaler or Scaler.identity(steps.shape[2])
        last = np.full((n, 1, 1), t - 1) if lengths is None else lengths[:, None, None] - 1
        for start in range(0, n, _BLOCK):
            rows = slice(start, start + _BLOCK)
            places = np.minimum(self.places(n_steps), last[rows])
            samples = np.clip(X[rows], -LARGEST_SAMPLE, LARGEST_SAMPLE)
            frames = np.take_along_axis(samples, places.reshape(len(places), -1, 1), 1)
            # in float64, because scaling enlarges errors of logarithms that vary little
            inputs = self._describe(frames.reshape(*places.shape, c).astype(np.float64))
            steps[rows] = scaler.transform(inputs, None if valid is None else valid[rows])
        return steps, valid

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a model file stores and `read_patch` reads."""
        assert self.scaler is not None
        return {f"patch.{name}": array for name, array in self.scaler.to_dict().items()}

    def _describe(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return the inputs of frames (n, n_steps, n_samples, c)."""
        window, share = self.spectrum()
        mean = frames.mean(axis=2)
        apart = frames - mean[:, :, None]
        waves = np.fft.rfft(apart * window[:, None], axis=2)
        power = waves.real**2 + waves.imag**2
        # sums, because the rounding of a matrix product depends on the number of windows
        bands = [
            power[:, :, low:high].sum(axis=2) * share[low, band]
            for band, (low, high) in enumerate(self.bands)
        ]
        parts = [
            mean,
            np.log(np.square(apart).mean(axis=2) + SMALLEST_POWER),
            frames.min(axis=2),
            frames.max(axis=2),
            np.log(np.stack(bands, axis=3) + SMALLEST_POWER).reshape(*mean.shape[:2], -1),
        ]
        return np.concatenate(parts, axis=2)


def count_steps(n_timesteps: _Count, patch: Patch | None) -> _Count:
    """Return the number of steps in windows of `n_timesteps` samples; both may be arrays."""
    if patch is None:
        return n_timesteps
    beyond: Any = n_timesteps - patch.n_samples
    more = -(-beyond // patch.hop)  # frames needed after the first to include the last sample
    n_steps: _Count = 1 + more * (more > 0)
    return n_steps


def read_patch(n_samples: int | None, arrays: Mapping[str, NDArray[Any]]) -> Patch | None:
    """Read a patch from a model file's frame length and arrays, or raise a ValueError."""
    if n_samples is None:
        return None
    if type(n_samples) is not int or n_samples < 2:
        raise ValueError(f"patch={n_samples!r}")
    return Patch(n_samples, Scaler.from_dict(arrays_below(arrays, "patch.")))
