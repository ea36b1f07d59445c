"""TrainingRecord: measurements a run takes in addition to its History, for fluctuation reports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_WATCHED = 20_000  # windows of a part tracked one by one; of more, an even sample is tracked
STEP_NAMES = (
    "n_windows",
    "learning_rate",
    "loss",
    "loss_variance",
    "accuracy",
    "grad_norm",
)


@dataclass(frozen=True)
class Snapshot:
    """The state of a run after `epoch` epochs and `step` steps, from which it can continue.

    `state` is the run's `state_dict`: weights, optimizer, schedule and every generator. The tensors
    are copies that nothing else modifies.
    """

    epoch: int
    step: int
    state: Mapping[str, Any]


def _none(dtype: Any, *shape: int) -> Callable[[], NDArray[Any]]:
    return lambda: np.zeros(shape or 0, dtype)


@dataclass(eq=False)
class TrainingRecord:
    """Measurements of a run of E epochs and S steps; NaN where nothing was measured.

    Both engines use the same names with the same meaning. Recording does not change the training
    by a single bit.
    """

    # (E + 1,): first step of each epoch, and the end of the last
    epoch_steps: NDArray[np.int64] = field(default_factory=_none(np.int64, 1))
    # `STEP_NAMES`, (S,) each: windows in the batch, learning rate, loss of the batch (nats, before
    # the step, in training mode), variance of the windows' losses in it, accuracy, global gradient
    # norm before clipping
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    class_counts: NDArray[np.int32] | None = None  # (S, K), of each batch; None for a regression
    input_rms: float = np.nan  # root mean square of the fixed subset's values: 1 if standardized
    fixed_rows: NDArray[np.int64] = field(default_factory=_none(np.int64))  # of training windows
    # (E,): mean loss (nats) and accuracy of that fixed subset after each epoch, in evaluation mode
    # and unweighted, so that sampling, dropout and the validation size have no effect
    fixed_loss: NDArray[np.float64] = field(default_factory=_none(np.float64))
    fixed_accuracy: NDArray[np.float64] = field(default_factory=_none(np.float64))
    # of the fixed subset, with the exponential average of the weights after each epoch
    averaged_loss: float = np.nan
    average_decay: float = 0.9  # per epoch
    # (v,): the validation windows that are tracked, their classes, and their recordings or groups,
    # as codes; then (E, v): the predicted class, and the logit of the true class minus the largest
    # other one, after each epoch
    val_rows: NDArray[np.int64] = field(default_factory=_none(np.int64))
    val_target: NDArray[np.int64] = field(default_factory=_none(np.int64))
    val_groups: NDArray[np.int64] | None = None
    val_predicted: NDArray[np.uint16] = field(default_factory=_none(np.uint16, 0, 0))
    val_margin: NDArray[np.float16] = field(default_factory=_none(np.float16, 0, 0))
    # the training windows that are tracked, (w,); their margins, (E, w), are from before the step
    # that used each, in training mode; NaN in epochs that did not use it
    train_rows: NDArray[np.int64] = field(default_factory=_none(np.int64))
    train_target: NDArray[np.int64] = field(default_factory=_none(np.int64))
    train_margin: NDArray[np.float16] = field(default_factory=_none(np.float16, 0, 0))
    # the first from before training, then up to four at regular intervals of epochs
    snapshots: list[Snapshot] = field(default_factory=list)
    duration_s: float = 0.0  # of recording, as far as it can be separated from training
    loss_unit: str = "nats"  # "" if another loss than cross-entropy was minimized

    @property
    def n_epochs(self) -> int:
        """Number of recorded epochs."""
        return len(self.epoch_steps) - 1

    @property
    def is_in_nats(self) -> bool:
        """Whether its losses are in nats, so that thresholds in nats apply."""
        return self.loss_unit == "nats"

    @property
    def val_correct(self) -> NDArray[np.bool_]:
        """Which validation windows were predicted right after each epoch, of shape (E, v)."""
        return np.asarray(self.val_predicted == self.val_target)
