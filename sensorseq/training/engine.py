"""The training loop over epochs, with autograd or the native engine."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sensorseq.errors import ArgumentError
from sensorseq.history import History, TrainingRecord
from sensorseq.nn import LSTMLinear
from sensorseq.ops.train_epoch import StepStatistics
from sensorseq.training.autograd import AutogradSteps, StepOutputs
from sensorseq.training.batches import TrainingData, batch_edges, minimum_batch
from sensorseq.training.callbacks import CallbackList
from sensorseq.training.config import (
    AUTOGRAD,
    EngineChoice,
    TrainingConfig,
    choose_engine,
    count_epochs,
)
from sensorseq.training.evaluation import evaluate, make_loss
from sensorseq.training.native import NativeEpochs, gap_of, summarize_epochs
from sensorseq.training.optim import (
    Schedule,
    optimizer_options,
)
from sensorseq.training.randomness import (
    deterministic_algorithms,
    integer_seed,
    isolated_torch_rng,
)
from sensorseq.training.recorder import Recorder
from sensorseq.training.stopping import BestEpoch, ModuleWeights
from sensorseq.training.streamed_data import StreamedData

INTERRUPTED_TWICE_S = 2.0  # a second Ctrl-C within this time also interrupts the caller of fit


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run, and how it ended.

    Parameters
    ----------
    history : History
        One row for each finished epoch, and one for the epoch in which training diverged.
    best_epoch : int
        The epoch whose weights the module now has, counted from 1; 0 if training diverged in the
        first epoch.
    best_score : float
        The monitored value of the best epoch.
    ended_by : str
        ``"max_epochs"``, ``"early_stopping"``, ``"callback"``, ``"callback_failed"``,
        ``"diverged"`` or ``"interrupted"``.
    engine : EngineChoice
        The engine that was used, and the reason for this choice.
    record : TrainingRecord or None
        The record of the run, if a recorder was given.
    error : Exception or None
        The error that a callback raised, with a note about the weights that are kept.
    """

    history: History = field(default_factory=History)
    best_epoch: int = 0
    best_score: float = math.nan
    ended_by: str = "max_epochs"
    engine: EngineChoice = AUTOGRAD
    record: TrainingRecord | None = None
    error: Exception | None = None


def train_network(
    module: nn.Module,
    train: TrainingData | StreamedData,
    validation: TrainingData | StreamedData | None,
    config: TrainingConfig,
    *,
    seed: np.random.SeedSequence,
    callbacks: Sequence[Any] = (),
    engine: str = "autograd",
    refresh: Callable[[int], Any] | None = None,
    recorder: Recorder | None = None,
) -> TrainingResult:
    """Train `module` in place.

    The losses and scores of the training part are running values: each batch is measured in
    training mode, before its own optimizer step. The validation part is measured after the epoch in
    evaluation mode, with the same loss but without class or sample weights, so that runs with
    different weights can be compared. The losses do not include the penalty of `weight_decay`.

    Training stops if a loss or gradient is not finite; the row of that epoch stays in the history.

    Parameters
    ----------
    module : torch.nn.Module
        The network; ``module(X, lengths)`` returns logits (N, K). Training uses the network's
        device.
    train : TrainingData or StreamedData
        Scaled windows; the mean of `weight` is one.
    validation : TrainingData, StreamedData or None
        Scaled windows; if None, the history has no validation columns.
    config : TrainingConfig
        The settings of the run.
    seed : numpy.random.SeedSequence
        Seed for the order of the windows, the crops and the dropout; torch's global generator is
        not changed.
    callbacks : sequence, optional
        See `sensorseq.training.callbacks`.
    engine : {"autograd", "native", "auto"}, default="autograd"
        Engine that runs the steps; ``"auto"`` uses the native engine if it supports this training.
    refresh : callable, optional
        Function that receives the number of the epoch, counted from 1, and returns the windows
        (N, T, C) that replace the windows of `train`. For `StreamedData`, it returns a function
        that changes windows as they are read.
    recorder : Recorder, optional
        A new recorder for the run; None records only the history. Recording does not change the
        weights.

    Returns
    -------
    TrainingResult
        The result; `module` is in evaluation mode and has the weights of the `best_epoch`.

    Raises
    ------
    ArgumentError
        If there is nothing to monitor, or if the engine does not support the arguments.
    KeyboardInterrupt
        If interrupted before the end of the first epoch, or within two seconds of an interrupt of
        another run in this process. In all other cases, the result reports the interrupt.
    Exception
        The error that a callback raised, with a note that names the callback. The module then has
        the best weights. (`TrainingJob.run` stores the error in its result instead of raising it.)
    """
    job = TrainingJob(
        module,
        train,
        validation,
        config,
        seed,
        callbacks=callbacks,
        engine=engine,
        refresh=refresh,
        recorder=recorder,
    )
    result = job.run()
    if result.error is not None:
        raise result.error
    return result


