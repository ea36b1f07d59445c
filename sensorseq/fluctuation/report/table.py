"""The statistics of a report as a table in words and units."""

import math
from collections.abc import Mapping
from html import escape

from sensorseq.fluctuation.statistics.run import Statistic

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
_WIDTH, _HEIGHT = 96, 14


def words_of(name: str) -> str:
    """Return what a statistic is called in words."""
    for beginning, words in _SERIES.items():
        measure = _MEASURES.get(name.removeprefix(f"{beginning}_"))
        if name.startswith(beginning) and measure is not None:
            return f"{words}: {measure}"
    return _WORDS.get(name, name.replace("_", " "))


def in_units(name: str, value: float, unit: str) -> str:
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


def make_table(statistics: Mapping[str, Statistic]) -> str:
    """Return the table, or nothing where nothing was measured."""
    if not statistics:
        return ""
    heads = ["what", "measured", "compared with", "at a glance"]
    # Most reports have no interval and no probability; two empty columns would be in the way.
    with_interval = any(part.low is not None for part in statistics.values())
    with_p = any(part.p is not None for part in statistics.values())
    heads += ["90 % interval"] * with_interval + ["p"] * with_p
    rows = []
    for name, part in statistics.items():
        cells = [
            f'<th scope="row">{escape(words_of(name))}</th>',
            f"<td>{escape(in_units(name, part.value, part.unit))}</td>",
            f'<td class="words">{escape(_floor(name, part))}</td>',
            f"<td>{_range(part)}</td>",
        ]
        cells += [f"<td>{escape(_interval(name, part))}</td>"] * with_interval
        cells += [f"<td>{escape(_p(part))}</td>"] * with_p
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{words}</th>' for words in heads)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="statistics">'
        f'<table class="statistics"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _floor(name: str, statistic: Statistic) -> str:
    if statistic.floor is None:
        return ""
    floor = in_units(name, statistic.floor, statistic.unit)
    return f"{floor}: {statistic.floor_is}" if statistic.floor_is else floor


def _interval(name: str, statistic: Statistic) -> str:
    if statistic.low is None or statistic.high is None:
        return ""
    low, high = (in_units(name, end, statistic.unit) for end in (statistic.low, statistic.high))
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and high.endswith(f" {unit}") else f"{low} to {high}"


def _p(statistic: Statistic) -> str:
    if statistic.p is None:
        return ""
    return f"{statistic.p:.3f}" if statistic.p >= 0.001 else "< 0.001"


def _range(statistic: Statistic) -> str:
    """Return a small picture: the value as a dot, its interval as a bar, its floor as a line."""
    numbers = [
        number
        for number in (statistic.value, statistic.low, statistic.high, statistic.floor)
        if number is not None and math.isfinite(number)
    ]
    if (statistic.floor is None and statistic.low is None) or not math.isfinite(statistic.value):
        return ""
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    span = (high - low) or 1.0

    def x(number: float) -> str:
        return f"{5 + (number - low) / span * (_WIDTH - 10):.1f}"

    middle = _HEIGHT / 2
    parts = [f'<line x1="5" x2="{_WIDTH - 5}" y1="{middle:g}" y2="{middle:g}"/>']
    if statistic.low is not None and statistic.high is not None:
        ends = f'x1="{x(statistic.low)}" x2="{x(statistic.high)}"'
        parts.append(f'<line class="span" {ends} y1="{middle:g}" y2="{middle:g}"/>')
    if statistic.floor is not None and math.isfinite(statistic.floor):
        at = x(statistic.floor)
        parts.append(f'<line class="floor" x1="{at}" x2="{at}" y1="1" y2="{_HEIGHT - 1}"/>')
    parts.append(f'<circle cx="{x(statistic.value)}" cy="{middle:g}" r="3.5"/>')
    return (
        f'<svg class="range" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _digits(value: float) -> str:
    """Return three significant digits, whole numbers in full."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}"
