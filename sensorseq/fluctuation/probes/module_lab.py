"""ModuleLab: re-runs of a module of one's own, trained by an optimizer of one's own."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.probes.absorb import absorb_scaling, scale_windows
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab, LabWindows
from sensorseq.fluctuation.probes.foreign_module import (
    ModuleCall,
    check_optimizer,
    isolated_generators,
    make_module,
)
from sensorseq.fluctuation.probes.module_words import in_words, say_change
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.training.config import TrainingConfig
from sensorseq.training.data import TrainingData
from sensorseq.training.engine import TrainingResult, train_network
from sensorseq.training.inference import predict_outputs
from sensorseq.training.own_optimizer import OwnOptimizer, OwnStart
from sensorseq.training.randomness import integer_seed
from sensorseq.training.recorder import Recorder
from sensorseq.training.replay import arm_config, recorder_of_arm
from sensorseq.training_record import TrainingRecord

_OF_TRAINING = ("batch_size", "max_grad_norm", "clip_by", "sampler", "last_batch")
_OF_RATES = ("learning_rate", "lr_schedule")
_OF_OPTIMIZER = ("weight_decay", "momentum")  # of its options, those that causes speak of
# What an estimator of ours may have and a loop with a plain cross-entropy has not.
_NONE: Mapping[str, Any] = {"class_weight": None, "l1": 0.0, "optimizer_params": None}
STEP_WINDOWS = 4.0  # a step costs as much as so many windows more
_COMPARED = 8  # windows that a scaling in the weights is compared on


@dataclass(frozen=True, eq=False)
class ModuleFit:
    """A module, what trains it, and on what.

    Parameters
    ----------
    make_model : callable
        Returns a new module.
    make_optimizer : callable
        Gets its parameters, returns their optimizer.
    table : ndarray of shape (E, G), float64
        Learning rate of each epoch and parameter group.
    config : TrainingConfig
        The rest of the training.
    train, validation : TrainingData
        Windows as the module gets them; validation may be None.
    train_groups, validation_groups : ndarray, or None
        What they come from.
    train_rows, validation_rows : ndarray of int64
        Where they were in what was given.
    classes : sequence of str
        Names of the classes.
    entropy : int
        What everything random is drawn from.
    """

    make_model: Callable[[], Any]
    make_optimizer: Callable[[Sequence[Tensor]], Optimizer]
    table: NDArray[np.float64]
    config: TrainingConfig
    train: TrainingData
    validation: TrainingData | None
    train_groups: NDArray[Any] | None
    validation_groups: NDArray[Any] | None
    train_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    classes: Sequence[str]
    entropy: int

    @property
    def seeds(self) -> list[np.random.SeedSequence]:
        """Those of the split, of the first weights and of the training."""
        return np.random.SeedSequence(self.entropy).spawn(3)

    def own(self, options: Mapping[str, Any] | None = None) -> OwnOptimizer:
        """Return what takes the steps."""

        def make(parameters: Sequence[Tensor]) -> Optimizer:
            return check_optimizer(self.make_optimizer(list(parameters)), parameters)

        return OwnOptimizer(make, self.table, options or {})

    def train_recorded(self, module: ModuleCall) -> TrainingResult:
        """Train a module in place, and note what the run does."""
        training = self.seeds[2]
        with isolated_generators(integer_seed(training), _device_of(module)):
            result = train_network(
                module,
                self.train,
                self.validation,
                self.config,
                seed=training,
                recorder=Recorder(),
                own=self.own(),
            )
        record = result.record
        if record is not None:
            norms = record.tensor_grad_norms
            record.tensor_grad_norms = {
                name.removeprefix(ModuleCall.PREFIX): values for name, values in norms.items()
            }
            if self.validation_groups is not None:
                codes = np.unique(self.validation_groups, return_inverse=True)[1]
                record.val_groups = np.asarray(codes[record.val_rows], np.int64)
        return result


class ModuleLab:
    """Re-runs of one `ModuleFit`: see `sensorseq.fluctuation.probes.arm.Lab`, which this is one of.

    Parameters
    ----------
    fit : ModuleFit
        What was trained.
    module : ModuleCall
        A module of its, whose weights do not matter.
    record : TrainingRecord
        Of the run.
    """

    def __init__(self, fit: ModuleFit, module: ModuleCall, record: TrainingRecord) -> None:
        self.fit, self.record = fit, record
        self._module = copy.deepcopy(module)
        self._kept = module
        optimizer = fit.own().make_optimizer(list(self._module.parameters()))
        config, group = fit.config, optimizer.param_groups[0]
        self.arguments: Mapping[str, Any] = {
            **{name: getattr(config, name) for name in _OF_TRAINING},
            "learning_rate": float(fit.table[0, 0]),
            "label_smoothing": config.label_smoothing,
            "loss": config.loss,
            "max_epochs": config.max_epochs,
            "optimizer": type(optimizer).__name__.lower(),
            **{name: group[name] for name in _OF_OPTIMIZER if name in group},
            **_NONE,
        }
        self.defaults: Mapping[str, Any] = {
            "lr_schedule": "cosine",
            "batch_size": 32,
            "max_grad_norm": 1.0,
            "clip_by": "norm",
            "label_smoothing": 0.0,
        }
        of_optimizer = ["weight_decay"] if "weight_decay" in group else []
        self.changeable = frozenset((*_OF_TRAINING, *_OF_RATES, "label_smoothing", *of_optimizer))
        self.n_epochs = record.n_epochs
        self.steps_per_epoch = int(record.epoch_steps[1]) if record.n_epochs else 1
        self.classes = fit.classes
        self.n_classes = len(fit.classes)

    @property
    def train(self) -> LabWindows:
        """The training windows."""
        return _as_windows(self.fit.train, self.fit.train_groups, self.fit.train_rows)

    @property
    def validation(self) -> LabWindows | None:
        """The validation windows."""
        if self.fit.validation is None:
            return None
        return _as_windows(
            self.fit.validation, self.fit.validation_groups, self.fit.validation_rows
        )

    def cost_of(self, arm: Arm) -> float:
        """Return what an arm costs, in epochs of the fit, from its sizes alone."""
        n_all = len(self.fit.train)
        n_windows = n_all if arm.train_rows is None else len(arm.train_rows)

        def of_step(batch_size: int | None) -> float:
            return 1.0 + STEP_WINDOWS / min(batch_size or n_all, n_all)

        own = self.fit.config.batch_size
        work = of_step(arm.change.get("batch_size", own)) / of_step(own)
        return arm.n_epochs * n_windows / n_all * work

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Run arms, one after the other; one that fails says so in its result."""
        return [self._run(arm) for arm in arms]

    def val_outputs(self) -> Floats | None:
        """Return the logits of the validation windows by the last weights."""
        seen = self.fit.validation
        if seen is None:
            return None
        return predict_outputs(self._kept, seen.X, seen.lengths).numpy().astype(np.float64)

    def module_at(self, start: int) -> ModuleCall:
        """Return a network of its own with the weights of a snapshot, in evaluation mode."""
        module = copy.deepcopy(self._module)
        module.load_state_dict(self.record.snapshots[start].state["module"])
        return module.eval()

    def _run(self, arm: Arm) -> ArmResult:
        unknown = sorted(set(arm.change) - self.changeable)
        if unknown:
            raise ArgumentError(f"an arm cannot change {', '.join(unknown)} of this module.")
        fit, seed = self.fit, self._seed_of(arm)
        everything, validation = fit.train, fit.validation
        try:
            module = self._module_of(arm)
            if arm.rescale is not None:
                mean, sd = (np.asarray(part, np.float64) for part in arm.rescale)
                some = everything.take(
                    torch.arange(min(_COMPARED, len(everything))), _device_of(module)
                )
                absorb_scaling(module, mean, sd, some.X, some.lengths)
                everything = _scaled(everything, mean, sd)
                validation = None if validation is None else _scaled(validation, mean, sd)
            train = everything
            if arm.train_rows is not None:
                train = everything.take(torch.from_numpy(arm.train_rows), everything.X.device)
            fixed_rows = torch.from_numpy(self.record.fixed_rows)
            fixed = everything.take(fixed_rows, _device_of(module))
            with isolated_generators(integer_seed(seed), _device_of(module)):
                result = train_network(
                    module,
                    train,
                    validation,
                    self._config_of(arm),
                    seed=seed,
                    recorder=recorder_of_arm(fixed, arm.n_epochs),
                    start=self._start_of(arm, module),
                    own=fit.own(_options_of(arm)),
                )
        except Exception as error:  # what a module of one's own raises is not ours to know
            nothing = np.zeros(0)
            return ArmResult(arm, nothing, nothing, nothing, nothing, np.nan, failed=str(error))
        if result.ended_by == "interrupted":
            raise KeyboardInterrupt
        return _read(arm, module, everything, validation, result)

    def _module_of(self, arm: Arm) -> ModuleCall:
        """Return a module with the weights that an arm begins with."""
        if arm.start is not None:
            return self.module_at(arm.start)
        if not arm.seed:
            return self.module_at(0)
        seed = np.random.SeedSequence([self.fit.entropy, arm.seed, 1])
        return make_module(self.fit.make_model, integer_seed(seed))

    def _start_of(self, arm: Arm, module: ModuleCall) -> OwnStart:
        begins_anew = arm.start is None
        snapshot = self.record.snapshots[arm.start or 0]
        if begins_anew or arm.rescale is not None:
            snapshot = replace(snapshot, state={**snapshot.state, "module": module.state_dict()})
        decays = arm.decays or arm.change.get("lr_schedule") == "cosine"
        factor = arm.rate_factor
        if "learning_rate" in arm.change:
            factor *= arm.change["learning_rate"] / self.arguments["learning_rate"]
        return OwnStart(
            snapshot,
            self.fit.config,
            self.steps_per_epoch,
            keeps_order=arm.seed is None and not begins_anew,
            keeps_optimizer=not (begins_anew or arm.restarts_optimizer or arm.rescale is not None),
            rate_factor=factor,
            n_decay_epochs=arm.n_epochs if decays else 0,
            own=self.fit.own(_options_of(arm)),
        )

    def _config_of(self, arm: Arm) -> TrainingConfig:
        of_config = (*_OF_TRAINING, "label_smoothing")
        change = {name: value for name, value in arm.change.items() if name in of_config}
        return arm_config(self.fit.config, arm.n_epochs, **change)

    def _seed_of(self, arm: Arm) -> np.random.SeedSequence:
        seed = self.fit.seeds[2]
        if not arm.seed and (arm.start is None or arm.seed is None):
            return seed
        return np.random.SeedSequence([self.fit.entropy, arm.start or 0, arm.seed])


