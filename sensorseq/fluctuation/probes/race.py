"""race: re-runs that tell which change calms a run, or brings it to learn, and which does not."""

from collections.abc import Mapping, Sequence
from typing import Any

from sensorseq.fluctuation.causes.cause import Cause, NotTested, hidden_cause
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.candidate import (
    LEAST_CONFIDENCE,
    RACED,
    Candidate,
)
from sensorseq.fluctuation.probes.candidates import snapshot_candidates
from sensorseq.fluctuation.probes.conclude import conclude
from sensorseq.fluctuation.probes.first_weights import NO_FIRST_WEIGHTS, has_first_weights
from sensorseq.fluctuation.probes.init_candidates import (
    hidden_candidates,
    init_candidates,
    level_candidates,
)
from sensorseq.fluctuation.probes.noise_of_arms import FIRST_SHARE, FIRST_SHARE_ANEW
from sensorseq.fluctuation.probes.proof import RaceFindings, make_trial
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.recorded import RECORDED, recorded_arms, recorded_beginning
from sensorseq.fluctuation.probes.rounds import (
    LEAST_EPOCHS,
    USUAL_EPOCHS,
    Progress,
    Rounds,
    arm_length,
    most_arms,
    most_recorded,
    recorded_length,
)
from sensorseq.fluctuation.probes.start import choose_snapshot, earliest_snapshot

_MOST_EPOCHS_ANEW = 15


def race(
    lab: Lab,
    purse: Purse,
    causes: Sequence[Cause],
    verdict: str = "fluctuating",
    progress: Progress | None = None,
    history: Mapping[str, Sequence[Any]] | None = None,
) -> RaceFindings:
    """Try the changes that the likeliest causes call for, beside unchanged re-runs.

    Parameters
    ----------
    lab : Lab
        Of the run.
    purse : Purse
        What may be spent; it is never overdrawn.
    causes : sequence of Cause
        What the statistics say. Those of a confidence above 0.1 are tried, six changes at most.
    verdict : str, default "fluctuating"
        Of the run. One that is ``"not_learning"`` or ``"diverged"`` is tried from first weights and
        judged by the loss that it comes to. One that is ``"normal"``, too, for the cause that may
        cost it accuracy.
    progress : callable, optional
        Is given a sentence before each round.
    history : mapping, optional
        The run's columns, for its validation.

    Returns
    -------
    RaceFindings
        Trials, what they prove, and what was not tested.
    """
    if verdict in ("not_learning", "diverged"):
        stages: list[tuple[str, list[Candidate]]] = [
            (verdict, level_candidates(lab, causes, verdict))
        ]
    elif verdict == "normal":
        hidden = hidden_cause(verdict, causes)
        stages = [("init", [] if hidden is None else hidden_candidates(lab, hidden))]
    else:
        start = _start(lab)
        changes = [] if start is None else snapshot_candidates(lab, causes, start)
        stages = [("snapshot", changes), ("init", init_candidates(lab, causes))]
        stages.sort(key=lambda stage: -max((part.weight for part in stage[1]), default=0.0))
    findings = RaceFindings()
    for kind, candidates in stages:
        if candidates:
            findings.join(_run_stage(lab, purse, candidates, kind, progress, history))
    wanted = [part for _, candidates in stages for part in candidates]
    if not has_first_weights(lab):
        findings.not_tested += _unmakable(findings, wanted)
    findings.not_tested += _not_tested(causes, findings, wanted)
    return findings


def _run_stage(
    lab: Lab,
    purse: Purse,
    candidates: Sequence[Candidate],
    kind: str,
    progress: Progress | None,
    history: Mapping[str, Sequence[Any]] | None,
) -> RaceFindings:
    rounds = None
    if kind == "snapshot":
        rounds = _beside_the_run(lab, purse, candidates, progress, history)
    if rounds is None:
        rounds = _beside_re_runs(lab, purse, candidates, kind, progress, history)
    if rounds is None:
        return RaceFindings()
    tried = [one for one in rounds.run() if one.results]
    unchanged = {
        id(result): result
        for one in tried
        for result in one.unchanged
        if not result.arm.name.startswith(RECORDED)
    }
    shared = sum(lab.cost_of(result.arm) for result in unchanged.values()) / max(len(tried), 1)
    trials = [
        make_trial(one, shared + sum(lab.cost_of(result.arm) for result in one.results))
        for one in tried
    ]
    return conclude(lab, rounds.judge, tried, trials)


