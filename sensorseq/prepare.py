"""Many recordings to one prepared file, one at a time, in parallel, resumably."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    RecordingError,
    SignalError,
    SplitError,
    WindowError,
    check_choice,
)
from sensorseq.preprocessing.balance import balance_indices
from sensorseq.preprocessing.configuration import PrepareConfiguration, read_configuration
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.split import split_by_group
from sensorseq.preprocessing.streamed_scale import fit_scaler_to_blocks
from sensorseq.preprocessing.window import window_recordings, window_samples
from sensorseq.readers import (
    ON_ERROR,
    RecordingSource,
    find_recordings,
    read_source,
    read_source_rate,
)
from sensorseq.readers.join import sample_rate_of
from sensorseq.recording import Recording
from sensorseq.storage.parts import PartFolder, read_part, read_part_facts, write_part
from sensorseq.storage.prepared import WindowColumns, write_window_blocks
from sensorseq.windows import PARTS, WindowSet

Progress = Callable[[str, int, int], None]
"""Called with the stage (``"rates"``, ``"recordings"``, ``"merge"``), how many are done, of how
many. What it raises ends the run."""

_PART_VERSION = 1  # counted up when equal arguments no longer give equal windows
_SPOILT = (RecordingError, SignalError, WindowError)  # what `on_error="skip"` passes over
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PreparedSummary:
    """What `prepare` did.

    Parameters
    ----------
    path : Path
        The prepared file.
    counts : dict of str to dict of str to int
        Windows by part (``"all"`` without a split) and class (``""`` without labels).
    n_recordings : int
        Recordings with at least one window.
    n_windows : int
        Windows written.
    window_samples : int
        Timesteps of a window.
    channels : tuple of str
        Channels of a window.
    sample_rate_hz : float
        Common rate.
    sample_rate_from : str
        ``"given"`` or ``"median of the recordings"``.
    dropped : list of dict
        What gave no window: ``recording_id``, ``reason``, and for a piece of a recording
        ``start_s`` and ``n_samples``.
    dropped_columns : dict of str to int
        Columns without numbers, and in how many recordings.
    n_reused : int
        Recordings taken from parts that an interrupted run had finished.
    size_bytes : int
        Of the file.
    """

    path: Path
    counts: dict[str, dict[str, int]]
    n_recordings: int
    n_windows: int
    window_samples: int
    channels: tuple[str, ...]
    sample_rate_hz: float
    sample_rate_from: str
    dropped: list[dict[str, Any]] = field(default_factory=list)
    dropped_columns: dict[str, int] = field(default_factory=dict)
    n_reused: int = 0
    size_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {**asdict(self), "path": str(self.path), "channels": list(self.channels)}

    def __str__(self) -> str:
        lines = [
            f"{self.n_windows} windows of {self.window_samples} samples at {self.sample_rate_hz:g}"
            f" Hz ({self.sample_rate_from}), {len(self.channels)} channel(s)"
            f" ({', '.join(self.channels)}), from {self.n_recordings} recordings"
        ]
        for part, by_class in self.counts.items():
            each = ", ".join(f"{name or 'unlabelled'} {n}" for name, n in by_class.items())
            lines.append(f"  {part}: {sum(by_class.values())} ({each})")
        reasons = Counter(entry["reason"] for entry in self.dropped)
        lines += [f"  dropped {count}: {reason}" for reason, count in reasons.items()]
        lines += [
            f"  column {name!r} holds no numbers (in {count} recording(s)), so it is no channel"
            for name, count in self.dropped_columns.items()
        ]
        return "\n".join(lines)


def prepare(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    files: str | Sequence[str] | None = None,
    pair: str | None = None,
    time_column: str | None = None,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    manifest: str | os.PathLike[str] | bool | None = None,
    sample_rate_hz: float | None = None,
    max_gap_s: float | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    split: Sequence[float] | str | None = None,
    random_state: int | None = None,
    scale: str | None = None,
    balance: str | None = None,
    config: str | os.PathLike[str] | PrepareConfiguration | None = None,
    jobs: int = 1,
    resume: bool = False,
    on_error: str = "stop",
    progress: Progress | None = None,
) -> PreparedSummary:
    """Read, resample, cut and split recordings, and write them as one file.

    The result is that of `PreparePipeline`, without ever holding more than one recording for each
    job. A file prepared twice has the same bytes, whatever `jobs` and interruptions.

    Parameters
    ----------
    source : path-like
        Folder of folders per label, folder with a manifest, manifest, or one recording.
    output : path-like
        The prepared file. One of that name is replaced when the new one is complete. Finished
        recordings wait in ``<output>.parts/``, which is removed at the end: while it runs, the
        place needs twice the file's size.
    files, pair, labels, exclude, manifest
        Which recordings; see `readers.find_recordings`.
    time_column : str, optional
        Column of the time stamps in seconds; ``time`` or ``time_s``, whichever is there, by
        default.
    channels : sequence of str, optional
        Channels to keep, in this order; all by default.
    sample_rate_hz : float, optional
        Common rate; by default the median of the recordings' own median rates (of several sensors,
        of the fastest).
    max_gap_s : float, optional
        Longest hole to interpolate across; by default ten sample periods of the channel.
    window_s : float
        Length of a window in seconds; needed, here or in `config`.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    split : sequence of 3 floats or "none", optional
        Shares of train, validation and test, by group; (0.6, 0.2, 0.2) by default. "none": for
        recordings that are only to be predicted.
    random_state : int, optional
        Seed of split and balance; 0 by default.
    scale : {"standard", "robust", "min_max", "max_abs", "quantile", "none"}, optional
        Statistics stored beside the windows, fitted on train; "standard" by default.
    balance : {"undersample", "oversample", "none"}, optional
        Choice of training windows stored as ``sample_indices``; "none" by default.
    config : path-like or PrepareConfiguration, optional
        Says what the arguments above leave at None; see `read_configuration`.
    jobs : int, default=1
        Processes that read and cut recordings.
    resume : bool, default=False
        Reuse the recordings an interrupted run had finished, where neither file nor arguments
        changed since.
    on_error : {"stop", "skip"}, default="stop"
        skip: a recording that cannot be used is left out, and `dropped` says why.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    PreparedSummary

    Raises
    ------
    RecordingError
        If a recording cannot be read or used; the message names file and row.
    WindowError, SplitError
        If a class has no window, or too few groups for the parts.
    ArgumentError, ConfigurationError
        If an argument or the configuration has no meaning.
    PreparedFileError
        If the file cannot be written, or another run is writing it.
    """
    given = {
        "files": files,
        "pair": pair,
        "time_column": time_column,
        "labels": labels,
        "exclude": exclude,
        "channels": channels,
        "manifest": manifest,
        "sample_rate_hz": sample_rate_hz,
        "max_gap_s": max_gap_s,
        "window_s": window_s,
        "hop_s": hop_s,
        "split": split,
        "random_state": random_state,
        "scale": scale,
        "balance": balance,
    }
    plan = _Plan.of(given, config)
    check_choice("on_error", on_error, ON_ERROR)
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ArgumentError(f"jobs={jobs!r} is not an integer of at least 1.")
    report = progress or (lambda stage, done, total: None)
    sources = find_recordings(source, **plan.which)
    if plan.pipeline.split is not None:
        _check_groups(sources, plan.pipeline.split)
    with PartFolder(Path(output), keep=resume) as folder, _Workers(jobs) as workers:
        run = _Run(plan, sources, folder, workers, on_error, report)
        run.choose_rate()
        run.make_parts()
        summary = run.merge(Path(output))
        folder.discard()
    return summary


def pipeline_of(windows: WindowSet) -> PreparePipeline:
    """Return the steps that prepared windows were made by, for recordings to be predicted.

    Parameters
    ----------
    windows : WindowSet
        As `read_windows` gives them, or a part.

    Returns
    -------
    PreparePipeline
        At the rate, with the windows and the channels of `windows`, without a split and a scale:
        its `prepare` gives what the model takes.

    Raises
    ------
    WindowError
        If `provenance` does not say how the windows were made.
    """
    try:
        cut, resampled = windows.provenance["window"], windows.provenance["configuration"]
        return PreparePipeline(
            sample_rate_hz=cut["sample_rate_hz"],
            window_s=cut["window_s"],
            hop_s=cut["hop_s"],
            max_gap_s=resampled["resample"]["max_gap_s"],
            channels=list(windows.channels),
            split=None,
            scale=None,
        )
    except (KeyError, TypeError) as error:
        raise WindowError(
            "these windows do not say how they were made; use a file that `prepare` wrote."
        ) from error


@dataclass(frozen=True)
class _Plan:
    """The arguments, checked: which recordings, and what becomes of them."""

    which: dict[str, Any]
    time_column: str | None
    pipeline: PreparePipeline

    @classmethod
    def of(
        cls, given: Mapping[str, Any], config: str | os.PathLike[str] | PrepareConfiguration | None
    ) -> "_Plan":
        configured = PrepareConfiguration()
        if config is not None:
            said = isinstance(config, PrepareConfiguration)
            configured = config if said else read_configuration(config)  # type: ignore[assignment, arg-type]
        use = configured.arguments()
        use |= {name: value for name, value in given.items() if value is not None}
        if "window_s" not in use:
            raise ArgumentError("window_s is not given; say how many seconds a window has.")
        seed = use.get("random_state", 0)
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            raise ArgumentError(f"random_state={seed!r} is not an integer; a file needs a seed.")
        for name in ("files", "labels", "exclude", "channels"):
            if name in use:
                value = use[name]
                use[name] = [value] if isinstance(value, str) else [str(item) for item in value]
        split = use.get("split", (0.6, 0.2, 0.2))
        if isinstance(split, str):
            check_choice("split", split, ["none"])
            split = None
        pipeline = PreparePipeline(
            sample_rate_hz=use.get("sample_rate_hz"),
            window_s=use["window_s"],
            hop_s=use.get("hop_s"),
            max_gap_s=use.get("max_gap_s"),
            channels=use.get("channels"),
            split=split,
            scale=_none_of(use.get("scale", "standard")),
            balance=_none_of(use.get("balance", "none")),
            random_state=int(seed),
        )
        which = {
            "files": use.get("files"),
            "pair": use.get("pair"),
            "labels": use.get("labels"),
            "exclude": use.get("exclude", ()),
            "manifest": use.get("manifest"),
        }
        return cls(which, use.get("time_column"), pipeline)

    @property
    def configuration(self) -> dict[str, dict[str, Any]]:
        """In sections as in a configuration file; nothing of this machine."""
        sections = self.pipeline.configuration
        manifest = self.which["manifest"]
        sections["input"] = {
            **{name: self.which[name] for name in ("files", "pair", "labels")},
            "exclude": list(self.which["exclude"]) or None,
            "manifest": manifest
            if manifest is None or isinstance(manifest, bool)
            else Path(manifest).name,
            "time_column": self.time_column,
            **sections["input"],
        }
        return sections


@dataclass(frozen=True)
class _PartTask:
    """What a process needs to turn one recording into a part."""

    source: RecordingSource
    time_column: str | None
    channels: tuple[str, ...] | None
    sample_rate_hz: float
    max_gap_s: float | None
    window_s: float
    hop_s: float | None
    path: Path


class _Run:
    """One preparation under way."""

    def __init__(
        self,
        plan: _Plan,
        sources: list[RecordingSource],
        folder: PartFolder,
        workers: "_Workers",
        on_error: str,
        progress: Progress,
    ) -> None:
        self.plan = plan
        self.sources = sources
        self.folder = folder
        self.workers = workers
        self.skip = on_error == "skip"
        self.progress = progress
        self.failed: dict[str, str] = {}  # recording_id: why
        self.labels = {source.label for source in sources}

    def choose_rate(self) -> None:
        """Settle the common rate, from time stamps alone unless it is given."""
        given = self.plan.pipeline.sample_rate_hz
        if given is not None:
            self.rate, self.rate_from = float(given), "given"
            return
        tasks = [(source, self.plan.time_column) for source in self.sources]
        rates = self._run("rates", _read_rate, tasks)
        known = [rate for rate in rates.values() if np.isfinite(rate)]
        if not known:
            self._check_not_all_failed()
            raise WindowError("no recording has two samples, so none has a rate.")
        # Nine digits: differences of stamps give 99.99999999999 for 100.
        self.rate, self.rate_from = float(f"{np.median(known):.9g}"), "median of the recordings"

    def make_parts(self) -> None:
        """Bring every recording into a part file; `facts` tells of each, in order."""
        pipeline = self.plan.pipeline
        self.window_samples = window_samples(pipeline.window_s, self.rate)
        tasks = [
            _PartTask(
                source,
                self.plan.time_column,
                None if pipeline.channels is None else tuple(pipeline.channels),
                self.rate,
                pipeline.max_gap_s,
                pipeline.window_s,
                pipeline.hop_s,
                self.folder.path_of(source.recording_id),
            )
            for source in self.sources
        ]
        made = self._run("recordings", _make_part, tasks)
        self.reused = sum(reused for _, reused in made.values())
        self.facts = [facts for facts, _ in made.values()]
        self._check_not_all_failed()

    def merge(self, output: Path) -> PreparedSummary:
        """Write the prepared file from the parts, in the order of the recordings."""
        pipeline = self.plan.pipeline
        kept = self._agreeing([facts for facts in self.facts if facts["n_windows"]])
        self._check_classes(kept)
        counts = [facts["n_windows"] for facts in kept]
        paths = [self.folder.path_of(facts["recording_id"]) for facts in kept]
        groups = np.repeat([facts["group"] for facts in kept], counts)
        labelled = kept[0]["label"] is not None
        y = np.repeat([facts["label"] for facts in kept], counts) if labelled else None
        channels = tuple(kept[0]["channels"])
        order = [[facts["channels"].index(name) for name in channels] for facts in kept]

        def blocks(only: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.float32]]:
            for at, path in enumerate(paths):
                if only is None or only[at]:
                    yield read_part(path, "X")[:, :, order[at]]

        def told() -> Iterator[NDArray[np.float32]]:
            self.progress("merge", 0, len(paths))
            for done, block in enumerate(blocks(), start=1):
                yield block
                self.progress("merge", done, len(paths))

        split, scaler, sample_indices = None, None, None
        if pipeline.split is not None:
            split = split_by_group(y, groups, pipeline.split, pipeline.random_state)
            firsts = np.cumsum(counts) - counts
            scaler = fit_scaler_to_blocks(
                lambda: blocks(split[firsts] == "train"), pipeline.scale
            ).to_dict()
            sample_indices = np.flatnonzero(split == "train")
            if pipeline.balance is not None:
                if y is None:
                    raise RecordingError(
                        f"balance={pipeline.balance!r} needs labels, and the recordings have none."
                    )
                chosen = balance_indices(
                    y[sample_indices],
                    groups[sample_indices],
                    pipeline.balance,
                    pipeline.random_state,
                )
                sample_indices = sample_indices[chosen]
        columns = WindowColumns(
            self.window_samples,
            np.full(len(groups), self.window_samples, np.int64),
            y=y,
            groups=groups,
            recording_id=np.repeat([facts["recording_id"] for facts in kept], counts),
            start_s=np.concatenate([read_part(path, "start_s") for path in paths]),
            split=split,
            channels=channels,
            sample_rate_hz=self.rate,
            provenance=self._provenance(kept),
        )
        write_window_blocks(output, columns, told(), scaler=scaler, sample_indices=sample_indices)
        return self._summary(output, columns, len(kept))

    def _run(
        self, stage: str, function: Callable[[_Task], _Result], tasks: Sequence[_Task]
    ) -> dict[str, _Result]:
        """Return the results by recording id, in order; what fails stops, or leaves the run."""
        results: dict[int, _Result] = {}
        failed: dict[int, str] = {}
        self.progress(stage, 0, len(tasks))
        for done, (index, outcome) in enumerate(self.workers.outcomes(function, tasks), start=1):
            try:
                results[index] = outcome()
            except _SPOILT as error:
                if not self.skip:
                    raise
                failed[index] = _without_root(str(error), self.sources[index])
            except BrokenProcessPool as error:
                raise EnvironmentProblemError(
                    "a process that was reading recordings was ended from outside, perhaps for want"
                    " of memory; use fewer `jobs`, and resume=True to keep what is done."
                ) from error
            self.progress(stage, done, len(tasks))
        ids = [source.recording_id for source in self.sources]
        self.failed |= {ids[index]: failed[index] for index in sorted(failed)}
        self.sources = [source for index, source in enumerate(self.sources) if index in results]
        return {ids[index]: results[index] for index in sorted(results)}

    def _agreeing(self, facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep the recordings with the channels that most have; others stop the run, or leave."""
        if not facts:
            longest = max((one["duration_s"] for one in self.facts), default=0.0)
            raise WindowError(
                f"none of {len(self.facts)} recordings, or of the pieces gaps cut them into, is as"
                f" long as window_s={self.plan.pipeline.window_s:g}; the longest recording has"
                f" {longest:g} s. Use a shorter window_s, or a longer max_gap_s."
            )
        usual = Counter(tuple(sorted(one["channels"])) for one in facts).most_common(1)[0][0]
        model = next(one for one in facts if tuple(sorted(one["channels"])) == usual)
        kept = []
        for one in facts:
            if tuple(sorted(one["channels"])) == usual:
                kept.append(one)
                continue
            dropped = one["dropped_columns"]
            message = (
                f"{_files_of(one)}: channels {', '.join(one['channels'])}"
                + (f" ({', '.join(dropped)} without numbers)" if dropped else "")
                + f"; {_files_of(model)} and most others have {', '.join(model['channels'])}."
                " Choose common ones with `channels`, leave it out with `exclude`, or, if these are"
                " sensors of one recording, say so with `pair`."
            )
            if not self.skip:
                raise RecordingError(message)
            self.failed[one["recording_id"]] = message
        return kept

    def _check_classes(self, kept: list[dict[str, Any]]) -> None:
        lost = sorted(str(label) for label in self.labels - {one["label"] for one in kept})
        if lost:
            window_s = self.plan.pipeline.window_s
            raise WindowError(
                f"class {lost[0]!r}: no window is left, because every recording is shorter than"
                f" window_s={window_s:g}, or was left out. Use a shorter window_s, or leave the"
                f" class out with exclude={lost[0]!r}."
            )

    def _check_not_all_failed(self) -> None:
        if self.failed and not self.sources:
            first = next(iter(self.failed.values()))
            raise RecordingError(f"none of {len(self.failed)} recording(s) can be used. {first}")

    def _dropped(self) -> list[dict[str, Any]]:
        pieces = [
            {"recording_id": one["recording_id"], **piece}
            for one in self.facts
            if one["recording_id"] not in self.failed
            for piece in one["dropped"]
        ]
        whole = [{"recording_id": name, "reason": why} for name, why in self.failed.items()]
        return pieces + whole

    def _provenance(self, kept: list[dict[str, Any]]) -> dict[str, Any]:
        pipeline = self.plan.pipeline
        return {
            "configuration": self.plan.configuration,
            "sample_rate_hz": self.rate,
            "sample_rate_from": self.rate_from,
            "window": {
                "window_s": float(pipeline.window_s),
                "hop_s": float(pipeline.window_s if pipeline.hop_s is None else pipeline.hop_s),
                "window_samples": self.window_samples,
                "sample_rate_hz": self.rate,
            },
            "recordings": [
                {name: value for name, value in one.items() if name != "dropped"} for one in kept
            ],
            "dropped": self._dropped(),
        }

    def _summary(self, output: Path, columns: WindowColumns, n_recordings: int) -> PreparedSummary:
        return PreparedSummary(
            output,
            columns.counts(),
            n_recordings,
            len(columns),
            self.window_samples,
            columns.channels,
            self.rate,
            self.rate_from,
            self._dropped(),
            dict(Counter(name for one in self.facts for name in one["dropped_columns"])),
            self.reused,
            output.stat().st_size,
        )


