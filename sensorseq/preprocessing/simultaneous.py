"""Find recordings that cover the same time and must stay in the same part of a split.

Such recordings are probably the files of several sensors that were not joined. Equal dates are
sufficient evidence. Equal timestamps that start at 0 are not sufficient, because independent
recordings may also start at 0 and be equally long. For such timestamps, the file names must also
follow a pattern that names the recording and the sensor.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sensorseq.base.text import listed, plural
from sensorseq.io.pair_pattern import PairPattern

_CALENDAR_S = 946_684_800.0  # the year 2000; smaller timestamps are not dates
_SHARE = 0.5  # minimum fraction of the shorter recording that overlaps the longer recording
_MOST_ACROSS = 0.05  # maximum fraction of recordings that overlap a recording of another class
_SAME_ENDS = 0.02  # tolerance for starts and ends if names denote sensors, relative to the duration
_PERIODS = 2.0  # tolerance for starts and ends in any case, in periods of the slowest sensor
_MATCHING, _MOST_TWINS = 0.9, 0.5
_SEPARATORS = "_- ."
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SENSORS = re.compile(  # words in the names of sensors
    "acc(el(erometer|eration)?)?|gyr(o(scope)?)?|magn?(etometer)?|imu|gravity|orientation|attitude"
    "|quaternion|baro(meter)?|pressure|gps|gnss|location|encoder|odom(etry)?|motor|torque|force"
    "|current|voltage|emg|ecg|ppg|eda|temp(erature)?|mic(rophone)?|lidar|sensor",
    re.I,
)


@dataclass(frozen=True)
class Covered:
    """The time that a recording covers, in seconds since 1970 if its timestamps are dates."""

    recording_id: str
    group: str
    labels: tuple[str | None, ...]
    start_s: float
    end_s: float
    period_s: float


@dataclass(frozen=True)
class Simultaneous:
    """Sets of recordings that cover the same time, each stored under the name of its group."""

    groups: Mapping[str, tuple[str, ...]]
    pair: str | None  # value of `pair` that would join the files

    @property
    def group_of(self) -> dict[str, str]:
        """The group of each recording in the sets."""
        return {name: group for group, names in self.groups.items() for name in names}

    def __str__(self) -> str:
        n_recordings = sum(map(len, self.groups.values()))
        first = next(iter(self.groups.values()))
        joining = "name their files so that `pair` can join them"
        if self.pair is not None:
            joining = f"join them with pair={self.pair!r}"
        return (
            f"{n_recordings} recordings cover the same time as another recording of their class,"
            f" such as {listed(first, 3)}. Therefore, they are kept together, in"
            f" {plural(len(self.groups), 'group')}. If the files of a group are from the sensors of"
            f" one recording, {joining}; if not, list them in a manifest, each in its own group."
        )


def find_simultaneous(recordings: Iterable[Covered]) -> Simultaneous | None:
    """Return sets of recordings of one class that cover the same time, or None.

    Only recordings that are alone in their group are considered; the user's groups stay unchanged.
    """
    ungrouped = [
        recording
        for recording in recordings
        if recording.group == recording.recording_id
        and np.isfinite([recording.start_s, recording.end_s]).all()
    ]
    if len(ungrouped) < 2:
        return None
    layouts = list(_layouts(ungrouped))
    sets, is_reliable = _sets_of_one_date(ungrouped)
    by_date = {frozenset(names) for names in sets}
    fitting = (
        layout for layout in layouts if {frozenset(names) for names in layout.several} == by_date
    )
    layout = next(fitting, None)
    if sets and (is_reliable or layout is not None):
        return _with_group_names(sets, layout)
    fits = next((layout for layout in layouts if _fits(layout, ungrouped)), None)
    return None if fits is None else _with_group_names(fits.several, fits)


def sets_by_name(recordings: Iterable[Covered]) -> Iterator[Simultaneous]:
    """Yield the sets of recordings that patterns of file names join, regardless of times."""
    for layout in _layouts([*recordings]):
        yield _with_group_names(layout.several, layout)


def _with_group_names(sets: Iterable[Sequence[str]], layout: "_Layout | None") -> Simultaneous:
    # A group is named after one of its recordings, because no other group has that name.
    groups = {names[0]: tuple(names) for names in map(sorted, sets)}
    return Simultaneous(groups, None if layout is None else layout.pair)


def _sets_of_one_date(recordings: Sequence[Covered]) -> tuple[list[list[str]], bool]:
    """Return sets of recordings of a class whose dates overlap, and whether the sets are certain.

    The sets are uncertain if recordings of different classes also overlap, because several robots
    may have been recorded simultaneously, or a clock may have restarted at the same date. In this
    case, no sets are returned if all recordings of a class overlap.
    """
    dated = [recording for recording in recordings if recording.start_s >= _CALENDAR_S]
    if len(dated) < 2:
        return [], False
    start, end = np.array([(recording.start_s, recording.end_s) for recording in dated]).T
    label = np.unique([str(recording.labels) for recording in dated], return_inverse=True)[1]
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
    n_sets = Counter(int(label[members[0]]) for members in rows)
    if (len(rows) if is_reliable else min(n_sets.values())) < 2:
        return [], False
    sets = [[dated[at].recording_id for at in members] for members in rows if len(members) > 1]
    return sets, is_reliable


class _Layout(NamedTuple):
    """One interpretation of all names: the files and the sensors of each recording."""

    pair: str | None  # None if no pattern can separate the names
    together: dict[str, list[str]]
    sensors: dict[str, set[str]]

    def add(self, recording: str, sensor: str, name: str) -> None:
        self.together[recording].append(name)
        self.sensors[recording].add(sensor)

    @property
    def every_sensor(self) -> set[str]:
        return set().union(*self.sensors.values())

    @property
    def several(self) -> list[list[str]]:
        return [names for names in self.together.values() if len(names) > 1]

    def is_complete(self) -> bool:
        """Return whether several recordings have several sensors each, and few lack a sensor."""
        all_sensors, n = self.every_sensor, len(self.together)
        n_complete = sum(sensors == all_sensors for sensors in self.sensors.values())
        is_one_each = all(
            len(self.together[recording]) == len(sensors)
            for recording, sensors in self.sensors.items()
        )
        return is_one_each and len(all_sensors) > 1 < n and n_complete >= _MATCHING * n


def _layouts(recordings: Sequence[Covered]) -> Iterator[_Layout]:
    """Yield the possible interpretations of the names as recording and sensor."""
    ids = [recording.recording_id for recording in recordings]
    names = {name: tuple(name.split("/")) for name in ids}
    in_class = {
        recording.recording_id
        for recording in recordings
        if recording.labels == names[recording.recording_id][:1]
    }
    for pair in dict.fromkeys(_patterns([*names.values()])):
        pattern, layout = PairPattern(pair), _Layout(pair, defaultdict(list), defaultdict(set))
        for name, parts in names.items():
            match = pattern.match(parts)
            # A folder with the name of a class is not the folder of a recording.
            if match is None or len(parts) < pattern.depth + (name in in_class):
                break
            recording_name = "/".join((*parts[: -pattern.depth], match.recording))
            layout.add(recording_name, match.sensor, name)
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
    """Yield patterns that may separate recording and sensor."""
    if min(map(len, names)) > 1:
        yield from ("{recording}/{sensor}.*", "{sensor}/{recording}.*")
    stems = [parts[-1] for parts in names]
    if any(set(stem) & set("*?{}") for stem in stems):
        return
    for mark in _SEPARATORS:
        if all(mark in stem for stem in stems):
            yield from (f"{{sensor}}{mark}{{recording}}.*", f"{{recording}}{mark}{{sensor}}.*")
    rows = [re.split(rf"([{re.escape(_SEPARATORS)}])", stem) for stem in stems]
    if len({len(row) for row in rows}) == 1:
        yield from _patterns_of_words(list(zip(*rows, strict=True)))
    for mark in _SEPARATORS:
        words = [stem.split(mark) for stem in stems]
        for n_behind in range(1, min(map(len, words)) - 1):  # such as the rate of the sensor
            if _are_sensors({row[-1 - n_behind] for row in words}):
                yield f"{{recording}}{mark}{{sensor}}{n_behind * f'{mark}*'}.*"


def _patterns_of_words(columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield patterns for names of equally many words, in which one word names the sensor."""
    varied = [at for at, words in enumerate(columns) if len(set(words)) > 1]
    for sensor in varied:
        of_recording = [at for at in varied if at != sensor]
        if not of_recording or min(of_recording) < sensor < max(of_recording):
            continue
        pattern = [words[0] for words in columns]
        pattern[sensor] = "{sensor}"
        pattern[min(of_recording) : max(of_recording) + 1] = ["{recording}"]
        yield "".join(pattern) + ".*"


