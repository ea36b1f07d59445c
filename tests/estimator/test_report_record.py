"""The record of a fit's run, and a report that is still complete in another process."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fits import PLAIN, reloaded, weights, without_time

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.io.model_file import read_model, write_model
from sensorseq.io.prepared import write_windows
from sensorseq.io.stored_windows import BUFFER_VARIABLE
from sensorseq.training.recorder import without_recording
from sensorseq.windows import WindowSet

RNG = np.random.default_rng(0)
Y = np.arange(120) % 3
X = RNG.normal(size=(120, 10, 2)) + 0.8 * Y[:, None, None]
GROUPS = np.array([f"run {i}" for i in RNG.permutation(120) // 8])


def make(**arguments):
    settings = {"hidden_size": 4, "max_epochs": 5, "learning_rate": 0.02, "device": "cpu"}
    return SensorLSTMClassifier(**{**PLAIN, **settings, "random_state": 0, **arguments})


def outcome(estimator):
    rows = without_time(estimator.history_)
    return weights(estimator), rows, estimator.best_epoch_, estimator.best_score_


@pytest.mark.parametrize("arguments", [{}, {"augment": "standard"}, {"n_models": 3}], ids=str)
def test_recording_does_not_change_a_fit(arguments):
    recorded = make(**arguments).fit(X, Y)
    assert recorded.fluctuation_.record.n_epochs == len(recorded.history_)
    with without_recording():
        plain = make(**arguments).fit(X, Y)
    assert plain.fluctuation_.record is None
    assert outcome(recorded) == outcome(plain)


def test_the_groups_of_validation_windows_are_recorded_as_codes():
    record = make().fit(X, Y, groups=GROUPS).fluctuation_.record
    assert len(record.val_groups) == len(record.val_rows) == len(record.val_target)
    assert len(np.unique(record.val_groups)) == len(record.val_target) // 8
    shown = make().fit(X, Y, X_val=X[:6], y_val=Y[:6], groups_val=["b", "b", "a", "c", "a", "b"])
    np.testing.assert_array_equal(shown.fluctuation_.record.val_groups, [1, 1, 0, 2, 0, 1])
    np.testing.assert_array_equal(shown.fluctuation_.record.val_target, Y[:6])
    assert make().fit(X, Y).fluctuation_.record.val_groups is None


def test_a_report_on_a_different_loss_contains_the_record():
    classifier = make(loss="focal", validation_fraction=0.0, early_stopping=False, monitor="loss")
    assert classifier.fit(X, Y).fluctuation_.record.n_epochs == 5
    assert make(loss="focal").fit(X, Y).fluctuation_.record.val_predicted.shape == (5, 24)


def test_a_warm_start_has_the_record_of_its_own_fit():
    classifier = make(warm_start=True).fit(X, Y)
    first = classifier.fluctuation_.record
    again = classifier.fit(X, Y).fluctuation_.record
    assert again is not first
    assert again.n_epochs == 5
    # the second fit begins with the weights that the first fit kept
    assert again.fixed_loss[0] < first.fixed_loss[0]


class TestReport:
    """A report with information that the history does not contain."""

    @pytest.fixture
    def fitted(self):
        classifier = make().fit(X, Y)
        described = classifier.fluctuation_.to_dict()
        described["evidence"] = {"only_of_the_record": [1.0, None, 3.0]}
        report = FluctuationReport.from_dict(described)
        classifier._judged = classifier._judged._replace(report=report)
        return classifier

    def test_is_the_same_in_a_saved_model_and_in_a_pickle(self, fitted, tmp_path):
        for again in reloaded(fitted, tmp_path):
            assert again.fluctuation_.to_dict() == fitted.fluctuation_.to_dict()
            assert again.fluctuation_.evidence

    def test_is_made_anew_for_a_file_that_has_none(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        arrays, description = read_model(tmp_path / "model")
        del description["fluctuation"]
        write_model(tmp_path / "model", arrays, description)
        again = SensorLSTMClassifier.load(tmp_path / "model").fluctuation_
        assert not again.evidence.get("only_of_the_record")
        assert again.verdict == fitted.fluctuation_.verdict

    def test_does_not_store_the_record(self, tmp_path):
        classifier = make().fit(X, Y)
        whole = len(pickle.dumps(classifier))
        with without_recording():
            plain = make().fit(X, Y)
        assert pickle.loads(pickle.dumps(classifier)).fluctuation_.record is None
        assert whole < len(pickle.dumps(plain)) + 20_000
        json.dumps(classifier.fluctuation_.to_dict())


def test_fits_of_other_threads_are_not_recorded_in_a_block_either():
    with without_recording(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: make().fit(X, Y)).result().fluctuation_.record is None


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_windows_that_are_streamed_are_recorded_step_by_step(engine, tmp_path, monkeypatch):
    split = np.where(np.arange(len(Y)) % 6 < 5, "train", "validation")
    windows = WindowSet(X.astype(np.float32), y=Y, split=split)
    write_windows(tmp_path / "windows.h5", windows)
    monkeypatch.setenv(BUFFER_VARIABLE, "6000")
    streamed = make(engine=engine, batch_size=16, ema_decay=0.9).fit(tmp_path / "windows.h5")
    with without_recording():
        plain = make(engine=engine, batch_size=16, ema_decay=0.9).fit(tmp_path / "windows.h5")
    assert outcome(streamed) == outcome(plain)
    record, history = streamed.fluctuation_.record, streamed.history_
    np.testing.assert_array_equal(record.epoch_steps, np.arange(6) * 7)
    for epoch, row in enumerate(history):
        steps = slice(*record.epoch_steps[epoch : epoch + 2])
        n_windows = record.steps["n_windows"][steps]
        mean = np.average(record.steps["loss"][steps], weights=n_windows)
        assert np.isclose(mean, row["loss"], rtol=1e-6)
        np.testing.assert_array_equal(record.class_counts[steps].sum(axis=1), n_windows)
        assert np.isclose(record.val_correct[epoch].mean(), row["val_accuracy"])
    # each epoch uses every window once, wherever buffers begin and end
    every = record.class_counts[:7].sum(axis=0)
    np.testing.assert_array_equal(every, np.bincount(Y[split == "train"]))
    assert len(record.fixed_loss) == len(record.train_rows) == 0
    assert np.isnan(record.averaged_loss)
