"""probe_module: train any torch module, judge the run, and find what makes it fluctuate."""

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from sensorseq.checks import (
    RandomState,
    check_integer,
    check_per_window,
    check_random_state,
    check_real,
)
from sensorseq.diagnosis.causes import DEFAULTS, Cause, causes_of
from sensorseq.diagnosis.level import compare_level
from sensorseq.diagnosis.probe import probe_runner
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.trials import (
    Deadline,
    PartWindows,
    Rerun,
    RerunResult,
    TrialRunner,
    failed_rerun,
)
from sensorseq.errors import ArgumentError, InputError
from sensorseq.history import TrainingRecord
from sensorseq.inspection.window_checks import check_windows
from sensorseq.prediction.inputs import Sequences, check_groups, read_sequences
from sensorseq.preprocessing.split.parts import holdout_by_group
from sensorseq.training.batches import TrainingData
from sensorseq.training.config import TrainingConfig
from sensorseq.training.engine import TrainingResult, train_network
from sensorseq.training.inputs import from_one_hot
from sensorseq.training.optim import OwnOptimizer
from sensorseq.training.randomness import integer_seed, isolated_generators
from sensorseq.training.recorder import Recorder
from sensorseq.training.replay import Start, rerun_config

_OF_TRAINING = ("batch_size", "max_grad_norm", "clip_by", "sampler", "last_batch")
_OF_CONFIG = ("label_smoothing", "loss", "max_epochs")
_OF_RATES = ("learning_rate", "lr_schedule")
_OF_OPTIMIZER = ("weight_decay", "momentum")  # the optimizer options that causes refer to
# Settings of our estimator that a loop with plain cross-entropy lacks.
_NONE: Mapping[str, Any] = {"class_weight": None, "l1": 0.0, "optimizer_params": None}
_TRIED = 2  # enough windows to see the shape of the outputs
_DEFAULTS: Mapping[str, Any] = {
    **{name: DEFAULTS[name] for name in ("lr_schedule", "batch_size", "max_grad_norm")},
    **{"clip_by": "norm", "label_smoothing": 0.0},
}
STEP_WINDOWS = 4.0  # the fixed cost of a step, in windows


class ModuleCall(nn.Module):
    """A module called as ``module(X, lengths)``, even if it takes no lengths."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(module.forward).parameters.values()
        second = [part for part in parameters if part.kind in positional][1:2]
        self.takes_lengths = any(p.default is p.empty or p.name == "lengths" for p in second)

    def forward(self, X: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits of shape (n, K) for windows of shape (n, t, c)."""
        if self.takes_lengths and lengths is None:
            lengths = torch.full((len(X),), X.shape[1], dtype=torch.int64, device=X.device)
        outputs: Tensor = self.module(X, lengths) if self.takes_lengths else self.module(X)
        return outputs


