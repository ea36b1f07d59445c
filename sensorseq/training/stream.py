"""Windows that stay in their file and are read buffer by buffer in each epoch."""

import copy
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.io.stored_windows import SampleReader, StoredSamples
from sensorseq.prediction.inputs import (
    Sequences,
    crop_sequences,
    read_stored,
    scale_sequences,
)
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.scale.scaler import ChannelMoments, Scaler, fit_scaler_to_blocks
from sensorseq.training.batches import (
    EVALUATION_BATCH,
    BatchSampler,
    Rows,
    TrainingData,
)
from sensorseq.training.patches import apply_patch
from sensorseq.windows import WindowSet

BUFFER_BYTES = 256 * 1024**2  # default, unless set in the environment
BUFFER_VARIABLE = "SENSORSEQ_BUFFER_BYTES"


def buffer_bytes() -> int:
    """Return the limit in bytes of windows held in memory; larger files are read in parts."""
    said = os.environ.get(BUFFER_VARIABLE, "")
    if not said:
        return BUFFER_BYTES
    if not said.isdecimal() or int(said) < 1:
        raise ArgumentError(
            f"the environment variable {BUFFER_VARIABLE} is {said!r}; it must be a number of bytes,"
            " such as 4000000000."
        )
    return int(said)


Change = Callable[[Sequences, NDArray[np.int64]], Sequences]
"""Returns changed windows, given unscaled ones and their positions in the part."""


@dataclass(frozen=True)
class StoredPart:
    """One part of the windows of a file, and how they are processed after reading."""

    sequences: Sequences
    max_timesteps: int | None = None
    crop: str = "head"
    training: bool = False
    scaler: Scaler | None = None
    dtype: str = "float32"

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def samples(self) -> StoredSamples:
        """The stored samples."""
        samples: Any = self.sequences.X
        assert isinstance(samples, StoredSamples)
        return samples

    @property
    def n_timesteps(self) -> int:
        """Length of a cropped window."""
        stored = self.samples.n_timesteps
        whole = self.max_timesteps is None or (self.training and self.crop == "random")
        return stored if whole else min(stored, int(self.max_timesteps or stored))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Valid steps of each cropped window."""
        return np.minimum(self.sequences.lengths, self.n_timesteps)

    @property
    def window_bytes(self) -> int:
        """Bytes of a window during reading, cropping and scaling."""
        return self.n_timesteps * self.samples.n_channels * np.dtype(self.dtype).itemsize

    @contextmanager
    def opened(self) -> Iterator["PartReader"]:
        """Open the file for reading; only one thread at a time can have it open."""
        with self.samples.opened() as reader:
            yield PartReader(self, reader)

    def cropped(self, rows: NDArray[np.int64] | None = None) -> Iterator[Sequences]:
        """Yield the windows at `rows`, cropped but not scaled, piece by piece."""
        with self.opened() as reader:
            for piece in self.samples.pieces(rows):
                yield reader.cropped(piece)

    def sampled(self, most: int) -> Iterator[Sequences]:
        """Yield up to `most` windows, sampled evenly; each piece covers the whole file."""
        rows = np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64)
        n_pieces = sum(1 for _ in self.samples.pieces(rows))
        with self.opened() as reader:
            for piece in range(n_pieces):
                yield reader.cropped(rows[piece::n_pieces])

    def read(self) -> NDArray[Any]:
        """Return all windows, cropped and scaled."""
        X = np.empty((len(self), self.n_timesteps, self.samples.n_channels), self.dtype)
        with self.opened() as reader:
            reader.read_into(X, np.arange(len(self)))
        return X

    def channel_sd(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the standard deviation of each channel over the cropped windows at `rows`."""
        moments = ChannelMoments()
        for piece in self.cropped(rows):
            moments.add(piece.X, piece.lengths)
        return moments.statistics().deviation

    def fit_scaler(
        self,
        kind: str | None,
        *,
        rated: Mapping[str, float] | Sequence[float] | None = None,
        channels: Sequence[str] | None = None,
    ) -> Scaler:
        """Fit the same scaler, bit for bit, as `fit_scaler`, without loading all windows."""

        def blocks() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
            for piece in self.cropped():
                yield piece.X, piece.lengths

        return fit_scaler_to_blocks(blocks, kind, rated=rated, channels=channels)


