"""MLflow reads back what the callback of docs/callbacks.md logs."""

import pytest
from checkout import code_in, page_of

pytestmark = pytest.mark.peers


def test_mlflow_reads_back_every_figure_and_argument(in_tmp_path, monkeypatch):
    # mlflow-skinny has no database; its store of plain files must be enabled.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((in_tmp_path / "runs").as_uri())
    blocks, names = code_in(page_of("callbacks.md")), {}
    data, base = blocks[0], next(block for block in blocks if "import Callback" in block)
    try:
        for block in (data, base, next(block for block in blocks if "mlflow" in block)):
            exec(block, names)
        client, clf = mlflow.MlflowClient(), names["clf"]
        (run,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["learning_rate"] == str(clf.learning_rate)
        assert run.data.metrics["best_epoch"] == clf.best_epoch_
        for name in clf.history_.names:
            written = client.get_metric_history(run.info.run_id, name)
            values = [(metric.step, metric.value) for metric in written]
            assert values == list(enumerate(clf.history_[name].tolist(), 1))
    finally:
        mlflow.set_tracking_uri(before)
