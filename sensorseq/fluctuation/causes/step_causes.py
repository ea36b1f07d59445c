"""Causes that act in the optimizer's steps: rate, batch, clipping, optimizer."""

from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.seen import KEEP, Seen, counted, scaled
from sensorseq.fluctuation.causes.wording import cause_of

_LESS, _MORE, _MUCH_MORE = 0.25, 4.0, 10.0  # steps by which a rate or a batch is changed
EMA_DECAY = 0.99  # over about a hundred steps; 0.98 and 0.995 calm as well
_MOMENTUM = 0.9
_ADAM_RATE = 1e-3  # of its authors

_UPDATE = ("update_ratio", "a step changes the weights by {p} of their norm")
_NOISE = ("loss_noise", "the training loss moves by +-{nats} nats per epoch")


def learning_rate(seen: Seen) -> Cause | None:
    """Tell of steps too long or too short, or of one length to the end."""
    rate, batch = seen.number("learning_rate"), seen.number("batch_size")
    if seen.side == "too low":
        return cause_of(
            "learning_rate",
            seen,
            (
                _UPDATE,
                ("loss_fall", "the training loss has lost {p} of its first value"),
                ("gradient_cosine", "gradients of steps far apart have a cosine of {n}"),
            ),
            seen.changed(learning_rate=scaled(rate, _MUCH_MORE)),
            advice="Raise the learning rate tenfold; until then this is slow, not restless.",
        )
    if seen.side == "schedule missing":
        return cause_of(
            "learning_rate",
            seen,
            (
                ("rate_end", "the learning rate ends at {p} of its highest value"),
                _NOISE,
                ("noise_late_over_early", "late {n} times as much as early"),
                ("excess_plateau_loss", "averaged weights are {nats} nats better than the last"),
            ),
            seen.changed(lr_schedule="cosine"),
            (
                seen.changed(ema_decay=EMA_DECAY),
                seen.changed(batch_size=counted(batch, _MORE)),
            ),
            "The rate itself may be right: let it fall towards the end.",
        )
    return cause_of(
        "learning_rate",
        seen,
        (
            _UPDATE,
            ("overshoot", "{p} of the steps make the loss of their own batch worse"),
            _NOISE,
            ("batch_noise_ratio", "batches differ {n} times as much as sampling makes them"),
        ),
        seen.changed(learning_rate=scaled(rate, _LESS)),
        (
            seen.changed(batch_size=counted(batch, _MORE)),
            seen.changed(lr_schedule="cosine"),
        ),
        "A quarter of the learning rate and four times the batch do the same while noise rules.",
    )


def batch_size(seen: Seen) -> Cause | None:
    """Tell of steps of too few windows, which are mostly noise, or of so many that few are left."""
    rate, batch = seen.number("learning_rate"), seen.number("batch_size")
    share = ("noise_share", "{p} of a step's squared gradient is sampling noise")
    if seen.side == "too large":
        smaller = counted(batch, _LESS, 8)
        if "batch_size" in seen.arguments and batch is None:
            smaller = 32  # None is all windows at once
        return cause_of(
            "batch_size",
            seen,
            (
                ("steps_per_epoch", "the steps of an epoch number {n}"),
                share,
                ("still_falling", "the training loss still falls by {p} in ten epochs"),
            ),
            seen.changed(batch_size=smaller),
            (seen.changed(learning_rate=scaled(rate, _MORE)),),
            "Take smaller batches, so that an epoch has more steps.",
        )
    merge = seen.changed(last_batch="merge") if seen.above("last_batch_gradient", 1.5) else {}
    return cause_of(
        "batch_size",
        seen,
        (
            share,
            ("windows_per_step", "a step has {n} windows"),
            _NOISE,
            ("grad_tail", "one gradient in a hundred is {n} times the median one"),
            ("last_batch_gradient", "that of the small last batch is {n} times the others'"),
        ),
        seen.changed(batch_size=counted(batch, _MORE)),
        (seen.changed(learning_rate=scaled(rate, _LESS)), merge),
        "Four times the batch and a quarter of the learning rate do the same while noise rules.",
    )


def gradient_clipping(seen: Seen) -> Cause | None:
    """Tell of a few large gradients that throw the model off."""
    bound = float(f"{seen.clip_at:.2g}") if seen.clip_at > 0 else 1.0
    old = seen.number("max_grad_norm")
    if old is not None:
        bound = min(bound, float(f"{old / 2:.2g}"))  # a looser one would change nothing
    return cause_of(
        "gradient_clipping",
        seen,
        (
            ("grad_peak", "the largest gradient is {n} times the median one"),
            ("grad_top_share", "5 % of the steps carry {p} of the squared gradient"),
            ("spike_lift", "the loss leaps {n} times as often after a large gradient"),
            ("loss_spike_share", "{p} of the epochs are leaps of the training loss"),
        ),
        seen.changed(max_grad_norm=bound),
        (seen.changed(scale="robust"),),
        "See which windows are in the batches with the largest gradients: they may be outliers.",
    )


def optimizer(seen: Seen) -> Cause | None:
    """Tell of plain steps in a narrow valley, or of unbounded ones after a calm."""
    old, rate = seen.arguments.get("optimizer"), seen.number("learning_rate")
    if old in ("adam", "adamw"):
        fresh = seen.changed(optimizer_params=None)
        if not fresh and old == "adam" and (seen.number("weight_decay") or 0) > 0:
            fresh = seen.changed(optimizer="adamw")  # without a penalty both are the same
    else:
        # further parameters are those of the old one, and its rate means other steps
        others = seen.arguments.get("optimizer_params")
        fresh = seen.changed(
            optimizer="adam", learning_rate=_ADAM_RATE, optimizer_params=None if others else KEEP
        )
    usual: dict[str, Any] = {}
    if old == "sgd":
        with_momentum = KEEP if seen.side == "too much momentum" else scaled(rate, 0.1)
        usual = seen.changed(momentum=_MOMENTUM, learning_rate=with_momentum)
    slower = seen.changed(learning_rate=scaled(rate, _LESS))
    follow = ("steps_follow_gradients", "the lengths of steps and gradients correlate by {n}")
    if seen.side == "plain steps":
        return cause_of(
            "optimizer",
            seen,
            (
                follow,
                ("tensor_spread", "the gradients of its parameters differ up to {n} times"),
                ("still_falling", "the loss still falls by {p} in ten epochs"),
            ),
            slower if old in ("adam", "adamw") else fresh,
            (fresh, usual),
        )
    first, second = (usual, fresh) if seen.side == "too much momentum" else (fresh, usual)
    offered = (slower, first, second) if old in ("adam", "adamw") else (first, second, slower)
    return cause_of(
        "optimizer",
        seen,
        (
            ("loss_spike_share", "{p} of the epochs are leaps of the training loss"),
            ("loss_autocorrelation", "its deviations correlate by {n} from one epoch to the next"),
            _UPDATE,
            follow,
        ),
        offered[0],
        offered[1:],
    )
