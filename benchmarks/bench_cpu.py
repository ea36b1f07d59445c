"""Compares LSTMLinear and the epoch engine with torch.nn.LSTM and torch.nn.Linear on a CPU.

Both sides have the same weights, inputs, dtype and threads; results are compared before any timing,
and the sides are timed alternately in one process. The rows compare:

- inference: a forward pass under no_grad.
- training: torch's side is a forward pass, cross entropy and a backward pass, without an optimizer
  step. Our side runs the same operations through autograd, or with the loss inside the operator
  (`loss()`), or as a step of the native epoch engine (`train_epoch`), which `fit` uses. The engine
  computes more than torch's side: it also gathers the batch and updates the parameters by sgd.
- varlen: the same training with lengths drawn uniformly from 1 to T. torch's side gets a packed
  sequence (`pack_padded_sequence(..., enforce_sorted=False)`); the timing includes the packing.
- one step: T=1, N=1, called repeatedly from Python with the state of the previous call. Our side is
  a stream, except in "one step, module", where the module gets the state and returns the new state.
- long sequence: inference with N=1 over 10 000 timesteps.
- subnormals kept: training of the shapes in `VANISHING` while torch does not flush subnormal
  numbers to zero, which is torch's default. Pooling is "last" and the weights are torch's initial
  ones, so the gradients vanish in windows of 250 or more steps. Toward the first step they become
  subnormal numbers, which many processors handle slowly. In all other rows torch flushes subnormal
  numbers, as our kernels do.

GFLOP/s count the operations in the LSTM's matrix products: 2 * 4H * (H + C) for each valid step in
a forward pass, and three times as many in training. The rates are compared with the peak
multiply-add rate of the threads that torch uses and with torch's sgemm rate on these threads. All
rates are measured in the same rounds.
"""

import argparse
import multiprocessing
import statistics

import torch
from common.results_file import begin, write_results
from common.timing import (
    HEADER,
    KINDS,
    N_CLASSES,
    Shape,
    TimedPair,
    environment,
    format_row,
    make_pair,
    measure,
)
from common.waiting import refuse_sleeping_threads

from sensorseq.nn import LSTMLinear

# windows, timesteps, channels, hidden size
VANISHING = [
    Shape(20, 250, 12, 96),
    Shape(32, 500, 6, 128),
    Shape(32, 1000, 6, 64),
]
SHAPES = [
    Shape(1, 100, 1, 32),
    Shape(1, 100, 1, 128),
    Shape(4, 100, 1, 128),
    Shape(32, 100, 1, 32),
    Shape(32, 100, 1, 64),
    Shape(32, 100, 1, 128),
    Shape(32, 100, 6, 223),
    Shape(32, 100, 1, 256),
    Shape(128, 100, 6, 64),
    Shape(128, 100, 6, 128),
    Shape(512, 100, 6, 128),
    Shape(7, 37, 3, 48),
    Shape(98, 100, 1, 100),
    Shape(64, 130, 4, 160),
    Shape(2, 400, 6, 20),
    Shape(256, 50, 9, 72),
    *VANISHING,
    # wide layers and few windows
    Shape(1, 50, 6, 256),
    Shape(1, 50, 6, 512),
    Shape(4, 50, 6, 256),
    Shape(8, 50, 6, 512),
    Shape(16, 50, 6, 256),
    Shape(16, 50, 6, 384),
    Shape(32, 50, 6, 320),
    Shape(32, 50, 6, 384),
    Shape(32, 50, 6, 512),
    Shape(128, 30, 6, 512),
    Shape(32, 30, 6, 768),
    Shape(32, 20, 6, 1024),
    Shape(32, 100, 186, 128),
]
VARLEN_SHAPES = [
    Shape(32, 100, 1, 64),
    Shape(32, 100, 6, 223),
    Shape(128, 100, 6, 128),
    Shape(32, 1000, 6, 64),
]
ONE_STEP = Shape(1, 1, 6, 64)
LONG = Shape(1, 10_000, 6, 64)
KEPT = "subnormals kept, "


