"""The training curve for a page: every epoch as it was, and the noise to be expected of it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import plural
from sensorseq.html.svg import MARGIN_TOP, Panel

_KEYS = {
    "train": '<line class="train" x1="0" x2="26" y1="5" y2="5"/>',
    "validation": '<line class="validation" x1="0" x2="26" y1="5" y2="5"/>',
    "band": '<rect class="band" x="0" y="0" width="26" height="10"/>',
    "closeband": '<rect class="closeband" x="0" y="2" width="26" height="6"/>',
    "trainband": '<rect class="trainband" x="0" y="0" width="26" height="10"/>',
    "kept": '<line class="kept" x1="0" x2="26" y1="5" y2="5"/>',
    "best": '<line class="best" x1="0" x2="26" y1="5" y2="5"/>',
    "spike": '<polygon class="spike" points="13,9 8,1 18,1"/>',
    "missing": '<path class="missing" d="M10 2l6 6m0-6l-6 6"/>',
    "trend": '<line class="trend" x1="0" x2="26" y1="5" y2="5"/>',
    "measured": '<line class="measured" x1="0" x2="26" y1="5" y2="5"/>',
    "arm-same": '<line class="arm-same" x1="0" x2="26" y1="5" y2="5"/>',
    "arm-other": '<line class="arm-other" x1="0" x2="26" y1="5" y2="5"/>',
    "arm-changed": '<line class="arm-changed" x1="0" x2="26" y1="5" y2="5"/>',
    "limit": '<line class="limit" x1="0" x2="26" y1="5" y2="5"/>',
}


_LARGEST = 1e30


def key(style: str, words: str) -> str:
    """Return one entry of a legend."""
    return f"<span>{_picture(style)}{escape(words)}</span>"


def draw_curves(
    history: Mapping[str, Sequence[Any]],
    *,
    n_val: int | None = None,
    best_epoch: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    loss_unit: str = "nats",
) -> str:
    """Return the figure of loss and accuracy by epoch, raw, with what noise is expected.

    Parameters
    ----------
    history : mapping of sequences
        Columns `loss`, `val_loss`, `accuracy`, `val_accuracy` (fractions), as far as there are
        any. None is "not recorded"; what is not a number breaks the curve and is marked.
    n_val : int, optional
        Independent validation windows; without it, and without evidence, there is no band.
    best_epoch : int, optional
        Epoch, counted from 1, whose weights were kept.
    evidence : mapping, optional
        That of a `FluctuationReport`: its bands and spikes are drawn in.
    loss_unit : str, default="nats"
        What the loss is measured in; empty where there is no unit.
    """
    columns = {
        name: np.array([np.nan if v is None else v for v in history.get(name, ())], np.float64)
        for name in ("loss", "val_loss", "accuracy", "val_accuracy")
    }
    n_epochs = max(map(len, columns.values()))
    if not any(np.isfinite(values).any() for values in columns.values()):
        return "<p>There is no curve to draw: no number was recorded.</p>"
    figure = _Figure(columns, history, n_epochs, best_epoch, evidence or {})
    loss = figure.loss(f"loss ({loss_unit})" if loss_unit else "loss")
    accuracy = figure.accuracy(n_val)
    legend = "".join(key(style, words) for style, words in figure.legend.items())
    overlay = (
        '<label class="noprint"><input type="checkbox" class="overlay">'
        f"{_picture('trend')}show the local trend as well</label>"
    )
    return (
        f'<div class="curves"><div class="legend">{legend}{overlay}</div>'
        '<div class="scroll" tabindex="0" role="group" aria-label="learning curves">'
        f"{loss}{accuracy}</div></div>"
    )


def describe_band(n_val: int | None) -> str:
    """Return what is to be read from the figure."""
    band = ""
    if n_val:
        band = (
            f" An accuracy measured on {plural(n_val, 'window')} scatters by chance alone: a curve"
            " inside its band is as calm as it can be, were the windows independent. Windows that"
            " overlap, or come from few recordings, scatter more."
        )
    return f'<p class="small">Nothing is smoothed.{band}</p>'


class _Figure:
    """The two panels, which share epochs, marks and one legend."""

    def __init__(
        self,
        columns: dict[str, Floats],
        history: Mapping[str, Sequence[Any]],
        n_epochs: int,
        best_epoch: int | None,
        evidence: Mapping[str, Any],
    ) -> None:
        self.columns, self.history, self.n_epochs = columns, history, n_epochs
        self.best_epoch, self.evidence = best_epoch, evidence
        self.legend: dict[str, str] = {}

    def loss(self, label: str) -> str:
        """Return the loss panel, or a sentence where no loss was recorded."""
        values = np.concatenate([self.columns["loss"], self.columns["val_loss"]])
        values = values[np.isfinite(values)]
        if not values.size:
            return '<p class="small">No loss was recorded.</p>'
        # One explosion must not flatten the rest of the curve.
        top = min(float(values.max()), 3 * float(np.quantile(np.abs(values), 0.9)))
        bottom = min(0.0, float(values.min()))
        top = top if top > bottom else bottom + 1.0
        limits = (bottom, bottom + 1.06 * (top - bottom))
        panel = self._panel("loss by epoch", limits, label)
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
        if (values > limits[1]).any():
            n_above = int((values > limits[1]).sum())
            panel.note(f"{plural(n_above, 'value')} above, up to {values.max():.3g}")
        return panel.render()

    def accuracy(self, n_val: int | None) -> str:
        """Return the accuracy panel, or a sentence where no accuracy was recorded."""
        columns = {name: 100 * self.columns[name] for name in ("accuracy", "val_accuracy")}
        values = np.concatenate(list(columns.values()))
        if not np.isfinite(values).any():
            return '<p class="small">No accuracy was recorded.</p>'
        part = self.evidence.get("val_accuracy") or {}
        val_accuracy = self.columns["val_accuracy"]
        known = np.flatnonzero(np.isfinite(val_accuracy))
        bands: list[tuple[str, str, Floats, Floats, Floats]] = []
        if n_val and known.size:
            low, high = metrics.sampling_band(val_accuracy[known], n_val)
            words = f"95 % of the sampling noise of {plural(n_val, 'window')}"
            bands.append(("band", words, np.asarray(known + 1.0), low, high))
        if part.get("band_independent") is not None:
            low, high = (np.clip(bound, 0, 1) for bound in band_of(part, "band_independent"))
            words = "95 % if these windows changed sides one by one"
            bands.append(("closeband", words, floats(part["epoch"]), low, high))
        values = np.concatenate(
            [values, *(100 * b for *_, low, high in bands for b in (low, high))]
        )
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
        return panel.render()

    def _panel(self, title: str, limits: tuple[float, float], label: str) -> Panel:
        x_limits = (0.5, self.n_epochs + 0.5)
        panel = Panel(title, x_limits, limits, y_label=label, x_label="epoch")
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
            if "loss" in name:
                for epoch in _some(epochs[~np.isfinite(values[recorded])]):
                    panel.cross(epoch, MARGIN_TOP + 5, "missing", f"{name}: no number")
                    self.legend["missing"] = "not a number"

    def _trend(self, panel: Panel, name: str, part: Any, factor: float = 1.0) -> None:
        epochs: Floats
        trend: Floats
        if part is not None and part.get("trend") is not None:
            epochs, trend = floats(part["epoch"]), floats(part["trend"])
        else:
            known = np.flatnonzero(np.isfinite(self.columns[name]))
            if known.size < 3:
                return
            epochs, trend = np.asarray(known + 1.0), metrics.local_trend(self.columns[name][known])
        panel.line(epochs, factor * trend, "trend")


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


def _some(epochs: Floats, most: int = 60) -> Floats:
    return (
        epochs if len(epochs) <= most else epochs[np.linspace(0, len(epochs) - 1, most, dtype=int)]
    )


def _picture(style: str) -> str:
    return f'<svg class="key" viewBox="0 0 26 10" aria-hidden="true">{_KEYS[style]}</svg>'
