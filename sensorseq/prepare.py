"""Turn many recordings into one prepared file: one at a time, in parallel, resumable."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.scales import (
    ScaleFacts,
    find_odd_scales,
    measure_scales,
    similar_names,
)
from sensorseq.earlier import SELECTING, EarlierFile, StoredPart, reason_of
from sensorseq.errors import (
    ArgumentError,
    PreparedFileError,
    RecordingError,
    SignalError,
    SplitError,
    WindowError,
    check_choice,
    noting,
    printable,
    warn_caller,
)
from sensorseq.preprocessing._checks import check_count
from sensorseq.preprocessing.configuration import (
    PrepareConfiguration,
    naming_file,
    read_configuration,
)
from sensorseq.preprocessing.copies import window_keys
from sensorseq.preprocessing.derive import DERIVE, DerivedSteps, channel_rates
from sensorseq.preprocessing.label_rules import MIN_PURITY, Fate, check_class_fates
from sensorseq.preprocessing.options import OPTIONS, PreparationOptions, takes_options
from sensorseq.preprocessing.pipeline import (
    PreparePipeline,
    common_rate,
    pipeline_arguments,
    versions,
    with_changes,
)
from sensorseq.preprocessing.plan import (
    Learned,
    PreparationPlan,
    WindowTable,
    describe_cut,
    make_steps,
)
from sensorseq.readers import (
    ON_ERROR,
    RecordingSource,
    digest_source,
    find_recordings,
    read_source,
    read_source_rate,
)
from sensorseq.readers.source import at_hand
from sensorseq.readers.stamps import describe_clock, odd_rates
from sensorseq.recording import Channel, Recording, sample_rate_of
from sensorseq.remote import here, is_url, upload
from sensorseq.scratch import count_where
from sensorseq.storage.checksums import DamagedFileError
from sensorseq.storage.parts import PartFolder, read_part, read_part_facts, write_part
from sensorseq.storage.prepared import WindowColumns, write_window_blocks
from sensorseq.summary import PreparedSummary
from sensorseq.windows import PARTS, WindowSet
from sensorseq.workers import ENGINES, outcomes, worker_pool

Progress = Callable[[str, int, int], None]
"""Called with the stage (``"digests"``, ``"rates"``, ``"recordings"``, ``"merge"``), how many items
are done and how many there are. An exception it raises ends the run."""

_PART_VERSION = 5  # raised when equal arguments no longer give equal windows
_PART_OPTIONS = [  # that decide the windows of a recording; derived steps are kept apart
    name
    for name, option in OPTIONS.items()
    if option.section in ("input", "resample", "window") or name == "random_state"
    if name not in SELECTING
]
_READ_BYTES = 1 << 23  # of a part, read together
_REPLACED = "the steps of the configuration are not used: derive replaces them"
_SPOILT = (RecordingError, SignalError, WindowError)  # what `on_error="skip"` passes over
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@takes_options(OPTIONS, default=None)
def prepare(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | PrepareConfiguration | None = None,
    jobs: int = 1,
    engine: str = "process",
    scheduler: str | None = None,
    resume: bool = False,
    on_error: str = "stop",
    allow_scales: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> PreparedSummary:
    """Read, resample, cut and split recordings, and write them as one file.

    The result equals the one of `PreparePipeline`, but memory never holds more than one recording
    per job, nor all of a CSV, Parquet or HDF5 recording of more than 32 MB. Preparing twice gives
    the same bytes, regardless of `jobs` and interruptions; if `output` was made from the same files
    by the same options, nothing is done.

    Parameters
    ----------
    source : path-like
        Folder of folders per label, folder with a manifest, manifest, or one recording; or the URL
        of one (``s3://bucket/folder``), from which each recording is downloaded to be read.
    output : path-like
        The prepared file. An existing prepared file is replaced once the new one is complete;
        other files are refused. Finished recordings are kept in ``<output>.parts/`` until the end,
        so the run needs disk space for twice the file's size. A URL is written when the file is
        complete; its parts are at ``<output>.parts/``, too.
    config : path-like or PrepareConfiguration, optional
        Sets every option that is None; see `read_configuration`.
    jobs : int, default=1
        Number of processes that read and cut recordings.
    engine : {"process", "dask"}, default="process"
        What runs them: processes of this machine, or workers of dask, which replaces those that are
        killed.
    scheduler : str, optional
        Address of a dask scheduler, such as ``"tcp://10.0.0.5:8786"``, whose workers are used
        instead of `jobs` local ones. All must see `source` and the folder of `output`, or these
        must be URLs.
    resume : bool, default=False
        Reuse the recordings that an interrupted run finished, unless the file or the arguments
        changed since. If `output` exists, extend it: only new and changed recordings are read, and
        the others keep their windows and parts. New groups are assigned to parts so that the
        shares are approached.
    on_error : {"stop", "skip"}, default="stop"
        skip: leave out recordings that cannot be used, and list the reasons in `dropped`. Of a
        damaged robot log, what is before the damage is used; the entry has the seconds kept.
    allow_scales : bool, default=False
        Use recordings even if their time stamps or a channel seem to have another unit than those
        of the other recordings: a sample rate 100 times theirs, or 30 times the usual range of
        values in the class with the same spectrum, or a fraction as small. By default such a
        recording cannot be used.
    progress : callable, optional
        See `Progress`.
    **options
        The fields of `PreparationOptions`, for meaning and defaults see there; ``window_s`` is
        required, here or in `config`. ``split="none"``, ``derive="none"``, ``scale="none"`` and
        ``balance="none"`` turn them off, whatever `config` says; ``derive="auto"`` replaces its
        steps.

    Raises
    ------
    RecordingError, WindowError, SplitError
        If a recording cannot be used (the message names file and row), or seems to have another
        unit, or a class has no window or too few groups for the parts.
    ArgumentError
        If `output` is to be extended, but was made with other options.
    PreparedFileError
        If the file cannot be written, another run is writing it, or `output` is another kind of
        file.
    """
    request = _Request.of(options, config)
    check_choice("on_error", on_error, ON_ERROR)
    check_choice("engine", engine, ENGINES)
    check_count("jobs", jobs)
    report = progress or (lambda stage, done, total: None)
    use = request.options
    which = ("files", "pair", "labels", "manifest", "recording_column", "group_column")
    wanted = {name: getattr(use, name) for name in which} | use.form
    if use.recording_column is not None:
        wanted["label_column"] = use.label_column
    sources = find_recordings(source, exclude=use.exclude or (), ignore=output, **wanted)
    for pair in similar_names(Counter(str(k) for one in sources for k in one.labels)):
        warn_caller(f"{pair.text} {pair.advice}")
    if use.split is not None and use.split_by != "time":
        _check_groups(sources, use.split, by_recording=use.split_by == "recording")
    if scheduler is not None or engine == "dask":  # whose workers run in folders of their own
        sources = [_absolute(source) for source in sources]
    parts_url = f"{os.fspath(output)}.parts" if is_url(output) else ""
    reads = None if sources[0].url else sources[0].root
    with (
        here(output) as file,
        PartFolder(file, keep=resume, url=parts_url) as folder,
        EarlierFile.at(file) as earlier,
        worker_pool(engine, jobs, scheduler, reads, None if parts_url else folder.path) as pool,
    ):
        skip = on_error == "skip"
        damage = earlier if isinstance(earlier, str) else ""
        known = None if isinstance(earlier, str) else earlier
        preparation = _FilePreparation(
            request, sources, folder, pool, skip, allow_scales, report, known, damage
        )
        summary = preparation.compare(resume, jobs)
        if summary is None:
            preparation.choose_rate()
            preparation.derive()
            preparation.make_parts()
            summary = preparation.merge(file)
            upload(file, output)
        folder.discard()
    return replace(summary, path=os.fspath(output)) if parts_url else summary


@dataclass(frozen=True)
class _Request:
    """The checked options, and the pipeline made of them."""

    options: PreparationOptions
    pipeline: PreparePipeline
    replaces_steps: bool  # of the configuration file, by derived ones

    @classmethod
    def of(
        cls, given: Mapping[str, Any], config: str | os.PathLike[str] | PrepareConfiguration | None
    ) -> "_Request":
        configured = PrepareConfiguration()
        named: AbstractContextManager[None] = nullcontext()
        if isinstance(config, PrepareConfiguration):
            configured = config
        elif config is not None:
            configured, named = read_configuration(config), naming_file(config)
        use = configured.arguments()
        replaced = given.get("derive") in DERIVE and bool(use.get("steps"))
        use = with_changes(use, {name: v for name, v in given.items() if v is not None})
        seed = use.get("random_state", 0)
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            raise ArgumentError(
                f"random_state={seed!r} is not an integer; a prepared file needs a fixed seed."
            )
        for name in ("files", "labels", "exclude", "channels"):
            if name in use:
                value = use[name]
                use[name] = [value] if isinstance(value, str) else [str(item) for item in value]
        with named:
            pipeline = PreparePipeline(**pipeline_arguments(use))
        of_files = {name: use[name] for name, o in OPTIONS.items() if o.of_files and name in use}
        if of_files.get("units") is not None:
            of_files["units"] = dict(of_files["units"])
        of_files["repair_stamps"] = bool(use.get("repair_stamps", False))
        return cls(replace(pipeline.options, **of_files), pipeline, replaced)

    @property
    def configuration(self) -> dict[str, Any]:
        """In sections as in a configuration file; nothing of this machine."""
        use = {name: getattr(self.options, name) for name, o in OPTIONS.items() if o.of_files}
        use["exclude"] = list(use["exclude"] or ()) or None
        if not isinstance(use["manifest"], bool | None):
            use["manifest"] = Path(use["manifest"]).name
        return PrepareConfiguration.of(self.pipeline.arguments | use).sections()


@dataclass(frozen=True)
class _PartTask:
    source: RecordingSource
    options: PreparationOptions
    plan: PreparationPlan
    sample_rate_hz: float
    path: Path | str  # str: a URL
    salvage: bool  # of damaged logs, what is before the damage
    files: list[dict[str, Any]] | None = None  # their digests, if they are known
    facts: "_Facts | None" = None  # of a recording that an earlier file holds


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What is known of a recording after cutting it, as its part file keeps it in JSON."""

    recording_id: str
    group: str
    labels: list[str]  # of its windows
    labels_there: list[str | None]  # that the recording has
    classes: list[Fate]
    channels: list[str]
    units: list[str]
    input_channels: list[str]
    input_units: list[str]
    sample_rate_hz: float | None
    duration_s: float
    n_samples: int
    repaired_stamps: dict[str, int] | None = None
    clock: dict[str, Any] | None = None  # the facts of `Stamps`
    n_pieces: int
    n_holes_filled: int
    n_windows: int
    dropped_columns: list[str]
    dropped: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    scales: dict[str, list[float]] | None = None  # as `measure_scales` returns

    def to_dict(self) -> dict[str, Any]:
        plain = dict(vars(self))
        for name in ("repaired_stamps", "clock"):
            if plain[name] is None:
                del plain[name]
        return plain


@dataclass
class _FilePreparation:
    request: _Request
    sources: list[RecordingSource]
    folder: PartFolder
    pool: Executor | None
    skip: bool
    allow_scales: bool
    progress: Progress
    earlier: EarlierFile | None
    damage: str = ""  # to a file that it replaces

    def __post_init__(self) -> None:
        self.failed: dict[str, str] = {}  # recording_id: why
        self.labels = {label for source in self.sources for label in _labels_of(source)}
        self.every = list(self.sources)
        self.digests: dict[str, list[dict[str, Any]]] = {}  # of the files of each recording
        self.extended: EarlierFile | None = None
        self.changes = [self.damage] if self.damage else []  # since the earlier file
        self.channels: tuple[str, ...] = ()  # of an extended file, in order
        self.input_channels: list[str] = []
        self.unread: set[str] = set()  # the recordings that it holds
        self.facts: list[_Facts] = []
        self.odd_scales: list[str] = []  # that were allowed

    def compare(self, resume: bool, jobs: int) -> PreparedSummary | None:
        """Find out what changed since the earlier file; return its summary if nothing did.

        To resume is to extend it, unless an interrupted run was to replace it.
        """
        earlier = self.earlier
        if earlier is None:
            return None
        options = earlier.changed_options(self.request.configuration)
        if not self.skip and earlier.left_out:
            options["on_error"] = "on_error was skip, now stop"
        if earlier.record.get("version") != _PART_VERSION:
            options["version"] = "it was prepared by another version of sensorseq"
        self.changes = list(options.values())
        decisive = [
            words.replace(f"{name} ", f"`{name}` ", 1) if words.startswith(name) else words
            for name, words in options.items()
            if name not in (*SELECTING, "on_error")
        ]
        if resume and decisive:
            if self.folder.has_parts:
                return None
            raise ArgumentError(
                f"{earlier.path} cannot be extended: {'; '.join(decisive)}. Use the options it was"
                " made with, or leave out `resume` to prepare all recordings again."
            )
        same = {source.recording_id for source in self.every} == set(earlier.inputs)
        if not resume and (options or not same):
            return None
        with _threads(jobs) as threads:
            found = self._run("digests", _digest, self.sources, threads)
        ids = [source.recording_id for source in self.sources]
        self.digests = dict(zip(ids, found, strict=True))
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
        """Choose the common rate: the given one, or from the time stamps alone."""
        if self.extended is not None:
            made = self.extended.provenance
            self.rate, self.rate_from = made["resampled_to_hz"], made["sample_rate_from"]
            return
        given = self.request.options.sample_rate_hz
        if given is not None:
            self.rate, self.rate_from = float(given), "given"
            return
        options = self.request.options
        read = partial(
            read_source_rate,
            time_column=options.time_column,
            time_unit=options.time_unit,
            repair_stamps=bool(options.repair_stamps),
            channels=options.channels,
            salvage=self.skip,
            scratch=self.folder.path,
        )
        rates = self._run("rates", read, self.sources, self.pool)
        self.rate, self.rate_from = common_rate(rates)
        if not (
            self.skip or self.allow_scales
        ):  # before much is read, at a thousand times the rate
            known = zip(self.sources, rates, strict=True)
            facts = [ScaleFacts(" + ".join(s.relative_paths), "", own) for s, own in known]
            for at, texts in find_odd_scales(facts).items():
                raise _odd_scale(facts[at], texts)

    def derive(self) -> None:
        """Choose the steps for the first recording that can be read, if steps are derived."""
        pipeline = self.request.pipeline
        if not pipeline.derives:
            return
        if self.extended is not None:
            made = self.extended.provenance
            steps = tuple(made["configuration"]["steps"])
            lines = tuple(line for line in made["derived"] if line != _REPLACED)
            pipeline.derived_ = DerivedSteps(steps, lines)
            pipeline.plan = replace(pipeline.plan, steps=make_steps(steps))
            return
        for source in self.sources:
            try:
                recording = _read(source, self.request.options, self.folder.path, salvage=self.skip)
            except _SPOILT:
                if not self.skip:
                    raise
            else:
                recording = pipeline.plan.select(recording)
                pipeline.use_derived(recording.channels, channel_rates(recording), self.rate)
                return

    def make_parts(self) -> None:
        """Write a part file for every recording; `facts` describes each, in order."""
        plan = self.request.pipeline.plan
        self.window_samples = plan.window_samples(self.rate)
        tasks = [
            _PartTask(
                source,
                self.request.options,
                plan,
                self.rate,
                self.folder.place_of(source.recording_id),
                self.skip and source.is_log,
                self.digests.get(source.recording_id),
                self._known_facts(source),
            )
            for source in self.sources
        ]
        made = self._run("recordings", _make_part, tasks, self.pool)
        self.unread = {task.source.recording_id for task in tasks if task.facts is not None}
        if self.extended is not None and self.unread:
            self.channels = self.extended.channels
            self.input_channels = self.extended.provenance["input_channels"]
        self.n_reused = sum(reused for _, reused in made)
        self.facts = [facts for facts, _ in made]

    def merge(self, output: Path) -> PreparedSummary:
        """Write the prepared file from the parts, in the order of the recordings."""
        pipeline = self.request.pipeline
        kept = self._agreeing([facts for facts in self.facts if facts.n_windows])
        kept = self._of_one_scale(kept)
        self._check_classes(kept)
        bare = [one for one in kept if not one.labels]
        if bare and len(bare) < len(kept):
            raise RecordingError(
                f"{_files_of(bare[0])} has no label, but others do; label every recording or none."
            )
        first, channels = kept[0], self.channels or (*kept[0].channels,)
        parts = [self._part(one, channels) for one in kept]
        at_once = max(1, _READ_BYTES // (4 * self.window_samples * len(channels)))
        rows = _PartRows.of(parts, channels, labelled=not bare, at_once=at_once)
        named = zip(first.input_channels, first.input_units, strict=True)
        own_rates = [one.sample_rate_hz for one in kept if one.sample_rate_hz is not None]
        lookahead_s = pipeline.plan.lookahead_s(
            tuple(Channel(*one) for one in named), own_rates, self.rate
        )
        known = self._known_parts(kept, rows)
        note = "known groups stay in their part of the file; without `resume`, all are split again"
        with nullcontext() if known is None else noting(note, SplitError):
            learned = pipeline.plan.learn(rows, lookahead_s, known)
        rows, table = learned.windows, learned.windows.table
        if self.request.options.split_by == "time" and learned.facts:
            # The windows that an extended file left out before are not in it.
            n_left_out = sum(one.n_windows for one in kept) - len(table.start_s)
            learned.facts["split"]["n_left_out"] = n_left_out
        columns = WindowColumns(
            self.window_samples,
            **vars(table),
            split=learned.split,
            channels=rows.channels,
            sample_rate_hz=pipeline.plan.window_rate_hz(self.rate),
            provenance={**self._provenance(kept), **learned.facts},
        )
        return self._write(output, columns, learned, kept)

    def _write(
        self,
        output: Path,
        columns: WindowColumns,
        learned: "Learned[_PartRows]",
        kept: list[_Facts],
    ) -> PreparedSummary:
        rows, keys = learned.windows, [np.empty(0, np.uint64)]
        inputs = self._inputs()
        summary = self._summarize(output, columns, kept, learned.sample_indices)

        def reported() -> Iterator[NDArray[np.float32]]:
            ends = np.cumsum([len(used) for used in rows.used if len(used)])
            self.progress("merge", 0, len(ends))
            done = n_written = 0
            for block in rows.blocks(np.arange(len(columns))):
                moves = (block != block[:, :1]).any(axis=(1, 2))  # constant windows are no copies
                keys.append(window_keys(block) * moves)
                yield block
                n_written += len(block)
                if done < (done := int(np.searchsorted(ends, n_written, side="right"))):
                    self.progress("merge", done, len(ends))

        def record() -> dict[str, Any]:
            nonlocal summary
            copies = _copies(np.concatenate(keys), rows.table, learned.split)
            summary = replace(summary, copies=copies)
            return {
                "version": _PART_VERSION,
                "inputs": inputs,
                "facts": [one.to_dict() for one in self.facts],
                "failed": self.failed,
                "summary": summary.to_record(),
            }

        write_window_blocks(
            output,
            columns,
            reported(),
            scaler=None if learned.scaler is None else learned.scaler.to_dict(),
            sample_indices=learned.sample_indices,
            record=record,
        )
        action = "written"
        if self.earlier is not None:
            action = "replaced" if self.extended is None else "extended"
            self.changes += self.earlier.changed_inputs(inputs)
        elif self.damage:
            action = "replaced"
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
        columns: WindowColumns,
        kept: list[_Facts],
        sample_indices: NDArray[np.int64] | None,
    ) -> PreparedSummary:
        fitted: Counter[str] = Counter()
        if self.request.options.balance is not None and columns.y is not None:
            fitted.update(map(str, columns.y[sample_indices].tolist()))
        dropped = Counter(name for one in self.facts for name in one.dropped_columns)
        repaired: Counter[str] = Counter()
        for one in self.facts:
            repaired.update(one.repaired_stamps or {})
        provenance = columns.provenance
        own_rates = [one.sample_rate_hz for one in kept if one.sample_rate_hz is not None]
        return PreparedSummary(
            output,
            columns.counts(),
            len(kept),
            len(columns),
            self.window_samples,
            columns.channels,
            float(columns.sample_rate_hz or self.rate),
            self.rate_from,
            self._dropped(),
            dict(dropped),
            imbalance=provenance.get("split", {}).get("imbalance", ""),
            constant_channels=list(provenance.get("constant_channels", [])),
            n_holes_filled=sum(int(one.n_holes_filled) for one in self.facts),
            repaired_stamps=dict(repaired),
            resampled_to_hz=self.rate,
            own_rates_hz=(min(own_rates), max(own_rates)) if own_rates else (0.0, 0.0),
            n_fitted=dict(sorted(fitted.items())),
            derived=list(provenance.get("derived", [])),
            clocks=dict(Counter(describe_clock(one.clock) for one in self.facts if one.clock)),
            odd_rates_hz=odd_rates({one.recording_id: one.sample_rate_hz for one in kept}),
            odd_scales=self.odd_scales,
        )

    def _inputs(self) -> dict[str, str]:
        """Return a digest of what each recording is made of, also of those left out."""
        known = {one.recording_id: one.sources for one in self.facts} | self.digests
        keys = {}
        for source in self.every:
            try:
                files = known.get(source.recording_id) or _digest(source)
                keys[source.recording_id] = _input_key(source, files)
            except RecordingError:  # a file that cannot be read, which was left out
                keys[source.recording_id] = ""
        return keys

    def _known_facts(self, source: RecordingSource) -> _Facts | None:
        """Return the facts of a recording that the extended file holds, if it did not change."""
        name, earlier = source.recording_id, self.extended
        if earlier is None or name not in earlier.facts:
            return None
        if name in earlier.left_out and not self.skip:  # in part
            return None
        if earlier.inputs[name] != _input_key(source, self.digests[name]):
            return None
        return _Facts(**earlier.facts[name])

    def _part(self, facts: _Facts, channels: Sequence[str]) -> "_RecordingPart | StoredPart":
        if self.extended is not None and facts.recording_id in self.unread:
            cut_anew = self.request.pipeline.plan.cuts_training_anew
            return self.extended.part(facts.recording_id, channels, cut_anew=cut_anew)
        return _RecordingPart(
            self.folder.bring(facts.recording_id),
            facts.recording_id,
            facts.group,
            [facts.channels.index(name) for name in channels],
        )

    def _known_parts(self, kept: list[_Facts], rows: "_PartRows") -> NDArray[np.str_] | None:
        """Return the part of each window that an extended file decides, "" for the others."""
        if self.extended is None or self.request.options.split is None:
            return None
        by = self.request.options.split_by
        return np.concatenate(
            [
                part.split
                if isinstance(part, StoredPart)
                else np.full(
                    len(used),
                    self.extended.part_of(
                        one.recording_id, one.group, [file["sha256"] for file in one.sources], by
                    ),
                )
                for one, part, used in zip(kept, rows.parts, rows.used, strict=True)
            ]
        )

    def _run(
        self,
        stage: str,
        function: Callable[[_Task], _Result],
        tasks: Sequence[_Task],
        pool: Executor | None,
    ) -> list[_Result]:
        """Return the results in order; a failure stops the run, or its recording is left out."""
        results: dict[int, _Result] = {}
        failed: dict[int, str] = {}
        self.progress(stage, 0, len(tasks))
        for done, (index, outcome) in enumerate(outcomes(pool, function, tasks), start=1):
            try:
                results[index] = outcome()
            except _SPOILT as error:
                if not self.skip:
                    raise
                source, message = self.sources[index], str(error)
                # so that equal data gives equal files
                for path, relative in zip(source.names, source.relative_paths, strict=True):
                    message = message.replace(printable(path), relative)
                failed[index] = message
            self.progress(stage, done, len(tasks))
        self.failed |= {self.sources[index].recording_id: failed[index] for index in sorted(failed)}
        self.sources = [source for index, source in enumerate(self.sources) if index in results]
        if self.failed and not self.sources:
            first = next(iter(self.failed.values()))
            raise RecordingError(
                f"none of {len(self.failed)} recording(s) can be used. The first: {first}"
            )
        return [results[index] for index in sorted(results)]

    def _agreeing(self, facts: list[_Facts]) -> list[_Facts]:
        """Keep the recordings with the most common channels; others stop the run or are skipped."""
        if not facts:
            fates = [fate for one in self.facts for fate in one.classes]
            if any(fate["best_share"] or fate["in_spans"] for fate in fates):
                self._check_fates()  # long enough recordings, whose windows have no label
            longest = max((one.duration_s for one in self.facts), default=0.0)
            raise WindowError(
                f"none of {len(self.facts)} recordings has a gap-free stretch of"
                f" window_s={self.request.options.window_s:g} s; the longest recording lasts"
                f" {longest:g} s. Use a shorter window_s, or a longer max_gap_s."
            )
        usual = Counter(tuple(sorted(one.channels)) for one in facts).most_common(1)[0][0]
        usual = tuple(sorted(self.channels)) or usual
        model = next(one for one in facts if tuple(sorted(one.channels)) == usual)
        kept = []
        for one in facts:
            if tuple(sorted(one.channels)) == usual:
                kept.append(one)
                continue
            dropped = one.dropped_columns
            message = (
                f"{_files_of(one)}: channels {', '.join(one.channels)}"
                + (f" ({', '.join(dropped)} without numbers)" if dropped else "")
                + f"; {_files_of(model)} and most others have {', '.join(model.channels)}."
                " Choose common channels with `channels`, leave this recording out with `exclude`,"
                " or, if the files are sensors of one recording, join them with `pair`."
            )
            if not self.skip:
                raise RecordingError(message)
            self.failed[one.recording_id] = message
        return kept

    def _of_one_scale(self, facts: list[_Facts]) -> list[_Facts]:
        """Keep the recordings whose time and channels have the unit of the others."""
        compared = [
            ScaleFacts(
                _files_of(one),
                ", ".join(one.labels),
                one.sample_rate_hz,
                str((one.clock or {}).get("unit", "s")),
                one.scales or {},
            )
            for one in facts
        ]
        odd = find_odd_scales(compared)
        if self.allow_scales:
            self.odd_scales = [f"{compared[at].name}: {'; '.join(odd[at])}" for at in sorted(odd)]
            return facts
        for at in sorted(odd):
            error = _odd_scale(compared[at], odd[at], len(odd))
            if not self.skip:
                raise error
            self.failed[facts[at].recording_id] = str(error)
        return [one for at, one in enumerate(facts) if at not in odd]

    def _check_classes(self, kept: list[_Facts]) -> None:
        left = {label for one in kept for label in one.labels}
        there = {label for one in self.facts for label in one.labels_there}
        self._check_fates()
        lost = sorted(str(label) for label in (self.labels | there) - left - {None})
        if lost:
            raise WindowError(
                f"class {lost[0]!r} has no windows, because all its recordings were left out."
                f" Repair them, or leave the class out with exclude={lost[0]!r}."
            )

    def _check_fates(self) -> None:
        use = self.request.options
        check_class_fates(
            [fate for one in self.facts for fate in one.classes],
            window_s=use.window_s,
            label_rule=use.label_rule,
            min_purity=MIN_PURITY if use.min_purity is None else use.min_purity,
        )

    def _dropped(self) -> list[dict[str, Any]]:
        pieces = [
            {"recording_id": one.recording_id, **piece}
            for one in self.facts
            if one.recording_id not in self.failed
            for piece in one.dropped
        ]
        whole = [{"recording_id": name, "reason": why} for name, why in self.failed.items()]
        return pieces + whole

    def _provenance(self, kept: list[_Facts]) -> dict[str, Any]:
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
            "window": {
                "window_s": float(use.window_s),
                "hop_s": float(use.window_s if use.hop_s is None else use.hop_s),
                "window_samples": self.window_samples,
                "sample_rate_hz": rate,
            },
            "recordings": [
                {
                    name: value
                    for name, value in one.to_dict().items()
                    if name not in ("dropped", "classes")
                }
                for one in kept
            ],
            "dropped": self._dropped(),
            **({} if derived is None else {"derived": [*replaced, *derived.lines]}),
        }


