"""List the recordings in label folders, a manifest or a single file, without reading samples."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from sensorseq.base.checks import check_not_url
from sensorseq.base.text import listed, parse_number
from sensorseq.errors import ArgumentError, RecordingError, did_you_mean, nearest_known, warn_caller
from sensorseq.io.pair_pattern import Paired, PairPattern
from sensorseq.options import CSV_FORM, ReadOptions, as_options, takes_options
from sensorseq.readers.annotations import (
    COLUMNS,
    PER_RECORDING,
    label_studio_rows,
    raw_time,
    tabbed_rows,
)
from sensorseq.readers.columns import as_label
from sensorseq.readers.csv import OTHER_ENCODING, USUAL_FORM, CsvFormat, is_table
from sensorseq.readers.edge_impulse import LABELS, exported_labels, is_acquisition
from sensorseq.readers.lerobot import LeRobotDataset, is_dataset, list_episodes
from sensorseq.readers.long_table import TableRows, list_table
from sensorseq.readers.suffixes import (
    ACQUISITION_SUFFIXES,
    ARRAY_SUFFIXES,
    BAG_SUFFIXES,
    CSV_SUFFIXES,
    HDF5_SUFFIXES,
    LOG_SUFFIXES,
    SUFFIXES,
    TABLE_SUFFIXES,
    TEXT_SUFFIXES,
    known_suffix_of,
    stem_of,
    suffix_of,
)
from sensorseq.recording import LabelSpan, Recording

MANIFEST = "manifest.csv"
_TIMES = ("start_s", "end_s")
_MANIFEST_COLUMNS = ("path", "label", "group", "recording_id", *_TIMES, *COLUMNS)


@dataclass(frozen=True)
class RecordingSource:
    """The files of one recording, and facts that are known before the files are read.

    Parameters
    ----------
    recording_id : str
        ``label/name`` if each label has a folder.
    paths : tuple of Path
        One file, or one for each sensor.
    label : str or None
        Class of the recording; None if unknown.
    group : str
        Group of the recording; a split never divides a group. It is `recording_id` unless a
        manifest contains the group.
    sensors : tuple of str
        Name of the sensor of each path; empty for a recording of one file.
    channels : tuple of str
        Channels that are read from a robot log by default, if the sensor is one of the log's
        topics; empty for all channels.
    is_sensor : bool
        True if the source is one of several sensors. Its timestamps then stay on the common clock,
        even if they have too many digits for a float.
    sensor_column : str or None
        The column that names the sensor of each row.
    row_sensor : str
        The sensor whose rows belong to this recording; empty if all rows do.
    span_clock : str
        The clock of `label_spans`, one of `annotations.SPAN_CLOCKS`; empty for seconds on the
        recording's clock.
    missing_sensors : tuple of str
        Sensors of other recordings for which this recording has no file.
    root : Path
        Folder to which `relative_paths` are relative.
    label_spans : tuple of LabelSpan
        Classes of parts of the recording in chronological order, used instead of `label`.
    rows : TableRows or None
        The rows of this recording, if the file is a table of many recordings.
    form : CsvFormat
        The format of CSV files.
    labelled_by : str or None
        The column of a manifest that contains the labels.
    """

    recording_id: str
    paths: tuple[Path, ...]
    label: str | None
    group: str
    sensors: tuple[str, ...] = ()
    missing_sensors: tuple[str, ...] = ()
    root: Path = Path()
    label_spans: tuple[LabelSpan, ...] = ()
    span_clock: str = ""
    rows: TableRows | None = None
    form: CsvFormat = USUAL_FORM
    labelled_by: str | None = None
    channels: tuple[str, ...] = ()
    is_sensor: bool = False
    sensor_column: str | None = None
    row_sensor: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct classes of the recording; empty if none is known."""
        spans = dict.fromkeys(span.label for span in self.label_spans)
        return tuple(spans) if self.label is None else (self.label,)

    @property
    def is_log(self) -> bool:
        """True for a robot log; a log of several files was split during recording."""
        return suffix_of(self.paths[0]) in LOG_SUFFIXES

    @property
    def has_arrays(self) -> bool:
        """True for a single file of named arrays, from which only the chosen channels are read."""
        kinds = (*ARRAY_SUFFIXES, *HDF5_SUFFIXES)
        return len(self.paths) == 1 and suffix_of(self.paths[0]) in kinds

    @property
    def relative_paths(self) -> tuple[str, ...]:
        """The paths relative to `root`, written with slashes on every machine."""
        return tuple(Path(os.path.relpath(path, self.root)).as_posix() for path in self.paths)

    @property
    def names(self) -> tuple[str, ...]:
        """The paths as they appear in messages."""
        return tuple(map(str, self.paths))


