"""From a run to ranked causes: signatures with a known answer, grades, words, repairs."""

import json
import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from cause_runs import (
    N_CLASSES,
    N_EPOCHS,
    N_STEPS,
    N_TRAIN,
    N_VAL,
    cross_entropy,
    healthy_record,
    history_of,
    judged_run,
    logits_of,
    softmax,
)
from fits import plain_classifier
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.causes import score, weights
from sensorseq.fluctuation.causes.cause import CAUSE_NAMES
from sensorseq.fluctuation.causes.features import measure
from sensorseq.fluctuation.causes.rank import (
    DESCRIBERS,
    _excluded,
    describe,
    find_causes,
    look_at,
)
from sensorseq.fluctuation.causes.score import batch_share, of_causes, score_sides
from sensorseq.fluctuation.causes.seen import KEEP, Seen
from sensorseq.fluctuation.causes.signatures import RIVALS, SIGNATURES, is_supported
from sensorseq.fluctuation.causes.theory import MAX_TERMS, POSITION, POSITION_FEATURES, SIDES
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.fluctuation.run import Run
from sensorseq.fluctuation.thresholds import FIXED_LOSS_NOISE_NATS, LOSS_NOISE_NATS
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training.parameters import check_parameters

HEALTHY = measure(judged_run(healthy_record())[0])
NOTHING = dict.fromkeys(HEALTHY, math.nan)
DEFAULTS = plain_classifier().get_params()


# --- signatures with a known answer -------------------------------------------------------------


def raw_inputs(record, history):
    record.tensor_grad_norms["lstm.weight_ih_l0"] = (
        200.0 * record.tensor_grad_norms["lstm.bias_ih_l0"]
    )
    record.steps["saturated_input"][:] = 0.7
    record.steps["saturated_output"][:] = 0.6


def bad_first_weights(record, history):
    record.steps["loss"][0] = math.log(N_CLASSES) + 6.0
    for gate in ("input", "forget", "cell", "output"):
        record.steps[f"saturated_{gate}"][:20] = 0.6


def double_softmax(record, history):
    logits, target = logits_of(0, N_TRAIN)
    targets = np.broadcast_to(target, logits.shape[:2])
    history["loss"] = cross_entropy(softmax(logits), targets).mean(axis=1)
    record.fixed_loss = history["loss"].copy()


