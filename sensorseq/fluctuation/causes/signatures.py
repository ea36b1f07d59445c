"""Signatures: what only one cause does, and which rivals have to be excluded first.

A cause is *supported* when its confidence is at least a half, its signature holds, and that of none
of its rivals does. Everything else is *observed*. Limits are set by theory where there is one, and
otherwise far outside of what calm runs do.
"""

from collections.abc import Callable

from sensorseq.fluctuation.causes.seen import Seen
from sensorseq.fluctuation.thresholds import (
    ACCURACY_NOISE,
    EXCESS_OVER_SAMPLING,
    EXCESS_PLATEAU_NATS,
    EXCESS_RATIO,
    FIXED_LOSS_NOISE_NATS,
    OVERFITTING_RISE_NATS,
    RESTLESS_SHARE,
)

SUPPORTED_CONFIDENCE = 0.5
HEALTHY_UPDATE_RATIO = 1e-2  # of steps that train well; above, half of the weights turn in an epoch
LARGE_INPUT = 10.0  # standard deviations: gates begin to saturate on scaled first weights
SATURATED = 0.2  # of a gate's values
FAR_FROM_A_GUESS_NATS = 0.5
HEAVY_TAIL = 10.0  # times the median gradient, in one step of a hundred
LIFT = 5.0
STUCK = 0.05  # of the training windows
MOSTLY_DROPOUT = 0.5  # of the variance between batches


def _steps_too_long(seen: Seen) -> bool:
    return seen.above("update_ratio", HEALTHY_UPDATE_RATIO) and seen.above("overshoot", 0.3)


def _steps_too_short(seen: Seen) -> bool:
    return seen.below("update_ratio", 1e-5) and seen.below("loss_fall", 0.1)


def _schedule_missing(seen: Seen) -> bool:
    return seen.above("rate_end", 0.5) and seen.above("excess_plateau_loss", EXCESS_PLATEAU_NATS)


def _learning_rate(seen: Seen) -> bool:
    return _steps_too_long(seen) or _steps_too_short(seen) or _schedule_missing(seen)


def _batch_size(seen: Seen) -> bool:
    # a noise scale of eight batches: all but a ninth of the squared gradient is noise
    return seen.above("noise_share", 8 / 9) and seen.below("gradient_cosine", 0.05)


def _gradient_clipping(seen: Seen) -> bool:
    return seen.above("grad_tail", HEAVY_TAIL) and seen.above("spike_lift", LIFT)


def _optimizer(seen: Seen) -> bool:
    return (
        seen.above("steps_follow_gradients", 0.9)
        and seen.above("tensor_spread", 100)
        and seen.above("still_falling", 0.02)
    )


def _preprocessing(seen: Seen) -> bool:
    return seen.above("input_scale", LARGE_INPUT)


def _weight_init(seen: Seen) -> bool:
    far = seen.above("first_loss_excess", FAR_FROM_A_GUESS_NATS)
    return (far or seen.above("saturated_first", SATURATED)) and not _preprocessing(seen)


def _sequence_length(seen: Seen) -> bool:
    return seen.above("profile_dead", 0.4)


def _model_complexity(seen: Seen) -> bool:
    return seen.above("train_accuracy", 0.98) and seen.above("val_loss_rise", OVERFITTING_RISE_NATS)


def _early_stopping(seen: Seen) -> bool:
    return (
        seen.above("val_loss_rise", OVERFITTING_RISE_NATS)
        and seen.above("best_epoch_gain_z", 2.0)
        and seen.below("val_loss_lowest_at", 0.6)
    )


def _loss(seen: Seen) -> bool:
    return seen.above("cross_entropy_gap", 0.05)


def _regularization(seen: Seen) -> bool:
    masked = seen.above("train_mode_gap", 0.3) and seen.below("train_accuracy", 0.9)
    shrunk = seen.below("hidden_change", 0.3) and seen.above("gradient_cosine", 0.3)
    return masked or shrunk


def label_noise(seen: Seen) -> bool:
    """Whether windows stay about as far on the wrong side as the others are on the right one."""
    return (
        seen.above("stuck_share", STUCK)
        and seen.above("stuck_depth", 0.8)
        and seen.above("train_accuracy", 0.7)
    )


def small_validation_set(seen: Seen) -> bool:
    """Whether a rough curve is what independent windows of a calm model give."""
    return (
        seen.above("val_accuracy_noise", ACCURACY_NOISE)
        and seen.below("val_noise_over_sampling", EXCESS_OVER_SAMPLING)
        and (seen.below("common_mode", EXCESS_RATIO) or seen.above("common_mode_p", 0.05))
        and seen.below("restless", RESTLESS_SHARE)
        and seen.below("loss_noise", FIXED_LOSS_NOISE_NATS)
    )


def _distribution_shift(seen: Seen) -> bool:
    return (
        seen.above("groups_failed", 0.1)
        and seen.above("group_spread", 1.3)
        and seen.above("accuracy_gap", 0.15)
    )


def dropout_noise(seen: Seen) -> bool:
    """Whether the masks make most of what moves between batches while the model is calm."""
    return seen.above("dropout_share", MOSTLY_DROPOUT) and seen.below(
        "loss_noise", FIXED_LOSS_NOISE_NATS
    )


SIGNATURES: dict[str, Callable[[Seen], bool]] = {
    "learning_rate": _learning_rate,
    "batch_size": _batch_size,
    "sequence_length": _sequence_length,
    "model_complexity": _model_complexity,
    "early_stopping": _early_stopping,
    "gradient_clipping": _gradient_clipping,
    "preprocessing": _preprocessing,
    "weight_init": _weight_init,
    "loss": _loss,
    "regularization": _regularization,
    "optimizer": _optimizer,
    "label_noise": label_noise,
    "small_validation_set": small_validation_set,
    "distribution_shift": _distribution_shift,
    "dropout_noise": dropout_noise,
}

# What can make the same signature: large inputs look like a rate too high, like heavy gradients and
# like bad first weights; small batches have heavy gradients of their own.
RIVALS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("batch_size", "preprocessing", "gradient_clipping", "weight_init"),
    "batch_size": ("learning_rate", "preprocessing", "gradient_clipping"),
    "sequence_length": ("weight_init",),
    "model_complexity": ("early_stopping", "regularization", "label_noise", "distribution_shift"),
    "early_stopping": ("distribution_shift", "model_complexity", "label_noise"),
    "gradient_clipping": ("batch_size", "preprocessing", "learning_rate"),
    "preprocessing": ("loss",),
    "weight_init": ("preprocessing",),
    "loss": ("preprocessing",),
    "regularization": ("learning_rate", "loss"),
    "optimizer": ("learning_rate", "preprocessing"),
    "label_noise": ("distribution_shift", "loss", "preprocessing"),
    "small_validation_set": ("distribution_shift",),
    "distribution_shift": ("preprocessing",),
    "dropout_noise": (),
}


def is_supported(name: str, seen: Seen) -> bool:
    """Whether the signature of a cause holds and that of none of its rivals does."""
    return SIGNATURES[name](seen) and not any(SIGNATURES[rival](seen) for rival in RIVALS[name])
