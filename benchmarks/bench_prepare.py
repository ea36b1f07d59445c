"""Compares the cost of `prepare` with the cost of only reading the same files, on one core.

This script generates the recordings: four channels of noise and random walks at 1000 Hz, which are
resampled to 100 Hz and cut into windows of 2 s. The processor time of both sides is measured
alternately in one process, so other programs on the machine have little influence on the result.
The rows compare:

- CSV: the other side is `pyarrow.csv.read_csv` without threads.
- CSV, rate unknown: the same files, but `prepare` gets no sample rate and first estimates it from
  all timestamps; windows stay at 1000 Hz and contain ten times as many samples.
- Parquet, HDF5, gzipped HDF5: the other side reads all columns with pyarrow or h5py. `prepare` also
  computes the SHA-256 of every file to record the source of the windows, which takes twice as long
  as reading uncompressed HDF5.
- small recordings: 30 s at 100 Hz in CSV; `per_second` is the number of recordings per second on
  one core.
- two processes: the command with one process and with two, on the small recordings and on the long
  CSV recordings, in wall-clock time.
- command: the whole command, with its start, on the same recordings; the other side is a Python
  process that only reads them.
- start: the other side imports pyarrow and h5py; our side is `sensorseq prepare` on one small
  recording.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from common.print_rows import print_rows
from common.results_file import begin, write_results
from common.timing import alternate, environment, repeated, summarize

from sensorseq.prepare import prepare

OPTIONS = {"window_s": 2.0, "sample_rate_hz": 100.0}


def make_table(seed, rate_hz, duration_s):
    """Return a recording as an Arrow table: a time column and four channels."""
    rng = np.random.default_rng(seed)
    n = int(duration_s * rate_hz)
    noise = rng.normal(size=(4, n))
    values = np.round(noise + 0.01 * np.cumsum(noise, axis=1), 6)
    return pa.table({"time": np.arange(n) / rate_hz, **{f"ch{i}": values[i] for i in range(4)}})


def write_table(table, path):
    """Write a table in the format of the file's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        packed = {"compression": "gzip"} if "gzipped" in str(path.parent.parent) else {}
        with h5py.File(path, "w") as file:
            for name in table.column_names:
                file.create_dataset(name, data=table[name].to_numpy(), **packed)


def read_only(paths):
    """Read all columns of all files and discard them."""
    for path in paths:
        if path.suffix == ".csv":
            options = pyarrow.csv.ReadOptions(use_threads=False)
            pyarrow.csv.read_csv(path, read_options=options)
        elif path.suffix == ".parquet":
            pyarrow.parquet.read_table(path, use_threads=False)
        else:
            with h5py.File(path) as file:
                for name in file:
                    file[name][()]


def prepare_anew(folder, output, **options):
    """Prepare a folder of recordings from scratch, even if it was prepared before."""
    output.unlink(missing_ok=True)
    prepare(folder, output, **OPTIONS | options)


def in_turns(theirs, ours, rounds, clock=time.process_time):
    """Return the seconds that each side takes in each round, after one uncounted round."""
    once = {"at_least_s": 0.0, "warm_up_s": 0.0, "warm_up_runs": 1, "budget_s": 1e9}
    return alternate(repeated(theirs), repeated(ours), rounds=rounds, clock=clock, **once)


def file_rows(work, n_files, duration_s, rounds):
    """Yield the rows for long recordings in each format."""
    tables = [make_table(seed, 1000.0, duration_s) for seed in range(n_files)]
    formats = {"CSV": "csv", "Parquet": "parquet", "HDF5": "h5", "gzipped HDF5": "h5"}
    for what, suffix in formats.items():
        folder = work / what
        paths = [folder / "ab"[at % 2] / f"run_{at}.{suffix}" for at in range(n_files)]
        for table, path in zip(tables, paths, strict=True):
            write_table(table, path)
        size = sum(path.stat().st_size for path in paths)
        for options in ({}, {"sample_rate_hz": None}) if what == "CSV" else ({},):
            times = in_turns(
                lambda paths=paths: read_only(paths),
                lambda folder=folder, options=options: prepare_anew(
                    folder, work / "out.h5", **options
                ),
                rounds,
            )
            name = what + (", rate unknown" if options else "")
            against = "h5py" if suffix == "h5" else "pyarrow"
            yield {"what": name, "against": against, "bytes": size} | summarize(*times)


