"""Prepare many recordings as one file, one at a time or in parallel; a run can be resumed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sensorseq.base.checks import check_integer, check_not_url
from sensorseq.errors import ArgumentError, check_choice, noting
from sensorseq.io.part_files import PartFolder
from sensorseq.options import check_names, shows_options
from sensorseq.prepare.earlier_file import EarlierFile
from sensorseq.prepare.native_rates import prepare_sensor_files
from sensorseq.prepare.stages import Progress, Run, warn_of_similar_classes
from sensorseq.prepare.summary import PreparedSummary
from sensorseq.prepare.workers import ENGINES, worker_pool
from sensorseq.preprocessing.configuration import options_in, read_configuration
from sensorseq.preprocessing.cut_recording import labels_or_none
from sensorseq.preprocessing.options import PreparationOptions, PrepareArguments
from sensorseq.preprocessing.plan import PreparationPlan, make_options
from sensorseq.preprocessing.split import check_enough_groups
from sensorseq.readers import ON_ERROR, RecordingSource, find_recordings
from sensorseq.stamps.repair import STAMPS


@shows_options(PreparationOptions, PrepareArguments)
def prepare(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    jobs: int = 1,
    engine: str = "process",
    scheduler: str | None = None,
    resume: bool = False,
    on_error: str = "stop",
    allow_scales: bool = False,
    allow_constant: bool = False,
    progress: Progress | None = None,
    **options: Unpack[PrepareArguments],
) -> PreparedSummary:
    """Read, resample, cut and split recordings, and write them as one file.

    The windows are the same as with `PreparePipeline`, but at most one recording per job is in
    memory, and a CSV, Parquet or HDF5 recording larger than 32 MB is never completely in memory.
    Preparing twice gives the same bytes, regardless of `jobs` and interruptions; if `output` was
    made from the same files with the same options, nothing is done.

    Parameters
    ----------
    source : path-like
        A folder that contains a folder for each label, a folder with a manifest, a manifest, or one
        recording.
    output : path-like
        The prepared file. An existing prepared file is replaced once the new one is complete; an
        existing file of any other kind raises an error. Finished recordings are kept in
        ``<output>.parts/`` until the end, so the run needs disk space for twice the file's size.
    config : path-like or mapping, optional
        Configuration with values for the options that are None here: a TOML file, or its sections.
        Options that are set neither here nor in the configuration have their defaults, except
        `window_s`, which must be set. ``split="none"``, ``scale="none"`` and
        ``balance="none"`` turn off what `config` sets.
    jobs : int, default=1
        Number of processes that read and cut recordings.
    engine : {"process", "dask"}, default="process"
        Whether to use processes on this machine or dask workers. Dask replaces workers that are
        killed.
    scheduler : str, optional
        Address of a dask scheduler, such as ``"tcp://10.0.0.5:8786"``, whose workers are used
        instead of `jobs` local ones. All workers must be able to access `source` and the folder of
        `output`.
    resume : bool, default=False
        Reuse the recordings that an interrupted run has finished, unless the files or the arguments
        have changed. If `output` exists, extend it: only new and changed recordings are read, and
        all other recordings keep their windows and stay in their parts. New groups are assigned to
        parts so that the sizes of the parts come close to `split`.
    on_error : {"stop", "skip"}, default="stop"
        With ``"skip"``, recordings that cannot be used are left out, and the reasons are listed in
        `dropped`. A damaged robot log is used up to the damage; its entry in `dropped` contains the
        number of seconds that were kept.
    allow_scales : bool, default=False
        Use recordings even if all their samples are zero, or if their timestamps or a channel seem
        to be in a different unit than in the other recordings. Timestamps seem to be in a
        different unit if the sample rate differs from the usual rate by a factor of 100. A channel
        seems to be in a different unit if it has the usual spectrum of its class, but a range of
        values that differs from the usual range by a factor of 30. By default, such recordings
        cannot be used.
    allow_constant : bool, default=False
        Keep channels that are constant within windows and whose values alone determine the class of
        every window. By default, an error is raised for such channels if each class has at least
        two recordings, because they probably repeat the label.
    progress : callable, optional
        See `Progress`.
    **options
        Options by name; see `ReadOptions` and `PreparationOptions`. An option that is None counts
        as not given.

    Raises
    ------
    RecordingError, WindowError, SplitError
        If a recording cannot be used or seems to be in a different unit, if a class has no windows
        or too few groups for the parts, or if constant channels determine the class. The message
        about an unusable recording names the file and row.
    ArgumentError
        If `output` is to be extended, but was made with different options.
    PreparedFileError
        If the file cannot be written, if another run is writing it, or if `output` is another kind
        of file.
    """
    check_names("prepare", options, PrepareArguments.__annotations__)
    plan = _plan_of(options, config)
    check_choice("on_error", on_error, ON_ERROR)
    check_choice("engine", engine, ENGINES)
    check_integer("jobs", jobs, most=4096)
    use = plan.learning
    check_not_url(output)
    sources = find_recordings(source, use, ignore=output)
    warn_of_similar_classes(source.labels for source in sources)
    if use.split is not None and use.split_by != "time":
        _check_groups(sources, use.split, by_recording=use.split_by == "recording")
    if scheduler is not None or engine == "dask":  # dask's workers run in different folders
        sources = [_absolute(source) for source in sources]

    def prepare_one(
        plan: PreparationPlan, sources: list[RecordingSource], output: str | os.PathLike[str]
    ) -> PreparedSummary:
        file = Path(output)
        with (
            PartFolder(file, keep=resume) as folder,
            EarlierFile.at(file) as earlier,
            worker_pool(engine, jobs, scheduler, sources[0].root, folder.path) as pool,
        ):
            run = Run(
                plan=plan,
                sources=sources,
                output=file,
                folder=folder,
                pool=pool,
                jobs=jobs,
                resume=resume,
                skip=on_error == "skip",
                allow_scales=allow_scales,
                allow_constant=allow_constant,
                progress=progress or (lambda stage, done, total: None),
            )
            summary = run.prepare(earlier)
            folder.discard()
        return summary

    if use.native_rates:
        return prepare_sensor_files(plan, sources, output, prepare_one, skip=on_error == "skip")
    return prepare_one(plan, sources, output)


def _plan_of(
    options: Mapping[str, Any], config: str | os.PathLike[str] | Mapping[str, Any] | None
) -> PreparationPlan:
    """Check the given options; an option that is None is taken from the configuration."""
    named: AbstractContextManager[None] = nullcontext()
    if isinstance(config, Mapping):
        use = options_in(config)
    elif config is None:
        use = {}
    else:
        use, named = read_configuration(config), noting(f"in the configuration {config}")
    use |= {name: value for name, value in options.items() if value is not None}
    seed = use.get("random_state", 0)
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ArgumentError(
            f"random_state={seed!r} is not an integer of 0 or more; a prepared file needs a"
            " fixed seed."
        )
    if use.get("stamps") is not None:
        check_choice("stamps", use["stamps"], STAMPS)
    for name in {"files", "labels", "exclude", "channels"} & use.keys():
        value = use[name]
        use[name] = [value] if isinstance(value, str) else [str(item) for item in value]
    with named:
        return PreparationPlan.of(make_options(use))


def _absolute(source: RecordingSource) -> RecordingSource:
    paths = tuple(path.absolute() for path in source.paths)
    return replace(source, paths=paths, root=source.root.absolute())


def _check_groups(
    sources: Iterable[RecordingSource], fractions: Sequence[float], *, by_recording: bool
) -> None:
    """Raise an error, before recordings are read, if a class has too few groups for the parts."""
    groups = [
        (label, source.recording_id if by_recording else source.group)
        for source in sources
        for label in labels_or_none(source.labels)
    ]
    labeled = [(label, group) for label, group in groups if label is not None]
    y = [label for label, _ in labeled] or None
    check_enough_groups(y, [group for _, group in labeled or groups], fractions)
