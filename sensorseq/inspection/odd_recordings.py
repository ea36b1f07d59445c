"""Rank recordings by how far they stand out from the others of their class."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.copies import LEAST_SHARE, shared_samples
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.inspection.finding import Finding
from sensorseq.messages import ODD_MEASURES, fill
from sensorseq.prediction.outside import Floats

# The limits were chosen on every second recording of borealtc and on simulated robots.
MARKED = 5.0  # a recording is marked if it is this many times as far away as most others
USUAL = 0.95  # fraction of the recordings that are "most others"
FEWEST = 5  # minimum number of recordings, of a class or in total, that a comparison needs
FEW = 12  # n recordings show only roughly what is usual, so scores are divided by 1 + FEW / n
# A pair of channels is compared if the correlation of their changes is beyond `ALIKE`, and has one
# sign, in a fraction `OFTEN` of the recordings of a class; beyond `AGREE`, the gain is compared,
# too. A delay is known only if the correlation is beyond `SURE`.
ALIKE, SURE, AGREE, OFTEN = 0.3, 0.5, 0.8, 0.8
MOST_CELLS = 2_000_000  # maximum size of a table of pairs
MOST_SHOWN = 20
_ONE_SIDED = ("idle", "held", "stuck", "late", "early", "missing")  # less than usual is no fault


class OddRecording(NamedTuple):
    """How far a recording is from the others of its class, in its most unusual measure."""

    recording_id: str
    label: str | None
    score: float = 0.0  # distance, as a multiple of the distance that most others do not exceed
    measure: str = ""  # a key of `ODD_MEASURES`
    channels: tuple[str, ...] = ()
    value: float = np.nan
    usual: float = np.nan  # the median of the class
    text: str = ""

    @property
    def is_marked(self) -> bool:
        """Whether the recording stands out."""
        return self.score > MARKED

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self._asdict(), "channels": list(self.channels), "is_marked": self.is_marked}


class _Measure(NamedTuple):
    """A measure of all recordings (rows), for each channel or pair of channels (columns)."""

    kind: str
    values: Floats  # (n, k)
    floor: Floats | float  # smaller distances mean nothing
    of: Sequence[tuple[str, ...]]  # the channels of each column
    classes: NDArray[Any]  # (n,): recordings of the same class are compared
    plus: float | None = None  # if given, the log10 of (values + plus) is compared


def rank_recordings(facts: Sequence[RecordingFacts]) -> list[OddRecording]:
    """Return all recordings, the most unusual first.

    In each measure, the distance of a recording from the median of its class is divided by the
    distance that 95 % of all recordings do not exceed (and by more if there are few recordings). The
    largest quotient is the score.
    """
    odd = [OddRecording(recording.recording_id, recording.label) for recording in facts]
    units = {c.name: c.unit for recording in facts for c in recording.channels.values()}
    for measure in _measures(facts) if len(facts) >= FEWEST else ():
        score, usual = _scores(measure)
        for i, k in enumerate(score.argmax(axis=1).tolist() if score.size else ()):
            if score[i, k] > odd[i].score:
                value, other = float(measure.values[i, k]), float(usual[i, k])
                unit = units[measure.of[k][-1]] if measure.of[k] else ""
                text = _words(measure.kind, measure.of[k], unit, value, other)
                found = float(score[i, k]), measure.kind, tuple(measure.of[k]), value, other, text
                odd[i] = OddRecording(*odd[i][:2], *found)
    for first, second, share in shared_samples([recording.hashes for recording in facts]):
        for i, other in ((first, second), (second, first)):
            if odd[i].score < (times := MARKED * share / LEAST_SHARE):
                text = fill(ODD_MEASURES["copy"], {"share": share, "other": odd[other][0]})
                odd[i] = OddRecording(*odd[i][:2], times, "copy", (), share, 0.0, text)
    return sorted(odd, key=lambda each: -each.score)


def first_to_look_at(ranked: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the marked recordings, and at least the first three, of a ranking in plain values."""
    n_marked = sum(odd["is_marked"] for odd in ranked)
    n_shown = min(max(3, math.ceil(0.05 * len(ranked)), n_marked), MOST_SHOWN)
    return [odd for odd in ranked[:n_shown] if odd["score"] > 0]


