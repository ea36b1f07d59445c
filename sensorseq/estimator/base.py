"""What the classifier and the regressor share: data in, one run, values out, the file."""

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.checks import check_integer
from sensorseq.diagnosis.level import compare_level, spread
from sensorseq.diagnosis.ranking import causes_of
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.statements import Statement, say
from sensorseq.diagnosis.trials import LabPart
from sensorseq.errors import (
    ArgumentError,
    DivergedError,
    InputError,
    LeakWarning,
    ModelFileError,
    refusing,
    warn_caller,
)
from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.estimator.lab import FitOrigin, copied, repair_fit
from sensorseq.estimator.model import describe_fit, pack_state, restore_fit, unpack_state
from sensorseq.estimator.outside import OutsideMixin
from sensorseq.estimator.whole_data import (
    WholeData,
    check_whole_data,
    finish_whole_data,
    plan_whole_data,
)
from sensorseq.export.to_onnx import write_onnx
from sensorseq.gpu_check.check import check_before_fit
from sensorseq.history import History
from sensorseq.inspection.check_result import Diagnosis
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.overlap import check_continuity, check_overlap
from sensorseq.inspection.part import Part as CheckedPart
from sensorseq.inspection.training_check import check_training
from sensorseq.inspection.window_checks import check_windows, check_zero_ends
from sensorseq.io.model_file import SAVE_AGAIN, read_model, write_model
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.preprocessing.scale import PHYSICAL, Scaler
from sensorseq.training import EngineChoice, TrainingConfig, TrainingData, TrainingResult
from sensorseq.training.callbacks import NoProgress, check_callbacks, notify
from sensorseq.training.checkpoint import Checkpoint
from sensorseq.training.config import CLASSIFICATION, count_epochs
from sensorseq.training.data import FitData, FitPart, WindowFormat, open_windows
from sensorseq.training.distributed import agree_on, current_ranks, own_device
from sensorseq.training.engine import TrainingJob, steps_of_epoch
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training.inputs import (
    Sequences,
    check_axis_order,
    check_channels,
    is_table,
    read_sequences,
    scale_sequences,
)
from sensorseq.training.labels import draw_entropy
from sensorseq.training.network import continue_network, make_network, network_arrays
from sensorseq.training.parameters import check_device, check_parameters, resolve_device
from sensorseq.training.passes import PassResult, train_pass
from sensorseq.training.patches import AUTO, Patch, check_patch, make_patch
from sensorseq.training.preparation import (
    Preparation,
    check_same_channels,
    check_same_preparation,
    describe_preparation,
    tell_apart,
    warn_of_another_scale,
)
from sensorseq.training.recorder import new_recorder
from sensorseq.training.side_by_side import train_jobs
from sensorseq.training.sizes import check_training_memory
from sensorseq.training.sklearn_callbacks import CallbackSupportMixin, FitTasks, with_callbacks
from sensorseq.training.stream import StreamedData, is_stored
from sensorseq.training.unknown import KnownWindows
from sensorseq.training_record import TrainingRecord
from sensorseq.windows import WindowSet

_OF_FIT = {  # argument: what leaves it alone, and what to do instead
    "calibrate": (False, "calibrate with fit on validation windows"),
    "checkpoint": (
        None,
        "pickle the estimator between calls instead; it includes the optimizer state",
    ),
    "n_models": (1, "train several estimators instead"),
    "windows_per_epoch": (None, "give it the windows of one pass"),
    "auto_repair": (False, "set it to False"),
}
_JUDGED = ("loss", "val_loss", "val_accuracy")  # what a report needs one of


class _Seeds(NamedTuple):
    """Independent streams, so that one more draw in one of them changes no other."""

    split: np.random.SeedSequence
    members: list[tuple[np.random.SeedSequence, np.random.SeedSequence]]  # weights and training
    entropy: int


class _FitArguments(NamedTuple):
    """The arguments of a fit, checked."""

    config: TrainingConfig
    device: torch.device
    seeds: _Seeds
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class PreparedFit:
    """A fit that is checked, split, scaled and ready to train.

    There is one job per member of an ensemble; the report and its `facts` are on the first. The
    data of `train` and `validation` may also be streamed. `whole` says what follows on all windows,
    or why nothing does; None keeps what an earlier fit learned. `progress` shows what is done.
    """

    jobs: list[TrainingJob]
    facts: dict[str, Any]
    train: LabPart
    validation: LabPart | None
    entropy: int
    whole: WholeData | FeatureChoice | None = None
    progress: NoProgress = field(default_factory=NoProgress)

    @property
    def module(self) -> LSTMLinear:
        """The network that the report is on."""
        return cast(LSTMLinear, self.jobs[0].module)


