"""conclude: from the candidates that passed to what they prove, equivalent ones named once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sensorseq.fluctuation.causes.cause import Trial
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.first_weights import AVERAGED, FALLING, may_average
from sensorseq.fluctuation.probes.judging import Judge, Tried
from sensorseq.fluctuation.probes.noise_of_arms import CALM_ACCURACY
from sensorseq.fluctuation.probes.progress_guard import MARGIN_NATS
from sensorseq.fluctuation.probes.proof import Proof, RaceFindings, describe, rejected_for
from sensorseq.fluctuation.probes.readings import small_batch
from sensorseq.fluctuation.thresholds import EXCESS_PLATEAU_NATS, FIXED_LOSS_NOISE_NATS


def conclude(
    lab: Lab, judge: Judge, tried: Sequence[Tried], trials: Sequence[Trial]
) -> RaceFindings:
    """Return the trials, with what they prove.

    Parameters
    ----------
    lab : Lab
        Of the run.
    judge : Judge
        Of the race.
    tried : sequence of Tried
        Candidates that had a re-run.
    trials : sequence of Trial
        One for each.
    """
    findings = RaceFindings(trials=list(trials))
    quartet = _Quartet(lab, judge, tried)
    for number, one in enumerate(tried):
        if one.outcome != trials[number].outcome:
            findings.trials[number] = replace(
                trials[number], outcome=one.outcome, sentence=describe(one)
            )
    of_rate = quartet.proof()
    proofs: list[tuple[float, Proof]] = []
    if of_rate is not None:
        proofs.append(of_rate)
    for number, one in enumerate(tried):
        if one.outcome != "confirmed" or one in quartet.members:
            continue
        if one.candidate.cause == "optimizer" and quartet.lower_rate is not None:
            why = "A lower rate of the old optimizer does the same."
            findings.trials[number] = rejected_for(trials[number], why)
            continue
        gain = -np.inf if one.candidate.cause == "preprocessing" else one.raw_change
        proofs.append((float(gain), _plain_proof(one, trials[number])))
    # Unscaled input looks like a rate too high; of the others, who gains most comes first.
    proofs.sort(key=lambda pair: pair[0])
    findings.proofs = _one_a_cause([proof for _, proof in proofs])
    if of_rate is not None and not of_rate[1].names_cause:
        number = tried.index(quartet.averaged[0])
        trial = findings.trials[number]
        words = f"{trial.sentence} The noise costs little loss: it names no cause."
        findings.trials[number] = replace(trial, sentence=words)
    return findings


def _plain_proof(one: Tried, trial: Trial) -> Proof:
    candidate = one.candidate
    return Proof(
        candidate.cause,
        candidate.finding,
        dict(candidate.change),
        trial.sentence,
        (candidate.name,),
        tuple(dict(change) for change in candidate.alternatives if change),
        float(candidate.arm.get("rate_factor", 1.0)),
    )


def _one_a_cause(proofs: Sequence[Proof]) -> list[Proof]:
    """Join proofs of one cause: the first one's repair, those of the others as alternatives."""
    joined: dict[tuple[str, bool], Proof] = {}
    for proof in proofs:
        key = proof.cause, proof.names_cause
        first = joined.get(key)
        if first is None:
            joined[key] = proof
            continue
        joined[key] = Proof(
            first.cause,
            first.finding,
            first.repair,
            f"{first.sentence} {proof.sentence}",
            first.trials + proof.trials,
            (*first.alternatives, proof.repair),
            first.rate_factor,
            first.names_cause,
        )
    return list(joined.values())


# Of what a falling rate gains over a re-run, from where an average of the weights does instead:
# over a whole fit a rate that falls costs accuracy where it ends a training that still gains by it.
# 36 calibration runs that fluctuate: cosine alone repairs 18 and harms 11, the average 19 and none.
_ENOUGH = 0.5
_UNSTABLE_POWER = 1.3  # of the rate, over a factor of 16


