"""The windows of one part as tensors, and the division of each epoch into batches."""

from collections.abc import Generator, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.prediction.patches import Patch
from sensorseq.preprocessing.windowing.balance import draw_in_rounds
from sensorseq.training.config import TrainingConfig
from sensorseq.training.window_format import apply_patch, crop_tensor

Rows = NDArray[np.int64]


class BatchSampler:
    """Draws the batches of each epoch; `class_index` (N,) contains the class of each window.

    ``"shuffle"`` visits every window once. ``"balanced"`` draws as many windows as ``"shuffle"``,
    but equally many from each class: some windows of a large class are left out, and windows of a
    small class are repeated. ``"sqrt"`` draws from each class in proportion to the square root of
    the class's size.

    If the last batch has fewer than `minimum_size` windows, it is merged into the previous batch,
    because batch normalization needs two windows; a single batch is always kept.
    """

    def __init__(
        self,
        class_index: NDArray[np.integer[Any]],
        batch_size: int | None,
        sampler: str,
        rng: np.random.Generator,
        minimum_size: int = 1,
    ) -> None:
        self.n_windows = len(class_index)
        self._rng = rng
        self._is_sqrt = sampler == "sqrt"
        self._rows_of_class = (
            [np.flatnonzero(class_index == k) for k in np.unique(class_index)]
            if sampler in ("balanced", "sqrt")
            else None
        )
        self._edges = batch_edges(self.n_windows, batch_size, minimum_size)

    @property
    def n_batches(self) -> int:
        """The number of batches in an epoch."""
        return len(self._edges) - 1

    def __iter__(self) -> Iterator[Rows]:
        order = self._order()
        for start, stop in zip(self._edges[:-1], self._edges[1:], strict=True):
            yield order[start:stop]

    def _order(self) -> Rows:
        if self._rows_of_class is None:
            return self._rng.permutation(self.n_windows)
        shares = self._sqrt_shares() if self._is_sqrt else self._equal_shares()
        drawn = [
            draw_in_rounds(rows, int(share), self._rng)
            for rows, share in zip(self._rows_of_class, shares, strict=True)
        ]
        return self._rng.permutation(np.concatenate(drawn))

    def _equal_shares(self) -> Rows:
        assert self._rows_of_class is not None
        n_classes = len(self._rows_of_class)
        # The numbers of windows drawn from two classes differ by at most one; the classes that get
        # an extra window are chosen at random.
        shares = np.full(n_classes, self.n_windows // n_classes)
        shares[self._rng.permutation(n_classes)[: self.n_windows % n_classes]] += 1
        return shares

    def _sqrt_shares(self) -> Rows:
        """Return the number of windows to draw from each class, rounded at random without bias."""
        assert self._rows_of_class is not None
        root = np.sqrt([len(rows) for rows in self._rows_of_class])
        exact = self.n_windows * root / root.sum()
        # Systematic sampling: put the classes in random order and round their cumulative counts.
        order = self._rng.permutation(len(exact))
        edges = np.concatenate([[0.0], np.cumsum(exact[order])])
        edges[-1] = self.n_windows
        shares = np.empty(len(exact), np.int64)
        shares[order] = np.diff(np.floor(edges + self._rng.random()).astype(np.int64))
        return shares


def batch_edges(n_windows: int, batch_size: int | None, minimum_size: int) -> list[int]:
    """Return the edges at which `BatchSampler` cuts an epoch into batches."""
    batch_size = min(batch_size or n_windows, n_windows)
    edges = [*range(0, n_windows, batch_size), n_windows]
    if len(edges) > 2 and edges[-1] - edges[-2] < minimum_size:
        del edges[-2]
    return edges


def minimum_batch(module: nn.Module, n_windows: int, batch_size: int | None) -> int:
    """Return the minimum number of windows in a step: two if the head uses batch normalization."""
    if not any(isinstance(part, nn.BatchNorm1d) for part in module.modules()):
        return 1
    if n_windows < 2 or batch_size == 1:
        raise ArgumentError(
            f"head_norm='batch' needs two windows per step, but batch_size={batch_size} with"
            f" {n_windows} training windows gives one. Use head_norm='layer'."
        )
    return 2


# A part smaller than this is kept on the GPU; a larger part is copied to the GPU batch by batch.
RESIDENT_BYTES = 2 * 1024**3
EVALUATION_BATCH = 256  # number of windows; limits the memory of a forward pass


@dataclass(frozen=True)
class TrainingData:
    """Scaled windows of one part, training or validation.

    Parameters
    ----------
    X : Tensor of shape (N, T, C)
        Floating-point values, all finite; the padding is zero.
    lengths : Tensor of shape (N,), int64, or None
        Number of valid steps of each window, 1 to T; None if all windows have T valid steps.
    target : Tensor of shape (N,), int64
        Class index of each window, 0 to K - 1.
    weight : Tensor of shape (N,), or None
        Weight of each window in the loss; None means 1.
    """

    X: Tensor
    lengths: Tensor | None
    target: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def resident_bytes(self) -> int:
        """Size in bytes of the windows that are on the device at the same time."""
        return self.X.nbytes

    @property
    def identity(self) -> Hashable:
        """A key for the windows in memory; parts that share their windows have the same key."""
        return id(self.X), id(self.lengths), id(self.target)

    def patched(self, patch: Patch) -> "TrainingData":
        """Return the same windows with several samples joined into each step.

        Parameters
        ----------
        patch : Patch
            How samples become steps.
        """
        X, lengths = apply_patch(patch, self.X, self.lengths)
        return replace(self, X=X, lengths=lengths)

    def nothing(self) -> "TrainingData":
        """Return an empty part with the same shapes and types."""
        return self.take(torch.arange(0), self.X.device)

    def refresh(self, windows: NDArray[Any]) -> None:
        """Overwrite the windows with other windows.

        Parameters
        ----------
        windows : ndarray of shape (N, T, C)
            Scaled windows.
        """
        self.X.copy_(torch.from_numpy(windows))

    def make_sampler(self, *arguments: Any, **options: Any) -> BatchSampler:
        """Return a sampler that draws batches of these windows.

        Parameters
        ----------
        *arguments, **options : object
            Arguments of `BatchSampler`.
        """
        return BatchSampler(*arguments, **options)

    def passes(
        self, batches: BatchSampler
    ) -> Generator[tuple["TrainingData", list[Rows]], None, None]:
        """Yield one epoch's blocks of windows, each with its batches as arrays of window indices.

        Parameters
        ----------
        batches : BatchSampler
            The sampler that draws the batches of the epoch.
        """
        yield self, list(batches)

    def blocks(self) -> Generator["TrainingData", None, None]:
        """Yield all windows in order, in blocks that fit in memory."""
        yield self

    @classmethod
    def from_arrays(
        cls,
        X: NDArray[Any],
        lengths: NDArray[np.int64],
        target: NDArray[Any],
        weight: NDArray[np.floating[Any]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "TrainingData":
        """Return a part with tensors of `dtype` that are copied from arrays.

        Parameters
        ----------
        X, lengths, target, weight : ndarray
            Values of the fields; `lengths` must not be None.
        dtype : torch.dtype, default=torch.float32
            Precision of the windows and weights.
        """
        return cls(
            torch.tensor(X, dtype=dtype),
            None if (lengths == X.shape[1]).all() else torch.tensor(lengths, dtype=torch.int64),
            torch.tensor(target, dtype=torch.int64),
            None if weight is None else torch.tensor(weight, dtype=dtype),
        )

    def to(self, device: torch.device) -> "TrainingData":
        """Return this part on `device`, or unchanged if it is too large for the device.

        Parameters
        ----------
        device : torch.device
            The target device.
        """
        if device.type != "cpu" and self.X.nbytes > RESIDENT_BYTES:
            return self
        moved = (None if part is None else part.to(device) for part in vars(self).values())
        return TrainingData(*moved)  # type: ignore[arg-type]  # X and target are never None

    def take(self, rows: Tensor, device: torch.device) -> "TrainingData":
        """Return the windows with the indices `rows`, on `device`.

        Parameters
        ----------
        rows : Tensor of int64
            Indices of the windows.
        device : torch.device
            The target device.
        """
        rows = rows.to(self.X.device)
        taken = (None if part is None else part[rows].to(device) for part in vars(self).values())
        return TrainingData(*taken)  # type: ignore[arg-type]  # X and target are never None


def valid_lengths(data: TrainingData) -> NDArray[np.int64]:
    """Return the number of valid steps of each window."""
    if data.lengths is None:
        return np.full(len(data), data.X.shape[1])
    lengths: NDArray[np.int64] = data.lengths.cpu().numpy()
    return lengths


def center_windows(data: TrainingData, config: TrainingConfig) -> TrainingData:
    """Crop windows to the center, as in validation, if training uses random crops."""
    if config.crop != "random" or config.max_timesteps is None:
        return data
    X, lengths = crop_tensor(data.X, data.lengths, config.max_timesteps, None)
    return TrainingData(X, lengths, data.target)
