"""Arrays processed in blocks of rows, in memory or on disk."""

import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sensorseq._signal import all_finite
from sensorseq.errors import writing

_VALUES = 1 << 20  # number of values per block, over all columns
_MOST_ROWS = 1 << 17
_GOLDEN = (5**0.5 - 1) / 2  # the fractional parts of its multiples are evenly spread


class _Stored(np.ndarray[Any, Any]):
    """An array mapped from an unnamed file, which is deleted with the array."""

    folder: Path
    address: int


def _stored(array: Any) -> _Stored | None:
    """Return the array on disk of which this array is a view, or None."""
    while isinstance(array, np.ndarray):
        if isinstance(array, _Stored):
            return array
        array = array.base
    return None


def folder_of(array: NDArray[Any]) -> Path | None:
    """Return the folder of an array on disk; None for an array in memory."""
    stored = _stored(array)
    return None if stored is None else stored.folder


def is_stored(array: NDArray[Any]) -> bool:
    """Test whether the array is on disk."""
    return _stored(array) is not None


def release(*arrays: NDArray[Any]) -> None:
    """Free the memory of arrays on disk; their values are read again when needed."""
    for array in arrays:
        stored = _stored(array)
        if stored is not None and hasattr(mmap, "MADV_DONTNEED"):  # not available on all systems
            _LIBC.madvise(stored.address, stored.nbytes, mmap.MADV_DONTNEED)


def reuse_freed_memory() -> None:
    """Let this process reuse the memory of freed arrays, instead of getting cleared memory anew."""
    if hasattr(_LIBC, "mallopt"):  # not available on all systems
        for parameter in _THRESHOLDS:
            _LIBC.mallopt(parameter, _REUSED_BYTES)


