"""KerasMonitor: the statistics of a fluctuation report from Keras' own fit."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, EnvironmentProblemError
from sensorseq.fluctuation.monitors.foreign_run import (
    Monitor,
    class_codes,
)
from sensorseq.fluctuation.statistics.run import Floats, check_count

_ACCURACIES = (
    "accuracy",
    "acc",
    "sparse_categorical_accuracy",
    "categorical_accuracy",
    "binary_accuracy",
)
_EVALUATION_BATCH = 256
_LEAST_PROBABILITY = 1e-7  # as Keras clips them


class KerasMonitor(Monitor):
    """A callback that watches `fit`, and says whether its curve fluctuates more than it should.

    It is a ``keras.callbacks.Callback``, and works with every backend of Keras 3: it reads only
    what Keras gives to callbacks, and calls ``model.predict_on_batch`` after each epoch. It draws
    nothing from a generator and changes nothing of the model. Every argument is optional.

    Parameters
    ----------
    validation_data : tuple (X_val, y_val), optional
        Predictions for these windows after each epoch tell how much of the curve is the size of the
        validation set, and which windows change sides. `val_loss` and `val_accuracy` are then
        theirs. `y_val` are classes 0 to K - 1, (N,) or (N, 1), or one column for each, (N, K).
    train_data : tuple (X_train, y_train), optional
        What `fit` trains on, for the loss of a fixed subset, as `n_fixed` of `TorchMonitor`.
    groups_val : array-like of shape (N,), optional
        Recordings that the validation windows come from: windows of one recording fail together.
    n_fixed : int, default=256
        Windows of that subset, evenly spread over `train_data`.
    batch_size : int, optional
        That of `fit`. Keras tells callbacks the mean loss since the epoch began, from which the
        loss of each batch follows: of the last, which may be smaller, only with this and
        `train_data`.
    from_logits : bool, optional
        Whether the model gives logits, or probabilities. By default their values decide, or
        for a single output the model's loss.

    Attributes
    ----------
    history : History
        `epoch`, `loss`, `accuracy`, `learning_rate` (at the start of the epoch), `val_loss`,
        `val_accuracy`, `duration_s`, as far as they are known. `loss` is Keras' own, with what
        regularizers add to it.
    record : TrainingRecord
        Loss of every batch, the fixed subset, and each validation window.

    Raises
    ------
    EnvironmentProblemError
        If keras is not installed.

    Notes
    -----
    A callback has no access to gradients. A second `fit` continues the same record; make a new
    monitor for a new model.

    Examples
    --------
    ::

        monitor = KerasMonitor(validation_data=(X_val, y_val), train_data=(X, y))
        model.fit(X, y, epochs=50, callbacks=[monitor])
        print(monitor.report())
    """

    model: Any  # set by Keras
    params: Mapping[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "KerasMonitor":
        """Make an instance that is a Keras callback, too."""
        kind: Any = cls
        made: KerasMonitor = object.__new__(_as_callback(kind))
        return made

    def __init__(
        self,
        validation_data: tuple[Any, ArrayLike] | None = None,
        train_data: tuple[Any, ArrayLike] | None = None,
        *,
        groups_val: ArrayLike | None = None,
        n_fixed: int = 256,
        batch_size: int | None = None,
        from_logits: bool | None = None,
    ) -> None:
        super().__init__("keras")
        self._validation = _windows("validation_data", validation_data)
        if groups_val is not None and self._validation is None:
            raise ArgumentError("groups_val are given without validation_data.")
        self._groups_val = groups_val
        train = _windows("train_data", train_data)
        self._n_train = None if train is None else len(train[1])
        self._fixed: tuple[Any, NDArray[np.int64]] | None = None
        n_fixed = check_count("n_fixed", n_fixed, least=0) or 0
        if train is not None and n_fixed:
            count = min(n_fixed, len(train[1]))
            rows = np.linspace(0, len(train[1]) - 1, count).round().astype(np.int64)
            self._fixed = _take(train[0], rows), train[1][rows]
            self._fixed_rows = rows
        self._batch_size = check_count("batch_size", batch_size)
        self._from_logits = from_logits
        self._means: list[tuple[int, float]] = []
        self._learning_rate = np.nan

    # --- what Keras calls -----------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Compare `batch_size` with the steps of an epoch that Keras announces.

        Parameters
        ----------
        logs : mapping, optional
            Figures of Keras.
        """
        announced = (self.params or {}).get("steps")
        if announced is None or self._batch_size is None or self._n_train is None:
            return
        expected = -(-self._n_train // self._batch_size)
        if announced != expected:
            raise ArgumentError(
                f"batch_size={self._batch_size} makes {expected} steps of the {self._n_train}"
                f" windows in train_data, but fit takes {announced} in an epoch. Give fit's own"
                " batch_size and data, or omit batch_size."
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Read the learning rate.

        Parameters
        ----------
        epoch, logs
            From 0, and the figures of Keras.
        """
        from keras import ops  # type: ignore[import-not-found]

        self._means = []
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", np.nan)
        self._learning_rate = float(ops.convert_to_numpy(rate))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Note the mean loss so far.

        Parameters
        ----------
        batch, logs
            From 0, within the epoch, and the figures of Keras.
        """
        if logs and "loss" in logs:
            self._means.append((batch + 1, float(logs["loss"])))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Evaluate the windows that were given, and close the epoch.

        Parameters
        ----------
        epoch, logs
            From 0, and the figures of Keras.
        """
        logs = logs or {}
        row = _figures(logs)
        if np.isfinite(self._learning_rate):
            row["learning_rate"] = self._learning_rate
        if self._validation is not None:
            X, y = self._validation
            row |= self._judge_validation(self._logits(X), y, self._groups_val)
        else:
            row |= _figures(logs, "val_")
        self._close_epoch(self._read_steps(), row, fixed=self._evaluate_fixed())

    # --- what they are made of ------------------------------------------------------------------

    def _evaluate_fixed(self) -> tuple[float, float]:
        if self._fixed is None:
            return np.nan, np.nan
        X, y = self._fixed
        return self._judge_fixed(self._logits(X), y)

    def _logits(self, X: Any) -> Floats:
        """Return what the model says of windows, as logits or log-probabilities (N, K)."""
        # predict() makes a loader, which on the torch backend draws from its generator.
        n_windows = len(_parts(X)[0])
        chunks = [
            self.model.predict_on_batch(_take(X, slice(start, start + _EVALUATION_BATCH)))
            for start in range(0, n_windows, _EVALUATION_BATCH)
        ]
        outputs = np.concatenate([np.asarray(chunk, np.float64) for chunk in chunks])
        is_single = outputs.ndim == 1 or outputs.shape[1:] == (1,)
        from_logits = self._from_logits
        if from_logits is None and is_single:
            from_logits = getattr(getattr(self.model, "loss", None), "from_logits", None)
        if from_logits is None:
            sums_to_1 = is_single or bool((np.abs(outputs.sum(axis=-1) - 1) < 1e-3).all())
            from_logits = not (sums_to_1 and bool(((outputs >= 0) & (outputs <= 1)).all()))
        if from_logits:
            return outputs
        p = np.clip(outputs, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        log_odds: Floats = np.log(p) - np.log1p(-p) if is_single else np.log(p)
        return log_odds

    def _read_steps(self) -> dict[str, Floats]:
        """Return the losses of the batches from the running means that Keras told."""
        if not self._means:
            return {}
        ends, means = np.array(self._means, np.float64).T
        n_steps = int(ends[-1])
        sizes = np.ones(n_steps)
        is_known = self._batch_size is not None and self._n_train is not None
        if self._batch_size is not None and self._n_train is not None:
            sizes[:] = self._batch_size
            sizes[-1] = min(self._n_train - (n_steps - 1) * self._batch_size, self._batch_size)
        done = sizes.cumsum()[ends.astype(int) - 1]
        loss = np.full(n_steps, np.nan)
        # With several steps in one execution only their mean is known: noted at the last.
        loss[ends.astype(int) - 1] = np.diff(done * means, prepend=0) / np.diff(done, prepend=0)
        if not is_known:
            sizes[:] = loss[-1] = np.nan
        rates = np.full(n_steps, self._learning_rate)
        return {"n_windows": sizes, "learning_rate": rates, "loss": loss}


def _figures(logs: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    found = {"loss": logs.get(f"{prefix}loss")}
    accuracies = (logs[prefix + name] for name in _ACCURACIES if prefix + name in logs)
    found["accuracy"] = next(accuracies, None)
    return {prefix + name: float(value) for name, value in found.items() if value is not None}


@cache
def _as_callback(cls: Any) -> Any:
    """Return the class with Keras' callback as a base, which is imported only now."""
    try:
        from keras.callbacks import Callback  # type: ignore[import-not-found]
    except ImportError as error:
        raise EnvironmentProblemError(
            f"KerasMonitor needs Keras 3 with one of its backends: pip install keras ({error}). A"
            " history from elsewhere is judged by FluctuationReport.from_history."
        ) from error
    return cls if issubclass(cls, Callback) else type(cls.__name__, (cls, Callback), {})


def _windows(name: str, data: Any) -> tuple[Any, NDArray[np.int64]] | None:
    if data is None:
        return None
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ArgumentError(
            f"{name} is a {type(data).__name__}; expected a pair of windows and classes, as arrays."
        )
    X, y = data
    target = class_codes(y, f"the classes in {name}")
    n_windows = {len(part) for part in _parts(X)}
    if n_windows != {len(target)} or not len(target):
        raise ArgumentError(f"{name} has {n_windows} windows for {len(target)} classes.")
    return X, target


def _parts(X: Any) -> list[Any]:
    if isinstance(X, Mapping):
        return list(X.values())
    return list(X) if isinstance(X, tuple | list) else [X]


def _take(X: Any, rows: NDArray[np.int64] | slice) -> Any:
    if isinstance(X, Mapping):
        return {name: np.asarray(part)[rows] for name, part in X.items()}
    if isinstance(X, tuple | list):
        return type(X)(np.asarray(part)[rows] for part in X)
    return np.asarray(X)[rows]
