import h5py
import numpy as np
import pytest
from tables import write_table

from sensorseq.cli import run
from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
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


@pytest.mark.parametrize("inside", ["imu", "log/imu"])
def test_a_table_of_fields_is_read_like_datasets(tmp_path, inside):
    kinds = [
        ("time", "f8"),
        ("ax", "f4"),
        ("gyro", "f4", 2),
        ("note", "S3"),
        ("motor", [("i", "i2")]),
    ]
    table = np.zeros(40, kinds)
    table["time"], table["ax"] = np.arange(40) / 20, np.arange(40) % 7
    table["gyro"], table["motor"]["i"] = np.arange(80).reshape(40, 2) % 5, np.arange(40) % 3
    recording = read_hdf5(write(tmp_path, lambda file: file.create_dataset(inside, data=table)))
    np.testing.assert_array_equal(recording.timestamps_s, table["time"])
    assert recording.channel_names == ("ax", "gyro[0]", "gyro[1]", "motor/i")
    columns = [table["ax"], *table["gyro"].T, table["motor"]["i"]]
    np.testing.assert_array_equal(recording.values.T, columns)
    assert recording.attributes["dropped_columns"] == ["note"]


def test_a_stored_rate_replaces_time_stamps(tmp_path):
    def fill(file):
        file["a"] = np.arange(5.0)
        file.attrs["sample_rate_hz"] = 20

    stamps = read_hdf5(write(tmp_path, fill)).timestamps_s
    np.testing.assert_allclose(stamps, [0, 0.05, 0.1, 0.15, 0.2], rtol=1e-15)


def test_names_that_do_not_match_the_columns_are_an_error(tmp_path):
    def fill(file):
        file["data"] = np.ones((3, 2))
        file["data"].attrs["columns"] = ["time"]

    with pytest.raises(RecordingError, match=r"drive\.h5: .*2 columns, but .*'columns' lists 1"):
        read_hdf5(write(tmp_path, fill))


THREE = np.arange(3.0)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"time": THREE, "a": THREE, "b": np.arange(4.0)}, "3 samples, but 'b' has 4; .* `pair`"),
        ({"data": np.ones((3, 2))}, r"columns: data\[0\], data\[1\]\). Give the time column"),
        ({"left/a": THREE, "right/a": THREE}, "no dataset; it contains left, right. Store one"),
        ({"time": THREE, "a": np.ones((3, 2, 2))}, "has 3 dimensions"),
    ],
)
def test_a_different_layout_is_an_error_that_names_the_file(tmp_path, columns, said):
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

    recording = read_hdf5(write(tmp_path, fill), ReadOptions(sample_rate_hz=100))
    assert recording.channel_names == ("gyro[0]", "gyro[1]", "gyro[2]", "one")
    np.testing.assert_array_equal(recording.values, np.column_stack([GYRO, A]))
    np.testing.assert_allclose(recording.timestamps_s, T, rtol=1e-15)


def test_of_two_clocks_that_of_the_channels_is_read(tmp_path):
    def fill(file):
        file["imu/time"], file["imu/a"] = T, A
        file["motor/time"], file["motor/current"] = T[::3], B[::3]
        file["calibration/matrix"] = np.eye(3)

    path = write(tmp_path, fill)
    with pytest.raises(RecordingError, match=r"imu/time of 300 .*motor/time of 100 .*`channels`"):
        read_hdf5(path)
    assert read_hdf5(
        path, ReadOptions(channels=["motor/current"])
    ).median_sample_rate_hz == pytest.approx(100 / 3)
    np.testing.assert_array_equal(read_hdf5(path, ReadOptions(channels=["imu/a"])).values[:, 0], A)
    with pytest.raises(RecordingError, match=r"imu/time of 300 .*motor/time of 100"):
        read_hdf5(path, ReadOptions(channels=["imu/a", "motor/current"]))
    with pytest.raises(RecordingError, match=r"no column 'imu/b'.*'imu/a'"):
        read_hdf5(path, ReadOptions(channels=["imu/b"], time_column="imu/time"))
    (one,) = read_recordings(path, channels=["motor/current"])
    assert one.n_samples == 100


def test_datasets_without_a_number_for_each_sample_are_named(tmp_path, capsys):
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
    assert "'slow/b', 'slow/time' of 1 recording, because not every sample has a number" in said
    np.testing.assert_array_equal(
        read_hdf5(path, ReadOptions(channels=["slow/b"])).timestamps_s, T[::3]
    )


