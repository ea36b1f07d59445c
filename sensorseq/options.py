"""The options for finding and reading recordings, in one table for all readers.

Each field of `ReadOptions` is an argument of `prepare` and of the readers that use the option. Most
fields are also keys in the configuration file and options of the commands. numpy is not imported
here, so that the command line starts quickly.
"""

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar

from sensorseq.errors import did_you_mean

CSV_FORM = ("encoding", "delimiter", "decimal", "no_header", "names")
LARGE_BYTES = 1 << 25
"""Arrays of a recording that need more memory than this are stored in the folder `scratch`."""


Annotation = Any
"""A type annotation, such as ``list[str] | None``; annotations have no common Python class."""


@dataclass(frozen=True)
class Option:
    """How an option appears in the configuration file and on the command line.

    `section`, `key` and `toml` are the option's section, key and type in the configuration file;
    the default key and type are `name` and `type`. `flag`, `off` (the option that turns a flag
    off), `metavar` and `help` describe the command-line option; without `help`, the command line
    does not offer the option. `typed` (by default `toml`) is the type of the value on the command
    line, and `read` converts this value to the argument.
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
        """True if the option is about files; `PreparePipeline` does not accept such options."""
        return self.section == "input" and self.name != "channels"

    def value_in(self, sections: Mapping[str, Any]) -> Any:
        """Return the option's value in the sections of a configuration, or None."""
        section = sections.get(self.section)
        return section if section is None or self.section == "steps" else section.get(self.key)


def split_names(texts: Sequence[str] | None) -> list[str] | None:
    """Return the names given to a repeatable option; one value may list several names."""
    if not texts:
        return None
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _without_blanks(name: Any) -> Any:
    return name.strip() if isinstance(name, str) else name


def option_field(section: str, default: Any = None, **place: Any) -> Any:
    """Return a dataclass field for an option; its metadata are fields of `Option`."""
    return field(default=default, metadata={"section": section, **place})


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Which recordings to read, and how to read them.

    Parameters
    ----------
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
        Number of rows per second in files without a time column; their time then begins at 0 s. The
        rate can be given only if `time_column` is None. Robot logs do not need this option.
    salvage : bool, default=False
        If a ``.bag``, ``.mcap`` or ``.ulg`` file is damaged, use the messages before the damage
        instead of raising an error. The recording's ``attributes["salvaged"]`` then contains the
        reason, with the offset of the damage, and the number of seconds that were kept.
    scratch : path-like, optional
        Folder in which the samples of CSV, Parquet, HDF5 or MDF files larger than 32 MB are stored,
        in unnamed files that are deleted with the recording. By default, all samples are kept in
        memory.
    """

    files: Sequence[str] | None = option_field(
        "input",
        toml=list[str],
        metavar="PATTERN",
        help="Pattern of file names, such as 'pro_*.csv'; repeatable.",
    )
    pair: str | None = option_field(
        "input",
        metavar="PATTERN",
        help="Name pattern that joins the files of one recording, such as"
        " '{sensor}_{recording}.*' or '{recording}/{sensor}.*'.",
    )
    time_column: str | None = option_field(
        "input", metavar="NAME", help="Column of timestamps, by name or position [default: time]."
    )
    time_unit: str | None = option_field(
        "input", metavar="UNIT", help="Unit of timestamps: s, ms, us, ns [default: detected]."
    )
    encoding: str | None = option_field(
        "input", metavar="NAME", help="Encoding of CSV files, such as latin-1."
    )
    delimiter: str | None = option_field(
        "input", metavar="CHAR", help="Separator of CSV files, such as ';' or tab."
    )
    decimal: str | None = option_field(
        "input", metavar="CHAR", help="Decimal mark in CSV files: point (.) or comma (,)."
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
        "input", metavar="NAME", help="Column with the label of each sample."
    )
    recording_column: str | None = option_field(
        "input", metavar="NAME", help="Column with recording ids, if a file has many recordings."
    )
    group_column: str | None = option_field(
        "input",
        metavar="NAME",
        help="Column with the group of each recording, if a file has many recordings.",
    )
    sensor_column: str | None = option_field(
        "input",
        metavar="NAME",
        help="Column with the sensor of each row, if rows come from several sensors.",
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
        help="Source of labels: a manifest [default: manifest.csv], an export of Label Studio, or"
        " '{recording}.txt' for each recording.",
        typed=str | None,
    )
    stamps: str | None = option_field(
        "input",
        metavar="HOW",
        help="How to treat samples that share timestamps or come in bursts: packets (spread the"
        " samples), keep, merge [default: spread packets of one sensor].",
    )
    sample_rate_hz: float | None = option_field(
        "resample",
        metavar="HZ",
        help="Rate to resample to; also the rate of the rows if files have no time column"
        " [default: median of the recordings].",
    )
    salvage: bool = False
    scratch: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        # Readers strip blanks from column names, so strip them from the options too.
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

    def folder_for(self, n_bytes: int) -> Path | None:
        """Return the folder for arrays of this size, or None if they are kept in memory.

        Parameters
        ----------
        n_bytes : int
            Size of the arrays.
        """
        return None if self.scratch is None or n_bytes <= LARGE_BYTES else Path(self.scratch)

    def only(self, *names: str) -> "ReadOptions":
        """Return a copy with only these options; all others have their defaults.

        Parameters
        ----------
        *names : str
            The fields to keep.
        """
        return ReadOptions(**{name: getattr(self, name) for name in names})


NAMES = tuple(each.name for each in fields(ReadOptions))


def as_options(options: ReadOptions | None) -> ReadOptions:
    """Return the `options` of a call, or the defaults; raise a TypeError for another type."""
    if options is None:
        return ReadOptions()
    if not isinstance(options, ReadOptions):
        raise TypeError(
            f"options={options!r} are not ReadOptions; give options by name, such as"
            " ReadOptions(time_column='time')."
        )
    return options


class FileArguments(TypedDict, total=False):
    """The options about files, as keyword arguments."""

    files: Sequence[str] | None
    pair: str | None
    time_column: str | None
    time_unit: str | None
    encoding: str | None
    delimiter: str | None
    decimal: str | None
    no_header: bool | None
    names: Sequence[str] | None
    label_column: str | None
    recording_column: str | None
    group_column: str | None
    sensor_column: str | None
    labels: Sequence[str] | None
    exclude: Sequence[str] | None
    units: Mapping[str, str] | None
    manifest: str | bool | None
    stamps: str | None


class ReadArguments(FileArguments, total=False):
    """The options of `read_recordings`, as keyword arguments."""

    channels: Sequence[str] | None
    sample_rate_hz: float | None


Given = ParamSpec("Given")
Returned = TypeVar("Returned")
Documented = TypeVar("Documented", bound=Callable[..., Any])


def takes_options(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Let a function that takes `options` refuse an option that is given by its own name."""
    own = inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*given: Given.args, **named: Given.kwargs) -> Returned:
        check_names(function.__name__, named, own)
        return function(*given, **named)

    return called


