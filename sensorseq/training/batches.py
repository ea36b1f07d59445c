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
    sampler : {"shuffle", "balanced"}
        ``"shuffle"`` visits every window once in random order. ``"balanced"`` draws as many
        windows, in equal shares from each class: windows of a large class are skipped alternately,
        those of a small one come several times.
    last_batch : {"keep", "merge", "drop"}
        What to do with a last batch that is not full: keep it, merge it into the one before, or
        drop it from this epoch. A single batch is always kept.
    minimum_size : int
        A last batch of fewer windows is merged into the one before even with ``"keep"``, because
        batch normalization needs two windows.
    rng : numpy.random.Generator
        Determines the order.
    """

    def __init__(
        self,
        class_index: NDArray[np.integer[Any]],
        batch_size: int | None,
        sampler: str,
        last_batch: str,
        rng: np.random.Generator,
        minimum_size: int = 1,
    ) -> None:
        n_windows = len(class_index)
        self._rng = rng
        self._n_windows = n_windows
        self._rows_of_class = (
            [np.flatnonzero(class_index == k) for k in np.unique(class_index)]
            if sampler == "balanced"
            else None
        )
        self._edges = _edges(
            n_windows, min(batch_size or n_windows, n_windows), last_batch, minimum_size
        )

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
        return {"rng": generator_state(self._rng)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from where `state_dict` was called."""
        self._rng.bit_generator.state = state["rng"]

    def _order(self) -> Rows:
        if self._rows_of_class is None:
            return self._rng.permutation(self._n_windows)
        n_classes = len(self._rows_of_class)
        # Shares differ by one at most; which classes get the odd one is drawn, too.
        shares = np.full(n_classes, self._n_windows // n_classes)
        shares[self._rng.permutation(n_classes)[: self._n_windows % n_classes]] += 1
        drawn = [
            draw_in_rounds(rows, int(share), self._rng)
            for rows, share in zip(self._rows_of_class, shares, strict=True)
        ]
        return self._rng.permutation(np.concatenate(drawn))


def _edges(n_windows: int, batch_size: int, last_batch: str, minimum_size: int) -> list[int]:
    edges = [*range(0, n_windows, batch_size), n_windows]
    tail = edges[-1] - edges[-2]
    if len(edges) > 2 and tail < batch_size:
        if last_batch == "drop":
            del edges[-1]
        elif last_batch == "merge" or tail < minimum_size:
            del edges[-2]
    return edges
