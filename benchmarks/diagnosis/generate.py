"""Makes the rows of the diagnosis benchmark: one per run, with the outcomes of its single resets.

A draw of windows gets two runs with random settings, two near-tuned twins with one injected fault
each, and one healthy run. In the calibration part, only every second draw has a healthy run. In the
part ``"sick"``, a draw gets two near-tuned runs on faulty data. The best known level of a draw
comes from all these fits, their twins, and a fit with settings that were tuned by hand. A row is
one line of a JSON Lines file; the record of its run is in a separate file, so that features can be
computed again without training.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.json_lines import append_line, read_lines
from common.measured_code import MeasuredCode
from diagnosis.faults import (
    BENIGN,
    DATA_FAULTS,
    FAULTS,
    Injected,
    draw_settings,
    draw_short,
    inject,
)
from diagnosis.fits import Fit, Settings, fit
from diagnosis.resets import ALL_DEFAULTS, COSINE, SAME, is_calm, list_resets
from diagnosis.windows import LEAST_FRESH, SETS_OF, change_parts, draw_short_windows
from verdict.data import DrawnParts, available
from verdict.runs import Evidence, save

HEALTHY_GAP = 0.03  # a calm run within this gap of the best level is healthy and gets few resets
OF_HEALTHY = (SAME, ALL_DEFAULTS, COSINE)
TUNED = {"learning_rate": 0.01, "batch_size": 16, "hidden_size": 48, "max_epochs": 40}
NATURAL, INJECTED, HEALTHY = "natural", "injected", "benign"


@dataclass(frozen=True)
class Planned:
    """One planned run of a draw.

    Parameters
    ----------
    slot : int
        The number of the run within the draw.
    role : str
        ``"natural"``, ``"injected"`` or ``"benign"``.
    settings, change : dict
        Settings of the classifier and changes of the data.
    injected : Injected or None
        The fault and the twin from which the run was made.
    """

    slot: int
    role: str
    settings: Settings
    change: dict[str, Any]
    injected: Injected | None = None


def plan_draw(part: str, number: int, n_train: int, n_steps: int) -> list[Planned]:
    """Return the runs of a draw."""
    rng = np.random.default_rng([6, number, sum(part.encode())])
    order = np.random.default_rng(sum(part.encode())).permutation(len(FAULTS))
    planned = []
    if part == "sick":
        for place in range(2):
            fault = DATA_FAULTS[(2 * number + place) % len(DATA_FAULTS)]
            planned.append(_injected(place, INJECTED, inject(fault, rng, n_train, n_steps)))
        return planned
    for place in range(2):
        drawn = draw_short(rng, n_train, n_steps, draw_settings)
        planned.append(Planned(2 * place, NATURAL, drawn, {}))
        fault = FAULTS[order[(2 * number + place) % len(FAULTS)]]
        planned.append(_injected(2 * place + 1, INJECTED, inject(fault, rng, n_train, n_steps)))
    every = 1 if part == "test" else 2
    if number % every == every - 1:
        fault = BENIGN[number // every % len(BENIGN)]
        planned.append(_injected(4, HEALTHY, inject(fault, rng, n_train, n_steps)))
    return planned


def _injected(slot: int, role: str, injected: Injected) -> Planned:
    return Planned(slot, role, injected.settings, injected.change, injected)


def seed_of(number: int, slot: int) -> int:
    """Return the seed of a run; the run's resets have other seeds."""
    return 1000 * number + 100 * slot


def measure_draw(
    part: str, number: int, borealtc: Path | None, done: Mapping[str, Any], records: Path
) -> Iterator[dict[str, Any]]:
    """Yield the missing rows of a draw, or none if there are too few fresh windows."""
    drawn = draw_short_windows(part, number, borealtc)
    if len(drawn.fresh) < LEAST_FRESH:
        return
    n_train, n_steps = drawn.train.X.shape[:2]
    planned = plan_draw(part, number, n_train, n_steps)
    if all(_name(part, number, run) in done for run in planned):
        return
    parts = {run.slot: change_parts(drawn, run.change, number) for run in planned}
    fits = {
        run.slot: fit(parts[run.slot], run.settings, seed_of(number, run.slot), every_epoch=True)
        for run in planned
    }
    levels = {f"slot {slot}": of.level for slot, of in fits.items()}
    levels["tuned"] = fit(drawn, TUNED, 1, judged=False).level
    for run in planned:
        if run.injected is not None and run.role == INJECTED:
            of_twin = change_parts(drawn, run.injected.twin_change, number)
            twin = fit(of_twin, run.injected.twin, seed_of(number, run.slot) + 1, judged=False)
            levels[f"twin {run.slot}"] = twin.level
    for run in planned:
        if (name := _name(part, number, run)) not in done:
            row = {"name": name, "part": part, "draw": number, "data": _data(part, number)}
            measured, again = measure_run(
                run, fits[run.slot], drawn, parts[run.slot], levels, number
            )
            row |= measured
            save(_evidence(row, parts[run.slot], fits[run.slot]), records / f"{name}.npz")
            save(_evidence(row, parts[run.slot], again), records / f"{name}-again.npz")
            yield row


