"""Which features speak for which cause, and which way: fixed by theory, only weighed by runs.

A cause may have several sides, whose features differ: a rate can be too high or too low. A side
has at most five features, and each counts in one direction only, so that no calibration can learn
what a configuration looks like instead of what it does.
"""

from dataclasses import dataclass

MAX_TERMS = 5


@dataclass(frozen=True)
class Term:
    """One feature of a side.

    Parameters
    ----------
    feature : str
        Of `measure`.
    sign : int
        1 where a large value speaks for it, -1 where a small one does.
    is_log : bool
        Whether its logarithm is used.
    """

    feature: str
    sign: int
    is_log: bool = False


def _up(feature: str) -> Term:
    return Term(feature, 1)


def _down(feature: str) -> Term:
    return Term(feature, -1)


def _log_up(feature: str) -> Term:
    return Term(feature, 1, True)


def _log_down(feature: str) -> Term:
    return Term(feature, -1, True)


# (cause, side): its features; one whose first was not measured is not named
SIDES: dict[tuple[str, str], tuple[Term, ...]] = {
    ("learning_rate", "too high"): (
        _log_up("update_ratio_peak"),
        _up("overshoot_size"),
        _log_up("loss_noise"),
        _log_up("batch_noise_ratio"),
        _up("saturated_growth"),
    ),
    ("learning_rate", "too low"): (
        _log_down("update_ratio_peak"),
        _down("loss_fall"),
        _log_down("loss_noise"),
        _up("gradient_cosine"),
        _log_down("hidden_change"),
    ),
    ("learning_rate", "schedule missing"): (
        _up("rate_end"),
        _log_up("excess_plateau_loss"),
        _log_up("noise_late_over_early"),
        _log_up("loss_noise_relative"),
        _up("train_accuracy"),
    ),
    ("batch_size", "too small"): (
        _log_up("grad_tail"),
        _up("noise_share"),
        _log_up("loss_noise_relative"),
        _down("gradient_cosine"),
        _log_down("batch_noise_ratio"),
    ),
    ("batch_size", "too large"): (
        _log_down("grad_tail"),
        _down("noise_share"),
        _down("loss_turning_points"),
        _log_down("loss_noise_relative"),
        _down("train_accuracy"),
    ),
    ("sequence_length", "too long"): (
        _up("profile_concentration"),
        _up("profile_dead"),
        _down("hidden_settles"),
        _log_up("hidden_growth"),
        _up("late_start"),
    ),
    ("sequence_length", "too short"): (
        _log_up("hidden_growth"),
        _up("hidden_settles"),
        _down("profile_concentration"),
        _down("train_accuracy"),
        _up("stuck_share"),
    ),
    ("model_complexity", "too large"): (
        _up("loss_gap"),
        _up("train_accuracy"),
        _log_up("val_loss_rise"),
        _log_down("update_ratio"),
        _up("accuracy_gap"),
    ),
    ("model_complexity", "too small"): (
        _down("train_accuracy"),
        _down("loss_gap"),
        _up("stuck_share"),
        _up("saturated_late"),
        _log_up("hidden_change"),
    ),
    ("early_stopping", ""): (
        _log_up("val_loss_rise"),
        _down("val_loss_lowest_at"),
        _up("train_accuracy"),
        _up("best_epoch_gain_z"),
        _log_down("loss_level"),
    ),
    ("gradient_clipping", ""): (
        _log_up("grad_tail"),
        _log_up("grad_peak"),
        _up("loss_spike_share"),
        _log_up("spike_lift"),
        _up("grad_top_share"),
    ),
    ("preprocessing", "scale of the inputs"): (
        _log_up("input_scale"),
        _up("saturated_first"),
        _log_up("tensor_spread"),
        _up("saturated_late"),
        _log_up("first_gradient"),
    ),
    ("preprocessing", "parts differ"): (
        _log_up("loss_gap_first"),
        _up("accuracy_gap"),
        _up("class_bias"),
        _up("val_stubborn_share"),
        _down("groups_failed"),
    ),
    ("weight_init", "far from a guess"): (
        _log_up("first_loss_excess"),
        _up("saturated_first"),
        _log_down("input_scale"),
        _log_up("first_gradient"),
        _log_down("noise_late_over_early"),
    ),
    ("weight_init", "slow start"): (
        _up("saturated_forget_first"),
        _up("late_start"),
        _log_down("first_gradient"),
        _log_up("tensor_spread"),
        _log_down("input_scale"),
    ),
    ("loss", "not cross-entropy"): (
        _log_up("cross_entropy_gap"),
        _up("double_softmax_gain"),
        _log_down("double_softmax_gap"),
        _log_down("first_gradient"),
        _up("train_accuracy"),
    ),
    ("loss", "classes weighed wrongly"): (
        _up("class_bias"),
        _up("recall_spread"),
        _log_up("cross_entropy_gap"),
        _log_down("loss_gap_first"),
        _down("train_mode_gap"),
    ),
    ("regularization", "dropout too strong"): (
        _log_up("dropout_share"),
        _up("train_mode_gap"),
        _down("train_accuracy"),
        _log_up("loss_level"),
        _log_down("hidden_change"),
    ),
    ("regularization", "penalty too strong"): (
        _log_down("hidden_change"),
        _up("gradient_cosine"),
        _down("saturated_growth"),
        _log_up("tensor_spread"),
        _log_up("update_ratio"),
    ),
    ("regularization", "missing"): (
        _up("loss_gap"),
        _up("accuracy_gap"),
        _log_up("val_loss_noise"),
        _log_down("loss_level"),
        _up("val_wrong_depth"),
    ),
    ("regularization", "normalization by batches"): (
        _down("train_mode_gap"),
        _log_up("loss_noise"),
        _log_up("val_loss_noise"),
        _down("overshoot_size"),
        _log_up("noise_late_over_early"),
    ),
    ("optimizer", "plain steps"): (
        _up("steps_follow_gradients"),
        _log_up("loss_noise"),
        _up("saturated_growth"),
        _log_up("tensor_spread"),
        _up("still_falling"),
    ),
    ("optimizer", "unbounded steps"): (
        _log_up("update_ratio_peak"),
        _up("steps_follow_gradients"),
        _log_up("spike_lift"),
        _up("loss_spike_share"),
        _log_up("grad_tail"),
    ),
    ("optimizer", "too much momentum"): (
        _up("loss_autocorrelation"),
        _up("saturated_growth"),
        _log_up("update_ratio_peak"),
        _up("overshoot_size"),
        _log_up("loss_noise"),
    ),
    ("label_noise", ""): (
        _up("stuck_share"),
        _up("stuck_depth"),
        _up("fitted_late_share"),
        _up("val_wrong_depth"),
        _up("margin_bimodality"),
    ),
    ("small_validation_set", ""): (
        _log_up("val_accuracy_noise"),
        _log_down("common_mode"),
        _log_down("loss_noise"),
        _log_down("val_noise_over_sampling"),
        _log_down("churn"),
    ),
    ("distribution_shift", ""): (
        _up("accuracy_gap"),
        _log_up("group_spread"),
        _up("groups_failed"),
        _log_up("loss_gap_first"),
        _up("val_wrong_depth"),
    ),
    ("dropout_noise", ""): (
        _log_up("dropout_share"),
        _up("train_mode_gap"),
        _log_down("loss_noise"),
        _up("train_accuracy"),
        _log_down("val_loss_noise"),
    ),
}

# What a step is made of chooses between a rate that is too high and a batch that is too small:
# while noise dominates, only their quotient shows in the dynamics. A small value speaks for the
# batch.
STEP_NOISE = (("learning_rate", "too high"), ("batch_size", "too small"))
POSITION = (_log_down("windows_per_step"), _log_up("steps_per_epoch"), _up("noise_share"))
POSITION_FEATURES = ("windows_per_step", "steps_per_epoch")

# Before anything was weighed, rate and batch are the likeliest; a signature that only one cause
# has, with its rivals excluded, counts for more than any of them.
PRIOR = {"learning_rate": 2.0, "batch_size": 2.0}
SIGNATURE_PRIOR = 4.0
