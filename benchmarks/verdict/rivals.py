"""The rules of AutoTrainer and of UMLAUT, reimplemented from their definitions.

AutoTrainer: Zhang, Zhai, Ma, Shen, *AUTOTRAINER: An Automatic DNN Training Problem Detection and
Repair System*, ICSE 2021; the numbers are the defaults in its repository, shiningrain/AUTOTRAINER,
AutoTrainer/utils/monitor.py. UMLAUT: Schoop, Huang, Hartmann, *UMLAUT: Debugging Deep Learning
Programs using Program Structure and Model Behavior*, CHI 2021; the numbers are from
BerkeleyHCI/umlaut, umlaut/heuristics.py.

Interpretations: AutoTrainer checks every third epoch, as with `checktype="epoch_3"`. Here, the
checks continue after an alarm, and a single alarm flags the run. The input weights of the LSTM
count as the first layer, and the weights of the head as the last layer. Gradients are computed on
the first training batch. In AutoTrainer's code, a check that finds that a run has not converged
disables the oscillation rule permanently. Here, the rule is disabled only until the run has
converged, so it raises more alarms. The dying-ReLU rule is omitted because no run has a ReLU. Large
weights raise no alarm. UMLAUT's rules about code (missing softmax, missing activations, shape and
type of the input) are omitted because every run here satisfies them. The rule on dropout above 0.5
is only in the paper, and no run exceeds 0.5.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from verdict.runs import GRADIENTS_EVERY, Evidence

# AutoTrainer's defaults
LEAST_GRADIENT_RATIO = 1e-3  # beta_1: gradient norm of the first layer / that of the last layer
LEAST_GRADIENT = 1e-4  # beta_2: norm of the first layer's gradient
GREATEST_GRADIENT_RATIO = 70.0  # beta_3
OSCILLATION = 0.03  # zeta: least drop from a maximum of the training accuracy to a minimum
OSCILLATING_SHARE = 0.2  # eta: fraction of the epochs with an oscillation
LEAST_GAIN = 0.01  # delta: slow if the accuracy never gains this much in one epoch
TARGET_ACCURACY = 0.7  # Theta: below this, training has not converged
LOSS_CEILING = 1e5  # a validation loss that counts as exploded
FIRST_JUDGED = 0.3  # curves are judged after this fraction of the planned epochs

# UMLAUT's defaults
RATE_CEILING, RATE_FLOOR = 0.01, 1e-7
ACCURACY_CEILING = 0.95  # a higher validation accuracy is too good to be true
FIRST_EPOCH = 3  # the first epoch (counted from 0) whose accuracy is judged
INPUT_BOUND = 1.0

FIRST_LAYER, LAST_LAYER = "lstm.weight_ih_l0", "linear.weight"


def _oscillates(accuracy: Sequence[float]) -> bool:
    """Pair local maxima and minima in order; return whether enough pairs are far apart."""
    maxima, minima = [], []
    for before, here, after in zip(accuracy, accuracy[1:], accuracy[2:], strict=False):
        if here >= before and here >= after:
            maxima.append(here)
        if here <= before and here <= after:
            minima.append(here)
    apart = sum(high - low >= OSCILLATION for high, low in zip(maxima, minima, strict=False))
    return apart >= OSCILLATING_SHARE * len(accuracy)


def autotrainer_oscillation(run: Evidence) -> bool:
    """AutoTrainer's rule for an oscillating loss, applied to the training accuracy."""
    accuracy = [row["accuracy"] for row in run.rows]
    return any(_oscillates(accuracy[:n]) for n in _checks(run) if _is_judged(run, n))


def autotrainer(run: Evidence) -> bool:
    """AutoTrainer's rules: bad gradients, slow convergence, oscillation and non-finite losses."""
    return any(_problem(run, n) for n in _checks(run))


def _checks(run: Evidence) -> range:
    return range(GRADIENTS_EVERY, len(run.rows) + 1, GRADIENTS_EVERY)


