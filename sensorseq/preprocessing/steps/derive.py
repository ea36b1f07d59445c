"""Choose default steps for motors and inertial sensors from channel names, units and rates."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorseq.checks import check_rate
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.regrid import valid_rows
from sensorseq.preprocessing.steps.units import quantity_of
from sensorseq.recording import Channel, Recording
from sensorseq.stamps.period import sample_period
from sensorseq.text import listed

DERIVE = ("auto",)

_IMU_RATE_HZ = 40.0  # below this rate, spectra of 0.5 s would have fewer than ten bins
_FRAME_S = 0.5
_MOST_BINS = 25  # maximum number of frequency bins per channel; more are merged into bands
_WITHIN = 0.02  # largest relative deviation from a whole number of samples, as in SpectralFrames
_MOVING_S = 1.0
_SAME_RATE = 1.01

_SIDES = {"left": "l", "right": "r"}
_OPPOSITE = {"l": "r", "fl": "fr", "rl": "rr", "bl": "br"}
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


@dataclass(frozen=True)
class DerivedSteps:
    """The derived steps as tables of a configuration file, and lines of text that describe them."""

    steps: tuple[dict[str, Any], ...]
    lines: tuple[str, ...]


def derive_steps(
    channels: Sequence[Channel], rates_hz: Sequence[float], sample_rate_hz: float
) -> DerivedSteps:
    """Choose steps for motors and inertial sensors from the channels, without using labels.

    For motor currents and speeds, the steps compute the difference and the absolute difference from
    the previous sample, and the moving mean, standard deviation and range over 1 s. They also
    compute the product of each current and its matching speed, the current times the sign of this
    speed, and the differences between left and right channels. For accelerations and rotation rates
    sampled at 40 Hz or more, the steps compute logarithmic spectra of frames of 0.5 s every 0.1 s.
    Every channel is then replaced by its means over the same frames. `rates_hz` are the channels'
    own rates; NaN means unknown.
    """
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    if len(channels) != len(rates_hz):
        raise ArgumentError(f"rates_hz has {len(rates_hz)} rates for {len(channels)} channels.")
    own_rates = [min(r, rate) if np.isfinite(r) and r > 0 else rate for r in map(float, rates_hz)]
    recognized = [_Source.of(channel, r) for channel, r in zip(channels, own_rates, strict=True)]
    rules = _Rules({channel.name for channel in channels}, rate)
    motors = [source for source in recognized if source.kind in ("current", "speed")]
    if motors:
        rules.add_differences(motors)
        rules.add_pairs(motors)
        rules.add_sides(motors)
        rules.add_moving(motors)
    inertial = [source for source in recognized if source.kind == "imu"]
    if inertial:
        rules.add_spectra(inertial)
    if not motors and not inertial:
        rules.lines.append(
            f"no steps derived: none of the channels ({listed([c.name for c in channels])}) has the"
            " name or unit of a motor current (cur*, current*, i_*, A), a speed (vel*, speed*,"
            " rpm*, m/s, rad/s) or an inertial sensor (ax, wz, acc*, gyr*, m/s^2). Set units in"
            " [input], or write the steps yourself as [[steps]] in a configuration file."
        )
    return DerivedSteps(tuple(rules.steps), tuple(rules.lines))


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
        source = _Source.of(as_current, np.nan)
        {"current": currents, "speed": speeds}.get(source.kind, []).append(source)
    pairs = _pair(currents, speeds)
    return [(own_names[current], own_names[speed]) for current, speed in pairs]


def channel_rates(recording: Recording) -> list[float]:
    """Return the median rate in Hz of each channel's own samples; NaN means unknown."""
    rates = []
    for channel in range(recording.n_channels):
        rows = valid_rows(recording.values, channel)
        n_valid = recording.n_samples if rows is None else len(rows)
        period_s = sample_period(recording.timestamps_s, rows) if n_valid > 1 else np.nan
        rates.append(1 / period_s)
    return rates


@dataclass(frozen=True)
class _Source:
    """A channel, and the kind of sensor that its name and unit indicate."""

    name: str
    unit: str
    rate_hz: float
    kind: str  # "current", "speed", "imu", or "" if unknown
    other_words: tuple[str, ...]  # the remaining words; "left" becomes "l", "right" becomes "r"

    @classmethod
    def of(cls, channel: Channel, rate_hz: float) -> "_Source":
        words = _WORDS.findall(channel.name)
        small = [word.lower() for word in words]
        is_imu = channel.unit in _ACCELERATION_UNITS or any(_IMU.fullmatch(w) for w in small)
        if is_imu or ("angular" in small and small[-1] in ("x", "y", "z")):
            return cls(channel.name, channel.unit, rate_hz, "imu", ())
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
        return cls(channel.name, channel.unit, rate_hz, kind, with_sides)

    @property
    def place(self) -> tuple[str, ...]:
        """The words that name the location: side, front or rear, and number."""
        return tuple(word for word in self.other_words if word in _POSITIONS or word.isdigit())


