"""SensorWindows: the windows of several sensors, each at its own rate, aligned in time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import (
    ArgumentError,
    InputError,
    WindowError,
    check_choice,
    did_you_mean,
)
from sensorseq.windows import WindowSet

__all__ = ["SensorWindows", "align_sensors"]

UNNAMED = ""  # name of the only sensor if windows are given without the name of their sensor
MISSING = ("error", "expected")
_SHARED = ("y", "groups", "recording_id", "split")


@dataclass(frozen=True, eq=False, repr=False)
class SensorWindows:
    """Windows of several sensors; row i of each sensor covers the same time interval.

    Parameters
    ----------
    sensors : mapping of str to WindowSet
        The windows of each sensor, at its own rate. All sensors have the same number of rows and
        the same labels, groups, recordings and split. A window that is all NaN means that the
        sensor has no data for the row.

    Raises
    ------
    WindowError
        If there is no sensor, or the sensors differ in rows, labels, groups, recordings or split.
    """

    sensors: Mapping[str, WindowSet]

    def __post_init__(self) -> None:
        if not self.sensors:
            raise WindowError("there is no sensor; give {name: windows}.")
        object.__setattr__(self, "sensors", dict(self.sensors))
        first, whole = next(iter(self.sensors.items()))
        for name, windows in self.sensors.items():
            if len(windows) != len(whole):
                raise WindowError(
                    f"sensor {name!r} has {len(windows)} windows, but {first!r} has {len(whole)};"
                    " row i of each sensor must cover the same time interval. Fill missing windows"
                    " with NaN, or use align_sensors."
                )
            for column in _SHARED:
                if not _same(getattr(windows, column), getattr(whole, column)):
                    raise WindowError(f"sensors {first!r} and {name!r} differ in {column}.")

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sensors)

    def __getitem__(self, key: Any) -> Any:
        """Return the windows of a sensor by its name, or some rows of all sensors."""
        if isinstance(key, tuple) and key[1:] == (Ellipsis,):  # scikit-learn indexes rows this way
            key = key[0]
        return self.sensors[key] if isinstance(key, str) else self.take(key)

    def __repr__(self) -> str:
        parts = [f"{name}: {windows!r}" for name, windows in self.sensors.items()]
        return f"SensorWindows({'; '.join(parts)})"

    @property
    def _first(self) -> WindowSet:
        return next(iter(self.sensors.values()))

    @property
    def shape(self) -> tuple[int, int]:
        """The number of windows and the number of sensors, for scikit-learn."""
        return len(self), len(self.sensors)

    @property
    def y(self) -> NDArray[Any] | None:
        """The label of each window; None if there are no labels."""
        return self._first.y

    @property
    def groups(self) -> NDArray[Any] | None:
        """The group of each window."""
        return self._first.groups

    @property
    def recording_id(self) -> NDArray[Any] | None:
        """The recording of each window."""
        return self._first.recording_id

    @property
    def start_s(self) -> NDArray[np.float64] | None:
        """The start of each row in seconds, which is the earliest start of its windows."""
        return self._first.start_s

    @property
    def split(self) -> NDArray[Any] | None:
        """The part of each window; None if there is no split."""
        return self._first.split

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The provenance of the first sensor's windows."""
        return self._first.provenance

    @property
    def window_s(self) -> float | None:
        """Length of the windows in seconds; None if no rate is known."""
        lengths_s = (windows.window_s for windows in self.sensors.values())
        return next((window_s for window_s in lengths_s if window_s is not None), None)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Mask (n_windows, n_sensors) that is True where a sensor has data for a row."""
        return np.stack([have_numbers(windows) for windows in self.sensors.values()], axis=1)

    def by_sensor(self) -> Iterator[tuple[str, WindowSet, NDArray[np.int64]]]:
        """Yield each sensor that has data, with its windows and their rows."""
        for at, (name, windows) in enumerate(self.sensors.items()):
            rows = np.flatnonzero(self.present[:, at])
            if len(rows):
                yield name, windows if len(rows) == len(self) else windows.take(rows), rows

    def take(self, indices: ArrayLike) -> "SensorWindows":
        """Return the windows at `indices` (integers or a mask), in that order.

        Parameters
        ----------
        indices : array-like of int or bool
            Indices of the windows, or a mask.
        """
        return SensorWindows(
            {name: windows.take(indices) for name, windows in self.sensors.items()}
        )

    def part(self, name: str) -> "SensorWindows":
        """Return the windows of one part of the split: train, validation or test.

        Parameters
        ----------
        name : {"train", "validation", "test"}
            The part.
        """
        return SensorWindows(
            {sensor: windows.part(name) for sensor, windows in self.sensors.items()}
        )

    def with_split(self, split: NDArray[Any] | None) -> "SensorWindows":
        """Return the windows with a different split.

        Parameters
        ----------
        split : ndarray of shape (n_windows,), or None
            ``"train"``, ``"validation"`` or ``"test"`` for each window.
        """
        return SensorWindows(
            {name: windows.with_split(split) for name, windows in self.sensors.items()}
        )


def _same(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or bool(np.array_equal(a, b))


def have_numbers(windows: WindowSet, rows: int = 1024) -> NDArray[np.bool_]:
    """Return True for each nonempty window with a finite value, reading `rows` at a time."""
    X = windows.X
    is_present = np.empty(len(X), bool)
    for at in range(0, len(X), rows):
        is_present[at : at + rows] = np.isfinite(X[at : at + rows]).any(axis=(1, 2))
    return is_present & (np.asarray(windows.lengths) > 0)


def check_complete(windows: SensorWindows, sensors: Sequence[str]) -> None:
    """Raise an InputError if a window lacks one of these sensors of a model."""
    present = np.zeros((len(windows), len(sensors)), bool)
    for at, name in enumerate(windows.sensors):
        present[:, list(sensors).index(name)] = windows.present[:, at]
    if not present.all():
        lacks = [
            f"{name!r} in {n} of {len(present)} windows"
            for name, n in zip(sensors, (~present).sum(axis=0).tolist())
            if n
        ]
        raise InputError(
            f"windows lack sensors: {', '.join(lacks)}. Fit with missing='expected' to predict"
            " from the other sensors, or leave these windows out."
        )


AnyWindows = Union[WindowSet, SensorWindows]


def window_set_of(X: Any) -> AnyWindows | None:
    """Return X if it is a WindowSet or SensorWindows, which may have labels; otherwise None."""
    return X if isinstance(X, (WindowSet, SensorWindows)) else None


def sets_of(windows: AnyWindows) -> Mapping[str, WindowSet]:
    """Return the windows of each sensor by its name, which is empty for a WindowSet."""
    return windows.sensors if isinstance(windows, SensorWindows) else {UNNAMED: windows}


def are_sensors(X: Any) -> bool:
    """Test whether X contains windows of several sensors."""
    # scipy's sparse matrix "dictionary of keys" is also a mapping, but has a shape.
    return isinstance(X, SensorWindows) or (isinstance(X, Mapping) and not hasattr(X, "shape"))


def as_sensor_windows(
    X: SensorWindows | Mapping[str, Any], y: Any = None, groups: Any = None
) -> SensorWindows:
    """Make SensorWindows from {sensor: array or WindowSet}, with labels and groups if given."""
    if isinstance(X, SensorWindows):
        X = X.sensors
    sets: dict[str, WindowSet] = {}
    for name, windows in X.items():
        if not isinstance(name, str):
            raise ArgumentError(f"sensor {name!r} must have a string as its name.")
        if not isinstance(windows, WindowSet):
            array = np.asarray(windows)
            if array.ndim != 3:
                raise WindowError(
                    f"sensor {name!r} has shape {array.shape}; expected (n_windows, n_timesteps,"
                    " n_channels)."
                )
            windows = WindowSet(array)
        sets[name] = windows
    columns: dict[str, Any] = {}
    for column, value in (("y", y), ("groups", groups)):
        if value is not None:
            columns[column] = np.asarray(value)
    if columns:
        sets = {name: replace(windows, **columns) for name, windows in sets.items()}
    return SensorWindows(sets)


def channels_of_sensors(
    channels: Sequence[str] | None, sensors: Iterable[str]
) -> dict[str, list[str] | None]:
    """Return the chosen channels of each sensor, or None for a sensor if `channels` is None."""
    if channels is None:
        return dict.fromkeys(sensors)
    chosen = {
        name: [channel for channel in channels if channel.startswith(f"{name}.")]
        for name in sensors
    }
    assigned = [channel for names in chosen.values() for channel in names]
    for name in channels:
        if name not in assigned:
            raise ArgumentError(
                f"channels={name!r} belongs to none of the sensors {', '.join(chosen)}. With"
                " native_rates, `channels` selects topics of robot logs; for other recordings, use"
                " `files`." + did_you_mean(name.partition(".")[0], chosen)
            )
    return {name: names for name, names in chosen.items() if names}


def align_sensors(
    sensors: Mapping[str, WindowSet], *, slop_s: float | None = None, missing: str = "error"
) -> SensorWindows:
    """Align windows that were cut separately for each sensor, according to their start times.

    Windows of one recording that begin at most `slop_s` after the earliest of them form one row.
    Rows whose sensors have different labels are left out.

    Parameters
    ----------
    sensors : mapping of str to WindowSet
        The windows of each sensor, with `recording_id`, and with `start_s` on a common clock.
    slop_s : float, optional
        Maximum difference between starts in seconds; by default half of the smallest median step
        between successive windows of a sensor. With a value above the default, several windows of a
        sensor could match the same row.
    missing : {"error", "expected"}, default="error"
        error: leave out rows that lack a sensor. expected: keep them, with NaN for the missing
        windows.

    Returns
    -------
    SensorWindows
        The aligned windows. In the first sensor's provenance, ``provenance["sensors"]`` contains,
        for each sensor, `n_windows`, `n_aligned` and the recordings that it `lacks`.

    Raises
    ------
    WindowError
        If the times of a sensor's windows are unknown, or no row has all sensors.
    """
    rows = common_rows(sensors, slop_s, missing)
    facts = {"sensors": lacks_of(sensors, rows)}
    aligned = take_common_rows(sensors, rows).sensors.items()
    return SensorWindows(
        {name: replace(each, provenance={**each.provenance, **facts}) for name, each in aligned}
    )


def take_common_rows(sensors: Mapping[str, WindowSet], rows: NDArray[np.int64]) -> SensorWindows:
    """Return the windows at `rows`, from `common_rows`; samples in files stay there."""
    shared = _shared_columns(sensors, rows)
    parts = {}
    for (name, windows), sensor_rows in zip(sensors.items(), rows.T):
        lacks = sensor_rows < 0
        X: Any = windows.X
        if isinstance(X, np.ndarray):
            X = X[sensor_rows]
            X[lacks] = np.nan
        else:  # `StoredSamples`
            X = replace(X, rows=np.where(lacks, -1, X.rows[sensor_rows]))
        lengths = np.where(lacks, windows.n_timesteps, np.asarray(windows.lengths)[sensor_rows])
        parts[name] = replace(windows, X=X, lengths=lengths, split=None, **shared)
    return SensorWindows(parts)


def common_rows(
    sensors: Mapping[str, WindowSet], slop_s: float | None, missing: str
) -> NDArray[np.int64]:
    """Return each sensor's window index in each common row (n_rows, n_sensors); -1 if missing.

    `align_sensors` documents the rules.
    """
    check_choice("missing", missing, MISSING)
    if not sensors:
        raise WindowError("there is no sensor; give {name: windows}.")
    for name, windows in sensors.items():
        if windows.start_s is None or windows.recording_id is None:
            raise WindowError(f"sensor {name!r}: the recordings or starts of windows are unknown.")
    for column in ("y", "groups"):
        without = [name for name, windows in sensors.items() if getattr(windows, column) is None]
        if 0 < len(without) < len(sensors):
            raise WindowError(f"sensor {without[0]!r} has no {column}, but others do.")
    starts = [np.asarray(windows.start_s, np.float64) for windows in sensors.values()]
    ids = [np.asarray(windows.recording_id) for windows in sensors.values()]
    if slop_s is None:
        hops = [np.diff(start_s)[names[1:] == names[:-1]] for start_s, names in zip(starts, ids)]
        slop_s = min((float(np.median(hop)) for hop in hops if len(hop)), default=1.0) / 2
    rows = _rows_within(ids, starts, slop_s)
    if missing == "error":
        rows = rows[(rows >= 0).all(axis=1)]
    labels = [windows.y for windows in sensors.values()]
    if len(rows) and labels[0] is not None:
        rows = rows[~_disagree(labels, rows)]
    if not len(rows):
        raise WindowError(
            f"no windows of {' and '.join(sensors)} begin within slop_s={slop_s:g} of each other in"
            " the same recording; are their timestamps on one clock?"
        )
    return rows


def _rows_within(
    ids: list[NDArray[Any]], starts: list[NDArray[np.float64]], slop_s: float
) -> NDArray[np.int64]:
    """Return rows whose windows all begin at most `slop_s` after the earliest window of the row."""
    order: dict[Any, int] = {}
    for names in ids:
        for name in names.tolist():
            order.setdefault(name, len(order))
    windows = sorted(
        (order[name], start, sensor, row)
        for sensor, (names, sensor_starts) in enumerate(zip(ids, starts))
        for row, (name, start) in enumerate(zip(names.tolist(), sensor_starts.tolist()))
    )
    rows: list[list[int]] = []
    recording, first = -1, 0.0
    for number, start, sensor, row in windows:
        is_late = start - first > slop_s + 1e-9
        if number != recording or is_late or rows[-1][sensor] >= 0:
            rows.append([-1] * len(ids))
            recording, first = number, start
        rows[-1][sensor] = row
    return np.array(rows, np.int64).reshape(len(rows), len(ids))


def _disagree(labels: list[Any], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return True for each row in which two sensors have different labels."""
    differ = np.zeros(len(rows), bool)
    for a, b in combinations(range(len(labels)), 2):
        both = (rows[:, a] >= 0) & (rows[:, b] >= 0)
        differ |= both & (labels[a][rows[:, a]] != labels[b][rows[:, b]])
    return differ


