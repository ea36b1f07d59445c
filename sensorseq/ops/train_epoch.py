"""Run many optimizer steps in one native call, for one or several models.

`EpochTrainer` updates the parameters and the optimizer state in place. It computes the
same results as torch's modules and optimizers of the same names; see csrc/lstm/train_epoch.h.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.base.optimizers import NATIVE_STATES
from sensorseq.errors import ArgumentError, EnvironmentProblemError, check_choice, nearest_known
from sensorseq.ops import _extension
from sensorseq.ops.choice import choose_here, n_sequences
from sensorseq.ops.lstm_linear import POOLINGS, pooled_size
from sensorseq.ops.lstm_linear_loss import LOSSES

_extension.load()

HYPER_COLUMNS = tuple(torch.ops.sensorseq.train_epoch_columns("hyper").split(","))
STATISTIC_COLUMNS = tuple(torch.ops.sensorseq.train_epoch_columns("statistics").split(","))
HEAD_NORMS = ("none", "batch", "layer")
"""The normalizations of the pooled vector."""
MAX_LAYERS = 8

_CALL_S = 0.25  # target duration of a native call, so that Ctrl-C takes effect within half a second
_TILE, _SLOTS = 6, 8  # kTileRows and kMaxSlots in csrc/cpu/dispatch.h
_ALIGNMENT = 64

# torch's defaults, without clipping and regularization
_DEFAULTS = {
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "alpha": 0.99,
    "max_grad_norm": math.inf,
}
_BELOW_ONE = ("beta1", "beta2", "label_smoothing", "dropout", "recurrent_dropout", "ema_decay")


def make_hyper(n_models: int = 1, **columns: float | Sequence[float]) -> Tensor:
    """Return the hyper-parameters as a float64 tensor of shape (n_models, len(HYPER_COLUMNS)).

    A column is given as one number for all models, or as one number for each model. The defaults
    are those of torch, without clipping, weight decay, smoothing or dropout. `momentum` is used by
    sgd and rmsprop, `dampening` and `nesterov` by sgd, `beta1`, `beta2` and `amsgrad` by
    adam and adamw, `alpha` and `centered` by rmsprop, and `eps` by adam, adamw and rmsprop.
    """
    hyper = np.zeros((n_models, len(HYPER_COLUMNS)))
    for name, value in {**_DEFAULTS, **columns}.items():
        if name not in HYPER_COLUMNS:
            nearest = nearest_known(name, HYPER_COLUMNS)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(
                f"hyper has no column {name!r}.{hint} Known: {', '.join(HYPER_COLUMNS)}."
            )
        column = np.asarray(value, dtype=np.float64)
        if column.shape not in ((), (n_models,)):
            raise ArgumentError(
                f"{name} has shape {column.shape}; expected one number or {n_models} numbers."
            )
        hyper[:, HYPER_COLUMNS.index(name)] = column
    _check_hyper(hyper)
    return torch.from_numpy(hyper)


def _check_hyper(hyper: NDArray[np.float64]) -> None:
    for column, name in enumerate(HYPER_COLUMNS):
        values = hyper[:, column]
        bounded = name in _BELOW_ONE
        inside = (values >= 0) & (values < 1) if bounded else values >= 0
        if name == "max_grad_norm":
            inside = values > 0
        elif not bounded:
            inside &= np.isfinite(values)
        if not inside.all():
            wrong = values[~inside][0]
            accepted = "in [0, 1)" if bounded else "above 0" if "max" in name else "0 or more"
            raise ArgumentError(f"{name}={wrong:g} must be {accepted}.")
    parts = {name: hyper[:, HYPER_COLUMNS.index(name)] for name in ("momentum", "dampening")}
    nesterov = hyper[:, HYPER_COLUMNS.index("nesterov")] != 0
    if (nesterov & ((parts["momentum"] == 0) | (parts["dampening"] != 0))).any():
        raise ArgumentError("nesterov=1 needs momentum above 0 and dampening=0.")


def parameter_suffix(layer: int, direction: int) -> str:
    """Return the suffix that torch gives to the parameter names of a layer and direction."""
    return f"_l{layer}" + ("_reverse" if direction else "")


def lstm_shapes(
    input_size: int, hidden_size: int, num_layers: int, n_directions: int
) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the parameters of a `torch.nn.LSTM`, in torch's order."""
    gates = 4 * hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        inputs = hidden_size * n_directions if layer else input_size
        for direction in range(n_directions):
            suffix = parameter_suffix(layer, direction)
            shapes[f"weight_ih{suffix}"] = (gates, inputs)
            shapes[f"weight_hh{suffix}"] = (gates, hidden_size)
            shapes[f"bias_ih{suffix}"] = shapes[f"bias_hh{suffix}"] = (gates,)
    return shapes


