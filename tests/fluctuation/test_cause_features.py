"""What is measured of a run, against what the run was made of."""

import inspect
import math

import numpy as np
import pytest
from cause_runs import (
    N_CLASSES,
    N_EPOCHS,
    N_STEPS,
    N_TRAIN,
    NOISE_SHARE,
    STEPS_PER_EPOCH,
    cross_entropy,
    healthy_record,
    history_of,
    judged_run,
    logits_of,
    margins,
    softmax,
    unjudged_run,
)
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.causes.features import measure
from sensorseq.fluctuation.causes.loss_features import own_probability
from sensorseq.fluctuation.columns import Column
from sensorseq.fluctuation.run import Run


def features_of(record, history=None):
    return measure(unjudged_run(record, history))


@pytest.fixture(scope="module")
def healthy():
    return features_of(healthy_record())


@pytest.fixture(scope="module")
def judged():
    return measure(judged_run(healthy_record())[0])


def bare_run(columns, **facts):
    n_epochs = len(next(iter(columns.values())))
    known = {"n_val": None, "n_train": None, "n_classes": None, "majority_fraction": None}
    held = {
        name: Column(np.asarray(values, float), np.isfinite(values))
        for name, values in columns.items()
    }
    return Run(held, n_epochs, best_epoch=None, **{**known, **facts})


# --- what is looked at --------------------------------------------------------------------------


def test_only_the_run_is_looked_at():
    assert list(inspect.signature(measure).parameters) == ["run"]


def test_every_run_has_the_same_features(healthy):
    foreign = measure(bare_run({"loss": np.linspace(1, 0.1, 30)}))
    assert set(foreign) == set(healthy)
    assert math.isnan(foreign["update_ratio"])
    assert foreign["loss_fall"] == pytest.approx(0.9)
    diverged = measure(bare_run({"loss": np.array([1.0, np.nan, np.nan])}))
    assert set(diverged) == set(healthy)


def test_a_healthy_record_leaves_little_unmeasured(judged):
    missing = {name for name, value in judged.items() if math.isnan(value)}
    # no smaller last batch, no dropout, and nothing that flips or leaps
    assert missing <= {
        "last_batch_gradient",
        "dropout_share",
        "spike_lift",
        "common_mode",
        "common_mode_of_groups",
        "best_epoch_gain_z",
        "steps_follow_gradients",
        "excess_plateau_loss",
        "churn",
        "restless",
        "common_mode_p",
    }


def test_the_height_of_the_learning_rate_is_not_looked_at(healthy):
    record = healthy_record()
    record.steps["learning_rate"] *= 1000.0
    np.testing.assert_equal(features_of(record), healthy)


# --- steps --------------------------------------------------------------------------------------


def test_whether_the_rate_fell(healthy):
    assert healthy["rate_end"] == pytest.approx(0.03, abs=0.02)
    record = healthy_record()
    record.steps["learning_rate"][:] = 7.0
    assert features_of(record)["rate_end"] == 1.0