@takes_options
def find_recordings(
    path: str | os.PathLike[str],
    options: ReadOptions | None = None,
    *,
    ignore: str | os.PathLike[str] | None = None,
) -> list[RecordingSource]:
    """List the recordings below a folder, in a manifest or in a file, without reading the samples.

    If each label has a folder, every folder in `path` is a class, and every matching file below a
    class folder is a recording (``ICE/pro_01.csv``) with its own group. If `path` contains no
    folders, its files are recordings without a label. A manifest is a CSV table with the columns
    ``path`` (relative to the manifest's folder) and ``label`` (or ``class``). Optional columns are
    ``group``, ``recording_id``, and either ``start_s`` and ``end_s`` (in seconds) or ``start`` and
    ``end`` (in the unit of the log's timestamps). A row with times labels a part of the recording;
    several rows may have the same path. The manifest may also be a JSON export of Label Studio, or
    a table for each recording (``{recording}.txt``). A long table is a CSV or Parquet file whose
    `recording_column` names the recording of each row; rows may be in any order. A LeRobot dataset
    is a folder with ``meta/info.json``; its episodes are the recordings, labeled with their tasks.
    A folder may also contain several LeRobot datasets and no other folders. Text files (``.txt``,
    ``.tsv``, ``.dat``, ``.log``) are recordings only if they begin with a table and do not lie
    beside recordings of other kinds; a warning lists the others. Hidden files and folders are
    ignored.

    Parameters
    ----------
    path : path-like
        Folder, manifest or recording.
    options : ReadOptions, optional
        `files`, `pair`, `labels`, `exclude`, `manifest`, `recording_column`, `group_column`,
        `sensor_column`, `label_column`, `encoding`, `delimiter`, `decimal`, `no_header` and `names`
        are used. If a recording in a long table has several classes, `read_source` converts the
        classes to label spans. A manifest may have the CSV format of the recordings or the default
        CSV format.
    ignore : path-like, optional
        A file in the folder that is not a recording, such as the file prepared from the recordings.

    Returns
    -------
    list of RecordingSource
        The recordings, sorted by recording id or in the order of the manifest.

    Raises
    ------
    RecordingError
        If a class is empty, if a file is missing or has no label, if label spans overlap or are
        invalid, or if two recordings have the same id.
    ArgumentError
        If a pattern, label or exclusion matches nothing, or `pair` lacks a placeholder.
    """
    options = as_options(options)
    form = CsvFormat.of(options).check()
    if options.pair is not None and options.sensor_column is not None:
        raise ArgumentError(
            f"pair={options.pair!r} joins files of one sensor each, but"
            f" sensor_column={options.sensor_column!r} is for files of several sensors; use only"
            " one of these options."
        )
    check_not_url(path)
    root, patterns, excluded = Path(path), _as_list(options.files), _as_list(options.exclude)
    labels = None if options.labels is None else _as_list(options.labels)
    manifest = options.manifest
    own_labels = str(manifest) if PER_RECORDING in str(manifest) else ""
    table, is_listed = None, bool(options.recording_column is not None or own_labels)
    if options.recording_column is not None or options.group_column is not None:
        sources = _from_long_table(root, options, form)
    elif (table := _find_manifest(root, not own_labels and manifest, form)) is not None:
        sources = _from_manifest(table, form, options.label_column, root)
        root = sources[0].root
        if options.pair is not None:
            sources = _with_partners(sources, options.pair, table)
    elif datasets := _datasets(root):
        sources, is_listed = _from_lerobot(root, datasets, options.label_column), True
    elif root.is_dir():
        depth = 1 if options.pair is None else PairPattern(options.pair).depth
        sources = _from_folders(root, excluded, ignore, depth)
        if not patterns:
            sources = _without_texts(sources, root, own_labels, form)
        if exported := exported_labels(root):
            sources, is_listed = [_with_exported_label(s, exported) for s in sources], True
    elif root.exists():
        known_suffix_of(root)
        if options.pair is not None:
            raise ArgumentError(
                f"`pair` joins files of a folder, and {root} is one file; give the folder, or"
                " remove `pair`."
            )
        sources = [_source_of_file(root)]
    else:
        beside: list[str] = []
        with suppress(OSError):
            beside = [path.name for path in root.parent.iterdir()]
        raise RecordingError(f"{root}: no such folder or file.{did_you_mean(root.name, beside)}")
    are_listed = table is not None or is_listed
    exclusion = _Exclusion(excluded, root)
    matching = _matching(sources, patterns, root, table)
    sources = exclusion.keep(matching)
    if own_labels:
        sources = [_with_own_labels(source, own_labels) for source in sources]
    check_form_is_used(sources, options, table)
    if root.is_dir() and not are_listed:
        _check_all_labeled(sources)
        _check_empty_classes(root, matching, patterns, excluded, labels)
    if options.pair is not None:
        sources = exclusion.keep(_paired(sources, options.pair, patterns))
    # The classes in a label column are unknown until the column is read.
    by_column = options.label_column is not None
    exclusion.check([*matching, *sources], every=not (by_column and _lack_labels(matching)))
    sources = _with_labels(sources, labels, root, by_column=by_column)
    if not sources:
        raise RecordingError(f"{root}: every recording is excluded.")
    seen: dict[str, RecordingSource] = {}
    for source in sources:
        first = seen.setdefault(source.recording_id, source)
        if first is not source:
            raise RecordingError(
                f"{first.paths[0]} and {source.paths[0]}: both have the recording id"
                f" {source.recording_id!r}; rename one file or narrow `files`."
            )
    sources = [replace(source, form=form) for source in sources]
    sources = _with_sensors(sources, options.sensor_column)
    return sources if are_listed else sorted(sources, key=lambda s: s.recording_id)


