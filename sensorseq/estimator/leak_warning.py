"""Say when windows on both sides of the validation split hold the same samples."""

import warnings

import numpy as np

from sensorseq.errors import LeakWarning
from sensorseq.preprocessing.shared_stretches import shared_stretches
from sensorseq.training.parts import Part
from sensorseq.training.stored import is_stored

_SHARE = 0.25  # of a window; less of an overlap tells the network little
_TOLERATED = 0.05  # of the validation windows: a sensor at rest may repeat itself


def warn_of_shared_samples(train: Part, validation: Part | None, *, is_drawn: bool) -> None:
    """Warn when validation windows overlap training windows, and say how to keep them apart.

    Parameters
    ----------
    train, validation : Part
        The two sides.
    is_drawn : bool
        Whether `fit` drew the validation part itself.
    """
    if validation is None or not is_drawn or is_stored(train.sequences):
        return  # of windows that stay in their file, whole recordings are held out
    sides = (train.sequences, validation.sequences)
    n_train, n_validation = (len(side) for side in sides)
    X = np.concatenate([np.asarray(side.X, np.float32) for side in sides])
    lengths = np.concatenate([side.lengths for side in sides])
    rows = np.arange(n_train, n_train + n_validation)
    found, _ = shared_stretches(X, lengths, rows, np.arange(n_train), share=_SHARE)
    if len(found) < 2 or len(found) <= _TOLERATED * n_validation:
        return
    warnings.warn(
        f"{len(found)} of the {n_validation} windows held out for validation hold samples of"
        " training windows: they overlap, so the validation score, early stopping and fluctuation_"
        " are too good. Give groups= with the recording of each window. In a search, a"
        " cross-validation or a pipeline, call sklearn.set_config(enable_metadata_routing=True)"
        " first, and give it groups.",
        LeakWarning,
        stacklevel=4,
    )
