"""Movement: how much the model itself moves, read from the training loss."""

import math

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run, nats
from sensorseq.fluctuation.steady import SteadyNoise, common_leaps, measure_steady_noise
from sensorseq.fluctuation.thresholds import (
    ALPHA,
    EXCESS_PLATEAU_NATS,
    FIXED_LOSS_NOISE_NATS,
    LOSS_NOISE_NATS,
    MIN_EPOCHS,
    ONE_SIDE_EDGES,
    SPIKE_CHANCE,
    SPIKE_EDGES,
    SPIKE_SHARE,
    STRONG_EDGES,
)


class Movement:
    """How much the model moves from epoch to epoch: the training loss.

    Read from the loss of the fixed subset where a record has it, for it holds no sampling and no
    dropout; otherwise from the running loss of the history.
    """

    def __init__(self, run: Run) -> None:
        self.name = "fixed_loss" if len(run.settled("fixed_loss")) >= MIN_EPOCHS else "loss"
        self.known = len(run.settled(self.name)) >= MIN_EPOCHS
        self.edge = FIXED_LOSS_NOISE_NATS if self.name == "fixed_loss" else LOSS_NOISE_NATS
        self.noise: SteadyNoise | None = None
        self.is_hot = self.has_spikes = self.costs_loss = False
        self.spikes: list[int] = []
        self.common_leaps: list[int] = []
        self.p_values: dict[str, float] = {}
        for name, prefix in (("loss", "train_loss"), ("fixed_loss", "fixed_loss")):
            if len(run.settled(name)) >= MIN_EPOCHS:
                self._describe(run, name, prefix)
        if not self.known:
            return
        prefix = "fixed_loss" if self.name == "fixed_loss" else "train_loss"
        self.noise = measure_steady_noise(run, self.name, f"{prefix}_noise", self.edge)
        if self.noise is not None:
            self.p_values["movement"] = self.noise.p
        self._find_spikes(run, run.settled(self.name))
        self.common_leaps = common_leaps(run, self.name)
        run.add("common_leaps", len(self.common_leaps), "epochs", 0.0, "a healthy run")
        self._weigh_cost(run)

    def _describe(self, run: Run, column: str, prefix: str) -> None:
        """Measure what explains a movement, without a rule behind it."""
        loss = run.settled(column)
        whole = run.whole(column)
        residual = loss - metrics.local_trend(loss)
        crossings = metrics.zero_crossings(loss)
        learned = metrics.relative_volatility(
            loss, float(whole[0]), float(whole.min()), 0.1 * run.log_classes
        )
        relative = metrics.softened_log(loss, run.log_classes)
        run.add(f"{prefix}_innovation_variance", metrics.innovation_variance(loss), "nats^2")
        run.add(f"{prefix}_volatility", metrics.detrended_volatility(loss), "nats")
        run.add(f"{prefix}_volatility_of_learned", learned, "ratio")
        run.add(f"{prefix}_noise_relative", metrics.high_frequency_noise(relative), "relative")
        run.add(f"{prefix}_plateau_variance", metrics.plateau_variance(loss), "nats^2")
        run.add(f"{prefix}_slope", metrics.theil_sen_slope(loss), "nats")
        run.add(f"{prefix}_turning_points", metrics.turning_point_z(residual), "z", 0.0, "noise")
        run.add(
            f"{prefix}_zero_crossings",
            crossings.value,
            "ratio",
            float(crossings.null.mean()),
            "the same residuals in random order",
            p=crossings.p,
        )
        run.add(f"{prefix}_autocorrelation", metrics.lag1_autocorrelation(residual), "ratio")
        edge = LOSS_NOISE_NATS if column == "loss" else FIXED_LOSS_NOISE_NATS
        stable = metrics.time_to_stable(whole, edge)
        if stable is not None:
            epoch = int(np.flatnonzero(run.columns[column].recorded)[stable]) + 1
            run.add(f"{prefix}_stable_from", epoch, "epochs")

    def _find_spikes(self, run: Run, loss: Floats) -> None:
        found = metrics.spike_epochs(loss, least_rise=SPIKE_EDGES * self.edge)
        epochs = run.settled_epochs(self.name)
        leaps = [int(epochs[index]) for index in found]
        self.spikes = [epoch + 1 for epoch in leaps if not run.after_rise[epoch]]
        watched = epochs[metrics.trend_window(len(loss)) :]
        n_watched = int((~run.after_rise[watched]).sum())
        self.spike_share = metrics.share_lower_limit(len(self.spikes), n_watched)
        p = metrics.binomial_tail(len(self.spikes), n_watched, SPIKE_CHANCE)
        self.p_values["spikes"] = p
        run.add(
            "train_loss_spikes",
            len(self.spikes),
            "epochs",
            SPIKE_SHARE * n_watched,
            "bad luck",
            p=p,
        )

    def _weigh_cost(self, run: Run) -> None:
        """Measure how much lower the loss of the averaged weights is."""
        if run.record is None or self.name != "fixed_loss":
            return
        averaged, decay = run.record.averaged_loss, run.record.average_decay
        loss = run.settled("fixed_loss")
        if not math.isfinite(averaged):
            return
        excess = metrics.excess_plateau_loss(loss, averaged, decay)
        if not math.isfinite(excess):
            return
        plateau = loss[metrics.plateau_start(loss) :]
        weight = metrics.averaging_weights(len(plateau), decay)
        resampled = metrics.block_bootstrap(plateau, lambda drawn: drawn @ weight) - averaged
        low, high = metrics.interval_of(resampled)
        self.excess = run.add(
            "excess_plateau_loss",
            excess,
            "nats",
            EXCESS_PLATEAU_NATS,
            "harmless below",
            interval=(low, high),
        )
        self.costs_loss = low > EXCESS_PLATEAU_NATS

    def decide(self, adjusted: dict[str, float]) -> None:
        """Close the gates, with the p values of all statistics tested together."""
        if self.noise is not None:
            self.is_hot = self.noise.passes(adjusted["movement"])
        if self.known:
            self.has_spikes = self.spike_share > SPIKE_SHARE and adjusted["spikes"] < ALPHA

    @property
    def is_hot_alone(self) -> bool:
        """Whether it is so hot that no validation side is needed to say so."""
        return (
            self.is_hot and self.noise is not None and self.noise.nats > ONE_SIDE_EDGES * self.edge
        )

    @property
    def is_strong(self) -> bool:
        """Whether it moves by a multiple of what healthy runs do."""
        return self.noise is not None and self.noise.nats > STRONG_EDGES * self.edge

    def sentence(self) -> str:
        """Return what the training loss does, with its figures."""
        if not self.known:
            return "There is no training loss, so it cannot be said how much the model moves."
        what = "The training loss"
        if self.name == "fixed_loss":
            what = "The loss of a fixed part of the training windows"
        noise = self.noise
        if noise is None:
            return f"{what} has too few epochs between rises of the learning rate to be judged."
        figures = f"+-{nats(noise.nats)} nats per epoch over the second half"
        if self.is_hot:
            return f"{what} moves by {figures}; that of a calm run by less than {self.edge}."
        if noise.has_calmed:
            return (
                f"{what} moved by +-{nats(noise.before)} nats at first; now it is calm: {figures}."
            )
        if noise.is_above:
            why = "not for sure" if noise.comes_back else "by a single leap"
            return f"{what} moves by {figures}: above the {self.edge} of a calm run, but {why}."
        return f"{what} is calm (below {self.edge} nats): {figures}."

    def cost_sentence(self) -> list[str]:
        """Return what the noise of the weights costs, where it was measured and matters."""
        if not self.costs_loss:
            return []
        return [
            f"The noise of the weights costs {self.excess:.2f} nats of training loss: the average"
            " of the last epochs' weights is that much better. Let the learning rate decay, or"
            " average the weights."
        ]
