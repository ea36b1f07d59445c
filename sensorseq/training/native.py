"""Train networks with the native epoch engine according to a `TrainingConfig`."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from operator import mul

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sensorseq.base.optimizers import NATIVE_STATES
from sensorseq.nn import LSTMLinear
from sensorseq.ops.choice import MANY, batches_of, training_gap_here
from sensorseq.ops.train_epoch import (
    MAX_LAYERS,
    EpochTrainer,
    NetworkLayout,
    StepStatistics,
    make_hyper,
    pack_batches,
)
from sensorseq.prediction.checked_windows import DTYPES, crop_starts
from sensorseq.training.batches import RESIDENT_BYTES, TrainingData
from sensorseq.training.config import TrainingConfig
from sensorseq.training.optim import optimizer_options
from sensorseq.training.stopping import ModuleWeights
from sensorseq.training.streamed_data import StreamedData


def gap_of(
    module: nn.Module, config: TrainingConfig, train: TrainingData | StreamedData
) -> str | None:
    """Return the reason why the native engine cannot train `module` on `train`, or None."""
    if not isinstance(module, LSTMLinear):
        return f"it trains only LSTMLinear, not {type(module).__name__}"
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
        n_bytes=train.resident_bytes,
        memory_bytes=RESIDENT_BYTES,
    )


def native_engine_gap(
    config: TrainingConfig, *, num_layers: int, device_type: str, dtype: str
) -> str | None:
    """Return the reason why the native engine cannot run this training, or None."""
    if device_type not in ("cpu", "cuda"):
        return f"it runs on CPU and CUDA, not on {device_type}"
    if dtype not in DTYPES:
        return f"it computes in {' or '.join(DTYPES)}, not in {dtype}"
    if callable(config.loss):
        return "the loss is a callable"
    if config.optimizer not in NATIVE_STATES:
        return f"it does not know optimizer={config.optimizer!r}"
    if num_layers > MAX_LAYERS:
        return f"it supports at most {MAX_LAYERS} layers, not {num_layers}"
    return None


def hyper_of(config: TrainingConfig, module: LSTMLinear) -> Tensor:
    """Return the hyper-parameters of `config` as a row for the engine, (1, columns)."""
    options = optimizer_options(config)
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    columns = {
        "beta1": beta1,
        "beta2": beta2,
        "weight_decay": options["weight_decay"],
        "label_smoothing": config.label_smoothing,
        "dropout": module.dropout,
        "recurrent_dropout": module.recurrent_dropout,
        "ema_decay": config.ema_decay or 0.0,
        "max_grad_norm": math.inf if config.max_grad_norm is None else config.max_grad_norm,
    }
    for name in ("momentum", "dampening", "nesterov", "eps", "amsgrad", "alpha", "centered"):
        if name in options:
            columns[name] = float(options[name])
    return make_hyper(1, **columns)


def layout_of(module: LSTMLinear) -> NetworkLayout:
    """Return the layout of the parameters of `module`."""
    return NetworkLayout(
        module.input_size,
        module.hidden_size,
        module.num_classes,
        module.num_layers,
        module.bidirectional,
        module.pooling,
        module.head_norm,
    )


def make_trainer(
    modules: Sequence[LSTMLinear],
    configs: Sequence[TrainingConfig],
    seeds: Sequence[int],
    data: TrainingData,
    n_timesteps: int,
) -> EpochTrainer:
    """Return a trainer for modules of one kind; `data.weight` may have one row per model."""
    network, config = layout_of(modules[0]), configs[0]
    assert not callable(config.loss)
    weights = [network.flatten(dict(module.named_parameters())) for module in modules]
    return EpochTrainer(
        network,
        torch.stack(weights),
        data.X,
        data.target,
        torch.cat([hyper_of(*pair) for pair in zip(configs, modules, strict=True)]),
        lengths=data.lengths,
        weight=data.weight,
        loss=config.loss,
        optimizer=config.optimizer,
        seeds=seeds,
        average=config.ema_decay is not None,
        n_timesteps=n_timesteps,
    )


class ModelWeights(ModuleWeights):
    """The weights of one model in a trainer, and the corresponding module.

    If the trainer keeps a moving average, the weights are the averages.
    """

    def __init__(self, module: LSTMLinear, trainer: EpochTrainer, model: int) -> None:
        super().__init__(module)
        self._norm = module.norm
        self._n_batches = self._statistics().get("num_batches_tracked")
        self.move(trainer, model)
        self.read_module()

    def move(self, trainer: EpochTrainer, model: int) -> None:
        """Set the trainer, and the index of this model in the trainer."""
        averages, self._network = trainer.average is not None, trainer.network
        self._flat = (trainer.average if averages else trainer.parameters)[model]  # type: ignore[index]
        self._reads = not averages
        # the module's parameters, in the order of the trainer's buffer
        self._views = list(self._network.unflatten(self._flat).values())
        self._running = None if trainer.running is None else trainer.running[model]

    def count_steps(self, n_steps: int) -> None:
        """Add steps to the number of batches that the batch norm has seen."""
        if self._n_batches is not None:
            self._n_batches = self._n_batches + n_steps

    def copy_state(self) -> dict[str, Tensor]:
        """Return a copy of the weights in the form of the module's state dict."""
        state = self._network.unflatten(self._flat.clone())
        if self._running is not None:
            assert self._n_batches is not None
            mean, variance = self._running.clone()
            state["norm.running_mean"], state["norm.running_var"] = mean, variance
            state["norm.num_batches_tracked"] = self._n_batches
        return state

    def join(self) -> Tensor:
        """Return the weights and running statistics as one vector."""
        if self._running is None:
            return self._flat
        return torch.cat([self._flat, self._running.reshape(-1)])

    @torch.no_grad()
    def read_module(self) -> None:
        """Load the module into the trainer, except for the weights if the trainer averages them."""
        if self._reads:
            torch._foreach_copy_(self._views, list(self.module.parameters()))
        if self._running is not None:
            statistics = self._statistics()
            self._running[0].copy_(statistics["running_mean"])
            self._running[1].copy_(statistics["running_var"])

    @torch.no_grad()
    def write_module(self) -> None:
        """Copy the weights into the module."""
        torch._foreach_copy_(list(self.module.parameters()), self._views)
        if self._running is not None:
            now = (*self._running, self._n_batches)
            for held, value in zip(self._statistics().values(), now, strict=True):
                held.copy_(value)

    def _statistics(self) -> dict[str, Tensor]:
        """Return the running statistics of the module's batch norm."""
        return {} if self._norm is None else dict(self._norm.named_buffers())