def carried_by_gradients(record, history):
    rng = np.random.default_rng(3)
    loss, norm = record.steps["loss"], record.steps["grad_norm"]
    at = np.sort(rng.choice(np.arange(160, N_STEPS - 5, 15), 6, replace=False))
    norm[at] = 100.0 + np.arange(len(at))
    loss[at + 1] += 3.0
    record.fixed_loss[at // 10] += 0.6


def flipped_labels(record, history):
    wrong = np.arange(N_TRAIN) % 5 == 0
    record.train_margin = np.where(wrong, -np.abs(record.train_margin), np.abs(record.train_margin))
    history["loss"] = np.log1p(3 * np.exp(-record.train_margin.astype(float))).mean(axis=1)
    record.fixed_loss = history["loss"].copy()
    correct = np.tile(np.arange(N_VAL) % 5 != 0, (N_EPOCHS, 1))
    record.val_predicted = np.where(
        correct, record.val_target, (record.val_target + 1) % N_CLASSES
    ).astype(np.uint16)


KNOWN = {
    "preprocessing": raw_inputs,
    "weight_init": bad_first_weights,
    "loss": double_softmax,
    "gradient_clipping": carried_by_gradients,
    "label_noise": flipped_labels,
}


@cache
def changed_run(change):
    record = healthy_record()
    history = history_of(record)
    change(record, history)
    return judged_run(record, history)[0]


def causes_of(change, arguments=None, verdict="fluctuating"):
    return find_causes(changed_run(change), verdict, arguments)


# labels that look wrong are a matter of degree: a network that is too small leaves windows, too
DETERMINISTIC = [name for name in KNOWN if name != "label_noise"]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_specific_signature_ranks_its_cause_first(name):
    named = [cause for cause in causes_of(KNOWN[name]) if cause.name != "unknown"]
    assert named[0].name == name, [(c.name, round(c.confidence, 2)) for c in named]


@pytest.mark.parametrize("name", KNOWN)
def test_a_signature_that_holds_does_not_hold_in_a_healthy_run(name):
    assert SIGNATURES[name](Seen(measure(changed_run(KNOWN[name]))))
    assert not SIGNATURES[name](Seen(HEALTHY))


def test_what_a_step_is_made_of_chooses_between_rate_and_batch():
    few = {**HEALTHY, "windows_per_step": 2.0, "steps_per_epoch": 160.0, "noise_share": 0.98}
    many = {**HEALTHY, "windows_per_step": 128.0, "steps_per_epoch": 3.0, "noise_share": 0.2}
    assert batch_share(few) > 0.5 > batch_share(many)
    # and nothing else: what is neither a rate nor a batch is as likely as before
    hot = {**HEALTHY, "update_ratio": 0.2, "loss_noise": 0.3}
    one = score_sides({**hot, "windows_per_step": 2.0})
    other = score_sides({**hot, "windows_per_step": 128.0})
    for side in SIDES:
        if side[0] not in ("learning_rate", "batch_size"):
            assert one[side] == pytest.approx(other[side], rel=0.2, abs=0.02)


def test_position_is_no_evidence_for_a_cause():
    used = {term.feature for terms in SIDES.values() for term in terms}
    assert not used & set(POSITION_FEATURES)


# --- the score ----------------------------------------------------------------------------------


def test_the_table_of_theory_is_whole():
    assert {cause for cause, _ in SIDES} == set(DESCRIBERS) == set(SIGNATURES) == set(RIVALS)
    assert set(DESCRIBERS) | {"data_bug", "evaluation_not_deterministic", "unknown"} == set(
        CAUSE_NAMES
    )
    for side, terms in SIDES.items():
        assert 1 <= len(terms) <= MAX_TERMS
        intercept, factors = weights.WEIGHTS[side]
        assert math.isfinite(intercept)
        assert len(factors) == len(terms)
        # a weight below zero would turn the sign that theory gives around
        assert min(factors) >= 0
        assert {term.feature for term in terms} <= set(HEALTHY)
    assert len(weights.POSITION[1]) == len(POSITION)
    assert all(sd > 0 for _, sd in weights.SCALES.values())
    x, y = zip(*weights.CALIBRATION, strict=True)
    assert list(x) == sorted(x)
    assert list(y) == sorted(y)
    assert (x[0], x[-1]) == (0, 1)
    assert 0 <= y[0] <= y[-1] <= 1


features = st.fixed_dictionaries(
    {name: st.one_of(st.just(math.nan), st.floats(-5, 200), st.floats(0, 1)) for name in HEALTHY}
)


@given(features)
def test_confidences_are_probabilities_whatever_was_measured(found):
    shares = of_causes(score_sides(found))
    assert all(0 <= share <= 1 for share in shares.values())
    assert math.fsum(shares.values()) <= 1 + 1e-9


@given(features, st.sampled_from(sorted(SIDES)), st.integers(0, 4), st.floats(0.01, 5))
def test_evidence_counts_in_one_direction_only(found, side, place, more):
    term = SIDES[side][place % len(SIDES[side])]
    value = found[term.feature]
    if math.isnan(value):
        value = 0.1
    stronger = {**found, term.feature: value + term.sign * more}
    weaker = {**found, term.feature: value}
    assert score.standardised(term, stronger) >= score.standardised(term, weaker)


def test_a_foreign_history_names_no_cause():
    rng = np.random.default_rng(0)
    t = np.arange(60)
    history = {"loss": 0.5 + np.exp(-t / 5) + 0.2 * rng.normal(size=60)}
    report = FluctuationReport.from_history(history)
    assert report.verdict == "fluctuating"
    assert report.causes[0].name == "unknown"
    assert "cannot be told" in report.causes[0].evidence


# --- what is listed -----------------------------------------------------------------------------


def test_nothing_is_listed_of_a_healthy_or_a_short_run():
    run, verdict = judged_run(healthy_record())
    assert verdict == "normal"
    assert find_causes(run, verdict) == ()
    assert find_causes(run, "too_short_to_tell") == ()


@pytest.mark.parametrize("verdict", ["fluctuating", "diverged", "not_learning"])
@pytest.mark.parametrize("name", KNOWN)
def test_confidences_fall_and_sum_to_one_at_most(verdict, name):
    causes = causes_of(KNOWN[name], verdict=verdict)
    sure = [cause.confidence for cause in causes]
    assert all(0 <= one <= 1 for one in sure)
    assert sum(sure) <= 1 + 1e-9
    listed = sure[1:] if causes[0].name == "unknown" else sure
    assert listed == sorted(listed, reverse=True)
    assert (causes[0].name == "unknown") == (max(listed) < 0.5)
    assert len({cause.name for cause in causes}) == len(causes)


def test_unknown_is_what_the_others_leave_and_says_so():
    n_unknown = 0
    for name in KNOWN:
        first, *rest = causes_of(KNOWN[name])
        if first.name != "unknown":
            continue
        n_unknown += 1
        left = 1 - math.fsum(cause.confidence for cause in rest)
        assert first.confidence == pytest.approx(left)
        assert f"has {100 * rest[0].confidence:.0f} %, less than a half" in first.evidence
        assert f"{100 * left:.0f} % is left for what is not listed" in first.evidence
    assert n_unknown >= 2


def test_unknown_stands_first_where_nothing_was_measured():
    run = Run(
        {}, 1, n_val=None, n_train=None, n_classes=None, majority_fraction=None, best_epoch=None
    )
    causes = find_causes(run, "fluctuating")
    assert causes[0].name == "unknown"
    assert causes[1:] == ()  # there is nothing that would speak for any


def test_a_calm_run_with_a_rough_curve_is_explained_by_its_validation_set():
    seen = {
        **HEALTHY,
        "val_accuracy_noise": 0.06,
        "val_noise_over_sampling": 0.8,
        "common_mode": 1.1,
        "common_mode_p": 0.4,
        "restless": 0.3,
        "loss_noise": 0.005,
    }
    assert is_supported("small_validation_set", Seen(seen))
    assert not is_supported("small_validation_set", Seen({**seen, "loss_noise": 0.3}))
    assert not is_supported(
        "small_validation_set", Seen({**seen, "common_mode": 6.0, "common_mode_p": 0.002})
    )
    cause = describe("small_validation_set", Seen(seen), "", 0.9)
    assert cause.grade == "supported"
    assert cause.recommendation == {}
    assert "Nothing to fix in training" in cause.advice


def test_dropout_explains_a_calm_run_whose_batches_differ():
    record = healthy_record()
    record.details["dropout_variance"][:] = 0.8 * 0.05**2
    run, verdict = judged_run(record)
    assert verdict == "normal"
    (cause,) = find_causes(run, verdict)
    assert (cause.name, cause.grade) == ("dropout_noise", "supported")


def test_a_rival_whose_signature_holds_keeps_a_cause_from_being_supported():
    found = {**HEALTHY, "grad_tail": 40.0, "spike_lift": 30.0}
    assert describe("gradient_clipping", Seen(found), "", 0.9).grade == "supported"
    rival = {**found, "noise_share": 0.95, "gradient_cosine": 0.0}
    assert describe("gradient_clipping", Seen(rival), "", 0.9).grade == "observed"
    assert describe("gradient_clipping", Seen(found), "", 0.4).grade == "observed"


# --- words and repairs --------------------------------------------------------------------------

GIVEN = {
    "none": {},
    "defaults": DEFAULTS,
    "as asked": {
        **DEFAULTS,
        "optimizer": "rmsprop",
        "optimizer_params": {"alpha": 0.9},
        "lr_schedule": "constant",
        "max_grad_norm": None,
        "scale": None,
        "batch_size": None,
        "max_timesteps": 60,
        "dropout": 0.7,
        "weight_decay": 1.0,
        "class_weight": {0: 50.0, 1: 1.0},
        "validation_fraction": 0,
        "early_stopping": False,
        "restore_best": False,
        "loss": "mse",
        "forget_bias": -3.0,
        "weight_init": "uniform",
    },
    "sgd": {
        **DEFAULTS,
        "optimizer": "sgd",
        "momentum": 0.0,
        "batch_size": 2,
        "learning_rate": 0.5,
        "scale": "robust",
        "class_weight": "balanced",
        "head_norm": "batch",
        "num_layers": 3,
        "max_grad_norm": 0.01,
    },
    "adam": {**DEFAULTS, "optimizer_params": {"eps": 1e-12, "betas": (0.9, 0.5)}},
    "own loss": {**DEFAULTS, "loss": torch.nn.functional.cross_entropy},
}
WILD = dict.fromkeys(HEALTHY, 0.7) | {"last_batch_gradient": 4.0}


@pytest.mark.parametrize("given_name", GIVEN)
@pytest.mark.parametrize("side", sorted(SIDES), ids=" ".join)
def test_a_cause_says_its_figures_and_offers_what_set_params_accepts(side, given_name):
    arguments = GIVEN[given_name]
    seen = Seen(WILD, arguments, clip_at=0.37)
    cause = describe(side[0], seen, side[1], 0.6)
    assert (cause.name, cause.finding) == side
    assert re.search(r"\d", cause.evidence)
    assert cause.evidence[0].isupper() or cause.evidence[0].isdigit()
    assert cause.evidence.endswith(".")
    assert not re.search("[{]|nan", cause.evidence)
    assert set(cause.statistics) <= set(HEALTHY)
    offers = [cause.recommendation, *cause.alternatives]
    assert all(offers) or offers == [{}]
    assert offers == [offer for i, offer in enumerate(offers) if offer not in offers[:i]]
    if offers == [{}]:
        assert cause.advice
    for offer in offers:
        for name, value in offer.items():
            assert name in DEFAULTS
            assert name not in arguments or arguments[name] != value, "this changes nothing"
        assert json.loads(json.dumps(offer)) == offer
        clf = plain_classifier(**arguments).set_params(**offer)
        assert {name: clf.get_params()[name] for name in offer} == offer


def every_offer():
    offers = []
    for arguments in GIVEN.values():
        for name, side in SIDES:
            cause = describe(name, Seen(WILD, arguments, clip_at=0.37), side, 0.6)
            for offer in (cause.recommendation, *cause.alternatives):
                merged = {**arguments, **offer}
                if offer and merged not in offers:
                    offers.append(merged)
    return offers


def test_every_repair_is_one_that_fit_takes():
    offers = every_offer()
    assert len(offers) > 40
    for arguments in offers:
        check_parameters({**DEFAULTS, **arguments}, CLASSIFICATION)


def test_the_old_value_words_the_new_one():
    seen = Seen(WILD, {**DEFAULTS, "learning_rate": 0.02, "batch_size": 4})
    cause = describe("learning_rate", seen, "too high", 0.6)
    assert cause.recommendation == {"learning_rate": 0.005}
    assert {"batch_size": 16} in cause.alternatives
    other = describe("batch_size", seen, "too small", 0.6)
    assert other.recommendation == {"batch_size": 16}
    assert {"learning_rate": 0.005} in other.alternatives
    assert {"last_batch": "merge"} in other.alternatives
    # without the old value there is none to offer, and words have to do
    blind = describe("learning_rate", Seen(WILD), "too high", 0.6)
    assert "learning_rate" not in blind.recommendation
    assert "quarter" in blind.advice


def test_the_bound_of_the_gradient_is_one_that_most_gradients_keep():
    causes = causes_of(carried_by_gradients, {**DEFAULTS, "max_grad_norm": None})
    (found,) = (cause for cause in causes if cause.name == "gradient_clipping")
    bound = found.recommendation["max_grad_norm"]
    norms = changed_run(carried_by_gradients).record.steps["grad_norm"][N_STEPS // 2 :]
    assert np.quantile(norms, 0.6) < bound < np.quantile(norms, 0.9)


def test_what_is_kept_is_left_out():
    seen = Seen(HEALTHY, {"a": 1, "b": None, "c": True})
    assert seen.changed(a=1.0, b=None, c=True, d=KEEP, e=2) == {"e": 2}
    assert seen.changed(a=None, b=0, c=False) == {"a": None, "b": 0, "c": False}


def test_arguments_neither_name_nor_rank_a_cause():
    plain = causes_of(carried_by_gradients)
    for arguments in GIVEN.values():
        other = causes_of(carried_by_gradients, arguments)
        for one, two in zip(plain, other, strict=True):
            blank = {"recommendation": {}, "alternatives": (), "advice": ""}
            assert replace(one, **blank) == replace(two, **blank)


def test_causes_survive_the_way_through_a_dictionary():
    record = healthy_record()
    history = history_of(record)
    carried_by_gradients(record, history)
    history["val_loss"][::3] += 1.0
    report = FluctuationReport.from_history(
        history, N_VAL, n_train=N_TRAIN, n_classes=N_CLASSES, record=record, arguments=DEFAULTS
    )
    assert report.verdict == "fluctuating"
    assert report.causes
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert FluctuationReport.from_dict(told).causes == report.causes


# --- the same configuration, on healthy and on sick data ----------------------------------------


def fitted(X, y, **data):
    clf = plain_classifier(
        hidden_size=16,
        learning_rate=3e-3,
        max_epochs=40,
        early_stopping=False,
        scale=None,
        random_state=0,
    )
    return clf.fit(X, y, **data).fluctuation_


def waves(seed, n):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    X = np.sin(np.arange(30) * (0.3 + 0.3 * y[:, None]) + phase) + 0.2 * rng.normal(size=(n, 30))
    return X[:, :, None].astype(np.float32), y


@pytest.mark.trains
def test_one_configuration_on_healthy_and_on_sick_data_gives_different_causes():
    X, y = waves(0, 150)
    X_val, y_val = waves(1, 90)
    healthy = fitted(X, y, X_val=X_val, y_val=y_val)
    assert healthy.verdict == "normal"
    assert not {"preprocessing", "label_noise"} & {cause.name for cause in healthy.causes}
    raw = fitted(500 * X + 3000, y, X_val=500 * X_val + 3000, y_val=y_val)
    assert raw.verdict != "normal"
    named = [cause.name for cause in raw.causes if cause.name != "unknown"]
    assert named[0] == "preprocessing"


# --- repairs that go the right way --------------------------------------------------------------


@pytest.mark.parametrize("side", ["", "unbounded steps"])
@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 1e-4])
def test_adam_is_slowed_first(name, side, decay):
    asked = {**DEFAULTS, "optimizer": name, "weight_decay": decay, "learning_rate": 0.04}
    cause = describe("optimizer", Seen(HEALTHY | STEPS, asked), side, 0.5)
    assert cause.recommendation == {"learning_rate": 0.01}
    decoupled = any("optimizer" in change for change in cause.alternatives)
    assert decoupled == (name == "adam" and decay > 0)


