"""Series behind the statistics, as plain lists that a page can draw."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.columns import Floats
from sensorseq.fluctuation.statistics.per_window import Flips
from sensorseq.fluctuation.statistics.run import Run
from sensorseq.fluctuation.statistics.sides import Movement, Roughness
from sensorseq.fluctuation.statistics.thresholds import (
    FIXED_LOSS_NOISE_NATS,
    LOSS_NOISE_NATS,
    TREND_Z,
)

MAX_POINTS = 400  # of a series of steps; of each stretch its largest value is kept
MAX_QUANTILES = 200  # of flip rates


def collect_evidence(
    run: Run, movement: Movement, roughness: Roughness, flips: Flips
) -> dict[str, Any]:
    """Return what there is of these, by name.

    - ``loss``, ``fixed_loss``: ``epoch`` (from 1), ``value``, ``trend`` and ``band``, the
      half-width in nats that 95 % of the epochs of a healthy run keep to.
    - ``val_accuracy``: the same with ``band_sampling`` (windows drawn anew) and
      ``band_independent`` (these windows, flipping independently); None where not known.
    - ``common_mode``: ``observed`` R or R_g, ``null``: its quantiles 0, 1 ... 100 % by chance,
      ``by``: ``"windows"`` or ``"groups"``.
    - ``flips``: ``rate``, flips per epoch of each window, rising.
    - ``grad_norm``: ``step`` (from 0), ``value``.
    - ``overshoot``: ``step`` and ``change`` of the batch's own loss by its step, in nats. Where
      another loss than cross-entropy was minimised, it has its ``unit``, which is empty.
    - ``spikes``: ``epoch`` (from 1) of every leap of the training loss.
    """
    evidence: dict[str, Any] = {}
    for name, edge in (("fixed_loss", FIXED_LOSS_NOISE_NATS), ("loss", LOSS_NOISE_NATS)):
        curve = _curve(run, name)
        if curve:
            evidence[name] = {**curve, "band": TREND_Z * edge}
    curve = _curve(run, "val_accuracy")
    if curve:
        evidence["val_accuracy"] = {
            **curve,
            "band_sampling": _half_width(roughness.sampling_sd),
            "band_independent": _half_width(flips.independent_sd if flips.known else None),
        }
    if flips.known:
        test = flips.by_window if flips.by_group is None else flips.by_group
        if np.isfinite(test.value):
            evidence["common_mode"] = {
                "observed": test.value,
                "null": np.quantile(test.null, np.linspace(0, 1, 101)).tolist(),
                "by": "windows" if flips.by_group is None else "groups",
            }
        evidence["flips"] = {"rate": _quantiles(flips.rates)}
    if movement.spikes:
        evidence["spikes"] = {"epoch": movement.spikes}
    evidence.update(_of_steps(run))
    return evidence


def _of_steps(run: Run) -> dict[str, Any]:
    record = run.record
    if record is None:
        return {}
    evidence: dict[str, Any] = {}
    steps = record.steps
    if "grad_norm" in steps and np.isfinite(steps["grad_norm"]).any():
        at = _largest_of_stretches(steps["grad_norm"])
        evidence["grad_norm"] = {"step": at.tolist(), "value": steps["grad_norm"][at].tolist()}
    details = record.details
    if {"same_batch_loss_before", "same_batch_loss_after"} <= set(details):
        change = details["same_batch_loss_after"] - details["same_batch_loss_before"]
        if np.isfinite(change).any():
            at = _largest_of_stretches(change)
            evidence["overshoot"] = {
                "step": record.detail_steps[at].tolist(),
                "change": change[at].tolist(),
            }
    if "overshoot" in evidence and not record.is_in_nats:
        evidence["overshoot"]["unit"] = record.loss_unit
    return evidence


def _curve(run: Run, name: str) -> dict[str, list[float]]:
    values = run.whole(name)
    if not len(values) or not np.isfinite(values).all():
        return {}
    return {
        "epoch": (np.flatnonzero(run.columns[name].recorded) + 1).tolist(),
        "value": values.tolist(),
        "trend": metrics.local_trend(values).tolist(),
    }


def _half_width(sd: float | None) -> float | None:
    return None if sd is None else TREND_Z * sd


def _quantiles(rates: Floats) -> list[float]:
    few = np.sort(rates)
    if len(rates) > MAX_QUANTILES:
        few = np.quantile(rates, np.linspace(0, 1, MAX_QUANTILES))
    return [float(rate) for rate in few]


def _largest_of_stretches(values: Floats) -> NDArray[np.int64]:
    """Return where the largest value of each of `MAX_POINTS` equal stretches lies."""
    known = np.flatnonzero(np.isfinite(values))
    stretches = np.array_split(known, min(MAX_POINTS, max(len(known), 1)))
    return np.array([part[values[part].argmax()] for part in stretches if len(part)], np.int64)
