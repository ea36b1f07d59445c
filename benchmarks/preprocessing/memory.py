"""Peak memory of `sensorseq prepare`: fresh processes, whose peak the kernel counts (ru_maxrss).

    python benchmarks/preprocessing/memory.py --gigabytes 1 --recordings 10000

Rows: one long CSV, Parquet or HDF5 recording of two sizes each, many small recordings, and the
robust and quantile statistics of many windows. The scratch files and the result need disk space of
about three times the longest recording. A worker may hold `LIMIT_MB`; more makes the run fail.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

LIMIT_MB = 400
_ROWS = 200_000  # written together
_CHANNELS = "abcd"


def main() -> int:
    """Print a row of JSON for each case; fail if one holds too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the longest recording")
    parser.add_argument("--recordings", type=int, default=10_000, help="of 30 s at 100 Hz")
    parser.add_argument("--folder", type=Path, help="for the recordings; a temporary one if absent")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        rows = list(measure(Path(folder), asked.gigabytes, asked.recordings))
    return int(any(row["peak_mb"] > LIMIT_MB for row in rows))


def measure(folder: Path, gigabytes: float, n_recordings: int) -> Iterator[dict[str, Any]]:
    """Yield what each case took."""
    for kind, write in (("csv", _write_csv), ("parquet", _write_parquet), ("h5", _write_hdf5)):
        for size in (gigabytes / 4, gigabytes):
            source = folder / f"one.{kind}"
            write(source, size)
            yield _run(source, folder, {"case": f"one {kind}", "bytes": source.stat().st_size})
            if kind == "csv" and size == gigabytes:
                for scale in ("robust", "quantile"):
                    case = {"case": f"{scale} of {kind}", "bytes": source.stat().st_size}
                    yield _run(source, folder, case, split=(1.0, 0.0, 0.0), scale=scale, hop_s=0.2)
            source.unlink()
    for count in (n_recordings // 10, n_recordings):
        _write_small(folder / "small", count)
        yield _run(folder / "small", folder, {"case": "small recordings", "recordings": count})


def _run(source: Path, folder: Path, row: dict[str, Any], **options: Any) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        row |= pool.apply(_prepare, (source, folder / "out.h5", {"split": "none"} | options))
    (folder / "out.h5").unlink()
    print(json.dumps(row), flush=True)
    return row


def _prepare(source: Path, output: Path, options: dict[str, Any]) -> dict[str, Any]:
    from sensorseq.prepare import prepare

    imported_mb, start = _peak_mb(), time.perf_counter()
    summary = prepare(source, output, window_s=2.0, sample_rate_hz=100.0, **options)
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


def _tables(n_rows: int) -> Iterator[pa.Table]:
    """Yield stamps of 1000 Hz and four channels of noise."""
    rng = np.random.default_rng(0)
    for at in range(0, n_rows, _ROWS):
        stamps = np.round(np.arange(at, min(at + _ROWS, n_rows)) * 1e-3, 3)
        noise = rng.normal(size=(len(stamps), len(_CHANNELS))).astype(np.float32)
        yield pa.table({"time_s": stamps} | dict(zip(_CHANNELS, noise.T, strict=True)))


def _write_csv(path: Path, gigabytes: float) -> None:
    options = pyarrow.csv.WriteOptions(include_header=False)
    with path.open("wb") as file:
        file.write(",".join(["time_s", *_CHANNELS]).encode() + b"\n")
        for table in _tables(int(gigabytes * 1e9 / 53)):
            pyarrow.csv.write_csv(table, file, options)


def _write_parquet(path: Path, gigabytes: float) -> None:
    tables = _tables(int(gigabytes * 1e9 / 24))
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_hdf5(path: Path, gigabytes: float) -> None:
    n_rows = int(gigabytes * 1e9 / 24)
    with h5py.File(path, "w") as file:
        for name in ("time_s", *_CHANNELS):
            file.create_dataset(
                name, (n_rows,), "f8" if name == "time_s" else "f4", chunks=(_ROWS,)
            )
        for at, table in enumerate(_tables(n_rows)):
            for name in table.column_names:
                file[name][at * _ROWS : at * _ROWS + len(table)] = table[name].to_numpy()


def _write_small(folder: Path, count: int) -> None:
    table = next(_tables(3000)).set_column(
        0, "time_s", pa.array(np.round(np.arange(3000) / 100, 2))
    )
    for at in range(count):
        path = folder / "AB"[at % 2] / f"{at}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            pyarrow.csv.write_csv(table, str(path))


if __name__ == "__main__":
    sys.exit(main())
