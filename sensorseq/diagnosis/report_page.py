"""A report as an HTML page or notebook fragment, with curves drawn as SVG."""

import base64
import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.base.text import percent, plural
from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.causes import UNKNOWN, data_fault
from sensorseq.diagnosis.metrics import Floats, Statistic
from sensorseq.diagnosis.report_text import (
    Command,
    NextStep,
    answer_questions,
    banner_words,
    by_share,
    describe_accuracy,
    describe_network,
    describe_open_questions,
    describe_sizes,
    headline,
    list_steps,
    member_name,
    set_params_call,
    unquoted_texts,
)
from sensorseq.diagnosis.statements import ReportContents
from sensorseq.html.render import render
from sensorseq.html.svg import Panel

_MOST_CROSSES = 60


def draw_curves(
    history: Mapping[str, Sequence[Any]],
    *,
    n_val: int | None = None,
    best_epoch: int | None = None,
    evidence: Mapping[str, Any] | None = None,
    loss_unit: str = "nats",
) -> "Curves | None":
    """Draw loss and accuracy by epoch, with bands and spikes; None if neither was recorded."""
    columns = {name: floats(history.get(name, ())) for name in metrics.COLUMNS}
    if not any(np.isfinite(values).any() for values in columns.values()):
        return None
    drawn = Curves(columns, history, best_epoch, evidence or {})
    drawn.draw_loss(f"loss ({loss_unit})" if loss_unit else "loss")
    drawn.draw_accuracy(n_val)
    return drawn


