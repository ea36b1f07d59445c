"""The samples of a WindowSet, read from the prepared file when they are needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, PreparedFileError
from sensorseq.io import hdf5_file
from sensorseq.io.checksums import damaged

BUFFER_BYTES = 256 * 1024**2  # default in bytes, which an environment variable can change
BUFFER_VARIABLE = "SENSORSEQ_BUFFER_BYTES"


def buffer_bytes() -> int:
    """Return the maximum size of windows in memory, in bytes; larger files are read in parts."""
    text = os.environ.get(BUFFER_VARIABLE, "")
    if not text:
        return BUFFER_BYTES
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(
            f"the environment variable {BUFFER_VARIABLE} is {text!r}; it must be a number of bytes,"
            " such as 4000000000."
        )
    return int(text)


@dataclass(frozen=True, eq=False)
class StoredSamples:
    """Samples in a prepared file that can be indexed without loading them into memory.

    The samples are read and verified, not mapped, because the pages of a mapped file count as
    memory and are not verified. With 1.1 GB of windows, mapping would save only 0.3 s of the 39 s
    of an epoch.

    `rows` contains the windows' positions in the file; a window without data of this sensor has the
    position -1 and is read as NaN. `chunk_windows` windows are stored and read together. `version`
    shows whether the file was replaced, and `group` is the sensor's group in the file, with a
    trailing slash.
    """

    path: Path
    rows: NDArray[np.int64]
    n_timesteps: int
    n_channels: int
    chunk_windows: int
    version: tuple[int, ...]
    verified_pieces: bytearray = field(default_factory=bytearray)  # nonzero for verified pieces
    verify: bool = True
    group: str = ""

    dtype = np.dtype(np.float32)
    ndim = 3
    are_in_files = True

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (n_windows, n_timesteps, n_channels)."""
        return len(self.rows), self.n_timesteps, self.n_channels

    @property
    def nbytes(self) -> int:
        """Size of all samples in memory, in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all samples."""
        with self.opened() as reader:
            return np.asarray(reader.read(np.arange(len(self))), dtype)

    def __getitem__(self, which: Any) -> "StoredSamples":
        return replace(self, rows=self.rows[which])

    @contextmanager
    def opened(self) -> Iterator["SampleReader"]:
        """Open the file for reading; only one thread at a time can use it."""
        self._check_version(self.path)
        opened = hdf5_file.opened_prepared(
            self.path, verify=self.verify, whole=False, verified_pieces=self.verified_pieces
        )
        with opened as (file, checked):
            self._check_version(file.id.get_vfd_handle() if checked is None else checked.fileno())
            yield SampleReader(self, hdf5_file.RowReader(file[self.group + "X"], checked))

    def _check_version(self, file: Path | int) -> None:
        if version_of(file) != self.version:
            raise PreparedFileError(
                f"{self.path}: was replaced while it was being read; start again, and give new"
                " files different names."
            )


@dataclass(frozen=True)
class SampleReader:
    """An open file of `StoredSamples`, created by `StoredSamples.opened`."""

    samples: StoredSamples
    stored: hdf5_file.RowReader

    def read(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows at these positions, in the given order, with shape (n, t, c)."""
        wanted = self.samples.rows[which]
        rows, back = np.unique(wanted, return_inverse=True)
        try:
            X: NDArray[np.float32] = self.stored.read(rows[rows >= 0])
        except (OSError, RuntimeError) as error:
            raise damaged(self.samples.path, error) from error
        if len(X) < len(rows):
            X = np.concatenate([np.full_like(X, np.nan, shape=(1, *X.shape[1:])), X])
        if not np.array_equal(back, np.arange(len(rows))):
            X = X[back]
        return X


def version_of(path: Path | int) -> tuple[int, ...]:
    """Return numbers that differ after the file is changed or replaced."""
    status = os.stat(path)  # noqa: PTH116  it may be the number of an open file
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
