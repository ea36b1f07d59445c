"""Compare labels with the classes a model knows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError, nearest_known


def check_known_labels(labels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise when a label is not one of the classes a model knows.

    Raises
    ------
    InputError
        The message names the label and the nearest class.
    """
    known = classes.tolist()
    for label in np.unique(labels).tolist():
        if label not in known:
            by_text = {str(name).lower(): name for name in known}
            nearest = nearest_known(label, by_text)
            hint = f" Did you mean {by_text[nearest]!r}?" if nearest else ""
            raise InputError(
                f"label {label!r} is not one of the classes the model knows: "
                f"{', '.join(str(name) for name in known)}.{hint} Remove those windows, or train a"
                " model on them."
            )


def index_of(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of each label among the classes."""
    order = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([order[label] for label in labels.tolist()], np.int64)
