"""probe_module: train any torch module, judge the run, and find what makes it fluctuate."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from sensorseq.data_checks import Part, check_windows
from sensorseq.errors import ArgumentError, InputError
from sensorseq.fluctuation.causes.rank import causes_of
from sensorseq.fluctuation.monitors.module_lab import (
    ModuleLab,
    ModuleOrigin,
    check_new,
    check_optimizer,
    check_outputs,
    make_module,
    rates_of,
)
from sensorseq.fluctuation.race.arm import LabPart
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.preprocessing._checks import RandomState, check_random_state
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.training.batches import TrainingData
from sensorseq.training.config import TrainingConfig, check_integer, check_real
from sensorseq.training.inputs import check_groups, from_one_hot, read_sequences
from sensorseq.training.randomness import integer_seed

_TRIED = 2  # windows that the shape of the outputs is looked at with


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

    The module is trained for `max_epochs` by your optimizer, in plain epochs over shuffled batches.
    The run is recorded and judged like a fit of an estimator. Then it is trained again with other
    settings, to find those that do better, see `FluctuationReport.probe`. The generators of torch,
    numpy and Python are left as they were.

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
        If `make_model` returns no new module each time, its outputs are no logits, the optimizer is
        not one of the parameters it was given, the rates are not known beforehand, or a value is
        out of range.
    InputError
        If windows, labels, groups or lengths contradict each other.
    SplitError
        If no whole group can be held out.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> class Mean(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(2, 2)
    ...
    ...     def forward(self, X):
    ...         return self.linear(X.mean(dim=1))
    >>> y = np.arange(40) % 2
    >>> X = np.random.default_rng(0).normal(size=(40, 10, 2)) + y[:, None, None]
    >>> report = probe_module(
    ...     Mean, lambda p: torch.optim.SGD(p, lr=0.1), X, y, budget=0, random_state=0
    ... )
    >>> report.verdict
    'normal'
    """
    budget = check_real("budget", budget, 0.0)
    check_integer("max_epochs", max_epochs, 1)
    check_real("validation_fraction", validation_fraction, 0.0, 1.0)
    entropy = int(check_random_state(random_state).integers(2**63))
    split_seed, weight_seed, _ = np.random.SeedSequence(entropy).spawn(3)
    module, scratch = (make_module(make_model, integer_seed(weight_seed)) for _ in range(2))
    check_new(module, scratch)
    table = rates_of(_made(make_optimizer, scratch), make_scheduler, max_epochs)
    _made(make_optimizer, module)

    sequences = read_sequences(X, lengths)
    n_windows = len(sequences)
    of_windows = check_groups(groups, n_windows, "groups")
    if of_windows is None:
        of_windows = sequences.groups
    own = list(module.parameters())
    dtype = next(part.dtype for part in own if part.is_floating_point())
    tried = TrainingData.from_arrays(
        sequences.X[:_TRIED], sequences.lengths[:_TRIED], np.zeros(0, np.int64), dtype=dtype
    )
    device = own[0].device
    valid = None if tried.lengths is None else tried.lengths.to(device)
    n_outputs = check_outputs(module, tried.X.to(device), valid, integer_seed(weight_seed))
    target, classes = _read_labels(y, n_windows, n_outputs)
    train_rows, validation_rows = holdout_by_group(
        target, of_windows, validation_fraction, int(split_seed.generate_state(1)[0])
    )

    def part(rows: NDArray[np.int64]) -> LabPart:
        held = sequences.take(rows)
        data = TrainingData.from_arrays(held.X, held.lengths, target[rows], dtype=dtype)
        return LabPart(data, None if of_windows is None else of_windows[rows], rows)

    smoothing = _read_loss(loss)
    config = TrainingConfig(
        n_outputs=n_outputs,
        label_smoothing=smoothing,
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
    parts = part(train_rows), part(validation_rows) if len(validation_rows) else None
    started = time.perf_counter()
    lab = ModuleLab(module, make_model, make_optimizer, table, config, parts, classes, entropy)
    fit_s = time.perf_counter() - started
    counts = np.bincount(target[validation_rows], minlength=n_outputs)
    report = FluctuationReport.from_history(
        lab.result.history,
        len(validation_rows) or None,
        n_train=len(train_rows),
        n_classes=n_outputs,
        majority_fraction=counts.max() / counts.sum() if len(validation_rows) else None,
        best_epoch=lab.result.best_epoch or None,
        record=lab.record,
        arguments=lab.arguments,
        data_facts=causes_of(check_windows(*_as_parts(lab)), lab.arguments),
    )
    if budget:
        from sensorseq.fluctuation.race.probe import probe_lab

        report = probe_lab(lab, report, budget, fit_s)
    return ModuleOrigin(lab, module.module, fit_s).in_words(report)


def _as_parts(lab: ModuleLab) -> list[Part]:
    held = [windows for windows in (lab.train, lab.validation) if windows is not None]
    return [Part(*windows, classes=lab.classes) for windows in held]


def _made(make_optimizer: Callable[..., Any], module: nn.Module) -> Optimizer:
    parameters = list(module.parameters())
    return check_optimizer(make_optimizer(parameters), parameters)


def _read_labels(y: Any, n_windows: int, n_outputs: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return the code of each window's class, and the names of all."""
    labels = np.asarray(y.numpy(force=True) if isinstance(y, Tensor) else y)
    if labels.ndim == 2 and len(labels) == n_windows:
        labels = from_one_hot(labels)
    if labels.shape != (n_windows,):
        raise InputError(
            f"y has shape {labels.shape} for the {n_windows} windows of X; expected ({n_windows},)."
        )
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
    """Return the label smoothing of a cross-entropy; an ArgumentError for another loss."""
    if loss in ("cross_entropy", functional.cross_entropy, nn.CrossEntropyLoss):
        return 0.0
    if isinstance(loss, nn.CrossEntropyLoss):
        if loss.weight is None and loss.reduction == "mean" and loss.ignore_index < 0:
            return float(loss.label_smoothing)
        raise ArgumentError(
            "loss has class weights, an ignored class or another reduction than the mean, which"
            " leaves no loss to compare in nats; take torch.nn.CrossEntropyLoss()."
        )
    raise ArgumentError(
        f"loss={loss!r} is not a cross-entropy, by which alone a run can be judged; for another"
        " loss watch your own loop with sensorseq.fluctuation.TorchMonitor."
    )
