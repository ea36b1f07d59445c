"""MLflowLog against a stand-in that writes down the calls; tests/peers has the real library."""

import sys
import types

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq.errors import EnvironmentProblemError
from sensorseq.training.mlflow import MLflowLog

RNG = np.random.default_rng(0)
Y = np.arange(24) % 2
X = RNG.normal(size=(24, 6)) + Y[:, None]


class StandIn(types.ModuleType):
    """The part of mlflow's interface that is called; runs are dictionaries."""

    def __init__(self):
        super().__init__("mlflow")
        self.runs, self.active, self.experiments = [], [], {}

    def active_run(self):
        return self.active[-1] if self.active else None

    def start_run(self, run_name=None, experiment_id=None, nested=False):
        assert nested == bool(self.active), "mlflow refuses a run inside another that is not nested"
        run = types.SimpleNamespace(
            info=types.SimpleNamespace(run_id=f"run {len(self.runs)}"),
            name=run_name,
            experiment_id=experiment_id,
            params={},
            metrics=[],
        )
        self.runs.append(run)
        self.active.append(run)
        return run

    def end_run(self, status):
        self.active.pop().status = status

    def log_params(self, params):
        self.active[-1].params.update(params)

    def log_metrics(self, metrics, step):
        self.active[-1].metrics += [(name, step, float(value)) for name, value in metrics.items()]

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return None if found is None else types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self.experiments[name] = f"experiment {name}"
        return self.experiments[name]


@pytest.fixture
def mlflow(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    return stand_in


def fit(*callbacks, **arguments):
    settings = {"hidden_size": 4, "max_epochs": 3, "random_state": 0, **arguments}
    return plain_classifier(callbacks=list(callbacks), **settings).fit(X, Y)


def test_a_fit_is_one_run_with_its_arguments_and_every_figure(mlflow):
    log = MLflowLog("terrain", run_name="first")
    clf = fit(log, learning_rate=0.025)
    (run,) = mlflow.runs
    assert (run.status, run.name, run.experiment_id) == ("FINISHED", "first", "experiment terrain")
    assert log.run_id_ == run.info.run_id
    assert run.params["learning_rate"] == 0.025
    assert all(isinstance(value, bool | int | float | str) for value in run.params.values())
    for row in clf.history_:
        epoch = row.pop("epoch")
        assert {(name, epoch, value) for name, value in row.items()} <= set(run.metrics)
    assert ("best_epoch", clf.best_epoch_, clf.best_epoch_) in run.metrics
    assert ("best_val_loss", clf.best_epoch_, clf.best_score_) in run.metrics


def test_fits_inside_an_active_run_are_its_children_and_leave_it_open(mlflow):
    outer = mlflow.start_run("search")
    log = MLflowLog()
    fit(log)
    fit(log)
    assert mlflow.active == [outer]
    assert len(mlflow.runs) == 3


def test_an_experiment_that_is_there_is_not_made_again(mlflow):
    mlflow.experiments["terrain"] = "as it was"
    fit(MLflowLog("terrain"))
    assert mlflow.runs[0].experiment_id == "as it was"


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_that_failed_says_so(error, status, mlflow):
    def broken(logits, target):
        raise error

    with pytest.raises(error):
        fit(MLflowLog(), loss=broken)
    assert [run.status for run in mlflow.runs] == [status]
    assert mlflow.active == []


def test_a_server_that_stops_answering_does_not_lose_the_training(mlflow):
    def refuse(metrics, step):
        raise ConnectionError("no answer")

    mlflow.log_metrics = refuse
    with pytest.raises(ConnectionError, match="no answer") as raised:
        fit(MLflowLog())
    assert "raised in on_epoch_end of the callback MLflowLog" in raised.value.__notes__
    assert mlflow.active == []


def test_without_mlflow_the_error_names_the_extra(without_module):
    without_module("mlflow")
    with pytest.raises(EnvironmentProblemError, match=r'pip install "sensorseq\[mlflow\]"'):
        fit(MLflowLog())
