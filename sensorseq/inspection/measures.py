"""Measurements of the windows of one part, for the checks."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.finding import Finding
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.outside import BLOCK_VALUES, Floats, Ints

SAMPLE_VALUES = 200_000  # this many values of a channel are enough for its median


class Measures:
    """Measurements of windows in memory, each computed once."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.n_timesteps, self.n_channels = windows.X.shape[1:]

    def __len__(self) -> int:
        return len(self.windows)

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.bool_] | None]]:
        """Yield blocks of windows in order, each as its slice, values, and mask of valid steps."""
        X, lengths, are_full = self.windows.X, self.windows.lengths, self.windows.are_full
        size = max(1, BLOCK_VALUES // max(1, X[:1].size))
        steps = np.arange(self.n_timesteps)
        for first in range(0, len(self), size):
            where = slice(first, first + size)
            yield where, X[where], None if are_full else steps < lengths[where, None]

    @cached_property
    def steps(self) -> Floats:
        """The number of valid steps of each window, shape (n,)."""
        return self.windows.lengths.astype(np.float64)

    @cached_property
    def _moments(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Mean, variance, minimum and maximum of each window and channel, each of shape (n, c)."""
        mean, variance, least, largest = np.zeros((4, len(self), self.n_channels))
        for where, values, valid in self.blocks():
            # the steps become the last axis, because numpy is several times slower along a short
            # axis
            block = np.ascontiguousarray(values.transpose(0, 2, 1), np.float64)
            first, n = block[:, :, 0], self.steps[where, None]
            offset = block - first[:, :, None]
            if valid is not None:
                offset *= valid[:, None]
            shift = offset.sum(axis=2) / n
            mean[where] = first + shift
            variance[where] = np.einsum("nct,nct->nc", offset, offset) / n - shift**2
            least[where] = first + offset.min(axis=2)
            largest[where] = first + offset.max(axis=2)
        return mean, np.maximum(variance, 0.0), least, largest

    @property
    def window_mean(self) -> Floats:
        """Mean of each window and channel, shape (n, c)."""
        return self._moments[0]

    @property
    def window_sd(self) -> Floats:
        """Standard deviation within each window and channel, shape (n, c)."""
        return np.asarray(np.sqrt(self._moments[1]))

    @property
    def window_range(self) -> tuple[Floats, Floats]:
        """Minimum and maximum of each window and channel, each of shape (n, c)."""
        return self._moments[2:]

    @cached_property
    def mean(self) -> Floats:
        """Mean of each channel over all valid steps, shape (c,)."""
        return np.average(self.window_mean, axis=0, weights=self.steps)

    @cached_property
    def sd(self) -> Floats:
        """Standard deviation of each channel over all valid steps, shape (c,)."""
        second = self._moments[1] + (self.window_mean - self.mean) ** 2
        return np.asarray(np.sqrt(np.average(second, axis=0, weights=self.steps)))

    def sample(self, channel: int) -> Floats:
        """Return about `SAMPLE_VALUES` valid values of a channel, from evenly spaced windows."""
        every = max(1, len(self) * self.n_timesteps // SAMPLE_VALUES)
        values = np.asarray(self.windows.X[::every, :, channel], np.float64)
        return np.asarray(values[np.arange(self.n_timesteps) < self.steps[::every, None]])

    def finding(
        self,
        kind: str,
        *,
        channels: Sequence[int] | Ints = (),
        rows: Sequence[int] | Ints = (),
        classes: Sequence[int] | Ints = (),
        **values: Any,
    ) -> Finding:
        """Return a finding about these windows, with the names of channels, classes and rows."""
        where: dict[str, Sequence[Any]] = {
            "channels": self.channel_names(channels),
            "rows": self.row_names(np.asarray(rows, np.int64)),
            "classes": self.class_names(classes),
        }
        if len(channels):
            values["channels"] = [int(number) for number in channels]
        where = {what: names for what, names in where.items() if names}
        return Finding(kind, {"n_train": len(self), **values}, where)

    def row_names(self, places: Ints) -> list[int]:
        """Return the indices, in the X given to `fit`, of the windows at `places`."""
        rows = self.windows.rows
        names: list[int] = (places if rows is None else rows[places]).tolist()
        return names

    def channel_names(self, numbers: Sequence[int] | Ints) -> list[str]:
        """Return the names of the channels."""
        names = self.windows.channels or ()
        return [f"channel {i}" + (f" ({names[i]})" if i < len(names) else "") for i in numbers]

    def class_names(self, codes: Sequence[int] | Ints) -> list[str]:
        """Return the names of the classes."""
        classes = self.windows.classes.tolist()
        return [repr(classes[k]) if k < len(classes) else str(k) for k in codes]
