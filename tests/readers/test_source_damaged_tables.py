"""A file that is missing, truncated or of a different kind raises an error that names it."""

import numpy as np
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
