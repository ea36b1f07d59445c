"""Measures how often `report.level` is right on twins, faulty runs and random settings.

The level that the data allow is the second-best accuracy of a draw's fits on fresh windows, or the
accuracy of the rival (the best simple classifier) if that is higher. A run is sick if it is more
than 5 points below that second-best accuracy, or if its loss moves more than a healthy run's loss.
A run is healthy if it is neither sick nor more than 5 points less accurate than the rival.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnosis.faults import BENIGN, FAULTS, draw_settings, draw_short, inject
from diagnosis.fits import Fit, fit
from diagnosis.generate import TUNED
from diagnosis.resets import REPAIRED, is_calm
from diagnosis.windows import (
    LEAST_FRESH,
    SETS,
    SETS_OF,
    change_parts,
    draw_short_windows,
    draw_windows,
)
from scipy.stats import binomtest
from verdict.data import DrawnParts, LabeledWindows, available, draw
from verdict.plan import SETTINGS, SIZES
from verdict.runs import PLAIN

from sensorseq.diagnosis.rival_models import rivals
from sensorseq.prediction import checked_windows as checked

DIAGNOSIS = "tuned, with and without one fault"
REPAIR, VERDICT = "settings at random", "sensible settings"


def measure_draw(
    number: int, borealtc: Path | None, *, only_tuned: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield a row for each run in three draws of windows, or only in the first draw.

    The draws come from the diagnosis benchmark (tuned settings, with and without a fault), the
    repair benchmark and the verdict benchmark.
    """
    rng = np.random.default_rng([8, number])
    part = ("calibration", "test")[number // 5 % 2]
    if not available(SETS_OF[part][number % 5], borealtc):
        windows = draw_short_windows(part, number, borealtc)
        sizes = windows.train.X.shape[:2]
        faults = [FAULTS[k] for k in rng.permutation(len(FAULTS))[:2]]
        made = [inject(of, rng, *sizes) for of in (*faults, BENIGN[number % len(BENIGN)])]
        runs = [(of.twin, of.twin_change) for of in made]
        runs += [(of.settings, of.change) for of in made]
        yield from _measured(DIAGNOSIS, number, windows, runs)
    name = SETS[number % len(SETS)]
    if only_tuned or available(name, borealtc):
        return
    windows = draw_windows(number, borealtc)
    sizes = windows.train.X.shape[:2]
    runs = [({}, {}), *((draw_short(rng, *sizes, draw_settings), {}) for _ in range(3))]
    yield from _measured(REPAIR, number, windows, runs)
    n_train, n_val = SIZES["test"][int(rng.integers(len(SIZES["test"]) - 1))]
    windows = draw(name, 50_000 + number, n_train, n_val, hard=number % 3 == 2, borealtc=borealtc)
    chosen = rng.permutation(len(SETTINGS))[:3]
    sensible = [PLAIN | list(SETTINGS.values())[k] for k in chosen]
    size = {"hidden_size": int(rng.choice([16, 24, 32])), "batch_size": 16, "max_epochs": 60}
    yield from _measured(VERDICT, number, windows, [(settings | size, {}) for settings in sensible])


def _measured(
    source: str, number: int, windows: DrawnParts, runs: Sequence[tuple[Any, Any]]
) -> list[dict[str, Any]]:
    if len(windows.fresh) < LEAST_FRESH:
        return []
    parts = [change_parts(windows, change, number) for _, change in runs]
    fits = [fit(of, runs[k][0], k) for k, of in enumerate(parts)]
    levels = [of.level for of in fits]
    if source != VERDICT:  # all settings of the verdict benchmark are already sensible
        levels.append(fit(windows, TUNED, 1, judged=False).level)
    best = sorted(levels)[-2]
    seen: dict[str, list[float]] = {}
    return [
        {"source": source, "draw": number, "settings": settings, "change": change, "best": best}
        | _row(of, of_run, seen.setdefault(str(change), _rival_accuracies(of_run)))
        for (settings, change), of_run, of in zip(runs, parts, fits, strict=True)
    ]


def _row(of: Fit, parts: DrawnParts, fresh: list[float]) -> dict[str, Any]:
    report = of.classifier.fluctuation_
    return {
        "n_val": len(parts.validation),
        "level": of.level,
        "movement": of.movement,
        "rival": max(fresh),
        "below": report.level is not None,
        "verdict": report.verdict,
        "generalization": report.generalization,
        "suspects": report.family is not None,
    }


def _rival_accuracies(parts: DrawnParts) -> list[float]:
    """Return the accuracy of each rival on fresh windows."""
    train, fresh = (_part(of) for of in (parts.train, parts.fresh))
    return [float(np.mean(predicted == fresh.target)) for _, predicted in rivals(train, fresh)]


def _part(windows: LabeledWindows) -> checked.Windows:
    lengths = windows.lengths
    lengths = np.full(len(windows.X), windows.X.shape[1]) if lengths is None else lengths
    return checked.Windows(windows.X, lengths, target=windows.y, groups=windows.groups)


def summarize(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the fractions of sick runs and of healthy runs that are flagged."""
    lines = []
    for source in (*dict.fromkeys(row["source"] for row in rows), "all"):
        of_source = [row for row in rows if source in (row["source"], "all")]
        sick = [row for row in of_source if is_sick(row)]
        well = [row for row in of_source if not is_sick(row)]
        healthy = [row for row in well if row["level"] >= row["rival"] - REPAIRED]
        outcomes = {
            "sick, flagged without the level": [_is_flagged(row) for row in sick],
            "sick, flagged": [_is_flagged(row) or row["below"] for row in sick],
            "healthy, level is below_data": [row["below"] for row in healthy],
            "as good as other networks, level is below_data": [row["below"] for row in well],
            "level is below_data, and a simple classifier is better on fresh windows": [
                row["rival"] > row["level"] for row in of_source if row["below"]
            ],
        }
        lines += [_line(source, what, held) for what, held in outcomes.items()]
    return lines


def is_sick(row: Mapping[str, Any]) -> bool:
    """Return whether a run is over 5 points below the best level or its loss moves too much."""
    return row["level"] < row["best"] - REPAIRED or not is_calm(row["movement"])


def _is_flagged(row: Mapping[str, Any]) -> bool:
    is_calm_verdict = row["verdict"] in ("normal", "too_short_to_tell")
    return not is_calm_verdict or row["generalization"] is not None


def _line(source: str, what: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    k, n = sum(outcomes), len(outcomes)
    low, high = binomtest(k, n).proportion_ci(method="exact") if n else (0.0, 1.0)
    return {"source": source, "what": what, "runs": [k, n], "interval": [float(low), float(high)]}
