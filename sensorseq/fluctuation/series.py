"""A series of epochs, checked, and the scale on which a loss is looked at."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError

Floats = NDArray[np.float64]

SD_PER_MAD = 1.4826  # sd of a normal distribution over its median absolute deviation


class NullTest(NamedTuple):
    """What was measured, and what chance alone gives for it.

    Attributes
    ----------
    value : float
        Measured.
    null : ndarray of shape (n_resamples,)
        The same of data in which only chance is left.
    p : float
        Probability of a value as extreme by chance, never below ``1 / (n_resamples + 1)``; 1 where
        there is nothing to test.
    """

    value: float
    null: Floats
    p: float


def check_series(values: ArrayLike, minimum: int, name: str = "values") -> Floats:
    """Return finite values, one per epoch, as float64, or raise an error that names the gap."""
    series = np.asarray(values, np.float64)
    if series.ndim != 1:
        raise ArgumentError(f"{name} has shape {series.shape}; expected one value per epoch.")
    if not np.isfinite(series).all():
        epoch = int(np.flatnonzero(~np.isfinite(series))[0])
        raise ArgumentError(f"{name}[{epoch}] is {series[epoch]}; drop epochs without a number.")
    if len(series) < minimum:
        raise ArgumentError(f"{name} has {len(series)} epochs; at least {minimum} are needed.")
    return series


def softened_log(loss: ArrayLike, log_classes: float) -> Floats:
    """Return ``log(loss + 0.1 ln K)``: relative at an ordinary loss, flat at a vanishing one.

    The plain logarithm turns ripples of a loss that is practically zero into wild noise.

    Parameters
    ----------
    loss : array_like of shape (n_epochs,)
        Cross-entropy in nats, not negative.
    log_classes : float
        ``ln K``, the loss of a guess among K classes, in nats.

    Returns
    -------
    ndarray of shape (n_epochs,)

    Raises
    ------
    ArgumentError
        If a loss is negative beyond a tenth of ``ln K``, so that it has no logarithm.
    """
    series = check_series(loss, 0, "loss")
    softened = series + 0.1 * log_classes
    if len(softened) and softened.min() <= 0:
        raise ArgumentError(
            f"loss is {series.min():g}; a loss far below zero has no logarithm. Give a"
            " cross-entropy, in nats."
        )
    return np.log(softened)