def _source_of_file(path: Path) -> RecordingSource:
    return RecordingSource(stem_of(path), (path,), None, stem_of(path), root=path.parent)


def _own_table(path: Path, pattern: str) -> Path:
    return path.parent / pattern.replace(PER_RECORDING, stem_of(path))


def _with_own_labels(source: RecordingSource, pattern: str) -> RecordingSource:
    """Return a recording with the labels from the recording's own label table."""
    path = source.paths[0]
    table = _own_table(path, pattern)
    spans = [
        _SpanRow(row["at"], *_span(f"{table}, {row['at']}", row, USUAL_FORM), source)
        for row in tabbed_rows(table, str(path))
    ]
    label_spans = _check_spans(table, spans)
    return replace(source, label=None, label_spans=label_spans, span_clock=spans[0].clock)


def _with_sensors(
    sources: list[RecordingSource], sensor_column: str | None
) -> list[RecordingSource]:
    """Store the given column of sensor names, if any, in the sources."""
    for source in sources:
        if sensor_column is not None and source.is_log:
            raise ArgumentError(
                f"sensor_column={sensor_column!r} is for tables; {source.names[0]} is a robot log,"
                " whose topics are its sensors."
            )
    return [replace(source, sensor_column=sensor_column) for source in sources]


def check_form_is_used(
    sources: Iterable[RecordingSource], options: ReadOptions, table: Path | None = None
) -> None:
    """Raise an error for CSV options or a time unit that would not apply to any file.

    CSV options need a CSV file, and a unit of time needs a file that is not a robot log. Otherwise,
    the options would be silently ignored.

    Parameters
    ----------
    sources : iterable of RecordingSource
    options : ReadOptions
    table : Path, optional
        The manifest, which counts as a CSV file.

    Raises
    ------
    ArgumentError
        The message names the option and the kinds of files.
    """
    suffixes = {suffix_of(path) for source in sources for path in source.paths}
    unused = ["time_unit"] if suffixes and suffixes.issubset(LOG_SUFFIXES) else []
    if table is None and not suffixes.intersection(CSV_SUFFIXES):
        unused += CSV_FORM
    for name in unused:
        if (value := getattr(options, name)) is not None:
            kinds = " and ".join(sorted(str(suffix) for suffix in suffixes))
            use = "is not for robot logs" if name == "time_unit" else "is for CSV files"
            raise ArgumentError(f"{name}={value!r} {use}, but all files are {kinds}; remove it.")


