"""Member: a trained model of windows, whose logits are part of a weighted sum."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512  # number of windows described together, because features take much memory


class Member(Protocol):
    """A trained model of scaled windows; it is never changed after its fit."""

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows (n, t, c); `lengths` is None if all are full.

        The logits of a window do not depend on the other windows.
        """

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the member reads these channels and has these outputs."""


Kinds = Mapping[str, Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]]], Member]]
"""The functions that restore members from their `state`, by the member's name."""


def in_blocks(
    logits: Callable[[NDArray[Any], NDArray[np.int64] | None], NDArray[np.floating]],
    X: NDArray[Any],
    lengths: NDArray[np.int64] | None,
    n_outputs: int,
) -> NDArray[np.float64]:
    """Return the logits (n, n_outputs) of windows, computed for a few hundred at a time."""
    of_all = np.empty((len(X), n_outputs))
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        of_all[rows] = logits(X[rows], None if lengths is None else lengths[rows])
    return of_all


def check_sizes(sizes: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise a ValueError unless a member has the expected numbers of channels and outputs."""
    if sizes != expected:
        raise ValueError(
            f"features of {sizes[0]} channels with {sizes[1]} outputs; the model has"
            f" {expected[0]} channels and {expected[1]} outputs"
        )


def finite(what: str, value: Any) -> float:
    """Return a number from a file as a float, or raise a ValueError if it is not finite."""
    if type(value) not in (int, float) or not np.isfinite(float(value)):
        raise ValueError(f"{what} is {value!r}")
    return float(value)
