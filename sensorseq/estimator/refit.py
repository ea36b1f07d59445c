"""The steps after the fit on the training part: weight features, and learn from all windows.

The validation curve, the report and the held-out probabilities come from the held-out part. After a
refit, the final model has learned from every window. It consists either of the networks of the
folds or of networks that are trained on all windows.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, warn_caller
from sensorseq.estimator.feature_head import (
    FittedFeatures,
    HeadData,
    Weighted,
    draw_windows,
    fit_features,
    try_functions,
)
from sensorseq.estimator.fit_windows import ScaledFit
from sensorseq.features.ridge import MOST_WINDOWS, Fold
from sensorseq.history import History
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.windows import Windows
from sensorseq.preprocessing.split import folds_in_time, near_in_time
from sensorseq.preprocessing.splitters import split_folds
from sensorseq.preprocessing.windows.balance import weights_of_few_recordings
from sensorseq.training import TrainingConfig, TrainingData, TrainingResult
from sensorseq.training.batches import center_windows, valid_lengths
from sensorseq.training.callbacks import NoProgress
from sensorseq.training.engine import TrainingJob, is_second_interrupt, steps_of_epoch
from sensorseq.training.evaluation import ModuleNetwork
from sensorseq.training.recorder import rerun_config
from sensorseq.training.side_by_side import train_jobs
from sensorseq.training.streamed_data import (
    HELD,
    StreamedData,
    make_data,
    make_renewal,
    window_bytes,
)
from sensorseq.training.torch_network import make_network
from sensorseq.training.window_format import WindowFormat

N_FOLDS = 3
FEW_WINDOWS = 20_000  # largest number of windows for which refit="auto" refits the model
_FOLDS, _FEATURES, _REFIT, _COPIES = 101, 102, 103, 104  # spawn keys of the seeds


@dataclass(frozen=True, eq=False)
class Refit:
    """All windows of a fit that may be used for training, and how they are used.

    `part` and the scaled `data` contain the training windows, then the validation windows. `seen`
    contains all windows as prediction sees them. Validation windows that were given separately are
    only in `seen`; if there are any, `part` is None. If there is a held-out part, the first fold is
    tested on it. If `refits` is true, the final model learns from all windows. It consists of the
    networks of the folds if `keeps_folds` is true, and of networks trained on all windows
    otherwise. If `augment` is set, `changed` returns the windows of `data` as augmented in a given
    epoch. If only features are fitted, all fields describe the sample of windows to which the
    features are fitted.
    """

    part: Windows | None
    data: TrainingData
    seen: HeadData
    config: TrainingConfig
    n_train: int
    folds: list[Fold]
    features: Any
    refits: bool
    entropy: int
    keeps_folds: bool = False
    changed: Callable[[int], NDArray[Any]] | None = None
    given_groups: NDArray[Any] | None = None

    @property
    def has_held_out(self) -> bool:
        """Whether the first fold is tested on the held-out part."""
        return bool(self.folds) and int(self.folds[0][1].min()) >= self.n_train

    @property
    def shares_groups(self) -> bool:
        """Whether some groups are on both sides of a fold, because the folds are cut in time."""
        groups = None if self.part is None else self.part.groups
        return groups is not None and any(
            np.intersect1d(groups[fit], groups[test]).size for fit, test in self.folds
        )

    def truth_of(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[Any] | None, NDArray[np.int64] | None]:
        """Return the classes and groups of windows, and their indices in X (None with `X_val`)."""
        groups, first, given_rows = self.given_groups, self.n_train, None
        if self.part is not None:
            groups, first, given_rows = self.part.groups, 0, self.part.rows
        groups = None if groups is None else groups[rows - first]
        if given_rows is not None:
            given_rows = given_rows[rows]
        return self.seen.class_index[rows], groups, given_rows

    def seed(self, kind: int, number: int = 0) -> np.random.SeedSequence:
        """Return the seed of `kind` and `number`, which is independent of the other seeds."""
        return np.random.SeedSequence(self.entropy, spawn_key=(kind, number))

    def count_networks(self, n_models: int) -> int:
        """Return how many networks are trained after the fit on the training part."""
        n_refits = n_models if self.refits and not self.keeps_folds else 0
        return len(self.folds) - self.has_held_out + n_refits

    def fit_features(self, progress: NoProgress) -> FittedFeatures | None:
        """Fit the feature models; their weights in the sum of logits are fitted later."""
        if self.features is None:
            return None
        progress.say("features")
        whole = self.refits or not self.has_held_out
        return self._fitted(self.folds, np.arange(len(self.data)) if whole else None)

    def fit_features_again(self) -> FittedFeatures | None:
        """Fit the feature models without the held-out part, so that no model has seen this part."""
        if self.features is None or not self.has_held_out:
            return None
        try:
            return self._fitted(self.folds[:1], None)
        except KeyboardInterrupt:
            if is_second_interrupt():
                raise
            warn_caller("fitting the features was interrupted, so the LSTM is used alone.")
            return None

    def _fitted(self, folds: Sequence[Fold], rows: NDArray[np.int64] | None) -> FittedFeatures:
        fit_rows = self.seen.learn_rows if rows is None else rows
        seen, n = self.seen, len(self.seen.X)
        if self.changed is not None:  # also fit features to an augmented copy of each window
            copies = center_windows(
                replace(self.data, X=torch.from_numpy(self.changed(0))), self.config
            ).X.cpu()
            n_more = seen.X.shape[1] - copies.shape[1]
            X = np.pad(copies.numpy(), ((0, 0), (0, n_more), (0, 0)))
            copied = seen.take(np.arange(len(X)))
            seen = seen.join(replace(copied, X=X))

            def twice(rows: NDArray[np.int64]) -> NDArray[np.int64]:
                return np.concatenate([rows, n + rows[rows < len(X)]])

            folds, fit_rows = [(twice(fit), test) for fit, test in folds], twice(fit_rows)
        seed, in_time = self.seed(_FEATURES), self.shares_groups
        fitted = fit_features(self.features, seen, folds, fit_rows, seed, in_time)
        return fitted.take(np.flatnonzero(fitted.rows < n))

    def fold_logits(
        self, model: TrainedModel, modules: Sequence[LSTMLinear], device: str
    ) -> NDArray[np.float64]:
        """Return each network's logits for the windows of its test fold; other rows are NaN."""
        seen = self.seen
        logits = np.full((len(seen.X), seen.n_classes), np.nan)
        for module, (_, rows) in zip(modules, self.folds, strict=False):
            lengths = None if seen.lengths is None else seen.lengths[rows]
            network = ModuleNetwork(copy.deepcopy(module), device)
            logits[rows] = network.outputs(*model.lstm.steps(seen.X[rows], lengths))
        return logits


