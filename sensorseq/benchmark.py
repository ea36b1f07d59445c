"""Speed compared with torch, alternating in one process, with the processor's peak and with sgemm.

Both sides use the same weights, inputs, dtype and threads, and their results are compared before
they are timed.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence

from sensorseq.errors import EnvironmentProblemError
from sensorseq.nn import LSTMLinear
from sensorseq.ops import _extension
from sensorseq.ops.train_epoch import EpochTrainer, Network, make_hyper

N_CLASSES = 8
# LSTMLinear.loss computes cross entropy inside the operator; it is timed if it exists
KINDS = (
    "inference",
    "training, autograd",
    *(["training, loss()"] if hasattr(LSTMLinear, "loss") else []),
    "training, train_epoch",
)
_PEAK_TURNS = 20_000  # about a millisecond
_SGEMM_SIZE = 512
_TOLERANCE = 1e-3  # relative to the largest value; float32 over 1000 timesteps stays well below

Side = Callable[[int], Any]


class Shape(NamedTuple):
    """Sizes of a batch and of the network."""

    n_windows: int
    n_timesteps: int
    n_channels: int
    hidden_size: int

    def __str__(self) -> str:
        return "x".join(map(str, self))


SHORT = (
    Shape(1, 100, 1, 32),
    Shape(32, 100, 1, 64),
    Shape(32, 100, 6, 223),
    Shape(128, 100, 6, 64),
)


@dataclass(frozen=True)
class Case:
    """Two ways to compute the same result, each run as many times as its argument says.

    `flops` are the floating-point operations of one computation, of the products of the LSTM alone.
    """

    theirs: Side
    ours: Side
    flops: float


def make_case(kind: str, shape: Shape, *, uniform_lengths: bool = False) -> Case:
    """Make one comparison and check that both sides agree.

    ``"inference"`` is a forward pass under ``no_grad``. In training, torch runs forward, cross
    entropy and backward, without an optimizer step. Our side does the same through autograd
    (``"training, autograd"``) or with the loss inside the operator (``"training, loss()"``);
    ``"training, train_epoch"`` is a step of the native epoch engine that `fit` uses: gather,
    forward, loss, backward *and* an SGD update of the parameters.

    With `uniform_lengths`, lengths are drawn from 1 to T. torch gets a packed sequence, and packing
    counts in its time; only valid steps count as flops.
    """
    problem = _Problem(shape, uniform_lengths)
    steps = shape.n_windows * shape.n_timesteps
    if problem.lengths is not None:
        steps = int(problem.lengths.sum())
    width = shape.hidden_size + shape.n_channels
    flops = 2.0 * 4 * shape.hidden_size * width * steps
    with torch.no_grad():
        _check_close(problem.our_logits(), problem.their_logits(), "logits", shape)
    if kind == "inference":
        return Case(
            _repeated(problem.their_logits, grad=False),
            _repeated(problem.our_logits, grad=False),
            flops,
        )
    their_step = _training_step(problem.their_loss, problem.their_parameters())
    our_parameters = list(problem.module.parameters())
    their_step()
    wanted = torch.cat([_gradient(p) for p in problem.their_parameters()])
    if kind == "training, train_epoch":
        _check_close(problem.epoch_gradient(), wanted, "gradients", shape)
        ours = problem.epoch_steps()
    else:
        loss = problem.our_loss if kind == "training, autograd" else problem.our_fused_loss
        our_step = _training_step(loss, our_parameters)
        our_step()
        found = torch.cat([_gradient(p) for p in our_parameters])
        _check_close(found, wanted, "gradients", shape)
        ours = _repeated(our_step)
    return Case(_repeated(their_step), ours, 3 * flops)


class _Problem:
    """The same network and data for both sides."""

    def __init__(self, shape: Shape, uniform_lengths: bool) -> None:
        n_windows, n_timesteps, n_channels, hidden_size = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.lstm = nn.LSTM(n_channels, hidden_size, batch_first=True)
            self.linear = nn.Linear(hidden_size, N_CLASSES)
            self.x = torch.randn(n_windows, n_timesteps, n_channels)
            self.y = torch.randint(0, N_CLASSES, (n_windows,))
            self.lengths: Tensor | None = None
            if uniform_lengths:
                self.lengths = torch.randint(1, n_timesteps + 1, (n_windows,))
        self.module: Any = LSTMLinear.from_torch(self.lstm, self.linear)
        self.network = Network(n_channels, hidden_size, N_CLASSES)

    def their_parameters(self) -> list[nn.Parameter]:
        return [*self.lstm.parameters(), *self.linear.parameters()]

    def their_logits(self) -> Tensor:
        x: Any = self.x
        if self.lengths is not None:
            x = pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        logits: Tensor = self.linear(self.lstm(x)[1][0][-1])
        return logits

    def their_loss(self) -> Tensor:
        return cross_entropy(self.their_logits(), self.y)

    def our_logits(self) -> Tensor:
        logits: Tensor = self.module(self.x, self.lengths)
        return logits

    def our_loss(self) -> Tensor:
        return cross_entropy(self.our_logits(), self.y)

    def our_fused_loss(self) -> Tensor:
        loss: Tensor = self.module.loss(self.x, self.y, self.lengths)
        return loss

    def trainer(self) -> EpochTrainer:
        return EpochTrainer(
            self.network,
            self.network.flatten(dict(self.module.named_parameters()))[None],
            self.x,
            self.y,
            make_hyper(1),
            lengths=self.lengths,
            optimizer="sgd",
        )

    def epoch_gradient(self) -> Tensor:
        """Read the gradient off a step of plain sgd with a learning rate of 1."""
        trainer = self.trainer()
        before = trainer.parameters.clone()
        rows = torch.arange(len(self.x))
        trainer.run(rows, torch.tensor([0, len(rows)]), 1.0)
        return (before - trainer.parameters)[0]

    def epoch_steps(self) -> Side:
        trainer, n_windows = self.trainer(), len(self.x)

        def steps(n: int) -> None:
            rows = torch.arange(n_windows).repeat(n)
            trainer.run(rows, torch.arange(n + 1) * n_windows, 1e-6)

        return steps


def _training_step(
    loss: Callable[[], Tensor], parameters: Sequence[nn.Parameter]
) -> Callable[[], None]:
    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss().backward()

    return step


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.reshape(-1)


def _repeated(call: Callable[[], Any], *, grad: bool = True) -> Side:
    def repeat(n: int) -> None:
        with torch.set_grad_enabled(grad):
            for _ in range(n):
                call()

    return repeat


def _check_close(found: Tensor, wanted: Tensor, what: str, shape: Shape) -> None:
    error = (found - wanted).abs().max() / wanted.abs().max()
    if not error <= _TOLERANCE:
        raise EnvironmentProblemError(
            f"the {what} for {shape} differ from torch's by {error:.1g} relative to the largest, so"
            " timing them is meaningless. Please report this with the output of `sensorseq info`."
        )


def alternate(
    *sides: Side,
    rounds: int = 21,
    at_least_s: float = 15e-3,
    warm_up_s: float = 0.05,
    warm_up_runs: int = 3,
    budget_s: float = 10.0,
) -> NDArray[np.float64]:
    """Time several sides alternately, so that drift affects all of them equally.

    Returns the seconds of one computation, (len(sides), rounds taken); the order is reversed in
    every second round. One timing takes `at_least_s`, so faster functions are repeated. If all
    rounds would take longer than `budget_s`, fewer are run, but at least three if requested.
    """
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
            started = time.perf_counter()
            sides[side_index](repeats[side_index])
            times[side_index, i] = (time.perf_counter() - started) / repeats[side_index]
    return times


def summarize(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> dict[str, float]:
    """Summarize paired times: medians in ms, and the ratio theirs / ours with its spread."""
    low, middle, high = np.quantile(theirs / ours, [0.1, 0.5, 0.9])
    return {
        "theirs_ms": 1e3 * float(np.median(theirs)),
        "ours_ms": 1e3 * float(np.median(ours)),
        "ratio": float(middle),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
        "rounds": len(ours),
    }


def measure(case: Case, *, rounds: int = 21) -> dict[str, float]:
    """Time a case, and in the same rounds two limits on torch's threads.

    The peak is that of multiply-adds in registers; sgemm is torch's product of two float32 matrices
    of 512 x 512, the most that can be hoped for from a product that reads memory. Returns
    `summarize`'s entries, and of both sides gflops and their fractions of the limits.
    """
    threads = torch.get_num_threads()
    multiply_add = torch.ops.sensorseq.multiply_add_flops
    factor = torch.ones(_SGEMM_SIZE, _SGEMM_SIZE)
    product = torch.empty_like(factor)
    theirs, ours, peak, sgemm = alternate(
        case.theirs,
        case.ours,
        lambda n: multiply_add(n * _PEAK_TURNS, threads),
        _repeated(lambda: torch.mm(factor, factor, out=product), grad=False),
        rounds=rounds,
    )
    row = summarize(theirs, ours)
    limits = {"peak": (multiply_add(_PEAK_TURNS, threads), peak)}
    limits["sgemm"] = (2.0 * _SGEMM_SIZE**3, sgemm)
    for limit, (flops, times) in limits.items():
        row[f"{limit}_gflops"] = 1e-9 * flops / float(np.median(times))
    for name in ("theirs", "ours"):
        row[f"{name}_gflops"] = 1e-6 * case.flops / row[f"{name}_ms"]
        for limit in limits:
            row[f"{name}_of_{limit}"] = row[f"{name}_gflops"] / row[f"{limit}_gflops"]
    return row


def environment() -> dict[str, Any]:
    """Describe the processor and the versions, without naming the machine."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = lines[0].split(":", 1)[1].strip() if lines else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "isa": _extension.cpu_isa(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


