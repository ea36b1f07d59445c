"""Features of a run and of its configuration: against values that are known by construction."""

import math

import numpy as np
import pytest
from cause_runs import (
    N_CLASSES,
    N_EPOCHS,
    N_STEPS,
    N_TRAIN,
    healthy_record,
    history_of,
    judged_run,
    unjudged_run,
)

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.metrics import Column, Run
from sensorseq.diagnosis.ranking import FURTHEST, NAMES, SETTING_FEATURES, measure

DEFAULTS = SensorLSTMClassifier().get_params()


def features_of(record, history=None, arguments=None):
    return measure(unjudged_run(record, history), "", arguments)


def changed(change):
    record = healthy_record()
    history = history_of(record)
    change(record, history)
    return features_of(record, history)


def bare_run(**columns):
    n_epochs = len(next(iter(columns.values())))
    held = {
        name: Column(np.asarray(values, float), np.isfinite(values))
        for name, values in columns.items()
    }
    facts = dict.fromkeys(("n_val", "n_train", "n_classes", "majority_fraction", "best_epoch"))
    return Run(held, n_epochs, **facts)


def test_every_run_has_the_same_features_and_a_log_has_those_of_its_curves():
    foreign = measure(bare_run(loss=np.linspace(1, 0.1, 30)), "normal")
    assert tuple(foreign) == NAMES
    assert foreign["still_falling"] == 0.3
    assert foreign["fluctuating"] == 0
    assert math.isnan(foreign["grad_tail"])
    diverged = measure(bare_run(loss=np.array([1.0, np.nan, np.nan])), "diverged")
    assert (diverged["diverged"], diverged["fluctuating"]) == (1, 0)
    run, verdict = judged_run(healthy_record())
    missing = {name for name, value in measure(run, verdict, DEFAULTS).items() if value != value}
    # nothing flips or moves
    assert missing <= {"common_mode", "excess_plateau_loss"}


def test_step_features():
    def change(record, history):
        norm = np.ones(N_STEPS)
        norm[::20] = 30.0  # one step of twenty
        record.steps["grad_norm"] = norm
        record.input_rms = 37.0

    found = changed(change)
    assert found["grad_tail"] == pytest.approx(30.0)
    assert found["input_scale"] == 37.0


def test_curve_features():
    def rise(record, history):
        history["val_loss"] = 0.5 + 0.05 * np.abs(np.arange(N_EPOCHS) - 10)

    found = changed(rise)
    # running medians of five: the last ones lie about epoch 35, the lowest one step above the tip
    assert found["val_loss_rise"] == pytest.approx(0.05 * (35 - 10) - 0.05)


def test_windows_that_stay_wrong():
    def stuck(record, history):
        record.train_margin = np.abs(record.train_margin)
        record.train_margin[:, : N_TRAIN // 10] *= -1
        wrong = record.val_groups < 3
        record.val_predicted[:] = (record.val_target + wrong) % N_CLASSES

    found = changed(stuck)
    assert found["stuck_share"] == pytest.approx(0.1)
    assert found["stuck_depth"] > 0.7
    assert found["val_stubborn_of_errors"] == 1.0


def test_settings_count_by_how_far_they_are_from_what_is_usual():
    record = healthy_record()
    usual = features_of(record, arguments={**DEFAULTS, "max_epochs": 50})
    off = {name for name in SETTING_FEATURES if usual[name]}
    assert off == {"epochs_below"}  # of the run
    wild = {"learning_rate": 0.3, "optimizer": "adam", "batch_size": 2, "hidden_size": 640}
    found = features_of(record, arguments={**DEFAULTS, **wild, "dropout": 0.8, "scale": None})
    assert found["rate_above"] == pytest.approx(2)
    assert found["rate_below"] == 0
    assert found["batch_below"] == pytest.approx(math.log10(16))
    assert found["width_above"] == pytest.approx(1)
    assert found["dropout_above"] == pytest.approx(0.5 / 0.4)
    assert found["unscaled"] == found["furthest_data"] == 1
    assert found["furthest_step"] == pytest.approx(2)  # a hundredfold rate
    assert found["furthest_capacity"] == pytest.approx(0.5 / 0.4)
    some = features_of(record, arguments={"learning_rate": 3e-5})
    known = {name for name in (*SETTING_FEATURES, *FURTHEST.values()) if math.isfinite(some[name])}
    assert known == {"rate_above", "rate_below", "furthest_step"}
    assert some["rate_below"] == pytest.approx(2)


@pytest.mark.parametrize(
    "odd",
    [
        {"batch_size": None, "class_weight": {0: 50.0, 1: 1.0}, "loss": math.fsum},
        {"learning_rate": 0.0, "weight_decay": 0.0, "max_grad_norm": 0.0, "hidden_size": None},
        {"optimizer": math.fsum, "weight_init": math.fsum, "max_grad_norm": None},
        {"class_weight": "balanced", "optimizer": "sgd", "momentum": 1.0, "dropout": None},
    ],
)
def test_no_argument_is_too_odd(odd):
    assert tuple(features_of(healthy_record(), arguments={**DEFAULTS, **odd})) == NAMES
