"""Use training runs with known outcomes to tell a bug from a hard problem."""

from collections.abc import Sequence
from typing import Any

from sensorseq.errors import ArgumentError
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.inspection.check_result import CheckResult, Diagnosis
from sensorseq.inspection.short_trainings import plant_windows
from sensorseq.inspection.training_check import run_checks

__all__ = ["CheckResult", "Diagnosis", "check_training", "plant_windows"]


def check_training(
    estimator: SensorLSTMClassifier,
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    lengths: Any = None,
    only: Sequence[str] | None = None,
    random_state: int = 0,
) -> Diagnosis:
    """Use training runs with known outcomes to tell a bug from a hard problem.

    The network of `estimator` must overfit one small batch, distinguish two synthetic wave shapes
    in windows like yours, and stay at chance when each recording gets a random label. As long as
    the weights do not change, the validation loss must be the same in every epoch. The data are
    checked for common faults: dead channels, a label among the channels, a class that dominates,
    and windows that share samples across a split.

    Parameters
    ----------
    estimator : SensorLSTMClassifier
        A fitted or unfitted estimator; it is not changed.
    X, y, groups, lengths : as in its `fit`
        The data on which you train the estimator. Data that `fit` would reject are rejected with
        the same message.
    only : sequence of str, optional
        Names of the checks to run; all of them by default.
    random_state : int, default=0
        Seed of the short training runs. The same seed gives the same results, however slow the
        machine.

    Returns
    -------
    Diagnosis
        The results of all checks; print it to read them. `passed` is False if a check failed.

    Raises
    ------
    InputError
        If `fit` would reject the data; the message is the same.
    ArgumentError
        If `only` names an unknown check, or `estimator` is not a SensorLSTMClassifier.

    Notes
    -----
    The checks stay fast on large data: they use a few windows with at most 128 steps each, and
    replace a large network with one that has fewer hidden units.
    """
    if not isinstance(estimator, SensorLSTMClassifier):
        raise ArgumentError(
            f"estimator is a {type(estimator).__name__}; give a SensorLSTMClassifier. For a"
            " pipeline, give its last step and the transformed windows."
        )
    return run_checks(
        estimator._checked_fit(),
        X,
        y,
        groups=groups,
        lengths=lengths,
        only=only,
        random_state=random_state,
    )