def _as_list(texts: str | Sequence[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())


def _check_all_labeled(sources: list[RecordingSource]) -> None:
    """Raise an error if only some of the recordings below a folder have a label."""
    unlabeled = next((source for source in sources if source.label is None), None)
    if unlabeled is not None and any(source.label is not None for source in sources):
        raise RecordingError(
            f"{unlabeled.paths[0]}: is not inside a class folder, so it has no label. Move it into"
            f" a class folder, or leave it out with exclude={unlabeled.recording_id!r} or narrower"
            " `files`."
        )


def _find_manifest(
    root: Path, manifest: str | os.PathLike[str] | bool | None, form: CsvFormat
) -> Path | None:
    if manifest is False:
        return None
    if manifest is not None and manifest is not True:
        for table in (Path(manifest), root / manifest):
            if table.is_file():
                return table
        raise RecordingError(f"{Path(manifest)}: no such manifest.")
    if root.is_file() and suffix_of(root) == ".csv":
        try:
            with root.open("rb") as file:
                reader = _rows_of(
                    file.readline(1_000_000) + file.readline(1_000_000), form, "replace"
                )
        except OSError as error:
            raise RecordingError(f"{root}: cannot be read ({error.strerror}).") from error
        header = reader.fieldnames or ()
        if "path" in header and {"label", "class"}.intersection(header):
            return root
        # A file that lists other files is a manifest, not a recording, even if its column names
        # contain typos.
        fields = [field for row in reader for field in row.values() if isinstance(field, str)]
        return root if any(suffix_of(Path(field.strip())) for field in fields) else None
    table = root / MANIFEST
    if table.is_file():
        return table
    if manifest is True:
        raise RecordingError(f"{table}: no such manifest.")
    return None


def _rows_of(content: bytes, form: CsvFormat, errors: str = "strict") -> "csv.DictReader[str]":
    """Return the rows of a manifest, in the default CSV format or the format of the recordings."""
    encoding = USUAL_FORM.encoding_of(content)
    try:
        text = content.decode(encoding, errors if encoding == "utf-16" else "strict")
    except UnicodeDecodeError:
        text = content.decode(form.encoding or encoding, errors)
    text = text.removeprefix("\ufeff").lstrip("\r\n")
    head = text.partition("\n")[0]
    marks = (form.separator, ",", ";", "\t")
    fields = {m: head.replace('"', "").strip().split(m) for m in marks}
    several = next((m for m in marks if len(fields[m]) > 1), ",")
    mark = next((m for m in marks if "path" in fields[m]), several)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    return reader


def _read_manifest(
    table: Path, form: CsvFormat, label_column: str | None
) -> tuple[list[str], list[dict[str, str]], str | None]:
    """Return the header and rows of a manifest, and `label_column` if the manifest has this column.

    A column whose name seems to be misspelled raises an error. The column ``class`` or
    `label_column` is read as ``label``.
    """
    try:
        reader = _rows_of(table.read_bytes(), form)
        header = list(reader.fieldnames or [])
        labels = label_column if label_column in header else "class"
        if labels in header and (labels == label_column or "label" not in header):
            renamed = {"label": "", labels: "label"}  # a different column named "label" is ignored
            header = [renamed.get(name, name) for name in header]
        reader.fieldnames = header
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = OTHER_ENCODING if isinstance(error, UnicodeDecodeError) else ""
        message = f"{table}: cannot be read as a CSV table ({error}).{hint}"
        raise RecordingError(message) from error
    if "path" not in header:
        nearest = nearest_known("path", header)
        raise RecordingError(
            f"{table}: a manifest needs a column 'path'; this one has"
            f" {', '.join(header) or 'no columns'}. Rename the column of file names to 'path'"
            + (f" (is it {nearest!r}?)." if nearest else ".")
        )
    for name in header:
        meant = nearest_known(name, (*_MANIFEST_COLUMNS, "class"))
        meant = "label" if meant == "class" else meant
        if name not in _MANIFEST_COLUMNS and meant is not None and meant not in header:
            raise RecordingError(
                f"{table}: column {name!r} is not known; did you mean {meant!r}?"
                f" Known: {', '.join(_MANIFEST_COLUMNS)}."
            )
    if label_column is not None and labels != label_column:
        others = [name for name in header if name not in _MANIFEST_COLUMNS or name == "label"]
        if meant := did_you_mean(label_column, others, "label_column={!r}"):
            raise RecordingError(f"{table}: no column {label_column!r} for the labels.{meant}")
    if not rows:
        raise RecordingError(f"{table}: has a header but lists no recordings.")
    for columns in (_TIMES, COLUMNS):
        needed = {*columns, "label"}
        times, lacking = set(columns).intersection(header), needed.difference(header)
        if times and lacking:
            raise RecordingError(
                f"{table}: has a column {min(times)!r} but no {min(lacking)!r}; label spans need"
                f" {', '.join(columns)} and label."
            )
    return header, rows, label_column if labels == label_column else None


def _from_manifest(
    table: Path, form: CsvFormat, label_column: str | None, root: Path
) -> list[RecordingSource]:
    is_export = table.suffix.lower() == ".json"
    if is_export:
        header, labelled_by = ["path", "label", *COLUMNS], None
        base = root if root.is_dir() else root.parent
        rows = label_studio_rows(table, base)
    else:
        base = table.parent
        header, rows, labelled_by = _read_manifest(table, form, label_column)
    spans: dict[str, list[_SpanRow]] = {}
    listed: dict[str, RecordingSource] = {}
    row_of: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        at = row.get("at", "") if is_export else f"row {number}"
        where = f"{table}, {at}"
        name, label, group, own_id, *times = (
            (row.get(column) or "").strip() for column in _MANIFEST_COLUMNS
        )
        has_times = any(times)
        if not name:
            raise RecordingError(f"{where}: the path is empty; fill it in or remove the row.")
        if name in listed and not (has_times and name in spans):
            hint = " Several rows with the same path need start_s and end_s."
            raise RecordingError(
                f"{where}: {name!r} is already listed in {row_of[name]}."
                + hint * ("start_s" in header)
            )
        file = base / name
        if not os.path.isfile(file):  # noqa: PTH113  also false for a name that is too long
            raise RecordingError(f"{where}: the file {file} does not exist; correct the path.")
        if suffix_of(file) is None:
            raise RecordingError(f"{where}: cannot read {name!r}; known: {', '.join(SUFFIXES)}.")
        if "label" in header and not label:
            raise RecordingError(f"{where}: {name!r} has no label; fill it in or remove the row.")
        recording_id = own_id or _without_suffix(Path(name))
        facts = recording_id, (file,), as_label(label), group or recording_id
        source = RecordingSource(*facts, root=base, labelled_by=labelled_by)
        if has_times:
            span, clock = _span(where, {**row, "label": as_label(label) or label}, form)
            spans.setdefault(name, []).append(_SpanRow(at, span, clock, source))
            source = replace(source, label=None)
        listed.setdefault(name, source)
        row_of.setdefault(name, at)
    for name, span_rows in spans.items():
        checked = _check_spans(table, span_rows)
        listed[name] = replace(listed[name], label_spans=checked, span_clock=span_rows[0].clock)
    return list(listed.values())


class _SpanRow(NamedTuple):
    at: str
    span: LabelSpan
    clock: str
    source: RecordingSource


def _span(where: str, row: Mapping[str, str], form: CsvFormat) -> tuple[LabelSpan, str]:
    """Return the span of a row, and the clock of its times ("" for the recording's clock)."""
    pairs = [columns for columns in (_TIMES, COLUMNS) if any(row.get(name) for name in columns)]
    if len(pairs) > 1:
        raise RecordingError(
            f"{where}: has start_s and end_s as well as start and end; use only one pair."
        )
    (columns,) = pairs
    start, end = ((row.get(column) or "").strip() for column in columns)
    if not (start and end):
        raise RecordingError(
            f"{where}: no {columns[1] if start else columns[0]}; give both {' and '.join(columns)}"
            " for a label span, or neither for a recording with one label."
        )
    span_clock, decimal = row.get("kind", "stamps"), form.decimal or "."
    if columns == COLUMNS:
        (start_s, _), (end_s, is_date) = (raw_time(where, text, decimal) for text in (start, end))
        span_clock = "dates" if is_date else span_clock
    else:
        span_clock, seconds = "", []
        for column, text in zip(columns, (start, end), strict=True):
            if (number := parse_number(text, decimal)) is None:
                hint = " Use decimal=',' for decimal commas." if "," in text else ""
                raise RecordingError(f"{where}: {column} {text!r} is not a number.{hint}")
            seconds.append(number)
        start_s, end_s = seconds
    try:
        return LabelSpan(start_s, end_s, row["label"]), span_clock
    except RecordingError as error:
        raise RecordingError(f"{where}: {error}") from error


def _check_spans(table: Path, rows: list[_SpanRow]) -> tuple[LabelSpan, ...]:
    """Return the label spans of one path in chronological order."""
    first = rows[0].source
    for row in rows[1:]:
        if row.clock != rows[0].clock:
            raise RecordingError(
                f"{table}, {row.at}: its times are in a different form than in {rows[0].at};"
                " use the same form for both."
            )
        for column in ("recording_id", "group"):
            expected, value = getattr(first, column), getattr(row.source, column)
            if expected != value:
                raise RecordingError(
                    f"{table}, {row.at}: {column} is {value!r}, but {rows[0].at} has {expected!r}"
                    " for the same path; use the same value in both."
                )
    rows = sorted(rows, key=lambda row: row.span)
    for before, after in pairwise(rows):
        if after.span.start_s < before.span.end_s:
            raise RecordingError(
                f"{table}, {after.at}: {after.span} overlaps {before.span} in {before.at}; label"
                " spans must not overlap."
            )
    return tuple(row.span for row in rows)


def _from_folders(
    root: Path, excluded: Iterable[str], ignore: str | os.PathLike[str] | None, depth: int = 1
) -> list[RecordingSource]:
    """List the files below a folder; the last `depth` names of a path are not classes."""
    sources, ignored = [], None if ignore is None else os.path.realpath(ignore)
    dataset = root.parent if root.name == "data" and is_dataset(root.parent) else None
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if "meta" in folders and is_dataset(here):
            dataset = here
        if dataset is not None:
            raise RecordingError(
                f"{dataset}: is a LeRobot dataset; pass only this folder, or a folder that"
                " contains only datasets."
            )
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not (here == root and name in excluded)
            and not name.endswith(".parts")
        )
        bag = _files_of_bag(names)
        if bag:  # a ROS 2 bag is a folder
            relative = here.relative_to(root)
            label = relative.parts[0] if len(relative.parts) > 1 else None
            bag_id = relative.as_posix() if relative.parts else here.resolve().name
            paths = tuple(here / name for name in bag)
            sources.append(RecordingSource(bag_id, paths, label, bag_id, root=root))
        for name in sorted(set(names).difference(bag)):
            file = here / name
            if name.startswith(".") or (ignored and os.path.realpath(file) == ignored):
                continue
            relative = file.relative_to(root)
            try:
                relative.as_posix().encode()
            except UnicodeEncodeError as error:
                raise RecordingError(
                    f"{file}: the name is not UTF-8 text; rename the file."
                ) from error
            label = relative.parts[0] if len(relative.parts) > depth else None
            recording_id = _without_suffix(relative)
            sources.append(RecordingSource(recording_id, (file,), label, recording_id, root=root))
    return sources


