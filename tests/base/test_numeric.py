"""Compare formulas written in numpy with scipy's."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from sensorseq.base.numeric import (
    log_softmax,
    logsumexp,
    stochastic_exponential,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_logarithms_of_sums_have_the_bits_of_scipy(dtype, axis):
    has_bits = tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 15)
    rtol = 0 if has_bits else 8 * np.finfo(dtype).eps  # older versions round otherwise
    rng = np.random.default_rng(axis)
    for scale in (0.1, 1.0, 100.0):
        x = (scale * rng.normal(size=(3, 40, 5))).astype(dtype)
        for values in (x, np.round(x)):  # rounded, so that there are several maxima
            for own, other in ((log_softmax, "log_softmax"), (logsumexp, "logsumexp")):
                expected = getattr(scipy.special, other)(values, axis=axis)
                actual = own(values, axis=axis)
                assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("seconds", [1e-3, 0.3, 50.0, 1e5])
@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_the_exponential_of_rates_is_that_of_scipy(seconds, n_classes):
    rng = np.random.default_rng(n_classes)
    follows = rng.uniform(size=(n_classes, n_classes)) * (1 - np.eye(n_classes))
    follows /= follows.sum(axis=1, keepdims=True)
    mean_s = rng.uniform(5, 300, n_classes)
    rates = seconds / mean_s[:, None] * (follows - np.eye(n_classes))
    found, expected = stochastic_exponential(rates), scipy.linalg.expm(rates)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-15)
    drift = 1e-15 * (1 + seconds)  # for the rounding errors of scipy's sums
    np.testing.assert_allclose(found, expected, rtol=0, atol=drift)
