"""Checks of a step's fields, and of windows at a rate; each returns the checked value."""

import numpy as np

from sensorseq.errors import ArgumentError, check_choice
from sensorseq.preprocessing._checks import check_positive

PHASES = ("zero", "causal")
MAX_SAMPLES = 10**8  # of a window: more suggests that it is not in seconds


def set_fields(step: object, **values: object) -> None:
    """Set fields of a frozen dataclass during its creation."""
    for name, value in values.items():
        object.__setattr__(step, name, value)


def check_phase(phase: object) -> str:
    return check_choice("phase", phase, PHASES)


def check_flag(argument: str, value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ArgumentError(f"{argument}={value!r} is neither True nor False.")


def check_number(argument: str, value: float | None) -> float | None:
    return None if value is None else check_positive(argument, value)


def check_name(argument: str, value: object) -> str:
    if isinstance(value, str) and value:
        return str(value)
    raise ArgumentError(f"{argument}={value!r} is not a name.")


def check_names(argument: str, names: object) -> tuple[str, ...]:
    """Return channel names as a tuple; a single string is one name."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list | tuple) or not listed:
        raise ArgumentError(f"{argument}={names!r} is not a list of channel names.")
    found = tuple(check_name(argument, name) for name in listed)
    twice = [name for name in found if found.count(name) > 1]
    if twice:
        raise ArgumentError(f"{argument} has {twice[0]!r} more than once.")
    return found


def samples_of(
    window_s: float, sample_rate_hz: float, least: int, what: str, argument: str = "window_s"
) -> int:
    """Return the samples of a window, floor(window_s * rate), if they are at least `least`."""
    if window_s * sample_rate_hz > MAX_SAMPLES:
        raise ArgumentError(
            f"{argument}={window_s!r} is {window_s * sample_rate_hz:.3g} samples at"
            f" {sample_rate_hz:g} Hz; is it in seconds?"
        )
    count = int(window_s * sample_rate_hz + 1e-9)  # as in `window_samples`, which rejects 0
    if count < least:
        has = {0: "less than a sample", 1: "1 sample"}.get(count, f"{count} samples")
        raise ArgumentError(
            f"{argument}={window_s!r} is {has} at {sample_rate_hz:g} Hz; {what} needs at least"
            f" {least}: use {least / sample_rate_hz:.6g} s or more."
        )
    return count
