"""What is odd in recordings before any window is cut: between them, channel by channel."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.window_checks import SD_PER_MAD
from sensorseq.inspection.facts import ChannelFacts, Edge, RecordingFacts
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.part import Floats
from sensorseq.inspection.similar_names import similar_names
from sensorseq.preprocessing.odd_scales import odd_sizes
from sensorseq.readers.stamps import odd_rates
from sensorseq.text import listed

# Each limit was set on borealtc and simulated recordings, healthy and with planted faults.
RATE_RATIO = 1.1
TIME_UNIT_RATIO = 30.0
LEAST_MISSING = 0.01  # of the time, or of the samples
STILL_SHARE, STILL_RATIO = 0.05, 5.0
LONG_STRETCH = 2.0  # mean samples in stretches of equal values: then it moves in steps
LEAST_CLIPPED, CLIPPED_SHARE, LEAST_CLIPPED_RUNS, CLIPPED_RATIO = 10, 0.001, 5, 2.0
FAR_SPREADS = 10.0
LEAST_SHARED, SHARED_SHARE = 5, 0.05
FEW_GROUPS = 3
LEAST_ALIKE, MOST_COMPARED = 5, 64  # recordings of a class; channels
SWAP_GAIN = 1.0  # log of how much nearer two channels are to each other's usual look
TELLING_Z = 3.5  # of a class's ranks against all others
TELLING_AREA = 0.98

Rows = Sequence[tuple[RecordingFacts, ChannelFacts]]
Odd = Iterator[tuple[str, str, str, float]]  # kind, recording, figures, how bad

_WORDS = {  # of what is odd in channels, the most important first: what it is, and the way out
    "time_unit": (
        "The sample rate of {channels} points to a wrong time unit in {where}.",
        "Set the unit of the time stamps with --time-unit, or {leave}.",
    ),
    "unit": (
        "{channels}: another scale but the same shape in {where}, so probably another unit.",
        "Convert the values, or {leave}.",
    ),
    "empty": ("{channels}: no value in {where}.", "Choose others with --channels, or {leave}."),
    "constant": (
        "{channels}: constant in {where}; the sensor may not have been connected.",
        "Choose others with --channels, or {leave}.",
    ),
    "flipped": (
        "{channels}: opposite sign in {where}; the axis may be reversed.",
        "Check how the sensor was mounted, or {leave}.",
    ),
    "stuck": (
        "{channels}: one value for long while other channels move, in {where}.",
        "The sensor or its driver may have hung: cut that part out, or {leave}.",
    ),
    "saturated": (
        "{channels}: cut off at the limits in {where}.",
        "What the sensor or the controller cut off is lost; choose a larger range if you can.",
    ),
    "gaps": (
        "Samples of {channels} are missing in {where}.",
        "Preparing cuts at gaps longer than --max-gap-s and fills shorter ones.",
    ),
    "outliers": (
        f"{{channels}}: values more than {FAR_SPREADS:.0f} times the range away in {{where}}.",
        "Repair them, or mark them as missing; a mark such as -9999 is one too.",
    ),
    "rates": (
        "The sample rate of {channels} is unlike that of most recordings in {where}.",
        "Resampling evens it out, but the slowest recording has no higher frequencies.",
    ),
}


def check_recordings(facts: Sequence[RecordingFacts]) -> list[Finding]:
    """Return what is odd, the most important first; `values` has "recordings" and "channels"."""
    by_channel: dict[str, list[tuple[RecordingFacts, ChannelFacts]]] = defaultdict(list)
    for one in facts:
        for channel in one.channels.values():
            by_channel[channel.name].append((one, channel))
    of_kind: dict[str, dict[str, list[tuple[str, str, float]]]] = {kind: {} for kind in _WORDS}
    for name, rows in by_channel.items():
        for check in (_check_each, _check_units, _check_signs):
            for kind, i, words, weight in check(rows):
                of_kind[kind].setdefault(name, []).append((i, words, weight))
    found = [*_copies(facts), *_channel_sets(facts), *_swapped(facts)]
    for kind, odd_of in of_kind.items():
        together: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, odd in odd_of.items():  # channels with the same figures are named together
            odd.sort(key=lambda one: -one[2])
            together.setdefault(tuple((i, words) for i, words, _ in odd), []).append(name)
        for figures, names in together.items():
            where = listed([f"{i} ({said})" if said else i for i, said in figures])
            text, advice = _WORDS[kind]
            if len(figures) == len(by_channel[names[0]]) > 1:
                where, advice = "every recording", advice.replace(", or {leave}", "")
            ids = [i for i, _ in figures]
            known = {"channels": listed(names), "where": where, "leave": _leave_out(ids)}
            text, advice = text.format(**known), advice.format(**known)
            found.append(_finding(kind, text, advice, ids, names))
    return [*found, *_classes(facts)]


def _finding(
    kind: str, text: str, advice: str, ids: Sequence[str] = (), channels: Sequence[str] = ()
) -> Finding:
    return Finding(kind, {"recordings": list(ids), "channels": list(channels)}, text, advice)


def _leave_out(ids: Sequence[str]) -> str:
    more = ",..." if len(ids) > 3 else ""
    what = "it" if len(ids) == 1 else "them"
    return f"leave {what} out with --exclude {shlex.quote(','.join(ids[:3]))}{more}"


def median_known(values: Sequence[float]) -> float:
    """Return the median of the finite values; NaN if there is none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else np.nan


