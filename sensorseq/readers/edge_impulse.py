"""Read files in Edge Impulse's acquisition format, in JSON or CBOR.

See https://docs.edgeimpulse.com/tools/specifications/data-acquisition/json-cbor for the format.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_unpacked
from sensorseq.errors import EnvironmentProblemError, RecordingError, refusing
from sensorseq.readers.columns import RATE
from sensorseq.recording import column_names
from sensorseq.stamps.names import is_time_name

LABELS = "info.labels"
"""Name of the file with the labels of an exported dataset, in the dataset's folder."""
_KEYS = (b"payload", b"interval_ms", b"values")
_IN_PAYLOAD = ("sensors", "interval_ms", "values")
_HEAD_BYTES = 1 << 16  # the keys of an acquisition are within this many bytes


def is_acquisition(path: Path) -> bool:
    """Return True if a JSON or CBOR file may be a recording, judging by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return all(key in head for key in _KEYS)


def read_acquisition(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the values and the units by sensor name; the sample rate is added to the values."""
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
        raise RecordingError(f"{path}: has no payload in Edge Impulse's acquisition format.")
    if lacking := [key for key in _IN_PAYLOAD if payload.get(key) in (None, [])]:
        raise RecordingError(f"{path}: its payload has no {lacking[0]}.")
    sensors, interval_ms, values = (payload[key] for key in _IN_PAYLOAD)
    if not (isinstance(interval_ms, int | float) and interval_ms > 0):
        found = interval_ms if isinstance(interval_ms, int | float | str) else "a list or map"
        raise RecordingError(f"{path}: interval_ms is {found!r}, not a positive number.")
    # A list in CBOR may contain the same list many times; only numbers and strings are converted.
    given = [_text(sensor.get("name")).strip() for sensor in sensors]
    check_unpacked(path, 8 * len(values) * len(sensors), path.stat().st_size)
    for name in given:
        if not name or is_time_name(name) or name == RATE:
            raise RecordingError(
                f"{path}: a sensor is named {name!r}; name it after the measured quantity."
            )
    if len(sensors) == 1:  # the list may contain the values of a single sensor directly
        values = [row if isinstance(row, list) else [row] for row in values]
    for number, row in enumerate(values, start=1):
        if not isinstance(row, list) or len(row) != len(sensors):
            raise RecordingError(
                f"{path}, row {number} of values: must contain one number for each of the"
                f" {len(sensors)} sensors."
            )
    table = np.fromiter(chain.from_iterable(values), np.float64).reshape(-1, len(sensors))
    names = column_names(given)
    units = {name: _text(sensor.get("units")) for name, sensor in zip(names, sensors, strict=True)}
    arrays = dict(zip(names, table.T, strict=True))
    return {**arrays, RATE: np.array(1000 / interval_ms)}, units


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int | float | str) else ""


def exported_labels(root: Path) -> dict[str, str | None]:
    """Return the label of each file in an exported dataset, by the file's path below `root`.

    `root` may also be a folder in the dataset. The label of an unlabeled file is None.
    """
    table, part = root / LABELS, ""
    if not table.is_file():
        table, part = root.resolve().parent / LABELS, f"{root.resolve().name}/"
    if not table.is_file():
        return {}
    with refusing(RecordingError, f"{table}: cannot be read as a list of labels from Edge Impulse"):
        listed = {file["path"]: file["label"] for file in json.loads(table.read_bytes())["files"]}
        kinds = {path: label["type"] for path, label in listed.items()}
        labels = {
            path.removeprefix(part): str(label.get("label") or "") or None
            for path, label in listed.items()
            if path.startswith(part)
        }
    several = next((p for p, kind in kinds.items() if kind not in ("label", "unlabeled")), None)
    if several:
        raise RecordingError(
            f"{table}: the labels of {several} are of type {kinds[several]!r}; list the parts of"
            " this file in a manifest."
        )
    return labels
