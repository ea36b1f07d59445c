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
from sensorseq.estimator.imported import import_network
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.training.config import REGRESSION
from sensorseq.training.inputs import check_values
from sensorseq.training.parts import Part
from sensorseq.training.weights import mean_one
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
        How hidden states become one vector, over valid steps only.
    input_dropout : float, default=0.0
        Probability of dropping a scaled value of a training window, drawn anew in each epoch; zero
        is the channel's centre then.
    dropout : float, default=0.0
        Probability of dropping an input of every layer after the first, and of the head.
    recurrent_dropout : float, default=0.0
        Probability of dropping a hidden unit on its way into the gates, one mask per window.
    head_norm : {"none", "batch", "layer"}, default="none"
        Normalization of the pooled vector.
    weight_init : {"xavier", "he", "orthogonal", "uniform"} or callable, default="xavier"
        First values of input and head weights; ``"uniform"`` is torch's own. A callable gets
        ``(name, tensor, generator)`` and fills the tensor in place.
    recurrent_init : {"orthogonal", "xavier", "he", "uniform"} or callable, default="orthogonal"
        First values of the recurrent weights.
    forget_bias : float, default=1.0
        First value of the forget gate's bias; the other biases start at zero.
    loss : {"mse", "mae", "huber"} or callable, default="mse"
        ``"huber"`` is quadratic up to a miss of one sd of the target and linear beyond, ``"mae"``
        linear: single wild values count less. A callable gets ``(outputs, targets)``, both (n, k)
        and scaled, and returns one value for each window.
    target_scale : {"standard", None}, default="standard"
        Train on targets less their mean over their sd, so that neither `learning_rate` nor
        `max_grad_norm` depends on their unit; predictions are in that unit, losses in sd. None:
        as they are.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, default="adam"
        torch's optimizer of that name.
    learning_rate : float, default=1e-3
        Its highest value, see `lr_schedule`.
    momentum : float, default=0.9
        For ``optimizer="sgd"`` only.
    optimizer_params : dict, optional
        Further arguments under torch's names: eps, betas, amsgrad, alpha, centered, nesterov,
        dampening; momentum for rmsprop.
    lr_schedule : {"constant", "cosine", "plateau", "one_cycle"}, default="cosine"
        ``"cosine"`` falls to a hundredth after `max_epochs`; ``"plateau"`` halves when the
        monitored value has not improved for a quarter of `patience`.
    warmup_epochs : int, default=0
        Epochs of linear rise before the schedule.
    ema_decay : float, optional
        Validate, and keep, the exponential moving average of the weights.
    batch_size : int or None, default=32
        Windows of a step; None is all of them.
    last_batch : {"keep", "merge", "drop"}, default="keep"
        What becomes of a last batch that is not full.
    max_epochs : int, default=200
        Upper limit of epochs.
    max_grad_norm : float or None, default=1.0
        Bound of the gradient; None is no clipping.
    clip_by : {"norm", "value"}, default="norm"
        Whether it bounds the global norm or each element.
    weight_decay : float, default=0.0
        As in torch: decoupled in adamw, an L2 penalty in the others; on every parameter.
    l1 : float, default=0.0
        Factor on the sum of absolute weights, biases excepted.
    max_timesteps : int, optional
        Longest window; longer ones are cropped, in prediction as well.
    crop : {"head", "tail", "centre", "random"}, default="head"
        Which steps are kept; ``"random"`` draws anew in each epoch and predicts on the centre.
    augment : None, "standard", dict or Augmentation, default=None
        Change every training window at random in each epoch, see
        `sensorseq.preprocessing.augment.Augmentation`, whose strengths a dict gives.
    early_stopping : bool, default=True
        End when `monitor` has not improved by more than `tol` for `patience` epochs.
    validation_fraction : float, default=0.2
        Share held out for validation, whole groups, whether or not early stopping is on; 0 is
        none. Not used with `X_val` or a WindowSet that is split.
    patience : int, default=20
        See `early_stopping`.
    tol : float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_r2", "loss", "r2"}, default="val_loss"
        What decides which epoch is best.
    restore_best : bool, default=True
        Keep the weights of the best epoch; False, and without validation windows: of the last.
    scale : str or None, default="standard"
        Scaling of each channel, fitted on the training part alone: ``"standard"``, ``"robust"``,
        ``"min_max"``, ``"max_abs"`` or ``"quantile"``, see
        `sensorseq.preprocessing.scale.fit_scaler`. ``"physical"`` divides by the rated values that
        a WindowSet or a prepared file was made with. When those windows were prepared for this
        kind with statistics per recording or group, they are scaled so, and so is what is
        predicted: a WindowSet or a file, too, with whole recordings in it.
    device : str, default="auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. ``"auto"`` is a GPU where there is one
        and our kernels serve this network on it (``sensorseq info`` lists what they serve), and
        `engine` is not ``"native"``, which serves every network on the CPU; else the CPU.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network.
    deterministic : bool, default=True
        Only deterministic CUDA kernels. On a CPU every run is.
    engine : {"auto", "native", "autograd"}, default="auto"
        What takes the optimizer steps: whole epochs in one native call, or autograd step by step.
        The native engine trains classifiers only: ``"native"`` is an error here, and ``"auto"``
        takes autograd steps, on the same native kernels.
    n_models : int, default=1
        Members of an ensemble: networks with first weights, order and dropout of their own on the
        same split, trained one after another. Values are the mean of theirs. The first member is,
        bit for bit, what ``n_models=1`` gives. Callbacks see every member's run.
    warm_start : bool, default=False
        Go on from the weights and the scaling of the last fit, with a fresh optimizer.
    checkpoint : str or path, optional
        File that keeps the state of the training, one safetensors file, replaced as a whole after
        epochs: a killed process leaves the last one. A checkpoint of that name is replaced unless
        `resume` is on; any other file is not. Each fit needs a name of its own, also in a search.
        Further members of an ensemble keep theirs beside it, with ``.1``, ``.2`` and so on.
    checkpoint_every : int, default=1
        Epochs from one state to the next; the last is kept, too.
    resume : bool, default=False
        Go on from `checkpoint`, and end with the bits of a run that was never interrupted. Without
        a file training starts anew; of one that had ended the result is returned. A checkpoint of
        other arguments or other windows is an error that names them. With `random_state=None` the
        seed is the one in the file.
    auto_repair : bool, default=False
        Only ``False``: the report does not judge the loss of a regression.
    callbacks : list, optional
        Objects with `on_fit_begin`, `on_epoch_begin`, `on_epoch_end` or `on_fit_end`; see
        `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes every epoch where there is no terminal.
    random_state : int, RandomState or None, default=None
        Decides split, first weights, order, crops and dropout: equal integers give equal bits on
        one machine, whatever was drawn before; on the native engine (see `engine_`) also on any
        number of threads.

    Attributes
    ----------
    n_outputs_ : int
        Values predicted for each window.
    target_mean_, target_sd_ : ndarray of shape (n_outputs_,)
        Of the training part; 0 and 1 with ``target_scale=None``.
    n_features_in_ : int
        Timesteps of 2-D input, channels of any other.
    feature_names_in_ : ndarray of str
        Column names, when X was a 2-D table with names.
    n_iter_ : int
        Epochs run.
    best_epoch_ : int
        The epoch whose weights are kept, from 1.
    best_score_ : float
        Its monitored value.
    history_ : History
        One row per epoch; of an ensemble its first member's, as are the other values of a run.
    histories_ : list of History
        One for each member.
    fluctuation_ : FluctuationReport
        Says whether values were not finite; a regression's curve is not judged further.
    scaler_ : Scaler, KeyedScaler or None
        The scaling, fitted on the training part.
    module_ : LSTMLinear
        The network, in evaluation mode; of an ensemble the first.
    modules_ : list of LSTMLinear
        The networks of all members.
    preparation_ : dict or None
        How the windows were made and which recordings were learned from, when X was a WindowSet or
        a prepared file; see `sensorseq.training.preparation`.
    engine_ : EngineChoice
        Which engine ran, and why.

    Notes
    -----
    Arrays are (n, t, c); (n, t) is one channel. A 3-D array of one step and several channels, or of
    at most 16 steps and at least 32 channels, looks like (n, c, t) and is refused by `fit` unless
    `lengths` is given.

    A loss that is not finite ends training: the weights of the best epoch are kept, a
    ConvergenceWarning is raised and the verdict is ``"diverged"``. In the first epoch there are
    none to keep, and `DivergedError` is raised; `history_` and `fluctuation_` are there even then.

    Ctrl-C after the first epoch ends the training, not the program: the weights of the best epoch
    are kept and a warning says so. A search or cross-validation then goes on with its next fit;
    press it once more within two seconds to end that too. Of an ensemble, members that had not
    begun are left out.

    Windows with a `sample_weight` of zero take no part.

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
        warmup_epochs: int = 0,
        ema_decay: float | None = None,
        batch_size: int | None = 32,
        last_batch: str = "keep",
        max_epochs: int = 200,
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
        """Learn from one lot of windows: one pass over them, at the full `learning_rate`.

        Nothing is held out, and nothing ends early; schedule, warm-up and validation arguments
        have no part. The optimizer goes on from call to call, also through a pickle. After `fit`
        it begins with the weights that `fit` kept; `fit` begins anew. `history_` grows by one row
        a call.

        The scaling of `X` and `y` is learned on the first lot and then fixed: give one that shows
        their range, or scale before and take ``scale=None`` and ``target_scale=None``.

        Parameters
        ----------
        X, y, sample_weight, groups, lengths : as in `fit`
            Weights count as they are given; `groups` are checked and not needed. Of what is split
            only ``"train"`` is learned from.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the windows differ in channels from those of the first call or values.
        ArgumentError
            If an argument is for `fit` alone: checkpoint, n_models; or another optimizer or engine
            is asked for than in the call before.
        DivergedError
            If the loss is not finite in the first call; later that is a ConvergenceWarning, and
            the weights of before are kept.
        """
        self._learn_pass(X, y, sample_weight, groups, lengths)
        return self

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the values of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows of the channels `fit` saw; of a prepared file all of them, in its order.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.

        Returns
        -------
        ndarray of shape (n,), or (n, n_outputs_) when `fit` was given that, float64
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
        """Return the coefficient of determination (R squared), the mean of it over the outputs.

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
        """Return a fitted regressor with the weights of a `torch.nn.LSTM` and its linear layer.

        Parameters
        ----------
        lstm, linear, pooling
            As in `SensorLSTMClassifier.from_torch`; the linear layer gives the values.
        **arguments
            Further arguments of the constructor, as ``warm_start=True`` to train on with `fit`.

        Returns
        -------
        SensorLSTMRegressor
            Windows and values are scaled outside, as that network had them.
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
            Further arguments of the constructor, as ``warm_start=True`` to train on with `fit`.

        Returns
        -------
        SensorLSTMRegressor
            Windows and values are scaled outside, as that model had them.
        """
        module, activation = lstm_linear_from_keras(model)
        if activation != "linear":
            raise ArgumentError(
                f"the Keras model ends in {activation}; values to predict come from a linear Dense"
                " layer, and classes are for SensorLSTMClassifier."
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
                f"X has n_samples={int(taking_part.sum())} that takes part; a regressor needs at"
                " least two windows."
            )
        if continues and columns.shape[1] != self.n_outputs_:
            raise InputError(
                f"y holds {columns.shape[1]} values for each window, but those until now had"
                f" {self.n_outputs_}; give as many, or begin anew with fit and warm_start=False."
            )
        self._flat_targets = values.ndim == 1
        self.n_outputs_ = columns.shape[1]
        return columns[taking_part]

    def _read_validation_targets(self, y: Any, n_windows: int) -> NDArray[Any]:
        columns = check_values(y, n_windows, "y_val", "X_val").reshape(n_windows, -1)
        if columns.shape[1] != self.n_outputs_:
            raise InputError(
                f"y_val holds {columns.shape[1]} values for each window, and y {self.n_outputs_}."
            )
        return columns

    def _learn_scaling(self, train: Part, **given: Any) -> None:
        super()._learn_scaling(train, **given)
        if self._continues:
            return
        self.target_mean_, self.target_sd_ = np.zeros(self.n_outputs_), np.ones(self.n_outputs_)
        if self.target_scale == "standard":
            sd = train.target.std(axis=0)
            self.target_mean_ = train.target.mean(axis=0)
            self.target_sd_ = np.where(sd > 0, sd, 1.0)

    def _engine_targets(self, part: Part) -> NDArray[Any]:
        return np.asarray((part.target - self.target_mean_) / self.target_sd_)

    def _weights_of(self, part: Part) -> NDArray[np.float64] | None:
        return part.weight if part.weight is None or self._in_pass else mean_one(part.weight)

    def _facts_of(self, train: Part, validation: Part | None) -> dict[str, Any]:
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
