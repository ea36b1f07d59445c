"""Find irregularities in recordings before windows are cut, by comparing channels."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed, percent, plural, times
from sensorseq.inspection.copies import shared_samples
from sensorseq.inspection.facts import ChannelFacts, Edge, RecordingFacts
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.odd_recordings import OddRecording, rank_recordings
from sensorseq.messages import MESSAGES, ODD_VALUES
from sensorseq.prediction.outside import Floats
from sensorseq.preprocessing.odd import find_odd_values, odd_units
from sensorseq.readers.columns import as_label
from sensorseq.stamps.period import is_plausible

# The limits were chosen on borealtc and simulated recordings, both with and without planted faults.
RATE_RATIO = 1.1
TIME_UNIT_RATIO = 30.0
LEAST_MISSING = 0.01  # fraction of the time or of the samples
STILL_SHARE, STILL_RATIO = 0.05, 5.0
LONG_STRETCH = 2.0  # a channel moves in steps if its values are repeated this many times on average
LEAST_CLIPPED, CLIPPED_SHARE, LEAST_CLIPPED_RUNS, CLIPPED_RATIO = 10, 0.001, 5, 2.0
FAR_SPREADS = 10.0
FEW_GROUPS = 3
SEPARATING_Z = 3.5  # z-score of the rank test of a class against all others
SEPARATING_AREA = 0.98  # area under the ROC curve
# findings that marker values of failed reads can also cause
_CAUSED_BY_MARKS = ("saturated", "outliers")
_BETWEEN_WORDS = r"[\s_.-]+|(?<=[a-z])(?=[A-Z])"

Rows = Sequence[tuple[RecordingFacts, ChannelFacts]]
Odd = Iterator[tuple[str, str, str, float]]  # kind, recording, details, severity


def check_recordings(
    facts: Sequence[RecordingFacts],
) -> tuple[list[Finding], list[OddRecording]]:
    """Return irregularities, most important first, and all recordings, the oddest first."""
    copies = [*shared_samples([recording.hashes for recording in facts])]
    ranked = rank_recordings(facts, copies)
    of_kind = _odd_channels(facts)
    findings = [finding for kind in ODD_VALUES for finding in of_kind.pop(kind, ())]
    findings += [*_copies(facts, copies), *_channel_sets(facts)]
    findings += [finding for kind in MESSAGES for finding in of_kind.get(kind, ())]
    named = {name for each in findings for name in each.where.get("recordings", ())}
    unnamed = stands_out([each for each in ranked if each.recording_id not in named])
    return [*unnamed, *findings, *_classes(facts)], ranked


def stands_out(ranked: Sequence[OddRecording]) -> list[Finding]:
    """Return the finding about the marked recordings of a ranking, if there are any."""
    odd_ones = [each for each in ranked if each.is_marked]
    ids = [*dict.fromkeys(each.recording_id for each in odd_ones)]
    where = {"recordings": ids, "places": [f"{i.recording_id} ({i.text})" for i in odd_ones]}
    return [Finding("stands_out", where=where, answer={"exclude": ids})] if odd_ones else []


def _odd_channels(facts: Sequence[RecordingFacts]) -> dict[str, list[Finding]]:
    """Return the findings about single channels, by kind."""
    by_channel: dict[str, list[tuple[RecordingFacts, ChannelFacts]]] = defaultdict(list)
    for recording in facts:
        for channel in recording.channels.values():
            by_channel[channel.name].append((recording, channel))
    of_kind: dict[str, dict[str, list[tuple[str, str, float]]]] = defaultdict(dict)
    examples: dict[tuple[str, str], str] = {}
    for odd in find_odd_values([recording.measured.odd_values for recording in facts]):
        ids = [facts[at].recording_id for at in sorted(odd.figures)]
        of_kind[odd.kind][odd.channel] = [(i, "", 0.0) for i in ids]
        examples[odd.kind, odd.channel] = odd.example([r.recording_id for r in facts])
    marked = {(entry[0], name) for name, odd_of in of_kind["marks"].items() for entry in odd_of}
    for name, rows in by_channel.items():
        for kind, i, words, weight in _check_each(rows):
            if kind not in _CAUSED_BY_MARKS or (i, name) not in marked:
                of_kind[kind].setdefault(name, []).append((i, words, weight))
    labels, scales = [r.label for r in facts], [r.measured.scales for r in facts]
    for at, name, ratio in odd_units(labels, scales):
        words = times(ratio, "the usual range", "smaller than the usual range")
        odd_unit = words, max(ratio, 1 / ratio)
        of_kind["unit"].setdefault(name, []).append((facts[at].recording_id, *odd_unit))
    n_with = {name: len(rows) for name, rows in by_channel.items()}
    return {kind: [*_joined(kind, odd_of, n_with, examples)] for kind, odd_of in of_kind.items()}


def _joined(
    kind: str,
    odd_of: Mapping[str, list[tuple[str, str, float]]],
    n_with: Mapping[str, int],
    examples: Mapping[tuple[str, str], str],
) -> Iterator[Finding]:
    """Yield the findings of a kind; channels with equal details share one."""
    channels_of: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, entries in odd_of.items():
        entries.sort(key=lambda entry: -entry[2])
        channels_of.setdefault(tuple(entry[:2] for entry in entries), []).append(name)
    for figures, names in channels_of.items():
        everywhere = len(figures) == n_with[names[0]] > 1
        places = [f"{i} ({words})" if words else i for i, words in figures]
        where = {
            "recordings": [i for i, _ in figures],
            "channels": names,
            "places": ["every recording"] if everywhere else places,
        }
        answer: dict[str, Any] = {}
        if "{or_leave_out}" in MESSAGES[kind].advice and not everywhere:
            answer = {"exclude": where["recordings"]}
        elif kind == "time_unit":
            answer = {"time_unit": "UNIT"}
        example = {"example": examples[kind, names[0]]} if kind in ODD_VALUES else {}
        yield Finding(kind, {"everywhere": everywhere, **example}, where, answer)


def median_finite(values: Iterable[float]) -> float:
    """Return the median of the finite values; NaN if there is none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else np.nan