def check_names(function: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise a TypeError if a keyword argument of a function is not known."""
    names = list(known)
    lost = [name for name in given if name not in names]
    if not lost:
        return
    way_out = "." + did_you_mean(lost[0], names)
    if "options" in names and lost[0] in NAMES:
        values = ", ".join(f"{name}={given[name]!r}" for name in lost if name in NAMES)
        way_out = f"; give options=ReadOptions({values})."
    raise TypeError(f"{function} has no argument {lost[0]!r}{way_out}")


def shows_options(table: type[ReadOptions], arguments: type) -> Callable[[Documented], Documented]:
    """Show the options that a function or class takes as ``**options`` in its `help`.

    `arguments` is the TypedDict of these options; editors and mypy read it. The defaults and the
    entries of the docstring are those of `table`.
    """
    taken = [each for each in fields(table) if each.name in arguments.__annotations__]
    added = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if each.default is MISSING else each.default,
            annotation=each.type,
        )
        for each in taken
    ]

    def show(documented: Documented) -> Documented:
        shown: Any = documented
        function: Any = shown.__init__ if inspect.isclass(shown) else shown
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()  # without the last, `**options`
        function.__signature__ = signature.replace(parameters=[*own, *added])
        if shown.__doc__:  # python -OO removes docstrings
            entries = _entries(table)
            chosen = dict.fromkeys(entries[each.name] for each in taken)
            head, mark, text = inspect.cleandoc(shown.__doc__).partition("\n**")
            assert mark, "the docstring has no entry for **options"
            rest = re.split(r"\n(?! )", text, maxsplit=1)[1]
            shown.__doc__ = "\n".join([head, *chosen, rest])
        return documented

    return show


def _entries(table: type[ReadOptions]) -> dict[str, str]:
    """Return the entry of each option in the docstrings of a table and of its base."""
    found: dict[str, str] = {}
    for kind in reversed(table.__mro__[:-1]):
        section = inspect.cleandoc(kind.__doc__ or "").partition("----------\n")[2]
        for entry in re.split(r"\n(?! )", section):
            found |= dict.fromkeys(entry.partition(" :")[0].split(", "), entry)
    return found


def combined(options: ReadOptions | None, by_name: Mapping[str, Any]) -> ReadOptions:
    """Return the `options` of a call, overridden by the options that were given by name.

    An option that is None counts as not given.
    """
    given = {name: value for name, value in by_name.items() if value is not None}
    return replace(as_options(options), **given)
