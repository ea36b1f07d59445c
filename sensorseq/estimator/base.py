"""SensorLSTM: what the classifier and the regressor share."""

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import check_integer
from sensorseq.diagnosis.level import compare_level
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import (
    ArgumentError,
    DivergedError,
    LeakWarning,
    ModelFileError,
    refusing,
    warn_caller,
)
from sensorseq.estimator.ensemble import Ensemble
from sensorseq.estimator.feature_head import FeatureChoice, FeatureHead
from sensorseq.estimator.fitting import FitSetup, PreparedFit
from sensorseq.estimator.imported import import_network
from sensorseq.estimator.lab import FitOrigin, copied, repair_fit
from sensorseq.estimator.model import describe_fit, pack_state, restore_fit, unpack_state
from sensorseq.estimator.reading import WindowReader
from sensorseq.estimator.refit import Refit, check_refit, plan_refit, run_refit
from sensorseq.estimator.report import (
    check_parts,
    make_report,
    parts_to_compare,
    say_parts,
    warn_of_the_end,
)
from sensorseq.estimator.targets import ClassTarget, ValueTarget
from sensorseq.export.to_onnx import write_onnx
from sensorseq.history import History
from sensorseq.inspection.check_result import Diagnosis
from sensorseq.inspection.overlap import check_continuity, check_overlap
from sensorseq.inspection.training_check import check_training
from sensorseq.io.model_file import SAVE_AGAIN, read_model, write_model
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.training import EngineChoice, TrainingResult
from sensorseq.training.callbacks import NoProgress, notify
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training.data import FitData, FitPart
from sensorseq.training.distributed import agree_on, current_ranks
from sensorseq.training.labels import draw_entropy
from sensorseq.training.network import continue_network, network_arrays
from sensorseq.training.parameters import check_device
from sensorseq.training.passes import PassResult, train_pass
from sensorseq.training.side_by_side import train_jobs
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


