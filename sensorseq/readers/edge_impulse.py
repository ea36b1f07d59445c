"""Read files in Edge Impulse's acquisition format, in JSON or CBOR.

See https://docs.edgeimpulse.com/tools/specifications/data-acquisition/json-cbor for the format.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError, RecordingError

ACQUISITION_SUFFIXES = (".json", ".cbor")
LABELS = "info.labels"
"""The file with the labels of an exported dataset, in its folder."""
_KEYS = (b"payload", b"interval_ms", b"values")
_HEAD_BYTES = 1 << 16  # in which an acquisition names its keys


def is_acquisition(path: Path) -> bool:
    """Test whether a JSON or CBOR file begins as one in this format; others are no recordings."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
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
    sensors, interval_ms = payload["sensors"], float(payload["interval_ms"])
    if not interval_ms > 0:
        raise RecordingError(f"{path}: interval_ms is {interval_ms:g}, so it is no time series.")
    values = payload["values"]
    if len(sensors) == 1:  # its values may stand in the list by themselves
        values = [row if isinstance(row, list) else [row] for row in values]
    for number, row in enumerate(values, start=1):
        if not isinstance(row, list) or len(row) != len(sensors):
            raise RecordingError(
                f"{path}, row {number} of values: has not one number for each of the"
                f" {len(sensors)} sensors."
            )
    table = np.array(values, np.float64).reshape(-1, len(sensors))
    arrays = {one["name"]: column for one, column in zip(sensors, table.T, strict=True)}
    units = {one["name"]: str(one.get("units", "")) for one in sensors}
    return {**arrays, "sample_rate_hz": np.array(1000 / interval_ms)}, units


def exported_labels(root: Path) -> dict[str, str]:
    """Return the label of each file that an exported dataset lists, by its path below `root`."""
    table = root / LABELS
    if not table.is_file():
        return {}
    try:
        listed = json.loads(table.read_bytes())["files"]
        return {one["path"]: one["label"]["label"] for one in listed}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise RecordingError(
            f"{table}: cannot be read as the labels of Edge Impulse ({error}); correct or remove"
            " it."
        ) from error
