"""Windows: checked values in memory or in a file, with the facts about each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.preprocessing.scale.scaler import Scaler

CROPS = ("head", "tail", "centre", "random")
LARGEST = float(np.finfo(np.float32).max)  # larger values have squares beyond the range of double
PIECE_BYTES = 2 * 1024**2  # read, checked and scaled at a time; fits into a processor's cache


@dataclass(frozen=True, eq=False)
class Windows:
    """Unscaled windows; their values are finite, and padding is zero.

    Where samples may be missing, a channel without a number in a window is NaN throughout.

    Parameters
    ----------
    X : ndarray of shape (N, T, C), float32 or float64
        Or `StoredSamples`, which are checked when read.
    lengths : ndarray of shape (N,), int64
        Valid steps, 1 to T.
    is_flat : bool, default=False
        Whether (n, t) was given; t must then stay the same.
    channels : list of str, optional
        Names, if they are known.
    target : ndarray of shape (N,), int64
        Class of each window, an index of `classes`; empty without labels.
    classes : ndarray of shape (K,)
        Labels of the classes; empty if nobody needs them.
    weight, groups, recording_id : ndarray of shape (N,), optional
        Factor in the loss, what a split keeps together, and the recording.
    rows : ndarray of shape (N,), int64, optional
        Rows of the X given to `fit`; None for validation windows given separately.
    starts : ndarray of shape (N,), float64, optional
        Starts within the recording, in window lengths.
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
        """True if the samples are still in their file."""
        return not isinstance(self.X, np.ndarray)

    @property
    def n_timesteps(self) -> int:
        """The length T of the padded windows."""
        return int(self.X.shape[1])

    def take(self, rows: NDArray[np.integer[Any]]) -> "Windows":
        """Return the windows at `rows`."""
        picked: dict[str, Any] = {"X": self.X[rows], "lengths": self.lengths[rows]}
        for name in _KNOWN_OF_SOME:
            values = getattr(self, name)
            if values is not None and len(values):
                picked[name] = values[rows]
        return replace(self, **picked)

    @contextmanager
    def opened(self) -> Iterator["WindowReader"]:
        """Open the file, if there is one; only one thread at a time can have it open."""
        if not self.are_stored:
            yield WindowReader(self, self.X.__getitem__)
            return
        with self.X.opened() as reader:
            yield WindowReader(self, reader.read)

    def held(self) -> "Windows":
        """Return the windows in memory."""
        if not self.are_stored:
            return self
        with self.opened() as reader:
            return reader.read(np.arange(len(self)))

    def pieces(self, rows: NDArray[np.int64] | None = None) -> Iterator["Windows"]:
        """Yield the windows (at `rows`) in memory, with few that are copied at a time."""
        if rows is None and not self.are_stored:
            yield self
            return
        with self.opened() as reader:
            for places in self.places(rows):
                yield reader.read(places)

    def places(self, rows: NDArray[np.int64] | None = None) -> list[NDArray[np.int64]]:
        """Cut rows (None: all) into pieces that are read or copied together."""
        rows = np.arange(len(self)) if rows is None else rows
        size = max(1, PIECE_BYTES // (self.X.dtype.itemsize * int(np.prod(self.X.shape[1:]))))
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def cropped(self, max_timesteps: int | None, crop: str) -> "Windows":
        """Keep at most `max_timesteps` valid steps of each window in memory."""
        if max_timesteps is None or self.n_timesteps <= max_timesteps:
            return self
        starts = crop_starts(self.lengths, max_timesteps, crop)
        steps = starts[:, None] + np.arange(max_timesteps)
        X = np.take_along_axis(self.X, steps[:, :, None], axis=1)
        return replace(self, X=X, lengths=np.minimum(self.lengths, max_timesteps))

    def scaled(self, scaler: Scaler | None, dtype: str) -> NDArray[Any]:
        """Return windows in memory as a network takes them; raise if a value leaves its range."""
        X = self.X
        lengths = None if self.are_full else self.lengths
        lost = np.isnan(X[:, :1])  # channels without a number, taken for their mean in training
        if lost.any():
            X = np.where(lost, X.dtype.type(0), X)
        if scaler is not None:
            X = scaler.transform(X, lengths)
        with np.errstate(over="ignore"):  # raised below
            X = np.ascontiguousarray(X, dtype)
        if lost.any():
            X = np.where(lost, X.dtype.type(0), X)
        if not np.isfinite(X).all():
            finite = np.isfinite(X).all(axis=(0, 1))
            raise InputError(
                f"X in channel {int(np.argmin(finite))} is infinite after scaling in {dtype}:"
                " it is too far from the training windows."
            )
        return X


@dataclass(frozen=True)
class WindowReader:
    """Open windows; made by `Windows.opened`. `unchecked` returns values, which may be NaN."""

    windows: Windows
    unchecked: Callable[[NDArray[np.int64]], NDArray[Any]]

    def read(self, rows: NDArray[np.int64]) -> Windows:
        """Return the windows at `rows` in memory, checked."""
        known = self.windows.take(rows)
        if not self.windows.are_stored:
            return known
        samples = self.windows.X
        try:
            X = pad_with_zeros(self.unchecked(rows), known.lengths)
            check_finite_windows(X, "X", samples.rows[rows])
        except InputError as error:
            error.add_note(f"while reading {samples.path}")
            raise
        return replace(known, X=X)


_KNOWN_OF_SOME = ("target", "weight", "groups", "recording_id", "rows", "starts")


def crop_starts(
    lengths: NDArray[np.int64],
    max_timesteps: int,
    crop: str,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Return the first step to keep of each window, (N,); 0 if it is not cropped.

    Without `rng` (prediction, validation), ``"random"`` means the center, for reproducible results.
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
    """Return windows with zeros beyond their lengths."""
    is_valid = np.arange(X.shape[1]) < lengths[:, None]
    return np.where(is_valid[:, :, None], X, X.dtype.type(0))


def check_finite_windows(
    X: NDArray[Any],
    name: str = "X",
    rows: NDArray[np.int64] | None = None,
    *,
    allow_nan: bool = False,
) -> None:
    """Raise for the first step that is not finite; `rows` are the numbers of the windows."""
    usable = np.abs(X) <= LARGEST  # also False for NaN
    if allow_nan:
        usable |= np.isnan(X)
    if not usable.all():
        row, step, channel = (int(i) for i in np.argwhere(~usable)[0])
        value = X[row, step, channel]
        row = row if rows is None else int(rows[row])
        what = "NaN" if np.isnan(value) else "infinity (inf)" if np.isinf(value) else f"{value:g}"
        other = ""
        if what == "NaN" and rows is None:  # windows in a file are not bridged
            other = " A classifier with missing='expected' bridges NaN."
        raise InputError(
            f"{name} holds {what} in window {row}, step {step}, channel {channel}"
            f" ({int((~usable).sum())} such values), which cannot be used. Drop such windows, or"
            f" fill the gaps before cutting windows.{other}"
        )
