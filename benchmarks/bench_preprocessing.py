"""Compares the preprocessing loops with other libraries' code for the same task, on one thread.

Both sides get the same input and dtype; results are compared before any timing, and the sides are
timed alternately in one process. The docstring of each section describes its rows:
`preprocessing/resample.py`, `windows.py` and `steps.py`.
"""

import argparse
import os
from itertools import chain

import numpy as np
import scipy
import soxr
from common.print_rows import print_rows
from common.results_file import begin, write_results
from common.timing import environment
from common.waiting import refuse_sleeping_threads
from preprocessing import resample, steps, windows

WINDOWS_BYTES = 100_000_000
MEMORY_BYTES = 1_000_000_000


def all_rows(words, rounds):
    """Yield the rows whose name contains one of the words."""

    def is_wanted(what):
        return any(word in what for word in words)

    for what, make in resample.cases():
        if is_wanted(what):
            yield from ({"what": what} | row for row in resample.measure(make(), rounds))
    for what, facts, make in chain(windows.cases(WINDOWS_BYTES), steps.cases()):
        if is_wanted(what):
            yield {"what": what} | facts | windows.measure(make(), rounds=rounds)


def main():
    """Time every row, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose name contains one of these words"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, as a smoke test")
    options = parser.parse_args()
    refuse_sleeping_threads()
    rounds = 3 if options.quick else options.rounds
    partial_run = options.quick or options.only != [""]
    code = begin(__file__, partial=partial_run)
    facts = environment() | {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soxr": soxr.__version__,
        "threads": 1,
        "load_average_before": round(os.getloadavg()[0], 2),  # other programs increase the spread
    }
    print(facts)
    rows = print_rows(all_rows(options.only, rounds))
    if not partial_run:
        facts["peak_memory"] = windows.peak_memory(MEMORY_BYTES)
        print(f"memory: {facts['peak_memory']}")
    write_results("preprocessing", rows, code=code, partial=partial_run, facts=facts)


if __name__ == "__main__":
    main()
