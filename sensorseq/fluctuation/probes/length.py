"""length_probe: are the windows too long, or too short."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from sensorseq.fluctuation.causes.cause import NotTested, Trial
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Floats, Lab
from sensorseq.fluctuation.probes.candidate import Candidate, differs, judged_for
from sensorseq.fluctuation.probes.first_weights import NO_FIRST_WEIGHTS, has_first_weights
from sensorseq.fluctuation.probes.judging import Tried
from sensorseq.fluctuation.probes.noise_of_arms import FIRST_SHARE_ANEW
from sensorseq.fluctuation.probes.proof import Proof, RaceFindings, make_trial, rejected_for
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.probes.rounds import Rounds, arm_length, most_arms
from sensorseq.fluctuation.run import points

N_SEEDS = 3
N_STANDARD_ERRORS = 2.0
LEAST_GAIN = 0.02  # of accuracy, that longer windows are worth
LEAST_STEPS = 8  # of a window, after it is halved
_CAUSE = "sequence_length"
_LEAST_EPOCHS, _MOST_EPOCHS = 10, 15  # of an arm
_WEIGHT = 0.5  # of every change here: the cause is suspected


def length_probe(
    lab: Lab,
    purse: Purse,
    make_windows: Callable[[float], Lab] | None = None,
    tried: Sequence[Trial] = (),
) -> RaceFindings:
    """Try shorter and longer windows from first weights.

    Too long: with half of each window, or a head that reads the mean over all its steps, the noise
    of the run is halved at no higher loss and no lower validation accuracy; decided by the stop
    rule of `race`. Too short: windows twice as long raise the validation accuracy by over two
    standard errors, of the seeds and of the validation windows, in as many steps.

    Parameters
    ----------
    lab : Lab
        Of the run.
    purse : Purse
        Pays for the re-runs.
    make_windows : callable, optional
        Gives the lab of windows that are so many times as long.
    tried : sequence of Trial, optional
        What was tried before, which is not tried again.

    Returns
    -------
    RaceFindings
        A trial of each change, the proof where one is confirmed, and what was not tested.
    """
    if not has_first_weights(lab):
        return RaceFindings(not_tested=[NotTested(_CAUSE, NO_FIRST_WEIGHTS, "a fit in one go")])
    findings = RaceFindings()
    candidates = _shorter(lab, {trial.name for trial in tried})
    if candidates:
        findings.join(_race(lab, purse, candidates))
    if make_windows is None:
        settle = "report.probe(X, y, recordings=...)"
        findings.not_tested.append(NotTested(_CAUSE, "longer windows need recordings=", settle))
    elif lab.validation is None:
        why = "whether longer windows help cannot be told without validation windows"
        findings.not_tested.append(NotTested(_CAUSE, why, "a validation part"))
    else:
        findings.join(_try_longer(lab, purse, make_windows(2.0)))
    return findings


def _shorter(lab: Lab, tried: set[str]) -> list[Candidate]:
    """Return the changes that let fewer steps of a window count, or all alike."""
    n_steps = lab.train.X.shape[1] // 2
    cut = {"max_timesteps": n_steps}
    if "crop" in lab.changeable and reads_the_end(lab):
        cut |= {"crop": "tail"}
    found = []
    # the name is that of the same change in `race`
    if n_steps >= LEAST_STEPS and differs(lab, {"max_timesteps": n_steps}):
        found.append((f"sequences cut to {n_steps} steps", cut))
    if lab.arguments.get("pooling") not in ("mean", "meanmax"):
        found.append(("mean over all steps in the head", {"pooling": "mean"}))
    candidates = [
        Candidate(_CAUSE, name, change, "too long", {"change": change}, "init", weight=_WEIGHT)
        for name, change in found
        if name not in tried and all(part in lab.changeable for part in change)
    ]
    return judged_for(lab, candidates)


def reads_the_end(lab: Lab) -> bool:
    """Whether the last half of a window has most of the gradient that enters it."""
    profile = np.asarray(lab.record.time_profile, np.float64)
    rows = profile[np.isfinite(profile).all(axis=1)]
    return bool(len(rows) and rows.mean(axis=0)[rows.shape[1] // 2 :].sum() > 0.5)


def _race(lab: Lab, purse: Purse, candidates: Sequence[Candidate]) -> Findings:
    most = min(max(math.ceil(lab.n_epochs / 3), _LEAST_EPOCHS), _MOST_EPOCHS)
    n_epochs = arm_length(purse, candidates[0], None, most)
    n_arms = most_arms(purse, candidates, None, n_epochs) if n_epochs else 0
    if not n_arms:
        why = "the budget did not reach to two pairs of re-runs with shorter windows"
        return Findings(not_tested=[NotTested(_CAUSE, why, "a larger budget")])
    rounds = Rounds(purse, candidates[:n_arms], None, n_epochs, FIRST_SHARE_ANEW)
    of_race = [one for one in rounds.run() if one.results]
    unchanged = {id(result): result for one in of_race for result in one.unchanged}
    shared = sum(lab.cost_of(result.arm) for result in unchanged.values()) / max(len(of_race), 1)
    trials = [
        _unless_worse(one, shared + sum(lab.cost_of(result.arm) for result in one.results))
        for one in of_race
    ]
    # the one that came first in `candidates` first, for the other does as well
    passed = [
        (one.candidate, trial)
        for one, trial in zip(of_race, trials, strict=True)
        if trial.outcome == "confirmed"
    ]
    if not passed:
        return Findings(trials)
    best, trial = passed[0]
    others = tuple(dict(other.change) for other, _ in passed[1:])
    names = tuple(other.name for other, _ in passed)
    proof = Proof(_CAUSE, best.finding, dict(best.change), trial.sentence, names, others)
    return RaceFindings(trials, proofs=[proof])


def _unless_worse(one: Tried, cost: float) -> Trial:
    """Return the trial of a change, rejected where it costs accuracy."""
    trial = make_trial(one, cost)
    with_change, without = _late_accuracies(one.results), _late_accuracies(one.unchanged)
    if trial.outcome != "confirmed" or not (len(with_change) and len(without)):
        return trial
    loss = float(without.mean() - with_change.mean())
    error = math.hypot(_error_of_mean(with_change), _error_of_mean(without))
    if loss <= max(LEAST_GAIN, N_STANDARD_ERRORS * error):
        return trial
    return rejected_for(trial, f"It costs {points(loss)} points of validation accuracy.")


def _try_longer(lab: Lab, purse: Purse, longer: Lab) -> Findings:
    n_epochs = min(max(math.ceil(lab.n_epochs / 3), _LEAST_EPOCHS), _MOST_EPOCHS, lab.n_epochs)
    # as many steps, whatever windows there are
    n_longer = max(1, round(n_epochs * lab.steps_per_epoch / _steps_per_epoch(lab, longer)))
    own = [Arm("unchanged", n_epochs, seed=seed) for seed in range(N_SEEDS)]
    twice = [Arm("windows twice as long", n_longer, seed=seed) for seed in range(N_SEEDS)]
    times = longer.train.X[..., 0].size / lab.train.X[..., 0].size
    of_twice = times * sum(longer.cost_of(arm) for arm in twice)
    cost = purse.cost_of(own) + of_twice
    if cost > purse.left:
        why = f"windows twice as long cost {cost:.0f} epochs, and {purse.left:.0f} are left"
        return Findings(not_tested=[NotTested(_CAUSE, why, "a larger budget")])
    without = _late_accuracies(purse.run(own))
    purse.charge(of_twice)
    with_change = _late_accuracies(longer.run(twice))
    outcome, sentence = _weigh_accuracies(with_change, without, _n_windows(longer), _n_windows(lab))
    trial = Trial(
        cause=_CAUSE,
        name="windows twice as long",
        change={},  # windows are cut before an estimator sees them
        kind="init",
        outcome=outcome,
        sentence=sentence,
        n_pairs=min(len(with_change), len(without)),
        cost_epochs=cost,
    )
    if outcome != "confirmed":
        return Findings([trial])
    return RaceFindings([trial], proofs=[Proof(_CAUSE, "too short", {}, sentence, (trial.name,))])


def _weigh_accuracies(
    with_change: Floats, without: Floats, n_with: int, n_without: int
) -> tuple[str, str]:
    """Return what came of longer windows, and say it."""
    if len(with_change) < N_SEEDS or len(without) < N_SEEDS:
        return "undecided", "windows twice as long: a re-run broke off."
    gain = float(with_change.mean() - without.mean())
    error = math.sqrt(
        _error_of_mean(with_change) ** 2
        + _error_of_mean(without) ** 2
        + _sampling_variance(with_change, n_with)
        + _sampling_variance(without, n_without)
    )
    said = (
        f"windows twice as long: validation accuracy {with_change.mean():.3f} instead of"
        f" {without.mean():.3f} ({points(gain)} +- {points(error)} points)"
    )
    if gain > max(LEAST_GAIN, N_STANDARD_ERRORS * error):
        return "confirmed", f"{said}: cut them longer."
    if gain + N_STANDARD_ERRORS * error < LEAST_GAIN:
        return "rejected", f"{said}: they do not help."
    return "undecided", f"{said}: too few windows to tell."


def _steps_per_epoch(lab: Lab, longer: Lab) -> float:
    """Return the steps of an epoch of the longer windows, in batches as large as the run's."""
    if lab.arguments.get("windows_per_epoch"):
        return float(lab.steps_per_epoch)
    return max(1.0, lab.steps_per_epoch * len(longer.train.target) / len(lab.train.target))


def _n_windows(lab: Lab) -> int:
    return 1 if lab.validation is None else max(1, len(lab.validation.target))


def _late_accuracies(results: Sequence[ArmResult]) -> Floats:
    """Return the mean validation accuracy over the last third of every re-run that has one."""
    found = [
        float(result.val_accuracy[-max(1, len(result.val_accuracy) // 3) :].mean())
        for result in results
        if not result.failed and len(result.val_accuracy)
    ]
    return np.array(found, np.float64)


def _error_of_mean(values: Floats) -> float:
    if len(values) < 2:
        return math.inf
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _sampling_variance(accuracy: Floats, n_windows: int) -> float:
    """Return the variance of an accuracy by the choice of windows it is measured on."""
    p = float(np.clip(accuracy.mean(), 1 / (n_windows + 2), 1 - 1 / (n_windows + 2)))
    return p * (1 - p) / n_windows