def _without_texts(
    sources: list[RecordingSource], root: Path, own_labels: str, form: CsvFormat
) -> list[RecordingSource]:
    """Leave out text files that are not tables, or that lie beside or above other recordings.

    A warning lists them, except notes beside recordings and the recordings' own label tables.
    """
    paths = [source.paths[0] for source in sources]
    if not any(suffix_of(path) in TEXT_SUFFIXES for path in paths):
        return sources  # without a look into other files
    own_tables = {_own_table(path, own_labels) for path in paths if own_labels}
    others = [path for path in paths if suffix_of(path) not in TEXT_SUFFIXES]
    folders = {folder for path in others if _is_recording(path, root) for folder in path.parents}
    kept: list[RecordingSource] = []
    left_out: list[str] = []
    for source, path in zip(sources, paths, strict=True):
        if suffix_of(path) not in TEXT_SUFFIXES:
            kept.append(source)
        elif path not in own_tables:
            has_table, is_apart = is_table(path, form), path.parent not in folders
            if has_table and is_apart:
                kept.append(source)
            elif has_table or is_apart:
                left_out += source.relative_paths
    if left_out:
        warn_caller(
            f"left out {listed(left_out, 4)}, because a text file is a recording only if it"
            " begins with a table and does not lie beside recordings of other kinds. To read or to"
            " ignore it, choose the recordings with `files`."
        )
    return kept


