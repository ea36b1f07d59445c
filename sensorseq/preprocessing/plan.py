"""The processing of each recording, then of all together: split, scaler and balance.

Shared by preparation in memory and to files.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_positive
from sensorseq.errors import (
    ArgumentError,
    RecordingError,
    SplitError,
    WindowError,
    check_choice,
    noting,
)
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.resample.polyphase import check_engine
from sensorseq.preprocessing.resample.regrid import bridging_gap_s
from sensorseq.preprocessing.resample.signal import StreamResampler, resample_recording
from sensorseq.preprocessing.scale.keyed import KeyedScaler, check_per, rows_by_key
from sensorseq.preprocessing.scale.scaler import KINDS, PHYSICAL, Scaler, fit_scaler_to_blocks
from sensorseq.preprocessing.split.parts import (
    check_fractions,
    describe_split,
    split_by_group,
    split_by_time,
)
from sensorseq.preprocessing.steps import Step, StepChain
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.windows.augment import make_augmentation
from sensorseq.preprocessing.windows.balance import STRATEGIES, balance_indices
from sensorseq.preprocessing.windows.cut import (
    check_window_choices,
    window_recordings,
    window_samples,
)
from sensorseq.recording import Channel, Recording, sample_rate_of
from sensorseq.windows import WindowSet

SPLIT_BY = ("group", "recording", "time")
MOST_UPSAMPLED = 95.0  # largest factor of upsampling; more suggests a wrong time unit
SLIGHTLY_MORE = 1.05  # with few samples, counting the first one matters
SAME_RATE = 1e-3  # rates that differ by less are treated as equal, because timestamps are rounded


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Facts about each window, without its samples; `start_s` is on its recording's clock."""

    y: NDArray[Any] | None
    groups: NDArray[Any]
    recording_id: NDArray[Any]
    start_s: NDArray[np.float64]
    lengths: NDArray[np.int64]

    def keep(self, mask: NDArray[np.bool_]) -> "WindowTable":
        """Return the facts about the windows selected by a mask."""
        kept: dict[str, Any] = {
            name: None if values is None else values[mask] for name, values in vars(self).items()
        }
        return WindowTable(**kept)


class _CutWindows(Protocol):
    """Interface of the windows of all recordings, in memory or in files.

    `blocks` yields the samples of the windows at increasing positions. `with_training_anew`
    replaces the windows of the training part by separately cut ones, and also returns each window's
    part.
    """

    @property
    def table(self) -> WindowTable: ...

    @property
    def channels(self) -> tuple[str, ...]: ...

    def blocks(self, rows: NDArray[np.int64]) -> Iterable[NDArray[np.float32]]: ...

    def keep(self, mask: NDArray[np.bool_]) -> Self: ...

    def with_training_anew(self, split: NDArray[np.str_]) -> tuple[Self, NDArray[np.str_]]: ...


_Windows = TypeVar("_Windows", bound=_CutWindows)


