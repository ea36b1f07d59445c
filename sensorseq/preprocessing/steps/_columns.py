"""The columns that a step reads, and the positions of its results."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_flag, check_names, check_rate
from sensorseq.errors import ArgumentError, check_choice, repeated
from sensorseq.preprocessing.steps.base import Step, StepStream, StreamBase, set_fields
from sensorseq.recording import Channel

Channels = tuple[Channel, ...]


@dataclass(frozen=True)
class Columns:
    """The columns that a step reads, and the source of each column of the result.

    A source is an input column to copy, or -1 - j for the j-th column that the step computes.
    """

    picked: tuple[int, ...]
    sources: tuple[int, ...]
    channels: Channels


class Kernel(Protocol):
    """The computation of a step on its columns: one output row per input row, possibly delayed.

    A kernel keeps no reference to its inputs or outputs.
    """

    latency_samples: int

    def push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Process samples (n, n_picked); return the rows that are ready."""

    def flush(self) -> NDArray[np.float64]:
        """Return the remaining rows."""


class ColumnStream(StreamBase):
    """Applies a kernel to some columns, and delays the other columns by the kernel's latency."""

    def __init__(
        self, kernel: Kernel, columns: Columns, channels: Channels, sample_rate_hz: float
    ) -> None:
        super().__init__(channels)
        self.latency_s = kernel.latency_samples / sample_rate_hz
        self._kernel = kernel
        old = [source for source in columns.sources if source >= 0]
        new = [-1 - source for source in columns.sources if source < 0]
        self._n_columns = len(columns.sources)
        # True if the result consists of the kernel's columns, in the same order.
        self._is_computed = new == list(range(self._n_columns))
        self._picked = _index(columns.picked)
        self._old = _index([i for i, source in enumerate(columns.sources) if source >= 0])
        self._new = _index([i for i, source in enumerate(columns.sources) if source < 0])
        self._from_input = _index(old)
        self._from_kernel = _index(new)
        self._waiting = np.empty((0, len(old)))

    def _push(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        passing = samples[:, self._from_input]
        if len(self._waiting):
            passing = np.concatenate([self._waiting, passing])
        computed = self._kernel.push(np.ascontiguousarray(samples[:, self._picked]))
        # Copy the samples, because the caller may reuse their memory.
        self._waiting = passing[len(computed) :].copy()
        return self._assemble(passing[: len(computed)], computed)

    def _flush(self) -> NDArray[np.float64]:
        computed = self._kernel.flush()
        return self._assemble(self._waiting, computed)

    def _assemble(
        self, passing: NDArray[np.float64], computed: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if self._is_computed:
            return computed
        rows = np.empty((len(computed), self._n_columns))
        rows[:, self._old] = passing
        rows[:, self._new] = computed[:, self._from_kernel]
        return rows


class ColumnStep(Step):
    """A step that computes columns from other columns."""

    def output_channels(self, channels: Channels) -> Channels:
        return self._columns(channels).channels

    def stream(self, channels: Channels, sample_rate_hz: float) -> StepStream:
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        columns = self._columns(channels)
        kernel = self._kernel(rate, [channels[column] for column in columns.picked])
        return ColumnStream(kernel, columns, channels, rate)

    @abstractmethod
    def _columns(self, channels: Channels) -> Columns: ...

    @abstractmethod
    def _kernel(self, rate: float, inputs: list[Channel]) -> Kernel: ...


class ChannelwiseStep(ColumnStep):
    """A step that derives a new channel from each of `channels`; None means all channels.

    New channels are named ``<name>_<suffix>``; without `keep`, they replace the original ones.
    """

    channels: tuple[str, ...] | None
    keep: bool

    def _set_fields(self, **values: object) -> None:
        """Set the fields of the base class and the given fields when the step is created."""
        set_fields(
            self,
            channels=None if self.channels is None else check_names("channels", self.channels),
            keep=check_flag("keep", self.keep),
            **values,
        )

    def _columns(self, channels: Channels) -> Columns:
        picked = find_columns("channels", self.channels, channels)
        derived = [self._derived(channels[column]) for column in picked]
        return derived_columns(channels, picked, derived, self.keep)

    @abstractmethod
    def _derived(self, channel: Channel) -> Channel: ...


def _index(columns: Sequence[int]) -> list[int] | slice:
    """Return an index for these columns: a slice if they are adjacent, which avoids a copy."""
    if columns and list(columns) == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return list(columns)


def find_column(argument: str, name: str, channels: Channels) -> int:
    """Return the column of a channel; an error names the nearest known channel."""
    names = [channel.name for channel in channels]
    return names.index(check_choice(argument, name, names))


def find_columns(argument: str, names: Sequence[str] | None, channels: Channels) -> list[int]:
    """Return the columns of the named channels, or of all channels if `names` is None."""
    if not channels:
        raise ArgumentError(f"{argument}: the recording has no channels.")
    if names is None:
        return list(range(len(channels)))
    return [find_column(argument, name, channels) for name in names]


def derived_columns(
    channels: Channels, picked: Sequence[int], derived: Sequence[Channel], keep: bool
) -> Columns:
    """Replace channels with derived channels, or append the derived channels if `keep` is True."""
    sources = list(range(len(channels)))
    result = list(channels)
    if keep:
        sources += [-1 - j for j in range(len(derived))]
        result += derived
    else:
        for j, column in enumerate(picked):
            sources[column], result[column] = -1 - j, derived[j]
    return Columns(tuple(picked), tuple(sources), check_distinct(result))


def combined_columns(
    channels: Channels, picked: Sequence[int], combined: Channel, keep: bool
) -> Columns:
    """Append a channel combined from several others, which are dropped unless `keep` is True."""
    kept = [column for column in range(len(channels)) if keep or column not in picked]
    result = [*(channels[column] for column in kept), combined]
    return Columns(tuple(picked), (*kept, -1), check_distinct(result))


def check_distinct(channels: Sequence[Channel]) -> Channels:
    """Return the channels; raise an error if their names are not unique."""
    twice = repeated(channel.name for channel in channels)
    if twice is not None:
        raise ArgumentError(
            f"the result would have two channels named {twice!r}; give the new channel a different"
            " name or suffix, or remove the step if it is repeated."
        )
    return tuple(channels)
