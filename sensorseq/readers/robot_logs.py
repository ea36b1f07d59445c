"""Read recordings from robot logs: ROS 1 bags, ROS 2 bags, MCAP, ULog and MDF files."""

import bz2
import dataclasses
import errno
import io
import json
import math
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from importlib import import_module
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import listed
from sensorseq.errors import (
    EnvironmentProblemError,
    MissingChannelError,
    RecordingError,
    did_you_mean,
)
from sensorseq.io.blocks import count_where
from sensorseq.options import ReadOptions, as_options, takes_options
from sensorseq.readers.columns import (
    CodedLabels,
    Content,
    NumberColumns,
    Origin,
    check_timestamps,
    labels_in_order,
    make_recording,
    refusing_content,
    spans_of_labels,
)
from sensorseq.readers.join import join_sensors
from sensorseq.readers.mdf import read_mdf
from sensorseq.readers.ros_checks import check_database, check_definition, check_type
from sensorseq.readers.suffixes import MDF_SUFFIXES, STORED_LOG_SUFFIXES, suffix_of
from sensorseq.readers.topics import MOST_ELEMENTS, TIMES, Topic, TopicArrays, rate_of
from sensorseq.readers.ulog import read_ulog
from sensorseq.recording import LabelSpan, Recording
from sensorseq.stamps.read import Stamps

_ELEMENT = re.compile(r"\[\d+\]")
_PART = re.compile(r"(?:^|\.)(\w+)|\[([^\]]+)\]")
_NAMES = re.compile(r"(\w+_)?names?")  # fields with the names of the elements of other fields
_OWN_NAMES = ("child_frame_id", "name")  # fields with the name of an element itself
_OWN_TEXTS = ("frame_id", *_OWN_NAMES)
_FRAMES = ("header.frame_id", "child_frame_id")  # fields that name the source of a message
_BAG_MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7  # record types of a bag
_LISTED = 1000  # number of messages of a topic after which a list of topics assumes one sensor
_LATE_S = 1.0  # maximum delay of a message from its stamp, besides periods
_DAY_NS = 24 * 3600 * 10**9


@dataclass
class _Column:
    """A channel in the messages of a topic."""

    path: str  # with names of elements
    values: list[float]
    kinds: set[int]  # of messages that name the elements in its path; empty for a plain path


