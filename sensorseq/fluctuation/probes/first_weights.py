"""Runs from the first weights of a fit, over a third of it: what repairs are compared on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sensorseq.fluctuation.causes.step_causes import EMA_DECAY
from sensorseq.fluctuation.probes.arm import Arm, ArmResult, Lab
from sensorseq.fluctuation.probes.noise_of_arms import FIRST_SHARE_ANEW, ArmNumbers, measure_arm
from sensorseq.fluctuation.probes.purse import Purse

_LEAST_EPOCHS = 9  # of a run from first weights, a third of which is left out
_SHARE = 3  # of the epochs of the fit, as its inverse


class Repair(NamedTuple):
    """Arguments that repair a run, and how they were found.

    Parameters
    ----------
    change : dict
        For `set_params`; empty where nothing is to be changed.
    note : str
        How it was found, or why it is empty.
    """

    change: dict[str, Any]
    note: str


# Two repairs of noise at a rate that is right otherwise.
FALLING: dict[str, Any] = {"lr_schedule": "cosine"}
AVERAGED: dict[str, Any] = {"ema_decay": EMA_DECAY}
AVERAGING = "an average of the weights"
NO_FIRST_WEIGHTS = "the fit went on from another and has no first weights to go back to"


def has_first_weights(lab: Lab) -> bool:
    """Whether the network can be made anew as it was made for the run."""
    return math.isfinite(lab.cost_of(Arm("unchanged", 1, start=None)))


def may_average(lab: Lab) -> bool:
    """Whether the run can take an average of its weights, and did not.

    Not of other losses than cross-entropy: what it gains there was not calibrated.
    """
    is_open = "ema_decay" in lab.changeable and not lab.arguments.get("ema_decay")
    return is_open and lab.record.is_in_nats


def can_make(lab: Lab, change: Mapping[str, Any]) -> bool:
    """Whether a run from first weights can have a change."""
    knows_rate = isinstance(lab.arguments.get("learning_rate"), int | float)
    return has_first_weights(lab) and all(
        name in lab.changeable
        or (name == "learning_rate" and knows_rate)
        or (name == "lr_schedule" and value == "cosine")
        for name, value in change.items()
    )


def repair_arm(lab: Lab, change: Mapping[str, Any]) -> Arm:
    """Return a run from the first weights of the run, by arguments where the lab knows them."""
    possible = {key: value for key, value in change.items() if key in lab.changeable}
    factor, decays = 1.0, False
    rate = lab.arguments.get("learning_rate")
    if "learning_rate" in change and "learning_rate" not in possible and rate:
        factor = float(change["learning_rate"]) / float(rate)
    if change.get("lr_schedule") == "cosine" and "lr_schedule" not in possible:
        decays = True
    return Arm(
        in_words(change) if change else "unchanged",
        0,
        start=None,
        seed=0,
        change=possible,
        rate_factor=factor,
        decays=decays,
    )


def fit_to_purse(purse: Purse, arms: Sequence[Arm]) -> list[Arm] | None:
    """Return the arms at the length that can be paid for, None where not even short ones can."""
    most = max(purse.lab.n_epochs // _SHARE, _LEAST_EPOCHS)
    for n_epochs in range(most, _LEAST_EPOCHS - 1, -1):
        ready = [replace(arm, n_epochs=n_epochs) for arm in arms]
        if purse.affords(ready):
            return ready
    return None


def measure_anew(lab: Lab, result: ArmResult) -> ArmNumbers:
    """Return the noise and the losses of a run from first weights."""
    return measure_arm(result, math.log(max(lab.n_classes, 2)), FIRST_SHARE_ANEW)


def costs_accuracy(lab: Lab, result: ArmResult, other: ArmResult) -> bool:
    """Whether the accuracy is lower than another one's by more than one standard error."""
    if result.failed and not other.failed:
        return True
    one, two = _late_accuracy(result), _late_accuracy(other)
    if lab.validation is None or not (math.isfinite(one) and math.isfinite(two)):
        return False
    n_windows = len(lab.validation.target)
    rate = min(max(two, 1 / (n_windows + 1)), n_windows / (n_windows + 1))
    return two - one > math.sqrt(rate * (1 - rate) / n_windows)


def _late_accuracy(result: ArmResult) -> float:
    accuracy = np.asarray(result.val_accuracy, np.float64)
    return float(accuracy[len(accuracy) // 2 :].mean()) if len(accuracy) else math.nan


def in_words(change: Mapping[str, Any]) -> str:
    """Return arguments as they are written in a call."""
    return ", ".join(f"{name}={value!r}" for name, value in change.items())
