"""Filters that leave a channel what it is: without its drift, within a band, without hum."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, firwin, iirnotch, kaiserord, tf2sos
from scipy.signal.windows import hann, kaiser

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing._checks import check_positive, check_rate
from sensorseq.preprocessing.steps import _fields
from sensorseq.preprocessing.steps._columns import (
    Columns,
    ColumnStream,
    Kernel,
    derived_columns,
    find_columns,
)
from sensorseq.preprocessing.steps._kernels import Edge, Fir, LocalFit, MovingStatistic, Sos
from sensorseq.preprocessing.steps.base import StepBase, StepStream
from sensorseq.recording import Channel

ATTENUATION_DB = 60.0
BUTTERWORTH_ORDER = 4
# Kaiser's formula for the number of taps is an estimate; and ripple may double where two edges'
# ripples meet, at half the rate, and beside 0 Hz, where the rest is taken out.
_MARGIN_DB = 7.0
_MAX_TAPS = 10**6


class _Filter(StepBase):
    """A step that gives a channel of the same quantity for each it reads."""

    suffix: ClassVar[str]

    channels: tuple[str, ...] | None
    phase: str
    keep: bool

    def _check_common(self) -> None:
        _fields.set_fields(
            self,
            channels=_fields.check_optional_names("channels", self.channels),
            phase=_fields.check_phase(self.phase),
            keep=_fields.check_flag("keep", self.keep),
        )

    def output_channels(
        self, channels: tuple[Channel, ...], sample_rate_hz: float | None = None
    ) -> tuple[Channel, ...]:
        """Return the channels of the result; see `Step`."""
        return self._columns(channels).channels

    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream; see `Step`."""
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        columns = self._columns(channels)
        return ColumnStream(self._kernel(rate, len(columns.picked)), columns, channels, rate)

    def _columns(self, channels: tuple[Channel, ...]) -> Columns:
        picked = find_columns("channels", self.channels, channels)
        derived = [channels[column] for column in picked]
        if self.keep:
            derived = [replace(old, name=f"{old.name}_{self.suffix}") for old in derived]
        return derived_columns(channels, picked, derived, self.keep)

    @abstractmethod
    def _kernel(self, rate: float, n_channels: int) -> Kernel: ...


@dataclass(frozen=True)
class Detrend(_Filter):
    """Take a slow drift out of channels: what a straight line through the near past explains.

    Parameters
    ----------
    window_s : float
        Seconds over which a drift counts as straight. At least three samples.
    channels : sequence of str, optional
        Channels to filter; all when not given.
    phase : {"zero", "causal"}
        zero: the residual of the line through the window around the sample, weighted by a Hann
        window; at the ends of the signal the line goes through the half that is there. Anything
        faster than two periods a window passes within 3 %. Latency: half the window.
        causal: the residual of the least-squares line through the window that ends at the sample,
        at that sample; the window grows from the first sample on. Anything faster than ten periods
        a window passes within 7 %. No latency.
    keep : bool, default=False
        Keep the channels as they are, and add ``<name>_detrended`` beside them.
    """

    kind: ClassVar[str] = "detrend"
    suffix: ClassVar[str] = "detrended"

    window_s: float
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    keep: bool = False

    def __post_init__(self) -> None:
        self._check_common()
        _fields.set_fields(self, window_s=check_positive("window_s", self.window_s))

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        window = _fields.samples_of(self.window_s, rate, 3, "the residual of a line")
        if self.phase == "causal":
            return MovingStatistic("line_residual", window, 0, n_channels)
        half = window // 2
        whole = hann(2 * half + 3)[1:-1]  # the ends of a Hann window weigh nothing

        def weights(before: int, ahead: int) -> NDArray[np.float64]:
            weight = whole[half - before : half + ahead + 1]
            at = np.arange(-before, ahead + 1)
            moments = [weight.sum(), weight @ at, weight @ at**2]
            if before + ahead:
                line = weight * (moments[2] - moments[1] * at)
                line /= moments[0] * moments[2] - moments[1] ** 2
            else:
                line = np.ones(1)
            residual: NDArray[np.float64] = -line
            residual[before] += 1
            return residual

        return LocalFit(weights, half, half, n_channels)