@dataclass
class _Series:
    """The messages of one topic, in log order; those of one kind have the same frame and names."""

    topic: str
    message_type: str
    wanted: Sequence[str] | None = None  # channels; None for all numbers
    label: str | None = None
    uses_header: bool = False  # True if the times come from message headers
    times_s: list[float] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)  # of each message
    kind_of: dict[tuple[str, ...], int] = field(default_factory=dict)  # by frame and names
    columns: dict[str, _Column] = field(default_factory=dict)
    clock: list[tuple[float, float]] = field(default_factory=list)  # log times and delays in s
    # The fields, and the functions that read the outline, by the type and class of messages.
    forms: dict[tuple[str, type], tuple[list[str], list[Any]]] = field(default_factory=dict)
    plans: dict[Any, tuple[int, list[partial[Any]]]] = field(default_factory=dict)  # by outline

    def read(self, where: Path, type_: str, content: Any) -> list[Any]:
        """Return the values of the channels, and of the label, in the next message."""
        form = type_, content.__class__
        if form not in self.forms:
            leaves = dict(_leaves(content))
            varying = [path for path in leaves if path in _FRAMES or not np.isscalar(leaves[path])]
            is_free = isinstance(content, dict)
            self.forms[form] = [*leaves], [lambda x: x] if is_free else [*map(attrgetter, varying)]
        outline = form, *[_outline(get(content)) for get in self.forms[form][1]]
        kind, getters = self.plans.get(outline) or self._plan(where, content, outline)
        self.kinds.append(kind)
        return [get(content) for get in getters]

    def _plan(self, where: Path, content: Any, outline: Any) -> tuple[int, list[partial[Any]]]:
        """Return the kind of the messages with an outline, and functions that read them."""
        names: list[str] = []
        message = _by_name(content, names)
        frame = ":".join(filter(None, (_frame(message, path) for path in _FRAMES)))
        if (frame, *names) not in self.kind_of and len(set(self._frames())) > MOST_ELEMENTS:
            frame = ""  # the frames count the messages
        is_few = len(self.plans) < MOST_ELEMENTS  # otherwise, fields may be keys of data
        if is_few or (frame, *names) not in self.kind_of:
            self._find(where, message, self.kind_of.setdefault((frame, *names), len(self.kind_of)))
        paths = [self.label[len(self.topic) + 1 :]] if self.label else []
        paths += [column.path for column in self.columns.values()]
        getters = [partial(reduce, _part_of, _named_path(message, path)[2]) for path in paths]
        plan = self.kind_of[frame, *names], getters
        return self.plans.setdefault(outline, plan) if is_few else plan

    def _frames(self) -> list[str]:
        return [frame for frame, *_ in self.kind_of]

    def _find(self, where: Path, message: Any, kind: int) -> None:
        """Find the channels in a message of a new kind."""
        fields = {_ELEMENT.sub("[]", column.path) for column in self.columns.values()}
        numbers = [f"{self.topic}.{path}" for path in _numbers_in(message)]
        for channel in numbers if self.wanted is None else self.wanted:
            frame, given = _frame_and_path(self.topic, channel)
            path, is_named, _ = _named_path(message, given)
            # A list that grows adds no channels.
            is_old = self.wanted is None and not is_named and _ELEMENT.sub("[]", path) in fields
            is_here = path and frame in (None, self._frames()[kind])
            if channel == self.label or not is_here or is_old:
                continue
            missing = [math.nan] * len(self.kinds)
            column = self.columns.setdefault(channel, _Column(path, missing, set()))
            if path != column.path:
                name = f"{self.topic}.{path if column.path == given else column.path}"
                raise RecordingError(
                    f"{where}: the names in messages of {self.topic!r} change, so {channel!r} is"
                    f" {column.path!r} in some messages and {path!r} in others; choose an element"
                    f" by its name, such as {name!r}."
                )
            column.kinds.update([kind] * is_named)

    def sensors(self, where: Path) -> Iterator[tuple[str, NDArray[np.bool_], dict[str, _Column]]]:
        """Yield each sensor's name, messages and channels; the whole topic if it has none.

        Messages with different frames, or with different named elements, are of several sensors.
        """
        frames, of_message = self._frames(), np.array(self.kinds)
        several = 1 < len(set(frames)) <= MOST_ELEMENTS
        found: dict[tuple[str, tuple[int, ...]], dict[str, _Column]] = defaultdict(dict)
        for channel, column in self.columns.items():
            frame, path = _frame_and_path(self.topic, channel)
            kinds: dict[str, list[int]] = defaultdict(list)
            for kind in sorted(column.kinds) or range(len(frames)):
                if not several or frame in (None, frames[kind]):
                    kinds[f"[{frames[kind]}]" if several else ""].append(kind)
            if self.wanted is not None and len(kinds) > 1:
                raise RecordingError(
                    f"{where}: messages of {self.topic!r} have several frame_id or child_frame_id"
                    f" ({listed(kinds, 6)}), so they are not one signal; name the frame, as in"
                    f" '{self.topic}{next(iter(kinds))}.{path}'."
                )
            for name, those in kinds.items():
                sensor = self.topic + name
                key = f"{sensor}.{path}" if self.wanted is None else channel
                found[sensor, tuple(those)][key] = column
        for (sensor, members), columns in found.items():
            yield sensor, np.isin(of_message, members), columns
        if not found:
            yield self.topic, np.ones(len(of_message), bool), {}

    def arrays(self, where: Path) -> Iterator[TopicArrays]:
        """Yield the messages of each sensor, and the labels, as arrays."""
        for name in (column.path.partition("[")[0] for column in self.columns.values()):
            if len({name in fields for fields, _ in self.forms.values()}) > 1:
                raise RecordingError(
                    f"{where}: messages of {self.topic!r} have several definitions"
                    f" ({listed([type_ for type_, _ in self.forms], 6)}), and not all of them have"
                    f" {name!r}; use channels to choose fields that all have."
                )
        times_s, time_from = np.array(self.times_s), TIMES[0] if self.uses_header else TIMES[1]
        made = partial(TopicArrays, message_type=self.message_type, units={}, time_from=time_from)
        for name, rows, columns in self.sensors(where):
            values: NumberColumns = {
                key: np.array(column.values)[rows] for key, column in columns.items()
            }
            yield made(name, times_s=times_s[rows], columns=values)
        if self.label is not None:
            yield made(self.topic, times_s=times_s, columns={}, labels=CodedLabels.of(self.labels))