class PartReader:
    """An open file of a `StoredPart`; made by `StoredPart.opened`."""

    def __init__(self, part: StoredPart, reader: SampleReader) -> None:
        self._part = part
        self._reader = reader

    def cropped(self, rows: NDArray[np.int64]) -> Sequences:
        """Return the windows at `rows`, cropped but not scaled."""
        part = self._part
        sequences = read_stored(part.sequences, self._reader, rows)
        return crop_sequences(sequences, part.max_timesteps, part.crop, training=part.training)

    def read_into(
        self,
        X: NDArray[Any],
        rows: NDArray[np.int64],
        check: Callable[[], None] = lambda: None,
        change: Change | None = None,
    ) -> None:
        """Write the windows at `rows`, cropped, changed and scaled, to the start of `X`.

        `check` is called regularly, and may raise.
        """
        at = 0
        for piece in self._part.samples.pieces(rows):
            check()
            scaled = None if change is not None else self._scaled_at_once(piece)
            if scaled is None:
                sequences = self.cropped(piece)
                if change is not None:
                    sequences = change(sequences, piece)
                scaled = scale_sequences(sequences, self._part.scaler, self._part.dtype)
            X[at : at + len(piece)] = scaled
            at += len(piece)

    def _scaled_at_once(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Check, pad and scale in one pass, with the same bits; None if that is not possible."""
        part = self._part
        scaler = part.scaler
        is_cropped = part.n_timesteps < part.samples.n_timesteps
        if is_cropped:
            return None
        if scaler is None:
            scaler = Scaler.identity(part.samples.n_channels)
        try:
            return scaler.transform_to_float32(
                self._reader.read(rows), part.sequences.lengths[rows]
            )
        except SignalError:  # the slower path raises a better message
            return None


def is_stored(windows: Sequences | WindowSet) -> bool:
    """Test whether the windows are still in their file."""
    samples: Any = windows.X
    return isinstance(samples, StoredSamples)


Job = TypeVar("Job")
Loaded = TypeVar("Loaded")


class Abandoned(BaseException):
    """Raised inside a load whose result is no longer needed."""


def read_ahead(
    load: Callable[[Job, int, Callable[[], None]], Loaded], jobs: Sequence[Job]
) -> Generator[Loaded, None, None]:
    """Yield the result of loading each job, in order; a thread loads the next one meanwhile.

    A piece may be overwritten once the next one is requested. Close the iterator if you leave it
    early; that waits for the thread. `load` takes a job, the slot 0 or 1 for its piece, and a
    function to call regularly, which raises once the result is no longer needed.
    """
    abandoned = threading.Event()

    def check() -> None:
        if abandoned.is_set():
            raise Abandoned

    with ThreadPoolExecutor(1, thread_name_prefix="sensorseq-reader") as thread:
        try:
            for i, _ in enumerate(jobs):
                if i == 0:
                    coming = thread.submit(load, jobs[0], 0, check)
                loaded = coming.result()
                if i + 1 < len(jobs):
                    coming = thread.submit(load, jobs[i + 1], (i + 1) % 2, check)
                yield loaded
                del loaded
        finally:
            abandoned.set()


HELD = 4  # a part of up to 1/4 of the buffer is read once and held in memory
_SHARE = (3, 8)  # most of the buffer for each of the two halves of a larger part
_HALF_BYTES = 24 * 1024**2  # enough: fits with 24 and with 96 MB took equally long
_BLOCK_BYTES = 256 * 1024  # size of the blocks in which windows are drawn together
_BLOCKS = 32  # fewest blocks in a buffer if a block has several chunks


class StreamedSampler(BatchSampler):
    """Draws batches buffer by buffer, so that only a limited part of the file is in memory.

    The file is divided into blocks of adjacent windows. Each epoch shuffles the blocks, cuts the
    result into buffers, and shuffles the windows of each buffer. A batch thus draws from all blocks
    of a buffer, and a buffer from the whole file. Every window is used once per epoch. `places`
    (N,) are the windows' positions in the file; the sizes are in windows.
    """

    def __init__(
        self,
        class_index: NDArray[np.integer[Any]],
        batch_size: int | None,
        *arguments: Any,
        places: NDArray[np.int64],
        block_windows: int,
        buffer_windows: int,
        **options: Any,
    ) -> None:
        super().__init__(class_index, batch_size, *arguments, **options)
        largest = int(np.diff(self._edges).max())
        if largest > buffer_windows:
            raise ArgumentError(
                f"batch_size={batch_size} makes a batch of {largest} windows, but the buffer for"
                f" reading a file of this size holds only {buffer_windows}. Lower batch_size, or"
                f" set the environment variable {BUFFER_VARIABLE} to more bytes."
            )
        self.places, self.block_windows = places, block_windows
        self.buffer_windows = buffer_windows
        self.cuts = [0]  # a buffer ends with a batch
        for batch in range(self.n_batches):
            if self._edges[batch + 1] - self._edges[self.cuts[-1]] > buffer_windows:
                self.cuts.append(batch)
        self.cuts.append(self.n_batches)

    def buffers(self) -> list[tuple[Rows, list[int]]]:
        """Draw an epoch: the windows of each buffer, in order, and the ends of its batches."""
        order = self._order()
        return [
            (
                order[self._edges[first] : self._edges[last]],
                [edge - self._edges[first] for edge in self._edges[first + 1 : last]],
            )
            for first, last in zip(self.cuts[:-1], self.cuts[1:], strict=True)
        ]

    def _order(self) -> Rows:
        drawn = np.arange(self.n_windows)
        if self._rows_of_class is not None:
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
    """Return a part of a large file for training, in memory if it is a small part."""
    if len(part) * part.window_bytes > buffer_bytes() // HELD:
        return StreamedData(part, target, weight)
    dtype: torch.dtype = getattr(torch, part.dtype)
    return TrainingData.from_arrays(part.read(), part.lengths, target, weight, dtype)


class StreamedData:
    """Like `TrainingData`, but windows are read again in every epoch instead of held in memory.

    The buffer has two halves: one in use, and one being read.
    """

    def __init__(
        self,
        part: StoredPart,
        target: NDArray[Any],
        weight: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self._part = part
        self._patch: Patch | None = None
        self._dtype: torch.dtype = getattr(torch, part.dtype)
        # everything except the windows
        held = TrainingData.from_arrays(
            np.empty((len(part), part.n_timesteps, 0)), part.lengths, target, weight, self._dtype
        )
        self.lengths, self.target, self.weight = held.lengths, held.target, held.weight
        half = min(buffer_bytes() * _SHARE[0] // _SHARE[1], _HALF_BYTES)
        self.buffer_windows = max(1, half // part.window_bytes)
        self._device = torch.device("cpu")
        self._change: Change | None = None

    def __len__(self) -> int:
        return len(self._part)

    @property
    def resident_bytes(self) -> int:
        """Size of the windows that are on the device at a time, in bytes."""
        return min(self.buffer_windows, len(self)) * self._part.window_bytes

    def to(self, device: torch.device) -> "StreamedData":
        """Move the buffers to `device` after reading."""
        self._device = device
        return self

    def patched(self, patch: Patch) -> "StreamedData":
        """Return the same windows as steps of several samples."""
        other = copy.copy(self)
        other._patch = patch
        return other

    def nothing(self) -> TrainingData:
        """Return an empty part with the shapes and types of the first buffer."""
        shape = 0, self._part.n_timesteps, self._part.samples.n_channels
        nowhere = torch.arange(0)
        return self._known(torch.empty(shape, dtype=self._dtype), nowhere).to(self._device)

    def refresh(self, change: Change) -> None:
        """Apply these changes to the windows of `passes` from now on."""
        self._change = change

    def make_sampler(self, *arguments: Any, **options: Any) -> StreamedSampler:
        """Return the sampler of batches; arguments are those of `BatchSampler`."""
        samples = self._part.samples
        stored_bytes = 4 * samples.n_timesteps * samples.n_channels
        chunk = samples.chunk_windows
        # Whole chunks, which are read and checked as a whole; few if the buffer is small.
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
        """Yield each buffer of an epoch, and the rows of its batches within the buffer."""
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
        # whole evaluation batches, so that they are the same as for windows in memory
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
        weight = self.weight
        lengths = None if self.lengths is None else self.lengths[rows]
        X, lengths = apply_patch(self._patch, X, lengths)
        return TrainingData(
            X,
            lengths,
            self.target[rows],
            None if weight is None else weight[rows],
        )