STEPS = {"update_ratio": 0.1, "steps_per_epoch": 1.0, "loss_gap": 0.5, "train_accuracy": 0.9}
STEPS |= {"first_loss_excess": 2.0, "stuck_share": 0.2}


@pytest.mark.parametrize(
    ("name", "side", "asked"),
    [
        ("batch_size", "too large", {"batch_size": 2}),
        ("model_complexity", "too large", {"hidden_size": 3}),
        ("regularization", "missing", {"dropout": 0.5}),
        ("label_noise", "", {"label_smoothing": 0.3}),
        ("weight_init", "", {"warmup_epochs": 0, "lr_schedule": "one_cycle"}),
    ],
)
def test_no_change_goes_the_wrong_way(name, side, asked):
    cause = describe(name, Seen(HEALTHY | STEPS, {**DEFAULTS, **asked}), side, 0.5)
    assert not any(
        argument in change
        for argument in asked
        for change in (cause.recommendation, *cause.alternatives)
        if argument != "lr_schedule"
    )


@pytest.mark.parametrize("name", ["early_stopping", "model_complexity", "regularization"])
def test_stopping_early_holds_windows_out(name):
    side = "missing" if name == "regularization" else ""
    seen = Seen(HEALTHY | STEPS, {**DEFAULTS, "early_stopping": False, "validation_fraction": 0})
    cause = describe(name, seen, side, 0.5)
    stops = [c for c in (cause.recommendation, *cause.alternatives) if c.get("early_stopping")]
    assert stops
    assert all(change["validation_fraction"] == 0.2 for change in stops)


