"""Smooth the classes of windows over time with a hidden Markov model.

A robot stays on a surface for a while, so a window is also evidence about its neighbors. The class
is a Markov chain in continuous time, so gaps and unequal hops need no special rules. A window's
likelihoods are the model's probabilities divided by the mean probability of each class. Without
this division, the class frequencies in training would be counted again in every window (H. Bourlard
and N. Morgan, *Connectionist Speech Recognition*, 1994). The recursions follow L. R. Rabiner, *A
Tutorial on Hidden Markov Models*, Proceedings of the IEEE 77 (1989).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_integer
from sensorseq.base.numeric import stochastic_exponential
from sensorseq.errors import ArgumentError, check_choice

Floats = NDArray[np.float64]

SMOOTH = ("none", "filter", "lag", "marginals")
"""The basis of each decision, in this order: the window alone; all windows so far; all windows so
far and the next `lag` windows; all windows.
"""
STREAM_SMOOTH = ("none", "filter", "lag")
"""The kinds of smoothing that wait for at most `lag` later windows."""
USUAL_DWELL_S, FEWEST_WINDOWS = 60.0, 5
"""Default dwell time of a class: a minute, or `FEWEST_WINDOWS` windows if that is longer."""
USUAL_LAG = 3
_LEAST_WEIGHT = 0.25  # smallest weight of a window, however much it overlaps its neighbors
# A model that misclassifies one window often misclassifies the next windows of the recording as
# well, so smoothed probabilities would be overconfident. These temperatures were chosen on drives
# from recordings that the models had not seen; temperatures fitted to each model were no better.
_TEMPERATURE, _FILTER_TEMPERATURE = 2.5, 2.0
LOWEST = 1e-12  # smallest probability, so that no window rules out a class
_TICK_S = 1e-3  # resolution of time steps


class Smoothing(NamedTuple):
    """How the classes of windows are smoothed over time.

    Attributes
    ----------
    smooth : {"none", "filter", "lag", "marginals"}, default="marginals"
        The windows that are used for each decision: ``"none"``, only the window itself;
        ``"filter"``, all windows so far; ``"lag"``, all windows so far and the next `lag` windows;
        ``"marginals"``, all windows.
    lag : int, optional
        Number of later windows to wait for with ``"lag"``; by default, 3.
    mean_dwell_s : float or array of shape (n_classes,), optional
        How long a class lasts on average: one number for all classes, or one for each class. It
        must be at least the length of a window. By default, the average in the training recordings
        if some of them contain several classes; otherwise, 60 s, or 5 windows if that is longer. A
        value that is wrong by a factor of 4 has little effect.
    transitions : array of shape (n_classes, n_classes), optional
        How often each class (row) is followed by each other class (column); 0 means never. By
        default, the frequencies in the training recordings if some of them contain several classes;
        otherwise, all transitions are equally frequent.

    Examples
    --------
    >>> Smoothing("lag", lag=5, mean_dwell_s=30)
    Smoothing(smooth='lag', lag=5, mean_dwell_s=30, transitions=None)
    """

    smooth: str = "marginals"
    lag: int | None = None
    mean_dwell_s: ArrayLike | None = None
    transitions: ArrayLike | None = None

    @property
    def n_waited(self) -> int:
        """The number of later windows that ``"lag"`` uses."""
        return USUAL_LAG if self.lag is None else check_integer("lag", self.lag, 0)

    @property
    def n_later(self) -> int:
        """The number of windows that a streamed decision waits for."""
        return self.n_waited if self.smooth == "lag" else 0

    def dwell(self, n_classes: int, window_s: float) -> "Dwell":
        """Return the dwell times of the classes.

        Parameters
        ----------
        n_classes : int
        window_s : float
            Length of the windows in seconds, the shortest dwell time.
        """
        return Dwell.of(self.mean_dwell_s, self.transitions, n_classes, window_s)


Smooth = Union[str, Smoothing]
"""A `Smoothing`, or its `smooth` if its other fields have their defaults."""


def as_smoothing(smooth: Smooth) -> Smoothing:
    """Return a `Smoothing` after checking that it uses all of its fields that are given.

    Raises
    ------
    ArgumentError
        If the kind of smoothing is unknown, or does not use a field.
    """
    smoothing = smooth if isinstance(smooth, Smoothing) else Smoothing(smooth)
    kind, lag, mean_dwell_s, transitions = smoothing
    check_choice("smooth", kind, SMOOTH)
    unused: dict[str, Any] = {"lag": lag} if kind != "lag" else {}
    if kind == "none":
        unused |= {"mean_dwell_s": mean_dwell_s, "transitions": transitions}
    for name, value in unused.items():
        if value is not None:
            shown = f"{name}={value!r}" if np.ndim(value) == 0 else name
            raise ArgumentError(
                f"{shown} has no effect with smooth={kind!r}; leave it out, or use smooth='lag'."
            )
    check_integer("lag", smoothing.n_waited, 0)
    return smoothing


@dataclass(frozen=True, eq=False)
class Dwell:
    """Dwell times of the classes, and the transition probabilities between them."""

    mean_s: Floats  # (k,): mean dwell time of each class
    # (k, k): probability of each next class (column) after each class (row); the diagonal is zero.
    follows: Floats
    _after: dict[int, Floats] = field(default_factory=dict)  # transition matrices by time in ticks

    @classmethod
    def of(
        cls,
        mean_dwell_s: ArrayLike | None,
        transitions: ArrayLike | None,
        n_classes: int,
        window_s: float,
    ) -> "Dwell":
        """Check the values; by default, all other classes are equally likely to follow."""
        usual_s = max(USUAL_DWELL_S, FEWEST_WINDOWS * window_s)
        mean_s = np.asarray(usual_s if mean_dwell_s is None else mean_dwell_s, np.float64)
        if mean_s.shape not in ((), (n_classes,)):
            raise ArgumentError(
                f"mean_dwell_s has shape {mean_s.shape}; give one number, or one for each of the"
                f" {n_classes} classes."
            )
        if not (np.isfinite(mean_s) & (mean_s >= window_s)).all():
            raise ArgumentError(
                f"mean_dwell_s={mean_s.tolist()} must be at least one window ({window_s:g} s),"
                " because windows cannot resolve shorter segments."
            )
        follows = np.ones((n_classes, n_classes))
        if transitions is not None:
            follows = np.array(transitions, np.float64)
            if follows.shape != (n_classes, n_classes) or not (follows >= 0).all():
                raise ArgumentError(
                    f"transitions must be {n_classes} x {n_classes} numbers of 0 or more: how"
                    " often each class (row) is followed by each other class (column)."
                )
        np.fill_diagonal(follows, 0)
        totals = follows.sum(axis=1, keepdims=True)
        if n_classes > 1 and not (totals > 0).all():
            row = int(np.argmin(totals))
            raise ArgumentError(
                f"transitions: nothing follows class {row} (counted from 0); give at least one"
                " class that can follow it."
            )
        return cls(
            np.broadcast_to(mean_s, n_classes).copy(), follows / np.where(totals > 0, totals, 1)
        )

    @property
    def start(self) -> Floats:
        """The prior probability of each class."""
        return np.asarray(self.mean_s / self.mean_s.sum())

    def transition(self, seconds: float) -> Floats:
        """Return each class's probability (column) after a time, given the initial class (row)."""
        ticks = max(round(seconds / _TICK_S), 1)
        # Nearly all windows are one hop apart, so only a few matrices are needed.
        if ticks not in self._after:
            rate = 1 / self.mean_s[:, None]
            leave = ticks * _TICK_S * rate * (self.follows - np.eye(len(rate)))
            self._after[ticks] = stochastic_exponential(leave)
        return self._after[ticks]


