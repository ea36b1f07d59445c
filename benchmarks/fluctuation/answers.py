"""What a report answers, and which answers are right."""

from collections.abc import Sequence
from typing import Any

from fluctuation.plan import causes_of
from fluctuation.runs import read_arguments
from verdict.runs import Evidence

from sensorseq.estimator.report import make_report
from sensorseq.fluctuation.causes.cause import hidden_cause
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.history import History
from sensorseq.training.config import CLASSIFICATION

NORMAL, UNKNOWN = "normal", "unknown"
# Seen in the validation or training curve alone: the model is as calm as the twin's, and either it
# is said that nothing is wrong, or what makes the curve rough. Dropout may cost some accuracy,
# which nobody can see without the twin.
OF_THE_CURVE = ("small_validation_set", "distribution_shift", "dropout_noise")
# Where noise dominates only learning rate over batch size can be told; a network that learns its
# windows by heart is stopped by fewer weights, by a penalty, or in time; a step too long is too
# long because of its rate or of the rule that makes it.
EQUIVALENT = (
    frozenset({"learning_rate", "batch_size"}),
    frozenset({"learning_rate", "optimizer"}),
    frozenset({"model_complexity", "regularization"}),
    frozenset({"early_stopping", "regularization"}),
    frozenset({"early_stopping", "model_complexity"}),
    frozenset({"regularization", "dropout_noise"}),
)


def report_of(run: Evidence) -> FluctuationReport:
    """Judge a run again as its classifier did."""
    arguments = read_arguments(run.plan["arguments"], run.facts["n_classes"])
    return make_report(
        History(run.rows),
        arguments.get("loss", "cross_entropy"),
        CLASSIFICATION,
        record=run.record,
        arguments=arguments,
        **run.facts,
    )


def answers_of(report: FluctuationReport) -> list[tuple[str, float]]:
    """Return what is answered, likeliest first, with confidences: causes, or that all is normal.

    A cause that is rejected is no answer. A report that finds something wrong and names no cause
    answers ``"unknown"``. One that calls a curve calm, and what costs it accuracy likelier than
    not, answers that before ``"normal"``.
    """
    named: dict[str, float] = {}
    for cause in report.causes:  # one may be there with two findings: the likelier counts
        if cause.grade != "rejected":
            named.setdefault(cause.name, cause.confidence)
    if report.verdict == NORMAL:
        hidden = hidden_cause(report.verdict, report.causes)
        if hidden is None:
            return [(NORMAL, 1.0), *named.items()]
        sure = named.pop(hidden.name)
        return [(hidden.name, sure), (NORMAL, 1 - sure), *named.items()]
    return list(named.items()) or [(UNKNOWN, 0.0)]


def right_answers(plan: dict[str, Any], fault: str) -> frozenset[str]:
    """Return the right first answers on a run, given what the oracle says of it."""
    injected = frozenset(causes_of(plan))
    of_the_curve = injected & frozenset(OF_THE_CURVE)
    if fault and not (of_the_curve and fault == "less accurate"):
        return injected
    return of_the_curve | {NORMAL}


def without_unknown(answers: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Leave out ``"unknown"``, which says that what follows is not sure, where something does."""
    return [answer for answer in answers if answer[0] != UNKNOWN] or list(answers)


def names_of(answers: Sequence[tuple[str, float]]) -> list[str]:
    """Return what is answered, the likeliest first, without confidences."""
    return [name for name, _ in without_unknown(answers)]


def is_right(answers: Sequence[str], right: frozenset[str], n_first: int) -> bool:
    """Tell whether a right answer is among the first.

    That all is normal is an answer of its own: what is named after it explains and accuses nobody.
    """
    counted = answers[:1] if answers[:1] == [NORMAL] else answers[:n_first]
    return bool(right & set(counted))


def is_equivalent(answer: str, injected: Sequence[str]) -> bool:
    """Tell whether a cause is one that is injected, or its repair repairs that as well."""
    return answer in injected or any(frozenset({answer, one}) in EQUIVALENT for one in injected)
