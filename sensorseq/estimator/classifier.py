"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from sensorseq.base.checks import check_integer
from sensorseq.diagnosis.report import FluctuationReport
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
from sensorseq.estimator.fitted import FittedClassifier, of_model
from sensorseq.estimator.report import make_report
from sensorseq.estimator.saving import (
    Contents,
    imported,
    known_arguments,
    model_contents,
    packed,
    read_fitted,
    unpacked,
)
from sensorseq.estimator.uncertainty import (
    LeftOut,
    with_probabilities,
)
from sensorseq.history import History
from sensorseq.io.model_file import (
    check_texts,
    model_digest,
    take_field,
)
from sensorseq.io.stored_windows import buffer_bytes
from sensorseq.learners.motors import Roles
from sensorseq.nn import LSTMLinear
from sensorseq.prediction.checked_windows import Windows, is_table
from sensorseq.prediction.decisions import (
    softmax,
)
from sensorseq.prediction.frames import refuse_panel
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import Patch
from sensorseq.training import EngineChoice
from sensorseq.training.evaluation import modules_of
from sensorseq.training.inputs import open_windows
from sensorseq.training.parameters import check_parameters

_SMALLER = (
    "use a smaller hidden_size, batch_size or n_models, fewer or shorter windows, or the path of a"
    " prepared file, which is read in parts"
)


class SensorLSTMClassifier(FittedClassifier):
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
    _names_sensors = False

    scale: str | None
    missing: str
    device: str
    loss: str | Callable[..., Any]

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

    temperature_ = of_model("temperature")
    scaler_ = of_model("scaler", TrainedModel.with_input)
    preparation_ = of_model("preparation", TrainedModel.with_input)

    @property
    def patch_(self) -> Patch | None:
        """How samples become inputs of the LSTM, or None if each sample is one step."""
        return self.model_.lstm.patch

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
        """The report on the training curve."""
        if not hasattr(self, "_judged"):
            raise AttributeError(f"{type(self).__name__} has no fluctuation_ before fit.")
        return self._judged.report

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
        estimator = cls(**known_arguments(take("parameters", dict), cls._get_param_names()))
        check_parameters(estimator.get_params(deep=False))
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
        estimator._judged = Judged(report, facts)
        estimator._set_model(read_fitted(arrays, description, path, estimator.device))
        adaptation = take("adaptation", dict | None)
        estimator.adaptation_ = None if adaptation is None else Adaptation(**adaptation)
        estimator.refitted_ = take("refitted", bool)
        choice = estimator.features_ = FeatureChoice.from_dict(take("features", dict))
        if choice.candidates:
            estimator._judged = Judged(replace(report, model=choice), facts)
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
        estimator._judged = Judged(estimator._made_report(facts), facts)
        return estimator

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
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" not in state:
            return state
        state["model_"] = packed(self.model_)
        state["_judged"] = self.fluctuation_.to_dict(), {**self._judged.facts, "data_facts": ()}
        state["histories_"] = [history.to_rows() for history in self.histories_]
        state["engine_"] = list(self.engine_)
        state["adaptation_"] = None if self.adaptation_ is None else dict(vars(self.adaptation_))
        if "features_" in state:
            state["features_"] = self.features_.to_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if "model_" in state:
            report, facts = state["_judged"]
            state["_judged"] = Judged(FluctuationReport.from_dict(report), facts)
            state["model_"] = unpacked(state["model_"])
            state["histories_"] = [History(rows) for rows in state["histories_"]]
            state["engine_"] = EngineChoice(*state["engine_"])
            if state["adaptation_"] is not None:
                state["adaptation_"] = Adaptation(**state["adaptation_"])
            if "features_" in state:
                state["features_"] = FeatureChoice.from_dict(state["features_"])
        super().__setstate__(state)
