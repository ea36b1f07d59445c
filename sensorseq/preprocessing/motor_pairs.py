"""Pairs each motor's current (or torque) with its speed, by the names and units of channels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sensorseq.preprocessing.steps.units import quantity_of
from sensorseq.recording import Channel

_SIDES = {"left": "l", "right": "r"}
_POSITIONS = frozenset(
    ("l", "r", "fl", "fr", "rl", "rr", "bl", "br", "front", "rear", "back", "middle", "mid")
)
_WHERE = "(?P<where>l|r|fl|fr|rl|rr|bl|br|left|right|front|rear)?"
_CURRENT = re.compile(f"(?:cur|curr|current|currents|amp|amps|ampere){_WHERE}")
_SPEED = re.compile(f"(?:vel|velocity|speed|rpm){_WHERE}")
_TORQUE = re.compile("torque|effort", re.IGNORECASE)
_IMU = re.compile(
    "[awg][xyz]|acc(?:el|eleration|elerometer)?[xyz]?|gyr(?:o|oscope)?[xyz]?", re.IGNORECASE
)
_ACCELERATION_UNITS = ("m/s^2", "m/s2", "m/s²", "g")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def motor_pairs(channels: Sequence[Channel]) -> list[tuple[str, str]]:
    """Return the current (or torque) and the speed of each motor, judged by names and units."""
    currents: list[_Source] = []
    speeds: list[_Source] = []
    own_names: dict[str, str] = {}
    for channel in channels:
        as_current = Channel(_TORQUE.sub("current", channel.name), channel.unit)
        if as_current.name != channel.name:
            as_current = Channel(as_current.name)
        own_names[as_current.name] = channel.name
        source = _Source.of(as_current)
        {"current": currents, "speed": speeds}.get(source.kind, []).append(source)
    pairs = _pair(currents, speeds)
    return [(own_names[current], own_names[speed]) for current, speed in pairs]


@dataclass(frozen=True)
class _Source:
    """A channel, and the kind of sensor that its name and unit indicate."""

    name: str
    kind: str  # "current", "speed", "imu", or "" if unknown
    other_words: tuple[str, ...]  # the remaining words; "left" becomes "l", "right" becomes "r"

    @classmethod
    def of(cls, channel: Channel) -> "_Source":
        words = _WORDS.findall(channel.name)
        small = [word.lower() for word in words]
        is_imu = channel.unit in _ACCELERATION_UNITS or any(_IMU.fullmatch(w) for w in small)
        if is_imu or ("angular" in small and small[-1] in ("x", "y", "z")):
            return cls(channel.name, "imu", ())
        kinds: set[str] = set()
        other_words: list[str] = []
        for at, word in enumerate(small):
            is_short = word == "i" and at == 0 and channel.name[1:2] == "_"
            current, speed = _CURRENT.fullmatch(word), _SPEED.fullmatch(word)
            if current or is_short:
                kinds.add("current")
            elif speed:
                kinds.add("speed")
            else:
                other_words.append(word)
            where = (current or speed) and (current or speed)["where"]  # type: ignore[index]
            if where:
                other_words.append(where)
        quantity = quantity_of(channel.unit)
        if quantity is not None:
            of_unit = {"current": "current", "speed": "speed", "angular speed": "speed"}
            kind = of_unit.get(quantity.name, "")
        else:
            kind = kinds.pop() if len(kinds) == 1 else ""
        with_sides = tuple(_SIDES.get(word, word) for word in other_words)
        return cls(channel.name, kind, with_sides)

    @property
    def place(self) -> tuple[str, ...]:
        """The words that name the location: side, front or rear, and number."""
        return tuple(word for word in self.other_words if word in _POSITIONS or word.isdigit())


def _pair(currents: list[_Source], speeds: list[_Source]) -> list[tuple[str, str]]:
    """Pair each current with the speed whose name matches, or else with the speed at its location.

    If several currents or speeds match, they are not paired.
    """
    partner: dict[str, str] = {}
    for key in ("other_words", "place"):
        at: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
        for index, sources in enumerate((currents, speeds)):
            for source in sources:
                if source.name not in partner and source.name not in partner.values():
                    at.setdefault(getattr(source, key), ([], []))[index].append(source.name)
        for current_names, speed_names in at.values():
            if len(current_names) == len(speed_names) == 1:
                partner[current_names[0]] = speed_names[0]
    return [(source.name, partner[source.name]) for source in currents if source.name in partner]
