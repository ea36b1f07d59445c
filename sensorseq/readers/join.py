"""Join the sensors of a recording, each with its own rate."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.io.scratch import Rows, folder_of, map_blocks, release
from sensorseq.readers.stamps import clock_of
from sensorseq.recording import Channel, Recording

_SAMPLES = ("timestamps_s", "values")
_ROWS = 1 << 16  # number of rows joined at a time


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
    start_ns = min(clock_of(recording).get("origin_ns", 0) for recording in recordings)
    return [from_origin(recording, start_ns) for recording in recordings]


def from_origin(recording: Recording, origin_ns: int) -> Recording:
    """Shift the timestamps so that they count from `origin_ns`; 0 means the clock's own origin."""
    clock = clock_of(recording)
    shift_ns = clock.pop("origin_ns", 0) - origin_ns
    if not shift_ns:
        return recording
    shifted = map_blocks(partial(np.add, shift_ns / 1e9), recording.timestamps_s, np.float64)
    clock |= {"origin_ns": origin_ns} if origin_ns else {}
    attributes = {**recording.attributes, "clock": clock}
    return replace(recording, timestamps_s=shifted, attributes=attributes)