class SensorLSTM(CallbackSupportMixin, WindowReader):  # type: ignore[misc]  # sklearn is untyped
    """An LSTM with a linear head on windows of sensor signals; its children say what it predicts.

    A child sets `_task`, stores its arguments in `__init__`, and says what its targets are.
    """

    _task: ClassVar[str] = CLASSIFICATION
    module_: LSTMLinear
    history_: History
    engine_: EngineChoice
    features_: FeatureChoice
    refitted_: bool
    n_iter_: int
    best_epoch_: int
    best_score_: float
    _in_pass = False  # during partial_fit: nothing is held out, scaling is not fitted again
    _passes: list[dict[str, Any]]  # one for each network
    _other_modules: list[LSTMLinear]
    _other_histories: list[History]
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
        started, is_whole = time.perf_counter(), not self._continues
        with self._progress() as progress:
            setup = self._check_arguments()
            data, target = self._read(X, y, given)
            train, validation = data.split(
                self.validation_fraction, setup.seeds.split, setup.config
            )
            prepared = self._prepare(setup, data, target, train, validation)
            prepared = prepared.watched(progress, tasks)
            plan = None
            if is_whole:
                plan = plan_refit(setup, target, data, train, validation, prepared)
            if isinstance(plan, Refit):
                progress.expect(len(prepared.jobs) + plan.count_networks(len(prepared.jobs)))
                plan.fit_features(progress)
            results = train_jobs(prepared.jobs)
            failed = self._keep(setup, prepared, plan, results)
        self._tell_origin(prepared, plan, is_whole=is_whole, fit_s=time.perf_counter() - started)
        if self.auto_repair and results[0].ended_by != "interrupted":
            failed = self._repair(failed, X, y, given)
        if failed is not None:
            raise failed
        if tasks is not None:
            tasks.close()
        return self

    def _check_arguments(self) -> FitSetup:
        """Check all arguments, and forget what an earlier fit kept for going on."""
        if self.auto_repair and current_ranks() is not None:
            raise ArgumentError(
                "auto_repair=True works only in a single process; use auto_repair=False with"
                " several."
            )
        check_refit(self.features, self.refit, self.warm_start)
        networks = self.modules_ if self._continues else ()
        setup = FitSetup.of_fit(self.get_params(deep=False), self._task, networks, self._replayed)
        if networks and len(networks) != self.n_models:
            way_out = "start over with fit and warm_start=False"
            if self.refitted_:
                way_out = "fit with refit='all' or refit=None, which keep n_models networks"
            raise ArgumentError(
                f"warm_start=True continues n_models={self.n_models} network(s), but the last"
                f" fit kept {len(networks)}; {way_out}."
            )
        self.__dict__.pop("_passes", None)  # of an optimizer that is not gone on with
        self.__dict__.pop("repair_", None)
        return setup

    def _read(
        self, X: Any, y: Any, given: dict[str, Any]
    ) -> tuple[FitData, ClassTarget | ValueTarget]:
        """Read the windows, and learn what there is to predict."""
        continues = self._continues
        target = self._make_target(continues=continues)
        if not continues:  # an earlier fit is void, also when this one ends in an error
            for name in ("module_", "_head", "adaptation_", "patch_"):
                self.__dict__.pop(name, None)
        return self._read_fit(X, y, given, target, continues=continues), target

    def _prepare(
        self,
        setup: FitSetup,
        data: FitData,
        target: ClassTarget | ValueTarget,
        train: FitPart,
        validation: FitPart | None,
    ) -> PreparedFit:
        """Check the parts, scale them, and make the networks: learn everything but the weights."""
        if getattr(self, "calibrate", False) and validation is None and not self._in_pass:
            raise ArgumentError(
                "calibrate=True needs validation windows, but there are none. Set"
                " validation_fraction=0.2, give X_val, or set calibrate=False."
            )
        findings = []
        if data.is_drawn and validation is not None:
            findings.append(check_overlap(train, validation))
            if data.windows.groups is None:
                findings.append(check_continuity(data.windows.sequences))
        found = tuple(finding for finding in findings if finding is not None)
        for finding in found:
            warn_caller(str(finding), LeakWarning)
        continues = self._continues
        if not continues:  # a warm start goes on with the scaling its weights were learned under
            self._learn_scaling(data, train)
        target.learn_scale(train.target)
        self._keep_target(target)
        self._learn_ranges(data, continues=continues)
        prepared = setup.prepare(self._format, target, train, validation)
        self.patch_ = prepared.format.patch
        found = (*found, *target.check(train, validation))
        return replace(prepared, facts={**prepared.facts, "data_facts": found})

    def _prepare_fit(self, X: Any, y: Any = None, **given: Any) -> PreparedFit:
        """Do all that `fit` does before it trains."""
        setup = self._check_arguments()
        data, target = self._read(X, y, given)
        parts = data.split(self.validation_fraction, setup.seeds.split, setup.config)
        prepared = self._prepare(setup, data, target, *parts)
        plan_refit(setup, target, data, *parts, prepared)  # for what it refuses
        return prepared

    def _keep(
        self,
        setup: FitSetup,
        prepared: PreparedFit,
        plan: Refit | FeatureChoice | None,
        results: Sequence[TrainingResult],
    ) -> DivergedError | None:
        """Store what the runs of all members gave; return an error that a repair may undo."""
        result, config = results[0], prepared.jobs[0].config
        if result.error is not None and not result.best_epoch:  # a callback failed
            raise result.error
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.best_score_ = result.best_score
        self.n_iter_ = len(result.history)
        self.engine_ = result.engine
        self._other_histories = [other.history for other in results[1:]]
        self._judge(prepared, result.record)
        if any(of_member.best_epoch == 0 for of_member in results):
            self.__dict__.pop("module_", None)
            return DivergedError(
                "training diverged in its first epoch: a loss or gradient is not finite. Lower"
                f" learning_rate (now {config.learning_rate!r}), clip the gradient with"
                f" max_grad_norm (now {config.max_grad_norm!r}), or check `scale` (now"
                f" {self.scale!r}) and the loss. See history_ and fluctuation_."
            )
        trained = prepared.modules[: len(results)]  # an interrupt left the rest out
        self.module_, *self._other_modules = trained
        if plan is not None:
            self._head, self._held_out, self.refitted_ = None, None, False
        if isinstance(plan, FeatureChoice):
            self.features_ = plan
        if isinstance(plan, Refit):
            done = run_refit(plan, setup, prepared, self._ensemble, results)
            self._head, self.features_ = done.head, done.choice
        self._learn_probabilities(prepared, plan)  # of networks that have not seen the windows
        if isinstance(plan, Refit) and done.modules:
            self._held_out, self.refitted_ = done.held_out, True
            self.module_, *self._other_modules = done.modules
            if done.histories is not None:
                self._other_histories = done.histories
        for of_member in {of_member.ended_by: of_member for of_member in results[::-1]}.values():
            n_left_out = self.n_models - len(results)
            warn_of_the_end(of_member, config.n_epochs, n_left_out, self.checkpoint)
        if result.error is not None:
            raise result.error
        return None

    def _judge(self, prepared: PreparedFit, record: TrainingRecord | None) -> None:
        """Make the report of a fit, with what was found in its windows."""
        facts, held_out = prepared.facts, prepared.validation
        if self._task == CLASSIFICATION:
            classes = [str(label) for label in self._target.known]
            found = check_parts(prepared.train, held_out, self._channels, classes)
            facts = {**facts, "data_facts": (*facts["data_facts"], *found)}
        self._report_facts = facts
        if record is not None and held_out is not None and held_out.groups is not None:
            record.val_groups = np.unique(held_out.groups, return_inverse=True)[1][record.val_rows]
        self._make_report(record)
        is_alone = self._task == CLASSIFICATION and self.features is None
        self._to_compare = parts_to_compare(prepared.train, held_out) if is_alone else None

    def _repair(
        self, failed: DivergedError | None, X: Any, y: Any, given: Mapping[str, Any]
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

    # What a child says of its targets.

    @property
    @abstractmethod
    def _target(self) -> ClassTarget | ValueTarget:
        """What a fitted estimator predicts."""

    @abstractmethod
    def _make_target(self, *, continues: bool) -> ClassTarget | ValueTarget:
        """Return what a fit is to predict, as far as it is known before."""

    @abstractmethod
    def _keep_target(self, target: ClassTarget | ValueTarget) -> None:
        """Store what was learned of the targets."""

    @abstractmethod
    def _import_targets(self, module: LSTMLinear, activation: str, classes: Any) -> None:
        """Learn of a network from elsewhere what it predicts, or refuse it."""

    @abstractmethod
    def _measure(self, y: Any, predicted: NDArray[Any], sample_weight: Any) -> float:
        """Return the score of predictions."""

    def _learn_probabilities(
        self, prepared: PreparedFit, plan: Refit | FeatureChoice | None
    ) -> None:
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
            networks = () if begins else self.modules_
            setup = FitSetup.of_pass(self.get_params(deep=False), self._task, networks)
            data, target = self._read(X, y, given)
            prepared = self._prepare(setup, data, target, data.stored_part("train"), None)
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
            self._learn_probabilities(prepared, None)
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
        job = prepared.jobs[0]
        options = {"engine": self.engine, "refresh": job.refresh}
        results = [
            train_pass(module, job.train, job.config, state, **options)
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

    @property
    def _continues(self) -> bool:
        return (self.warm_start or self._in_pass) and hasattr(self, "module_")

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
    def _ensemble(self) -> Ensemble:
        """What computes the outputs."""
        return Ensemble(
            self._used_modules,
            self.module_.num_classes,
            self._task == CLASSIFICATION,
            self.device,
            self.patch_,
            self._head,
        )

    @property
    def histories_(self) -> list[History]:
        """One history for each member; `history_` is the first."""
        return [self.history_, *self.__dict__.get("_other_histories", ())]

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window, or a regressor's values in the unit of y.

        Values have the shape (n,) or (n, n_outputs_) that y had in `fit`.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in their order. DataFrames with columns in any order, if `fit` had names:
            those of DataFrames, or the channels of a WindowSet or file.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.
        """
        outputs = self._outputs(X, lengths)
        return self._target.predictions(outputs)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy, or a regressor's coefficient of determination (R squared).

        Labels may be one-hot (as `classes_`); R squared is averaged over the outputs.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        X = self._open(X, "X")
        predicted = self.predict(X, lengths)
        y = X.y if y is None and isinstance(X, WindowSet) else y
        return self._measure(y, predicted, sample_weight)

    def _outputs(self, X: Any, lengths: Any) -> NDArray[np.float64]:
        """Return the network's outputs, (n, outputs), those of an ensemble joined."""
        sequences = self._read_windows(X, lengths)
        if is_stored(sequences):
            part = self._format.stored(sequences, training=False)
            return self._ensemble.outputs_of(StreamedData(part, np.zeros(len(part), np.int64)))
        return self._ensemble.outputs(*self._scaled(sequences))

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
        for part in (self._head, self._known, self._ranges):
            if part is not None:
                arrays |= part.arrays()
        return arrays, describe_fit(self)

    @classmethod
    def from_torch(
        cls,
        lstm: Any,
        linear: Any,
        *,
        pooling: str = "last",
        classes: ArrayLike | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a fitted estimator with the weights of a `torch.nn.LSTM` and a linear layer.

        It expects windows scaled as for that network; `scaler_` is None.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            With biases and without projection.
        linear : torch.nn.Linear
            Gives the logits, or the values of a regressor. A single logit is that of the second
            class against the first.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            The pooling between the two.
        classes : array-like of shape (n_classes,), optional
            Label of each logit of a classifier; 0 to k - 1 by default.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Raises
        ------
        ArgumentError
            If a layer has no bias or has a projection, or the sizes do not match.
        """
        module = LSTMLinear.from_torch(lstm, linear, pooling)
        estimator: Self = import_network(cls, module, "linear", arguments, classes, "torch.nn.LSTM")
        return estimator

    @classmethod
    def from_keras(cls, model: Any, *, classes: ArrayLike | None = None, **arguments: Any) -> Self:
        """Return a fitted estimator with the weights of a Keras model.

        It expects windows scaled as for that model; `scaler_` is None. An ArgumentError names a
        layer that is of another kind or computes something else.

        Parameters
        ----------
        model : keras.Model
            A chain of LSTM or Bidirectional(LSTM) layers, at most one global pooling over time, and
            a Dense layer: for classes with softmax, logits or one sigmoid unit, for a regressor
            linear. Keras is not imported; only `layers`, `get_config()` and `get_weights()` are
            used.
        classes, **arguments
            As in `from_torch`.
        """
        module, activation = lstm_linear_from_keras(model)
        estimator: Self = import_network(cls, module, activation, arguments, classes, "Keras")
        return estimator

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

    def _tell_origin(
        self,
        prepared: PreparedFit,
        plan: Refit | FeatureChoice | None,
        *,
        is_whole: bool,
        fit_s: float,
    ) -> None:
        """Let the report run this fit again."""
        has_folds = isinstance(plan, Refit) and self._head is not None
        origin = FitOrigin(
            copied(self),
            prepared.entropy,
            fit_s,
            is_whole,
            prepared.module,
            self.best_epoch_,
            patch=self.patch_,
            out_of_fold=self.out_of_fold_predictions() if has_folds else None,
        )
        report: FluctuationReport = self.__dict__["fluctuation_"]  # not yet compared
        choice = getattr(self, "features_", FeatureChoice())
        if choice.candidates:
            report = replace(report, statements=(*report.statements, say_parts(choice)))
        self.__dict__["fluctuation_"] = replace(report, origin=origin)


def store_arguments(estimator: SensorLSTM, arguments: Mapping[str, Any]) -> None:
    """Set the arguments of a constructor as attributes, untouched."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
