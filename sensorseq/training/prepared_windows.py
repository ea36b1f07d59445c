"""Read prepared windows from a file, augment and scale them as configured, and describe them.

A model stores the description of its windows. With the description, raw recordings can be prepared
in the same way, and recordings that the model was trained on are recognized.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError, SplitError, WindowError, warn_caller
from sensorseq.io.prepared import PreparedFile, read_sensor_windows, sensors_in
from sensorseq.io.stored_windows import StoredSamples, buffer_bytes
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.preparation import Preparation, recording_digests
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.preprocessing.scale import (
    PHYSICAL,
    Block,
    ChannelMoments,
    Scaler,
    fit_scaler_to_blocks,
)
from sensorseq.preprocessing.split import check_times, near_in_time
from sensorseq.sensor_windows import AnyWindows
from sensorseq.sequence.learn import LearnedDwell, learn_dwell
from sensorseq.windows import PARTS, WindowSet

_DEFAULT_SCALE = "standard"  # the default of the estimator and of a preparation


def read_training_file(
    path: str | os.PathLike[str],
) -> tuple[WindowSet, Scaler | None]:
    """Return the windows of a prepared file for a fit, and the scaler stored with them.

    If the file has a split, its test windows are not read. If the file has `sample_indices`, these
    select the training windows and balance the classes. If the windows exceed `buffer_bytes`, they
    stay in the file.
    """
    with PreparedFile(path) as file:
        if file.stored.y is None:
            raise WindowError(
                f"{path}: the windows have no labels; prepare labeled recordings to train on."
            )
        scaler = None if file.scaler is None else Scaler.from_dict(file.scaler)
        split = file.stored.split
        if split is None:
            return _take(file, np.arange(len(file))), scaler
        train = np.flatnonzero(split == "train")
        if file.sample_indices is not None:
            train = file.sample_indices
        if not len(train):
            raise WindowError(
                f"{path}: the split has no train part, so there is nothing to train on."
            )
        return _take(file, np.concatenate([train, file.rows("validation")])), scaler


def read_prepared(path: str | os.PathLike[str]) -> AnyWindows:
    """Return all windows of a prepared file; the samples of a large file stay in the file.

    The windows of several sensors are returned in memory.
    """
    if sensors := sensors_in(path):
        return read_sensor_windows(path, sensors)
    with PreparedFile(path) as file:
        return _take(file, np.arange(len(file)))


def _take(file: PreparedFile, rows: NDArray[np.int64]) -> WindowSet:
    windows = file.stored.take(rows)
    return windows if windows.X.nbytes > buffer_bytes() else file.take(rows)


def channel_sd(pieces: Iterable[Windows]) -> NDArray[np.float64]:
    """Return the standard deviation of each channel."""
    moments = ChannelMoments()
    for piece in pieces:
        moments.add(piece.X, piece.lengths)
    return moments.statistics().deviation


def without_test(windows: WindowSet) -> WindowSet:
    """Return the set with test windows zeroed, not removed, so that row numbers do not change."""
    is_test = None if windows.split is None else windows.split == "test"
    is_stored = isinstance(windows.X, StoredSamples)  # a stored set lacks its test windows
    if is_test is None or is_stored or not is_test.any():
        return windows
    X = windows.X.copy()
    X[is_test] = 0.0
    lengths = np.where(is_test, windows.n_timesteps, np.asarray(windows.lengths))
    return replace(windows, X=X, lengths=lengths)


def refuse_scaled(windows: WindowSet, scale: str | None, name: str = "X") -> None:
    """Raise an error if windows that are marked as scaled would be scaled again."""
    kind = Provenance.of(windows.provenance).scaled
    if kind is not None and scale is not None:
        raise InputError(
            f"{name} is already scaled ({kind!r} in its provenance) and would be scaled twice;"
            " give the unscaled windows, or set scale=None."
        )


def warn_of_another_scale(windows: WindowSet | None, kind: str | None) -> None:
    """Warn if the estimator's default replaces the scaling for which windows were prepared."""
    configured = None if windows is None else PreparationOptions.recorded(windows.provenance).scale
    if kind == _DEFAULT_SCALE and configured not in (None, _DEFAULT_SCALE):
        warn_caller(
            f"the windows were prepared with scale={configured!r}, but the estimator fits its own"
            f" scale={kind!r}; set scale={configured!r} to use that scaling."
        )


