"""Checks that the classes of features share."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sensorseq.checks import as_windows, raise_not_finite, valid_steps
from sensorseq.errors import SignalError

_MOST_STEPS = 2**24  # the native loop's own limit


def check_not_empty(windows: NDArray[np.floating]) -> None:
    """Raise an error unless windows have steps and channels."""
    if not windows.shape[1] or not windows.shape[2]:
        raise SignalError(f"X has shape {windows.shape}: no timesteps or no channels.")


def as_float32_windows(X: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
    """Return X as dense float32 windows, and as it was given."""
    given = as_windows(X)
    check_not_empty(given)
    if given.shape[1] > _MOST_STEPS:
        raise SignalError(f"X has windows of {given.shape[1]} steps; at most 2**24 are supported.")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(given, np.float32), given


def check_channels(windows: NDArray[np.floating], n_channels: int) -> None:
    """Raise an error unless windows have as many channels as those of fit."""
    if windows.shape[2] != n_channels:
        raise SignalError(
            f"X has {windows.shape[2]} channels, but the features were fitted on {n_channels}."
        )


def raise_not_finite_float32(
    windows: NDArray[np.float32], given: NDArray[np.floating], position: int
) -> NoReturn:
    """Raise an error that names the value, which may have become infinite in float32 only."""
    row, step, channel = (int(i) for i in np.unravel_index(position, windows.shape))
    if np.isfinite(given[row, step, channel]):
        raise SignalError(
            f"X is {given[row, step, channel]:g} in window {row}, step {step}, channel {channel},"
            " which is outside the range of float32. Scale the channels first."
        )
    raise_not_finite(windows, position)


def check_finite_float32(
    windows: NDArray[np.float32],
    given: NDArray[np.floating],
    lengths: NDArray[np.int64] | None,
) -> None:
    """Raise an error that names the first valid value that is not finite, if there is one."""
    finite = np.isfinite(windows)
    if lengths is not None:
        finite[~valid_steps(windows.shape[1], lengths)] = True
    if not finite.all():
        raise_not_finite_float32(windows, given, int(finite.argmin()))


def check_state(
    state: Mapping[str, Any], kind: str, needed: Sequence[str], dtypes: Mapping[str, DTypeLike]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the settings and arrays of a state, if it is of this kind and complete."""
    settings, arrays = state.get("settings"), state.get("arrays")
    if not isinstance(settings, Mapping) or not isinstance(arrays, Mapping):
        raise SignalError("the stored state of features lacks settings or arrays.")
    if settings.get("kind") != kind:
        raise SignalError(f"the stored state is of kind {settings.get('kind')!r}, not {kind!r}.")
    absent = [name for name in needed if name not in settings]
    if absent:
        raise SignalError(f"the stored state of features lacks the setting {absent[0]!r}.")
    missing = [name for name in dtypes if name not in arrays]
    if missing:
        raise SignalError(f"the stored state of features lacks the array {missing[0]!r}.")
    checked = {}
    for name, dtype in dtypes.items():
        array = np.asarray(arrays[name])
        if array.dtype != dtype:
            raise SignalError(
                f"the array {name!r} of the stored state is {array.dtype}; expected"
                f" {np.dtype(dtype)}."
            )
        checked[name] = array
    return dict(settings), checked
