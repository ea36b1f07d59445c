"""Writes tables in every format that can be read; the suffix of a path selects the format."""

import gzip

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sensorseq.readers import read_csv, read_hdf5, read_parquet

READERS = {".csv": read_csv, ".parquet": read_parquet, ".h5": read_hdf5}


def write_csv(path, columns):
    """Write a mapping of columns; None becomes an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
    lines = (",".join("" if field is None else str(field) for field in row) for row in rows)
    data = ("\n".join([",".join(columns), *lines]) + "\n").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_table(path, columns):
    """Write a mapping of columns; None becomes a missing string."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                has_gaps = isinstance(values, list) and None in values
                file[name] = (
                    ["" if value is None else value for value in values] if has_gaps else values
                )
    elif path.suffix == ".npz":
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        np.savez(path, **arrays)
    else:
        write_csv(path, columns)
    return path
