"""SensorSum: the sums of several sensors, with weights for each pattern of present sensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.members.sum import Sum

_MOST_IN_TABLE = 10  # maximum number of sensors; the table has a row for each pattern of sensors


@dataclass(frozen=True, eq=False)
class SensorSum(Sum):
    """The weighted sum of the logits of several sensors, whose members are the sensors' sums.

    Each sensor has its own windows, so their logits are computed one by one, and `join` adds them.

    Attributes
    ----------
    members : dict of str to Sum
        The sum of each sensor.
    weights : dict of str to ndarray of shape (n_sensors,)
        The factors of the sensors' logits for each pattern of present sensors, a string of zeros
        and ones. There is a row for each sensor alone, and for each pattern for which the fit had
        enough windows.
    bias : ndarray of shape (K,)
        Zeros; each sensor's sum has its own bias.
    temperatures : dict of str to float
        The divisor of each sensor's logits if the sensor is used alone.
    """

    weights: Mapping[str, NDArray[np.float64]]  # type: ignore[assignment]  # rows, not numbers
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def of_sensor(self, name: str) -> Sum:
        """Return the sum of one sensor."""
        of_sensor = self.members[name]
        assert isinstance(of_sensor, Sum)
        return of_sensor

    def join(
        self, logits: NDArray[np.float64], lacks: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (n, K) and `lacks` (n,) of windows from those of their sensors.

        The sensors' `logits` have the shape (n_sensors, n, K). `lacks` (n, n_sensors) is COMPLETE,
        DOUBTFUL or EMPTY for each sensor's window; see `gaps`. Windows without any sensor get
        zeros. If the fit had too few windows with exactly the present sensors, each present sensor
        gets the weight that it has alone, divided by the number of present sensors. The sum of the
        logits is then at most as certain as the most certain sensor.
        """
        joined = np.einsum("ns,snk->nk", self.weights_for(lacks), logits)
        is_empty = lacks.min(axis=1) == EMPTY
        return joined, np.where(is_empty, EMPTY, COMPLETE).astype(np.int8)

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
        alone = np.zeros(len(pattern))
        for at in np.flatnonzero(pattern):
            alone += self.weights[pattern_key(np.arange(len(pattern)) == at)]
        return np.asarray(alone / pattern.sum())

    def weight_table(self) -> NDArray[np.float64]:
        """Return the weights (2^n, n) for an export; bit s of a row number stands for sensor s."""
        n = len(next(iter(self.weights)))
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


def pattern_key(pattern: NDArray[np.bool_]) -> str:
    """Return a pattern of present sensors as a string of zeros and ones."""
    return "".join("1" if is_present else "0" for is_present in pattern.tolist())


def read_rows(fusion: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the weights of sensors in a model file; raise a ValueError if they are inconsistent."""
    sensors, n = fusion["sensors"], len(fusion["sensors"])
    rows = {str(key): np.array(row, np.float64) for key, row in fusion["weights"].items()}
    alone = {pattern_key(np.arange(n) == at) for at in range(n)}
    if (
        not n
        or not all(isinstance(name, str) for name in sensors)
        or len(set(sensors)) < n
        or any(row.shape != (n,) or not np.isfinite(row).all() for row in rows.values())
        or not alone <= rows.keys()
    ):
        raise ValueError(f"fusion: {fusion!r} does not describe weights of sensors")
    return rows
