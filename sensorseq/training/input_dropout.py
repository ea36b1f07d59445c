"""Dropout of what the network reads: other samples of the training windows in each epoch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.training.stored import Change


def drop_inputs(
    X: NDArray[Any], rows: NDArray[np.int64], probability: float, seed: int, epoch: int
) -> None:
    """Set values of scaled windows to zero at random and divide the others by what is left of one.

    Parameters
    ----------
    X : ndarray of shape (n, t, c)
        Changed in place.
    rows : ndarray of shape (n,), int64
        Which window of the training part each is; the mask depends on it, `seed` and `epoch` alone.
    probability : float
        Of a zero, in [0, 1).
    seed, epoch : int
        Equal ones, equal masks.
    """
    factor = X.dtype.type(1.0 / (1.0 - probability))
    for window, row in zip(X, rows, strict=True):
        counter = np.array([0, epoch, 0, 0], np.uint64)
        key = np.array([seed, row], np.uint64)
        drawn = np.random.Generator(np.random.Philox(counter=counter, key=key))
        window *= np.where(drawn.random(window.shape, np.float32) < probability, 0, factor)


class InputDropout:
    """The training windows of each epoch with inputs dropped, a function of its number alone.

    The mask of a window is redrawn in each epoch, so at each step that it is part of, unless
    ``sampler="balanced"`` draws it more than once in an epoch.

    Parameters
    ----------
    probability : float
        Of a zero, in (0, 1).
    seed : SeedSequence
        Equal seeds, equal masks.
    windows : callable
        Gives the scaled windows (N, T, C) of an epoch, or the `Change` of windows that are read
        from a file; what it gives is changed.
    """

    def __init__(
        self, probability: float, seed: np.random.SeedSequence, windows: Callable[[int], Any]
    ) -> None:
        self._probability = probability
        # apart from the streams that the engine and an augmentation draw of the same seed
        drawn = np.random.SeedSequence([*seed.generate_state(4), 2]).generate_state(1)
        self._seed = int(drawn[0])
        self._windows = windows

    def __call__(self, epoch: int) -> Any:
        """Return the windows of an epoch, counted from 1, or the change that makes them."""
        given = self._windows(epoch)

        def drop(X: NDArray[Any], rows: NDArray[np.int64]) -> None:
            drop_inputs(X, rows, self._probability, self._seed, epoch)

        if isinstance(given, Change):
            return given._replace(scaled=drop)
        drop(given, np.arange(len(given)))
        return given
