"""Part files: each contains the windows of one recording, and all are merged at the end."""

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import plural
from sensorseq.io.atomic import locking, permissions_of, replacing
from sensorseq.io.blocks import blocks
from sensorseq.io.hdf5_file import cannot_write

_SUFFIX = ".part"
_BLOCK_BYTES = 1 << 20  # number of bytes read at a time to verify a part


class PartFolder:
    """The folder with the finished parts of a prepared file, locked by one run.

    The folder has the name of the prepared file with a suffix. Use it as a context manager. On
    exit, an empty folder is removed. A folder with parts is kept for resuming until `discard` is
    called, and the message of an error that ends the run mentions the folder. Without `keep`, parts
    of an earlier run are removed; unfinished files of a killed run are always removed.
    """

    path: Path

    def __init__(self, output: Path, keep: bool) -> None:
        self._output = output
        self._keep = keep
        self._is_done = False

    def __enter__(self) -> "PartFolder":
        with ExitStack() as stack:
            try:
                file = stack.enter_context(locking(self._output, run=True))
                self.path = file.with_name(file.name + ".parts").absolute()
                self.path.mkdir(exist_ok=True)
                if mode := permissions_of(file):  # whoever can read the file can read its parts
                    self.path.chmod(mode | (mode & 0o444) >> 2 | 0o700)
                if not os.access(self.path, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                # No other run uses these files, because the output is locked.
                self._remove(".tmp", *([] if self._keep else [_SUFFIX]))
            except OSError as problem:
                raise cannot_write(self._output, problem) from problem
            self._lock = stack.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None and (n_parts := self._count_parts()):
            error.add_note(
                f"{self.path} keeps {plural(n_parts, 'finished recording')}; resume=True continues"
                " from there, and a run without resume removes them"
            )
        with suppress(OSError):  # a folder that is not empty is kept for the next run
            if self._is_done:  # also removes files that an abandoned worker wrote after `discard`
                self._remove(".tmp", ".lock", _SUFFIX)
            self.path.rmdir()
        self._lock.close()

    def _remove(self, *suffixes: str) -> None:
        for file in self.path.iterdir():
            if file.name.endswith(suffixes):
                file.unlink(missing_ok=True)

    @property
    def has_parts(self) -> bool:
        """True if an earlier run left parts that can be reused."""
        return self._count_parts() > 0

    def _count_parts(self) -> int:
        return sum(1 for _ in self.path.glob(f"*{_SUFFIX}"))

    def path_of(self, recording_id: str) -> Path:
        """Return the path of a recording's part."""
        digest = hashlib.sha256(recording_id.encode()).hexdigest()[:32]
        return self.path / f"{digest}{_SUFFIX}"

    def discard(self) -> None:
        """Remove all parts, because the prepared file now contains them."""
        self._is_done = True
        with suppress(OSError):
            self._remove(_SUFFIX)


def write_part(
    path: Path,
    key: str,
    facts: dict[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a part, which gets its name only when it is complete.

    `key` identifies the inputs and arguments; a part with a different key is not reused. The file
    consists of its checksum, the length of a JSON text, the text itself, and the arrays.
    """
    places, at = {}, 0
    for name, array in arrays.items():
        places[name] = [array.dtype.str, array.shape, at]
        at += array.nbytes
    header = {"key": key, "facts": facts, "arrays": places}
    text = json.dumps(header, allow_nan=False).encode()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            # Not flushed to disk: the checksum detects a part that a power failure truncated.
            file.write(bytes(4))
            checksum = 0
            for piece in _pieces(text, arrays):
                checksum = zlib.crc32(piece, checksum)
                file.write(piece)
            file.seek(0)
            file.write(checksum.to_bytes(4, "little"))
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def _pieces(text: bytes, arrays: Mapping[str, NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """Yield the content that follows the checksum of a part."""
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for begin, stop in blocks(len(content), content, step=_BLOCK_BYTES):
            yield content[begin:stop].data


def read_part_facts(path: Path, key: str) -> dict[str, Any] | None:
    """Return the facts of a complete part with this key, or None."""
    try:
        with path.open("rb") as file:
            expected, checksum = file.read(4), 0
            while block := file.read(_BLOCK_BYTES):
                checksum = zlib.crc32(block, checksum)
            if expected != checksum.to_bytes(4, "little"):
                return None
            stored = _read_header(file)
    except (OSError, ValueError):
        return None
    facts: dict[str, Any] | None = stored["facts"] if stored["key"] == key else None
    return facts


def read_part(path: Path, name: str, begin: int = 0, stop: int | None = None) -> NDArray[Any]:
    """Return an array of a part, or the rows `begin` to `stop - 1` of the array."""
    with path.open("rb") as file:
        dtype, shape, at = _read_header(file)["arrays"][name]
        begin, stop, _ = slice(begin, stop).indices(shape[0])
        row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        file.seek(at + begin * row_bytes, os.SEEK_CUR)
        rows = file.read((stop - begin) * row_bytes)
    return np.frombuffer(rows, dtype).reshape(stop - begin, *shape[1:])


def _read_header(file: BinaryIO) -> Any:
    """Read the JSON text of a part; the file position is then at the first array."""
    file.seek(4)
    return json.loads(file.read(int.from_bytes(file.read(8), "little")))
