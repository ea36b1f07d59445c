"""The steps of every preparation, from cut recordings to windows with a split and a scaler.

`PreparePipeline` takes them with recordings in memory, `sensorseq.prepare` with part files.
"""

import importlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_unlabeled
from sensorseq.errors import RecordingError, SplitError, WindowError, noting, warn_caller
from sensorseq.preprocessing.cut_recording import Facts
from sensorseq.preprocessing.held import held_channels, held_in
from sensorseq.preprocessing.odd import (
    describe_odd_values,
    odd_rates,
    odd_scale_error,
    odd_units,
    unit_text,
)
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.parts import Part, windows_in, with_separate_training_windows
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.resample import StreamResampler
from sensorseq.preprocessing.scale import Scaler, draw_of, fit_scaler_to_blocks
from sensorseq.preprocessing.simultaneous import find_simultaneous, sets_by_name
from sensorseq.preprocessing.split import describe_split, split_by_group, split_by_time
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.subjects import note_subjects
from sensorseq.preprocessing.windowing.balance import balance_indices
from sensorseq.preprocessing.windowing.label_channels import (
    describe_label_channels,
    find_label_channels,
)
from sensorseq.preprocessing.windowing.label_rules import MIN_PURITY, check_class_fates
from sensorseq.recording import Channel
from sensorseq.windows import WindowSet

Refuse = Callable[[Facts, RecordingError], None]
"""A function that raises the error about a recording, or notes it and leaves the recording out."""

_DECIDED = "groups in the file keep their part; without `resume`, all groups are split again"
SAME_RATE = 1e-3  # rates that differ by less are treated as equal, because timestamps are rounded
_T = TypeVar("_T")


def refuse_odd_rates(names: Sequence[str], rates_hz: Sequence[float]) -> None:
    """Raise an error if the rate of a recording suggests a wrong unit of time.

    Rates are compared before recordings are cut, because such a rate may be 1000 times too high.
    """
    for at, text in odd_rates(rates_hz, [""] * len(names)).items():
        raise odd_scale_error(names[at], [text])


def find_odd_scales(facts: Sequence[Facts]) -> dict[int, list[str]]:
    """Describe recordings that differ in a unit or contain only zeros, by position in `facts`."""
    texts: dict[int, list[str]] = defaultdict(list)
    units = [str((recording.clock or {}).get("unit", "s")) for recording in facts]
    for at, text in odd_rates([recording.sample_rate_hz for recording in facts], units).items():
        texts[at].append(text)
    labels = [", ".join(recording.labels) for recording in facts]
    for at, channel, ratio in odd_units(labels, [recording.scales or {} for recording in facts]):
        texts[at].append(unit_text(channel, ratio, labels[at]))
    for at, recording in enumerate(facts):
        if 0 < recording.n_windows == recording.n_zero_windows:
            texts[at].append("all its samples are zero")
    return texts


def cut_alike(
    plan: PreparationPlan, cut: Callable[[PreparationPlan], list[tuple[Facts, _T]]]
) -> tuple[list[tuple[Facts, _T]], list[str]]:
    """Cut all recordings so that each channel is held in all of them or in none.

    `cut` cuts all recordings by a plan. Return its results, and the channels that are held.
    """
    outcomes = cut(plan)
    if plan.options.held is not None:
        return outcomes, plan.options.held
    slow = {facts.recording_id: facts.slow for facts, _ in outcomes}
    held = held_channels(slow)
    if any(held_in(of, None) - held_in(of, held) for of in slow.values()):  # held by some alone
        outcomes = cut(replace(plan, options=replace(plan.options, held=held)))
    return outcomes, held


@dataclass(frozen=True, eq=False)
class Learned:
    """The windows that the split keeps, and the results of fitting on the training windows."""

    windows: WindowSet
    scaler: Scaler | None = None
    # Indices of the training windows to fit on, balanced if `balance` is set.
    sample_indices: NDArray[np.int64] | None = None
    simultaneous: str = ""  # a sentence about recordings that cover the same time


