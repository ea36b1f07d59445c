"""FluctuationReport judges a training history; TrainingMonitor records one and judges it."""

import os
import reprlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_integer_or_none, check_per_window, check_real
from sensorseq.base.text import plain, plural
from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.causes import Cause, find_causes
from sensorseq.diagnosis.judge import judge
from sensorseq.diagnosis.logs import read_history
from sensorseq.diagnosis.metrics import (
    Floats,
    Run,
    check_epoch,
    from_plain,
    read_columns,
    read_numbers,
)
from sensorseq.diagnosis.report_text import headline, write_report
from sensorseq.diagnosis.statements import ReportContents
from sensorseq.errors import ArgumentError
from sensorseq.history import MAX_WATCHED, History, TrainingRecord
from sensorseq.io.atomic import write_whole

_SAVED: tuple[str, ...]
_SAVED = ("verdict", "severity", "generalization", "statements", "causes", "statistics")
_SAVED += ("n_epochs", "n_val", "n_train", "n_classes", "best_epoch", "history", "evidence")
_SAVED += ("model",)
_VERSION = 7
# limits of a report file, so that its page can be rendered
_MOST_STATEMENTS, _MOST_LEVELS, _MOST_ENTRIES = 1000, 20, 300_000
_CONTAINERS: Any = (list, tuple, type({}.values()))


HistoryLike = Any
"""Anything that `from_history` accepts; `Any` avoids importing Keras and pandas."""


