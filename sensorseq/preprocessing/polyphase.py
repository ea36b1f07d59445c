"""Resample an evenly sampled signal with a polyphase filter."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq._signal import PolyphaseFilter, TableFilter
from sensorseq.base.checks import check_real
from sensorseq.errors import SignalError
from sensorseq.preprocessing.filter_design import fir, kaiser_beta, kaiser_taps

ATTENUATION_DB = 90.0
PASSBAND = 0.8  # end of the passband, as a fraction of the frequency where the stopband starts
# Relative tolerance, with which 33.3 and 11.1 Hz give 1/3, and 33.3333333333 and 100 Hz give 3.
SAME_RATIO = 1e-11
_LOWEST_DB, _HIGHEST_DB = 20.0, 150.0  # range in which Kaiser's formula is valid
# Table entries per zero crossing at 90 dB; interpolating entries linearly is accurate to 116 dB.
# The error decreases with the square of the distance between entries.
_TABLE_PHASES = 512
_MAX_TAPS = 2**24  # a filter of this length takes a second to design and 128 MB of memory
_MAX_TERM = 2**12  # largest term of a simple fraction; for larger terms, a table needs less memory


def check_attenuation(attenuation_db: float) -> float:
    """Return the attenuation as a float; raise an error if no filter can reach it."""
    return check_real("attenuation_db", attenuation_db, _LOWEST_DB, _HIGHEST_DB, high_open=False)


def simple_ratio(ratio: Fraction) -> Fraction | None:
    """Return the simplest fraction within `SAME_RATIO` of `ratio`, or None.

    Users usually mean a simple fraction (33.3 to 11.1 Hz is 1/3), whose filter is faster than a
    table.
    """
    small = min(ratio, 1 / ratio)
    max_term = 1
    while max_term <= _MAX_TERM:
        near = small.limit_denominator(max_term)
        if near and abs(float(near / small - 1)) <= SAME_RATIO:
            return near if ratio <= 1 else 1 / near
        max_term *= 2
    return None


def make_filter(
    ratio: Fraction,
    n_channels: int,
    attenuation_db: float = ATTENUATION_DB,
) -> PolyphaseFilter | TableFilter | None:
    """Make a filter with `ratio` output samples per input sample; return None for a ratio of 1.

    The filter attenuates by `attenuation_db` above the lower of the two Nyquist frequencies. A
    simple fraction within `SAME_RATIO` replaces `ratio`.
    """
    simple = simple_ratio(ratio)
    if simple == 1:
        return None
    if simple is not None:
        up, down = simple.numerator, simple.denominator
        taps = design_lowpass(up, 1 / max(up, down), attenuation_db)
        return PolyphaseFilter(taps, up, down, n_channels)
    bandwidth = min(1.0, float(ratio))
    density = _TABLE_PHASES * 2 ** ((attenuation_db - ATTENUATION_DB) / 12)
    n_phases = int(np.ceil(density * bandwidth))
    taps = design_lowpass(1, bandwidth / n_phases, attenuation_db)
    return TableFilter(taps, n_phases, float(ratio), n_channels)


@lru_cache(maxsize=16)
def design_lowpass(
    n_phases: int, relative_nyquist: float, attenuation_db: float
) -> NDArray[np.float64]:
    """Design a Kaiser low-pass of odd length; its stopband starts at `relative_nyquist`.

    The passband ends at 0.8 of `relative_nyquist`. The taps of each of the `n_phases` phases sum to
    1.
    """
    width = (1 - PASSBAND) * relative_nyquist
    n_taps = kaiser_taps(attenuation_db, width)
    if n_taps > _MAX_TAPS:
        raise SignalError(
            f"the rates differ by a factor of {1 / relative_nyquist:.3g}, which needs a filter of"
            f" {n_taps:.2g} taps. Check the units of the rates, or resample in two steps."
        )
    cutoff = (1 + PASSBAND) / 2 * relative_nyquist
    taps = fir([(0.0, cutoff)], np.kaiser(n_taps | 1, kaiser_beta(attenuation_db)))
    for phase in range(n_phases):  # normalize, so that each phase preserves constants exactly
        taps[phase::n_phases] /= taps[phase::n_phases].sum()
    taps.setflags(write=False)  # read-only, because the cache shares the array
    return taps


def change_rate(
    x: NDArray[np.floating], ratio: Fraction, attenuation_db: float = ATTENUATION_DB
) -> NDArray[np.floating]:
    """Resample a finite signal (n_samples, n_channels) to (ceil(n_samples * ratio), n_channels).

    The filter computes in float64; the result has the dtype of `x`. See `resample` and
    `make_filter`.
    """
    stream = make_filter(ratio, x.shape[1], attenuation_db)
    return x.copy() if stream is None else stream.push_last(x)


def change_rate_in_blocks(
    blocks: Iterable[NDArray[Any]],
    ratio: Fraction,
    n_channels: int,
    *,
    attenuation_db: float = ATTENUATION_DB,
) -> Iterator[NDArray[np.floating]]:
    """Yield the result of `change_rate` in blocks."""
    stream = make_filter(ratio, n_channels, attenuation_db)
    for block in blocks:
        yield block if stream is None else stream.push(block)
    if stream is not None:
        yield stream.flush()
