"""The stages of preparing a file: compare with an existing file, cut parts, and merge parts."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import (
    ArgumentError,
    PreparedFileError,
    RecordingError,
    WindowError,
    printable,
    warn_caller,
)
from sensorseq.inspection.copies import window_keys
from sensorseq.inspection.recordings import similar_names
from sensorseq.io.checksums import DamagedFileError
from sensorseq.io.part_files import PartFolder
from sensorseq.io.prepared import write_window_blocks
from sensorseq.prepare.earlier_file import EarlierFile, EarlierPart, reason_of, selecting
from sensorseq.prepare.recording_part import (
    PART_VERSION,
    SPOILT,
    FilePart,
    PartTask,
    digests_of,
    input_key,
    make_part,
)
from sensorseq.prepare.summary import PreparedSummary
from sensorseq.prepare.workers import outcomes
from sensorseq.preprocessing.cut_recording import Facts, labels_or_none
from sensorseq.preprocessing.cutting import common_rate
from sensorseq.preprocessing.parts import Part
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.preparation import (
    CutRecordings,
    Learned,
    cut_alike,
    odd_values_of,
    refuse_odd_rates,
)
from sensorseq.readers import RecordingSource, read_source_rate
from sensorseq.readers.find import check_labels
from sensorseq.stamps.period import is_plausible
from sensorseq.stamps.read import describe_clock
from sensorseq.windows import WindowSet

Progress = Callable[[str, int, int], None]
"""A function that is called with the stage (``"digests"``, ``"rates"``, ``"recordings"`` or
``"merge"``), the number of finished items and the number of all items. If the function raises an
exception, the run ends."""

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a preparation with the file that it replaces or extends."""

    changes: Sequence[str] = ()  # differences from the file
    digests: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)  # by recording_id
    extended: EarlierFile | None = None  # the file, if it is extended
    summary: PreparedSummary | None = None  # the file's summary, if nothing changed


