"""Compares memory, time and accuracy of fits with the windows in a file and in memory.

    bench_large.py FOLDER_OF_BOREALTC      # also writes results/large.json; needs 8 GB of memory
    bench_large.py FOLDER_OF_BOREALTC --quick   # fewer windows and epochs; nothing is written

Windows of 0.8 s are cut from the IMU's signals every 8 ms, which gives 452,795 windows of 100 x 6
values for training and validation, 1.09 GB in total. Each fit runs in its own process, and the two
kinds of fit alternate. The reported memory is the peak of the process minus its peak right after
the imports.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common.results_file import begin, write_results

FIT = """
import json, resource, sys, time
import sensorseq.estimator.classifier
from sensorseq import SensorLSTMClassifier
from sensorseq.training.prepared_windows import read_prepared
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
imported, began = peak_mb(), time.perf_counter()
settings = {"max_epochs": int(sys.argv[2]), "random_state": 0, "device": "cpu"}
model = SensorLSTMClassifier(**settings).fit(sys.argv[1])
took_s, most_mb = time.perf_counter() - began, peak_mb()
test = read_prepared(sys.argv[1]).part("test")
result = {"took_s": took_s, "peak_mb": most_mb - imported, "imported_mb": imported}
print(json.dumps({**result, "accuracy": model.score(test), "features": model.features_.names}))
"""


def main() -> None:
    """Prepare the windows, run the fits alternately, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer windows and epochs")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    n_epochs, n_turns = (1, 1) if options.quick else (3, 3)
    runs_by_place: dict[str, list[dict[str, Any]]] = {"file": [], "memory": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "windows.h5")
        what = ["--exclude", "MIXED", "--files", "imu_*.csv.gz", "--time-column", "time"]
        cut = ["--sample-rate-hz", "125", "--window-s", "0.8"]
        cut += ["--hop-s", "0.04" if options.quick else "0.008", "--output", path]
        command = [sys.executable, "-m", "sensorseq", "prepare", options.folder, *what, *cut]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for _ in range(n_turns):
            for where, limit in (("file", 1), ("memory", 100)):
                runs_by_place[where].append(
                    fit(path, n_epochs, limit * (64 if options.quick else 256))
                )
                print(where, runs_by_place[where][-1], flush=True)
    rows = [{"windows": where, **summarize(runs)} for where, runs in runs_by_place.items()]
    ratios = [a["took_s"] / b["took_s"] for a, b in zip(*runs_by_place.values(), strict=True)]
    print(
        f"file / memory: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    write_results("large", rows, code=code, partial=options.quick, n_epochs=n_epochs, ratios=ratios)


def fit(path: Path, n_epochs: int, limit_mb: int) -> dict[str, Any]:
    """Fit in another process, with a limit on the size of the windows in memory."""
    environment = {**os.environ, "SENSORSEQ_BUFFER_BYTES": str(limit_mb * 1024**2)}
    command = [sys.executable, "-c", FIT, path, str(n_epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median time and memory over the runs, and the accuracy of each run."""
    names = ("took_s", "peak_mb", "imported_mb")
    medians = {name: statistics.median(run[name] for run in runs) for name in names}
    return {**medians, "accuracy": [run["accuracy"] for run in runs]}


if __name__ == "__main__":
    main()
