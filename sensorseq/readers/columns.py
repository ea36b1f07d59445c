"""Convert named columns of a file to a Recording, with the checks common to all tables."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sensorseq.base.text import listed, plural
from sensorseq.errors import RecordingError, did_you_mean, refusing
from sensorseq.io.blocks import (
    Rows,
    blocks,
    count_where,
    folder_of,
    is_finite,
    is_stored,
    rows_where,
)
from sensorseq.options import ReadOptions
from sensorseq.readers.interleaved import (
    codes_of_numbers,
    has_blocks,
    has_interleaved_clocks,
    names_sensors,
)
from sensorseq.readers.join import join_sensors, own_clocks
from sensorseq.readers.suffixes import stem_of
from sensorseq.readers.text_columns import TextColumn
from sensorseq.recording import Channel, LabelSpan, Recording
from sensorseq.stamps.names import (
    TIME_COLUMNS,
    UNITS,
    date_and_time,
    is_time_name,
    may_be_time,
    time_parts,
    usual_time_names,
)
from sensorseq.stamps.period import even_stamps, sample_period
from sensorseq.stamps.read import TIME_OF_DAY, Stamps, add_dates, days_in, join_parts
from sensorseq.stamps.repair import StampRepair, plan_repair

NumberColumns = dict[str, NDArray[np.float64] | None]  # None for a column without numbers

RATE = "sample_rate_hz"
"""Name of the array or attribute with the sample rate, in files without timestamps."""
_NAMELESS = re.compile(r"\s*|Unnamed: \d+\S*|__index_level_\d+__")  # empty, or generated
# Whole numbers of 16 or more digits do not match, because a float cannot represent them.
_NUMBER = re.compile(r"[-+]?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][-+]?\d{1,2})?")
_FEWEST_ROWS = 30  # minimum number of rows; in fewer rows, values may increase by chance
_FEWEST_COPIED = 8  # minimum number of rows that repeat the time
_FEWEST_COLUMNS = 16  # minimum number of samples in a window
_WINDOW_ROWS = 200  # number of rows in which windows are looked for
_ALIKE = 0.5  # maximum ratio of differences within one signal to other differences
_SAME_CLOCK = 0.01
_LEAST_LENGTH = 4  # minimum length of a counter that begins again; a bit may alternate, 0 1 0 1
_COUNTED = 0.9  # minimum fraction of rows that continue such a counter; packets may be lost
_MOST_ROWS = 1 << 18  # number of rows at the start that are searched for names of sensors


def refusing_content(path: Path) -> AbstractContextManager[None]:
    """Convert errors that parsers raise for a file's content into a `RecordingError`."""
    return refusing(RecordingError, f"{path}: its content cannot be used")


def find_time_column(path: Path, names: Iterable[str], time_column: str | None) -> str:
    """Return the name of the time column, given by name or position, or recognized by its name.

    If the given column does not exist, the error names the most similar one.
    """
    columns = list(names)
    if time_column is None:
        usual = usual_time_names(columns)
        if len(usual) == 1:
            return usual[0]
        problem = "has no column" if not usual else "has both columns"
        joined = " or ".join(TIME_COLUMNS) if not usual else " and ".join(usual)
        way_out = "Give the time column with time_column (its name or number)"
        if not usual:
            way_out += ", or, if there is none, the rate of the rows with sample_rate_hz"
        raise RecordingError(f"{path}: {problem} {joined} (columns: {listed(columns)}). {way_out}.")
    if time_column in columns:
        return time_column
    if re.fullmatch(r"[+-]?\d{1,4}", time_column):
        number = int(time_column)
        if 1 <= abs(number) <= len(columns):
            return columns[number - 1 if number > 0 else number]
        raise RecordingError(
            f"{path}: time_column={time_column!r} is not a number from 1 to {len(columns)}; its"
            f" columns are {listed(columns)}."
        )
    hint = did_you_mean(time_column, columns, "time_column={!r}")
    raise RecordingError(f"{path}: no column {time_column!r}; it has {listed(columns)}.{hint}")


