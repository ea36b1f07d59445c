"""Check X, lengths, y, groups and weights, and convert them to arrays of one shape."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.checks import check_array_size, check_memory, check_real
from sensorseq.errors import ArgumentError, InputError, SplitError, check_choice, nearest_known
from sensorseq.io.stored_windows import StoredSamples
from sensorseq.preprocessing.scale.keyed import KeyedScaler, transform_by
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.preprocessing.windows.balance import KINDS, weights_of_counts
from sensorseq.training.frames import align, check_same_channels
from sensorseq.windows import PARTS, WindowSet

# A window of so few steps with so many channels is more often (n, c, t) given for (n, t, c).
FEW_TIMESTEPS = 16
MANY_CHANNELS = 32
LARGEST = float(np.finfo(np.float32).max)  # beyond, not even the square fits into a double


@dataclass(frozen=True)
class Sequences:
    """Windows as given, before scaling: finite, padding holds zeros.

    `X` is (N, T, C), float32 or float64, or `StoredSamples`, which are checked when they are read.
    `lengths` are the valid steps, 1 to T. With `is_flat`, (n, t) was given, and t must stay the
    same. `channels` are the names in DataFrames, None if it came as something else.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64]
    is_flat: bool = False
    recording_id: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    channels: list[str] | None = None

    @property
    def are_full(self) -> bool:
        """Whether every step of every window is valid."""
        return bool((self.lengths == self.X.shape[1]).all())

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[np.integer[Any]]) -> "Sequences":
        """Return the windows at `rows`."""
        return Sequences(
            self.X[rows],
            self.lengths[rows],
            self.is_flat,
            None if self.recording_id is None else self.recording_id[rows],
            None if self.groups is None else self.groups[rows],
            self.channels,
        )


class WindowShape(NamedTuple):
    """What a fit saw of its windows, for others to be compared with.

    `flat_timesteps` are the steps of (n, t), which must stay the same; None for windows of any
    length. `channels` are names, if there were any.
    """

    n_channels: int
    flat_timesteps: int | None
    channels: list[str] | None


def is_table(X: Any) -> bool:
    """Whether X is 2-D and neither a list of sequences nor a WindowSet: scikit-learn's own case."""
    if isinstance(X, WindowSet) or _is_list_of_sequences(X):
        return False
    if hasattr(X, "toarray"):
        return True
    try:
        return len(_shape(X)) == 2
    except ValueError:  # ragged
        return False


def read_sequences(
    X: Any, lengths: Any = None, name: str = "X", known: WindowShape | None = None
) -> Sequences:
    """Bring X and lengths to (N, T, C).

    X is an array (n, t, c) or (n, t), a list (or 1-D object array) of arrays or DataFrames
    (t_i, c), which is padded to its longest, or a WindowSet, which has its own lengths. The columns
    of DataFrames are put in the order of the `known` channels, by default of the first one. Beyond
    the lengths anything goes, even NaN. Raises `InputError` if shapes or columns disagree, also
    with what is `known`, or a valid step is not finite: it names the first.
    """
    names, channels = None, None if known is None else known.channels
    lengths_name = "lengths" + name.removeprefix("X")
    if isinstance(X, WindowSet) or _is_list_of_sequences(X):
        if lengths is not None:
            raise InputError(f"{name} has its own lengths; leave {lengths_name}=None.")
        if isinstance(X, WindowSet):
            check_same_channels(channels, X.channels, name)
            array, lengths = X.X, X.lengths
        else:
            parts, names = align(X, channels, name)
            array, lengths = _pad(parts, name)
    else:
        _check_not_one_dimensional(X, name)
        array = _as_float(X, name)
    is_flat = array.ndim == 2
    if is_flat:
        array = array[:, :, None]
    if array.ndim != 3:
        raise InputError(
            f"{name} has shape {array.shape}; expected (n_windows, n_timesteps, n_channels), or"
            " (n_windows, n_timesteps) for one channel."
        )
    for size, what in zip(array.shape, ("windows", "timesteps", "channels"), strict=True):
        if size == 0:
            raise InputError(f"{name} has shape {array.shape}: no {what}.")
    valid_steps = _check_lengths(lengths, array.shape[0], array.shape[1], lengths_name)
    origin = (X.recording_id, X.groups) if isinstance(X, WindowSet) else (None, None)
    if not isinstance(array, StoredSamples):  # those are looked at where they are read
        if (valid_steps < array.shape[1]).any():
            array = pad_with_zeros(array, valid_steps)
        check_finite_windows(array, name)
    if known is not None:
        _check_shape(array.shape, is_flat, known, name)
    return Sequences(array, valid_steps, is_flat, *origin, names)


