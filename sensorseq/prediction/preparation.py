"""The preparation of a fit's windows, and checks that other windows were prepared identically."""

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import numpy as np

from sensorseq.errors import InputError
from sensorseq.io.model_file import check_texts
from sensorseq.prediction.frames import check_same_channels
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.sequence.learn import LearnedDwell
from sensorseq.windows import WindowSet


class _Learned(TypedDict, total=False):
    dwell: LearnedDwell  # present if recordings have several classes
    in_packets: bool  # True if samples came in packets
    held: list[str]  # channels whose values were held until the next one


class Preparation(_Learned):
    """The preparation of a fit's windows, as stored in `preparation_` and in model files."""

    channels: list[str]
    sample_rate_hz: float | None
    n_timesteps: int
    configuration: dict[str, Any] | None  # see `PreparationOptions.recorded`
    recordings: dict[str, list[str]]  # digests of the files of each training recording, by id
    scaled: str | None
    input_channels: list[str] | None


def check_preparation(preparation: dict[str, Any] | None) -> Preparation | None:
    """Return a model file's preparation, or raise a `LookupError` or `TypeError` if malformed."""
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
    digests = [digest for of_recording in recordings.values() for digest in list(of_recording)]
    check_texts("preparation: channels", preparation["channels"])
    check_texts("preparation: held", preparation.get("held", []))
    check_texts("preparation: recordings", [*recordings, *digests])
    return cast(Preparation, preparation)


def recording_digests(windows: WindowSet) -> dict[str, list[str]]:
    """Return the file digests of each recording if the provenance contains them."""
    files = Provenance.of(windows.provenance).files
    return {
        recording_id: [file.sha256 for file in of_recording]
        for recording_id, of_recording in files.items()
    }


def seen_recordings(preparation: Preparation | None, windows: WindowSet) -> list[str]:
    """Return the ids of the recordings in `windows` that a model was trained on.

    A recording is recognized by the digests of its files, whatever its name is, or by its id if the
    training windows or `windows` have no digests.
    """
    if preparation is None or windows.recording_id is None:
        return []
    seen: Mapping[str, list[str]] = preparation["recordings"]
    digests_seen = {digest for digests in seen.values() for digest in digests}
    digests_of = recording_digests(windows)
    ids = []
    for recording_id in map(str, np.unique(windows.recording_id).tolist()):
        digests = digests_of.get(recording_id, [])
        by_id = recording_id in seen and not (digests and seen[recording_id])
        if by_id or digests_seen.intersection(digests):
            ids.append(recording_id)
    return ids


def is_normalized(configuration: Mapping[str, Any] | None) -> bool:
    """Test whether a preparation scales each recording by its own statistics."""
    return bool(((configuration or {}).get("scale") or {}).get("normalize"))


def refuse_normalized(preparation: Mapping[str, Any] | None, what: str) -> None:
    """Raise an InputError if a model needs complete recordings, which `what` does not have."""
    if preparation is not None and is_normalized(preparation["configuration"]):
        raise InputError(
            f"normalize='recording' needs complete recordings, which {what} does not have; prepare"
            " without normalize='recording' and train again."
        )


def check_same_preparation(
    preparation: Preparation | None, windows: WindowSet, name: str = "X"
) -> None:
    """Raise an error if windows and training windows differ in channels, rate or `normalize`."""
    if preparation is None:
        return
    check_same_channels(preparation["channels"], windows.channels, name)
    trained_hz, rate_hz = preparation["sample_rate_hz"], windows.sample_rate_hz
    if trained_hz is not None and rate_hz is not None and abs(rate_hz / trained_hz - 1) > 1e-6:
        raise InputError(
            f"{name} is sampled at {rate_hz:g} Hz, but the model was trained on {trained_hz:g} Hz;"
            f" prepare with sample_rate_hz={trained_hz:g}."
        )
    both = preparation["configuration"], Provenance.of(windows.provenance).configuration
    if None not in both and len({*map(is_normalized, both)}) > 1:
        raise InputError(
            f"{name} and the training windows differ in normalize='recording'; prepare both with it"
            " or both without it."
        )