def make_module(make_model: Callable[[], Any], seed: int) -> ModuleCall:
    """Make a new module with weights drawn from `seed`; raise if it has none to train."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    with isolated_generators(seed, torch.device(kind)):
        module = make_model()
    if not isinstance(module, nn.Module):
        what = type(module).__name__
        raise ArgumentError(f"make_model returned {what}; it must return a torch.nn.Module.")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ArgumentError("make_model returned a module without a parameter to train.")
    return ModuleCall(module)


def _make_two(make_model: Callable[[], Any], seed: int) -> tuple[ModuleCall, ModuleCall]:
    """Make two modules and check that they share no parameters."""
    module, scratch = (make_module(make_model, seed) for _ in range(2))
    taken = {id(parameter) for parameter in module.parameters()}
    shares = any(id(parameter) in taken for parameter in scratch.parameters())
    if shares or module.module is scratch.module:
        raise ArgumentError(
            "make_model returned the same module, or the same parameters, twice; build the module"
            " inside make_model, such as lambda: MyModel()."
        )
    return module, scratch


def count_outputs(module: ModuleCall, sequences: Sequences, dtype: torch.dtype, seed: int) -> int:
    """Return K, the number of logits that a module gives for each of a few windows."""
    lengths, none = sequences.lengths[:_TRIED], np.zeros(0, np.int64)
    tried = TrainingData.from_arrays(sequences.X[:_TRIED], lengths, none, dtype=dtype)
    tried = tried.to(device_of(module))
    with isolated_generators(seed, tried.X.device), torch.no_grad():
        outputs = module.eval()(tried.X, tried.lengths)
    n, what = len(tried.X), type(outputs).__name__
    if isinstance(outputs, Tensor):
        what = f"shape {tuple(outputs.shape)}"
        if outputs.ndim == 2 and len(outputs) == n and outputs.shape[1] > 1:
            if outputs.is_floating_point():
                return int(outputs.shape[1])
            raise ArgumentError(f"the module returned {outputs.dtype}; logits are floating-point.")
    raise ArgumentError(
        f"the module returned {what} for windows of shape {tuple(tried.X.shape)}; it must return"
        f" logits, a tensor of shape ({n}, n_classes)."
    )


def make_checked(make_optimizer: Callable[..., Any], module: nn.Module) -> Optimizer:
    """Make an optimizer for a module; raise if it needs a closure or has other parameters."""
    parameters = list(module.parameters())
    optimizer = make_optimizer(parameters)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"make_optimizer returned {type(optimizer).__name__}, not a torch.optim.Optimizer."
        )
    own = {id(parameter) for parameter in parameters}
    if not all(id(part) in own for group in optimizer.param_groups for part in group["params"]):
        raise ArgumentError(
            "make_optimizer returned an optimizer of other parameters than it was given."
        )
    step = inspect.signature(optimizer.step).parameters.get("closure")
    if step is not None and step.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(optimizer).__name__} needs a closure for its step, which no rerun gives."
        )
    return optimizer


def rates_of(
    optimizer: Optimizer, make_scheduler: Callable[[Optimizer], Any] | None, n_epochs: int
) -> NDArray[np.float64]:
    """Return the learning rate of each epoch and parameter group, of shape (E, G).

    The scheduler is stepped once per epoch without training, so the rates are known beforehand. The
    optimizer must be new, and cannot be used afterward.
    """

    def others() -> list[dict[str, str]]:
        left_out = {"params", "lr", "initial_lr"}
        groups = optimizer.param_groups
        return [{name: repr(group[name]) for name in group.keys() - left_out} for group in groups]

    scheduler = None if make_scheduler is None else make_scheduler(optimizer)
    before, rates = others(), []
    with warnings.catch_warnings():
        # The optimizer takes no step before the scheduler, about which torch warns.
        warnings.simplefilter("ignore")
        for _ in range(n_epochs):
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            try:
                if scheduler is not None and len(rates) < n_epochs:
                    scheduler.step()
            except TypeError as error:
                raise ArgumentError(
                    f"{type(scheduler).__name__} cannot be stepped without a result ({error}); take"
                    " a scheduler whose rates are known beforehand, with step() after each epoch."
                ) from error
    if before != others():
        raise ArgumentError(
            f"{type(scheduler).__name__} changes more than the learning rate, which a rerun does"
            " not repeat; switch that off (cycle_momentum=False)."
        )
    return np.array(rates)


class ModuleRunner(TrialRunner):
    """The training of a custom module and its reruns; see `sensorseq.diagnosis.trials.TrialRunner`.

    `table` (E, G) holds the learning rate of each epoch and parameter group.
    """

    def __init__(
        self,
        module: ModuleCall,
        make_model: Callable[[], Any],
        make_optimizer: Callable[[Any], Optimizer],
        table: NDArray[np.float64],
        config: TrainingConfig,
        parts: tuple[PartWindows, PartWindows | None],
        classes: Sequence[str],
        entropy: int,
    ) -> None:
        self._make_model, self._make_optimizer = make_model, make_optimizer
        self._table, self._config, self.entropy = table, config, entropy
        self._train, self._validation = parts
        own = OwnOptimizer(make_optimizer, table)
        self.result = self._train_module(
            module, config, self.seeds[2], recorder=Recorder(), own=own
        )
        record = self.result.record
        assert record is not None  # train_network raises on an interrupt, so there is a record
        if self._validation is not None and self._validation.groups is not None:
            codes = np.unique(self._validation.groups, return_inverse=True)[1]
            record.val_groups = np.asarray(codes[record.val_rows], np.int64)
        super().__init__(record, module, record.n_epochs, parts, classes)
        optimizer = make_optimizer(list(module.parameters()))
        group = optimizer.param_groups[0]
        self.arguments: Mapping[str, Any] = {
            **{name: getattr(config, name) for name in (*_OF_TRAINING, *_OF_CONFIG)},
            "learning_rate": float(table[0, 0]),
            "optimizer": type(optimizer).__name__.lower(),
            **{name: group[name] for name in _OF_OPTIMIZER if name in group},
            **_NONE,
        }
        self.defaults: Mapping[str, Any] = _DEFAULTS
        of_optimizer = ["weight_decay"] if "weight_decay" in group else []
        self.changeable = frozenset((*_OF_TRAINING, *_OF_RATES, "label_smoothing", *of_optimizer))

    @property
    def seeds(self) -> list[np.random.SeedSequence]:
        """Fresh seeds of the split, the initial weights and the training."""
        return np.random.SeedSequence(self.entropy).spawn(3)

    def _train_module(
        self, module: ModuleCall, config: TrainingConfig, seed: np.random.SeedSequence, **how: Any
    ) -> TrainingResult:
        shown = None if self._validation is None else self._validation.data
        with isolated_generators(integer_seed(seed), device_of(module)):
            return train_network(module, self._train.data, shown, config, seed=seed, **how)

    def cost_of(self, rerun: Rerun) -> float:
        """Estimate the cost of a rerun, in epochs of the fit, from its sizes alone."""
        n_all = len(self._train.data)

        def of_step(batch_size: int | None) -> float:
            return 1.0 + STEP_WINDOWS / min(batch_size or n_all, n_all)

        own = self._config.batch_size
        work = of_step(rerun.change.get("batch_size", own)) / of_step(own)
        return rerun.n_epochs * work

    def run(
        self, reruns: Sequence[Rerun], is_over: Callable[[], bool] | None = None
    ) -> list[RerunResult]:
        """Run reruns one after the other; a failure is stored in the result."""
        callbacks = () if is_over is None else (Deadline(is_over),)
        return [self._run(rerun, callbacks) for rerun in reruns]

    def _run(self, rerun: Rerun, callbacks: Sequence[Any]) -> RerunResult:
        unknown = sorted(set(rerun.change) - self.changeable)
        if unknown:
            raise ArgumentError(f"a rerun cannot change {', '.join(unknown)} of this module.")
        options = _given(rerun.change, ("weight_decay",))
        own = OwnOptimizer(self._make_optimizer, self._table_of(rerun), options)
        seed, start = self.seeds[2], None
        if rerun.start is not None:
            seed = np.random.SeedSequence([self.entropy, rerun.start, 1])
            snapshot = self.record.snapshots[rerun.start]
            start = Start(snapshot, self._config, self.steps_per_epoch, rerun.n_epochs, own)
        settings = _given(rerun.change, (*_OF_TRAINING, "label_smoothing"))
        config = rerun_config(self._config, rerun.n_epochs, **settings)
        try:
            module = make_module(self._make_model, integer_seed(self.seeds[1]))
            fixed = self.fixed_windows(self._train.data, config).to(device_of(module))
            how = {"recorder": Recorder(fixed=fixed, keeps_snapshots=False), "callbacks": callbacks}
            result = self._train_module(module, config, seed, own=own, start=start, **how)
        except Exception as error:  # a custom module may raise anything
            return failed_rerun(rerun, error)
        if result.ended_by == "interrupted":
            raise KeyboardInterrupt
        seen = None if self._validation is None else self._validation.data
        return self.read(rerun, module, seen, result)

    def _table_of(self, rerun: Rerun) -> NDArray[np.float64]:
        """Return the rates of a rerun's epochs; without a snapshot, the run's are stretched."""
        table, epochs = self._table, np.arange(rerun.n_epochs)
        if rerun.start is None:
            table = table[epochs * len(table) // max(rerun.n_epochs, 1)]
        else:
            epochs_done = self.record.snapshots[rerun.start].epoch
            table = table[np.minimum(epochs_done + epochs, len(table) - 1)]
        if "learning_rate" in rerun.change:
            table = table * (rerun.change["learning_rate"] / self.arguments["learning_rate"])
        schedule = rerun.change.get("lr_schedule")
        if rerun.start is not None or schedule == "cosine":
            table = table * (0.5 + 0.5 * np.cos(np.pi * epochs / rerun.n_epochs))[:, None]
        return np.asarray(table, np.float64)


@dataclass(frozen=True, eq=False)
class ModuleOrigin:
    """The training behind a report of `probe_module`, for its methods `probe` and `apply`."""

    runner: TrialRunner
    module: Any  # the trained module, with its last weights
    fit_s: float  # duration of the training
    # Changes of `runner`'s arguments that were proved.
    repair: Mapping[str, Any] = field(default_factory=dict)
    # the report's causes, before their recommendations were put into words
    causes: tuple[Cause, ...] = ()

    def open(
        self, record: TrainingRecord, X: Any = None, y: Any = None, **keywords: Any
    ) -> TrialRunner:
        """Return the runner, which repeats the training on the windows of `probe_module`."""
        return self.runner

    def in_arguments(self, report: FluctuationReport) -> FluctuationReport:
        """Return the report as probes take it, with recommendations as arguments of `runner`."""
        return replace(report, causes=self.causes)

    def in_words(self, report: FluctuationReport) -> FluctuationReport:
        """Return the report with its recommendations as torch code, in advice and note."""
        probes, repair, causes = report.probes, {}, []
        if probes is not None and probes.repair:
            repair = dict(probes.repair)
            note = f"Take {say_change(repair)}. {probes.note}".strip()
            probes = replace(probes, repair={}, previous={}, note=note)
        for cause in report.causes:
            advice, change = cause.advice, cause.recommendation
            if change and set(change) <= self.runner.changeable:
                advice = f"Take {say_change(change)}. {advice}".strip()
            causes.append(replace(cause, recommendation={}, advice=advice))
        origin = replace(self, repair=repair, causes=report.causes)
        report = replace(report, causes=tuple(causes), probes=probes)
        return replace(report, of_module=True, origin=origin)

    def repaired(self, changes: Mapping[str, Any]) -> Any:
        """Raise an ArgumentError that says what to change in a custom module."""
        words = say_change(changes or self.repair)
        what = f"Take {words}." if words else "Nothing was proved to repair it."
        raise ArgumentError(f"a module of your own is yours to change. {what}")


def device_of(module: ModuleCall) -> torch.device:
    """Return the device of a module's parameters."""
    return next(module.parameters()).device


