"""Features of each channel over time: derivatives, differences, moving statistics."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_coeffs

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing._checks import check_positive
from sensorseq.preprocessing.steps import _fields
from sensorseq.preprocessing.steps._columns import (
    Columns,
    ColumnStep,
    Kernel,
    derived_columns,
    find_columns,
)
from sensorseq.preprocessing.steps._kernels import Lagged, LocalFit, MovingStatistic
from sensorseq.preprocessing.steps.units import per_second
from sensorseq.recording import Channel

STATISTICS = ("rms", "mean", "std", "range", "min", "max", "mean_absolute")
_SLOPE_SAMPLES = 5


class _Feature(ColumnStep):
    """A step that derives a channel with another quantity from each channel it reads."""

    channels: tuple[str, ...] | None
    keep: bool
    suffix: str | None

    def _check_common(self) -> None:
        _fields.set_fields(
            self,
            channels=_fields.check_optional_names("channels", self.channels),
            keep=_fields.check_flag("keep", self.keep),
            suffix=_fields.check_optional_name("suffix", self.suffix),
        )

    def _columns(self, channels: tuple[Channel, ...]) -> Columns:
        picked = find_columns("channels", self.channels, channels)
        suffix = self.suffix or self._default_suffix()
        derived = [
            Channel(f"{channels[column].name}_{suffix}", self._unit(channels[column].unit))
            for column in picked
        ]
        return derived_columns(channels, picked, derived, self.keep)

    @abstractmethod
    def _default_suffix(self) -> str: ...

    def _unit(self, unit: str) -> str:
        return unit


@dataclass(frozen=True)
class Derivative(_Feature):
    """Rate of change per second: the slope of a polynomial through a short window [1]_.

    Parameters
    ----------
    window_s : float, optional
        Length of the window in seconds: longer windows reduce noise but respond more slowly. Five
        samples by default.
    order : {1, 2}
        First or second derivative.
    polynomial : int, default=2
        Degree of the polynomial, at least `order`. The window must have more samples than this.
    channels : sequence of str, optional
        Channels to derive; all by default.
    phase : {"zero", "causal"}
        zero: the window is centred on the sample and has an odd number of samples (one is added if
        necessary). Latency: half the window.
        causal: the window ends at the sample. No latency, but a noisier slope.
        At the ends of the signal, the polynomial is fitted to the existing samples, with a lower
        degree if they are too few; a single sample has slope 0.
    keep : bool, default=True
        Keep the original channels; otherwise the new ones replace them.
    suffix : str, optional
        New channels are named ``<name>_<suffix>``; by default "rate", or "acceleration" for the
        second derivative.

    References
    ----------
    .. [1] A. Savitzky, M. J. E. Golay, "Smoothing and differentiation of data by simplified least
       squares procedures", Analytical Chemistry 36, 1964.
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
        self._check_common()
        order = _fields.check_count("order", self.order, 1, 2)
        polynomial = _fields.check_count("polynomial", self.polynomial, 1, 6)
        if polynomial < order:
            raise ArgumentError(f"polynomial={polynomial} has no derivative of order={order}.")
        _fields.set_fields(
            self,
            window_s=_fields.check_number("window_s", self.window_s),
            order=order,
            polynomial=polynomial,
            phase=_fields.check_phase(self.phase),
        )

    def _default_suffix(self) -> str:
        return "rate" if self.order == 1 else "acceleration"

    def _unit(self, unit: str) -> str:
        return per_second(unit, self.order)

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        least = self.polynomial + 1
        if self.window_s is None:
            window = max(_SLOPE_SAMPLES, least)
        else:
            window = _fields.samples_of(
                self.window_s, rate, least, f"a polynomial of degree {self.polynomial}"
            )

        def weights(before: int, ahead: int) -> NDArray[np.float64]:
            n = before + ahead + 1
            degree = min(self.polynomial, n - 1)
            if degree < self.order:
                return np.zeros(n)
            fit: NDArray[np.float64] = savgol_coeffs(
                n, degree, self.order, 1 / rate, pos=before, use="dot"
            )
            return fit

        if self.phase == "zero":
            return LocalFit(weights, window // 2, window // 2, n_channels)
        return LocalFit(weights, window - 1, 0, n_channels)


@dataclass(frozen=True)
class Difference(_Feature):
    """Each sample minus an earlier one; 0 until there is an earlier one.

    Parameters
    ----------
    lag_samples : int, optional
        Number of samples between them; 1 if neither this nor `lag_s` is given.
    lag_s : float, optional
        The lag in seconds, rounded to the nearest sample.
    absolute : bool, default=False
        Return the absolute value of the difference.
    channels : sequence of str, optional
        Channels to take differences of; all by default.
    keep : bool, default=True
        Keep the original channels; otherwise the new ones replace them.
    suffix : str, optional
        New channels are named ``<name>_<suffix>``; by default "difference" or
        "absolute_difference".

    Notes
    -----
    Causal, without latency.
    """

    kind: ClassVar[str] = "difference"

    lag_samples: int | None = None
    lag_s: float | None = None
    absolute: bool = False
    channels: tuple[str, ...] | None = None
    keep: bool = True
    suffix: str | None = None

    def __post_init__(self) -> None:
        self._check_common()
        if self.lag_samples is not None and self.lag_s is not None:
            raise ArgumentError("lag_samples and lag_s are both given; give only one of them.")
        lag = self.lag_samples
        _fields.set_fields(
            self,
            lag_samples=None if lag is None else _fields.check_count("lag_samples", lag),
            lag_s=_fields.check_number("lag_s", self.lag_s),
            absolute=_fields.check_flag("absolute", self.absolute),
        )

    def _default_suffix(self) -> str:
        return "absolute_difference" if self.absolute else "difference"

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        lag = self.lag_samples or 1
        if self.lag_s is not None:
            # add half a sample, so that rounding down gives the nearest
            lag = _fields.samples_of(self.lag_s + 0.5 / rate, rate, 0, "a lag", "lag_s")
            if lag < 1:
                raise ArgumentError(
                    f"lag_s={self.lag_s!r} is less than half a sample at {rate:g} Hz; use"
                    f" {1 / rate:.6g} s or more, or lag_samples=1."
                )
        return Lagged(lag, n_channels, self.absolute)


@dataclass(frozen=True)
class Moving(_Feature):
    """A statistic of the window around, or up to, each sample.

    Parameters
    ----------
    window_s : float
        Length of the window in seconds: floor(window_s * sample_rate_hz) samples.
    statistic : {"rms", "mean", "std", "range", "min", "max", "mean_absolute"}
        std is the population standard deviation; range is the largest minus the smallest value.
    channels : sequence of str, optional
        Channels to use; all by default.
    phase : {"causal", "zero"}
        causal: the window ends at the sample. No latency.
        zero: the window is centred on the sample and has an odd number of samples (one is added if
        necessary). Latency: half the window.
    keep : bool, default=True
        Keep the original channels; otherwise the new ones replace them.
    suffix : str, optional
        New channels are named ``<name>_<suffix>``; by default the statistic's name.

    Notes
    -----
    At the ends, a window only has the existing samples. The cost does not depend on the window's
    length; mean and std keep full precision with an offset of 1e8.
    """

    kind: ClassVar[str] = "moving"

    window_s: float
    statistic: str = "rms"
    channels: tuple[str, ...] | None = None
    phase: str = "causal"
    keep: bool = True
    suffix: str | None = None

    def __post_init__(self) -> None:
        self._check_common()
        _fields.set_fields(
            self,
            window_s=check_positive("window_s", self.window_s),
            statistic=check_choice("statistic", self.statistic, STATISTICS),
            phase=_fields.check_phase(self.phase),
        )

    def _default_suffix(self) -> str:
        return self.statistic

    def _kernel(self, rate: float, n_channels: int) -> Kernel:
        needs = 2 if self.statistic in ("std", "range") else 1  # both are 0 for one sample
        window = _fields.samples_of(self.window_s, rate, needs, f"a moving {self.statistic}")
        if self.phase == "causal":
            return MovingStatistic(self.statistic, window, 0, n_channels)
        return MovingStatistic(self.statistic, window | 1, window // 2, n_channels)
