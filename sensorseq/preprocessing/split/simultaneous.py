"""Find recordings that cover the same time, which must not be split apart.

They are files of several sensors of one recording that were not joined. Dates are evidence of that
by themselves. Stamps from 0 are not, because independent recordings begin at 0, too, and may last
equally long: then the names must fit together as well.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sensorseq.io.pair_pattern import PairPattern
from sensorseq.recording import Recording, sample_rate_of, time_covered
from sensorseq.text import listed, plural

_CALENDAR_S = 946_684_800.0  # the year 2000; smaller stamps are no dates
_SHARE = 0.5  # of the shorter recording that both cover
_MOST_ACROSS = 0.05  # of the recordings may be of one date and two classes
_SAME_ENDS = 0.02  # of its duration by which sensors of a recording may begin or end apart
_PERIODS = 2.0  # of the slower sensor, likewise, where its name is that of no sensor
_MATCHING, _MOST_TWINS = 0.9, 0.5
_SEPARATORS = "_- ."
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SENSORS = re.compile(  # a word in the names of sensors
    "acc(el(erometer|eration)?)?|gyr(o(scope)?)?|magn?(etometer)?|imu|gravity|orientation|attitude"
    "|quaternion|baro(meter)?|pressure|gps|gnss|location|encoder|odom(etry)?|motor|torque|force"
    "|current|voltage|emg|ecg|ppg|eda|temp(erature)?|mic(rophone)?|lidar|sensor",
    re.I,
)


@dataclass(frozen=True)
class Covered:
    """The time that a recording covers: since 1970 if its stamps are dates."""

    recording_id: str
    group: str
    labels: tuple[str | None, ...]
    start_s: float
    end_s: float
    period_s: float

    @classmethod
    def of(cls, recording: Recording) -> "Covered":
        """Return the time that a recording covers."""
        rate_hz = sample_rate_of(recording)
        return cls(
            recording.recording_id,
            recording.group,
            tuple(sorted(recording.labels)) or (None,),
            *time_covered(recording),
            1 / rate_hz if rate_hz > 0 else 0.0,
        )


@dataclass(frozen=True)
class Simultaneous:
    """Recordings that cover the same time: those of each group, by its name."""

    groups: Mapping[str, tuple[str, ...]]
    pair: str | None  # the pattern that would join them

    @property
    def group_of(self) -> dict[str, str]:
        """The group of each of these recordings."""
        return {name: group for group, names in self.groups.items() for name in names}

    def __str__(self) -> str:
        n_recordings = sum(map(len, self.groups.values()))
        first = next(iter(self.groups.values()))
        joining = "name their files so that `pair` can join them"
        if self.pair is not None:
            joining = f"join them with pair={self.pair!r}"
        return (
            f"{n_recordings} recordings cover the same time as another of their class, such as"
            f" {listed(first, 3)}. So they are kept together, in"
            f" {plural(len(self.groups), 'group')}. If they are sensors of one recording,"
            f" {joining}; if not, list them in a manifest with a group for each."
        )


def find_simultaneous(recordings: Iterable[Covered]) -> Simultaneous | None:
    """Find recordings of one class that cover the same time; None if there are none.

    Only recordings that are a group of their own are looked at: groups that are given hold.
    """
    own = [
        one
        for one in recordings
        if one.group == one.recording_id and np.isfinite([one.start_s, one.end_s]).all()
    ]
    if len(own) < 2:
        return None
    layouts = list(_layouts(own))
    sets, is_reliable = _of_one_date(own)
    found = {frozenset(names) for names in sets}
    fitting = (one for one in layouts if {frozenset(names) for names in one.several} == found)
    layout = next(fitting, None)
    if sets and (is_reliable or layout is not None):
        return _named(sets, layout)
    fits = next((layout for layout in layouts if _fits(layout, own)), None)
    return None if fits is None else _named(fits.several, fits)


def pair_of(recordings: Iterable[Covered]) -> str | None:
    """Return a pattern by which the names tell recording and sensor, whenever they were recorded.

    None if there is none.
    """
    return next((layout.pair for layout in _layouts([*recordings])), None)


def _named(sets: Iterable[Sequence[str]], layout: "_Layout | None") -> Simultaneous:
    # named after a recording, because no other group has that name
    groups = {names[0]: tuple(names) for names in map(sorted, sets)}
    return Simultaneous(groups, None if layout is None else layout.pair)


def _of_one_date(own: Sequence[Covered]) -> tuple[list[list[str]], bool]:
    """Return sets of recordings of a class whose dates overlap, and whether that is certain.

    It is not where recordings of different classes overlap, too: then several robots are recorded
    at a time, or a clock begins at one date whenever it is switched on. In that case all recordings
    of a class overlap, and there are no sets.
    """
    dated = [one for one in own if one.start_s >= _CALENDAR_S]
    if len(dated) < 2:
        return [], False
    start, end = (np.array([getattr(one, name) for one in dated]) for name in ("start_s", "end_s"))
    label = np.unique([str(one.labels) for one in dated], return_inverse=True)[1]
    root = np.arange(len(dated))
    n_across = 0
    for at in range(len(dated)):
        shared = np.minimum(end, end[at]) - np.maximum(start, start[at])
        shorter = np.minimum(end - start, end[at] - start[at])
        meets = (shared > 0) & (shared >= _SHARE * shorter)
        n_across += bool((meets & (label != label[at])).any())
        joined = np.unique(root[meets & (label == label[at])])
        root[np.isin(root, joined)] = joined[0]
    is_reliable = n_across <= _MOST_ACROSS * len(dated)
    rows = [np.flatnonzero(root == name) for name in np.unique(root)]
    n_sets = Counter(int(label[own_rows[0]]) for own_rows in rows)
    if (len(rows) if is_reliable else min(n_sets.values())) < 2:
        return [], False
    sets = [[dated[at].recording_id for at in own_rows] for own_rows in rows if len(own_rows) > 1]
    return sets, is_reliable


class _Layout(NamedTuple):
    """What the names of all recordings would tell: those of one recording, and the sensors."""

    pair: str | None  # None for names that no pattern can take apart
    together: dict[str, list[str]]
    sensors: dict[str, set[str]]

    def add(self, of: str, sensor: str, name: str) -> None:
        self.together[of].append(name)
        self.sensors[of].add(sensor)

    @property
    def every_sensor(self) -> set[str]:
        return set().union(*self.sensors.values())

    @property
    def several(self) -> list[list[str]]:
        return [names for names in self.together.values() if len(names) > 1]

    def is_complete(self) -> bool:
        """Test whether there are several recordings, and most have all of several sensors."""
        every, n = self.every_sensor, len(self.together)
        n_complete = sum(sensors == every for sensors in self.sensors.values())
        is_one_each = all(len(self.together[of]) == len(own) for of, own in self.sensors.items())
        return is_one_each and len(every) > 1 < n and n_complete >= _MATCHING * n


def _layouts(own: Sequence[Covered]) -> Iterator[_Layout]:
    """Yield what the names may tell of recording and sensor."""
    names = {one.recording_id: tuple(one.recording_id.split("/")) for one in own}
    in_class = {one.recording_id for one in own if one.labels == names[one.recording_id][:1]}
    for pair in dict.fromkeys(_patterns([*names.values()])):
        pattern, layout = PairPattern(pair), _Layout(pair, defaultdict(list), defaultdict(set))
        for name, parts in names.items():
            found = pattern.match(parts)
            # the folder of a class is not that of a recording
            if found is None or len(parts) < pattern.depth + (name in in_class):
                break
            of = "/".join((*parts[: -pattern.depth], found.recording))
            layout.add(of, found.sensor, name)
        else:
            if layout.is_complete():
                yield layout
    layout = _Layout(None, defaultdict(list), defaultdict(set))
    for name in names:
        if (taken := re.fullmatch(r"(.*?)([A-Za-z]+)(\d+)", name)) is None:
            return
        layout.add(taken[1] + taken[3], taken[2], name)  # acc00, gyr00
    if layout.is_complete():
        yield layout


def _patterns(names: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield patterns that may tell recording and sensor."""
    if min(map(len, names)) > 1:
        yield from ("{recording}/{sensor}.*", "{sensor}/{recording}.*")
    stems = [parts[-1] for parts in names]
    if any(set(stem) & set("*?{}") for stem in stems):
        return
    for mark in _SEPARATORS:
        if all(mark in stem for stem in stems):
            yield from (f"{{sensor}}{mark}{{recording}}.*", f"{{recording}}{mark}{{sensor}}.*")
    rows = [re.split(rf"([{re.escape(_SEPARATORS)}])", stem) for stem in stems]
    if len({len(row) for row in rows}) > 1:
        return
    columns = list(zip(*rows, strict=True))
    varied = [at for at, words in enumerate(columns) if len(set(words)) > 1]
    for sensor in varied:
        others = [at for at in varied if at != sensor]
        if not others or min(others) < sensor < max(others):
            continue
        pattern = [words[0] for words in columns]
        pattern[sensor] = "{sensor}"
        pattern[min(others) : max(others) + 1] = ["{recording}"]
        yield "".join(pattern) + ".*"


