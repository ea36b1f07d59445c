"""minimal_repair and verify: the fewest of the proved changes that a run needs, from the start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Lab
from sensorseq.fluctuation.probes.candidates import rounded
from sensorseq.fluctuation.probes.noise_of_arms import (
    FIRST_SHARE_ANEW,
    ArmNumbers,
    measure_arm,
)
from sensorseq.fluctuation.probes.progress_guard import MARGIN_NATS
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.rounds import Progress
from sensorseq.fluctuation.run import plural
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS

NEEDED_RATIO = 1.5  # of the noise without a change to that with it, from where it is needed
_LEAST_EPOCHS = 9  # of a run from first weights, a third of which is left out
_SHARE = 3  # of the epochs of the fit, as its inverse
_CALM_RATIO = 0.5  # of the unchanged noise, from where a repair counts as calm


class Repair(NamedTuple):
    """Arguments that repair a run, and how they were found.

    Parameters
    ----------
    change : dict
        For `set_params`; empty where nothing is to be changed.
    note : str
        How it was found, or why it is empty.
    """

    change: dict[str, Any]
    note: str


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
            key: _arm(lab, _union(members), "repaired", 0)
            for key, members in zip(keys, sets, strict=True)
            if key not in results
        }
        ready = _fitted(purse, list(arms.values()))
        if ready is None:
            names = _named(kept)
            why = "the budget did not reach to telling which of them is not needed"
            return Repair(_union(kept), f"{names} were proved; {why}.")
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
    note = f"{_named(kept)} {'was' if len(kept) == 1 else 'were'} proved."
    if len(usable) > 1:
        dropped = [one for one in usable if one not in kept]
        note = f"Of {plural(len(usable), 'proved change')} each was left out in turn: "
        note += f"{_named(dropped)} is not needed." if dropped else "all are needed."
    return Repair(_union(kept), note)


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
    taken that is calm at no worse loss, of the weights as they are and of their mean.

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
        Empty where every strength costs accuracy by more than one standard error.
    """
    if not repair.change:
        return repair
    variants = _strengths(lab, proofs, repair.change)
    while True:
        arms = [Arm("unchanged", 0, start=None, seed=0)]
        arms += [_arm(lab, change, "repaired", number) for number, change in enumerate(variants)]
        ready = _fitted(purse, arms)
        if ready is not None:
            break
        if len(variants) == 1:
            note = "It was not run from first weights, as the budget did not reach that far."
            return Repair(repair.change, f"{repair.note} {note}")
        variants = variants[:1]
    if progress is not None:
        progress(f"{plural(len(ready), 're-run')} from first weights: unchanged and repaired")
    unchanged, *repaired = purse.run(ready)
    before = _measure(lab, unchanged)
    numbers = [_measure(lab, result) for result in repaired]
    good = [
        number
        for number, part in enumerate(numbers)
        if _is_calm(part, before) and _is_as_low(part, before)
    ]
    # Of equal rates the one that keeps the schedule it had: the smaller change.
    good.sort(key=lambda number: -_rate(lab, variants[number]))
    chosen = good[0] if good else 0
    if not good and _costs_accuracy(lab, repaired[0], unchanged):
        note = "From first weights it costs accuracy by more than one standard error; not applied."
        return Repair({}, f"{repair.note} {note}")
    after = numbers[chosen]
    figures = (
        f"From first weights over {plural(ready[0].n_epochs, 'epoch')}: noise"
        f" {_nats(before)} -> {_nats(after)} nats, loss {before.raw:.2f} -> {after.raw:.2f}."
    )
    if not good:
        figures += " Over so few epochs that is not yet calm at no worse loss."
    return Repair(dict(variants[chosen]), f"{repair.note} {figures}")


