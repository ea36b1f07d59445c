"""Units of derived channels: units of products, such as power, and units per second."""

import re
from dataclasses import dataclass

from sensorseq.errors import ArgumentError
from sensorseq.recording import Channel

_PREFIXES = {
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "m": 1e-3,
    "u": 1e-6,
    "µ": 1e-6,  # micro sign
    "μ": 1e-6,  # Greek letter
    "n": 1e-9,
}
_SPELLINGS = {  # unit names that may have a prefix
    "A": "current",
    "V": "voltage",
    "W": "power",
    "N": "force",
    "N m": "torque",
    "N*m": "torque",
    "N·m": "torque",
    "N.m": "torque",
    "Nm": "torque",
    "m/s": "speed",
    "rad/s": "angular speed",
}
_TURN = 6.283185307179586
_WHOLE_SPELLINGS = {  # unit names without prefixes, with their factors to SI units
    "deg/s": ("angular speed", _TURN / 360),
    "°/s": ("angular speed", _TURN / 360),
    "rpm": ("angular speed", _TURN / 60),
    "rev/s": ("angular speed", _TURN),
    "km/h": ("speed", 1 / 3.6),
}
_POWERS = [{"current", "voltage"}, {"torque", "angular speed"}, {"force", "speed"}]
_PER_SECOND = re.compile(r"^(?P<what>.*)/s(?:\^?(?P<digit>[2-9])|(?P<sign>[²³]))?$")


@dataclass(frozen=True)
class Quantity:
    """The quantity that a unit measures, and the factor that converts to the SI unit."""

    name: str
    factor: float


def quantity_of(unit: str) -> Quantity | None:
    """Return the quantity that a unit measures; None for an unknown unit."""
    if unit in _WHOLE_SPELLINGS:
        return Quantity(*_WHOLE_SPELLINGS[unit])
    for spelling, name in _SPELLINGS.items():
        if unit.endswith(spelling) and unit[: -len(spelling)] in _PREFIXES:
            return Quantity(name, _PREFIXES[unit[: -len(spelling)]])
    return None


def product_unit(left: str, right: str) -> tuple[str, float]:
    """Return the unit of a product, and the factor that converts the product to that unit.

    Products of current and voltage, of torque and angular speed, and of force and speed are in
    watts, whatever the prefixes. Other units are joined with ``*``; the unit of a product with an
    unknown unit is also unknown.
    """
    a, b = quantity_of(left), quantity_of(right)
    if a is not None and b is not None and {a.name, b.name} in _POWERS:
        return "W", a.factor * b.factor
    return (f"{left}*{right}" if left and right else ""), 1.0


def common_unit(channels: list[Channel], what: str) -> str:
    """Return the common unit of the channels whose unit is known."""
    with_unit = [channel for channel in channels if channel.unit]
    for channel in with_unit[1:]:
        if channel.unit != with_unit[0].unit:
            raise ArgumentError(
                f"{what} needs equal units, but {with_unit[0].name!r} is in {with_unit[0].unit!r}"
                f" and {channel.name!r} is in {channel.unit!r}; convert one of them, or give both"
                " the same unit when the recording is made."
            )
    return with_unit[0].unit if with_unit else ""


def per_second(unit: str, times: int = 1) -> str:
    """Return the unit divided by powers of seconds: "A" gives "A/s", and "m/s" gives "m/s^2"."""
    if not unit:
        return ""
    match = _PER_SECOND.match(unit)
    power, what = times, unit
    if match is not None:
        sign = {"²": 2, "³": 3}.get(match["sign"] or "", 1)
        power += int(match["digit"]) if match["digit"] else sign
        what = match["what"]
    return f"{what}/s" if power == 1 else f"{what}/s^{power}"