@dataclass(frozen=True)
class NetworkLayout:
    """The sizes of an LSTM classifier, and the order of its parameters in one flat buffer.

    The parameters have the same order and names as in `sensorseq.nn.LSTMLinear`, including the two
    biases, so that ``torch.nn.utils.parameters_to_vector(module.parameters())`` is the buffer.
    """

    input_size: int
    hidden_size: int
    num_classes: int
    num_layers: int = 1
    bidirectional: bool = False
    pooling: str = "last"
    head_norm: str = "none"

    def __post_init__(self) -> None:
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("head_norm", self.head_norm, HEAD_NORMS)
        if not 1 <= self.num_layers <= MAX_LAYERS:
            raise ArgumentError(f"num_layers={self.num_layers} must be 1 to {MAX_LAYERS}.")

    @property
    def n_directions(self) -> int:
        """The number of directions, D."""
        return 2 if self.bidirectional else 1

    @property
    def pooled_size(self) -> int:
        """The width of the pooled vector, P."""
        return pooled_size(self.pooling, self.hidden_size, self.n_directions)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter, in the order of the buffer."""
        width = self.pooled_size
        of_layers = lstm_shapes(
            self.input_size, self.hidden_size, self.num_layers, self.n_directions
        )
        shapes = {f"lstm.{name}": shape for name, shape in of_layers.items()}
        if self.head_norm != "none":
            shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
        return shapes | {
            "linear.weight": (self.num_classes, width),
            "linear.bias": (self.num_classes,),
        }

    @property
    def n_parameters(self) -> int:
        """The number of parameters, Q."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Copy the named parameters of a state dict into one buffer of shape (Q,)."""
        return torch.cat(
            [parameters[name].detach().reshape(-1) for name in self.parameter_shapes()]
        )

    def unflatten(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return the parameters in a buffer of shape (Q,) as named views of the buffer."""
        shapes = self.parameter_shapes()
        parts = buffer.split([math.prod(shape) for shape in shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }


@dataclass(frozen=True)
class StepStatistics:
    """Statistics of the S steps of one call, which together train on R rows.

    `values` is a float64 tensor (M, S, len(STATISTIC_COLUMNS)) with the columns of `enum Statistic`
    in csrc/lstm/train_epoch.h. The values of a step without windows are NaN. `n_windows` (M or 1,
    S) contains the number of windows in each step. `margins` (M, R) contains, for each row, the
    logit of the row's class minus the largest other logit, before the step that trains on that row.
    """

    values: Tensor
    n_windows: Tensor
    margins: Tensor | None = None

    @classmethod
    def concatenate(cls, parts: "Sequence[StepStatistics]") -> "StepStatistics":
        """Concatenate the statistics of consecutive calls, without margins."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.values for part in parts], dim=1),
            torch.cat([part.n_windows for part in parts], dim=1),
        )

    def __getitem__(self, name: str) -> Tensor:
        """Return one column, of shape (M, S)."""
        check_choice("column", name, STATISTIC_COLUMNS)
        return self.values[:, :, STATISTIC_COLUMNS.index(name)]


def pack_batches(batches: Sequence[Sequence[Any]]) -> tuple[Tensor, Tensor]:
    """Return the batches of all models as the rows and offsets that `EpochTrainer.run` needs.

    Step s of model m trains on ``rows[m, offsets[m, s] : offsets[m, s + 1]]``. If a model has fewer
    steps than the others, its last steps are empty.
    """
    n_steps = max((len(of_model) for of_model in batches), default=0)
    sizes = np.zeros((len(batches), n_steps), dtype=np.int64)
    for model, of_model in enumerate(batches):
        sizes[model, : len(of_model)] = [len(step) for step in of_model]
    offsets = np.concatenate([np.zeros((len(batches), 1), np.int64), sizes.cumsum(1)], axis=1)
    rows = np.zeros((len(batches), int(offsets[:, -1].max(initial=0))), dtype=np.int64)
    for model, of_model in enumerate(batches):
        if len(of_model):
            rows[model, : offsets[model, -1]] = np.concatenate([np.asarray(s) for s in of_model])
    return torch.from_numpy(rows), torch.from_numpy(offsets)