@takes_options
def read_robot_log(
    path: Path | Sequence[Path],
    options: ReadOptions | None = None,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from a ROS 1 bag, a ROS 2 bag, an MCAP, ULog or MDF file.

    A channel is a number in the messages of a topic, such as ``/joint_states.effort[0]`` or
    ``/imu.angular_velocity.x``. Elements of a list are numbered unless the messages name them, as
    in ``/joint_states.effort[arm_1]``; if a topic has several frames, the frame follows the topic,
    as in ``/imu[left].angular_velocity.x``. Messages may be in the format of ROS 1, ROS 2 (CDR),
    protobuf or JSON. Message types are defined in the file or, for a ``.db3`` file without
    definitions, are those of the latest ROS 2. In ULog files, the name of a topic contains the
    number of its instance, as in ``sensor_accel_0.x``; in MDF files, topics are the channel groups,
    as in ``CAN1.motor_current``. Topics keep their own rates; see `join_sensors`. Time is in
    seconds from the first message of the log, or from the start of a ULog or MDF file; header
    stamps on a different clock (simulated time) are not shifted.

    Parameters
    ----------
    path : Path or sequence of Path
        The file, or the files of a split bag in order.
    options : ReadOptions, optional
        `channels`, `time_column`, `stamps`, `label_column` and `salvage` are used. By default, all
        numbers in the messages of each topic are channels, including the elements of arrays of up
        to 64 numbers.
    recording_id, group, label
        As in `Recording`.

    Raises
    ------
    RecordingError
        If the file is damaged (the message gives the offset), or if it does not contain a requested
        channel or the requested time.
    EnvironmentProblemError
        If the packages of the extra ``ros`` (or ``vehicle``, for ULog and MDF) are not installed.
    """
    options = as_options(options)
    paths = [path] if isinstance(path, Path) else list(path)
    with refusing_content(paths[0]):
        return _read(paths, options, Origin(recording_id, group, label))


def _read(paths: list[Path], options: ReadOptions, origin: Origin) -> Recording:
    where, label, label_column = paths[0], origin.label, options.label_column
    if label_column is not None and label is not None:
        raise RecordingError(
            f"{where}: its folder or manifest gives the label {label!r}, and"
            f" label_column={label_column!r} labels parts of it; use only one of the two."
        )
    topics, damage = _read_or_salvage(paths, options)
    spans, use = None, replace(options, units=None)
    parts: list[tuple[str, Recording]] = []
    for topic in topics:
        from_header = topic.time_from == TIMES[0]
        name = f"{topic.name}.{TIMES[0]}" if from_header else f"{TIMES[1]} of {topic.name}"
        if topic.labels is not None:
            spans = _spans_of(where, name, topic, options)
        if topic.channels:
            content = Content(topic.columns, Stamps(topic.times_s, {}), name, topic.units)
            sensor = topic.channels[0] if topic.name in dict(parts) else topic.name
            parts.append((sensor, make_recording(where, content, use, origin)))
    recording = parts[0][1]
    if len(parts) > 1:
        try:
            recording = join_sensors([part for _, part in parts], [topic for topic, _ in parts])
        except RecordingError as error:
            raise RecordingError(f"{where}: {error}") from error
    recording = recording if options.channels is None else recording.select(options.channels)
    if damage is not None:
        kept_s = recording.duration_s
        reason = f"{damage} Only the first {kept_s:.1f} s of the log are used."
        salvaged = {"salvaged": {"reason": reason, "kept_s": kept_s}}
        recording = replace(recording, attributes={**recording.attributes, **salvaged})
    return recording if spans is None else _labeled(recording, spans)


def read_robot_log_timestamps(
    path: Path | Sequence[Path], options: ReadOptions
) -> NDArray[np.float64]:
    """Return the timestamps of the topic with the most messages, among the topics with channels."""
    paths = [path] if isinstance(path, Path) else list(path)
    topics, _ = _read_or_salvage(paths, replace(options, label_column=None))
    fastest = max((t for t in topics if t.channels), key=lambda topic: len(topic.times_s))
    times_s = fastest.times_s
    plan = check_timestamps(
        paths[0], times_s, fastest.name, lambda: fastest.columns, stamps=options.stamps
    )
    return times_s if plan is None else plan.repaired_s()


def list_topics(path: Path | Sequence[Path], channels: Sequence[str] | None = None) -> list[Topic]:
    """List the topics of a log, without reading all values.

    Parameters
    ----------
    path : Path or sequence of Path
        The file, or the files of a split bag in order.
    channels : sequence of str, optional
        Channels whose topics are listed; by default, all topics are listed.

    Raises
    ------
    RecordingError, EnvironmentProblemError
        As in `read_robot_log`; also if the log has none of the `channels`.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    if suffix_of(paths[0]) in STORED_LOG_SUFFIXES:
        topics = _list_arrays(paths, channels)
        if channels is not None and not topics:
            raise _no_such(paths, channels[0])
        return topics
    series_of: dict[str, _Series] = {}

    def may_differ(topic: str) -> bool:
        """Return whether the topic may have messages of several kinds."""
        series = series_of.get(topic)
        if series is None or len(series.kinds) < _LISTED or len(series.kind_of) > 1:
            return True
        return any(kind is dict for _, kind in series.forms)

    for message in _messages(paths, channels, may_differ):
        series = series_of.setdefault(message.topic, _Series(message.topic, message.type))
        if message.content is None:
            series.kinds.append(0)
        else:
            series.read(paths[0], message.type, message.content)
        _add_time(paths[0], message, series)
    if channels is not None and not series_of:
        raise _no_such(paths, channels[0])
    topics = []
    for _, series in sorted(series_of.items()):
        for name, rows, columns in series.sensors(paths[0]):
            rate_hz = rate_of(np.array(series.times_s)[rows])
            if channels is None or any(_is_of(name, channel) for channel in channels):
                n_messages = int(rows.sum())
                topics.append(Topic(name, series.message_type, n_messages, rate_hz, (*columns,)))
    return topics


def _list_arrays(paths: list[Path], channels: Sequence[str] | None) -> list[Topic]:
    if suffix_of(paths[0]) in MDF_SUFFIXES:
        groups = read_mdf(paths, channels, ReadOptions(), is_listing=True)
        return [topic.listed() for topic in groups]
    topics = [topic.listed() for topic in read_ulog(paths, channels, MOST_ELEMENTS)]
    return [t for t in topics if channels is None or set(t.channels).intersection(channels)]


def _read_or_salvage(
    paths: list[Path], options: ReadOptions
) -> tuple[list[TopicArrays], str | None]:
    """Return the topics and, for a salvaged file, a description of the damage."""
    try:
        return _read_topics(paths, options), None
    except RecordingError as error:
        if not options.salvage:
            raise
        with suppress(RecordingError):
            return _read_topics(paths, options, salvage=True), str(error)
        raise


def _read_topics(
    paths: list[Path], options: ReadOptions, salvage: bool = False
) -> list[TopicArrays]:
    channels, label_column = options.channels, options.label_column
    time_column = options.time_column
    where = paths[0]
    if time_column not in (None, *TIMES):
        raise RecordingError(
            f"{where}: robot logs have no time column {time_column!r}; use {' or '.join(TIMES)}."
        )
    wanted = None if channels is None else [*channels, *([label_column] if label_column else [])]
    if suffix_of(where) in STORED_LOG_SUFFIXES:
        topics = _read_arrays(paths, options, wanted, salvage=salvage)
    else:
        topics = _read_messages(paths, options, wanted, salvage=salvage)
    columns = {name: values for topic in topics for name, values in topic.columns.items()}
    for name in channels or ():
        if name not in columns or name == label_column or not _has_number(columns[name]):
            raise _no_such(paths, name)
    if label_column:
        coded = [topic.labels for topic in topics if topic.labels is not None]
        if not any(labels.names[code] for labels in coded for code in np.unique(labels.codes)):
            raise _no_such(paths, label_column)
    if not any(topic.channels for topic in topics):
        raise RecordingError(f"{where}: no topic has messages with numbers.")
    return topics


def _has_number(values: NDArray[np.float64] | None) -> bool:
    if values is None:
        return False
    n_missing, _ = count_where(lambda at, stop: np.isnan(values[at:stop]), len(values), values)
    return n_missing < len(values)


def _read_arrays(
    paths: list[Path], options: ReadOptions, wanted: list[str] | None, *, salvage: bool
) -> list[TopicArrays]:
    """Return the topics of a ULog file, or the groups of an MDF file."""
    where, label = paths[0], options.label_column
    if options.time_column == TIMES[0]:
        raise RecordingError(f"{where}: this kind of log has no {TIMES[0]}; remove time_column.")
    if suffix_of(where) in MDF_SUFFIXES:
        stored = read_mdf(paths, wanted, options)
    else:
        stored = read_ulog(paths, wanted, MOST_ELEMENTS, salvage=salvage)
    topics = []
    for topic in stored:
        if wanted is None and not topic.has_clock:
            continue
        columns = {
            name: values
            for name, values in topic.columns.items()
            if name != label and (options.channels is None or name in options.channels)
        }
        labels, values = topic.labels, topic.columns.get(label or "")
        if values is not None:
            labels = CodedLabels.of([_text(value) for value in values])
        if columns or labels is not None:
            topics.append(topic._replace(columns=columns, labels=labels))
    return topics


def _read_messages(
    paths: list[Path], options: ReadOptions, wanted: list[str] | None, *, salvage: bool
) -> list[TopicArrays]:
    """Return the topics of a bag or an MCAP file."""
    series_of: dict[str, _Series] = {}
    for message in _messages(paths, wanted, salvage=salvage):
        series = series_of.get(message.topic)
        if series is None:
            series = series_of[message.topic] = _begin(message, options, paths[0])
        _add_time(paths[0], message, series)
        values = series.read(paths[0], message.type, message.content)
        if series.label is not None:
            series.labels.append(_text(values.pop(0)))
        for column, value in zip_longest(series.columns.values(), values):
            column.values.append(_number(value))
    if options.time_column is None and series_of:
        _check_clocks(paths[0], series_of.values())
    return [arrays for series in series_of.values() for arrays in series.arrays(paths[0])]


def _begin(message: "_Message", options: ReadOptions, where: Path) -> _Series:
    topic, content = message.topic, message.content
    channels, label_column = options.channels, options.label_column
    time_column = options.time_column
    stamp = _stamp_ns(content)
    if time_column == TIMES[0] and stamp is None:
        raise RecordingError(
            f"{where}: messages of {topic!r} have no {TIMES[0]}; use time_column={TIMES[1]!r}."
        )
    label = label_column if label_column is not None and _is_of(topic, label_column) else None
    uses_header = stamp is not None and time_column != TIMES[1]
    wanted = None if channels is None else [c for c in channels if _is_of(topic, c) and c != label]
    return _Series(topic, message.type, wanted, label, uses_header)


def _is_of(topic: str, channel: str) -> bool:
    return channel.startswith((f"{topic}.", f"{topic}["))


def _frame_and_path(topic: str, channel: str) -> tuple[str | None, str]:
    """Return the frame that a channel's name gives, and the path to its number in a message."""
    within = channel[len(topic) :]
    if within.startswith("["):
        frame, _, path = within[1:].partition("].")
        return frame, path
    return None, within[1:]


def _frame(message: Any, path: str) -> str:
    value = reduce(_part_of, path.split("."), message)
    return value.lstrip("/") if isinstance(value, str) else ""


def _no_such(paths: list[Path], name: str) -> RecordingError:
    numbers = [number for topic in list_topics(paths) for number in topic.channels]
    return MissingChannelError(
        f"{paths[0]}: no channel {name!r} in its messages; it has"
        f" {listed(numbers) or 'no numeric channels'}." + did_you_mean(name, numbers)
    )


def _spans_of(
    where: Path, name: str, topic: TopicArrays, options: ReadOptions
) -> tuple[LabelSpan, ...]:
    """Return the label spans of a topic."""
    labels, times = topic.labels, topic.times_s
    assert labels is not None
    codes = labels.codes
    plan = check_timestamps(
        where, times, name, lambda: {"label": codes.astype(np.float64)}, stamps=options.stamps
    )
    if plan is not None:
        labels, times = labels_in_order(where, labels, plan), plan.repaired_s()
    return spans_of_labels(labels, times)


def _labeled(recording: Recording, spans: tuple[LabelSpan, ...]) -> Recording:
    """Add the label spans that contain samples; the last span extends to the recording's end."""
    times = recording.timestamps_s
    if spans:
        end_s = max(spans[-1].end_s, float(np.nextafter(times[-1], math.inf)))
        spans = (*spans[:-1], replace(spans[-1], end_s=end_s))
    starts = np.searchsorted(times, [span.start_s for span in spans])
    ends = np.searchsorted(times, [span.end_s for span in spans])
    kept = tuple(span for span, i, j in zip(spans, starts, ends, strict=True) if j > i)
    return replace(recording, label_spans=kept)


# Contents of messages: dataclass objects, or values from JSON or protobuf.


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), part) for key, part in value.items())
    else:
        yield from ((name, getattr(value, name)) for name in _field_names(value.__class__))


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return tuple(field.name for field in fields if not field.name.startswith("__"))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of the fields that contain no fields."""
    for name, part in _items(value):
        yield from [*_leaves(part, f"{path}{name}.")] or [(path + name, part)]


def _outline(value: Any) -> Any:
    """Return what decides where the channels of a message are: names, frames and lengths."""
    if isinstance(value, int | float):
        return 0
    if isinstance(value, list) and (len(value) <= MOST_ELEMENTS or _are_names(value)):
        return tuple(map(_outline, value))
    if isinstance(value, list | np.ndarray):
        return len(value)
    if isinstance(value, str | None):
        return value
    return tuple(
        (name, "" if isinstance(part, str) and name not in _OWN_TEXTS else _outline(part))
        for name, part in _items(value)
    )


def _numbers_in(content: Any) -> Iterator[str]:
    """Yield the paths to the numbers in a message, except those in its header or stamp."""
    for name, value in _items(content):
        if name != "header" and not (name == "timestamp" and isinstance(value, Mapping)):
            yield from (name + path for path in _numbers_below(value))


def _numbers_below(value: Any) -> Iterator[str]:
    if isinstance(value, bool | int | float | np.number | np.bool_):
        yield ""
    elif isinstance(value, list | tuple | np.ndarray | _Named):
        if len(value) <= MOST_ELEMENTS:
            for key, part in value.items() if isinstance(value, _Named) else enumerate(value):
                yield from (f"[{key}]{path}" for path in _numbers_below(part))
    else:
        for name, part in _items(value):
            yield from (f".{name}{path}" for path in _numbers_below(part))


class _Named(dict[str, Any]):
    """The elements of a list by name."""


def _by_name(value: Any, met: list[str], names: Sequence[str] = ()) -> Any:
    """Return a message as mappings, with lists as `_Named` if the message names their elements.

    The names of joints, for example, are in a list of the same length beside (or around) the list
    of positions; structs in a list may contain their own names. The names are added to `met`.
    """
    if not isinstance(value, list | tuple | np.ndarray):
        fields = dict(_items(value))
        for key, part in fields.items():
            if isinstance(part, list) and _NAMES.fullmatch(key) and _are_names(part):
                names = part
                break
        return {key: _by_name(part, met, names) for key, part in fields.items()} or value
    if len(names) != len(value) and (isinstance(value, np.ndarray) or len(value) > MOST_ELEMENTS):
        return value
    parts = [_by_name(part, met, names) for part in value]
    own: list[Any] = [
        next(filter(None, map(dict(_items(part)).get, _OWN_NAMES)), None) for part in parts
    ]
    names = own if _are_names(own) else names
    if len(names) != len(parts) or not parts:
        return parts
    met += [str(len(names)), *names]
    return _Named(zip(names, parts, strict=True))


def _are_names(values: Sequence[Any]) -> bool:
    is_text = all(isinstance(value, str) and value for value in values)
    return is_text and 0 < len(values) == len(set(values))


def _named_path(message: Any, path: str) -> tuple[str, bool, list[str | int]]:
    """Return a path with elements by name, or "" if it is not in the message.

    Also return whether an element of the path has a name, and the path's parts by number.
    """
    named, is_named, parts = "", False, list[str | int]()
    for field_name, key in _PART.findall(path):
        part = int(key) if key.isdigit() else field_name or key
        if isinstance(message, _Named) and key:
            is_named = True
            if key not in message:
                if not key.isdigit() or int(key) >= len(message):
                    return "", True, [""]
                key = list(message)[int(key)]
            part = list(message).index(key)
            message = list(message.values())
        named += f".{field_name}" if field_name else f"[{key}]"
        parts.append(part)
        message = _part_of(message, part)
    return named.removeprefix("."), is_named, parts


def _part_of(value: Any, part: str | int) -> Any:
    """Return a field or an element of a value, or None if it is missing."""
    try:
        if isinstance(part, int) or isinstance(value, dict):
            return value[part]
        return getattr(value, part)
    except (LookupError, AttributeError, TypeError, ValueError):
        return None


def _number(value: Any) -> float:
    if isinstance(value, bool | int | float | np.number | np.bool_) and math.isfinite(value):
        return float(value)
    return math.nan  # also for infinity, which means that nothing was in range


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    number = _number(value)
    return None if number != number else f"{number:g}"


def _stamp_ns(content: Any) -> int | None:
    """Return the timestamp in a message's header or stamp field; None if it is missing or 0."""
    stamp = _part_of(_part_of(content, "header"), "stamp") or _part_of(content, "timestamp")
    parts = dict(_items(stamp))
    seconds = next((parts[name] for name in ("sec", "secs", "seconds") if name in parts), None)
    nanoseconds = next((parts[n] for n in ("nanosec", "nsec", "nsecs", "nanos") if n in parts), 0)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        return None
    return seconds * 10**9 + nanoseconds or None


