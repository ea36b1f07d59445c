"""SensorLSTMClassifier: an LSTM classifier of sensor windows as a scikit-learn estimator."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from sensorseq.errors import ArgumentError, InputError, warn_caller
from sensorseq.estimator.base import PreparedFit, SensorLSTM, store_arguments
from sensorseq.estimator.decisions import DecisionMixin, check_abstention
from sensorseq.estimator.imported import import_network, reorder_outputs, two_logits
from sensorseq.estimator.labels import check_classes, read_known_labels, read_labels
from sensorseq.nn import LSTMLinear
from sensorseq.nn.from_keras import lstm_linear_from_keras
from sensorseq.storage.model_file import describe_labels
from sensorseq.storage.model_file import read_labels as restore_labels
from sensorseq.training.calibration import (
    NOTABLE_SPREAD,
    check_temperature,
    fit_temperature,
    probability_spread,
    softmax,
)
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training.parts import Part
from sensorseq.training.weights import raw_window_weights, window_weights
from sensorseq.windows import WindowSet


class SensorLSTMClassifier(ClassifierMixin, DecisionMixin, SensorLSTM):  # type: ignore[misc]  # sklearn is untyped
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
        Divide the logits by `temperature_`, fitted on the validation windows with the weights that
        are kept, so that of windows with probability 0.8 about 80 % are right. `predict` stays as
        it is. Early stopping has chosen the epoch on the same windows: what is left of being too
        sure shows on windows that took no part; see
        `sensorseq.evaluation.calibration.calibration_error`.
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
        Members of an ensemble: networks with first weights, order and dropout of their own on the
        same split, trained side by side where the native engine serves them in memory and without
        `checkpoint`, else one after another. Probabilities are the mean of theirs. The first member
        is, bit for bit, what ``n_models=1`` gives. Callbacks see every member's run.
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
        When the fit fluctuates, diverges or learns nothing, find out why by re-runs (at most as
        long as the fit itself) and fit again with what was proved. The second fit is kept when it
        is calmer and as accurate; `repair_` says what it changed, `fluctuation_` how it was found.
        The arguments themselves stay as they are; callbacks see both fits. Needs
        ``checkpoint=None``, ``warm_start=False`` and ``n_models=1``.
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
        One row per epoch; of an ensemble its first member's, as are the other values of a run.
    histories_ : list of History
        One for each member.
    fluctuation_ : FluctuationReport
        Whether the curve fluctuates, why not, or how much. Its limits for a loss are of
        cross-entropy in nats; any other `loss` is looked at only for values that are not finite.
    scaler_ : Scaler, KeyedScaler or None
        The scaling, fitted on the training part.
    module_ : LSTMLinear
        The network, in evaluation mode; of an ensemble the first. Its outputs are the logits before
        `temperature_`.
    modules_ : list of LSTMLinear
        The networks of all members.
    temperature_ : float
        What logits are divided by; 1 unless ``calibrate=True``.
    abstention_ : Abstention
        What `fit_abstention` chose: the threshold, and what stands behind it.
    abstain_threshold_ : float
        Its threshold: windows whose highest probability is below it are not answered.
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
    >>> from sensorseq import SensorLSTMClassifier
    >>> t = np.arange(40)
    >>> X = np.stack([np.sin(t * (0.3 if i % 2 else 0.9) + i) for i in range(60)])
    >>> y = np.array(["fast", "slow"] * 30)
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=30, learning_rate=0.02, random_state=0)
    >>> clf.fit(X, y).score(X, y) > 0.9
    True
    """

    _task: ClassVar[str] = CLASSIFICATION
    classes_: NDArray[Any]
    temperature_: float
    calibrate: bool
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
        input_dropout: float = 0.0,
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
        classes: ArrayLike | None = None,
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

        The scaling is learned on the first lot and then fixed: give one that shows the range of
        the signals, or a prepared file that brings its scaling, or scale before and take
        ``scale=None``.

        Parameters
        ----------
        X, y, sample_weight, groups, lengths : as in `fit`
            Weights count as they are given; `groups` are checked and not needed. Of what is split
            only ``"train"`` is learned from.
        classes : array of shape (n_classes,), optional
            Every label there will be. Needed in the first call, unless `fit` was there before;
            later the same or None.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the windows differ in channels from those of the first call, or a label is none of
            `classes`.
        ArgumentError
            If `classes` are missing or others; if an argument is for `fit` alone: calibrate,
            class_weight by name, checkpoint, n_models; or another optimizer or engine is asked for
            than in the call before.
        DivergedError
            If the loss is not finite in the first call; later that is a ConvergenceWarning, and
            the weights of before are kept.
        """
        if isinstance(self.class_weight, str):
            raise ArgumentError(
                f"class_weight={self.class_weight!r} needs the counts of all windows, which"
                " partial_fit does not know; give a dictionary of labels and factors, or"
                " sample_weight."
            )
        before = getattr(self, "classes_", None) if hasattr(self, "module_") else None
        self.classes_ = check_classes(classes, before)
        try:
            self._learn_pass(X, y, sample_weight, groups, lengths)
        except BaseException:
            if before is None and not hasattr(self, "module_"):
                self.__dict__.pop("classes_", None)
            raise
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
        logits = self._outputs(X, lengths)
        return np.asarray(self.classes_[logits.argmax(axis=1)])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the probability of each class, the softmax of the logits over `temperature_`.

        Of an ensemble the mean of its members' probabilities.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            Rows sum to one; columns are in the order of `classes_`.
        """
        return softmax(self._outputs(X, lengths) / self.temperature_)

    def decision_function(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits over `temperature_`, whose softmax is `predict_proba`.

        Of an ensemble the logit is the logarithm of the members' mean probability.

        Parameters
        ----------
        X, lengths : as in `predict`

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            For two classes, as everywhere in scikit-learn, of shape (n,): the logit of
            ``classes_[1]`` less that of ``classes_[0]``.
        """
        logits = self._outputs(X, lengths) / self.temperature_
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
        labels, _ = read_labels(y, len(predicted), "y", classes=self.classes_)
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    @classmethod
    def from_torch(
        cls,
        lstm: Any,
        linear: Any,
        *,
        pooling: str = "last",
        classes: ArrayLike | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a fitted classifier with the weights of a `torch.nn.LSTM` and its linear layer.

        Parameters
        ----------
        lstm : torch.nn.LSTM
            With biases and without projection.
        linear : torch.nn.Linear
            The logits; a single one is that of the second class against the first.
        pooling : {"last", "mean", "max", "meanmax"}, default="last"
            What stands between the two.
        classes : array-like of shape (n_classes,), optional
            Label of each logit; 0 to k - 1 when not given.
        **arguments
            Further arguments of the constructor, as ``warm_start=True`` to train on with `fit`.

        Returns
        -------
        SensorLSTMClassifier
            It takes windows as that network did: scaled outside, `scaler_` is None.

        Raises
        ------
        ArgumentError
            If a layer has no bias, a projection, or the sizes do not fit each other.
        """
        module = two_logits(LSTMLinear.from_torch(lstm, linear, pooling))
        estimator: Self = import_network(cls, module, arguments, classes, "torch.nn.LSTM")
        return estimator

    @classmethod
    def from_keras(cls, model: Any, *, classes: ArrayLike | None = None, **arguments: Any) -> Self:
        """Return a fitted classifier with the weights of a Keras model.

        Parameters
        ----------
        model : keras.Model
            A chain of LSTM or Bidirectional(LSTM) layers, at most one global pooling over time, and
            a Dense layer with softmax, or with logits, or with one sigmoid unit. Keras is not
            imported: what counts are `layers`, `get_config()` and `get_weights()`.
        classes : array-like of shape (n_classes,), optional
            Label of each output; 0 to k - 1 when not given.
        **arguments
            Further arguments of the constructor, as ``warm_start=True`` to train on with `fit`.

        Returns
        -------
        SensorLSTMClassifier
            It takes windows as that model did: scaled outside, `scaler_` is None.

        Raises
        ------
        ArgumentError
            If a layer is of another kind or computes something else; it is named.
        """
        module, activation = lstm_linear_from_keras(model)
        if activation == "sigmoid" and module.num_classes > 1:
            raise ArgumentError(
                f"the Keras model ends in {module.num_classes} sigmoid units, of which several may"
                " be on at once; a classifier chooses one class."
            )
        estimator: Self = import_network(cls, two_logits(module), arguments, classes, "Keras")
        return estimator

    def _import_targets(self, module: LSTMLinear, classes: Any) -> None:
        labels = np.arange(module.num_classes) if classes is None else np.asarray(classes)
        if labels.shape != (module.num_classes,) or len(np.unique(labels)) != len(labels):
            raise ArgumentError(
                f"classes={classes!r} for the {module.num_classes} outputs of the network; give as"
                " many different labels, in the order of the outputs."
            )
        order = np.argsort(labels)  # classes_ is sorted, so the outputs change places with it
        reorder_outputs(module, order)
        self.classes_ = labels[order]
        self.temperature_ = 1.0

    def _join_members(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the mean of the members' probabilities."""
        return np.asarray(logsumexp(log_softmax(outputs, axis=2), axis=0) - np.log(len(outputs)))

    @property
    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _learn_targets(
        self, y: Any, n_windows: int, taking_part: NDArray[np.bool_], *, continues: bool
    ) -> NDArray[Any]:
        if self._in_pass:
            known = read_known_labels(
                y, n_windows, "y", "X", self.classes_, "is not among the classes"
            )
            return known[taking_part]
        labels, one_hot_classes = read_labels(y, n_windows, "y")
        present = np.unique(labels[taking_part])
        if len(present) < 2:
            raise InputError(
                f"y holds one class ({present.tolist()[0]!r}); a classifier needs at least two."
            )
        classes = present if one_hot_classes is None else one_hot_classes
        if continues and not np.array_equal(classes, self.classes_):
            raise InputError(
                f"y holds the classes {classes.tolist()}, but warm_start=True goes on from"
                f" {self.classes_.tolist()}; take warm_start=False."
            )
        self.classes_ = classes
        return np.searchsorted(classes, labels[taking_part])

    def _read_validation_targets(self, y: Any, n_windows: int) -> NDArray[Any]:
        return read_known_labels(y, n_windows, "y_val", "X_val", self.classes_)

    def _engine_targets(self, part: Part) -> NDArray[Any]:
        return part.target

    def _weights_of(self, part: Part) -> NDArray[np.float64] | None:
        of_windows = raw_window_weights if self._in_pass else window_weights
        return of_windows(part.target, self.classes_, self.class_weight, part.weight)

    def _facts_of(self, train: Part, validation: Part | None) -> dict[str, Any]:
        counts = None if validation is None else np.bincount(validation.target)
        _warn_of_single_windows(self.classes_, train, validation)
        return {
            "n_classes": len(self.classes_),
            "n_val": None if counts is None else int(counts.sum()),
            "n_train": len(train.target),
            "majority_fraction": None if counts is None else float(counts.max() / counts.sum()),
        }

    def _check_parts(self, train: Part, validation: Part | None) -> None:
        if self.calibrate and validation is None:
            raise ArgumentError(
                "calibrate=True needs validation windows, and there are none. Take"
                " validation_fraction=0.2, give X_val, or take calibrate=False."
            )

    def _learn_probabilities(self, prepared: PreparedFit) -> None:
        self.temperature_ = 1.0
        self.__dict__.pop("abstention_", None)  # chosen for the probabilities of another fit
        if not self.calibrate:
            return
        data = prepared.validation
        assert data is not None  # _check_parts
        logits = np.concatenate([self._join(at.X, at.lengths) for at in data.blocks()])
        class_index, groups = data.target.cpu().numpy(), prepared.validation_groups
        self.temperature_ = fit_temperature(logits, class_index)
        spread = probability_spread(logits, class_index, self.temperature_, groups)
        if spread > NOTABLE_SPREAD:
            of = "" if groups is None else f" of {len(np.unique(groups))} group(s)"
            warn_caller(
                f"calibrate=True had {len(logits)} validation windows{of}: with others of the same"
                f" kind the probability of the likeliest class would differ by about {spread:.2f}."
                " Hold out more (validation_fraction, X_val), or do not rely on the probabilities.",
            )

    def _describe_targets(self) -> dict[str, Any]:
        return {
            "classes": describe_labels(self.classes_),
            "temperature": self.temperature_,
            "abstention": list(self.abstention_) if hasattr(self, "abstention_") else None,
        }

    def _restore_targets(self, take: Callable[[str, Any], Any]) -> None:
        self.classes_ = restore_labels(take("classes", dict))
        self.temperature_ = check_temperature(take("temperature", float))
        abstention = take("abstention", list | None)
        if abstention is not None:
            self.abstention_ = check_abstention(abstention)


def _warn_of_single_windows(classes: NDArray[Any], train: Part, validation: Part | None) -> None:
    """Name a class that has one window, which cannot be learned from and held out, too."""
    if validation is None:
        return
    counts = np.bincount(np.concatenate([train.target, validation.target]), minlength=len(classes))
    single = np.flatnonzero(counts == 1)
    if len(single):
        warn_caller(
            f"class {classes.tolist()[single[0]]!r} of y has one window ({len(single)} such"
            " classes): no validation can tell whether it is learned. Record more of it, or leave"
            " it out.",
        )
