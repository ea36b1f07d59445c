"""Windows: checked values in memory or in a file, converted from the user's input."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_lengths
from sensorseq.errors import InputError, SignalError
from sensorseq.prediction.frames import align, check_same_channels, refuse_panel
from sensorseq.prediction.gaps import bridge_gaps
from sensorseq.prediction.padding import check_padding
from sensorseq.preprocessing.scale import Scaler
from sensorseq.windows import WindowSet

DTYPES = ("float32", "float64")
CROPS = ("head", "tail", "centre", "random")
LARGEST = float(np.finfo(np.float32).max)  # the largest usable value
PIECE_BYTES = 2 * 1024**2  # size of the pieces that are read, checked and scaled; fits into a cache


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows with finite values and zeros as padding, and facts about each window.

    The values are unscaled, except where a name or a docstring contains the word "scaled". If
    samples may be missing, a channel without any number in a window is NaN throughout that window.

    Parameters
    ----------
    X : ndarray of shape (N, T, C), float32 or float64
        The values, or `StoredSamples`, which are checked when they are read.
    lengths : ndarray of shape (N,), int64
        Number of valid steps, from 1 to T.
    is_flat : bool, default=False
        True if the input was of shape (n, t); later input must then have the same t.
    channels : list of str, optional
        Names of the channels, if the input has names.
    target : ndarray of shape (N,), int64
        Class of each window, as an index into `classes`; empty without labels.
    classes : ndarray of shape (K,)
        Labels of the classes; empty without labels.
    weight, groups, recording_id : ndarray of shape (N,), optional
        Weight of each window in the loss, group of each window (a split keeps groups together), and
        recording of each window.
    rows : ndarray of shape (N,), int64, optional
        Indices of the windows in the X given to `fit`; None for validation windows that were given
        separately.
    starts : ndarray of shape (N,), float64, optional
        Start of each window within its recording, in window lengths.
    """

    X: Any
    lengths: NDArray[np.int64]
    is_flat: bool = False
    channels: list[str] | None = None
    target: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    classes: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    weight: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    recording_id: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None
    starts: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def are_full(self) -> bool:
        """True if every step of every window is valid."""
        return bool((self.lengths == self.n_timesteps).all())

    @property
    def are_stored(self) -> bool:
        """True if the samples are in a file, not in memory."""
        return not isinstance(self.X, np.ndarray)

    @property
    def n_timesteps(self) -> int:
        """The length T of the padded windows."""
        return int(self.X.shape[1])

    def take(self, rows: NDArray[np.integer[Any]]) -> "Windows":
        """Return the windows with the indices `rows`."""
        picked: dict[str, Any] = {"X": self.X[rows], "lengths": self.lengths[rows]}
        for name in _OPTIONAL:
            values = getattr(self, name)
            if values is not None and len(values):
                picked[name] = values[rows]
        return replace(self, **picked)

    @contextmanager
    def opened(self) -> Iterator["WindowReader"]:
        """Open the file, if there is one; only one thread may have it open at a time."""
        if not self.are_stored:
            yield WindowReader(self, self.X.__getitem__)
            return
        with self.X.opened() as reader:
            yield WindowReader(self, reader.read)

    def held(self) -> "Windows":
        """Return the windows with their samples in memory."""
        if not self.are_stored:
            return self
        with self.opened() as reader:
            return reader.read(np.arange(len(self)))

    def pieces(self, of_rows: Iterable[NDArray[np.int64]] | None = None) -> Iterator["Windows"]:
        """Yield windows in memory, in pieces if `of_rows` is given or the samples are in a file."""
        if of_rows is None and not self.are_stored:
            yield self
            return
        with self.opened() as reader:
            for rows in self.row_pieces() if of_rows is None else of_rows:
                yield reader.read(rows)

    def row_pieces(self, rows: NDArray[np.int64] | None = None) -> list[NDArray[np.int64]]:
        """Divide row indices (by default all) into pieces that are read or copied together."""
        rows = np.arange(len(self)) if rows is None else rows
        size = max(1, PIECE_BYTES // (self.X.dtype.itemsize * int(np.prod(self.X.shape[1:]))))
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def cropped(self, max_timesteps: int | None, crop: str) -> "Windows":
        """Crop windows in memory to at most `max_timesteps` valid steps."""
        if max_timesteps is None or self.n_timesteps <= max_timesteps:
            return self
        starts = crop_starts(self.lengths, max_timesteps, crop)
        steps = starts[:, None] + np.arange(max_timesteps)
        X = np.take_along_axis(self.X, steps[:, :, None], axis=1)
        return replace(self, X=X, lengths=np.minimum(self.lengths, max_timesteps))

    def scaled(self, scaler: Scaler | None, dtype: str) -> NDArray[Any]:
        """Return scaled windows in memory, or raise an error if a value becomes infinite."""
        X = self.X
        lengths = None if self.are_full else self.lengths
        if dtype == "float32":
            try:
                return (scaler or Scaler.identity(X.shape[2])).transform_to_float32(X, lengths)
            except SignalError:  # missing channels, or an invalid value that is reported below
                pass
        lost = np.isnan(X[:, :1])  # channels without a number get their training mean
        if lost.any():
            X = np.where(lost, X.dtype.type(0), X)
        if scaler is not None:
            X = scaler.transform(X, lengths)
        with np.errstate(over="ignore"):  # checked below
            X = np.ascontiguousarray(X, dtype)
        if lost.any():
            X = np.where(lost, X.dtype.type(0), X)
        if not np.isfinite(X).all():
            finite = np.isfinite(X).all(axis=(0, 1))
            raise InputError(
                f"X in channel {int(np.argmin(finite))} is infinite after scaling in {dtype},"
                " because its values are too far from the training values."
            )
        return X


@dataclass(frozen=True)
class WindowReader:
    """Windows that `Windows.opened` has opened; `unchecked` reads values without checking them."""

    windows: Windows
    unchecked: Callable[[NDArray[np.int64]], NDArray[Any]]

    def read(self, rows: NDArray[np.int64]) -> Windows:
        """Read the windows with the indices `rows` into memory, and check them."""
        taken = self.windows.take(rows)
        if not self.windows.are_stored:
            return taken
        samples = self.windows.X
        try:
            X = pad_with_zeros(self.unchecked(rows), taken.lengths)
            check_usable(X, "X", samples.rows[rows])
        except InputError as error:
            error.add_note(f"while reading {samples.path}")
            raise
        return replace(taken, X=X)


_OPTIONAL = ("target", "weight", "groups", "recording_id", "rows", "starts")


def crop_starts(
    lengths: NDArray[np.int64],
    max_timesteps: int,
    crop: str,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Return the first step to keep in each window (N,), which is 0 if the window is not cropped.

    Without `rng`, as in prediction and validation, ``"random"`` means ``"centre"``, so that results
    are reproducible.
    """
    spare = np.maximum(lengths - max_timesteps, 0)
    if crop == "head":
        return np.zeros_like(spare)
    if crop == "tail":
        return spare
    if crop == "random" and rng is not None:
        return rng.integers(0, spare, endpoint=True, dtype=np.int64)
    return spare // 2


def pad_with_zeros(X: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Return windows in which the steps after the valid steps are zero."""
    is_valid = np.arange(X.shape[1]) < lengths[:, None]
    return np.where(is_valid[:, :, None], X, X.dtype.type(0))


def check_usable(
    X: NDArray[Any],
    name: str = "X",
    rows: NDArray[np.int64] | None = None,
    *,
    allow_nan: bool = False,
) -> None:
    """Raise an error if a model cannot use a value; the message numbers the windows by `rows`."""
    usable = np.abs(X) <= LARGEST  # also False for NaN
    if allow_nan:
        usable |= np.isnan(X)
    if not usable.all():
        row, step, channel = (int(i) for i in np.argwhere(~usable)[0])
        value = X[row, step, channel]
        row = row if rows is None else int(rows[row])
        kind = "NaN" if np.isnan(value) else "infinity (inf)" if np.isinf(value) else f"{value:g}"
        alternative = ""
        if kind == "NaN" and rows is None:  # gaps are not bridged in windows of a file
            alternative = " A classifier with missing='expected' bridges NaN."
        raise InputError(
            f"{name} has {kind} in window {row}, step {step}, channel {channel}"
            f" ({int((~usable).sum())} such values), which cannot be used. Drop these windows, or"
            f" fill the gaps before cutting windows.{alternative}"
        )


class WindowShape(NamedTuple):
    """The shape of a fit's windows, which later windows must match.

    `flat_timesteps` is the number of steps of 2-D input (n, t), which later input must match; None
    allows windows of any length. `channels` are the names if the windows of the fit had names.
    """

    n_channels: int
    flat_timesteps: int | None
    channels: list[str] | None


def refuse_path(X: Any) -> None:
    """Raise an InputError if X is a path, which only an estimator can open."""
    if isinstance(X, (str, os.PathLike)):
        raise InputError(
            f"X={os.fspath(X)!r} is a path, but the runtime does not read prepared files. Give an"
            " array, or, for `timeline`, recordings."
        )


def is_table(X: Any) -> bool:
    """Test whether X is 2-D, as usual in scikit-learn; a list of sequences or WindowSet is not."""
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

    X is an array (n, t, c) or (n, t); a list (or 1-D object array) of arrays or DataFrames (t_i,
    c), which are padded to the longest; or a WindowSet, which has its own lengths. The columns of
    DataFrames are put in the order of the `known` channels, by default in the order of the first
    DataFrame. Values beyond the lengths may be anything, even NaN. An `InputError` is raised if
    shapes or columns disagree with each other or with `known`, or if a valid step is not finite. If
    `missing` is not ``"error"``, NaN is bridged and raises no error.
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
        if known is not None and known.flat_timesteps is None:
            refuse_panel(X, name)
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
    for size, axis in zip(array.shape, ("windows", "timesteps", "channels")):
        if size == 0:
            raise InputError(f"{name} has shape {array.shape}: no {axis}.")
    valid_steps = check_lengths(array, lengths, lengths_name, least=1, error=InputError)
    if valid_steps is None:
        valid_steps = np.full(array.shape[0], array.shape[1], np.int64)
    origin: dict[str, Any] = {}
    if isinstance(X, WindowSet):
        origin = {"recording_id": X.recording_id, "groups": X.groups}
    if isinstance(array, np.ndarray):  # samples in a file are checked when they are read
        if (valid_steps < array.shape[1]).any():
            check_padding(array, valid_steps, name, lengths_name)
            array = pad_with_zeros(array, valid_steps)
        if missing != "error":
            array = bridge_gaps(array, valid_steps)
        check_usable(array, name, allow_nan=missing != "error")
    if known is not None:
        _check_shape(array.shape, is_flat, known, name)
    return Windows(array, valid_steps, is_flat, names, **origin)


def _check_shape(shape: tuple[int, ...], is_flat: bool, known: WindowShape, name: str) -> None:
    """Raise an error unless windows match the fit in channels and, if 2-D, in timesteps."""
    (n, t, c), (n_channels, n_timesteps, _) = shape, known
    if c != n_channels and is_flat:
        single = f" Give a single window of shape (t, c) as [{name}]." if t == n_channels else ""
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
            f"{name} has {t} timesteps, but fit saw 2-D input with {n_timesteps} timesteps, and"
            f" 2-D input must keep its length; for windows of any length, fit on"
            f" {name}[:, :, np.newaxis]."
        )


def _check_not_one_dimensional(X: Any, name: str) -> None:
    if isinstance(X, Sequence) and not len(X):
        raise InputError(
            f"{name} is empty. Give an array of shape (n_windows, n_timesteps, n_channels)."
        )
    try:
        shape = shape_of(X)
    except ValueError:  # a ragged list, for which `_as_float` raises an error
        return
    if not shape:
        number = " A single number is not a window. Reshape your data." if np.isscalar(X) else ""
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
    """Test whether X is a list of sequences, each (t, c), rather than one array."""
    if isinstance(X, np.ndarray):
        is_list = X.ndim == 1 and X.dtype == object
        return is_list and any(len(getattr(part, "shape", ())) >= 2 for part in X)
    if not isinstance(X, Sequence) or isinstance(X, str) or not len(X):
        return False
    if any(len(getattr(part, "shape", ())) >= 2 for part in X):
        return True
    # A rectangular nested list is an array; a ragged one can only be a list of sequences.
    are_nested = all(isinstance(part, Sequence) and len(part) for part in X)
    return (
        are_nested
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
    """Convert `values`, which may be a torch tensor, to an array."""
    if np.ma.is_masked(values):
        values = values.astype(np.float64).filled(np.nan)
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()  # numpy has no bfloat16
    return np.asarray(values)


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
        raise InputError(f"{name} has type {array.dtype}: times are not a channel; leave them out.")
    pandas = sys.modules.get("pandas")
    if array.dtype == object and pandas is not None:  # pandas.NA is no number
        array = np.where(pandas.isna(array), np.nan, array)
    try:
        return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has type {array.dtype} and is not numeric ({error}).") from error