def _check_clocks(where: Path, log: Iterable[_Series]) -> None:
    """Raise an error if the times of two sensors are of different clocks."""
    clocks = [(name, *np.array(s.clock)[rows].T) for s in log for name, rows, _ in s.sensors(where)]
    first, logged_s, delays_s = max(clocks, key=lambda clock: len(clock[1]))
    for name, at_s, late_s in clocks:
        apart_s = abs(np.median(late_s - np.interp(at_s, logged_s, delays_s)))
        # A stamp may be that of the start of a period. The rate of one message is NaN.
        if apart_s > _LATE_S + 1 / rate_of(logged_s) + 1 / rate_of(at_s):
            raise RecordingError(
                f"{where}: the times of {first!r} and {name!r} are of different clocks: messages"
                f" logged together are {apart_s:.6g} s apart. Use time_column={TIMES[1]!r}; if both"
                f" have a {TIMES[0]} and one is only late, use time_column={TIMES[0]!r}."
            )


def _add_time(where: Path, message: "_Message", series: _Series) -> None:
    time_ns = _stamp_ns(message.content) if series.uses_header else message.log_time_ns
    if time_ns is None:
        raise RecordingError(
            f"{where}: a message of {message.topic!r} has no {TIMES[0]}, unlike the first message;"
            f" use time_column={TIMES[1]!r}."
        )
    # A float would round seconds since 1970 to 0.2 us; stamps of a different clock are not shifted.
    since_start, logged_ns = time_ns - message.start_ns, message.log_time_ns
    series.times_s.append((since_start if abs(since_start) < _DAY_NS else time_ns) / 10**9)
    series.clock.append(((logged_ns - message.start_ns) / 10**9, (logged_ns - time_ns) / 10**9))