@dataclass(frozen=True, eq=False)
class Learned(Generic[_Windows]):
    """The windows that the split keeps, and the results of fitting on their training part."""

    windows: _Windows
    split: NDArray[np.str_] | None = None
    scaler: Scaler | KeyedScaler | None = None
    # Training windows for fitting, balanced if configured.
    sample_indices: NDArray[np.int64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # evenness of the parts, constant channels


@dataclass(frozen=True)
class PreparationPlan:
    """The processing of each recording, and of all of them together.

    `steps` are those of the options, or derived ones.
    """

    options: PreparationOptions
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, options: PreparationOptions) -> "PreparationPlan":
        """Build the plan for checked options."""
        check_positive("window_s", options.window_s)
        if options.sample_rate_hz is not None:
            check_positive("sample_rate_hz", options.sample_rate_hz)
        for name in ("hop_s", "max_gap_s", "train_hop_s"):
            if getattr(options, name) is not None:
                check_positive(name, getattr(options, name))
        check_engine(options.resample_engine, options.attenuation_db)
        check_window_choices(
            options.label_rule, options.min_purity, options.short, options.train_phase
        )
        if isinstance(options.channels, str):
            raise ArgumentError(f"channels={options.channels!r} is a string; give a list of names.")
        _check_learning(options)
        return cls(options, make_steps(options.steps))

    @property
    def cuts_training_anew(self) -> bool:
        """Whether training windows are cut separately."""
        return self.options.train_hop_s is not None or self.options.train_phase != "grid"

    def select(self, recording: Recording) -> Recording:
        """Return the recording with only the plan's channels, in their order."""
        channels = self.options.channels
        return recording if channels is None else recording.select(channels)

    def window_rate_hz(self, sample_rate_hz: float) -> float:
        """Return the rate of windows cut from recordings resampled to `sample_rate_hz`."""
        return StepChain(self.steps).output_rate_hz(sample_rate_hz)

    def window_samples(self, sample_rate_hz: float) -> int:
        """Return the window length in samples for a recording rate."""
        return window_samples(self.options.window_s, self.window_rate_hz(sample_rate_hz))

    def pieces(self, recording: Recording, sample_rate_hz: float) -> list[Recording]:
        """Resample a recording, cut it at gaps, and apply the steps to each piece.

        If all channels are never known at the same time, the result is one empty piece, so that the
        recording is counted.
        """
        own_rate = sample_rate_of(recording)
        is_given = self.options.sample_rate_hz is not None
        if is_given and sample_rate_hz > MOST_UPSAMPLED * own_rate:
            raise RecordingError(
                f"recording {recording.recording_id!r} has {own_rate:.4g} samples a second:"
                f" sample_rate_hz={sample_rate_hz:g} is {sample_rate_hz / own_rate:.0f} times as"
                f" many, and none of them would be new. Use sample_rate_hz={own_rate:.4g}, or check"
                " the unit of the time stamps (time_unit)."
            )
        pieces = resample_recording(
            recording,
            sample_rate_hz,
            self.options.max_gap_s,
            engine=self.options.resample_engine,
            attenuation_db=self.options.attenuation_db,
        )
        bridged = self._bridged(recording, pieces)
        if not pieces:
            channels = StepChain(self.steps).output_channels(recording.channels, sample_rate_hz)
            none, never = np.empty((0, len(channels))), np.empty(0)
            empty = replace(recording, values=none, timestamps_s=never, channels=channels)
            return [replace(empty, attributes={**empty.attributes, **bridged})]
        if bridged:
            pieces = [replace(p, attributes={**p.attributes, **bridged}) for p in pieces]
        rate = sample_rate_hz
        for index, step in enumerate(self.steps):
            where = f"in steps[{index}] ({step.kind}) of recording {recording.recording_id!r}"
            with noting(where):
                pieces = [step.apply(piece, rate) for piece in pieces]
                rate = step.output_rate_hz(rate)
        return pieces

    def _bridged(self, recording: Recording, pieces: Sequence[Recording]) -> dict[str, float]:
        """Return the ``bridging_gap_s`` of a recording if gaps leave too little of it."""
        window_s, duration_s = self.options.window_s, recording.duration_s
        kept_s = sum(p.duration_s for p in pieces if p.duration_s * SLIGHTLY_MORE >= window_s)
        if duration_s < window_s or kept_s >= duration_s / 2:
            return {}
        gap_s = bridging_gap_s(recording.timestamps_s, recording.values, window_s)
        return {"bridging_gap_s": gap_s}

    def windows(
        self,
        pieces: Iterable[Recording],
        sample_rate_hz: float,
        *,
        check_classes: bool = False,
        training: bool = False,
    ) -> WindowSet:
        """Cut pieces into windows on the grid, or into training windows; there may be none."""
        use = self.options
        hop_s = use.train_hop_s if training and use.train_hop_s is not None else use.hop_s
        return window_recordings(
            pieces,
            use.window_s,
            hop_s,
            sample_rate_hz=self.window_rate_hz(sample_rate_hz),
            label_rule=use.label_rule,
            min_purity=use.min_purity,
            short=use.short,
            phase=use.train_phase if training else "grid",
            random_state=use.random_state,
            check_classes=check_classes,
        )

    def lookahead_s(
        self, channels: tuple[Channel, ...], rates_hz: Iterable[float], sample_rate_hz: float
    ) -> float:
        """Return how many seconds of later samples a sample of a window may depend on.

        Only a split by time needs this. It is the sum over the resampling filter, if the rate
        changes, and steps with ``phase="zero"``; and the maximum over recordings with these rates
        (NaN: unknown) and channels.
        """
        if self.options.split_by != "time":
            return 0.0
        resampling = [
            StreamResampler(
                rate, sample_rate_hz, 1, attenuation_db=self.options.attenuation_db
            ).latency_s
            for rate in set(rates_hz)
            if np.isfinite(rate) and abs(rate / sample_rate_hz - 1) > SAME_RATE
        ]
        steps = StepChain(self.steps).stream(channels, sample_rate_hz)
        return max(resampling, default=0.0) + steps.latency_s

    def learn(
        self, windows: _Windows, lookahead_s: float, known: NDArray[np.str_] | None = None
    ) -> Learned[_Windows]:
        """Split the windows, then fit scaler and balance to the training part.

        `lookahead_s` is how far filters look beyond the end of a window; the embargo must be at
        least this long. `known` has the parts that are already decided, and ``""`` for the rest.
        """
        if self.options.split is None:
            return Learned(windows)
        shares = tuple(float(share) for share in self.options.split)
        split = self._assign_parts(windows.table, shares, lookahead_s, known)
        table = windows.table
        together = table.groups if self.options.split_by == "group" else table.recording_id
        evenness = describe_split(table.y, together, split, shares)
        if self.cuts_training_anew:
            windows, split = windows.with_training_anew(split)
            _check_training_anew(split, windows.table.y)
        # Fit only on windows that are written, after others were left out.
        windows, split = windows.keep(split != ""), split[split != ""]
        train = np.flatnonzero(split == "train")
        scaler = self._fit_scaler(windows, train)
        constant = [windows.channels[position] for position in scaler.constant_channels]
        facts = {"split": evenness, "constant_channels": constant}
        return Learned(windows, split, scaler, self._choose_rows(train, windows.table), facts)

    def _assign_parts(
        self,
        table: WindowTable,
        shares: tuple[float, ...],
        lookahead_s: float,
        known: NDArray[np.str_] | None,
    ) -> NDArray[np.str_]:
        window_s = self.options.window_s
        if self.options.split_by == "time":
            embargo_s = (
                window_s + lookahead_s if self.options.embargo_s is None else self.options.embargo_s
            )
            if embargo_s < lookahead_s:
                raise SplitError(
                    f"embargo_s={embargo_s:g} is shorter than the {lookahead_s:.3g} s that"
                    " resampling and steps look ahead, so windows of one part would contain samples"
                    " of the next. Use a longer embargo_s, phase='causal', or the recordings' own"
                    " sample rate."
                )
            return split_by_time(
                table.recording_id, table.start_s, window_s, shares, embargo_s, table.y, known
            )
        return split_by_group(
            table.y,
            table.recording_id if self.options.split_by == "recording" else table.groups,
            shares,
            self.options.random_state,
            known,
        )

    def _fit_scaler(self, windows: _CutWindows, train: NDArray[np.int64]) -> Scaler | KeyedScaler:
        table, channels = windows.table, windows.channels
        if self.options.augmentation is not None:  # its channels are known only now
            make_augmentation(self.options.augmentation).with_indices(len(channels), channels)

        def scaler_of(rows: NDArray[np.int64]) -> Scaler:
            def with_lengths() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
                own, at = table.lengths[rows], 0
                for block in windows.blocks(rows):
                    yield block, own[at : at + len(block)]
                    at += len(block)

            return fit_scaler_to_blocks(
                with_lengths, self.options.scale, rated=self.options.rated, channels=channels
            )

        if self.options.scale_per == "all":
            return scaler_of(train)
        keys = table.recording_id if self.options.scale_per == "recording" else table.groups
        rows_of = rows_by_key(keys[train], len(train), self.options.scale_per)
        return KeyedScaler(
            str(self.options.scale),
            self.options.scale_per,
            {key: scaler_of(train[rows]) for key, rows in rows_of.items()},
            len(channels),
        )

    def _choose_rows(self, train: NDArray[np.int64], table: WindowTable) -> NDArray[np.int64]:
        if self.options.balance is None:
            return train
        if table.y is None:
            raise RecordingError(
                f"balance={self.options.balance!r} needs labels, but the recordings have none."
            )
        with noting("in the training part", WindowError):
            chosen = balance_indices(
                table.y[train],
                table.groups[train],
                self.options.balance,
                self.options.random_state,
                recording_id=table.recording_id[train],
                max_per_recording=self.options.max_per_recording,
            )
        return train[chosen]