def test_rates_stored_with_groups_must_agree(tmp_path):
    def fill(file):
        for name, rate_hz in (("imu", 100.0), ("motor", 50.0)):
            file[f"{name}/{name[0]}"] = A
            file[name].attrs["sample_rate_hz"] = rate_hz

    path = write(tmp_path, fill)
    with pytest.raises(RecordingError, match=r"'sample_rate_hz' differ \(50 and 100\)"):
        read_hdf5(path)
    assert read_hdf5(
        path, ReadOptions(channels=["motor/m"])
    ).median_sample_rate_hz == pytest.approx(50)


@pytest.mark.parametrize("given", [{}, {"sample_rate_hz": 50.0}])
def test_groups_with_the_same_contents_are_not_read_as_one_recording(tmp_path, given):
    def fill(file):
        for name in ("demo_0", "demo_1"):
            file[f"data/{name}/action"], file[f"data/{name}/obs/q"] = A, GYRO

    path = write(tmp_path, fill)
    named = r"no dataset; it contains demo_0, demo_1\. Store one .* channels='demo_0/action'"
    with pytest.raises(RecordingError, match=named):
        read_hdf5(path, ReadOptions(**given))
    channels = ["demo_0/action", "demo_0/obs/q[1]"]
    one = read_hdf5(path, ReadOptions(sample_rate_hz=50, channels=channels))
    np.testing.assert_array_equal(one.values, np.column_stack([A, GYRO[:, 1]]))


def test_arrays_of_windows_are_recognized(tmp_path):
    def fill(file):
        file["X"], file["y"] = np.zeros((20, 50, 3)), np.arange(20) % 2

    with pytest.raises(RecordingError, match=r"'X' has shape \(20, 50, 3\) .* call fit\(X, y\)"):
        read_hdf5(write(tmp_path, fill))


def test_groups_that_contain_each_other_are_read_once(tmp_path):
    def fill(file):
        file["time"], file["imu/a"] = T, A
        file["imu/again"] = file["/"]

    assert read_hdf5(write(tmp_path, fill)).channel_names == ("imu/a",)


PACKED = np.array([-500, 0, 500, -32768, 1500], np.int16)


def packed(dataset=PACKED, time=None, **attributes):
    """Return a function that writes a packed channel; `time` contains attributes of the time."""

    def fill(file):
        file["time"] = np.arange(len(dataset)) / 50
        file["time"].attrs.update(time or {})
        file["temp"] = dataset
        file["temp"].attrs.update(attributes)

    return fill


@pytest.mark.parametrize(
    ("attributes", "values"),
    [
        (
            {"scale_factor": 0.002, "add_offset": 25.0, "_FillValue": np.int16(-32768)},
            [24, 25, 26, np.nan, 28],
        ),
        ({"scale_factor": np.array([0.002]), "missing_value": -32768}, [-1, 0, 1, np.nan, 3]),
        ({"add_offset": 1}, [-499, 1, 501, -32767, 1501]),
        (
            {"_FillValue": np.int16(0), "missing_value": np.int16([1500, 7])},
            [-500, np.nan, 500, -32768, np.nan],
        ),
        ({"_FillValue": 99999, "missing_value": "none"}, PACKED),
        ({"scale_factor": "0.5", "_FillValue": "500"}, [-250, 0, np.nan, -16384, 750]),
    ],
)
@pytest.mark.parametrize("shape", [(5,), (5, 2)])
def test_packed_numbers_are_unpacked(tmp_path, attributes, values, shape):
    dataset = PACKED if len(shape) == 1 else np.column_stack([PACKED, PACKED])
    recording = read_hdf5(write(tmp_path, packed(dataset, **attributes)))
    for column in recording.values.T:
        np.testing.assert_allclose(column, values, rtol=1e-14)
    assert recording.n_channels == (1 if len(shape) == 1 else 2)


def test_packed_numbers_are_unpacked_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 0)
    fill = packed(scale_factor=0.002, add_offset=25.0, _FillValue=np.int16(-32768))
    recording = read_hdf5(write(tmp_path, fill), ReadOptions(scratch=tmp_path))
    np.testing.assert_allclose(recording.values[:, 0], [24, 25, 26, np.nan, 28])