# Reading messages


class _Message(NamedTuple):
    topic: str
    type: str
    log_time_ns: int
    start_ns: int  # start of the log
    content: Any  # None if the content is not requested


def _messages(
    paths: list[Path],
    channels: Sequence[str] | None,
    wants_content: Callable[[str], bool] = lambda topic: True,
    *,
    salvage: bool = False,
) -> Iterator[_Message]:
    """Yield the messages of the topics that may contain the channels (None: of all topics).

    To salvage messages, files are read from the start, without their index, up to the first damage.
    """
    start_ns = None
    for path in paths:
        if not path.is_file():
            raise RecordingError(f"{path}: no such file.")
        suffix = path.suffix.lower()
        read = partial(_mcap_messages, salvage=salvage) if suffix == ".mcap" else _ros_messages
        if salvage and suffix == ".bag":
            read = _bag_messages
        try:
            with _naming(path):
                for decode, topic, type_, log_time_ns, file_start_ns in read(path, channels):
                    start_ns = file_start_ns if start_ns is None else start_ns
                    content = decode() if wants_content(topic) else None
                    yield _Message(topic, type_, log_time_ns, start_ns, content)
                # If no message of the file is wanted, the log still begins with its first message.
                if start_ns is None:
                    start_ns = next((message[-1] for message in read(path, None)), None)
        except RecordingError:
            if salvage:
                return
            raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (RecordingError, EnvironmentProblemError, GeneratorExit):
        raise
    except ImportError as error:
        raise EnvironmentProblemError(
            f'{path}: logs of ROS and MCAP need packages: pip install "sensorseq[ros]" ({error}).'
        ) from error
    except Exception as error:  # foreign parsers may raise any exception for damaged bytes
        # In a truncated file, a seek to a negative position raises EINVAL.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            message = f"{path}: cannot be read ({error.strerror or error})."
            raise RecordingError(message) from error
        size = path.stat().st_size
        if size == 0:
            raise RecordingError(f"{path}: the file is empty.") from error
        intact = _intact_bytes(path)
        reason = str(error) or type(error).__name__
        at = "" if intact is None else f"; it is intact up to byte {intact} of {size}"
        raise RecordingError(
            f"{path}: cannot be read{at} ({reason}). Perhaps the recorder was killed;"
            " rosbag reindex, ros2 bag reindex or mcap recover can save the intact messages."
        ) from error


