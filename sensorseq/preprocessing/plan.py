"""Determine the results that depend on all recordings: the split, the scaler and the balancing.

Preparation in memory and preparation to files both use this module.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_positive, check_unlabeled
from sensorseq.base.text import number
from sensorseq.errors import (
    ArgumentError,
    RecordingError,
    SplitError,
    WindowError,
    check_choice,
    noting,
    warn_caller,
)
from sensorseq.preprocessing.configuration import configuration_of
from sensorseq.preprocessing.cutting import CutOptions, RecordingPlan
from sensorseq.preprocessing.options import CAN_BE_OFF, OPTIONS, PreparationOptions
from sensorseq.preprocessing.parts import with_separate_training_windows
from sensorseq.preprocessing.resample import StreamResampler
from sensorseq.preprocessing.scale import (
    KINDS,
    PHYSICAL,
    Scaler,
    draw_of,
    fit_scaler_to_blocks,
)
from sensorseq.preprocessing.split import (
    check_fractions,
    describe_split,
    split_by_group,
    split_by_time,
)
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.subjects import note_subjects
from sensorseq.preprocessing.windowing.balance import STRATEGIES, balance_indices
from sensorseq.preprocessing.windowing.label_channels import (
    describe_label_channels,
    find_label_channels,
)
from sensorseq.recording import Channel, Recording
from sensorseq.sensor_windows import MISSING
from sensorseq.windows import WindowSet

SPLIT_BY = ("group", "recording", "time")
# Options that `native_rates` restricts: the only allowed value, and the reason or an alternative.
_OF_ONE = {
    "sample_rate_hz": (None, "each sensor keeps its own rate"),
    "steps": (None, "a step is for the channels of one sensor, so prepare that sensor alone"),
    "train_hop_s": (None, "use a shorter hop_s"),
    "balance": (None, "balance the classes in training, with sampler='balanced'"),
    "label_column": (None, "label the recordings by folders or a manifest"),
}
SAME_RATE = 1e-3  # rates that differ by less are treated as equal, because timestamps are rounded


@dataclass(frozen=True, eq=False)
class Learned:
    """The windows that the split keeps, and the results of fitting on the training windows."""

    windows: WindowSet
    scaler: Scaler | None = None
    # Indices of the training windows to fit on, balanced if `balance` is set.
    sample_indices: NDArray[np.int64] | None = None
    facts: dict[str, Any] = field(
        default_factory=dict
    )  # entries of the provenance, such as a description of the split


@dataclass(frozen=True)
class PreparationPlan(RecordingPlan):
    """How each recording is processed, and how the split, scaler and balancing are determined."""

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
                use[name] = list(map(kind, use[name])) or None
        use["rated"] = _lists(use["rated"])
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

    def lookahead_s(
        self, channels: tuple[Channel, ...], rates_hz: Iterable[float], sample_rate_hz: float
    ) -> float:
        """Return how many seconds of signal after the end of a window may affect its samples.

        The result is 0 unless the split is by time. Otherwise, it is the sum of the lookaheads of
        the resampling filter, if the rate changes, and of steps with ``phase="zero"``. For several
        rates, the longest lookahead counts; a rate of NaN is unknown.
        """
        if self.learning.split_by != "time":
            return 0.0
        resampling = [
            StreamResampler(
                rate, sample_rate_hz, 1, attenuation_db=self.learning.attenuation_db
            ).latency_s
            for rate in set(rates_hz)
            if np.isfinite(rate) and abs(rate / sample_rate_hz - 1) > SAME_RATE
        ]
        steps = StepChain(self.steps).stream(channels, sample_rate_hz)
        return max(resampling, default=0.0) + steps.latency_s

    def learn(
        self,
        windows: WindowSet,
        lookahead_s: float,
        decided: NDArray[np.str_] | None = None,
        group_of: Mapping[str, str] | None = None,
        *,
        allow_constant: bool = False,
    ) -> Learned:
        """Split the windows, then fit the scaler and the balancing to the training part.

        The samples of `windows`, from `windows_in`, are read one recording at a time. `lookahead_s`
        is how far filters look beyond the end of a window; the embargo must be at least this long.
        `decided` contains
        the part of each window that is already in a part, and ``""`` for other windows. Constant
        channels that reveal the class raise an error unless `allow_constant` is True. `group_of`
        maps recordings that cover the same time to a group, which a split by recording keeps
        together.
        """
        if windows.y is not None:
            check_unlabeled(windows.y, "the class", labels_way_out=True)
        if self.learning.split is None:
            if not allow_constant:
                self._refuse_label_channels(windows, None)
            return Learned(windows)
        shares = tuple(float(share) for share in self.learning.split)
        groups, recording_id = np.asarray(windows.groups), np.asarray(windows.recording_id)
        together = groups
        if self.learning.split_by != "group":
            group_of, ids = group_of or {}, recording_id.tolist()
            together = np.array([group_of.get(name, name) for name in ids])
        split = self._assign_parts(windows, together, shares, lookahead_s, decided)
        evenness: dict[str, Any] = describe_split(windows.y, together, split, shares)
        if self.learning.split_by != "time":  # a split by time puts each recording into all parts
            evenness |= note_subjects(windows.y, groups, recording_id, split)
        if self.cuts_training_separately:
            windows, split = with_separate_training_windows(windows, split)
            _check_separate_training(split, windows.y)
        # Fit only on windows that belong to a part.
        windows, split = windows.take(split != ""), split[split != ""]
        windows = windows.with_split(split)
        if not allow_constant:
            self._refuse_label_channels(windows, split)
        train = np.flatnonzero(split == "train")
        scaler = self._fit_scaler(windows, train)
        constant = [windows.channels[position] for position in scaler.constant_channels]
        facts = {"split": evenness, "constant_channels": constant}
        facts |= draw_of(self.learning.scale, int(np.asarray(windows.lengths)[train].sum()))
        return Learned(windows, scaler, self._choose_rows(train, windows), facts)

    def _assign_parts(
        self,
        windows: WindowSet,
        together: NDArray[Any],
        shares: tuple[float, ...],
        lookahead_s: float,
        decided: NDArray[np.str_] | None,
    ) -> NDArray[np.str_]:
        window_s = self.learning.window_s
        if self.learning.split_by == "time":
            given_s = self.learning.embargo_s
            embargo_s = window_s + lookahead_s if given_s is None else given_s
            if embargo_s < lookahead_s:
                raise SplitError(
                    f"embargo_s={embargo_s:g} is shorter than the {lookahead_s:.3g} s that"
                    " resampling and steps look ahead, so windows of one part would depend on"
                    " samples of the next. Use a longer embargo_s, phase='causal', or the"
                    " recordings' own sample rate."
                )
            times = np.asarray(windows.recording_id), np.asarray(windows.start_s)
            return split_by_time(*times, window_s, shares, embargo_s, windows.y, decided)
        return split_by_group(windows.y, together, shares, self.learning.random_state, decided)

    def _refuse_label_channels(self, windows: WindowSet, split: NDArray[np.str_] | None) -> None:
        """Raise an error if constant channels reveal the class; warn if that is uncertain."""
        if windows.y is None:
            return
        recording_id, lengths = np.asarray(windows.recording_id), np.asarray(windows.lengths)
        label_channels = find_label_channels(
            partial(_blocks, windows), windows.y, recording_id, lengths, split
        )
        if label_channels is None:
            return
        other_names = [
            name
            for place, name in enumerate(windows.channels)
            if place not in label_channels.channels
        ]
        is_short = 0 < len(other_names) <= 12 and not re.search(r"[][,]", "".join(other_names))
        way = "name the others with `channels`"
        if self.learning.native_rates:
            way = "remove the column from the recordings"
        elif is_short and not self.steps:
            way = f"name the others with channels={other_names!r}"
        words = describe_label_channels(
            [windows.channels[at] for at in label_channels.channels], label_channels
        )
        it = "it" if len(label_channels.channels) == 1 else "them"
        words += f" To leave {it} out, {way}"
        if label_channels.is_certain:
            raise WindowError(f"{words}; to keep {it}, use allow_constant=True (--allow-constant).")
        warn_caller(f"{words}.")

    def _fit_scaler(self, windows: WindowSet, train: NDArray[np.int64]) -> Scaler:
        channels = windows.channels

        def with_lengths() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
            lengths, at = np.asarray(windows.lengths)[train], 0
            for block in _blocks(windows, train):
                yield block, lengths[at : at + len(block)]
                at += len(block)

        return fit_scaler_to_blocks(
            with_lengths, self.learning.scale, rated=self.learning.rated, channels=channels
        )

    def _choose_rows(self, train: NDArray[np.int64], windows: WindowSet) -> NDArray[np.int64]:
        if self.learning.balance is None:
            return train
        if windows.y is None:
            raise RecordingError(
                f"balance={self.learning.balance!r} needs labels, but the recordings have none."
            )
        with noting("in the training part", WindowError):
            chosen = balance_indices(
                windows.y[train],
                np.asarray(windows.groups)[train],
                self.learning.balance,
                self.learning.random_state,
                recording_id=np.asarray(windows.recording_id)[train],
                max_per_recording=self.learning.max_per_recording,
            )
        return train[chosen]


def _blocks(windows: WindowSet, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of the windows at increasing indices, in blocks."""
    samples: Any = windows.X
    yield from samples.blocks(rows)


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


def _lists(value: Any) -> Any:
    """Convert nested tuples to lists, and mappings to dictionaries."""
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value


def _check_native_rates(use: PreparationOptions) -> None:
    """Raise an ArgumentError if some options cannot be combined with `native_rates`."""
    if not use.native_rates:
        for name in ("slop_s", "missing"):
            if getattr(use, name) is not None:
                raise ArgumentError(f"{name}={getattr(use, name)!r} needs native_rates=True.")
        return
    check_choice("missing", use.missing or "error", MISSING)
    for name, (only, way) in _OF_ONE.items():
        value = getattr(use, name)
        if value != only and value not in ((), []):
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


def _check_separate_training(split: NDArray[np.str_], y: NDArray[Any] | None) -> None:
    """Raise an error if there are no separately cut training windows, or if they lack a class."""
    label = np.zeros(len(split)) if y is None else y
    lacking = np.setdiff1d(label, label[split == "train"])
    if lacking.size:
        of = "" if y is None else f" of class {lacking.tolist()[0]!r}"
        raise WindowError(
            f"train_hop_s leaves no training window{of}, although the default grid has some. Use a"
            " shorter train_hop_s, or remove it."
        )
