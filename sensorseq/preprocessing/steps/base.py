"""Step and StepStream: the interface of steps, whose results are bit-identical offline and live."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_rate
from sensorseq.errors import ArgumentError, RecordingError, SignalError, noting
from sensorseq.io.blocks import Rows, blocks, count_where
from sensorseq.recording import Channel, Recording

UNEVEN_PERIODS = 0.02  # largest deviation of a timestamp from an even clock, in periods


def set_fields(step: object, **values: object) -> None:
    """Set fields of an instance of a frozen dataclass while it is created."""
    for name, value in values.items():
        object.__setattr__(step, name, value)


class StepStream(Protocol):
    """A step that processes samples as they arrive.

    The output for time t is available once the sample at t + `latency_s` has been pushed.
    """

    latency_s: float

    def push(self, values: ArrayLike) -> NDArray[np.floating]:
        """Process the next samples (n, n_channels); return the completed outputs (m, n_outputs).

        The result has the dtype of `values`, but is computed in float64.
        """

    def flush(self) -> NDArray[np.floating]:
        """End the stream; return the remaining outputs."""


@runtime_checkable
class Step(Protocol):
    """A filter or feature, which is configured by plain fields and has no state."""

    kind: ClassVar[str]

    @abstractmethod
    def output_channels(self, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
        """Return the output channels for the given input channels.

        An `ArgumentError` is raised if a named channel is missing, a unit is not allowed, or two
        output channels would have the same name.
        """

    @abstractmethod
    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream for samples of these channels at this rate."""

    def apply(self, recording: Recording, sample_rate_hz: float | None = None) -> Recording:
        """Apply this step to an evenly sampled recording without NaN; a stream gives the same bits.

        By default, the rate is computed from the timestamps, which requires at least two samples.
        """
        rate = even_rate_hz(recording, sample_rate_hz)
        check_complete(recording)
        with noting(f"for recording {recording.recording_id!r}", ArgumentError):
            channels = self.output_channels(recording.channels)
            stream = self.stream(recording.channels, rate)
        samples = recording.values
        rows = Rows.like(samples, samples.dtype, len(channels))
        for at, stop in blocks(
            len(samples), samples, n_columns=max(samples.shape[1], len(channels))
        ):
            rows.append(stream.push(samples[at:stop]))
        if len(left := stream.flush()):
            rows.append(left)
        return replace(recording, values=rows.as_array(), channels=channels)

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the fields as plain values, from which `make_step` makes the step.

        Fields that are None are left out, because TOML has no null.
        """
        plain: dict[str, Any] = {"kind": self.kind}
        for field in fields(self):  # type: ignore[arg-type]  # every step is a dataclass
            value = getattr(self, field.name)
            if value is not None:
                plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain


class StreamBase(ABC):
    """Base class that checks incoming samples and returns results in their dtype."""

    latency_s: float

    def __init__(self, channels: tuple[Channel, ...]) -> None:
        self._names = [channel.name for channel in channels]
        self._n_seen = 0
        self._dtype: np.dtype[Any] = np.dtype(np.float64)
        self._is_flushed = False

    def push(self, values: ArrayLike) -> NDArray[np.floating]:
        """Process the next samples; return the outputs that are ready."""
        samples = self._check(np.asarray(values))
        self._n_seen += len(samples)
        return self._in_dtype(self._push(samples.astype(np.float64, copy=False)))

    def flush(self) -> NDArray[np.floating]:
        """End the stream; return the remaining outputs."""
        self._check_open()
        self._is_flushed = True
        return self._in_dtype(self._flush())

    @abstractmethod
    def _push(self, samples: NDArray[np.float64]) -> NDArray[np.floating]: ...

    @abstractmethod
    def _flush(self) -> NDArray[np.floating]: ...

    def _check(self, samples: NDArray[Any]) -> NDArray[Any]:
        self._check_open()
        if samples.ndim != 2 or samples.shape[1] != len(self._names):
            raise SignalError(
                f"samples have shape {samples.shape}; expected (n, {len(self._names)}), one column"
                " for each channel. For a single sample, use sample.reshape(1, -1)."
            )
        if samples.dtype.kind not in "fiub":
            raise SignalError(f"samples have dtype {samples.dtype}; they must be real numbers.")
        finite = np.isfinite(samples)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise SignalError(
                f"channel {self._names[column]!r} is {samples[row, column]} at sample"
                f" {self._n_seen + row} of the stream; end the stream before a gap and start"
                " a new stream after it."
            )
        self._dtype = samples.dtype if samples.dtype == np.float32 else np.dtype(np.float64)
        return samples

    def _check_open(self) -> None:
        if self._is_flushed:
            raise SignalError("this stream was flushed; create a new one for further samples.")

    def _in_dtype(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        with np.errstate(over="ignore"):  # later checks report infinity
            return values.astype(self._dtype, copy=False)


def even_rate_hz(recording: Recording, given_hz: float | None = None) -> float:
    """Return the rate of an evenly sampled recording; a given rate must match the timestamps."""
    name = f"recording {recording.recording_id!r}"
    rate = None if given_hz is None else check_rate("sample_rate_hz", given_hz)
    if recording.n_samples < 2:
        if rate is None:
            raise RecordingError(
                f"{name} has {recording.n_samples} samples, too few to determine the rate; give"
                " sample_rate_hz."
            )
        return rate
    own_hz, is_off = own_clock(recording, UNEVEN_PERIODS)
    if rate is None:
        # Round the rate, because the computed quotient may be 100.00000000000001 instead of 100.
        return float(f"{own_hz:.9g}")
    if is_off(rate):
        raise RecordingError(
            f"{name} is sampled at {own_hz:.9g} Hz, but sample_rate_hz is {rate:g}."
        )
    return rate


def own_clock(recording: Recording, most_periods: float) -> tuple[float, Callable[[float], bool]]:
    """Return an evenly sampled recording's rate, and a function that tests if another rate differs.

    Timestamps may deviate from an even clock by `most_periods` periods. Rates are compared within
    the precision of the timestamps.
    """
    t = recording.timestamps_s
    own_hz = (recording.n_samples - 1) / recording.duration_s
    rounding_s = 4 * np.finfo(np.float64).eps * np.abs(t[[0, -1]]).max()
    off_s = max(
        float(np.abs(part - t[0] - np.arange(at, stop) / own_hz).max())
        for at, stop in blocks(len(t), t)
        for part in [t[at:stop]]
    )
    if off_s > most_periods / own_hz + rounding_s:
        raise RecordingError(
            f"recording {recording.recording_id!r}: samples are not evenly spaced (a timestamp is"
            f" {off_s * own_hz:.2g} periods off an even clock); resample the"
            " recording with resample_recording."
        )
    within = 1e-6 + rounding_s / recording.duration_s
    return own_hz, lambda rate_hz: bool(abs(own_hz / rate_hz - 1) > within)


def check_complete(recording: Recording) -> None:
    """Raise an error if a sample is missing."""
    x = recording.values
    if recording.is_complete:
        return
    _, row = count_where(lambda at, stop: np.isnan(x[at:stop]), len(x), x)
    if row >= 0:
        name = recording.channel_names[int(np.isnan(x[row]).argmax())]
        raise RecordingError(
            f"recording {recording.recording_id!r}: channel {name!r} has no value at sample {row}"
            f" ({recording.timestamps_s[row]:.6f} s). Use resample_recording first, which fills"
            " short gaps and cuts the recording at long gaps."
        )