def _wanted(topic: str, channels: Sequence[str] | None) -> bool:
    return channels is None or any(_is_of(topic, channel) for channel in channels)


# A message's decoder, topic, type and log time, followed by the log time of the first message.
_Raw = tuple[Callable[[], Any], str, str, int, int]


def _ros_messages(path: Path, channels: Sequence[str] | None) -> Iterator[_Raw]:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    if path.suffix.lower() == ".db3":
        check_database(path)
    with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
        wanted = [c for c in reader.connections if _wanted(c.topic, channels)]
        if not wanted:
            return
        for name in {connection.msgtype for connection in wanted}:
            check_type(reader.typestore.fielddefs, name)
        for connection, time_ns, raw in reader.messages(wanted):
            decode = partial(reader.deserialize, raw, connection.msgtype)
            yield decode, connection.topic, connection.msgtype, time_ns, reader.start_time


def _bag_messages(path: Path, channels: Sequence[str] | None) -> Iterator[_Raw]:
    """Yield the messages of a ROS 1 bag from the start, without its index."""
    topics: dict[int, tuple[str, str, Callable[[bytes], Any]]] = {}
    start_ns = None
    with path.open("rb") as file:
        file.seek(len(_BAG_MAGIC))
        for fields, data in _bag_records(file):
            kind = fields[b"op"][0]
            if kind == _CONNECTION:
                inner = _bag_fields(data)
                topic, type_ = fields[b"topic"].decode(), inner[b"type"].decode()
                schema = SimpleNamespace(
                    data=inner[b"message_definition"], name=type_, encoding="ros1msg"
                )
                channel = SimpleNamespace(message_encoding="ros1", topic=topic)
                number = int.from_bytes(fields[b"conn"], "little")
                topics[number] = topic, type_, _decoder(path, channel, schema)
            elif kind == _MESSAGE:
                topic, type_, read = topics[int.from_bytes(fields[b"conn"], "little")]
                seconds, nanoseconds = struct.unpack("<II", fields[b"time"])
                time_ns = seconds * 10**9 + nanoseconds
                start_ns = time_ns if start_ns is None else start_ns
                if _wanted(topic, channels):
                    yield partial(read, data), topic, type_, time_ns, start_ns


