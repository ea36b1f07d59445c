"""A FluctuationReport as one HTML file, and as the fragment that a notebook shows."""

import base64
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.diagnosis.causes import (
    FAMILIES,
    UNKNOWN,
    Cause,
    Probes,
    Trial,
    data_fault,
    hidden_cause,
)
from sensorseq.diagnosis.curves import band_of, draw_curves, drawable, floats, note_above
from sensorseq.diagnosis.run import Floats, Statistic
from sensorseq.diagnosis.statements import Findings
from sensorseq.diagnosis.words import (
    GRADES,
    Command,
    answer,
    banner_words,
    call,
    chance_of,
    cost_words,
    limits,
    list_steps,
    remaining,
    sizes,
)
from sensorseq.html.render import render
from sensorseq.html.svg import Panel, extremes

MOST_SETTINGS = 6  # of the race that are drawn: as many have a colour
_POINTS = 60  # stretches of a curve


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows, in words."""

    picture: Markup  # the svg element
    title: str
    words: str  # the caption, below the title
    keys: tuple[tuple[str, str], ...] = ()  # the legend: style and words


def draw_fixed_loss(part: Mapping[str, Any]) -> Figure | None:
    """Return how the loss of the fixed training windows moves; None where it is no number."""
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


def _ends(x: Floats) -> tuple[float, float]:
    return float(x.min()) - 0.5, float(x.max()) + 0.5


_N_LEAD = 3  # sentences of the explanation that stand with the verdict
_MAX_DOWNLOAD = 1_300_000  # characters of the link that carries the history
_COLOURS = {"normal": "good", "diverged": "bad", "not_learning": "bad"}
_IN_POINTS = ("accuracy", "best_epoch")  # fractions that are accuracies


def make_page(report: Findings, command: Command | None = None) -> str:
    """Return the page: nothing is fetched, and all of it can be read without scripts."""
    facts = ("n_val", "n_train", "n_classes", "best_epoch")
    file = base64.b64encode(_csv(report.history).encode(errors="backslashreplace")).decode()
    return render(
        "report.html",
        **describe(report, command),
        **describe_evidence(report),
        title=f"Fluctuation report: {banner_words(report)}",
        heading="Fluctuation report",
        of_module=report.of_module,
        facts={name: one for name in facts if (one := getattr(report, name)) is not None},
        csv=file if len(file) <= _MAX_DOWNLOAD else "",
    )


def make_fragment(report: Findings) -> str:
    """Return the top of the page for a notebook, with styles that stay inside of it."""
    return render("fragment.html", **describe(report, copied=False), limits=limits(report))


def describe(
    report: Findings,
    command: Command | None = None,
    *,
    copied: bool = True,
    loss_unit: str = "nats",
) -> dict[str, Any]:
    """Return what the template of the findings shows; `copied` is whether code can be copied."""
    steps = list_steps(report, command)
    (problem, *answers), still_open = answer(report, steps), limits(report)
    repeated = {name for step in steps for name in step.arguments}
    cards = [_card(cause, repeated, command or call) for cause in report.causes]
    return {
        "copied": copied,
        "sizes": sizes(report),
        "verdict": banner_words(report),
        "verdict_words": problem.text,
        "colour": colour_of(report),
        "answers": [replace(part, text=re.sub(":$", ".", part.text)) for part in answers],
        "explanation": [
            part
            for part in remaining(report, answers)
            if part not in still_open and part not in problem.text
        ],
        "n_lead": _N_LEAD,
        "steps": steps,
        "families": _families(report, cards),
        "family_words": FAMILIES,
        "grades": {
            grade: meaning
            for grade, meaning in GRADES.items()
            if any(cause.grade == grade for cause in report.causes)
        },
        "race": None if report.probes is None else _race(report.probes),
        "curves": draw_curves(
            report.history,
            n_val=report.n_val,
            best_epoch=report.best_epoch,
            evidence=report.evidence,
            loss_unit=loss_unit,
        ),
    }


def describe_evidence(report: Findings) -> dict[str, Any]:
    """Return what the template of the evidence shows: a figure, statistics, limits."""
    compared: dict[str, Statistic] = {}
    others: dict[str, Statistic] = {}
    for name, part in report.statistics.items():
        is_alone = part.floor is None and part.p is None
        (others if is_alone else compared)[name] = part
    return {
        "drawn": draw_fixed_loss(fixed) if (fixed := report.evidence.get("fixed_loss")) else None,
        "statistics": _table(compared),
        "more_statistics": _table(others),
        "limits": limits(report),
    }


def colour_of(report: Findings) -> str:
    """Return the lamp that is lit: never green if the model is not as good as it can be."""
    if report.verdict == "fluctuating":
        return "bad" if report.severity == "strong" else "wait"
    colour = _COLOURS.get(report.verdict, "")
    may_cost = hidden_cause(report.verdict, report.causes) or data_fault(report.causes)
    is_doubtful = bool(report.generalization or report.level or may_cost)
    return "wait" if colour == "good" and is_doubtful else colour


def _card(cause: Cause, repeated: set[str], say: Command) -> dict[str, Any]:
    card: dict[str, Any] = dict.fromkeys(("rank", "chance", "repair"), "")
    card |= {"cause": cause, "evidence": cause.evidence, "sources": cause.sources, "width": 0}
    if chance := chance_of(cause):
        what = "likely to be none of those listed" if cause.name == UNKNOWN else "likely"
        card["chance"] = f"{chance} {what}"
        card["width"] = round(min(max(100 * cause.confidence, 0.0), 100.0))
    for words in cause.sources.values():  # of which the evidence may be put together
        card["evidence"] = card["evidence"].replace(words, "").strip()
    if cause.recommendation and not set(cause.recommendation) <= repeated:
        card["repair"] = say(cause.recommendation)
    return card


def _families(report: Findings, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for rank, card in enumerate((c for c in cards if c["cause"].name != UNKNOWN), 1):
        card["rank"] = f"{rank}. "
    return [
        {
            "name": family.name,
            "chance": chance_of(family),
            "cards": [card for card in cards if card["cause"] in family.causes],
        }
        for family in report.families
    ]


def _race(probes: Probes) -> dict[str, Any]:
    """Return the settings that were tried, the adopted first, then by what they gain."""

    def gain_of(trial: Trial) -> float:
        change = trial.raw_change
        return math.inf if change is None or math.isnan(change) else change

    tried = sorted(
        (trial for trial in probes.trials if trial.kind == "race"),
        key=lambda trial: (trial.outcome != "confirmed", gain_of(trial)),
    )
    words = f"The network was trained with other settings: {cost_words(probes)}."
    if tried:
        words += " Gains are over the run, on the validation windows, with one standard error."
    return {
        "words": words,
        "rows": [_row(number, trial) for number, trial in enumerate(tried)],
        "figure": draw_race(tried) if tried else None,
        "others": [trial for trial in probes.trials if trial.kind != "race"],
        "not_tested": probes.not_tested,
    }


def _row(number: int, trial: Trial) -> dict[str, Any]:
    style = f"c{number}" if number < MOST_SETTINGS and trial.curves.get("B") else ""
    row: dict[str, Any] = {"trial": trial, "style": style}
    if trial.raw_change is None or trial.change_error is None:
        sentence = trial.sentence.removeprefix(f"{trial.name}: ")
        return {**row, "sentence": sentence[:1].upper() + sentence[1:]}
    accuracy, error, ratio = trial.accuracy_change, trial.accuracy_error or 0.0, trial.noise_ratio
    points = "" if accuracy is None else f"{100 * accuracy:+.1f} ± {100 * error:.1f}"
    return {
        **row,
        "gain": f"{-trial.raw_change:+.2f} ± {trial.change_error:.2f}",
        "accuracy": points,
        "movement": "" if ratio is None or not math.isfinite(ratio) else f"x{ratio:.2g}",
    }


def _in_units(name: str, value: float, unit: str) -> str:
    """Return the value of a statistic with its unit, in as many digits as mean something."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else ("-" if value < 0 else "") + "infinite"
    if unit == "fraction" and any(word in name for word in _IN_POINTS):
        return f"{_digits(100 * value)} points"
    if unit in ("relative", "fraction"):
        return f"{_digits(100 * value)} %"
    if unit in ("ratio", ""):
        return _digits(value)
    if unit == "z":
        return f"z = {value:.1f}"
    return f"{_digits(value)} {unit.replace('^2', '²')}"