@dataclass(kw_only=True)
class Run:
    """One run: what it prepares, its files and workers, and the recordings that it could use."""

    plan: PreparationPlan
    sources: Sequence[RecordingSource]
    output: Path
    folder: PartFolder
    pool: Executor | None
    jobs: int
    resume: bool
    skip: bool
    allow_scales: bool
    allow_constant: bool
    progress: Progress

    def __post_init__(self) -> None:
        self.usable = self.sources  # the sources that could be used so far
        self.failed: dict[str, str] = {}  # why others could not, by recording_id

    def prepare(self, earlier: EarlierFile | str | None) -> PreparedSummary:
        """Prepare the file, unless the existing file is up to date.

        `earlier` is the existing file, or a description of its damage.
        """
        compared = Comparison([earlier] if isinstance(earlier, str) else [])
        if isinstance(earlier, EarlierFile):
            compared = self._compare(earlier)
            if compared.summary is not None:
                return compared.summary
        extended = compared.extended
        rate_hz, rate_from = self._find_rate(extended)
        plan = self.plan
        if extended is not None:
            stored = replace(plan.options, held=extended.provenance.get("held"))
            plan = replace(plan, options=stored)
        unchanged = self._unchanged_facts(compared)
        cut_parts = partial(self._make_parts, rate_hz, compared.digests, unchanged)
        parts, held = cut_alike(plan, cut_parts)
        cut = CutRecordings(plan, [facts for facts, _ in parts], rate_hz, rate_from, held)
        if extended is not None and unchanged:
            names = extended.provenance["input_channels"]
            cut = replace(cut, channels=extended.channels, input_channels=tuple(names))
        summary, inputs = self._merge(cut, compared, unchanged)
        changes = list(compared.changes)
        if isinstance(earlier, EarlierFile):
            changes += earlier.changed_inputs(inputs)
        replaced = "written" if earlier is None else "replaced"
        return replace(
            summary,
            action=replaced if extended is None else "extended",
            changes=changes,
            n_reused=sum(reused for _, reused in parts),
            size_bytes=self.output.stat().st_size,
        )

    def _compare(self, earlier: EarlierFile) -> Comparison:
        """Compare with the earlier file.

        Resuming extends the file, unless an interrupted run was replacing it.
        """
        options = earlier.changed_options(self.plan.configuration)
        if not self.skip and earlier.left_out:
            options["on_error"] = "on_error was skip, now stop"
        if earlier.record.get("version") != PART_VERSION:
            options["version"] = "the file was prepared by a different version of sensorseq"
        changes = list(options.values())
        decisive = [
            change.replace(f"{name} ", f"`{name}` ", 1) if change.startswith(name) else change
            for name, change in options.items()
            if name not in (*selecting(self.plan.learning), "on_error")
        ]
        if self.resume and decisive:
            if self.folder.has_parts:
                return Comparison(changes)
            raise ArgumentError(
                f"{earlier.path} cannot be extended: {'; '.join(decisive)}. Use its original"
                " options, or leave out `resume` to prepare all recordings again."
            )
        same = {source.recording_id for source in self.sources} == set(earlier.inputs)
        if not self.resume and (options or not same):
            return Comparison(changes)
        # Digests do not need processes.
        with nullcontext() if self.jobs == 1 else ThreadPoolExecutor(self.jobs) as threads:
            computed = self._for_each("digests", digests_of, self.usable, threads)
        ids = [source.recording_id for source in self.usable]
        digests = dict(zip(ids, computed, strict=True))
        if not options and list(self._inputs(digests).items()) == list(earlier.inputs.items()):
            try:
                earlier.verify()
            except PreparedFileError as error:
                changes = [f"it {reason_of(error, earlier.path)}"]
                if isinstance(error, DamagedFileError):
                    return Comparison(changes, digests)
            else:
                stored = earlier.record["summary"]
                summary = PreparedSummary.of_record(earlier.path, stored, len(ids))
                return Comparison(summary=summary)
        return Comparison(changes, digests, earlier if self.resume else None)

    def _find_rate(self, extended: EarlierFile | None) -> tuple[float, str]:
        """Return the rate and its source: the extended file, the options or the timestamps."""
        if extended is not None:
            stored = extended.provenance
            return stored["sample_rate_hz"], stored["sample_rate_from"]
        given_hz = self.plan.options.sample_rate_hz
        if given_hz is not None:
            return float(given_hz), "given"
        use = replace(self.plan.learning, salvage=self.skip, scratch=self.folder.path)
        read = partial(read_source_rate, options=use)
        rates_hz = self._for_each("rates", read, self.usable, self.pool)
        if not (self.skip or self.allow_scales):
            refuse_odd_rates([" + ".join(s.relative_paths) for s in self.usable], rates_hz)
        return common_rate(rates_hz)

    def _unchanged_facts(self, compared: Comparison) -> dict[str, Facts]:
        """Return the extended file's facts about recordings that did not change."""
        earlier, unchanged = compared.extended, dict[str, Facts]()
        if earlier is None:
            return unchanged
        for source in self.usable:
            name = source.recording_id
            if name not in earlier.facts or (name in earlier.left_out and not self.skip):
                continue  # unless `skip` is set, recordings partly left out are read again
            if earlier.inputs[name] == input_key(source, compared.digests[name]):
                unchanged[name] = Facts(**earlier.facts[name])
        return unchanged

    def _make_parts(
        self,
        rate_hz: float,
        digests: Mapping[str, list[dict[str, Any]]],
        unchanged: Mapping[str, Facts],
        plan: PreparationPlan,
    ) -> list[tuple[Facts, bool]]:
        """Write a part file for every recording that changed.

        Return the facts about all recordings, each with True if its part was reused.
        """
        tasks = [
            PartTask(
                source,
                plan,
                rate_hz,
                self.folder.path_of(source.recording_id),
                self.skip and source.is_log,
                digests.get(source.recording_id),
                unchanged.get(source.recording_id),
            )
            for source in self.usable
        ]
        return self._for_each("recordings", make_part, tasks, self.pool)

    def _merge(
        self, cut: CutRecordings, compared: Comparison, unchanged: Collection[str]
    ) -> tuple[PreparedSummary, dict[str, str]]:
        """Write the prepared file from the parts, in the order of the recordings.

        Return a summary, and a digest of the inputs of each recording.
        """
        extended = compared.extended

        def refuse(facts: Facts, error: RecordingError) -> None:
            if not self.skip:
                raise error
            self.failed[facts.recording_id] = str(error)

        kept, odd_scales = cut.usual(refuse, allow_scales=self.allow_scales)
        self._check_classes(cut, kept)

        def part_of(facts: Facts, group: str, channels: tuple[str, ...]) -> Part:
            name, separate = facts.recording_id, cut.plan.cuts_training_separately
            if extended is not None and name in unchanged:
                return extended.part(name, group, channels, has_separate_training=separate)
            order = [facts.channels.index(channel) for channel in channels]
            path = self.folder.path_of(name)
            return FilePart(recording_id=name, group=group, order=order, path=path)

        def decide(parts: Sequence[Part]) -> NDArray[np.str_] | None:
            """Return each window's part in the extended file ("" if new), or None without one."""
            if extended is None or self.plan.learning.split is None:
                return None
            by, decided = self.plan.learning.split_by, []
            for facts, part in zip(kept, parts, strict=True):
                if isinstance(part, EarlierPart):
                    decided.append(part.split)
                else:
                    digests = [file["sha256"] for file in facts.sources]
                    name = extended.part_of(facts.recording_id, part.group, digests, by)
                    decided.append(np.full(facts.n_windows, name))
            return np.concatenate(decided)

        learned = cut.learn(
            kept, part_of, decide, failed=self.failed, allow_constant=self.allow_constant
        )
        summary = replace(summarize(cut, kept, learned, self.output), odd_scales=odd_scales)
        read = {facts.recording_id: facts.sources for facts in cut.facts}
        inputs = self._inputs({**read, **compared.digests})
        facts = [facts.to_dict() for facts in cut.facts]
        record = {"version": PART_VERSION, "inputs": inputs, "facts": facts, "failed": self.failed}
        return self._write(learned, summary, record), inputs

    def _check_classes(self, cut: CutRecordings, kept: Sequence[Facts]) -> None:
        """Raise an error if a class is not known or has no windows."""
        labels = {label for source in self.sources for label in labels_or_none(source.labels)}
        with_windows = {label for facts in kept for label in facts.labels}
        recorded = {label for facts in cut.facts for label in facts.labels_there}
        use = self.plan.learning
        if use.label_column is not None:  # without this column, labels were checked before reading
            classes = {str(label) for label in (recorded | labels) - {None}}
            left_out = [name for facts in cut.facts for name in facts.left_out_classes]
            check_labels(use.labels, classes, "of a recording", left_out)
        # The labels of single samples are not known before the recordings are read.
        warn_of_similar_classes((facts.labels_there for facts in cut.facts), checked=labels)
        cut.check_fates()
        lost = sorted(str(label) for label in (labels | recorded) - with_windows - {None})
        if lost:
            raise WindowError(
                f"class {lost[0]!r} has no windows, because all its recordings were left out."
                f" Repair them, or leave the class out with exclude={lost[0]!r}."
            )

    def _write(
        self, learned: Learned, summary: PreparedSummary, facts: Mapping[str, Any]
    ) -> PreparedSummary:
        """Write the file and a record of `facts`; return the summary, with copied windows."""
        windows = learned.windows
        samples: Any = windows.X
        keys = [np.empty(0, np.uint64)]

        def reported() -> Iterator[NDArray[np.float32]]:
            ends = np.cumsum([len(used) for used in samples.used if len(used)])
            self.progress("merge", 0, len(ends))
            done = n_written = 0
            for block in samples.blocks(np.arange(len(windows))):
                # Constant windows do not count as copies.
                moves = (block != block[:, :1]).any(axis=(1, 2))
                keys.append(window_keys(block) * moves)
                yield block
                n_written += len(block)
                if done < (done := int(np.searchsorted(ends, n_written, side="right"))):
                    self.progress("merge", done, len(ends))

        def record() -> dict[str, Any]:
            nonlocal summary
            copies = _find_copies(np.concatenate(keys), windows)
            summary = replace(summary, copies=copies)
            return {**facts, "summary": summary.to_record()}

        write_window_blocks(
            self.output,
            windows,
            reported(),
            scaler=None if learned.scaler is None else learned.scaler.to_dict(),
            sample_indices=learned.sample_indices,
            record=record,
        )
        return summary

    def _for_each(
        self,
        stage: str,
        function: Callable[[_Task], _Result],
        tasks: Sequence[_Task],
        pool: Executor | None,
    ) -> list[_Result]:
        """Run a task for each usable source, and return the results in order.

        If a task fails, stop the run or skip the recording.
        """
        results, kept = [], []
        self.progress(stage, 0, len(tasks))
        ended = zip(self.usable, outcomes(pool, function, tasks), strict=True)
        for done, (source, outcome) in enumerate(ended, start=1):
            if not isinstance(outcome, Exception):
                results.append(outcome)
                kept.append(source)
            elif self.skip and isinstance(outcome, SPOILT):
                message = str(outcome)
                # Paths are relative, so that the same data give the same file.
                for path, relative in zip(source.names, source.relative_paths, strict=True):
                    message = message.replace(printable(path), relative)
                self.failed[source.recording_id] = message
            else:
                raise outcome
            self.progress(stage, done, len(tasks))
        self.usable = kept
        if self.failed and not kept:
            first = next(iter(self.failed.values()))
            raise RecordingError(
                f"none of {len(self.failed)} recording(s) can be used. The first: {first}"
            )
        return results

    def _inputs(self, digests: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
        """Return a digest of each recording's inputs, including omitted recordings."""
        keys = {}
        for source in self.sources:
            try:
                files = digests.get(source.recording_id) or digests_of(source)
                keys[source.recording_id] = input_key(source, files)
            except RecordingError:  # a recording with an unreadable file was left out
                keys[source.recording_id] = ""
        return keys


def summarize(
    cut: CutRecordings, kept: Sequence[Facts], learned: Learned, output: Path
) -> PreparedSummary:
    """Return a summary of the windows and of the recordings."""
    windows, fitted = learned.windows, Counter[str]()
    if cut.plan.learning.balance is not None and windows.y is not None:
        fitted.update(map(str, windows.y[learned.sample_indices].tolist()))
    repaired: Counter[str] = Counter()
    for facts in cut.facts:
        repaired.update(facts.repaired_stamps or {})

    def count_by_column(kind: str) -> dict[str, int]:
        return dict(Counter(name for facts in cut.facts for name in getattr(facts, kind)))

    provenance = windows.provenance
    rates_hz = [facts.sample_rate_hz for facts in kept if facts.sample_rate_hz is not None]
    return PreparedSummary(
        output,
        windows.counts(),
        len(kept),
        len(windows),
        windows.n_timesteps,
        windows.channels,
        float(windows.sample_rate_hz or cut.rate_hz),
        cut.rate_from,
        list(provenance["dropped"]),
        count_by_column("dropped_columns"),
        imbalance=provenance.get("split", {}).get("imbalance", ""),
        constant_channels=list(provenance.get("constant_channels", [])),
        n_holes_filled=sum(int(facts.n_holes_filled) for facts in cut.facts),
        repaired_stamps=dict(repaired),
        own_rates_hz=(min(rates_hz), max(rates_hz)) if rates_hz else (0.0, 0.0),
        n_fitted=dict(sorted(fitted.items())),
        held=list(cut.held),
        packets=dict(Counter(facts.packets for facts in cut.facts if facts.packets)),
        clocks=dict(Counter(describe_clock(f.clock) for f in cut.facts if f.clock)),
        odd_rates_hz={
            facts.recording_id: rate
            for facts in kept
            if (rate := facts.sample_rate_hz) and not is_plausible(rate)
        },
        odd_values=odd_values_of(kept),
        counters=count_by_column("counters"),
        zero_windows={
            facts.recording_id: facts.n_zero_windows for facts in kept if facts.n_zero_windows
        },
        simultaneous=learned.simultaneous,
        subjects=provenance.get("split", {}).get("subjects", ""),
        bridging_gaps_s={
            facts.recording_id: facts.bridging_gap_s for facts in cut.facts if facts.bridging_gap_s
        },
    )


def warn_of_similar_classes(
    labels: Iterable[Iterable[str | None]], checked: Collection[str | None] = ()
) -> None:
    """Warn about classes with similar names, except if both classes of a pair are in `checked`.

    `labels` contains the labels of each recording.
    """
    names = (str(label) for recording_labels in labels for label in recording_labels)
    for pair in similar_names(Counter(names)):
        if not set(pair.values["names"]) <= set(checked):
            warn_caller(f"{pair.text} {pair.advice}")


def _find_copies(keys: NDArray[np.uint64], windows: WindowSet) -> list[dict[str, Any]]:
    """Return pairs of recordings in different parts that share windows.

    Pairs that share the most windows come first. Equal windows have equal `keys`; windows with the
    key 0 are ignored.
    """
    split = windows.split
    if split is None:
        return []
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    ids, before = np.asarray(windows.recording_id), first[index]
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
