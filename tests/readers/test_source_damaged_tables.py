"""A file that is missing, damaged or without a usable clock raises an error that names it."""

import re

import numpy as np
import pyarrow as pa
import pytest
from tables import READERS, write_table

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions

WORDS = {
    ".gz": "not a complete gzip|the file is empty",
    ".parquet": "not a complete Parquet|the file is empty",
    ".h5": "is truncated|is damaged|the file is empty|is not an",
}


@pytest.mark.parametrize("kept", [0, 4, 5, 20, 100, 600, 3000, -9, -1])
@pytest.mark.parametrize("name", ["log.csv.gz", "cut.parquet", "cut.h5"])
def test_a_file_truncated_anywhere_is_an_error_that_names_it(tmp_path, name, kept):
    path = write_table(tmp_path / name, {"time": np.arange(1000.0), "a": np.arange(1000.0) ** 2})
    path.write_bytes(path.read_bytes()[:kept])
    read = READERS[path.with_suffix("").suffix or path.suffix]
    with pytest.raises(RecordingError, match=f"{name}: ({WORDS[path.suffix]})"):
        read(path, ReadOptions(time_column="time"))


@pytest.mark.parametrize("suffix", READERS)
def test_a_missing_file_is_an_error_that_names_it(tmp_path, suffix):
    with pytest.raises(RecordingError, match=rf"nowhere\{suffix}.*(No such file|cannot be read)"):
        READERS[suffix](tmp_path / f"nowhere{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".parquet"])
def test_another_kind_of_file_is_an_error_that_names_it(tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("time,a\n0,1\n")
    with pytest.raises(RecordingError, match=rf"text\{suffix}: (is not an HDF5|not a complete)"):
        READERS[suffix](path)


A = np.arange(3.0)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"time": [0.0, 1.0, 1.0], "a": A}, r", row 3: time repeats .* 1 s from .* Keep one row"),
        ({"time": [0.0, 2.0, 1.0], "a": A}, r", row 3: time goes back 1 s .* 2 s from .* Sort"),
        ({"time": [0.0, np.inf, 2.0], "a": A}, ", row 2: inf in time column 'time'"),
        ({"time": pa.array([0.0, None, 2.0]), "a": A}, ", row 2: no timestamp .*'time'; fill it"),
        ({"time": ["0", "noon", "2"], "a": A}, ", row 2, column 'time': 'noon'"),
        ({"time": ["noon", "one", "two"], "a": A}, ": column 'time' has no numbers; timestamps"),
        ({"ticks": A, "a": A}, ": .* Give the time column with time_column"),
        ({"time": A, "a": ["x", "y", "z"]}, ": no column of numbers besides 'time'"),
        ({"time": A}, ": no column of numbers besides 'time'"),
        ({"time": np.empty(0), "a": np.empty(0)}, ": .* no sample"),
        ({"time": A, "a": [1.0, np.inf, 2.0]}, ", row 2, column 'a': inf"),
        ({"time": A, "a": ["1.5", "oops", "2"]}, ", row 2, column 'a': 'oops'"),
    ],
)
def test_every_reader_names_the_file_the_row_and_the_value(tmp_path, suffix, columns, said):
    path = write_table(tmp_path / f"schräge Fahrt{suffix}", columns)
    with pytest.raises(RecordingError, match=f"{re.escape(str(path))}{said}"):
        READERS[suffix](path)