def _check_each(rows: Rows) -> Odd:
    """Yield in which recordings one channel is odd by itself, next to what is usual for it."""
    usual = median_known([c.spread for _, c in rows])
    rate = median_known([c.rate_hz for _, c in rows])
    unlikely = odd_rates({one.recording_id: c.rate_hz for one, c in rows if c.rate_hz > 0})
    limits = limits_of(rows)
    still = [c.still_samples for _, c in rows]
    long = STILL_RATIO * np.quantile(still, 0.9, method="lower")  # nine of ten are shorter
    moving = [c.still_samples for _, c in rows if c.n_known and not c.is_constant]
    longer = STILL_RATIO * np.quantile(moving, 0.9, method="lower") if moving else -1.0
    for one, c in rows:
        i = one.recording_id
        if not c.n_known:
            yield "empty", i, "", 0.0
            continue
        ratio = max(c.rate_hz / rate, rate / c.rate_hz)
        if ratio > TIME_UNIT_RATIO or i in unlikely:
            yield "time_unit", i, f"{c.rate_hz:.4g} Hz", 0.0
        elif ratio > RATE_RATIO:
            yield "rates", i, f"{c.rate_hz:.4g} Hz", ratio
        if c.is_constant and c.still_samples > longer:
            yield "constant", i, "", 0.0
        is_long = c.still_samples > long and c.still_s > STILL_SHARE * one.duration_s
        if is_long and c.others_move and not c.is_constant:
            yield "stuck", i, f"{c.still_s:.3g} s at {c.still_value:.4g}", c.still_s
        if edges := clipped_edges(c, limits):
            share = sum(e.n_samples for e in edges) / c.n_known
            at = " and ".join(f"{e.value:.4g}" for e in edges)
            yield "saturated", i, f"{share:.1%} at {at}", share
        missing = [f"gaps {c.gap_share:.1%} of the time"] * (c.gap_share > LEAST_MISSING)
        missing += [f"{c.lost_share:.1%} of the samples lost"] * (c.lost_share > LEAST_MISSING)
        if missing:
            yield "gaps", i, ", ".join(missing), c.gap_share + c.lost_share
        n = int((c.far > FAR_SPREADS * max(usual, c.spread)).sum())
        if n and c.spread > 0:
            more = " or more" * (n == len(c.far) < c.n_known)
            farthest = max(c.low.value, c.high.value, key=lambda v: abs(v - c.quantiles[2]))
            yield "outliers", i, f"{n}{more}, up to {farthest:.4g}", float(c.far[0])


def _check_units(rows: Rows) -> Odd:
    """Yield recordings whose values are many times those of their class, with the same spectrum."""
    own = [row for row in rows if row[1].spread > 0 and np.isfinite(row[1].spectrum).all()]
    if own:
        labels, ids = [one.label for one, _ in own], [one.recording_id for one, _ in own]
        spectra = np.array([c.spectrum[1:-1] for _, c in own])  # no mean and highest frequency
        odd = odd_sizes(labels, np.array([c.spread for _, c in own]), spectra)
        for i, ratio in odd.items():
            yield "unit", ids[i], f"{ratio:.3g} times the usual range", max(ratio, 1 / ratio)


def _check_signs(rows: Rows) -> Odd:
    """Yield the few recordings whose offset has the opposite sign."""
    offsets = [(one.recording_id, c.quantiles[2]) for one, c in rows if c.has_offset]
    usual = np.sign(sum(np.sign(offset) for _, offset in offsets))
    odd = [i for i, offset in offsets if np.sign(offset) == -usual]
    if len(offsets) >= max(5, 0.5 * len(rows)) and len(odd) <= 0.1 * len(offsets) + 0.5:
        yield from (("flipped", i, "", 0.0) for i in odd)


