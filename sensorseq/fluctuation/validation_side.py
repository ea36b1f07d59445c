"""Roughness: what the reader of a validation curve sees, against what its size explains."""

from collections.abc import Mapping

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.flips import Flips
from sensorseq.fluctuation.run import Run, nats, points
from sensorseq.fluctuation.steady import SteadyNoise, measure_steady_noise
from sensorseq.fluctuation.thresholds import (
    ACCURACY_NOISE,
    ACCURACY_NOISE_WINDOWS,
    ALPHA,
    EXCESS_OVER_SAMPLING,
    MIN_EPOCHS,
    ONE_SIDE_EDGES,
    STRONG_EDGES,
    STRONG_EXCESS_OVER_SAMPLING,
    VALIDATION_LOSS_NOISE_NATS,
)


class Roughness:
    """What the reader of the curve sees: the validation side."""

    def __init__(self, run: Run, flips: Flips) -> None:
        self.run = run
        self.flips = flips
        self.p_values: dict[str, float] = {}
        loss, accuracy = run.settled("val_loss"), run.settled("val_accuracy")
        self.loss_known = len(loss) >= MIN_EPOCHS
        self.accuracy_known = len(accuracy) >= MIN_EPOCHS
        self.known = self.loss_known or self.accuracy_known
        self.noise: SteadyNoise | None = None
        self.sd = 0.0
        self.sampling_sd: float | None = None
        self.ratio: float | None = None
        self.surely_beyond_sampling = self.exceeds_sampling = self.follows_the_model = False
        if self.loss_known:
            self._measure_loss(loss)
        if self.accuracy_known:
            self._measure_accuracy(accuracy)

    def _measure_loss(self, loss: Floats) -> None:
        relative = metrics.softened_log(loss, self.run.log_classes)
        self.run.add("val_loss_noise_relative", metrics.high_frequency_noise(relative), "relative")
        self.noise = measure_steady_noise(
            self.run, "val_loss", "val_loss_noise", VALIDATION_LOSS_NOISE_NATS
        )
        if self.noise is not None:
            self.p_values["validation_loss"] = self.noise.p

    def _measure_accuracy(self, accuracy: Floats) -> None:
        run = self.run
        self.sd = metrics.detrended_volatility(accuracy, robust=False)
        residual = accuracy - metrics.local_trend(accuracy)
        run.add("val_accuracy_autocorrelation", metrics.lag1_autocorrelation(residual), "ratio")
        self.drawdown = metrics.final_drawdown(accuracy)
        self.lucky_best = metrics.selection_bias(self.sd, len(accuracy))
        run.add(
            "val_accuracy_final_drawdown",
            self.drawdown,
            "fraction",
            self.lucky_best,
            "expected when the best of these epochs is picked",
        )
        run.add("val_accuracy_max_drawdown", metrics.max_drawdown(accuracy), "fraction")
        if run.n_val is None:
            run.add("val_accuracy_noise", self.sd, "fraction", ACCURACY_NOISE, "looks rough above")
            return
        level = float(np.median(accuracy))
        # An accuracy of exactly 0 or 1 has no binomial spread; half a window is left to it.
        level = min(max(level, 0.5 / run.n_val), 1 - 0.5 / run.n_val)
        self.sampling_sd = metrics.binomial_sd(level, run.n_val)
        run.add(
            "val_accuracy_noise",
            self.sd,
            "fraction",
            self.sampling_sd,
            f"sampling of {run.n_val} windows alone explains",
        )
        run.add("val_accuracy_step", metrics.granularity(run.n_val), "fraction")
        self.ratio = self.sd / self.sampling_sd
        # A curve sampled by a trend has fewer free epochs than epochs.
        n_free = max(int(0.6 * len(accuracy)), 2)
        p = self.p_values["validation"] = metrics.sd_ratio_p(self.ratio, n_free)
        run.add("val_accuracy_noise_over_sampling", self.ratio, "ratio", 1.0, "sampling", p=p)

    @property
    def looks_rough(self) -> bool:
        """Whether a reader of the curve would ask, however few the windows."""
        return (self.accuracy_known and self.sd > ACCURACY_NOISE) or self.loss_is_rough

    @property
    def accuracy_is_rough(self) -> bool:
        """Whether the accuracy moves by more than a window or two changing sides."""
        n_val = self.run.n_val
        windows = ACCURACY_NOISE_WINDOWS * metrics.granularity(n_val) if n_val else 0.0
        return self.accuracy_known and self.sd > max(windows, ACCURACY_NOISE)

    @property
    def loss_is_rough(self) -> bool:
        """Whether the validation loss moves by more than that of a healthy run."""
        return self.noise is not None and self.noise.is_above

    def decide(self, adjusted: Mapping[str, float]) -> None:
        """Close the gates, with the p values of all statistics tested together."""
        beyond = (
            self.ratio is not None
            and self.ratio > EXCESS_OVER_SAMPLING
            and adjusted["validation"] < ALPHA
            and self.accuracy_is_rough
        )
        self.surely_beyond_sampling = beyond
        # Without a validation loss the accuracy has to show it.
        self.follows_the_model = (
            self.noise.passes(adjusted["validation_loss"])
            if self.noise is not None
            else self.surely_beyond_sampling or (self.ratio is None and self.accuracy_is_rough)
        )
        self.exceeds_sampling = (
            beyond and (self.loss_is_rough or self.noise is None) and not self.flips.acquits
        )

    @property
    def far_exceeds_sampling(self) -> bool:
        """Whether it does so by a multiple, so that a calm training loss is no excuse."""
        return self.exceeds_sampling and (self.ratio or 0.0) > STRONG_EXCESS_OVER_SAMPLING

    @property
    def is_blatant(self) -> bool:
        """The only alarm that a validation loss raises without a training loss."""
        return (
            self.noise is not None
            and self.follows_the_model
            and self.noise.nats > ONE_SIDE_EDGES * self.noise.edge
        )

    @property
    def is_strong(self) -> bool:
        """Whether it moves by a multiple of what healthy runs do."""
        if self.noise is not None:
            return self.noise.nats > STRONG_EDGES * self.noise.edge
        return (self.ratio or 0.0) > STRONG_EXCESS_OVER_SAMPLING

    def sentences(self) -> list[str]:
        """Return what the validation side does, with its figures."""
        said = []
        if self.accuracy_known:
            said.append(self._accuracy_sentence())
        if self.noise is not None:
            calm = f"; that of a calm run by less than {self.noise.edge}"
            said.append(
                f"Validation loss moves by +-{nats(self.noise.nats)} nats per epoch over the second"
                f" half{calm if self.noise.is_above else ''}."
            )
        return said

    def drawdown_sentence(self) -> list[str]:
        """Answer "which epoch's model should I have?", asked when the last is not the best."""
        n_val = self.run.n_val
        if not self.accuracy_known or self.drawdown < max(
            ACCURACY_NOISE, 1 / n_val if n_val else 0
        ):
            return []
        below = f"The last epoch is {points(self.drawdown)} points of accuracy below the best one;"
        luck = (
            f"picking the best of so many noisy epochs accounts for about {points(self.lucky_best)}"
        )
        # The last epoch scatters as well: twice its own noise on top is still luck.
        if self.drawdown <= self.lucky_best + 2 * self.sd:
            return [f"{below} {luck}. No decline can be read from that."]
        return [f"{below} {luck} only: the model got worse."]

    def _training_accuracy(self) -> Floats:
        """Return the accuracy of the fixed subset, which holds no dropout, or the running one."""
        record = self.run.record
        if record is not None and len(record.fixed_accuracy) == self.run.n_epochs:
            fixed = np.asarray(record.fixed_accuracy, np.float64)[self.run.first :]
            if np.isfinite(fixed).all():
                return fixed
        return self.run.settled("accuracy")

    def _accuracy_sentence(self) -> str:
        seen = f"Validation accuracy moves by +-{points(self.sd)} points per epoch"
        n_val = self.run.n_val
        if self.sampling_sd is None or n_val is None or self.ratio is None:
            return f"{seen}."
        windows = f"{n_val} validation windows"
        step = points(metrics.granularity(n_val))
        sampling = points(self.sampling_sd)
        if self.surely_beyond_sampling and self.ratio > EXCESS_OVER_SAMPLING:
            return (
                f"{seen}, {self.ratio:.1f} times the +-{sampling} that sampling {windows} can"
                " explain."
            )
        own = ""
        train = self._training_accuracy()
        if len(train) >= MIN_EPOCHS:
            moves = metrics.detrended_volatility(train, robust=False)
            self.run.add("train_accuracy_noise", moves, "fraction")
            own = f"; on the training windows the model moves by +-{points(moves)}"
        return (
            f"{seen}; +-{sampling} points is what {windows} can give by sampling alone (one window"
            f" is {step} points){own}."
        )
