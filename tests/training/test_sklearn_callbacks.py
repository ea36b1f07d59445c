"""scikit-learn's own callbacks watch a fit, and its absence changes nothing."""

import importlib.util
import pickle
import sys
from functools import partial

import numpy as np
import pytest
import sklearn
from fits import small_classifier, stop_after
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sensorseq import WindowSet
from sensorseq.errors import EnvironmentProblemError
from sensorseq.training import sklearn_callbacks

try:
    from sklearn.callback import ProgressBar, ScoringMonitor
except ImportError:
    pytest.skip(f"scikit-learn {sklearn.__version__} has no callbacks", allow_module_level=True)

RNG = np.random.default_rng(0)
Y = np.arange(36) % 3
X = (RNG.normal(size=(36, 8, 2)) + Y[:, None, None]).astype(np.float32)


make = partial(small_classifier, hidden_size=4, max_epochs=3)


class Recorder:
    """Writes down every hook with the depth of its task."""

    def __init__(self, answer=None):
        self.seen = []
        self.fitted = []
        self.answer = answer

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.seen.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.seen.append(f"end {context.task_name} {context.task_id}")
        self.fitted.append(fitted_estimator)
        return None if self.answer is None else self.answer(context)


def test_the_fit_is_a_task_and_each_epoch_one_below_it():
    recorder = Recorder()
    make(max_epochs=2).set_callbacks(recorder).fit(X, Y)
    epochs = ["begin epoch 0", "end epoch 0", "begin epoch 1", "end epoch 1"]
    assert recorder.seen == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]


