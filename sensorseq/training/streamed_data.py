"""Windows that stay in their file and are read buffer by buffer in each epoch."""

import copy
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.errors import ArgumentError
from sensorseq.io.stored_windows import BUFFER_VARIABLE, buffer_bytes
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.windowing.augment import channel_sd_of
from sensorseq.training.batches import (
    EVALUATION_BATCH,
    BatchSampler,
    Rows,
    TrainingData,
)
from sensorseq.training.labels import ClassTarget
from sensorseq.training.prepared_windows import channel_sd
from sensorseq.training.window_format import (
    Change,
    WindowFormat,
    apply_patch,
    check_augment,
    epoch_changes,
)

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")


class Abandoned(BaseException):
    """Raised inside a `load` function whose result is no longer needed."""


def read_ahead(
    load: Callable[[Job, int, Callable[[], None]], Loaded], jobs: Sequence[Job]
) -> Generator[Loaded, None, None]:
    """Yield the loaded piece of each job, in order, while a thread loads the next piece.

    A piece may be overwritten once the next piece is requested. If you do not exhaust the iterator,
    close it; closing waits for the thread. `load` takes a job, the slot (0 or 1) for the piece, and
    a check function. `load` must call the check function regularly; the function raises `Abandoned`
    once the result is no longer needed.
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


HELD = 4  # a part of up to 1/4 of the buffer's size is read once and kept in memory
_SHARE = (3, 8)  # maximum size of each of the two halves, as a fraction (3/8) of `buffer_bytes`
_HALF_BYTES = 24 * 1024**2  # large enough: fits took equally long with 24 MB and with 96 MB
_BLOCK_BYTES = 256 * 1024  # target size of a block, whose windows are drawn together
_BLOCKS = 32  # minimum number of blocks in a buffer if a block has several chunks


class StreamedSampler(BatchSampler):
    """Draws batches buffer by buffer, so that only a limited part of the file is in memory.

    The file is divided into blocks of adjacent windows. Each epoch shuffles the blocks, cuts the
    result into buffers, and shuffles the windows of each buffer. Therefore, the windows of a batch
    come from all blocks of a buffer, and the blocks of a buffer come from the entire file.
    ``"shuffle"`` uses every window once per epoch. `places` (N,) contains the windows' positions in
    the file; all sizes are numbers of windows.
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
                f"batch_size={batch_size} leads to a batch of {largest} windows, but the buffer for"
                f" reading the file holds only {buffer_windows} windows. Lower batch_size, or set"
                f" the environment variable {BUFFER_VARIABLE} to more bytes."
            )
        self.places, self.block_windows = places, block_windows
        self.buffer_windows = buffer_windows
        self.cuts = [0]  # the end of a buffer is always the end of a batch
        for batch in range(self.n_batches):
            if self._edges[batch + 1] - self._edges[self.cuts[-1]] > buffer_windows:
                self.cuts.append(batch)
        self.cuts.append(self.n_batches)

    def buffers(self) -> list[tuple[Rows, list[int]]]:
        """Draw an epoch: the windows of each buffer, in order, and the edges of its batches."""
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


