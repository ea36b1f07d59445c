"""The figures of a page: series of the evidence, the race's loss curves, suspect windows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.fluctuation.causes.cause import Suspect, Trial
from sensorseq.fluctuation.report.curves import band_of, drawable, floats, note_above
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.report.words import likely
from sensorseq.fluctuation.statistics.run import Floats, plural
from sensorseq.fluctuation.statistics.sides import MAX_POINTS
from sensorseq.html.svg import Panel, extremes, sparkline

MOST_SUSPECTS = 24  # that are drawn
MOST_SETTINGS = 6  # of the race that are drawn: as many have a colour
_CHANNELS = 6
_POINTS = 60  # stretches of a curve


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows, in words."""

    picture: Markup  # the svg element
    title: str
    words: str  # the caption, below the title
    keys: tuple[tuple[str, str], ...] = ()  # the legend: style and words


def place_figures(report: FluctuationReport) -> tuple[dict[str, Figure], list[Figure]]:
    """Return a figure for each cause that quotes one, by name, and those of other statistics."""
    parts = {name: report.evidence.get(name) for name in _SERIES}
    drawn = {name: _SERIES[name][1](part) for name, part in parts.items() if part}
    left = {name: figure for name, figure in drawn.items() if figure is not None}
    of_cause: dict[str, Figure] = {}
    for cause in report.causes:
        if cause.grade != "rejected":
            quoted = [name for name in left if _shows(name, cause.statistics)]
            if quoted:
                of_cause[cause.name] = left.pop(quoted[0])
    return of_cause, [one for name, one in left.items() if _shows(name, report.statistics)]


def _shows(name: str, statistics: Sequence[str] | Mapping[str, Any]) -> bool:
    return any(statistic.startswith(_SERIES[name][0]) for statistic in statistics)


def _fixed_loss(part: Mapping[str, Any]) -> Figure | None:
    epochs, values = floats(part["epoch"]), floats(part["value"])
    if not np.isfinite(values).any():
        return None
    low, high = band_of(part, "band")
    panel = _panel("What the model itself does", epochs, [values, low, high], "epoch", "nats")
    panel.band(epochs, low, high, "trainband")
    panel.line(epochs, values, "measured")
    outside = int(np.sum((values < low) | (values > high)))
    words = (
        "Loss of the same training windows after every epoch, with dropout off, so no luck of the"
        f" draw is in it. {outside} of {len(values)} epochs lie outside the band that holds 95 % of"
        " a healthy run's epochs."
    )
    return _figure(panel, words, ("measured", "measured"), ("trainband", "a healthy run"))


def _common_mode(part: Mapping[str, Any]) -> Figure | None:
    null, observed = np.sort(floats(part["null"])), part["observed"]
    if observed is None or not np.isfinite([*null, observed]).all() or len(null) < 2:
        return None
    by = "groups" if part["by"] == "groups" else "windows"
    panel = Panel(
        f"Do the {by} jump together?",
        padded(np.array([*null, observed])),
        (0.0, 100.0),
        x_label="jumping together, 1 is not at all",
        y_label="shuffles below (%)",
        x_whole=False,
        **_SIZE,
    )
    panel.line(null, np.linspace(0, 100, len(null)), "measured")
    panel.vertical(observed, "limit")
    above = 100 * float(np.mean(null >= observed * (1 - 1e-9)))  # ties reach as much, too
    as_much = f"{above:.0f} %" if above >= 1 else "less than 1 %"
    words = (
        f"Variance of the accuracy's steps, divided by that of {by} that change sides on their own:"
        f" {observed:.3g}. {as_much} of all shuffles of these {by} in time reach as much. Far to"
        " the right of the curve, the model itself jumps."
    )
    keys = ("measured", f"independent {by}"), ("limit", f"this run: {observed:.3g}")
    return _figure(panel, words, *keys)


