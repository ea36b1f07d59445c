"""What single steps add to the statistics of a run: batch noise, overshoot, spikes."""

import math

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.run import Run

_MAX_STEPS = 20_000  # the last of them; spikes are sought with a window of a hundred steps


def describe_steps(run: Run) -> None:
    """Measure the steps from the end of the initial descent on; none decides a verdict."""
    record = run.record
    if record is None:
        return
    steps, bounds = record.steps, record.epoch_steps[run.first :]
    if {"loss", "loss_variance", "n_windows"} <= set(steps):
        noise = metrics.batch_noise(
            steps["loss"], steps["loss_variance"], steps["n_windows"], bounds
        )
        if math.isfinite(noise.floor) and run.is_in_nats:
            run.add("batch_loss_sampling_noise", math.sqrt(noise.floor), "nats")
        if math.isfinite(noise.ratio):
            known = math.isfinite(noise.low)
            run.add(
                "batch_loss_noise_over_sampling",
                noise.ratio,
                "ratio",
                1.0,
                "nothing but different batches",
                interval=(noise.low, noise.high) if known else None,
            )
    late = record.detail_steps >= bounds[0]
    if {"same_batch_loss_before", "same_batch_loss_after"} <= set(record.details):
        rate = metrics.overshoot_rate(
            record.details["same_batch_loss_before"][late],
            record.details["same_batch_loss_after"][late],
        )
        if math.isfinite(rate):
            run.add("overshoot_rate", rate, "fraction")
    if {"loss", "grad_norm"} <= set(steps):
        _relate_spikes(run, steps["loss"][bounds[0] :], steps["grad_norm"][bounds[0] :])


def _relate_spikes(run: Run, loss: np.ndarray, grad_norm: np.ndarray) -> None:
    loss, grad_norm = loss[-_MAX_STEPS:], grad_norm[-_MAX_STEPS:]
    if not np.isfinite(loss).all():
        return
    lift = metrics.spike_lift(grad_norm, metrics.spike_epochs(loss))
    if math.isfinite(lift):
        run.add("spike_lift", lift, "ratio", 1.0, "spikes and gradients unrelated")
