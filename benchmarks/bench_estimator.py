"""Measures the estimator's overhead beyond its kernels in fits, single predictions and streams.

Each section compares two ways to compute the same result, timed alternately in one process. The
results are compared before any timing. The docstrings in `estimator/` describe the rows.
"""

import argparse
import os

import numpy as np
import sklearn
from common.print_rows import print_rows
from common.results_file import begin, write_results
from common.timing import environment
from common.waiting import refuse_sleeping_threads
from estimator import augmented as estimator_augmented
from estimator import live as estimator_live
from estimator import predict as estimator_predict
from estimator import streamed as estimator_streamed

SECTIONS = {
    "streamed": estimator_streamed,
    "predict": estimator_predict,
    "augmented": estimator_augmented,
    "live": estimator_live,
}


def main():
    """Time every section, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="three rounds, as a smoke test")
    options = parser.parse_args()
    refuse_sleeping_threads()
    partial = options.quick or set(options.only) != set(SECTIONS)
    code = begin(__file__, partial=partial)
    facts = environment() | {
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "load_average_before": round(os.getloadavg()[0], 2),  # other programs increase the spread
    }
    print(facts)
    rounds = 3 if options.quick else options.rounds
    rows = print_rows(row for name in options.only for row in SECTIONS[name].rows(rounds))
    write_results("estimator", rows, code=code, partial=partial, facts=facts)


if __name__ == "__main__":
    main()
