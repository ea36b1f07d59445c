"""A checkpoint on disk: a file of the form of a model file, replaced as a whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sensorseq.errors import CheckpointError
from sensorseq.io.model_file import Kind, pack, unpack

_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors
_CHECKPOINT = Kind(
    "sensorseq.checkpoint",
    1,
    "checkpoint",
    CheckpointError,
    "Delete it to start a new training, or give checkpoint= another name.",
    "give checkpoint= another name.",
)


def pack_checkpoint(arrays: Mapping[str, NDArray[Any]], description: str) -> bytes:
    """Return the content of a checkpoint file; `description` is JSON text."""
    return pack(_CHECKPOINT, arrays, description)


def read_checkpoint(path: Path) -> tuple[dict[str, NDArray[Any]], Any]:
    """Return the arrays and the description of a checkpoint file.

    A `CheckpointError` if the file is empty, truncated, damaged, from another program or of another
    version.
    """
    return unpack(_CHECKPOINT, path)


def check_replaceable(path: Path) -> None:
    """Raise if `path` is not a checkpoint, so that a checkpoint must not replace it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size) if size <= _MAX_HEADER_BYTES else b""
    try:
        found = (json.loads(header).get("__metadata__") or {}).get("format")
    except (ValueError, AttributeError, RecursionError):
        found = None
    if found != _CHECKPOINT.format and path.stat().st_size:
        raise CheckpointError(
            f"{path} exists and is not a checkpoint, so it will not be overwritten."
            f" {_CHECKPOINT.way_out}"
        )
