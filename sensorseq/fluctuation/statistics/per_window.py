"""Which validation windows change sides, whether they do so together, and what an epoch is worth.

`correct` is of shape (n_epochs, n_windows): whether each window was predicted right after each
epoch. `groups` are codes of shape (n_windows,): the recording each window comes from.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.statistics import thresholds as limits
from sensorseq.fluctuation.statistics.metrics import NullTest, circular_shift_test
from sensorseq.fluctuation.statistics.run import Floats, Run
from sensorseq.fluctuation.statistics.statements import Statement, say
from sensorseq.text import plural


class Flips:
    """What explains a rough validation curve: its size, recordings, a few windows or the model.

    `why` is ``"small"``, ``"windows"``, ``"recordings"``, ``"together"`` or ``"unknown"``; empty
    where windows were not followed, or none ever flips.
    """

    def __init__(self, run: Run) -> None:
        self.known = False
        self.why = ""
        self.n_groups: int | None = None
        record = run.followed
        if record is None:
            return
        correct = record.val_correct[run.first :]
        if correct.shape[0] < limits.MIN_EPOCHS or correct.shape[1] < 2:
            return
        self.known = True
        self.n_windows = correct.shape[1]
        groups = record.val_groups
        self.n_groups = len(np.unique(groups)) if groups is not None else None
        if self.n_groups == self.n_windows:  # every window its own recording: nothing to add
            groups = self.n_groups = None
        self.variance = accuracy_variance(correct, groups)
        self.by_window = common_mode_test(correct)
        self.by_group = common_mode_test(correct, groups) if groups is not None else None
        self.rates = flip_rates(correct)
        self.restless = flip_share(self.rates, limits.RESTLESS_WINDOWS)
        self.independent_sd = math.sqrt(self.variance.independent)
        variance = self.variance
        if variance.independent > 0:
            self.why = self._explain()
        is_what = f"what {plural(self.n_windows, 'window')} flipping independently give"
        name = "val_accuracy_independent_noise"
        run.add(name, self.independent_sd, "fraction", None, is_what)
        run.add(
            "val_flips_of_restless_windows",
            self.restless,
            "fraction",
            limits.RESTLESS_WINDOWS,
            "all",
        )
        if not variance.independent > 0:
            return
        run.add("val_common_mode", variance.ratio, "ratio", 1.0, "chance", p=self.by_window.p)
        if variance.total > 0:
            run.add("val_effective_windows", variance.n_effective, "windows")
        if self.by_group is not None and variance.grouped:
            ratio, p = variance.group_ratio, self.by_group.p
            run.add("val_common_mode_of_groups", ratio, "ratio", 1.0, "chance", p=p)

    def _explain(self) -> str:
        def moves_together(test: NullTest) -> bool:
            return test.value > limits.EXCESS_RATIO and test.p < limits.ALPHA

        if not moves_together(self.by_window):
            return "windows" if self.restless >= limits.RESTLESS_SHARE else "small"
        if self.by_group is None or self.n_groups is None or self.n_groups < limits.MIN_GROUPS:
            return "unknown"
        return "together" if moves_together(self.by_group) else "recordings"

    @property
    def acquits(self) -> bool:
        """Whether something other than the model explains what exceeds the sampling of windows."""
        return self.known and self.n_groups is not None and self.why in {"recordings", "unknown"}

    def statements(self) -> list[Statement]:
        """Return why the validation curve is rough, with the figures; nothing when unknown."""
        if not self.why:
            return []
        ratio, p = self.variance.ratio, self.by_window.p
        if self.why == "small":
            return [say("windows_independent", ratio=ratio, p=p, sd=self.independent_sd)]
        if self.why == "windows":
            return [say("windows_restless", top=limits.RESTLESS_WINDOWS, share=self.restless)]
        like = max(round(self.variance.n_effective), 1)
        figures = {"n": self.n_windows, "like": like, "ratio": ratio, "p": p}
        if self.by_group is None:
            return [say("windows_ungrouped", **figures)]
        if self.why == "unknown":
            return [
                say(
                    "windows_few_groups", **figures, n_groups=self.n_groups, least=limits.MIN_GROUPS
                )
            ]
        of_groups = {"group_ratio": self.variance.group_ratio, "group_p": self.by_group.p}
        kind = "windows_recordings" if self.why == "recordings" else "windows_model"
        return [say(kind, **figures, **of_groups)]

    def shares(self) -> list[Statement]:
        """Return how much of the movement each source explains, for a model that moves too much."""
        total = self.variance.total if self.known else 0.0
        if not total > 0:
            return []
        windows = min(self.variance.independent / total, 1.0)
        if self.variance.grouped is None:
            return [say("shares", by_windows=windows)]
        groups = min(max(self.variance.grouped / total, windows), 1.0)
        shares = {"by_windows": windows, "by_groups": groups - windows, "rest": 1 - groups}
        return [say("shares_grouped", **shares)]


class AccuracyVariance(NamedTuple):
    """Variance of an accuracy from epoch to epoch, and what of it independent units explain.

    With ``d_it`` the change of window i from epoch t to the next, in squared fractions. The
    independent part is at most the binomial variance, and mostly far less: most windows never flip.
    """

    total: float  # mean_t((sum_i d_it / n)^2) / 2; of white noise its variance
    independent: float  # sum_i mean_t(d_it^2) / (2 n^2): windows that flip independently
    grouped: float | None  # sum_g mean_t((sum_{i in g} d_it)^2) / (2 n^2): groups that do
    n_windows: int  # n

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
    """Split the variance of an accuracy into that of its windows, its groups and the rest."""
    change = _changes(correct)
    n_windows = change.shape[1]
    scale = 2 * n_windows**2
    parts = [change.sum(axis=1, keepdims=True), change]
    if groups is not None:
        parts.append(_by_group(change, groups))
    total, independent, *grouped = (float((p**2).mean(axis=0).sum()) / scale for p in parts)
    return AccuracyVariance(total, independent, grouped[0] if grouped else None, n_windows)


def common_mode_test(
    correct: ArrayLike, groups: ArrayLike | None = None, *, n_shifts: int = 500, seed: int = 0
) -> NullTest:
    """Test whether windows, or groups, flip in the same epochs more than chance lets them.

    Recordings that flip as blocks give R far above 1 and R_g near 1; a model that jumps as a whole
    raises both. With few groups the test sees nothing: see `MIN_GROUPS`.
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
    """Return what part of all flips the most restless `share` of the windows carry; 0 if none."""
    sorted_rates = np.sort(np.asarray(rates, np.float64))[::-1]
    n_top = max(int(np.ceil(share * len(sorted_rates))), 1)
    total = float(sorted_rates.sum())
    return float(sorted_rates[:n_top].sum()) / total if total > 0 else 0.0


class CrossFit(NamedTuple):
    """An epoch chosen on one half of the validation windows and scored on the other."""

    accuracy: float  # on windows that had no part in the choice
    accuracy_error: float  # its standard error over windows, or over groups
    gain: float  # that accuracy less the one of the last epoch
    gain_error: float  # its standard error


def cross_fit(
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    score: ArrayLike | None = None,
    n_halvings: int = 50,
    seed: int = 0,
) -> CrossFit:
    """Return what the best epoch is worth without the luck of picking it.

    The epoch with the best mean `score` (`correct` when not given) over a random half of the
    windows, or of the groups, is evaluated on the other half. Epochs that tie count alike.
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
        accuracy_error=clustered_error(outcome, unit),
        gain=float(gain.mean()),
        gain_error=clustered_error(gain, unit),
    )


def clustered_error(values: Floats, unit: NDArray[np.int64]) -> float:
    """Return the standard error of a mean whose values are independent between units only.

    The units are numbered from 0, and there are at least two.
    """
    sums = np.bincount(unit, values - values.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(values)


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
