"""Causes in what is minimised and for how long: loss, regularization, early stopping."""

from typing import Any

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.seen import KEEP, Seen, counted
from sensorseq.fluctuation.causes.wording import cause_of

_PATIENCE = 20

_RISE = ("val_loss_rise", "validation loss ends {nats} nats above its lowest")
_GAP = ("loss_gap", "it is {nats} nats above the training loss")


def early_stopping(seen: Seen) -> Cause | None:
    """Tell of epochs after the best one, which made the model worse."""
    return cause_of(
        "early_stopping",
        seen,
        (
            _RISE,
            ("val_loss_lowest_at", "reached after {p} of the epochs"),
            ("best_epoch_gain", "the best epoch is {points} points more accurate than the last"),
        ),
        seen.stopped_early(
            monitor="val_loss",
            patience=_PATIENCE if (seen.number("patience") or 0) > _PATIENCE else KEEP,
        ),
        (seen.changed(hidden_size=counted(seen.number("hidden_size"), 0.25, 4)),),
    )


def regularization(seen: Seen) -> Cause | None:
    """Tell of too much of it, none where it is needed, or the kind that depends on the batch."""
    if seen.side == "normalization by batches":
        return cause_of(
            "regularization",
            seen,
            (
                (
                    "train_mode_gap",
                    "the loss of training mode is {p} above that of evaluation mode",
                ),
                ("loss_noise", "in evaluation it moves by +-{nats} nats per epoch"),
            ),
            seen.changed(head_norm="layer"),
            (seen.changed(head_norm="none"),),
        )
    if seen.side == "missing":
        return cause_of(
            "regularization",
            seen,
            (
                ("accuracy_gap", "validation accuracy is {points} points below that of training"),
                _GAP,
                ("val_loss_noise", "validation loss moves by +-{nats} nats per epoch"),
            ),
            seen.raised(dropout=0.3, weight_decay=1e-4),
            (
                seen.changed(hidden_size=counted(seen.number("hidden_size"), 0.25, 4)),
                seen.stopped_early(),
            ),
        )
    if seen.side == "penalty too strong":
        return cause_of(
            "regularization",
            seen,
            (
                ("gradient_cosine", "gradients of steps far apart have a cosine of {n}"),
                ("hidden_change", "the hidden state is {n} times what it was at first"),
                ("train_accuracy", "training accuracy ends at {p}"),
            ),
            seen.changed(weight_decay=0.0, l1=0.0 if seen.arguments else KEEP),
            advice="Weaken the penalties on the weights.",
        )
    known = bool(seen.arguments)
    weaker: dict[str, Any] = {
        "dropout": 0.2 if (seen.number("dropout") or 0) > 0.2 else KEEP if known else 0.0,
        "recurrent_dropout": 0.0 if known else KEEP,
        "input_dropout": 0.0 if known else KEEP,
        "weight_decay": 0.0,
        "l1": 0.0 if known else KEEP,
    }
    return cause_of(
        "regularization",
        seen,
        (
            ("train_mode_gap", "the loss of training mode is {p} above that of evaluation mode"),
            ("dropout_share", "dropout makes {p} of the variance between batches"),
            ("train_accuracy", "training accuracy ends at {p}"),
        ),
        seen.changed(**weaker),
        advice="Weaken what holds the weights back: dropout, and penalties on them.",
    )


def loss(seen: Seen) -> Cause | None:
    """Tell of another loss than cross-entropy of logits, or of classes weighed wrongly."""
    if seen.side == "classes weighed wrongly":
        weighed = seen.arguments.get("class_weight", KEEP)
        return cause_of(
            "loss",
            seen,
            (
                ("class_bias", "{p} of the answers go to the wrong classes"),
                ("recall_spread", "recall differs by {points} points between classes"),
            ),
            # weights and a sampler that both balance would do it twice
            seen.changed(class_weight="balanced" if weighed in (None, KEEP) else None),
            (seen.changed(sampler="balanced", class_weight=None if seen.arguments else KEEP),),
        )
    return cause_of(
        "loss",
        seen,
        (
            ("cross_entropy_gap", "the loss is {nats} nats from any cross-entropy of its margins"),
            ("double_softmax_gap", "{nats} from that of probabilities taken for logits"),
            ("floor_distance", "its lowest value {nats} above the floor of the latter"),
        ),
        seen.changed(loss="cross_entropy"),
        advice="The network gives logits; the softmax is part of the loss and is taken once.",
    )
