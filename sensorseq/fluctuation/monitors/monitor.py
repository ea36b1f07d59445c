"""TorchMonitor: the statistics of a fluctuation report from a custom torch training loop."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map_only

from sensorseq.errors import ArgumentError, warn_caller
from sensorseq.fluctuation.monitors.foreign_run import (
    Monitor,
    TrainMargins,
)
from sensorseq.fluctuation.statistics.run import Floats, check_count

_EVALUATION_BATCH = 1024


@dataclass
class _Batch:
    """What is known of one batch; tensors stay on their device until the epoch ends."""

    n_windows: int | None = None
    loss: Tensor | float | None = None
    n_correct: Tensor | None = None
    margin: Tensor | None = None  # (n,)
    target: Tensor | None = None
    rows: Any = None


@dataclass
class _Step:
    learning_rate: Tensor | float
    grad_norm: Tensor | float | None = None
    batches: list[_Batch] = field(default_factory=list)


@dataclass
class _Forward:
    n_windows: int | None
    inputs: Any = None  # while a fixed subset is filled
    output: Tensor | None = None


class _Hook:
    """Call a method of the monitor; a copy or a pickle of what the hook hangs on calls nothing."""

    def __init__(self, method: Callable[..., Any] | None) -> None:
        self._method = method

    def __call__(self, *args: Any) -> Any:
        return None if self._method is None else self._method(*args)

    def __reduce__(self) -> tuple[type["_Hook"], tuple[None]]:
        return _Hook, (None,)


class TorchMonitor(Monitor):
    """Watch a training loop, and say whether its curve fluctuates more than it should.

    Two lines are enough: one that makes the monitor, with the loss module, and one at the end of
    each epoch. Hooks see every forward pass, loss and step. Nothing is drawn from a generator,
    nothing of the model or the optimizer is changed, and nothing is read from the device until
    the epoch ends.

    Parameters
    ----------
    model : torch.nn.Module
        What is trained. Passes in training mode with gradients on are those of the training; a
        model left in evaluation mode is taken to be validated.
    optimizer : torch.optim.Optimizer
        Each of its steps is one step of the record.
    criterion : torch.nn.Module, optional
        The loss, called as ``criterion(outputs, y)``. Its first call after each forward pass gives
        loss, logits and classes of the batch; without it `log_step` does. The thresholds of the
        report are for a cross-entropy in nats, unweighted or with weights of mean one.
    n_fixed : int, default=256
        Windows of the fixed subset: the first that the model is trained on, kept as they were
        given to it, unless `watch` names others. Its loss after each epoch, in evaluation mode, is
        free of sampling and of dropout, and says best whether the model itself moves. 0 keeps
        none. It is filled in the first epoch, where the model's output is the logits; the record
        numbers its windows as they were met.

    Attributes
    ----------
    history : History
        `epoch`, `loss`, `accuracy`, `learning_rate` (largest of the groups, of the last step),
        `grad_norm` (mean over the steps), `val_loss`, `val_accuracy`, `duration_s`: as far as they
        are known.
    record : TrainingRecord
        Every step up to the end of the last epoch, the fixed subset, and each validation window.

    Raises
    ------
    ArgumentError
        If an argument is not what it should be.

    Notes
    -----
    *Accumulated gradients*: batches between two steps count for the second one, by their windows.
    Log the undivided loss. *Closures* (LBFGS, Lightning): the first evaluation in a step counts.
    *GradScaler*: a step that it skips is none, and its batch counts for the next.

    Examples
    --------
    >>> model, criterion = torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss()
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> X, y = torch.randn(64, 3), torch.arange(64) % 2
    >>> with TorchMonitor(model, optimizer, criterion) as monitor:
    ...     for epoch in range(3):
    ...         loss = criterion(model(X), y)
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    ...         row = monitor.log_epoch()
    >>> len(monitor.history)
    3
    >>> monitor.report().verdict
    'too_short_to_tell'
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        criterion: nn.Module | None = None,
        *,
        n_fixed: int = 256,
    ) -> None:
        for name, value, kind, expected in (
            ("model", model, nn.Module, "the torch.nn.Module that is trained"),
            ("optimizer", optimizer, Optimizer, "one torch.optim.Optimizer; one monitor for each"),
            (
                "criterion",
                criterion,
                nn.Module | None,
                "a loss module such as torch.nn.CrossEntropyLoss(); for a function call"
                " log_step(loss, logits, y)",
            ),
        ):
            if not isinstance(value, kind):
                raise ArgumentError(f"{name} is a {type(value).__name__}; expected {expected}.")
        super().__init__("torch")
        self._model, self._optimizer = model, optimizer
        self._n_fixed = check_count("n_fixed", n_fixed, least=0) or 0
        self._steps: list[_Step] = []
        self._pending: list[_Batch] = []  # batches whose step is still to come
        self._batch: _Batch | None = None  # the one that is being told about
        self._forward: _Forward | None = None
        self._pending_norm: Tensor | float | None = None
        self._stepped = False  # since the last forward pass
        self._step: _Step | None = None  # while it is taken
        self._ignores = False  # evaluations of a closure after its first
        self._fixed: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
        self._n_in_fixed = 0
        self._handles = [
            model.register_forward_hook(_Hook(self._on_forward), with_kwargs=True),
            optimizer.register_step_pre_hook(_Hook(self._before_step)),
            optimizer.register_step_post_hook(_Hook(self._after_step)),
        ]
        if criterion is not None:
            self._handles.append(
                criterion.register_forward_hook(_Hook(self._on_criterion), with_kwargs=True)
            )

    # --- what the user calls --------------------------------------------------------------------

    def watch(self, X: Any, y: ArrayLike) -> None:
        """Take these training windows as the fixed subset, in place of the first ones met.

        Parameters
        ----------
        X : array-like, or tuple of them
            Inputs of ``model(*X)``, windows along the first axis. A few hundred are enough; the
            classes in about their usual shares.
        y : array-like of shape (m,)
            Their classes, 0 to K - 1.

        Raises
        ------
        ArgumentError
            If inputs and classes differ in number.
        """
        inputs = X if isinstance(X, tuple) else (X,)
        moved = tuple(self._to_model(part) for part in inputs)
        target = torch.as_tensor(y).to(moved[0].device)
        if any(len(part) != len(target) for part in moved) or not len(target):
            raise ArgumentError(
                f"X has {', '.join(str(len(part)) for part in moved)} windows, y has {len(target)}."
            )
        chunks = zip(*(part.split(_EVALUATION_BATCH) for part in (*moved, target)), strict=True)
        self._fixed = [(chunk[:-1], {}, chunk[-1]) for chunk in chunks]
        self._n_fixed = self._n_in_fixed = len(target)

    def log_step(
        self,
        loss: Tensor | float | None = None,
        logits: Any = None,
        y: Any = None,
        *,
        grad_norm: Tensor | float | None = None,
        n_windows: int | None = None,
        rows: Any = None,
    ) -> None:
        """Log a batch, right before or right after its step; every part is optional.

        With a `criterion` this is not needed; what is given here takes precedence.

        Parameters
        ----------
        loss : Tensor or float, optional
            Mean loss of the batch in nats, or the loss of each window, (N,); by default the
            cross-entropy of `logits`.
        logits : Tensor of shape (N, K), or (N,) or (N, 1), optional
            Outputs before softmax, or log-probabilities. A single column is the logit of
            class 1 against class 0. With `y` they give the accuracy.
        y : Tensor of shape (N,), optional
            Classes as codes; of shape (N, K) as probabilities.
        grad_norm : Tensor or float, optional
            What `torch.nn.utils.clip_grad_norm_` returned: the norm before clipping. Without it,
            the norm is that of the gradients the optimizer gets to see.
        n_windows : int, optional
            N; without it the length of `y`, or of the model's first input.
        rows : array-like of shape (N,), optional
            Where each window stands in the training set: with `logits` and `y`, or the criterion's,
            it gives the margin of each window, which shows wrong labels.

        Raises
        ------
        ArgumentError
            If the monitor is closed or shapes do not fit.
        """
        self._check_open()
        if grad_norm is not None:
            norm = grad_norm.detach() if isinstance(grad_norm, Tensor) else float(grad_norm)
            if self._stepped:
                self._steps[-1].grad_norm = norm
            else:
                self._pending_norm = norm
        if (logits is None) != (y is None):
            raise ArgumentError("log_step needs both logits and y, or neither.")
        if all(part is None for part in (loss, logits, rows, n_windows)):
            return
        batch = self._current_batch()
        self._tell(batch, loss, logits, y)
        batch.n_windows = check_count("n_windows", n_windows) or batch.n_windows
        if rows is not None:
            n_known = None if batch.target is None else len(batch.target)
            if len(rows) != n_known:
                raise ArgumentError(
                    f"rows has {len(rows)} entries for {n_known or 'no'} windows with logits and y."
                )
            batch.rows = rows

    def log_epoch(
        self,
        val_logits: Any = None,
        val_y: Any = None,
        *,
        val_groups: ArrayLike | None = None,
        val_loss: float | None = None,
        val_accuracy: float | None = None,
        n_val: int | None = None,
    ) -> dict[str, Any]:
        """End an epoch, with the outputs of the model for the validation windows.

        Parameters
        ----------
        val_logits : Tensor or array-like of shape (N, K), or (N,) or (N, 1), optional
            Of all validation windows, in evaluation mode, in the same order after every epoch.
            They tell how much of the curve is the size of the validation set, and which windows
            change sides.
        val_y : array-like of shape (N,), optional
            Their classes, 0 to K - 1.
        val_groups : array-like of shape (N,), optional
            Recordings they come from: windows of one recording fail together.
        val_loss, val_accuracy : float, optional
            Where predictions are not at hand: mean cross-entropy in nats, and a fraction.
        n_val : int, optional
            Independent windows behind these two.

        Returns
        -------
        dict
            The row of the history.

        Raises
        ------
        ArgumentError
            If the validation windows are not those of the epoch before, in the same order.
        """
        self._check_open()
        if (val_logits is None) != (val_y is None):
            raise ArgumentError("log_epoch needs both val_logits and val_y, or neither.")
        validation: dict[str, float] = {}
        if val_logits is not None:
            validation = self._judge_validation(_array(val_logits), _array(val_y), val_groups)
        if val_loss is not None:
            validation["val_loss"] = float(val_loss)
        if val_accuracy is not None:
            validation["val_accuracy"] = float(val_accuracy)
        if n_val is not None:
            self._n_val = check_count("n_val", n_val)
        return self._end_epoch(validation)

    def validate(self, loader: Iterable[Any], *, groups: ArrayLike | None = None) -> dict[str, Any]:
        """Evaluate the model on validation windows, and end the epoch with that.

        The model is in evaluation mode meanwhile and afterwards in the mode it was in; torch's
        generators are left as they were.

        Parameters
        ----------
        loader : iterable
            Batches ``(X, y)``, or ``(X, lengths, y)``: inputs of the model, then classes. A
            DataLoader without shuffling; ``[(X_val, y_val)]`` for windows that fit in one batch.
        groups : array-like of shape (N,), optional
            As `val_groups` of `log_epoch`.

        Returns
        -------
        dict
            As of `log_epoch`; `val_loss` is the unweighted cross-entropy.

        Raises
        ------
        ArgumentError
            As `log_epoch`; or if batches or what the model gives are of another kind.
        """
        self._check_open()
        logits: list[Tensor] = []
        target: list[Tensor] = []
        with self._evaluating():
            for batch in loader:
                if not isinstance(batch, list | tuple) or len(batch) < 2:
                    raise ArgumentError(
                        f"the loader gives a {type(batch).__name__}; expected batches (X, y)."
                        " Otherwise evaluate yourself, and call log_epoch(val_logits, val_y)."
                    )
                *inputs, y = batch
                logits.append(_logits(self._model(*map(self._to_model, inputs))))
                target.append(torch.as_tensor(y))
        if not logits:
            raise ArgumentError("the loader gave no batch to validate on.")
        return self.log_epoch(
            torch.cat(logits), torch.cat([y.cpu() for y in target]), val_groups=groups
        )

    def close(self) -> None:
        """Remove the hooks. What was recorded stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._forward = self._before = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- what the hooks call --------------------------------------------------------------------

    def _on_forward(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if self._ignores or not self._is_training():
            return
        first = next((part for part in (*args, *kwargs.values()) if hasattr(part, "shape")), None)
        n_windows = len(first) if first is not None and first.ndim else None
        self._forward = _Forward(n_windows)
        if self._wants_fixed() and isinstance(output, Tensor):
            self._forward.inputs, self._forward.output = (args, kwargs), output.detach()
        # A norm that was told of and no step: the step was skipped.
        self._batch, self._stepped, self._pending_norm = None, False, None

    def _on_criterion(
        self, criterion: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any
    ) -> None:
        if self._ignores or not self._is_training() or not isinstance(loss, Tensor):
            return
        batch = self._current_batch()
        if batch.loss is not None:
            if self._forward is not None:
                return  # a further term of the same loss
            self._batch = None
            batch = self._current_batch()
        compared = (*args, *kwargs.values())
        has_classes = len(compared) == 2 and _look_like_classes(criterion, *compared)
        logits, y = compared if has_classes else (None, None)
        if getattr(criterion, "reduction", "mean") == "sum":
            loss = loss / len(compared[0])
        self._tell(batch, loss, logits, y)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step = _Step(_largest([group["lr"] for group in optimizer.param_groups]))
        self._step = step
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._take_pending(step)
            return None
        was_called = False

        def listening() -> Any:
            nonlocal was_called
            self._ignores, was_called = was_called, True
            try:
                loss = closure()
            finally:
                is_first, self._ignores = not self._ignores, False
            if is_first:  # at the weights before the step
                if not self._pending and isinstance(loss, Tensor | float):
                    self._tell(self._current_batch(), loss, None, None)
                self._take_pending(step)
            return loss

        self._stepped = False
        if len(args) > 1:
            return (args[0], listening, *args[2:]), kwargs
        return args, kwargs | {"closure": listening}

    def _take_pending(self, step: _Step) -> None:
        step.batches, self._pending = self._pending, []
        step.grad_norm, self._pending_norm = self._pending_norm, None
        if step.grad_norm is None:
            step.grad_norm = self._gradient_norm()

    def _after_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        step, self._step = self._step, None
        if step is None:  # the monitor was made inside of this one
            return
        self._steps.append(step)
        self._stepped = True

    # --- what they are made of ------------------------------------------------------------------

    def _is_training(self) -> bool:
        return self._model.training and torch.is_grad_enabled()

    def _check_open(self) -> None:
        if not self._handles:
            raise ArgumentError("the monitor is closed; make a new one to continue.")

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def _current_batch(self) -> _Batch:
        """Return the batch that is spoken of: that of the last forward pass in training mode."""
        if self._batch is not None and (self._forward is not None or self._batch.loss is None):
            return self._batch
        self._batch = _Batch()
        # Without forward passes to go by, a step that has its batch is done with.
        if self._stepped and (self._forward is not None or not self._steps[-1].batches):
            self._steps[-1].batches.append(self._batch)
        else:
            self._pending.append(self._batch)
        return self._batch

    @torch.no_grad()
    def _tell(self, batch: _Batch, loss: Any, logits: Any, y: Any) -> None:
        """Put into `batch` what is known of it, on the device."""
        if self._forward is not None and batch.n_windows is None:
            batch.n_windows = self._forward.n_windows
        if logits is not None:
            columns, target = _as_classes(logits, y)
            is_own = target[:, None] == torch.arange(columns.shape[1], device=target.device)
            own = columns.where(is_own, -math.inf).amax(dim=1)
            batch.margin = own - columns.where(~is_own, -math.inf).amax(dim=1)
            batch.n_correct = (columns.argmax(dim=1) == target).sum()
            batch.target, batch.n_windows = target, len(target)
            self._n_classes = columns.shape[1]
            if batch.loss is None:
                batch.loss = cross_entropy(columns, target)
            self._keep_for_fixed(logits, target)
        if isinstance(loss, Tensor):
            loss = loss.detach()
            if loss.ndim == 1:
                batch.n_windows = batch.n_windows or len(loss)
            loss = loss.mean()
        batch.loss = batch.loss if loss is None else loss

    def _gradient_norm(self) -> Tensor:
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        norm = get_total_norm([g.coalesce().values() if g.is_sparse else g for g in gradients])
        # Optimizers that unscale by themselves are told how, and whether they step at all.
        scale = getattr(self._optimizer, "grad_scale", None)
        overflows = getattr(self._optimizer, "found_inf", None)
        if scale is not None:
            norm = norm / scale.to(norm.device)
        if overflows is not None:
            norm = norm.where(overflows.to(norm.device) == 0, math.nan)
        return norm

    # --- the fixed subset -----------------------------------------------------------------------

    def _wants_fixed(self) -> bool:
        return self._n_in_fixed < self._n_fixed and not self.history  # in the first epoch alone

    def _keep_for_fixed(self, logits: Any, target: Tensor) -> None:
        """Keep the windows of the last forward pass, if what it gave is the logits."""
        forward = self._forward
        if forward is None or forward.inputs is None or forward.output is None:
            return
        is_output = (
            isinstance(logits, Tensor)
            and logits.data_ptr() == forward.output.data_ptr()
            and logits.shape == forward.output.shape
        )
        if is_output and self._wants_fixed():
            n_wanted = self._n_fixed - self._n_in_fixed
            (args, kwargs), n_kept = _first_windows(forward.inputs, len(target), n_wanted)
            self._fixed.append((args, kwargs, target[:n_kept].clone()))
            self._n_in_fixed += n_kept
        forward.inputs = forward.output = None

    def _evaluate_fixed(self) -> tuple[float, float]:
        if not self._fixed:
            return math.nan, math.nan
        with self._evaluating():
            parts = [
                _as_classes(_logits(self._model(*args, **kwargs)), y)
                for args, kwargs, y in self._fixed
            ]
        columns, target = (_array(torch.cat(part)) for part in zip(*parts, strict=True))
        return self._judge_fixed(columns, target)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Put the model in evaluation mode; restore each module's mode and the generators."""
        modes = [(module, module.training) for module in self._model.modules()]
        tensors = (*self._model.parameters(), *self._model.buffers())
        gpus = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
        with torch.random.fork_rng([gpu.index for gpu in gpus]), torch.no_grad():
            self._model.eval()
            try:
                yield
            finally:
                for module, mode in modes:
                    module.training = mode

    def _to_model(self, part: Any) -> Tensor:
        tensor = torch.as_tensor(part)
        like = next((p for p in self._model.parameters() if p.is_floating_point()), None)
        if like is None:
            return tensor
        is_numpy = tensor.is_floating_point() and not isinstance(part, Tensor)
        return tensor.to(like.device, like.dtype if is_numpy else tensor.dtype)

    # --- the end of an epoch --------------------------------------------------------------------

    def _end_epoch(self, validation: Mapping[str, float]) -> dict[str, Any]:
        steps, self._steps = self._steps, []
        self._batch, self._stepped = None, False
        if not steps:
            warn_caller(
                "no step of the monitored optimizer was seen in this epoch. Monitor the optimizer"
                " whose step() is called, and end an epoch after its steps."
            )
        fixed = self._evaluate_fixed()
        if self._n_in_fixed:
            self._fixed_rows = np.arange(self._n_in_fixed)
        batches = [batch for step in steps for batch in step.batches]
        figures, row = _read(steps, batches)
        margins = _margins(batches)
        return self._close_epoch(figures, row | dict(validation), fixed=fixed, train=margins)