def _check_each(rows: Rows) -> Odd:
    """Yield recordings in which a channel deviates from its usual behavior."""
    usual = median_finite([c.spread for _, c in rows])
    rate = median_finite([c.rate_hz for _, c in rows])
    limits = limits_of(rows)
    still = [c.still_samples for _, c in rows]
    # In nine of ten recordings, the longest constant segment is far shorter than this.
    long = STILL_RATIO * np.quantile(still, 0.9, method="lower")
    moving = [c.still_samples for _, c in rows if c.n_known and not c.is_constant]
    longer = STILL_RATIO * np.quantile(moving, 0.9, method="lower") if moving else -1.0
    for recording, c in rows:
        i = recording.recording_id
        if not c.n_known:
            yield "empty", i, "", 0.0
        if c.is_held or not c.n_known:
            continue
        ratio = max(c.rate_hz / rate, rate / c.rate_hz)
        if ratio > TIME_UNIT_RATIO or (c.rate_hz > 0 and not is_plausible(recording.rate_hz)):
            yield "time_unit", i, f"{c.rate_hz:.4g} Hz", 0.0
        elif ratio > RATE_RATIO:
            yield "rates", i, f"{c.rate_hz:.4g} Hz", ratio
        if c.is_constant and c.still_samples > longer:
            yield "constant", i, "", 0.0
        is_long = c.still_samples > long and c.still_s > STILL_SHARE * recording.duration_s
        if is_long and c.others_move and not c.is_constant:
            yield "stuck", i, f"{c.still_s:.3g} s at {c.still_value:.4g}", c.still_s
        if edges := clipped_edges(c, limits):
            share = sum(e.n_samples for e in edges) / c.n_known
            at = " and ".join(f"{e.value:.4g}" for e in edges)
            yield "saturated", i, f"{percent(share)} of the samples at {at}", share
        missing = [f"gaps in {percent(c.gap_share)} of the time"] * (c.gap_share > LEAST_MISSING)
        missing += [f"{percent(c.lost_share)} of the samples lost"] * (c.lost_share > LEAST_MISSING)
        if missing:
            yield "gaps", i, ", ".join(missing), c.gap_share + c.lost_share
        n = int((c.far > FAR_SPREADS * max(usual, c.spread)).sum())
        if n and c.spread > 0:
            more = " or more" * (n == len(c.far) < c.n_known)
            farthest = max(c.low.value, c.high.value, key=lambda v: abs(v - c.quantiles[2]))
            yield "outliers", i, f"{n}{more}, up to {farthest:.4g}", float(c.far[0])


