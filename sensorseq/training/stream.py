"""StreamedData: one part of the windows, read from its file buffer by buffer in each epoch."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.errors import ArgumentError
from sensorseq.training.batches import BatchSampler, Rows
from sensorseq.training.data import EVALUATION_BATCH, TrainingData, update_digest
from sensorseq.training.read_ahead import read_ahead
from sensorseq.training.stored import BUFFER_VARIABLE, Change, StoredPart, buffer_bytes

HELD = 4  # a part of at most one in so many of the buffer's bytes is read once and held
_SHARE = (3, 8)  # of the buffer for each of the two halves a larger part is read into
_BLOCK_BYTES = 256 * 1024  # of windows drawn together from the file
_BLOCKS = 32  # to a buffer at least, where a block is of several chunks


class StreamedSampler(BatchSampler):
    """Draw batches such that neighbours in the order are near in the file, buffer by buffer.

    The file is cut into blocks of neighbouring windows. Each epoch puts the blocks in random order,
    cuts what results into buffers, and orders the windows of each buffer at random. So a batch
    draws from all blocks of a buffer, and a buffer from the whole file. Every window comes once in
    an epoch, as with `BatchSampler`, whose arguments the others are.

    Parameters
    ----------
    places : ndarray of shape (N,), int64
        Where each window is in the file.
    block_windows : int
        Windows of a block.
    buffer_windows : int
        Windows of a buffer, at most.

    Raises
    ------
    ArgumentError
        If a batch is larger than a buffer.
    """

    def __init__(
        self,
        class_index: NDArray[np.integer[Any]],
        batch_size: int | None,
        sampler: str,
        last_batch: str,
        rng: np.random.Generator,
        minimum_size: int = 1,
        *,
        windows_per_epoch: int | None = None,
        places: NDArray[np.int64],
        block_windows: int,
        buffer_windows: int,
    ) -> None:
        super().__init__(
            class_index,
            batch_size,
            sampler,
            last_batch,
            rng,
            minimum_size,
            windows_per_epoch=windows_per_epoch,
        )
        largest = int(np.diff(self._edges).max())
        if largest > buffer_windows:
            raise ArgumentError(
                f"batch_size={batch_size} makes a batch of {largest} windows, but the buffer for"
                f" reading a file of this size holds only {buffer_windows}. Lower batch_size, or"
                f" set the environment variable {BUFFER_VARIABLE} to more bytes."
            )
        self.places, self.block_windows = places, block_windows
        self.buffer_windows = buffer_windows
        self.cuts = [0]  # a buffer ends where a batch ends
        for batch in range(self.n_batches):
            if self._edges[batch + 1] - self._edges[self.cuts[-1]] > buffer_windows:
                self.cuts.append(batch)
        self.cuts.append(self.n_batches)

    def buffers(self) -> list[tuple[Rows, list[int]]]:
        """Draw an epoch: the windows of each buffer, in order, and where its batches end."""
        order = self._order()
        return [
            (
                order[self._edges[first] : self._edges[last]],
                [edge - self._edges[first] for edge in self._edges[first + 1 : last]],
            )
            for first, last in zip(self.cuts[:-1], self.cuts[1:], strict=True)
        ]

    def _order(self) -> Rows:
        drawn = np.arange(self._n_windows)
        if self._rows_of_class is not None or self._left is not None:
            drawn = np.sort(super()._order())
        _, block = np.unique(self.places[drawn] // self.block_windows, return_inverse=True)
        rank = self._rng.permutation(int(block.max()) + 1)
        order = drawn[np.argsort(rank[block], kind="stable")]
        for first, last in zip(self.cuts[:-1], self.cuts[1:], strict=True):
            self._rng.shuffle(order[self._edges[first] : self._edges[last]])
        return order


def hold_or_stream(
    part: StoredPart, target: NDArray[Any], weight: NDArray[np.floating[Any]] | None = None
) -> "TrainingData | StreamedData":
    """Return a part of a large file for training: in memory when it is a small part of that."""
    if len(part) * part.window_bytes > buffer_bytes() // HELD:
        return StreamedData(part, target, weight)
    dtype: torch.dtype = getattr(torch, part.dtype)
    return TrainingData.from_arrays(part.read(), part.lengths, target, weight, dtype)


class StreamedData:
    """Like `TrainingData`, for windows not held in memory: they are read again in every epoch.

    Targets, lengths and weights are held. Two halves of a buffer hold windows: the one that is
    used and the one that is read.

    Parameters
    ----------
    part : StoredPart
        The windows.
    target : ndarray of shape (N,), or (N, K)
        As `TrainingData` takes it.
    weight : ndarray of shape (N,), optional
        As `TrainingData` takes it.
    n_bytes : int, optional
        Of the buffer; `buffer_bytes` says how many when not given.
    """

    def __init__(
        self,
        part: StoredPart,
        target: NDArray[Any],
        weight: NDArray[np.floating[Any]] | None = None,
        *,
        n_bytes: int | None = None,
    ) -> None:
        self._part = part
        self._dtype: torch.dtype = getattr(torch, part.dtype)
        # all but the windows, as if they were held
        held = TrainingData.from_arrays(
            np.empty((len(part), part.n_timesteps, 0)), part.lengths, target, weight, self._dtype
        )
        self.lengths, self.target, self.weight = held.lengths, held.target, held.weight
        self._beside = held
        n_bytes = buffer_bytes() if n_bytes is None else n_bytes
        self.buffer_windows = max(1, n_bytes * _SHARE[0] // _SHARE[1] // part.window_bytes)
        self._device = torch.device("cpu")
        self._change: Change | None = None

    def __len__(self) -> int:
        return len(self._part)

    @property
    def resident_bytes(self) -> int:
        """Bytes of windows that are on the device at a time."""
        return min(self.buffer_windows, len(self)) * self._part.window_bytes

    def to(self, device: torch.device) -> "StreamedData":
        """Move the buffers to `device` when they are read."""
        self._device = device
        return self

    def nothing(self) -> TrainingData:
        """Return the data of no window: shapes and types, before the first buffer is there."""
        shape = 0, self._part.n_timesteps, self._part.samples.n_channels
        nowhere = torch.arange(0)
        return self._known(torch.empty(shape, dtype=self._dtype), nowhere).to(self._device)

    def digests(self) -> dict[str, str]:
        """Return what `TrainingData` of the same windows would, reading all of them once."""
        shape = len(self), self._part.n_timesteps, self._part.samples.n_channels
        digest = hashlib.sha256()
        with closing(self.blocks()) as blocks:
            update_digest(digest, "windows", self._dtype, shape, (block.X for block in blocks))
        return {"windows": digest.hexdigest(), **self._beside.digests_beside()}

    def refresh(self, change: Change) -> None:
        """Change windows so from now on in `passes`."""
        self._change = change

    def make_sampler(self, *arguments: Any, **options: Any) -> StreamedSampler:
        """Return what draws the batches; arguments are those of `BatchSampler`."""
        samples = self._part.samples
        stored_bytes = 4 * samples.n_timesteps * samples.n_channels
        chunk = samples.chunk_windows
        # Whole chunks, which are read and checked whole: few where the buffer is small.
        most = max(1, _BLOCK_BYTES // (chunk * stored_bytes))
        n_chunks = min(most, max(1, self.buffer_windows // (_BLOCKS * chunk)))
        return StreamedSampler(
            *arguments,
            **options,
            places=samples.rows,
            block_windows=chunk * n_chunks,
            buffer_windows=self.buffer_windows,
        )

    def passes(
        self, batches: BatchSampler
    ) -> Generator[tuple[TrainingData, list[Rows]], None, None]:
        """Yield each buffer of one epoch and the rows of its batches, counted in the buffer."""
        assert isinstance(batches, StreamedSampler)
        drawn = batches.buffers()

        def split(
            buffer: tuple[Rows, list[int]],
        ) -> tuple[NDArray[np.int64], Callable[[TrainingData], Any]]:
            rows, places = np.unique(buffer[0], return_inverse=True)
            return rows, lambda data: (data, np.split(places, buffer[1]))

        most = max(len(order) for order, _ in drawn)
        return self._read(drawn, split, most, self._change)

    def blocks(self) -> Generator[TrainingData, None, None]:
        """Yield all windows in order and unchanged, as many at a time as the buffer holds."""
        # whole batches of an evaluation, so that they are those of windows that are held
        size = max(1, self.buffer_windows // EVALUATION_BATCH) * EVALUATION_BATCH
        starts = range(0, len(self), size)
        rows = [np.arange(start, min(start + size, len(self))) for start in starts]
        return self._read(rows, lambda rows: (rows, lambda data: data), min(size, len(self)))

    def _read(
        self,
        jobs: list[Any],
        split: Callable[[Any], Any],
        capacity: int,
        change: Change | None = None,
    ) -> Generator[Any, None, None]:
        shape = capacity, self._part.n_timesteps, self._part.samples.n_channels
        halves = [np.empty(shape, self._part.dtype) for _ in range(min(2, len(jobs)))]
        with self._part.opened() as reader:

            def load(job: Any, half: int, check: Callable[[], None]) -> Any:
                rows, finish = split(job)
                X = halves[half][: len(rows)]
                reader.read_into(X, rows, check, change)
                return finish(self._known(torch.from_numpy(X), torch.from_numpy(rows)))

            with closing(read_ahead(load, jobs)) as loaded:
                for item in loaded:
                    yield (
                        item.to(self._device)
                        if isinstance(item, TrainingData)
                        else (item[0].to(self._device), item[1])
                    )

    def _known(self, X: Tensor, rows: Tensor) -> TrainingData:
        lengths, weight = self.lengths, self.weight
        return TrainingData(
            X,
            None if lengths is None else lengths[rows],
            self.target[rows],
            None if weight is None else weight[rows],
        )