@dataclass(frozen=True)
class TrainingJob:
    """A training run that has not started, with the arguments of `train_network`.

    Runs that are trained side by side and have the same tensors in `train` or `validation` share
    one copy of these tensors, unless the windows are refreshed.
    """

    module: nn.Module
    train: TrainingData | StreamedData
    validation: TrainingData | StreamedData | None
    config: TrainingConfig
    seed: np.random.SeedSequence
    _: KW_ONLY
    callbacks: Sequence[Any] = ()
    engine: str = "auto"
    refresh: Callable[[int], Any] | None = None
    recorder: Recorder | None = None

    def choose_engine(self) -> EngineChoice:
        """Return the engine for the run; raise an `ArgumentError` if the run is not possible."""
        config = self.config
        needs_validation = config.early_stopping and config.monitor.startswith("val_")
        if needs_validation and self.validation is None:
            raise ArgumentError(
                f"early_stopping=True with monitor={config.monitor!r} needs a validation part:"
                " set validation_fraction above 0, give X_val, or set early_stopping=False."
            )
        return choose_engine(self.engine, gap_of(self.module, config, self.train))

    def run(self) -> TrainingResult:
        """Train this job alone; an error from a callback is stored in the result."""
        choice = self.choose_engine()
        device = next(self.module.parameters()).device
        seeds = self.seed.spawn(3)
        with isolated_torch_rng(integer_seed(seeds[2]), device), deterministic_algorithms(device):
            run = TrainingRun(self, seeds, choice)
            Training([run]).train()
        assert run.result is not None
        return run.result


_last_interrupt_s = -math.inf  # monotonic time


def is_second_interrupt() -> bool:
    """Record the time of an interrupt; return True if another interrupt just preceded it."""
    global _last_interrupt_s
    before, _last_interrupt_s = _last_interrupt_s, time.monotonic()
    return _last_interrupt_s - before <= INTERRUPTED_TWICE_S


def was_interrupted_since(at_s: float) -> bool:
    """Whether an interrupt ended a fit early after this monotonic time."""
    return _last_interrupt_s >= at_s