def find_clocks(names: Iterable[str], channels: Sequence[str] | None, separator: str) -> list[str]:
    """Return the columns whose names are usual for timestamps, such as ``imu/time``.

    A group consists of the columns below a common prefix, such as ``imu/``. If a group contains a
    time column and all `channels` (None: all columns), only the innermost such group is used.
    Otherwise, all groups are used. Columns named ``time`` or ``time_s`` are preferred.
    """
    columns = list(names)
    last = {name: name.rpartition(separator)[2] for name in columns}
    times = [name for name in columns if is_time_name(last[name])]
    folder = {name: name[: len(name) - len(last[name])] for name in times}
    wanted = columns if channels is None else channels
    around = [f for f in folder.values() if all(name.startswith(f) for name in wanted)]
    inner = max(around, key=len, default=None)
    times = [name for name in times if inner is None or folder[name] == inner]
    usual = [name for name in times if last[name] in TIME_COLUMNS]
    return usual or times


def refuse_windows(path: Path, name: str, shape: Sequence[int], kind: str) -> None:
    """Raise an error if an array without timestamps has the three axes of windows: N, T and C."""
    if len(shape) == 3 and kind in "fiub" and min(shape) > 0:
        raise RecordingError(
            f"{path}: {name!r} has shape {tuple(shape)} and no timestamps. If it contains"
            f" {shape[0]} windows of {shape[1]} samples and {shape[2]} channels, load them in"
            " Python and call fit(X, y); recordings are 1-D or 2-D arrays of samples."
        )


