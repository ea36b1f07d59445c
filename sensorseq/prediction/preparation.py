"""How the windows of a fit were prepared, and whether others are like them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.frames import check_same_channels
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.preprocessing.scale.keyed import KeyedScaler
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.sequence.learn import LearnedDwell
from sensorseq.windows import WindowSet


class _Learned(TypedDict, total=False):
    dwell: LearnedDwell  # if recordings have several classes


class Preparation(_Learned):
    """The preparation of a fit's windows, as stored in `preparation_` and in model files."""

    channels: list[str]
    sample_rate_hz: float | None
    n_timesteps: int
    configuration: dict[str, Any] | None  # see `PreparationOptions.recorded`
    recordings: dict[str, list[str]]  # file digests of each recording seen, by its id
    scaled: str | None
    input_channels: list[str] | None
    resampled_to_hz: float | None


def check_preparation(preparation: dict[str, Any] | None) -> Preparation | None:
    """Return the preparation in a model file; raise `LookupError` or `TypeError` if malformed."""
    if preparation is None:
        return None
    kinds: dict[str, Any] = {
        "channels": list,
        "sample_rate_hz": (float, int, type(None)),
        "n_timesteps": int,
        "configuration": (dict, type(None)),
        "recordings": dict,
    }
    if "dwell" in preparation:
        kinds["dwell"] = dict
    for key, kind in kinds.items():
        if not isinstance(preparation[key], kind):
            raise TypeError(f"preparation: {key} is {preparation[key]!r}")
    recordings = preparation["recordings"]
    digests = [digest for each in recordings.values() for digest in list(each)]
    texts = [*preparation["channels"], *recordings, *digests]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("preparation: channels, recordings and their digests are text")
    return cast(Preparation, preparation)


def recording_digests(windows: WindowSet) -> dict[str, list[str]]:
    """Return the file digests of each recording, if its provenance has them."""
    files = Provenance.of(windows.provenance).files
    return {recording_id: [file.sha256 for file in own] for recording_id, own in files.items()}


def seen_recordings(preparation: Preparation | None, windows: WindowSet) -> list[str]:
    """Return the ids of the recordings in `windows` that a model was trained on.

    They are recognized by the digests of their files, regardless of names, or by their id if either
    side has no digest.
    """
    if preparation is None or windows.recording_id is None:
        return []
    seen: Mapping[str, list[str]] = preparation["recordings"]
    digests_seen = {digest for digests in seen.values() for digest in digests}
    known = recording_digests(windows)
    found = []
    for name in np.unique(windows.recording_id).tolist():
        own = known.get(str(name), [])
        by_id = str(name) in seen and not (own and seen[str(name)])
        if by_id or digests_seen.intersection(own):
            found.append(str(name))
    return found


def tell_apart(
    windows: WindowSet, scaler: Scaler | KeyedScaler | None, preparation: Preparation | None
) -> WindowSet:
    """Rename recordings that were not in training, if the scaler depends on names.

    A new recording must not be scaled with the statistics of an old one of the same name.
    """
    if not isinstance(scaler, KeyedScaler) or preparation is None or windows.recording_id is None:
        return windows
    ids = np.asarray(windows.recording_id).astype(np.str_)
    return name_anew(windows, ~np.isin(ids, seen_recordings(preparation, windows)))


def name_anew(windows: WindowSet, is_new: NDArray[np.bool_]) -> WindowSet:
    """Rename recordings to names for which no scaler was fitted."""
    ids = np.asarray(windows.recording_id).astype(np.str_)
    names = np.where(is_new, np.char.add(ids, " (not seen)"), ids)
    groups = windows.groups
    if groups is not None:
        # A group that is not the recording's name may be a robot or day that the model knows.
        groups = np.where(np.asarray(groups) == ids, names, groups)
    return replace(windows, recording_id=names, groups=groups)


def check_same_preparation(
    preparation: Preparation | None, windows: WindowSet, name: str = "X"
) -> None:
    """Raise if windows differ in channels or rate from those a model was trained on."""
    if preparation is None:
        return
    check_same_channels(preparation["channels"], windows.channels, name)
    rate, own = preparation["sample_rate_hz"], windows.sample_rate_hz
    if rate is not None and own is not None and abs(own / rate - 1) > 1e-6:
        raise InputError(
            f"{name} is sampled at {own:g} Hz, but the model was trained on {rate:g} Hz; prepare"
            f" with sample_rate_hz={rate:g}."
        )
