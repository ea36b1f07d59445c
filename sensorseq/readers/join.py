"""Separate and join the sensors of a recording, each with its own rate."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.io.blocks import Rows, folder_of, map_blocks, release
from sensorseq.recording import Channel, Recording
from sensorseq.stamps.names import may_be_time
from sensorseq.stamps.read import Stamps, clock_of, n_filled, seconds_of

_SAMPLES = ("timestamps_s", "values")
_ROWS = 1 << 16  # number of rows joined at a time
_FEWEST_ROWS = 30  # minimum number of rows of a sensor with its own time column
_MOSTLY = 0.9  # minimum fraction of steps that increase, and of rows with samples
_SAME_SPEED = 0.01  # maximum relative difference in the speeds of equal clocks
_SAME_TIME = 0.5  # minimum ratio of the times that two sensors of a recording cover

_Columns = dict[str, NDArray[np.float64] | None]


def own_clocks(
    path: Path,
    names: Sequence[str],
    columns: _Columns,
    time_name: str,
    stamps: Stamps,
    time_unit: str | None = None,
    channels: Collection[str] = (),
) -> dict[str, tuple[_Columns, Stamps]]:
    """Return, by time column, the columns and the timestamps of each sensor.

    Sensors with different rates have different numbers of rows. A second time column must
    therefore be named like a time, increase, end in the same row as the column behind it but not
    as `time_name`, and advance at a different speed in the rows they share. In all other tables,
    all columns have the timestamps of `time_name`. `channels` are measured signals.
    """
    first = stamps._replace(seconds=stamps.seconds[: n_filled(stamps.seconds)])

    def own_stamps(name: str, behind: str) -> Stamps | None:
        x, next_x = columns.get(name), columns.get(behind)
        is_time = may_be_time(name, time_name) and name not in (time_name, *channels)
        if not is_time or x is None or next_x is None or (n := n_filled(x)) < _FEWEST_ROWS:
            return None
        with suppress(RecordingError):
            own = seconds_of(path, name, x[:n], time_unit)
            is_rising = (np.diff(own.seconds) > 0).mean() >= _MOSTLY
            return own if is_rising and _MOSTLY * n <= n_filled(next_x) <= n else None
        return None

    clocks, clock_name, current = {time_name: first}, dict[str, str](), time_name
    for name, behind in pairwise([*names, ""]):
        own = own_stamps(name, behind)
        if own is not None:
            last = min(len(own.seconds), len(first.seconds)) - 1
            shared_s, own_s = (np.ptp(t.seconds[[0, last]]) for t in (first, own))
            covered_s = [float(np.ptp(t.seconds[[0, -1]])) for t in (first, own)]
            if abs(own_s - shared_s) <= _SAME_SPEED * shared_s:
                current = time_name
            elif len(own.seconds) != len(first.seconds):
                if min(covered_s) < _SAME_TIME * max(covered_s):
                    raise RecordingError(
                        f"{path}: time columns {time_name!r} and {name!r} cover different times"
                        f" ({covered_s[0]:.6g} s and {covered_s[1]:.6g} s). If {name!r} is the time"
                        f" of {behind!r}, store each time and its columns in a file, and join the"
                        f" files with `pair`. If not, choose `channels`, including {name!r}."
                    )
                clocks[name], current = own, name
        current = time_name if name == time_name else current
        clock_name[name] = current
    if len(clocks) == 1:
        return {time_name: (columns, stamps)}
    parts: dict[str, _Columns] = {name: {} for name in clocks}
    for name, x in columns.items():
        n = 0 if x is None else n_filled(x)
        likely = (clock_name.get(name, time_name), *clocks)
        if not (fits := [c for c in likely if n <= len(clocks[c].seconds)]):
            return {time_name: (columns, stamps)}  # a sample without timestamp raises an error
        if name not in clocks:
            parts[fits[0]][name] = x if x is None else x[: len(clocks[fits[0]].seconds)]
    return {name: (part, clocks[name]) for name, part in parts.items()}


def join_sensors(recordings: Sequence[Recording], sensors: Sequence[str]) -> Recording:
    """Join simultaneous recordings of several sensors into one recording.

    Nothing is interpolated: the result contains every timestamp of every sensor, and NaN where a
    sensor has no sample. `resample_recording` can then resample all channels to a common even grid,
    each channel from its own samples, over the time that all channels cover.

    Parameters
    ----------
    recordings : sequence of Recording
        One recording for each sensor, with timestamps on a common clock. The id, group and label
        are those of the first recording.
    sensors : sequence of str
        Names of the sensors. A channel name that several sensors share becomes ``sensor.channel``.

    Returns
    -------
    Recording
        A recording with the channels of all sensors, in the given order.
        ``attributes["sensor_rates_hz"]`` contains the median rate of each sensor.

    Raises
    ------
    RecordingError
        If the sensors do not overlap in time.
    """
    recordings = _on_one_clock(recordings)
    first = recordings[0]
    start_s = max(float(r.timestamps_s[0]) for r in recordings)
    end_s = min(float(r.timestamps_s[-1]) for r in recordings)
    if start_s > end_s:
        spans = ", ".join(
            f"{sensor} {r.timestamps_s[0]:g} to {r.timestamps_s[-1]:g} s"
            for sensor, r in zip(sensors, recordings, strict=True)
        )
        raise RecordingError(
            f"recording {first.recording_id!r}: the sensors do not overlap in time ({spans});"
            " convert their timestamps to a common clock."
        )
    shared = Counter(name for recording in recordings for name in recording.channel_names)
    timestamps_s, values = _side_by_side(recordings)
    channels: list[Channel] = []
    left_out: dict[str, list[str]] = {"dropped_columns": [], "counters": []}
    for sensor, recording in zip(sensors, recordings, strict=True):
        channels += [
            replace(channel, name=f"{sensor}.{channel.name}")
            if shared[channel.name] > 1
            else channel
            for channel in recording.channels
        ]
        for kind, names in left_out.items():
            names += cast(list[str], recording.attributes.get(kind, []))
    rates = [r.median_sample_rate_hz for r in recordings]
    attributes: dict[str, object] = {"sensor_rates_hz": dict(zip(sensors, rates, strict=True))}
    attributes |= {kind: names for kind, names in left_out.items() if names}
    total: Counter[str] = Counter()
    packets = [cast(str, r.attributes["packets"]) for r in recordings if "packets" in r.attributes]
    if packets:
        attributes["packets"] = "; ".join(dict.fromkeys(packets))
    for facts in (cast(dict[str, Any], r.attributes) for r in recordings):
        if "clock" in facts:
            attributes.setdefault("clock", facts["clock"])
        if "repaired_stamps" in facts:
            total.update(facts["repaired_stamps"])
            attributes["repaired_stamps"] = dict(total)
    return replace(
        first,
        values=values,
        timestamps_s=timestamps_s,
        channels=tuple(channels),
        attributes=attributes,
    )


def _side_by_side(
    recordings: Sequence[Recording],
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Return the merged timestamps and the values, with NaN where a channel has no sample."""
    stamps_of, values_of = ([getattr(r, name) for r in recordings] for name in _SAMPLES)
    ends = np.cumsum([r.n_channels for r in recordings])
    folder = next((path for x in values_of if (path := folder_of(x)) is not None), None)
    stamps, values = Rows(folder, np.float64), Rows(folder, np.float64, ends[-1])
    at = [0] * len(recordings)
    # The rows are merged in blocks. Each merged block ends at the earliest end of the recordings'
    # current blocks.
    while any(first < len(t) for first, t in zip(at, stamps_of, strict=True)):
        until = min(
            float(t[min(first + _ROWS, len(t)) - 1])
            for first, t in zip(at, stamps_of, strict=True)
            if first < len(t)
        )
        stop = [int(np.searchsorted(t, until, side="right")) for t in stamps_of]
        parts = [t[a:b] for a, b, t in zip(at, stop, stamps_of, strict=True)]
        times = np.unique(np.concatenate(parts))
        block = np.full((len(times), ends[-1]), np.nan)
        for x, first, part, end in zip(values_of, at, parts, ends, strict=True):
            columns = slice(end - x.shape[1], end)
            block[np.searchsorted(times, part), columns] = x[first : first + len(part)]
        stamps.append(times)
        values.append(block)
        release(*stamps_of, *values_of)
        at = stop
    return stamps.as_array(), values.as_array()


def _on_one_clock(recordings: Sequence[Recording]) -> list[Recording]:
    """Shift the timestamps of all recordings to a common origin."""
    start_ns = min(clock_of(recording.attributes).get("origin_ns", 0) for recording in recordings)
    return [from_origin(recording, start_ns) for recording in recordings]


def from_origin(recording: Recording, origin_ns: int) -> Recording:
    """Shift the timestamps so that they count from `origin_ns`; 0 means the clock's own origin."""
    clock = clock_of(recording.attributes)
    shift_ns = clock.pop("origin_ns", 0) - origin_ns
    if not shift_ns:
        return recording
    shifted = map_blocks(partial(np.add, shift_ns / 1e9), recording.timestamps_s, np.float64)
    clock |= {"origin_ns": origin_ns} if origin_ns else {}
    attributes = {**recording.attributes, "clock": clock}
    return replace(recording, timestamps_s=shifted, attributes=attributes)
