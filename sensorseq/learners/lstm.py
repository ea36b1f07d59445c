"""Train the networks of the LSTM: on the training part, on the other folds, and on all windows."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import warn_caller
from sensorseq.history import History
from sensorseq.learners.all_windows import AllWindows, Stream
from sensorseq.learners.learner import FittedMember
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.training import TrainingResult
from sensorseq.training.engine import TrainingJob, is_second_interrupt, steps_of_epoch
from sensorseq.training.evaluation import ModuleNetwork
from sensorseq.training.side_by_side import train_jobs
from sensorseq.training.streamed_data import make_renewal
from sensorseq.training.torch_network import make_network
from sensorseq.training.window_format import WindowFormat


class Networks(NamedTuple):
    """Networks of the same arguments, and their histories."""

    modules: list[LSTMLinear]
    histories: list[History]


class TrainedNetworks(NamedTuple):
    """The networks of a fit.

    `results` and `first` belong to the training part. `of_folds` are the networks of the folds that
    were not tested by the first network, and `of_all` those that were trained on all windows.
    `is_complete` is False if a training run was interrupted or diverged.
    """

    results: Sequence[TrainingResult]
    first: Networks
    of_folds: Networks
    of_all: Networks
    is_complete: bool


def networks_of(jobs: Sequence[TrainingJob], histories: Sequence[History]) -> Networks:
    """Return the networks that the jobs trained; after an interrupt, some jobs have no history."""
    modules = [job.module for job in jobs if isinstance(job.module, LSTMLinear)]
    return Networks(modules[: len(histories)], list(histories))


def train_networks(
    jobs: Sequence[TrainingJob],
    windows: AllWindows | None,
    parameters: Mapping[str, Any],
    form: WindowFormat,
    *,
    n_of_all: int,
    callbacks: Sequence[Any] = (),
) -> TrainedNetworks:
    """Train on the training part, then on the other folds of `windows`, then on all windows.

    `jobs` train on the training part, and `n_of_all` networks are trained on all windows.
    """
    results = train_jobs(jobs)
    if results[0].error is not None and not results[0].best_epoch:  # raised by a callback
        raise results[0].error
    first = networks_of(jobs, [result.history for result in results])
    none = Networks([], [])
    ends = {result.ended_by for result in results}
    if ends & {"interrupted", "diverged", "callback_failed"}:
        return TrainedNetworks(results, first, none, none, False)
    if windows is None:
        return TrainedNetworks(results, first, none, none, True)
    config = jobs[0].config
    n_epochs = results[0].best_epoch if config.restore_best else len(results[0].history)

    def made(rows: NDArray[np.int64] | None, seed: np.random.SeedSequence) -> TrainingJob:
        return _make_job(parameters, form, jobs[0], windows, rows, seed, n_epochs)

    of_folds = [
        made(rows, windows.seed(Stream.FOLDS, number))
        for number, (rows, _) in enumerate(windows.folds)
        if number or not windows.has_held_out  # the first network is that of the first fold
    ]
    of_all = [made(None, windows.seed(Stream.REFIT, number)) for number in range(n_of_all)]
    more = [replace(job, callbacks=tuple(callbacks)) for job in (*of_folds, *of_all)]
    histories = _train_all(more)
    if len(histories) < len(more):
        warn_caller(
            "training on further parts of the windows was interrupted or diverged, so the"
            " network of the first training run is kept. It has not seen the held-out windows."
        )
        return TrainedNetworks(results, first, none, none, False)
    n = len(of_folds)
    others = networks_of(of_folds, histories[:n]), networks_of(of_all, histories[n:])
    return TrainedNetworks(results, first, *others, True)


def _train_all(jobs: Sequence[TrainingJob]) -> list[History]:
    """Run the jobs; return their histories, or an empty list if any job did not finish."""
    try:
        done = train_jobs(jobs) if jobs else []
    except KeyboardInterrupt:  # interrupted in the first epoch
        if is_second_interrupt():
            raise
        return []
    for result in done:
        if result.error is not None:
            raise result.error
    if {result.ended_by for result in done} & {"interrupted", "diverged"}:
        return []
    return [result.history for result in done]


def _make_job(
    parameters: Mapping[str, Any],
    form: WindowFormat,
    first: TrainingJob,
    windows: AllWindows,
    rows: NDArray[np.int64] | None,
    seed: np.random.SeedSequence,
    n_epochs: int,
) -> TrainingJob:
    """Return a job that trains a new network for about as many steps as the first job ran.

    The network is trained on the windows with the indices `rows`, or on all windows.
    """
    part, data = windows.part, windows.data
    assert part is not None
    if rows is not None:
        part, data = part.take(rows), data.take(torch.from_numpy(rows), data.X.device)
    weights, training = seed.spawn(2)
    like, config = first.module, first.config
    assert isinstance(like, LSTMLinear)
    # start from initial weights even if warm_start=True
    module = make_network(parameters, like.input_size, like.num_classes, weights)
    module = module.to(like.linear.weight.device)
    steps = [steps_of_epoch(module, each, config) for each in (first.train, data)]
    epochs = max(1, round(n_epochs * steps[0] / steps[1]))
    warmup = config.warmup_epochs
    if warmup >= 1:
        warmup = min(warmup, epochs // 2)
    config = replace(  # runs all epochs, and keeps the last weights
        config,
        warmup_epochs=warmup,
        monitor="loss",
        max_epochs=epochs,
        max_steps=None,
        early_stopping=False,
        restore_best=False,
    )
    refresh = make_renewal(part, form, data, training)
    inputs = data if form.patch is None else data.patched(form.patch)
    engine = parameters["engine"]
    return TrainingJob(module, inputs, None, config, training, engine=engine, refresh=refresh)


def leave_out(
    lstm: LstmMember, networks: TrainedNetworks, windows: AllWindows, device: str
) -> FittedMember:
    """Return the LSTM with the logits of each fold's network for the windows of its test fold."""
    seen = windows.seen
    logits = np.full((len(seen.X), seen.n_classes), np.nan)
    first = networks.first.modules[:1] if windows.has_held_out else []
    for module, (_, rows) in zip([*first, *networks.of_folds.modules], windows.folds, strict=False):
        lengths = None if seen.lengths is None else seen.lengths[rows]
        network = ModuleNetwork(copy.deepcopy(module), device)
        logits[rows] = network.outputs(*lstm.steps(seen.X[rows], lengths))
    return FittedMember(lstm, logits)