def _check_shape(shape: tuple[int, ...], is_flat: bool, known: WindowShape, name: str) -> None:
    """Raise when windows do not have the channels (and, 2-D, the timesteps) that `fit` saw."""
    (n, t, c), (n_channels, n_timesteps, _) = shape, known
    if c != n_channels and is_flat:
        single = f" A single window of shape (t, c) is [{name}]." if t == n_channels else ""
        raise InputError(
            f"{name} has shape {(n, t)}, read as {n} windows of one channel, but fit saw"
            f" {n_channels} channels; expected (n_windows, n_timesteps, {n_channels}).{single}"
        )
    if c != n_channels:
        swapped = (
            f" If {name} is channel-first, (n, c, t), it has windows of {c} steps and {t}"
            f" channels: give {name}.transpose(0, 2, 1)."
            if t == n_channels
            else ""
        )
        raise InputError(
            f"{name} has shape {(n, t, c)}, read as {n} windows of {t} steps and {c} channels, but"
            f" fit saw {n_channels} channels.{swapped}"
        )
    if n_timesteps is not None and t != n_timesteps:
        raise InputError(
            f"{name} has {t} timesteps, but fit saw 2-D input with {n_timesteps}, and 2-D input"
            f" must keep its length; fit on {name}[:, :, np.newaxis] for windows of any length."
        )


def check_axis_order(X: Any, lengths: Any) -> None:
    """Raise when a 3-D array looks like (n, c, t).

    It does with one step of several channels, or with few steps of many channels. Such windows are
    accepted with `lengths`, as a list, or as a WindowSet, where the time axis is known.
    """
    if lengths is not None or isinstance(X, WindowSet) or _is_list_of_sequences(X):
        return
    n, t, c = _shape(X)
    if t == 1 < c or (t < c and t <= FEW_TIMESTEPS and c >= MANY_CHANNELS):
        raise InputError(
            f"X has shape {(n, t, c)}: as (n, t, c) these are {n} windows of"
            f" {_count(t, 'step')} and {_count(c, 'channel')}; as (n, c, t) they are windows of"
            f" {_count(c, 'step')} and {_count(t, 'channel')}."
            " For the second give X.transpose(0, 2, 1). For the first confirm it with"
            f" lengths=np.full({n}, {t})."
        )


