"""What the exports of several sensors share: the weights of each pattern as one table."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError
from sensorseq.prediction.fusion import Fusion

_MOST_SENSORS = 10  # the table has a row for each pattern of them


def weight_table(fusion: Fusion) -> NDArray[np.float64]:
    """Return the weights (2^n, n); bit s of a row's number says that sensor s is present."""
    n = len(fusion.sensors)
    if n > _MOST_SENSORS:
        raise InputError(
            f"a model of {n} sensors cannot be exported, only of up to {_MOST_SENSORS}; fit with"
            " fewer."
        )
    patterns = np.array(list(product((False, True), repeat=n)))[:, ::-1]
    table = np.zeros((2**n, n))
    for number in range(1, 2**n):
        table[number] = fusion.weights_of(patterns[number])
    return table


def refuse_given(fusion: Fusion, way: str, **given: object) -> None:
    """Raise for the first of these arguments that is given; `way` says what to do instead."""
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"{name}={value!r} cannot hold for all sensors ({', '.join(fusion.sensors)});"
                f" {way}."
            )
