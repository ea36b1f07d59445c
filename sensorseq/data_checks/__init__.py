"""Checks of windows that need no training: `check_windows` makes all of them."""

from collections.abc import Iterator

from sensorseq.data_checks.channels import (
    check_channels,
    check_padding,
    check_zero_ends,
    constant_channels,
)
from sensorseq.data_checks.leaks import (
    check_continuity,
    check_duplicates,
    check_overlap,
    count_shared,
)
from sensorseq.data_checks.part import Finding, Part
from sensorseq.data_checks.ranges import OutsideWindows, TrainedRanges, join_outside
from sensorseq.data_checks.shifts import (
    check_classes,
    check_labels,
    check_levels,
    check_shares,
    check_units,
)

__all__ = [
    "Finding",
    "OutsideWindows",
    "Part",
    "TrainedRanges",
    "check_continuity",
    "check_overlap",
    "check_shares",
    "check_windows",
    "check_zero_ends",
    "constant_channels",
    "count_shared",
    "join_outside",
]


def check_windows(train: Part, validation: Part | None = None) -> Iterator[Finding]:
    """Yield what is wrong with the windows as the network sees them, before any training.

    A finding is a fact of the data; it need not be what makes a run fluctuate.
    """
    if not train.X.size:
        return
    validation = None if validation is None or not validation.X.size else validation
    for check in (
        check_duplicates,
        check_labels,
        check_channels,
        check_padding,
        check_classes,
        check_levels,
        check_units,
    ):
        yield from check(train, validation)
