"""Short-time spectra: the amplitude at each frequency, frame by frame."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq import checks
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing.filter_design import hann
from sensorseq.preprocessing.steps._columns import check_distinct, find_columns
from sensorseq.preprocessing.steps.base import Step, StepStream, StreamBase, set_fields
from sensorseq.recording import Channel

SCALES = ("log", "decibel", "amplitude", "power")
_MOST_BINS = 10**6
_NAMED_WITHIN = 0.02  # largest relative deviation of a bin's frequency from the bin's name


@dataclass(frozen=True)
class SpectralFrames(Step):
    """Spectra of short overlapping frames, and the channels' means over the same frames.

    The mean of each frame is subtracted, and the residual is Fourier transformed with a Hann
    window. A sine of amplitude a at the frequency of a bin has amplitude a in that bin, for any
    rate and frame length. All channels are reduced to their Hann-weighted means and keep their
    names; the bins follow with the names ``<name>_<frequency>Hz``. The frequencies of the bins are
    multiples of ``1 / frame_s``, from `min_frequency_hz` (by default the first multiple above 0 Hz)
    to `max_frequency_hz` (by default half the sample rate). `n_bands` merges the bins into bands: a
    band's amplitude is the square root of the sum of its bins' squared amplitudes.

    The length of a frame must be within 2 % of a whole number of samples, so that the names of the
    bins are accurate. Frame k starts at sample ``ceil(k * hop_s * sample_rate_hz)``; its nominal
    time is the time of its center or, for phase causal, the time of its last sample. The scale
    "log" is the natural logarithm of amplitude + `floor` (in the channel's unit), and "decibel" is
    20 times the decimal logarithm of this sum. For example, at 100 Hz, frames of 0.5 s with a floor
    of 0.0008 give ``log(|rfft| + 0.01) - log(12.5)``, where ``rfft`` transforms the 50 weighted
    samples.
    """

    kind: ClassVar[str] = "spectral"

    frame_s: float = 0.5
    hop_s: float = 0.1
    channels: tuple[str, ...] | None = None
    min_frequency_hz: float | None = None
    max_frequency_hz: float | None = None
    n_bands: int | None = None
    scale: str = "log"
    floor: float = 1e-3
    phase: str = "zero"

    def __post_init__(self) -> None:
        low = checks.check_positive_or_none("min_frequency_hz", self.min_frequency_hz)
        high = checks.check_positive_or_none("max_frequency_hz", self.max_frequency_hz)
        set_fields(
            self,
            frame_s=checks.check_positive("frame_s", self.frame_s),
            hop_s=checks.check_positive("hop_s", self.hop_s),
            channels=(
                None if self.channels is None else checks.check_names("channels", self.channels)
            ),
            min_frequency_hz=low,
            max_frequency_hz=high,
            n_bands=None if self.n_bands is None else checks.check_integer("n_bands", self.n_bands),
            scale=check_choice("scale", self.scale, SCALES),
            floor=checks.check_positive("floor", self.floor),
            phase=checks.check_phase(self.phase),
        )
        if high is not None:
            self._bands(high)

    def output_channels(
        self, channels: tuple[Channel, ...], sample_rate_hz: float | None = None
    ) -> tuple[Channel, ...]:
        """Return the output channels; see `Step`."""
        picked = find_columns("channels", self.channels, channels)
        if self.max_frequency_hz is not None:
            highest = self.max_frequency_hz
        elif sample_rate_hz is not None:
            highest = checks.check_rate("sample_rate_hz", sample_rate_hz) / 2
        else:
            raise ArgumentError(
                "without max_frequency_hz, the bins depend on the rate; give max_frequency_hz or"
                " sample_rate_hz."
            )
        labels = [self._label(band) for band in self._bands(highest)]
        bins = [
            Channel(f"{channels[column].name}_{label}", self._unit(channels[column].unit))
            for column in picked
            for label in labels
        ]
        return check_distinct([*channels, *bins])

    def output_rate_hz(self, sample_rate_hz: float) -> float:
        """Return 1 / hop_s; raise an error if a hop is less than one sample."""
        rate = checks.check_rate("sample_rate_hz", sample_rate_hz)
        checks.samples_of(self.hop_s, rate, 1, "a hop", "hop_s")
        return 1 / self.hop_s

    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream; see `Step`."""
        rate = checks.check_rate("sample_rate_hz", sample_rate_hz)
        self.output_rate_hz(rate)
        frame = self._frame_samples(rate)
        self.output_channels(channels, rate)
        highest = rate / 2 if self.max_frequency_hz is None else self.max_frequency_hz
        bands = self._bands(highest)
        if bands[-1][1] > frame // 2:
            raise ArgumentError(
                f"max_frequency_hz={highest:g} is above half the sample rate, {rate / 2:g} Hz at"
                f" {rate:g} Hz; lower it or remove it."
            )
        picked = find_columns("channels", self.channels, channels)
        return _FrameStream(self, channels, picked, bands, frame, rate)

    def _frame_samples(self, rate: float) -> int:
        count = self.frame_s * rate
        frame = round(count) if count < checks.MAX_SAMPLES else 0
        if frame < 4:
            # With a Hann window, shorter frames cannot separate a bin from 0 Hz and half the rate.
            return checks.samples_of(self.frame_s, rate, 4, "a spectrum", "frame_s")
        if abs(frame / count - 1) > _NAMED_WITHIN:
            raise ArgumentError(
                f"frame_s={self.frame_s:g} is {count:.6g} samples at {rate:g} Hz, so the bins'"
                f" frequencies would not match their names; use {int(count) / rate:.6g} s or"
                f" {(int(count) + 1) / rate:.6g} s."
            )
        return frame

    def _bands(self, highest_hz: float) -> list[tuple[int, int]]:
        """Return the first and the last bin of each band."""
        if highest_hz * self.frame_s > _MOST_BINS:
            raise ArgumentError(
                f"frame_s={self.frame_s:g} has {highest_hz * self.frame_s:.3g} bins up to"
                f" {highest_hz:g} Hz, but at most {_MOST_BINS} bins are allowed;"
                " is frame_s in seconds, and the frequency in Hz?"
            )
        low = self.min_frequency_hz or 0.0
        last = int(highest_hz * self.frame_s + 1e-6)
        first = max(1, int(np.ceil(min(low * self.frame_s, last + 1) - 1e-6)))
        if last < first:
            raise ArgumentError(
                f"no bin lies from {low:g} to {highest_hz:g} Hz: bins of frame_s={self.frame_s:g}"
                f" are {1 / self.frame_s:g} Hz apart; use longer frames or a wider range."
            )
        n_bins = last - first + 1
        n_bands = n_bins if self.n_bands is None else self.n_bands
        if n_bands > n_bins:
            raise ArgumentError(f"n_bands={n_bands} is more than the {n_bins} available bins.")
        edges = [first + i * n_bins // n_bands for i in range(n_bands + 1)]
        return [(a, b - 1) for a, b in zip(edges, edges[1:])]

    def _label(self, band: tuple[int, int]) -> str:
        # enough digits to distinguish neighboring bins
        digits = max(1, int(np.ceil(np.log10(self.frame_s) - 1e-9)) + 1)
        low, high = (f"{k / self.frame_s:.{digits}f}" for k in band)
        return f"{low}Hz" if self.n_bands is None else f"{low}-{high}Hz"

    def _unit(self, unit: str) -> str:
        if self.scale == "decibel":
            return "dB"
        if self.scale == "log" or not unit:
            return ""
        if self.scale == "amplitude":
            return unit
        return f"({unit})^2" if "/" in unit or " " in unit or "*" in unit else f"{unit}^2"


class _FrameStream(StreamBase):
    """Computes a row for each frame, and stores the samples of unfinished frames."""

    def __init__(
        self,
        step: SpectralFrames,
        channels: tuple[Channel, ...],
        picked: list[int],
        bands: list[tuple[int, int]],
        frame_samples: int,
        rate: float,
    ) -> None:
        super().__init__(channels)
        self.step = step
        self.picked = picked
        self.bands = bands
        self.frame = frame_samples
        self.hop = step.hop_s * rate
        self._held = np.empty((0, len(channels)))  # the samples from index `_n_dropped` on
        self._n_dropped = 0
        self._n_frames = 0
        self.window = hann(frame_samples, is_periodic=True)[:, np.newaxis]
        self._weight = float(self.window.sum())
        self._bins = slice(bands[0][0], bands[-1][1] + 1)
        self._band_starts = [first - bands[0][0] for first, _ in bands]
        self._is_single = all(first == last for first, last in bands)
        self._to_amplitude = np.full((self._bins.stop - self._bins.start, 1), 2 / self._weight)
        if 2 * bands[-1][1] == frame_samples:  # the last bin is its own mirror image
            self._to_amplitude[-1] /= 2
        last_s, middle_s = (frame_samples - 1) / rate, (frame_samples - 1) / 2 / rate
        late_s = 0.0 if abs(self.hop - round(self.hop)) < 1e-9 else 1 / rate
        self.delay_s = middle_s if step.phase == "zero" else last_s
        self.latency_s = last_s - self.delay_s + late_s

    def _push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        held = np.concatenate([self._held, samples])
        n_known = self._n_dropped + len(held)
        rows = []
        while (start := self._start()) + self.frame <= n_known:
            begin = start - self._n_dropped
            rows.append(self._row(held[begin : begin + self.frame]))
            self._n_frames += 1
        n_drop = min(start - self._n_dropped, len(held))
        self._n_dropped += n_drop
        self._held = held[n_drop:].copy()
        return np.stack(rows) if rows else self._flush()

    def _flush(self) -> NDArray[np.float64]:
        n_columns = self._held.shape[1] + len(self.picked) * len(self._band_starts)
        return np.empty((0, n_columns))

    def _start(self) -> int:
        exact = self._n_frames * self.hop
        # rounding may make a whole number slightly too large
        return int(np.ceil(exact - max(1e-9, 4 * np.finfo(np.float64).eps * exact)))

    def _row(self, frame: NDArray[np.float64]) -> NDArray[np.float64]:
        # Process one frame at a time, so that a frame's bits do not depend on other frames.
        relative = frame - frame[0]  # a constant becomes exactly 0
        means = frame[0] + (self.window * relative).sum(axis=0) / self._weight
        centered = relative[:, self.picked] - relative[:, self.picked].mean(axis=0)
        spectrum = np.fft.rfft(self.window * centered, axis=0)[self._bins]
        values = np.abs(spectrum) * self._to_amplitude
        if not self._is_single:
            values = np.sqrt(np.add.reduceat(values**2, self._band_starts, axis=0))
        if self.step.scale == "power":
            values = values**2
        elif self.step.scale == "log":
            values = np.log(values + self.step.floor)
        elif self.step.scale == "decibel":
            values = 20 * np.log10(values + self.step.floor)
        return np.concatenate([means, values.T.ravel()])
