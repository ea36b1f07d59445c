"""ForeignRun: what is heard of a training loop that is not ours, as History and TrainingRecord."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.columns import Floats, check_count
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.history import History
from sensorseq.training_record import MAX_WATCHED, STEP_NAMES, TrainingRecord


class Judged(NamedTuple):
    """How a model does on some windows.

    Parameters
    ----------
    losses : ndarray of shape (N,), float64
        Cross-entropy of each, in nats.
    predicted : ndarray of shape (N,)
        Class of each.
    margin : ndarray of shape (N,), float64
        Logit of its own class less the largest other one.
    n_classes : int
        K.
    """

    losses: Floats
    predicted: NDArray[np.intp]
    margin: Floats
    n_classes: int


def judge_logits(logits: ArrayLike, y: NDArray[np.int64], name: str) -> Judged:
    """Hold logits against the classes of their windows.

    Parameters
    ----------
    logits : array-like of shape (N, K), or (N,) or (N, 1)
        A single column is the logit of class 1 against class 0.
    y : ndarray of shape (N,)
        Classes, 0 to K - 1.
    name : str
        Of the argument, for the message.

    Raises
    ------
    ArgumentError
        If the shapes do not fit, or a class is not one of the K.
    """
    columns = np.asarray(logits, np.float64)
    if columns.ndim == 1 or columns.shape[1:] == (1,):
        z = columns.reshape(-1)
        columns = np.stack([np.zeros_like(z), z], axis=1)
    if columns.ndim != 2 or len(columns) != len(y) or not len(y):
        raise ArgumentError(
            f"{name} has shape {np.shape(logits)} for {len(y)} classes in y; expected one row of"
            " logits for each window, (N, K)."
        )
    n_classes = columns.shape[1]
    if y.min() < 0 or y.max() >= n_classes:
        raise ArgumentError(
            f"y has class {y.min() if y.min() < 0 else y.max()}, but {name} has {n_classes}"
            " columns; code the classes 0 to K - 1."
        )
    rows = np.arange(len(y))
    own = columns[rows, y]
    others = columns.copy()
    others[rows, y] = -np.inf
    with np.errstate(invalid="ignore", over="ignore"):  # a model that has diverged
        top = columns.max(axis=1, keepdims=True)
        losses = np.log(np.exp(columns - top).sum(axis=1)) + top[:, 0] - own
        margin = own - others.max(axis=1)
    return Judged(losses, columns.argmax(axis=1), margin, n_classes)


def class_codes(y: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return classes as codes (N,) from codes, a column of them, or rows of one per class.

    Raises
    ------
    ArgumentError
        If they are not whole numbers.
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        return np.asarray(values.argmax(axis=1), np.int64)
    values = values.reshape(-1)
    if values.dtype.kind not in "biuf" or not np.array_equal(values, np.rint(values)):
        raise ArgumentError(f"{name} are not whole numbers; code the classes 0 to K - 1.")
    return values.astype(np.int64)


class ForeignRun:
    """The history and the record of a training loop, epoch by epoch.

    What was not told is absent from the history and NaN or empty in the record.
    """

    def __init__(self) -> None:
        self.history = History()
        self.n_classes: int | None = None
        self._n_val: int | None = None
        self._started_s = time.perf_counter()
        self._epoch_steps = [0]
        self._steps: dict[str, list[Floats]] = {name: [] for name in STEP_NAMES}
        self._class_counts: list[NDArray[np.int32]] | None = []
        self._fixed: list[tuple[float, float]] = []
        self._fixed_rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._val_rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._val_target: NDArray[np.int64] | None = None
        self._val_groups: NDArray[np.int64] | None = None
        self._val_predicted: list[NDArray[np.uint16]] = []
        self._val_margin: list[NDArray[np.float16]] = []
        self._train_target: dict[int, int] = {}
        self._train_margin: list[dict[int, float]] = []

    def judge_validation(
        self, logits: ArrayLike, y: ArrayLike, groups: ArrayLike | None
    ) -> dict[str, float]:
        """Take in what the model says of the validation windows after the epoch that ends now.

        Returns
        -------
        dict
            `val_loss` and `val_accuracy`.

        Raises
        ------
        ArgumentError
            If windows or groups are not those of the epochs before, in the same order.
        """
        target = class_codes(y, "validation labels")
        judged = judge_logits(logits, target, "validation logits")
        codes = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        if codes is not None and codes.shape != target.shape:
            raise ArgumentError(
                f"validation groups have shape {codes.shape} for {len(target)} windows;"
                " give one for each."
            )
        if self._val_target is None:
            self._val_target, self._n_val = target, len(target)
            self._val_rows = spread_evenly(len(target))
        elif not np.array_equal(self._val_target, target):
            raise ArgumentError(
                f"the {len(target)} validation windows are not those of the epoch before, which"
                f" were {len(self._val_target)}, in the same order: take shuffle=False and the same"
                " windows after every epoch. Each is followed on its own."
            )
        if codes is not None:
            if self._val_groups is not None and not np.array_equal(self._val_groups, codes):
                raise ArgumentError("validation groups are not those of the epoch before.")
            self._val_groups = codes.astype(np.int64)
        self.n_classes = judged.n_classes
        self._val_predicted.append(judged.predicted[self._val_rows].astype(np.uint16))
        self._val_margin.append(to_half(judged.margin[self._val_rows]))
        accuracy = float(np.mean(judged.predicted == target))
        return {"val_loss": float(judged.losses.mean()), "val_accuracy": accuracy}

    def set_validation_size(self, n_val: int) -> None:
        """Take in how many windows are behind figures that came without predictions."""
        self._n_val = check_count("n_val", n_val)

    def set_fixed_rows(self, rows: NDArray[np.int64]) -> None:
        """Take in which training windows are those of the fixed subset."""
        self._fixed_rows = rows

    def end_epoch(
        self,
        steps: Mapping[str, Floats],
        row: Mapping[str, Any],
        *,
        class_counts: NDArray[np.int32] | None = None,
        fixed: tuple[float, float] = (np.nan, np.nan),
        train: tuple[NDArray[np.int64], Floats, NDArray[np.int64]] | None = None,
    ) -> dict[str, Any]:
        """Close an epoch.

        Parameters
        ----------
        steps : mapping of str to ndarray of shape (S,)
            Some of `STEP_NAMES`.
        row : mapping
            Columns of the history but for `epoch` and `duration_s`.
        class_counts : ndarray of shape (S, K), optional
            Windows of each class in each step.
        fixed : tuple of float
            Loss and accuracy of the fixed subset.
        train : tuple of ndarray, optional
            Row, margin and class of each training window that was met.

        Returns
        -------
        dict
            The row of the history.
        """
        n_steps = max((len(values) for values in steps.values()), default=0)
        self._epoch_steps.append(self._epoch_steps[-1] + n_steps)
        for name in STEP_NAMES:
            self._steps[name].append(steps.get(name, np.full(n_steps, np.nan)))
        counted = self._class_counts
        if class_counts is None:
            self._class_counts = None if n_steps else counted
        elif counted and class_counts.shape[1] != counted[0].shape[1]:
            self._class_counts = None  # the classes were counted in two ways
        elif counted is not None:
            counted.append(class_counts)
            self.n_classes = class_counts.shape[1]
        self._fixed.append(fixed)
        self._follow(train)
        now_s = time.perf_counter()
        whole = {"epoch": len(self.history) + 1, **row, "duration_s": now_s - self._started_s}
        self._started_s = now_s
        self.history.append(whole)
        return whole

    def _follow(self, train: tuple[NDArray[np.int64], Floats, NDArray[np.int64]] | None) -> None:
        margins: dict[int, float] = {}
        if train is not None:
            rows, margin, target = train
            if not self._train_target:
                chosen = np.unique(rows, return_index=True)[1]
                chosen = chosen[spread_evenly(len(chosen))]
                codes = zip(rows[chosen].tolist(), target[chosen].tolist(), strict=True)
                self._train_target = dict(codes)
            met = zip(rows.tolist(), margin.tolist(), strict=True)
            margins = {row: value for row, value in met if row in self._train_target}
        self._train_margin.append(margins)

    @property
    def record(self) -> TrainingRecord:
        """Everything up to the end of the last epoch."""
        n_epochs = len(self.history)
        record = TrainingRecord(
            epoch_steps=np.array(self._epoch_steps, np.int64),
            steps={name: _joined(parts) for name, parts in self._steps.items()},
            fixed_rows=self._fixed_rows,
        )
        if self._class_counts:
            record.class_counts = np.concatenate(self._class_counts)
        if len(self._fixed_rows):
            record.fixed_loss, record.fixed_accuracy = np.array(self._fixed, np.float64).T
        # Epochs without predictions cannot be told apart in the record: all or none.
        if self._val_target is not None and len(self._val_predicted) == n_epochs:
            record.val_rows = self._val_rows
            record.val_target = self._val_target[self._val_rows]
            if self._val_groups is not None:
                record.val_groups = self._val_groups[self._val_rows]
            record.val_predicted = np.stack(self._val_predicted)
            record.val_margin = np.stack(self._val_margin)
        if self._train_target:
            rows = list(self._train_target)
            record.train_rows = np.array(rows, np.int64)
            record.train_target = np.array(list(self._train_target.values()), np.int64)
            margins = [[of.get(row, np.nan) for row in rows] for of in self._train_margin]
            record.train_margin = to_half(np.array(margins))
        return record

    def report(
        self, *, n_classes: int | None, best_epoch: int | None, n_train: int | None = None
    ) -> FluctuationReport:
        """Judge what was heard so far.

        Raises
        ------
        ArgumentError
            If no epoch has ended.
        """
        if not len(self.history):
            raise ArgumentError("no epoch has ended yet, so there is nothing to judge.")
        record = self.record
        if n_train is None and record.n_epochs:
            of_epochs = np.split(record.steps["n_windows"], record.epoch_steps[1:-1])
            most = max(float(of_epoch.sum()) for of_epoch in of_epochs)
            n_train = int(most) if most > 0 else None  # NaN where a batch's size is not known
        majority = None
        if self._val_target is not None:
            majority = float(np.bincount(self._val_target).max() / len(self._val_target))
        return FluctuationReport.from_history(
            self.history,
            self._n_val,
            n_train=n_train,
            n_classes=self.n_classes if n_classes is None else n_classes,
            majority_fraction=majority,
            best_epoch=best_epoch,
            record=record,
        )


def spread_evenly(n_windows: int) -> NDArray[np.int64]:
    """Return which of so many windows are followed: all, or `MAX_WATCHED` evenly spread ones."""
    count = min(n_windows, MAX_WATCHED)
    return np.linspace(0, n_windows - 1, count).round().astype(np.int64)


def to_half(margin: ArrayLike) -> NDArray[np.float16]:
    """Return margins as float16, those beyond its range as its ends."""
    largest = float(np.finfo(np.float16).max)
    return np.asarray(np.clip(np.asarray(margin, np.float64), -largest, largest), np.float16)


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
