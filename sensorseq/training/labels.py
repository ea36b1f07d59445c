"""Read labels and seeds in scikit-learn's forms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sensorseq.checks import check_per_window
from sensorseq.errors import ArgumentError, InputError
from sensorseq.prediction.windows import as_array
from sensorseq.training.inputs import check_labels, from_one_hot

_FEW_CLASSES = 10  # up to this many classes may have one window each, as in a first try


def read_labels(
    y: Any,
    n_windows: int,
    name: str,
    owner: str = "X",
    *,
    classes: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return a label per window, and the given classes or those of one-hot columns."""
    if y is None:
        raise InputError(f"{name} is None; give labels.")
    if np.ma.is_masked(y):
        n_masked = int(np.ma.getmaskarray(y).sum())
        raise InputError(
            f"{name} is masked for {n_masked} of {len(y)} windows. Leave these out: with keep ="
            f" ~np.ma.getmaskarray({name}), give X[keep], {name}[keep], and so on with groups and"
            " lengths."
        )
    try:
        labels = as_array(y)
    except ValueError as error:
        raise InputError(f"{name} is ragged; give one label for each window. ({error})") from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.ndim == 2:
        if len(labels) != n_windows:
            raise InputError(
                f"{name} has {len(labels)} one-hot rows, but {owner} has {n_windows} windows."
            )
        if classes is None:
            _check_number_of_classes(labels.shape[1], n_windows, name)
            return from_one_hot(labels, name), np.arange(labels.shape[1])
        if labels.shape[1] != len(classes):
            raise InputError(
                f"{name} has {labels.shape[1]} one-hot columns, but fit saw {len(classes)} classes;"
                " give one column per class, in the order of classes_, or one label per window."
            )
        return classes[from_one_hot(labels, name)], None
    checked = check_per_window(name, labels, n_windows, owner=owner)
    assert checked is not None
    check_labels(checked, name)
    if checked.dtype == object and all(isinstance(one, int | float) for one in checked.tolist()):
        checked = np.array(checked.tolist())  # what is left of numbers beside None
    if classes is None and checked.dtype.kind != "f":
        _check_number_of_classes(len(set(checked.tolist())), n_windows, name)
    try:
        check_classification_targets(checked)
    except ValueError as error:
        values = np.unique(checked).tolist()
        kind = "objects" if checked.dtype == object else "numbers"
        raise InputError(
            f"Unknown label type: {name} holds {len(values)} different {kind} for {n_windows}"
            f" windows, starting with {values[0]!r}; classes must be text or whole"
            " numbers."
        ) from error
    return checked, None


def read_known_labels(
    y: Any,
    n_windows: int,
    name: str,
    owner: str,
    classes: NDArray[Any],
    what: str = "is not in the y of fit",
) -> NDArray[np.int64]:
    """Return the class indices of labels, which must all be among the fit's `classes`."""
    labels, _ = read_labels(y, n_windows, name, owner, classes=classes)
    unknown = ~np.isin(labels, classes)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise InputError(
            f"{name}[{row}] is {labels.tolist()[row]!r}, which {what}; known classes:"
            f" {classes.tolist()}."
        )
    return np.searchsorted(classes, labels)


def _check_number_of_classes(n_classes: int, n_windows: int, name: str) -> None:
    """Raise if there are many classes, and most of them have only one window."""
    if n_classes > _FEW_CLASSES and 2 * n_classes > n_windows:
        raise InputError(
            f"{name} holds {n_classes} classes for {n_windows} windows, fewer than two per class on"
            " average. Give more windows, or fewer classes."
        )


def draw_entropy(random_state: Any) -> int:
    """Return the entropy that seeds all generators of a fit."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise ArgumentError(
            f"random_state={random_state!r} must be an integer of 0 or more and below 2**32, a"
            " numpy.random.RandomState, or None."
        ) from error
