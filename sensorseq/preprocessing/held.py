"""Channels that are logged when they change, such as a gear; a value is held until the next one."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.io.scratch import Rows, blocks, is_finite
from sensorseq.preprocessing.regrid import valid_rows
from sensorseq.recording import Recording
from sensorseq.text import listed

SLOWER = 4  # a held channel has at least this many times fewer values than the fastest channel
REPEATED = 4  # minimum number of values per level
MOST_RANGE = 20  # maximum range of codes, which are whole numbers and need not repeat


def is_held(values: NDArray[np.floating], n_fastest: int) -> bool:
    """Return whether known values have few levels, and are few compared to another channel's."""
    if not 0 < SLOWER * len(values) <= n_fastest:
        return False
    levels = np.unique(values)
    are_codes = (levels == np.rint(levels)).all() and np.ptp(levels) <= MOST_RANGE
    return bool(len(levels) == 1 or REPEATED * len(levels) <= len(values) or are_codes)


def judge_held(recording: Recording) -> dict[str, bool | None]:
    """Return, for each channel that is slower than another, whether its values are held.

    None means that the channel is constant; it is held, too.
    """
    x = recording.values
    if is_finite(x):
        return {}
    rows = {name: valid_rows(x, column) for column, name in enumerate(recording.channel_names)}
    n_known = {name: len(x) if of is None else len(of) for name, of in rows.items()}
    n_fastest = max(n_known.values())
    judged: dict[str, bool | None] = {}
    for column, (name, of) in enumerate(rows.items()):
        if of is not None and 0 < SLOWER * len(of) <= n_fastest:
            judged[name] = is_held(x[of, column], n_fastest)
            if np.ptp(x[of, column]) == 0:
                judged[name] = None
    return judged


def hold(recording: Recording, names: Sequence[str]) -> Recording:
    """Replace missing values of channels by the previous known value."""
    columns = [recording.channel_names.index(name) for name in names]
    x = recording.values
    if not columns or is_finite(x):
        return recording
    rows, last = Rows.like(x, x.dtype, x.shape[1]), np.full((1, len(columns)), np.nan)
    for at, stop in blocks(len(x), x, n_columns=x.shape[1]):
        block = np.array(x[at:stop])
        some = np.concatenate([last, block[:, columns]])
        block[:, columns] = fill_forward(some)[1:]
        last = block[-1:, columns]
        rows.append(block)
    return replace(recording, values=rows.as_array())


def fill_forward(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace NaN in (n, n_channels) by the previous value; NaN at the start remains."""
    known = np.where(np.isnan(values), 0, np.arange(len(values))[:, np.newaxis])
    filled: NDArray[np.floating] = np.take_along_axis(values, np.maximum.accumulate(known), axis=0)
    return filled


def agreed(judged: Mapping[str, Mapping[str, bool | None]]) -> list[str]:
    """Return the held channels of several recordings; raise an error if recordings disagree."""
    found: dict[str, dict[bool | None, list[str]]] = defaultdict(lambda: defaultdict(list))
    for recording_id, of_channels in judged.items():
        for name, held in of_channels.items():
            found[name][held].append(recording_id)
    for name, ids in found.items():
        if ids[True] and ids[False]:
            raise RecordingError(
                f"channel {name!r} has few levels, like a value that is held until the next one, in"
                f" {listed(ids[True], 3)}, but many in {listed(ids[False], 3)}. Fill in its missing"
                " values in the files (the previous value, or a value between its neighbors), or"
                " leave the channel out with `channels`."
            )
    return sorted(name for name, ids in found.items() if not ids[False])
