"""minimal_repair: the fewest of the proved changes that a run needs."""

import math
from collections.abc import Sequence
from typing import Any

from sensorseq.fluctuation.probes.arm import ArmResult, Lab
from sensorseq.fluctuation.probes.first_weights import (
    AVERAGED,
    AVERAGING,
    Repair,
    can_make,
    costs_accuracy,
    fit_to_purse,
    in_words,
    measure_anew,
    repair_arm,
)
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.rounds import Progress
from sensorseq.fluctuation.probes.verify import verify
from sensorseq.fluctuation.run import plural

__all__ = ["Repair", "minimal_repair", "verify"]
NEEDED_RATIO = 1.5  # of the noise without a change to that with it, from where it is needed


def minimal_repair(
    lab: Lab, purse: Purse, proofs: Sequence[Proof], progress: Progress | None = None
) -> Repair:
    """Return the proved changes that a run needs, each dropped in turn from the same first weights.

    A change is needed if the noise without it is more than 1.5 times that with all of them, or the
    validation accuracy lower by more than one standard error. Of those that are not, the least
    proved one is dropped, and what is left is looked at again.

    Parameters
    ----------
    lab : Lab
        Of the run.
    purse : Purse
        What may be spent. What it cannot pay for is kept, and said.
    proofs : sequence of Proof
        The best first; where two set one argument, the first does.
    progress : callable, optional
        Is given a sentence before each round.
    """
    usable = [proof for proof in proofs if proof.repair]
    if not usable:
        return Repair({}, _nothing(proofs))
    kept = list(usable)
    results: dict[tuple[int, ...], ArmResult] = {}
    while len(kept) > 1:
        sets = [kept, *([other for other in kept if other is not one] for one in kept)]
        keys = [tuple(usable.index(one) for one in members) for members in sets]
        arms = {
            key: repair_arm(lab, _union(members))
            for key, members in zip(keys, sets, strict=True)
            if key not in results
        }
        is_possible = can_make(lab, _union(kept))
        ready = fit_to_purse(purse, list(arms.values())) if is_possible else None
        if ready is None:
            why = "the budget did not reach to telling which of them is not needed"
            if not is_possible:
                why = "not all can be made here, to tell which of them is not needed"
            return Repair(_union(kept), f"{_proved(kept)}; {why}.")
        if progress is not None and ready:
            progress(f"{plural(len(ready), 're-run')} from first weights: each repair left out")
        results.update(zip(arms, purse.run(ready), strict=True))
        whole = results[keys[0]]
        needless = [
            one
            for one, key in zip(kept, keys[1:], strict=True)
            if not _is_worse(lab, results[key], whole)
        ]
        if not needless:
            break
        kept.remove(needless[-1])
    note = f"{_proved(kept)}."
    if len(usable) > 1:
        dropped = [one for one in usable if one not in kept]
        note = f"Of {plural(len(usable), 'proved change')} each was left out in turn: "
        note += f"{_named(dropped)} is not needed." if dropped else "all are needed."
    return Repair(_union(kept), note)


def _union(proofs: Sequence[Proof]) -> dict[str, Any]:
    """Return all changes together; the first says what an argument is."""
    union: dict[str, Any] = {}
    for proof in reversed(proofs):
        union.update(proof.repair)
    return union


def _is_worse(lab: Lab, without: ArmResult, whole: ArmResult) -> bool:
    ratio = measure_anew(lab, without).log_noise - measure_anew(lab, whole).log_noise
    return ratio > math.log(NEEDED_RATIO) or costs_accuracy(lab, without, whole)


def _named(proofs: Sequence[Proof]) -> str:
    return " and ".join(in_words(proof.repair) for proof in proofs)


def _proved(kept: Sequence[Proof]) -> str:
    """Say what was proved; what stands for it was not run itself."""
    averaged = [one for one in kept if AVERAGED.items() <= one.repair.items()]
    if any(AVERAGING not in one.trials for one in averaged):
        return f"{_named(kept)} {'is' if len(kept) == 1 else 'are'} taken for what was proved"
    words = f"{_named(kept)} {'was' if len(kept) == 1 else 'were'} proved"
    if any(one.repair != AVERAGED for one in averaged):
        words += ", each change by itself"
    names_cause = any(one.names_cause for one in kept)
    return words if names_cause else f"{words} to calm it, which names no cause"


def _nothing(proofs: Sequence[Proof]) -> str:
    """Return why there is no repair by arguments."""
    lowered = [proof for proof in proofs if proof.rate_factor != 1]
    if lowered:
        return f"Multiply the learning rate by {lowered[0].rate_factor:g}: {lowered[0].sentence}"
    return "Nothing was proved, so nothing is changed."
