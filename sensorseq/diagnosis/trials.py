"""Repeat a fit with other settings within a budget, and find the settings that do better."""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import nn

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.causes import (
    ARGUMENTS_OF,
    OWNER_OF,
    Cause,
    Trial,
    deviations,
    is_same,
)
from sensorseq.diagnosis.defaults import DEFAULTS
from sensorseq.diagnosis.metrics import Floats
from sensorseq.history import History, TrainingRecord
from sensorseq.messages import text_of
from sensorseq.prediction.windows import Windows
from sensorseq.training.batches import TrainingData, center_windows
from sensorseq.training.config import TrainingConfig
from sensorseq.training.engine import TrainingResult
from sensorseq.training.evaluation import network_outputs
from sensorseq.training.streamed_data import StreamedData


@dataclass(frozen=True, eq=False)
class Rerun:
    """A request to repeat a fit.

    If `start` is given, training continues from the snapshot with that index, with the windows in
    a different order and a learning rate that falls to nearly zero along a half cosine. Otherwise,
    the network is trained from its initial weights, as `fit` would train it with the arguments in
    `change`.
    """

    name: str  # the change in words
    n_epochs: int
    start: int | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RerunResult:
    """The result of a rerun of L epochs; fields that were not measured are empty or None."""

    rerun: Rerun
    fixed_loss: Floats  # (L,): loss of the run's fixed training windows, without dropout, in nats
    record: TrainingRecord | None = None
    val_outputs: Floats | None = None  # (n_val, K): logits in evaluation mode
    failed: str = ""  # why the rerun ended early, such as "a loss or gradient is not finite"


def failed_rerun(rerun: Rerun, error: Exception) -> RerunResult:
    """Return the result of a rerun that raised an error."""
    return RerunResult(rerun, np.zeros(0), failed=str(error))


class TrialRunner(ABC):
    """A recorded fit that can be repeated.

    `kept` is the fitted network with the kept weights. `parts` are the training and validation
    windows as inputs of the network; `windows` are the same windows, scaled, but before samples are
    joined into steps.
    """

    arguments: Mapping[str, Any]  # arguments of the estimator

    def __init__(
        self,
        record: TrainingRecord,
        kept: nn.Module,
        kept_epoch: int,
        parts: tuple[TrainingData, TrainingData | None],
        windows: tuple[Windows, Windows | None],
        classes: Sequence[str],
    ) -> None:
        self.record, self._kept = record, kept
        self.kept_epoch = kept_epoch if kept_epoch <= record.n_epochs else 0
        self._train, self._validation = parts
        self.train, self.validation = windows
        self.classes, self.n_classes = classes, len(classes)
        self.n_epochs = record.n_epochs
        self.steps_per_epoch = int(record.epoch_steps[1]) if record.n_epochs else 1

    def val_inputs(self, module: nn.Module) -> TrainingData | None:
        """Return the validation windows in the dtype and on the device of a network's weights."""
        if self._validation is None:
            return None
        weights = next(part for part in module.parameters() if part.is_floating_point())
        data = self._validation.to(weights.device)
        return replace(data, X=data.X.to(weights.dtype))

    def val_outputs(self) -> Floats | None:
        """Return the logits (n_val, K) of the validation windows with the kept weights."""
        return None if self._validation is None else _outputs(self._kept, self._validation)

    def kept_module(self) -> nn.Module:
        """Return a copy of the network with the kept weights, in evaluation mode."""
        return copy.deepcopy(self._kept).eval()

    @abstractmethod
    def cost_of(self, rerun: Rerun) -> float:
        """Estimate the cost of a rerun, in epochs of the fit, from the network and data sizes."""

    @abstractmethod
    def run(
        self, reruns: Sequence[Rerun], is_over: Callable[[], bool] | None = None
    ) -> list[RerunResult]:
        """Run reruns, side by side if the engine supports it; a failure is stored in the result.

        Once `is_over` returns true, reruns end after their current epoch, and no more are started.
        """

    def fixed_windows(self, train: TrainingData, config: TrainingConfig) -> TrainingData:
        """Return the record's fixed windows, taken from `train` and cropped as in validation."""
        rows = torch.from_numpy(self.record.fixed_rows)
        return center_windows(train.take(rows, train.X.device), config)

    def read(
        self,
        rerun: Rerun,
        module: nn.Module,
        validation: TrainingData | StreamedData | None,
        result: TrainingResult,
        scale: float = 1.0,
    ) -> RerunResult:
        """Collect the result of a training run."""
        record = result.record
        return RerunResult(
            rerun,
            np.zeros(0) if record is None else scale * record.fixed_loss,
            record,
            _outputs(module, validation) if isinstance(validation, TrainingData) else None,
            "a loss or gradient is not finite" if result.ended_by == "diverged" else "",
        )