def check_per_window(
    values: Any, n_windows: int, name: str, owner: str = "X"
) -> NDArray[Any] | None:
    """Return a 1-D array of one value per window, or None for None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_windows,):
        count = f"{len(array)} values" if array.ndim == 1 else f"shape {array.shape}"
        raise InputError(f"{name} has {count}, but {owner} has {n_windows} windows.")
    return array


def check_groups(values: Any, n_windows: int, name: str, owner: str = "X") -> NDArray[Any] | None:
    """Return the group of each window; a missing one (None, NaN) is an error with its row."""
    groups = check_per_window(values, n_windows, name, owner)
    if groups is None:
        return None
    missing = [i for i, group in enumerate(groups.tolist()) if _is_missing(group)]
    if missing:
        raise InputError(
            f"{name}[{missing[0]}] is {groups.tolist()[missing[0]]!r}; every window needs a group."
            " Give a window without a recording its own group."
        )
    return groups


def check_values(y: Any, n_windows: int, name: str, owner: str = "X") -> NDArray[np.float64]:
    """Return the values of a regression as float64 of shape (n,) or (n, k), finite."""
    if y is None:
        raise InputError(f"{name} is None; give the values to predict.")
    given = as_array(y)
    if given.ndim not in (1, 2) or len(given) != n_windows or not given.size:
        raise InputError(
            f"{name} has shape {given.shape}, but {owner} has {n_windows} windows; expected"
            f" ({n_windows},), or ({n_windows}, k) for k values per window."
        )
    check_array_size(name, given)
    if given.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {name} has type {given.dtype}.")
    try:
        values = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} has type {given.dtype} and is not numeric ({error}); for classes use"
            " SensorLSTMClassifier."
        ) from error
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0, 0])
        raise InputError(f"{name}[{row}] is {given[row].tolist()!r}, which is not a finite number.")
    return values


def from_one_hot(y: NDArray[Any], name: str = "y") -> NDArray[np.int64]:
    """Return the class index of each row of a one-hot array of shape (n, k)."""
    values = y.astype(np.float64) if y.dtype.kind in "biuf" else np.full(y.shape, np.nan)
    is_one = values == 1.0
    wrong = ~((is_one | (values == 0.0)).all(axis=1) & (is_one.sum(axis=1) == 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{name} has shape {y.shape}, which is read as one-hot, but row {row} is"
            f" {y[row].tolist()}, not a single 1 among zeros ({int(wrong.sum())} such rows). Give"
            f" one label per window, for example {name}.argmax(axis=1)."
        )
    return np.asarray(is_one.argmax(axis=1), np.int64)


def check_labels(y: NDArray[Any], name: str = "y") -> NDArray[Any]:
    """Return the labels; a missing or infinite one is an error with its row."""
    values = y.tolist()
    for row, label in enumerate(values):
        if _is_missing(label) or label in (float("inf"), float("-inf")):
            raise InputError(f"{name}[{row}] is {label!r}, which is not a label.")
    kinds = {"text" if isinstance(label, str) else "numbers" for label in values}
    if len(kinds) > 1:
        row = next(
            i for i, v in enumerate(values) if isinstance(v, str) != isinstance(values[0], str)
        )
        raise InputError(
            f"{name} mixes text and numbers: {name}[0] is {values[0]!r}, {name}[{row}] is"
            f" {values[row]!r}; labels must all have one type."
        )
    return y


def _is_missing(value: Any) -> bool:
    """Whether a label is None, NaN, NaT, or the NA of pandas, which cannot be compared."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _check_not_one_dimensional(X: Any, name: str) -> None:
    if isinstance(X, Sequence) and not len(X):
        raise InputError(
            f"{name} is empty. Give an array of shape (n_windows, n_timesteps, n_channels)."
        )
    try:
        shape = _shape(X)
    except ValueError:  # ragged: described where it is read
        return
    if not shape:
        number = " A single number is not a window: Reshape your data." if np.isscalar(X) else ""
        raise InputError(
            f"{name} is a {type(X).__name__}; expected an array of shape (n_windows, n_timesteps,"
            f" n_channels), a list of arrays, a WindowSet or the path of a prepared file.{number}"
        )
    if len(shape) < 2:
        raise InputError(
            f"{name} has shape {shape}; expected (n_windows, n_timesteps, n_channels). Reshape your"
            f" data: one window of one channel is np.reshape({name}, (1, -1, 1))."
        )