def test_a_watched_fit_gives_the_same_bits():
    alone = make().fit(X, Y)
    watched = make().set_callbacks(Recorder(), ScoringMonitor(scoring="accuracy")).fit(X, Y)
    np.testing.assert_array_equal(watched.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("engine", ["native", "autograd"])
@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_score_of_an_epoch_is_that_of_a_training_that_stopped_there(engine, ema_decay):
    arguments = {"engine": engine, "ema_decay": ema_decay, "restore_best": False, "dropout": 0.2}
    monitor = ScoringMonitor(scoring="neg_log_loss")
    make(**arguments).set_callbacks(monitor).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    expected = []
    for n_epochs in (1, 2, 3):
        stopped = make(**arguments, callbacks=[stop_after(n_epochs)]).fit(X, Y)
        expected.append(-log_loss(Y, stopped.predict_proba(X)))
    assert [row["neg_log_loss"] for row in rows] == pytest.approx(expected, rel=1e-12)


def test_the_estimator_of_an_epoch_has_no_members_of_a_fit_before():
    recorder = Recorder()
    model = make(n_models=3).fit(X, Y)
    model.set_params(n_models=1).set_callbacks(recorder).fit(X, Y)
    assert [len(fitted.modules_) for fitted in recorder.fitted] == [1, 1, 1, 1]
    assert [len(fitted.histories_) for fitted in recorder.fitted] == [1, 1, 1, 1]


def test_the_estimator_of_an_epoch_stays_as_it_was():
    recorder = Recorder()
    clf = make(restore_best=False).set_callbacks(recorder).fit(X, Y)
    *epochs, whole = recorder.fitted
    assert [part.n_iter_ for part in epochs] == [1, 2, 3]
    assert all(len(part.history_) == part.n_iter_ for part in epochs)
    probabilities = [part.predict_proba(X) for part in (*epochs, whole)]
    assert not np.array_equal(probabilities[0], probabilities[2])
    np.testing.assert_array_equal(probabilities[2], clf.predict_proba(X))
    np.testing.assert_array_equal(probabilities[3], clf.predict_proba(X))


def test_a_callback_that_answers_true_after_an_epoch_ends_training():
    recorder = Recorder(lambda context: context.task_name == "epoch" and context.task_id == 1)
    clf = make(max_epochs=10).set_callbacks(recorder).fit(X, Y)
    assert clf.n_iter_ == 2
    assert recorder.seen[-2:] == ["end fit 0", "teardown"]


def given_windows(kind, tmp_path):
    """X, y and keywords of one kind, 24 training windows among them."""
    lengths = np.where(np.arange(36) % 2, 8, 5)
    padded = np.where(np.arange(8)[:, None] < lengths[:, None, None], X, np.nan)
    split = np.array(["train", "train", "validation"])[np.arange(36) // 3 % 3]
    windows = WindowSet(X=X, y=Y, split=split, groups=np.arange(36))
    return {
        "array": (X, Y, {}),
        "flat": (X[:, :, 0], Y, {}),
        "lengths": (padded, Y, {"lengths": lengths}),
        "list": ([x[:n] for x, n in zip(X, lengths, strict=True)], Y, {}),
        "weights": (X, Y, {"sample_weight": np.linspace(0.5, 1.5, 36)}),
        "WindowSet": (windows, None, {}),
    }[kind]


@pytest.mark.parametrize("kind", ["array", "flat", "lengths", "list", "weights", "WindowSet"])
def test_a_monitor_scores_whatever_fit_accepts(kind, tmp_path):
    windows, y, keywords = given_windows(kind, tmp_path)
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    make().set_callbacks(monitor).fit(windows, y, **keywords)
    rows = monitor.get_logs().data
    assert len(rows) == 4
    assert all(row["neg_log_loss"] < 0 < row["accuracy"] for row in rows)


def test_an_error_in_a_callback_rises_and_leaves_a_fitted_estimator():
    def fail(context):
        if context.task_id == 1:
            raise ZeroDivisionError("in the callback")

    recorder = Recorder(fail)
    clf = make(max_epochs=10).set_callbacks(recorder)
    with pytest.raises(ZeroDivisionError) as raised:
        clf.fit(X, Y)
    assert f"the weights of epoch {clf.best_epoch_} are kept" in raised.value.__notes__[-1]
    assert clf.n_iter_ == 2
    assert clf.predict(X).shape == (36,)
    assert recorder.seen[-1] == "teardown"


def test_an_error_in_our_own_callback_leaves_a_fitted_estimator():
    class Broken:
        def on_epoch_end(self, module, history):
            if len(history) == 2:
                raise ConnectionError("no answer")

    clf = make(callbacks=[Broken()])
    with pytest.raises(ConnectionError):
        clf.fit(X, Y)
    assert (clf.n_iter_, len(clf.history_)) == (2, 2)
    assert clf.fluctuation_.n_epochs == 2
    np.testing.assert_array_equal(
        clf.predict(X), make(callbacks=[stop_after(2)]).fit(X, Y).predict(X)
    )


def test_an_error_before_the_first_epoch_leaves_no_fitted_estimator():
    class Broken:
        def on_fit_begin(self, module, config):
            raise ConnectionError("no answer")

    clf = make(callbacks=[Broken()])
    with pytest.raises(ConnectionError):
        clf.fit(X, Y)
    assert not hasattr(clf, "module_")


def test_clones_share_the_callbacks_and_a_fitted_estimator_can_be_pickled():
    monitor = ScoringMonitor(scoring="accuracy")
    clf = make().set_callbacks(monitor)
    clone(clf).fit(X, Y)
    assert len(monitor.get_logs().data) == 4
    clf.fit(X, Y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))


def test_a_progress_bar_on_a_search_goes_down_to_the_epochs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("rich._console", None)  # else it is as wide as at its first use
    search = GridSearchCV(make(max_epochs=2), {"hidden_size": [2, 4]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    shown = capsys.readouterr().out
    assert "SensorLSTMClassifier - fit" in shown
    assert "100%" in shown


def test_a_progress_bar_in_a_pipeline(capsys):
    pipeline = make_pipeline(None, make(max_epochs=2)).set_callbacks(ProgressBar())
    pipeline.fit(X, Y)
    assert "SensorLSTMClassifier - fit" in capsys.readouterr().out


@pytest.fixture
def without_protocol(monkeypatch):
    """The module as it is under a scikit-learn that has no callbacks."""
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    spec = importlib.util.spec_from_file_location("old", sklearn_callbacks.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_protocol_fits_are_as_before_and_set_callbacks_says_why(without_protocol):
    assert without_protocol.with_callbacks(len) is len
    with pytest.raises(EnvironmentProblemError, match=r"needs scikit-learn 1\.9 or newer"):
        without_protocol.CallbackSupportMixin().set_callbacks(Recorder())

    class Estimator(without_protocol.CallbackSupportMixin):
        pass

    alone = make().fit(X, Y)
    tasks = without_protocol.FitTasks(Estimator(), X, Y)
    watched = make(callbacks=[tasks]).fit(X, Y)
    tasks.close()
    np.testing.assert_array_equal(watched.predict_proba(X), alone.predict_proba(X))