def smoothed(
    probabilities: ArrayLike,
    centers_s: ArrayLike,
    dwell: Dwell,
    *,
    smooth: Smooth = "marginals",
    weight: float = 1.0,
) -> tuple[Floats, NDArray[np.int64]]:
    """Smooth the probabilities of the windows of one recording.

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
        Probability of each class in each window.
    centers_s : array-like of shape (n,)
        Middle of each window in seconds, increasing.
    dwell : Dwell
        Dwell times of the classes, and transitions between them.
    smooth : str or Smoothing, default="marginals"
        The windows that are used for each decision.
    weight : float, default=1.0
        Exponent of the likelihoods; less than 1 for overlapping windows, which share samples.

    Returns
    -------
    probabilities : ndarray of shape (n, k)
        Smoothed probabilities, calibrated by a temperature that preserves the order of the classes.
    class_index : ndarray of shape (n,)
    """
    smoothing = as_smoothing(smooth)
    kind = smoothing.smooth
    p = np.asarray(probabilities, np.float64)
    n, k = p.shape
    if kind == "none" or n == 0 or k < 2:
        return p, p.argmax(axis=1)
    lag = 0 if kind == "filter" else min(smoothing.n_waited, n) if kind == "lag" else n
    e = _power(p, weight)
    steps = _transitions(np.asarray(centers_s, np.float64), dwell)
    gamma = _forward(e, steps, dwell.start)
    if lag:
        gamma = gamma * (_backward_lag(e, steps, lag) if kind == "lag" else _backward(e, steps))
    marginals = calibrated(gamma, lag)
    return marginals, marginals.argmax(axis=1)


