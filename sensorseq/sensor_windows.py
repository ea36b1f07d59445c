"""SensorWindows: the windows of several sensors, each at its own rate, aligned in time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, WindowError, check_choice, did_you_mean
from sensorseq.windows import WindowSet

__all__ = ["SensorWindows", "align_sensors"]

MISSING = ("error", "expected")
_SHARED = ("y", "groups", "recording_id", "split")


@dataclass(frozen=True, eq=False, repr=False)
class SensorWindows:
    """Windows of several sensors; row i of each sensor is the same stretch of time.

    Parameters
    ----------
    sensors : mapping of str to WindowSet
        The windows of each sensor, at its own rate, all with the same number of rows and the same
        labels, groups, recordings and split. In a row without a number, the sensor has no data.

    Raises
    ------
    WindowError
        If there is no sensor, or the sensors differ in what they must share.
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
                    f"sensor {name!r} has {len(windows)} windows, {first!r} has {len(whole)}; row i"
                    " of each must be the same stretch of time. Fill what a sensor lacks with NaN,"
                    " or use align_sensors."
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
        if isinstance(key, tuple) and key[1:] == (Ellipsis,):  # as scikit-learn asks for rows
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
        """Windows and sensors, for scikit-learn."""
        return len(self), len(self.sensors)

    @property
    def y(self) -> NDArray[Any] | None:
        """The label of each window, as of a WindowSet; the same of `groups` and so on."""
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
        """Start of each window in seconds: that of the sensor whose window begins first."""
        return self._first.start_s

    @property
    def split(self) -> NDArray[Any] | None:
        """The part of each window, or None."""
        return self._first.split

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the windows of the first sensor were made."""
        return self._first.provenance

    @property
    def window_s(self) -> float | None:
        """Length of the windows in seconds, if a rate is known."""
        return next((s for one in self.sensors.values() if (s := one.window_s) is not None), None)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which sensors each window has, (n_windows, n_sensors)."""
        return np.stack([have_numbers(windows) for windows in self.sensors.values()], axis=1)

    def by_sensor(self) -> Iterator[tuple[str, WindowSet, NDArray[np.int64]]]:
        """Yield each sensor that has windows, those windows, and their rows among all."""
        for at, (name, windows) in enumerate(self.sensors.items()):
            rows = np.flatnonzero(self.present[:, at])
            if len(rows):
                yield name, windows if len(rows) == len(self) else windows.take(rows), rows

    def take(self, indices: ArrayLike) -> "SensorWindows":
        """Return the windows at `indices` (integers or a mask), in that order.

        Parameters
        ----------
        indices : array-like of int or bool
            Positions of the windows.
        """
        return SensorWindows({name: one.take(indices) for name, one in self.sensors.items()})

    def part(self, name: str) -> "SensorWindows":
        """Return the windows of one part of the split: train, validation or test.

        Parameters
        ----------
        name : {"train", "validation", "test"}
        """
        return SensorWindows({own: one.part(name) for own, one in self.sensors.items()})

    def with_split(self, split: NDArray[Any] | None) -> "SensorWindows":
        """Return the windows with another split.

        Parameters
        ----------
        split : ndarray of shape (n_windows,), or None
            ``"train"``, ``"validation"`` or ``"test"`` for each window.
        """
        return SensorWindows({name: one.with_split(split) for name, one in self.sensors.items()})


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or bool(np.array_equal(one, other))


def have_numbers(windows: WindowSet, rows: int = 1024) -> NDArray[np.bool_]:
    """Return which windows have a number at all; they are checked in blocks of `rows`."""
    X = windows.X
    found = np.empty(len(X), bool)
    for at in range(0, len(X), rows):
        found[at : at + rows] = np.isfinite(X[at : at + rows]).any(axis=(1, 2))
    return found & (np.asarray(windows.lengths) > 0)


def are_sensors(X: Any) -> bool:
    """Test whether X holds windows of several sensors."""
    # scipy's dictionary of keys is a mapping, too, but has a shape
    return isinstance(X, SensorWindows) or (isinstance(X, Mapping) and not hasattr(X, "shape"))