@dataclass(frozen=True, eq=False)
class ModuleOrigin:
    """The training behind a report of `probe_module`, for `FluctuationReport.probe` and `apply`.

    Parameters
    ----------
    lab : Lab
        Its re-runs.
    module : torch.nn.Module
        As it was trained, with its last weights.
    fit_s : float
        Seconds it took.
    repair : dict
        The smallest set of changes that was proved, as arguments that `lab` knows.
    causes : tuple of Cause
        Those of the report, before what they recommend was put in words.
    """

    lab: Lab
    module: Any
    fit_s: float
    repair: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()

    def open(self, record: TrainingRecord, X: Any = None, y: Any = None, **keywords: Any) -> Lab:
        """Return what runs it again, on the windows that `probe_module` was given."""
        return self.lab

    def in_arguments(self, report: FluctuationReport) -> FluctuationReport:
        """Return a report as the probes take it: it recommends arguments that `lab` knows."""
        return replace(report, causes=self.causes)

    def in_words(self, report: FluctuationReport) -> FluctuationReport:
        """Return a report as it is read, which recommends nothing but in words."""
        repair = {} if report.probes is None else report.probes.repair
        origin = replace(self, repair=repair, causes=report.causes)
        return replace(in_words(report), origin=origin)

    def repaired(self, changes: Mapping[str, Any]) -> Any:
        """Raise, for the module is not ours to change; say what to change.

        Raises
        ------
        ArgumentError
            Always.
        """
        words = say_change(changes or self.repair)
        what = f"Take {words}." if words else "Nothing was proved to repair it."
        raise ArgumentError(f"a module of your own is yours to change. {what}")


