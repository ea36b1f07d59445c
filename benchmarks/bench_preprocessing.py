"""The preprocessing loops against the libraries that do the same, on one thread.

Same input and dtype on both sides; results are compared before any timing, and the sides are timed
in turns in one process. What each row compares is said where its section is made:
`preprocessing_resample.py`, `preprocessing_windows.py` and `preprocessing_steps.py`.
"""

import argparse
import os
from functools import partial

import numpy as np
import scipy
import soxr
from common.results_file import write_results
from common.rows import tell
from common.waiting import refuse_sleeping_threads
from preprocessing import resample as preprocessing_resample
from preprocessing import steps as preprocessing_steps
from preprocessing import windows as preprocessing_windows

from sensorseq.benchmark import environment

WINDOWS_BYTES = 100_000_000
MEMORY_BYTES = 1_000_000_000


def resampling_rows():
    """Yield what rows are called and the function that measures them, given the rounds."""
    for what, make in preprocessing_resample.cases():
        yield what, lambda rounds, make=make: preprocessing_resample.measure(make(), rounds)


def window_rows():
    """Yield the same for windows, scaling and statistics."""

    def measured(shape, make, rounds):
        n_samples = shape["bytes"] // shape["channels"] // np.dtype(shape["dtype"]).itemsize
        facts = {"shape": [n_samples, shape["channels"]], "dtype": shape["dtype"]}
        row = facts | {"against": "numpy"} | preprocessing_windows.measure(make(), rounds=rounds)
        return [row]

    for what, shape, make in preprocessing_windows.cases(WINDOWS_BYTES):
        yield what, partial(measured, shape, make)


def step_rows():
    """Yield the same for filters, moving statistics and uneven stamps."""

    def measured(against, shape, make, rounds):
        facts = {"shape": list(shape), "dtype": "float64", "against": against}
        return [facts | preprocessing_windows.measure(make(), rounds=rounds)]

    for what, against, shape, make in preprocessing_steps.cases():
        yield what, partial(measured, against, shape, make)


# Every section of the table: a function that yields what rows are called, and a function that
# measures them: rounds to rows of shape, dtype, against and what `summarize` gives.
SECTIONS = (resampling_rows, window_rows, step_rows)


def all_rows(words, rounds):
    """Yield the rows whose name holds one of some words."""
    for section in SECTIONS:
        for what, measure in section():
            if any(word in what for word in words):
                yield from ({"what": what} | row for row in measure(rounds))


def main():
    """Time every row, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose name holds one of these words"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it works")
    options = parser.parse_args()
    refuse_sleeping_threads()
    rounds = 3 if options.quick else options.rounds
    partial_run = options.quick or options.only != [""]
    facts = environment() | {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soxr": soxr.__version__,
        "threads": 1,
        "load_average_before": round(os.getloadavg()[0], 2),  # others on these cores: wider spread
    }
    print(facts)
    rows = tell(all_rows(options.only, rounds))
    if not partial_run:
        facts["peak_memory"] = preprocessing_windows.peak_memory(MEMORY_BYTES)
        print(f"memory: {facts['peak_memory']}")
    write_results("preprocessing", rows, partial=partial_run, facts=facts)


if __name__ == "__main__":
    main()
