"""check_data: facts about the windows themselves that no training is needed for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.channel_checks import check_channels
from sensorseq.fluctuation.causes.class_checks import check_classes, check_lengths
from sensorseq.fluctuation.causes.duplicate_windows import check_duplicates
from sensorseq.fluctuation.causes.label_shift import check_alignment
from sensorseq.fluctuation.causes.level_shift import check_levels
from sensorseq.fluctuation.causes.padding_checks import check_padding
from sensorseq.fluctuation.causes.windows_of_a_part import Names, Part
from sensorseq.fluctuation.probes.arm import LabWindows

CHECKS: tuple[Callable[[Part, Part | None, Names], list[Cause]], ...] = (
    check_duplicates,
    check_alignment,
    check_channels,
    check_padding,
    check_classes,
    check_levels,
    check_lengths,
)


def check_data(
    train: LabWindows,
    validation: LabWindows | None = None,
    *,
    channels: Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> list[Cause]:
    """Look for what is wrong with the windows, before anything is asked of the training.

    Constant channels and clocks; windows that come twice, with another label or in the other part;
    labels that fit the rows beside them better; values far from unit scale and outliers; values
    after the end, and padding that no length tells; classes that a part lacks; levels that differ
    between the parts; classes that the length gives away. All are deterministic facts, graded
    ``"supported"``. That something is there does not say that it makes the run fluctuate: the
    confidences are low but where little else is left to explain the labels.

    Parameters
    ----------
    train, validation : LabWindows
        Windows as the network sees them; finite.
    channels : sequence of str, optional
        Names of the channels; their numbers from 0 when not given.
    classes : sequence, optional
        Names of the classes, by code.
    arguments : mapping, optional
        Of the estimator. They word the recommendations.

    Returns
    -------
    list of Cause
        The most confident first; empty where nothing is wrong.
    """
    names = Names(channels, classes, dict(arguments or {}))
    parts = [_part(windows) for windows in (train, validation)]
    if parts[0] is None:
        return []
    found = [cause for check in CHECKS for cause in check(parts[0], parts[1], names)]
    return sorted(found, key=lambda cause: -cause.confidence)


def _part(windows: LabWindows | None) -> Part | None:
    if windows is None or not len(windows.target) or not np.asarray(windows.X).size:
        return None
    return Part(
        np.asarray(windows.X), windows.lengths, windows.target, windows.groups, windows.rows
    )
