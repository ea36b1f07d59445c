"""Prepare many recordings as one file, one at a time or in parallel; a run can be resumed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sensorseq.base.checks import check_integer, check_not_url
from sensorseq.errors import check_choice
from sensorseq.io.part_files import PartFolder
from sensorseq.prepare.earlier_file import EarlierFile
from sensorseq.prepare.native_rates import prepare_sensor_files
from sensorseq.prepare.request import PreparedSummary, Request
from sensorseq.prepare.stages import Progress, Run, prepare_file, warn_of_similar_classes
from sensorseq.prepare.workers import ENGINES, worker_pool
from sensorseq.preprocessing.configuration import PrepareConfiguration
from sensorseq.preprocessing.cut_recording import labels_or_none
from sensorseq.preprocessing.options import OPTIONS
from sensorseq.preprocessing.split import check_enough_groups
from sensorseq.readers import ON_ERROR, RecordingSource, find_recordings


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
    # options (None by default): OPTIONS
    files: Sequence[str] | None = None,
    pair: str | None = None,
    time_column: str | None = None,
    time_unit: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    no_header: bool | None = None,
    names: Sequence[str] | None = None,
    label_column: str | None = None,
    recording_column: str | None = None,
    group_column: str | None = None,
    sensor_column: str | None = None,
    labels: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    manifest: str | bool | None = None,
    stamps: str | None = None,
    sample_rate_hz: float | None = None,
    max_gap_s: float | None = None,
    attenuation_db: float | None = None,
    steps: Sequence[Any] | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    label_rule: str | None = None,
    min_purity: float | None = None,
    short: str | None = None,
    train_hop_s: float | None = None,
    native_rates: bool | None = None,
    slop_s: float | None = None,
    missing: str | None = None,
    split: Sequence[float] | str | None = None,
    split_by: str | None = None,
    embargo_s: float | None = None,
    random_state: int | None = None,
    normalize: str | None = None,
    scale: str | None = None,
    rated: Mapping[str, float] | None = None,
    balance: str | None = None,
    max_per_recording: int | float | None = None,
    # end of options
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
    config : path-like or PrepareConfiguration, optional
        Configuration with values for the options that are None here; see `read_configuration`.
        Options that are set neither here nor in the configuration have the defaults below, except
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
    files : str or sequence of str, optional
        Patterns for the names of the files to read, such as ``pro_*.csv``; a pattern with a slash
        is matched against the path relative to the folder. By default, all readable files are used.
        Every pattern must match at least one file.
    pair : str, optional
        Name pattern for joining the files of one recording, such as ``{sensor}_{recording}.*``:
        files in the same folder with the same ``{recording}`` become one recording. A pattern with
        a slash is matched against the end of the path, such as ``{recording}/{sensor}.*`` if each
        recording has its own folder. The recording's channels are in the order of the patterns in
        `files`.
    time_column : str, optional
        Name of the column with the timestamps, or its position: ``"1"`` is the first column, and
        ``"-1"`` is the last. The timestamps can be seconds, whole numbers in a different unit, or
        ISO 8601 dates. The default is the column ``time`` or ``time_s`` if there is one, and
        otherwise the only column with a name such as ``t``, ``timestamp`` or ``time_ms``. If a file
        of arrays has several such columns, the default is the column in the struct that contains
        the `channels`. For robot logs, give ``"header.stamp"`` or ``"log_time"``. The default is
        ``"header.stamp"`` if the first message of the topic has a header stamp or a field
        ``timestamp`` of seconds and nanoseconds; otherwise, the default is ``"log_time"``.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the timestamps. By default, the unit at the end of the column's name, as in
        ``stamp_ns``. If the name has no unit, fractional timestamps are in seconds. Whole numbers
        are in the unit that gives a rate between 0.5 Hz and 20 kHz. If several units give such a
        rate, the unit is the one that gives dates between 2000 and 2100. Robot logs do not need
        this option.
    encoding : str, optional
        Encoding of CSV files, such as ``"latin-1"``; by default UTF-8, or UTF-16 if the file begins
        with a UTF-16 byte order mark.
    delimiter : str, optional
        Character between the fields of CSV files, or ``"tab"``; by default a comma, or a semicolon
        if `decimal` is a comma. ``" "`` matches any run of spaces and tabs.
    decimal : {".", ","}, optional
        Decimal mark of the numbers in CSV files; a point by default.
    no_header : bool, optional
        True if the first line of CSV files contains samples instead of column names; the columns
        are then named ``column_1``, ``column_2`` and so on.
    names : sequence of str, optional
        Names of the columns of CSV files without a header line.
    label_column : str, optional
        Column that contains the label of each sample, as a word or a number. The column is used for
        recordings that consist of one file and have no label from a folder or manifest. Runs of the
        same label become `label_spans`; an empty field means that the sample has no label. In a
        robot log, this is a text or numeric field, such as ``/terrain.data``, whose value is valid
        until the topic's next message. In a long table or a manifest, this is the column with the
        labels.
    recording_column, group_column : str, optional
        Columns of a long table (one file with all recordings) that contain the recording id and the
        group of each row. All rows of a recording must have the same group.
    sensor_column : str, optional
        Column with the name or number of each row's sensor (or joint), for tables with one row per
        sample and sensor. The rows of each sensor become separate channels, such as
        ``gyroscope.x``, as if each sensor had its own file; see `join_sensors`.
    labels : sequence of str, optional
        Classes to keep; all by default. Label spans of other classes, and samples with a different
        label in the `label_column`, become unlabeled.
    exclude : sequence of str, optional
        Names of classes or ids of recordings to leave out; patterns such as ``ICE/pro_0*`` are also
        allowed.
    channels : sequence of str, optional
        Channels to keep, in this order. By default, columns without a name are left out, and so are
        columns that count the rows or the time (an index, a counter that may begin again, or a
        second timestamp). The recording's ``attributes["counters"]`` lists the columns that were
        left out. From robot logs and files of arrays (HDF5, NumPy, MATLAB), only the given channels
        are read, so other arrays may have different lengths.
    units : mapping of str to str, optional
        Units by channel name, for files that do not store units, such as CSV files; a given unit
        overrides a unit stored in the file. Some steps select channels by unit.
    manifest : path-like or bool, optional
        Table that lists the recordings and their labels. By default, ``manifest.csv`` in the
        folder, if that file exists; with False, that file is ignored. The manifest may also be a
        JSON export of Label Studio, or a name pattern, such as ``{recording}.txt``, for the label
        tables that Audacity and ELAN export for each recording.
    stamps : {"packets", "keep", "merge"}, optional
        How to handle timestamps that repeat, go back or come in bursts; see
        `sensorseq.recording.repair_stamps`. By default, the samples of a packet are spread evenly
        if the signal shows that they belong to one sensor (see ``docs/preprocessing``); otherwise
        an error is raised. The recording's ``attributes["packets"]`` describes the packets, and
        ``attributes["repaired_stamps"]`` contains the counts ``n_out_of_order``, ``n_duplicates``
        and ``n_spread``.
    sample_rate_hz : float, optional
        Rate to which all recordings are resampled, and the number of rows per second in files
        without a time column. By default, the median of the rates of the recordings; for a
        recording with several sensors, the rate of the fastest sensor counts. The rate is stored in
        `provenance`.
    max_gap_s : float, optional
        Longest gap, in seconds, across which samples are interpolated; by default ten sample
        periods of the input.
    attenuation_db : float, default=90.0
        Attenuation of the anti-aliasing filter above the new Nyquist frequency.
    steps : sequence of Step or dict, optional
        Filters and features, applied in the given order after resampling and before windows are
        cut; see `sensorseq.preprocessing.steps`.
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between the starts of windows; `window_s` by default.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        How to label a window in which the label changes; see `Windower`.
    min_purity : float, default=0.5
        For ``"majority"``: the minimum fraction of a window's samples that must have the window's
        label.
    short : {"drop", "pad", "error"}, default="drop"
        What to do with a recording shorter than a window: leave it out and count it, pad it, or
        raise an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, if training windows should overlap more than
        validation and test windows; `hop_s` by default.
    native_rates : bool, optional
        True to keep each of several sensors (files joined by `pair`, or topics of robot logs) at
        its own rate, instead of resampling all sensors to a common rate. Windows then begin at
        multiples of the hop on the recording's clock, and the result is a `SensorWindows`.
    slop_s : float, optional
        For `native_rates`: the maximum difference, in seconds, between the window starts of two
        sensors. By default, a tenth of the hop, or the longest sample period of any sensor if that
        is longer.
    missing : {"error", "expected"}, optional
        For `native_rates`: how to handle a missing sensor. With ``"error"``, the default, a
        recording that lacks a sensor raises an error, and windows that lack a sensor are left out.
        With ``"expected"``, such recordings and windows are kept, with NaN for the missing sensor.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Fractions for the training, validation and test parts. Use None for recordings that are used
        only for prediction; nothing is then fitted to them.
    split_by : {"group", "recording", "time"}, default="group"
        How windows are assigned to parts. ``"group"`` keeps each group in one part, and
        ``"recording"`` keeps each recording in one part. ``"time"`` divides each recording, in
        order of time, into training, validation and test parts, with an embargo between parts. Test
        scores of a split by time apply only to robots in the training data.
    embargo_s : float, optional
        For a split by time: the number of seconds that are left out between parts. By default, the
        length of a window plus the lookahead of the resampling filter and of steps with
        ``phase="zero"``. The embargo must be at least as long as this lookahead.
    random_state : int, default=0
        Seed of the split, the balancing and the random phases; fixed by default, so that results
        are reproducible.
    normalize : {"recording"} or None, default=None
        With ``"recording"``, each channel of a recording is scaled to mean 0 and standard deviation
        1 with the recording's own statistics, before windows are cut. Predictions then need
        complete recordings.
    scale : str or None, default="standard"
        How to scale the channels: ``"standard"``, ``"robust"`` or ``"physical"``; see
        `ChannelScaler`.
    rated : mapping of str to float, optional
        For ``scale="physical"``: a mapping of each channel's name to the value that is scaled to 1.
    balance : {"undersample", "oversample"} or None, default=None
        How to balance the classes of the training windows; see `ClassBalancer`.
    max_per_recording : int or float, optional
        When classes are balanced: the maximum number (int) or fraction (float) of a class's windows
        that may come from one recording.

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
    given = locals()  # an option that is not given is None
    request = Request.of({name: given[name] for name in OPTIONS}, config)
    check_choice("on_error", on_error, ON_ERROR)
    check_choice("engine", engine, ENGINES)
    check_integer("jobs", jobs, most=4096)
    use = request.options
    check_not_url(output)
    sources = find_recordings(source, use, ignore=output)
    warn_of_similar_classes(source.labels for source in sources)
    if use.split is not None and use.split_by != "time":
        _check_groups(sources, use.split, by_recording=use.split_by == "recording")
    if scheduler is not None or engine == "dask":  # dask's workers run in different folders
        sources = [_absolute(source) for source in sources]

    def prepare_one(
        request: Request, sources: list[RecordingSource], output: str | os.PathLike[str]
    ) -> PreparedSummary:
        file = Path(output)
        with (
            PartFolder(file, keep=resume) as folder,
            EarlierFile.at(file) as earlier,
            worker_pool(engine, jobs, scheduler, sources[0].root, folder.path) as pool,
        ):
            run = Run(
                sources=sources,
                folder=folder,
                pool=pool,
                jobs=jobs,
                skip=on_error == "skip",
                allow_scales=allow_scales,
                allow_constant=allow_constant,
                progress=progress or (lambda stage, done, total: None),
            )
            summary = prepare_file(run, request, file, earlier, resume=resume)
            folder.discard()
        return summary

    if use.native_rates:
        return prepare_sensor_files(request, sources, output, prepare_one, skip=on_error == "skip")
    return prepare_one(request, sources, output)


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
