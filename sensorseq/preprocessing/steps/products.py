"""New channels computed from several: products, power, differences, magnitudes."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing._checks import check_rate
from sensorseq.preprocessing.steps import _fields
from sensorseq.preprocessing.steps._columns import ColumnStream, combined_columns, find_column
from sensorseq.preprocessing.steps._kernels import Combination
from sensorseq.preprocessing.steps.base import StepBase, StepStream
from sensorseq.preprocessing.steps.units import common_unit, product_unit, quantity_of
from sensorseq.recording import Channel

Combine = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class _Combined(StepBase):
    """A step that computes one channel from several, sample by sample: causal, without latency."""

    name: str | None
    keep: bool

    def __post_init__(self) -> None:
        _fields.set_fields(
            self,
            name=_fields.check_optional_name("name", self.name),
            keep=_fields.check_flag("keep", self.keep),
            **{argument: _fields.check_name(argument, name) for argument, name in self._inputs()},
        )

    def output_channels(
        self, channels: tuple[Channel, ...], sample_rate_hz: float | None = None
    ) -> tuple[Channel, ...]:
        """Return the channels of the result; see `Step`."""
        picked = self._find(channels)
        unit, _ = self._combine([channels[column] for column in picked])
        return combined_columns(channels, picked, self._channel(unit), self.keep).channels

    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream; see `Step`."""
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        picked = self._find(channels)
        unit, combine = self._combine([channels[column] for column in picked])
        columns = combined_columns(channels, picked, self._channel(unit), self.keep)
        return ColumnStream(Combination(combine), columns, channels, rate)

    def _channel(self, unit: str) -> Channel:
        return Channel(self.name or self._default_name(), unit)

    def _find(self, channels: tuple[Channel, ...]) -> list[int]:
        return [find_column(argument, name, channels) for argument, name in self._inputs()]

    @abstractmethod
    def _inputs(self) -> list[tuple[str, str]]:
        """Return (argument, channel name) of each input."""

    @abstractmethod
    def _default_name(self) -> str: ...

    @abstractmethod
    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        """Return the unit of the new channel, and a function of (n, n_inputs) samples."""


@dataclass(frozen=True)
class Product(_Combined):
    """The product of two channels, in watts if their units give power.

    Parameters
    ----------
    left, right : str
        Two channels. A times V, N m times rad/s (or rpm, deg/s) and N times m/s, with any prefix
        such as mA or kV, give W; other units are joined, as in ``"A*rad/s"``.
    name : str, optional
        Name of the new channel; ``<left>_times_<right>`` by default.
    keep : bool, default=True
        Keep the two channels; the new one comes last.
    """

    kind: ClassVar[str] = "product"

    left: str
    right: str
    name: str | None = None
    keep: bool = True

    def _inputs(self) -> list[tuple[str, str]]:
        return [("left", self.left), ("right", self.right)]

    def _default_name(self) -> str:
        return f"{self.left}_times_{self.right}"

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        unit, factor = product_unit(inputs[0].unit, inputs[1].unit)
        return unit, lambda samples: samples[:, 0] * samples[:, 1] * factor


@dataclass(frozen=True)
class Power(_Combined):
    """Electrical power in watts.

    Parameters
    ----------
    current, voltage : str
        Two channels, in amperes and in volts, with any prefix such as mA or kV.
    name : str, optional
        Name of the new channel; ``<current>_power`` by default.
    keep : bool, default=True
        Keep the two channels; the new one comes last.
    """

    kind: ClassVar[str] = "power"

    current: str
    voltage: str
    name: str | None = None
    keep: bool = True

    def _inputs(self) -> list[tuple[str, str]]:
        return [("current", self.current), ("voltage", self.voltage)]

    def _default_name(self) -> str:
        return f"{self.current}_power"

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        for wanted, unit, channel in zip(("current", "voltage"), "AV", inputs, strict=True):
            found = quantity_of(channel.unit)
            if found is None or found.name != wanted:
                has = f"is in {channel.unit!r}" if channel.unit else "has no unit"
                raise ArgumentError(
                    f"{wanted}={channel.name!r} {has}; power needs a {wanted} in {unit}, m{unit} or"
                    f" k{unit}. Set the unit when the recording is made, Channel({channel.name!r},"
                    f" {unit!r}), or use a product, which accepts any units."
                )
        _, factor = product_unit(inputs[0].unit, inputs[1].unit)
        return "W", lambda samples: samples[:, 0] * samples[:, 1] * factor


@dataclass(frozen=True)
class Subtract(_Combined):
    """One channel minus another, such as left minus right.

    Parameters
    ----------
    left, right : str
        Two channels; their units must agree if both are known.
    name : str, optional
        Name of the new channel; ``<left>_minus_<right>`` by default.
    keep : bool, default=True
        Keep the two channels; the new one comes last.
    """

    kind: ClassVar[str] = "subtract"

    left: str
    right: str
    name: str | None = None
    keep: bool = True

    def _inputs(self) -> list[tuple[str, str]]:
        return [("left", self.left), ("right", self.right)]

    def _default_name(self) -> str:
        return f"{self.left}_minus_{self.right}"

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        unit = common_unit(inputs, "a difference of channels")
        return unit, lambda samples: samples[:, 0] - samples[:, 1]


@dataclass(frozen=True)
class SignedBy(_Combined):
    """A channel multiplied by the sign of another, such as current by the sign of speed.

    Parameters
    ----------
    value, by : str
        Two channels; if `by` is 0, the result is 0.
    name : str, optional
        Name of the new channel; ``<value>_signed_by_<by>`` by default.
    keep : bool, default=True
        Keep the two channels; the new one comes last.
    """

    kind: ClassVar[str] = "signed_by"

    value: str
    by: str
    name: str | None = None
    keep: bool = True

    def _inputs(self) -> list[tuple[str, str]]:
        return [("value", self.value), ("by", self.by)]

    def _default_name(self) -> str:
        return f"{self.value}_signed_by_{self.by}"

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        return inputs[0].unit, lambda samples: samples[:, 0] * np.sign(samples[:, 1])


@dataclass(frozen=True)
class Magnitude(_Combined):
    """The length of a vector, such as the three axes of an accelerometer.

    Parameters
    ----------
    channels : sequence of str
        Its components, one or more; their units must agree if they are known.
    name : str, optional
        Name of the new channel; ``<first>_<second>_..._magnitude`` by default.
    keep : bool, default=True
        Keep the components; the new channel comes last.
    """

    kind: ClassVar[str] = "magnitude"

    channels: tuple[str, ...]
    name: str | None = None
    keep: bool = True

    def __post_init__(self) -> None:
        _fields.set_fields(
            self,
            channels=_fields.check_names("channels", self.channels),
            name=_fields.check_optional_name("name", self.name),
            keep=_fields.check_flag("keep", self.keep),
        )

    def _inputs(self) -> list[tuple[str, str]]:
        return [("channels", name) for name in self.channels]

    def _default_name(self) -> str:
        return "_".join([*self.channels, "magnitude"])

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        return common_unit(inputs, "a magnitude"), _length


def _length(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(len(samples))
    for column in range(samples.shape[1]):  # always summed in this order
        total += samples[:, column] ** 2
    root: NDArray[np.float64] = np.sqrt(total)
    return root
