"""Checks of arguments, windows and stored states.

A check returns the checked value, or raises an error that names the argument.
"""

import math
import numbers
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Union, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sensorseq.base.text import listed, plural
from sensorseq.errors import (
    ArgumentError,
    InputError,
    RecordingError,
    SensorseqError,
    SignalError,
    check_choice,
    warn_caller,
)

RandomState = Union[int, np.integer, np.random.Generator, np.random.RandomState, None]
PHASES = ("zero", "causal")
_MISSING_TEXTS = ("nan", "NaN", "<NA>", "NaT")  # missing values that were converted to strings
MAX_SAMPLES = 10**8  # a window with more samples was probably not specified in seconds


def as_float(value: Any) -> float:
    """Return a value as float: NaN if it is not a real number, infinity if it is too large."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond the range of float
        return math.inf


def check_integer(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return `value` as int if it is a whole number from `least` to `most`."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_whole and least <= int(value) and (most is None or int(value) <= most):
        return int(value)
    within = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ArgumentError(f"{name}={value!r} must be an integer {within}.")


def check_real(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = True,
) -> float:
    """Return `value` as float if it is a finite number in the interval from `low` to `high`."""
    number = as_float(value)
    inside = (
        math.isfinite(number)
        and (number > low if low_open else number >= low)
        and (number < high if high_open else number <= high)
    )
    if not inside:
        if (low, high, low_open) == (0, math.inf, True):
            raise ArgumentError(f"{name}={value!r} must be a number above zero.")
        interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
        raise ArgumentError(f"{name}={value!r} must be a number in {interval}.")
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not (isinstance(value, bool) or type(value).__name__ == "bool"):  # also accept numpy.bool
        raise ArgumentError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_positive(name: str, value: Any) -> float:
    """Return `value` as float if it is a finite number above zero."""
    return check_real(name, value, 0.0, low_open=True)


def check_positive_or_none(name: str, value: Any) -> float | None:
    """Return `value` as float if it is a finite number above zero; None is returned unchanged."""
    return None if value is None else check_positive(name, value)


def check_integer_or_none(name: str, value: Any, least: int = 1) -> int | None:
    """Return `value` as int if it is a whole number of at least `least`; None stays None."""
    return None if value is None else check_integer(name, value, least)


def check_random_state(random_state: RandomState) -> np.random.Generator:
    """Return a numpy Generator for scikit-learn's `random_state` (None, seed, or a generator)."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None or (isinstance(random_state, (int, np.integer)) and random_state >= 0):
        return np.random.default_rng(random_state)
    raise ArgumentError(
        f"random_state={random_state!r} must be None, an integer of 0 or more, or a numpy"
        " generator."
    )


def check_rate(argument: str, rate_hz: float) -> float:
    """Return the rate as float if it is positive and finite."""
    try:
        return check_positive(argument, rate_hz)
    except ArgumentError as error:
        raise SignalError(f"{argument}={rate_hz!r} is not a positive rate in Hz.") from error


