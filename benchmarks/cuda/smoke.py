"""Run each CUDA kernel in a process of its own, and compare what it computes with float64.

`python benchmarks/cuda/smoke.py FILE`: a line for each result is printed and added to FILE, as
JSON, as soon as it is known. A kernel that hangs is given up after 15 s, and the next one is tried.
"""

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path

from sensorseq.gpu_check import check_kernels, format_result, make_cases


def main():
    """Return 1 if not all have passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--worker", help="command line of the process that runs the kernels")
    parser.add_argument("--dry-run", action="store_true", help="few cases, less patience")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker must not outlive this
    cases = make_cases((5,)) if options.dry_run else make_cases((5, 70))
    results = check_kernels(
        cases,
        repeats=2 if options.dry_run else 20,
        limit_s=85.0,  # and some seconds to compute the last in float64
        silence_s=5.0 if options.dry_run else 15.0,
        device="cpu" if options.dry_run else "cuda",
        command=shlex.split(options.worker) if options.worker else None,
    )
    n_passed = 0
    with options.file.open("w") as kept:
        for result in results:
            n_passed += result.outcome == "passed"
            print(format_result(result), flush=True)
            row = {**result.case._asdict(), **result._asdict(), "case": result.case.name}
            print(json.dumps(row), file=kept, flush=True)
    print(f"{n_passed} of {len(cases)} passed")
    return int(n_passed < len(cases))


if __name__ == "__main__":
    sys.exit(main())