@dataclass(frozen=True)
class CutRecordings:
    """The facts about all recordings that were cut, and how they were cut."""

    plan: PreparationPlan
    facts: list[Facts]
    rate_hz: float
    rate_from: str
    held: list[str]
    # Channels of windows and recordings, if a file that is extended determines them.
    channels: tuple[str, ...] = ()
    input_channels: tuple[str, ...] = ()

    def usual(self, refuse: Refuse, *, allow_scales: bool) -> tuple[list[Facts], list[str]]:
        """Return the recordings to use, and descriptions of allowed recordings with odd scales.

        These recordings have windows, and the channels and scales of most recordings.
        """
        facts = self._with_usual_channels(refuse)
        odd = find_odd_scales(facts)
        if allow_scales:
            return facts, [f"{facts[at].name}: {'; '.join(odd[at])}" for at in sorted(odd)]
        for at in sorted(odd):
            refuse(facts[at], odd_scale_error(facts[at].name, odd[at], len(odd)))
        return [recording for at, recording in enumerate(facts) if at not in odd], []

    def _with_usual_channels(self, refuse: Refuse) -> list[Facts]:
        facts = [recording for recording in self.facts if recording.n_windows]
        if not facts:
            fates = [fate for dropped in self.facts for fate in dropped.classes]
            if any(fate["best_share"] or fate["in_spans"] for fate in fates):
                self.check_fates()  # raises an error if only labels are missing
            longest_s = max((dropped.duration_s for dropped in self.facts), default=0.0)
            gap_s = max((dropped.bridging_gap_s or 0.0 for dropped in self.facts), default=0.0)
            way_out = f", or max_gap_s={gap_s:g}, which bridges the gaps" if gap_s else ""
            raise WindowError(
                f"none of {len(self.facts)} recordings has a gap-free interval of"
                f" window_s={self.plan.options.window_s:g}; the longest recording lasts"
                f" {longest_s:g} s. Use a shorter window_s{way_out}."
            )
        usual = Counter(tuple(sorted(f.channels)) for f in facts).most_common(1)[0][0]
        usual = tuple(sorted(self.channels)) or usual
        example = next(f for f in facts if tuple(sorted(f.channels)) == usual)
        kept = []
        for recording in facts:
            if tuple(sorted(recording.channels)) == usual:
                kept.append(recording)
                continue
            dropped, counters = recording.dropped_columns, recording.counters
            way_out = ""
            if recording.sources:
                named = next(sets_by_name(fact.covered for fact in facts), None)
                joining = f"pair={named.pair!r}" if named and named.pair else "`pair`"
                way_out = (
                    ", leave this recording out with `exclude`, or, if the files are from several"
                    f" sensors of one recording, join them with {joining}"
                )
            message = (
                f"{recording.name}: channels {', '.join(recording.channels)}"
                + (f" ({', '.join(dropped)} without numbers)" if dropped else "")
                + (f" ({', '.join(counters)} left out as a counter)" if counters else "")
                + f"; {example.name} and most others have {', '.join(example.channels)}."
                f" Choose common channels with `channels`{way_out}."
            )
            refuse(recording, RecordingError(message))
        return kept

    def check_fates(self) -> None:
        """Raise an error if a class has no windows."""
        use = self.plan.options
        check_class_fates(
            [fate for facts in self.facts for fate in facts.classes],
            window_s=use.window_s,
            label_rule=use.label_rule,
            min_purity=MIN_PURITY if use.min_purity is None else use.min_purity,
        )

    def learn(
        self,
        kept: Sequence[Facts],
        part_of: Callable[[Facts, str, tuple[str, ...]], Part],
        decide: Callable[[Sequence[Part]], NDArray[np.str_] | None] = lambda parts: None,
        *,
        failed: Mapping[str, str] = MappingProxyType({}),
        allow_constant: bool,
    ) -> Learned:
        """Join and split the windows of recordings, and fit the scaler and the balancing.

        `part_of` returns the windows of a recording in `kept`, given its group and the channels;
        the samples stay in the parts and are read one recording at a time. `decide` returns the
        part of the split for each window of an existing file, and ``""`` for other windows.
        `failed`, the reasons why recordings were left out by recording_id, is recorded in the
        provenance. Constant channels that reveal the class raise an error unless `allow_constant`
        is True.
        """
        unlabeled = [facts for facts in kept if not facts.labels]
        if unlabeled and len(unlabeled) < len(kept):
            raise RecordingError(
                f"{unlabeled[0].name} has no label, but other recordings do; label every recording"
                " or none."
            )
        plan, channels = self.plan, self.channels or tuple(kept[0].channels)
        simultaneous = find_simultaneous(facts.covered for facts in kept)
        group_of = {} if simultaneous is None else simultaneous.group_of
        parts = [
            part_of(facts, group_of.get(facts.recording_id, facts.group), channels)
            for facts in kept
        ]
        n_timesteps = plan.window_samples(self.rate_hz)
        windows = windows_in(parts, channels, n_timesteps, labeled=not unlabeled)
        decided = decide(parts)
        with ExitStack() as notes:
            if decided is not None:
                notes.enter_context(noting(_DECIDED, SplitError))
            if simultaneous is not None:
                notes.enter_context(noting(str(simultaneous), SplitError))
            windows, facts = self._split(windows, kept, decided, group_of)
            if not allow_constant:
                _refuse_label_channels(plan, windows)
            scaler, rows = None, None
            if windows.split is not None:
                train = np.flatnonzero(windows.split == "train")
                scaler = _fit_scaler(plan.learning, windows, train)
                rows = _choose_rows(plan.learning, windows, train)
                constant = [windows.channels[position] for position in scaler.constant_channels]
                n_steps = int(np.asarray(windows.lengths)[train].sum())
                facts |= {"constant_channels": constant, **draw_of(plan.learning.scale, n_steps)}
        made = {"configuration": plan.configuration, **self._provenance(kept, failed), **facts}
        windows = replace(windows, sample_rate_hz=self.rate_hz, provenance=made)
        together = "" if simultaneous is None else str(simultaneous)
        return Learned(windows, scaler, rows, together)

    def _split(
        self,
        windows: WindowSet,
        kept: Sequence[Facts],
        decided: NDArray[np.str_] | None,
        group_of: Mapping[str, str],
    ) -> tuple[WindowSet, dict[str, Any]]:
        """Return the windows that belong to a part, and facts about the split.

        `group_of` maps recordings that cover the same time to a group, which a split by recording
        keeps together.
        """
        plan, use = self.plan, self.plan.learning
        if windows.y is not None:
            check_unlabeled(windows.y, "the class", labels_way_out=True)
        if use.split is None:
            return windows, {}
        shares = tuple(float(share) for share in use.split)
        groups, recording_id = np.asarray(windows.groups), np.asarray(windows.recording_id)
        together = groups
        if use.split_by != "group":
            together = np.array([group_of.get(name, name) for name in recording_id.tolist()])
        if use.split_by == "time":
            times = recording_id, np.asarray(windows.start_s)
            embargo_s = self._embargo_s(kept)
            split = split_by_time(*times, use.window_s, shares, embargo_s, windows.y, decided)
        else:
            split = split_by_group(windows.y, together, shares, use.random_state, decided)
        evenness: dict[str, Any] = describe_split(windows.y, together, split, shares)
        if use.split_by != "time":  # a split by time puts each recording into all parts
            evenness |= note_subjects(windows.y, groups, recording_id, split)
        if plan.cuts_training_separately:
            windows, split = with_separate_training_windows(windows, split)
            _check_separate_training(split, windows.y)
        windows = windows.take(split != "").with_split(split[split != ""])
        if use.split_by == "time":
            # Compare with `kept`, because an extended file lacks the windows left out earlier.
            evenness["n_left_out"] = sum(each.n_windows for each in kept) - len(windows)
        return windows, {"split": evenness}

    def _embargo_s(self, kept: Sequence[Facts]) -> float:
        """Return how many seconds to leave out between the parts of a recording.

        This must be at least as long as the signal after the end of a window that may affect its
        samples: the sum of the lookaheads of the resampling filter, if the rate changes, and of
        steps with ``phase="zero"``. For several rates, the longest lookahead counts.
        """
        use, rates_hz = self.plan.learning, {facts.sample_rate_hz for facts in kept}
        resampling = [
            StreamResampler(rate, self.rate_hz, 1, attenuation_db=use.attenuation_db).latency_s
            for rate in rates_hz
            if rate is not None and abs(rate / self.rate_hz - 1) > SAME_RATE
        ]
        named = tuple(map(Channel, kept[0].input_channels, kept[0].input_units))
        steps = StepChain(self.plan.steps).stream(named, self.rate_hz)
        lookahead_s = max(resampling, default=0.0) + steps.latency_s
        embargo_s = use.window_s + lookahead_s if use.embargo_s is None else use.embargo_s
        if embargo_s < lookahead_s:
            raise SplitError(
                f"embargo_s={embargo_s:g} is shorter than the {lookahead_s:.3g} s that"
                " resampling and steps look ahead, so windows of one part would depend on"
                " samples of the next. Use a longer embargo_s, phase='causal', or the"
                " recordings' own sample rate."
            )
        return embargo_s

    def _provenance(self, kept: Sequence[Facts], failed: Mapping[str, str]) -> dict[str, Any]:
        """Describe how recordings were cut, and which were left out."""
        pieces = [
            {"recording_id": facts.recording_id, **piece}
            for facts in self.facts
            if facts.recording_id not in failed
            for piece in facts.dropped
        ]
        whole = [{"recording_id": name, "reason": reason} for name, reason in failed.items()]
        use = self.plan.options
        return {
            "versions": versions(),
            "sample_rate_hz": self.rate_hz,
            "sample_rate_from": self.rate_from,
            "input_channels": list(self.input_channels or kept[0].input_channels),
            "held": self.held,
            "window": {
                "window_s": float(use.window_s),
                "hop_s": float(use.window_s if use.hop_s is None else use.hop_s),
                "window_samples": self.plan.window_samples(self.rate_hz),
                "sample_rate_hz": self.rate_hz,
            },
            "recordings": [
                {k: v for k, v in facts.to_dict().items() if k not in ("dropped", "classes")}
                for facts in kept
            ],
            "dropped": pieces + whole,
        }