def n_lanes(n_models: int, n_threads: int, max_batch: int) -> int:
    """Return how many models to train in parallel; 1 if one model can use more threads."""
    inside = min(n_threads, _SLOTS, -(-max_batch // _TILE))
    beside = min(n_threads, n_models)
    return beside if beside >= inside else 1


class EpochTrainer:
    """Trains M models on data in memory, a range of steps per call.

    The initial `parameters` (M, Q) are copied; `network` is their layout. The windows `x` have
    shape (N, T, C), or (M, N, T, C) if each model has its own windows; they are copied only if they
    are not contiguous. If `parameters` are on a GPU, CUDA kernels run the steps (see
    `sensorseq.ops.choice.training_gap`); the other inputs may be on the CPU. `class_index` and
    `weight` have shape (N,) or (M, N). `seeds` contains the seed of `dropout_mask` for each model.
    With `average`, an exponential moving average of the parameters is kept, with `ema_decay` from
    `hyper`. `n_timesteps` is the length of a crop, if `run` crops the windows.

    The optimizer's `state` has shape (M, rows, Q). The rows are, for sgd, the momentum buffer; for
    adam and adamw, exp_avg, exp_avg_sq and max_exp_avg_sq; and for rmsprop, square_avg, the
    momentum buffer and grad_avg. `running` (M, 2, P) contains the running mean and
    variance of ``head_norm="batch"``.

    The bits of a model's results do not depend on the other models, the number of threads, how its
    steps are divided into calls, or whether margins are recorded. Results on a GPU are
    reproducible, but not bit-identical to results on a CPU.
    """

    def __init__(
        self,
        network: NetworkLayout,
        parameters: Tensor,
        x: Tensor,
        class_index: Tensor,
        hyper: Tensor,
        *,
        lengths: Tensor | None = None,
        weight: Tensor | None = None,
        loss: str = "cross_entropy",
        optimizer: str = "adam",
        seeds: Iterable[int] | None = None,
        average: bool = False,
        n_timesteps: int | None = None,
    ) -> None:
        check_choice("loss", loss, LOSSES)
        check_choice("optimizer", optimizer, NATIVE_STATES)
        if parameters.dim() != 2 or parameters.shape[1] != network.n_parameters:
            raise ArgumentError(
                f"parameters has shape {tuple(parameters.shape)}; expected"
                f" (n_models, {network.n_parameters}) for {network}."
            )
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.hyper = hyper
        self.n_models = n_models = parameters.shape[0]
        self._device = device = parameters.device
        self._hold(x, class_index, lengths, weight)
        self._n_timesteps = self._x.shape[2] if n_timesteps is None else n_timesteps
        self._seeds = None if seeds is None else torch.tensor(list(seeds), dtype=torch.int64)
        self.parameters = parameters.detach().clone(memory_format=torch.contiguous_format)
        n_rows = len(NATIVE_STATES[optimizer])
        self.state = parameters.new_zeros((n_models, n_rows, network.n_parameters))
        self.step_count = torch.zeros(n_models, dtype=torch.int64, device=device)
        self.average = self.parameters.clone() if average else None
        self.running: Tensor | None = None
        if network.head_norm == "batch":
            self.running = parameters.new_zeros((n_models, 2, network.pooled_size))
            self.running[:, 1] = 1.0
        self._workspace = torch.empty(0, dtype=torch.uint8)
        self._window_s, self._last_size = math.inf, 1

    def replace_data(
        self,
        x: Tensor,
        class_index: Tensor,
        *,
        lengths: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Continue training on other windows of the same shape, with the same optimizer state."""
        if x.dim() in (3, 4) and x.shape[-2:] != self._x.shape[-2:]:
            raise ArgumentError(
                f"x has shape {tuple(x.shape)}; the trainer was made for windows of shape"
                f" {tuple(self._x.shape[-2:])}."
            )
        self._hold(x, class_index, lengths, weight)

    def _hold(
        self, x: Tensor, class_index: Tensor, lengths: Tensor | None, weight: Tensor | None
    ) -> None:
        if x.dim() not in (3, 4):
            raise ArgumentError(
                f"x has shape {tuple(x.shape)}; expected (n_windows, n_timesteps, n_channels),"
                " preceded by n_models if each model has its own windows."
            )
        self._x = (x if x.dim() == 4 else x[None]).detach().contiguous()
        # classes and lengths are also kept on the CPU, to be checked before a GPU reads them
        self._class_index_here = torch.atleast_2d(class_index).cpu().contiguous()
        self._lengths_here = None if lengths is None else lengths.cpu().contiguous()
        self._class_index = self._class_index_here.to(self._device)
        self._lengths = _maybe_to(self._device, self._lengths_here)
        self._weight = _maybe_to(
            self._device, None if weight is None else torch.atleast_2d(weight).contiguous()
        )

    def run(
        self,
        rows: Tensor,
        offsets: Tensor,
        learning_rate: Tensor | float,
        *,
        crop_starts: Tensor | None = None,
        margins: bool = False,
        on_call: Callable[[int], Any] | None = None,
    ) -> StepStatistics:
        """Run the steps given by `rows` and `offsets`; see `pack_batches`.

        An empty step does nothing. `learning_rate` may vary by step and has shape (S,) or (M, S).
        `crop_starts` contains the timestep at which each window's crop of `n_timesteps` begins.
        After each native call, `on_call` receives the number of steps taken so far; the calls are
        short, so that Ctrl-C ends the run between two steps. An invalid shape, row, class or length
        raises a RuntimeError before anything is changed.
        """
        rows, offsets = _of_models(rows).cpu(), _of_models(offsets).cpu()
        n_steps = offsets.shape[1] - 1
        rates = torch.as_tensor(learning_rate, dtype=torch.float64).cpu()
        rates = rates.expand(n_steps) if rates.dim() == 0 else rates
        n_windows = offsets[:, 1:] - offsets[:, :-1]
        max_batch = int(n_windows.max()) if n_windows.numel() else 0
        shape = (self.n_models, n_steps, len(STATISTIC_COLUMNS))
        device = self._device
        statistics = torch.full(shape, math.nan, dtype=torch.float64, device=device)
        of_rows = (
            self.parameters.new_full((self.n_models, rows.shape[1]), math.nan) if margins else None
        )
        starts = None if crop_starts is None else _of_models(crop_starts).cpu()
        is_on_gpu = _is_gpu(device)
        precision, seeds = "", self._seeds
        if is_on_gpu:
            precision = self._prepare_gpu(rows, offsets, starts, max_batch)
            if not self._has_dropout():
                seeds = None  # no masks are drawn
        lanes = 1 if is_on_gpu else n_lanes(self.n_models, torch.get_num_threads(), max_batch)
        batches = rows.to(device), offsets.to(device), _maybe_to(device, starts)
        recorded = statistics, of_rows
        arguments = self._native_arguments(batches, rates, seeds, recorded, max_batch, lanes)
        # cumulative sum over the steps of the largest number of windows of any model
        done = np.zeros(n_steps + 1, np.int64)
        n_windows.numpy().max(axis=0).cumsum(out=done[1:])
        taken = 0
        while taken < n_steps:
            size = self._call_size(done, taken)
            started = time.perf_counter()
            torch.ops.sensorseq.train_epoch(*arguments, taken, size, lanes, precision)
            if is_on_gpu:
                # Wait, so that timing, progress and Ctrl-C refer to the steps actually taken.
                torch.cuda.synchronize(device)
            elapsed = max(time.perf_counter() - started, 1e-6)
            self._window_s = elapsed / max(1, int(done[taken + size] - done[taken]))
            self._last_size = size
            taken += size
            if on_call is not None:
                on_call(taken)
        return StepStatistics(statistics.cpu(), n_windows, _maybe_to(torch.device("cpu"), of_rows))

    def _native_arguments(
        self,
        batches: tuple[Tensor, Tensor, Tensor | None],
        rates: Tensor,
        seeds: Tensor | None,
        recorded: tuple[Tensor, Tensor | None],
        max_batch: int,
        lanes: int,
    ) -> tuple[Any, ...]:
        """Return the arguments that are the same in all native calls of a run."""
        device, network = self._device, self.network
        sizes = (network.hidden_size, network.num_layers, network.n_directions, network.num_classes)
        return (
            self._x,
            self._lengths,
            self._class_index,
            self._weight,
            *batches,
            _of_models(rates).to(device),
            self.hyper.to(device),
            _maybe_to(device, seeds),
            self.parameters,
            self.state,
            self.step_count,
            self.average,
            self.running,
            *recorded,
            recorded[0].new_empty(0) if _is_gpu(device) else self._reserve(sizes, max_batch, lanes),
            self._n_timesteps,
            *sizes,
            network.pooling,
            network.head_norm,
            self.loss,
            self.optimizer,
            max_batch,
        )

    def keep(self, models: Sequence[int]) -> None:
        """Keep the models at these indices, in this order, and drop the others."""
        places = torch.as_tensor(list(models), dtype=torch.int64)
        if not len(places) or not ((places >= 0) & (places < self.n_models)).all():
            raise ArgumentError(
                f"models={list(models)} must be one or more indices from 0 to {self.n_models - 1}."
            )

        of_models = ("hyper", "parameters", "state", "step_count", "average", "running", "_seeds")
        shared_or_own = ("_x", "_class_index", "_class_index_here", "_weight")
        for name in of_models + shared_or_own:
            tensor = getattr(self, name)
            if tensor is not None and (name in of_models or len(tensor) > 1):
                setattr(self, name, tensor.index_select(0, places.to(tensor.device)))
        self.n_models = len(places)

    def _has_dropout(self) -> bool:
        columns = [HYPER_COLUMNS.index(name) for name in ("dropout", "recurrent_dropout")]
        return bool((self.hyper[:, columns] != 0).any())

    def _prepare_gpu(
        self, rows: Tensor, offsets: Tensor, crop_starts: Tensor | None, max_batch: int
    ) -> str:
        """Check the indices before a GPU reads them; return the precision of the kernels."""
        if self._seeds is None and self._has_dropout():
            raise RuntimeError(
                "sensorseq: seeds is missing; dropout and recurrent_dropout need it."
            )
        torch.ops.sensorseq.train_epoch_check(
            self._lengths_here,
            self._class_index_here,
            rows,
            offsets,
            crop_starts,
            self._x.shape[2],
            self._n_timesteps,
            self.network.num_classes,
            max_batch,
        )
        dtype = self.parameters.dtype
        choice = choose_here(
            self._device,
            dtype,
            hidden_size=self.network.hidden_size,
            n_sequences=n_sequences(1, max_batch, self.network.n_directions),
        )
        if choice.served_by != "native":
            raise EnvironmentProblemError(
                f"no CUDA kernel can run these steps: {choice.reason}. Train on the CPU, or with"
                " engine='autograd'."
            )
        return choice.precision

    def _call_size(self, done: NDArray[np.int64], taken: int) -> int:
        """Choose the number of steps in the next call from the time of the previous call."""
        affordable = done[taken] + _CALL_S / self._window_s
        size = int(np.searchsorted(done, affordable, side="right")) - 1 - taken
        # the number grows by a factor of at most four, because the next windows may be longer
        return max(1, min(size, 4 * self._last_size, len(done) - 1 - taken))

    def _reserve(self, sizes: tuple[int, ...], max_batch: int, lanes: int) -> Tensor:
        """Return the workspace, which is reallocated only if it must grow."""
        n_bytes = torch.ops.sensorseq.train_epoch_workspace_bytes(
            self._x.shape[3],
            self._n_timesteps,
            *sizes,
            self.network.pooling,
            self.network.head_norm,
            max_batch,
            lanes,
            self.parameters.element_size(),
        )
        if len(self._workspace) < n_bytes + _ALIGNMENT:
            self._workspace = torch.empty(n_bytes + _ALIGNMENT, dtype=torch.uint8)
        begin = -self._workspace.data_ptr() % _ALIGNMENT
        return self._workspace[begin : begin + n_bytes]


def _is_gpu(device: torch.device) -> bool:
    return device.type != "cpu"


def _maybe_to(device: torch.device, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def _of_models(values: Tensor) -> Tensor:
    """Return values with one row for each model, or with a single row that all models share."""
    return (values if values.dim() == 2 else values[None]).contiguous()


def recurrent_site(layer: int) -> int:
    """Return the site of a layer's recurrent dropout; its mask has shape (batch, D, H)."""
    return 2 * layer


def output_site(layer: int) -> int:
    """Return the site of dropout after a layer or, for the top layer, after pooling and norm."""
    return 2 * layer + 1


def dropout_mask(
    seed: int, step: int, site: int, shape: Sequence[int], probability: float
) -> NDArray[np.float64]:
    """Return the dropout factors, each of which is 0 or ``1 / (1 - probability)``.

    csrc/base/counter_random.h computes the same factors. The random number for element i, in
    row-major order, is output i of SplitMix64, started at ``mix(mix(mix(seed) + step) + site)``.
    `step` is the number of earlier steps. SplitMix64 was published by Steele, Lea and Flood, *Fast
    Splittable Pseudorandom Number Generators*, 2014.
    """
    start = np.array([seed & (2**64 - 1)], dtype=np.uint64)
    start = mix(mix(mix(start) + np.uint64(step)) + np.uint64(site))
    elements = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
    bits = mix(start + elements * np.uint64(0x9E3779B97F4A7C15))
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.where(uniform < probability, 0.0, 1.0 / (1.0 - probability)).reshape(shape)


def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the outputs of SplitMix64 for these states."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@torch.library.register_fake("sensorseq::train_epoch")
def _(x: Tensor, *others: Any) -> None:
    torch._check(x.dim() == 4, lambda: "x needs 4 dimensions")
