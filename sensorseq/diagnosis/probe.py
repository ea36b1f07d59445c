"""Probe a run: check its labels and evaluation, try other settings, and grade its causes."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.checks import as_float
from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.causes import (
    DESCRIPTIVE,
    TROUBLED,
    UNKNOWN,
    Cause,
    NotTested,
    Probes,
    Trial,
    with_unknown,
)
from sensorseq.diagnosis.statements import ReportContents
from sensorseq.diagnosis.trials import SEVERAL, Budget, Outcome, TrialRunner, compare_settings
from sensorseq.errors import ArgumentError, printable
from sensorseq.inspection.label_errors import judge_labels
from sensorseq.messages import advice_of, text_of
from sensorseq.training.batches import EVALUATION_BATCH, TrainingData
from sensorseq.training.randomness import isolated_generators

Report = TypeVar("Report", bound=ReportContents)


def probe_fit(
    report: Report,
    X: Any,
    y: Any,
    fit_keywords: Mapping[str, Any],
    *,
    budget: float = 1.0,
    verbose: int = 1,
) -> Report:
    """Run the probes of `FluctuationReport.probe`."""
    began_s = time.perf_counter()
    if isinstance(budget, bool) or not 0 < as_float(budget) < math.inf:
        raise ArgumentError(
            f"budget={budget!r} must be a number above 0: the time for probes, as a multiple of the"
            " time of the fit."
        )
    if report.origin is None or report.record is None:
        raise ArgumentError(
            "probe repeats a fit made in this process, but this report comes from a history, or was"
            " copied, saved or pickled. Fit in this process and use fluctuation_ of the"
            " fitted estimator."
        )
    origin = report.origin

    def say(line: str) -> None:
        if verbose:
            with suppress(OSError):  # the disk may be full
                print(f"sensorseq: {printable(line)}", file=sys.stderr, flush=True)

    say(
        f"probing {report.n_epochs} epochs: at most {budget:g}x the fit time, about"
        f" {budget * origin.fit_s:.1f} s, plus checks of the data"
    )
    keywords = {name: value for name, value in fit_keywords.items() if value is not None}
    return probe_runner(
        origin.open(report.record, X, y, **keywords),
        report,
        float(budget),
        origin.fit_s,
        say=say,
        began_s=began_s,
    )


LEAST_SHARE, LEAST_WRONG = 0.02, 3  # fewer wrong labels do not count as a cause
CODE = "sensorseq.find_label_errors(SensorLSTMClassifier(), X, y, groups=...)"
_CAUSE = "label_noise"


def not_tested(cause: str, kind: str, /, **values: Any) -> NotTested:
    """Return a cause that was not tested, with the reason and a way to test it."""
    return NotTested(cause, text_of(kind, **values), advice_of(kind, **values))


def judge_own_labels(runner: TrialRunner) -> Trial | NotTested:
    """Judge the labels by the out-of-fold predictions from the cross-validation of the features.

    If classes are hard to separate, correct labels look wrong, too, so the result proves nothing.
    """
    predicted = getattr(runner, "out_of_fold", None)
    train = runner.train
    if predicted is None or train.rows is None:
        return not_tested(_CAUSE, "labels_unpredicted", code=CODE)
    _, at, judged = np.intersect1d(train.rows, predicted[0], return_indices=True)
    if len(np.unique(train.target[at])) < 2:
        return not_tested(_CAUSE, "labels_few", code=CODE)
    groups = None if train.groups is None else train.groups[at]
    errors = judge_labels(predicted[1][judged], train.target[at], np.array(runner.classes), groups)
    n_wrong, n_least = errors.n_estimated, max(LEAST_WRONG, math.ceil(LEAST_SHARE * len(at)))
    is_enough = n_wrong >= n_least
    figures = {"n_wrong": n_wrong, "n": len(at), "share": n_wrong / len(at), "n_least": n_least}
    sentence = text_of("labels_judged", **figures, is_enough=is_enough, code=CODE)
    name = "labels judged by models trained without them"
    return Trial(_CAUSE, name, {}, "inference", "undecided" if is_enough else "rejected", sentence)


# Duration of an epoch when runs are trained side by side, as a fraction of its duration in the fit.
PACE = 0.6
# Budgets of epochs without and with a time limit, as multiples of the fit's epochs. With a time
# limit, the time usually runs out first.
COUNTED_SHARE, CLOCKED_SHARE = 1.4, 3.0
# Below 1, because the last training run ends a little later than planned.
CLOCK_SHARE = 0.95
LEAST_FIT_S = 1.0  # shorter fits get the budget of a fit that took this long


def probe_runner(
    runner: TrialRunner,
    report: Report,
    budget: float = 1.0,
    fit_s: float = 0.0,
    *,
    say: Callable[[str], Any] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
    began_s: float | None = None,
) -> Report:
    """Probe a run; return its report with causes graded by the trials, and with `probes`.

    Probing ends about ``budget * max(fit_s, 1)`` seconds after `began_s`. If `fit_s` is 0, the
    budget limits only the number of epochs.
    """
    started = clock() if began_s is None else began_s
    clocked, n_epochs = fit_s > 0, runner.n_epochs
    allowance = budget * max(1.0, LEAST_FIT_S / fit_s) if clocked else budget
    trial_budget = Budget(
        runner,
        (CLOCKED_SHARE if clocked else COUNTED_SHARE) * allowance * n_epochs,
        CLOCK_SHARE * allowance * fit_s if clocked else math.inf,
        PACE * fit_s / max(1, n_epochs),
        clock=clock,
        began_s=started,
    )
    results = _ProbeResults()
    try:
        _try_all(runner, report, trial_budget, results, say)
    except KeyboardInterrupt:
        results.repair, results.note = {}, text_of("probes_interrupted")
    tried = {trial.cause for trial in results.trials} | {SEVERAL}
    untested = {entry.cause: entry for entry in results.untested if entry.cause not in tried}
    of_one_cause = [trial for trial in results.trials if trial.cause != SEVERAL]
    is_calm, elapsed = report.verdict == "normal", clock() - started
    probes = Probes(
        budget=budget,
        cost=elapsed / fit_s if fit_s > 0 else trial_budget.spent / max(1, n_epochs),
        fit_s=fit_s,
        probes_s=elapsed,
        trials=tuple(results.trials),
        not_tested=tuple(untested.values()),
        repair=results.repair,
        previous={name: runner.arguments.get(name) for name in results.repair},
        note=results.note,
    )
    causes = regrade(report.causes, of_one_cause, results.proofs, calm=is_calm)
    return replace(report, causes=causes, probes=probes)


@dataclass
class _ProbeResults:
    """The results so far, which are kept if probing is interrupted."""

    trials: list[Trial] = field(default_factory=list)
    untested: list[NotTested] = field(default_factory=list)
    proofs: list[Cause] = field(default_factory=list)  # the best first
    repair: dict[str, Any] = field(default_factory=dict)
    note: str = text_of("nothing_tried")


def _try_all(
    runner: TrialRunner,
    report: ReportContents,
    budget: Budget,
    results: _ProbeResults,
    say: Callable[[str], Any],
) -> None:
    for check in (zero_test, judge_own_labels):
        result = check(runner)
        if isinstance(result, Trial):
            results.trials.append(result)
            budget.charge(result.cost_epochs)
        else:
            results.untested.append(result)
    may_calm = report.verdict == "fluctuating"
    compared = compare_settings(runner, budget, report.causes, may_calm=may_calm, say=say)
    results.proofs += map(_proof_of, compared.proofs)
    proved = {proof.name for proof in results.proofs}
    results.proofs += [
        Cause(trial.cause, "proved", trial.sentence)
        for trial in results.trials
        if trial.outcome == "confirmed" and trial.cause not in proved
    ]
    results.trials += compared.trials()
    results.untested += [
        not_tested(candidate.cause, "budget_used_up") for candidate in compared.untried
    ]
    results.repair = {} if compared.adopted is None else dict(compared.adopted.candidate.change)
    results.note = compared.note
    if not results.repair and report.verdict in TROUBLED:
        # benchmarks/bench_repair.py: the defaults with features repair 127 of 130 bad runs
        results.note += " " + text_of("try_defaults")
    if budget.is_over():
        results.note += " " + text_of("probes_stopped")


def _proof_of(outcome: Outcome) -> Cause:
    """Return the cause that a successful single change proves."""
    candidate, evidence = outcome.candidate, text_of("proved_by_change", gain=outcome)
    return Cause(candidate.cause, "proved", evidence, candidate.finding, candidate.change)


def regrade(
    causes: Sequence[Cause], trials: Sequence[Trial], proofs: Sequence[Cause], *, calm: bool = False
) -> tuple[Cause, ...]:
    """Return the causes that the trials did not reject, with proved causes first.

    A cause is dropped if every change tried for it was rejected. In a `calm` run, causes that only
    explain a rough curve come after causes that cost accuracy.
    """
    proved = {proof.name: proof for proof in reversed(proofs)}
    by_name = {cause.name: cause for cause in causes if cause.name != UNKNOWN}
    by_name |= {name: proof for name, proof in proved.items() if name not in by_name}
    kept = []
    for name, cause in by_name.items():
        outcomes = {trial.outcome for trial in trials if trial.cause == name}
        if name in proved:
            kept.append(_proved(cause, proved[name]))
        elif outcomes != {"rejected"}:
            kept.append(cause)
    places = {proof.name: place for place, proof in enumerate(proofs)}

    def place(cause: Cause) -> tuple[int, int]:
        if cause.grade == "proved":
            return 0, places.get(cause.name, len(places))
        return 2 if calm and cause.name in DESCRIPTIVE else 1, 0

    kept.sort(key=place)
    return tuple(kept) if calm or proved else with_unknown(kept)


def _proved(cause: Cause, proof: Cause) -> Cause:
    # The advice is for another direction of the cause, so it does not apply.
    if proof.finding and proof.finding != cause.finding:
        cause = replace(cause, finding=proof.finding, advice="", sources={})
    return replace(
        cause,
        grade="proved",
        evidence=proof.evidence,
        recommendation=dict(proof.recommendation),
        sources={**cause.sources, "race": proof.evidence},
    )


UNSTABLE = "evaluation_not_deterministic"
FORWARD_SHARE = 1 / 3  # cost of a forward pass in steps, if a backward pass costs twice as much
_LEAST_FOR_PARTS = 4  # with this many windows, each half has at least two


def zero_test(runner: TrialRunner) -> Trial | NotTested:
    """Evaluate twice with the kept weights and once in different batches: outputs must be equal.

    Even at a learning rate of zero, a validation curve moves if dropout or augmentation is active
    in evaluation, if batch normalization uses the current batch, or if evaluation changes buffers.
    """
    module = runner.kept_module()
    data = runner.val_inputs(module)
    if data is None or not len(data):
        return not_tested(UNSTABLE, "evaluation_untested")
    before = {name: part.clone() for name, part in module.state_dict().items()}
    every = torch.arange(len(data))
    parts = [every] if len(data) < _LEAST_FOR_PARTS else [every[::2], every[1::2]]
    with isolated_generators(0, data.X.device), torch.no_grad():
        first, second = (_outputs(module, data, [every]) for _ in range(2))
        after = module.state_dict()
        changed = [name for name, part in after.items() if not torch.equal(part, before[name])]
        parted = _outputs(module, data, parts)
    rounding = torch.finfo(data.X.dtype).eps ** 0.5 * (1 + np.nanmax(np.abs(first), initial=0.0))
    weights = (
        f"the weights of epoch {runner.kept_epoch}" if runner.kept_epoch else "the kept weights"
    )
    target, outcome = data.target.cpu().numpy(), "confirmed"
    if not np.array_equal(first, second, equal_nan=True):
        cause = "dropout, augmentation or something else draws random numbers in evaluation"
        if changed:
            cause = f"evaluation writes to {', '.join(changed[:3])}"
        figures = _figures(first, second, target)
        sentence = text_of("evaluation_changes", weights=weights, figures=figures, why=cause)
    elif np.nanmax(np.abs(parted - first), initial=0.0) > rounding:
        figures = _figures(first, parted, target)
        sentence = text_of("evaluation_depends_on_batch", weights=weights, figures=figures)
    else:
        outcome = "rejected"
        sentence = text_of("evaluation_repeats", weights=weights, n=len(first))
    cost = FORWARD_SHARE * 3 * len(first) / max(1, len(runner.train.target))
    return Trial(UNSTABLE, "learning rate 0", {}, "inference", outcome, sentence, cost_epochs=cost)


def _outputs(module: nn.Module, data: TrainingData, parts: Sequence[Tensor]) -> NDArray[Any]:
    logits = torch.empty(0)
    for part in parts:
        for rows in part.split(EVALUATION_BATCH):
            batch = data.take(rows, data.X.device)
            outputs = module(batch.X, batch.lengths).float().cpu()
            logits = logits if len(logits) else outputs.new_empty(len(data), outputs.shape[1])
            logits[rows] = outputs
    return logits.numpy()


def _figures(first: NDArray[Any], second: NDArray[Any], target: NDArray[np.int64]) -> str:
    losses = [metrics.cross_entropy(x.astype(np.float64), target).mean() for x in (first, second)]
    n_moved = int((first.argmax(axis=1) != second.argmax(axis=1)).sum())
    return text_of(
        "evaluation_figures",
        is_none=not n_moved,
        n_moved=n_moved,
        n=len(first),
        first=losses[0],
        second=losses[1],
        largest=np.nanmax(np.abs(first - second)),
    )
