"""Compares two threads with one, on an idle machine and alongside a busy loop on every core.

A training step has 32 windows of 100 timesteps and 6 channels, and 64 units, unless `--shape` gives
other sizes. It runs in the native engine and through autograd. With few windows (1x100x6x256),
threads wait for each other at every timestep. Each side runs in its own process, and the sides
alternate, so that drift affects all sides equally. Times are medians; a ratio is the median of the
rounds' ratios, with the 10 % and 90 % quantiles.

`--other FILE` adds a side with the operators of another build (a file named `_ops*.so`) on two
threads. Until commit 1d553e1 the operators ran on torch's OpenMP threads, which spin while they
wait.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from common.waiting import refuse_sleeping_threads

KINDS = ("training, train_epoch", "training, autograd")
SHAPE = "32x100x6x64"
THREADS = 2
PAUSE_S = 0.02  # long enough for the waiting threads of the previous process to stop spinning
AIM_S = 0.05  # intended length of one timing


def serve(library: str, threads: int, shape: str) -> None:
    """Answer each line `KIND STEPS` on stdin with the elapsed and processor time of the steps."""
    import torch

    load = torch.ops.load_library
    torch.ops.load_library = lambda _: load(library)  # before sensorseq loads its operators
    torch.set_num_threads(threads)
    from common.timing import Shape, make_pair

    steps = [make_pair(kind, Shape(*map(int, shape.split("x")))).ours for kind in KINDS]
    for line in sys.stdin:
        kind, n_steps = map(int, line.split())
        begin, cpu = time.perf_counter(), time.process_time()
        steps[kind](n_steps)
        print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)


class Side:
    """A process with a given number of threads and a given build of the operators."""

    def __init__(self, stack: ExitStack, library: Path, threads: int, shape: str) -> None:
        command = [sys.executable, __file__, "--serve", str(library), str(threads), shape]
        self.process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(self.process.kill)

    def take(self, kind: int, n_steps: int) -> tuple[float, float]:
        """Return the elapsed seconds and the processor seconds per step."""
        print(kind, n_steps, file=self.process.stdin, flush=True)
        seconds, cpu = map(float, self.process.stdout.readline().split())
        return seconds / n_steps, cpu / n_steps


def alternate(sides: list[Side], kind: int, rounds: int) -> np.ndarray:
    """Time all sides alternately; return elapsed and processor seconds (rounds, sides, 2)."""
    for side in sides:
        side.take(kind, 5)
    n_steps = max(1, round(AIM_S / min(side.take(kind, 10)[0] for side in sides)))
    seconds = np.empty((rounds, len(sides), 2))
    for i in range(rounds):
        for j in range(len(sides))[:: 1 if i % 2 else -1]:
            time.sleep(PAUSE_S)
            seconds[i, j] = sides[j].take(kind, n_steps)
    return seconds


def busy_loops(stack: ExitStack) -> None:
    """Keep every core busy."""
    for core in os.sched_getaffinity(0):
        loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        stack.callback(loop.kill)
        os.sched_setaffinity(loop.pid, {core})


def ratio(rounds: np.ndarray) -> str:
    """Format a median with its quantiles."""
    low, middle, high = np.quantile(rounds, (0.1, 0.5, 0.9))
    return f"{middle:5.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Measure all sides and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, metavar="FILE", help="operators of another build")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--shape", default=SHAPE, metavar="NxTxCxH")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]), options.serve[2])
        return
    refuse_sleeping_threads()
    package = Path(__file__).resolve().parents[1] / "sensorseq"
    ours = next(package.glob("_ops*.so"))
    with ExitStack() as stack:
        shape = options.shape
        sides = {
            "one thread": Side(stack, ours, 1, shape),
            "two threads": Side(stack, ours, THREADS, shape),
        }
        if options.other is not None:
            sides["other build"] = Side(stack, options.other, THREADS, shape)
        for where in ("quiet", "next to busy loops"):
            if where != "quiet":
                busy_loops(stack)
            for kind, what in enumerate(KINDS):
                seconds = alternate(list(sides.values()), kind, options.rounds)
                print(f"{what}, {where}")
                for j, name in enumerate(sides):
                    wall, cpu = 1e3 * np.median(seconds[:, j], axis=0)
                    print(f"  {name:22} {wall:7.3f} ms, processor {cpu:7.3f} ms", end="")
                    for i, other in enumerate(sides):
                        if i != j:
                            print(
                                f", of {other}", ratio(seconds[:, j, 0] / seconds[:, i, 0]), end=""
                            )
                    print(flush=True)


if __name__ == "__main__":
    main()
