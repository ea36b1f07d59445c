"""TrainingMonitor: follow a training loop of any framework, from what its model gives."""

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.run import Floats
from sensorseq.errors import ArgumentError
from sensorseq.history import History
from sensorseq.training_record import MAX_WATCHED, TrainingRecord

_LEAST_PROBABILITY = 1e-7  # whose logarithm is still taken, as in Keras
_OFF = 0.02  # how far probabilities in half precision sum off 1
_MARGIN_LIMIT = float(np.finfo(np.float16).max)


class TrainingMonitor:
    """Follow a training loop in torch, Keras, JAX or anything else, and judge its curve.

    Call `log_epoch` at the end of each epoch. With the model's outputs for the validation windows,
    the report says whether a rough curve is the luck of few windows, a few recordings, or the model
    itself; with those for some training windows it says so best, for their loss holds no dropout
    and no luck of the batches. Outputs are to come from the model in evaluation mode, for the same
    windows in the same order after every epoch. `FluctuationReport.from_history` judges a table.

    Parameters
    ----------
    y_val : array-like of shape (N,), optional
        Classes of the validation windows, 0 to K - 1.
    groups_val : array-like of shape (N,), optional
        Recordings they were cut from: windows of one recording fail together.
    y_fixed : array-like of shape (M,), optional
        Classes of the training windows whose outputs you log; the same few hundred every time.

    Attributes
    ----------
    history : History
        What was logged, a row for each epoch, and `duration_s`.

    Raises
    ------
    ArgumentError
        If labels are no classes, or labels and groups differ in number.

    Examples
    --------
    >>> import numpy as np
    >>> y_val = np.arange(30) % 2
    >>> monitor = TrainingMonitor(y_val)
    >>> for epoch in range(3):
    ...     outputs = np.eye(2)[y_val] * epoch  # of your model, after an epoch of training
    ...     row = monitor.log_epoch(loss=1 / (1 + epoch), val_outputs=outputs)
    >>> round(row["val_loss"], 3), row["val_accuracy"]
    (0.127, 1.0)
    >>> monitor.report().verdict
    'too_short_to_tell'
    """

    def __init__(
        self,
        y_val: ArrayLike | None = None,
        *,
        groups_val: ArrayLike | None = None,
        y_fixed: ArrayLike | None = None,
    ) -> None:
        self.history = History()
        self._y_val, self._y_fixed = _codes("y_val", y_val), _codes("y_fixed", y_fixed)
        self._groups: NDArray[Any] | None = None
        if groups_val is not None:
            n_windows = 0 if self._y_val is None else len(self._y_val)
            self._groups = np.asarray(groups_val)
            if self._groups.shape != (n_windows,):
                raise ArgumentError(
                    f"groups_val has shape {self._groups.shape} for {n_windows} labels in y_val;"
                    " give one group for each."
                )
        self._n_classes: int | None = None
        self._fixed: list[tuple[float, float]] = []
        self._predicted: list[NDArray[np.uint16]] = []
        self._margin: list[NDArray[np.float16]] = []
        self._started_s = time.perf_counter()

    def log_epoch(
        self,
        *,
        loss: float | None = None,
        accuracy: float | None = None,
        learning_rate: float | None = None,
        val_loss: float | None = None,
        val_accuracy: float | None = None,
        val_outputs: Any = None,
        fixed_outputs: Any = None,
    ) -> dict[str, Any]:
        """End an epoch; every part is optional.

        Parameters
        ----------
        loss, accuracy : float, optional
            Means over the training windows of the epoch: cross-entropy in nats, and a fraction.
        learning_rate : float, optional
            That of the epoch. Epochs right after a rise are not judged.
        val_loss, val_accuracy : float, optional
            The same of the validation windows, where you do not log their outputs.
        val_outputs : array or tensor of shape (N, K), or (N,) or (N, 1), optional
            Logits or probabilities of the windows of `y_val`; rows that sum to 1 are taken for
            probabilities. One column is class 1 against class 0.
        fixed_outputs : array or tensor of shape (M, K), or (M,) or (M, 1), optional
            The same of the windows of `y_fixed`.

        Returns
        -------
        dict
            The row of the history.

        Raises
        ------
        ArgumentError
            If outputs do not fit the labels.
        """
        row = {"loss": loss, "accuracy": accuracy, "learning_rate": learning_rate}
        row |= {"val_loss": val_loss, "val_accuracy": val_accuracy}
        row = {name: float(value) for name, value in row.items() if value is not None}
        if val_outputs is not None:
            logits, y = self._read("val", val_outputs, self._y_val)
            shown = np.linspace(0, len(y) - 1, min(len(y), MAX_WATCHED)).round().astype(np.int64)
            self._predicted.append(logits[shown].argmax(axis=1).astype(np.uint16))
            margin = np.clip(_margin(logits[shown], y[shown]), -_MARGIN_LIMIT, _MARGIN_LIMIT)
            self._margin.append(margin.astype(np.float16))
            row["val_loss"], row["val_accuracy"] = _judge(logits, y)
        if fixed_outputs is not None:
            self._fixed.append(_judge(*self._read("fixed", fixed_outputs, self._y_fixed)))
        now_s = time.perf_counter()
        whole = {"epoch": len(self.history) + 1, **row, "duration_s": now_s - self._started_s}
        self._started_s = now_s
        self.history.append(whole)
        return whole

    def _read(self, part: str, outputs: Any, y: NDArray[np.int64] | None) -> tuple[Floats, Any]:
        """Return logits (N, K) with their classes, or raise an error that names the part."""
        if hasattr(outputs, "detach"):
            outputs = outputs.detach().cpu()
            outputs = outputs.double() if outputs.is_floating_point() else outputs
        logits = _as_logits(np.asarray(outputs, np.float64))
        if y is None:
            raise ArgumentError(f"{part}_outputs need their classes: TrainingMonitor(y_{part}=...)")
        if logits.ndim != 2 or len(logits) != len(y):
            raise ArgumentError(
                f"{part}_outputs has shape {np.shape(outputs)} for {len(y)} labels in y_{part};"
                " expected a row for each window, (N, K)."
            )
        if y.max() >= logits.shape[1]:
            raise ArgumentError(
                f"y_{part} has class {y.max()}, but {part}_outputs has {logits.shape[1]} columns;"
                " code the classes 0 to K - 1."
            )
        self._n_classes = logits.shape[1]
        return logits, y

    @property
    def record(self) -> TrainingRecord:
        """What was logged beside the history; outputs count where every epoch has them."""
        n_epochs = len(self.history)
        record = TrainingRecord(epoch_steps=np.zeros(n_epochs + 1, np.int64))
        if self._y_fixed is not None and 0 < len(self._fixed) == n_epochs:
            record.fixed_rows = np.arange(len(self._y_fixed))
            record.fixed_loss, record.fixed_accuracy = np.array(self._fixed, np.float64).T
        if self._y_val is not None and 0 < len(self._predicted) == n_epochs:
            n, n_shown = len(self._y_val), self._predicted[0].shape[0]
            rows = np.linspace(0, n - 1, n_shown).round().astype(np.int64)
            record.val_rows, record.val_target = rows, self._y_val[rows]
            if self._groups is not None:
                codes = np.unique(self._groups, return_inverse=True)[1]
                record.val_groups = codes[rows].astype(np.int64)
            record.val_predicted = np.stack(self._predicted)
            record.val_margin = np.stack(self._margin)
        return record

    def report(self, **given: Any) -> FluctuationReport:
        """Judge the epochs that have ended.

        Parameters
        ----------
        **given
            As of `FluctuationReport.from_history`: `n_train`, `best_epoch`, `X`, `y` and `X_val`,
            to be told what the data allow, and others. What was logged need not be given again.
        """
        if not len(self.history):
            raise ArgumentError("no epoch has ended yet, so there is nothing to judge.")
        known: dict[str, Any] = {"record": self.record, "n_classes": self._n_classes}
        if self._y_val is not None:
            n_val = len(self._y_val)
            known |= {"n_val": n_val, "majority_fraction": np.bincount(self._y_val).max() / n_val}
            if given.get("X_val") is not None:
                known |= {"y_val": self._y_val, "groups_val": self._groups}
        return FluctuationReport.from_history(self.history, **(known | given))


