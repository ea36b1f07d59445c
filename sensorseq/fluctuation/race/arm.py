"""Lab: what repeats a fit with other settings; Arm: one repetition; Purse: what may be spent."""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sensorseq.fluctuation.causes.cause import NotTested, Suspect, Trial
from sensorseq.training.batches import TrainingData, centre_windows
from sensorseq.training.config import TrainingConfig
from sensorseq.training.data import FitPart
from sensorseq.training.engine import TrainingResult
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training_record import TrainingRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Arm:
    """One re-run.

    With `start` it continues from that snapshot of the run: the windows come in another order, the
    rate falls to nearly nothing along a half cosine, and nothing else changes. Without, the network
    is trained from the first weights, as `fit` would with `change`.
    """

    name: str  # what is different in it
    n_epochs: int
    start: int | None = None
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What an arm of L epochs gave; empty where it was not measured."""

    arm: Arm
    fixed_loss: Floats  # (L,): of the run's fixed training windows, without dropout, in nats
    record: TrainingRecord | None = None
    val_outputs: Floats | None = None  # (n_val, K): logits in evaluation mode
    failed: str = ""  # why it ended early, such as a loss that is not finite


class LabWindows(NamedTuple):
    """Windows of one part as the network sees them."""

    X: NDArray[Any]  # (n, t, c), scaled; padding holds zeros
    lengths: NDArray[np.int64] | None  # (n,): valid steps; None when all have t
    target: NDArray[np.int64]  # (n,): classes, as codes
    groups: NDArray[Any] | None = None  # as given to `fit`
    rows: NDArray[np.int64] | None = None  # of X of `fit`; None if given separately


@dataclass(frozen=True, eq=False)
class LabPart:
    """Windows of one part as the engine takes them, with groups and rows of `LabWindows`.

    `samples` are the same windows where the steps of `data` are patches of several samples, and
    `given` those before they were cropped and scaled.
    """

    data: TrainingData
    groups: NDArray[Any] | None
    rows: NDArray[np.int64] | None
    samples: TrainingData | None = None
    given: FitPart | None = None

    def as_windows(self) -> LabWindows:
        """Return the samples as arrays."""
        data = self.samples or self.data
        lengths = None if data.lengths is None else data.lengths.cpu().numpy()
        target = data.target.cpu().numpy()
        return LabWindows(data.X.cpu().numpy(), lengths, target, self.groups, self.rows)


class Lab(ABC):
    """A recorded fit that can be trained again; `kept` has the weights that it kept."""

    arguments: Mapping[str, Any]  # the estimator's; of a custom module what is known
    defaults: Mapping[str, Any]  # of a run that does well on most data, as far as they apply here
    changeable: frozenset[str]  # what `Arm.change` may name here

    def __init__(
        self,
        record: TrainingRecord,
        kept: nn.Module,
        kept_epoch: int,
        parts: tuple[LabPart, LabPart | None],
        classes: Sequence[str],
    ) -> None:
        self.record, self._kept = record, kept
        self.kept_epoch = kept_epoch if kept_epoch <= record.n_epochs else 0
        self._train, self._validation = parts
        self.classes, self.n_classes = classes, len(classes)
        self.n_epochs = record.n_epochs
        self.steps_per_epoch = int(record.epoch_steps[1]) if record.n_epochs else 1

    @property
    def train(self) -> LabWindows:
        """The training windows."""
        return self._train.as_windows()

    @property
    def validation(self) -> LabWindows | None:
        """The validation windows."""
        return None if self._validation is None else self._validation.as_windows()

    def val_inputs(self, module: nn.Module) -> TrainingData | None:
        """Return the validation windows as the network takes them, where and as its weights are."""
        if self._validation is None:
            return None
        like = next(part for part in module.parameters() if part.is_floating_point())
        data = self._validation.data.to(like.device)
        return replace(data, X=data.X.to(like.dtype))

    def val_outputs(self) -> Floats | None:
        """Return the logits of the validation windows, (n_val, K), by the kept weights."""
        return None if self._validation is None else _outputs(self._kept, self._validation.data)

    def kept_module(self) -> Any:
        """Return a copy of the network with the kept weights, in evaluation mode."""
        return copy.deepcopy(self._kept).eval()

    @abstractmethod
    def cost_of(self, arm: Arm) -> float:
        """Return what an arm costs, in epochs of the fit, from its sizes alone."""

    @abstractmethod
    def run(
        self, arms: Sequence[Arm], is_over: Callable[[], bool] | None = None
    ) -> list[ArmResult]:
        """Run arms, side by side where the engine can; one that fails says so in its result.

        When `is_over` says so, those that train end with their epoch, and no other one begins.
        """

    def fixed_windows(self, train: TrainingData, config: TrainingConfig) -> TrainingData:
        """Return the fixed windows of the record out of those of a training."""
        rows = torch.from_numpy(self.record.fixed_rows)
        return centre_windows(train.take(rows, train.X.device), config)

    def read(
        self,
        arm: Arm,
        module: Any,
        validation: Any,
        result: TrainingResult,
        scale: float = 1.0,
    ) -> ArmResult:
        """Return what a training gave."""
        seen = isinstance(validation, TrainingData)
        val_outputs = _outputs(module, validation) if seen else None
        record = result.record
        return ArmResult(
            arm,
            np.zeros(0) if record is None else scale * record.fixed_loss,
            record,
            val_outputs,
            "a loss or gradient is not finite" if result.ended_by == "diverged" else "",
        )


def failed_arm(arm: Arm, error: Exception) -> ArmResult:
    """Return the result of an arm that could not be run."""
    return ArmResult(arm, np.zeros(0), failed=str(error))


def _outputs(module: Any, data: TrainingData) -> Floats:
    outputs: Floats = predict_outputs(module, data.X, data.lengths).numpy().astype(np.float64)
    return outputs


@dataclass(frozen=True)
class Proof:
    """What trials proved."""

    cause: str
    finding: str
    repair: Mapping[str, Any]  # arguments that were tried and adopted
    sentence: str  # the evidence


@dataclass
class Findings:
    """What a probe brings back."""

    trials: list[Trial] = field(default_factory=list)
    not_tested: list[NotTested] = field(default_factory=list)  # what was not, and why
    suspects: list[Suspect] = field(default_factory=list)  # windows whose labels look wrong
    proofs: list[Proof] = field(default_factory=list)  # the best first

    def join(self, other: "Findings") -> None:
        """Take in what another probe brought back."""
        self.trials += other.trials
        self.not_tested += other.not_tested
        self.suspects += other.suspects
        self.proofs += other.proofs


OUT_OF_TIME = "the time was up before it began"  # why an arm failed that was never trained


class Deadline:
    """A callback that ends trainings when the time is up, and lets no other one begin."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def on_fit_begin(self, module: Any, config: Any) -> None:
        """Raise where the time is up."""
        if self._is_over():
            raise TimeoutError(OUT_OF_TIME)

    def on_epoch_end(self, module: Any, history: Any) -> bool:
        """End the training where the time is up."""
        return self._is_over()