def temperature(lag: int) -> float:
    """Return the temperature for probabilities that depend on this many later windows."""
    return _TEMPERATURE if lag else _FILTER_TEMPERATURE


def calibrated(gamma: Floats, lag: int) -> Floats:
    """Calibrate the probabilities from the recursions."""
    gamma = gamma / gamma.sum(axis=1, keepdims=True)
    cooled = _power(gamma, 1 / temperature(lag))
    return np.asarray(cooled / cooled.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class FixedLag:
    """Fixed-lag smoothing of windows that are one hop apart, for programs without Python.

    A window with probabilities p has the likelihood ``max(p / shares, LOWEST) ** weight``. The
    filtered probabilities of the first window are its likelihood times `start`. The filtered
    probabilities of any other window are its likelihood times ``filtered @ step``, where `filtered`
    are those of the previous window. Filtered probabilities are normalized to a sum of 1. The
    filtered probabilities are then multiplied by the likelihood of the next `lag` windows. This
    product, raised to the power of `exponent` and normalized, gives the smoothed probabilities.
    """

    lag: int
    shares: Floats  # (k,)
    start: Floats  # (k,)
    step: Floats  # (k, k)
    weight: float
    exponent: float

    @classmethod
    def of(
        cls, smoothing: Smoothing, *, shares: Floats, window_s: float, hop_s: float
    ) -> "FixedLag":
        """Compute the parameters for windows that start `hop_s` seconds apart."""
        check_choice("smooth", smoothing.smooth, STREAM_SMOOTH[1:])
        lag, dwell = smoothing.n_later, smoothing.dwell(len(shares), window_s)
        step, weight = dwell.transition(hop_s), window_weight(hop_s, window_s)
        return cls(lag, shares, dwell.start, step, weight, 1 / temperature(lag))


class LagSmoother:
    """Fixed-lag smoothing of windows as they arrive.

    The results are bit-identical to those of `smoothed` with ``"lag"``. A `lag` of 0 means
    filtering.
    """

    def __init__(self, dwell: Dwell, lag: int, weight: float = 1.0) -> None:
        self._dwell, self._lag, self._weight = dwell, check_integer("lag", lag, 0), weight
        self.reset()

    def reset(self) -> None:
        """Start a new recording."""
        self._centers_s: list[float] = []
        self._rows: list[tuple[Floats, Floats]] = []  # likelihoods and filtered probabilities
        self._steps: list[Floats] = []
        self._due = 0  # number of windows in `_rows` that have been decided

    def push(self, center_s: float, probabilities: ArrayLike) -> list[Floats]:
        """Process the next window; return the smoothed probabilities that are due, oldest first."""
        (e,) = _power(np.asarray(probabilities, np.float64)[None], self._weight)
        ahead = self._dwell.start
        if self._rows:
            self._steps.append(self._dwell.transition(center_s - self._centers_s[-1]))
            ahead = _row_times(self._rows[-1][1], self._steps[-1])
        self._rows.append((e, _updated(ahead, e)))
        self._centers_s.append(center_s)
        return self._smooth_until(len(self._rows) - self._lag)

    def flush(self) -> list[Floats]:
        """End the recording; return the smoothed probabilities of its remaining windows."""
        remaining = self._smooth_until(len(self._rows))
        self.reset()
        return remaining

    def _smooth_until(self, until: int) -> list[Floats]:
        smoothed_rows = []
        while self._due < until:
            e = np.array([likelihood for likelihood, _ in self._rows[self._due :]])
            steps = np.array(self._steps[self._due :]).reshape(-1, e.shape[1], e.shape[1])
            row = self._rows[self._due][1]
            if self._lag:
                row = row * _backward_lag(e, steps, min(self._lag, len(e)))[0]
            smoothed_rows.append(calibrated(row[None], self._lag)[0])
            self._due += 1
        done = max(self._due - 1, 0)  # the last decided window is needed to decide the next window
        self._centers_s, self._rows = self._centers_s[done:], self._rows[done:]
        self._steps, self._due = self._steps[done:], self._due - done
        return smoothed_rows


def _power(p: Floats, exponent: float) -> Floats:
    """Raise probabilities to a power, scaled so that each row's maximum is 1."""
    logs = exponent * np.log(np.maximum(p, LOWEST))
    return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))


