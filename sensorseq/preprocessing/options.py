"""The options of preparation, each defined once as a field of `PreparationOptions`.

The field defines the argument of `PreparePipeline` and `prepare`, the key in the configuration file
and the provenance, and the command-line option with its help. numpy is not imported here, so that
the command line starts quickly.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from typing import Any, TypeVar

from sensorseq.errors import ArgumentError
from sensorseq.options import CSV_FORM, SAID, Option, ReadOptions, entries_of, option_field

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sections of the configuration file, in the order in which they are written.
SECTIONS = ("input", "resample", "derive", "steps", "window", "split", "scale", "balance")

READ_AS_IN_TRAINING = ("time_column", "time_unit", *CSV_FORM, "sample_rate_hz", "label_column")
"""What may differ between the recordings of training and those to be predicted."""
# None, or "none" in a file or command, disables these
CAN_BE_OFF = ("split", "normalize", "scale", "balance", "derive")


def _shares(split: str) -> list[float] | str:
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

    Those about files and channels are in `ReadOptions`.

    Parameters
    ----------
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
        For ``"majority"``: the share of its samples that must have a window's label.
    short : {"drop", "pad", "error"}, default="drop"
        A recording shorter than a window is left out and counted, padded, or an error.
    train_hop_s : float, optional
        Seconds between the starts of training windows, if they should overlap more than validation
        and test windows; `hop_s` by default.
    train_phase : {"grid", "random"}, default="grid"
        random: the grid of training windows starts at a random offset in each recording.
    native_rates : bool, optional
        Keep each of several sensors (files joined by `pair`, or topics of robot logs) at its own
        rate, instead of resampling all to one. Windows then begin at the multiples of the hop on
        the recording's clock, and the result is SensorWindows.
    slop_s : float, optional
        For `native_rates`: how many seconds the windows of two sensors may begin apart. By default
        a tenth of the hop, or the longest period of a sensor if that is more.
    missing : {"error", "expected"}, optional
        For `native_rates`: what to do where a sensor is missing. error, the default: a recording
        without it is refused, and windows without it are left out. expected: they are kept, with
        NaN.
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
    normalize : {"recording"} or None, default=None
        recording: before windows are cut, each channel of a recording gets mean 0 and standard
        deviation 1, by the recording's own statistics. A model then takes whole recordings only.
    scale : str or None, default="standard"
        standard, robust, min_max, max_abs, quantile or physical; see `ChannelScaler`.
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
        help="With --native-rates: how far apart the windows of two sensors may begin"
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
        read=_shares,
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


# In Python one docstring has both entries; here only the rate's entry is useful.
_ENTRIES = SAID | entries_of(PreparationOptions.__doc__)
_INTRODUCTION = inspect.cleandoc(PreparationOptions.__doc__ or "").partition("---\n")
PreparationOptions.__doc__ = "".join([*_INTRODUCTION[:2], *_ENTRIES.values()])

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


def takes_options(names: Iterable[str], default: Any = MISSING) -> Callable[[_Function], _Function]:
    """Give a function that takes ``**options`` a signature with these options.

    Each has its own default, unless `default` is given for all.
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
    """Return a docstring with the entries of these options instead of ``**options``."""
    if docstring is None:
        return None
    wanted = set(names)
    entries = entries_of(PreparationOptions.__doc__)
    chosen = [entry for name, entry in entries.items() if name in wanted]
    own = inspect.cleandoc(docstring)
    return re.sub(r"^\*\*options\n(?:    .*\n)+", lambda _: "".join(chosen), own, flags=re.M)
