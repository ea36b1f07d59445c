"""An existing prepared file: its inputs and options, and its windows for reuse."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed, plural
from sensorseq.errors import PreparedFileError
from sensorseq.io.checksums import DamagedFileError
from sensorseq.io.prepared import PreparedFile
from sensorseq.preprocessing.options import OPTIONS, PreparationOptions
from sensorseq.preprocessing.parts import Part

SELECTING = ("files", "pair", "labels", "exclude", "manifest")
"""Options that only choose recordings, so that a recording's windows do not depend on them."""

_N_NAMED = 3


def selecting(options: PreparationOptions) -> tuple[str, ...]:
    """Return the options that only choose recordings.

    With a label column, `labels` and `exclude` can also change the windows of a recording.
    """
    if options.label_column is None:
        return SELECTING
    return tuple(name for name in SELECTING if name not in ("labels", "exclude"))


class EarlierFile:
    """An open prepared file that a new preparation would replace or extend.

    `record` contains the facts that `prepare` stored; it is empty for a file of an older version.
    The facts are the ``version`` of the windows, ``inputs`` (a digest of the files and labels of
    each recording), ``facts`` about recordings that were cut, ``failed`` (the reasons why
    other recordings were left out), and the ``summary``.
    """

    def __init__(self, prepared: PreparedFile) -> None:
        self.prepared = prepared
        self.path = prepared.path
        self.record = prepared.record()
        self.provenance = prepared.stored.provenance
        self.channels = prepared.stored.channels
        self.inputs: dict[str, str] = self.record.get("inputs", {})
        self.failed: dict[str, str] = self.record.get("failed", {})
        cut = {facts["recording_id"]: facts for facts in self.record.get("facts", ())}
        self.facts = {name: facts for name, facts in cut.items() if name not in self.failed}
        damaged = {n for n, facts in cut.items() if any("kept_s" in d for d in facts["dropped"])}
        self.left_out = damaged.union(self.failed)  # recordings left out partly or entirely

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> "Iterator[EarlierFile | str | None]":
        """Yield the open file at `path`, or None if it is missing or empty; refuse other files.

        For a damaged prepared file, yield a description of the damage.
        """
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            yield None
            return
        try:
            prepared = PreparedFile(path, verify=True, whole=False)
            earlier = cls(prepared)
        except PreparedFileError as error:
            reason = reason_of(error, path)
            if not isinstance(error, DamagedFileError):
                raise PreparedFileError(
                    f"{path}: the file is kept, because it is not a readable prepared file"
                    f" ({reason}). Remove it, or choose another output."
                ) from error
        else:
            with prepared:
                yield earlier
            return
        yield f"it {reason}"

    def changed_options(self, configuration: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that this configuration changes, each with its old and new value."""
        stored = self.provenance.get("configuration") or {}
        changed = {}
        for name, option in OPTIONS.items():
            was, now = option.value_in(stored), option.value_in(configuration)
            if was != now and (was or now or name != "steps"):
                is_short = not isinstance(was or now, dict) and name != "steps"
                values = f"was {_as_text(was)}, now {_as_text(now)}" if is_short else "changed"
                changed[name] = f"{name} {values}"
        return changed

    def changed_inputs(self, inputs: Mapping[str, str]) -> list[str]:
        """Describe the recordings that were added, changed or removed since the file was made."""
        old = self.inputs
        kinds = {
            "new": [name for name in inputs if name not in old],
            "changed": [name for name in inputs if old.get(name, inputs[name]) != inputs[name]],
            "removed": [name for name in old if name not in inputs],
        }
        changes = [
            f"{plural(len(names), f'{kind} recording')}: {listed(names, _N_NAMED)}"
            for kind, names in kinds.items()
            if names
        ]
        if not changes and list(old) != list(inputs):
            changes.append("the recordings are in a different order")
        return changes

    def verify(self) -> None:
        """Verify the whole file; if it is damaged or has no checksums, raise an error."""
        self.prepared.verify()

    def part(
        self,
        recording_id: str,
        group: str,
        channels: Sequence[str],
        *,
        has_separate_training: bool,
    ) -> "EarlierPart":
        """Return the windows of one recording with channels in this order; see `EarlierPart`."""
        facts = self.facts[recording_id]
        classes = [(fate["label"], fate["n_windows"]) for fate in facts["classes"]]
        return EarlierPart(
            recording_id=recording_id,
            group=group,
            order=[self.channels.index(name) for name in channels],
            prepared=self.prepared,
            rows=self._rows.get(recording_id, np.empty(0, np.int64)),
            n_of_label=classes or [("", facts["n_windows"])],
            has_separate_training=has_separate_training,
        )

    def part_of(self, recording_id: str, group: str, digests: Sequence[str], by: str) -> str:
        """Return the part of the split to which a new or changed recording goes; "" if undecided.

        This is the part that contains the recording or its group, depending on `by`; otherwise, the
        part that contains a recording with the same files.
        """
        if by == "time":
            return ""
        key = recording_id if by == "recording" else group
        return self._part_of.get((by, key)) or self._part_of.get(("files", *digests), "")

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        ids = np.asarray(self.prepared.stored.recording_id)
        order = np.argsort(ids, kind="stable")
        borders = np.flatnonzero(ids[order][1:] != ids[order][:-1]) + 1
        return {str(ids[rows[0]]): rows for rows in np.split(order, borders) if len(rows)}

    @cached_property
    def _part_of(self) -> dict[tuple[str, ...], str]:
        split = np.asarray(self.prepared.stored.split)
        part_of: dict[tuple[str, ...], str] = {}
        for name, facts in self.facts.items():
            if facts["n_windows"]:
                rows = self._rows.get(name)
                # Only training recordings can lack rows, because separate training windows replace
                # their windows on the regular grid.
                part = "train" if rows is None else str(split[rows[0]])
                digests = (source["sha256"] for source in facts["sources"])
                # The stored groups are used, because simultaneous recordings share a group.
                groups = self.prepared.stored.groups
                group = facts["group"] if rows is None or groups is None else str(groups[rows[0]])
                keys = (("group", group), ("recording", name), ("files", *digests))
                for key in keys:
                    part_of.setdefault(key, part)
        return part_of


@dataclass(frozen=True, eq=False, kw_only=True)
class EarlierPart(Part):
    """The windows of one recording in a prepared file.

    If training windows were cut separately, they are read with the `prefix` `TRAINING`. In that
    case, the file does not contain the training recordings' windows on the regular grid;
    `n_of_label` contains the counts of these windows by label.
    """

    prepared: PreparedFile
    rows: NDArray[np.int64]
    n_of_label: list[tuple[str, int]]
    has_separate_training: bool

    @property
    def split(self) -> NDArray[np.str_]:
        """The part of each window, in the order of `read`."""
        split = np.asarray(self.prepared.stored.split)[self.rows]
        return np.full(len(self.read("start_s")), "train") if self._has_no_grid else split

    def read(self, name: str) -> NDArray[Any]:
        """Return one array of the windows."""
        if self._has_no_grid and not self.prefix:
            labels, counts = zip(*self.n_of_label, strict=True)
            y = np.repeat(labels, counts)
            return y if name == "y" else np.zeros(len(y), int if name == "lengths" else float)
        return np.asarray(getattr(self.prepared.stored, name))[self.rows]

    def samples(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the samples of the windows at increasing rows."""
        return self.prepared.samples(self.rows[rows])[:, :, self.order]

    @property
    def _has_no_grid(self) -> bool:
        split = self.prepared.stored.split
        return (
            self.has_separate_training and split is not None and set(split[self.rows]) <= {"train"}
        )


def reason_of(error: PreparedFileError, path: Path) -> str:
    """Return the reason in an error about the file at `path`, without the file name and advice."""
    return str(error).removeprefix(f"{path}: ").partition(";")[0].rstrip(".")


def _as_text(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, list | tuple):
        return listed(value, _N_NAMED)
    return f"{value:g}" if isinstance(value, float) else str(value)
