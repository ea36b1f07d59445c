"""A FluctuationReport as one HTML file, and as the fragment that a notebook shows."""

import base64
import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause, Probes, Trial, hidden_cause
from sensorseq.fluctuation.causes.table import FAMILIES, UNKNOWN
from sensorseq.fluctuation.report.curves import draw_curves
from sensorseq.fluctuation.report.figures import (
    MOST_SETTINGS,
    Figure,
    draw_race,
    draw_suspects,
    place_figures,
)
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.report.words import (
    GRADES,
    Command,
    answer,
    banner_words,
    call,
    cost_words,
    likely,
    limits,
    list_steps,
    remaining,
    sizes,
)
from sensorseq.fluctuation.statistics.run import Statistic
from sensorseq.html.render import render

_N_LEAD = 3  # sentences of the explanation that stand with the verdict
_MAX_DOWNLOAD = 1_300_000  # characters of the link that carries the history
_VERDICTS = {
    "normal": "The curve is as calm as can be expected of it.",
    "fluctuating": "The curve moves more than a healthy run does.",
    "diverged": "Training diverged.",
    "not_learning": "The network did not learn.",
    "too_short_to_tell": "Too few epochs to tell whether the curve fluctuates.",
}
_DOUBTS = {  # of a normal curve
    "overfitting": "The curve is calm, but the model gets worse on the validation windows.",
    "not_generalizing": "The curve is calm, but what is learned does not hold for the validation"
    " windows.",
}
_COLOURS = {"normal": "good", "diverged": "bad", "not_learning": "bad"}
# The table of statistics
_SERIES = {  # how names of statistics begin
    "train_loss": "training loss",
    "fixed_loss": "loss of fixed training windows",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
}
_MEASURES = {  # ... and go on
    "noise": "noise per epoch",
    "noise_over_sampling": "noise over that of sampling",
    "independent_noise": "noise if windows changed sides one by one",
    "spikes": "epochs that leap up",
    "rise_after_lowest": "rise after its lowest",
    "step": "one window more or less",
    "final_drawdown": "last epoch below the best",
}
_WORDS = {
    "diverged_at_epoch": "epoch of the breakdown",
    "val_balanced_accuracy": "validation accuracy, mean of the classes",
    "common_leaps": "epochs in which both losses leap up",
    "initial_descent": "initial descent, left out",
    "epochs_judged": "epochs judged",
    "noise_late_over_early": "late noise over early noise",
    "noise_trend": "trend of the noise",
    "excess_plateau_loss": "loss that averaging the weights would save",
    "best_epoch_accuracy": "accuracy of the kept epoch, without luck",
    "val_flips_of_restless_windows": "flips of the most restless windows",
    "val_common_mode": "windows that jump together",
    "val_common_mode_of_groups": "groups that jump together",
    "val_effective_windows": "windows that move independently",
}
_POINTS = ("accuracy", "best_epoch")  # fractions that are accuracies


def make_page(report: FluctuationReport, command: Command | None = None) -> str:
    """Return the page: nothing is fetched, and all of it can be read without scripts."""
    facts = ("n_val", "n_train", "n_classes", "best_epoch")
    file = base64.b64encode(_csv(report.history).encode()).decode()
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


def make_fragment(report: FluctuationReport) -> str:
    """Return the top of the page for a notebook, with styles that stay inside of it."""
    return render("fragment.html", **describe(report, copied=False), limits=limits(report))