def _check_learning(options: PreparationOptions) -> None:
    if options.split is not None:
        check_fractions(options.split)
    check_choice("split_by", options.split_by, SPLIT_BY)
    if options.embargo_s is not None:
        if options.split_by != "time":
            raise ArgumentError(
                f"embargo_s={options.embargo_s!r} only applies to a split by time; use"
                ' split_by="time", or remove embargo_s.'
            )
        if options.embargo_s != 0:
            check_positive("embargo_s", options.embargo_s)
    if options.scale is not None:
        check_choice("scale", options.scale, (*KINDS, PHYSICAL))
    check_per(options.scale_per, options.scale)
    if (options.rated is None) == (options.scale == PHYSICAL):
        raise ArgumentError(
            'scale="physical" and rated={"curL": 20.0, ...} must be given together. In a'
            " configuration file, rated is a key of section [scale]."
        )
    if options.balance is not None:
        check_choice("balance", options.balance, STRATEGIES)
        if options.split is None:
            raise ArgumentError(
                f"balance={options.balance!r} needs a split: only training windows may be balanced."
            )
    elif options.max_per_recording is not None:
        raise ArgumentError(
            f"max_per_recording={options.max_per_recording!r} needs `balance`, which is not given."
        )
    if options.augmentation is not None:
        make_augmentation(options.augmentation)
        if options.balance != "oversample":
            raise ArgumentError(
                "augmentation changes the copies made by oversampling; it needs"
                f' balance="oversample", but balance is {options.balance!r}.'
            )


