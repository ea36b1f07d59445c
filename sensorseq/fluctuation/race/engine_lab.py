"""EngineLab: what the re-runs of our estimators and of custom modules have in common."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sensorseq.fluctuation.race.arm import Arm, ArmResult, Floats, LabWindows
from sensorseq.training.batches import TrainingData, centre_windows
from sensorseq.training.config import TrainingConfig
from sensorseq.training.engine import TrainingResult
from sensorseq.training.evaluation import predict_outputs
from sensorseq.training_record import TrainingRecord


@dataclass(frozen=True, eq=False)
class LabPart:
    """Windows of one part as the engine takes them.

    Parameters
    ----------
    data : TrainingData
        Windows and classes.
    groups, rows : ndarray or None
        Of `LabWindows`.
    """

    data: TrainingData
    groups: NDArray[Any] | None
    rows: NDArray[np.int64] | None

    def as_windows(self) -> LabWindows:
        """Return them as arrays."""
        data = self.data
        lengths = None if data.lengths is None else data.lengths.cpu().numpy()
        target = data.target.cpu().numpy()
        return LabWindows(data.X.cpu().numpy(), lengths, target, self.groups, self.rows)


class EngineLab:
    """Windows, kept weights and results of re-runs; see `sensorseq.fluctuation.race.arm.Lab`.

    Parameters
    ----------
    record : TrainingRecord
        Of the fit.
    kept : torch.nn.Module
        With the weights that the fit kept.
    kept_epoch : int
        Their epoch; 0 if that is none of the record.
    parts : tuple of LabPart
        Training and validation; the second may be None.
    classes : sequence of str
        Names.
    """

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

    def val_outputs(self) -> Floats | None:
        """Return the logits of the validation windows, (n_val, K), by the kept weights."""
        return None if self._validation is None else _outputs(self._kept, self._validation.data)

    def kept_module(self) -> Any:
        """Return a copy of the network with the kept weights, in evaluation mode."""
        return copy.deepcopy(self._kept).eval()

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
        val_loss = [row["val_loss"] for row in result.history if row.get("val_loss") is not None]
        record = result.record
        return ArmResult(
            arm,
            np.zeros(0) if record is None else scale * record.fixed_loss,
            scale * np.array(val_loss, np.float64),
            record,
            val_outputs,
            "a loss or gradient is not finite" if result.ended_by == "diverged" else "",
        )


def failed_arm(arm: Arm, error: Exception) -> ArmResult:
    """Return the result of an arm that could not be run."""
    return ArmResult(arm, np.zeros(0), np.zeros(0), failed=str(error))


def _outputs(module: Any, data: TrainingData) -> Floats:
    outputs: Floats = predict_outputs(module, data.X, data.lengths).numpy().astype(np.float64)
    return outputs
