"""Ridge regression on many features, with cross-validated predictions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

Floats = NDArray[np.float64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # indices of training and test windows

# Candidate penalties, as fractions of the sum of the squared norms of the centered windows.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_WINDOWS = 6_000  # largest number n of windows to fit on, because the time grows with n^3
_BLOCK = 4096  # number of features or windows that are converted to double at a time


@dataclass(frozen=True)
class RidgeFit:
    """The final ridge regression, and predictions for the test windows of each fold.

    `weight` (F, K) applies to features that are not centered. `out_of_fold` (n, K) is NaN for a
    window that is in no test fold. `strength` is the best of the `strengths` given to `fit_ridge`.
    """

    weight: Floats
    bias: Floats
    out_of_fold: Floats
    strength: float


def fit_ridge(
    Z: NDArray[np.float32],
    target: Floats,
    sample_weight: Floats,
    folds: Sequence[Fold],
    rows: NDArray[np.int64],
    loss: Callable[[Floats], float],
    columns: Sequence[NDArray[np.int64]] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> RidgeFit:
    """Fit weighted ridge regression to `target` (n, K) with the penalty that minimizes `loss`.

    The features Z (n, F) are float32 of similar scale. Each of the `folds` is a pair of index
    arrays: the windows to fit on and the windows to test on. Each window is tested at most once.
    `loss` is a function of the out-of-fold scores (n, K), which are NaN for untested windows.
    `columns` contains the indices of the features that may be used: an array for each fold, and a
    last one for the final fit on `rows`. Each fit is solved in its primal or dual form, whichever
    is smaller.
    """
    rows = rows[sample_weight[rows] > 0]

    @cache
    def products_of_all() -> NDArray[np.float32]:
        return Z @ Z.T

    def solver_of(number: int, fit_rows: NDArray[np.int64]) -> _OfWindows | _OfFeatures:
        problem = target, sample_weight, fit_rows
        used = None if columns is None else columns[number]
        if (Z.shape[1] if used is None else len(used)) < len(fit_rows):
            return _OfFeatures(Z, used, *problem)
        products = products_of_all() if used is None else Z[:, used] @ Z[:, used].T
        return _OfWindows(Z, used, products, *problem)

    tested: list[Floats] = [np.full(target.shape, np.nan) for _ in strengths]

    def test(number: int, fit_rows: NDArray[np.int64], test_rows: NDArray[np.int64]) -> None:
        solver = solver_of(number, fit_rows[sample_weight[fit_rows] > 0])  # freed on return
        for scores, strength in zip(tested, strengths, strict=True):
            scores[test_rows] = solver.predict(strength, test_rows)

    for number, fold in enumerate(folds):
        test(number, *fold)
    best = int(np.argmin([loss(scores) for scores in tested]))
    solver = solver_of(len(folds), rows)
    of_used, bias = solver.weigh(strengths[best])
    weight = np.zeros((Z.shape[1], target.shape[1]))
    weight[slice(None) if columns is None else columns[-1]] = of_used
    return RidgeFit(weight, bias, tested[best], strengths[best])


def _unit_of(norm: float, centered_norm: float) -> float:
    """Return the penalty of strength 1: the sum of the squared norms of the centered windows."""
    # If all windows are equal, centering leaves only rounding errors, so the lower bound is used.
    return max(centered_norm, 1e-2 * norm) or 1.0


class _OfFeatures:
    """Ridge regression in its primal form, from inner products of features."""

    def __init__(
        self,
        Z: NDArray[np.float32],
        used: NDArray[np.int64] | None,
        target: Floats,
        sample_weight: Floats,
        rows: NDArray[np.int64],
    ) -> None:
        self._Z, self._used = Z, used
        weight = sample_weight[rows]
        share, root = weight / weight.sum(), np.sqrt(weight / weight.mean())
        self._constant = share @ target[rows]
        self._mean: Any = 0.0
        norm = 0.0
        for at, values in self._blocks(rows):
            self._mean = self._mean + share[at] @ values
            norm += float(np.square(values, out=values).sum())
        centered_norm = 0.0
        for _, values in self._blocks(rows):  # computed in place, because a block is large
            values -= self._mean
            centered_norm += float(np.square(values, out=values).sum())
        self._products: Any = None
        self._of_target: Any = 0.0
        for at, values in self._blocks(rows):
            values -= self._mean
            values *= root[at, None]
            self._of_target = self._of_target + values.T @ (
                root[at, None] * (target[rows[at]] - self._constant)
            )
            self._products = dsyrk(  # fills only the upper triangle
                1.0, values.T, beta=1.0, c=self._products, overwrite_c=True
            )
        self._unit = _unit_of(norm, centered_norm)

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, Floats]]:
        """Yield windows in double precision, in blocks that limit the memory."""
        for start in range(0, len(rows), _BLOCK):
            at = slice(start, start + _BLOCK)
            block = rows[at] if self._used is None else np.ix_(rows[at], self._used)
            yield at, self._Z[block].astype(np.float64)

    def predict(self, strength: float, rows: NDArray[np.int64]) -> Floats:
        """Return the scores of the windows with the indices `rows`."""
        weight, bias = self.weigh(strength)
        scores = np.empty((len(rows), len(bias)))
        for at, values in self._blocks(rows):
            scores[at] = values @ weight + bias
        return scores

    def weigh(self, strength: float) -> tuple[Floats, Floats]:
        """Return the weight of each feature, and the bias."""
        matrix = self._products.copy(order="F")  # factored in place by LAPACK
        matrix[np.diag_indices_from(matrix)] += strength * self._unit
        weight = cho_solve(cho_factor(matrix, overwrite_a=True), self._of_target)
        return weight, self._constant - self._mean @ weight


class _OfWindows:
    """Ridge regression in its dual form, from inner products of windows."""

    def __init__(
        self,
        Z: NDArray[np.float32],
        used: NDArray[np.int64] | None,
        products: NDArray[np.float32],
        target: Floats,
        sample_weight: Floats,
        rows: NDArray[np.int64],
    ) -> None:
        self._Z, self._used, self._products, self._rows = Z, used, products, rows
        weight = sample_weight[rows]
        self._share, self._relative = weight / weight.sum(), weight / weight.mean()
        self._constant = self._share @ target[rows]
        self._target = target[rows] - self._constant
        of_rows = products[np.ix_(rows, rows)].astype(np.float64)
        norm = float(np.trace(of_rows))
        self._to_mean = of_rows @ self._share  # inner product of each window with the mean window
        self._mean_squared = float(self._share @ self._to_mean)
        self._centered = self._center(of_rows, self._to_mean)
        self._unit = _unit_of(norm, float(np.trace(self._centered)))

    def _center(self, products: Floats, to_mean: Floats) -> Floats:
        products -= to_mean[:, None]  # in place, because products may take hundreds of megabytes
        products -= self._to_mean[None, :]
        products += self._mean_squared
        return products

    def _solve(self, strength: float) -> Floats:
        """Return the dual coefficients, one for each window and output."""
        matrix = self._centered.copy(order="F")  # factored in place by LAPACK
        matrix[np.diag_indices_from(matrix)] += strength * self._unit / self._relative
        return np.asarray(cho_solve(cho_factor(matrix, overwrite_a=True), self._target))

    def predict(self, strength: float, rows: NDArray[np.int64]) -> Floats:
        """Return the scores of the windows with the indices `rows`."""
        products = self._products[np.ix_(rows, self._rows)].astype(np.float64)
        centered = self._center(products, products @ self._share)
        return np.asarray(centered @ self._solve(strength) + self._constant)

    def weigh(self, strength: float) -> tuple[Floats, Floats]:
        """Return the weight of each feature, and the bias."""
        solution = self._solve(strength)
        # the weights of features are the transposed centered features times the dual coefficients
        of_windows = solution - self._share[:, None] * solution.sum(axis=0)
        used = np.arange(self._Z.shape[1]) if self._used is None else self._used
        weight, center = np.zeros((len(used), solution.shape[1])), np.zeros(len(used))
        for start in range(0, len(used), _BLOCK):
            at = slice(start, start + _BLOCK)
            values = self._Z[np.ix_(self._rows, used[at])].astype(np.float64)
            weight[at], center[at] = values.T @ of_windows, self._share @ values
        return weight, self._constant - center @ weight
