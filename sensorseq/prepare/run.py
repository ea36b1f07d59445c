"""Turn many recordings into one prepared file: one at a time, in parallel, resumable."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sensorseq.checks import check_integer
from sensorseq.errors import SplitError, check_choice
from sensorseq.io.part_files import PartFolder
from sensorseq.io.remote import is_url, local_copy, upload
from sensorseq.prepare.earlier_file import EarlierFile
from sensorseq.prepare.native_rates import prepare_sensor_files
from sensorseq.prepare.recording_part import labels_of
from sensorseq.prepare.request import PreparedSummary, Request
from sensorseq.prepare.stages import FilePreparation, Progress, warn_of_similar_classes
from sensorseq.prepare.workers import ENGINES, worker_pool
from sensorseq.preprocessing.configuration import PrepareConfiguration
from sensorseq.preprocessing.options import OPTIONS, takes_options
from sensorseq.readers import ON_ERROR, RecordingSource, find_recordings
from sensorseq.windows import PARTS


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
    allow_constant: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> PreparedSummary:
    """Read, resample, cut and split recordings, and write them as one file.

    The result equals that of `PreparePipeline`, but at most one recording per job is in memory, and
    never all of a CSV, Parquet or HDF5 recording of more than 32 MB. Preparing twice gives the same
    bytes, regardless of `jobs` and interruptions; if `output` was made from the same files with the
    same options, nothing is done.

    Parameters
    ----------
    source : path-like
        Folder of folders per label, folder with a manifest, manifest, or one recording; or the URL
        of one (``s3://bucket/folder``), from which each recording is downloaded to be read.
    output : path-like
        The prepared file. An existing prepared file is replaced once the new one is complete;
        for another kind of file, an error is raised. Finished recordings are kept in
        ``<output>.parts/`` until the end, so the run needs disk space for twice the file's size. A
        URL is written when the file is complete; its parts are at ``<output>.parts/``, too.
    config : path-like or PrepareConfiguration, optional
        Sets every option that is None; see `read_configuration`.
    jobs : int, default=1
        Number of processes that read and cut recordings.
    engine : {"process", "dask"}, default="process"
        Processes of this machine, or dask workers; dask replaces workers that are killed.
    scheduler : str, optional
        Address of a dask scheduler, such as ``"tcp://10.0.0.5:8786"``, whose workers are used
        instead of `jobs` local ones. All must be able to access `source` and the folder of
        `output`, or these must be URLs.
    resume : bool, default=False
        Reuse the recordings that an interrupted run finished, unless the files or the arguments
        have changed. If `output` exists, extend it: only new and changed recordings are read, and
        the others keep their windows and parts. New groups are assigned to parts so that the shares
        come close to `split`.
    on_error : {"stop", "skip"}, default="stop"
        skip: leave out recordings that cannot be used, and list the reasons in `dropped`. A
        damaged robot log is used up to the damage; its entry has the number of seconds kept.
    allow_scales : bool, default=False
        Use recordings even if all their samples are zero, or if their time stamps or a channel seem
        to have another unit than in the other recordings: the sample rate differs by a factor of
        100, or the range of values, at the same spectrum, by a factor of 30 from the rest of the
        class. By default, such a recording cannot be used.
    allow_constant : bool, default=False
        Keep channels that are constant within windows and whose values alone determine the class of
        all windows, with two recordings or more in each class. By default they raise an error,
        because they probably repeat the label.
    progress : callable, optional
        See `Progress`.
    **options
        The fields of `PreparationOptions`, which documents meaning and defaults; ``window_s`` is
        required, here or in `config`. ``split="none"``, ``derive="none"``, ``scale="none"`` and
        ``balance="none"`` turn off the settings of `config`; ``derive="auto"`` replaces its
        steps.

    Raises
    ------
    RecordingError, WindowError, SplitError
        If a recording cannot be used (the message names file and row), or seems to have another
        unit, or a class has no window or too few groups for the parts, or constant channels
        determine the class.
    ArgumentError
        If `output` is to be extended, but was made with other options.
    PreparedFileError
        If the file cannot be written, another run is writing it, or `output` is another kind of
        file.
    """
    request = Request.of(options, config)
    check_choice("on_error", on_error, ON_ERROR)
    check_choice("engine", engine, ENGINES)
    check_integer("jobs", jobs, most=4096)
    report = progress or (lambda stage, done, total: None)
    use = request.options
    sources = find_recordings(source, use, ignore=output)
    warn_of_similar_classes(source.labels for source in sources)
    if use.split is not None and use.split_by != "time":
        check_groups(sources, use.split, by_recording=use.split_by == "recording")
    if scheduler is not None or engine == "dask":  # dask's workers run in other folders
        sources = [_absolute(source) for source in sources]

    def run(
        request: Request, sources: list[RecordingSource], output: str | os.PathLike[str]
    ) -> PreparedSummary:
        parts_url = f"{os.fspath(output)}.parts" if is_url(output) else ""
        reads = None if sources[0].url else sources[0].root
        with (
            local_copy(output) as file,
            PartFolder(file, keep=resume, url=parts_url) as folder,
            EarlierFile.at(file) as earlier,
            worker_pool(engine, jobs, scheduler, reads, None if parts_url else folder.path) as pool,
        ):
            skip = on_error == "skip"
            existing, damage = (None, earlier) if isinstance(earlier, str) else (earlier, "")
            preparation = FilePreparation(
                request,
                sources,
                folder,
                pool,
                skip,
                allow_scales,
                allow_constant,
                report,
                existing,
                damage,
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

    if use.native_rates:
        return prepare_sensor_files(request, sources, output, run, skip=on_error == "skip")
    return run(request, sources, output)


def _absolute(source: RecordingSource) -> RecordingSource:
    paths = tuple(path.absolute() for path in source.paths)
    return replace(source, paths=paths, root=source.root.absolute())


def check_groups(
    sources: Iterable[RecordingSource], fractions: Sequence[float], *, by_recording: bool
) -> None:
    """Raise if a class has too few groups for the parts, before all recordings are read."""
    used = [part for part, share in zip(PARTS, fractions, strict=True) if share > 0]
    groups_of: dict[str | None, set[str]] = {}
    for source in sources:
        for label in labels_of(source):
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
                + ", set a part's share in `split` to 0, or cut every recording with"
                " split_by='time'."
            )
