"""Find the column that names the sensor of each row, in a table with rows of several sensors."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_FEWEST_ROWS = 10  # minimum number of rows from which the clock of a sensor is determined
_RARE = 0.05  # maximum fraction of the rows that may come from rare sensors
_LEAST_STEPS = 20  # minimum number of time steps that span other sensors' rows
_REGULAR = 0.5  # maximum relative deviation of a regular time step from the usual time step
_SHARE_REGULAR = 0.75  # minimum fraction of regular time steps
_MOST_NUMBERS = 64  # a column with more distinct values does not contain sensor numbers
_LOOKED_AT = 4096  # this many rows are enough to rule out most columns of measurements
_APART = 0.5  # maximum ratio of changes within a sensor to changes between sensors
_SPREADS = 3.0  # minimum ratio of the spreads of two sensors that measure different quantities
_SENSOR_NAME = re.compile(
    r"(sensor|joint|device|imu|node|topic|axis|actuator|encoder|wheel|leg)s?([ _.-]?"
    r"(id|ids|no|nr|num|number|index|idx|name|type|kind))?",
    re.I,
)


def has_interleaved_clocks(codes: NDArray[np.integer], t: NDArray[np.float64]) -> bool:
    """Return True if the rows of each value have a regular clock and alternate with other rows.

    Such values are not the states of a single sensor, because the rows of each state would have
    gaps in time while the sensor is in other states. `codes` are the values as numbers from 0.
    """
    counts = np.bincount(codes)
    is_usual = counts >= _FEWEST_ROWS
    if is_usual.sum() < 2 or counts[~is_usual].sum() > _RARE * len(codes):
        return False
    order = np.argsort(codes, kind="stable")
    in_order = codes[order]
    within = (in_order[1:] == in_order[:-1]) & is_usual[in_order[1:]]
    over_others = (np.diff(order) > 1)[within]
    if over_others.sum() < _LEAST_STEPS:
        return False
    steps, step_codes = np.diff(t[order])[within], in_order[1:][within]
    period = np.ones(len(counts))
    for code in np.unique(step_codes):
        # Do not interpolate between steps, because a sensor that skips samples has steps of two
        # lengths.
        period[code] = np.quantile(steps[step_codes == code], 0.5, method="lower")
    periods = period[step_codes]
    is_regular = (periods > 0) & (np.abs(steps - periods) < _REGULAR * periods)
    return bool(is_regular[over_others].mean() >= _SHARE_REGULAR)


def names_sensors(
    name: str, columns: Mapping[str, NDArray[np.floating]], t: NDArray[np.float64]
) -> bool:
    """Return True if a numeric column, one of `columns`, contains the number of each row's sensor.

    A counter that wraps or a bit that toggles also divides rows into groups with regular clocks.
    Therefore either the name of the column must be typical of sensors, or most other columns must
    show that neighboring rows contain different quantities.
    """
    codes = codes_of_numbers(columns[name])
    if codes is None or not has_interleaved_clocks(codes, t):
        return False
    if _SENSOR_NAME.fullmatch(name.strip()):
        return True
    others = (column for other, column in columns.items() if other != name)
    apart = [_are_apart(codes, column) for column in others if _is_measured(column)]
    return sum(apart) > len(apart) / 2


def _is_measured(x: NDArray[np.floating]) -> bool:
    """Return True if a column is neither constant nor a counter."""
    steps = np.diff(x[:_LOOKED_AT])
    return not ((steps == 0).all() or (steps > 0).all())


def _are_apart(codes: NDArray[np.integer], x: NDArray[np.floating]) -> bool:
    """Return True if a channel seems to contain different quantities of several sensors.

    Such a channel changes more from row to row than between successive samples of one sensor, or
    its spread differs between sensors.
    """
    order = np.argsort(codes, kind="stable")
    in_order, sorted_x = codes[order], x[order]
    with np.errstate(invalid="ignore"):
        within = np.abs(np.diff(sorted_x))[in_order[1:] == in_order[:-1]]
        between = np.abs(np.diff(x))[codes[1:] != codes[:-1]]
    if not np.isfinite(between).any() or not np.isfinite(within).any():
        return True  # no two sensors measure this quantity
    if np.nanmedian(within) < _APART * np.nanmedian(between):
        return True
    parts = [sorted_x[in_order == code] for code in np.unique(in_order)]
    spreads = [float(np.nanstd(part)) for part in parts if np.isfinite(part).sum() >= _FEWEST_ROWS]
    return len(spreads) > 1 and max(spreads) > _SPREADS * min(spreads) >= 0


def codes_of_numbers(values: NDArray[np.floating]) -> NDArray[np.int64] | None:
    """Return codes from 0 for a column of only a few distinct integers; None for other columns."""
    middle = max(0, (len(values) - _LOOKED_AT) // 2)
    for some in (values[middle : middle + _LOOKED_AT], values):  # the middle rows usually suffice
        if not (np.isfinite(some).all() and (some == some.round()).all()):
            return None
        distinct, codes = np.unique(some, return_inverse=True)
        if len(distinct) > _MOST_NUMBERS:
            return None
    return np.asarray(codes, np.int64)


def has_blocks(codes: NDArray[np.integer], t: NDArray[np.float64]) -> bool:
    """Return True if each value has one block of rows, and time starts again in each block."""
    changes, goes_back = codes[1:] != codes[:-1], t[1:] <= t[:-1]
    return 1 < len(np.unique(codes)) == 1 + int(changes.sum()) and bool(
        (changes == goes_back).all()
    )
