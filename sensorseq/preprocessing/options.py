"""The options of preparation, each defined once as a field of `PreparationOptions`.

The field defines the argument of `PreparePipeline` and `prepare`, the key in the configuration file
and the provenance, and the command-line option with its help. numpy is not imported here, so that
the command line starts quickly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from sensorseq.errors import ArgumentError
from sensorseq.options import CSV_FORM, Option, ReadOptions, option_field

# Sections of the configuration file, in the order in which they are written.
SECTIONS = ("input", "resample", "derive", "steps", "window", "split", "scale", "balance")

READ_AS_IN_TRAINING = ("time_column", "time_unit", *CSV_FORM, "sample_rate_hz", "label_column")
"""The options that may differ between training and prediction."""
# None, or "none" in a file or command, disables these options.
CAN_BE_OFF = ("split", "normalize", "scale", "balance", "derive")


def read_shares(split: str | None) -> list[float] | str | None:
    """Parse the value of ``--split``: shares with commas, or none."""
    if split is None:
        return None
    if split.strip().lower() == "none":
        return "none"
    try:
        return [float(share) for share in split.split(",")]
    except ValueError as error:
        raise ArgumentError(
            f"--split {split}: give three shares such as 0.6,0.2,0.2, or none."
        ) from error


@dataclass(frozen=True, kw_only=True)
class PreparationOptions(ReadOptions):
    """All options of `PreparePipeline`, the function `prepare` and the command `prepare`.

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
        Common rate of all recordings, and the clock of files without a time column. By default the
        median of the recordings' own rates (with several sensors, the rate of the fastest), which
        is stored in `provenance`.
    salvage : bool, default=False
        Use the messages before the damage in a damaged ``.bag``, ``.mcap`` or ``.ulg`` file instead
        of raising an error. ``attributes["salvaged"]`` has the reason, with the offset, and the
        seconds kept.
    scratch : path-like, optional
        Folder for the samples of a CSV, Parquet, HDF5 or MDF file of more than 32 MB: they stay on
        disk, in unnamed files that vanish with the recording. By default they are kept in memory.
    max_gap_s : float, optional
        Longest gap, in seconds, to interpolate across; by default ten sample periods of the input.
    resample_engine : {"polyphase", "soxr"}, default="polyphase"
        See `resample`; streams on the robot use the first.
    attenuation_db : float, default=90.0
        Attenuation of the anti-aliasing filter above the new Nyquist frequency.
    derive : {"auto"} or None, default=None
        auto: choose `steps` from the names, units and rates of the first recording's channels; see
        `sensorseq.preprocessing.steps.derive.derive_steps`. Cannot be combined with `steps`.
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
        For ``"majority"``: the share of a window's samples that must have its label.
    short : {"drop", "pad", "error"}, default="drop"
        Whether a recording shorter than a window is left out and counted, padded, or an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, if they should overlap more than validation
        and test windows; `hop_s` by default.
    train_phase : {"grid", "random"}, default="grid"
        random: the grid of training windows starts at a random offset in each recording.
    native_rates : bool, optional
        Keep each of several sensors (files joined by `pair`, or topics of robot logs) at its own
        rate, instead of resampling all to one. Windows then begin at multiples of the hop on
        the recording's clock, and the result is SensorWindows.
    slop_s : float, optional
        For `native_rates`: by how many seconds the starts of two sensors' windows may differ. By
        default a tenth of the hop, or the longest period of a sensor if that is more.
    missing : {"error", "expected"}, optional
        For `native_rates`: how to handle a missing sensor. error, the default: a recording without
        it is refused, and windows without it are left out. expected: they are kept, with NaN.
    split : sequence of 3 floats or None, default=(0.6, 0.2, 0.2)
        Shares of train, validation and test. Use None for recordings that will only be predicted:
        nothing is fitted.
    split_by : {"group", "recording", "time"}, default="group"
        The unit that is never divided. time: each recording begins with train, followed by
        validation and test, with an embargo between them; test scores then apply to known robots.
    embargo_s : float, optional
        For a split by time: seconds left out between parts. By default a window plus the lookahead
        of the resampling filter and of steps with ``phase="zero"``; at least that lookahead.
    random_state : int, default=0
        Seed of the split, the balance and random phases; fixed, so that results are reproducible.
    normalize : {"recording"} or None, default=None
        recording: before windows are cut, each channel of a recording gets mean 0 and standard
        deviation 1, by the recording's own statistics. A model then needs whole recordings.
    scale : str or None, default="standard"
        standard, robust, min_max, max_abs, quantile or physical; see `ChannelScaler`.
    rated : mapping of str to float, optional
        For ``"physical"``: the value of each channel that becomes 1.
    balance : {"undersample", "oversample"} or None, default=None
        See `ClassBalancer`.
    max_per_recording : int or float, optional
        Most rows that one recording may contribute to its class when balancing.
    augmentation : mapping, optional
        Fields of `Augmentation`, which define how copies made by ``balance="oversample"`` differ
        from their window. Applied when a model is fitted to a prepared file; for arrays see
        `ClassBalancer`.
    """

    max_gap_s: float | None = option_field(
        "resample",
        metavar="S",
        help="Longest gap to interpolate across [default: 10 periods].",
    )
    resample_engine: str = option_field("resample", "polyphase", key="engine")
    attenuation_db: float = option_field("resample", 90.0)
    derive: str | None = option_field(
        "derive",
        key="mode",
        metavar="HOW",
        help="auto: add features of motors and inertial sensors by their names; none"
        " [default: none].",
    )
    steps: Sequence[Any] | None = option_field("steps", toml=list[dict[str, Any]])
    window_s: float = option_field(
        "window",
        MISSING,
        metavar="S",
        help="Window length. Required, here or in --config.",
    )
    hop_s: float | None = option_field(
        "window", metavar="S", help="Step between window starts [default: window-s]."
    )
    label_rule: str = option_field(
        "window",
        "whole",
        metavar="RULE",
        help="Label of a window with several labels: whole, majority, centre, last"
        " [default: whole].",
    )
    min_purity: float | None = option_field(
        "window",
        metavar="SHARE",
        help="Least share of the label in a window, for majority [default: 0.5].",
    )
    short: str = option_field(
        "window",
        "drop",
        metavar="HOW",
        help="Recordings shorter than a window: drop, pad, error [default: drop].",
    )
    train_hop_s: float | None = option_field(
        "window", metavar="S", help="Step between training windows [default: hop-s]."
    )
    train_phase: str = option_field("window", "grid")
    native_rates: bool | None = option_field(
        "window", toml=bool, help="Keep each of several sensors at its own rate."
    )
    slop_s: float | None = option_field(
        "window",
        metavar="S",
        help="With --native-rates: largest distance between window starts of two sensors"
        " [default: hop-s / 10].",
    )
    missing: str | None = option_field(
        "window",
        metavar="HOW",
        help="With --native-rates, windows that lack a sensor: error, expected [default: error].",
    )
    split: Sequence[float] | None = option_field(
        "split",
        (0.6, 0.2, 0.2),
        key="fractions",
        toml=list[float] | str,
        metavar="SHARES",
        help="Shares of train,validation,test; or none [default: 0.6,0.2,0.2].",
        read=read_shares,
        typed=str,
    )
    split_by: str = option_field(
        "split",
        "group",
        key="by",
        metavar="WHAT",
        help="Keep whole: group or recording; time splits each recording by time [default: group].",
    )
    embargo_s: float | None = option_field("split")
    random_state: int = option_field(
        "split", 0, flag="--seed", help="Seed of split and balance [default: 0]."
    )
    normalize: str | None = option_field(
        "scale",
        metavar="WHAT",
        help="recording: mean 0 and deviation 1 in each recording; none [default: none].",
    )
    scale: str | None = option_field(
        "scale",
        "standard",
        key="kind",
        metavar="KIND",
        help="standard, robust, min_max, max_abs, quantile, none; physical with --config"
        " [default: standard].",
    )
    rated: Mapping[str, float] | None = option_field("scale", toml=dict[str, float])
    balance: str | None = option_field(
        "balance",
        key="strategy",
        metavar="HOW",
        help="Balance training windows: undersample, oversample, none [default: none].",
    )
    max_per_recording: int | float | None = option_field("balance")
    augmentation: Mapping[str, Any] | None = option_field(
        "balance", toml=dict[str, int | float | list[Any]]
    )

    @classmethod
    def recorded(cls, provenance: Mapping[str, Any]) -> "PreparationOptions":
        """Return the options that windows were prepared with, from their provenance.

        Parameters
        ----------
        provenance : mapping
            Of a WindowSet, a prepared file or a model. An option that it lacks, because the file is
            older or the windows were not prepared, has its default; `window_s` is then NaN.
        """
        sections = provenance.get("configuration") or {}
        values: dict[str, Any] = {"window_s": math.nan}
        for name, option in OPTIONS.items():
            section = sections.get(option.section) or {}
            value = (section or None) if option.section == "steps" else section.get(option.key)
            if value is not None:
                values[name] = None if name in CAN_BE_OFF and value == "none" else value
        return cls(**values)


OPTIONS = {
    each.name: Option(each.name, each.default, each.type, **each.metadata)
    for each in fields(PreparationOptions)
    if each.metadata
}
READING_OPTIONS = (
    *(name for name, option in OPTIONS.items() if option.section == "input"),
    "sample_rate_hz",
)
PIPELINE_OPTIONS = tuple(name for name, option in OPTIONS.items() if not option.of_files)