def _swapped(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find recordings in which each of two channels is like the other in the rest of the class."""
    alike: dict[tuple[Any, ...], list[tuple[str, Floats]]] = defaultdict(list)
    for one in facts:
        looks = np.array([_look_of(c) for c in one.channels.values()])
        if np.isfinite(looks).all() and 1 < len(looks) <= MOST_COMPARED:
            alike[one.label, *one.channels].append((one.recording_id, looks))
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (_, *names), own in alike.items():
        looks = np.array([look for _, look in own])
        usual = np.median(looks, axis=0)
        sd = SD_PER_MAD * np.median(np.abs(looks - usual), axis=0) + 0.1
        for i, look in own if len(own) >= LEAST_ALIKE else ():
            apart = np.mean(((look[:, None] - usual) / sd) ** 2, axis=2)  # of channel and role
            kept = np.add.outer(np.diag(apart), np.diag(apart))
            gain = np.log((kept + 0.1) / (apart + apart.T + 0.1))
            a, b = sorted(divmod(int(gain.argmax()), len(names)))
            if gain[a, b] > SWAP_GAIN:
                found[names[a], names[b]].append(i)
    for (one_name, other), ids in found.items():
        text = f"{one_name} and {other} look exchanged in {listed(ids)}: each is like the other."
        advice = f"Check the wiring or the column names, or {_leave_out(ids)}."
        yield _finding("swapped", text, advice, ids, [one_name, other])


def _look_of(channel: ChannelFacts) -> list[float]:
    """Return what tells a channel from others: its spread, its level and its spectrum."""
    if not channel.spread > 0:
        return [np.nan] * 10
    shape = [float(band.mean()) for band in np.array_split(channel.spectrum[1:-1], 8)]
    level = min(abs(channel.quantiles[2]) / channel.spread, 5.0)  # a sign is another matter
    return [np.log10(channel.spread), level, *(np.array(shape) - np.mean(shape))]


def _copies(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find recordings that hold the same samples, whole or in part."""
    hashes = np.concatenate([one.hashes for one in facts] or [np.empty(0, np.uint64)])
    owner = np.repeat(np.arange(len(facts)), [len(one.hashes) for one in facts])
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    pairs = Counter(zip(owner[order[same]].tolist(), owner[order[same + 1]].tolist(), strict=True))
    copies = []
    for (one, other), count in pairs.items():
        a, b = facts[one].hashes, facts[other].hashes
        highest = min(a[-1], b[-1])
        share = count / min(
            np.searchsorted(a, highest, "right"), np.searchsorted(b, highest, "right")
        )
        if count >= LEAST_SHARED and share >= SHARED_SHARE:
            copies.append((share, facts[one], facts[other]))
    if not copies:
        return
    copies.sort(key=lambda pair: (pair[1].label == pair[2].label, -pair[0]))
    words = [f"{a.recording_id} and {b.recording_id} ({share:.0%})" for share, a, b in copies]
    labels = sum(a.label != b.label for _, a, b in copies)
    text = f"The same samples are in {listed(words)}."
    if labels:
        text += f" {labels} of these pairs are in different classes, so one label is wrong."
    ids = [name for _, a, b in copies for name in (a.recording_id, b.recording_id)]
    advice = f"Keep one of each: --exclude {shlex.quote(copies[0][2].recording_id)}."
    yield _finding("copies", text, advice, ids)


def _channel_sets(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find recordings of several sensors that were not joined, or that lack a channel."""
    kinds = sets_of_channels(facts)
    if len(kinds) > 1:
        sizes = "; ".join(f"{listed(names)} in {len(own)}" for names, own in kinds[:3])
        text = f"There are {len(kinds)} sets of channels: {sizes} recordings."
        advice = "Join the files of one recording with --pair, or choose some with --files."
        yield _finding("channel_sets", text, advice)
    for names, own in kinds:
        for name in names:
            ids = [one.recording_id for one in own if name not in one.channels]
            if 0 < len(ids) < len(own) / 2:
                advice = f"Choose other channels with --channels, or {_leave_out(ids)}."
                text = f"There is no {name} in {listed(ids)}."
                yield _finding("missing_channel", text, advice, ids, [name])


def sets_of_channels(
    facts: Sequence[RecordingFacts],
) -> list[tuple[list[str], list[RecordingFacts]]]:
    """Return sets of channels that share none, each with its recordings, commonest first."""
    of_names: dict[tuple[str, ...], list[RecordingFacts]] = defaultdict(list)
    for one in facts:
        of_names[tuple(one.channels)].append(one)
    kinds: list[tuple[list[str], list[RecordingFacts]]] = []
    for names, own in sorted(of_names.items(), key=lambda item: -len(item[1])):
        kind = next((kind for kind in kinds if set(names) & set(kind[0])), None)
        if kind is None:
            kinds.append(kind := ([], []))
        kind[0].extend(name for name in names if name not in kind[0])
        kind[1].extend(own)
    return kinds


def clipped_edges(channel: ChannelFacts, limits: tuple[float, float]) -> list[Edge]:
    """Return the extremes that a channel reaches so often that it was cut off there.

    `limits` are those of the channel over all recordings.
    """
    is_stepped = channel.n_known > LONG_STRETCH * channel.n_stretches  # such as a command
    return [
        edge
        for edge, limit in zip((channel.low, channel.high), limits, strict=True)
        if not channel.is_constant
        and edge.value != 0  # where signals rest, as those without a sign do at their lowest
        and not (edge is channel.low and limits[0] >= 0)
        and abs(edge.value - channel.quantiles[2]) < FAR_SPREADS * channel.spread
        and edge.n_samples >= max(LEAST_CLIPPED, CLIPPED_SHARE * channel.n_known)
        and edge.n_runs >= LEAST_CLIPPED_RUNS
        and edge.n_samples > CLIPPED_RATIO * edge.n_next
        and (edge.value == limit or not is_stepped)
    ]


def limits_of(rows: Rows) -> tuple[float, float]:
    """Return the limits of a channel; the lower one is zero or more if it nearly always is."""
    lows = [c.low.value for _, c in rows if c.n_known]
    low = float(np.quantile(lows, 0.1)) if lows else np.nan
    return (
        low if low >= 0 else min(lows, default=np.nan),
        max((c.high.value for _, c in rows if c.n_known), default=np.nan),
    )


def _classes(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find classes of few groups, and those that group, clock, length or rate give away."""
    facts = [one for one in facts if one.label is not None]
    labels = np.array([one.label for one in facts])
    groups_of = {str(k): {one.group for one in facts if one.label == k} for k in np.unique(labels)}
    if len(groups_of) < 2:
        return
    for pair in similar_names(Counter(str(one.label) for one in facts)):
        ids = [one.recording_id for one in facts if one.label in pair.names]
        yield _finding("similar_classes", pair.text, pair.advice, ids)
    if few := [f"{k} ({len(own)})" for k, own in groups_of.items() if len(own) < FEW_GROUPS]:
        yield _finding(
            "few_groups",
            f"Fewer than {FEW_GROUPS} groups hold class {listed(few)}, so it cannot be in"
            " training, validation and test.",
            "Record the class again in other groups (another robot, day or place).",
        )
    n_groups = len(set.union(*groups_of.values()))
    if n_groups == sum(map(len, groups_of.values())) <= len(facts) / 2:
        yield _finding(
            "class_is_group",
            f"Each of {n_groups} groups holds one class only, so what differs between groups (the"
            " day, the robot) cannot be told from the class.",
            "Record each class in several of the groups.",
        )
    start = np.array([one.start_s for one in facts])
    blocks = 1 + sum(a != b for a, b in pairwise(labels[np.argsort(start, kind="stable")]))
    is_dated = len(np.unique(start)) == len(start) >= 3 * len(groups_of)
    if is_dated and blocks == len(groups_of):
        yield _finding(
            "class_order",
            "Each class was recorded in one go, one after the other: what drifts with time"
            " (battery, temperature) tells the classes apart.",
            "Record the classes in turns, and test on another day.",
        )
    lengths, rates = np.array([(one.duration_s, one.rate_hz) for one in facts]).T
    for what, values in (("length", lengths), ("rate", rates)):
        if told := [k for k in groups_of if _is_told(values, labels == k)]:
            yield _finding(
                f"class_by_{what}",
                f"The {what} of a recording alone tells class {listed(told)} from the others.",
                "Make sure that no step keeps it: cut windows of one length and rate.",
                [one.recording_id for one in facts if one.label in told],
            )


def _is_told(values: Floats, of_class: NDArray[np.bool_]) -> bool:
    """Whether one value separates a class from the rest, beyond chance."""
    own, others = values[of_class], values[~of_class]
    own, others = own[np.isfinite(own)], others[np.isfinite(others)]
    n, m = len(own), len(others)
    if min(n, m) < 3:
        return False
    larger = (own[:, None] > others).mean() + 0.5 * (own[:, None] == others).mean()
    z = (larger - 0.5) * np.sqrt(12 * n * m / (n + m + 1))
    return bool(abs(larger - 0.5) >= TELLING_AREA - 0.5 and abs(z) >= TELLING_Z)
