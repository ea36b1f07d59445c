"""The fluctuation report of a fit, and the warnings when it did not end as asked."""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sensorseq.errors import warn_caller
from sensorseq.fluctuation.causes.rank import causes_of
from sensorseq.fluctuation.report.report import FluctuationReport
from sensorseq.fluctuation.statistics.statements import say
from sensorseq.history import History
from sensorseq.training import TrainingResult
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training_record import TrainingRecord

_JUDGED = ("loss", "val_loss", "val_accuracy")  # what a report needs one of


def make_report(
    history: History, loss: Any, task: str, *, record: TrainingRecord | None = None, **facts: Any
) -> FluctuationReport:
    """Judge a history; of a loss that is not in nats only the values that are not finite.

    Of the record of a classifier on such a loss all is looked at that is not in nats either: what
    each window was taken for, margins, gradients, and how losses compare with each other.
    """
    facts["data_facts"] = causes_of(facts.get("data_facts", ()), facts.get("arguments"))
    if not len(history) and facts.get("best_epoch") is None:
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(say("no_history"),),
        )
    if loss == "cross_entropy":
        return FluctuationReport.from_history(history, record=record, **facts)
    if record is not None:  # one that was saved may not say it itself
        record = replace(record, loss_unit="")
    rows = [
        {name: None if "loss" in name and np.isfinite(v) else v for name, v in row.items()}
        for row in history.to_rows()
    ]
    note = say("loss_not_judged", loss=repr(loss) if isinstance(loss, str) else "a function")
    if not any(row.get(name) is not None for row in rows for name in _JUDGED):
        missing = say("nothing_else" if task == CLASSIFICATION else "regression")
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            statements=(note, missing),
            n_epochs=len(rows),
            record=record,
            **{
                name: facts[name]
                for name in facts
                if name not in ("majority_fraction", "arguments", "data_facts")
            },
        )
    judged = record if task == CLASSIFICATION else None  # the causes are those of classifiers
    report = FluctuationReport.from_history(rows, record=judged, **facts)
    return replace(report, statements=(*report.statements, note), record=record)


def warn_of_the_end(
    result: TrainingResult, max_epochs: int, n_left_out: int = 0, checkpoint: Any = None
) -> None:
    """Say that a training diverged or was interrupted, and what is kept; for `fit`'s caller."""
    n_epochs = len(result.history)
    if result.ended_by == "diverged":
        warn_caller(
            f"training diverged in epoch {n_epochs}: a loss or gradient is not finite. The"
            f" weights of epoch {result.best_epoch} are kept; see fluctuation_.",
            ConvergenceWarning,
        )
    if result.ended_by == "interrupted":
        again = "" if checkpoint is None else f" With resume=True fit goes on from {checkpoint}."
        warn_caller(
            f"training was interrupted after epoch {n_epochs} of {max_epochs}; the weights of"
            f" epoch {result.best_epoch} are kept and the estimator can be used."
            + (f" {n_left_out} of n_models had not begun and are left out." if n_left_out else "")
            + again,
        )
