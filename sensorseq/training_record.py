"""TrainingRecord: measurements a run takes in addition to its History, for fluctuation reports."""

from collections.abc import Mapping
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
    "update_ratio",
    "gradient_noise",
    "saturated_input",
    "saturated_forget",
    "saturated_cell",
    "saturated_output",
)
DETAIL_NAMES = (
    "same_batch_loss_before",
    "same_batch_loss_after",
    "gradient_cosine",
    "dropout_variance",
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


@dataclass(eq=False)
class TrainingRecord:
    """Measurements of a run of E epochs and S steps; NaN where nothing was measured.

    Both engines use the same names with the same meaning. Recording does not change the training
    by a single bit.

    Attributes
    ----------
    epoch_steps : ndarray of shape (E + 1,), int64
        First step of each epoch, and the end of the last.
    steps : dict of str to ndarray of shape (S,), float64
        `STEP_NAMES`. Up to `grad_norm` of every step: windows in the batch, learning rate, loss of
        the batch (nats, before the step, in training mode), variance of the windows' losses in it,
        accuracy, global gradient norm before clipping. The others, every `detail_every` steps:
        |change| / |parameters|; trace of the covariance of one window's gradient; share of each
        gate's values near its bounds (outside [0.05, 0.95], for the cell |g| > 0.9).
    class_counts : ndarray of shape (S, K), int32, or None
        Windows of each class in each batch; None for a regression.
    detail_steps : ndarray of shape (D,), int64
        Steps, counted from 0, at which the details below were measured.
    details : dict of str to ndarray of shape (D,), float64
        `DETAIL_NAMES`: loss of the batch in evaluation mode right before and right after its own
        step (nats); cosine of the gradients of this step and the one measured before; variance of
        the batch's mean loss over 4 dropout masks at fixed weights (NaN without dropout).
    tensor_grad_norms : dict of str to ndarray of shape (D,)
        Norm of each parameter's gradient at those steps, by its name in the state dict.
    time_profile : ndarray of shape (D, 16), float64
        Share of ``|dL/dx_t|`` in each sixteenth of the sequence at those steps; rows sum to one.
    hidden_norm : ndarray of shape (D, 16), float64
        Mean norm of the top layer's hidden vector over each sixteenth of the sequence.
    fixed_rows : ndarray of shape (m,), int64
        Training windows in the fixed subset.
    fixed_loss, fixed_accuracy : ndarray of shape (E,)
        Mean loss (nats) and accuracy of that subset after each epoch, in evaluation mode and
        unweighted, so that sampling, dropout and the validation size have no effect.
    averaged_loss : float
        Loss of the fixed subset with the average of the weights after each epoch, exponentially
        weighted with `average_decay`; measured once, at the end.
    average_decay : float
        Decay of that average, per epoch.
    val_rows : ndarray of shape (v,), int64
        Tracked validation windows: all of them up to `MAX_WATCHED`.
    val_target : ndarray of shape (v,), int64
        Their classes, as codes.
    val_groups : ndarray of shape (v,), int64, or None
        Codes of the recordings or groups they come from; None if groups were not given.
    val_predicted : ndarray of shape (E, v), uint16
        Predicted class of each after each epoch.
    val_margin : ndarray of shape (E, v), float16
        Logit of the true class minus the largest other logit.
    train_rows : ndarray of shape (w,), int64
        Tracked training windows: all of them up to `MAX_WATCHED`.
    train_target : ndarray of shape (w,), int64
        Their classes, as codes.
    train_margin : ndarray of shape (E, w), float16
        Margin of each before the step that used it, in training mode; NaN in epochs that did not
        use it.
    snapshots : list of Snapshot
        The first from before training, then up to four at regular intervals of epochs.
    duration_s : float
        Time that recording took, as far as it can be separated from training.
    loss_unit : str
        ``"nats"`` for cross-entropy; ``""`` in the report of a fit that minimised another loss,
        whose unit is unknown.
    """

    epoch_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    class_counts: NDArray[np.int32] | None = None
    detail_steps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    details: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    tensor_grad_norms: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    time_profile: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 16)))
    hidden_norm: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 16)))
    fixed_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    fixed_loss: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    fixed_accuracy: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    averaged_loss: float = np.nan
    average_decay: float = 0.9
    val_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    val_target: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    val_groups: NDArray[np.int64] | None = None
    val_predicted: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((0, 0), np.uint16))
    val_margin: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    train_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    train_target: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    train_margin: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    snapshots: list[Snapshot] = field(default_factory=list)
    duration_s: float = 0.0
    loss_unit: str = "nats"

    @property
    def n_epochs(self) -> int:
        """Number of recorded epochs."""
        return len(self.epoch_steps) - 1

    @property
    def is_in_nats(self) -> bool:
        """Whether its losses are in nats, so that thresholds in nats apply."""
        return self.loss_unit == "nats"

    @property
    def unit_after(self) -> str:
        """Text to write after a loss: a space and the unit, or nothing."""
        return f" {self.loss_unit}" if self.loss_unit else ""

    @property
    def val_correct(self) -> NDArray[np.bool_]:
        """Which validation windows were predicted right after each epoch, of shape (E, v)."""
        return np.asarray(self.val_predicted == self.val_target)
