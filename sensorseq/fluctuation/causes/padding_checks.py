"""check_padding: values after the end of a window, and ends that are padding but not told to be."""

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Names, Part

LEAST_RUN = 3  # steps alike at an end
RUN_SHARE = 0.1  # of a window's steps
WINDOWS_SHARE = 0.1  # of the windows that end so, in one and the same value


def check_padding(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return what is wrong with the steps beyond the end of the windows."""
    found = _after_the_end(train)
    if train.lengths is None:
        found += _untold(train, validation)
    return found


def _after_the_end(train: Part) -> list[Cause]:
    if train.lengths is None:
        return []
    dirty = np.zeros(len(train), bool)
    for where, values, valid in train.blocks():
        if valid is not None:
            dirty[where] = ((values != 0).any(axis=2) & ~valid).any(axis=1)
    rows = np.flatnonzero(dirty)
    if not len(rows):
        return []
    return [
        Cause(
            "data_bug",
            "supported",
            0.1,
            f"{len(rows)} of {len(train)} training windows (rows {train.name_rows(rows)}) hold"
            " values after their length: a network that does not heed lengths reads them as"
            " signal.",
            finding="values in the padding",
            advice="Look whether lengths= is that of the windows.",
        )
    ]


def _untold(train: Part, validation: Part | None) -> list[Cause]:
    sides = {name: _padded(part) for name, part in (("train", train), ("val", validation)) if part}
    trailing, leading = sides["train"]
    side, share = ("end", trailing) if trailing >= leading else ("beginning", leading)
    if share < WINDOWS_SHARE:
        return []
    sentence = (
        f"{100 * share:.0f} % of {len(train)} training windows are one constant in every channel at"
        f" their {side} for a tenth of their steps or more, all the same one: padding, and no"
        " lengths were given, so it is read as signal."
    )
    if "val" in sides:
        theirs = sides["val"]
        if theirs[side == "end"] >= WINDOWS_SHARE > theirs[side != "end"]:
            sentence += " The validation windows are padded at the other side."
    return [
        Cause(
            "preprocessing",
            "supported",
            0.25,
            sentence,
            finding="padding read as signal",
            advice=("" if side == "end" else "Pad at the end instead. ")
            + "Give lengths=, or the windows as a list of arrays.",
        )
    ]


def _padded(part: Part) -> tuple[float, float]:
    """Return the share of windows that end, and that begin, in a run of one value for all."""
    if part.X.shape[1] < 2 * LEAST_RUN:
        return 0.0, 0.0
    return _share(part.X[:, ::-1]), _share(part.X)


def _share(X: NDArray[np.floating]) -> float:
    """Return the share of windows that begin with the commonest first step, repeated."""
    least = max(LEAST_RUN, int(np.ceil(RUN_SHARE * X.shape[1])))
    repeated = np.flatnonzero((X[:, :least] == X[:, :1]).all(axis=(1, 2)))
    if not len(repeated):
        return 0.0
    _, counts = np.unique(X[repeated, 0], axis=0, return_counts=True)
    # a signal that rests does not rest at one value to the last bit, or not in every channel
    whole = (X[repeated] == X[repeated, :1]).all(axis=(1, 2)).sum()
    return float(counts.max() - min(whole, counts.max())) / len(X)