def check_odd_recordings(ranked: Sequence[OddRecording]) -> Iterator[Finding]:
    """Yield a finding about the marked recordings, except copies, which have their own finding."""
    marked = [odd for odd in ranked if odd.is_marked and odd.measure != "copy"]
    if marked:
        places = [f"{odd.recording_id} ({odd.text})" for odd in marked]
        ids = [odd.recording_id for odd in marked]
        yield Finding("stands_out", where={"recordings": ids, "places": places})


def _words(kind: str, names: Sequence[str], unit: str, value: float, usual: float) -> str:
    values = {
        "name": names[-1] if names else "",
        "other": names[0] if names else "",
        "value": value,
        "usual": usual,
        "apart": abs(value - usual),
        "times": value / usual if usual else np.inf,
        "unit": f" {unit}" if unit else "",
        "is_more": value > usual,
    }
    return fill(ODD_MEASURES["sign" if kind == "agreement" and value * usual < 0 else kind], values)


def _scores(measure: _Measure) -> tuple[Floats, Floats]:
    """Return the score of each recording and column, and the usual value of its class."""
    x = measure.values if measure.plus is None else _log(measure.values + measure.plus)
    usual = np.tile(_ranked(x, 0.5), (len(x), 1))
    for label in np.unique(measure.classes):
        mine = measure.classes == label
        is_known = np.isfinite(x[mine]).sum(axis=0) >= FEWEST
        usual[mine] = np.where(is_known, _ranked(x[mine], 0.5), usual[mine])
    apart = x - usual
    apart = np.maximum(apart, 0) if measure.kind in _ONE_SIDED else np.abs(apart)
    n = np.isfinite(x).sum(axis=0)
    limit = np.maximum(_ranked(apart, USUAL, but=1), measure.floor) * (1 + FEW / np.maximum(n, 1))
    limit[n < FEWEST] = np.inf
    return np.nan_to_num(apart / limit), usual if measure.plus is None else 10**usual - measure.plus


def _ranked(x: Floats, share: float, but: int = 0) -> Floats:
    """Return the value that a fraction of each column does not exceed; `but` leaves some out."""
    x, n = np.sort(x, axis=0), np.isfinite(x).sum(axis=0)
    at = np.clip(np.ceil(share * (n - 1)).astype(np.int64), 0, np.maximum(n - 1, 0))
    return np.asarray(x[np.maximum(at - but, 0), np.arange(x.shape[1])])


def _log(x: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, np.log10(x), np.nan)


def _measures(facts: Sequence[RecordingFacts]) -> Iterator[_Measure]:
    """Yield the measures of all recordings."""
    classes = np.array([recording.label or "" for recording in facts])
    for kind, of_one, plus, floor in (
        ("duration", [r.duration_s for r in facts], 0.0, 0.01),
        ("idle", [r.motion.idle_s for r in facts], 0.5, 0.15),
        ("held", [r.motion.held_s for r in facts], 0.1, 0.15),
    ):
        yield _Measure(kind, np.array(of_one)[:, None], floor, [()], classes, plus)
    names = list(dict.fromkeys(name for recording in facts for name in recording.channels))
    place = {name: k for k, name in enumerate(names)}
    places = [np.array([place[name] for name in r.channels], np.int64) for r in facts]

    def table(rows: Sequence[Sequence[float] | Floats]) -> Floats:
        values = np.full((len(facts), len(names)), np.nan)
        for i, row in enumerate(rows):
            values[i, places[i]] = row
        return values

    channels = [recording.channels.values() for recording in facts]
    spread = table([[c.spread for c in each] for each in channels])
    room = np.maximum(np.nan_to_num(0.05 * _ranked(spread, 0.5)), np.finfo(np.float64).tiny)
    size, level = table([r.motion.size for r in facts]), table([[c.mean for c in e] for e in channels])
    for kind, values, floor, plus in (
        ("level", level, room, None),
        ("low", table([[c.quantiles[0] for c in each] for each in channels]), 2 * room, None),
        ("high", table([[c.quantiles[-1] for c in each] for each in channels]), 2 * room, None),
        ("first", table([r.motion.first for r in facts]), 2 * room, None),
        ("last", table([r.motion.last for r in facts]), 2 * room, None),
        ("late", table([r.motion.late_s for r in facts]), 0.3, None),
        ("early", table([r.motion.early_s for r in facts]), 0.3, None),
        ("missing", table([[c.gap_share + c.lost_share for c in e] for e in channels]), 0.005, None),
        ("stuck", table([[c.still_s * c.others_move for c in e] for e in channels]), 0.15, 0.5),
        ("spread", spread, 0.04, 0.0),
        ("speed", table([r.motion.speed for r in facts]), 0.05, 0.0),
        ("jerk", table([r.motion.jerk for r in facts]), 0.05, 0.0),
    ):
        yield _Measure(kind, values, floor, [(name,) for name in names], classes, plus)
    yield from _pairs(facts, names, places, level, size)


