"""regrade: what the trials make of the ranked causes."""

from collections.abc import Sequence
from dataclasses import replace

from sensorseq.fluctuation.cause_words import likely
from sensorseq.fluctuation.causes.cause import HIDDEN, IDENTIFIED, Cause, Trial
from sensorseq.fluctuation.causes.score import UNKNOWN
from sensorseq.fluctuation.probes.proof import Proof

# How much likelier a trial of this outcome is when the cause is the right one than when it is not:
# what the stop rule was set to allow (alpha 0.05, beta 0.10, see `stop_rule`), rounded down.
CONFIRMED_RATIO, REJECTED_RATIO = 15.0, 0.1
NEW_CONFIDENCE = 0.05  # of a cause that the statistics had not named, before its trial


def regrade(
    causes: Sequence[Cause], trials: Sequence[Trial], proofs: Sequence[Proof], *, calm: bool = False
) -> tuple[Cause, ...]:
    """Return the causes with the grades and confidences that trials give them, likeliest first.

    Parameters
    ----------
    causes : sequence of Cause
        As the statistics ranked them, checks of the data before. Of two with one name the surer
        counts, and says what the other says as well.
    trials : sequence of Trial
        What was tried.
    proofs : sequence of Proof
        What the trials prove, the best first. One that names no cause grades none, nor do its
        trials.
    calm : bool, default=False
        Whether the verdict is normal. What makes the curve rough then does not compete with what
        costs accuracy.

    Returns
    -------
    tuple of Cause
        What is proved comes first, in the order of `proofs`. Those that only had trials that failed
        are ``"rejected"`` and come last.
    """
    silent = {name for proof in proofs if not proof.names_cause for name in proof.trials}
    trials = [trial for trial in trials if trial.name not in silent]
    proofs = [proof for proof in proofs if proof.names_cause]
    of_name: dict[str, list[Trial]] = {}
    for trial in trials:
        of_name.setdefault(trial.cause, []).append(trial)
    proved = {proof.cause: proof for proof in reversed(proofs)}
    known: dict[str, Cause] = {}
    for cause in causes:
        known[cause.name] = _joined(known.get(cause.name), cause)
    unknown = known.pop(UNKNOWN, None)
    for name in (*of_name, *proved):
        is_undecided = name not in proved and any(
            trial.outcome != "rejected" for trial in of_name[name]
        )
        if name not in known and not is_undecided:
            known[name] = Cause(name, "observed", NEW_CONFIDENCE, "")
    weighed = [
        _weigh(cause, of_name.get(name, []), proved.get(name)) for name, cause in known.items()
    ]
    rivals = {cause.name for cause in weighed if not calm or cause.name in HIDDEN}
    total = max(1.0, sum(cause.confidence for cause in weighed if cause.name in rivals))
    weighed = [
        replace(cause, confidence=cause.confidence / (total if cause.name in rivals else 1.0))
        for cause in weighed
    ]
    place = {name: number for number, name in enumerate(dict.fromkeys(p.cause for p in proofs))}
    order = {"proved": 1, "rejected": 3}

    def key(cause: Cause) -> tuple[float, float, float]:
        # what makes a calm curve rough comes after what costs accuracy
        open_place = 2.5 if calm and cause.name not in HIDDEN else 2.0
        return order.get(cause.grade, open_place), place.get(cause.name, 0), -cause.confidence

    weighed.sort(key=key)
    first = weighed[0] if weighed else None
    is_known = first is not None and (
        first.grade == "proved" or (first.grade != "rejected" and first.confidence >= IDENTIFIED)
    )
    if unknown is not None and not is_known:
        rest = max(0.0, 1.0 - sum(cause.confidence for cause in weighed))
        weighed.insert(0, _still_unknown(rest, weighed, bool(trials)))
    return tuple(weighed)


def _joined(one: Cause | None, other: Cause) -> Cause:
    if one is None:
        return other
    surer, less = (other, one) if other.confidence > one.confidence else (one, other)
    if not less.evidence or less.evidence in surer.evidence:
        return surer
    return replace(surer, evidence=f"{surer.evidence} {less.evidence}".strip())


def _still_unknown(confidence: float, weighed: Sequence[Cause], is_tried: bool) -> Cause:
    """Return the cause that is not known, told by what the trials left."""
    left = [cause for cause in weighed if cause.grade != "rejected"]
    evidence, advice = "Abnormal, and no cause was proved", ""
    if left:
        evidence += (
            f": the likeliest left, {left[0].title}, has {likely(left[0].confidence)}, less than a"
            f" half, and {likely(confidence)} is left for what is not listed"
        )
        if is_tried:
            advice = "Probes with a larger budget may settle it."
    return Cause(UNKNOWN, "observed", confidence, f"{evidence}.", advice=advice)


def _weigh(cause: Cause, trials: Sequence[Trial], proof: Proof | None) -> Cause:
    if proof is not None:
        finding = proof.finding or cause.finding
        if finding != cause.finding:  # what was said of the other side does not hold
            cause = replace(cause, finding=finding, advice="", statistics=())
        elif dict(proof.repair) != dict(cause.recommendation):  # nor what goes with another repair
            cause = replace(cause, advice="")
        return replace(
            cause,
            grade="proved",
            confidence=_updated(cause.confidence, CONFIRMED_RATIO),
            evidence=proof.sentence,
            recommendation=dict(proof.repair),
            alternatives=tuple(proof.alternatives),
        )
    if trials and all(trial.outcome == "rejected" for trial in trials):
        return replace(
            cause,
            grade="rejected",
            confidence=_updated(cause.confidence, REJECTED_RATIO),
            evidence=" ".join(trial.sentence for trial in trials),
        )
    return cause


def _updated(confidence: float, ratio: float) -> float:
    confidence = min(max(confidence, 1e-3), 1 - 1e-3)
    odds = ratio * confidence / (1 - confidence)
    return odds / (1 + odds)
