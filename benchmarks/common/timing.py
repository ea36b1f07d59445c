"""Compare our speed with torch's, with the processor's peak and with sgemm.

Our step, torch's step, the peak and sgemm are timed alternately in one process. Our step and
torch's use the same weights, inputs, dtype and number of threads, and are timed only if their
results agree.
"""

import copy
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from common.measured_code import processor
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils.rnn import pack_padded_sequence

from sensorseq.errors import EnvironmentProblemError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import _extension
from sensorseq.ops.train_epoch import EpochTrainer, NetworkLayout, make_hyper

N_CLASSES = 8
# LSTMLinear.loss computes cross entropy inside the operator
KINDS = ("inference", "training, autograd", "training, loss()", "training, train_epoch")
_PEAK_TURNS = 20_000  # takes about a millisecond
_PAUSE_S = 0.02
_SGEMM_SIZE = 512
# Maximum error relative to the largest value; float32 stays well below it over 1000 timesteps.
_TOLERANCE = 1e-3

Side = Callable[[int], Any]
Call = Callable[[], list[Tensor]]
_CPU = torch.device("cpu")


class Shape(NamedTuple):
    """The sizes of a batch and of the network."""

    n_windows: int
    n_timesteps: int
    n_channels: int
    hidden_size: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


@dataclass(frozen=True)
class TimedPair:
    """Two functions that compute the same result n times, and the flops of one computation."""

    theirs: Side
    ours: Side
    flops: float


def make_pair(kind: str, shape: Shape, *, uniform_lengths: bool = False) -> TimedPair:
    """Return two functions to time, after checking that their results agree.

    In training, torch runs the forward pass, cross entropy and the backward pass, but no optimizer
    step. Our side runs these passes through autograd or, in ``"training, loss()"``, with the loss
    inside the operator. ``"training, train_epoch"`` is a step of the native engine that `fit` uses:
    gather, forward, loss, backward *and* an SGD update. With `uniform_lengths`, lengths are drawn
    uniformly from 1 to T, torch's time includes packing, and only the flops of valid steps are
    counted.
    """
    problem = Problem(shape, Precision(), uniform_lengths=uniform_lengths, seed=0)
    steps = shape.n_windows * shape.n_timesteps
    if problem.lengths is not None:
        steps = int(problem.lengths.sum())
    width = shape.hidden_size + shape.n_channels
    flops = 2.0 * 4 * shape.hidden_size * width * steps
    with torch.no_grad():
        _check_close(problem.our_logits(), problem.their_logits(), "logits", shape)
    if kind == "inference":
        return TimedPair(
            repeated(problem.their_logits, grad=False),
            repeated(problem.our_logits, grad=False),
            flops,
        )
    theirs = problem.theirs("training")
    if kind == "training, train_epoch":
        gradient, ours = _epoch_gradient(problem), _epoch_steps(problem)
    else:
        step = problem.fused_step() if kind == "training, loss()" else problem.ours("training")
        gradient, ours = _gradient(step), repeated(step)
    _check_close(gradient, _gradient(theirs), "gradients", shape)
    return TimedPair(repeated(theirs), ours, 3 * flops)


@dataclass(frozen=True)
class Precision:
    """The precision of both sides and the tolerated error.

    `allows_tf32` lets torch use TF32 in RNNs, as torch does by default. The input of torch's LSTM
    is zero-padded to at least `n_padded` channels, because cuDNN's fastest kernels need certain
    sizes. `tolerance` is the largest relative L2 error allowed against IEEE float32 with the same
    weights.
    """

    dtype: torch.dtype = torch.float32
    allows_tf32: bool = False
    tolerance: float = 1e-4
    n_padded: int = 0


