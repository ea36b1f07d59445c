"""Padding that is read as signal."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.part import Finding, Ints, Part

LEAST_RUN = 3  # steps alike at an end
RUN_SHARE = 0.1  # of a window's steps
WINDOWS_SHARE = 0.1  # of the windows that end so, in one and the same value


def check_padding(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield it when windows without lengths end, or begin, in one value for all."""
    if train.lengths is not None:
        return
    trailing, leading = _padded(train)
    side, share = ("end", trailing) if trailing >= leading else ("beginning", leading)
    if share < WINDOWS_SHARE:
        return
    theirs = (0.0, 0.0) if validation is None else _padded(validation)
    is_other = theirs[side == "end"] >= WINDOWS_SHARE > theirs[side != "end"]
    yield Finding(
        "padding_as_signal",
        {"share": share, "side": side},
        f"{share:.0%} of {len(train)} training windows have the same constant in every channel at"
        f" their {side}, for a tenth of their steps or more. That is padding; without lengths it is"
        " read as signal."
        + (" The validation windows are padded at the other side." if is_other else ""),
        ("" if side == "end" else "Pad at the end instead. ")
        + "Give lengths=, or the windows as a list of arrays.",
    )


def _padded(part: Part) -> tuple[float, float]:
    """Return the share of windows that end, and that begin, in a run of one value for all."""
    if part.n_timesteps < 2 * LEAST_RUN:
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


def check_zero_ends(X: NDArray[Any], lengths: Ints) -> Finding | None:
    """Return it when windows to predict, all of full length, end in zeros.

    scikit-learn hands `lengths` to `fit` and to `score`, but not to everything that predicts.
    """
    n_timesteps = X.shape[1]
    if n_timesteps < 2 or (lengths < n_timesteps).any():
        return None
    n_padded = int((X[:, -2:] == 0).all(axis=(1, 2)).sum())
    if not n_padded:
        return None
    return Finding(
        "zero_ends",
        {"n_windows": n_padded},
        f"{n_padded} of the {len(X)} windows end in zeros in every channel. fit was given lengths"
        " but this call was not, so the zeros are read as signal.",
        "Give lengths=, or give windows as a list of arrays of shape (t_i, c), which also works"
        " where scikit-learn does not pass metadata on.",
    )
