"""Runs each CUDA kernel in its own process and compares the results with float64.

`python benchmarks/cuda/smoke.py FILE`: prints each result and adds it to FILE immediately, with the
error that is closest to its tolerance. A kernel that hangs is ended after 6 s and is not called
again. At the end, the verdict is stored where `sensorseq` looks for it, so that later programs with
SENSORSEQ_CUDA_KERNELS=auto use only kernels that passed.
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.results_file import begin, keep_measurement
from cuda.steps import environment

from sensorseq.ops.gpu_check import (
    check_kernels,
    format_result,
    keep_results,
    kernels_passed,
    make_cases,
)


def main():
    """Return 1 unless all kernels have passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--repeats", type=int, default=5, help="runs of each kernel, which must give equal bits"
    )
    parser.add_argument("--limit-s", type=float, default=75.0)
    parser.add_argument("--worker", help="command line of the process that runs the kernels")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, which is slow")
    options = parser.parse_args()
    code = begin(__file__, folder=options.file.parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worker also ends
    cases = make_cases((2, 3) if options.dry_run else (5, 70))
    results, facts = [], environment()
    for result in check_kernels(
        cases,
        repeats=options.repeats,
        limit_s=options.limit_s,
        silence_s=15.0 if options.dry_run else 6.0,
        device="cpu" if options.dry_run else "cuda",
        command=shlex.split(options.worker) if options.worker else None,
    ):
        results.append(result)
        print(format_result(result), flush=True)
        measurement = {
            "measurement": "kernels",
            "right": all(r.outcome == "passed" for r in results),
            "passed": sorted(kernels_passed(results)) if len(results) == len(cases) else [],
            "rows": [
                {
                    **r.case._asdict(),
                    **r._asdict(),
                    "case": r.case.name,
                    "seconds": round(r.seconds, 2),
                }
                for r in results
            ],
        }
        keep_measurement(options.file, measurement, code=code, environment=facts)
    if not options.dry_run:
        keep_results(results)
    print(f"{sum(r.outcome == 'passed' for r in results)} of {len(cases)} passed")
    return int(not measurement["right"])


if __name__ == "__main__":
    sys.exit(main())