def _with_exported_label(
    source: RecordingSource, labels: Mapping[str, str | None]
) -> RecordingSource:
    """Return a recording with the label that an Edge Impulse export gives for its file."""
    (path,), (name,) = source.paths[:1], source.relative_paths[:1]
    if name in labels:
        return replace(source, label=labels[name])
    if suffix_of(path) in ACQUISITION_SUFFIXES and is_acquisition(path):
        raise RecordingError(
            f"{path}: is not listed in {LABELS}, unlike other files; list it there, or"
            " move it out of the dataset."
        )
    return source


def _datasets(root: Path) -> list[Path]:
    """Return a LeRobot dataset, or the datasets in a folder whose folders all are datasets."""
    if is_dataset(root):
        return [root]
    _, names, _ = next(os.walk(root), ("", (), ()))
    folders = [root / name for name in sorted(names) if not name.startswith(".")]
    return folders if all(map(is_dataset, folders)) else []


def _from_lerobot(
    root: Path, datasets: list[Path], label_column: str | None
) -> list[RecordingSource]:
    sources = []
    for folder in datasets:
        for file, rows, label, spans in list_episodes(LeRobotDataset(folder), label_column):
            name = (folder.relative_to(root) / f"episode_{int(rows.recording):06d}").as_posix()
            source = RecordingSource(name, (file,), label, name, root=root, label_spans=spans)
            sources.append(replace(source, rows=rows))
    return sorted(sources, key=lambda source: source.recording_id)


def _from_long_table(path: Path, options: ReadOptions, form: CsvFormat) -> list[RecordingSource]:
    column, group_column = options.recording_column, options.group_column
    for name in ("files", "pair", "manifest"):
        if getattr(options, name) not in (None, False):
            raise ArgumentError(f"`{name}` is for folders; remove it to read one table.")
    if column is None:
        raise ArgumentError("group_column needs recording_column, the column with recording ids.")
    if not path.exists():
        raise RecordingError(f"{path}: no such file.")
    if suffix_of(path) not in TABLE_SUFFIXES or path.is_dir():
        raise RecordingError(
            f"{path}: recording_column needs one table ({', '.join(TABLE_SUFFIXES)})."
        )
    listed = list_table(path, column, group_column, options.label_column, form)
    return [
        RecordingSource(rows.recording, (path,), label, group, root=path.parent, rows=rows)
        for rows, group, label in listed
    ]


def _files_of_bag(names: Iterable[str]) -> list[str]:
    """Return the files of a ROS 2 bag in recording order; the list is empty for other folders."""
    if "metadata.yaml" not in names:
        return []
    logs = [name for name in names if suffix_of(Path(name)) in BAG_SUFFIXES]
    return sorted(logs, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] + [0])


def _without_suffix(relative: Path) -> str:
    return (relative.parent / stem_of(relative)).as_posix()


def _matches(source: RecordingSource, pattern: str) -> bool:
    names = source.relative_paths if "/" in pattern else [path.name for path in source.paths]
    return any(fnmatchcase(name, pattern) for name in names)


def _is_recording(path: Path, root: Path) -> bool:
    suffix = suffix_of(path)
    may_be_another = suffix in ACQUISITION_SUFFIXES and path != root
    return suffix is not None and (not may_be_another or is_acquisition(path))


def _matching(
    sources: list[RecordingSource], patterns: list[str], root: Path, table: Path | None
) -> list[RecordingSource]:
    if not patterns:
        kept = [s for s in sources if _is_recording(s.paths[0], root) and s.paths[0] != table]
        if not kept:
            raise RecordingError(
                f"{root}: contains no file that can be read ({', '.join(SUFFIXES)})."
            )
        return kept
    for pattern in patterns:
        if not any(_matches(source, pattern) for source in sources):
            names = [source.paths[0].name for source in sources]
            nearest = nearest_known(pattern, names)
            raise ArgumentError(
                f"files={pattern!r} matches none of the {len(names)} file(s) in {root}"
                + (f", such as {nearest!r}." if nearest else ".")
            )
    kept = [s for s in sources if any(_matches(s, pattern) for pattern in patterns)]
    for source in kept:
        known_suffix_of(source.paths[0])
    return kept