class RandomCrops:
    """With ``crop="random"``, draws the start of each window's crop in each optimizer step."""

    def __init__(self, config: TrainingConfig, train: TrainingData) -> None:
        self._full = train.X.shape[1]
        kept = config.max_timesteps
        self.crops = config.crop == "random" and kept is not None and kept < self._full
        self.n_timesteps: int = (kept or 0) if self.crops else self._full
        self._lengths = None if train.lengths is None else train.lengths.cpu().numpy()

    def draw(
        self, batches: Sequence[NDArray[np.int64]], rng: np.random.Generator | None
    ) -> NDArray[np.int64]:
        """Return the first timestep of each window's crop, in the order of the optimizer steps."""
        starts = []
        for rows in batches:
            full = np.full(len(rows), self._full)
            valid = full if self._lengths is None else self._lengths[rows]
            starts.append(crop_starts(valid, self.n_timesteps, "random", rng))
        return np.concatenate(starts)


def summarize_epochs(
    steps: StepStatistics, learning_rates: Sequence[Sequence[float]]
) -> list[dict[str, float]]:
    """Compute each model's history columns from the steps of an epoch."""
    n_windows = steps.n_windows.tolist()
    losses, accuracies, norms = (steps[name].tolist() for name in ("loss", "accuracy", "grad_norm"))
    rows = []
    for model, rates in enumerate(learning_rates):
        # leave out the empty steps of models with fewer steps; plain Python is fast enough here
        of_step = n_windows[model][: len(rates)]
        total = sum(of_step)
        rows.append(
            {
                "loss": math.fsum(map(mul, losses[model], of_step)) / total,
                "accuracy": math.fsum(map(mul, accuracies[model], of_step)) / total,
                "learning_rate": rates[-1],
                "grad_norm": math.fsum(norms[model][: len(rates)]) / len(rates),
            }
        )
    return rows


