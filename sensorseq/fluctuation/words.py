"""A report in words: the verdict, what people ask of a curve, and what it cannot tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorseq.fluctuation.causes.cause import TROUBLED, hidden_cause
from sensorseq.fluctuation.run import plural
from sensorseq.fluctuation.thresholds import (
    MIN_EPOCHS,
    OVERFITTING_RISE_NATS,
)

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

# How sentences of the explanation begin that answer one of the questions.
_KEPT = ("The weights kept", "Which epoch's weights")
_NOISE = ("The noise is",)
_DESCENT = (
    "The training loss still falls",
    "The training loss has been flat",
    "The training loss hardly falls",
)
_OPEN = "cannot be told"
_LATE = 0.9  # of the epochs: a best one after this may not be the best yet


@dataclass(frozen=True)
class Answer:
    """One question about the curve, and what the report has to say.

    Parameters
    ----------
    label : str
        The question in a word, for a column of text.
    question : str
        In full.
    text : str
        The answer, a sentence or two.
    """

    label: str
    question: str
    text: str


def banner_words(report: "FluctuationReport") -> str:
    """Return the verdict in words, with its severity."""
    words = report.verdict.replace("_", " ")
    return f"{words} ({report.severity})" if report.severity else words


def sizes(report: "FluctuationReport") -> str:
    """Return how much there was to judge by."""
    parts = " / ".join(
        f"{count} {part}"
        for count, part in ((report.n_train, "train"), (report.n_val, "validation"))
        if count is not None
    )
    facts = [f"{parts} windows"] if parts else []
    if report.n_classes is not None:
        facts.append(f"{report.n_classes} classes")
    return ", ".join([*facts, plural(report.n_epochs, "epoch")])


def answer(report: "FluctuationReport") -> tuple[Answer, Answer, Answer]:
    """Return the three answers, in the order they are asked."""
    return (
        Answer("Normal?", "Is this normal?", _normal(report)),
        Answer("Longer?", "Will more epochs help?", _more_epochs(report)),
        Answer("Kept", "Which weights are kept?", _kept(report)),
    )


def remaining(report: "FluctuationReport", answers: Sequence[Answer]) -> list[str]:
    """Return the sentences of the explanation that no answer has repeated."""
    said = {part.text for part in answers}
    return [sentence for sentence in report.explanation if sentence not in said]


def _normal(report: "FluctuationReport") -> str:
    if report.verdict == "normal":
        return "Yes. Nothing about its noise has to be repaired."
    if report.verdict == "fluctuating":
        how = {"mild": "somewhat ", "strong": "much "}.get(report.severity or "", "")
        return f"No. It moves {how}more than a healthy run does."
    return {
        "diverged": "No. Training broke down.",
        "not_learning": "No. However calm it looks, nothing is being learned.",
        "too_short_to_tell": "It cannot be told yet.",
    }.get(report.verdict, "See the verdict.")


def _more_epochs(report: "FluctuationReport") -> str:
    if report.verdict == "diverged":
        return "No. What comes after a breakdown does not recover by itself."
    if report.verdict == "not_learning":
        return "Hardly: a setting or the data has to change first."
    if report.verdict == "too_short_to_tell":
        return f"Train longer: {MIN_EPOCHS} epochs after the initial descent are needed to judge."
    rise = report.statistics.get("val_loss_rise_after_lowest")
    if rise is not None and rise.value > OVERFITTING_RISE_NATS + (rise.floor or 0.0):
        return "No. Validation loss has been rising since its lowest epoch, beyond luck."
    if report.verdict == "fluctuating":
        return _sentence(report, _NOISE) or "Whether the noise falls with them cannot be told."
    if sentence := _sentence(report, _DESCENT):
        return sentence
    if report.best_epoch is None:
        return "Nothing here calls for more, or fewer."
    if report.best_epoch > _LATE * report.n_epochs:
        return f"Perhaps: the best epoch, {report.best_epoch}, is among the last."
    return f"Hardly: the best of {plural(report.n_epochs, 'epoch')} was {report.best_epoch}."


def _kept(report: "FluctuationReport") -> str:
    if sentence := _sentence(report, _KEPT):
        return sentence
    if report.best_epoch is None:
        return "Which epoch's weights were kept is not recorded here."
    return f"The weights kept are those of epoch {report.best_epoch} of {report.n_epochs}."


def _sentence(report: "FluctuationReport", beginnings: tuple[str, ...]) -> str | None:
    return next((s for s in report.explanation if s.startswith(beginnings)), None)


def limits(report: "FluctuationReport") -> list[str]:
    """Return what the report leaves open, and what would settle it."""
    told = [sentence for sentence in report.explanation if _OPEN in sentence]
    if report.history.get("loss") and "fixed_loss" not in report.evidence:
        told.append(
            "The training loss is a mean over each epoch: the batches as they were drawn, dropout"
            " and augmentation are in it, beside what the model does. A fit of this package also"
            " follows the loss of fixed windows."
        )
    told += _unproved(report)
    told.append("Whether another seed, or another split, would look the same: this is one run.")
    return told


def _unproved(report: "FluctuationReport") -> list[str]:
    """Return what there is to say of the cause, where none is proved."""
    hidden = hidden_cause(report.verdict, report.causes)
    if report.verdict not in TROUBLED and hidden is None:
        return []
    if any(cause.grade in ("proved", "repaired") for cause in report.causes):
        return []
    if report.probes is not None:
        n_trials = plural(len(report.probes.trials), "trial")
        return [f"What the cause is: {n_trials} by controlled re-runs proved none."]
    if not report.causes:
        return ["What the cause is: this report describes, it has tried nothing."]
    who = (
        "probe_module with a budget"
        if report.of_module
        else "report.probe(X, y) of a fitted classifier"
    )
    return [
        "Whether the first of the causes is the true one: they are told from figures, nothing was"
        f" tried. {who} tries them by controlled re-runs."
    ]