def run_short(
    *,
    threads: int | None = None,
    rounds: int = 9,
    progress: Callable[[int, int], Any] | None = None,
) -> dict[str, Any]:
    """Measure a few shapes in well under half a minute; each row has the entries of `measure`.

    `progress` is called with the number of finished rows and the total.
    """
    wanted = [(kind, shape) for kind in KINDS for shape in SHORT]
    rows: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    threads = before if threads is None else threads
    torch.set_num_threads(threads)
    try:
        for kind, shape in wanted:
            row = measure(make_case(kind, shape), rounds=rounds)
            rows.append({"what": kind, "threads": threads, "shape": list(shape), **row})
            if progress is not None:
                progress(len(rows), len(wanted))
    finally:
        torch.set_num_threads(before)
    return {"environment": environment(), "threads": threads, "rows": rows}


def format_row(row: dict[str, Any]) -> str:
    """Format one row as a line."""
    spread = f"[{row['ratio_p10']:.2f}, {row['ratio_p90']:.2f}]"
    return (
        f"{row['what']:28}  {Shape(*row['shape'])!s:13}  {row['theirs_ms']:8.3f}"
        f"  {row['ours_ms']:8.3f}  {row['ratio']:5.2f}x {spread:14} {row['ours_of_peak']:5.0%}"
        f" {row['ours_of_sgemm']:5.0%}"
    )


HEADER = f"{'':28}  {'NxTxCxH':13}  torch ms   ours ms  ratio  [spread]        peak sgemm"


def format_short(result: dict[str, Any]) -> str:
    """Format the result of `run_short` as text."""
    facts, rows = result["environment"], result["rows"]
    peak = float(np.median([row["peak_gflops"] for row in rows]))
    return "\n".join(
        (
            f"{facts['processor']}, {facts['isa']}, torch {facts['torch']}, threads:"
            f" {result['threads']}",
            f"multiply-add peak: {peak:.0f} GFLOP/s",
            "",
            HEADER,
            *(format_row(row) for row in rows),
            "",
            "N windows, T timesteps, C channels, H hidden units. Above 1x, sensorseq is faster;",
            "brackets show the 10th and 90th percentiles. peak, sgemm: sensorseq's share of the",
            "multiply-add peak and of what torch's product of two matrices reaches.",
            "train_epoch is the engine fit uses; its time includes the optimizer's step.",
        )
    )
