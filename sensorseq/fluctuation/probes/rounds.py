"""Rounds: candidates beside unchanged re-runs, round by round, within what a purse holds."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from sensorseq.fluctuation.probes.arm import Arm, ArmResult
from sensorseq.fluctuation.probes.candidate import MOST_CANDIDATES, Candidate
from sensorseq.fluctuation.probes.judging import Judge, Tried
from sensorseq.fluctuation.probes.noise_of_arms import CALM_ACCURACY, FIRST_SHARE, measure_by
from sensorseq.fluctuation.probes.progress_guard import SETTLED_PAIRS
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.stop_rule import LEAST_PAIRS
from sensorseq.fluctuation.thresholds import EXCESS_PLATEAU_NATS, FIXED_LOSS_NOISE_NATS

Progress = Callable[[str], None]

# Of a re-run. With one loss an epoch, ten epochs tell most for what they cost: simulated, they find
# a noise of a quarter in 3 pairs, where eight need 4 and five more than 6. Of short data they are
# the 30 steps that are the least.
USUAL_EPOCHS = 10
LEAST_EPOCHS = 6  # where the purse or the run is small
_LEAST_RECORDED, _MOST_RECORDED = 8, 20
_SECOND_UNCHANGED = 3  # pairs, from which a second re-run is made beside stretches of the run
# That a candidate has to have in prospect to be started beside another. Simulated, with 100 to 200
# epochs to spend: four find a noise of a quarter in 93 % of runs, three, for more candidates, in
# 68 %.
_PLANNED_PAIRS = 4


def recorded_length(n_epochs: int) -> int:
    """Return the epochs of a re-run that is held against the run itself.

    A fifth of the run, so that its cost buys five: noise that is made of rare leaps needs longer
    ones than noise of every epoch.
    """
    return int(np.clip(round(n_epochs / 5), _LEAST_RECORDED, _MOST_RECORDED))


def most_recorded(
    purse: Purse, candidates: Sequence[Candidate], start: int | None, n_epochs: int
) -> int:
    """Return how many candidates can have two pairs beside the run itself."""
    arms: list[Arm] = []
    for number, candidate in enumerate(candidates[:MOST_CANDIDATES]):
        n_unchanged = 2 if candidate.restarts else int(not arms and start is not None)
        arms += [candidate.make_unchanged(start, 1, n_epochs)] * n_unchanged
        arms += [candidate.make_arm(start, seed, n_epochs) for seed in (1, 2)]
        if not purse.affords(arms):
            return number
    return min(len(candidates), MOST_CANDIDATES)


def arm_length(purse: Purse, candidate: Candidate, start: int | None, most: int) -> int:
    """Return the epochs of a re-run: fewer than `most` where the purse holds no two pairs of them.

    Returns
    -------
    int
        0 where not even two pairs of 6 epochs can be paid for.
    """
    for n_epochs in range(most, LEAST_EPOCHS - 1, -1):
        if purse.affords(_pairs(candidate, start, n_epochs, LEAST_PAIRS)):
            return n_epochs
    return 0


def most_arms(
    purse: Purse, candidates: Sequence[Candidate], start: int | None, n_epochs: int
) -> int:
    """Return how many candidates, the likeliest first, can be brought to four pairs; one to two.

    The fewer they are, the more of alpha has each.
    """
    arms: list[Arm] = []
    for n_arms, candidate in enumerate(candidates[:MOST_CANDIDATES]):
        new = _pairs(candidate, start, n_epochs, _PLANNED_PAIRS)
        if n_arms:  # the unchanged re-runs serve all
            new = new[_PLANNED_PAIRS:]
        if not purse.affords([*arms, *new]):
            least = _pairs(candidate, start, n_epochs, LEAST_PAIRS)
            return n_arms or int(purse.affords(least))
        arms += new
    return min(len(candidates), MOST_CANDIDATES)


def _pairs(candidate: Candidate, start: int | None, n_epochs: int, n_pairs: int) -> list[Arm]:
    seeds = range(1, n_pairs + 1)
    unchanged = [candidate.make_unchanged(start, seed, n_epochs) for seed in seeds]
    return [*unchanged, *(candidate.make_arm(start, seed, n_epochs) for seed in seeds)]


class Rounds:
    """One race: the same start, the same length, one order of the windows for each round.

    Parameters
    ----------
    purse : Purse
        What may be spent; it is never overdrawn.
    candidates : sequence of Candidate
        The likeliest first.
    start : int or None
        Snapshot that all go on from; None: first weights, which then differ from round to round.
    n_epochs : int
        Of a re-run.
    first_share : float
        Of each re-run, left out when its noise is measured.
    progress : callable, optional
        Is given a sentence before each round.
    recorded : sequence of ArmResult
        Stretches of the run itself, which are unchanged re-runs that are there already. With them
        the means of two pairs decide.
    """

    def __init__(
        self,
        purse: Purse,
        candidates: Sequence[Candidate],
        start: int | None,
        n_epochs: int,
        first_share: float = FIRST_SHARE,
        progress: Progress | None = None,
        recorded: Sequence[ArmResult] = (),
    ) -> None:
        self.purse = purse
        self.start = start
        self.n_epochs = n_epochs
        self.tried = [Tried(candidate) for candidate in candidates]
        self.log_classes = math.log(max(purse.lab.n_classes, 2))
        # stretches of the run itself make the unchanged side sure
        settled = LEAST_PAIRS if recorded else SETTLED_PAIRS
        n_arms = max(len(candidates), 1)
        self.judge = Judge(n_arms, n_epochs, self.log_classes, first_share, settled)
        self._first_share = first_share
        self._unchanged: dict[bool, list[ArmResult]] = {False: list(recorded)}
        self._n_recorded = {False: len(recorded), True: 0}
        # From first weights, the first ones are those that the run had.
        self._first_seed = 1 if start is not None else 0
        self._progress = progress or (lambda sentence: None)

    def run(self) -> list[Tried]:
        """Run rounds until all is decided or nothing more can be paid for."""
        while self._round():
            pass
        for one in self.tried:
            if one.results and not one.outcome:
                one.outcome, one.reading = "undecided", "budget"
        return self.tried

    def _round(self) -> bool:
        chosen, arms, planned = self._choose()
        if not chosen:
            return False
        names = ", ".join(one.candidate.name for one in chosen)
        cost = self.purse.cost_of(arms)
        self._progress(f"{len(arms)} re-runs of {self.n_epochs} epochs ({cost:.3g}): {names}")
        results = self.purse.run(arms)
        for restarts, n_new in planned.items():
            self._unchanged.setdefault(restarts, []).extend(results[:n_new])
            results = results[n_new:]
        for one, result in zip(chosen, results, strict=True):
            one.results.append(result)
            one.unchanged = self._unchanged[one.candidate.restarts]
        self._close_if_calm()
        self.judge.judge(self.tried)
        self._close_if_settled()
        return True

    def _choose(self) -> tuple[list[Tried], list[Arm], dict[bool, int]]:
        """Take as many candidates as can be paid for up to the pairs that they need.

        Those that are running come first, the likelier before the others. One that is not yet
        running is started only if four pairs of it are in prospect; the first of all, two.
        """
        chosen: list[Tried] = []
        arms: list[Arm] = []
        planned: dict[bool, int] = {}
        waiting = sorted(
            (one for one in self.tried if not one.outcome and self._may_start(one)),
            key=lambda one: not one.results,
        )
        for one in waiting:
            trial = [*chosen, one]
            trial_arms, trial_planned = self._arms_of(trial)
            future = self._future_of(trial)
            if self.purse.affords([*trial_arms, *future]):
                chosen, arms, planned = trial, trial_arms, trial_planned
        return chosen, arms, planned

    def _may_start(self, one: Tried) -> bool:
        """Whether no weaker form of the change is still open, or spoke against it.

        One that took a little of the noise did not: an unstable run calms only far below its rate.
        """
        follows = one.candidate.follows
        before = [other for other in self.tried if other.candidate.name == follows]
        if one.results or not before:
            return True
        is_against = before[0].reading in ("price", "slower", "calm") or before[0].log_ratio >= 0
        return bool(before[0].outcome) and not is_against

    def _arms_of(self, chosen: Sequence[Tried]) -> tuple[list[Arm], dict[bool, int]]:
        """Return the arms of a round: the unchanged ones that are not there yet, then the changed.

        There is always one more order of the unchanged than of the changed at first: A and A'.
        """
        unchanged: list[Arm] = []
        planned: dict[bool, int] = {}
        for restarts in (False, True):
            alike = [one for one in chosen if one.candidate.restarts is restarts]
            if not alike:
                continue
            there = len(self._unchanged.get(restarts, ()))
            needed = self._n_needed(restarts, max(len(one.results) + 1 for one in alike))
            unchanged += self._make_unchanged(alike[0].candidate, there, needed)
            needed = max(needed, there)
            planned[restarts] = needed - there
        changed = [self._changed(one, len(one.results)) for one in chosen]
        return [*unchanged, *changed], planned

    def _changed(self, one: Tried, pair: int) -> Arm:
        return one.candidate.make_arm(self.start, self._first_seed + pair, self.n_epochs)

    def _n_needed(self, restarts: bool, n_pairs: int) -> int:
        """Return how many unchanged re-runs so many pairs need, those of the run itself counted.

        Without those one more at first, A and A'; with them one beside the first pairs and two
        from the third on, for what was not noted of the run.
        """
        n_recorded = self._n_recorded[restarts]
        if n_recorded and self.start is None:  # held against the loss it came to, which is there
            return n_recorded
        if n_recorded:
            return n_recorded + (1 if n_pairs < _SECOND_UNCHANGED else 2)
        return max(2, n_pairs)

    def _make_unchanged(self, candidate: Candidate, first: int, last: int) -> list[Arm]:
        first_seed = self._first_seed - self._n_recorded[candidate.restarts]
        return [
            candidate.make_unchanged(self.start, first_seed + number, self.n_epochs)
            for number in range(first, last)
        ]

    def _future_of(self, chosen: Sequence[Tried]) -> list[Arm]:
        """Return the arms beyond this round that the chosen need to be decided."""
        future: list[Arm] = []
        n_unchanged: dict[bool, int] = {}
        for rank, one in enumerate(chosen):
            pairs = LEAST_PAIRS if rank == 0 or one.results else _PLANNED_PAIRS
            if self._n_recorded[False]:
                pairs = LEAST_PAIRS
            done = len(one.results) + 1
            future += [self._changed(one, pair) for pair in range(done, pairs)]
            restarts = one.candidate.restarts
            needed = self._n_needed(restarts, pairs)
            n_unchanged[restarts] = max(n_unchanged.get(restarts, 0), needed)
        for restarts, needed in n_unchanged.items():
            alike = [one for one in chosen if one.candidate.restarts is restarts]
            there = len(self._unchanged.get(restarts, ()))
            there = max(there, self._n_needed(restarts, max(len(one.results) + 1 for one in alike)))
            future += self._make_unchanged(alike[0].candidate, there, needed)
        return future

    def _close_if_calm(self) -> None:
        """Stop where there is no noise to halve: whatever slows a run down would look good."""
        for one in self.tried:
            by = one.candidate.judged_by
            if one.outcome or not one.results or by == "level":
                continue
            noise = self.unchanged_noise(one.candidate.restarts, by)
            if noise < (CALM_ACCURACY if by == "accuracy" else FIXED_LOSS_NOISE_NATS):
                one.outcome, one.reading = "undecided", "calm"
                one.unchanged_nats = noise

    def _close_if_settled(self) -> None:
        """Once a change is proved, give up those that their pairs speak against so far."""
        if not any(one.outcome == "confirmed" and _settles(one) for one in self.tried):
            return
        for one in self.tried:
            is_weighed = not one.outcome and len(one.results) >= LEAST_PAIRS
            if is_weighed and max(one.noise_evidence[-1], one.level_evidence[-1]) < 0:
                one.outcome, one.reading = "undecided", "settled"

    def unchanged_noise(self, restarts: bool = False, by: str = "noise") -> float:
        """Return the mean noise of the unchanged re-runs, in nats, or of the accuracy; or NaN.

        Where the noise is bursts, most stretches of a restless run are calm.
        """
        results = self._unchanged.get(restarts, ())
        noise = [
            measure_by(by, result, self.log_classes, self._first_share).noise_nats
            for result in results
        ]
        return float(np.mean(noise)) if noise else math.nan


def _settles(one: Tried) -> bool:
    """Whether a change that passed may be the cause: an average calms healthy runs as well."""
    return one.candidate.judged_by != "weights" or -one.raw_change > EXCESS_PLATEAU_NATS