def _beside_the_run(
    lab: Lab,
    purse: Purse,
    candidates: Sequence[Candidate],
    progress: Progress | None,
    history: Mapping[str, Sequence[Any]] | None,
) -> Rounds | None:
    """Return a race against stretches of the run itself; None where it has none long enough."""
    n_epochs = recorded_length(lab.n_epochs)
    start = earliest_snapshot(lab, n_epochs)
    if start is None:
        return None
    recorded = recorded_arms(lab, start, n_epochs, history)
    n_arms = most_recorded(purse, candidates, start, n_epochs)
    if not (recorded and n_arms):
        return None
    return Rounds(purse, candidates[:n_arms], start, n_epochs, progress=progress, recorded=recorded)


def _beside_re_runs(
    lab: Lab,
    purse: Purse,
    candidates: Sequence[Candidate],
    kind: str,
    progress: Progress | None,
    history: Mapping[str, Sequence[Any]] | None,
) -> Rounds | None:
    """Return a race against unchanged re-runs alone; None where the purse is too small."""
    first_share = FIRST_SHARE if kind == "snapshot" else FIRST_SHARE_ANEW
    start, most = None, min(max(lab.n_epochs // 3, USUAL_EPOCHS), _MOST_EPOCHS_ANEW)
    if kind == "snapshot":
        start = _start(lab)
        if start is None:
            return None
        most = min(lab.n_epochs - lab.record.snapshots[start].epoch, USUAL_EPOCHS)
    n_epochs = arm_length(purse, candidates[0], start, most)
    recorded = []
    if kind == "not_learning" and n_epochs:  # a run that learns nothing does so under any schedule
        recorded = recorded_beginning(lab, n_epochs, history)
    if recorded:
        n_arms = most_recorded(purse, candidates, start, n_epochs)
    else:
        n_arms = most_arms(purse, candidates, start, n_epochs) if n_epochs else 0
    if not n_arms:
        return None
    return Rounds(
        purse, candidates[:n_arms], start, n_epochs, first_share, progress, recorded=recorded
    )


def _start(lab: Lab) -> int | None:
    """Return the snapshot with room for a usual re-run, or for a short one where there is none."""
    start = choose_snapshot(lab, USUAL_EPOCHS)
    return choose_snapshot(lab, LEAST_EPOCHS) if start is None else start


def _unmakable(findings: RaceFindings, candidates: Sequence[Candidate]) -> list[NotTested]:
    """Say of every cause without a trial that only runs from first weights could be one."""
    others = {candidate.cause for candidate in candidates if candidate.kind != "init"}
    others |= {trial.cause for trial in findings.trials}
    names = dict.fromkeys(candidate.cause for candidate in candidates)
    return [
        NotTested(name, NO_FIRST_WEIGHTS, "a fit in one go") for name in names if name not in others
    ]


def _not_tested(
    causes: Sequence[Cause], findings: RaceFindings, candidates: Sequence[Candidate]
) -> list[NotTested]:
    """Say of every other cause without a trial why it has none."""
    confidence = {cause.name: cause.confidence for cause in causes}
    tried = {trial.cause for trial in findings.trials}
    tried |= {part.cause for part in findings.not_tested}
    wanted = {candidate.cause for candidate in candidates}
    left = []
    for name in RACED:
        if name in tried:
            continue
        sure = confidence.get(name, 0.0)
        if sure <= LEAST_CONFIDENCE:
            left.append(NotTested(name, f"the statistics hardly speak for it ({sure:.2f})"))
        elif name in wanted:
            why = "the epochs of the budget did not reach to two pairs of re-runs"
            left.append(NotTested(name, why, "report.probe with a larger budget"))
        else:
            left.append(NotTested(name, "no argument that differs from the run's could be tried"))
    return left