def _flips(part: Mapping[str, Any]) -> Figure | None:
    rate = np.sort(floats(part["rate"]))[::-1]
    rate = rate[np.isfinite(rate)]
    if not rate.size:
        return None
    panel = Panel(
        "Which windows change sides?",
        (0.0, 100.0),
        (0.0, max(100 * float(rate.max()) * 1.08, 1.0)),
        x_label="validation windows, most restless first (%)",
        y_label="epochs with a change (%)",
        **_SIZE,
    )
    panel.line(100 * (np.arange(len(rate)) + 0.5) / len(rate), 100 * rate, "measured")
    words = (
        "How often each validation window went from right to wrong or back."
        f" {100 * (rate == 0).mean():.0f} % of them never did"
    )
    if rate.any():
        half = int(np.searchsorted(np.cumsum(rate), 0.5 * rate.sum())) + 1
        words += f"; {100 * half / len(rate):.0f} % make half of all changes"
    return _figure(panel, f"{words}.")


def _grad_norm(part: Mapping[str, Any]) -> Figure | None:
    steps, values = floats(part["step"]), floats(part["value"])
    shown = values[np.isfinite(values) & (values > 0)]
    if not shown.size:
        return None
    panel = Panel(
        "How large are the gradients?",
        _ends(steps),
        (float(shown.min()) / 1.3, float(shown.max()) * 1.3),
        x_label="step",
        y_label="gradient norm",
        y_log=True,
        **_SIZE,
    )
    panel.line(steps, values, "measured")
    words = (
        f"Norm of the gradient before clipping, on a logarithmic axis{_thinned(steps)}. Half of the"
        f" points are below {np.median(shown):.3g}; the largest is {shown.max():.3g},"
        f" {shown.max() / np.median(shown):.3g} times that."
    )
    return _figure(panel, words)


def _overshoot(part: Mapping[str, Any]) -> Figure | None:
    steps, change = floats(part["step"]), floats(part["change"])
    known = np.isfinite(change)
    if not known.any():
        return None
    unit = part.get("unit", "nats")
    shown = [change, np.zeros(1)]
    panel = _panel("Do the steps go too far?", steps, shown, "step", unit, "change of the loss")
    panel.line(np.array(panel.x_limits), np.zeros(2), "axis")
    for is_there, style, radius in ((change <= 0, "measured", 2.0), (change > 0, "above", 3.0)):
        panel.dots(steps[known & is_there], change[known & is_there], style, radius)
    words = (
        "Change of a batch's loss by its own step:"
        f" {int((change[known] > 0).sum())} of {known.sum()} made it worse (larger dots, above the"
        f" line){_thinned(steps)}. With momentum, up to a third is ordinary."
    )
    return _figure(panel, words)


# By name of the series: how the names of its statistics begin, and what draws it.
_SERIES: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Figure | None]]] = {
    "fixed_loss": (("fixed_loss", "loss_noise", "excess_plateau"), _fixed_loss),
    "common_mode": (("val_common_mode", "common_mode"), _common_mode),
    "flips": (("val_flips", "val_churn"), _flips),
    "grad_norm": (("grad_", "spike_lift"), _grad_norm),
    "overshoot": (("overshoot",), _overshoot),
}
_SIZE: dict[str, Any] = {"width": 420, "height": 230}


def draw_race(trials: Sequence[Trial]) -> Figure | None:
    """Return the loss curves of the run and of the first settings, on one axis."""
    run = next((curve for trial in trials for curve in trial.curves.get("A", ())), [])
    drawn = [("run", "the run", drawable(run))] + [
        (f"c{number}", trial.name, drawable(curve))
        for number, trial in enumerate(trials[:MOST_SETTINGS])
        for curve in trial.curves.get("B", ())[:1]
    ]
    drawn = [(style, name, curve) for style, name, curve in drawn if np.isfinite(curve).any()]
    if not drawn:
        return None
    values = np.concatenate([curve[np.isfinite(curve)] for *_, curve in drawn])
    first = drawn[0][2][np.isfinite(drawn[0][2])]
    # Settings that explode must not flatten the other curves.
    usual = float(np.quantile(first, 0.9))
    spread = usual - float(first.min()) or abs(usual) or 1.0
    low = float(values.min())
    top = max(min(float(values.max()), usual + 4 * spread), low)
    panel = Panel(
        "Loss by epoch: the run, and other settings",
        (0.5, max(len(curve) for *_, curve in drawn) + 0.5),
        padded(np.array([low, top])),
        x_label="epoch",
        y_label="loss (nats)",
    )
    note_above(panel, values)
    won = "c0" if trials[0].outcome == "confirmed" else ""
    for style, _, curve in drawn:
        keep = extremes(curve, 2 * _POINTS)
        panel.line(keep + 1.0, curve[keep], f"{style} won" if style == won else style)
    words = (
        "Training loss after each epoch, dropout off. Other settings were trained for fewer epochs"
        " than the run, their schedules compressed; those that only end the run begin where it had"
        " got to."
    )
    return _figure(panel, words, *((style, name) for style, name, _ in drawn))


