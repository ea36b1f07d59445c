"""The last steps of a fit: train networks and feature models, and report on the training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_integer
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import DivergedError, warn_caller
from sensorseq.estimator.fit_windows import FitArguments, ScaledFit
from sensorseq.estimator.plan import Plan, make_plan
from sensorseq.estimator.report import (
    check_parts,
    make_report,
    warn_of_the_end,
)
from sensorseq.estimator.saving import Checkpoint
from sensorseq.estimator.uncertainty import LeftOut, learn_probabilities, with_interval
from sensorseq.history import History
from sensorseq.learners.all_windows import AllWindows, Stream
from sensorseq.learners.learner import FittedMember, Folds
from sensorseq.learners.lstm import Networks, TrainedNetworks, leave_out, train_networks
from sensorseq.learners.weigh import Weighted, fit_members, weigh
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.members.choice import LSTM, FeatureChoice
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.model import TrainedModel
from sensorseq.training import TrainingConfig, TrainingResult
from sensorseq.training.callbacks import NoProgress, check_callbacks
from sensorseq.training.config import count_epochs
from sensorseq.training.engine import TrainingJob, is_second_interrupt, steps_of_epoch
from sensorseq.training.evaluation import ModuleNetwork, modules_of
from sensorseq.training.recorder import new_recorder
from sensorseq.training.streamed_data import make_renewal
from sensorseq.training.torch_network import continue_network, make_network


@dataclass(frozen=True)
class Trained:
    """A model, and how its networks were trained.

    `results` has one entry for each network trained on the training part; `histories` has one entry
    for each network of `model`. `choice` is None if the fit continues an earlier fit. `held_out`
    contains indices of windows in the validation part, and the outputs for these windows before the
    refit; without a refit, `held_out` is None. `left_out` contains indices of windows in X, and
    logits for these windows from models that were not fitted on them. If the first epoch
    diverged, `model` is the model before training.
    """

    results: Sequence[TrainingResult]
    model: TrainedModel
    module: LSTMLinear
    histories: list[History]
    choice: FeatureChoice | None = None
    refitted: bool = False
    held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    left_out: LeftOut | None = None

    @property
    def out_of_fold(self) -> LeftOut | None:
        """The same as `left_out` if the weights were fitted on these windows, else None."""
        return self.left_out if self.choice is not None and self.choice.candidates else None


class Judged(NamedTuple):
    """The report of a fit and the facts behind it."""

    report: FluctuationReport
    facts: dict[str, Any]


# 4. Train


def make_jobs(arguments: FitArguments, scaled: ScaledFit) -> list[TrainingJob]:
    """Make a training job for each network of the ensemble."""
    parameters, data = arguments.parameters, scaled.data
    samples = scaled.samples[0]
    jobs: list[TrainingJob] = []
    for member, (weights, training) in enumerate(arguments.member_seeds):
        if arguments.earlier is not None:
            module = continue_network(modules_of(arguments.earlier)[member], parameters)
        else:
            n_inputs = scaled.model.lstm.n_inputs(scaled.model.n_channels)
            sizes = n_inputs, len(scaled.model.classes)
            module = make_network(parameters, *sizes, weights)
        module = module.to(arguments.device)
        job = TrainingJob(
            module,
            scaled.train,
            scaled.validation,
            jobs[0].config if jobs else resolved_config(arguments, scaled, module),
            training,
            callbacks=check_callbacks(parameters["callbacks"]),
            engine=parameters["engine"],
            refresh=make_renewal(data.train, scaled.format, samples, training),
            recorder=None if member else new_recorder(),
        )
        jobs.append(job)
    return jobs


def resolved_config(
    arguments: FitArguments, scaled: ScaledFit, module: LSTMLinear
) -> TrainingConfig:
    """Return the configuration with the number of outputs and the resolved `max_epochs`."""
    config = arguments.config
    n_epochs = count_epochs(config, steps_of_epoch(module, scaled.train, config))
    return replace(config, n_outputs=len(scaled.model.classes), max_epochs=n_epochs)


def train_model(arguments: FitArguments, scaled: ScaledFit, progress: NoProgress) -> Trained:
    """Fit each member on the same folds, weigh the members, and learn from all windows."""
    jobs, parameters = make_jobs(arguments, scaled), arguments.parameters
    of_progress: tuple[Any, ...] = tuple(progress.callbacks)
    jobs = [replace(job, callbacks=(*of_progress, *job.callbacks)) for job in jobs]
    if parameters["checkpoint"] is not None:
        checkpoint = Checkpoint(parameters, scaled.model, jobs[0], facts_of(scaled))
        # runs before other callbacks, which may change the weights
        jobs[0] = replace(jobs[0], callbacks=(checkpoint, *jobs[0].callbacks))
    is_new = arguments.earlier is None
    plan = make_plan(parameters, scaled, jobs, arguments.entropy) if is_new else Plan()
    progress.expect(len(jobs) + plan.count_networks(len(jobs)))
    networks = train_networks(
        jobs,
        plan.windows,
        parameters,
        scaled.format,
        n_of_all=plan.count_of_all(len(jobs)),
        callbacks=of_progress,
    )
    first, device = networks.first, parameters["device"]
    trained = Trained(networks.results, scaled.model, first.modules[0], first.histories)
    if any(result.best_epoch == 0 for result in networks.results):
        return trained
    model = with_modules(scaled.model, first.modules, device)
    weighted = weigh_members(plan, networks, model.lstm, device, progress)
    choice = FeatureChoice(reason=plan.reason) if is_new else None
    if weighted is not None:
        model, choice = replace(model, sum=weighted.sum), weighted.choice
    elif plan.learners:
        choice = FeatureChoice(reason="training was interrupted or diverged")
    # computed with the networks that have not seen the held-out windows
    model, left_out = learn_probabilities(parameters, model, scaled, plan.windows, weighted)
    warn_of_the_end(networks.results, jobs[0].config.n_epochs, parameters["n_models"])
    trained = replace(trained, model=model, choice=choice, left_out=left_out)
    kept = kept_networks(plan, networks, weighted)
    if kept is None or plan.windows is None:
        return trained
    return replace(
        trained,
        model=with_modules(model, kept.modules, device),
        histories=kept.histories,
        refitted=True,
        held_out=held_out_logits(plan.windows, weighted, model),
    )


def with_modules(model: TrainedModel, modules: Sequence[LSTMLinear], device: str) -> TrainedModel:
    """Return the model with other networks of the LSTM."""
    return model.with_lstm(networks=[ModuleNetwork(module, device) for module in modules])


def weigh_members(
    plan: Plan,
    networks: TrainedNetworks,
    lstm: LstmMember,
    device: str,
    progress: NoProgress,
) -> Weighted | None:
    """Fit the members on features, and the weights of all members; None if the LSTM is alone.

    If training ended early, no member learns from the held-out part, which the report describes.
    """
    windows = plan.windows
    if windows is None or not plan.learners:
        return None
    seen, folds, rows = windows.seen, windows.folds, windows.seen.learn_rows
    if not networks.is_complete:
        folds = folds[:1]
        if not windows.has_held_out:
            return None
    elif plan.refits or not windows.has_held_out:
        rows = np.arange(len(windows.data))
    in_time = windows.shares_groups
    progress.say("features")
    try:
        plain, seed = (seen, Folds(folds, rows, in_time)), windows.seed(Stream.FEATURES)
        fitted: dict[str, FittedMember] = {}
        for reads_copies, data in ((True, windows.with_copies(plain[1])), (False, plain)):
            learners = {
                name: learner
                for name, learner in plan.learners.items()
                if learner.reads_copies == reads_copies
            }
            fitted |= fit_members(learners, *data, seed)
    except KeyboardInterrupt:
        if is_second_interrupt():
            raise
        warn_caller("fitting the features was interrupted, so the LSTM is used alone.")
        return None
    n = len(seen.X)
    members = {name: FittedMember(member, logits[:n]) for name, (member, logits) in fitted.items()}
    members = {LSTM: leave_out(lstm, networks, windows, device), **members}
    truth = seen.class_index, seen.weight, windows.group_numbers
    weighted = weigh(members, *truth, len(folds), in_time=in_time)
    return weighted._replace(choice=with_interval(weighted, windows))


def kept_networks(
    plan: Plan, networks: TrainedNetworks, weighted: Weighted | None
) -> Networks | None:
    """Return networks of a model that has learned from all windows; None if it has not."""
    first, of_folds = networks.first, networks.of_folds
    if not plan.refits or not networks.is_complete:
        return None
    if weighted is not None and not weighted.sum.uses_lstm:  # the features have learned from all
        return first
    if plan.keeps_folds:
        modules = [first.modules[0], *of_folds.modules]
        return Networks(modules, [first.histories[0], *of_folds.histories])
    return Networks(networks.of_all.modules, first.histories)


def held_out_logits(
    windows: AllWindows, weighted: Weighted | None, model: TrainedModel
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return indices of held-out windows, and their logits from members that have not seen them."""
    first, seen = windows.n_train, windows.seen
    if weighted is not None:
        is_held_out = weighted.rows >= first
        return weighted.rows[is_held_out] - first, weighted.logits[is_held_out]
    lengths = None if seen.lengths is None else seen.lengths[first:]
    return np.arange(len(seen.X) - first), model.sum.logits(seen.X[first:], lengths)


