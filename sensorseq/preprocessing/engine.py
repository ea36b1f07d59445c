"""The implementations that resample an evenly sampled signal."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, EnvironmentProblemError, check_choice
from sensorseq.preprocessing.polyphase import (
    ATTENUATION_DB,
    SAME_RATIO,
    check_attenuation,
    resample_by_ratio,
    simple_ratio,
)

ENGINES = ("polyphase", "soxr")
_HELD_OUTPUTS = 64


def check_engine(engine: str, attenuation_db: float) -> None:
    """Raise unless the engine is known, installed, and supports that attenuation."""
    check_choice("engine", engine, ENGINES)
    attenuation_db = check_attenuation(attenuation_db)
    if engine == "soxr":
        if attenuation_db != ATTENUATION_DB:
            raise ArgumentError(
                f"attenuation_db={attenuation_db:g} cannot be set with engine='soxr', whose filter"
                " is fixed; remove attenuation_db, or use engine='polyphase'."
            )
        _import_soxr()


def change_rate(
    x: NDArray[np.floating],
    ratio: Fraction,
    *,
    attenuation_db: float = ATTENUATION_DB,
    engine: str = "polyphase",
    tolerance: float = SAME_RATIO,
) -> NDArray[np.floating]:
    """Resample a whole, finite signal by `ratio`; see `resample` and `polyphase.make_filter`."""
    if engine == "polyphase":
        return resample_by_ratio(x, ratio, attenuation_db, tolerance)
    ratio = simple_ratio(ratio, tolerance) or ratio
    if not len(x) or ratio == 1:
        return x.copy()
    n_out = math.ceil(len(x) * ratio - Fraction(1, 10**9))  # as the table of polyphase has it
    # soxr assumes zeros beyond the ends. Subtracting the first sample extends it to the left; the
    # last sample is repeated often enough that no output is missing, however soxr rounds.
    n_held = int(np.ceil(_HELD_OUTPUTS / min(1.0, float(ratio))))
    held = np.concatenate([x, np.repeat(x[-1:], n_held, axis=0)]) - x[0]
    resampled = _import_soxr().resample(held, 1.0, float(ratio), quality="HQ")
    y: NDArray[np.floating] = resampled[:n_out] + x[0]
    return y


def _import_soxr() -> Any:
    try:
        import soxr  # an optional extra
    except ImportError as error:
        raise EnvironmentProblemError(
            "engine='soxr' needs the package soxr, which is not installed:"
            " pip install \"sensorseq[resample]\", or use engine='polyphase'."
        ) from error
    return soxr