def draw_suspects(suspects: tuple[Suspect, ...]) -> dict[str, Any] | None:
    """Return what the page shows of windows whose labels look wrong; None without any."""
    if not suspects:
        return None
    shown = suspects[:MOST_SUSPECTS]
    n_channels = max(len(suspect.values) for suspect in shown)
    spans = [_span(shown, channel) for channel in range(min(_CHANNELS, n_channels))]
    words = (
        f"{plural(len(suspects), 'training window')} look more like another class to networks that"
        " were not trained on them. Only a person can decide whether a label is wrong: no window"
        " was deleted and no label was changed."
    )
    n, most = len(suspects), MOST_SUSPECTS
    if n > most:
        words += f" The worst {most} of {n} are drawn; report.probes.suspects has all."
    cut = f"; the first {_CHANNELS} of {n_channels} are drawn" if n_channels > _CHANNELS else ""
    return {
        "words": words,
        "shown": [_suspect(suspect, spans) for suspect in shown],
        "scale": f"Each channel has one scale in all pictures{cut}.",
    }


def _suspect(suspect: Suspect, spans: list[tuple[float, float]]) -> dict[str, Any]:
    channels = [
        (drawable(values) - low) / (high - low)
        for values, (low, high) in zip(suspect.values, spans, strict=False)
    ]
    drawn = [
        channel[extremes(channel, _POINTS)] for channel in channels if np.isfinite(channel).any()
    ]
    place = f"row {suspect.row} of X"
    if suspect.recording is not None:
        place += f", of {suspect.recording}"
    share = likely(suspect.probability)
    picture = sparkline(drawn, (0.0, 1.0), f"window {suspect.row}")
    return {
        "picture": Markup(picture) if drawn else "",
        "label": suspect.label,
        "rival": suspect.rival,
        "chance": f"; {share} for its own label" if share else "",
        "place": place,
    }


def _span(suspects: tuple[Suspect, ...], channel: int) -> tuple[float, float]:
    parts = [drawable(one.values[channel]) for one in suspects if len(one.values) > channel]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return padded(values) if values.size else (0.0, 1.0)


def padded(values: Floats) -> tuple[float, float]:
    """Return limits of an axis that leave some room about its values."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    # of values that are equal up to rounding their size is all there is to go by
    margin = 0.06 * (high - low) if high - low > 1e-9 * size else 0.05 * size or 1.0
    return low - margin, high + margin


def _figure(panel: Panel, words: str, *keys: tuple[str, str]) -> Figure:
    return Figure(Markup(panel.render()), panel.title, words, keys)


def _panel(
    title: str, x: Floats, shown: list[Floats], x_label: str, unit: str, what: str = "loss"
) -> Panel:
    values = np.concatenate(shown)
    limits = padded(values[np.isfinite(values)])
    y_label = f"{what} ({unit})" if unit else what
    return Panel(title, _ends(x), limits, x_label=x_label, y_label=y_label, **_SIZE)


def _thinned(steps: Floats) -> str:
    return "; the largest of each stretch is drawn" if len(steps) >= MAX_POINTS else ""


def _ends(x: Floats) -> tuple[float, float]:
    return float(x.min()) - 0.5, float(x.max()) + 0.5
