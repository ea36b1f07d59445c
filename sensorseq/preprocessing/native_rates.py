"""The preparation of several sensors, each at its own rate, and what they share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, RecordingError, check_choice, noting, warn_caller
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.split.parts import describe_split, split_by_group
from sensorseq.preprocessing.split.subjects import note_subjects
from sensorseq.recording import Recording
from sensorseq.sensor_windows import (
    MISSING,
    SensorWindows,
    align_sensors,
    channels_of_sensors,
)
from sensorseq.text import listed
from sensorseq.windows import WindowSet

_SHARE_OF_HOP = 0.1
# Options that one sensor alone can have: the only value with `native_rates`, and what to do.
_OF_ONE = {
    "sample_rate_hz": (None, "each sensor keeps its own rate"),
    "steps": (None, "use derive='auto', which chooses steps for each sensor"),
    "train_hop_s": (None, "use a shorter hop_s"),
    "train_phase": ("grid", "windows begin on the clock"),
    "balance": (None, "balance in training, with sampler='balanced'"),
    "label_column": (None, "label the recordings by folders or a manifest"),
}


def check_native_rates(use: PreparationOptions) -> None:
    """Raise an ArgumentError for options that exclude each other."""
    if not use.native_rates:
        for name in ("slop_s", "missing"):
            if getattr(use, name) is not None:
                raise ArgumentError(f"{name}={getattr(use, name)!r} needs native_rates=True.")
        return
    check_choice("missing", use.missing or "error", MISSING)
    for name, (only, way) in _OF_ONE.items():
        value = getattr(use, name)
        if value != only and value not in ((), []):
            raise ArgumentError(f"{name} cannot be combined with native_rates=True: {way}.")
    hop_s = use.window_s if use.hop_s is None else use.hop_s
    if use.slop_s is not None and not 0 < use.slop_s < hop_s / 2:
        raise ArgumentError(
            f"slop_s={use.slop_s!r} must be above 0 and less than half of the {hop_s:g} s between"
            " windows."
        )
    if use.split_by == "time":
        raise ArgumentError('split_by="time" cannot be combined with native_rates=True.')


def slop_of(use: PreparationOptions, rates_hz: Mapping[str, float]) -> float:
    """Return how far apart windows may begin, in seconds, from the rate of each sensor.

    Less than half a hop, because a window would otherwise be as near to the next one of another
    sensor; a sensor's windows begin up to a period late.
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


def options_of_sensor(use: PreparationOptions, slop_s: float) -> dict[str, Any]:
    """Return the options with which one sensor is prepared, without a split."""
    given = {each.name: getattr(use, each.name) for each in fields(use)}
    return {**given, "split": "none", "scale": "none", "slop_s": slop_s}


def check_recordings(recordings: Mapping[str, Iterable[Any]], missing: str | None) -> None:
    """Raise a RecordingError if some recordings lack a sensor and that is not expected."""
    if missing == "expected":
        return
    every = sorted(set().union(*recordings.values()))
    for name, own in recordings.items():
        lacks = sorted(set(every) - set(own))
        if lacks:
            raise RecordingError(
                f"{len(lacks)} of {len(every)} recordings have no sensor {name!r}:"
                f" {listed(lacks, 5)}. Leave them out, or use missing='expected'."
            )


def split_rows(
    y: NDArray[Any] | None,
    groups: NDArray[Any],
    recording_id: NDArray[Any],
    complete: NDArray[np.bool_],
    use: PreparationOptions,
) -> tuple[NDArray[np.str_] | None, dict[str, Any]]:
    """Split windows by group or recording, as `PreparationPlan.learn` does; also say how even.

    The `complete` windows are split, so that each sensor has every class in each part; groups that
    have none are trained on.
    """
    if use.split is None:
        return None, {}
    shares = tuple(float(share) for share in use.split)
    together = recording_id if use.split_by == "recording" else groups
    rows = complete if complete.any() else np.ones(len(complete), bool)
    own = split_by_group(
        None if y is None else y[rows], together[rows], shares, use.random_state, None
    )
    part_of = dict(zip(together[rows].tolist(), own.tolist()))
    split = np.array([part_of.get(group, "train") for group in together.tolist()])
    evenness: dict[str, Any] = describe_split(y, together, split, shares)
    evenness |= note_subjects(y, groups, recording_id, split)
    return split, {"split": evenness}


def with_split_of(own: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a sensor with the split and scaling of all sensors."""
    return {**own, **{section: whole[section] for section in ("split", "scale")}}


def prepare_sensors(
    use: PreparationOptions,
    configuration: Mapping[str, Any],
    prepare_one: Callable[[dict[str, Any], list[Recording]], WindowSet],
    recordings: Mapping[str, Iterable[Recording]],
) -> SensorWindows:
    """Prepare the recordings of each sensor, and align and split their windows.

    `configuration` is that of all sensors; `prepare_one` prepares a sensor with its options.
    """
    channels = channels_of_sensors(use.channels, recordings)
    given = {name: list(recordings[name]) for name in channels}
    for name, own in given.items():
        if not own:
            raise RecordingError(f"sensor {name!r} has no recording.")
    check_recordings({k: [one.recording_id for one in v] for k, v in given.items()}, use.missing)
    rates = {
        name: float(np.median([one.median_sample_rate_hz for one in own]))
        for name, own in given.items()
    }
    slop_s = slop_of(use, rates)
    sets: dict[str, WindowSet] = {}
    for name, own in given.items():
        with noting(f"in the recordings of sensor {name!r}"):
            one = options_of_sensor(replace(use, channels=channels[name]), slop_s)
            sets[name] = prepare_one(one, own)
    aligned = align_sensors(sets, slop_s=slop_s, missing=use.missing or "error")
    groups, ids = aligned.groups, aligned.recording_id
    assert groups is not None
    assert ids is not None
    split, facts = split_rows(aligned.y, groups, ids, np.asarray(aligned.present.all(axis=1)), use)
    if subjects := facts.get("split", {}).get("subjects"):
        warn_caller(subjects)
    return SensorWindows(
        {
            name: replace(
                one,
                split=split,
                provenance={
                    **one.provenance,
                    **facts,
                    "configuration": with_split_of(one.provenance["configuration"], configuration),
                },
            )
            for name, one in aligned.sensors.items()
        }
    )
