"""The anti-aliasing filter, applied at the output's rate."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, kaiserord, upfirdn

STOPBAND_DB = 90.0
PASSBAND = 0.8  # of the lower of the two Nyquist frequencies, where the stopband begins
_TABLE_PHASES = 512  # per zero crossing; a line between two of them is right to 116 dB
_MAX_TERM = 2**16


def resample_by_ratio(
    x: NDArray[np.floating], ratio: Fraction, max_drift: float
) -> NDArray[np.floating]:
    """Resample by `ratio` output samples per input sample.

    A fraction of small terms takes the place of `ratio` when it drifts by at most `max_drift`
    samples over the signal; it is what the user meant (33.3 to 11.1 Hz is 1/3), and faster.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_channels), float32 or float64
        Finite. Computed in float64.
    ratio : Fraction
        Above zero.
    max_drift : float
        In input samples.

    Returns
    -------
    ndarray of shape (ceil(n_samples * ratio), n_channels)
        In the dtype of `x`; `x` itself (copied) for a ratio of 1.
    """
    simple = _simple_ratio(ratio, len(x), max_drift) if len(x) else Fraction(1)
    if simple == 1:
        return x.copy()
    if simple is not None:
        y = _filter_polyphase(x, simple.numerator, simple.denominator)
    else:
        y = _filter_from_table(x, float(ratio))
    return y.astype(x.dtype, copy=False)


def _simple_ratio(ratio: Fraction, n_samples: int, max_drift: float) -> Fraction | None:
    """Return a fraction of small terms that drifts by at most `max_drift` samples, if any."""
    small = min(ratio, 1 / ratio)
    max_term = 1
    while max_term <= _MAX_TERM:
        near = small.limit_denominator(max_term)
        if near and n_samples * abs(float(near / small - 1)) <= max_drift:
            return near if ratio <= 1 else 1 / near
        max_term *= 2
    return None


@lru_cache(maxsize=16)
def _design_lowpass(n_phases: int, relative_nyquist: float) -> NDArray[np.float64]:
    """Kaiser low-pass of odd length whose stopband begins at `relative_nyquist` of Nyquist."""
    n_taps, beta = kaiserord(STOPBAND_DB, (1 - PASSBAND) * relative_nyquist)
    cutoff = (1 + PASSBAND) / 2 * relative_nyquist
    taps: NDArray[np.float64] = firwin(n_taps | 1, cutoff, window=("kaiser", beta))
    for phase in range(n_phases):  # so that each phase passes a constant exactly
        taps[phase::n_phases] /= taps[phase::n_phases].sum()
    return taps


def _mirrored(n_samples: int, before: int, after: int) -> NDArray[np.int64]:
    """Return indices that mirror a signal about its first and last sample, again and again."""
    if n_samples == 1:
        return np.zeros(before + 1 + after, np.int64)
    period = 2 * (n_samples - 1)
    position: NDArray[np.int64] = np.abs(np.arange(-before, n_samples + after)) % period
    return np.minimum(position, period - position)


def _filter_polyphase(x: NDArray[np.floating], up: int, down: int) -> NDArray[np.float64]:
    taps = _design_lowpass(up, 1 / max(up, down))
    half = len(taps) // 2
    n_out = -(-len(x) * up // down)
    pad = -(-half // up)
    # Output m lies at m * down of the upsampled signal; the filter's centre adds `half`, the mirror
    # pad * up. Leading zeros make their sum a multiple of `down`, so no fraction remains.
    zeros = -(half + pad * up) % down
    skip = (half + pad * up + zeros) // down
    taps = np.concatenate([np.zeros(zeros), taps])
    padded = x[_mirrored(len(x), pad, pad + 1)]
    y: NDArray[np.float64] = upfirdn(taps, padded, up, down, axis=0)
    return y[skip : skip + n_out]


def _filter_from_table(x: NDArray[np.floating], ratio: float) -> NDArray[np.float64]:
    """Evaluate the filter at any position, for ratios that no small fraction comes close to."""
    bandwidth = min(1.0, ratio)
    n_phases = int(np.ceil(_TABLE_PHASES * bandwidth))
    table = _design_lowpass(1, bandwidth / n_phases)
    half = len(table) // 2
    reach = half // n_phases + 1
    table = np.pad(table, n_phases * (reach + 1) - half + 1)
    centre = len(table) // 2
    n_out = int(np.ceil(len(x) * ratio - 1e-9))
    position = np.arange(n_out) / ratio
    whole = np.floor(position).astype(np.int64)
    fraction = position - whole
    padded = x[_mirrored(len(x), reach, reach + 2)]
    y = np.zeros((n_out, x.shape[1]))
    total = np.zeros(n_out)
    for tap in range(-reach, reach + 2):  # input sample `whole + tap`
        at = centre + (fraction - tap) * n_phases
        left = np.floor(at).astype(np.int64)
        weight = table[left] + (at - left) * (table[left + 1] - table[left])
        total += weight
        y += weight[:, None] * padded[whole + tap + reach]
    return y / total[:, None]
