"""Compare the lengths of windows with the padding visible in their values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError, warn_caller

_MOST_CHECKED = 512  # at most this many shorter windows, evenly spaced, are checked
_LEAST_RUN = 3  # a shorter run of equal steps is not padding
_MOST_EXCESS = 2  # maximum number of signal steps next to the padding that may equal the padding
_OTHER_UNIT = 1.5  # minimum ratio of the true to the given lengths that suggests another unit
_MOST, _NEARLY_ALL, _LEAST_WINDOWS = 0.5, 0.9, 10


def check_padding(
    X: NDArray[Any], lengths: NDArray[np.int64], name: str, lengths_name: str
) -> None:
    """Warn if windows (n, t, c) are padded in front, or if their lengths are not in steps.

    Padding is a run of equal steps at the beginning or the end of a window. Values beyond the
    lengths may be anything, so a run counts only if it suggests that the samples are at the end of
    a window, or that the lengths are in another unit. An InputError is raised if the padding in
    front is NaN.
    """
    as_list = (
        "the windows as a list of arrays of shape (t_i, c), without padding, and leave"
        f" {lengths_name}=None."
    )
    n_padded = X.shape[1] - lengths
    rows = np.flatnonzero(n_padded >= _LEAST_RUN)
    rows = rows[:: -(-len(rows) // _MOST_CHECKED) or 1]
    if not len(rows):
        return
    x, n_valid, n_padded = X[rows], lengths[rows], n_padded[rows]
    before, behind = _runs(x), _runs(x[:, ::-1])
    is_elsewhere = behind < n_padded
    before, behind = (np.where(run < _LEAST_RUN, 0, run) for run in (before, behind))
    excess = before + behind - n_padded
    in_front = is_elsewhere & (before > 0) & (excess >= 0) & (excess <= _MOST_EXCESS)
    if in_front.mean() >= _MOST:
        at_both = (behind[in_front] > 0).mean() >= _MOST
        way_out = f"Give {as_list}"
        if not at_both:
            way_out = (
                f"Put the padding at the ends with {name} = np.stack([np.roll(x, n, axis=0)"
                f" for x, n in zip({name}, {lengths_name})]), or give {as_list}"
            )
        text = (
            f"{name} is padded {'at both ends' if at_both else 'in front'}:"
            f" {int(in_front.sum())} of {len(rows)} shorter windows begin with a constant value and"
            f" vary beyond their {lengths_name}. {lengths_name} count from the first step, so"
            f" padding is read instead of samples. {way_out}"
        )
        if np.isnan(x[in_front, 0]).all():
            raise InputError(text)
        warn_caller(text)
        return
    n_seen, goes_on = X.shape[1] - behind, is_elsewhere & (before == 0)
    ratio = n_seen.sum() / n_valid.sum()
    if len(rows) < _LEAST_WINDOWS or ratio < _OTHER_UNIT or (behind > 0).mean() < _MOST:
        return
    if (goes_on & (np.abs(n_valid - n_seen / ratio) <= 1)).mean() > _NEARLY_ALL:
        warn_caller(
            f"{lengths_name} are not in steps: in {len(rows)} shorter windows of {name}, the"
            f" padding begins after {ratio:.3g} times as many steps as {lengths_name} count. At"
            f" most the first {int(n_valid.max())} steps of each window are read, so give"
            f" {lengths_name} in steps, or give {as_list}"
        )


def warn_of_zero_ends(X: NDArray[Any], lengths: NDArray[np.int64]) -> None:
    """Warn if all windows to predict are full, but some of them begin or end with zeros.

    scikit-learn passes `lengths` to `fit` and `score`, but not to every prediction.
    """
    n_timesteps = X.shape[1]
    if n_timesteps < 2 or (lengths < n_timesteps).any():
        return
    for steps, where in ((slice(-2, None), "end"), (slice(2), "begin")):
        n_padded = int((X[:, steps] == 0).all(axis=(1, 2)).sum())
        if n_padded:
            warn_caller(
                f"{n_padded} of the {len(X)} windows {where} with zeros in every channel. fit was"
                " given lengths but this call was not, so the zeros are read as signal. Give"
                " lengths=, or give windows as a list of arrays of shape (t_i, c), which also works"
                " where scikit-learn does not pass on metadata."
            )
            return


def _runs(x: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many steps at the beginning of each window are equal in all channels."""
    goes_on = ((x[:, 1:] == x[:, :-1]) | (np.isnan(x[:, 1:]) & np.isnan(x[:, :-1]))).all(axis=2)
    return np.asarray(1 + np.minimum.accumulate(goes_on, axis=1).sum(axis=1))
