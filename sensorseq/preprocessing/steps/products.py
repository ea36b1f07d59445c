"""New channels computed from several channels: products, power, differences and magnitudes."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.base import checks
from sensorseq.base.checks import check_flag
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.steps._columns import (
    Columns,
    ColumnStep,
    Kernel,
    combined_columns,
    find_column,
)
from sensorseq.preprocessing.steps._kernels import Combination
from sensorseq.preprocessing.steps.base import set_fields
from sensorseq.preprocessing.steps.units import common_unit, product_unit, quantity_of
from sensorseq.recording import Channel

Combine = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class _Combined(ColumnStep):
    """A step that computes one channel from several channels, sample by sample, without latency.

    The new channel is appended with the name `name`; with `keep`, the input channels stay.
    """

    default_name: ClassVar[str]  # template for the name of the new channel

    name: str | None
    keep: bool

    def __post_init__(self) -> None:
        set_fields(
            self,
            name=None if self.name is None else checks.check_name("name", self.name),
            keep=check_flag("keep", self.keep),
            **self._check_inputs(),
        )

    def _columns(self, channels: tuple[Channel, ...]) -> Columns:
        picked = [find_column(argument, name, channels) for argument, name in self._inputs()]
        unit, _ = self._combine([channels[column] for column in picked])
        channel = Channel(self.name or self._default_name(), unit)
        return combined_columns(channels, picked, channel, self.keep)

    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel:
        return Combination(self._combine(inputs)[1])

    def _inputs(self) -> list[tuple[str, str]]:
        """Return (argument, channel name) of each input, that is, each field without a default."""
        all_fields = fields(self)  # type: ignore[arg-type]  # every step is a dataclass
        needed = [field.name for field in all_fields if field.default is MISSING]
        return [(name, getattr(self, name)) for name in needed]

    def _check_inputs(self) -> dict[str, Any]:
        return {argument: checks.check_name(argument, name) for argument, name in self._inputs()}

    def _default_name(self) -> str:
        return self.default_name.format(**vars(self))

    @abstractmethod
    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        """Return the unit, and a function that computes the channel from (n, n_inputs) samples."""


@dataclass(frozen=True)
class Product(_Combined):
    """The product of two channels, in watts if their units give power.

    A times V, N m times rad/s (or rpm or deg/s) and N times m/s give W, with any prefix, as in mA
    or kV; other units are joined, as in ``"A*rad/s"``. The name of the new channel is
    ``<left>_times_<right>`` by default.
    """

    kind: ClassVar[str] = "product"
    default_name: ClassVar[str] = "{left}_times_{right}"

    left: str
    right: str
    name: str | None = None
    keep: bool = True

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        return _multiply(inputs)


@dataclass(frozen=True)
class Power(_Combined):
    """Electrical power in watts of a current in A and a voltage in V, each with any prefix.

    The name of the new channel is ``<current>_power`` by default.
    """

    kind: ClassVar[str] = "power"
    default_name: ClassVar[str] = "{current}_power"

    current: str
    voltage: str
    name: str | None = None
    keep: bool = True

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        for wanted, unit, channel in zip(("current", "voltage"), "AV", inputs):
            quantity = quantity_of(channel.unit)
            if quantity is None or quantity.name != wanted:
                has = f"is in {channel.unit!r}" if channel.unit else "has no unit"
                raise ArgumentError(
                    f"{wanted}={channel.name!r} {has}; power needs a {wanted} in {unit}, m{unit} or"
                    f" k{unit}. Set the unit when you make the recording, with"
                    f" Channel({channel.name!r}, {unit!r}), or use a product, which accepts any"
                    " units."
                )
        return _multiply(inputs)


@dataclass(frozen=True)
class Subtract(_Combined):
    """One channel minus another, such as left minus right; known units must agree.

    The name of the new channel is ``<left>_minus_<right>`` by default.
    """

    kind: ClassVar[str] = "subtract"
    default_name: ClassVar[str] = "{left}_minus_{right}"

    left: str
    right: str
    name: str | None = None
    keep: bool = True

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        unit = common_unit(inputs, "a difference of channels")
        return unit, lambda samples: samples[:, 0] - samples[:, 1]


@dataclass(frozen=True)
class SignedBy(_Combined):
    """A channel times the sign of another channel, such as a current times the sign of a speed.

    The sign of 0 is 0. The name of the new channel is ``<value>_signed_by_<by>`` by default.
    """

    kind: ClassVar[str] = "signed_by"
    default_name: ClassVar[str] = "{value}_signed_by_{by}"

    value: str
    by: str
    name: str | None = None
    keep: bool = True

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        return inputs[0].unit, lambda samples: samples[:, 0] * np.sign(samples[:, 1])


@dataclass(frozen=True)
class Magnitude(_Combined):
    """The norm of several channels, such as an accelerometer's axes; known units must agree.

    The name of the new channel is ``<first>_<second>_..._magnitude`` by default.
    """

    kind: ClassVar[str] = "magnitude"

    channels: tuple[str, ...]
    name: str | None = None
    keep: bool = True

    def _inputs(self) -> list[tuple[str, str]]:
        return [("channels", name) for name in self.channels]

    def _check_inputs(self) -> dict[str, Any]:
        return {"channels": checks.check_names("channels", self.channels)}

    def _default_name(self) -> str:
        return "_".join([*self.channels, "magnitude"])

    def _combine(self, inputs: list[Channel]) -> tuple[str, Combine]:
        def length(samples: NDArray[np.float64]) -> NDArray[np.float64]:
            # Always sum in this order, so that results are bit-identical.
            squares = (column**2 for column in samples.T)
            return np.sqrt(sum(squares, np.zeros(len(samples))))

        return common_unit(inputs, "a magnitude"), length


def _multiply(inputs: list[Channel]) -> tuple[str, Combine]:
    unit, factor = product_unit(inputs[0].unit, inputs[1].unit)
    return unit, lambda samples: samples[:, 0] * samples[:, 1] * factor
