"""SensorLSTMRegressor: an LSTM regressor of sensor windows as a scikit-learn estimator."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from sensorseq.errors import ArgumentError, InputError
from sensorseq.estimator.base import SensorLSTM, store_arguments
from sensorseq.estimator.model import import_network
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.training.config import REGRESSION
from sensorseq.training.data import FitData, FitPart
from sensorseq.training.inputs import check_values, mean_one
from sensorseq.windows import WindowSet


class SensorLSTMRegressor(RegressorMixin, SensorLSTM):  # type: ignore[misc]  # sklearn is untyped
    """Predict numbers from windows of sensor signals with an LSTM and a linear head.

    Parameters
    ----------
    hidden_size : int, default=64
        Hidden units of each layer and direction, H.
    num_layers : int, default=1
        Stacked LSTM layers.
    bidirectional : bool, default=False
        Also read every window backwards.
    pooling : {"last", "mean", "max", "meanmax"}, default="meanmax"
        How the hidden states of the valid steps are reduced to one vector.
    input_dropout : float, default=0.0
        Probability of setting a scaled value of a training window to zero, the channel's centre;
        drawn again in each epoch.
    dropout : float, default=0.0
        Probability of dropping an input of every layer after the first, and of the head.
    recurrent_dropout : float, default=0.0
        Probability of dropping a hidden unit where it enters the gates, one mask per window.
    head_norm : {"none", "batch", "layer"}, default="none"
        Normalization of the pooled vector.
    weight_init : {"xavier", "he", "orthogonal", "uniform"} or callable, default="xavier"
        Initialization of the input and head weights; ``"uniform"`` is torch's default. A callable
        gets ``(name, tensor, generator)`` and fills the tensor in place.
    recurrent_init : {"orthogonal", "xavier", "he", "uniform"} or callable, default="orthogonal"
        Initialization of the recurrent weights.
    forget_bias : float, default=1.0
        Initial bias of the forget gate; the other biases start at zero.
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
        Highest learning rate; see `lr_schedule`.
    momentum : float, default=0.9
        Only for ``optimizer="sgd"``.
    optimizer_params : dict, optional
        Further arguments under torch's names: eps, betas, amsgrad, alpha, centered, nesterov,
        dampening; momentum for rmsprop.
    lr_schedule : {"constant", "cosine", "plateau", "one_cycle"}, default="cosine"
        ``"cosine"`` decays to a hundredth at the last epoch of the run, which `max_epochs` and
        `max_steps` determine; ``"plateau"`` halves the rate when the monitored value has not
        improved for a quarter of `patience`.
    warmup_epochs : int or float, default=0
        Epochs of linear increase before the schedule. A float in (0, 1) is a share of all optimizer
        steps of the run: 0.05 of 1000 steps are 50, and at least one. ``"one_cycle"`` has its own
        warm-up: it does not use a share, and refuses a number of epochs.
    ema_decay : float, optional
        Decay of an exponential moving average of the weights, which is then validated and kept.
    batch_size : int or None, default=32
        Windows per step; None uses all windows in each step.
    windows_per_epoch : int, optional
        Windows of one epoch; None uses all. No window is repeated before all have been
        used, over as many epochs as that takes.
    last_batch : {"keep", "merge", "drop"}, default="keep"
        What to do with a last batch that is not full.
    max_epochs : int or "auto", default=200
        Maximum number of epochs. ``"auto"`` takes enough epochs for 800 optimizer steps on the
        training part, but at least 60 and at most 200.
    max_steps : int, optional
        Bound on the optimizer steps: the run has ``ceil(max_steps / steps per epoch)`` epochs if
        that is less than `max_epochs`. It ends with the epoch in which `max_steps` is reached, and
        the schedule of the learning rate ends with it.
    max_grad_norm : float or None, default=1.0
        Bound for gradient clipping; None turns clipping off.
    clip_by : {"norm", "value"}, default="norm"
        Whether to bound the global norm or each element.
    weight_decay : float, default=0.0
        As in torch: decoupled in adamw, an L2 penalty in the others. It acts on every parameter.
    l1 : float, default=0.0
        Factor of the sum of absolute weights, without biases.
    max_timesteps : int, optional
        Maximum window length; longer windows are cropped, also in prediction.
    crop : {"head", "tail", "centre", "random"}, default="head"
        Which steps to keep; ``"random"`` draws a new crop in each epoch and predicts on the centre.
    augment : None, "standard", dict or Augmentation, default=None
        Randomly change every training window in each epoch. A dict gives the fields of
        `sensorseq.preprocessing.augment.Augmentation`; its `mirror` and `swap` name channels of a
        WindowSet or a prepared file, or give their numbers.
    early_stopping : bool, default=True
        Stop when `monitor` has not improved by more than `tol` for `patience` epochs.
    validation_fraction : float, default=0.2
        Share held out for validation in whole groups, with or without early stopping; 0 holds out
        nothing. Not used with `X_val` or a WindowSet that has a split.
    patience : int, default=20
        See `early_stopping`.
    tol : float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_r2", "loss", "r2"}, default="val_loss"
        The column of the history that decides which epoch is best.
    restore_best : bool, default=True
        Keep the weights of the best epoch. If False, or without validation windows, keep those of
        the last epoch.
    scale : str or None, default="standard"
        Scaling of each channel, fitted only on the training part: ``"standard"``, ``"robust"``,
        ``"min_max"``, ``"max_abs"`` or ``"quantile"``; see
        `sensorseq.preprocessing.scale.fit_scaler`. ``"physical"`` divides by the rated values given
        when a WindowSet or a file was prepared. If the windows were prepared for the same kind with
        statistics per recording or group, these are used. Prediction then also needs a WindowSet or
        a file with whole recordings.
    device : str, default="auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. ``"auto"`` uses a GPU if there is one
        whose kernels support this network (see ``sensorseq info``) and `engine` is not
        ``"native"``; otherwise it uses the CPU.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network.
    deterministic : bool, default=True
        Use only deterministic CUDA kernels. Runs on a CPU are always deterministic.
    engine : {"auto", "native", "autograd"}, default="auto"
        What runs the optimizer steps: whole epochs in one native call, or autograd step by step.
        The native engine trains only classifiers, so ``"native"`` is an error here and ``"auto"``
        uses autograd, with the same native kernels.
    n_models : int, default=1
        Number of networks in an ensemble. Each has its own initial weights, order and dropout on
        the same split; they train one after another, and predictions are their mean. The first
        member is bit for bit the result of ``n_models=1``. Callbacks are called for every member.
    warm_start : bool, default=False
        Continue from the weights and the scaling of the last fit, with a new optimizer.
    checkpoint : str or path, optional
        A safetensors file for the state of the training. It is replaced as a whole, so a killed
        process leaves the last complete one. A checkpoint with this name is overwritten unless
        `resume` is on; any other file is not. Each fit needs its own name, also in a search.
        Further members of an ensemble use the same name with ``.1``, ``.2`` and so on.
    checkpoint_every : int, default=1
        Epochs between checkpoints; the last epoch is always written.
    resume : bool, default=False
        Resume from `checkpoint`; the result is bit for bit that of an uninterrupted run. Without a
        file, training starts from the beginning; if the run in the file was complete, its result is
        returned. A checkpoint made with other arguments or windows raises an error that names the
        difference. With `random_state=None` the seed in the file is used.
    auto_repair : bool, default=False
        Only ``False`` is allowed: the report does not judge the loss of a regression.
    callbacks : list, optional
        Objects with `on_fit_begin`, `on_epoch_begin`, `on_epoch_end` or `on_fit_end`; see
        `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes a line for every epoch if there is no terminal.
    random_state : int, RandomState or None, default=None
        Seed of split, initial weights, order, crops and dropout. The same integer gives bit for bit
        the same result on one machine; with the native engine (see `engine_`) also with any number
        of threads.

    Attributes
    ----------
    n_outputs_ : int
        Number of values predicted for each window.
    target_mean_, target_sd_ : ndarray of shape (n_outputs_,)
        Mean and sd of the targets in the training part; 0 and 1 with ``target_scale=None``.
    n_features_in_ : int
        Number of timesteps of 2-D input, otherwise number of channels.
    feature_names_in_ : ndarray of str
        Column names, if X was a 2-D table with names.
    n_iter_ : int
        Number of epochs run.
    best_epoch_ : int
        The epoch whose weights are kept, counted from 1.
    best_score_ : float
        Its monitored value.
    history_ : History
        One row per epoch. In an ensemble this and the other values of a run are those of the first
        member.
    histories_ : list of History
        One history for each member.
    fluctuation_ : FluctuationReport
        Reports whether values were not finite; the curve of a regression is not judged further.
    scaler_ : Scaler, KeyedScaler or None
        The scaler, fitted on the training part.
    module_ : LSTMLinear
        The network, in evaluation mode; in an ensemble the first one.
    modules_ : list of LSTMLinear
        The networks of all members of an ensemble.
    preparation_ : dict or None
        How the windows were prepared and which recordings were used for training, if X was a
        WindowSet or a prepared file; see `sensorseq.training.preparation`.
    engine_ : EngineChoice
        The engine that was used, and why.

    Notes
    -----
    Arrays have shape (n, t, c), or (n, t) for one channel. A 3-D array with one step and several
    channels, or with at most 16 steps and at least 32 channels, looks like (n, c, t); `fit` rejects
    it unless `lengths` is given.

    A loss that is not finite ends the training: the weights of the best epoch are kept, a
    ConvergenceWarning is issued and the verdict is ``"diverged"``. If it happens in the first
    epoch, `DivergedError` is raised; `history_` and `fluctuation_` are still set.

    Ctrl-C after the first epoch ends the training, not the program: the weights of the best epoch
    are kept and a warning is issued. A search or cross-validation continues with its next fit; a
    second Ctrl-C within two seconds ends it too. Members of an ensemble that had not started are
    dropped.

    Windows with a `sample_weight` of zero are ignored.

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
        checkpoint_every: int = 1,
        resume: bool = False,
        auto_repair: bool = False,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        store_arguments(self, locals())

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over a chunk of windows, at the full `learning_rate`.

        Nothing is held out and there is no early stopping; schedule, warm-up and validation
        arguments are ignored. The optimizer keeps its state from call to call, also through a
        pickle. After `fit`, training continues from the weights that `fit` kept; calling `fit`
        starts over. Each call adds one row to `history_`.

        The scaling of `X` and `y` is fitted on the first chunk and then fixed, so that chunk should
        cover their range. Alternatively, scale them yourself and use ``scale=None`` and
        ``target_scale=None``.

        Parameters
        ----------
        X, y, sample_weight, groups, lengths : as in `fit`
            Weights are used as given, without rescaling; `groups` are checked but not needed. If X
            has a split, only ``"train"`` is used.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the channels or the number of values differ from the first call.
        ArgumentError
            If an argument works only in `fit` (checkpoint, n_models), or if the optimizer or the
            engine differs from the previous call.
        DivergedError
            If the loss is not finite in the first call. In a later call a ConvergenceWarning is
            issued, and the weights from before the call are kept.
        """
        self._learn_pass(X, y, sample_weight, groups, lengths)
        return self

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the values of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in their order.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs_) if `fit` got 2-D targets, float64
            In the unit of `y`.
        """
        values = self._outputs(X, lengths) * self.target_sd_ + self.target_mean_
        return np.asarray(values[:, 0] if self._flat_targets else values)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the coefficient of determination (R squared), averaged over the outputs.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        X = self._open(X, "X")
        predicted = self.predict(X, lengths)
        y = X.y if y is None and isinstance(X, WindowSet) else y
        values = check_values(y, len(predicted), "y")
        return float(r2_score(values, predicted, sample_weight=sample_weight))

    @classmethod
    def from_torch(cls, lstm: Any, linear: Any, *, pooling: str = "last", **arguments: Any) -> Self:
        """Return a fitted regressor with the weights of a `torch.nn.LSTM` and a linear layer.

        Parameters
        ----------
        lstm, linear, pooling
            As in `SensorLSTMClassifier.from_torch`; the linear layer gives the values.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Returns
        -------
        SensorLSTMRegressor
            It expects windows, and gives values, scaled as for that network.
        """
        module = LSTMLinear.from_torch(lstm, linear, pooling)
        estimator: Self = import_network(cls, module, arguments, None, "torch.nn.LSTM")
        return estimator

    @classmethod
    def from_keras(cls, model: Any, **arguments: Any) -> Self:
        """Return a fitted regressor with the weights of a Keras model.

        Parameters
        ----------
        model : keras.Model
            As in `SensorLSTMClassifier.from_keras`, with a linear Dense layer at its end.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Returns
        -------
        SensorLSTMRegressor
            It expects windows, and gives values, scaled as for that model.
        """
        module, activation = lstm_linear_from_keras(model)
        if activation != "linear":
            raise ArgumentError(
                f"the Keras model ends in {activation}; a regressor needs a linear Dense layer. For"
                " classes use SensorLSTMClassifier."
            )
        estimator: Self = import_network(cls, module, arguments, None, "Keras")
        return estimator

    def _import_targets(self, module: LSTMLinear, classes: Any) -> None:
        n_outputs = module.num_classes
        self.n_outputs_, self._flat_targets = n_outputs, n_outputs == 1
        self.target_mean_, self.target_sd_ = np.zeros(n_outputs), np.ones(n_outputs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def _n_outputs(self) -> int:
        return self.n_outputs_

    def _learn_targets(
        self, y: Any, n_windows: int, taking_part: NDArray[np.bool_], *, continues: bool
    ) -> NDArray[Any]:
        values = check_values(y, n_windows, "y")
        columns = values.reshape(n_windows, -1)
        if taking_part.sum() < (1 if self._in_pass and continues else 2):
            raise InputError(
                f"X has n_samples={int(taking_part.sum())} to train on; a regressor needs at least"
                " two windows."
            )
        if continues and columns.shape[1] != self.n_outputs_:
            raise InputError(
                f"y has {columns.shape[1]} values for each window, but earlier calls had"
                f" {self.n_outputs_}; give the same number, or start over with fit and"
                " warm_start=False."
            )
        self._flat_targets = values.ndim == 1
        self.n_outputs_ = columns.shape[1]
        return columns[taking_part]

    def _read_validation_targets(self, y: Any, n_windows: int) -> NDArray[Any]:
        columns = check_values(y, n_windows, "y_val", "X_val").reshape(n_windows, -1)
        if columns.shape[1] != self.n_outputs_:
            raise InputError(
                f"y_val has {columns.shape[1]} values for each window, but y has {self.n_outputs_}."
            )
        return columns

    def _learn_scaling(self, train: FitPart, data: FitData) -> None:
        super()._learn_scaling(train, data)
        if self._continues:
            return
        self.target_mean_, self.target_sd_ = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        if self.target_scale == "standard":
            sd = train.target.std(axis=0)
            self.target_mean_ = train.target.mean(axis=0)
            self.target_sd_ = np.where(sd > 0, sd, 1.0)

    def _engine_targets(self, part: FitPart) -> NDArray[Any]:
        return np.asarray((part.target - self.target_mean_) / self.target_sd_)

    def _weights_of(self, part: FitPart) -> NDArray[np.float64] | None:
        return part.weight if part.weight is None or self._in_pass else mean_one(part.weight)

    def _facts_of(self, train: FitPart, validation: FitPart | None) -> dict[str, Any]:
        return {
            "n_val": None if validation is None else len(validation.target),
            "n_train": len(train.target),
        }

    def _describe_targets(self) -> dict[str, Any]:
        return {
            "target_mean": self.target_mean_.tolist(),
            "target_sd": self.target_sd_.tolist(),
            "flat_targets": self._flat_targets,
        }

    def _restore_targets(self, take: Callable[[str, Any], Any]) -> None:
        mean, sd = take("target_mean", list), take("target_sd", list)
        if any(type(value) not in (int, float) for value in (*mean, *sd)):
            raise TypeError("target_mean and target_sd are numbers")
        self.target_mean_, self.target_sd_ = np.array(mean, float), np.array(sd, float)
        self._flat_targets = take("flat_targets", bool)
        self.n_outputs_ = len(self.target_mean_)
        scaling = np.stack([self.target_mean_, self.target_sd_])
        if scaling.ndim != 2 or not np.isfinite(scaling).all():
            raise ValueError("target_mean and target_sd are a finite number for each output")
        if self._flat_targets and self.n_outputs_ > 1:
            raise ValueError(f"flat_targets with {self.n_outputs_} outputs")