class SensorLSTM(OutsideMixin, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """An LSTM with a linear head on windows of sensor signals; its children say what it predicts.

    A child sets `_task`, stores its arguments in `__init__`, and says what targets are:
    `_learn_targets`, `_read_validation_targets`, `_engine_targets` and `_n_outputs`.
    """

    _task: ClassVar[str] = CLASSIFICATION
    scaler_: Scaler | KeyedScaler | None
    module_: LSTMLinear
    history_: History
    engine_: EngineChoice
    features_: FeatureChoice
    refitted_: bool
    preparation_: Preparation | None
    patch_: Patch | None = None
    n_features_in_: int
    n_iter_: int
    best_epoch_: int
    best_score_: float
    _flat_timesteps: int | None
    _n_timesteps: int | None = None  # of the windows of the fit
    _were_lengths: bool = False
    _in_pass = False  # during partial_fit: nothing is held out, scaling is not fitted again
    _passes: list[dict[str, Any]]  # one for each network
    _other_modules: list[Any]
    # rows of the held-out part and their outputs, from before a refit on them
    _held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    _head: FeatureHead | None = None  # of features; the LSTM's logits alone without
    _known: KnownWindows | None = None  # of a classifier, what is like them is of a known class
    _replayed: int | None = None  # entropy of a fit to run again
    _report_facts: dict[str, Any]

    # those of the classifier alone
    features: Any = None
    refit: Any = None
    patch: Any = None

    # Requested by default: whoever passes them to a search or a pipeline means them for here.
    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__partial_fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: ArrayLike | None = None,
        lengths_val: ArrayLike | None = None,
    ) -> Self:
        """Train on windows and their labels, or the values to predict.

        Parameters
        ----------
        X : array of shape (n, t, c) or (n, t), list of arrays of shape (t_i, c), WindowSet or path
            Windows; (n, t) means one channel, and a path means a prepared file. The list may have
            DataFrames: text names of the columns of the first are the channels, and all others,
            also in predictions, are read by name in their order. If a WindowSet or a file has a
            split, ``"train"`` is used for training, ``"validation"`` for validation, and ``"test"``
            is not used. A WindowSet holds unscaled, unbalanced windows whatever the pipeline's
            settings; the `scale` and `sampler` of this estimator apply to them. A prepared file
            contains its scaler, used if it matches `scale`, and the indices of its balanced
            training windows.
        y : array of shape (n,) or (n, k), optional
            For a classifier labels, or exactly one-hot columns; for a regressor one or more values
            for each window. Not needed if a WindowSet has labels; a file contains its own.
        sample_weight : array of shape (n,), optional
            Factor of each window in the loss; a window with weight zero is ignored.
        groups : array of shape (n,), optional
            Windows of one group (recording, subject, day) stay on one side of the validation split.
            A WindowSet has its own groups, or uses its recordings. Not allowed with a WindowSet
            that has a split.
        lengths : array of shape (n,), int, optional
            Valid steps of each window, 1 to t; later steps are ignored.
        X_val, y_val, groups_val, lengths_val : optional
            Windows to validate on instead of a held-out part. One-hot columns are in the order of
            `classes_`.

        Raises
        ------
        InputError
            If the data cannot be used; the message names the first window, step and channel. Also
            if rows of (n, t) seem to be samples of several channels, each with the label of its
            recording.
        SplitError
            If a WindowSet's split has one group in two parts, or no group can be held out.
        ArgumentError
            If an argument has an invalid value, or leaves nothing to validate on.
        CheckpointError
            If `resume` finds a checkpoint made with another configuration or other data, or a file
            that is damaged or not a checkpoint.
        DivergedError
            If the loss is not finite in the first epoch.

        Warns
        -----
        LeakWarning
            If windows on both sides of the validation split share samples, or if there are no
            groups and each window continues the one before it.
        """
        if self.auto_repair and current_ranks() is not None:
            raise ArgumentError(
                "auto_repair=True works only in a single process; use auto_repair=False with"
                " several."
            )
        given = {
            "sample_weight": sample_weight,
            "groups": groups,
            "lengths": lengths,
            "X_val": X_val,
            "y_val": y_val,
            "groups_val": groups_val,
            "lengths_val": lengths_val,
        }
        tasks = FitTasks.of_watched(self, X, y, sample_weight, lengths)
        results, failed = self._fit(X, y, given, tasks)
        if self.auto_repair and results[0].ended_by != "interrupted":
            failed = self._repair(failed, X, y, **given)
        if failed is not None:
            raise failed
        if tasks is not None:
            tasks.close()
        return self

    def _fit(
        self, X: Any, y: Any, given: Mapping[str, Any], tasks: FitTasks | None
    ) -> tuple[list[TrainingResult], DivergedError | None]:
        """Prepare, train and keep; return an error of the training that a repair may undo."""
        started, is_whole = time.perf_counter(), not self._continues
        with self._progress() as progress:
            prepared = replace(self._prepare_fit(X, y, **given), progress=progress)
            whole, n_models = prepared.whole, len(prepared.jobs)
            if isinstance(whole, WholeData):
                progress.expect(n_models + whole.count_networks(n_models))
                whole.fit_features(progress)
            jobs = [
                replace(job, callbacks=(*progress.callbacks, *job.callbacks))
                for job in prepared.jobs
            ]
            if tasks is not None:  # a callback costs a look at the weights in each epoch
                jobs[0] = replace(jobs[0], callbacks=(*jobs[0].callbacks, tasks))
            results = train_jobs(jobs)
            error = results[0].error
            if error is not None:  # a callback failed, not the training
                if results[0].best_epoch:
                    self._keep(prepared, results)
                raise error
            failed: DivergedError | None = None
            try:
                self._keep(prepared, results)
            except DivergedError as diverged:
                failed = diverged
        self._tell_origin(prepared, is_whole=is_whole, fit_s=time.perf_counter() - started)
        return results, failed

    def _check_windows(self, prepared: PreparedFit) -> tuple[Finding, ...]:
        """Check a classifier's windows as it sees them, unless they stay in their file."""
        if self._task != CLASSIFICATION or not isinstance(prepared.train.data, TrainingData):
            return ()
        names: dict[str, Any] = {
            "channels": self._channels,
            "classes": [str(label) for label in self.classes_],
        }
        parts = [
            part.as_windows(**names)
            for part in (prepared.train, prepared.validation)
            if part is not None and isinstance(part.data, TrainingData)
        ]
        return tuple(check_windows(*parts))

    def _repair(
        self, failed: DivergedError | None, X: Any, y: Any, **given: Any
    ) -> DivergedError | None:
        """Fit again with what probes prove, when that is better; return what is still wrong."""

        def refit(estimator: Any) -> Any:
            estimator.set_params(auto_repair=False)
            estimator._replayed = self.fluctuation_.origin.entropy
            return estimator.fit(X, y, **given)

        said = {name: value for name, value in given.items() if value is not None}
        self.repair_ = {}
        try:
            repair = repair_fit(self.fluctuation_, X, y, said, refit, verbose=self.verbose)
        except KeyboardInterrupt:
            warn_caller("the repair was interrupted; the original fit is kept.")
            return failed
        self.repair_ = dict(repair.changes)
        if repair.fitted is not None:
            own = vars(repair.fitted)
            learned = {name: value for name, value in own.items() if name not in self.get_params()}
            learned.pop("_replayed")
            self.__dict__.update(learned)
            failed = None
        self.fluctuation_ = repair.report
        return failed

    def _prepare_fit(self, X: Any, y: Any = None, **given: Any) -> PreparedFit:
        """Check the arguments, read and split the data, and prepare the training."""
        arguments = self._check_arguments()
        data = FitData.read(self, X, y, **given)
        parts = data.split(self.validation_fraction, arguments.seeds.split, arguments.config)
        return self._prepare(data, *parts, arguments)

    def _check_arguments(self) -> _FitArguments:
        """Check all arguments, and forget what an earlier fit kept for going on."""
        config = check_parameters(self.get_params(deep=False), self._task)
        check_whole_data(self.features, self.refit, self.warm_start)
        check_patch(self.patch)
        device = self._training_device()
        check_training_memory(self.get_params(deep=False), config, device)  # before data are read
        checkpoint = self._open_checkpoint()
        seeds = self._make_seeds(checkpoint)
        self.__dict__.pop("_passes", None)  # of an optimizer that is not gone on with
        self.__dict__.pop("repair_", None)
        return _FitArguments(config, device, seeds, checkpoint)

    def _prepare(
        self,
        data: FitData,
        train: FitPart,
        validation: FitPart | None,
        arguments: _FitArguments,
    ) -> PreparedFit:
        """Scale; learn everything but the weights."""
        self._check_parts(train, validation)
        leaks: list[Finding | None] = []
        if data.is_drawn and validation is not None:
            leaks.append(check_overlap(train, validation))
            if data.windows.groups is None:
                leaks.append(check_continuity(data.windows.sequences))
        findings = tuple(finding for finding in leaks if finding is not None)
        for finding in findings:
            warn_caller(str(finding), LeakWarning)
        # Learned on the training part alone: statistics of the rest would leak into its score.
        self._learn_scaling(train, data)
        self._learn_ranges(data, continues=self._continues)
        prepared = self._assemble(train, validation, arguments, findings)
        if self._continues:
            return prepared
        return replace(prepared, whole=plan_whole_data(self, data, train, validation, prepared))

    def _prepare_pass(self, X: Any, y: Any, **given: Any) -> PreparedFit:
        """Do what `_prepare_fit` does for a lot of windows that all train."""
        config = check_parameters(self.get_params(deep=False), self._task)
        device, seeds = self._training_device(), self._make_seeds()
        data = FitData.read(self, X, y, **given)
        train = data.stored_part("train")
        self._learn_scaling(train, data)
        self._learn_ranges(data, continues=self._continues)
        return self._assemble(train, None, _FitArguments(config, device, seeds))

    def _training_device(self) -> torch.device:
        # the native engine serves every network on the CPU: "auto" goes where it is
        wanted = "cpu" if (self.device, self.engine) == ("auto", "native") else self.device
        dtype: torch.dtype = getattr(torch, self.dtype)
        if check_device(wanted) != "cpu" and current_ranks() is None:
            check_before_fit(wanted)
        return own_device(resolve_device(wanted, hidden_size=self.hidden_size, dtype=dtype))

    def _assemble(
        self,
        train: FitPart,
        validation: FitPart | None,
        arguments: _FitArguments,
        findings: tuple[Finding, ...] = (),
    ) -> PreparedFit:
        """Make the networks and the scaled windows, of parts that are checked."""
        config, device, seeds, _ = arguments
        n_channels = train.sequences.X.shape[2]
        own = self.get_params(deep=False)
        check_training_memory(own, config, device, train.sequences, self._n_outputs)
        samples: Any = self._training_data(train, training=True)
        if not self._continues:
            self.patch_ = self._make_patch(samples)
        patch = self.patch_
        windows = samples if patch is None else samples.patched(patch)
        n_inputs = n_channels if patch is None else patch.n_inputs(n_channels)
        modules = [
            self._make_module(n_inputs, weights, member).to(device)
            for member, (weights, _) in enumerate(seeds.members)
        ]
        held_out = None
        if validation is not None:
            shown: Any = self._training_data(validation, training=False)
            steps = shown if patch is None else shown.patched(patch)
            held_out = LabPart(steps, validation.groups, validation.rows, shown, validation)
        config = self._resolved(config, modules[0], windows)
        findings = (*findings, *self._check_shares(train, validation))
        own_callbacks = check_callbacks(self.callbacks)
        jobs = [
            TrainingJob(
                module,
                windows,
                None if held_out is None else held_out.data,
                config,
                training,
                callbacks=own_callbacks,
                engine=self.engine,
                refresh=self._renewal(train, samples, training),
                checkpoint=self._open_checkpoint(member) if member else arguments.checkpoint,
                recorder=None if member else new_recorder(),
            )
            for member, (module, (_, training)) in enumerate(
                zip(modules, seeds.members, strict=True)
            )
        ]
        for job in jobs[1:]:  # whose turn may never come: what lies there is of another fit
            if job.checkpoint is not None:
                job.checkpoint.discard()
        return PreparedFit(
            jobs,
            {**self._facts_of(train, validation), "data_facts": findings},
            LabPart(windows, train.groups, train.rows, samples, train),
            held_out,
            seeds.entropy,
        )

    def _prepare_again(self, prepared: PreparedFit) -> PreparedFit:
        """Make a new network for the windows of another fit of the same kind."""
        config = check_parameters(self.get_params(deep=False), self._task)
        ((weights, training),) = self._make_seeds().members
        module = self._make_module(prepared.module.input_size, weights)
        first = replace(
            prepared.jobs[0],
            module=module.to(prepared.module.linear.weight.device),
            config=self._resolved(config, module, prepared.jobs[0].train),
            seed=training,
        )
        return replace(prepared, jobs=[first])

    def _resolved(
        self, config: TrainingConfig, module: LSTMLinear, train: TrainingData | StreamedData
    ) -> TrainingConfig:
        """Return the configuration with its outputs, and the number of epochs for `max_epochs`."""
        n_epochs = count_epochs(config, steps_of_epoch(module, train, config))
        return replace(config, n_outputs=self._n_outputs, max_epochs=n_epochs)

    def _renewal(
        self, part: FitPart, data: TrainingData | StreamedData, seed: np.random.SeedSequence
    ) -> Callable[[int], Any] | None:
        """Return what gives the training windows of each epoch; None if they do not change."""
        renew = self._format.renewal(
            part,
            data,
            self.scaler_,
            seed,
            augment=self.augment,
            input_dropout=self.input_dropout,
            channels=self._channels,
        )
        patch = self.patch_
        if renew is None or patch is None or not isinstance(data, TrainingData):
            return renew
        lengths = data.lengths

        def renew_steps(epoch: int) -> NDArray[Any]:
            steps: NDArray[Any] = patch.apply(torch.from_numpy(renew(epoch)), lengths)[0].numpy()
            return steps

        return renew_steps

    def _make_patch(self, samples: TrainingData | StreamedData) -> Patch | None:
        """Return how many samples are a step of the networks."""
        if self.crop == "random" and self.max_timesteps is not None:
            if self.patch not in (None, AUTO, 1):
                raise ArgumentError(
                    f"patch={self.patch!r} cannot be combined with crop='random', which begins a"
                    " window at any sample; set patch=None, or another crop."
                )
            return None
        return make_patch(self.patch, *samples.nothing().X.shape[1:])

    def _keep(self, prepared: PreparedFit, results: Sequence[TrainingResult]) -> None:
        """Store what the runs of all members gave, and say when one did not end as asked."""
        result, config = results[0], prepared.jobs[0].config
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.best_score_ = result.best_score
        self.n_iter_ = len(result.history)
        self.engine_ = result.engine
        self._other_histories = [other.history for other in results[1:]]
        findings = (*prepared.facts["data_facts"], *self._check_windows(prepared))
        self._report_facts = {**prepared.facts, "data_facts": findings}
        record, held_out = result.record, prepared.validation
        if record is not None and held_out is not None and held_out.groups is not None:
            record.val_groups = np.unique(held_out.groups, return_inverse=True)[1][record.val_rows]
        self._make_report(record)
        self._to_compare = self._windows_to_compare(prepared)
        if any(of_member.best_epoch == 0 for of_member in results):
            self.__dict__.pop("module_", None)
            raise DivergedError(
                "training diverged in its first epoch: a loss or gradient is not finite. Lower"
                f" learning_rate (now {config.learning_rate!r}), clip the gradient with"
                f" max_grad_norm (now {config.max_grad_norm!r}), or check `scale` (now"
                f" {self.scale!r}) and the loss. See history_ and fluctuation_."
            )
        self.module_ = prepared.module
        begun = prepared.jobs[1 : len(results)]  # an interrupt left the rest out
        self._other_modules = [job.module for job in begun]
        if isinstance(prepared.whole, FeatureChoice):
            self.features_ = prepared.whole
        if prepared.whole is not None:
            self._head, self._held_out, self.refitted_ = None, None, False
        if isinstance(prepared.whole, WholeData):
            finish_whole_data(self, prepared.whole, prepared, results)
        else:
            self._learn_probabilities(prepared)
        for of_member in {of_member.ended_by: of_member for of_member in results[::-1]}.values():
            n_left_out = self.n_models - len(results)
            warn_of_the_end(of_member, config.n_epochs, n_left_out, self.checkpoint)

    # What a child says of its targets.

    @property
    @abstractmethod
    def _n_outputs(self) -> int:
        """Outputs of the head."""

    @abstractmethod
    def _learn_targets(
        self, y: Any, n_windows: int, taking_part: NDArray[np.bool_], *, continues: bool
    ) -> NDArray[Any]:
        """Check y, learn from it, and return the targets of the windows that take part."""

    @abstractmethod
    def _read_validation_targets(self, y: Any, n_windows: int) -> NDArray[Any]:
        """Check y_val and return its targets."""

    @abstractmethod
    def _engine_targets(self, part: FitPart) -> NDArray[Any]:
        """Return the targets as the engine trains on them."""

    @abstractmethod
    def _weights_of(self, part: FitPart) -> NDArray[np.float64] | None:
        """Return the factor on the loss of each training window."""

    @abstractmethod
    def _facts_of(self, train: FitPart, validation: FitPart | None) -> dict[str, Any]:
        """Return what the fluctuation report needs to know of the parts."""

    def _check_shares(self, train: FitPart, validation: FitPart | None) -> tuple[Finding, ...]:
        """Check the shares of classes."""
        return ()

    def _check_parts(self, train: FitPart, validation: FitPart | None) -> None:
        """Raise when the parts lack what an argument of the child needs."""

    def _learn_probabilities(self, prepared: PreparedFit) -> None:
        """Learn from the outputs of the kept weights what turns them into probabilities."""

    @abstractmethod
    def _describe_targets(self) -> dict[str, Any]:
        """Return what was learned of the targets, for the model file."""

    @abstractmethod
    def _restore_targets(self, take: Callable[[str, Any], Any]) -> None:
        """Restore what `_describe_targets` returned; `take` gives a field of a type."""

    def check(self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None) -> Diagnosis:
        """Tell a bug from a hard problem with short trainings whose outcome is known in advance.

        The estimator need not be fitted and is not changed. Print the result to read it; see
        `sensorseq.doctor.check_training`.

        Parameters
        ----------
        X, y, groups, lengths : as in `fit`
        """
        return check_training(self, X, y, groups=groups, lengths=lengths)

    # A pass over windows as they arrive: partial_fit.

    def _learn_pass(self, X: Any, y: Any, **given: Any) -> None:
        """Train for one pass over the windows; leave everything as it was when that fails."""
        for name, (harmless, instead) in _OF_FIT.items():
            if getattr(self, name, harmless) != harmless:
                raise ArgumentError(
                    f"{name}={getattr(self, name)!r} works in fit but not in partial_fit;"
                    f" {instead}."
                )
        begins = not hasattr(self, "module_")
        before = dict(self.__dict__)
        self._in_pass = True
        try:
            prepared = self._prepare_pass(X, y, **given)
            modules, results = self._run_pass(prepared, begins=begins)
            result, is_finite = results[0], all(each.is_finite for each in results)
            if not is_finite and begins:
                raise DivergedError(
                    "training diverged in its first pass: a loss or gradient is not finite. Lower"
                    f" learning_rate (now {self.learning_rate!r}), or check `scale` (now"
                    f" {self.scale!r})."
                )
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        del self._in_pass
        history = History([] if begins else self.history_)
        history.append({"epoch": len(history) + 1} | result.row)
        self.history_ = history
        self.n_iter_ = self.best_epoch_ = len(history)
        self.engine_ = result.engine
        self._report_facts = prepared.facts
        if is_finite:
            self.best_score_ = result.row["loss"]
            self.module_, *self._other_modules = modules
            self._passes = [each.state for each in results]
            if begins:
                self._head, self.features_ = None, FeatureChoice(reason="partial_fit")
                self.refitted_ = False
            self._learn_probabilities(prepared)
        else:
            warn_caller(
                f"training diverged in pass {len(history)}: a loss or gradient is not finite. The"
                " weights from before this call are kept; see fluctuation_.",
                ConvergenceWarning,
            )
        self._make_report()
        ranks = current_ranks()
        if ranks is None or ranks.is_first:
            callbacks = (*self._progress().callbacks, *prepared.jobs[0].callbacks)
            notify(callbacks, "on_epoch_end", self.module_, self.history_)

    def _run_pass(
        self, prepared: PreparedFit, *, begins: bool
    ) -> tuple[list[LSTMLinear], list[PassResult]]:
        """Train every network that is kept: one, or after a fit those of its folds."""
        modules = [prepared.module]
        if not begins:
            device = next(prepared.module.parameters()).device
            parameters = self.get_params(deep=False)
            modules += [
                continue_network(module, parameters).to(device) for module in self.modules_[1:]
            ]
        states = [] if begins else getattr(self, "_passes", [])
        if not states:
            entropy = int(agree_on(draw_entropy(self.random_state)))
            states = [{"entropy": entropy + member} for member in range(len(modules))]
        results = [
            train_pass(
                module,
                prepared.jobs[0].train,
                prepared.jobs[0].config,
                state,
                engine=self.engine,
                refresh=prepared.jobs[0].refresh,
            )
            for module, state in zip(modules, states, strict=True)
        ]
        return modules, results

    # After the fit.

    @property
    def fluctuation_(self) -> FluctuationReport:
        """The report; the first look at it compares the network with what the data allow."""
        own = self.__dict__
        if "fluctuation_" not in own:
            raise AttributeError(f"{type(self).__name__} has no fluctuation_ before fit.")
        if own.get("_to_compare") is not None:
            own["fluctuation_"] = compare_level(own["fluctuation_"], *own["_to_compare"])
            own["_to_compare"] = None
        report: FluctuationReport = own["fluctuation_"]
        return report

    @fluctuation_.setter
    def fluctuation_(self, report: FluctuationReport) -> None:
        self.__dict__ |= {"fluctuation_": report, "_to_compare": None}

    def _windows_to_compare(self, prepared: PreparedFit) -> tuple[Any, ...] | None:
        """Return what `compare_level` takes, of a classifier without features, if in memory."""
        if self._task != CLASSIFICATION or self.features is not None or not prepared.validation:
            return None
        train, validation = prepared.train.given, prepared.validation.given
        if train is None or validation is None:
            return None
        if is_stored(train.sequences) or is_stored(validation.sequences):
            return None
        rows = spread(len(validation.sequences))
        train = train.take(spread(len(train.sequences)))
        return _as_checked(train), _as_checked(validation.take(rows)), rows

    @property
    def modules_(self) -> list[LSTMLinear]:
        """The networks of all members; `module_` is the first."""
        return [self.module_, *self.__dict__.get("_other_modules", ())]

    @property
    def _used_modules(self) -> list[LSTMLinear]:
        """The networks that count: none where features decide alone."""
        is_without = self._head is not None and not self._head.lstm_weight
        return [] if is_without else self.modules_

    @property
    def histories_(self) -> list[History]:
        """One history for each member; `history_` is the first."""
        return [self.history_, *self.__dict__.get("_other_histories", ())]

    def plot_history(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Plot the curves of the last fit with matplotlib, the kept epoch and the sampling error.

        Parameters
        ----------
        path : str or path, optional
            File to write the figure to.
        """
        from sensorseq.diagnosis.page import draw_history  # matplotlib is an extra

        check_is_fitted(self)
        return draw_history(
            self.history_,
            n_val=self._report_facts["n_val"],
            best_epoch=self.best_epoch_,
            path=None if path is None else Path(path),
            loss_unit="nats" if self.loss == "cross_entropy" else "",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        It contains weights, scaling, classes, history, report and all arguments. The file appears
        only when it is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that cannot be stored without executing
            code when it is read.
        """
        check_is_fitted(self)
        write_model(path, *self._stored())

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        lengths: bool = False,
        steps: bool = False,
        dtype: str = "float32",
        false_alarm_rate: float | None = None,
    ) -> None:
        """Write what `predict_proba` or, for a regressor, `predict` computes as an ONNX model.

        The graph takes windows as they are given to `fit`, and contains cropping, scaling, all
        networks, `features`, and the temperature. It has opset 17 and runs in onnxruntime 1.15 or
        later. Windows have to be prepared as in training; see `steps`. Metadata say how, and have
        classes, channels, units, sample rate and the SHA-256 of the model file. Needs the extra
        ``onnx``.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        n_timesteps : int, optional
            Number of steps of every window, which lets onnxruntime prepare more in advance. By
            default the graph takes windows of any number of steps.
        lengths : bool, default=False
            Add the input ``lengths`` (n,), int64, the valid steps of each window, 1 to t.
        steps : bool, default=False
            Let the graph take windows of samples before the steps of the preparation, at the
            model's rate, and contain these steps. Products, power, differences of channels, signed
            channels and magnitudes can be exported. Steps that depend on earlier samples, such as
            filters, are refused by name.
        dtype : {"float32", "float64"}, default="float32"
            Type of the input ``X``, of shape (n, t, c), or (n, t) after a fit on a table. The
            output, ``probabilities`` (n, n_classes) or ``values`` (n, n_outputs), is float32.
        false_alarm_rate : float, optional
            Add the output ``unknown`` (n,), bool, to a classifier: whether a window is of no known
            class, see `SensorLSTMClassifier.predict_or_abstain`.

        Raises
        ------
        InputError
            If the model has something that the graph cannot compute: scaling per recording or
            group, ``scale="quantile"``, a function or classifier of your own as `features`.
        EnvironmentProblemError
            If the library onnx is missing.
        """
        check_is_fitted(self)
        if false_alarm_rate is not None and self._task != CLASSIFICATION:
            raise ArgumentError("false_alarm_rate is for classifiers, not for a regressor.")
        known = None if false_alarm_rate is None else self._known_within(false_alarm_rate)
        options: dict[str, Any] = {"n_timesteps": n_timesteps, "lengths": lengths, "dtype": dtype}
        write_onnx(self, path, **options, steps=steps, known=known, stored=self._stored)

    def _stored(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the arrays and the description of a model file."""
        arrays = network_arrays(self.modules_, self.scaler_)
        if self._head is not None:
            arrays |= self._head.arrays()
        if self._known is not None:
            arrays |= self._known.arrays()
        if self._ranges is not None:
            arrays |= self._ranges.arrays()
        return arrays, describe_fit(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted estimator written by `save`. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Overrides the saved `device`, such as ``"cpu"`` for a model trained on a GPU.

        Raises
        ------
        ModelFileError
            If the file is truncated, damaged, from another program or from a newer version, or has
            another kind of estimator.
        """
        if device is not None:
            check_device(device)
        arrays, description = read_model(path)
        with refusing(ModelFileError, f"{path} is inconsistent", SAVE_AGAIN, but=ModelFileError):
            estimator: Self = restore_fit(cls, arrays, description, path, device)
        return estimator

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        if "fluctuation_" in self.__dict__:
            _ = self.fluctuation_  # compared, which needs windows that are not kept
        return pack_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpack_state(state))
        if hasattr(self, "history_") and not hasattr(self, "fluctuation_"):
            self._make_report()

    def _open_checkpoint(self, member: int = 0) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        path = Path(self.checkpoint)
        return Checkpoint(
            path.with_name(f"{path.name}.{member}") if member else path,
            every=self.checkpoint_every,
            resume=self.resume,
            arguments=self.get_params(deep=False),
        )

    def _make_seeds(self, checkpoint: Checkpoint | None = None) -> _Seeds:
        if self._replayed is not None:  # a fit is run again
            split, weights, training = np.random.SeedSequence(self._replayed).spawn(3)
            return _Seeds(split, [(weights, training)], self._replayed)
        entropy = agree_on(draw_entropy(self.random_state))
        if self.random_state is None and checkpoint is not None and checkpoint.entropy is not None:
            entropy = checkpoint.entropy  # of the run to go on with
        root = np.random.SeedSequence(entropy)
        # member after member: the first of many has the seeds of one alone
        split, *streams = root.spawn(1 + 2 * self.n_models)
        return _Seeds(split, list(zip(streams[::2], streams[1::2], strict=True)), entropy)

    # Data in.

    @property
    def _continues(self) -> bool:
        return (self.warm_start or self._in_pass) and hasattr(self, "module_")

    def _open(self, X: Any, name: str) -> Any:
        """Read a prepared file; refuse a WindowSet that is scaled."""
        return open_windows(X, self.scale, name)

    def _forget(self) -> None:
        """Drop what an earlier fit learned: it is void, also when this one ends in an error."""
        self.__dict__.pop("module_", None)
        self.__dict__.pop("_head", None)
        self.__dict__.pop("adaptation_", None)
        self.__dict__.pop("patch_", None)

    @property
    def _n_channels(self) -> int:
        """The channels of the windows."""
        return self.n_features_in_ if self._flat_timesteps is None else 1

    @property
    def _channels(self) -> list[str] | None:
        """The names of the channels: of the columns of DataFrames, or of a WindowSet."""
        if self._flat_timesteps is None and hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        preparation: Preparation | None = getattr(self, "preparation_", None)
        return None if preparation is None else preparation["channels"]

    def _learn_origin(
        self, source: WindowSet | None, source_val: WindowSet | None, *, had_lengths: bool
    ) -> None:
        """Learn how the windows were prepared, and whether they had lengths."""
        self._were_lengths = had_lengths
        sets = [part for part in (source, source_val) if part is not None]
        known: Preparation | None = getattr(self, "preparation_", None)
        if not self._continues:
            of_classes = self._task == CLASSIFICATION
            self.preparation_ = (
                None if source is None else describe_preparation(*sets, with_dwell=of_classes)
            )
        elif sets:  # the recordings of further windows count as seen, too
            here = describe_preparation(*sets)
            if known is not None:
                for windows in sets:
                    check_same_preparation(known, windows)
                here = {**known, "recordings": {**known["recordings"], **here["recordings"]}}
            self.preparation_ = here
        if source_val is not None:
            check_same_preparation(self.preparation_, source_val, "X_val")

    def _read_sequences(self, X: Any, lengths: Any, name: str, *, reset: bool) -> Sequences:
        """Bring X to (n, t, c); with `reset` remember its shape, else compare with it."""
        if is_table(X):
            # scikit-learn's own checks of names and counts, in its own words.
            options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
            strict = reset or (self._flat_timesteps is not None and name == "X")
            try:
                X = (
                    validate_data(self, X, reset=reset, **options)
                    if strict
                    else check_array(X, input_name=name, **options)
                )
            except ValueError as error:
                if not str(error).startswith("could not convert"):
                    raise
                raise InputError(f"{name} is not numbers ({error}).") from error
        channels = None if reset else self._channels
        if isinstance(X, WindowSet):
            check_same_channels(channels, X, name)
        sequences = read_sequences(X, lengths, name, channels)
        if reset:
            if not sequences.is_flat:
                check_axis_order(X, lengths, name)
                self.n_features_in_ = sequences.X.shape[2]
                self.__dict__.pop("feature_names_in_", None)
                if sequences.channels is not None:
                    self.feature_names_in_ = np.array(sequences.channels, dtype=object)
            self._n_timesteps = sequences.X.shape[1]
            self._flat_timesteps = self._n_timesteps if sequences.is_flat else None
        else:
            check_channels(sequences, self._n_channels, self._flat_timesteps, name)
        return sequences

    def _learn_scaling(self, train: FitPart, data: FitData) -> None:
        # A warm start goes on with the scaling its weights were learned under.
        if self._continues:
            return
        # What a prepared file stores was fitted on its training windows before balancing.
        as_learned = self.max_timesteps is None or self.scale == PHYSICAL
        if data.scaler is not None and data.scaler.kind == self.scale and as_learned:
            self.scaler_ = data.scaler
            return
        warn_of_another_scale(data.source, self.scale)
        self.scaler_ = self._format.fit_scaler(train.sequences, data.source, self.scale)

    @property
    def _format(self) -> WindowFormat:
        return WindowFormat(self.max_timesteps, self.crop, self.dtype)

    def _training_data(self, part: FitPart, *, training: bool) -> TrainingData | StreamedData:
        """Crop, scale and, for the training part, weigh."""
        weight = self._weights_of(part) if training else None
        target = self._engine_targets(part)
        return self._format.tensors(part, self.scaler_, target, weight, training=training)

    # The network and its outputs.

    def _make_module(
        self, n_channels: int, seed: np.random.SeedSequence, member: int = 0
    ) -> LSTMLinear:
        parameters = self.get_params(deep=False)
        if self._continues:
            if len(self.modules_) != self.n_models and not self._in_pass:  # which goes on with all
                way_out = "start over with fit and warm_start=False"
                if self.refitted_:
                    way_out = "fit with refit='all' or refit=None, which keep n_models networks"
                raise ArgumentError(
                    f"warm_start=True continues n_models={self.n_models} network(s), but the last"
                    f" fit kept {len(self.modules_)}; {way_out}."
                )
            return continue_network(self.modules_[member], parameters)
        return make_network(parameters, n_channels, self._n_outputs, seed)

    def _progress(self) -> NoProgress:
        """Return what shows the progress of a fit, if anything does."""
        if not isinstance(self.verbose, bool):
            check_integer("verbose", self.verbose, 0)
        ranks = current_ranks()
        if not self.verbose or not (ranks is None or ranks.is_first):
            return NoProgress()
        from sensorseq.training.progress import ProgressReport  # rich, only when it shows

        return ProgressReport(every_epoch=self.verbose > 1)

    def _make_report(self, record: TrainingRecord | None = None) -> None:
        self.fluctuation_ = make_report(
            self.history_,
            self.loss,
            self._task,
            best_epoch=self.best_epoch_ or None,
            record=record,
            arguments=self.get_params(deep=False),
            **self._report_facts,
        )

    def _tell_origin(self, prepared: PreparedFit, *, is_whole: bool, fit_s: float) -> None:
        """Let the report run this fit again."""
        predicted = None
        if isinstance(prepared.whole, WholeData) and self._head is not None:
            predicted = self.out_of_fold_predictions()
        known = (
            copied(self),
            prepared.entropy,
            fit_s,
            is_whole,
            prepared.module,
            self.best_epoch_,
        )
        origin = FitOrigin(*known, patch=self.patch_, out_of_fold=predicted)
        report: FluctuationReport = self.__dict__["fluctuation_"]  # not yet compared
        choice = getattr(self, "features_", FeatureChoice())
        if choice.candidates:
            report = replace(report, statements=(*report.statements, _say_parts(choice)))
        self.__dict__["fluctuation_"] = replace(report, origin=origin)

    def _outputs(self, X: Any, lengths: Any) -> NDArray[np.float64]:
        """Return the network's outputs, (n, outputs), those of an ensemble joined."""
        sequences = self._read_windows(X, lengths)
        if is_stored(sequences):
            part = self._format.stored(sequences, training=False).with_scaler(self.scaler_)
            data: Any = StreamedData(part, np.zeros(len(part), np.int64))
            return np.concatenate([self._join(at.X, at.lengths) for at in data.blocks()])
        return self._join(*self._scaled(sequences))

    def _read_windows(self, X: Any, lengths: Any) -> Sequences:
        """Read windows to predict: prepared as those of the fit, with their own names."""
        check_is_fitted(self)
        X = self._open(X, "X")
        if isinstance(X, WindowSet):
            check_same_preparation(self.preparation_, X)
            X = tell_apart(X, self.scaler_, self.preparation_)
        return self._read_sequences(X, lengths, "X", reset=False)

    def _scaled(self, sequences: Sequences) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what the networks see of windows in memory, with their lengths if they differ."""
        padded = check_zero_ends(sequences.X, sequences.lengths) if self._were_lengths else None
        if padded is not None:
            warn_caller(str(padded))
        sequences = self._format.cropped(sequences, training=False)
        scaled = torch.from_numpy(scale_sequences(sequences, self.scaler_, self.dtype))
        return scaled, None if sequences.are_full else torch.from_numpy(sequences.lengths)

    def _join(self, X: torch.Tensor, lengths: torch.Tensor | None) -> NDArray[np.float64]:
        """Return the outputs for scaled windows, of all members and features as one."""
        modules = self._used_modules
        joined = np.zeros((len(X), self.module_.num_classes))
        if modules:
            steps = self._as_steps(X, lengths)
            outputs = [self._run_member(module, *steps) for module in modules]
            joined = outputs[0] if len(outputs) == 1 else self._join_members(np.stack(outputs))
        if self._head is None:
            return joined
        return self._head.join(joined, X.numpy(), None if lengths is None else lengths.numpy())

    def _as_steps(
        self, X: torch.Tensor, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return scaled windows and their lengths as the networks take them."""
        return (X, lengths) if self.patch_ is None else self.patch_.apply(X, lengths)

    def _run_member(
        self, module: LSTMLinear, X: torch.Tensor, lengths: torch.Tensor | None
    ) -> NDArray[np.float64]:
        weight = module.linear.weight
        device = resolve_device(self.device, hidden_size=module.hidden_size, dtype=weight.dtype)
        if weight.device != device:
            module.to(device)
        return predict_outputs(module, X.to(weight.dtype), lengths).numpy().astype(np.float64)

    def _join_members(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one output for those of all members, (members, n, outputs)."""
        return np.asarray(outputs.mean(axis=0))


def store_arguments(estimator: Any, arguments: Mapping[str, Any]) -> None:
    """Set the arguments of a constructor as attributes, untouched."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def _as_checked(part: FitPart) -> CheckedPart:
    return CheckedPart(part.sequences.X, part.sequences.lengths, part.target, part.groups)


def _say_parts(choice: FeatureChoice) -> Statement:
    """Say what the network and each kind of features got, alone and together."""
    names = {"lstm": "the LSTM alone gets", "together": "all together"}
    parts = (f"{names.get(one.name, one.name)} {one.accuracy:.0%}" for one in choice.candidates)
    return say("parts", n=choice.n_windows, parts=", ".join(parts).replace("%", " %"))


def make_report(
    history: History, loss: Any, task: str, *, record: TrainingRecord | None = None, **facts: Any
) -> FluctuationReport:
    """Judge a history; of a loss that is not in nats only the values that are not finite.

    Of the record of a classifier on such a loss all is looked at that is not in nats either: what
    each window was taken for, margins, gradients, and how losses compare with each other.
    """
    facts["data_facts"] = causes_of(facts.get("data_facts", ()), facts.get("arguments"))
    if not len(history) and facts.get("best_epoch") is None:
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(say("no_history"),),
        )
    if loss == "cross_entropy":
        return FluctuationReport.from_history(history, record=record, **facts)
    if record is not None:  # one that was saved may not say it itself
        record = replace(record, loss_unit="")
    rows = [
        {name: None if "loss" in name and np.isfinite(v) else v for name, v in row.items()}
        for row in history.to_rows()
    ]
    note = say("loss_not_judged", loss=repr(loss) if isinstance(loss, str) else "a function")
    if not any(row.get(name) is not None for row in rows for name in _JUDGED):
        missing = say("nothing_else" if task == CLASSIFICATION else "regression")
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(note, missing),
            n_epochs=len(rows),
            record=record,
            **{
                name: facts[name]
                for name in facts
                if name not in ("majority_fraction", "arguments", "data_facts")
            },
        )
    judged = record if task == CLASSIFICATION else None  # the causes are those of classifiers
    report = FluctuationReport.from_history(rows, record=judged, **facts)
    return replace(report, statements=(*report.statements, note), record=record)


def warn_of_the_end(
    result: TrainingResult, max_epochs: int, n_left_out: int = 0, checkpoint: Any = None
) -> None:
    """Say that a training diverged or was interrupted, and what is kept; for `fit`'s caller."""
    n_epochs = len(result.history)
    if result.ended_by == "diverged":
        warn_caller(
            f"training diverged in epoch {n_epochs}: a loss or gradient is not finite. The"
            f" weights of epoch {result.best_epoch} are kept; see fluctuation_.",
            ConvergenceWarning,
        )
    if result.ended_by == "interrupted":
        again = "" if checkpoint is None else f" With resume=True fit goes on from {checkpoint}."
        warn_caller(
            f"training was interrupted after epoch {n_epochs} of {max_epochs}; the weights of"
            f" epoch {result.best_epoch} are kept and the estimator can be used."
            + (f" {n_left_out} of n_models had not begun and are left out." if n_left_out else "")
            + again,
        )
