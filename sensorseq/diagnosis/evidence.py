"""Evidence for a verdict: flips of validation windows, noise of losses, score of the best epoch.

`correct` of shape (n_epochs, n_windows) is True where a window was classified correctly after an
epoch. `groups`, of shape (n_windows,), contains the code of each window's recording.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_per_window
from sensorseq.base.text import plural
from sensorseq.diagnosis import metrics
from sensorseq.diagnosis import thresholds as limits
from sensorseq.diagnosis.metrics import Floats, NullTest, Run, circular_shift_test
from sensorseq.diagnosis.statements import Statement, statement_of
from sensorseq.errors import ArgumentError


class WindowFlips:
    """Find out why a validation curve is rough: few or restless windows, recordings, or the model.

    `why` is ``"small"``, ``"windows"``, ``"recordings"``, ``"together"`` or ``"unknown"``; it is
    empty if the windows never flip or were not followed long enough.
    """

    def __init__(self, run: Run) -> None:
        self.is_known = False
        self.why = ""
        self.n_groups: int | None = None
        record = run.followed
        if record is None:
            return
        correct = record.val_correct[run.first :]
        if correct.shape[0] < limits.MIN_EPOCHS or correct.shape[1] < 2:
            return
        self.is_known = True
        self.n_windows = correct.shape[1]
        groups = record.val_groups
        self.n_groups = len(np.unique(groups)) if groups is not None else None
        # if each window is its own recording, groups add no information
        if self.n_groups == self.n_windows:
            groups = self.n_groups = None
        self.variance = accuracy_variance(correct, groups)
        self.by_window = common_mode_test(correct)
        self.by_group = common_mode_test(correct, groups) if groups is not None else None
        self.restless = flip_share(flip_rates(correct), limits.RESTLESS_WINDOWS)
        variance = self.variance
        self.independent_sd = math.sqrt(variance.independent)
        origin = f"{plural(self.n_windows, 'window')} flipping independently"
        name, restless = "val_accuracy_independent_noise", limits.RESTLESS_WINDOWS
        run.add(name, self.independent_sd, "fraction", None, origin)
        run.add("val_flips_of_restless_windows", self.restless, "fraction", restless, "all")
        if not variance.independent > 0:
            return
        self.why = self._explain()
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
    def may_explain_excess(self) -> bool:
        """Whether recordings, rather than the model, may explain the excess over sampling noise."""
        return self.is_known and self.n_groups is not None and self.why in {"recordings", "unknown"}

    def statements(self) -> list[Statement]:
        """Explain a rough validation curve with numbers; return no statement if `why` is empty."""
        if not self.why:
            return []
        ratio, p = self.variance.ratio, self.by_window.p
        if self.why == "small":
            return [statement_of("windows_independent", ratio=ratio, p=p, sd=self.independent_sd)]
        if self.why == "windows":
            return [
                statement_of("windows_restless", top=limits.RESTLESS_WINDOWS, share=self.restless)
            ]
        like = max(round(self.variance.n_effective), 1)
        figures = {"n": self.n_windows, "like": like, "ratio": ratio, "p": p}
        if self.by_group is None:
            return [statement_of("windows_ungrouped", **figures)]
        if self.why == "unknown":
            least = limits.MIN_GROUPS
            return [
                statement_of("windows_few_groups", **figures, n_groups=self.n_groups, least=least)
            ]
        of_groups = {"group_ratio": self.variance.group_ratio, "group_p": self.by_group.p}
        kind = "windows_recordings" if self.why == "recordings" else "windows_model"
        return [statement_of(kind, **figures, **of_groups)]

    def shares(self) -> list[Statement]:
        """Divide the variance of the accuracy among windows, recordings and the model."""
        total = self.variance.total if self.is_known else 0.0
        if not total > 0:
            return []
        windows = min(self.variance.independent / total, 1.0)
        if self.variance.grouped is None:
            return [statement_of("shares", by_windows=windows)]
        groups = min(max(self.variance.grouped / total, windows), 1.0)
        shares = {"by_windows": windows, "by_groups": groups - windows, "rest": 1 - groups}
        return [statement_of("shares_grouped", **shares)]


class AccuracyVariance(NamedTuple):
    """The variance of an accuracy between epochs, and the part that independent units explain.

    The variances are squared fractions; ``d_it`` is the change of `correct` for window i from epoch
    t to epoch t + 1. The independent part is usually far less than the binomial variance, because
    most windows never flip.
    """

    total: float  # mean_t((sum_i d_it / n)^2) / 2: the variance, if the noise is white
    independent: float  # sum_i mean_t(d_it^2) / (2 n^2): the total if windows were independent
    # sum_g mean_t((sum_{i in g} d_it)^2) / (2 n^2): the total if groups were independent
    grouped: float | None
    n_windows: int  # n in these formulas

    @property
    def ratio(self) -> float:
        """``R = total / independent``: 1 for independent windows; NaN if no window ever flips."""
        return self.total / self.independent if self.independent > 0 else np.nan

    @property
    def group_ratio(self) -> float:
        """``R_g = total / grouped``: 1 for independent groups; NaN if `grouped` is None or 0."""
        return self.total / self.grouped if self.grouped else np.nan

    @property
    def n_effective(self) -> float:
        """``n / R``: the number of independent windows that would give the same variance."""
        return self.n_windows / self.ratio if self.ratio > 0 else np.nan


def accuracy_variance(correct: ArrayLike, groups: ArrayLike | None = None) -> AccuracyVariance:
    """Return an accuracy's variance, and the variance if windows or groups were independent."""
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
    """Test whether windows or groups flip in the same epochs more often than chance explains.

    If recordings flip as blocks, R is far above 1 and R_g is near 1; if the model jumps as a whole,
    both are far above 1 (see `AccuracyVariance`). With fewer than `MIN_GROUPS` groups, the test has
    too little power.
    """
    change = _changes(correct)
    units = change if groups is None else _by_group(change, groups)
    test = circular_shift_test(units, n_shifts=n_shifts, seed=seed)
    apart = float((units**2).mean(axis=0).sum())
    if apart == 0:
        return NullTest(np.nan, np.full(n_shifts, np.nan), 1.0)
    return NullTest(test.value / apart, test.null / apart, test.p)


