"""The fit behind a report, and its reruns."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing

from sensorseq.diagnosis.trials import (
    OUT_OF_TIME,
    Deadline,
    Rerun,
    RerunResult,
    TrialRunner,
    failed_rerun,
)
from sensorseq.errors import ArgumentError, DivergedError, SensorseqError, SplitError
from sensorseq.estimator.fit import Trained, make_jobs, refuse_diverged, report_fit, train_model
from sensorseq.estimator.fit_windows import (
    FitArguments,
    ScaledFit,
    check_arguments,
    read_and_scale,
)
from sensorseq.estimator.uncertainty import with_probabilities
from sensorseq.history import TrainingRecord
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.patches import Patch, count_steps
from sensorseq.prediction.windows import Windows
from sensorseq.training import TrainingData
from sensorseq.training.callbacks import NoProgress
from sensorseq.training.config import LOSSES
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import evaluate, make_loss, nats_per_unit
from sensorseq.training.inputs import open_windows
from sensorseq.training.recorder import Recorder, Start, rerun_config
from sensorseq.training.side_by_side import train_side_by_side
from sensorseq.windows import WindowSet

# Arguments of every rerun, which must neither display nor store anything.
_PLAIN = {
    "callbacks": None,
    "checkpoint": None,
    "verbose": 0,
    "warm_start": False,
    "n_models": 1,
    "calibrate": False,
    "features": None,
    "motors": None,
    "refit": None,
}
# If one of these arguments changes, the windows or their weights are computed again.
_OF_WINDOWS = frozenset(("scale", "max_timesteps", "crop", "augment", "class_weight", "dtype"))
STEP_WINDOWS = 0.6  # fixed cost of a step, in units of the cost of a window (2 to 128 hidden units)
EPOCH_PRODUCTS = 7e6  # fixed cost of an epoch, in multiplications: about 2 ms
FEATURES_TRAININGS = 4  # cost of features, in training runs: one on all windows and one per fold
SAME_LOSS = 1e-3  # relative tolerance; rounding changes a loss far less, other data far more
SAME_CLASSES = 0.02  # fraction of validation windows whose class may change due to rounding


@dataclass(frozen=True, eq=False)
class FitOrigin:
    """The fit that a report describes.

    `estimator` is unfitted, `entropy` seeds the random streams of the fit, and `is_whole` is False
    after a warm start. `module` has the weights kept from `kept_epoch`. `out_of_fold` contains
    indices of windows in X, and their cross-validated probabilities.
    """

    estimator: BaseEstimator
    entropy: int
    fit_s: float
    is_whole: bool
    module: LSTMLinear
    kept_epoch: int
    patch: Patch | None = None
    out_of_fold: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    @classmethod
    def of(
        cls, estimator: BaseEstimator, arguments: FitArguments, trained: Trained, fit_s: float
    ) -> "FitOrigin":
        """Return the origin of a report on a fit that took `fit_s` seconds."""
        left_out = trained.out_of_fold
        return cls(
            estimator,
            arguments.entropy,
            fit_s,
            arguments.earlier is None,
            trained.module,
            trained.results[0].best_epoch,
            patch=trained.model.lstm.patch,
            out_of_fold=with_probabilities(left_out, trained.model) if left_out else None,
        )

    def open(self, record: TrainingRecord, X: Any, y: Any = None, **keywords: Any) -> "FitRunner":
        """Return a runner that repeats the fit on its data; raise an error if the data differ."""
        parameters = {**self.estimator.get_params(deep=False), **_PLAIN}
        if callable(parameters["loss"]):
            raise ArgumentError(
                "probe cannot rerun a fit with your own loss function, because reruns are not"
                " comparable with the fit if the function counts its calls or draws random numbers;"
                f" fit with loss={' or '.join(map(repr, LOSSES))} to use probe."
            )
        if not len(record.fixed_rows):
            raise ArgumentError(
                "probe needs the loss of fixed training windows, which is not measured while"
                " windows are streamed from their file. Fit on windows in memory."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fit has already warned
            arguments = check_arguments(parameters, entropy=self.entropy)
            scaled = read_and_scale(arguments, X, y, **keywords)
        return FitRunner(self, record, arguments, scaled, (X, y, keywords))

    def repaired(self, changes: Mapping[str, Any]) -> BaseEstimator:
        """Return an unfitted estimator with changed arguments."""
        repaired: BaseEstimator = copied(self.estimator).set_params(**changes)
        return repaired


class FitRunner(TrialRunner):
    """Runs one fit again with changes; see `sensorseq.diagnosis.trials.TrialRunner`.

    The losses of the fixed training windows, in the record and in the reruns, are in nats. A loss
    other than cross-entropy is scaled so that uniform guessing gives the same loss as
    cross-entropy.
    """

    def __init__(
        self,
        origin: FitOrigin,
        record: TrainingRecord,
        fit: FitArguments,
        scaled: ScaledFit,
        data: tuple[Any, Any, Mapping[str, Any]],
    ) -> None:
        train, shown = scaled.train, scaled.validation
        windows, shown_windows = scaled.held()
        if windows is None or not isinstance(train, TrainingData):
            raise ArgumentError("probe cannot rerun a fit on windows that are streamed.")
        parts = train, shown if isinstance(shown, TrainingData) else None
        kept = origin.module, origin.kept_epoch
        held = windows, shown_windows
        super().__init__(record, *kept, parts, held, windows.classes.tolist())
        self.origin = origin
        self._fit, self._scaled, self._data = fit, scaled, data
        self._jobs = make_jobs(fit, scaled)
        self.out_of_fold = origin.out_of_fold
        self.arguments: Mapping[str, Any] = origin.estimator.get_params(deep=False)
        if origin.is_whole:  # after a warm start the scaling may come from the first fit
            self._check_data(train, self._jobs[0].validation)
        if not record.is_in_nats:
            scale = self._nats_per_unit({})
            self.record = replace(
                record,
                fixed_loss=scale * record.fixed_loss,
                averaged_loss=scale * record.averaged_loss,
            )

    def _check_data(self, train: TrainingData, validation: Any) -> None:
        """Raise an error unless the kept weights give the recorded results on these data."""
        record, epoch = self.record, self.kept_epoch
        differs = _differ(record.train_rows, record.train_target, train) or (
            record.fixed_rows[-1] >= len(train)
        )
        if isinstance(validation, TrainingData):
            differs = differs or _differ(record.val_rows, record.val_target, validation)
        if not differs and epoch and len(record.fixed_loss) >= epoch:
            config = self._jobs[0].config
            fixed = self.fixed_windows(train, config)
            losses_of = make_loss(config.loss, config.label_smoothing)
            loss, _ = evaluate(self.kept_module(), fixed, losses_of)
            recorded = record.fixed_loss[epoch - 1]
            differs = not np.isclose(loss, recorded, rtol=SAME_LOSS, atol=0.0, equal_nan=True)
        outputs = self.val_outputs()
        if not differs and epoch and outputs is not None and len(record.val_predicted) >= epoch:
            predicted = outputs[record.val_rows].argmax(axis=1)
            moved = np.mean(predicted != record.val_predicted[epoch - 1])
            differs = bool(moved > SAME_CLASSES)
        if differs:
            raise ArgumentError(
                "these are not the data of the fit: the kept weights give a different loss, or the"
                " windows or labels differ. Give the same X, y and keywords as to fit."
            )

    def cost_of(self, rerun: Rerun) -> float:
        """Estimate a rerun's cost in epochs of the fit; infinite if the rerun is impossible."""
        if rerun.start is None and not self.origin.is_whole:
            return math.inf
        n_train = len(self._train)
        of_fit, arguments = self.arguments, {**self.arguments, **rerun.change}

        def of_step(arguments: Mapping[str, Any]) -> float:
            return 1.0 + STEP_WINDOWS / min(arguments["batch_size"] or n_train, n_train)

        work = self._work(arguments) / self._work(of_fit)
        n_trainings = FEATURES_TRAININGS if "features" in rerun.change else 1
        return rerun.n_epochs * n_trainings * work * of_step(arguments) / of_step(of_fit)

    def _nats_per_unit(self, change: Mapping[str, Any]) -> float:
        arguments = {**self.arguments, **change}
        return nats_per_unit(arguments["loss"], self.n_classes, arguments["label_smoothing"])

    def _work(self, arguments: Mapping[str, Any]) -> float:
        """Estimate the number of multiplications in an epoch, including its fixed cost."""
        width, n_layers = arguments["hidden_size"], arguments["num_layers"]
        directions = 2 if arguments["bidirectional"] else 1
        _, n_steps, n_inputs = self._train.X.shape
        kept = n_steps
        if arguments["max_timesteps"] is not None:
            kept = min(count_steps(arguments["max_timesteps"], self.origin.patch), n_steps)
        inputs = n_inputs + (n_layers - 1) * width * directions
        # the cost that does not grow with the width equals the cost of about 16 units
        products = kept * directions * (width + 16) * (inputs + n_layers * width + 16)
        return float(len(self._train) * products) + EPOCH_PRODUCTS

    def run(
        self, reruns: Sequence[Rerun], is_over: Callable[[], bool] | None = None
    ) -> list[RerunResult]:
        """Run the reruns, side by side if possible; a failure is stored in the rerun's result."""
        if any("features" in rerun.change for rerun in reruns):
            if is_over is not None and is_over():
                return [failed_rerun(rerun, TimeoutError(OUT_OF_TIME)) for rerun in reruns]
            return [self._fit_with_features(rerun) for rerun in reruns]
        callbacks = () if is_over is None else (Deadline(is_over),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jobs = [replace(self._make_job(rerun), callbacks=callbacks) for rerun in reruns]
            results = train_side_by_side(jobs, return_errors=True)
        if any(
            result is None or getattr(result, "ended_by", "") == "interrupted" for result in results
        ):
            raise KeyboardInterrupt
        rerun_results = []
        for rerun, job, result in zip(reruns, jobs, results, strict=True):
            error = result if isinstance(result, Exception) else result.error
            if error is not None:
                rerun_results.append(failed_rerun(rerun, error))
                continue
            unit = self._nats_per_unit(rerun.change)
            rerun_results.append(self.read(rerun, job.module, job.validation, result, unit))
        return rerun_results

    def _fit_with_features(self, rerun: Rerun) -> RerunResult:
        """Fit on the training windows only, and weight the features on folds of these windows."""
        change = {**_PLAIN, "early_stopping": False, "validation_fraction": 0.0, **rerun.change}
        change |= {"max_epochs": rerun.n_epochs, "max_steps": None}
        assert self.validation is not None
        X, y, per_window = self._windows_of(self.train)
        X_val, _, of_val = self._windows_of(self.validation)
        X_val = open_windows(X_val, self.arguments["scale"], "X_val")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                fit = check_arguments({**self.arguments, **change}, entropy=self.origin.entropy)
                scaled = read_and_scale(fit, X, y, **per_window)
                trained = train_model(fit, scaled, NoProgress())
                refuse_diverged(fit, trained)
                outputs = trained.model.logits(X_val, of_val.get("lengths"))
            except SensorseqError as error:
                return failed_rerun(rerun, error)
        if report_fit(fit, scaled, trained, FeatureChoice()).report.verdict == "diverged":
            return failed_rerun(rerun, DivergedError("a loss or gradient is not finite"))
        if len(trained.model.classes) < self.n_classes:
            return failed_rerun(rerun, SplitError("a class has no training windows"))
        loss = np.asarray(trained.histories[0]["loss"], np.float64)
        if len(loss) < rerun.n_epochs:
            raise KeyboardInterrupt
        return RerunResult(rerun, loss, val_outputs=outputs)

    def _windows_of(self, part: Windows) -> tuple[Any, Any, dict[str, Any]]:
        """Return X, y and keywords of a part, in the form that `fit` accepts."""
        X, y, keywords = self._data
        names = ("groups", "lengths", "sample_weight")
        if part.rows is None:  # validation windows that were given separately
            per_window = {name: keywords.get(f"{name}_val") for name in names[:2]}
            return keywords["X_val"], keywords.get("y_val"), per_window
        per_window = {
            name: None if keywords.get(name) is None else np.asarray(keywords[name])[part.rows]
            for name in names
        }
        if isinstance(X, WindowSet):
            return replace(X.take(part.rows), split=None), None, per_window
        return _safe_indexing(X, part.rows), _safe_indexing(y, part.rows), per_window

    def _make_job(self, rerun: Rerun) -> TrainingJob:
        first, start = self._jobs[0], None
        train, seed = first.train, first.seed
        if rerun.start is None:
            job = self._prepared(rerun)
            module, train, config = job.module, job.train, job.config
            refresh, validation = job.refresh, job.validation
            # a copy, because the seed of the fit has already spawned other seeds
            seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
        else:
            if rerun.change:
                raise ArgumentError("a rerun from a snapshot can change only the learning rate.")
            snapshot, config = self.record.snapshots[rerun.start], first.config
            start = Start(snapshot, config, self.steps_per_epoch, rerun.n_epochs)
            seed = np.random.SeedSequence([self.origin.entropy, rerun.start, 1])
            module, refresh, validation = (
                copy.deepcopy(first.module),
                first.refresh,
                first.validation,
            )
        assert isinstance(train, TrainingData)
        return TrainingJob(
            module,
            train,
            validation,
            rerun_config(config, rerun.n_epochs),
            seed,
            engine=self.arguments["engine"],
            refresh=refresh,
            recorder=Recorder(fixed=self.fixed_windows(train, config), keeps_snapshots=False),
            start=start,
        )

    def _prepared(self, rerun: Rerun) -> TrainingJob:
        """Return the job of a rerun that starts from initial weights, with the rerun's changes."""
        if not self.origin.is_whole:
            raise ArgumentError(
                "a fit that continued another fit has no initial weights for a rerun."
            )
        parameters = {**self._fit.parameters, **rerun.change}
        parameters |= {"max_epochs": rerun.n_epochs, "max_steps": None}
        if parameters["lr_schedule"] != "one_cycle":
            warmup = self.arguments["warmup_epochs"]
            is_share = 0 < warmup < 1
            warmup = min(warmup, 1 / 3) if is_share else min(warmup, rerun.n_epochs // 3)
            parameters["warmup_epochs"] = warmup
        fit, scaled = check_arguments(parameters, entropy=self.origin.entropy), self._scaled
        if _OF_WINDOWS & set(rerun.change):
            X, y, keywords = self._data
            scaled = read_and_scale(fit, X, y, **keywords)
        return make_jobs(fit, scaled)[0]


def copied(estimator: BaseEstimator) -> BaseEstimator:
    """Return an unfitted estimator with the same arguments; mutable values are copied."""
    arguments = {
        name: copy.deepcopy(value) if isinstance(value, dict | np.random.RandomState) else value
        for name, value in estimator.get_params(deep=False).items()
    }
    return type(estimator)(**arguments)


def _differ(rows: NDArray[np.int64], target: NDArray[np.int64], data: TrainingData) -> bool:
    """Test whether windows of a record are missing from the data or have different classes."""
    if not len(rows):
        return False
    return bool(rows.max() >= len(data)) or not np.array_equal(
        data.target.cpu().numpy()[rows], target
    )
