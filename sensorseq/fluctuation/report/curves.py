"""The training curve of a page: every epoch as it was, with the luck of few windows as a band."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.run import Floats
from sensorseq.html.svg import Panel
from sensorseq.text import plural

_LARGEST = 1e30  # that an axis can span
_MOST_CROSSES = 60


def draw_curves(
    history: Mapping[str, Sequence[Any]],
    *,
    n_val: int | None = None,
    best_epoch: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    loss_unit: str = "nats",
    make_panel: Callable[..., Any] = Panel,
) -> "Curves | None":
    """Draw loss and accuracy (fractions) by epoch, with bands and spikes of the evidence."""
    columns = {
        name: floats(history.get(name, ()))
        for name in ("loss", "val_loss", "accuracy", "val_accuracy")
    }
    if not any(np.isfinite(values).any() for values in columns.values()):
        return None
    drawn = Curves(columns, history, best_epoch, evidence or {}, make_panel)
    drawn.draw_loss(f"loss ({loss_unit})" if loss_unit else "loss")
    drawn.draw_accuracy(n_val)
    return drawn


class Curves:
    """The panels of the loss and of the accuracy, which share epochs, marks and one legend."""

    def __init__(
        self,
        columns: dict[str, Floats],
        history: Mapping[str, Sequence[Any]],
        best_epoch: int | None,
        evidence: Mapping[str, Any],
        make_panel: Callable[..., Any],
    ) -> None:
        self.columns, self.history = columns, history
        self.best_epoch, self.evidence, self.make_panel = best_epoch, evidence, make_panel
        self.panels: list[Any] = []
        self.legend: dict[str, str] = {}
        self.missing: list[str] = []
        self.words = ""

    @property
    def pictures(self) -> list[Markup]:
        """The panels as svg elements."""
        return [Markup(panel.render()) for panel in self.panels]

    def draw_loss(self, label: str) -> None:
        """Draw the panel of the loss, without what lies far above the rest."""
        values = np.concatenate([self.columns["loss"], self.columns["val_loss"]])
        values = values[np.isfinite(values)]
        if not values.size:
            self.missing.append("No loss was recorded.")
            return
        # One explosion must not flatten the rest of the curve.
        top = min(float(values.max()), 3 * float(np.quantile(np.abs(values), 0.9)))
        bottom = min(0.0, float(values.min()))
        top = top if top > bottom else bottom + 1.0
        panel = self._panel("loss by epoch", (bottom, bottom + 1.06 * (top - bottom)), label)
        part = self.evidence.get("loss")
        if part and part.get("band") is not None:
            panel.band(floats(part["epoch"]), *band_of(part, "band"), "trainband")
            self.legend["trainband"] = "95 % of a healthy run's training loss"
        self._trend(panel, "loss", part)
        self._trend(panel, "val_loss", None)
        self._raw(panel, "loss", "val_loss")
        for epoch in self.evidence.get("spikes", {}).get("epoch", ()):
            height = self.columns["loss"][epoch - 1]
            panel.mark(epoch, height, "spike", f"spike in epoch {epoch}: {height:.3g}")
            self.legend["spike"] = "spike of the training loss"
        note_above(panel, values)

    def draw_accuracy(self, n_val: int | None) -> None:
        """Draw the panel of the accuracy, with the bands of luck."""
        columns = {name: 100 * self.columns[name] for name in ("accuracy", "val_accuracy")}
        shown = list(columns.values())
        if not np.isfinite(np.concatenate(shown)).any():
            self.missing.append("No accuracy was recorded.")
            return
        part = self.evidence.get("val_accuracy") or {}
        val_accuracy = self.columns["val_accuracy"]
        known = np.flatnonzero(np.isfinite(val_accuracy))
        bands: list[tuple[str, str, Floats, Floats, Floats]] = []
        if n_val and known.size:
            trend = metrics.local_trend(val_accuracy[known])
            low, high = metrics.sampling_band(trend, n_val)
            luck = 100 * max(trend[-1] - low[-1], high[-1] - trend[-1])
            words = f"95 % of the luck of {plural(n_val, 'window')}"
            bands.append(("band", words, np.asarray(known + 1.0), low, high))
            self.words = (
                f"The luck band shows how far the accuracy of {plural(n_val, 'window')} scatters"
                f" by chance alone: ±{luck:.1f} points at the last epoch, 95 % of the time."
                " A curve inside its band is as calm as it can be. Windows that overlap, or come"
                " from few recordings, scatter more."
            )
        if part.get("band_independent") is not None:
            low, high = (np.clip(bound, 0, 1) for bound in band_of(part, "band_independent"))
            words = "95 % if these windows changed sides one by one"
            bands.append(("closeband", words, floats(part["epoch"]), low, high))
        values = np.concatenate(shown + [100 * b for *_, low, high in bands for b in (low, high)])
        values = values[np.isfinite(values)]
        limits = (max(0.0, float(values.min()) - 4), min(100.0, float(values.max()) + 4))
        panel = self._panel("accuracy by epoch", limits, "accuracy (%)")
        for style, words, epochs, low, high in bands:
            if len(epochs) == 1:  # a band needs some width to be seen
                epochs = epochs[0] + np.array([-0.25, 0.25])
                low, high = low.repeat(2), high.repeat(2)
            panel.band(epochs, 100 * low, 100 * high, style)
            self.legend[style] = words
        self._trend(panel, "val_accuracy", part, factor=100)
        self._raw(panel, "accuracy", "val_accuracy", factor=100)

    def _panel(self, title: str, limits: tuple[float, float], label: str) -> Panel:
        x_limits = (0.5, max(map(len, self.columns.values())) + 0.5)
        panel: Panel = self.make_panel(title, x_limits, limits, y_label=label, x_label="epoch")
        self.panels.append(panel)
        val_loss = self.columns["val_loss"]
        if np.isfinite(val_loss).any():
            lowest = int(np.nanargmin(np.where(np.isfinite(val_loss), val_loss, np.nan))) + 1
            if lowest != self.best_epoch:
                panel.vertical(lowest, "best")
                self.legend["best"] = f"lowest validation loss: epoch {lowest}"
        if self.best_epoch is not None:
            panel.vertical(self.best_epoch, "kept")
            self.legend["kept"] = f"weights kept: epoch {self.best_epoch}"
        return panel

    def _raw(self, panel: Panel, train: str, validation: str, factor: float = 1.0) -> None:
        for name, style, words in (
            (train, "train", "training"),
            (validation, "validation", "validation"),
        ):
            values = factor * self.columns[name]
            if not len(values):
                continue
            # Epochs that recorded nothing are passed over, those without a number break the line.
            recorded = np.array([value is not None for value in self.history[name]])
            epochs = np.flatnonzero(recorded) + 1.0
            panel.line(epochs, values[recorded], style)
            if np.isfinite(values).any():
                self.legend[style] = words
            broken = epochs[~np.isfinite(values[recorded])] if "loss" in name else epochs[:0]
            if len(broken):
                n_drawn = min(len(broken), _MOST_CROSSES)
                drawn = np.linspace(0, len(broken) - 1, n_drawn, dtype=int)
                panel.crosses(broken[drawn], "missing", f"{name}: no number")
                self.legend["missing"] = "not a number"

    def _trend(self, panel: Panel, name: str, part: Any, factor: float = 1.0) -> None:
        if part is not None and part.get("trend") is not None:
            panel.line(floats(part["epoch"]), factor * floats(part["trend"]), "trend")
            return
        known = np.flatnonzero(np.isfinite(self.columns[name]))
        if known.size >= 3:
            trend = metrics.local_trend(self.columns[name][known])
            panel.line(known + 1.0, factor * trend, "trend")


def note_above(panel: Panel, values: Floats) -> None:
    """Say how many values lie above a panel, and how far up."""
    n_above = int((values > panel.y_limits[1]).sum())
    if n_above:
        panel.note(f"{plural(n_above, 'value')} above, up to {values.max():.3g}")


def band_of(part: Mapping[str, Any], name: str) -> tuple[Floats, Floats]:
    """Return the bounds of a band of the evidence: a half-width around its trend."""
    trend = floats(part["trend"])
    return trend - part[name], trend + part[name]


def floats(values: Any) -> Floats:
    """Return a series of the evidence as numbers, NaN for None."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def drawable(values: Any) -> Floats:
    """Return a series as numbers; NaN for None and for what no axis could span."""
    numbers = floats(values)
    return np.where(np.abs(numbers) < _LARGEST, numbers, np.nan)
