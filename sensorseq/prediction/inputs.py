"""Read X and lengths to windows of one shape."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.frames import align, check_same_channels
from sensorseq.prediction.gaps import bridge_gaps
from sensorseq.prediction.padding import check_padding
from sensorseq.prediction.windows import Windows, check_finite_windows, pad_with_zeros
from sensorseq.windows import WindowSet

DTYPES = ("float32", "float64")


class WindowShape(NamedTuple):
    """The shape of a fit's windows, with which others are compared.

    `flat_timesteps` are the steps of (n, t), which must stay the same; None for windows of any
    length. `channels` are names, if there were any.
    """

    n_channels: int
    flat_timesteps: int | None
    channels: list[str] | None


def refuse_path(X: Any) -> None:
    """Raise an InputError for a path, which only an estimator opens."""
    if isinstance(X, (str, os.PathLike)):
        raise InputError(
            f"X={os.fspath(X)!r} is a path, and the runtime reads no prepared files. Give an array,"
            " or recordings to `timeline`."
        )


def is_table(X: Any) -> bool:
    """Test whether X is 2-D, scikit-learn's usual input, and no list of sequences or WindowSet."""
    if isinstance(X, WindowSet) or is_list_of_sequences(X):
        return False
    if hasattr(X, "toarray"):
        return True
    try:
        return len(shape_of(X)) == 2
    except ValueError:  # a ragged list
        return False


def windows_of(
    X: Any,
    lengths: Any = None,
    name: str = "X",
    known: WindowShape | None = None,
    *,
    missing: str = "error",
) -> Windows:
    """Convert X and lengths to windows (N, T, C).

    X is an array (n, t, c) or (n, t), a list (or 1-D object array) of arrays or DataFrames (t_i,
    c), which is padded to its longest, or a WindowSet, which has its own lengths. The columns of
    DataFrames are put in the order of the `known` channels, by default of the first one. Values
    beyond the lengths may be anything, even NaN. Raises an `InputError` if shapes or columns
    disagree, also with `known`, or that names the first valid step that is not finite. NaN is
    bridged unless `missing` is ``"error"``.
    """
    names, channels = None, None if known is None else known.channels
    lengths_name = "lengths" + name.removeprefix("X")
    if isinstance(X, WindowSet) or is_list_of_sequences(X):
        if lengths is not None:
            raise InputError(f"{name} has its own lengths; leave {lengths_name}=None.")
        if isinstance(X, WindowSet):
            check_same_channels(channels, X.channels, name)
            array, lengths = X.X, X.lengths
        else:
            parts, names = align(X, channels, name)
            array, lengths = _pad(parts, name)
    else:
        _check_not_one_dimensional(X, name)
        array = _as_float(X, name)
    is_flat = array.ndim == 2
    if is_flat:
        array = array[:, :, None]
    if array.ndim != 3:
        raise InputError(
            f"{name} has shape {array.shape}; expected (n_windows, n_timesteps, n_channels), or"
            " (n_windows, n_timesteps) for one channel."
        )
    for size, what in zip(array.shape, ("windows", "timesteps", "channels")):
        if size == 0:
            raise InputError(f"{name} has shape {array.shape}: no {what}.")
    valid_steps = _check_lengths(lengths, array.shape[0], array.shape[1], lengths_name)
    origin: dict[str, Any] = {}
    if isinstance(X, WindowSet):
        origin = {"recording_id": X.recording_id, "groups": X.groups}
    if isinstance(array, np.ndarray):  # samples in a file are looked at where they are read
        if (valid_steps < array.shape[1]).any():
            check_padding(array, valid_steps, name, lengths_name)
            array = pad_with_zeros(array, valid_steps)
        if missing != "error":
            array = bridge_gaps(array, valid_steps)
        check_finite_windows(array, name, allow_nan=missing != "error")
    if known is not None:
        _check_shape(array.shape, is_flat, known, name)
    return Windows(array, valid_steps, is_flat, names, **origin)


def _check_shape(shape: tuple[int, ...], is_flat: bool, known: WindowShape, name: str) -> None:
    """Raise unless windows have the channels (if 2-D, the timesteps) of those in `fit`."""
    (n, t, c), (n_channels, n_timesteps, _) = shape, known
    if c != n_channels and is_flat:
        single = f" A single window of shape (t, c) is [{name}]." if t == n_channels else ""
        raise InputError(
            f"{name} has shape {(n, t)}, read as {n} windows of one channel, but fit saw"
            f" {n_channels} channels; expected (n_windows, n_timesteps, {n_channels}).{single}"
        )
    if c != n_channels:
        swapped = (
            f" If {name} is channel-first, (n, c, t), it has windows of {c} steps and {t}"
            f" channels: give {name}.transpose(0, 2, 1)."
            if t == n_channels
            else ""
        )
        raise InputError(
            f"{name} has shape {(n, t, c)}, read as {n} windows of {t} steps and {c} channels, but"
            f" fit saw {n_channels} channels.{swapped}"
        )
    if n_timesteps is not None and t != n_timesteps:
        raise InputError(
            f"{name} has {t} timesteps, but fit saw 2-D input with {n_timesteps}, and 2-D input"
            f" must keep its length; fit on {name}[:, :, np.newaxis] for windows of any length."
        )


