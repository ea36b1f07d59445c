"""Features: numbers of a run and of its settings, from which causes are ranked and told.

Every one may be missing (NaN). Losses are in nats, accuracies and shares are fractions.
"""

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.fluctuation.causes.table import DEFAULTS, RANKED, TABLE, usual_rate
from sensorseq.fluctuation.statistics import metrics
from sensorseq.fluctuation.statistics.run import Floats, Run
from sensorseq.training_record import TrainingRecord

NAN = math.nan
_CURVE = """
fluctuating diverged not_learning still_falling loss_noise val_accuracy_noise
val_noise_over_sampling loss_gap val_loss_rise train_accuracy accuracy_gap restless_at_constant_rate
"""
_RECORD = """
n_steps windows_per_step rate_end first_loss_excess grad_tail clipped_share input_scale
train_mode_gap stuck_share stuck_depth val_stubborn_of_errors class_bias group_spread common_mode
"""
# How far each setting is from what is usual: tenfold is 1, another choice about a half.
_SETTINGS = """
rate_above rate_below rate_constant batch_above batch_below width_above width_below more_layers
pools_less dropout_above unregularized decay_above unclipped clip_below unscaled sgd rmsprop
momentum_off own_optimizer_parameters epochs_above epochs_below own_weights forget_bias_off
own_loss own_class_weight cropped
"""
CURVE_FEATURES, RECORD_FEATURES, SETTING_FEATURES = (
    tuple(names.split()) for names in (_CURVE, _RECORD, _SETTINGS)
)
FURTHEST = {family: f"furthest_{family}" for family in RANKED}  # of the settings of each family
NAMES = (*CURVE_FEATURES, *RECORD_FEATURES, *SETTING_FEATURES, *FURTHEST.values())
_LOGARITHMIC = """
loss_noise val_accuracy_noise val_noise_over_sampling val_loss_rise n_steps windows_per_step
first_loss_excess grad_tail input_scale group_spread common_mode
"""
LOGARITHMIC = frozenset(_LOGARITHMIC.split())  # weighed by their logarithms
# Statistics of the verdict that evidence quotes in place of the features of the same thing.
_QUOTED = {
    "loss_noise": ("fixed_loss_noise", "train_loss_noise"),
    "val_loss_rise": ("val_loss_rise_after_lowest",),
}
# What a constant rate counts of a run that does not settle: as much as a number that is a factor of
# 30 off. Of 34 calibration runs that a step repairs, 17 have the right side first, and 13 without.
RESTLESS = 1.5
SAMPLING_NOISE = "val_sampling_noise"  # what luck of the validation windows gives


