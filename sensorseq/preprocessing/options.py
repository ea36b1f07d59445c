"""The options of preparation, each defined once as a field of `PreparationOptions`.

Each field defines an argument of `prepare`. Most fields also define an argument of
`PreparePipeline`, a key in the configuration file and in the provenance, and a command-line option
with its help. numpy is not imported here, so that the command line starts quickly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypedDict

from sensorseq.errors import ArgumentError
from sensorseq.options import CSV_FORM, FileArguments, Option, ReadOptions, option_field

# Sections of the configuration file, in the order in which they are written.
SECTIONS = ("input", "resample", "steps", "window", "split", "scale", "balance")

READ_AS_IN_TRAINING = ("time_column", "time_unit", *CSV_FORM, "sample_rate_hz", "label_column")
"""The reading options that prediction takes from training unless they are given."""
# These options are disabled by None, or by "none" in the configuration file or on the command line.
CAN_BE_OFF = ("split", "normalize", "scale", "balance")


def read_shares(split: str | None) -> list[float] | str | None:
    """Parse the value of ``--split``: fractions separated by commas, or ``none``."""
    if split is None:
        return None
    if split.strip().lower() == "none":
        return "none"
    try:
        return [float(share) for share in split.split(",")]
    except ValueError as error:
        raise ArgumentError(
            f"--split {split}: give three fractions such as 0.6,0.2,0.2, or none."
        ) from error


@dataclass(frozen=True, kw_only=True)
class PreparationOptions(ReadOptions):
    """All options of `PreparePipeline`, the function `prepare` and the command `prepare`.

    The options for reading are documented in `ReadOptions`.

    Parameters
    ----------
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
    """

    max_gap_s: float | None = option_field(
        "resample",
        metavar="S",
        help="Longest gap to interpolate across [default: 10 periods].",
    )
    attenuation_db: float = option_field("resample", 90.0)
    steps: Sequence[Any] | None = option_field("steps", toml=list[dict[str, Any]])
    window_s: float = option_field(
        "window",
        MISSING,
        metavar="S",
        help="Window length. Required, here or in --config.",
    )
    hop_s: float | None = option_field(
        "window", metavar="S", help="Time between window starts [default: window-s]."
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
        metavar="FRACTION",
        help="For majority: minimum fraction of samples with the window's label [default: 0.5].",
    )
    short: str = option_field(
        "window",
        "drop",
        metavar="HOW",
        help="Recordings shorter than a window: drop, pad, error [default: drop].",
    )
    train_hop_s: float | None = option_field(
        "window", metavar="S", help="Time between starts of training windows [default: hop-s]."
    )
    native_rates: bool | None = option_field(
        "window", toml=bool, help="Keep each of several sensors at its own rate."
    )
    slop_s: float | None = option_field(
        "window",
        metavar="S",
        help="With --native-rates: maximum time between window starts of two sensors"
        " [default: hop-s / 10, or the longest sample period if that is longer].",
    )
    missing: str | None = option_field(
        "window",
        metavar="HOW",
        help="With --native-rates: how to treat missing sensors: error, expected [default: error].",
    )
    split: Sequence[float] | None = option_field(
        "split",
        (0.6, 0.2, 0.2),
        key="fractions",
        toml=list[float] | str,
        metavar="FRACTIONS",
        help="Fractions for train,validation,test; or none [default: 0.6,0.2,0.2].",
        read=read_shares,
        typed=str,
    )
    split_by: str = option_field(
        "split",
        "group",
        key="by",
        metavar="WHAT",
        help="Keep each group or each recording in one part, or divide recordings by time: group,"
        " recording, time [default: group].",
    )
    embargo_s: float | None = option_field("split")
    random_state: int = option_field(
        "split", 0, flag="--seed", help="Seed of split and balance [default: 0]."
    )
    normalize: str | None = option_field(
        "scale",
        metavar="WHAT",
        help="recording: scale each recording to mean 0 and standard deviation 1; none"
        " [default: none].",
    )
    scale: str | None = option_field(
        "scale",
        "standard",
        key="kind",
        metavar="KIND",
        help="Scaling: standard, robust, none; physical only in --config [default: standard].",
    )
    rated: Mapping[str, float] | None = option_field("scale", toml=dict[str, float])
    balance: str | None = option_field(
        "balance",
        key="strategy",
        metavar="HOW",
        help="Balance training windows: undersample, oversample, none [default: none].",
    )
    max_per_recording: int | float | None = option_field("balance")

    @classmethod
    def recorded(cls, provenance: Mapping[str, Any]) -> "PreparationOptions":
        """Return the options with which windows were prepared, from their provenance.

        Parameters
        ----------
        provenance : mapping
            The provenance of a WindowSet, a prepared file or a model. If an option is missing,
            because the file is older or the windows were not prepared from recordings, the option
            gets its default; a missing `window_s` becomes NaN.
        """
        sections = provenance.get("configuration") or {}
        values: dict[str, Any] = {"window_s": math.nan}
        for name, option in OPTIONS.items():
            value = option.value_in(sections)
            if value is not None and (value or name != "steps"):
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


class PipelineArguments(TypedDict, total=False):
    """The optional arguments of `PreparePipeline`, except for the seed."""

    channels: Sequence[str] | None
    sample_rate_hz: float | None
    max_gap_s: float | None
    attenuation_db: float
    steps: Sequence[Any] | None
    hop_s: float | None
    label_rule: str
    min_purity: float | None
    short: str
    train_hop_s: float | None
    native_rates: bool | None
    slop_s: float | None
    missing: str | None
    split: Sequence[float] | str | None
    split_by: str
    embargo_s: float | None
    normalize: str | None
    scale: str | None
    rated: Mapping[str, float] | None
    balance: str | None
    max_per_recording: int | float | None


class PrepareArguments(FileArguments, PipelineArguments, total=False):
    """The options of `prepare`, as keyword arguments."""

    window_s: float
    random_state: int


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line; None stands for an option that is not given."""
    words: list[str] = []
    for name, value in options.items():
        flag = OPTIONS[name].flag
        if name == "files":
            words += [word for pattern in value for word in (flag, pattern)]
        elif isinstance(value, bool):
            words.append(flag if value else OPTIONS[name].off or flag)
        elif value is not None:
            listed_value = ",".join(value) if isinstance(value, list | tuple) else value
            words += [flag, f"{listed_value:g}" if isinstance(value, float) else str(listed_value)]
    return words
