"""Compare filters designed with numpy and with scipy."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import signal

from sensorseq.preprocessing import filter_design

EDGE = st.floats(1e-4, 0.999)


def assert_close(found, expected, tolerance=1e-14):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@given(order=st.integers(1, 20), edges=st.tuples(EDGE, EDGE).map(sorted))
def test_butterworth_sections_have_the_bits_of_scipy(order, edges):
    low, high = edges
    assume(high - low > 1e-3)
    for band, edge, kind in (
        ((0, high), high, "lowpass"),
        ((low, 1), low, "highpass"),
        ((low, high), edges, "bandpass"),
    ):
        expected = signal.butter(order, edge, kind, output="sos")
        np.testing.assert_array_equal(filter_design.butterworth(order, *band), expected)


@given(frequency=EDGE, width=EDGE)
def test_a_notch_equals_that_of_scipy(frequency, width):
    found = np.split(filter_design.notch(frequency, width)[0], 2)
    for own, expected in zip(found, signal.iirnotch(frequency, frequency / width), strict=True):
        assert_close(own, expected)


@pytest.mark.parametrize("n_taps", [3, 31, 256, 1001])
@pytest.mark.parametrize("attenuation_db", [15.0, 30.0, 60.0, 140.0])
def test_a_filter_of_a_kaiser_window_is_that_of_scipy(n_taps, attenuation_db):
    width = 0.013
    beta = filter_design.kaiser_beta(attenuation_db)
    assert signal.kaiserord(attenuation_db, width) == (
        filter_design.kaiser_taps(attenuation_db, width),
        beta,
    )
    window = np.kaiser(n_taps | 1, beta)
    for bands, cutoff, kind in (
        ([(0, 0.3)], 0.3, "lowpass"),
        ([(0.3, 1)], 0.3, "highpass"),
        ([(0.3, 0.6)], (0.3, 0.6), "bandpass"),
        ([(0, 0.3), (0.6, 1)], (0.3, 0.6), "bandstop"),
    ):
        expected = signal.firwin(n_taps | 1, cutoff, window=("kaiser", beta), pass_zero=kind)
        assert_close(filter_design.fir(bands, window), expected)


@given(n=st.integers(3, 500))
def test_a_hann_window_has_the_bits_of_scipy(n):
    np.testing.assert_array_equal(filter_design.hann(n), signal.windows.hann(n))


@given(degree=st.integers(1, 6), more=st.integers(0, 60), share=st.floats(0, 1))
def test_a_local_polynomial_is_that_of_scipy(degree, more, share):
    n = degree + 1 + more
    before = int(share * (n - 1))
    for order in range(1, min(degree, 2) + 1):
        found = filter_design.polynomial_fit(before, n - 1 - before, degree, order, 0.01)
        expected = signal.savgol_coeffs(n, degree, order, 0.01, pos=before, use="dot")
        assert_close(found, expected, 1e-9)
