"""check_levels: channels that are at another level in validation than in training."""

from typing import NamedTuple

import numpy as np

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Floats, Names, Part

LEAST_SHIFT_SDS = 0.3  # of the channel in training
STANDARD_ERRORS = 5.0
LEAST_GROUPS = 5  # in each part, below which a difference between parts is that of a few groups
LEAST_WINDOWS = 20  # of a part without groups


class _Level(NamedTuple):
    """Mean of the units of a part and its standard error, (c,) each; how many they are."""

    mean: Floats
    error: Floats
    n_units: int


def check_levels(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return channels whose level differs more between the parts than between their groups.

    Without groups windows are the units. Those of one recording are alike, which makes chance look
    smaller than it is; the shift must be the larger then: one standard deviation.
    """
    if validation is None or validation.n_channels != train.n_channels:
        return []
    has_groups = train.groups is not None and validation.groups is not None
    least = LEAST_GROUPS if has_groups else LEAST_WINDOWS
    ours, theirs = _level(train, has_groups), _level(validation, has_groups)
    if min(ours.n_units, theirs.n_units) < least:
        return []
    scale = np.where(train.sd > 0, train.sd, 1.0)
    shift = (theirs.mean - ours.mean) / scale
    error = np.sqrt(ours.error**2 + theirs.error**2) / scale
    wanted = LEAST_SHIFT_SDS if has_groups else 1.0
    # of few groups the error is uncertain itself
    limit = STANDARD_ERRORS * (1 + 4 / min(ours.n_units, theirs.n_units)) * error
    moved = np.flatnonzero((np.abs(shift) > wanted) & (np.abs(shift) > limit) & (train.sd > 0))
    if not len(moved):
        return []
    worst = int(moved[np.abs(shift[moved]).argmax()])
    units = "groups" if has_groups else "windows"
    return [
        Cause(
            "distribution_shift",
            "supported",
            0.35 if abs(shift[worst]) > 1 else 0.2,
            f"{names.channels(moved)} is at another level in validation: {shift[worst]:+.2f}"
            f" standard deviations for {names.channel(worst)}, where chance among {ours.n_units}"
            f" and {theirs.n_units} {units} gives {error[worst]:.2f}.",
            finding="another level in validation",
            advice=(
                "Look whether both parts were recorded and scaled alike; scaling each recording by"
                " itself takes a level away."
            ),
        )
    ]


def _level(part: Part, by_group: bool) -> _Level:
    units = part.window_mean
    if by_group and part.groups is not None:
        _, code = np.unique(part.groups, return_inverse=True)
        sums = np.zeros((int(code.max()) + 1, part.n_channels))
        np.add.at(sums, code, units)
        units = sums / np.bincount(code)[:, None]
    n = len(units)
    error = units.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(part.n_channels, np.inf)
    return _Level(units.mean(axis=0), error, n)
