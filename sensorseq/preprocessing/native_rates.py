"""Prepare several sensors, each at its own rate, with one split and the same scaling options."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed
from sensorseq.errors import ArgumentError, RecordingError, noting
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.split import describe_split, split_by_group
from sensorseq.preprocessing.subjects import note_subjects
from sensorseq.sensor_windows import (
    SensorWindows,
    channels_of_sensors,
    common_rows,
    lacks_of,
    take_common_rows,
)
from sensorseq.windows import WindowSet

_SHARE_OF_HOP = 0.1


def _slop_of(use: PreparationOptions, rates_hz: Mapping[str, float]) -> float:
    """Return the largest allowed difference, in seconds, between the starts of matching windows.

    The result is less than half a hop; otherwise, a window could be equally near to two windows of
    another sensor. A window begins at a sample, so a sensor's windows may begin up to one sample
    period after a multiple of the hop.
    """
    hop_s = use.window_s if use.hop_s is None else use.hop_s
    for name, rate in rates_hz.items():
        if rate > 0 and 1 / rate >= hop_s / 2:
            raise ArgumentError(
                f"sensor {name!r} has {rate:.3g} samples a second, so {hop_s:g} s between windows"
                f" is too short: use hop_s={float(f'{2.2 / rate:.2g}'):g} or more,"
                " or leave the sensor out."
            )
    if use.slop_s is not None:
        return float(use.slop_s)
    return max([_SHARE_OF_HOP * hop_s, *(1 / rate for rate in rates_hz.values() if rate > 0)])


def _check_recordings(recordings: Mapping[str, Iterable[Any]], missing: str | None) -> None:
    """Raise a RecordingError if some recordings lack a sensor, unless `missing` allows this."""
    if missing == "expected":
        return
    ids = {name: {each.recording_id for each in those} for name, those in recordings.items()}
    all_ids = set().union(*ids.values())
    for name, of_sensor in ids.items():
        if lacks := sorted(all_ids - of_sensor):
            raise RecordingError(
                f"{len(lacks)} of {len(all_ids)} recordings have no sensor {name!r}:"
                f" {listed(lacks, 5)}. Leave them out, or use missing='expected'."
            )


def _split_rows(
    y: NDArray[Any] | None,
    groups: NDArray[Any],
    recording_id: NDArray[Any],
    complete: NDArray[np.bool_],
    use: PreparationOptions,
) -> tuple[NDArray[np.str_] | None, dict[str, Any]]:
    """Split windows by group or recording like `CutRecordings.learn`, and describe the split.

    Only the windows marked in `complete`, in which no sensor is missing, decide how groups are
    assigned to parts. Each part then has every class for each sensor. Groups without complete
    windows go to the training part.
    """
    if use.split is None:
        return None, {}
    shares = tuple(float(share) for share in use.split)
    together = recording_id if use.split_by == "recording" else groups
    rows = complete if complete.any() else np.ones(len(complete), bool)
    parts = split_by_group(
        None if y is None else y[rows], together[rows], shares, use.random_state, None
    )
    part_of = dict(zip(together[rows].tolist(), parts.tolist()))
    split = np.array([part_of.get(group, "train") for group in together.tolist()])
    evenness: dict[str, Any] = describe_split(y, together, split, shares)
    evenness |= note_subjects(y, groups, recording_id, split)
    return split, {"split": evenness}


_R = TypeVar("_R")  # a recording, or the source of one


def prepare_sensors(
    plan: PreparationPlan,
    recordings: Mapping[str, Iterable[_R]],
    rates_of: Callable[[PreparationOptions, list[_R]], list[float]],
    prepare_one: Callable[[str, PreparationPlan, list[_R]], WindowSet],
) -> SensorWindows:
    """Prepare the recordings of each sensor, and align and split their windows.

    `rates_of` returns the rates of recordings, and `prepare_one` prepares one sensor, given its
    name and plan, without a split and scaling.
    """
    use, configuration = plan.learning, plan.configuration
    channels = channels_of_sensors(use.channels, recordings)
    recordings_of = {name: list(recordings[name]) for name in channels}
    for name, of_sensor in recordings_of.items():
        if not of_sensor:
            raise RecordingError(f"sensor {name!r} has no recordings.")
    _check_recordings(recordings_of, use.missing)
    use_of = {name: replace(use, channels=channels[name]) for name in channels}
    rates = {
        name: float(np.median(rates_of(use_of[name], of_sensor) or [np.nan]))
        for name, of_sensor in recordings_of.items()
    }
    slop_s = _slop_of(use, rates)
    sets: dict[str, WindowSet] = {}
    for name, of_sensor in recordings_of.items():
        with noting(f"in the recordings of sensor {name!r}"):
            of_one = replace(use_of[name], split=None, scale=None, slop_s=slop_s)
            sets[name] = prepare_one(name, PreparationPlan.of(of_one), of_sensor)
    rows = common_rows(sets, slop_s, use.missing or "error")
    aligned = take_common_rows(sets, rows)
    groups, ids_of_rows = aligned.groups, aligned.recording_id
    assert groups is not None
    assert ids_of_rows is not None
    complete = np.asarray((rows >= 0).all(axis=1))
    split, facts = _split_rows(aligned.y, groups, ids_of_rows, complete, use)
    facts["sensors"] = lacks_of(sets, rows)

    def with_split(windows: WindowSet) -> WindowSet:
        own = windows.provenance["configuration"]
        shared = {section: configuration[section] for section in ("split", "scale")}
        provenance = {**windows.provenance, **facts, "configuration": {**own, **shared}}
        return replace(windows, split=split, provenance=provenance)

    return SensorWindows({name: with_split(each) for name, each in aligned.sensors.items()})
