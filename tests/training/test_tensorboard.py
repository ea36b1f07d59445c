"""What TensorBoardLog wrote is read back with TensorBoard's own reader."""

import copy
import errno
import functools
import os
import pickle

import numpy as np
import pytest
from fits import AfterEpoch, plain_classifier
from torch.nn import functional

from sensorseq.errors import EnvironmentProblemError, OutputError
from sensorseq.training.tensorboard import TensorBoardLog, tag_of

RNG = np.random.default_rng(0)
Y = np.arange(24) % 2
X = RNG.normal(size=(24, 6)) + Y[:, None]


def fit(callback, **arguments):
    settings = {"hidden_size": 4, "max_epochs": 3, "random_state": 0, **arguments}
    return plain_classifier(callbacks=[callback], **settings).fit(X, Y)


def read(folder):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = module.EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_every_column_of_the_history_is_a_curve(tmp_path):
    clf = fit(TensorBoardLog(tmp_path))
    events = read(tmp_path / "fit_1")
    names = [name for name in clf.history_.names if name != "epoch"]
    best = {f"best/{name}" for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")}
    assert set(events.Tags()["scalars"]) == {tag_of(name) for name in names} | best
    for name in names:
        written = events.Scalars(tag_of(name))
        assert [event.step for event in written] == [1, 2, 3]
        values = [event.value for event in written]
        np.testing.assert_array_equal(np.float32(clf.history_[name]), values)
    assert events.Scalars("best/epoch")[0].value == clf.best_epoch_
    assert events.Scalars("best/val_loss")[0].value == np.float32(clf.best_score_)


def test_the_arguments_are_there_as_text_and_as_hyperparameters(tmp_path):
    loss = functools.partial(functional.cross_entropy, reduction="none")
    fit(TensorBoardLog(tmp_path), learning_rate=0.025, loss=loss)
    events = read(tmp_path / "fit_1")
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| learning_rate | `0.025` |" in text
    assert "| optimizer | `adam` |" in text
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_each_fit_has_a_run_of_its_own_and_a_named_one_its_name(tmp_path):
    callback = TensorBoardLog(str(tmp_path / "deep" / "runs"))
    fit(callback)
    fit(copy.deepcopy(callback))
    fit(TensorBoardLog(tmp_path / "deep" / "runs", run="third"))
    runs = tmp_path / "deep" / "runs"
    assert {path.name for path in runs.iterdir()} == {"fit_1", "fit_2", "third"}
    assert callback.path_ == runs / "fit_1"


def test_the_epoch_in_which_training_diverged_is_written_too(tmp_path):
    calls = []

    def sick(logits, target):
        calls.append(0)
        losses = functional.cross_entropy(logits, target, reduction="none")
        return losses * float("nan") if len(calls) > 2 else losses

    arguments = {"batch_size": None, "validation_fraction": 0.0, "early_stopping": False}
    with pytest.warns(UserWarning, match="diverged in epoch 3"):
        fit(TensorBoardLog(tmp_path), loss=sick, monitor="loss", **arguments)
    events = read(tmp_path / "fit_1")
    assert np.isnan(events.Scalars("loss/train")[2].value)
    assert events.Scalars("best/epoch")[0].value == 2


def test_the_file_grows_with_every_epoch(tmp_path):
    seen = []

    def look(module, history):
        seen.append(len(read(tmp_path / "fit_1").Scalars("loss/train")))

    log = TensorBoardLog(tmp_path)
    arguments = {"hidden_size": 4, "max_epochs": 3, "random_state": 0}
    plain_classifier(callbacks=[log, AfterEpoch(look)], **arguments).fit(X, Y)
    assert seen == [1, 2, 3]


def test_a_classifier_with_a_log_can_be_pickled_after_its_fit(tmp_path):
    clf = fit(TensorBoardLog(tmp_path))
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_without_tensorboard_the_error_names_the_extra(tmp_path, without_module):
    without_module("torch.utils.tensorboard")
    with pytest.raises(EnvironmentProblemError, match=r'pip install "sensorseq\[tensorboard\]"'):
        fit(TensorBoardLog(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_log_on_a_full_disk_does_not_cost_the_fit(tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummaryWriter, "flush", full)
    with pytest.warns(UserWarning, match=r"fit_1: cannot be written \(no space left"):
        clf = fit(TensorBoardLog(tmp_path))
    assert len(clf.history_) == 3
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        fit(TensorBoardLog(tmp_path / "file"))
