"""Record a run without changing a bit of its results."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.history import MAX_WATCHED, STEP_NAMES, TrainingRecord
from sensorseq.ops.train_epoch import STATISTIC_COLUMNS, StepStatistics
from sensorseq.training.batches import TrainingData, center_windows
from sensorseq.training.config import TrainingConfig
from sensorseq.training.evaluation import LossFunction, evaluate
from sensorseq.training.stopping import ModuleWeights, float_parts
from sensorseq.training.streamed_data import StreamedData

# The fixed subset has one training window in 20, but at least 32 and at most 256 windows.
FIXED_SHARE, FIXED_LEAST, FIXED_MOST = 20, 32, 256
AVERAGE_DECAY = 0.9

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _timed(
    method: Callable[Concatenate["Recorder", _Given], _Result],
) -> Callable[Concatenate["Recorder", _Given], _Result]:
    @wraps(method)
    def timed(self: "Recorder", /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        started = time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            self.duration_s += time.perf_counter() - started

    return timed


@dataclass
class _Epoch:
    n_steps: list[int] = field(default_factory=list)
    steps: list[NDArray[np.float64]] = field(default_factory=list)  # (S, len(STEP_NAMES)) each
    class_counts: list[NDArray[np.int32]] = field(default_factory=list)  # (S, K) each
    fixed: list[NDArray[np.float64]] = field(default_factory=list)  # (loss, accuracy), (1, 2) each
    # the values of the n tracked windows, (1, n) each
    val_predicted: list[NDArray[np.uint16]] = field(default_factory=list)
    val_margin: list[NDArray[np.float16]] = field(default_factory=list)
    train_margin: list[NDArray[np.float16]] = field(default_factory=list)


class Recorder:
    """Makes the measurements for a `TrainingRecord`; each run needs its own recorder.

    The run calls `begin`, the applicable `note_...` methods in each epoch, and `finish`. The
    recorder neither draws random numbers nor changes the network. Some measurements are not
    possible in every run; they are then empty or NaN:

    - If windows are streamed from their file, there is no fixed subset of the training windows, no
      `averaged_loss` and no `train_margin`.
    - With a custom loss, there is no fixed subset.
    """

    def __init__(self) -> None:
        self.duration_s = 0.0
        self.fixed: TrainingData | None = None

    @_timed
    def begin(
        self,
        config: TrainingConfig,
        train: TrainingData | StreamedData,
        validation: TrainingData | StreamedData | None,
        losses_of: LossFunction,
        device: torch.device,
    ) -> None:
        """Choose the measurements for a run that is about to start."""
        self._losses_of = losses_of
        self._n_classes = config.n_outputs
        self.notes_margins = isinstance(train, TrainingData)
        self._train = _Followed(train.target if self.notes_margins else None)
        self._val = _Followed(None if validation is None else validation.target)
        self._fixed_rows = np.zeros(0, np.int64)
        # A custom loss may count calls or draw random numbers, so do not make additional calls.
        if isinstance(train, TrainingData) and not callable(config.loss):
            n = len(train)
            size = min(n, max(FIXED_LEAST, min(n // FIXED_SHARE, FIXED_MOST)))
            self._fixed_rows = spread_rows(n, size)
            self.fixed = center_windows(
                train.take(torch.from_numpy(self._fixed_rows), device), config
            )
        self._average: Tensor | None = None
        self._done = _Epoch()
        self._now = self._new_epoch()

    def _new_epoch(self) -> _Epoch:
        epoch = _Epoch()
        if len(self._train.rows):
            epoch.train_margin = [np.full((1, len(self._train.rows)), np.nan, np.float16)]
        return epoch

    @property
    def follows_validation(self) -> bool:
        """Whether `note_validation` has windows to track."""
        return len(self._val.rows) > 0

    @_timed
    def note_statistics(
        self,
        data: TrainingData,
        batches: Sequence[NDArray[np.int64]],
        rates: Sequence[float],
        statistics: StepStatistics,
        model: int = 0,
    ) -> None:
        """Record the steps of a native call."""
        values = statistics.values[model].numpy()[: len(batches)]
        margins = None
        if self.notes_margins and statistics.margins is not None:
            margins = statistics.margins[model].numpy()
        self._note(data, batches, rates, values, margins)

    @_timed
    def note_outputs(
        self,
        data: TrainingData,
        batches: Sequence[NDArray[np.int64]],
        rates: Sequence[float],
        totals: NDArray[np.float64],
        step_outputs: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        """Record steps taken by autograd.

        `totals` (S, 3) contains the summed loss, the number of correct windows and the gradient
        norm of each step. `step_outputs` contains the losses, (n,) or (), and the outputs (n, K)
        of the windows of each step.
        """
        sizes = np.array([len(rows) for rows in batches])
        values = np.full((len(batches), len(STATISTIC_COLUMNS)), np.nan)
        column = STATISTIC_COLUMNS.index
        values[:, column("grad_norm")] = totals[:, 2]
        values[:, column("loss")] = totals[:, 0] / sizes
        values[:, column("accuracy")] = totals[:, 1] / sizes
        losses, outputs = zip(*step_outputs, strict=True)
        if all(of_step.ndim for of_step in losses):
            each = torch.cat(losses).double().cpu().numpy()
            values[:, column("loss_variance")] = _variances(each, sizes)
        margins = None
        if self.notes_margins:
            every = torch.cat(outputs).cpu().numpy()
            margins = margins_of(every, self._classes_of(data)[np.concatenate(batches)])
        self._note(data, batches, rates, values, margins)

    def _note(
        self,
        data: TrainingData,
        batches: Sequence[NDArray[np.int64]],
        rates: Sequence[float],
        values: NDArray[np.float64],
        margins: NDArray[Any] | None,
    ) -> None:
        sizes, now = [len(rows) for rows in batches], self._now
        now.steps.append(np.column_stack([sizes, rates, values]))
        rows, n_classes = np.concatenate(batches), self._n_classes
        cells = np.repeat(np.arange(len(sizes)), sizes) * n_classes + self._classes_of(data)[rows]
        counts = np.bincount(cells, minlength=len(sizes) * n_classes)
        now.class_counts.append(counts.reshape(-1, n_classes).astype(np.int32))
        if self.notes_margins and margins is not None:
            self._train.put(now.train_margin[0][0], rows, margins[: len(rows)])

    def _classes_of(self, data: TrainingData) -> NDArray[np.int64]:
        if self.notes_margins:
            return self._train.all_targets
        return np.asarray(data.target.cpu().numpy())

    @_timed
    def note_validation(self, outputs: Sequence[Tensor]) -> None:
        """Record the outputs of the validation windows, given as one tensor (n, K) per batch."""
        joined = outputs[0] if len(outputs) == 1 else torch.cat(list(outputs))
        followed = self._val.of(joined.cpu().numpy())
        self._now.val_predicted = [followed.argmax(axis=1).astype(np.uint16)[np.newaxis]]
        self._now.val_margin = [_half(margins_of(followed, self._val.target))[np.newaxis]]

    @_timed
    def measure_fixed(self, module: nn.Module) -> None:
        """Evaluate the fixed windows with the network's current weights."""
        if self.fixed is not None:
            self.note_fixed(*evaluate(module, self.fixed, self._losses_of))

    def note_fixed(self, loss: float, accuracy: float) -> None:
        """Record the loss and the accuracy on the fixed windows."""
        self._now.fixed = [np.array([[loss, accuracy]])]

    @_timed
    def end_epoch(self, weights: ModuleWeights) -> None:
        """Store the records of an epoch, and add the validated weights to the average."""
        epoch, done = self._now, self._done
        if self.fixed is not None:
            here, n_before = weights.join(), len(done.n_steps)
            if self._average is None:
                self._average = here.clone()
            else:  # larger fractions at first, so that the first epoch gets no extra weight
                share = (1 - AVERAGE_DECAY) / (1 - AVERAGE_DECAY ** (n_before + 1))
                self._average.lerp_(here, share)
        epoch.n_steps = [sum(len(part) for part in epoch.steps)]
        for name, parts in vars(epoch).items():
            getattr(done, name).extend(parts)
        self._now = self._new_epoch()

    def _widths(self) -> dict[str, tuple[int, Any]]:
        """Return each array's number of columns if no epoch is recorded, and the array's dtype."""
        return {
            "steps": (len(STEP_NAMES), np.float64),
            "fixed": (2, np.float64),
            "val_predicted": (0, np.uint16),
            "val_margin": (0, np.float16),
            "train_margin": (0, np.float16),
            "class_counts": (self._n_classes, np.int32),
        }

    def _joined(self) -> dict[str, NDArray[Any]]:
        """Concatenate the records of all epochs."""
        arrays = {}
        for name, (width, dtype) in self._widths().items():
            parts = getattr(self._done, name)
            n_rows = 0 if width else len(self._done.n_steps)  # one row for each epoch
            arrays[name] = np.concatenate(parts) if parts else np.zeros((n_rows, width), dtype)
        return arrays

    def finish(self, module: nn.Module, n_epochs: int) -> TrainingRecord | None:
        """Return the record of a run that ended after `n_epochs`.

        The result is None if an interrupt left the last epoch incomplete.
        """
        n_steps = self._done.n_steps[:n_epochs]  # without an incomplete epoch, if one was recorded
        if len(n_steps) < n_epochs:
            return None
        averaged_loss = self._measure_average(module)
        joined, n_all = self._joined(), sum(n_steps)
        steps, fixed = joined["steps"][:n_all], joined["fixed"][:n_epochs]
        return TrainingRecord(
            epoch_steps=np.concatenate([[0], np.cumsum(n_steps, dtype=np.int64)]).astype(np.int64),
            steps={name: steps[:, i].copy() for i, name in enumerate(STEP_NAMES)},
            class_counts=joined["class_counts"][:n_all],
            fixed_rows=self._fixed_rows,
            fixed_loss=fixed[:, 0].copy(),
            fixed_accuracy=fixed[:, 1].copy(),
            averaged_loss=averaged_loss,
            average_decay=AVERAGE_DECAY,
            val_rows=self._val.rows,
            val_target=self._val.target,
            val_predicted=joined["val_predicted"][:n_epochs],
            val_margin=joined["val_margin"][:n_epochs],
            train_rows=self._train.rows,
            train_target=self._train.target,
            train_margin=joined["train_margin"][:n_epochs],
            duration_s=self.duration_s,
        )

    @_timed
    @torch.no_grad()
    def _measure_average(self, module: nn.Module) -> float:
        """Return the loss on the fixed windows with the weights averaged over the epochs."""
        if self._average is None or self.fixed is None:
            return math.nan
        averaged = copy.deepcopy(module)
        parts = float_parts(averaged)
        for part, mean in zip(
            parts, self._average.split([part.numel() for part in parts]), strict=True
        ):
            part.copy_(mean.view_as(part))
        return evaluate(averaged, self.fixed, self._losses_of)[0]