def map_file(file: IO[bytes], n_bytes: int) -> tuple[Any, int]:
    """Map a file; return its buffer and address. Unlike `mmap.mmap`, the map needs no open file.

    Callers close the file, because a process may not have as many open files as a recording has
    pieces.
    """
    address = _LIBC.mmap(None, n_bytes, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    buffer = (ctypes.c_ubyte * n_bytes).from_address(address)
    weakref.finalize(buffer, _LIBC.munmap, address, n_bytes)
    return buffer, address


_THRESHOLDS, _REUSED_BYTES = (-1, -3), 1 << 28  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_LIBC.mmap.restype = _POINTER
_LIBC.mmap.argtypes = (_POINTER, _SIZE, *[ctypes.c_int] * 3, ctypes.c_long)
_LIBC.madvise.argtypes = (_POINTER, _SIZE, ctypes.c_int)
_LIBC.munmap.argtypes = (_POINTER, _SIZE)


def release_mapped(mapped: mmap.mmap) -> None:
    """Free the memory of a mapped file's pages if the system supports it."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def blocks(
    n_rows: int, *arrays: NDArray[Any], n_columns: int = 1, step: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of blocks of rows, and free the pages of `arrays` after each block.

    Unless the block length `step` is given, results must not depend on where blocks end.
    """
    step = step or max(1, min(_MOST_ROWS, _VALUES // max(1, n_columns)))
    for at in range(0, n_rows, step):
        yield at, min(at + step, n_rows)
        release(*arrays)


RowTest = Callable[[int, int], NDArray[np.bool_]]
"""A function that returns a mask of the wanted rows in the block from start to stop."""


def is_finite(array: NDArray[np.floating]) -> bool:
    """Test whether all entries of an array of floats are finite."""
    return all(
        all_finite(array[at:stop])
        for at, stop in blocks(len(array), array, n_columns=_n_columns((array,)))
    )


def count_where(test: RowTest, n_rows: int, *arrays: NDArray[Any]) -> tuple[int, int]:
    """Return the count of matching rows, and the index of the first one, or -1 if none matches."""
    count, first = 0, -1
    for at, stop in blocks(n_rows, *arrays, n_columns=_n_columns(arrays)):
        mask = test(at, stop)
        if mask.any():
            count += int(mask.sum())
            first = at + int(np.argwhere(mask)[0, 0]) if first < 0 else first
    return count, first


def rows_where(test: RowTest, n_rows: int, *arrays: NDArray[Any]) -> NDArray[np.int64]:
    """Return the indices of the matching rows, which must fit into memory."""
    matches = [np.empty(0, np.int64)]
    for at, stop in blocks(n_rows, *arrays, n_columns=_n_columns(arrays)):
        matches.append(np.flatnonzero(test(at, stop)) + at)
    return np.concatenate(matches)


def evenly_drawn(at: int, stop: int, n_rows: int, most: int) -> NDArray[np.int64]:
    """Sample `most` of `n_rows` rows; return the sampled indices from `at` to `stop - 1`.

    If there are at most `most` rows, the sample contains all of them. Otherwise, it contains one
    row from each of `most` equal intervals, at varying positions, so that periodic rows do not bias
    the sample. The sample does not depend on where blocks begin and end.
    """
    if n_rows <= most:
        return np.arange(at, stop)
    stretch = np.arange(at * most // n_rows, min(most, stop * most // n_rows + 1))
    first = stretch * n_rows // most
    length = (stretch + 1) * n_rows // most - first
    rows = first + (stretch * _GOLDEN % 1 * length).astype(np.int64)
    return rows[(rows >= at) & (rows < stop)]


def take(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the entries at the given rows, in memory."""
    parts = [array[rows[at:stop]] for at, stop in blocks(len(rows), array)]
    return np.concatenate([array[:0], *parts])


def _n_columns(arrays: tuple[NDArray[Any], ...]) -> int:
    return max((array.shape[1] for array in arrays if array.ndim > 1), default=1)


class Rows:
    """A collector of rows that arrive in blocks, for an array in memory or in `folder`."""

    def __init__(self, folder: Path | None, dtype: DTypeLike, *shape: int) -> None:
        self._dtype, self._shape = np.dtype(dtype), shape  # dtype and shape of one row
        self._blocks: list[NDArray[Any]] = []
        self._n_rows = 0
        self._folder = folder
        self._file = None if folder is None else temporary_file(folder)

    @classmethod
    def like(cls, array: NDArray[Any], dtype: DTypeLike, *shape: int) -> "Rows":
        """Return a collector that stores rows where `array` is: in memory or in its folder."""
        return cls(folder_of(array), dtype, *shape)

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        rows = np.ascontiguousarray(rows, self._dtype)
        self._n_rows += len(rows)
        if self._file is None:
            self._blocks.append(rows)
        else:
            append_bytes(self._file, rows.reshape(-1).view(np.uint8).data, self._folder)

    def as_array(self) -> NDArray[Any]:
        """Return all rows; an array on disk is read-only."""
        if self._file is None or self._folder is None or not self._n_rows:
            if len(self._blocks) == 1:
                return self._blocks[0]
            return np.concatenate([np.empty((0, *self._shape), self._dtype), *self._blocks])
        n_bytes = self._n_rows * int(np.prod(self._shape)) * self._dtype.itemsize
        if not n_bytes:
            return np.empty((self._n_rows, *self._shape), self._dtype)
        buffer, address = map_file(self._file, n_bytes)
        self._file.close()
        stored = _Stored((self._n_rows, *self._shape), self._dtype, buffer)
        stored.flags.writeable = False
        stored.folder, stored.address = self._folder, address
        return np.asarray(stored)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


def map_blocks(
    function: Callable[[NDArray[Any]], NDArray[Any]], array: NDArray[Any], dtype: DTypeLike
) -> NDArray[Any]:
    """Apply a function to each block of an array; the result is stored where the array is."""
    rows = Rows.like(array, dtype)
    for at, stop in blocks(len(array), array):
        rows.append(function(array[at:stop]))
    return rows.as_array()


def temporary_file(folder: Path) -> IO[bytes]:
    """Return an unnamed file, unbuffered because a full disk would leave data in the buffer."""
    with writing(folder, folder=True):
        return tempfile.TemporaryFile(dir=folder, buffering=0)


def append_bytes(file: IO[bytes], content: memoryview, folder: Path | None) -> None:
    """Write to a file of `temporary_file`; convert errors to an `OutputError` with the folder."""
    with writing(folder or "", folder=True):
        while content:
            content = content[file.write(content) :]
