"""The plan of a preparation: its checked options, the same in memory and in files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sensorseq.base.checks import check_positive
from sensorseq.base.text import number
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing.configuration import configuration_of
from sensorseq.preprocessing.cutting import CutOptions, RecordingPlan
from sensorseq.preprocessing.options import CAN_BE_OFF, OPTIONS, PreparationOptions
from sensorseq.preprocessing.scale import KINDS, PHYSICAL
from sensorseq.preprocessing.split import check_fractions
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.windowing.balance import STRATEGIES
from sensorseq.recording import Recording
from sensorseq.sensor_windows import MISSING
from sensorseq.windows import WindowSet

SPLIT_BY = ("group", "recording", "time")
# Options that cannot be combined with `native_rates`, and the reason or an alternative.
_OF_ONE_RATE = {
    "sample_rate_hz": "each sensor keeps its own rate",
    "steps": "a step is for the channels of one sensor, so prepare that sensor alone",
    "train_hop_s": "use a shorter hop_s",
    "balance": "balance the classes in training, with sampler='balanced'",
    "label_column": "label the recordings by folders or a manifest",
}


@dataclass(frozen=True)
class PreparationPlan(RecordingPlan):
    """How each recording is processed, and the options of the split, scaling and balancing."""

    learning: PreparationOptions

    @classmethod
    def of(cls, options: PreparationOptions) -> "PreparationPlan":
        """Check the options, and return their plan."""
        _check_native_rates(options)
        names = (each.name for each in fields(CutOptions) if each.name != "held")
        cut = CutOptions(**{name: getattr(options, name) for name in names})
        _check_learning(options)
        return cls(cut, make_steps(options.steps), options)

    @property
    def configuration(self) -> dict[str, Any]:
        """The options as plain types, in sections as in a configuration file.

        Local paths are left out.
        """
        use = {name: getattr(self.learning, name) for name in OPTIONS}
        use["steps"] = [step.to_dict() for step in self.steps]
        for name in ("split", "scale", "balance"):
            use[name] = "none" if use[name] is None else use[name]
        for name, kind in (("split", float), ("channels", str), ("exclude", str)):
            if use[name] is not None and use[name] != "none":
                use[name] = list(map(kind, use[name]))
        use["exclude"] = use["exclude"] or None
        if not isinstance(use["manifest"], bool | None):
            use["manifest"] = Path(use["manifest"]).name
        return configuration_of(use)

    @property
    def cuts_training_separately(self) -> bool:
        """True if training windows have their own hop."""
        return self.learning.train_hop_s is not None

    def training_windows(self, pieces: Iterable[Recording], sample_rate_hz: float) -> WindowSet:
        """Cut pieces into windows with the hop for training windows."""
        return self.windows(pieces, sample_rate_hz, hop_s=self.learning.train_hop_s)


def make_options(values: Mapping[str, Any]) -> PreparationOptions:
    """Return options with plain numbers, in which "none" turned off what can be off."""
    if values.get("window_s") is None:
        raise ArgumentError("window_s is not given; give the window length in seconds.")
    use = {name: _plain(value) for name, value in values.items()}
    for name in CAN_BE_OFF:
        if isinstance(use.get(name), str) and use[name].strip().lower() == "none":
            use[name] = None
    if isinstance(use.get("split"), str):
        raise ArgumentError(f'split={use["split"]!r}: give three fractions, or "none".')
    return PreparationOptions(**use)


def _plain(value: Any) -> Any:
    """Convert numpy numbers, alone or in a mapping, to Python numbers, for storage in files."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return number(value)


def _check_native_rates(use: PreparationOptions) -> None:
    """Raise an ArgumentError if some options cannot be combined with `native_rates`."""
    if not use.native_rates:
        for name in ("slop_s", "missing"):
            if getattr(use, name) is not None:
                raise ArgumentError(f"{name}={getattr(use, name)!r} needs native_rates=True.")
        return
    check_choice("missing", use.missing or "error", MISSING)
    for name, way in _OF_ONE_RATE.items():
        if getattr(use, name) not in (None, (), []):
            raise ArgumentError(f"{name} cannot be combined with native_rates=True: {way}.")
    hop_s = use.window_s if use.hop_s is None else use.hop_s
    if use.slop_s is not None and not 0 < use.slop_s < hop_s / 2:
        raise ArgumentError(
            f"slop_s={use.slop_s!r} must be above 0 and less than half of the {hop_s:g} s between"
            " windows."
        )
    if use.split_by == "time":
        raise ArgumentError('split_by="time" cannot be combined with native_rates=True.')


def _check_learning(options: PreparationOptions) -> None:
    if options.train_hop_s is not None:
        check_positive("train_hop_s", options.train_hop_s)
        if options.split_by == "time":
            raise ArgumentError(
                'train_hop_s cannot be combined with split_by="time", because training windows'
                ' would reach into the embargo. Use split_by="group", or remove train_hop_s.'
            )
        if options.split is None:
            raise ArgumentError(
                f"train_hop_s={options.train_hop_s!r} applies to training windows, but without a"
                " split there are none; remove it."
            )
    if options.split is not None:
        check_fractions(options.split)
    check_choice("split_by", options.split_by, SPLIT_BY)
    if options.split_by == "time" and options.normalize is not None:
        raise ArgumentError(
            'split_by="time" cannot be combined with normalize, whose statistics would come from'
            " all parts of a recording."
        )
    if options.embargo_s is not None:
        if options.split_by != "time":
            raise ArgumentError(
                f"embargo_s={options.embargo_s!r} applies only to a split by time; use"
                ' split_by="time", or remove embargo_s.'
            )
        if options.embargo_s != 0:
            check_positive("embargo_s", options.embargo_s)
    if options.scale is not None:
        check_choice("scale", options.scale, (*KINDS, PHYSICAL))
    if (options.rated is None) == (options.scale == PHYSICAL):
        raise ArgumentError(
            'scale="physical" and rated={"curL": 20.0, ...} must be given together. In a'
            " configuration file, rated is a key of section [scale]."
        )
    if options.balance is not None:
        check_choice("balance", options.balance, STRATEGIES)
        if options.split is None:
            raise ArgumentError(
                f"balance={options.balance!r} needs a split, because only training windows may be"
                " balanced."
            )
    elif options.max_per_recording is not None:
        raise ArgumentError(
            f"max_per_recording={options.max_per_recording!r} needs `balance`, which is not given."
        )