def show_progress(verbose: Any) -> NoProgress:
    """Return a context manager that displays the progress of a fit."""
    if not isinstance(verbose, bool):
        check_integer("verbose", verbose, 0)
    if not verbose:
        return NoProgress()
    from sensorseq.training.progress import ProgressReport  # imports rich

    return ProgressReport(every_epoch=verbose > 1)


def refuse_diverged(
    arguments: FitArguments, trained: Trained, judged: Judged | None = None
) -> None:
    """Raise a DivergedError with the report if a network diverged in its first epoch."""
    if any(result.best_epoch == 0 for result in trained.results):
        p = arguments.parameters
        error = DivergedError(
            "training diverged in its first epoch: a loss or gradient is not finite. Lower"
            f" learning_rate (now {p['learning_rate']!r}), clip the gradient with max_grad_norm"
            f" (now {p['max_grad_norm']!r}), or check `scale` (now {p['scale']!r}) and the loss."
        )
        error.fluctuation = None if judged is None else judged.report
        raise error


# 5. Judge


def facts_of(scaled: ScaledFit) -> dict[str, Any]:
    """Return the facts that the report needs about the targets of both parts."""
    validation = scaled.data.validation
    return scaled.data.target.facts(
        scaled.data.train.target, None if validation is None else validation.target
    )


def report_fit(
    arguments: FitArguments, scaled: ScaledFit, trained: Trained, choice: FeatureChoice
) -> Judged:
    """Make the report of a fit, with findings about its windows and the `choice` of members."""
    held_out, result = scaled.data.validation, trained.results[0]
    findings = (*scaled.findings, *check_parts(*scaled.held()))
    facts = {**facts_of(scaled), "data_facts": findings}
    record = result.record
    if record is not None and held_out is not None and held_out.groups is not None:
        record.val_groups = np.unique(held_out.groups, return_inverse=True)[1][record.val_rows]
    parameters = arguments.parameters
    report = make_report(
        result.history,
        parameters["loss"],
        best_epoch=result.best_epoch or None,
        record=record,
        arguments=parameters,
        **facts,
    )
    if choice.candidates:
        report = replace(report, model=choice)
    return Judged(report, facts)