_is_recording = True


def new_recorder() -> Recorder | None:
    """Return a recorder for a run, or None within a `without_recording` block."""
    return Recorder() if _is_recording else None


@contextmanager
def without_recording() -> Iterator[None]:
    """Disable recording for all fits of this process while a block runs; results do not change."""
    global _is_recording
    before, _is_recording = _is_recording, False
    try:
        yield
    finally:
        _is_recording = before


def margins_of(outputs: NDArray[Any], target: NDArray[np.int64]) -> NDArray[Any]:
    """Return the margins (n,): the logit of a window's class minus its largest other logit."""
    every = np.arange(len(outputs))
    of_class, of_others = outputs[every, target], outputs.copy()
    if outputs.shape[1] == 1:
        return np.zeros_like(of_class)
    of_others[every, target] = -np.inf
    with np.errstate(invalid="ignore"):  # margins of non-finite outputs are meant to be NaN
        return np.asarray(of_class - of_others.max(axis=1))


class _Followed:
    """The windows of a part that are tracked individually: all, or an evenly spaced sample."""

    def __init__(self, target: Tensor | None) -> None:
        none = np.zeros(0, np.int64)
        self.all_targets = none if target is None else target.cpu().numpy()
        n_windows = len(self.all_targets)
        self.rows = spread_rows(n_windows, min(n_windows, MAX_WATCHED))
        self._are_all = len(self.rows) == n_windows
        self.target = self.of(self.all_targets)
        if not self._are_all:
            self._place = np.full(n_windows, -1)
            self._place[self.rows] = np.arange(len(self.rows))

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Select the values of the tracked windows from the values of all windows."""
        return values if self._are_all else values[self.rows]

    def put(self, into: NDArray[np.float16], rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Store values at their windows' positions; a repeated window keeps the last value."""
        if not self._are_all:
            places = self._place[rows]
            rows, values = places[places >= 0], values[places >= 0]
        into[rows] = _half(values)


def _half(values: NDArray[Any]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):  # values that are too large are meant to become infinite
        return values.astype(np.float16)


def spread_rows(n_windows: int, n_chosen: int) -> NDArray[np.int64]:
    """Return the indices of evenly spaced windows."""
    return np.arange(n_chosen, dtype=np.int64) * n_windows // max(1, n_chosen)


def _variances(losses: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    with np.errstate(invalid="ignore"):  # variances of non-finite losses are meant to be NaN
        mean = np.add.reduceat(losses, starts) / sizes
        return np.asarray(np.add.reduceat((losses - np.repeat(mean, sizes)) ** 2, starts) / sizes)
