"""The options of preparation, each in one place: a field of `PreparationOptions`.

From it come the argument of `PreparePipeline` and `prepare`, the key of the configuration file and
of the provenance, and the option of the command with its help. numpy is not imported here, so that
the command line starts quickly.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import wraps
from typing import Any, TypeVar

from sensorseq.errors import ArgumentError

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Of the configuration file, in the order in which it is written.
SECTIONS = ("input", "resample", "derive", "steps", "window", "split", "scale", "balance")

CSV_FORM = ("encoding", "delimiter", "decimal", "no_header", "names")
READ_AS_IN_TRAINING = ("time_column", "time_unit", *CSV_FORM, "sample_rate_hz")
"""What may differ between the recordings of training and those to be predicted."""
CAN_BE_OFF = ("split", "scale", "balance", "derive")  # by None, or "none" in a file or command


@dataclass(frozen=True)
class Option:
    """Where an option of preparation appears outside Python.

    `section`, `key` and `toml` are its place and type in the configuration file (key and type as in
    Python by default), `flag`, `off` (what turns a flag off), `metavar` and `help` those of the
    command (without help, only in the file); `read` turns the text of the command into the
    argument.
    """

    name: str
    default: Any
    type: Any
    section: str
    key: str = ""
    toml: Any = None
    flag: str = ""
    off: str = ""
    metavar: str | None = None
    help: str = ""
    read: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.name)
        object.__setattr__(self, "toml", self.toml or self.type)
        object.__setattr__(self, "flag", self.flag or "--" + self.name.replace("_", "-"))

    @property
    def of_files(self) -> bool:
        """Whether it says which recordings to read and how, which `PreparePipeline` does not."""
        return self.section == "input" and self.name != "channels"

    @property
    def command_type(self) -> Any:
        """What the command line reads before `read`."""
        if self.toml is bool:
            return bool
        return (str if self.read is _shares else self.toml) | None


def split_names(given: Sequence[str] | None) -> list[str] | None:
    """Return the names of an option given once with commas, several times, or both."""
    if not given:
        return None
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def _shares(split: str) -> list[float] | str:
    if split.strip().lower() == "none":
        return "none"
    try:
        return [float(share) for share in split.split(",")]
    except ValueError as error:
        raise ArgumentError(
            f"--split {split}: give three shares such as 0.6,0.2,0.2, or none."
        ) from error


def _option(section: str, default: Any = None, **place: Any) -> Any:
    """Return the field of an option; see `Option` for its place."""
    return field(default=default, metadata={"section": section, **place})


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """All options of `PreparePipeline`, the function `prepare` and the command `prepare`.

    Parameters
    ----------
    files, pair, labels, exclude, manifest
        Which recordings to use; see `readers.find_recordings`.
    time_column : str, optional
        Column of the time stamps, by name or place (``"1"`` is the first, ``"-1"`` the last);
        ``time`` or ``time_s``, whichever is there, by default, else the only one with a name such
        as ``t``, ``timestamp`` or ``time_ms``.
    time_unit : {"s", "ms", "us", "ns"}, optional
        Unit of the time stamps. By default that of the column's name (``stamp_ns``); else seconds,
        or for whole numbers the unit that the rate or the date shows; see `readers.read_csv`.
    encoding, delimiter, decimal, no_header, names : optional
        How CSV files are written; see `readers.read_csv`.
    label_column : str, optional
        Column with the label of each sample, for recordings whose label changes, or of a long
        table.
    recording_column, group_column : str, optional
        Columns of a long table, one file with all recordings: the id of each row's recording, and
        its group; see `readers.find_recordings`.
    channels : sequence of str, optional
        Channels to keep, in this order; all by default.
    units : mapping of str to str, optional
        Unit of each channel by name, for files that do not store it, such as CSV; some steps
        select channels by unit.
    repair_stamps : bool, optional
        Sort samples by time, merge those with equal time stamps, and count both. False by
        default: such samples are then an error.
    sample_rate_hz : float, optional
        Common rate of all recordings, and the clock of files without a time column. By default the
        median of the recordings' own rates (with several sensors, the rate of the fastest), which
        is stored in `provenance`.
    max_gap_s : float, optional
        Longest gap, in seconds, to interpolate across; by default ten sample periods of the input.
    resample_engine : {"polyphase", "soxr"}, default="polyphase"
        See `resample`; streams on the robot use the first.
    attenuation_db : float, default=90.0
        Attenuation of the anti-aliasing filter above the new Nyquist frequency.
    derive : {"auto"} or None, default=None
        auto: choose `steps` by the names, units and rates of the first recording's channels; see
        `sensorseq.preprocessing.derive.derive_steps`. Cannot be combined with `steps`.
    steps : sequence of Step or dict, optional
        Filters and features between resampling and windows, in this order; see
        `sensorseq.preprocessing.steps`.
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        The label of a window if the label changes within it; see `Windower`.
    min_purity : float, default=0.5
        For ``"majority"``: the share of its samples that must have a window's label.
    short : {"drop", "pad", "error"}, default="drop"
        A recording shorter than a window is left out and counted, padded, or an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, if they should overlap more than validation
        and test windows; `hop_s` by default.
    train_phase : {"grid", "random"}, default="grid"
        random: the grid of training windows starts at a random offset in each recording.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Shares of train, validation and test. None for recordings that will only be predicted:
        nothing is fitted.
    split_by : {"group", "recording", "time"}, default="group"
        The unit that is never divided. time: the beginning of each recording is train, then
        validation, then test, with an embargo between them; test scores are then for known robots.
    embargo_s : float, optional
        For a split by time: seconds left out between parts. By default a window plus the lookahead
        of the resampling filter and of steps with ``phase="zero"``; at least that lookahead.
    random_state : int, default=0
        Decides the split, the balance and random phases; fixed, so that results are reproducible.
    scale : str or None, default="standard"
        standard, robust, min_max, max_abs, quantile or physical; see `ChannelScaler`.
    scale_per : {"all", "recording", "group"}, default="all"
        Statistics of all training windows, or of each recording or group from its own windows.
    rated : mapping of str to float, optional
        For ``"physical"``: the value of each channel that becomes 1.
    balance : {"undersample", "oversample"} or None, default=None
        See `ClassBalancer`.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to its class when balancing.
    augmentation : mapping, optional
        Fields of `Augmentation`: how copies made by ``balance="oversample"`` differ from their
        window. Applied when a model is fitted to a prepared file; for arrays see `ClassBalancer`.
    """

    files: Sequence[str] | None = _option(
        "input",
        toml=list[str],
        metavar="PATTERN",
        help="File names, such as 'pro_*.csv'; repeatable.",
    )
    pair: str | None = _option(
        "input",
        metavar="PATTERN",
        help="Join the files of one recording by name, such as '{sensor}_{recording}.*'.",
    )
    time_column: str | None = _option(
        "input", metavar="NAME", help="Column of time stamps, by name or place [default: time]."
    )
    time_unit: str | None = _option(
        "input", metavar="UNIT", help="Unit of time stamps: s, ms, us, ns [default: found]."
    )
    encoding: str | None = _option(
        "input", metavar="NAME", help="Encoding of CSV files, such as latin-1."
    )
    delimiter: str | None = _option(
        "input", metavar="CHAR", help="Separator of CSV files, such as ';' or tab."
    )
    decimal: str | None = _option(
        "input", metavar="CHAR", help="Decimal mark of CSV files: . or a comma."
    )
    no_header: bool | None = _option(
        "input",
        toml=bool,
        off="--header",
        help="CSV files have no header line; columns are column_1, column_2, ...",
    )
    names: Sequence[str] | None = _option(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Names of the columns of CSV files without a header line.",
        read=split_names,
    )
    label_column: str | None = _option(
        "input", metavar="NAME", help="Column with a label per sample."
    )
    recording_column: str | None = _option(
        "input", metavar="NAME", help="Column with recording ids, if the file has many recordings."
    )
    group_column: str | None = _option(
        "input", metavar="NAME", help="Column with the group of each such recording."
    )
    labels: Sequence[str] | None = _option(
        "input", toml=list[str], metavar="NAME,...", help="Classes to keep.", read=split_names
    )
    exclude: Sequence[str] | None = _option(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Classes or recordings to leave out.",
        read=split_names,
    )
    channels: Sequence[str] | None = _option(
        "input",
        toml=list[str],
        metavar="NAME,...",
        help="Channels to keep, in this order.",
        read=split_names,
    )
    units: Mapping[str, str] | None = _option("input", toml=dict[str, str])
    manifest: str | bool | None = _option("input")
    repair_stamps: bool | None = _option(
        "input", toml=bool, help="Sort samples by time and merge those with equal time stamps."
    )
    sample_rate_hz: float | None = _option(
        "resample",
        metavar="HZ",
        help="Resample to this rate; without a time column, the rate of the rows"
        " [default: median of the recordings].",
    )
    max_gap_s: float | None = _option(
        "resample",
        metavar="S",
        help="Longest gap to interpolate across [default: 10 periods].",
    )
    resample_engine: str = _option("resample", "polyphase", key="engine")
    attenuation_db: float = _option("resample", 90.0)
    derive: str | None = _option(
        "derive",
        key="mode",
        metavar="HOW",
        help="auto: add features of motors and inertial sensors by their names; none"
        " [default: none].",
    )
    steps: Sequence[Any] | None = _option("steps", toml=list[dict[str, Any]])
    window_s: float = _option(
        "window",
        MISSING,
        metavar="S",
        help="Window length. Required, here or in --config.",
    )
    hop_s: float | None = _option(
        "window", metavar="S", help="Step between window starts [default: window-s]."
    )
    label_rule: str = _option(
        "window",
        "whole",
        metavar="RULE",
        help="Label of a window with several labels: whole, majority, centre, last"
        " [default: whole].",
    )
    min_purity: float | None = _option(
        "window",
        metavar="SHARE",
        help="Least share of the label in a window, for majority [default: 0.5].",
    )
    short: str = _option(
        "window",
        "drop",
        metavar="HOW",
        help="Recordings shorter than a window: drop, pad, error [default: drop].",
    )
    train_hop_s: float | None = _option(
        "window", metavar="S", help="Step between training windows [default: hop-s]."
    )
    train_phase: str = _option("window", "grid")
    split: Sequence[float] | None = _option(
        "split",
        (0.6, 0.2, 0.2),
        key="fractions",
        toml=list[float] | str,
        metavar="SHARES",
        help="Shares of train,validation,test; or none [default: 0.6,0.2,0.2].",
        read=_shares,
    )
    split_by: str = _option(
        "split",
        "group",
        key="by",
        metavar="WHAT",
        help="Keep whole: group or recording; time splits each recording by time [default: group].",
    )
    embargo_s: float | None = _option("split")
    random_state: int = _option(
        "split", 0, flag="--seed", help="Seed of split and balance [default: 0]."
    )
    scale: str | None = _option(
        "scale",
        "standard",
        key="kind",
        metavar="KIND",
        help="standard, robust, min_max, max_abs, quantile, none; physical with --config"
        " [default: standard].",
    )
    scale_per: str = _option(
        "scale",
        "all",
        key="per",
        metavar="WHAT",
        help="Compute statistics per: all, recording, group [default: all].",
    )
    rated: Mapping[str, float] | None = _option("scale", toml=dict[str, float])
    balance: str | None = _option(
        "balance",
        key="strategy",
        metavar="HOW",
        help="Balance training windows: undersample, oversample, none [default: none].",
    )
    max_per_recording: int | float | None = _option("balance")
    augmentation: Mapping[str, Any] | None = _option(
        "balance", toml=dict[str, int | float | list[Any]]
    )

    @property
    def form(self) -> dict[str, Any]:
        """How CSV files are written, as arguments of `find_recordings`."""
        return {name: getattr(self, name) for name in CSV_FORM}

    @property
    def listing(self) -> dict[str, Any]:
        """Which recordings to use, as arguments of `find_recordings`."""
        which = ("files", "pair", "labels", "manifest", "recording_column", "group_column")
        chosen = {name: getattr(self, name) for name in which} | self.form
        return chosen | {"label_column": self.label_column, "exclude": self.exclude or ()}

    @property
    def reading(self) -> dict[str, Any]:
        """How to read a recording, as arguments of `read_source`."""
        names = ("channels", "time_column", "time_unit", "label_column", "units", "sample_rate_hz")
        how = {name: getattr(self, name) for name in names}
        return how | {"repair_stamps": bool(self.repair_stamps)}

    @classmethod
    def recorded(cls, provenance: Mapping[str, Any]) -> "PreparationOptions":
        """Return the options that windows were prepared with, from their provenance.

        Parameters
        ----------
        provenance : mapping
            Of a WindowSet, a prepared file or a model. What it lacks, because the file is older or
            the windows were not prepared, has its default; `window_s` is then NaN.
        """
        sections = provenance.get("configuration") or {}
        given: dict[str, Any] = {"window_s": math.nan}
        for name, option in OPTIONS.items():
            section = sections.get(option.section) or {}
            value = (section or None) if option.section == "steps" else section.get(option.key)
            if value is not None:
                given[name] = None if name in CAN_BE_OFF and value == "none" else value
        return cls(**given)


OPTIONS = {
    each.name: Option(each.name, each.default, each.type, **each.metadata)
    for each in fields(PreparationOptions)
}
READING_OPTIONS = (
    *(name for name, option in OPTIONS.items() if option.section == "input"),
    "sample_rate_hz",
)
PIPELINE_OPTIONS = tuple(name for name, option in OPTIONS.items() if not option.of_files)


def takes_options(names: Iterable[str], default: Any = MISSING) -> Callable[[_Function], _Function]:
    """Give a function that takes ``**options`` the signature with these options.

    Each has its own default, or all have `default`.
    """

    def decorate(function: _Function) -> _Function:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for option in map(OPTIONS.__getitem__, names):
            value = option.default if default is MISSING else default
            parameters.append(
                inspect.Parameter(
                    option.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if value is MISSING else value,
                    annotation=option.type if default is MISSING else option.type | None,
                )
            )
        signature = own.replace(parameters=parameters)

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__qualname__}() {error}") from None
            return function(*args, **kwargs)

        checked.__signature__ = signature  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


def document_options(docstring: str | None, names: Iterable[str]) -> str | None:
    """Return a docstring with the entries of these options in place of ``**options``."""
    if docstring is None:
        return None
    known = inspect.cleandoc(PreparationOptions.__doc__ or "") + "\n"
    entries = re.findall(r"^\w[\w, ]*(?: :.*)?\n(?:    .*\n)+", known, re.M)
    wanted = set(names)
    chosen = [entry for entry in entries if re.split(r"\W", entry)[0] in wanted]
    own = inspect.cleandoc(docstring)
    return re.sub(r"^\*\*options\n(?:    .*\n)+", lambda _: "".join(chosen), own, flags=re.M)
