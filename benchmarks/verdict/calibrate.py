"""Computes, over healthy runs, quantiles of each statistic that has a threshold in the verdict.

A healthy run is a run of the calibration part that has clearly learned, and that is either a plain
run or a control (noisy but normal). The proposed edge (threshold) of a statistic is the upper end
of the confidence interval of its 99 % quantile. The fewer runs there are, the higher the edge. The
fraction of faulty runs above the edge shows how many faults the edge detects.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from verdict.oracle import find_truth, is_faulty
from verdict.rates import report_of
from verdict.runs import Evidence

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.thresholds import MIN_EPOCHS

QUANTILES = (0.5, 0.9, 0.95, 0.99)
EDGE_QUANTILE = 0.99
N_RESAMPLES = 2000


def statistics_of(run: Evidence) -> dict[str, float]:
    """Return all numbers of a run that may have a threshold.

    These are the report's statistics that have a threshold, and the noise of three losses. The
    noise is computed for every combination of scale (in nats or relative), epochs (all after the
    initial descent, or the second half) and estimator (median or mean of second differences).
    """
    report = report_of(run)
    statistics = {
        f"report: {name}": float(statistic.value)
        for name, statistic in report.statistics.items()
        if math.isfinite(statistic.value) and statistic.floor is not None
    }
    log_classes = math.log(max(run.facts["n_classes"], 2))
    series = {
        "running loss": np.array([row["loss"] for row in run.rows]),
        "validation loss": np.array([row["val_loss"] for row in run.rows]),
    }
    if run.record is not None and len(run.record.fixed_loss):
        series["fixed-subset loss"] = np.asarray(run.record.fixed_loss, np.float64)
    for name, loss in series.items():
        if not np.isfinite(loss).all():
            continue
        relative = metrics.softened_log(loss, log_classes)
        first = {"settled": metrics.burn_in(relative), "second half": len(loss) // 2}
        for epochs, start in first.items():
            if len(loss) - start < MIN_EPOCHS:
                continue
            for scale, values in (("nats", loss), ("relative", relative)):
                for estimator, estimate in ESTIMATORS.items():
                    key = f"{name}, {epochs}, {estimator}: {scale}"
                    statistics[key] = estimate(values[start:])
    return statistics


ESTIMATORS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "median": metrics.high_frequency_noise,
    "mean": metrics.mean_noise,
}


def quantile_limit(values: ArrayLike, quantile: float = EDGE_QUANTILE) -> float:
    """Return the upper 95 % confidence limit of a quantile, from a bootstrap over runs."""
    held = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(len(held), size=(N_RESAMPLES, len(held)))
    return float(np.percentile(np.quantile(held[drawn], quantile, axis=1), 95))


def calibrate(runs: Sequence[Evidence]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return one row for each statistic, and a summary of the runs."""
    truths = {run.plan["name"]: find_truth(run) for run in runs}
    healthy, controls, faulty = [], [], []
    n_left_out = 0
    for run in runs:
        truth, role = truths[run.plan["name"]], run.plan["role"]
        if role == "volatile":
            twin = truths.get(run.plan["twin"])
            fault = is_faulty(truth, twin) if twin is not None else ""
            if fault == "volatile":
                faulty.append(run)
            else:
                n_left_out += 1
        elif not truth.clearly_learned:
            n_left_out += 1
        else:
            (healthy if role == "healthy" else controls).append(run)
    lots = {"healthy": healthy, "controls": controls, "faulty": faulty}
    measured = {lot: [statistics_of(run) for run in runs] for lot, runs in lots.items()}
    names = sorted({name for run in measured["healthy"] for name in run})
    rows = []
    for name in names:
        by_lot = {
            lot: np.array([run[name] for run in runs if name in run])
            for lot, runs in measured.items()
        }
        normal = np.concatenate([by_lot["healthy"], by_lot["controls"]])
        edge = quantile_limit(normal)
        row: dict[str, Any] = {"statistic": name, "healthy_runs": len(normal), "edge": edge}
        for lot in ("healthy", "controls"):
            if len(by_lot[lot]):
                values = np.quantile(by_lot[lot], QUANTILES)
                row[lot] = {f"{q:g}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
        if len(by_lot["faulty"]):
            row["faulty_runs"] = len(by_lot["faulty"])
            row["faulty_above_edge"] = float((by_lot["faulty"] > edge).mean())
            row["faulty_median"] = float(np.median(by_lot["faulty"]))
        rows.append(row)
    return rows, {
        "edge_is": "upper 95 % limit of the 99 % quantile over healthy runs and controls",
        "data_sets": sorted({run.plan["data"] for run in runs}),
        "healthy": len(healthy),
        "controls": len(controls),
        "volatile": len(faulty),
        "left_out": n_left_out,
        "recorded": sum(run.record is not None for run in runs),
        "n_train": _range(runs, "n_train"),
        "n_val": _range(runs, "n_val"),
        "joint": _joint(measured),
    }


def _range(runs: Sequence[Evidence], name: str) -> list[int]:
    values = [run.facts[name] for run in runs]
    return [min(values), max(values)] if values else []


def _joint(measured: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Return two edges for each kind of noise, and the fractions of runs that exceed both.

    One edge is in nats and one is relative. Both are 95 % quantiles of healthy runs, multiplied by
    a common factor. The factor is chosen so that 1 % of healthy runs exceed both edges.
    """
    rows = []
    losses = ("running loss", "fixed-subset loss", "validation loss")
    for loss, epochs, estimator in product(losses, ("settled", "second half"), ESTIMATORS):
        name = f"{loss}, {epochs}, {estimator}"
        keys = f"{name}: nats", f"{name}: relative"
        lots = {
            lot: np.array([[run[key] for key in keys] for run in runs if keys[0] in run])
            for lot, runs in measured.items()
        }
        normal = np.concatenate(
            [lots[lot] for lot in ("healthy", "controls") if len(lots[lot])] or [np.zeros((0, 2))]
        )
        if not len(normal):
            continue
        unit = np.quantile(normal, 0.95, axis=0)
        scale = float(np.quantile((normal / unit).min(axis=1), EDGE_QUANTILE))
        nats_edge, relative_edge = (float(edge) for edge in scale * unit)
        row = {"noise": name, "nats_edge": nats_edge, "relative_edge": relative_edge}
        for lot, values in lots.items():
            if len(values):
                above = (values[:, 0] > nats_edge) & (values[:, 1] > relative_edge)
                row[f"{lot}_above_both"] = float(above.mean())
        rows.append(row)
    return rows