def _copies(
    facts: Sequence[RecordingFacts], copies: Sequence[tuple[int, int, float]]
) -> Iterator[Finding]:
    """Find recordings that contain the same samples; the second of each pair is not longer."""
    found = []
    for first, second, share in copies:
        a, b = facts[first], facts[second]
        found.append((share, b, a) if a.duration_s < b.duration_s else (share, a, b))
    if not found:
        return
    found.sort(key=lambda pair: (pair[1].label == pair[2].label, -pair[0]))
    where = {
        "recordings": [name for _, a, b in found for name in (a.recording_id, b.recording_id)],
        "pairs": [
            f"{a.recording_id} and {b.recording_id} ({percent(share, 0)})" for share, a, b in found
        ],
    }
    n_labels = sum(a.label != b.label for _, a, b in found)
    answer = {"exclude": [*dict.fromkeys(b.recording_id for _, _, b in found)]}
    yield Finding("copies", {"n_labels": n_labels}, where, answer)


def _channel_sets(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find recordings that lack a channel, or sensors of one recording that were not joined."""
    kinds = sets_of_channels(facts)
    if len(kinds) > 1:
        sizes = "; ".join(f"{listed(names)} in {len(members)}" for names, members in kinds[:3])
        yield Finding("channel_sets", {"n_sets": len(kinds), "sets": sizes})
    for names, members in kinds:
        for name in names:
            ids = [r.recording_id for r in members if name not in r.channels]
            if 0 < len(ids) < len(members) / 2:
                where = {"recordings": ids, "channels": [name]}
                yield Finding("missing_channel", where=where, answer={"exclude": ids})


def sets_of_channels(
    facts: Sequence[RecordingFacts],
) -> list[tuple[list[str], list[RecordingFacts]]]:
    """Return disjoint sets of channels with their recordings, the most common first."""
    of_names: dict[tuple[str, ...], list[RecordingFacts]] = defaultdict(list)
    for recording in facts:
        of_names[tuple(recording.channels)].append(recording)
    kinds: list[tuple[list[str], list[RecordingFacts]]] = []
    for names, members in sorted(of_names.items(), key=lambda item: -len(item[1])):
        kind = next((kind for kind in kinds if set(names) & set(kind[0])), None)
        if kind is None:
            kinds.append(kind := ([], []))
        kind[0].extend(name for name in names if name not in kind[0])
        kind[1].extend(members)
    return kinds


def clipped_edges(channel: ChannelFacts, limits: tuple[float, float]) -> list[Edge]:
    """Return the extremes that a channel reaches so often that it must be clipped there.

    `limits` are the limits of the channel over all recordings.
    """
    is_stepped = channel.n_known > LONG_STRETCH * channel.n_stretches  # such as a command signal
    return [
        edge
        for edge, limit in zip((channel.low, channel.high), limits, strict=True)
        if not channel.is_constant
        and edge.value != 0  # unsigned signals are zero at rest
        and not (edge is channel.low and limits[0] >= 0)
        and abs(edge.value - channel.quantiles[2]) < FAR_SPREADS * channel.spread
        and edge.n_samples >= max(LEAST_CLIPPED, CLIPPED_SHARE * channel.n_known)
        and edge.n_runs >= LEAST_CLIPPED_RUNS
        and edge.n_samples > CLIPPED_RATIO * edge.n_next
        and (edge.value == limit or not is_stepped)
    ]


def limits_of(rows: Rows) -> tuple[float, float]:
    """Return a channel's limits, ignoring negative values that occur in few recordings."""
    lows = [c.low.value for _, c in rows if c.n_known]
    low = float(np.quantile(lows, 0.1)) if lows else np.nan
    return (
        low if low >= 0 else min(lows, default=np.nan),
        max((c.high.value for _, c in rows if c.n_known), default=np.nan),
    )


def _classes(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find classes with similar names or few groups, and classes that metadata reveal."""
    facts = [recording for recording in facts if recording.label is not None]
    labels = np.array([recording.label for recording in facts])
    groups_of = {str(k): {r.group for r in facts if r.label == k} for k in np.unique(labels)}
    if len(groups_of) < 2:
        return
    for pair in similar_names(Counter(str(recording.label) for recording in facts)):
        ids = [r.recording_id for r in facts if r.label in pair.values["names"]]
        yield replace(pair, where={**pair.where, "recordings": ids})
    few = [f"{k} ({len(names)})" for k, names in groups_of.items() if len(names) < FEW_GROUPS]
    if few:
        yield Finding("few_groups", {"n_least": FEW_GROUPS}, {"classes": few})
    n_groups = len(set.union(*groups_of.values()))
    if n_groups == sum(map(len, groups_of.values())) <= len(facts) / 2:
        yield Finding("class_is_group", {"n_groups": n_groups})
    start = np.array([recording.start_s for recording in facts])
    blocks = 1 + sum(a != b for a, b in pairwise(labels[np.argsort(start, kind="stable")]))
    is_dated = len(np.unique(start)) == len(start) >= 3 * len(groups_of)
    if is_dated and blocks == len(groups_of):
        yield Finding("class_order")
    lengths, rates = np.array([(r.duration_s, r.rate_hz) for r in facts]).T
    for what, values in (("length", lengths), ("rate", rates)):
        if separated := [k for k in groups_of if _separates(values, labels == k)]:
            ids = [r.recording_id for r in facts if r.label in separated]
            yield Finding(f"class_by_{what}", where={"classes": separated, "recordings": ids})


def similar_names(n_recordings: Mapping[str, int]) -> Iterator[Finding]:
    """Yield pairs of classes with similar names, the class with fewer recordings first.

    Similar names differ only in case or separators, or in one letter (or two swapped letters)
    within a word of at least five characters. The first letter of a word is rarely a typo. A
    capital after a lowercase letter starts a word, so gripL and gripR differ in the first letter of
    a word. Different numbers mean different classes.
    """
    for pair in combinations(sorted(n_recordings, key=lambda name: n_recordings[name]), 2):
        first, second = (re.split(_BETWEEN_WORDS, name.strip()) for name in pair)
        first, second = ([word.casefold() for word in words] for words in (first, second))
        words = [(a, b) for a, b in zip(first, second, strict=False) if a != b]
        is_typo = len(first) == len(second) and len(words) == 1 and _is_typo(*words[0])
        is_same = "".join(first) == "".join(second) and _numbers(pair[0]) == _numbers(pair[1])
        is_same |= as_label(pair[0]) == as_label(pair[1])  # such as folders 1 and 1.0
        if is_typo or is_same:
            named = [f"{n!r} ({plural(n_recordings[n], 'recording')})" for n in pair]
            yield Finding("similar_classes", {"names": list(pair)}, {"classes": named})


def _numbers(name: str) -> list[str]:
    return re.findall(r"(?:(?<![^\W_])-)?\d+(?:\.\d+)?", name)


def _is_typo(word: str, other: str) -> bool:
    if min(len(word), len(other)) < 5 or abs(len(word) - len(other)) > 1 or word[0] != other[0]:
        return False
    pairs = zip(word, other, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(word), len(other)))
    a, b = word[start:], other[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    swapped = len(a) == 2 and a == b[::-1]
    return (swapped or max(len(a), len(b)) == 1) and not re.search(r"\d", a + b)


def _separates(values: Floats, of_class: NDArray[np.bool_]) -> bool:
    """Whether one value per recording separates a class from others far better than chance."""
    inside, outside = values[of_class], values[~of_class]
    inside, outside = inside[np.isfinite(inside)], outside[np.isfinite(outside)]
    n, m = len(inside), len(outside)
    if min(n, m) < 3:
        return False
    larger = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    z = (larger - 0.5) * np.sqrt(12 * n * m / (n + m + 1))
    return bool(abs(larger - 0.5) >= SEPARATING_AREA - 0.5 and abs(z) >= SEPARATING_Z)