def odd_values_of(kept: Sequence[Facts]) -> list[str]:
    """Return a sentence for each kind of value that may not be a measurement."""
    return describe_odd_values(
        [facts.files or facts.recording_id for facts in kept],
        [facts.odd_values or {} for facts in kept],
    )


def _refuse_label_channels(plan: PreparationPlan, windows: WindowSet) -> None:
    """Raise an error if constant channels reveal the class; warn if that is uncertain."""
    if windows.y is None:
        return
    recording_id, lengths = np.asarray(windows.recording_id), np.asarray(windows.lengths)
    label_channels = find_label_channels(
        partial(_blocks, windows), windows.y, recording_id, lengths, windows.split
    )
    if label_channels is None:
        return
    other_names = [
        name for place, name in enumerate(windows.channels) if place not in label_channels.channels
    ]
    is_short = 0 < len(other_names) <= 12 and not re.search(r"[][,]", "".join(other_names))
    way = "name the others with `channels`"
    if plan.learning.native_rates:
        way = "remove the column from the recordings"
    elif is_short and not plan.steps:
        way = f"name the others with channels={other_names!r}"
    words = describe_label_channels(
        [windows.channels[at] for at in label_channels.channels], label_channels
    )
    it = "it" if len(label_channels.channels) == 1 else "them"
    words += f" To leave {it} out, {way}"
    if label_channels.is_certain:
        raise WindowError(f"{words}; to keep {it}, use allow_constant=True (--allow-constant).")
    warn_caller(f"{words}.")


