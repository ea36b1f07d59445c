"""Check the labels of a fit, convert them to class indices, weight windows, and draw a seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sensorseq.base.checks import check_per_window, check_real, is_missing_label
from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known
from sensorseq.prediction.checked_windows import as_array
from sensorseq.preprocessing.windowing.balance import balanced_weights

_FEW_CLASSES = 10  # up to this many classes may have one window each, as in a quick trial


def read_labels(
    y: Any,
    n_windows: int,
    name: str,
    owner: str = "X",
    *,
    classes: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return the window labels; for one-hot columns without `classes`, also return the classes."""
    if y is None:
        raise InputError(f"{name} is None; give labels.")
    if np.ma.is_masked(y):
        n_masked = int(np.ma.getmaskarray(y).sum())
        raise InputError(
            f"{name} is masked for {n_masked} of {len(y)} windows. Leave these windows out: set"
            f" keep = ~np.ma.getmaskarray({name}), then give X[keep], {name}[keep], and also"
            " groups[keep] and lengths[keep], if used."
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
    if checked.dtype == object and all(isinstance(k, int | float) for k in checked.tolist()):
        checked = np.array(checked.tolist())  # numbers that are stored as objects
    if classes is None and checked.dtype.kind != "f":
        _check_number_of_classes(len(set(checked.tolist())), n_windows, name)
    try:
        check_classification_targets(checked)
    except ValueError as error:
        values = np.unique(checked).tolist()
        kind = "objects" if checked.dtype == object else "numbers"
        raise InputError(
            f"Unknown label type: {name} has {len(values)} different {kind} for {n_windows}"
            f" windows, starting with {values[0]!r}; classes must be strings or whole"
            " numbers."
        ) from error
    return checked, None


def read_known_labels(
    y: Any,
    n_windows: int,
    name: str,
    owner: str,
    classes: NDArray[Any],
    problem: str = "is not in the y of fit",
) -> NDArray[np.int64]:
    """Return the class indices of labels, which must all be among the fit's `classes`.

    `problem` completes the error message about a label that is not in `classes`.
    """
    labels, _ = read_labels(y, n_windows, name, owner, classes=classes)
    unknown = ~np.isin(labels, classes)
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise InputError(
            f"{name}[{row}] is {labels.tolist()[row]!r}, which {problem}; known classes:"
            f" {classes.tolist()}."
        )
    return np.searchsorted(classes, labels)


def _check_number_of_classes(n_classes: int, n_windows: int, name: str) -> None:
    """Raise an error if there are many classes, but fewer than two windows per class on average."""
    if n_classes > _FEW_CLASSES and 2 * n_classes > n_windows:
        raise InputError(
            f"{name} has {n_classes} classes for {n_windows} windows, fewer than two per class on"
            " average. Use more windows or fewer classes."
        )


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
    """Return the labels; raise an error that names the row if a label is missing or infinite."""
    values = y.tolist()
    for row, label in enumerate(values):
        if _is_no_label(label):
            n, keep = sum(map(_is_no_label, values)), f"pandas.notna({name})"
            if isinstance(label, str):
                keep = f"[bool(label.strip()) for label in {name}]"
            elif not is_missing_label(label):
                keep = f"np.isfinite({name})"
            raise InputError(
                f"{name}[{row}] is {label!r}, which is not a label ({n} of {len(values)} windows)."
                f" Leave these windows out: set keep = {keep}, then give X[keep], {name}[keep], and"
                " also groups[keep] and lengths[keep], if used."
            )
    kinds = {"text" if isinstance(label, str) else "numbers" for label in values}
    if len(kinds) > 1:
        row = next(
            i for i, v in enumerate(values) if isinstance(v, str) != isinstance(values[0], str)
        )
        raise InputError(
            f"{name} mixes strings and numbers: {name}[0] is {values[0]!r}, {name}[{row}] is"
            f" {values[row]!r}; labels must all have one type."
        )
    return y


def _is_no_label(label: Any) -> bool:
    """Test whether a label is missing, blank or infinite."""
    if isinstance(label, str):
        return not label.strip()
    return is_missing_label(label) or label in (float("inf"), float("-inf"))


def check_class_weight(class_weight: Any) -> None:
    """Raise an error unless `class_weight` is None, one of the known names, or a mapping."""
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, ("balanced",))
    elif not (class_weight is None or isinstance(class_weight, Mapping)):
        raise ArgumentError(
            f"class_weight={class_weight!r} must be None, 'balanced' or a dictionary of labels and"
            " weights."
        )