class Problem:
    """A random network and random data for both sides; torch's time includes packing."""

    def __init__(
        self,
        shape: Shape,
        precision: Precision,
        device: torch.device = _CPU,
        *,
        uniform_lengths: bool = False,
        seed: int | None = None,
    ) -> None:
        n_windows, n_timesteps, n_channels, hidden_size = shape
        self.shape, self.precision, self.device = shape, precision, device
        generator = torch.Generator()
        self.seed = generator.seed() if seed is None else seed
        generator.manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            lstm = nn.LSTM(n_channels, hidden_size, batch_first=True)
            linear = nn.Linear(hidden_size, N_CLASSES)
        x = torch.randn(n_windows, n_timesteps, n_channels, generator=generator)
        y = torch.randint(0, N_CLASSES, (n_windows,), generator=generator)
        self.lengths: Tensor | None = None
        if uniform_lengths:
            self.lengths = torch.randint(1, n_timesteps + 1, (n_windows,), generator=generator)
        # weights and data are rounded first, so that only the arithmetic is compared
        self.module: Any = LSTMLinear.from_torch(lstm, linear).to(device, precision.dtype)
        self._rounded = lstm.to(device, precision.dtype), linear.to(device, precision.dtype)
        self.x = x.to(device, precision.dtype)
        self.y = y.to(device)
        self.device_lengths = None if self.lengths is None else self.lengths.to(device)
        self.lstm, self.linear = self.their_layers(precision.dtype, precision.n_padded)
        self.their_x = pad(self.x, (0, self.lstm.input_size - n_channels)).contiguous()

    def their_layers(self, dtype: torch.dtype, n_padded: int = 0) -> tuple[nn.LSTM, nn.Linear]:
        """Return torch's LSTM and linear layer in a dtype; weights of padded channels are zero."""
        rounded, linear = copy.deepcopy(self._rounded)
        n_channels = max(rounded.input_size, n_padded)
        lstm = nn.LSTM(
            n_channels, rounded.hidden_size, batch_first=True, device=self.device, dtype=dtype
        )
        with torch.no_grad():
            for name, parameter in lstm.named_parameters():
                value = getattr(rounded, name)
                if parameter.shape != value.shape:
                    value = pad(value, (0, parameter.shape[1] - value.shape[1]))
                parameter.copy_(value)
        return lstm, linear.to(dtype)

    def their_logits(self) -> Tensor:
        """Return torch's logits, (N, K)."""
        x: Any = self.their_x
        if self.lengths is not None:
            x = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        logits: Tensor = self.linear(self.lstm(x)[1][0][-1])
        return logits

    def our_logits(self) -> Tensor:
        """Return this package's logits, (N, K)."""
        logits: Tensor = self.module(self.x, self.device_lengths)
        return logits

    def theirs(self, kind: str) -> Call:
        """Return a function that runs torch's step."""
        parameters = [*self.lstm.parameters(), *self.linear.parameters()]
        return self._of_kind(kind, self.their_logits, parameters)

    def ours(self, kind: str) -> Call:
        """Return a function that runs this package's step."""
        return self._of_kind(kind, self.our_logits, list(self.module.parameters()))

    def fused_step(self) -> Call:
        """Return a function that runs this package's step with the loss inside the operator."""
        parameters = list(self.module.parameters())

        def train() -> list[Tensor]:
            loss = self.module.loss(self.x, self.y, self.lengths)
            return [loss.detach(), *torch.autograd.grad(loss, parameters)]

        return train

    def _of_kind(
        self, kind: str, logits: Callable[[], Tensor], parameters: Sequence[nn.Parameter]
    ) -> Call:
        def infer() -> list[Tensor]:
            with torch.no_grad():
                return [logits()]

        def train() -> list[Tensor]:
            outputs = logits()
            loss = cross_entropy(outputs.float(), self.y)
            return [outputs.detach(), *torch.autograd.grad(loss, parameters)]

        return infer if kind.endswith("inference") else train


def _trainer(problem: Problem) -> EpochTrainer:
    network = NetworkLayout(problem.shape.n_channels, problem.shape.hidden_size, N_CLASSES)
    parameters = network.flatten(dict(problem.module.named_parameters()))[None]
    return EpochTrainer(
        network,
        parameters,
        problem.x,
        problem.y,
        make_hyper(1),
        lengths=problem.lengths,
        optimizer="sgd",
    )


def _epoch_gradient(problem: Problem) -> Tensor:
    """Return the gradient, recovered from one step of plain SGD with a learning rate of 1."""
    trainer = _trainer(problem)
    before = trainer.parameters.clone()
    rows = torch.arange(len(problem.x))
    trainer.run(rows, torch.tensor([0, len(rows)]), 1.0)
    return (before - trainer.parameters)[0]


def _epoch_steps(problem: Problem) -> Side:
    trainer, n_windows = _trainer(problem), len(problem.x)

    def steps(n: int) -> None:
        rows = torch.arange(n_windows).repeat(n)
        trainer.run(rows, torch.arange(n + 1) * n_windows, 1e-6)

    return steps


def _gradient(step: Call) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in step()[1:]])