def _given(change: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: change[name] for name in names if name in change}


# Torch code for our arguments, or for an argument with a certain value.
_CHANGES: Mapping[str, str] = {
    "lr_schedule=cosine": (
        "torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs), stepped once an epoch"
    ),
    "batch_size": "DataLoader(batch_size={value})",
    "batch_size=None": "all windows in one batch",
    "max_grad_norm": (
        "torch.nn.utils.clip_grad_norm_(model.parameters(), {value:g}) before each step"
    ),
    "max_grad_norm=None": "no clipping of gradients",
    "clip_by=norm": "clipping of the gradient's norm",
    "label_smoothing": "torch.nn.CrossEntropyLoss(label_smoothing={value:g})",
    "sampler=balanced": "batches drawn equally from each class",
    "sampler=shuffle": "batches of shuffled windows, each once in an epoch",
    "last_batch=merge": "a last batch that is joined to the one before",
    "last_batch=drop": "DataLoader(drop_last=True)",
    "last_batch=keep": "DataLoader(drop_last=False)",
}


def say_change(change: Mapping[str, Any]) -> str:
    """Express a change of our arguments as torch code, separated by commas.

    >>> say_change({"learning_rate": 1e-4, "batch_size": 32})
    'lr=0.0001 in the optimizer, DataLoader(batch_size=32)'
    """
    rest = dict(change)
    if rest.get("max_grad_norm") is not None and rest.get("clip_by") == "norm":
        del rest["clip_by"]  # included in the function's name
    names = {"learning_rate": "lr", "weight_decay": "weight_decay"}
    given = ", ".join(f"{names[name]}={rest.pop(name):g}" for name in names if name in rest)
    said = [f"{given} in the optimizer"] if given else []
    for name, value in rest.items():
        words = _CHANGES.get(f"{name}={value}") or _CHANGES.get(name) or "{name}={value!r}"
        said.append(words.format(name=name, value=value))
    return ", ".join(said)