def _shared_columns(sensors: Mapping[str, WindowSet], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return the labels, groups, recordings and earliest starts of common rows."""
    first = np.argmax(rows >= 0, axis=1)
    shared: dict[str, Any] = {}
    for column in ("y", "groups", "recording_id", "start_s"):
        values = [getattr(windows, column) for windows in sensors.values()]
        shared[column] = None
        if all(value is not None for value in values):
            parts = [np.asarray(value)[rows[:, at]] for at, value in enumerate(values)]
            whole = parts[0].astype(np.result_type(*parts))
            for at, part in enumerate(parts):
                whole[first == at] = part[first == at]
            if column == "start_s":
                for at, part in enumerate(parts):
                    has_window = rows[:, at] >= 0
                    whole[has_window] = np.minimum(whole[has_window], part[has_window])
            shared[column] = whole
    return shared


def lacks_of(sensors: Mapping[str, WindowSet], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Count the windows and the aligned windows of each sensor; list the recordings it lacks."""
    recordings = {
        name: set(np.asarray(windows.recording_id).tolist()) for name, windows in sensors.items()
    }
    every = set().union(*recordings.values())
    return {
        name: {
            "n_windows": len(windows),
            "n_aligned": int((rows[:, at] >= 0).sum()),
            "lacks": sorted(every - recordings[name]),
        }
        for at, (name, windows) in enumerate(sensors.items())
    }
