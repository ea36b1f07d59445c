"""probe_lab: the probes of a run in their order, and the report that comes of them."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.causes.cause import (
    TROUBLED,
    Cause,
    NotTested,
    Probes,
    Trial,
    hidden_cause,
)
from sensorseq.fluctuation.causes.data_checks import check_data
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.early_stopping import stopping_probe
from sensorseq.fluctuation.probes.first_weights import Repair
from sensorseq.fluctuation.probes.label_noise import label_noise_probe
from sensorseq.fluctuation.probes.length import length_probe
from sensorseq.fluctuation.probes.minimal import minimal_repair
from sensorseq.fluctuation.probes.proof import Proof, RaceFindings
from sensorseq.fluctuation.probes.purse import Findings, Purse
from sensorseq.fluctuation.probes.race import race
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.self_test import is_of_ensemble, self_test
from sensorseq.fluctuation.probes.shift import shift_probe
from sensorseq.fluctuation.probes.spikes import spike_replay
from sensorseq.fluctuation.probes.verify import verify
from sensorseq.fluctuation.probes.zero_test import zero_test
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.history import History

# Of the budget, in epochs: side by side, without details, one costs 0.6 to 0.9 of one of the fit.
PURSE_SHARE = 1.4
CLOCK_SHARE = 0.95  # of the time: the last re-run ends a little later than was thought
REPAIR_SHARE = 0.15  # of the purse, kept for finding the smallest repair
LEAST_CALMING = 0.7  # noise with clipping over that without, where replays are to count as a proof
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
    make_windows : callable, optional
        Gives the lab of windows that are so many times as long.
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
    purse = Purse(
        lab,
        (PURSE_SHARE if is_clocked else 1.0) * budget * lab.n_epochs,
        CLOCK_SHARE * budget * fit_s if fit_s > 0 and is_clocked else math.inf,
        fit_s / max(1, lab.n_epochs),
        clock=clock,
        began_s=started,
    )
    findings, facts = (
        RaceFindings(),
        check_data(lab.train, lab.validation, classes=lab.classes, arguments=lab.arguments),
    )
    repair, sentence = Repair({}, ""), "Nothing was replayed: the run does not need it."
    try:
        passes = zero_test(lab)
        purse.charge(sum(trial.cost_epochs for trial in passes.trials))
        findings.join(passes)
        is_hidden = hidden_cause(report.verdict, report.causes) is not None
        if report.verdict in TROUBLED or is_hidden:
            say("replaying a part of the run as it was")
            is_same, sentence = self_test(lab, purse)
            if is_same:
                course = _Course(lab, purse, report, facts, findings, say, make_windows)
                repair = course.find_repair()
            else:
                repair = Repair({}, f"Nothing could be proved. {sentence}")
                findings.not_tested += _unreplayed(lab, report.causes)
                facts = []  # of data that may be another's
        else:
            verdict = report.verdict.replace("_", " ")
            repair = Repair({}, f"The verdict is {verdict}: there is nothing to repair.")
    except KeyboardInterrupt:
        repair = Repair({}, "The probes were interrupted; this is what they had come to.")
    causes = regrade(
        (*facts, *report.causes),
        findings.trials,
        _ordered(findings),
        calm=report.verdict == "normal",
    )
    elapsed = clock() - started
    probes = Probes(
        budget=budget,
        cost=elapsed / fit_s if fit_s > 0 else purse.spent / max(1, lab.n_epochs),
        fit_s=fit_s,
        probes_s=elapsed,
        self_test=sentence,
        trials=tuple(findings.trials),
        not_tested=without_trial(findings),
        suspects=tuple(findings.suspects),
        repair=repair.change,
        previous={name: lab.arguments.get(name) for name in repair.change},
        note=repair.note,
    )
    return replace(report, causes=causes, probes=probes)


@dataclass(frozen=True)
class _Course:
    """What the probes of one run share."""

    lab: Lab
    purse: Purse
    report: FluctuationReport
    facts: Sequence[Cause]
    findings: RaceFindings
    say: Callable[[str], Any]
    make_windows: Callable[[float], Lab] | None

    def find_repair(self) -> Repair:
        """Run the probes that a run calls for, and find what repairs it."""
        purse = self.purse
        whole = purse.n_epochs
        purse.n_epochs = purse.spent + (1 - REPAIR_SHARE) * (whole - purse.spent)
        if self.report.verdict in TROUBLED:
            self._probe_trouble()
        else:
            causes, verdict = self.report.causes, self.report.verdict
            self.findings.join(race(self.lab, purse, causes, verdict, self.say))
        purse.n_epochs = whole
        proofs = _ordered(self.findings)
        repair = minimal_repair(self.lab, purse, proofs, self.say)
        return verify(self.lab, purse, proofs, repair, self.say)

    def _probe_trouble(self) -> None:
        """Run the probes that a troubled run calls for, likeliest first."""
        lab, purse, report, findings = self.lab, self.purse, self.report, self.findings
        causes = (*self.facts, *report.causes)
        suspected = {cause.name for cause in causes if cause.confidence >= SUSPICION}
        findings.join(stopping_probe(lab.record, _history(report), best_epoch=report.best_epoch))
        findings.join(race(lab, purse, causes, report.verdict, self.say, report.history))
        # Models for its labels cost a third of the fit: not where it is explained without them.
        is_explained = any(proof.names_cause for proof in findings.proofs)
        is_explained = is_explained and "label_noise" not in suspected
        probes: dict[str, tuple[str, Callable[[], Findings]]] = {
            "label_noise": (
                "asking networks for the labels of windows that they have not seen",
                lambda: label_noise_probe(lab, purse, is_free=is_explained),
            ),
            "distribution_shift": (
                "validating on windows of the training groups",
                lambda: shift_probe(lab, purse),
            ),
            "sequence_length": (
                "training on windows of other lengths",
                lambda: length_probe(lab, purse, self.make_windows, tried=findings.trials),
            ),
            "gradient_clipping": (
                "replaying the steps before leaps of the loss",
                lambda: spike_replay(lab, purse),
            ),
        }
        for name, (what, probe) in probes.items():
            # the margins of a run that fluctuates are a free first look at its labels
            is_free = name == "label_noise" and report.verdict == "fluctuating"
            if name in suspected or is_free:
                self.say(what)
                findings.join(probe())
            elif not any(trial.cause == name for trial in findings.trials):
                findings.not_tested.append(NotTested(name, "nothing in the run points to it"))


def _ordered(findings: RaceFindings) -> list[Proof]:
    """Return what is proved: by the race first, then by the probes beside it."""
    raced = {proof.cause for proof in findings.proofs}
    if any(_speaks_against_clipping(trial) for trial in findings.trials):
        raced.add("gradient_clipping")
    beside = [
        Proof(trial.cause, "", dict(trial.change), trial.sentence, (trial.name,))
        for trial in confirmed(findings.trials)
        if trial.kind in ("replay", "inference") and trial.cause not in raced
    ]
    return [*findings.proofs, *beside]


def _speaks_against_clipping(trial: Trial) -> bool:
    """Whether clipping calmed no run as a whole, whatever it did to single leaps.

    The path of a restless run hangs on the least detail: with any change a leap comes elsewhere.
    """
    if trial.cause != "gradient_clipping" or trial.kind == "replay":
        return False
    ratio = trial.noise_ratio
    return trial.outcome == "rejected" or ratio is None or ratio > LEAST_CALMING


def _history(report: FluctuationReport) -> History:
    columns = report.history
    rows = [
        {name: values[epoch] for name, values in columns.items() if values[epoch] is not None}
        for epoch in range(report.n_epochs)
    ]
    return History(rows)


def without_trial(findings: RaceFindings) -> tuple[NotTested, ...]:
    """Return what was not tested, one reason for each cause that has no trial nor a proof.

    A batch size may be proved by re-runs at another rate, which do the same.
    """
    tried = {trial.cause for trial in findings.trials}
    tried |= {proof.cause for proof in findings.proofs}
    reasons = {part.cause: part for part in findings.not_tested if part.cause not in tried}
    return tuple(reasons.values())


def _unreplayed(lab: Lab, causes: Sequence[Cause]) -> list[NotTested]:
    reason = "nothing is proved without a replay of the run, see there"
    settle = "a fit with n_models=1" if is_of_ensemble(lab) else ""
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