def window_weight(hop_s: float, window_s: float) -> float:
    """Return a window's weight: `hop_s / window_s`, limited to between `_LEAST_WEIGHT` and 1."""
    return min(1.0, max(round(hop_s / window_s, 6), _LEAST_WEIGHT))


def _transitions(centers_s: Floats, dwell: Dwell) -> Floats:
    """Return the transition matrices (n - 1, k, k) between consecutive windows."""
    steps = [dwell.transition(seconds) for seconds in np.diff(centers_s).tolist()]
    return np.array(steps, np.float64).reshape(-1, *dwell.follows.shape)


def _forward(e: Floats, steps: Floats, start: Floats) -> Floats:
    """Return the filtered probabilities, given the windows so far."""
    alpha = np.empty_like(e)
    ahead = start
    for t in range(len(e)):
        alpha[t] = _updated(ahead, e[t])
        if t < len(steps):
            ahead = _row_times(alpha[t], steps[t])
    return alpha


def _updated(ahead: Floats, e: Floats) -> Floats:
    """Return the probabilities updated with the likelihood of a window."""
    alpha = ahead * e
    return np.asarray(alpha / alpha.sum())


def _row_times(row: Floats, matrix: Floats) -> Floats:
    """Return ``row @ matrix``, bit-identical for a single row and for many rows."""
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
    for ahead in range(lag, 0, -1):  # vectorized over the windows
        last = n - ahead  # number of windows that have another window this far ahead
        if last <= 0:
            continue
        # beta[t] is the likelihood of the windows after t + ahead
        seen = e[ahead:] * beta[:last]
        beta[:last] = (steps[ahead - 1 :] * seen[:, None, :]).sum(axis=2)
        beta[:last] /= beta[:last].max(axis=1, keepdims=True)
    return beta