def test_step_length_is_the_median_of_the_second_half():
    record = healthy_record()
    record.steps["update_ratio"][: N_STEPS // 2] = 9.0
    record.steps["update_ratio"][N_STEPS // 2 :] = 0.03
    assert features_of(record)["update_ratio"] == pytest.approx(0.03)


def test_share_of_sampling_noise_in_a_step(healthy):
    assert healthy["noise_share"] == pytest.approx(NOISE_SHARE)
    record = healthy_record()
    record.steps["gradient_noise"] /= 2
    assert features_of(record)["noise_share"] == pytest.approx(NOISE_SHARE / 2)
    record.steps["gradient_noise"] *= 10  # an estimate may be, a share may not
    assert features_of(record)["noise_share"] == 1.0
    record.steps["gradient_noise"][:] = np.nan
    assert math.isnan(features_of(record)["noise_share"])


def test_gradient_tail_and_share_of_the_largest():
    record = healthy_record()
    norm = np.ones(N_STEPS)
    norm[::20] = 30.0  # one step of twenty
    record.steps["grad_norm"] = norm
    found = features_of(record)
    assert found["grad_tail"] == pytest.approx(30.0)
    assert found["grad_top_share"] == pytest.approx(900 / (900 + 19))


def test_overshoot_counts_steps_that_make_their_batch_worse():
    record = healthy_record()
    after = record.details["same_batch_loss_after"]
    after[:] = 0.4
    after[1::2] = 0.7
    found = features_of(record)
    assert found["overshoot"] == pytest.approx(0.5, abs=0.1)


def test_steps_that_are_as_long_as_gradients_are_told_from_normalised_ones(healthy):
    record = healthy_record()
    record.steps["update_ratio"] = 0.01 * record.steps["grad_norm"]
    assert features_of(record)["steps_follow_gradients"] == pytest.approx(1.0)
    assert abs(healthy["steps_follow_gradients"]) < 0.3


def test_a_small_last_batch_and_its_gradient():
    record = healthy_record()
    last = np.arange(STEPS_PER_EPOCH - 1, N_STEPS, STEPS_PER_EPOCH)
    record.steps["n_windows"][last] = 2.0
    record.steps["grad_norm"][:] = 1.0
    record.steps["grad_norm"][last] = 4.0
    assert features_of(record)["last_batch_gradient"] == pytest.approx(4.0)


def test_share_of_dropout_in_what_batches_differ_by():
    record = healthy_record()
    record.details["dropout_variance"][:] = 0.05**2 / 2  # half of the batches' own variance
    assert features_of(record)["dropout_share"] == pytest.approx(0.5, rel=0.3)


# --- start, gates, time -------------------------------------------------------------------------


@given(excess=st.floats(-0.5, 20))
def test_first_loss_above_that_of_a_guess(excess):
    record = healthy_record()
    record.steps["loss"][0] = math.log(N_CLASSES) + excess
    assert features_of(record)["first_loss_excess"] == pytest.approx(excess)


def test_size_of_the_inputs_is_read_from_the_gradients_of_the_first_layer(healthy):
    assert healthy["input_scale"] == pytest.approx(1.0)
    record = healthy_record()
    record.tensor_grad_norms["lstm.weight_ih_l0"] = (
        37.0 * record.tensor_grad_norms["lstm.bias_ih_l0"]
    )
    assert features_of(record)["input_scale"] == pytest.approx(37.0)


def test_saturation_of_the_first_step_is_that_of_the_worst_gate():
    record = healthy_record()
    record.steps["saturated_forget"][0] = 0.6
    found = features_of(record)
    assert found["saturated_first"] == found["saturated_forget_first"] == 0.6
    assert found["saturated_late"] == pytest.approx(0.02)


def test_time_profile_even_and_on_one_end(healthy):
    assert healthy["profile_concentration"] == pytest.approx(0.0, abs=1e-12)
    assert healthy["profile_dead"] == 0.0
    assert healthy["profile_last"] == pytest.approx(0.25)
    record = healthy_record()
    record.time_profile[:] = 0.0
    record.time_profile[:, -1] = 1.0
    found = features_of(record)
    assert found["profile_concentration"] == pytest.approx(math.log(16))
    assert found["profile_dead"] == pytest.approx(15 / 16)
    assert found["profile_last"] == pytest.approx(1.0)


def test_growth_of_the_hidden_vector():
    record = healthy_record()
    record.hidden_norm[:] = np.arange(1, 17)
    found = features_of(record)
    assert found["hidden_growth"] == pytest.approx(2.0)  # 16 over 8
    assert found["hidden_settles"] == pytest.approx(15 / 16)  # 15 is the first above 14.4


# --- which loss ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), n_classes=st.integers(2, 8), size=st.floats(0.01, 20))
def test_margins_bound_the_probability_of_the_own_class(seed, n_classes, size):
    rng = np.random.default_rng(seed)
    logits = size * rng.normal(size=(50, n_classes))
    target = rng.integers(0, n_classes, 50)
    own = np.take_along_axis(softmax(logits), target[:, None], 1)[:, 0]
    low, high = own_probability(margins(logits, target), n_classes)
    assert np.all(low <= own + 1e-12)
    assert np.all(own <= high + 1e-12)


def of_loss(loss_of):
    """Return features of a run whose loss is a function of the same logits."""
    record = healthy_record()
    logits, target = logits_of(0, N_TRAIN)
    history = history_of(record)
    history["loss"] = loss_of(logits, np.broadcast_to(target, logits.shape[:2])).mean(axis=1)
    return features_of(record, history)


def test_cross_entropy_is_known_by_its_margins():
    found = of_loss(cross_entropy)
    assert found["cross_entropy_gap"] < 1e-3  # margins are kept in 16 bits
    assert found["double_softmax_gap"] > 0.1


def test_softmax_taken_twice_is_known_by_its_margins_and_its_floor():
    found = of_loss(lambda logits, target: cross_entropy(softmax(logits), target))
    assert found["double_softmax_gap"] < 1e-3
    assert found["cross_entropy_gap"] > 0.1
    assert found["double_softmax_gain"] > 0.1
    assert 0 <= found["floor_distance"] < 0.2
    assert math.log(1 + (N_CLASSES - 1) / math.e) == pytest.approx(0.744, abs=1e-3)


def test_the_loss_of_steps_serves_where_the_history_has_none():
    record = healthy_record()
    record.steps["loss"] = np.repeat(history_of(record)["loss"], STEPS_PER_EPOCH)
    history = {"val_accuracy": history_of(record)["val_accuracy"]}
    with_it, without = features_of(record), features_of(record, history)
    assert math.isnan(without["train_mode_gap"])
    assert without["cross_entropy_gap"] == pytest.approx(with_it["cross_entropy_gap"], abs=1e-9)


def test_squared_error_is_no_cross_entropy():
    def squared(logits, target):
        return ((softmax(logits) - np.eye(N_CLASSES)[target]) ** 2).mean(axis=-1)

    assert of_loss(squared)["cross_entropy_gap"] > 0.05


def test_answers_that_go_to_one_class():
    record = healthy_record()
    record.val_predicted[:] = 0
    found = features_of(record)
    assert found["class_bias"] == pytest.approx(0.75)
    assert found["recall_spread"] == 1.0


# --- curves -------------------------------------------------------------------------------------


def test_rise_of_the_validation_loss_above_its_lowest():
    record = healthy_record()
    history = history_of(record)
    t = np.arange(N_EPOCHS)
    history["val_loss"] = 0.5 + 0.05 * np.abs(t - 10)
    found = features_of(record, history)
    # running medians of five: the last ones lie about epoch 35, the lowest one step above the tip
    assert found["val_loss_rise"] == pytest.approx(0.05 * (35 - 10) - 0.05)
    assert found["val_loss_lowest_at"] == pytest.approx(11 / 40, abs=0.05)


def test_parts_that_differ_from_the_first_epochs_on(healthy):
    record = healthy_record()
    history = history_of(record)
    history["val_loss"] = history["val_loss"] + 2.0
    assert features_of(record, history)["loss_gap_first"] == pytest.approx(
        healthy["loss_gap_first"] + 2.0
    )


def test_a_start_that_is_slow():
    loss = np.concatenate([np.full(20, 1.4), np.linspace(1.4, 0.2, 20)])
    found = measure(bare_run({"loss": loss}))
    assert found["late_start"] == pytest.approx(22 / 40, abs=0.05)


def test_training_mode_above_evaluation_mode(healthy):
    record = healthy_record()
    history = history_of(record)
    history["loss"] = history["loss"] + 1.0
    assert features_of(record, history)["train_mode_gap"] > healthy["train_mode_gap"] + 1


# --- windows ------------------------------------------------------------------------------------


def test_windows_that_never_fit(healthy):
    record = healthy_record()
    record.train_margin = np.abs(record.train_margin)
    n_wrong = N_TRAIN // 10
    record.train_margin[:, :n_wrong] *= -1
    found = features_of(record)
    assert found["stuck_share"] == pytest.approx(0.1)
    assert found["stuck_depth"] > 0.7
    assert healthy["stuck_share"] < 0.06


def test_windows_without_a_margin_do_not_count():
    record = healthy_record()
    record.train_margin[:, ::2] = np.nan
    assert math.isfinite(features_of(record)["stuck_share"])


def test_recordings_that_fail_as_a_whole_stand_out_of_independent_windows():
    record = healthy_record()
    rng = np.random.default_rng(0)
    wrong = rng.random(len(record.val_target)) < 0.2
    by_chance = _with_wrong(record, wrong)
    blocks = _with_wrong(record, record.val_groups < 3)
    assert by_chance["group_spread"] == pytest.approx(1.0, abs=0.4)
    assert blocks["group_spread"] > 2
    assert blocks["groups_failed"] == pytest.approx(3 / 15)


def _with_wrong(record, wrong):
    predicted = np.where(wrong, (record.val_target + 1) % N_CLASSES, record.val_target)
    record.val_predicted = np.tile(predicted, (N_EPOCHS, 1)).astype(np.uint16)
    return features_of(record)