def _table(statistics: Mapping[str, Statistic]) -> dict[str, Any] | None:
    """Return the heads and the rows of a table; None where nothing was measured."""
    heads = ["what", "measured", "compared with"]
    # Most reports have no interval and no probability; two empty columns would be in the way.
    with_interval = any(part.low is not None for part in statistics.values())
    with_p = any(part.p is not None for part in statistics.values())
    heads += ["90 % interval"] * with_interval + ["p"] * with_p
    rows = [
        {
            "what": name.replace("_", " "),
            "measured": _in_units(name, part.value, part.unit),
            "floor": _floor(name, part),
            "cells": [*[_interval(name, part)] * with_interval, *[_p(part)] * with_p],
        }
        for name, part in statistics.items()
    ]
    return {"heads": heads, "rows": rows} if rows else None


def _floor(name: str, statistic: Statistic) -> str:
    if statistic.floor is None:
        return ""
    floor = _in_units(name, statistic.floor, statistic.unit)
    return f"{floor}: {statistic.floor_is}" if statistic.floor_is else floor


def _interval(name: str, statistic: Statistic) -> str:
    if statistic.low is None or statistic.high is None:
        return ""
    low, high = (_in_units(name, end, statistic.unit) for end in (statistic.low, statistic.high))
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and high.endswith(f" {unit}") else f"{low} to {high}"


def _p(statistic: Statistic) -> str:
    p = statistic.p
    return "" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _digits(value: float) -> str:
    """Return three significant digits, whole numbers in full."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _csv(history: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(history)
    writer.writerows(zip(*history.values(), strict=True))
    return text.getvalue()
