"""The ranges of settings, and the causes named for a run."""

import copy
import functools
import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from cause_runs import N_TRAIN, healthy_record, judged_run
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.causes import (
    CAUSE_NAMES,
    SETTINGS,
    TROUBLED,
    Cause,
    find_causes,
    merge_causes,
    name_settings,
    settings_outside,
    usual_rate,
)
from sensorseq.diagnosis.defaults import DEFAULTS
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.training.parameters import check_parameters

OWN = SensorLSTMClassifier().get_params()


def test_the_table_of_defaults_repeats_the_signature_of_the_classifier():
    parameters = inspect.signature(SensorLSTMClassifier).parameters.values()
    assert {each.name: each.default for each in parameters} == DEFAULTS


@functools.cache
def _healthy_run():
    return judged_run(healthy_record())[0]


def healthy_run():
    return copy.deepcopy(_healthy_run())  # a copy, because tests modify the run


def causes_of(verdict="not_learning", facts=(), said=(), **settings):
    run = healthy_run()
    return find_causes(run, verdict, {**OWN, **settings}, facts, said)


# --- the ranges ---------------------------------------------------------------------------------

ELEVEN = {
    *("learning_rate", "batch_size", "sequence_length", "model_complexity", "early_stopping"),
    *("gradient_clipping", "preprocessing", "weight_init", "loss", "regularization", "optimizer"),
}


def test_the_eleven_causes_have_settings_with_advice():
    assert {setting.cause for setting in SETTINGS} == ELEVEN
    assert set(CAUSE_NAMES) > ELEVEN
    assert all(setting.advice and setting.argument in OWN for setting in SETTINGS)


def test_the_usual_rate_is_that_of_the_optimizer():
    assert usual_rate({}) == usual_rate({"optimizer": "adam"}) == 3e-3
    assert usual_rate({"optimizer": "sgd"}) == pytest.approx(0.1)


def test_the_defaults_are_in_their_ranges():
    assert settings_outside(OWN, 1000) == []


CALMING, SCALES = "'cosine' or 'plateau'", "'standard', 'robust' or 'physical'"
OUTSIDE = [  # argument, value, title of the cause, usual values, value to set
    ("learning_rate", 0.3, "learning_rate: too high", "at most 0.01", 0.003),
    ("lr_schedule", "constant", "learning_rate: schedule missing", CALMING, "cosine"),
    ("batch_size", 2, "batch_size: too small", "at least 8", 32),
    ("batch_size", None, "batch_size: too large", "at most 64", 32),  # one batch of all windows
    ("max_grad_norm", None, "gradient_clipping: missing", "1.0", 1.0),
    ("max_grad_norm", 0.01, "gradient_clipping: too strong", "at least 0.5", 1.0),
    ("hidden_size", 2, "model_complexity: too small", "at least 16", 64),
    ("weight_decay", 30.0, "regularization: too strong", "at most 0.01", 1e-3),
    ("scale", None, "preprocessing: scale of the inputs", SCALES, "standard"),
    ("max_timesteps", 5, "sequence_length", "at least 50", None),
    ("forget_bias", -3.0, "weight_init", "0 to 2", 1.0),
    ("loss", math.fsum, "loss: not cross-entropy", "'cross_entropy'", "cross_entropy"),
    ("class_weight", {0: 50, 1: 1}, "loss: classes weighted wrongly", "None or 'balanced'", None),
    ("max_epochs", 4, "early_stopping: too few epochs", "at least 20", "auto"),
]


def usually(argument, value, usual):
    return f"{argument} is {getattr(value, '__name__', repr(value))}, usually {usual}."


@pytest.mark.parametrize(
    ("settings", "title", "words", "change"),
    [
        *(
            pytest.param({name: value}, title, usually(name, value, usual), {name: to}, id=title)
            for name, value, title, usual, to in OUTSIDE
        ),
        (
            {"learning_rate": 1e-3, "optimizer": "sgd"},
            "learning_rate: too low",
            usually("learning_rate", 1e-3, "at least 0.0333"),
            {"learning_rate": 0.1},
        ),
        (
            {"optimizer": "rmsprop", "optimizer_params": {"alpha": 0.9}, "learning_rate": 1e-3},
            "optimizer",
            usually("optimizer", "rmsprop", "'adamw' or 'adam'")
            + f" {usually('optimizer_params', {'alpha': 0.9}, 'None or {}')}",
            {"optimizer": "adamw", "optimizer_params": None, "learning_rate": 0.003},
        ),
        (
            {"hidden_size": 640, "num_layers": 3},
            "model_complexity: too large",
            usually("hidden_size", 640, "at most 128")
            + f" {usually('num_layers', 3, 'at most 2')}",
            {"hidden_size": 64, "num_layers": 1},
        ),
    ],
)
def test_a_setting_outside_its_range_is_named_with_what_to_set(settings, title, words, change):
    causes = causes_of(**settings)
    (cause,) = (cause for cause in causes if cause.title == title)
    assert cause.evidence == words
    assert cause.recommendation == change
    assert cause.sources == {"arguments": words}
    assert cause.advice == next(one.advice for one in SETTINGS if one.title == title)
    assert {one.name for one in causes} <= {cause.name, "optimizer"}
    check_parameters({**OWN, **settings, **change})


