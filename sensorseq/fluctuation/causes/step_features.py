"""What single optimizer steps did: how long they were, how noisy, how unequal."""

import numpy as np

from sensorseq.fluctuation.causes.measuring import (
    NAN,
    detail,
    finite,
    late_details,
    late_steps,
    mean,
    middle,
    ratio,
    statistic,
    step_column,
)
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run
from sensorseq.training_record import TrainingRecord

_LEAST_STEPS = 8  # of which a correlation or a tail is worth anything
_TOP = 0.05  # of all steps, the longest

NAMES = (
    "update_ratio",
    "update_ratio_peak",
    "overshoot",
    "overshoot_size",
    "batch_noise_ratio",
    "grad_tail",
    "grad_peak",
    "grad_top_share",
    "spike_lift",
    "noise_share",
    "gradient_cosine",
    "steps_follow_gradients",
    "tensor_spread",
    "last_batch_gradient",
    "rate_end",
    "dropout_share",
    "windows_per_step",
    "steps_per_epoch",
)


def measure_steps(run: Run) -> dict[str, float]:
    """Return the features of the optimizer steps, those of the second half unless they say else."""
    found = dict.fromkeys(NAMES, NAN)
    record = run.record
    if record is None or int(record.epoch_steps[-1]) == 0:
        return found
    found.update(_of_gradients(run, record))
    found.update(_of_batches(run, record))
    late = late_details(run, record)
    before, after = (
        detail(record, f"same_batch_loss_{when}")[late]
        if len(detail(record, f"same_batch_loss_{when}")) == len(late)
        else np.zeros(0)
        for when in ("before", "after")
    )
    scale = 0.1 * run.log_classes
    found["overshoot"] = mean(np.where(np.isfinite(after), after > 1.01 * before, NAN))
    found["overshoot_size"] = mean(np.clip(np.log((after + scale) / (before + scale)), -1, 1))
    for name in ("gradient_cosine", "dropout_variance"):
        values = detail(record, name)
        if len(values) != len(late):
            continue
        if name == "gradient_cosine":
            found[name] = middle(values[late])
        else:
            of_batches = np.diff(step_column(record, "loss")[late_steps(run, record)])
            scatter = finite(of_batches).var() / 2 if len(finite(of_batches)) else NAN
            found["dropout_share"] = ratio(mean(values[late]), float(scatter))
    found["spike_lift"] = statistic(run, "spike_lift")
    found["batch_noise_ratio"] = statistic(run, "batch_loss_noise_over_sampling")
    norms = [middle(np.asarray(v)[late]) for v in record.tensor_grad_norms.values() if len(v)]
    norms = [norm for norm in norms if norm > 0]
    if len(norms) > 1:
        found["tensor_spread"] = max(norms) / min(norms)
    return found


def _of_gradients(run: Run, record: TrainingRecord) -> dict[str, float]:
    late = late_steps(run, record)
    norm, size = step_column(record, "grad_norm")[late], step_column(record, "n_windows")[late]
    update = step_column(record, "update_ratio")[late]
    trace = step_column(record, "gradient_noise")[late]
    held = finite(norm)
    found = {"update_ratio": middle(update)}
    every = finite(step_column(record, "update_ratio"))
    if len(every):
        found["update_ratio_peak"] = float(np.quantile(every, 0.9))
    if len(held) >= _LEAST_STEPS and np.median(held) > 0:
        squares = np.sort(held**2)[::-1]
        n_top = max(int(np.ceil(_TOP * len(squares))), 1)
        found["grad_tail"] = float(np.quantile(held, 0.99) / np.median(held))
        found["grad_peak"] = float(held.max() / np.median(held))
        found["grad_top_share"] = float(squares[:n_top].sum() / squares.sum())
    known = np.isfinite(trace) & np.isfinite(norm) & (size > 0)
    if known.any():
        # numerator and denominator are averaged apart: a mean of quotients has no mean
        noise = float((trace[known] / size[known]).mean())
        # the estimate of a trace scatters, but no share is above one
        found["noise_share"] = min(ratio(noise, float((norm[known] ** 2).mean())), 1.0)
    known = np.isfinite(update) & np.isfinite(norm) & (update > 0) & (norm > 0)
    if known.sum() >= _LEAST_STEPS:
        found["steps_follow_gradients"] = _correlation(np.log(update[known]), np.log(norm[known]))
    return found


def _of_batches(run: Run, record: TrainingRecord) -> dict[str, float]:
    """Return how the rate ended, and what the gradient of a smaller last batch was like."""
    rate = step_column(record, "learning_rate")
    size, norm = step_column(record, "n_windows"), step_column(record, "grad_norm")
    n_last = max(len(rate) // 20, 1)
    found = {
        "rate_end": ratio(middle(rate[-n_last:]), float(np.nanmax(rate, initial=0.0))),
        "windows_per_step": middle(size),
        "steps_per_epoch": len(size) / max(run.n_epochs, 1),
    }
    late = late_steps(run, record)
    size, norm = size[late], norm[late]
    small = size <= 0.5 * np.nanmax(size, initial=0.0)
    if small.any() and not small.all():
        found["last_batch_gradient"] = ratio(middle(norm[small]), middle(norm[~small]))
    return found


def _correlation(x: Floats, y: Floats) -> float:
    if min(np.ptp(x), np.ptp(y)) < 1e-6:
        return NAN
    return float(np.corrcoef(x, y)[0, 1])