class _Rules:
    """Collects steps and their descriptions; skips steps whose new channel already exists."""

    def __init__(self, names: set[str], rate: float) -> None:
        self.steps: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._names = set(names)
        self._rate = rate

    def add_differences(self, motors: list[_Source]) -> None:
        lags: dict[float | None, list[str]] = {}
        for motor in motors:
            is_slower = self._rate > motor.rate_hz * _SAME_RATE
            lag_s = _round(1 / motor.rate_hz) if is_slower else None
            lags.setdefault(lag_s, []).append(motor.name)
        for what, absolute in (("difference", {}), ("absolute difference", {"absolute": True})):
            made: list[str] = []
            for lag_s, names in lags.items():
                new = self._new(names, what.replace(" ", "_"))
                if new:
                    lag = {} if lag_s is None else {"lag_s": lag_s}
                    self.steps.append({"kind": "difference", "channels": new, **lag, **absolute})
                    made += new
            self._describe(made, f"{what} from the previous sample")

    def add_pairs(self, motors: list[_Source]) -> None:
        pairs = _pair(
            [motor for motor in motors if motor.kind == "current"],
            [motor for motor in motors if motor.kind == "speed"],
        )
        for kind, named, keys, what in (
            ("product", "times", ("left", "right"), "current times speed"),
            ("signed_by", "signed_by", ("value", "by"), "current times the sign of the speed"),
        ):
            made = []
            for current, speed in pairs:
                if self._is_new(f"{current}_{named}_{speed}"):
                    self.steps.append({"kind": kind, keys[0]: current, keys[1]: speed})
                    made.append(f"{current} and {speed}")
            self._describe(made, what)

    def add_sides(self, motors: list[_Source]) -> None:
        made = []
        at = {(motor.kind, motor.other_words): motor for motor in reversed(motors)}
        for left in motors:
            for index, word in enumerate(left.other_words):
                opposite = _OPPOSITE.get(word)
                mirrored = (
                    *left.other_words[:index],
                    opposite or "",
                    *left.other_words[index + 1 :],
                )
                right = at.get((left.kind, mirrored)) if opposite else None
                if right is None or (left.unit and right.unit and left.unit != right.unit):
                    continue
                if self._is_new(f"{left.name}_minus_{right.name}"):
                    step = {"kind": "subtract", "left": left.name, "right": right.name}
                    self.steps.append(step)
                    made.append(f"{left.name} and {right.name}")
        self._describe(made, "left minus right")

    def add_moving(self, motors: list[_Source]) -> None:
        usable = [motor.name for motor in motors if _MOVING_S * motor.rate_hz + 1e-9 >= 2]
        if len(usable) < len(motors):
            slow = [motor.name for motor in motors if motor.name not in usable]
            self.lines.append(
                f"not derived: moving statistics of {listed(slow)}, which have fewer than 2"
                " samples in 1 s"
            )
        made: list[str] = []
        for statistic in ("mean", "std", "range"):
            new = self._new(usable, statistic)
            if new:
                step = {"kind": "moving", "window_s": _MOVING_S, "statistic": statistic}
                self.steps.append({**step, "channels": new})
                made += new
        self._describe(
            list(dict.fromkeys(made)), "mean, standard deviation and range of the last second"
        )

    def add_spectra(self, inertial: list[_Source]) -> None:
        fast = [sensor for sensor in inertial if sensor.rate_hz >= _IMU_RATE_HZ / _SAME_RATE]
        slow = [sensor for sensor in inertial if sensor not in fast]
        if slow:
            self.lines.append(
                f"not derived: spectra of {listed([sensor.name for sensor in slow])}, because"
                f" {min(sensor.rate_hz for sensor in slow):.3g} Hz is below {_IMU_RATE_HZ:g} Hz"
            )
        if not fast:
            return
        frame, frame_s = round(_FRAME_S * self._rate), _FRAME_S
        if abs(frame / (_FRAME_S * self._rate) - 1) > _WITHIN:
            frame_s = round(frame / self._rate, 9)
        names = [sensor.name for sensor in fast]
        step: dict[str, Any] = {"kind": "spectral", "channels": names, "frame_s": frame_s}
        step["hop_s"] = 0.1
        slowest = min(sensor.rate_hz for sensor in fast)
        highest = self._rate / 2
        if slowest * _SAME_RATE < self._rate:  # upsampling adds nothing above this frequency
            highest = step["max_frequency_hz"] = _round(slowest / 2)
        n_bins = int(highest * frame_s + 1e-6)
        bands = ""
        if n_bins > _MOST_BINS:
            step["n_bands"] = _MOST_BINS
            bands = f" in {_MOST_BINS} bands"
        self.steps.append(step)
        self._describe(
            names,
            f"log spectra{bands} of frames of {frame_s:.3g} s every 0.1 s; all channels become"
            " their means over these frames",
        )

    def _new(self, names: Iterable[str], suffix: str) -> list[str]:
        return [name for name in names if self._is_new(f"{name}_{suffix}")]

    def _is_new(self, name: str) -> bool:
        if name in self._names:
            return False
        self._names.add(name)
        return True

    def _describe(self, made: Sequence[str], what: str) -> None:
        if made:
            self.lines.append(f"derived from {listed(made)}: {what}")


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


def _round(value: float) -> float:
    """Round to four significant digits, because rates are estimates."""
    return float(f"{value:.4g}")
