"""Causes that act from the first step on: inputs, first weights, window length, size."""

from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.seen import KEEP, Seen, counted
from sensorseq.fluctuation.causes.wording import cause_of

_LESS, _MORE = 0.25, 4.0
_LEAST_UNITS = 4
_REGULAR = {"dropout": 0.3, "weight_decay": 1e-4}

_ACCURACY = ("train_accuracy", "training accuracy ends at {p}")
_SATURATED = ("saturated_first", "{p} of a gate's values are saturated at the first step")


def preprocessing(seen: Seen) -> Cause | None:
    """Tell of inputs of a size that closes the gates, or of another size in each part."""
    scale = seen.arguments.get("scale", KEEP)
    better: Any = "robust" if scale == "standard" else "standard"
    if scale == "robust":
        better = KEEP
    if seen.side == "parts differ":
        return cause_of(
            "preprocessing",
            seen,
            (
                ("loss_gap_first", "validation loss is {nats} nats above that of training at once"),
                ("accuracy_gap", "accuracy ends {points} points apart"),
                ("class_bias", "{p} of the answers go to the wrong classes"),
            ),
            seen.changed(scale="standard") if scale is None else {},
            advice=(
                "Scale, pad and cut all parts alike, with what was fitted on the training part."
            ),
        )
    return cause_of(
        "preprocessing",
        seen,
        (
            ("input_scale", "the inputs that the first layer hears are of size {n}"),
            _SATURATED,
            ("saturated_late", "{p} in the second half"),
        ),
        seen.changed(scale=better),
        advice="Inputs of mean 0 and standard deviation 1 keep the gates open.",
    )


def weight_init(seen: Seen) -> Cause | None:
    """Tell of first weights from which training starts badly."""
    # one_cycle warms up by itself, and a share of all steps is a warm-up already
    is_share = 0 < (seen.number("warmup_epochs") or 0) < 1
    is_warm = is_share or seen.arguments.get("lr_schedule") == "one_cycle"
    warmer = {} if is_warm else seen.raised(warmup_epochs=5)
    return cause_of(
        "weight_init",
        seen,
        (
            ("first_loss_excess", "the first loss is {nats} nats above that of a guess"),
            _SATURATED,
            ("saturated_forget_first", "{p} of the forget gate's"),
            ("late_start", "the training loss begins to fall after {p} of the epochs"),
            ("input_scale", "with inputs of size {n}"),
        ),
        seen.changed(weight_init="xavier", recurrent_init="orthogonal", forget_bias=1.0),
        (warmer,),
    )


def sequence_length(seen: Seen) -> Cause | None:
    """Tell of windows in which most steps say nothing, or that end too early."""
    steps, is_long = seen.number("max_timesteps"), seen.side == "too long"
    parts = [
        ("profile_dead", "{p} of a window hardly enters the loss"),
        ("profile_last", "its last quarter carries {p} of the gradient"),
        ("hidden_growth", "the hidden state ends at {n} times its size in the middle"),
    ]
    if not is_long:
        parts = [
            parts[2],
            ("hidden_settles", "it takes {p} of a window to settle"),
            ("stuck_share", "{p} of the training windows never fit"),
            _ACCURACY,
        ]
    return cause_of(
        "sequence_length",
        seen,
        parts,
        seen.changed(max_timesteps=counted(steps, 0.5 if is_long else 2.0, 2)),
        (seen.changed(pooling="meanmax"),) if is_long else (),
        "Cut windows of two to four periods of the signal's slowest motion that matters.",
    )


def model_complexity(seen: Seen) -> Cause | None:
    """Tell of a network that learns by heart, or is too small to tell the classes apart."""
    units, layers = seen.number("hidden_size"), seen.number("num_layers")
    if seen.side == "too small":
        return cause_of(
            "model_complexity",
            seen,
            (
                _ACCURACY,
                ("loss_gap", "validation loss is {nats} nats from that of training"),
                ("stuck_share", "{p} of the training windows never fit"),
            ),
            seen.changed(hidden_size=counted(units, _MORE)),
            (seen.changed(num_layers=counted(layers, 2.0)),),
            "More hidden units.",
        )
    return cause_of(
        "model_complexity",
        seen,
        (
            _ACCURACY,
            ("loss_gap", "validation loss is {nats} nats above that of training"),
            ("val_loss_rise", "{nats} nats above its lowest"),
        ),
        seen.changed(
            hidden_size=counted(units, _LESS, _LEAST_UNITS),
            num_layers=KEEP if layers is None else 1,
        ),
        (seen.raised(**_REGULAR), seen.stopped_early()),
        "Fewer hidden units, or more windows to learn from.",
    )
