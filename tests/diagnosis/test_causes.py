"""The table of causes, the ranker, and what is named of a run."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cause_runs import N_TRAIN, healthy_record, history_of, judged_run
from fits import plain_classifier
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.causes import (
    ARGUMENTS_OF,
    CAUSE_NAMES,
    CLAUSES,
    DEFAULTS,
    FAMILIES,
    FAMILY_OF,
    OWNER_OF,
    RANKED,
    TABLE,
    Cause,
    Times,
    Usual,
    families,
    hidden_cause,
    resolve,
    usual_rate,
)
from sensorseq.diagnosis.ranking import (
    CURVE_FEATURES,
    NAMED,
    NAMES,
    SAMPLING_NOISE,
    SETTING_FEATURES,
    describe,
    find_causes,
    join,
    measure,
    weigh,
    weigh_causes,
    weights,
    with_unknown,
)
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.statements import KINDS, say
from sensorseq.prediction.predictor import CLASSIFICATION
from sensorseq.training.parameters import check_parameters

OWN = SensorLSTMClassifier().get_params()
WILD = dict.fromkeys((*NAMES, SAMPLING_NOISE), 0.7)
DESCRIBED = [entry for entry in TABLE if entry.shows]
GIVEN = {
    "own": OWN,
    "as asked": {
        **OWN,
        "optimizer": "rmsprop",
        "optimizer_params": {"alpha": 0.9},
        "lr_schedule": "constant",
        "max_grad_norm": None,
        "scale": None,
        "batch_size": None,
        "hidden_size": 223,
        "max_epochs": 300,
        "max_timesteps": 60,
        "dropout": 0.7,
        "weight_decay": 1.0,
        "class_weight": {0: 50.0, 1: 1.0},
        "loss": "mse",
        "forget_bias": -3.0,
        "weight_init": "uniform",
    },
    "sgd": {
        **OWN,
        "optimizer": "sgd",
        "momentum": 0.0,
        "batch_size": 2,
        "learning_rate": 0.5,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "class_weight": "balanced",
        "num_layers": 3,
        "hidden_size": 2,
        "max_grad_norm": 0.01,
        "pooling": "last",
    },
    "own loss": {**OWN, "loss": torch.nn.functional.cross_entropy, "learning_rate": 1e-6},
}


# --- the table ----------------------------------------------------------------------------------


def test_the_table_is_whole():
    assert set(FAMILY_OF.values()) == set(FAMILIES)
    assert tuple(FAMILY_OF) == CAUSE_NAMES
    assert all(entry.family == FAMILY_OF[entry.cause] for entry in TABLE)
    assert {name: OWN[name] for name in DEFAULTS} == dict(DEFAULTS)
    assert {name for entry in TABLE for name in entry.shows.split()} == set(CLAUSES)
    assert set(CLAUSES) <= set(WILD)
    assert len({entry.key for entry in DESCRIBED}) == len(DESCRIBED)
    means = [name for entry in TABLE for name in entry.means.split()]
    assert set(SETTING_FEATURES) <= set(means) <= set(NAMES)
    assert len(set(means)) == len(means)
    model = weights()
    assert tuple(model["families"]) == RANKED
    for weighed in model["families"].values():
        assert set(weighed["weights"]) <= set(model["scales"]) <= set(NAMES)
    assert all(sd > 0 for _, sd in model["scales"].values())


def test_a_reset_changes_the_arguments_of_its_cause():
    known = SensorLSTMClassifier().get_params(deep=False)
    averages = {"learning_rate": {"ema_decay"}}  # does as well as a schedule, and resets nothing
    for entry in TABLE:
        names = {name for reset in entry.resets for name in reset}
        own = set(ARGUMENTS_OF.get(entry.cause, ()))
        assert names <= own | averages.get(entry.cause, set())
        assert own <= set(known)
    shared = [name for names in ARGUMENTS_OF.values() for name in names if name != "learning_rate"]
    assert len(shared) == len(set(shared)) == len(OWNER_OF) - 1
    assert all(name in ARGUMENTS_OF[cause] for name, cause in OWNER_OF.items())
    assert OWNER_OF["learning_rate"] == "learning_rate"


@pytest.mark.parametrize("given_name", GIVEN)
@pytest.mark.parametrize("entry", DESCRIBED, ids=lambda entry: entry.key)
def test_a_side_gives_its_figures_and_resets_that_fit_accepts(entry, given_name):
    arguments = GIVEN[given_name]
    cause = describe(entry, WILD, arguments)
    assert cause.evidence[0].isupper() or cause.evidence[0].isdigit()
    assert cause.evidence.endswith(".")
    assert "nan" not in cause.evidence
    assert cause.advice
    assert set(cause.sources) <= {"curve", "arguments"}
    offer = cause.recommendation
    assert all(arguments[key] != value for key, value in offer.items()), "it changes nothing"
    assert json.loads(json.dumps(offer)) == offer
    check_parameters({**arguments, **offer}, CLASSIFICATION)


@given(
    value=st.floats(1e-7, 1e4) | st.integers(1, 10_000),
    name=st.sampled_from(["learning_rate", "batch_size", "hidden_size", "dropout", "weight_decay"]),
    wanted=st.sampled_from([Usual(1), Usual(-1), Times(0.25, 8), Times(4.0), Times(0.1)]),
)
def test_a_reset_goes_its_way_or_changes_nothing(value, name, wanted):
    found = resolve({name: wanted}, {name: value})
    is_up = wanted.sign > 0 if isinstance(wanted, Usual) else wanted.factor > 1
    assert not found or (found[name] > value) == is_up
    if isinstance(wanted, Usual) and found:
        assert found[name] == DEFAULTS[name]


def test_the_usual_rate_is_that_of_the_optimizer():
    assert usual_rate({"optimizer": "adam"}) == 3e-3
    assert usual_rate({"optimizer": "sgd", "momentum": 0.9}) == pytest.approx(0.1)
    assert usual_rate({"optimizer": "sgd", "momentum": 0.0}) == pytest.approx(1.0)
    changed = resolve({"learning_rate": Usual(-1)}, {"optimizer": "rmsprop", "learning_rate": 0.1})
    assert changed == {"learning_rate": 1e-3}
    (optimizer,) = (entry.resets[0] for entry in TABLE if entry.cause == "optimizer")
    assert resolve(optimizer, GIVEN["sgd"])["learning_rate"] == OWN["learning_rate"]
    assert resolve(optimizer, {**OWN, "learning_rate": 1.0}) == {}  # that is a matter of the rate


# --- the ranker ---------------------------------------------------------------------------------

FEATURES = st.fixed_dictionaries(
    {name: st.one_of(st.just(math.nan), st.floats(-5, 1e6), st.floats(0, 1)) for name in NAMES}
)


@given(FEATURES)
def test_chances_are_probabilities_whatever_was_measured(features):
    chances = weigh(features)
    assert min(chances.values()) >= 0
    assert sum(chances.values()) <= 1 + 1e-9


@given(
    FEATURES,
    st.sampled_from([*GIVEN.values()]),
    st.booleans(),
    st.lists(
        st.builds(
            Cause,
            st.sampled_from(CAUSE_NAMES[:-1]),
            st.just("suspected"),
            st.floats(0, 1),
            st.just("It is so."),
        ),
        max_size=3,
    ),
)
def test_causes_and_what_is_unknown_are_certain_together(features, arguments, is_sick, facts):
    features |= {name: float(name == "fluctuating") for name in CURVE_FEATURES[:3]}
    ranked = join(weigh_causes(features, features, arguments, is_sick=is_sick), facts)
    assert sum(cause.confidence for cause in ranked) <= 1 + 1e-9
    first, *_ = told = with_unknown(ranked)
    if first.name == "unknown":
        assert sum(cause.confidence for cause in told) == pytest.approx(1)
    of_family = [family.confidence for family in families(ranked)]
    assert of_family == sorted(of_family, reverse=True)


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.key)
def test_no_cause_is_named_next_to_a_statement_that_denies_it(entry):
    run = judged_run(healthy_record())[0]
    for kind in entry.denied_by.split():
        assert kind in KINDS
        for verdict in ("fluctuating", "not_learning", "normal"):
            for arguments in (None, {**OWN, "max_epochs": 5}, {**OWN, "max_epochs": 5000}):
                found = find_causes(run, verdict, arguments, (), [say(kind)])
                assert entry.key not in {cause.title for cause in found}


def test_what_is_off_one_way_is_not_named_the_other_way():
    run = judged_run(healthy_record())[0]
    run.n_epochs, run.record = 4000, None
    for said, named in (((), True), ((say("no_overfitting"),), False)):
        found = find_causes(run, "not_learning", OWN, (), said)
        assert ("early_stopping: too many epochs" in {one.title for one in found}) == named
        assert "early_stopping: too few epochs" not in {one.title for one in found}


def test_a_restless_run_at_a_constant_rate_asks_for_a_schedule():
    own = {**OWN, "lr_schedule": "constant", "optimizer_params": {"betas": (0.9, 0.9)}}
    for verdict, first in (
        ("fluctuating", "learning_rate: schedule missing"),
        ("not_learning", "optimizer"),
    ):
        found = find_causes(judged_run(healthy_record())[0], verdict, own)
        assert next(one.title for one in found if one.family == "step") == first


def test_evidence_quotes_the_figures_of_the_verdict():
    rng = np.random.default_rng(0)
    falls = 0.3 + 2 * np.exp(-np.arange(60) / 6)
    history = {name: falls + rng.normal(0, 0.15, 60) for name in ("loss", "val_loss")}
    hot = {**OWN, "learning_rate": 0.5}
    report = FluctuationReport.from_history(history, n_classes=4, arguments=hot)
    noise = report.statistics["train_loss_noise"].value
    said = [one.evidence for one in report.causes if "training loss moves" in one.evidence]
    assert said
    assert all(f"he training loss moves +-{noise:.3f} nats" in words for words in said)
    assert any(f"+-{noise:.3f} nats" in str(statement) for statement in report.statements)


def causes_of(verdict="fluctuating", arguments=None, facts=()):
    return find_causes(judged_run(healthy_record())[0], verdict, arguments, facts)


@pytest.mark.parametrize("arguments", [None, *GIVEN.values()], ids=["none", *GIVEN])
@pytest.mark.parametrize("verdict", ["fluctuating", "diverged", "not_learning"])
def test_causes_come_by_family_and_unknown_leads_where_none_is_likely(verdict, arguments):
    causes = causes_of(verdict, arguments)
    assert sum(cause.confidence for cause in causes) <= 1 + 1e-9
    assert len({cause.name for cause in causes}) == len(causes)
    listed = families(cause for cause in causes if cause.name != "unknown")
    assert sum((family.causes for family in listed), ()) == tuple(
        cause for cause in causes if cause.name != "unknown"
    )
    sure = [family.confidence for family in listed]
    assert sure == sorted(sure, reverse=True)
    for family in listed:
        own = [cause.confidence for cause in family.causes]
        assert own == sorted(own, reverse=True)
    assert (causes[0].name == "unknown") == (max(sure, default=0) < NAMED)
    if arguments is None:
        assert [cause.name for cause in causes] == ["unknown"]
    if causes[0].name == "unknown":
        assert causes[0].evidence == "Cause unclear."
        assert "safe first change" in causes[0].advice
    if verdict != "not_learning":  # a higher rate calms no run
        assert "learning_rate: too low" not in {cause.title for cause in causes}


def test_what_is_set_already_is_no_cause():
    known = {**OWN, "lr_schedule": "cosine", "ema_decay": 0.99}
    titles = {cause.title for cause in causes_of(arguments=known)}
    assert "learning_rate: schedule missing" not in titles


def test_an_argument_is_evidence_and_so_is_the_run():
    run = judged_run(healthy_record())[0]
    usual = measure(run, "fluctuating", OWN)
    wild = measure(run, "fluctuating", {**OWN, "learning_rate": 1.0, "lr_schedule": "constant"})
    assert weigh(wild)["step"] > weigh(usual)["step"]
    assert weigh({**usual, "loss_noise": 0.5})["step"] > weigh(usual)["step"]


# --- healthy runs, checks of the data -----------------------------------------------------------


def test_a_healthy_run_has_no_cause_and_a_short_one_only_facts():
    run, verdict = judged_run(healthy_record())
    assert verdict == "normal"
    fact = Cause("data_bug", "suspected", 0.4, "Channel 2 is constant.")
    for arguments in (None, OWN):
        assert find_causes(run, verdict, arguments) == ()
        (told,) = find_causes(run, verdict, arguments, [fact])
        assert (told.name, told.sources) == ("data_bug", {"data": fact.evidence})
        assert hidden_cause(verdict, [told]) is None
        assert find_causes(run, "too_short_to_tell", arguments, [fact]) == (fact,)


def test_what_makes_a_calm_curve_rough_is_explained():
    few = judged_run(healthy_record())[0]
    few.statistics["val_accuracy_noise"] = replace(few.statistics["val_accuracy_noise"], value=0.06)
    few.add("val_common_mode", 1.1, "ratio")
    (cause,) = find_causes(few, "normal")
    assert (cause.name, cause.grade) == ("small_validation_set", "suspected")
    assert hidden_cause("normal", [cause]) is None


@pytest.mark.parametrize("share", [0.0, 0.35])
def test_labels_that_are_wrong_are_named_of_a_calm_run(share):
    record = healthy_record()
    wrong = np.arange(N_TRAIN) < share * N_TRAIN  # learned as the class that they are
    record.train_margin[:, wrong] *= -1
    record.fixed_accuracy *= 1 - share
    run, verdict = judged_run(record)
    assert verdict == "normal"
    assert ("label_noise" in {cause.name for cause in find_causes(run, verdict)}) == (share > 0)


def test_a_check_of_the_data_joins_the_cause_of_its_name():
    told = Cause("preprocessing", "suspected", 0.6, "The gates are shut.", "scale", {"scale": "x"})
    fact = Cause("preprocessing", "suspected", 0.25, "Channel 2 is 100 times as large.")
    other = Cause("learning_rate", "suspected", 0.4, "It moves.")
    joined, last = join([other, told], [fact])
    assert last.confidence == pytest.approx(0.4 * 0.75)  # of what the fact leaves
    assert joined.confidence == pytest.approx(0.6 * 0.75 + 0.25)
    assert joined.finding == "scale"
    assert joined.evidence == "The gates are shut. Channel 2 is 100 times as large."
    assert joined.sources == {"data": fact.evidence}


def test_only_calm_runs_hide_a_cause():
    rough = Cause("small_validation_set", "suspected", 0.9, "")
    found = Cause("weight_init", "suspected", 0.6, "")
    assert hidden_cause("normal", (rough,)) is None
    assert hidden_cause("normal", (rough, found)) is found
    assert hidden_cause("fluctuating", (found,)) is None
    assert hidden_cause("normal", (replace(found, confidence=0.4),)) is None
    halves = [Cause(name, "suspected", 0.3, "") for name in ("learning_rate", "optimizer")]
    assert hidden_cause("normal", halves) is halves[0]


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
    ("family", "cause", "arguments"),
    [
        ("step", "learning_rate", {"learning_rate": 1.0, "optimizer": "adam"}),
        ("step", "learning_rate", {"learning_rate": 1e-6}),
        ("capacity", "model_complexity", {"hidden_size": 1}),
        ("capacity", "regularization", {"weight_decay": 30.0}),
    ],
    ids=["rate 1.0", "rate 1e-6", "width 1", "decay 30"],
)
def test_a_gross_fault_is_named_first(family, cause, arguments):
    report = report_of(**arguments)
    assert report.verdict != "normal" or hidden_cause(report.verdict, report.causes)
    named = [one for one in report.causes if one.name != "unknown"]
    assert named[0].family == family, [(one.title, one.confidence) for one in named]
    assert named[0].name == cause
    changed = named[0].recommendation
    assert set(changed) & set(arguments)
    assert all(OWN[name] == value for name, value in changed.items() if name in arguments)


@pytest.mark.trains
def test_the_same_arguments_on_healthy_and_on_raw_data():
    plain = {"scale": None, "hidden_size": 16}
    healthy, raw = report_of(**plain), report_of(units=500.0, **plain)
    assert hidden_cause(healthy.verdict, healthy.causes) is None
    named = [cause for cause in raw.causes if cause.name != "unknown"]
    assert named[0].name == "preprocessing"
    assert named[0].recommendation == {"scale": "standard"}


@pytest.mark.trains
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_healthy_run_hides_nothing(seed):
    report = report_of(seed=seed)
    assert report.verdict == "normal"
    assert hidden_cause(report.verdict, report.causes) is None


def test_a_log_of_keras_gets_words_and_no_arguments():
    rng = np.random.default_rng(0)
    history = {"loss": 0.5 + np.exp(-np.arange(60) / 5) + 0.2 * rng.normal(size=60)}
    report = FluctuationReport.from_history(history)
    assert report.verdict == "fluctuating"
    assert not any(cause.recommendation for cause in report.causes)
    (cause,) = report.causes
    assert cause.name == "unknown"
    assert "learning rate" in cause.advice


def test_causes_survive_the_way_through_a_dictionary():
    record = healthy_record()
    history = history_of(record)
    history["val_loss"][::3] += 1.0
    record.fixed_loss[::3] += 0.5
    arguments = plain_classifier(learning_rate=0.3).get_params()
    report = FluctuationReport.from_history(
        history, 120, n_train=320, n_classes=4, record=record, arguments=arguments
    )
    assert report.verdict == "fluctuating"
    assert report.causes
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert FluctuationReport.from_dict(told).causes == report.causes