@pytest.mark.parametrize(
    ("of_fixed", "edge"), [(True, FIXED_LOSS_NOISE_NATS), (False, LOSS_NOISE_NATS)]
)
def test_the_training_is_calm_up_to_the_edge_of_the_loss_that_was_measured(of_fixed, edge):
    """A rough validation curve is excluded as its own cause where the training moves as well."""
    calm = {("small_validation_set", ""), ("dropout_noise", "")}
    for factor in (0.95, 1.05):
        record = healthy_record()
        history = history_of(record)
        # a zig-zag a, -a has second differences of 4 a: the noise of white noise with this mean
        height = factor * edge / (4 * math.sqrt(math.pi / 12))
        zigzag = 0.5 + height * (-1.0) ** np.arange(N_EPOCHS)
        record.fixed_loss = zigzag if of_fixed else np.zeros(0)
        history["loss"] = history["loss"] if of_fixed else zigzag
        run, _ = judged_run(record, history)
        seen = look_at(run, {"dropout": 0.5})
        assert seen["loss_noise"] == pytest.approx(factor * edge)
        assert calm & _excluded(seen) == (calm if factor > 1 else set())


def test_noise_of_augmentation_is_not_excluded():
    assert not [s for s in _excluded(Seen(HEALTHY, {**DEFAULTS, **MASKED})) if s in DROPOUT]
    without = _excluded(Seen(HEALTHY, {**DEFAULTS, **MASKED, "augment": None}))
    assert set(DROPOUT) <= without


MASKED = {"dropout": 0.0, "recurrent_dropout": 0.0, "input_dropout": 0.0, "augment": "standard"}
DROPOUT = [("regularization", "dropout too strong")]