class TrainingRun:
    """The state of one training run; a `Training` object runs its epochs.

    `seeds` are the seeds for the order of the windows, the crops and the dropout. If `is_alone` is
    true, no other runs are trained together with this run, and the run's module is updated after
    each epoch.
    """

    def __init__(
        self,
        job: TrainingJob,
        seeds: Sequence[np.random.SeedSequence],
        choice: EngineChoice,
        *,
        is_alone: bool = True,
    ) -> None:
        config, train = job.config, job.train
        order_seed, crop_seed, dropout_seed = seeds
        self.module = job.module
        self.device = next(self.module.parameters()).device
        self.train = train.to(self.device)
        self.validation = None if job.validation is None else job.validation.to(self.device)
        self.losses_of = make_loss(config.loss, config.label_smoothing)
        self.batches = train.make_sampler(
            train.target.cpu().numpy(),
            config.batch_size,
            config.sampler,
            np.random.default_rng(order_seed),
            minimum_size=minimum_batch(self.module, len(train), config.batch_size),
        )
        n_batches = self.batches.n_batches
        # From here on, max_epochs is the actual number of epochs of the run.
        self.config = replace(config, max_epochs=count_epochs(config, n_batches))
        if config.optimizer_params:  # torch raises an error for invalid options
            optimizer_options(config)
        self.crop_rng = np.random.default_rng(crop_seed)
        self.dropout_seed = integer_seed(dropout_seed)
        self.choice, self.is_alone = choice, is_alone
        self.refresh = job.refresh
        self.n_steps = 0
        self.schedule = Schedule(config, n_batches)
        self.best = BestEpoch(config, has_validation=self.validation is not None)
        self.history = History()
        self.callbacks = CallbackList(job.callbacks)
        self.weights = ModuleWeights(self.module)
        self.native: NativeEpochs | None = None
        self.autograd: AutogradSteps | None = None
        self.has_ended = False
        self.result: TrainingResult | None = None
        self.recorder = job.recorder
        self._begin_record()

    def _begin_record(self) -> None:
        if self.recorder is not None:
            self.recorder.begin(
                self.config, self.train, self.validation, self.losses_of, self.device
            )

    def use_autograd(self) -> AutogradSteps:
        """Return the run's `AutogradSteps`, which is created on first use."""
        if self.autograd is None:
            self.autograd = AutogradSteps(
                self.module, self.config, self.losses_of, self.dropout_seed
            )
        return self.autograd

    def notify(self, hook: str, argument: Any) -> bool:
        """Call `hook` on every callback; errors are stored until the end of the run."""
        return self.callbacks.notify(hook, self.module, argument)

    def finish(self, ended_by: str) -> None:
        """Finish the run with the best weights in the module."""
        self.weights.write_module()
        if self.best.epoch:
            self.best.restore(self.module)
        self.leave()
        error, best, record = self.callbacks.error, self.best, None
        if error is not None and best.epoch:
            error.add_note(
                f"training ended after epoch {len(self.history)}; the weights of epoch"
                f" {best.epoch} are kept"
            )
        if self.recorder is not None:
            record = self.recorder.finish(self.module, len(self.history))
        self.result = TrainingResult(
            self.history, best.epoch, best.score, ended_by, self.choice, record, error
        )

    def leave(self) -> None:
        """Release all resources, however the run ended, and call `on_fit_end` of the callbacks."""
        self.has_ended = True
        self.release_module()
        self.notify("on_fit_end", self.history)
        self.callbacks.explain(sys.exception())

    def release_module(self) -> None:
        """Restore torch's dropout in the module, and switch the module to evaluation mode."""
        if isinstance(self.module, LSTMLinear):
            self.module.dropout_source = None
        self.module.eval()

    def end_epoch(self, row: dict[str, Any], duration_s: float) -> str | None:
        """Process the results of an epoch; return the reason to end training, or None."""
        row = {"epoch": len(self.history) + 1, **row, "duration_s": duration_s}
        if self.recorder is not None:
            self.recorder.end_epoch(self.weights)
        self.history.append(row)
        if not _is_finite(row):
            return "diverged"
        self.schedule.end_epoch(improved=self.best.update(row, self.weights))
        if self.notify("on_epoch_end", self.history):
            return "callback" if self.callbacks.error is None else "callback_failed"
        if self.config.early_stopping and self.best.exhausted:
            return "early_stopping"
        return "max_epochs" if len(self.history) >= self.config.n_epochs else None

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Return a context manager within which the module has the weights that are validated."""
        return nullcontext() if self.autograd is None else self.autograd.averaged_weights()

    def refresh_windows(self) -> None:
        """If the training windows change in each epoch, load those of the next epoch."""
        if self.refresh is not None:  # in place, so that the native engine sees the change
            self.train.refresh(self.refresh(len(self.history) + 1))

    def train_epoch(self) -> dict[str, float]:
        """Run the steps of an epoch with autograd; return the training part's history columns."""
        self.refresh_windows()
        self.module.train()
        autograd, steps = self.use_autograd(), list[Tensor]()
        with closing(self.train.passes(self.batches)) as passes:
            for data, batches in passes:
                first, rates = self.n_steps, self.draw_rates(len(batches))
                step_outputs = StepOutputs()
                how = self.schedule, self.crop_rng, None if self.recorder is None else step_outputs
                of_batches = [
                    autograd.take(data, rows, first + i, *how) for i, rows in enumerate(batches)
                ]
                if self.recorder is not None:
                    totals = torch.stack(of_batches).double().cpu().numpy()
                    self.recorder.note_outputs(data, batches, rates, totals, step_outputs)
                steps += of_batches
        self.module.eval()
        # Read the sums once per epoch, because each read waits until the GPU has finished its work.
        loss, n_right, norm = torch.stack(steps).double().sum(dim=0).tolist()
        n_windows = self.batches.n_windows
        return {
            "loss": loss / n_windows,
            "accuracy": n_right / n_windows,
            "learning_rate": self.schedule.learning_rate(self.n_steps - 1),
            "grad_norm": norm / len(steps),
        }

    def draw_rates(self, n_steps: int) -> list[float]:
        """Advance the schedule by `n_steps` steps, and return their learning rates."""
        first, self.n_steps = self.n_steps, self.n_steps + n_steps
        return [self.schedule.learning_rate(step) for step in range(first, self.n_steps)]

    def validate(self) -> dict[str, float]:
        """Evaluate the validation part; return its values for the history."""
        if self.validation is None:
            return {}
        recorder, outputs = self.recorder, list[Tensor]()
        follows = recorder is not None and recorder.follows_validation
        loss, accuracy = evaluate(
            self.module,
            self.validation,
            self.losses_of,
            (lambda of_batch: outputs.append(of_batch[0])) if follows else None,
        )
        if recorder is not None and follows:
            recorder.note_validation(outputs)
        return {"val_loss": loss, "val_accuracy": accuracy}


