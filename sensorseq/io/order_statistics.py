"""Exact order statistics and quantiles of values that arrive in blocks, in bounded memory."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_COLLECTED = 1 << 22  # most values that are collected and sorted, over all columns
_COLUMNS = 16  # columns counted in one pass, each with its own counters
_FEW = 8  # up to this many buckets have 2**16 counters each; more buckets have 2**8 each
_SLICE = 1 << 18  # rows processed together, to save memory

Blocks = Callable[[], Iterable[NDArray[np.floating]]]
"""Starts a pass over the rows (n, n_columns), in blocks."""


def quantiles(
    blocks: Blocks, n_rows: int, n_columns: int, levels: NDArray[np.float64], dtype: DTypeLike
) -> NDArray[np.float64]:
    """Return ``np.quantile(column, levels)`` of each column, bit for bit; see `at_ranks`."""
    at = (n_rows - 1) * levels
    below = np.floor(at).astype(np.int64)
    ranks = np.concatenate([below, np.minimum(below + 1, n_rows - 1)])
    low, high = np.split(at_ranks(blocks, n_rows, n_columns, ranks, dtype), 2)
    share, step = (at - below)[:, np.newaxis], high - low
    return np.where(share < 0.5, low + step * share, high - step * (1 - share))


def median(blocks: Blocks, n_rows: int) -> float:
    """Return ``np.median`` of one column of float64, bit for bit; see `at_ranks`."""
    if n_rows <= _COLLECTED:
        return float(np.median(np.concatenate([rows[:, 0] for rows in blocks()])))
    middle = np.unique([(n_rows - 1) // 2, n_rows // 2])
    return float(np.mean(at_ranks(blocks, n_rows, 1, middle, np.float64)))


def at_ranks(
    blocks: Blocks, n_rows: int, n_columns: int, ranks: ArrayLike, dtype: Any
) -> NDArray[np.float64]:
    """Return the values at given ranks of each sorted column, (n_ranks, n_columns), float64.

    There must be at least one row, and values must be finite and exact in `dtype`, float32 or
    float64. A few values are collected in a single pass. More are counted by their leading bits;
    then, in the ranges that contain a wanted rank, by the next bits, and so on, in three passes for
    float32.
    """
    wanted, back = np.unique(np.asarray(ranks), return_inverse=True)
    found = []
    for first in range(0, n_columns, _COLUMNS):
        some = range(first, min(first + _COLUMNS, n_columns))
        limit = _COLLECTED // len(some)
        searches = {c: _RankSearch(n_rows, wanted, np.dtype(dtype), limit) for c in some}
        while active := [c for c in some if not searches[c].is_done]:
            for rows in blocks():
                for at in range(0, len(rows), _SLICE):
                    for c in active:
                        searches[c].add(rows[at : at + _SLICE, c])
            for c in active:
                searches[c].narrow()
        found += [searches[c].values()[back] for c in some]
    return np.stack(found, axis=1)


class _RankSearch:
    """Finds the values at some ranks by narrowing down their bits, one pass at a time."""

    def __init__(
        self, count: int, ranks: NDArray[np.int64], dtype: np.dtype[Any], limit: int
    ) -> None:
        self._dtype, self._unsigned = dtype, np.dtype(f"u{dtype.itemsize}")
        self._top = self._unsigned.type(1 << (8 * dtype.itemsize - 1))
        self._limit = limit
        self._unknown = 8 * dtype.itemsize  # bits not yet examined
        self._tables: list[tuple[int, int, NDArray[np.int64]]] = []  # shift, width, next bucket
        self._prefixes = np.zeros(1, self._unsigned)  # the known bits of the buckets, in order
        self._sizes = np.array([count])  # sizes of the buckets
        # bucket of each rank; `_ranks` count within the bucket
        self._bucket = np.zeros(len(ranks), np.int64)
        self._ranks = ranks
        self._found: NDArray[Any] | None = None
        self._begin()

    def _begin(self) -> None:
        """Start a pass that collects the remaining values, or counts them by further bits."""
        self._collected: list[NDArray[Any]] = []
        self._collects = int(self._sizes.sum()) <= self._limit
        self._width = min(16 if len(self._sizes) <= _FEW else 8, self._unknown)
        n_counters = 0 if self._collects else len(self._sizes) << self._width
        self._counters = np.zeros(n_counters, np.int64)

    @property
    def is_done(self) -> bool:
        """True if every rank has its value."""
        return self._found is not None

    def add(self, values: NDArray[np.floating]) -> None:
        """Process values of the current pass."""
        # adding 0.0 turns -0.0, which equals it, into the same bits
        bits = (values.astype(self._dtype, copy=False) + self._dtype.type(0)).view(self._unsigned)
        # In the same order as the values.
        keys = np.where(bits >= self._top, ~bits, bits | self._top)
        bucket: Any = np.int64(0)
        for shift, width, table in self._tables:
            bucket = table[(bucket << width) | self._digits(keys, shift, width)]
            inside = bucket >= 0
            keys, bucket = keys[inside], bucket[inside]
        if self._collects:
            self._collected.append(keys)
        else:
            digits = self._digits(keys, self._unknown - self._width, self._width)
            where = (bucket << self._width) | digits
            self._counters += np.bincount(where, minlength=len(self._counters))

    def _digits(self, keys: NDArray[Any], shift: int, width: int) -> NDArray[np.int64]:
        mask = self._unsigned.type((1 << width) - 1)
        digits: NDArray[np.int64] = (keys >> self._unsigned.type(shift) & mask).astype(np.int64)
        return digits

    def narrow(self) -> None:
        """Finish a pass: find the values, or the buckets of the next pass."""
        ranks = self._ranks + (np.cumsum(self._sizes) - self._sizes)[self._bucket]
        if self._collects:
            values = self._as_values(np.concatenate(self._collected))
            self._found = (np.partition(values, ranks) if len(ranks) <= _FEW else np.sort(values))[
                ranks
            ]
            return
        ends = np.cumsum(self._counters)
        at = np.searchsorted(ends, ranks, side="right")
        self._ranks = ranks - (ends - self._counters)[at]
        buckets, self._bucket = np.unique(at, return_inverse=True)
        table = np.full(len(self._counters), -1)
        table[buckets] = np.arange(len(buckets))
        self._unknown -= self._width
        self._tables.append((self._unknown, self._width, table))
        self._sizes = self._counters[buckets]
        digits = (buckets & ((1 << self._width) - 1)).astype(self._unsigned)
        known = self._prefixes[buckets >> self._width]
        self._prefixes = known << self._unsigned.type(self._width) | digits
        if self._unknown:
            self._begin()
        else:
            self._found = self._as_values(self._prefixes)[self._bucket]

    def _as_values(self, keys: NDArray[Any]) -> NDArray[Any]:
        bits = np.where(keys >= self._top, keys & ~self._top, ~keys)
        return bits.view(self._dtype)

    def values(self) -> NDArray[np.float64]:
        """Return the value at each rank."""
        assert self._found is not None
        return self._found.astype(np.float64)