@dataclass(frozen=True)
class BandPass(_Filter):
    """Keep a band of frequencies: low-pass, high-pass, or both.

    Parameters
    ----------
    low_hz, high_hz : float, optional
        The band; without one of them it is open at that end.
    channels : sequence of str, optional
        Channels to filter; all when not given.
    phase : {"zero", "causal"}
        zero: a symmetric Kaiser-window filter. The band passes within 0.1 dB, undelayed; what is
        `transition_hz` beyond it is down by `attenuation_db`. Latency: half the filter's length,
        about ``attenuation_db / (30 * transition_hz)`` seconds.
        causal: a Butterworth filter, 3 dB down at the edges of the band, at rest on the first
        sample. No latency, but what passes comes later by the filter's group delay.
    attenuation_db : float, optional
        Only for zero phase, 40 to 140; 60 when not given.
    transition_hz : float, optional
        Only for zero phase. Half of the lower given edge by default, less where half the sample
        rate is nearer to `high_hz`.
    order : int, optional
        Only for causal phase: order of the Butterworth low-pass it is made of, 1 to 20; 4 when not
        given (24 dB an octave).
    keep : bool, default=False
        Keep the channels as they are, and add ``<name>_filtered`` beside them.

    Notes
    -----
    A constant passes a low-pass unchanged and becomes exactly 0 in the others, from the first
    sample on. Beyond its ends a signal is mirrored for a low-pass, and reflected about its last
    point where drift is to go.
    """

    kind: ClassVar[str] = "band_pass"
    suffix: ClassVar[str] = "filtered"

    low_hz: float | None = None
    high_hz: float | None = None
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    attenuation_db: float | None = None
    transition_hz: float | None = None
    order: int | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        self._check_common()
        low = _fields.check_number("low_hz", self.low_hz)
        high = _fields.check_number("high_hz", self.high_hz)
        if low is None and high is None:
            raise ArgumentError("a band needs low_hz, high_hz or both.")
        if low is not None and high is not None and low >= high:
            raise ArgumentError(f"low_hz={low:g} is not below high_hz={high:g}.")
        transition = _fields.check_number("transition_hz", self.transition_hz)
        if transition is not None and low is not None and transition > low:
            raise ArgumentError(
                f"transition_hz={transition:g} reaches below 0 Hz from low_hz={low:g}."
            )
        _check_belongs(self.phase, "causal", order=self.order)
        _check_belongs(
            self.phase, "zero", attenuation_db=self.attenuation_db, transition_hz=transition
        )
        order = self.order
        _fields.set_fields(
            self,
            low_hz=low,
            high_hz=high,
            transition_hz=transition,
            attenuation_db=_check_attenuation(self.attenuation_db),
            order=None if order is None else _fields.check_count("order", order, 1, 20),
        )

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        nyquist = rate / 2
        for name, edge in (("low_hz", self.low_hz), ("high_hz", self.high_hz)):
            if edge is not None and edge >= nyquist:
                raise ArgumentError(
                    f"{name}={edge:g} is not below half the sample rate, {nyquist:g} Hz at"
                    f" {rate:g} Hz; lower it" + (" or leave it out." if name == "high_hz" else ".")
                )
        gain = 1.0 if self.low_hz is None else 0.0
        if self.phase == "causal":
            edges = [edge for edge in (self.low_hz, self.high_hz) if edge is not None]
            kind = "bandpass" if len(edges) == 2 else "lowpass" if gain else "highpass"
            order = self.order or BUTTERWORTH_ORDER
            sections = butter(order, np.squeeze(edges), kind, fs=rate, output="sos")
            return Sos(sections, n_channels, gain)
        beyond: Edge = "mirror" if gain else "odd"
        return Fir(self._design(rate), n_channels, gain, beyond, is_causal=False)

    def _design(self, rate: float) -> NDArray[np.float64]:
        width = self._transition_hz(rate)
        attenuation = self.attenuation_db or ATTENUATION_DB
        n_taps, beta = _kaiser_length(width, rate, attenuation, "transition_hz")
        cutoffs = []
        if self.low_hz is not None:
            cutoffs.append(self.low_hz - width / 2)
        if self.high_hz is not None:
            cutoffs.append(self.high_hz + width / 2)
        taps: NDArray[np.float64] = firwin(
            n_taps, cutoffs, window=("kaiser", beta), fs=rate, pass_zero=self.low_hz is None
        )
        if self.low_hz is not None:  # what is left at 0 Hz goes, and nothing but the stop band
            window = kaiser(n_taps, beta)
            taps -= window * (taps.sum() / window.sum())
        return taps

    def _transition_hz(self, rate: float) -> float:
        room = np.inf if self.high_hz is None else rate / 2 - self.high_hz
        if self.transition_hz is None:
            edges = [edge for edge in (self.low_hz, self.high_hz) if edge is not None]
            return float(min(edges[0] / 2, room))
        if self.transition_hz > room:
            raise ArgumentError(
                f"high_hz={self.high_hz:g} and transition_hz={self.transition_hz:g} reach beyond"
                f" half the sample rate, {rate / 2:g} Hz at {rate:g} Hz; use at most {room:g} Hz."
            )
        return self.transition_hz