@dataclass(frozen=True)
class _RecordingPart:
    path: Path
    recording_id: str
    group: str
    order: list[int]  # of its channels
    prefix: str = ""  # of its arrays: those on the grid, or "train_"

    def read(self, name: str) -> NDArray[Any]:
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
class _PartRows:
    """The windows of many parts, as a plan takes them; their samples stay in the parts."""

    parts: Sequence[_RecordingPart | StoredPart]
    channels: tuple[str, ...]
    used: list[NDArray[np.int64]]  # rows of each part
    table: WindowTable
    at_once: int  # windows that are read together

    @classmethod
    def of(
        cls,
        parts: Sequence[_RecordingPart | StoredPart],
        channels: tuple[str, ...],
        *,
        labelled: bool,
        at_once: int,
    ) -> "_PartRows":
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

    def with_training_anew(self, split: NDArray[np.str_]) -> tuple["_PartRows", NDArray[np.str_]]:
        part_of = dict(zip(self.table.recording_id.tolist(), split.tolist(), strict=True))
        of_part = [part_of[part.recording_id] for part in self.parts]
        parts = [
            replace(part, prefix="train_") if name == "train" else part
            for part, name in zip(self.parts, of_part, strict=True)
        ]
        labelled = self.table.y is not None
        rows = _PartRows.of(parts, self.channels, labelled=labelled, at_once=self.at_once)
        return rows, np.repeat(of_part, [len(used) for used in rows.used])

    def keep(self, mask: NDArray[np.bool_]) -> "_PartRows":
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


