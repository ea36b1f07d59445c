"""Rank recordings by how far they stand out from the others of their class."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.copies import LEAST_SHARE
from sensorseq.inspection.facts import ChannelFacts, RecordingFacts
from sensorseq.messages import ODD_MEASURES, fill
from sensorseq.prediction.outside import Floats

# The limits were chosen on every second recording of borealtc and on simulated robots.
MARKED = 5.0  # a recording is marked if it is this many times as far away as most others
USUAL = 0.95  # fraction of the recordings that are "most others"
FEWEST = 5  # minimum number of recordings, of a class or in total, that a comparison needs
FEW = 12  # n recordings show only roughly what is usual, so scores are divided by 1 + FEW / n
# Two channels agree if the correlation of their changes has one sign, and is beyond `AGREE` (or
# beyond `ALIKE` if their names differ only in `_ROLES`), in a fraction `OFTEN` of the recordings of
# a class. Of others beyond `ALIKE`, only the sign is compared, and the delay if beyond `SURE`.
ALIKE, SURE, AGREE, OFTEN = 0.3, 0.5, 0.8, 0.8
_COMMAND = re.compile("action|cmd|command|commanded|desired|goal|leader|reference|setpoint|target")
_ROLES = re.compile(
    f"{_COMMAND.pattern}|actual|feedback|follower|measured|observation|present|state"
)
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


def rank_recordings(
    facts: Sequence[RecordingFacts], copies: Sequence[tuple[int, int, float]]
) -> list[OddRecording]:
    """Return all recordings, the most unusual first; `copies` are from `shared_samples`.

    In each measure, the distance of a recording from the median of its class is divided by the
    distance that 95 % of all recordings do not exceed, and by more if there are few recordings.
    The largest quotient is the score.
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
                odd[i] = odd[i]._replace(
                    score=float(score[i, k]),
                    measure=measure.kind,
                    channels=tuple(measure.of[k]),
                    value=value,
                    usual=other,
                    text=text,
                )
    for first, second, share in copies:
        for i, other in ((first, second), (second, first)):
            if odd[i].score < (times := MARKED * share / LEAST_SHARE):
                kind = "contains" if facts[i].duration_s > facts[other].duration_s else "copy"
                text = fill(ODD_MEASURES[kind], {"share": share, "other": odd[other][0]})
                label = odd[i].label
                odd[i] = OddRecording(odd[i][0], label, times, kind, (), share, 0.0, text)
    return sorted(odd, key=lambda each: -each.score)


