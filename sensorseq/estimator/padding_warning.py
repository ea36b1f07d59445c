"""Warn when padding would be read as signal: `lengths` were given to fit, but not here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import warn_caller


def warn_of_padding(X: NDArray[Any], lengths: NDArray[np.int64], *, were_lengths: bool) -> None:
    """Warn when windows of full length end in zeros, but the network was trained on shorter ones.

    scikit-learn hands `lengths` to `fit` and to `score`, but not to everything that predicts.

    Parameters
    ----------
    X : ndarray of shape (n, t, c)
        Windows to predict.
    lengths : ndarray of shape (n,)
        Their valid steps.
    were_lengths : bool
        Whether `fit` saw windows that were shorter than the longest.
    """
    n_timesteps = X.shape[1]
    if not were_lengths or n_timesteps < 2 or (lengths < n_timesteps).any():
        return
    n_padded = int((X[:, -2:] == 0).all(axis=(1, 2)).sum())
    if n_padded:
        warn_caller(
            f"{n_padded} of the {len(X)} windows end in zeros in every channel. fit was given"
            " lengths but this call was not, so the zeros are read as signal. Give lengths=, or"
            " give windows as a list of arrays of shape (t_i, c), which also works where"
            " scikit-learn does not pass metadata on.",
        )
