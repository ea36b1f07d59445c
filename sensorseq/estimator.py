"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import copy
import importlib
import os
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.errors import (
    DivergedError,
    InputError,
    ModelFileError,
    check_choice,
)
from sensorseq.fluctuation.report import FluctuationReport
from sensorseq.history import History
from sensorseq.nn import LSTMLinear
from sensorseq.preprocessing.keyed_scale import KeyedScaler
from sensorseq.preprocessing.scale import PHYSICAL, Scaler
from sensorseq.storage.model_file import (
    describe_labels,
    read_labels,
    read_model,
    take_field,
    write_model,
)
from sensorseq.storage.prepared import read_windows
from sensorseq.training import (
    EngineChoice,
    TrainingConfig,
    TrainingData,
    TrainingResult,
    train_network,
)
from sensorseq.training.callbacks import check_callbacks
from sensorseq.training.config import DTYPES
from sensorseq.training.devices import resolve_device
from sensorseq.training.engine import predict_logits
from sensorseq.training.inputs import (
    Sequences,
    check_axis_order,
    check_channels,
    check_groups,
    check_labels,
    check_per_window,
    from_one_hot,
    is_table,
    read_sequences,
)
from sensorseq.training.network import (
    check_array_names,
    continue_network,
    make_network,
    network_arrays,
    read_network,
    read_scaler,
)
from sensorseq.training.parameters import ARCHITECTURE, NOT_YET, check_parameters, check_plain
from sensorseq.training.parts import (
    Part,
    Windows,
    check_validation,
    crop_sequences,
    scale_sequences,
    split_windows,
)
from sensorseq.training.preparation import (
    Preparation,
    check_parts,
    check_preparation,
    check_same_preparation,
    describe_preparation,
    fit_told_scaler,
    read_training_file,
    refuse_scaled,
    tell_apart,
    warn_of_another_scale,
    without_test,
)
from sensorseq.training.weights import check_sample_weight, window_weights
from sensorseq.windows import WindowSet

__all__ = ["NOT_YET", "SensorLSTMClassifier"]

_JUDGED = ("loss", "val_loss", "val_accuracy")  # what a fluctuation report needs one of


class _Seeds(NamedTuple):
    """Independent streams, so that one more draw in one of them changes no other."""

    split: np.random.SeedSequence
    weights: np.random.SeedSequence
    training: np.random.SeedSequence


class SensorLSTMClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Classify windows of sensor signals with an LSTM and a linear head.

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
    loss : {"cross_entropy", "focal", "mse"} or callable, default="cross_entropy"
        A callable gets ``(logits, class_index)`` and returns one value for each window.
    label_smoothing : float, default=0.0
        Share of the target spread evenly over the classes, in training and in `val_loss`.
    class_weight : None, "balanced", "effective_number" or dict, default=None
        Factor on the loss of each class; ``"balanced"`` is ``n / (k * count)`` over the training
        part, ``"effective_number"`` weakens large classes less: see
        `sensorseq.preprocessing.weights.class_weights`. It does not enter `val_loss`.
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
    sampler : {"shuffle", "balanced"}, default="shuffle"
        ``"balanced"`` draws equally from each class.
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
    early_stopping : bool, default=True
        End when `monitor` has not improved by more than `tol` for `patience` epochs.
    validation_fraction : float, default=0.2
        Share held out for validation, whole groups, whether or not early stopping is on; 0 is
        none. Not used with `X_val` or a WindowSet that is split.
    patience : int, default=20
        See `early_stopping`.
    tol : float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}, default="val_loss"
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
    calibrate : bool, default=False
        Not served yet.
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
        ``"auto"`` is the native engine where it can, see `engine_`; on a GPU it can in float32,
        with one layer, up to 16 channels and no `head_norm`. Both take the same trajectory to
        rounding.
    n_models : int, default=1
        More than one is not served yet.
    warm_start : bool, default=False
        Go on from the weights and the scaling of the last fit, with a fresh optimizer.
    checkpoint, checkpoint_every, resume, auto_repair, augment
        Not served yet.
    callbacks : list, optional
        Objects with `on_fit_begin`, `on_epoch_end`, `on_fit_end`; see
        `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes every epoch where there is no terminal.
    random_state : int, RandomState or None, default=None
        Decides split, first weights, order, crops and dropout: equal integers give equal bits on
        one machine, whatever was drawn before; on the native engine (see `engine_`) also on any
        number of threads.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of `predict_proba`'s columns; 0 to k - 1 for one-hot `y`.
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
        One row per epoch.
    fluctuation_ : FluctuationReport
        Whether the curve fluctuates, why not, or how much. Its limits for a loss are of
        cross-entropy in nats; any other `loss` is looked at only for values that are not finite.
    scaler_ : Scaler, KeyedScaler or None
        The scaling, fitted on the training part.
    module_ : LSTMLinear
        The network, in evaluation mode.
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
    press it once more within two seconds to end that too.

    Windows with a `sample_weight` of zero take no part.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq import SensorLSTMClassifier
    >>> t = np.arange(40)
    >>> X = np.stack([np.sin(t * (0.3 if i % 2 else 0.9) + i) for i in range(60)])
    >>> y = np.array(["fast", "slow"] * 30)
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
    >>> clf.fit(X, y).score(X, y) > 0.9
    True
    """

    classes_: NDArray[Any]
    scaler_: Scaler | KeyedScaler | None
    module_: LSTMLinear
    history_: History
    preparation_: Preparation | None
    _flat_timesteps: int | None
    _report_facts: dict[str, Any]

    # Requested by default: whoever passes them to a search or a pipeline means them for here.
    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__predict_proba: ClassVar = {"lengths": True}
    __metadata_request__decision_function: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    def __init__(
        self,
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "meanmax",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        head_norm: str = "none",
        weight_init: str | Callable[..., Any] = "xavier",
        recurrent_init: str | Callable[..., Any] = "orthogonal",
        forget_bias: float = 1.0,
        loss: str | Callable[..., Any] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        optimizer_params: Mapping[str, Any] | None = None,
        lr_schedule: str = "cosine",
        warmup_epochs: int = 0,
        ema_decay: float | None = None,
        batch_size: int | None = 32,
        sampler: str = "shuffle",
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
        calibrate: bool = False,
        device: str = "auto",
        dtype: str = "float32",
        deterministic: bool = True,
        engine: str = "auto",
        n_models: int = 1,
        warm_start: bool = False,
        checkpoint: Any = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        auto_repair: bool = False,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.head_norm = head_norm
        self.weight_init = weight_init
        self.recurrent_init = recurrent_init
        self.forget_bias = forget_bias
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.optimizer_params = optimizer_params
        self.lr_schedule = lr_schedule
        self.warmup_epochs = warmup_epochs
        self.ema_decay = ema_decay
        self.batch_size = batch_size
        self.sampler = sampler
        self.last_batch = last_batch
        self.max_epochs = max_epochs
        self.max_grad_norm = max_grad_norm
        self.clip_by = clip_by
        self.weight_decay = weight_decay
        self.l1 = l1
        self.max_timesteps = max_timesteps
        self.crop = crop
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.monitor = monitor
        self.restore_best = restore_best
        self.scale = scale
        self.calibrate = calibrate
        self.device = device
        self.dtype = dtype
        self.deterministic = deterministic
        self.engine = engine
        self.n_models = n_models
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume
        self.auto_repair = auto_repair
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: ArrayLike | None = None,
        lengths_val: ArrayLike | None = None,
    ) -> Self:
        """Train on windows and their labels.

        Parameters
        ----------
        X : array of shape (n, t, c) or (n, t), list of arrays of shape (t_i, c), WindowSet or path
            Windows; (n, t) is one channel; a path is that of a prepared file. Of a WindowSet or a
            file that is split, ``"train"`` trains, ``"validation"`` validates and ``"test"`` is
            not touched. A WindowSet carries windows unscaled and unbalanced, whatever the pipeline
            was asked for: the `scale` and `sampler` of this estimator act on them. A prepared file
            brings its scaler, used if it is of the kind `scale` asks for, and the indices of its
            balanced training windows.
        y : array of shape (n,), or exactly one-hot (n, k), optional
            Labels; may be left out when a WindowSet brings them. A file brings its own.
        sample_weight : array of shape (n,), optional
            Factor on the loss of each window; zero leaves it out altogether.
        groups : array of shape (n,), optional
            What stays on one side of the validation split: recordings, subjects, days. A
            WindowSet brings its own; not to be given beside one that is split.
        lengths : array of shape (n,), int, optional
            Valid steps of each window, 1 to t; what lies beyond is not looked at.
        X_val, y_val, groups_val, lengths_val : optional
            Windows to validate on, instead of a held-out part. One-hot columns are in the order
            of `classes_`.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the data cannot be used; the first window, step and channel are named.
        SplitError
            If a WindowSet's split has one group in two parts, or no group can be held out.
        ArgumentError
            If an argument has a value outside what it accepts, or leaves nothing to validate on.
        NotYetError
            If an argument is not served yet.
        DivergedError
            If the loss is not finite in the first epoch.
        EnvironmentProblemError
            If the device is not there.
        """
        config = check_parameters(self.get_params(deep=False))
        dtype: torch.dtype = getattr(torch, self.dtype)
        # the native engine serves every network on the CPU: "auto" goes where it is
        wanted = "cpu" if (self.device, self.engine) == ("auto", "native") else self.device
        device = resolve_device(wanted, hidden_size=self.hidden_size, dtype=dtype)
        seeds = self._make_seeds()
        X, stored_scaler = self._open_training(X, y=y, sample_weight=sample_weight, groups=groups)
        X_val = self._open(X_val, "X_val")
        windows = self._read_training_windows(X, y, sample_weight, groups, lengths)
        given = self._read_validation_windows(X_val, y_val, groups_val, lengths_val, windows.groups)
        sets = [part for part in (X, X_val) if isinstance(part, WindowSet)]
        self.preparation_ = describe_preparation(*sets) if isinstance(X, WindowSet) else None
        train, validation = split_windows(windows, given, self.validation_fraction, seeds.split)
        check_validation(windows, validation, self.validation_fraction, config)
        config = replace(config, n_outputs=len(self.classes_))
        # Learned on the training part alone: statistics of the rest would leak into its score.
        self._fit_scaler(train, stored_scaler, X if isinstance(X, WindowSet) else None)
        module = self._make_module(train.sequences.X.shape[2], seeds.weights).to(device)
        result = train_network(
            module,
            self._training_data(train, dtype, config),
            None if validation is None else self._training_data(validation, dtype, None),
            config,
            seed=seeds.training,
            callbacks=self._make_callbacks(),
            engine=self.engine,
        )
        self._keep(module, result, train, validation)
        return self

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows of the channels `fit` saw; of a prepared file all of them, in its order.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.

        Returns
        -------
        ndarray of shape (n,)
            Elements of `classes_`.
        """
        logits = self._logits(X, lengths)
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the probability of each class, the softmax of the logits.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            Rows sum to one; columns are in the order of `classes_`.
        """
        logits = self._logits(X, lengths)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            For two classes, as everywhere in scikit-learn, of shape (n,): the logit of
            ``classes_[1]`` less that of ``classes_[0]``.
        """
        logits = self._logits(X, lengths)
        return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits)

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy on windows and their labels, one-hot (as `classes_`) or not.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        X = self._open(X, "X")
        predicted = self.predict(X, lengths)
        y = X.y if y is None and isinstance(X, WindowSet) else y
        labels, _ = _read_labels(y, len(predicted), "y", classes=self.classes_)
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def plot_history(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the curves of the last fit, with the kept epoch and the sampling error marked.

        Parameters
        ----------
        path : str or path, optional
            Where to write the picture.

        Returns
        -------
        matplotlib Figure
        """
        from sensorseq.fluctuation.picture import draw_history  # matplotlib is an extra

        check_is_fitted(self)
        return draw_history(
            self.history_,
            n_val=self._report_facts["n_val"],
            best_epoch=self.best_epoch_,
            path=None if path is None else Path(path),
            loss_unit="nats" if self.loss == "cross_entropy" else "",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        Weights, scaling, classes, history and every argument go into it. The file appears when it
        is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; one of that name is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that no file can hold without being
            executed when read.
        """
        check_is_fitted(self)
        write_model(path, network_arrays(self.module_, self.scaler_), self._describe())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read a fitted estimator that `save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Overrides the saved `device`: ``"cpu"`` for a model trained on a GPU elsewhere.

        Raises
        ------
        ModelFileError
            If the file is truncated, damaged, of another program or of a newer version.
        FileNotFoundError
            If there is none.
        """
        arrays, description = read_model(path)
        try:
            return cls._from_description(arrays, description, path, device)
        except ModelFileError:
            raise
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"{path} contradicts itself: {error}. Save the model again where it was trained."
            ) from error

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "module_" in state:  # so that what was trained on a GPU can be unpickled without one
            state = {**state, "module_": copy.deepcopy(state["module_"]).cpu()}
        return state

    def _make_seeds(self) -> _Seeds:
        entropy = check_random_state(self.random_state).randint(2**31 - 1)
        return _Seeds(*np.random.SeedSequence(entropy).spawn(3))

    # Data in.

    @property
    def _continues(self) -> bool:
        return self.warm_start and hasattr(self, "module_")

    def _open_training(self, X: Any, **given: Any) -> tuple[Any, Scaler | KeyedScaler | None]:
        """Read a prepared file for `fit`, and the scaling stored in it; blank what is for test."""
        stored: Scaler | KeyedScaler | None = None
        if isinstance(X, str | os.PathLike):
            for name, value in given.items():
                if value is not None:
                    raise InputError(f"{name} is given, and the file {X} brings its own windows.")
            X, stored = read_training_file(X)
        if isinstance(X, WindowSet):
            refuse_scaled(X, self.scale)
            X = without_test(X)
        return X, stored

    def _open(self, X: Any, name: str) -> Any:
        """Read a prepared file; refuse a WindowSet that is scaled."""
        if isinstance(X, str | os.PathLike):
            X = read_windows(X)
        if isinstance(X, WindowSet):
            refuse_scaled(X, self.scale, name)
        return X

    def _read_training_windows(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, lengths: Any
    ) -> Windows:
        """Check what `fit` was given; learn the classes and the shape of the input."""
        fitted_classes = self.classes_ if self._continues else None
        if fitted_classes is None:
            # What an earlier fit learned is void, also when this one ends in an error.
            self.__dict__.pop("module_", None)
        if y is None:
            y = X.y if isinstance(X, WindowSet) else None
        if y is None:
            raise InputError(
                "SensorLSTMClassifier requires y to be passed, but the target y is None."
            )
        sequences = self._read_sequences(X, lengths, "X", reset=fitted_classes is None)
        n_windows = len(sequences)
        split = X.split if isinstance(X, WindowSet) else None
        if split is not None and groups is not None:
            raise InputError(
                "groups is given, and X brings a split, which it cannot change; leave groups=None,"
                " or split X by these groups."
            )
        if isinstance(X, WindowSet) and groups is None:
            groups = X.groups
        groups = check_groups(groups, n_windows, "groups")
        if split is not None:
            check_parts(X, groups)
        weight = check_sample_weight(sample_weight, n_windows)
        labels, one_hot_classes = _read_labels(y, n_windows, "y")
        taking_part = np.ones(n_windows, bool) if weight is None else weight > 0
        if split is not None:
            taking_part &= split != "test"
        present = np.unique(labels[taking_part])
        if len(present) < 2:
            raise InputError(
                f"y holds one class ({present.tolist()[0]!r}); a classifier needs at least two."
            )
        classes = present if one_hot_classes is None else one_hot_classes
        if fitted_classes is not None and not np.array_equal(classes, fitted_classes):
            raise InputError(
                f"y holds the classes {classes.tolist()}, but warm_start=True goes on from"
                f" {fitted_classes.tolist()}; take warm_start=False."
            )
        self.classes_ = classes
        rows = np.flatnonzero(taking_part)
        return Windows(
            sequences.take(rows) if len(rows) < n_windows else sequences,
            np.searchsorted(classes, labels[rows]),
            None if weight is None else weight[rows],
            None if groups is None else groups[rows],
            None if split is None else split[rows],
        )

    def _read_validation_windows(
        self, X_val: Any, y_val: Any, groups_val: Any, lengths_val: Any, groups: Any
    ) -> Part | None:
        if X_val is None:
            for name, value in {
                "y_val": y_val,
                "groups_val": groups_val,
                "lengths_val": lengths_val,
            }.items():
                if value is not None:
                    raise InputError(f"{name} is given without X_val.")
            return None
        if isinstance(X_val, WindowSet):
            y_val = X_val.y if y_val is None else y_val
            groups_val = X_val.groups if groups_val is None else groups_val
        if y_val is None:
            raise InputError("X_val is given without y_val.")
        sequences = self._read_sequences(X_val, lengths_val, "X_val", reset=False)
        labels, _ = _read_labels(y_val, len(sequences), "y_val", "X_val", classes=self.classes_)
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            raise InputError(
                f"y_val[{row}] is {labels.tolist()[row]!r}, which no window of y is; y has"
                f" {self.classes_.tolist()}."
            )
        groups_val = check_groups(groups_val, len(sequences), "groups_val", "X_val")
        if groups is not None and groups_val is not None:
            shared = np.intersect1d(groups, groups_val)
            if len(shared):
                raise InputError(
                    f"group {shared.tolist()[0]!r} is in groups and in groups_val ({len(shared)}"
                    " such groups); validation needs groups that training has not seen."
                )
        return Part(sequences, np.searchsorted(self.classes_, labels))

    def _read_sequences(self, X: Any, lengths: Any, name: str, *, reset: bool) -> Sequences:
        """Bring X to (n, t, c); with `reset` remember its shape, else compare with it."""
        if is_table(X):
            # scikit-learn's own checks of names and counts, in its own words.
            options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
            strict = reset or (self._flat_timesteps is not None and name == "X")
            X = (
                validate_data(self, X, reset=reset, **options)
                if strict
                else check_array(X, input_name=name, **options)
            )
        sequences = read_sequences(X, lengths, name)
        if reset:
            if not sequences.is_flat:
                check_axis_order(X, lengths, name)
                self.n_features_in_ = sequences.X.shape[2]
                self.__dict__.pop("feature_names_in_", None)
            self._flat_timesteps = sequences.X.shape[1] if sequences.is_flat else None
        else:
            n_channels = self.n_features_in_ if self._flat_timesteps is None else 1
            check_channels(sequences, n_channels, self._flat_timesteps, name)
        return sequences

    def _fit_scaler(
        self, train: Part, stored: Scaler | KeyedScaler | None, given: WindowSet | None
    ) -> None:
        # A warm start goes on with the scaling its weights were learned under.
        if self._continues:
            return
        # What a prepared file stores was fitted on its training windows before balancing.
        as_learned = self.max_timesteps is None or self.scale == PHYSICAL
        if stored is not None and stored.kind == self.scale and as_learned:
            self.scaler_ = stored
            return
        warn_of_another_scale(given, self.scale)
        sequences = self._crop(train.sequences, training=True)
        self.scaler_ = fit_told_scaler(given, sequences, self.scale)

    def _crop(self, sequences: Sequences, *, training: bool) -> Sequences:
        return crop_sequences(sequences, self.max_timesteps, self.crop, training=training)

    def _training_data(
        self, part: Part, dtype: torch.dtype, config: TrainingConfig | None
    ) -> TrainingData:
        """Crop, scale and, for the training part (with `config`), weigh."""
        training = config is not None
        sequences = self._crop(part.sequences, training=training)
        return TrainingData.from_arrays(
            scale_sequences(sequences, self.scaler_, self.dtype),
            sequences.lengths,
            part.class_index,
            (
                window_weights(part.class_index, self.classes_, self.class_weight, part.weight)
                if training
                else None
            ),
            dtype,
        )

    # The network and the run.

    def _make_module(self, n_channels: int, seed: np.random.SeedSequence) -> LSTMLinear:
        parameters = self.get_params(deep=False)
        if self._continues:
            return continue_network(self.module_, parameters)
        return make_network(parameters, n_channels, len(self.classes_), seed)

    def _make_callbacks(self) -> tuple[Any, ...]:
        callbacks = check_callbacks(self.callbacks)
        if not self.verbose:
            return callbacks
        from sensorseq.training.progress import ProgressReport  # rich, only when it shows

        return (ProgressReport(every_epoch=self.verbose > 1), *callbacks)

    def _keep(
        self, module: LSTMLinear, result: TrainingResult, train: Part, validation: Part | None
    ) -> None:
        """Store what the run gave, and say when it did not end as asked."""
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.best_score_ = result.best_score
        self.n_iter_ = len(result.history)
        self.engine_ = result.engine
        counts = None if validation is None else np.bincount(validation.class_index)
        self._report_facts = {
            "n_val": None if counts is None else int(counts.sum()),
            "n_train": len(train.class_index),
            "majority_fraction": None if counts is None else float(counts.max() / counts.sum()),
        }
        self._make_report()
        if result.best_epoch == 0:
            self.__dict__.pop("module_", None)
            raise DivergedError(
                "training diverged in its first epoch: a loss or gradient is not finite. Lower"
                f" learning_rate (now {self.learning_rate!r}), bound the gradient with"
                f" max_grad_norm (now {self.max_grad_norm!r}), or check scale (now"
                f" {self.scale!r}) and the loss. history_ and fluctuation_ hold what was seen."
            )
        self.module_ = module
        if result.ended_by == "diverged":
            warnings.warn(
                f"training diverged in epoch {self.n_iter_}: a loss or gradient is not finite. The"
                f" weights of epoch {self.best_epoch_} are kept; see fluctuation_.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if result.ended_by == "interrupted":
            warnings.warn(
                f"training was interrupted after epoch {self.n_iter_} of {self.max_epochs}; the"
                f" weights of epoch {self.best_epoch_} are kept and the classifier can be used.",
                UserWarning,
                stacklevel=3,
            )

    def _make_report(self) -> None:
        self.fluctuation_ = _report(
            self.history_,
            self.loss,
            n_classes=len(self.classes_),
            best_epoch=self.best_epoch_ or None,
            **self._report_facts,
        )

    def _logits(self, X: Any, lengths: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = self._open(X, "X")
        if isinstance(X, WindowSet):
            check_same_preparation(self.preparation_, X)
            X = tell_apart(X, self.scaler_, self.preparation_)
        sequences = self._crop(self._read_sequences(X, lengths, "X", reset=False), training=False)
        module = self.module_
        dtype = module.linear.weight.dtype
        module.to(resolve_device(self.device, hidden_size=module.hidden_size, dtype=dtype))
        scaled = torch.from_numpy(scale_sequences(sequences, self.scaler_, self.dtype)).to(
            module.linear.weight.dtype
        )
        all_valid = bool((sequences.lengths == scaled.shape[1]).all())
        logits = predict_logits(
            module, scaled, None if all_valid else torch.from_numpy(sequences.lengths)
        )
        return logits.numpy().astype(np.float64)

    # The model file.

    def _describe(self) -> dict[str, Any]:
        parameters = self.get_params(deep=False)
        check_plain(parameters)
        return {
            "parameters": parameters,
            "classes": describe_labels(self.classes_),
            "n_channels": self.module_.input_size,
            "n_features_in": self.n_features_in_,
            "flat_timesteps": self._flat_timesteps,
            "feature_names_in": (
                self.feature_names_in_.tolist() if hasattr(self, "feature_names_in_") else None
            ),
            "architecture": {name: getattr(self.module_, name) for name in ARCHITECTURE},
            "dtype": str(self.module_.linear.weight.dtype).removeprefix("torch."),
            "history": self.history_.to_rows(),
            "best_epoch": self.best_epoch_,
            "best_score": self.best_score_,
            "engine": list(self.engine_),
            "report_facts": dict(self._report_facts),
            "preparation": self.preparation_,
            "versions": {
                "sensorseq": importlib.import_module("sensorseq").__version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    @classmethod
    def _from_description(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        path: Any,
        device: str | None,
    ) -> Self:
        def field(name: str, kind: Any) -> Any:
            return take_field(description, name, kind, path)

        check_array_names(arrays, path)
        estimator = cls(**field("parameters", dict))
        if device is not None:
            estimator.device = device
        estimator.classes_ = read_labels(field("classes", dict))
        estimator.n_features_in_ = field("n_features_in", int)
        estimator._flat_timesteps = field("flat_timesteps", int | None)
        names = field("feature_names_in", list | None)
        if names is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
        estimator.scaler_ = read_scaler(arrays)
        estimator.history_ = History(field("history", list))
        estimator.n_iter_ = len(estimator.history_)
        estimator.best_epoch_ = field("best_epoch", int)
        estimator.best_score_ = field("best_score", float)
        estimator.engine_ = EngineChoice(*field("engine", list))
        estimator._report_facts = field("report_facts", dict)
        estimator.preparation_ = check_preparation(field("preparation", dict | None))
        estimator._make_report()
        estimator.module_ = read_network(
            arrays,
            field("architecture", dict),
            n_channels=field("n_channels", int),
            n_classes=len(estimator.classes_),
            dtype=check_choice("dtype", field("dtype", str), DTYPES),
        )
        return estimator


def _report(history: History, loss: Any, **facts: Any) -> FluctuationReport:
    """Judge a history; of a loss that is not in nats only the values that are not finite."""
    if loss == "cross_entropy":
        return FluctuationReport.from_history(history, **facts)
    rows = [
        {name: None if "loss" in name and np.isfinite(v) else v for name, v in row.items()}
        for row in history.to_rows()
    ]
    called = repr(loss) if isinstance(loss, str) else "a function"
    note = f"The loss ({called}) is not cross-entropy in nats and was not judged."
    if not any(row.get(name) is not None for row in rows for name in _JUDGED):
        return FluctuationReport(
            verdict="too_short_to_tell",
            severity=None,
            explanation=(note, "Without validation windows nothing else can be."),
            n_epochs=len(rows),
            **{name: value for name, value in facts.items() if name != "majority_fraction"},
        )
    report = FluctuationReport.from_history(rows, **facts)
    return replace(report, explanation=(*report.explanation, note))


def _read_labels(
    y: Any,
    n_windows: int,
    name: str,
    owner: str = "X",
    *,
    classes: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return one label per window, and the classes when they were one-hot columns.

    With `classes` their columns stand for these.
    """
    if y is None:
        raise InputError(f"{name} is None; labels are needed.")
    labels = np.asarray(y.detach().cpu().numpy() if hasattr(y, "detach") else y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.ndim == 2:
        if len(labels) != n_windows:
            raise InputError(
                f"{name} has {len(labels)} one-hot rows for the {n_windows} windows of {owner}."
            )
        if classes is None:
            return from_one_hot(labels, name), np.arange(labels.shape[1])
        if labels.shape[1] != len(classes):
            raise InputError(
                f"{name} has {labels.shape[1]} one-hot columns, but fit saw {len(classes)} classes;"
                " give one column for each, in the order of classes_, or one label per window."
            )
        return classes[from_one_hot(labels, name)], None
    checked = check_per_window(labels, n_windows, name, owner)
    assert checked is not None
    check_labels(checked, name)
    check_classification_targets(checked)
    return checked, None