def check_per_window(
    values: Any, n_windows: int, name: str, owner: str = "X"
) -> NDArray[Any] | None:
    """Return per-window values as a 1-D array; None for None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_windows,):
        count = f"{len(array)} values" if array.ndim == 1 else f"shape {array.shape}"
        raise InputError(f"{name} has {count}, but {owner} has {n_windows} windows.")
    return array


def check_groups(values: Any, n_windows: int, name: str, owner: str = "X") -> NDArray[Any] | None:
    """Return the group of each window; a missing one (None, NaN) raises an error with its row."""
    groups = check_per_window(values, n_windows, name, owner)
    if groups is None:
        return None
    if groups.dtype.kind in "US":  # none is missing, and there may be many
        return groups
    missing = [i for i, group in enumerate(groups.tolist()) if is_missing(group)]
    if missing:
        raise InputError(
            f"{name}[{missing[0]}] is {groups.tolist()[missing[0]]!r}; every window needs a group."
            " Give a window without a recording its own group."
        )
    return groups


def is_missing(value: Any) -> bool:
    """Test whether a label is None, NaN, NaT or pandas' NA, which cannot be compared."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _check_not_one_dimensional(X: Any, name: str) -> None:
    if isinstance(X, Sequence) and not len(X):
        raise InputError(
            f"{name} is empty. Give an array of shape (n_windows, n_timesteps, n_channels)."
        )
    try:
        shape = shape_of(X)
    except ValueError:  # a ragged list, which is described where it is read
        return
    if not shape:
        number = " A single number is not a window: Reshape your data." if np.isscalar(X) else ""
        raise InputError(
            f"{name} is a {type(X).__name__}; expected an array of shape (n_windows, n_timesteps,"
            f" n_channels), a list of arrays, a WindowSet or the path of a prepared file.{number}"
        )
    if len(shape) < 2:
        raise InputError(
            f"{name} has shape {shape}; expected (n_windows, n_timesteps, n_channels). Reshape your"
            f" data: one window of one channel is np.reshape({name}, (1, -1, 1))."
        )


def is_list_of_sequences(X: Any) -> bool:
    """Whether X is a list of sequences, each (t, c), rather than one array."""
    if isinstance(X, np.ndarray):
        is_list = X.ndim == 1 and X.dtype == object
        return is_list and any(len(getattr(part, "shape", ())) >= 2 for part in X)
    if not isinstance(X, Sequence) or isinstance(X, str) or not len(X):
        return False
    if any(len(getattr(part, "shape", ())) >= 2 for part in X):
        return True
    # Nested lists: rectangular ones are an array; ragged ones can only be a list of sequences.
    nested = all(isinstance(part, Sequence) and len(part) for part in X)
    return (
        nested
        and all(isinstance(part[0], (Sequence, np.ndarray)) for part in X)
        and len({len(part) for part in X}) > 1
    )


def _pad(X: Iterable[Any], name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    for i, part in enumerate(X):
        if isinstance(part, WindowSet):
            raise InputError(f"{name}[{i}] is a WindowSet; join sets with WindowSet.concatenate.")
    parts = [_as_float(part, f"{name}[{i}]") for i, part in enumerate(X)]
    for i, part in enumerate(parts):
        if part.ndim != 2 or part.shape[1] != parts[0].shape[-1]:
            raise InputError(
                f"{name}[{i}] has shape {part.shape}; each sequence of the list must be"
                " (n_timesteps, n_channels) with as many channels as the first, of shape"
                f" {parts[0].shape}."
            )
    lengths = np.array([len(part) for part in parts], np.int64)
    dtype = np.result_type(*parts)
    padded = np.zeros((len(parts), int(lengths.max()), parts[0].shape[1]), dtype)
    for row, part in zip(padded, parts):
        row[: len(part)] = part
    return padded, lengths


def shape_of(X: Any) -> tuple[int, ...]:
    """Return the shape of an array-like; a ragged list raises a ValueError."""
    return X.shape if isinstance(X, np.ndarray) else as_array(X).shape


def as_array(values: Any) -> NDArray[Any]:
    """Convert to an array; X may be a torch tensor."""
    if np.ma.is_masked(values):
        values = values.astype(np.float64).filled(np.nan)
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _as_float(X: Any, name: str) -> NDArray[Any]:
    try:
        array = X if type(X) is np.ndarray else as_array(X)
    except ValueError as error:
        raise InputError(
            f"{name} is ragged and cannot become an array; give windows of different lengths as a"
            f" list of arrays of shape (n_timesteps, n_channels). ({error})"
        ) from error
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {name} has type {array.dtype}.")
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "mM":
        raise InputError(f"{name} has type {array.dtype}: times are no channel; drop them.")
    try:
        return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has type {array.dtype} and is not numeric ({error}).") from error


def _check_lengths(lengths: Any, n_windows: int, n_timesteps: int, name: str) -> NDArray[np.int64]:
    if lengths is None:
        return np.full(n_windows, n_timesteps, np.int64)
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} has type {array.dtype}; lengths must be integers, in steps.")
    check_per_window(array, n_windows, name)
    outside = np.flatnonzero((array < 1) | (array > n_timesteps))
    if outside.size:
        row = int(outside[0])
        raise InputError(
            f"{name}[{row}] is {array[row]}; these windows have 1 to {n_timesteps} steps."
        )
    return array.astype(np.int64)
