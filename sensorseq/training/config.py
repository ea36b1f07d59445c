"""Validate the settings of a training run, and choose the engine."""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sensorseq.base.checks import check_flag, check_integer, check_real
from sensorseq.base.optimizers import OPTIMIZERS
from sensorseq.errors import ArgumentError, check_choice, nearest_known
from sensorseq.prediction.checked_windows import CROPS

LOSSES = ("cross_entropy", "focal")
MONITORS = ("val_loss", "val_accuracy", "loss", "accuracy")
SCHEDULES = ("constant", "cosine", "plateau")
SAMPLERS = ("shuffle", "balanced", "sqrt")
ENGINES = ("auto", "native", "autograd")
AUTO = "auto"  # value of max_epochs that aims for AUTO_STEPS
AUTO_STEPS = 400  # number of optimizer steps that max_epochs="auto" aims for
AUTO_EPOCHS = (24, 200)  # minimum and maximum number of epochs that "auto" chooses


_CHOICES: dict[str, Iterable[str]] = {  # allowed values of `TrainingConfig` arguments
    "optimizer": OPTIMIZERS,
    "lr_schedule": SCHEDULES,
    "sampler": SAMPLERS,
    "crop": CROPS,
    "monitor": MONITORS,
}


class EngineChoice(NamedTuple):
    """The engine used for training, and why it was chosen.

    Attributes
    ----------
    name : {"native", "autograd"}
        The engine.
    reason : str
        The reason for the choice.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


AUTOGRAD = EngineChoice("autograd", "requested")


def choose_engine(engine: str, gap: str | None) -> EngineChoice:
    """Choose the engine for the argument `engine`.

    Parameters
    ----------
    engine : {"auto", "native", "autograd"}
        The requested engine.
    gap : str or None
        The reason why the native engine cannot run this training; see `native_engine_gap`.

    Raises
    ------
    ArgumentError
        If the name is unknown, or if the native engine is requested but does not support this
        training.
    """
    check_choice("engine", engine, ENGINES)
    if engine == "autograd":
        return AUTOGRAD
    if gap is None:
        reason = "requested" if engine == "native" else "it supports this training"
        return EngineChoice("native", reason)
    if engine == "native":
        raise ArgumentError(
            f"engine='native' does not support this training: {gap}. With engine='auto' (the"
            " default), the autograd engine is used."
        )
    return EngineChoice("autograd", f"the native engine does not support this: {gap}")


@dataclass(frozen=True)
class TrainingConfig:
    """Training settings; all fields but `n_outputs` are arguments of the estimator.

    Parameters
    ----------
    n_outputs : int
        Number of outputs of the head, K, which is the number of classes.
    loss : str or callable
        See `sensorseq.training.evaluation.make_loss`.
    label_smoothing : float
        Fraction of the target that is spread evenly over the classes, in [0, 1).
    optimizer, learning_rate, optimizer_params, weight_decay
        See `sensorseq.training.optim`.
    lr_schedule, warmup_epochs, ema_decay
        See `sensorseq.training.optim` and `sensorseq.training.stopping`. `warmup_epochs` is a
        number of epochs (int) or a fraction of all steps of the run (float in (0, 1)).
    batch_size : int or None
        Number of windows per batch; None makes one batch of the entire training part.
    sampler : {"shuffle", "balanced", "sqrt"}
        See `sensorseq.training.batches`.
    max_epochs, max_steps
        Limits on the length of the run; see `count_epochs`.
    max_grad_norm : float or None
        Bound on the global norm of the gradient before each step. None means no clipping.
    max_timesteps : int or None
        Maximum number of time steps of a window. The engine itself makes only the crops of
        ``crop="random"``, which change in each epoch; other crops must be made before scaling.
    crop : {"head", "tail", "centre", "random"}
        Which time steps of a longer window are kept.
    early_stopping : bool
        Whether to stop when `monitor` has not improved by more than `tol` for `patience` epochs.
    patience, tol, monitor
        See `early_stopping`.
    restore_best : bool
        Whether to keep the weights of the best epoch instead of those of the last epoch.

    Raises
    ------
    ArgumentError
        If a value is invalid, or if two arguments contradict each other.
    """

    n_outputs: int
    loss: str | Callable[..., Any] = "cross_entropy"
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    optimizer_params: Mapping[str, Any] | None = None
    lr_schedule: str = "cosine"
    warmup_epochs: int | float = 0
    ema_decay: float | None = None
    batch_size: int | None = 32
    sampler: str = "shuffle"
    max_epochs: int | str = 200
    max_steps: int | None = None
    max_grad_norm: float | None = 1.0
    weight_decay: float = 0.0
    max_timesteps: int | None = None
    crop: str = "head"
    early_stopping: bool = True
    patience: int = 20
    tol: float = 1e-4
    monitor: str = "val_loss"
    restore_best: bool = True

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_integer("n_outputs", self.n_outputs, 2)
        if not callable(self.loss):
            check_choice("loss", self.loss, LOSSES)
        check_real("label_smoothing", self.label_smoothing, 0.0, 1.0)
        if self.ema_decay is not None:
            check_real("ema_decay", self.ema_decay, 0.0, 1.0)
        for name in ("weight_decay", "tol"):
            check_real(name, getattr(self, name), 0.0)
        for name in ("batch_size", "max_steps", "max_timesteps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1)
        for name in ("early_stopping", "restore_best"):
            check_flag(name, getattr(self, name))
        check_integer("patience", self.patience, 1)
        check_real("learning_rate", self.learning_rate, 0.0, low_open=True)
        if self.max_grad_norm is not None:
            check_real("max_grad_norm", self.max_grad_norm, 0.0, low_open=True)
        if callable(self.loss) and self.label_smoothing:
            raise ArgumentError(
                "label_smoothing has no effect on a callable loss; apply the smoothing in the loss"
                " itself and set label_smoothing=0."
            )
        self._check_optimizer_params()
        self._check_warmup()
        if not isinstance(self.max_epochs, str):
            # The limit keeps the number of steps within the range of 64-bit integers.
            check_integer("max_epochs", self.max_epochs, 1, 10**15)
        elif self.max_epochs != AUTO:
            raise ArgumentError(
                f"max_epochs={self.max_epochs!r} must be an integer of at least 1, or {AUTO!r}."
            )

    @property
    def n_epochs(self) -> int:
        """The value of `max_epochs` if it is a number; see `count_epochs` for ``"auto"``."""
        if isinstance(self.max_epochs, str):
            raise ArgumentError(
                f"max_epochs={self.max_epochs!r} has no value until the training windows are known."
            )
        return int(self.max_epochs)

    def _check_warmup(self) -> None:
        value = self.warmup_epochs
        if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
            if not 0 < value < 1:
                raise ArgumentError(
                    f"warmup_epochs={value!r} must be an integer of at least 0 (epochs), or a"
                    " number in (0, 1) (a fraction of all steps)."
                )
        else:
            check_integer("warmup_epochs", value, 0)

    def _check_optimizer_params(self) -> None:
        params = self.optimizer_params
        if params is None:
            return
        if not isinstance(params, Mapping):
            raise ArgumentError(
                f"optimizer_params={params!r} must be a dictionary of torch's options, or None."
            )
        arguments = {"lr": "learning_rate", "weight_decay": "weight_decay"}
        names = OPTIMIZERS[self.optimizer].options
        for key, argument in arguments.items():
            if key in params and key not in names:
                raise ArgumentError(
                    f"optimizer_params contains {key!r}; use the estimator's argument {argument}="
                    " instead."
                )
        for key in params:
            if key not in names:
                nearest = nearest_known(key, names)
                hint = f" Did you mean {nearest!r}?" if nearest else ""
                raise ArgumentError(
                    f"optimizer_params contains {key!r}, which optimizer={self.optimizer!r} does"
                    f" not have.{hint} Known: {', '.join(names)}."
                )
        if "momentum" in params:
            check_real("optimizer_params: momentum", params["momentum"], 0.0, 1.0)


def count_epochs(config: TrainingConfig, steps_per_epoch: int) -> int:
    """Return the number of epochs in a run that does not stop early.

    ``max_epochs="auto"`` means enough epochs for `AUTO_STEPS` steps, within the limits
    `AUTO_EPOCHS`. With `max_steps`, the run ends after the epoch in which this number is reached.
    """
    if isinstance(config.max_epochs, str):
        fewest, most = AUTO_EPOCHS
        n_epochs = min(max(math.ceil(AUTO_STEPS / steps_per_epoch), fewest), most)
    else:
        n_epochs = config.n_epochs
    if config.max_steps is None:
        return n_epochs
    return min(n_epochs, math.ceil(config.max_steps / steps_per_epoch))


def count_warmup_steps(config: TrainingConfig, steps_per_epoch: int) -> int:
    """Return the number of warm-up steps, at least one if they are given as a fraction."""
    n_steps = count_epochs(config, steps_per_epoch) * steps_per_epoch
    if 0 < config.warmup_epochs < 1:
        return max(1, round(config.warmup_epochs * n_steps))
    return min(int(config.warmup_epochs) * steps_per_epoch, n_steps)