def describe(
    report: FluctuationReport,
    command: Command | None = None,
    *,
    copied: bool = True,
    loss_unit: str = "nats",
) -> dict[str, Any]:
    """Return what the template of the findings shows; `copied` is whether code can be copied."""
    answers, still_open = answer(report), limits(report)
    words = doubt = _VERDICTS.get(report.verdict, "")
    if hidden_cause(report.verdict, report.causes) is not None:
        doubt = "The curve is calm, but a setting may cost accuracy."
    doubt = _DOUBTS.get(report.generalization or "", doubt)
    steps = list_steps(report, command)
    repeated = {name for step in steps for name in step.arguments}
    of_cause, _ = place_figures(report)
    cards = [_card(cause, of_cause, repeated) for cause in report.causes]
    return {
        "copied": copied,
        "sizes": sizes(report),
        "verdict": banner_words(report),
        "verdict_words": doubt if report.verdict == "normal" else words,
        "colour": colour_of(report),
        "answers": answers,
        "explanation": [part for part in remaining(report, answers) if part not in still_open],
        "n_lead": _N_LEAD,
        "steps": steps,
        "families": _families(report, cards),
        "family_words": FAMILIES,
        "rejected": [card for card in cards if card["cause"].grade == "rejected"],
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


def describe_evidence(report: FluctuationReport) -> dict[str, Any]:
    """Return what the template of the evidence shows: suspects, figures, statistics, limits."""
    compared: dict[str, Statistic] = {}
    others: dict[str, Statistic] = {}
    for name, part in report.statistics.items():
        is_alone = part.floor is None and part.p is None
        (others if is_alone else compared)[name] = part
    return {
        "suspects": None if report.probes is None else draw_suspects(report.probes.suspects),
        "figures": place_figures(report)[1],
        "statistics": _table(compared),
        "more_statistics": _table(others),
        "limits": limits(report),
    }


def colour_of(report: FluctuationReport) -> str:
    """Return the lamp that is lit: never green if the model overfits, fails or got worse."""
    if report.verdict == "fluctuating":
        return "bad" if report.severity == "strong" else "wait"
    colour = _COLOURS.get(report.verdict, "")
    may_cost = hidden_cause(report.verdict, report.causes) is not None
    is_doubtful = report.generalization is not None or may_cost
    return "wait" if colour == "good" and is_doubtful else colour


def _card(cause: Cause, of_cause: Mapping[str, Figure], repeated: set[str]) -> dict[str, Any]:
    card: dict[str, Any] = dict.fromkeys(("rank", "chance", "repair", "advice", "figure"), "")
    card |= {"cause": cause, "evidence": cause.evidence, "sources": {}, "instead": (), "width": 0}
    if cause.grade == "rejected":
        return card
    is_open = cause.grade not in ("proved", "repaired")
    if is_open and (chance := likely(cause.confidence)):
        what = "likely to be none of those listed" if cause.name == UNKNOWN else "likely"
        card["chance"] = f"{chance} {what}"
        card["width"] = round(min(max(100 * cause.confidence, 0.0), 100.0))
    card["sources"] = cause.sources
    for words in card["sources"].values():  # of which the evidence may be put together
        card["evidence"] = card["evidence"].replace(words, "").strip()
    card["figure"] = of_cause.get(cause.name)
    card["advice"] = cause.advice
    if cause.recommendation and not set(cause.recommendation) <= repeated:
        card["repair"] = call(cause.recommendation)
        card["instead"] = [call(change) for change in cause.alternatives if change]
    return card


def _families(report: FluctuationReport, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = [card for card in cards if card["cause"].grade != "rejected"]
    for rank, card in enumerate((c for c in told if c["cause"].name != UNKNOWN), 1):
        card["rank"] = f"{rank}. "
    grouped = [
        {
            "name": family.name,
            "chance": likely(family.confidence),
            "cards": [card for card in told if card["cause"] in family.causes],
        }
        for family in report.families
    ]
    return [family for family in grouped if family["cards"]]


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
    row: dict[str, Any] = {
        "name": trial.name,
        "outcome": trial.outcome,
        "is_adopted": trial.outcome == "confirmed",
        "style": f"c{number}" if number < MOST_SETTINGS and trial.curves.get("B") else "",
        "sentence": "",
    }
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


def _words_of(name: str) -> str:
    for beginning, words in _SERIES.items():
        measure = _MEASURES.get(name.removeprefix(f"{beginning}_"))
        if name.startswith(beginning) and measure is not None:
            return f"{words}: {measure}"
    return _WORDS.get(name, name.replace("_", " "))


def _in_units(name: str, value: float, unit: str) -> str:
    """Return the value of a statistic with its unit, in as many digits as mean something."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else ("-" if value < 0 else "") + "infinite"
    if unit == "fraction" and any(word in name for word in _POINTS):
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
    heads = ["what", "measured", "compared with", "at a glance"]
    # Most reports have no interval and no probability; two empty columns would be in the way.
    with_interval = any(part.low is not None for part in statistics.values())
    with_p = any(part.p is not None for part in statistics.values())
    heads += ["90 % interval"] * with_interval + ["p"] * with_p
    rows = [
        {
            "what": _words_of(name),
            "measured": _in_units(name, part.value, part.unit),
            "floor": _floor(name, part),
            "range": _range(part),
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


def _range(statistic: Statistic) -> dict[str, str]:
    """Return where value, interval and floor stand in a small picture, 96 pixels wide."""
    names = ("value", "low", "high", "floor")
    known = {name: one for name in names if (one := getattr(statistic, name)) is not None}
    known = {name: one for name, one in known.items() if math.isfinite(one)}
    if "value" not in known or (statistic.floor is None and statistic.low is None):
        return {}
    low = min(0.0, *known.values())
    span = max(0.0, *known.values()) - low or 1.0
    return {name: f"{5 + (one - low) / span * 86:.1f}" for name, one in known.items()}


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
