"""The pictures of a page: each a series of the evidence, and a caption that says what it shows."""

from collections.abc import Callable, Collection, Mapping
from html import escape
from typing import Any

import numpy as np

from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.curves import band_of, floats, key
from sensorseq.fluctuation.evidence import MAX_POINTS
from sensorseq.fluctuation.metrics import local_trend
from sensorseq.html.svg import Panel

WIDTH, HEIGHT = 420, 230
_NATS = "loss (nats)"


def draw_evidence(evidence: Mapping[str, Any], without: Collection[str] = ()) -> list[str]:
    """Return a figure for each series of the evidence that can be drawn, but for some."""
    drawn = [draw_one(name, evidence) for name in _FIGURES if name not in without]
    return [drawing for drawing in drawn if drawing]


def draw_one(name: str, evidence: Mapping[str, Any]) -> str:
    """Return the figure of one series; empty where it is not there or cannot be drawn."""
    part = evidence.get(name)
    draw = _FIGURES.get(name) or _CURVES.get(name)
    return draw(part) if part and draw is not None else ""


def _fixed_loss(part: Mapping[str, Any]) -> str:
    title = "What the model itself does"
    words = (
        "Loss of the same training windows after every epoch, measured with dropout off: no luck of"
        " the draw is in it."
    )
    epochs, values = floats(part["epoch"]), floats(part["value"])
    if not np.isfinite(values).any():
        return ""
    low, high = band_of(part, "band")
    panel = _panel(title, epochs, [values, low, high], "epoch", _NATS)
    panel.band(epochs, low, high, "trainband")
    outside = int(np.sum((values < low) | (values > high)))
    words += f" {outside} of {len(values)} epochs lie outside the band, to which 95 % of those of a"
    words += " healthy run keep."
    keys = [key("measured", "measured"), key("trainband", "a healthy run")]
    panel.line(epochs, values, "measured")
    return figure(panel, title, words, keys)


def _common_mode(part: Mapping[str, Any]) -> str:
    null, observed = np.sort(floats(part["null"])), part["observed"]
    if observed is None or not np.isfinite([*null, observed]).all() or len(null) < 2:
        return ""
    by = "groups" if part["by"] == "groups" else "windows"
    share = np.linspace(0, 100, len(null))
    title = f"Do the {by} jump together?"
    panel = Panel(
        title,
        padded(np.array([*null, observed])),
        (0.0, 100.0),
        x_label="jumping together, 1 is not at all",
        y_label="shuffles below (%)",
        width=WIDTH,
        height=HEIGHT,
        x_whole=False,
    )
    panel.line(null, share, "measured")
    panel.vertical(observed, "limit")
    above = 100 * float(np.mean(null >= observed * (1 - 1e-9)))  # ties are as much, too
    as_much = f"{above:.0f} %" if above >= 1 else "less than 1 %"
    words = (
        f"Variance of the accuracy's steps over that of {by} which change sides on their own:"
        f" {observed:.3g}. Shifted against each other in time, {by} of this run reach as much in"
        f" {as_much} of all shuffles. Far to the right of the curve, it is the model that"
        " jumps."
    )
    keys = [key("measured", f"{by} for themselves"), key("limit", f"this run: {observed:.3g}")]
    return figure(panel, title, words, keys)


def _flips(part: Mapping[str, Any]) -> str:
    rate = np.sort(floats(part["rate"]))[::-1]
    rate = rate[np.isfinite(rate)]
    if not rate.size:
        return ""
    title = "Which windows change sides?"
    panel = Panel(
        title,
        (0.0, 100.0),
        (0.0, max(100 * float(rate.max()) * 1.08, 1.0)),
        x_label="validation windows, the most restless first (%)",
        y_label="epochs with a change (%)",
        width=WIDTH,
        height=HEIGHT,
    )
    panel.line(100 * (np.arange(len(rate)) + 0.5) / len(rate), 100 * rate, "measured")
    words = (
        "How often each validation window went from right to wrong or back."
        f" {100 * (rate == 0).mean():.0f} % of them never did"
    )
    if rate.any():
        half = int(np.searchsorted(np.cumsum(rate), 0.5 * rate.sum())) + 1
        words += f"; {100 * half / len(rate):.0f} % make half of all changes"
    words += "."
    return figure(panel, title, words, [])


def _grad_norm(part: Mapping[str, Any]) -> str:
    steps, values = floats(part["step"]), floats(part["value"])
    shown = values[np.isfinite(values) & (values > 0)]
    if not shown.size:
        return ""
    title = "How large are the gradients?"
    panel = Panel(
        title,
        _ends(steps),
        (float(shown.min()) / 1.3, float(shown.max()) * 1.3),
        x_label="step",
        y_label="gradient norm",
        width=WIDTH,
        height=HEIGHT,
        y_log=True,
    )
    panel.line(steps, values, "measured")
    words = (
        f"Norm of the gradient before clipping, on a logarithmic axis{_which(steps)}. Half of the"
        f" points are below {np.median(shown):.3g}, the largest is {shown.max():.3g}:"
        f" {shown.max() / np.median(shown):.3g} times that."
    )
    return figure(panel, title, words, [])