def window_weights(
    class_index: NDArray[np.int64],
    classes: NDArray[Any],
    class_weight: str | Mapping[Any, float] | None,
    sample_weight: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Return the weight of each window in the loss, with mean one; None if there are no weights."""
    if class_weight is None and sample_weight is None:
        return None
    weight = np.ones(len(class_index)) if sample_weight is None else sample_weight.copy()
    if class_weight is not None:
        weight *= _class_weights(class_index, classes, class_weight)[class_index]
    if not weight.any():
        raise InputError("class_weight and sample_weight give every window a weight of zero.")
    return np.asarray(weight / weight.mean())


def _class_weights(
    class_index: NDArray[np.int64], classes: NDArray[Any], class_weight: str | Mapping[Any, float]
) -> NDArray[np.float64]:
    if isinstance(class_weight, str):
        return balanced_weights(np.bincount(class_index, minlength=len(classes)))
    weights = np.ones(len(classes))
    names = classes.tolist()
    for label, factor in class_weight.items():
        if label not in names:
            raise ArgumentError(
                f"class_weight has a weight for {label!r}, which is not a class."
                f"{nearest_label(label, names)}"
                f" The classes of y are {names}."
            )
        weights[names.index(label)] = check_real(f"class_weight[{label!r}]", factor, 0.0)
    return weights


def nearest_label(label: Any, names: Iterable[Any]) -> str:
    """Return a question that suggests the most similar name, or an empty string."""
    by_text = {str(name).lower(): name for name in names}
    nearest = nearest_known(label, by_text)
    return "" if nearest is None else f" Did you mean {by_text[nearest]!r}?"


@dataclass
class ClassTarget:
    """Converts labels to class indices; `classes` starts as None unless a fit is continued."""

    classes: NDArray[Any] | None = None
    class_weight: str | Mapping[Any, float] | None = None

    @property
    def learned(self) -> NDArray[Any]:
        """The classes, which are known after `learn`."""
        assert self.classes is not None
        return self.classes

    @property
    def n_outputs(self) -> int:
        """The number of logits: one for each class."""
        return len(self.learned)

    def learn(self, y: Any, n_windows: int, takes_part: NDArray[np.bool_]) -> NDArray[Any]:
        """Learn the classes; return the class indices of the windows that are used."""
        labels, one_hot_classes = read_labels(y, n_windows, "y")
        present = np.unique(labels[takes_part])
        if len(present) < 2:
            raise InputError(
                f"y has only one class ({present.tolist()[0]!r}); a classifier needs at least two."
            )
        classes = present if one_hot_classes is None else one_hot_classes
        if self.classes is not None and not np.array_equal(classes, self.classes):
            raise InputError(
                f"y has the classes {classes.tolist()}, but warm_start=True continues with"
                f" {self.classes.tolist()}; use warm_start=False."
            )
        self.classes = classes
        return np.searchsorted(classes, labels[takes_part])

    def read(self, y: Any, n_windows: int, name: str, owner: str) -> NDArray[Any]:
        """Return the class indices of labels; raise an error if the class of a label is unknown."""
        return read_known_labels(y, n_windows, name, owner, self.learned)

    def weigh(
        self, target: NDArray[Any], weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Return the products of the window weights and class weights."""
        return window_weights(target, self.learned, self.class_weight, weight)

    def facts(self, train: NDArray[Any], validation: NDArray[Any] | None) -> dict[str, Any]:
        """Return the facts that the report needs about the targets of both parts."""
        counts = None if validation is None else np.bincount(validation)
        return {
            "n_classes": self.n_outputs,
            "n_val": None if counts is None else int(counts.sum()),
            "n_train": len(train),
            "majority_fraction": None if counts is None else float(counts.max() / counts.sum()),
        }


def draw_entropy(random_state: Any) -> int:
    """Return the entropy from which all generators of a fit are seeded."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise ArgumentError(
            f"random_state={random_state!r} must be an integer from 0 to 2**32 - 1, a"
            " numpy.random.RandomState, or None."
        ) from error