def test_settings_of_one_cause_are_named_together_and_causes_in_the_order_of_the_ranges():
    settings = {"lr_schedule": "constant", "learning_rate": 0.5, "hidden_size": 2, "dropout": 0.9}
    causes = causes_of(pooling="last", **settings)
    assert [cause.title for cause in causes] == [
        "regularization: too strong",
        "model_complexity: too small, last step only",
        "learning_rate: schedule missing, too high",
    ]
    assert causes[-1].recommendation == {"lr_schedule": "cosine", "learning_rate": 0.003}
    assert "decay towards the end. Lower the learning rate." in causes[-1].advice
    assert causes[-1].evidence == (
        "lr_schedule is 'constant', usually 'cosine' or 'plateau'."
        " learning_rate is 0.5, usually at most 0.01."
    )


@pytest.mark.parametrize("settings", [{"learning_rate": 1e-6}, {"batch_size": 10**6}], ids=str)
def test_slow_training_does_not_explain_a_loss_that_moves(settings):
    assert [cause.name for cause in causes_of("not_learning", **settings)] == [*settings]
    for verdict in ("fluctuating", "diverged"):
        assert [cause.name for cause in causes_of(verdict, **settings)] == ["unknown"]


@given(
    st.dictionaries(
        st.sampled_from(tuple(OWN)),
        st.none() | st.floats() | st.integers(-5, 10_000) | st.booleans() | st.text(max_size=3)
        | st.just(math.fsum) | st.just({}) | st.just({0: 0.0}),
        max_size=6,
    )
)  # fmt: skip
def test_no_argument_is_too_unusual_to_be_judged(arguments):
    outside = [one.setting for one in settings_outside(arguments)]
    assert outside == sorted(outside, key=SETTINGS.index)
    causes = name_settings(arguments)
    assert {cause.name for cause in causes} == {setting.cause for setting in outside}
    assert all(cause.evidence and cause.advice for cause in causes)


# --- named causes -------------------------------------------------------------------------------


def test_without_settings_and_without_faults_the_cause_is_unknown():
    run = healthy_run()
    minor = Cause("data_bug", "Channel 2 is constant.", is_minor=True)
    for verdict in TROUBLED:
        for arguments in (None, {}, OWN):
            (cause,) = find_causes(run, verdict, arguments)
            assert (cause.name, cause.evidence) == ("unknown", "Cause unclear.")
            assert "safe first change" in cause.advice
            first, last = find_causes(run, verdict, arguments, [minor])
            assert (first.name, last) == ("unknown", minor)


def test_faults_of_the_data_come_first_and_minor_findings_last():
    fault = Cause("distribution_shift", "Groups are apart.")
    minor = Cause("data_bug", "Channel 2 is constant.", is_minor=True)
    names = [cause.name for cause in causes_of(facts=[fault, minor], learning_rate=1.0)]
    assert names == ["distribution_shift", "learning_rate", "data_bug"]


def test_findings_with_the_same_name_are_one_cause():
    fact = Cause("preprocessing", "It is large.", "not scaled", sources={"data": "It is large."})
    (joined,) = causes_of(facts=[fact], scale=None)
    assert joined.title == "preprocessing: not scaled"
    assert joined.evidence.startswith("It is large. scale is None, usually")
    assert set(joined.sources) == {"data", "arguments"}
    assert joined.recommendation == {"scale": "standard"}
    assert merge_causes([fact, fact]) == (fact,)


def test_a_healthy_run_has_no_cause_and_a_short_one_only_facts():
    run, verdict = judged_run(healthy_record())
    assert verdict == "normal"
    fact = Cause("data_bug", "Channel 2 is constant.", sources={"data": "It is."})
    for arguments in (None, OWN, {**OWN, "learning_rate": 1.0}):
        assert find_causes(run, verdict, arguments) == ()
        assert find_causes(run, verdict, arguments, [fact]) == (fact,)
        assert find_causes(run, "too_short_to_tell", arguments, [fact]) == (fact,)