class Training:
    """Trains runs together, epoch by epoch, until each run has ended.

    Only the native engine trains several runs side by side. In this class, each run is validated
    with its own module.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = list(runs)
        self.native: NativeEpochs | None = None
        for run in self.runs:
            # copied, because the windows are overwritten in each epoch
            if run.refresh is not None and isinstance(run.train, TrainingData):
                run.train = replace(run.train, X=run.train.X.clone())
        modules = [run.module for run in self.runs if isinstance(run.module, LSTMLinear)]
        if self.runs[0].choice.name == "native":
            self.native = NativeEpochs(
                modules,
                [run.train for run in self.runs],
                [run.config for run in self.runs],
                [run.dropout_seed for run in self.runs],
            )
        for model, run in enumerate(self.runs):
            if self.native is None:
                run.use_autograd()
                continue
            run.native, run.weights = self.native, self.native.weights[model]
            if isinstance(run.train, TrainingData):
                run.train = self.native.data[model]

    def train(self) -> None:
        """Train until every run has ended and has a result."""
        with self._ending_all():
            self._begin()
            while self.runs:
                for run in self.runs:
                    with run.averaged_weights():
                        run.notify("on_epoch_begin", run.history)
                self._end_failed()
                if not self.runs:
                    break
                started = time.perf_counter()
                rows = self.take_steps()
                self.validate(rows)
                duration_s = (time.perf_counter() - started) / len(rows)
                self.measure_fixed()
                for run, row in zip(self.runs, rows, strict=True):
                    self.end_epoch(run, row, duration_s)
                self.leave_ended()

    def _begin(self) -> None:
        for run in self.runs:
            run.module.eval()
            run.notify("on_fit_begin", run.config)
        self._end_failed()

    @contextmanager
    def _ending_all(self) -> Iterator[None]:
        """Finish every run, even if training is interrupted or fails."""
        try:
            try:
                yield
            except KeyboardInterrupt:
                has_best = all(run.best.epoch for run in self.runs)
                lacks_result = any(run.has_ended and run.result is None for run in self.runs)
                if not has_best or lacks_result or is_second_interrupt():
                    raise
            for run in self.runs:
                if not run.has_ended:
                    self.finish(run, "interrupted")
        finally:
            for run in self.runs:
                if not run.has_ended:
                    run.leave()

    def _end_failed(self) -> None:
        for run in self.runs:
            if run.callbacks.error is not None:
                self.finish(run, "callback_failed")
        self.leave_ended()

    def take_steps(self) -> list[dict[str, float]]:
        """Run the steps of an epoch; return each run's history columns for the training part."""
        if self.native is None:
            return [run.train_epoch() for run in self.runs]
        shown = [run for run in self.runs if run.is_alone or run.callbacks]
        for run in shown:  # a callback may have changed the weights
            run.weights.read_module()
        for run in self.runs:
            run.refresh_windows()
        taken: list[StepStatistics] = []
        rates: list[list[float]] = [[] for _ in self.runs]
        margins = any(run.recorder is not None and run.recorder.notes_margins for run in self.runs)
        crop_rngs = [run.crop_rng for run in self.runs]
        with ExitStack() as stack:
            passes = [
                stack.enter_context(closing(run.train.passes(run.batches))) for run in self.runs
            ]
            # A streamed run yields several blocks; zip would keep the previous block in memory.
            for of_runs in map(lambda *parts: parts, *passes):
                if len(of_runs) == 1:
                    self.native.replace_data(of_runs[0][0])
                batches = [of_run for _, of_run in of_runs]
                now = [run.draw_rates(len(b)) for run, b in zip(self.runs, batches, strict=True)]
                steps = self.native.take_steps(batches, now, crop_rngs, margins=margins)
                for model, (run, (data, rows)) in enumerate(zip(self.runs, of_runs, strict=True)):
                    rates[model] += now[model]
                    if run.recorder is not None:
                        run.recorder.note_statistics(data, rows, now[model], steps, model)
                taken.append(steps)
        for run in shown:
            run.weights.write_module()
        return summarize_epochs(StepStatistics.concatenate(taken), rates)

    def validate(self, rows: Sequence[dict[str, float]]) -> None:
        """Add the validation part's history columns."""
        for run, row in zip(self.runs, rows, strict=True):
            with run.averaged_weights():
                row.update(run.validate())

    def measure_fixed(self) -> None:
        """Evaluate the fixed windows of the recorders."""
        for run in self.runs:
            if run.recorder is not None:
                with run.averaged_weights():
                    run.recorder.measure_fixed(run.module)

    def end_epoch(self, run: TrainingRun, row: dict[str, float], duration_s: float) -> None:
        """Process the results of a run's epoch, and finish the run if it has ended."""
        with run.averaged_weights():
            ended_by = run.end_epoch(row, duration_s)
        if ended_by is not None:
            self.finish(run, ended_by)

    def finish(self, run: TrainingRun, ended_by: str) -> None:
        """Finish a run with its best weights."""
        run.finish(ended_by)

    def leave_ended(self) -> None:
        """Continue without the runs that have ended."""
        left = [model for model, run in enumerate(self.runs) if not run.has_ended]
        if left and self.native is not None and len(left) < len(self.runs):
            self.native.keep(left)
        self.runs = [self.runs[model] for model in left]


def _is_finite(row: Mapping[str, Any]) -> bool:
    return all(math.isfinite(value) for value in row.values())


def steps_of_epoch(
    module: nn.Module, train: TrainingData | StreamedData, config: TrainingConfig
) -> int:
    """Return the number of optimizer steps in an epoch."""
    minimum = minimum_batch(module, len(train), config.batch_size)
    return len(batch_edges(len(train), config.batch_size, minimum)) - 1
