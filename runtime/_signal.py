"""The preprocessing loops of csrc/signal, called with ctypes, in place of `sensorseq._signal`.

This module has the functions that prediction uses, with the signatures of `sensorseq/_signal.pyi`.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq_runtime.base import core
from sensorseq_runtime.errors import ArgumentError, SignalError

_VOID, _INT, _INT32, _TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_char_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "polyphase_make": (_INT32, (_VOID, _INT, _INT, _INT, _INT, _TEXT, _VOID, _VOID)),
    "table_make": (_INT32, (_VOID, _INT, _INT, ctypes.c_double, _INT, _TEXT, _VOID)),
    "moving_make": (_INT32, (_TEXT, _INT, _INT, _INT, _VOID)),
    "sections_make": (_INT32, (_VOID, _INT, _INT, _VOID)),
    "filter_free": (None, (_VOID,)),
    "filter_rows": (_INT32, (_VOID, _INT, _INT32, _VOID)),
    "filter_push": (_INT32, (_VOID, _INT32, _VOID, _INT, _INT32, _VOID)),
    "filter_reset": (_INT32, (_VOID,)),
    "filter_latency": (ctypes.c_double, (_VOID,)),
    "filter_isa": (_TEXT, (_VOID,)),
    "map_windows": (_INT32, (_INT32, _INT32, *[_INT] * 4, *[_VOID] * 5, _INT32, *[_VOID] * 3)),
    "check_convolutions": (_INT32, (_VOID,)),
    "share_above_biases": (_INT32, (_VOID, _VOID, _VOID, _INT, _INT, _INT, _VOID, _VOID)),
    "check_competition": (_INT32, (_VOID,)),
    "share_wins": (_INT32, (_VOID, _VOID, _VOID, _INT, _INT, _INT, _VOID, _VOID)),
}
_REALS = (np.dtype(np.float32), np.dtype(np.float64))


@functools.cache
def _library() -> Any:
    """Load the library on the first call, so that a command can report a failure to load it."""
    library = core.library()
    for name, (result, arguments) in _FUNCTIONS.items():
        function = library[f"sensorseq_{name}"]
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


def _dense(values: Any, dtype: Any) -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype)


def _require(is_met: bool, requirement: str) -> None:
    if not is_met:
        raise ValueError(requirement)


class _Filter:
    """A filter of the C library; only one thread at a time can use the filter."""

    def __init__(self, name: str, *arguments: Any, n_channels: int) -> None:
        handle = _VOID()
        core.check(getattr(_library(), f"{name}_make")(*arguments, ctypes.byref(handle)))
        self._handle = core.Handle(handle, _library().filter_free)
        self._lock = threading.Lock()
        self.n_channels = n_channels

    def _take(self, x: NDArray[Any], *, is_last: bool = False) -> NDArray[Any]:
        """Return the output for these samples and, if `is_last`, the remaining output."""
        rows = _INT()
        with self._lock:
            pointer, n_samples = self._handle.pointer, len(x)
            core.check(_library().filter_rows(pointer, n_samples, is_last, ctypes.byref(rows)))
            y = np.empty((rows.value, self.n_channels), x.dtype)
            arguments = (x.itemsize, core.address(x), n_samples, is_last, core.address(y))
            core.check(_library().filter_push(pointer, *arguments))
        return y


class _Resampling(_Filter):
    _dtype = _REALS[1]  # dtype of the last chunk

    @property
    def latency_samples(self) -> float:
        return float(_library().filter_latency(self._handle.pointer))

    @property
    def isa(self) -> str:
        return str(_library().filter_isa(self._handle.pointer).decode())

    def push(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._take(self._checked(x))

    def push_last(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._take(self._checked(x), is_last=True)

    def flush(self) -> NDArray[Any]:
        return self._take(np.empty((0, self.n_channels), self._dtype), is_last=True)

    def reset(self) -> None:
        with self._lock:
            core.check(_library().filter_reset(self._handle.pointer))

    def _checked(self, x: NDArray[Any]) -> NDArray[Any]:
        if x.ndim != 2 or x.shape[1] != self.n_channels:
            raise SignalError(f"x has shape {x.shape}; expected (n, {self.n_channels}).")
        _check_real(x)
        self._dtype = x.dtype
        return np.ascontiguousarray(x)


def _check_real(x: NDArray[Any]) -> None:
    if x.dtype not in _REALS:
        raise SignalError(f"x has dtype {x.dtype}; expected float32 or float64.")


def _taps(values: Any) -> NDArray[Any]:
    taps = _dense(values, np.float64)
    if taps.ndim != 1 or not taps.size:
        raise ArgumentError(
            f"taps have {taps.ndim} dimension(s) and {taps.size} entries; expected (n_taps,), one"
            " or more."
        )
    return taps


class PolyphaseFilter(_Resampling):
    def __init__(
        self,
        taps: Any,
        up: int,
        down: int,
        n_channels: int,
        edge: str = "mirror",
        delay: int | None = None,
    ) -> None:
        dense, at = _taps(taps), None if delay is None else ctypes.byref(_INT(delay))
        rates = (up, down, n_channels, edge.encode(), at)
        where = core.address(dense)
        super().__init__("polyphase", where, dense.size, *rates, n_channels=n_channels)


class TableFilter(_Resampling):
    def __init__(
        self, taps: Any, n_phases: int, ratio: float, n_channels: int, edge: str = "mirror"
    ) -> None:
        dense = _taps(taps)
        rates = (n_phases, ratio, n_channels, edge.encode())
        super().__init__("table", core.address(dense), dense.size, *rates, n_channels=n_channels)


class MovingWindow(_Filter):
    def __init__(
        self, statistic: str, window_samples: int, n_channels: int, ahead_samples: int = 0
    ) -> None:
        sizes = (window_samples, n_channels, ahead_samples)
        super().__init__("moving", statistic.encode(), *sizes, n_channels=n_channels)

    def push(self, samples: Any) -> NDArray[Any]:
        return self._take(_samples(samples, self.n_channels))

    def flush(self) -> NDArray[Any]:
        return self._take(np.empty((0, self.n_channels)), is_last=True)


class SectionFilter(_Filter):
    def __init__(self, sections: Any, n_channels: int) -> None:
        dense = _dense(sections, np.float64)
        n = len(dense) if dense.ndim == 2 and dense.shape[1] == 6 else 0
        super().__init__("sections", core.address(dense), n, n_channels, n_channels=n_channels)

    def push(self, samples: Any) -> NDArray[Any]:
        return self._take(_samples(samples, self.n_channels))


def _samples(samples: Any, n_channels: int) -> NDArray[Any]:
    x = _dense(samples, np.float64)
    _require(
        x.ndim == 2 and x.shape[1] == n_channels,
        f"samples must have the shape (n_samples, {n_channels}).",
    )
    return x


def all_finite(x: NDArray[Any]) -> bool:
    _check_real(x)
    return bool(np.isfinite(x).all())


def _lengths(lengths: Any, n_windows: int) -> NDArray[np.int64] | None:
    if lengths is None:
        return None
    steps = _dense(lengths, np.int64)
    _require(steps.shape == (n_windows,), "lengths must have one entry per window")
    return steps


def _scales(center: Any, scale: Any, n_channels: int) -> tuple[Any, Any]:
    _require((center is None) == (scale is None), "center and scale must be given together")
    if center is None:
        return None, None
    center, scale = _dense(center, np.float64), _dense(scale, np.float64)
    for name, values in (("center", center), ("scale", scale)):
        _require(values.shape == (n_channels,), f"{name} must have one value per channel")
    return center, scale


def _map(
    values: NDArray[Any],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64] | None,
    by: tuple[Any, Any],
    inverse: bool,
    out: NDArray[Any],
) -> tuple[int, int]:
    not_finite, overflown = _INT(), _INT()
    arrays = (core.address(array) for array in (values, starts, lengths, *by))
    sizes = (values.itemsize, out.itemsize, len(values), *out.shape)
    positions = (ctypes.byref(not_finite), ctypes.byref(overflown))
    core.check(_library().map_windows(*sizes, *arrays, inverse, core.address(out), *positions))
    return not_finite.value, overflown.value


def gather_windows(
    values: Any, starts: Any, lengths: Any, center: Any, scale: Any, out: NDArray[np.float32]
) -> tuple[int, int]:
    x = np.asarray(values)
    samples = np.ascontiguousarray(x, np.float32 if x.dtype == np.float32 else np.float64)
    begin = _dense(starts, np.int64)
    _require(
        samples.ndim == 2 and begin.ndim == 1,
        "values must have two dimensions, and starts one dimension",
    )
    is_dense = out.ndim == 3 and out.flags.c_contiguous and out.dtype == np.float32
    _require(is_dense, "out must be a contiguous float32 array of three dimensions")
    n, c = len(begin), samples.shape[1]
    _require(
        (out.shape[0], out.shape[2]) == (n, c), "out must have the shape (n_windows, samples, C)"
    )
    by = _scales(center, scale, c)
    return _map(samples, begin, _lengths(lengths, n), by, False, out)


def scale_windows(
    x: NDArray[Any], lengths: Any, center: Any, scale: Any, inverse: bool, out: NDArray[Any]
) -> tuple[int, int]:
    _require(x.ndim == 3 and out.ndim == 3, "x and out must have three dimensions")
    _require(x.shape == out.shape, "out must have the shape of x")
    by = _scales(center, scale, x.shape[2])
    _require(x.dtype in _REALS, "x must be float32 or float64")
    is_dense = out.flags.c_contiguous and out.dtype in _REALS
    _require(is_dense, "out must be a contiguous array of float32 or float64")
    n, t, c = x.shape
    values = np.ascontiguousarray(x).reshape(n * t, c)
    return _map(values, np.arange(n) * t, _lengths(lengths, n), by, inverse, out)


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, _INT) for name in ("n_dilations", "n_channels", "n_indices", "n_biases")),
        *((name, _VOID) for name in ("dilations", "per_dilation", "counts", "indices", "biases")),
    ]


def _plan(n_channels: int, *parts: Any) -> tuple[_Plan, list[NDArray[Any]]]:
    """Return the plan of random convolutions, and the arrays to which it points."""
    arrays = [_dense(part, np.int32) for part in parts[:4]] + [_dense(parts[4], np.float32)]
    dilations, per_dilation, counts, indices, biases = arrays
    _require(all(array.ndim == 1 for array in arrays), "an array has more than one dimension")
    _require(
        len(per_dilation) == len(dilations),
        "features_per_dilation must have one entry per dilation",
    )
    combined = len(counts) == 84 * len(dilations)
    _require(combined, "channel_counts must have 84 entries per dilation")
    sizes = (len(dilations), n_channels, len(indices), len(biases))
    return _Plan(*sizes, *map(core.address, arrays)), arrays


def check_convolutions(
    dilations: Any,
    features_per_dilation: Any,
    channel_counts: Any,
    channel_indices: Any,
    biases: Any,
    n_channels: int,
) -> None:
    parts = (dilations, features_per_dilation, channel_counts, channel_indices, biases)
    plan, _arrays = _plan(n_channels, *parts)
    core.check(_library().check_convolutions(ctypes.byref(plan)))


def share_above_biases(
    x: Any,
    lengths: Any,
    dilations: Any,
    features_per_dilation: Any,
    channel_counts: Any,
    channel_indices: Any,
    biases: Any,
    n_threads: int = 1,
) -> tuple[NDArray[np.float32], int]:
    windows, steps = _windows(x, lengths)
    parts = (dilations, features_per_dilation, channel_counts, channel_indices, biases)
    plan, arrays = _plan(windows.shape[2], *parts)
    describe = _library().share_above_biases
    return _described(describe, plan, windows, steps, n_threads, len(arrays[4]))


class _Competition(ctypes.Structure):
    _fields_ = [
        *((name, _INT) for name in ("n_rounds", "n_channels", "n_indices")),
        *((name, _VOID) for name in ("dilations", "differences", "kernels", "counts", "indices")),
    ]


def _competition(n_channels: int, *parts: Any) -> tuple[_Competition, list[NDArray[Any]]]:
    """Return the plan of competing kernels, and the arrays to which it points."""
    arrays = [_dense(part, np.int32) for part in parts]
    dilations, differences, kernels, counts, indices = arrays
    _require(all(array.ndim == 1 for array in arrays), "an array has more than one dimension")
    n_rounds = len(dilations)
    _require(len(differences) == n_rounds, "is_difference must have one entry per dilation")
    _require(len(kernels) == 84 * n_rounds, "kernels must have 84 entries per round")
    _require(len(counts) == 12 * n_rounds, "channel_counts must have 12 entries per round")
    return _Competition(n_rounds, n_channels, len(indices), *map(core.address, arrays)), arrays


def check_competition(
    dilations: Any,
    is_difference: Any,
    kernels: Any,
    channel_counts: Any,
    channel_indices: Any,
    n_channels: int,
) -> None:
    parts = (dilations, is_difference, kernels, channel_counts, channel_indices)
    plan, _arrays = _competition(n_channels, *parts)
    core.check(_library().check_competition(ctypes.byref(plan)))


def share_wins(
    x: Any,
    lengths: Any,
    dilations: Any,
    is_difference: Any,
    kernels: Any,
    channel_counts: Any,
    channel_indices: Any,
    n_threads: int = 1,
) -> tuple[NDArray[np.float32], int]:
    windows, steps = _windows(x, lengths)
    parts = (dilations, is_difference, kernels, channel_counts, channel_indices)
    plan, arrays = _competition(windows.shape[2], *parts)
    return _described(_library().share_wins, plan, windows, steps, n_threads, 2 * len(arrays[2]))


def _windows(x: Any, lengths: Any) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    windows = _dense(x, np.float32)
    _require(windows.ndim == 3, "x must have three dimensions")
    n, t, c = windows.shape
    _require(1 <= t <= 2**24, "windows must have 1 to 2**24 steps")
    _require(c >= 1, "x has no channels")
    steps = _lengths(lengths, n)
    are_valid = steps is None or bool(((steps >= 0) & (steps <= t)).all())
    _require(are_valid, "each length must be from 0 to T")
    return windows, steps


def _described(
    function: Any,
    plan: ctypes.Structure,
    windows: NDArray[np.float32],
    steps: NDArray[np.int64] | None,
    n_threads: int,
    n_features: int,
) -> tuple[NDArray[np.float32], int]:
    out, bad = np.empty((len(windows), n_features), np.float32), _INT()
    where = (ctypes.byref(plan), core.address(windows), core.address(steps))
    sizes = (*windows.shape[:2], n_threads, core.address(out), ctypes.byref(bad))
    core.check(function(*where, *sizes))
    return out, bad.value