def _options_of(arm: Arm) -> dict[str, Any]:
    """Return the options of the optimizer that an arm changes."""
    return {name: arm.change[name] for name in ("weight_decay",) if name in arm.change}


def _device_of(module: ModuleCall) -> torch.device:
    return next(module.parameters()).device


def _scaled(data: TrainingData, mean: Floats, sd: Floats) -> TrainingData:
    return replace(data, X=scale_windows(data.X, data.lengths, mean, sd))


def _as_windows(data: TrainingData, groups: Any, rows: NDArray[np.int64]) -> LabWindows:
    lengths = None if data.lengths is None else data.lengths.cpu().numpy()
    return LabWindows(data.X.cpu().numpy(), lengths, data.target.cpu().numpy(), groups, rows)


def _read(
    arm: Arm,
    module: ModuleCall,
    everything: TrainingData,
    validation: TrainingData | None,
    result: TrainingResult,
) -> ArmResult:
    history, record = result.history, result.record

    def column(name: str) -> Floats:
        values = [row.get(name) for row in history]
        return np.array([value for value in values if value is not None], np.float64)

    outputs = None
    if arm.predict_rows is not None:
        data = everything.take(torch.from_numpy(arm.predict_rows), everything.X.device)
        outputs = predict_outputs(module, data.X, data.lengths).numpy().astype(np.float64)
    return ArmResult(
        arm,
        np.zeros(0) if record is None else record.fixed_loss,
        column("loss"),
        column("val_loss"),
        column("val_accuracy"),
        np.nan if record is None else record.averaged_loss,
        record,
        outputs,
        "a loss or gradient is not finite" if result.ended_by == "diverged" else "",
        None
        if validation is None
        else predict_outputs(module, validation.X, validation.lengths).numpy().astype(np.float64),
    )