def _check_empty_classes(
    root: Path,
    matching: list[RecordingSource],
    patterns: list[str],
    excluded: list[str],
    labels: Sequence[str] | None,
) -> None:
    classes = {source.label for source in matching if source.label is not None}
    if not classes:
        return
    for folder in sorted(root.iterdir()):
        name = folder.name
        if not folder.is_dir() or name.startswith(".") or name.endswith(".parts"):
            continue
        unwanted = _matches_any(name, excluded) or (labels is not None and name not in labels)
        if name not in classes and not unwanted:
            wanted = ", ".join(patterns) or ", ".join(f"*{suffix}" for suffix in SUFFIXES)
            raise RecordingError(
                f"{folder}: class {name!r} has no file that matches {wanted}. Add recordings, or"
                f" leave the class out with exclude={name!r}."
            )


@dataclass
class _Exclusion:
    """Patterns of classes and recordings to leave out, and the patterns that have matched."""

    patterns: list[str]
    root: Path

    def __post_init__(self) -> None:
        self._matched = {pattern for pattern in self.patterns if (self.root / pattern).exists()}

    def keep(self, sources: list[RecordingSource]) -> list[RecordingSource]:
        """Return the sources that no pattern excludes."""
        kept = []
        for source in sources:
            spans = [span for span in source.label_spans if not self._excludes(span.label)]
            has_lost_spans = bool(source.label_spans) and not spans
            names = [source.label, source.recording_id, *source.relative_paths]
            if not self._excludes(*names) and not has_lost_spans:
                kept.append(replace(source, label_spans=tuple(spans)))
        return kept

    def _excludes(self, *names: str | None) -> bool:
        matched = {p for p in self.patterns for name in names if name and _matches_any(name, [p])}
        self._matched |= matched
        return bool(matched)

    def check(self, sources: Iterable[RecordingSource], *, every: bool) -> None:
        """Raise an error for a pattern that matched nothing and is probably a typo.

        If not every class is known, check only patterns of recordings, which contain a slash.
        """
        names = {name for source in sources for name in (*source.labels, source.recording_id)}
        for pattern in self.patterns:
            # Do not suggest a class for a misspelled recording.
            if pattern not in self._matched and (every or "/" in pattern):
                similar = [name for name in sorted(names) if "/" in name or "/" not in pattern]
                raise ArgumentError(
                    f"exclude={pattern!r} matches no class or recording in {self.root}."
                    + did_you_mean(pattern, similar)
                )