def _strengths(
    lab: Lab, proofs: Sequence[Proof], change: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the repair, and the same with other learning rates where that is what it lowers."""
    variants = [dict(change)]
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
        {"learning_rate": quarter, "lr_schedule": "cosine"},
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


def _union(proofs: Sequence[Proof]) -> dict[str, Any]:
    """Return all changes together; the first says what an argument is."""
    union: dict[str, Any] = {}
    for proof in reversed(proofs):
        union.update(proof.repair)
    return union


def _arm(lab: Lab, change: Mapping[str, Any], name: str, number: int) -> Arm:
    """Return a run from the first weights of the run, by arguments where the lab knows them."""
    possible = {key: value for key, value in change.items() if key in lab.changeable}
    factor, decays = 1.0, False
    rate = lab.arguments.get("learning_rate")
    if "learning_rate" in change and "learning_rate" not in possible and rate:
        factor = float(change["learning_rate"]) / float(rate)
    if change.get("lr_schedule") == "cosine" and "lr_schedule" not in possible:
        decays = True
    words = ", ".join(f"{key}={value}" for key, value in change.items())
    return Arm(
        f"{name}: {words}" if words else name,
        0,
        start=None,
        seed=0,
        change=possible,
        rate_factor=factor,
        decays=decays,
    )


def _fitted(purse: Purse, arms: Sequence[Arm]) -> list[Arm] | None:
    """Return the arms at the length that can be paid for, None where not even short ones can."""
    most = max(purse.lab.n_epochs // _SHARE, _LEAST_EPOCHS)
    for n_epochs in range(most, _LEAST_EPOCHS - 1, -1):
        ready = [replace(arm, n_epochs=n_epochs) for arm in arms]
        if purse.affords(ready):
            return ready
    return None


def _measure(lab: Lab, result: ArmResult) -> ArmNumbers:
    return measure_arm(result, math.log(max(lab.n_classes, 2)), FIRST_SHARE_ANEW)


def _is_worse(lab: Lab, without: ArmResult, whole: ArmResult) -> bool:
    ratio = _measure(lab, without).log_noise - _measure(lab, whole).log_noise
    return ratio > math.log(NEEDED_RATIO) or _costs_accuracy(lab, without, whole)


def _costs_accuracy(lab: Lab, result: ArmResult, other: ArmResult) -> bool:
    """Whether the accuracy is lower than another one's by more than one standard error."""
    if result.failed and not other.failed:
        return True
    one, two = _late_accuracy(result), _late_accuracy(other)
    if lab.validation is None or not (math.isfinite(one) and math.isfinite(two)):
        return False
    n_windows = len(lab.validation.target)
    rate = min(max(two, 1 / (n_windows + 1)), n_windows / (n_windows + 1))
    return two - one > math.sqrt(rate * (1 - rate) / n_windows)


def _late_accuracy(result: ArmResult) -> float:
    accuracy = np.asarray(result.val_accuracy, np.float64)
    return float(accuracy[len(accuracy) // 2 :].mean()) if len(accuracy) else math.nan


def _is_calm(after: ArmNumbers, before: ArmNumbers) -> bool:
    limit = max(FIXED_LOSS_NOISE_NATS, _CALM_RATIO * before.noise_nats)
    return not after.failed and after.noise_nats <= limit


def _is_as_low(after: ArmNumbers, before: ArmNumbers) -> bool:
    """Whether neither loss is worse; a mean that was not measured says nothing."""
    return after.raw <= before.raw + MARGIN_NATS and not (
        after.averaged > before.averaged + MARGIN_NATS
    )


def _named(proofs: Sequence[Proof]) -> str:
    return " and ".join(
        ", ".join(f"{name}={value!r}" for name, value in proof.repair.items()) for proof in proofs
    )


def _nats(numbers: ArmNumbers) -> str:
    return "without end" if numbers.failed else f"{numbers.noise_nats:.3f}"


def _nothing(proofs: Sequence[Proof]) -> str:
    """Return why there is no repair by arguments."""
    lowered = [proof for proof in proofs if proof.rate_factor != 1]
    if lowered:
        return f"Multiply the learning rate by {lowered[0].rate_factor:g}: {lowered[0].sentence}"
    return "Nothing was proved, so nothing is changed."