def fit_requested_scaler(
    windows: WindowSet | None, pieces: Callable[[], Iterable[Windows]], kind: str | None
) -> Scaler | None:
    """Fit the scaler requested by an estimator's `scale` and the windows' configuration.

    `windows` is the set given to `fit`, or None for an array; `pieces` yields the cropped training
    windows. If the windows were prepared for the same `kind`, their ``rated`` values, which are
    scaled to 1, are used.
    """
    if kind is None:
        return None
    configured = PreparationOptions.recorded({} if windows is None else windows.provenance)
    rated = configured.rated if configured.scale == kind else None
    if kind == PHYSICAL and rated is None:
        raise ArgumentError(
            f"scale={PHYSICAL!r} needs the rated value of each channel, which X does not have;"
            " train on windows that were prepared with rated values."
        )
    channels = None if windows is None else windows.channels

    def blocks() -> Iterable[Block]:
        return ((piece.X, piece.lengths) for piece in pieces())

    return fit_scaler_to_blocks(blocks, kind, rated=rated, channels=channels)


def check_parts(windows: WindowSet, groups: NDArray[Any] | None) -> None:
    """Raise a `SplitError` if a split does not separate its parts.

    A split by recording must separate recordings. In a split by time with known times, no window
    may overlap a window of another part. All other splits must separate groups.
    """
    split = np.asarray(windows.split)
    by = PreparationOptions.recorded(windows.provenance).split_by
    times = windows.recording_id, windows.start_s, windows.sample_rate_hz
    if by != "time" or any(value is None for value in times):
        check_stored_split(split, windows.recording_id if by == "recording" else groups)
        return
    recording, start_s = check_times(*times[:2])  # type: ignore[arg-type]
    window_s = windows.n_timesteps / float(windows.sample_rate_hz or 1)
    for part in PARTS:
        overlaps = near_in_time(recording, start_s, split == part, window_s) & (split != part)
        if overlaps.any():
            row = int(np.argmax(overlaps))
            raise SplitError(
                f"X has a split by time, and window {row} of recording"
                f" {recording.tolist()[row]!r} ({split[row]}) overlaps a {part} window"
                f" ({int(overlaps.sum())} such windows), so scores would be inflated. Leave out"
                " windows between the parts; see sensorseq.preprocessing.split.split_by_time."
            )


def check_stored_split(split: NDArray[Any], groups: NDArray[Any] | None) -> None:
    """Raise a `SplitError` if a stored split puts windows of one group into several parts."""
    if groups is None:
        return
    parts_of: dict[Any, set[str]] = {}
    for group, part in zip(groups.tolist(), split.tolist(), strict=True):
        parts_of.setdefault(group, set()).add(part)
    torn = {group: parts for group, parts in parts_of.items() if len(parts) > 1}
    if torn:
        group, parts = next(iter(torn.items()))
        listed = " and ".join(part for part in PARTS if part in parts)
        raise SplitError(
            f"X has a split with group {group!r} in {listed} ({len(torn)} such groups), so scores"
            " would be inflated. Split by group; see"
            " sensorseq.preprocessing.split.split_by_group."
        )


def describe_preparation(*sets: WindowSet, with_dwell: bool = False) -> Preparation:
    """Describe the preparation of a fit's windows, and list the recordings of these windows.

    `sets` are the training set and, if it was given separately, the validation set. All windows
    count as seen, except the test windows of the training set, which `fit` does not use. If the
    digests of a recording are unknown, their list is empty. If `with_dwell` is true, the labels
    must be classes, and the duration of each class is learned if possible.
    """
    first = sets[0]
    seen: dict[str, list[str]] = {}
    for windows in sets:
        digests = recording_digests(windows)
        if windows.recording_id is None:
            continue
        whole = windows is not first or windows.split is None
        rows = slice(None) if whole else np.asarray(windows.split) != "test"
        for recording_id in np.unique(windows.recording_id[rows]).tolist():
            seen[str(recording_id)] = digests.get(str(recording_id), [])
    provenance = Provenance.of(first.provenance)
    preparation: Preparation = {
        "channels": list(first.channels),
        "sample_rate_hz": first.sample_rate_hz,
        "n_timesteps": first.n_timesteps,
        "configuration": provenance.configuration,
        "scaled": provenance.scaled,
        "input_channels": provenance.input_channels,
        "recordings": seen,
    }
    if provenance.held is not None:
        preparation["held"] = provenance.held
    if provenance.in_packets:
        preparation["in_packets"] = True
    if with_dwell and (dwell := _learn_dwell(first)) is not None:
        preparation["dwell"] = dwell
    return preparation


def _learn_dwell(windows: WindowSet) -> LearnedDwell | None:
    """Learn the durations of classes from the labels outside the test part."""
    y, start, recording = windows.y, windows.start_s, windows.recording_id
    if y is None or start is None or recording is None or not windows.sample_rate_hz:
        return None
    if np.ndim(y) != 1:
        return None
    is_used = np.full(len(windows), True)
    if windows.split is not None:
        is_used = np.asarray(windows.split) != "test"
    classes, index = np.unique(np.asarray(y)[is_used], return_inverse=True)
    start_s, ids = np.asarray(start)[is_used], np.asarray(recording)[is_used]
    window_s = windows.n_timesteps / windows.sample_rate_hz
    return learn_dwell(index, classes.tolist(), start_s, window_s, ids)