@dataclass
class Curves:
    """The panels of loss and accuracy, which share epochs, marks and a legend."""

    columns: dict[str, Floats]
    history: Mapping[str, Sequence[Any]]
    best_epoch: int | None
    evidence: Mapping[str, Any]
    panels: list[Panel] = field(default_factory=list)
    legend: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    words: str = ""

    @property
    def pictures(self) -> list[Markup]:
        """The panels as SVG elements."""
        return [Markup(panel.render()) for panel in self.panels]

    def draw_loss(self, label: str) -> None:
        """Draw the loss panel; values far above the others are cut off and noted."""
        values = np.concatenate([self.columns["loss"], self.columns["val_loss"]])
        values = values[np.isfinite(values)]
        if not values.size:
            self.missing.append("No loss was recorded.")
            return
        # a single explosion must not flatten the curve
        top = min(float(values.max()), 3 * float(np.quantile(np.abs(values), 0.9)))
        bottom = min(0.0, float(values.min()))
        top = top if top > bottom else bottom + 1.0
        panel = self._panel("loss by epoch", (bottom, bottom + 1.06 * (top - bottom)), label)
        part = self.evidence.get("loss")
        if part and part.get("band") is not None:
            panel.band(floats(part["epoch"]), *band_of(part, "band"), "trainband")
            self.legend["trainband"] = "95 % range of a healthy run's training loss"
        self._trend(panel, "loss", part)
        self._trend(panel, "val_loss", None)
        self._raw(panel, "loss", "val_loss")
        for epoch in self.evidence.get("spikes", {}).get("epoch", ()):
            height = self.columns["loss"][epoch - 1]
            panel.mark(epoch, height, "spike", f"spike in epoch {epoch}: {height:.3g}")
            self.legend["spike"] = "spike in the training loss"
        note_above(panel, values)

    def draw_accuracy(self, n_val: int | None) -> None:
        """Draw the accuracy panel with bands of sampling noise."""
        columns = {name: 100 * self.columns[name] for name in ("accuracy", "val_accuracy")}
        shown = list(columns.values())
        if not np.isfinite(np.concatenate(shown)).any():
            self.missing.append("No accuracy was recorded.")
            return
        part = self.evidence.get("val_accuracy") or {}
        val_accuracy = self.columns["val_accuracy"]
        measured = np.flatnonzero(np.isfinite(val_accuracy))
        bands: list[tuple[str, str, Floats, Floats, Floats]] = []
        if n_val and measured.size:
            trend = metrics.local_trend(val_accuracy[measured])
            low, high = metrics.sampling_band(trend, n_val)
            luck = 100 * max(trend[-1] - low[-1], high[-1] - trend[-1])
            words = f"95 % range of sampling noise for {plural(n_val, 'window')}"
            bands.append(("band", words, np.asarray(measured + 1.0), low, high))
            self.words = (
                "The band of sampling noise shows how far the accuracy of"
                f" {plural(n_val, 'window')} scatters by chance alone: ±{luck:.1f} points at the"
                " last epoch, 95 % of the time."
                " A curve inside its band is as calm as it can be. The accuracy scatters more if"
                " windows overlap or come from few recordings."
            )
        if part.get("band_independent") is not None:
            low, high = (np.clip(bound, 0, 1) for bound in band_of(part, "band_independent"))
            words = "95 % range if these windows flipped independently"
            bands.append(("closeband", words, floats(part["epoch"]), low, high))
        values = np.concatenate(shown + [100 * b for *_, low, high in bands for b in (low, high)])
        values = values[np.isfinite(values)]
        limits = (max(0.0, float(values.min()) - 4), min(100.0, float(values.max()) + 4))
        panel = self._panel("accuracy by epoch", limits, "accuracy (%)")
        for style, words, epochs, low, high in bands:
            if len(epochs) == 1:  # a band needs a minimum width to be visible
                epochs = epochs[0] + np.array([-0.25, 0.25])
                low, high = low.repeat(2), high.repeat(2)
            panel.band(epochs, 100 * low, 100 * high, style)
            self.legend[style] = words
        self._trend(panel, "val_accuracy", part, factor=100)
        self._raw(panel, "accuracy", "val_accuracy", factor=100)

    def _panel(self, title: str, limits: tuple[float, float], label: str) -> Panel:
        x_limits = (0.5, max(map(len, self.columns.values())) + 0.5)
        panel = Panel(title, x_limits, limits, y_label=label, x_label="epoch")
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
        shown = ((train, "train", "training"), (validation, "validation", "validation"))
        for name, style, words in shown:
            values = factor * self.columns[name]
            if not len(values):
                continue
            # skip epochs without an entry; a NaN breaks the line
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
        measured = np.flatnonzero(np.isfinite(self.columns[name]))
        if measured.size >= 3:
            trend = metrics.local_trend(self.columns[name][measured])
            panel.line(measured + 1.0, factor * trend, "trend")


def note_above(panel: Panel, values: Floats) -> None:
    """Note above a panel how many values are cut off, and the largest of them."""
    n_above = int((values > panel.y_limits[1]).sum())
    if n_above:
        panel.note(f"{plural(n_above, 'value')} above, up to {values.max():.3g}")


def band_of(part: Mapping[str, Any], name: str) -> tuple[Floats, Floats]:
    """Return the lower and upper bounds of a band: its trend minus and plus a half-width."""
    trend = floats(part["trend"])
    return trend - part[name], trend + part[name]


