"""Windows of many recordings, of which each recording's samples are a part in memory or a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import WindowError
from sensorseq.io.blocks import Rows, folder_of
from sensorseq.windows import WindowSet

TRAINING = "train_"
"""Prefix of training windows that were cut separately; the prefix of other windows is empty."""
_READ_BYTES = 1 << 23  # number of bytes of a part that are read at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """The windows of one recording; a subclass knows where they are."""

    recording_id: str
    group: str
    order: Sequence[int]  # positions of the channels to read
    prefix: str = ""  # `TRAINING` for training windows that were cut separately

    def read(self, name: str) -> NDArray[Any]:
        """Return the field of this name of all windows, such as ``"start_s"``."""
        raise NotImplementedError

    def stored(self, begin: int, stop: int) -> NDArray[np.float32]:
        """Return the samples of the windows `begin` to `stop - 1`, with all channels."""
        raise NotImplementedError

    def samples(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the samples of the windows at increasing rows."""
        begin = int(rows[0])
        X = self.stored(begin, int(rows[-1]) + 1)
        if len(rows) < len(X):
            X = X[rows - begin]
        return X if list(self.order) == list(range(X.shape[2])) else X[:, :, self.order]


@dataclass(frozen=True, eq=False, kw_only=True)
class MemoryPart(Part):
    """The windows of one recording in memory, by prefix."""

    sets: dict[str, WindowSet]

    def read(self, name: str) -> NDArray[Any]:
        """Return one field of the windows."""
        return np.asarray(getattr(self.sets[self.prefix], name))

    def stored(self, begin: int, stop: int) -> NDArray[np.float32]:
        """Return the samples of some windows."""
        return self.sets[self.prefix].X[begin:stop]


@dataclass(frozen=True, eq=False)
class PartSamples:
    """The samples of the windows in many parts, which are read when they are needed.

    `used` contains the rows of the windows in each part; `at_once` windows are read at a time.
    """

    parts: Sequence[Part]
    used: list[NDArray[np.int64]]
    n_timesteps: int
    n_channels: int
    at_once: int

    dtype = np.dtype(np.float32)
    ndim = 3
    are_in_files = True

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (n_windows, n_timesteps, n_channels)."""
        return len(self), self.n_timesteps, self.n_channels

    @property
    def nbytes(self) -> int:
        """Size of all samples in memory, in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, which: Any) -> "PartSamples":
        wanted = np.arange(len(self))[which]
        if (np.diff(wanted) <= 0).any():
            raise WindowError(
                "windows in parts must be selected in increasing order, each at most once."
            )
        by_part = np.split(np.isin(np.arange(len(self)), wanted), self._ends[:-1])
        used = [rows[is_wanted] for rows, is_wanted in zip(self.used, by_part, strict=True)]
        return replace(self, used=used)

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of the windows at increasing positions, one recording at a time."""
        ends = self._ends
        part_of = np.searchsorted(ends, rows, side="right")
        for part_rows in np.split(rows, np.flatnonzero(np.diff(part_of)) + 1):
            if part_rows.size:
                at = int(np.searchsorted(ends, part_rows[0], side="right"))
                used = self.used[at]
                wanted = used[part_rows - (ends[at] - len(used))]
                for some in np.split(wanted, np.flatnonzero(np.diff(wanted // self.at_once)) + 1):
                    yield self.parts[at].samples(some)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(used) for used in self.used])


def windows_in(
    parts: Sequence[Part], channels: Sequence[str], n_timesteps: int, *, labeled: bool
) -> WindowSet:
    """Return all windows of these parts; their samples stay in the parts."""
    starts = [part.read("start_s") for part in parts]
    counts = [len(start) for start in starts]
    at_once = max(1, _READ_BYTES // (4 * n_timesteps * len(channels)))
    used = [np.arange(count) for count in counts]
    samples: Any = PartSamples(parts, used, n_timesteps, len(channels), at_once)
    return WindowSet(
        samples,
        np.concatenate([part.read("lengths") for part in parts]),
        y=np.concatenate([part.read("y") for part in parts]) if labeled else None,
        groups=np.repeat([part.group for part in parts], counts),
        recording_id=np.repeat([part.recording_id for part in parts], counts),
        start_s=np.concatenate(starts),
        channels=tuple(channels),
    )


def with_separate_training_windows(
    windows: WindowSet, split: NDArray[np.str_]
) -> tuple[WindowSet, NDArray[np.str_]]:
    """Replace training windows with those cut separately; return all windows and their parts."""
    samples: Any = windows.X
    part_of = dict(zip(np.asarray(windows.recording_id).tolist(), split.tolist(), strict=True))
    part_names = [part_of[part.recording_id] for part in samples.parts]
    parts = [
        replace(part, prefix=TRAINING) if name == "train" else part
        for part, name in zip(samples.parts, part_names, strict=True)
    ]
    labeled = windows.y is not None
    replaced = windows_in(parts, windows.channels, windows.n_timesteps, labeled=labeled)
    replaced_samples: Any = replaced.X
    return replaced, np.repeat(part_names, [len(used) for used in replaced_samples.used])


def as_one_array(samples: PartSamples) -> NDArray[np.float32]:
    """Join the samples of parts in memory, on disk if those of any part are on disk.

    The parts are emptied one by one, so that the samples are never in memory twice.
    """
    parts: Sequence[Any] = samples.parts
    folders = (folder_of(windows.X) for part in parts for windows in part.sets.values())
    folder = next((folder for folder in folders if folder is not None), None)
    shape = samples.n_timesteps, samples.n_channels
    on_disk = Rows(folder, np.float32, *shape)
    X, at = np.empty((0 if folder else len(samples), *shape), np.float32), 0
    for part, used in zip(parts, samples.used, strict=True):
        for block in replace(samples, parts=[part], used=[used]).blocks(np.arange(len(used))):
            if folder is None:
                X[at : at + len(block)] = block
                at += len(block)
            else:
                on_disk.append(block)
        part.sets.clear()
    return X if folder is None else on_disk.as_array()