def _bag_records(file: IO[bytes]) -> Iterator[tuple[dict[bytes, bytes], bytes]]:
    """Yield the header and data of each record, including the records in chunks."""
    while length := file.read(4):
        fields = _bag_fields(file.read(struct.unpack("<I", length)[0]))
        size = struct.unpack("<I", file.read(4))[0]
        data = file.read(size)
        if len(data) < size:
            raise EOFError("a record is truncated")
        if fields[b"op"][0] == _CHUNK:
            if fields[b"compression"] == b"bz2":
                data = bz2.decompress(data)
            elif fields[b"compression"] == b"lz4":
                data = import_module("lz4.frame").decompress(data)
            yield from _bag_records(io.BytesIO(data))
        else:
            yield fields, data


def _bag_fields(header: bytes) -> dict[bytes, bytes]:
    fields, at = {}, 0
    while at < len(header):
        end = at + 4 + struct.unpack_from("<I", header, at)[0]
        name, _, value = header[at + 4 : end].partition(b"=")
        fields[name], at = value, end
    return fields


def _mcap_messages(
    path: Path, channels: Sequence[str] | None, *, salvage: bool = False
) -> Iterator[_Raw]:
    from mcap.reader import NonSeekingReader, SeekingReader

    decoders: dict[int, Callable[[bytes], Any]] = {}

    def decoded(schema: Any, channel: Any, data: bytes) -> Any:
        if channel.id not in decoders:
            decoders[channel.id] = _decoder(path, channel, schema)
        return decoders[channel.id](data)

    with path.open("rb") as file:
        kind = NonSeekingReader if salvage else SeekingReader
        reader = kind(file, validate_crcs=True, record_size_limit=path.stat().st_size)
        summary = None if salvage else reader.get_summary()
        topics = start_ns = None
        if summary is not None and summary.statistics is not None:
            start_ns = summary.statistics.message_start_time
        if start_ns is not None and summary is not None and channels is not None:
            names = {channel.topic for channel in summary.channels.values()}
            topics = [name for name in names if _wanted(name, channels)]
        for schema, channel, message in reader.iter_messages(topics, log_time_order=not salvage):
            start_ns = message.log_time if start_ns is None else start_ns
            if not _wanted(channel.topic, channels):
                continue
            decode = partial(decoded, schema, channel, message.data)
            type_ = schema.name if schema else ""
            yield decode, channel.topic, type_, message.log_time, start_ns


