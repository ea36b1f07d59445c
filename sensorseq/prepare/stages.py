"""The stages of preparing a file: compare with an existing file, cut parts, and merge parts."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import (
    ArgumentError,
    PreparedFileError,
    RecordingError,
    SplitError,
    WindowError,
    noting,
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
    Facts,
    PartTask,
    RecordingPart,
    digests_of,
    files_of,
    find_copies,
    input_key,
    labels_of,
    make_part,
    read_recording,
    windows_in,
    with_separate_training_windows,
)
from sensorseq.prepare.request import PreparedSummary, Request
from sensorseq.prepare.workers import outcomes
from sensorseq.preprocessing.cutting import common_rate
from sensorseq.preprocessing.held import held_channels
from sensorseq.preprocessing.odd_scales import ScaleFacts, find_odd_scales, odd_scale_error
from sensorseq.preprocessing.odd_values import describe_odd_values
from sensorseq.preprocessing.pipeline import versions
from sensorseq.preprocessing.plan import Learned
from sensorseq.preprocessing.simultaneous import (
    Covered,
    Simultaneous,
    find_simultaneous,
    pair_of,
)
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.steps.derive import DerivedSteps, channel_rates
from sensorseq.preprocessing.windows.label_rules import MIN_PURITY, check_class_fates
from sensorseq.readers import RecordingSource, read_source_rate
from sensorseq.readers.find import check_labels
from sensorseq.readers.stamps import describe_clock, odd_rates
from sensorseq.recording import Channel
from sensorseq.windows import WindowSet

Progress = Callable[[str, int, int], None]
"""A function that is called with the stage (``"digests"``, ``"rates"``, ``"recordings"`` or
``"merge"``), the number of finished items and the number of all items. If the function raises an
exception, the run ends."""

_REPLACED = "the steps of the configuration are not used, because derive replaces them"
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass
class FilePreparation:
    """A prepared file in progress; call the public methods in the order of their definition."""

    request: Request
    sources: list[RecordingSource]
    folder: PartFolder
    pool: Executor | None
    skip: bool
    allow_scales: bool
    allow_constant: bool
    progress: Progress
    earlier: EarlierFile | None
    damage: str = ""  # description of the damage to the file that is replaced

    def __post_init__(self) -> None:
        self.failed: dict[str, str] = {}  # reasons for failures, by recording_id
        self.labels = {label for source in self.sources for label in labels_of(source)}
        self.all_sources = list(self.sources)
        self.digests: dict[str, list[dict[str, Any]]] = {}  # file digests by recording
        self.extended: EarlierFile | None = None
        self.changes = [self.damage] if self.damage else []  # differences from the earlier file
        self.channels: tuple[str, ...] = ()  # channels of the file to extend, in the file's order
        self.input_channels: list[str] = []
        self.held: list[str] | None = None
        self.unread: set[str] = set()  # recordings whose windows are in the earlier file
        self.facts: list[Facts] = []
        self.odd_scales: list[str] = []  # descriptions of odd scales that were allowed
        self.simultaneous: Simultaneous | None = None
        self.group_of: dict[str, str] = {}  # groups of simultaneous recordings, by recording_id

    def compare(self, resume: bool, jobs: int) -> PreparedSummary | None:
        """Compare with the earlier file; return its summary if nothing changed.

        Resuming extends the file, unless an interrupted run was replacing it.
        """
        earlier = self.earlier
        if earlier is None:
            return None
        options = earlier.changed_options(self.request.configuration)
        if not self.skip and earlier.left_out:
            options["on_error"] = "on_error was skip, now stop"
        if earlier.record.get("version") != PART_VERSION:
            options["version"] = "the file was prepared by a different version of sensorseq"
        self.changes = list(options.values())
        decisive = [
            change.replace(f"{name} ", f"`{name}` ", 1) if change.startswith(name) else change
            for name, change in options.items()
            if name not in (*selecting(self.request.options), "on_error")
        ]
        if resume and decisive:
            if self.folder.has_parts:
                return None
            raise ArgumentError(
                f"{earlier.path} cannot be extended: {'; '.join(decisive)}. Use its original"
                " options, or leave out `resume` to prepare all recordings again."
            )
        same = {source.recording_id for source in self.all_sources} == set(earlier.inputs)
        if not resume and (options or not same):
            return None
        with _threads(jobs) as threads:
            digests = self._run("digests", digests_of, self.sources, threads)
        ids = [source.recording_id for source in self.sources]
        self.digests = dict(zip(ids, digests, strict=True))
        if not options and list(self._inputs().items()) == list(earlier.inputs.items()):
            try:
                earlier.verify()
            except PreparedFileError as error:
                self.changes = [f"it {reason_of(error, earlier.path)}"]
                if isinstance(error, DamagedFileError):
                    return None
            else:
                return PreparedSummary.of_record(
                    earlier.path, earlier.record["summary"], n_reused=len(ids)
                )
        self.extended = earlier if resume else None
        return None

    def choose_rate(self) -> None:
        """Choose the common rate: from the extended file, the options or the timestamps."""
        if self.extended is not None:
            stored = self.extended.provenance
            self.rate, self.rate_from = stored["resampled_to_hz"], stored["sample_rate_from"]
            return
        given_hz = self.request.options.sample_rate_hz
        if given_hz is not None:
            self.rate, self.rate_from = float(given_hz), "given"
            return
        use = replace(self.request.options, salvage=self.skip, scratch=self.folder.path)
        read = partial(read_source_rate, options=use)
        rates = self._run("rates", read, self.sources, self.pool)
        self.rate, self.rate_from = common_rate(rates)
        # Check the units of time before recordings are read, because a wrong unit may make the rate
        # a thousand times too high.
        if not (self.skip or self.allow_scales):
            pairs = zip(self.sources, rates, strict=True)
            facts = [ScaleFacts(" + ".join(s.relative_paths), "", rate) for s, rate in pairs]
            for at, texts in find_odd_scales(facts).items():
                raise odd_scale_error(facts[at], texts)

    def derive(self) -> None:
        """Derive steps from the first readable recording if the options request this."""
        pipeline = self.request.pipeline
        if not pipeline.derives:
            return
        if self.extended is not None:
            stored = self.extended.provenance
            steps = tuple(stored["configuration"]["steps"])
            lines = tuple(line for line in stored["derived"] if line != _REPLACED)
            pipeline.derived_ = DerivedSteps(steps, lines)
            pipeline.plan = replace(pipeline.plan, steps=make_steps(steps))
            return
        for source in self.sources:
            try:
                recording = read_recording(
                    source, self.request.options, self.folder.path, salvage=self.skip
                )
            except SPOILT:
                if not self.skip:
                    raise
            else:
                recording = pipeline.plan.select(recording)
                pipeline.use_derived(recording.channels, channel_rates(recording), self.rate)
                return

    def make_parts(self) -> None:
        """Write a part file for every recording, and collect the recordings' `facts` in order."""
        plan = self.request.pipeline.plan
        if self.extended is not None:
            stored = replace(plan.options, held=self.extended.provenance.get("held"))
            plan = replace(plan, options=stored)
        self.window_samples = plan.window_samples(self.rate)
        shared = self.request.options, plan, self.rate
        tasks = []
        for source in self.sources:
            name, salvage = source.recording_id, self.skip and source.is_log
            place, digests = self.folder.place_of(name), self.digests.get(name)
            facts = self._unchanged_facts(source)
            tasks.append(PartTask(source, *shared, place, salvage, digests, facts))
        outcomes_of_parts = self._run("recordings", make_part, tasks, self.pool)
        slow = {facts.recording_id: facts.slow for facts, _ in outcomes_of_parts}
        self.held = plan.options.held
        if self.held is None:
            self.held = held_channels(slow)
            codes = {n for of in slow.values() for n, kind in of.items() if kind == "codes"}
            if codes - set(self.held):  # channels that some recordings held and others did not
                plan = replace(plan, options=replace(plan.options, held=self.held))
                tasks = [replace(task, plan=plan) for task in tasks if task.source in self.sources]
                outcomes_of_parts = self._run("recordings", make_part, tasks, self.pool)
        self.unread = {task.source.recording_id for task in tasks if task.facts is not None}
        if self.extended is not None and self.unread:
            self.channels = self.extended.channels
            self.input_channels = self.extended.provenance["input_channels"]
        self.n_reused = sum(reused for _, reused in outcomes_of_parts)
        self.facts = [facts for facts, _ in outcomes_of_parts]

    def merge(self, output: Path) -> PreparedSummary:
        """Write the prepared file from the parts, in the order of the recordings."""
        pipeline = self.request.pipeline
        kept = self._with_usual_channels([facts for facts in self.facts if facts.n_windows])
        kept = self._with_usual_scales(kept)
        self._check_classes(kept)
        self.simultaneous = find_simultaneous(_covered(facts) for facts in kept)
        if self.simultaneous is not None:
            self.group_of = self.simultaneous.group_of
        unlabeled = [facts for facts in kept if not facts.labels]
        if unlabeled and len(unlabeled) < len(kept):
            raise RecordingError(
                f"{files_of(unlabeled[0])} has no label, but other recordings do; label every"
                " recording or none."
            )
        first, channels = kept[0], self.channels or (*kept[0].channels,)
        parts = [self._part(facts, channels) for facts in kept]
        windows = windows_in(parts, channels, self.window_samples, labeled=not unlabeled)
        named = map(Channel, first.input_channels, first.input_units)
        rates_hz = [facts.sample_rate_hz for facts in kept if facts.sample_rate_hz is not None]
        lookahead_s = pipeline.plan.lookahead_s(tuple(named), rates_hz, self.rate)
        decided = self._decided_parts(kept, windows)
        note = "groups in the file keep their part; without `resume`, all groups are split again"
        with ExitStack() as notes:
            if decided is not None:
                notes.enter_context(noting(note, SplitError))
            if self.simultaneous is not None:
                notes.enter_context(noting(str(self.simultaneous), SplitError))
            learned = pipeline.plan.learn(
                windows,
                lookahead_s,
                with_separate_training_windows,
                decided,
                self.group_of,
                allow_constant=self.allow_constant,
            )
        if self.request.options.split_by == "time" and learned.facts:
            # Compare with `kept`, because an extended file lacks the windows left out earlier.
            n_left_out = sum(facts.n_windows for facts in kept) - len(learned.windows)
            learned.facts["split"]["n_left_out"] = n_left_out
        windows = replace(
            learned.windows,
            split=learned.split,
            sample_rate_hz=pipeline.plan.window_rate_hz(self.rate),
            provenance={**self._provenance(kept), **learned.facts},
        )
        return self._write(output, windows, learned, kept)

    def _write(
        self,
        output: Path,
        windows: WindowSet,
        learned: Learned,
        kept: list[Facts],
    ) -> PreparedSummary:
        samples: Any = windows.X
        keys = [np.empty(0, np.uint64)]
        inputs = self._inputs()
        summary = self._summarize(output, windows, kept, learned.sample_indices)

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
            copies = find_copies(np.concatenate(keys), windows, learned.split)
            summary = replace(summary, copies=copies)
            return {
                "version": PART_VERSION,
                "inputs": inputs,
                "facts": [facts.to_dict() for facts in self.facts],
                "failed": self.failed,
                "summary": summary.to_record(),
            }

        write_window_blocks(
            output,
            windows,
            reported(),
            scaler=None if learned.scaler is None else learned.scaler.to_dict(),
            sample_indices=learned.sample_indices,
            record=record,
        )
        action = "replaced" if self.earlier is not None or self.damage else "written"
        if self.earlier is not None:
            action = action if self.extended is None else "extended"
            self.changes += self.earlier.changed_inputs(inputs)
        return replace(
            summary,
            action=action,
            changes=self.changes,
            n_reused=self.n_reused,
            size_bytes=output.stat().st_size,
        )

    def _summarize(
        self,
        output: Path,
        windows: WindowSet,
        kept: list[Facts],
        sample_indices: NDArray[np.int64] | None,
    ) -> PreparedSummary:
        fitted: Counter[str] = Counter()
        if self.request.options.balance is not None and windows.y is not None:
            fitted.update(map(str, windows.y[sample_indices].tolist()))
        repaired: Counter[str] = Counter()
        for facts in self.facts:
            repaired.update(facts.repaired_stamps or {})

        def count_by_column(kind: str) -> dict[str, int]:
            return dict(Counter(name for facts in self.facts for name in getattr(facts, kind)))

        provenance = windows.provenance
        rates_hz = [facts.sample_rate_hz for facts in kept if facts.sample_rate_hz is not None]
        return PreparedSummary(
            output,
            windows.counts(),
            len(kept),
            len(windows),
            self.window_samples,
            windows.channels,
            float(windows.sample_rate_hz or self.rate),
            self.rate_from,
            self._dropped(),
            count_by_column("dropped_columns"),
            imbalance=provenance.get("split", {}).get("imbalance", ""),
            constant_channels=list(provenance.get("constant_channels", [])),
            n_holes_filled=sum(int(facts.n_holes_filled) for facts in self.facts),
            repaired_stamps=dict(repaired),
            resampled_to_hz=self.rate,
            own_rates_hz=(min(rates_hz), max(rates_hz)) if rates_hz else (0.0, 0.0),
            n_fitted=dict(sorted(fitted.items())),
            derived=list(provenance.get("derived", [])),
            held=list(provenance.get("held", [])),
            packets=dict(Counter(facts.packets for facts in self.facts if facts.packets)),
            clocks=dict(Counter(describe_clock(f.clock) for f in self.facts if f.clock)),
            odd_rates_hz=odd_rates({facts.recording_id: facts.sample_rate_hz for facts in kept}),
            odd_scales=self.odd_scales,
            odd_values=describe_odd_values(
                [files_of(facts) for facts in kept], [facts.odd_values or {} for facts in kept]
            ),
            counters=count_by_column("counters"),
            zero_windows={
                facts.recording_id: facts.n_zero_windows for facts in kept if facts.n_zero_windows
            },
            simultaneous="" if self.simultaneous is None else str(self.simultaneous),
            subjects=provenance.get("split", {}).get("subjects", ""),
            bridging_gaps_s={
                facts.recording_id: facts.bridging_gap_s
                for facts in self.facts
                if facts.bridging_gap_s
            },
        )

    def _inputs(self) -> dict[str, str]:
        """Return a digest of each recording's inputs, including omitted recordings."""
        computed = {facts.recording_id: facts.sources for facts in self.facts} | self.digests
        keys = {}
        for source in self.all_sources:
            try:
                files = computed.get(source.recording_id) or digests_of(source)
                keys[source.recording_id] = input_key(source, files)
            except RecordingError:  # a recording with an unreadable file was left out
                keys[source.recording_id] = ""
        return keys

    def _unchanged_facts(self, source: RecordingSource) -> Facts | None:
        """Return the extended file's facts about a recording, or None if the recording changed."""
        name, earlier = source.recording_id, self.extended
        if earlier is None or name not in earlier.facts:
            return None
        # Unless `skip` is set, recordings that were partly left out are read again.
        if name in earlier.left_out and not self.skip:
            return None
        if earlier.inputs[name] != input_key(source, self.digests[name]):
            return None
        return Facts(**earlier.facts[name])

    def _part(self, facts: Facts, channels: Sequence[str]) -> "RecordingPart | EarlierPart":
        if self.extended is not None and facts.recording_id in self.unread:
            part = self.extended.part(
                facts.recording_id,
                channels,
                has_separate_training=self.request.pipeline.plan.cuts_training_separately,
            )
            return replace(part, group=self._group(facts))
        return RecordingPart(
            self.folder.local_path_of(facts.recording_id),
            facts.recording_id,
            self._group(facts),
            [facts.channels.index(name) for name in channels],
        )

    def _group(self, facts: Facts) -> str:
        return self.group_of.get(facts.recording_id, facts.group)

    def _decided_parts(self, kept: list[Facts], windows: WindowSet) -> NDArray[np.str_] | None:
        """Return each window's part in the extended file ("" if new), or None for a new file."""
        if self.extended is None or self.request.options.split is None:
            return None
        by, decided = self.request.options.split_by, []
        samples: Any = windows.X
        for facts, part, used in zip(kept, samples.parts, samples.used, strict=True):
            if isinstance(part, EarlierPart):
                decided.append(part.split)
            else:
                digests = [file["sha256"] for file in facts.sources]
                name = self.extended.part_of(facts.recording_id, self._group(facts), digests, by)
                decided.append(np.full(len(used), name))
        return np.concatenate(decided)

    def _run(
        self,
        stage: str,
        function: Callable[[_Task], _Result],
        tasks: Sequence[_Task],
        pool: Executor | None,
    ) -> list[_Result]:
        """Return the results in order; if a task fails, stop the run or skip the recording."""
        results, kept = [], []
        self.progress(stage, 0, len(tasks))
        ended = zip(self.sources, outcomes(pool, function, tasks), strict=True)
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
        self.sources = kept
        if self.failed and not kept:
            first = next(iter(self.failed.values()))
            raise RecordingError(
                f"none of {len(self.failed)} recording(s) can be used. The first: {first}"
            )
        return results

    def _with_usual_channels(self, facts: list[Facts]) -> list[Facts]:
        """Keep the recordings with the usual channels; skip any others, or raise an error."""
        if not facts:
            fates = [fate for dropped in self.facts for fate in dropped.classes]
            if any(fate["best_share"] or fate["in_spans"] for fate in fates):
                self._check_fates()  # raises an error if only labels are missing
            longest_s = max((dropped.duration_s for dropped in self.facts), default=0.0)
            gap_s = max((dropped.bridging_gap_s or 0.0 for dropped in self.facts), default=0.0)
            way_out = f", or max_gap_s={gap_s:g}, which bridges the gaps" if gap_s else ""
            raise WindowError(
                f"none of {len(self.facts)} recordings has a gap-free interval of"
                f" window_s={self.request.options.window_s:g}; the longest recording lasts"
                f" {longest_s:g} s. Use a shorter window_s{way_out}."
            )
        usual = Counter(tuple(sorted(f.channels)) for f in facts).most_common(1)[0][0]
        usual = tuple(sorted(self.channels)) or usual
        example = next(f for f in facts if tuple(sorted(f.channels)) == usual)
        pair = pair_of(map(_covered, facts))
        joining = "`pair`" if pair is None else f"pair={pair!r}"
        kept = []
        for recording in facts:
            if tuple(sorted(recording.channels)) == usual:
                kept.append(recording)
                continue
            dropped, counters = recording.dropped_columns, recording.counters
            message = (
                f"{files_of(recording)}: channels {', '.join(recording.channels)}"
                + (f" ({', '.join(dropped)} without numbers)" if dropped else "")
                + (f" ({', '.join(counters)} left out as a counter)" if counters else "")
                + f"; {files_of(example)} and most others have {', '.join(example.channels)}."
                " Choose common channels with `channels`, leave this recording out with `exclude`,"
                f" or, if the files are from several sensors of one recording, join them with"
                f" {joining}."
            )
            if not self.skip:
                raise RecordingError(message)
            self.failed[recording.recording_id] = message
        return kept

    def _with_usual_scales(self, facts: list[Facts]) -> list[Facts]:
        """Keep the recordings with the usual units of time and channels; skip or refuse others."""
        compared = [
            ScaleFacts(
                files_of(recording),
                ", ".join(recording.labels),
                recording.sample_rate_hz,
                str((recording.clock or {}).get("unit", "s")),
                recording.scales or {},
                is_zero=0 < recording.n_windows == recording.n_zero_windows,
            )
            for recording in facts
        ]
        odd = find_odd_scales(compared)
        if self.allow_scales:
            self.odd_scales = [f"{compared[at].name}: {'; '.join(odd[at])}" for at in sorted(odd)]
            return facts
        for at in sorted(odd):
            error = odd_scale_error(compared[at], odd[at], len(odd))
            if not self.skip:
                raise error
            self.failed[facts[at].recording_id] = str(error)
        return [recording for at, recording in enumerate(facts) if at not in odd]

    def _check_classes(self, kept: list[Facts]) -> None:
        with_windows = {label for facts in kept for label in facts.labels}
        recorded = {label for facts in self.facts for label in facts.labels_there}
        use = self.request.options
        if use.label_column is not None:  # without this column, labels were checked before reading
            classes = {str(label) for label in (recorded | self.labels) - {None}}
            left_out = [name for facts in self.facts for name in facts.left_out_classes]
            check_labels(use.labels, classes, "of a recording", left_out)
        # The labels of single samples are not known before the recordings are read.
        warn_of_similar_classes((f.labels_there for f in self.facts), checked=self.labels)
        self._check_fates()
        lost = sorted(str(label) for label in (self.labels | recorded) - with_windows - {None})
        if lost:
            raise WindowError(
                f"class {lost[0]!r} has no windows, because all its recordings were left out."
                f" Repair them, or leave the class out with exclude={lost[0]!r}."
            )

    def _check_fates(self) -> None:
        use = self.request.options
        check_class_fates(
            [fate for facts in self.facts for fate in facts.classes],
            window_s=use.window_s,
            label_rule=use.label_rule,
            min_purity=MIN_PURITY if use.min_purity is None else use.min_purity,
        )

    def _dropped(self) -> list[dict[str, Any]]:
        pieces = [
            {"recording_id": facts.recording_id, **piece}
            for facts in self.facts
            if facts.recording_id not in self.failed
            for piece in facts.dropped
        ]
        whole = [{"recording_id": name, "reason": reason} for name, reason in self.failed.items()]
        return pieces + whole

    def _provenance(self, kept: list[Facts]) -> dict[str, Any]:
        use, derived = self.request.options, self.request.pipeline.derived_
        replaced = [_REPLACED] if self.request.replaces_steps else []
        rate = self.request.pipeline.plan.window_rate_hz(self.rate)
        return {
            "configuration": self.request.configuration,
            "versions": versions(),
            "sample_rate_hz": rate,
            "sample_rate_from": self.rate_from,
            "resampled_to_hz": self.rate,
            "input_channels": self.input_channels or kept[0].input_channels,
            "held": self.held,
            "window": {
                "window_s": float(use.window_s),
                "hop_s": float(use.window_s if use.hop_s is None else use.hop_s),
                "window_samples": self.window_samples,
                "sample_rate_hz": rate,
            },
            "recordings": [
                {k: v for k, v in facts.to_dict().items() if k not in ("dropped", "classes")}
                for facts in kept
            ],
            "dropped": self._dropped(),
            **({} if derived is None else {"derived": [*replaced, *derived.lines]}),
        }


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


def _covered(facts: Facts) -> Covered:
    """Return the period that a recording covers."""
    period_s = 1 / facts.sample_rate_hz if facts.sample_rate_hz else 0.0
    labels = tuple(facts.labels_there)
    return Covered(facts.recording_id, facts.group, labels, facts.start_s, facts.end_s, period_s)


def _threads(jobs: int) -> AbstractContextManager[Executor | None]:
    """Return a pool of threads for computing digests, which does not need processes."""
    return nullcontext() if jobs == 1 else ThreadPoolExecutor(jobs)