@dataclass(frozen=True, eq=False, repr=False)
class FluctuationReport(ReportContents):
    """A verdict on whether a training curve fluctuates too much, with numbers and explanations.

    Make a report with `from_history`, or use `fluctuation_` of a fitted classifier. Print the
    report, display it in a notebook, or write it as a page with `to_html`.

    Attributes
    ----------
    verdict : str
        ``"normal"``, ``"fluctuating"``, ``"diverged"``, ``"not_learning"`` or
        ``"too_short_to_tell"``.
    severity : str or None
        ``"mild"`` or ``"strong"`` if the verdict is ``"fluctuating"``.
    statements : tuple of Statement
        The sentences of the report, the most important first. `explanation` contains their texts.
    causes : tuple of Cause
        Possible causes: the findings of the data checks, then the settings outside the ranges that
        were measured to help. No setting is named if the run is normal.
    statistics : dict of str to Statistic
        Measured values, each with the reference value (floor) that it was compared with.
    n_epochs : int
        Number of epochs in the history.
    n_val, n_train, n_classes, best_epoch : int or None
        As given to `from_history`.
    history : dict of str to list
        All numeric columns; None where an epoch has no entry.
    evidence : dict of str to list
        Series to draw; see `sensorseq.diagnosis.evidence.collect_evidence`.
    record : TrainingRecord or None
        Data recorded in addition to the history; not in `to_dict` or pickles.
    columns_read : dict of str to str
        Maps our name for each recognized column to its name in the log. Not part of `to_dict`.
    model : FeatureChoice or None
        For a fit with features: the members of the model with their weights, and the accuracy of
        the model on windows left out. The verdict is about the curve of the LSTM alone.
    """

    @classmethod
    def from_history(
        cls,
        history: HistoryLike,
        n_val: int | None = None,
        *,
        n_train: int | None = None,
        n_classes: int | None = None,
        majority_fraction: float | None = None,
        best_epoch: int | None = None,
        record: TrainingRecord | None = None,
        columns: Mapping[str, str | None] | None = None,
        arguments: Mapping[str, Any] | None = None,
        data_facts: Sequence[Cause] = (),
    ) -> "FluctuationReport":
        """Judge a training curve by the values recorded after each epoch.

        Parameters
        ----------
        history : History, mapping of lists, list of rows, DataFrame, Keras History, str or path
            Columns `loss`, `val_loss` (cross-entropy in nats), `accuracy`, `val_accuracy`
            (fractions), under these or other usual names (see `sensorseq.diagnosis.log_names`). A
            string or path names a file: a table (Keras, Lightning, fastai), JSON (skorch,
            transformers, `History.to_json`), a TensorBoard event file or the folder of one run.
            An epoch may have a row for each part if a column such as `phase` names the part. Of the
            other columns, only `learning_rate` is used: epochs right after a rise are not judged.
            None means "not recorded"; NaN in a loss means that the loss was not a number. `loss`
            should be the mean over all training windows of the epoch, because a mean of batch means
            is noisier.
        n_val : int, optional
            Number of independent validation windows for `val_accuracy`. Without `n_val`, the
            report cannot determine how much of the curve is sampling noise.
        n_train : int, optional
            Number of training windows for `accuracy`.
        n_classes : int, optional
            Number of classes K, which determines the accuracy and the loss of guessing.
        majority_fraction : float, optional
            Fraction of the most frequent class in the validation set, which is the accuracy of a
            constant answer; ``1 / n_classes`` when not given.
        best_epoch : int, optional
            Epoch, counted from 1, whose weights were kept.
        record : TrainingRecord, optional
            Data recorded in addition to the history, such as the record of a fit by this package.
        columns : mapping of str to str or None, optional
            Maps our names to columns that are not recognized, such as ``dict(accuracy="my_acc")``,
            or to None if no column may be used.
        arguments : mapping of str to object, optional
            Arguments of the fitted estimator; the report names those outside their range.
        data_facts : sequence of Cause, optional
            Findings of the data checks.

        Raises
        ------
        ArgumentError
            If the history has no epochs, none of the columns needed, or an invalid value.
        InputError
            If a file cannot be read, has no valid history, or has two columns that match one role.

        Warns
        -----
        UserWarning
            When epochs occur twice (a resumed run, folds), a test part counts as validation, or a
            training loss belongs to single batches.

        Examples
        --------
        >>> import math
        >>> loss = [0.5 + math.exp(-t / 5) + 0.2 * (-1) ** t for t in range(40)]
        >>> FluctuationReport.from_history({"loss": loss}).verdict
        'fluctuating'
        """
        if majority_fraction is not None:
            majority_fraction = check_real(
                "majority_fraction", majority_fraction, 0, 1, low_open=True, high_open=False
            )
        read = read_history(history, columns)
        with read.naming_it():
            values, n_epochs = read_columns(read.rows)
        numbers = read_numbers(read.rows)
        run = Run(
            values,
            n_epochs,
            n_val=check_integer_or_none("n_val", n_val),
            n_train=check_integer_or_none("n_train", n_train),
            n_classes=check_integer_or_none("n_classes", n_classes, 2),
            majority_fraction=majority_fraction,
            best_epoch=check_epoch(best_epoch, n_epochs),
            learning_rate=numbers.get("learning_rate"),
            record=record,
        )
        with read.naming_it():
            verdict, severity, statements = judge(run)
        kinds = {statement.kind for statement in statements}
        of_run = ("statistics", "n_epochs", "n_val", "n_train", "best_epoch", "evidence")
        return cls(
            verdict,
            severity,
            tuple(statements),
            find_causes(run, verdict, arguments, data_facts, kinds),
            n_classes=None if n_classes is None else int(n_classes),
            history=numbers,
            record=record,
            columns_read=read.names,
            **{name: getattr(run, name) for name in of_run},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for `json.dumps`.

        NaN and infinity become None, keys of arguments become strings, and functions become their
        names.
        """
        parts = {name: plain(getattr(self, name)) for name in _SAVED}
        return {"format": "sensorseq.fluctuation", "version": _VERSION, **parts}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "FluctuationReport":
        """Rebuild a report from the output of `to_dict`; non-finite numbers become None or NaN.

        The report is rendered once as text and as a page, so that rendering cannot fail later.

        Parameters
        ----------
        description : mapping
            The output of `to_dict`.

        Raises
        ------
        ArgumentError
            If `description` is something else, is damaged, or has a different format version.
        """
        return cls._from_dict(description, is_page=True)

    @classmethod
    def _from_dict(cls, description: Mapping[str, Any], *, is_page: bool) -> "FluctuationReport":
        """Rebuild a report; with `is_page`, also render its page to check the contents."""
        if not isinstance(description, Mapping):
            raise ArgumentError(
                f"from_dict needs the output of to_dict, not {type(description).__name__}."
            )
        kind, version = (description.get(name) for name in ("format", "version"))
        is_ours = isinstance(kind, str) and kind == "sensorseq.fluctuation"
        if is_ours and isinstance(version, int) and version != _VERSION:
            raise ArgumentError(
                f"this fluctuation report has format version {version}, but this version of"
                f" sensorseq reads version {_VERSION}; fit again."
            )
        try:
            if not is_ours or version != _VERSION:
                raise ValueError(f"format {reprlib.repr(kind)}, version {reprlib.repr(version)}")
            saved = {name: description[name] for name in _SAVED}
            del saved["generalization"]  # follows from the statements
            if is_page:
                _check_size(saved)
            report: FluctuationReport = from_plain(cls, saved)
            from_plain(Mapping[str, list[float]], report.history)
            lengths = {len(column) for column in report.history.values()} or {report.n_epochs}
            if len(lengths) > 1 or not 0 <= report.n_epochs <= max(lengths):
                raise ValueError(f"its history does not have {report.n_epochs} epochs")
            _ = str(report), repr(report), is_page and report._as_page()
        except Exception as error:  # malformed contents may break any part of the page
            raise ArgumentError(
                f"this is not a fluctuation report of version {_VERSION}: {error!r}."
            ) from error
        return report

    def __repr__(self) -> str:
        facts = [repr(headline(self).upper()), plural(self.n_epochs, "epoch")]
        if self.causes:
            facts.append(f"suspected {' '.join(self.causes[0].title.split())}")
        return f"FluctuationReport({', '.join(facts)})"

    def __str__(self) -> str:
        return write_report(self)

    def _repr_html_(self) -> str:
        from sensorseq.diagnosis.report_page import make_fragment

        return make_fragment(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page with the verdict, reasons, curves, causes, repair and statistics.

        The file is self-contained and follows the system's light or dark theme.

        Parameters
        ----------
        path : str or path
            Name of the file. It is written completely or not at all, and replaces an existing file.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        write_whole(path, self._as_page().encode())

    def _as_page(self) -> str:
        from sensorseq.diagnosis.report_page import make_page

        return make_page(self)


def _check_size(description: Mapping[str, Any]) -> None:
    """Raise an error if a description is nested too deeply or is too large for a page."""
    if any(len(description[name]) > _MOST_STATEMENTS for name in ("statements", "causes")):
        raise ValueError(f"it has more than {_MOST_STATEMENTS} statements or causes")
    level: list[Any] = [description]
    for _ in range(_MOST_LEVELS):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [inner for part in parts if isinstance(part, _CONTAINERS) for inner in part]
        if len(level) > _MOST_ENTRIES:
            break
    if level:
        raise ValueError(f"it has more than {_MOST_LEVELS} levels or {_MOST_ENTRIES} entries")


_LEAST_PROBABILITY = 1e-7  # before the logarithm, probabilities are kept this far from 0 and 1
_SUM_TOLERANCE = 0.02  # the sum of half-precision probabilities may deviate from 1 by this much
_MARGIN_LIMIT = float(np.finfo(np.float16).max)


class TrainingMonitor:
    """Follow a training loop in torch, Keras, JAX or any other framework, and judge its curve.

    Call `log_epoch` at the end of each epoch. With the model's outputs for the validation windows,
    the report shows whether a rough curve is due to too few windows, a few recordings or the model
    itself. The report is most reliable if outputs for some training windows are given, too, because
    their loss does not depend on dropout or on the random batches. Compute outputs in evaluation
    mode, for the same windows in the same order after every epoch. If you already have a table of
    the epochs, use `FluctuationReport.from_history` instead.

    Parameters
    ----------
    y_val : array-like of shape (N,), optional
        Classes of the validation windows, 0 to K - 1.
    groups_val : array-like of shape (N,), optional
        Recording of each validation window; windows of one recording tend to fail together.
    y_fixed : array-like of shape (M,), optional
        Classes of the training windows whose outputs you log: the same few hundred in each epoch.

    Attributes
    ----------
    history : History
        The logged values and `duration_s`, with a row for each epoch.

    Raises
    ------
    ArgumentError
        If labels are not classes, or labels and groups differ in number.

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
        n_windows = 0 if self._y_val is None else len(self._y_val)
        self._groups = check_per_window("groups_val", groups_val, n_windows, ArgumentError, "y_val")
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
        """Log an epoch at its end; every argument is optional.

        Parameters
        ----------
        loss, accuracy : float, optional
            Mean cross-entropy in nats, and accuracy as a fraction, of the epoch's training windows.
        learning_rate : float, optional
            Learning rate of the epoch. Epochs right after a rise are not judged.
        val_loss, val_accuracy : float, optional
            Mean loss and accuracy of the validation windows, if you do not log their outputs.
        val_outputs : array or tensor of shape (N, K), or (N,) or (N, 1), optional
            Logits or probabilities for the windows of `y_val`; rows that sum to 1 count as
            probabilities. For two classes, one column for class 1 is enough.
        fixed_outputs : array or tensor of shape (M, K), or (M,) or (M, 1), optional
            Logits or probabilities for the windows of `y_fixed`.

        Returns
        -------
        dict
            The row of the history.

        Raises
        ------
        ArgumentError
            If outputs do not match the labels.
        """
        row = {"loss": loss, "accuracy": accuracy, "learning_rate": learning_rate}
        row |= {"val_loss": val_loss, "val_accuracy": val_accuracy}
        row = {name: float(value) for name, value in row.items() if value is not None}
        if val_outputs is not None:
            logits, y = self._read("val", val_outputs, self._y_val)
            rows = self._followed_rows
            self._predicted.append(logits[rows].argmax(axis=1).astype(np.uint16))
            margin = np.clip(_margin(logits[rows], y[rows]), -_MARGIN_LIMIT, _MARGIN_LIMIT)
            self._margin.append(margin.astype(np.float16))
            row["val_loss"], row["val_accuracy"] = _judge(logits, y)
        if fixed_outputs is not None:
            self._fixed.append(_judge(*self._read("fixed", fixed_outputs, self._y_fixed)))
        now_s = time.perf_counter()
        row = {"epoch": len(self.history) + 1, **row, "duration_s": now_s - self._started_s}
        self._started_s = now_s
        self.history.append(row)
        return row

    @property
    def _followed_rows(self) -> NDArray[np.int64]:
        """Indices of the validation windows that are followed individually, evenly spaced."""
        n = 0 if self._y_val is None else len(self._y_val)
        return np.linspace(0, n - 1, min(n, MAX_WATCHED)).round().astype(np.int64)

    def _read(self, part: str, outputs: Any, y: NDArray[np.int64] | None) -> tuple[Floats, Any]:
        """Return logits (N, K) and the classes; an error names the part."""
        if hasattr(outputs, "detach"):
            outputs = outputs.detach().cpu()
            outputs = outputs.double() if outputs.is_floating_point() else outputs
        logits = _as_logits(np.asarray(outputs, np.float64))
        if y is None:
            raise ArgumentError(f"{part}_outputs need classes: TrainingMonitor(y_{part}=...)")
        if logits.ndim != 2 or len(logits) != len(y):
            raise ArgumentError(
                f"{part}_outputs has shape {np.shape(outputs)} for {len(y)} labels in y_{part};"
                " expected a row for each window, (N, K)."
            )
        if y.max() >= logits.shape[1]:
            raise ArgumentError(
                f"y_{part} has class {y.max()}, but {part}_outputs has {logits.shape[1]}"
                " columns; code the classes 0 to K - 1."
            )
        self._n_classes = logits.shape[1]
        return logits, y

    @property
    def record(self) -> TrainingRecord:
        """The logged data as a record; results of windows need outputs in every epoch."""
        n_epochs = len(self.history)
        record = TrainingRecord(epoch_steps=np.zeros(n_epochs + 1, np.int64))
        if self._y_fixed is not None and 0 < len(self._fixed) == n_epochs:
            record.fixed_rows = np.arange(len(self._y_fixed))
            record.fixed_loss, record.fixed_accuracy = np.array(self._fixed, np.float64).T
        if self._y_val is not None and 0 < len(self._predicted) == n_epochs:
            rows = self._followed_rows
            record.val_rows, record.val_target = rows, self._y_val[rows]
            if self._groups is not None:
                codes = np.unique(self._groups, return_inverse=True)[1]
                record.val_groups = codes[rows].astype(np.int64)
            record.val_predicted = np.stack(self._predicted)
            record.val_margin = np.stack(self._margin)
        return record

    def report(self, **given: Any) -> FluctuationReport:
        """Judge the epochs logged so far.

        Parameters
        ----------
        **given
            Arguments of `FluctuationReport.from_history`, such as `n_train` and `best_epoch`.
            Logged data need not be given.
        """
        if not len(self.history):
            raise ArgumentError("no epoch has ended yet, so there is nothing to judge.")
        logged: dict[str, Any] = {"record": self.record, "n_classes": self._n_classes}
        if self._y_val is not None:
            n_val = len(self._y_val)
            logged |= {"n_val": n_val, "majority_fraction": np.bincount(self._y_val).max() / n_val}
        return FluctuationReport.from_history(self.history, **(logged | given))


def _codes(name: str, y: ArrayLike | None) -> NDArray[np.int64] | None:
    if y is None:
        return None
    values: Any = y.detach().cpu() if hasattr(y, "detach") else y
    values = np.asarray(values).reshape(-1)
    is_whole = values.dtype.kind in "biuf" and np.array_equal(values, np.rint(values))
    if not is_whole or not len(values) or values.min() < 0:
        raise ArgumentError(
            f"{name} must be classes coded 0 to K - 1, as by np.unique(y, return_inverse=True)[1]."
        )
    return np.asarray(values, np.int64)


def _as_logits(outputs: Floats) -> Floats:
    """Convert probabilities or logits of any shape to logits or log-probabilities (N, K)."""
    is_single = outputs.ndim == 1 or outputs.shape[1:] == (1,)
    columns = outputs.reshape(-1, 1) if is_single else outputs
    sums = 1.0 if is_single else columns.sum(axis=-1)
    if np.all((columns >= 0) & (columns <= 1)) and np.all(np.abs(sums - 1.0) < _SUM_TOLERANCE):
        p = np.clip(columns, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        columns = np.log(p) - np.log1p(-p) if is_single else np.log(p)
    return np.hstack([np.zeros_like(columns), columns]) if is_single else columns


def _judge(logits: Floats, y: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy."""
    with np.errstate(invalid="ignore", over="ignore"):  # the result for a diverged model is NaN
        loss = float(metrics.cross_entropy(logits, y).mean())
    return loss, float(np.mean(logits.argmax(axis=1) == y))


def _margin(logits: Floats, y: NDArray[np.int64]) -> Floats:
    """Return the logit of each window's class minus the largest other logit."""
    rows, rivals = np.arange(len(y)), logits.copy()
    rivals[rows, y] = -np.inf
    with np.errstate(invalid="ignore"):
        return np.asarray(logits[rows, y] - rivals.max(axis=1))