def check_signal(signal: ArrayLike) -> NDArray[np.floating]:
    """Return a float array of shape (n_samples, n_channels); it may contain NaN."""
    values = np.asarray(signal)
    if values.ndim != 2:
        raise SignalError(
            f"signal has shape {values.shape}; expected (n_samples, n_channels)."
            " For a single channel use signal.reshape(-1, 1)."
        )
    if values.dtype.kind not in "fiub":
        raise SignalError(f"signal has dtype {values.dtype}; expected real numbers.")
    if not values.shape[1]:
        raise SignalError("signal has no channels.")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def check_per_window(
    name: str,
    values: ArrayLike | None,
    n_windows: int,
    error: type[SensorseqError] = InputError,
    owner: str = "X",
) -> NDArray[Any] | None:
    """Return `values` as an array with one value per window of `owner`; None stays None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_windows,):
        count = plural(len(array), "value") if array.ndim == 1 else f"shape {array.shape}"
        raise error(f"{name} has {count}, but {owner} has {n_windows} windows.")
    return array


def check_groups(
    name: str, values: ArrayLike | None, n_windows: int, owner: str = "X"
) -> NDArray[Any] | None:
    """Return the group of each window; raise an error if a group is None or NaN.

    If `values` is None, the result is None.
    """
    groups = check_per_window(name, values, n_windows, owner=owner)
    if groups is None or groups.dtype.kind in "US":  # strings are never missing
        return groups
    labels = groups.tolist()
    for row, label in enumerate(labels):
        if is_missing_label(label):
            raise InputError(
                f"{name}[{row}] is {label!r}; every window needs a group. Give a window without a"
                " recording its own group."
            )
    return groups


def check_sample_weight(
    weights: ArrayLike | None,
    n_windows: int,
    error: type[SensorseqError] = InputError,
    owner: str = "X",
) -> NDArray[np.float64] | None:
    """Return each window's weight as float64, after checking the weights; None stays None.

    All weights must be finite and 0 or more, and at least one must be above 0.
    """
    array = check_per_window("sample_weight", weights, n_windows, error, owner)
    if array is None:
        return None
    try:
        weight: NDArray[np.float64] = array.astype(np.float64)
    except (TypeError, ValueError) as problem:
        raise error(
            f"sample_weight has type {array.dtype} and is not numeric; give recordings as groups=."
        ) from problem
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        row = int(wrong[0])
        raise error(f"sample_weight[{row}] is {weight[row]}; weights must be 0 or more.")
    if not weight.any():
        raise error("sample_weight is zero for every window, so there is nothing to train on.")
    return weight


def is_missing_label(value: Any) -> bool:
    """Test whether a label is missing: None, NaN, NaT or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def mark_of_unlabeled(classes: Iterable[Any]) -> str | float | None:
    """Return the class that probably marks windows without a label, or None.

    Such a class is a missing value that was converted to a string, or -1 as in scikit-learn. If
    other classes are negative too, or if 1 is the only other class, -1 is an ordinary class.
    """
    names: list[str | float] = list(classes)
    texts = [str(name).strip() for name in names]
    # "None" may be a class, such as no fault, if the other names also begin with capitals.
    are_lower = all(text == "None" or not text[:1].isupper() for text in texts)
    marks = _MISSING_TEXTS + ("None",) * are_lower
    for name, text in zip(names, texts):
        if isinstance(name, str) and text in marks:
            return name
    values = [_number_in(text) for text in texts]
    others = [value for value in values if value != -1]
    if len(others) == len(values) or others == [1] or any(value < 0 for value in others):
        return None
    return names[values.index(-1)]


def check_unlabeled(y: ArrayLike, name: str, labels_way_out: bool = False) -> None:
    """Warn about a class that probably marks windows without a label.

    If most windows belong to this class and there are several other classes, raise an error
    instead.

    `name` is the name of `y` in the caller's code. With `labels_way_out`, the windows come from
    recordings, and the message suggests the argument `labels`, which selects classes.
    """
    counts = Counter(label for label in np.asarray(y).tolist() if label is not None)
    mark = mark_of_unlabeled(counts)
    if mark is None:
        return
    n, n_all = counts.pop(mark), sum(counts.values())
    others = sorted(counts)
    if labels_way_out:
        way_out = (
            "To leave this class out, clear the cells with this label if a column labels each"
            f" sample; if labels come from folders or a manifest, prepare with labels={others}."
        )
    else:
        new = "other" if isinstance(mark, str) else max(others) + 1
        way_out = (
            f"To leave such windows out, give sample_weight=np.not_equal({name}, {mark!r}). If it"
            f" is a class, give it another name: np.where(np.equal({name}, {mark!r}), {new!r},"
            f" {name})."
        )
    text = (
        f"{name} is {mark!r} for {n} of {n + n_all} windows, alongside"
        f" {listed(map(repr, others), 6)}. This value usually marks windows without a label, but"
        f" it would be learned like any other class. {way_out}"
    )
    if n > n_all and len(others) > 1:
        raise InputError(text)
    warn_caller(text)


