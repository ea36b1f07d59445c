import h5py
import numpy as np
import pytest
from tables import write_table

from sensorseq.errors import RecordingError
from sensorseq.readers import read_hdf5


def write(folder, fill, name="drive.h5"):
    path = folder / name
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def test_one_dataset_for_each_channel_gives_known_channels_rate_and_units(tmp_path):
    t = np.arange(300) / 100

    def fill(file):
        file["time"] = t
        file["current"] = np.sin(t)
        file["current"].attrs["unit"] = "A"
        file["steps"] = np.arange(300, dtype=np.int32)
        file["note"] = [b"x"] * 300
        file["serial"] = 17

    recording = read_hdf5(write(tmp_path, fill), label="ice")
    assert recording.median_sample_rate_hz == pytest.approx(100, rel=1e-9)
    assert [(c.name, c.unit) for c in recording.channels] == [("current", "A"), ("steps", "")]
    np.testing.assert_array_equal(recording.values, np.column_stack([np.sin(t), np.arange(300)]))
    assert recording.attributes == {"dropped_columns": ["note"]}
    assert (recording.recording_id, recording.label) == ("drive", "ice")


@pytest.mark.parametrize("inside", ["", "run/"])
def test_a_table_with_named_columns_is_the_same(tmp_path, inside):
    table = np.arange(12.0).reshape(4, 3)

    def fill(file):
        file[inside + "data"] = table
        file[inside + "data"].attrs["columns"] = ["a", "time_s", "b"]

    recording = read_hdf5(write(tmp_path, fill, "drive.hdf5"))
    assert recording.channel_names == ("a", "b")
    np.testing.assert_array_equal(recording.values, table[:, [0, 2]])
    np.testing.assert_array_equal(recording.timestamps_s, table[:, 1])
    assert recording.recording_id == "drive"


def test_a_stored_rate_stands_for_stamps(tmp_path):
    def fill(file):
        file["a"] = np.arange(5.0)
        file.attrs["sample_rate_hz"] = 20

    stamps = read_hdf5(write(tmp_path, fill)).timestamps_s
    np.testing.assert_allclose(stamps, [0, 0.05, 0.1, 0.15, 0.2], rtol=1e-15)


def test_names_that_are_not_those_of_the_columns_are_an_error(tmp_path):
    def fill(file):
        file["data"] = np.ones((3, 2))
        file["data"].attrs["columns"] = ["time"]

    with pytest.raises(RecordingError, match=r"drive\.h5: .*2 columns, but .*'columns' lists 1"):
        read_hdf5(write(tmp_path, fill))


THREE = np.arange(3.0)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"time": THREE, "a": THREE, "b": np.arange(4.0)}, "3 samples and 'b' 4; .* `pair`"),
        ({"data": np.ones((3, 2))}, "no attribute 'columns'"),
        ({"left/a": THREE, "right/a": THREE}, "holds left, right. Store one recording per file"),
        ({"time": [0.0, 2.0, 1.0], "a": THREE}, "row 3: time goes back"),
        ({"time": THREE, "a": np.ones((3, 2, 2))}, "has 3 dimensions"),
        ({"a": THREE}, "Give the time column with time_column"),
        ({"time": [b"noon", b"one", b"two"], "a": THREE}, "'time' holds no numbers"),
        ({"time": np.empty(0), "a": np.empty(0)}, "no sample"),
    ],
)
def test_another_layout_is_an_error_that_names_the_file(tmp_path, columns, said):
    path = write_table(tmp_path / "schräge Fahrt.h5", columns)
    with pytest.raises(RecordingError, match=said) as caught:
        read_hdf5(path)
    assert str(path) in str(caught.value)