def test_a_fill_value_has_the_precision_of_the_samples(tmp_path):
    values = np.array([1, 9.96921e36, 3], np.float32)
    recording = read_hdf5(write(tmp_path, packed(values, _FillValue=9.96921e36)))
    np.testing.assert_array_equal(recording.values[:, 0], [1, np.nan, 3])


@pytest.mark.parametrize(
    "attributes",
    [{"scale_factor": 0.0}, {"scale_factor": [1.0, 2.0]}, {"add_offset": "25 degC"}],
)
def test_an_invalid_packing_is_named(tmp_path, attributes):
    (name,) = attributes
    with pytest.raises(RecordingError, match=rf"'{name}' of dataset 'temp' is .* Correct"):
        read_hdf5(write(tmp_path, packed(**attributes)))


@pytest.mark.parametrize(
    ("attributes", "unit"),
    [
        ({"units": "degC"}, "degC"),
        ({"units": np.bytes_("m s-2")}, "m s-2"),
        ({"unit": "A", "units": "mA"}, "A"),
        ({"units": h5py.Empty("S1")}, ""),
    ],
)
def test_the_attribute_units_is_read_like_unit(tmp_path, attributes, unit):
    assert read_hdf5(write(tmp_path, packed(**attributes))).channels[0].unit == unit


def timed(time, **attributes):
    def fill(file):
        file["time"] = time
        file["time"].attrs.update(attributes)
        file["acc"] = np.sin(np.arange(len(time)))

    return fill


TICKS = np.arange(100)


@pytest.mark.parametrize(
    ("time", "attributes", "rate_hz"),
    [
        (TICKS * 20.0 + 0.25, {"units": "ms"}, 50),
        (TICKS * 5, {"units": "milliseconds since 2026-03-01 12:00:00"}, 200),
        (TICKS / 50 + 1.7e9, {"units": "seconds since 1970-01-01"}, 50),
        (TICKS * 20_000_000 + 1_772_366_400_000_000_000, {"units": "nanoseconds since 1970"}, 50),
        (TICKS * 20, {"unit": "us"}, 50_000),
        ((TICKS * 20).astype("i4"), {"units": "s", "scale_factor": 0.001, "_FillValue": -1}, 50),
        # Strings that are not units are ignored.
        (TICKS / 50, {"units": "1"}, 50),
        (TICKS / 50, {"units": "UTC"}, 50),
        (TICKS / 50, {"units": "none"}, 50),
        (TICKS / 50, {"units": "iso8601"}, 50),
        (TICKS / 50, {"units": ""}, 50),
        (TICKS * 20_000_000 + 1_772_366_400_000_000_000, {"_FillValue": -1}, 50),
    ],
)
def test_the_stored_unit_of_the_time_is_used(tmp_path, time, attributes, rate_hz):
    recording = read_hdf5(write(tmp_path, timed(time, **attributes)))
    assert recording.median_sample_rate_hz == pytest.approx(rate_hz, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "step", "units", "said"),
    [
        ("time", 0.02 / 86400, "days since 2026-01-01", "stored unit .* 'days since 2026-01-01'"),
        ("time", 0.02, "10 ms", "stored unit .* '10 ms'"),
        ("time_ms", 20, "s", "unit 'ms' in its name, but 's' is stored .* time_unit='ms'"),
        ("time", 20_000_000, "s", "the unit stored with it.* time_unit='ns'"),
    ],
)
def test_an_implausible_stored_unit_is_refused(tmp_path, name, step, units, said):
    def fill(file):
        timed(TICKS * step, units=units)(file)
        file.move("time", name + "_")
        file.move(name + "_", name)

    path = write(tmp_path, fill)
    with pytest.raises(RecordingError, match=said):
        read_hdf5(path)
    assert read_hdf5(path, ReadOptions(time_unit="ms")).n_samples == 100


def test_a_missing_time_is_not_a_time(tmp_path):
    time = TICKS * 20
    time[7] = -1
    with pytest.raises(RecordingError, match="row 8"):
        read_hdf5(write(tmp_path, timed(time, units="ms", _FillValue=-1)))


def test_packed_labels_are_unpacked(tmp_path):
    def fill(file):
        packed()(file)
        file["state"] = np.array([2, 2, 4, 4, -1], np.int8)
        file["state"].attrs.update({"scale_factor": 0.5, "_FillValue": np.int8(-1)})

    spans = read_hdf5(write(tmp_path, fill), ReadOptions(label_column="state")).label_spans
    assert [span.label for span in spans] == ["1", "2"]
