"""What the matrix of validation windows tells: who flips, and whether they flip together.

`correct` is of shape (n_epochs, n_windows): whether each window was predicted right after each
epoch. `groups` are codes of shape (n_windows,): the recording each window comes from.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.resampling import circular_shift_test
from sensorseq.fluctuation.series import Floats, NullTest


class AccuracyVariance(NamedTuple):
    """Variance of an accuracy from epoch to epoch, and what of it independent units explain.

    Squared fractions. With ``d_it`` the change of window i from epoch t to the next:

    Attributes
    ----------
    total : float
        ``V_tot = mean_t((sum_i d_it / n)^2) / 2``; of white noise about a level, its variance.
    independent : float
        ``V_ind = sum_i mean_t(d_it^2) / (2 n^2)``: were the windows to flip independently. At most
        ``p (1 - p) / n``, the binomial variance, and mostly far less: most windows never flip.
    grouped : float or None
        ``V_grp = sum_g mean_t((sum_{i in g} d_it)^2) / (2 n^2)``: were the groups to move
        independently; None without groups.
    n_windows : int
        n.
    """

    total: float
    independent: float
    grouped: float | None
    n_windows: int

    @property
    def ratio(self) -> float:
        """``R = V_tot / V_ind``: 1 for independent windows; NaN where none ever flips."""
        return self.total / self.independent if self.independent > 0 else np.nan

    @property
    def group_ratio(self) -> float:
        """``R_g = V_tot / V_grp``: 1 where groups move independently; NaN without groups."""
        return self.total / self.grouped if self.grouped else np.nan

    @property
    def n_effective(self) -> float:
        """``n / R``: how many independent windows would move like these."""
        return self.n_windows / self.ratio if self.ratio > 0 else np.nan


def accuracy_variance(correct: ArrayLike, groups: ArrayLike | None = None) -> AccuracyVariance:
    """Split the variance of an accuracy into that of its windows, its groups and the rest.

    Parameters
    ----------
    correct : array_like of bool of shape (n_epochs, n_windows)
        At least two epochs, from the end of the initial descent on: a rising accuracy would count
        as windows that move together.
    groups : array_like of int of shape (n_windows,), optional
        Codes of the recordings.
    """
    change = _changes(correct)
    n_windows = change.shape[1]
    scale = 2 * n_windows**2
    grouped = None
    if groups is not None:
        grouped = float((_by_group(change, groups) ** 2).mean(axis=0).sum()) / scale
    return AccuracyVariance(
        total=float((change.sum(axis=1) ** 2).mean()) / scale,
        independent=float((change**2).mean(axis=0).sum()) / scale,
        grouped=grouped,
        n_windows=n_windows,
    )


def common_mode_test(
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    n_shifts: int = 500,
    seed: int = 0,
) -> NullTest:
    """Test whether windows, or groups, flip in the same epochs more than chance lets them.

    `circular_shift_test` with R, or R_g where groups are given, as the value and its null. Small
    validation sets whose windows flip independently give R near 1 whatever their size; recordings
    that flip as blocks give R far above 1 and R_g near 1; a model that jumps as a whole raises
    both. With few groups the test sees nothing: see `MIN_GROUPS`.

    Parameters
    ----------
    correct, groups
        See `accuracy_variance`.
    n_shifts, seed
        See `circular_shift_test`.
    """
    change = _changes(correct)
    units = change if groups is None else _by_group(change, groups)
    test = circular_shift_test(units, n_shifts=n_shifts, seed=seed)
    apart = float((units**2).mean(axis=0).sum())
    if apart == 0:
        return NullTest(np.nan, np.full(n_shifts, np.nan), 1.0)
    return NullTest(test.value / apart, test.null / apart, test.p)


def flip_rates(correct: ArrayLike) -> Floats:
    """Return how often each window changes between right and wrong, per epoch, shape (n,)."""
    return np.asarray(np.abs(_changes(correct)).mean(axis=0))


def flip_share(rates: ArrayLike, share: float = 0.1) -> float:
    """Return what part of all flips the most restless `share` of the windows carry; 0 if none.

    All windows alike give `share` itself, a few that always flip give 1.
    """
    sorted_rates = np.sort(np.asarray(rates, np.float64))[::-1]
    n_top = max(int(np.ceil(share * len(sorted_rates))), 1)
    total = float(sorted_rates.sum())
    return float(sorted_rates[:n_top].sum()) / total if total > 0 else 0.0


def churn(predicted: ArrayLike) -> Floats:
    """Return the share of windows whose predicted class changes from each epoch to the next.

    Of shape (n_epochs - 1,). A window may go from one wrong class to another: an accuracy does not
    see that.
    """
    classes = np.asarray(predicted)
    return np.asarray((classes[1:] != classes[:-1]).mean(axis=1))


def prediction_entropy(predicted: ArrayLike) -> float:
    """Return the entropy of the predicted classes in nats: 0 when all windows get the same one.

    Parameters
    ----------
    predicted : array_like of int
        Predicted classes, of any shape; none at all give 0.
    """
    _, counts = np.unique(np.asarray(predicted), return_counts=True)
    share = counts / counts.sum() if len(counts) else np.ones(1)
    return float(-(share * np.log(share)).sum()) + 0.0


class CrossFit(NamedTuple):
    """An epoch chosen on one half of the validation windows and scored on the other.

    Attributes
    ----------
    accuracy : float
        Of the chosen epochs, on windows that had no part in the choice: a fraction.
    accuracy_error : float
        Its standard error over windows, or over groups.
    gain : float
        That accuracy less the one of the last epoch.
    gain_error : float
        Standard error of the gain.
    n_units : int
        Windows, or groups, that were halved.
    """

    accuracy: float
    accuracy_error: float
    gain: float
    gain_error: float
    n_units: int


def cross_fit(
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    score: ArrayLike | None = None,
    n_halvings: int = 50,
    seed: int = 0,
) -> CrossFit:
    """Return what the best epoch is worth without the luck of picking it.

    The epoch with the best mean score over a random half of the windows is evaluated on the other
    half, and the other way round; averaged over halvings. Epochs that tie count alike. Choosing on
    half of the windows is a little worse than on all: the accuracy errs to the low side.

    Parameters
    ----------
    correct : array_like of bool of shape (n_epochs, n_windows)
        At least two windows.
    groups : array_like of int of shape (n_windows,), optional
        Halves are of whole groups then; at least two.
    score : array_like of shape (n_epochs, n_windows), optional
        What the epoch is chosen by, the higher the better; `correct` when not given.
    n_halvings : int, default 50
        Random halvings.
    seed : int, default 0
        Of a generator of its own.
    """
    right = np.asarray(correct, np.float64)
    judged = right if score is None else np.asarray(score, np.float64)
    n_windows = right.shape[1]
    unit = np.arange(n_windows) if groups is None else _codes(groups, n_windows)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        raise ArgumentError(f"{n_units} unit(s) cannot be halved; at least 2 are needed.")
    rng = np.random.default_rng(seed)
    in_first = np.zeros((n_halvings, n_units), bool)
    for halving in in_first:
        halving[rng.permutation(n_units)[: n_units // 2]] = True
    halves = np.concatenate([in_first, ~in_first])[:, unit].astype(np.float64)
    level = halves @ judged.T / halves.sum(axis=1, keepdims=True)
    chosen = (level >= level.max(axis=1, keepdims=True) - 1e-12).astype(np.float64)
    scored = chosen @ right / chosen.sum(axis=1, keepdims=True)
    outcome = (scored * (1 - halves)).sum(axis=0) / n_halvings
    gain = outcome - right[-1]
    return CrossFit(
        accuracy=float(outcome.mean()),
        accuracy_error=_clustered_error(outcome, unit, n_units),
        gain=float(gain.mean()),
        gain_error=_clustered_error(gain, unit, n_units),
        n_units=n_units,
    )


def _clustered_error(values: Floats, unit: NDArray[np.int64], n_units: int) -> float:
    """Return the standard error of a mean whose values are independent between units only."""
    sums = np.bincount(unit, values - values.mean(), n_units)
    return float(np.sqrt((sums**2).sum() * n_units / (n_units - 1))) / len(values)


def _changes(correct: ArrayLike) -> Floats:
    matrix = np.asarray(correct)
    if matrix.ndim != 2 or matrix.shape[0] < 2 or not matrix.shape[1]:
        raise ArgumentError(
            f"correct has shape {matrix.shape}; expected epochs by windows, two epochs at least."
        )
    return np.diff(matrix.astype(np.float64), axis=0)


def _codes(groups: ArrayLike, n_windows: int) -> NDArray[np.int64]:
    codes = np.asarray(groups)
    if codes.shape != (n_windows,):
        raise ArgumentError(f"groups has shape {codes.shape}; expected ({n_windows},).")
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def _by_group(change: Floats, groups: ArrayLike) -> Floats:
    """Sum changes of the windows of each group, of shape (n_changes, n_groups)."""
    code = _codes(groups, change.shape[1])
    sums = np.zeros((int(code.max(initial=-1)) + 1, len(change)))
    np.add.at(sums, code, change.T)
    return sums.T
