"""Filters that preserve the quantity of a channel: detrend, band-pass and notch."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.base import checks
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.filter_design import (
    butterworth,
    fir,
    hann,
    kaiser_beta,
    kaiser_taps,
    notch,
)
from sensorseq.preprocessing.steps._columns import ChannelwiseStep, Kernel
from sensorseq.preprocessing.steps._kernels import Edge, Fir, LocalFit, MovingStatistic, Sos
from sensorseq.preprocessing.steps.base import set_fields
from sensorseq.recording import Channel

ATTENUATION_DB = 60.0
BUTTERWORTH_ORDER = 4
# This margin is needed because Kaiser's formula for the number of taps is an estimate. In addition,
# the ripples of two edges may add up at half the sample rate and near 0 Hz, where the remaining
# gain is removed.
_MARGIN_DB = 7.0
_MAX_TAPS = 10**6


class _Filter(ChannelwiseStep):
    """A step whose result has the unit of its input; with `keep`, the result is a new channel."""

    suffix: ClassVar[str]

    phase: str

    def _set_fields(self, **values: object) -> None:
        super()._set_fields(phase=checks.check_phase(self.phase), **values)

    def _derived(self, channel: Channel) -> Channel:
        return replace(channel, name=f"{channel.name}_{self.suffix}") if self.keep else channel


@dataclass(frozen=True)
class Detrend(_Filter):
    """Remove slow drift from channels by subtracting a straight line fitted to a moving window.

    For phase zero, the line is fitted to the window around the sample with Hann weights; at the
    ends of the signal, the line is fitted to the existing part of the window. The amplitude of
    frequencies with more than two periods per window changes by at most 3 %. For phase causal, the
    line is the least-squares line through the window that ends at the sample. The amplitude of
    frequencies with more than ten periods per window changes by at most 7 %.
    """

    kind: ClassVar[str] = "detrend"
    suffix: ClassVar[str] = "detrended"

    window_s: float
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    keep: bool = False

    def __post_init__(self) -> None:
        self._set_fields(window_s=checks.check_positive("window_s", self.window_s))

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        window = checks.samples_of(self.window_s, rate, 3, "the residual of a line")
        if self.phase == "causal":
            return MovingStatistic("line_residual", window, 0, len(inputs))
        half = window // 2
        whole = hann(2 * half + 3)[1:-1]  # the ends of a Hann window are 0

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

        return LocalFit(weights, half, half, len(inputs))


@dataclass(frozen=True)
class BandPass(_Filter):
    """Pass a band of frequencies; with only one edge, the filter is a low-pass or a high-pass.

    For phase zero, this is a symmetric Kaiser-window filter, which does not shift the signal in
    time. The gain in the band is within 0.1 dB of 1. Frequencies at least `transition_hz` beyond
    the band are attenuated by `attenuation_db`, 60 by default. By default, `transition_hz` is half
    of the lower given edge, but at most the distance from `high_hz` to half the sample rate. The
    latency is about ``attenuation_db / (30 * transition_hz)`` seconds.

    For phase causal, this is a Butterworth filter, which attenuates by 3 dB at the edges and has no
    latency. `order` is the order of the underlying low-pass, 4 by default (24 dB per octave). A
    low-pass leaves a constant unchanged; the other filters turn a constant into exactly 0, from the
    first sample on. For phase zero, a low-pass extends the signal at its ends by mirror images; the
    other filters extend it by point reflections about the end points.
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
        self._set_fields()  # check the base fields first, so that an unknown phase is reported
        low = checks.check_positive_or_none("low_hz", self.low_hz)
        high = checks.check_positive_or_none("high_hz", self.high_hz)
        if low is None and high is None:
            raise ArgumentError("a band-pass needs low_hz, high_hz or both.")
        if low is not None and high is not None and low >= high:
            raise ArgumentError(f"low_hz={low:g} is not below high_hz={high:g}.")
        transition = checks.check_positive_or_none("transition_hz", self.transition_hz)
        if transition is not None and low is not None and transition > low:
            raise ArgumentError(
                f"transition_hz={transition:g} reaches below 0 Hz from low_hz={low:g}; use at most"
                f" {low:g}."
            )
        _check_belongs(self.phase, "causal", order=self.order)
        _check_belongs(
            self.phase, "zero", attenuation_db=self.attenuation_db, transition_hz=transition
        )
        attenuation = checks.check_positive_or_none("attenuation_db", self.attenuation_db)
        if attenuation is not None and not 40 <= attenuation <= 140:
            raise ArgumentError(
                f"attenuation_db={attenuation:g} is out of range; use 40 to 140. Below this"
                " range, the band would ripple by more than 0.1 dB; above it, rounding errors"
                " would dominate."
            )
        order = self.order
        set_fields(
            self,
            low_hz=low,
            high_hz=high,
            transition_hz=transition,
            attenuation_db=attenuation,
            order=None if order is None else checks.check_integer("order", order, 1, 20),
        )

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        nyquist = rate / 2
        for name, edge in (("low_hz", self.low_hz), ("high_hz", self.high_hz)):
            if edge is not None and edge >= nyquist:
                raise ArgumentError(
                    f"{name}={edge:g} is not below half the sample rate, {nyquist:g} Hz at"
                    f" {rate:g} Hz; lower it" + (" or remove it." if name == "high_hz" else ".")
                )
        gain = 1.0 if self.low_hz is None else 0.0
        if self.phase == "causal":
            low = (self.low_hz or 0.0) / nyquist
            high = (self.high_hz or nyquist) / nyquist
            sections = butterworth(self.order or BUTTERWORTH_ORDER, low, high)
            return Sos(sections, len(inputs), gain)
        beyond: Edge = "mirror" if gain else "odd"
        return Fir(self._design(rate), len(inputs), gain, beyond, is_causal=False)

    def _design(self, rate: float) -> NDArray[np.float64]:
        width = self._transition_hz(rate)
        attenuation = self.attenuation_db or ATTENUATION_DB
        window = _kaiser_window(width, rate, attenuation, "transition_hz")
        low = 0.0 if self.low_hz is None else (self.low_hz - width / 2) / (rate / 2)
        high = 1.0 if self.high_hz is None else (self.high_hz + width / 2) / (rate / 2)
        taps = fir([(low, high)], window)
        if self.low_hz is not None:  # remove the remaining gain at 0 Hz, in the stopband
            taps -= window * (taps.sum() / window.sum())
        return taps

    def _transition_hz(self, rate: float) -> float:
        room = np.inf if self.high_hz is None else rate / 2 - self.high_hz
        if self.transition_hz is None:
            edges = [edge for edge in (self.low_hz, self.high_hz) if edge is not None]
            return float(min(edges[0] / 2, room))
        if self.transition_hz > room:
            raise ArgumentError(
                f"high_hz={self.high_hz:g} plus transition_hz={self.transition_hz:g} exceeds half"
                f" the sample rate, {rate / 2:g} Hz at {rate:g} Hz; use a transition_hz of at most"
                f" {room:g}."
            )
        return self.transition_hz