def small_row(work, n_files, rounds):
    """Return the row for many small recordings."""
    folder = work / "small"
    paths = [folder / "abcd"[at % 4] / f"run_{at:05d}.csv" for at in range(n_files)]
    for seed, path in enumerate(paths):
        write_table(make_table(seed, 100.0, 30.0), path)
    times = in_turns(
        lambda: read_only(paths), lambda: prepare_anew(folder, work / "out.h5"), rounds
    )
    size = sum(path.stat().st_size for path in paths)
    row = {"what": f"{n_files} small recordings", "against": "pyarrow", "bytes": size}
    return row | summarize(*times) | {"per_second": n_files / float(np.median(times[1]))}


def run_command(folder, output, *options, rate=("--sample-rate-hz", "100")):
    """Run `sensorseq prepare` in its own process."""
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "sensorseq", "prepare", folder, "-o", output]
    command += ["--window-s", "2", *rate, "--split", "none", *options]
    subprocess.run(command, check=True, capture_output=True)


def processes_row(work, what, rounds):
    """Return the row that compares one process with two, on the recordings of another row."""
    folder, output = work / what, work / "out.h5"
    times = in_turns(
        lambda: run_command(folder, output),
        lambda: run_command(folder, output, "-j", "2"),
        rounds,
        time.perf_counter,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*.csv"))
    name = f"two processes, {what}"
    return {"what": name, "against": "one", "bytes": size} | summarize(*times)


def children_s():
    """Return the processor time of all child processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


READERS = {  # programs that only read the files of a folder
    "csv": (
        "import pyarrow.csv, sys; from pathlib import Path\n"
        "options = pyarrow.csv.ReadOptions(use_threads=False)\n"
        "for path in Path(sys.argv[1]).rglob('*.csv'):\n"
        "    pyarrow.csv.read_csv(path, read_options=options)"
    ),
    "parquet": (
        "import pyarrow.parquet, sys; from pathlib import Path\n"
        "for path in Path(sys.argv[1]).rglob('*.parquet'):\n"
        "    pyarrow.parquet.read_table(path, use_threads=False)"
    ),
}


def command_rows(work, rounds):
    """Yield the rows that compare whole processes, on the recordings of other rows."""
    known = ("--sample-rate-hz", "100")
    for what, rate in (("CSV", known), ("CSV", ()), ("Parquet", known), ("small", known)):
        folder, suffix = work / what, "parquet" if what == "Parquet" else "csv"
        reader = [sys.executable, "-c", READERS[suffix], folder]
        times = in_turns(
            lambda reader=reader: subprocess.run(reader, check=True),
            lambda folder=folder, rate=rate: run_command(folder, work / "out.h5", rate=rate),
            rounds,
            children_s,
        )
        size = sum(path.stat().st_size for path in folder.rglob(f"*.{suffix}"))
        name = f"command, {what}" + ("" if rate else ", rate unknown")
        yield {"what": name, "against": "pyarrow", "bytes": size} | summarize(*times)


def start_row(work, rounds):
    """Return the row for a complete command on one small recording."""
    path = work / "one" / "run.csv"
    write_table(make_table(0, 1000.0, 5.0), path)
    command = [sys.executable, "-c", "import pyarrow.csv, pyarrow.parquet, h5py"]
    times = in_turns(
        lambda: subprocess.run(command, check=True),
        lambda: run_command(path, work / "out.h5"),
        rounds,
        children_s,
    )
    row = {"what": "start", "against": "import", "bytes": path.stat().st_size}
    return row | summarize(*times)


def all_rows(work, options):
    """Yield every row."""
    rounds = options.rounds
    yield from file_rows(work, options.files, options.duration_s, rounds)
    yield small_row(work, options.small, rounds)
    yield processes_row(work, "small", rounds)
    yield processes_row(work, "CSV", rounds)
    yield from command_rows(work, rounds)
    yield start_row(work, max(3, rounds))


def main():
    """Time every row, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--duration-s", type=float, default=240.0, help="of each recording")
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="little data, as a smoke test")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    if options.quick:
        options.files, options.duration_s, options.small, options.rounds = 6, 5.0, 24, 1
    facts = environment() | {
        "pyarrow": pa.__version__,
        "h5py": h5py.__version__,
        "load_average_before": round(os.getloadavg()[0], 2),
    }
    print(facts)
    with tempfile.TemporaryDirectory() as folder:
        rows = print_rows(all_rows(Path(folder), options))
    write_results("prepare", rows, code=code, partial=options.quick, facts=facts)


if __name__ == "__main__":
    main()
