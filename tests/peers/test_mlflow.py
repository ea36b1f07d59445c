"""MLflowLog writes runs that MLflow itself reads back."""

import math

import pytest

pytestmark = pytest.mark.peers


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    # mlflow-skinny has no database; the store of plain files is there when it is allowed.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    library = pytest.importorskip("mlflow")
    before = library.get_tracking_uri()
    library.set_tracking_uri((tmp_path / "runs").as_uri())
    yield library
    library.set_tracking_uri(before)


def drive(log, rows, **arguments):
    """Call the hooks as a fit does, without its training."""
    from sensorseq.history import History
    from sensorseq.training.config import TrainingConfig

    config = TrainingConfig(2, max_epochs=len(rows), **arguments)
    history = History()
    log.on_fit_begin(None, config)
    for row in rows:
        history.append(row)
        log.on_epoch_end(None, history)
    log.on_fit_end(None, history)


ROWS = [
    {"epoch": 1, "loss": 0.75, "val_loss": 0.5, "val_accuracy": 0.5},
    {"epoch": 2, "loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.75},
    {"epoch": 3, "loss": math.nan, "val_loss": 0.5, "val_accuracy": 0.75},
]


def test_mlflow_reads_back_every_figure_and_argument(mlflow):
    from sensorseq.training.mlflow import MLflowLog

    log = MLflowLog("terrain", run_name="first")
    drive(log, ROWS, learning_rate=0.025)
    client = mlflow.MlflowClient()
    run = client.get_run(log.run_id_)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert client.get_experiment(run.info.experiment_id).name == "terrain"
    assert run.data.params["learning_rate"] == "0.025"
    assert run.data.params["optimizer"] == "adam"
    for name in ("loss", "val_loss", "val_accuracy"):
        written = client.get_metric_history(log.run_id_, name)
        assert [(metric.step, repr(metric.value)) for metric in written] == [
            (row["epoch"], repr(row[name])) for row in ROWS
        ]
    assert run.data.metrics["best_epoch"] == 2
    assert run.data.metrics["best_val_loss"] == 0.25


def test_fits_inside_a_run_are_its_children(mlflow):
    from sensorseq.training.mlflow import MLflowLog

    log = MLflowLog()
    with mlflow.start_run() as outer:
        drive(log, ROWS[:1])
        first = log.run_id_
        drive(log, ROWS[:2])
    client = mlflow.MlflowClient()
    for run_id in (first, log.run_id_):
        assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert mlflow.active_run() is None
