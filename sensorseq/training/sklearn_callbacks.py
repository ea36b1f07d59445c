"""Support scikit-learn's callbacks (version 1.9 and later): every epoch is a task of the fit."""

import copy
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from torch import nn

from sensorseq.errors import EnvironmentProblemError
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.inputs import read_sequences
from sensorseq.training.callbacks import Callback, find_best_epoch
from sensorseq.training.config import TrainingConfig
from sensorseq.training.preparation import read_training_file
from sensorseq.windows import WindowSet

__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

_Method = TypeVar("_Method", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _managed
except ImportError:
    _managed = None

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's class in versions before 1.9."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Raise, because this version of scikit-learn has no callbacks."""
            raise EnvironmentProblemError(
                "set_callbacks needs scikit-learn 1.9 or newer, but this is"
                f" {sklearn.__version__}. Use the argument callbacks= with sensorseq's own"
                " callbacks, see sensorseq.training.Callback."
            )


def with_callbacks(method: _Method) -> _Method:
    """Wrap `fit` so that scikit-learn's callbacks are torn down however it ends."""
    return method if _managed is None else _managed(method)


class FitTasks(Callback):
    """Pass a fit and its epochs as tasks to the callbacks set by `set_callbacks`.

    The root task is the fit, and its subtasks are the epochs. A task has X and y as given to `fit`
    (the training part if there is a split; a list if there are `lengths`) and, at its end, an
    estimator fitted as if training had stopped there. A callback that returns True ends the
    training.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        lengths: Any = None,
    ) -> None:
        self._estimator = estimator
        self._X, self._y, self._lengths = X, y, lengths
        self._metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._root: Any = None
        self._epoch: Any = None

    @classmethod
    def of_watched(cls, estimator: BaseEstimator, *given: Any) -> "FitTasks | None":
        """Return the tasks if there is a callback, or a meta-estimator that may have one."""
        watched = ("_skl_callbacks", "_parent_callback_ctx")
        return cls(estimator, *given) if any(hasattr(estimator, w) for w in watched) else None

    def on_fit_begin(self, module: nn.Module, config: TrainingConfig) -> None:
        """Open the root task."""
        self._config = config
        if hasattr(self._estimator, "_init_callback_context"):
            self._root = self._estimator._init_callback_context(max_subtasks=config.n_epochs)
            self._root.call_on_fit_task_begin(**self._task())

    def on_epoch_begin(self, module: nn.Module, history: History) -> None:
        """Open the task of the epoch."""
        if self._root is not None and hasattr(self._estimator, "_skl_callbacks"):
            self._epoch = self._root.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._task())

    def on_epoch_end(self, module: nn.Module, history: History) -> bool:
        """Close the task of the epoch; return True if a callback asks to end training."""
        if self._epoch is None:
            return False
        task, self._epoch = self._epoch, None

        def fitted() -> dict[str, Any]:
            twin = copy.deepcopy(module)
            if isinstance(twin, LSTMLinear):
                twin.dropout_source = None  # the training in progress owns it
            best = find_best_epoch(history, self._config)
            return {
                "module_": twin,
                "history_": History(history),
                "n_iter_": len(history),
                "best_epoch_": best,
                "temperature_": 1.0,  # not calibrated yet
                "_other_modules": [],  # only the first member of an ensemble is watched
                "_other_histories": [],
            }

        return bool(task.call_on_fit_task_end(**self._task(), reconstruction_attributes=fitted))

    def close(self) -> None:
        """Close the root task once the estimator is fitted."""
        if self._root is not None:
            self._root.call_on_fit_task_end(**self._task(), reconstruction_attributes=dict)
            self._root = None

    def _task(self) -> dict[str, Any]:
        return {
            "estimator": self._estimator,
            "X": lambda: self._data[0],
            "y": lambda: self._data[1],
            "metadata": self._metadata,
        }

    @cached_property
    def _data(self) -> tuple[Any, Any]:
        """X and y in a form in which `predict` needs only X."""
        X, y = self._X, self._y
        if isinstance(X, str | os.PathLike):
            X, _ = read_training_file(X)
        if isinstance(X, WindowSet):
            y = X.y if y is None else y
            if X.split is not None:
                rows = np.flatnonzero(X.split == "train")
                return X.take(rows), None if y is None else np.asarray(y)[rows]
        elif self._lengths is not None:
            sequences = read_sequences(X, self._lengths, missing="expected")
            X = [window[:n] for window, n in zip(sequences.X, sequences.lengths, strict=True)]
        return X, y
