"""Tried: a candidate with its re-runs so far; Judge: when they prove or exclude it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sensorseq.fluctuation.probes.arm import ArmResult
from sensorseq.fluctuation.probes.candidate import Candidate
from sensorseq.fluctuation.probes.noise_of_arms import (
    FIRST_SHARE,
    MOST_LOSS,
    ArmNumbers,
    measure_by,
    n_judged,
    white_noise_log_sd,
)
from sensorseq.fluctuation.probes.progress_guard import (
    MARGIN_ACCURACY,
    MARGIN_NATS,
    SETTLED_PAIRS,
    SLOWER_Z,
    weigh_levels,
)
from sensorseq.fluctuation.probes.stop_rule import (
    LEAST_LOG_SD,
    LEAST_PAIRS,
    SURE_Z,
    StopRule,
    clipped,
    pair_sd,
)

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
    noise_evidence, level_evidence : list of float
        Log-likelihood ratio after each pair, of the noise and of the loss.
    outcome : str
        As in `Trial`; "" while it is open.
    reading : str
        What decided: ``"both"``, ``"price"`` or ``"slower"`` of `weigh_levels`; ``"noise"``: it is
        not halved; ``"lower"``: the loss is lower by far; ``"failed"``: it diverged; ``"calm"``:
        there is no noise to halve; ``"no gain"``: the loss did not fall; ``"budget"``: it ran out;
        ``"by heart"``: it is lower on the training windows alone; ``"less accurate"``: it is lower,
        but more validation windows are wrong; ``"settled"``: another one was proved, and little
        spoke for this one.
    bounds : (float, float) or None
        Of the stop rule.
    log_ratio, log_error : float
        Logarithm of the noise with the change over that without, and its standard error.
    raw_change, averaged_change : float
        Losses with the change less those without, in nats.
    val_change, error_change : float
        The same of loss and error rate of the validation windows.
    n_calmer : int
        Pairs in which the changed re-run is the calmer one.
    unchanged_nats : float
        Noise of the unchanged re-runs, in nats.
    """

    candidate: Candidate
    results: list[ArmResult] = field(default_factory=list)
    unchanged: list[ArmResult] = field(default_factory=list)
    noise_evidence: list[float] = field(default_factory=list)
    level_evidence: list[float] = field(default_factory=list)
    outcome: str = ""
    reading: str = ""
    bounds: tuple[float, float] | None = None
    log_ratio: float = math.nan
    noise_ratio: float = math.nan
    log_error: float = math.nan
    raw_change: float = math.nan
    averaged_change: float = math.nan
    val_change: float = math.nan
    error_change: float = math.nan
    n_calmer: int = 0
    unchanged_nats: float = math.nan

    @property
    def evidence(self) -> list[float]:
        """What was decided on."""
        by_level = self.candidate.judged_by == "level" or self.reading == "lower"
        return self.level_evidence if by_level else self.noise_evidence


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
    settled_pairs : int, default 3
        From so many on the means of the losses decide.
    """

    def __init__(
        self,
        n_arms: int,
        n_epochs: int,
        log_classes: float,
        first_share: float = FIRST_SHARE,
        settled_pairs: int = SETTLED_PAIRS,
    ) -> None:
        self.n_arms = n_arms
        self._settled = settled_pairs
        self.log_classes = log_classes
        self.first_share = first_share
        n_points = n_judged(n_epochs, first_share)
        self._log_sd = _SCATTER * math.sqrt(2) * white_noise_log_sd(n_points)
        self._n_level = max(n_epochs - n_epochs // 2, 1)

    def judge(self, tried: Sequence[Tried]) -> None:
        """Weigh every candidate that is open and has a new pair."""
        for one in tried:
            if not one.outcome and len(one.results) > len(one.noise_evidence):
                self._judge(one, tried)

    def measure(self, by: str, results: Sequence[ArmResult]) -> list[ArmNumbers]:
        """Measure re-runs by what a candidate is judged by."""
        return [measure_by(by, result, self.log_classes, self.first_share) for result in results]

    def _judge(self, one: Tried, tried: Sequence[Tried]) -> None:
        """Measure a candidate anew, and let the rules decide."""
        by, n_pairs = one.candidate.judged_by, len(one.results)
        changed, unchanged = self.measure(by, one.results), self.measure(by, one.unchanged)
        pairs = list(zip(changed, unchanged, strict=False))
        one.n_calmer = sum(b.log_noise < a.log_noise for b, a in pairs)
        unchanged = _without_mishaps(unchanged)
        alike = [
            self.measure(by, other.results)
            for other in tried
            if other.candidate.judged_by != "accuracy" or by == "accuracy"
        ]
        groups = [[part for part in group if not part.failed] for group in (unchanged, *alike)]
        share = _share(n_pairs, len(unchanged))
        one.unchanged_nats = _geometric_mean(unchanged)
        rules = 2 if by == "either" else 1  # two ways to pass share what one has

        middle = [part.log_noise for part in unchanged]
        noise_a = clipped(middle, middle)
        noise_b = clipped([part.log_noise for part in changed], middle)
        sd = pair_sd(
            [[part.log_noise for part in group] for group in groups], self._log_sd, LEAST_LOG_SD
        )
        noise_rule = StopRule(self.n_arms * rules)
        one.log_ratio = float(np.mean(noise_b) - np.mean(noise_a))
        one.noise_ratio = _geometric_mean(changed) / one.unchanged_nats
        one.log_error = sd * share
        one.bounds = noise_rule.bounds
        one.noise_evidence.append(noise_rule.evidence(noise_b, noise_a, sd))
        noise = noise_rule.decide(n_pairs, one.noise_evidence[-1])
        if n_pairs >= LEAST_PAIRS and noise_rule.excludes_effect(one.log_ratio, one.log_error):
            noise = "rejected"

        one.raw_change = _mean_difference(changed, unchanged, "raw")
        # the mean of averages says nothing of the progress, which is the same
        averaged = _mean_difference(changed, unchanged, "averaged")
        one.averaged_change = math.nan if by == "weights" else averaged
        one.val_change = _mean_difference(changed, unchanged, "val_loss")
        one.error_change = _mean_difference(changed, unchanged, "val_error")
        noise_level = _geometric_mean(
            groups[0] or [part for group in groups for part in group], "level_nats"
        )
        prior = 2 * noise_level * math.sqrt(2 / self._n_level)
        cap = math.inf if by == "accuracy" else MOST_LOSS * self.log_classes
        raw_sd = pair_sd([_finite(group, cap) for group in groups], min(prior, cap), 0.0)
        level_sd = max(raw_sd, _LEAST_LEVEL_SD)
        level_rule = StopRule(self.n_arms * rules, effect=LOWER_NATS)
        raw_b, raw_a = _finite(changed, cap), _finite(unchanged, cap)
        one.level_evidence.append(level_rule.evidence(raw_b, raw_a, level_sd))
        level = level_rule.decide(n_pairs, one.level_evidence[-1])
        of_raw = _share(n_pairs, max(len(raw_a), 1))  # later stretches of the run have none
        if n_pairs >= LEAST_PAIRS and level_rule.excludes_effect(one.raw_change, level_sd * of_raw):
            level = "rejected"

        raw_error = max(raw_sd * of_raw, _LEAST_LEVEL_ERROR)
        averages = [[part.averaged for part in group] for group in groups]
        averages = [[value for value in group if math.isfinite(value)] for group in averages]
        of_averages = _share(n_pairs, max(len(averages[0]), 1))  # of re-runs alone
        averaged_error = max(pair_sd(averages, prior / 2, 0.0) * of_averages, _LEAST_LEVEL_ERROR)
        self._decide(one, noise, level, raw_error, averaged_error)

    def _decide(
        self, one: Tried, noise: str, level: str, raw_error: float, averaged_error: float
    ) -> None:
        by, n_pairs = one.candidate.judged_by, len(one.results)
        margin = MARGIN_ACCURACY if by == "accuracy" else MARGIN_NATS
        if n_pairs < LEAST_PAIRS:
            return
        if all(result.failed for result in one.results):
            one.outcome, one.reading = "rejected", "failed"
            return
        if by in ("level", "either") and level == "confirmed":
            reading = _reading_of_lower(one)
            may_calm = by == "either" and reading == "by heart"
            if self._is_sound(one, by) and not may_calm:
                one.outcome = "confirmed" if reading == "lower" else "rejected"
                one.reading = reading
                return
            level = "rejected"  # of a change that may pass by the noise
        if by == "level":
            one.outcome, one.reading = level, "no gain" if level == "rejected" else ""
            return
        if by == "either" and noise == "rejected" and level != "rejected":
            noise = level  # as yet open, or undecided
        if one.raw_change - margin > SLOWER_Z * raw_error:
            one.outcome, one.reading = "rejected", "slower"
        elif noise == "confirmed":
            self._weigh(one, raw_error, averaged_error, margin)
        elif noise:
            one.outcome, one.reading = noise, "noise"

    def _weigh(self, one: Tried, raw_error: float, averaged_error: float, margin: float) -> None:
        """Decide a candidate that halved the noise by the losses."""
        n_pairs = len(one.results)
        if one.candidate.judged_by == "price":
            is_gain = one.raw_change < (-0.5 * raw_error if n_pairs < SETTLED_PAIRS else 0.0)
            if n_pairs >= self._settled or abs(one.raw_change) > SURE_Z * raw_error:
                one.outcome = "confirmed" if is_gain else "rejected"
                one.reading = "both" if is_gain else "no gain"
            return
        reading = weigh_levels(
            one.raw_change,
            raw_error,
            one.averaged_change,
            averaged_error,
            n_pairs,
            margin,
            self._settled,
        )
        if reading != "open":
            one.outcome = "confirmed" if reading == "both" else "rejected"
            one.reading = reading

    @staticmethod
    def _is_sound(one: Tried, by: str) -> bool:
        """Whether a lower loss is a gain: of the averaged weights as well, not surely noisier."""
        if by == "level" and one.candidate.cause != "model_complexity":
            return True
        is_lower = not one.averaged_change > -MARGIN_NATS
        return is_lower and one.log_ratio - SURE_Z * one.log_error <= _NO_NOISIER


def _share(n_changed: int, n_unchanged: int) -> float:
    """Return the standard error of a difference of means over that of a pair."""
    return math.sqrt((1 / n_changed + 1 / n_unchanged) / 2)


def _reading_of_lower(one: Tried) -> str:
    """Return what a lower training loss is worth to the validation windows, where there are any.

    A run whose validation is all that does not learn is not repaired by learning its windows by
    heart.
    """
    if one.error_change > MARGIN_ACCURACY:
        return "less accurate"
    known = [change for change in (one.val_change, one.error_change) if math.isfinite(change)]
    better = one.val_change < -MARGIN_NATS or one.error_change < -MARGIN_ACCURACY
    return "lower" if better or not known else "by heart"


def _without_mishaps(unchanged: list[ArmNumbers]) -> list[ArmNumbers]:
    """Leave out unchanged re-runs that broke off, unless most did: one says nothing of a change."""
    sound = [part for part in unchanged if not part.failed]
    return sound if 2 * len(sound) >= len(unchanged) else unchanged


def _geometric_mean(numbers: Sequence[ArmNumbers], name: str = "noise_nats") -> float:
    """Return the mean noise in nats."""
    noise = [math.log(max(getattr(part, name), 1e-6)) for part in numbers]
    return math.exp(sum(noise) / len(noise)) if noise else 0.1


def _finite(numbers: Sequence[ArmNumbers], cap: float) -> list[float]:
    """Return the losses that can be compared; above `cap` nothing is known, however much above."""
    return [min(part.raw, cap) for part in numbers if math.isfinite(part.raw)]


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