def _fits(layout: _Layout, recordings: Sequence[Covered]) -> bool:
    """Return whether the files that a layout joins cover the same time, and other files do not.

    If other files also cover the same time, because all files begin at 0 and are equally long, the
    file names must contain names of sensors.
    """
    by_name = {recording.recording_id: recording for recording in recordings}
    joined = [[by_name[name] for name in names] for names in layout.together.values()]
    if any(len({recording.labels for recording in files}) > 1 for files in joined):
        return False
    several = [files for files in joined if len(files) > 1]
    if (
        _are_sensors(layout.every_sensor)
        and _share_that_coincides(several, _SAME_ENDS) >= _MATCHING
    ):
        return True
    n_of_label = Counter(files[0].labels for files in joined)
    if min(n_of_label.values()) < 2 or _share_that_coincides(several, 0.0) < _MATCHING:
        return False
    spans = np.array([(files[0].start_s, files[0].end_s) for files in joined])
    tolerance_s = _PERIODS * max(recording.period_s for recording in recordings)
    n_same = [(np.abs(spans - span) <= tolerance_s).all(axis=1).sum() for span in spans]
    return float(np.mean(np.array(n_same) > 1)) <= _MOST_TWINS


def _are_sensors(names: set[str]) -> bool:
    """Return whether all names denote sensors, such as gyro_left, or are the three axes."""
    if {name.lower() for name in names} == {"x", "y", "z"}:
        return True
    return all(any(map(_SENSORS.fullmatch, _WORDS.findall(name))) for name in names)


def _share_that_coincides(several: Sequence[Sequence[Covered]], loose: float) -> float:
    """Return the fraction of recordings whose sensors begin and end together."""
    return float(np.mean([_coincide(files, loose) for files in several]))


def _coincide(files: Sequence[Covered], loose: float) -> bool:
    spans = np.array([(file.start_s, file.end_s) for file in files])
    duration_s = float(np.diff(spans, axis=1).max())
    tolerance_s = max(_PERIODS * max(file.period_s for file in files), loose * duration_s)
    return bool((np.ptp(spans, axis=0) <= tolerance_s).all())
