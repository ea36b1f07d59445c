"""Compares LSTMLinear with cuDNN on a GPU with the protocol of `cuda.steps`.

A step is a forward pass, cross entropy and a backward pass, or the forward pass alone. Both sides
run the same steps alternately in one process, once called from Python and once captured in a CUDA
graph. Before any timing, the results of both sides are checked against IEEE float32. cuDNN's side
is `torch.nn.LSTM` and `torch.nn.Linear` in fp32 (IEEE), in TF32 with torch's defaults, in fp16 and
bf16, and in fp16 with channels padded to 128, as cuDNN's PERSIST_STATIC needs. Our side uses the
same precision. `varlen` compares packed sequences with lengths on the device.

Rows with "served_by": "framework" count as a ratio of 1 because sensorseq hands a shape to torch if
no kernel for it has passed the check of `sensorseq doctor --gpu` on this GPU.

- `--quick`: a few shapes, starting with those on which torch is slowest; writes cuda_quick.json.
- otherwise: all shapes in a fixed random order, so that the cases that fit into `--budget-s` are a
  fair sample; `--resume` continues the file of an earlier run. Writes cuda.json.
- `--table steps`: the duration of a timestep in batches of 8 and 128, with the input multiplied
  inside our kernel (`own`) or beforehand by torch (`projected`); writes cuda_steps.json.
- `--dry-run`: the same protocol on the CPU on tiny shapes, as a smoke test.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("SENSORSEQ_CUDA_KERNELS", "auto")  # before sensorseq is imported

import torch
from common.results_file import RESULTS, begin, write_results
from common.timing import Shape
from common.waiting import refuse_sleeping_threads
from cuda.models_side_by_side import models_side_by_side
from cuda.steps import (
    HEADER,
    KINDS,
    MODES,
    current_gpu,
    environment,
    format_row,
    measure,
)

from sensorseq.errors import SensorseqError
from sensorseq.ops import choice

HIDDEN_SIZES = (32, 64, 128, 192, 256)
SWEEP = [
    (kind, precision, Shape(n, t, c, h))
    for kind, precision in (("training", "fp32"), ("training", "fp16"))
    for n, t, c, h in itertools.product(
        (1, 8, 32, 128, 512, 2048), (50, 200, 1000), (1, 6, 16), HIDDEN_SIZES
    )
]
SWEEP += [
    (kind, precision, Shape(n, 200, 6, h))
    for kind, precision in itertools.product(
        (*KINDS[1:3], "training"), ("fp32", "tf32", "bf16", "fp16", "fp16, C padded to 128")
    )
    for n, h in itertools.product((1, 32, 128, 2048), HIDDEN_SIZES)
]
SWEEP = list(dict.fromkeys(SWEEP))
QUICK = [
    (kind, precision, shape)
    for kind in ("varlen training", "varlen inference", "training", "inference")
    for shape in (
        Shape(32, 100, 6, 256),
        Shape(32, 100, 6, 192),
        Shape(32, 100, 6, 128),
        Shape(32, 100, 1, 64),
        Shape(512, 100, 6, 64),
    )
    for precision in ("fp32", "tf32", "fp16")
]
STEPS = [
    (kind, precision, Shape(n, 100, c, h), of_input)
    for kind in ("inference", "training")
    for h in (64, 128, 256)
    for c in (6, 16, 1)
    for of_input in ("own", "projected")
    for precision, n in itertools.product(("fp32", "tf32"), (8, 128))
]


def tiny(cases):
    """Return the cases with a tiny shape in place of their own, so that a CPU runs them quickly."""
    return list(dict.fromkeys((*case[:2], Shape(3, 7, 2, 5), *case[3:]) for case in cases))


def key(row):
    """Return the case of a row, without its measurements."""
    of_input = [row["input"]] if "input" in row else []
    return row["what"], row["precision"], Shape(*row["shape"]), *of_input


@contextlib.contextmanager
def multiplying(of_input):
    """Multiply the input by its weights in our kernels ("own") or in torch first ("projected")."""
    before = choice.MAX_CHANNELS
    if of_input == "projected":
        choice.MAX_CHANNELS = 0
    try:
        yield
    finally:
        choice.MAX_CHANNELS = before


def measure_cases(cases, device, options, rows, save):
    """Add rows until all cases are done or the time is up; return the failures."""
    done, failed = {key(row) for row in rows}, []
    modes = ("graph",) if options.table == "steps" else MODES
    print(HEADER)
    for number, case in enumerate(cases):
        if case in done:
            continue
        kind, precision, shape, *of_input = case
        if time.perf_counter() - options.started > options.budget_s:
            print(f"the time is up: {len(cases) - number} of {len(cases)} cases are left")
            break
        try:
            with multiplying("".join(of_input)):
                measured = measure(
                    kind,
                    shape,
                    precision,
                    device,
                    modes=modes,
                    rounds=options.rounds,
                    budget_s=0.5,
                    at_least_s=options.at_least_s,
                )
        except (SensorseqError, RuntimeError) as error:
            # a failure is reported and the other shapes still run, unless the device is lost
            failed.append(f"{kind}, {precision}, {shape}: {error}")
            print(f"FAILED {failed[-1]}", flush=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.synchronize()
            continue
        for row in measured:
            print(format_row(row), step_us(row), flush=True)
        # a resumed run may measure other code
        more = {**options.code.stamp(), **({"input": of_input[0]} if of_input else {})}
        rows += [{**row, **more} for row in measured]
        save(quiet=True)
    return failed


def step_us(row):
    """Format the duration of a timestep on each side."""
    if "ours_ms" not in row:
        return ""
    sides = (f"{1e3 * row[side] / row['shape'][1]:.2f}" for side in ("theirs_ms", "ours_ms"))
    return f"{' / '.join(sides)} us a timestep"


def print_steps(rows):
    """Print the microseconds per timestep for torch and for our kernels with each kind of input."""
    print("\nus a timestep; torch: the median of its rows; own / projected for C = 1, 6, 16")
    table = {}
    for row in rows:
        n, t, c, h = row["shape"]
        of_kernel = table.setdefault((row["what"], row["precision"], h, n), {"theirs": []})
        if "ours_ms" in row:
            of_kernel["theirs"].append(1e3 * row["theirs_ms"] / t)
            of_kernel[c, row["input"]] = f"{1e3 * row['ours_ms'] / t:.2f}"
    for (kind, precision, h, n), times in table.items():
        theirs = f"{statistics.median(times['theirs']):.2f}" if times["theirs"] else "-"
        ours = (
            "/".join(times.get((c, of_input), "-") for of_input in ("own", "projected"))
            for c in (1, 6, 16)
        )
        print(f"{kind:9} {precision:4} H={h:<3} N={n:<3}  torch {theirs:>6}  ours", *ours, sep="  ")


def summarize_ratios(rows):
    """Print the mean and lowest ratio by kind, precision and mode, and the shapes handed to torch.

    Shapes handed to the framework count as 1; a row that cannot run on one side is ignored.
    """
    print("\ngeometric means (shapes; handed to the framework; lowest)")
    groups = {}
    for row in rows:
        if row.get("ratio") is not None:
            groups.setdefault((row["what"], row["precision"], row["mode"]), []).append(row)
    for name, group in sorted(groups.items()):
        ratios = [row["ratio"] for row in group]
        handed = sum(row["served_by"] == "framework" for row in group)
        print(
            f"{', '.join(name):50} {statistics.geometric_mean(ratios):7.2f}x"
            f"  ({len(ratios)}; {handed}; {min(ratios):.2f}x)"
        )
    handed = {
        (row["precision"], Shape(*row["shape"])): row["reason"]
        for row in rows
        if row["served_by"] == "framework"
    }
    for (precision, shape), reason in handed.items():
        print(f"handed to the framework: {precision} {shape}: {reason}")


def main():
    """Measure the selected cases, print them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few shapes, every precision and mode"
    )
    parser.add_argument("--table", choices=("peers", "steps", "models"), default="peers")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--budget-s", type=float, default=520.0, help="start no case after this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--at-least-s", type=float, default=15e-3, help="length of one timing")
    parser.add_argument("--resume", action="store_true", help="keep the rows of the file")
    parser.add_argument("--limit", type=int, help="only the first cases")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    options = parser.parse_args()
    refuse_sleeping_threads()
    options.started = time.perf_counter()
    options.code = begin(__file__, folder=options.output)
    device = torch.device("cpu")
    if options.dry_run:
        options.rounds, options.at_least_s = 1, 0.0
    else:
        try:
            current_gpu()
        except SensorseqError as error:
            print(f"error: {error}", file=sys.stderr)
            return 4
        device = torch.device("cuda", torch.cuda.current_device())
    facts = environment()
    print(facts)
    prefix = "cuda_dry" if options.dry_run else "cuda"
    suffix = {"peers": "_quick" if options.quick else "", "steps": "_steps", "models": "_models"}
    table = prefix + suffix[options.table]
    rows, path = [], options.output / f"{table}.json"
    if options.resume and path.exists():
        rows = json.loads(path.read_text())["rows"]
    save = functools.partial(
        write_results,
        table,
        rows,
        code=options.code,
        partial=False,
        folder=options.output,
        facts=facts,
    )
    failed = []
    if options.table == "models":
        rows += models_side_by_side(device, tiny=options.dry_run, rounds=min(3, options.rounds))
        for row in rows:
            print(row)
    else:
        cases = STEPS if options.table == "steps" else QUICK if options.quick else shuffled(SWEEP)
        cases = (tiny(cases) if options.dry_run else cases)[: options.limit]
        failed = measure_cases(cases, device, options, rows, save)
        (print_steps if options.table == "steps" else summarize_ratios)(rows)
    save()
    for line in failed:
        print(f"FAILED {line}")
    return 1 if failed else 0


def shuffled(cases):
    """Return the cases in a random but fixed order."""
    cases = list(cases)
    random.Random(0).shuffle(cases)
    return cases


if __name__ == "__main__":
    sys.exit(main())
