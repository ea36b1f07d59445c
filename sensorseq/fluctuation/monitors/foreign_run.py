"""ForeignRun: what a training loop that is not ours reports, as History and TrainingRecord."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.causes.foreign_words import in_foreign_words
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.run import Floats, check_count
from sensorseq.history import History
from sensorseq.training_record import MAX_WATCHED, STEP_NAMES, TrainingRecord

Ints = NDArray[np.int64]


class Judged(NamedTuple):
    """How a model does on N windows.

    The loss is the mean cross-entropy in nats; a margin is the logit of the window's class less the
    largest other one.
    """

    loss: float
    accuracy: float
    predicted: NDArray[np.intp]
    margin: Floats
    n_classes: int


class TrainMargins(NamedTuple):
    """Row, margin and class of the training windows that an epoch met."""

    rows: Ints
    margin: Floats
    target: Ints


def judge_logits(logits: ArrayLike, y: Ints, name: str) -> Judged:
    """Compare logits (N, K), or (N,) of class 1 against class 0, with the classes."""
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
    own, others = columns[rows, y], columns.copy()
    others[rows, y] = -np.inf
    with np.errstate(invalid="ignore", over="ignore"):  # a model that has diverged
        loss = float(metrics.cross_entropy(columns, y).mean())
        margin = own - others.max(axis=1)
    predicted = columns.argmax(axis=1)
    return Judged(loss, float(np.mean(predicted == y)), predicted, margin, n_classes)


def class_codes(y: ArrayLike, name: str) -> Ints:
    """Return classes as codes (N,) from codes, a column of them, or rows of one per class."""
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] > 1:
        return np.asarray(values.argmax(axis=1), np.int64)
    values = values.reshape(-1)
    if values.dtype.kind not in "biuf" or not np.array_equal(values, np.rint(values)):
        raise ArgumentError(f"{name} are not whole numbers; code the classes 0 to K - 1.")
    return values.astype(np.int64)


class Monitor:
    """What the monitors of torch and of Keras share: history, record and report of a training loop.

    What was not given is absent from the history and NaN or empty in the record.
    """

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin  # "torch" or "keras"
        self.history = History()
        self._n_classes: int | None = None
        self._n_val: int | None = None
        self._n_train: int | None = None  # the steps tell it where it is None
        self._fixed_rows: Ints = np.zeros(0, np.int64)
        self._started_s = time.perf_counter()
        self._epoch_steps = [0]
        self._noted: dict[str, list[Floats]] = {name: [] for name in STEP_NAMES}
        self._fixed_scores: list[tuple[float, float]] = []
        self._val_rows: Ints = np.zeros(0, np.int64)
        self._val_target: Ints | None = None
        self._val_groups: Ints | None = None
        self._val_predicted: list[NDArray[np.uint16]] = []
        self._val_margin: list[NDArray[np.float16]] = []
        self._train_target: dict[int, int] = {}  # of the rows that are followed
        self._train_margin: list[dict[int, float]] = []

    def _judge_validation(
        self, logits: ArrayLike, y: ArrayLike, groups: ArrayLike | None
    ) -> dict[str, float]:
        """Return `val_loss` and `val_accuracy` of the same windows after every epoch."""
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
            self._val_rows = _spread_evenly(len(target))
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
        self._n_classes = judged.n_classes
        self._val_predicted.append(judged.predicted[self._val_rows].astype(np.uint16))
        self._val_margin.append(_to_half(judged.margin[self._val_rows]))
        return {"val_loss": judged.loss, "val_accuracy": judged.accuracy}

    def _judge_fixed(self, logits: ArrayLike, y: Ints) -> tuple[float, float]:
        """Return the loss and the accuracy of the fixed subset."""
        judged = judge_logits(logits, y, "outputs of the model")
        self._n_classes = judged.n_classes
        return judged.loss, judged.accuracy

    def _close_epoch(
        self,
        steps: Mapping[str, Floats],
        row: Mapping[str, Any],
        *,
        fixed: tuple[float, float] = (np.nan, np.nan),
        train: TrainMargins | None = None,
    ) -> dict[str, Any]:
        """Close an epoch, and return its row; `fixed` is loss and accuracy of the fixed subset."""
        n_steps = max((len(values) for values in steps.values()), default=0)
        self._epoch_steps.append(self._epoch_steps[-1] + n_steps)
        for name in STEP_NAMES:
            self._noted[name].append(steps.get(name, np.full(n_steps, np.nan)))
        self._fixed_scores.append(fixed)
        self._train_margin.append({} if train is None else self._follow(train))
        now_s = time.perf_counter()
        whole = {"epoch": len(self.history) + 1, **row, "duration_s": now_s - self._started_s}
        self._started_s = now_s
        self.history.append(whole)
        return whole

    def _follow(self, train: TrainMargins) -> dict[int, float]:
        if not self._train_target:
            chosen = np.unique(train.rows, return_index=True)[1]
            chosen = chosen[_spread_evenly(len(chosen))]
            codes = zip(train.rows[chosen].tolist(), train.target[chosen].tolist(), strict=True)
            self._train_target = dict(codes)
        met = zip(train.rows.tolist(), train.margin.tolist(), strict=True)
        return {row: value for row, value in met if row in self._train_target}

    @property
    def record(self) -> TrainingRecord:
        """Everything up to the end of the last epoch, as arrays."""
        record = TrainingRecord(
            epoch_steps=np.array(self._epoch_steps, np.int64),
            steps={name: np.concatenate([[], *parts]) for name, parts in self._noted.items()},
            fixed_rows=self._fixed_rows,
        )
        if len(self._fixed_rows):
            record.fixed_loss, record.fixed_accuracy = np.array(self._fixed_scores, np.float64).T
        # Epochs without predictions cannot be told apart in the record: all or none.
        if self._val_target is not None and len(self._val_predicted) == len(self.history):
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
            record.train_margin = _to_half(np.array(margins))
        return record

    def report(
        self,
        *,
        n_val: int | None = None,
        n_classes: int | None = None,
        best_epoch: int | None = None,
    ) -> FluctuationReport:
        """Judge the epochs that have ended.

        Parameters
        ----------
        n_val : int, optional
            Windows behind `val_accuracy`, where the monitor was given no predictions for them.
        n_classes : int, optional
            Number of classes, if no logits were given; for the accuracy of guessing.
        best_epoch : int, optional
            Epoch, counted from 1, whose weights you keep.
        """
        if not len(self.history):
            raise ArgumentError("no epoch has ended yet, so there is nothing to judge.")
        if n_val is not None:
            self._n_val = check_count("n_val", n_val)
        record, n_train, target = self.record, self._n_train, self._val_target
        if n_train is None and record.n_epochs:
            of_epochs = np.split(record.steps["n_windows"], record.epoch_steps[1:-1])
            most = max(float(of_epoch.sum()) for of_epoch in of_epochs)
            n_train = int(most) if most > 0 else None  # NaN where a batch's size is not known
        report = FluctuationReport.from_history(
            self.history,
            self._n_val,
            n_train=n_train,
            n_classes=self._n_classes if n_classes is None else n_classes,
            majority_fraction=None if target is None else np.bincount(target).max() / len(target),
            best_epoch=best_epoch,
            record=record,
        )
        return replace(report, causes=in_foreign_words(report.causes, self._origin))


def _spread_evenly(n_windows: int) -> Ints:
    """Return which of so many windows are followed: all, or `MAX_WATCHED` evenly spread ones."""
    count = min(n_windows, MAX_WATCHED)
    return np.linspace(0, n_windows - 1, count).round().astype(np.int64)


def _to_half(margin: ArrayLike) -> NDArray[np.float16]:
    """Return margins as float16, those beyond its range as its ends."""
    largest = float(np.finfo(np.float16).max)
    return np.asarray(np.clip(np.asarray(margin, np.float64), -largest, largest), np.float16)
