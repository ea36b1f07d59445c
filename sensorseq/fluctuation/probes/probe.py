"""probe_lab: what is tried on a run, in its order, and the report that comes of it."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.causes.cause import TROUBLED, Cause, NotTested, Probes
from sensorseq.fluctuation.causes.data_checks import check_data
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.label_noise import suspected_labels
from sensorseq.fluctuation.probes.proof import Proof
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.zero_test import zero_test
from sensorseq.fluctuation.race.options import SEVERAL
from sensorseq.fluctuation.race.race import RaceResult, run_race
from sensorseq.fluctuation.report import FluctuationReport

# Side by side, without details, an epoch takes about this share of the time of one of the fit.
PACE = 0.6
# Of the budget, in epochs of the fit. The clock ends it earlier where there is one.
PURSE_SHARE, CLOCKED_SHARE = 1.4, 3.0
CLOCK_SHARE = 0.95  # of the time: the last training ends a little later than was thought
LEAST_FIT_S = 1.0  # a fit that took less counts as one of this, for what may be spent
NOTHING = "Nothing was tried."
# measured by benchmarks/bench_repair.py, where the defaults improve 49 of 52 bad runs
TRY_DEFAULTS = "Most bad runs do better with the defaults all the same: SensorLSTMClassifier()."


def probe_lab(
    lab: Lab,
    report: FluctuationReport,
    budget: float = 1.0,
    fit_s: float = 0.0,
    *,
    allowed: frozenset[str] | None = None,
    say: Callable[[str], Any] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
    began_s: float | None = None,
    is_clocked: bool = True,
) -> FluctuationReport:
    """Probe a run and return a report with what came of it.

    Parameters
    ----------
    lab : Lab
        What runs it again.
    report : FluctuationReport
        Of the run.
    budget : float, default=1.0
        What the probes may cost, in times of the fit.
    fit_s : float
        Seconds of the fit; probes end when `budget` times as many have gone by. 0 for no clock.
    allowed : frozenset of str, optional
        Arguments that a repair may change; all by default.
    say : callable, optional
        Gets a line before each part.
    clock : callable
        Seconds.
    began_s : float, optional
        When the work began on this clock, where that was before the call.
    is_clocked : bool, default=True
        Whether the clock may end the probes; otherwise only the epochs are counted.

    Returns
    -------
    FluctuationReport
        The same verdict; causes with the grades that the trials gave them; `probes`.
    """
    started = clock() if began_s is None else began_s
    clocked = is_clocked and fit_s > 0
    longer = max(1.0, LEAST_FIT_S / fit_s) if clocked else 1.0
    purse = Purse(
        lab,
        (CLOCKED_SHARE if clocked else PURSE_SHARE) * budget * longer * lab.n_epochs,
        CLOCK_SHARE * budget * longer * fit_s if clocked else math.inf,
        PACE * fit_s / max(1, lab.n_epochs),
        clock=clock,
        began_s=started,
    )
    facts: list[Cause] = check_data(
        lab.train, lab.validation, classes=lab.classes, arguments=lab.arguments
    )
    findings, note = Findings(), NOTHING
    repair: dict[str, Any] = {}
    try:
        passes = zero_test(lab)
        purse.charge(sum(trial.cost_epochs for trial in passes.trials))
        findings.join(passes)
        _look(lab, report, findings)
        result = run_race(
            lab,
            purse,
            report.causes,
            may_calm=report.verdict == "fluctuating",
            allowed=allowed,
            say=say,
        )
        _take(findings, result)
        repair, note = _repair(findings, result)
        if not repair and report.verdict in TROUBLED and "hidden_size" in lab.changeable:
            note = f"{note} {TRY_DEFAULTS}"
    except KeyboardInterrupt:
        repair, note = {}, "The probes were interrupted."
    of_one_cause = [trial for trial in findings.trials if trial.cause != SEVERAL]
    causes = regrade(
        (*facts, *report.causes), of_one_cause, findings.proofs, calm=report.verdict == "normal"
    )
    elapsed = clock() - started
    probes = Probes(
        budget=budget,
        cost=elapsed / fit_s if fit_s > 0 else purse.spent / max(1, lab.n_epochs),
        fit_s=fit_s,
        probes_s=elapsed,
        trials=tuple(findings.trials),
        not_tested=without_trial(findings),
        suspects=tuple(findings.suspects),
        repair=repair,
        previous={name: lab.arguments.get(name) for name in repair},
        note=note,
    )
    return replace(report, causes=causes, probes=probes)


def _look(lab: Lab, report: FluctuationReport, findings: Findings) -> None:
    """Look at what needs no other settings: the labels."""
    if report.verdict not in TROUBLED:
        return
    findings.join(suspected_labels(lab))


def _take(findings: Findings, result: RaceResult) -> None:
    """Note what was raced, and what the adopted settings prove."""
    findings.trials += result.trials()
    findings.not_tested += [
        NotTested(one.cause, "the budget did not reach to it", "a larger budget")
        for one in result.untried
        if one.cause != SEVERAL
    ]
    findings.proofs[:0] = [
        Proof(
            one.option.cause,
            one.option.finding,
            one.option.change,
            f"{one.gain}.",
            (one.option.name,),
        )
        for one in result.proofs
    ]
    raced = {proof.cause for proof in findings.proofs}
    findings.proofs += [
        Proof(trial.cause, "", dict(trial.change), trial.sentence, (trial.name,))
        for trial in findings.trials
        if trial.kind == "inference" and trial.outcome == "confirmed" and trial.cause not in raced
    ]


def _repair(findings: Findings, result: RaceResult) -> tuple[dict[str, Any], str]:
    """Return the arguments that repair the run, and why these."""
    if result.adopted is not None:
        return dict(result.adopted.option.change), result.note
    for proof in findings.proofs:
        if proof.repair:
            return dict(proof.repair), f"{proof.sentence} {result.note}"
    return {}, result.note


def without_trial(findings: Findings) -> tuple[NotTested, ...]:
    """Return what was not tested, one reason for each cause that has no trial nor a proof."""
    tried = {trial.cause for trial in findings.trials}
    tried |= {proof.cause for proof in findings.proofs}
    reasons = {part.cause: part for part in findings.not_tested if part.cause not in tried}
    return tuple(reasons.values())


def check_budget(budget: Any) -> float:
    """Return a budget that is a number above zero.

    Raises
    ------
    ArgumentError
        If it is not.
    """
    try:
        value = float(budget)
    except (TypeError, ValueError):
        value = 0.0
    if not 0 < value < float("inf") or isinstance(budget, bool | str):
        raise ArgumentError(
            f"budget={budget!r} must be a number above 0: what the probes may cost, in times of"
            " the fit; 0.3 for a quick look."
        )
    return value
