"""Compares the accuracy of torch's LSTM and ours on a GPU in IEEE float32 and with TF32 allowed.

`python benchmarks/cuda/tf32_error.py FILE`: measures the relative L2 errors of the logits and of
all gradients against float64, for hidden sizes for which cuDNN uses different kernels. FILE also
gets the names of these kernels. The errors show whether fp16 kernels may replace torch's if TF32 is
allowed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch
from common.results_file import begin, keep_measurement
from common.timing import Precision, Problem, Shape
from cuda.steps import environment, relative_errors
from torch.profiler import ProfilerActivity, profile

from sensorseq.ops.choice import allowing_tf32, choose_here


def errors_of(shape, allowed, packed, device):
    """Compare one training step of torch's LSTM and of ours with float64."""
    problem = Problem(
        shape,
        Precision(torch.float32, allowed),
        device,
        uniform_lengths=packed,
        seed=shape.hidden_size,
    )
    with allowing_tf32(allowed):
        choice = choose_here(device, torch.float32, hidden_size=shape.hidden_size, n_channels=6)
        theirs, ours = problem.theirs("training"), problem.ours("training")
        computed, kernels = (theirs(), ours()), kernels_of(theirs, device)
    problem.lstm, problem.linear = problem.their_layers(torch.float64)
    problem.their_x = problem.x.double()
    exact = problem.theirs("training")()
    names = ("theirs_error", "ours_error")
    return {
        "hidden_size": shape.hidden_size,
        "allows_tf32": allowed,
        "packed": packed,
        "ours": choice.precision if choice.served_by == "native" else choice.reason,
        **{name: relative_errors(f, exact) for name, f in zip(names, computed, strict=True)},
        "theirs_kernels": kernels,
    }


def kernels_of(call, device):
    """Name the kernels of a call that take more than a tenth of its time."""
    if device.type != "cuda":
        return []
    call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    times = {event.key: event.self_device_time_total for event in profiler.key_averages()}
    return [name for name, time in times.items() if time > 0.1 * sum(times.values())]


def main():
    """Print a line for each case and store all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--dry-run", action="store_true", help="on the CPU, where TF32 has no effect"
    )
    options = parser.parse_args()
    code = begin(__file__, folder=options.file.parent)
    device = torch.device("cpu" if options.dry_run else "cuda")
    rows = []
    print("H    tf32   packed  logits: torch ours      gradients: torch ours    by")
    for hidden_size in (64, 128, 192, 256):
        for packed in (False, True):
            for allowed in (False, True):
                shape = Shape(2, 3, 6, 5) if options.dry_run else Shape(32, 50, 6, hidden_size)
                row = errors_of(shape, allowed, packed, device)
                (a, b), (c, d) = row["theirs_error"], row["ours_error"]
                print(
                    f"{hidden_size:<4} {allowed!s:6} {packed!s:6} {a:14.1e} {c:.1e} {b:18.1e}"
                    f" {d:.1e}    {row['ours']};",
                    *(name[:40] for name in row["theirs_kernels"]),
                    flush=True,
                )
                rows.append(row)
    measurement = {"measurement": "tf32_error", "rows": rows}
    keep_measurement(options.file, measurement, code=code, environment=environment())
    return 0


if __name__ == "__main__":
    sys.exit(main())
