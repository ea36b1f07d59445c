"""Design windows and filters with numpy alone; scipy.signal gives equal results up to rounding."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def hann(n_samples: int) -> Floats:
    """Design a symmetric Hann window."""
    return 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, n_samples))


def kaiser_beta(attenuation_db: float) -> float:
    """Compute the beta of a Kaiser window for a filter of this attenuation."""
    if attenuation_db > 50:
        return 0.1102 * (attenuation_db - 8.7)
    if attenuation_db > 21:
        over = attenuation_db - 21
        return float(0.5842 * over**0.4 + 0.07886 * over)
    return 0.0


def kaiser_taps(attenuation_db: float, width: float) -> int:
    """Compute the number of taps for an attenuation and a transition width (1 is Nyquist)."""
    return math.ceil((attenuation_db - 7.95) / 2.285 / (np.pi * width) + 1)


def fir(bands: Sequence[tuple[float, float]], window: Floats) -> Floats:
    """Design a filter that passes these bands (1 is Nyquist), with gain 1 in the first band."""
    m = np.arange(len(window)) - (len(window) - 1) / 2
    taps = sum(high * np.sinc(high * m) - low * np.sinc(low * m) for low, high in bands) * window
    low, high = bands[0]
    middle = 0.0 if low == 0 else 1.0 if high == 1 else (low + high) / 2
    return np.asarray(taps / (taps * np.cos(np.pi * m * middle)).sum())


def notch(frequency: float, width: float) -> Floats:
    """Design a filter that removes a frequency (1 is Nyquist), as one section of shape (1, 6).

    The gain at the edges of the removed band is -3 dB.
    """
    gain = 1 / (1 + math.tan(math.pi * width / 2))
    cosine = -2 * math.cos(math.pi * frequency)
    return np.array([[gain, gain * cosine, gain, 1, gain * cosine, 2 * gain - 1]])


def butterworth(order: int, low: float, high: float) -> Floats:
    """Design a Butterworth filter that passes `low` to `high` (1 is Nyquist), as sections (n, 6).

    The filter is a low-pass if `low` is 0, and a high-pass if `high` is 1. The poles of the analog
    low-pass are moved to the band and mapped by the bilinear transform.
    """
    poles = -np.exp(1j * np.pi * np.arange(1 - order, order, 2) / (2 * order))
    start, stop = (4 * np.tan(np.pi * edge / 2) for edge in (low, high))
    if low == 0:
        poles, gain, zeros = stop * poles, stop**order, []
    elif high == 1:
        poles, gain, zeros = start / poles, np.real(1 / np.prod(-poles)), [1.0] * order
    else:
        half = poles * (stop - start) / 2
        root = np.sqrt(half**2 - np.sqrt(start * stop) ** 2)
        poles, gain = np.concatenate([half + root, half - root]), (stop - start) ** order
        zeros = [1.0] * order
    gain = gain * np.real(4.0 ** len(zeros) / np.prod(4 - poles))
    zeros += [-1.0] * (len(poles) - len(zeros))
    return _sections((4 + poles) / (4 - poles), zeros, gain)


def _sections(poles: NDArray[np.complex128], zeros: list[float], gain: float) -> Floats:
    """Pair poles with the nearest real zeros; poles near the unit circle come last."""
    is_real = np.abs(poles.imag) <= 100 * np.finfo(np.float64).eps * np.abs(poles)
    left = [*poles[(poles.imag > 0) & ~is_real], *poles[is_real].real]
    if len(poles) % 2:
        left, zeros = [*left, 0.0], [*zeros, 0.0]
    sections: list[Floats] = []
    while left:
        pole = left.pop(int(np.argmin(np.abs(1 - np.abs(left)))))
        partner = np.conj(pole)
        if np.isreal(pole):
            reals = [candidate for candidate in left if np.isreal(candidate)]
            partner = reals[int(np.argmin(np.abs(1 - np.abs(reals))))]
            left.remove(partner)
        near = [zeros.pop(int(np.argmin(np.abs(np.array(zeros) - pole)))) for _ in range(2)]
        sections.insert(0, np.concatenate([np.poly(near), np.poly([pole, partner]).real]))
    sections[0][:3] *= gain
    return np.array(sections)


def polynomial_fit(before: int, ahead: int, degree: int, order: int, step: float) -> Floats:
    """Return filter taps that compute a derivative of a polynomial fitted to the samples.

    A. Savitzky, M. J. E. Golay, "Smoothing and differentiation of data by simplified least squares
    procedures", Analytical Chemistry 36, 1964.
    """
    powers = np.arange(-before, ahead + 1.0) ** np.arange(degree + 1.0)[:, None]
    wanted = np.zeros(degree + 1)
    wanted[order] = math.factorial(order) / step**order
    return np.asarray(np.linalg.lstsq(powers, wanted, rcond=None)[0], np.float64)
