"""Checks of arguments that several steps share; each returns the checked value."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SignalError

RandomState = int | np.integer | np.random.Generator | np.random.RandomState | None


def check_random_state(random_state: RandomState) -> np.random.Generator:
    """Return a numpy Generator for scikit-learn's `random_state` (None, seed, or a generator)."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None or (isinstance(random_state, int | np.integer) and random_state >= 0):
        return np.random.default_rng(random_state)
    raise ArgumentError(
        f"random_state={random_state!r} is not None, an integer of 0 or more, or a numpy generator."
    )


def check_positive(argument: str, value: float) -> float:
    """Return `value` as a float when it is above zero and finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (np.isfinite(number) and number > 0):
        raise ArgumentError(f"{argument}={value!r} is not a number above zero.")
    return number


def check_rate(argument: str, rate_hz: float) -> float:
    """Return the rate as a float when it is positive and finite."""
    try:
        return check_positive(argument, rate_hz)
    except ArgumentError as error:
        raise SignalError(f"{argument}={rate_hz!r} is not a positive rate in Hz.") from error


def check_signal(signal: ArrayLike) -> NDArray[np.floating]:
    """Return a float array of shape (n_samples, n_channels); NaN is not checked."""
    values = np.asarray(signal)
    if values.ndim != 2:
        raise SignalError(
            f"signal has shape {values.shape}; expected (n_samples, n_channels)."
            " For a single channel use signal.reshape(-1, 1)."
        )
    if values.dtype.kind not in "fiub":
        raise SignalError(f"signal has dtype {values.dtype}; it must hold real numbers.")
    if not values.shape[1]:
        raise SignalError("signal has no channels.")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