def measure(
    run: Run, verdict: str = "", arguments: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return the features of a run after `judge`, `NAMES` of them; NaN where one is missing."""
    found = dict.fromkeys(NAMES, NAN)
    if verdict:
        found |= {name: float(verdict == name) for name in CURVE_FEATURES[:3]}
    found |= _of_curves(run)
    record = run.record
    if record is not None:
        if int(record.epoch_steps[-1]) > 0:
            found |= _of_steps(run, record)
        found |= {**_of_training_windows(run, record), **_of_validation_windows(run, record)}
    if arguments:
        found |= _of_settings(run, arguments)
        is_restless = found["fluctuating"] > 0 or found["diverged"] > 0
        is_constant = found["rate_constant"] > 0
        found["restless_at_constant_rate"] = RESTLESS * (is_restless and is_constant)
        for family, name in FURTHEST.items():
            own = [one for entry in TABLE if entry.family == family for one in entry.means.split()]
            found[name] = _top([found[one] for one in own if one in SETTING_FEATURES])
        clip = arguments.get("max_grad_norm")
        if isinstance(clip, int | float) and record is not None and "grad_norm" in record.steps:
            norms = _finite(record.steps["grad_norm"])
            found["clipped_share"] = float((norms > clip).mean()) if len(norms) else NAN
    return found


def quote(run: Run, features: Mapping[str, float]) -> dict[str, float]:
    """Return features as evidence quotes them: with the figures that the verdict gives."""
    shown, known = dict(features), run.statistics
    for name, statistics in _QUOTED.items():
        held = [known[one].value for one in statistics if one in known]
        if held and math.isfinite(features[name]):
            shown[name] = held[0]
    noise = known.get("val_accuracy_noise")
    if noise is not None and noise.floor is not None:
        shown[SAMPLING_NOISE] = noise.floor
    return shown


def _of_curves(run: Run) -> dict[str, float]:
    validation, running, fixed = (_column(run, name) for name in ("val_loss", "loss", "fixed_loss"))
    train = fixed if np.isfinite(fixed).sum() > 2 else running
    late = slice(run.n_epochs - max(run.n_epochs // 3, 1), run.n_epochs)
    level, val_accuracy = _middle(train[late]), _middle(_column(run, "val_accuracy")[late])
    accuracy = _middle(_column(run, "accuracy")[late])
    if run.record is not None and len(run.record.fixed_accuracy) == run.n_epochs:
        accuracy = _middle(run.record.fixed_accuracy[late])
    scale = 0.1 * run.log_classes
    found = {
        "loss_gap": _middle(validation[late]) - level,
        "train_accuracy": accuracy,
        "accuracy_gap": accuracy - val_accuracy,
        "train_mode_gap": min(
            (_middle(running[late]) - _middle(fixed[late])) / (_middle(fixed[late]) + scale), 1.0
        ),
        "val_accuracy_noise": _statistic(run, "val_accuracy_noise"),
        "val_noise_over_sampling": _statistic(run, "val_accuracy_noise_over_sampling"),
        "common_mode": _statistic(run, "val_common_mode"),
    }
    found |= {**_of_loss(train, scale), **_rise(validation)}
    if not run.is_in_nats:  # of a loss in other units only what is relative counts
        for name in ("loss_gap", "loss_noise", "val_loss_rise"):
            found[name] = NAN
    return found


def _of_loss(train: Floats, scale: float) -> dict[str, float]:
    held, found = _finite(train), {}
    half = len(held) // 2
    if half >= 6:
        found["loss_noise"] = metrics.mean_noise(held[half:])
    if len(held) >= 6:
        last = held[-max(len(held) // 3, 4) :]
        falling = -10 * metrics.theil_sen_slope(last) / (float(np.median(last)) + scale)
        found["still_falling"] = float(np.clip(falling, -0.3, 0.3))
    return found


def _rise(validation: Floats) -> dict[str, float]:
    held = _finite(validation)
    if len(held) < 10:
        return {}
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(held, 5), axis=1)
    return {"val_loss_rise": float(smooth[-5:].mean() - smooth.min())}


def _of_steps(run: Run, record: TrainingRecord) -> dict[str, float]:
    starts = record.epoch_steps
    late = slice(int(starts[max(run.first, run.n_epochs // 2, 0)]), int(starts[-1]))
    if late.start >= late.stop:
        late = slice(0, late.stop)
    of = {name: np.asarray(values, np.float64) for name, values in record.steps.items()}
    nothing = np.full(late.stop, NAN)
    loss, norm, size, rate = (
        of.get(name, nothing) for name in ("loss", "grad_norm", "n_windows", "learning_rate")
    )
    found = {
        "n_steps": float(late.stop),
        "windows_per_step": _middle(size),
        "rate_end": _ratio(_middle(rate[-max(len(rate) // 20, 1) :]), _top(rate)),
        "input_scale": record.input_rms,
    }
    if run.is_in_nats:  # ln K is the cost of a guess in nats only
        found["first_loss_excess"] = float(loss[0]) - run.log_classes
    held = _finite(norm[late])
    if len(held) >= 8 and np.median(held) > 0:
        found["grad_tail"] = float(np.quantile(held, 0.99) / np.median(held))
    return found


def _of_training_windows(run: Run, record: TrainingRecord) -> dict[str, float]:
    """Return which training windows never fit."""
    if len(record.train_margin) != run.n_epochs or not record.train_margin.shape[1]:
        return {}
    margin = np.asarray(record.train_margin[-max(run.n_epochs // 3, 1) :], np.float64)
    margin = np.where(np.isfinite(margin), margin, NAN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # windows without a margin
        late = _finite(np.nanmean(margin, axis=0))
    if not len(late):
        return {}
    stuck, typical = late < 0, max(float(np.median(late)), 0.0) + 0.5
    found = {"stuck_share": float(stuck.mean())}
    if stuck.any():
        found["stuck_depth"] = -float(np.median(late[stuck])) / typical
    return found


def _of_validation_windows(run: Run, record: TrainingRecord) -> dict[str, float]:
    """Return which validation windows and recordings stay wrong, and which classes are named."""
    if run.followed is None or record.val_predicted.shape[1] < 2:
        return {}
    late = slice(run.n_epochs - max(run.n_epochs // 3, 1), run.n_epochs)
    predicted, target, wrong = record.val_predicted[late], record.val_target, ~record.val_correct
    wrong = wrong[late]
    always = wrong.mean(axis=0) >= 0.9
    classes = np.unique(target)
    given = np.array([(predicted == one).mean() for one in classes])
    there = np.array([(target == one).mean() for one in classes])
    found = {
        "val_stubborn_of_errors": _ratio(float(wrong[:, always].sum()), float(wrong.sum())),
        "class_bias": float(np.abs(given - there).sum() + max(1 - given.sum(), 0.0)) / 2,
    }
    if record.val_groups is not None:
        codes, counts = np.unique(record.val_groups, return_counts=True)
        rate = wrong.mean(axis=0)
        of_group = np.array([rate[record.val_groups == code].mean() for code in codes])
        chance = float((rate.var() / counts).mean())  # of windows that err independently
        if len(codes) > 1 and counts.max() > 1 and chance > 0:
            spread = float(((of_group - rate.mean()) ** 2).mean())
            found["group_spread"] = math.sqrt(spread / chance)
    return found


def _known(arguments: Mapping[str, Any], name: str, value: Any) -> float:
    return float(value) if name in arguments else NAN


def _number(arguments: Mapping[str, Any], name: str) -> float:
    value = arguments.get(name)
    return float(value) if isinstance(value, int | float) else NAN


def _above(value: float, other: float) -> float:
    return max(math.log10(value / other), 0.0) if value > 0 and other > 0 else NAN


def _of_settings(run: Run, arguments: Mapping[str, Any]) -> dict[str, float]:
    """Return how far each setting is from what is usual; NaN for one that is not known."""
    get, above = arguments.get, _above
    known, number = partial(_known, arguments), partial(_number, arguments)
    rate, usual, width = number("learning_rate"), usual_rate(arguments), number("hidden_size")
    batch = number("batch_size")
    if "batch_size" in arguments and batch != batch and run.n_train:
        batch = float(run.n_train)
    masks = _top([number(name) for name in ("dropout", "recurrent_dropout", "input_dropout")])
    decay, l1, clip = number("weight_decay"), number("l1"), get("max_grad_norm")
    optimizer, momentum, ratios = get("optimizer"), number("momentum"), get("class_weight")
    shares = [float(v) for v in ratios.values()] if isinstance(ratios, Mapping) else [1.0]
    is_weighed = isinstance(ratios, Mapping) or ratios in (None, "balanced")
    own_weights = [_oddity(get(name)) for name in ("weight_init", "recurrent_init")]
    return {
        "rate_above": above(rate, usual),
        "rate_below": above(usual, rate),
        "rate_constant": known("lr_schedule", 0.5 * (get("lr_schedule") == "constant")),
        "batch_above": above(batch, 32.0),
        "batch_below": above(32.0, batch),
        "sgd": known("optimizer", 0.5 * (optimizer == "sgd")),
        "rmsprop": known("optimizer", 0.5 * (optimizer == "rmsprop")),
        "momentum_off": known(
            "optimizer", abs(math.log10(max(1 - momentum, 1e-3) / 0.1)) * (optimizer == "sgd")
        ),
        "own_optimizer_parameters": known("optimizer_params", bool(get("optimizer_params"))),
        "unclipped": known("max_grad_norm", 0.5 * (clip is None)),
        "clip_below": known("max_grad_norm", above(1.0, clip or 1.0)),
        "width_above": above(width, 64.0),
        "width_below": above(64.0, width),
        "more_layers": 0.5 * (number("num_layers") - 1),
        "pools_less": known("pooling", 0.5 * (get("pooling") == "last")),
        "dropout_above": max(masks - DEFAULTS["dropout"], 0.0) / 0.4,
        "unregularized": known("dropout", 0.5 * (not masks > 0 and not decay > 0)),
        "decay_above": known("weight_decay", _top([0.0, above(decay, 1e-3) / 2, above(l1, 1e-5)])),
        "unscaled": known("scale", {None: 1.0, "standard": 0.0}.get(get("scale"), 0.4)),
        "cropped": known("max_timesteps", above(100.0, get("max_timesteps") or 100.0)),
        "own_weights": known("weight_init", max(own_weights)),
        "forget_bias_off": abs(number("forget_bias") - DEFAULTS["forget_bias"]) / 2,
        "own_loss": known("loss", 0.7 * (get("loss") != "cross_entropy")),
        "own_class_weight": known(
            "class_weight", above(max(shares), min(shares)) if is_weighed else 1.0
        ),
        "epochs_above": known("max_epochs", above(run.n_epochs, 50.0)),
        "epochs_below": known("max_epochs", above(50.0, run.n_epochs)),
    }


def _oddity(first_weights: Any) -> float:
    """Return 0 for the usual first weights, 1 for a function, less for another name."""
    usual = first_weights in ("xavier", "orthogonal")
    is_name = isinstance(first_weights, str) and first_weights.isidentifier()
    return 0.0 if usual else 0.3 if is_name else 1.0


def _statistic(run: Run, name: str) -> float:
    found = run.statistics.get(name)
    return NAN if found is None else float(found.value)


def _column(run: Run, name: str) -> Floats:
    held = run.columns.get(name)
    if held is None:
        return np.full(run.n_epochs, NAN)
    values = np.asarray(held.values, np.float64)
    return np.where(np.isfinite(values), values, NAN)


def _finite(values: ArrayLike) -> Floats:
    held = np.asarray(values, np.float64).ravel()
    return np.asarray(held[np.isfinite(held)])


def _middle(values: ArrayLike) -> float:
    held = _finite(values)
    return float(np.median(held)) if len(held) else NAN


def _top(values: ArrayLike) -> float:
    return float(_finite(values).max(initial=-math.inf)) if len(_finite(values)) else NAN


def _ratio(over: float, under: float) -> float:
    return over / under if math.isfinite(over) and math.isfinite(under) and under > 0 else NAN
