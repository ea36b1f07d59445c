"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.base.checks import check_integer
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.rival_models import compare_level
from sensorseq.errors import (
    ArgumentError,
    InputError,
    ModelFileError,
    within_memory,
)
from sensorseq.estimator.adapt import Adaptation, adapt
from sensorseq.estimator.explain import Explanation, explain
from sensorseq.estimator.fit import (
    Judged,
    Trained,
    refuse_diverged,
    report_fit,
    show_progress,
    train_model,
    with_modules,
)
from sensorseq.estimator.fit_windows import (
    check_arguments,
    hold_out,
    read_table,
    read_windows,
    scale_windows,
)
from sensorseq.estimator.report import make_report
from sensorseq.estimator.saving import (
    Contents,
    check_stored,
    current_arguments,
    imported,
    load_file,
    model_contents,
    packed,
    read_fitted,
    unpacked,
)
from sensorseq.estimator.uncertainty import (
    LeftOut,
    accuracy_of,
    find_abstention,
    with_probabilities,
)
from sensorseq.export.c_source import CExport, COptions, render_c, write_texts
from sensorseq.export.to_onnx import write_onnx
from sensorseq.history import History
from sensorseq.io.model_file import (
    check_texts,
    model_digest,
    take_field,
    write_model,
)
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.learners.motors import Roles
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.checked_windows import Windows, is_table
from sensorseq.prediction.decisions import (
    Abstention,
    Decisions,
    RecordingDecision,
    softmax,
)
from sensorseq.prediction.frames import refuse_panel
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.stream import DecisionStream
from sensorseq.sequence import Timeline
from sensorseq.sequence.smoothing import Smooth
from sensorseq.training import EngineChoice
from sensorseq.training.evaluation import modules_of
from sensorseq.training.inputs import open_windows
from sensorseq.training.parameters import refuses_moved
from sensorseq.windows import WindowSet

_SMALLER = (
    "use a smaller hidden_size, batch_size or n_models, fewer or shorter windows, or the path of a"
    " prepared file, which is read in parts"
)