def _is_judged(run: Evidence, n_epochs: int) -> bool:
    planned = run.plan["arguments"]["max_epochs"] * run.plan["change"].get("n_cycles", 1)
    return n_epochs >= FIRST_JUDGED * planned


def _problem(run: Evidence, n_epochs: int) -> bool:
    rows = run.rows[:n_epochs]
    losses = [row[name] for row in rows for name in ("loss", "val_loss")]
    if not all(map(math.isfinite, losses)) or rows[-1]["val_loss"] >= LOSS_CEILING:
        return True
    index = n_epochs // GRADIENTS_EVERY - 1
    # A run that ended early has no gradients for the last planned epochs.
    norms = [run.gradients.get(name, [])[index : index + 1] for name in (FIRST_LAYER, LAST_LAYER)]
    first, last = (float(norm[0]) if len(norm) else 1.0 for norm in norms)
    if not (math.isfinite(first) and math.isfinite(last)):
        return True
    if not _is_judged(run, n_epochs):
        return False
    train, validation = ([row[name] for row in rows] for name in ("accuracy", "val_accuracy"))
    converged = max(train) >= TARGET_ACCURACY and max(validation) >= TARGET_ACCURACY
    slow = _largest_gain(train) < LEAST_GAIN and _largest_gain(validation) < LEAST_GAIN
    if converged and not slow:
        return _oscillates(train)
    ratio = first / last if last > 0 else math.inf
    explodes = ratio > GREATEST_GRADIENT_RATIO
    vanishes = ratio < LEAST_GRADIENT_RATIO and first < LEAST_GRADIENT
    return explodes or vanishes or slow


def _largest_gain(accuracy: Sequence[float]) -> float:
    return max((after - before for before, after in pairwise(accuracy)), default=0.0)


def umlaut_overfitting(run: Evidence) -> bool:
    """UMLAUT's rule for overfitting: the validation loss rises and the training loss does not."""
    return any(
        after["val_loss"] > before["val_loss"] and after["loss"] <= before["loss"]
        for before, after in pairwise(run.rows)
    )


def umlaut_rate(run: Evidence) -> bool:
    """UMLAUT's rule for a learning rate that is outside the usual range in at least one epoch."""
    return any(not RATE_FLOOR <= row["learning_rate"] <= RATE_CEILING for row in run.rows)


def umlaut_accuracy(run: Evidence) -> bool:
    """UMLAUT's rule for a validation accuracy above 95 %, or above the training accuracy."""
    return any(
        row["val_accuracy"] > ACCURACY_CEILING or row["val_accuracy"] > row["accuracy"]
        for row in run.rows[FIRST_EPOCH:]
    )


def umlaut_input(run: Evidence) -> bool:
    """UMLAUT's rule for input outside [-1, 1], a range that every standardized signal exceeds."""
    return run.input_range[0] < -INPUT_BOUND or run.input_range[1] > INPUT_BOUND


def umlaut_not_finite(run: Evidence) -> bool:
    """UMLAUT's rule for a loss that is not a number."""
    return any(math.isnan(row["loss"]) for row in run.rows)


def umlaut(run: Evidence) -> bool:
    """All of UMLAUT's rules that apply to a training run."""
    rules = (umlaut_not_finite, umlaut_rate, umlaut_overfitting, umlaut_accuracy, umlaut_input)
    return any(rule(run) for rule in rules)


def umlaut_curve(run: Evidence) -> bool:
    """UMLAUT without the input rule, which every standardized signal violates."""
    rules = (umlaut_not_finite, umlaut_rate, umlaut_overfitting, umlaut_accuracy)
    return any(rule(run) for rule in rules)


RIVALS: dict[str, Callable[[Evidence], bool]] = {
    "AutoTrainer": autotrainer,
    "AutoTrainer, oscillation only": autotrainer_oscillation,
    "UMLAUT": umlaut,
    "UMLAUT, without its input rule": umlaut_curve,
    "UMLAUT, overfitting only": umlaut_overfitting,
}