def _outputs(module: nn.Module, data: TrainingData) -> Floats:
    lengths = None if data.lengths is None else data.lengths.cpu().numpy()
    return network_outputs(module, data.X.cpu().numpy(), lengths)


OUT_OF_TIME = "the time was up before the rerun began"  # `failed` of a rerun that never started


class Deadline:
    """A callback that ends training runs when the time is up, and prevents new runs."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Raise a TimeoutError if the time is up."""
        if self._is_over():
            raise TimeoutError(OUT_OF_TIME)

    def on_epoch_end(self, module: nn.Module, history: History) -> bool:
        """Return true, which ends the training run, if the time is up."""
        return self._is_over()


LATEST = 1.5  # training runs are stopped at this multiple of the budget's seconds


class Budget:
    """The budget of trials: a number of epochs, and the time that the trials may take.

    A limit on epochs alone makes the choice of trials reproducible. With a time limit, trials that
    are expected to exceed the time are skipped, too. `epoch_s` is the expected duration of an
    epoch, which is used until a training run has been timed.
    """

    def __init__(
        self,
        runner: TrialRunner,
        n_epochs: float,
        seconds: float = math.inf,
        epoch_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.perf_counter,
        began_s: float | None = None,
    ) -> None:
        self.runner, self.n_epochs, self.spent = runner, n_epochs, 0.0
        self._seconds, self._epoch_s, self._clock = seconds, epoch_s, clock
        self._began_s = clock() if began_s is None else began_s
        self._charged = self._running_s = 0.0

    @property
    def left(self) -> float:
        """The number of epochs left, limited to those expected to fit into the remaining time."""
        left = max(0.0, self.n_epochs - self.spent)
        if math.isinf(self._seconds):
            return left
        seconds = max(0.0, self._seconds - (self._clock() - self._began_s))
        n_run = self.spent - self._charged
        pace = self._running_s / n_run if n_run > 0 else self._epoch_s
        return min(left, seconds / pace) if pace > 0 else left * (seconds > 0)

    def is_over(self) -> bool:
        """Whether training runs must stop, because 1.5 times the budgeted time has passed."""
        return self._clock() - self._began_s > LATEST * self._seconds

    def charge(self, n_epochs: float) -> None:
        """Charge work other than reruns, in epochs; the time per epoch does not include it."""
        self.spent += n_epochs
        self._charged += n_epochs

    def run(self, reruns: Sequence[Rerun]) -> list[RerunResult]:
        """Charge reruns and run them; the caller must check `left` first."""
        self.spent += sum(self.runner.cost_of(rerun) for rerun in reruns)
        started = self._clock()
        results = self.runner.run(reruns, None if math.isinf(self._seconds) else self.is_over)
        self._running_s += self._clock() - started
        return results


PRESET = "the defaults"  # name of the preset that adds no features
FEATURES = "the defaults plus features"
SEVERAL = "unknown"  # cause of a candidate that changes arguments of several causes

