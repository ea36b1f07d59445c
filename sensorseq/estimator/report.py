"""The report of a fit, and warnings about its windows and about how training ended."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from sensorseq.diagnosis.causes import causes_of
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.statements import statement_of
from sensorseq.errors import warn_caller
from sensorseq.history import History, TrainingRecord
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.window_checks import check_label_channels, check_shares, check_windows
from sensorseq.prediction.checked_windows import Windows
from sensorseq.training import TrainingResult

_JUDGED = ("loss", "val_loss", "val_accuracy")  # a report needs at least one of these columns


def check_parts(train: Windows | None, validation: Windows | None) -> tuple[Finding, ...]:
    """Return findings about the scaled windows, unless they are streamed from a file."""
    return () if train is None else tuple(check_windows(train, validation))


def check_class_shares(
    train: Windows, validation: Windows | None, classes: list[Any]
) -> tuple[Finding, ...]:
    """Check the class frequencies; warn about classes with too few windows for both parts."""
    parts = [part for part in (train, validation) if part is not None]
    groups = [part.groups for part in parts if part.groups is not None]
    target = np.concatenate([part.target for part in parts])
    together = np.concatenate(groups) if len(groups) == len(parts) else None
    findings = tuple(check_shares(target, classes, together))
    for finding in findings:
        if finding.kind == "single_window" and validation is not None:
            warn_caller(str(finding))
    return findings


def warn_of_label_channels(windows: Windows, train: Windows, channels: list[str] | None) -> None:
    """Warn if constant channels of the training windows reveal the class."""
    rows_of_train = train.rows

    def read(rows: NDArray[np.int64]) -> Iterator[NDArray[np.floating]]:
        return (piece.X for piece in windows.pieces(windows.row_pieces(rows)))

    split = None
    if windows.rows is not None and rows_of_train is not None:
        split = np.where(np.isin(windows.rows, rows_of_train), "train", "validation")
    finding = check_label_channels(
        read, windows.target, windows.groups, windows.lengths, split, channels
    )
    if finding is not None:
        warn_caller(str(finding))


def make_report(
    history: History, loss: Any, *, record: TrainingRecord | None = None, **facts: Any
) -> FluctuationReport:
    """Return the report on a history.

    If the loss is not in nats, its finite values are ignored. The record is then used only for
    quantities that do not depend on the unit of the loss: predictions, margins, gradients and
    ratios of losses.
    """
    facts["data_facts"] = causes_of(facts.get("data_facts", ()), facts.get("arguments"))
    if not len(history) and facts.get("best_epoch") is None:
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(statement_of("no_history"),),
        )
    if loss == "cross_entropy":
        return FluctuationReport.from_history(history, record=record, **facts)
    if record is not None:  # a loaded record may lack the unit
        record = replace(record, loss_unit="")
    rows = [
        {name: None if "loss" in name and np.isfinite(v) else v for name, v in row.items()}
        for row in history.to_rows()
    ]
    note = statement_of(
        "loss_not_judged", loss=repr(loss) if isinstance(loss, str) else "a function"
    )
    if not any(row.get(name) is not None for row in rows for name in _JUDGED):
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(note, statement_of("nothing_else")),
            n_epochs=len(rows),
            record=record,
            **{
                name: facts[name]
                for name in facts
                if name not in ("majority_fraction", "arguments", "data_facts")
            },
        )
    report = FluctuationReport.from_history(rows, record=record, **facts)
    return replace(report, statements=(*report.statements, note), record=record)


def warn_of_the_end(results: Sequence[TrainingResult], max_epochs: int, n_models: int) -> None:
    """Warn the caller of `fit` if training diverged or was interrupted; name the kept epoch."""
    for result in {result.ended_by: result for result in results[::-1]}.values():
        n_epochs, best_epoch = len(result.history), result.best_epoch
        if result.ended_by == "diverged":
            warn_caller(
                f"training diverged in epoch {n_epochs}: a loss or gradient is not finite. The"
                f" weights of epoch {best_epoch} are kept; see fluctuation_.",
                ConvergenceWarning,
            )
        if result.ended_by == "interrupted":
            n_left_out = n_models - len(results)
            warn_caller(
                f"training was interrupted after epoch {n_epochs} of {max_epochs}; the weights of"
                f" epoch {best_epoch} are kept and the estimator can be used."
                + (f" {n_left_out} of the n_models networks did not start." * (n_left_out > 0)),
            )