class NativeEpochs:
    """Executes the optimizer steps of similar runs; these runs are the models of one trainer.

    The modules provide the initial weights; `weights` are the trainer's copies of them (with
    `ema_decay`, their averages). Windows that several models share are stored once; `data` contains
    each model's windows in the trainer. The streamed windows of a single model are set with
    `replace_data`.
    """

    def __init__(
        self,
        modules: Sequence[LSTMLinear],
        windows: Sequence[TrainingData | StreamedData],
        configs: Sequence[TrainingConfig],
        seeds: Sequence[int],
    ) -> None:
        held = [part if isinstance(part, TrainingData) else part.nothing() for part in windows]
        self._configs = list(configs)
        self._crops = [RandomCrops(*pair) for pair in zip(configs, held, strict=True)]
        first_row: dict[Hashable, int] = {}
        sets: list[TrainingData] = []
        for part in held:
            if part.identity not in first_row:
                first_row[part.identity] = sum(map(len, sets))
                sets.append(part)
        firsts = [first_row[part.identity] for part in held]
        self._first_rows = torch.tensor(firsts)[:, None]
        joined = sets[0]
        if len(sets) > 1:
            lengths = [part.lengths for part in sets if part.lengths is not None]
            joined = TrainingData(
                torch.cat([part.X for part in sets]),
                torch.cat(lengths) if lengths else None,  # all parts have lengths, or none has
                torch.cat([part.target for part in sets]),
            )
        self.data = [
            replace(part, X=joined.X[first : first + len(part)])
            for part, first in zip(held, firsts, strict=True)
        ]
        weight = None
        if any(part.weight is not None for part in held):
            weight = joined.X.new_ones((len(held), len(joined)))
            for of_model, part, first in zip(weight, held, firsts, strict=True):
                if part.weight is not None:
                    of_model[first : first + len(part)] = part.weight
        joined = replace(joined, weight=weight)
        self.trainer = make_trainer(modules, configs, seeds, joined, self._crops[0].n_timesteps)
        self.weights = [
            ModelWeights(module, self.trainer, model) for model, module in enumerate(modules)
        ]

    def replace_data(self, data: TrainingData) -> None:
        """Continue training a single model on these windows, whose shape must not change."""
        if data is self.data[0]:
            return
        self.data = [data]
        # Crops depend on the lengths of these windows.
        self._crops = [RandomCrops(self._configs[0], data)]
        self.trainer.replace_data(data.X, data.target, lengths=data.lengths, weight=data.weight)

    def take_steps(
        self,
        batches: Sequence[Sequence[NDArray[np.int64]]],
        learning_rates: Sequence[Sequence[float]],
        crop_rngs: Sequence[np.random.Generator],
        *,
        margins: bool = False,
    ) -> StepStatistics:
        """Run a step for each batch of window indices of each model; see `EpochTrainer.run`."""
        rows, offsets = pack_batches(batches)
        starts = None
        if self._crops[0].crops:
            starts = torch.zeros_like(rows)
            for model, drawn in enumerate(zip(self._crops, batches, crop_rngs, strict=True)):
                crops, of_model, rng = drawn
                starts_of_model = crops.draw(of_model, rng)
                starts[model, : len(starts_of_model)] = torch.from_numpy(starts_of_model)
        rates = torch.zeros((len(batches), offsets.shape[1] - 1), dtype=torch.float64)
        for of_model, own_rates in zip(rates, learning_rates, strict=True):
            of_model[: len(own_rates)] = torch.tensor(own_rates, dtype=torch.float64)
        with batches_of(self._configs[0].batch_size or MANY):
            steps = self.trainer.run(
                rows + self._first_rows, offsets, rates, crop_starts=starts, margins=margins
            )
        for weights, taken in zip(self.weights, batches, strict=True):
            weights.count_steps(len(taken))
        return steps

    def keep(self, models: Sequence[int]) -> None:
        """Keep the models at these indices; drop the others."""
        self.trainer.keep(models)
        for name in ("_configs", "_crops", "data", "weights"):
            setattr(self, name, [getattr(self, name)[model] for model in models])
        self._first_rows = self._first_rows[list(models)]
        for place, weights in enumerate(self.weights):
            weights.move(self.trainer, place)
