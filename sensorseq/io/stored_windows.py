"""StoredWindows: a WindowSet whose samples stay in their prepared file until they are needed."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import PreparedFileError
from sensorseq.io import hdf5
from sensorseq.io.checksums import damaged
from sensorseq.io.prepared import PreparedFile
from sensorseq.windows import WindowSet


class CheckedRows:
    """Read rows of one array many times; HDF5 verifies a chunk's checksum only the first time.

    Reading a chunk directly takes a fifth of the time. The caller must ensure that the file does
    not change.
    """

    def __init__(self) -> None:
        self._is_known = False
        self._places: NDArray[np.int64] | None = None
        self._is_checked = np.zeros(0, bool)

    def read(self, dataset: Any, rows: NDArray[np.int64], handle: int) -> NDArray[Any]:
        """Return the rows at increasing positions of `dataset`, in the file open as `handle`."""
        if not self._is_known:
            self._is_known, self._places = True, hdf5.chunk_places(dataset)
            self._is_checked = np.zeros(0 if self._places is None else len(self._places), bool)
        if self._places is None or not len(rows):
            return hdf5.read_rows(dataset, rows)
        of_rows = rows // dataset.chunks[0]
        if self._is_checked[of_rows].all():
            return self._read_directly(dataset, rows, of_rows, handle)
        X = hdf5.read_rows(dataset, rows)
        self._is_checked[of_rows] = True
        return X

    def _read_directly(
        self, dataset: Any, rows: NDArray[np.int64], of_rows: NDArray[np.int64], handle: int
    ) -> NDArray[Any]:
        assert self._places is not None
        X = np.empty((len(rows), *dataset.shape[1:]), dataset.dtype)
        view: Any = X.reshape(-1).view(np.uint8)
        row_bytes = X[:1].nbytes
        places = self._places[of_rows] + (rows - of_rows * dataset.chunks[0]) * row_bytes
        ends = np.flatnonzero(np.diff(places) != row_bytes) + 1
        for first, last in pairwise([0, *ends.tolist(), len(rows)]):
            wanted = view[first * row_bytes : last * row_bytes]
            if os.preadv(handle, [wanted], int(places[first])) != len(wanted):
                raise OSError("the file ends too early")
        return X


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """Samples in a prepared file, with a shape and indexing but without holding them in memory.

    `rows` is where each window is in the file; `chunk_windows` are stored together and read at
    once. `version` detects a file that replaced this one. `change` augments the windows whose
    `copy_number` is not 0: it takes samples (n, t, c), the positions of their windows in the file
    and their copy numbers, and returns the samples to train on.
    """

    path: Path
    rows: NDArray[np.int64]
    n_timesteps: int
    n_channels: int
    chunk_windows: int
    version: tuple[int, ...]
    checked: CheckedRows
    verify: bool = True
    copy_number: NDArray[np.int64] | None = None
    change: Callable[..., NDArray[Any]] | None = None

    dtype = np.dtype(np.float32)
    ndim = 3

    @classmethod
    def of(cls, file: PreparedFile, rows: NDArray[np.int64]) -> "StoredSamples":
        """Return the samples at these positions of an open file."""
        _, n_timesteps, n_channels = file.columns.shape
        return cls(
            file.path,
            rows,
            n_timesteps,
            n_channels,
            file.chunk_windows,
            _version(file.path),
            CheckedRows(),
            file.verified,
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_windows, n_timesteps, n_channels)."""
        return len(self.rows), self.n_timesteps, self.n_channels

    @property
    def nbytes(self) -> int:
        """Bytes they would take in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, which: Any) -> "StoredSamples":
        number = None if self.copy_number is None else self.copy_number[which]
        return replace(self, rows=self.rows[which], copy_number=number)

    @contextmanager
    def opened(self) -> Iterator["SampleReader"]:
        """Open the file for reading, in one thread at a time."""
        with hdf5.opened_prepared(self.path, verify=self.verify, whole=False) as (file, checked):
            handle = file.id.get_vfd_handle() if checked is None else checked.fileno()
            if not _version(self.path) == _version(handle) == self.version:
                raise PreparedFileError(
                    f"{self.path}: was replaced while it was being read; start again, and write"
                    " new files under other names."
                )
            yield SampleReader(self, file["X"], handle)


@dataclass(frozen=True)
class SampleReader:
    """An open file of `StoredSamples`. Made by `StoredSamples.opened`."""

    samples: StoredSamples
    dataset: Any
    handle: int

    def read(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows at these positions among the samples, (n, t, c), in that order."""
        wanted = self.samples.rows[which]
        rows, back = np.unique(wanted, return_inverse=True)
        try:
            X: NDArray[np.float32] = self.samples.checked.read(self.dataset, rows, self.handle)
        except (OSError, RuntimeError) as error:
            raise damaged(self.samples.path, error) from error
        if not np.array_equal(back, np.arange(len(rows))):
            X = X[back]
        change, number = self.samples.change, self.samples.copy_number
        if change is not None and number is not None:
            copies = np.flatnonzero(number[which])
            if len(copies):
                X[copies] = change(X[copies], wanted[copies], number[which][copies])
        return X


class StoredWindows(WindowSet):
    """A WindowSet with `StoredSamples` for `X`; made by `stored_windows`."""

    def __post_init__(self) -> None:
        if self.groups is None:
            object.__setattr__(self, "groups", self.recording_id)


def stored_windows(file: PreparedFile, rows: NDArray[np.int64] | None = None) -> StoredWindows:
    """Return the windows at `rows` of an open file (all for None) without reading their samples."""
    everything = np.arange(len(file)) if rows is None else rows
    columns: Mapping[str, Any] = file.columns.known_of(rows)
    X: Any = StoredSamples.of(file, everything)
    return StoredWindows(X, **columns)


def _version(path: Path | int) -> tuple[int, ...]:
    status = os.stat(path)  # noqa: PTH116  of what the name stands for now, or of an open file
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
