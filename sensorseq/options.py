"""The options for finding and reading recordings, in one table for all readers.

A field of `ReadOptions` is an argument of the readers that name it, of `prepare` and of the
commands, and a key of the configuration file. numpy is not imported here, so that the command line
starts quickly.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

CSV_FORM = ("encoding", "delimiter", "decimal", "no_header", "names")
_WHICH = ("files", "pair", "labels", "exclude", "manifest", "recording_column", "group_column")
LISTING = (*_WHICH, "sensor_column", "label_column", *CSV_FORM)
"""The options that select recordings; the others define how to read one."""


Annotation = Any
"""The type of an annotation such as ``list[str] | None``; such types have no common class."""


@dataclass(frozen=True)
class Option:
    """How an option appears in the configuration file and on the command line.

    `section`, `key` and `toml` are its place and type in the configuration file (by default the
    name and type in Python). `flag`, `off` (which turns a flag off), `metavar` and `help` describe
    the command-line option; without `help` there is none. `read` converts the option's value, of
    type `typed`, into the argument.
    """

    name: str
    default: Any
    type: Annotation
    section: str = ""
    key: str = ""
    toml: Annotation = None
    flag: str = ""
    off: str = ""
    metavar: str | None = None
    help: str = ""
    read: Callable[[Any], Any] | None = None
    typed: Annotation = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.name)
        object.__setattr__(self, "toml", self.toml or self.type)
        object.__setattr__(self, "flag", self.flag or "--" + self.name.replace("_", "-"))

    @property
    def of_files(self) -> bool:
        """True if the option concerns reading recordings; `PreparePipeline` then lacks it."""
        return self.section == "input" and self.name != "channels"


def split_names(texts: Sequence[str] | None) -> list[str] | None:
    """Split the names of an option, which may be separated by commas or given repeatedly."""
    if not texts:
        return None
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _without_blanks(name: Any) -> Any:
    return name.strip() if isinstance(name, str) else name


def option_field(section: str, default: Any = None, **place: Any) -> Any:
    """Return a dataclass field for an option, with its `Option`."""
    return field(default=default, metadata={"section": section, **place})


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which recordings to read, and how.

    Parameters
    ----------
    files : str or sequence of str, optional
        Patterns of file names (``pro_*.csv``; with a slash, of paths below the folder). By default
        all files that can be read. Every pattern must match something.
    pair : str, optional
        Pattern of names that joins the files of one recording, such as ``{sensor}_{recording}.*``:
        files of one folder with equal ``{recording}`` become one recording. With a slash it is the
        end of a path: ``{recording}/{sensor}.*`` where each recording has a folder. Channels are in
        the order of `files`.
    time_column : str, optional
        Column of the time stamps: seconds, or whole numbers of another unit, or ISO 8601 dates.
        Its name, or its place: ``"1"`` is the first column, ``"-1"`` the last. By default ``time``
        or ``time_s``, whichever exists, otherwise the only one with a name such as ``t``,
        ``timestamp`` or ``time_ms``. If a file of arrays has several, the one in the struct of the
        `channels`. In robot logs ``"header.stamp"`` or ``"log_time"``; by default the first (or a
        ``timestamp`` of seconds and nanoseconds) where a topic's first message has one.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the time stamps. By default the unit at the end of the column's name
        (``stamp_ns``); otherwise seconds, or for whole numbers the only unit in which the rate is
        between 0.5 Hz and 20 kHz, or the date between 2000 and 2100. Robot logs need none.
    encoding : str, optional
        Encoding of CSV files, such as ``"latin-1"``; by default UTF-8, or UTF-16 if the file begins
        with its byte order mark.
    delimiter : str, optional
        Character between the fields of CSV files, or ``"tab"``; a comma by default, or a semicolon
        if `decimal` is a comma. ``" "`` matches any number of blanks and tabs.
    decimal : {".", ","}, optional
        Decimal mark of numbers in CSV files; a point by default.
    no_header : bool, optional
        The first line of CSV files contains samples; the columns are named ``column_1``,
        ``column_2`` and so on.
    names : sequence of str, optional
        Names of the columns of CSV files without a header line.
    label_column : str, optional
        Column with the label of each sample, words or numbers, for recordings of one file whose
        folder or manifest gives no label. Runs of equal labels become `label_spans`; an empty field
        is no label. In a robot log a text or number such as ``/terrain.data``, which is valid until
        the next message of that topic. In a long table or a manifest, the column of its labels.
    recording_column, group_column : str, optional
        Columns of a long table, one file with all recordings: the id of each row's recording, and
        its group. A recording has one group.
    sensor_column : str, optional
        Column with the sensor (or the joint, by a word or number) of each row, for tables with one
        row per sample and sensor. The rows of each sensor become separate channels
        (``gyroscope.x``), as if they were in a separate file; see `join_sensors`.
    labels : sequence of str, optional
        Classes to keep; all by default. Label spans of other classes, and samples with another
        label in the `label_column`, become unlabeled.
    exclude : sequence of str, optional
        Classes to leave out, or patterns of recording ids (``ICE/pro_0*``).
    channels : sequence of str, optional
        Channels to keep, in this order. By default all except the columns that are no sensors,
        which ``attributes["counters"]`` lists: columns without a name, and columns that rise in
        every row and contain whole numbers or the time (an index, a counter, another stamp). From
        robot logs and files of arrays (HDF5, NumPy, MATLAB) only these channels are read, so other
        arrays may differ in length.
    units : mapping of str to str, optional
        Unit of each channel by name, for files without units, such as CSV; overrides units
        stored in the file. Some steps select channels by unit.
    manifest : path-like or bool, optional
        By default ``manifest.csv`` in the folder, if it exists; False ignores it. It may also be a
        JSON export of Label Studio, or a pattern of the tables of labels that Audacity and ELAN
        export for each recording, such as ``{recording}.txt``.
    stamps : {"packets", "keep", "merge"}, optional
        How to handle time stamps that repeat, go back or come in bursts; see
        `sensorseq.recording.repair_stamps`. By default, samples of packets are spread evenly if
        the signal shows that they belong to one sensor (see ``docs/preprocessing``); otherwise they
        are an error. ``attributes["packets"]`` describes the packets, and
        ``attributes["repaired_stamps"]`` counts ``n_out_of_order``, ``n_duplicates``, ``n_spread``.
    sample_rate_hz : float, optional
        Rows per second of files without a column of time stamps, which then begin at 0 s; only if
        `time_column` is None. Robot logs have stamps.
    salvage : bool, default=False
        Use the messages before the damage in a damaged ``.bag``, ``.mcap`` or ``.ulg`` file instead
        of raising an error. ``attributes["salvaged"]`` has the reason, with the offset, and the
        seconds kept.
    scratch : path-like, optional
        Folder for the samples of a CSV, Parquet, HDF5 or MDF file of more than 32 MB: they stay on
        disk, in unnamed files that vanish with the recording. By default they are kept in memory.
    """

    files: Sequence[str] | None = option_field(
        "input",
        toml=list[str],
        metavar="PATTERN",
        help="File names, such as 'pro_*.csv'; repeatable.",
    )
    pair: str | None = option_field(
        "input",
        metavar="PATTERN",
        help="Join the files of one recording by name, such as '{sensor}_{recording}.*' or"
        " '{recording}/{sensor}.*'.",
    )
    time_column: str | None = option_field(
        "input", metavar="NAME", help="Column of time stamps, by name or place [default: time]."
    )
    time_unit: str | None = option_field(
        "input", metavar="UNIT", help="Unit of time stamps: s, ms, us, ns [default: detected]."
    )
    encoding: str | None = option_field(
        "input", metavar="NAME", help="Encoding of CSV files, such as latin-1."
    )
    delimiter: str | None = option_field(
        "input", metavar="CHAR", help="Separator of CSV files, such as ';' or tab."
    )
    decimal: str | None = option_field(
        "input", metavar="CHAR", help="Decimal mark of CSV files: . or a comma."
    )
    no_header: bool | None = option_field(
        "input",
        toml=bool,
        off="--header",
        help="CSV files have no header line; columns are column_1, column_2, ...",
    )
    names: Sequence[str] | None = option_field(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Names of the columns of CSV files without a header line.",
        read=split_names,
    )
    label_column: str | None = option_field(
        "input", metavar="NAME", help="Column with a label per sample."
    )
    recording_column: str | None = option_field(
        "input", metavar="NAME", help="Column with recording ids, if the file has many recordings."
    )
    group_column: str | None = option_field(
        "input", metavar="NAME", help="Column with the group of each such recording."
    )
    sensor_column: str | None = option_field(
        "input",
        metavar="NAME",
        help="Column with the sensor of each row, for rows of several sensors.",
    )
    labels: Sequence[str] | None = option_field(
        "input", toml=list[str], metavar="NAME,...", help="Classes to keep.", read=split_names
    )
    exclude: Sequence[str] | None = option_field(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Classes or recordings to leave out.",
        read=split_names,
    )
    channels: Sequence[str] | None = option_field(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Channels to keep, in this order.",
        read=split_names,
    )
    units: Mapping[str, str] | None = option_field("input", toml=dict[str, str])
    manifest: str | bool | None = option_field(
        "input",
        metavar="FILE",
        help="Labels: a manifest [default: manifest.csv], an export of Label Studio, or"
        " '{recording}.txt' for each recording.",
        typed=str | None,
    )
    stamps: str | None = option_field(
        "input",
        metavar="HOW",
        help="Samples that share stamps or come in bursts: packets (spread them), keep, merge"
        " [default: spread certain packets].",
    )
    sample_rate_hz: float | None = option_field(
        "resample",
        metavar="HZ",
        help="Resample to this rate; without a time column, the rate of the rows"
        " [default: median of the recordings].",
    )
    salvage: bool = False
    scratch: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        # Readers strip blanks around the names of columns.
        for name in ("time_column", "label_column", "recording_column", "group_column"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, value.strip())
        for name in ("channels", "names"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                kind = tuple if isinstance(value, tuple) else list
                object.__setattr__(self, name, kind(map(_without_blanks, value)))
        if isinstance(self.units, Mapping):
            plain = {_without_blanks(name): unit for name, unit in self.units.items()}
            object.__setattr__(self, "units", plain)

    def only(self, *names: str) -> "ReadOptions":
        """Return a copy with these options, and the defaults of all others.

        Parameters
        ----------
        *names : str
            The fields to keep.
        """
        return ReadOptions(**{name: getattr(self, name) for name in names})


NAMES = tuple(each.name for each in fields(ReadOptions))


def combined(options: ReadOptions | None, by_name: ReadOptions) -> ReadOptions:
    """Return the `options` of a call, changed by those given by name.

    A keyword with its default value, such as None, counts as not given.
    """
    if options is None:
        return by_name
    if not isinstance(options, ReadOptions):
        raise TypeError(
            f"options={options!r} are not ReadOptions; give options by name, such as"
            " time_column='time'."
        )
    values = {each.name: getattr(by_name, each.name) for each in fields(ReadOptions)}
    defaults = {each.name: each.default for each in fields(ReadOptions)}
    changed = {name: value for name, value in values.items() if value is not defaults[name]}
    return replace(options, **changed)