class Fitted(Protocol):
    """A fitted classifier of one sensor or of several; both have the methods that need no more."""

    classes_: Any

    @property
    def model_(self) -> TrainedModel:
        """The trained model."""

    def _open(self, X: Any, name: str = "X") -> Any: ...

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window."""


AnyFitted = TypeVar("AnyFitted", bound=Fitted)


def _of_model(name: str, change: Callable[..., TrainedModel] = replace) -> Any:
    """Return a property that reads a field of `model_`, and sets it with `change`."""

    def set_field(self: Any, value: Any) -> None:
        self.model_ = change(self.model_, **{name: value})

    def get_field(self: Any) -> Any:
        if not hasattr(self, "model_"):
            raise AttributeError(f"{type(self).__name__} has no {name}_ before fit.")
        return getattr(self.model_, name)

    return property(get_field, set_field)


class SensorLSTMClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Classify windows of sensor signals with an LSTM and a linear head.

    Parameters
    ----------
    hidden_size : int, default=64
        Number of hidden units, H, in each layer and direction.
    num_layers : int, default=1
        Number of stacked LSTM layers.
    bidirectional : bool, default=False
        Whether to also read every window backwards.
    pooling : {"last", "mean", "max", "meanmax"}, default="meanmax"
        How the hidden states of the valid timesteps are reduced to one vector.
    dropout : float, default=0.3
        Dropout probability of each input of the head and of every LSTM layer after the first.
    recurrent_dropout : float, default=0.0
        Probability of dropping a hidden unit from the recurrent input of the gates. All timesteps
        of a window share one mask.
    head_norm : {"none", "batch", "layer"}, default="none"
        Normalization of the pooled vector.
    weight_init : {"xavier", "he", "orthogonal", "uniform"} or callable, default="xavier"
        Initialization of the input and head weights; ``"uniform"`` is torch's default. A callable
        receives ``(name, tensor, generator)`` and fills the tensor in place.
    recurrent_init : {"orthogonal", "xavier", "he", "uniform"} or callable, default="orthogonal"
        Initialization of the recurrent weights.
    forget_bias : float, default=1.0
        Initial bias of the forget gate; the other biases start at zero.
    loss : {"cross_entropy", "focal"} or callable, default="cross_entropy"
        Loss function. A callable receives ``(logits, class_index)`` and returns one value for each
        window.
    label_smoothing : float, default=0.0
        Fraction of the target that is spread evenly over the classes, both in training and in
        `val_loss`.
    class_weight : None, "balanced" or dict, default=None
        Weight of each class in the training loss. ``"balanced"`` uses ``n / (k * count)``, with
        counts from the training part. Class weights do not affect `val_loss`.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, default="adamw"
        The torch optimizer of that name.
    learning_rate : float, default=3e-3
        Maximum learning rate; `lr_schedule` determines how the rate changes during training.
    optimizer_params : dict, optional
        Additional optimizer arguments, under the names that torch uses: eps, betas, amsgrad, alpha,
        centered, nesterov, dampening and momentum, which is 0.9 by default with sgd.
    lr_schedule : {"constant", "cosine", "plateau"}, default="cosine"
        ``"cosine"`` lowers the rate to a hundredth of the maximum by the last epoch (see
        `max_epochs` and `max_steps`). ``"plateau"`` halves the rate when the monitored value has
        not improved for a quarter of `patience` epochs.
    warmup_epochs : int or float, default=0.05
        Number of epochs over which the rate increases linearly before the schedule begins. A float
        in (0, 1) is a fraction of all optimizer steps of the run (0.05 of 1000 steps is 50 steps),
        but the warm-up has at least one step.
    ema_decay : float, optional
        Decay of an exponential moving average of the weights. If given, the averaged weights are
        validated and kept instead of the weights themselves.
    batch_size : int or None, default=32
        Number of windows per optimizer step; None uses all windows in every step.
    sampler : {"shuffle", "balanced", "sqrt"}, default="shuffle"
        ``"balanced"`` draws all classes equally often; ``"sqrt"`` draws each class in proportion to
        the square root of its number of windows.
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs. ``"auto"`` chooses the number needed for 400 optimizer steps on
        the training part, but at least 24 and at most 200.
    max_steps : int, optional
        Limit on the number of optimizer steps. The run and the learning-rate schedule have
        ``ceil(max_steps / steps per epoch)`` epochs, but at most `max_epochs`.
    max_grad_norm : float or None, default=1.0
        Limit of the gradient's global norm; larger gradients are scaled down to it. None turns
        clipping off.
    weight_decay : float, default=1e-3
        Weight decay as in torch: decoupled in adamw, an L2 penalty in the other optimizers. All
        parameters are decayed.
    max_timesteps : int, optional
        Maximum window length; longer windows are cropped, both in training and in prediction.
    crop : {"head", "tail", "centre", "random"}, default="head"
        Which timesteps of a longer window to keep. ``"random"`` draws a new crop in each epoch and
        uses the central crop for prediction.
    augment : None, "standard", dict or Augmentation, default=None
        Random changes applied to every training window in each epoch. A dict contains the fields of
        `sensorseq.preprocessing.Augmentation`; its `mirror`, `swap` and `axes` refer to channels by
        number or, for a WindowSet or a prepared file, by name. The models on `features` are fitted
        to the windows and to one augmented copy of each window.
    early_stopping : bool, default=False
        Whether to stop when `monitor` has not improved by more than `tol` for `patience` epochs. By
        default, the schedule is completed, because a validation part with only a few recordings
        often favors an epoch before the learning rate has fallen.
    validation_fraction : float, default=0.2
        Fraction of the windows to hold out for validation, with or without early stopping. Whole
        groups are held out; 0 holds out nothing. The fraction is ignored if `X_val` or a WindowSet
        with a split is given.
    patience, tol : int, default=20, and float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}, default="val_loss"
        The column of the history that determines which epoch is best.
    restore_best : bool, optional
        Whether to keep the weights of the best epoch. If False, or if `monitor` needs validation
        windows and there are none, the weights of the last epoch are kept. None uses the value of
        `early_stopping`.
    scale : str or None, default="standard"
        Scaling of each channel, fitted only on the training part: ``"standard"`` or ``"robust"``
        (see `sensorseq.preprocessing.scale.fit_scaler`). ``"physical"`` divides by the rated values
        that were given when the WindowSet or the file was prepared.
    calibrate : bool, default=False
        Whether to divide the logits by `temperature_`, which is fitted on the validation windows
        after training. Then, for example, about 80 % of the windows predicted with probability 0.8
        are classified correctly. `predict` is unchanged. With early stopping, which also uses the
        validation windows, some overconfidence may remain; measure the calibration on other windows
        with `sensorseq.evaluation.calibration.calibration_error`.
    device : str, default="auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. ``"auto"`` uses a GPU if our CUDA kernels
        support this network on it (see ``sensorseq info``) and `engine` is not ``"native"``;
        otherwise, it uses the CPU. The first `fit` checks the CUDA kernels on this GPU, which takes
        at most a minute; only kernels that pass the check are used. The environment variable
        ``SENSORSEQ_CUDA_KERNELS=0`` turns all CUDA kernels off.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network.
    engine : {"auto", "native", "autograd"}, default="auto"
        How the optimizer steps are run: whole epochs in one native call, or step by step with
        autograd. ``"auto"`` uses the native engine if it supports the configuration (see
        `engine_`); on a GPU, the native engine supports float32 with one layer, up to 16 channels
        and no `head_norm`. The results of both engines are equal up to rounding.
    n_models : int, default=1
        Number of networks in the ensemble; their probabilities are averaged. All networks use the
        same split, but each has its own initial weights, window order and dropout. The networks are
        trained side by side if the native engine supports them and the windows fit in memory;
        otherwise, they are trained one after another. The first network is bit for bit the result
        of ``n_models=1``. Callbacks are called for every network.
    warm_start : bool, default=False
        Whether to continue from the weights and the scaling of the last fit, or of a loaded model,
        with a new optimizer. The models fitted on `features` are kept unchanged.
    checkpoint : str or path, optional
        Model file that is written after each epoch that improves `monitor`, or after every epoch if
        `monitor` needs validation windows and there are none. The file contains only the LSTM (for
        an ensemble, the first network), without the effects of `features`, `refit` and `calibrate`.
        It is replaced atomically, so a complete file remains if the process is killed. `load` reads
        this file, and `warm_start` can then continue the training.
    callbacks : list, optional
        Objects with at least one of the methods `on_fit_begin`, `on_epoch_begin`, `on_epoch_end`
        and `on_fit_end`; see `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes a line for every epoch unless stderr is a terminal.
    random_state : int, RandomState or None, default=None
        Seed of the split, the initial weights, the order of the windows, the crops and the dropout.
        The same integer gives bit for bit the same result on one machine. With the native engine
        (see `engine_`), the number of threads affects only the last digits of the contribution of
        `features`, which LAPACK and scikit-learn compute.
    features : "auto", None, name, callable or list, default="auto"
        Models that use features of the windows; their logits are added to those of the LSTM. Linear
        layers, fitted by ridge regression in closed form, use random convolutions (``"rocket"``,
        see `sensorseq.features.RandomConvolutions`), competing kernels (``"hydra"``, see
        `sensorseq.features.CompetingKernels`) or summary statistics divided into ranges
        (``"summary"``, see `sensorseq.features.SummarySteps`). A linear layer can also use the
        result of your own function of the scaled windows, ``(windows, lengths) -> array of shape
        (n, f)``. Gradient boosting uses summary statistics (``"boosting"``, see
        `sensorseq.features.SummaryFeatures`). The weights of the models in the sum of logits, and
        the bias of each class, are fitted on windows that are left out of training; whole groups
        are left out. ``"auto"`` uses the four named models. A model that says nothing about the
        class, even the LSTM, gets weight 0 and is dropped. `features_` lists the weights. With
        `refit`, or if nothing is held out, the windows are left out in three folds, and the network
        is trained two or three more times for these folds. Otherwise, the windows of the validation
        part are left out. None uses the LSTM alone. If the windows are read from their file in
        parts, the models on features are fitted to a sample of the windows. In this case,
        ``"auto"`` uses no features if nothing is held out.
    motors : list of pairs, optional
        The motors of a robot, each as the names (or numbers) of its channels: ``[("curL", "velL"),
        ("curR", "velR")]`` for the currents and speeds of two drive motors. Boosted trees on the
        friction, the load and the turning of these motors are then weighted like the models on
        `features`. The channels need their physical zero; see docs/motors.md.
    refit : "auto", "all" or None, default="auto"
        How the model learns from the held-out windows after the validation curve, the report and
        the held-out probabilities have been computed. ``"auto"`` keeps the networks of the three
        folds (see `features`), which together have been trained on all windows, and averages their
        probabilities in prediction. ``"all"`` trains `n_models` networks on all windows, for as
        many steps as the first network; ``"auto"`` also does this for an ensemble, or if there are
        no folds. ``"auto"`` means None for more than 20,000 windows, for windows read from
        their file in parts, and with `warm_start`. None keeps the networks trained on the training
        part. `X_val` is never used for training.
    patch : "auto", int or None, default="auto"
        Number of samples per frame. The network reads a window as a sequence of frames that overlap
        by half; for each frame and channel, it receives the mean, the variance, the minimum, the
        maximum and the power in up to six bands of the spectrum. Frames make long windows faster to
        process and usually improve their classification. ``"auto"`` uses a twentieth of the window
        length, but at least 8 samples, and no frames for windows of fewer than 28 samples. With
        None, the network reads every sample. `features` are always computed from the samples.
    missing : {"error", "expected", "outside"}, default="error"
        How to treat NaN. ``"error"`` raises an error. ``"expected"`` interpolates linearly. If a
        channel is all NaN in a window, `fit` raises an error, and prediction replaces the channel
        with its training mean. ``"outside"`` works like ``"expected"`` and, in prediction, also
        treats a channel as missing if `outside` reports that the channel is constant or that its
        values or spread are out of range. Set `missing` before `fit`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the columns of `predict_proba`; 0 to k - 1 for one-hot `y`.
    model_ : TrainedModel
        The trained model, with everything that prediction needs, as `sensorseq.prediction.load`
        returns it.
    n_features_in_ : int
        Number of timesteps if the input was 2-D; otherwise, number of channels.
    feature_names_in_ : ndarray of str
        Column names, if X was a 2-D table or a list of DataFrames with named columns.
    n_iter_ : int
        Number of epochs that were run.
    best_epoch_, best_score_ : int and float
        The epoch whose weights are kept, counted from 1, and its monitored value.
    history_, histories_ : History and list of History
        One row per epoch. For an ensemble, `history_` and the other attributes that describe a run
        are those of the first member, and `histories_` contains one history for each member.
    fluctuation_ : FluctuationReport
        Whether and how much the curve fluctuates, and the reasons for this verdict. The thresholds
        for a loss assume cross-entropy in nats; any other `loss` is checked only for values that
        are not finite.
    features_ : FeatureChoice
        The chosen features, the reasons for the choice, and the log-loss and accuracy of each kind
        of model, and of the sum of all models, on the left-out windows. Print this object to see a
        summary.
    refitted_ : bool
        Whether the model also learned from the held-out windows (see `refit`).
    patch_ : Patch or None
        How samples become the inputs of the networks (see `patch`); None if each sample is a
        timestep.
    scaler_ : Scaler or None
        The scaler, fitted on the training part.
    module_, modules_ : LSTMLinear and list of LSTMLinear
        The first network, and all networks (of an ensemble or of the folds), in evaluation mode.
        Their inputs are scaled windows, divided into frames if there is a `patch_`:
        ``patch_.apply(windows, lengths)``. Without features, their outputs are the logits before
        division by `temperature_`.
    temperature_ : float
        The number by which the logits are divided; 1 unless ``calibrate=True``.
    abstention_, abstain_threshold_ : Abstention and float
        The result of `fit_abstention`, and the threshold that it contains. A window whose highest
        probability is below the threshold gets no label.
    adaptation_ : Adaptation or None
        The changes that `adapt` made, and the model from which it started; None if this estimator
        is not an adapted copy.
    preparation_ : dict or None
        How the windows were prepared and which recordings were used for training, if X was a
        WindowSet or a prepared file; see `sensorseq.training.prepared_windows`.
    engine_ : EngineChoice
        The engine that was used, and the reason for this choice.

    Notes
    -----
    Arrays have shape (n, t, c), or (n, t) for one channel. If `lengths` is not given, `fit` rejects
    a 3-D array that looks like (n, c, t), for example because it has one step and several channels,
    and warns if an array may have this order.

    A loss or gradient that is not finite ends the training: the weights of the best epoch are kept,
    a ConvergenceWarning is issued, and the verdict is ``"diverged"``. If this happens in the first
    epoch, a `DivergedError` is raised; its attribute `fluctuation` is the report. If `fit` raises
    an error, the estimator stays as it was, unless a callback raised the error after an epoch.

    Ctrl-C after the first epoch ends the training, not the program: the weights of the last
    complete epoch (with early stopping, of the best epoch) are kept and a warning is issued. The
    features are fitted after the networks; Ctrl-C during this step leaves the LSTM alone. A
    search or cross-validation continues with its next fit; a second Ctrl-C within two seconds ends
    the search, too. Ensemble members whose training has not started are dropped.

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

    # With metadata routing, searches and pipelines pass these arguments to this estimator.
    __metadata_request__fit: ClassVar = {"groups": True, "lengths": True}
    __metadata_request__predict: ClassVar = {"lengths": True}
    __metadata_request__predict_proba: ClassVar = {"lengths": True}
    __metadata_request__decision_function: ClassVar = {"lengths": True}
    __metadata_request__score: ClassVar = {"lengths": True}

    scale: str | None
    missing: str
    device: str
    loss: str | Callable[..., Any]

    model_: TrainedModel
    histories_: list[History]
    best_epoch_: int
    best_score_: float
    engine_: EngineChoice
    features_: FeatureChoice
    refitted_: bool
    adaptation_: Adaptation | None
    _judged: Judged
    # indices of held-out windows, and their outputs before any refit
    _held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
    _out_of_fold: LeftOut | None = None

    @refuses_moved
    def __init__(
        self,
        *,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "meanmax",
        dropout: float = 0.3,
        recurrent_dropout: float = 0.0,
        head_norm: str = "none",
        weight_init: str | Callable[..., Any] = "xavier",
        recurrent_init: str | Callable[..., Any] = "orthogonal",
        forget_bias: float = 1.0,
        loss: str | Callable[..., Any] = "cross_entropy",
        label_smoothing: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        optimizer: str = "adamw",
        learning_rate: float = 3e-3,
        optimizer_params: Mapping[str, Any] | None = None,
        lr_schedule: str = "cosine",
        warmup_epochs: int | float = 0.05,
        ema_decay: float | None = None,
        batch_size: int | None = 32,
        sampler: str = "shuffle",
        max_epochs: int | str = "auto",
        max_steps: int | None = None,
        max_grad_norm: float | None = 1.0,
        weight_decay: float = 1e-3,
        max_timesteps: int | None = None,
        crop: str = "head",
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.2,
        patience: int = 20,
        tol: float = 1e-4,
        monitor: str = "val_loss",
        restore_best: bool | None = None,
        scale: str | None = "standard",
        calibrate: bool = False,
        device: str = "auto",
        dtype: str = "float32",
        engine: str = "auto",
        n_models: int = 1,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        features: Any = "auto",
        motors: Sequence[Roles] | None = None,
        refit: str | None = "auto",
        patch: int | str | None = "auto",
        missing: str = "error",
    ) -> None:
        for name, value in locals().items():
            if name != "self":
                setattr(self, name, value)

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
            Windows; (n, t) means one channel, and a path means a prepared file. The list may
            contain DataFrames. If the column names of the first DataFrame are strings, they become
            the channel names. The columns of all other DataFrames, in training and prediction, are
            then matched by name. If a WindowSet or a file has a split, ``"train"`` is used for
            training, ``"validation"`` for validation, and ``"test"`` is not used. The windows of a
            WindowSet are not yet scaled or balanced, whatever the pipeline's settings; the `scale`
            and `sampler` of this estimator apply to them. A prepared file contains its own scaler,
            which is used if it matches `scale`, and the indices of its balanced training windows.
            Use `SensorFusionClassifier` for windows of several sensors.
        y : array of shape (n,) or (n, k), optional
            Labels, or columns that are exactly one-hot. Not needed for a WindowSet with labels or
            for a file, which contains its own labels.
        sample_weight : array of shape (n,), optional
            Weight of each window in the loss; a window with weight zero is ignored.
        groups : array of shape (n,), optional
            The group of each window, such as its recording, subject or day. Windows of one group
            stay on one side of the validation split. By default, a WindowSet provides its groups
            or, if it has none, its recordings. Not allowed with a WindowSet that has a split.
        lengths : array of shape (n,), int, optional
            Number of valid steps of each window, 1 to t; later steps are ignored.
        X_val, y_val, groups_val, lengths_val : optional
            Windows to validate on instead of a held-out part of X. One-hot columns must be in the
            order of `classes_`.

        Raises
        ------
        InputError
            If the data cannot be used; the message names the first window, step and channel at
            fault. This error is also raised if the rows of a 2-D X seem to be samples of several
            channels, each with the label of its recording.
        SplitError
            If the split of a WindowSet puts windows of one group into two parts, or if no group can
            be held out.
        ArgumentError
            If an argument has an invalid value or leaves no windows to validate on.
        OutputError
            If the file `checkpoint` cannot be written.
        DivergedError
            If a loss or gradient is not finite in the first epoch.
        OutOfMemoryError
            If there is not enough memory.

        Warns
        -----
        LeakWarning
            If validation windows, drawn or given as `X_val`, share samples with training windows,
            or if there are no groups and each window continues the one before it.
        UserWarning
            If `y` contains a value that usually marks windows without a label, such as -1, if the
            padding of windows does not match their `lengths`, or if an array with few steps and
            many channels may be channel-first.
        """
        options = {
            "sample_weight": sample_weight,
            "groups": groups,
            "lengths": lengths,
            "X_val": X_val,
            "y_val": y_val,
            "groups_val": groups_val,
            "lengths_val": lengths_val,
        }
        self._fit(X, y, options)
        return self

    def _fit(self, X: Any, y: Any, options: Mapping[str, Any]) -> Trained:
        """Fit, and return the trained model with its histories."""
        with within_memory(_SMALLER), show_progress(self.verbose) as progress:
            arguments = check_arguments(self.get_params(deep=False), self._earlier())
            data = read_windows(arguments, X, y, **options)
            data = hold_out(arguments, data)
            scaled = scale_windows(arguments, data)
            trained = train_model(arguments, scaled, progress)
            choice = self._choice() if trained.choice is None else trained.choice
            judged = report_fit(arguments, scaled, trained, choice)
        refuse_diverged(arguments, trained, judged)
        self._keep(trained, judged)
        if isinstance(X, str | os.PathLike):  # rows of what was read are not rows of the file
            self._out_of_fold = None
        if (failed := trained.results[0].error) is not None:  # raised by a callback
            raise failed
        return trained

    def _earlier(self) -> TrainedModel | None:
        """Return the model from which a warm start continues, or None."""
        return self.model_ if self.warm_start and hasattr(self, "model_") else None

    def _choice(self) -> FeatureChoice:
        """Return `features_`, or the choice of the LSTM alone for an imported network."""
        return getattr(self, "features_", FeatureChoice())

    def _keep(self, trained: Trained, judged: Judged) -> None:
        """Store the results of a fit."""
        result = trained.results[0]
        self._set_model(trained.model)
        self.histories_ = trained.histories
        self.best_epoch_, self.best_score_ = result.best_epoch, result.best_score
        self.engine_, self._judged = result.engine, judged
        if trained.choice is not None:
            self.features_, self.refitted_ = trained.choice, trained.refitted
            self._held_out, self.adaptation_ = trained.held_out, None
        self._out_of_fold = trained.out_of_fold

    def _set_model(self, model: TrainedModel) -> None:
        """Store a model, and the attributes that scikit-learn expects."""
        self.model_ = model
        self.n_features_in_ = model.input.flat_timesteps or model.n_channels
        self.__dict__.pop("feature_names_in_", None)
        if model.input.feature_names is not None:
            self.feature_names_in_ = np.array(model.input.feature_names, dtype=object)

    # The learned values

    classes_ = _of_model("classes")
    temperature_ = _of_model("temperature")
    scaler_ = _of_model("scaler", TrainedModel.with_input)
    preparation_ = _of_model("preparation", TrainedModel.with_input)

    @property
    def patch_(self) -> Patch | None:
        """How samples become inputs of the LSTM, or None if each sample is one step."""
        return self.model_.lstm.patch

    @property
    def abstention_(self) -> Abstention:
        """The result of `fit_abstention`."""
        if self.model_.abstention is None:
            raise AttributeError("there is no abstention_ before fit_abstention.")
        return self.model_.abstention

    @abstention_.setter
    def abstention_(self, abstention: Abstention) -> None:
        self.model_ = replace(self.model_, abstention=abstention)

    @property
    def abstain_threshold_(self) -> float:
        """The threshold chosen by `fit_abstention`."""
        return self.abstention_.threshold

    @property
    def modules_(self) -> list[LSTMLinear]:
        """The networks of all members; `module_` is the first."""
        return modules_of(self.model_)

    @property
    def module_(self) -> LSTMLinear:
        """The network or, if there are several, the first one."""
        return self.modules_[0]

    @property
    def history_(self) -> History:
        """The history of the first member."""
        return self.histories_[0]

    @property
    def n_iter_(self) -> int:
        """Number of epochs run."""
        return len(self.history_)

    @property
    def fluctuation_(self) -> FluctuationReport:
        """The report; without features, the first access compares the network with other models."""
        if not hasattr(self, "_judged"):
            raise AttributeError(f"{type(self).__name__} has no fluctuation_ before fit.")
        report, facts, to_compare = self._judged
        if to_compare is not None:
            report = compare_level(report, *to_compare)
            self._judged = Judged(report, facts, None)
        return report

    # Predictions

    def _open(self, X: Any, name: str = "X") -> Any:
        """Open a prepared file, or check a table's column names; return any other X unchanged."""
        check_is_fitted(self)
        X = open_windows(X, self.scale, name)
        if not is_table(X):
            return X
        if self.model_.input.flat_timesteps is not None:
            validate_data(self, X, reset=False, skip_check_array=True)
        else:
            refuse_panel(X, name)
        return read_table(X, name)

    def predict(self: Fitted, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in the order of the file. Columns of DataFrames may be in any order if the
            channels had names in `fit`, from DataFrames, a WindowSet or a file.
        lengths : array of shape (n,), int, optional
            Number of valid steps of each window.
        """
        X = self._open(X)
        return self.model_.predict(X, lengths)

    def predict_proba(
        self: Fitted, X: Any, lengths: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return class probabilities: the softmax of the logits divided by `temperature_`.

        For an ensemble, the probabilities are averaged over its members. The result is a float64
        array of shape (n, n_classes) with columns in the order of `classes_`.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        X = self._open(X)
        return self.model_.predict_proba(X, lengths)

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits divided by `temperature_`; their softmax is `predict_proba`.

        For an ensemble, the logit is the logarithm of the members' mean probability. For two
        classes, the result has shape (n,), as in scikit-learn, and contains the logit of
        ``classes_[1]`` minus that of ``classes_[0]``.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        X = self._open(X)
        logits = self.model_.logits(X, lengths) / self.temperature_
        return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits)

    # scikit-learn's `score` accepts neither lengths nor a WindowSet
    def score(
        self: Fitted,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy. The columns of one-hot labels must be in the order of `classes_`.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        if isinstance(X, str | os.PathLike):
            X = self._open(X)
        return accuracy_of(self.predict(X, lengths), self.classes_, X, y, sample_weight)

    def predict_or_abstain(
        self: Fitted,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        threshold: float | None = None,
    ) -> Decisions:
        """Return the label of each window, with uncertain labels masked.

        Parameters
        ----------
        X, lengths : as in `predict`
        threshold : float, optional
            Minimum probability for which a label is returned; by default, the threshold chosen by
            `fit_abstention`.

        Returns
        -------
        Decisions
            The labels, the probabilities, and which windows got a label.

        Raises
        ------
        ArgumentError
            If `threshold` is out of range.
        InputError
            If no threshold is given and none has been chosen.
        """
        X = self._open(X)
        return self.model_.predict_or_abstain(X, lengths, threshold=threshold)

    def fit_abstention(
        self: AnyFitted,
        X: Any,
        y: Any = None,
        *,
        error_rate: float = 0.05,
        confidence: float = 0.9,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> AnyFitted:
        """Choose the probability below which to abstain, using windows not used in `fit`.

        The result is the lowest threshold for which the windows show that at most a fraction
        `error_rate` of the answers is wrong. Windows of one group are treated as correlated; see
        `sensorseq.estimator.uncertainty.choose_threshold`. With probability `confidence`, this
        bound holds on new recordings of the same kind. The bound does not cover other recordings,
        such as those of a new surface or robot. `save` also stores the results, `abstention_` and
        `abstain_threshold_`.

        Parameters
        ----------
        X, y, lengths : as in `fit`
            Held-out windows that are not used for training, for validation or for the final score
            that you report.
        error_rate : float, default=0.05
            Maximum allowed fraction of wrong answers, above 0 and below 1.
        confidence : float, default=0.9
            Confidence of this bound, above 0 and below 1.
        groups : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its groups or, if it has
            none, its recordings. Without either, all windows are treated as independent, although
            windows of one recording are not.

        Raises
        ------
        InputError
            If no threshold keeps this bound; the message gives the lowest error rate for which
            there is a threshold. This error is also raised if the windows were used in `fit` or
            have no labels.
        """
        X = self._open(X)
        fitted: Any = self
        abstention = find_abstention(
            fitted.model_,
            X,
            y,
            groups,
            lengths,
            error_rate=error_rate,
            confidence=confidence,
        )
        fitted.model_ = replace(fitted.model_, abstention=abstention)
        return self

    def stream(
        self,
        sample_rate_hz: float | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        smooth: Smooth = "none",
    ) -> DecisionStream:
        """Return a stream that prepares samples as in training and classifies them as they arrive.

        If the samples are complete and evenly spaced at `sample_rate_hz`, the decisions of the
        stream are bit for bit those of `sensorseq predict` on the whole recording. The sensor's
        clock may drift, and its timestamps may jitter by less than half a period. Samples missing
        in a gap of up to `max_gap_s` are interpolated linearly; after a longer gap, new windows
        begin.

        Parameters
        ----------
        sample_rate_hz : float, optional
            Rate of the samples in Hz; by default, the rate to which the recordings were resampled.
        max_gap_s : float, optional
            Longest gap to bridge; by default, the value used in training, which is ten periods
            unless it was set.
        max_delay_s : float, default=0
            How long to wait for samples that arrive out of order according to their timestamps.
            All decisions are delayed by this time. Samples that arrive even later are ignored and
            counted.
        smooth : {"none", "filter", "lag"} or Smoothing, default="none"
            ``"filter"`` also uses the earlier windows for a decision. ``"lag"`` additionally waits
            for the next three windows (``Smoothing("lag", lag=5)`` for five), which delays each
            decision by the `latency_s` of the stream; the classes are bit for bit those of
            `timeline` with the same lag. The class may change during a gap between windows.

        Returns
        -------
        DecisionStream
            The stream, with the methods `push` and `flush`.

        Raises
        ------
        InputError
            If the model has no record of how its windows were prepared, or if the preparation needs
            whole recordings.
        """
        check_is_fitted(self)
        return self.model_.stream(
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            smooth=smooth,
        )

    def timeline(
        self: Fitted,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: Smooth = "marginals",
    ) -> Timeline:
        """Return the class over time, as segments of one class instead of single windows.

        A robot usually stays in one class for a while, so the neighbors of a window are also
        evidence for its class. A hidden Markov model of each recording uses this evidence.

        Parameters
        ----------
        X : array of shape (n_windows, n_timesteps, n_channels), WindowSet, or list of Recording
            Recordings are cut into windows as in training.
        recording_id : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its recordings, and an
            array is treated as one recording.
        start_s : array of shape (n_windows,), optional
            Start time of each window in seconds; by default, a WindowSet provides its start times.
        lengths : as in `predict`
        window_s : float, optional
            Length of the windows in seconds, if X is an array; by default, the time from one window
            to the next.
        smooth : {"none", "filter", "lag", "marginals"} or Smoothing, default="marginals"
            Which windows determine the class of a window. ``"none"`` uses only that window,
            ``"filter"`` also uses all earlier windows, and ``"lag"`` additionally uses the next
            three windows. ``"marginals"`` uses all windows. A `sensorseq.sequence.Smoothing` also
            sets the lag, how long classes last, and which classes follow which.

        Returns
        -------
        Timeline
            The timeline, with its `spans` and the probabilities of each window.

        Raises
        ------
        InputError
            If the times of the windows are unknown.
        ArgumentError
            If `smooth` is not known or does not use a field that is given, if a dwell time is
            shorter than a window, or if `transitions` has a wrong shape.

        Examples
        --------
        >>> usual = Smoothing(mean_dwell_s=30)  # doctest: +SKIP
        >>> clf.timeline(recordings, smooth=usual).to_csv("drive.csv")  # doctest: +SKIP
        """
        X = self._open(X)
        return self.model_.timeline(
            X,
            recording_id,
            start_s,
            lengths,
            window_s=window_s,
            smooth=smooth,
        )

    def predict_recordings(
        self: Fitted,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return one label for each recording, based on all its windows.

        Parameters
        ----------
        X, lengths : as in `predict`
        recording_id : array of shape (n_windows,), optional
            The recording of each window. By default, a WindowSet provides its recordings.
        how : {"mean", "vote"}, default="mean"
            ``"mean"`` returns the class with the highest mean probability, so uncertain windows
            count less. ``"vote"`` returns the majority vote of the windows, which a few confident
            errors cannot change; a tie goes to the class with the higher mean probability.

        Returns
        -------
        list of RecordingDecision
            One decision for each recording, in the order in which the recordings first appear.
        """
        X = self._open(X)
        return self.model_.predict_recordings(X, recording_id, lengths, how=how)

    def outside(self: Fitted, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike all training windows, such as windows recorded in a different unit.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        OutsideWindows
            The windows that were found, with the reason for each channel.

        Raises
        ------
        InputError
            If the model has no ranges because it was imported.

        Notes
        -----
        `fit` records the extremes of its windows, except those of the test part; `adapt` and a warm
        start widen these extremes. A window is outside if any channel lies too far beyond the
        recorded extremes. For values, the limit is half of the recorded range. For the standard
        deviation, and for the fraction of the power in each of eight frequency bands, the limit is
        a factor of 10. For the standard deviation relative to the other channels, the limit is a
        factor of 3. A window is also outside if it has a constant channel that was never constant
        in training. docs/validation.md lists the faults that this method finds and those that it
        misses.
        """
        X = self._open(X)
        return self.model_.outside(X, lengths)

    def held_out_predictions(
        self, n_windows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return the indices of held-out windows, and their class probabilities before any refit.

        The indices are positions in the validation part. The result is None if there was no refit,
        if the estimator was loaded from a file or adapted, or if there are more than `n_windows`
        held-out windows.

        Parameters
        ----------
        n_windows : int
            Number of windows in the validation part.
        """
        check_integer("n_windows", n_windows, 0)
        held_out = self._held_out
        if held_out is None or not 0 < len(held_out[0]) <= n_windows:
            return None
        rows, outputs = held_out
        return rows, softmax(outputs / self.temperature_)

    def out_of_fold_predictions(
        self,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return indices and cross-validated class probabilities of training windows.

        The folds are those used to weight the features (see `features`). Each window is predicted
        by models that were not fitted on it. Only the weights of these models in the sum of logits
        were fitted on the predicted windows. There are at most 6,000 indices, which are positions
        in the X given to `fit`. The result is None if the fit weighted no features, used `X_val` or
        read a prepared file by its path, or if the estimator was loaded from a file.
        """
        return with_probabilities(self._out_of_fold, self.model_) if self._out_of_fold else None

    def explain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        label: ArrayLike | None = None,
        n_regions: int = 10,
    ) -> Explanation:
        """Explain which channels and time intervals each decision is based on.

        One region of one channel at a time is set to zero after scaling (for ``scale="standard"``,
        zero is the training mean of the channel), and the decrease in the log-probability is
        measured. The sum of these decreases has no meaning.

        Parameters
        ----------
        X, lengths : as in `predict`
        label : label or array of shape (n_windows,), optional
            Class to explain; by default, the predicted class.
        n_regions : int, default=10
            Number of time intervals of equal length.

        Returns
        -------
        Explanation
            The explanation, whose `contributions` and `shares` have the shape (n_windows,
            n_regions, n_channels).

        Raises
        ------
        ArgumentError
            If an argument is invalid.
        InputError
            If the windows cannot be used, or if X is a prepared file larger than the buffer for
            reading files.
        """
        windows, model = self._in_memory(X, lengths), self.model_
        windows, lacks = model.input.without_failed(windows)
        model.check_not_empty(lacks)
        return explain(
            model,
            model.input.scaled(windows),
            model.temperature,
            model.classes,
            label=label,
            n_regions=n_regions,
        )

    def _in_memory(self, X: Any, lengths: ArrayLike | None) -> Windows:
        """Read windows into memory for `explain`."""
        X = self._open(X)
        windows = self.model_.input.read(X, lengths)
        if windows.are_stored and windows.X.nbytes > buffer_bytes():
            raise InputError(
                "X is larger than the buffer for reading files; explain only some of the windows,"
                " such as X.part('test').take(range(1000))."
            )
        return windows.held()

    def adapt(
        self,
        X: Any,
        y: Any = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Return a copy adapted to another robot, using a few labeled windows from that robot.

        The scaling is moved toward the scaling of the new windows if this lowers their log-loss by
        more than 0.3 nats and by more than its standard error over the classes. One window of each
        class is enough. All weights stay the same.

        Parameters
        ----------
        X : as in `fit`
            Windows with the channels and sample rate of `fit`. The ``"test"`` part of a WindowSet
            or a prepared file is not used.
        y : array of shape (n,) or (n, n_classes), optional
            Labels of classes known from `fit`; not every class needs to occur. Not needed if X has
            labels.
        lengths : array of shape (n,), int, optional
            Number of valid steps of each window.

        Returns
        -------
        SensorLSTMClassifier
            A fitted copy without the threshold of `fit_abstention`. Its `adaptation_` tells how far
            the scaling was moved, or why it was kept; its `history_`, `features_` and
            `fluctuation_` are those of the original fit.

        Raises
        ------
        InputError
            If a label is not a class of this model, or if the channels or the sample rate differ.
        """
        X = self._open(X)
        source = model_digest(*self._stored()) if self.model_.sum.is_plain else None
        adapted = copy.copy(self)
        model, adapted.adaptation_ = adapt(self.model_, source, X, y, lengths)
        adapted._set_model(model)
        adapted._held_out = adapted._out_of_fold = None
        return adapted

    # Files and exports

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        The file contains the weights, the scaling, the classes, the history, the report and all
        arguments. The file appears only when it is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that cannot be stored as plain data.
        """
        check_is_fitted(self)
        write_model(path, *self._stored())

    def _stored(self) -> Contents:
        """Return the contents of this estimator's model file."""
        arrays, description = model_contents(
            self.model_,
            self.get_params(deep=False),
            self.histories_,
            best_epoch=self.best_epoch_,
            best_score=self.best_score_,
            engine=self.engine_,
            facts=self._judged.facts,
            features=self._choice(),
            refitted=getattr(self, "refitted_", False),
            adaptation=self.adaptation_,
        )
        return arrays, {**description, "fluctuation": self.fluctuation_.to_dict()}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Load a fitted estimator written by `save`. Nothing in the file is executed.

        Parameters
        ----------
        path : str or path
            The file.
        device : str, optional
            Device to use instead of the saved device, such as ``"cpu"`` if a GPU was used.

        Raises
        ------
        ModelFileError
            If the file is truncated or damaged, or if it was written by another program or a newer
            version.
        """
        loaded: Self = load_file(path, device, single=cls._restored)
        return loaded

    @classmethod
    def _restored(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        path: str | os.PathLike[str],
        device: str | None,
    ) -> Self:
        """Rebuild an estimator from the contents of the file at `path`."""
        take = partial(take_field, description, path=path)
        histories = [take("history", list), *take("other_histories", list)]
        take("versions", dict)  # used only in messages
        estimator = cls(**current_arguments(take("parameters", dict)))
        check_stored(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        estimator.histories_ = [History(rows) for rows in histories]
        estimator.best_epoch_ = take("best_epoch", int)
        estimator.best_score_ = take("best_score", float)
        estimator.engine_ = EngineChoice(*check_texts("engine", take("engine", list)))
        facts = take("report_facts", dict)
        report = estimator._made_report(facts)  # made even if it is not used, to check the facts
        if "fluctuation" in description:
            try:
                report = FluctuationReport._from_dict(take("fluctuation", dict), is_page=False)
            except ArgumentError as error:
                raise ModelFileError(f"{path}: {error}") from error
        estimator._judged = Judged(report, facts, None)
        estimator._set_model(read_fitted(arrays, description, path, estimator.device))
        adaptation = take("adaptation", dict | None)
        estimator.adaptation_ = None if adaptation is None else Adaptation(**adaptation)
        estimator.refitted_ = take("refitted", bool)
        choice = estimator.features_ = FeatureChoice.from_dict(take("features", dict))
        if choice.candidates:
            estimator._judged = Judged(replace(report, model=choice), facts, None)
        return estimator

    def _made_report(self, facts: Mapping[str, Any]) -> FluctuationReport:
        """Return a report that is made without the training record of the fit."""
        return make_report(
            self.history_,
            self.loss,
            best_epoch=self.best_epoch_ or None,
            arguments=self.get_params(deep=False),
            **facts,
        )

    @classmethod
    def from_torch(
        cls,
        lstm: torch.nn.LSTM,
        linear: torch.nn.Linear,
        *,
        pooling: str = "last",
        classes: ArrayLike | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a fitted estimator with the weights of a `torch.nn.LSTM` and a linear layer.

        The estimator expects windows scaled as for that network; its `scaler_` is None.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            An LSTM with biases and without projection.
        linear : torch.nn.Linear
            The layer that computes the logits. A single logit is the log-odds of the second class.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            The pooling between the two layers.
        classes : array-like of shape (n_classes,), optional
            Label of each logit; by default, 0 to k - 1.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Raises
        ------
        ArgumentError
            If a layer has no bias or has a projection, or the sizes do not match.
        """
        module = LSTMLinear.from_torch(lstm, linear, pooling)
        arguments, model = imported(module, arguments, classes)
        estimator = cls(**arguments)
        estimator._set_model(model)
        estimator.histories_ = [History()]
        estimator.best_epoch_, estimator.best_score_ = 0, float("nan")
        estimator.engine_ = EngineChoice("none", "the weights were taken from torch.nn.LSTM")
        estimator.adaptation_ = None
        facts = {"n_val": None, "n_train": None}
        estimator._judged = Judged(estimator._made_report(facts), facts, None)
        return estimator

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        lengths: bool | None = None,
        steps: bool = False,
        dtype: str = "float32",
    ) -> None:
        """Write an ONNX model that computes `predict_proba`.

        The graph accepts windows in the form given to `fit`, and includes cropping, scaling, all
        networks, `features` and the temperature. The probabilities are NaN for windows that
        `predict_proba` refuses because of their values. The graph uses opset 17 and runs in
        onnxruntime 1.15 or later. Windows must be prepared as in training; see `steps`. The
        metadata contain the preparation, the classes, channels, units and sample rate, and the
        SHA-256 of the model file. This method requires the extra ``onnx``.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        n_timesteps : int, optional
            Number of timesteps of every window; a fixed number lets onnxruntime precompute more. By
            default, the graph accepts windows with any number of steps.
        lengths : bool, optional
            Whether the graph has an input ``lengths`` of shape (n,) and type int64, the number of
            valid steps of each window, 1 to t. By default, the graph has this input if the windows
            in `fit` differed in length.
        steps : bool, default=False
            Whether to include the preparation steps, so that the graph accepts windows of
            unprepared samples at the model's sample rate. Products, power, differences of channels,
            signed channels and magnitudes can be exported. If a step depends on earlier samples, as
            a filter does, an error that names the step is raised.
        dtype : {"float32", "float64"}, default="float32"
            Type of the input ``X``, which has shape (n, t, c), or (n, t) after a fit on a table.
            The output ``probabilities``, of shape (n, n_classes), is always float32.

        Raises
        ------
        InputError
            If the graph cannot compute part of the model: ``normalize="recording"``
            or your own function as `features`.
        EnvironmentProblemError
            If the library onnx is missing.
        """
        check_is_fitted(self)
        options: dict[str, Any] = {"n_timesteps": n_timesteps, "lengths": lengths, "dtype": dtype}
        write_onnx(self.model_, path, **options, steps=steps, stored=self._stored)

    def to_c(
        self,
        folder: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        hop: int | None = None,
        sample_rate_hz: float | None = None,
        units: Mapping[str, str] | None = None,
        weights: str = "float32",
        check: WindowSet | str | os.PathLike[str] | None = None,
        prefix: str = "sensorseq",
        smooth: Smooth = "none",
    ) -> CExport:
        """Write the classifier as C99: one header and one source file, without malloc.

        ``sensorseq_push(&state, sample, probabilities)`` takes one raw sample and returns 1 when a
        window is complete. Resampling, causal steps, scaling, networks, features and
        `temperature_` are included. With float32 weights, the probabilities of a window agree with
        those of `predict_proba` within 1e-5.

        Parameters
        ----------
        folder : str or path
            Folder for ``sensorseq_model.h`` and ``sensorseq_model.c``; created if missing.
        n_timesteps : int, optional
            Number of samples in a window; by default, as in training. Required after `from_torch`.
        hop : int, optional
            Number of samples from the start of one window to the start of the next, at the sample
            rate of the windows. By default, as in the preparation; without a preparation, windows
            do not overlap.
        sample_rate_hz : float, optional
            Rate in Hz of the samples that are pushed, if the C code is to resample them. By
            default, the samples must already have the rate to which the training recordings were
            resampled.
        units : mapping of str to str, optional
            Units of input channels, such as ``{"current": "mA"}``; needed for steps that multiply
            channels.
        weights : {"float32", "int8"}, default="float32"
            Type of the weights. ``"int8"`` needs a quarter of the memory and has one scale for each
            row; activations stay float32.
        check : WindowSet or path of a prepared file, optional
            Labeled windows on which to measure the accuracy with these weights; the accuracy is
            written into the header. The validation part is used, or all windows if there is no
            split.
        prefix : str, default="sensorseq"
            Prefix of all names in C and of the file names.
        smooth : {"none", "filter", "lag"} or Smoothing, default="none"
            ``"filter"`` and ``"lag"`` also write ``sensorseq_smooth(&smoother, probabilities,
            smoothed)``, which smooths the probabilities from ``sensorseq_push`` over time. The
            results agree with those of `stream` within 1e-5. The smoother needs ``8 * (lag + 1)``
            bytes for each class.

        Returns
        -------
        CExport
            The paths of the files, and the RAM, flash and multiply-adds that the code needs; print
            it to see a table.

        Raises
        ------
        InputError
            If part of the model cannot be written in C: your own function as `features`,
            ``normalize="recording"``, or a step with ``phase="zero"``.
        ArgumentError
            If an argument does not match the model.
        """
        check_is_fitted(self)
        options = COptions(
            n_timesteps=n_timesteps,
            hop=hop,
            sample_rate_hz=sample_rate_hz,
            units=units,
            weights=weights,
            check=None if check is None else self._open(check, "check"),
            prefix=prefix,
            smoothing=self.model_.smoothing(smooth),
            is_refitted=getattr(self, "refitted_", False),
        )
        return write_texts(folder, *render_c(self.model_, options))

    # scikit-learn

    def set_params(self, **params: Any) -> Self:
        """Set arguments; after `fit`, only `device` has an effect before the next `fit`.

        Parameters
        ----------
        **params : dict
            Names and values of arguments.
        """
        super().set_params(**params)
        if "device" in params and hasattr(self, "model_"):
            self.model_ = with_modules(self.model_, modules_of(self.model_), self.device)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" not in state:
            return state
        report = self.fluctuation_.to_dict()  # needs windows that a pickle lacks
        state["model_"] = packed(self.model_)
        state["_judged"] = report, {**self._judged.facts, "data_facts": ()}
        state["histories_"] = [history.to_rows() for history in self.histories_]
        state["engine_"] = list(self.engine_)
        state["adaptation_"] = None if self.adaptation_ is None else dict(vars(self.adaptation_))
        if "features_" in state:
            state["features_"] = self.features_.to_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if {"module_", "plain_module_"} & set(state):
            raise InputError(
                "this pickle was written by a version that is no longer supported. Fit the model"
                " again with this version, and write the model with `save`."
            )
        if "model_" in state:
            report, facts = state["_judged"]
            state["_judged"] = Judged(FluctuationReport.from_dict(report), facts, None)
            state["model_"] = unpacked(state["model_"])
            state["histories_"] = [History(rows) for rows in state["histories_"]]
            state["engine_"] = EngineChoice(*state["engine_"])
            if state["adaptation_"] is not None:
                state["adaptation_"] = Adaptation(**state["adaptation_"])
            if "features_" in state:
                state["features_"] = FeatureChoice.from_dict(state["features_"])
        super().__setstate__(state)
