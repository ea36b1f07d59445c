import h5py
import numpy as np
import pytest
from tables import write_table

from sensorseq.cli import run
from sensorseq.errors import RecordingError
from sensorseq.readers import read_hdf5, read_recordings


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
        ({"data": np.ones((3, 2))}, r"columns: data\[0\], data\[1\]\). Give the time column"),
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


T = np.arange(300) / 100
RNG = np.random.default_rng(0)
A, B, GYRO = RNG.normal(size=300), RNG.normal(size=300), RNG.normal(size=(300, 3))


@pytest.mark.parametrize("inside", ["", "run/", "davis/left/"])
def test_datasets_in_groups_are_channels_by_path(tmp_path, inside):
    def fill(file):
        for name, values in {"time": T, "a": A, "imu/b": B, "imu/deep/gyro": GYRO}.items():
            file[inside + name] = values

    recording = read_hdf5(write(tmp_path, fill))
    names = ("a", "imu/b", *(f"imu/deep/gyro[{at}]" for at in range(3)))
    assert recording.channel_names == names
    np.testing.assert_array_equal(recording.values, np.column_stack([A, B, GYRO]))
    np.testing.assert_array_equal(recording.timestamps_s, T)


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("time", ["time", None])
def test_columns_without_names_are_numbered_whatever_the_axes(tmp_path, along, time):
    def fill(file):
        file["gyro"] = GYRO if along == 0 else GYRO.T
        file["one"] = A.reshape(-1, 1)
        if time:
            file[time] = T

    recording = read_hdf5(write(tmp_path, fill), sample_rate_hz=100)
    assert recording.channel_names == ("gyro[0]", "gyro[1]", "gyro[2]", "one")
    np.testing.assert_array_equal(recording.values, np.column_stack([GYRO, A]))
    np.testing.assert_allclose(recording.timestamps_s, T, rtol=1e-15)


def test_of_two_clocks_the_one_of_the_channels_is_read(tmp_path):
    def fill(file):
        file["imu/time"], file["imu/a"] = T, A
        file["motor/time"], file["motor/current"] = T[::3], B[::3]
        file["calibration/matrix"] = np.eye(3)

    path = write(tmp_path, fill)
    with pytest.raises(RecordingError, match=r"imu/time of 300 .*motor/time of 100 .*`channels`"):
        read_hdf5(path)
    assert read_hdf5(path, channels=["motor/current"]).median_sample_rate_hz == pytest.approx(
        100 / 3
    )
    np.testing.assert_array_equal(read_hdf5(path, channels=["imu/a"]).values[:, 0], A)
    with pytest.raises(RecordingError, match=r"imu/time of 300 .*motor/time of 100"):
        read_hdf5(path, channels=["imu/a", "motor/current"])
    with pytest.raises(RecordingError, match=r"no column 'imu/b'.*'imu/a'"):
        read_hdf5(path, channels=["imu/b"], time_column="imu/time")
    (one,) = read_recordings(path, channels=["motor/current"])
    assert one.n_samples == 100


def test_what_has_no_number_for_each_sample_is_named(tmp_path, capsys):
    def fill(file):
        file["time"], file["a"] = T, A
        file["slow/b"], file["slow/time"] = B[::3], T[::3]
        file["calibration/matrix"] = np.eye(3)
        file["images"] = np.zeros((300, 2, 2, 3), np.uint8)
        file["settings/mass"] = [12.5]

    path = write(tmp_path, fill)
    recording = read_hdf5(path)
    assert recording.channel_names == ("a",)
    left_out = ["images", *(f"calibration/matrix[{at}]" for at in range(3)), "slow/b", "slow/time"]
    assert sorted(recording.attributes["dropped_columns"]) == sorted(left_out)
    assert run(["inspect", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out columns 'images', " in said
    assert "'slow/b', 'slow/time' of 1 recording(s): no number for each sample" in said
    np.testing.assert_array_equal(read_hdf5(path, channels=["slow/b"]).timestamps_s, T[::3])


def test_rates_stored_with_groups_must_agree(tmp_path):
    def fill(file):
        for name, rate_hz in (("imu", 100.0), ("motor", 50.0)):
            file[f"{name}/{name[0]}"] = A
            file[name].attrs["sample_rate_hz"] = rate_hz

    path = write(tmp_path, fill)
    with pytest.raises(RecordingError, match=r"'sample_rate_hz' differ \(50 and 100\)"):
        read_hdf5(path)
    assert read_hdf5(path, channels=["motor/m"]).median_sample_rate_hz == pytest.approx(50)


@pytest.mark.parametrize("given", [{}, {"sample_rate_hz": 50.0}])
def test_groups_with_equal_contents_are_not_taken_for_one_recording(tmp_path, given):
    def fill(file):
        for name in ("demo_0", "demo_1"):
            file[f"data/{name}/action"], file[f"data/{name}/obs/q"] = A, GYRO

    path = write(tmp_path, fill)
    named = r"it holds demo_0, demo_1\. Store one recording per .* channels='demo_0/action'"
    with pytest.raises(RecordingError, match=named):
        read_hdf5(path, **given)
    channels = ["demo_0/action", "demo_0/obs/q[1]"]
    one = read_hdf5(path, sample_rate_hz=50, channels=channels)
    np.testing.assert_array_equal(one.values, np.column_stack([A, GYRO[:, 1]]))


def test_windows_already_cut_are_named_as_such(tmp_path):
    def fill(file):
        file["X"], file["y"] = np.zeros((20, 50, 3)), np.arange(20) % 2

    with pytest.raises(RecordingError, match=r"'X' has shape \(20, 50, 3\) .* call fit\(X, y\)"):
        read_hdf5(write(tmp_path, fill))


def test_groups_that_hold_each_other_are_read_once(tmp_path):
    def fill(file):
        file["time"], file["imu/a"] = T, A
        file["imu/again"] = file["/"]

    assert read_hdf5(write(tmp_path, fill)).channel_names == ("imu/a",)