def first_to_look_at(ranked: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the marked recordings, and at least the first three, of a ranking in plain values."""
    n_marked = sum(odd["is_marked"] for odd in ranked)
    n_shown = min(max(3, math.ceil(0.05 * len(ranked)), n_marked), MOST_SHOWN)
    return [odd for odd in ranked[:n_shown] if odd["score"] > 0]


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
    if kind == "agreement" and value * usual < 0:
        kind = "sign"
    elif kind == "level" and value * usual < 0 and abs(value + usual) < abs(usual) / 2:
        kind = "reversed"  # a level near zero has no sign
    return fill(ODD_MEASURES[kind], values)


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


def _words_in(name: str) -> list[str]:
    return re.split(r"[\W_]+", name.casefold())


def _measures(facts: Sequence[RecordingFacts]) -> Iterator[_Measure]:
    """Yield the measures of all recordings."""
    classes = np.array([recording.label or "" for recording in facts])
    for kind, of_one, least, shift in (
        ("duration", [r.duration_s for r in facts], 0.01, 0.0),
        ("idle", [r.idle_s for r in facts], 0.15, 0.5),
        ("held", [r.held_s for r in facts], 0.15, 0.1),
    ):
        yield _Measure(kind, np.array(of_one)[:, None], least, [()], classes, shift)
    every_name = dict.fromkeys(name for recording in facts for name in recording.channels)
    # Commands come first, because texts about a pair name its second channel as the odd one.
    names = sorted(every_name, key=lambda name: not any(map(_COMMAND.fullmatch, _words_in(name))))
    place = {name: k for k, name in enumerate(names)}
    places = [np.array([place[name] for name in r.channels], np.int64) for r in facts]

    def table(of_channel: Callable[[ChannelFacts], float]) -> Floats:
        values = np.full((len(facts), len(names)), np.nan)
        for i, recording in enumerate(facts):
            values[i, places[i]] = [of_channel(c) for c in recording.channels.values()]
        return values

    level, spread = table(lambda c: c.mean), table(lambda c: c.spread)
    room = np.maximum(np.nan_to_num(0.05 * _ranked(spread, 0.5)), np.finfo(np.float64).tiny)
    of = [(name,) for name in names]
    for kind, values, floor, plus in (
        ("level", level, room, None),
        ("low", table(lambda c: c.low.value), 2 * room, None),
        ("high", table(lambda c: c.high.value), 2 * room, None),
        ("first", table(lambda c: c.first), 2 * room, None),
        ("last", table(lambda c: c.last), 2 * room, None),
        ("late", table(lambda c: c.late), 0.3, None),
        ("early", table(lambda c: c.early), 0.3, None),
        ("missing", table(lambda c: c.gap_share + c.lost_share), 0.02, None),
        ("stuck", table(lambda c: c.still_s * c.others_move), 0.15, 0.5),
        ("speed", table(lambda c: c.speed), 0.05, 0.0),
        ("jerk", table(lambda c: c.jerk), 0.1, 0.0),
        ("spread", spread, 0.04, 0.0),
    ):
        yield _Measure(kind, values, floor, of, classes, plus)
    yield from _pairs(facts, names, places, level, table(lambda c: c.size))


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
    groups = np.array([recording.group for recording in facts])
    is_repeated = np.median(np.unique(groups, return_counts=True)[1]) >= FEWEST
    by_robot = groups if is_repeated else classes
    what = [{word for word in _words_in(name) if not _ROLES.fullmatch(word)} for name in names]
    upper = np.stack(np.triu_indices(len(names), 1))
    for a, b in np.array_split(upper, upper.shape[1] * len(facts) // MOST_CELLS + 1, axis=1):
        r, lag = np.full((2, len(facts), len(a)), np.nan)
        for i, recording in enumerate(facts):
            at, n_compared = np.full(len(names), -1), len(recording.agreement)
            at[places[i][:n_compared]] = np.arange(n_compared)
            known = (at[a] >= 0) & (at[b] >= 0)
            r[i, known] = recording.agreement[at[a[known]], at[b[known]]]
            lag[i, known] = recording.delay_s[at[a[known]], at[b[known]]]
        sign, agree = np.zeros(r.shape), np.zeros(r.shape, bool)
        is_named = np.array([what[j] == what[k] for j, k in zip(a, b, strict=True)], bool)
        enough = np.where(is_named, ALIKE, AGREE)
        for label in np.unique(classes):
            mine = classes == label
            of_class = r[mine] if mine.sum() >= FEWEST else r
            usual = np.nan_to_num(np.sign(_ranked(of_class, 0.5)))
            least = np.maximum(OFTEN * np.isfinite(of_class).sum(axis=0), FEWEST - 1)
            sign[mine] = np.where((usual * of_class > ALIKE).sum(axis=0) >= least, usual, 0)
            agree[mine] = (usual * of_class > enough).sum(axis=0) >= least
        kept = np.flatnonzero(sign.any(axis=0))
        a, b, r, sign, agree = a[kept], b[kept], r[:, kept], sign[:, kept], agree[:, kept]
        of = [(names[j], names[k]) for j, k in zip(a.tolist(), b.tolist(), strict=True)]
        is_sure = np.abs(r) > np.where(is_named[kept], ALIKE, SURE)
        delay = np.where((sign != 0) & is_sure, lag[:, kept], np.nan)
        gain = np.full(r.shape, np.nan)
        np.divide(size[:, b], size[:, a], where=agree & (size[:, a] > 0), out=gain)
        offset = level[:, b] - sign * _ranked(gain, 0.5) * level[:, a]
        yield _Measure("agreement", np.where(sign != 0, r, np.nan), 0.25, of, classes)
        yield _Measure("delay", delay, np.where(is_named[kept], 0.02, 0.1), of, classes)
        yield _Measure("gain", gain, 0.01, of, by_robot, 0.0)
        least = np.maximum(0.02 * _ranked(size[:, b], 0.5), np.finfo(np.float64).tiny)
        yield _Measure("offset", np.where(agree, offset, np.nan), least, of, by_robot)
