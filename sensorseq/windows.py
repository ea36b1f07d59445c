"""WindowSet: windows with lengths, labels, groups and split."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import WindowError

__all__ = ["WindowSet"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False, repr=False)
class WindowSet:
    """Windows of equal padded length, each with its origin, label and part.

    Parameters
    ----------
    X : ndarray of shape (n_windows, n_timesteps, n_channels), float32
        Unscaled samples. Steps at and beyond `lengths` are padding. The samples of a large prepared
        file may stay in the file, and are read when they are needed.
    lengths : ndarray of shape (n_windows,), int64, optional
        Number of valid steps of each window, from 0 to n_timesteps; n_timesteps by default.
    y : ndarray of shape (n_windows,), optional
        Labels; None if the windows are only for prediction.
    groups : ndarray of shape (n_windows,), optional
        The group of each window; a split never divides a group. `recording_id` by default.
    recording_id : ndarray of shape (n_windows,), optional
        The recording that each window was cut from.
    start_s : ndarray of shape (n_windows,), float64, optional
        Time of the first sample of each window on its recording's clock, in seconds.
    split : ndarray of shape (n_windows,), optional
        ``"train"``, ``"validation"`` or ``"test"`` for each window; None before a split.
    channels : sequence of str
        Names of the channels; ``channel_0 ...`` by default.
    sample_rate_hz : float, optional
        Sample rate; successive steps are ``1 / sample_rate_hz`` seconds apart.
    provenance : mapping
        How the windows were made: configuration, digests of sources, and dropped recordings.

    Raises
    ------
    WindowError
        If shapes disagree, or a length or a part is invalid.
    """

    X: NDArray[np.float32]
    lengths: NDArray[np.int64] | None = None
    y: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    recording_id: NDArray[Any] | None = None
    start_s: NDArray[np.float64] | None = None
    split: NDArray[Any] | None = None
    channels: tuple[str, ...] = ()
    sample_rate_hz: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        X = _as_float32(self.X)
        if X.ndim != 3:
            raise WindowError(
                f"X has shape {X.shape}; expected (n_windows, n_timesteps, n_channels)."
            )
        n_windows, n_timesteps, n_channels = X.shape
        lengths: NDArray[Any] = np.full(n_windows, n_timesteps)
        if self.lengths is not None:
            lengths = np.asarray(self.lengths)
            if lengths.dtype.kind not in "iu" and lengths.size:
                raise WindowError(f"lengths has dtype {lengths.dtype}; it must contain integers.")
        lengths = lengths.astype(np.int64)
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "lengths", lengths)
        if self.groups is None:
            object.__setattr__(self, "groups", self.recording_id)
        for name in ("lengths", *_PER_WINDOW):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value)
            object.__setattr__(self, name, array)
            if array.shape != (n_windows,):
                raise WindowError(
                    f"{name} has shape {array.shape}; {n_windows} windows need"
                    f" shape ({n_windows},)."
                )
        outside = np.flatnonzero((lengths < 0) | (lengths > n_timesteps))
        if outside.size:
            row = int(outside[0])
            raise WindowError(f"lengths[{row}] is {lengths[row]}; it must be in 0..{n_timesteps}.")
        if self.split is not None:
            unknown = [part for part in self.split.tolist() if part not in PARTS]
            if unknown:
                raise WindowError(f"split contains {unknown[0]!r}; expected {', '.join(PARTS)}.")
        channels = tuple(str(c) for c in self.channels) or tuple(
            f"channel_{i}" for i in range(n_channels)
        )
        if len(channels) != n_channels:
            raise WindowError(f"{len(channels)} channel names for {n_channels} channels.")
        if len(set(channels)) != n_channels:
            twice = next(c for c in channels if channels.count(c) > 1)
            raise WindowError(f"channel name {twice!r} is used more than once.")
        rate = self.sample_rate_hz
        if rate is not None and not (np.isfinite(rate) and rate > 0):
            raise WindowError(f"sample_rate_hz={rate!r} is not a positive rate.")
        object.__setattr__(self, "channels", channels)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: Any) -> "WindowSet":
        if isinstance(rows, tuple):  # scikit-learn indexes the first axis as X[rows, ...]
            rows = rows[0]
        return self.take(np.atleast_1d(np.arange(len(self))[rows]))

    __iter__ = None  # otherwise Python and numpy would iterate over the windows one by one

    # Because of this size, dask sends the object to each worker once instead of with each fit.
    def __sizeof__(self) -> int:
        return self.X.nbytes

    def __repr__(self) -> str:
        n_channels = f"{self.n_channels} channel{'s' * (self.n_channels != 1)}"
        n_windows = f"{len(self)} window{'s' * (len(self) != 1)}"
        facts = [f"{n_windows} of {self.n_timesteps} steps and {n_channels}"]
        if self.sample_rate_hz is not None:
            facts.append(f"{self.sample_rate_hz:.4g} Hz")
        for name, values in (("classes", self.y), ("recordings", self.recording_id)):
            if values is not None:
                facts.append(f"{len(set(values.tolist()))} {name}")
        if self.split is not None:
            counts = {part: int((self.split == part).sum()) for part in PARTS}
            facts.append(" + ".join(f"{count} {part}" for part, count in counts.items() if count))
        return f"WindowSet({', '.join(facts)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `X`: (n_windows, n_timesteps, n_channels)."""
        return self.X.shape

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of windows by part (``"all"`` if there is no split) and class."""
        labels = [""] * len(self) if self.y is None else [str(label) for label in self.y.tolist()]
        parts = ["all"] * len(self) if self.split is None else self.split.tolist()
        counted = Counter(zip(parts, labels))
        classes = sorted(set(labels))
        present = [part for part in (*PARTS, "all") if part in set(parts)]
        return {part: {name: counted[part, name] for name in classes} for part in present}

    @property
    def n_timesteps(self) -> int:
        """The padded length of the windows, in steps."""
        return int(self.X.shape[1])

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return int(self.X.shape[2])

    @property
    def window_s(self) -> float | None:
        """Length of the windows in seconds; None if the rate is unknown."""
        return None if self.sample_rate_hz is None else self.n_timesteps / self.sample_rate_hz

    def take(self, indices: ArrayLike) -> "WindowSet":
        """Return the windows at `indices` (integers or a mask), in that order.

        Parameters
        ----------
        indices : array-like of int or bool
            Indices of the windows, or a mask.
        """
        rows = np.asarray(indices)
        picked: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in ("X", "lengths", *_PER_WINDOW)
        }
        return replace(self, **picked)

    def part(self, name: str) -> "WindowSet":
        """Return the windows of one part of the split: train, validation or test.

        Parameters
        ----------
        name : {"train", "validation", "test"}
            The part.

        Raises
        ------
        WindowError
            If the windows are not split, or `name` is not a part.
        """
        if name not in PARTS:
            raise WindowError(f"part {name!r} is not known; expected {', '.join(PARTS)}.")
        if self.split is None:
            raise WindowError("these windows have not been split; see preprocessing.split.")
        return self.take(np.flatnonzero(self.split == name))

    def with_split(self, split: NDArray[Any] | None) -> "WindowSet":
        """Return the windows with a different split.

        Parameters
        ----------
        split : ndarray of shape (n_windows,), or None
            ``"train"``, ``"validation"`` or ``"test"`` for each window.
        """
        return replace(self, split=split)

    @classmethod
    def concatenate(cls, sets: Iterable["WindowSet"]) -> "WindowSet":
        """Join window sets that have the same timesteps, channels and rate, in order.

        If the provenance is the same in all sets, it is kept; otherwise the result has a list of
        all provenances under ``"joined"``.

        Parameters
        ----------
        sets : iterable of WindowSet
            The sets to join.

        Raises
        ------
        WindowError
            If `sets` is empty, if the sets differ in timesteps, channels or rate, or if only some
            of the sets have an optional array, such as labels.
        """
        parts: Sequence[WindowSet] = list(sets)
        if not parts:
            raise WindowError("no window sets to join.")
        first = parts[0]
        for other in parts[1:]:
            for name in ("n_timesteps", "channels", "sample_rate_hz"):
                if getattr(other, name) != getattr(first, name):
                    raise WindowError(
                        f"window sets differ in {name}: {getattr(first, name)!r} and"
                        f" {getattr(other, name)!r}."
                    )
        joined: dict[str, Any] = {}
        for name in ("X", "lengths", *_PER_WINDOW):
            arrays = [getattr(part, name) for part in parts]
            absent = [array is None for array in arrays]
            if any(absent) and not all(absent):
                raise WindowError(f"some window sets have {name}, but others do not.")
            joined[name] = None if all(absent) else np.concatenate(arrays)
        origins = [dict(part.provenance) for part in parts]
        agree = all(origin == origins[0] for origin in origins)
        joined["provenance"] = origins[0] if agree else {"joined": origins}
        return replace(first, **joined)


def _as_float32(X: Any) -> NDArray[np.float32]:
    if getattr(X, "are_in_files", False):
        return X  # type: ignore[no-any-return]
    if np.iscomplexobj(X):
        raise WindowError("X is complex; windows must contain real numbers.")
    try:
        numbers = np.asarray(X)
        if numbers.dtype == np.float32:
            return numbers
        with np.errstate(over="ignore"):
            array = numbers.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise WindowError(
            f"X cannot be read as numbers of shape (n_windows, n_timesteps, n_channels): {error}."
        ) from error
    overflown = np.isinf(array) & np.isfinite(numbers.astype(np.float64))
    if overflown.any():
        at = tuple(int(i) for i in np.argwhere(overflown)[0])
        raise WindowError(f"X{list(at)} is {numbers[at]!r}, outside the range of float32.")
    return array


_PER_WINDOW = ("y", "groups", "recording_id", "start_s", "split")


def rows_of(recording_id: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the indices of the windows of each recording."""
    index = np.unique(recording_id, return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)


def iter_recordings(recording_id: NDArray[Any]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """Yield each recording and the indices of its windows, in order of first appearance."""
    names = recording_id.tolist()
    for rows in sorted(rows_of(recording_id) if names else [], key=lambda rows: int(rows[0])):
        yield names[rows[0]], rows