@dataclass(frozen=True)
class Notch(_Filter):
    """Remove one frequency, such as mains hum, and attenuate a band of `width_hz` around it.

    For phase zero, this is a symmetric Kaiser-window filter. Frequencies outside the band change by
    at most 0.1 dB, and the middle half of the band is attenuated by 60 dB. The latency is about ``8
    / width_hz`` seconds.

    For phase causal, this is a second-order recursive filter, which removes the frequency
    completely and changes frequencies outside the band by at most 3 dB. The filter starts in its
    steady state for the first sample, and has no latency.
    """

    kind: ClassVar[str] = "notch"
    suffix: ClassVar[str] = "notched"

    frequency_hz: float
    width_hz: float = 4.0
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    keep: bool = False

    def __post_init__(self) -> None:
        frequency = checks.check_positive("frequency_hz", self.frequency_hz)
        width = checks.check_positive("width_hz", self.width_hz)
        if width >= 2 * frequency:
            raise ArgumentError(
                f"width_hz={width:g} reaches below 0 Hz from frequency_hz={frequency:g}; use less"
                f" than {2 * frequency:g}."
            )
        self._set_fields(frequency_hz=frequency, width_hz=width)

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        if self.frequency_hz + self.width_hz / 2 >= rate / 2:
            raise ArgumentError(
                f"frequency_hz={self.frequency_hz:g} with width_hz={self.width_hz:g} reaches half"
                f" the sample rate, {rate / 2:g} Hz at {rate:g} Hz; lower one of them."
            )
        if self.phase == "causal":
            sections = notch(self.frequency_hz / (rate / 2), self.width_hz / (rate / 2))
            return Sos(sections, len(inputs), 1.0)
        window = _kaiser_window(self.width_hz / 4, rate, ATTENUATION_DB, "width_hz")
        half = 3 / 8 * self.width_hz
        below, above = ((self.frequency_hz + side) / (rate / 2) for side in (-half, half))
        taps = fir([(0.0, below), (above, 1.0)], window)
        return Fir(taps, len(inputs), 1.0, "mirror", is_causal=False)


def _kaiser_window(
    width_hz: float, rate: float, attenuation_db: float, argument: str
) -> NDArray[np.float64]:
    """Design a Kaiser window of odd length for a filter with a transition of `width_hz`."""
    n_taps = kaiser_taps(attenuation_db + _MARGIN_DB, 2 * width_hz / rate)
    if n_taps > _MAX_TAPS:
        raise ArgumentError(
            f"a transition of {width_hz:g} Hz needs {n_taps} taps at {rate:g} Hz, more than"
            f" {_MAX_TAPS}; widen {argument}, or resample to a lower rate first."
        )
    return np.kaiser(n_taps | 1, kaiser_beta(attenuation_db + _MARGIN_DB))


def _check_belongs(phase: str, home: str, **arguments: object) -> None:
    """Raise an error for arguments that belong to the other phase and would be ignored."""
    for name, value in arguments.items():
        if value is not None and phase != home:
            raise ArgumentError(
                f"{name}={value!r} is only for phase={home!r}, but phase is {phase!r}; remove it."
            )
