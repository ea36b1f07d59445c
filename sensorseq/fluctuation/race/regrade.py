"""Proof: what a trial proves; regrade: what the trials make of the ranked causes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.fluctuation.causes.cause import DESCRIPTIVE, Cause, Trial
from sensorseq.fluctuation.causes.rank import join, with_unknown
from sensorseq.fluctuation.causes.table import UNKNOWN


@dataclass(frozen=True)
class Proof:
    """What trials proved.

    Parameters
    ----------
    cause, finding : str
        As in `Cause`.
    repair : dict
        Arguments that were tried and adopted.
    sentence : str
        The evidence.
    trials : tuple of str
        Names of the trials behind it.
    """

    cause: str
    finding: str
    repair: Mapping[str, Any]
    sentence: str
    trials: tuple[str, ...]


PROVED_ODDS, REJECTED_ODDS = 15.0, 0.1  # by which a proof or failed trials change the odds
NEW_CONFIDENCE = 0.05  # of a cause that was not ranked, before its proof
EXCLUDED = ("inference", "rejected")  # such a trial excludes a cause for good, and it is listed


def regrade(
    causes: Sequence[Cause], trials: Sequence[Trial], proofs: Sequence[Proof], *, calm: bool = False
) -> tuple[Cause, ...]:
    """Return the causes with the grades that trials give them.

    Parameters
    ----------
    causes : sequence of Cause
        As they were ranked, and what the checks of the data found.
    trials : sequence of Trial
        What was tried. A cause whose trials all did worse than the run is ``"rejected"``.
    proofs : sequence of Proof
        What is proved, the best first.
    calm : bool, default=False
        Whether the verdict is normal; what explains a rough curve then comes after what costs
        accuracy.

    Returns
    -------
    tuple of Cause
        The proved ones first, the rejected ones last.
    """
    proved = {proof.cause: proof for proof in reversed(proofs)}
    known = {cause.name: cause for cause in join(causes) if cause.name != UNKNOWN}
    excluded = [one.cause for one in trials if (one.kind, one.outcome) == EXCLUDED]
    for name in (*proved, *excluded):
        known.setdefault(name, Cause(name, "observed", NEW_CONFIDENCE, ""))
    places = {proof.cause: place for place, proof in enumerate(proofs)}
    graded = []
    for name, cause in known.items():
        own = [trial for trial in trials if trial.cause == name]
        if name in proved:
            graded.append(_proved(cause, proved[name]))
        elif own and all(trial.outcome == "rejected" for trial in own):
            graded.append(_rejected(cause, own))
        else:
            graded.append(cause)

    def key(cause: Cause) -> tuple[float, int]:
        open_place = 2 if calm and cause.name in DESCRIPTIVE else 1
        place = {"proved": 0, "rejected": 3}.get(cause.grade, open_place)
        return place, places.get(cause.name, 0) if place == 0 else 0

    graded.sort(key=key)
    is_known = calm or any(cause.grade == "proved" for cause in graded)
    was_unknown = any(cause.name == UNKNOWN for cause in causes)
    if is_known or not was_unknown:
        return tuple(graded)
    rejected = tuple(cause for cause in graded if cause.grade == "rejected")
    return (*with_unknown([cause for cause in graded if cause.grade != "rejected"]), *rejected)


def _proved(cause: Cause, proof: Proof) -> Cause:
    confidence = _updated(cause.confidence, PROVED_ODDS)
    if proof.finding and proof.finding != cause.finding:  # words of another side do not hold
        cause = replace(cause, finding=proof.finding, advice="", statistics=(), sources={})
    return replace(
        cause,
        grade="proved",
        confidence=confidence,
        family_confidence=max(confidence, cause.family_confidence),
        evidence=proof.sentence,
        recommendation=dict(proof.repair),
        alternatives=(),
        sources={**cause.sources, "race": proof.sentence},
    )


def _rejected(cause: Cause, trials: Sequence[Trial]) -> Cause:
    said = " ".join(trial.sentence for trial in trials)
    return replace(
        cause,
        grade="rejected",
        confidence=_updated(cause.confidence, REJECTED_ODDS),
        family_confidence=0.0,
        evidence=said,
        sources={**cause.sources, "race": said},
    )


def _updated(confidence: float, ratio: float) -> float:
    confidence = min(max(confidence, 1e-3), 1 - 1e-3)
    odds = ratio * confidence / (1 - confidence)
    return odds / (1 + odds)