def _codes(name: str, y: ArrayLike | None) -> NDArray[np.int64] | None:
    if y is None:
        return None
    values: Any = y.detach().cpu() if hasattr(y, "detach") else y
    values = np.asarray(values).reshape(-1)
    whole = values.dtype.kind in "biuf" and np.array_equal(values, np.rint(values))
    if not whole or not len(values) or values.min() < 0:
        raise ArgumentError(
            f"{name} must be classes, coded 0 to K - 1; np.unique(y, return_inverse=True)[1] gives"
            " codes."
        )
    return np.asarray(values, np.int64)


def _as_logits(outputs: Floats) -> Floats:
    """Return logits or log-probabilities (N, K) of logits or probabilities of any shape."""
    is_single = outputs.ndim == 1 or outputs.shape[1:] == (1,)
    columns = outputs.reshape(-1, 1) if is_single else outputs
    sums = 1.0 if is_single else columns.sum(axis=-1)
    if np.all((columns >= 0) & (columns <= 1)) and np.all(np.abs(sums - 1.0) < _OFF):
        p = np.clip(columns, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        columns = np.log(p) - np.log1p(-p) if is_single else np.log(p)
    return np.hstack([np.zeros_like(columns), columns]) if is_single else columns


def _judge(logits: Floats, y: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy."""
    with np.errstate(invalid="ignore", over="ignore"):  # a model that has diverged
        loss = float(metrics.cross_entropy(logits, y).mean())
    return loss, float(np.mean(logits.argmax(axis=1) == y))


def _margin(logits: Floats, y: NDArray[np.int64]) -> Floats:
    """Return the logit of each window's class less the largest other one."""
    rows, others = np.arange(len(y)), logits.copy()
    others[rows, y] = -np.inf
    with np.errstate(invalid="ignore"):
        return np.asarray(logits[rows, y] - others.max(axis=1))