def _decoder(path: Path, channel: Any, schema: Any) -> Callable[[bytes], Any]:
    encoding = channel.message_encoding
    if encoding == "json":
        return json.loads
    if encoding not in ("cdr", "ros1", "protobuf") or schema is None:
        raise RecordingError(
            f"{path}: messages of {channel.topic!r} have the encoding {encoding!r}; known"
            " encodings: cdr, json, protobuf, ros1."
        )
    check_definition(schema.name, schema.data)
    if encoding == "protobuf":
        parse = _protobuf_parser(schema.data, schema.name)
        return lambda data: _as_values(parse(data))
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    text = schema.data.decode()
    store = get_typestore(Stores.EMPTY)
    if schema.encoding == "ros2idl":
        store.register(get_types_from_idl(text))
    else:
        store.register(get_types_from_msg(text, schema.name))
    name = schema.name if schema.name.count("/") == 2 else schema.name.replace("/", "/msg/")
    check_type(store.fielddefs, name)
    read = store.deserialize_cdr if encoding == "cdr" else store.deserialize_ros1
    return lambda data: read(data, name)


def _protobuf_parser(definitions: bytes, name: str) -> Callable[[bytes], Any]:
    """Return a parser for a message type defined by a set of file descriptors."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    message_factory.GetMessages(descriptor_pb2.FileDescriptorSet.FromString(definitions).file, pool)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    parse: Callable[[bytes], Any] = kind.FromString
    return parse


def _as_values(value: Any) -> Any:
    """Convert a protobuf message to mappings, lists and values, without fields that are not set."""
    if hasattr(value, "DESCRIPTOR"):
        return {
            field.name: _as_values(getattr(value, field.name))
            for field in value.DESCRIPTOR.fields
            if not field.has_presence or value.HasField(field.name)
        }
    if isinstance(value, Mapping):
        return {key: _as_values(part) for key, part in value.items()}
    if isinstance(value, str | bytes | int | float):
        return value
    return [_as_values(part) for part in value]


def _intact_bytes(path: Path) -> int | None:
    """Return the size of the intact part of a bag or MCAP file in bytes; None for other files."""
    if path.suffix.lower() == ".bag":
        start, sizes = len(_BAG_MAGIC), "<I"
    elif path.suffix.lower() == ".mcap":
        start, sizes = 8, "<Q"
    else:
        return None
    n_bytes, size = struct.calcsize(sizes), path.stat().st_size
    if size < start:
        return 0
    with path.open("rb") as file:
        while True:
            end = start
            # In a bag, a record is a length, a header, a length and data; in MCAP, it is an opcode,
            # a length and data.
            for _ in range(2 if sizes == "<I" else 1):
                file.seek(end + (sizes == "<Q"))
                length = file.read(n_bytes)
                if len(length) < n_bytes:
                    return start
                end = file.tell() + struct.unpack(sizes, length)[0]
            if end > size:
                return start
            start = end