def _matches_any(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def keep_spans(
    spans: Iterable[LabelSpan], labels: Sequence[str] | None, exclude: Iterable[str]
) -> tuple[LabelSpan, ...]:
    """Return the spans of the classes to keep.

    Parameters
    ----------
    spans : iterable of LabelSpan
    labels : sequence of str or None
        Classes to keep; None keeps all.
    exclude : iterable of str
        Classes to leave out, or patterns of classes.
    """
    unwanted = list(exclude)
    return tuple(
        span
        for span in spans
        if (labels is None or span.label in labels) and not _matches_any(span.label, unwanted)
    )


def check_labels(
    labels: str | Iterable[str] | None,
    known: Iterable[str],
    where: str,
    left_out: Iterable[str] = (),
) -> None:
    """Raise an error if a label to keep is not a known class.

    Parameters
    ----------
    labels : str, iterable of str or None
    known : iterable of str
        All known classes.
    where : str
        The origin of the classes for the message, such as ``"of a recording"``.
    left_out : iterable of str
        Further classes to name in the message.

    Raises
    ------
    ArgumentError
        The message names the most similar class.
    """
    classes = set(known)
    names = sorted(classes.union(left_out))
    for label in _as_list(labels if isinstance(labels, str) else list(labels or ())):
        if label not in classes:
            raise ArgumentError(
                f"labels={label!r} is not a class {where}.{did_you_mean(label, names)}"
                f" Known: {', '.join(names) or 'none'}."
            )


def left_out_classes(recording: Recording) -> list[str]:
    """Return the left-out classes of a recording's label column.

    Parameters
    ----------
    recording : Recording
    """
    names: Any = recording.attributes.get("left_out_classes", [])
    return list(names)


def _lack_labels(sources: Iterable[RecordingSource]) -> bool:
    return any(not source.labels for source in sources)


def _with_labels(
    sources: list[RecordingSource], labels: Sequence[str] | None, root: Path, *, by_column: bool
) -> list[RecordingSource]:
    if labels is None or (by_column and all(not source.labels for source in sources)):
        return sources
    classes = sorted({label for source in sources for label in source.labels})
    if not (by_column and _lack_labels(sources)):
        check_labels(labels, classes, f"in {root}")
    return [
        replace(source, label_spans=keep_spans(source.label_spans, labels, ()))
        for source in sources
        if set(labels).intersection(source.labels) or (by_column and not source.labels)
    ]


def _match_of(source: RecordingSource, pattern: PairPattern) -> Paired | None:
    (path,), (relative,) = source.paths, map(Path, source.relative_paths)
    names = relative.parts
    if len(names) < pattern.depth:  # the pattern includes folders above the given folder
        names = (path.parent.resolve() / path.name).parts
    return pattern.match((*names[:-1], stem_of(path) if pattern.is_of_stem else path.name))


def _with_partners(sources: list[RecordingSource], pair: str, table: Path) -> list[RecordingSource]:
    """Add the files that `pair` joins with files in a manifest that lists one sensor.

    If the manifest lists several sensors, only files of these sensors are added.
    """
    pattern, found = PairPattern(pair), list(sources)
    owners: dict[tuple[Path, str], RecordingSource] = {}
    sensors = set()
    for source in sources:
        if match := _match_of(source, pattern):
            sensors.add(match.sensor)
            parents = source.paths[0].absolute().parents
            owners.setdefault((parents[pattern.depth - 1], match.recording), source)
    wanted, listed = set(sensors), {table.resolve(), *(s.paths[0].resolve() for s in sources)}
    for folder in dict.fromkeys(folder for folder, _ in owners):
        for path in sorted(folder.glob("/".join("*" * pattern.depth))):
            match = _match_of(replace(sources[0], paths=(path,)), pattern)
            owner = match and owners.get((folder, match.recording))
            if not match or not owner or suffix_of(path) is None or path.resolve() in listed:
                continue
            if suffix_of(path) in TEXT_SUFFIXES and suffix_of(owner.paths[0]) not in TEXT_SUFFIXES:
                continue  # such as notes
            if len(wanted) == 1 or match.sensor in wanted:
                sensors.add(match.sensor)
                found.append(replace(owner, paths=(path,)))
    if len(sensors) == 1:
        raise RecordingError(
            f"{table}: pair={pair!r} joins nothing, because all files are of sensor"
            f" {min(sensors)!r}; correct the pattern or the file names, or remove `pair`."
        )
    return found


def _paired(
    sources: list[RecordingSource], pair: str, patterns: list[str]
) -> list[RecordingSource]:
    pattern = PairPattern(pair)
    order: dict[str, int] = {}
    sensors_of: dict[str, list[tuple[str, RecordingSource]]] = {}

    def first_match(source: RecordingSource) -> int:
        return next((i for i, pattern in enumerate(patterns) if _matches(source, pattern)), 0)

    for source in sorted(sources, key=first_match):
        match = _match_of(source, pattern)
        if match is None:
            raise RecordingError(
                f"{source.paths[0]}: does not match pair={pair!r}; correct the pattern or narrow"
                " `files`."
            )
        order.setdefault(match.sensor, len(order))
        (relative,) = map(Path, source.relative_paths)
        recording_id = Path(*relative.parts[: -pattern.depth], match.recording).as_posix()
        sensors_of.setdefault(recording_id, []).append((match.sensor, source))
    return [
        _joined_source(recording_id, parts, order, pair)
        for recording_id, parts in sensors_of.items()
    ]


def _joined_source(
    recording_id: str,
    parts: list[tuple[str, RecordingSource]],
    order: dict[str, int],
    pair: str,
) -> RecordingSource:
    parts = sorted(parts, key=lambda part: order[part[0]])
    sensors = [sensor for sensor, _ in parts]
    files = [source.paths[0] for _, source in parts]
    first = parts[0][1]
    for sensor, other in parts[1:]:
        if sensors.count(sensor) > 1:
            first_path, second_path = [s.paths[0] for name, s in parts if name == sensor][:2]
            raise RecordingError(
                f"{first_path} and {second_path}: pair={pair!r} matches both as sensor"
                f" {sensor!r} of recording {recording_id!r}; narrow `files` or correct the pattern."
            )
        grouped = {part.group for part in (first, other) if part.group != part.recording_id}
        if other.label != first.label or len(grouped) > 1:
            raise RecordingError(
                f"{files[0]} and {other.paths[0]}: pair={pair!r} joins them, but they have labels"
                f" {first.label!r} and {other.label!r} and groups {first.group!r} and"
                f" {other.group!r}; use the same label and group for both."
            )
        if other.label_spans != first.label_spans:
            raise RecordingError(
                f"{files[0]} and {other.paths[0]}: pair={pair!r} joins them, but their label spans"
                " differ; list the same start_s, end_s and label for both."
            )
    group = next((s.group for _, s in parts if s.group != s.recording_id), recording_id)
    return replace(
        first,
        recording_id=recording_id,
        paths=tuple(files),
        group=group,
        sensors=tuple(sensors),
        missing_sensors=tuple(sensor for sensor in order if sensor not in sensors),
    )
