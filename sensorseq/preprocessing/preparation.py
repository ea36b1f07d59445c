"""The steps of every preparation, from cut recordings to windows with a split and a scaler.

`PreparePipeline` takes them with recordings in memory, `sensorseq.prepare` with part files.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError, SplitError, WindowError, noting
from sensorseq.preprocessing.cut_recording import Facts
from sensorseq.preprocessing.held import held_channels, held_in
from sensorseq.preprocessing.odd_scales import ScaleFacts, find_odd_scales, odd_scale_error
from sensorseq.preprocessing.odd_values import describe_odd_values
from sensorseq.preprocessing.parts import Part, windows_in
from sensorseq.preprocessing.plan import Learned, PreparationPlan
from sensorseq.preprocessing.simultaneous import Simultaneous, find_simultaneous, sets_by_name
from sensorseq.preprocessing.windowing.label_rules import MIN_PURITY, check_class_fates
from sensorseq.recording import Channel

Refuse = Callable[[Facts, RecordingError], None]
"""A function that raises the error about a recording, or notes it and leaves the recording out."""

_DECIDED = "groups in the file keep their part; without `resume`, all groups are split again"
_T = TypeVar("_T")


def refuse_odd_rates(names: Sequence[str], rates_hz: Sequence[float]) -> None:
    """Raise an error if the rate of a recording suggests a wrong unit of time.

    Rates are compared before recordings are cut, because such a rate may be 1000 times too high.
    """
    facts = [ScaleFacts(name, "", rate) for name, rate in zip(names, rates_hz, strict=True)]
    for at, texts in find_odd_scales(facts).items():
        raise odd_scale_error(facts[at], texts)


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
        compared = [recording.scale_facts for recording in facts]
        odd = find_odd_scales(compared)
        if allow_scales:
            return facts, [f"{compared[at].name}: {'; '.join(odd[at])}" for at in sorted(odd)]
        for at in sorted(odd):
            refuse(facts[at], odd_scale_error(compared[at], odd[at], len(odd)))
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


def odd_values_of(kept: Sequence[Facts]) -> list[str]:
    """Return a sentence for each kind of value that may not be a measurement."""
    return describe_odd_values(
        [facts.files or facts.recording_id for facts in kept],
        [facts.odd_values or {} for facts in kept],
    )


def split_windows(
    cut: CutRecordings,
    kept: Sequence[Facts],
    part_of: Callable[[Facts, str, tuple[str, ...]], Part],
    decide: Callable[[Sequence[Part]], NDArray[np.str_] | None] = lambda parts: None,
    *,
    failed: Mapping[str, str] = MappingProxyType({}),
    allow_constant: bool,
) -> tuple[Learned, Simultaneous | None]:
    """Join the windows of the recordings in `kept`, split them, and fit the scaler.

    `part_of` returns the windows of a recording, given its group and the channels; `decide` returns
    the part of the split for each window of an existing file. The samples stay in the parts.
    `failed`, the reasons why recordings were left out by recording_id, is recorded in the
    provenance.
    """
    unlabeled = [facts for facts in kept if not facts.labels]
    if unlabeled and len(unlabeled) < len(kept):
        raise RecordingError(
            f"{unlabeled[0].name} has no label, but other recordings do; label every recording or"
            " none."
        )
    plan, channels = cut.plan, cut.channels or tuple(kept[0].channels)
    simultaneous = find_simultaneous(facts.covered for facts in kept)
    group_of = {} if simultaneous is None else simultaneous.group_of
    parts = [
        part_of(facts, group_of.get(facts.recording_id, facts.group), channels) for facts in kept
    ]
    n_timesteps = plan.window_samples(cut.rate_hz)
    windows = windows_in(parts, channels, n_timesteps, labeled=not unlabeled)
    named = tuple(map(Channel, kept[0].input_channels, kept[0].input_units))
    rates_hz = [facts.sample_rate_hz for facts in kept if facts.sample_rate_hz is not None]
    lookahead_s = plan.lookahead_s(named, rates_hz, cut.rate_hz)
    decided = decide(parts)
    with ExitStack() as notes:
        if decided is not None:
            notes.enter_context(noting(_DECIDED, SplitError))
        if simultaneous is not None:
            notes.enter_context(noting(str(simultaneous), SplitError))
        learned = plan.learn(
            windows,
            lookahead_s,
            decided,
            group_of,
            allow_constant=allow_constant,
        )
    if plan.learning.split_by == "time" and learned.facts:
        # Compare with `kept`, because an extended file lacks the windows left out earlier.
        n_left_out = sum(facts.n_windows for facts in kept) - len(learned.windows)
        learned.facts["split"]["n_left_out"] = n_left_out
    made = {"configuration": plan.configuration, **_provenance(cut, kept, failed), **learned.facts}
    windows = replace(learned.windows, sample_rate_hz=cut.rate_hz, provenance=made)
    return replace(learned, windows=windows), simultaneous


def _provenance(
    cut: CutRecordings, kept: Sequence[Facts], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Describe how recordings were cut, and which were left out."""
    pieces = [
        {"recording_id": facts.recording_id, **piece}
        for facts in cut.facts
        if facts.recording_id not in failed
        for piece in facts.dropped
    ]
    whole = [{"recording_id": name, "reason": reason} for name, reason in failed.items()]
    use = cut.plan.options
    return {
        "versions": versions(),
        "sample_rate_hz": cut.rate_hz,
        "sample_rate_from": cut.rate_from,
        "input_channels": list(cut.input_channels or kept[0].input_channels),
        "held": cut.held,
        "window": {
            "window_s": float(use.window_s),
            "hop_s": float(use.window_s if use.hop_s is None else use.hop_s),
            "window_samples": cut.plan.window_samples(cut.rate_hz),
            "sample_rate_hz": cut.rate_hz,
        },
        "recordings": [
            {k: v for k, v in facts.to_dict().items() if k not in ("dropped", "classes")}
            for facts in kept
        ],
        "dropped": pieces + whole,
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect samples."""
    return {
        "sensorseq": str(importlib.import_module("sensorseq").__version__),
        "numpy": np.__version__,
    }
