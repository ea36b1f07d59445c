"""Features of each channel over time: derivatives, differences and moving statistics."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.base import checks
from sensorseq.base.checks import check_flag
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing.filter_design import polynomial_fit
from sensorseq.preprocessing.steps._columns import ChannelwiseStep, Kernel
from sensorseq.preprocessing.steps._kernels import Lagged, LocalFit, MovingStatistic
from sensorseq.preprocessing.steps.units import per_second
from sensorseq.recording import Channel

STATISTICS = ("rms", "mean", "std", "range", "min", "max", "mean_absolute")
_SLOPE_SAMPLES = 5


class _Feature(ChannelwiseStep):
    """A step that derives a feature from each channel."""

    suffix: str | None

    def _set_fields(self, **values: object) -> None:
        suffix = None if self.suffix is None else checks.check_name("suffix", self.suffix)
        super()._set_fields(suffix=suffix, **values)

    def _derived(self, channel: Channel) -> Channel:
        suffix = self.suffix or self._default_suffix()
        return Channel(f"{channel.name}_{suffix}", self._unit(channel.unit))

    @abstractmethod
    def _default_suffix(self) -> str: ...

    def _unit(self, unit: str) -> str:
        return unit


@dataclass(frozen=True)
class Derivative(_Feature):
    """The first or second derivative, per second, of a polynomial fitted to a short window.

    For phase zero, the window (by default five samples) is centered on the sample; an even number
    of samples is increased by one. A causal window ends at the sample. At the ends of the signal,
    the polynomial is fitted to the existing samples, with a lower degree if there are too few. The
    result is 0 if the degree is less than `order`. See A. Savitzky, M. J. E. Golay, "Smoothing and
    differentiation of data by simplified least squares procedures", Analytical Chemistry 36, 1964.
    """

    kind: ClassVar[str] = "derivative"

    window_s: float | None = None
    order: int = 1
    polynomial: int = 2
    channels: tuple[str, ...] | None = None
    phase: str = "zero"
    keep: bool = True
    suffix: str | None = None

    def __post_init__(self) -> None:
        order = checks.check_integer("order", self.order, 1, 2)
        polynomial = checks.check_integer("polynomial", self.polynomial, 1, 6)
        if polynomial < order:
            raise ArgumentError(f"polynomial={polynomial} has no derivative of order={order}.")
        self._set_fields(
            window_s=checks.check_positive_or_none("window_s", self.window_s),
            order=order,
            polynomial=polynomial,
            phase=checks.check_phase(self.phase),
        )

    def _default_suffix(self) -> str:
        return "rate" if self.order == 1 else "acceleration"

    def _unit(self, unit: str) -> str:
        return per_second(unit, self.order)

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        least = self.polynomial + 1
        if self.window_s is None:
            window = max(_SLOPE_SAMPLES, least)
        else:
            window = checks.samples_of(
                self.window_s, rate, least, f"a polynomial of degree {self.polynomial}", most=10**6
            )

        def weights(before: int, ahead: int) -> NDArray[np.float64]:
            n = before + ahead + 1
            degree = min(self.polynomial, n - 1)
            if degree < self.order:
                return np.zeros(n)
            return polynomial_fit(before, ahead, degree, self.order, 1 / rate)

        if self.phase == "zero":
            return LocalFit(weights, window // 2, window // 2, len(inputs))
        return LocalFit(weights, window - 1, 0, len(inputs))


@dataclass(frozen=True)
class Difference(_Feature):
    """Each sample minus an earlier sample, or 0 if there is no earlier sample.

    The step is causal and has no latency. The lag is one sample by default; `lag_s` is rounded to
    the nearest sample.
    """

    kind: ClassVar[str] = "difference"

    lag_samples: int | None = None
    lag_s: float | None = None
    absolute: bool = False
    channels: tuple[str, ...] | None = None
    keep: bool = True
    suffix: str | None = None

    def __post_init__(self) -> None:
        if self.lag_samples is not None and self.lag_s is not None:
            raise ArgumentError("lag_samples and lag_s are both given; give only one of them.")
        lag = self.lag_samples
        self._set_fields(
            lag_samples=None
            if lag is None
            else checks.check_integer("lag_samples", lag, 1, checks.MAX_SAMPLES),
            lag_s=checks.check_positive_or_none("lag_s", self.lag_s),
            absolute=check_flag("absolute", self.absolute),
        )

    def _default_suffix(self) -> str:
        return "absolute_difference" if self.absolute else "difference"

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        lag = self.lag_samples or 1
        if self.lag_s is not None:
            # add half a sample, so that rounding down gives the nearest integer
            lag = checks.samples_of(self.lag_s + 0.5 / rate, rate, 0, "a lag", "lag_s")
            if lag < 1:
                raise ArgumentError(
                    f"lag_s={self.lag_s!r} is less than half a sample at {rate:g} Hz; use"
                    f" {1 / rate:.6g} s or more, or lag_samples=1."
                )
        return Lagged(lag, len(inputs), self.absolute)


@dataclass(frozen=True)
class Moving(_Feature):
    """A statistic of a window that is centered on, or ends at, each sample.

    The window has floor(window_s * sample_rate_hz) samples. A causal window ends at the sample. For
    phase zero, the window is centered on the sample, and an even number of samples is increased by
    one. At the ends of the signal, only the existing samples are used. The cost per sample does not
    depend on the length of the window. The mean and the (population) std keep full precision even
    if the signal has an offset of 1e8.
    """

    kind: ClassVar[str] = "moving"

    window_s: float
    statistic: str = "rms"
    channels: tuple[str, ...] | None = None
    phase: str = "causal"
    keep: bool = True
    suffix: str | None = None

    def __post_init__(self) -> None:
        self._set_fields(
            window_s=checks.check_positive("window_s", self.window_s),
            statistic=check_choice("statistic", self.statistic, STATISTICS),
            phase=checks.check_phase(self.phase),
        )

    def _default_suffix(self) -> str:
        return self.statistic

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        needs = 2 if self.statistic in ("std", "range") else 1  # both are 0 for a single sample
        window = checks.samples_of(self.window_s, rate, needs, f"a moving {self.statistic}")
        if self.phase == "causal":
            return MovingStatistic(self.statistic, window, 0, len(inputs))
        return MovingStatistic(self.statistic, window | 1, window // 2, len(inputs))
