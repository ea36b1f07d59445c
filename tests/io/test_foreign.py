"""HDF5 files of other programs are read, or named in an error; prepared files need checksums."""

import h5py
import numpy as np
import pytest

from sensorseq.errors import PreparedFileError, RecordingError
from sensorseq.io.prepared import read_windows
from sensorseq.options import ReadOptions
from sensorseq.readers import read_hdf5


def test_the_samples_are_the_ones_that_were_written(tmp_path):
    n, rng = 60_000, np.random.default_rng(0)
    current, voltage = rng.normal(size=n), rng.normal(size=n).astype(">f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["time_s"] = np.arange(n) / 10
        file.create_dataset("current", data=current, chunks=(64,), compression="gzip")
        file["current"].attrs["unit"] = "A"
        file["voltage"] = voltage
        file["surface"] = ["ice"] * (n // 2) + ["sand"] * (n // 2)
    recording = read_hdf5(tmp_path / "a.h5", ReadOptions(label_column="surface"))
    np.testing.assert_array_equal(recording.values, np.column_stack([current, voltage]))
    assert [one.unit for one in recording.channels] == ["A", ""]
    assert [span.label for span in recording.label_spans] == ["ice", "sand"]


def test_errors_of_h5py_about_damaged_content_name_the_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["time_s"], file["current"] = np.arange(9.0), np.arange(9.0)
        file["state"] = np.array([b"\xff\xfe"] * 9)
    with pytest.raises(RecordingError, match=r"a\.h5: is truncated or damaged \('utf-8'"):
        read_hdf5(tmp_path / "a.h5", ReadOptions(label_column="state"))


def test_a_prepared_file_without_checksums_is_refused_before_hdf5_opens_it(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = np.zeros(9)
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(PreparedFileError, match="has no checksums"):
        read_windows(tmp_path / "a.h5")
