"""Formulas of numpy against those of scipy."""

import numpy as np
import pytest
import scipy.special

from sensorseq.numeric import log_softmax, logsumexp


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_logarithms_of_sums_have_the_bits_of_scipy(dtype, axis):
    rng = np.random.default_rng(axis)
    for scale in (0.1, 1.0, 100.0):
        x = (scale * rng.normal(size=(3, 40, 5))).astype(dtype)
        for values in (x, np.round(x)):  # rounded ones have several largest
            for own, other in ((log_softmax, "log_softmax"), (logsumexp, "logsumexp")):
                expected = getattr(scipy.special, other)(values, axis=axis)
                np.testing.assert_array_equal(own(values, axis=axis), expected, strict=True)
