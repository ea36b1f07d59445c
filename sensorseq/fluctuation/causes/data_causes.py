"""Causes in the data and in how they are looked at: labels, validation set, recordings."""

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.seen import Seen
from sensorseq.fluctuation.causes.wording import cause_of


def label_noise(seen: Seen) -> Cause | None:
    """Tell of windows whose labels look wrong, for they fit another class."""
    is_own_loss = callable(seen.arguments.get("loss"))  # which would have to smooth them itself
    return cause_of(
        "label_noise",
        seen,
        (
            ("stuck_share", "{p} of the training windows stay on the wrong side"),
            ("stuck_depth", "{n} times as far as the typical window is on the right one"),
            ("fitted_late_share", "{p} came to fit in the last third of the epochs only"),
            ("val_stubborn_of_errors", "{p} of the validation errors are always the same windows"),
        ),
        {} if is_own_loss else seen.raised(label_smoothing=0.1),
        advice=(
            "Look at the windows that never fit, and correct labels by hand; leave the validation"
            " labels to the same check."
        ),
    )


def small_validation_set(seen: Seen) -> Cause | None:
    """Tell of a rough validation curve that its few windows explain."""
    return cause_of(
        "small_validation_set",
        seen,
        (
            ("val_accuracy_noise", "validation accuracy moves by +-{points} points"),
            ("val_noise_over_sampling", "{n} times what sampling of its windows alone gives"),
            ("common_mode", "they flip independently (R = {n}, 1 by chance)"),
            ("loss_noise", "the training loss moves by +-{nats} nats only"),
        ),
        {},
        advice=(
            "Nothing to fix in training: hold out more windows, or cross-validate, and read the"
            " validation loss rather than the accuracy."
        ),
    )


def distribution_shift(seen: Seen) -> Cause | None:
    """Tell of recordings that are unlike those learned from."""
    parts = [
        ("accuracy_gap", "validation accuracy is {points} points below that of training"),
        ("groups_failed", "{p} of the recordings are mostly wrong"),
        ("loss_gap_first", "the loss parts by {nats} nats from the first epochs on"),
    ]
    if seen.above("group_spread", 1.2):  # below, all recordings are as bad
        parts.insert(
            1, ("group_spread", "recordings differ {n} times as much as their windows let expect")
        )
    return cause_of(
        "distribution_shift",
        seen,
        parts,
        {},
        (seen.changed(augment="standard"),),
        "More recordings, statistics per recording when the windows are scaled, or augmentation;"
        " nothing else will help.",
    )


def dropout_noise(seen: Seen) -> Cause | None:
    """Tell of a training curve that dropout makes rough while the model is calm."""
    return cause_of(
        "dropout_noise",
        seen,
        (
            ("dropout_share", "dropout makes {p} of the variance between batches"),
            ("train_mode_gap", "the loss of training mode is {p} above that of evaluation mode"),
            ("loss_noise", "in evaluation it moves by +-{nats} nats only"),
        ),
        {},
        advice="Nothing to fix in training: read the loss that is measured in evaluation mode.",
    )