def floats(values: Any) -> Floats:
    """Return an evidence series as floats, with NaN for None."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


@dataclass(frozen=True)
class Figure:
    """An SVG picture with its title, caption and legend."""

    picture: Markup
    title: str
    words: str  # the caption
    keys: tuple[tuple[str, str], ...] = ()  # the legend: style and label


def draw_fixed_loss(part: Mapping[str, Any]) -> Figure | None:
    """Draw the loss of the fixed training windows; None if no value is finite."""
    epochs, values = floats(part["epoch"]), floats(part["value"])
    if not np.isfinite(values).any():
        return None
    low, high = band_of(part, "band")
    every = np.concatenate([values, low, high])
    panel = Panel(
        "Movement of the model itself",
        (float(epochs.min()) - 0.5, float(epochs.max()) + 0.5),
        padded(every[np.isfinite(every)]),
        x_label="epoch",
        y_label="loss (nats)",
        width=420,
        height=230,
    )
    panel.band(epochs, low, high, "trainband")
    panel.line(epochs, values, "measured")
    outside = int(np.sum((values < low) | (values > high)))
    words = (
        "Loss of the same training windows after every epoch, computed without dropout and"
        f" therefore without random variation. {outside} of {len(values)} epochs lie outside the"
        " band that contains 95 % of a healthy run's epochs."
    )
    keys = (("measured", "measured"), ("trainband", "a healthy run"))
    return Figure(Markup(panel.render()), panel.title, words, keys)


def padded(values: Floats) -> tuple[float, float]:
    """Return axis limits with a margin around the values."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    # values that are equal except for rounding get a margin relative to their size
    margin = 0.06 * (high - low) if high - low > 1e-9 * size else 0.05 * size or 1.0
    return low - margin, high + margin


_N_LEAD = 3  # number of sentences of the explanation shown beside the verdict
_MAX_DOWNLOAD = 1_300_000  # largest number of characters in the link that contains the history
_COLORS = {"normal": "good", "diverged": "bad", "not_learning": "bad"}
_IN_POINTS = ("accuracy", "best_epoch")  # statistics of accuracies, shown in points


def make_page(report: ReportContents, command: Command | None = None) -> str:
    """Return the HTML page, which is self-contained and readable without scripts."""
    facts = ("n_val", "n_train", "n_classes", "best_epoch")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([report.history, *zip(*report.history.values(), strict=True)])
    file = base64.b64encode(text.getvalue().encode(errors="backslashreplace")).decode()
    return render(
        "report.html",
        **describe(report, command),
        **describe_evidence(report),
        title=f"Fluctuation report: {headline(report)}",
        heading="Fluctuation report",
        facts={name: fact for name in facts if (fact := getattr(report, name)) is not None},
        csv=file if len(file) <= _MAX_DOWNLOAD else "",
    )


def make_fragment(report: ReportContents) -> str:
    """Return the top of the page for a notebook, with styles that do not affect the notebook."""
    return render(
        "fragment.html", **describe(report, copied=False), limits=describe_open_questions(report)
    )


def describe(
    report: ReportContents,
    command: Command | None = None,
    *,
    copied: bool = True,
    loss_unit: str = "nats",
) -> dict[str, Any]:
    """Return values for the findings template; with `copied`, code gets a copy button."""
    steps = list_steps(report, command)
    problem, *answers = answer_questions(report, steps)
    still_open = describe_open_questions(report)
    sentences = [text for text in unquoted_texts(report, answers) if text not in still_open]
    return {
        "copied": copied,
        "sizes": describe_sizes(report),
        "model": None if report.model is None else _describe_model(report),
        "verdict": banner_words(report),
        "verdict_words": problem.text,
        "colour": color_of(report),
        "answers": [replace(part, text=re.sub(":$", ".", part.text)) for part in answers],
        "explanation": [text for text in sentences if text not in problem.text],
        "n_lead": _N_LEAD,
        "steps": steps,
        "causes": _cards(report, steps, command or set_params_call),
        "curves": draw_curves(
            report.history,
            n_val=report.n_val,
            best_epoch=report.best_epoch,
            evidence=report.evidence,
            loss_unit=loss_unit,
        ),
    }


def _describe_model(report: ReportContents) -> dict[str, Any]:
    """Return the accuracy of the model, the rows of its members, and a line about its LSTM."""
    assert report.model is not None
    rows = [
        (
            member_name(each),
            "" if each.share is None else percent(each.share, 0),
            percent(each.accuracy),
            f"{each.log_loss:.3f}",
        )
        for each in by_share(report.model)
    ]
    return {
        "headline": headline(report),
        "words": describe_accuracy(report.model),
        "members": rows,
        "network": describe_network(report),
    }


