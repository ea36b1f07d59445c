"""checkpoint, checkpoint_every and resume of the estimators."""

import shutil
import time

import numpy as np
import pytest
from fits import plain_classifier, reloaded, weights, without_time
from sklearn.base import clone
from threads import torch_threads

from sensorseq import SensorLSTMRegressor
from sensorseq.errors import ArgumentError, CheckpointError, DivergedError
from sensorseq.io.model_file import CHECKPOINT, unpack

RNG = np.random.default_rng(0)
Y = np.arange(36) % 3
X = RNG.normal(size=(36, 10, 2)) + Y[:, None, None]
SETTINGS = {"hidden_size": 4, "max_epochs": 6, "learning_rate": 0.03, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def _no_disk_is_waited_for():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


def classifier(**arguments):
    return plain_classifier(**{**SETTINGS, "random_state": 0, **arguments})


class CopyIn:
    """Copy a checkpoint in the callback of an epoch."""

    def __init__(self, epoch, source, target):
        self.epoch, self.source, self.target = epoch, source, target

    def on_epoch_end(self, module, history):
        if len(history) == self.epoch:
            deadline_s = time.monotonic() + 60
            while epochs_in(self.source) < self.epoch - 1 and time.monotonic() < deadline_s:
                time.sleep(0.001)  # the thread that writes it may be some epochs behind
            shutil.copy(self.source, self.target)


def epochs_in(path):
    if not path.exists():
        return 0
    return len(unpack(CHECKPOINT, path)[0]["history"].tobytes().splitlines())


def learned(estimator):
    """Return what a fit learned, in bytes and text."""
    rows = without_time(estimator.history_)
    arrays = weights(estimator)
    arrays |= {name: array.tobytes() for name, array in estimator.scaler_.to_dict().items()}
    facts = estimator.best_epoch_, estimator.best_score_, estimator.n_iter_, estimator.engine_
    report = estimator.fluctuation_.to_dict()
    report["history"].pop("duration_s", None)
    return arrays, repr(rows), repr(facts), repr(report)


CASES = {
    "as it comes": classifier(),
    "autograd": classifier(engine="autograd", dropout=0.3, recurrent_dropout=0.2),
    "a seed drawn anew": classifier(random_state=None, dropout=0.3),
    "augmented": classifier(augment="standard", dtype="float64"),
    "balanced": classifier(class_weight="balanced", ema_decay=0.9, lr_schedule="plateau"),
    "random crops": classifier(max_timesteps=6, crop="random", head_norm="batch"),
    "regression": SensorLSTMRegressor(**SETTINGS, random_state=0),
}


@pytest.mark.parametrize("estimator", CASES.values(), ids=CASES)
def test_a_resumed_fit_is_the_uninterrupted_one(tmp_path, estimator):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    once = clone(estimator).set_params(checkpoint=whole, callbacks=[CopyIn(4, whole, cut)])
    once.fit(X, Y)
    assert epochs_in(cut) == 3
    again = clone(estimator).set_params(checkpoint=str(cut), resume=True).fit(X, Y)
    assert learned(again) == learned(once)
    assert again.predict(X).tobytes() == once.predict(X).tobytes()
    if estimator.random_state is not None:
        assert learned(clone(estimator).fit(X, Y)) == learned(once)


def test_without_a_checkpoint_yet_a_fit_starts_anew_and_a_finished_one_is_returned(tmp_path):
    class Never:
        def on_epoch_end(self, module, history):
            raise AssertionError("trained again")

    path = tmp_path / "run"
    once = classifier(checkpoint=path, resume=True).fit(X, Y)
    assert learned(once) == learned(classifier().fit(X, Y))
    again = classifier(checkpoint=path, resume=True, callbacks=[Never()]).fit(X, Y)
    assert learned(again) == learned(once)
    assert repr(again.history_.to_rows()) == repr(once.history_.to_rows())


def test_a_fit_that_had_diverged_at_once_diverges_again(tmp_path):
    def sick(logits, class_index):
        return logits.sum(dim=1) * float("nan")

    hopeless = classifier(loss=sick, checkpoint=tmp_path / "run", resume=True)
    for _ in range(2):
        with pytest.raises(DivergedError, match="diverged in its first epoch"):
            hopeless.fit(X, Y)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    watch = CopyIn(4, folder / "whole", folder / "run")
    classifier(checkpoint=folder / "whole", callbacks=[watch]).fit(X, Y)
    return folder / "run"


REFUSED = [
    ({"learning_rate": 0.01}, "learning_rate is 0.01, but .* with 0.03"),
    ({"hidden_size": 5}, r"hidden_size is 5, but .* with 4\. Use the same"),
    ({"max_epochs": 7}, "max_epochs is 7, but .* with 6"),
    ({"augment": {"jitter": 0.1}}, "augment is {'jitter': 0.1}, but .* with None"),
    ({"scale": "robust"}, "scale is 'robust', .* 'standard'; the training windows differ"),
    ({"random_state": 1}, "random_state is 1, but .* with 0"),
    ({"random_state": np.random.RandomState(3)}, "random_state is 'RandomState"),
    ({"forget_bias": 0.0}, r"forget_bias is 0.0, but .* with 1.0\. Use the same"),
    ({"engine": "autograd"}, "engine is 'autograd', but .* with 'native'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=lambda case: str(case)[:24])
def test_a_checkpoint_of_other_arguments_is_refused_by_their_names(begun, arguments, message):
    other = classifier(**{"checkpoint": begun, "resume": True, **arguments})
    with pytest.raises(CheckpointError, match=message):
        other.fit(X, Y)


def test_a_checkpoint_of_other_windows_is_refused_by_name(begun):
    same = classifier(checkpoint=begun, resume=True)
    with pytest.raises(CheckpointError, match="the training windows differ; the validation win"):
        same.fit(X + 1e-3 * RNG.normal(size=X.shape), Y)
    with pytest.raises(CheckpointError, match="the training targets differ; "):
        same.fit(X, (Y + 1) % 3)
    with pytest.raises(CheckpointError, match=r"run: the training weights differ\. Use the same"):
        same.fit(X, Y, sample_weight=np.linspace(1, 2, 36))


def test_what_shapes_no_training_may_change(begun, tmp_path):
    path = shutil.copy(begun, tmp_path / "run")
    resumed = classifier(checkpoint=path, resume=True, checkpoint_every=4, verbose=0, engine="auto")
    with torch_threads(2):
        resumed.set_params(callbacks=[], warm_start=True, device="auto", engine="native").fit(X, Y)
    assert learned(resumed)[:2] == learned(classifier().fit(X, Y))[:2]


def test_to_resume_without_a_checkpoint_is_refused():
    with pytest.raises(ArgumentError, match="resume=True needs a checkpoint: give `checkpoint`"):
        classifier(resume=True).fit(X, Y)


def test_a_damaged_checkpoint_is_refused_and_the_estimator_left_as_it_was(begun, tmp_path):
    path = tmp_path / "run"
    path.write_bytes(begun.read_bytes()[:-5])
    fitted = classifier(checkpoint=path, resume=False)
    before = learned(classifier().fit(X, Y))
    fitted.set_params(checkpoint=None).fit(X, Y).set_params(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match="truncated, damaged or not a checkpoint"):
        fitted.fit(X, Y)
    assert learned(fitted) == before


def test_an_estimator_with_a_checkpoint_is_saved_with_its_name(tmp_path):
    fitted = classifier(checkpoint=tmp_path / "run").fit(X, Y)
    again, _ = reloaded(fitted, tmp_path)
    assert again.checkpoint == str(tmp_path / "run")
    assert learned(again) == learned(fitted)


def test_members_whose_turn_had_not_come_start_anew_whatever_fit_left_a_file_there(tmp_path):
    class Break:
        def on_epoch_end(self, module, history):
            if len(history) == 2:
                raise RuntimeError("broken off")

    path = tmp_path / "run"
    classifier(n_models=2, checkpoint=path).fit(X, Y)
    other = {"n_models": 2, "random_state": 1}
    with pytest.raises(RuntimeError, match="broken off"):
        classifier(**other, checkpoint=path, callbacks=[Break()]).fit(X, Y)
    resumed = classifier(**other, checkpoint=path, resume=True).fit(X, Y)
    wanted = classifier(**other).fit(X, Y).predict_proba(X)
    assert resumed.predict_proba(X).tobytes() == wanted.tobytes()
