"""The windows of many parts as one table, whose samples stay in the parts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.parts import read_part
from sensorseq.prepare.earlier import StoredPart
from sensorseq.preprocessing.plan import WindowTable


@dataclass(frozen=True)
class RecordingPart:
    """The windows of one recording in its part file."""

    path: Path
    recording_id: str
    group: str
    order: list[int]  # of its channels
    prefix: str = ""  # of its arrays: those on the grid, or "train_"

    def read(self, name: str) -> NDArray[Any]:
        """Return the array of this name."""
        return read_part(self.path, self.prefix + name)

    def samples(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows at increasing rows."""
        begin, stop = int(rows[0]), int(rows[-1]) + 1
        X: NDArray[np.float32] = read_part(self.path, self.prefix + "X", begin, stop)
        if len(rows) < len(X):
            X = X[rows - begin]
        is_ordered = self.order == list(range(X.shape[2]))
        return X if is_ordered else X[:, :, self.order]


@dataclass(frozen=True, eq=False)
class PartRows:
    """The windows of many parts, as a plan takes them; their samples stay in the parts."""

    parts: Sequence[RecordingPart | StoredPart]
    channels: tuple[str, ...]
    used: list[NDArray[np.int64]]  # rows of each part
    table: WindowTable
    at_once: int  # windows that are read together

    @classmethod
    def of(
        cls,
        parts: Sequence[RecordingPart | StoredPart],
        channels: tuple[str, ...],
        *,
        labelled: bool,
        at_once: int,
    ) -> "PartRows":
        """Return all windows of these parts; of their samples, `at_once` are read together."""
        starts = [part.read("start_s") for part in parts]
        counts = [len(start) for start in starts]
        table = WindowTable(
            np.concatenate([part.read("y") for part in parts]) if labelled else None,
            np.repeat([part.group for part in parts], counts),
            np.repeat([part.recording_id for part in parts], counts),
            np.concatenate(starts),
            np.concatenate([part.read("lengths") for part in parts]),
        )
        return cls(parts, channels, [np.arange(count) for count in counts], table, at_once)

    def with_training_anew(self, split: NDArray[np.str_]) -> tuple["PartRows", NDArray[np.str_]]:
        """Return the windows with those of training recordings cut anew, and the part of each."""
        part_of = dict(zip(self.table.recording_id.tolist(), split.tolist(), strict=True))
        of_part = [part_of[part.recording_id] for part in self.parts]
        parts = [
            replace(part, prefix="train_") if name == "train" else part
            for part, name in zip(self.parts, of_part, strict=True)
        ]
        labelled = self.table.y is not None
        rows = PartRows.of(parts, self.channels, labelled=labelled, at_once=self.at_once)
        return rows, np.repeat(of_part, [len(used) for used in rows.used])

    def keep(self, mask: NDArray[np.bool_]) -> "PartRows":
        """Return the windows where the mask is true."""
        by_part = np.split(mask, self._ends[:-1])
        used = [rows[own] for rows, own in zip(self.used, by_part, strict=True)]
        return replace(self, used=used, table=self.table.keep(mask))

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Yield the samples of the windows at increasing positions, one recording at a time."""
        ends = self._ends
        # Only the parts that are met are looked at: a scale per recording asks once for each.
        part_of = np.searchsorted(ends, rows, side="right")
        for own in np.split(rows, np.flatnonzero(np.diff(part_of)) + 1):
            if own.size:
                at = int(np.searchsorted(ends, own[0], side="right"))
                used = self.used[at]
                wanted = used[own - (ends[at] - len(used))]
                for some in np.split(wanted, np.flatnonzero(np.diff(wanted // self.at_once)) + 1):
                    yield self.parts[at].samples(some)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(used) for used in self.used])


def find_copies(
    keys: NDArray[np.uint64], table: WindowTable, split: NDArray[np.str_] | None
) -> list[dict[str, Any]]:
    """Return pairs of recordings in different parts with windows of equal keys above 0.

    Those that share the most windows come first.
    """
    if split is None:
        return []
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    ids, before = table.recording_id, first[index]
    apart = (keys > 0) & (ids != ids[before]) & (split != split[before])
    by_pair = Counter(
        tuple((str(ids[row]), str(split[row])) for row in (before[row], row))
        for row in np.flatnonzero(apart)
    )
    return [
        {
            "recordings": [name for name, _ in pair],
            "parts": [part for _, part in pair],
            "n_windows": count,
        }
        for pair, count in by_pair.most_common()
    ]