def flip_rates(correct: ArrayLike) -> Floats:
    """Return how often each window flips between right and wrong, per epoch, shape (n,)."""
    return np.asarray(np.abs(_changes(correct)).mean(axis=0))


def flip_share(rates: ArrayLike, share: float = 0.1) -> float:
    """Return the fraction of all flips in the most restless `share` of windows; 0 without flips."""
    sorted_rates = np.sort(np.asarray(rates, np.float64))[::-1]
    n_top = max(int(np.ceil(share * len(sorted_rates))), 1)
    total = float(sorted_rates.sum())
    return float(sorted_rates[:n_top].sum()) / total if total > 0 else 0.0


class CrossFit(NamedTuple):
    """The accuracy of the best epoch, chosen on half of the windows and scored on the rest."""

    accuracy: float  # on windows that did not take part in the choice
    accuracy_error: float  # standard error of `accuracy` over windows, or over groups
    gain: float  # accuracy minus the accuracy of the last epoch
    gain_error: float  # standard error of `gain`


def cross_fit(
    correct: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    score: ArrayLike | None = None,
    n_halvings: int = 50,
    seed: int = 0,
) -> CrossFit:
    """Return the accuracy of the best epoch, free of selection bias.

    The epoch with the best mean `score` (by default `correct`) over a random half of the windows,
    or of the groups, is evaluated on the other half. The results of tied epochs and of all halvings
    are averaged.
    """
    right = np.asarray(correct, np.float64)
    ranked_by = right if score is None else np.asarray(score, np.float64)
    n_windows = right.shape[1]
    unit = np.arange(n_windows) if groups is None else _codes(groups, n_windows)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        raise ArgumentError(
            f"{n_units} window(s) or group(s) cannot be halved; at least 2 are needed."
        )
    rng = np.random.default_rng(seed)
    in_first = np.zeros((n_halvings, n_units), bool)
    for halving in in_first:
        halving[rng.permutation(n_units)[: n_units // 2]] = True
    halves = np.concatenate([in_first, ~in_first])[:, unit].astype(np.float64)
    level = halves @ ranked_by.T / halves.sum(axis=1, keepdims=True)
    chosen = (level >= level.max(axis=1, keepdims=True) - 1e-12).astype(np.float64)
    scored = chosen @ right / chosen.sum(axis=1, keepdims=True)
    outcome = (scored * (1 - halves)).sum(axis=0) / n_halvings
    gain = outcome - right[-1]
    means = float(outcome.mean()), float(gain.mean())
    errors = metrics.clustered_error(outcome, unit), metrics.clustered_error(gain, unit)
    return CrossFit(means[0], errors[0], means[1], errors[1])


def _changes(correct: ArrayLike) -> Floats:
    matrix = np.asarray(correct)
    if matrix.ndim != 2 or matrix.shape[0] < 2 or not matrix.shape[1]:
        raise ArgumentError(
            f"correct has shape {matrix.shape}; expected (n_epochs, n_windows) with at least two"
            " epochs and one window."
        )
    return np.diff(matrix.astype(np.float64), axis=0)


def _codes(groups: ArrayLike, n_windows: int) -> NDArray[np.int64]:
    codes = check_per_window("groups", np.asarray(groups), n_windows, ArgumentError, "correct")
    assert codes is not None
    return np.asarray(np.unique(codes, return_inverse=True)[1], np.int64)


def _by_group(change: Floats, groups: ArrayLike) -> Floats:
    """Return the sum of the changes in each group, shape (n_changes, n_groups)."""
    code = _codes(groups, change.shape[1])
    sums = np.zeros((int(code.max(initial=-1)) + 1, len(change)))
    np.add.at(sums, code, change.T)
    return sums.T


@dataclass(frozen=True, eq=False)
class SteadyNoise:
    """The noise of a loss over the second half of a run; NaN if unknown."""

    nats: float = math.nan  # from `metrics.mean_noise`, because a median would miss leaps
    edge: float = math.nan  # upper limit of the noise in healthy runs
    p: float = 1.0  # fraction of the resamples whose noise is at most `SURE_SHARE * edge`
    # The noise computed without the second differences that contain the largest leap.
    without_largest: float = math.nan
    before: float = math.nan  # noise between the initial descent and the second half

    @property
    def is_known(self) -> bool:
        """Whether there were enough epochs to measure the noise."""
        return not math.isnan(self.nats)

    def exceeds(self, times: float = 1.0) -> bool:
        """Whether the noise is more than `times` times the limit of healthy runs."""
        return self.nats > times * self.edge

    @property
    def comes_back(self) -> bool:
        """Whether the noise without its largest leap exceeds `SURE_SHARE` times the limit."""
        return self.without_largest > limits.SURE_SHARE * self.edge

    @property
    def has_calmed(self) -> bool:
        """Whether the noise exceeded the limit before the second half of the run, but not in it."""
        return not self.exceeds() and self.before > self.edge

    def passes(self, adjusted_p: float) -> bool:
        """Return whether the noise is significantly too large, and not only because of one leap."""
        is_sure = adjusted_p < limits.ALPHA or self.without_largest > self.edge
        return self.exceeds() and is_sure and self.comes_back


def measure_steady_noise(run: Run, name: str, statistic: str, edge: float) -> SteadyNoise:
    """Measure the noise of a column and store it as a statistic if there are enough epochs.

    Second differences that include an epoch right after a scheduled rise of the learning rate are
    left out.
    """
    loss, epochs = run.settled(name), run.settled_epochs(name)
    if len(loss) < limits.MIN_DIFFERENCES + 2:
        return SteadyNoise()
    differences = np.diff(loss, 2)
    after = run.after_rise[epochs]
    judged = ~(after[:-2] | after[1:-1] | after[2:])
    is_steady = epochs[2:] >= min(run.n_epochs // 2 + 2, int(epochs[-limits.MIN_DIFFERENCES]))
    steady, before = differences[judged & is_steady], differences[judged & ~is_steady]
    if len(steady) < limits.MIN_DIFFERENCES:
        return SteadyNoise()
    sizes = np.abs(steady)
    resampled = metrics.block_bootstrap(sizes, metrics.mean_noise_of_differences)
    at = int(sizes.argmax())  # both neighbors of the largest difference share epochs with it
    without_leap = np.delete(sizes, slice(max(at - 1, 0), at + 2))
    noise = SteadyNoise(
        nats=float(metrics.mean_noise_of_differences(sizes)),
        edge=edge,
        p=float((1 + (resampled <= limits.SURE_SHARE * edge).sum()) / (1 + len(resampled))),
        without_largest=float(metrics.mean_noise_of_differences(without_leap)),
        before=float(metrics.mean_noise_of_differences(before)) if len(before) > 3 else math.nan,
    )
    interval = metrics.interval_of(resampled)
    floor_is = "upper limit in healthy runs"
    run.add(statistic, noise.nats, "nats", edge, floor_is, interval=interval, p=noise.p)
    return noise


def common_leaps(run: Run, name: str) -> list[int]:
    """Return epochs (from 1) in the second half of the run in which both losses leap up.

    Each loss can leap for harmless reasons; if both leap in the same epoch, the model is the cause.
    `name` is the column of the training loss. If the training loss is a mean over the epoch, a
    leap late in an epoch may appear only in the next epoch.
    """
    if not len(run.whole(name)) or not len(run.whole("val_loss")):
        return []
    train, validation = (_rises(run.columns[column].values) for column in (name, "val_loss"))
    if name == "loss":
        train = np.maximum(train, np.append(train[1:], 0.0))
    both = np.minimum(train, validation) > limits.COMMON_LEAP_NATS
    both[: max(run.n_epochs // 2, run.first)] = False
    return [int(epoch) + 1 for epoch in np.flatnonzero(both & ~run.after_rise)]


def _rises(loss: Floats) -> Floats:
    """Return how far each loss is above the median of the preceding losses; 0 if unknown."""
    rises, n = np.zeros(len(loss)), limits.COMMON_LEAP_EPOCHS
    if len(loss) > n:
        rises[n:] = loss[n:] - np.median(sliding_window_view(loss, n)[:-1], axis=1)
    return np.nan_to_num(rises, nan=0.0)


class TrainingMovement:
    """The movement of the model, measured by the noise of the fixed-window or running loss."""

    def __init__(self, run: Run) -> None:
        self.name, statistic, self.edge = "loss", "train_loss_noise", limits.LOSS_NOISE_NATS
        if len(run.settled("fixed_loss")) >= limits.MIN_EPOCHS:
            self.name = "fixed_loss"
            statistic, self.edge = "fixed_loss_noise", limits.FIXED_LOSS_NOISE_NATS
        has_enough = len(run.settled(self.name)) >= limits.MIN_EPOCHS
        self.is_known = has_enough and self.name not in run.without_unit
        self.noise = SteadyNoise()
        self.is_restless = self.has_spikes = self.costs_loss = False
        self.excess = math.nan
        self.spikes: list[int] = []
        self.common_leaps: list[int] = []
        self.p_values: dict[str, float] = {}
        if not self.is_known:
            return
        self.noise = measure_steady_noise(run, self.name, statistic, self.edge)
        if self.noise.is_known:
            self.p_values["movement"] = self.noise.p
        self._find_spikes(run, run.settled(self.name))
        self.common_leaps = common_leaps(run, self.name)
        run.add("common_leaps", len(self.common_leaps), "epochs", 0.0, "a healthy run")
        self._measure_cost(run)

    def _find_spikes(self, run: Run, loss: Floats) -> None:
        spikes = metrics.spike_epochs(loss, least_rise=limits.SPIKE_EDGES * self.edge)
        epochs = run.settled_epochs(self.name)
        leaps = [int(epochs[index]) for index in spikes]
        self.spikes = [epoch + 1 for epoch in leaps if not run.after_rise[epoch]]
        watched = epochs[metrics.trend_window(len(loss)) :]
        n_watched = int((~run.after_rise[watched]).sum())
        self.spike_share = metrics.share_lower_limit(len(self.spikes), n_watched)
        n, most = len(self.spikes), limits.SPIKE_SHARE * n_watched
        p = self.p_values["spikes"] = metrics.binomial_tail(n, n_watched, limits.SPIKE_CHANCE)
        run.add("train_loss_spikes", n, "epochs", most, "chance", p=p)

    def _measure_cost(self, run: Run) -> None:
        if run.record is None or self.name != "fixed_loss":
            return
        averaged, decay = run.record.averaged_loss, run.record.average_decay
        loss = run.settled("fixed_loss")
        excess, interval = metrics.excess_plateau_loss(loss, averaged, decay)
        if not math.isfinite(excess):
            return
        name, limit = "excess_plateau_loss", limits.EXCESS_PLATEAU_NATS
        self.excess = run.add(name, excess, "nats", limit, "harmless below", interval=interval)
        self.costs_loss = interval[0] > limit

    def decide(self, adjusted: Mapping[str, float]) -> None:
        """Decide which findings are significant, given the adjusted p values."""
        self.is_restless = self.noise.passes(adjusted.get("movement", 1.0))
        if self.is_known:
            is_sure = adjusted["spikes"] < limits.ALPHA
            self.has_spikes = is_sure and self.spike_share > limits.SPIKE_SHARE

    def statements(self) -> list[Statement]:
        """Describe the training loss with numbers."""
        noise = self.noise
        figures = {"noise": noise.nats, "edge": self.edge}
        if not noise.is_known:
            return []
        kind = "movement_calm"
        if self.is_restless:
            kind = "movement"
        elif noise.has_calmed:
            kind, figures = "movement_calmed", {"noise": noise.nats, "before": noise.before}
        elif noise.exceeds():
            kind = "movement_unsure" if noise.comes_back else "movement_leap"
        return [statement_of(kind, column=self.name, **figures)]

    def cost(self) -> list[Statement]:
        """Describe the loss due to noisy weights, if it was measured and matters."""
        return [statement_of("weights_cost", excess=self.excess)] if self.costs_loss else []


class ValidationRoughness:
    """The roughness of the validation curves, compared with sampling noise."""

    def __init__(self, run: Run, flips: WindowFlips) -> None:
        self.run = run
        self.flips = flips
        self.p_values: dict[str, float] = {}
        loss, accuracy = run.settled("val_loss"), run.settled("val_accuracy")
        self.accuracy_known = len(accuracy) >= limits.MIN_EPOCHS
        self.is_known = len(loss) >= limits.MIN_EPOCHS or self.accuracy_known
        self.noise = SteadyNoise()
        self.sd = 0.0
        self.sampling_sd: float | None = None
        self.ratio: float | None = None
        self.surely_beyond_sampling = self.exceeds_sampling = self.follows_the_model = False
        if len(loss) >= limits.MIN_EPOCHS and "val_loss" not in run.without_unit:
            edge = limits.VALIDATION_LOSS_NOISE_NATS
            self.noise = measure_steady_noise(run, "val_loss", "val_loss_noise", edge)
        if self.noise.is_known:
            self.p_values["validation_loss"] = self.noise.p
        if self.accuracy_known:
            self._measure_accuracy(accuracy)
        # the accuracy looks rough, regardless of the number of windows
        self.looks_rough = self.sd > limits.ACCURACY_NOISE
        # the accuracy also moves more than one or two flipping windows can explain
        windows = limits.ACCURACY_NOISE_WINDOWS / run.n_val if run.n_val else 0.0
        self.accuracy_is_rough = self.sd > max(windows, limits.ACCURACY_NOISE)
        # the loss moves far more than in healthy runs; if its noise is unknown, the accuracy moves
        # far more than sampling noise explains
        self.is_strong = (self.ratio or 0.0) > limits.STRONG_EXCESS_OVER_SAMPLING
        if self.noise.is_known:
            self.is_strong = self.noise.exceeds(limits.STRONG_EDGES)

    def _measure_accuracy(self, accuracy: Floats) -> None:
        run = self.run
        self.sd = metrics.detrended_volatility(accuracy)
        self.drawdown = float(accuracy.max() - accuracy[-1])
        self.lucky_best = metrics.selection_bias(self.sd, len(accuracy))
        floor_is = "expected when the best of these epochs is picked"
        run.add("val_accuracy_final_drawdown", self.drawdown, "fraction", self.lucky_best, floor_is)
        if run.n_val is None:
            edge, floor_is = limits.ACCURACY_NOISE, "upper limit for smooth curves"
            run.add("val_accuracy_noise", self.sd, "fraction", edge, floor_is)
            return
        level = float(np.median(accuracy))
        # The binomial variance vanishes at 0 and 1, so keep the level half a window away from both.
        level = min(max(level, 0.5 / run.n_val), 1 - 0.5 / run.n_val)
        self.sampling_sd = metrics.binomial_sd(level, run.n_val)
        floor_is = f"explained by sampling {run.n_val} windows"
        run.add("val_accuracy_noise", self.sd, "fraction", self.sampling_sd, floor_is)
        run.add("val_accuracy_step", 1 / run.n_val, "fraction")
        self.ratio = self.sd / self.sampling_sd
        # The trend absorbs some degrees of freedom, so fewer epochs are independent.
        n_free = max(int(0.6 * len(accuracy)), 2)
        p = self.p_values["validation"] = metrics.sd_ratio_p(self.ratio, n_free)
        run.add("val_accuracy_noise_over_sampling", self.ratio, "ratio", 1.0, "sampling", p=p)

    def decide(self, adjusted: Mapping[str, float]) -> None:
        """Decide which findings are significant, given the adjusted p values."""
        self.surely_beyond_sampling = beyond = (
            self.ratio is not None
            and self.ratio > limits.EXCESS_OVER_SAMPLING
            and adjusted["validation"] < limits.ALPHA
            and self.accuracy_is_rough
        )
        if self.noise.is_known:
            self.follows_the_model = self.noise.passes(adjusted["validation_loss"])
        else:  # without a validation loss, only the accuracy can show the roughness
            self.follows_the_model = beyond or (self.ratio is None and self.accuracy_is_rough)
        may_exceed = self.noise.exceeds() or not self.noise.is_known
        self.exceeds_sampling = beyond and may_exceed and not self.flips.may_explain_excess

    def accuracy_line(self, verdict: str) -> list[Statement]:
        """State whether the accuracy is rough, and whether sampling noise explains it."""
        n_val, flips = self.run.n_val, self.flips
        if not self.accuracy_known:
            return []
        if not self.looks_rough:
            return [statement_of("accuracy_calm", sd=self.sd)]
        if n_val is None or self.ratio is None:
            return [statement_of("accuracy_unsized")]
        if flips.why == "recordings":
            return [statement_of("accuracy_recordings", n_groups=flips.n_groups)]
        if self.surely_beyond_sampling:
            kind = "accuracy_real" if verdict == "fluctuating" else "accuracy_alone"
            kind = "accuracy_together" if flips.may_explain_excess else kind
            return [statement_of(kind, ratio=self.ratio, n_val=n_val)]
        if flips.why == "windows":
            return [statement_of("accuracy_restless", n_val=n_val)]
        return [statement_of("accuracy_luck", n_val=n_val, step=1 / n_val)]

    def statements(self) -> list[Statement]:
        """Describe the validation curves with numbers."""
        statements = self._accuracy_figures() if self.accuracy_known else []
        if self.noise.is_known:
            kind = "movement" if self.noise.exceeds() else "movement_calm"
            figures = {"noise": self.noise.nats, "edge": self.noise.edge}
            statements.append(statement_of(kind, column="val_loss", **figures))
        return statements

    def _accuracy_figures(self) -> list[Statement]:
        n_val, ratio, sampling = self.run.n_val, self.ratio, self.sampling_sd
        if n_val is None or ratio is None or sampling is None:
            return [statement_of("accuracy_moves", sd=self.sd)]
        figures = {"sd": self.sd, "sampling": sampling, "n_val": n_val}
        if self.surely_beyond_sampling:
            return [statement_of("accuracy_beyond_luck", **figures, ratio=ratio)]
        statements = [statement_of("accuracy_within_luck", **figures)]
        train, record = self.run.settled("accuracy"), self.run.record
        if record is not None and len(record.fixed_accuracy) == self.run.n_epochs:
            fixed = np.asarray(record.fixed_accuracy, np.float64)[self.run.first :]
            # prefer the fixed windows, which are evaluated without dropout
            train = fixed if np.isfinite(fixed).all() else train
        if len(train) >= limits.MIN_EPOCHS:
            moves = metrics.detrended_volatility(train)
            statements.append(statement_of("training_accuracy_moves", sd=moves))
        return statements

    @property
    def got_worse(self) -> bool:
        """Whether the accuracy fell after its best epoch by more than chance explains."""
        if not self.accuracy_known or self.drawdown <= self.lucky_best + 2 * self.sd:
            return False
        accuracy = self.run.settled("val_accuracy")
        end = float(np.median(accuracy[-max(len(accuracy) // 6, 3) :]))
        return float(accuracy.max()) - end > max(self.lucky_best + self.sd, limits.ACCURACY_NOISE)

    def drawdown_statement(self) -> list[Statement]:
        """State that a drop after the best epoch is no decline, provided chance explains it."""
        least = max(limits.ACCURACY_NOISE, 1 / self.run.n_val if self.run.n_val else 0.0)
        # `judge.generalization` reports larger falls that last
        if self.accuracy_known and least <= self.drawdown <= self.lucky_best + 2 * self.sd:
            return [statement_of("lucky_best", fall=self.drawdown, luck=self.lucky_best)]
        return []


def collect_evidence(
    run: Run, movement: TrainingMovement, roughness: ValidationRoughness, flips: WindowFlips
) -> dict[str, Any]:
    """Return the series to draw, by name; series that were not recorded are left out.

    - ``loss``, ``fixed_loss``: ``epoch`` (from 1), ``value``, ``trend`` and ``band``, the
      half-width of a band around the trend that contains 95 % of a healthy run's epochs.
    - ``val_accuracy``: ``epoch``, ``value``, ``trend`` and two half-widths, ``band_sampling`` for
      randomly drawn windows, and ``band_independent`` for the actual validation windows if they
      flipped independently. An unknown half-width is None.
    - ``spikes``: ``epoch`` (from 1) of every leap of the training loss.
    """
    evidence: dict[str, Any] = {}
    edges = {"fixed_loss": limits.FIXED_LOSS_NOISE_NATS, "loss": limits.LOSS_NOISE_NATS}
    for name, edge in edges.items():
        curve = _curve(run, name)
        if curve:
            band = limits.TREND_Z * edge * run.scales.get(name, 1.0)
            evidence[name] = {**curve, "band": band}
    curve, sampling = _curve(run, "val_accuracy"), roughness.sampling_sd
    if curve:
        evidence["val_accuracy"] = {
            **curve,
            "band_sampling": None if sampling is None else limits.TREND_Z * sampling,
            "band_independent": limits.TREND_Z * flips.independent_sd if flips.is_known else None,
        }
    if movement.spikes:
        evidence["spikes"] = {"epoch": movement.spikes}
    return evidence


def _curve(run: Run, name: str) -> dict[str, list[float]]:
    values = run.whole(name) * run.scales.get(name, 1.0)  # in the recorded units
    if not len(values) or not np.isfinite(values).all():
        return {}
    return {
        "epoch": (np.flatnonzero(run.columns[name].recorded) + 1).tolist(),
        "value": values.tolist(),
        "trend": metrics.local_trend(values).tolist(),
    }
