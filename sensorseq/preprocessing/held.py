"""Channels that are logged when they change, such as a gear; a value is held until the next one."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.numeric import fill_forward
from sensorseq.base.text import listed
from sensorseq.errors import warn_caller
from sensorseq.io.blocks import Rows, blocks
from sensorseq.preprocessing.regrid import valid_rows
from sensorseq.recording import Recording

SLOWER = 4  # a held channel has at least this many times fewer values than the fastest channel
REPEATED = 4  # minimum number of values per level of a channel with few levels
MOST_LEVELS = 8  # maximum number of such levels
MOST_RANGE = 20  # maximum range of codes, which are whole numbers and need not repeat
HELD = ("codes", "constant")


def _kind_of_slow(values: NDArray[np.floating]) -> str:
    """Return "codes", "constant", "few levels" or "many levels", given the known values."""
    levels = np.unique(values)
    if len(levels) == 1:
        return "constant"
    if (levels == np.rint(levels)).all() and np.ptp(levels) <= MOST_RANGE:
        return "codes"
    is_few = len(levels) <= min(MOST_LEVELS, len(values) / REPEATED)
    return "few levels" if is_few else "many levels"


def kinds_of_slow(recording: Recording) -> dict[str, str]:
    """Return the kind of each slow channel: "codes", "constant", "few levels" or "many levels"."""
    x = recording.values
    if recording.is_complete:
        return {}
    rows = [valid_rows(x, column) for column in range(x.shape[1])]
    n_known = [len(x) if of is None else len(of) for of in rows]
    kinds: dict[str, str] = {}
    for column, (name, of) in enumerate(zip(recording.channel_names, rows)):
        if of is not None and 0 < SLOWER * len(of) <= max(n_known):
            kinds[name] = _kind_of_slow(x[of, column])
    return kinds


def held_in(kinds: Mapping[str, str], held: Collection[str] | None) -> set[str]:
    """Return the channels of a recording that hold their values, given the kinds of slow channels.

    These are the channels `held`, by default its codes; a constant is always held.
    """
    codes = {name for name, kind in kinds.items() if kind == "codes"} if held is None else {*held}
    return codes | {name for name, kind in kinds.items() if kind == "constant"}


def held_channels(kinds: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the channels that no recording shows to be measurements, given their kinds by id.

    Warn about channels that have few levels in every recording, but are not held.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for of_channels in kinds.values():
        for name, kind in of_channels.items():
            found[name].add(kind)
    few = [name for name, of in found.items() if "few levels" in of and "many levels" not in of]
    if few:
        warn_caller(
            f"{listed(map(repr, few))}: few levels, but no small whole numbers; other values are"
            " interpolated between them. If each value holds until the next one, fill it in for the"
            " samples without a value."
        )
    return sorted(name for name, of in found.items() if of <= set(HELD))


def hold(recording: Recording, names: Sequence[str]) -> Recording:
    """Replace missing values of channels by the previous known value."""
    columns = [recording.channel_names.index(name) for name in names]
    x = recording.values
    if not columns or recording.is_complete:
        return recording
    rows, last = Rows.like(x, x.dtype, x.shape[1]), np.full((1, len(columns)), np.nan)
    for at, stop in blocks(len(x), x, n_columns=x.shape[1]):
        block = np.array(x[at:stop])
        some = np.concatenate([last, block[:, columns]])
        block[:, columns] = fill_forward(some)[1:]
        last = block[-1:, columns]
        rows.append(block)
    return replace(recording, values=rows.as_array())