def _is_list_of_sequences(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        is_list = X.ndim == 1 and X.dtype == object
        return is_list and any(len(getattr(part, "shape", ())) >= 2 for part in X)
    if not isinstance(X, Sequence) or isinstance(X, str) or not len(X):
        return False
    if any(len(getattr(part, "shape", ())) >= 2 for part in X):
        return True
    # Nested lists: rectangular ones are an array; a ragged one can only be a list of sequences.
    nested = all(isinstance(part, Sequence) and len(part) for part in X)
    return (
        nested
        and all(isinstance(part[0], Sequence | np.ndarray) for part in X)
        and len({len(part) for part in X}) > 1
    )


def _pad(X: Iterable[Any], name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    parts = [_as_float(part, f"{name}[{i}]") for i, part in enumerate(X)]
    for i, part in enumerate(parts):
        if part.ndim != 2 or part.shape[1] != parts[0].shape[-1]:
            raise InputError(
                f"{name}[{i}] has shape {part.shape}; each sequence of the list must be"
                " (n_timesteps, n_channels) with as many channels as the first, of shape"
                f" {parts[0].shape}."
            )
    lengths = np.array([len(part) for part in parts], np.int64)
    dtype = np.result_type(*parts)
    size = 2 * dtype.itemsize * len(parts) * int(lengths.max()) * parts[0].shape[1]
    ways = "shorter windows, or windows of more similar lengths"
    check_memory(f"{name} of {len(parts):,} windows", {"padding to the longest": size}, ways)
    padded = np.zeros((len(parts), int(lengths.max()), parts[0].shape[1]), dtype)
    for row, part in zip(padded, parts, strict=True):
        row[: len(part)] = part
    return padded, lengths


def _shape(X: Any) -> tuple[int, ...]:
    """Return the shape of what can become an array; a ValueError of what is ragged."""
    return X.shape if isinstance(X, np.ndarray) else as_array(X).shape


def as_array(values: Any) -> NDArray[Any]:
    """Return an array, also of a torch tensor."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _as_float(X: Any, name: str) -> NDArray[Any]:
    try:
        array = X if isinstance(X, np.ndarray) else as_array(X)
    except ValueError as error:
        raise InputError(
            f"{name} is ragged and cannot become an array; give windows of different lengths as a"
            f" list of arrays of shape (n_timesteps, n_channels). ({error})"
        ) from error
    check_array_size(name, array, array.itemsize + 1)
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: {name} has type {array.dtype}.")
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "mM":
        raise InputError(f"{name} has type {array.dtype}: times are no channel; drop them.")
    try:
        return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has type {array.dtype} and is not numeric ({error}).") from error


def _check_lengths(lengths: Any, n_windows: int, n_timesteps: int, name: str) -> NDArray[np.int64]:
    if lengths is None:
        return np.full(n_windows, n_timesteps, np.int64)
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} has type {array.dtype}; lengths must be integers, in steps.")
    check_per_window(array, n_windows, name)
    outside = np.flatnonzero((array < 1) | (array > n_timesteps))
    if outside.size:
        row = int(outside[0])
        raise InputError(
            f"{name}[{row}] is {array[row]}; these windows have 1 to {n_timesteps} steps."
        )
    return array.astype(np.int64)


def pad_with_zeros(X: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Return windows with zeros beyond their lengths."""
    is_valid = np.arange(X.shape[1]) < lengths[:, None]
    return np.where(is_valid[:, :, None], X, X.dtype.type(0))


def check_finite_windows(
    X: NDArray[Any], name: str = "X", rows: NDArray[np.int64] | None = None
) -> None:
    """Raise at the first step that is not finite; `rows` are the numbers of the windows."""
    usable = np.abs(X) <= LARGEST  # False for NaN
    if not usable.all():
        row, step, channel = (int(i) for i in np.argwhere(~usable)[0])
        value = X[row, step, channel]
        row = row if rows is None else int(rows[row])
        what = "NaN" if np.isnan(value) else "infinity (inf)" if np.isinf(value) else f"{value:g}"
        raise InputError(
            f"{name} holds {what} in window {row}, step {step}, channel {channel}"
            f" ({int((~usable).sum())} such values), which cannot be used. Drop such windows, or"
            " fill the gaps before cutting windows."
        )


def crop_starts(
    lengths: NDArray[np.int64],
    max_timesteps: int,
    crop: str,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Return the first step to keep of each window, shape (N,), 0 where nothing is cropped.

    ``"random"`` without `rng` (prediction, validation) takes the centre, so that results repeat.
    """
    spare = np.maximum(lengths - max_timesteps, 0)
    if crop == "head":
        return np.zeros_like(spare)
    if crop == "tail":
        return spare
    if crop == "random" and rng is not None:
        return rng.integers(0, spare, endpoint=True, dtype=np.int64)
    return spare // 2


def crop_windows(
    X: NDArray[Any], lengths: NDArray[np.int64], max_timesteps: int | None, crop: str
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Keep at most `max_timesteps` valid steps of each window."""
    if max_timesteps is None or X.shape[1] <= max_timesteps:
        return X, lengths
    starts = crop_starts(lengths, max_timesteps, crop)
    steps = starts[:, None] + np.arange(max_timesteps)
    return np.take_along_axis(X, steps[:, :, None], axis=1), np.minimum(lengths, max_timesteps)


def crop_tensor(
    X: Tensor,
    lengths: Tensor | None,
    max_timesteps: int,
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor | None]:
    """Crop each window at a random place, at its centre without `rng`, on the device of `X`."""
    n_windows, n_timesteps = X.shape[:2]
    if n_timesteps <= max_timesteps:
        return X, lengths
    valid = np.full(n_windows, n_timesteps) if lengths is None else lengths.cpu().numpy()
    starts = crop_starts(valid, max_timesteps, "random", rng)
    steps = torch.from_numpy(starts).to(X.device)[:, None]
    steps = steps + torch.arange(max_timesteps, device=X.device)
    cropped = torch.take_along_dim(X, steps[:, :, None], dim=1)
    return cropped, None if lengths is None else lengths.clamp(max=max_timesteps)


def check_class_weight(class_weight: Any) -> None:
    """Raise unless `class_weight` is None, one of the kinds of `class_weights`, or a mapping."""
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, KINDS)
    elif not (class_weight is None or isinstance(class_weight, Mapping)):
        raise ArgumentError(
            f"class_weight={class_weight!r} must be None, 'balanced', 'effective_number' or a"
            " dictionary of labels and factors."
        )


def check_sample_weight(sample_weight: Any, n_windows: int) -> NDArray[np.float64] | None:
    """Return the weight of each window as float64: finite, 0 or more, not all 0."""
    array = check_per_window(sample_weight, n_windows, "sample_weight")
    if array is None:
        return None
    try:
        weight: NDArray[np.float64] = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"sample_weight has type {array.dtype} and is not numeric; give recordings as groups=."
        ) from error
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(f"sample_weight[{row}] is {weight[row]}; weights must be 0 or more.")
    if not weight.any():
        raise InputError("sample_weight is zero for every window, so there is nothing to train on.")
    return weight


def window_weights(
    class_index: NDArray[np.int64],
    classes: NDArray[Any],
    class_weight: str | Mapping[Any, float] | None,
    sample_weight: NDArray[np.float64] | None,
    *,
    scaled: bool = True,
) -> NDArray[np.float64] | None:
    """Return the factor on the loss of each window, None for no weights; mean one if `scaled`."""
    if class_weight is None and sample_weight is None:
        return None
    weight = np.ones(len(class_index)) if sample_weight is None else sample_weight.copy()
    if class_weight is not None:
        weight *= _class_weights(class_index, classes, class_weight)[class_index]
    if not scaled:
        return weight
    if not weight.any():
        raise InputError("class_weight and sample_weight give every window a weight of zero.")
    return mean_one(weight)


def mean_one(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights scaled to mean one: their unit does not matter."""
    return np.asarray(weight / weight.mean())


def nearest_label(label: Any, known: Iterable[Any]) -> str:
    """Return a question whether the nearest known label was meant; empty without one."""
    by_text = {str(name).lower(): name for name in known}
    nearest = nearest_known(label, by_text)
    return "" if nearest is None else f" Did you mean {by_text[nearest]!r}?"


def _class_weights(
    class_index: NDArray[np.int64], classes: NDArray[Any], class_weight: str | Mapping[Any, float]
) -> NDArray[np.float64]:
    if isinstance(class_weight, str):
        return weights_of_counts(np.bincount(class_index, minlength=len(classes)), class_weight)
    weights = np.ones(len(classes))
    known = classes.tolist()
    for label, factor in class_weight.items():
        if label not in known:
            raise ArgumentError(
                f"class_weight has a factor for {label!r}, which is not a class."
                f"{nearest_label(label, known)}"
                f" The classes of y are {known}."
            )
        weights[known.index(label)] = check_real(f"class_weight[{label!r}]", factor, 0.0)
    return weights


def check_stored_split(split: NDArray[Any], groups: NDArray[Any] | None) -> None:
    """Raise `SplitError` when a stored split puts windows of one group into several parts."""
    if groups is None:
        return
    parts_of: dict[Any, set[str]] = {}
    for group, part in zip(groups.tolist(), split.tolist(), strict=True):
        parts_of.setdefault(group, set()).add(part)
    torn = {group: parts for group, parts in parts_of.items() if len(parts) > 1}
    if torn:
        group, parts = next(iter(torn.items()))
        listed = " and ".join(part for part in PARTS if part in parts)
        raise SplitError(
            f"X has a split with group {group!r} in {listed} ({len(torn)} such groups), so scores"
            " would be inflated. Split by group, see"
            " sensorseq.preprocessing.split.split_by_group."
        )


def crop_sequences(
    sequences: Sequences, max_timesteps: int | None, crop: str, *, training: bool
) -> Sequences:
    """Crop as `crop` says, unless the engine draws a new place in each epoch."""
    if max_timesteps is None or (training and crop == "random"):
        return sequences
    X, lengths = crop_windows(sequences.X, sequences.lengths, max_timesteps, crop)
    return replace(sequences, X=X, lengths=lengths)


def scale_sequences(
    sequences: Sequences, scaler: Scaler | KeyedScaler | None, dtype: str
) -> NDArray[Any]:
    """Return scaled windows in the network's precision; raise if a value leaves its range."""
    X = sequences.X
    lengths = None if sequences.are_full else sequences.lengths
    if scaler is not None:
        X = transform_by(scaler, X, lengths, sequences)
    with np.errstate(over="ignore"):  # reported below
        X = np.ascontiguousarray(X, dtype)
    if not np.isfinite(X).all():
        finite = np.isfinite(X).all(axis=(0, 1))
        raise InputError(
            f"X in channel {int(np.argmin(finite))} is infinite after scaling in {dtype}:"
            " it is too far from the training windows."
        )
    return X
