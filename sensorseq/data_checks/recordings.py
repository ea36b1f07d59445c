"""What is odd in recordings before any window is cut: between them, channel by channel."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.facts import ChannelFacts, Edge, RecordingFacts
from sensorseq.data_checks.part import Finding, Floats, listed
from sensorseq.readers.stamps import odd_rates

# Each limit was set on borealtc and simulated recordings, healthy and with planted faults.
RATE_RATIO = 1.1
TIME_UNIT_RATIO = 30.0
UNIT_RATIO = 30.0  # of the spreads of recordings of a class ...
SAME_SHAPE = 0.6  # ... whose log10 spectra differ less, root mean square
GAP_SHARE, LOST_SHARE = 0.01, 0.01
STILL_SHARE, STILL_RATIO = 0.05, 5.0
LONG_STRETCH = 2.0  # mean samples in stretches of equal values: then it moves in steps
LEAST_CLIPPED, CLIPPED_SHARE, LEAST_CLIPPED_RUNS, CLIPPED_RATIO = 10, 0.001, 5, 2.0
FAR_SPREADS = 10.0
LEAST_SHARED, SHARED_SHARE = 5, 0.05
FEW_GROUPS = 3
OFFSET_SPREADS = 1.0  # a median farther from zero has a sign to compare
STRONG_CORRELATION = 0.5
TELLING_Z = 3.5  # of a class's ranks against all others
TELLING_AREA = 0.98

Channels = Mapping[str, Sequence[tuple[RecordingFacts, ChannelFacts]]]


def check_recordings(facts: Sequence[RecordingFacts]) -> list[Finding]:
    """Return what is odd, the most important first; `values` has "recordings" and "channel"."""
    by_channel: dict[str, list[tuple[RecordingFacts, ChannelFacts]]] = defaultdict(list)
    for one in facts:
        for channel in one.channels.values():
            by_channel[channel.name].append((one, channel))
    return [
        *_copies(facts),
        *_rates(by_channel),
        *_units(by_channel),
        *_channel_sets(facts),
        *_constant(by_channel),
        *_flipped(facts, by_channel),
        *_still(by_channel),
        *_clipped(by_channel),
        *_gaps(by_channel),
        *_far(by_channel),
        *_classes(facts),
    ]


def _found(
    kind: str, ids: Sequence[str], channel: str | None, text: str, advice: str, **values: Any
) -> Finding:
    known = {"recordings": list(dict.fromkeys(ids)), "channel": channel, **values}
    return Finding(kind, known, text, advice)


def _leave_out(ids: Sequence[str], first: str = "l") -> str:
    what, more = ("it", "") if len(ids) == 1 else ("them", ",...")
    return f"{first}eave {what} out with --exclude {shlex.quote(ids[0])}{more}"


def median_known(values: Sequence[float] | Floats) -> float:
    """Return the median of the finite values; NaN if there is none."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else np.nan


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
    yield _found(
        "copies",
        ids,
        None,
        text,
        f"Keep one of each: --exclude {shlex.quote(copies[0][2].recording_id)}.",
    )


def _rates(by_channel: Channels) -> Iterator[Finding]:
    """Find recordings with another sample rate than most; by a large factor it is the time unit."""
    said: set[tuple[str, ...]] = set()
    for name, rows in by_channel.items():
        rates = {one.recording_id: c.rate_hz for one, c in rows if np.isfinite(c.rate_hz)}
        usual = median_known(list(rates.values()))
        ratios = {i: max(hz / usual, usual / hz) for i, hz in rates.items()}
        wrong = odd_rates(rates).keys() | {i for i, r in ratios.items() if r > TIME_UNIT_RATIO}
        odd = [i for i, ratio in ratios.items() if ratio > RATE_RATIO or i in wrong]
        if not odd or tuple(odd) in said:
            continue
        said.add(tuple(odd))  # channels of one file share their stamps
        odd.sort(key=lambda i: i not in wrong)
        words = [f"{i} ({rates[i]:.4g} Hz)" for i in odd]
        text = f"The sample rate of {name} is unusual in {listed(words)}; most have {usual:.4g} Hz."
        advice = "Resampling evens it out, but the slowest recording has no higher frequencies."
        if wrong:
            advice = (
                "Check the unit of their time stamps; set it with --time-unit, or"
                f" {_leave_out([i for i in odd if i in wrong])}."
            )
        kind = "time_unit" if wrong else "rates"
        yield _found(kind, odd, None, text, advice, usual_hz=usual)


