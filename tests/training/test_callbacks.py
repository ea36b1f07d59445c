import copy

import numpy as np
import pytest
import torch
from fits import small_classifier, stop_after
from training_jobs import few_windows

from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear
from sensorseq.training import Callback, TrainingConfig, train_network
from sensorseq.training.callbacks import HOOKS, check_callbacks
from sensorseq.training.engine import TrainingJob

TRAIN, VALIDATION = few_windows()
Y = np.arange(36) % 3
X = np.random.default_rng(0).normal(size=(36, 8, 2)) + Y[:, None, None]


def make_config(**arguments):
    return TrainingConfig(n_outputs=3, **{"max_epochs": 5, **arguments})


def train(callbacks=(), *, module=None, validation=VALIDATION, engine="autograd", **arguments):
    torch.manual_seed(0)
    module = module or LSTMLinear(2, 4, 3)
    seed, config = np.random.SeedSequence(0), make_config(**arguments)
    return train_network(
        module, TRAIN, validation, config, seed=seed, callbacks=callbacks, engine=engine
    )


def run_job(callbacks, *, module, engine="autograd", **arguments):
    """Run a job like `train`, but return a callback's error in the result."""
    seed, config = np.random.SeedSequence(0), make_config(**arguments)
    job = TrainingJob(module, TRAIN, VALIDATION, config, seed, callbacks=callbacks, engine=engine)
    return job.run()


class Recorder:
    """Records every hook, and raises or ends training where requested."""

    def __init__(self, raises=None, at=1, error=RuntimeError):
        self.seen = []
        self._raises, self._at, self._error = raises, at, error

    def _note(self, hook, epoch):
        self.seen.append((hook, epoch))
        if hook == self._raises and epoch in (self._at, None):
            raise self._error("no room on the disk")

    def on_fit_begin(self, module, config):
        self._note("on_fit_begin", None)

    def on_epoch_begin(self, module, history):
        assert not module.training
        self._note("on_epoch_begin", len(history) + 1)

    def on_epoch_end(self, module, history):
        self._note("on_epoch_end", history[-1]["epoch"])

    def on_fit_end(self, module, history):
        self._note("on_fit_end", None)


def test_hooks_are_called_in_order():
    recorder = Recorder()
    train([recorder], max_epochs=2)
    epochs = [(hook, epoch) for epoch in (1, 2) for hook in ("on_epoch_begin", "on_epoch_end")]
    assert recorder.seen == [("on_fit_begin", None), *epochs, ("on_fit_end", None)]


def test_the_base_class_has_every_hook_and_changes_nothing():
    assert all(hasattr(Callback, hook) for hook in HOOKS)
    watched, alone = train([Callback(), Recorder()]), train()
    drop = {"duration_s": 0}
    for row, other in zip(watched.history, alone.history, strict=True):
        assert row | drop == other | drop


@pytest.mark.parametrize("engine", ["autograd", "native"])
@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_before_an_epoch_the_module_has_the_weights_validated_last(ema_decay, engine):
    class Weights:
        def __init__(self):
            self.before, self.after = [], []

        def on_epoch_begin(self, module, history):
            self.before.append(copy.deepcopy(module.state_dict()))

        def on_epoch_end(self, module, history):
            self.after.append(copy.deepcopy(module.state_dict()))

    weights = Weights()
    train([weights], ema_decay=ema_decay, engine=engine, learning_rate=0.05)
    for before, after in zip(weights.before[1:], weights.after[:-1], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in after)
    names = weights.after[0]
    assert not all(torch.equal(weights.after[0][name], weights.after[1][name]) for name in names)


@pytest.mark.parametrize("engine", ["autograd", "native"])
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end", "on_fit_end"])
def test_an_error_in_a_callback_is_raised_and_the_trained_weights_are_kept(hook, engine):
    broken, other = Recorder(hook, at=3), Recorder()
    torch.manual_seed(0)
    module = LSTMLinear(2, 4, 3)
    result = run_job([broken, other], module=module, engine=engine, learning_rate=0.05)
    with pytest.raises(RuntimeError, match="no room on the disk") as raised:
        train([Recorder(hook, at=3), Recorder()], engine=engine, learning_rate=0.05)
    n_epochs = {"on_epoch_begin": 2, "on_epoch_end": 3, "on_fit_end": 5}[hook]
    assert str(result.error) == str(raised.value)
    assert result.error.__notes__ == raised.value.__notes__
    of_hook, of_training = raised.value.__notes__
    assert of_hook == f"raised in {hook} of the callback Recorder"
    assert f"ended after epoch {n_epochs}; the weights of epoch {n_epochs} are kept" in of_training
    assert broken.seen[-1] == other.seen[-1] == ("on_fit_end", None)
    assert (len(result.history), result.best_epoch) == (n_epochs, n_epochs)
    assert result.ended_by == ("max_epochs" if hook == "on_fit_end" else "callback_failed")
    torch.manual_seed(0)
    same = LSTMLinear(2, 4, 3)
    train([stop_after(n_epochs)], module=same, engine=engine, learning_rate=0.05)
    state = module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in same.state_dict().items())


def test_an_error_before_the_first_epoch_still_closes_what_others_opened():
    broken, other = Recorder("on_fit_begin"), Recorder()
    with pytest.raises(RuntimeError, match="no room") as raised:
        train([broken, other])
    assert other.seen == [("on_fit_begin", None), ("on_fit_end", None)]
    assert run_job([Recorder("on_fit_begin")], module=LSTMLinear(2, 4, 3)).best_epoch == 0
    assert raised.value.__notes__ == ["raised in on_fit_begin of the callback Recorder"]


def test_the_first_of_two_errors_is_raised_and_names_the_second():
    first, second = Recorder("on_epoch_end", at=2), Recorder("on_fit_end", error=KeyError)
    with pytest.raises(RuntimeError) as raised:
        train([first, second])
    assert "then Recorder.on_fit_end: KeyError('no room on the disk')" in raised.value.__notes__


def test_an_error_of_the_training_names_an_additional_error_of_a_callback():
    def broken_loss(logits, target):
        raise ZeroDivisionError("in the loss")

    with pytest.raises(ZeroDivisionError) as raised:
        train([Recorder("on_fit_end")], loss=broken_loss)
    assert "also: RuntimeError('no room on the disk')" in raised.value.__notes__[0]


class Broken:
    def on_epoch_end(self, module, history):
        if len(history) == 2:
            raise ConnectionError("no answer")


def test_an_error_in_a_callback_leaves_a_fitted_estimator():
    clf = small_classifier(callbacks=[Broken()])
    with pytest.raises(ConnectionError):
        clf.fit(X, Y)
    assert (clf.n_iter_, len(clf.history_)) == (2, 2)
    assert clf.fluctuation_.n_epochs == 2
    stopped = small_classifier(callbacks=[stop_after(2)]).fit(X, Y)
    np.testing.assert_array_equal(clf.predict(X), stopped.predict(X))


def test_an_error_before_the_first_epoch_leaves_no_fitted_estimator():
    clf = small_classifier(callbacks=[Recorder("on_fit_begin")])
    with pytest.raises(RuntimeError):
        clf.fit(X, Y)
    assert not hasattr(clf, "module_")


@pytest.mark.parametrize("callbacks", [3, "bar", [Callback], [object()]])
def test_an_object_that_is_not_a_callback_is_refused(callbacks):
    with pytest.raises(ArgumentError, match="callbacks"):
        check_callbacks(callbacks)
