"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import copy
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.checks import check_integer
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.rival_models import compare_level
from sensorseq.errors import (
    ArgumentError,
    InputError,
    ModelFileError,
    within_memory,
)
from sensorseq.estimator.adapt import Adaptation, adapt, copy_model
from sensorseq.estimator.explain import Explanation, explain
from sensorseq.estimator.fit import (
    Judged,
    Trained,
    make_jobs,
    refuse_diverged,
    report_fit,
    show_progress,
    train_model,
)
from sensorseq.estimator.fit_windows import (
    check_arguments,
    hold_out,
    read_and_scale,
    read_table,
    read_windows,
    scale_windows,
)
from sensorseq.estimator.refit import plan_refit
from sensorseq.estimator.report import make_report
from sensorseq.estimator.runner import FitOrigin, copied
from sensorseq.estimator.saving import (
    Contents,
    imported,
    load_file,
    model_contents,
    packed,
    read_fitted,
    unpacked,
)
from sensorseq.estimator.uncertainty import (
    accuracy_of,
    find_abstention,
    out_of_fold_of,
)
from sensorseq.export.c_source import CExport, COptions, render_c, write_texts
from sensorseq.export.to_onnx import write_onnx
from sensorseq.history import History
from sensorseq.inspection.check_result import Diagnosis
from sensorseq.inspection.short_trainings import CheckedFit
from sensorseq.inspection.training_check import run_checks
from sensorseq.io.model_file import (
    check_texts,
    model_digest,
    take_field,
    write_model,
)
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.prediction.decisions import Abstention, Decisions, RecordingDecision, softmax
from sensorseq.prediction.head import FeatureChoice
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.stream import DecisionStream
from sensorseq.prediction.windows import Windows, is_table
from sensorseq.sequence import Timeline
from sensorseq.training import EngineChoice
from sensorseq.training.engine import TrainingJob
from sensorseq.training.evaluation import ModuleNetwork, modules_of
from sensorseq.training.inputs import open_windows
from sensorseq.training.parameters import check_parameters
from sensorseq.windows import WindowSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMALLER = (
    "use a smaller hidden_size, batch_size or n_models, fewer or shorter windows, or the path of a"
    " prepared file, which is read in parts"
)