# Causes whose arguments the presets reset, in this order.
_PRESET_CAUSES: tuple[str, ...]
_PRESET_CAUSES = ("optimizer", "learning_rate", "batch_size", "gradient_clipping", "regularization")
_PRESET_CAUSES += ("preprocessing", "weight_init", "loss")
_RATE_FACTORS = (0.1, 10.0, 0.3, 3.0)
_WIDTHS = (8, 128)  # narrowest and widest network that a candidate may have


@dataclass(frozen=True)
class SettingsCandidate:
    """Settings that may repair a run."""

    name: str  # the change in words
    cause: str  # one of `CAUSE_NAMES`, or `SEVERAL`
    change: Mapping[str, Any]
    finding: str = ""  # `finding` of the cause that is proved if the settings help; may be empty
    is_preset: bool = False  # True for the candidates of `_presets`
    ends_run: bool = False  # True to repeat only the end of the run, with a decaying learning rate


def list_candidates(runner: TrialRunner, causes: Sequence[Cause]) -> list[SettingsCandidate]:
    """List settings to try that differ from the run's: presets first, then single changes.

    Single changes follow the order of `causes`, then the order of other unusual settings.
    """
    arguments = runner.arguments
    unusual = deviations(arguments, len(runner.train), runner.n_epochs)
    suspected = [cause.name for cause in causes]
    suspected += [deviation.key.partition(": ")[0] for deviation in unusual]
    place = {name: n for n, name in reversed([*enumerate(suspected)])}
    singles = sorted(
        _singles(runner), key=lambda candidate: place.get(candidate.cause, len(suspected))
    )
    listed: list[SettingsCandidate] = []
    for candidate in [*_presets(runner), *singles]:
        change = {n: v for n, v in candidate.change.items() if not is_same(arguments[n], v)}
        if not change or any(change == earlier.change for earlier in listed):
            continue
        owners = {OWNER_OF.get(name, SEVERAL) for name in change}
        candidate = replace(candidate, change=change)
        if candidate.is_preset and len(owners) == 1:  # the preset can prove this one cause
            rate, finding = change.get("learning_rate"), ""
            if rate is not None:
                finding = "too high" if rate < arguments["learning_rate"] else "too low"
            candidate = replace(candidate, cause=owners.pop(), finding=finding)
        listed.append(candidate)
    return listed


def _presets(runner: TrialRunner) -> list[SettingsCandidate]:
    def preset(*causes: str) -> dict[str, Any]:
        names = dict.fromkeys(name for cause in causes for name in ARGUMENTS_OF[cause])
        return {name: DEFAULTS[name] for name in names}

    whole, same_network = preset(*_PRESET_CAUSES, "model_complexity"), preset(*_PRESET_CAUSES)
    features = {"features": DEFAULTS["features"]} if runner.arguments["features"] is None else {}
    return [
        SettingsCandidate(PRESET, SEVERAL, whole, is_preset=True),
        SettingsCandidate(
            "the defaults, with the same network", SEVERAL, same_network, is_preset=True
        ),
        SettingsCandidate(FEATURES, SEVERAL, whole | features, is_preset=True),
    ]