def _refuse_windows_in_rows(path: Path, columns: list[NDArray[np.float64]]) -> None:
    """Raise an error if the columns of each row are the successive samples of a window.

    Either each row repeats the end of the row before it, or neighboring columns are more alike than
    both distant columns and neighboring rows, although all columns have the same level.
    """
    # The first and the last column may contain labels or ids.
    rows = [x[:_WINDOW_ROWS] for x in columns[1:-1] if len(x) >= _FEWEST_ROWS]
    if len(rows) < _FEWEST_COLUMNS or not np.isfinite(x := np.column_stack(rows)).all():
        return
    lags = range(1, x.shape[1] // 2 + 1)
    apart = [float(np.median(np.abs(x[:, k:] - x[:, :-k]))) for k in lags]
    across = float(np.median(np.abs(np.diff(x, axis=0))))
    is_level = np.std(np.median(x, axis=0)) < _ALIKE * np.std(x)
    is_signal = is_level and 0 < apart[0] < _ALIKE * min(across, max(apart))
    if is_signal or any((x[1:, :-k] == x[:-1, k:]).all() for k in lags if apart[0] > 0):
        raise RecordingError(
            f"{path}: has {len(columns)} columns and no timestamps, and neighboring columns"
            " continue one signal. If each row is a window, load the rows in Python and call"
            " fit(X, y); if the columns are channels, name them with `channels`."
        )


def stamps_of_rows(columns: NumberColumns, options: ReadOptions) -> Stamps:
    """Return timestamps made from the given sample rate, for rows without timestamps."""
    assert options.sample_rate_hz is not None  # checked by `Table.time_name`
    rate_hz = float(options.sample_rate_hz)
    rows = next((values for values in columns.values() if values is not None), np.empty(0))
    seconds = even_stamps(0.0, rate_hz, len(rows), folder_of(rows))
    return Stamps(seconds, {"sample_rate_hz": rate_hz})


def check_timestamps(
    path: Path,
    timestamps_s: NDArray[np.float64],
    time_column: str,
    columns: Callable[[], NumberColumns],
    *,
    stamps: str | None = None,
) -> StampRepair | None:
    """Return a repair for the timestamps, or None if no repair is needed.

    An error is raised if a timestamp is missing or infinite, or if the timestamps cannot be
    repaired in the way that `stamps` requests. `columns` is called only if the samples are needed.
    Errors give the number of the row, where row 1 is the first row below the header.
    """
    where = f"in time column {time_column!r}"
    t, n = timestamps_s, len(timestamps_s)
    if not is_finite(t):
        n_untimed, row = count_where(lambda at, stop: np.isnan(t[at:stop]), n, t)
        if n_untimed:
            raise RecordingError(
                f"{path}, row {row + 1}: no timestamp {where}; fill it in, or remove the"
                f" {plural(n_untimed, 'row')} without one."
            )
        _, row = count_where(lambda at, stop: np.isinf(t[at:stop]), n, t)
        raise RecordingError(f"{path}, row {row + 1}: {t[row]} {where}; timestamps must be finite.")
    names: list[str] = []

    def table() -> NDArray[np.floating]:
        numeric = {name: x for name, x in columns().items() if x is not None and len(x) == n}
        names.extend(numeric)
        return _table(list(numeric.values()) or [np.zeros(n)])

    plan = plan_repair(t, table, stamps)
    if plan is None or not plan.obstacle:
        return plan
    advice = plan.advice("row", 1, names)
    n_wrong, row = count_where(lambda at, stop: t[at + 1 : stop + 1] <= t[at:stop], n - 1, t)
    if not n_wrong:
        raise RecordingError(f"{path}, {where.removeprefix('in ')}: {advice}")
    before, now = t[row], t[row + 1]
    fault = "repeats" if now == before else f"goes back {before - now:.6g} s"
    raise RecordingError(
        f"{path}, row {row + 2}: time {fault} {where}, {before - t[0]:.6g} s from the start"
        f" ({n_wrong} such row(s)). {advice}"
    )


@dataclass(frozen=True)
class CodedLabels:
    """The label of each sample as an index into `names`."""

    codes: NDArray[np.int32]
    names: list[str | None]

    @classmethod
    def of(cls, labels: "Labels") -> "CodedLabels":
        """Return the labels as codes."""
        if isinstance(labels, CodedLabels):
            return labels
        position = {name: at for at, name in enumerate(dict.fromkeys(labels))}
        codes = np.fromiter((position[label] for label in labels), np.int32, len(labels))
        return cls(codes, list(position))

    def __len__(self) -> int:
        return len(self.codes)


Labels = Sequence[str | None] | CodedLabels


class Origin(NamedTuple):
    """Facts about a recording that is to be read; by default, its id is the name of its file."""

    recording_id: str | None = None
    group: str = ""
    label: str | None = None


class Table:
    """The columns of a file with one recording; each kind of file has its own subclass.

    `names` lists all columns; `units` contains the units stored in the file.
    """

    def __init__(
        self, path: Path, names: Iterable[str], units: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.names, self.units = path, list(names), dict(units or {})

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def time_name(self, options: ReadOptions) -> str:
        """Return the name of the time column, or "" if a sample rate is given instead."""
        usual = usual_time_names(self.names)
        if options.time_column is None and not usual and options.sample_rate_hz:
            return ""
        if options.time_column is None and len(usual) != 1 and (parts := time_parts(self.names)):
            return next(iter(parts))  # `timed` tests their values
        return find_time_column(self.path, self.names, options.time_column)

    def read(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Return the named columns, with NaN for missing samples, and the timestamps."""
        raise NotImplementedError

    def timed(
        self, names: list[str], time_name: str, options: ReadOptions
    ) -> tuple[NumberColumns, Stamps]:
        """Return what `read` returns; join a time whose parts are in several columns."""
        if parts := time_parts(self.names, time_name):
            channels = options.channels and [*options.channels, *parts]
            by_row = replace(options, channels=channels, sample_rate_hz=1.0)
            columns, _ = self.read(list(dict.fromkeys((*names, *parts))), "", by_row)
            if stamps := join_parts({name: columns.pop(name) for name in parts}, parts):
                return columns, stamps
            find_time_column(self.path, self.names, options.time_column)
        day, clock = date_and_time(self.names, time_name) or ("", "")
        dates = CodedLabels.of(self.labels(day)) if day == time_name != "" else None
        if dates is not None and days_in(dates.names):
            time_name, names = clock, [name for name in names if name != clock]
        columns, stamps = self.read(names, time_name, options)
        if day and time_name == clock and stamps.facts.get("unit") == TIME_OF_DAY:
            columns.pop(day, None)
            dates = dates or CodedLabels.of(self.labels(day))
            stamps = add_dates(self.path, day, stamps, dates.codes, dates.names)
        return columns, stamps

    def labels(self, name: str) -> Labels:
        """Return a column as the label of each sample."""
        raise NotImplementedError

    def as_arrow(self, words: str) -> pa.Table:
        """Return all columns in memory: `words` as strings, other columns in their own types."""
        raise NotImplementedError

    def text_column(self, path: Path, name: str) -> "TextColumn":
        """Return a converter from a column of strings to numbers; its errors name the path."""
        return TextColumn(path, name)


Opens = Callable[[Path, ReadOptions], AbstractContextManager[Table]]
"""A function that opens a file as a table."""


def read_recording(
    opens: Opens,
    path: str | PathLike[str],
    options: ReadOptions,
    origin: Origin,
    channels: Collection[str] = (),
) -> Recording:
    """Read the recording in a file; `opens` opens the file as a table.

    The given `channels` are assumed to contain measurements, not the names of sensors.
    """
    path, label_column = Path(path), options.label_column
    with refusing_content(path), opens(path, options) as table:
        where, time_name = table.path, table.time_name(options)
        check_label_column(where, table.names, label_column, time_name, origin.label)
        labels = None if label_column is None else table.labels(label_column)
        names = [name for name in table.names if name not in (time_name, label_column)]
        columns, stamps = table.timed(names, time_name, options)
        if not (time_name or channels):
            _refuse_windows_in_rows(where, [x for x in columns.values() if x is not None])
        check_one_sensor(table, columns, stamps.seconds, channels)
        clocks = own_clocks(
            where, table.names, columns, time_name, stamps, options.time_unit, channels
        )
        parts = []
        for name, (part, own) in clocks.items():
            content = Content(part, own, name, table.units, labels if name == time_name else None)
            parts.append(make_recording(where, content, options, origin))
        if len(parts) == 1:
            return parts[0]
        return join_sensors(parts if channels else [*map(without_counters, parts)], [*clocks])


def read_timestamps(
    opens: Opens,
    path: str | PathLike[str],
    options: ReadOptions,
    channels: Collection[str] = (),
) -> NDArray[np.float64]:
    """Read the timestamps of a file, and as little else as its format allows."""
    path = Path(path)
    with refusing_content(path), opens(path, options) as table:
        time_name = table.time_name(options)
        names = [name for name in table.names if name not in (time_name, options.label_column)]
        near = names if any(may_be_time(name, time_name) for name in names) else []
        columns, stamps = table.timed(near, time_name, options)
        clocks = own_clocks(
            table.path, table.names, columns, time_name, stamps, options.time_unit, channels
        )
        t = max((own.seconds for _, own in clocks.values()), key=len)  # of the fastest sensor
        try:
            plan = check_timestamps(
                table.path,
                t,
                time_name,
                lambda: table.timed(names, time_name, options)[0],
                stamps=options.stamps,
            )
        except RecordingError:
            check_one_sensor(table, table.timed(names, time_name, options)[0], t)
            raise
        return t if plan is None else plan.repaired_s()


def check_one_sensor(
    table: Table,
    columns: NumberColumns,
    timestamps_s: NDArray[np.float64],
    channels: Collection[str] = (),
) -> None:
    """Raise an error if a column names each row's sensor, because the rows are several signals.

    Also raise an error if the time starts again wherever the value of a column changes, because
    such a column probably names recordings. The given `channels` are not checked.
    """
    t = np.asarray(timestamps_s[:_MOST_ROWS])
    if len(t) < 2 or not np.isfinite(t).all():
        return
    is_in_order = bool((np.diff(t) > 0).all())
    numbers = {n: np.asarray(x[: len(t)]) for n, x in columns.items() if x is not None}
    for name in columns:
        codes: NDArray[np.integer] | None
        if name in channels:
            continue
        if name in numbers:
            is_sensor = names_sensors(name, numbers, t)
            keep = f", or, if {name!r} is a measured signal, name it in `channels`"
            codes = None if is_in_order else codes_of_numbers(numbers[name])
            texts = [] if codes is None else texts_of_numbers(np.unique(numbers[name]))
        else:
            codes, texts = _codes_of_words(table, name, len(t))
            is_sensor = codes is not None and has_interleaved_clocks(codes, t)
            keep = ""
        if is_sensor:
            texts = texts or texts_of_numbers(np.unique(numbers[name]))
            raise RecordingError(
                f"{table.path}: column {name!r} names the sensor of each row ({listed(texts, 6)}),"
                " but rows of several sensors are not one signal. Read each sensor separately with"
                f" sensor_column={name!r}{keep}."
            )
        if codes is not None and not is_in_order and has_blocks(codes, t):
            raise RecordingError(
                f"{table.path}: the time starts again wherever column {name!r} changes"
                f" ({listed(texts, 6)}). If the column names sensors, use sensor_column={name!r}."
                " If the column names recordings, read only this file, with"
                f" recording_column={name!r}."
            )


def _codes_of_words(
    table: Table, name: str, n_rows: int
) -> tuple[NDArray[np.integer] | None, list[str | None]]:
    """Return a column of words as codes, and the words; if a row is blank, the codes are None."""
    with suppress(RecordingError):  # raised if the column contains neither words nor numbers
        coded = CodedLabels.of(table.labels(name))
        codes = np.asarray(coded.codes[:n_rows])
        is_blank = np.array([not (text or "").strip() for text in coded.names], bool)
        if len(codes) == n_rows and not is_blank[codes].any():
            return codes, list(coded.names)
    return None, []


class Content(NamedTuple):
    """The content of a file with one recording; the `labels` of its samples become label spans."""

    columns: NumberColumns
    stamps: Stamps
    time_name: str  # "" if there is no time column
    units: Mapping[str, str]
    labels: Labels | None = None


def make_recording(path: Path, content: Content, options: ReadOptions, origin: Origin) -> Recording:
    """Return the recording in a file; errors name the file and the row."""
    timestamps_s, clock = content.stamps
    time_name = content.time_name
    labels = None if content.labels is None else CodedLabels.of(content.labels)
    columns = {name: values for name, values in content.columns.items() if values is not None}
    if not columns:
        besides = f" besides {time_name!r}" if time_name else ""
        raise RecordingError(f"{path}: no column of numbers{besides}.")
    if not len(timestamps_s):
        raise RecordingError(f"{path}: has a header but no samples.")
    plan = check_timestamps(
        path, timestamps_s, time_name, lambda: content.columns, stamps=options.stamps
    )
    for name, values in columns.items():
        row = -1
        if not is_finite(values):
            _, row = count_where(partial(_are_infinite, values), len(values), values)
        if row >= 0:
            raise RecordingError(
                f"{path}, row {row + 1}, column {name!r}: {values[row]} is not a measured value;"
                " leave the field empty if the sample is missing."
            )
    if labels is not None and len(labels) != len(timestamps_s):
        raise RecordingError(
            f"{path}: {len(labels)} labels for {len(timestamps_s)} samples; the label column must"
            " have one entry, which may be empty, for each sample."
        )
    stored = {name: unit for name, unit in content.units.items() if name in columns}
    units = {**stored, **(options.units or {})}
    for name in units:
        if name not in columns:
            raise RecordingError(
                f"{path}: a unit is given for {name!r}; the channels are {listed(columns)}."
            )
    dropped = [name for name, values in content.columns.items() if values is None]
    attributes: dict[str, object] = {"dropped_columns": dropped} if dropped else {}
    if clock:
        attributes["clock"] = clock
    table: NDArray[np.floating] = _table(list(columns.values()))
    if plan is not None:
        repaired = plan.apply(table)
        labels = None if labels is None else labels_in_order(path, labels, plan)
        timestamps_s, table = repaired.timestamps_s, repaired.values
        attributes["repaired_stamps"] = repaired.counts
        if plan.packets:
            attributes["packets"] = plan.packets
    try:
        return Recording(
            table,
            timestamps_s,
            tuple(Channel(name, units.get(name, "")) for name in columns),
            stem_of(path) if origin.recording_id is None else origin.recording_id,
            origin.group,
            origin.label,
            attributes,
            () if labels is None else spans_of_labels(labels, timestamps_s),
        )
    except RecordingError as error:
        raise RecordingError(f"{path}: {error}") from error


def without_counters(recording: Recording) -> Recording:
    """Drop columns that are not measurements: nameless columns, indices, counters and timestamps.

    ``attributes["counters"]`` lists the dropped columns. If no column would remain,
    the recording is not changed.
    """
    t, x, names = recording.timestamps_s, recording.values, recording.channel_names
    clock: Any = recording.attributes.get("clock", {})
    rising = [name for c, name in enumerate(names) if _rises(x[:, c]) or _repeats_time(x[:, c], t)]
    if "sample_rate_hz" in clock:
        for name in rising:
            if (np.diff(x[:_FEWEST_ROWS, names.index(name)]) != 1).any():
                raise RecordingError(
                    f"recording {recording.recording_id!r}: no column has a usual name for"
                    f" timestamps, but {name!r} increases in every row. Use time_column={name!r}"
                    " if it contains the time; otherwise, list the columns to use with `channels`:"
                    f" with {name!r} if it is a measurement, such as a position."
                )
    counters = [
        name
        for c, name in enumerate(names)
        if _NAMELESS.fullmatch(name)
        or (_counts(x[:, c], t) if name in rising else _counts_again(x[:, c]))
    ]
    if not counters or len(counters) == len(names):
        return recording
    kept = recording.select([name for name in names if name not in counters])
    return replace(kept, attributes={**kept.attributes, "counters": counters})


def describe_counters(counters: Mapping[str, int], option: str = "`channels`") -> list[str]:
    """Return a sentence for each dropped column, with the number of recordings that had it.

    `option` is what to call the option that keeps such a column.
    """
    named = "left out column {!r}, which counts rows or time (index, counter or stamp), in {}"
    nameless = "left out {!r}, a column without a name, in {}"
    return [
        (nameless if _NAMELESS.fullmatch(name) else named).format(name, plural(count, "recording"))
        + f"; {option} can keep it"
        for name, count in counters.items()
    ]


def describe_packets(packets: Mapping[str, int]) -> list[str]:
    """Return a sentence for each kind of packet, with the number of recordings that contain it."""
    return [
        f"{kind}, spread evenly, in {plural(count, 'recording')}" for kind, count in packets.items()
    ]


def describe_dropped(columns: Mapping[str, int], *, may_be_label: bool = False) -> list[str]:
    """Return sentences that list dropped columns, one sentence for each number of recordings."""
    lines = []
    for count in sorted(set(columns.values()), reverse=True):
        names = [name for name, n in columns.items() if n == count]
        noun = "column" if len(names) == 1 else "columns"
        label = f"; if it is the label, use label_column={names[0]!r}"
        hint = label if may_be_label else ""
        lines.append(
            f"left out {noun} {listed(map(repr, names), 6)} of {plural(count, 'recording')},"
            f" because not every sample has a number{hint}"
        )
    return lines


def _rises(values: NDArray[np.floating]) -> bool:
    """Test whether a column increases in every row, like an index or a time."""
    if len(values) < _FEWEST_ROWS or not (np.diff(values[:_FEWEST_ROWS]) > 0).all():
        return False
    wrong = count_where(
        lambda at, stop: ~(np.diff(values[at : stop + 1]) > 0), len(values) - 1, values
    )
    return not wrong[0]


def _repeats_time(values: NDArray[np.floating], t: NDArray[np.float64]) -> bool:
    """Test whether each of a few rows advances as the time does, in a known unit."""
    if not _FEWEST_COPIED <= len(values) < _FEWEST_ROWS:
        return False
    steps, least = np.diff(t), _SAME_CLOCK * np.diff(t).mean()
    return any((abs(np.diff(values) / ticks - steps) < least).all() for ticks in UNITS.values())


def _counts(values: NDArray[np.floating], t: NDArray[np.float64]) -> bool:
    """Test whether a monotonic column contains whole numbers, or the time in a known unit."""
    n = len(values)
    if not count_where(lambda at, stop: values[at:stop] != np.floor(values[at:stop]), n, values)[0]:
        return True
    per_s = float(values[-1] - values[0]) / float(t[-1] - t[0])
    return any(abs(per_s / ticks - 1) < _SAME_CLOCK for ticks in UNITS.values())


def _counts_again(values: NDArray[np.floating]) -> bool:
    """Test whether whole numbers rise by 1 in nearly every row, from the lowest to the highest.

    A signal of a constant slope does not continue after its highest value with its lowest one.
    """
    n, first = len(values) - 1, values[: _FEWEST_ROWS + 1]
    if n < _FEWEST_ROWS or np.mean((np.diff(first) == 1) & (first[1:] % 1 == 0)) < 0.5:
        return False
    length = float(np.nanmax(values) - np.nanmin(values)) + 1
    counted, _ = count_where(
        lambda at, stop: np.diff(values[at : stop + 1]) % length == 1, n, values
    )
    return length >= _LEAST_LENGTH and counted >= _COUNTED * n


def _are_infinite(values: NDArray[np.float64], at: int, stop: int) -> NDArray[np.bool_]:
    return np.isinf(values[at:stop])


def _table(columns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Join columns into one array, which is on disk if the first column is on disk."""
    if not is_stored(columns[0]):
        return np.column_stack(columns)
    rows = Rows.like(columns[0], np.float64, len(columns))
    for at, stop in blocks(len(columns[0]), *columns, n_columns=len(columns)):
        rows.append(np.column_stack([column[at:stop] for column in columns]))
    return rows.as_array()


def spans_of_labels(labels: Labels, timestamps_s: NDArray[np.float64]) -> tuple[LabelSpan, ...]:
    """Return a span for each run of the same label (see `as_label`).

    A span ends at the time of the first sample after the run. The last span ends one sample period
    after the last sample.
    """
    if not len(labels):
        return ()
    coded, t = CodedLabels.of(labels), timestamps_s
    names = [as_label(name) for name in coded.names]
    same = np.array([names.index(name) for name in names])
    codes = coded.codes
    edges = rows_where(
        lambda at, stop: np.diff(same[codes[at : stop + 1]]) != 0, len(codes) - 1, codes
    )
    period_s = sample_period(t) if len(t) > 1 else 1.0
    firsts = [0, *(edges + 1).tolist()]
    starts_s = [*t[firsts].tolist(), float(t[-1] + period_s)]
    return tuple(
        LabelSpan(start_s, end_s, name)
        for first, (start_s, end_s) in zip(firsts, pairwise(starts_s), strict=True)
        if (name := names[codes[first]]) is not None
    )


def labels_in_order(path: Path, coded: CodedLabels, plan: StampRepair) -> CodedLabels:
    """Return the labels of the rows that a repair keeps, in the new order of the rows."""
    labels = [coded.names[code] for code in coded.codes.tolist()]
    order = plan.order.tolist()
    is_first = np.zeros(len(order), bool)
    is_first[plan.starts()] = True
    kept: list[str | None] = []
    for at, row in enumerate(order):
        if is_first[at]:
            kept.append(labels[row])
        elif labels[row] != kept[-1]:
            raise RecordingError(
                f"{path}, row {row + 1}: has label {labels[row]!r}, but row {order[at - 1] + 1} has"
                f" label {kept[-1]!r} at the same time; correct one of them."
            )
    return CodedLabels.of(kept)


def check_names(
    path: Path,
    names: Iterable[str],
    columns: list[str],
    kind: type[RecordingError] = RecordingError,
) -> None:
    """Raise an error for a name that is not a column of a table."""
    for name in names:
        if name not in columns:
            hint = did_you_mean(name, columns)
            raise kind(f"{path}: no column {name!r}; it has {listed(columns)}.{hint}")


def check_label_column(
    path: Path, names: Iterable[str], label_column: str | None, time_name: str, label: str | None
) -> None:
    """Raise an error if the label column is missing, is the time, or conflicts with a `label`."""
    if label_column is None:
        return
    columns = list(names)
    if label_column not in columns:
        hint = did_you_mean(label_column, columns, "label_column={!r}")
        raise RecordingError(
            f"{path}: no column {label_column!r} for the labels; it has {listed(columns)}.{hint}"
        )
    if label_column == time_name:
        raise RecordingError(f"{path}: {label_column!r} is the time column, not the labels.")
    if label is not None:
        raise RecordingError(
            f"{path}: its folder or manifest gives the label {label!r}, and"
            f" label_column={label_column!r} labels its samples; use only one of the two."
        )


def table_of(path: Path, columns: Mapping[str, NDArray[Any]], words: str) -> pa.Table:
    """Return arrays as the columns of a table; all must be as long as the array `words`."""
    n_rows = len(columns[words])
    for name, values in columns.items():
        if len(values) != n_rows:
            raise RecordingError(
                f"{path}: {words!r} has {n_rows} rows, but {name!r} has {len(values)}; a column"
                " that names sensors must have one entry for each row."
            )
    return pa.table({n: x.tolist() if x.dtype.kind in "OUS" else x for n, x in columns.items()})


def is_missing(values: NDArray[np.float64]) -> bool:
    """Test whether a column has rows but not a single number."""
    if not len(values) or not np.isnan(values[0]):
        return False
    return not count_where(lambda at, stop: ~np.isnan(values[at:stop]), len(values), values)[0]


def texts_of_numbers(values: NDArray[Any]) -> list[str | None]:
    """Return numeric labels as strings; NaN becomes None."""
    return [None if np.isnan(value) else _text_of_number(value) for value in values.tolist()]


def as_label(text: str | None) -> str | None:
    """Return the name of a class without leading and trailing blanks; None for a blank name.

    Equal numbers, such as 1, 1.0 and 1e0, are the same class, because some programs write whole
    numbers as floats if a column has gaps. A number with a leading zero, such as 01, is kept as a
    name.
    """
    name = (text or "").strip()
    return _text_of_number(float(name)) if _NUMBER.fullmatch(name) else name or None


def _text_of_number(value: float) -> str:
    return str(int(value)) if np.isfinite(value) and value == int(value) else repr(value)