@dataclass(frozen=True)
class Notch(_Filter):
    """Take one frequency out, such as the hum of the mains.

    Parameters
    ----------
    frequency_hz : float
        For example 50 or 60.
    width_hz : float, default=4.0
        Width of what is lost around it: outside, a zero-phase filter passes within 0.1 dB, a causal
        one within 3 dB.
    channels : sequence of str, optional
        Channels to filter; all when not given.
    phase : {"zero", "causal"}
        zero: a symmetric Kaiser-window filter; the middle half of the width is down by 60 dB.
        Latency: about ``8 / width_hz`` seconds.
        causal: a recursive filter of second order, zero at that frequency, at rest on the first
        sample. No latency.
    keep : bool, default=False
        Keep the channels as they are, and add ``<name>_notched`` beside them.
    """

    kind: ClassVar[str] = "notch"
    suffix: ClassVar[str] = "notched"

    frequency_hz: float
    width_hz: float = 4.0
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    keep: bool = False

    def __post_init__(self) -> None:
        self._check_common()
        frequency = check_positive("frequency_hz", self.frequency_hz)
        width = check_positive("width_hz", self.width_hz)
        if width >= 2 * frequency:
            raise ArgumentError(
                f"width_hz={width:g} reaches below 0 Hz from frequency_hz={frequency:g}."
            )
        _fields.set_fields(self, frequency_hz=frequency, width_hz=width)

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        if self.frequency_hz + self.width_hz / 2 >= rate / 2:
            raise ArgumentError(
                f"frequency_hz={self.frequency_hz:g} with width_hz={self.width_hz:g} reaches half"
                f" the sample rate, {rate / 2:g} Hz at {rate:g} Hz."
            )
        if self.phase == "causal":
            sections = tf2sos(*iirnotch(self.frequency_hz, self.frequency_hz / self.width_hz, rate))
            return Sos(sections, n_channels, 1.0)
        n_taps, beta = _kaiser_length(self.width_hz / 4, rate, ATTENUATION_DB, "width_hz")
        half = 3 / 8 * self.width_hz
        cutoffs = [self.frequency_hz - half, self.frequency_hz + half]
        taps = firwin(n_taps, cutoffs, window=("kaiser", beta), fs=rate, pass_zero=True)
        return Fir(taps, n_channels, 1.0, "mirror", is_causal=False)


def _kaiser_length(
    width_hz: float, rate: float, attenuation_db: float, argument: str
) -> tuple[int, float]:
    """Return an odd number of taps, and the window's beta."""
    n_taps, beta = kaiserord(attenuation_db + _MARGIN_DB, 2 * width_hz / rate)
    if n_taps > _MAX_TAPS:
        raise ArgumentError(
            f"a transition of {width_hz:g} Hz needs {n_taps} taps at {rate:g} Hz, more than"
            f" {_MAX_TAPS}; widen {argument}, or resample to a lower rate first."
        )
    return n_taps | 1, beta


def _check_attenuation(attenuation_db: float | None) -> float | None:
    attenuation = _fields.check_number("attenuation_db", attenuation_db)
    if attenuation is not None and not 40 <= attenuation <= 140:
        raise ArgumentError(
            f"attenuation_db={attenuation:g} is not from 40 (below, the band would ripple by more"
            " than 0.1 dB) to 140 (above, rounding drowns it)."
        )
    return attenuation


def _check_belongs(phase: str, home: str, **given: object) -> None:
    """Refuse arguments of the other phase: they would be ignored."""
    for name, value in given.items():
        if value is not None and phase != home:
            raise ArgumentError(
                f"{name}={value!r} belongs to phase={home!r}, but phase is {phase!r}; leave it out."
            )
