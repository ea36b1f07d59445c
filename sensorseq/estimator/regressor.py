"""SensorLSTMRegressor: an LSTM regressor of sensor windows as a scikit-learn estimator."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from sensorseq.errors import ArgumentError
from sensorseq.estimator.base import SensorLSTM, store_arguments
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.predictor import REGRESSION
from sensorseq.prediction.values import ValuePredictor
from sensorseq.training.inputs import check_values
from sensorseq.training.targets import FitTarget, ValueTarget


class SensorLSTMRegressor(RegressorMixin, ValuePredictor, SensorLSTM):  # type: ignore[misc]  # sklearn is untyped
    """Predict numbers from windows of sensor signals with an LSTM and a linear head.

    The arguments are those of `SensorLSTMClassifier`, without those for classes and `features`.

    Parameters
    ----------
    hidden_size, num_layers, bidirectional, pooling, head_norm : as in `SensorLSTMClassifier`
        Of the network.
    input_dropout, recurrent_dropout, weight_init, recurrent_init, forget_bias : as there
        Of the network.
    dropout : float, default=0.0
        As there.
    loss : {"mse", "mae", "huber"} or callable, default="mse"
        ``"huber"`` is quadratic up to an error of one sd of the target and linear beyond, ``"mae"``
        is linear; both are less sensitive to outliers. A callable gets ``(outputs, targets)``, both
        (n, k) and scaled, and returns one value for each window.
    target_scale : {"standard", None}, default="standard"
        Standardize the targets for training, so that `learning_rate` and `max_grad_norm` do not
        depend on their unit. Predictions are in the unit of `y`, losses in sd. None trains on the
        targets as given.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, default="adam"
        torch's optimizer with that name.
    learning_rate : float, default=1e-3
        As in `SensorLSTMClassifier`.
    warmup_epochs : int or float, default=0
        As there.
    weight_decay : float, default=0.0
        As there.
    momentum, optimizer_params, lr_schedule, ema_decay, max_grad_norm, clip_by, l1 : as there
        Of the optimizer.
    batch_size, windows_per_epoch, last_batch, max_steps : as there
        Of the steps; windows are shuffled.
    max_epochs : int or "auto", default=200
        As there.
    max_timesteps, crop, augment, scale : as there
        Of the windows.
    early_stopping : bool, default=True
        Stop when `monitor` has not improved by more than `tol` for `patience` epochs.
    validation_fraction, patience, tol : as there
        Of the validation.
    monitor : {"val_loss", "val_r2", "loss", "r2"}, default="val_loss"
        The column of the history that decides which epoch is best.
    restore_best : bool, default=True
        Keep the weights of the best epoch. If False, or without validation windows, keep those of
        the last epoch.
    device, dtype, deterministic, verbose, callbacks, random_state : as there
        Of the run.
    engine : {"auto", "native", "autograd"}, default="auto"
        The native engine trains only classifiers, so ``"native"`` is an error here and ``"auto"``
        uses autograd, with the same native kernels.
    n_models : int, default=1
        Number of networks in an ensemble. They train one after another, and predictions are their
        mean; otherwise as there.
    warm_start, checkpoint : as there
        To continue a training.

    Attributes
    ----------
    n_outputs_ : int
        Number of values predicted for each window.
    target_mean_, target_sd_ : ndarray of shape (n_outputs_,)
        Mean and sd of the targets in the training part; 0 and 1 with ``target_scale=None``.
    fluctuation_ : FluctuationReport
        Reports whether values were not finite; the curve of a regression is not judged further.
    n_features_in_, feature_names_in_, scaler_, preparation_ : as in `SensorLSTMClassifier`
        Of the windows.
    n_iter_, best_epoch_, best_score_, history_, histories_, engine_, module_, modules_ : as there
        Of the run.

    Notes
    -----
    The notes of `SensorLSTMClassifier` on shapes, diverging losses and Ctrl-C hold here, too.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMRegressor
    >>> frequency = np.linspace(0.3, 0.9, 80)
    >>> X = np.sin(np.arange(40) * frequency[:, None])
    >>> reg = SensorLSTMRegressor(hidden_size=8, max_epochs=60, learning_rate=0.02, random_state=0)
    >>> reg.fit(X, frequency).score(X, frequency) > 0.9
    True
    """

    _task: ClassVar[str] = REGRESSION
    n_outputs_: int
    target_mean_: NDArray[np.float64]
    target_sd_: NDArray[np.float64]
    target_scale: str | None
    _flat_targets: bool

    def __init__(
        self,
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "meanmax",
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        head_norm: str = "none",
        weight_init: str | Callable[..., Any] = "xavier",
        recurrent_init: str | Callable[..., Any] = "orthogonal",
        forget_bias: float = 1.0,
        loss: str | Callable[..., Any] = "mse",
        target_scale: str | None = "standard",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        optimizer_params: Mapping[str, Any] | None = None,
        lr_schedule: str = "cosine",
        warmup_epochs: int | float = 0,
        ema_decay: float | None = None,
        batch_size: int | None = 32,
        windows_per_epoch: int | None = None,
        last_batch: str = "keep",
        max_epochs: int | str = 200,
        max_steps: int | None = None,
        max_grad_norm: float | None = 1.0,
        clip_by: str = "norm",
        weight_decay: float = 0.0,
        l1: float = 0.0,
        max_timesteps: int | None = None,
        crop: str = "head",
        augment: Any = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 20,
        tol: float = 1e-4,
        monitor: str = "val_loss",
        restore_best: bool = True,
        scale: str | None = "standard",
        device: str = "auto",
        dtype: str = "float32",
        deterministic: bool = True,
        engine: str = "auto",
        n_models: int = 1,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        store_arguments(self, locals())

    score = SensorLSTM.score  # scikit-learn's `score` takes neither lengths nor a WindowSet

    def _import_targets(self, module: LSTMLinear, activation: str, classes: Any) -> None:
        if activation != "linear":
            raise ArgumentError(
                f"the Keras model ends in {activation}; a regressor needs a linear Dense layer. For"
                " classes use SensorLSTMClassifier."
            )
        if classes is not None:
            raise ArgumentError("classes= is for SensorLSTMClassifier, not for a regressor.")
        n_outputs = module.num_classes
        self.n_outputs_, self._flat_targets = n_outputs, n_outputs == 1
        self.target_mean_, self.target_sd_ = np.zeros(n_outputs), np.ones(n_outputs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # the check's rows of unordered columns, read as time steps, give an R2 of 0.25 to 0.43
        tags.regressor_tags.poor_score = True
        return tags

    @property
    def _target(self) -> ValueTarget:
        return self._make_target(continues=True)

    def _make_target(self, *, continues: bool) -> ValueTarget:
        if not continues:
            return ValueTarget(self.target_scale)
        return ValueTarget(
            self.target_scale,
            self.n_outputs_,
            self.target_mean_,
            self.target_sd_,
            self._flat_targets,
        )

    def _keep_target(self, target: FitTarget) -> None:
        assert isinstance(target, ValueTarget)
        assert target.mean is not None
        assert target.sd is not None
        self.n_outputs_, self._flat_targets = target.n_outputs, target.is_flat
        self.target_mean_, self.target_sd_ = target.mean, target.sd

    def _measure(self, y: Any, predicted: NDArray[Any], sample_weight: Any) -> float:
        values = check_values(y, len(predicted), "y")
        return float(r2_score(values, predicted, sample_weight=sample_weight))

    def _describe_targets(self) -> dict[str, Any]:
        return {
            "target_mean": self.target_mean_.tolist(),
            "target_sd": self.target_sd_.tolist(),
            "flat_targets": self._flat_targets,
        }

    def _restore_targets(self, take: Callable[[str, Any], Any]) -> None:
        super()._restore_targets(take)
        self.n_outputs_ = self._n_outputs
