"""regrade: what the trials make of the ranked causes."""

from collections.abc import Sequence
from dataclasses import replace

from sensorseq.fluctuation.causes.cause import Cause, Trial
from sensorseq.fluctuation.probes.purse import Findings

# How much likelier a trial of this outcome is when the cause is the right one than when it is not:
# what the stop rule was set to allow (alpha 0.05, beta 0.10, see `stop_rule`), rounded down.
CONFIRMED_RATIO, REJECTED_RATIO = 15.0, 0.1
NEW_CONFIDENCE = 0.05  # of a cause that the statistics had not named, before its trial
UNKNOWN_BELOW = 0.5


def regrade(causes: Sequence[Cause], findings: Findings, verdict: str) -> tuple[Cause, ...]:
    """Return the causes with the grades and confidences that trials give them, likeliest first.

    Parameters
    ----------
    causes : sequence of Cause
        As the statistics ranked them; of two with one name the first counts.
    findings : Findings
        What the probes brought back.
    verdict : str
        Of the report.

    Returns
    -------
    tuple of Cause
        Those that a trial confirmed are ``"proved"``, those that only had trials that failed are
        ``"rejected"`` and come last.
    """
    of_name: dict[str, list[Trial]] = {}
    for trial in findings.trials:
        of_name.setdefault(trial.cause, []).append(trial)
    known: dict[str, Cause] = {}
    for cause in causes:
        known.setdefault(cause.name, cause)
    unknown = known.pop("unknown", None)
    for name, trials in of_name.items():
        if name not in known:
            known[name] = Cause(name, "observed", NEW_CONFIDENCE, trials[0].sentence)
    weighed = [_weigh(cause, of_name.get(cause.name, [])) for cause in known.values()]
    free = 1.0 if unknown is None else 1.0 - unknown.confidence
    total = sum(cause.confidence for cause in weighed)
    rest = max(0.0, 1.0 - max(free, min(total, 1.0))) if total < 1 else 0.0
    scale = 1.0 if total + rest <= 1.0 else 1.0 / total
    weighed = [replace(cause, confidence=cause.confidence * scale) for cause in weighed]
    order = {"repaired": 0, "proved": 1, "rejected": 3}
    weighed.sort(key=lambda cause: (order.get(cause.grade, 2), -cause.confidence))
    standing = [cause for cause in weighed if cause.grade != "rejected"]
    if unknown is not None and (
        not standing or (standing[0].grade != "proved" and standing[0].confidence < UNKNOWN_BELOW)
    ):
        weighed.insert(0, unknown)
    return tuple(weighed)


def _weigh(cause: Cause, trials: Sequence[Trial]) -> Cause:
    outcomes = {trial.outcome for trial in trials}
    if "confirmed" in outcomes:
        best = next(trial for trial in trials if trial.outcome == "confirmed")
        recommendation = dict(best.change) or cause.recommendation
        return replace(
            cause,
            grade="proved",
            confidence=_updated(cause.confidence, CONFIRMED_RATIO),
            evidence=f"{best.sentence} {cause.evidence}"
            if cause.evidence != best.sentence
            else best.sentence,
            recommendation=recommendation,
        )
    if outcomes == {"rejected"}:
        last = trials[-1]
        return replace(
            cause,
            grade="rejected",
            confidence=_updated(cause.confidence, REJECTED_RATIO),
            evidence=last.sentence,
        )
    return cause


def _updated(confidence: float, ratio: float) -> float:
    confidence = min(max(confidence, 1e-3), 1 - 1e-3)
    odds = ratio * confidence / (1 - confidence)
    return odds / (1 + odds)