def _name(part: str, number: int, run: Planned) -> str:
    return f"{part}-{number}-{run.slot}"


def _data(part: str, number: int) -> str:
    return SETS_OF[part][number % len(SETS_OF[part])]


def measure_run(
    run: Planned,
    of_run: Fit,
    drawn: DrawnParts,
    parts: DrawnParts,
    levels: Mapping[str, float],
    number: int,
) -> tuple[dict[str, Any], Fit]:
    """Fit the resets of a run; return its row, and the fit of the same run with another seed."""
    started = time.perf_counter()
    report = of_run.classifier.fluctuation_
    n_train, n_steps = parts.train.X.shape[:2]
    injected = run.injected
    resets = list_resets(
        run.settings,
        run.change,
        n_train,
        n_steps,
        twin=None if injected is None else injected.twin,
        cause="" if injected is None else injected.fault.cause,
    )
    healthy = of_run.level >= max(levels.values()) - HEALTHY_GAP and is_calm(of_run.movement)
    cause = "" if injected is None else injected.fault.cause
    outcomes = {}
    for place, reset in enumerate(resets):
        if healthy and reset.name not in OF_HEALTHY and reset.cause != cause:
            continue
        of_data = parts if reset.change == run.change else change_parts(drawn, reset.change, number)
        seed = seed_of(number, run.slot) + 10 + place
        is_same = reset.name == SAME
        again = fit(of_data, reset.settings, seed, every_epoch=is_same, judged=is_same)
        outcomes[reset.name] = _outcome(again, reset.cause)
        if is_same:
            same = again
            at_best = {"cause": "early_stopping", "level": again.level_at_best}
            outcomes["early_stopping: best epoch"] = outcomes[SAME] | at_best
    report_values = report.to_dict()
    row = {
        "role": run.role,
        "cause": cause,
        "kind": "" if injected is None else injected.fault.kind,
        "seed": seed_of(number, run.slot),
        "settings": run.settings,
        "change": run.change,
        "twin": None if injected is None else injected.twin,
        "sizes": [n_train, len(parts.validation), n_steps, parts.train.X.shape[2]],
        "verdict": report.verdict,
        "level": of_run.level,
        "movement": of_run.movement,
        "level_at_best": of_run.level_at_best,
        "known": dict(levels),
        "resets": outcomes,
        "report": {
            name: report_values[name]
            for name in report_values
            if name not in ("evidence", "history")
        },
        "history": of_run.classifier.history_.to_rows(),
        "fresh": [None if np.isnan(a) else round(float(a), 4) for a in of_run.accuracy],
        "fit_s": of_run.fit_s,
        "row_s": of_run.fit_s + time.perf_counter() - started,
    }
    return row, same


def _outcome(of: Fit, cause: str) -> dict[str, Any]:
    return {"cause": cause, "level": of.level, "movement": of.movement}


def _evidence(row: Mapping[str, Any], parts: DrawnParts, of_run: Fit) -> Evidence:
    classifier = of_run.classifier
    report, counts = classifier.fluctuation_, np.bincount(parts.validation.y)
    return Evidence(
        plan={name: row[name] for name in ("name", "data", "settings", "change")},
        rows=classifier.history_.to_rows(),
        facts={
            "n_val": report.n_val,
            "n_train": report.n_train,
            "n_classes": report.n_classes,
            "majority_fraction": float(counts.max() / counts.sum()),
            "best_epoch": report.best_epoch,
        },
        record=report.record,
        fresh={"accuracy": of_run.accuracy, "counts": np.bincount(parts.fresh.y)},
        gradients={},
        input_range=(float(parts.train.X.min()), float(parts.train.X.max())),
    )


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows by name."""
    return {row["name"]: row for row in read_lines(path)}


def generate(
    part: str, draws: range, work: Path, borealtc: Path | None, code: MeasuredCode
) -> None:
    """Append the missing rows of draws to their file."""
    path, records = work / f"{part}.jsonl", work / "records"
    records.mkdir(parents=True, exist_ok=True)
    done = read_rows(path)
    for number in draws:
        if reason := available(_data(part, number), borealtc):
            print(f"left out: {_data(part, number)}: {reason}", file=sys.stderr)
            continue
        for row in measure_draw(part, number, borealtc, done, records):
            append_line(path, row | code.stamp())
            best = max(row["known"].values())
            print(
                f"{time.strftime('%H:%M:%S')} {row['name']} {row['data']}"
                f" {row['kind'] or row['role']}: {row['verdict']}, {row['level']:.2f} of"
                f" {best:.2f}, {len(row['resets'])} resets, {row['row_s']:.1f} s",
                file=sys.stderr,
                flush=True,
            )