def _batch_loss(part: Mapping[str, Any]) -> str:
    steps, values = floats(part["step"]), floats(part["value"])
    if not np.isfinite(values).all():
        return ""
    title = "Is the loss of the batches wilder than their draw?"
    words = f"Loss of the batches, measured before their step{_which(steps)}."
    keys = [key("measured", "each batch")]
    shown, bounds = [values], None
    if part.get("floor") is not None:
        trend, floor = local_trend(values), 1.96 * floats(part["floor"])
        bounds = trend - floor, trend + floor
        # A single batch with a huge spread must not flatten the picture.
        shown += [np.quantile(bounds[0], [0.02]), np.quantile(bounds[1], [0.98])]
        words += (
            " The band is what drawing other windows gives by itself, 95 % of it: inside of it, a"
            " wild curve is only different batches."
        )
        keys.append(key("band", "drawing of windows alone"))
    panel = _panel(title, steps, shown, "step", f"loss of the batch{_unit(part)}")
    if bounds is not None:
        panel.band(steps, *bounds, "band")
    panel.line(steps, values, "measured")
    return figure(panel, title, words, keys)


def _unit(part: Mapping[str, Any]) -> str:
    unit = part.get("unit", "nats")
    return f" ({unit})" if unit else ""


def _overshoot(part: Mapping[str, Any]) -> str:
    steps, change = floats(part["step"]), floats(part["change"])
    known = np.isfinite(change)
    if not known.any():
        return ""
    title = "Do the steps go too far?"
    panel = _panel(title, steps, [change, np.zeros(1)], "step", f"change of the loss{_unit(part)}")
    panel.horizontal(0.0, "axis")
    panel.dots(steps[known & (change <= 0)], change[known & (change <= 0)], "measured")
    panel.dots(steps[known & (change > 0)], change[known & (change > 0)], "above", 3.0)
    worse = int((change[known] > 0).sum())
    words = (
        f"Loss of a batch right after its own step, less that before: {worse} of {known.sum()}"
        f" made it worse (larger dots, above the line){_which(steps)}. With momentum, up to a third"
        " is ordinary."
    )
    return figure(panel, title, words, [])


def _loss(part: Mapping[str, Any]) -> str:
    epochs, values = floats(part["epoch"]), floats(part["value"])
    if part.get("band") is None or not np.isfinite(values).any():
        return ""
    low, high = band_of(part, "band")
    panel = _panel("What the training loss does", epochs, [values, low, high], "epoch", _NATS)
    panel.band(epochs, low, high, "trainband")
    panel.line(epochs, values, "measured")
    outside = int(np.sum((values < low) | (values > high)))
    words = (
        f"Mean over each epoch, as it was drawn. {outside} of {len(values)} epochs lie outside the"
        " band, to which 95 % of those of a healthy run keep."
    )
    keys = [key("measured", "measured"), key("trainband", "a healthy run")]
    return figure(panel, panel.title, words, keys)


def _val_accuracy(part: Mapping[str, Any]) -> str:
    epochs, values = floats(part["epoch"]), 100 * floats(part["value"])
    if not np.isfinite(values).any():
        return ""
    bands = []
    for name, style, words in (
        ("band_sampling", "band", "95 % of windows drawn anew"),
        ("band_independent", "closeband", "95 % of these, changing sides one by one"),
    ):
        if part.get(name) is not None:
            low, high = (np.clip(100 * bound, 0.0, 100.0) for bound in band_of(part, name))
            bands.append((low, high, style, words))
    title = "What its size alone does to the accuracy"
    shown = [values, *(bound for low, high, *_ in bands for bound in (low, high))]
    panel = _panel(title, epochs, shown, "epoch", "validation accuracy (%)")
    for low, high, style, _ in bands:
        panel.band(epochs, low, high, style)
    panel.line(epochs, values, "measured")
    words = "Accuracy of the validation windows after every epoch."
    if bands:
        low, high = bands[0][:2]
        outside = int(np.sum((values < low) | (values > high)))
        words += f" {outside} of {len(values)} epochs lie outside the widest band."
    keys = [key("measured", "measured"), *(key(style, said) for *_, style, said in bands)]
    return figure(panel, title, words, keys)


_FIGURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "fixed_loss": _fixed_loss,
    "common_mode": _common_mode,
    "flips": _flips,
    "grad_norm": _grad_norm,
    "batch_loss": _batch_loss,
    "overshoot": _overshoot,
}
# The curves of the page show these already; beside a cause they are drawn again, alone.
_CURVES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "loss": _loss,
    "val_accuracy": _val_accuracy,
}


def _which(steps: Floats) -> str:
    """Say it where the evidence has not every step."""
    thinned = len(steps) >= MAX_POINTS
    return "; of each stretch of steps the largest is drawn" if thinned else ""


def figure(panel: Panel, title: str, words: str, keys: list[str]) -> str:
    """Return a picture with its legend and what it shows, in words."""
    legend = f'<div class="legend">{"".join(keys)}</div>' if keys else ""
    return (
        f"<figure>{panel.render()}{legend}"
        f"<figcaption><strong>{escape(title)}</strong>{escape(words)}</figcaption></figure>"
    )


def _panel(title: str, x: Floats, shown: list[Floats], x_label: str, y_label: str) -> Panel:
    values = np.concatenate(shown)
    values = values[np.isfinite(values)]
    return Panel(
        title,
        _ends(x),
        padded(values),
        x_label=x_label,
        y_label=y_label,
        width=WIDTH,
        height=HEIGHT,
    )


def padded(values: Floats) -> tuple[float, float]:
    """Return limits of an axis that leave some room about its values."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    # of values that are equal up to rounding their size is all there is to go by
    margin = 0.06 * (high - low) if high - low > 1e-9 * size else 0.05 * size or 1.0
    return low - margin, high + margin


def _ends(x: Floats) -> tuple[float, float]:
    return float(x.min()) - 0.5, float(x.max()) + 0.5
