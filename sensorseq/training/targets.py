"""Labels of a fit as class indices, with their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.training.inputs import window_weights
from sensorseq.training.labels import read_known_labels, read_labels


@dataclass
class ClassTarget:
    """Labels as class indices; `classes` are those of the fit that is continued, or None."""

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
