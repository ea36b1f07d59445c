"""Check the shape and the channels of a fit's windows, and open a prepared file."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError, warn_caller
from sensorseq.prediction.checked_windows import (
    Windows,
    as_array,
    is_list_of_sequences,
    shape_of,
)
from sensorseq.prediction.inputs import refuse_sensors
from sensorseq.training.prepared_windows import read_prepared, refuse_scaled
from sensorseq.windows import WindowSet

# Windows with at most this many steps and at least this many channels are probably of shape
# (n, c, t) instead of (n, t, c).
FEW_TIMESTEPS = 16
MANY_CHANNELS = 32
# An axis counts as smoother if its roughness is below this fraction of the other axis's roughness.
_SMOOTHER = 0.7
_CHANNELS_PER_STEP = 8  # this ratio or more is refused even if neither axis is smoother
_EXAMINED = 200  # number of windows whose smoothness is measured


def check_axis_order(X: Any, lengths: Any, name: str = "X") -> None:
    """Raise an error if a 3-D array looks like (n, c, t); warn if it may have this order.

    An array with few steps and many channels may have this order, unless its values are smoother
    along the steps than along the last axis. Such an array looks like (n, c, t) if its values are
    smoother along the last axis, or if that axis is much longer. An array with one step and several
    channels always looks like (n, c, t). With `lengths`, or for a list of windows or a WindowSet,
    the order of the axes is known, so it is not checked.
    """
    if lengths is not None or isinstance(X, WindowSet) or is_list_of_sequences(X):
        return
    n, t, c = shape_of(X)
    if not (t == 1 < c or (t < c and t <= FEW_TIMESTEPS and c >= MANY_CHANNELS)):
        return
    if t > 1:
        values = as_array(X)[:_EXAMINED].astype(np.float64)
        as_read, swapped = _roughness(values, 1), _roughness(values, 2)
        if as_read < _SMOOTHER * swapped:
            return
        if c < _CHANNELS_PER_STEP * t and not swapped < _SMOOTHER * as_read:
            warn_caller(
                f"{name} has shape {(n, t, c)}, read as {n} windows of {_count(t, 'step')} and"
                f" {_count(c, 'channel')}. If it is channel-first, (n, c, t), give"
                f" {name}.transpose(0, 2, 1); otherwise confirm it with lengths=np.full({n}, {t})."
            )
            return
    raise InputError(
        f"{name} has shape {(n, t, c)}: as (n, t, c) these are {n} windows of"
        f" {_count(t, 'step')} and {_count(c, 'channel')}; as (n, c, t) they are windows of"
        f" {_count(c, 'step')} and {_count(t, 'channel')}."
        f" If (n, c, t) is right, give {name}.transpose(0, 2, 1). If (n, t, c) is right, confirm it"
        f" with lengths=np.full({n}, {t})."
    )


def _roughness(X: NDArray[np.float64], axis: int) -> float:
    """Return the RMS difference of neighbors along an axis, relative to that of random pairs."""
    step = np.diff(X, axis=axis)
    spread = X - X.mean(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.sqrt(np.nanmean(step**2) / np.nanmean(spread**2) / 2))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


# The limits were chosen on the motor data of BorealTC and half of the other data sets in
# docs/input_files.md.
MOST_COLUMNS = 31  # with more columns, rows are more likely to be windows or spectra
LEAST_ROWS = 1000  # with fewer rows, neighbors may be similar by chance
LEAST_RUN = 20  # minimum mean number of consecutive rows with the same label
# Rows are close to the next row if their distance is below this fraction of the distance to a
# random row, and below this fraction of the distance to a neighboring column.
NEAR = 0.7
SHARE = 0.25  # minimum fraction of the columns in which rows are this close to the next row


def refuse_rows(X: NDArray[Any], target: NDArray[np.int64]) -> None:
    """Raise an error if the rows of X (n, t) look like samples of recordings instead of windows.

    In a table of samples, each row is closer to the previous one, column by column, than to other
    rows with the same label. This is also true of overlapping windows, but in these, neighboring
    columns are even closer to each other.
    """
    n, n_columns = X.shape
    goes_on = target[1:] == target[:-1]
    n_runs = n - int(goes_on.sum())
    if n_columns > MOST_COLUMNS or n < max(LEAST_ROWS, LEAST_RUN * n_runs):
        return
    X = np.asarray(X, np.float64)
    spread = X.std(axis=0)
    moves = spread > 0
    Z = (X - X.mean(axis=0)) / np.where(moves, spread, 1)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    # The rows, shuffled within each run of equal labels.
    mixed = Z[np.lexsort((np.random.default_rng(0).permutation(n), run))]
    onward, at_random = (np.abs(np.diff(rows, axis=0))[goes_on].mean(axis=0) for rows in (Z, mixed))
    sideways = np.abs(np.diff(Z, axis=1)).mean(axis=0)
    beside = np.minimum(np.append(np.inf, sideways), np.append(sideways, np.inf))
    continues = moves & (onward < NEAR * at_random) & (onward < NEAR * beside)
    if continues.mean() < SHARE:
        return
    raise InputError(
        f"X has shape {(n, n_columns)}, read as {n} windows of {n_columns} step(s) and one"
        f" channel, but its rows seem to be samples: in {int(continues.sum())} column(s) each row"
        f" continues the previous one, and a label stays the same for {n // n_runs} rows on"
        " average. Cut windows: convert each recording with Recording.evenly_sampled, and fit on"
        " PreparePipeline(window_s=...).prepare(recordings). If each row really is a window, give X"
        f" of shape {(n, n_columns, 1)}."
    )


SETS = (str, os.PathLike, WindowSet)  # types that `open_windows` handles


def check_channels_have_numbers(windows: Windows, name: str) -> None:
    """Raise an error if a window lacks a channel, because its absence could reveal the class."""
    lost = np.zeros(0) if windows.are_stored else np.isnan(windows.X[:, 0])
    if lost.any():
        row, channel = map(int, np.argwhere(lost)[0])
        raise InputError(
            f"{name} has no number in channel {channel} of window {row}"
            f" ({int(lost.any(axis=1).sum())} such windows). Gaps within a channel are bridged,"
            " but windows that lack an entire channel cannot be used for training. Leave them out."
        )


def open_windows(X: Any, scale: str | None, name: str) -> Any:
    """Open a prepared file; raise an error for a WindowSet that is already scaled."""
    if isinstance(X, str | os.PathLike):
        X = read_prepared(X)
    refuse_sensors(X)
    if isinstance(X, WindowSet):
        refuse_scaled(X, scale, name)
    return X