def _read(
    steps: Sequence[_Step], batches: Sequence[_Batch]
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Fetch an epoch from the device: its steps, and its row."""
    of_step = np.repeat(np.arange(len(steps)), [len(step.batches) for step in steps])
    count = _numbers([batch.n_windows for batch in batches])
    loss = _numbers([batch.loss for batch in batches])
    n_correct = _numbers([batch.n_correct for batch in batches])
    # Batches of unknown size weigh the same.
    weight = np.ones_like(count) if np.isnan(count).any() else count

    def total(values: Floats) -> Floats:
        return np.bincount(of_step, values, len(steps)).astype(np.float64)

    with np.errstate(invalid="ignore", divide="ignore"):  # steps of which nothing is known
        share = total(weight)
        figures = {
            "n_windows": np.where(share > 0, total(count), np.nan),
            "learning_rate": _numbers([step.learning_rate for step in steps]),
            "loss": total(weight * loss) / share,
            "accuracy": total(n_correct) / total(count),
            "grad_norm": _numbers([step.grad_norm for step in steps]),
        }
    row: dict[str, float] = {}
    if batches:
        row["loss"] = float((weight * loss).sum() / weight.sum())
        if all(batch.n_correct is not None for batch in batches):
            row["accuracy"] = float(n_correct.sum() / count.sum())
    if steps:
        row["learning_rate"] = float(figures["learning_rate"][-1])
        norms = figures["grad_norm"]
        row["grad_norm"] = float(np.nanmean(norms)) if not np.isnan(norms).all() else math.nan
    return figures, row


def _margins(batches: Sequence[_Batch]) -> TrainMargins | None:
    known = [b for b in batches if b.rows is not None and b.margin is not None]
    if not known:
        return None
    rows = np.concatenate([np.asarray(_array(batch.rows), np.int64) for batch in known])
    margin = torch.cat([batch.margin for batch in known if batch.margin is not None])
    target = torch.cat([batch.target for batch in known if batch.target is not None])
    return TrainMargins(rows, margin.cpu().double().numpy(), target.cpu().numpy())


def _largest(rates: Sequence[Tensor | float]) -> Tensor | float:
    """Return the largest learning rate; one on a device stays there, and may be written over."""
    if not any(isinstance(rate, Tensor) for rate in rates):
        return max(float(rate) for rate in rates)
    return torch.stack([torch.as_tensor(rate) for rate in rates]).max()


def _numbers(values: Sequence[Tensor | float | None]) -> Floats:
    """Return scalars as an array, NaN for None; what lies on one device is read at once."""
    read = np.array([math.nan if isinstance(v, Tensor | None) else float(v) for v in values])
    places: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            places.setdefault((value.device, value.dtype), []).append(i)
    for indices in places.values():
        scalars = [value.reshape(()) for i in indices if isinstance(value := values[i], Tensor)]
        read[indices] = torch.stack(scalars).cpu().double().numpy()
    return read


def _as_classes(logits: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) in at least single precision, and classes (N,) on their device."""
    columns = torch.as_tensor(logits).detach()
    columns = columns.to(torch.promote_types(columns.dtype, torch.float32))
    target = torch.as_tensor(y).detach().to(columns.device, non_blocking=True)
    if columns.ndim == 1 or columns.shape[1:] == (1,):
        z = columns.reshape(-1)
        columns = torch.stack([torch.zeros_like(z), z], dim=1)
        target = target.reshape(-1)
        if target.is_floating_point():
            target = target > 0.5  # smoothed labels, too
    elif target.is_floating_point() and target.shape == columns.shape:
        target = target.argmax(dim=1)
    target = target.long()
    if columns.ndim != 2 or target.shape != columns.shape[:1]:
        raise ArgumentError(
            f"logits have shape {tuple(torch.as_tensor(logits).shape)} and y"
            f" {tuple(torch.as_tensor(y).shape)}; expected (N, K) and (N,)."
        )
    return columns, target


def _look_like_classes(criterion: nn.Module, logits: Any, y: Any) -> bool:
    """Whether a loss compares logits with classes, and not numbers with numbers."""
    if not isinstance(logits, Tensor) or not isinstance(y, Tensor) or not logits.ndim:
        return False
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return logits.shape == y.shape and logits.shape[1:] in ((), (1,))
    if isinstance(criterion, nn.CrossEntropyLoss) and y.is_floating_point():
        return logits.ndim == 2 and logits.shape == y.shape
    is_table = logits.ndim == 2 and logits.shape[1] > 1 and y.shape == logits.shape[:1]
    return is_table and not y.is_floating_point()


def _logits(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ArgumentError(
            f"the model gives a {type(output).__name__}, not logits. Evaluate yourself, and call"
            " log_epoch(val_logits, val_y); a fixed subset is not possible then, set n_fixed=0."
        )
    return output


def _first_windows(inputs: Any, n_windows: int, n_wanted: int) -> tuple[Any, int]:
    """Return a copy of a model's inputs, cut if windows are the first axis of every tensor."""
    tensors = [part for part in tree_leaves(inputs) if isinstance(part, Tensor)]
    if not all(part.shape[:1] == (n_windows,) for part in tensors):
        n_wanted = n_windows
    n_kept = min(n_wanted, n_windows)

    def cut(part: Tensor) -> Tensor:
        return (part[:n_kept] if n_kept < n_windows else part).detach().clone()

    return tree_map_only(Tensor, cut, inputs), n_kept


def _array(values: Any) -> NDArray[Any]:
    """Return a tensor of any device and precision, or what is array-like, as an array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray(values.double() if values.is_floating_point() else values)
    return np.asarray(values)