def cases():
    """Yield, for every row of the table, its name, its shape and a function that makes the case."""
    for kind in KINDS:
        for shape in SHAPES:
            yield kind, shape, lambda kind=kind, shape=shape: make_pair(kind, shape)
    for kind in KINDS[1:]:
        for shape in VARLEN_SHAPES:
            yield (
                f"varlen {kind}",
                shape,
                lambda kind=kind, shape=shape: make_pair(kind, shape, uniform_lengths=True),
            )
    yield "one step", ONE_STEP, lambda: one_step_case(stepping_stream)
    yield "one step, module", ONE_STEP, lambda: one_step_case(stepping_module)
    yield "long sequence", LONG, lambda: make_pair("inference", LONG)


def kept_rows(threads, rounds):
    """Time training in a process in which torch has never flushed subnormal numbers."""
    torch.set_num_threads(threads)
    rows = []
    for kind in KINDS[1:]:
        for shape in VANISHING:
            row = {"what": KEPT + kind, "threads": threads, "shape": list(shape)}
            row |= measure(make_pair(kind, shape), rounds=rounds)
            rows.append(row)
            print(format_row(row), flush=True)
    return rows


def stepping_stream(module, x):
    """Return a function that computes n steps from a zero state with one stream."""
    stream = module.stream()

    def step(n):
        stream.reset()
        for _ in range(n):
            logits = stream(x)
        return logits

    return step


def stepping_module(module, x):
    """Return a function that computes n steps from a zero state by calling the module."""

    @torch.no_grad()
    def step(n):
        state = None
        for _ in range(n):
            logits, state = module(x, state=state, return_state=True)
        return logits

    return step


def one_step_case(stepping):
    """Return a case that computes one timestep per call, as a robot would."""
    _, _, n_channels, hidden_size = ONE_STEP
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(n_channels, hidden_size, batch_first=True)
    linear = torch.nn.Linear(hidden_size, N_CLASSES)
    module = LSTMLinear.from_torch(lstm, linear)
    x = torch.randn(1, 1, n_channels)

    @torch.no_grad()
    def theirs(n):
        state = None
        for _ in range(n):
            _, state = lstm(x, state)
            logits = linear(state[0][-1])
        return logits

    ours = stepping(module, x)
    torch.testing.assert_close(ours(50), theirs(50), rtol=1e-4, atol=1e-5)
    return TimedPair(theirs, ours, 8.0 * hidden_size * (hidden_size + n_channels))


def print_mean(what, rows):
    """Print the geometric mean and the lowest of the rows' ratios."""
    ratios = [row["ratio"] for row in rows]
    mean = statistics.geometric_mean(ratios)
    print(f"{what}: geometric mean {mean:.2f}x, lowest {min(ratios):.2f}x")


def main():
    """Time every row, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose name contains one of these words"
    )
    parser.add_argument(
        "--shapes", type=lambda text: Shape(*map(int, text.split("x"))), nargs="+", help="NxTxCxH"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, as a smoke test")
    options = parser.parse_args()
    refuse_sleeping_threads()
    torch.set_flush_denormal(True)  # before torch starts its threads, which inherit this setting
    rounds = 3 if options.quick else options.rounds
    partial = options.quick or options.only != [""] or options.shapes is not None
    code = begin(__file__, partial=partial)
    print(environment())
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"\n{threads} threads\n{HEADER}")
        for what, shape, make in cases():
            if not any(word in what for word in options.only):
                continue
            if options.shapes is not None and shape not in options.shapes:
                continue
            row = {"what": what, "threads": threads, "shape": list(shape)}
            row |= measure(make(), rounds=rounds)
            rows.append(row)
            print(format_row(row), flush=True)
        if options.shapes is None and any(word in KEPT for word in options.only):
            with multiprocessing.get_context("spawn").Pool(1) as other:
                rows += other.apply(kept_rows, (threads, rounds))
        for what in dict.fromkeys(row["what"] for row in rows):
            print_mean(what, [r for r in rows if (r["what"], r["threads"]) == (what, threads)])
    write_results("cpu", rows, code=code, partial=partial)


if __name__ == "__main__":
    main()
