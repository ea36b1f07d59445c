"""What a fit draws its generators from."""

from typing import Any

from sklearn.utils import check_random_state

from sensorseq.errors import ArgumentError


def draw_entropy(random_state: Any) -> int:
    """Return the number that all generators of a fit are made from.

    Parameters
    ----------
    random_state : None, int or numpy.random.RandomState
        As scikit-learn takes it.

    Raises
    ------
    ArgumentError
        If it is something else.
    """
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise ArgumentError(
            f"random_state={random_state!r} must be an integer of 0 or more and below 2**32, a"
            " numpy.random.RandomState, or None."
        ) from error
