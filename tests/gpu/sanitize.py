"""Run every kernel on small sizes, forward, backward and in training, for compute-sanitizer.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck \\
        --kernel-regex kns=sensorseq --error-exitcode 9 python tests/gpu/sanitize.py

Without torch's caching, a write beyond a tensor is also a write beyond its allocation. Each call is
printed before it begins. With `--device cpu`, this is only a smoke test.
"""

import argparse
import functools
import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
os.environ["SENSORSEQ_CUDA_KERNELS"] = "1"

import torch  # noqa: E402
from layer_laws import VARIANTS, Problem, dtype_of, torch_precision  # noqa: E402

from sensorseq import ops  # noqa: E402
from sensorseq.ops.cuda_kernels import MAX_HIDDEN_SIZE  # noqa: E402
from sensorseq.ops.gpu_check import Case, make_cases  # noqa: E402
from sensorseq.ops.kernel_cases import compute  # noqa: E402

PRECISIONS = ("float32", "float16")  # the other precisions run the same kernels


def main():
    """Run the requested calls."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--limit", type=int, help="only the first calls")
    parser.add_argument(
        "--after",
        type=Path,
        help="what benchmarks/cuda/smoke.py wrote: only the case that failed first",
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: this needs a GPU, and torch sees none", file=sys.stderr)
        return 4
    failed = first_failure(options.after)
    for name, call in itertools.islice(calls(failed, options.device), options.limit):
        print(name, flush=True)
        call()
        if options.device == "cuda":
            torch.cuda.synchronize()
    print("all calls ended")
    return 0


def first_failure(path):
    """Return the first case that was wrong or died; None if there is no such case or no result."""
    if path is None or not path.exists():
        return None
    for row in json.loads(path.read_text())["rows"].get("kernels", {"rows": []})["rows"]:
        if row["outcome"] in ("wrong", "died"):  # a case that hung would hang again
            return Case(*(row[name] for name in Case._fields))
    return None


def calls(failed, device):
    """Yield names and calls of one case, or of every case and every variant of the layer."""
    cases = [failed] if failed else make_cases((5,))
    if device == "cuda":
        yield from ((case.name, functools.partial(run_case, case)) for case in cases)
    if failed:
        return
    sizes = {"n_windows": 9, "n_timesteps": 3}  # two tiles, the second of which is not full
    for variant in dict.fromkeys(replace(variant, **sizes) for variant in VARIANTS):
        for precision, head in itertools.product(PRECISIONS, (True, False)):
            if variant.hidden_size <= MAX_HIDDEN_SIZE:
                name = f"{variant} {precision} {'with head' if head else 'alone'}"
                yield name, functools.partial(run_variant, variant, precision, head, device)


def run_case(case):
    with torch_precision("tf32" if case.precision == "fp16" else "float32"):
        compute(case, torch.device("cuda"))


def run_variant(variant, precision, head, device):
    problem, dtype = Problem(variant), dtype_of(precision)
    # if x needs no gradient, the kernels read x; otherwise torch multiplies x by its weights first
    changes = {"x": problem.arguments(device, dtype, grad=False)["x"]} if head else {}
    with torch_precision(precision):
        problem.run(ops.lstm_linear if head else ops.lstm, device, dtype, head, **changes)


if __name__ == "__main__":
    sys.exit(main())
