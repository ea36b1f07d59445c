"""SensorLSTM, the base class of the classifier: its fit."""

import os
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.checks import check_integer
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError, DivergedError, LeakWarning, warn_caller, within_memory
from sensorseq.estimator.checkpoint import Checkpoint
from sensorseq.estimator.fitted import FittedLSTM
from sensorseq.estimator.fitting import FitSetup, PreparedFit
from sensorseq.estimator.refit import Refit, check_refit, plan_refit, run_refit
from sensorseq.estimator.report import (
    check_class_shares,
    check_parts,
    parts_to_compare,
    say_parts,
    warn_of_label_channels,
    warn_of_the_end,
)
from sensorseq.estimator.runner import FitOrigin, copied
from sensorseq.estimator.sensors import fit_sensors
from sensorseq.history import TrainingRecord
from sensorseq.inspection.check_result import Diagnosis
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.overlap import check_continuity, check_overlap
from sensorseq.inspection.training_check import check_training
from sensorseq.io.prepared import read_sensor_windows, sensors_in
from sensorseq.prediction.head import FeatureChoice
from sensorseq.prediction.inputs import is_table
from sensorseq.sensor_windows import are_sensors
from sensorseq.training import TrainingResult
from sensorseq.training.callbacks import NoProgress
from sensorseq.training.data import FitData, Holdout
from sensorseq.training.side_by_side import train_jobs
from sensorseq.training.targets import ClassTarget

_SMALLER = (
    "use a smaller hidden_size, batch_size or n_models, fewer or shorter windows, or the path of a"
    " prepared file, which is read in parts"
)