def describe_evidence(report: ReportContents) -> dict[str, Any]:
    """Return values for the evidence template: a figure, statistics and open questions."""
    compared: dict[str, Statistic] = {}
    others: dict[str, Statistic] = {}
    for name, part in report.statistics.items():
        is_alone = part.floor is None and part.p is None
        (others if is_alone else compared)[name] = part
    return {
        "drawn": draw_fixed_loss(fixed) if (fixed := report.evidence.get("fixed_loss")) else None,
        "statistics": _statistics_table(compared),
        "more_statistics": _statistics_table(others),
        "limits": describe_open_questions(report),
    }


def color_of(report: ReportContents) -> str:
    """Return the color of the verdict's lamp, which is not green if the model could be better."""
    if report.verdict == "fluctuating":
        return "bad" if report.severity == "strong" else "wait"
    color = _COLORS.get(report.verdict, "")
    is_doubtful = report.generalization is not None or data_fault(report.causes) is not None
    return "wait" if color == "good" and is_doubtful else color


def _cards(
    report: ReportContents, steps: Sequence[NextStep], as_code: Callable[[Mapping[str, Any]], str]
) -> list[dict[str, Any]]:
    """Return a card for each cause; a card omits a repair that the steps already contain."""
    repeated = {name for step in steps for name in step.arguments}
    cards: list[dict[str, Any]] = []
    rank = 0
    for cause in report.causes:
        rank += cause.name != UNKNOWN
        evidence = cause.evidence
        # the evidence from each source is shown separately
        for words in cause.sources.values():
            evidence = evidence.replace(words, "").strip()
        is_new = bool(cause.recommendation) and not set(cause.recommendation) <= repeated
        cards.append(
            {
                "cause": cause,
                "rank": "" if cause.name == UNKNOWN else f"{rank}. ",
                "evidence": evidence,
                "repair": as_code(cause.recommendation) if is_new else "",
            }
        )
    return cards


def _in_units(name: str, value: float, unit: str) -> str:
    """Format the value of a statistic with its unit."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else ("-" if value < 0 else "") + "infinite"
    if unit == "z":
        return f"z = {value:.1f}"
    if unit in ("relative", "fraction"):
        is_accuracy = unit == "fraction" and any(word in name for word in _IN_POINTS)
        value, unit = 100 * value, "points" if is_accuracy else "%"
    is_whole = value == round(value) and abs(value) < 1e6
    digits = f"{value:.0f}" if is_whole else f"{value:.3g}"
    return digits if unit in ("ratio", "") else f"{digits} {unit.replace('^2', '²')}"


def _statistics_table(statistics: Mapping[str, Statistic]) -> dict[str, Any] | None:
    """Return the header and rows of a table of statistics; None if there are no rows."""
    # most reports have neither intervals nor p values; omit empty columns
    with_interval = any(part.low is not None for part in statistics.values())
    with_p = any(part.p is not None for part in statistics.values())
    heads = ["what", "measured", "compared with"]
    heads += ["90 % interval"] * with_interval + ["p"] * with_p
    rows = []
    for name, part in statistics.items():
        floor = "" if part.floor is None else _in_units(name, part.floor, part.unit)
        floor += f": {part.floor_is}" if floor and part.floor_is else ""
        interval = ""
        if part.low is not None and part.high is not None:
            low, high = (_in_units(name, end, part.unit) for end in (part.low, part.high))
            number, _, unit = low.partition(" ")
            low = number if unit and high.endswith(f" {unit}") else low
            interval = f"{low} to {high}"
        p = "" if part.p is None else f"{part.p:.3f}" if part.p >= 0.001 else "< 0.001"
        row = {"what": name.replace("_", " "), "measured": _in_units(name, part.value, part.unit)}
        cells = [interval] * with_interval + [p] * with_p
        rows.append({**row, "floor": floor, "cells": cells})
    return {"heads": heads, "rows": rows} if rows else None
