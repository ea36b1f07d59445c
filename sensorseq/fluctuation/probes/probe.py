"""probe_lab: the probes of a run in their order, and the report that comes of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.causes.cause import TROUBLED, Cause, NotTested, Probes, Trial
from sensorseq.fluctuation.causes.data_checks import check_data
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.early_stopping import stopping_probe
from sensorseq.fluctuation.probes.label_noise import label_noise_probe
from sensorseq.fluctuation.probes.length import length_probe
from sensorseq.fluctuation.probes.minimal import minimal_repair
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.probes.race import race
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.self_test import self_test
from sensorseq.fluctuation.probes.shift import shift_probe
from sensorseq.fluctuation.probes.spikes import spike_replay
from sensorseq.fluctuation.probes.zero_test import zero_test
from sensorseq.fluctuation.report import FluctuationReport

PURSE_SHARE = 0.8  # of the budget: making the lab, and reading what came of an arm, take time, too
REPAIR_SHARE = 0.3  # of the purse, kept for finding the smallest repair
SUSPICION = 0.1  # confidence from which a cause of its own probe is looked into


def probe_lab(
    lab: Lab,
    report: FluctuationReport,
    budget: float = 1.0,
    fit_s: float = 0.0,
    *,
    make_windows: Callable[[float], Lab] | None = None,
    say: Callable[[str], Any] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
    began_s: float | None = None,
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
    make_windows : callable, optional
        Gives the lab of windows that are so many times as long.
    say : callable, optional
        Gets a line before each part.
    clock : callable
        Seconds.
    began_s : float, optional
        When the work began on this clock, where that was before the call.

    Returns
    -------
    FluctuationReport
        The same verdict; causes with the grades that the trials gave them; `probes`.
    """
    started = clock() if began_s is None else began_s

    def is_over() -> bool:
        return fit_s > 0 and clock() - started > budget * fit_s

    purse = Purse(lab, PURSE_SHARE * budget * lab.n_epochs, is_over)
    findings, facts = Findings(), check_data(lab.train, lab.validation)
    repair: dict[str, Any] = {}
    note, sentence = "", "Nothing was replayed: the run does not need it."
    try:
        findings.join(zero_test(lab))
        if report.verdict in TROUBLED:
            say("replaying a part of the run as it was")
            is_same, sentence = self_test(lab, purse)
            if is_same:
                repair, note = _find_repair(lab, purse, report, facts, findings, say, make_windows)
            else:
                note = "Nothing could be proved: the replay did not reproduce the run."
                findings.not_tested += _unreplayed(report.causes)
        else:
            note = f"The verdict is {report.verdict.replace('_', ' ')}: there is nothing to repair."
    except KeyboardInterrupt:
        note = "The probes were interrupted; this is what they had come to."
        repair = {}
    causes = regrade((*facts, *report.causes), findings, report.verdict)
    elapsed = clock() - started
    probes = Probes(
        budget=budget,
        cost=elapsed / fit_s if fit_s > 0 else purse.spent / max(1, lab.n_epochs),
        fit_s=fit_s,
        probes_s=elapsed,
        self_test=sentence,
        trials=tuple(findings.trials),
        not_tested=tuple(findings.not_tested),
        suspects=tuple(findings.suspects),
        repair=repair,
        previous={name: lab.arguments.get(name) for name in repair},
        note=note,
    )
    return replace(report, causes=causes, probes=probes)


def _find_repair(
    lab: Lab,
    purse: Purse,
    report: FluctuationReport,
    facts: Sequence[Cause],
    findings: Findings,
    say: Callable[[str], Any],
    make_windows: Callable[[float], Lab] | None,
) -> tuple[dict[str, Any], str]:
    """Run the probes that a troubled run calls for, likeliest first; return repair and note."""
    suspected = {cause.name for cause in report.causes if cause.confidence >= SUSPICION}
    suspected |= {fact.name for fact in facts}
    findings.join(stopping_probe(lab, report.history))
    say("replaying the steps around its spikes")
    findings.join(spike_replay(lab, purse))
    whole = purse.n_epochs
    purse.n_epochs = purse.spent + (1 - REPAIR_SHARE) * (whole - purse.spent)
    say("running changed beside unchanged arms")
    findings.join(race(lab, purse, (*facts, *report.causes), report.verdict))
    for name, what, probe in (
        (
            "label_noise",
            "asking networks that have not seen a window for its label",
            lambda: label_noise_probe(lab, purse),
        ),
        (
            "distribution_shift",
            "validating on windows of the training groups",
            lambda: shift_probe(lab, purse),
        ),
        (
            "sequence_length",
            "training on windows of other lengths",
            lambda: length_probe(lab, purse, make_windows),
        ),
    ):
        if name in suspected:
            say(what)
            findings.join(probe())
        else:
            findings.not_tested.append(NotTested(name, "nothing in the run points to it"))
    purse.n_epochs = whole
    say("looking for the smallest repair")
    return minimal_repair(lab, purse, findings.trials)


def _unreplayed(causes: Sequence[Cause]) -> list[NotTested]:
    reason = "the replay did not reproduce the run"
    settle = "the X, y and keywords that fit was given"
    return [NotTested(cause.name, reason, settle) for cause in causes if cause.name != "unknown"]


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


def confirmed(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that passed."""
    return [trial for trial in trials if trial.outcome == "confirmed"]
