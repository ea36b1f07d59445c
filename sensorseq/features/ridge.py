"""Ridge regression on more features than windows, with predictions for windows left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to fit on, rows to predict

# Penalties that are tried, as a share of windows x mean squared norm of a centred window.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BLOCK = 4096  # features


@dataclass(frozen=True)
class RidgeFit:
    """Ridge regression fitted on all windows, and its predictions for each fold's own windows.

    `weight` (F, K) is for features as they were given; `out_of_fold` (n, K) is NaN for a window in
    no fold; `strength` is the chosen one of the `strengths`.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    out_of_fold: NDArray[np.float64]
    strength: float


def fit_ridge(
    Z: NDArray[np.float32],
    target: NDArray[np.float64],
    sample_weight: NDArray[np.float64],
    folds: Sequence[Fold],
    rows: NDArray[np.int64],
    loss: Callable[[NDArray[np.float64]], float],
    columns: Sequence[NDArray[np.int64]] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> RidgeFit:
    """Fit weighted ridge regression to `target` (n, K); the penalty with the smallest `loss` wins.

    The features Z (n, F) are float32 of similar scale. `folds` are (fit rows, test rows), each
    window tested at most once; `loss` gets the scores (n, K) of windows left out, NaN where there
    are none. `columns` are the features that each fold, and then the final fit on `rows`, may use.
    The problem is solved among windows rather than features: one matrix of their products serves
    every fold and penalty.
    """
    rows = rows[sample_weight[rows] > 0]
    shared = Z @ Z.T if columns is None else np.empty((0, 0), np.float32)

    def products_of(number: int) -> NDArray[np.float32]:
        if columns is None:
            return shared
        own = Z[:, columns[number]]
        return np.asarray(own @ own.T)

    tested: list[NDArray[np.float64]] = [np.full(target.shape, np.nan) for _ in strengths]
    for number, (fit_rows, test_rows) in enumerate(folds):
        own_rows = fit_rows[sample_weight[fit_rows] > 0]
        solved = _Solver(products_of(number), target, sample_weight, own_rows)
        for scores, strength in zip(tested, strengths, strict=True):
            dual, constant = solved.solve(strength)
            scores[test_rows] = solved.centred(test_rows) @ dual + constant
    best = int(np.argmin([loss(scores) for scores in tested]))
    solved = _Solver(products_of(len(folds)), target, sample_weight, rows)
    dual, constant = solved.solve(strengths[best])
    # weights of features: those of windows, taken through the centred features
    of_windows = dual - solved.share[:, None] * dual.sum(axis=0)
    weight = np.zeros((Z.shape[1], target.shape[1]))
    centre = np.zeros(Z.shape[1])
    used = np.arange(Z.shape[1]) if columns is None else columns[-1]
    for start in range(0, len(used), _BLOCK):  # in double a block at a time: Z may be large
        block = used[start : start + _BLOCK]
        values = Z[np.ix_(rows, block)].astype(np.float64)
        weight[block], centre[block] = values.T @ of_windows, solved.share @ values
    return RidgeFit(weight, constant - centre @ weight, tested[best], strengths[best])


class _Solver:
    """Ridge regression on some of the windows, from the products of all."""

    def __init__(
        self,
        products: NDArray[np.float32],
        target: NDArray[np.float64],
        sample_weight: NDArray[np.float64],
        rows: NDArray[np.int64],
    ) -> None:
        self._products, self._rows = products, rows
        weight = sample_weight[rows]
        self.share = weight / weight.sum()
        self._constant = self.share @ target[rows]
        self._target = target[rows] - self._constant
        own = products[np.ix_(rows, rows)].astype(np.float64)
        mean_norm = float(np.mean(np.diag(own)))
        self._to_mean = own @ self.share  # product of each window with the mean one
        self._mean_squared = float(self.share @ self._to_mean)
        self._own = self._centre(own, self._to_mean)
        centred_norm = float(np.mean(np.diag(self._own)))
        # of windows with equal features only rounding is left, and any penalty gives their mean
        mean_norm = max(centred_norm, 1e-3 * mean_norm)
        self._unit = len(rows) * mean_norm if mean_norm > 0 else 1.0
        self._relative = weight / weight.mean()

    def _centre(
        self, products: NDArray[np.float64], to_mean: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        products -= to_mean[:, None]  # in place: they may take hundreds of megabytes
        products -= self._to_mean[None, :]
        products += self._mean_squared
        return products

    def centred(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the products of other windows with those of the fit, both less the mean."""
        products = self._products[np.ix_(rows, self._rows)].astype(np.float64)
        return self._centre(products, products @ self.share)

    def solve(self, strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weight of each window and the constant."""
        matrix = self._own.copy(order="F")  # which LAPACK factors in place
        matrix[np.diag_indices_from(matrix)] += strength * self._unit / self._relative
        return cho_solve(cho_factor(matrix, overwrite_a=True), self._target), self._constant