def _copies(
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


def _threads(jobs: int) -> AbstractContextManager[Executor | None]:
    """Threads to compute digests, which need no processes."""
    return nullcontext() if jobs == 1 else ThreadPoolExecutor(jobs)


def _absolute(source: RecordingSource) -> RecordingSource:
    paths = tuple(path.absolute() for path in source.paths)
    return replace(source, paths=paths, root=source.root.absolute())


def _read(
    source: RecordingSource, options: PreparationOptions, scratch: Path, *, salvage: bool
) -> Recording:
    return read_source(
        source,
        channels=options.channels,
        time_column=options.time_column,
        time_unit=options.time_unit,
        label_column=options.label_column,
        units=options.units,
        repair_stamps=bool(options.repair_stamps),
        salvage=salvage,
        scratch=scratch,
    )


def _digest(source: RecordingSource) -> list[dict[str, Any]]:
    with at_hand(source) as near:
        digests = digest_source(near)
    return [
        {"path": relative, **digest}
        for relative, digest in zip(source.relative_paths, digests, strict=True)
    ]


def _make_part(task: _PartTask) -> tuple[_Facts, bool]:
    """Make the part of one recording or reuse it; return its facts, and whether it was reused."""
    if task.facts is not None:
        return task.facts, True
    with at_hand(task.source) as source, here(task.path) as path:
        facts, reused = _make_part_at(path, replace(task, source=source))
        if not reused:
            upload(path, task.path)
    return facts, reused


def _make_part_at(path: Path, task: _PartTask) -> tuple[_Facts, bool]:
    source = task.source
    files = task.files or _digest(source)
    key = _key(task, files)
    if (known := read_part_facts(path, key)) is not None:
        return _Facts(**known), True
    try:
        recording = _read(source, task.options, path.parent, salvage=task.salvage)
        x = recording.values
        _, row = count_where(partial(_are_beyond_float32, x), len(x), x)
        if row >= 0:
            column = int(np.flatnonzero(_are_beyond_float32(x, row, row + 1)[0])[0])
            raise RecordingError(
                f"recording {recording.recording_id!r}: channel"
                f" {recording.channel_names[column]!r} is {x[row, column]:g} at sample {row + 1},"
                " outside the range of float32; leave the field empty if the sample is missing."
            )
        facts, arrays = _cut(task.plan.select(recording), task.plan, task.sample_rate_hz, files)
    except _SPOILT as error:
        where = " + ".join(str(path) for path in source.paths)
        if any(printable(str(path)) in str(error) for path in source.paths):
            raise
        raise type(error)(f"{where}: {error}") from error
    if salvaged := cast(dict[str, Any], recording.attributes.get("salvaged", {})):
        reason = salvaged["reason"].replace(str(source.paths[0].parent) + os.sep, "")
        facts.dropped.append({**salvaged, "reason": reason})
    write_part(path, key, facts.to_dict(), arrays)
    return facts, False


def _are_beyond_float32(values: NDArray[np.floating], at: int, stop: int) -> NDArray[np.bool_]:
    some, largest = values[at:stop], np.finfo(np.float32).max
    if -largest <= some.min(initial=0) and some.max(initial=0) <= largest:  # not with NaN
        return np.zeros(0, bool)
    beyond: NDArray[np.bool_] = np.abs(some) > largest
    return beyond


def _cut(
    recording: Recording, plan: PreparationPlan, rate: float, sources: list[dict[str, Any]]
) -> tuple[_Facts, dict[str, NDArray[Any]]]:
    """Return the facts about a recording and its windows, with separate training windows if set."""
    pieces = plan.pieces(recording, rate)
    windows = plan.windows(pieces, rate)
    arrays = _arrays(windows, "")
    if plan.cuts_training_anew:
        arrays |= _arrays(plan.windows(pieces, rate, training=True), "train_")
    own_rate = sample_rate_of(recording)
    facts = _Facts(
        recording_id=recording.recording_id,
        group=recording.group,
        labels=[] if windows.y is None else np.unique(windows.y).tolist(),
        labels_there=_labels_of(recording),
        classes=windows.provenance["classes"],
        channels=list(windows.channels),
        units=[channel.unit for channel in pieces[0].channels],
        input_channels=list(recording.channel_names),
        input_units=[channel.unit for channel in recording.channels],
        sample_rate_hz=own_rate if np.isfinite(own_rate) else None,
        duration_s=recording.duration_s,
        **describe_cut(recording, pieces),
        n_windows=len(windows),
        dropped_columns=cast(list[str], recording.attributes.get("dropped_columns", [])),
        dropped=windows.provenance["dropped"],
        sources=sources,
        scales=measure_scales(recording),
    )
    return facts, arrays


def _arrays(windows: WindowSet, prefix: str) -> dict[str, NDArray[Any]]:
    arrays: dict[str, Any] = {n: getattr(windows, n) for n in ("X", "start_s", "lengths")}
    if windows.y is not None:
        arrays["y"] = windows.y.astype(np.str_)
    return {prefix + name: np.asarray(array) for name, array in arrays.items()}


def _labels_of(source: RecordingSource | Recording) -> list[str | None]:
    """Return the labels a recording is known to have; one None when it has none."""
    return [*sorted(source.labels)] or [None]


def _key(task: _PartTask, files: Iterable[Mapping[str, Any]]) -> str:
    return _hashed(
        _PART_VERSION,
        _input_key(task.source, files),
        {name: getattr(task.options, name) for name in _PART_OPTIONS},
        [step.to_dict() for step in task.plan.steps],
        task.sample_rate_hz,
        task.salvage,
    )


def _input_key(source: RecordingSource, files: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of what a recording is made of, apart from the options."""
    return _hashed(
        list(files),
        [source.recording_id, source.label, source.group, source.sensors, source.missing_sensors],
        [[span.start_s, span.end_s, span.label] for span in source.label_spans],
    )


def _hashed(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _check_groups(
    sources: Iterable[RecordingSource], fractions: Sequence[float], *, by_recording: bool
) -> None:
    """Fail before an hour of reading when a class has too few groups for the parts."""
    used = [part for part, share in zip(PARTS, fractions, strict=True) if share > 0]
    groups_of: dict[str | None, set[str]] = {}
    for source in sources:
        for label in _labels_of(source):
            groups_of.setdefault(label, set()).add(
                source.recording_id if by_recording else source.group
            )
    for label, groups in sorted(groups_of.items(), key=lambda item: (len(item[1]), str(item[0]))):
        if len(groups) < len(used):
            whose = "the recordings have" if label is None else f"class {label!r} has"
            raise SplitError(
                f"{whose} {len(groups)} group(s) ({', '.join(sorted(groups)[:3])}), but"
                f" {len(used)} parts ({', '.join(used)}) need one each. Record more, use smaller"
                " groups in a manifest"
                + ("" if label is None else f", leave the class out with exclude={label!r}")
                + ", or set a part's share in `split` to 0."
            )


def _odd_scale(facts: ScaleFacts, texts: Sequence[str], count: int = 1) -> RecordingError:
    more = f" {count} recordings are like that." if count > 1 else ""
    return RecordingError(
        f"{facts.name}: {'; '.join(texts)}.{more} Convert the file, leave it out with --exclude, or"
        " use it as it is with --allow-scales (allow_scales=True)."
    )


def _files_of(facts: _Facts) -> str:
    return " + ".join(source["path"] for source in facts.sources)
