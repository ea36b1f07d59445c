"""How much each training window counts: class weights times sample weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known
from sensorseq.preprocessing.balance import KINDS, weights_of_counts
from sensorseq.training.arguments import check_real
from sensorseq.training.inputs import check_per_window

ClassWeight = str | Mapping[Any, float] | None


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
    class_weight: ClassWeight,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Return the factor on the loss of each window, scaled to mean one; None for no weights.

    ``"balanced"`` and ``"effective_number"`` are those of `preprocessing.balance.class_weights`,
    over the classes that are present.

    Raises
    ------
    ArgumentError
        If `class_weight` names a class that is not in `classes`, or a factor is negative.
    InputError
        If nothing but zero weights remains.
    """
    weight = raw_window_weights(class_index, classes, class_weight, sample_weight)
    if weight is None:
        return None
    if not weight.any():
        raise InputError("class_weight and sample_weight give every window a weight of zero.")
    return mean_one(weight)


def raw_window_weights(
    class_index: NDArray[np.int64],
    classes: NDArray[Any],
    class_weight: ClassWeight,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Return what `window_weights` does before it is scaled to mean one."""
    if class_weight is None and sample_weight is None:
        return None
    weight = np.ones(len(class_index)) if sample_weight is None else sample_weight.copy()
    if class_weight is not None:
        weight *= _class_weights(class_index, classes, class_weight)[class_index]
    return weight


def mean_one(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights scaled to mean one: their unit does not matter."""
    return np.asarray(weight / weight.mean())


def _class_weights(
    class_index: NDArray[np.int64], classes: NDArray[Any], class_weight: str | Mapping[Any, float]
) -> NDArray[np.float64]:
    if isinstance(class_weight, str):
        return weights_of_counts(np.bincount(class_index, minlength=len(classes)), class_weight)
    weights = np.ones(len(classes))
    known = classes.tolist()
    for label, factor in class_weight.items():
        if label not in known:
            by_text = {str(name).lower(): name for name in known}
            nearest = nearest_known(label, by_text)
            hint = "" if nearest is None else f" Did you mean {by_text[nearest]!r}?"
            raise ArgumentError(
                f"class_weight has a factor for {label!r}, which is not a class.{hint}"
                f" The classes of y are {known}."
            )
        weights[known.index(label)] = check_real(f"class_weight[{label!r}]", factor, 0.0)
    return weights
