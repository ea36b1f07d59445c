"""Smooth the classes of windows over time with a hidden Markov model.

A robot stays on a surface for a while, so what a window shows also says something about its
neighbours. The class is a Markov chain in continuous time, so gaps and unequal hops need no rule of
their own. The model's probabilities of a window stand for its likelihoods (H. Bourlard and N.
Morgan, *Connectionist Speech Recognition*, 1994, with equal shares of the classes). The recursions
are those of L. R. Rabiner, *A Tutorial on Hidden Markov Models*, Proceedings of the IEEE 77 (1989).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import expm

from sensorseq.checks import check_integer
from sensorseq.errors import ArgumentError, check_choice

Floats = NDArray[np.float64]

SMOOTH = ("none", "filter", "lag", "viterbi", "marginals")
"""Nothing; windows so far; those and the next `lag`; the likeliest path; all windows."""
_LOWEST = 1e-12  # of a probability: no window rules out a class
_TICK_S = 1e-3  # steps of time are told apart by this


class Dwell(NamedTuple):
    """How long a class lasts, and which one follows."""

    mean_s: Floats  # (k,), of each class
    follows: Floats  # (k, k), shares of the classes that follow each; zero on the diagonal

    @classmethod
    def of(
        cls, mean_dwell_s: ArrayLike, transitions: ArrayLike | None, n_classes: int, window_s: float
    ) -> "Dwell":
        """Return checked values; without `transitions` every other class follows equally often."""
        mean_s = np.asarray(mean_dwell_s, np.float64)
        if mean_s.shape not in ((), (n_classes,)):
            raise ArgumentError(
                f"mean_dwell_s has shape {mean_s.shape}; give one number, or one for each of the"
                f" {n_classes} classes."
            )
        if not (np.isfinite(mean_s) & (mean_s >= window_s)).all():
            raise ArgumentError(
                f"mean_dwell_s={mean_s.tolist()} must be at least a window, {window_s:g} s: windows"
                " cannot tell shorter stretches apart."
            )
        follows = np.ones((n_classes, n_classes))
        if transitions is not None:
            follows = np.array(transitions, np.float64)
            if follows.shape != (n_classes, n_classes) or not (follows >= 0).all():
                raise ArgumentError(
                    f"transitions must hold {n_classes} x {n_classes} numbers of 0 or more: how"
                    " often each class (row) is followed by each other (column)."
                )
        np.fill_diagonal(follows, 0)
        totals = follows.sum(axis=1, keepdims=True)
        if n_classes > 1 and not (totals > 0).all():
            row = int(np.argmin(totals))
            raise ArgumentError(
                f"transitions: nothing follows class {row} (counted from 0); give at least one"
                " class that can."
            )
        return cls(
            np.broadcast_to(mean_s, n_classes).copy(), follows / np.where(totals > 0, totals, 1)
        )

    def transition(self, seconds: float) -> Floats:
        """Return the probability of each class (column) that time after each class (row)."""
        rate = 1 / self.mean_s
        return np.asarray(expm(seconds * rate[:, None] * (self.follows - np.eye(len(rate)))))


def smoothed(
    probabilities: ArrayLike,
    centers_s: ArrayLike,
    dwell: Dwell,
    *,
    smooth: str = "marginals",
    lag: int = 3,
    weight: float = 1.0,
) -> tuple[Floats, NDArray[np.int64]]:
    """Smooth the probabilities of the windows of one recording.

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
        Of each class in each window.
    centers_s : array-like of shape (n,)
        Middle of each window in seconds, increasing.
    dwell : Dwell
        How long classes last.
    smooth : {"none", "filter", "lag", "viterbi", "marginals"}, default="marginals"
        Which windows count: those so far, `lag` later ones too, or all. viterbi: the likeliest
        path; its probabilities are those of ``"marginals"``.
    lag : int, default=3
        Windows to wait for, for ``"lag"``.
    weight : float, default=1.0
        Exponent of the likelihoods: below 1 where windows overlap and so repeat each other.

    Returns
    -------
    probabilities : ndarray of shape (n, k)
    class_index : ndarray of shape (n,)
    """
    check_choice("smooth", smooth, SMOOTH)
    check_integer("lag", lag, 0)
    p = np.asarray(probabilities, np.float64)
    n, k = p.shape
    if smooth == "none" or n == 0 or k < 2:
        return p, p.argmax(axis=1)
    log_e = weight * np.log(np.maximum(p, _LOWEST))
    e = np.exp(log_e - log_e.max(axis=1, keepdims=True))
    steps = _transitions(np.asarray(centers_s, np.float64), dwell)
    start = dwell.mean_s / dwell.mean_s.sum()
    alpha = _forward(e, steps, start)
    if smooth == "filter":
        return alpha, alpha.argmax(axis=1)
    horizon = min(lag, n) if smooth == "lag" else n
    gamma = alpha * (_backward_lag(e, steps, horizon) if smooth == "lag" else _backward(e, steps))
    gamma /= gamma.sum(axis=1, keepdims=True)
    if smooth == "viterbi":
        return gamma, _viterbi(np.log(np.maximum(e, 1e-300)), steps, start)
    return gamma, gamma.argmax(axis=1)


def _transitions(centers_s: Floats, dwell: Dwell) -> Floats:
    """Return the transitions from each window to the next, (n - 1, k, k)."""
    ticks = np.round(np.diff(centers_s) / _TICK_S).astype(np.int64)
    different, place = np.unique(ticks, return_inverse=True)
    k = len(dwell.mean_s)
    matrices = [dwell.transition(max(int(tick), 1) * _TICK_S) for tick in different]
    return np.array(matrices, np.float64).reshape(-1, k, k)[place]


def _forward(e: Floats, steps: Floats, start: Floats) -> Floats:
    """Return the probabilities given the windows so far."""
    alpha = np.empty_like(e)
    ahead = start
    for t in range(len(e)):
        alpha[t] = ahead * e[t]
        alpha[t] /= alpha[t].sum()
        if t < len(steps):
            ahead = _times(alpha[t], steps[t])
    return alpha


def _times(row: Floats, matrix: Floats) -> Floats:
    """Return ``row @ matrix``, with the same bits for one row and for many."""
    return np.asarray((row[..., :, None] * matrix).sum(axis=-2))


def _backward(e: Floats, steps: Floats) -> Floats:
    """Return the likelihood of the later windows, up to a factor."""
    beta = np.ones_like(e)
    for t in range(len(e) - 2, -1, -1):
        beta[t] = (steps[t] * (e[t + 1] * beta[t + 1])).sum(axis=1)
        beta[t] /= beta[t].max()
    return beta


def _backward_lag(e: Floats, steps: Floats, lag: int) -> Floats:
    """Return the likelihood of the next `lag` windows, up to a factor."""
    n = len(e)
    beta = np.ones_like(e)
    for ahead in range(lag, 0, -1):  # of every window at once
        last = n - ahead  # windows that have one so far ahead
        if last <= 0:
            continue
        # beta[t] is the likelihood of what follows window t + ahead
        seen = e[ahead:] * beta[:last]
        beta[:last] = (steps[ahead - 1 :] * seen[:, None, :]).sum(axis=2)
        beta[:last] /= beta[:last].max(axis=1, keepdims=True)
    return beta


def _viterbi(log_e: Floats, steps: Floats, start: Floats) -> NDArray[np.int64]:
    """Return the likeliest path of classes."""
    with np.errstate(divide="ignore"):
        log_steps, score = np.log(steps), np.log(start) + log_e[0]
    origin = np.empty((len(steps), log_e.shape[1]), np.int64)
    for t, log_step in enumerate(log_steps):
        ways = score[:, None] + log_step
        origin[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + log_e[t + 1]
    path = np.empty(len(log_e), np.int64)
    path[-1] = score.argmax()
    for t in range(len(steps) - 1, -1, -1):
        path[t] = origin[t, path[t + 1]]
    return path
