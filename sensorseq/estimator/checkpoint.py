"""Checkpoint: the network of a fit as a model file, written while it trains."""

import math
from typing import Any

from torch import nn

from sensorseq.errors import OutputError, warn_caller, writing
from sensorseq.estimator.fitted import FittedLSTM
from sensorseq.estimator.fitting import PreparedFit
from sensorseq.history import History
from sensorseq.io.atomic import locking
from sensorseq.io.model_file import write_model
from sensorseq.training.callbacks import Callback
from sensorseq.training.parameters import check_plain


class Checkpoint(Callback):
    """Writes the network to a model file after each epoch that improves `monitor`.

    Without that column, because nothing is held out, after each epoch. The file holds the LSTM
    alone, with everything that prediction needs, and is replaced as a whole. If it cannot be
    written during the training, for example on a full disk, a single warning is given, and the
    training continues.
    """

    def __init__(self, path: Any, estimator: FittedLSTM, prepared: PreparedFit) -> None:
        with writing(path), locking(path):  # fail before the training
            pass
        job = prepared.jobs[0]
        self._path, self._monitor, self._best = path, job.config.monitor, math.inf
        self._has_warned = False
        self._alone = type(estimator).__new__(type(estimator))
        own: dict[str, Any] = {"_other_modules": [], "_other_histories": [], "_head": None}
        # by an earlier fit
        own |= {"temperature_": 1.0, "adaptation_": None, "refitted_": False, "_shares": None}
        own |= {"engine_": job.choose_engine(), "_report_facts": prepared.facts, "callbacks": None}
        self._alone.__dict__.update(vars(estimator) | own)
        self._alone.__dict__.pop("abstention_", None)
        check_plain(self._alone.get_params(deep=False))

    def on_epoch_end(self, module: nn.Module, history: History) -> None:
        """Write the network if no earlier epoch was as good."""
        score = float(history[-1].get(self._monitor, math.nan))
        if self._monitor in history[-1]:
            value = score if self._monitor.endswith("loss") else -score
            if not value < self._best:  # also of a loss that is not finite
                return
            self._best = value
        epoch = {"module_": module, "history_": history, "best_epoch_": len(history)}
        self._alone.__dict__.update(epoch, best_score_=score)
        arrays, description = self._alone._stored_network()
        try:
            write_model(self._path, arrays, {**description, "alone": "from a checkpoint"})
        except OutputError as problem:
            if not self._has_warned:
                warn_caller(f"checkpoint {problem} Training continues.")
            self._has_warned = True