def synchronize(device: torch.device) -> None:
    """Wait until the GPU has finished; do nothing on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(call: Callable[[], Any], device: torch.device = _CPU, *, grad: bool = True) -> Side:
    """Return a function of n that calls `call` n times and waits for the last result."""

    def repeat(n: int) -> None:
        with torch.set_grad_enabled(grad):
            for _ in range(n):
                call()
        synchronize(device)

    return repeat


def _check_close(ours: Tensor, theirs: Tensor, name: str, shape: Shape) -> None:
    error = (ours - theirs).abs().max() / theirs.abs().max()
    if not error <= _TOLERANCE:
        raise EnvironmentProblemError(
            f"the {name} for {shape} differ from torch's by {error:.1g} relative to the largest"
            " value, so timings would be meaningless. Please report this with the output of"
            " `sensorseq info`."
        )


def alternate(
    *sides: Side,
    rounds: int = 21,
    at_least_s: float = 15e-3,
    warm_up_s: float = 0.05,
    warm_up_runs: int = 3,
    budget_s: float = 10.0,
    clock: Callable[[], float] | None = None,
) -> NDArray[np.float64]:
    """Time several sides alternately, so that drift affects all of them equally.

    The result is the time per computation in seconds, of shape (len(sides), rounds). Every second
    round runs in reverse order. Each timing lasts at least `at_least_s`, so fast functions are
    repeated. If all rounds would take longer than `budget_s`, fewer rounds are run, but never fewer
    than three unless `rounds` is smaller. With several threads, there is a pause before each side,
    because torch's threads keep spinning for milliseconds and would take a core from the next side.
    `clock` may measure processor time instead of wall-clock time.
    """
    clock = clock or time.perf_counter
    pause_s = _PAUSE_S if torch.get_num_threads() > 1 else 0.0
    repeats: list[int] = []
    one_round_s = 0.0
    for side in sides:
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < warm_up_s or n < warm_up_runs:
            side(1)
            n += 1
        each = (time.perf_counter() - started) / n
        repeats.append(max(1, round(at_least_s / each)))
        one_round_s += repeats[-1] * each
    rounds = min(rounds, max(3, int(budget_s / one_round_s)))
    times = np.empty((len(sides), rounds))
    order = range(len(sides))
    for i in range(rounds):
        for side_index in order if i % 2 == 0 else reversed(order):
            time.sleep(pause_s)
            started = clock()
            sides[side_index](repeats[side_index])
            times[side_index, i] = (clock() - started) / repeats[side_index]
    return times


def summarize(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> dict[str, float]:
    """Return the medians of paired times in ms, and the ratio theirs / ours with its spread."""
    low, middle, high = np.quantile(theirs / ours, [0.1, 0.5, 0.9])
    return {
        "theirs_ms": 1e3 * float(np.median(theirs)),
        "ours_ms": 1e3 * float(np.median(ours)),
        "ratio": float(middle),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
        "rounds": len(ours),
    }


def measure(pair: TimedPair, *, rounds: int = 21) -> dict[str, float]:
    """Time both functions and, in the same rounds, measure two limits of the processor.

    The peak is measured with multiply-adds in registers; sgemm is torch's product of two 512 x 512
    float32 matrices, the practical limit for a product that reads memory. The result contains the
    entries of `summarize`, the GFLOP/s of each limit and side, and the fraction of each limit that
    each side reaches.
    """
    threads = torch.get_num_threads()
    multiply_add = torch.ops.sensorseq.multiply_add_flops
    factor = torch.ones(_SGEMM_SIZE, _SGEMM_SIZE)
    product = torch.empty_like(factor)
    theirs, ours, peak, sgemm = alternate(
        pair.theirs,
        pair.ours,
        lambda n: multiply_add(n * _PEAK_TURNS, threads),
        repeated(lambda: torch.mm(factor, factor, out=product), grad=False),
        rounds=rounds,
    )
    row = summarize(theirs, ours)
    limits = {"peak": (multiply_add(_PEAK_TURNS, threads), peak)}
    limits["sgemm"] = (2.0 * _SGEMM_SIZE**3, sgemm)
    for limit, (flops, times) in limits.items():
        row[f"{limit}_gflops"] = 1e-9 * flops / float(np.median(times))
    for name in ("theirs", "ours"):
        row[f"{name}_gflops"] = 1e-6 * pair.flops / row[f"{name}_ms"]
        for limit in limits:
            row[f"{name}_of_{limit}"] = row[f"{name}_gflops"] / row[f"{limit}_gflops"]
    return row


def environment() -> dict[str, Any]:
    """Describe the processor and the versions without identifying the machine."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "isa": _extension.cpu_isa(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def format_row(row: dict[str, Any]) -> str:
    """Format one row as a line."""
    spread = f"[{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]"
    return (
        f"{row['what']:28}  {Shape(*row['shape'])!s:13}  {row['theirs_ms']:8.3f}"
        f"  {row['ours_ms']:8.3f}  {row['ratio']:5.2f}x {spread:14} {row['ours_of_peak']:5.0%}"
        f" {row['ours_of_sgemm']:5.0%}"
    )


HEADER = f"{'':28}  {'NxTxCxH':13}  torch ms   ours ms  ratio  [spread]        peak sgemm"