LATEST = 1.5  # times the seconds of a purse, when what trains is stopped


class Purse:
    """What probes may still spend: epochs of training, counted, and the time beside them.

    The count decides what is tried, so that the same run gives the same proofs; the clock leaves
    out what would take longer than was announced. `epoch_s` is what an epoch of the fit took.
    """

    def __init__(
        self,
        lab: Lab,
        n_epochs: float,
        seconds: float = math.inf,
        epoch_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.perf_counter,
        began_s: float | None = None,
    ) -> None:
        self.lab = lab
        self.n_epochs = n_epochs
        self.spent = 0.0
        self._charged = 0.0
        self._seconds, self._epoch_s = seconds, epoch_s
        self._clock = clock
        self._began_s = clock() if began_s is None else began_s
        self._running_s = 0.0

    @property
    def left(self) -> float:
        """Epochs that are left, as many as the time is thought to reach for."""
        left = max(0.0, self.n_epochs - self.spent)
        if math.isinf(self._seconds):
            return left
        seconds = max(0.0, self._seconds - (self._clock() - self._began_s))
        run = self.spent - self._charged
        pace = self._running_s / run if run > 0 else self._epoch_s
        return min(left, seconds / pace) if pace > 0 else left * (seconds > 0)

    def is_over(self) -> bool:
        """Whether what trains has to stop: half as much time again as there was has gone by."""
        return self._clock() - self._began_s > LATEST * self._seconds

    def charge(self, n_epochs: float) -> None:
        """Pay for work that is no arm, in epochs of the fit; it says nothing of the pace."""
        self.spent += n_epochs
        self._charged += n_epochs

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Pay for arms and run them; `left` says what can be paid."""
        self.spent += sum(self.lab.cost_of(arm) for arm in arms)
        started = self._clock()
        results = self.lab.run(arms, None if math.isinf(self._seconds) else self.is_over)
        self._running_s += self._clock() - started
        return results
