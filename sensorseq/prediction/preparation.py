"""How the windows of a fit were prepared, and whether others are like them."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import numpy as np

from sensorseq.errors import InputError
from sensorseq.prediction.frames import check_same_channels
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.sequence.learn import LearnedDwell
from sensorseq.windows import WindowSet


class _Learned(TypedDict, total=False):
    dwell: LearnedDwell  # if recordings have several classes
    in_packets: bool  # True if samples came in packets


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


def is_normalized(configuration: Mapping[str, Any] | None) -> bool:
    """Test whether a preparation scales each recording by its own statistics."""
    return bool(((configuration or {}).get("scale") or {}).get("normalize"))


def refuse_normalized(preparation: Mapping[str, Any] | None, what: str) -> None:
    """Raise an InputError if a model takes whole recordings, which `what` does not have."""
    if preparation is not None and is_normalized(preparation["configuration"]):
        raise InputError(
            f"normalize='recording' needs whole recordings, which {what} does not have: prepare"
            " without it and train again."
        )


def check_same_preparation(
    preparation: Preparation | None, windows: WindowSet, name: str = "X"
) -> None:
    """Raise if windows differ in channels, rate or normalization from those of a model's fit."""
    if preparation is None:
        return
    check_same_channels(preparation["channels"], windows.channels, name)
    rate, own = preparation["sample_rate_hz"], windows.sample_rate_hz
    if rate is not None and own is not None and abs(own / rate - 1) > 1e-6:
        raise InputError(
            f"{name} is sampled at {own:g} Hz, but the model was trained on {rate:g} Hz; prepare"
            f" with sample_rate_hz={rate:g}."
        )
    known = preparation["configuration"], Provenance.of(windows.provenance).configuration
    if None not in known and len({*map(is_normalized, known)}) > 1:
        raise InputError(
            f"{name} and the training windows differ in normalize='recording'; prepare both with it"
            " or both without."
        )
