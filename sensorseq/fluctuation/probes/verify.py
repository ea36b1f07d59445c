"""verify: a repair from first weights beside the unchanged run, and which strength of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.candidate import rounded
from sensorseq.fluctuation.probes.first_weights import (
    AVERAGED,
    FALLING,
    Repair,
    can_make,
    costs_accuracy,
    fit_to_purse,
    measure_anew,
    repair_arm,
)
from sensorseq.fluctuation.probes.judging import LOWER_NATS
from sensorseq.fluctuation.probes.noise_of_arms import ArmNumbers
from sensorseq.fluctuation.probes.progress_guard import MARGIN_NATS
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.rounds import Progress
from sensorseq.fluctuation.run import plural
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS

_RESTLESS_RATIO = 0.8  # of the unchanged noise, from where a repair repairs nothing
_RESTLESS_TIMES = 4.0  # the edge of a calm run: of a third of a fit, which still descends
_LEARNED_SHARE = 0.75  # of the loss of guessing, below which a run has learned
_CALM_RATIO = 0.5  # of the unchanged noise, from where a repair counts as calm


def verify(
    lab: Lab,
    purse: Purse,
    proofs: Sequence[Proof],
    repair: Repair,
    progress: Progress | None = None,
) -> Repair:
    """Run a repair from first weights beside the unchanged run, and choose its strength.

    A third of the epochs of the fit, schedules compressed into them. Where the learning rate is
    part of it, a quarter, a sixteenth and a quarter that decays are tried: the highest rate is
    taken that is calm at no worse loss, of the weights as they are and of their mean. Beside an
    average of the weights a rate that falls as well is tried, and taken if it is more accurate by
    one standard error, or if the average alone is not good.

    Parameters
    ----------
    lab, purse, progress
        As in `minimal_repair`.
    proofs : sequence of Proof
        What is proved.
    repair : Repair
        What `minimal_repair` returned.

    Returns
    -------
    Repair
        Empty where no strength is good, and the first costs accuracy by more than one standard
        error, leaves the noise as it is, or makes a calm run move.
    """
    if not repair.change:
        return repair
    if not can_make(lab, repair.change):
        note = "It cannot be made in a run from first weights here."
        return Repair(repair.change, f"{repair.note} {note}")
    variants = [
        change for change in _strengths(lab, proofs, repair.change) if can_make(lab, change)
    ]
    while True:
        arms = [repair_arm(lab, change) for change in ({}, *variants)]
        ready = fit_to_purse(purse, arms)
        if ready is not None:
            break
        if len(variants) == 1:
            note = "It was not run from first weights, as the budget did not reach that far."
            return Repair(repair.change, f"{repair.note} {note}")
        variants = variants[:1]
    if progress is not None:
        progress(f"{plural(len(ready), 're-run')} from first weights: unchanged and repaired")
    unchanged, *repaired = purse.run(ready)
    before = measure_anew(lab, unchanged)
    numbers = [measure_anew(lab, result) for result in repaired]
    good = [
        number
        for number, part in enumerate(numbers)
        if _is_calm(part, before)
        and _is_as_low(part, before)
        and not costs_accuracy(lab, repaired[number], unchanged)
    ]
    # Of equal rates the one that keeps the schedule it had: the smaller change.
    good.sort(key=lambda number: -_rate(lab, variants[number]))
    chosen = good[0] if good else 0
    for other in good[1:]:
        is_alike = _rate(lab, variants[other]) == _rate(lab, variants[chosen])
        if is_alike and costs_accuracy(lab, repaired[chosen], repaired[other]):
            chosen = other
    if not good and costs_accuracy(lab, repaired[0], unchanged):
        note = "From first weights it costs accuracy by more than one standard error; not applied."
        return Repair({}, f"{repair.note} {note}")
    nats = lab.record.unit_after
    has_learned = before.raw < _LEARNED_SHARE * math.log(max(lab.n_classes, 2))
    if not good and has_learned and _makes_it_restless(numbers[0], before):
        moved = f"by {_said(numbers[0])}{nats} per epoch"
        note = f"From first weights it makes a calm run move, {moved}; not applied."
        return Repair({}, f"{repair.note} {note}")
    after = numbers[chosen]
    if not good and _leaves_it_restless(after, before):
        note = f"From first weights the noise stays: {_said(before)} -> {_said(after)}{nats}."
        return Repair({}, f"{repair.note} {note} Not applied.")
    figures = (
        f"From first weights over {plural(ready[0].n_epochs, 'epoch')}: noise"
        f" {_said(before)} -> {_said(after)}{nats}, loss {before.raw:.2f} -> {after.raw:.2f}."
    )
    return Repair(dict(variants[chosen]), f"{repair.note} {figures}")


def _strengths(
    lab: Lab, proofs: Sequence[Proof], change: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the repair, and the same with other learning rates where that is what it lowers."""
    variants = [dict(change)]
    if change == AVERAGED:
        variants.append({**AVERAGED, **FALLING})
    rate = lab.arguments.get("learning_rate")
    is_lowered = any(
        proof.cause in ("learning_rate", "batch_size") and proof.rate_factor < 1 for proof in proofs
    )
    if not (is_lowered and "learning_rate" in change and isinstance(rate, int | float)):
        return variants
    quarter, sixteenth = rounded(rate / 4), rounded(rate / 16)
    for other in (
        {"learning_rate": quarter},
        {"learning_rate": sixteenth},
        {"learning_rate": quarter, **FALLING},
    ):
        variant = {**change, **other}
        if variant not in variants and _differs_from_run(lab, variant, change):
            variants.append(variant)
    return variants


def _differs_from_run(lab: Lab, variant: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether a variant adds something that the run did not have anyway."""
    return any(
        lab.arguments.get(name) != value for name, value in variant.items() if name not in change
    ) or any(variant[name] != change[name] for name in change)


def _rate(lab: Lab, change: Mapping[str, Any]) -> float:
    return float(change.get("learning_rate", lab.arguments.get("learning_rate") or 0.0))


def _is_calm(after: ArmNumbers, before: ArmNumbers) -> bool:
    limit = max(FIXED_LOSS_NOISE_NATS, _CALM_RATIO * before.noise_nats)
    return not after.failed and after.noise_nats <= limit


def _leaves_it_restless(after: ArmNumbers, before: ArmNumbers) -> bool:
    """Whether there was a noise to take, and it is still there, with nothing else won.

    A run that learned nothing was calm at that; one that learns moves.
    """
    is_restless = before.noise_nats > FIXED_LOSS_NOISE_NATS
    if not after.failed and after.raw - before.raw < LOWER_NATS:
        return False
    return is_restless and after.noise_nats > _RESTLESS_RATIO * before.noise_nats


def _makes_it_restless(after: ArmNumbers, before: ArmNumbers) -> bool:
    """Whether a run that was calm is no longer."""
    was_calm = before.noise_nats <= FIXED_LOSS_NOISE_NATS and not before.failed
    return was_calm and after.noise_nats > _RESTLESS_TIMES * FIXED_LOSS_NOISE_NATS


def _is_as_low(after: ArmNumbers, before: ArmNumbers) -> bool:
    """Whether neither loss is worse; a mean that was not measured says nothing."""
    return after.raw <= before.raw + MARGIN_NATS and not (
        after.averaged > before.averaged + MARGIN_NATS
    )


def _said(numbers: ArmNumbers) -> str:
    return "without end" if numbers.failed else f"{numbers.noise_nats:.3f}"
