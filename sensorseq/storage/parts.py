"""Part files: the windows of one recording each, to be merged into a prepared file."""

import errno
import fcntl
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.atomic import replacing
from sensorseq.errors import PreparedFileError
from sensorseq.storage._hdf5 import cannot_write

_SUFFIX = ".part.npz"


class PartFolder:
    """The folder next to a prepared file that holds its finished parts; one run at a time.

    Use as a context manager. On exit, an empty folder is removed; one with parts is kept for
    resuming, until `discard`. Without `keep`, the parts of an earlier run are removed.
    """

    def __init__(self, output: Path, keep: bool) -> None:
        self.path = output.with_name(output.name + ".parts")
        self._output = output
        self._keep = keep

    def __enter__(self) -> "PartFolder":
        if self._output.is_dir():
            raise PreparedFileError(f"{self._output}: is a folder; give a file name.")
        try:
            self.path.mkdir(exist_ok=True)
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as problem:
            raise cannot_write(self._output, problem) from problem
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            os.close(self._descriptor)
            raise PreparedFileError(
                f"{self._output}: another run is preparing this file; wait for it, or choose"
                " another name."
            ) from problem
        for file in self.path.iterdir():
            if file.name.endswith(".tmp") or (file.name.endswith(_SUFFIX) and not self._keep):
                file.unlink()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.path.exists() and not any(self.path.iterdir()):
            self.path.rmdir()
        os.close(self._descriptor)

    def path_of(self, recording_id: str) -> Path:
        """Return the name of a recording's part."""
        digest = hashlib.sha256(recording_id.encode()).hexdigest()[:32]
        return self.path / f"{digest}{_SUFFIX}"

    def discard(self) -> None:
        """Remove all parts, whose content the prepared file now holds."""
        for file in self.path.iterdir():
            if file.name.endswith(_SUFFIX):
                file.unlink()


def write_part(
    path: Path,
    key: str,
    facts: dict[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a part; the file appears when it is complete.

    A part with another `key`, which identifies the inputs and arguments, is not reused. The name
    ``"facts"`` is reserved.
    """
    text = json.dumps({"key": key, "facts": facts}, allow_nan=False).encode()
    memory = io.BytesIO()
    all_arrays: dict[str, Any] = {"facts": np.frombuffer(text, np.uint8), **arrays}
    np.savez(memory, **all_arrays)
    try:
        with replacing(path) as temporary, temporary.open("xb") as file:
            # Not flushed to disk: its checksums reveal a part torn by a power failure.
            file.write(memory.getbuffer())
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def read_part_facts(path: Path, key: str) -> dict[str, Any] | None:
    """Return the facts of a complete part with this key, else None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            stored = json.loads(bytes(part["facts"]))
            for name in part.files:  # reading all of it checks the sums in the file
                part[name]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
    if not isinstance(stored, dict) or stored.get("key") != key:
        return None
    facts: dict[str, Any] = stored["facts"]
    return facts


def read_part(path: Path, name: str) -> NDArray[Any]:
    """Return one array of a part."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
        return np.asarray(part[name])