class SensorLSTM(FittedLSTM):
    """An LSTM with a linear head on windows of sensor signals, and its training."""

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
        """Train on windows and their labels.

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
            training windows. Also a mapping of sensors to such arrays, each at its own rate, or
            SensorWindows: row i of each is the same stretch of time.
        y : array of shape (n,) or (n, k), optional
            Labels, or exactly one-hot columns. Not needed if a WindowSet has labels; a file
            contains its own.
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
        OutputError
            If `checkpoint` names a file that cannot be written.
        DivergedError
            If the loss is not finite in the first epoch.
        OutOfMemoryError
            If the memory is full.

        Warns
        -----
        LeakWarning
            If windows on both sides of the validation split share samples, or if there are no
            groups and each window continues the one before it.
        UserWarning
            If a label probably marks windows without a label, as -1 does in scikit-learn, if
            windows are not padded behind their `lengths`, or if few steps of many channels may be
            channel-first.
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
        if isinstance(X, str | os.PathLike) and (sensors := sensors_in(X)):
            X = read_sensor_windows(X, sensors)
        if are_sensors(X):
            fit_sensors(self, X, y, given)
            return self
        started = time.perf_counter()
        with within_memory(_SMALLER), self._progress() as progress:
            setup = self._check_arguments()
            prepared = self._prepare(setup, X, y, given).watched(progress)
            if self.checkpoint is not None:
                prepared = prepared.saved(Checkpoint(self.checkpoint, self, prepared))
            plan = None if setup.continues else plan_refit(setup, prepared)
            if isinstance(plan, Refit):
                progress.expect(len(prepared.jobs) + plan.count_networks(len(prepared.jobs)))
                plan.fit_features(progress)
            results = train_jobs(prepared.jobs)
            failed = self._keep(setup, prepared, plan, results)
        self._tell_origin(setup, prepared, plan, time.perf_counter() - started)
        if failed is not None:
            raise failed
        return self

    def _check_arguments(self) -> FitSetup:
        """Check all arguments, and discard state of an earlier fit that this one invalidates."""
        check_refit(self.features, self.refit, self.warm_start)
        continues = self.warm_start and hasattr(self, "module_")
        networks = self.modules_ if continues else ()
        target = ClassTarget(self.classes_ if continues else None, self.class_weight)
        setup = FitSetup.of(self.get_params(deep=False), target, networks, self._replayed)
        if networks and len(networks) != self.n_models:
            way_out = "start over with fit and warm_start=False"
            if self.refitted_:
                way_out = "fit with refit='all' or refit=None, which keep n_models networks"
            raise ArgumentError(
                f"warm_start=True continues n_models={self.n_models} network(s), but the last"
                f" fit kept {len(networks)}; {way_out}."
            )
        forgotten = ["sensors_", "_fusion"]
        if not continues:  # the earlier fit is discarded even if this one fails
            forgotten += ["module_", "_head", "adaptation_", "patch_"]
        for name in forgotten:
            self.__dict__.pop(name, None)
        return setup

    def _prepare(self, setup: FitSetup, X: Any, y: Any, given: Mapping[str, Any]) -> PreparedFit:
        """Read, check, split and scale the windows, and make the networks."""
        if is_table(X):
            X = self._read_table(X, "X", reset=not setup.continues)
        if is_table(given.get("X_val")):
            given = {**given, "X_val": self._read_table(given["X_val"], "X_val")}
        known = self._shape if setup.continues else None
        data = FitData.read(
            X,
            y,
            target=setup.target,
            scale=self.scale,
            missing=self.missing,
            known=known,
            holdout=Holdout(self.validation_fraction, setup.seeds.split, setup.config),
            **given,
        )
        self._learn_shape(data, continues=setup.continues)
        found = self._check_parts(data)
        if not setup.continues:  # otherwise keep the scaling with which the weights were learned
            self._learn_scaling(data)
        self.classes_ = setup.target.known
        self._learn_ranges(data, continues=setup.continues)
        prepared = setup.prepare(self._format, data)
        self.patch_ = prepared.format.patch
        found += check_class_shares(data, self.classes_.tolist())
        if not setup.continues:
            warn_of_label_channels(data, self._channels)
        return replace(prepared, facts={**prepared.facts, "data_facts": found})

    def _check_parts(self, data: FitData) -> tuple[Finding, ...]:
        """Find samples shared by training and validation windows, and warn about them."""
        validation = data.validation
        if self.calibrate and validation is None:
            raise ArgumentError(
                "calibrate=True needs validation windows, but there are none. Set"
                " validation_fraction=0.2, give X_val, or set calibrate=False."
            )
        if not data.is_drawn or validation is None:
            return ()
        findings = [check_overlap(data.train, validation)]
        if data.windows.groups is None:
            findings.append(check_continuity(data.windows.sequences))
        found = tuple(finding for finding in findings if finding is not None)
        for finding in found:
            warn_caller(str(finding), LeakWarning)
        return found

    def _prepare_fit(self, X: Any, y: Any = None, **given: Any) -> PreparedFit:
        """Do everything that `fit` does before training."""
        setup = self._check_arguments()
        prepared = self._prepare(setup, X, y, given)
        if not setup.continues:
            plan_refit(setup, prepared)  # raises for invalid combinations
        return prepared

    def _keep(
        self,
        setup: FitSetup,
        prepared: PreparedFit,
        plan: Refit | FeatureChoice | None,
        results: Sequence[TrainingResult],
    ) -> DivergedError | None:
        """Store the results of all members; return the error of a fit that diverged at once."""
        result, config = results[0], prepared.jobs[0].config
        if result.error is not None and not result.best_epoch:  # raised by a callback
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
        trained = prepared.modules[: len(results)]  # after an interrupt, some are missing
        self.module_, *self._other_modules = trained
        if plan is not None:
            self._head, self._held_out, self.refitted_ = None, None, False
        if isinstance(plan, FeatureChoice):
            self.features_ = plan
        if isinstance(plan, Refit):
            done = run_refit(plan, setup, prepared, self._ensemble, results)
            self._head, self.features_ = done.head, done.choice
        # Must run before a refit, while the networks have not seen these windows.
        self._learn_probabilities(prepared, plan)
        if isinstance(plan, Refit) and done.modules:
            self._held_out, self.refitted_ = done.held_out, True
            self.module_, *self._other_modules = done.modules
            if done.histories is not None:
                self._other_histories = done.histories
        for of_member in {of_member.ended_by: of_member for of_member in results[::-1]}.values():
            n_left_out = self.n_models - len(results)
            warn_of_the_end(of_member, config.n_epochs, n_left_out)
        if result.error is not None:
            raise result.error
        return None

    def _judge(self, prepared: PreparedFit, record: TrainingRecord | None) -> None:
        """Make the report of a fit, with findings about its windows."""
        facts, held_out = prepared.facts, prepared.validation
        classes = [str(label) for label in self.classes_]
        found = check_parts(prepared.train, held_out, self._channels, classes)
        self._report_facts = {**facts, "data_facts": (*facts["data_facts"], *found)}
        if record is not None and held_out is not None and held_out.groups is not None:
            record.val_groups = np.unique(held_out.groups, return_inverse=True)[1][record.val_rows]
        self._make_report(record)
        self._to_compare = parts_to_compare(prepared.data) if self.features is None else None

    @abstractmethod
    def _learn_probabilities(
        self, prepared: PreparedFit, plan: Refit | FeatureChoice | None
    ) -> None:
        """Fit what turns the outputs of the kept weights into probabilities."""

    def check(self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None) -> Diagnosis:
        """Tell a bug from a hard problem with short trainings whose outcome is known in advance.

        The estimator need not be fitted and is not changed. Print the result to read it; see
        `sensorseq.doctor.check_training`.

        Parameters
        ----------
        X, y, groups, lengths : as in `fit`
        """
        return check_training(self, X, y, groups=groups, lengths=lengths)

    # After the fit

    def _progress(self) -> NoProgress:
        """Return the display of a fit's progress."""
        if not isinstance(self.verbose, bool):
            check_integer("verbose", self.verbose, 0)
        if not self.verbose:
            return NoProgress()
        # Imports rich, so only if it is shown.
        from sensorseq.training.progress import ProgressReport

        return ProgressReport(every_epoch=self.verbose > 1)

    def _tell_origin(
        self,
        setup: FitSetup,
        prepared: PreparedFit,
        plan: Refit | FeatureChoice | None,
        fit_s: float,
    ) -> None:
        """Attach this fit to its report, so that the report can rerun it."""
        has_folds = isinstance(plan, Refit) and self._head is not None
        origin = FitOrigin(
            copied(self),
            prepared.entropy,
            fit_s,
            not setup.continues,
            prepared.module,
            self.best_epoch_,
            patch=self.patch_,
            out_of_fold=self.out_of_fold_predictions() if has_folds else None,
        )
        # The raw report, without the comparison that the property makes.
        report: FluctuationReport = self.__dict__["fluctuation_"]
        choice = getattr(self, "features_", FeatureChoice())
        if choice.candidates:
            report = replace(report, statements=(*report.statements, say_parts(choice)))
        self.__dict__["fluctuation_"] = replace(report, origin=origin)


def store_arguments(estimator: SensorLSTM, arguments: Mapping[str, Any]) -> None:
    """Set the constructor's arguments as attributes, unchanged."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
