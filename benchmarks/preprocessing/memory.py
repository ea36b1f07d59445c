"""Measures the peak memory of `sensorseq prepare` in fresh processes (the kernel's ru_maxrss).

    python benchmarks/preprocessing/memory.py --gigabytes 1 --recordings 10000

The rows are one long recording in CSV, Parquet and HDF5, in two sizes each, and many small
recordings. The scratch files and the result need about three times the disk space of the longest
recording. Generating this recording needs memory of several times its size, but in a different
process, which is not measured. The run fails if a worker needs more than `LIMIT_MB`.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LIMIT_MB = 400


def main() -> int:
    """Print a JSON row for each case; fail if a case needs too much memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the longest recording")
    parser.add_argument("--recordings", type=int, default=10_000, help="of 30 s at 100 Hz")
    parser.add_argument("--folder", type=Path, help="for the recordings; a temporary one if absent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = list(measure(Path(folder), options.gigabytes, options.recordings))
    return int(any(row["peak_mb"] > LIMIT_MB for row in rows))


def measure(folder: Path, gigabytes: float, n_recordings: int) -> Iterator[dict[str, Any]]:
    """Yield the row of each case."""
    for kind in ("csv", "parquet", "h5"):
        for size in (gigabytes / 4, gigabytes):
            source = folder / f"one.{kind}"
            _elsewhere(_write, source, size)
            yield _run(source, folder, {"case": f"one {kind}", "bytes": source.stat().st_size})
            source.unlink()
    for count in (n_recordings // 10, n_recordings):
        _elsewhere(_write_small, folder / "small", count)
        yield _run(folder / "small", folder, {"case": "small recordings", "recordings": count})


def _elsewhere(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process; a fork would inherit the peak memory of this process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


def _run(source: Path, folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    row |= _elsewhere(_prepare, source, folder / "out.h5")
    (folder / "out.h5").unlink()
    print(json.dumps(row), flush=True)
    return row


def _prepare(source: Path, output: Path) -> dict[str, Any]:
    from sensorseq.prepare import prepare

    imported_mb, start = _peak_mb(), time.perf_counter()
    summary = prepare(source, output, window_s=2.0, sample_rate_hz=100.0, split="none")
    seconds = round(time.perf_counter() - start, 1)
    return {
        "windows": summary.n_windows,
        "seconds": seconds,
        "imported_mb": imported_mb,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def _write(path: Path, gigabytes: float) -> None:
    from bench_prepare import make_table, write_table  # which load torch

    n_rows = 1e9 * gigabytes / (45 if path.suffix == ".csv" else 40)
    write_table(make_table(0, 1000.0, n_rows / 1000), path)


def _write_small(folder: Path, count: int) -> None:
    from bench_prepare import make_table, write_table

    table = make_table(0, 100.0, 30.0)
    for at in range(count):
        write_table(table, folder / "AB"[at % 2] / f"{at}.csv")


if __name__ == "__main__":
    sys.exit(main())
