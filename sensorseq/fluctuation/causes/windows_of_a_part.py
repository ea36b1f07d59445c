"""Part: windows of one part as the data checks see them, block by block, padding left out."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 250_000  # values that are looked at together: 2 MB, which a cache holds
SAMPLE_VALUES = 200_000  # of a channel, for its median
MOST_LISTED = 5  # rows in a sentence

Floats = NDArray[np.float64]


class Part:
    """Windows of one part; everything measured once.

    Parameters
    ----------
    X : ndarray of shape (n, t, c)
        Windows.
    lengths : ndarray of shape (n,) or None
        Valid steps.
    target : ndarray of shape (n,), int64
        Classes.
    groups : ndarray of shape (n,) or None
        Groups.
    rows : ndarray of shape (n,) or None
        Of the windows given to `fit`.
    """

    def __init__(
        self,
        X: NDArray[Any],
        lengths: NDArray[np.int64] | None,
        target: NDArray[np.int64],
        groups: NDArray[Any] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.X = X if X.ndim == 3 else X[:, :, None]
        self.target = np.asarray(target)
        whole = lengths is None or bool((np.asarray(lengths) == self.X.shape[1]).all())
        self.lengths = None if whole else np.asarray(lengths, np.int64)
        self.groups = None if groups is None else np.asarray(groups)
        self.rows = None if rows is None else np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self.X)

    @property
    def n_channels(self) -> int:
        """Channels, c."""
        return int(self.X.shape[2])

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.bool_] | None]]:
        """Yield windows in order: where they are, their values and which steps are valid."""
        size = max(1, BLOCK_VALUES // max(1, self.X[:1].size))
        steps = np.arange(self.X.shape[1])
        for first in range(0, len(self), size):
            where = slice(first, first + size)
            valid = None if self.lengths is None else steps < self.lengths[where, None]
            yield where, self.X[where], valid

    @cached_property
    def steps(self) -> Floats:
        """Valid steps of each window, at least one, (n,)."""
        n_timesteps = float(self.X.shape[1])
        if self.lengths is None:
            return np.full(len(self), n_timesteps)
        return np.maximum(self.lengths, 1).astype(np.float64)

    @cached_property
    def _moments(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return mean, variance, least and largest of each window and channel, (n, c) each."""
        shape = (len(self), self.n_channels)
        mean, variance, least, largest = (np.zeros(shape) for _ in range(4))
        for where, values, valid in self.blocks():
            # steps last: along rows of a few channels numpy is several times as slow
            block = np.ascontiguousarray(values.transpose(0, 2, 1), np.float64)
            n = self.steps[where, None]
            low = high = block
            if valid is not None:
                # an empty window counts as one step of zero
                inside = valid[:, None]
                some = np.any(valid, axis=1, keepdims=True)
                low = np.where(inside, block, np.inf)
                high = np.where(inside, block, -np.inf)
                block = np.where(inside, block, 0.0)
                least[where] = np.where(some, low.min(axis=2), 0.0)
                largest[where] = np.where(some, high.max(axis=2), 0.0)
            else:
                least[where], largest[where] = low.min(axis=2), high.max(axis=2)
            mean[where] = block.sum(axis=2) / n
            apart = block - mean[where][:, :, None]
            if valid is not None:
                apart = np.where(valid[:, None], apart, 0.0)
            variance[where] = np.einsum("nct,nct->nc", apart, apart) / n
        return mean, variance, least, largest

    @property
    def window_mean(self) -> Floats:
        """Mean of each window and channel, (n, c)."""
        return self._moments[0]

    @property
    def window_sd(self) -> Floats:
        """Standard deviation within each window and channel, (n, c)."""
        return np.asarray(np.sqrt(self._moments[1]))

    @property
    def window_range(self) -> tuple[Floats, Floats]:
        """Least and largest value of each window and channel, (n, c) each."""
        return self._moments[2], self._moments[3]

    @cached_property
    def mean(self) -> Floats:
        """Mean of each channel over all valid steps, (c,)."""
        return np.asarray((self.window_mean * self.steps[:, None]).sum(axis=0) / self.steps.sum())

    @cached_property
    def sd(self) -> Floats:
        """Standard deviation of each channel over all valid steps, (c,)."""
        second = self._moments[1] + (self.window_mean - self.mean) ** 2
        return np.asarray(np.sqrt((second * self.steps[:, None]).sum(axis=0) / self.steps.sum()))

    def sample(self, channel: int) -> Floats:
        """Return valid values of a channel, at most about `SAMPLE_VALUES`, of windows evenly."""
        every = max(1, len(self) * self.X.shape[1] // SAMPLE_VALUES)
        values = np.asarray(self.X[::every, :, channel], np.float64)
        if self.lengths is None:
            return values.ravel()
        return np.asarray(values[np.arange(values.shape[1]) < self.lengths[::every, None]])

    def name_rows(self, places: Sequence[int] | NDArray[Any]) -> str:
        """Return the first few of some windows by their rows, for a sentence."""
        chosen = np.asarray(places, np.int64)[:MOST_LISTED]
        rows = chosen if self.rows is None else self.rows[chosen]
        more = ", ..." if len(places) > MOST_LISTED else ""
        return ", ".join(str(row) for row in rows) + more


class Names:
    """What channels and classes are called, and the estimator's arguments.

    Parameters
    ----------
    channels, classes : sequence or None
        Their names.
    arguments : dict
        For the words of a recommendation.
    """

    def __init__(
        self, channels: Sequence[str] | None, classes: Sequence[Any] | None, arguments: Any
    ) -> None:
        self._channels, self._classes, self.arguments = channels, classes, arguments

    def channel(self, number: int) -> str:
        """Return what a channel is called."""
        known = self._channels is not None and number < len(self._channels)
        return f"channel {number}" + (f" ({self._channels[number]})" if known else "")  # type: ignore[index]

    def channels(self, numbers: Sequence[int] | NDArray[Any]) -> str:
        """Return what several channels are called."""
        shown = ", ".join(self.channel(int(number)) for number in numbers[:MOST_LISTED])
        return shown + (", ..." if len(numbers) > MOST_LISTED else "")

    def class_(self, code: int) -> str:
        """Return what a class is called."""
        known = self._classes is not None and code < len(self._classes)
        return repr(self._classes[code]) if known else str(code)  # type: ignore[index]

    def can_scale(self, *not_when: str) -> bool:
        """Whether there is an argument `scale`, and it is none of these already."""
        if not self.arguments:
            return True
        return "scale" in self.arguments and self.arguments["scale"] not in not_when
