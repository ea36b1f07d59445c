"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from sensorseq.checks import mark_of_unlabeled
from sensorseq.errors import InputError, warn_caller
from sensorseq.estimator.adapt import Adaptation, adapt
from sensorseq.estimator.base import store_arguments
from sensorseq.estimator.decisions import DecidingLSTM
from sensorseq.estimator.explain import Explanation, explain
from sensorseq.estimator.sensors import adapt_sensors, explain_sensors
from sensorseq.export.c_sensors import render_sensors
from sensorseq.export.c_source import CExport, COptions, render_c, write_texts
from sensorseq.sensor_windows import SensorWindows
from sensorseq.training.labels import read_labels
from sensorseq.training.stream import is_stored
from sensorseq.windows import WindowSet


class SensorLSTMClassifier(ClassifierMixin, DecidingLSTM):  # type: ignore[misc]  # sklearn is untyped
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
    loss : {"cross_entropy", "focal", "mse"} or callable, default="cross_entropy"
        A callable gets ``(logits, class_index)`` and returns one value for each window.
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes, in training and in `val_loss`.
    class_weight : None, "balanced", "effective_number" or dict, default=None
        Factor of each class in the loss. ``"balanced"`` is ``n / (k * count)`` over the training
        part; ``"effective_number"`` reduces large classes less, see
        `sensorseq.preprocessing.windows.class_weights`. It does not affect `val_loss`.
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}, default="adamw"
        torch's optimizer with that name.
    learning_rate : float, default=3e-3
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
    warmup_epochs : int or float, default=0.05
        Epochs of linear increase before the schedule. A float in (0, 1) is a share of all optimizer
        steps of the run: 0.05 of 1000 steps are 50, and at least one. ``"one_cycle"`` has its own
        warm-up: it does not use a share, and refuses a number of epochs.
    ema_decay : float, optional
        Decay of an exponential moving average of the weights, which is then validated and kept.
    batch_size : int or None, default=32
        Windows per step; None uses all windows in each step.
    sampler : {"shuffle", "balanced", "sqrt"}, default="shuffle"
        ``"balanced"`` draws each class equally often, ``"sqrt"`` in proportion to the square root
        of its number of windows.
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs. ``"auto"`` takes enough epochs for 400 optimizer steps on the
        training part, but at least 24 and at most 200.
    max_steps : int, optional
        Bound on the optimizer steps: the run has ``ceil(max_steps / steps per epoch)`` epochs if
        that is less than `max_epochs`. It ends with the epoch in which `max_steps` is reached, and
        the schedule of the learning rate ends with it.
    max_grad_norm : float or None, default=1.0
        Bound for gradient clipping; None turns clipping off.
    clip_by : {"norm", "value"}, default="norm"
        Whether to bound the global norm or each element.
    weight_decay : float, default=1e-3
        As in torch: decoupled in adamw, an L2 penalty in the others. It acts on every parameter.
    l1 : float, default=0.0
        Factor of the sum of absolute weights, without biases.
    max_timesteps : int, optional
        Maximum window length; longer windows are cropped, also in prediction.
    crop : {"head", "tail", "centre", "random"}, default="head"
        Which steps to keep; ``"random"`` draws a new crop in each epoch and predicts on the centre.
    augment : None, "standard", dict or Augmentation, default=None
        Randomly change every training window in each epoch. A dict gives the fields of
        `sensorseq.preprocessing.Augmentation`; its `mirror`, `swap` and `axes` name channels of a
        WindowSet or a prepared file, or give their numbers. Features are fitted to the windows and
        to one changed copy of each.
    early_stopping : bool, default=False
        Stop when `monitor` has not improved by more than `tol` for `patience` epochs. By default
        the whole schedule is trained: a validation part of few recordings often picks an epoch
        from before the learning rate has fallen.
    validation_fraction : float, default=0.2
        Share held out for validation in whole groups, with or without early stopping; 0 holds out
        nothing. Not used with `X_val` or a WindowSet that has a split.
    patience, tol : int, default=20, and float, default=1e-4
        See `early_stopping`.
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}, default="val_loss"
        The column of the history that decides which epoch is best.
    restore_best : bool, optional
        Keep the weights of the best epoch. If False, or without validation windows, keep those of
        the last epoch. None is the value of `early_stopping`.
    scale : str or None, default="standard"
        Scaling of each channel, fitted only on the training part: ``"standard"``, ``"robust"``,
        ``"min_max"``, ``"max_abs"`` or ``"quantile"``; see
        `sensorseq.preprocessing.scale.fit_scaler`. ``"physical"`` divides by the rated values given
        when a WindowSet or a file was prepared.
    calibrate : bool, default=False
        Divide the logits by `temperature_`, fitted on the validation windows after training, so
        that about 80 % of the windows with probability 0.8 are classified correctly. `predict` is
        unchanged. Early stopping has used the same windows, so some overconfidence may remain;
        measure it on other windows with `sensorseq.evaluation.calibration.calibration_error`.
    device : str, default="auto"
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. ``"auto"`` uses a GPU if our CUDA kernels
        support this network there (see ``sensorseq info``) and `engine` is not ``"native"``;
        otherwise it uses the CPU. Only CUDA kernels are used that pass a check on this very GPU,
        which the first `fit` makes (at most a minute); none with the environment variable
        ``SENSORSEQ_CUDA_KERNELS=0``.
    dtype : {"float32", "float64"}, default="float32"
        Precision of the network.
    engine : {"auto", "native", "autograd"}, default="auto"
        What runs the optimizer steps: whole epochs in one native call, or autograd step by step.
        ``"auto"`` uses the native engine where it supports the training, see `engine_`; on a GPU it
        supports float32 with one layer, up to 16 channels and no `head_norm`. Both give the same
        training up to rounding.
    n_models : int, default=1
        Number of networks in an ensemble. Each has its own initial weights, order and dropout on
        the same split, and probabilities are their mean. They train side by side if the native
        engine supports them and the windows fit in memory; otherwise one after another. The first
        member is bit for bit the result of ``n_models=1``. Callbacks are called for every member.
    warm_start : bool, default=False
        Continue from the weights and the scaling of the last fit, or of a loaded model, with a new
        optimizer. The linear layer's part for `features` stays as it was.
    checkpoint : str or path, optional
        A model file, which gets the network after each epoch that improves `monitor`, or after
        each epoch if nothing is held out: the LSTM alone, in an ensemble the first one, without
        `features`, `refit` and `calibrate`. It is replaced as a whole, so a killed process leaves
        the last complete one, which `load` reads. Continue from it with `warm_start`.
    callbacks : list, optional
        Objects with `on_fit_begin`, `on_epoch_begin`, `on_epoch_end` or `on_fit_end`; see
        `sensorseq.training.Callback`.
    verbose : int, default=0
        1 shows progress on stderr; 2 writes a line for every epoch if there is no terminal.
    random_state : int, RandomState or None, default=None
        Seed of split, initial weights, order, crops and dropout. The same integer gives bit for bit
        the same result on one machine; with the native engine (see `engine_`) also with any number
        of threads, but for the last digits of what `features` add, which LAPACK and scikit-learn
        compute.
    features : "auto", None, name, callable or list, default="auto"
        What joins the LSTM: a linear layer on random convolutions (``"rocket"``, see
        `sensorseq.features.RandomConvolutions`), one on kernels that compete (``"hydra"``, see
        `sensorseq.features.CompetingKernels`), one on steps of summary statistics (``"summary"``,
        see `sensorseq.features.SummarySteps`), one on what a function ``(windows, lengths) -> array
        of shape (n, f)`` makes of scaled windows; or gradient boosting on summary statistics
        (``"boosting"``, see `sensorseq.features.SummaryFeatures`). Linear layers come from ridge
        regression, in closed form. All are joined to the LSTM by factors with the lowest log-loss
        on windows left out, in whole groups. ``"auto"`` tries the four that have a name and keeps
        those that lower it, as it does the LSTM; `features_` says which and why. With `refit`, or
        nothing held out, windows are left out in three folds, which trains the network two or three
        more times; otherwise the validation part serves. None is the LSTM alone. Streamed windows
        have none with ``"auto"``.
    refit : "auto", "all" or None, default="auto"
        How the model learns from the held-out windows too, when the curve, the report and the
        probabilities are known. ``"auto"``, for up to 20,000 windows and unless `warm_start` is on:
        the networks of the three folds are kept, which together have learned from all windows;
        prediction takes the mean of their probabilities. Where there are no such folds, and with
        ``"all"``, one network is trained on all windows for as many steps. None keeps the network
        of the training part. `X_val` is never trained on.
    patch : "auto", int or None, default="auto"
        Samples of a frame. The network reads a window in frames that overlap by half, and of each
        frame and channel the mean, the variance, the minimum, the maximum and the power in up to
        six bands of the spectrum. Long windows are then faster, and mostly classified better.
        ``"auto"`` takes a twentieth of a window, and at least 8 samples; of windows with fewer than
        28 samples each is a step. None gives the network every sample. `features` are computed from
        samples in any case.
    missing : {"error", "expected", "outside"}, default="error"
        What to do with NaN. error: refuse it. expected: draw a straight line between the numbers
        around it, take a channel without a number for its mean in training, and predict windows
        that lack one of several sensors from the others, with weights of their own for each
        pattern. The model of a sensor is trained on the windows where all its channels have
        numbers. outside: in prediction, also take channels for missing that `outside` calls
        constant or finds with values or a spread out of range. A sensor with one out of range, or
        with most of its channels constant, counts only where no other one is there;
        docs/preprocessing/several_sensors.md states what that brings. Set it before `fit`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels in the order of the columns of `predict_proba`; 0 to k - 1 for one-hot `y`.
    sensors_ : dict of str to SensorLSTMClassifier
        The model of each sensor, where X of `fit` had several. Then `features_` compares the
        sensors, and the other attributes of the fit are those of each.
    n_features_in_ : int
        Number of timesteps of 2-D input, otherwise number of channels.
    feature_names_in_ : ndarray of str
        Column names, if X was a 2-D table or a list of DataFrames with names.
    n_iter_ : int
        Number of epochs run.
    best_epoch_, best_score_ : int and float
        The epoch whose weights are kept, counted from 1, and its monitored value.
    history_, histories_ : History and list of History
        One row per epoch. In an ensemble `history_` and the other values of a run are those of the
        first member, and `histories_` has one history for each.
    fluctuation_ : FluctuationReport
        Whether the curve fluctuates, why not, or how much. Its limits for a loss are of
        cross-entropy in nats; any other `loss` is looked at only for values that are not finite.
    features_ : FeatureChoice
        The features that the linear layer uses, the log-loss and accuracy of each kind alone and
        of all together on windows left out, and why they were chosen. Print it to read it.
    refitted_ : bool
        Whether the model learned from the held-out windows too, see `refit`.
    patch_ : Patch or None
        How samples become the inputs of the networks, see `patch`; None if each is a step.
    scaler_ : Scaler or None
        The scaler, fitted on the training part.
    module_, modules_ : LSTMLinear and list of LSTMLinear
        The network, in evaluation mode, of several the first one; and those of all members of an
        ensemble, or of all folds. Its inputs are scaled windows as `patch_` makes steps of them:
        ``patch_.apply(windows, lengths)``. Without features its outputs are the logits before
        division by `temperature_`.
    temperature_ : float
        The logits are divided by it; 1 unless ``calibrate=True``.
    abstention_, abstain_threshold_ : Abstention and float
        The result of `fit_abstention` with the figures it is based on. Windows whose highest
        probability is below the threshold get no label.
    adaptation_ : Adaptation or None
        What `adapt` changed, and from which model; None if this is not an adapted copy.
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

    Ctrl-C after the first epoch ends the training, not the program: the weights of the last whole
    epoch, with early stopping of the best, are kept and a warning is issued. A search or
    cross-validation continues with its next fit; a second Ctrl-C within two seconds ends it too.
    Members of an ensemble that had not started are dropped.

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

    class_weight: str | Mapping[Any, float] | None

    __metadata_request__predict_proba: ClassVar = {"lengths": True}
    __metadata_request__decision_function: ClassVar = {"lengths": True}

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
        store_arguments(self, locals())

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits divided by `temperature_`; their softmax is `predict_proba`.

        For an ensemble, the logit is the logarithm of the members' mean probability. For two
        classes the shape is (n,), as in scikit-learn: the logit of ``classes_[1]`` minus that of
        ``classes_[0]``.

        Parameters
        ----------
        X, lengths : as in `predict`
        """
        logits = self._outputs(X, lengths) / self.temperature_
        return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits)

    # scikit-learn's `score` takes neither lengths nor a WindowSet
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
        X = self._open(X, "X")
        predicted = self.predict(X, lengths)
        y = X.y if y is None and isinstance(X, WindowSet | SensorWindows) else y
        labels, _ = read_labels(y, len(predicted), "y", classes=self.classes_)
        mark = mark_of_unlabeled({*self.classes_.tolist(), *labels.tolist()})
        if mark is not None and mark not in self.classes_.tolist():
            n = int((labels == mark).sum())
            warn_caller(
                f"y is {mark!r} for {n} of {len(labels)} windows, which is no class of the model"
                " and usually marks what has no label; these windows count as errors. Leave them"
                f" out: with keep = np.not_equal(y, {mark!r}), give X[keep] and y[keep]."
            )
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def explain(
        self,
        X: Any,
        lengths: ArrayLike | None = None,
        *,
        label: ArrayLike | None = None,
        method: str = "auto",
        n_regions: int = 10,
    ) -> Explanation | dict[str, Explanation]:
        """Explain which channels and stretches of time each decision is based on.

        ``"gradients"`` are integrated gradients [1]_ of the logarithm of the probability, along the
        line from zeros: the mean of each channel in training for ``scale="standard"``, or, with
        `patch`, the mean of each of a frame's statistics, which count equally for all its samples.
        Their sum is the difference of that logarithm between the two. ``"occlusion"`` replaces one
        region of one channel by zero after scaling, and takes what the logarithm loses; it works
        with features and trees, and its sum means nothing.

        Parameters
        ----------
        X, lengths : as in `predict`
        label : label or array of shape (n_windows,), optional
            Class to explain; the predicted one by default.
        method : {"auto", "gradients", "occlusion"}, default="auto"
            auto: gradients for the network alone, occlusion where features are used.
        n_regions : int, default=10
            Equal stretches of time.

        Returns
        -------
        Explanation, or dict of str to Explanation
            With `contributions` and `shares` of shape (n_windows, n_regions, n_channels). Of
            several sensors, one for each: what it adds to the decision of all, in the windows that
            have it.

        Raises
        ------
        ArgumentError
            If an argument is not known, or gradients are asked of a model with features.
        InputError
            If the windows cannot be used, or are a file larger than memory.

        References
        ----------
        .. [1] M. Sundararajan, A. Taly, Q. Yan, *Axiomatic Attribution for Deep Networks*, 2017.
        """
        self._check_fitted()
        if self._fusion is not None:
            how: dict[str, Any] = {"label": label, "method": method, "n_regions": n_regions}
            return explain_sensors(self, X, lengths, **how)
        sequences = self._read_windows(X, lengths)
        if is_stored(sequences):
            raise InputError(
                "X is larger than memory; explain a part of its windows, such as X.part('test')."
            )
        sequences, lacks = self._without_failed(sequences)
        self._check_not_empty(lacks)
        return explain(
            self._ensemble,
            self._used_modules,
            self._scaled(sequences),
            self.temperature_,
            self.classes_,
            label=label,
            method=method,
            n_regions=n_regions,
        )

    def adapt(
        self,
        X: Any,
        y: Any = None,
        groups: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """Return a copy adapted to another robot, from a few labeled windows of it.

        The scaling moves toward that of the new windows if that lowers their log-loss by 0.5 nats.
        The linear layer, on the features or else on the LSTM's states, is fitted to them with an L2
        penalty toward the old weights, if that lowers the log-loss of whole groups left out. To
        check this, each class needs two groups; without groups, two windows. Both times the
        log-loss has to fall by a standard error over classes; otherwise all stays as it was.

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
            A fitted copy without the threshold of `fit_abstention`; `adaptation_` says what was
            changed and why; of several sensors, the `adaptation_` of each of `sensors_`.
            `history_`, `features_` and `fluctuation_` are those of the old fit.

        Raises
        ------
        InputError
            If a label is not a class of this model, or channels or sample rate differ.
        """
        self._check_fitted()
        way = adapt if self._fusion is None else adapt_sensors
        adapted: Self = way(self, X, y, groups, lengths)
        return adapted

    def to_c(
        self,
        folder: str | os.PathLike[str],
        *,
        n_timesteps: int | None = None,
        hop: int | None = None,
        sample_rate_hz: float | None = None,
        units: Mapping[str, str] | None = None,
        weights: str = "float32",
        check: WindowSet | SensorWindows | str | os.PathLike[str] | None = None,
        prefix: str = "sensorseq",
        smooth: str = "none",
        lag: int = 3,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> CExport:
        """Write the classifier as C99: one header and one source, without malloc.

        ``sensorseq_push(&state, sample, probabilities)`` takes one raw sample and returns 1 when a
        window is complete. Resampling, causal steps, scaling, networks, features and
        `temperature_` are inside. The probabilities of a window are those of `predict_proba` within
        1e-5 for float32 weights.

        Of several sensors, each has a header and a source of its own, with functions such as
        ``sensorseq_imu_push``, and ``sensorseq_join(of_imu, of_motor, probabilities)`` in
        ``sensorseq_model.h`` joins their probabilities of the same stretch of time; NULL stands for
        a sensor that is missing.

        Parameters
        ----------
        folder : str or path
            Where ``sensorseq_model.h`` and ``sensorseq_model.c`` are written; made if missing.
        n_timesteps : int, optional
            Samples of a window. Those of training by default; needed after `from_torch`.
        hop : int, optional
            Samples from the start of a window to that of the next, at the rate of the windows. By
            default that of the preparation; without one, windows do not overlap.
        sample_rate_hz : float, optional
            Rate of the samples pushed, in Hz, if the C code is to resample them. By default they
            already have the rate to which training resampled.
        units : mapping of str to str, optional
            Units of input channels, such as ``{"current": "mA"}``; needed by steps that multiply
            channels.
        weights : {"float32", "int8"}, default="float32"
            Type of the weights. int8 has one scale for each row and a quarter of the size;
            activations stay float32.
        check : WindowSet, SensorWindows, or path of a prepared file, optional
            Labelled windows to compute the accuracy with these weights, which the header then
            states: their validation part, or all without a split.
        prefix : str, default="sensorseq"
            First part of all names in C and of the file names.
        smooth : {"none", "filter", "lag"}, default="none"
            Also write ``sensorseq_smooth(&smoother, probabilities, smoothed)``, which smooths over
            time what ``sensorseq_push`` gives, as `stream` does, within 1e-5. Its state takes
            ``8 * (lag + 1)`` bytes for each class.
        lag, mean_dwell_s, transitions
            As in `stream`.

        Returns
        -------
        CExport
            The paths, RAM, flash and multiply-adds; print it for a table.

        Raises
        ------
        InputError
            If part of the model cannot be written in C: a function of your own as features,
            ``normalize="recording"``, a step with ``phase="zero"``, more than ten sensors.
        ArgumentError
            If an argument does not fit the model. `n_timesteps`, `hop`, `sample_rate_hz` and
            `smooth` are for one sensor.
        """
        self._check_fitted()
        options = COptions(
            n_timesteps=n_timesteps,
            hop=hop,
            sample_rate_hz=sample_rate_hz,
            units=units,
            weights=weights,
            check=None if check is None else self._open(check, "check"),
            prefix=prefix,
            smoothing=self._smoothing(smooth, lag, mean_dwell_s, transitions),
        )
        render = render_c if self._fusion is None else render_sensors
        return write_texts(folder, *render(self, options))

    def _restore_classes(self, take: Callable[[str, Any], Any]) -> None:
        super()._restore_classes(take)
        adaptation = take("adaptation", dict | None)
        self.adaptation_ = None if adaptation is None else Adaptation(**adaptation)
