"""Run each CUDA kernel in a process of its own, and compare what it computes with float64.

`python benchmarks/cuda/smoke.py FILE`: each result is printed and added to FILE as soon as it is
known, with the error nearest its tolerance. A kernel that hangs is given up after 6 s and not
called again. At the end the verdict is kept where `sensorseq` looks for it, so that only kernels
that passed serve what runs next with SENSORSEQ_CUDA_KERNELS=auto.
"""

import argparse
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.results_file import keep_measurement

from sensorseq.bench.cuda import environment
from sensorseq.gpu_check import (
    check_kernels,
    format_result,
    keep_results,
    kernels_passed,
    make_cases,
)


def main():
    """Return 1 if not all have passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, with equal bits")
    parser.add_argument("--limit-s", type=float, default=75.0)
    parser.add_argument("--worker", help="command line of the process that runs the kernels")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, which takes patience")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the worker must not outlive this
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
        told = {
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
        keep_measurement(options.file, told, environment=facts)
    if not options.dry_run:
        keep_results(results)
    print(f"{sum(r.outcome == 'passed' for r in results)} of {len(cases)} passed")
    return int(not told["right"])


if __name__ == "__main__":
    sys.exit(main())