def test_what_makes_a_calm_curve_rough_is_explained():
    few = judged_run(healthy_record())[0]
    few.statistics["val_accuracy_noise"] = replace(few.statistics["val_accuracy_noise"], value=0.06)
    few.add("val_common_mode", 1.1, "ratio")
    (cause,) = find_causes(few, "normal")
    assert find_causes(few, "normal", statement_kinds=["accuracy_recordings"]) == ()
    assert cause.name == "small_validation_set"
    assert cause.evidence.startswith("Validation accuracy moves +-6.0 points per epoch (chance")
    assert cause.advice.startswith("Training is fine. Hold out more windows")


@pytest.mark.parametrize("share", [0.0, 0.35])
def test_wrong_labels_are_named_for_a_calm_run(share):
    record = healthy_record()
    # the network predicts a different class for windows with wrong labels
    wrong = np.arange(N_TRAIN) < share * N_TRAIN
    record.train_margin[:, wrong] *= -1
    record.fixed_accuracy *= 1 - share
    run, verdict = judged_run(record)
    assert verdict == "normal"
    found = {cause.name: cause for cause in find_causes(run, verdict)}
    assert ("label_noise" in found) == (share > 0)
    if share:
        assert "% of the training windows never fit; they are " in found["label_noise"].evidence
        assert found["label_noise"].advice == "Check the labels of the windows that never fit."


# --- real runs ----------------------------------------------------------------------------------


def waves(seed, n, units=1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    sine = np.sin(np.arange(30) * (0.3 + 0.3 * y[:, None]) + phase)
    X = np.stack([sine + 0.4 * rng.normal(size=(n, 30)), rng.normal(size=(n, 30))], axis=2)
    return (units * X).astype(np.float32), y


def report_of(units=1.0, seed=0, **arguments):
    X, y = waves(seed, 150, units)
    X_val, y_val = waves(seed + 10, 90, units)
    plain = {"hidden_size": 32, "max_epochs": 40, "features": None, "refit": None}
    clf = SensorLSTMClassifier(**{**plain, "random_state": seed, **arguments})
    return clf.fit(X, y, X_val=X_val, y_val=y_val).fluctuation_


@pytest.mark.trains
@pytest.mark.parametrize(
    ("cause", "arguments"),
    [
        # with clipping and a schedule, even runs with a learning rate of 1 often end well
        ("learning_rate", {"learning_rate": 10.0, "optimizer": "adam"}),
        ("learning_rate", {"learning_rate": 1e-6}),
    ],
    ids=["rate 10", "rate 1e-6"],
)
def test_a_gross_fault_is_named_first(cause, arguments):
    # a single run depends on rounding, so two of three runs must agree
    reports = [report_of(seed=seed, **arguments) for seed in range(3)]
    named = [one for one in reports if [c.name for c in one.causes[:1]] == [cause]]
    assert len(named) >= 2, reports
    for report in named:
        assert report.verdict in TROUBLED
        changed = report.causes[0].recommendation
        assert set(changed) & set(arguments)
        assert all(OWN[name] == value for name, value in changed.items() if name in arguments)


@pytest.mark.trains
def test_the_same_arguments_on_healthy_and_on_raw_data():
    plain = {"scale": None, "hidden_size": 16, "patch": None}
    healthy, raw = report_of(**plain), report_of(units=500.0, **plain)
    assert healthy.verdict == "normal"
    assert "preprocessing" not in [cause.name for cause in healthy.causes]
    named = [cause for cause in raw.causes if cause.name != "unknown"]
    assert named[0].name == "preprocessing"
    assert named[0].recommendation == {"scale": "standard"}


@pytest.mark.trains
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_run_has_no_setting_as_a_cause(seed):
    report = report_of(seed=seed)
    assert report.verdict == "normal"
    assert not any("arguments" in cause.sources for cause in report.causes)


def test_a_keras_log_gets_advice_in_words_without_arguments():
    rng = np.random.default_rng(0)
    history = {"loss": 0.5 + np.exp(-np.arange(60) / 5) + 0.2 * rng.normal(size=60)}
    report = FluctuationReport.from_history(history)
    assert report.verdict == "fluctuating"
    (cause,) = report.causes
    assert cause.name == "unknown"
    assert not cause.recommendation
    assert "learning rate" in cause.advice
