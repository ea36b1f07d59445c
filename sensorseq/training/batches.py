"""Which windows form each step of an epoch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.preprocessing.balance import draw_in_rounds
from sensorseq.training.state import generator_state

Rows = NDArray[np.int64]


class BatchSampler:
    """Draw the batches of each epoch.

    Parameters
    ----------
    class_index : ndarray of shape (N,), int64
        Class of each training window.
    batch_size : int or None
        None, or more than there is: one batch.
    sampler : {"shuffle", "balanced", "sqrt"}
        ``"shuffle"`` visits every window once in random order. ``"balanced"`` draws as many
        windows, in equal shares from each class: windows of a large class are skipped alternately,
        those of a small one come several times. ``"sqrt"`` does the same with shares proportional
        to the square root of the class's number of windows.
    last_batch : {"keep", "merge", "drop"}
        What to do with a last batch that is not full: keep it, merge it into the one before, or
        drop it from this epoch. A single batch is always kept.
    minimum_size : int
        A last batch of fewer windows is merged into the one before even with ``"keep"``, because
        batch normalization needs two windows.
    rng : numpy.random.Generator
        Determines the order.
    windows_per_epoch : int, optional
        Windows of one epoch; all by default. With ``"shuffle"``, the next epoch continues where
        this one ended, so that every window comes once before any comes again. No window comes
        twice in an epoch unless `windows_per_epoch` is more than there are.
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
    ) -> None:
        n_windows = len(class_index)
        n_drawn = windows_per_epoch or n_windows
        self._rng = rng
        self._n_windows = n_windows
        self._n_drawn = n_drawn
        self._is_sqrt = sampler == "sqrt"
        self._rows_of_class = (
            [np.flatnonzero(class_index == k) for k in np.unique(class_index)]
            if sampler in ("balanced", "sqrt")
            else None
        )
        # Of a permutation, what the epochs so far have not used.
        self._left: Rows | None = None
        if windows_per_epoch is not None and self._rows_of_class is None:
            self._left = np.zeros(0, np.int64)
        self._edges = _edges(n_drawn, batch_size, last_batch, minimum_size)

    @property
    def n_batches(self) -> int:
        """Batches of one epoch."""
        return len(self._edges) - 1

    @property
    def n_windows(self) -> int:
        """Windows of one epoch, without those of a dropped batch."""
        return self._edges[-1]

    def __iter__(self) -> Iterator[Rows]:
        order = self._order()
        for start, stop in zip(self._edges[:-1], self._edges[1:], strict=True):
            yield order[start:stop]

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to draw the epochs that follow."""
        state: dict[str, Any] = {"rng": generator_state(self._rng)}
        if self._left is not None:
            state |= {"left": self._left.tolist(), "n_windows": self._n_windows}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was called."""
        self._rng.bit_generator.state = state["rng"]
        if self._left is not None:  # of other windows it is of no use
            is_same = state.get("n_windows") == self._n_windows
            self._left = np.array(state["left"] if is_same else [], np.int64)

    def _order(self) -> Rows:
        if self._left is not None:
            return self._continued(self._left)
        if self._rows_of_class is None:
            return self._rng.permutation(self._n_windows)
        shares = self._sqrt_shares() if self._is_sqrt else self._equal_shares()
        drawn = [
            draw_in_rounds(rows, int(share), self._rng)
            for rows, share in zip(self._rows_of_class, shares, strict=True)
        ]
        return self._rng.permutation(np.concatenate(drawn))

    def _equal_shares(self) -> Rows:
        assert self._rows_of_class is not None
        n_classes = len(self._rows_of_class)
        # Shares differ by one at most; which classes get the odd one is drawn, too.
        shares = np.full(n_classes, self._n_drawn // n_classes)
        shares[self._rng.permutation(n_classes)[: self._n_drawn % n_classes]] += 1
        return shares

    def _sqrt_shares(self) -> Rows:
        """Return whole shares, each rounded up or down so that its expectation is exact."""
        assert self._rows_of_class is not None
        root = np.sqrt([len(rows) for rows in self._rows_of_class])
        exact = self._n_drawn * root / root.sum()
        # Systematic sampling: classes in random order, rounded along their cumulative sum.
        order = self._rng.permutation(len(exact))
        edges = np.concatenate([[0.0], np.cumsum(exact[order])])
        edges[-1] = self._n_drawn
        shares = np.empty(len(exact), np.int64)
        shares[order] = np.diff(np.floor(edges + self._rng.random()).astype(np.int64))
        return shares

    def _continued(self, left: Rows) -> Rows:
        """Return the next windows of one permutation after another."""
        n_used = self._edges[-1]  # windows of a dropped batch come in the next epoch
        taken = [left]
        while sum(map(len, taken)) < n_used:
            # Those that have not come in this epoch come first.
            times = np.bincount(np.concatenate(taken), minlength=self._n_windows)
            following = self._rng.permutation(self._n_windows)
            taken.append(following[np.argsort(times[following], kind="stable")])
        order = np.concatenate(taken)
        self._left = order[n_used:]
        return self._rng.permutation(order[:n_used])


def count_batches(
    n_windows: int, batch_size: int | None, last_batch: str, minimum_size: int = 1
) -> int:
    """Return the batches of an epoch of `n_windows`; the arguments are those of `BatchSampler`."""
    return len(_edges(n_windows, batch_size, last_batch, minimum_size)) - 1


def _edges(n_windows: int, batch_size: int | None, last_batch: str, minimum_size: int) -> list[int]:
    batch_size = min(batch_size or n_windows, n_windows)
    edges = [*range(0, n_windows, batch_size), n_windows]
    tail = edges[-1] - edges[-2]
    if len(edges) > 2 and tail < batch_size:
        if last_batch == "drop":
            del edges[-1]
        elif last_batch == "merge" or tail < minimum_size:
            del edges[-2]
    return edges
