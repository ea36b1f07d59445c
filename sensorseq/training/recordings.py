"""One decision for a recording, from the probabilities of its windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def recording_prediction(
    probability: NDArray[np.float64],
) -> tuple[int, int, NDArray[np.float64]]:
    """Return the vote, the class of highest mean probability, and the mean of one recording.

    Parameters
    ----------
    probability : ndarray of shape (n, K)
        Of its windows.
    """
    mean = probability.mean(axis=0)
    votes = np.bincount(probability.argmax(axis=1), minlength=probability.shape[1])
    tied = np.flatnonzero(votes == votes.max())
    return int(tied[np.argmax(mean[tied])]), int(mean.argmax()), mean


def iter_recordings(recording_id: NDArray[Any]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """Yield each recording and the rows of its windows, in the order of first appearance."""
    names, first, index = np.unique(recording_id, return_index=True, return_inverse=True)
    for place in np.argsort(first):
        yield names.tolist()[place], np.flatnonzero(index == place)