def probe_module(
    make_model: Callable[[], nn.Module],
    make_optimizer: Callable[[Iterable[Tensor]], Optimizer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str | Callable[..., Any] = "cross_entropy",
    groups: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    make_scheduler: Callable[[Optimizer], Any] | None = None,
    batch_size: int | None = 32,
    max_epochs: int = 60,
    validation_fraction: float = 0.2,
    max_grad_norm: float | None = None,
    sampler: str = "shuffle",
    last_batch: str = "keep",
    budget: float = 1.0,
    random_state: RandomState = None,
) -> FluctuationReport:
    """Train a custom module, and report whether and why its run fluctuates.

    The module is trained by your optimizer, in plain epochs over shuffled batches. The run is
    recorded and judged like a fit of an estimator. Then it is trained again with other settings, to
    find those that do better, see `FluctuationReport.probe`.

    Parameters
    ----------
    make_model : callable
        Takes nothing and returns a new `torch.nn.Module` each time. It is called as ``module(X)``
        with windows (n, t, c), or as ``module(X, lengths)`` where its `forward` has a second
        argument that must be given or is called `lengths`, and returns logits (n, K). It is trained
        on the device its parameters are on. torch, numpy and Python's `random` are seeded before.
    make_optimizer : callable
        Gets the parameters, returns a `torch.optim.Optimizer` of them, as in
        ``lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3)``.
    X : array of shape (n, t, c) or (n, t), list of arrays of shape (t_i, c), or WindowSet
        Windows as the module takes them: they are not scaled.
    y : array of shape (n,), or (n, K) one-hot
        Their classes. Integers from 0 to K - 1, with K logits, are used as they are; other labels
        are numbered in sorted order.
    loss : {"cross_entropy"} or torch.nn.CrossEntropyLoss, default="cross_entropy"
        A module with weights or another reduction than the mean is refused.
    groups : array of shape (n,), optional
        What each window was cut from. Whole groups are held out.
    lengths : array of shape (n,), int, optional
        Valid steps of each window.
    make_scheduler : callable, optional
        Gets the optimizer, returns a scheduler of torch's that is stepped after each epoch.
    batch_size : int or None, default=32
        None: all windows at once.
    max_epochs : int, default=60
        Epochs.
    validation_fraction : float, default=0.2
        Share of the windows that is held out; 0 for none.
    max_grad_norm : float or None, default=None
        Bound of the gradient's global norm.
    sampler : {"shuffle", "balanced"}, default="shuffle"
        ``"balanced"`` draws equally from each class.
    last_batch : {"keep", "merge", "drop"}, default="keep"
        What becomes of a last batch that is not full.
    budget : float, default=1.0
        What training again may cost, as a multiple of the training time. 0: the run is only judged.
    random_state : int, Generator, RandomState or None
        Equal seeds, equal report.

    Returns
    -------
    FluctuationReport
        With `record`, and `probes` unless `budget` is 0. Changes are described in the words of
        torch, in the `advice` of its causes and the `note` of `probes`. ``origin.module`` is
        the trained module.

    Raises
    ------
    ArgumentError
        If `make_model` returns no new module each time, its outputs are no logits, or the learning
        rates are not known beforehand.
    SplitError
        If no whole group can be held out.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> y = np.arange(40) % 2
    >>> X = np.random.default_rng(0).normal(size=(40, 10, 2)) + y[:, None, None]
    >>> report = probe_module(
    ...     lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 2)),
    ...     lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ...     X, y, budget=0, random_state=0,
    ... )
    >>> report.verdict
    'normal'
    """
    budget = check_real("budget", budget, 0.0)
    check_integer("max_epochs", max_epochs, 1)
    check_real("validation_fraction", validation_fraction, 0.0, 1.0)
    entropy = int(check_random_state(random_state).integers(2**63))
    split_seed, weights, _ = np.random.SeedSequence(entropy).spawn(3)
    weight_seed, seed = integer_seed(weights), int(split_seed.generate_state(1)[0])
    module, scratch = _make_two(make_model, weight_seed)
    table = rates_of(make_checked(make_optimizer, scratch), make_scheduler, max_epochs)
    make_checked(make_optimizer, module)

    sequences = read_sequences(X, lengths)
    of_windows = check_groups(groups, len(sequences), "groups")
    of_windows = sequences.groups if of_windows is None else of_windows
    dtype = next(part.dtype for part in module.parameters() if part.is_floating_point())
    n_outputs = count_outputs(module, sequences, dtype, weight_seed)
    target, classes = _read_labels(y, len(sequences), n_outputs)
    train_rows, validation_rows = holdout_by_group(target, of_windows, validation_fraction, seed)
    config = TrainingConfig(
        n_outputs=n_outputs,
        label_smoothing=_read_loss(loss),
        learning_rate=max(float(table[0, 0]), np.finfo(float).tiny),
        lr_schedule="constant",
        batch_size=batch_size,
        sampler=sampler,
        last_batch=last_batch,
        max_epochs=max_epochs,
        max_grad_norm=max_grad_norm,
        early_stopping=False,
        restore_best=False,
    )
    part = partial(_part_of, sequences, target, of_windows, dtype)
    parts = part(train_rows), part(validation_rows) if len(validation_rows) else None
    started = time.perf_counter()
    runner = ModuleRunner(
        module, make_model, make_optimizer, table, config, parts, classes, entropy
    )
    fit_s = time.perf_counter() - started
    report = _judge(runner, n_outputs, len(train_rows), target[validation_rows])
    if budget:
        report = probe_runner(runner, report, budget, fit_s)
    return ModuleOrigin(runner, module.module, fit_s).in_words(report)


def _part_of(
    sequences: Sequences,
    target: NDArray[np.int64],
    groups: NDArray[Any] | None,
    dtype: torch.dtype,
    rows: NDArray[np.int64],
) -> PartWindows:
    held = sequences.take(rows)
    data = TrainingData.from_arrays(held.X, held.lengths, target[rows], dtype=dtype)
    return PartWindows(data, None if groups is None else groups[rows], rows)


def _judge(
    runner: ModuleRunner, n_classes: int, n_train: int, held_out: NDArray[np.int64]
) -> FluctuationReport:
    """Judge a module's run; `held_out` are the true classes of its validation windows."""
    checked = [windows for windows in (runner.train, runner.validation) if windows is not None]
    counts = np.bincount(held_out, minlength=n_classes)
    report = FluctuationReport.from_history(
        runner.result.history,
        len(held_out) or None,
        n_train=n_train,
        n_classes=n_classes,
        majority_fraction=counts.max() / counts.sum() if len(held_out) else None,
        best_epoch=runner.result.best_epoch or None,
        record=runner.record,
        arguments=runner.arguments,
        data_facts=causes_of(check_windows(*checked), runner.arguments),
    )
    return report if len(checked) < 2 else compare_level(report, checked[0], checked[1])


def _read_labels(y: Any, n_windows: int, n_outputs: int) -> tuple[NDArray[np.int64], list[str]]:
    labels = np.asarray(y.numpy(force=True) if isinstance(y, Tensor) else y)
    if labels.ndim == 2 and len(labels) == n_windows:
        labels = from_one_hot(labels)
    check_per_window("y", labels, n_windows, InputError)
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < n_outputs:
        return labels.astype(np.int64), [str(code) for code in range(n_outputs)]
    if labels.dtype.kind == "f":
        raise InputError("y holds floating-point numbers; give classes, as integers or names.")
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) != n_outputs:
        raise ArgumentError(
            f"the module returns {n_outputs} logits, and y has {len(names)} classes."
        )
    return codes.astype(np.int64), [str(name) for name in names]


def _read_loss(loss: Any) -> float:
    """Return a cross-entropy's label smoothing; raise an ArgumentError for any other loss."""
    if loss in ("cross_entropy", functional.cross_entropy, nn.CrossEntropyLoss):
        return 0.0
    if not isinstance(loss, nn.CrossEntropyLoss):
        raise ArgumentError(
            f"loss={loss!r} is not a cross-entropy, by which alone a run can be judged; for another"
            " loss log your own loop with sensorseq.diagnosis.TrainingMonitor."
        )
    if loss.weight is None and loss.reduction == "mean" and loss.ignore_index < 0:
        return float(loss.label_smoothing)
    raise ArgumentError(
        "loss has class weights, an ignored class or another reduction than the mean, so it is not"
        " in nats; take torch.nn.CrossEntropyLoss()."
    )