def _singles(runner: TrialRunner) -> list[SettingsCandidate]:
    run_arguments, candidates = runner.arguments, []

    def add(name: str, cause: str, change: Mapping[str, Any], finding: str = "") -> None:
        candidates.append(
            SettingsCandidate(name, cause, change, finding, ends_run=name == "cosine decay")
        )

    def reset(name: str, cause: str, finding: str = "", *arguments: str) -> None:
        names = arguments or ARGUMENTS_OF[cause]
        add(name, cause, {key: DEFAULTS[key] for key in names}, finding)

    rate, width = run_arguments["learning_rate"], run_arguments["hidden_size"]
    if run_arguments["lr_schedule"] == "constant":
        add("cosine decay", "learning_rate", {"lr_schedule": "cosine"}, "schedule missing")
    for factor in _RATE_FACTORS:
        name = f"learning_rate {'x' if factor > 1 else '/'} {max(factor, 1 / factor):.0f}"
        change = {"learning_rate": float(f"{rate * factor:.3g}")}
        add(name, "learning_rate", change, "too low" if factor > 1 else "too high")
    reset("standard scaling", "preprocessing", "scale of the inputs")
    reset("the default initial weights", "weight_init")
    reset(f"batches of {DEFAULTS['batch_size']}", "batch_size")
    reset("clipping", "gradient_clipping")
    reset("the default optimizer", "optimizer")
    reset("the default regularization", "regularization")
    unregularized = dict.fromkeys(ARGUMENTS_OF["regularization"], 0.0)
    add("no dropout, no decay", "regularization", unregularized, "too strong")
    reset("cross-entropy", "loss")
    reset("the default pooling", "model_complexity", "", "pooling")
    smaller, larger = max(width // 4, _WIDTHS[0]), min(4 * width, _WIDTHS[1])
    if larger > width:
        add("a wider network", "model_complexity", {"hidden_size": larger}, "too small")
    if smaller < width:
        change = {"hidden_size": smaller, "num_layers": 1}
        add("a smaller network", "model_complexity", change, "too large")
    return candidates


MOST_CANDIDATES = 12
LEAST_STEPS = 60  # a training run with fewer steps is not informative
# Minimum number of steps of a network combined with features, because features need no steps.
LEAST_FEATURE_STEPS = 1
LEAST_END_EPOCHS = 8  # with fewer epochs, the movement at the end of a run cannot be measured
FEATURES_SHARE = 0.3  # fraction of the budget for the defaults plus features
PRESET_SHARE = 0.75  # fraction of the rest for the defaults; single changes get what remains
# Gain, in standard errors, above which settings are adopted. It is lower for the defaults, which
# improve nine of ten runs with random settings (benchmarks/bench_repair.py, development draws).
SURE_SE, PRESET_SE = 2.0, 1.0
LOSES_SE = 0.5  # if loss or accuracy improves, the other may get worse by this many standard errors
LEAST_GAIN, LEAST_GAIN_NATS = 0.02, 0.02  # smallest gains that count: accuracy (a fraction), loss
# settings that worsen nothing are adopted if they reduce the movement to at most this fraction
LEAST_CALMING = 0.5
ONE_SD = 0.8413  # probability that a normal variable is below its mean plus one standard deviation


@dataclass(eq=False)
class Outcome:
    """A candidate, the result of training with it, and its gain on the validation windows."""

    candidate: SettingsCandidate
    result: RerunResult
    cost_epochs: float
    first_epoch: int = 0  # epoch of the run from which training continued
    score: float = math.inf  # mean validation loss; infinity if training failed
    nats: float = -math.inf  # loss of the run minus loss with the settings, in nats per window
    error: float = 0.0  # standard error of `nats`, over groups if there are any
    accuracy: float = -math.inf  # accuracy with the settings minus accuracy of the run, a fraction
    accuracy_error: float = 0.0
    # Movement of the training loss divided by its movement in the run; NaN if unknown.
    movement: float = math.nan

    @property
    def n_epochs(self) -> int:
        """The number of trained epochs, or the planned number if no loss was recorded."""
        return len(self.result.fixed_loss) or self.result.rerun.n_epochs

    @property
    def does_better(self) -> bool:
        """Whether loss or accuracy improves significantly and the other does not get worse."""
        standard_errors = PRESET_SE if self.candidate.is_preset else SURE_SE
        by_loss = self.nats > max(standard_errors * self.error, LEAST_GAIN_NATS)
        by_accuracy = self.accuracy > max(standard_errors * self.accuracy_error, LEAST_GAIN)
        return (by_loss or by_accuracy) and not self.loses

    @property
    def loses(self) -> bool:
        """Whether loss or accuracy got worse by more than `LOSES_SE` standard errors."""
        by_loss = self.nats < -LOSES_SE * self.error
        return by_loss or self.accuracy < -LOSES_SE * self.accuracy_error

    @property
    def is_calmer(self) -> bool:
        """Whether the movement is at least halved and nothing got worse."""
        return self.movement <= LEAST_CALMING and self.nats >= 0 and not self.loses

    def is_as_good(self, best: "Outcome") -> bool:
        """Whether this outcome's loss is at most a standard error above the best outcome's loss."""
        return best.nats - self.nats <= best.error

    def __str__(self) -> str:
        return text_of(
            "gain",
            nats=abs(self.nats),
            error=self.error,
            is_lower=self.nats >= 0,
            accuracy=abs(self.accuracy),
            accuracy_error=self.accuracy_error,
            is_higher=self.accuracy >= 0,
            is_calmer=self.movement <= 1,
            movement=self.movement,
        )

    def as_trial(self, run_loss: list[float], *, is_adopted: bool) -> Trial:
        """Describe the rerun for the report; `run_loss` is the run's loss of the fixed windows."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        failed, n_planned = self.result.failed, self.result.rerun.n_epochs
        fixed_loss = np.asarray(self.result.fixed_loss, np.float64).tolist()
        # if a shortened training run does worse, that proves little
        is_whole = self.n_epochs >= len(run_loss) or bool(failed)
        lost = is_whole and (self.nats < -SURE_SE * self.error or not math.isfinite(self.nats))
        return Trial(
            cause=self.candidate.cause,
            name=self.candidate.name,
            change=dict(self.candidate.change),
            kind="race",
            outcome="confirmed" if is_adopted else "rejected" if lost else "undecided",
            sentence=text_of(
                "trial",
                name=self.candidate.name,
                result=failed or str(self),
                is_short=not failed and self.n_epochs < n_planned,
                n_epochs=self.n_epochs,
                n_planned=n_planned,
            ),
            noise_ratio=finite(self.movement),
            raw_change=finite(-self.nats),
            # NaN up to the epoch at which the rerun started
            curves={"A": [run_loss], "B": [[math.nan] * self.first_epoch + fixed_loss]},
            cost_epochs=self.cost_epochs,
            change_error=finite(self.error),
            accuracy_change=finite(self.accuracy),
            accuracy_error=finite(self.accuracy_error),
        )


@dataclass(frozen=True)
class SettingsComparison:
    """The result of training with other settings."""

    note: str  # why settings were adopted, or why none were
    adopted: Outcome | None = None  # the outcome of the adopted settings
    outcomes: tuple[Outcome, ...] = ()  # all candidates that were trained, the best first
    untried: tuple[SettingsCandidate, ...] = ()  # candidates that exceeded the budget
    proofs: tuple[Outcome, ...] = ()  # single changes as good as the adopted settings, best first
    # Loss of the fixed training windows in the run.
    run_loss: list[float] = field(default_factory=list)

    def trials(self) -> list[Trial]:
        """Return all training runs, as trials for the report."""
        better = (self.adopted, *self.proofs)
        return [o.as_trial(self.run_loss, is_adopted=o in better) for o in self.outcomes]


class Baseline:
    """The run as the baseline of the comparison, evaluated on its validation windows."""

    def __init__(self, runner: TrialRunner, validation: Windows) -> None:
        record = runner.record
        self.target, self.n_classes = validation.target, runner.n_classes
        groups = validation.groups
        self.groups = np.arange(len(self.target)) if groups is None else groups
        self.loss, self.is_right = self._judged(runner.val_outputs())
        keeps_best = runner.arguments.get("restore_best") or runner.arguments.get("early_stopping")
        # The recorded margins give only the cross-entropy between the true class and the strongest
        # other class.
        margin = np.asarray(record.val_margin, np.float64)
        is_whole = len(margin) and margin.shape[1:] == self.loss.shape and np.isfinite(margin).all()
        if is_whole and not keeps_best:
            # average over the last quarter of the epochs, because the last epoch may be lucky
            of_two, n_late = np.logaddexp(0.0, -margin), max(record.n_epochs // 4, 1)
            self.loss = self.loss + of_two[-n_late:].mean(axis=0) - of_two[-1]
            self.is_right = record.val_correct[-n_late:].mean(axis=0)
        self.movement = movement(np.asarray(record.fixed_loss, np.float64))

    def _judged(self, outputs: Floats | None) -> tuple[Floats, Floats]:
        """Return cross-entropy and correctness per window; a diverged run counts as guessing."""
        n = len(self.target)
        if outputs is None or not np.isfinite(outputs).all():
            return np.full(n, math.log(self.n_classes)), np.full(n, 1 / self.n_classes)
        loss = metrics.cross_entropy(outputs, self.target)
        return loss, (outputs.argmax(axis=1) == self.target).astype(np.float64)

    def compare(
        self, candidate: SettingsCandidate, result: RerunResult, cost_epochs: float
    ) -> Outcome:
        """Compare a training run with the original run on the validation windows."""
        outputs = result.val_outputs
        if result.failed or outputs is None or not np.isfinite(outputs).all():
            return Outcome(candidate, result, cost_epochs)
        loss, is_right = self._judged(outputs)
        nats, error = paired(self.loss - loss, self.groups)
        accuracy, accuracy_error = paired(is_right - self.is_right, self.groups)
        ratio = movement(result.fixed_loss) / self.movement if self.movement > 0 else math.nan
        gain = nats, error, accuracy, accuracy_error, ratio
        return Outcome(candidate, result, cost_epochs, 0, float(loss.mean()), *gain)


def paired(gain: Floats, groups: NDArray[Any]) -> tuple[float, float]:
    """Return the mean gain over windows, and its standard error over groups.

    The error is multiplied by a quantile of Student's t-distribution, so that an interval of one
    standard error keeps its coverage even with few groups.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    if not codes.any():
        return float(gain.mean()), math.inf
    student = float(special.stdtrit(codes.max(), ONE_SD))
    return float(gain.mean()), metrics.clustered_error(gain, codes) * student


def movement(loss: Floats) -> float:
    """Return the noise of a loss over the second half of its epochs; NaN if there are too few."""
    late = loss[len(loss) // 2 :]
    late = late[np.isfinite(late)]
    return float(metrics.mean_noise(late)) if len(late) >= 4 else math.nan


def compare_settings(
    runner: TrialRunner,
    budget: Budget,
    causes: Sequence[Cause],
    *,
    may_calm: bool = True,
    say: Callable[[str], Any] = lambda _: None,
) -> SettingsComparison:
    """Train with other settings, and compare the results with the run.

    Each network is trained from its initial weights with a compressed schedule. As an exception,
    cosine decay repeats only the end of the run if there is a suitable snapshot. If the run has no
    features, the defaults plus features come first, with 30 % of the budget. The defaults follow
    with three quarters of the rest, then single changes in the order of `causes`.
    `FluctuationReport.probe` describes which settings are adopted; with `may_calm`, a calmer curve
    is enough.
    """
    validation = runner.validation
    if validation is None:
        return SettingsComparison(text_of("nothing_to_compare_on"))
    if not math.isfinite(runner.cost_of(Rerun("the run again", 1))):
        return SettingsComparison(text_of("fit_was_continued"))
    run = Baseline(runner, validation)
    candidates = list_candidates(runner, causes)[:MOST_CANDIDATES]
    outcomes: dict[str, Outcome] = {}
    with_features = [c for c in candidates if c.name == FEATURES]
    networks = [c for c in candidates if c not in with_features]
    # cosine decay in the last part of a run costs little and often calms the run
    first = [c for c in networks if c.is_preset or (may_calm and c.ends_run)]
    singles = [c for c in networks if c not in first]
    stages = (
        (with_features, FEATURES_SHARE, LEAST_FEATURE_STEPS),
        (first, PRESET_SHARE, LEAST_STEPS),
        (singles, 1.0, LEAST_STEPS),
    )
    for chosen, share, least in stages:
        pairs = _share_out(runner, chosen, share * budget.left, least)
        if not pairs:
            continue
        reruns = [rerun for _, rerun in pairs]
        say(f"training with {len(reruns)} other setting(s)")
        for (candidate, rerun), result in zip(pairs, budget.run(reruns), strict=True):
            if result.failed == OUT_OF_TIME:
                continue
            outcome = outcomes[candidate.name] = run.compare(
                candidate, result, runner.cost_of(rerun)
            )
            if rerun.start is not None:
                outcome.first_epoch = runner.record.snapshots[rerun.start].epoch
    better = [o for o in outcomes.values() if o.does_better or (may_calm and o.is_calmer)]
    adopted = _choose(better)
    ranked = sorted(outcomes.values(), key=lambda outcome: (outcome is not adopted, outcome.score))
    proofs = [
        outcome
        for outcome in sorted(better, key=lambda outcome: outcome.score)
        if adopted is not None
        and outcome.candidate.cause != SEVERAL
        and outcome.is_as_good(adopted)
    ]
    return SettingsComparison(
        _note(adopted, ranked),
        adopted,
        tuple(ranked),
        tuple(candidate for candidate in candidates if candidate.name not in outcomes),
        tuple(proofs),
        np.asarray(runner.record.fixed_loss, np.float64).tolist(),
    )


def _share_out(
    runner: TrialRunner, candidates: Sequence[SettingsCandidate], budget: float, least_steps: int
) -> list[tuple[SettingsCandidate, Rerun]]:
    """Pair each affordable candidate with a rerun; the reruns have similar numbers of steps."""

    def cost(reruns: Sequence[tuple[SettingsCandidate, Rerun]]) -> float:
        return sum(runner.cost_of(rerun) for _, rerun in reruns)

    kept: list[tuple[SettingsCandidate, Rerun]] = []
    for candidate in candidates:
        pair = candidate, _rerun(runner, candidate, least_steps)
        if cost([*kept, pair]) <= budget:
            kept.append(pair)
    longest = kept
    for n_steps in least_steps * 1.25 ** np.arange(1, 60):
        longer = [(candidate, _rerun(runner, candidate, n_steps)) for candidate, _ in kept]
        if cost(longer) > budget:
            break
        longest = longer
    return longest


def _rerun(runner: TrialRunner, candidate: SettingsCandidate, n_steps: float) -> Rerun:
    """Return a rerun of a candidate for about `n_steps` steps, but no more epochs than the run.

    A candidate with `ends_run` resumes from the latest snapshot that leaves enough epochs, and
    trains for the remaining epochs.
    """
    snapshots = runner.record.snapshots if candidate.ends_run else []
    for start in range(len(snapshots) - 1, 0, -1):
        n_left = runner.n_epochs - snapshots[start].epoch
        if n_left >= LEAST_END_EPOCHS:
            return Rerun(candidate.name, n_left, start=start)
    n_windows = len(runner.train)
    batch_size = {**runner.arguments, **candidate.change}.get("batch_size") or n_windows
    n_epochs = math.ceil(n_steps / -(-n_windows // batch_size))
    return Rerun(candidate.name, min(max(n_epochs, 1), runner.n_epochs), change=candidate.change)


def _choose(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the best outcome; None if there is none.

    If a preset is best, it is replaced by `FEATURES`, or else by `PRESET`, if this raises the loss
    by at most a standard error.
    """
    best = min(outcomes, key=lambda outcome: outcome.score, default=None)
    if best is not None and best.candidate.is_preset:
        for name in (FEATURES, PRESET):
            for outcome in outcomes:
                if outcome.candidate.name == name and outcome.is_as_good(best):
                    return outcome
    return best


def _note(adopted: Outcome | None, outcomes: Sequence[Outcome]) -> str:
    if adopted is not None:
        settings = {"name": adopted.candidate.name, "n_epochs": adopted.n_epochs}
        if adopted.does_better:
            return text_of("settings_adopted", **settings, gain=adopted)
        return text_of("settings_calm", **settings, movement=adopted.movement)
    if not outcomes:
        return text_of("settings_untried")
    best = outcomes[0]
    return text_of("settings_no_better", n=len(outcomes), name=best.candidate.name, gain=best)
