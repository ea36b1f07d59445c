"""What the exports of several sensors share: the weights of each pattern as one table."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
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
