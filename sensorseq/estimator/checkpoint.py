"""Checkpoint: the network of a fit as a model file, written while it trains."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from sensorseq.errors import OutputError, warn_caller, writing
from sensorseq.estimator.saving import describe
from sensorseq.history import History
from sensorseq.io.atomic import locking
from sensorseq.io.model_file import write_model
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.model import TrainedModel
from sensorseq.training.callbacks import Callback
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import ModuleNetwork
from sensorseq.training.parameters import check_plain


class Checkpoint(Callback):
    """Writes the network to a model file after each epoch that improves `monitor`.

    Without that column, because nothing is held out, after each epoch. The file holds the LSTM
    alone, with everything that prediction needs, and is replaced as a whole. If it cannot be
    written during the training, for example on a full disk, a single warning is given, and the
    training continues.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        model: TrainedModel,
        job: TrainingJob,
        facts: Mapping[str, Any],
    ) -> None:
        path = parameters["checkpoint"]
        with writing(path), locking(path):  # fail before the training
            pass
        self._path, self._monitor, self._best = path, job.config.monitor, math.inf
        self._has_warned, self._engine = False, job.choose_engine()
        self._parameters, self._facts = {**parameters, "callbacks": None}, facts
        self._model = replace(model, head=None)  # without the features of an earlier fit
        check_plain(self._parameters)

    def on_epoch_end(self, module: nn.Module, history: History) -> None:
        """Write the network if no earlier epoch was as good."""
        score = float(history[-1].get(self._monitor, math.nan))
        if self._monitor in history[-1]:
            value = score if self._monitor.endswith("loss") else -score
            if not value < self._best:  # also of a loss that is not finite
                return
            self._best = value
        assert isinstance(module, LSTMLinear)
        network = ModuleNetwork(module, self._parameters["device"])
        arrays, description = describe(
            replace(self._model, networks=[network]),
            self._parameters,
            [history],
            best_epoch=len(history),
            best_score=score,
            engine=self._engine,
            facts=self._facts,
        )
        try:
            write_model(self._path, arrays, {**description, "alone": "from a checkpoint"})
        except OutputError as problem:
            if not self._has_warned:
                warn_caller(f"checkpoint {problem} Training continues.")
            self._has_warned = True
