"""Tried: a candidate with its re-runs so far; Judge: when they prove or exclude it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sensorseq.fluctuation.probes.arm import ArmResult
from sensorseq.fluctuation.probes.candidates import Candidate
from sensorseq.fluctuation.probes.noise_of_arms import (
    FIRST_SHARE,
    ArmNumbers,
    measure_by,
    n_judged,
    white_noise_log_sd,
)
from sensorseq.fluctuation.probes.progress_guard import (
    MARGIN_ACCURACY,
    MARGIN_NATS,
    SLOWER_Z,
    SURE_Z,
    weigh_levels,
)
from sensorseq.fluctuation.probes.stop_rule import LEAST_LOG_SD, StopRule, clipped, pair_sd

LOWER_NATS = -0.1  # a loss that is lower by far, where the level alone is to prove something
_LEAST_LEVEL_SD = 0.05  # nats, of a paired difference of levels
_LEAST_LEVEL_ERROR = 0.005
_SCATTER = 1.25  # times that of white noise: re-runs differ in more than their estimates
_NO_NOISIER = math.log(1.25)  # a lower loss is no repair where the noise is higher than this


@dataclass(eq=False)
class Tried:
    """A candidate in the race.

    Parameters
    ----------
    candidate : Candidate
        The change.
    results : list of ArmResult
        Its re-runs, one for each pair.
    unchanged : list of ArmResult
        All unchanged re-runs beside it; the first ones are those of its pairs.
    evidence : list of float
        Log-likelihood ratio after each pair.
    outcome : str
        As in `Trial`; "" while it is open.
    reading : str
        What decided: ``"both"``, ``"price"`` or ``"slower"`` of `weigh_levels`; ``"noise"``: it is
        not halved; ``"lower"``: the loss is lower by far; ``"failed"``: it diverged; ``"calm"``:
        there is no noise to halve; ``"no gain"``: the loss did not fall.
    """

    candidate: Candidate
    results: list[ArmResult] = field(default_factory=list)
    unchanged: list[ArmResult] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)
    outcome: str = ""
    reading: str = ""
    bounds: tuple[float, float] | None = None
    log_ratio: float = math.nan
    raw_change: float = math.nan
    averaged_change: float = math.nan
    n_calmer: int = 0
    n_lower: int = 0
    unchanged_nats: float = math.nan


class Judge:
    """Applies the stop rules to all candidates of one race.

    Parameters
    ----------
    n_arms : int
        Candidates in it.
    n_epochs : int
        Of a re-run.
    log_classes : float
        ln K.
    first_share : float
        Of each re-run, left out.
    """

    def __init__(
        self, n_arms: int, n_epochs: int, log_classes: float, first_share: float = FIRST_SHARE
    ) -> None:
        self.n_arms = n_arms
        self.log_classes = log_classes
        self.first_share = first_share
        n_points = n_judged(n_epochs, first_share)
        self._log_sd = _SCATTER * math.sqrt(2) * white_noise_log_sd(n_points)
        self._n_level = max(n_epochs - n_epochs // 2, 1)

    def judge(self, tried: Sequence[Tried]) -> None:
        """Weigh every candidate that is open and has a new pair."""
        for one in tried:
            if not one.outcome and len(one.results) > len(one.evidence):
                self._judge(one, tried)

    def measure(self, by: str, results: Sequence[ArmResult]) -> list[ArmNumbers]:
        """Measure re-runs by what a candidate is judged by."""
        return [measure_by(by, result, self.log_classes, self.first_share) for result in results]

    def _judge(self, one: Tried, tried: Sequence[Tried]) -> None:
        by, n_pairs = one.candidate.judged_by, len(one.results)
        changed, unchanged = self.measure(by, one.results), self.measure(by, one.unchanged)
        alike = [
            self.measure(by, other.results)
            for other in tried
            if other.candidate.judged_by != "accuracy" or by == "accuracy"
        ]
        groups = [unchanged, *alike]
        middle = [part.log_noise for part in unchanged]
        noise_a = clipped(middle, middle)
        noise_b = clipped([part.log_noise for part in changed], middle)
        sound = [[part for part in group if not part.failed] for group in groups]
        sd = pair_sd(
            [[part.log_noise for part in group] for group in sound], self._log_sd, LEAST_LOG_SD
        )
        one.log_ratio = float(np.mean(noise_b) - np.mean(noise_a))
        one.unchanged_nats = float(
            np.exp(np.mean([math.log(max(part.noise_nats, 1e-6)) for part in unchanged]))
        )
        pairs = list(zip(changed, unchanged, strict=False))
        one.n_calmer = sum(b.log_noise < a.log_noise for b, a in pairs)
        one.n_lower = sum(b.raw < a.raw for b, a in pairs)
        one.raw_change = _mean_difference(changed, unchanged, "raw")
        one.averaged_change = _mean_difference(changed, unchanged, "averaged")
        share = 1 / n_pairs + 1 / len(unchanged)
        prior = 2 * one.unchanged_nats * math.sqrt(2 / self._n_level)
        raw_sd = pair_sd([[part.raw for part in group] for group in sound], prior, 0.0)
        raw_error = max(raw_sd * math.sqrt(share / 2), _LEAST_LEVEL_ERROR)
        rules = 2 if by == "either" else 1
        noise_rule = StopRule(self.n_arms * rules)
        level_rule = StopRule(self.n_arms * rules, effect=LOWER_NATS)
        level_evidence = level_rule.evidence(
            [part.raw for part in changed],
            [part.raw for part in unchanged],
            max(raw_sd, _LEAST_LEVEL_SD),
        )
        noise_evidence = noise_rule.evidence(noise_b, noise_a, sd)
        one.bounds = noise_rule.bounds
        one.evidence.append(level_evidence if by == "level" else noise_evidence)
        if all(part.failed for part in changed) and n_pairs >= 2:
            one.outcome, one.reading = "rejected", "failed"
            return
        level = level_rule.decide(n_pairs, level_evidence)
        if by in ("level", "either") and level == "confirmed" and self._is_sound(one, by):
            one.evidence[-1] = level_evidence
            one.outcome, one.reading = "confirmed", "lower"
            return
        if by == "level":
            one.outcome = "rejected" if level == "confirmed" else level
            one.reading = "noisier" if level == "confirmed" else "no gain"
            return
        noise = noise_rule.decide(n_pairs, noise_evidence)
        margin = MARGIN_ACCURACY if by == "accuracy" else MARGIN_NATS
        if by == "either" and noise == "rejected" and level != "rejected":
            noise = level
        if n_pairs >= 2 and one.raw_change - margin > SLOWER_Z * raw_error:
            one.outcome, one.reading = "rejected", "slower"
        elif noise == "confirmed":
            self._weigh(one, groups, raw_error, margin)
        elif noise:
            one.outcome, one.reading = noise, "noise"

    def _weigh(
        self, one: Tried, groups: Sequence[Sequence[ArmNumbers]], raw_error: float, margin: float
    ) -> None:
        """Decide a candidate that halved the noise by the losses."""
        n_pairs = len(one.results)
        if one.candidate.judged_by == "price":
            excess = one.raw_change + margin
            if n_pairs >= 3 or abs(excess) > SURE_Z * raw_error:
                one.outcome = "confirmed" if excess < 0 else "rejected"
                one.reading = "both" if excess < 0 else "no gain"
            return
        averages = [
            [part.averaged for part in group if not part.failed and math.isfinite(part.averaged)]
            for group in groups
        ]
        prior = one.unchanged_nats * math.sqrt(2 / self._n_level)
        sd = pair_sd(averages, prior, 0.0)
        share = 1 / n_pairs + 1 / len(one.unchanged)
        error = max(sd * math.sqrt(share / 2), _LEAST_LEVEL_ERROR)
        reading = weigh_levels(
            one.raw_change, raw_error, one.averaged_change, error, n_pairs, margin
        )
        if reading != "open":
            one.outcome = "confirmed" if reading == "both" else "rejected"
            one.reading = reading

    @staticmethod
    def _is_sound(one: Tried, by: str) -> bool:
        """Whether a lower loss is a gain: of the averaged weights as well, and no noisier."""
        if by == "level" and one.candidate.cause != "model_complexity":
            return True
        is_lower = not one.averaged_change > -MARGIN_NATS
        return is_lower and one.log_ratio <= _NO_NOISIER


def _mean_difference(
    changed: Sequence[ArmNumbers], unchanged: Sequence[ArmNumbers], name: str
) -> float:
    """Return the mean of a number with the change less that without; NaN where one is missing."""
    with_change = np.array([getattr(part, name) for part in changed])
    without = np.array([getattr(part, name) for part in unchanged])
    with_change, without = with_change[np.isfinite(with_change)], without[np.isfinite(without)]
    if not (len(with_change) and len(without)):
        return math.nan
    return float(with_change.mean() - without.mean())
