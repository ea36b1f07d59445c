"""The two witnesses of a verdict: how the training loss moves, and what validation shows.

`collect_evidence` has the series behind both, as plain lists that a page can draw.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics import thresholds as limits
from sensorseq.fluctuation.statistics.per_window import Flips
from sensorseq.fluctuation.statistics.run import Floats, Run
from sensorseq.fluctuation.statistics.statements import Statement, say

MAX_POINTS = 400  # of a series of steps; of each stretch its largest value is kept
MAX_QUANTILES = 200  # of flip rates


@dataclass(frozen=True, eq=False)
class SteadyNoise:
    """How much a loss moves from epoch to epoch over the second half of a run; NaN if unknown."""

    nats: float = (
        math.nan
    )  # `metrics.mean_noise`, which sees a leap in a few epochs, as a median does not
    edge: float = math.nan  # what healthy runs stay below
    p: float = 1.0  # share of the resamples at or below `SURE_SHARE` of the edge
    without_largest: float = math.nan  # without the second differences that the largest leap enters
    before: float = math.nan  # in what comes before the second half, the descent left out

    @property
    def is_known(self) -> bool:
        """Whether there were enough epochs."""
        return not math.isnan(self.nats)

    def exceeds(self, times: float = 1.0) -> bool:
        """Whether it is above so many times what healthy runs have."""
        return self.nats > times * self.edge

    @property
    def comes_back(self) -> bool:
        """Whether there is noise without its largest leap, too."""
        return self.without_largest > limits.SURE_SHARE * self.edge

    @property
    def has_calmed(self) -> bool:
        """Whether it was above the edge before, and is no longer."""
        return not self.exceeds() and self.before > self.edge

    def passes(self, adjusted_p: float) -> bool:
        """Close the gates: large enough, surely not small, and not the work of one moment."""
        is_sure = adjusted_p < limits.ALPHA or self.without_largest > self.edge
        return self.exceeds() and is_sure and self.comes_back


def measure_steady_noise(run: Run, name: str, statistic: str, edge: float) -> SteadyNoise:
    """Measure the noise of a column and keep it as a statistic, where there is enough.

    Second differences with an epoch right after a scheduled rise of the learning rate are left out.
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
    at = int(sizes.argmax())  # the two beside it share its epoch
    rest = np.delete(sizes, slice(max(at - 1, 0), at + 2))
    noise = SteadyNoise(
        nats=float(metrics.mean_noise_of_differences(sizes)),
        edge=edge,
        p=float((1 + (resampled <= limits.SURE_SHARE * edge).sum()) / (1 + len(resampled))),
        without_largest=float(metrics.mean_noise_of_differences(rest)),
        before=float(metrics.mean_noise_of_differences(before)) if len(before) > 3 else math.nan,
    )
    interval = metrics.interval_of(resampled)
    is_below = "healthy runs stay below"
    run.add(statistic, noise.nats, "nats", edge, is_below, interval=interval, p=noise.p)
    return noise