def _units(by_channel: Channels) -> Iterator[Finding]:
    """Find recordings whose values are many times larger or smaller, with the same shape."""
    for name, rows in by_channel.items():
        odd = []
        for label in {one.label for one, _ in rows}:
            own = [
                (one, c)
                for one, c in rows
                if one.label == label and c.spread > 0 and np.isfinite(c.spectrum).all()
            ]
            if len(own) < 3:
                continue
            usual = float(np.median([c.spread for _, c in own]))
            shape = np.median([_shape(c) for _, c in own], axis=0)
            for one, c in own:
                ratio = c.spread / usual
                apart = np.sqrt(np.mean((_shape(c) - shape) ** 2))
                if max(ratio, 1 / ratio) > UNIT_RATIO and apart < SAME_SHAPE:
                    odd.append((one.recording_id, ratio))
        if odd:
            words = [f"{i} ({ratio:.3g} times the usual)" for i, ratio in odd]
            ids = [i for i, _ in odd]
            yield _found(
                "unit",
                ids,
                name,
                f"{name} has another scale but the same shape in {listed(words)}: another unit.",
                f"Convert the values, or {_leave_out(ids)}.",
            )


def _shape(channel: ChannelFacts) -> Floats:
    inner = channel.spectrum[1:-1]  # without mean and the highest frequency
    return np.asarray(inner - inner.mean())