def _fits(layout: _Layout, own: Sequence[Covered]) -> bool:
    """Test whether the recordings that a layout joins cover the same time, and others do not.

    Where others do as well, since all begin at 0 and last equally long, sensors must be named.
    """
    by_name = {one.recording_id: one for one in own}
    joined = [[by_name[name] for name in names] for names in layout.together.values()]
    if any(len({one.labels for one in some}) > 1 for some in joined):
        return False
    several = [some for some in joined if len(some) > 1]
    if _are_sensors(layout.every_sensor) and _share(several, _SAME_ENDS) >= _MATCHING:
        return True
    n_of_label = Counter(some[0].labels for some in joined)
    if min(n_of_label.values()) < 2 or _share(several, 0.0) < _MATCHING:
        return False
    spans = np.array([(some[0].start_s, some[0].end_s) for some in joined])
    tolerance_s = _PERIODS * max(one.period_s for one in own)
    n_same = [(np.abs(spans - span) <= tolerance_s).all(axis=1).sum() for span in spans]
    return float(np.mean(np.array(n_same) > 1)) <= _MOST_TWINS


def _are_sensors(names: set[str]) -> bool:
    """Test whether all are names of sensors, such as gyro_left, or the three axes."""
    if {name.lower() for name in names} == {"x", "y", "z"}:
        return True
    return all(any(map(_SENSORS.fullmatch, _WORDS.findall(name))) for name in names)


def _share(several: Sequence[Sequence[Covered]], loose: float) -> float:
    """Return the share of recordings whose sensors begin and end together."""
    return float(np.mean([_coincide(some, loose) for some in several]))


def _coincide(some: Sequence[Covered], loose: float) -> bool:
    duration_s = max(one.end_s - one.start_s for one in some)
    tolerance_s = max(_PERIODS * max(one.period_s for one in some), loose * duration_s)
    spans = np.array([(one.start_s, one.end_s) for one in some])
    return bool((np.ptp(spans, axis=0) <= tolerance_s).all())