class StreamedData:
    """Like `TrainingData`, but windows are not kept in memory: they are read again in every epoch.

    The buffer has two halves: one that is in use, and one into which windows are read.
    """

    def __init__(
        self,
        windows: Windows,
        form: WindowFormat,
        weight: NDArray[np.floating[Any]] | None = None,
        *,
        training: bool = False,
    ) -> None:
        self._windows, self._form, self._training = windows, form, training
        self._patch: Patch | None = None
        self._n_timesteps = form.n_timesteps(windows, training=training)
        held = _without_samples(windows, form, weight, self._n_timesteps)
        self.lengths, self.target, self.weight = held.lengths, held.target, held.weight
        half = min(buffer_bytes() * _SHARE[0] // _SHARE[1], _HALF_BYTES)
        self.buffer_windows = max(1, half // self._window_bytes)
        self._device = torch.device("cpu")
        self._change: Change | None = None

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def _window_bytes(self) -> int:
        return window_bytes(self._windows, self._form, training=self._training)

    @property
    def resident_bytes(self) -> int:
        """Size in bytes of the windows that are on the device at the same time."""
        return min(self.buffer_windows, len(self)) * self._window_bytes

    def to(self, device: torch.device) -> "StreamedData":
        """From now on, move every buffer to `device` after it has been read."""
        self._device = device
        return self

    def patched(self, patch: Patch) -> "StreamedData":
        """Return the same windows with several samples joined into each step."""
        other = copy.copy(self)
        other._patch = patch
        return other

    def nothing(self) -> TrainingData:
        """Return an empty part with the shapes and types of the first buffer."""
        shape = 0, self._n_timesteps, self._windows.X.shape[2]
        empty = torch.empty(shape, dtype=self._form.torch_dtype)
        return self._with_targets(empty, torch.arange(0)).to(self._device)

    def refresh(self, change: Change) -> None:
        """From now on, apply this change to the windows that `passes` yields."""
        self._change = change

    def make_sampler(self, *arguments: Any, **options: Any) -> StreamedSampler:
        """Return a sampler that draws batches of these windows buffer by buffer."""
        samples = self._windows.X
        stored_bytes = 4 * samples.n_timesteps * samples.n_channels
        chunk = samples.chunk_windows
        # A block consists of complete chunks, because a chunk is read as a unit. If the buffer is
        # small, a block has only a few chunks.
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
        """Yield an epoch's buffers, each with its batches as arrays of positions in the buffer."""
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
        """Yield all windows in order and unchanged, as many at a time as fit in the buffer."""
        # A multiple of the evaluation batch gives the same batches as for windows in memory.
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
        shape = capacity, self._n_timesteps, self._windows.X.shape[2]
        halves = [np.empty(shape, self._form.dtype) for _ in range(min(2, len(jobs)))]
        training = self._training
        with self._windows.opened() as reader:

            def load(job: Any, half: int, check: Callable[[], None]) -> Any:
                rows, finish = split(job)
                X = halves[half][: len(rows)]
                self._form.scale_into(
                    X, reader, rows, training=training, change=change, check=check
                )
                return finish(self._with_targets(torch.from_numpy(X), torch.from_numpy(rows)))

            with closing(read_ahead(load, jobs)) as loaded:
                for item in loaded:
                    yield (
                        item.to(self._device)
                        if isinstance(item, TrainingData)
                        else (item[0].to(self._device), item[1])
                    )

    def _with_targets(self, X: Tensor, rows: Tensor) -> TrainingData:
        weight = self.weight
        lengths = None if self.lengths is None else self.lengths[rows]
        X, lengths = apply_patch(self._patch, X, lengths)
        return TrainingData(
            X,
            lengths,
            self.target[rows],
            None if weight is None else weight[rows],
        )


def window_bytes(windows: Windows, form: WindowFormat, *, training: bool) -> int:
    """Return the size in bytes of a cropped and scaled window."""
    n_values = form.n_timesteps(windows, training=training) * int(windows.X.shape[2])
    return n_values * np.dtype(form.dtype).itemsize


def _without_samples(
    windows: Windows,
    form: WindowFormat,
    weight: NDArray[np.floating[Any]] | None,
    n_timesteps: int,
) -> TrainingData:
    lengths = np.minimum(windows.lengths, n_timesteps)
    X = np.empty((len(windows), n_timesteps, 0))
    return TrainingData.from_arrays(X, lengths, windows.target, weight, form.torch_dtype)


def make_data(
    windows: Windows, form: WindowFormat, target: ClassTarget, *, training: bool
) -> TrainingData | StreamedData:
    """Crop and scale windows for a network; windows of a large file stay in the file."""
    weight = target.weigh(windows.target, windows.weight) if training else None
    n_bytes = len(windows) * window_bytes(windows, form, training=training)
    if windows.are_stored and n_bytes > buffer_bytes() // HELD:
        return StreamedData(windows, form, weight, training=training)
    n_timesteps = form.n_timesteps(windows, training=training)
    X = torch.empty(len(windows), n_timesteps, windows.X.shape[2], dtype=form.torch_dtype)
    with windows.opened() as reader:
        form.scale_into(X.numpy(), reader, np.arange(len(windows)), training=training)
    return replace(_without_samples(windows, form, weight, n_timesteps), X=X)


def make_renewal(
    windows: Windows,
    form: WindowFormat,
    data: TrainingData | StreamedData,
    seed: np.random.SeedSequence,
) -> Callable[[int], Any] | None:
    """Return a function that changes the training windows in each epoch, or None.

    The result is None without augmentation. `data` contains the scaled `windows`; `seed` is the
    seed of the run.
    """
    augmentation = check_augment(form.augment)
    if augmentation is None:
        return None
    augmentation = augmentation.with_indices(windows.X.shape[2], form.channels)
    if isinstance(data, StreamedData):
        # The file is read piece by piece, so results are rounded differently than for windows in
        # memory.
        return epoch_changes(
            augmentation,
            channel_sd(map(partial(form.cropped, training=True), windows.pieces())),
            seed,
        )
    held = form.cropped(windows, training=True)
    changes = epoch_changes(augmentation, channel_sd_of(held.X, held.lengths), seed)

    def renewed(epoch: int) -> NDArray[Any]:
        X = changes(epoch)(held, np.arange(len(held))).scaled(form.scaler, form.dtype)
        patched, _ = apply_patch(form.patch, torch.from_numpy(X), data.lengths)
        return patched.numpy()

    return renewed
