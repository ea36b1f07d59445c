"""Roughness: what the reader of a validation curve sees, against what its size explains."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run, nats, points
from sensorseq.fluctuation.thresholds import (
    ACCURACY_NOISE,
    ACCURACY_NOISE_WINDOWS,
    EXCESS_OVER_SAMPLING,
    MIN_EPOCHS,
    VALIDATION_LOSS_NOISE_RELATIVE,
    VALIDATION_ONLY_FACTOR,
)


class Roughness:
    """What the reader of the curve sees: the validation side."""

    def __init__(self, run: Run) -> None:
        self.run = run
        loss, accuracy = run.settled("val_loss"), run.settled("val_accuracy")
        self.loss_known = len(loss) >= MIN_EPOCHS
        self.accuracy_known = len(accuracy) >= MIN_EPOCHS
        self.known = self.loss_known or self.accuracy_known
        self.loss_relative = self.loss_nats = 0.0
        self.sd = 0.0
        self.sampling_sd: float | None = None
        self.ratio: float | None = None
        self.surely_beyond_sampling = False
        if self.loss_known:
            self._measure_loss(loss)
        if self.accuracy_known:
            self._measure_accuracy(accuracy)

    def _measure_loss(self, loss: Floats) -> None:
        relative = metrics.softened_log(loss, self.run.log_classes)
        self.loss_nats = self.run.add(
            "val_loss_noise_nats", metrics.high_frequency_noise(loss), "nats"
        )
        self.loss_relative = self.run.add(
            "val_loss_noise_relative",
            metrics.high_frequency_noise(relative),
            "relative",
            VALIDATION_LOSS_NOISE_RELATIVE,
            "looks rough above",
        )

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
        self.ratio = run.add(
            "val_accuracy_noise_over_sampling", self.sd / self.sampling_sd, "ratio", 1.0, "sampling"
        )
        # A curve sampled by a trend has fewer free epochs than epochs.
        n_free = max(int(0.6 * len(accuracy)), 2)
        self.surely_beyond_sampling = metrics.sd_ratio_lower_limit(self.ratio, n_free) > 1

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
        """Whether the validation loss moves by more than a calm model makes it."""
        return self.loss_known and self.loss_relative > VALIDATION_LOSS_NOISE_RELATIVE

    @property
    def follows_the_model(self) -> bool:
        """Whether the validation side shows the movement, beyond what its size gives anyway."""
        if self.loss_known:
            return self.loss_is_rough or self.surely_beyond_sampling
        return self.accuracy_is_rough

    @property
    def exceeds_sampling(self) -> bool:
        """Whether the accuracy moves by far more than its binomial spread, and surely so."""
        return (
            self.ratio is not None
            and self.ratio > EXCESS_OVER_SAMPLING
            and self.surely_beyond_sampling
            and self.accuracy_is_rough
            and (self.loss_is_rough or not self.loss_known)
        )

    @property
    def is_blatant(self) -> bool:
        """The only alarm that a validation loss raises without training loss and size."""
        return (
            self.loss_relative > VALIDATION_ONLY_FACTOR * VALIDATION_LOSS_NOISE_RELATIVE
            and self.loss_nats > VALIDATION_ONLY_FACTOR * VALIDATION_LOSS_NOISE_RELATIVE
        )

    def sentences(self) -> list[str]:
        """Return what the validation side does, with its figures."""
        said = []
        if self.accuracy_known:
            said.append(self._accuracy_sentence())
        if self.loss_known:
            said.append(
                f"Validation loss moves by +-{nats(self.loss_nats)} nats per epoch"
                f" ({100 * self.loss_relative:.1f} % of its size)."
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
        train = self.run.settled("accuracy")
        if len(train) >= MIN_EPOCHS:
            moves = metrics.detrended_volatility(train, robust=False)
            self.run.add("train_accuracy_noise", moves, "fraction")
            own = f"; on the training windows the model moves by +-{points(moves)}"
        return (
            f"{seen}; +-{sampling} points is what {windows} can give by sampling alone (one window"
            f" is {step} points){own}."
        )