def _channel_sets(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    """Find recordings of several sensors that were not joined, or that lack a channel."""
    kinds = sets_of_channels(facts)
    if len(kinds) > 1:
        sizes = [f"{listed(list(names))} in {len(ids)}" for names, ids in kinds]
        yield _found(
            "channel_sets",
            [],
            None,
            f"There are {len(kinds)} sets of channels: {'; '.join(sizes[:3])} recordings.",
            "Join the files of one recording with --pair, or choose some with --files.",
        )
    channels_of = {one.recording_id: one.channels for one in facts}
    for names, ids in kinds:
        for name in names:
            without = [i for i in ids if name not in channels_of[i]]
            if 0 < len(without) < len(ids) / 2:
                advice = f"{_leave_out(without, 'L')}, or choose other channels with --channels."
                yield _found(
                    "missing_channel", without, name, f"{listed(without)} lack {name}.", advice
                )


def sets_of_channels(
    facts: Sequence[RecordingFacts],
) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return sets of channels that share none, each with its recordings, commonest first."""
    kinds: list[tuple[dict[str, None], list[str]]] = []
    counts = Counter(tuple(one.channels) for one in facts)
    of_names = {names: [one for one in facts if tuple(one.channels) == names] for names in counts}
    for names, _ in counts.most_common():
        kind = next((kind for kind in kinds if set(names) & set(kind[0])), None)
        if kind is None:
            kind = ({}, [])
            kinds.append(kind)
        kind[0].update(dict.fromkeys(names))
        kind[1].extend(one.recording_id for one in of_names[names])
    return [(tuple(names), ids) for names, ids in kinds]


def _constant(by_channel: Channels) -> Iterator[Finding]:
    """Find channels with one value, in all recordings or in some."""
    for name, rows in by_channel.items():
        empty = [one.recording_id for one, c in rows if not c.n_known]
        if empty:
            advice = f"{_leave_out(empty, 'L')}, or choose other channels with --channels."
            yield _found("empty", empty, name, f"{name} has no value in {listed(empty)}.", advice)
        moving = [(one, c) for one, c in rows if not c.is_constant]
        longer = STILL_RATIO * _usual_still(moving) if moving else 0.0
        odd = [i.recording_id for i, c in rows if c.is_constant and c.still_samples > longer]
        if not odd:
            continue
        if len(odd) == len(rows):
            text = f"{name} never changes, in any recording."
            advice = "Choose the other channels with --channels."
        else:
            text = f"{name} never changes in {listed(odd)}: the sensor may not have been connected."
            advice = f"{_leave_out(odd, 'L')}, or choose other channels with --channels."
        yield _found("constant", odd, name, text, advice)


def _flipped(facts: Sequence[RecordingFacts], by_channel: Channels) -> Iterator[Finding]:
    """Find channels whose offset or correlations have the opposite sign in a few recordings."""
    for name, rows in by_channel.items():
        moving = [(one, c) for one, c in rows if c.n_known and not c.is_constant]
        offset = np.array([c.quantiles[2] / c.spread if c.spread else np.nan for _, c in moving])
        votes = np.sign(np.where(np.abs(offset) > OFFSET_SPREADS, offset, 0.0))
        ids = [one.recording_id for one, _ in moving]
        odd = _minority(votes, ids) or _minority(_signs(name, [one for one, _ in moving]), ids)
        if odd:
            yield _found(
                "flipped",
                odd,
                name,
                f"{name} has the opposite sign in {listed(odd)}: the axis may be reversed.",
                f"Check how the sensor was mounted, or {_leave_out(odd)}.",
            )


def _minority(votes: Floats, ids: Sequence[str]) -> list[str]:
    """Return who votes against nearly all others."""
    given = votes[np.isfinite(votes) & (votes != 0)]
    if len(given) < max(5, 0.5 * len(votes)):
        return []
    usual = np.sign(given.sum())
    odd = [i for i, vote in zip(ids, votes, strict=True) if vote == -usual]
    return odd if len(odd) <= 0.1 * len(given) + 0.5 else []


def _signs(name: str, facts: Sequence[RecordingFacts]) -> Floats:
    """Return the sign of a channel's correlation with the channel it mostly goes along with."""
    names = list(facts[0].channels) if facts else []
    same = [one for one in facts if list(one.channels) == names]
    if len(names) < 2 or len(same) < len(facts):
        return np.zeros(len(facts))
    rows = np.array([one.correlation[names.index(name)] for one in same])
    rows[:, names.index(name)] = np.nan
    with np.errstate(all="ignore"):
        usual = np.nan_to_num(np.median(rows, axis=0))
    partner = rows[:, int(np.abs(usual).argmax())]
    return np.sign(np.where(np.abs(partner) > STRONG_CORRELATION, partner, 0.0))


def _still(by_channel: Channels) -> Iterator[Finding]:
    """Find channels that stay at one value far longer than usual, while others move."""
    for name, rows in by_channel.items():
        usual = _usual_still(rows)
        odd = [
            (one.recording_id, c)
            for one, c in rows
            if not c.is_constant
            and c.others_move
            and c.still_s > STILL_SHARE * one.duration_s
            and c.still_samples > STILL_RATIO * usual
        ]
        if odd:
            words = [f"{i} ({c.still_s:.3g} s at {c.still_value:.4g})" for i, c in odd]
            ids = [i for i, _ in odd]
            yield _found(
                "stuck",
                ids,
                name,
                f"{name} stays at one value while other channels move, in {listed(words)}.",
                f"The sensor or its driver may have hung: cut that part out, or {_leave_out(ids)}.",
            )


def _usual_still(rows: Sequence[tuple[RecordingFacts, ChannelFacts]]) -> float:
    """Return for how many samples nine of ten recordings stay at one value at most."""
    return float(np.quantile([c.still_samples for _, c in rows], 0.9, method="lower"))


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


def limits_of(rows: Sequence[tuple[RecordingFacts, ChannelFacts]]) -> tuple[float, float]:
    """Return the limits of a channel; the lower one is zero or more if it nearly always is."""
    lows = [c.low.value for _, c in rows if c.n_known]
    low = float(np.quantile(lows, 0.1)) if lows else np.nan
    return (
        low if low >= 0 else min(lows, default=np.nan),
        max((c.high.value for _, c in rows if c.n_known), default=np.nan),
    )


def _clipped(by_channel: Channels) -> Iterator[Finding]:
    """Find channels cut off at the limits of the sensor."""
    for name, rows in by_channel.items():
        odd, limits = [], limits_of(rows)
        for one, c in rows:
            edges = clipped_edges(c, limits)
            if edges:
                share = sum(e.n_samples for e in edges) / c.n_known
                at = " and ".join(f"{e.value:.4g}" for e in edges)
                odd.append((share, one.recording_id, f"{share:.1%} at {at}"))
        if odd:
            odd.sort(key=lambda row: -row[0])
            yield _found(
                "saturated",
                [i for _, i, _ in odd],
                name,
                f"{name} is cut off at its limits in {len(odd)} of {len(rows)} recordings:"
                f" {listed([f'{i} ({words})' for _, i, words in odd])}.",
                "Peaks beyond the limit of the sensor or of the controller are lost; choose a"
                " larger range if you can.",
            )


def _gaps(by_channel: Channels) -> Iterator[Finding]:
    """Find gaps in time and lost samples; channels that share their stamps are named once."""
    said: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for name, rows in by_channel.items():
        odd = []
        for one, c in rows:
            lost = c.n_lost / max(c.n_known + c.n_lost, 1)
            parts = [
                *([f"gaps {c.gap_share:.1%} of the time"] if c.gap_share > GAP_SHARE else []),
                *([f"{lost:.1%} of the samples lost"] if lost > LOST_SHARE else []),
            ]
            if parts:
                odd.append((c.gap_share + lost, one.recording_id, ", ".join(parts)))
        if odd:
            odd.sort(key=lambda row: -row[0])
            said[tuple(odd)].append(name)
    for rows, names in said.items():
        words = [f"{i} ({share})" for _, i, share in rows]
        yield _found(
            "gaps",
            [i for _, i, _ in rows],
            names[0] if len(names) == 1 else None,
            f"Samples of {listed(names)} are missing in {listed(words)}.",
            "Preparing cuts at gaps longer than max_gap_s and fills shorter ones.",
            channels=names,
        )


def _far(by_channel: Channels) -> Iterator[Finding]:
    """Find single values far outside the channel's range."""
    for name, rows in by_channel.items():
        usual = median_known([c.spread for _, c in rows])
        odd = []
        for one, c in rows:
            n = int((c.far > FAR_SPREADS * max(usual, c.spread)).sum())
            if n and c.spread > 0:
                more = " or more" * (n == len(c.far) < c.n_known)
                farthest = max(c.low.value, c.high.value, key=lambda v: abs(v - c.quantiles[2]))
                odd.append((c.far[0], one.recording_id, f"{n}{more}, up to {farthest:.4g}"))
        if odd:
            odd.sort(key=lambda row: -row[0])
            yield _found(
                "outliers",
                [i for _, i, _ in odd],
                name,
                f"{name} has values more than {FAR_SPREADS:.0f} times its range away:"
                f" {listed([f'{i} ({words})' for _, i, words in odd])}.",
                "Repair them, or mark them as missing; a mark such as -9999 is one too.",
            )


def _classes(facts: Sequence[RecordingFacts]) -> Iterator[Finding]:
    labelled = [one for one in facts if one.label is not None]
    labels = np.array([one.label for one in labelled])
    groups = np.array([one.group for one in labelled])
    classes = np.unique(labels)
    if len(classes) < 2:
        return
    n_groups = {str(k): len(np.unique(groups[labels == k])) for k in classes}
    few = [k for k, n in n_groups.items() if n < FEW_GROUPS]
    if few:
        words = [f"{k} ({n_groups[k]})" for k in few]
        ids = [one.recording_id for one in labelled if one.label in few]
        yield _found(
            "few_groups",
            ids if len(few) < len(classes) else [],
            None,
            f"Fewer than {FEW_GROUPS} groups hold class {listed(words)}, so it cannot be in"
            " training, validation and test.",
            "Record the class again in other groups (another robot, day or place).",
        )
    n_single = sum(len(np.unique(labels[groups == g])) == 1 for g in np.unique(groups))
    if n_single == len(np.unique(groups)) and 2 * n_single <= len(labelled):
        yield _found(
            "class_is_group",
            [],
            None,
            f"Each of {n_single} groups holds one class only, so what differs between groups (the"
            " day, the robot) cannot be told from the class.",
            "Record each class in several of the groups.",
        )
    yield from _telling(labelled, labels, classes)


def _telling(
    facts: Sequence[RecordingFacts], labels: NDArray[Any], classes: NDArray[Any]
) -> Iterator[Finding]:
    """Find classes that the clock or the length of a recording gives away."""
    start = np.array([one.start_s for one in facts])
    order = np.argsort(start, kind="stable")
    blocks = 1 + sum(a != b for a, b in pairwise(labels[order].tolist()))
    counts = np.unique(labels, return_counts=True)[1]
    if len(np.unique(start)) == len(start) and blocks == len(classes) and counts.min() >= 3:
        yield _found(
            "class_order",
            [],
            None,
            "Each class was recorded in one go, one after the other: what drifts with time"
            " (battery, temperature) tells the classes apart.",
            "Record the classes in turns, and test on another day.",
        )
    for what, values in (
        ("length", [one.duration_s for one in facts]),
        ("sample rate", [one.rate_hz for one in facts]),
    ):
        told = [str(k) for k in classes if _is_told(np.array(values), labels == k)]
        if told:
            yield _found(
                "class_by_" + what.replace(" ", "_"),
                [one.recording_id for one in facts if one.label in told],
                None,
                f"The {what} of a recording alone tells class {listed(told)} from the others.",
                "Make sure that no step keeps it: cut windows of one length and rate.",
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
