"""Augment training windows with changed copies that imitate other runs of the same robot."""

import functools
import numbers
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from sensorseq import _signal
from sensorseq.base.checks import (
    RandomState,
    as_windows,
    check_finite,
    check_integer,
    check_lengths,
    check_random_state,
    check_real,
    valid_steps,
)
from sensorseq.base.text import listed
from sensorseq.errors import ArgumentError, SignalError, check_choice

_STRENGTHS = (
    *("window_shift", "time_warp", "magnitude_warp", "scaling", "jitter", "offset"),
    "rotation_deg",
)
_HOW_TO_NAME_AXES = (
    "name the axes as triples in the order x, y, z, for example"
    " axes=[('acc.x', 'acc.y', 'acc.z'), ('gyro.x', 'gyro.y', 'gyro.z')], or give their numbers"
)

Channel = str | int


@dataclass(frozen=True)
class Augmentation:
    """Changes to copies of a window, and their strengths; by default, copies are identical.

    The changes are applied in the order shift, time warp, mirror image, rotation, magnitude warp,
    scaling, offset and jitter: first the movement, then the mounting of the sensor, and finally the
    errors of the sensor. Names and kinds of changes follow [1]_; `Augmentation.standard` has the
    strengths used in that paper.

    Parameters
    ----------
    jitter : float, default=0
        Gaussian noise that is added to every sample. The standard deviation of the noise is this
        fraction of the channel's standard deviation.
    scaling : float, default=0
        One gain for each channel of a window, drawn from N(1, scaling).
    time_warp : float, default=0
        The speed of time varies: the speeds are ``exp(z)``, with z drawn from N(0, time_warp) at
        the knots and interpolated by a cubic spline between them. Unlike the speeds of [1]_, which
        are drawn from N(1, time_warp), these speeds cannot become negative. The first and the last
        sample keep their positions.
    magnitude_warp : float, default=0
        A smooth gain for each channel, drawn from N(1, magnitude_warp) at the knots and
        interpolated by a cubic spline between them.
    window_shift : float, default=0
        The window starts earlier or later by up to this fraction of its length, from 0 to below 1.
        Shifts are whole numbers of samples, and all shifts are equally likely. Unknown samples
        before or after the window are replaced by its first or last sample.
    n_knots : int, default=4
        Number of knots of the warps inside a window, in addition to the two ends.
    offset : float, default=0
        One constant for each channel of a window, drawn from N(0, offset) and multiplied by the
        channel's standard deviation.
    mirror : sequence of str or int, default=()
        Channels, by name or by number from 0, whose signs flip together with probability 0.5. Names
        need windows with channel names: a WindowSet or a prepared file.
    swap : sequence of pairs of str or int, default=()
        Pairs of channels that are exchanged with probability 0.5, in the same windows in which the
        signs of `mirror` flip. For example, a left-right mirror image of a vehicle exchanges left
        and right sensors and flips lateral acceleration and yaw rate. Channels are exchanged before
        signs flip.
    rotation_deg : float, default=0
        Largest angle in degrees, up to 180, by which the sensor is turned. All triples of `axes` in
        a window are turned by the same rotation, because accelerometer and gyroscope share a
        housing. The angle is uniform in [0, rotation_deg], and the axis is uniform in space.
    axes : sequence of triples of str or int, default=()
        The channels x, y and z of each vector that `rotation_deg` turns; they must share a unit and
        a reference frame. By default, these are the channels whose names end or begin with x, y and
        z and are otherwise the same, such as acc.x, gyro_y or AccZ.

    Raises
    ------
    ArgumentError
        If a strength is negative or not finite, `window_shift` is 1 or more, `rotation_deg` is
        above 180, `n_knots` is not an integer of at least 1, or `mirror`, `swap` or `axes` does not
        name channels or names a channel twice.

    References
    ----------
    .. [1] T. T. Um et al., *Data Augmentation of Wearable Sensor Data for Parkinson's Disease
       Monitoring using Convolutional Neural Networks*, ICMI 2017.
    """

    jitter: float = 0.0
    scaling: float = 0.0
    time_warp: float = 0.0
    magnitude_warp: float = 0.0
    window_shift: float = 0.0
    n_knots: int = 4
    offset: float = 0.0
    mirror: Sequence[Channel] = ()
    swap: Sequence[tuple[Channel, Channel]] = ()
    rotation_deg: float = 0.0
    axes: Sequence[tuple[Channel, Channel, Channel]] = ()

    def __post_init__(self) -> None:
        for name in _STRENGTHS:
            check_real(name, getattr(self, name), 0.0)
        if self.window_shift >= 1:
            raise ArgumentError(
                f"window_shift={self.window_shift!r} would shift the window by its full length or"
                " more; give a fraction below 1."
            )
        check_integer("n_knots", self.n_knots, most=1000)
        if self.rotation_deg > 180:
            raise ArgumentError(f"rotation_deg={self.rotation_deg!r} must be from 0 to 180.")
        object.__setattr__(self, "mirror", _check_channels("mirror", self.mirror))
        for name, n, example in (
            ("swap", 2, "pairs of channels, such as [('wheel_left', 'wheel_right')]"),
            ("axes", 3, "triples of channels, such as [('acc.x', 'acc.y', 'acc.z')]"),
        ):
            object.__setattr__(self, name, _check_tuples(name, getattr(self, name), n, example))

    @classmethod
    def standard(cls) -> "Augmentation":
        """Return the strengths of Um et al.: jitter 0.05, scaling 0.1, both warps 0.2, no shift."""
        return cls(jitter=0.05, scaling=0.1, time_warp=0.2, magnitude_warp=0.2)

    @property
    def is_identity(self) -> bool:
        """True if windows stay unchanged."""
        return not (any(getattr(self, name) for name in _STRENGTHS) or self.mirror or self.swap)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers and lists, for provenance."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["mirror"] = list(self.mirror)
        return {**plain, **{name: list(map(list, plain[name])) for name in ("swap", "axes")}}

    def with_indices(
        self, n_channels: int, channels: Sequence[str] | None = None
    ) -> "Augmentation":
        """Return a copy with channel numbers instead of names; axes not given are found by name.

        Parameters
        ----------
        n_channels : int
            Number of channels of a window.
        channels : sequence of str, optional
            Names of the channels; None if the channels have no names.

        Raises
        ------
        ArgumentError
            If `mirror`, `swap` or `axes` names a missing channel, or if windows are to be rotated
            but their axes are neither named nor found.
        """
        names = None if channels is None else list(channels)

        def number(name: str, channel: Channel) -> int:
            if isinstance(channel, str):
                if names is None:
                    raise ArgumentError(
                        f"augmentation: {name} names the channel {channel!r}, but the windows have"
                        " no channel names; give the channel's number, or pass a WindowSet."
                    )
                check_choice(f"augmentation: channel of {name}", channel, names)
                return names.index(channel)
            if channel >= n_channels:
                raise ArgumentError(
                    f"augmentation: {name} has the channel {channel}, but the windows have the"
                    f" channels 0 to {n_channels - 1}."
                )
            return channel

        mirror = [number("mirror", channel) for channel in self.mirror]
        swap = [(number("swap", left), number("swap", right)) for left, right in self.swap]
        axes: list[Any] = [
            tuple(number("axes", channel) for channel in triple) for triple in self.axes
        ]
        if self.rotation_deg and not axes:
            if names is None:
                raise ArgumentError(
                    "augmentation: rotation_deg finds the channels x, y and z by their names, but"
                    f" the windows have no channel names; {_HOW_TO_NAME_AXES}."
                )
            axes = list(find_axes(names))
        return replace(self, mirror=mirror, swap=swap, axes=axes)


