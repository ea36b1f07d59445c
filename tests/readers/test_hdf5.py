import h5py
import numpy as np
import pytest

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

    np.testing.assert_allclose(
        read_hdf5(write(tmp_path, fill)).timestamps_s, [0, 0.05, 0.1, 0.15, 0.2], rtol=1e-15
    )


def lengths_differ(file):
    file["time"], file["a"], file["b"] = np.arange(3.0), np.arange(3.0), np.arange(4.0)


def no_names(file):
    file["data"] = np.ones((3, 2))


def wrong_names(file):
    file["data"] = np.ones((3, 2))
    file["data"].attrs["columns"] = ["time"]


def two_groups(file):
    file["left/a"] = file["right/a"] = np.arange(3.0)


def backwards(file):
    file["time"], file["a"] = [0.0, 2.0, 1.0], np.arange(3.0)


def cube(file):
    file["time"], file["a"] = np.arange(3.0), np.ones((3, 2, 2))


def no_time(file):
    file["a"] = np.arange(3.0)


def text_time(file):
    file["time"], file["a"] = [b"noon", b"one", b"two"], np.arange(3.0)


def no_samples(file):
    file["time"] = file["a"] = np.empty(0)


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lengths_differ, "3 samples and 'b' 4; .* `pair`"),
        (no_names, "no attribute 'columns'"),
        (wrong_names, "has 2 columns, but its attribute 'columns' lists 1"),
        (two_groups, "holds left, right. Store one recording per file"),
        (backwards, "row 3: time goes back"),
        (cube, "has 3 dimensions"),
        (no_time, "Give the time column with time_column"),
        (text_time, "'time' holds no numbers"),
        (no_samples, "no sample"),
    ],
)
def test_another_layout_is_an_error_that_names_the_file(tmp_path, fill, said):
    path = write(tmp_path, fill, "schräge Fahrt.h5")
    with pytest.raises(RecordingError, match=said) as caught:
        read_hdf5(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 600, 3000, -1])
def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path, kept):
    def fill(file):
        file["time"] = file["a"] = np.arange(1000.0)

    whole = write(tmp_path, fill).read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(whole[:kept])
    with pytest.raises(
        RecordingError, match=r"cut\.h5: (is truncated|is damaged|the file is empty|is not an)"
    ):
        read_hdf5(path)


def test_a_missing_file_and_another_kind_of_file_are_errors_that_name_it(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere\.h5: cannot be read"):
        read_hdf5(tmp_path / "nowhere.h5")
    (tmp_path / "text.h5").write_text("time,a\n0,1\n")
    with pytest.raises(RecordingError, match=r"text\.h5: is not an HDF5 file"):
        read_hdf5(tmp_path / "text.h5")
