"""Arm: one re-run of a fit with at most one change; Lab: what runs arms."""

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
        How long it is: epochs over its windows.
    start : int or None
        Which of the lab's snapshots it goes on from, 0 the first weights before any step. None: the
        network is made anew, as `fit` would with `change`.
    seed : int or None
        Of the order of the windows. None is the order that the run itself had from there on. Where
        the network is made anew also of its first weights; 0 or None: those that the run had.
    change : dict
        Arguments of the estimator that differ, with their values. From a snapshot only those that
        leave the network as it is.
    rate_factor : float
        On every learning rate that the run had from there on.
    decays : bool
        Whether the rate also falls to nearly nothing over the arm, along a half cosine.
    restarts_optimizer : bool
        Whether it forgets the optimizer's moments; so it must where `change` changes the optimizer.
    rescale : tuple of two ndarray of shape (c,), or None
        Mean and standard deviation by which the input is scaled once more; the first layer's
        weights make up for it, so that the network computes what it did.
    train_rows : ndarray of int64 or None
        Rows of the lab's training windows to train on; None for all.
    predict_rows : ndarray of int64 or None
        Rows of the lab's training windows for which `ArmResult.outputs` is wanted.
    """

    name: str
    n_epochs: int
    start: int | None = None
    seed: int | None = 0
    change: Mapping[str, Any] = field(default_factory=dict)
    rate_factor: float = 1.0
    decays: bool = False
    restarts_optimizer: bool = False
    rescale: tuple[Floats, Floats] | None = None
    train_rows: NDArray[np.int64] | None = None
    predict_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What an arm of L epochs gave; NaN or empty where it was not measured.

    Parameters
    ----------
    arm : Arm
        The arm.
    fixed_loss : ndarray of shape (L,)
        Loss of the fixed training windows after each epoch, in evaluation mode, in nats. They are
        those of the run's record.
    loss, val_loss, val_accuracy : ndarray of shape (L,)
        Of a history, losses in nats too; empty without validation windows.
    averaged_loss : float
        Loss of the fixed training windows under the mean of the weights over the second half.
    record : TrainingRecord or None
        What else was noted.
    outputs : ndarray of shape (n, K) or None
        Logits of `Arm.predict_rows` with the last weights, in evaluation mode.
    val_outputs : ndarray of shape (n_val, K) or None
        Logits of the validation windows with the last weights, in evaluation mode.
    failed : str
        Why it ended early, such as a loss that is not finite; the arrays are as long as it went.
    """

    arm: Arm
    fixed_loss: Floats
    loss: Floats
    val_loss: Floats
    val_accuracy: Floats
    averaged_loss: float
    record: TrainingRecord | None = None
    outputs: Floats | None = None
    failed: str = ""
    val_outputs: Floats | None = None


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
        Of the windows given to `fit`; None where they were given apart.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64] | None
    target: NDArray[np.int64]
    groups: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None


class Lab(Protocol):
    """A recorded fit that can be run again, as a whole or from one of its snapshots.

    Attributes
    ----------
    arguments : dict
        The estimator's own arguments, for the words of a recommendation; of a foreign module what
        is known.
    defaults : dict
        Arguments of a run that is known to do well on most data, as far as they apply here.
    changeable : frozenset of str
        Arguments that `Arm.change` may name here.
    record : TrainingRecord
        Of the fit. Its snapshots are what `Arm.start` counts.
    n_epochs : int
        Epochs that the fit took.
    steps_per_epoch : int
        Steps of each.
    n_classes : int
        K.
    classes : sequence of str
        Names of the classes, by code.
    """

    arguments: Mapping[str, Any]
    defaults: Mapping[str, Any]
    changeable: frozenset[str]
    record: TrainingRecord
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
        """Return the logits of the validation windows, (n_val, K), by the weights that it kept."""

    def module_at(self, start: int) -> Any:
        """Return a network of its own with the weights of a snapshot, in evaluation mode."""
