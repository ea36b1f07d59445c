"""FitOrigin and FitLab: the fit behind a report, and its re-runs."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, LabWindows
from sensorseq.nn import LSTMLinear
from sensorseq.training import TrainingConfig, TrainingData, TrainingResult
from sensorseq.training.config import CLASSIFICATION, LOSSES
from sensorseq.training.inference import predict_outputs
from sensorseq.training.losses import nats_per_unit
from sensorseq.training.recorder import centre_windows
from sensorseq.training.replay import Start, absorb_scaling, arm_config, recorder_of_arm
from sensorseq.training.side_by_side import TrainingJob, train_side_by_side
from sensorseq.training_record import TrainingRecord

if TYPE_CHECKING:
    from sensorseq.estimator.base import PreparedFit, SensorLSTM
    from sensorseq.fluctuation.report import FluctuationReport

# What an arm runs without: it neither shows, keeps nor repairs anything of its own.
_PLAIN = {
    "callbacks": None,
    "checkpoint": None,
    "resume": False,
    "verbose": 0,
    "warm_start": False,
    "n_models": 1,
    "auto_repair": False,
    "calibrate": False,
    "features": None,
    "refit": None,
}
# Arguments that change the windows, or their weights: for those they are made again.
_OF_WINDOWS = frozenset(
    ("scale", "max_timesteps", "crop", "augment", "input_dropout", "class_weight", "dtype")
)
_OF_NETWORK = frozenset(
    (
        "hidden_size",
        "num_layers",
        "bidirectional",
        "pooling",
        "head_norm",
        "weight_init",
        "recurrent_init",
        "forget_bias",
    )
)
_DROPOUTS = ("dropout", "recurrent_dropout")
_FIXED = frozenset(
    ("n_outputs", "task", "deterministic", "max_epochs", "max_steps", "windows_per_epoch")
)
# Of the training, what may differ from a snapshot on.
_OF_TRAINING = frozenset(field.name for field in fields(TrainingConfig)) - _FIXED
STEP_WINDOWS = 0.6  # a step costs as much as so many windows more: measured with 2 to 128 units
EPOCH_PRODUCTS = 7e6  # an epoch of hardly any products takes as long as so many, about 2 ms


@dataclass(frozen=True, eq=False)
class FitOrigin:
    """The fit a report is of.

    Parameters
    ----------
    estimator : SensorLSTM
        Unfitted, with the arguments of the fit.
    entropy : int
        What the fit drew its generators from.
    fit_s : float
        Seconds it took.
    is_whole : bool
        Whether it began from first weights: not after a warm start.
    module : LSTMLinear, optional
        The network with the weights that the training kept.
    out_of_fold : tuple of ndarray, optional
        Rows of X and their probabilities by networks that were trained without them.
    """

    estimator: "SensorLSTM"
    entropy: int
    fit_s: float
    is_whole: bool = True
    module: LSTMLinear | None = None
    out_of_fold: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def open(self, record: TrainingRecord, X: Any, y: Any = None, **keywords: Any) -> "FitLab":
        """Return what runs the fit again, on the data that it was given.

        Raises
        ------
        ArgumentError
            If this fit cannot be run again.
        """
        estimator = self._bare()
        if estimator._task != CLASSIFICATION:
            raise ArgumentError("probe re-runs fits of classifiers; this is a regression.")
        if callable(estimator.loss):
            raise ArgumentError(
                "probe cannot re-run a fit with a loss of your own: a function may count its calls"
                " or draw numbers, so that no re-run could be held against the fit; fit with"
                f" loss={' or '.join(map(repr, LOSSES[CLASSIFICATION]))} to probe it."
            )
        if not len(record.fixed_rows):
            raise ArgumentError(
                "probe needs the loss of fixed training windows, which is not measured while"
                " windows are streamed from their file. Fit on windows that are held."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fit has said it
            prepared = estimator._prepare_fit(X, y, **keywords)
        return FitLab(self, record, estimator, prepared, (X, y, keywords))

    def repaired(self, changes: Mapping[str, Any]) -> Any:
        """Return an unfitted estimator with some arguments changed."""
        return copied(self.estimator).set_params(**changes)

    def in_arguments(self, report: "FluctuationReport") -> "FluctuationReport":
        """Return a report as the probes take it: it recommends arguments."""
        return report

    def in_words(self, report: "FluctuationReport") -> "FluctuationReport":
        """Return a report as it is read: the same, for arguments are an estimator's words."""
        return report

    def _bare(self) -> Any:
        estimator = copied(self.estimator).set_params(**self._known(_PLAIN))
        estimator._replayed = (self.entropy, 0)
        return estimator

    def _known(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        own = self.estimator.get_params(deep=False)
        return {name: value for name, value in arguments.items() if name in own}


class FitLab:
    """Re-runs of one fit: see `sensorseq.fluctuation.probes.arm.Lab`, which this is one of.

    Losses of the fixed training windows, of its record and of its arms, are in nats, or where
    another loss is minimised in units in which a guess costs as much as it does in nats.

    Parameters
    ----------
    origin : FitOrigin
        The fit.
    record : TrainingRecord
        What it noted.
    estimator : SensorLSTM
        One that prepared it again.
    prepared : PreparedFit
        What came of that.
    data : tuple
        Windows, targets and keywords it was given.
    """

    def __init__(
        self,
        origin: FitOrigin,
        record: TrainingRecord,
        estimator: "SensorLSTM",
        prepared: "PreparedFit",
        data: tuple[Any, Any, Mapping[str, Any]],
    ) -> None:
        self.origin = origin
        self._estimator, self._prepared, self._data = estimator, prepared, data
        self.out_of_fold = origin.out_of_fold
        self.arguments: Mapping[str, Any] = origin.estimator.get_params(deep=False)
        self.defaults: Mapping[str, Any] = type(origin.estimator)().get_params(deep=False)
        own = set(self.arguments)
        changeable = _OF_TRAINING | _OF_WINDOWS | _OF_NETWORK | frozenset(_DROPOUTS)
        self.changeable = frozenset(changeable & own)
        self.n_epochs = record.n_epochs
        self.steps_per_epoch = int(record.epoch_steps[1]) if record.n_epochs else 1
        self.classes: Sequence[str] = [str(label) for label in estimator.classes_]
        self.n_classes = len(self.classes)
        scale = self._nats_per_unit({})
        self.record = record
        if not record.is_in_nats:
            self.record = replace(
                record,
                fixed_loss=scale * record.fixed_loss,
                averaged_loss=scale * record.averaged_loss,
            )
        if not isinstance(prepared.train, TrainingData):
            raise ArgumentError("probe cannot re-run a fit on windows that are streamed.")
        self._train: TrainingData = prepared.train
        n_held = len(self._train)
        if record.fixed_rows[-1] >= n_held or (
            len(record.train_rows) and record.train_rows[-1] >= n_held
        ):
            raise ArgumentError(
                f"probe was given data of which {n_held} windows train, fewer than fit had. Give it"
                " X, y and keywords as they were given to fit."
            )

    @property
    def train(self) -> LabWindows:
        """The training windows."""
        return _as_windows(self._train, self._prepared.train_groups, self._prepared.train_rows)

    @property
    def validation(self) -> LabWindows | None:
        """The validation windows."""
        data = self._prepared.validation
        if not isinstance(data, TrainingData):
            return None
        return _as_windows(data, self._prepared.validation_groups, self._prepared.validation_rows)

    def cost_of(self, arm: Arm) -> float:
        """Return what an arm costs, in epochs of the fit, from its sizes alone.

        Infinity for one from first weights, where the fit went on from another: it has none.
        """
        if arm.start is None and not self.origin.is_whole:
            return math.inf
        n_windows = len(self._train) if arm.train_rows is None else len(arm.train_rows)
        own, arguments = self.arguments, {**self.arguments, **arm.change}

        def of_step(arguments: Mapping[str, Any]) -> float:
            n_drawn = arguments["windows_per_epoch"] or len(self._train)
            return 1.0 + STEP_WINDOWS / min(arguments["batch_size"] or n_drawn, n_drawn)

        # an epoch of a given number of windows has as many of whatever part
        share = 1.0 if own["windows_per_epoch"] else n_windows / len(self._train)
        work = self._work(arguments) / self._work(own)
        return arm.n_epochs * share * work * of_step(arguments) / of_step(own)

    def _nats_per_unit(self, change: Mapping[str, Any]) -> float:
        arguments = {**self.arguments, **change}
        return nats_per_unit(
            arguments["loss"], self.n_classes, arguments.get("label_smoothing", 0.0)
        )

    def _work(self, arguments: Mapping[str, Any]) -> float:
        """Return what an epoch takes, in products: those of all windows, and what is always."""
        width, n_layers = arguments["hidden_size"], arguments["num_layers"]
        directions = 2 if arguments["bidirectional"] else 1
        n_channels, n_timesteps = self._train.X.shape[2], self._train.X.shape[1]
        kept = min(arguments["max_timesteps"] or n_timesteps, n_timesteps)
        inputs = n_channels + (n_layers - 1) * width * directions
        # what does not grow with the width is about as much as 16 units more
        products = kept * directions * (width + 16) * (inputs + n_layers * width + 16)
        return float(len(self._train) * products) + EPOCH_PRODUCTS

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Run arms, side by side where the engine can; one that fails says so in its result."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = [self._make_job(arm) for arm in arms]
            results = train_side_by_side([job for job, _ in made], return_errors=True, are_one=True)
        if any(
            result is None or getattr(result, "ended_by", "") == "interrupted" for result in results
        ):
            raise KeyboardInterrupt
        return [
            self._read(arm, job, data, result)
            for arm, (job, data), result in zip(arms, made, results, strict=True)
        ]

    def val_outputs(self) -> NDArray[np.float64] | None:
        """Return the logits of the validation windows by the weights that the fit kept."""
        module, seen = self.origin.module, self._prepared.validation
        if module is None or not isinstance(seen, TrainingData):
            return None
        return predict_outputs(module, seen.X, seen.lengths).numpy().astype(np.float64)

    def module_at(self, start: int) -> LSTMLinear:
        """Return a network of its own with the weights of a snapshot, in evaluation mode."""
        module = copy.deepcopy(self._prepared.module)
        module.load_state_dict(self.record.snapshots[start].state["module"])
        return module.eval()

    def _make_job(self, arm: Arm) -> tuple[TrainingJob, TrainingData]:
        """Return the job of an arm, and all its training windows as it sees them."""
        unknown = sorted(set(arm.change) - self.changeable)
        if unknown:
            raise ArgumentError(f"an arm cannot change {', '.join(unknown)}.")
        if arm.start is None:
            prepared = self._prepare(arm)
            config, start = prepared.config, None
            module = prepared.module
        else:
            prepared = self._prepared
            of_windows = {k: v for k, v in arm.change.items() if k in _OF_WINDOWS}
            others = {*_DROPOUTS, *of_windows}
            training = {k: v for k, v in arm.change.items() if k not in others}
            config, module = replace(prepared.config, **training), copy.deepcopy(prepared.module)
            if of_windows:  # made as the run made its own: with the same masks and noise
                prepared = self._prepare(Arm(arm.name, arm.n_epochs, change=of_windows), False)
            for name in _DROPOUTS:
                if name in arm.change:
                    setattr(module, name, arm.change[name])
            start = self._make_start(arm, module)
        train, validation = prepared.train, prepared.validation
        assert isinstance(train, TrainingData)
        assert isinstance(validation, TrainingData | None)
        refresh = prepared.options.get("refresh")
        if arm.rescale is not None:
            train, validation, refresh = _rescaled(arm.rescale, train, validation, refresh)
        everything, own = train, train
        if arm.train_rows is not None:
            own = train.take(torch.from_numpy(arm.train_rows), train.X.device)
            refresh = _of_rows(refresh, arm.train_rows)
        fixed_rows = torch.from_numpy(self.record.fixed_rows)
        fixed = centre_windows(train.take(fixed_rows, train.X.device), config)
        job = TrainingJob(
            module,
            own,
            validation,
            arm_config(config, arm.n_epochs),
            self._seed_of(arm),
            engine=self.arguments["engine"],
            refresh=refresh,
            recorder=recorder_of_arm(fixed, arm.n_epochs),
            start=start,
        )
        return job, everything

    def _seed_of(self, arm: Arm) -> np.random.SeedSequence:
        seed = self._prepared.seed
        if not arm.seed and (arm.start is None or arm.seed is None):
            return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
        return np.random.SeedSequence([self.origin.entropy, arm.start or 0, arm.seed])

    def _make_start(self, arm: Arm, module: LSTMLinear) -> Start:
        assert arm.start is not None
        snapshot = self.record.snapshots[arm.start]
        keeps = not (arm.restarts_optimizer or arm.rescale is not None)
        if arm.rescale is not None:
            mean, sd = (torch.from_numpy(part) for part in arm.rescale)
            module.load_state_dict(snapshot.state["module"])
            absorb_scaling(module, mean, sd)
            snapshot = replace(snapshot, state={**snapshot.state, "module": module.state_dict()})
        return Start(
            snapshot,
            self._prepared.config,
            self.steps_per_epoch,
            keeps_order=arm.seed is None,
            keeps_optimizer=keeps and "optimizer" not in arm.change,
            rate_factor=arm.rate_factor,
            n_decay_epochs=arm.n_epochs if arm.decays else 0,
        )

    def _prepare(self, arm: Arm, begins: bool = True) -> Any:
        """Prepare a fit anew with the changes of an arm, to begin it or for its windows alone."""
        if begins and not self.origin.is_whole:
            raise ArgumentError(
                "a fit that went on from another has no first weights to go back to."
            )
        change = dict(arm.change)
        if arm.rate_factor != 1.0:
            change["learning_rate"] = self.arguments["learning_rate"] * arm.rate_factor
        if arm.decays:
            change["lr_schedule"] = "cosine"
        estimator = copied(self._estimator).set_params(
            **change, max_epochs=arm.n_epochs, max_steps=None
        )
        if estimator.get_params(deep=False).get("lr_schedule") != "one_cycle":
            warmup = self.arguments["warmup_epochs"]
            is_share = 0 < warmup < 1
            warmup = min(warmup, 1 / 3) if is_share else min(warmup, arm.n_epochs // 3)
            estimator.set_params(warmup_epochs=warmup)
        estimator._replayed = (self.origin.entropy, arm.seed or 0)
        if _OF_WINDOWS & set(change):
            X, y, keywords = self._data
            return estimator._prepare_fit(X, y, **keywords)
        vars(estimator).update(
            {name: value for name, value in vars(self._estimator).items() if name.endswith("_")}
        )
        return estimator._prepare_again(self._prepared)

    def _read(self, arm: Arm, job: TrainingJob, everything: TrainingData, result: Any) -> ArmResult:
        if isinstance(result, Exception):
            nothing = np.zeros(0)
            return ArmResult(arm, nothing, nothing, nothing, nothing, np.nan, failed=str(result))
        assert isinstance(result, TrainingResult)
        history, record = result.history, result.record
        columns = {name: _column(history, name) for name in ("loss", "val_loss", "val_accuracy")}
        outputs = None
        if arm.predict_rows is not None:
            data = everything.take(torch.from_numpy(arm.predict_rows), everything.X.device)
            data = centre_windows(data, job.config)
            outputs = predict_outputs(job.module, data.X, data.lengths).numpy().astype(np.float64)
        val_outputs = None
        if isinstance(job.validation, TrainingData):
            seen = job.validation
            val_outputs = predict_outputs(job.module, seen.X, seen.lengths).numpy()
        diverged = result.ended_by == "diverged"
        scale = self._nats_per_unit(arm.change)
        return ArmResult(
            arm,
            np.zeros(0) if record is None else scale * record.fixed_loss,
            scale * columns["loss"],
            scale * columns["val_loss"],
            columns["val_accuracy"],
            np.nan if record is None else scale * record.averaged_loss,
            record,
            outputs,
            "a loss or gradient is not finite" if diverged else "",
            None if val_outputs is None else val_outputs.astype(np.float64),
        )


def copied(estimator: "SensorLSTM") -> Any:
    """Return an unfitted estimator with the same arguments, those that may change copied."""
    arguments = {
        name: copy.deepcopy(value) if isinstance(value, dict | np.random.RandomState) else value
        for name, value in estimator.get_params(deep=False).items()
    }
    return type(estimator)(**arguments)


def _column(history: Any, name: str) -> NDArray[np.float64]:
    values = [row.get(name) for row in history]
    return np.array([value for value in values if value is not None], np.float64)


def _as_windows(data: TrainingData, groups: Any, rows: Any) -> LabWindows:
    lengths = None if data.lengths is None else data.lengths.cpu().numpy()
    return LabWindows(data.X.cpu().numpy(), lengths, data.target.cpu().numpy(), groups, rows)


def _rescaled(
    by: tuple[NDArray[np.float64], NDArray[np.float64]],
    train: TrainingData,
    validation: TrainingData | None,
    refresh: Callable[[int], Any] | None,
) -> tuple[TrainingData, TrainingData | None, Callable[[int], Any] | None]:
    """Scale windows once more; padding stays zero."""
    mean, sd = (np.asarray(part, np.float64) for part in by)

    def of_part(data: TrainingData) -> TrainingData:
        X = (data.X.double().cpu() - torch.from_numpy(mean)) / torch.from_numpy(sd)
        if data.lengths is not None:
            steps = torch.arange(X.shape[1])
            X[steps[None, :] >= data.lengths.cpu()[:, None]] = 0.0
        return replace(data, X=X.to(data.X))

    again = refresh
    if refresh is not None:

        def again(epoch: int) -> Any:
            X = torch.from_numpy(np.asarray(refresh(epoch))).to(train.X)
            return of_part(replace(train, X=X)).X.cpu().numpy()

    return of_part(train), None if validation is None else of_part(validation), again


def _of_rows(
    refresh: Callable[[int], Any] | None, rows: NDArray[np.int64]
) -> Callable[[int], Any] | None:
    if refresh is None:
        return None
    return lambda epoch: refresh(epoch)[rows]