def _fit_scaler(use: PreparationOptions, windows: WindowSet, train: NDArray[np.int64]) -> Scaler:
    def with_lengths() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        lengths, at = np.asarray(windows.lengths)[train], 0
        for block in _blocks(windows, train):
            yield block, lengths[at : at + len(block)]
            at += len(block)

    return fit_scaler_to_blocks(with_lengths, use.scale, rated=use.rated, channels=windows.channels)


def _choose_rows(
    use: PreparationOptions, windows: WindowSet, train: NDArray[np.int64]
) -> NDArray[np.int64]:
    if use.balance is None:
        return train
    if windows.y is None:
        raise RecordingError(f"balance={use.balance!r} needs labels, but the recordings have none.")
    with noting("in the training part", WindowError):
        chosen = balance_indices(
            windows.y[train],
            np.asarray(windows.groups)[train],
            use.balance,
            use.random_state,
            recording_id=np.asarray(windows.recording_id)[train],
            max_per_recording=use.max_per_recording,
        )
    return train[chosen]


def _blocks(windows: WindowSet, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of the windows at increasing indices, in blocks."""
    samples: Any = windows.X
    yield from samples.blocks(rows)


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


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect samples."""
    return {
        "sensorseq": str(importlib.import_module("sensorseq").__version__),
        "numpy": np.__version__,
    }
