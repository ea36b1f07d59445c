"""Read files in Edge Impulse's acquisition format, in JSON or CBOR.

See https://docs.edgeimpulse.com/tools/specifications/data-acquisition/json-cbor for the format.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError, RecordingError
from sensorseq.readers.columns import RATE
from sensorseq.recording import column_names
from sensorseq.time_names import is_time_name

LABELS = "info.labels"
"""The file with the labels of an exported dataset, in its folder."""
_KEYS = (b"payload", b"interval_ms", b"values")
_IN_PAYLOAD = ("sensors", "interval_ms", "values")
_HEAD_BYTES = 1 << 16  # in which an acquisition names its keys


def is_acquisition(path: Path) -> bool:
    """Test whether a JSON or CBOR file begins as one in this format; others are no recordings."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return all(key in head for key in _KEYS)


def read_acquisition(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the values of each sensor by name with their rate, and the units."""
    if path.suffix.lower() == ".json":
        content = json.loads(path.read_bytes())
    else:
        try:
            import cbor2
        except ImportError as error:
            raise EnvironmentProblemError(
                f'{path}: CBOR files need a package: pip install "sensorseq[edge]" ({error}).'
            ) from error
        content = cbor2.loads(path.read_bytes())
    payload = content.get("payload") if isinstance(content, dict) else None
    if not isinstance(payload, dict):
        raise RecordingError(f"{path}: has no payload as in Edge Impulse's acquisition format.")
    if lacking := [key for key in _IN_PAYLOAD if payload.get(key) in (None, [])]:
        raise RecordingError(f"{path}: its payload has no {lacking[0]}.")
    sensors, interval_ms, values = (payload[key] for key in _IN_PAYLOAD)
    if not (isinstance(interval_ms, int | float) and interval_ms > 0):
        raise RecordingError(f"{path}: interval_ms is {interval_ms!r}, not a positive number.")
    names = column_names(str(one.get("name", "")) for one in sensors)
    for name in names:
        if not name or is_time_name(name) or name == RATE:
            raise RecordingError(f"{path}: a sensor is named {name!r}; name it by its quantity.")
    if len(sensors) == 1:  # its values may stand in the list by themselves
        values = [row if isinstance(row, list) else [row] for row in values]
    for number, row in enumerate(values, start=1):
        if not isinstance(row, list) or len(row) != len(sensors):
            raise RecordingError(
                f"{path}, row {number} of values: has not one number for each of the"
                f" {len(sensors)} sensors."
            )
    table = np.array(values, np.float64).reshape(-1, len(sensors))
    units = {name: str(one.get("units") or "") for name, one in zip(names, sensors, strict=True)}
    arrays = dict(zip(names, table.T, strict=True))
    return {**arrays, RATE: np.array(1000 / interval_ms)}, units


def exported_labels(root: Path) -> dict[str, str | None]:
    """Return the label of each file that an exported dataset lists, by its path below `root`.

    The folder may be one of its parts. Files without a label have None.
    """
    table, part = root / LABELS, ""
    if not table.is_file():
        table, part = root.resolve().parent / LABELS, f"{root.resolve().name}/"
    if not table.is_file():
        return {}
    try:
        listed = {one["path"]: one["label"] for one in json.loads(table.read_bytes())["files"]}
        kinds = {path: label["type"] for path, label in listed.items()}
        labels = {
            path.removeprefix(part): str(label.get("label") or "") or None
            for path, label in listed.items()
            if path.startswith(part)
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise RecordingError(
            f"{table}: cannot be read as the labels of Edge Impulse ({error})."
        ) from error
    odd = next((path for path, kind in kinds.items() if kind not in ("label", "unlabeled")), None)
    if odd:
        raise RecordingError(
            f"{table}: {odd} has {kinds[odd]!r} labels; give each part of it in a manifest."
        )
    return labels
