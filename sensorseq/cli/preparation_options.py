"""The options of preparation on the command line.

Written by `python scripts/write_signatures.py` from the fields of `PreparationOptions`.
"""

from typing import Annotated

from typer import Option

Files = Annotated[
    list[str] | None,
    Option(
        "--files",
        metavar="PATTERN",
        help="Pattern of file names, such as 'pro_*.csv'; repeatable.",
    ),
]
Pair = Annotated[
    str | None,
    Option(
        "--pair",
        metavar="PATTERN",
        help="Name pattern that joins the files of one recording, such as"
        " '{sensor}_{recording}.*' or '{recording}/{sensor}.*'.",
    ),
]
TimeColumn = Annotated[
    str | None,
    Option(
        "--time-column",
        metavar="NAME",
        help="Column of timestamps, by name or position [default: time].",
    ),
]
TimeUnit = Annotated[
    str | None,
    Option(
        "--time-unit",
        metavar="UNIT",
        help="Unit of timestamps: s, ms, us, ns [default: detected].",
    ),
]
Encoding = Annotated[
    str | None,
    Option(
        "--encoding",
        metavar="NAME",
        help="Encoding of CSV files, such as latin-1.",
    ),
]
Delimiter = Annotated[
    str | None,
    Option(
        "--delimiter",
        metavar="CHAR",
        help="Separator of CSV files, such as ';' or tab.",
    ),
]
Decimal = Annotated[
    str | None,
    Option(
        "--decimal",
        metavar="CHAR",
        help="Decimal mark in CSV files: point (.) or comma (,).",
    ),
]
NoHeader = Annotated[
    bool | None,
    Option(
        "--no-header/--header",
        help="CSV files have no header line; columns are column_1, column_2, ...",
    ),
]
Names = Annotated[
    list[str] | None,
    Option(
        "--names",
        metavar="NAME,...",
        help="Names of the columns of CSV files without a header line.",
    ),
]
LabelColumn = Annotated[
    str | None,
    Option(
        "--label-column",
        metavar="NAME",
        help="Column with the label of each sample.",
    ),
]
RecordingColumn = Annotated[
    str | None,
    Option(
        "--recording-column",
        metavar="NAME",
        help="Column with recording ids, if a file has many recordings.",
    ),
]
GroupColumn = Annotated[
    str | None,
    Option(
        "--group-column",
        metavar="NAME",
        help="Column with the group of each recording, if a file has many recordings.",
    ),
]
SensorColumn = Annotated[
    str | None,
    Option(
        "--sensor-column",
        metavar="NAME",
        help="Column with the sensor of each row, if rows come from several sensors.",
    ),
]
Labels = Annotated[
    list[str] | None,
    Option(
        "--labels",
        metavar="NAME,...",
        help="Classes to keep.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    Option(
        "--exclude",
        metavar="NAME,...",
        help="Classes or recordings to leave out.",
    ),
]
Channels = Annotated[
    list[str] | None,
    Option(
        "--channels",
        metavar="NAME,...",
        help="Channels to keep, in this order.",
    ),
]
Manifest = Annotated[
    str | None,
    Option(
        "--manifest",
        metavar="FILE",
        help="Source of labels: a manifest [default: manifest.csv], an export of Label Studio,"
        " or '{recording}.txt' for each recording.",
    ),
]
Stamps = Annotated[
    str | None,
    Option(
        "--stamps",
        metavar="HOW",
        help="How to treat samples that share timestamps or come in bursts: packets (spread the"
        " samples), keep, merge [default: spread packets of one sensor].",
    ),
]
SampleRateHz = Annotated[
    float | None,
    Option(
        "--sample-rate-hz",
        metavar="HZ",
        help="Rate to resample to; also the rate of the rows if files have no time column"
        " [default: median of the recordings].",
    ),
]
MaxGapS = Annotated[
    float | None,
    Option(
        "--max-gap-s",
        metavar="S",
        help="Longest gap to interpolate across [default: 10 periods].",
    ),
]
Derive = Annotated[
    str | None,
    Option(
        "--derive",
        metavar="HOW",
        help="auto: add features for motors and inertial sensors, which are recognized by the"
        " names and units of channels; none: add nothing [default: none].",
    ),
]
WindowS = Annotated[
    float | None,
    Option(
        "--window-s",
        metavar="S",
        help="Window length. Required, here or in --config.",
    ),
]
HopS = Annotated[
    float | None,
    Option(
        "--hop-s",
        metavar="S",
        help="Time between window starts [default: window-s].",
    ),
]
LabelRule = Annotated[
    str | None,
    Option(
        "--label-rule",
        metavar="RULE",
        help="Label of a window with several labels: whole, majority, centre, last [default:"
        " whole].",
    ),
]
MinPurity = Annotated[
    float | None,
    Option(
        "--min-purity",
        metavar="FRACTION",
        help="For majority: minimum fraction of samples with the window's label [default: 0.5].",
    ),
]
Short = Annotated[
    str | None,
    Option(
        "--short",
        metavar="HOW",
        help="Recordings shorter than a window: drop, pad, error [default: drop].",
    ),
]
TrainHopS = Annotated[
    float | None,
    Option(
        "--train-hop-s",
        metavar="S",
        help="Time between starts of training windows [default: hop-s].",
    ),
]
NativeRates = Annotated[
    bool | None,
    Option(
        "--native-rates",
        help="Keep each of several sensors at its own rate.",
    ),
]
SlopS = Annotated[
    float | None,
    Option(
        "--slop-s",
        metavar="S",
        help="With --native-rates: maximum time between window starts of two sensors [default:"
        " hop-s / 10, or the longest sample period if that is longer].",
    ),
]
Missing = Annotated[
    str | None,
    Option(
        "--missing",
        metavar="HOW",
        help="With --native-rates: how to treat missing sensors: error, expected [default: error].",
    ),
]
Split = Annotated[
    str | None,
    Option(
        "--split",
        metavar="FRACTIONS",
        help="Fractions for train,validation,test; or none [default: 0.6,0.2,0.2].",
    ),
]
SplitBy = Annotated[
    str | None,
    Option(
        "--split-by",
        metavar="WHAT",
        help="Keep each group or each recording in one part, or divide recordings by time:"
        " group, recording, time [default: group].",
    ),
]
RandomState = Annotated[
    int | None,
    Option(
        "--seed",
        help="Seed of split and balance [default: 0].",
    ),
]
Normalize = Annotated[
    str | None,
    Option(
        "--normalize",
        metavar="WHAT",
        help="recording: scale each recording to mean 0 and standard deviation 1; none [default:"
        " none].",
    ),
]
Scale = Annotated[
    str | None,
    Option(
        "--scale",
        metavar="KIND",
        help="Scaling: standard, robust, min_max, max_abs, quantile, none; physical only in"
        " --config [default: standard].",
    ),
]
Balance = Annotated[
    str | None,
    Option(
        "--balance",
        metavar="HOW",
        help="Balance training windows: undersample, oversample, none [default: none].",
    ),
]
