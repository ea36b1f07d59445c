"""Where a run started and what its gates and time steps did: first loss, saturation, time."""

import math

import numpy as np

from sensorseq.fluctuation.causes.measuring import (
    NAN,
    finite,
    late_details,
    middle,
    ratio,
    step_column,
)
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run
from sensorseq.training_record import TrainingRecord

GATES = ("input", "forget", "cell", "output")
_N_PARTS = 16  # sixteenths of the sequence, of which the record holds profiles
_DEAD = 0.1  # of an even share: a part of the sequence that hears next to nothing

NAMES = (
    "first_loss_excess",
    "first_gradient",
    *(f"saturated_{gate}_first" for gate in GATES),
    "saturated_first",
    "saturated_late",
    "saturated_growth",
    "input_scale",
    "hidden_growth_first",
    "hidden_growth",
    "profile_last",
    "profile_first",
    "profile_concentration",
    "profile_dead",
    "hidden_settles",
    "hidden_change",
)


def measure_start(run: Run) -> dict[str, float]:
    """Return the features of the first step, of the gates and of the time axis."""
    found = dict.fromkeys(NAMES, NAN)
    record = run.record
    if record is None or int(record.epoch_steps[-1]) == 0:
        return found
    loss, norm = step_column(record, "loss"), step_column(record, "grad_norm")
    if math.isfinite(loss[0]) and run.is_in_nats:  # ln K is what a guess costs in nats alone
        found["first_loss_excess"] = float(loss[0]) - run.log_classes
    found["first_gradient"] = float(norm[0])
    first, late = [], []
    for gate in GATES:
        share = step_column(record, f"saturated_{gate}")
        found[f"saturated_{gate}_first"] = float(share[0])
        first.append(float(share[0]))
        late.append(middle(share[len(share) // 2 :]))
    found["saturated_first"] = max(finite(first), default=NAN)
    found["saturated_late"] = max(finite(late), default=NAN)
    found["saturated_growth"] = found["saturated_late"] - found["saturated_first"]
    found["input_scale"] = _input_scale(record)
    found.update(_time(run, record))
    return found


def _input_scale(record: TrainingRecord) -> float:
    """Return how large the inputs are that the first layer hears, by its own gradients.

    The gradient of its input weights is the sum over steps of that of its biases times the input,
    so their quotient is the size of an input vector, in units of the network's inputs.
    """
    scales = []
    for name, norms in record.tensor_grad_norms.items():
        if "weight_ih_l0" not in name:
            continue
        bias = record.tensor_grad_norms.get(name.replace("weight_ih", "bias_ih"))
        if bias is not None:
            under = np.asarray(bias, np.float64)
            scales.append(np.asarray(norms, np.float64) / np.where(under > 0, under, NAN))
    return middle(np.concatenate(scales)) if scales else NAN


def _time(run: Run, record: TrainingRecord) -> dict[str, float]:
    """Return on which part of the sequence the loss depends, and how the hidden vector grows."""
    found: dict[str, float] = {}
    late = late_details(run, record)
    profile = np.asarray(record.time_profile, np.float64)
    if profile.shape == (len(late), _N_PARTS) and len(late):
        held = profile[late] if late.any() else profile
        share = np.array([middle(part) for part in held.T])
        share = share / share.sum() if np.isfinite(share).all() and share.sum() > 0 else share * NAN
        found["profile_last"] = float(share[-4:].sum())
        found["profile_first"] = float(share[:4].sum())
        positive = share[share > 0]
        if np.isfinite(share).all():
            entropy = float(-(positive * np.log(positive)).sum())
            found["profile_concentration"] = math.log(_N_PARTS) - entropy
            found["profile_dead"] = float((share < _DEAD / _N_PARTS).mean())
    hidden = np.asarray(record.hidden_norm, np.float64)
    if hidden.shape == (len(late), _N_PARTS) and len(late):
        found["hidden_growth_first"] = _growth(hidden[:1])
        found["hidden_growth"] = _growth(hidden[late] if late.any() else hidden)
        found["hidden_settles"] = _settles(hidden[late] if late.any() else hidden)
        # over the run, for its size by itself is that of the network
        if late.any() and not late[0]:
            found["hidden_change"] = ratio(middle(hidden[late]), middle(hidden[0]))
    return found


def _growth(hidden: Floats) -> float:
    """Return the hidden norm of the last sixteenth over that of the middle."""
    middle_part = middle(hidden[:, 7])
    return middle(hidden[:, -1]) / middle_part if middle_part > 0 else NAN


def _settles(hidden: Floats) -> float:
    """Return the share of the sequence until the hidden norm reaches nine tenths of its end."""
    mean_norm = np.array([middle(part) for part in hidden.T])
    if not np.isfinite(mean_norm).all() or not mean_norm[-1] > 0:
        return NAN
    return float(np.flatnonzero(mean_norm >= 0.9 * mean_norm[-1])[0] + 1) / _N_PARTS
