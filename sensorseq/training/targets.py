"""Targets of the estimators, classes or numbers, and how outputs become predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.predictor import CLASSIFICATION, REGRESSION
from sensorseq.training.inputs import check_values, mean_one, window_weights
from sensorseq.training.labels import read_known_labels, read_labels


@dataclass
class ClassTarget:
    """Labels as class indices; `classes` are those of the fit that is continued, or None."""

    task: ClassVar[str] = CLASSIFICATION
    classes: NDArray[Any] | None = None
    class_weight: str | Mapping[Any, float] | None = None

    @property
    def known(self) -> NDArray[Any]:
        """The classes, once they are learned."""
        assert self.classes is not None
        return self.classes

    @property
    def n_outputs(self) -> int:
        """A logit for each class."""
        return len(self.known)

    def learn(self, y: Any, n_windows: int, takes_part: NDArray[np.bool_]) -> NDArray[Any]:
        """Learn the classes; return the class indices of the windows that take part."""
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
        """Return the class indices of other labels."""
        return read_known_labels(y, n_windows, name, owner, self.known)

    def learn_scale(self, target: NDArray[Any]) -> None:
        """Do nothing: an index has no scale."""

    def encode(self, target: NDArray[Any]) -> NDArray[Any]:
        """Return the class indices unchanged."""
        return target

    def weigh(
        self, target: NDArray[Any], weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Return the product of window and class weights."""
        return window_weights(target, self.known, self.class_weight, weight)

    def facts(self, train: NDArray[Any], validation: NDArray[Any] | None) -> dict[str, Any]:
        """Return the facts about the targets of both parts that the report needs."""
        counts = None if validation is None else np.bincount(validation)
        return {
            "n_classes": self.n_outputs,
            "n_val": None if counts is None else int(counts.sum()),
            "n_train": len(train),
            "majority_fraction": None if counts is None else float(counts.max() / counts.sum()),
        }


@dataclass
class ValueTarget:
    """One or more numbers for each window, standardized for the network.

    `n_outputs` is 0 before a fit; `mean` and `sd` (n_outputs,) are those of a fit that is
    continued. `is_flat` is True if y was (n,) and not (n, k).
    """

    task: ClassVar[str] = REGRESSION
    scale: str | None
    n_outputs: int = 0
    mean: NDArray[np.float64] | None = None
    sd: NDArray[np.float64] | None = None
    is_flat: bool = False

    def learn(self, y: Any, n_windows: int, takes_part: NDArray[np.bool_]) -> NDArray[Any]:
        """Learn the number of values; return those of the windows that take part."""
        values = check_values(y, n_windows, "y")
        columns = values.reshape(n_windows, -1)
        if takes_part.sum() < 2:
            raise InputError(
                f"X has n_samples={int(takes_part.sum())} to train on; a regressor needs at least"
                " two windows."
            )
        if self.n_outputs and columns.shape[1] != self.n_outputs:
            raise InputError(
                f"y has {columns.shape[1]} values for each window, but earlier calls had"
                f" {self.n_outputs}; give the same number, or start over with fit and"
                " warm_start=False."
            )
        self.is_flat = values.ndim == 1
        self.n_outputs = columns.shape[1]
        return columns[takes_part]

    def read(self, y: Any, n_windows: int, name: str, owner: str) -> NDArray[Any]:
        """Check further values, which need the same number of columns, and return them."""
        columns = check_values(y, n_windows, name, owner).reshape(n_windows, -1)
        if columns.shape[1] != self.n_outputs:
            raise InputError(
                f"{name} has {columns.shape[1]} values for each window, but y has {self.n_outputs}."
            )
        return columns

    def learn_scale(self, target: NDArray[Any]) -> None:
        """Compute mean and sd of the training part, unless those of an earlier fit stay."""
        if self.mean is not None:
            return
        self.mean, self.sd = np.zeros(self.n_outputs), np.ones(self.n_outputs)
        if self.scale == "standard":
            sd = target.std(axis=0)
            self.mean, self.sd = target.mean(axis=0), np.where(sd > 0, sd, 1.0)

    def encode(self, target: NDArray[Any]) -> NDArray[Any]:
        """Standardize the values."""
        assert self.mean is not None
        assert self.sd is not None
        return np.asarray((target - self.mean) / self.sd)

    def weigh(
        self, target: NDArray[Any], weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64] | None:
        """Return the window weights."""
        return None if weight is None else mean_one(weight)

    def facts(self, train: NDArray[Any], validation: NDArray[Any] | None) -> dict[str, Any]:
        """Return the facts about the targets of both parts that the report needs."""
        return {"n_val": None if validation is None else len(validation), "n_train": len(train)}


FitTarget = ClassTarget | ValueTarget
