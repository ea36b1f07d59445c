"""The supported file formats, by suffix."""

from collections.abc import Mapping
from pathlib import Path

from sensorseq.errors import RecordingError

BAG_SUFFIXES = (".bag", ".mcap", ".db3")
MDF_SUFFIXES = (".mf4", ".mdf")
STORED_LOG_SUFFIXES = (".ulg", *MDF_SUFFIXES)
"""Suffixes of the logs that are read as arrays, not message by message."""
LOG_SUFFIXES = (*BAG_SUFFIXES, *STORED_LOG_SUFFIXES)
TEXT_SUFFIXES = (".txt", ".tsv", ".dat", ".log")
"""Suffixes of text files, some of which are tables and are then read like CSV files."""
CSV_SUFFIXES = (".csv", ".csv.gz", *TEXT_SUFFIXES)
TABLE_SUFFIXES = (*CSV_SUFFIXES, ".parquet")
HDF5_SUFFIXES = (".h5", ".hdf5")
ACQUISITION_SUFFIXES = (".json", ".cbor")
ARRAY_SUFFIXES = (".npz", ".npy", ".mat", *ACQUISITION_SUFFIXES)
TABLES: Mapping[str, str] = {
    **dict.fromkeys(CSV_SUFFIXES, "csv.CsvTable"),
    ".parquet": "parquet.open_parquet",
    **dict.fromkeys(HDF5_SUFFIXES, "hdf5.open_hdf5"),
    **dict.fromkeys(ARRAY_SUFFIXES, "arrays.ArraysTable"),
}
"""The class or function of a file in this folder that opens a table."""
SUFFIXES = (*TABLES, *LOG_SUFFIXES)


def stem_of(path: Path) -> str:
    """Return a file's name without the suffixes of a known format."""
    suffix = suffix_of(path) or ""
    return path.name[: -len(suffix)] if 0 < len(suffix) < len(path.name) else path.stem


def suffix_of(path: Path) -> str | None:
    """Return the known suffix at the end of a file's name, or None."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), None)


def known_suffix_of(path: Path) -> str:
    """Return the known suffix at the end of a file's name; raise an error if there is none."""
    suffix = suffix_of(path)
    if suffix is None:
        raise RecordingError(
            f"{path}: files of this kind cannot be read; known suffixes: {', '.join(SUFFIXES)}."
        )
    return suffix
