"""A report in words: the verdict, what people ask of a curve, and what it cannot tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorseq.fluctuation.causes.cause import TROUBLED, hidden_cause
from sensorseq.fluctuation.run import plural
from sensorseq.fluctuation.statements import Statement, of_topic, say
from sensorseq.fluctuation.thresholds import MIN_EPOCHS

if TYPE_CHECKING:
    from sensorseq.fluctuation.report import FluctuationReport

_GENERALIZATION = {"overfitting": "overfits", "not_generalizing": "does not generalize"}
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
    statement : Statement or None
        That of the report that it quotes.
    """

    label: str
    question: str
    text: str
    statement: Statement | None = None


def banner_words(report: "FluctuationReport") -> str:
    """Return the verdict in words, with its severity, and whether it generalizes."""
    words = report.verdict.replace("_", " ")
    words = f"{words} ({report.severity})" if report.severity else words
    if report.generalization is None:
        return words
    between = "but" if report.verdict == "normal" else "and"
    return f"{words}, {between} {_GENERALIZATION[report.generalization]}"


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
    more, kept = _more_epochs(report), _kept(report)
    quoted = [part if isinstance(part, Statement) else None for part in (more, kept)]
    return (
        Answer("Normal?", "Is this normal?", _normal(report)),
        Answer("Longer?", "Will more epochs help?", str(more), quoted[0]),
        Answer("Kept", "Which weights are kept?", str(kept), quoted[1]),
    )


def remaining(report: "FluctuationReport", answers: Sequence[Answer]) -> list[str]:
    """Return the texts of the statements that no answer has repeated."""
    quoted = [part.statement for part in answers]
    return [str(statement) for statement in report.statements if statement not in quoted]


def _normal(report: "FluctuationReport") -> str:
    if report.verdict == "normal" and report.generalization is not None:
        return f"Its noise is, but it {_GENERALIZATION[report.generalization]}."
    if report.verdict == "normal":
        return "Yes. Nothing about its noise has to be repaired."
    if report.verdict == "fluctuating":
        how = {"mild": "somewhat ", "strong": "much "}.get(report.severity or "", "")
        return f"No. It moves {how}more than a healthy run does."
    return {
        "diverged": "No. Training broke down.",
        "not_learning": "No. However calm it looks, nothing useful is being learned.",
        "too_short_to_tell": "It cannot be told yet.",
    }.get(report.verdict, "See the verdict.")


def _more_epochs(report: "FluctuationReport") -> Statement | str:
    if report.verdict == "diverged":
        return "No. What comes after a breakdown does not recover by itself."
    if report.verdict == "not_learning":
        return "Hardly: a setting or the data has to change first."
    if report.verdict == "too_short_to_tell":
        return f"Train longer: {MIN_EPOCHS} epochs after the initial descent are needed to judge."
    if report.generalization == "overfitting":
        return "No. It has been getting worse on the validation windows, beyond luck."
    if report.verdict == "fluctuating":
        found = of_topic(report.statements, "noise")
        return found[0] if found else "Whether the noise falls with them cannot be told."
    if found := of_topic(report.statements, "descent"):
        return found[0]
    if report.best_epoch is None:
        return "Nothing here calls for more, or fewer."
    if report.best_epoch > _LATE * report.n_epochs:
        return f"Perhaps: the best epoch, {report.best_epoch}, is among the last."
    return f"Hardly: the best of {plural(report.n_epochs, 'epoch')} was {report.best_epoch}."


def _kept(report: "FluctuationReport") -> Statement:
    if found := of_topic(report.statements, "kept"):
        return found[0]
    if report.best_epoch is None:
        return say("kept_unknown")
    return say("kept", epoch=report.best_epoch, n_epochs=report.n_epochs)


def limits(report: "FluctuationReport") -> list[str]:
    """Return what the report leaves open, and what would settle it."""
    still_open = of_topic(report.statements, "open")
    if report.history.get("loss") and "fixed_loss" not in report.evidence:
        still_open.append(say("running_loss"))
    still_open += _unproved(report)
    return [str(statement) for statement in [*still_open, say("one_run")]]


def _unproved(report: "FluctuationReport") -> list[Statement]:
    """Return what there is to say of the cause, where none is proved."""
    if report.verdict not in TROUBLED and hidden_cause(report.verdict, report.causes) is None:
        return []
    if any(cause.grade in ("proved", "repaired") for cause in report.causes):
        return []
    if report.probes is not None:
        return [say("none_proved", n=len(report.probes.trials))]
    if not report.causes:
        return [say("none_sought")]
    return [say("not_tried_module" if report.of_module else "not_tried")]