def as_sensor_windows(
    X: SensorWindows | Mapping[str, Any], y: Any = None, groups: Any = None
) -> SensorWindows:
    """Return {sensor: array or WindowSet} as SensorWindows, with labels and groups if given."""
    if isinstance(X, SensorWindows):
        X = X.sensors
    sets: dict[str, WindowSet] = {}
    for name, given in X.items():
        if not isinstance(name, str):
            raise ArgumentError(f"sensor {name!r} is not named by a string.")
        one = given
        if not isinstance(one, WindowSet):
            array = np.asarray(given)
            if array.ndim != 3:
                raise WindowError(
                    f"sensor {name!r} has shape {array.shape}; expected (n_windows, n_timesteps,"
                    " n_channels)."
                )
            one = WindowSet(array)
        sets[name] = one
    known: dict[str, Any] = {}
    for column, value in (("y", y), ("groups", groups)):
        if value is not None:
            known[column] = np.asarray(value)
    if known:
        sets = {name: replace(one, **known) for name, one in sets.items()}
    return SensorWindows(sets)


def channels_of_sensors(
    channels: Sequence[str] | None, sensors: Iterable[str]
) -> dict[str, list[str] | None]:
    """Return the channels of each sensor whose channels begin with its name; None for all."""
    if channels is None:
        return dict.fromkeys(sensors)
    own = {name: [one for one in channels if one.startswith(f"{name}.")] for name in sensors}
    known = [one for names in own.values() for one in names]
    for name in channels:
        if name not in known:
            raise ArgumentError(
                f"channels={name!r} belongs to none of the sensors {', '.join(own)}. With"
                " native_rates, channels are of topics of robot logs; of other recordings choose"
                " `files`." + did_you_mean(name.partition(".")[0], own)
            )
    return {name: names for name, names in own.items() if names}


def align_sensors(
    sensors: Mapping[str, WindowSet], *, slop_s: float | None = None, missing: str = "error"
) -> SensorWindows:
    """Put the windows of sensors that were cut one by one into common rows, by their start.

    Windows of one recording that begin at most `slop_s` after the earliest of them are one row.
    Rows that sensors label differently are left out.

    Parameters
    ----------
    sensors : mapping of str to WindowSet
        With `recording_id` and `start_s` on a common clock.
    slop_s : float, optional
        How far apart starts may be, in seconds; by default half of the usual time between the
        windows of the sensor that has the most. More would make it unclear which belong together.
    missing : {"error", "expected"}, default="error"
        error: rows that some sensor lacks are left out. expected: they are kept, and hold NaN
        where there is nothing.

    Returns
    -------
    SensorWindows
        ``provenance["sensors"]`` of the first has, for each sensor, `n_windows`, `n_aligned` and
        the `recordings` that it lacks.

    Raises
    ------
    WindowError
        If a sensor has no times, or no row has all sensors.
    """
    rows = common_rows(sensors, slop_s, missing)
    shared = shared_columns(sensors, rows)
    facts = {"sensors": lacks_of(sensors, rows)}
    parts = {}
    for at, (name, windows) in enumerate(sensors.items()):
        own = rows[:, at]
        X = windows.X[own]
        X[own < 0] = np.nan
        shared |= {"lengths": lengths_of(windows, own), "split": None}
        parts[name] = replace(windows, X=X, provenance={**windows.provenance, **facts}, **shared)
    return SensorWindows(parts)


class _Columns(Protocol):
    """Facts about each window, as a WindowSet or a prepared file has them."""

    @property
    def n_timesteps(self) -> int: ...

    @property
    def lengths(self) -> Any: ...

    @property
    def y(self) -> Any: ...

    @property
    def groups(self) -> Any: ...

    @property
    def recording_id(self) -> Any: ...

    @property
    def start_s(self) -> Any: ...