def _of_model(name: str) -> Any:
    """Return a property with a field of `model_`."""

    def set_field(self: "SensorLSTMClassifier", value: Any) -> None:
        self.model_ = replace(self.model_, **{name: value})

    def get_field(self: "SensorLSTMClassifier") -> Any:
        if not hasattr(self, "model_"):
            raise AttributeError(f"{type(self).__name__} has no {name}_ before fit.")
        return getattr(self.model_, name)

    return property(get_field, set_field)


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
        How the hidden states of the valid steps are reduced to one vector.
    dropout : float, default=0.3
        Probability of dropping each input of the head and of every layer after the first.
    recurrent_dropout : float, default=0.0
        Probability of dropping a hidden unit where it enters the gates, with one mask per window.
    head_norm : {"none", "batch", "layer"}, default="none"
        Normalization of the pooled vector.
    weight_init : {"xavier", "he", "orthogonal", "uniform"} or callable, default="xavier"
        Initialization of the input and head weights; ``"uniform"`` is torch's default. A callable
        gets ``(name, tensor, generator)`` and fills the tensor in place.
    recurrent_init : {"orthogonal", "xavier", "he", "uniform"} or callable, default="orthogonal"
        Initialization of the recurrent weights.
    forget_bias : float, default=1.0
        Initial bias of the forget gate; the other biases start at zero.
    loss : {"cross_entropy", "focal", "mse"} or callable, default="cross_entropy"
        Loss of each window. A callable gets ``(logits, class_index)`` and returns one value for
        each window.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes, in training and in `val_loss`.
    class_weight : None, "balanced", "effective_number" or dict, default=None
        Factor of each class in the loss. ``"balanced"`` is ``n / (k * count)`` over the training
        part; ``"effective_number"`` reduces large classes less, see
        `sensorseq.preprocessing.windows.class_weights`. It does not affect `val_loss`.
    optimizer : {"adam", "adamw", "lion", "rmsprop", "sgd"}, default="adamw"
        torch's optimizer of that name, except ``"lion"``: see `sensorseq.training.optim.Lion`.
    learning_rate : float, default=3e-3
        Highest learning rate; see `lr_schedule`.
    momentum : float, default=0.9
        Momentum of ``optimizer="sgd"``; the other optimizers ignore it.
    optimizer_params : dict, optional
        Further arguments of the optimizer under torch's names: eps, betas, amsgrad, alpha,
        centered, nesterov, dampening; for rmsprop, momentum.
    lr_schedule : {"constant", "cosine", "plateau", "one_cycle"}, default="cosine"
        ``"cosine"`` decays to a hundredth at the last epoch of the run, which `max_epochs` and
        `max_steps` determine; ``"plateau"`` halves the rate when the monitored value has not
        improved for a quarter of `patience`; ``"one_cycle"`` rises for 30 % of the steps, then
        falls to nearly zero.
    warmup_epochs : int or float, default=0.05
        Epochs of linear increase before the schedule. A float in (0, 1) is a share of all optimizer
        steps of the run: 0.05 of 1000 steps are 50, and at least one. ``"one_cycle"`` has its own
        warm-up: it ignores a share and rejects a number of epochs.
    ema_decay : float, optional
        Decay of an exponential moving average of the weights. If given, the averaged weights are
        validated and kept.
    batch_size : int or None, default=32
        Windows per step; None uses all windows in each step.
    sampler : {"shuffle", "balanced", "sqrt"}, default="shuffle"
        ``"balanced"`` draws each class equally often, ``"sqrt"`` in proportion to the square root
        of its number of windows.
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs. ``"auto"`` chooses enough for 400 optimizer steps on the training
        part, but at least 24 and at most 200.
    max_steps : int, optional
        Bound on the optimizer steps: the run has ``ceil(max_steps / steps per epoch)`` epochs if
        that is less than `max_epochs`. It ends with the epoch in which `max_steps` is reached, and
        the schedule of the learning rate ends with it.
    max_grad_norm : float or None, default=1.0
        Bound for gradient clipping, see `clip_by`; None turns clipping off.
    clip_by : {"norm", "value"}, default="norm"
        Whether `max_grad_norm` bounds the global norm of the gradient or each of its elements.
    weight_decay : float, default=1e-3
        As in torch: decoupled in adamw and lion, an L2 penalty in the others. It acts on every
        parameter.
    l1 : float, default=0.0
        Factor of the sum of absolute weights, without biases.
    max_timesteps : int, optional
        Maximum window length; longer windows are cropped, also in prediction.
    crop : {"head", "tail", "centre", "random"}, default="head"
        Which steps of a longer window to keep; ``"random"`` draws a new crop in each epoch and
        predicts on the centre.
    augment : None, "standard", dict or Augmentation, default=None
        Randomly change every training window in each epoch. A dict gives the fields of
        `sensorseq.preprocessing.Augmentation`; its `mirror`, `swap` and `axes` refer to channels by
        number or, for a WindowSet or a prepared file, by name. Features are fitted to the windows
        and to one changed copy of each.
    early_stopping : bool, default=False
        Stop when `monitor` has not improved by more than `tol` for `patience` epochs. By default
        the schedule is completed, because a validation part of few recordings often favors an
        epoch from before the learning rate has fallen.
    validation_fraction : float, default=0.2
        Share held out for validation in whole groups, with or without early stopping; 0 holds out
        nothing. Ignored with `X_val` or a WindowSet that has a split.
    patience, tol : int, default=20, and float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}, default="val_loss"
        The column of the history that decides which epoch is best.
    restore_best : bool, optional
        Keep the weights of the best epoch. If False, or without validation windows, keep the
        weights of the last epoch. None means the value of `early_stopping`.
    scale : str or None, default="standard"
        Scaling of each channel, fitted only on the training part: ``"standard"``, ``"robust"``,
        ``"min_max"``, ``"max_abs"`` or ``"quantile"``; see
        `sensorseq.preprocessing.scale.fit_scaler`. ``"physical"`` divides by the rated values given
        when a WindowSet or a file was prepared.
    calibrate : bool, default=False
        Divide the logits by `temperature_`, fitted on the validation windows after training, so
        that about 80 % of the windows with probability 0.8 are classified correctly. `predict` is
        unchanged. With early stopping, which uses the same windows, some overconfidence may remain;
        measure it on other windows with `sensorseq.evaluation.calibration.calibration_error`.
    device : str, default="auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. ``"auto"`` uses a GPU if our CUDA kernels
        support this network there (see ``sensorseq info``) and `engine` is not ``"native"``;
        otherwise it uses the CPU. A CUDA kernel is used only after it has passed a check on this
        GPU, which the first `fit` runs (at most a minute). The environment variable
        ``SENSORSEQ_CUDA_KERNELS=0`` turns all of them off.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network.
    engine : {"auto", "native", "autograd"}, default="auto"
        How the optimizer steps are run: whole epochs in one native call, or step by step with
        autograd. ``"auto"`` uses the native engine where it supports the training, see `engine_`;
        on a GPU it supports float32 with one layer, up to 16 channels and no `head_norm`. Both
        engines give the same training up to rounding.
    n_models : int, default=1
        Number of networks in an ensemble, whose probabilities are averaged. Each has its own
        initial weights, order and dropout on the same split. They train side by side if the native
        engine supports them and the windows fit in memory; otherwise one after another. The first
        member is bit for bit the result of ``n_models=1``. Callbacks are called for every member.
    warm_start : bool, default=False
        Continue from the weights and the scaling of the last fit, or of a loaded model, with a new
        optimizer. The models on `features` are kept unchanged.
    checkpoint : str or path, optional
        Model file to which the network is written after each epoch that improves `monitor`, or
        after each epoch if nothing is held out: only the LSTM (of an ensemble, the first one),
        without `features`, `refit` and `calibrate`. The file is replaced as a whole, so a killed
        process leaves the last complete one, which `load` reads. Continue from it with
        `warm_start`.
    callbacks : list, optional
        Objects with `on_fit_begin`, `on_epoch_begin`, `on_epoch_end` or `on_fit_end`; see
        `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes a line for every epoch unless stderr is a terminal.
    random_state : int, RandomState or None, default=None
        Seed of split, initial weights, order, crops and dropout. The same integer gives bit for bit
        the same result on one machine; with the native engine (see `engine_`) also with any number
        of threads, except for the last digits of the contribution of `features`, which LAPACK and
        scikit-learn compute.
    features : "auto", None, name, callable or list, default="auto"
        Models on features, whose logits are added to those of the LSTM. Linear layers, fitted by
        ridge regression in closed form, use random convolutions (``"rocket"``, see
        `sensorseq.features.RandomConvolutions`), competing kernels (``"hydra"``, see
        `sensorseq.features.CompetingKernels`), summary statistics divided into ranges
        (``"summary"``, see `sensorseq.features.SummarySteps`), or the result of your own function
        ``(windows, lengths) -> array of shape (n, f)`` of scaled windows. Gradient boosting uses
        summary statistics (``"boosting"``, see `sensorseq.features.SummaryFeatures`). The factors
        of the sum minimize the log-loss on windows left out in whole groups. ``"auto"`` tries the
        four named models and keeps those that lower this log-loss; it may also leave out the LSTM.
        `features_` has the choice and the reasons. With `refit`, or with nothing held out, windows
        are left out in three folds, for which the network is trained two or three more times;
        otherwise the validation part is used. None uses the LSTM alone. For windows that stay in
        their file, features are fitted to a sample of them, and there are none with ``"auto"`` if
        nothing is held out.
    refit : "auto", "all" or None, default="auto"
        How the model also learns from the held-out windows, once the curve, the report and the
        probabilities have been computed. ``"auto"``, for up to 20,000 windows and without
        `warm_start`, keeps the networks of the three folds, which together have been trained on all
        windows; prediction averages their probabilities. Without such folds, and with ``"all"``,
        one network is trained on all windows for the same number of steps. None keeps the network
        of the training part. `X_val` is never trained on.
    patch : "auto", int or None, default="auto"
        Samples per frame. The network reads a window in frames that overlap by half, and for each
        frame and channel gets the mean, the variance, the minimum, the maximum and the power in up
        to six bands of the spectrum. Long windows are then faster and usually classified better.
        ``"auto"`` uses a twentieth of a window, but at least 8 samples, and no frames for windows
        of fewer than 28 samples. None gives the network every sample. `features` are computed from
        samples in any case.
    missing : {"error", "expected", "outside"}, default="error"
        How to treat NaN. ``"error"`` raises an error. ``"expected"`` interpolates linearly, and
        replaces a channel without a number by its mean in training; `fit` needs numbers in all
        channels. ``"outside"`` does the same, and in prediction also treats a channel as missing if
        `outside` reports it as constant, or its values or spread as out of range. Set it before
        `fit`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the columns of `predict_proba`; 0 to k - 1 for one-hot `y`.
    model_ : TrainedModel
        Everything that predictions need, as `sensorseq.prediction.load` returns it.
    n_features_in_ : int
        Number of timesteps of 2-D input, otherwise number of channels.
    feature_names_in_ : ndarray of str
        Column names, if X was a 2-D table or a list of DataFrames with names.
    n_iter_ : int
        Number of epochs run.
    best_epoch_, best_score_ : int and float
        The epoch whose weights are kept, counted from 1, and its monitored value.
    history_, histories_ : History and list of History
        One row per epoch. In an ensemble, `history_` and the other values of a run belong to the
        first member, and `histories_` has one history for each member.
    fluctuation_ : FluctuationReport
        Whether and how much the curve fluctuates, and the reasons for this verdict. Its thresholds
        for a loss assume cross-entropy in nats; any other `loss` is only checked for values that
        are not finite.
    features_ : FeatureChoice
        The chosen features, the reasons, and the log-loss and accuracy of each kind alone and of
        all together on windows left out. Print it to read it.
    refitted_ : bool
        Whether the model also learned from the held-out windows, see `refit`.
    patch_ : Patch or None
        How samples become the inputs of the networks, see `patch`; None if each sample is a step.
    scaler_ : Scaler or None
        The scaler, fitted on the training part.
    module_, modules_ : LSTMLinear and list of LSTMLinear
        The first network, and the networks of all members of an ensemble or of all folds, in
        evaluation mode. Their inputs are scaled windows, divided into frames if there is a
        `patch_`: ``patch_.apply(windows, lengths)``. Without features their outputs are the logits
        before division by `temperature_`.
    temperature_ : float
        Divisor of the logits; 1 unless ``calibrate=True``.
    abstention_, abstain_threshold_ : Abstention and float
        The result of `fit_abstention` with the figures it is based on. Windows whose highest
        probability is below the threshold get no label.
    adaptation_ : Adaptation or None
        The changes that `adapt` made, and the model it started from; None if this is not an adapted
        copy.
    preparation_ : dict or None
        How the windows were prepared and which recordings were used for training, if X was a
        WindowSet or a prepared file; see `sensorseq.training.prepared_windows`.
    engine_ : EngineChoice
        The engine that was used, and why.

    Notes
    -----
    Arrays have shape (n, t, c), or (n, t) for one channel. A 3-D array with one step and several
    channels, or with at most 16 steps and at least 32 channels, looks like (n, c, t); `fit` rejects
    it unless `lengths` is given.

    A loss that is not finite ends the training: the weights of the best epoch are kept, a
    ConvergenceWarning is issued and the verdict is ``"diverged"``. If it happens in the first
    epoch, `DivergedError` is raised, whose `fluctuation` is the report. A fit that raises leaves
    the estimator as it was, unless a callback raised after an epoch.

    Ctrl-C after the first epoch ends the training, not the program: the weights of the last
    complete epoch (with early stopping, of the best epoch) are kept and a warning is issued. A
    search or cross-validation continues with its next fit; a second Ctrl-C within two seconds ends
    it, too. Members of an ensemble that have not started are dropped.

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

    # Requested by default, because a user who passes them to a search or pipeline means this
    # estimator.
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
    # rows and outputs of the held-out part, from before any refit
    _held_out: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

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
        momentum: float = 0.9,
        optimizer_params: Mapping[str, Any] | None = None,
        lr_schedule: str = "cosine",
        warmup_epochs: int | float = 0.05,
        ema_decay: float | None = None,
        batch_size: int | None = 32,
        sampler: str = "shuffle",
        max_epochs: int | str = "auto",
        max_steps: int | None = None,
        max_grad_norm: float | None = 1.0,
        clip_by: str = "norm",
        weight_decay: float = 1e-3,
        l1: float = 0.0,
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
            contain DataFrames: if the columns of the first one have text names, these are the
            channels, and columns of the others, also in predictions, are read by name. If a
            WindowSet or a file has a split, ``"train"`` is used for training, ``"validation"`` for
            validation, and ``"test"`` is not used. The windows of a WindowSet are neither scaled
            nor balanced, whatever the pipeline's settings; the `scale` and `sampler` of this
            estimator apply to them. A prepared file contains its scaler, used if it matches
            `scale`, and the indices of its balanced training windows. For windows of several
            sensors use `SensorFusionClassifier`.
        y : array of shape (n,) or (n, k), optional
            Labels, or exactly one-hot columns. Not needed if a WindowSet has labels; a file
            contains its own.
        sample_weight : array of shape (n,), optional
            Factor of each window in the loss; a window with weight zero is ignored.
        groups : array of shape (n,), optional
            Windows of one group (recording, subject, day) stay on one side of the validation split.
            A WindowSet has its own groups, or uses its recordings. Not allowed with a WindowSet
            that has a split.
        lengths : array of shape (n,), int, optional
            Valid steps of each window, 1 to t; later steps are ignored.
        X_val, y_val, groups_val, lengths_val : optional
            Windows to validate on instead of a held-out part. One-hot columns are in the order of
            `classes_`.

        Raises
        ------
        InputError
            If the data cannot be used; the message names the first window, step and channel at
            fault. Also if the rows of (n, t) seem to be samples of several channels, each with the
            label of its recording.
        SplitError
            If a WindowSet's split has one group in two parts, or no group can be held out.
        ArgumentError
            If an argument has an invalid value, or leaves nothing to validate on.
        OutputError
            If the file `checkpoint` cannot be written.
        DivergedError
            If the loss is not finite in the first epoch.
        OutOfMemoryError
            If the memory is full.

        Warns
        -----
        LeakWarning
            If windows on both sides of the validation split share samples, or if there are no
            groups and each window continues the one before it.
        UserWarning
            If a label probably marks windows without a label, as -1 does in scikit-learn, if
            windows are not padded behind their `lengths`, or if an array of few steps and many
            channels may be channel-first.
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
        started = time.perf_counter()
        with within_memory(_SMALLER), show_progress(self.verbose) as progress:
            arguments = check_arguments(self.get_params(deep=False), self._earlier())
            data = read_windows(arguments, X, y, **options)
            data = hold_out(arguments, data)
            scaled = scale_windows(arguments, data)
            trained = train_model(arguments, scaled, progress)
            judged = report_fit(arguments, scaled, trained)
        origin = FitOrigin.of(copied(self), arguments, trained, time.perf_counter() - started)
        judged = judged._replace(report=replace(judged.report, origin=origin))
        refuse_diverged(arguments, trained, judged)
        self._keep(trained, judged)
        if (failed := trained.results[0].error) is not None:  # raised by a callback
            raise failed
        return trained

    def _earlier(self) -> TrainedModel | None:
        """Return the model that a fit continues."""
        return self.model_ if self.warm_start and hasattr(self, "model_") else None

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

    def _set_model(self, model: TrainedModel) -> None:
        """Store a model, and the attributes that scikit-learn expects."""
        self.model_ = model
        self.n_features_in_ = model.flat_timesteps or model.n_channels
        self.__dict__.pop("feature_names_in_", None)
        if model.feature_names is not None:
            self.feature_names_in_ = np.array(model.feature_names, dtype=object)

    def _prepare_fit(self, X: Any, y: Any = None, **options: Any) -> list[TrainingJob]:
        """Do everything that `fit` does before training."""
        arguments = check_arguments(self.get_params(deep=False), self._earlier())
        scaled = read_and_scale(arguments, X, y, **options)
        jobs = make_jobs(arguments, scaled)
        if arguments.earlier is None:  # raises for invalid combinations
            plan_refit(arguments.parameters, scaled, jobs, arguments.entropy)
        return jobs

    def check(self, X: Any, y: Any = None, *, groups: Any = None, lengths: Any = None) -> Diagnosis:
        """Distinguish a bug from a hard problem by short trainings with predictable outcomes.

        The estimator need not be fitted and is not changed. Print the result to read it; see
        `sensorseq.doctor.check_training`.

        Parameters
        ----------
        X, y, groups, lengths : as in `fit`
        """
        return run_checks(self._checked_fit(), X, y, groups=groups, lengths=lengths)

    def _checked_fit(self) -> CheckedFit:
        """Return the arguments, and a function that prepares a fit with others."""

        def prepare(
            arguments: Mapping[str, Any], X: Any, y: Any, **keywords: Any
        ) -> list[TrainingJob]:
            return type(self)(**arguments)._prepare_fit(X, y, **keywords)

        return CheckedFit(self.get_params(deep=False), prepare)

    # The learned values

    classes_ = _of_model("classes")
    temperature_ = _of_model("temperature")
    scaler_ = _of_model("scaler")
    patch_ = _of_model("patch")
    preparation_ = _of_model("preparation")

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
        """The network; of several, the first one."""
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
        """The report; its first use compares the network with other models of the same windows."""
        if not hasattr(self, "_judged"):
            raise AttributeError(f"{type(self).__name__} has no fluctuation_ before fit.")
        report, facts, to_compare = self._judged
        if to_compare is not None:
            report = compare_level(report, *to_compare)
            self._judged = Judged(report, facts, None)
        return report

    # Predictions

    def _open(self, X: Any, name: str = "X") -> Any:
        """Open a prepared file, or check the column names of a table; return other X as it is."""
        check_is_fitted(self)
        X = open_windows(X, self.scale, name)
        if not is_table(X):
            return X
        if self.model_.flat_timesteps is not None:
            validate_data(self, X, reset=False, skip_check_array=True)
        return read_table(X, name)

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window.

        Parameters
        ----------
        X : as in `fit`
            Windows with the same channels as in `fit`. All windows of a prepared file are
            predicted, in their order. Columns of DataFrames may be in any order if `fit` had names,
            from DataFrames or from the channels of a WindowSet or file.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.
        """
        X = self._open(X)
        return self.model_.predict(X, lengths)

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return class probabilities: the softmax of the logits divided by `temperature_`.

        For an ensemble, the mean over its members. The result is of shape (n, n_classes), float64;
        columns are in the order of `classes_`.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        X = self._open(X)
        return self.model_.predict_proba(X, lengths)

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits divided by `temperature_`; their softmax is `predict_proba`.

        For an ensemble, the logit is the logarithm of the members' mean probability. For two
        classes the shape is (n,), as in scikit-learn: the logit of ``classes_[1]`` minus that of
        ``classes_[0]``.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        X = self._open(X)
        logits = self.model_.logits(X, lengths) / self.temperature_
        return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits)

    # scikit-learn's `score` accepts neither lengths nor a WindowSet
    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy. Labels may be one-hot, as `classes_`.

        Parameters
        ----------
        X, y, sample_weight, lengths : as in `fit`
        """
        if isinstance(X, str | os.PathLike):
            X = self._open(X)
        return accuracy_of(self.predict(X, lengths), self.classes_, X, y, sample_weight)

    def predict_or_abstain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        threshold: float | None = None,
    ) -> Decisions:
        """Return the label of each window, masked if it is uncertain.

        Parameters
        ----------
        X, lengths : as in `predict`
        threshold : float, optional
            Lowest probability of an answer; by default the one chosen by `fit_abstention`.

        Returns
        -------
        Decisions
            Labels, probabilities, and which windows were answered.

        Raises
        ------
        ArgumentError
            If `threshold` is out of its range.
        InputError
            If there is no threshold yet.
        """
        X = self._open(X)
        return self.model_.predict_or_abstain(X, lengths, threshold=threshold)

    def fit_abstention(
        self,
        X: Any,
        y: Any = None,
        *,
        error_rate: float = 0.05,
        confidence: float = 0.9,
        groups: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Choose the probability below which to abstain, on windows not used in `fit`.

        This is the lowest threshold for which the windows show that at most `error_rate` of the
        answers are wrong, treating whole groups as the samples; see
        `sensorseq.estimator.uncertainty.choose_threshold`. With probability `confidence` the bound
        holds on new recordings of the same kind. It does not cover other recordings, such as a new
        surface or robot. `save` also stores the result, `abstention_` and `abstain_threshold_`.

        Parameters
        ----------
        X, y, lengths : as in `fit`
            Held-out windows, used neither for training or validation nor for the final score you
            report.
        error_rate : float, default=0.05
            Highest allowed share of wrong answers, above 0 and below 1.
        confidence : float, default=0.9
            Confidence of that bound, above 0 and below 1.
        groups : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own groups, or uses its recordings.
            Without either, windows count as independent, which windows of one recording are not.

        Raises
        ------
        InputError
            If the windows cannot show this for any threshold; the message gives the lowest error
            rate they can show. Also if they were used in `fit`, or have no labels.
        """
        X = self._open(X)
        abstention = find_abstention(
            self.model_,
            X,
            y,
            groups,
            lengths,
            error_rate=error_rate,
            confidence=confidence,
        )
        self.model_ = replace(self.model_, abstention=abstention)
        return self

    def stream(
        self,
        sample_rate_hz: float | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        smooth: str = "none",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> DecisionStream:
        """Return a stream that classifies samples as they arrive, prepared as in training.

        Its decisions equal those of `sensorseq predict` on the whole recording, bit for bit, if the
        samples are complete and evenly spaced at `sample_rate_hz`. The sensor's clock may drift
        and its stamps jitter by less than half a period. Missing samples are interpolated linearly,
        up to `max_gap_s`; after a longer gap new windows begin.

        Parameters
        ----------
        sample_rate_hz : float, optional
            Rate of the samples in Hz; by default the rate to which the recordings were resampled.
        max_gap_s : float, optional
            Longest gap to bridge; by default as in training: ten periods, unless set there.
        max_delay_s : float, default=0
            How long to wait for samples that arrive out of order, by their stamps. All decisions
            are delayed by this time. Samples that arrive even later are ignored and counted.
        smooth : {"none", "filter", "lag"}, default="none"
            ``"filter"`` also uses the earlier windows for a decision. ``"lag"`` also waits for the
            next `lag` windows, by `latency_s` of the stream, and gives the classes of `timeline`
            with the same lag, bit for bit. Across a gap the class may have changed.
        lag : int, default=3
            Windows to wait for with ``smooth="lag"``.
        mean_dwell_s, transitions
            As in `timeline`.

        Returns
        -------
        DecisionStream
            With the methods `push` and `flush`.

        Raises
        ------
        InputError
            If the model has no record of how its windows were prepared, or the preparation needs
            whole recordings.
        """
        check_is_fitted(self)
        return self.model_.stream(
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            smooth=smooth,
            lag=lag,
            mean_dwell_s=mean_dwell_s,
            transitions=transitions,
        )

    def timeline(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: str = "marginals",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> Timeline:
        """Return the class over time: segments of one class instead of single windows.

        A robot stays in a class for a while, so the windows before and after a window are evidence
        for its class, too. A hidden Markov model over the windows of each recording uses them.

        Parameters
        ----------
        X : array of shape (n_windows, n_timesteps, n_channels), WindowSet, or list of Recording
            Recordings are cut into windows as in training.
        recording_id : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own; an array is one recording by
            default.
        start_s : array of shape (n_windows,), optional
            Start of each window in seconds; a WindowSet has its own.
        lengths : as in `predict`
        window_s : float, optional
            Length of the windows in seconds, if X is an array. By default the hop between them.
        smooth : {"none", "filter", "lag", "viterbi", "marginals"}, default="marginals"
            Windows that determine the class of a window: the window itself (none), also the earlier
            ones (filter), also `lag` later ones (lag), or all, for the likeliest sequence (viterbi)
            or the likeliest class of each window (marginals).
        lag : int, default=3
            Number of later windows for ``smooth="lag"``.
        mean_dwell_s : float or array of shape (n_classes,), optional
            How long a class lasts on average. By default as in the training recordings if some of
            them have several classes; otherwise 60 s, or 5 windows if that is longer. A value that
            is wrong by a factor of 4 changes little.
        transitions : array of shape (n_classes, n_classes), optional
            How often each class (row) is followed by each other class (column); 0 if never. By
            default as in the training recordings if some of them have several classes; otherwise
            all are equally frequent.

        Returns
        -------
        Timeline
            With `spans`, and the probabilities of each window.

        Raises
        ------
        InputError
            If the times of the windows are unknown.
        ArgumentError
            If a dwell time is shorter than a window, or `transitions` have another shape.

        Examples
        --------
        >>> clf.timeline(recordings, mean_dwell_s=30).to_csv("drive.csv")  # doctest: +SKIP
        """
        X = self._open(X)
        return self.model_.timeline(
            X,
            recording_id,
            start_s,
            lengths,
            window_s=window_s,
            smooth=smooth,
            lag=lag,
            mean_dwell_s=mean_dwell_s,
            transitions=transitions,
        )

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return one label for each recording, using all its windows.

        Parameters
        ----------
        X, lengths : as in `predict`
        recording_id : array of shape (n_windows,), optional
            The recording of each window. A WindowSet has its own.
        how : {"mean", "vote"}, default="mean"
            ``"mean"`` returns the class with the highest mean probability, in which uncertain
            windows count less. ``"vote"`` returns the majority vote of the windows, which a few
            confident errors cannot change; a tie goes to the higher mean probability.

        Returns
        -------
        list of RecordingDecision
            In the order in which recordings first appear.
        """
        X = self._open(X)
        return self.model_.predict_recordings(X, recording_id, lengths, how=how)

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike any that the model was trained on, such as windows in another unit.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        OutsideWindows
            The windows, and the reason for each channel.

        Raises
        ------
        InputError
            If the model has no ranges because it was imported.

        Notes
        -----
        `fit` keeps the extremes of its windows, without the test part; `adapt` and a warm start
        widen them. A window is outside if it exceeds the values by half of their range, the
        standard deviation by a factor of 10 (relative to the other channels, by a factor of 3), or
        the share of one of eight bands of the spectrum by a factor of 10. docs/validation.md
        lists faults that this finds, and faults that it misses.
        """
        X = self._open(X)
        return self.model_.outside(X, lengths)

    def held_out_predictions(
        self, n_windows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return rows and class probabilities of held-out windows, from before any refit.

        The rows are positions in the validation part. The result is None if there was no refit, the
        estimator was loaded from a file, or the validation part had another number of windows.

        Parameters
        ----------
        n_windows : int
            Windows of the validation part.
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
        """Return cross-validated class probabilities of training windows, and their rows.

        Each window is predicted by models that were not fitted on it, in the folds used to weight
        the features; only the few factors of the sum were fitted on the same windows. The rows, at
        most 6,000, are positions in the X given to `fit`, see `features`. The result is None if the
        fit weighted no features or used `X_val`, or if the estimator was loaded from a file.
        """
        return out_of_fold_of(self.model_) if hasattr(self, "model_") else None

    def explain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        label: ArrayLike | None = None,
        method: str = "auto",
        n_regions: int = 10,
    ) -> Explanation:
        """Explain which channels and stretches of time each decision is based on.

        ``"gradients"`` are integrated gradients [1]_ of the logarithm of the probability, along the
        line from zeros: the mean of each channel in training for ``scale="standard"``, or, with
        `patch`, the mean of each of a frame's statistics, which count equally for all its samples.
        Their sum is the difference of that logarithm between the two ends of the line.
        ``"occlusion"`` sets one region of one channel to zero after scaling and measures the
        decrease of the logarithm; it works with features and trees, but its sum has no meaning.

        Parameters
        ----------
        X, lengths : as in `predict`
        label : label or array of shape (n_windows,), optional
            Class to explain; the predicted one by default.
        method : {"auto", "gradients", "occlusion"}, default="auto"
            ``"auto"`` uses gradients for the network alone, and occlusion if there are features.
        n_regions : int, default=10
            Equal stretches of time.

        Returns
        -------
        Explanation
            With `contributions` and `shares` of shape (n_windows, n_regions, n_channels).

        Raises
        ------
        ArgumentError
            If an argument is invalid, or gradients are requested for a model with features.
        InputError
            If the windows cannot be used, or X is a file larger than memory.

        References
        ----------
        .. [1] M. Sundararajan, A. Taly, Q. Yan, *Axiomatic Attribution for Deep Networks*, 2017.
        """
        windows, model = self._in_memory(X, lengths), self.model_
        windows, lacks = model.without_failed(windows)
        model.check_not_empty(lacks)
        return explain(
            model,
            model.scaled(windows),
            model.temperature,
            model.classes,
            label=label,
            method=method,
            n_regions=n_regions,
        )

    def _in_memory(self, X: Any, lengths: ArrayLike | None) -> Windows:
        """Read windows into memory for `explain`."""
        X = self._open(X)
        windows = self.model_.read(X, lengths)
        if windows.are_stored and windows.X.nbytes > buffer_bytes():
            raise InputError(
                "X is larger than the buffer for windows in files; explain some of its windows,"
                " such as X.part('test').take(range(1000))."
            )
        return windows.held()

    def adapt(
        self,
        X: Any,
        y: Any = None,
        groups: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Return a copy adapted to another robot with a few labeled windows of it.

        The scaling moves toward the scaling of the new windows if that lowers their log-loss by 0.5
        nats. The linear layer, on the features or else on the LSTM's states, is fitted to them with
        an L2 penalty toward the old weights, if that lowers the log-loss of groups left out; this
        check needs two groups of each class, or two windows if there are no groups. Either change
        must also lower the log-loss by more than its standard error over the classes; otherwise it
        is not made.

        Parameters
        ----------
        X : as in `fit`
            At most 2,000 windows with the channels and sample rate of `fit`. A ``"test"`` part of a
            WindowSet or a prepared file is not used.
        y : array of shape (n,) or (n, n_classes), optional
            Labels that `fit` has seen, not necessarily all. Not needed if X has labels.
        groups : array of shape (n,), optional
            The recording of each window. A WindowSet has its own groups, or uses its recordings.
        lengths : array of shape (n,), int, optional
            Valid steps of each window.

        Returns
        -------
        SensorLSTMClassifier
            A fitted copy without the threshold of `fit_abstention`; `adaptation_` lists the changes
            and their reasons. `history_`, `features_` and `fluctuation_` come from the old fit.

        Raises
        ------
        InputError
            If a label is not a class of this model, or channels or sample rate differ.
        """
        X = self._open(X)
        head = self.model_.head
        source = model_digest(*self._stored()) if head is None or head.is_plain else None
        adapted = copy.copy(self)
        model, adapted.adaptation_ = adapt(copy_model(self.model_), source, X, y, groups, lengths)
        adapted._set_model(model)
        adapted._held_out = None
        return adapted

    def plot_history(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Plot the curves of the last fit, the kept epoch and the sampling error with matplotlib.

        Parameters
        ----------
        path : str or path, optional
            File to write the figure to.
        """
        from sensorseq.diagnosis.page import draw_history  # matplotlib is an extra

        check_is_fitted(self)
        return draw_history(
            self.history_,
            n_val=self._judged.facts["n_val"],
            best_epoch=self.best_epoch_,
            path=None if path is None else Path(path),
            loss_unit="nats" if self.loss == "cross_entropy" else "",
        )

    # Files and exports

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one safetensors file.

        It contains weights, scaling, classes, history, report and all arguments. The file appears
        only when it is complete.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.

        Raises
        ------
        InputError
            If an argument is a function or another object that cannot be stored without executing
            code when it is read.
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
            Overrides the saved `device`, such as ``"cpu"`` for a model trained on a GPU.

        Raises
        ------
        ModelFileError
            If the file is truncated, damaged, from another program or from a newer version.
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
        take("versions", dict)  # used in messages only
        estimator = cls(**take("parameters", dict))
        check_parameters(estimator.get_params(deep=False))
        if device is not None:
            estimator.device = device
        estimator.histories_ = [History(rows) for rows in histories]
        estimator.best_epoch_ = take("best_epoch", int)
        estimator.best_score_ = take("best_score", float)
        estimator.engine_ = EngineChoice(*check_texts("engine", take("engine", list)))
        facts = take("report_facts", dict)
        report = estimator._made_report(facts)  # checks them even if the file has a report
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
        alone = description.get("alone", "loaded from a file without features")
        estimator.features_ = FeatureChoice(reason=check_texts("alone", [alone])[0])
        if estimator.model_.head is not None:
            estimator.features_ = estimator.model_.head.choice
        return estimator

    def _made_report(self, facts: Mapping[str, Any]) -> FluctuationReport:
        """Return the report of a fit without a record."""
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

        It expects windows scaled as for that network; `scaler_` is None.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            With biases and without projection.
        linear : torch.nn.Linear
            Computes the logits. A single logit is for the second class against the first.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            The pooling between the two.
        classes : array-like of shape (n_classes,), optional
            Label of each logit; 0 to k - 1 by default.
        **arguments
            Further constructor arguments, such as ``warm_start=True`` to continue training with
            `fit`.

        Raises
        ------
        ArgumentError
            If a layer has no bias or has a projection, or the sizes do not match.
        """
        module = LSTMLinear.from_torch(lstm, linear, pooling)
        return cls._imported(module, "linear", arguments, classes, "torch.nn.LSTM")

    @classmethod
    def from_keras(
        cls, keras_model: Any, *, classes: ArrayLike | None = None, **arguments: Any
    ) -> Self:
        """Return a fitted estimator with the weights of a Keras model.

        It expects windows scaled as for that model; `scaler_` is None. An ArgumentError names any
        layer of an unsupported kind or configuration.

        Parameters
        ----------
        keras_model : keras.Model
            A chain of LSTM or Bidirectional(LSTM) layers, at most one global pooling over time, and
            a Dense layer with softmax, logits or one sigmoid unit. Keras is not imported; only
            `layers`, `get_config()` and `get_weights()` are used.
        classes, **arguments
            As in `from_torch`.
        """
        module, activation = lstm_linear_from_keras(keras_model)
        return cls._imported(module, activation, arguments, classes, "Keras")

    @classmethod
    def _imported(
        cls,
        module: LSTMLinear,
        activation: str,
        arguments: Mapping[str, Any],
        classes: ArrayLike | None,
        source: str,
    ) -> Self:
        """Return an estimator that predicts with an imported network."""
        arguments, model = imported(module, activation, arguments, classes)
        estimator = cls(**arguments)
        estimator._set_model(model)
        estimator.histories_ = [History()]
        estimator.best_epoch_, estimator.best_score_ = 0, float("nan")
        estimator.engine_ = EngineChoice("none", f"the weights were taken from {source}")
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

        The graph accepts windows as given to `fit`, and contains cropping, scaling, all networks,
        `features`, and the temperature. It has opset 17 and runs in onnxruntime 1.15 or later.
        Windows must be prepared as in training; see `steps`. The metadata contain the preparation,
        classes, channels, units, sample rate and the SHA-256 of the model file. Needs the extra
        ``onnx``.

        Parameters
        ----------
        path : str or path
            Name of the file; an existing file is replaced.
        n_timesteps : int, optional
            Number of steps of every window, which lets onnxruntime prepare more in advance. By
            default the graph accepts windows of any number of steps.
        lengths : bool, optional
            Whether the graph has the input ``lengths`` (n,), int64, the valid steps of each window,
            1 to t. By default it has this input if the windows of the fit differed in length.
        steps : bool, default=False
            Include the steps of the preparation, so that the graph accepts windows of samples
            before these steps, at the model's rate. Products, power, differences of channels,
            signed channels and magnitudes can be exported. An error names any step that depends on
            earlier samples, such as a filter.
        dtype : {"float32", "float64"}, default="float32"
            Type of the input ``X``, of shape (n, t, c), or (n, t) after a fit on a table. The
            output, ``probabilities`` (n, n_classes), is float32.

        Raises
        ------
        InputError
            If the graph cannot compute part of the model: ``normalize="recording"``,
            ``scale="quantile"``, or your own function as `features`.
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
        smooth: str = "none",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> CExport:
        """Write the classifier as C99: one header and one source, without malloc.

        ``sensorseq_push(&state, sample, probabilities)`` takes one raw sample and returns 1 when a
        window is complete. Resampling, causal steps, scaling, networks, features and
        `temperature_` are included. With float32 weights, the probabilities of a window equal those
        of `predict_proba` within 1e-5.

        Parameters
        ----------
        folder : str or path
            Where ``sensorseq_model.h`` and ``sensorseq_model.c`` are written; made if missing.
        n_timesteps : int, optional
            Samples of a window; by default as in training, required after `from_torch`.
        hop : int, optional
            Samples from the start of a window to the start of the next, at the rate of the windows.
            By default as in the preparation; without a preparation, windows do not overlap.
        sample_rate_hz : float, optional
            Rate of the samples pushed, in Hz, if the C code is to resample them. By default they
            already have the rate to which training resampled.
        units : mapping of str to str, optional
            Units of input channels, such as ``{"current": "mA"}``; needed by steps that multiply
            channels.
        weights : {"float32", "int8"}, default="float32"
            Type of the weights. int8 has one scale for each row and a quarter of the size;
            activations stay float32.
        check : WindowSet or path of a prepared file, optional
            Labelled windows for the accuracy with these weights, which is written into the header:
            their validation part, or all windows if there is no split.
        prefix : str, default="sensorseq"
            First part of all names in C and of the file names.
        smooth : {"none", "filter", "lag"}, default="none"
            Also write ``sensorseq_smooth(&smoother, probabilities, smoothed)``, which smooths the
            probabilities from ``sensorseq_push`` over time as `stream` does, within 1e-5. Its state
            needs ``8 * (lag + 1)`` bytes for each class.
        lag, mean_dwell_s, transitions
            As in `stream`.

        Returns
        -------
        CExport
            The paths, RAM, flash and multiply-adds; print it for a table.

        Raises
        ------
        InputError
            If part of the model cannot be written in C: your own function as features,
            ``normalize="recording"``, or a step with ``phase="zero"``.
        ArgumentError
            If an argument does not fit the model.
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
            smoothing=self.model_.smoothing(smooth, lag, mean_dwell_s, transitions),
            is_refitted=getattr(self, "refitted_", False),
        )
        return write_texts(folder, *render_c(self.model_, options))

    # scikit-learn

    def set_params(self, **params: Any) -> Self:
        """Set arguments; after `fit`, only `device` has an effect before the next `fit`.

        Parameters
        ----------
        **params : dict
            Arguments by name, and their values.
        """
        super().set_params(**params)
        if "device" in params and hasattr(self, "model_"):
            modules = modules_of(self.model_)
            networks = [ModuleNetwork(module, self.device) for module in modules]
            self.model_ = replace(self.model_, networks=networks)
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
        report = self.fluctuation_.to_dict()  # compares, which needs windows that a pickle lacks
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
                "this pickle was written by a version that is no longer supported. Load it with"
                " that version and write the model with `save`; all versions read such files."
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