def common_leaps(run: Run, name: str) -> list[int]:
    """Return the epochs, from 1, of the second half in which both losses leap up.

    Either one can leap for harmless reasons; an event that both see in the same epoch is the
    model's. `name` is the column of the training side: the mean over an epoch shows a leap at its
    end in the next one.
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
    """Return how far each epoch lies above the median of those before it; 0 where not known."""
    rises, n = np.zeros(len(loss)), limits.COMMON_LEAP_EPOCHS
    if len(loss) > n:
        rises[n:] = loss[n:] - np.median(sliding_window_view(loss, n)[:-1], axis=1)
    return np.nan_to_num(rises, nan=0.0)


class Movement:
    """How much the model moves: by the loss of the fixed subset, otherwise the running loss."""

    def __init__(self, run: Run) -> None:
        self.name, statistic, self.edge = "loss", "train_loss_noise", limits.LOSS_NOISE_NATS
        if len(run.settled("fixed_loss")) >= limits.MIN_EPOCHS:
            self.name = "fixed_loss"
            statistic, self.edge = "fixed_loss_noise", limits.FIXED_LOSS_NOISE_NATS
        self.known = len(run.settled(self.name)) >= limits.MIN_EPOCHS
        self.noise = SteadyNoise()
        self.is_hot = self.has_spikes = self.costs_loss = False
        self.excess = math.nan
        self.spikes: list[int] = []
        self.common_leaps: list[int] = []
        self.p_values: dict[str, float] = {}
        if not self.known:
            return
        self.noise = measure_steady_noise(run, self.name, statistic, self.edge)
        if self.noise.is_known:
            self.p_values["movement"] = self.noise.p
        self._find_spikes(run, run.settled(self.name))
        self.common_leaps = common_leaps(run, self.name)
        run.add("common_leaps", len(self.common_leaps), "epochs", 0.0, "a healthy run")
        self._weigh_cost(run)

    def _find_spikes(self, run: Run, loss: Floats) -> None:
        found = metrics.spike_epochs(loss, least_rise=limits.SPIKE_EDGES * self.edge)
        epochs = run.settled_epochs(self.name)
        leaps = [int(epochs[index]) for index in found]
        self.spikes = [epoch + 1 for epoch in leaps if not run.after_rise[epoch]]
        watched = epochs[metrics.trend_window(len(loss)) :]
        n_watched = int((~run.after_rise[watched]).sum())
        self.spike_share = metrics.share_lower_limit(len(self.spikes), n_watched)
        n, most = len(self.spikes), limits.SPIKE_SHARE * n_watched
        p = self.p_values["spikes"] = metrics.binomial_tail(n, n_watched, limits.SPIKE_CHANCE)
        run.add("train_loss_spikes", n, "epochs", most, "bad luck", p=p)

    def _weigh_cost(self, run: Run) -> None:
        if run.record is None or self.name != "fixed_loss":
            return
        averaged, decay = run.record.averaged_loss, run.record.average_decay
        loss = run.settled("fixed_loss")
        excess, interval = metrics.excess_plateau_loss(loss, averaged, decay)
        if not math.isfinite(excess):
            return
        name, limit, is_below = "excess_plateau_loss", limits.EXCESS_PLATEAU_NATS, "harmless below"
        self.excess = run.add(name, excess, "nats", limit, is_below, interval=interval)
        self.costs_loss = interval[0] > limit

    def decide(self, adjusted: Mapping[str, float]) -> None:
        """Close the gates, with the p values of all statistics tested together."""
        self.is_hot = self.noise.passes(adjusted.get("movement", 1.0))
        if self.known:
            is_sure = adjusted["spikes"] < limits.ALPHA
            self.has_spikes = is_sure and self.spike_share > limits.SPIKE_SHARE

    def statements(self) -> list[Statement]:
        """Return what the training loss does, with its figures."""
        noise = self.noise
        figures = {"noise": noise.nats, "edge": self.edge}
        if not noise.is_known:
            return []
        kind = "movement_calm"
        if self.is_hot:
            kind = "movement"
        elif noise.has_calmed:
            kind, figures = "movement_calmed", {"noise": noise.nats, "before": noise.before}
        elif noise.exceeds():
            kind = "movement_unsure" if noise.comes_back else "movement_leap"
        return [say(kind, column=self.name, **figures)]

    def cost(self) -> list[Statement]:
        """Return what the noise of the weights costs, where it was measured and matters."""
        return [say("weights_cost", excess=self.excess)] if self.costs_loss else []


class Roughness:
    """What the reader of the curve sees: the validation side."""

    def __init__(self, run: Run, flips: Flips) -> None:
        self.run = run
        self.flips = flips
        self.p_values: dict[str, float] = {}
        loss, accuracy = run.settled("val_loss"), run.settled("val_accuracy")
        self.accuracy_known = len(accuracy) >= limits.MIN_EPOCHS
        self.known = len(loss) >= limits.MIN_EPOCHS or self.accuracy_known
        self.noise = SteadyNoise()
        self.sd = 0.0
        self.sampling_sd: float | None = None
        self.ratio: float | None = None
        self.surely_beyond_sampling = self.exceeds_sampling = self.follows_the_model = False
        if len(loss) >= limits.MIN_EPOCHS:
            edge = limits.VALIDATION_LOSS_NOISE_NATS
            self.noise = measure_steady_noise(run, "val_loss", "val_loss_noise", edge)
        if self.noise.is_known:
            self.p_values["validation_loss"] = self.noise.p
        if self.accuracy_known:
            self._measure_accuracy(accuracy)

    def _measure_accuracy(self, accuracy: Floats) -> None:
        run = self.run
        self.sd = metrics.detrended_volatility(accuracy)
        self.drawdown = float(accuracy.max() - accuracy[-1])
        self.lucky_best = metrics.selection_bias(self.sd, len(accuracy))
        is_luck = "expected when the best of these epochs is picked"
        run.add("val_accuracy_final_drawdown", self.drawdown, "fraction", self.lucky_best, is_luck)
        if run.n_val is None:
            edge, is_below = limits.ACCURACY_NOISE, "smooth curves stay below"
            run.add("val_accuracy_noise", self.sd, "fraction", edge, is_below)
            return
        level = float(np.median(accuracy))
        # An accuracy of exactly 0 or 1 has no binomial spread; half a window is left to it.
        level = min(max(level, 0.5 / run.n_val), 1 - 0.5 / run.n_val)
        self.sampling_sd = metrics.binomial_sd(level, run.n_val)
        is_luck = f"sampling of {run.n_val} windows alone explains"
        run.add("val_accuracy_noise", self.sd, "fraction", self.sampling_sd, is_luck)
        run.add("val_accuracy_step", 1 / run.n_val, "fraction")
        self.ratio = self.sd / self.sampling_sd
        # A curve sampled by a trend has fewer free epochs than epochs.
        n_free = max(int(0.6 * len(accuracy)), 2)
        p = self.p_values["validation"] = metrics.sd_ratio_p(self.ratio, n_free)
        run.add("val_accuracy_noise_over_sampling", self.ratio, "ratio", 1.0, "sampling", p=p)

    @property
    def looks_rough(self) -> bool:
        """Whether a reader of the accuracy's curve would ask, however few the windows."""
        return self.accuracy_known and self.sd > limits.ACCURACY_NOISE

    @property
    def accuracy_is_rough(self) -> bool:
        """Whether the accuracy moves by more than a window or two changing sides."""
        windows = limits.ACCURACY_NOISE_WINDOWS / self.run.n_val if self.run.n_val else 0.0
        return self.accuracy_known and self.sd > max(windows, limits.ACCURACY_NOISE)

    def decide(self, adjusted: Mapping[str, float]) -> None:
        """Close the gates, with the p values of all statistics tested together."""
        beyond = (
            self.ratio is not None
            and self.ratio > limits.EXCESS_OVER_SAMPLING
            and adjusted["validation"] < limits.ALPHA
            and self.accuracy_is_rough
        )
        self.surely_beyond_sampling = beyond
        # Without a validation loss the accuracy has to show it.
        self.follows_the_model = (
            self.noise.passes(adjusted["validation_loss"])
            if self.noise.is_known
            else self.surely_beyond_sampling or (self.ratio is None and self.accuracy_is_rough)
        )
        self.exceeds_sampling = (
            beyond and (self.noise.exceeds() or not self.noise.is_known) and not self.flips.acquits
        )

    @property
    def is_strong(self) -> bool:
        """Whether it moves by a multiple of what healthy runs do."""
        if self.noise.is_known:
            return self.noise.exceeds(limits.STRONG_EDGES)
        return (self.ratio or 0.0) > limits.STRONG_EXCESS_OVER_SAMPLING

    def accuracy_line(self, verdict: str) -> list[Statement]:
        """Return whether the accuracy jumps, and whether that is luck."""
        n_val, flips = self.run.n_val, self.flips
        if not self.accuracy_known:
            return []
        if not self.looks_rough:
            return [say("accuracy_calm", sd=self.sd)]
        if n_val is None or self.ratio is None:
            return [say("accuracy_unsized")]
        if flips.why == "recordings":
            return [say("accuracy_recordings", n_groups=flips.n_groups)]
        if self.surely_beyond_sampling:
            kind = "accuracy_real" if verdict == "fluctuating" else "accuracy_alone"
            kind = "accuracy_together" if flips.acquits else kind
            return [say(kind, ratio=self.ratio, n_val=n_val)]
        if flips.why == "windows":
            return [say("accuracy_restless", n_val=n_val)]
        return [say("accuracy_luck", n_val=n_val, step=1 / n_val)]

    def statements(self) -> list[Statement]:
        """Return what the validation side does, with its figures."""
        said = self._accuracy_figures() if self.accuracy_known else []
        if self.noise.is_known:
            kind = "movement" if self.noise.exceeds() else "movement_calm"
            figures = {"noise": self.noise.nats, "edge": self.noise.edge}
            said.append(say(kind, column="val_loss", **figures))
        return said

    def _accuracy_figures(self) -> list[Statement]:
        n_val, ratio, sampling = self.run.n_val, self.ratio, self.sampling_sd
        if n_val is None or ratio is None or sampling is None:
            return [say("accuracy_moves", sd=self.sd)]
        figures = {"sd": self.sd, "sampling": sampling, "n_val": n_val}
        if self.surely_beyond_sampling:
            return [say("accuracy_beyond_luck", **figures, ratio=ratio)]
        said = [say("accuracy_within_luck", **figures)]
        train, record = self.run.settled("accuracy"), self.run.record
        if record is not None and len(record.fixed_accuracy) == self.run.n_epochs:
            fixed = np.asarray(record.fixed_accuracy, np.float64)[self.run.first :]
            train = fixed if np.isfinite(fixed).all() else train  # which holds no dropout
        if len(train) >= limits.MIN_EPOCHS:
            moves = metrics.detrended_volatility(train)
            said.append(say("training_accuracy_moves", sd=moves))
        return said

    @property
    def got_worse(self) -> bool:
        """Whether the accuracy fell from its best epoch to the last ones, beyond luck."""
        if not self.accuracy_known or self.drawdown <= self.lucky_best + 2 * self.sd:
            return False
        accuracy = self.run.settled("val_accuracy")
        end = float(np.median(accuracy[-max(len(accuracy) // 6, 3) :]))
        return float(accuracy.max()) - end > max(self.lucky_best + self.sd, limits.ACCURACY_NOISE)

    def drawdown_statement(self) -> list[Statement]:
        """Answer whether a last epoch below the best one is a decline."""
        least = max(limits.ACCURACY_NOISE, 1 / self.run.n_val if self.run.n_val else 0.0)
        # a longer fall that lasts is told as part of the generalization
        if self.accuracy_known and least <= self.drawdown <= self.lucky_best + 2 * self.sd:
            return [say("lucky_best", fall=self.drawdown, luck=self.lucky_best)]
        return []


def collect_evidence(
    run: Run, movement: Movement, roughness: Roughness, flips: Flips
) -> dict[str, Any]:
    """Return what there is of these, by name.

    - ``loss``, ``fixed_loss``: ``epoch`` (from 1), ``value``, ``trend`` and ``band``, the
      half-width in nats that 95 % of the epochs of a healthy run keep to.
    - ``val_accuracy``: the same with ``band_sampling`` (windows drawn anew) and
      ``band_independent`` (these windows, flipping independently); None where not known.
    - ``common_mode``: ``observed`` R or R_g, ``null``: its quantiles 0, 1 ... 100 % by chance,
      ``by``: ``"windows"`` or ``"groups"``.
    - ``flips``: ``rate``, flips per epoch of each window, rising.
    - ``grad_norm``: ``step`` (from 0), ``value``.
    - ``spikes``: ``epoch`` (from 1) of every leap of the training loss.
    """
    evidence: dict[str, Any] = {}
    edges = {"fixed_loss": limits.FIXED_LOSS_NOISE_NATS, "loss": limits.LOSS_NOISE_NATS}
    for name, edge in edges.items():
        curve = _curve(run, name)
        if curve:
            evidence[name] = {**curve, "band": limits.TREND_Z * edge}
    curve, sampling = _curve(run, "val_accuracy"), roughness.sampling_sd
    if curve:
        evidence["val_accuracy"] = {
            **curve,
            "band_sampling": None if sampling is None else limits.TREND_Z * sampling,
            "band_independent": limits.TREND_Z * flips.independent_sd if flips.known else None,
        }
    if flips.known:
        test = flips.by_window if flips.by_group is None else flips.by_group
        if np.isfinite(test.value):
            evidence["common_mode"] = {
                "observed": test.value,
                "null": np.quantile(test.null, np.linspace(0, 1, 101)).tolist(),
                "by": "windows" if flips.by_group is None else "groups",
            }
        evidence["flips"] = {"rate": _quantiles(flips.rates)}
    if movement.spikes:
        evidence["spikes"] = {"epoch": movement.spikes}
    evidence.update(_of_steps(run))
    return evidence


def _of_steps(run: Run) -> dict[str, Any]:
    record = run.record
    if record is None:
        return {}
    evidence: dict[str, Any] = {}
    steps = record.steps
    if "grad_norm" in steps and np.isfinite(steps["grad_norm"]).any():
        at = _largest_of_stretches(steps["grad_norm"])
        evidence["grad_norm"] = {"step": at.tolist(), "value": steps["grad_norm"][at].tolist()}
    return evidence


def _curve(run: Run, name: str) -> dict[str, list[float]]:
    values = run.whole(name)
    if not len(values) or not np.isfinite(values).all():
        return {}
    return {
        "epoch": (np.flatnonzero(run.columns[name].recorded) + 1).tolist(),
        "value": values.tolist(),
        "trend": metrics.local_trend(values).tolist(),
    }


def _quantiles(rates: Floats) -> list[float]:
    few = np.sort(rates)
    if len(rates) > MAX_QUANTILES:
        few = np.quantile(rates, np.linspace(0, 1, MAX_QUANTILES))
    return [float(rate) for rate in few]


def _largest_of_stretches(values: Floats) -> NDArray[np.int64]:
    """Return where the largest value of each of `MAX_POINTS` equal stretches lies."""
    known = np.flatnonzero(np.isfinite(values))
    stretches = np.array_split(known, min(MAX_POINTS, max(len(known), 1)))
    return np.array([part[values[part].argmax()] for part in stretches if len(part)], np.int64)
