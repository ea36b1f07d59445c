"""Arm: one re-run of a fit with other settings; Lab: what runs arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorseq.training_record import TrainingRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Arm:
    """One re-run.

    Parameters
    ----------
    name : str
        What is different in it.
    n_epochs : int
        Its length.
    start : int or None
        Snapshot of the run to continue from, 0 the first weights before any step. The rate then
        falls to nearly nothing along a half cosine, and nothing else changes. None: the network is
        trained from first weights, as `fit` would with `change`.
    seed : int
        Of the order of the windows and of first weights; 0 from first weights: those of the run.
    change : dict
        Arguments of the estimator that differ, with their values; only from first weights.
    decays : bool
        Whether the rate falls along a half cosine; a snapshot's always does.
    """

    name: str
    n_epochs: int
    start: int | None = None
    seed: int = 0
    change: Mapping[str, Any] = field(default_factory=dict)
    decays: bool = False


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What an arm of L epochs gave; empty where it was not measured.

    Parameters
    ----------
    arm : Arm
        The arm.
    fixed_loss : ndarray of shape (L,)
        Loss of the fixed training windows of the run after each epoch, in evaluation mode, in nats.
    val_loss : ndarray of shape (L,)
        Validation loss in nats.
    record : TrainingRecord or None
        What else was noted.
    val_outputs : ndarray of shape (n_val, K) or None
        Logits of the validation windows with the last weights, in evaluation mode.
    failed : str
        Why it ended early, such as a loss that is not finite; the arrays end there.
    """

    arm: Arm
    fixed_loss: Floats
    val_loss: Floats
    record: TrainingRecord | None = None
    val_outputs: Floats | None = None
    failed: str = ""


class LabWindows(NamedTuple):
    """Windows of one part as the network sees them.

    Parameters
    ----------
    X : ndarray of shape (n, t, c), float
        Scaled; padding holds zeros.
    lengths : ndarray of shape (n,) or None
        Valid steps; None when all have t.
    target : ndarray of shape (n,), int64
        Classes, as codes.
    groups : ndarray of shape (n,) or None
        As given to `fit`.
    rows : ndarray of shape (n,), int64, or None
        Of the windows given to `fit`; None where they were given separately.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64] | None
    target: NDArray[np.int64]
    groups: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None


class Lab(Protocol):
    """A recorded fit that can be trained again.

    Attributes
    ----------
    arguments : dict
        The estimator's arguments; of a custom module what is known.
    defaults : dict
        Arguments of a run that is known to do well on most data, as far as they apply here.
    changeable : frozenset of str
        Arguments that `Arm.change` may name here.
    record : TrainingRecord
        Of the fit. Its snapshots are what `Arm.start` counts.
    kept_epoch : int
        Epoch whose weights the fit kept; 0 if that is none of its epochs.
    n_epochs, steps_per_epoch : int
        Epochs of the fit, and steps of each.
    n_classes : int
        K.
    classes : sequence of str
        Names of the classes, by code.
    """

    arguments: Mapping[str, Any]
    defaults: Mapping[str, Any]
    changeable: frozenset[str]
    record: TrainingRecord
    kept_epoch: int
    n_epochs: int
    steps_per_epoch: int
    n_classes: int
    classes: Sequence[str]

    @property
    def train(self) -> LabWindows:
        """The training windows."""

    @property
    def validation(self) -> LabWindows | None:
        """The validation windows."""

    def cost_of(self, arm: Arm) -> float:
        """Return what an arm costs, in epochs of the fit, from its sizes alone."""

    def run(self, arms: Sequence[Arm]) -> list[ArmResult]:
        """Run arms, side by side where the engine can; one that fails says so in its result."""

    def val_outputs(self) -> Floats | None:
        """Return the logits of the validation windows, (n_val, K), by the kept weights."""

    def kept_module(self) -> Any:
        """Return a copy of the network with the kept weights, in evaluation mode."""

    def words(self, change: Mapping[str, Any]) -> str:
        """Return a change of arguments as the user would write it."""
