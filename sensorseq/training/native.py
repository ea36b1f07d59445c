"""The native epoch engine behind a `TrainingConfig`: what it serves, and the steps it takes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.nn import LSTMLinear
from sensorseq.ops.choice import training_gap_here
from sensorseq.ops.train_epoch import (
    MAX_LAYERS,
    EpochTrainer,
    Network,
    StepStatistics,
    make_hyper,
    pack_batches,
)
from sensorseq.training.config import CLASSIFICATION, DTYPES, TrainingConfig
from sensorseq.training.crop import crop_starts
from sensorseq.training.data import RESIDENT_BYTES, TrainingData
from sensorseq.training.optim import make_optimizer


def gap_of(module: nn.Module, config: TrainingConfig, train: TrainingData) -> str | None:
    """Say what the native engine lacks to train `module` on `train`, None when it lacks nothing."""
    if not isinstance(module, LSTMLinear):
        return f"it trains LSTMLinear, not {type(module).__name__}"
    weight = module.linear.weight
    gap = native_engine_gap(
        config,
        num_layers=module.num_layers,
        device_type=weight.device.type,
        dtype=str(weight.dtype).removeprefix("torch."),
    )
    if gap is not None or weight.device.type == "cpu":
        return gap
    return training_gap_here(
        weight.device,
        weight.dtype,
        hidden_size=module.hidden_size,
        n_channels=module.input_size,
        num_layers=module.num_layers,
        head_norm=module.head_norm,
        n_bytes=train.X.nbytes,
        memory_bytes=RESIDENT_BYTES,
    )


def native_engine_gap(
    config: TrainingConfig, *, num_layers: int, device_type: str, dtype: str
) -> str | None:
    """Say what the native engine lacks for this training, None when it lacks nothing.

    On a GPU it serves less: see `sensorseq.ops.choice.training_gap`.

    Parameters
    ----------
    config : TrainingConfig
        How to train.
    num_layers : int
        Of the network.
    device_type : str
        ``torch.device.type`` of where to train.
    dtype : str
        Of the parameters, ``"float32"`` and the like.
    """
    if device_type not in ("cpu", "cuda"):
        return f"it runs on the CPU and on CUDA, not on {device_type}"
    if dtype not in DTYPES:
        return f"it computes in {' or '.join(DTYPES)}, not in {dtype}"
    if config.task != CLASSIFICATION:
        return "it trains classifiers, and this is a regression"
    if callable(config.loss):
        return "loss is a callable, which has no native form"
    if num_layers > MAX_LAYERS:
        return f"it has at most {MAX_LAYERS} layers, not {num_layers}"
    return None


def hyper_of(config: TrainingConfig, module: LSTMLinear) -> Tensor:
    """Return the row of hyper-parameters, shape (1, columns), that means what `config` says.

    Raises
    ------
    ArgumentError
        If torch refuses a value of `optimizer_params`.
    """
    # torch fills in its defaults and checks what it is given
    options = make_optimizer([nn.Parameter(torch.zeros(1))], config).defaults
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    bound = math.inf if config.max_grad_norm is None else config.max_grad_norm
    columns = {
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": options["weight_decay"],
        "l1": config.l1,
        "label_smoothing": config.label_smoothing,
        "dropout": module.dropout,
        "recurrent_dropout": module.recurrent_dropout,
        "ema_decay": config.ema_decay or 0.0,
        "max_grad_norm": bound if config.clip_by == "norm" else math.inf,
        "max_grad_value": bound if config.clip_by == "value" else math.inf,
    }
    for name in ("momentum", "dampening", "nesterov", "eps", "amsgrad", "alpha", "centered"):
        if name in options:
            columns[name] = float(options[name])
    return make_hyper(1, **columns)


def network_of(module: LSTMLinear) -> Network:
    """Return the sizes of `module`."""
    return Network(
        module.input_size,
        module.hidden_size,
        module.num_classes,
        module.num_layers,
        module.bidirectional,
        module.pooling,
        module.head_norm,
    )


class NativeEpochs:
    """The optimizer steps of one training run, a whole epoch at a time.

    Parameters
    ----------
    module : LSTMLinear
        Gives the first weights, and gets the new ones (their average with `ema_decay`) after each
        epoch.
    train : TrainingData
        On the device and in the dtype of `module`.
    config : TrainingConfig
        One that `native_engine_gap` finds nothing against.
    seed : int
        Of the dropout masks.
    """

    def __init__(
        self, module: LSTMLinear, train: TrainingData, config: TrainingConfig, *, seed: int
    ) -> None:
        self._module = module
        self._network = network_of(module)
        self._n_timesteps = train.X.shape[1]
        self._crops = (
            config.crop == "random"
            and config.max_timesteps is not None
            and config.max_timesteps < self._n_timesteps
        )
        self._kept_timesteps = (config.max_timesteps or 0) if self._crops else self._n_timesteps
        self._lengths = None if train.lengths is None else train.lengths.cpu().numpy()
        assert not callable(config.loss)
        self.trainer = EpochTrainer(
            self._network,
            self._network.flatten(dict(module.named_parameters()))[None],
            train.X,
            train.target,
            hyper_of(config, module),
            lengths=train.lengths,
            weight=train.weight,
            loss=config.loss,
            optimizer=config.optimizer,
            seeds=[seed],
            average=config.ema_decay is not None,
            n_timesteps=self._kept_timesteps,
        )
        weights = self.trainer.parameters if self.trainer.average is None else self.trainer.average
        # the module's parameters, in their order, as they lie in the trainer's buffer
        self._views = list(self._network.unflatten(weights[0]).values())
        self._read_module()

    def train_epoch(
        self,
        batches: Sequence[NDArray[np.int64]],
        learning_rates: Sequence[float],
        crop_rng: np.random.Generator | None = None,
        **options: Any,
    ) -> tuple[dict[str, float], StepStatistics]:
        """Take one step for each batch and put the weights into the module.

        Without `ema_decay`, the steps start from what the module holds: a callback's change to its
        weights is a change to the training.

        Parameters
        ----------
        batches : sequence of ndarray of int64
            Rows of each step.
        learning_rates : sequence of float
            Of each step.
        crop_rng : numpy.random.Generator, optional
            Draws the places of ``crop="random"``.
        **options
            `detail_every`, `margins` and `on_call` of `EpochTrainer.run`.

        Returns
        -------
        row : dict
            Columns of the history: `loss`, `accuracy`, `learning_rate`, `grad_norm`.
        statistics : StepStatistics
            Of each step.
        """
        self._read_module()
        rows, offsets = pack_batches([batches])
        starts = None
        if self._crops:
            drawn = [self._draw_crops(step, crop_rng) for step in batches]
            starts = torch.from_numpy(np.concatenate(drawn))
        rates = torch.tensor(learning_rates, dtype=torch.float64)
        steps = self.trainer.run(rows, offsets, rates, crop_starts=starts, **options)
        self._write_module(len(batches))
        n_windows = steps.n_windows[0].numpy()
        loss, accuracy, norm = (
            steps[name][0].numpy() for name in ("loss", "accuracy", "grad_norm")
        )
        row = {
            "loss": float((loss * n_windows).sum() / n_windows.sum()),
            "accuracy": float((accuracy * n_windows).sum() / n_windows.sum()),
            "learning_rate": learning_rates[-1],
            "grad_norm": float(norm.mean()),
        }
        return row, steps

    def _draw_crops(
        self, rows: NDArray[np.int64], rng: np.random.Generator | None
    ) -> NDArray[np.int64]:
        valid = (
            np.full(len(rows), self._n_timesteps) if self._lengths is None else self._lengths[rows]
        )
        return crop_starts(valid, self._kept_timesteps, "random", rng)

    def _running_statistics(self) -> list[Tensor]:
        norm: Any = self._module.norm
        return [norm.running_mean, norm.running_var]

    @torch.no_grad()
    def _read_module(self) -> None:
        trainer = self.trainer
        if trainer.average is None:
            torch._foreach_copy_(self._views, list(self._module.parameters()))
        if trainer.running is not None:
            trainer.running[0].copy_(torch.stack(self._running_statistics()))

    @torch.no_grad()
    def _write_module(self, n_steps: int) -> None:
        trainer = self.trainer
        torch._foreach_copy_(list(self._module.parameters()), self._views)
        if trainer.running is not None:
            for buffer, value in zip(self._running_statistics(), trainer.running[0], strict=True):
                buffer.copy_(value)
            norm: Any = self._module.norm
            norm.num_batches_tracked += n_steps