def _number_in(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def refuse_beside_windows(**arguments: object) -> None:
    """Raise an error if an argument repeats a part of the WindowSet."""
    for name, value in arguments.items():
        if value is not None:
            raise ArgumentError(
                f"{name} is given, but the WindowSet X already has {name}; leave the argument out."
            )


def as_windows(X: ArrayLike) -> NDArray[np.floating]:
    """Return X as floats of shape (n_windows, n_timesteps, n_channels)."""
    windows = np.asarray(X)
    if windows.ndim == 2:
        windows = windows[:, :, np.newaxis]
    if windows.ndim != 3:
        raise SignalError(
            f"X has shape {windows.shape}; expected (n_windows, n_timesteps, n_channels), or"
            " (n_windows, n_timesteps) for one channel."
        )
    if windows.dtype.kind not in "fiub":
        raise SignalError(f"X has dtype {windows.dtype}; expected real numbers.")
    return windows if windows.dtype in (np.float32, np.float64) else windows.astype(np.float64)


def check_lengths(
    windows: NDArray[np.floating],
    lengths: ArrayLike | None,
    name: str = "lengths",
    *,
    least: int = 0,
    error: type[SensorseqError] = SignalError,
) -> NDArray[np.int64] | None:
    """Return the number of valid steps of each window; None if all steps are valid."""
    n_windows, n_timesteps = windows.shape[:2]
    steps = check_per_window(name, lengths, n_windows, error, "X" + name.removeprefix("lengths"))
    if steps is None:
        return None
    if steps.dtype.kind not in "iu":
        raise error(f"{name} has type {steps.dtype}; lengths must be whole numbers of steps.")
    outside = np.flatnonzero((steps < least) | (steps > n_timesteps))
    if outside.size:
        row = int(outside[0])
        raise error(
            f"{name}[{row}] is {steps[row]}; it must be from {least} to {n_timesteps} steps."
        )
    return None if (steps == n_timesteps).all() else steps.astype(np.int64)


@overload
def valid_steps(n_timesteps: int, lengths: NDArray[np.int64]) -> NDArray[np.bool_]: ...


@overload
def valid_steps(
    n_timesteps: int, lengths: NDArray[np.int64] | None
) -> NDArray[np.bool_] | slice: ...


def valid_steps(n_timesteps: int, lengths: NDArray[np.int64] | None) -> NDArray[np.bool_] | slice:
    """Return an index of the valid steps, for an array of shape (n_windows, n_timesteps)."""
    if lengths is None:
        return slice(None)
    valid: NDArray[np.bool_] = np.arange(n_timesteps) < lengths[:, np.newaxis]
    return valid


def raise_not_finite(
    windows: NDArray[np.floating], position: int, original: NDArray[np.floating] | None = None
) -> NoReturn:
    """Raise an error that locates the value at this position of the flattened windows.

    If `original` is finite at this position, the conversion to float32 made the value infinite.
    """
    row, step, channel = (int(i) for i in np.unravel_index(position, windows.shape))
    where = f"in window {row}, step {step}, channel {channel}"
    if original is not None and np.isfinite(original[row, step, channel]):
        raise SignalError(
            f"X is {original[row, step, channel]:g} {where}, which is outside the range of"
            " float32. Scale the channels first."
        )
    kind = "NaN" if np.isnan(windows[row, step, channel]) else "inf"
    raise SignalError(
        f"X is {kind} {where}. Fill missing samples before cutting windows (resample_recording), or"
        " shorten the window's entry in lengths."
    )


def check_finite(
    windows: NDArray[np.floating],
    lengths: NDArray[np.int64] | None,
    original: NDArray[np.floating] | None = None,
) -> None:
    """Raise an error if a valid value is NaN or infinite; the error names the first such value.

    `original` contains the values before a conversion to float32.
    """
    bad = ~np.isfinite(windows)
    if lengths is not None:
        bad[~valid_steps(windows.shape[1], lengths)] = False
    if bad.any():
        raise_not_finite(windows, int(bad.argmax()), original)


def check_not_empty(windows: NDArray[np.floating]) -> None:
    """Raise an error if windows have no steps or no channels."""
    if not windows.shape[1] or not windows.shape[2]:
        raise SignalError(f"X has shape {windows.shape}: no timesteps or no channels.")


def check_channels(windows: NDArray[np.floating], n_channels: int) -> None:
    """Raise an error unless windows have as many channels as the features were fitted on."""
    if windows.shape[2] != n_channels:
        raise SignalError(
            f"X has {windows.shape[2]} channels, but the features were fitted on {n_channels}."
        )


def check_state(
    state: Mapping[str, Any], kind: str, needed: Sequence[str], dtypes: Mapping[str, DTypeLike]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the settings and arrays of a stored state, after checking its kind and contents."""
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


def check_phase(phase: object) -> str:
    """Return `phase` if it is a known phase of a filter."""
    return check_choice("phase", phase, PHASES)


def check_name(argument: str, value: object) -> str:
    """Return `value` if it is a non-empty string."""
    if isinstance(value, str) and value:
        return str(value)
    raise ArgumentError(f"{argument}={value!r} is not a name.")


def check_names(argument: str, names: object) -> tuple[str, ...]:
    """Return channel names as a tuple; a single string is one name."""
    entries = [names] if isinstance(names, str) else names
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ArgumentError(f"{argument}={names!r} is not a list of channel names.")
    channels = tuple(check_name(argument, entry).strip() for entry in entries)
    repeated = [name for name in channels if channels.count(name) > 1]
    if repeated:
        raise ArgumentError(f"{argument} has {repeated[0]!r} more than once.")
    return channels


def samples_of(
    window_s: float,
    sample_rate_hz: float,
    least: int,
    what: str,
    argument: str = "window_s",
    most: int = MAX_SAMPLES,
) -> int:
    """Return floor(window_s * rate), the window's length in samples; it must be `least` or more."""
    if window_s * sample_rate_hz > most:
        raise ArgumentError(
            f"{argument}={window_s!r} is {window_s * sample_rate_hz:.3g} samples at"
            f" {sample_rate_hz:g} Hz; is it in seconds?"
        )
    # The rounding margin is the same as in `window_samples`.
    count = int(window_s * sample_rate_hz + 1e-9)
    if count < least:
        size = {0: "less than a sample", 1: "1 sample"}.get(count, f"{count} samples")
        raise ArgumentError(
            f"{argument}={window_s!r} is {size} at {sample_rate_hz:g} Hz; {what} needs at least"
            f" {least}: use {least / sample_rate_hz:.6g} s or more."
        )
    return count


# Maximum ratio of unpacked to stored size; unpacked size in bytes up to which any ratio is
# accepted.
_MOST_COMPRESSED, _HARMLESS_BYTES = 100, 1 << 27


def check_not_url(path: str | os.PathLike[str]) -> None:
    """Raise `ArgumentError` for a URL, whose files must be copied or mounted first."""
    if "://" in os.fspath(path):
        raise ArgumentError(
            f"{path}: is a URL, but only files on disks are read and written; copy the files (such"
            " as with `aws s3 sync`) or mount the store (such as with `rclone mount`)."
        )


def check_unpacked(path: Path, n_bytes: int, stored_bytes: int) -> None:
    """Raise an error if a compressed file unpacks to an implausible amount of data."""
    if n_bytes > max(_HARMLESS_BYTES, _MOST_COMPRESSED * stored_bytes):
        raise RecordingError(
            f"{path}: unpacks to {_human(n_bytes)} or more, which is too much for a"
            " measurement: the file is damaged, or was made to exhaust memory. If it is correct,"
            " store it without compression."
        )


def _human(n_bytes: int) -> str:
    """Format a size in the unit that leaves at most three digits before the decimal point."""
    value, units = n_bytes / 1, ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.1f} {units[0]}" if value < 1e6 else f"{value:.0e} {units[0]}"


def refuse_stray(path: Path, row: int, name: str, text: str) -> None:
    """Raise an error if a field repeats its column's name or has NUL bytes; `row` counts from 1."""
    if "\0" in text:
        raise RecordingError(f"{path}, row {row}, column {name!r}: contains {nul_bytes(path)}")
    if text.strip() == name:
        raise RecordingError(
            f"{path}, row {row}: the header is repeated, with {name!r} in column {name!r}, perhaps"
            " because several logs were joined. Divide the file at this row, or remove the row if"
            " the time continues."
        )


def nul_bytes(path: Path) -> str:
    """Return the last part of an error message about NUL bytes."""
    remove = "tr -d '\\000'"
    shell = f"gzip -dc FILE | {remove} > NEW" if path.suffix == ".gz" else f"{remove} < FILE > NEW"
    return f"NUL bytes, as after a loss of power. Remove them; in a shell: {shell}."
