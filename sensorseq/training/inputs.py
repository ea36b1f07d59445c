"""Check y, groups and weights, and the order of the axes of X."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.checks import check_real, is_missing_label
from sensorseq.errors import (
    ArgumentError,
    InputError,
    SplitError,
    check_choice,
    nearest_known,
    warn_caller,
)
from sensorseq.prediction.windows import (
    as_array,
    crop_starts,
    is_list_of_sequences,
    shape_of,
)
from sensorseq.preprocessing.windows.balance import KINDS, weights_of_counts
from sensorseq.windows import PARTS, WindowSet

# A window with so few steps and so many channels is probably (n, c, t) given for (n, t, c).
FEW_TIMESTEPS = 16
MANY_CHANNELS = 32
_SMOOTHER = 0.7  # ratio of the roughness along time to that across channels
_CHANNELS_PER_STEP = 8  # unusual enough to ask even where both axes are equally smooth
_LOOKED_AT = 200  # windows


def check_axis_order(X: Any, lengths: Any, name: str = "X") -> None:
    """Raise if a 3-D array looks like (n, c, t); warn if it may be.

    It may be with few steps of many channels, unless its values are smoother along the steps. It
    looks so if they are smoother along the last axis, or that is much longer, or with one step of
    several channels. Such windows are accepted with `lengths`, as a list, or as a WindowSet,
    because these define the time axis.
    """
    if lengths is not None or isinstance(X, WindowSet) or is_list_of_sequences(X):
        return
    n, t, c = shape_of(X)
    if not (t == 1 < c or (t < c and t <= FEW_TIMESTEPS and c >= MANY_CHANNELS)):
        return
    if t > 1:
        values = as_array(X)[:_LOOKED_AT].astype(np.float64)
        as_read, swapped = _roughness(values, 1), _roughness(values, 2)
        if as_read < _SMOOTHER * swapped:
            return
        if c < _CHANNELS_PER_STEP * t and not swapped < _SMOOTHER * as_read:
            warn_caller(
                f"{name} has shape {(n, t, c)}, read as {n} windows of {_count(t, 'step')} and"
                f" {_count(c, 'channel')}. If it is channel-first, (n, c, t), give"
                f" {name}.transpose(0, 2, 1); if not, lengths=np.full({n}, {t}) says so."
            )
            return
    raise InputError(
        f"{name} has shape {(n, t, c)}: as (n, t, c) these are {n} windows of"
        f" {_count(t, 'step')} and {_count(c, 'channel')}; as (n, c, t) they are windows of"
        f" {_count(c, 'step')} and {_count(t, 'channel')}."
        f" For the second give {name}.transpose(0, 2, 1). For the first confirm it with"
        f" lengths=np.full({n}, {t})."
    )


def _roughness(X: NDArray[np.float64], axis: int) -> float:
    """Return how much neighbors along an axis differ, relative to any two values: 1 for noise."""
    step = np.diff(X, axis=axis)
    spread = X - X.mean(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.sqrt(np.nanmean(step**2) / np.nanmean(spread**2) / 2))


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
    """Return the labels; a missing or infinite one raises an error with its row."""
    values = y.tolist()
    for row, label in enumerate(values):
        if _is_no_label(label):
            n, keep = sum(map(_is_no_label, values)), f"pandas.notna({name})"
            if isinstance(label, str):
                keep = f"[bool(one.strip()) for one in {name}]"
            elif not is_missing_label(label):
                keep = f"np.isfinite({name})"
            raise InputError(
                f"{name}[{row}] is {label!r}, which is not a label ({n} of {len(values)} windows)."
                f" Leave these windows out: with keep = {keep}, give X[keep], {name}[keep], and so"
                " on with groups and lengths."
            )
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


def _is_no_label(label: Any) -> bool:
    """Test whether a label is missing, blank or infinite."""
    if isinstance(label, str):
        return not label.strip()
    return is_missing_label(label) or label in (float("inf"), float("-inf"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def crop_tensor(
    X: Tensor,
    lengths: Tensor | None,
    max_timesteps: int,
    rng: np.random.Generator | None,
) -> tuple[Tensor, Tensor | None]:
    """Crop each window at random, or at its center without `rng`, on the device of `X`."""
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


def window_weights(
    class_index: NDArray[np.int64],
    classes: NDArray[Any],
    class_weight: str | Mapping[Any, float] | None,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Return each window's factor in the loss, with a mean of one; None without weights."""
    if class_weight is None and sample_weight is None:
        return None
    weight = np.ones(len(class_index)) if sample_weight is None else sample_weight.copy()
    if class_weight is not None:
        weight *= _class_weights(class_index, classes, class_weight)[class_index]
    if not weight.any():
        raise InputError("class_weight and sample_weight give every window a weight of zero.")
    return np.asarray(weight / weight.mean())


def nearest_label(label: Any, known: Iterable[Any]) -> str:
    """Return a question about the most similar known label; empty if there is none."""
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
    """Raise a `SplitError` if a stored split puts windows of one group into several parts."""
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
