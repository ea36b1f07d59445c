"""Checksums at the end of a prepared file, verified before HDF5 reads any of it.

The HDF5 content is followed by the CRC-32 of each 256 KiB piece (little-endian, 4 bytes each) and a
footer. The footer contains the CRC-32 of these sums and of the rest of the footer (4 bytes), the
size of a piece (4 bytes), the size of the content (8 bytes), and ``ssqsums1``. HDF5 ignores bytes
after its own end.

HDF5's own checksums would not be enough. Of 405 faults planted into a prepared file (changed bits,
bytes and blocks, erased chunks, swapped words, lost ends), the checksums above detected all, and
Fletcher-32, which every chunk has, 243; after 122, HDF5 read changed values without an error. In
the newest HDF5 format, with all arrays in chunks, it still did so after 42 of 314: Fletcher-32
does not notice that a chunk is erased or that 0 becomes 65535.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import PreparedFileError

WHOLE_BYTES = 1 << 30
"""Files up to this size are verified when opened; pieces of larger files are verified when read."""


class DamagedFileError(PreparedFileError):
    """A file does not match its checksums."""


def damaged(
    path: object, reason: object, kind: type[PreparedFileError] = PreparedFileError
) -> PreparedFileError:
    """Return the error for a damaged prepared file."""
    return kind(
        f"{path}: is truncated or damaged ({reason}); copy it again from its source, or prepare it"
        " again."
    )


MAGIC = b"ssqsums1"
_FOOTER = struct.Struct("<IIQ8s")
_PIECE_BYTES = 1 << 18
_AT_ONCE = 16  # number of pieces read at a time

verifying = ContextVar("verifying", default=True)
"""True if prepared files are verified by default."""


@contextmanager
def unverified() -> Iterator[None]:
    """Read prepared files without verification in the ``with`` block."""
    token = verifying.set(False)
    try:
        yield
    finally:
        verifying.reset(token)


def append(file: io.FileIO) -> None:
    """Append the checksums to a finished file."""
    size = os.fstat(file.fileno()).st_size
    sums = bytearray()
    buffer = memoryview(bytearray(_AT_ONCE * _PIECE_BYTES))
    for at in range(0, size, len(buffer)):
        block = buffer[: min(len(buffer), size - at)]
        if os.preadv(file.fileno(), [block], at) != len(block):
            raise OSError("the file became shorter while it was written")
        sums += np.array(_sums(block, _PIECE_BYTES), "<u4").tobytes()
    footer = struct.pack("<IQ8s", _PIECE_BYTES, size, MAGIC)  # the footer without its own checksum
    sums += struct.pack("<I", zlib.crc32(footer, zlib.crc32(sums))) + footer
    file.seek(size)
    view = memoryview(sums)
    while view:
        view = view[file.write(view) :]


def are_in(path: Path) -> bool:
    """Test whether the file seems to end with checksums."""
    with path.open("rb", buffering=0) as raw:
        end = os.fstat(raw.fileno()).st_size
        return os.pread(raw.fileno(), len(MAGIC), max(0, end - len(MAGIC))) == MAGIC


def _sums(block: memoryview, piece_bytes: int) -> list[int]:
    return [zlib.crc32(block[i : i + piece_bytes]) for i in range(0, len(block), piece_bytes)]


class CheckedFile(io.FileIO):
    """A file that HDF5 reads and whose pieces are verified when they are first read."""

    failure: DamagedFileError | None = None
    """The error about damage, stored because HDF5 may replace the raised error."""

    def begin(self, *, whole: bool, verified_pieces: bytearray | None = None) -> None:
        """Read the checksums; verify the first piece or, if `whole`, all of a small file.

        Raises a `PreparedFileError` if there are no checksums, and a `DamagedFileError` if the file
        is damaged. `verified_pieces` marks the pieces that are already verified; it is empty at
        first.
        """
        end = os.fstat(self.fileno()).st_size
        footer = os.pread(self.fileno(), _FOOTER.size, max(0, end - _FOOTER.size))
        if len(footer) < _FOOTER.size or not footer.endswith(MAGIC):
            raise PreparedFileError(
                f"{self.name}: has no checksums: it is not a prepared file, is truncated, or was"
                " changed by another program. Give a file written by `sensorseq prepare`, or"
                " prepare it again."
            )
        crc, self._piece_bytes, self._size, _ = _FOOTER.unpack(footer)
        n_bytes = 4 * -(-self._size // max(1, self._piece_bytes))
        if not self._piece_bytes or end != self._size + n_bytes + _FOOTER.size:
            raise self._damaged("its length does not match its checksums")
        sums = os.pread(self.fileno(), n_bytes, self._size)
        if zlib.crc32(footer[4:], zlib.crc32(sums)) != crc:
            raise self._damaged("its checksums are damaged")
        self._sums = np.frombuffer(sums, "<u4")
        self._is_good = bytearray() if verified_pieces is None else verified_pieces
        self._is_good.extend(bytes(max(0, len(self._sums) - len(self._is_good))))
        # HDF5 reads the first piece to open the file; an error at that time would crash the process
        # at exit.
        all_now = whole and end <= WHOLE_BYTES
        self.check(0, self._size if all_now else min(self._size, _PIECE_BYTES))

    def verify(self) -> None:
        """Verify the whole file; if any byte has changed, a `DamagedFileError` is raised."""
        self.check(0, self._size)

    def check(self, begin: int, end: int) -> None:
        """Verify the pieces that contain bytes `begin` to `end`, unless already verified."""
        stop = -(-end // self._piece_bytes)
        at = self._is_good.find(0, begin // self._piece_bytes, stop)
        while at >= 0:
            until = min(at + max(1, _AT_ONCE * _PIECE_BYTES // self._piece_bytes), stop)
            start = at * self._piece_bytes
            n_bytes = min(until * self._piece_bytes, self._size) - start
            block = memoryview(os.pread(self.fileno(), n_bytes, start))
            if len(block) != n_bytes:
                raise self._damaged("it became shorter while it was read")
            same = np.array(_sums(block, self._piece_bytes)) == self._sums[at:until]
            if not same.all():
                bad = start + self._piece_bytes * int(np.argmin(same))
                raise self._damaged(f"the bytes from {bad} on do not match their checksum")
            self._is_good[at:until] = b"\1" * (until - at)
            at = self._is_good.find(0, until, stop)

    def readinto(self, buffer: Any) -> int:
        """Read bytes for HDF5 after verifying them."""
        view = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(view), self._size - self.tell()))
        try:
            self.check(self.tell(), self.tell() + n_bytes)
            if super().readinto(view[:n_bytes]) < n_bytes:
                raise self._damaged("it became shorter while it was read")
        except DamagedFileError as error:
            self.failure = error
            raise
        view[n_bytes:] = bytes(len(view) - n_bytes)
        return len(view)

    def _damaged(self, reason: str) -> PreparedFileError:
        return damaged(self.name, reason, DamagedFileError)
