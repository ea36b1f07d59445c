"""Fusion: the sum of several sensors' logits, with weights for each pattern of present sensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError, did_you_mean
from sensorseq.prediction.gaps import EMPTY
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.sensor_windows import SensorWindows, are_sensors, as_sensor_windows

MISSING = ("error", "expected", "outside")  # values of a classifier's argument `missing`
_MOST_IN_TABLE = 10  # maximum number of sensors; the table has a row for each pattern of sensors


@dataclass(frozen=True)
class Fusion:
    """The sensors of a model, in order, and the weights of their logits.

    `weights` maps a pattern of present sensors, a string of zeros and ones, to a row (n_sensors,).
    `weights` has a row for each sensor alone, and for each pattern for which the fit had enough
    windows.
    """

    sensors: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float64]]
    missing: str = "error"

    def read(self, X: Any, lengths: Any = None) -> tuple[SensorWindows, NDArray[np.bool_]]:
        """Return the windows of all sensors, and a mask (n, n_sensors) of the present sensors.

        Raises
        ------
        InputError
            If X has sensors that the model does not know, or lacks sensors that the model needs.
        """
        if lengths is not None:
            raise InputError(
                "lengths cannot be given with several sensors; mark missing samples with NaN."
            )
        if not are_sensors(X):
            raise InputError(
                f"the model has several sensors; give X as {{name: windows}} with the names"
                f" {', '.join(self.sensors)}."
            )
        windows = as_sensor_windows(X)
        for name in windows:
            check_sensor(name, self.sensors)
        present = np.zeros((len(windows), len(self.sensors)), bool)
        for at, name in enumerate(windows):
            present[:, self.sensors.index(name)] = windows.present[:, at]
        if self.missing == "error" and not present.all():
            raise InputError(missing_sensors_text(self.sensors, present))
        return windows, present

    def join(self, logits: NDArray[np.float64], lacks: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the logits (n, K) of windows from the logits of their sensors (n_sensors, n, K).

        `lacks` (n, n_sensors) is COMPLETE, DOUBTFUL or EMPTY for each sensor's window; see `gaps`.
        Windows without any sensor get zeros. If the fit had too few windows with exactly the
        present sensors, each present sensor gets the weight that it has alone, divided by the
        number of present sensors. The sum of the logits is then at most as certain as the most
        certain sensor.
        """
        return np.asarray(np.einsum("ns,snk->nk", self.weights_for(lacks), logits))

    def weights_for(self, lacks: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the weights (n, n_sensors) of the sensors in each window; see `join`."""
        best = lacks.min(axis=1, keepdims=True)
        present = (lacks == best) & (best < EMPTY)
        weights = np.zeros(present.shape)
        for pattern in np.unique(present, axis=0):
            if pattern.any():
                weights[(present == pattern).all(axis=1)] = self.weights_of(pattern)
        return weights

    def weights_of(self, pattern: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the weights for a pattern of present sensors."""
        learned = self.weights.get(pattern_key(pattern))
        if learned is not None:
            return learned
        alone = np.zeros(len(self.sensors))
        for at in np.flatnonzero(pattern):
            alone += self.weights[pattern_key(np.arange(len(pattern)) == at)]
        return np.asarray(alone / pattern.sum())

    def weight_table(self) -> NDArray[np.float64]:
        """Return the weights (2^n, n) for an export; bit s of a row number stands for sensor s."""
        n = len(self.sensors)
        if n > _MOST_IN_TABLE:
            raise InputError(
                f"a model of {n} sensors cannot be exported; at most"
                f" {_MOST_IN_TABLE} sensors are possible. Fit with fewer sensors."
            )
        patterns = np.array(list(product((False, True), repeat=n)))[:, ::-1]
        table = np.zeros((2**n, n))
        for number in range(1, 2**n):
            table[number] = self.weights_of(patterns[number])
        return table

    def description(self) -> dict[str, Any]:
        """Return plain values for a model file."""
        weights = {pattern: row.tolist() for pattern, row in self.weights.items()}
        return {"sensors": list(self.sensors), "weights": weights, "missing": self.missing}

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> "Fusion":
        """Restore from a `description`, or raise a ValueError if it is inconsistent."""
        sensors, weights = stored["sensors"], stored["weights"]
        n = len(sensors)
        rows = {str(key): np.array(row, np.float64) for key, row in weights.items()}
        alone = [pattern_key(np.arange(n) == at) for at in range(n)]
        if (
            not n
            or not all(isinstance(name, str) for name in sensors)
            or len(set(sensors)) < n
            or stored["missing"] not in MISSING
            or any(row.shape != (n,) or not np.isfinite(row).all() for row in rows.values())
            or not set(alone) <= set(rows)
        ):
            raise ValueError(f"fusion: {stored!r} does not describe weights of sensors")
        return cls(tuple(sensors), rows, stored["missing"])


def check_sensor(name: str, known: Sequence[str]) -> None:
    """Raise an InputError unless the sensor is one of `known`, the sensors of a model."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"the model has no sensor {name!r}; it has {', '.join(known)}.{hint}")


def refuse_sensors(X: Any) -> None:
    """Raise an InputError if X has several sensors, but the model has only one."""
    if are_sensors(X):
        raise InputError(
            "X has several sensors; use SensorFusionClassifier, which classifies them together, or"
            " give the windows of one sensor."
        )


def join_sensors_outside(
    by_sensor: Mapping[str, tuple[OutsideWindows, NDArray[np.int64]]],
    channels: Mapping[str, Sequence[str]],
    n_windows: int,
) -> OutsideWindows:
    """Join the results of sensors; `by_sensor` has the result and window indices of each sensor."""
    reasons, ratio, names = [], [], []
    for sensor, of_sensor in channels.items():
        reasons.append(np.full((n_windows, len(of_sensor)), "", "U16"))
        ratio.append(np.full((n_windows, len(of_sensor)), np.nan))
        if sensor in by_sensor:
            outside, rows = by_sensor[sensor]
            reasons[-1][rows], ratio[-1][rows] = outside.reasons, outside.ratio
        names += [f"{sensor}: {channel}" for channel in of_sensor]
    return OutsideWindows(
        np.concatenate(reasons, axis=1), np.concatenate(ratio, axis=1), tuple(names)
    )


def pattern_key(pattern: NDArray[np.bool_]) -> str:
    """Return a pattern of present sensors as a string of zeros and ones."""
    return "".join("1" if is_present else "0" for is_present in pattern.tolist())


def missing_sensors_text(sensors: tuple[str, ...], present: NDArray[np.bool_]) -> str:
    """Return a message that lists the sensors that windows lack, and explains how to proceed."""
    lacks = [
        f"{name!r} in {n} of {len(present)} windows"
        for name, n in zip(sensors, (~present).sum(axis=0).tolist())
        if n
    ]
    return (
        f"windows lack sensors: {', '.join(lacks)}. Fit with missing='expected' to predict"
        " from the other sensors, or leave these windows out."
    )