def make_augmentation(fields_by_name: Mapping[str, Any]) -> Augmentation:
    """Return an augmentation with these fields; an error names the nearest known field."""
    for name in fields_by_name:
        check_choice("augmentation", name, [field.name for field in fields(Augmentation)])
    return Augmentation(**fields_by_name)


def augment_windows(
    X: ArrayLike,
    augmentation: Augmentation,
    random_state: RandomState = None,
    lengths: ArrayLike | None = None,
    indices: ArrayLike | None = None,
    *,
    copies: ArrayLike | None = None,
    channel_sd: ArrayLike | None = None,
    n_threads: int = 1,
) -> NDArray[np.floating]:
    """Return windows with random changes; use this function only for copies of training windows.

    The random numbers of a window depend only on the seed, the window's index and copy number, and
    the kind of change. They do not depend on other windows, on the order of the windows, or on
    other kinds of change.

    Parameters
    ----------
    X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
        Copies of training windows; the second shape is for windows of one channel.
    augmentation : Augmentation
        Kinds and strengths of the changes. Channels of `mirror`, `swap` and `axes` are numbers
        here; see `Augmentation.with_indices`.
    random_state : int, Generator, RandomState or None
        The same seed gives the same changes. If a generator is given, one number is drawn from it.
    lengths : array-like of shape (n_windows,), optional
        Number of valid steps of each window; later steps stay unchanged, and may be NaN.
    indices : array-like of shape (n_windows,), int, optional
        Index of each window in the complete set of windows; 0, 1, 2, ... by default.
    copies : array-like of shape (n_windows,), int, optional
        Copy number of each window, which makes copies of one window differ; 0 by default.
    channel_sd : array-like of shape (n_channels,), optional
        Standard deviation that `jitter` and `offset` are relative to, such as the result of
        `channel_sd_of` for the training windows. By default, each window's own standard deviation
        is used.
    n_threads : int, default=1
        Number of threads that process the windows, with no effect on the result.

    Returns
    -------
    ndarray of the shape of `X`
        The changed windows. Types float32 and float16 are kept; other types become float64.
    """
    if not isinstance(augmentation, Augmentation):
        raise ArgumentError(f"augmentation={augmentation!r} is not an Augmentation.")
    original = np.asarray(X)
    windows = as_windows(original)
    n_windows, n_timesteps, n_channels = windows.shape
    augmentation = augmentation.with_indices(n_channels)
    steps = check_lengths(windows, lengths)
    index = _check_counts("indices", indices, np.arange(n_windows))
    copy = _check_counts("copies", copies, np.zeros(n_windows, np.int64))
    sd = None if channel_sd is None else np.asarray(channel_sd, np.float64)
    if sd is not None and (sd.shape != (n_channels,) or not (sd >= 0).all()):
        raise ArgumentError(
            f"channel_sd={channel_sd!r} must have one non-negative number for each of"
            f" {n_channels} channels."
        )
    seed = int(check_random_state(random_state).integers(2**63))
    changed = windows.astype(
        original.dtype if original.dtype.kind == "f" else np.float64
    )  # makes a copy
    if augmentation.is_identity:
        return changed.reshape(original.shape)
    native = changed if changed.dtype in (np.float32, np.float64) else changed.astype(np.float64)
    order, sign = _mirror_image(augmentation, n_channels)
    bad = _signal.augment(
        native,
        np.full(n_windows, n_timesteps) if steps is None else steps,
        index,
        copy,
        seed,
        {name: getattr(augmentation, name) for name in _STRENGTHS},
        _spline(augmentation.n_knots),
        order,
        sign,
        np.array(augmentation.axes, np.int64).reshape(-1, 3),
        sd,
        n_threads,
    )
    if bad >= 0:
        check_finite(windows, steps)
    return native.astype(changed.dtype, copy=False).reshape(original.shape)


