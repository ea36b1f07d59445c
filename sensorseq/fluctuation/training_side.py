"""Movement: how much the model itself moves, read from the training loss."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run, nats
from sensorseq.fluctuation.thresholds import (
    LOSS_NOISE_NATS,
    LOSS_NOISE_RELATIVE,
    MIN_EPOCHS,
    MIN_EPOCHS_FOR_THIRDS,
    SPIKE_EDGES,
    SPIKE_SHARE,
    STRONG_LOSS_NOISE_NATS,
    STRONG_LOSS_NOISE_RELATIVE,
    TREND_Z,
)


class Movement:
    """How much the model moves from epoch to epoch: the training loss."""

    def __init__(self, run: Run) -> None:
        loss = run.settled("loss")
        self.known = len(loss) >= MIN_EPOCHS
        self.is_hot = self.is_strong = self.has_calmed = False
        self.spikes: list[int] = []
        if not self.known:
            return
        relative = metrics.softened_log(loss, run.log_classes)
        self.nats = run.add(
            "train_loss_noise_nats",
            metrics.high_frequency_noise(loss),
            "nats",
            LOSS_NOISE_NATS,
            "healthy runs stay below",
        )
        self.relative = run.add(
            "train_loss_noise_relative",
            metrics.high_frequency_noise(relative),
            "relative",
            LOSS_NOISE_RELATIVE,
            "healthy runs stay below",
        )
        run.add("train_loss_volatility", metrics.detrended_volatility(loss), "nats")
        run.add("train_loss_slope", metrics.theil_sen_slope(loss), "nats")
        residual = loss - metrics.local_trend(loss)
        run.add("train_loss_turning_points", metrics.turning_point_z(residual), "z", 0.0, "noise")
        run.add("train_loss_autocorrelation", metrics.lag1_autocorrelation(residual), "ratio")
        self._find_spikes(run, loss, relative)
        self.is_hot = self.nats > LOSS_NOISE_NATS and self.relative > LOSS_NOISE_RELATIVE
        self.is_strong = (
            self.nats > STRONG_LOSS_NOISE_NATS and self.relative > STRONG_LOSS_NOISE_RELATIVE
        )
        if self.is_hot and len(loss) >= MIN_EPOCHS_FOR_THIRDS:
            self._ask_whether_it_lasts(loss, relative)

    def _find_spikes(self, run: Run, loss: Floats, relative: Floats) -> None:
        in_nats = metrics.spike_epochs(loss, least_rise=SPIKE_EDGES * LOSS_NOISE_NATS)
        in_shares = metrics.spike_epochs(relative, least_rise=SPIKE_EDGES * LOSS_NOISE_RELATIVE)
        recorded = np.flatnonzero(run.columns["loss"].recorded)
        epochs = recorded[recorded >= run.first] + 1
        self.spikes = [int(epochs[index]) for index in sorted({*in_nats} & {*in_shares})]
        n_watched = len(loss) - metrics.trend_window(len(loss))
        self.spike_share = metrics.share_lower_limit(len(self.spikes), n_watched)
        run.add(
            "train_loss_spikes", len(self.spikes), "epochs", SPIKE_SHARE * n_watched, "bad luck"
        )

    @property
    def has_spikes(self) -> bool:
        """Whether more epochs leap up than bad luck makes."""
        return self.known and self.spike_share > SPIKE_SHARE

    def _ask_whether_it_lasts(self, loss: Floats, relative: Floats) -> None:
        """Acquit a run whose noise has died away, as it does under a decaying rate."""
        last = len(loss) // 3
        still_hot = (
            metrics.high_frequency_noise(loss[-last:]) > LOSS_NOISE_NATS
            and metrics.high_frequency_noise(relative[-last:]) > LOSS_NOISE_RELATIVE
        )
        self.has_calmed = not still_hot and metrics.noise_change(loss)[1] < -TREND_Z
        self.is_hot = not self.has_calmed

    def sentence(self) -> str:
        """Return what the training loss does, with its figures."""
        if not self.known:
            return "There is no training loss, so it cannot be said how much the model moves."
        figures = f"+-{nats(self.nats)} nats per epoch ({100 * self.relative:.1f} % of its size)"
        edge, percent = f"{LOSS_NOISE_NATS} nats", f"{100 * LOSS_NOISE_RELATIVE:.1f} %"
        if self.is_hot:
            return (
                f"The training loss moves by {figures}; a calm one by less than {edge} or"
                f" {percent}."
            )
        if self.has_calmed:
            return (
                f"The training loss moved by {figures} on the whole, but has calmed down over the"
                " last third."
            )
        return f"The training loss is calm (below {edge} or {percent}): {figures}."