def plan_refit(
    parameters: Mapping[str, Any], scaled: ScaledFit, jobs: Sequence[TrainingJob], entropy: int
) -> Refit | FeatureChoice:
    """Plan the steps after the fit on the training part; return a FeatureChoice if none follow.

    `jobs` train the networks on the training part; `entropy` seeds the fit's random streams.
    """
    fit_data, form, config = scaled.data, scaled.format, jobs[0].config
    train, validation = fit_data.train, fit_data.validation
    features, refit = parameters["features"], parameters["refit"]
    in_file = train.are_stored or any(isinstance(part, StreamedData) for part in scaled.samples)
    is_given = fit_data.given_validation is not None
    has_more = validation is not None and not is_given
    n_windows = len(train) + (len(validation) if has_more and validation else 0)
    # after a refit, a warm start would validate on windows that the networks were trained on
    allows_auto = n_windows <= FEW_WINDOWS and not (parameters["warm_start"] or in_file)
    refits = has_more and (refit == "all" or (refit == "auto" and allows_auto))
    if in_file and refits:
        raise ArgumentError(
            "refit='all' is not possible, because the windows are read from their file in parts."
            " Use refit='auto' or None."
        )
    if features is None and not refits:
        return FeatureChoice()
    if in_file and validation is None:
        why = "the windows are read from their file in parts, and none of them are held out"
        if features != "auto":
            raise ArgumentError(f"features={features!r} cannot be weighted: {why}.")
        return FeatureChoice(reason=why)
    share, is_sample = _shares(train, validation), False
    if validation is not None and not refits:
        # only features are fitted, for which a sample of the windows is enough
        most = MOST_WINDOWS
        if in_file:
            n_bytes = window_bytes(train, form, training=True)
            most = max(1, min(most, buffer_bytes() // (HELD * n_bytes)))
        drawn = _draw_sample(train, validation, most, entropy)
        is_sample = len(drawn) < len(train) + len(validation)
        if is_sample:
            of_train = drawn < len(train)
            share = None if share is None else share[drawn]
            validation = validation.take(drawn[~of_train] - len(train))
            train = train.take(drawn[of_train])
    data: Any = scaled.samples[0]
    apart: Any = None  # validation windows that were given separately
    part, given_groups = None, None
    if is_given:
        assert validation is not None
        apart, given_groups = scaled.samples[1], validation.groups
        if is_sample:
            data = make_data(train, form, fit_data.target, training=True)
            apart = make_data(validation, form, fit_data.target, training=False)
    else:
        windows = fit_data.windows
        rows: list[Any] = [half.rows for half in (train, validation) if half is not None]
        part = windows.take(np.searchsorted(np.asarray(windows.rows), np.concatenate(rows)))
        if validation is not None:
            data = make_data(part, form, fit_data.target, training=True)
    assert isinstance(data, TrainingData)
    assert not isinstance(apart, StreamedData)
    n_train = len(train)
    seen = seen_windows(data, apart, share, config, n_train)
    plan = Refit(
        *(part, data, seen, config, n_train, [], features, refits, entropy),
        given_groups=given_groups,
    )
    if features is None:
        return plan
    windows_of_data, changed = train if part is None else part, None
    if form.augment is not None:
        without_patch = replace(form, patch=None)
        changed = make_renewal(windows_of_data, without_patch, data, plan.seed(_COPIES))
    try_functions(features, seen)
    several = refits or validation is None
    folds = make_folds(seen, windows_of_data, n_train, entropy, several=several)
    if not folds:
        why = "there are too few windows or groups to leave some out"
        if features != "auto":
            raise ArgumentError(f"features={features!r} cannot be weighted: {why}.")
        return replace(plan, features=None) if refits else FeatureChoice(reason=why)
    # together, the networks of the folds have seen all windows, and their mean is more accurate
    # than one network
    is_covered = len(folds) == N_FOLDS and len(jobs) == 1
    keeps_folds = refits and refit == "auto" and is_covered
    return replace(plan, folds=folds, keeps_folds=keeps_folds, changed=changed)


def _draw_sample(train: Windows, validation: Windows, most: int, entropy: int) -> NDArray[np.int64]:
    """Draw up to `most` windows of both parts; return their positions in the joined parts."""
    seed = np.random.SeedSequence(entropy, spawn_key=(_FEATURES, 0))
    target = np.concatenate([train.target, validation.target])
    return draw_windows(target, np.arange(len(train)), most, np.random.default_rng(seed))


def seen_windows(
    data: TrainingData,
    apart: TrainingData | None,
    share: NDArray[np.float64] | None,
    config: TrainingConfig,
    n_train: int,
) -> HeadData:
    """Return all windows as prediction sees them, with the separate windows `apart` at the end.

    `share` contains window weights that balance the classes if there are few recordings, or is
    None.
    """
    parts = [center_windows(data, config)]
    if apart is not None:
        parts.append(apart)
    n_steps = max(part.X.shape[1] for part in parts)
    arrays = [part.X.cpu().numpy() for part in parts]
    padded = [
        array
        if array.shape[1] == n_steps
        else np.pad(array, ((0, 0), (0, n_steps - array.shape[1]), (0, 0)))
        for array in arrays
    ]
    lengths = None
    if any(part.lengths is not None or part.X.shape[1] < n_steps for part in parts):
        lengths = np.concatenate([valid_lengths(part) for part in parts])
    target = np.concatenate([part.target.cpu().numpy() for part in parts])
    weight = np.ones(len(target))
    if data.weight is not None:
        weight[: len(data.weight)] = data.weight.cpu().numpy()
    if share is not None:
        weight *= share
    learn_rows = np.arange(n_train)
    X = np.concatenate(padded)
    return HeadData(X, lengths, target, weight, config.n_outputs, learn_rows)


def _shares(train: Windows, validation: Windows | None) -> NDArray[np.float64] | None:
    """Return window weights that balance the classes if there are few recordings, or else None."""
    parts = [part for part in (train, validation) if part is not None]
    groups = [part.groups for part in parts if part.groups is not None]
    if len(groups) < len(parts) or train.weight is not None:
        return None
    target = np.concatenate([part.target for part in parts])
    return weights_of_few_recordings(np.concatenate(groups), target)


def make_folds(
    seen: HeadData, part: Windows, n_train: int, entropy: int, *, several: bool
) -> list[Fold]:
    """Return folds; the first is tested on the held-out part, the others on training windows.

    If the held-out part consists of the ends of groups, or if no group can be left out, groups are
    cut in time.
    """
    n_windows, everything = len(seen.X), np.arange(len(seen.X))
    first: list[Fold] = []
    held_out = np.arange(n_train, n_windows)
    if len(held_out):
        first.append((np.arange(n_train), held_out))
    if not several:
        return _with_all_classes(seen, first)
    n_more, target = N_FOLDS - len(first), seen.class_index[:n_train]
    groups, starts = part.groups, part.starts
    train_groups = None if groups is None else groups[:n_train]
    of_groups = [
        (np.setdiff1d(everything, tested), tested)
        for _, tested in split_folds(target, train_groups, n_more, entropy)
    ]
    folds = _with_all_classes(seen, [*first, *of_groups])
    if groups is None or starts is None:
        return folds
    if folds and not np.intersect1d(groups[:n_train], groups[n_train:]).size:
        return folds
    in_time = []
    for _, tested in folds_in_time(target, groups[:n_train], starts[:n_train], n_more):
        is_tested = np.isin(np.arange(len(groups)), tested)
        near = is_tested | near_in_time(groups, starts, is_tested, 2.0)
        in_time.append((np.flatnonzero(~near), tested))
    return _with_all_classes(seen, [*first, *in_time])


def _with_all_classes(seen: HeadData, folds: list[Fold]) -> list[Fold]:
    """Return the folds whose fit rows include every class."""
    return [
        (fit, test)
        for fit, test in folds
        if len(test) and len(np.unique(seen.class_index[fit])) == seen.n_classes
    ]


class Refitted(NamedTuple):
    """The result of a refit: the weighted sum, and networks that replace the fit's networks.

    `held_out` contains indices of held-out windows, and their outputs from models that have not
    seen these windows. If `modules` is empty, the fit's networks are kept. `histories` contains the
    histories of the additional fold networks if these are kept; otherwise, it is None.
    """

    weighted: Weighted | None
    choice: FeatureChoice
    modules: list[LSTMLinear]
    histories: list[History] | None
    held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None


def run_refit(
    plan: Refit,
    parameters: Mapping[str, Any],
    scaled: ScaledFit,
    jobs: Sequence[TrainingJob],
    model: TrainedModel,
    results: Sequence[TrainingResult],
    fitted: FittedFeatures | None,
    progress: NoProgress,
) -> Refitted:
    """Weight the `fitted` features, and train on the folds and on all windows.

    `model` contains the networks that `jobs` trained; `results` are the results of `jobs`.
    """
    trained = lstms_of(jobs)
    tested = trained[:1] if plan.has_held_out else []
    has_ended = not {result.ended_by for result in results} & {
        "interrupted",
        "diverged",
        "callback_failed",
    }
    fold_jobs: list[TrainingJob] = []
    refit_jobs: list[TrainingJob] = []
    histories: list[History] = []  # one for each job
    if has_ended:
        fold_jobs, refit_jobs = _make_jobs(plan, parameters, scaled.format, jobs, results[0])
        more = [*fold_jobs, *refit_jobs]
        histories = _train_all([replace(job, callbacks=progress.callbacks) for job in more])
        has_ended = len(histories) == len(more)
        if not has_ended:
            warn_caller(
                "training on further parts of the windows was interrupted or diverged, so the"
                " network of the first training run is kept. It has not seen the held-out windows."
            )
            fold_jobs, refit_jobs = [], []
    if not has_ended:
        fitted = plan.fit_features_again()
    fold_modules = lstms_of(fold_jobs)
    weighted, choice, is_without = None, FeatureChoice(), False
    if fitted is not None:
        logits = plan.fold_logits(model, [*tested, *fold_modules], parameters["device"])
        weighted = _join_features(plan, fitted, model, logits)
        choice, is_without = weighted.choice, has_ended and not weighted.sum.uses_lstm
    elif plan.features is not None:
        choice = FeatureChoice(reason="training was interrupted or diverged")
    kept, fold_histories = lstms_of(refit_jobs), None
    if is_without and plan.refits:
        # the networks have weight 0, and the features have learned from all windows
        kept = trained[: len(results)]
    elif plan.keeps_folds and fold_jobs:
        kept, fold_histories = [trained[0], *fold_modules], histories
    held_out = _held_out_outputs(plan, weighted, model) if kept else None
    return Refitted(weighted, choice, kept, fold_histories, held_out)


def lstms_of(jobs: Sequence[TrainingJob]) -> list[LSTMLinear]:
    """Return the networks that the jobs train."""
    return [job.module for job in jobs if isinstance(job.module, LSTMLinear)]


def _join_features(
    plan: Refit, fitted: FittedFeatures, model: TrainedModel, logits: NDArray[np.float64]
) -> Weighted:
    """Fit the weights of the features and the LSTM, given the LSTM's out-of-fold logits."""
    weighted = fitted.join(model.lstm, logits)
    if not plan.shares_groups:
        return weighted
    caveat = "; training and test windows share groups, so all scores are optimistic"
    if any(isinstance(member, LinearMember) for member in weighted.sum.members.values()):
        caveat += ", and linear layers count equally"
    choice = replace(weighted.choice, reason=weighted.choice.reason + caveat)
    return weighted._replace(choice=choice)


def _held_out_outputs(
    plan: Refit, weighted: Weighted | None, model: TrainedModel
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return indices of held-out windows, and their outputs from models that have not seen them."""
    first = plan.n_train
    if weighted is not None:
        is_held_out = weighted.rows >= first
        return weighted.rows[is_held_out] - first, weighted.logits[is_held_out]
    seen = plan.seen
    lengths = None if seen.lengths is None else seen.lengths[first:]
    return np.arange(len(seen.X) - first), model.sum.logits(seen.X[first:], lengths)


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


def _make_jobs(
    plan: Refit,
    parameters: Mapping[str, Any],
    form: WindowFormat,
    jobs: Sequence[TrainingJob],
    first: TrainingResult,
) -> tuple[list[TrainingJob], list[TrainingJob]]:
    """Return the jobs that train on the other folds, and the jobs that train on all windows."""
    n_epochs = first.best_epoch if jobs[0].config.restore_best else len(first.history)

    def made(rows: NDArray[np.int64] | None, seed: np.random.SeedSequence) -> TrainingJob:
        part, data = plan.part, plan.data
        if rows is not None:
            part = None if part is None else part.take(rows)
            data = data.take(torch.from_numpy(rows), data.X.device)
        assert part is not None
        return _make_job(parameters, form, jobs[0], part, data, seed, n_epochs)

    of_folds = [
        made(rows, plan.seed(_FOLDS, number))
        for number, (rows, _) in enumerate(plan.folds)
        if number or not plan.has_held_out  # the fit itself trained the first network
    ]
    if not plan.refits or plan.keeps_folds:
        return of_folds, []
    return of_folds, [made(None, plan.seed(_REFIT, member)) for member in range(len(jobs))]


def _make_job(
    parameters: Mapping[str, Any],
    form: WindowFormat,
    first: TrainingJob,
    part: Windows,
    data: TrainingData,
    seed: np.random.SeedSequence,
    n_epochs: int,
) -> TrainingJob:
    """Return a job that trains a new network for about as many steps as the first job ran."""
    weights, training = seed.spawn(2)
    (like,), config = lstms_of([first]), first.config
    # start from initial weights even if warm_start=True
    module = make_network(parameters, like.input_size, like.num_classes, weights)
    module = module.to(like.linear.weight.device)
    steps = [steps_of_epoch(module, windows, config) for windows in (first.train, data)]
    epochs = max(1, round(n_epochs * steps[0] / steps[1]))
    warmup = config.warmup_epochs
    if warmup >= 1:
        warmup = min(warmup, epochs // 2)
    config = rerun_config(config, epochs, warmup_epochs=warmup, monitor="loss")
    refresh = make_renewal(part, form, data, training)
    windows = data if form.patch is None else data.patched(form.patch)
    engine = parameters["engine"]
    return TrainingJob(module, windows, None, config, training, engine=engine, refresh=refresh)
