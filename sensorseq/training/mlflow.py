"""MLflowLog: write the history of a fit to an MLflow run, epoch by epoch."""

import importlib
import sys
from typing import Any

from torch import nn

from sensorseq.errors import EnvironmentProblemError
from sensorseq.history import History
from sensorseq.training.callbacks import EpochLog, describe_config
from sensorseq.training.config import TrainingConfig


class MLflowLog(EpochLog):
    """Write every epoch's figures to an MLflow run.

    Each fit is one run. Inside an active run it is a child of that run, so the folds and candidates
    of a search appear below the run started around them. The run logs the training arguments as
    parameters and the columns of the history as metrics, with the epoch as step; at the end it logs
    `best_epoch` and the figures of that epoch with the prefix ``best_``. MLflow decides where the
    run is stored: set `mlflow.set_tracking_uri` or ``MLFLOW_TRACKING_URI``.

    Parameters
    ----------
    experiment : str, optional
        Name of the experiment, created if needed; by default MLflow's active experiment.
    run_name : str, optional
        Name of the run; by default MLflow generates one.

    Attributes
    ----------
    run_id_ : str
        Id of the last fit's run.

    Raises
    ------
    EnvironmentProblemError
        When the fit begins, if mlflow is not installed.
    """

    def __init__(self, experiment: str | None = None, *, run_name: str | None = None) -> None:
        self.experiment = experiment
        self.run_name = run_name
        self._is_open = False

    def __repr__(self) -> str:
        return f"MLflowLog({self.experiment!r}, run_name={self.run_name!r})"

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Start the run and write the arguments."""
        mlflow, place = _import_mlflow(), None
        if self.experiment is not None:
            known = mlflow.get_experiment_by_name(self.experiment)
            is_new = known is None
            place = mlflow.create_experiment(self.experiment) if is_new else known.experiment_id
        run = mlflow.start_run(
            run_name=self.run_name,
            experiment_id=place,
            nested=mlflow.active_run() is not None,
        )
        self._is_open = True
        self._open(config)
        self.run_id_ = run.info.run_id
        mlflow.log_params(describe_config(config))

    def _write_row(self, row: dict[str, Any]) -> None:
        epoch = int(row.pop("epoch"))
        _import_mlflow().log_metrics(row, step=epoch)

    def on_fit_end(self, module: nn.Module, history: History) -> None:
        """Write remaining rows and the figures of the best epoch; end the run."""
        if not self._is_open:
            return
        mlflow = _import_mlflow()
        error, best = sys.exception(), self._best_row(history)
        status = "FINISHED" if error is None and best else "FAILED"
        try:
            self.on_epoch_end(module, history)  # the row of an epoch in which training diverged
            figures = {f"best_{name}": value for name, value in best.items() if value is not None}
            if figures:
                mlflow.log_metrics(figures, step=int(best["epoch"]))
        finally:
            self._is_open = False
            mlflow.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else status)


def _import_mlflow() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise EnvironmentProblemError(
            'MLflowLog needs mlflow: pip install "sensorseq[mlflow]"'
        ) from error