class _Quartet:
    """Lower rates, a larger batch, a decay and an average of the weights, read together."""

    def __init__(self, lab: Lab, judge: Judge, tried: Sequence[Tried]) -> None:
        self._lab = lab
        self._judge = judge
        self.rates = [one for one in tried if "rate_factor" in one.candidate.arm]
        self.rates = [
            one
            for one in self.rates
            if one.candidate.cause == "learning_rate" and one.candidate.kind == "snapshot"
        ]
        self.batch = _first(
            one
            for one in tried
            if one.candidate.cause == "batch_size"
            and one.candidate.kind == "snapshot"
            and _is_size(one)
        )
        self.decay = _first(one for one in tried if one.candidate.arm.get("decays"))
        self.average = _first(one for one in tried if one.candidate.change == AVERAGED)
        others = (self.batch, self.decay, self.average)
        self.members = [*self.rates, *(one for one in others if one is not None)]
        self.lower_rate = _first(one for one in self.rates if one.outcome == "confirmed")
        self.averaged = _passed(self.average)
        self._hold_decay_against_lower_rate()

    def _hold_decay_against_lower_rate(self) -> None:
        """Let a falling rate pass that alone gained too little, and is no worse than a lower one.

        Over a re-run a lower rate throughout looks as good; in a whole fit it is slower.
        """
        decay, lower = self.decay, self.lower_rate
        if decay is None or lower is None or decay.reading != "no gain":
            return
        is_as_low = decay.raw_change <= lower.raw_change
        if is_as_low and not decay.averaged_change > lower.averaged_change:
            decay.outcome, decay.reading = "confirmed", "both"

    def proof(self) -> tuple[float, Proof] | None:
        if self._average_does_it():
            return self._steps_too_noisy()
        batch_passed = self.batch is not None and self.batch.outcome == "confirmed"
        if (self.lower_rate is not None or batch_passed) and not self._falling_does_it():
            return self._setting_wrong()
        return self._schedule_missing()

    def _falling_does_it(self) -> bool:
        """Whether a rate that falls in the end is as good as one that is lower throughout.

        It is then the smaller change: a fit keeps the rate that it learns with at first.
        """
        decay, lower = self.decay, self.lower_rate
        if decay is None or decay.outcome != "confirmed" or lower is None:
            return False
        return decay.raw_change <= lower.raw_change + MARGIN_NATS

    def _average_does_it(self) -> bool:
        """Whether an average of the weights gains about what the other changes do that passed.

        It is then the smallest change: the training stays as it is.
        """
        if not self.averaged:
            return False
        (average,), decay = self.averaged, self.decay
        return all(
            average.raw_change <= one.raw_change + MARGIN_NATS
            for one in _passed(*self.rates, self.batch)
        ) and all(_is_enough(-average.raw_change, -one.raw_change) for one in _passed(decay))

    def _steps_too_noisy(self) -> tuple[float, Proof]:
        """Name the rate or the batch size for a noise that an average of the weights takes."""
        (average,), batch, decay = self.averaged, self.batch, self.decay
        passed = [one for one in _passed(*self.members) if one is not average]
        why_batch = small_batch(self._lab)
        is_batch = bool(why_batch) and not (batch is not None and batch.outcome == "rejected")
        is_batch |= passed == [batch]
        is_high = self.lower_rate is not None and decay is not None and decay.outcome == "rejected"
        words = [describe(average), "It leaves every step as it was: the noise is of the steps."]
        excess = self._excess(average)
        if np.isfinite(excess):
            words.append(_better_averaged(excess))
        words += [describe(one) for one in passed]
        if is_batch and why_batch:
            words.append(f"Rate and batch size cannot be told apart by this; {why_batch}.")
        proof = Proof(
            "batch_size" if is_batch else "learning_rate",
            "too small" if is_batch else "too high" if is_high else "schedule missing",
            dict(AVERAGED),
            " ".join(words),
            tuple(one.candidate.name for one in (average, *passed)),
            _distinct([one.candidate.change for one in passed], AVERAGED),
            names_cause=bool(passed) or excess > EXCESS_PLATEAU_NATS,
        )
        return average.raw_change, proof

    def _setting_wrong(self) -> tuple[float, Proof]:
        """Name the rate or the batch size: by position, where the dynamics do not tell."""
        batch = self.batch
        rate_failed = any(
            one.reading == "noise" and one.outcome == "rejected" for one in self.rates
        )
        batch_failed = batch is not None and batch.outcome == "rejected"
        why_batch = small_batch(self._lab)
        is_batch = self.lower_rate is None and rate_failed
        is_batch = is_batch or bool(why_batch and not batch_failed)
        passed = _passed(self.lower_rate, batch)
        passed.sort(
            key=lambda one: one.candidate.cause != ("batch_size" if is_batch else "learning_rate")
        )
        best = passed[0]
        repair = self._calmed(best)
        others = [one.candidate.change for one in passed[1:]]
        others += [change for change in best.candidate.alternatives if not batch_failed]
        also = _passed(*self.rates, self.decay, self.average)
        others += [one.candidate.change for one in also]
        passed += self.averaged
        words = [describe(one) for one in passed] + self._dose()
        if is_batch and why_batch:
            words.append(f"Rate and batch size cannot be told apart by this; {why_batch}.")
        elif not is_batch and not batch_failed:
            words.append("A larger batch would do the same as a lower rate.")
        proof = Proof(
            "batch_size" if is_batch else "learning_rate",
            "too small" if is_batch else "too high",
            repair,
            " ".join(words),
            tuple(one.candidate.name for one in passed),
            _distinct(others, repair),
            float(best.candidate.arm.get("rate_factor", 1.0)),
        )
        return best.raw_change, proof

    def _dose(self) -> list[str]:
        """Tell noise from instability by how fast the noise falls with the rate.

        Noise of the batches is proportional to the rate; a step that is too long for the curvature
        loses far more than that.
        """
        lowest = [one for one in self.rates if one.candidate.follows and one.outcome != "rejected"]
        if self.lower_rate is None or not lowest:
            return []
        one = lowest[0]
        power = one.log_ratio / np.log(float(one.candidate.arm["rate_factor"]))
        words = f"Down to {one.candidate.name} the noise falls with the rate to the power"
        if power > _UNSTABLE_POWER:
            return [f"{words} {power:.1f}: the steps are too long for the curvature."]
        return [f"{words} {power:.1f}, as that of the batches does."]

    def _calmed(self, best: Tried) -> dict[str, Any]:
        """Return the change, with what calms the noise it leaves where a calm run has less.

        An average of the weights, or where it cannot be taken a rate that falls. One that passed
        comes with it in any case: a run is not everywhere as calm as near its end.
        """
        change = dict(best.candidate.change)
        left = best.noise_ratio * best.unchanged_nats
        by_accuracy = best.candidate.judged_by == "accuracy"
        is_restless = left > (CALM_ACCURACY if by_accuracy else FIXED_LOSS_NOISE_NATS)
        if change and (self.averaged or (is_restless and self._may_average())):
            return change | AVERAGED
        decay = self.decay
        if decay is None or decay.outcome == "rejected" or not change:
            return change
        if is_restless or decay.raw_change < best.raw_change:
            change |= decay.candidate.change
        return change

    def _schedule_missing(self) -> tuple[float, Proof] | None:
        """Find the noise to be the price of progress: a right rate that has to fall."""
        priced = [
            one
            for one in (*self.rates, self.batch)
            if one is not None and one.reading == "price" and one.candidate.price_is_schedule
        ]
        decay, others = self.decay, tuple[dict[str, Any], ...]()
        if decay is not None and decay.outcome == "confirmed":
            lower = [one for one in self.rates if one.outcome == "confirmed"]
            words = [describe(one) for one in (decay, *self.averaged, *priced, *lower)]
            others = tuple(dict(one.candidate.change) for one in lower)
            gain = decay.raw_change
            tried = (decay, *self.averaged, *priced)
            names = tuple(one.candidate.name for one in tried)
            excess = self._excess(decay)
            if not self.averaged and self._may_average() and excess > 0:
                words.append(_better_averaged(excess))
        elif priced and (decay is None or decay.outcome != "rejected"):
            excess = self._excess(priced[0])
            if (
                not excess > EXCESS_PLATEAU_NATS
                or self._lab.arguments.get("lr_schedule") == "cosine"
            ):
                return None
            words = [
                *(describe(one) for one in priced),
                _better_averaged(excess),
            ]
            gain = -excess
            names = tuple(one.candidate.name for one in priced)
        else:
            return None
        repair = FALLING
        if self.averaged:
            repair = {**FALLING, **AVERAGED}
            others = (dict(FALLING), dict(AVERAGED), *others)
        elif self._may_average() and excess > 0:
            if _is_enough(excess, -gain):
                # It leaves the training as it is, which a rate that falls may end too soon.
                repair = AVERAGED
                words.append("An average of the weights leaves the training as it is.")
            else:
                repair = {**FALLING, **AVERAGED}
                words.append("An average of the weights calms it before the rate has fallen, too.")
            others = (dict(FALLING), *others)
        finding, evidence = "schedule missing", " ".join(words)
        return gain, Proof("learning_rate", finding, dict(repair), evidence, names, others)

    def _may_average(self) -> bool:
        """Whether an average of the weights can be taken, and none was tried in vain."""
        was_in_vain = self.average is not None and self.average.outcome == "rejected"
        return may_average(self._lab) and not was_in_vain

    def _excess(self, one: Tried) -> float:
        """Return what the noise costs the unchanged re-runs, in nats."""
        numbers = self._judge.measure("noise", one.unchanged)
        excess = [part.raw - part.averaged for part in numbers if not part.failed]
        excess = [value for value in excess if np.isfinite(value)]
        return float(np.mean(excess)) if excess else math.nan


def _is_enough(averaged: float, falling: float) -> bool:
    """Whether what an average of the weights gains stands for what a falling rate gains."""
    return averaged >= _ENOUGH * falling - MARGIN_NATS


def _better_averaged(excess: float) -> str:
    return f"Averaged weights are better than the last ones by {excess:.2f} nats."


def _passed(*tried: Tried | None) -> list[Tried]:
    """Return those that there are and that were confirmed."""
    return [one for one in tried if one is not None and one.outcome == "confirmed"]


def _first(found: Any) -> Tried | None:
    return next(iter(found), None)


def _is_size(one: Tried) -> bool:
    return "batch_size" in one.candidate.change


def _distinct(
    changes: Sequence[Mapping[str, Any]], first: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    kept: list[Mapping[str, Any]] = []
    for change in changes:
        if change and dict(change) != dict(first) and dict(change) not in kept:
            kept.append(dict(change))
    return tuple(kept)