def common_rows(
    sensors: Mapping[str, _Columns], slop_s: float | None, missing: str
) -> NDArray[np.int64]:
    """Return the window of each sensor in each common row, (n_rows, n_sensors); -1 for none.

    For the rules see `align_sensors`.
    """
    check_choice("missing", missing, MISSING)
    if not sensors:
        raise WindowError("there is no sensor; give {name: windows}.")
    for name, one in sensors.items():
        if one.start_s is None or one.recording_id is None:
            raise WindowError(f"sensor {name!r}: it is not known when each window begins.")
    for column in ("y", "groups"):
        without = [name for name, one in sensors.items() if getattr(one, column) is None]
        if 0 < len(without) < len(sensors):
            raise WindowError(f"sensor {without[0]!r} has no {column}, but others do.")
    starts = [np.asarray(one.start_s, np.float64) for one in sensors.values()]
    ids = [np.asarray(one.recording_id) for one in sensors.values()]
    if slop_s is None:
        hops = [np.diff(start)[own[1:] == own[:-1]] for start, own in zip(starts, ids)]
        slop_s = min((float(np.median(hop)) for hop in hops if len(hop)), default=1.0) / 2
    rows = _within(ids, starts, slop_s)
    if missing == "error":
        rows = rows[(rows >= 0).all(axis=1)]
    labels = [one.y for one in sensors.values()]
    if len(rows) and labels[0] is not None:
        rows = rows[~_disagree(labels, rows)]
    if not len(rows):
        raise WindowError(
            f"no windows of {' and '.join(sensors)} begin within slop_s={slop_s:g} of each other in"
            " the same recording; are their time stamps on one clock?"
        )
    return rows


def _within(
    ids: list[NDArray[Any]], starts: list[NDArray[np.float64]], slop_s: float
) -> NDArray[np.int64]:
    """Return rows of windows that begin within the slop of the earliest of them."""
    order: dict[Any, int] = {}
    for own in ids:
        for name in own.tolist():
            order.setdefault(name, len(order))
    found = sorted(
        (order[name], start, sensor, row)
        for sensor, (own, start_of) in enumerate(zip(ids, starts))
        for row, (name, start) in enumerate(zip(own.tolist(), start_of.tolist()))
    )
    rows: list[list[int]] = []
    recording, first = -1, 0.0
    for number, start, sensor, row in found:
        is_late = start - first > slop_s + 1e-9
        if number != recording or is_late or rows[-1][sensor] >= 0:
            rows.append([-1] * len(ids))
            recording, first = number, start
        rows[-1][sensor] = row
    return np.array(rows, np.int64).reshape(len(rows), len(ids))


def _disagree(labels: list[Any], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the rows in which two sensors have different labels."""
    differ = np.zeros(len(rows), bool)
    for one, other in combinations(range(len(labels)), 2):
        both = (rows[:, one] >= 0) & (rows[:, other] >= 0)
        differ |= both & (labels[one][rows[:, one]] != labels[other][rows[:, other]])
    return differ


def shared_columns(sensors: Mapping[str, _Columns], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the sensors share in common rows, and the earliest start."""
    first = np.argmax(rows >= 0, axis=1)
    shared: dict[str, Any] = {}
    for column in ("y", "groups", "recording_id", "start_s"):
        values = [getattr(one, column) for one in sensors.values()]
        shared[column] = None
        if all(value is not None for value in values):
            parts = [np.asarray(value)[rows[:, at]] for at, value in enumerate(values)]
            whole = parts[0].astype(np.result_type(*parts))
            for at, part in enumerate(parts):
                whole[first == at] = part[first == at]
            if column == "start_s":
                for at, part in enumerate(parts):
                    there = rows[:, at] >= 0
                    whole[there] = np.minimum(whole[there], part[there])
            shared[column] = whole
    return shared


def lengths_of(windows: _Columns, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a sensor's valid steps in common rows; full where it has no window."""
    lengths = np.asarray(windows.lengths)[own]
    return np.where(own >= 0, lengths, windows.n_timesteps)


def lacks_of(sensors: Mapping[str, _Columns], rows: NDArray[np.int64]) -> dict[str, Any]:
    """Return, for each sensor, its windows, those in common rows, and recordings without it."""
    every = set().union(*(np.asarray(one.recording_id).tolist() for one in sensors.values()))
    return {
        name: {
            "n_windows": len(one.recording_id),
            "n_aligned": int((rows[:, at] >= 0).sum()),
            "lacks": sorted(every - set(np.asarray(one.recording_id).tolist())),
        }
        for at, (name, one) in enumerate(sensors.items())
    }