def channel_sd_of(X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the standard deviation of each channel over the valid steps of all windows."""
    windows = as_windows(X)
    steps = check_lengths(windows, lengths)
    check_finite(windows, steps)
    n_windows, n_timesteps, n_channels = windows.shape
    mask = np.ones((n_windows, n_timesteps), bool)
    if steps is not None:
        mask = valid_steps(n_timesteps, steps)
    if not mask.any():
        return np.zeros(n_channels)
    return np.array([windows[:, :, c][mask].std(dtype=np.float64) for c in range(n_channels)])


def _mirror_image(
    how: Augmentation, n_channels: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
    """Return the source channel and the sign for each channel of the mirror image.

    Both results are None if no channel is flipped or exchanged.
    """
    if not (how.mirror or how.swap):
        return None, None
    order, sign = np.arange(n_channels), np.ones(n_channels)
    mirror: Any = how.mirror
    pairs: Any = how.swap
    for first, second in pairs:
        order[[first, second]] = second, first
    sign[list(mirror)] = -1.0
    return order, sign


@functools.lru_cache(maxsize=8)
def _spline(n_knots: int) -> NDArray[np.float64]:
    """Return coefficients (4, K - 1, K) of K cubic splines, one for each knot.

    A spline is 1 at its own knot and 0 at all other knots.
    """
    n_knots += 2
    coefficients: NDArray[np.float64] = scipy.interpolate.CubicSpline(
        np.linspace(0, 1, n_knots), np.eye(n_knots)
    ).c
    return np.ascontiguousarray(coefficients)


def _check_channels(name: str, channels: Any) -> tuple[Channel, ...]:
    """Return channels as names or numbers; raise an error if a channel is repeated."""
    checked = []
    for channel in channels if isinstance(channels, list | tuple) else (None,):
        is_number = isinstance(channel, numbers.Integral) and not isinstance(channel, bool)
        if not (isinstance(channel, str) or (is_number and channel >= 0)):
            raise ArgumentError(
                f"{name}={channels!r} must contain names of channels, or their numbers from 0."
            )
        checked.append(channel if isinstance(channel, str) else int(channel))
    twice = next((channel for channel in checked if checked.count(channel) > 1), None)
    if twice is not None:
        raise ArgumentError(f"{name}={channels!r} has the channel {twice!r} more than once.")
    return tuple(checked)


def _check_tuples(name: str, tuples: Any, n: int, example: str) -> tuple[tuple[Channel, ...], ...]:
    """Return tuples of n channels, as names or numbers; raise an error if a channel is repeated."""
    are_tuples = isinstance(tuples, list | tuple) and all(
        isinstance(group, list | tuple) and len(group) == n for group in tuples
    )
    if not are_tuples:
        raise ArgumentError(f"{name}={tuples!r} must be a list of {example}.")
    named = _check_channels(name, [channel for group in tuples for channel in group])
    return tuple(named[at : at + n] for at in range(0, len(named), n))


def _check_counts(
    name: str, values: ArrayLike | None, default: NDArray[np.int64]
) -> NDArray[np.int64]:
    if values is None:
        return default
    array = np.asarray(values)
    if array.shape != default.shape or (array.dtype.kind not in "iu" and array.size):
        raise SignalError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; {len(default)} windows need"
            f" integers of shape {default.shape}."
        )
    negative = np.flatnonzero(array < 0)
    if negative.size:
        row = int(negative[0])
        raise SignalError(f"{name}[{row}] is {array[row]}; expected 0 or more.")
    return array.astype(np.int64)


def find_axes(channels: Sequence[str]) -> list[tuple[int, int, int]]:
    """Find the channels x, y and z of each sensor by their names; return their numbers.

    Three names belong together if they end, or begin, with x, y and z and are otherwise the same;
    case is ignored. If there is a fourth name with w, the channels are a quaternion, not a vector,
    and are left out.

    Raises
    ------
    ArgumentError
        If there is no triple, if two channels could be the same axis, or if one channel could
        belong to two triples.
    """
    named: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, name in enumerate(channels):
        low = name.lower()
        ways = [((low[:-1], ""), low[-1:]), (("", low[1:]), low[:1])]
        for common, axis in dict.fromkeys(ways):  # both entries are equal for a one-letter name
            named[common][axis].append(at)
    of_axis = [axes for axes in named.values() if axes.keys() >= set("xyz") and "w" not in axes]
    seen: set[int] = set()
    triples = []
    for axes in of_axis:
        x, y, z = (axes[axis] for axis in "xyz")
        claimed = {*x, *y, *z}
        if len(claimed) > 3 or claimed & seen:
            doubtful = [channels[at] for at in sorted(claimed)]
            raise ArgumentError(
                f"augmentation: rotation_deg finds no clear x, y and z among {listed(doubtful)};"
                f" {_HOW_TO_NAME_AXES}."
            )
        seen |= claimed
        triples.append((x[0], y[0], z[0]))
    if not triples:
        raise ArgumentError(
            "augmentation: rotation_deg needs triples of channels, but among"
            f" {listed(list(channels))}, no three names differ only in x, y and z;"
            f" {_HOW_TO_NAME_AXES}."
        )
    return sorted(triples)