def describe_cut(recording: Recording, pieces: Sequence[Recording]) -> dict[str, Any]:
    """Return facts about a recording's processing before windows were cut, as plain values."""
    facts: dict[str, Any] = {"n_samples": recording.n_samples}
    if "repaired_stamps" in recording.attributes:
        facts["repaired_stamps"] = recording.attributes["repaired_stamps"]
    if "clock" in recording.attributes:
        facts["clock"] = recording.attributes["clock"]
    filled: list[Any] = [
        piece.attributes["resampled"] for piece in pieces if "resampled" in piece.attributes
    ]
    if "bridging_gap_s" in pieces[0].attributes:
        facts["bridging_gap_s"] = pieces[0].attributes["bridging_gap_s"]
    facts["n_pieces"] = len(filled)
    facts["n_holes_filled"] = sum(int(piece["n_holes_filled"]) for piece in filled)
    return facts


def _check_training_anew(split: NDArray[np.str_], y: NDArray[Any] | None) -> None:
    """Raise if separately cut training windows lack a class or do not exist."""
    label = np.zeros(len(split)) if y is None else y
    lacking = np.setdiff1d(label, label[split == "train"])
    if lacking.size:
        of = "" if y is None else f" of class {lacking.tolist()[0]!r}"
        raise WindowError(
            f"train_hop_s and train_phase leave no training window{of}, although the default grid"
            ' has some. Use a shorter train_hop_s, train_phase="grid", or remove both.'
        )
