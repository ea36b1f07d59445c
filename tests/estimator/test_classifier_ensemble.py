"""An ensemble averages its members, each of which is trained as if it were alone."""

import pickle

import numpy as np
import pytest
from fits import PLAIN, reloaded, weights, without_time
from remedies.problems import tones
from scipy.special import softmax

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, DivergedError
from sensorseq.evaluation.inspect import describe_file, format_file

X, Y = tones(60, 0, n_timesteps=12, noise=0.3, first=0.2, step=0.5)


def small(**arguments):
    settings = {"hidden_size": 6, "max_epochs": 8, "learning_rate": 0.03, "device": "cpu"}
    return SensorLSTMClassifier(**{**PLAIN, **settings, "random_state": 0, **arguments})


def report_text(estimator):
    """Return the report as plain values, without the durations of the epochs."""
    report = estimator.fluctuation_.to_dict()
    report["history"].pop("duration_s", None)
    return report


SETTINGS = [
    {"dropout": 0.2, "batch_size": 7, "patience": 2},
    {"head_norm": "batch", "num_layers": 2},
    {"augment": "standard"},
    {"engine": "autograd", "dropout": 0.2},
    {"max_timesteps": 8, "crop": "random"},
    {"max_epochs": "auto", "max_steps": 8, "warmup_epochs": 0.2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_members_equal_those_of_smaller_ensembles_and_the_first_equals_a_single_fit(settings):
    single = small(**settings).fit(X, Y)
    three = small(**settings, n_models=3).fit(X, Y)
    two = small(**settings, n_models=2).fit(X, Y)
    for fewer in (single, two):
        for module, wanted in zip(fewer.modules_, three.modules_, strict=False):
            assert weights(module) == weights(wanted)
        for history, wanted in zip(fewer.histories_, three.histories_, strict=False):
            assert without_time(history) == without_time(wanted)
    assert [len(clf.modules_) for clf in (single, two, three)] == [1, 2, 3]
    assert len({str(weights(module)) for module in three.modules_}) == 3
    assert three.history_ is three.histories_[0]
    assert three.module_ is three.modules_[0]
    assert without_time(three.history_) == without_time(single.history_)
    assert three.best_epoch_ == single.best_epoch_
    assert three.engine_ == single.engine_
    assert report_text(three) == report_text(single)


@pytest.mark.usefixtures("lstm_is_used")
@pytest.mark.trains
def test_members_are_refitted_and_share_one_choice_of_features(tmp_path):
    whole = {"features": "auto", "refit": "all", "early_stopping": False}
    single, two = (small(**whole, n_models=n).fit(X, Y) for n in (1, 2))
    assert weights(single) == weights(two.modules_[0])
    assert weights(single) != weights(small(early_stopping=False).fit(X, Y))
    assert single.features_ == two.features_
    for loaded in reloaded(two, tmp_path):
        assert loaded.features_ == two.features_
        np.testing.assert_array_equal(loaded.predict_proba(X), two.predict_proba(X))


def members_of(ensemble):
    """Each member as a separate estimator."""
    for network in ensemble.model_.lstm.networks:
        alone = pickle.loads(pickle.dumps(ensemble))
        alone.model_ = alone.model_.with_lstm(networks=[network])
        yield alone


def test_a_classifiers_probability_is_the_mean_of_its_members():
    ensemble = small(n_models=3).fit(X, Y)
    of_members = [member.predict_proba(X) for member in members_of(ensemble)]
    assert not np.allclose(of_members[0], of_members[1])
    probability = ensemble.predict_proba(X)
    np.testing.assert_allclose(probability, np.mean(of_members, axis=0), rtol=1e-12)
    np.testing.assert_allclose(softmax(ensemble.decision_function(X), axis=1), probability)
    for values in (probability, ensemble.decision_function(X)):
        labels = ensemble.classes_[values.argmax(axis=1)]
        np.testing.assert_array_equal(ensemble.predict(X), labels)


def test_two_classes_give_one_column_of_log_odds():
    ensemble = small(n_models=2).fit(X, Y > 0)
    probability = ensemble.predict_proba(X)
    odds = ensemble.decision_function(X)
    assert odds.shape == (len(X),)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), probability[:, 1])
    np.testing.assert_array_equal(odds > 0, ensemble.predict(X))


def test_a_warm_start_continues_with_every_member():
    ensemble = small(n_models=2, warm_start=True, max_epochs=2).fit(X, Y)
    before = [weights(module) for module in ensemble.modules_]
    ensemble.set_params(learning_rate=1e-30, optimizer="sgd").fit(X, Y)
    assert [weights(module) for module in ensemble.modules_] == before
    with pytest.raises(ArgumentError, match=r"n_models=3 .* kept 2. Fit again"):
        ensemble.set_params(n_models=3).fit(X, Y)


def test_callbacks_see_every_member():
    class Count:
        def __init__(self):
            self.epochs = {}

        def on_epoch_end(self, module, history):
            self.epochs.setdefault(id(module), []).append(history[-1]["epoch"])

    count = Count()
    small(n_models=3, callbacks=[count], early_stopping=False, max_epochs=4).fit(X, Y)
    assert list(count.epochs.values()) == [[1, 2, 3, 4]] * 3


def test_an_ensemble_that_diverges_in_its_first_epoch_raises_an_error():
    wild = {"optimizer": "sgd", "max_grad_norm": None, "weight_decay": 30.0, "learning_rate": 1e38}
    with pytest.raises(DivergedError, match="in its first epoch"):
        small(n_models=2, **wild).fit(X, Y)


def test_one_interrupt_ends_all_members_that_are_trained_one_after_another(tmp_path):
    class Interrupter:
        n_epochs = 0

        def on_epoch_end(self, module, history):
            self.n_epochs += 1
            if self.n_epochs == 10:  # the second epoch of the second member
                raise KeyboardInterrupt

    interrupted = small(engine="autograd", n_models=3, callbacks=[Interrupter()])
    with pytest.warns(UserWarning, match="1 of the n_models networks did not start"):
        interrupted.fit(X, Y)
    whole = small(engine="autograd", n_models=3).fit(X, Y)
    assert [len(history) for history in interrupted.histories_] == [8, 2]
    assert weights(interrupted.modules_[0]) == weights(whole.modules_[0])
    assert np.isfinite(interrupted.predict_proba(X)).all()
    again, _ = reloaded(interrupted.set_params(callbacks=None), tmp_path)
    assert len(again.modules_) == 2


def test_a_file_is_described_with_its_members_and_what_they_predict(tmp_path):
    small(n_models=2, max_epochs=1).fit(X, Y).save(tmp_path / "model")
    text = format_file(describe_file(tmp_path / "model"))
    assert "classes: 0, 1, 2" in text
    assert "2 networks, each: 1 LSTM layer of 6 units" in text