class _Workers:
    """Does tasks here for one job, in processes for more; the processes serve every stage."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def outcomes(
        self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]
    ) -> Iterator[tuple[int, Callable[[], _Result]]]:
        """Yield the index of each task as it is done, and how to get its result or its error."""
        if self._jobs == 1:
            for index, task in enumerate(tasks):
                yield index, lambda task=task: function(task)  # type: ignore[misc]
            return
        if self._pool is None:
            # Fresh processes: forked ones would inherit the threads of whatever runs here.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(min(self._jobs, len(tasks)), mp_context=context)
        index_of = {self._pool.submit(function, task): index for index, task in enumerate(tasks)}
        for future in as_completed(index_of):
            yield index_of[future], future.result


def _read_rate(task: tuple[RecordingSource, str | None]) -> float:
    source, time_column = task
    return read_source_rate(source, time_column=time_column)


def _make_part(task: _PartTask) -> tuple[dict[str, Any], bool]:
    """Make the part of one recording, or find it made; return its facts, and whether it was."""
    source = task.source
    files = [
        {"path": relative, **_digest(path)}
        for relative, path in zip(source.relative_paths, source.paths, strict=True)
    ]
    key = _key(task, files)
    if (facts := read_part_facts(task.path, key)) is not None:
        return facts, True
    try:
        recording = read_source(source, time_column=task.time_column, channels=task.channels)
        _check_fits_float32(recording)
        facts, X, start_s = _cut(recording, task)
    except _SPOILT as error:
        where = " + ".join(str(path) for path in source.paths)
        if any(str(path) in str(error) for path in source.paths):
            raise
        raise type(error)(f"{where}: {error}") from error
    facts["sources"] = files
    write_part(task.path, key, facts, X, start_s)
    return facts, False


def _cut(
    recording: Recording, task: _PartTask
) -> tuple[dict[str, Any], NDArray[np.float32], NDArray[np.float64]]:
    """Return what became of a recording, its windows, and their starts."""
    pieces = resample_recording(recording, task.sample_rate_hz, task.max_gap_s)
    length = window_samples(task.window_s, task.sample_rate_hz)
    X = np.empty((0, length, recording.n_channels), np.float32)
    start_s = np.empty(0)
    if any(piece.n_samples >= length for piece in pieces):
        windows = window_recordings(
            pieces, task.window_s, task.hop_s, sample_rate_hz=task.sample_rate_hz
        )
        X, start_s = windows.X, np.asarray(windows.start_s)
    dropped: list[dict[str, Any]] = [
        {
            "start_s": float(piece.timestamps_s[0]),
            "n_samples": piece.n_samples,
            "reason": "shorter than a window",
        }
        for piece in pieces
        if piece.n_samples < length
    ]
    if not pieces:
        dropped.append({"reason": "at no instant is every channel known"})
    rate = sample_rate_of(recording)
    facts = {
        "recording_id": recording.recording_id,
        "label": recording.label,
        "group": recording.group,
        "channels": list(recording.channel_names),
        "units": [channel.unit for channel in recording.channels],
        "sample_rate_hz": rate if np.isfinite(rate) else None,
        "n_samples": recording.n_samples,
        "duration_s": recording.duration_s,
        "n_pieces": len(pieces),
        "n_windows": len(X),
        "dropped_columns": recording.attributes.get("dropped_columns", []),
        "dropped": dropped,
    }
    return facts, X, start_s


def _digest(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": digest, "size_bytes": os.fstat(file.fileno()).st_size}
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}).") from error


def _key(task: _PartTask, files: Iterable[Mapping[str, Any]]) -> str:
    source = task.source
    made_of = {
        "version": _PART_VERSION,
        "files": list(files),
        "recording": [source.recording_id, source.label, source.group, list(source.sensors)],
        "arguments": [
            task.time_column,
            task.channels,
            task.sample_rate_hz,
            task.max_gap_s,
            task.window_s,
            task.hop_s,
        ],
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _check_fits_float32(recording: Recording) -> None:
    beyond = np.argwhere(np.abs(recording.values) > np.finfo(np.float32).max)
    if beyond.size:
        row, column = (int(i) for i in beyond[0])
        raise RecordingError(
            f"recording {recording.recording_id!r}: channel {recording.channel_names[column]!r} is"
            f" {recording.values[row, column]:g} at sample {row + 1}, beyond the range of float32;"
            " leave the field empty where a sample is missing."
        )


def _check_groups(sources: Iterable[RecordingSource], fractions: Sequence[float]) -> None:
    """Refuse a class that cannot be in every part now, not after an hour of reading."""
    used = [part for part, share in zip(PARTS, fractions, strict=True) if share > 0]
    groups_of: dict[str | None, set[str]] = {}
    for source in sources:
        groups_of.setdefault(source.label, set()).add(source.group)
    for label, groups in sorted(groups_of.items(), key=lambda item: (len(item[1]), str(item[0]))):
        if len(groups) < len(used):
            whose = "the recordings have" if label is None else f"class {label!r} has"
            raise SplitError(
                f"{whose} {len(groups)} group(s) ({', '.join(sorted(groups)[:3])}), and"
                f" {len(used)} parts ({', '.join(used)}) need one each. Record more, give a finer"
                " `group` in a manifest"
                + ("" if label is None else f", leave the class out with exclude={label!r}")
                + ", or set a part's share in `split` to 0."
            )


def _without_root(message: str, source: RecordingSource) -> str:
    """Say `ICE/pro_01.csv`, wherever the folder is: equal data, equal files."""
    for path, relative in zip(source.paths, source.relative_paths, strict=True):
        message = message.replace(str(path), relative)
    return message


def _files_of(facts: Mapping[str, Any]) -> str:
    return " + ".join(source["path"] for source in facts["sources"])


def _none_of(word: str | None) -> str | None:
    return None if word == "none" else word