def _pairs(
    facts: Sequence[RecordingFacts],
    names: Sequence[str],
    places: Sequence[NDArray[np.int64]],
    level: Floats,
    size: Floats,
) -> Iterator[_Measure]:
    """Yield the measures of pairs of channels that agree in most recordings of a class.

    Gain and offset belong to a robot rather than to a class, so they are compared within groups if
    most groups have several recordings.
    """
    classes = np.array([recording.label or "" for recording in facts])
    groups, counts = np.unique([recording.group for recording in facts], return_counts=True)
    by_robot = np.array([r.group for r in facts]) if np.median(counts) >= FEWEST else classes
    upper = np.stack(np.triu_indices(len(names), 1))
    for a, b in np.array_split(upper, upper.shape[1] * len(facts) // MOST_CELLS + 1, axis=1):
        r, lag = np.full((2, len(facts), len(a)), np.nan)
        for i, recording in enumerate(facts):
            at, n_compared = np.full(len(names), -1), len(recording.motion.agreement)
            at[places[i][:n_compared]] = np.arange(n_compared)
            known = (at[a] >= 0) & (at[b] >= 0)
            r[i, known] = recording.motion.agreement[at[a[known]], at[b[known]]]
            lag[i, known] = recording.motion.delay_s[at[a[known]], at[b[known]]]
        sign, agree = np.zeros(r.shape), np.zeros(r.shape, bool)
        for label in np.unique(classes):
            mine = classes == label
            of_class = r[mine] if mine.sum() >= FEWEST else r
            usual = np.nan_to_num(np.sign(_ranked(of_class, 0.5)))
            least = np.maximum(OFTEN * np.isfinite(of_class).sum(axis=0), FEWEST - 1)
            sign[mine] = np.where((usual * of_class > ALIKE).sum(axis=0) >= least, usual, 0)
            agree[mine] = (usual * of_class > AGREE).sum(axis=0) >= least
        kept = np.flatnonzero(sign.any(axis=0))
        a, b, r, sign, agree = a[kept], b[kept], r[:, kept], sign[:, kept], agree[:, kept]
        of = [(names[j], names[k]) for j, k in zip(a.tolist(), b.tolist(), strict=True)]
        delay = np.where((sign != 0) & (np.abs(r) > SURE), lag[:, kept], np.nan)
        gain = np.full(r.shape, np.nan)
        np.divide(size[:, b], size[:, a], where=agree & (size[:, a] > 0), out=gain)
        offset = level[:, b] - sign * _ranked(gain, 0.5) * level[:, a]
        yield _Measure("agreement", np.where(sign != 0, r, np.nan), 0.2, of, classes)
        yield _Measure("delay", delay, np.where(agree.all(axis=0), 0.02, 0.05), of, classes)
        yield _Measure("gain", gain, 0.01, of, by_robot, 0.0)
        least = np.maximum(0.02 * _ranked(size[:, b], 0.5), np.finfo(np.float64).tiny)
        yield _Measure("offset", np.where(agree, offset, np.nan), least, of, by_robot)
