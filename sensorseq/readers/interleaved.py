"""Find the column that names the sensor of each row, in a table of several sensors' rows."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_FEWEST_ROWS = 10  # a sensor with fewer rows is too rare to have a clock
_RARE = 0.05  # of the rows may be of rare sensors
_LEAST_STEPS = 20  # steps over rows of other sensors, which fewer might make by chance
_REGULAR, _SHARE_REGULAR = 0.5, 0.75  # by which a step may differ from the usual one, and how many
_MOST_NUMBERS = 64  # more sensors are not numbered
_LOOKED_AT = 4096  # rows by which most columns of measurements are passed over
_APART = 0.5  # steps of one sensor, as a share of the steps from one sensor to the next
_SPREADS = 3.0  # ratio of the spreads of two sensors that measure different quantities
_SENSOR_NAME = re.compile(
    r"(sensor|joint|device|imu|node|topic|axis|actuator|encoder|wheel|leg)s?([ _.-]?"
    r"(id|ids|no|nr|num|number|index|idx|name|type|kind))?",
    re.I,
)


def has_interleaved_clocks(codes: NDArray[np.integer], t: NDArray[np.float64]) -> bool:
    """Test whether the rows of each value follow a clock of their own, rows of others between them.

    Then a value is no state of one sensor: a state's rows leave a hole in the clock where another
    state holds. `codes` are the values as numbers from 0 on.
    """
    counts = np.bincount(codes)
    is_usual = counts >= _FEWEST_ROWS
    if is_usual.sum() < 2 or counts[~is_usual].sum() > _RARE * len(codes):
        return False
    order = np.argsort(codes, kind="stable")
    own = codes[order]
    within = (own[1:] == own[:-1]) & is_usual[own[1:]]
    over_others = (np.diff(order) > 1)[within]
    if over_others.sum() < _LEAST_STEPS:
        return False
    steps, of = np.diff(t[order])[within], own[1:][within]
    period = np.ones(len(counts))
    for code in np.unique(of):
        # an existing step: those of one that is left out now and then have two values
        period[code] = np.quantile(steps[of == code], 0.5, method="lower")
    is_regular = (period[of] > 0) & (np.abs(steps - period[of]) < _REGULAR * period[of])
    return bool(is_regular[over_others].mean() >= _SHARE_REGULAR)


def names_sensors(
    name: str,
    values: NDArray[np.floating],
    t: NDArray[np.float64],
    others: Mapping[str, NDArray[np.floating]],
) -> bool:
    """Test whether a column of numbers names the sensor of each row.

    A counter that wraps, or a bit that toggles, also splits the rows into regular clocks. So the
    column must be named like sensors, or most of the other columns must show that neighboring rows
    are of different quantities.
    """
    codes = codes_of_numbers(values)
    if codes is None or not has_interleaved_clocks(codes, t):
        return False
    if _SENSOR_NAME.fullmatch(name.strip()):
        return True
    apart = [_are_apart(codes, column) for column in others.values() if _is_measured(column)]
    return sum(apart) > len(apart) / 2


def _is_measured(x: NDArray[np.floating]) -> bool:
    """Test whether a column neither stays the same nor counts."""
    steps = np.diff(x[:_LOOKED_AT])
    return not ((steps == 0).all() or (steps > 0).all())


def _are_apart(codes: NDArray[np.integer], x: NDArray[np.floating]) -> bool:
    """Test whether a channel differs more from row to row than from sample to sample of a sensor.

    Or by its spread: noise of two quantities has no steps to compare.
    """
    order = np.argsort(codes, kind="stable")
    own, sorted_x = codes[order], x[order]
    with np.errstate(invalid="ignore"):
        within = np.abs(np.diff(sorted_x))[own[1:] == own[:-1]]
        between = np.abs(np.diff(x))[codes[1:] != codes[:-1]]
    if not np.isfinite(between).any() or not np.isfinite(within).any():
        return True  # no two sensors have this quantity
    if np.nanmedian(within) < _APART * np.nanmedian(between):
        return True
    parts = [sorted_x[own == code] for code in np.unique(own)]
    spreads = [float(np.nanstd(part)) for part in parts if np.isfinite(part).sum() >= _FEWEST_ROWS]
    return len(spreads) > 1 and max(spreads) > _SPREADS * min(spreads) >= 0


def codes_of_numbers(values: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Return a column of few whole numbers as numbers from 0 on; None for another."""
    middle = max(0, (len(values) - _LOOKED_AT) // 2)
    for some in (values[middle : middle + _LOOKED_AT], values):  # the first mostly suffices
        if not (np.isfinite(some).all() and (some == some.round()).all()):
            return None
        known, codes = np.unique(some, return_inverse=True)
        if len(known) > _MOST_NUMBERS:
            return None
    return np.asarray(codes, np.int64)


def has_blocks(codes: NDArray[np.integer], t: NDArray[np.float64]) -> bool:
    """Test whether each value has one block of rows, and the time begins again at each."""
    changes, goes_back = codes[1:] != codes[:-1], t[1:] <= t[:-1]
    return 1 < len(np.unique(codes)) == 1 + int(changes.sum()) and bool(
        (changes == goes_back).all()
    )
